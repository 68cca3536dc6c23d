#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever two guests say, a client sees of it only what both said, or what a checkpoint
covers.

Connections by the thousand (COUNT; 100,000 with LONG=1) between a scripted guest and its
scripted twin, who cut their streams differently, count differently, are late, and in part
say something else or nothing. Checkpoints come in between; comparators are killed and colo-vm
is lost. Each packet that reaches the client is judged against what was said until then.
"""
import os
import random
import select
import struct
import sys
import time

import nets
from nets import ACK, FIN, GUARDED, PSH, RST, SYN, Scene, bed

BATCH = 40  # connections that are under way together
SOMEBODY = bytes.fromhex("02000000c0de")  # no kernel answers for it
ADDRESSES = bytes([10, 99, 0, 2, 10, 99, 0, 77])
DATA = random.Random(1).randbytes(1 << 16)


WINDOW = 1000  # that guests tell


def ip_packet(payload, protocol, number):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number & 0xffff, 0x4000, 64,
                       protocol, 0) + ADDRESSES
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    total = ~((total & 0xffff) + (total >> 16)) & 0xffff
    return head[:10] + total.to_bytes(2, "big") + head[12:] + payload


def frame_of(packet):
    return SOMEBODY + nets.GUEST_MAC + b"\x08\x00" + packet


class Packet:
    """One that the primary's guest has sent."""

    __slots__ = ("connection", "begin", "end", "epoch", "ack", "seen", "lost", "udp")


class Connection:
    """What both guests say on it: position 0 is the SYN, then come data and the FIN."""

    def __init__(self, world, number):
        chance = world.chance
        self.port = 1024 + number % 60000
        self.peer = 1024 + number // 60000
        self.udp = chance.random() < 0.2
        self.length = chance.choice((0, 1, 10, 200, 1000, 3000))
        self.at = chance.randrange(len(DATA) - 4000)
        self.first = chance.getrandbits(32)  # the primary's initial sequence number
        self.other = chance.getrandbits(32)  # the secondary's
        self.client = chance.getrandbits(32)  # what the client's numbers begin at
        kind = chance.random()
        self.kind = ("equal" if kind < 0.8 else "byte" if kind < 0.88 else
                     "short" if kind < 0.92 else "reset" if kind < 0.95 else "silent")
        self.wrong = chance.randrange(1, self.length + 1) if self.length else 0
        if self.kind in ("byte", "short") and not self.length:
            self.kind = "equal"
        # of each position: the epoch in which the secondary said just that
        self.said = [0] * (self.length + 2)
        self.acked = (0, 0)  # epoch, and how far the secondary acknowledged in it
        self.ours = self.pieces(chance)
        self.theirs = self.pieces(chance)
        self.sent = 0  # position up to which the primary has sent
        self.told = 0  # the same of the secondary

    def pieces(self, chance):
        """Where segments end: the SYN and the FIN are by themselves."""
        if self.udp:
            return [(n, n + 1) for n in range(min(self.length, 5) + 1)]
        ends, at = [(0, 1)], 1
        while at <= self.length:
            end = min(self.length + 1, at + chance.choice((1, 50, 300, 536, 1400)))
            ends.append((at, end))
            at = end
        ends.append((self.length + 1, self.length + 2))
        return ends

    def body(self, begin, end):
        return DATA[self.at + begin - 1:self.at + end - 1]

    def make(self, begin, end, first, number, ack, secondary=False):
        if self.udp:
            text = struct.pack("!IIH", self.port, self.peer, begin) + b"x" * (begin * 7)
            if secondary and self.kind == "byte":
                text = b"!" + text[1:]
            return ip_packet(struct.pack("!HHHH", self.port, self.peer, 8 + len(text), 0)
                             + text, 17, number)
        flags, data = ACK, b""
        if begin == 0:
            flags |= SYN
        elif begin == self.length + 1:
            flags |= RST if secondary and self.kind == "reset" else FIN
        else:
            data = self.body(begin, end)
            flags |= PSH
            if secondary and self.kind == "byte" and begin <= self.wrong < end:
                at = self.wrong - begin
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        return ip_packet(struct.pack(
            "!HHIIBBHHH", self.port, self.peer, (first + begin) & 0xffffffff,
            (self.client + ack) & 0xffffffff, 0x50, flags, WINDOW, 0, 0) + data, 6, number)


def key_of(packet):
    """Without what may be changed on the way: acknowledgement, window and checksum."""
    if packet[9] == 6:
        return packet[:28] + packet[32:34] + packet[38:]
    return packet


class World:
    def __init__(self, scene, seed):
        self.scene, self.net, self.vm = scene, scene.net, scene.vm
        self.chance = random.Random(seed)
        self.packets = {}  # what the client may see yet
        self.number = 0
        self.epoch = scene.vm.epoch  # as marked last
        self.committed = scene.vm.epoch
        self.seen = self.matched = self.kills = self.checkpoints = self.requests = 0
        self.lowered = self.kept = 0  # acknowledgements; the window's edge with them
        self.wrong = []
        self.connections = []
        self.deaf = False  # nobody compares: what the secondary says is told to nobody

    # The guests.

    def primary(self, c):
        begin, end = c.ours.pop(0)
        self.number += 1
        ack = self.chance.choice((c.sent, c.sent + 3))
        packet = c.make(begin, end, c.first, self.number, ack)
        p = Packet()
        p.connection, p.begin, p.end, p.epoch = c, begin, end, self.epoch
        p.ack, p.seen, p.lost, p.udp = ack, False, False, c.udp
        self.packets[key_of(packet)] = p
        c.sent = max(c.sent, end)
        os.write(self.net.tap, bytes(12) + frame_of(packet))

    def secondary(self, c):
        begin, end = c.theirs.pop(0)
        if c.kind == "silent" or (c.kind == "short" and end > c.wrong):
            return
        self.number += 1
        ack = c.sent + 5
        packet = c.make(begin, end, c.other, self.number + 7, ack, secondary=True)
        self.vm.frame(frame_of(packet), self.epoch)
        for position in range(begin, end):
            right = not ((c.kind == "byte" and (c.udp or position == c.wrong))
                         or (c.kind == "reset" and position == c.length + 1 and not c.udp))
            if right:
                c.said[position] = self.epoch
        c.acked = (self.epoch, max(ack, c.acked[1] if c.acked[0] == self.epoch else 0))
        c.told = max(c.told, end)

    # The client.

    def look(self, wait_s=0.0):
        """Judges what has come."""
        if wait_s:
            select.select([self.net.client], [], [], wait_s)
        while True:
            try:
                frame = self.net.client.recv(1 << 16)
            except BlockingIOError:
                return
            if frame[6:12] != nets.GUEST_MAC or frame[:6] != SOMEBODY:
                if frame[12:14] == b"\x08\x00" and frame[23] == 253:
                    self.wrong.append("a marker came out")
                continue
            packet = frame[14:]
            p = self.packets.get(key_of(packet))
            if not p:
                self.wrong.append(f"never sent, or twice: {packet.hex()}")
                continue
            self.judge(p, packet)

    def judge(self, p, packet):
        self.seen += 1
        if p.seen or p.lost:
            self.wrong.append(f"a packet that {'came before' if p.seen else 'was lost'}")
        p.seen = True
        if self.committed > p.epoch:
            return  # a commit covers it
        c = p.connection
        if any(c.said[n] != p.epoch for n in range(p.begin, p.end)):
            self.wrong.append(f"{c.kind} {'udp' if p.udp else 'tcp'} positions {p.begin} to "
                              f"{p.end} of {c.length} in epoch {p.epoch}, committed "
                              f"{self.committed}, said {set(c.said[p.begin:p.end])}")
            return
        self.matched += 1
        if not p.udp:
            ack = (struct.unpack_from("!I", packet, 28)[0] - c.client) & 0xffffffff
            window = struct.unpack_from("!H", packet, 34)[0]
            if c.acked[0] != p.epoch or ack > c.acked[1]:
                self.wrong.append(f"acknowledged {ack}, the secondary {c.acked}")
            # A comparator that has not seen the SYN first leaves the window as it is.
            kept = ack + window == p.ack + WINDOW
            self.lowered += ack != p.ack
            self.kept += ack != p.ack and kept
            if not kept and window != WINDOW:
                self.wrong.append(f"a window to {ack + window}, the guest's is to "
                                  f"{p.ack + WINDOW}")

    def settle(self, connections):
        """Waits until what can come without a checkpoint has come."""
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:
            self.look(0.004)

    # colo-vm and what happens to it.

    def checkpoint(self):
        self.checkpoints += 1
        self.look()
        self.vm.cut(self.chance.random() < 0.95 or True)
        self.epoch = self.vm.epoch
        for c in self.connections:
            # The twin is what the guest was at the cut.
            c.other, c.told = c.first, c.sent
            c.theirs = list(c.ours)
            c.kind = "equal" if c.kind != "silent" else "silent"
        if self.chance.random() < 0.5:
            self.talk(primary_only=True, most=20)
            self.look(0.001)
        self.vm.commit()
        self.committed = self.epoch
        self.requests += len(self.vm.requests)
        self.vm.requests.clear()

    def talk(self, primary_only=False, most=1 << 30):
        """The guests say what they have to say, in some order."""
        chance = self.chance
        live = [c for c in self.connections if c.ours or c.theirs]
        manner = chance.choice(("together", "primary first", "secondary first"))
        if primary_only:
            manner = "alone"
        while live and most:
            c = chance.choice(live)
            most -= 1
            first = chance.random() < 0.5
            if manner == "primary first":
                first = bool(c.ours)
            elif manner == "secondary first":
                first = not c.theirs
            elif manner == "alone":
                first = True
            if first and c.ours:
                self.primary(c)
            elif not first and c.theirs:
                self.secondary(c)
            elif manner == "alone":
                live.remove(c)
                continue
            if not c.ours and not c.theirs:
                live.remove(c)
            if chance.random() < 0.1:
                self.look()

    def forget_all(self):
        """What is on its way is lost with whoever held it."""
        self.look(0.01)
        for p in self.packets.values():
            if not p.seen:
                p.lost = True
        self.connections = []

    def kill(self):
        self.kills += 1
        self.scene.comparator.killed()
        self.forget_all()
        for c in [Connection(self, self.number + n) for n in range(3)]:
            self.connections.append(c)
        self.talk(primary_only=True, most=10)  # to nobody
        self.forget_all()
        self.scene.comparator.start()
        if not self.scene.comparator.bound() or not self.vm.accept(GUARDED):
            raise RuntimeError(self.scene.comparator.last_words()[-500:])
        self.vm.say(nets.CUT, struct.pack("<B7x", 1), self.vm.epoch)
        self.talk(primary_only=True, most=10)
        self.checkpoint()

    def lose_vm(self):
        """colo-vm's connection breaks; the gate is closed until it is back."""
        self.vm.sock.close()
        self.talk(primary_only=True, most=20)
        self.vm.accept(GUARDED)
        self.vm.say(nets.CUT, struct.pack("<B7x", 1), self.vm.epoch)
        self.checkpoint()

    def batch(self, numbers):
        self.connections = [Connection(self, n) for n in numbers]
        self.talk(most=self.chance.choice((20, 100, 1 << 30)))
        event = self.chance.random()
        if event < 0.3:
            self.checkpoint()
        elif event < 0.3 + KILL_CHANCE:
            self.kill()
            return
        elif event < 0.3 + 2 * KILL_CHANCE:
            self.lose_vm()
        self.talk()
        self.settle(self.connections)
        self.checkpoint()
        self.talk()
        self.finish()

    def finish(self):
        """The last checkpoint covers everything."""
        self.checkpoint()
        deadline = time.monotonic() + nets.SOON_S
        while True:
            self.look(0.01)
            missing = sum(not p.seen and not p.lost for p in self.packets.values())
            if not missing:
                break
            if time.monotonic() > deadline:
                self.wrong.append(f"{missing} packets never came, of "
                                  f"{[p.connection.kind for p in self.packets.values() if not p.seen][:5]}")
                break
        while self.vm.hear(0):
            pass
        self.packets.clear()


KILL_CHANCE = 0.01


def a_client_sees_only_what_both_said():
    count = bed.count(4000, 100000)
    seed = int(os.environ.get("SEED") or 1)
    bed.note(f"seed {seed}")
    # A limit in the time of the test's own slowness.
    with Scene("--late-max", "2000", gate=GUARDED) as scene:
        world = World(scene, seed)
        done = 0
        began = time.monotonic()
        while done < count and len(world.wrong) < 5:
            if scene.comparator.process.poll() is not None:
                world.wrong.append("the comparator died")
                break
            if done == count // 2 // BATCH * BATCH:
                world.kill()
            world.batch(range(done, done + BATCH))
            done += BATCH
        bed.note(f"{done} connections, {world.seen} packets seen, {world.matched} of them by "
                 f"comparison, {world.checkpoints} checkpoints, {world.kills} comparators "
                 f"killed, {time.monotonic() - began:.1f} s")
        bed.check("a client sees only what both guests said or a commit covers, and sees all "
                  "of that", not world.wrong, "\n".join(world.wrong[:10]))
        bed.check("most of it passed by comparison", world.matched > world.seen / 3,
                  (world.matched, world.seen))
        bed.note(f"{world.lowered} acknowledgements were lowered, {world.kept} of them with "
                 "the window's edge kept")
        bed.check("most that are lowered leave the window's edge where it was",
                  world.kept > world.lowered / 2 > 0, (world.kept, world.lowered))
        bed.check("the comparator complains of nothing",
                  "critical" not in scene.comparator.errors.text,
                  scene.comparator.last_words()[-2000:])


if __name__ == "__main__":
    nets.run([a_client_sees_only_what_both_said])
