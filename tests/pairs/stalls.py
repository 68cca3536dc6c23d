# SPDX-License-Identifier: GPL-2.0-or-later
"""How long programs were held up on this machine, so that a test that waits for silences can tell
one that was late from one that was not let run."""
import subprocess
import sys
import time

WATCH = """
import sys, time, select
sleep_s, work_s, worst = float(sys.argv[1]), float(sys.argv[2]), 0.0
while True:
    before, worked = time.monotonic(), time.process_time()
    if select.select([sys.stdin], [], [], sleep_s)[0]:
        if not sys.stdin.buffer.raw.read(1):
            break
        print(worst, flush=True)
        worst = 0.0
        continue
    while time.process_time() - worked < work_s:
        pass
    worst = max(worst, time.monotonic() - before - sleep_s - work_s)
"""


class Stalls:
    """A process that sleeps, works for a little, and notes how long it was held up in either: as
    a thread would be that has work to do. For a `with`."""

    def __init__(self, sleep_s=0.005, work_s=0.003):
        self.words = str(sleep_s), str(work_s)

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", WATCH, *self.words],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
    """What `attempt` gives, called again where it gives something false in a time in which
    programs were held up for longer than `limit_ms`. None: it never had another."""
    with Stalls() as stalls:
        for _ in range(tries):
            result, stood = attempt(), stalls.look()
            if result or stood <= limit_ms:
                return result
            time.sleep(1)
    return None
