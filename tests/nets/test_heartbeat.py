#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two colo-heartbeat in two network namespaces, with two paths between them.

This process is in the namespace of node a, so that it sees and can send what goes to both;
node b is in another. Path 0 is IPv4, path 1 IPv6 and bound to its device. We are both
nodes' colod.
"""
import collections
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import nets
from nets import SOON_S, bed, sh

PROGRAM = os.path.join(bed.BUILD, "colo-heartbeat")
PORTS = (7801, 7802)
INTERVAL_MS, TIMEOUT_MS = 50, 400
KEY = "5e" * 32
VM, LINK, STALE, LEAVING = 1, 2, 4, 8
NEVER = 0xffffffff
SIZE = 144  # of a datagram

Path = collections.namedtuple("Path", "up hears_us silent_ms rtt_us jitter_us loss_ppm downs "
                              "sent received errors malformed forged replayed reflected")
Report = collections.namedtuple("Report", "alive known offset_known generation epoch state "
                                "flags offset_ns error_ns stalls stalled_ms paths")


def parse(message):
    kind, count, alive, known, offset_known = struct.unpack_from("<IBBBB", message)
    assert kind == 2 and len(message) == 64 + 4 * 80, (kind, len(message))
    paths = [Path(*struct.unpack_from("<BBxxIIIIIQQQQQQQ", message, 64 + 80 * i))
             for i in range(count)]
    return Report(alive, known, offset_known, *struct.unpack_from("<QQBB", message, 8),
                  *struct.unpack_from("<qQQQ", message, 32), paths)


class Network:
    """Two pairs of veth; b's ends are in a namespace that a process of ours holds."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "1000000"],
                                       stdin=subprocess.DEVNULL)
        ours = os.readlink("/proc/self/ns/net")
        bed.eventually(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != ours, 10)
        self.in_b("ip link set lo up")
        for path in range(2):
            self.add(path)

    def in_b(self, text):
        return sh(f"nsenter -t {self.holder.pid} -n bash -ec '{text}'")

    def add(self, path):
        sh(f"""
            ip link add hb{path} type veth peer name hbp{path}
            ip link set hbp{path} netns {self.holder.pid} name hb{path}""")
        for number, run in ((1, sh), (2, self.in_b)):
            run(f"ip link set hb{path} up")
            if path == 0:
                run(f"ip addr add 10.97.0.{number}/24 dev hb0")
            else:
                run(f"ip addr add fd97::{number}/64 dev hb1 nodad")

    def delete(self, path):
        sh(f"ip link del hb{path}")

    def cut(self, path):
        sh(f"ip link set hb{path} down")

    def mend(self, path):
        sh(f"ip link set hb{path} up")
        if path == 1:  # which takes the address with it
            sh("ip addr replace fd97::1/64 dev hb1 nodad")

    def deaf(self, node, yes=True):
        """Whether this node gets nothing on either path."""
        rule = """
            nft add table inet deaf
            nft add chain inet deaf input "{ type filter hook input priority 0; }"
            nft add rule inet deaf input udp dport 7801-7802 drop"""
        (sh, self.in_b)[node](rule if yes else "nft delete table inet deaf")

    def remove(self):
        for path in range(2):
            subprocess.run(["ip", "link", "del", f"hb{path}"], stderr=subprocess.DEVNULL)
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["nft", "flush", "ruleset"], stderr=subprocess.DEVNULL)


def address(path, node):
    return (("10.97.0.%d", "fd97::%d")[path] % (node + 1), PORTS[path])


def words_of(path, node):
    text = "%s:%d" if path == 0 else "[%s]:%d"
    words = f"{text % address(path, node)},{text % address(path, 1 - node)}"
    return words + ",hb1" if path == 1 else words


class Node:
    """A running colo-heartbeat, and its colod."""

    all = []

    def __init__(self, scene, node, *options, key=None, listen=True, log=None):
        self.node, self.reports, self.changed = node, [], threading.Condition()
        self.told = self.errors = None
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        enter = ["nsenter", "-t", str(scene.net.holder.pid), "-n"] if node else []
        self.words = [*enter, PROGRAM, "--fd", str(theirs.fileno()), "--key", key or scene.key,
                      "--pair", "web", "--nodes", "a,b", "--self", "ab"[node],
                      "--interval", str(INTERVAL_MS), "--timeout", str(TIMEOUT_MS),
                      *(word for path in range(2) for word in ("--path", words_of(path, node))),
                      *options]
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, pass_fds=[theirs.fileno()],
                                        start_new_session=True)
        theirs.close()
        if not log:
            self.errors = bed.Stream(self.process.stderr)
        self.all.append(self)
        if listen:
            threading.Thread(target=self.collect, daemon=True).start()
            threading.Thread(target=self.keep_telling, daemon=True).start()
        if not log:
            self.errors.wait("not heard yet", seconds=SOON_S)

    def collect(self):
        while True:
            try:
                message = self.sock.recv(4096)
            except OSError:
                message = b""
            with self.changed:
                if message:
                    self.reports.append(parse(message))
                self.changed.notify_all()
            if not message:
                return

    def keep_telling(self):
        """As colod does, each 250 ms, from the first time on."""
        while self.sock.fileno() >= 0:
            if self.told:
                try:
                    self.sock.send(self.told, socket.MSG_DONTWAIT)
                except OSError:
                    pass
            time.sleep(0.25)

    def tell(self, generation, epoch, state, flags=VM):
        self.told = struct.pack("<IIQQBB6x", 1, 0, generation, epoch, state, flags)
        self.sock.send(self.told)

    def mark(self):
        return len(self.reports)

    def since(self, mark):
        return self.reports[mark:]

    def wait(self, condition, mark=0, seconds=SOON_S):
        """The first report after `mark` for which it holds; None."""
        deadline = time.monotonic() + seconds
        at = mark
        with self.changed:
            while True:
                for at in range(at, len(self.reports)):
                    if condition(self.reports[at]):
                        return self.reports[at]
                at = len(self.reports)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def hears(self, mark=None):
        """Whether the peer is heard on both paths, from now on."""
        return self.wait(lambda r: r.alive and all(p.up for p in r.paths),
                         self.mark() if mark is None else mark)

    def kept(self, mark):
        """Whether no report since says that the peer is lost."""
        return all(r.alive for r in self.since(mark))

    def next(self):
        return self.wait(lambda r: True, self.mark())

    def killed(self):
        self.process.kill()
        self.process.wait()
        self.sock.close()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        bed.end_process(self.process)
        self.sock.close()
        self.all.remove(self)


class Scene:
    def __init__(self, meet=True):
        self.meet = meet

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="colo-heartbeat-")
        self.key = self.write_key("key", KEY)
        self.net = Network()
        if self.meet:
            self.a, self.b = Node(self, 0), Node(self, 1)
            if not self.a.hears() or not self.b.hears():
                raise RuntimeError("the two do not meet: " + self.a.errors.text
                                   + self.b.errors.text + str(self.a.reports[-1:]))
        return self

    def write_key(self, name, text, mode=0o600):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text + "\n")
        os.chmod(path, mode)
        return path

    def __exit__(self, kind, value, trace):
        for node in list(Node.all):
            if kind:
                log = node.errors.text[-2000:] if node.errors else ""
                bed.note(f"{'ab'[node.node]}: {log}")
                bed.note(f"last report: {node.reports[-1:]}")
            node.end()
        self.net.remove()
        shutil.rmtree(self.dir, ignore_errors=True)


def sniff(interface, seconds, source_port, count):
    """UDP datagrams from a node, as they go over a's end of a path; of heartbeats' size."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
        sock.bind((interface, 0))
        deadline, found = time.monotonic() + seconds, []
        while len(found) < count and time.monotonic() < deadline:
            if not select.select([sock], [], [], 1)[0]:
                continue
            frame = sock.recv(2048)
            at = 14 + (40 if frame[12:14] == b"\x86\xdd" else 20)
            if len(frame) == at + 8 + SIZE and frame[at + 8 + 6] == source_port:
                found.append(frame[at + 8:])
        return found


def recorded(path, node, count=20):
    """What a node sends on a path; its own number is in each."""
    found = sniff(f"hb{path}", SOON_S, node, count)
    bed.check(f"heartbeats of {'ab'[node]} can be seen on path {path}", len(found) == count,
              len(found))
    return found


def inject(datagrams, path, node):
    """From a's host, to the port of a node."""
    with socket.socket((socket.AF_INET, socket.AF_INET6)[path], socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, address(path, node))
            time.sleep(0.002)  # not a flood


# The tests


def two_nodes_meet_and_measure_each_other():
    with Scene() as scene:
        for node in (scene.a, scene.b):
            name = "ab"[node.node]
            report = node.wait(lambda r: r.offset_known and all(
                p.rtt_us and p.hears_us and p.received > 10 for p in r.paths), node.mark())
            bed.check(f"{name} measures round trips on both paths", report, node.reports[-1:])
            # It is one clock, seen from two namespaces.
            bed.check(f"{name} knows the clocks' offset within its bound",
                      abs(report.offset_ns) <= report.error_ns < 2e9, report)
            bed.check(f"{name} refused nothing but what comes with getting to know each other",
                      all(p.malformed + p.forged + p.reflected == 0 and p.replayed < 20
                          for p in report.paths), report)


def what_one_colod_says_the_other_gets():
    with Scene() as scene:
        bed.check("without a word from its colod a node is stale",
                  scene.b.next().flags == STALE, scene.b.reports[-1])
        mark = scene.b.mark()
        scene.a.tell(7, 9, 3, VM | LINK)
        bed.check("news come over", scene.b.wait(
            lambda r: (r.generation, r.epoch, r.state, r.flags) == (7, 9, 3, VM | LINK), mark),
            scene.b.reports[-1])
        for epoch in range(10, 200):
            scene.a.tell(7, epoch, 3)
        bed.check("the last of many", scene.b.wait(lambda r: r.epoch == 199, mark),
                  scene.b.reports[-1])
        bed.check("and stay not stale while colod speaks",
                  scene.b.wait(lambda r: r.flags & STALE, scene.b.mark(), 2) is None)
        mark = scene.b.mark()
        scene.a.told = None
        bed.check("a colod that says nothing for a second makes them stale, as they were",
                  scene.b.wait(lambda r: r.flags & STALE and r.epoch == 199, mark),
                  scene.b.reports[-1])
        for message in (b"", b"x", bytes(32), struct.pack("<IIQQBB6x", 1, 1, 1, 1, 1, 1),
                        struct.pack("<IIQQBB6x", 1, 0, 1, 1, 1, 1) + b"\0", bytes(4096)):
            if message:
                scene.a.sock.send(message)
        scene.a.tell(8, 1, 4)
        bed.check("rubbish from colod is left alone",
                  scene.b.wait(lambda r: r.generation == 8, mark), scene.b.reports[-1])


def one_path_is_enough_and_none_is_a_loss():
    with Scene() as scene:
        marks = scene.a.mark(), scene.b.mark()
        scene.net.cut(0)
        for node, mark in zip((scene.a, scene.b), marks):
            name = "ab"[node.node]
            bed.check(f"{name}: the path is down, and the peer alive",
                      node.wait(lambda r: not r.paths[0].up and r.paths[1].up, mark)
                      and node.kept(mark), node.reports[-1])
        marks = scene.a.mark(), scene.b.mark()
        scene.net.cut(1)
        for node, mark in zip((scene.a, scene.b), marks):
            name = "ab"[node.node]
            report = node.wait(lambda r: not r.alive, mark)
            bed.check(f"{name}: with both down it is lost", report and report.known,
                      node.reports[-1])
            # By its own clock. How soon is told with a clock of the test's own
            # (tests/unit/test_heartbeat_detector.c).
            bed.check(f"{name}: not before it should be",
                      report.paths[1].silent_ms >= TIMEOUT_MS or report.stalls, report)
            bed.note(f"after {report.paths[1].silent_ms} ms of {TIMEOUT_MS}")
            bed.check(f"{name}: and each path went down once",
                      [p.downs for p in report.paths] == [1, 1], report)
        bed.check("what the kernel would not send is counted",
                  scene.a.wait(lambda r: all(p.errors for p in r.paths), marks[0]),
                  scene.a.reports[-1])
        for path in (1, 0):
            scene.net.mend(path)
        bed.check("both are found again", scene.a.hears() and scene.b.hears(),
                  (scene.a.reports[-1], scene.b.reports[-1]))


def one_way_is_told_apart_from_both():
    for deaf in (0, 1):
        with Scene() as scene:
            nodes = (scene.a, scene.b)
            marks = [node.mark() for node in nodes]
            scene.net.deaf(deaf)
            bed.check(f"{'ab'[deaf]}, which hears nothing, loses its peer",
                      nodes[deaf].wait(lambda r: not r.alive, marks[deaf]))
            bed.check("the other hears it, and knows that it is not heard",
                      nodes[1 - deaf].wait(lambda r: r.alive and not any(
                          p.hears_us for p in r.paths), marks[1 - deaf])
                      and nodes[1 - deaf].kept(marks[1 - deaf]), nodes[1 - deaf].reports[-1])
            scene.net.deaf(deaf, False)
            bed.check("and both hear each other again", nodes[deaf].hears() and
                      nodes[1 - deaf].wait(lambda r: all(p.hears_us for p in r.paths),
                                           nodes[1 - deaf].mark()))


def a_daemon_that_was_stopped_raises_no_alarm():
    with Scene() as scene:
        for seconds in (0.3, 2, 5):
            mark, theirs = scene.a.mark(), scene.b.mark()
            scene.a.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            scene.a.process.send_signal(signal.SIGCONT)
            bed.check(f"stopped for {seconds} s: its live peer is not lost",
                      scene.a.wait(lambda r: r.stalled_ms >= seconds * 1000 - 2 * INTERVAL_MS,
                                   mark)
                      and scene.a.hears() and scene.a.kept(mark), scene.a.since(mark)[:3])
            bed.check("the peer has it back", scene.b.hears())
            if seconds > 1:
                bed.check("which it had lost", not scene.b.kept(theirs))
        bed.check("its stalls are told", scene.a.reports[-1].stalls >= 3, scene.a.reports[-1])
        mark = scene.a.mark()
        scene.a.process.send_signal(signal.SIGSTOP)
        scene.b.killed()
        time.sleep(1)
        scene.a.process.send_signal(signal.SIGCONT)
        report = scene.a.wait(lambda r: not r.alive, mark)
        bed.check("a peer that died meanwhile is lost", report, scene.a.reports[-1])


def what_was_recorded_changes_nothing():
    with Scene() as scene:
        old = [recorded(path, 1) for path in range(2)]
        own = [recorded(path, 0) for path in range(2)]
        before, mark = scene.a.next(), scene.a.mark()
        for path in range(2):
            inject(old[path], path, 0)
            inject(own[path], path, 0)
            inject(old[1 - path], path, 0)
            inject([d[:60] + bytes([d[60] ^ 1]) + d[61:] for d in old[path]], path, 0)
            inject([d[:-1] for d in old[path]] + [d + b"x" for d in old[path]]
                   + [b"", b"hello"], path, 0)

        def counted(report):
            return all((now.replayed - then.replayed, now.reflected - then.reflected,
                        now.forged - then.forged, now.malformed - then.malformed)
                       == (20, 20, 20, 62)
                       for now, then in zip(report.paths, before.paths))

        bed.check("replayed, reflected, changed and strange ones are counted, each as what it "
                  "is", scene.a.wait(counted, mark), (before, scene.a.reports[-1]))
        bed.check("and the peer stays who it was, alive",
                  scene.a.kept(mark) and scene.a.hears()
                  and scene.a.next().flags == before.flags)
        # What never came, since somebody held it back on one of the paths.
        sh('''nft add table inet deaf
            nft add chain inet deaf input "{ type filter hook input priority 0; }"
            nft add rule inet deaf input udp dport 7802 drop''')
        held = recorded(1, 1, 40)
        # A dead peer cannot be made to live.
        scene.b.killed()
        mark = scene.a.mark()
        for _ in range(12):
            for path in range(2):
                inject(old[path], path, 0)
        bed.check("it is lost, though somebody plays what it had said",
                  scene.a.wait(lambda r: not r.alive, mark), scene.a.reports[-1])
        time.sleep(TIMEOUT_MS / 1000 + 1)
        sh("nft delete table inet deaf")
        mark = scene.a.mark()
        inject(held, 1, 0)
        scene.a.next()
        bed.check("nor does what was held back bring it to life",
                  not any(r.alive for r in scene.a.since(mark)), scene.a.reports[-1])
        scene.a.end()
        scene.a = Node(scene, 0)
        before = scene.a.next()
        for path in range(2):
            inject(old[path], path, 0)
        report = scene.a.wait(lambda r: all(p.replayed >= 20 for p in r.paths))
        bed.check("nor by what it had said to a daemon before this one",
                  report and not report.known and not report.alive, scene.a.reports[-1])
        scene.b = Node(scene, 1)
        bed.check("and the living one is found among it", scene.a.hears() and scene.b.hears())


def a_flood_keeps_nobody_out():
    with Scene() as scene:
        heads = recorded(0, 1, 1)[0]
        stop = threading.Event()
        sent = [0]

        def flood(template):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                while not stop.is_set():
                    for _ in range(100):
                        sock.sendto(template[:16] + os.urandom(len(template) - 16),
                                    address(0, 0))
                    sent[0] += 100

        def refused(path):  # which of them comes through is the kernel's and chance's
            return path.malformed + path.forged

        mark = scene.a.mark()
        before = scene.a.next()
        ticks = cpu_ticks(scene.a.process.pid)
        threads = [threading.Thread(target=flood, args=[template])
                   for template in (heads, os.urandom(SIZE), b"x" * 1000)]
        for thread in threads:
            thread.start()
        time.sleep(6)
        used = (cpu_ticks(scene.a.process.pid) - ticks) / os.sysconf("SC_CLK_TCK") / 6
        scene.a.next()
        stop.set()
        for thread in threads:
            thread.join()
        flooded = scene.a.since(mark)
        after = flooded[-1]
        bed.note(f"{sent[0] / 6:.0f} datagrams a second, {100 * used:.1f} % of a processor, "
                 f"{after.paths[0].received - before.paths[0].received} heartbeats heard, "
                 f"{after.paths[0].forged - before.paths[0].forged} forged counted, "
                 f"{after.paths[0].malformed - before.paths[0].malformed} malformed")
        bed.check("the peer is not lost in a flood", scene.a.kept(mark))
        bed.check("nor the path", all(r.paths[0].up for r in flooded))
        bed.check("which is counted where it is read",
                  refused(after.paths[0]) > refused(before.paths[0]), after)
        bed.check("and costs a bounded share of a processor", used < 0.5, used)
        bed.check("the log tells it", "a flood of datagrams" in scene.a.errors.text)
        # The filter must let a peer in that is started anew.
        stop.clear()
        threads = [threading.Thread(target=flood, args=[heads])]
        threads[0].start()
        scene.b.killed()
        scene.b = Node(scene, 1)
        mark = scene.a.mark()
        bed.check("a peer that is started anew in a flood is heard",
                  scene.b.hears() and scene.a.hears())
        stop.set()
        threads[0].join()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def a_daemon_that_is_started_anew_is_known_at_once():
    with Scene() as scene:
        for _ in range(3):
            scene.b.killed()
            mark = scene.a.mark()
            scene.b = Node(scene, 1)
            scene.b.tell(len(Node.all), 1, 1)
            bed.check("started anew it hears and is heard", scene.b.hears()
                      and scene.a.wait(lambda r: r.alive and r.generation == len(Node.all), mark))
            bed.check("and offset and round trips are known again", scene.a.wait(
                lambda r: r.offset_known and abs(r.offset_ns) <= r.error_ns
                and all(p.rtt_us for p in r.paths), mark), scene.a.reports[-1])


def a_colod_that_dies_is_no_dead_node():
    with Scene() as scene:
        scene.a.tell(4, 5, 6)
        scene.b.wait(lambda r: r.generation == 4)
        scene.a.end()
        bed.check("(it was heard to the end)", scene.b.wait(lambda r: r.flags & LEAVING))
        scene.a = Node(scene, 0, "--linger", "3000")
        scene.a.tell(4, 5, 6)
        scene.b.wait(lambda r: r.generation == 4 and not r.flags & STALE, scene.b.mark())
        mark = scene.b.mark()
        scene.a.told = None
        scene.a.sock.shutdown(socket.SHUT_RDWR)
        scene.a.sock.close()
        orphan = scene.a
        bed.check("its heartbeats go on, stale, with what it had said",
                  scene.b.wait(lambda r: r.flags == VM | STALE and r.generation == 4, mark),
                  scene.b.reports[-1])
        scene.a = Node(scene, 0)
        scene.a.tell(9, 9, 9)
        bed.check("a new one takes the ports, and over",
                  scene.a.hears() and scene.b.wait(lambda r: r.generation == 9, mark))
        bed.check("while the old one is there", orphan.process.poll() is None)
        bed.check("the peer lost nobody meanwhile", scene.b.kept(mark))
        mark = scene.b.mark()
        bed.check("the old one ends", orphan.process.wait(SOON_S) == 0, orphan.errors.text)
        bed.check("and was heard no more", all(r.generation == 9 for r in scene.b.since(mark)))


def who_leaves_says_so():
    with Scene() as scene:
        mark = scene.b.mark()
        scene.a.process.send_signal(signal.SIGTERM)
        bed.check("it ends", scene.a.process.wait(SOON_S) == 0, scene.a.errors.text)
        bed.check("and the peer knows that it was on purpose",
                  scene.b.wait(lambda r: r.flags & LEAVING and r.alive, mark))
        bed.check("before it loses it", scene.b.wait(lambda r: not r.alive, mark))


def interfaces_and_addresses_may_come_and_go():
    with Scene(meet=False) as scene:
        for path in range(2):
            scene.net.delete(path)
        scene.a, scene.b = Node(scene, 0), Node(scene, 1)
        scene.a.next(), scene.b.next()
        bed.check("without any interface both run",
                  scene.a.process.poll() is None and scene.b.process.poll() is None)
        for path in range(2):
            scene.net.add(path)
        bed.check("and meet when there are some", scene.a.hears() and scene.b.hears(),
                  (scene.a.errors.text, scene.b.errors.text))
        for _ in range(2):
            for path in range(2):
                marks = scene.a.mark(), scene.b.mark()
                scene.net.delete(path)
                bed.check(f"path {path} goes down with its interface",
                          scene.a.wait(lambda r: not r.paths[path].up, marks[0])
                          and scene.b.wait(lambda r: not r.paths[path].up, marks[1]))
                scene.net.add(path)
                bed.check("and comes up with a new one", scene.a.hears() and scene.b.hears(),
                          (scene.a.errors.text, scene.b.errors.text))
                bed.check("and the peer was never lost", scene.a.kept(marks[0])
                          and scene.b.kept(marks[1]))
        mark = scene.a.mark()
        sh("ip addr del 10.97.0.1/24 dev hb0")
        bed.check("a path goes down with its address",
                  scene.a.wait(lambda r: not r.paths[0].up, mark))
        sh("ip addr add 10.97.0.1/24 dev hb0")
        bed.check("and comes up with it", scene.a.hears())
        bed.check("all without many words", len(scene.a.errors.text.splitlines()) < 60,
                  scene.a.errors.text)


def a_colod_that_never_listens_holds_up_nothing():
    with Scene(meet=False) as scene:
        deaf, scene.b = Node(scene, 0, listen=False), Node(scene, 1)
        mark = scene.b.mark()
        scene.b.wait(lambda r: r.alive)
        mark = scene.b.mark()
        for _ in range(3000):  # each makes a report at once, on the other side
            scene.b.tell(_, 1, 1)
            time.sleep(0.001)
        bed.check("heartbeats go on", scene.b.hears() and scene.b.kept(mark))
        bed.check("and so does the daemon", deaf.process.poll() is None)
        last = None
        deaf.sock.settimeout(SOON_S)
        deadline = time.monotonic() + SOON_S
        while (not last or last.generation != 2999) and time.monotonic() < deadline:
            last = parse(deaf.sock.recv(4096))
        bed.check("what it then reads comes to what is", last.generation == 2999, last)


def fill(reader):
    """Until a writer to this pipe would have to wait."""
    writer = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.close(writer)


def a_log_that_nobody_reads_holds_up_nothing():
    with Scene(meet=False) as scene:
        scene.a, scene.b = Node(scene, 0, log=True), Node(scene, 1)
        bed.check("it is heard", scene.b.hears())
        fill(scene.a.process.stderr.fileno())
        mark, before = scene.b.mark(), scene.a.next()
        for _ in range(30):  # each might be told
            inject([bytes(SIZE)], 0, 0)
            time.sleep(0.1)
        bed.check("and goes on while its log is full", scene.b.hears() and scene.b.kept(mark))
        malformed = before.paths[0].malformed + 30
        bed.check("though there was something to tell",
                  scene.a.wait(lambda r: r.paths[0].malformed == malformed, scene.a.mark()),
                  scene.a.reports[-1])
        scene.a.process.send_signal(signal.SIGTERM)
        bed.check("and it ends when it is told to", scene.a.process.wait(SOON_S) == 0)


def secrets_and_rights_are_where_they_belong():
    with Scene() as scene:
        pid = scene.a.process.pid

        def read(name):
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read()

        status = dict(line.split(":\t", 1) for line in read("status").splitlines()
                      if ":\t" in line)
        for name in ("cmdline", "environ", "maps", "status", "limits"):
            bed.check(f"the key is not in {name}", KEY[:16] not in read(name))
        bed.check("nor in the log or in reports", KEY[:16] not in scene.a.errors.text)
        bed.check("it is nobody", status["Uid"].split() == ["65534"] * 4
                  and not status["Groups"].strip(), status["Uid"])
        bed.check("without any capability", all(
            int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb",
                                                    "CapBnd")), status)
        bed.check("and can get none", status["NoNewPrivs"].strip() == "1")
        # The kernel shows a process that must not be dumped as root's.
        bed.check("its memory is nobody's to see", os.stat(f"/proc/{pid}/environ").st_uid == 0)
        bed.check("it leaves no core file", [line.split()[4:6] for line in
                                             read("limits").splitlines()
                                             if line.startswith("Max core")] == [["0", "0"]],
                  read("limits"))


def another_key_is_not_heard():
    with Scene(meet=False) as scene:
        a, b = Node(scene, 0), Node(scene, 1, key=scene.write_key("other", "5f" * 32))
        report = a.wait(lambda r: all(p.forged >= 10 for p in r.paths))
        bed.check("each forged one is counted", report, a.reports[-1:])
        bed.check("and neither believes in a peer", not a.reports[-1].known
                  and not b.reports[-1].known)
        bed.check("the log says why", a.errors.wait("its MAC is wrong"))


def refusals():
    with Scene(meet=False) as scene:
        sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        good = {"--fd": str(theirs.fileno()), "--key": scene.key, "--pair": "web",
                "--nodes": "a,b", "--self": "a", "--path": words_of(0, 0)}
        for change, status, why in (
                ({"--fd": None}, 2, "--fd is needed"),
                ({"--fd": "99"}, 2, "no socket to colod"),
                ({"--fd": str(stream[0].fileno())}, 2, "no socket to colod"),
                ({"--key": None}, 2, "--key is needed"),
                ({"--key": "/nosuch"}, 3, "open key /nosuch"),
                ({"--key": scene.write_key("open", KEY, 0o644)}, 3, "mode 0644"),
                ({"--key": scene.write_key("short", "ab")}, 3, "32 to 64 bytes"),
                ({"--pair": None}, 2, "--pair is needed"),
                ({"--nodes": "a"}, 2, "two different names"),
                ({"--nodes": "a,a"}, 2, "two different names"),
                ({"--self": "c"}, 2, "--self: a or b"),
                ({"--interval": "1"}, 2, "--interval: 5 to"),
                ({"--timeout": "60"}, 2, "--timeout: two intervals"),
                ({"--linger": "-1"}, 2, "--linger"),
                ({"--path": None}, 2, "--path: 1 to 4"),
                ({"--path": "10.0.0.1:1"}, 2, "LOCAL,REMOTE"),
                ({"--path": "host:1,10.0.0.2:1"}, 2, "no numeric address"),
                ({"--path": "10.0.0.1:0,10.0.0.2:1"}, 2, "port 0"),
                ({"--path": "10.0.0.1:1,[fd97::1]:1"}, 2, "two families"),
                ({"--path": "10.0.0.1:1,10.0.0.2:1,"}, 2, "no name of a device"),
                ({"--user": "nosuchuser"}, 2, "no user nosuchuser"),
                ({"--nosuch": "1"}, 2, "--nosuch")):
            words = [word for name, value in {**good, **change}.items() if value is not None
                     for word in ((name, value) if value else (name,))]
            done = subprocess.run([PROGRAM, *words], stderr=subprocess.PIPE, text=True,
                                  pass_fds=[theirs.fileno(), stream[0].fileno()],
                                  timeout=SOON_S)
            bed.check(f"refused with {status}: {' '.join(map(str, *change.items()))}",
                      done.returncode == status and why in done.stderr, done)
        for one in (sock, theirs, *stream):
            one.close()


if __name__ == "__main__":
    nets.run([
        two_nodes_meet_and_measure_each_other,
        what_one_colod_says_the_other_gets,
        one_path_is_enough_and_none_is_a_loss,
        one_way_is_told_apart_from_both,
        a_daemon_that_was_stopped_raises_no_alarm,
        what_was_recorded_changes_nothing,
        a_flood_keeps_nobody_out,
        a_daemon_that_is_started_anew_is_known_at_once,
        a_colod_that_dies_is_no_dead_node,
        who_leaves_says_so,
        interfaces_and_addresses_may_come_and_go,
        a_colod_that_never_listens_holds_up_nothing,
        a_log_that_nobody_reads_holds_up_nothing,
        secrets_and_rights_are_where_they_belong,
        another_key_is_not_heard,
        refusals,
    ])
