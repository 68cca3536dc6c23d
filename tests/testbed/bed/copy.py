# SPDX-License-Identifier: GPL-2.0-or-later
"""push and pull: files and directories, as tar archives through the agent.

As with `cp -a`: if TO is a directory, FROM goes into it; if that is there already, a
directory is merged into it and a file replaces it.
"""
import os
import shutil
import subprocess
import tempfile

from bed import client
from bed.common import Failure

# $1 is TO, $2 the name that FROM has in the archive
UNPACK = r'''
set -e
to=$1
if [ -d "$to" ]; then to=${to%/}/$2; fi
scratch=$(mktemp -d "$(dirname "$to")/.push.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
tar -x -f - -C "$scratch"
if [ -d "$to" ] && [ -d "$scratch/$2" ]; then
	cp -a "$scratch/$2/." "$to"
else
	mv -f "$scratch/$2" "$to"
fi
'''
# $1 is FROM; the name in the archive is its last part
PACK = r'''
if ! [ -e "$1" ] && ! [ -L "$1" ]; then echo "$1: no such file or directory" >&2; exit 1; fi
cd "$(dirname "$1")" && exec tar -c -f - -- "$(basename "$1")"
'''


def reason(errors):
    return errors.splitlines()[-1] if errors else "failed"


def push(host, source, target):
    if not os.path.lexists(source):
        raise Failure(f"push: {source}: no such file or directory")
    folder, name = os.path.split(os.path.abspath(source))
    packer = subprocess.Popen(["tar", "-C", folder, "-c", "-f", "-", "--", name],
                              stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        status, errors = client.run(host, ["sh", "-c", UNPACK, "push", target, name],
                                    stdin=packer.stdout.fileno())
    finally:
        packer.stdout.close()
        packed = packer.wait()
    if status != 0 or packed != 0:
        raise Failure(f"push to {host.name}:{target}: {reason(errors)}")


def pull(host, source, target):
    name = os.path.basename(os.path.normpath(source))
    if os.path.isdir(target):
        target = os.path.join(target, name)
    folder = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(folder):
        raise Failure(f"pull: {folder}: not a directory")
    with tempfile.TemporaryDirectory(prefix=".pull.", dir=folder) as scratch:
        unpacker = subprocess.Popen(["tar", "-x", "-f", "-", "-C", scratch],
                                    stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            status, errors = client.run(
                host, ["sh", "-c", PACK, "pull", os.path.normpath(source)],
                stdout=unpacker.stdin.fileno())
        except BrokenPipeError:
            status, errors = 1, "cannot be unpacked here"
        finally:
            unpacker.stdin.close()
            unpacked = unpacker.wait()
        if status != 0 or unpacked != 0:
            raise Failure(f"pull from {host.name}:{source}: {reason(errors)}")
        place(os.path.join(scratch, name), target)


def place(fetched, target):
    if os.path.isdir(fetched) and os.path.isdir(target):
        shutil.copytree(fetched, target, symlinks=True, dirs_exist_ok=True)
    elif os.path.isdir(target):
        raise Failure(f"pull: {target} is a directory")
    elif os.path.isdir(fetched) and os.path.lexists(target):
        raise Failure(f"pull: {target} is not a directory")
    else:
        os.rename(fetched, target)
