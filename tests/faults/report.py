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
    seconds: float = 0.0

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
        return text

    def to_json(self):
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line):
        return cls(**json.loads(line))


def middle(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


def summary(results, replay):
    """Lines for the end; `replay` gives the command for a seed."""
    counts = collections.Counter(name for result in results for name in set(result.names))
    lines = [f"{len(results)} runs, seeds {min(r.seed for r in results)} to "
             f"{max(r.seed for r in results)}"] if results else ["no runs"]
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"  {count:5} {name}")
    outages = [result.outage_ms for result in results]
    lines.append(f"outages: median {middle(outages, 0.5)} ms, of 100 runs 99 below "
                 f"{middle(outages, 0.99)} ms, longest {max(outages, default=0)} ms; "
                 f"{sum(result.failovers for result in results)} failovers")
    anew = [result.seed for result in results if result.anew]
    lines.append(f"the guest was begun anew in {len(anew)} runs, where both copies were hit")
    proofs = [result for result in results if result.proof]
    lines.append(f"a primary was killed because its status said protected: {len(proofs)} times")
    persons = collections.Counter(result.person for result in results if result.person)
    lines.append(f"a person was needed in {sum(persons.values())} runs")
    lines += [f"  {count:5} {person}" for person, count in persons.most_common()]
    bad = [result for result in results if result.violations or result.broken]
    lines.append(f"violations: {sum(bool(result.violations) for result in results)} runs, "
                 f"broken: {sum(bool(result.broken) for result in results)}")
    lines += [f"  {result.verdict()} seed {result.seed}: {replay(result.seed)}"
              for result in bad]
    return lines
