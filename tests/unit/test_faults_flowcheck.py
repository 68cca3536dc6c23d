#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That flowcheck (tests/faults/flowcheck.py) finds in a capture what a guest's TCP must not do,
and nothing else."""
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import flowcheck  # noqa: E402
from bed import check, verdict  # noqa: E402

CLIENT, GUEST = "10.98.0.3", "10.98.0.9"
PORTS = {CLIENT: 40000, GUEST: 9010}
FIN, SYN, RST, ACK = flowcheck.FIN, flowcheck.SYN, flowcheck.RST, flowcheck.ACK
CLIENT_ISN, GUEST_ISN = 1000, (1 << 32) - 50  # the guest's numbers begin anew on the way


def segment(source, seq, ack, flags=ACK, data=b"", window=500, stamp=None, scale=None):
    """A frame of Ethernet."""
    target = CLIENT if source == GUEST else GUEST
    options = b"\3\3" + bytes([scale]) + b"\1" if scale is not None else b""
    if stamp is not None:
        options += b"\1\1\x08\x0a" + struct.pack("!II", stamp, 0)
    tcp = struct.pack("!HHIIBBHHH", PORTS[source], PORTS[target], seq % (1 << 32),
                      ack % (1 << 32), 5 + len(options) // 4 << 4, flags, window, 0, 0)
    tcp += options + data
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0,
                     socket.inet_aton(source), socket.inet_aton(target))
    return bytes(12) + b"\x08\x00" + ip + tcp


def guest(at, ack, data=b"", flags=ACK, **more):
    """`at` and `ack` count bytes of the two streams."""
    return segment(GUEST, GUEST_ISN + 1 + at, CLIENT_ISN + 1 + ack, flags, data, **more)


def client(at, ack, data=b"", flags=ACK, **more):
    return segment(CLIENT, CLIENT_ISN + 1 + at, GUEST_ISN + 1 + ack, flags, data, **more)


def begin(scale=7):
    return [segment(CLIENT, CLIENT_ISN, 0, SYN, stamp=1, scale=scale),
            segment(GUEST, GUEST_ISN, CLIENT_ISN + 1, SYN | ACK, stamp=100, scale=scale,
                    window=64000),
            client(0, 0, stamp=2)]


def talk():
    """A connection of ten questions and answers, with a repetition and an end."""
    frames = begin()
    for i in range(10):
        frames.append(client(10 * i, 20 * i, b"q" * 10, stamp=3 + i))
        frames.append(guest(20 * i, 10 * i + 10, bytes([i]) * 20, stamp=101 + i))
    frames.append(guest(180, 100, bytes([9]) * 20, stamp=112))
    frames.append(client(100, 200, flags=FIN | ACK, stamp=14))
    frames.append(guest(200, 101, flags=FIN | ACK, stamp=113))
    return frames


def judged(frames, **how):
    with tempfile.NamedTemporaryFile(prefix="colo-flows-") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
        file.flush()
        return flowcheck.check(file.name, GUEST, **how)


def what_is_right_is_good():
    faults, counts = judged(talk())
    check("a connection with a repetition, and with numbers that begin anew, is good",
          not faults and counts == {"flows": 1, "segments": len(talk())}, (faults, counts))
    shrunk = talk()[:-3] + [guest(200, 100, window=499, stamp=120)]
    check("an edge that scaling rounds off is good",
          not judged(begin() + [guest(0, 0, window=500, stamp=101),
                                client(0, 0, b"q" * 127, stamp=3),
                                guest(0, 127, window=499, stamp=102)])[0])
    check("... and one that goes back further is not",
          "the window shrinks" in judged(shrunk)[0][0], judged(shrunk))
    other = [frame.replace(struct.pack("!HH", 40000, 9010), struct.pack("!HH", 40001, 9010))
             .replace(struct.pack("!HH", 9010, 40000), struct.pack("!HH", 9010, 40001))
             for frame in talk()]
    mixed = [frame for pair in zip(talk(), other) for frame in pair]
    faults, counts = judged(mixed)
    check("two connections are told apart", not faults and counts["flows"] == 2, faults)
    check("a connection that began before the capture did is good", not judged(talk()[3:])[0])


WRONG = {
    "a byte with another content than before": guest(20, 100, b"?" * 20, stamp=120),
    "two initial sequence numbers":
        segment(GUEST, GUEST_ISN + 7, CLIENT_ISN + 1, SYN | ACK, stamp=120, scale=7,
                window=64000),
    "an acknowledgement of what was not sent": guest(200, 101, stamp=120),
    "acknowledgements go back": guest(200, 90, stamp=120, window=600),
    "time stamps go back": guest(200, 100, stamp=99),
    "the window shrinks": guest(200, 100, stamp=120, window=400),
    "a RST": guest(200, 100, flags=RST | ACK),
    "a FIN that the client did not ask for": guest(200, 100, flags=FIN | ACK, stamp=120),
}


def what_is_wrong_is_found():
    for what, frame in WRONG.items():
        faults = judged(talk()[:-2] + [frame])[0]
        check(f"{what} is found", any(f": {what}: " in fault for fault in faults), faults)


def what_has_a_reason_is_no_fault():
    refused = [begin()[0], segment(GUEST, 0, CLIENT_ISN + 1, RST | ACK)]
    check("that nobody listens is no reset of a connection", not judged(refused)[0])
    reset = talk()[:-2] + [guest(200, 100, flags=RST | ACK)]
    check("a guest that was begun anew may not know a connection",
          not judged(reset, resets=True)[0] and judged(reset)[0])
    ended = [guest(200, 101, flags=FIN | ACK, stamp=113)]
    check("who was there before may be left out", judged(ended)[0] and
          judged(ended, whole=True) == ([], {"flows": 0, "segments": 0}))
    check("... and nobody else", judged(talk()[:-2] + [WRONG["a RST"]], whole=True)[0])


def a_change_of_order_may_be_allowed():
    chance = random.Random(1)
    frames = talk()[:-2]
    for i in range(4, len(frames) - 1):
        if chance.random() < 0.5:
            frames[i], frames[i + 1] = frames[i + 1], frames[i]
    faults = [fault for fault in judged(frames, reordered=True)[0] if "not sent" not in fault]
    check("segments in another order are good where the network does that", not faults, faults)
    check("... and are told of where it does not", judged(frames)[0])


def what_was_compared_may_overtake():
    """A pure acknowledgement and a repetition go before new data that was sent before them."""
    end = talk()[:-3]  # 200 bytes sent, 100 acknowledged, stamps up to 110
    end.append(client(100, 200, b"q" * 30, stamp=14))
    early = [guest(220, 130, stamp=125), guest(180, 130, bytes([9]) * 20, stamp=126)]
    late = guest(200, 110, b"a" * 20, stamp=120)
    check("what went through a comparator may be overtaken by what says nothing new",
          not judged(end + early + [late], compared=True)[0]
          and judged(end + early + [late])[0], judged(end + early + [late], compared=True))
    lowered = begin(scale=0) + [client(0, 0, b"q" * 30), guest(0, 10, window=500),
                                guest(0, 20, window=480)]
    check("an acknowledgement may be lowered, and the window with it",
          not judged(lowered, compared=True)[0] and judged(lowered)[0])
    check("... by no more than was sent", judged(
        lowered[:-1] + [guest(0, 20, window=479)], compared=True)[0])
    for what, frames in {
            "acknowledgements go back": [early[0], guest(220, 129, stamp=127)],
            "time stamps go back": [late, guest(220, 130, b"b", stamp=119)],
            "the window shrinks": [early[0], guest(220, 130, window=460, stamp=127)],
            "a byte with another content than before": [late, guest(200, 130, b"x", stamp=127)],
            }.items():
        faults = judged(end + frames, compared=True)[0]
        check(f"but that {what} is found all the same", any(what in fault for fault in faults),
              faults)
    found = {what for what, frame in WRONG.items()
             if judged(talk()[:-2] + [frame], compared=True)[0]}
    check("as is what no comparator does", found >= set(WRONG) - {
        "acknowledgements go back", "time stamps go back", "the window shrinks"}, found)


def the_command_says_so():
    command = [sys.executable, os.path.join(TESTS, "faults", "flowcheck.py")]
    with tempfile.NamedTemporaryFile(prefix="colo-flows-") as file:
        file.write(b"no capture at all, and not a short one")
        file.flush()
        done = subprocess.run([*command, file.name, GUEST], stderr=subprocess.PIPE, text=True)
    check("a file that is no capture has status 2 and a reason",
          done.returncode == 2 and "no pcap file" in done.stderr, done)


def main():
    for test in (what_is_right_is_good, what_is_wrong_is_found,
                 what_has_a_reason_is_no_fault, a_change_of_order_may_be_allowed,
                 what_was_compared_may_overtake, the_command_says_so):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
