#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness means the same by the same seed, mends what it broke and nothing else,
and finds what is wrong: with a site played here that does all right, or one thing wrong."""
import os
import random
import sys
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import failovers  # noqa: E402
import judge  # noqa: E402
import misfortunes  # noqa: E402
import report  # noqa: E402
import schedule  # noqa: E402
import site_base  # noqa: E402
from bed import check, verdict  # noqa: E402

KEY = b"0123456789abcdef"


class Node:
    def __init__(self, name, role):
        self.name, self.role, self.powered = name, role, True

    def status(self):
        return {"state": "protected" if self.role == "primary" else "standby",
                "role": self.role, "generation": 4}


class Site:
    """Does nothing, and says what it was told to."""

    def __init__(self):
        self.nodes = (Node("alpha", "primary"), Node("beta", "secondary"))
        self.can = site_base.KINDS
        self.done = []
        self.turns = [(0.0, "alpha")]
        self.used = {"rss_kib": 1000, "fds": 10, "threads": 3}
        self.found = b"nothing to see"
        self.slowness, self.guest_mib, self.baseline = 1, 64, None
        self.number = 4

    primary = property(lambda self: self.nodes[0])

    def other(self, node):
        return self.nodes[node is self.nodes[0]]

    def __getattr__(self, name):
        if name not in ("cut", "shape", "mend"):
            raise AttributeError(name)
        return lambda *words, **what: self.done.append((name, *words))

    def generation(self):
        return self.number

    def speakers(self):
        return self.turns

    def unheard(self):
        return 0

    def usage(self):
        return {node.name: {program: self.used for program in site_base.PROGRAMS}
                for node in self.nodes}

    def secrets(self):
        return [KEY]

    def artefacts(self):
        yield "a log", self.found

    def clients_heard(self):
        return judge.JOURNAL


def roles(site):
    return misfortunes.Roles(*site.nodes)


def a_seed_always_means_the_same():
    site = Site()
    plans = [[str(schedule.Plan(seed, roles(site), site_base.KINDS)) for seed in range(300)]
             for _ in range(2)]
    check("a seed always means the same misfortunes", plans[0] == plans[1])
    check("and another seed others", len(set(plans[0])) > 250, len(set(plans[0])))


def all_that_a_site_can_happens_and_nothing_else():
    site = Site()
    for can in (site_base.KINDS, frozenset(("signal", "power"))):
        drawn = {act.name for seed in range(2000)
                 for _, act in schedule.Plan(seed, roles(site), can).steps}
        possible = {each.name for each in misfortunes.CATALOGUE if each.kind in can}
        check(f"what happens is all that a site can do, which is {len(possible)} kinds",
              drawn == possible, drawn ^ possible)


def what_is_mended_is_what_was_to_be_mended():
    site = Site()
    course = schedule.Course(site, random.Random(1))
    one, other = ("repl", "alpha", "beta"), ("lan", "beta", "alpha")
    course.cut(one)
    course.cut(other)
    course.shape(*one, loss=0.1)
    site.done.clear()
    course.uncut(one)
    check("one way is mended, and what else is bad stays so",
          site.done == [("mend",), ("cut", other), ("shape", *one)], site.done)
    course.unshape(one)
    site.done.clear()
    course.uncut(other)
    check("at the end nothing is bad", site.done == [("mend",)], site.done)


def a_plan_is_healed_before_its_time_is_up():
    site = Site()
    plans = [schedule.Plan(seed, roles(site), site_base.KINDS) for seed in range(1000)]
    check("everything is healed at last, and after it began", all(
        plan.steps[-1][0] <= plan.heal_s <= schedule.HEAL_MAX_S for plan in plans))


def judged(site, **before):
    """What is found, of a site that was seen as it was `before`."""
    look = judge.Judge(site, 1, "/nowhere")
    look.generation, look.turn = before.get("generation", 4), 0
    look.judge_speakers()
    look.judge_usage()
    look.judge_secrets()
    return look.result.violations


def begins(found, *properties):
    return [text[:3].strip(":") for text in found] == list(properties)


def what_is_wrong_is_found():
    judge.SETTLED_S = 0
    site = Site()
    site.baseline = {(role, program): dict(site.used) for role in ("primary", "standby")
                     for program in site_base.PROGRAMS}
    check("a pair that is well has no findings", not judged(site), judged(site))
    site.turns = [(0.0, "alpha"), (1.0, "beta")]
    check("who speaks without a new generation is found", begins(judged(site), "P2"))
    site.number = 5
    check("and who has one may", not judged(site))
    site.turns += [(1.1, "alpha"), (1.2, "beta")]
    check("two who speak in turn are found", begins(judged(site), "P2"))
    site.turns = site.turns[:2]
    check("a generation that goes back is found",
          "P4" in [text[:2] for text in judged(site, generation=6)])
    for key, value in (("fds", 10 + judge.MORE_FDS + 1),
                       ("threads", 3 + judge.MORE_THREADS + 1), ("rss_kib", 1 << 20)):
        site.used = dict(site.used, **{key: value})
        check(f"too many {key} are found", begins(judged(site), "P10"), judged(site))
        site.used = {"rss_kib": 1000, "fds": 10, "threads": 3}
    for secret in (KEY, judge.JOURNAL):
        site.found = b"... " + secret + b" ..."
        check(f"a secret is found: {secret.decode()}", begins(judged(site), "P11"))


def what_grew_in_a_row_of_failovers_is_found():
    before = {"rss_kib": 100000, "fds": 10, "threads": 3}
    check("programs that are as they were are alike",
          failovers.alike("colod", before, dict(before, rss_kib=101000 + failovers.MORE_KIB)))
    for change in ({"fds": 11}, {"threads": 4}, {"threads": 2},
                   {"rss_kib": 101001 + failovers.MORE_KIB}):
        check(f"one that is not is found: {change}",
              not failovers.alike("colod", before, dict(before, **change)))
    check("one that is gone, too", not failovers.alike("colod", before, None))


def a_guest_begun_anew_needs_a_reason():
    for costs, wrong in ((("alpha",), 1), (("alpha", "beta"), 0)):
        site = Site()
        site.nodes[0].events = lambda since: [(1, "solo", "waiting -> solo on begin")]
        site.nodes[1].events = lambda since: []
        look = judge.Judge(site, 1, "/nowhere")
        look.roles, look.events = roles(site), {"alpha": 0, "beta": 0}
        look.plan = types.SimpleNamespace(costs=lambda costs=costs: frozenset(costs))
        look.visit = types.SimpleNamespace(kill=lambda: [], directory="/nowhere")
        kept, judge.visit.verify = judge.visit.verify, lambda *_: []
        start, judge.visit.Visit = judge.visit.Visit, lambda *_: None
        look.judge_anew()
        judge.visit.verify, judge.visit.Visit = kept, start
        check(f"a guest begun anew where {' and '.join(costs)} lost a copy is "
              f"{'found' if wrong else 'no violation'}",
              look.result.anew and len(look.result.violations) == wrong,
              look.result.violations)


def a_report_counts():
    results = [report.Result(1, names=["a", "b", "a"], outage_ms=10),
               report.Result(2, names=["a"], violations=["P2: ..."], outage_ms=30),
               report.Result(3, broken="no etcd")]
    text = "\n".join(report.summary(results, lambda seed: f"again {seed}"))
    check("a report counts runs, misfortunes by runs, and violations with their seeds",
          "3 runs, seeds 1 to 3" in text and "    2 a\n" in text and "    1 b\n" in text
          and "violations: 1 runs, broken: 1" in text and "VIOLATION seed 2: again 2" in text
          and "BROKEN seed 3: again 3" in text and "longest 30 ms" in text, text)
    again = report.Result.from_json(results[1].to_json())
    check("a result comes through a pipe as it was", again == results[1], again)


def main():
    for test in (a_seed_always_means_the_same, all_that_a_site_can_happens_and_nothing_else,
                 what_is_mended_is_what_was_to_be_mended,
                 a_plan_is_healed_before_its_time_is_up, what_is_wrong_is_found,
                 what_grew_in_a_row_of_failovers_is_found, a_guest_begun_anew_needs_a_reason,
                 a_report_counts):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
