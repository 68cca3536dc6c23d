#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness means the same by the same seed, mends what it broke and nothing else,
with a site played here; test_faults_judge.py has what is found then."""
import os
import random
import sys
import time
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import misfortunes  # noqa: E402
import report  # noqa: E402
import schedule  # noqa: E402
import site_base  # noqa: E402
from bed import check, verdict  # noqa: E402


class Node:
    """Says whether there was something to harm, and to whom what was done."""

    starving = False

    def __init__(self, site, name, role):
        self.site, self.name, self.role = site, name, role
        self.powered = self.harmed = True

    state = property(lambda self: self.status()["state"])

    def status(self):
        return {"state": "protected" if self.role == "primary" else "standby",
                "role": self.role, "generation": 4}

    def colo(self, *words, seconds=120):
        return types.SimpleNamespace(status=0 if self.harmed else 1)

    def __getattr__(self, name):
        if name not in ("signal", "start_colod", "power_off", "boot", "freeze", "thaw",
                        "disk_full", "disk_free", "step_clock", "starve", "disk_fails",
                        "disk_slow", "disk_hangs", "disk_good"):
            raise AttributeError(name)
        return lambda *words: self.site.done.append((name, self.role, *words)) or self.harmed


class Site:
    """Does nothing, and says what it was told to."""

    def __init__(self):
        self.nodes = (Node(self, "alpha", "primary"), Node(self, "beta", "secondary"))
        self.can = site_base.KINDS
        self.done = []
        self.slowness = 1
        self.heard = []  # what last_heard() gives, one after the other

    primary = property(lambda self: self.nodes[0])

    def other(self, node):
        return self.nodes[node is self.nodes[0]]

    def __getattr__(self, name):
        if name not in ("cut", "uncut", "shape", "mend", "arbiter_stop", "arbiter_cont",
                        "arbiter_restart"):
            raise AttributeError(name)
        return lambda *words, **what: self.done.append((name, *words, *what))

    def last_heard(self, node):
        return self.heard.pop(0)


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


def no_kind_of_fault_is_left_out():
    used = {each.kind for each in misfortunes.CATALOGUE}
    check("each kind of fault that a site can be capable of is some misfortune's",
          used == site_base.KINDS, used ^ site_base.KINDS)


def what_would_end_each_other_is_not_for_one_time():
    site = Site()
    clashing, accompanied = [], []
    for seed in range(3000):
        plan = schedule.Plan(seed, roles(site), site_base.KINDS)
        for number, (at, act) in enumerate(plan.steps):
            clashing += [str(plan) for begin, other in plan.steps[:number]
                         if act.holds & other.holds and at <= other.end_s(begin)]
            accompanied += [str(plan)] if act.alone and len(plan.steps) > 1 else []
    check("nothing is stopped while it is starved, nor starved, stopped or filled twice at a "
          "time", not clashing, clashing[:5])
    check("what must be alone is", not accompanied, accompanied[:5])
    one, other = roles(site).primary, roles(site).standby
    for first, second, together in (
            (misfortunes.starve, misfortunes.freeze, False),
            (misfortunes.starve, misfortunes.stop, False),
            (misfortunes.starve, misfortunes.starve, False),
            (misfortunes.comparator_away, misfortunes.starve, False),
            (misfortunes.full("log"), misfortunes.full("log"), False),
            (misfortunes.starve, misfortunes.full("log"), True)):
        for node, as_told in ((one, together), (other, True)):
            plan = schedule.Plan(1, roles(site), site_base.KINDS)
            rng = random.Random(1)
            plan.steps = [(0.0, first(rng, misfortunes.Roles(one, one)))]
            act = second(rng, misfortunes.Roles(node, node))
            check(f"{plan.steps[0][1].text}; {act.text}: {'yes' if as_told else 'no'}",
                  plan.clashes(0.1, act) is not as_told)


def one_way_is_mended(site, one, other):
    """Of two that are cut, and the one shaped as well."""
    course = schedule.Course(site, random.Random(1))
    course.cut(one)
    course.cut(other)
    course.shape(*one, loss=0.1)
    site.done.clear()
    course.uncut(one)
    return course


def what_is_mended_is_what_was_to_be_mended():
    site, one, other = Site(), ("repl", "alpha", "beta"), ("lan", "beta", "alpha")
    course = one_way_is_mended(site, one, other)
    check("one way is mended, and nothing else is touched", site.done == [("uncut", one)],
          site.done)
    site.done.clear()
    course.unshape(one)
    course.uncut(other)
    check("at the end nothing is bad", site.done == [("shape", *one), ("uncut", other)],
          site.done)
    site.done.clear()
    course.uncut(other)
    course.unshape(one)
    check("and what is good is not mended again", not site.done, site.done)


def what_another_one_broke_stays_broken():
    site = Site()
    course = schedule.Course(site, random.Random(1))
    way = ("repl", "alpha", "beta")
    for course.act in ("one", "other"):
        course.cut(way)
    site.done.clear()
    course.uncut(way)
    check("a way that two have cut is cut when the one is over", not site.done, site.done)
    course.act = "one"
    course.uncut(way)
    check("and whole when the other one is", site.done == [("uncut", way)], site.done)
    course.shape(*way, loss=0.1)
    course.act = "other"
    course.shape(*way, delay_ms=5)
    site.done.clear()
    course.unshape(way)
    check("a way that two have shaped is as the first one left it when the other one is over",
          site.done == [("shape", *way, "loss")], site.done)


def a_site_that_mends_all_or_nothing():
    site, one, other = Site(), ("repl", "alpha", "beta"), ("lan", "beta", "alpha")
    site.uncut = None
    one_way_is_mended(site, one, other)
    check("where all is mended or nothing, what is still to be bad is made so again",
          site.done == [("mend",), ("cut", other), ("shape", *one, "loss")], site.done)


def a_plan_of(site, *steps, heal_s=0.0):
    return types.SimpleNamespace(steps=steps, heal_s=heal_s, roles=roles(site), seed=1)


def what_found_nothing_to_harm_is_told():
    always = {"cut", "shape", "arbiter", "arbiter-loss"}
    for harmed in (True, False):
        site = Site()
        for node in site.nodes:
            node.harmed = harmed
        wrong = []
        for each in misfortunes.CATALOGUE:
            now = time.monotonic()
            site.heard = [now, now]
            act = each.draw(random.Random(1), roles(site))
            act.name = each.name
            course = schedule.Course(site, random.Random(1))
            course.do(act)
            wanted = (1, 0) if harmed or each.kind in always else (0, 1)
            harm = course.harm[each.name]
            if (harm.hits, harm.misses) != wanted:
                wrong.append((each.name, harm))
        check(f"what {'did harm' if harmed else 'found nothing to harm'} is counted as that",
              not wrong, wrong)


def what_comes_too_late_is_told():
    site, done = Site(), []
    act = misfortunes.Act("...", lambda _: done.append("do"), lambda _: done.append("undo"),
                          0.05, times=3, name="flap")
    missed = misfortunes.Act("...", lambda _: False, lambda _: done.append("undo of nothing"),
                             0.05, name="miss")
    course = schedule.Course(site, random.Random(1))
    plan = a_plan_of(site, (0, act), (0, missed), heal_s=0.12)
    course.run(plan)
    harm = course.harm
    check("what was to happen after all was healed is counted",
          harm["flap"] == schedule.Harm(2, 0, 1) and harm["miss"] == schedule.Harm(0, 1, 0), harm)
    check("and is not done; what found nothing to harm is undone at the end only",
          done == ["do", "undo", "do", "undo", "undo of nothing"], done)


def hosts_are_mended_in_an_order_of_the_seeds():
    orders = []
    for swapped in (False, True):
        site = Site()
        if swapped:
            site.nodes = site.nodes[::-1]
        plan = a_plan_of(site)
        plan.roles = misfortunes.Roles(*sorted(site.nodes, key=lambda node: node.role))
        schedule.Course(site, random.Random(3)).run(plan)
        orders.append([step for step in site.done if step[0] == "boot"])
    check("a seed mends hosts in the same order, whichever host is the primary",
          orders[0] == orders[1] and len(orders[0]) == 2, orders)


def a_comparator_that_is_away_is_asked_for():
    misfortunes.QUIET_S = 0.01
    for what, before, after, asked, found in (
            ("that talked", 0, 0, 1, 0), ("that is silent", -60, 0, 0, 0),
            ("that goes on talking", 0, 60, 1, 1), ("that nobody can hear", None, None, 0, 0)):
        site, now = Site(), time.monotonic()
        site.heard = [at if at is None else now + at for at in (before, after)]
        act = misfortunes.comparator_away(random.Random(1), roles(site))
        course = schedule.Course(site, random.Random(1))
        course.do(act)
        check(f"a comparator is away from a guest {what}: P9 is asked {asked} times, violated "
              f"{found} times", (course.asked["P9"], len(act.found)) == (asked, found),
              (course.asked, act.found))


def a_plan_is_healed_before_its_time_is_up():
    site = Site()
    plans = [schedule.Plan(seed, roles(site), site_base.KINDS) for seed in range(1000)]
    check("everything is healed at last, and after it began", all(
        plan.steps[-1][0] <= plan.heal_s <= schedule.HEAL_MAX_S for plan in plans))


def a_report_counts():
    results = [report.Result(1, names=["a", "b", "a"], outage_ms=10, asked={"P9": 1},
                             harm={"a": [1, 1, 0], "b": [0, 0, 3]}),
               report.Result(2, names=["a"], violations=["P2: ..."], outage_ms=30,
                             harm={"a": [1, 0, 0]}, before=[1]),
               report.Result(3, broken="no etcd")]
    text = "\n".join(report.summary(results, lambda seeds: f"again {seeds}"))
    check("a report counts runs, what misfortunes did, and violations with their seeds",
          "3 runs, seeds 1 to 3" in text
          and ["2", "2", "1", "0", "a"] in map(str.split, text.splitlines())
          and ["1", "0", "0", "3", "b"] in map(str.split, text.splitlines())
          and "(P9): 1 times" in text and "violations: 1 runs, broken: 1" in text
          and "longest 30 ms" in text, text)
    check("and says how a run is had again, alone and as its pair had it",
          "VIOLATION seed 2, run 2 of its pair: again [2]" in text and ": again [1, 2]" in text
          and "BROKEN seed 3, run 1 of its pair: again [3]" in text, text)
    again = report.Result.from_json(results[1].to_json())
    check("a result comes through a pipe as it was", again == results[1], again)


def main():
    for test in (a_seed_always_means_the_same, all_that_a_site_can_happens_and_nothing_else,
                 no_kind_of_fault_is_left_out, what_would_end_each_other_is_not_for_one_time,
                 what_is_mended_is_what_was_to_be_mended, what_another_one_broke_stays_broken,
                 a_site_that_mends_all_or_nothing, what_found_nothing_to_harm_is_told,
                 what_comes_too_late_is_told, hosts_are_mended_in_an_order_of_the_seeds,
                 a_comparator_that_is_away_is_asked_for,
                 a_plan_is_healed_before_its_time_is_up, a_report_counts):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
