#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault harness' client (tests/faults/client.py) with the micro-guest: all is good where it
runs, and each workload finds out where it goes on with an old copy of itself, its disk's included,
as a wrong failover would have it."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pairs
from pairs import bed
from bed import check

CLIENT = os.path.join(bed.PROJECT, "tests", "faults", "client.py")
sys.path.insert(0, os.path.dirname(CLIENT))
import flowcheck  # noqa: E402


class Visit:
    """The client, until it is ended."""

    def __init__(self, directory, *words):
        self.process = subprocess.Popen(
            [sys.executable, CLIENT, "--rate", "2", *words, pairs.GUEST, directory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def until(self, enough):
        """Waits for what each workload says: a function of (its name, its findings)."""
        deadline = time.monotonic() + bed.PATIENCE_S
        while time.monotonic() < deadline:
            said = json.loads(self.process.stdout.readline())
            if all(enough(name, found) for name, found in said.items()
                   if isinstance(found, dict)):
                return
        raise RuntimeError(f"the client does not get so far: {said}")

    def more(self, count):
        """Waits until each workload has that many more answers."""
        begin = {}
        self.until(lambda name, found:
                   found["good"] >= begin.setdefault(name, found["good"]) + count)

    def end(self):
        """The status, and what was said last."""
        said, _ = self.process.communicate(timeout=3 * bed.PATIENCE_S)
        return self.process.returncode, json.loads(said.splitlines()[-1])


def capture(path):
    process = subprocess.Popen(["tcpdump", "-i", "br0", "-U", "-w", path, "tcp"],
                               stderr=subprocess.PIPE)
    process.stderr.readline()  # it has begun
    return process


def what_is_right_is_good():
    place = pairs.Place()
    node = pairs.Node(place, 0, *pairs.kernel(), cpus=2)
    wire = capture(place.path("wire.pcap")) if shutil.which("tcpdump") else None
    visit = Visit(place.path("record"))
    visit.more(10)
    status, said = visit.end()
    check("all that the client uses of the micro-guest is good, on both its vCPUs",
          status == 0 and said["verdict"] == "good" and said["time"]["vcpus"] == 2, said)
    if wire:
        time.sleep(0.5)
        wire.terminate()
        wire.wait()
        faults, counts = flowcheck.check(place.path("wire.pcap"), pairs.GUEST)
        check("... and so are its connections on the wire",
              not faults and counts["flows"] == 2 and counts["segments"] > 100,
              (faults, counts))
    status, said = Visit(place.path("record"), "--verify").end()
    check("... and the journal is there for who looks later", status == 0, said)
    node.quit()
    place.remove()


def an_old_copy_is_found():
    place = pairs.Place()
    node = pairs.Node(place, 0, *pairs.kernel(), cpus=2)
    visit = Visit(place.path("record"), "--end-s", "20")
    visit.more(10)
    node.control.must("pause")
    node.control.must("save", to=place.path("old"))
    shutil.copyfile(place.path("a.img"), place.path("old.img"))
    node.control.must("resume")
    visit.more(20)
    node.killed()
    shutil.copyfile(place.path("old.img"), place.path("a.img"))
    again = pairs.Node(place, 0, "--load", place.path("old"), "--clock", "still", cpus=2)
    # Of the stream and of the whole journal the end tells.
    visit.until(lambda name, found: found["fault_count"] or name in ("chain", "journal"))
    status, said = visit.end()
    again.quit()
    check("an old copy of a guest is bad", status == 1 and said["verdict"] == "bad", said)
    for name, words in {"chain": "did not come", "held": "were before",
                        "nonce": "nonce", "journal": "was answered as durable",
                        "register": "no order explains", "time": "went back"}.items():
        check(f"... and {name} finds it",
              any(words in fault for fault in said[name]["faults"]), said[name])
    place.remove()


TESTS = [what_is_right_is_good, an_old_copy_is_found]

if __name__ == "__main__":
    pairs.run(TESTS)
