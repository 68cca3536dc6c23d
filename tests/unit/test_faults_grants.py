#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness reads from etcd all that a pair's record was, and whom it was granted
when (tests/faults/grants.py)."""
import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import grants  # noqa: E402
from bed import check, eventually, skip, verdict  # noqa: E402

KEY = "/colo/web"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Server:
    """An etcd with an empty disk."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="colo-etcd-")
        self.port, peer = free_port(), f"http://127.0.0.1:{free_port()}"
        url = f"http://127.0.0.1:{self.port}"
        self.words = ["etcd", "--data-dir", os.path.join(self.dir, "etcd"),
                      "--listen-client-urls", url, "--advertise-client-urls", url,
                      "--listen-peer-urls", peer]
        self.etcd = grants.Etcd(lambda function, *args: function(*args), "127.0.0.1", self.port,
                                KEY)
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not eventually(self.answers):
            raise RuntimeError("etcd does not answer")

    def answers(self):
        try:
            return self.etcd.revision() > 0
        except OSError:
            return False

    def put(self, generation, owner=None):
        record = {"generation": generation, **({"solo": owner} if owner else
                                               {"protected": ["alpha", "beta"]})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v3/kv/put", json.dumps(
            {"key": base64.b64encode(KEY.encode()).decode(),
             "value": base64.b64encode(json.dumps(record).encode()).decode()}))
        connection.getresponse().read()
        connection.close()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def forget(self):
        self.etcd.forgets()
        self.kill()
        shutil.rmtree(os.path.join(self.dir, "etcd"))
        self.start()

    def close(self):
        self.kill()
        shutil.rmtree(self.dir)


def said(found):
    return [(grant.generation, grant.owner) for grant in found]


def all_that_was_granted_is_told(server):
    check("a record that is not there has no history", server.etcd.history() == [])
    for generation, owner in ((1, "alpha"), (1, None), (2, "beta")):
        server.put(generation, owner)
    found = server.etcd.history()
    check("a record's history is told, the oldest first",
          said(found) == [(1, "alpha"), (1, None), (2, "beta")], found)
    check("its revisions grow, up to etcd's own",
          [one.revision < other.revision for one, other in zip(found, found[1:])] == [True, True]
          and found[-1].revision == server.etcd.revision(), found)
    check("and only what came after one where that is asked for",
          said(server.etcd.history(found[0].revision)) == [(1, None), (2, "beta")])
    return found


def what_is_forgotten_is_remembered_here(server, before):
    server.forget()
    check("an etcd that forgot has no lower revision than before",
          server.etcd.revision() >= before[-1].revision)
    server.put(3, "beta")
    found = server.etcd.history()
    check("and what it forgot is told, and what comes after it after that",
          found[:-1] == before and said(found[-1:]) == [(3, "beta")]
          and found[-1].revision > before[-1].revision, found)


def turns_have_a_revision(server):
    turns = []
    witness = grants.Witness(server.etcd, turns)
    at = server.etcd.revision()
    turns.append("beta")
    witness.look()
    check("at a turn it is asked how far etcd is",
          eventually(lambda: witness.revision_at(0) == at), witness.seen)
    check("of one that did not come nothing is known", witness.revision_at(1) is None)
    server.kill()
    turns.append("alpha")
    witness.look()
    server.start()
    server.put(4, "alpha")
    check("of an etcd that is away it is asked until it answers",
          eventually(lambda: (witness.revision_at(1) or 0) >= at), witness.seen)
    witness.stop()


def main():
    if not shutil.which("etcd"):
        skip("what etcd granted", "there is no etcd: install etcd-server")
        return verdict()
    server = Server()
    try:
        before = all_that_was_granted_is_told(server)
        what_is_forgotten_is_remembered_here(server, before)
        turns_have_a_revision(server)
    finally:
        server.close()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
