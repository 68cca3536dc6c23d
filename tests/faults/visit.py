# SPDX-License-Identifier: GPL-2.0-or-later
"""client.py beside a run: a process where the site's clients are, heard line by line."""
import json
import os
import queue
import subprocess
import threading
import time

END_S = 300  # for the last answers and for reading all back


class Visit:
    """One client, from its start to its verdict. `directory` gets its records."""

    def __init__(self, site, directory, seed, *words):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        self.process = site.client(directory, "--seed", str(seed), *words)
        self.last = {}  # the findings of the last line
        self.began = None  # by its clock and ours
        self.answers = queue.Queue()
        self.verdict = None
        self.log = open(os.path.join(directory, "client.log"), "a")
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            self.log.write(line)
            self.log.flush()
            try:
                told = json.loads(line)
            except ValueError:
                continue  # what Python said of itself; it is in the log
            if "verdict" in told:
                self.verdict = told
            elif "mark" in told:
                self.answers.put(told)
            self.last = told
            if "t" in told:
                began = time.monotonic() - told["t"]
                self.began = min(self.began or began, began)
        self.answers.put(None)

    def workloads(self, told):
        return {name: found for name, found in (told or {}).items()
                if isinstance(found, dict) and "good" in found}

    def mark(self, name, seconds=60):
        """The findings now, with the longest waits since the mark before; {}: it has ended or
        does not answer."""
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
            return self.workloads(self.answers.get(timeout=seconds))
        except (OSError, ValueError, queue.Empty):
            return {}

    def faults(self):
        """What it found so far: "workload: fault" each."""
        return [f"{name}: {fault}" for name, found in self.workloads(self.last).items()
                for fault in found["faults"]]

    def contradictions(self):
        """Of what it found, what no host that is lost and no network explains: (workload,
        when by this machine's time.monotonic(), what) each."""
        return [(name, self.began + at, fault)
                for name, found in self.workloads(self.last).items()
                for at, fault in found["wrong"]]

    def goes_on(self, seconds):
        """Whether every workload gets two more answers from now on, without a fault: the
        second one was asked for after now."""
        begin = self.mark("begin")
        deadline = time.monotonic() + seconds
        while begin:
            now = self.mark("go on")
            if any(found["fault_count"] for found in now.values()) or not now:
                return False
            if all(found["good"] >= begin[name]["good"] + 2 for name, found in now.items()):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return False

    def longest_ms(self):
        """The longest wait of each workload, as of the verdict."""
        return (self.verdict or {}).get("longest_ever_ms", {})

    def end(self):
        """What it found, after it has asked for all that must be there."""
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it has ended
        try:
            status = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            return [f"client: no verdict within {END_S} s", *self.kill()]
        self.thread.join()
        self.log.close()
        if self.verdict and self.verdict["verdict"] == "good" and status == 0:
            return []
        if not self.verdict:
            return [f"client: ended with status {status} and no verdict"]
        return self.faults() or [f"client: its verdict is bad: {self.verdict.get('bad')}"]

    def kill(self):
        """Without a verdict: what it found so far."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.log.close()
        return self.faults()


def verify(site, directory):
    """What of the records that a client kept is not on the guest's disk any more."""
    visit = Visit(site, directory, 0, "--verify")
    return visit.end()
