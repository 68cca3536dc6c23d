#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows F29-F47, for what tests/pairs and the unit tests do not show of them: those who have the
key and talk nonsense, helpers that hang, two faults at once, two versions, two files, two
arbiters, operators who err, and a guest that never does the same twice. matrix.py names all."""
import os
import shutil
import signal
import struct
import subprocess
import time

from rows import (AT_ONCE, LAN_CUT, QUIET_S, REPL_CUT, Skipped, bed, check, hosts, main,
                  note, visitors)

CHANGES = {"holding", "solo", "promoting"}
# Timeouts of the heartbeat in which a helper that hangs (10 s) is found out and started anew.
UNTIL_ENDED = 25


def marks(world):
    return [(host, host.last_event()) for host in world.pair.hosts]


def told(since):
    return [name for host, number in since for name in host.events_since(number)]


def ask(world, line):
    answer = visitors.ask_guest(world.network, line)
    if not (answer or "").startswith("ok"):
        raise RuntimeError(f"the guest says to {line!r}: {answer}")
    return dict(word.split("=", 1) for word in answer.split() if "=" in word)


def make_busy(world):
    """Memory, and a disk on which two guests from one state write different things."""
    ask(world, "dirty 1000 5000")
    ask(world, "blkbg 100 0 wild")


def is_whole(world, what):
    ask(world, "stop")
    ask(world, "blkbg 0")
    memory, disk = ask(world, "verify"), ask(world, "blkcheck")
    check(f"{what}: no page and no sector of the guest is wrong",
          memory["bad"] == "0" and disk["bad"] == "0" and int(disk["slots"]) > 0,
          (memory, disk))


# F29.


def frame(magic=0x4d4f4c43, version=1, kind=1, length=0, payload=b""):
    return struct.pack("<IHHIIQQ", magic, version, kind, length, 0, 0, 0) + payload


NONSENSE = {
    "noise": os.urandom(3000),
    "no frame of ours": frame(magic=0x46464646),
    "another version": frame(version=9),
    "a type that there is not": frame(kind=999),
    "a length beyond all": frame(length=0xffffffff),
    "half a frame": frame()[:17],
    "a wrong checksum": frame(kind=64, length=40, payload=b"\1\0" * 20),
    "nothing": b"",
}


def with_the_key(world, host, port, data):
    """Somebody who has the key, from the other node's address: whether he was let in, and hung
    up on."""
    with open(world.pair.key) as file:
        key = file.read().strip()
    stranger = subprocess.Popen(
        world.pair.other(host).space.words(
            "openssl", "s_client", "-brief", "-ign_eof", "-tls1_3", "-psk_identity", "colo",
            "-psk", key, "-ciphersuites",
            "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256", "-connect",
            f"{hosts.REPL[host.name]}:{port}"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True)
    try:
        output, _ = stranger.communicate(data, timeout=30)
        return b"CONNECTION ESTABLISHED" in output
    except subprocess.TimeoutExpired:
        bed.end_process(stranger)
        stranger.communicate()
        return False


def who_has_the_key_talks_nonsense(world):
    """What he says within TLS is judged like everything else. (The decoders are fuzzed.)"""
    if not shutil.which("openssl"):
        raise Skipped("there is no openssl")
    primary, standby = world.protected()
    since = marks(world)
    for host in (primary, standby):
        for port in (hosts.CONTROL_PORT, hosts.REPLICATION_PORT):
            if host is (primary if port == hosts.REPLICATION_PORT else world.pair.alpha):
                continue  # it does not listen there
            heard = [what for what, data in NONSENSE.items()
                     if with_the_key(world, host, port, data)]
            check(f"who has the key and says nonsense to {host.name}:{port} is hung up on",
                  len(heard) == len(NONSENSE), set(NONSENSE) - set(heard))
    check("the two colods find each other again", hosts.eventually(
        lambda: all((host.status() or {"peer": {}})["peer"].get("reachable")
                    for host in world.pair.hosts)), world.states())
    check("and nobody's role has changed", not CHANGES & set(told(since)), told(since))
    world.well("somebody with the key talked nonsense", primary)


# F37, F38.


def a_comparator_hangs(world):
    """It is there, and does nothing: nothing goes out, until it is noticed."""
    primary, _ = world.protected()
    since = marks(world)
    old = primary.pids("colo-netcompare")
    primary.freeze("colo-netcompare")
    check("colo-netcompare is stopped: nothing is heard without it", world.is_quiet(0.5))
    check("colod finds out, and starts another one", hosts.eventually(
        lambda: primary.pids("colo-netcompare") not in ([], old)), primary.last_words())
    check("the guest is heard again", world.echo.is_heard(), world.states())
    world.well("colo-netcompare was stopped", primary)
    check("nobody's role has changed", not {"holding", "solo"} & set(told(since)), told(since))


def a_heartbeat_daemon_hangs(world):
    for at in (0, 1):
        nodes = world.protected()
        host = nodes[at]
        since = marks(world)
        old = host.pids("colo-heartbeat")
        host.freeze("colo-heartbeat")
        time.sleep(2 * QUIET_S)
        check(f"colo-heartbeat is stopped on {host.name}: nobody's role changes",
              not CHANGES & set(told(since)) and world.pair.is_protected(0), told(since))
        check("colod finds out, and starts another one", hosts.eventually(
            lambda host=host, old=old: host.pids("colo-heartbeat") not in ([], old)),
            host.last_words())
        world.well("colo-heartbeat was stopped", nodes[0])


def a_primary_dies_while_the_standbys_heartbeat_hangs(world):
    primary, standby = world.protected()
    standby.freeze("colo-heartbeat")
    with world.outage("the standby's colo-heartbeat hangs, the primary dies", UNTIL_ENDED):
        primary.power_off()
        check("the standby's colo-heartbeat hangs, the primary dies: the standby goes on",
              standby.is_in("solo") and world.echo.is_heard(), world.states())
    primary.boot()
    world.well("the primary died while the standby's colo-heartbeat hung", primary, standby)


BOMB = """#!/bin/sh
i=0
while [ $i -lt 30 ]; do
    sleep 1000 &
    i=$((i + 1))
done
exec sleep 1000
"""


def a_hook_hangs_and_forks(world):
    program = os.path.join(world.network.dir, "bomb")
    with open(os.open(program, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755), "w") as file:
        file.write(BOMB)
    primary, standby = world.protected(hooks={"program": program, "timeout": "500ms"})
    with world.outage("each event's hook forks and hangs, the primary dies"):
        primary.power_off()
        check("each event's hook forks and hangs: the standby goes on as ever",
              standby.is_in("solo") and world.echo.is_heard(), world.states())
    check("hooks were run", hosts.eventually(lambda: standby.pids("sleep")))
    status = hosts.eventually(standby.status)
    check("the status is answered meanwhile", status is not None)
    primary.boot()
    world.well("hooks hung and forked", primary, standby)
    check("and none of it is left", hosts.eventually(
        lambda: not any(host.pids("sleep") for host in world.pair.hosts)),
        [len(host.pids("sleep")) for host in world.pair.hosts])


# F40.


def a_primary_dies_while_its_standby_is_filled(world):
    """What is half filled is no copy: nobody may start from it."""
    primary, standby = world.protected(checkpoint={"bandwidth": "4MiB/s"})
    ask(world, "dirty 6000")
    with world.outage("the standby dies"):
        standby.power_off()
        check("the standby dies: the primary goes on alone", primary.is_in("solo")
              and world.echo.is_heard(), world.states())
    standby.boot()
    check("the standby is being filled", primary.is_in("syncing")
          and standby.is_in("joining"), world.states())
    time.sleep(0.5)
    check("(it still is)", primary.state == "syncing", world.states())
    primary.power_off()
    world.end_visit()
    turns = len(world.listener.turns)
    check("then the primary dies: nobody goes on", not hosts.eventually(
        lambda: standby.state in ("solo", "promoting"), 3 * QUIET_S), world.states())
    refused = standby.colo("promote", "--force", "--yes")
    check("not even with --force", refused.status != 0 and standby.state != "solo", refused)
    note(refused.errors.strip())
    check("and nobody was heard", len(world.listener.turns) == turns,
          world.listener.turns[turns:])
    primary.boot()
    check("when it is back, its copy is what counts", world.pair.is_protected()
          and world.pair.primary is primary, world.states())
    world.visit()
    check("and the guest is heard", world.talk.goes_on())


def the_arbiter_dies_and_then_the_primary(world):
    primary, standby = world.protected()
    world.network.etcd_frozen(True)
    try:
        time.sleep(QUIET_S)
        check("the arbiter hangs: nothing changes", world.pair.is_protected(0)
              and world.echo.is_heard(), world.states())
        primary.power_off()
        check("then the primary dies: nobody goes on", standby.is_in("promoting")
              and world.is_quiet(), world.states())
        check("and the status says why", hosts.eventually(
            lambda: "etcd" in str(standby.status()["reason"])), standby.status())
    finally:
        world.network.etcd_frozen(False)
    check("the arbiter is back: the standby goes on", standby.is_in("solo")
          and world.echo.is_heard(), world.states())
    primary.boot()
    world.well("the arbiter died and then the primary", primary, standby)


def a_comparator_dies_while_the_link_is_cut(world):
    primary, _ = world.protected()
    world.network.cut(*REPL_CUT)
    time.sleep(0.5)  # not noticed yet: the pair is protected, and output held
    primary.kill("colo-netcompare")
    check("the replication link is cut, and colo-netcompare killed: the primary goes on",
          primary.is_in("solo") and world.echo.is_heard(), world.states())
    world.network.mend()
    world.well("the link was cut and colo-netcompare killed", primary)


def a_primary_dies_while_its_standby_is_frozen(world):
    """The one that stands still is the last copy: when it goes on, it is the guest."""
    primary, standby = world.protected()
    standby.freeze()
    primary.power_off()
    check("both are gone: nobody is heard", world.is_quiet(), world.listener.turns[-3:])
    standby.thaw()
    check("the standby goes on, and with it the guest", standby.is_in("solo")
          and world.echo.is_heard(), world.states())
    primary.boot()
    world.well("the standby was frozen while the primary died", primary, standby)


# F42.


def switch_overs_under_load(world):
    count = bed.count(4, 100)
    for number in range(count):
        primary, standby = world.protected()
        make_busy(world)
        what = f"switch-over {number + 1} of a busy guest"
        with world.outage(what, AT_ONCE):
            done = primary.colo("switchover")
            check(what, done.status == 0 and hosts.eventually(
                lambda standby=standby: world.pair.primary is standby),
                f"{done}\n{world.states()}")
            heard = check("it is heard", world.echo.is_heard(), world.states())
        if not heard:
            return
        world.well("a switch-over", primary, standby)
    is_whole(world, "after all switch-overs")


# F43.


VERSIONS = (
    ("the words of two colods", "colod", "colo/peer.c", "WIRE_PEER_VERSION",
     "another version"),
    ("checkpoints", "colo-vm", "checkpoint/hello.c", "CKPT_PROTOCOL_VERSION",
     "checkpoint protocol"),
    ("frames", "colod", "base/frame.c", "WIRE_FRAME_VERSION", "version"),
    ("heartbeats", "colo-heartbeat", "heartbeat/message.c", "HB_DATAGRAM_VERSION", None),
)
MAINS = {"colod": "colo.objects/colod.o", "colo-vm": "colo.objects/vm.o",
         "colo-heartbeat": "heartbeat/main.o"}


def make_says(name):
    build = os.path.relpath(bed.BUILD, bed.PROJECT)
    return subprocess.run(["make", "-s", "-C", bed.PROJECT, f"BUILD={build}", f"print-{name}"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout.split()


def next_version(world, number):
    """A directory of programs of which one speaks the next version of one protocol."""
    what, program, source, constant, _ = VERSIONS[number]
    there = os.path.join(world.network.dir, f"next-{number}")
    os.mkdir(there)
    for name in ("colod", "colo", "colo-vm", "colo-netcompare", "colo-heartbeat"):
        shutil.copy2(os.path.join(bed.BUILD, name), there)
    with open(os.path.join(bed.PROJECT, source)) as file:
        text = file.read()
    changed = text.replace(constant, f"({constant} + 1)")
    if changed == text:
        raise RuntimeError(f"{source} does not use {constant} any more")
    variant = os.path.join(there, os.path.basename(source))
    with open(variant, "w") as file:
        file.write(changed)
    subprocess.run([*make_says("CC"), *make_says("ALL_CFLAGS"), "-w", "-o",
                    os.path.join(there, program), variant,
                    os.path.join(bed.BUILD, MAINS[program]),
                    os.path.join(bed.BUILD, "libcolo.a"), *make_says("PKG_LIBS")],
                   check=True, cwd=bed.PROJECT)
    return there


def end_programs(host):
    host.kill_colod()
    while host.pids():
        host.space.signal(signal.SIGKILL)
        time.sleep(0.02)


def two_versions_do_not_make_a_pair(world):
    """An upgrade of one host: the guest goes on on the other, and both say why they do not go
    together; nothing is half understood."""
    if not shutil.which("make") or not make_says("CC") or not shutil.which(make_says("CC")[0]):
        raise Skipped("there is no compiler")
    for number, (what, program, _, _, words) in enumerate(VERSIONS):
        programs = next_version(world, number)
        for newer in (1, 0) if bed.LONG else ((number + 1) % 2,):
            nodes = world.protected()
            primary, host = nodes[0], nodes[newer]
            other = world.pair.other(host)
            if host is primary:
                done = primary.colo("switchover")
                check("the guest goes to the other host first", done.status == 0, done)
                world.pair.is_protected()
            turn = len(world.listener.turns) - 1
            end_programs(host)
            host.programs = programs
            host.start()
            name = f"the {'second' if newer else 'first'} host's {program} speaks another " \
                   f"version of {what}"
            if words:
                check(f"{name}: the guest goes on, unprotected", other.is_in("solo", "syncing")
                      and world.echo.is_heard(), world.states())
                check("the reason can be read", hosts.eventually(
                    lambda host=host, other=other, words=words: words in said_by(host, other)),
                    said_by(host, other))
                check("they do not become a pair", not world.pair.is_protected(2 * QUIET_S))
            else:
                check(f"{name}: its heartbeats are not believed", hosts.eventually(
                    lambda other=other: not other.status()["peer"]["alive"]), world.states())
            check("nobody else was heard",
                  world.listener.speakers(turn) == [other.name], world.listener.turns[turn:])
            end_programs(host)
            host.programs = bed.BUILD
            host.start()
            check("with the same version they are a pair again", world.pair.is_protected()
                  and world.talk.goes_on(), world.states())


def said_by(*nodes):
    """What they say of each other in their status."""
    status = [host.status() or {"peer": {}} for host in nodes]
    return "\n".join(f"{each.get('reason')} {each['peer'].get('trouble')}" for each in status)


# F44.


DIFFERENT = (
    ("vm", "cpus", "2", "cpus"),
    ("vm", "cpu-model", "x86-64-v2", "cpu-model"),
    ("vm", "append", "ip=10.98.0.10/24", "append"),
    ("network lan", "mac", "52:54:00:c0:98:0a", "mac"),
    ("disk vda", "readonly", "yes", "readonly"),
    ("checkpoint", "mode", "buffered", "mode"),
    ("heartbeat", "timeout", "3s", "timeout"),
    ("arbiter", "prefix", "/other/", "prefix"),
    ("arbiter", "endpoints", "http://10.98.0.3:1", "endpoints"),
    ("pair", "name", "mail", "another pair"),
)


def no_kind_of_difference_makes_a_pair(world):
    """(Memory is in test_pair.py, the key in test_colod_hostile.py, every key of the file in
    test_colo_pair_diff.c, processors in test_checkpoint_hello.c.)"""
    pair = world.new_pair()
    pair.alpha.start()
    check("the first node runs the guest", pair.alpha.is_in("solo"), world.states())
    world.visit()
    good = pair.beta.file
    for section, key, value, words in DIFFERENT:
        sections = {name: dict(keys) for name, keys in pair.sections.items()}
        sections.setdefault(section, {})[key] = value
        if section == "pair":  # another pair would have another tap, and rules for that
            sections["network lan"]["tap"] = "mail0"
        pair.beta.file = os.path.join(pair.beta.dir, "other.conf")
        pair.write(pair.beta.file, sections)
        pair.beta.start()
        shown = hosts.eventually(lambda words=words: words in saying(pair.alpha)
                                 and saying(pair.alpha))
        check(f"{section}/{key} differs: the first node shows it", shown, saying(pair.alpha))
        check("and the pair is not formed", pair.alpha.state == "solo"
              and world.echo.is_heard(), world.states())
        end_programs(pair.beta)
        shutil.rmtree(pair.beta.state_dir, ignore_errors=True)
    pair.beta.file = good
    with open(pair.beta.disk, "ab") as file:
        file.truncate(8 << 20)
    pair.beta.start()
    check("the disks' sizes differ: the first node says so", hosts.eventually(
        lambda: "disk" in str(pair.alpha.status()["reason"])), world.states())
    check("and the pair is not formed", not pair.is_protected(QUIET_S), world.states())
    with open(pair.beta.disk, "ab") as file:
        file.truncate(4 << 20)
    end_programs(pair.beta)
    pair.beta.start()
    check("it is, once all is the same", pair.is_protected() and world.talk.goes_on(),
          world.states())


def saying(host):
    status = host.status() or {"peer": {}}
    return f"{status.get('reason')} {status['peer'].get('differs')} " \
           f"{status['peer'].get('trouble')}"


# F45.


def both_are_promoted_by_hand(world):
    primary, standby = world.protected()
    for host in (standby, primary):
        for words in (("promote",), ("promote", "--force", "--yes")):
            done = host.colo(*words)
            check(f"colo {' '.join(words)} on {host.name}, with both alive: refused with a "
                  "reason", done.status != 0 and done.errors.strip(), done)
            note(done.errors.strip())
    world.well("both were promoted by hand", primary)


def backup(host, where):
    shutil.copytree(host.state_dir, os.path.join(where, "state"))
    shutil.copy2(host.disk, where)


def restore(host, where):
    shutil.rmtree(host.state_dir)
    shutil.copytree(os.path.join(where, "state"), host.state_dir)
    shutil.copy2(os.path.join(where, "disk"), host.disk)


def an_old_backup_is_started(world):
    """A host's disk and generation file are brought back from before the other one ran."""
    primary, standby = world.protected()
    where = os.path.join(world.network.dir, "backup")
    shutil.rmtree(where, ignore_errors=True)
    with world.outage("the primary loses power"):
        primary.power_off()
        check("the primary loses power: the standby goes on", standby.is_in("solo")
              and world.echo.is_heard(), world.states())
    backup(primary, where)
    primary.boot()
    check("protected again", world.pair.is_protected(), world.states())
    with world.outage("a switch-over back", AT_ONCE):
        done = standby.colo("switchover")
        check("and the first one has the guest again", done.status == 0 and hosts.eventually(
            lambda: world.pair.primary is primary) and world.pair.is_protected(), done)
    for host in (standby, primary):
        host.power_off()
    world.end_visit()
    turns = len(world.listener.turns)
    restore(primary, where)
    primary.boot()
    check("both lose power, the primary's old backup is started: it waits",
          primary.is_in("waiting") and not hosts.eventually(
              lambda: primary.state != "waiting", 2 * QUIET_S), world.states())
    status = primary.status()
    check("and says why", "generation" in str(status["reason"])
          or standby.name in str(status["reason"]), status)
    note(f"{status['reason']}; {status['advice']}")
    check("nobody is heard", len(world.listener.turns) == turns, world.listener.turns[turns:])
    standby.boot()
    if not world.pair.is_protected(3 * QUIET_S):
        note(f"both are back, and wait: {[host.status()['reason'] for host in world.pair.hosts]}")
        forced = standby.colo("promote", "--force", "--yes")
        check("an operator chooses the newer copy", forced.status == 0, forced)
    check("then the pair is protected again", world.pair.is_protected(), world.states())
    check("by the newer copy", world.pair.primary is standby, world.states())


# Another host has other numbers.
OTHER_HOST = """for file in /sys/class/dmi/id/product_uuid /etc/machine-id; do
    [ ! -e $file ] || mount --bind "$1" $file || exit
done
shift
exec "$@"
"""


class Clone:
    """A third host: what a node has was copied to it, its addresses were made its own."""

    count = 0

    def __init__(self, world, node, with_state):
        Clone.count += 1
        self.network = world.network
        self.space = hosts.Namespace(f"colo{os.getpid()}-gamma")
        self.network.spaces["gamma"] = self.space
        self.space.make()
        self.network.plug("gamma", "lan", "lan", "02:00:00:00:98:17")
        self.network.plug("gamma", "repl", "repl", "02:00:00:00:97:17")
        self.space.ip(
            "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
            "link set lan master br0", "link set lan up", "addr add 10.98.0.17/24 dev br0",
            "link set br0 up", "addr add 10.97.0.17/24 dev repl", "link set repl up")
        self.dir = os.path.join(world.network.dir, f"gamma-{Clone.count}")
        os.makedirs(os.path.join(self.dir, "log"))
        shutil.copy2(node.disk, self.dir)
        if with_state:
            shutil.copytree(node.state_dir, os.path.join(self.dir, "state"))
        sections = {name: dict(keys) for name, keys in world.pair.sections.items()}
        sections["disk vda"][f"path.{node.name}"] = os.path.join(self.dir, "disk")
        ours = sections[f"node {node.name}"]
        for key, value in ours.items():
            ours[key] = value.replace(hosts.REPL[node.name] + ":", "10.97.0.17:").replace(
                hosts.LAN[node.name] + ":", "10.98.0.17:")
        file = os.path.join(self.dir, "web.conf")
        world.pair.write(file, sections)
        number = os.path.join(self.dir, "machine-id")
        with open(number, "w") as out:
            out.write(os.urandom(16).hex() + "\n")
        with open(os.path.join(self.dir, "log", "colod.log"), "ab") as log:
            self.colod = subprocess.Popen(
                self.space.words("unshare", "-m", "sh", "-c", OTHER_HOST, "sh", number,
                                 os.path.join(bed.BUILD, "colod"), "--verbose", "--node",
                                 node.name, "--run-dir", os.path.join(self.dir, "run"),
                                 "--state-dir", os.path.join(self.dir, "state"), "--log-dir",
                                 os.path.join(self.dir, "log"), file),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def words(self):
        with open(os.path.join(self.dir, "log", "colod.log")) as file:
            return file.read()

    def runs_a_guest(self):
        return any(hosts.comm(pid) == "colo-vm" for pid in self.space.pids())

    def end(self):
        while self.space.pids():
            self.space.signal(signal.SIGKILL)
            time.sleep(0.02)
        self.colod.wait()
        self.space.remove()
        del self.network.spaces["gamma"]


def a_third_host_has_a_copy_of_the_file(world):
    for with_state in (False, True):
        for at in (0, 1):
            nodes = world.protected()
            since = marks(world)
            clone = Clone(world, nodes[at], with_state)
            name = f"a third host with a copy of the {('primary', 'standby')[at]}'s file" + (
                ", disk and generation file" if with_state else "")
            try:
                time.sleep(4 * QUIET_S)
                check(f"{name}: it does not run the guest",
                      not clone.runs_a_guest(), clone.words()[-2000:])
                said = [line for line in clone.words().splitlines()
                        if any(word in line for word in (" no ", "waiting", "another host"))]
                check("and says why", said, clone.words()[-2000:])
                note("\n".join(said[-3:]))
            finally:
                clone.end()
            check("nobody's role has changed", not CHANGES & set(told(since)), told(since))
            world.well(name, nodes[0])


# F46.


def restart_etcd(world, lose):
    network = world.network
    network.etcd.kill()
    network.etcd.wait()
    if lose:
        shutil.rmtree(os.path.join(network.dir, "etcd"))
    network.etcd = None
    network.start_etcd()


def the_arbiter_is_started_again(world):
    """With what it knew: it is as if it had been away."""
    primary, standby = world.protected()
    since = marks(world)
    restart_etcd(world, False)
    time.sleep(QUIET_S)
    check("etcd is started again: nobody's role changes", not CHANGES & set(told(since)),
          told(since))
    with world.outage("then the primary dies"):
        primary.power_off()
        check("then the primary dies: the standby goes on", standby.is_in("solo")
              and world.echo.is_heard(), world.states())
    primary.boot()
    world.well("etcd was started again", primary, standby)


def the_arbiter_forgets(world):
    """With an empty disk it grants nothing, until the pair has told it anew or an operator
    has decided."""
    primary, standby = world.protected()
    since = marks(world)
    restart_etcd(world, True)
    time.sleep(QUIET_S)
    check("etcd comes back empty: nobody's role changes", not CHANGES & set(told(since))
          and world.echo.is_heard(), told(since))
    primary.power_off()
    silent = standby.is_in("promoting") and world.is_quiet()
    check("then the primary dies: an empty arbiter grants nothing", silent, world.states())
    reason = hosts.eventually(lambda: standby.status()["reason"])
    check("the standby says why, and what to do", reason
          and "--force" in str(standby.status()["advice"]) + reason, standby.status())
    note(f"{reason}; {standby.status()['advice']}")
    forced = standby.colo("promote", "--force", "--yes")
    check("an operator decides: it goes on", forced.status == 0 and world.echo.is_heard(),
          forced)
    primary.boot()
    world.well("the arbiter forgot", primary, standby)


def the_arbiter_is_slow(world):
    """It stands still half of the time."""
    primary, standby = world.protected()
    primary.power_off()
    for _ in range(20):
        world.network.etcd_frozen(True)
        time.sleep(0.3)
        world.network.etcd_frozen(False)
        time.sleep(0.3)
        if standby.state == "solo":
            break
    check("the primary dies beside a slow arbiter: the standby goes on",
          standby.is_in("solo") and world.echo.is_heard(), world.states())
    primary.boot()
    world.well("the arbiter was slow", primary, standby)


def there_are_two_arbiters(world):
    """By mistake the second node's address of the arbiter leads to another one, which has heard
    of the pair before."""
    primary, standby = world.protected()
    network = world.network
    where = os.path.join(network.dir, "etcd-2")
    urls = [f"http://{hosts.LAN['client']}:3379", "http://127.0.0.1:3380"]
    shutil.rmtree(where, ignore_errors=True)
    with open(where + ".log", "wb") as log:
        other = subprocess.Popen(
            network.client.words("etcd", "--data-dir", where, "--listen-client-urls", urls[0],
                                 "--advertise-client-urls", urls[0], "--listen-peer-urls",
                                 urls[1]), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)
    try:
        two_arbiters(world, primary, standby)
    finally:
        other.kill()
        other.wait()


def two_arbiters(world, primary, standby):
    rules = f"""table ip twice {{ chain output {{ type nat hook output priority -100;
        ip daddr {hosts.LAN['client']} tcp dport {hosts.ETCD_PORT} dnat to \
{hosts.LAN['client']}:3379
        }}
        }}"""

    def lead_astray():
        hosts.run(*standby.space.words("nft", "-f", "-"), text=rules)
        hosts.run(*standby.space.words("ss", "-K", "dport", "=", str(hosts.ETCD_PORT)),
                  check=False)

    lead_astray()
    world.network.cut(*REPL_CUT, *LAN_CUT)
    check("two arbiters by mistake, and the links are cut: the primary goes on",
          primary.is_in("solo") and world.echo.is_heard(), world.states())
    check("the standby is granted nothing by the one that knows nothing",
          standby.is_in("promoting") and not hosts.eventually(
              lambda: standby.state != "promoting", 2 * QUIET_S), world.states())
    check("and says why", "no record" in str(standby.status()["reason"]), standby.status())
    world.network.mend()
    world.well("there were two arbiters, and the links cut", primary)
    done = primary.colo("switchover")
    check("the guest goes to the host with the other arbiter", done.status == 0
          and hosts.eventually(lambda: world.pair.primary is standby)
          and world.echo.is_heard(), f"{done}\n{world.states()}")
    reason = hosts.eventually(lambda: standby.status()["reason"])
    check("which does not call the pair protected, and says why",
          not world.pair.is_protected(2 * QUIET_S) and "record" in str(reason), world.states())
    note(reason)
    hosts.run(*standby.space.words("nft", "delete", "table", "ip", "twice"))
    world.well("there were two arbiters", primary, standby)


# F47.


def a_guest_that_never_does_the_same_twice(world):
    """Its connections count from random numbers, its disk and memory are written differently on
    both nodes: it costs checkpoints, and nothing else."""
    primary, standby = world.protected()
    for _ in range(bed.count(3, 50)):
        primary, standby = world.protected()
        make_busy(world)
        time.sleep(2)
        taken = primary.status()["checkpoints"]["total"]
        note(f"checkpoints: {taken['checkpoints']}, {taken['reasons']}")
        with world.outage("the primary of a guest that never does the same twice dies"):
            primary.power_off()
            check("a guest that never does the same twice: the standby goes on",
                  standby.is_in("solo") and world.echo.is_heard(), world.states())
        is_whole(world, "after that")
        primary.boot()
        world.well("a guest did never the same twice", primary, standby)


TESTS = [
    who_has_the_key_talks_nonsense,
    a_comparator_hangs,
    a_heartbeat_daemon_hangs,
    a_primary_dies_while_the_standbys_heartbeat_hangs,
    a_hook_hangs_and_forks,
    a_primary_dies_while_its_standby_is_filled,
    the_arbiter_dies_and_then_the_primary,
    a_comparator_dies_while_the_link_is_cut,
    a_primary_dies_while_its_standby_is_frozen,
    switch_overs_under_load,
    two_versions_do_not_make_a_pair,
    no_kind_of_difference_makes_a_pair,
    both_are_promoted_by_hand,
    an_old_backup_is_started,
    a_third_host_has_a_copy_of_the_file,
    the_arbiter_is_started_again,
    the_arbiter_forgets,
    the_arbiter_is_slow,
    there_are_two_arbiters,
    a_guest_that_never_does_the_same_twice,
]

if __name__ == "__main__":
    main(TESTS)
