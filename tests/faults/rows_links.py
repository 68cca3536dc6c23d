#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows F09-F20: links that are cut, bad, slow, or come and go.

What tests/pairs/test_pair.py shows of them already is not here: matrix.py names it. The
switch's own kernel loses, changes and polices packets here; what it cannot do (delay, reorder)
is done by the testbed's rows and by the random runs' relay."""
import contextlib
import os
import random
import re
import time

from rows import LAN_CUT, QUIET_S, REPL_CUT, bed, check, hosts, main, note, visitors

GUEST_MIB = 64  # as tests/pairs/hosts.py makes it
# Of a colo-vm in memory: a guest's, a standby's copy of what its guest changed, and all queues.
MOST_KIB = 2 * (GUEST_MIB << 10) + (64 << 10)
SEED = int(os.environ.get("SEED") or time.time())
CHANGES = {"holding", "solo", "promoting"}


@contextlib.contextmanager
def bad(world, *rules):
    """What goes from port to port of the switch meets these rules of nft as well. They may count
    what they change, by `counter name hits`, and connections that are made, by `made`."""
    world.network.nft("table bridge bad {\ncounter hits { }\ncounter made { }\n"
                      "chain forward {\ntype filter hook forward priority 10\n"
                      + "\n".join(rules) + "\n}\n}")
    try:
        yield
    finally:
        world.network.nft("delete table bridge bad")


def counted(world, name):
    """Packets that a counter of bad() has seen."""
    words = world.network.switch.words("nft", "list", "counter", "bridge", "bad", name)
    return int(re.search(r"packets (\d+)", hosts.run(*words).stdout)[1])


def marks(world):
    return [(host, host.last_event()) for host in world.pair.hosts]


def told(since):
    return [name for host, number in since for name in host.events_since(number)]


def ask(world, line):
    answer = visitors.ask_guest(world.network, line)
    if not (answer or "").startswith("ok"):
        raise RuntimeError(f"the guest says to {line!r}: {answer}")
    return dict(word.split("=", 1) for word in answer.split() if "=" in word)


def is_whole(world, what):
    """The guest's memory and disk hold what was written there."""
    ask(world, "stop")
    ask(world, "blkbg 0")
    memory, disk = ask(world, "verify"), ask(world, "blkcheck")
    check(f"{what}: no page and no sector of the guest is wrong",
          memory["bad"] == "0" and disk["bad"] == "0", (memory, disk))


# F10.


def all_heartbeats_are_lost(world):
    """On every path, while the replication link carries on: it shows that the node lives."""
    primary, _ = world.protected()
    since = marks(world)
    with bad(world, f"udp dport {hosts.HEARTBEAT_PORT} drop"):
        check("no heartbeat comes through: both nodes say so", hosts.eventually(
            lambda: all("peer-silent" in host.events_since(number) for host, number in since)),
            world.states())
        time.sleep(2 * QUIET_S)
        check("nobody's role changes", not CHANGES & set(told(since))
              and world.pair.is_protected(0), told(since))
    check("they are heard again", hosts.eventually(
        lambda: all(host.status()["peer"]["alive"] for host in world.pair.hosts)),
        world.states())
    world.well("all heartbeats were lost", primary)


# F15, F16.


def a_primary_is_cut_from_its_clients(world):
    """Its port on the LAN goes down, and with it the way to the arbiter. Nobody takes over by
    himself: the nodes hear each other. It can be seen, and an operator can hand over."""
    primary, standby = world.protected()
    since = marks(world)
    world.network.switch.ip(f"link set lan-{primary.name} down")
    check("the primary's port on the LAN is down: its status says which path is",
          hosts.eventually(lambda: [path["up"] for path in
                                    primary.status()["heartbeat"]["paths"]] == [True, False]),
          primary.status()["heartbeat"])
    time.sleep(QUIET_S)
    check("nobody's role changes, and the guest is not heard",
          not CHANGES & set(told(since)) and world.is_quiet(0.5), told(since))
    done = standby.colo("switchover")
    check("an operator has it go to the other host", done.status == 0
          and hosts.eventually(lambda: world.pair.primary is standby), done)
    check("there it is heard", world.echo.is_heard(), world.states())
    world.network.switch.ip(f"link set lan-{primary.name} up")
    world.well("the primary was cut from its clients", primary, standby)


# What docs/faults.md says that a hook can do.
HOOK = """#!/bin/sh
[ "$1 $COLO_STATE" = "path-lost protected" ] || exit 0
ip -o link show lan 2>/dev/null | grep -q NO-CARRIER || exit 0
case $COLO_NODE in alpha) run={alpha} ;; *) run={beta} ;; esac
exec {colo} switchover {file} --run-dir $run
"""


def a_hook_moves_the_guest_to_its_clients(world):
    """Where somebody wants it done by itself."""
    program = os.path.join(world.network.dir, "hook")
    world.new_pair(hooks={"program": program})
    pair = world.pair
    with open(os.open(program, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755), "w") as file:
        file.write(HOOK.format(colo=os.path.join(bed.BUILD, "colo"), file=pair.file,
                               alpha=pair.alpha.run_dir, beta=pair.beta.run_dir))
    pair.start()
    pair.protected()
    world.visit()
    primary, standby = world.protected(hooks={"program": program})
    with world.outage("a hook moves the guest"):
        world.network.switch.ip(f"link set lan-{primary.name} down")
        check("the primary's port on the LAN is down, and a hook looks: the guest moves",
              hosts.eventually(lambda: world.pair.primary is standby) and world.echo.is_heard(),
              world.states())
    world.network.switch.ip(f"link set lan-{primary.name} up")
    world.well("a hook moved the guest", primary, standby)


def some_clients_are_cut_off(world):
    """Whoever does not reach the primary while others do has to wait: nothing is done."""
    primary, _ = world.protected()
    since = marks(world)
    good = world.talk.good
    with bad(world, 'iifname "lan-client" meta protocol ip ip protocol tcp '
                    f'ip daddr {hosts.GUEST} drop'):
        time.sleep(QUIET_S)
        stood = world.talk.good
        time.sleep(2 * QUIET_S)
        check("one client does not reach the guest any more, another one does",
              world.talk.good == stood >= good and world.echo.is_heard(), world.talk.error)
        check("nobody's role changes", not CHANGES & set(told(since)), told(since))
    world.well("some clients were cut off", primary)


# F17-F19.


def ends_well(world, primary, what):
    """Protected again, by whichever way; no failover where the primary never died."""
    check(f"{what}: the primary stayed the primary", world.pair.is_protected()
          and world.pair.primary is primary, world.states())
    world.well(what, primary)


def frames_are_lost(world):
    for link, of_100 in (("lan", 20), ("repl", 1), ("repl", 5), ("repl", 20)):
        primary, _ = world.protected()
        since = marks(world)
        begin = time.monotonic()
        guest = f'ip saddr != {hosts.GUEST} ip daddr != {hosts.GUEST}' if link == "lan" else ""
        with bad(world, f'iifname "{link}-*" meta protocol ip {guest} '
                        f'numgen random mod 100 < {of_100} counter name hits drop'):
            time.sleep(bed.count(6, 60))
            lost = counted(world, "hits")
        what = f"{of_100} % of what is sent on {link} is lost"
        note(f"{what}: longest wait for an answer {world.echo.gap_s(begin) * 1000:.0f} ms, "
             f"events {[name for name in told(since) if name in CHANGES]}")
        check(f"{what}: so it was", lost > 0, lost)
        if link == "lan" or of_100 == 1:
            check(f"{what}: nobody is taken for dead", not {"promoting"} & set(told(since)),
                  told(since))
        ends_well(world, primary, what)


def refused_heartbeats(world):
    return sum(path["forged"] + path["malformed"] for host in world.pair.hosts
               for path in host.must("status")["heartbeat"]["paths"])


def frames_are_changed(world):
    """A byte here and there is another one, and no checksum tells: only who authenticates
    what he gets notices. First often, then now and then: in between the standby is filled and
    called one, by way of that link, and then it has to go on."""
    for name, change in (("heartbeats", heartbeats_changed),
                         ("checkpoints", lambda often: messages_changed(
                             hosts.REPLICATION_PORT, 200, often)),
                         ("words of the two colods", lambda often: messages_changed(
                             hosts.CONTROL_PORT, 50, often))):
        for _ in range(bed.count(1, 5)):
            what = f"{name} are changed on their way"
            primary, standby = world.protected()
            ask(world, "dirty 500 2000")
            ask(world, "blkbg 50 0")
            since, refused = marks(world), refused_heartbeats(world)
            with bad(world, *change(True)):
                time.sleep(bed.count(4, 30))
                hits, made = counted(world, "hits"), counted(world, "made")
                refused = refused_heartbeats(world) - refused
                note(f"{what}: {hits} packets, {refused} heartbeats refused, {made} connections "
                     f"made anew, events {told(since)}")
            check(f"{what}: so they were", hits > 0, hits)
            check(f"{what}: it is noticed", (refused if name == "heartbeats" else made) > 0,
                  (refused, made, told(since)))
            if name == "checkpoints":
                check(f"{what}: a standby that they did not reach is none",
                      "secondary-lost" in told(since), told(since))
            check(f"{what}: nobody takes over from a primary that lives",
                  "promoting" not in told(since) and primary.must("status")["role"] == "primary",
                  told(since))
            with bad(world, *change(False)):
                check(f"{what}, now and then", hosts.eventually(
                    lambda: counted(world, "hits") > 0))
                check(f"{what}, now and then: the pair is protected", world.pair.is_protected(),
                      world.states())
                with world.outage(f"{what}, and the primary is killed"):
                    primary.kill("colo-vm")
                    check(f"{what}, and the primary is killed: the standby goes on",
                          hosts.eventually(lambda standby=standby:
                                           world.pair.primary is standby)
                          and world.echo.is_heard(), world.states())
                is_whole(world, f"{what}, and the other host went on")
            world.well(f"{what}, and the primary was killed", primary, standby)


def heartbeats_changed(often):
    return [f"udp dport {hosts.HEARTBEAT_PORT} numgen random mod 10 < {3 if often else 2} "
            "@th,320,8 set 0xa5 counter name hits"]


def messages_changed(port, at, often):
    """A byte that far behind the beginning of a segment, either way, of segments that have it."""
    rate = "2/second" if often else "6/minute"
    ip_head = 20
    return [f"tcp dport {port} tcp flags & (syn | ack) == syn counter name made"] + [
        f"tcp {end} {port} ip length > {ip_head + at} limit rate {rate} burst 1 packets "
        f"@th,{8 * at},8 set 0xa5 counter name hits" for end in ("dport", "sport")]


def memory_kib(host):
    total = 0
    for pid in host.pids("colo-vm"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return total


def the_link_is_squeezed(world):
    """To far less than what the guest changes: protection may go, the guest may not."""
    for mbit in (1, 10, 100):
        primary, _ = world.protected()
        ask(world, "dirty 2000 20000")
        ask(world, "blkbg 200 0")
        since = marks(world)
        begin = time.monotonic()
        before = memory_kib(primary)
        most = max(map(memory_kib, world.pair.hosts))
        with bad(world, f'iifname "repl-{primary.name}" tcp dport {hosts.REPLICATION_PORT} '
                        f'limit rate over {mbit * 125} kbytes/second burst 256 kbytes '
                        'counter name hits drop'):
            while time.monotonic() < begin + bed.count(6, 60):
                most = max(most, *map(memory_kib, world.pair.hosts))
                time.sleep(0.2)
            heard, hits = world.echo.is_heard(), counted(world, "hits")
        what = f"the replication link is squeezed to {mbit} Mb/s"
        note(f"{what}: longest wait for an answer {world.echo.gap_s(begin) * 1000:.0f} ms, "
             f"primary's colo-vm {before} KiB, then either at most {most}, {hits} packets that "
             f"were too many, events {[name for name in told(since) if name in CHANGES]}")
        if mbit < 100:
            check(f"{what}: it was too narrow", hits > 0, hits)
        else:  # of what both copies of the guest change alike little is sent
            check(f"{what}: it was too narrow, or nobody's role changes",
                  hits > 0 or not CHANGES & set(told(since)), told(since))
        check(f"{what}: the guest goes on", heard, world.states())
        check(f"{what}: and what waits is bounded", most < MOST_KIB, (most, MOST_KIB))
        is_whole(world, what)
        ends_well(world, primary, what)


# F20.


def links_flap(world):
    """For 0.5 to 5 s and more, again and again: the replication link, then all of them."""
    rng = random.Random(SEED)
    note(f"SEED={SEED}")
    for name, ways in (("the replication link flaps", REPL_CUT),
                       ("all links flap", REPL_CUT + LAN_CUT)):
        primary, _ = world.protected()
        generation = primary.status()["generation"]
        flaps = bed.count(4, 50)
        for _ in range(flaps):
            world.network.cut(*ways)
            time.sleep(rng.choice((0.5, 0.7, 1, 1.3, 2) + ((5, 10) if bed.LONG else ())))
            world.network.mend()
            time.sleep(rng.choice((0.5, 1, 2) + ((5, 10) if bed.LONG else ())))
        check(f"{name}: then the pair is protected again", world.pair.is_protected(),
              world.states())
        now = world.pair.primary
        steps = now.status()["generation"] - generation
        note(f"{name}, {flaps} times: {steps} generations")
        check(f"{name}: nobody's role changes more often than the link does", steps <= flaps,
              steps)
        turns = world.listener.speakers(world.turn)
        check(f"{name}: nobody speaks without a new generation", len(turns) - 1 <= steps,
              world.listener.turns[world.turn:])
        if ways == REPL_CUT:
            check(f"{name}: the guest stays where it was", turns == [primary.name], turns)
        check(f"{name}: the TCP connection goes on", world.talk.goes_on(), world.talk.error)
        check(f"{name}: no answer was wrong", not world.echo.wrong, world.echo.wrong[:3])


TESTS = [
    all_heartbeats_are_lost,
    a_primary_is_cut_from_its_clients,
    a_hook_moves_the_guest_to_its_clients,
    some_clients_are_cut_off,
    frames_are_lost,
    frames_are_changed,
    the_link_is_squeezed,
    links_flap,
]

if __name__ == "__main__":
    main(TESTS)
