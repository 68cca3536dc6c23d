# SPDX-License-Identifier: GPL-2.0-or-later
"""One run: a protected pair with a client, a course of misfortunes, and what must be true of
both afterwards, whatever happened.

P1, P3, P5 and P6 are the client's findings, P5 those on the wire as well. P2: nobody takes the
word whom the arbiter has not granted it by then, after all who spoke before. P4: generations
never go back, and who has the guest in the end is who was granted it last. P7 is told by pairs
that compare their copies. P8: healed, the pair is protected again by itself, but where the
manual says that a person decides; nobody else takes the word without a reason; and one death
costs no more than it must. P9 is asked by the misfortune that takes the comparator away. P10:
descriptors and threads are as many as before. P11: the pair's key and what the guest was told
are in nothing that one could read. P12: a pair that says that it is protected loses its primary
at the end of some runs.

No verdict depends on how long anything took, but for the reasons of failovers and what a death
costs: there it is seen how long programs that had work to do were held up on this machine.
"""
import os
import re
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "pairs"))
import flowcheck  # noqa: E402
import grants  # noqa: E402
from misfortunes import Roles  # noqa: E402
from report import Result  # noqa: E402
from schedule import Course, Plan  # noqa: E402
from site_base import PROGRAMS, Failed, eventually  # noqa: E402
from stalls import Stalls  # noqa: E402
import visit  # noqa: E402

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
# What a node says whose guest is begun from a disk.
BEGUN = re.compile(r"(waiting|stopped) -> solo on (begin|force)$")
# What no begin from a disk explains: bytes of a connection that it does not know, and records.
LASTING = ("chain", "journal")
DIFFERS = b"verify: checkpoint "  # what the log says where two copies are not equal
# Misfortunes in which nothing keeps the arbiter from an answer: only by its word one goes on.
# In others the nodes may agree, and tell it later.
ARBITERS = {"a program is killed", "two programs are killed", "a host loses power",
            "a link is cut", "a link comes and goes"}
DEATHS = {"a program is killed", "a host loses power"}
# One death costs a client so many times the heartbeat's timeout and what programs were held up
# for by the machine. It is about one; TCP's repetitions and a guest that is filled anew come
# on top of that.
COST = 20
LOOK_S, WORK_S = 0.02, 0.001  # of the one who looks at how programs are held up


class Person:
    """What the manual says that a person decides."""

    def __init__(self, pattern, words, may):
        self.pattern = pattern  # of what the status says
        self.words = words
        self.may = may  # whether a Judge's plan leads there

    def is_asked(self, status):
        said = " ".join(str(status.get(key)) for key in ("state", "reason", "detail"))
        return re.search(self.pattern, said) and said


PERSONS = [
    Person(r"^stopped |(?<!the other node )is stopped|stopped on purpose|stands down", ["start"],
           lambda judge: "a node stands down" in judge.result.names),
    Person(r"this node was promoted and ended before all was on its disks",
           ["promote", "--force", "--yes"],
           lambda judge: judge.plan.costs() == judge.roles.both),
    Person(r"neither this node nor \S+ is sure", ["promote", "--force", "--yes"],
           lambda judge: judge.plan.costs() == judge.roles.both),
]


class Judge:
    """Runs on one site."""

    def __init__(self, site, seed, directory):
        self.site, self.seed, self.directory = site, seed, directory
        self.result = Result(seed)
        self.visit = self.course = self.plan = self.stalls = None
        self.forced = False  # a person has chosen a copy
        self.stalled_s = 0.0

    def wrong(self, text):
        self.result.violations.append(text)

    def run(self):
        began = time.monotonic()
        try:
            with Stalls(LOOK_S, WORK_S) as self.stalls:
                self.live()
        except Exception as error:  # the harness's own, or what it could not foresee
            self.result.broken = f"{error}\n{traceback.format_exc(limit=-4)}"
        finally:
            if self.visit:
                self.visit.kill()
        self.result.seconds = time.monotonic() - began
        return self.result

    def live(self):
        self.prepare()
        self.course.run(self.plan)
        self.settle()
        self.settled = len(self.site.speakers() or ())
        if not self.result.violations and not self.result.person:
            self.prove()
        self.look()

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
        self.generation, self.revision = site.generation(), site.revision()
        self.turn = len(site.speakers() or ()) - 1
        self.events = {node.name: max((event.number for event in node.events() or ()),
                                      default=0) for node in site.nodes}
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
        if not self.site.wait_protected(PROTECTED_S):
            states = self.site.states()
            if not self.is_helped():
                self.wrong(f"P8: healed, and not protected by itself: {states}")
                return
        self.judge_anew()
        self.judge_client("healed")

    def is_helped(self):
        """A person does what the manual says, where the plan leads there; whether the pair is
        protected then."""
        for _ in range(3):
            for node in (self.roles.primary, self.roles.standby):
                if self.is_asked_at(node):
                    break  # what it says of one copy goes for the other
            if self.site.wait_protected(PROTECTED_S / 4):
                return bool(self.result.person)
        return False

    def is_asked_at(self, node):
        """A person does what this node says; whether that chose a copy."""
        status = node.status() or {}
        for person in PERSONS:
            said, chooses = person.is_asked(status), "--force" in person.words
            if said and person.may(self) and not (chooses and status.get("part") == "none"):
                self.ask(node, person.words, said)
                return chooses
        return False

    def ask(self, node, words, said):
        self.result.person = f"colo {' '.join(words)}: {said}"
        self.forced |= "--force" in words
        self.course.say(f"a person on {node.name}: {self.result.person}")
        node.colo(*words, seconds=60)

    def told(self):
        """All events of this run."""
        return [event for node in self.site.nodes
                for event in node.events(self.events[node.name]) or ()]

    def judge_anew(self):
        """A guest that was begun anew from a disk has what was durable, and no memory."""
        begun = [event for event in self.told() if BEGUN.search(event.detail)]
        self.result.anew = bool(begun)
        if not begun:
            return
        self.visit.mark("begun anew")
        self.visit.kill()
        self.judge_before(min(event.at for event in begun))
        costs = self.plan.costs()
        if costs != self.roles.both:
            self.wrong(f"the guest was begun anew, though only {sorted(costs)} could lose "
                       "its copy")
        if not self.forced:
            for fault in visit.verify(self.site, self.visit.directory):
                self.wrong(f"P3: after a begin from disk: {fault}")
        self.visit = visit.Visit(self.site, os.path.join(self.directory, "client-anew"),
                                 self.seed)

    def judge_before(self, begun):
        """That the guest's memory is another one contradicts much of what it had said; not all,
        and nothing before then. A person may have chosen an older disk."""
        lasting = [workload for workload in LASTING
                   if not (self.forced and workload == "journal")]
        for workload, at, fault in self.visit.contradictions():
            if workload in lasting or self.site.one_clock and at < begun:
                self.wrong(f"client: before the guest was begun anew: {workload}: {fault}")

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
        self.stalled_s = self.stalls.look() / 1000
        self.result.stalled_ms = round(self.stalled_s * 1000)
        self.judge_wire()
        self.judge_speakers()
        self.judge_cost()
        self.judge_usage()
        self.judge_traces()

    def judge_wire(self):
        """P5: what the guest's connections looked like."""
        wire = self.site.wire()
        if not wire:
            return
        faults, counts = flowcheck.check(wire.path, wire.guest, reordered=wire.reordered,
                                         compared=True, resets=self.result.anew, whole=True)
        for fault in faults[:5]:
            self.wrong(f"P5: {fault}")
        if not counts["flows"]:
            raise Failed("no connection was captured: nothing could be found")

    def judge_speakers(self):
        turns = self.site.speakers()
        generation = self.site.generation()
        if generation < self.generation:
            self.wrong(f"P4: generation {generation} after {self.generation}")
        if turns is None:
            return
        first = max(self.turn, 0)
        who = [name for _, name in turns[first:]]
        self.result.failovers = max(len(who) - 1, 0)
        if self.revision is not None:
            self.judge_grants(who, first)
        elif self.result.failovers > generation - self.generation:
            self.wrong(f"P2: {' '.join(who)} spoke in turn, and generations went from "
                       f"{self.generation} to {generation}")
        self.judge_reason([name for _, name in turns[first:self.settled]])
        if self.site.unheard():
            raise Failed(f"the listener missed {self.site.unheard()} frames")

    def judge_grants(self, who, first):
        """P2 and P4: by what the arbiter has granted since the run began."""
        granted = self.site.grants(self.revision)
        revisions = None
        if set(self.result.names) <= ARBITERS and not self.is_held_up():
            revisions = [self.site.revision_at(first + turn) for turn in range(len(who))]
        unearned = grants.unearned(who, granted, revisions)
        if unearned:
            self.wrong(f"P2: {unearned}")
        back = grants.backwards([grants.Grant(0, self.generation, None), *granted])
        if back:
            self.wrong(f"P4: the arbiter's generations are {back}")
        primary = self.site.primary
        if not primary or not self.site.protected():
            return  # which is told of elsewhere
        owner = next((grant.owner for grant in reversed(granted) if grant.owner),
                     self.roles.primary.name)
        if primary.name != owner:
            self.wrong(f"P4: {primary.name} has the guest, and {owner} was granted it last")
        last = granted[-1].generation if granted else self.generation
        generations = [(node.status() or {}).get("generation") for node in self.site.nodes]
        if any(generation != last for generation in generations):
            self.wrong(f"P4: the nodes are protected as generations {generations}, and the "
                       f"arbiter's is {last}")

    def is_held_up(self):
        """Whether this machine itself can have made a host look lost, or an answer late."""
        return self.site.timeout_s is None or self.stalled_s > self.site.timeout_s / 2

    def judge_reason(self, who):
        """P8: the word is taken from a primary that may be lost, or that may be the one who is
        refused a grant: where its standby is lost to it, and something else is wrong as well."""
        costs = self.plan.costs()
        may = self.roles.primary.name in costs or (
            self.roles.standby.name in costs
            and any(not act.costs for _, act in self.plan.steps))
        if len(who) > 1 and not may and not self.is_held_up():
            self.wrong(f"P8: {' '.join(who)} spoke in turn, though nothing could cost the "
                       "primary's copy")

    def judge_cost(self):
        """P8: of a death and nothing else, the one of the proof included."""
        if len(self.plan.steps) > 1 or not set(self.result.names) <= DEATHS \
                or self.result.anew or self.site.timeout_s is None:
            return
        bound_s = COST * (self.site.timeout_s * self.site.slowness + self.stalled_s)
        if self.result.outage_ms > bound_s * 1000:
            self.wrong(f"P8: a client had to wait for {self.result.outage_ms} ms; the "
                       f"heartbeat's timeout is {self.site.timeout_s} s, and programs were held "
                       f"up for {self.result.stalled_ms} ms")

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

    def judge_traces(self):
        """P11: the key, and what begins every record that the guest is told to write. P7:
        that two copies were found to be unlike."""
        needles = [*self.site.secrets(), JOURNAL]
        plain = self.site.clients_heard()
        if plain is not None and JOURNAL not in plain:
            raise Failed("what clients said was not captured: nothing could be found")
        for name, data in self.site.artefacts():
            for needle in needles:
                if needle in data:
                    self.wrong(f"P11: a secret of the pair is in {name}")
            if DIFFERS in data:
                line = data[data.index(DIFFERS):].split(b"\n")[0].decode(errors="replace")
                self.wrong(f"P7: {name}: {line}")

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
