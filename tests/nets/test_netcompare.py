#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What gets out of a guest whose outputs a comparator holds."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import nets
from nets import (ACK, CLOSED, CUT, DRAIN, DRAINED, GUARDED, OPEN, PSH, SOON_S, SYN, Comparator,
                  Scene, arp, bed, ethernet, ipv4, ipv6, sh, tcp, udp)


def datagram(text, **options):
    return ipv4(udp(text.encode()), 17, **options)


def segment(text, seq, flags=ACK | PSH, ack=1, **options):
    return ipv4(tcp(text.encode(), seq, ack, flags, **options), 6)


def open_connection(scene, seq=1000, other=7000, port=80, to=40000):
    """Both guests answer a client's SYN; each counts as it likes."""
    for number, send in ((seq, scene.net.send), (other, scene.vm.frame)):
        send(scene.net.to_client(segment("", number, SYN | ACK, port=port, to=to)))
    return scene.net.gets(segment("", seq, SYN | ACK, port=port, to=to))


def host_listener(port=9999):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((nets.HOST, port))
    sock.settimeout(nets.NEVER_S)
    return sock


def to_host(text, port=9999):
    return ipv4(udp(text.encode(), to=port, target=nets.HOST), 17, target=nets.HOST)


def hears(sock, text):
    try:
        return sock.recv(2048) == text.encode()
    except TimeoutError:
        return False


def nothing_passes_while_the_gate_is_closed():
    with Scene() as scene:
        net, listener = scene.net, host_listener()
        for packet in (datagram("udp"), segment("tcp", 1),
                       ipv6(udp(b"v6", source=nets.GUEST6, target=nets.CLIENT6), 17)):
            net.send(net.to_client(packet))
        net.send(net.to_host(to_host("host")))
        net.send(net.to_client(datagram("tagged"), vlan=5))
        net.send(ethernet(b"\x42\x42\x03" + bytes(50), bytes.fromhex("ffffffffffff"), 53))
        bed.check("while the gate is closed nothing of the guest's reaches a client",
                  net.gets_nothing())
        bed.check("nor the host itself", not hears(listener, "host"))
        for last in (0, 3, 14):
            net.send(ethernet(to_host("local"), bytes.fromhex("0180c20000%02x" % last)))
        bed.check("nor the host at the addresses that bridges do not forward",
                  not hears(listener, "local"))
        scene.vm.gate(OPEN)
        net.got(1)
        bed.check("what was held for the host comes with the open gate",
                  hears(listener, "host"))


def everything_passes_with_the_gate_open():
    with Scene(gate=OPEN) as scene:
        net = scene.net
        for number in range(50):
            net.send(net.to_client(datagram(f"number {number}")))
        got = net.got(nets.SOON_S, 50)
        bed.check("with the gate open packets pass, in order",
                  got == [datagram(f"number {n}") for n in range(50)], len(got))
        net.send(net.to_client(ipv6(udp(b"six", source=nets.GUEST6, target=nets.CLIENT6), 17)))
        bed.check("IPv6 too", len(net.got(nets.SOON_S)) == 1)
        scene.vm.gate(CLOSED)
        bed.check("a gate that is told to close closes", scene.comparator.says("open -> closed"))
        net.send(net.to_client(datagram("late")))
        bed.check("and then nothing passes", net.gets_nothing())


def what_both_guests_say_passes_without_a_checkpoint():
    with Scene(gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("same")))
        bed.check("what only the primary's guest said is held", net.gets_nothing(0.1))
        vm.frame(net.to_client(datagram("same", identification=77)))
        bed.check("a datagram passes when the secondary's guest has sent it too",
                  net.gets(datagram("same")))
        vm.frame(net.to_client(datagram("before")))
        time.sleep(0.02)
        net.send(net.to_client(datagram("before")))
        bed.check("also where the secondary's guest was first", net.gets(datagram("before")))
        bed.check("a TCP connection opens though the guests count differently",
                  open_connection(scene))
        net.send(net.to_client(segment("GET it", 1001, ack=50)))
        vm.frame(net.to_client(segment("GET ", 7001, ack=50)))
        vm.frame(net.to_client(segment("it", 7005, ack=50)))
        bed.check("a TCP segment passes however the other guest cut it",
                  net.gets(segment("GET it", 1001, ack=50)))
        six = ipv6(udp(b"six", source=nets.GUEST6, target=nets.CLIENT6), 17)
        net.send(net.to_client(six))
        vm.frame(net.to_client(six))
        bed.check("IPv6 is compared as well", net.gets(six))
        bed.check("for none of it a checkpoint was asked", vm.request(0.3) is None)
        status = scene.comparator.status()
        bed.check("the status counts them as matched", status["packets"]["matched"] >= 5, status)


def a_changed_byte_never_reaches_the_client_before_a_commit():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        open_connection(scene)
        net.send(net.to_client(segment("balance 100", 1001)))
        vm.frame(net.to_client(segment("balance 900", 7001)))
        bed.check("other bytes at the same position ask for a checkpoint, and say so",
                  vm.request() == "payload")
        bed.check("and are held", net.gets_nothing())
        vm.cut()
        bed.check("a cut alone does not release them", net.gets_nothing(0.2))
        vm.commit()
        bed.check("the commit does", net.gets(segment("balance 100", 1001)))
        bed.check("nothing else is asked for", vm.request(0.2) is None)


def what_the_other_guest_never_says_waits_for_a_checkpoint():
    with Scene(gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("alone")))
        cause = vm.request()
        bed.check("a packet that the secondary's guest does not send asks for a checkpoint",
                  cause == "late", cause)
        bed.check("it is held", net.gets_nothing(0.2))
        vm.checkpoint()
        bed.check("until that is committed", net.gets(datagram("alone")))
        net.send(net.to_client(datagram("after")))
        bed.check("what was sent after the marker is not covered by its commit",
                  net.gets_nothing())


def what_a_commit_lets_go_has_gone_when_the_comparator_says_so():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        vm.epoch += 1
        vm.say(CUT, struct.pack("<B7x", True), vm.epoch)
        vm.commit()
        vm.say(DRAIN, epoch=vm.epoch)
        bed.check("a comparator that did not see the marker yet does not say that all has "
                  "gone", vm.hear(0.2) is None)
        for number in range(200):
            net.send(net.to_client(datagram(f"last {number}")))
        net.send(vm.marker(vm.epoch))
        heard = vm.hear(SOON_S)
        got = net.got()
        bed.check("when it says so, all that was sent before the marker has gone",
                  heard == DRAINED and len(got) == 200, (heard, len(got)))


def packets_after_a_marker_wait_for_its_commit_and_are_then_compared():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("old")))
        vm.cut()
        net.send(net.to_client(datagram("new")))
        bed.check("nothing passes between a cut and its commit", net.gets_nothing(0.2))
        vm.commit()
        bed.check("the commit releases what came before its marker", net.gets(datagram("old")))
        bed.check("but not what came after it", net.gets_nothing(0.2))
        vm.frame(net.to_client(datagram("new")))
        bed.check("which the secondary's guest releases", net.gets(datagram("new")))
        net.send(net.to_client(datagram("stale")))
        vm.frame(net.to_client(datagram("stale")), epoch=vm.epoch - 1)
        bed.check("a frame of an epoch that is over releases nothing", net.gets_nothing(0.2))


def a_comparator_that_dies_lets_nothing_out():
    with Scene(gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("held")))
        net.got(0.1)
        scene.comparator.killed()
        for number in range(20):
            net.send(net.to_client(datagram(f"dead {number}")))
            net.send(net.to_client(ipv6(udp(b"dead", source=nets.GUEST6,
                                            target=nets.CLIENT6), 17)))
        bed.check("with the comparator killed not one packet reaches the client",
                  net.gets_nothing())
        rules = sh("nft list ruleset 2>/dev/null")
        scene.comparator.start()
        bed.check("a new one takes over the queue", scene.comparator.bound())
        bed.check("the rule that it finds is not doubled",
                  without_counters(sh("nft list ruleset 2>/dev/null"))
                  == without_counters(rules))
        vm.accept(GUARDED)
        vm.cut()
        bed.check("it asks for a checkpoint, since it knows nothing", vm.request() == "restart")
        net.send(net.to_client(datagram("again")))
        vm.frame(net.to_client(datagram("again")))
        bed.check("and until that is committed it holds what it cannot judge",
                  net.gets_nothing())
        vm.checkpoint()
        bed.check("the commit releases it", net.gets(datagram("again")))
        vm.frame(net.to_client(datagram("both")))
        net.send(net.to_client(datagram("both")))
        bed.check("and from there on it compares", net.gets(datagram("both")))


def one_that_stood_still_holds_everything():
    with Scene("--stall", "1500", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        bed.check("a connection is open", open_connection(scene))
        scene.comparator.process.send_signal(signal.SIGSTOP)
        net.send(net.to_client(datagram("both say it")))
        vm.frame(net.to_client(datagram("both say it")))
        vm.checkpoint()
        net.send(net.to_client(segment("", 1000, SYN | ACK)))
        vm.frame(net.to_client(datagram("both, again")))
        net.send(net.to_client(datagram("both, again")))
        time.sleep(2.5)
        scene.comparator.process.send_signal(signal.SIGCONT)
        bed.check("a comparator that stood still lets nothing out: no match, no commit of "
                  "before, no repetition", net.gets_nothing())
        bed.check("it asks for a checkpoint", vm.request() == "stall")
        vm.checkpoint()
        got = net.got(nets.SOON_S, 3)
        bed.check("whose commit lets all of it out", len(got) == 3, got)
        bed.check("the status counts it", scene.comparator.status()["stalls"] >= 1,
                  scene.comparator.status())


def one_that_stood_still_amid_its_work_lets_nothing_out():
    """It has seen that both said the same; the kernel was not told yet."""
    for step in ("twin-heard", "verdicts-due"):
        with Scene("--stall", "1500", gate=GUARDED, faults=True) as scene:
            net, vm = scene.net, scene.vm
            bed.check("a connection is open", open_connection(scene))
            scene.stop_at(step)
            net.send(net.to_client(datagram("both say it")))
            vm.frame(net.to_client(datagram("both say it")))
            bed.check(f"the comparator is stopped at {step}", scene.has_stopped())
            time.sleep(2.5)
            scene.comparator.process.send_signal(signal.SIGCONT)
            bed.check("what it had found alike before is not let out after",
                      net.gets_nothing())
            bed.check("it asks for a checkpoint", vm.request() == "stall")
            vm.checkpoint()
            vm.frame(net.to_client(datagram("and so on")))
            net.send(net.to_client(datagram("and so on")))
            # What was not compared yet was kept, and goes out with the commit.
            got = net.got(nets.SOON_S)
            if got and got[0].startswith(datagram("both say it")):
                got = got[1:] or net.got(nets.SOON_S)
            bed.check("from whose commit on it compares again",
                      len(got) == 1 and got[0].startswith(datagram("and so on")), got)


def a_commit_that_is_heard_of_too_late_lets_nothing_out():
    with Scene(gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("held")))
        bed.check("what only the primary's guest said is held", net.gets_nothing(0.1))
        vm.cut()
        bed.check("a cut's marker is seen", bed.eventually(
            lambda: scene.comparator.status()["markers"] == 2, 20), scene.comparator.status())
        scene.comparator.process.send_signal(signal.SIGSTOP)
        vm.commit()
        vm.gate(CLOSED)  # it was handed over
        scene.comparator.process.send_signal(signal.SIGCONT)
        bed.check("the comparator hears of the closed gate",
                  scene.comparator.says("guarded -> closed"))
        bed.check("a commit that it hears of with the closed gate lets nothing out",
                  net.gets_nothing())


def without_counters(rules):
    return [line for line in rules.splitlines() if "counter" not in line] + [
        str(rules.count("queue"))]


def a_lost_connection_to_colo_vm_closes_the_gate():
    with Scene(gate=OPEN) as scene:
        net, vm = scene.net, scene.vm
        vm.sock.close()
        bed.check("the gate closes when colo-vm is gone",
                  scene.comparator.says("open -> closed"))
        net.send(net.to_client(datagram("nobody")))
        bed.check("and nothing passes", net.gets_nothing())
        bed.check("the comparator comes back by itself", vm.accept())
        bed.check("the gate stays closed until it is told", net.gets_nothing(0.2))
        vm.gate(OPEN)
        bed.check("then what was held passes", net.gets(datagram("nobody")))
        net.send(net.to_client(datagram("of the dead guest")))
        net.got(1)
        vm.guard()
        net.send(net.to_client(datagram("of the dead guest")))
        vm.request()
        vm.sock.close()
        vm.secret, vm.epoch = bytes(range(16)), 0
        vm.accept()
        scene.comparator.says("another one")
        vm.gate(OPEN)
        bed.check("what another colo-vm's guest sent is never released", net.gets_nothing())


def a_dead_guest_is_heard_no_more():
    with Scene() as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("left behind")))
        bed.check("a closed gate holds what a guest sends", net.gets_nothing(0.1))
        vm.sock.close()
        vm.secret = bytes(range(16))
        vm.accept()
        scene.comparator.says("another one")
        vm.gate(OPEN)
        bed.check("another colo-vm's open gate does not let it out, marker or not",
                  net.gets_nothing())
        net.send(net.to_client(datagram("alive")))
        bed.check("but what its own guest sends", net.gets(datagram("alive")))


def colo_vm_may_die_while_it_is_asked_for_a_checkpoint():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(segment("one", 1001)))
        for number in range(64):
            net.send(net.to_client(datagram(f"mine {number}")))
        net.got(0.1)
        scene.comparator.process.send_signal(signal.SIGSTOP)
        for number in range(64):
            vm.frame(net.to_client(datagram(f"other {number}")))
        vm.frame(net.to_client(segment("two", 1001)))
        vm.sock.close()
        scene.comparator.process.send_signal(signal.SIGCONT)
        bed.check("the comparator outlives it, and comes back", vm.accept()
                  and scene.comparator.status()["gate"] == "closed")
        bed.check("nothing got out", net.gets_nothing(0.1))


def markers_are_known_by_their_secret():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("first")))
        fake = vm.marker(vm.epoch + 1, bytes(16))
        net.send(net.client_mac + fake[6:])
        vm.epoch += 1
        vm.say(nets.CUT, struct.pack("<B7x", 1), vm.epoch)
        vm.commit()
        bed.check("a marker with a wrong secret releases nothing", net.gets_nothing())
        status = scene.comparator.status()
        bed.check("it is an ordinary packet", status["markers"] == 1, status["markers"])
        vm.checkpoint()
        got = net.got(nets.SOON_S, 2)
        bed.check("which a commit releases like any other",
                  got == [datagram("first"), fake[14:]], got)
        net.send(net.client_mac + vm.marker(vm.epoch + 1)[6:])
        vm.gate(OPEN)
        bed.check("a true marker goes nowhere, even where somebody readdressed it",
                  net.gets_nothing())


def what_is_neither_ip_nor_arp_is_held_too():
    with Scene("--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(ethernet(arp(), b"\xff" * 6, 0x0806))
        bed.check("ARP passes while outputs are guarded", len(net.got(nets.SOON_S)) == 1)
        net.send(net.to_client(datagram("tagged"), vlan=9))
        net.send(ethernet(b"\x10" * 60, net.client_mac, 0x88b5))
        net.send(ethernet(b"\xaa\xaa\x03" + bytes(57), net.client_mac, 60))
        bed.check("tagged frames and other protocols do not pass by themselves",
                  net.gets_nothing())
        vm.checkpoint()
        got = net.got(0.3)
        bed.check("a commit releases them, or the rule drops them where iptables is what the "
                  "kernel has", len(got) == (3 if "way=nft" in scene.comparator.errors.text
                                             else 0), got)


def large_packets_stay_whole():
    with Scene(gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        open_connection(scene)
        data = "x" * 40000
        whole = segment(data, 1001, whole=False)
        # needs checksum at 34 + 16; TCPv4 of 1448-byte pieces
        header = struct.pack("<BBHHHHH", 1, 1, 54, 1448, 34, 16, 0)
        net.send(net.to_client(whole), header)
        bed.check("a packet that is yet to be cut is held", net.gets_nothing(0.1))
        for at in range(0, 40000, 1000):
            vm.frame(net.to_client(segment(data[at:at + 1000], 7001 + at)))
        got = net.got(nets.SOON_S)
        bed.check("and passes whole, as the guest gave it", got and got[0] == whole,
                  [len(p) for p in got])
        small = segment("tail", 41001, whole=False)
        net.send(net.to_client(small), struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0))
        vm.frame(net.to_client(segment("tail", 47001)))
        got = net.got(nets.SOON_S)
        bed.check("a checksum that the guest left to its card is right when it matters",
                  got and got[0][:36] == small[:36] and got[0][38:] == small[38:], got)
        net.send(net.to_client(segment("deep", 41005, ack=50, whole=False)),
                 struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0))
        vm.frame(net.to_client(segment("deep", 47005, ack=20)))
        got = net.got(nets.SOON_S)
        bed.check("... and where its acknowledgement is lowered, its window's edge not",
                  got == [segment("deep", 41005, ack=20, window=1030)], got)


def losses_on_the_way_are_divergences():
    with Scene("--receive-buffer", "64K", "--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        net.send(net.to_client(datagram("first")))
        net.got(0.1)
        scene.comparator.process.send_signal(signal.SIGSTOP)
        for number in range(1000):
            net.send(net.to_client(datagram(f"flood {number}")))
        scene.comparator.process.send_signal(signal.SIGCONT)
        net.send(net.to_client(datagram("last")))
        cause = vm.request()
        bed.check("packets that are lost on their way to the comparator ask for a checkpoint",
                  cause == "overrun", cause)
        vm.frame(net.to_client(datagram("last")))
        bed.check("until then nothing is compared, for a marker may be among them",
                  net.gets_nothing())
        vm.checkpoint()
        got = net.got(nets.SOON_S)
        bed.check("the next checkpoint covers what did come",
                  got[:1] == [datagram("first")] and len(got) < 1000)
        vm.say(nets.LOST, epoch=vm.epoch)
        cause = vm.request()
        bed.check("so does a secondary that lost what its guest sent", cause == "overrun", cause)


def a_guest_cannot_fill_the_host():
    with Scene("--queue-length", "64", "--late-max", "5000", gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        for number in range(500):
            net.send(net.to_client(datagram(f"flood {number}")))
        cause = vm.request()
        bed.check("too many packets that wait ask for a checkpoint", cause == "memory", cause)
        bed.check("more are dropped", bed.eventually(
            lambda: scene.comparator.status()["crowded"] > 400, 5), scene.comparator.status())
        vm.checkpoint()
        got, more = [], net.got(nets.SOON_S, 64)
        while more:
            got, more = got + more, net.got(0.2)
        bed.check("a checkpoint covers the others, in their order",
                  got == [datagram(f"flood {n}") for n in range(len(got))]
                  and 64 <= len(got) < 80, len(got))


def datagrams_for_nobody(net):
    """How many came to the client's own network stack."""
    udp_lines = [line.split() for line in sh(
        f"nsenter -t {net.holder.pid} -n cat /proc/net/snmp").splitlines()
                 if line.startswith("Udp:")]
    return int(dict(zip(*udp_lines))["NoPorts"])


def strangers_in_the_queue_get_nowhere():
    with Scene(gate=OPEN) as scene, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        def says_something():
            before = datagrams_for_nobody(scene.net)
            host.sendto(b"stray", (nets.CLIENT, 9))
            return bed.eventually(lambda: datagrams_for_nobody(scene.net) > before, 1)

        bed.check("what the host says itself is nobody's to hold", says_something())
        words = f"OUTPUT -p udp -d {nets.CLIENT} -j NFQUEUE --queue-num {nets.QUEUE}"
        sh(f"iptables -I {words}")
        bed.check("a packet that comes to the queue from no tap of the guest's is dropped",
                  not says_something())
        status = scene.comparator.status()
        bed.check("and counted", status["strangers"] >= 1, status)
        sh(f"iptables -D {words}")


def the_rule_is_put_in_place_once_and_taken_away_on_request():
    with Scene(start=False) as scene:
        net = scene.net
        scene.comparator = Comparator(scene.vm, scene.dir)
        scene.comparator.bound()
        scene.vm.accept()
        first = sh("nft list ruleset 2>/dev/null")
        bed.check("there is a rule with this queue's number", f"queue num {nets.QUEUE}" in first
                  or f"queue to {nets.QUEUE}" in first, first)
        scene.comparator.process.terminate()
        bed.check("a comparator ends in order on SIGTERM", scene.comparator.wait() == 0)
        bed.check("its rule stays", without_counters(sh("nft list ruleset 2>/dev/null"))
                  == without_counters(first))
        net.send(net.to_client(datagram("nobody holds")))
        bed.check("and nothing passes", net.gets_nothing())
        scene.start()
        bed.check("a second start does not double it",
                  without_counters(sh("nft list ruleset 2>/dev/null"))
                  == without_counters(first))
        scene.comparator.process.terminate()
        scene.comparator.wait()
        words = [nets.PROGRAM, "--queue", str(nets.QUEUE), "--tap", "tap0", "--remove-rule"]
        bed.check("--remove-rule ends with 0", subprocess.run(words).returncode == 0)
        left = sh("nft list ruleset 2>/dev/null")
        bed.check("and leaves no rule", "queue" not in left and "colo_" not in left, left)
        net.send(net.to_client(datagram("free")))
        bed.check("what the guest sends passes then", net.gets(datagram("free")))
        bed.check("--remove-rule where there is none is no error",
                  subprocess.run(words).returncode == 0)


def refusals():
    with Scene() as scene:
        def attempt(*words, **who):
            done = subprocess.run([nets.PROGRAM, *words], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=20, **who)
            return done.returncode, done.stderr.strip()

        good = ["--vm", scene.vm.path, "--queue", str(nets.QUEUE), "--tap", "tap0"]
        status, text = attempt(*good)
        bed.check("a queue that another process has is refused, with its number",
                  status == 3 and "in use by another process" in text, (status, text))
        free = ["--vm", scene.vm.path, "--queue", "8", "--tap", "tap0"]
        status, text = attempt(*free, user=65534, group=65534, extra_groups=[])
        bed.check("who may not is told so", status == 3 and "CAP_NET_ADMIN" in text,
                  (status, text))
        status, text = attempt("--vm", scene.vm.path, "--queue", "8", "--tap", "nosuch0")
        bed.check("a tap that is not there is refused", status == 3 and "nosuch0" in text,
                  (status, text))
        for words, what in (
                (["--queue", "8", "--tap", "tap0"], "--vm"),
                (["--vm", "x", "--tap", "tap0"], "--queue"),
                (["--vm", "x", "--queue", "8"], "--tap"),
                (["--vm", "x", "--queue", "70000", "--tap", "tap0"], "65535"),
                (["--vm", "x", "--queue", "8", "--tap", "tap0;reboot"], "no name of a tap"),
                (["--vm", "x", "--queue", "8", "--tap", "-j"], "no name of a tap"),
                (["--vm", "x", "--queue", "8", "--tap", "tap+"], "no name of a tap"),
                (["--vm", "x", "--queue", "8", "--tap", "tap0,tap0"], "twice"),
                (free + ["--rule", "ipchains"], "ipchains"),
                (free + ["--mode", "fast"], "fast"),
                (free + ["--memory", "lots"], "lots"),
                (free + ["--late-max", "0"], "late-max"),
                (free + ["more"], "more")):
            status, text = attempt(*words)
            bed.check(f"refused: {' '.join(words[-2:])}", status == 2 and what in text,
                      (status, text))
        rules = sh("nft list ruleset 2>/dev/null")
        bed.check("none of it left a rule", "queue num 8" not in rules
                  and "colo_q8" not in rules, rules)


def words_that_are_not_right_end_the_connection():
    def head(kind, payload=b"", epoch=0, device=0, length=None):
        return struct.pack("<HHIQ", kind, device,
                           len(payload) if length is None else length, epoch) + payload

    gate = struct.pack("<II", OPEN, 0)
    frame = bytes(12) + bytes(60)
    wrong = {
        "shorter than a head": b"\1\0",
        "of no known kind": head(99),
        "of a kind that is ours to say": head(nets.READY),
        "longer than it says": head(nets.GATE, gate, length=7),
        "a gate of no known kind": head(nets.GATE, struct.pack("<II", 3, 0)),
        "a gate with padding": head(nets.GATE, struct.pack("<II", OPEN, 1)),
        "a gate with an epoch": head(nets.GATE, gate, epoch=1),
        "a second greeting": head(nets.HELLO, struct.pack("<II16s", 1, 1, bytes(16))),
        "a cut without an epoch": head(nets.CUT, bytes(8)),
        "a cut that is neither": head(nets.CUT, b"\2" + bytes(7), epoch=5),
        "a commit of what has not begun": head(nets.COMMITTED, epoch=5),
        "a frame of a card that is not there": head(nets.FRAME, frame, epoch=1, device=1),
        "a frame that is too short": head(nets.FRAME, bytes(20), epoch=1),
        "a frame that is too long": head(nets.FRAME, bytes(12 + 65551), epoch=1),
    }
    with Scene() as scene:
        net, vm = scene.net, scene.vm
        for what, message in wrong.items():
            start = len(scene.comparator.errors.text)
            vm.gate(OPEN)
            net.got(0.05)
            vm.sock.send(message)
            ended = vm.hear(nets.SOON_S)
            while ended:
                ended = vm.hear(nets.SOON_S)
            told = scene.comparator.errors.wait("connection ended, all is held why=.*", start,
                                                seconds=nets.SOON_S)
            bed.check(f"ended: {what}", ended == 0 and told)
            net.send(net.to_client(datagram("after")))
            bed.check("and nothing passes", net.gets_nothing(0.05))
            vm.accept()
        start = len(scene.comparator.errors.text)
        for hello, what in ((lambda: vm.gate(OPEN), "what comes before the greeting"),
                            (lambda: vm.hello(version=2), "another version"),
                            (lambda: vm.hello(cards=0), "no cards"),
                            (lambda: vm.hello(cards=2), "more cards than taps")):
            vm.sock.close()
            vm.sock, _ = vm.listener.accept()
            hello()
            bed.check(f"ended: {what}", vm.hear(nets.SOON_S) == 0)
        net.send(net.to_client(datagram("after")))
        bed.check("and nothing passes", net.gets_nothing(0.1))
        vm.accept(OPEN)
        bed.check("the comparator lives on", bool(net.got(nets.SOON_S)))


def a_routed_tap_is_held_as_well():
    with Scene(routed=True, gate=GUARDED) as scene:
        net, vm = scene.net, scene.vm
        packet = ipv4(udp(b"routed", source="10.98.0.2"), 17, source="10.98.0.2")
        net.send(net.to_client(packet))
        bed.check("through a router nothing passes by itself", net.gets_nothing(0.3))
        bed.check("markers are seen there too", scene.comparator.status()["markers"] == 1,
                  scene.comparator.status()["markers"])
        vm.checkpoint()
        got = net.got(nets.SOON_S)
        bed.check("a commit releases it", got and got[0][20:] == packet[20:], got)
        vm.frame(net.to_client(packet))
        net.send(net.to_client(packet))
        got = net.got(nets.SOON_S)
        bed.check("and so does comparing", got and got[0][20:] == packet[20:], got)
        listener = host_listener()
        sh("ip link add br1 up type bridge; ip addr add 10.99.0.1/24 dev br1; "
           "ip link set tap0 master br1")
        net.send(ethernet(to_host("bridged"), bytes.fromhex("ffffffffffff")))
        bed.check("once somebody makes the tap a bridge's port, nobody hears it",
                  not hears(listener, "bridged"))


def the_mode_is_said_with_its_reason():
    with Scene("--mode", "buffered") as scene:
        scene.vm.guard()
        scene.vm.hear(3)
        bed.check("the mode that was asked for is told to colo-vm",
                  scene.vm.modes[:1] == [(0, "it was asked for")], scene.vm.modes)
        status = scene.comparator.status()
        bed.check("and stands in the status", status["mode"] == {
            "compare": False, "why": "it was asked for"}, status["mode"])


def the_control_socket_bears_anything():
    with Scene() as scene:
        for line, part in ((b"{}", "bad-request"), (b"[]", "bad-request"), (b"x", "bad-request"),
                           (b'{"command":"fly"}', "unknown-command"),
                           (b"[" * 3000, "bad-request"), (b"\xff", "bad-request")):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(nets.SOON_S)
                sock.connect(scene.comparator.socket)
                sock.sendall(line + b"\n")
                bed.check(f"answered: {line[:20]!r}", part in sock.recv(4096).decode())
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(nets.SOON_S)
            sock.connect(scene.comparator.socket)
            sock.sendall(b"a" * 65537)
            bed.check("a line without end is answered", b"longer than" in sock.recv(4096))
            bed.check("and its connection ended", ended(sock))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(nets.SOON_S)
            sock.connect(scene.comparator.socket)
            sock.sendall(b'{"id":"x","command":"quit"}\n')
            bed.check("quit is answered", b'"ok":true' in sock.recv(4096))
        bed.check("and ends it", scene.comparator.wait(nets.SOON_S) == 0)


def ended(sock):
    try:
        return sock.recv(100) == b""
    except ConnectionError:
        return True


def no_more_rights_than_needed():
    with (tempfile.TemporaryDirectory() as directory,
          Scene("--dump", os.path.join(directory, "dump.pcapng")) as scene):
        process = f"/proc/{scene.comparator.process.pid}/task"
        net_admin = f"{1 << 12:016x}"
        for task in sorted(os.listdir(process)):
            with open(f"{process}/{task}/status") as file:
                lines = dict(line.split(":\t", 1) for line in file.read().splitlines()
                             if ":\t" in line)
            bed.check(f"its thread {lines['Name']} has CAP_NET_ADMIN and nothing else",
                      all(lines[name] == net_admin for name in ("CapPrm", "CapEff", "CapBnd"))
                      and lines["NoNewPrivs"] == "1", lines)


def packets_that_differ_can_be_looked_at():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "differ.pcapng")
        with Scene("--dump", path, gate=GUARDED) as scene:
            net, vm = scene.net, scene.vm
            open_connection(scene)
            net.send(net.to_client(segment("balance 100", 1001)))
            vm.frame(net.to_client(segment("balance 900", 7001)))
            vm.request()
            scene.comparator.process.terminate()
            scene.comparator.wait()
            with open(path, "rb") as file:
                content = file.read()
        bed.check("a capture file has what differs of both guests, and why",
                  b"100" in content and b"900" in content
                  and b"payload in epoch 1 at position" in content, content)
        readers = [word for word in ("tcpdump",) if shutil.which(word)]
        for reader in readers:
            done = subprocess.run([reader, "-nr", path], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
            bed.check(f"{reader} reads it", done.returncode == 0
                      and done.stdout.count("10.99.0.2.80 > 10.99.0.3.40000") == 2,
                      (done.stdout, done.stderr))


def two_captures_can_be_compared():
    with tempfile.TemporaryDirectory() as directory:
        def capture(name, *texts):
            path = os.path.join(directory, name)
            with open(path, "wb") as file:
                file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
                for number, text in enumerate(texts):
                    frame = ethernet(datagram(text), bytes(6))
                    file.write(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
            return path

        one, same = capture("one", "a", "b"), capture("same", "a", "b")
        other = capture("other", "a", "c")
        for words, status in (((one, same), 0), ((one, other), 1), ((one, "/nosuch"), 2)):
            done = subprocess.run([nets.PROGRAM, "--replay", "--guest", nets.GUEST, *words],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            bed.check(f"a replay ends with {status}: {' '.join(map(os.path.basename, words))}",
                      done.returncode == status, (done.stdout, done.stderr))
        done = subprocess.run([nets.PROGRAM, "--replay", "--json", "--guest", nets.GUEST, one,
                               other], stdout=subprocess.PIPE, text=True)
        bed.check("as JSON too", isinstance(json.loads(done.stdout), dict), done.stdout)


if __name__ == "__main__":
    nets.run([
        nothing_passes_while_the_gate_is_closed,
        everything_passes_with_the_gate_open,
        what_both_guests_say_passes_without_a_checkpoint,
        a_changed_byte_never_reaches_the_client_before_a_commit,
        what_the_other_guest_never_says_waits_for_a_checkpoint,
        what_a_commit_lets_go_has_gone_when_the_comparator_says_so,
        packets_after_a_marker_wait_for_its_commit_and_are_then_compared,
        a_comparator_that_dies_lets_nothing_out,
        one_that_stood_still_holds_everything,
        one_that_stood_still_amid_its_work_lets_nothing_out,
        a_commit_that_is_heard_of_too_late_lets_nothing_out,
        a_lost_connection_to_colo_vm_closes_the_gate,
        a_dead_guest_is_heard_no_more,
        colo_vm_may_die_while_it_is_asked_for_a_checkpoint,
        markers_are_known_by_their_secret,
        what_is_neither_ip_nor_arp_is_held_too,
        large_packets_stay_whole,
        losses_on_the_way_are_divergences,
        a_guest_cannot_fill_the_host,
        strangers_in_the_queue_get_nowhere,
        the_rule_is_put_in_place_once_and_taken_away_on_request,
        refusals,
        words_that_are_not_right_end_the_connection,
        a_routed_tap_is_held_as_well,
        the_mode_is_said_with_its_reason,
        the_control_socket_bears_anything,
        no_more_rights_than_needed,
        packets_that_differ_can_be_looked_at,
        two_captures_can_be_compared,
    ])
