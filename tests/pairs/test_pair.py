#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole pairs: two hosts in network namespaces, colod and all that it starts, the micro-guest,
etcd, and a client with one TCP connection all the way. Misfortunes at random meet a pair in
tests/faults/run.

Whatever happens to a host, a program, a link or the arbiter: the right node goes on, nobody
else is heard, the connection lives, and the pair is protected again without a hand on it.
What each event does to the roles is tested step by step in tests/unit/test_colo_node.c; this
shows that the real parts do it.
"""
import json
import os
import threading
import time

import hosts
import visitors
from hosts import bed
from world import AT_ONCE, LAN_CUT, QUIET_S, REPL_CUT, main

check, note = bed.check, bed.note


# From cold.


def it_starts_cold_in_any_order(world):
    pair = world.new_pair()
    pair.beta.start()
    check("the second node alone waits for the first, of a pair that never ran",
          pair.beta.is_in("waiting"), world.states())
    pair.alpha.start()
    check("then the pair becomes protected", pair.is_protected(), world.states())
    check("the first node is the primary", pair.primary is pair.alpha)
    pair = world.new_pair()
    pair.alpha.start()
    check("the first node alone starts the guest, unprotected", pair.alpha.is_in("solo"),
          world.states())
    world.visit()
    check("it is heard", world.echo.is_heard())
    pair.beta.start()
    check("the second node joins, and the pair is protected", pair.is_protected(),
          world.states())


def both_hosts_lose_power_at_once(world):
    for first in (0, 1):
        primary, standby = world.protected()
        order = [(primary, standby), (standby, primary)][first]
        for host in world.pair.hosts:
            host.power_off()
        world.end_visit()
        order[0].boot()
        if order[0] is primary:
            check("both lost power, the primary comes back alone: it starts the guest",
                  primary.is_in("solo"), world.states())
        else:
            check("both lost power, the standby comes back alone: it waits",
                  standby.is_in("waiting")
                  and not hosts.eventually(lambda: standby.state != "waiting", QUIET_S),
                  world.states())
            check("and says for whom", primary.name in str(standby.status()["reason"]),
                  world.states())
        order[1].boot()
        check("the other one comes back too: protected", world.pair.is_protected(),
              world.states())
        check("by the disk of the one that was primary", world.pair.primary is primary)
        world.visit()
        check("the guest is heard", world.talk.goes_on() and world.echo.is_heard())


def a_stale_copy_is_not_started(world):
    primary, standby = world.protected()
    standby.power_off()
    check("without its standby the primary runs alone", primary.is_in("solo"),
          world.states())
    primary.power_off()
    world.end_visit()
    turns = len(world.listener.turns)
    standby.boot()
    check("the one with the older copy comes back alone: it waits",
          standby.is_in("waiting")
          and not hosts.eventually(lambda: standby.state != "waiting", 2 * QUIET_S),
          world.states())
    status = standby.status()
    check("it says which node has the newer one",
          primary.name in str(status["reason"]), status)
    refused = standby.colo("promote")
    check("it is not promoted without --force", refused.status != 0
          and "--force" in refused.errors, refused)
    check("nobody was heard all the time", len(world.listener.turns) == turns,
          world.listener.turns[turns:])
    forced = standby.colo("promote", "--force", "--yes")
    check("with --force it runs", forced.status == 0 and standby.is_in("solo"), forced)
    world.visit()
    check("and is heard", world.talk.goes_on())
    primary.boot()
    check("the other one's copy does not count any more: it joins",
          world.pair.is_protected() and world.pair.primary is standby, world.states())


# Hosts that die.


def a_host_loses_power(world):
    for _ in range(2):
        primary, standby = world.protected()
        with world.outage(f"{primary.name}, the primary, loses power"):
            primary.power_off()
            check(f"{primary.name}, the primary, loses power: {standby.name} goes on",
                  standby.is_in("solo") and world.echo.is_heard(), world.states())
        check("the TCP connection lives", world.talk.goes_on(), world.talk.error)
        primary.boot()
        world.well(f"{primary.name} lost power as primary", primary, standby)
    primary, standby = world.protected()
    with world.outage("the standby loses power"):
        standby.power_off()
        check("the standby loses power: the primary goes on", primary.is_in("solo")
              and world.echo.is_heard(), world.states())
    standby.boot()
    world.well("the standby lost power", primary)


def a_primary_freezes(world):
    primary, standby = world.protected()
    primary.freeze()
    check("all of the primary is stopped: the standby goes on",
          standby.is_in("solo") and world.echo.is_heard(), world.states())
    time.sleep(1)
    primary.thaw()
    world.well("the primary was frozen, and thawed", primary, standby)


def a_primarys_guest_freezes(world):
    primary, standby = world.protected()
    primary.freeze("colo-vm")
    check("the primary's colo-vm is stopped: the standby goes on",
          standby.is_in("solo", "syncing", "protected") and world.echo.is_heard(),
          world.states())
    world.well("the primary's colo-vm was stopped", primary, standby)


def a_standby_freezes(world):
    primary, standby = world.protected()
    standby.freeze()
    check("all of the standby is stopped: the primary goes on",
          primary.is_in("solo") and world.echo.is_heard(), world.states())
    time.sleep(1)
    standby.thaw()
    world.well("the standby was frozen, and thawed", primary)


# A host that hands over.


def an_operator_switches_over(world):
    count = bed.count(10, 100)
    for number in range(count):
        primary, standby = world.protected()
        at = (primary, standby)[number % 2]
        with world.outage(f"switch-over {number + 1}", AT_ONCE):
            done = at.colo("switchover")
            check(f"switch-over {number + 1}, asked for on {at.name}: {standby.name} has the "
                  "guest", done.status == 0
                  and hosts.eventually(lambda standby=standby: world.pair.primary is standby),
                  f"{done}\n{world.states()}")
            heard = check("and is heard", world.echo.is_heard(), world.states())
        if not heard:
            return
        world.well("a switch-over", primary, standby)


def a_comparator_is_slow_at_a_switch_over(world):
    """What the guest said here last is heard before the other node's first word, or never:
    who takes over waits for the comparator, though not for ever."""
    waits_s = 0.5  # colo-vm's patience with it
    primary, standby = world.protected()
    primary.freeze("colo-netcompare")
    order = threading.Thread(target=primary.ask, args=("switchover",), daemon=True)
    begin = time.monotonic()
    order.start()
    time.sleep(0.6 * waits_s)
    thawed = time.monotonic()
    primary.thaw("colo-netcompare")
    order.join()
    world.well("a switch-over with a comparator that stood still", primary, standby)
    first = world.listener.turns[world.turn + 1][0]
    check(f"{standby.name} did not speak before the comparator went on, nor before it had "
          "its time", first >= min(thawed, begin + waits_s), first - begin)


def a_primary_stands_down(world):
    primary, standby = world.protected()
    done = primary.colo("stand-down")
    check("the primary stands down: the standby goes on", done.status == 0
          and primary.is_in("stopped") and standby.is_in("solo") and world.echo.is_heard(),
          f"{done}\n{world.states()}")
    primary.colo("start")
    world.well("the primary stood down and started", primary, standby)


# Programs that die.


def colo_vm_is_killed(world):
    primary, standby = world.protected()
    with world.outage("the primary's colo-vm is killed", AT_ONCE):
        primary.kill("colo-vm")
        check("the primary's colo-vm is killed: the standby goes on",
              standby.is_in("solo", "syncing", "protected") and world.echo.is_heard(),
              world.states())
    world.well("the primary's colo-vm was killed", primary, standby)
    primary, standby = world.protected()
    with world.outage("the standby's colo-vm is killed", AT_ONCE):
        standby.kill("colo-vm")
        check("the standby's colo-vm is killed: the primary goes on",
              hosts.eventually(lambda: "secondary-lost" in dict(primary.events()))
              and world.echo.is_heard(), world.states())
    world.well("the standby's colo-vm was killed", primary)


def colo_netcompare_is_killed(world):
    primary, standby = world.protected()
    before = primary.last_event()
    primary.freeze("colod")  # nobody starts it again meanwhile
    primary.kill("colo-netcompare")
    check("colo-netcompare is killed: nothing is heard without it", world.is_quiet(0.5))
    primary.thaw("colod")
    check("it is started again, and the guest heard", world.echo.is_heard(),
          primary.events_since(before))
    world.well("colo-netcompare was killed", primary)
    check("nobody's role has changed",
          not {"holding", "solo"} & set(primary.events_since(before)),
          primary.events_since(before))


def colo_heartbeat_is_killed(world):
    for host in world.protected():
        primary, standby = world.protected()
        before = [each.last_event() for each in (primary, standby)]
        old = host.pids("colo-heartbeat")
        host.kill("colo-heartbeat")
        check(f"colo-heartbeat is killed on {host.name}: it is started again",
              hosts.eventually(lambda: host.pids("colo-heartbeat") not in ([], old)))
        world.well("colo-heartbeat was killed", primary)
        told = primary.events_since(before[0]) + standby.events_since(before[1])
        check("nobody's role has changed",
              not {"holding", "solo", "promoting"} & set(told), told)


def colod_is_killed(world):
    for host in world.protected():
        primary, standby = world.protected()
        other = world.pair.other(host)
        before = other.last_event()
        guest = host.pids("colo-vm")
        begin = time.monotonic()
        host.kill_colod()
        time.sleep(QUIET_S)
        note(f"longest gap {world.echo.gap_s(begin) * 1000:.0f} ms")
        check(f"colod is killed on {host.name}: the guest does not care",
              world.echo.is_heard(), world.states())
        host.start()
        world.well(f"colod was killed on {host.name}, and started", primary)
        check("the same colo-vm runs", host.pids("colo-vm") == guest)
        told = other.events_since(before)
        check("the other node's role has not changed",
              not {"holding", "solo", "promoting"} & set(told), told)


def a_colod_that_has_not_found_its_machine_yet(world):
    """Its node would seem to have none: who believes that may start another copy."""
    primary, standby = world.protected()
    standby.kill_colod()
    standby.freeze("colo-vm")
    standby.start()
    begin, said = time.monotonic(), set()
    while time.monotonic() < begin + QUIET_S:
        peer = primary.status()["peer"]
        if peer["reachable"]:
            said.add(peer["state"])
        time.sleep(0.01)
    standby.thaw("colo-vm")
    check("a colod that has not found its machine yet says nothing of itself",
          said <= {"standby"}, said)
    world.well("a standby's colod was started while its colo-vm stood still", primary)


def a_primary_dies_while_the_standbys_colod_is_dead(world):
    primary, standby = world.protected()
    standby.kill_colod()
    primary.power_off()
    check("nobody goes on while the standby's colod is dead", world.is_quiet(),
          world.states())
    standby.start()
    check("it does once that is started", standby.is_in("solo") and world.echo.is_heard(),
          world.states())
    primary.boot()
    world.well("colod was dead when the primary died", primary, standby)


# Links.


def one_way_of_several_is_lost(world):
    for ways in (LAN_CUT, LAN_CUT[:1], LAN_CUT[1:]):
        primary, standby = world.protected()
        before = [host.last_event() for host in (primary, standby)]
        name = "both ways" if len(ways) == 2 else f"from {ways[0][1]} alone"
        deaf = world.pair.beta if ways[0][1] == "alpha" else world.pair.alpha
        world.network.cut(*ways)
        check(f"heartbeats over the LAN are cut, {name}: that is noticed",
              hosts.eventually(lambda deaf=deaf: [
                  path["up"] for path in deaf.status()["heartbeat"]["paths"]]
                  == [True, False]), deaf.status()["heartbeat"])
        began = before[0] if deaf is primary else before[1]
        check("and told", hosts.eventually(lambda deaf=deaf, began=began: (
            "path-lost", f"{hosts.LAN[deaf.name]}:{hosts.HEARTBEAT_PORT}")
            in deaf.told_since(began)), deaf.told_since(began))
        time.sleep(QUIET_S)
        told = primary.events_since(before[0]) + standby.events_since(before[1])
        check("nobody's role changes, and nobody takes the other for dead",
              not {"holding", "solo", "promoting", "peer-silent"} & set(told), told)
        world.network.mend()
        world.well(f"heartbeats over the LAN were cut, {name}", primary)


def the_replication_link_is_lost(world):
    for ways in (REPL_CUT, REPL_CUT[:1], REPL_CUT[1:]):
        primary, standby = world.protected()
        name = "both ways" if len(ways) == 2 else f"from {ways[0][1]} alone"
        world.network.cut(*ways)
        check(f"the replication link is cut, {name}: the primary stays",
              primary.is_in("solo") and world.echo.is_heard(), world.states())
        check("the standby gives up what it has", standby.is_in("joining"), world.states())
        time.sleep(QUIET_S)
        world.network.mend()
        world.well(f"the replication link was cut, {name}", primary)


def one_connection_of_the_replication_link_is_lost(world):
    primary, standby = world.protected()
    before = [host.last_event() for host in (primary, standby)]
    world.network.cut_port(hosts.CONTROL_PORT)
    check("the two colods are cut from each other: that is noticed",
          hosts.eventually(lambda: not primary.status()["peer"]["reachable"]))
    time.sleep(QUIET_S)
    told = primary.events_since(before[0]) + standby.events_since(before[1])
    check("nobody's role changes", not {"holding", "solo", "promoting"} & set(told), told)
    world.network.mend()
    world.well("the two colods were cut from each other", primary)
    primary, standby = world.protected()
    world.network.cut_port(hosts.REPLICATION_PORT)
    check("the two colo-vms are cut from each other: the primary stays",
          primary.is_in("solo") and world.echo.is_heard(), world.states())
    world.network.mend()
    world.well("the two colo-vms were cut from each other", primary)


def all_links_are_lost_one_way(world):
    for deaf in (0, 1):
        primary, standby = world.protected()
        by_role = (primary, standby)
        source, target = by_role[1 - deaf].name, by_role[deaf].name
        what = f"all that {source} sends to {target} is lost"
        world.network.cut(("repl", source, target), ("lan", source, target))
        winner = hosts.eventually(lambda by_role=by_role: next(
            (host for host in by_role if host.state == "solo"), None))
        check(f"{what}: one goes on", winner is not None and world.echo.is_heard(),
              world.states())
        loser = world.pair.other(winner)
        check("the other one is not alone",
              not hosts.eventually(lambda loser=loser: loser.state == "solo", QUIET_S))
        world.network.mend()
        world.well(what, *([primary] if winner is primary else [primary, standby]))


def all_links_are_lost(world):
    """Between the nodes; the arbiter is reached by both, one or neither of them."""
    for reached in (("primary", "standby"), ("primary",), ("standby",), ()):
        primary, standby = world.protected()
        by_name = {"primary": primary, "standby": standby}
        ways = REPL_CUT + LAN_CUT
        for name, host in by_name.items():
            if name not in reached:
                ways += [("lan", host.name, "client"), ("lan", "client", host.name)]
        who = {2: "both", 0: "neither"}.get(len(reached)) or f"the {reached[0]}"
        what = f"all links are cut, {who} reaches the arbiter"
        world.network.cut(*ways)
        speakers = [primary]
        if not reached:
            hosts.eventually(lambda: primary.state == "holding"
                             and standby.state == "promoting")
            check(f"{what}: nobody speaks", world.is_quiet(), world.states())
            for host in by_name.values():
                check(f"and {host.name} says why", hosts.eventually(
                    lambda host=host: "etcd" in str(host.status()["reason"])),
                    world.states())
        else:
            winner = hosts.eventually(lambda: next(
                (host for host in by_name.values() if host.state == "solo"), None))
            if len(reached) == 1:
                check(f"{what}: it is the one that goes on",
                      winner is by_name[reached[0]], world.states())
            else:
                check(f"{what}: one goes on", winner is not None, world.states())
            speakers = [primary] if winner is primary else [primary, standby]
            check("it is heard", world.echo.is_heard(), world.states())
            loser = world.pair.other(winner)
            check("the other one is not alone",
                  not hosts.eventually(lambda: loser.state == "solo", QUIET_S))
        world.network.mend()
        hosts.eventually(world.pair.is_protected)
        if not reached and world.pair.primary is standby:
            speakers = [primary, standby]
        world.well(what, *speakers)


# Who decides.


def without_an_arbiter_the_survivor_goes_on(world):
    sections = {"arbiter": {"type": "none", "survivor": "alpha"}}
    primary, standby = world.protected(**sections)
    check("the first node is the primary", primary is world.pair.alpha)
    standby.power_off()
    check("the standby dies: the survivor goes on", primary.is_in("solo")
          and world.echo.is_heard(), world.states())
    standby.boot()
    world.well("the standby died, without an arbiter", primary)
    primary, standby = world.protected(**sections)
    primary.power_off()
    check("the survivor dies: nobody goes on", standby.is_in("promoting")
          and world.is_quiet(), world.states())
    check("the standby says what can be done",
          "--force" in str(standby.status()["advice"]) + str(standby.status()["reason"]),
          standby.status())
    forced = standby.colo("promote", "--force", "--yes")
    check("an operator forces it: it goes on", forced.status == 0 and world.echo.is_heard(),
          forced)
    primary.boot()
    world.well("an operator promoted the standby", primary, standby)


def an_operator_decides(world):
    primary, standby = world.protected(arbiter={"type": "manual"})
    primary.power_off()
    check("the primary dies: nobody goes on", standby.is_in("promoting")
          and world.is_quiet(), world.states())
    refused = standby.colo("promote")
    check("not without --force", refused.status != 0 and "--force" in refused.errors,
          refused)
    forced = standby.colo("promote", "--force", "--yes")
    check("with --force it goes on", forced.status == 0 and world.echo.is_heard(), forced)
    primary.boot()
    world.well("an operator decided", primary, standby)


AGENT = """#!/usr/bin/env python3
import os, sys, time
words = dict(line.split("=", 1) for line in sys.stdin.read().split())
order = os.path.join({directory!r}, words["plug"])
if words["action"] == "off":
    open(order + ".new", "w").close()
    os.rename(order + ".new", order + ".off")
    while os.path.exists(order + ".off"):
        time.sleep(0.01)
"""


class Fence:
    """Powers hosts off where an agent leaves a file."""

    def __init__(self, world):
        self.world = world
        self.dir = os.path.join(world.network.dir, "fence")
        os.makedirs(self.dir, exist_ok=True)
        self.agent = os.path.join(self.dir, "agent")
        with open(os.open(self.agent, os.O_WRONLY | os.O_CREAT, 0o755), "w") as file:
            file.write(AGENT.format(directory=self.dir))
        self.shot = []

    def sections(self):
        return {"arbiter": {"type": "fence", "agent": self.agent},
                "node alpha": {"plug": "alpha"}, "node beta": {"plug": "beta"}}

    def shoot(self):
        """Does what it is told once, within a while."""
        def order():
            return next((host for host in self.world.pair.hosts
                         if os.path.exists(self.path(host))), None)

        host = hosts.eventually(order)
        if host:
            if host.powered:
                host.power_off()
            self.shot.append(host)
            os.unlink(self.path(host))
        return host

    def path(self, host):
        return os.path.join(self.dir, host.name + ".off")


def a_fence_agent_decides(world):
    fence = Fence(world)
    primary, standby = world.protected(**fence.sections())
    primary.freeze()
    check("the primary freezes: it is shot", fence.shoot() is primary, world.states())
    check("then the standby goes on", standby.is_in("solo") and world.echo.is_heard(),
          world.states())
    primary.boot()
    world.well("the primary was fenced", primary, standby)
    primary, standby = world.protected(**fence.sections())
    world.network.cut(*REPL_CUT)
    check("the replication link is cut: the standby is shot", fence.shoot() is standby,
          world.states())
    check("then the primary goes on", primary.is_in("solo") and world.echo.is_heard(),
          world.states())
    world.network.mend()
    standby.boot()
    world.well("the standby was fenced", primary)
    check("nobody else was shot", len(fence.shot) == 2, fence.shot)


# What an operator or the guest does.


def the_guest_powers_itself_off(world):
    primary, standby = world.protected()
    world.end_visit()
    visitors.ask_guest(world.network, "poweroff", 1)
    check("the guest powers itself off: both nodes stop", all(
        host.is_in("stopped") for host in (primary, standby)), world.states())
    time.sleep(QUIET_S)
    check("and stay so", primary.state == standby.state == "stopped", world.states())
    for host in (primary, standby):
        host.kill_colod()
        host.start()
    time.sleep(QUIET_S)
    check("also when colod is started anew",
          all(host.is_in("stopped") for host in (primary, standby)), world.states())
    started = standby.colo("start")
    check("colo start begins again, on either node", started.status == 0
          and world.pair.is_protected(), f"{started}\n{world.states()}")
    check("with the disk of the one that ran last", world.pair.primary is primary,
          world.states())


def the_guest_is_stopped(world):
    primary, standby = world.protected()
    world.end_visit()
    stopped = primary.colo("stop", "--force")
    check("colo stop --force: both nodes stop", stopped.status == 0 and all(
        host.is_in("stopped") for host in (primary, standby)),
        f"{stopped}\n{world.states()}")
    started = primary.colo("start")
    check("colo start begins again", started.status == 0 and world.pair.is_protected(),
          f"{started}\n{world.states()}")


def a_standby_stands_down(world):
    primary, standby = world.protected()
    done = standby.colo("stand-down")
    check("the standby stands down: the primary goes on alone", done.status == 0
          and standby.is_in("stopped") and primary.is_in("solo"),
          f"{done}\n{world.states()}")
    refused = primary.colo("stand-down")
    check("the primary does not, then", refused.status != 0 and primary.state == "solo",
          refused)
    standby.colo("start")
    world.well("the standby stood down and started", primary)


def pair_files_that_differ_are_shown(world):
    pair = world.new_pair()
    pair.beta.file = os.path.join(pair.beta.dir, "web.conf")
    other = {name: dict(keys) for name, keys in pair.sections.items()}
    other["vm"]["memory"] = "128MiB"
    pair.write(pair.beta.file, other)
    pair.start()
    check("the first node runs the guest", pair.alpha.is_in("solo"), world.states())
    shown = hosts.eventually(lambda: pair.alpha.status()["peer"]["differs"])
    check("the status shows what differs", shown and "memory" in shown
          and "128" in shown and "64" in shown, shown)
    check("the pair is not protected", not pair.is_protected(QUIET_S)
          and "differ" in str(pair.alpha.status()["reason"]), world.states())
    pair.beta.kill_colod()
    for pid in pair.beta.pids():
        hosts.send(pid, 9)
    pair.beta.file = pair.file
    pair.beta.start()
    check("it is, once they are the same", pair.is_protected(), world.states())


# What it says, whatever happens.


def ask_status(host):
    """The worst of 20 answers, in ms."""
    worst = 0
    for _ in range(20):
        begin = time.monotonic()
        host.must("status")
        worst = max(worst, time.monotonic() - begin)
        time.sleep(0.01)
    return worst * 1000


def status_is_answered_at_once(world):
    primary, standby = world.protected()
    figures = {"all is well": ask_status(primary)}
    shown = primary.colo("status", "--json")
    check("colo status --json says that all is well, and so does its exit status",
          shown.status == 0 and json.loads(shown.output)["protected"] is True, shown)
    world.network.etcd_frozen(True)
    standby.power_off()  # so that it asks, too
    figures["the arbiter hangs"] = max(ask_status(primary) for _ in range(5))
    check("while the arbiter hangs nobody speaks", world.is_quiet(0.5), world.states())
    world.network.etcd_frozen(False)
    check("and then the primary goes on", primary.is_in("solo") and world.echo.is_heard(),
          world.states())
    standby.boot()
    world.well("the arbiter hung", primary)
    primary, standby = world.protected()
    standby.freeze()
    figures["the peer is frozen"] = max(ask_status(primary) for _ in range(5))
    primary.is_in("solo")
    standby.thaw()
    world.well("the peer was frozen", primary)
    primary, standby = world.protected()
    primary.freeze("colo-vm")
    figures["colo-vm is stopped"] = ask_status(primary)
    world.well("colo-vm was stopped", primary, standby)
    for what, worst in figures.items():
        note(f"status, {what}: the slowest of its answers took {worst:.1f} ms")
        check(f"status is answered while {what}", worst < 1000, worst)


TESTS = [
    it_starts_cold_in_any_order,
    a_host_loses_power,
    an_operator_switches_over,
    a_comparator_is_slow_at_a_switch_over,
    a_primary_stands_down,
    colo_vm_is_killed,
    colo_netcompare_is_killed,
    colo_heartbeat_is_killed,
    colod_is_killed,
    a_colod_that_has_not_found_its_machine_yet,
    a_primary_dies_while_the_standbys_colod_is_dead,
    a_primary_freezes,
    a_primarys_guest_freezes,
    a_standby_freezes,
    one_way_of_several_is_lost,
    the_replication_link_is_lost,
    one_connection_of_the_replication_link_is_lost,
    all_links_are_lost_one_way,
    all_links_are_lost,
    status_is_answered_at_once,
    a_standby_stands_down,
    both_hosts_lose_power_at_once,
    a_stale_copy_is_not_started,
    the_guest_powers_itself_off,
    the_guest_is_stopped,
    pair_files_that_differ_are_shown,
    without_an_arbiter_the_survivor_goes_on,
    an_operator_decides,
    a_fence_agent_decides,
]


main(TESTS)
