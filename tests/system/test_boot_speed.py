#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a stock guest takes to boot in colo-vm and in QEMU, in the same host.

The two alternate, so that what else the machine does falls on both. Times run from the
start of the process to the guest's "ready". All times, medians and their ratio are printed;
what is judged is only that every boot comes to its end.
"""
import bed
from bed import check, note

ARGUMENTS = "console=ttyS0 loglevel=4 colo.ip=10.90.1.50/24 colo.mount=1"
COLO_VM = f"""colo-vm --kernel /guest/vmlinuz-cloud --initrd /guest/initrd-cloud.img \\
    --append '{ARGUMENTS}' --memory 256M --cpus 2 --disk path=speed.img --net tap=guest0"""
QEMU = f"""qemu-system-x86_64 -accel kvm -cpu host -machine %s -nodefaults -no-user-config \\
    -display none -kernel /guest/vmlinuz-cloud -initrd /guest/initrd-cloud.img \\
    -append '{ARGUMENTS}' -m 256 -smp 2 -serial stdio -device virtio-rng-pci \\
    -drive file=speed.img,if=none,id=d,format=raw,cache=writeback \\
    -device virtio-blk-pci,drive=d \\
    -netdev tap,id=n,ifname=guest0,script=no,downscript=no \\
    -device virtio-net-pci,netdev=n,romfile="""
# Times are taken in the host; the guest is ended as soon as it is ready.
MEASURE = """
cd /var/lib/colo
rm -f pipe; mkfifo pipe
began=$EPOCHREALTIME
timeout 120 $COMMAND < /dev/null > pipe 2> speed.log &
pid=$!
grep -q -m 1 'colo-guest: ready' < pipe; found=$?
ended=$EPOCHREALTIME
kill $pid; wait $pid
[ $found = 0 ] && echo $(( ${ended/./} - ${began/./} )) || cat speed.log
"""


def seconds_to_ready(h1, command):
    script = MEASURE.replace("$COMMAND", command)
    result = h1.run("bash", "-c", script, seconds=180)
    if not result.output.strip().isdigit():
        raise RuntimeError(f"no guest came up: {result}")
    return int(result.output) / 1e6


def no_slower_than_qemu(h1):
    h1.make_bridge()
    h1.make_disk("speed.img")
    programs = {"colo-vm": COLO_VM, "QEMU (q35)": QEMU % "q35"}
    if bed.LONG:
        programs["QEMU (pc)"] = QEMU % "pc"
    times = {name: [] for name in programs}
    for _ in range(bed.count(2, 10)):
        for name, command in programs.items():
            times[name].append(seconds_to_ready(h1, command))
    ours = bed.median(times["colo-vm"])
    for name, taken in times.items():
        note(f"{name}: " + " ".join(f"{t:.2f}" for t in taken) +
             f"; median {bed.median(taken):.2f} s, {bed.median(taken) / ours:.2f} of colo-vm's")
    shortest = {name: min(taken) for name, taken in times.items()}
    note("shortest: " + ", ".join(f"{name} {t:.2f} s" for name, t in shortest.items()))
    # Timings vary from run to run: the ratio is printed, not judged. seconds_to_ready() ends
    # the test where a guest does not come up.
    check("colo-vm and QEMU bring a guest up, and the times beside each other are printed",
          all(len(taken) == bed.count(2, 10) for taken in times.values()))


if __name__ == "__main__":
    bed.run([no_slower_than_qemu], hosts=1, memory=1536)
