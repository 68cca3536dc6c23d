# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock guest that works, and how it is found whether it still does.

It has 2 CPUs. On each, it computes sums that are known beforehand and reads its clocks every
millisecond; over the network it echoes, and makes lines durable on its disk that are answered
only then. A lost interrupt, a stuck timer or a lost page would stop or falsify one of these.
"""
import hashlib
import re
import secrets
import time

import bed
from bed import Machine, check, linux, note

GUEST = "10.90.1.50"
STANDBY = "10.90.2.2:7700"
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


def prepare(host):
    """The guest's disk, on a host."""
    host.must("mkdir -p /tmp/content && cat > /tmp/content/work <<'END'\n"
              + work_script() + "END\n")
    host.make_disk("disk.img", "12M", "/tmp/content")


def prepare_pair(primary, standby):
    """Bridges, disks and the key of a pair."""
    for host in (primary, standby):
        host.make_bridge()
    prepare(primary)
    # the standby's disk has the right size, and something else on it
    standby.must("head -c $((12 << 20)) /dev/urandom > /var/lib/colo/disk.img")
    key = secrets.token_hex(32)
    for host in (primary, standby):
        host.must("(umask 077; printf %s \"$1\" > /tmp/key)", key)


def start(host, *options, services="echo,journal,clock", work=True):
    """A guest that serves, and has begun to work."""
    append = f"colo.ip={GUEST}/24 colo.mount=1 colo.services={services}"
    vm = Machine(host, *linux(append), *MACHINE, *options).ready()
    vm.terminal.make_plain()
    if work:
        vm.ask("sh /mnt/work > /dev/null 2>&1 < /dev/null &")
    return vm


def sums(vm):
    """How many sums each processor has finished."""
    return [int(x) for x in (vm.ask("cat /tmp/sums.0 /tmp/sums.1") or "").split()]


def judge(vm, before):
    """That all it does goes on, and was right; `before`: its clocks some time ago."""
    first = sums(vm)
    check("each of its CPUs goes on computing",
          bed.eventually(lambda: len(first) == 2
                         and all(new > old for new, old in zip(sums(vm), first))))
    done = sums(vm)
    check("all its sums are right",
          sum(done) > 0 and vm.ask("cat /tmp/wrong 2> /dev/null") == "",
          vm.ask("head /tmp/wrong"))
    note(f"sums: {done}")
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
    trouble = vm.ask("dmesg | grep -E 'BUG:|WARNING:|Oops|stall|lockup|hung|I/O error|"
                     "EXT4-fs error|skew|timed out|nobody cared|backwards'")
    check("the guest's kernel has nothing to complain of", trouble == "", trouble)


def switch_off(vm):
    check("the guest is asked to switch itself off", vm.control.send("powerdown")["ok"])
    check("... and does", vm.wait() == 0, vm.last_words())


def journal(host):
    """The lines of the journal on a host's disk, whose file system must be clean."""
    result = host.check_disk("disk.img")
    check("its file system is clean", result, result)
    return host.must("debugfs -R 'cat journal' /var/lib/colo/disk.img 2> /dev/null"
                     ).splitlines()
