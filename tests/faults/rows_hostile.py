#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows F33-F36: a flooded heartbeat port, a guest that means harm or asks for much, and clients
that mean harm, each against a whole pair.

What is done to one program alone is in tests/nets/test_heartbeat.py, tests/nets/test_netcompare.py
and tests/micro/test_micro_devices.c."""
import copy
import json
import os
import socket
import subprocess
import sys
import time

from rows import PATIENT, bed, check, hosts, main, note, visitors
from rows_resources import ask, marks, nothing_changes

HERE = os.path.dirname(os.path.realpath(__file__))
LITTLE = 96 << 20  # what a program may grow by, whatever is done to it


def memory_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# F33.


FLOOD = """
import os, socket, sys, time
end, sent = time.monotonic() + float(sys.argv[1]), 0
targets = [(address, int(sys.argv[2])) for address in sys.argv[3:]]
pieces = [os.urandom(n) for n in (1, 120, 128, 136, 160, 1000)]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    while time.monotonic() < end:
        for piece in pieces:
            for target in targets:
                try:
                    sock.sendto(piece, target)
                    sent += 1
                except OSError:
                    pass
print(sent)
"""


def heartbeat_ports_are_flooded(world):
    """On the LAN by a client, and on the replication link by the other host, both hosts' at
    once."""
    primary, standby = world.protected(**PATIENT)
    seconds, since = 6, marks(world)
    pids = {host: host.pids("colo-heartbeat")[0] for host in world.pair.hosts}
    before = {host: cpu_s(pid) for host, pid in pids.items()}
    begin = time.monotonic()
    places = [(world.network.client, [hosts.LAN["alpha"], hosts.LAN["beta"]])] + [
        (host.space, [hosts.REPL[world.pair.other(host).name]]) for host in world.pair.hosts]
    floods = [subprocess.Popen(space.words(sys.executable, "-c", FLOOD, str(seconds),
                                           str(hosts.HEARTBEAT_PORT), *targets),
                               stdout=subprocess.PIPE, text=True) for space, targets in places]
    check("heartbeat ports are flooded: the guest is heard", world.echo.is_heard())
    sent = sum(int(flood.communicate()[0]) for flood in floods)
    took = time.monotonic() - begin
    note(f"{sent / took:.0f} datagrams a second; longest gap of a client "
         f"{world.echo.gap_s(begin) * 1000:.0f} ms")
    for host, pid in pids.items():
        used = (cpu_s(pid) - before[host]) / took
        note(f"colo-heartbeat of {host.name}: {100 * used:.1f} % of a processor")
        check(f"colo-heartbeat of {host.name} takes a bounded share of a processor", used < 0.5,
              used)
    nothing_changes(world, "heartbeat ports are flooded", since)
    world.well("heartbeat ports were flooded", primary)


# F34.


def devices(world):
    """Their numbers in the guest, by virtio's types."""
    answer = visitors.ask_guest(world.network, "devices")
    return {int(part.split("type=")[1].split(",")[0]): int(part.split(":")[0])
            for part in answer.split() if ",type=" in part}


class Programs:
    """Those that a guest must not reach."""

    def __init__(self, world):
        self.world = world
        self.pids = {(host.name, program): host.pids(program) for host in world.pair.hosts
                     for program in ("colo-vm", "colod", "colo-netcompare", "colo-heartbeat")}

    def live(self):
        return all(host.pids(program) == self.pids[host.name, program]
                   for host in self.world.pair.hosts
                   for program in ("colo-vm", "colod", "colo-netcompare", "colo-heartbeat"))


def a_guest_misuses_its_devices(world):
    """Each way that the micro-guest knows, of its disk and its source of entropy; both copies
    of the guest do it. After a reboot the device works, and the pair is protected."""
    primary, standby = world.protected()
    world.talk.abandon()  # a reboot ends connections
    ways = visitors.ask_guest(world.network, "misuse").split()[1:]
    by_type, programs = devices(world), Programs(world)
    entropy, disk, card = by_type[4], by_type[2], by_type[1]
    for device, name in ((disk, "disk"), (entropy, "source of entropy")):
        broken = []
        for way in ways:
            visitors.ask_guest(world.network, f"misuse {way} {device}", 2)
            if not (programs.live() and primary.state == "protected"
                    and standby.state == "standby" and world.echo.is_heard()):
                broken.append((way, world.states()))
            reboot(world)
        check(f"a guest misuses its {name} in {len(ways)} ways: no program ends for any, the "
              "pair stays protected, and clients are answered", not broken, broken)
    found = ask(world, "blkwrite 0 0 64 5"), ask(world, "blkverify 0 0 64 5"), ask(world, "rng 64")
    check("after a reboot both work", found[1]["bad"] == 0 and found[2]["bytes"] == 64, found)
    for way in ("outside", "loop", "index"):
        visitors.ask_guest(world.network, f"misuse {way} {card} 1", 1)
        check(f"a guest misuses its card ({way}): no program ends, and the pair stays protected",
              not hosts.eventually(lambda: not programs.live(), 1) and world.pair.is_protected(),
              world.states())
        primary.colo("stop", "--force")
        check("it is stopped, since nobody can tell it to reboot", all(
            host.is_in("stopped") for host in world.pair.hosts), world.states())
        primary.colo("start")
        check("and starts again: the pair is protected", world.pair.is_protected()
              and world.echo.is_heard(), world.states())
        programs = Programs(world)
    world.end_visit()
    world.visit()
    check("the guest goes on", world.talk.goes_on(), world.talk.error)


def reboot(world):
    visitors.ask_guest(world.network, "reboot", 0.3)
    visitors.ask_guest(world.network, "ping back")


# F35.


class Beside:
    """Another pair on the same hosts, with its own guest, ports, disks and client."""

    address, mac = "10.98.0.10", "52:54:00:c0:98:10"

    def __init__(self, world):
        pair = world.pair
        self.world, self.name = world, "beside"
        self.file = os.path.join(pair.dir, "beside.conf")
        sections = copy.deepcopy(pair.sections)
        sections["pair"]["name"] = self.name
        sections["vm"]["append"] = f"ip={self.address}/24"
        sections["network lan"].update(tap="beside0", mac=self.mac)
        for host in pair.hosts:
            disk = os.path.join(host.dir, "beside.disk")
            with open(disk, "wb") as file:
                file.truncate(1 << 20)
            sections["disk vda"][f"path.{host.name}"] = disk
            node = sections[f"node {host.name}"]
            for key in ("replication", "control", "heartbeat"):
                node[key] = node[key].replace(":77", ":78")
        sections["arbiter"]["prefix"] += "beside/"
        pair.write(self.file, sections)
        self.colods = []
        for host in pair.hosts:
            with open(os.path.join(host.log_dir, "beside.log"), "ab") as log:
                self.colods.append(subprocess.Popen(
                    host.space.words(os.path.join(bed.BUILD, "colod"), "--node", host.name,
                                     "--run-dir", host.run_dir, "--state-dir", host.state_dir,
                                     "--log-dir", host.log_dir, self.file),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def states(self):
        states = []
        for host in self.world.pair.hosts:
            done = bed.Here(host.dir).run(*host.space.words(
                os.path.join(bed.BUILD, "colo"), "status", self.file, "--run-dir", host.run_dir,
                "--json"))
            states.append(json.loads(done.output)["state"] if done else str(done))
        return states

    def words(self):
        text = ""
        for host in self.world.pair.hosts:
            with open(os.path.join(host.log_dir, "beside.log"), errors="replace") as file:
                text += f"{host.name}:\n" + "".join(file.readlines()[-15:])
        return text

    def is_protected(self):
        return bool(hosts.eventually(lambda: sorted(self.states()) == ["protected", "standby"]))

    def visit(self):
        address = self.address

        class Echo(visitors.Echo):
            @staticmethod
            def make():
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.connect((address, visitors.ECHO))
                sock.setblocking(False)
                return sock

        self.echo = Echo(self.world.network)

    def end(self):
        self.echo.stop()
        self.world.end_pair()  # with all that runs on its hosts
        for colod in self.colods:
            colod.wait()


def a_guest_asks_for_much(world):
    """It dirties all of its memory all the time, writes its disk as each copy likes, and says
    what no other copy says. It goes on, and so does another pair on the same hosts."""
    primary, standby = world.protected(**PATIENT)
    beside = Beside(world)
    check("another pair on the same hosts is protected", beside.is_protected(), beside.words())
    beside.visit()
    try:
        pages = ask(world, "memory")
        note(f"memory: {pages}")
        since, begin = marks(world), time.monotonic()
        ask(world, f"dirty {pages['work_pages']} max")
        ask(world, "blkbg 300 0 wild")
        waits, unanswered = [], False
        while time.monotonic() < begin + 10:
            at = time.monotonic()
            unanswered = not visitors.ask_guest(world.network, "time")
            if unanswered:
                break
            waits.append(time.monotonic() - at)
        waits = sorted(waits) or [0]
        check("a guest dirties all of its memory and says what the other copy does not: each "
              "question is answered", not unanswered, waits)
        note(f"{len(waits)} answers that differ, half of them within "
             f"{1000 * waits[len(waits) // 2]:.0f} ms, the slowest {1000 * waits[-1]:.0f} ms; "
             f"longest gap of a client {world.echo.gap_s(begin) * 1000:.0f} ms, of the other "
             f"pair's {beside.echo.gap_s(begin) * 1000:.0f} ms")
        nothing_changes(world, "a guest asks for much", since)
        check("the other pair's guest is heard, and it is protected", beside.echo.is_heard()
              and not beside.echo.wrong and beside.is_protected(), beside.states())
        ask(world, "stop")
        ask(world, "blkbg 0")
        found = ask(world, "verify"), ask(world, "blkcheck")
        check("nothing of its memory and its disk is wrong", found[0]["bad"] == 0
              and found[1]["bad"] == 0, found)
        world.well("a guest asked for much", primary)
    finally:
        beside.end()


# F36.


CLIENT_MAC = "02:00:00:00:98:03"  # as tests/pairs/hosts.py makes it
ATTACKS = ("syns", "flows", "fragments", "sums", "options", "injections", "slow_readers")


def clients_mean_harm(world):
    primary, standby = world.protected(**PATIENT)
    pids = {program: primary.pids(program)[0] for program in ("colo-netcompare", "colo-vm")}
    before = {program: memory_of(pid) for program, pid in pids.items()}
    address, port = world.talk.sock.getsockname()
    for kind in ATTACKS:
        since, begin = marks(world), time.monotonic()
        done = subprocess.run(world.network.client.words(
            sys.executable, os.path.join(HERE, "attacks.py"), kind, "5", "lan",
            CLIENT_MAC, hosts.GUEST_MAC, hosts.GUEST, address, str(port)), stdout=subprocess.PIPE, text=True)
        what = f"{kind.replace('_', ' ')} of a client that means harm"
        check(f"{what} are sent", done.returncode == 0 and int(done.stdout) > 0, done)
        check(f"{what}: an honest connection goes on, and answers are right",
              world.talk.goes_on() and world.echo.is_heard() and not world.echo.wrong,
              (world.talk.error, world.echo.wrong[:3]))
        grown = {program: memory_of(pid) - before[program] for program, pid in pids.items()
                 if os.path.exists(f"/proc/{pid}")}
        check(f"{what}: no program ends, and none keeps much of it", len(grown) == 2 and all(
            host.pids(program) for host in world.pair.hosts for program in pids)
            and max(grown.values()) < LITTLE, grown)
        nothing_changes(world, what, since)
        note(f"{what}: {done.stdout.strip()} sent, longest gap of a client "
             f"{world.echo.gap_s(begin) * 1000:.0f} ms, grown by "
             f"{ {name: f'{size / 1048576:.1f} MiB' for name, size in grown.items()} }")
    world.well("clients meant harm", primary)


TESTS = [
    heartbeat_ports_are_flooded,
    clients_mean_harm,
    a_guest_asks_for_much,
    a_guest_misuses_its_devices,
]

if __name__ == "__main__":
    main(TESTS)
