# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a command in a host: the near side of host/agent.c, which has the protocol."""
import os
import select
import signal
import socket
import struct

from bed import process
from bed.common import Failure

PORT = 1
PIECE = 65536
CONNECT_S = 10
SIGNAL_S = 3  # a command that was sent a fatal signal may take so long to end
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def enter_network(name):
    """Moves this process into the testbed's network namespace; needs root."""
    try:
        handle = os.open("/run/netns/" + name, os.O_RDONLY)
    except FileNotFoundError:
        raise Failure(f"network namespace {name} is gone; `testbed down`, then `up`")
    if hasattr(os, "setns"):
        os.setns(handle, 0)
    else:
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, 0) != 0:
            raise Failure("setns: " + os.strerror(ctypes.get_errno()))
    os.close(handle)


def connect(host, patience_s=CONNECT_S):
    """A connection to the agent of a running host."""
    found = process.find(host.path("qemu.pid"))
    if not found:
        raise Failure(f"{host.name} is not running")
    if found[1] in "Tt":
        raise Failure(f"{host.name} is frozen")
    enter_network(host.netns)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(patience_s)
    try:
        sock.connect((host.agent_address, PORT))
    except OSError as error:
        sock.close()
        raise Failure(f"{host.name} does not answer: {error.strerror or error}")
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def frame(kind, payload=b""):
    return kind + struct.pack("<I", len(payload)) + payload


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


class Command:
    """One command in one host, its streams joined to descriptors of ours."""

    def __init__(self, host, args, stdin, stdout, stderr):
        self.host = host
        self.stdin = stdin
        self.outputs = {b"O": stdout, b"R": stderr}
        self.buffer = bytearray()
        self.deadline_signal = None
        self.sock = connect(host)
        self.qemu = process.find(host.path("qemu.pid"))
        text = b"".join(os.fsencode(word) + b"\0" for word in args)
        self.sock.sendall(frame(b"A", text))

    def run(self, wakeup=None):
        """The exit status. `wakeup` is a descriptor from which to read signal numbers."""
        try:
            qemu = os.pidfd_open(self.qemu[0])
        except (ProcessLookupError, TypeError):
            raise Failure(f"{self.host.name} died")
        waiting = select.poll()
        for fd in filter(lambda fd: fd is not None, (self.sock, qemu, wakeup, self.stdin)):
            waiting.register(fd, select.POLLIN)
        try:
            while True:
                patience = SIGNAL_S * 1000 if self.deadline_signal else None
                ready = [fd for fd, _ in waiting.poll(patience)]
                if self.deadline_signal and not ready:
                    return 128 + self.deadline_signal
                if self.sock.fileno() in ready:
                    status = self.take()
                    if status is not None:
                        return status
                if wakeup is not None and wakeup in ready:
                    self.forward_signals(os.read(wakeup, 64))
                if self.stdin is not None and self.stdin in ready and not self.feed():
                    waiting.unregister(self.stdin)
                    self.stdin = None
                if qemu in ready and self.sock.fileno() not in ready:
                    raise Failure(f"{self.host.name} died while the command ran")
        finally:
            os.close(qemu)
            self.sock.close()

    def forward_signals(self, numbers):
        for number in numbers:
            if number in FORWARDED:
                self.sock.sendall(frame(b"S", bytes([number])))
                self.deadline_signal = number

    def feed(self):
        """Passes on some standard input; False at its end."""
        data = os.read(self.stdin, PIECE)
        try:
            self.sock.sendall(frame(b"I", data) if data else frame(b"E"))
        except (BrokenPipeError, ConnectionResetError):
            return False  # the command has ended; its last frames are still to be read
        return bool(data)

    def take(self):
        """Handles what has come from the agent; the exit status once that is there."""
        try:
            data = self.sock.recv(PIECE * 4)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Failure(f"{self.host.name}: the connection to its agent broke")
        self.buffer += data
        while len(self.buffer) >= 5:
            kind, size = bytes(self.buffer[:1]), struct.unpack_from("<I", self.buffer, 1)[0]
            if len(self.buffer) < 5 + size:
                break
            payload = bytes(self.buffer[5:5 + size])
            del self.buffer[:5 + size]
            if kind == b"X":
                return payload[0]
            write_all(self.outputs[kind], payload)
        return None


def signals_as_input():
    """A descriptor that yields the numbers of signals to pass on."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in FORWARDED:
        signal.signal(number, lambda *_: None)
    return reader


def open_stdin():
    """Standard input, or None when the caller closed it."""
    try:
        os.fstat(0)
        return 0
    except OSError:
        return None


def pass_through(host, args):
    """Runs a command with this process's own streams and signals."""
    command = Command(host, args, open_stdin(), 1, 2)
    if command.stdin is None:
        command.sock.sendall(frame(b"E"))
    try:
        return command.run(signals_as_input())
    except BrokenPipeError:  # our reader has gone, as if by SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE


def run(host, args, stdin=None, stdout=None):
    """Runs a command with the descriptors given; its standard error is returned too."""
    import tempfile
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with tempfile.TemporaryFile() as errors:
            command = Command(host, args, null if stdin is None else stdin,
                              null if stdout is None else stdout, errors.fileno())
            status = command.run()
            errors.seek(0)
            return status, errors.read().decode(errors="replace").strip()
    finally:
        os.close(null)
