# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pair's arbiter has granted, asked of etcd itself: the pair's record, and all that it
was before; and whether those who were heard had a right to it.

Turns without an agreement of the nodes' own are judged against what had been granted when they
were heard: a question that is asked once a frame was heard has in its answer whatever had been
granted before the frame. So nothing here depends on how fast anybody is.
"""
import base64
import http.client
import json
import threading
import time
import typing
import urllib.parse

ANSWER_S = 10
AGAIN_S = 0.1


class Grant(typing.NamedTuple):
    """One state of the record."""

    revision: int  # etcd's: later ones are higher
    generation: int
    owner: str  # who has the guest alone; None: both are protected


class Etcd:
    """The record of one pair. `call` calls a function where etcd is reached. Revisions are
    told as if etcd had never lost its memory."""

    def __init__(self, call, address, port, key):
        self.call, self.address, self.port = call, address, port
        self.remembered, self.lost = [], 0  # what it forgot, up to which revision
        self.key = base64.b64encode(key.encode()).decode()

    def read(self, revision):
        """What the record was at a revision, or is (0); and etcd's revision now. OSError
        without an answer."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=ANSWER_S)
        try:
            connection.request("POST", "/v3/kv/range", json.dumps(
                {"key": self.key, "revision": str(revision)}))
            answer = json.loads(connection.getresponse().read())
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"etcd: {error}") from error
        finally:
            connection.close()
        if "header" not in answer:
            raise OSError(f"etcd: {answer}")
        return (answer.get("kvs") or [None])[0], int(answer["header"]["revision"])

    def revision(self):
        """etcd's now. OSError without an answer."""
        return self.lost + self.call(self.read, 0)[1]

    def forgets(self):
        """Its memory is about to be lost."""
        self.remembered, self.lost = self.history(), self.revision()

    def history(self, since=0):
        """All that was put after a revision, the oldest first. OSError without an answer."""
        found, (kv, _) = [], self.call(self.read, 0)
        while kv and self.lost + int(kv["mod_revision"]) > since:
            record = json.loads(base64.b64decode(kv["value"]))
            found.append(Grant(self.lost + int(kv["mod_revision"]), record["generation"],
                               record.get("solo")))
            if int(kv["version"]) == 1:
                break
            kv, _ = self.call(self.read, int(kv["mod_revision"]) - 1)
        return [grant for grant in self.remembered if grant.revision > since] + found[::-1]


def etcd_of(pair):
    """Of a pair of tests/pairs/hosts.py."""
    arbiter = pair.sections["arbiter"]
    endpoint = urllib.parse.urlsplit(arbiter["endpoints"])
    return Etcd(pair.network.client.call, endpoint.hostname, endpoint.port,
                arbiter["prefix"] + pair.name)


class Witness(threading.Thread):
    """Asks for etcd's revision whenever another one takes the word. `turns` is a list that
    grows; whoever lets it grow calls look()."""

    def __init__(self, etcd, turns):
        super().__init__(daemon=True)
        self.etcd, self.turns = etcd, turns
        self.seen = []  # (turns that were heard before the question, revision)
        self.grown, self.stopping = threading.Event(), False
        self.start()

    def look(self):
        self.grown.set()

    def run(self):
        while self.grown.wait() and not self.stopping:
            self.grown.clear()
            count = len(self.turns)
            try:
                self.seen.append((count, self.etcd.revision()))
            except OSError:
                self.grown.set()  # it hangs, or is not there: later is less, and not wrong
                time.sleep(AGAIN_S)

    def revision_at(self, number):
        """That was surely not before the number-th turn was heard; None: not known yet."""
        return next((revision for count, revision in self.seen if count > number), None)

    def stop(self):
        self.stopping = True
        self.grown.set()
        self.join()


def unearned(who, grants, revisions=None):
    """Those who were heard in turn, the first of them by a right from before (None: by nobody,
    the pair was new): where there is no grant for one that came after the grants of those
    before, what is wrong, else None. `revisions`: for each turn by when it had been granted; a
    None in it is not judged."""
    at = -1
    for turn, name in enumerate(who[1:], 1):
        found = next((i for i, grant in enumerate(grants)
                      if i > at and grant.owner == name), None)
        heard = " ".join(filter(None, who[:turn + 1]))
        if found is None:
            return (f"{heard} spoke in turn, and what was granted is "
                    + (", ".join(f"{grant.generation} to {grant.owner}"
                                 for grant in grants if grant.owner) or "nothing"))
        by = revisions[turn] if revisions else None
        if by is not None and grants[found].revision > by:
            return (f"{heard} spoke in turn, the last of them before generation "
                    f"{grants[found].generation} was granted to {name}")
        at = found
    return None


def backwards(grants):
    """Where a generation is below one before; None: nowhere."""
    return next((f"{one.generation} and then {other.generation}"
                 for one, other in zip(grants, grants[1:])
                 if other.generation < one.generation), None)
