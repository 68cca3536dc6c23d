# SPDX-License-Identifier: GPL-2.0-or-later
"""One run: a protected pair with a client, a course of misfortunes, and what must be true of
both afterwards, whatever happened.

P1, P3, P5 and P6 are the client's findings. P2 and P4: nobody takes the word without a new
generation, and generations never go back. P8: healed, the pair is protected again by itself,
but where the manual says that a person decides. P9 is asked by the misfortune that takes the
comparator away. P10: descriptors and threads are as many as before. P11: the pair's key and
what the guest was told are in nothing that one could read. P12: a pair that says that it is
protected loses its primary at the end of some runs.
"""
import os
import re
import signal
import socket
import time
import traceback

from misfortunes import Roles
from report import Result
from schedule import Course, Plan
from site_base import PROGRAMS, Failed, eventually
import visit

PROTECTED_S = 120  # after which a pair that was healed is not protected by itself any more
GOES_ON_S = 60
SETTLED_S = 15  # until descriptors and threads are as before
# What may be more than when the pair was new: a guest that was promoted once has two
# descriptors more, colod keeps connections to its arbiter for a while. What leaks a
# descriptor in a run is over it before the pair is given up; --failovers wants them equal.
MORE_FDS, MORE_THREADS = 8, 3
JOURNAL = b"cfaujrnl"  # the magic of client.py's records
# Of a program in memory: a guest's memory, a standby's copy of what its guest changed, and
# the bounds of all queues.
GUESTS, QUEUES_KIB, HELPER_KIB = 2, 64 << 10, 48 << 10
# What the manual says that a person decides: what the status says, and what is done about it.
PERSON = [
    (r"is stopped|stopped on purpose|stands down", ["start"]),
    (r"this node was promoted and ended before all was on its disks",
     ["promote", "--force", "--yes"]),
]


class Judge:
    """Runs on one site."""

    def __init__(self, site, seed, directory):
        self.site, self.seed, self.directory = site, seed, directory
        self.result = Result(seed)
        self.visit = self.course = self.plan = None

    def wrong(self, text):
        self.result.violations.append(text)

    def run(self):
        began = time.monotonic()
        try:
            self.prepare()
            self.course.run(self.plan)
            self.settle()
            if not self.result.violations and not self.result.person:
                self.prove()
            self.look()
        except Exception as error:  # the harness's own, or what it could not foresee
            self.result.broken = f"{error}\n{traceback.format_exc(limit=-4)}"
        finally:
            if self.visit:
                self.visit.kill()
        self.result.seconds = time.monotonic() - began
        return self.result

    def prepare(self):
        site = self.site
        if not site.wait_protected():
            raise Failed(f"not protected at the beginning: {site.states()}")
        primary = site.primary
        self.roles = Roles(primary, site.other(primary))
        site.begin_run()
        self.visit = visit.Visit(site, os.path.join(self.directory, "client"), self.seed)
        if not self.visit.goes_on(GOES_ON_S):
            raise Failed(f"the guest does not serve at the beginning: {self.visit.faults()} "
                         f"{self.visit.last}")
        self.generation = site.generation()
        self.turn = len(site.speakers() or ()) - 1
        self.events = {node.name: (node.events() or [(0, "", "")])[-1][0]
                       for node in site.nodes}
        if not site.baseline:
            site.baseline = self.by_role()
        self.plan = Plan(self.seed, self.roles, site.can)
        self.result.plan = str(self.plan)
        self.result.names = [act.name for _, act in self.plan.steps]
        self.course = Course(site, self.plan.rng)

    # The pair is healed.

    def settle(self):
        """It becomes protected, and serves."""
        for _, act in self.plan.steps:
            self.result.violations += act.found
        if not self.site.wait_protected(PROTECTED_S) and not self.is_helped():
            self.wrong("P8: healed, and not protected by itself: " + self.site.states())
            return
        self.judge_anew()
        self.judge_client("healed")

    def is_helped(self):
        """A person does what the manual says; whether the pair is protected then."""
        for _ in range(3):
            for node in self.site.nodes:
                status = node.status() or {}
                said = " ".join(str(status.get(key)) for key in ("state", "reason", "detail"))
                for pattern, words in PERSON:
                    if re.search(pattern, said) or (words == ["start"]
                                                    and status.get("state") == "stopped"):
                        self.result.person = f"colo {' '.join(words)}: {said}"
                        self.course.say(f"a person on {node.name}: {self.result.person}")
                        node.colo(*words, seconds=60)
                        break
            if self.site.wait_protected(PROTECTED_S / 4):
                return True
        return False

    def told(self):
        """All events of this run."""
        return [event for node in self.site.nodes
                for event in node.events(self.events[node.name]) or ()]

    def judge_anew(self):
        """A guest that was begun anew from a disk has what was durable, and no memory."""
        self.result.anew = any(detail.endswith(" on begin") for _, _, detail in self.told())
        if not self.result.anew:
            return
        self.visit.kill()
        costs = self.plan.costs()
        if costs != self.roles.both:
            self.wrong(f"the guest was begun anew, though only {sorted(costs)} could lose "
                       "its copy")
        if not self.result.person:
            for fault in visit.verify(self.site, self.visit.directory):
                self.wrong(f"P3: after a begin from disk: {fault}")
        self.visit = visit.Visit(self.site, os.path.join(self.directory, "client-anew"),
                                 self.seed)

    def judge_client(self, when):
        if not self.visit.goes_on(GOES_ON_S):
            self.wrong(f"client: {when}, and it does not go on: {self.visit.faults()} "
                       f"{self.visit.last}")

    # A pair that says that it is protected.

    def prove(self):
        """P12: it loses its primary now, and the other node has to go on."""
        if not self.plan.proof:
            return
        primary = self.site.primary
        if not primary or not self.site.protected():
            return
        other = self.site.other(primary)
        self.result.proof = self.plan.proof
        self.course.say(f"proof: {self.plan.proof} of {primary.name}")
        if self.plan.proof == "power":
            primary.power_off()
        else:
            primary.signal("colo-vm", signal.SIGKILL)
        if not eventually(lambda: (other.status() or {}).get("role") == "primary",
                          GOES_ON_S * self.site.slowness):
            self.wrong(f"P12: {primary.name} said that it was protected, and was killed: "
                       f"{other.name} does not go on: {self.site.states()}")
        self.judge_client("the primary was killed while its status said protected")
        primary.boot()
        if not self.site.wait_protected(PROTECTED_S):
            self.wrong("P8: after the proof the pair is not protected: " + self.site.states())

    # What there is to be seen afterwards.

    def look(self):
        last, self.visit = self.visit, None
        for fault in last.end():
            self.wrong(f"client: {fault}")
        self.result.outage_ms = max(last.longest_ms().values(), default=0)
        self.judge_speakers()
        self.judge_usage()
        self.judge_secrets()

    def judge_speakers(self):
        turns = self.site.speakers()
        generation = self.site.generation()
        if generation < self.generation:
            self.wrong(f"P4: generation {generation} after {self.generation}")
        if turns is None:
            return
        who = [name for _, name in turns[max(self.turn, 0):]]
        self.result.failovers = max(len(who) - 1, 0)
        if self.result.failovers > generation - self.generation:
            self.wrong(f"P2: {' '.join(who)} spoke in turn, and generations went from "
                       f"{self.generation} to {generation}")
        if self.site.unheard():
            raise Failed(f"the listener missed {self.site.unheard()} frames")

    def by_role(self):
        """Usage of the primary's and the standby's programs."""
        usage = self.site.usage()
        primary = self.site.primary
        return {} if not primary else {
            (role, program): usage[node.name].get(program)
            for role, node in (("primary", primary), ("standby", self.site.other(primary)))
            for program in PROGRAMS}

    def judge_usage(self):
        """P10: all is within bounds, once what was there for a while is gone."""
        over = []

        def within():
            over[:] = [f"{' '.join(place)}: {now}, bounds {bounds}"
                       for place, now in self.by_role().items()
                       for bounds in [self.bounds(place)]
                       if not now or any(now[key] > bounds[key] for key in bounds)]
            return not over

        if not eventually(within, SETTLED_S * self.site.slowness):
            self.wrong("P10: " + "; ".join(over))

    def bounds(self, place):
        first = self.site.baseline.get(place) or {"fds": 32, "threads": 16}
        guest = GUESTS * (self.site.guest_mib << 10) + QUEUES_KIB
        return {"fds": first["fds"] + MORE_FDS, "threads": first["threads"] + MORE_THREADS,
                "rss_kib": guest if place[1] == "colo-vm" else HELPER_KIB}

    def judge_secrets(self):
        """P11: the key, and what begins every record that the guest is told to write."""
        needles = [*self.site.secrets(), JOURNAL]
        plain = self.site.clients_heard()
        if plain is not None and JOURNAL not in plain:
            raise Failed("what clients said was not captured: nothing could be found")
        for name, data in self.site.artefacts():
            for needle in needles:
                if needle in data:
                    self.wrong(f"P11: a secret of the pair is in {name}")

    def keep(self, directory):
        """All evidence."""
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "course.txt"), "w") as file:
            file.write(self.result.line() + "\n\n"
                       + "\n".join(self.course.log if self.course else []) + "\n")
            for node in self.site.nodes:
                for event in node.events(self.events.get(node.name, 0)
                                         if self.course else 0) or ():
                    file.write(f"{node.name}: {event}\n")
        self.site.keep(directory)
        self.result.kept = directory
