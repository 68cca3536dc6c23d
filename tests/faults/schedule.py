# SPDX-License-Identifier: GPL-2.0-or-later
"""What a seed means: which misfortunes, when, and for how long; and how a course of them is run.

A plan depends on the seed and on what the site can do, and on nothing else: nodes are called
by the roles that they have when the run begins. What happens then depends on the machine's
timing as well, so the same seed need not find the same twice.
"""
import collections
import dataclasses
import heapq
import itertools
import random
import time

import misfortunes

HEAL_MAX_S = 12  # after which a run is healed, whatever should still last
COUNTS, COUNT_WEIGHTS = (1, 2, 3, 4), (4, 4, 2, 1)
DRAWS = 20  # until one is found that may be beside those that are there
SLIP_S = 0.5  # so much later than it is due something may begin, or be over


class Plan:
    """Of one run. `steps` are (at_s, Act), `heal_s` is when everything is healed, in seconds
    from the beginning; `proof` is how a primary dies at the end, or None."""

    def __init__(self, seed, roles, can):
        self.seed, self.roles = seed, roles
        self.rng = random.Random(f"faults {seed}")
        self.steps, at = [], 0.0
        for _ in range(self.rng.choices(COUNTS, COUNT_WEIGHTS)[0]):
            act = self.draw(at, can)
            if act:
                self.steps.append((at, act))
            # At once, or before, while or after the pair deals with the one before.
            if self.rng.random() > 0.4:
                at += self.rng.choice((0.01, 0.1, 1, 3)) * self.rng.random()
        last = max([at] + [at + act.lasts_s * (2 * act.times - 1)
                           for at, act in self.steps if act.lasts_s])
        self.heal_s = min(last + self.rng.uniform(0.1, 2.5), HEAL_MAX_S)
        self.proof = self.rng.choice((None, None, "colo-vm", "power")
                                     if "power" in can else (None, None, "colo-vm"))

    def draw(self, at, can):
        """One that may begin then, beside those that were drawn before; None: none is found."""
        if any(act.alone for _, act in self.steps):
            return None
        for _ in range(DRAWS):
            act = misfortunes.draw(self.rng, self.roles, can)
            if not self.steps or not (act.alone or self.clashes(at, act)):
                return act
        return None

    def clashes(self, at, act):
        """Whether the end of the one would be the end of the other."""
        return any(act.holds & other.holds
                   and at <= other.end_s(begin) + SLIP_S and begin <= act.end_s(at) + SLIP_S
                   for begin, other in self.steps)

    def __str__(self):
        return "; ".join(f"{at:.2f} s: {act.text}" for at, act in self.steps)

    def costs(self):
        """The nodes whose copies of the guest it can cost."""
        return frozenset().union(*(act.costs for _, act in self.steps))


@dataclasses.dataclass
class Harm:
    """How often a misfortune was brought about."""

    hits: int = 0
    misses: int = 0  # there was nothing to harm
    late: int = 0  # all was healed before


class Course:
    """A plan that is carried out. It knows who cut and shaped what, so that what one misfortune
    has broken is mended at its end, and what another one has broken is not."""

    def __init__(self, site, rng):
        self.site, self.rng = site, rng
        self.cuts = {}  # way: the acts that cut it
        self.shapes = {}  # way: {act: what}; of several that shape it the last one counts
        self.act = None  # the one that is done or undone now
        self.lasting = set()  # the acts that did harm and are to be undone
        self.harm = collections.defaultdict(Harm)  # by name
        self.asked = collections.Counter()  # how often a property was asked
        self.began = time.monotonic()
        self.log = []

    def say(self, text):
        self.log.append(f"{time.monotonic() - self.began:.3f} s: {text}")

    # Links.

    def cut(self, *ways):
        for way in ways:
            self.cuts.setdefault(way, set()).add(self.act)
        self.site.cut(*ways)

    def uncut(self, *ways):
        opened = [way for way in ways if self.cuts.get(way) == {self.act}]
        for way in ways:
            self.cuts.get(way, set()).discard(self.act)
        if opened and self.site.uncut:
            self.site.uncut(*opened)
        elif opened:
            self.again()

    def shape(self, *way, **what):
        shapes = self.shapes.setdefault(way, {})
        shapes.pop(self.act, None)
        shapes[self.act] = what
        self.site.shape(*way, **what)

    def unshape(self, *ways):
        for way in ways:
            shapes = self.shapes.get(way, {})
            if shapes.pop(self.act, None) is not None:
                self.site.shape(*way, **self.shape_of(shapes))

    @staticmethod
    def shape_of(shapes):
        """Of a good link, where nothing shapes it any more."""
        return list(shapes.values())[-1] if shapes else {}

    def again(self):
        """The links as they are to be now, of a site that mends all or nothing: what is cut is
        open for a moment."""
        self.site.mend()
        cut = sorted(way for way, acts in self.cuts.items() if acts)
        if cut:
            self.site.cut(*cut)
        for way, shapes in self.shapes.items():
            if shapes:
                self.site.shape(*way, **self.shape_of(shapes))

    # The whole.

    def run(self, plan):
        """Everything, and heals it."""
        self.site.seed = plan.seed
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
            if is_do:
                self.do(act)
            elif act in self.lasting:
                self.say(f"over: {act.text}")
                self.undo(act)
        for _, _, act, is_do in due:
            self.harm[act.name].late += is_do
        time.sleep(max(0, self.began + plan.heal_s - time.monotonic()))
        self.heal(plan)

    def do(self, act):
        self.say(act.text)
        self.act = act
        harm = self.harm[act.name]
        if act.do(self) is False:
            harm.misses += 1
            self.say(f"nothing to harm: {act.text}")
            return
        harm.hits += 1
        if act.asks:
            self.asked[act.asks] += 1
        if act.undo:
            self.lasting.add(act)

    def undo(self, act):
        self.act = act
        self.lasting.discard(act)
        act.undo(self)

    def heal(self, plan):
        """Nothing is wrong any more that a person would have to mend."""
        self.say("all is healed")
        self.cuts, self.shapes = {}, {}
        self.site.mend()
        self.site.arbiter_cont()
        for node in self.rng.sample((plan.roles.primary, plan.roles.standby), 2):
            for what in ("state", "log"):
                if f"full-{what}" in self.site.can:
                    node.disk_free(what)
            node.thaw()
            node.boot()
            node.start_colod()
        for _, act in plan.steps:
            if act.undo:
                self.undo(act)
