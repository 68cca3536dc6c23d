#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a malicious client can send to a guest, for as long as it is let.

attacks.py KIND SECONDS DEVICE OUR-MAC GUEST-MAC GUEST-ADDRESS OUR-ADDRESS OUR-PORT

Frames are made whole and sent on DEVICE; OUR-ADDRESS and OUR-PORT are those of an honest TCP
connection to the guest's port 7, which some of it is aimed at. Prints how many were sent.
Run it in a network namespace of the test's own only."""
import os
import random
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "nets"))
import nets  # noqa: E402
from nets import ACK, FIN, PSH, RST, SYN  # noqa: E402

ECHO, NUMBERS, COMMANDS = 7, 8, 9000
TCP, UDP, ICMP = 6, 17, 1
BURST = 64


class Attack:
    def __init__(self, guest, ours, port, seed):
        self.guest, self.ours, self.port = guest, ours, port
        self.rng = random.Random(seed)

    def stranger(self):
        return f"10.98.0.{self.rng.randrange(20, 250)}"

    def any_port(self):
        return self.rng.randrange(1024, 65536)

    def ip(self, payload, protocol, source=None, **options):
        return nets.ipv4(payload, protocol, source or self.stranger(), self.guest, **options)

    def segment(self, data, flags, source, port, seq=None, ack=None, window=1000):
        rng = self.rng
        return self.ip(nets.tcp(data, rng.getrandbits(32) if seq is None else seq,
                                rng.getrandbits(32) if ack is None else ack, flags, port, ECHO,
                                window, source, self.guest), TCP, source)

    def datagram(self, data, source, port, to=ECHO):
        return self.ip(nets.udp(data, port, to, source, self.guest), UDP, source)

    # Kinds.

    def syns(self):
        """From everywhere, and of what is never opened."""
        return self.segment(b"", SYN, self.stranger(), self.any_port())

    def flows(self):
        """A datagram each of very many flows, which the guest answers."""
        return self.datagram(os.urandom(32), self.ours, self.any_port()) \
            if self.rng.random() < 0.5 else \
            self.datagram(os.urandom(32), self.stranger(), self.any_port())

    def fragments(self):
        """That overlap, are tiny, never whole, or too long in all."""
        rng = self.rng
        payload = nets.udp(os.urandom(rng.randrange(8, 1000)), self.port, ECHO, self.ours,
                           self.guest) if rng.random() < 0.5 else \
            nets.tcp(os.urandom(100), rng.getrandbits(32), 0, ACK, self.port, ECHO, 1000,
                     self.ours, self.guest)
        offset = rng.choice((0, 1, 2, 3, 8, 100, 8189, 8191))
        more = rng.choice((0, 0x2000))
        protocol = rng.choice((UDP, TCP, ICMP))
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), rng.randrange(4),
                           more | offset, 64, protocol, 0, socket.inet_aton(self.ours),
                           socket.inet_aton(self.guest))
        return head[:10] + struct.pack("!H", nets.checksum(head)) + head[12:] + payload

    def sums(self):
        """Checksums that are wrong, of the honest connection and of others."""
        rng = self.rng
        packet = bytearray(rng.choice((
            lambda: self.segment(b"x" * 32, ACK | PSH, self.ours, self.port),
            lambda: self.datagram(b"x" * 32, self.ours, self.any_port()),
            lambda: self.segment(b"", SYN, self.stranger(), self.any_port())))())
        packet[rng.choice((10, 11, 36, 37, 26, 27))] ^= 1 + rng.randrange(255)
        return bytes(packet)

    def options(self):
        """Options of IP and of TCP that are odd, flags that never go together, lengths that
        are not so."""
        rng = self.rng
        tcp = bytearray(nets.tcp(os.urandom(rng.randrange(60)), rng.getrandbits(32),
                                 rng.getrandbits(32), rng.randrange(256), self.port
                                 if rng.random() < 0.5 else self.any_port(), ECHO, 0, self.ours,
                                 self.guest))
        tcp[12] = rng.randrange(16) << 4
        if rng.random() < 0.5:
            tcp[20:20] = bytes(rng.choice((0, 1, 2, 3, 4, 5, 8, 19, 29, 255))
                               for _ in range(rng.choice((4, 8, 40))))
        packet = bytearray(self.ip(bytes(tcp), TCP, self.ours))
        if rng.random() < 0.3:
            packet[0] = 0x40 | rng.randrange(16)
        if rng.random() < 0.3:
            packet[2:4] = struct.pack("!H", rng.randrange(65536))
        packet[10:12] = b"\0\0"
        length = (packet[0] & 15) * 4
        packet[10:12] = struct.pack("!H", nets.checksum(bytes(packet[:max(length, 20)])))
        return bytes(packet)

    def injections(self):
        """RST, FIN and data into the honest connection, by guess; ICMP about it."""
        rng = self.rng
        if rng.random() < 0.7:
            return self.segment(rng.choice((b"", b"y" * 32)),
                                rng.choice((RST, RST | ACK, FIN | ACK, ACK | PSH, SYN,
                                            SYN | ACK)), self.ours, self.port)
        quoted = nets.ipv4(nets.tcp(b"", rng.getrandbits(32), 0, ACK, ECHO, self.port, 1000,
                                    self.guest, self.ours), TCP, self.guest, self.ours)[:28]
        kind, code = rng.choice(((3, 3), (3, 4), (3, 1), (11, 0), (12, 0), (5, 1), (4, 0)))
        icmp = struct.pack("!BBHI", kind, code, 0, rng.choice((0, 68, 576))) + quoted
        icmp = icmp[:2] + struct.pack("!H", nets.checksum(icmp)) + icmp[4:]
        return self.ip(icmp, ICMP, self.ours)


def slow_readers(guest, seconds):
    """Who asks for much, and takes little or nothing of it."""
    socks = []
    for number in range(64):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(2)
        try:
            sock.connect((guest, NUMBERS if number % 2 else ECHO))
        except OSError:
            sock.close()
            continue
        sock.setblocking(False)
        socks.append(sock)
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for number, sock in enumerate(socks):
            try:
                sent += sock.send(b"z" * 512)
            except OSError:
                pass
            if number % 8 == 0:
                try:
                    sock.recv(1)
                except OSError:
                    pass
        time.sleep(0.02)
    return len(socks)


def main():
    kind, seconds, device, mac_of_client, mac, guest, ours, port = sys.argv[1:]
    if kind == "slow_readers":
        print(slow_readers(guest, float(seconds)))
        return
    attack = Attack(guest, ours, int(port), kind)
    mac = bytes.fromhex(mac.replace(":", ""))
    source = bytes.fromhex(mac_of_client.replace(":", ""))
    end, sent = time.monotonic() + float(seconds), 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        while time.monotonic() < end:
            for _ in range(BURST):
                try:
                    sock.send(nets.ethernet(getattr(attack, kind)(), mac, source=source))
                except OSError:
                    continue  # its queue is full
                sent += 1
            time.sleep(0.001)
    print(sent)


if __name__ == "__main__":
    main()
