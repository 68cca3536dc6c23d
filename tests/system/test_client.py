#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the client of the pair's tests (client.py) finds what it is there to find: with the
test guest's own services on this machine, in a network and a /mnt of their own, and with a
chat that lies."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import bed
from bed import check

CLIENT = os.path.join(bed.PROJECT, "tests/system/client.py")
GUESTD = [os.path.join(bed.PROJECT, "tests/testbed", name)
          for name in ("guestd.c", "guestd_faults.c")]
APART = "COLO_TEST_APART"  # set where we have namespaces of our own


def use(seconds, record, meanwhile=None):
    """Runs the client so long; its exit status and what it said last."""
    process = subprocess.Popen([sys.executable, CLIENT, "127.0.0.1", record],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(seconds / 2)
    if meanwhile:
        meanwhile()
    time.sleep(seconds / 2)
    said, _ = process.communicate(timeout=bed.PATIENCE_S * 2)
    return process.returncode, json.loads(said.splitlines()[-1])


class Lying(threading.Thread):
    """A chat that answers some line wrongly."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer = answer
        self.socket = socket.create_server(("127.0.0.1", 9003))
        self.start()

    def run(self):
        import client
        chain = count = 0
        conn = self.socket.accept()[0]
        with conn, conn.makefile("rb") as lines:
            for line in lines:
                count, chain = count + 1, client.chain_on(chain, line[:-1])
                conn.sendall(self.answer(count, chain))
        self.socket.close()


def honest(count, chain):
    return b"%d %016x\n" % (count, chain)


LIES = {
    "a chain with one wrong bit": lambda n, c: honest(n, c ^ (n == 20)),
    "a line that was stored twice": lambda n, c: honest(n + (n >= 20), c),
    "an answer that comes twice": lambda n, c: honest(n, c) * (1 + (n == 20)),
}


def guest(services):
    return subprocess.Popen(["/mnt/guestd", services])


def what_is_right_is_good(record):
    server = guest("udp,http,chat")
    time.sleep(0.5)
    status, said = use(3, record)
    server.kill()
    server.wait()
    check("with a guest that does all right, the verdict is good",
          status == 0 and said["verdict"] == "good"
          and all(said[kind]["good"] > 3 for kind in ("chat", "pages", "echo")), said)
    with open("/mnt/chat", "rb") as stored, open(record, "rb") as answered:
        check("... and the record is what the guest has stored",
              stored.read() == answered.read())


def an_end_is_bad(record):
    os.unlink("/mnt/chat")
    server = guest("udp,http,chat")
    time.sleep(0.5)
    status, said = use(3, record, server.kill)
    server.wait()
    check("a guest that dies is a connection that ended, and bad",
          status == 1 and said["verdict"] == "bad" and said["chat"]["resets"] == 1
          and said["pages"]["faults"], said)


def lost_memory_is_bad(record):
    """What going on with an old copy would look like: the web page knows of no line."""
    chat = Lying(honest)
    web = guest("udp,http")
    time.sleep(0.5)
    status, said = use(3, record)
    web.kill()
    web.wait()
    check("a page that knows less than was answered is bad",
          status == 1 and any("were answered before" in fault
                              for fault in said["pages"]["faults"]), said)
    chat.join(bed.PATIENCE_S)


def a_lie_is_bad(record):
    for name, lie in LIES.items():
        chat = Lying(lie)
        status, said = use(4, record)
        chat.join(bed.PATIENCE_S)
        check(f"{name} is bad", status == 1 and said["chat"]["fault_count"] == 1
              and "answer" in said["chat"]["faults"][0] and said["chat"]["good"] == 19, said)


def main():
    if os.geteuid() != 0:
        bed.skip("the client's own test", "it needs root")
        return bed.verdict()
    if APART not in os.environ:
        os.environ[APART] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-ec",
                              'ip link set lo up; mount -t tmpfs mnt /mnt; exec "$@"', "sh",
                              sys.executable, os.path.realpath(__file__)])
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-static", "-pthread", "-o",
                    "/mnt/guestd", *GUESTD], check=True, timeout=300)
    with tempfile.TemporaryDirectory(prefix="colo-client-") as scratch:
        record = os.path.join(scratch, "record")
        for test in (what_is_right_is_good, an_end_is_bad, lost_memory_is_bad, a_lie_is_bad):
            test(record)
    return bed.verdict()


if __name__ == "__main__":
    sys.exit(main())
