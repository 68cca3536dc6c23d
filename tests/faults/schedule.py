# SPDX-License-Identifier: GPL-2.0-or-later
"""What a seed means: which misfortunes, when, and for how long; and how a course of them is run.

A plan depends on the seed and on what the site can do, and on nothing else: nodes are called
by the roles that they have when the run begins. What happens then depends on the machine's
timing as well, so the same seed need not find the same twice.
"""
import heapq
import itertools
import random
import time

import misfortunes

HEAL_MAX_S = 12  # after which a run is healed, whatever should still last
COUNTS, COUNT_WEIGHTS = (1, 2, 3, 4), (4, 4, 2, 1)


class Plan:
    """Of one run. `steps` are (at_s, Act), `heal_s` is when everything is healed, in seconds
    from the beginning; `proof` is how a primary dies at the end, or None."""

    def __init__(self, seed, roles, can):
        self.seed = seed
        self.rng = random.Random(f"faults {seed}")
        self.steps, at = [], 0.0
        for _ in range(self.rng.choices(COUNTS, COUNT_WEIGHTS)[0]):
            self.steps.append((at, misfortunes.draw(self.rng, roles, can)))
            # At once, or before, while or after the pair deals with the one before.
            if self.rng.random() > 0.4:
                at += self.rng.choice((0.01, 0.1, 1, 3)) * self.rng.random()
        last = max([at] + [at + act.lasts_s * (2 * act.times - 1)
                           for at, act in self.steps if act.lasts_s])
        self.heal_s = min(last + self.rng.uniform(0.1, 2.5), HEAL_MAX_S)
        self.proof = self.rng.choice((None, None, "colo-vm", "power")
                                     if "power" in can else (None, None, "colo-vm"))

    def __str__(self):
        return "; ".join(f"{at:.2f} s: {act.text}" for at, act in self.steps)

    def costs(self):
        """The nodes whose copies of the guest it can cost."""
        return frozenset().union(*(act.costs for _, act in self.steps))


class Course:
    """A plan that is carried out. It knows what is cut and shaped, so that one way can be
    mended and the others stay as they are."""

    def __init__(self, site, rng):
        self.site, self.rng = site, rng
        self.cuts, self.shapes = set(), {}
        self.began = time.monotonic()
        self.log = []

    def say(self, text):
        self.log.append(f"{time.monotonic() - self.began:.3f} s: {text}")

    def cut(self, *ways):
        self.cuts.update(ways)
        self.site.cut(*ways)

    def uncut(self, *ways):
        self.cuts.difference_update(ways)
        self.again()

    def shape(self, *way, **what):
        self.shapes[way] = what
        self.site.shape(*way, **what)

    def unshape(self, *ways):
        for way in ways:
            self.shapes.pop(way, None)
        self.again()

    def again(self):
        """The links as they are to be now."""
        self.site.mend()
        if self.cuts:
            self.site.cut(*sorted(self.cuts))
        for way, what in self.shapes.items():
            self.site.shape(*way, **what)

    def run(self, plan):
        """Everything, and heals it."""
        order, due = itertools.count(), []
        for at, act in plan.steps:
            for turn in range(act.times):
                begin = at + turn * 2 * (act.lasts_s or 0)
                heapq.heappush(due, (begin, next(order), act, True))
                if act.lasts_s:
                    heapq.heappush(due, (begin + act.lasts_s, next(order), act, False))
        while due and due[0][0] <= plan.heal_s:
            at, _, act, is_do = heapq.heappop(due)
            time.sleep(max(0, self.began + at - time.monotonic()))
            self.say(act.text if is_do else f"over: {act.text}")
            if is_do:
                act.do(self)
            elif act.undo:
                act.undo(self)
        time.sleep(max(0, self.began + plan.heal_s - time.monotonic()))
        self.heal(plan)

    def heal(self, plan):
        """Nothing is wrong any more that a person would have to mend."""
        self.say("all is healed")
        self.cuts, self.shapes = set(), {}
        self.site.mend()
        self.site.arbiter_cont()
        for node in self.rng.sample(self.site.nodes, 2):
            for what in ("state", "log"):
                if f"full-{what}" in self.site.can:
                    node.disk_free(what)
            node.thaw()
            node.boot()
            node.start_colod()
        for _, act in plan.steps:
            if act.undo:
                act.undo(self)
