# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of colo-vm processes with the micro-guest, on this machine.

Both run in a network namespace of this test's own, on a bridge with a client's address. The
guest is talked to over UDP, as a client would: whoever is plugged in answers.
"""
import ctypes
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "system"))
import bed  # noqa: E402

FAULTS = os.path.join(bed.BUILD, "colo-vm-faults")
GUEST, CLIENT = "10.99.0.2", "10.99.0.1"
COMMANDS, ECHO = 9000, 7
MAC = "52:54:00:c0:10:02"
PERIOD_S = 0.001  # of a client's questions
ETH_P_ALL = 0x0003


def need():
    """Ends the test where this machine cannot run it."""
    if os.geteuid() != 0 or not os.path.exists("/dev/kvm"):
        print("SKIPPED: needs root and /dev/kvm")
        sys.exit(bed.SKIP_STATUS)


def make_network():
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newnet) != 0:
        print("SKIPPED: cannot make a network namespace")
        sys.exit(bed.SKIP_STATUS)
    subprocess.run(["sh", "-ec", f"""
        ip link set lo up
        ip link add br0 type bridge forward_delay 0 stp_state 0
        ip addr add {CLIENT}/24 dev br0
        ip link set br0 up
        for tap in tap0 tap1; do
            ip tuntap add $tap mode tap vnet_hdr
            ip link set $tap master br0 up
        done"""], check=True)


def forget_stations():
    """The bridge no longer knows behind which tap the guest was."""
    subprocess.run(["ip", "link", "set", "br0", "type", "bridge", "fdb_flush"], check=True)


class Place(bed.Here):
    """A directory of a pair's own, with its key and two disks."""

    def __init__(self, disk_mib=4):
        super().__init__(tempfile.mkdtemp(prefix="colo-pair-"))
        with open(os.open(self.path("key"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        for name in ("a.img", "b.img"):
            with open(self.path(name), "wb") as file:
                file.truncate(disk_mib << 20)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Control(bed.Control):
    """The same without a program in between: there as soon as the socket is, and gone as
    soon as the node is dead."""

    def __init__(self, path, process):
        sock = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + bed.PATIENCE_S
        while True:
            try:
                sock.connect(path)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
        self.sock = sock
        ends = types.SimpleNamespace(stdin=sock.makefile("wb", buffering=0),
                                     stdout=sock.makefile("rb"))
        super().__init__(types.SimpleNamespace(popen=lambda *_, **__: ends), path)

    def collect(self):
        try:
            super().collect()
        except OSError:
            self.answers.put(None)

    def send(self, command, seconds=bed.PATIENCE_S, **arguments):
        try:
            return super().send(command, seconds, **arguments)
        except OSError:
            return {"ok": False, "error": {"code": "gone", "message": "no connection"}}

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the node is gone
        self.sock.close()


class Node(bed.Machine):
    """One colo-vm of a pair; `fault`: where it dies (COLO_FAULT); `options` given by name
    win over the usual ones."""

    def __init__(self, place, number, *words, fault=None, cpus=1, key="key", options=()):
        self.number = number
        self.fault = fault
        self.colo_vm = FAULTS if fault else place.colo_vm
        environment = dict(os.environ, **({"COLO_FAULT": fault} if fault else {}))
        place = PlaceWith(place, self.colo_vm, environment)
        usual = {"--memory": "64M", "--cpus": str(cpus)}
        for name in usual:
            if name not in options:
                words += (name, usual[name])
        super().__init__(place, "--verbose", "--key", place.path(key), "--console", "none",
                         "--disk", f"path={place.path('ab'[number] + '.img')}",
                         "--net", f"tap=tap{number},mac={MAC}", *words, *options,
                         control=f"vm{number}.sock")
        self.watch()

    @property
    def control(self):
        if not self._control:
            self._control = Control(self.socket, self.process)
        return self._control

    def replication(self):
        return self.control.must("status")["replication"]

    def killed(self):
        """Pulls the plug."""
        self.process.kill()
        self.process.wait()


class PlaceWith(bed.Here):
    """The same place with another program and environment."""

    def __init__(self, place, program, environment):
        super().__init__(place.dir)
        self.colo_vm = program
        self.environment = environment

    def popen(self, *words, **options):
        return super().popen(*words, env=self.environment, **options)


def kernel(append=""):
    return ["--kernel", bed.MICROGUEST, "--append", f"ip={GUEST}/24 {append}".strip()]


class Guest:
    """Commands to whichever guest answers at the guest's address."""

    def ask(self, line, seconds=10):
        """The answer, or None. Asks again while none comes: commands must bear that. Each
        question has a port of its own, so that no answer comes to a later one."""
        deadline = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((GUEST, COMMANDS))
            sock.settimeout(0.25)
            while time.monotonic() < deadline:
                try:
                    sock.send(line.encode())
                    answer = sock.recv(2048).decode(errors="replace").strip()
                    if answer != "error busy":
                        return answer
                except TimeoutError:
                    continue
                except OSError:
                    pass  # nobody is there yet
                time.sleep(0.02)
        return None

    def do(self, line):
        answer = self.ask(line)
        if not answer or not answer.startswith("ok"):
            raise RuntimeError(f"the guest says to \"{line}\": {answer}")
        return answer


def number(answer, key):
    return int(re.search(rf"\b{key}=(\d+)", answer).group(1))


def echo(count=3):
    """Whether a new TCP connection to the guest works."""
    with socket.create_connection((GUEST, ECHO), timeout=10) as sock:
        for i in range(count):
            message = struct.pack("<Q", i + 1)
            sock.sendall(message)
            got = b""
            while len(got) < len(message):
                piece = sock.recv(len(message) - len(got))
                if not piece:
                    return False
                got += piece
            if got != message:
                return False
    return True


class Client:
    """A client that asks every millisecond; when it was answered."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((GUEST, ECHO))
        self.heard = []  # (when, which)
        self.asked = 0
        self.over = False
        self.threads = [threading.Thread(target=run, daemon=True)
                        for run in (self.ask, self.hear)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        due = time.monotonic()
        while not self.over:
            self.asked += 1
            try:
                self.sock.send(struct.pack("<Q", self.asked))
            except OSError:
                pass
            due = max(due + PERIOD_S, time.monotonic() - 10 * PERIOD_S)
            time.sleep(max(due - time.monotonic(), 0))

    def hear(self):
        self.sock.settimeout(0.2)
        while not self.over:
            try:
                answer = self.sock.recv(64)
            except OSError:
                continue
            self.heard.append((time.monotonic(), struct.unpack("<Q", answer)[0]))

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()
        self.sock.close()

    def longest_gap(self, since, until):
        """Between two answers in a row, of those that overlap this time; in seconds."""
        times = [at for at, _ in self.heard]
        gaps = [(b - a) for a, b in zip(times, times[1:]) if b >= since and a <= until]
        return max(gaps, default=float("inf"))

    def lost(self):
        return self.asked - len({which for _, which in self.heard})


class Wire:
    """When the guest itself was heard on a tap: IP from its address, so no announcement."""

    def __init__(self, tap):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.bind((tap, ETH_P_ALL))
        self.source = socket.inet_aton(GUEST)

    def first(self, seconds=5):
        """When it was heard next; None: not in that time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
                frame, where = self.sock.recvfrom(2048)
            except TimeoutError:
                return None
            if (where[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00"
                    and frame[26:30] == self.source):
                return time.monotonic()

    def close(self):
        self.sock.close()


BUSY = ("blkbg 300 0 wild", "dirty 500 10000 3", "clockwatch start", "timer 100")


def keep_busy(guest, lines=BUSY):
    for line in lines:
        guest.do(line)


def faults_of_guest(guest):
    """What is wrong with a guest that was kept busy; nothing: an empty list."""
    wrong = []
    verified, disk, clocks, timers = (guest.ask(line) or "" for line in (
        "verify", "blkcheck empty", "clockwatch report", "timer"))
    for answer, key in ((verified, "bad"), (clocks, "tsc_decreases"),
                        (clocks, "kvm_decreases"), (timers, "no_irq"), (disk, "bad"),
                        (disk, "errors")):
        found = [int(value) for value in re.findall(rf"\b{key}=(\d+)", answer)]
        if not found or any(found):
            wrong.append(f"{key}: {answer}")
    if not wrong and not number(disk, "writes"):
        wrong.append(f"no writes: {disk}")
    return wrong


def run(tests):
    began = time.monotonic()
    need()
    make_network()
    bed.stop_on_signals()
    for test in bed.chosen(tests):
        at = time.monotonic()
        try:
            test()
        except Exception as error:
            bed.check(f"{test.__name__.replace('_', ' ')}: the test runs to its end", False,
                      repr(error))
            for machine in list(bed.Machine.all):
                bed.note(machine.last_words()[-2000:])
        finally:
            bed.end_machines()
        bed.note(f"{test.__name__}: {time.monotonic() - at:.1f} s")
    bed.note(f"all: {time.monotonic() - began:.1f} s")
    sys.exit(bed.verdict())
