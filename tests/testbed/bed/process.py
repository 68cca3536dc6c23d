# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes the testbed started, recorded as pid and start time in a file.

A pid alone may by now be somebody else's process; with its start time it is not.
"""
import os
import select
import signal
import time


def stat(pid):
    """(state, start time) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], fields[19]


def record(path, pid):
    found = stat(pid)
    with open(path, "w") as file:
        file.write(f"{pid} {found[1] if found else 0}\n")


def find(path):
    """(pid, state) of the recorded process, or None when it no longer runs."""
    try:
        with open(path) as file:
            pid, start = file.read().split()
    except (FileNotFoundError, ValueError):
        return None
    found = stat(int(pid))
    if found is None or found[1] != start or found[0] in "ZX":
        return None
    return int(pid), found[0]


def send(path, number):
    """Whether the recorded process was there to be signalled."""
    found = find(path)
    if not found:
        return False
    try:
        handle = os.pidfd_open(found[0])
    except ProcessLookupError:
        return False
    try:
        if find(path) != found:  # looked again, now that the pid cannot be reused
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def end(path, patience_s=10):
    """Kills the recorded process and waits for its end; False if it would not end."""
    found = find(path)
    if not found:
        return True
    try:
        handle = os.pidfd_open(found[0])
    except ProcessLookupError:
        return True
    try:
        if find(path):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], patience_s)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)


def wait_until(condition, patience_s, step_s=0.05):
    """Whether the condition came true in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(step_s)
    return condition()
