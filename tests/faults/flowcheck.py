#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""flowcheck: what a guest's TCP connections must look like on the wire, whichever host it is on.

usage: flowcheck.py [--reordered] [--compared] PCAP GUEST-ADDRESS

Reads what was captured where the clients are, and judges each segment that the guest sent:

  - no byte of the stream is ever sent with another content than before;
  - there is one initial sequence number for one connection;
  - what it acknowledges never goes back, and was sent;
  - the window's right edge never goes back (but for what scaling rounds off);
  - time stamps never go back;
  - no RST and no FIN before the client's; that nobody listens is said by a RST to the
    client's SYN, which is no connection yet.

--reordered: the network changes the order of segments, so what may look as if it went back is
not judged. --compared: a comparator (netcompare/compare.h) has let the segments go. Then pure
acknowledgements and repetitions do not wait for what is new, so what goes back is judged among
what is new and among pure acknowledgements, each for itself; and an acknowledgement may have been
lowered to what the other guest has, with the window's edge as much lower, as far as the comparator
has not seen the connection begin; that is not told apart. Prints a line of JSON:
{"flows": N, "segments": N, "faults": [...]}; status 0 without faults, 1 with some, 2 where the
capture cannot be read. IPv4 in classic pcap files of Ethernet or of tcpdump's "any" device. Of
connections that began before the capture did the window is not judged, since its scale is not
known.
"""
import collections
import json
import socket
import struct
import sys

ETHERNET, COOKED, COOKED2 = 1, 113, 276
TYPE_AT = {ETHERNET: (12, 14), COOKED: (14, 16), COOKED2: (0, 20)}  # ethertype, and what follows
IPV4, TCP = 0x0800, 6
FIN, SYN, RST, ACK = 1, 2, 4, 16
MSS_END, NOP, WINDOW_SCALE, TIME_STAMPS = 0, 1, 3, 8
KEEP_BYTES = 4 << 20  # of each stream


class Unreadable(Exception):
    """Not a capture that this program knows."""


def after(a, b):
    """How far a 32-bit number is after another; negative: before."""
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)


def packets(file):
    """(time in s, link type, frame) of each."""
    head = file.read(24)
    for order, magic, unit in (("<", 0xa1b2c3d4, 1e-6), (">", 0xa1b2c3d4, 1e-6),
                               ("<", 0xa1b23c4d, 1e-9), (">", 0xa1b23c4d, 1e-9)):
        if len(head) == 24 and struct.unpack(order + "I", head[:4])[0] == magic:
            break
    else:
        raise Unreadable("no pcap file")
    link = struct.unpack(order + "I", head[20:])[0] & 0xfffffff
    if link not in TYPE_AT:
        raise Unreadable(f"link type {link} is not known")
    while len(record := file.read(16)) == 16:
        seconds, fraction, kept, _ = struct.unpack(order + "IIII", record)
        frame = file.read(kept)
        if len(frame) < kept:
            return  # it was being written
        yield seconds + fraction * unit, link, frame


class Segment:
    """A TCP segment."""

    def __init__(self, at, ip):
        header = (ip[0] & 15) * 4
        total = struct.unpack_from("!H", ip, 2)[0]
        tcp = ip[header:total]
        self.at = at
        self.source, self.target = ip[12:16], ip[16:20]
        (self.source_port, self.target_port, self.seq, self.ack, offset, self.flags,
         self.window) = struct.unpack_from("!HHIIBBH", tcp)
        size = (offset >> 4) * 4
        self.length = total - header - size
        self.data = tcp[size:]  # fewer bytes where the capture was cut
        self.scale = self.stamp = None
        self.read_options(tcp[20:size])

    def read_options(self, options):
        while options and options[0] != MSS_END:
            if options[0] == NOP:
                options = options[1:]
                continue
            if len(options) < 2 or options[1] < 2 or options[1] > len(options):
                return
            kind, body = options[0], options[2:options[1]]
            if kind == WINDOW_SCALE and len(body) == 1:
                self.scale = min(body[0], 14)
            elif kind == TIME_STAMPS and len(body) == 8:
                self.stamp = struct.unpack("!I", body[:4])[0]
            options = options[options[1]:]

    @property
    def end(self):
        return (self.seq + self.length + bool(self.flags & SYN) +
                bool(self.flags & FIN)) % (1 << 32)


def segment_of(at, link, frame):
    """None where a frame is no TCP segment of IPv4, or only a part of its headers."""
    kind_at, start = TYPE_AT[link]
    ip = frame[start:]
    if len(ip) < 20 or struct.unpack_from("!H", frame, kind_at)[0] != IPV4 or ip[9] != TCP:
        return None
    if struct.unpack_from("!H", ip, 6)[0] & 0x1fff or len(ip) < (ip[0] & 15) * 4 + 20:
        return None
    return Segment(at, ip)


class Stream:
    """What was sent one way: bytes by their distance from the first one seen."""

    def __init__(self, first):
        self.next_seq = first  # of the byte after the last in `bytes`
        self.bytes = bytearray()
        self.known = bytearray()  # 1 for each byte that was seen

    def differs(self, seq, data):
        """The sequence number of the first byte that was another one before, or None."""
        start = len(self.bytes) + after(seq, self.next_seq)
        if start < 0:
            data, start = data[-start:], 0  # longer ago than is kept
        missing = start + len(data) - len(self.bytes)
        if missing > KEEP_BYTES:
            return None  # nonsense, or a capture with a gap
        if missing > 0:
            self.bytes += bytes(missing)
            self.known += bytes(missing)
            self.next_seq = (self.next_seq + missing) % (1 << 32)
        old, known = self.bytes[start:start + len(data)], self.known[start:start + len(data)]
        wrong = None
        if old != data:
            wrong = next((i for i, byte in enumerate(data) if known[i] and old[i] != byte), None)
        self.bytes[start:start + len(data)] = data
        self.known[start:start + len(data)] = b"\1" * len(data)
        if wrong is not None:
            wrong = (self.next_seq - len(self.bytes) + start + wrong) % (1 << 32)
        if len(self.bytes) > 2 * KEEP_BYTES:
            del self.bytes[:-KEEP_BYTES], self.known[:-KEEP_BYTES]
        return wrong


class Last:
    """What segments of a kind said until now."""

    acked = edge = stamp = None


class Flow:
    """One connection; tells of what its guest must not send."""

    def __init__(self, name, began, tell, reordered, compared, resets):
        self.name, self.began, self.reordered, self.resets = name, began, reordered, resets
        self.compared = compared
        self.tell_all = tell
        self.told = set()
        self.client_first = self.guest_first = None  # initial sequence numbers
        self.client_end = None  # after the last byte that the client sent
        self.client_fin = False
        self.client_scale = self.scale = None
        self.guest_end = self.stream = None
        self.kinds = collections.defaultdict(Last)

    def tell(self, segment, what, detail):
        """Each kind of fault once for a connection."""
        if what not in self.told:
            self.told.add(what)
            self.tell_all(f"{self.name}, {segment.at - self.began:.3f} s: {what}: {detail}")

    def from_client(self, segment):
        if segment.flags & SYN:
            self.client_first, self.client_scale = segment.seq, segment.scale
        if self.client_end is None or after(segment.end, self.client_end) > 0:
            self.client_end = segment.end
        self.client_fin |= bool(segment.flags & (FIN | RST))

    def from_guest(self, segment):
        if segment.flags & RST:
            refused = self.client_first is not None and self.guest_first is None
            if not (self.client_fin or refused or self.resets):
                self.tell(segment, "a RST", f"seq {segment.seq}")
            return
        if segment.flags & FIN and not self.client_fin:
            self.tell(segment, "a FIN that the client did not ask for", f"seq {segment.seq}")
        if segment.flags & SYN:
            self.begin(segment)
        if segment.data:
            self.judge_bytes(segment)
        kind = self.kind_of(segment)
        last = self.kinds[kind] if kind else Last()
        if segment.flags & ACK:
            self.judge_ack(segment, last)
        if segment.stamp is not None:
            if last.stamp is not None and after(segment.stamp, last.stamp) < 0 and \
                    not self.reordered:
                self.tell(segment, "time stamps go back", f"{last.stamp}, then {segment.stamp}")
            last.stamp = segment.stamp

    def kind_of(self, segment):
        """Those of one kind come in the order in which the guest sent them; those of none may
        come at any time."""
        if not self.compared:
            return "all"
        if not segment.length and not segment.flags & (SYN | FIN):
            return "acknowledgements"
        if self.guest_end is None or after(segment.end, self.guest_end) > 0:
            self.guest_end = segment.end
            return "new"
        return None

    def begin(self, segment):
        if self.guest_first is not None and segment.seq != self.guest_first:
            self.tell(segment, "two initial sequence numbers",
                      f"{self.guest_first}, then {segment.seq}")
        self.guest_first, self.scale = segment.seq, segment.scale

    def judge_bytes(self, segment):
        if self.stream is None:
            self.stream = Stream(segment.seq)
        wrong = self.stream.differs(segment.seq, segment.data)
        if wrong is not None:
            self.tell(segment, "a byte with another content than before", f"seq {wrong}")

    def judge_ack(self, segment, last):
        if self.client_end is not None and after(segment.ack, self.client_end) > 0:
            self.tell(segment, "an acknowledgement of what was not sent",
                      f"{segment.ack}; the client sent up to {self.client_end}")
        if self.reordered:
            return
        if last.acked is not None and after(segment.ack, last.acked) < 0:
            self.tell(segment, "acknowledgements go back", f"{last.acked}, then {segment.ack}")
        last.acked = segment.ack
        self.judge_window(segment, last)

    def judge_window(self, segment, last):
        if self.guest_first is None or self.client_first is None:
            return
        shift = self.scale if None not in (self.scale, self.client_scale) else 0
        shift = 0 if segment.flags & SYN else shift
        edge = (segment.ack + (segment.window << shift)) % (1 << 32)
        lowered = max(0, after(self.client_end, segment.ack)) if self.compared else 0
        if last.edge is not None and after(edge, last.edge) + lowered <= -(1 << shift):
            self.tell(segment, "the window shrinks", f"its end was {last.edge}, then {edge}")
        if last.edge is None or after(edge, last.edge) > 0:
            last.edge = edge


def check(path, guest, reordered=False, compared=False, resets=False, whole=False):
    """What is wrong in a capture, as sentences, and how many flows and segments there were.
    `reordered`, `compared`: see above. `resets`: the guest was begun anew in it, and does not
    know the connections from before. `whole`: only of connections whose beginning was captured,
    since others are of who was there before. Unreadable or OSError where it cannot be read."""
    flows, faults, counts = {}, [], {"flows": 0, "segments": 0}
    guest = socket.inet_aton(guest)
    began = None
    with open(path, "rb") as file:
        for at, link, frame in packets(file):
            segment = segment_of(at, link, frame)
            if segment is None or guest not in (segment.source, segment.target):
                continue
            began = at if began is None else began
            from_guest = segment.source == guest
            client, port, guest_port = (
                (segment.target, segment.target_port, segment.source_port) if from_guest else
                (segment.source, segment.source_port, segment.target_port))
            key = (client, port, guest_port)
            flow = flows.get(key)
            begins = not from_guest and segment.flags & SYN
            if flow is None and whole and not begins:
                continue
            anew = begins and (flow is None or segment.seq != flow.client_first)
            if flow is None or anew:
                name = f"{socket.inet_ntoa(client)}:{port} with port {guest_port}"
                flow = flows[key] = Flow(name, began, faults.append, reordered, compared,
                                        resets)
                counts["flows"] += 1
            counts["segments"] += 1
            (flow.from_guest if from_guest else flow.from_client)(segment)
    return faults, counts


def main(words):
    options = {name: f"--{name}" in words for name in ("reordered", "compared")}
    words = [word for word in words if word.lstrip("-") not in options]
    if len(words) != 2:
        sys.exit("usage: flowcheck.py [--reordered] [--compared] PCAP GUEST-ADDRESS")
    try:
        faults, counts = check(*words, **options)
    except (Unreadable, OSError) as error:
        print(f"flowcheck: {words[0]}: {error}", file=sys.stderr)
        return 2
    print(json.dumps({**counts, "faults": faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
