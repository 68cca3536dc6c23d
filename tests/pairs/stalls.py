# SPDX-License-Identifier: GPL-2.0-or-later
"""How long this machine itself stood still, so that a test that waits for silences can tell a
program that was late from one that was not let run."""
import subprocess
import sys
import time

WATCH = """
import sys, time, threading, select
worst = 0.0
while True:
    before = time.monotonic()
    asked = select.select([sys.stdin], [], [], 0.005)[0]
    if asked:
        if not sys.stdin.buffer.raw.read(1):
            break
        print(worst, flush=True)
        worst = 0.0
    else:
        worst = max(worst, time.monotonic() - before - 0.005)
"""


class Stalls:
    """A process that only sleeps, and notes how late it is woken; for a `with`."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", WATCH], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.look()
        return self

    def look(self):
        """The longest in ms since the look before."""
        self.process.stdin.write(b"?")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()) * 1000

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def undisturbed(attempt, limit_ms, tries=6):
    """What `attempt` gives, called again where it gives something false in a time in which the
    machine stood still for longer than `limit_ms`. (result, longest stall in ms)"""
    with Stalls() as stalls:
        for left in reversed(range(tries)):
            result, stood = attempt(), stalls.look()
            if result or stood <= limit_ms or not left:
                return result, stood
            time.sleep(1)
