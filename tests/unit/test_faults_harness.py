#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness means the same by the same seed, mends what it broke and nothing else,
with a site played here; test_faults_judge.py has what is found then."""
import os
import random
import sys

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import misfortunes  # noqa: E402
import report  # noqa: E402
import schedule  # noqa: E402
import site_base  # noqa: E402
from bed import check, verdict  # noqa: E402


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
        self.slowness = 1

    primary = property(lambda self: self.nodes[0])

    def other(self, node):
        return self.nodes[node is self.nodes[0]]

    def __getattr__(self, name):
        if name not in ("cut", "shape", "mend"):
            raise AttributeError(name)
        return lambda *words, **what: self.done.append((name, *words))


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
                 a_plan_is_healed_before_its_time_is_up, a_report_counts):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
