#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What colo-vm tells a comparator, and what one may ask for: a comparator that is scripted."""
import os
import socket
import struct
import threading
import time

import pairs
from pairs import bed
from bed import check

PORT = 7703
STANDBY = f"127.0.0.1:{PORT}"
HELLO, GATE, CUT, COMMITTED, FRAME = 1, 2, 3, 4, 5
READY, REQUEST, MODE = 16, 17, 18
CLOSED, OPEN, GUARDED = 0, 1, 2
NAMES = {HELLO: "hello", GATE: "gate", CUT: "cut", COMMITTED: "committed", FRAME: "frame"}


class Comparator:
    """Connects, says that it is ready, and keeps what it is told."""

    def __init__(self, path, ready=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(path)
        self.told = []  # (type, epoch, payload)
        self.ended = False
        self.changed = threading.Condition()
        threading.Thread(target=self.hear, daemon=True).start()
        if ready:
            self.say(READY)

    def hear(self):
        while True:
            try:
                message = self.sock.recv(1 << 17)
            except OSError:
                message = b""
            with self.changed:
                if message:
                    kind, _, length, epoch = struct.unpack("<HHIQ", message[:16])
                    assert length == len(message) - 16
                    self.told.append((kind, epoch, message[16:]))
                else:
                    self.ended = True
                self.changed.notify_all()
            if not message:
                return

    def say(self, kind, payload=b"", epoch=0):
        self.sock.send(struct.pack("<HHIQ", kind, 0, len(payload), epoch) + payload)

    def leave(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def wait(self, what, seconds=20):
        """Until `what` of all that was told is true."""
        with self.changed:
            return self.changed.wait_for(lambda: what(self.told), seconds)

    def gates(self):
        with self.changed:
            return [payload[0] for kind, _, payload in self.told if kind == GATE]

    def shows(self, gate, seconds=20):
        """The gate is this one, now or soon."""
        return self.wait(lambda told: ([p[0] for k, _, p in told if k == GATE] or [-1])[-1]
                         == gate, seconds)

    def epochs(self, kind):
        with self.changed:
            return [epoch for k, epoch, _ in self.told if k == kind]


def outputs_of(node):
    return node.replication()["outputs"]


def reaches(node, state, seconds=20):
    return bed.eventually(lambda: node.replication()["state"] == state, seconds)


def error_of(answer):
    return "" if answer["ok"] else f"{answer['error']['code']}: {answer['error']['message']}"


def make(**options):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY, "--outputs", place.path("out1"),
                         **options)
    primary = pairs.Node(place, 0, *pairs.kernel(), "--outputs", place.path("out0"), **options)
    guest = pairs.Guest()
    guest.do("ping")
    return place, primary, standby, guest


def in_order(told):
    """Whether frames are of committed epochs and commits of cut ones."""
    cut = committed = 0
    for kind, epoch, _ in told:
        if kind == CUT:
            if epoch <= cut:
                return False
            cut = epoch
        elif kind == COMMITTED:
            if epoch != cut or epoch <= committed:
                return False
            committed = epoch
        elif kind == FRAME and epoch != committed:
            return False
    return True


def guarded_from_the_first_cut_to_the_promotion():
    place, primary, standby, guest = make()
    check("without a comparator protect is refused",
          "no comparator" in error_of(primary.control.send("protect", to=STANDBY)))
    comparator = Comparator(place.path("out0"), ready=False)
    check("... also with one that is not ready",
          comparator.wait(lambda told: told and told[0][0] == HELLO)
          and "no comparator" in error_of(primary.control.send("protect", to=STANDBY)))
    comparator.say(READY)
    check("one that is ready is an event", primary.control.event("comparator-ready"))
    check("alone, everything may go out", comparator.shows(OPEN))
    check("mode auto is a mode", primary.control.send("protect", to=STANDBY, mode="auto",
                                                      age_ms=100)["ok"])
    check("the gate guards from the first cut on",
          reaches(primary, "protected") and comparator.shows(GUARDED))
    for number in range(30):
        guest.do(f"ping {number}")
    check("the secondary's guest's frames come",
          comparator.wait(lambda told: sum(kind == FRAME for kind, _, _ in told) >= 10))
    check("... in the order of epochs", in_order(comparator.told))
    status = outputs_of(primary)
    check("status counts them, and a marker for each cut",
          status["ready"] and status["gate"] == "guarded" and status["frames"] >= 10
          and status["markers_sent"] >= status["epoch"] - 1 and not status["markers_missed"],
          status)

    before = primary.control.must("checkpoint")["epoch"]
    comparator.say(MODE, bytes([0] * 8) + b"it differs all the time")
    check("in mode auto the comparator chooses, and why is told",
          primary.control.event("mode")["detail"] == "buffered: it differs all the time"
          and primary.replication()["mode"] == "auto"
          and primary.replication()["mode_now"] == "buffered")
    time.sleep(0.2)
    comparator.say(MODE, bytes([1] + [0] * 7) + b"again")
    primary.control.event("mode")
    check("what was chosen by hand stays", primary.control.send("mode", mode="colo")["ok"]
          and primary.control.event("mode"))
    time.sleep(0.2)
    comparator.say(MODE, bytes([0] * 8) + b"no")
    time.sleep(0.2)
    check("... whatever the comparator thinks",
          primary.replication()["mode_now"] == "colo")
    comparator.leave()
    check("that it is lost is an event, and the pair goes on",
          primary.control.event("comparator-lost")
          and primary.control.must("checkpoint")["epoch"] > before
          and primary.replication()["state"] == "protected")
    comparator = Comparator(place.path("out0"))
    check("the next one is told that outputs are guarded, and gets a checkpoint",
          comparator.shows(GUARDED)
          and comparator.wait(lambda told: COMMITTED in [kind for kind, _, _ in told]))
    check("... and nothing of epochs whose markers it did not see",
          comparator.epochs(COMMITTED)[0] > comparator.epochs(CUT)[0]
          and in_order(comparator.told))

    other = Comparator(place.path("out1"))
    check("at the standby everything is closed",
          other.shows(CLOSED) and outputs_of(standby)["gate"] == "closed")
    primary.killed()
    check("also when the primary is lost", standby.control.event("primary-lost")
          and other.gates() == [CLOSED])
    check("promoted, everything may go out",
          standby.control.send("promote")["ok"] and other.shows(OPEN) and guest.do("ping"))
    place.remove()


def asked_for_checkpoints():
    place, primary, standby, guest = make()
    comparator = Comparator(place.path("out0"))
    primary.control.event("comparator-ready")
    primary.control.must("protect", to=STANDBY, age_ms=3600000)
    reaches(primary, "protected")
    epoch = primary.control.must("checkpoint")["epoch"]
    comparator.wait(lambda told: (COMMITTED, epoch, b"") in told)
    for cause in (1, 3, 4):
        comparator.say(REQUEST, struct.pack("<II", cause, 0), epoch=epoch)
        epoch += 1
        check(f"a divergence (cause {cause}) is answered with a checkpoint",
              comparator.wait(lambda told: (COMMITTED, epoch, b"") in told))
    comparator.say(REQUEST, struct.pack("<II", 1, 0), epoch=epoch - 1)
    time.sleep(0.5)
    status = outputs_of(primary)
    check("... but not one of an epoch that is over",
          status["epoch"] == epoch and status["late_requests"] == 1, status)
    check("they are counted by cause", status["requests"][:5] == [0, 1, 0, 1, 1], status)
    check("the reason is in the statistics",
          primary.replication()["checkpoints"]["total"]["reasons"]["diverged"] == 3)
    comparator.say(99)
    check("nonsense ends the connection", primary.control.event("comparator-lost")
          and comparator.wait(lambda told: True) and
          bed.eventually(lambda: comparator.ended, 5))
    place.remove()


def unprotected_and_lost():
    for policy, gate in (("go-on", OPEN), ("hold", CLOSED)):
        place, primary, standby, guest = make()
        comparator = Comparator(place.path("out0"))
        primary.control.event("comparator-ready")
        primary.control.must("protect", to=STANDBY, on_loss=policy)
        reaches(primary, "protected")
        check(f"on_loss {policy}: guarded until the loss", comparator.shows(GUARDED))
        standby.killed()
        check(f"... then {'open' if gate else 'closed'}",
              primary.control.event("unprotected") and comparator.shows(gate))
        if policy == "hold":
            primary.control.must("resume")
            check("... until somebody lets it run", comparator.shows(OPEN))
        primary.end()
        place.remove()
    place, primary, standby, guest = make()
    comparator = Comparator(place.path("out0"))
    primary.control.event("comparator-ready")
    primary.control.must("protect", to=STANDBY)
    reaches(primary, "protected")
    comparator.shows(GUARDED)
    primary.control.must("unprotect")
    check("unprotect opens it", comparator.shows(OPEN))
    last = max(comparator.epochs(CUT))
    reaches(standby, "holding")
    standby.control.must("standby")
    reaches(standby, "waiting")
    primary.control.must("protect", to=STANDBY, unguarded=True)
    check("unguarded, it stays open", reaches(primary, "protected")
          and primary.control.must("checkpoint") and comparator.gates()[-1] == OPEN
          and max(comparator.epochs(CUT)) == last)
    check("... and there is nobody to choose a mode",
          error_of(primary.control.send("mode", mode="auto")).startswith("wrong-state"))
    primary.control.must("unprotect")
    reaches(standby, "holding")
    standby.control.must("standby")
    reaches(standby, "waiting")
    primary.control.must("protect", to=STANDBY)
    check("protected anew, epochs go on growing", reaches(primary, "protected")
          and comparator.shows(GUARDED) and max(comparator.epochs(CUT)) > last
          and in_order(comparator.told))
    comparator.leave()
    check("modes can be changed while the comparator is away",
          primary.control.event("comparator-lost")
          and primary.control.send("mode", mode="buffered")["ok"]
          and primary.control.send("mode", mode="auto")["ok"])
    place.remove()


def ended_under_a_secondary():
    """What was held is known to nobody else: the standby may be promoted without it."""
    for way in ("quit", "SIGTERM"):
        place, primary, standby, guest = make()
        comparator = Comparator(place.path("out0"))
        primary.control.event("comparator-ready")
        primary.control.must("protect", to=STANDBY)
        reaches(primary, "protected")
        comparator.shows(GUARDED)
        if way == "quit":
            primary.control.send("quit")
        else:
            primary.process.terminate()
        primary.process.wait(20)
        check(f"a protected primary that ends by {way} does not open the gate once more",
              bed.eventually(lambda: reaches(standby, "holding"))
              and OPEN not in comparator.gates()[comparator.gates().index(GUARDED):],
              comparator.gates())
        standby.end()
        place.remove()


def what_was_said_last():
    """A guest that ends, or goes to the other node: all that it said may go out, and no more."""
    for way in ("poweroff", "hand-over", "take back"):
        place, primary, standby, guest = make()
        comparator = Comparator(place.path("out0"))
        primary.control.event("comparator-ready")
        primary.control.must("protect", to=STANDBY, age_ms=3600000)
        reaches(primary, "protected")
        comparator.shows(GUARDED)
        before = max(comparator.epochs(COMMITTED))
        if way == "poweroff":
            guest.ask("poweroff", 1)
            primary.process.wait(20)
            bed.eventually(lambda: comparator.ended, 10)
        else:
            primary.control.must("hand-over")
            comparator.wait(lambda told: max(comparator.epochs(COMMITTED)) > before)
        check(f"{way}: the last epoch is committed", max(comparator.epochs(COMMITTED))
              == max(comparator.epochs(CUT)) > before and in_order(comparator.told))
        if way == "take back":
            check("... resumed, the guest's gate is open again",
                  primary.control.send("resume")["ok"] and comparator.shows(OPEN)
                  and guest.do("ping"))
        elif way == "hand-over":
            standby.control.must("promote")
            check("... and the gate is shut once the other goes on", comparator.shows(CLOSED))
        if way != "take back":
            check("... and never open in between",
                  OPEN not in comparator.gates()[comparator.gates().index(GUARDED):],
                  comparator.gates())
        bed.end_machines()
        place.remove()


def killed_and_started_again():
    place, primary, standby, guest = make()
    primary.killed()
    check("the socket is left behind", os.path.exists(place.path("out0")))
    primary = pairs.Node(place, 0, *pairs.kernel(), "--outputs", place.path("out0"))
    check("... and replaced", Comparator(place.path("out0")).shows(OPEN))
    check("it is removed at the end", primary.quit() == 0
          and not os.path.exists(place.path("out0")))
    place.remove()


if __name__ == "__main__":
    pairs.run([guarded_from_the_first_cut_to_the_promotion, asked_for_checkpoints,
               unprotected_and_lost, ended_under_a_secondary, what_was_said_last,
               killed_and_started_again])
