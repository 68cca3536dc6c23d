#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which builds have labelled steps: those for tests, each step once; the ones that are installed
have none, and say so."""
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("BUILD", os.environ.get("COLO_BUILD", "build")))
PROGRAMS = ("colo-vm", "colod", "colo-netcompare", "colo-heartbeat")


def listed(name):
    return subprocess.run([os.path.join(BUILD, name), "--list-fault-points"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main():
    failed = 0

    def check(sentence, truth, detail):
        nonlocal failed
        print(("ok - " if truth else "not ok - ") + sentence)
        if not truth:
            failed += 1
            print(f"# {detail}")

    for program in PROGRAMS:
        here = listed(program + "-faults")
        steps = here.stdout.split()
        check(f"{program}-faults has {len(steps)} steps, each once",
              here.returncode == 0 and steps and len(set(steps)) == len(steps), here)
        none = listed(program)
        check(f"{program} has none, and says which build has", none.returncode == 2
              and not none.stdout and f"{program}-faults" in none.stderr, none)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
