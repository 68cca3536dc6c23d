#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparator on a stock Debian kernel, whose nft_queue lets it hold whole frames: the
tests of tests/nets, and connections at random, run in a test host."""
import os

import bed

COUNT = 20000 if bed.LONG else 1000
# What depends on the way in which packets get into the queue; LONG: all.
CHOSEN = [] if bed.LONG else [
    "nothing_passes_while_the_gate_is_closed", "everything_passes_with_the_gate_open",
    "a_comparator_that_dies_lets_nothing_out", "what_is_neither_ip_nor_arp_is_held_too",
    "large_packets_stay_whole", "the_rule_is_put_in_place_once_and_taken_away_on_request",
    "a_routed_tap_is_held_as_well"]


def the_rule_of_nftables_holds_whatever_the_guest_sends(host):
    nets = os.path.join(bed.PROJECT, "tests", "nets")
    host.must("mkdir -p /tmp/tests/system /tmp/build; modprobe tun; modprobe nft_queue; "
              "cp \"$(command -v colo-netcompare)\" /tmp/build")
    host.put(nets, "/tmp/tests")
    host.put(os.path.join(bed.PROJECT, "tests", "system", "bed.py"), "/tmp/tests/system")
    for name, chosen in (("test_netcompare.py", CHOSEN), ("test_random.py", [])):
        done = host.shell(f"COLO_BUILD=/tmp/build COUNT={COUNT} python3 /tmp/tests/nets/{name} "
                          + " ".join(chosen), seconds=1200)
        bed.note("\n".join(line for line in done.output.splitlines()
                           if "connections" in line or line.startswith("not ok")))
        bed.check(f"tests/nets/{name} passes there", done,
                  f"{done.output[-3000:]}{done.errors[-1000:]}")
    way = host.shell("""
        ip link add br7 type bridge && ip tuntap add tap7 mode tap && ip link set tap7 master br7
        timeout 3 colo-netcompare --vm /tmp/nobody --queue 77 --tap tap7 2>&1
        colo-netcompare --remove-rule --queue 77 --tap tap7; ip link del tap7; ip link del br7
        """)
    bed.check("by the rule of nftables, not of iptables", "way=nft" in way.output, way)


if __name__ == "__main__":
    bed.run([the_rule_of_nftables_holds_whatever_the_guest_sends], hosts=1)
