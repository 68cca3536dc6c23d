#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A node is killed with SIGKILL, at a random instant or at a labelled step of the protocol.

The primary killed: the standby is promoted, and its guest is whole: every page of its memory
model, its clocks, and the journal on its disk. Before the first commit there is nothing to
promote, and it says so. The secondary killed: the primary's guest goes on, whole.

COUNT sets how many primaries are killed in all (24; LONG: 500), SEED the random instants.
"""
import collections
import os
import random
import socket
import subprocess
import time

import pairs
from pairs import bed

SEED = int(os.environ.get("SEED", "1"))
STANDBY_PORT = 7700
# Steps that only the other side has, or that need what these pairs do not do.
OF_SECONDARY = {"judged", "said-committed", "at-rest", "memory-applied", "state-loaded",
                "streams-applied", "runs", "promoting", "disks-promoted", "promoted"}
SAID_BY_SECONDARY = {"wanted", "committed", "applied", "need"}
# Without a comparator, and with a primary that was never promoted.
NOT_SAID = {"output", "listen", "filter"}
SAID_BY_BOTH = {"hello", "ping", "bye", "sync-disk"}


def steps():
    """The labelled steps of the primary and of the secondary."""
    names = subprocess.run([pairs.FAULTS, "--list-fault-points"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    primary, secondary = [], []
    for name in names:
        way, _, kind = name.partition("-")
        if kind in NOT_SAID:
            continue
        if way in ("sent", "received"):
            if kind in SAID_BY_BOTH:
                both = [primary, secondary]
            else:
                both = [secondary if (kind in SAID_BY_SECONDARY) == (way == "sent")
                        else primary]
            for side in both:
                side.append(name)
        else:
            (secondary if name in OF_SECONDARY else primary).append(name)
    return primary, secondary


class Pair:
    """A primary with a busy guest, and its standby."""

    def __init__(self, mode, fault=(None, None), cpus=1):
        self.place = pairs.Place()
        pairs.forget_stations()
        self.mode = mode
        self.standby = pairs.Node(self.place, 1, "--standby", f"127.0.0.1:{STANDBY_PORT}",
                                  fault=fault[1], cpus=cpus)
        self.primary = pairs.Node(self.place, 0, *pairs.kernel(), fault=fault[0], cpus=cpus)
        self.guest = pairs.Guest()
        if not self.guest.ask("ping"):
            raise RuntimeError("the guest does not answer: " + self.primary.last_words())
        pairs.keep_busy(self.guest)

    def protect(self, **options):
        return self.primary.control.send("protect", to=f"127.0.0.1:{STANDBY_PORT}",
                                         mode=self.mode, period_ms=10, age_ms=20,
                                         verify=True, **options)

    def end(self):
        self.primary.end()
        self.standby.end()
        self.place.remove()


def state_of(node):
    return node.replication()["state"]


def status_of(node, seconds=15):
    """The exit status; None if it does not end. The guest has a visitor meanwhile."""
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as visitor:
        while node.process.poll() is None and time.monotonic() < deadline:
            visitor.sendto(b"hello", (pairs.GUEST, pairs.ECHO))
            time.sleep(0.02)
    return node.process.poll()


def asks_for_digests(fault):
    """A secondary at rest has nothing of its own to compare."""
    return "digests" in fault or "wanted" in fault


def judge_promoted(pair):
    """Promotes the standby of a dead primary; what is wrong then."""
    if not bed.eventually(lambda: state_of(pair.standby) in ("holding", "waiting"), 10):
        return [f"the standby does not notice: {pair.standby.replication()}"]
    state = state_of(pair.standby)
    answer = pair.standby.control.send("promote")
    if state == "waiting":
        refused = not answer["ok"] and answer["error"]["code"] == "wrong-state"
        return [] if refused else [f"promoted out of nothing: {answer}"]
    if not answer["ok"]:
        return [f"not promoted: {answer}"]
    wrong = pairs.faults_of_guest(pair.guest)
    if not wrong and not pairs.echo():
        wrong = ["no new connection"]
    durable = pair.standby.control.event("durable", 10)
    return wrong + ([] if durable else ["not durable"])


def kill_primary(mode, fault, rng, outcomes):
    pair = Pair(mode, (fault, None), cpus=rng.choice((1, 2)))
    try:
        answer = pair.protect()
        if not fault:
            # now and then within the first sync, mostly among the checkpoints
            if rng.random() > 0.2:
                pair.primary.control.event("protected", 20)
            time.sleep(0.2 * rng.random())
            pair.primary.killed()
        status = status_of(pair.primary)
        if status != -9:
            return [f"the primary does not die at {fault}: {status}, {answer}, "
                    f"{pair.primary.last_words()[-600:]}\n{pair.standby.last_words()}"]
        wrong = judge_promoted(pair)
        outcomes[pair.standby.replication()["state"]] += 1
        return wrong + ([pair.standby.last_words()[-1500:]] if wrong else [])
    finally:
        pair.end()


def primaries_die_and_their_standbys_take_over():
    rng = random.Random(SEED)
    total = bed.count(24, 500)
    points = [f"{step}:{nth}" for step in steps()[0] for nth in (1, 3)]
    points = [p for p in points if p not in UNREACHED_BY_PRIMARY]
    outcomes, failures, hit = collections.Counter(), [], set()
    for i in range(total):
        fault = points[i // 2 % len(points)] if i % 2 else None
        mode = ("colo", "buffered")[i % 4 // 2]
        if fault and asks_for_digests(fault):
            mode = "colo"
        wrong = kill_primary(mode, fault, rng, outcomes)
        if wrong:
            failures.append(f"{i}: {mode}, {fault or 'a random instant'}: " + "; ".join(wrong))
        elif fault:
            hit.add(fault)
    bed.note(f"{total} primaries killed, seed {SEED}: promoted {outcomes['unprotected']}, "
             f"nothing to promote {outcomes['waiting']}; "
             f"{len({h.split(':')[0] for h in hit})} steps hit")
    bed.check("every promoted guest is whole, and none is promoted out of nothing",
              not failures, "\n".join(failures))


# Steps that this test's pairs do not reach, and why.
UNREACHED_BY_PRIMARY = {
    "sent-hello:3", "received-hello:3",  # said once
    "sent-bye:1", "sent-bye:3", "received-bye:1", "received-bye:3",  # an end in good order
    "sent-ping:1", "sent-ping:3", "received-ping:1", "received-ping:3",  # nobody is idle
    "received-need:1", "received-need:3",  # asked for only where budgets are exceeded
}


def kill_secondary(mode, fault):
    pair = Pair(mode, (None, fault))
    try:
        pair.protect()
        if fault.split(":")[0] in ("promoting", "disks-promoted", "promoted"):
            bed.eventually(lambda: state_of(pair.standby) == "standby", 10)
            pair.standby.control.send("promote", seconds=5)
        status = status_of(pair.standby)
        if status != -9:
            return [f"the secondary does not die: {status}"]
        if not bed.eventually(lambda: state_of(pair.primary) == "unprotected", 10):
            return [f"the primary does not notice: {pair.primary.replication()}"]
        wrong = pairs.faults_of_guest(pair.guest)
        return wrong + ([pair.primary.last_words()[-1500:]] if wrong else [])
    finally:
        pair.end()


def secondaries_die_and_their_primaries_go_on():
    points = [f"{step}:{nth}" for step in steps()[1] for nth in (1, 3)]
    points = [p for p in points if p not in UNREACHED_BY_SECONDARY]
    if not bed.LONG:
        points = points[::3]
    failures = []
    for i, fault in enumerate(points):
        mode = "colo" if asks_for_digests(fault) else ("colo", "buffered")[i % 2]
        wrong = kill_secondary(mode, fault)
        if wrong:
            failures.append(f"{fault}: " + "; ".join(wrong))
    bed.note(f"{len(points)} secondaries killed at labelled steps")
    bed.check("every primary's guest goes on, whole", not failures, "\n".join(failures))


UNREACHED_BY_SECONDARY = {
    "sent-hello:3", "received-hello:3",
    "sent-bye:1", "sent-bye:3", "received-bye:1", "received-bye:3",
    "sent-ping:1", "sent-ping:3", "received-ping:1", "received-ping:3",
    "promoting:3", "disks-promoted:3", "promoted:3",  # once
    "sent-need:1", "sent-need:3",  # asked for only where budgets are exceeded
}

if __name__ == "__main__":
    pairs.run([primaries_die_and_their_standbys_take_over,
               secondaries_die_and_their_primaries_go_on])
