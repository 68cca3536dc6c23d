#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness' judge finds what is wrong after a run, and what has a reason no fault:
with a site played here that does all right, or one thing wrong."""
import os
import sys
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import failovers  # noqa: E402
import grants  # noqa: E402
import judge  # noqa: E402
import misfortunes  # noqa: E402
import site_base  # noqa: E402
from bed import check, verdict  # noqa: E402

KEY = b"0123456789abcdef"
ALPHA, BETA = frozenset(["alpha"]), frozenset(["beta"])


class Node:
    def __init__(self, name, role):
        self.name, self.role, self.generation = name, role, 4

    def status(self):
        return {"state": "protected" if self.role == "primary" else "standby",
                "role": self.role, "generation": self.generation}


class Site:
    """Says what it was told to."""

    slowness, guest_mib, timeout_s, one_clock = 1, 64, 1.0, True

    def __init__(self):
        self.nodes = self.primary, _ = Node("alpha", "primary"), Node("beta", "secondary")
        self.turns, self.seen_at, self.granted = [(0.0, "alpha")], {}, []
        self.used = {"rss_kib": 1000, "fds": 10, "threads": 3}
        self.baseline = {(role, program): dict(self.used) for role in ("primary", "standby")
                         for program in site_base.PROGRAMS}
        self.found = b"nothing to see"
        self.number = 4

    def other(self, node):
        return self.nodes[node is self.nodes[0]]

    def protected(self):
        return True

    def generation(self):
        return self.number

    def speakers(self):
        return self.turns

    def unheard(self):
        return 0

    def grants(self, since):
        return [grant for grant in self.granted if grant.revision > since]

    def revision_at(self, turn):
        return self.seen_at.get(turn)

    def usage(self):
        return {node.name: {program: self.used for program in site_base.PROGRAMS}
                for node in self.nodes}

    def secrets(self):
        return [KEY]

    def artefacts(self):
        yield "a log", self.found

    def clients_heard(self):
        return judge.JOURNAL


def plan_of(*costs):
    """A plan with acts that cost these nodes' copies."""
    acts = [types.SimpleNamespace(costs=frozenset(each)) for each in costs]
    return types.SimpleNamespace(steps=[(0.0, act) for act in acts],
                                 costs=lambda: frozenset().union(*costs))


def judge_of(site, names=(), costs=(ALPHA,), stalled_s=0.0):
    look = judge.Judge(site, 1, "/nowhere")
    look.roles, look.plan = misfortunes.Roles(*site.nodes), plan_of(*costs)
    look.result.names = list(names)
    look.generation, look.revision, look.turn, look.settled = 4, 10, 0, None
    look.stalled_s = stalled_s
    return look


def judged(site, generation=4, **how):
    """What is found, of a site that was seen as it was."""
    look = judge_of(site, **how)
    look.generation = generation
    look.judge_speakers()
    look.judge_cost()
    look.judge_usage()
    look.judge_traces()
    return look.result.violations


def begins(found, *properties):
    return [text[:3].strip(":") for text in found] == list(properties)


def what_is_wrong_is_found():
    site = Site()
    check("a pair that is well has no findings", not judged(site), judged(site))
    check("a generation that goes back is found", "P4: generation 4 after 6" in judged(
        site, generation=6), judged(site, generation=6))
    for key, value in (("fds", 10 + judge.MORE_FDS + 1),
                       ("threads", 3 + judge.MORE_THREADS + 1), ("rss_kib", 1 << 20)):
        site.used = dict(site.used, **{key: value})
        check(f"too many {key} are found", begins(judged(site), "P10"), judged(site))
        site.used = {"rss_kib": 1000, "fds": 10, "threads": 3}
    for secret in (KEY, judge.JOURNAL):
        site.found = b"... " + secret + b" ..."
        check(f"a secret is found: {secret.decode()}", begins(judged(site), "P11"))
    site.found = b"... verify: checkpoint 7: page 3 differs\n..."
    check("copies that are not equal are found", judged(site) == [
        "P7: a log: verify: checkpoint 7: page 3 differs"], judged(site))


def granted(*owners, generation=5, protects=False):
    """One grant after the other; with the protection after the last."""
    found = [grants.Grant(11 + i, generation + i, owner) for i, owner in enumerate(owners)]
    return found + ([found[-1]._replace(revision=99, owner=None)] if protects else [])


def who_speaks_has_a_grant():
    def wrong(who, owners, revisions=None):
        return grants.unearned(who.split(), granted(*owners.split()), revisions)

    for who, owners, what in (("a", "", "nobody else speaks"),
                              ("a b", "b", "who was granted it speaks"),
                              ("a b a", "b a", "one after the other speaks"),
                              ("a b", "a b a b", "not all that was granted was heard"),
                              ("a b a", "b b a", "one of them was granted it twice")):
        check(f"all is well where {what}", not wrong(who, owners), wrong(who, owners))
    for who, owners, what in (("a b", "", "nothing was granted"),
                              ("a b", "a a", "another one has new generations"),
                              ("a b a", "a a b", "an old one's frame comes late"),
                              ("a b a b", "b", "two speak in turn")):
        check(f"it is found where {what}", wrong(who, owners))
    check("of a new pair the first one needs a grant as well",
          not grants.unearned([None, "a"], granted("a"))
          and grants.unearned([None, "a"], granted("b")))
    check("who speaks before the grant is found", wrong("a b a", "b a", [10, 11, 11]))
    check("and who speaks after it, or when nobody knows, is not",
          not wrong("a b a", "b a", [10, 11, 12]) and not wrong("a b a", "b a", [10, None, 12]))
    check("generations that go back are found", grants.backwards(
        granted("a", generation=7) + granted("a", generation=6)) == "7 and then 6"
        and not grants.backwards(granted("a", "b", protects=True)))


def a_site_after_a_failover():
    site = Site()
    site.turns = [(0.0, "beta"), (1.0, "alpha")]
    site.granted = granted("alpha", protects=True)
    site.number = 5
    for node in site.nodes:
        node.generation = 5
    return site


def turns_are_judged_by_the_arbiter():
    kill = {"names": ["a program is killed"], "costs": [BETA, ALPHA]}
    site = a_site_after_a_failover()
    check("who was granted it may speak", not judged(site, **kill), judged(site, **kill))
    site.seen_at = {1: 10}
    check("not before that", begins(judged(site, **kill), "P2"), judged(site, **kill))
    check("but where the nodes may have agreed", not judged(site, **{
        **kill, "names": ["the arbiter hangs"]}))
    check("or this machine was late", not judged(site, stalled_s=0.6, **kill))
    site = a_site_after_a_failover()
    site.granted = granted("beta", protects=True)
    check("who was not granted it may not speak, nor have it in the end",
          begins(judged(site, **kill), "P2", "P4"), judged(site, **kill))
    site = a_site_after_a_failover()
    site.nodes[1].generation = 4
    check("a node with another generation is found", begins(judged(site, **kill), "P4"))
    site = a_site_after_a_failover()
    site.granted = granted("alpha", "alpha", protects=True)
    site.granted[0] = site.granted[0]._replace(generation=7)
    check("an arbiter's generation that goes back is found", "P4: the arbiter's generations "
          "are 7 and then 6" in judged(site, **kill), judged(site, **kill))


def a_failover_needs_a_reason():
    names = ["an order"]
    primary, standby = BETA, ALPHA

    def found(*costs, stalled_s=0.0):
        site = a_site_after_a_failover()
        look = judge_of(site, names, costs, stalled_s)
        look.roles = misfortunes.Roles(*site.nodes[::-1])
        look.judge_speakers()
        return look.result.violations

    for costs, what in (((primary,), "the primary may be lost"),
                        ((standby, ()), "it may be refused a grant, having lost its standby")):
        check(f"a failover has a reason where {what}", not found(*costs), found(*costs))
    for costs, what in (((standby,), "only the standby may be lost"),
                        (((), ()), "nothing costs a copy")):
        check(f"and none where {what}", begins(found(*costs), "P8"), found(*costs))
    check("but that this machine was late", not found(standby, stalled_s=0.6))


def a_death_costs_what_it_must():
    def found(outage_ms, stalled_s=0.0, **how):
        look = judge_of(Site(), **{"names": ["a program is killed"], **how})
        look.result.outage_ms, look.stalled_s = outage_ms, stalled_s
        look.judge_cost()
        return look.result.violations

    longest = judge.COST * 1000
    check("a death may cost what it costs", not found(longest), found(longest))
    check("and no more", begins(found(longest + 1), "P8"))
    check("but where this machine was late", not found(longest + 1, stalled_s=0.1))
    check("or more than that happened", not found(longest + 1, costs=[ALPHA, BETA])
          and not found(longest + 1, names=["all links are cut"]))


def a_person_is_needed_where_the_plan_leads_there():
    for text, names, costs, helped in (
            ("it is stopped", ["a node stands down"], [ALPHA], "start"),
            ("it is stopped", ["a program is killed"], [ALPHA], ""),
            ("not protected: the other node is stopped", ["a node stands down"], [ALPHA], ""),
            ("this node was promoted and ended before all was on its disks", [], [ALPHA, BETA],
             "promote --force --yes"),
            ("this node was promoted and ended before all was on its disks", [], [ALPHA], "")):
        site = Site()
        said = []
        site.wait_protected = lambda _, said=said: bool(said)
        for node in site.nodes:
            node.status = lambda text=text: {"state": "waiting", "reason": text}
            node.colo = lambda *words, seconds, said=said: said.append(" ".join(words))
        look = judge_of(site, names, costs)
        look.course = types.SimpleNamespace(say=lambda text: None)
        found = look.is_helped()
        check(f"where {' and '.join(names) or 'both are lost'} and a node says that {text}, "
              f"{'a person does ' + helped if helped else 'nobody does anything'}"
              f" ({len(costs)} copies lost)", found == bool(helped) and
              set(said) == ({helped} if helped else set()), (found, said))


def what_grew_in_a_row_of_failovers_is_found():
    before = {"rss_kib": 100000, "fds": 10, "threads": 3}
    check("programs that are as they were are alike",
          failovers.alike("colod", before, dict(before, rss_kib=101000 + failovers.MORE_KIB)))
    for change in ({"fds": 11}, {"threads": 4}, {"threads": 2},
                   {"rss_kib": 101001 + failovers.MORE_KIB}):
        check(f"one that is not is found: {change}",
              not failovers.alike("colod", before, dict(before, **change)))
    check("one that is gone, too", not failovers.alike("colod", before, None))


def begun_anew(costs=(ALPHA, BETA), forced=False, contradictions=(), lost=()):
    """What is found where the guest was begun from a disk at 100.0 s."""
    site = Site()
    site.nodes[0].events = lambda since: [
        site_base.Event(1, "solo", "waiting -> solo on begin", 100.0)]
    site.nodes[1].events = lambda since: []
    look = judge_of(site, costs=costs)
    look.events, look.forced = {"alpha": 0, "beta": 0}, forced
    look.visit = types.SimpleNamespace(kill=lambda: [], mark=lambda name: {},
                                       contradictions=lambda: contradictions,
                                       directory="/nowhere")
    kept, judge.visit.verify = judge.visit.verify, lambda *_: list(lost)
    start, judge.visit.Visit = judge.visit.Visit, lambda *_: None
    look.judge_anew()
    judge.visit.verify, judge.visit.Visit = kept, start
    check("that a guest was begun anew is noticed", look.result.anew)
    return look.result.violations


def a_guest_begun_anew_needs_a_reason():
    check("a guest begun anew where both copies were lost is no violation", not begun_anew())
    check("one where only alpha lost its copy is found", begun_anew([ALPHA]))
    check("a record that is lost is found", begins(begun_anew(lost=["record 5"]), "P3"))
    check("but where a person chose the copy", not begun_anew(lost=["record 5"], forced=True))


def what_a_client_found_before_a_begin_is_kept():
    early = [("nonce", 99.0, "two answers")]
    late = [("nonce", 101.0, "an old count")]
    check("a contradiction from before the begin is kept",
          "two answers" in str(begun_anew(contradictions=early)))
    check("one that the begin explains is not", not begun_anew(contradictions=late))
    for workload, forced, kept in (("chain", False, True), ("journal", False, True),
                                   ("chain", True, True), ("journal", True, False)):
        found = begun_anew(contradictions=[(workload, 101.0, "no")], forced=forced)
        check(f"one of {workload} is {'kept' if kept else 'none'} whenever it was"
              + (", where a person chose the copy" if forced else ""), bool(found) == kept)


def main():
    judge.SETTLED_S = 0
    for test in (what_is_wrong_is_found, who_speaks_has_a_grant,
                 turns_are_judged_by_the_arbiter, a_failover_needs_a_reason,
                 a_death_costs_what_it_must, a_person_is_needed_where_the_plan_leads_there,
                 what_grew_in_a_row_of_failovers_is_found, a_guest_begun_anew_needs_a_reason,
                 what_a_client_found_before_a_begin_is_kept):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
