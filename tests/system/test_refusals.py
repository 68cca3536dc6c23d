#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What colo-vm does not take, and what it says: one line, a status that is not 0, and
nothing left behind or changed. In a host of the testbed, with the micro-guest, which is up
in a moment; the guest that misuses its devices also on this machine if it has a /dev/kvm."""
import os
import shutil
import sys
import tempfile

import bed
from bed import MICROGUEST, Here, Machine, check

# Shell around a refused command: what is there before and after must be the same.
AROUND = r"""
there() { ls -A /sys/class/net /var/lib/colo /run /tmp; pidof colo-vm; }
there > /dev/shm/before
timeout 20 "$@" < /dev/null > /dev/shm/out 2> /dev/shm/err
status=$?
there > /dev/shm/after
cat /dev/shm/err >&2
cat /dev/shm/out
diff /dev/shm/before /dev/shm/after >&2 || exit 99
exit $status
"""
MICRO = ["--kernel", "/var/lib/colo/micro", "--console", "none"]
QUIET = ["--control", "/var/lib/colo/refused.sock"]
STATE = "/var/lib/colo/state"
MIB = 1 << 20


def refused(host, sentence, word, *options, command=("colo-vm",), control=QUIET):
    result = host.shell(AROUND, *command, *control, *options, seconds=40)
    return check(f"{sentence}: refused with one clear line, nothing left behind",
                 result.status in (1, 2) and not result.output
                 and result.errors.startswith("colo-vm: ")
                 and result.errors.count("\n") == 1 and word in result.errors, result)


def prepare(host):
    host.put(MICROGUEST, "/var/lib/colo/micro")
    host.must("""
        cd /var/lib/colo
        echo 'not a kernel, but a text that is longer than a boot sector' > text
        for i in 1 2 3 4 5 6; do cat text text text text > more; mv more text; done
        gzip -c /bin/ls > packed.gz
        : > empty
        head -c 700 micro > cut
        truncate -s 8M disk.img
        truncate -s 1M other.img
        """)


def files(host):
    for sentence, word, path in (
            ("a kernel that is not there", "No such file", "/nowhere/vmlinuz"),
            ("a text as kernel", "text", "/var/lib/colo/text"),
            ("a gzip file as kernel", "packed.gz", "/var/lib/colo/packed.gz"),
            ("an ELF program as kernel", "/bin/ls", "/bin/ls"),
            ("an empty file as kernel", "empty", "/var/lib/colo/empty"),
            ("a kernel that was cut off", "cut", "/var/lib/colo/cut"),
            ("a directory as kernel", "colo", "/var/lib/colo")):
        refused(host, sentence, word, "--kernel", path, "--console", "none")
    refused(host, "an initrd that is not there", "No such file",
            *MICRO, "--initrd", "/nowhere/initrd")
    refused(host, "a disk that is not there", "No such file",
            *MICRO, "--disk", "path=/nowhere/disk")
    refused(host, "a directory as disk", "/var/lib", *MICRO, "--disk", "path=/var/lib")
    refused(host, "a control socket in a directory that is not there", "No such file",
            *MICRO, control=["--control", "/nowhere/vm.sock"])
    refused(host, "a control socket where another file is", "text",
            *MICRO, control=["--control", "/var/lib/colo/text"])


def options(host):
    for sentence, word, *words in (
            ("nothing to run", "--kernel"),
            ("an unknown option", "--frobnicate", *MICRO, "--frobnicate"),
            ("a stray argument", "stray", *MICRO, "stray"),
            ("an initrd without a kernel", "--initrd", "--initrd", "/x", "--paused"),
            ("an option given twice", "twice", *MICRO, "--cpus", "1", "--cpus", "2"),
            ("too many CPUs", "--cpus", *MICRO, "--cpus", "9"),
            ("a size that is none", "--memory", *MICRO, "--memory", "lots"),
            ("an unknown CPU model", "--cpu-model", *MICRO, "--cpu-model", "pentium"),
            ("a disk without a path", "path", *MICRO, "--disk", "readonly=on"),
            ("a disk with an unknown key", "colour", *MICRO, "--disk", "path=/x,colour=red"),
            ("one disk given twice", "twice", *MICRO, "--disk", "path=/x", "--disk", "path=/x"),
            ("a MAC address that is none", "mac", *MICRO, "--net", "tap=t,mac=12:34"),
            ("one tap given twice", "twice", *MICRO, "--net", "tap=t", "--net", "tap=t"),
            ("one socket for two things", "--hvc", *MICRO, "--hvc",
             "unix:/var/lib/colo/refused.sock")):
        refused(host, sentence, word, *words)
    refused(host, "waiting for commands without a control socket", "--control",
            *MICRO, "--paused", control=[])


def in_use(host):
    """What another machine uses, and what the user may not use."""
    host.must("ip link add bridge0 type bridge && ip tuntap add dev tap0 mode tap vnet_hdr")
    vm = Machine(host, *MICRO, "--disk", "path=/var/lib/colo/disk.img", "--net", "tap=tap0",
                 "--memory", "64M", control="first.sock")
    vm.control.must("status")
    refused(host, "a disk that another machine uses", "disk.img",
            *MICRO, "--disk", "path=/var/lib/colo/disk.img")
    refused(host, "... for reading only, too", "disk.img",
            *MICRO, "--disk", "path=/var/lib/colo/disk.img,readonly=on")
    refused(host, "a tap that another machine uses", "tap0", *MICRO, "--net", "tap=tap0")
    refused(host, "a control socket that another machine listens on", "first.sock",
            *MICRO, control=["--control", "/var/lib/colo/first.sock"])
    refused(host, "a bridge as tap", "bridge0", *MICRO, "--net", "tap=bridge0")
    refused(host, "an ordinary interface as tap", "lo", *MICRO, "--net", "tap=lo")
    refused(host, "a tap with too long a name", "tap", *MICRO, "--net",
            "tap=a-name-of-17-char")
    check("the machine that uses them was not disturbed",
          vm.control.must("status")["state"] == "running")
    check("... and quits when told to", vm.quit() == 0, vm.last_words())
    user = ("python3", "-c", "import os, sys; os.setgroups([]); os.setgid(65534); "
            "os.setuid(65534); os.execvp(sys.argv[1], sys.argv[1:])", "colo-vm")
    refused(host, "a user who may not use /dev/kvm", "/dev/kvm", *MICRO, command=user,
            control=[])
    host.must("chmod 666 /dev/kvm")
    host.must("ip tuntap add dev tap2 mode tap vnet_hdr user 12345")
    refused(host, "a user who may not use the tap", "tap2", *MICRO, "--net", "tap=tap2",
            command=user, control=[])
    refused(host, "a user who may not make a tap", "tap9", *MICRO, "--net", "tap=tap9",
            command=user, control=[])
    refused(host, "a disk that the user may not write", "disk.img", *MICRO, "--disk",
            "path=/var/lib/colo/disk.img", command=user, control=[])
    refused(host, "a control socket where the user may not make one", "ermission", *MICRO,
            command=user)
    host.must("chmod 660 /dev/kvm; mv /dev/kvm /dev/kvm.away")
    refused(host, "a host without KVM", "/dev/kvm", *MICRO)
    host.must("mv /dev/kvm.away /dev/kvm")


def machine(**changes):
    """The options of the machine that is saved, with changes."""
    parts = {"memory": "64M", "cpus": "2", "cpu-model": "x86-64-v2",
             "disk": "path=/var/lib/colo/disk.img",
             "net": "tap=tap1,mac=52:54:00:00:00:01", "console": "none"}
    parts.update({name.replace("_", "-"): value for name, value in changes.items()})
    return [word for name, value in parts.items() if value is not None
            for word in (["--" + name, value] if value else ["--" + name])]


def states(host):
    """What can be wrong with a saved machine."""
    host.must("ip tuntap add dev tap1 mode tap vnet_hdr")
    vm = Machine(host, "--kernel", "/var/lib/colo/micro", *machine(), "--append",
                 "cmd=\"dirty 500\"")
    vm.control.must("status")
    host.must("sleep 2")
    vm.control.must("pause")
    vm.control.must("save", to=STATE)
    vm.quit()
    before = host.must(f"sha256sum {STATE} /var/lib/colo/disk.img")
    for sentence, word, changes in (
            ("a little more memory", "memory", {"memory": "65M"}),
            ("much more memory", "memory", {"memory": "128M"}),
            ("fewer CPUs", "CPU", {"cpus": "1"}),
            ("more CPUs", "CPU", {"cpus": "3"}),
            ("another CPU model", "CPU", {"cpu_model": "x86-64-v3"}),
            ("another MAC address", "MAC", {"net": "tap=tap1,mac=52:54:00:00:00:02"}),
            ("no network card", "", {"net": None}),
            ("a disk of another size", "disk", {"disk": "path=/var/lib/colo/other.img"}),
            ("no disk", "", {"disk": None}),
            ("a virtio console more", "", {"hvc": "none"}),
            ("no entropy device", "", {"no_rng": ""})):
        refused(host, f"a saved machine, where there is {sentence}", word, "--load", STATE,
                *machine(**changes))
    damaged(host)
    check("the saved machine and the disk are unchanged",
          host.must(f"sha256sum {STATE} /var/lib/colo/disk.img") == before)
    after_refusal(host)


def damaged(host):
    size = int(host.must(f"stat -c %s {STATE}"))
    bad = "/var/lib/colo/bad"
    load = ["--load", bad, *machine()]
    for left in (0, 1, 31, 32, 5000, size // 2, size - 1):
        host.must(f"head -c {left} {STATE} > {bad}")
        refused(host, f"a saved machine cut off after {left} bytes of {size}", "", *load)
    spots = [0, 7, 20, 40, 3000, size // 3, size // 2, size - 30, size - 1]
    for spot in spots:
        flip(host, bad, spot)
        refused(host, f"a saved machine with a wrong byte at {spot} of {size}", "", *load)
    host.must(f"cp {STATE} {bad}; printf '\\177' | dd of={bad} bs=1 seek=4 conv=notrunc "
              "2> /dev/null")
    refused(host, "a saved machine of another version", "version 127", *load)
    host.must(f"cp /var/lib/colo/text {bad}")
    refused(host, "a text as saved machine", "", *load)
    refused(host, "a saved machine that is not there", "No such file",
            "--load", "/nowhere/state", *machine())
    host.must(f"rm {bad}")


def flip(host, bad, spot):
    host.must(f"""cp {STATE} {bad}; python3 -c '
file = open("{bad}", "r+b")
file.seek({spot}); byte = file.read(1)[0]
file.seek({spot}); file.write(bytes([byte ^ 0x10]))'""")


def after_refusal(host):
    vm = Machine(host, "--paused", *machine())
    flip(host, "/var/lib/colo/bad", 3000)
    answer = vm.control.send("load", **{"from": "/var/lib/colo/bad"})
    check("the command load refuses a damaged machine",
          not answer["ok"] and answer["error"]["code"] == "refused", answer)
    check("... and then takes a good one",
          vm.control.send("load", **{"from": STATE})["ok"]
          and vm.control.send("resume")["ok"], vm.last_words())
    state = vm.control.must("status")["state"]
    check("... which runs", state == "running", state)
    vm.end()
    host.must("rm -f /var/lib/colo/bad")


def misuse(place, kernel, disk):
    """Every breach of the virtio rules that the micro-guest knows, on its disk."""
    vm = Machine(place, "--kernel", kernel, "--console", "none", "--memory", "64M",
                 "--hvc", "stdio", "--disk", "path=" + disk).watch()
    ask = MicroGuest(vm)
    device = ask.disk()
    ways = [way for way in ask("misuse").split()[1:]]
    broken = []
    for way in ways:
        ask(f"misuse {way} {device}")
        if vm.control.event("device-broken", seconds=1):
            broken.append(way)
        alive = vm.process.poll() is None and vm.control.send("status")["ok"]
        check(f"misuse \"{way}\" of a disk harms neither colo-vm nor the other devices",
              alive and ask("ping hello").endswith("pong=hello"), vm.last_words())
        vm.control.events.clear()
        start = len(vm.terminal.stream.text)
        vm.control.must("reset")
        vm.console("(?m)^ready", start)
    check("... and where it breaks a rule for certain, the device is stopped with an event",
          {"outside", "loop", "index", "head"} <= set(broken), broken)
    bed.note("stopped with an event: " + " ".join(broken))
    check("the machine then quits in order", vm.quit() == 0, vm.last_words())


class MicroGuest:
    def __init__(self, vm):
        self.vm = vm
        vm.console("(?m)^ready")

    def __call__(self, command):
        start = len(self.vm.terminal.stream.text)
        self.vm.terminal.type(command + "\n")
        found = self.vm.console("(?m)^(ok|error).*$", start)
        return found.group(0).strip() if found else ""

    def disk(self):
        """The disk's number among its devices."""
        return next(word.split(":")[0] for word in self("devices").split()
                    if ",type=2," in word)


def misuse_in_a_host(host):
    misuse(host, "/var/lib/colo/micro", "/var/lib/colo/disk.img")


def misuse_here():
    scratch = tempfile.mkdtemp(prefix="colo-refusals-")
    try:
        here = Here(scratch)
        with open(here.path("disk.img"), "wb") as disk:
            disk.truncate(8 * MIB)
        misuse(here, MICROGUEST, here.path("disk.img"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    HERE = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if sys.argv[1:] == ["misuse_here"]:
        bed.stop_on_signals()
        if HERE:
            bed.run_tests([misuse_here])
        else:
            bed.skip("a guest that misuses a device", "no /dev/kvm here")
        sys.exit(bed.verdict())
    if HERE:
        bed.run_tests([misuse_here] if not sys.argv[1:] else [])
    bed.run([prepare, files, options, in_use, states] + ([] if HERE else [misuse_in_a_host]),
            hosts=1, memory=1024)
