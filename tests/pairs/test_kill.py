#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A node is killed with SIGKILL, at a random instant or at a labelled step of the protocol.

The primary killed: the standby is promoted, and its guest is whole: every page of its memory
model, its clocks and timers, and every slot of the journal on its disk, before and after its
writes were merged. Before the first commit there is nothing to promote, and it says so. The
secondary killed: the primary's guest goes on, whole.

COUNT sets how many primaries are killed at random instants (12; LONG: 500), SEED the instants.
Each labelled step of each side is hit: the third time that it is reached, where there is a
third time; when LONG, and from a COUNT of 100 on, the first time too. EACH sets how many are
killed at each step: one after the other at a later time that it is reached, where there is one.
Steps that only a pair with colod gets to are tests/faults/points.py's.
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
COUNT = bed.count(12, 500)
FIRST_TIMES_TOO = bed.LONG or COUNT >= 100
EACH = int(os.environ.get("EACH", "0"))
LATEST = 6  # time at which every step is reached that is reached again at all
TELL_EVERY = 50

OF_SECONDARY = {"judged", "said-committed", "at-rest", "memory-applied", "state-loaded",
                "streams-applied", "runs", "promoting", "disks-promoted", "promoted", "joined",
                "lanes-ended", "merge-begun", "merge-written", "merged"}
OF_PROMOTION = {"promoting", "disks-promoted", "promoted", "merge-begun", "merge-written",
                "merged"}
SAID_BY_SECONDARY = {"wanted", "committed", "applied", "need"}
# Without a comparator, and with a primary that was never promoted.
NOT_SAID = {"output", "listen", "filter"}
SAID_BY_BOTH = {"hello", "ping", "bye", "sync-disk"}
# Where a primary has been told of a commit.
KNOWS_OF_COMMIT = {"committed", "released", "knows-applied", "received-committed",
                   "received-applied"}
# tests/pairs/test_handover.py has these.
OF_HANDOVER = {"handed", *("handover-" + step for step in (
    "asked", "before", "at-rest", "relays", "staged", "sent", "committed", "applied"))}
# Whoever may go on alone, and who may not, is for colod to say.
OF_COLOD = {"held", "going-on", "holding", "giving-up"}
# In the life of a pair; what else there is comes again and again.
ONCE = {"hello", "join", "sync-end", "synced", "addresses", "bye", "lanes-open", "sync-round",
        "sync-ends", "joined", "lanes-ended", *OF_PROMOTION}


def kind_of(step):
    """What message a step is about; steps that are no message's are their own kind."""
    way, _, kind = step.partition("-")
    return kind if way in ("sent", "received") else step


def steps():
    """The labelled steps of the primary and of the secondary."""
    names = subprocess.run([pairs.FAULTS, "--list-fault-points"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    primary, secondary = [], []
    for name in names:
        kind = kind_of(name)
        if kind in NOT_SAID or name in OF_HANDOVER or name in OF_COLOD:
            continue
        if kind == name:
            (secondary if name in OF_SECONDARY else primary).append(name)
            continue
        if kind in SAID_BY_BOTH:
            both = [primary, secondary]
        else:
            said_here = name.startswith("sent-")
            both = [secondary if (kind in SAID_BY_SECONDARY) == said_here else primary]
        for side in both:
            side.append(name)
    return primary, secondary


def times(step):
    if kind_of(step) in ONCE:
        return (1,) * max(EACH, 1)
    if EACH:
        return [1 + i % LATEST for i in range(EACH)]
    return (1, 3) if FIRST_TIMES_TOO else (3,)


def points(names):
    """STEP:NTH for each step, and each time at which it is to be hit."""
    return [f"{name}:{nth}" for name in names for nth in times(name)]


# How a pair lives until one of it is killed: in which mode (None: either), what its guest does
# before and while it is protected, whether it has visitors, and what ends it in good order.
Life = collections.namedtuple("Life", "mode options before while_protected visited end",
                              defaults=(None, {"age_ms": 20}, pairs.BUSY, (), True, None))
USUAL = Life()
# A secondary that rests has nothing of its own to compare, or to ask a checkpoint for.
COMPARED = Life("colo")
# The first sync has much to send; epochs last, and in each the guest writes to more pages than
# a secondary likes to keep.
WIDE = Life("colo", {"age_ms": 5000}, ("blkbg 300 0 wild", "clockwatch start", "timer 100",
                                       "dirty 4000 40000 3"))
# Nothing is to be said for much longer than it takes to become a ping.
QUIET = Life("colo", {"age_ms": 5000, "silence_ms": 400}, pairs.BUSY, ("blkbg 0",), False)


def life_until(step, on_primary):
    """The smallest change to the usual life in which a side gets as far as this step."""
    kind = kind_of(step)
    if kind == "bye":  # who says it first
        by_primary = step.startswith("sent-") == on_primary
        return USUAL._replace(end="unprotect" if by_primary else "promote")
    if step in OF_PROMOTION:
        return USUAL._replace(end="promote")
    return {"digests": COMPARED, "wanted": COMPARED, "sync-pages": WIDE, "need": WIDE,
            "ping": QUIET}.get(kind, USUAL)


class Pair:
    """A primary with a busy guest, and its standby, that live like this."""

    def __init__(self, life, mode, fault=(None, None), cpus=1):
        self.place = pairs.Place()
        pairs.forget_stations()
        self.life = life
        self.mode = life.mode or mode
        self.standby = pairs.Node(self.place, 1, "--standby", f"127.0.0.1:{STANDBY_PORT}",
                                  fault=fault[1], cpus=cpus)
        self.primary = pairs.Node(self.place, 0, *pairs.kernel(), fault=fault[0], cpus=cpus)
        self.guest = pairs.Guest()
        if not self.guest.ask("ping"):
            raise RuntimeError("the guest does not answer: " + self.primary.last_words())
        pairs.keep_busy(self.guest, life.before)

    def protect(self):
        return self.primary.control.send("protect", to=f"127.0.0.1:{STANDBY_PORT}",
                                         mode=self.mode, period_ms=10, verify=True,
                                         **self.life.options)

    def live(self):
        """All that is to be done before somebody dies, or that lets them die."""
        if self.life.while_protected or self.life.end:
            self.standby.control.event("standby", 20)
        for line in self.life.while_protected:
            self.guest.ask(line, 1)  # a node may die of it
        if self.life.end == "unprotect":
            self.primary.control.send("unprotect", seconds=10)
        if self.life.end == "promote":
            self.standby.control.send("promote", seconds=10)

    def status_of(self, node, seconds=15):
        """The exit status; None if it does not end. The guest has a visitor meanwhile."""
        deadline = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as visitor:
            while node.process.poll() is None and time.monotonic() < deadline:
                if self.life.visited:
                    visitor.sendto(b"hello", (pairs.GUEST, pairs.ECHO))
                time.sleep(0.01)
        return node.process.poll()

    def end(self):
        self.primary.end()
        self.standby.end()
        self.place.remove()


def state_of(node):
    return node.replication()["state"]


def reaches(node, *states, seconds=10):
    deadline = time.monotonic() + seconds
    while state_of(node) not in states:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def must_hold(pair, fault):
    """Whether the dead primary knew of a commit."""
    return (pair.primary.control.event("protected", 0)
            or fault and fault.split(":")[0] in KNOWS_OF_COMMIT)


def judge_promoted(pair, fault):
    """Promotes the standby of a dead primary, unless it was before; what is wrong then."""
    if pair.life.end != "promote":
        if not reaches(pair.standby, "holding", "waiting"):
            return [f"the standby does not notice: {pair.standby.replication()}"]
        state = state_of(pair.standby)
        answer = pair.standby.control.send("promote")
        if state == "waiting" and must_hold(pair, fault):
            return ["a commit is lost"]
        if state == "waiting":
            refused = not answer["ok"] and answer["error"]["code"] == "wrong-state"
            return [] if refused else [f"promoted out of nothing: {answer}"]
        if not answer["ok"]:
            return [f"not promoted: {answer}"]
    elif not reaches(pair.standby, "unprotected"):
        return [f"not promoted: {pair.standby.replication()}"]
    wrong = pairs.faults_of_guest(pair.guest)
    if not wrong and not pairs.echo():
        wrong = ["no new connection"]
    if not pair.standby.control.event("durable", 10):
        wrong.append("not durable")
    return wrong or [f"when durable: {fault}" for fault in pairs.faults_of_guest(pair.guest)]


def kill_primary(life, mode, fault, rng, outcomes):
    pair = Pair(life, mode, (fault, None), cpus=rng.choice((1, 2)))
    try:
        answer = pair.protect()
        if fault:
            pair.live()
        else:
            # now and then within the first sync, mostly among the checkpoints
            if rng.random() > 0.2:
                pair.primary.control.event("protected", 20)
            time.sleep(0.2 * rng.random())
            pair.primary.killed()
        status = pair.status_of(pair.primary)
        if status != -9:
            return [f"the primary does not die at {fault}: {status}, {answer}, "
                    f"{pair.primary.last_words()[-600:]}\n{pair.standby.last_words()[-600:]}"]
        wrong = judge_promoted(pair, fault)
        promoted = state_of(pair.standby) == "unprotected"
        outcomes["promoted" if promoted else "with nothing to promote"] += 1
        return wrong + ([pair.standby.last_words()[-1500:]] if wrong else [])
    finally:
        pair.end()


def kill_secondary(life, mode, fault, outcomes):
    pair = Pair(life, mode, (None, fault))
    try:
        pair.protect()
        pair.live()
        status = pair.status_of(pair.standby)
        if status != -9:
            return [f"the secondary does not die at {fault}: {status}, "
                    f"{pair.standby.last_words()[-600:]}\n{pair.primary.last_words()[-600:]}"]
        if not reaches(pair.primary, "unprotected"):
            return [f"the primary does not notice: {pair.primary.replication()}"]
        outcomes["went on"] += 1
        wrong = pairs.faults_of_guest(pair.guest)
        return wrong + ([pair.primary.last_words()[-1500:]] if wrong else [])
    finally:
        pair.end()


class Tally:
    """What came of many kills, told now and then."""

    def __init__(self, what, total):
        self.what, self.total = what, total
        self.done = 0
        self.failures = []
        self.outcomes = collections.Counter()
        self.hits = collections.Counter()  # by step
        self.began = time.monotonic()

    def judge(self, label, kill, *args):
        """One more, whatever becomes of it; whether all was well."""
        try:
            wrong = kill(*args)
        except Exception as error:  # those after it still count
            wrong = [repr(error)] + [m.last_words()[-600:] for m in bed.Machine.all]
            bed.end_machines()
        self.done += 1
        if wrong:
            self.failures.append(f"{label}: " + "; ".join(wrong))
            bed.note(self.failures[-1])
        if self.done % TELL_EVERY == 0 or self.done == self.total:
            self.tell()
        return not wrong

    def tell(self):
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.outcomes.items()))
        bed.note(f"{self.done} of {self.total} {self.what}: {ends}; wrong "
                 f"{len(self.failures)}: {time.monotonic() - self.began:.0f} s")


def primaries_die_at_random_instants():
    tally = Tally(f"primaries killed at random instants (seed {SEED})", COUNT)
    for i in range(COUNT):
        rng = random.Random(f"{SEED}.{i}")
        mode = ("colo", "buffered")[i % 2]
        life = WIDE if i % 8 == 4 else USUAL
        tally.judge(f"{i}: {mode}", kill_primary, life, mode, None, rng, tally.outcomes)
    bed.check("every promoted guest is whole, and none is promoted out of nothing",
              not tally.failures, "\n".join(tally.failures))


def die_at_steps(side, names, kill, *args):
    """Kills one side at each of its labelled steps; what came of it."""
    tally = Tally(f"{side} killed at labelled steps", len(points(names)))
    hit = set()
    for i, point in enumerate(points(names)):
        step = point.split(":")[0]
        mode = ("colo", "buffered")[(i + SEED) % 2]
        life = life_until(step, side == "primaries")
        if tally.judge(f"{mode}, {point}", kill, life, mode, point, *args, tally.outcomes):
            hit.add(step)
            tally.hits[step] += 1
    bed.note(f"colo-vm, {side}: {len(hit)} of {len(names)} steps hit, at the least "
             f"{min(tally.hits[name] for name in names)} kills at each")
    bed.check(f"{side} are killed at each of their steps", hit == set(names),
              f"not: {sorted(set(names) - hit)}")
    return tally


def primaries_die_at_labelled_steps():
    tally = die_at_steps("primaries", steps()[0], kill_primary, random.Random(SEED))
    bed.check("every promoted guest is whole, whatever step its primary died at",
              not tally.failures, "\n".join(tally.failures))


def secondaries_die_at_labelled_steps():
    tally = die_at_steps("secondaries", steps()[1], kill_secondary)
    bed.check("every primary's guest goes on, whole", not tally.failures,
              "\n".join(tally.failures))


if __name__ == "__main__":
    pairs.run([primaries_die_at_random_instants, primaries_die_at_labelled_steps,
               secondaries_die_at_labelled_steps])
