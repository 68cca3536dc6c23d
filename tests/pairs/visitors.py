# SPDX-License-Identifier: GPL-2.0-or-later
"""Who looks at a pair from outside: a client of the guest, and a listener on the switch.

Only what they see is evidence. The client asks for an echo by UDP all the time and notes
when answers came, and talks over one TCP connection all the way. The listener hears every
frame that comes out of a node with the guest's address as its source, in the order in which
the switch had them: once the other node speaks, the one that spoke before must not.
"""
import ctypes
import hashlib
import select
import socket
import struct
import threading
import time

import hosts

ECHO, COMMANDS = 7, 9000


def message(number):
    head = struct.pack("<Q", number)
    return head + hashlib.sha256(head).digest()[:24]


class Echo(threading.Thread):
    """UDP, a datagram each period, whether the one before was answered or not."""

    def __init__(self, network, period_s=0.005):
        super().__init__(daemon=True)
        self.sock = network.client.call(self.make)
        self.period_s = period_s
        self.sent = 0
        self.times = [time.monotonic()]
        self.wrong = []
        self.stopping = False
        self.start()

    @staticmethod
    def make():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((hosts.GUEST, ECHO))
        sock.setblocking(False)
        return sock

    def run(self):
        due = time.monotonic()
        while not self.stopping:
            now = time.monotonic()
            if now >= due:
                due = max(due + self.period_s, now)
                self.sent += 1
                try:
                    self.sock.send(message(self.sent))
                except OSError:
                    pass  # nobody answers to that address now
            select.select([self.sock], [], [], max(0, due - time.monotonic()))
            self.receive()

    def receive(self):
        while True:
            try:
                answer = self.sock.recv(256)
            except OSError:
                return
            number = struct.unpack_from("<Q", answer.ljust(8, b"\0"))[0]
            if not 0 < number <= self.sent or answer != message(number):
                self.wrong.append(answer)
            self.times.append(time.monotonic())

    def gap_s(self, begin, end=None):
        """The longest time without an answer from `begin` to `end`, or until now."""
        end = end or time.monotonic()
        inside = [at for at in self.times if begin <= at <= end]
        before = [at for at in self.times if at < begin][-1:]
        edges = before + inside + [end]
        return max(b - a for a, b in zip(edges, edges[1:]))

    def silent_since(self, at):
        return self.times[-1] <= at

    def is_heard(self, seconds=hosts.PATIENCE_S):
        """Whether an answer comes from now on."""
        begin = time.monotonic()
        return bool(hosts.eventually(lambda: self.times[-1] > begin, seconds))

    def stop(self):
        self.stopping = True
        self.join()
        self.sock.close()


class Talk(threading.Thread):
    """Numbered messages over one TCP connection, each answered before the next is sent."""

    def __init__(self, network, pause_s=0.02):
        super().__init__(daemon=True)
        self.sock = network.client.call(self.make)
        self.pause_s = pause_s
        self.good = 0
        self.error = None
        self.stopping = False
        self.start()

    @staticmethod
    def make():
        deadline = time.monotonic() + hosts.PATIENCE_S
        while True:
            try:
                sock = socket.create_connection((hosts.GUEST, ECHO), timeout=5)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        sock.settimeout(hosts.PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def run(self):
        try:
            while not self.stopping:
                expected = message(self.good + 1)
                self.sock.sendall(expected)
                got = b""
                while len(got) < len(expected):
                    piece = self.sock.recv(len(expected) - len(got))
                    if not piece:
                        raise ConnectionError("the connection was closed")
                    got += piece
                if got != expected:
                    raise ValueError(f"message {self.good + 1}: wrong answer {got!r}")
                self.good += 1
                time.sleep(self.pause_s)
        except (OSError, ValueError) as error:
            self.error = error

    def goes_on(self, seconds=hosts.PATIENCE_S):
        """Whether two more answers come: the second was asked for after now."""
        want = self.good + 2
        return bool(hosts.eventually(lambda: self.error or self.good >= want, seconds)
                    and not self.error)

    def stop(self):
        """Whether all was right to the end."""
        self.stopping = True
        self.join(hosts.PATIENCE_S)
        alive = self.is_alive()
        self.sock.close()
        return not alive and self.error is None

    def abandon(self):
        """The guest is to be gone."""
        self.stopping = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was reset
        self.join()
        self.sock.close()


class Listener(threading.Thread):
    """All that comes out of the nodes' ports with the guest's address as its source."""

    def __init__(self, network):
        super().__init__(daemon=True)
        self.sock = network.switch.call(self.make)
        self.turns = []  # (when, who, frame): the first of each who takes the word
        self.taken = None  # a function, called each time
        self.frames = 0
        self.last = {name: None for name in hosts.NODES}
        self.stopping = False
        self.start()

    @staticmethod
    def make():
        all_protocols = 3
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(all_protocols))
        mac = bytes.fromhex(hosts.GUEST_MAC.replace(":", ""))
        program = b"".join(struct.pack("=HBBI", *line) for line in (
            (0x20, 0, 0, 6), (0x15, 0, 3, int.from_bytes(mac[:4], "big")),
            (0x28, 0, 0, 10), (0x15, 0, 1, int.from_bytes(mac[4:], "big")),
            (0x06, 0, 0, 65535), (0x06, 0, 0, 0)))
        code = ctypes.create_string_buffer(program)
        so_attach_filter, sol_packet, packet_ignore_outgoing, so_rcvbufforce = 26, 263, 23, 33
        sock.setsockopt(socket.SOL_SOCKET, so_attach_filter,
                        struct.pack("HP", len(program) // 8, ctypes.addressof(code)))
        sock.setsockopt(sol_packet, packet_ignore_outgoing, 1)
        sock.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 64 << 20)
        return sock

    def run(self):
        ports = {f"lan-{name}": name for name in hosts.NODES}
        while not self.stopping:
            if not select.select([self.sock], [], [], 0.1)[0]:
                continue
            frame, address = self.sock.recvfrom(64)
            who = ports.get(address[0])
            if not who:
                continue
            now = time.monotonic()
            self.frames += 1
            self.last[who] = now
            if not self.turns or self.turns[-1][1] != who:
                self.turns.append((now, who, frame.hex()))
                if self.taken:
                    self.taken()

    def speakers(self, since=0):
        """Who had the word, in order, from the `since`-th turn on."""
        return [who for _, who, _ in self.turns[since:]]

    def lost(self):
        """Frames that it did not get to see."""
        packet_statistics = 6
        return struct.unpack("II", self.sock.getsockopt(263, packet_statistics, 8))[1]

    def stop(self):
        self.stopping = True
        self.join()
        self.sock.close()


def ask_guest(network, line, seconds=hosts.PATIENCE_S):
    """A command to whichever guest answers; asked again while none does."""
    def make():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((hosts.GUEST, COMMANDS))
        sock.settimeout(0.5)
        return sock

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with network.client.call(make) as sock:
            try:
                sock.send(line.encode())
                answer = sock.recv(2048).decode(errors="replace").strip()
                if answer != "error busy":
                    return answer
            except OSError:
                pass
            time.sleep(0.02)
    return None
