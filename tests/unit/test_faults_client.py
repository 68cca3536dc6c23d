#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness' client (tests/faults/client.py) finds what it is there to find: with
guests played here that do all right, or one thing wrong."""
import concurrent.futures
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import client  # noqa: E402
from bed import check, note, verdict  # noqa: E402

CLIENT = os.path.join(TESTS, "faults", "client.py")
SLOTS = 64
PATIENCE_S = 120


class Guest:
    """All services, done right, on an address of this machine's own network that nobody
    else has. Those that lie change a method."""

    def __init__(self):
        while True:
            self.address = "127.%d.%d.%d" % tuple(random.randrange(1, 255) for _ in range(3))
            try:
                self.make_sockets()
                break
            except OSError:
                pass  # somebody has it
        self.lock = threading.Lock()
        self.nonces, self.count = {}, 0
        self.streams = {}
        self.disk = {}
        self.highest = {}
        self.clients, self.registers = {}, [0] * client.REGISTERS
        self.samples = 0
        self.connections = []
        self.handlers = {client.NONCE: self.nonce, client.HELD: self.held,
                         client.APPEND: self.append, client.SCAN: self.scan,
                         client.REGISTER: self.register, client.TIME: self.time}
        self.open = True
        for body in (lambda: self.accept(self.chain_socket, self.chain),
                     lambda: self.accept(self.held_socket, self.take), self.serve):
            threading.Thread(target=body, daemon=True).start()

    def make_sockets(self):
        self.chain_socket = socket.create_server((self.address, client.PORT))
        self.held_socket = socket.create_server((self.address, client.PORT + 1))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((self.address, client.PORT))

    def close(self):
        self.open = False
        for sock in (self.chain_socket, self.held_socket, self.udp, *self.connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def accept(self, listener, body):
        while self.open:
            try:
                sock = listener.accept()[0]
                self.connections.append(sock)
                threading.Thread(target=self.quietly, args=(body, sock), daemon=True).start()
            except OSError:
                return

    @staticmethod
    def quietly(body, sock):
        try:
            body(sock)
        except OSError:
            pass  # the client went, or the test is over

    # By TCP.

    def chain(self, sock):
        index = chain = 0
        while asked := sock.recv(4096):
            for wild in asked:
                value = random.getrandbits(64) if wild else client.mix(index)
                chain = client.fold(chain, (index, value))
                sock.sendall(self.link(index, value, chain))
                index += 1

    def link(self, index, value, chain):
        return client.CHAIN_RECORD.pack(index, value, chain)

    def take(self, sock):
        held = b""
        while data := sock.recv(4096):
            held += data
            if len(held) >= 8:
                self.streams[held[:8]] = self.keep(held)

    def keep(self, held):
        return held

    # By UDP.

    def serve(self):
        while self.open:
            try:
                question, whence = self.udp.recvfrom(2048)
            except OSError:
                return
            if len(question) < client.HEAD.size:
                return  # it is closed
            _, operation, flags, _, number = client.HEAD.unpack_from(question)
            body = question[client.HEAD.size:]
            answer = self.handlers[operation](number, flags, body)
            if answer is not None:
                self.say(operation, number, answer, whence)

    def say(self, operation, number, answer, whence):
        head = client.HEAD.pack(client.MAGIC, operation | client.ANSWER, 0, 0, number)
        self.udp.sendto(head + answer, whence)

    def nonce(self, number, flags, _):
        if number not in self.nonces:
            self.count += 1
            wild = flags & client.WILD
            self.nonces[number] = (self.count, random.getrandbits(64) if wild else
                                   client.mix(number ^ client.mix(self.count)))
        return client.NONCE_ANSWER.pack(*self.nonces[number])

    def held(self, _number, _flags, token):
        held = self.streams.get(token, b"")
        size = client.HELD_WORDS.size
        chain = 0
        for at in range(0, len(held) // size * size, size):
            chain = client.fold(chain, client.HELD_WORDS.unpack_from(held, at))
        return client.HELD_ANSWER.pack(len(held), len(held) // size, chain)

    def append(self, _number, _flags, sector):
        _, token, number = client.SECTOR.unpack(sector)[:3]
        if number > self.highest.get(token, 0):
            self.highest[token] = number
            self.store(number, sector)
        return client.APPEND_ANSWER.pack(number, 0, SLOTS)

    def store(self, number, sector):
        self.disk[number % SLOTS] = sector

    def scan(self, _number, _flags, body):
        first, count = struct.unpack("<II", body)
        slots = b""
        for slot in range(first, first + count):
            words = client.SECTOR.unpack(self.disk.get(slot, bytes(512)))
            known = words[0] == client.JOURNAL_MAGIC
            slots += client.SCAN_SLOT.pack(words[1] if known else 0, words[2] if known else 0,
                                           client.fold(0, words))
        return client.SCAN_HEAD.pack(0, SLOTS, first, count) + slots

    def register(self, number, _flags, body):
        who, kind, register, a, b = client.REGISTER_ASK.unpack(body)
        last, answer = self.clients.get(who, (0, 0))
        if number < last:
            return None
        if number > last:
            self.registers[register], answer = self.operate(self.registers[register], kind, a, b)
            self.clients[who] = (number, answer)
        return client.REGISTER_ANSWER.pack(answer)

    def operate(self, value, kind, a, b):
        return client.Linear.step(value, kind, a, b)

    def time(self, _number, _flags, body):
        self.samples += 1
        cpu, _ = client.TIME_ASK.unpack(body)
        return client.TIME_ANSWER.pack(cpu, 2, client.TSC_CONSTANT | client.CLOCK_STABLE, 0,
                                       self.samples, *self.clocks())

    def clocks(self):
        return time.monotonic_ns(), time.time_ns(), time.monotonic_ns() * 3


def use(guest, *words, until=None, keep=None):
    """Runs the client against a guest until what it says will do; its exit status and what it
    said last."""
    with tempfile.TemporaryDirectory(prefix="colo-faults-") as record:
        process = subprocess.Popen([sys.executable, CLIENT, *words, guest.address,
                                    keep or record],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while until and time.monotonic() < deadline:
                if until(json.loads(process.stdout.readline())):
                    break
            said, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        return process.returncode, json.loads(said.splitlines()[-1])


# Guests with one thing wrong, each as a failover of the wrong kind could leave it. WORKLOAD is
# the one that must find it, in these words.


class ARecordIsLost(Guest):
    workload, words = "chain", "where 20 must follow"

    def link(self, index, value, chain):
        return b"" if index == 20 else super().link(index, value, chain)


class ARecordComesTwice(Guest):
    workload, words = "chain", "record 20"

    def link(self, index, value, chain):
        return super().link(index, value, chain) * (1 + (index == 20))


class ARecordIsChanged(Guest):
    workload, words = "chain", "record 20: value"

    def link(self, index, value, chain):
        return super().link(index, value ^ (index == 20), chain)


class TheStreamGoesOnFromAnotherPast(Guest):
    """The twin had another value for record 19, which was delivered."""
    workload, words = "chain", "record 20 is chained to another past"

    def link(self, index, value, chain):
        if index == 20:
            return super().link(index, value, client.fold(chain ^ 1, (index, value)))
        return super().link(index, value, chain)


class ARecordIsInvented(Guest):
    workload, words = "chain", "never asked for"

    def link(self, index, value, chain):
        if index < 20:
            return super().link(index, value, chain)
        more = index + 1, client.mix(index + 1)
        return super().link(index, value, chain) + super().link(*more, client.fold(chain, more))


class TheConnectionIsReset(Guest):
    workload, words = "chain", "ConnectionResetError"

    def link(self, index, value, chain):
        if index == 20:
            sock = self.connections[0]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        return super().link(index, value, chain)


class TheConnectionIsClosed(Guest):
    workload, words = "held", "the guest closed the connection"

    def keep(self, held):
        if len(held) > 640:
            self.connections[0].shutdown(socket.SHUT_RDWR)
        return held


class AcknowledgedBytesAreForgotten(Guest):
    workload, words = "held", "were before"
    questions = 0

    def held(self, number, flags, token):
        self.questions += 1
        if self.questions == 3:
            self.streams[token] = self.streams[token][:64]
        return super().held(number, flags, token)

    def keep(self, held):
        return held if self.questions < 3 else held[:64]


class AcknowledgedBytesNeverArrive(Guest):
    workload, words = "held", "were acknowledged"

    def keep(self, held):
        return held[:1280]


class AHeldByteIsChanged(Guest):
    workload, words = "held", "sent was"

    def keep(self, held):
        return held if len(held) < 720 else held[:700] + b"?" + held[701:]


class MoreIsHeldThanWasSent(Guest):
    workload, words = "held", "bytes are held"

    def keep(self, held):
        return held + held[:640]


class ANonceHasTwoAnswers(Guest):
    """What was given out before the 30th one was from the other replica."""
    workload, words = "nonce", "has two answers"

    def nonce(self, number, flags, body):
        answer = super().nonce(number, flags, body)
        if self.count == 30:
            self.nonces = {known: (count, client.mix(value))
                           for known, (count, value) in self.nonces.items()}
        return answer


class TwoNoncesHaveOneCount(Guest):
    workload, words = "nonce", "have one count"

    def nonce(self, number, flags, body):
        self.count -= number not in self.nonces and self.count == 30
        return super().nonce(number, flags, body)


class TheCountIsOfAnOldCheckpoint(Guest):
    workload, words = "nonce", "nonce"

    def nonce(self, number, flags, body):
        if self.count == 40 and self.open is True:
            self.open = "still"
            self.count = 20
        return super().nonce(number, flags, body)


class ANonceIsAnsweredThatNobodyAsked(Guest):
    workload, words = "nonce", "never asked"

    def say(self, operation, number, answer, whence):
        super().say(operation, number + (1 << 20 if self.count == 30 else 0), answer, whence)


class TheGuestFallsSilent(Guest):
    workload, words, enough = "nonce", "without an answer", 29

    def say(self, operation, number, answer, whence):
        if self.count < 30:
            super().say(operation, number, answer, whence)


class ADurableRecordIsLost(Guest):
    workload, words = "journal", "record 5 was answered as durable, and slot 5 holds nothing"

    def store(self, number, sector):
        if number != 5:
            super().store(number, sector)


class ADurableRecordIsChanged(Guest):
    workload, words = "journal", "record 5 is not what was sent"

    def store(self, number, sector):
        super().store(number, sector[:-1] + b"?" if number == 5 else sector)


class ASlotHoldsAnOldRecord(Guest):
    workload, words = "journal", "record 69 was answered as durable, and slot 5 holds record 5"

    def store(self, number, sector):
        if number != SLOTS + 5:
            super().store(number, sector)


class ARecordIsStoredThatNobodySent(Guest):
    workload, words = "journal", "which was never sent"

    def store(self, number, sector):
        super().store(number, sector)
        if number == 30:
            words = list(client.SECTOR.unpack(sector))
            words[2] = 1040
            self.disk[1040 % SLOTS] = client.SECTOR.pack(*words)


class ARecordIsStoredTwice(Guest):
    workload, words, enough = "journal", "holds record 30", 60

    def store(self, number, sector):
        super().store(number, sector)
        if number >= 30:
            self.disk[10] = self.disk[30]


class TheDiskFails(Guest):
    workload, words = "journal", "could not be stored"

    def append(self, number, flags, sector):
        answer = super().append(number, flags, sector)
        return answer if client.SECTOR.unpack(sector)[2] < 30 else \
            client.APPEND_ANSWER.pack(client.SECTOR.unpack(sector)[2], 5, SLOTS)


class AReadIsStale(Guest):
    workload, words = "register", "no order explains"

    def __init__(self):
        self.old, self.operations = 0, 0
        super().__init__()

    def operate(self, value, kind, a, b):
        self.operations += 1
        if kind == client.READ and self.operations > 60:
            return value, self.old
        self.old = value
        return super().operate(value, kind, a, b)


class AWriteIsLost(Guest):
    workload, words = "register", "no order explains"
    operations = 0

    def operate(self, value, kind, a, b):
        self.operations += 1
        after, answer = super().operate(value, kind, a, b)
        return (value if self.operations > 60 and kind == client.WRITE else after), answer


class AWriteIsDoneTwice(Guest):
    """A write that was answered is carried out again, after others."""
    workload, words = "register", "no order explains"

    def __init__(self):
        self.writes = []
        super().__init__()

    def operate(self, value, kind, a, b):
        if kind == client.WRITE:
            self.writes.append(a)
            return (a if len(self.writes) < 40 else self.writes[-20]), 0
        return super().operate(value, kind, a, b)


class ACompareSetsWhatDiffers(Guest):
    workload, words = "register", "no order explains"

    def operate(self, value, kind, a, b):
        return (b, a) if kind == client.CAS else super().operate(value, kind, a, b)


class TheRegistersAreOfAnOldCheckpoint(Guest):
    workload, words = "register", "no order explains"
    operations = 0

    def register(self, number, flags, body):
        self.operations += 1
        if self.operations == 40:
            self.checkpoint = list(self.registers)
        if self.operations == 120:
            self.registers = self.checkpoint
        return super().register(number, flags, body)


class TimeGoesBack(Guest):
    workload, words = "time", "CLOCK_MONOTONIC went back"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic - (self.samples >= 10) * 5_000_000_000, realtime, tsc


class UptimeStartsAgain(Guest):
    workload, words = "time", "CLOCK_MONOTONIC went back"

    def __init__(self):
        self.booted = 0
        super().__init__()

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        if self.samples == 10:
            self.booted = monotonic
        return monotonic - self.booted, realtime, tsc


class OneVcpuIsBehind(Guest):
    workload, words = "time", "behind what another vCPU said"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic - self.samples % 2 * 2_000_000_000, realtime, tsc


class OneVcpusTscIsBehind(Guest):
    workload, words = "time", "the TSC is"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic, realtime, tsc - self.samples % 2 * 6_000_000_000


class TimeSteps(Guest):
    workload, words = "time", "monotonic clock stepped by"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic + (self.samples >= 10) * 5_000_000_000, realtime, tsc


class TheWallClockSteps(Guest):
    workload, words = "time", "realtime clock stepped by -"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic, realtime - (self.samples >= 10) * 5_000_000_000, tsc


class TheTscGoesBack(Guest):
    workload, words = "time", "the TSC went back"

    def clocks(self):
        monotonic, realtime, tsc = super().clocks()
        return monotonic, realtime, tsc >> (self.samples >= 10)


class SamplesAreOfAnOldCheckpoint(Guest):
    workload, words = "time", "came after sample"

    def clocks(self):
        if self.samples == 10:
            self.samples = 5
        return super().clocks()


class ABadNetwork(Guest):
    """Datagrams that are lost, doubled, late, and in another order; nothing is wrong."""

    def say(self, operation, number, answer, whence):
        for _ in range(random.choice((0, 1, 1, 1, 2))):
            threading.Timer(random.choice((0, 0, 0.05, 0.5)), self.late,
                            (operation, number, answer, whence)).start()

    def late(self, *words):
        try:
            super().say(*words)
        except OSError:
            pass  # the test is over


LIARS = [kind for kind in Guest.__subclasses__() if kind is not ABadNetwork]


def sentence(name):
    return "".join(" " + c.lower() if c.isupper() else c for c in name).strip()


def a_lie_is_found(kind):
    guest = kind()
    enough = getattr(kind, "enough", 10000)  # where only the end tells
    status, said = use(guest, "--only", kind.workload, "--rate", "5", "--end-s", "3",
                       until=lambda said: said[kind.workload]["fault_count"] or
                       said[kind.workload]["good"] >= enough)
    guest.close()
    faults = said[kind.workload]["faults"]
    check(f"{kind.workload} finds it where {sentence(kind.__name__)}",
          status == 1 and said["verdict"] == "bad"
          and any(kind.words in fault for fault in faults), said)


def lies_are_found():
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(a_lie_is_found, kind) for kind in LIARS]:
            done.result()


def what_is_right_is_good():
    for kind in (Guest, ABadNetwork):
        guest = kind()
        status, said = use(guest, "--rate", "4", until=lambda said: all(
            said[name]["good"] > 20 for name in client.WORKLOADS) and
            said["journal"]["good"] > 2 * SLOTS)
        guest.close()
        check(f"with {sentence(kind.__name__)} that does all right the verdict is good",
              status == 0 and said["verdict"] == "good"
              and all(said[name]["good"] > 20 for name in client.WORKLOADS), said)


def whatever_ends_a_thread_is_a_fault():
    found = {}
    with tempfile.TemporaryDirectory(prefix="colo-faults-") as record:
        options = types.SimpleNamespace(record=record, seed="1", address="", port=0,
                                        time_step_ms=1, time_cross_us=1)
        for error in (client.Wrong("another past"), ConnectionResetError("by the guest"),
                      KeyError("what nobody foresaw")):
            workload = client.Time(client.Run(options))

            def body(error=error):
                raise error

            workload.guarded(body)
            workload.history.close()
            found[type(error).__name__] = workload.findings()
    check("whatever ends a workload's thread is a fault", all(
        each["fault_count"] == 1 for each in found.values()), found)
    check("... and only a contradiction is told as one",
          [name for name, each in found.items() if each["wrong"]] == ["Wrong"]
          and found["Wrong"]["wrong"][0][1] == "another past", found)


def a_journal_is_verified_later():
    guest = Guest()
    with tempfile.TemporaryDirectory(prefix="colo-faults-") as record:
        use(guest, "--only", "journal", "--rate", "5", keep=record,
            until=lambda said: said["journal"]["good"] > 20)
        status, said = use(guest, "--verify", keep=record)
        check("what an earlier client stored is found by a later one",
              status == 0 and said["verify"]["good"] > 20, said)
        del guest.disk[7]
        status, said = use(guest, "--verify", keep=record)
        check("... and what is not there any more is a fault",
              status == 1 and "holds nothing" in said["verify"]["faults"][0], said)
    guest.close()


def waits_are_measured():
    now = [100.0]
    waits, client.time = client.Waits(), types.SimpleNamespace(monotonic=lambda: now[0])
    try:
        waits.begin("one")
        now[0] = 103.0
        seen = [waits.look(), waits.look(anew=True), waits.look()]
        now[0] = 104.0
        waits.end("one")
        now[0] = 110.0
        seen += [waits.look(), waits.look(anew=True), waits.look()]
    finally:
        client.time = time
    check("a wait counts while it lasts, from the last mark on, and whole in the end",
          seen == [3000, 3000, 0, 1000, 1000, 0] and waits.longest_ever == 4.0,
          (seen, waits.longest_ever))


def brute(history):
    """Whether an order explains the history: each is tried. It is (begin, end, kind, a, b,
    answer) of each operation."""
    def search(value, left):
        first_end = min((history[i][1] for i in left), default=0)
        for i in left:
            begin, _, kind, a, b, answer = history[i]
            if begin > first_end:
                continue  # another one ended before this one began
            after, said = client.Linear.step(value, kind, a, b)
            if said == answer and search(after, left - {i}):
                return True
        return not left
    return search(0, frozenset(range(len(history))))


def random_history(chance):
    """Three threads' operations, each carried out at some moment in between its begin and its
    end, so that an order explains them; then sometimes one answer is changed."""
    history, value, times = [], 0, []
    for thread in range(3):
        at = 0.0
        for _ in range(3):
            begin = at + chance.random()
            end = begin + chance.random() * 3
            times.append((begin + (end - begin) * chance.random(), begin, end))
            at = end
    for number, (_, begin, end) in enumerate(sorted(times)):
        kind = chance.randrange(3)
        a = {client.READ: 0, client.WRITE: number + 1,
             client.CAS: chance.choice((value, number))}[kind]
        b = number + 1 if kind == client.CAS else 0
        value, answer = client.Linear.step(value, kind, a, b)
        history.append([begin, end, kind, a, b, answer])
    if chance.random() < 0.7:
        liar = chance.choice([one for one in history if one[2] != client.WRITE] or [history[0]])
        if liar[2] != client.WRITE:
            liar[5] = chance.randrange(10)
    return history


def judged(history):
    register = client.Linear(0)
    events = [(one[0], 0, i) for i, one in enumerate(history)] + \
             [(one[1], 1, i) for i, one in enumerate(history)]
    try:
        for _, ends, i in sorted(events):
            if ends:
                register.end(i, history[i][5])
            else:
                register.begin(i, *history[i][2:5])
    except client.Wrong:
        return False
    return True


def orders_are_judged_rightly():
    seed, verdicts, unlike = os.environ.get("SEED") or "1", [0, 0], []
    chance = random.Random(seed)
    for _ in range(4000):
        history = random_history(chance)
        truth = brute(history)
        verdicts[truth] += 1
        if judged(history) != truth:
            unlike.append(history)
    note(f"seed {seed}: {verdicts[1]} histories with an order, {verdicts[0]} without")
    check("a history is found wrong where no order of its operations explains it, and only there",
          not unlike and min(verdicts) > 300, unlike[:1])


def main():
    for test in (orders_are_judged_rightly, waits_are_measured, what_is_right_is_good,
                 whatever_ends_a_thread_is_a_fault, a_journal_is_verified_later,
                 lies_are_found):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
