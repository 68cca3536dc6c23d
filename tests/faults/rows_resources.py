#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows F21-F28: a host that lacks something. Disks that are full, fail, are slow, hang or
forget, damaged generation files, no memory, no processor, no descriptors and threads.

Disks misbehave by bad_disk.py, folders are filled on a tmpfs of their own, and what a host's
programs may have is bounded by a control group of their own. What other tests show already is
not here: matrix.py names it."""
import contextlib
import errno
import os
import subprocess
import sys
import time

import bad_disk
import groups
from rows import (AT_ONCE, PATIENT, QUIET_S, Skipped, bed, check, hosts, main, note,
                  visitors)

CHANGES = {"holding", "solo", "promoting", "handing", "joining", "fenced"}


# What is common.


def ask(world, line):
    """What the guest answers, by its keys."""
    answer = visitors.ask_guest(world.network, line)
    if not (answer or "").startswith("ok"):
        raise RuntimeError(f"the guest says to {line!r}: {answer}")
    return {key: int(value) if value.isdigit() else value
            for key, value in (word.split("=", 1) for word in answer.split() if "=" in word)}


def prepared(world, prepare, **sections):
    """A new protected pair, of whose hosts something was prepared before they start."""
    pair = world.new_pair(**sections)
    for host in pair.hosts:
        prepare(host)
    pair.start()
    primary, standby = pair.protected()
    world.visit()
    if not (world.talk.goes_on() and world.echo.is_heard()):
        raise RuntimeError(f"the guest does not answer: {world.talk.error}")
    world.turn = len(world.listener.turns) - 1
    return primary, standby


class Disks:
    """A pair whose disks do what they are told, and whose guest keeps a journal on its own."""

    def __init__(self, world, **sections):
        if not bad_disk.available():
            raise Skipped("it needs /dev/fuse")
        self.world, self.disks = world, {}
        self.primary, self.standby = prepared(world, self.put, **sections)

    def put(self, host):
        self.disks[host] = bad_disk.BadDisk(host.disk)

    def __enter__(self):
        ask(self.world, "blkwrite 0 0 128 4711")
        ask(self.world, "blkflush 0")
        self.write()
        return self

    def __exit__(self, *_):
        for disk in self.disks.values():
            disk.whole()
        self.world.end_pair()
        for disk in self.disks.values():
            disk.close()

    def __getitem__(self, host):
        return self.disks[host]

    def write(self, rate=100):
        return ask(self.world, f"blkbg {rate}")

    def writes_on(self):
        """Whether the guest gets on with its journal."""
        before = ask(self.world, "blkbg")["writes"]
        return bool(hosts.eventually(lambda: ask(self.world, "blkbg")["writes"] > before + 5))

    def journal(self):
        """What the guest finds on its disk, of all that it ever wrote."""
        self.write(0)
        found = ask(self.world, "blkcheck")
        self.write()
        return found

    def whole_again(self, what, *speakers, errors=False):
        """After `what`, with the disks whole."""
        for disk in self.disks.values():
            disk.whole()
        self.world.well(what, *speakers)
        found = ask(self.world, "blkverify 0 0 128 4711")
        check(f"{what}: what the guest had flushed is there", found["bad"] == 0, found)
        found = self.journal()
        if errors:  # what became of a write that failed nobody knows
            return
        check(f"{what}: nothing that the guest wrote is lost or wrong",
              found["bad"] == 0 and found["slots"] > 0, found)
        check(f"{what}: and the guest never learnt of it", found["errors"] == 0, found)


def marks(world):
    return [(host, host.last_event()) for host in world.pair.hosts]


def told(since):
    return [name for host, number in since for name in host.events_since(number)]


def nothing_changes(world, what, since):
    """Nobody's role has."""
    changes = CHANGES & set(told(since))
    check(f"{what}: nobody's role changes", not changes,
          [(host.name, host.told_since(number)) for host, number in since])


# F21, F22: disks that are full, or fail.


def a_primarys_disk_fails(world):
    """Whatever it refuses: the guest goes to the other host and never learns."""
    for error in (errno.EIO, errno.ENOSPC):
        for kind in ("write", "read", "flush"):
            if (error, kind) == (errno.ENOSPC, "read"):
                continue
            with Disks(world) as disks:
                primary, standby = disks.primary, disks.standby
                what = f"the primary's disk refuses each {kind}: {os.strerror(error)}"
                since = primary.last_event()
                with world.outage(what, AT_ONCE):
                    disks[primary].tell(**{kind: error})
                    check(f"{what}: the standby goes on",
                          hosts.eventually(lambda: world.pair.primary is standby)
                          and world.echo.is_heard(), world.states())
                check(f"{what}: an event says so",
                      "disk-failed" in primary.events_since(since), primary.events_since(since))
                check(f"{what}: the guest writes on", disks.writes_on(), world.states())
                disks.whole_again(what, primary, standby)


def a_primarys_disk_fails_and_nobody_hands_over(world):
    """colod is dead there: after a while the guest is told, and what it did not get is asked."""
    with Disks(world) as disks:
        primary = disks.primary
        primary.kill_colod()
        disks[primary].tell(write=errno.EIO)
        check("the primary's disk fails while its colod is dead: the guest is told in the end",
              hosts.eventually(lambda: ask(world, "blkbg")["errors"] > 0), world.states())
        check("it is heard where it was", world.echo.is_heard() and world.talk.goes_on())
        disks[primary].whole()
        check("the disk is whole again: the guest writes", disks.writes_on(), world.states())
        primary.start()
        disks.whole_again("a disk failed while colod was dead", primary, errors=True)


def a_standbys_disk_fails(world):
    """It is none any more, until its disk is whole."""
    for error, kind in ((errno.EIO, "write"), (errno.EIO, "flush"), (errno.ENOSPC, "write")):
        with Disks(world) as disks:
            primary, standby = disks.primary, disks.standby
            what = f"the standby's disk refuses each {kind}: {os.strerror(error)}"
            since = marks(world)
            disks[standby].tell(**{kind: error})
            check(f"{what}: the pair is not called protected", hosts.eventually(
                lambda: "secondary-lost" in told(since)), world.states())
            check(f"{what}: the primary's guest goes on", world.echo.is_heard()
                  and disks.writes_on(), world.states())
            check(f"{what}: it says why", hosts.eventually(
                lambda: "cannot be written" in str(standby.events())), standby.events())
            time.sleep(QUIET_S)
            check(f"{what}: it is not protected soon again",
                  primary.state != "protected" and standby.state != "standby", world.states())
            disks.whole_again(what, primary)


def both_disks_are_full(world):
    """There is nobody left to go to: the guest is told, as by any disk, and decides."""
    with Disks(world) as disks:
        primary, standby = disks.primary, disks.standby
        since = marks(world)
        disks[standby].tell(write=errno.ENOSPC)
        check("the standby's disk is full: it is none any more",
              hosts.eventually(lambda: "secondary-lost" in told(since)), world.states())
        disks[primary].tell(write=errno.ENOSPC)
        check("both disks are full: the guest is told", hosts.eventually(
            lambda: ask(world, "blkbg")["errors"] > 0), world.states())
        check("and is heard, though it cannot write", world.echo.is_heard()
              and world.talk.goes_on(), world.talk.error)
        for disk in disks.disks.values():
            disk.whole()
        check("there is space again: the pair is protected", world.pair.is_protected(),
              world.states())
        check("and the guest writes", disks.writes_on(), world.states())
        disks.whole_again("both disks were full", primary, errors=True)


def a_flush_that_failed_is_never_tried_again(world):
    """Of a guest that runs alone: it is told, and from then on each write is refused, for
    nobody knows what of those before is on the disk. It moves as soon as it can."""
    with Disks(world) as disks:
        primary, standby = disks.primary, disks.standby
        with world.outage("the standby loses power"):
            standby.power_off()
            check("without its standby the primary runs alone", primary.is_in("solo")
                  and world.echo.is_heard(), world.states())
        disks[primary].tell(flush=errno.EIO)
        check("its disk refuses a flush: the guest is told", hosts.eventually(
            lambda: ask(world, "blkbg")["errors"] > 0), ask(world, "blkbg"))
        disks[primary].whole()
        before = disks[primary].counts()
        errors = ask(world, "blkbg")["errors"]
        check("the disk is whole again: the guest is told all the same, at each write",
              hosts.eventually(lambda: ask(world, "blkbg")["errors"] > errors + 20))
        after = disks[primary].counts()
        check("and the disk gets no write and no flush any more",
              (after["write"], after["flush"]) == (before["write"], before["flush"]),
              (before, after))
        standby.boot()
        check("the other host is back: the guest goes there, where it can write",
              hosts.eventually(lambda: world.pair.primary is standby) and disks.writes_on(),
              world.states())
        disks.whole_again("a flush had failed", primary, standby, errors=True)


# F21: folders that are full.


class Filled:
    """A folder of a host's on a small tmpfs."""

    def __init__(self, folder):
        self.folder = folder
        self.filler = os.path.join(folder, "filler")
        os.makedirs(folder, exist_ok=True)
        # Who holds it lets go of it when this process ends, however that happens.
        self.holder = subprocess.Popen(
            ["sh", "-c", 'mount -t tmpfs -o size=256k none "$1" && echo ready; read -r _; '
             'umount -l "$1"', "sh", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)
        if self.holder.stdout.readline() != b"ready\n":
            raise Skipped("no tmpfs can be mounted here")

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self):
        os.unlink(self.filler)

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()


class Folders:
    """A pair with a kind of folder that can be filled on each host."""

    def __init__(self, world, kind):
        self.world, self.kind, self.filled = world, kind, {}

    def __enter__(self):
        self.primary, self.standby = prepared(self.world, self.put)
        return self

    def put(self, host):
        self.filled[host] = Filled(getattr(host, self.kind))

    def __getitem__(self, host):
        return self.filled[host]

    def __exit__(self, *_):
        self.world.end_pair()
        for filled in self.filled.values():
            filled.close()


def generation_file(host):
    with open(os.path.join(host.state_dir, host.pair.name, "generation"), "rb") as file:
        return file.read()


def a_state_folder_is_full(world):
    """What cannot be written down is not done; what was written down stays whole."""
    with Folders(world, "state_dir") as folders:
        primary, standby = folders.primary, folders.standby
        since = marks(world)
        folders[primary].fill()
        before = generation_file(primary)
        time.sleep(QUIET_S)
        check("the primary's state folder is full: the guest does not care",
              world.echo.is_heard(), world.states())
        nothing_changes(world, "its state folder is full", since)
        standby.power_off()
        check("the standby dies: the primary says that it cannot write it down",
              hosts.eventually(lambda: "record-failed" in primary.events_since(since[0][1])
                               if since[0][0] is primary else
                               "record-failed" in primary.events_since(since[1][1])),
              primary.events())
        check("so it does not go on alone", world.is_quiet() and primary.state != "solo",
              world.states())
        check("and its generation file is the one before", generation_file(primary) == before,
              generation_file(primary))
        folders[primary].free()
        check("there is space again: it goes on by itself", primary.is_in("solo")
              and world.echo.is_heard(), world.states())
        standby.boot()
        world.well("the primary's state folder was full", primary)
        primary, standby = world.pair.protected()
        folders[standby].fill()
        before = generation_file(standby)
        primary.power_off()
        check("the standby's state folder is full, the primary dies: nobody goes on",
              world.is_quiet() and standby.state != "solo", world.states())
        check("and its generation file is the one before", generation_file(standby) == before,
              generation_file(standby))
        folders[standby].free()
        check("there is space again: the standby goes on", standby.is_in("solo")
              and world.echo.is_heard(), world.states())
        primary.boot()
        world.well("the standby's state folder was full", primary, standby)


def a_log_folder_is_full(world):
    """Nobody needs it."""
    with Folders(world, "log_dir") as folders:
        primary, standby = folders.primary, folders.standby
        for filled in folders.filled.values():
            filled.fill()
        since = marks(world)
        time.sleep(QUIET_S)
        check("the log folders are full: the guest is heard", world.echo.is_heard())
        nothing_changes(world, "the log folders are full", since)
        with world.outage("the primary's colo-vm is killed then", AT_ONCE):
            primary.kill("colo-vm")
            check("the primary's colo-vm is killed then: the standby goes on",
                  standby.is_in("solo", "syncing", "protected") and world.echo.is_heard(),
                  world.states())
        world.well("the log folders were full", primary, standby)
        for filled in folders.filled.values():
            filled.free()


# F23: slow and hung disks.


def disks_are_slow(world):
    with Disks(world) as disks:
        for where, slow in (("primary", [disks.primary]), ("standby", [disks.standby]),
                            ("both", [disks.primary, disks.standby])):
            for delay_ms in (100, 1000):
                what = f"each request takes {delay_ms} ms, {where}"
                since = marks(world)
                for host in slow:
                    disks[host].tell(delay_ms=delay_ms)
                time.sleep(3)
                check(f"{what}: the guest is heard, and writes", world.echo.is_heard()
                      and world.talk.goes_on(), world.states())
                nothing_changes(world, what, since)
                for host in slow:
                    disks[host].whole()
        disks.whole_again("disks were slow", disks.primary)


def a_disk_hangs_for_a_while(world):
    with Disks(world) as disks:
        for host in (disks.primary, disks.standby):
            what = f"the {host.status()['role']}'s disk hangs"
            since = marks(world)
            disks[host].tell(hang=True)
            time.sleep(5)
            check(f"{what} for 5 s: the guest is heard", world.echo.is_heard(), world.states())
            nothing_changes(world, what, since)
            disks[host].whole()
            check(f"{what} no more: the guest writes", disks.writes_on(), world.states())
        disks.whole_again("disks hung", disks.primary)


# F24: lost writes, damaged generation files.


def power_is_lost_with_writes_in_the_disks_caches(world):
    """Of both hosts at once. What was flushed before the guest said so is there afterwards;
    each other sector is, or is not."""
    with Disks(world) as disks:
        disks.write(0)
        for disk in disks.disks.values():
            disk.tell(forgets=True)
        for number in range(bed.count(4, 20)):
            device = 0
            ask(world, f"blkwrite {device} {64 * number} 64 {1000 + number}")
            ask(world, f"blkflush {device}")
            ask(world, f"blkwrite {device} {6144 + 64 * number} 64 {2000 + number}")
            primary, standby = world.pair.protected()
            # At once, as far as anybody can act: the slower one to die gets no grant.
            world.network.cut(*(("lan", *ends) for host in hosts.NODES
                                for ends in ((host, "client"), ("client", host))))
            for host in world.pair.hosts:
                host.power_off()
            world.network.mend()
            lost = sum(disk.lose(number) for disk in disks.disks.values())
            check(f"{number}: both lost power, and what their disks had not written", lost > 0,
                  lost)
            world.end_visit()
            for host in world.pair.hosts:
                host.boot()
            world.pair.protected()
            world.visit()
            check(f"{number}: {lost} sectors of theirs are gone: the guest starts on the host "
                  "that was the primary",
                  world.pair.primary is primary, world.states())
            wrong = [ask(world, f"blkverify {device} {64 * old} 64 {1000 + old}")["bad"]
                     for old in range(number + 1)]
            check(f"{number}: all that it had flushed is there", not any(wrong), wrong)
            if number % 2:
                with world.outage(f"{number}: the host that was the primary dies"):
                    world.pair.primary.power_off()
                    heard = world.echo.is_heard()
                check(f"{number}: and on the standby's disk too", heard
                      and not any(ask(world, f"blkverify {device} {64 * old} 64 {1000 + old}")
                                  ["bad"] for old in range(number + 1)))
                primary.boot()
                world.pair.protected()
            world.turn = len(world.listener.turns) - 1
        world.end_visit()


def refuses(host, data):
    """What colod says of such a generation file, or None where it goes on with it."""
    path = os.path.join(host.state_dir, host.pair.name, "generation")
    with open(path, "wb") as file:
        file.write(data)
    log = os.path.join(host.log_dir, "colod.log")
    size = os.path.getsize(log)
    host.start()
    while host.colod.poll() is None:
        status = host.status()
        if status and "generation file" in str(status.get("reason")):
            break
        if status:
            host.kill_colod()
            return None
        time.sleep(0.01)
    else:
        with open(log) as file:
            file.seek(size)
            return file.read()
    host.kill_colod()
    return str(status)


def a_generation_file_is_damaged(world):
    """By one byte anywhere, or cut short anywhere: no guest is started from it, and why is
    said. The other node's own is whole, and the pair comes back by it."""
    primary, standby = world.protected()
    world.end_visit()
    primary.colo("stop", "--force")
    check("both are stopped", all(host.is_in("stopped") for host in world.pair.hosts),
          world.states())
    primary.kill_colod()
    whole = generation_file(primary)
    path = os.path.join(primary.state_dir, primary.pair.name, "generation")
    step = 1 if bed.LONG else 3
    damaged = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:]
               for at in range(0, len(whole), step)]
    damaged += [whole[:length] for length in range(0, len(whole), step)]
    bad, unexplained = [], []
    for data in damaged:
        said = refuses(primary, data)
        if said is None or primary.pids("colo-vm"):
            bad.append(data)
        elif path not in said:
            unexplained.append((data, said))
    check(f"none of {len(damaged)} damaged generation files is believed", not bad, bad)
    check("each is named, with what to do", not unexplained, unexplained)
    with open(path, "wb") as file:
        file.write(whole)
    with open(path + ".new", "wb") as file:
        file.write(whole[:20])
    primary.start()
    # What is ordered before the two are connected only this one does.
    check("the whole one is, beside one that was being written", primary.is_in("stopped")
          and hosts.eventually(lambda: primary.status()["peer"]["reachable"]), world.states())
    primary.colo("start")
    world.visit()
    check("and the pair is protected again", world.pair.is_protected() and
          world.echo.is_heard(), world.states())


# F26-F28: memory, processors, descriptors and threads.


def group(kind):
    """A control group of this test's own."""
    try:
        return groups.group(kind)
    except groups.Unavailable as reason:
        raise Skipped(reason) from None


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def provoke(world, host):
    """What makes programs of a host take memory."""
    visitors.ask_guest(world.network, "touch 6000", 1)
    for _ in range(50):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            host.must("status", seconds=1)
            host.must("events", seconds=1, since=0)


ALMOST_NONE = 64 << 10


def a_program_finds_no_memory(world):
    """The kernel kills it for that, or it needs none."""
    for role, program in (("primary", "colo-vm"), ("standby", "colo-vm"),
                          ("primary", "colo-netcompare"), ("primary", "colo-heartbeat"),
                          ("standby", "colo-heartbeat"), ("primary", "colod"),
                          ("standby", "colod")):
        primary, standby = world.protected()
        host = primary if role == "primary" else standby
        what = f"the {role}'s {program} gets no memory any more"
        with group("memory") as its:
            its.bound_memory(ALMOST_NONE)
            pid = host.pids(program)[0]
            its.put(pid)
            check(f"{what}: the bound is there, and it below",
                  its.memory_bound() <= ALMOST_NONE and (its.pids() == [pid]
                                                         or not is_alive(pid)), its.pids())

            def killed(host=host, pid=pid):
                provoke(world, host)
                return not is_alive(pid)

            died = bool(hosts.eventually(killed, 4))
            refused = its.met()
            # Those that come after it may have some.
            its.bound_memory(None)
        note(f"{what}: it {'was killed' if died else 'lives on what it has'}, and was refused "
             f"memory {refused} times")
        if program == "colo-vm":
            check(f"{what}: the kernel kills it", died)
        if program != "colo-heartbeat":  # which took all that it needs when it began
            check(f"{what}: it wanted some", refused > 0, refused)
        if host.colod.poll() is not None:
            host.start()
        check(f"{what}: the guest is heard", world.echo.is_heard(), world.states())
        went = died and program == "colo-vm" and role == "primary"
        world.well(what, *([primary, standby] if went else [primary]))


def a_host_is_frozen(world):
    """By a control group, as a hypervisor or a snapshot does."""
    for role in ("primary", "standby"):
        primary, standby = world.protected(**PATIENT)
        host = primary if role == "primary" else standby
        other = world.pair.other(host)
        since = marks(world)
        with group("freezer") as its:
            for pid in host.pids():
                its.put(pid)
            its.freeze(True)
            time.sleep(1)
            check(f"the {role} is frozen", its.is_frozen(), its.pids())
            its.freeze(False)
            check(f"the {role} is frozen for 1 s of 5: the guest is heard",
                  world.echo.is_heard(), world.states())
            time.sleep(QUIET_S)
            nothing_changes(world, f"the {role} was frozen for 1 s of 5", since)
            what = f"the {role} is frozen for longer"
            with world.outage(what):
                its.freeze(True)
                check(f"{what}: the other one goes on",
                      other.is_in("solo") and world.echo.is_heard(), world.states())
            its.freeze(False)
        world.well(f"the {role} was frozen", *([primary, standby] if host is primary
                                               else [primary]))


def threads_of(host):
    for pid in host.pids():
        with contextlib.suppress(OSError):
            yield from (int(name) for name in os.listdir(f"/proc/{pid}/task"))


HOG = """
import os, sys, time
if sys.argv[2] == "fifo":
    os.sched_setaffinity(0, {int(sys.argv[3])})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pass
"""


def hog(seconds, *words):
    return subprocess.Popen([sys.executable, "-c", HOG, str(seconds), *map(str, words)])


def took_s(process):
    """How much of a processor it had in its life, and its exit status."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, process.returncode


def a_host_gets_little_of_its_processors(world):
    primary, standby = world.protected(**PATIENT)
    ask(world, "compute 100000000000 bg")
    for role, host in (("primary", primary), ("standby", standby)):
        what = f"four fifths of a processor of the {role}'s are stolen"
        since = marks(world)
        with group("cpu") as its:
            its.slow_down(0.2)
            for pid in host.pids():
                its.put(pid)
            begin, before = time.monotonic(), its.met()
            time.sleep(8)
            check(f"{what}: the guest is heard", world.echo.is_heard(), world.states())
            held_up, periods = its.met() - before, its.counted("cpu.stat", "nr_periods")
            note(f"{what}: longest gap {world.echo.gap_s(begin) * 1000:.0f} ms, held up in "
                 f"{held_up} periods of {periods}")
            check(f"{what}: they wanted more", held_up > 0, (held_up, periods))
        nothing_changes(world, what, since)
    processors, seconds = len(os.sched_getaffinity(0)), 8
    hogs = [hog(seconds, "busy") for _ in range(4 * processors)]
    what = f"{len(hogs)} programs that never rest run beside the pair"
    since = marks(world)
    try:
        check(f"{what}: the guest is heard", world.echo.is_heard(), world.states())
    finally:
        used = [took_s(process)[0] for process in hogs]
    check(f"{what}: they worked, and none got all that it wanted",
          min(used) > 0 and sum(used) < 0.9 * seconds * len(hogs), used)
    nothing_changes(world, what, since)
    what = "a program of real time holds the primary's processor for 3 s"
    since = marks(world)
    everywhere = os.sched_getaffinity(0)
    try:
        for thread in threads_of(primary):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, {0})
        used, status = took_s(hog(3, "fifo", 0))
    finally:
        for thread in threads_of(primary):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, everywhere)
    if status:
        bed.skip(what, "no program of real time may run here")
    else:
        check(f"{what}: so it did", used > 3 / 2, used)
        check(f"{what}: the guest is heard afterwards", world.echo.is_heard(), world.states())
        nothing_changes(world, what, since)
    ask(world, "stop")
    world.well("there was little of the processors", primary)


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def limit_files(pid, limits):
    """As who the process is: the right to do so for others is not everywhere."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status") as file:
            uid, gid = (int(line.split()[1]) for line in file if line[:4] in ("Uid:", "Gid:"))
        subprocess.run(["prlimit", f"--pid={pid}", "--nofile={}:{}".format(*limits)],
                       user=uid, group=gid, extra_groups=[], check=True)


def no_more_files(pid):
    """It may open none from now on; gives what it might before."""
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    with open(f"/proc/{pid}/limits") as file:
        line = next(line for line in file if line.startswith("Max open files"))
    before = tuple(map(int, line.split()[3:5]))
    limit_files(pid, (min(highest + 1, before[1]), before[1]))
    return before


def programs_may_open_no_files(world):
    """All programs of a host at once; and one of them ends meanwhile."""
    for role in ("primary", "standby"):
        primary, standby = world.protected()
        host = primary if role == "primary" else standby
        what = f"the {role}'s programs may open no files"
        since, before = marks(world), {pid: no_more_files(pid) for pid in host.pids()}
        files = {pid: open_files(pid) for pid in before}
        try:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:  # who asks takes what is left
                with contextlib.suppress(OSError, ValueError):
                    host.ask("status", seconds=0.2)
            check(f"{what}: the guest is heard", world.echo.is_heard()
                  and world.talk.goes_on(), world.talk.error)
            host.kill("colo-netcompare")
            time.sleep(QUIET_S)
        finally:
            for pid, limits in before.items():
                limit_files(pid, limits)
        check(f"{what}, and a program has ended: it is started again when they may",
              hosts.eventually(lambda host=host: host.pids("colo-netcompare"))
              and world.echo.is_heard(), host.last_words())
        check(f"{what}: none of the others has ended", all(
            is_alive(pid) for pid in before if hosts.comm(pid) not in (None, "colo-netcompare"))
            and host.colod.poll() is None)
        nothing_changes(world, what, since)
        world.well(what, primary)
        check(f"{what}: and they hold no more than before", hosts.eventually(lambda files=files: all(
            open_files(pid) <= count + 4 for pid, count in files.items() if is_alive(pid)), 20),
            {hosts.comm(pid): (count, open_files(pid)) for pid, count in files.items()
             if is_alive(pid)})


def programs_may_start_no_threads(world):
    """All programs of a host at once; and one of them ends meanwhile."""
    for role in ("primary", "standby"):
        primary, standby = world.protected()
        host = primary if role == "primary" else standby
        what = f"the {role}'s programs may start no threads and no programs"
        since = marks(world)
        with group("pids") as its:
            pids = host.pids()
            for pid in pids:
                its.put(pid)
            its.bound_tasks(1)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError, ValueError):
                    host.ask("status", seconds=1)
            check(f"{what}: the guest is heard", world.echo.is_heard()
                  and world.talk.goes_on(), world.talk.error)
            nothing_changes(world, what, since)
            checkpoint = primary.ask("checkpoint")
            check(f"{what}: checkpoints are taken", checkpoint["ok"], checkpoint)
            check(f"{what}: all of them live", all(map(is_alive, pids)),
                  [hosts.comm(pid) for pid in pids if is_alive(pid)])
            host.kill("colo-heartbeat")
            check(f"{what}, and one has ended: it cannot be started", hosts.eventually(its.met)
                  and not host.pids("colo-heartbeat"), its.get("pids.events"))
            check(f"{what}, and one has ended: the guest is heard", world.echo.is_heard()
                  and world.talk.goes_on(), world.talk.error)
            its.bound_tasks(None)
            check(f"{what}, and one has ended: it is started again when they may",
                  hosts.eventually(lambda host=host: host.pids("colo-heartbeat")),
                  host.last_words())
        nothing_changes(world, what, since)
        if host.colod.poll() is not None:
            host.start()
        world.well(what, primary)


TESTS = [
    a_primarys_disk_fails,
    a_primarys_disk_fails_and_nobody_hands_over,
    a_standbys_disk_fails,
    both_disks_are_full,
    a_flush_that_failed_is_never_tried_again,
    a_state_folder_is_full,
    a_log_folder_is_full,
    disks_are_slow,
    a_disk_hangs_for_a_while,
    power_is_lost_with_writes_in_the_disks_caches,
    a_generation_file_is_damaged,
    a_program_finds_no_memory,
    a_host_is_frozen,
    a_host_gets_little_of_its_processors,
    programs_may_open_no_files,
    programs_may_start_no_threads,
]

if __name__ == "__main__":
    main(TESTS)
