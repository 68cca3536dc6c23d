#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""client: uses a test guest's services through every outage, and finds what is wrong with them.

usage: client.py [--seed N] [--only NAME,...] [--wild N] [--rate X] [--port N]
                 [--time-step-ms N] [--time-cross-us N] [--end-s N] [--verify] ADDRESS RECORD-DIR

What it believes comes from what it sent and got itself, nothing else. The workloads:

  chain     one TCP connection on which the guest sends a hash chain. What came once must be
            what all that follows was chained to: a guest that goes on with another past is found.
  held      one TCP connection on which the guest only takes. Whatever the guest's TCP has
            acknowledged must be held, and be right, whenever it is asked.
  nonce     datagrams with a number used once. The answer has the guest's count of such numbers
            and stays the same for ever; answered ones are asked again later.
  journal   records that are durable before they are answered. Each answered record must be on
            the guest's disk, unchanged, and none that was not sent.
  register  registers read, written and compared-and-set by four threads: some order of the
            operations that fits when they began and ended must explain every answer.
  time      each vCPU's clocks: none goes backwards, none steps further than the bound.

Once a second it prints a line of JSON: for each workload {"good": N, "longest_ms": N,
"fault_count": N, "faults": [...], "wrong": [[t, ...], ...], ...}; "wrong" are those of the faults
that contradict what came before, with their times on the clock of the line's own "t". A line on
standard input is a mark: it is answered by such a line with "mark" and the longest waits since the
mark before. At the end of standard
input it lets what is on its way be answered, asks for all that must be there, and prints a line
with "verdict": "good" or "bad". Status 0 is good. A wait is the time from a question to its
answer; one that has not come yet counts. Questions by UDP are repeated every 200 ms.

--seed        what it does at random (0); what names its records is never the same twice
--only        only these workloads
--wild        one in N answers of chain and nonce shall be what two replicas of a guest would
              choose differently (20); 0: none
--rate        that many times the usual number of operations (1)
--port        the first of the two ports (9010)
--time-step-ms   how far a guest's clock may step against ours (250)
--time-cross-us  how far one vCPU's clock may be behind another's (1000)
--end-s       how long the last answers may take after the end of standard input (90)
--verify      only reads the journal back that an earlier run kept in RECORD-DIR

RECORD-DIR gets a file NAME.jsonl with the history of each workload, written as it goes. A
connection that ends is a fault: who expects the guest to start anew ends this client before,
and looks at the journal with --verify after.

The services, on PORT and the one after it; all numbers are little-endian, u64 unless told.
mix() is splitmix64's finisher, fold(h, words) is h = mix(h ^ word) for each word.

TCP PORT      chain: for each byte that comes the guest sends 24 bytes: index (from 0), value,
              and chain = fold(chain before, [index, value]), the first before being 0. The value
              is mix(index) for a byte 0; for a byte 1 it is whatever the guest likes.
TCP PORT+1    held: 64-byte records, the first word of the first being the stream's token.
UDP PORT      a question is u32 magic "cfau", u8 operation, u8 flags, u16 0, id; then:
  1 nonce     flags 1: wild. Answer: count of nonces (from 1), value: mix(id ^ mix(count)), or if
              wild what the guest likes. The same for ever for the same id.
  2 held      token. Answer: bytes held of that stream, records, fold(0, all whole records).
  3 append    512 bytes: magic "cfaujrnl", token, number n, 61 words. Stored in slot n mod slots.
              Answer when durable: n, u32 status (0: stored), u32 slots.
  4 scan      u32 first slot, u32 count, at most 32. Answer: u32 status, u32 slots, u32 first,
              u32 count; for each slot as it is on disk now: token, n, fold(0, all 64 words);
              token and n are 0 without the magic.
  5 register  client, u32 kind, u32 register (0..7), a, b. The id grows; an id that was answered
              is answered again alike. Kinds: 0 read, 1 write a, 2 set to b if it is a. Answer: the
              value before (for a write 0).
  6 time      u32 vCPU, u32 0. Answer: u32 vCPU, u32 vCPUs, u32 flags (1: the TSC is promised
              to be constant, 2: the clock is one for all vCPUs), u32 0, the vCPU's count of
              samples, CLOCK_MONOTONIC and CLOCK_REALTIME in ns, TSC.
              An answer has the question's head with 128 added to the operation.

Runs with Python's own modules only.
"""
import argparse
import collections
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time

PORT = 9010
RETRY_S = 0.2
CONNECT_S = 120
FAULTS_KEPT = 20
IDLE_S = 0.005  # the shortest wait for something to come
MASK = (1 << 64) - 1

MAGIC = int.from_bytes(b"cfau", "little")
JOURNAL_MAGIC = int.from_bytes(b"cfaujrnl", "little")
HEAD = struct.Struct("<IBBHQ")
ANSWER = 128
NONCE, HELD, APPEND, SCAN, REGISTER, TIME = range(1, 7)
WILD = 1

CHAIN_RECORD = struct.Struct("<QQQ")
HELD_WORDS = struct.Struct("<8Q")
NONCE_ANSWER = struct.Struct("<QQ")
HELD_ANSWER = struct.Struct("<QQQ")
SECTOR = struct.Struct("<64Q")
APPEND_ANSWER = struct.Struct("<QII")
SCAN_HEAD = struct.Struct("<IIII")
SCAN_SLOT = struct.Struct("<QQQ")
SCAN_MAX = 32
REGISTER_ASK = struct.Struct("<QIIQQ")
REGISTER_ANSWER = struct.Struct("<Q")
REGISTERS = 8
READ, WRITE, CAS = range(3)
KINDS = ("read", "write", "cas")
TIME_ASK = struct.Struct("<II")
TIME_ANSWER = struct.Struct("<IIIIQQQQ")
TSC_CONSTANT, CLOCK_STABLE = 1, 2

TCP_UNACKED = 0x5411  # SIOCOUTQ: bytes that were sent, or are to be, without acknowledgement

TCP_RTO_MAX_MS = 44  # the option's number
TCP_PATIENCE_MS = 3_600_000


def mix(x):
    x ^= x >> 30
    x = x * 0xbf58476d1ce4e5b9 & MASK
    x ^= x >> 27
    x = x * 0x94d049bb133111eb & MASK
    return x ^ x >> 31


def fold(value, words):
    for word in words:
        value = mix(value ^ word)
    return value


def random_word():
    """Of this run alone, whatever the seed."""
    return int.from_bytes(os.urandom(8), "little") or 1


# What must be true. A checker is told what was sent and what came; it raises Wrong.


class Wrong(Exception):
    """The guest's answers contradict each other, or what was sent."""


class ChainCheck:
    """The stream that the guest sends: a chain without a gap or a second past."""

    def __init__(self):
        self.asked = collections.deque()  # of each record to come: wild or not
        self.buffer = b""
        self.index = self.chain = 0

    def ask(self, wild):
        self.asked.append(wild)

    def receive(self, data):
        """How many records came; Wrong at the first that is not what must follow."""
        self.buffer += data
        count = 0
        while len(self.buffer) >= CHAIN_RECORD.size:
            record = CHAIN_RECORD.unpack_from(self.buffer)
            self.buffer = self.buffer[CHAIN_RECORD.size:]
            self.follow(*record)
            count += 1
        if self.buffer and not self.asked:
            raise Wrong(f"bytes {self.buffer.hex()} after record {self.index}, unasked")
        return count

    def follow(self, index, value, chain):
        if not self.asked:
            raise Wrong(f"record {index} that was never asked for, after {self.index} records")
        wild = self.asked.popleft()
        if index != self.index:
            raise Wrong(f"record {index} where {self.index} must follow")
        if not wild and value != mix(index):
            raise Wrong(f"record {index}: value {value:016x}, wanted {mix(index):016x}")
        wanted = fold(self.chain, (index, value))
        if chain != wanted:
            raise Wrong(f"record {index} is chained to another past than was received: "
                        f"{chain:016x}, wanted {wanted:016x}")
        self.index += 1
        self.chain = chain


class HeldCheck:
    """The stream that the guest takes: what its TCP acknowledged, the guest holds, or will in a
    moment: what its kernel holds may still be on its way to the program that we ask."""

    GRACE_S, GRACE_ANSWERS = 15, 10  # both must be over for that moment to be

    def __init__(self, token, now=time.monotonic):
        self.token, self.now = token, now
        self.chains = [0]  # by number of records
        self.acked = self.held = 0
        self.late = None  # (acknowledged, since when, answers since) that is not held yet

    def record(self):
        """The next one to send."""
        index = len(self.chains) - 1
        words = (self.token, index, *(mix(self.token ^ (index * 8 + i)) for i in range(6)))
        self.chains.append(fold(self.chains[-1], words))
        return HELD_WORDS.pack(*words)

    def judge(self, acked, sent, held, records, chain):
        """`acked` before the question was sent, `sent` when its answer came."""
        self.acked = max(self.acked, acked)
        if held > sent:
            raise Wrong(f"{held} bytes are held; only {sent} were sent")
        if held < self.held:
            raise Wrong(f"{held} bytes are held; {self.held} were before")
        self.held = held
        if records != held // HELD_WORDS.size or chain != self.chains[records]:
            raise Wrong(f"{held} bytes are held as {records} records with chain {chain:016x}; "
                        f"sent was {self.chains[held // HELD_WORDS.size]:016x}")
        if self.late and held >= self.late[0]:
            self.late = None
        if self.late is None and held < acked:
            self.late = [acked, self.now(), 0]
        if self.late:
            self.late[2] += 1
            waited_s = self.now() - self.late[1]
            if waited_s > self.GRACE_S and self.late[2] > self.GRACE_ANSWERS:
                raise Wrong(f"{held} bytes are held {waited_s:.0f} s after {self.late[0]} were "
                            "acknowledged")


class NonceCheck:
    """Numbers used once: each has one answer, and later ones have higher counts."""

    KEEP = 4000

    def __init__(self):
        self.asked = {}  # nonce: (wild, highest count that was known before)
        self.answers = collections.OrderedDict()
        self.nonces = {}  # by count
        self.highest = 0
        self.doubled = 0

    def ask(self, nonce, wild):
        self.asked[nonce] = (wild, self.highest)

    def answer(self, nonce, count, value):
        """Whether this is the first answer."""
        if nonce in self.answers:
            self.doubled += 1
            if self.answers[nonce] != (count, value):
                raise Wrong(f"nonce {nonce:016x} has two answers: {self.answers[nonce]}, "
                            f"and later {(count, value)}")
            return False
        if nonce not in self.asked:
            raise Wrong(f"an answer to nonce {nonce:016x}, which was never asked")
        wild, floor = self.asked.pop(nonce)
        if count in self.nonces:
            raise Wrong(f"nonces {self.nonces[count]:016x} and {nonce:016x} have one count, "
                        f"{count}")
        if count <= floor:
            raise Wrong(f"nonce {nonce:016x} has count {count}; {floor} was given out before "
                        "it was asked")
        if not wild and value != mix(nonce ^ mix(count)):
            raise Wrong(f"nonce {nonce:016x}, count {count}: value {value:016x}")
        self.answers[nonce] = (count, value)
        self.nonces[count] = nonce
        self.highest = max(self.highest, count)
        if len(self.answers) > self.KEEP:
            _, (oldest, _) = self.answers.popitem(last=False)
            del self.nonces[oldest]
        return True


class JournalCheck:
    """Records on a disk: all that were answered, none that was not sent."""

    def __init__(self, token, slots=0, sent=0, done=0):
        self.token, self.slots, self.sent, self.done = token, slots, sent, done

    def sector(self, number):
        return SECTOR.pack(JOURNAL_MAGIC, self.token, number,
                           *(mix(self.token ^ (number * 64 + i)) for i in range(61)))

    def digest(self, number):
        return fold(0, SECTOR.unpack(self.sector(number)))

    def stored(self, number, status, slots):
        """An answer to the record that was sent last."""
        if number != self.sent:
            raise Wrong(f"record {number} is said to be durable; {self.sent} was asked about")
        if status:
            raise Wrong(f"record {number} could not be stored: status {status}")
        if not slots or self.slots not in (0, slots):
            raise Wrong(f"the journal has {slots} slots; it had {self.slots}")
        self.slots = slots
        self.done = number

    def newest(self, slot, limit):
        """The highest number up to `limit` that goes into a slot; below 1: none."""
        return limit - (limit - slot) % self.slots

    def slot(self, slot, token, number, digest):
        """What a slot holds now. `sent` and `done` have not changed since it was asked for."""
        done, sent = self.newest(slot, self.done), self.newest(slot, self.sent)
        if token == self.token and number in (done, sent) and number >= 1:
            if digest != self.digest(number):
                raise Wrong(f"record {number} is not what was sent: its digest is "
                            f"{digest:016x}, wanted {self.digest(number):016x}")
            return
        what = f"record {number}" if token == self.token else \
            f"record {number} of another run" if token else \
            "what is no record" if digest else "nothing"
        if token == self.token and number > self.sent:
            raise Wrong(f"slot {slot} holds record {number}, which was never sent")
        if done >= 1:
            raise Wrong(f"record {done} was answered as durable, and slot {slot} holds {what}")
        if token == self.token:
            raise Wrong(f"slot {slot} holds {what}, which belongs elsewhere")


class Linear:
    """Whether some order explains all answers of one register.

    Told of each operation's begin and end in the order in which they were; keeps every state
    that the register can have, with those operations that have begun and may have been carried
    out already and what they would have answered. An end is possible only where one of these
    has just its answer. That is complete: an operation that nobody has to have been carried out
    by now can as well be carried out later.
    """

    def __init__(self, value=None):
        self.open = {}
        self.possible = {(value, frozenset())}
        self.story = collections.deque(maxlen=16)

    def begin(self, name, kind, a=0, b=0):
        self.open[name] = (kind, a, b)

    @staticmethod
    def step(value, kind, a, b):
        """The value after, and the answer."""
        if kind == READ:
            return value, value
        if kind == WRITE:
            return a, 0
        return (b if value == a else value), value

    def end(self, name, answer):
        kind, a, b = self.open[name]
        self.story.append(f"{name} {KINDS[kind]} {a:x} {b:x} -> {answer:x}")
        todo, seen, good = list(self.possible), set(self.possible), set()
        while todo:
            value, early = todo.pop()
            answers = dict(early)
            if name in answers:
                if answers[name] == answer:
                    good.add((value, early - {(name, answer)}))
                continue
            for other, operation in self.open.items():
                if other not in answers:
                    after, said = self.step(value, *operation)
                    if other == name and said != answer:
                        continue
                    state = (after, early | {(other, said)})
                    if state not in seen:
                        seen.add(state)
                        todo.append(state)
        del self.open[name]
        values = sorted({value for value, _ in self.possible if value is not None})
        self.possible = good
        if not good:
            raise Wrong(f"no order explains that {KINDS[kind]} by {name} answered {answer:x}; "
                        f"before, the value could be {', '.join(f'{v:x}' for v in values)}; "
                        f"the last operations: {'; '.join(self.story)}")


class TimeCheck:
    """The guest's clocks. Questions are one after the other: each is asked when the one
    before was answered, so that what it finds is later on every vCPU. Times are in ns."""

    LOOK_BACK = 16  # samples among which a step is looked for

    def __init__(self, step_ns=250_000_000, cross_ns=1_000_000):
        self.step_ns, self.cross_ns = step_ns, cross_ns
        self.cpus = {}  # the last (count, monotonic, TSC) of each vCPU
        self.newest = self.newest_tsc = 0
        self.offsets = {clock: collections.deque(maxlen=self.LOOK_BACK)
                        for clock in ("monotonic", "realtime")}
        self.steps = {"monotonic": 0, "realtime": 0}
        self.tsc_back = self.cross = 0

    def answer(self, sent, received, cpu, flags, count, monotonic, realtime, tsc):
        """`sent` and `received` are (monotonic, realtime) of this machine."""
        wrong = []
        last = self.cpus.get(cpu)
        self.cpus[cpu] = (count, monotonic, tsc)
        if last:
            if count <= last[0]:
                wrong.append(f"sample {count} came after sample {last[0]}")
            if monotonic < last[1]:
                wrong.append(f"CLOCK_MONOTONIC went back by {last[1] - monotonic} ns to "
                             f"{monotonic}")
            if tsc < last[2]:
                self.tsc_back += 1
                if flags & TSC_CONSTANT:
                    wrong.append(f"the TSC went back by {last[2] - tsc} to {tsc}")
        if monotonic < self.newest:
            self.cross = max(self.cross, self.newest - monotonic)
            if flags & CLOCK_STABLE and self.newest - monotonic > self.cross_ns:
                wrong.append(f"CLOCK_MONOTONIC is {self.newest - monotonic} ns behind what "
                             "another vCPU said before")
        self.newest = max(self.newest, monotonic)
        if flags & TSC_CONSTANT and self.newest_tsc - tsc > self.cross_ns:  # a tick a ns, or less
            wrong.append(f"the TSC is {self.newest_tsc - tsc} behind what another vCPU said "
                         "before")
        self.newest_tsc = max(self.newest_tsc, tsc)
        for clock, value, begin, end in zip(self.offsets, (monotonic, realtime), sent, received):
            step = self.step_of(clock, value - end, value - begin)
            if abs(step) > self.step_ns:
                wrong.append(f"the {clock} clock stepped by {step / 1e6:.1f} ms against ours")
        if wrong:
            raise Wrong(f"vCPU {cpu}: " + "; ".join(wrong))

    def step_of(self, clock, low, high):
        """How far the guest's clock has left ours for certain: it is between low and high
        ahead of ours, and was so before."""
        steps = [low - before_high if low > before_high else high - before_low
                 for before_low, before_high in self.offsets[clock]
                 if low > before_high or high < before_low]
        step = max(steps, key=abs, default=0)
        self.steps[clock] = max(self.steps[clock], abs(step))
        if abs(step) > self.step_ns:
            self.offsets[clock].clear()  # told once
        self.offsets[clock].append((low, high))
        return step


# Using the services.


class Waits:
    """How long a service takes to answer, by what is waited for. Of any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.since = {}
        self.counted_from = 0.0
        self.longest = self.longest_ever = 0.0

    def begin(self, what):
        with self.lock:
            self.since.setdefault(what, time.monotonic())

    def note(self, since):
        # with the lock held
        now = time.monotonic()
        self.longest = max(self.longest, now - max(since, self.counted_from))
        self.longest_ever = max(self.longest_ever, now - since)

    def end(self, what):
        with self.lock:
            since = self.since.pop(what, None)
            if since is not None:
                self.note(since)

    def look(self, anew=False):
        """The longest in ms, an unanswered one included; `anew`: count from here on."""
        with self.lock:
            for since in self.since.values():
                self.note(since)
            longest = self.longest
            if anew:
                self.longest, self.counted_from = 0.0, time.monotonic()
            return round(longest * 1000)


class Run:
    """What all workloads share."""

    def __init__(self, options):
        self.options = options
        self.address, self.port = options.address, options.port
        self.began = time.monotonic()
        self.ending = threading.Event()
        self.telling = threading.Lock()
        self.ended_at = None

    def end(self):
        self.ended_at = time.monotonic()
        self.ending.set()

    def over(self):
        """Whether the time for the last answers is over."""
        return self.ending.is_set() and time.monotonic() > self.ended_at + self.options.end_s

    def t(self):
        return round(time.monotonic() - self.began, 3)


class Workload:
    """One service in use: bodies() are functions, each a thread's; ends with the run."""

    name = ""

    def __init__(self, run):
        self.run = run
        self.random = random.Random(f"{run.options.seed} {self.name}")
        self.good = self.fault_count = 0
        self.faults = []
        self.wrong = []  # those of them that no network and no host explains
        self.waits = Waits()
        self.lock = threading.Lock()
        self.history = open(os.path.join(run.options.record, self.name + ".jsonl"), "w",
                            buffering=1, encoding="utf-8")
        self.threads = [threading.Thread(target=self.guarded, args=(body,), daemon=True)
                        for body in self.bodies()]

    def bodies(self):
        return [self.use]

    def guarded(self, body):
        try:
            body()
        except Exception as error:  # one that ended unheard would be taken for content
            self.fault(error)

    def fault(self, error):
        """A Wrong, or whatever else keeps it from going on."""
        is_wrong, at = isinstance(error, Wrong), self.run.t()
        text = str(error) if is_wrong else f"{type(error).__name__}: {error}"
        with self.lock:
            self.fault_count += 1
            if len(self.faults) < FAULTS_KEPT:
                self.faults.append(f"{at} s: {text}")
                if is_wrong:
                    self.wrong.append([at, text])
        self.note(fault=text)

    def note(self, **what):
        """A line of the history."""
        line = json.dumps({"t": self.run.t(), **what}) + "\n"
        with self.lock:
            self.history.write(line)

    def pause(self, seconds):
        self.run.ending.wait(seconds / self.run.options.rate)

    def wild(self):
        often = self.run.options.wild
        return bool(often) and self.random.randrange(often) == 0

    def more(self):
        return {}

    def findings(self, anew=False):
        return {"good": self.good, "longest_ms": self.waits.look(anew),
                "fault_count": self.fault_count, "faults": self.faults[:3],
                "wrong": self.wrong[:3], **self.more()}

    def connect(self, port):
        """A TCP connection, for which it waits while the guest is not there yet."""
        deadline = time.monotonic() + CONNECT_S
        while True:
            try:
                sock = socket.create_connection((self.run.address, port), 5)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
                outlast(sock)
                self.note(connected_from=sock.getsockname()[1])
                return sock
            except OSError:
                if time.monotonic() > deadline or self.run.ending.is_set():
                    raise
                time.sleep(0.2)


def outlast(sock):
    """A connection bears long outages: it tries again each second, where the kernel can (Linux
    6.15), and does not give up after a number of tries, which were soon over then."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_PATIENCE_MS)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, 1000)
    except OSError:
        pass  # it tries ever more seldom


def is_readable(sock, seconds=0.0):
    return bool(select.select([sock], [], [], max(0.0, seconds))[0])


def receive(sock):
    """What has come; ConnectionError where the connection has ended."""
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the guest closed the connection")
    return data


class Asker:
    """Questions by UDP, one after the other, each repeated until it is answered."""

    def __init__(self, workload, waits=True):
        self.workload = workload
        self.run = workload.run
        self.waits = workload.waits if waits else Waits()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((self.run.address, self.run.port))
        self.first = self.id = random_word() >> 32 << 32  # ids are above it, up to `id`
        self.answers = collections.OrderedDict()  # by id, where one must stay the same
        self.doubled = 0

    def send(self, operation, body, number, flags=0):
        try:
            self.sock.send(HEAD.pack(MAGIC, operation, flags, 0, number) + body)
        except OSError:
            pass  # as good as lost

    def receive(self, seconds):
        """(operation, id, body) of an answer, or None."""
        if not is_readable(self.sock, seconds):
            return None
        try:
            data = self.sock.recv(2048)
        except OSError:  # "unreachable" for one sent before
            time.sleep(max(0.0, min(seconds, 0.05)))
            return None
        if len(data) < HEAD.size:
            raise Wrong(f"a datagram that is no answer: {data.hex()}")
        magic, operation, _, _, number = HEAD.unpack_from(data)
        if magic != MAGIC or not operation & ANSWER:
            raise Wrong(f"a datagram that is no answer: {data[:64].hex()}")
        return operation - ANSWER, number, data[HEAD.size:]

    def ask(self, operation, body, shape, same=True):
        """The answer's body, unpacked if `shape` is one and as bytes with None; and when it was
        asked for, as (monotonic, realtime) in ns. `same`: each repetition must have the same
        answer; else each is a question of its own, and any one's answer will do."""
        first = self.id + 1
        asked = {}
        waiting = (threading.get_ident(), first)
        self.waits.begin(waiting)
        while True:
            if same or not asked:
                self.id = first
            else:
                self.id += 1
            asked.setdefault(self.id, (time.monotonic_ns(), time.time_ns()))
            self.send(operation, body, self.id)
            due = time.monotonic() + RETRY_S
            while (left := due - time.monotonic()) > 0:
                answer = self.receive(left)
                if answer and self.is_new(answer, operation, asked, same):
                    self.waits.end(waiting)
                    return self.unpack(answer[2], shape), asked[answer[1]]
            if self.run.over():
                raise TimeoutError(f"no answer within {self.run.options.end_s} s at the end")

    def is_new(self, answer, operation, asked, same):
        said, number, body = answer
        if not self.first < number <= self.id:
            raise Wrong(f"an answer to question {number:x}, which was never asked")
        if number in asked:
            if said != operation:
                raise Wrong(f"an answer of kind {said} to a question of kind {operation}")
            if same:
                self.answers[number] = body
                if len(self.answers) > 64:
                    self.answers.popitem(last=False)
            return True
        self.doubled += 1
        if number in self.answers and self.answers[number] != body:
            raise Wrong(f"two answers to question {number:x}: {self.answers[number].hex()} and "
                        f"later {body.hex()}")
        return False

    @staticmethod
    def unpack(body, shape):
        if shape is None:
            return body
        if len(body) != shape.size:
            raise Wrong(f"an answer of {len(body)} bytes, wanted {shape.size}: {body.hex()}")
        return shape.unpack(body)


class Chain(Workload):
    name = "chain"
    PERIOD_S, OPEN_MAX = 0.05, 256

    def use(self):
        check, sock = ChainCheck(), self.connect(self.run.port)
        due = time.monotonic()
        while not (self.run.ending.is_set() and not check.asked):
            if self.run.over():
                raise TimeoutError(f"{len(check.asked)} records did not come within "
                                   f"{self.run.options.end_s} s at the end")
            now = time.monotonic()
            if now >= due and not self.run.ending.is_set():
                due = max(due + self.PERIOD_S / self.run.options.rate, now)
                if len(check.asked) < self.OPEN_MAX:
                    wild = self.wild()
                    self.waits.begin(check.index + len(check.asked))
                    check.ask(wild)
                    sock.send(bytes([wild]))
            if is_readable(sock, min(max(due - now, IDLE_S), 1.0)):
                first = check.index
                try:
                    check.receive(receive(sock))
                finally:
                    for index in range(first, check.index):
                        self.waits.end(index)
                    self.good = check.index
        sock.close()
        self.note(records=check.index, chain=f"{check.chain:016x}")


class Held(Workload):
    name = "held"
    PERIOD_S, ASK_S, UNACKED_MAX = 0.05, 1.0, 32768

    def __init__(self, run):
        self.check = HeldCheck(random_word())
        self.sock = None
        self.sent = self.questions = 0
        self.stream = threading.Lock()  # of what was sent, and of how much of it is acknowledged
        super().__init__(run)

    def bodies(self):
        return [self.use, self.ask]

    def unacked(self):
        return struct.unpack("i", fcntl.ioctl(self.sock, TCP_UNACKED, bytes(4)))[0]

    def use(self):
        sock = self.connect(self.run.port + 1)
        with self.stream:
            self.sock = sock
        while not self.run.ending.is_set():
            with self.stream:
                if self.unacked() < self.UNACKED_MAX:
                    record = self.check.record()
                    sock.sendall(record)
                    self.sent += len(record)
            if is_readable(sock):
                raise Wrong(f"data where none was asked for: {receive(sock)[:64].hex()}")
            self.pause(self.PERIOD_S)

    def look(self):
        """What is acknowledged, and what is sent."""
        with self.stream:
            return (self.sent - self.unacked() if self.sent else 0), self.sent

    def ask(self):
        asker = Asker(self)
        while not self.sent:
            if self.run.ending.wait(0.1):
                return
        while True:
            last = self.run.ending.is_set()
            if last:
                self.threads[0].join()
            acked, sent = self.look()
            answer, _ = asker.ask(HELD, struct.pack("<Q", self.check.token), HELD_ANSWER,
                                  same=False)
            now_sent = self.look()[1]
            self.note(acked=acked, sent=now_sent, held=answer[0], records=answer[1],
                      chain=f"{answer[2]:016x}")
            self.check.judge(acked, now_sent, *answer)
            self.good = answer[1]
            self.questions += 1
            if last and answer[0] == sent:
                self.sock.close()
                return
            if last and self.run.over():
                raise TimeoutError(f"{answer[0]} of {sent} bytes are held "
                                   f"{self.run.options.end_s} s after the end")
            if not self.run.ending.wait(self.ASK_S):
                continue
            time.sleep(0.1)

    def more(self):
        return {"questions": self.questions, "acked": self.check.acked}


class Nonce(Workload):
    name = "nonce"
    PERIOD_S, OPEN_MAX, AGAIN = 0.05, 64, 4  # each fourth time an old one is asked again

    def use(self):
        self.check, asker = NonceCheck(), Asker(self)
        due, number, asked_again = time.monotonic(), asker.id, 0
        open_ones = {}  # nonce: [flags, when it is due again]
        while not (self.run.ending.is_set() and not open_ones):
            if self.run.over():
                raise TimeoutError(f"{len(open_ones)} nonces without an answer within "
                                   f"{self.run.options.end_s} s at the end")
            now = time.monotonic()
            if now >= due and not self.run.ending.is_set():
                due = max(due + self.PERIOD_S / self.run.options.rate, now)
                if self.check.answers and number % self.AGAIN == 0 and asked_again != number:
                    asked_again = number
                    recent = list(self.check.answers)[-1000:]
                    nonce = self.random.choice(recent)
                    asker.send(NONCE, b"", nonce, WILD)  # must not matter any more
                elif len(open_ones) < self.OPEN_MAX:
                    number += 1
                    nonce, flags = number, WILD if self.wild() else 0
                    self.check.ask(nonce, bool(flags))
                    open_ones[nonce] = [flags, now]
                    self.waits.begin(nonce)
            for nonce, one in open_ones.items():
                if now >= one[1]:
                    one[1] = now + RETRY_S
                    asker.send(NONCE, b"", nonce, one[0])
            answer = asker.receive(max(IDLE_S, min(0.05, due - time.monotonic())))
            if answer:
                self.judge(answer, open_ones)

    def judge(self, answer, open_ones):
        operation, nonce, body = answer
        if operation != NONCE:
            raise Wrong(f"an answer of kind {operation} to a nonce")
        count, value = Asker.unpack(body, NONCE_ANSWER)
        self.note(nonce=f"{nonce:016x}", count=count, value=f"{value:016x}")
        try:
            if self.check.answer(nonce, count, value):
                self.good += 1
        except Wrong as wrong:  # others are looked at all the same
            self.fault(wrong)
        if open_ones.pop(nonce, None):
            self.waits.end(nonce)

    def more(self):
        return {"doubled": self.check.doubled} if self.good else {}


class Journal(Workload):
    name = "journal"
    PERIOD_S, LOOK_EVERY = 0.1, 16

    def use(self):
        check, asker = JournalCheck(random_word()), Asker(self)
        self.note(token=check.token)
        while not self.run.ending.is_set():
            number = check.sent + 1
            self.note(sent=number)
            check.sent = number
            answer, _ = asker.ask(APPEND, check.sector(number), APPEND_ANSWER)
            check.stored(*answer)
            self.note(done=number, slots=check.slots)
            self.good = number
            if number % self.LOOK_EVERY == 0:
                read_back(asker, check, max(0, number % check.slots - SCAN_MAX + 1), SCAN_MAX)
                read_back(asker, check, self.random.randrange(check.slots), SCAN_MAX)
            self.pause(self.PERIOD_S)
        if check.slots:
            read_back(asker, check, 0, check.slots)

    @staticmethod
    def verify(workload):
        """Reads back what another run kept; gives what it found wrong."""
        path = os.path.join(workload.run.options.record, "journal.jsonl")
        with open(path, encoding="utf-8") as lines:
            seen = [json.loads(line) for line in lines if line.endswith("\n")]
        token = next(line["token"] for line in seen if "token" in line)
        check = JournalCheck(token, max((line.get("slots", 0) for line in seen), default=0),
                             max((line.get("sent", 0) for line in seen), default=0),
                             max((line.get("done", 0) for line in seen), default=0))
        if not check.slots:
            raise Wrong(f"{path} tells of no record that was stored")
        read_back(Asker(workload), check, 0, check.slots)
        workload.good = check.done


def read_back(asker, check, first, count):
    """Has slots read from the guest's disk; Wrong for the first that is."""
    end = min(first + count, check.slots)
    while first < end:
        some = min(SCAN_MAX, end - first)
        body, _ = asker.ask(SCAN, struct.pack("<II", first, some), None, same=False)
        if len(body) != SCAN_HEAD.size + some * SCAN_SLOT.size:
            raise Wrong(f"an answer of {len(body)} bytes to a scan of {some} slots: "
                        f"{body[:32].hex()}")
        head = SCAN_HEAD.unpack_from(body)
        if head != (0, check.slots, first, some):
            raise Wrong(f"a scan of {some} slots from {first} of {check.slots}: status, slots, "
                        f"first, count are {head}")
        for slot in range(some):
            check.slot(first + slot, *SCAN_SLOT.unpack_from(
                body, SCAN_HEAD.size + slot * SCAN_SLOT.size))
        first += some


class Registers(Workload):
    name = "register"
    PERIOD_S, THREADS = 0.1, 4

    def __init__(self, run):
        self.checks = {register: Linear() for register in range(REGISTERS)}
        self.story = threading.Lock()  # its order is the order in which things happened
        self.written = 0
        self.ready = threading.Event()
        super().__init__(run)

    def bodies(self):
        return [lambda number=number: self.use(number) for number in range(self.THREADS)]

    def value(self):
        """Never written before."""
        with self.story:
            self.written += 1
            return self.tag | self.written

    def use(self, thread):
        asker, client = Asker(self), random_word()
        chance = random.Random(f"{self.run.options.seed} register {thread}")
        if thread == 0:
            self.tag = random_word() >> 32 << 32
            for register in range(REGISTERS):
                self.operate(asker, client, thread, register, WRITE, self.value())
            self.ready.set()
        while not self.ready.wait(0.1):
            if self.run.ending.is_set():
                return
        seen = [0] * REGISTERS
        period = self.PERIOD_S / self.run.options.rate
        while not self.run.ending.is_set():
            # All at once, and mostly on one register: that is when orders matter.
            tick = int(time.monotonic() / period) + 1
            self.run.ending.wait(max(0.0, tick * period - time.monotonic()))
            register = chance.randrange(REGISTERS) if chance.random() < 0.2 else \
                tick % REGISTERS
            kind = chance.choices((READ, WRITE, CAS), (40, 35, 25))[0]
            a, b = {READ: (0, 0), WRITE: (self.value(), 0),
                    CAS: (seen[register], self.value())}[kind]
            answer = self.operate(asker, client, thread, register, kind, a, b)
            seen[register] = {READ: answer, WRITE: a,
                              CAS: b if answer == a else answer}[kind]

    def operate(self, asker, client, thread, register, kind, a, b=0):
        name, check = f"{thread}.{asker.id - asker.first}", self.checks[register]
        with self.story:
            if check:
                check.begin(name, kind, a, b)
        self.note(begin=name, register=register, kind=KINDS[kind], a=f"{a:x}", b=f"{b:x}")
        (answer,), _ = asker.ask(REGISTER, REGISTER_ASK.pack(client, kind, register, a, b),
                                 REGISTER_ANSWER)
        with self.story:
            self.good += 1
            check = self.checks[register]
            try:
                if check:
                    check.end(name, answer)
            except Wrong as wrong:
                self.checks[register] = None  # what follows would be wrong as well
                self.fault(Wrong(f"register {register}: {wrong}"))
        self.note(end=name, register=register, answer=f"{answer:x}")
        return answer


class Time(Workload):
    name = "time"
    PERIOD_S = 0.5

    def __init__(self, run):
        self.check = TimeCheck(run.options.time_step_ms * 1_000_000,
                               run.options.time_cross_us * 1_000)
        super().__init__(run)

    def use(self):
        asker, cpu, cpus = Asker(self), 0, 1
        while not self.run.ending.is_set():
            answer, sent = asker.ask(TIME, TIME_ASK.pack(cpu, 0), TIME_ANSWER, same=False)
            received = (time.monotonic_ns(), time.time_ns())
            said, cpus, flags, _, *sample = answer
            self.note(cpu=said, flags=flags, sample=sample, sent=sent, received=received)
            if said != cpu or cpus < 1:
                raise Wrong(f"vCPU {said} of {cpus} answers for vCPU {cpu}")
            try:
                self.check.answer(sent, received, cpu, flags, *sample)
            except Wrong as wrong:
                self.fault(wrong)
            self.good += 1
            cpu = (cpu + 1) % cpus
            self.pause(self.PERIOD_S)

    def more(self):
        return {"vcpus": len(self.check.cpus), "tsc_back": self.check.tsc_back,
                "behind_us": self.check.cross // 1000,
                **{f"{clock}_step_ms": round(step / 1e6, 3)
                   for clock, step in self.check.steps.items()}}


WORKLOADS = {kind.name: kind for kind in (Chain, Held, Nonce, Journal, Registers, Time)}


def tell(run, workloads, anew=False, **more):
    with run.telling:  # two threads tell, and print() writes a line's end by itself
        print(json.dumps({"t": run.t(), **more,
                          **{workload.name: workload.findings(anew)
                             for workload in workloads}}), flush=True)


def use_all(run):
    workloads = [WORKLOADS[name](run) for name in run.options.only]
    for workload in workloads:
        for thread in workload.threads:
            thread.start()
    over = threading.Event()

    def each_second():
        while not over.wait(1):
            tell(run, workloads)

    told = threading.Thread(target=each_second, daemon=True)
    told.start()
    for mark in sys.stdin:
        tell(run, workloads, anew=True, mark=mark.strip())
    run.end()
    for workload in workloads:
        for thread in workload.threads:
            thread.join(max(0.1, run.ended_at + run.options.end_s + 10 - time.monotonic()))
            if thread.is_alive():
                workload.fault(TimeoutError(f"no end within {run.options.end_s + 10} s"))
    over.set()
    told.join()
    bad = [workload.name for workload in workloads
           if workload.fault_count or not workload.good]
    tell(run, workloads, verdict="bad" if bad else "good", bad=bad,
         longest_ever_ms={workload.name: round(workload.waits.longest_ever * 1000)
                          for workload in workloads})
    return bool(bad)


class Verify(Workload):
    name = "verify"

    def use(self):
        Journal.verify(self)


def verify(run):
    run.end()  # an answer must come soon
    workload = Verify(run)
    workload.guarded(workload.use)
    bad = bool(workload.fault_count or not workload.good)
    tell(run, [workload], verdict="bad" if bad else "good")
    return bad


def read_arguments(words):
    parser = argparse.ArgumentParser(prog="client.py", description="see the head of this file")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--wild", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--time-step-ms", type=int, default=250)
    parser.add_argument("--time-cross-us", type=int, default=1000)
    parser.add_argument("--end-s", type=float, default=90)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("address")
    parser.add_argument("record", metavar="RECORD-DIR")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if options.rate <= 0 or options.wild < 0:
        parser.error("--rate is above 0, --wild not below")
    return options


def main(words):
    options = read_arguments(words)
    os.makedirs(options.record, exist_ok=True)
    run = Run(options)
    return verify(run) if options.verify else use_all(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
