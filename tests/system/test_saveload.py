#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A working stock guest (working.py) is saved and loaded again and again, and notices nothing.

One connection from outside the hosts echoes numbered messages all the time, another has lines
made durable on the guest's disk. COUNT says how often (4; 100 with LONG=1).
"""
import random
import time

import bed
import working
from bed import Journal, Machine, Talk, check, linux, note
from working import GUEST, MACHINE, Clocks

class Guest:
    """The working guest, wherever it runs at the moment."""

    def __init__(self, hosts):
        self.hosts = hosts
        self.here = 0
        for each in hosts:
            each.make_bridge()
        working.prepare(hosts[0])
        self.vm = working.start(hosts[0])
        self.echo = Talk(GUEST, 7)
        self.journal = Journal(GUEST, 9001)
        self.times = {"save": [], "load": []}

    @property
    def host(self):
        return self.hosts[self.here]

    def save(self):
        began = time.monotonic()
        self.vm.control.must("save", to="/var/lib/colo/state")
        self.times["save"].append(time.monotonic() - began)

    def replace(self, *options):
        """Ends the machine; a new one goes on from the saved state."""
        questions = self.vm.terminal.questions
        if self.vm.quit() != 0:
            raise RuntimeError("colo-vm did not end well: " + self.vm.last_words())
        self.vm.end()
        began = time.monotonic()
        self.vm = Machine(self.host, "--load", "/var/lib/colo/state", *MACHINE, *options)
        self.vm.terminal.plain = True
        self.vm.terminal.questions = questions
        self.vm.control.must("status")
        self.times["load"].append(time.monotonic() - began)

    def move(self):
        """To the other host: its disk, its state, and the network's idea of where it is."""
        source = self.host
        self.vm.control.must("pause")
        self.save()
        self.here = 1 - self.here
        for name in ("disk.img", "state"):
            copy(source, self.host, "/var/lib/colo/" + name)
        self.replace()

    def lives(self):
        """Waits until all that the guest does goes on; a sentence on what does not."""
        for name, talk in (("the echo", self.echo), ("the journal", self.journal)):
            if not talk.goes_on():
                return f"{name} does not go on: {talk.error or 'no answer'}"
        return None


def copy(source, target, path):
    reader = source.popen("cat", path, stdout=bed.subprocess.PIPE,
                          stdin=bed.subprocess.DEVNULL)
    writer = target.popen("sh", "-c", 'cat > "$1"', "sh", path, stdin=reader.stdout)
    reader.stdout.close()
    if writer.wait(bed.PATIENCE_S) or reader.wait(bed.PATIENCE_S):
        raise RuntimeError(f"{path} cannot be copied from {source.name} to {target.name}")


def save_and_load(h1, h2):
    times = bed.count(4, 100)
    # the last time goes to the other host; of many, some go there and back
    moves = {times} | {n for n in range(1, times) if n % 20 in (10, 15)}
    chance = random.Random()
    guest = Guest([h1, h2])
    before = Clocks()
    seconds = []
    for number in range(1, times + 1):
        time.sleep(chance.uniform(0, 1.5))
        began = time.monotonic()
        if number in moves:
            guest.move()
        else:
            guest.vm.control.must("pause")
            guest.save()
            guest.replace()
        stuck = guest.lives()
        seconds.append(time.monotonic() - began)
        if stuck:
            check(f"the guest goes on after being saved and loaded {number} times", False,
                  stuck + "\n" + guest.vm.last_words())
            return
    note(f"{times} times, {len(moves)} of them to the other host; from the save until all "
         f"goes on: median {bed.median(seconds):.2f} s, longest {max(seconds):.2f} s")
    note("of which " + ", ".join(f"{what}: median {bed.median(taken):.2f} s"
                                 for what, taken in guest.times.items())
         + ", a new process and its first answer included")
    judge(guest, before, times)


def judge(guest, before, times):
    check(f"a working guest goes on after being saved and loaded {times} times, the last "
          "time on the other host", len(working.sums(guest.vm)) == 2)
    working.judge(guest.vm, before)
    note(f"messages echoed: {guest.echo.good}, longest wait {guest.echo.waited_s:.2f} s; "
         f"lines made durable: {guest.journal.good}")
    check("every message was echoed right over one connection", guest.echo.stop(),
          guest.echo.error)
    check("every line was durable when it was answered", guest.journal.stop(),
          guest.journal.error)
    working.switch_off(guest.vm)
    got = working.journal(guest.host)
    wanted = [f"{n} line {n}" for n in range(1, guest.journal.good + 1)]
    check("the journal on its disk holds every answered line, once and in order",
          got[:len(wanted)] == wanted and len(got) - len(wanted) in (0, 1))


def saved_twice(h1, h2):
    """On a guest that is busy, with two paused moments between which nothing must change."""
    h1.make_disk("disk.img", "12M")
    vm = Machine(h1, *linux("colo.mount=1"), *MACHINE).ready()
    vm.ask("(while :; do dd if=/dev/urandom of=/mnt/x bs=4k count=50 conv=fsync; done) "
           "> /dev/null 2>&1 < /dev/null &")
    same = True
    for _ in range(2):
        vm.control.must("pause")
        for name in ("one", "two"):
            vm.control.must("save", to=f"/var/lib/colo/{name}")
        same &= bool(h1.run("cmp", "/var/lib/colo/one", "/var/lib/colo/two"))
        vm.control.must("resume")
        time.sleep(0.3)
    check("saved twice without running in between, a machine gives the same bytes", same)
    vm.control.must("pause")
    vm.control.must("save", to="/var/lib/colo/one")
    vm.quit()
    vm = Machine(h1, "--load", "/var/lib/colo/one", "--paused", *MACHINE).loaded()
    vm.control.must("save", to="/var/lib/colo/two")
    note("a loaded machine that has not run yet, saved again: " +
         (h1.shell("cmp /var/lib/colo/one /var/lib/colo/two").output.strip()
          or "the same bytes"))
    vm.control.must("resume")
    check("a machine loaded with --paused goes on when resumed", wake(vm), vm.last_words())


def wake(vm):
    vm.terminal.plain = True
    vm.terminal.questions = 1000
    return vm.ask("echo $((40+2))") == "42"


def clocks_at_rest(h1, h2):
    """A saved guest that lies for a while: with --clock still it does not see the gap."""
    h1.make_disk("disk.img", "12M")
    wait_s = 5
    moved = {}
    vm = Machine(h1, *linux("colo.mount=1"), *MACHINE).ready()
    for policy in ("advance", "still"):
        vm.terminal.plain = vm.terminal.questions > 0
        asked = "cat /proc/uptime"
        before = float(vm.ask(asked).split()[0])
        vm.control.must("pause")
        vm.control.must("save", to="/var/lib/colo/one")
        questions = vm.terminal.questions
        vm.quit()
        time.sleep(wait_s)
        vm = Machine(h1, "--load", "/var/lib/colo/one", "--clock", policy, *MACHINE)
        vm.terminal.plain, vm.terminal.questions = True, questions
        answer = vm.ask(asked)
        if not check(f"a machine that lay for {wait_s} s goes on (--clock {policy})", answer,
                     (answer, vm.terminal.stream.text, vm.last_words())):
            raise RuntimeError("it does not")
        moved[policy] = float(answer.split()[0]) - before
    note(f"after {wait_s} s at rest the guest's clock has moved on by "
         + ", ".join(f"{s:.2f} s ({p})" for p, s in moved.items()))
    check("the clock of a loaded guest has moved on by the time that passed",
          moved["advance"] >= wait_s)
    check("... but stood still where that was asked for", moved["still"] < moved["advance"]
          and moved["still"] < wait_s)


# The handover comes last: a test host under emulation may hang when it is given a new guest
# after one has left it.
TESTS = [saved_twice, clocks_at_rest, save_and_load]

if __name__ == "__main__":
    bed.run(TESTS, hosts=2, memory=1024)
