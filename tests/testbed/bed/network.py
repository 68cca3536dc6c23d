# SPDX-License-Identifier: GPL-2.0-or-later
"""The network of a testbed: a namespace with one bridge for each segment.

Each host has a tap in each of `lan`, `repl` and `agent`. Cutting a link sets the tap
down: the host still sees a carrier, and nothing passes, as when a switch fails. The
namespace has the address 10.90.1.254 ("tester") on the lan, so that a test can be a
client of what the hosts serve: `ip netns exec $(cat $TESTBED_DIR/netns) ...`.
"""
import subprocess

from bed.common import Failure, call

SEGMENTS = ("lan", "repl", "agent")


def batch(netns, lines):
    done = subprocess.run(["ip", "-n", netns, "-batch", "-"], text=True,
                          input="\n".join(lines) + "\n", stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failure("ip: " + (done.stderr.strip().splitlines() or ["failed"])[0])


def mac(segment, number):
    return f"02:c0:10:00:{SEGMENTS.index(segment) + 1:02x}:{number:02x}"


def tap(host_name, segment):
    return f"{host_name}-{segment}"


def create(netns, hosts):
    call("ip", "netns", "add", netns)
    # an idle testbed stays silent, and no filter of the machine sees its frames
    call("ip", "netns", "exec", netns, "sh", "-c",
         "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1;"
         "sysctl -qw net.bridge.bridge-nf-call-iptables=0"
         " net.bridge.bridge-nf-call-ip6tables=0"
         " net.bridge.bridge-nf-call-arptables=0 2>/dev/null; true")
    lines = ["link set lo up"]
    for index, segment in enumerate(SEGMENTS, 1):
        lines += [f"link add {segment} type bridge forward_delay 0 stp_state 0"
                  " mcast_snooping 0",
                  f"address add 10.90.{index}.254/24 dev {segment}",
                  f"link set {segment} up"]
        for host in hosts:
            port = tap(host, segment)
            lines += [f"tuntap add dev {port} mode tap vnet_hdr",
                      f"link set {port} master {segment} up"]
    batch(netns, lines)


def set_link(netns, host_name, segment, state):
    batch(netns, [f"link set {tap(host_name, segment)} {state}"])


def delete(netns):
    if netns in [line.split()[0] for line in call("ip", "netns", "list").splitlines()]:
        call("ip", "netns", "delete", netns)
