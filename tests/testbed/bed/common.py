# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things lie, the one kind of error, and running other programs.

`testbed exec` loads this module for every command, so it imports little.
"""
import os

SOURCE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PROJECT = os.path.dirname(os.path.dirname(SOURCE))
BUILD = os.path.join(PROJECT, "build")
KERNELS = os.path.join(BUILD, "kernels")
CACHE = os.path.join(BUILD, "testbed-cache")


class Failure(Exception):
    """What went wrong, in one line for the operator."""


def testbed_dir():
    chosen = os.environ.get("TESTBED_DIR") or os.path.join(BUILD, "testbed")
    return os.path.realpath(chosen)


def programs_dir():
    return os.path.realpath(os.environ.get("COLO_BUILD") or BUILD)


def call(*args, **options):
    """Runs a program to its end; returns its output; a Failure if it fails."""
    import subprocess
    try:
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, **options)
    except FileNotFoundError:
        raise Failure(f"{args[0]}: not installed (see tests/testbed/packages.txt)")
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()
        raise Failure(f"{' '.join(args[:4])}: {why[-1] if why else 'failed'}")
    return done.stdout
