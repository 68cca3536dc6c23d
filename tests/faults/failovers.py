# SPDX-License-Identifier: GPL-2.0-or-later
"""One failover after the other with one client, whose connections live through all of them;
then every program must have as many descriptors and threads as in the beginning, and no more
memory.

In the first half hosts lose their power, guests are killed and handed over in turn; in the
second one guests are killed and handed over, so that colod, colo-heartbeat and colo-netcompare
live all through it and what they leak adds up. Between two looks there is an even number of
failovers, so that each node has the role that it had: who dials and who is called differs by one
descriptor.

In each failover the word changes once, from who had it to the other one, who was granted it; and
the connections look on the wire as if there had been none.

The first failovers of a half come before the first look: a guest that was promoted once has
descriptors that a new one has not, and colod fills its list of events.
"""
import os
import random
import signal
import time

import flowcheck
import grants
from misfortunes import Roles
from report import Result
from schedule import Course
from site_base import PROGRAMS, Failed, eventually
import visit

WARM = 6  # failovers before the first look: each kind from either host
SETTLED_S = 150  # until connections that are kept for a next question have been closed
# What a program may have more in memory, besides one part in a hundred: colod keeps the last
# thousand events (some 300 bytes each), and free memory is found in pieces of other sizes.
MORE_KIB = 1024
# colo-vm's is the guest's own memory and the standby's copies of it: what the guest wrote to
# since, and how much of it in the last epochs, is the guest's.
MORE_GUEST_KIB = 16 << 10
TAKEN_S = 60


class Failovers:
    """N of them on one site."""

    def __init__(self, site, count, seed, directory, say=print):
        self.site, self.count, self.seed, self.say = site, count, seed, say
        self.directory = directory
        self.result = Result(seed, plan=f"{count} failovers in a row")
        self.course = Course(site, random.Random(seed))
        self.events = {}
        self.done = 0

    def run(self):
        began = time.monotonic()
        self.site.begin_run()
        self.visit = visit.Visit(self.site, os.path.join(self.directory, "client"), self.seed)
        if not self.visit.goes_on(TAKEN_S):
            raise Failed(f"the guest does not serve: {self.visit.faults()}")
        half = self.count // 4 * 2
        if self.half(("power", "kill", "switchover"), half):
            self.half(("kill", "switchover"), self.count - half)
        for fault in self.visit.end():
            self.wrong(f"client: {fault}")
        self.judge_wire()
        self.say("longest waits: " + ", ".join(
            f"{name} {ms} ms" for name, ms in sorted(self.visit.longest_ms().items())))
        self.result.seconds = time.monotonic() - began
        self.result.outage_ms = max(self.visit.longest_ms().values(), default=0)
        self.result.failovers = self.done
        return self.result

    def wrong(self, text):
        self.result.violations.append(text)
        self.say("VIOLATION " + text)

    def judge_wire(self):
        wire = self.site.wire()
        if not wire:
            return
        faults, counts = flowcheck.check(wire.path, wire.guest, reordered=wire.reordered,
                                         compared=True, whole=True)
        for fault in faults[:20]:
            self.wrong(f"P5: {fault}")
        self.say(f"on the wire: {counts['flows']} connections, {counts['segments']} segments")

    def half(self, kinds, count):
        first = None
        for number in range(count):
            if number == min(WARM, count - 2):
                first = self.look(f"after {self.done} failovers")
            kind = kinds[number % len(kinds)]
            if not self.one(kind):
                return False
        if first:
            self.compare(first)
        return True

    def one(self, kind):
        """Whether it went well."""
        primary = self.site.primary
        standby = self.site.other(primary)
        turns, revision = len(self.site.speakers() or ()), self.site.revision()
        self.course.say(f"{kind} of {primary.name}")
        if kind == "power":
            primary.power_off()
        elif kind == "kill":
            primary.signal("colo-vm", signal.SIGKILL)
        else:
            ordered = primary.colo("switchover")
            if ordered.status:
                self.wrong(f"failover {self.done + 1}: colo switchover: {ordered}")
                return False
        what = f"failover {self.done + 1} ({kind} of {primary.name})"
        if not eventually(lambda: (standby.status() or {}).get("role") == "primary",
                          TAKEN_S * self.site.slowness):
            self.wrong(f"{what}: {standby.name} does not go on: {self.site.states()}")
            return False
        if not self.visit.goes_on(TAKEN_S):
            self.wrong(f"{what}: the client does not: {self.visit.faults()} {self.visit.last}")
            return False
        primary.boot()
        if not self.site.wait_protected():
            self.wrong(f"{what}: the pair is not protected again: {self.site.states()}")
            return False
        self.judge_turn(what, primary, standby, turns, revision)
        self.done += 1
        if self.done % 10 == 0:
            self.say(f"{self.done} failovers")
        return True

    def judge_turn(self, what, primary, standby, turns, revision):
        """P2, of those who spoke since there were so many turns and that revision."""
        if not turns:
            return  # nobody listens
        who = [name for _, name in self.site.speakers()[turns - 1:]]
        if who != [primary.name, standby.name]:
            self.wrong(f"P2: {what}: {' '.join(who)} spoke in turn")
        unearned = revision is not None and grants.unearned(who, self.site.grants(revision))
        if unearned:
            self.wrong(f"P2: {what}: {unearned}")

    def usage(self):
        usage, primary = self.site.usage(), self.site.primary
        roles = Roles(primary, self.site.other(primary))
        return {(role, program): usage[getattr(roles, role).name].get(program)
                for role in ("primary", "standby") for program in PROGRAMS}

    def look(self, when):
        """What there is, once it stays so."""
        last = None
        for _ in range(10):
            time.sleep(1)
            now = self.usage()
            if last and all(now[place] and last[place] and now[place][key] == last[place][key]
                            for place in now for key in ("fds", "threads")):
                break
            last = now
        self.say(f"{when}:")
        for place, used in now.items():
            self.say("  {:8} {:16} {}".format(*place, used and ", ".join(
                f"{value} {key.replace('_', ' ')}" for key, value in used.items())))
        return now

    def compare(self, first):
        wrong = []

        def as_before():
            wrong[:] = [f"{' '.join(place)}: {used}, then {now}"
                        for place, now in self.usage().items() for used in [first[place]]
                        if not alike(place[1], used, now)]
            return not wrong

        as_wanted = eventually(as_before, SETTLED_S)
        self.look(f"after {self.done} failovers")
        if not as_wanted:
            self.wrong("P10: " + "; ".join(wrong))


def alike(program, used, now):
    more = MORE_GUEST_KIB if program == "colo-vm" else MORE_KIB
    return bool(used and now and now["fds"] == used["fds"]
                and now["threads"] == used["threads"]
                and now["rss_kib"] <= used["rss_kib"] * 1.01 + more)
