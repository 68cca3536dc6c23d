#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Switching off, resetting and panicking; the other devices of a stock guest."""
import bed
from bed import Machine, check, linux

SMALL = ["--memory", "192M"]


def reboot_and_power_off(h1):
    vm = Machine(h1, *linux(), *SMALL, "--cpus", "2").watch()
    vm.ready()
    vm.terminal.make_plain()
    start = len(vm.terminal.stream.text)
    vm.terminal.type("reboot -f\n")
    check("after reboot from inside, the guest comes up again",
          vm.boots_anew(start), vm.last_words())
    check("... and that was an event", vm.control.event("reset"))
    start = len(vm.terminal.stream.text)
    check("the command reset is accepted", vm.control.send("reset")["ok"])
    check("... and the guest comes up again", vm.boots_anew(start), vm.last_words())
    vm.terminal.plain = False  # another shell
    vm.ask("until pidof guestd; do sleep 1; done; sleep 1")
    check("the power button is pressed", vm.control.send("powerdown")["ok"])
    check("... the guest sees it", vm.console("colo-guest: power button"), vm.last_words())
    check("... switches itself off, and colo-vm ends with status 0", vm.wait() == 0,
          vm.last_words())
    check("... and says so in an event", vm.control.event("poweroff"), vm.control.events)
    check("no socket is left behind", not h1.exists(vm.socket))


def reset_as_end(h1):
    vm = Machine(h1, *linux(), *SMALL, "--no-reboot").ready()
    vm.terminal.make_plain()
    vm.terminal.type("reboot -f\n")
    check("with --no-reboot a reset ends colo-vm with status 0", vm.wait() == 0,
          vm.last_words())


def panic(h1):
    vm = Machine(h1, *linux("panic=0"), *SMALL).watch().ready()
    vm.terminal.make_plain()
    vm.terminal.type("echo c > /proc/sysrq-trigger\n")
    check("a panic of the guest's kernel is an event", vm.control.event("panic"),
          vm.last_words())
    check("... and no end", vm.process.poll() is None
          and vm.control.must("status")["state"] == "running")
    h1.must("kill -TERM $1", vm.control.must("status")["pid"])
    check("SIGTERM ends colo-vm with status 0", vm.wait() == 0, vm.last_words())
    check("... which removes its socket", not h1.exists(vm.socket))


def disks(h1):
    """Several disks, one of them read-only; the virtio console; the entropy device."""
    h1.make_disk("first.img")
    h1.make_disk("second.img", "48M")
    h1.make_disk("fixed.img", "16M")
    before = h1.must("sha256sum < /var/lib/colo/fixed.img")
    vm = Machine(h1, *linux("colo.mount=1"), "--memory", "256M", "--cpus", "2",
                 "--disk", "path=/var/lib/colo/first.img",
                 "--disk", "path=/var/lib/colo/second.img,serial=SECOND,direct=on",
                 "--disk", "path=/var/lib/colo/fixed.img,readonly=on",
                 "--hvc", "unix:/var/lib/colo/hvc.sock").ready()
    check("each of three disks has its size in the guest",
          vm.ask("cat /sys/block/vd?/size").split() == ["131072", "98304", "32768"])
    check("... and its serial number", vm.ask("cat /sys/block/vdb/serial") == "SECOND")
    check("a second disk, past the host's page cache, can be written",
          vm.ask("mkdir /second && mount -t ext4 /dev/vdb /second && "
                 "head -c 5000000 /dev/urandom > /second/x && sync && "
                 "a=$(sha256sum < /second/x) && echo 3 > /proc/sys/vm/drop_caches && "
                 "[ \"$a\" = \"$(sha256sum < /second/x)\" ] && umount /second && echo fine")
          == "fine")
    check("a read-only disk is read-only in the guest",
          vm.ask("cat /sys/block/vdc/ro") == "1")
    check("... can be read", "lost+found" in vm.ask(
        "mkdir /fixed; mount -t ext4 -o ro,noload /dev/vdc /fixed; ls /fixed; umount /fixed"))
    vm.ask("dd if=/dev/zero of=/dev/vdc bs=4096 count=8 conv=fsync")
    check("... and not written", h1.must("sha256sum < /var/lib/colo/fixed.img") == before)
    freed_space(h1, vm)
    hvc(h1, vm)
    check("/dev/hwrng gives bytes that are not all the same",
          len(set(vm.ask("cat /sys/class/misc/hw_random/rng_current > /tmp/rng; "
                         "dd if=/dev/hwrng bs=64 count=1 2> /dev/null | hexdump -v -e "
                         "'1/1 \"%02x \"'").split())) > 20)
    check("... from virtio", "virtio_rng" in vm.ask("cat /tmp/rng"))
    vm.terminal.type("umount /mnt; poweroff -f\n")
    check("the guest switches itself off", vm.wait() == 0, vm.last_words())
    result = h1.check_disk("first.img")
    check("the file system on the first disk is clean", result, result)


def used_kib(h1):
    return int(h1.must("sync; du -k /var/lib/colo/first.img").split()[0])


def freed_space(h1, vm):
    empty = used_kib(h1)
    vm.ask("head -c 30000000 /dev/urandom > /mnt/big; sync")
    full = used_kib(h1)
    vm.ask("rm /mnt/big; sync; fstrim /mnt; sync")
    trimmed = used_kib(h1)
    bed.note(f"image: {empty} KiB, with a file of 30 MB {full} KiB, after fstrim {trimmed} KiB")
    check("fstrim in the guest gives space of the image back to the host",
          full - empty > 25000 and trimmed - empty < 5000)
    check("blkdiscard does so for a whole disk, which then reads as zeros",
          vm.ask("blkdiscard /dev/vdb; cmp -n 40000000 /dev/vdb /dev/zero && echo same")
          == "same" and int(h1.must("du -k /var/lib/colo/second.img").split()[0]) < 100)


def hvc(h1, vm):
    process = h1.popen("socat", "-", "UNIX-CONNECT:/var/lib/colo/hvc.sock",
                       stdin=bed.subprocess.PIPE, stdout=bed.subprocess.PIPE)
    terminal = bed.Terminal(process.stdout, process.stdin)
    terminal.type("\n")
    check("the virtio console has a shell",
          terminal.ask("echo $((40+2))") == "42",
          terminal.stream.text)
    process.stdin.close()
    bed.end_process(process)


TESTS = [reboot_and_power_off, reset_as_end, panic, disks]

if __name__ == "__main__":
    bed.run(TESTS, hosts=1, memory=1024)
