# SPDX-License-Identifier: GPL-2.0-or-later
"""A colo-netcompare between a scripted guest and a client, in network namespaces.

This process is in a namespace of its own, the guest's host, with a bridge; the client is
in another one, behind a pair of veth. The guest is a tap that we write frames to, and
colo-vm is a socket that we serve: `Vm` says what the real one would.
"""
import ctypes
import json
import os
import queue
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import fcntl

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "system"))
import bed  # noqa: E402

PROGRAM = os.path.join(bed.BUILD, "colo-netcompare")
QUEUE = 7
GUEST_MAC = bytes.fromhex("525400c01002")
GUEST, CLIENT, HOST = "10.99.0.2", "10.99.0.3", "10.99.0.1"
GUEST6, CLIENT6 = "fd99::2", "fd99::3"
SOON_S = 30  # for what should happen
NEVER_S = 0.4  # in which what must not happen would have happened

CLOSED, OPEN, GUARDED = 0, 1, 2
HELLO, GATE, CUT, COMMITTED, FRAME, LOST, DRAIN = 1, 2, 3, 4, 5, 6, 7
READY, REQUEST, MODE, DRAINED = 16, 17, 18, 19
CAUSES = {1: "payload", 2: "flags", 3: "missing", 4: "late", 5: "overrun", 6: "memory",
          7: "opaque", 8: "restart", 9: "stall"}

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def need():
    """Ends the test where this machine cannot run it."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("SKIPPED: needs root and /dev/net/tun")
        sys.exit(bed.SKIP_STATUS)
    if LIBC.unshare(CLONE_NEWNET) != 0:
        print("SKIPPED: cannot make a network namespace")
        sys.exit(bed.SKIP_STATUS)
    sh("ip link set lo up")


def sh(text, *args):
    """Not by sh(1): where that is busybox, so are `ip` and the like in it."""
    return subprocess.run(["bash", "-ec", text, "bash", *map(str, args)], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


# Frames


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ethernet(payload, target, kind=0x0800, source=GUEST_MAC, vlan=None):
    tag = struct.pack("!HH", 0x8100, vlan) if vlan is not None else b""
    return target + source + tag + struct.pack("!H", kind) + payload


def ipv4(payload, protocol, source=GUEST, target=CLIENT, identification=0, ttl=64):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), identification, 0x4000,
                       ttl, protocol, 0, socket.inet_aton(source), socket.inet_aton(target))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(payload, protocol, source=GUEST6, target=CLIENT6):
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64,
                       socket.inet_pton(socket.AF_INET6, source),
                       socket.inet_pton(socket.AF_INET6, target)) + payload


def pseudo(protocol, length, source, target):
    if ":" in source:
        return (socket.inet_pton(socket.AF_INET6, source)
                + socket.inet_pton(socket.AF_INET6, target)
                + struct.pack("!II", length, protocol))
    return (socket.inet_aton(source) + socket.inet_aton(target)
            + struct.pack("!HH", protocol, length))


def udp(data, port=53, to=5353, source=GUEST, target=CLIENT):
    head = struct.pack("!HHHH", port, to, 8 + len(data), 0)
    total = checksum(pseudo(17, 8 + len(data), source, target) + head + data)
    return head[:6] + struct.pack("!H", total or 0xffff) + data


FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def tcp(data, seq, ack=0, flags=ACK, port=80, to=40000, window=1000, source=GUEST,
        target=CLIENT, whole=True):
    """`whole`: with its checksum, else with that of the pseudo header, as guests leave it."""
    head = struct.pack("!HHIIBBHHH", port, to, seq & 0xffffffff, ack & 0xffffffff, 0x50,
                       flags, window, 0, 0)
    before = pseudo(6, 20 + len(data), source, target)
    total = checksum(before + head + data) if whole else checksum(before) ^ 0xffff
    return head[:16] + struct.pack("!H", total) + head[18:] + data


def arp(target=CLIENT):
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, GUEST_MAC,
                       socket.inet_aton(GUEST), bytes(6), socket.inet_aton(target))


# The network


class Net:
    """A bridge with a tap and a client; `routed`: a tap with the host as its router."""

    def __init__(self, routed=False):
        self.routed = routed
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"],
                                       start_new_session=True)
        self.client_ns = f"/proc/{self.holder.pid}/ns/net"
        ours = os.readlink("/proc/self/ns/net")
        bed.eventually(lambda: os.readlink(self.client_ns) != ours, 5)
        sh("""
            ip tuntap add tap0 mode tap vnet_hdr
            ip link add veth0 type veth peer name veth1 netns "$1"
            ip link set veth0 up
            nsenter -t "$1" -n bash -ec '
                ip link set lo up
                ip link set veth1 up
                ip addr add "$1/24" dev veth1
                ip addr add "$2/64" dev veth1 nodad'  bash "$2" "$3"
            """, self.holder.pid, CLIENT, CLIENT6)
        if routed:
            self.make_routed()
        else:
            sh("""
                ip link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0
                ip addr add "$1/24" dev br0
                ip link set br0 up
                ip link set tap0 master br0 up
                ip link set veth0 master br0""", HOST)
        self.client_mac = self.mac_of("veth1", True)
        self.host_mac = self.mac_of("tap0" if routed else "br0")
        self.client = self.sniffer("veth1")
        self.tap = self.open_tap()

    def make_routed(self):
        """The guest's subnet is its own: the client is at another address behind the host."""
        sh("""
            echo 1 > /proc/sys/net/ipv4/ip_forward
            ip link set tap0 up
            ip addr add 10.98.0.1/24 dev tap0
            ip addr add "$1/24" dev veth0
            nsenter -t "$2" -n bash -ec 'ip route add 10.98.0.0/24 via "$1"' bash "$1"
            """, HOST, self.holder.pid)

    def mac_of(self, name, client=False):
        look = f"ip -json link show dev {name}"
        out = sh(f"nsenter -t {self.holder.pid} -n bash -ec '{look}'" if client else look)
        return bytes.fromhex(json.loads(out)[0]["address"].replace(":", ""))

    def sniffer(self, interface):
        """A socket in the client's namespace: it stays where the thread was that made it."""
        made = []

        def make():
            handle = os.open(self.client_ns, os.O_RDONLY)
            if LIBC.setns(handle, 0) == 0:
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
                packet_auxdata, sol_packet = 8, 263
                sock.setsockopt(sol_packet, packet_auxdata, 1)
                sock.bind((interface, 0))
                sock.setblocking(False)
                made.append(sock)
            os.close(handle)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def open_tap(self):
        tunsetiff, tunsetvnethdrsz = 0x400454ca, 0x400454d8
        iff_tap, iff_no_pi, iff_vnet_hdr = 2, 0x1000, 0x4000
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", b"tap0",
                                               iff_tap | iff_no_pi | iff_vnet_hdr))
        fcntl.ioctl(fd, tunsetvnethdrsz, struct.pack("i", 12))
        bed.eventually(lambda: '"UP"' in sh("ip -j link show dev tap0")
                       and "LOWER_UP" in sh("ip -j link show dev tap0"), 5)
        return fd

    # The guest sends.

    def send(self, frame, header=bytes(12)):
        os.write(self.tap, header + frame)

    def to_client(self, packet, **options):
        kind = 0x86dd if packet[0] >> 4 == 6 else 0x0800
        return ethernet(packet, self.host_mac if self.routed else self.client_mac, kind,
                        **options)

    def to_host(self, packet):
        return ethernet(packet, self.host_mac)

    # The client gets.

    def got(self, wait_s=0.0, count=1):
        """What came from the guest until now, as network-layer packets or whole frames of
        other kinds; waits for the first `count`."""
        packets = []
        deadline = time.monotonic() + wait_s
        while True:
            try:
                frame, aux, *_ = self.client.recvmsg(1 << 17, 256)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if len(packets) >= count or left <= 0:
                    return packets
                select.select([self.client], [], [], left)
                continue
            kind = struct.unpack("!H", frame[12:14])[0]
            if frame[6:12] != GUEST_MAC and not (self.routed and kind == 0x0800
                                                 and frame[26:28] == b"\x0a\x62"):
                continue
            for level, number, data in aux:
                # struct tpacket_auxdata: a tag was taken out of the frame
                if level == 263 and struct.unpack_from("I", data)[0] & 0x10:
                    kind = 0x8100
            packets.append(frame[14:] if kind in (0x0800, 0x86dd) else frame)

    def gets(self, packet, seconds=SOON_S):
        """Whether this packet comes, and nothing else before it."""
        got = self.got(seconds)
        return bool(got) and got[0][:len(packet)] == packet

    def gets_nothing(self, seconds=NEVER_S):
        got = self.got(seconds)
        if got:
            bed.note(f"the client got {[p[:60].hex() for p in got[:4]]}")
        return not got

    def remove(self):
        os.close(self.tap)
        self.client.close()
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["bash", "-c", """
            ip link del veth0; ip link del tap0; ip link del br0; nft flush ruleset"""],
                       stderr=subprocess.DEVNULL)


# colo-vm


class Vm:
    """What colo-vm says to a comparator; scripted."""

    def __init__(self, net, directory, cards=1):
        self.net = net
        self.path = os.path.join(directory, "vm.sock")
        self.cards = cards
        self.secret = os.urandom(16)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(SOON_S)
        self.sock = None
        self.requests, self.modes = [], []
        self.epoch = 0

    def say(self, kind, payload=b"", epoch=0, device=0, length=None):
        self.sock.send(struct.pack("<HHIQ", kind, device,
                                   len(payload) if length is None else length, epoch)
                       + payload)

    def hello(self, version=1, cards=None):
        self.say(HELLO, struct.pack("<II", version, self.cards if cards is None else cards)
                 + self.secret)

    def accept(self, gate=CLOSED):
        """A comparator comes; TRUE once it is ready."""
        if self.sock:
            self.sock.close()
        self.sock, _ = self.listener.accept()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.hello()
        kind = self.hear(SOON_S)
        self.gate(gate)
        return kind == READY

    def hear(self, seconds=0.0):
        """Its next word's kind; None: it says nothing, 0: it ended the connection."""
        self.sock.settimeout(seconds)
        try:
            message = self.sock.recv(4096)
        except (TimeoutError, BlockingIOError):
            return None
        except ConnectionError:
            return 0
        if not message:
            return 0
        kind, _, length, epoch = struct.unpack_from("<HHIQ", message)
        assert length == len(message) - 16
        if kind == REQUEST:
            self.requests.append(CAUSES[struct.unpack_from("<I", message, 16)[0]])
        elif kind == MODE:
            self.modes.append((message[16], message[24:].decode()))
        return kind

    def request(self, seconds=SOON_S):
        """The cause of the next request for a checkpoint; None: it does not come."""
        deadline = time.monotonic() + seconds
        while not self.requests:
            left = deadline - time.monotonic()
            if left <= 0 or self.hear(left) == 0:
                return None
        return self.requests.pop(0)

    def gate(self, kind):
        self.say(GATE, struct.pack("<II", kind, 0))

    def marker(self, epoch, secret=None):
        body = struct.pack("<IIQ", 0x4b4d4f43, 0, epoch) + (secret or self.secret)
        return ethernet(ipv4(body, 253, "0.0.0.0", "0.0.0.0", ttl=0)[:6] + bytes(2)
                        + self.sum_without_fragment(body) + body, GUEST_MAC)

    @staticmethod
    def sum_without_fragment(body):
        head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(body), 0, 0, 0, 253, 0, 0, 0)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return head[8:]

    def cut(self, run=True):
        """The next epoch begins: said, and marked."""
        self.epoch += 1
        self.say(CUT, struct.pack("<B7x", run), self.epoch)
        self.net.send(self.marker(self.epoch))
        return self.epoch

    def commit(self):
        self.say(COMMITTED, epoch=self.epoch)

    def checkpoint(self, run=True):
        self.cut(run)
        self.commit()

    def frame(self, frame, epoch=None, device=0, header=bytes(12)):
        """The secondary's guest sends it."""
        self.say(FRAME, header + frame, epoch or self.epoch, device)

    def guard(self):
        """The pair is protected: the first checkpoint is committed."""
        self.gate(GUARDED)
        self.checkpoint()

    def close(self):
        if self.sock:
            self.sock.close()
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


# The comparator


class Comparator(bed.Machine):
    """A running colo-netcompare. (It is no machine, but ends like one.)"""

    def __init__(self, vm, directory, *options, taps="tap0", number=QUEUE, prefix=(),
                 program=PROGRAM):
        self.vm, self.number = vm, number
        self.socket = os.path.join(directory, "netcompare.sock")
        self.words = [*prefix, program, "--vm", vm.path if vm else "/nonexistent",
                      "--queue", str(number), "--tap", taps, "--control", self.socket, "-vv",
                      "--stall", "60000",  # but for who wants to see that
                      *options]
        self._control = None
        bed.Machine.all.append(self)
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, start_new_session=True)
        self.errors = bed.Stream(self.process.stderr)

    def bound(self):
        """Waits until it has the queue."""
        return bool(self.errors.wait("queue: bound"))

    def killed(self):
        self.process.kill()
        self.process.wait()

    def last_words(self):
        return self.errors.text.strip()

    def status(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SOON_S)
            sock.connect(self.socket)
            sock.sendall(b'{"id":1,"command":"status"}\n')
            answer = b""
            while not answer.endswith(b"\n"):
                piece = sock.recv(65536)
                if not piece:
                    raise ConnectionError("no answer")
                answer += piece
        return json.loads(answer)["result"]

    def says(self, pattern, seconds=SOON_S):
        return bool(self.errors.wait(pattern, seconds=seconds))


class Scene:
    """Network, colo-vm and comparator, until the `with` ends."""

    def __init__(self, *options, routed=False, gate=None, start=True, faults=False):
        self.faults = faults  # the build with labelled steps (base/fault.h)
        self.options, self.routed, self.first_gate, self.begins = options, routed, gate, start

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="colo-nets-")
        self.net = Net(self.routed)
        self.vm = Vm(self.net, self.dir)
        self.comparator = None
        if self.begins:
            self.start()
            if self.first_gate == GUARDED:
                self.vm.guard()
            elif self.first_gate is not None:
                self.vm.gate(self.first_gate)
        return self

    def start(self, *options):
        build = {"program": PROGRAM + "-faults", "prefix": (
            "env", "COLO_FAULT_FILE=" + self.fault_file)} if self.faults else {}
        self.comparator = Comparator(self.vm, self.dir, *self.options, *options, **build)
        if not self.comparator.bound() or not self.vm.accept():
            raise RuntimeError("the comparator does not start: "
                               + self.comparator.last_words())
        return self.comparator

    @property
    def fault_file(self):
        return os.path.join(self.dir, "faults")

    def stop_at(self, step):
        """It stops itself when it comes to that step next."""
        with open(self.fault_file + ".new", "w", encoding="ascii") as file:
            file.write(f"colo-netcompare {step} 1 stop\n")
        os.rename(self.fault_file + ".new", self.fault_file)

    def has_stopped(self):
        return bed.eventually(lambda: os.path.exists(self.fault_file + ".reached"))

    def restart(self):
        """The comparator is killed and started anew; colo-vm has not answered it yet."""
        self.comparator.killed()
        self.comparator.start()
        return self.comparator.bound()

    def __exit__(self, kind, value, trace):
        if kind and self.comparator:
            bed.note(self.comparator.last_words()[-3000:])
        if self.comparator:
            self.comparator.end()
        self.vm.close()
        self.net.remove()
        shutil.rmtree(self.dir, ignore_errors=True)


def run(tests):
    began = time.monotonic()
    need()
    bed.stop_on_signals()
    for test in bed.chosen(tests):
        at = time.monotonic()
        try:
            test()
        except Exception as error:
            import traceback
            bed.check(f"{test.__name__.replace('_', ' ')}: the test runs to its end", False,
                      f"{error!r}\n{traceback.format_exc(limit=-4)}")
        finally:
            bed.end_machines()
        bed.note(f"{test.__name__}: {time.monotonic() - at:.1f} s")
    bed.note(f"all: {time.monotonic() - began:.1f} s")
    sys.exit(bed.verdict())
