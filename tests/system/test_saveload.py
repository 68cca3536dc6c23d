#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A working stock guest is saved and loaded again and again, and notices nothing.

The guest has 2 CPUs. On each, it computes sums that are known beforehand and reads its
clocks every millisecond; over the network, one connection from outside the hosts echoes
numbered messages, and another has lines made durable on the guest's disk, each answered
only then. A lost interrupt, a stuck timer or a lost page would stop or falsify one of
these. COUNT says how often (10; 100 with LONG=1).
"""
import hashlib
import random
import re
import time

import bed
from bed import Journal, Machine, Talk, check, linux, note

GUEST = "10.90.1.50"
SUM_BYTES = 300000
SUM_TERMS = 2000
MACHINE = ["--cpus", "2", "--memory", "128M", "--cpu-model", "x86-64-v2",
           "--disk", "path=/var/lib/colo/disk.img",
           "--net", "tap=guest0,mac=52:54:00:12:34:56"]
# Integers and floating point on each processor, with pauses, so that timers are used too.
WORK = r"""
worker() {
	done=0
	while :; do
		sum=$(head -c %d /dev/zero | sha256sum)
		float=$(awk 'BEGIN { for (i = 1; i <= %d; i++) s += 1 / i; printf "%%.17g", s }')
		[ "${sum%%%% *} $float" = "%s %s" ] || echo "$sum $float" >> /tmp/wrong
		done=$((done + 1)); echo $done > /tmp/sums.$1
		usleep 200000
	done
}
for cpu in 0 1; do
	worker $cpu &
	taskset -p $((1 << cpu)) $! > /dev/null
done
"""


def work_script():
    total = 0.0
    for i in range(1, SUM_TERMS + 1):
        total += 1 / i
    digest = hashlib.sha256(bytes(SUM_BYTES)).hexdigest()
    return WORK % (SUM_BYTES, SUM_TERMS, digest, f"{total:.17g}")


class Clocks:
    """What the guest's clock service found, and its two clocks."""

    def __init__(self):
        text = bed.ask_port(GUEST, 9002)
        self.asked_at = time.time()
        rows = re.findall(r"cpu \d+ samples (\d+) backward (\d+) gap_max_us (\d+)", text)
        self.samples = [int(row[0]) for row in rows]
        self.backward = sum(int(row[1]) for row in rows)
        self.gap_s = max(int(row[2]) for row in rows) / 1e6
        self.monotonic_s, self.realtime_s = (
            int(x) / 1e9 for x in re.search(r"monotonic_ns (\d+) realtime_ns (\d+)",
                                            text).groups())


class Guest:
    """The working guest, wherever it runs at the moment."""

    def __init__(self, hosts):
        self.hosts = hosts
        self.here = 0
        host = hosts[0]
        for each in hosts:
            each.make_bridge()
        host.must("mkdir -p /tmp/content && cat > /tmp/content/work <<'END'\n"
                  + work_script() + "END\n")
        host.make_disk("disk.img", "12M", "/tmp/content")
        append = (f"colo.ip={GUEST}/24 colo.mount=1 colo.services=echo,journal,clock")
        self.vm = Machine(host, *linux(append), *MACHINE).ready()
        self.vm.terminal.make_plain()
        self.terminal = self.vm.terminal
        self.vm.ask("sh /mnt/work > /dev/null 2>&1 < /dev/null &")
        self.echo = Talk(GUEST, 7)
        self.journal = Journal(GUEST, 9001)
        self.times = {"save": [], "load": []}

    @property
    def host(self):
        return self.hosts[self.here]

    def sums(self):
        """How many sums each processor has finished."""
        return [int(x) for x in (self.vm.ask("cat /tmp/sums.0 /tmp/sums.1") or "").split()]

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
    times = bed.count(10, 100)
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
    sums = guest.sums()
    check(f"a working guest goes on after being saved and loaded {times} times, the last "
          "time on the other host", len(sums) == 2)
    check("each of its CPUs goes on computing",
          bed.eventually(lambda: all(new > old for new, old in zip(guest.sums(), sums))))
    sums = guest.sums()
    check("all its sums are right",
          sum(sums) > 0 and guest.vm.ask("cat /tmp/wrong 2> /dev/null") == "",
          guest.vm.ask("head /tmp/wrong"))
    note(f"sums: {sums}; messages echoed: {guest.echo.good}, longest wait "
         f"{guest.echo.waited_s:.2f} s; lines made durable: {guest.journal.good}")
    clocks = Clocks()
    note(f"readings of the clocks by each CPU: {clocks.samples}, longest gap "
         f"{clocks.gap_s:.2f} s")
    check("no clock ever ran backwards on any CPU", clocks.backward == 0, clocks.backward)
    again = Clocks()
    check("periodic sleeps go on on each CPU",
          all(new > old for new, old in zip(again.samples, clocks.samples)))
    passed = clocks.asked_at - before.asked_at
    for name in ("monotonic_s", "realtime_s"):
        moved = getattr(clocks, name) - getattr(before, name)
        note(f"{name}: {moved:.2f} s went by in the guest, {passed:.2f} s outside")
        # the hosts' own clocks are emulated, and drift a little
        check(f"the guest's {name[:-2]} clock has moved on by what passed",
              abs(moved - passed) < 2 + 0.02 * passed)
    check("every message was echoed right over one connection", guest.echo.stop(),
          guest.echo.error)
    check("every line was durable when it was answered", guest.journal.stop(),
          guest.journal.error)
    trouble = guest.vm.ask("dmesg | grep -E 'BUG:|WARNING:|Oops|stall|lockup|hung|I/O error|"
                           "EXT4-fs error|skew|timed out|nobody cared|backwards'")
    check("the guest's kernel has nothing to complain of", trouble == "", trouble)
    check("the guest is asked to switch itself off",
          guest.vm.control.send("powerdown")["ok"])
    check("... and does", guest.vm.wait() == 0, guest.vm.last_words())
    result = guest.host.check_disk("disk.img")
    check("its file system is clean", result, result)
    lines = guest.host.must("debugfs -R 'cat journal' /var/lib/colo/disk.img 2> /dev/null")
    wanted = [f"{n} line {n}" for n in range(1, guest.journal.good + 1)]
    got = lines.splitlines()
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
