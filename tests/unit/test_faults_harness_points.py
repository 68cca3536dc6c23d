#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That tests/faults/points.py counts what it did at each step, tells what it did not, and does
not believe what is said of steps that nobody reaches."""
import collections
import os
import random
import sys
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, place) for place in ("faults", "pairs", "system")]
import points  # noqa: E402
from bed import check, verdict  # noqa: E402

STEPS = {"colod": ["vm-start", "verdict-claim", "state-promoting"], "colo-vm": ["cut"]}
points.bed.note = lambda _: None  # what it says of lives that were never lived


def hunt(each=2, others=0, **options):
    """One before anything happened, with the steps of STEPS."""
    made = points.Hunt.__new__(points.Hunt)
    made.options = types.SimpleNamespace(**dict(
        dict(each=each, others=others, program=None, only=None, jobs=1, seed=1, seen=None,
             keep=None), **options))
    made.steps, made.without_colod = STEPS, {"P": [], "S": []}
    made.rng = random.Random(1)
    made.reachable = collections.defaultdict(list)
    made.hits, made.passages = collections.Counter(), collections.Counter()
    made.passed_less, made.unreached, made.failures, made.persons = {}, [], [], []
    made.done = made.total = 0
    made.began = 0.0
    for point in made.demanded():
        made.reachable[point] = ["nothing_happens", "the_primary_is_lost"]
    return made


def go(made, reaches):
    """All its tasks, with what `reaches` says of each."""
    tasks = made.tasks()
    while tasks:
        task = made.ready(tasks.pop())
        again = made.take(task, {"reached": reaches(task), "wrong": []})
        if again:
            tasks.append(again)
    return made.tell()


def what_happened_less_often_than_asked_is_told():
    made = hunt()
    check("where each step is killed at as often as asked, and frozen where it must, nothing is "
          "missed", not go(made, lambda _: True) and made.done == made.total, made.unreached)
    made = hunt()
    missed = go(made, lambda task: task["misfortune"] != "kill" or task["step"] != "cut"
                or made.hits["colo-vm", task["side"], "cut", "kill"] < 1)
    check("a step with fewer kills than asked is missed, with how many it had",
          missed == [f"colo-vm cut, {side}: 1 of 2 kills" for side in ("primary", "standby")],
          missed)
    check("and what was to happen there and did not is told", len(made.unreached) == 2 and all(
        "kill at colo-vm cut" in text for text in made.unreached), made.unreached)


def freezes_are_demanded_where_somebody_was_granted_something():
    made = hunt(each=1)
    tasks = made.tasks()
    frozen = {(task["step"], task["side"]) for task in tasks if task["misfortune"] == "freeze"}
    wanted = {("verdict-claim", "P"), ("verdict-claim", "S"), ("state-promoting", "S")}
    check("each side is frozen at each verdict and in each state", wanted <= frozen, frozen)
    missed = go(hunt(each=1), lambda task: task["misfortune"] != "freeze")
    check("and it is missed where it was not", missed == [
        "colod verdict-claim, primary: never frozen there",
        "colod verdict-claim, standby: never frozen there",
        "colod state-promoting, standby: never frozen there"], missed)
    check("but where nothing but kills is asked for",
          not go(hunt(each=1, others=-1), lambda task: task["misfortune"] != "freeze"))


def a_later_passage_is_tried_before_the_first():
    made = hunt(each=20, others=-1)
    numbers = collections.Counter(task["nth"] for task in made.tasks())
    check("things happen at a step's first passage, and at later ones",
          set(numbers) == set(points.PASSAGES), numbers)
    made, asked = hunt(each=20, others=-1), []

    def reaches(task):
        asked.append((task["step"], task["side"], task["life"], task["nth"]))
        return task["nth"] == 1

    missed = go(made, reaches)
    check("where there is only a first one all happens at that", not missed
          and set(made.passages) == {1} and made.done == made.total, missed)
    later = collections.Counter(each for each in asked if each[3] > 1)
    check("and a life without a later one is not asked for it twice",
          later and max(later.values()) == 1, later)


def what_is_said_of_steps_is_not_believed():
    made = hunt()
    check("nobody gets where nobody does", not made.belied(), made.belied())
    made.reachable["colod", "P", "state-promoting"].append("the_primary_is_lost")
    check("a primary that is promoted belies what is said of it",
          len(made.belied()) == 1 and "state-promoting, primary" in made.belied()[0],
          made.belied())
    made.reachable["colod", "P", "state-promoting"].clear()
    made.reachable["colod", "P", "say-unprotect"].append("the_link_is_lost")
    check("what is only rare may happen", not made.belied(), made.belied())
    for program, side, step in (("colod", "P", "ask-consent"), ("colod", "P", "told-consent"),
                                ("colod", "S", "asked-consent"), ("colod", "S", "answer-no"),
                                ("colo-vm", "P", "sent-bye")):
        check(f"{program} {step} is asked of the {points.SIDES[side]}",
              not points.why_not(program, side, step))


def a_worker_that_died_is_another_one():
    worker = points.Worker.__new__(points.Worker)
    worker.process = points.subprocess.Popen(["true"], stdin=points.subprocess.PIPE,
                                             stdout=points.subprocess.PIPE, text=True)
    worker.process.wait()
    answer = worker.ask({"watch": "nothing_happens"})
    check("a worker that died before it was asked says so", answer.get("over"), answer)
    worker.end()


def main():
    for test in (what_happened_less_often_than_asked_is_told,
                 freezes_are_demanded_where_somebody_was_granted_something,
                 a_later_passage_is_tried_before_the_first,
                 what_is_said_of_steps_is_not_believed, a_worker_that_died_is_another_one):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
