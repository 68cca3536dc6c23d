#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock Debian guests in colo-vm: they boot, and their devices work."""
import bed
from bed import Machine, check, linux, note

NET = ["--net", "tap=guest0"]
GUEST = "10.90.1.50"
MIB = 1 << 20


def shell_network_and_disk(h1):
    h1.make_bridge()
    h1.make_disk("disk.img")
    vm = Machine(h1, *linux(f"colo.ip={GUEST}/24 colo.mount=1 colo.services=echo,http"),
                 *NET, "--cpus", "2", "--memory", "256M",
                 "--disk", "path=/var/lib/colo/disk.img")
    if not check("the stock cloud kernel boots with 2 CPUs", vm.boots(),
                 vm.last_words()):
        return
    vm.console("# ")
    vm.terminal.type("echo answer-$((40+2))\n")
    check("a command typed into the shell on the serial port is answered",
          vm.console("answer-42"), vm.last_words())
    check("the guest has 2 CPUs", vm.ask("nproc") == "2")
    network(h1, vm)
    disk(h1, vm)


def network(h1, vm):
    with bed.connect(GUEST, 7) as sock:
        sock.sendall(b"hello\n")
        check("the guest echoes over TCP", bed.receive_line(sock, bytearray()) == b"hello")
    features = vm.ask("cat /sys/class/net/eth0/device/features")
    names = {0: "checksum", 1: "checksum to the guest", 7: "TSO to the guest", 11: "TSO"}
    check("checksum and segmentation offload are agreed on",
          features and all(features[bit] == "1" for bit in names), features)
    size = 8
    # the first frame each way that is larger than any of the network's
    large = {way: h1.popen("tcpdump", "-i", "guest0", "-nn", "-c", "1",
                           f"tcp and greater 2000 and {way} host {GUEST}",
                           stdin=bed.subprocess.DEVNULL, stdout=bed.subprocess.PIPE)
             for way in ("dst", "src")}
    h1.must("head -c $(($1 << 20)) /dev/urandom > /tmp/bulk", size)
    want = h1.must("sha256sum < /tmp/bulk").split()[0]
    before = vm.control.must("status")["nets"][0]
    sender = h1.popen("socat", "-u", "OPEN:/tmp/bulk", "TCP-LISTEN:5001",
                      stdin=bed.subprocess.DEVNULL)
    h1.must("until ss -ltn | grep -q :5001; do sleep 0.1; done")
    got = vm.ask(f"nc {h1.address} 5001 < /dev/null > /tmp/bulk; sha256sum < /tmp/bulk")
    bed.end_process(sender)
    check(f"{size} MiB sent to the guest arrive unchanged", got and want in got, got)
    receiver = h1.popen("sh", "-c",
                        f"socat -u TCP-LISTEN:5002 - | head -c {size * MIB} | sha256sum",
                        stdin=bed.subprocess.DEVNULL, stdout=bed.subprocess.PIPE)
    h1.must("until ss -ltn | grep -q :5002; do sleep 0.1; done")
    # busybox's nc stays until the other end closes, which waits for the end of ours
    vm.ask(f"(cat /tmp/bulk; sleep 5) | timeout 100 nc {h1.address} 5002 > /dev/null")
    try:
        got = receiver.communicate(timeout=bed.PATIENCE_S)[0].decode()
    except bed.subprocess.TimeoutExpired:
        got = "(no end)"
    bed.end_process(receiver)
    check(f"{size} MiB sent by the guest arrive unchanged", want in got, got)
    after = vm.control.must("status")["nets"][0]
    mean = {way: (after[way + "_bytes"] - before[way + "_bytes"])
            / max(1, after[way + "_frames"] - before[way + "_frames"])
            for way in ("rx", "tx")}
    note(f"mean frame: {mean['rx']:.0f} bytes to the guest, {mean['tx']:.0f} from it")
    for process in large.values():
        bed.eventually(lambda: process.poll() is not None, 5)
        bed.end_process(process)
    seen = {way: process.stdout.read() for way, process in large.items()}
    check("frames larger than the network's pass, both ways",
          after["rx_bytes"] - before["rx_bytes"] > size * MIB
          and all(b"length" in text for text in seen.values()), seen)


def disk(h1, vm):
    first = vm.ask("head -c 8000000 /dev/urandom > /mnt/data; sync; sha256sum < /mnt/data")
    check("what was written to the disk is read back",
          first
          and vm.ask("echo 3 > /proc/sys/vm/drop_caches; sha256sum < /mnt/data") == first)
    vm.ask("echo durable > /mnt/note; fsync /mnt/note 2> /dev/null || sync")
    check("the guest's writes were flushed",
          vm.control.must("status")["disks"][0]["flushes"] > 0)
    vm.terminal.type("umount /mnt; poweroff -f\n")
    check("colo-vm ends with status 0 when the guest switches itself off", vm.wait() == 0,
          vm.last_words())
    checked = h1.check_disk("disk.img")
    check("the file system on the image is clean afterwards", checked, checked)
    check("... and has what was written", first and first.split()[0] in h1.must(
        "debugfs -R 'cat data' /var/lib/colo/disk.img 2> /dev/null | sha256sum"))


def other_kernels_and_cpu_models(h1):
    """Both at once, to save boots. (Whether a v3 guest uses AVX depends on the host: QEMU's
    emulation hides XSETBV from the testbed's KVM, and Linux then does without.)"""
    for name, words, model, has, lacks in (
            ("amd64", "linux-image-amd64", "x86-64-v2", "sse4_2", "movbe"),
            ("6.12", "linux 6.12", "x86-64-v3", "movbe", "avx512f")):
        if not h1.exists(f"/guest/vmlinuz-{name}"):
            bed.skip(f"{words} boots", "Debian does not have it")
            continue
        vm = Machine(h1, *linux(kernel=name), "--cpus", "2", "--memory", "256M",
                     "--cpu-model", model)
        if check(f"{words} boots on a CPU of model {model}", vm.boots(),
                 vm.last_words()):
            note("it is " + str(vm.ask("uname -r")))
            flags = (vm.ask("grep -m 1 flags /proc/cpuinfo") or "").split()
            check(f"... which has {has} and lacks {lacks}",
                  has in flags and lacks not in flags, " ".join(flags))
        vm.end()


def stock_initrd(h1):
    h1.make_disk("stock.img", "128M", "/guest/rootfs")
    vm = Machine(h1, *linux("root=/dev/vda rw", initrd="/guest/initrd-cloud-stock.img"),
                 "--memory", "256M", "--cpus", "2", "--disk", "path=/var/lib/colo/stock.img")
    check("Debian's own kernel and initrd boot from a disk to a shell",
          vm.boots() and "/dev/vda" in (vm.ask("mount | grep ' / '") or ""),
          vm.last_words())


def memory_sizes(h1):
    vm = Machine(h1, *linux(), "--memory", "128M")
    check("a guest with 128 MiB and one CPU boots",
          vm.boots() and vm.ask("nproc") == "1", vm.last_words())
    vm.end()
    if bed.LONG:
        least = next((size for size in (72, 80, 96, 112) if boots_with(h1, size)), 128)
        note(f"the least memory with which the cloud kernel boots: {least} MiB")
    refused = h1.run("colo-vm", *linux(), "--memory", "32M")
    check("32 MiB are refused with a clear line", refused.status == 2
          and "--memory" in refused.errors and refused.errors.count("\n") == 1, refused)
    tight = h1.run("colo-vm", *linux(), "--memory", "64M", "--console", "none",
                   seconds=20)
    check("memory that the kernel and its initrd do not fit in is refused with a clear line",
          tight.status in (1, 2) and "needs" in tight.errors
          and tight.errors.count("\n") == 1, tight)


def boots_with(h1, mib):
    vm = Machine(h1, *linux("panic=-1"), "--memory", f"{mib}M", "--no-reboot")
    found = vm.console(bed.READY, seconds=40)
    note(f"{mib} MiB: " + ("boots" if found else (vm.last_words().splitlines() or ["?"])[-1]))
    vm.end()
    return found


def eight_cpus_and_memory_above_the_gap(h1):
    """Sparse: the guest takes only what it touches."""
    vm = Machine(h1, *linux(), "--memory", "4G", "--cpus", "8")
    if check("a guest with 8 CPUs and 4 GiB boots", vm.boots(), vm.last_words()):
        check("... and has all the CPUs", vm.ask("nproc") == "8")
        total = int((vm.ask("grep MemTotal /proc/meminfo") or "x 0").split()[1])
        check("... and all the memory", total > 3.7 * MIB, f"{total} KiB")
        check("... above the hole below 4 GiB too",
              "100000000-" in (vm.ask("grep 'System RAM' /proc/iomem") or ""))


TESTS = [shell_network_and_disk, stock_initrd, other_kernels_and_cpu_models,
         memory_sizes, eight_cpus_and_memory_above_the_gap]

if __name__ == "__main__":
    bed.run(TESTS, hosts=1, memory=1536)
