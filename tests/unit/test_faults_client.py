#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That the fault harness' client (tests/faults/client.py) finds what it is there to find: with
guests played here that do all right, or one thing wrong."""
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
            magic, operation, flags, _, number = client.HEAD.unpack_from(question)
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


def use(guest, *words, seconds=2.5, meanwhile=None):
    """Runs the client against a guest so long; its exit status and what it said last."""
    with tempfile.TemporaryDirectory(prefix="colo-faults-") as record:
        process = subprocess.Popen([sys.executable, CLIENT, *words, guest.address, record],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(seconds / 2)
            if meanwhile:
                meanwhile()
            time.sleep(seconds / 2)
            said, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        return process.returncode, json.loads(said.splitlines()[-1])


def what_is_right_is_good():
    guest = Guest()
    status, said = use(guest, "--rate", "4", seconds=5)
    guest.close()
    check("with a guest that does all right the verdict is good",
          status == 0 and said["verdict"] == "good"
          and all(said[name]["good"] > 3 for name in client.WORKLOADS), said)


def main():
    for test in (what_is_right_is_good,):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
