#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""client: uses a test guest's services for as long as it is told, and finds every fault.

usage: client.py ADDRESS RECORD

On one TCP connection it sends numbered lines to the chat (guestd.c), each when the one
before was answered; each answer must have the right number and the hash over all lines so
far. It fetches the page that tells of the chat, on a new connection each time: the page must
know every line that was answered before it was asked for. It has datagrams echoed.

Once a second it prints one line of JSON. Each line on standard input is a mark: it is
answered with a line that has the longest waits since the mark before. At the end of standard
input it lets the message on its way be answered, writes the lines that were answered, as they
must stand in the guest's file, to RECORD, prints its findings, and ends: with 0 where there
are no faults. A wait is the time from a question (or a datagram's due time) to its answer; one that
has not come yet counts. Runs with Python's own modules only.
"""
import json
import os
import socket
import sys
import threading
import time

CHAT, PAGES, ECHO = 9003, 80, 7
PATIENCE_S = 120  # for one answer
END_S = 60  # for the last ones
MASK = (1 << 64) - 1


def chain_on(chain, line):
    """The hash that guestd computes, of the chain before and a line."""
    value = 0xcbf29ce484222325
    for byte in b"%016x %s" % (chain, line):
        value = (value ^ byte) * 0x100000001b3 & MASK
    return value


class Waits:
    """How long a service takes to answer. Times are of the monotonic clock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.since = None
        self.longest = self.longest_ever = 0.0

    def begin(self, at=None):
        with self.lock:
            self.since = at or time.monotonic()

    def note(self):
        # with the lock held
        if self.since is not None:
            waited = time.monotonic() - self.since
            self.longest = max(self.longest, waited)
            self.longest_ever = max(self.longest_ever, waited)

    def end(self):
        with self.lock:
            self.note()
            self.since = None

    def look(self, anew=False):
        """The longest in ms, an unanswered one included; `anew`: count from here on."""
        with self.lock:
            self.note()
            longest = self.longest
            if anew:
                self.longest = 0.0
                if self.since is not None:
                    self.since = time.monotonic()
            return round(longest * 1000)


class Service(threading.Thread):
    """One service, used by a thread of its own until `ending`."""

    def __init__(self, address, pause_s):
        super().__init__(daemon=True)
        self.address = address
        self.pause_s = pause_s
        self.good = 0
        self.resets = 0
        self.faults = []
        self.waits = Waits()
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set():
            try:
                if not self.use():
                    break
            except (ConnectionError, TimeoutError, OSError, ValueError) as error:
                self.resets += isinstance(error, ConnectionError)
                self.faults.append(f"{type(error).__name__}: {error}")
                if not self.recover():
                    break
            self.ending.wait(self.pause_s)

    def recover(self):
        self.waits.end()
        return True

    def findings(self, anew=False):
        return {"good": self.good, "longest_ms": self.waits.look(anew), "resets": self.resets,
                "faults": self.faults[:3], "fault_count": len(self.faults)}


class Chat(Service):
    def __init__(self, address):
        super().__init__(address, 0.05)
        self.tag = os.urandom(4).hex()  # no two runs say the same
        self.sent = 0
        self.chains = [0]  # by number of lines
        self.lines = []
        self.buffer = b""
        self.sock = socket.create_connection((address, CHAT), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self.sock.getsockname()[1]

    def use(self):
        number = self.good + 1
        line = b"%d of %s %s" % (number, self.tag.encode(), b"x" * (number % 40))
        self.chains.append(chain_on(self.chains[-1], line))
        self.sent = number
        self.waits.begin()
        self.sock.sendall(line + b"\n")
        while b"\n" not in self.buffer:
            piece = self.sock.recv(4096)
            if not piece:
                raise ConnectionError("the guest closed the connection")
            self.buffer += piece
        answer, _, self.buffer = self.buffer.partition(b"\n")
        self.waits.end()
        if answer != b"%d %016x" % (number, self.chains[number]) or self.buffer:
            raise ValueError(f"line {number}: answer {answer[:80]!r}, after it "
                             f"{self.buffer[:80]!r}, wanted {number} "
                             f"{self.chains[number]:016x}")
        self.lines.append(b"%s %016x\n" % (line, self.chains[number]))
        self.good = number
        return True

    def recover(self):
        return False  # there is one connection, and only one


class Pages(Service):
    def __init__(self, address, chat):
        super().__init__(address, 0.5)
        self.chat = chat

    def use(self):
        known = self.chat.good
        self.waits.begin()
        data = b""
        with socket.create_connection((self.address, PAGES), PATIENCE_S) as sock:
            sock.sendall(b"GET /chat HTTP/1.0\r\n\r\n")
            while piece := sock.recv(4096):
                data += piece
        self.waits.end()
        body = data.partition(b"\r\n\r\n")[2]
        words = body.split()
        if not body.startswith(b"<html><body>") or not body.endswith(b"</html>\n"):
            raise ValueError(f"page {data[:200]!r}")
        count, chain = int(words[0][len("<html><body>"):]), int(words[3][:16], 16)
        if not known <= count <= self.chat.sent or chain != self.chat.chains[count]:
            raise ValueError(f"page says {body!r}; {known} lines were answered before, "
                             f"{self.chat.sent} sent")
        self.good += 1
        return True


class Echo(Service):
    """Datagrams may be lost; wrong ones are faults, and twice the same is counted."""

    def __init__(self, address):
        super().__init__(address, 0)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((address, ECHO))
        self.sent = self.doubled = 0
        self.tag = os.urandom(4).hex()
        self.out = set()

    def text(self, number):
        return b"datagram %d of %s" % (number, self.tag.encode())

    def use(self):
        due = time.monotonic()
        self.sent += 1
        self.out.add(self.text(self.sent))
        if self.waits.since is None:
            self.waits.begin(due)
        try:
            self.sock.send(self.text(self.sent))
        except OSError:
            pass  # as good as lost
        while (left := due + 0.1 - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                answer = self.sock.recv(4096)
            except TimeoutError:
                break
            except OSError:  # "unreachable" for one sent before
                time.sleep(max(0, left))
                break
            self.judge(answer)
        return True

    def judge(self, answer):
        if answer in self.out:
            self.out.discard(answer)
            self.good += 1
            self.waits.end()
        elif any(answer == self.text(number) for number in range(1, self.sent + 1)):
            self.doubled += 1
        else:
            raise ValueError(f"echo {answer[:80]!r}")

    def findings(self, anew=False):
        return dict(super().findings(anew), lost=len(self.out), doubled=self.doubled)


def tell(began, services, anew=False, **more):
    print(json.dumps({"t": round(time.monotonic() - began, 1), **more,
                      **{name: service.findings(anew)
                         for name, service in services.items()}}), flush=True)


def main(address, record):
    began = time.monotonic()
    chat = Chat(address)
    services = {"chat": chat, "pages": Pages(address, chat), "echo": Echo(address)}
    for service in services.values():
        service.start()
    over = threading.Event()

    def each_second():
        while not over.wait(1):
            tell(began, services)

    threading.Thread(target=each_second, daemon=True).start()
    for mark in sys.stdin:
        tell(began, services, anew=True, mark=mark.strip())
    for service in services.values():
        service.ending.set()
    for service in services.values():
        service.join(END_S)
        if service.is_alive():
            service.faults.append(f"no answer within {END_S} s at the end")
    over.set()
    with open(record, "wb") as out:
        out.writelines(chat.lines)
    faults = sum(len(service.faults) for service in services.values())
    tell(began, services, verdict="good" if not faults and chat.good else "bad",
         longest_ever_ms={name: round(service.waits.longest_ever * 1000)
                          for name, service in services.items()})
    return 1 if faults or not chat.good else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: client.py ADDRESS RECORD")
    sys.exit(main(*sys.argv[1:]))
