#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows F01-F08: programs and hosts that die, stand still, and come back.

What tests/pairs/test_pair.py shows of them already is not here: matrix.py names it."""
import hashlib
import os
import time

from rows import (LAN_CUT, PATIENT, QUIET_S, REPL_CUT, bed, check, hosts, main, note,
                  visitors)

WRITES_A_SECOND = 100
CHANGES = {"holding", "solo", "promoting", "joining", "fenced", "secondary-lost"}


class Image:
    """A host's copy of the guest's disk, as it was at one time."""

    def __init__(self, host):
        self.path = host.disk
        self.times = os.stat(self.path).st_mtime_ns
        with open(self.path, "rb") as file:
            self.digest = hashlib.sha256(file.read()).hexdigest()

    def __eq__(self, other):
        return (self.times, self.digest) == (other.times, other.digest)

    def __str__(self):
        return f"{self.path}: {self.digest[:16]}, last written at {self.times}"


def ask(world, line):
    answer = visitors.ask_guest(world.network, line)
    if not (answer or "").startswith("ok"):
        raise RuntimeError(f"the guest says to {line!r}: {answer}")
    return dict(word.split("=", 1) for word in answer.split() if "=" in word)


def journal_is_whole(world, what):
    """Every slot of the guest's disk that was written holds what was written there."""
    ask(world, "blkbg 0")
    found = ask(world, "blkcheck")
    check(f"{what}: the guest finds on its disk what it wrote there",
          found["bad"] == "0" and int(found["slots"]) > 0, found)


# F03, F04.


def stands_still(host):
    """Every program of it."""
    for pid in host.pids():
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rsplit(")", 1)[1].split()[0] != "T":
                return False
    return True


def a_short_stop_is_nothing(world):
    """A fifth of the timeout, on either side, over and over."""
    primary, standby = world.protected(**PATIENT)
    stopped_s = world.timeout_s() / 5
    for host in (primary, standby):
        what = f"{host.name} was stopped for {stopped_s} s of {world.timeout_s()} again and again"
        before = [(each, each.last_event()) for each in (primary, standby)]
        stood = 0
        for _ in range(bed.count(3, 50)):
            host.freeze()
            time.sleep(stopped_s)
            stood += stands_still(host)
            host.thaw()
            time.sleep(0.5)
        check(f"{what}: so it was", stood == bed.count(3, 50), stood)
        check(f"{what}: the guest is heard", world.echo.is_heard(), world.states())
        time.sleep(QUIET_S)
        told = [name for each, number in before for name in each.events_since(number)]
        check(f"{what}: nobody's role changes, nor is the standby lost",
              not CHANGES & set(told), told)
        check(f"{what}: it is where it was", world.pair.is_protected(0)
              and world.pair.primary is primary, world.states())
        world.well(what, primary)


def stops_among_cut_links(world, seconds):
    """The primary, its guest writing to its disk, stands still for so long; when it goes on,
    it is cut off from the other node, and has to find out by itself."""
    primary, standby = world.protected()
    ask(world, f"blkbg {WRITES_A_SECOND} 0")
    time.sleep(1)
    with world.outage(f"the primary stops for {seconds} s"):
        primary.freeze()
        began = time.monotonic()
        check(f"the primary stops for {seconds} s: the standby goes on",
              standby.is_in("solo") and world.echo.is_heard(), world.states())
    world.network.cut(*REPL_CUT, *LAN_CUT)
    time.sleep(max(0, began + seconds - time.monotonic()))
    image = Image(primary)
    primary.thaw()
    check("when it goes on, the arbiter tells it that it was overtaken",
          primary.is_in("fenced", "joining", "waiting"), world.states())
    check("its guest is ended, or rests", hosts.eventually(
        lambda: not primary.must("status")["role"] == "primary"), world.states())
    now = Image(primary)
    note("what it wrote to its own copy of the disk after it went on: "
         + ("nothing" if now == image else "some, to a copy that counts no more"))
    time.sleep(QUIET_S)
    later = Image(primary)
    check("from then on nothing is written to its disk", later == now, f"{now}\n{later}")
    world.unharmed(f"the primary stopped for {seconds} s, and went on alone", primary, standby)
    world.network.mend()
    world.well(f"the primary stopped for {seconds} s", primary, standby)
    journal_is_whole(world, "after that")
    copies_are_equal(world, "after that")


def copies_are_equal(world, what):
    """The guest's disk rests: both hosts come to have the same."""
    ask(world, "blkflush 0")
    same = hosts.eventually(lambda: len({Image(host).digest for host in world.pair.hosts}) == 1)
    check(f"{what}: both copies of the disk become the same", same,
          [str(Image(host)) for host in world.pair.hosts])


def a_primary_stops_and_goes_on(world):
    for seconds in (2, 10, 60) if bed.LONG else (2, 10):
        stops_among_cut_links(world, seconds)


def a_standby_stops_and_goes_on_cut_off(world):
    """It must not take the silence that it finds for the primary's death."""
    primary, standby = world.protected()
    before = standby.last_event()
    with world.outage("all of the standby is stopped"):
        standby.freeze()
        check("all of the standby is stopped: the primary goes on",
              primary.is_in("solo") and world.echo.is_heard(), world.states())
    world.network.cut(*REPL_CUT, *LAN_CUT)
    time.sleep(1)
    standby.thaw()
    check("when it goes on, among cut links, it is not promoted", standby.is_in(
        "joining", "fenced", "waiting") and standby.state != "solo", world.states())
    time.sleep(QUIET_S)
    told = standby.events_since(before)
    check("and it never was", standby.must("status")["role"] != "primary"
          and "solo" not in told, told)
    world.unharmed("a standby went on among cut links", primary)
    world.network.mend()
    world.well("a standby stopped, and went on among cut links", primary)


# F06, F07.


def both_lose_power_after_a_failover(world):
    """The newer copy is the one of the node that was promoted."""
    primary, standby = world.protected()
    with world.outage("the primary loses power"):
        primary.power_off()
        check("the primary loses power: the standby goes on", standby.is_in("solo")
              and world.echo.is_heard(), world.states())
    check("and says when all of the guest's disk is safe there", hosts.eventually(
        lambda: "durable" in dict(standby.events())), standby.events())
    standby.power_off()
    world.end_visit()
    turns = len(world.listener.turns)
    primary.boot()
    check("then it loses power too; the first one comes back alone: it waits",
          primary.is_in("waiting")
          and not hosts.eventually(lambda: primary.state != "waiting", 2 * QUIET_S),
          world.states())
    check("it names the other one", standby.name in str(primary.status()["reason"]),
          primary.status())
    check("and nobody was heard", len(world.listener.turns) == turns,
          world.listener.turns[turns:])
    standby.boot()
    check("the other one comes back: protected, by its copy", world.pair.is_protected()
          and world.pair.primary is standby, world.states())
    world.visit()
    check("the guest is heard", world.talk.goes_on() and world.echo.is_heard())


# F08.


def a_guest_that_panics_is_not_followed(world):
    """A fault of the guest's own is on both nodes: it is told, and nobody takes over."""
    primary, standby = world.protected()
    before = [host.last_event() for host in (primary, standby)]
    world.end_visit()
    visitors.ask_guest(world.network, "panic", 1)
    check("the guest panics: that is an event", hosts.eventually(
        lambda: "panic" in primary.events_since(before[0])), world.states())
    time.sleep(QUIET_S)
    told = primary.events_since(before[0]) + standby.events_since(before[1])
    check("and nobody takes over", not {"promoting", "solo", "holding"} & set(told)
          and world.pair.primary is primary, told)
    begin_again(world, primary)


def a_guest_that_hangs_is_not_followed(world):
    """It computes for ever, on both nodes, and answers to nobody."""
    primary, standby = world.protected()
    before = [host.last_event() for host in (primary, standby)]
    world.end_visit()
    visitors.ask_guest(world.network, f"compute {1 << 62}", 1)
    time.sleep(2 * QUIET_S)
    told = primary.events_since(before[0]) + standby.events_since(before[1])
    check("the guest hangs, on both nodes: nobody takes over",
          not {"promoting", "solo", "holding"} & set(told) and world.pair.is_protected()
          and world.pair.primary is primary, told)
    begin_again(world, primary)


def begin_again(world, primary):
    stopped = primary.colo("stop", "--force")
    check("colo stop --force ends it on both nodes", stopped.status == 0 and all(
        host.is_in("stopped") for host in world.pair.hosts), f"{stopped}\n{world.states()}")
    started = primary.colo("start")
    check("colo start begins again", started.status == 0 and world.pair.is_protected(),
          f"{started}\n{world.states()}")
    world.visit()
    check("and the guest is heard", world.talk.goes_on() and world.echo.is_heard())


TESTS = [
    a_short_stop_is_nothing,
    a_primary_stops_and_goes_on,
    a_standby_stops_and_goes_on_cut_off,
    both_lose_power_after_a_failover,
    a_guest_that_panics_is_not_followed,
    a_guest_that_hangs_is_not_followed,
]

if __name__ == "__main__":
    main(TESTS)
