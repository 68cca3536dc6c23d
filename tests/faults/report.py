# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run came to, a line each, and what all of them came to."""
import collections
import dataclasses
import json


@dataclasses.dataclass
class Result:
    """Of one run. `violations` begin with the property (P1..P12) or with "client"."""

    seed: int
    plan: str = ""
    names: list = dataclasses.field(default_factory=list)  # of its misfortunes
    outage_ms: int = 0
    stalled_ms: int = 0  # how long this machine held up a program that had work to do
    failovers: int = 0  # how often another node took the word
    anew: bool = False  # the guest was begun anew: both copies were hit
    person: str = ""  # what a person had to do, and why
    proof: str = ""  # how a protected pair's primary was killed at the end
    violations: list = dataclasses.field(default_factory=list)
    broken: str = ""  # why the harness itself could not go on
    kept: str = ""
    unkept: str = ""  # what could not be kept of it, and why
    seconds: float = 0.0
    # By misfortune: how often it did harm, found nothing to harm, and came too late.
    harm: dict = dataclasses.field(default_factory=dict)
    asked: dict = dataclasses.field(default_factory=dict)  # how often a property was asked
    before: list = dataclasses.field(default_factory=list)  # the seeds that its pair had before

    def verdict(self):
        if self.broken:
            return "BROKEN"
        if self.violations:
            return "VIOLATION"
        return "person" if self.person else "anew" if self.anew else "good"

    def line(self):
        text = (f"seed {self.seed}: {self.verdict()}, outage {self.outage_ms} ms, "
                f"stalls {self.stalled_ms} ms, {self.failovers} failovers, "
                f"{self.seconds:.1f} s: {self.plan}")
        if self.person:
            text += f"\n     a person: {self.person}"
        for violation in self.violations:
            text += f"\n     {violation}"
        if self.broken:
            text += f"\n     the harness: {self.broken}"
        if self.kept:
            text += f"\n     kept in {self.kept}"
        if self.unkept:
            text += f"\n     not kept: {self.unkept}"
        return text

    def to_json(self):
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line):
        return cls(**json.loads(line))


def middle(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


def harm_done(results):
    """A line for each misfortune, those of the most runs first."""
    runs, harm = collections.Counter(), collections.defaultdict(lambda: (0, 0, 0))
    for result in results:
        runs.update(set(result.names))
        for name, counts in result.harm.items():
            harm[name] = tuple(map(sum, zip(harm[name], counts)))
    return [f"  {count:5} " + " ".join(f"{number:6}" for number in harm[name]) + f"  {name}"
            for name, count in sorted(runs.items(), key=lambda item: (-item[1], item[0]))]


def summary(results, replay):
    """Lines for the end; `replay` gives the command for runs with these seeds, one after the
    other on one pair."""
    lines = [f"{len(results)} runs, seeds {min(r.seed for r in results)} to "
             f"{max(r.seed for r in results)}"] if results else ["no runs"]
    lines.append("   runs   harm nothing   late  (harm: how often it did any; nothing: there was "
                 "none to do; late: all was healed before)")
    lines += harm_done(results)
    outages = [result.outage_ms for result in results]
    lines.append(f"outages: median {middle(outages, 0.5)} ms, of 100 runs 99 below "
                 f"{middle(outages, 0.99)} ms, longest {max(outages, default=0)} ms; "
                 f"{sum(result.failovers for result in results)} failovers")
    anew = [result.seed for result in results if result.anew]
    lines.append(f"the guest was begun anew in {len(anew)} runs, where both copies were hit")
    proofs = [result for result in results if result.proof]
    lines.append(f"a primary was killed because its status said protected: {len(proofs)} times")
    asked = sum((collections.Counter(result.asked) for result in results),
                collections.Counter(P9=0))
    lines.append(f"a comparator was away from a guest that talked (P9): {asked['P9']} times")
    persons = collections.Counter(result.person for result in results if result.person)
    lines.append(f"a person was needed in {sum(persons.values())} runs")
    lines += [f"  {count:5} {person}" for person, count in persons.most_common()]
    bad = [result for result in results if result.violations or result.broken]
    lines.append(f"violations: {sum(bool(result.violations) for result in results)} runs, "
                 f"broken: {sum(bool(result.broken) for result in results)}")
    for result in bad:
        number = len(result.before) + 1
        lines.append(f"  {result.verdict()} seed {result.seed}, run {number} of its pair: "
                     + replay([result.seed]))
        if result.before:
            lines.append("    and as its pair had it: " + replay([*result.before, result.seed]))
    return lines
