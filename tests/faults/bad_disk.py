#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that fails, waits, hangs, fills up or forgets, as it is told.

`BadDisk(path)` puts itself over a regular file by FUSE: who opens the path after that gets
the same bytes, every request through a process of ours, and the errors that this process was
told to give. It needs root and /dev/fuse, nothing else. The file is itself again after
close(), or when the process that made it ends, however that happens.

What it can be told, all at once and again at any time:
  read, write, flush  the errno that such requests get from now on; 0: they are carried out
  delay_ms            how long each request takes
  hang                nothing is answered, until it is told otherwise
  forgets             writes stay in memory until a flush: lose() is what a power cut does to
                      those: each sector of them is there, or not, by a seed
"""
import ctypes
import errno
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
SECTOR = 512
MAX_WRITE = 1 << 20
GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, INTERRUPT, DESTROY, FORGET, BATCH_FORGET = 20, 25, 26, 36, 38, 2, 42
NO_ANSWER = (FORGET, BATCH_FORGET, INTERRUPT, DESTROY)
KINDS = {READ: "read", WRITE: "write", FSYNC: "flush"}


def available():
    return os.geteuid() == 0 and os.path.exists("/dev/fuse")


class BadDisk:
    """The disk, as a test knows it."""

    def __init__(self, path):
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, os.path.realpath(__file__), path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{path}: no disk could be put over it")

    def tell(self, **words):
        """Gives how many requests of each kind have come, and were refused."""
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def counts(self):
        return self.tell()

    def whole(self):
        return self.tell(read=0, write=0, flush=0, delay_ms=0, hang=False)

    def lose(self, seed):
        """What was not flushed is gone, but for some of it; gives how many sectors that were."""
        return self.tell(lose=seed)["lost"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# The process.


class Server:
    def __init__(self, path):
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self.file).st_size
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.rules = {"read": 0, "write": 0, "flush": 0, "delay_ms": 0, "hang": False,
                      "forgets": False}
        self.counts = {kind + what: 0 for kind in KINDS.values() for what in ("", "_refused")}
        self.unflushed = {}  # sector: bytes
        self.waiting = []  # (due, opcode, unique, body)
        options = f"fd={self.fuse},rootmode=100000,user_id=0,group_id=0,allow_other"
        nosuid_nodev = 2 | 4
        if LIBC.mount(b"bad-disk", path.encode(), b"fuse", nosuid_nodev, options.encode()):
            raise OSError(ctypes.get_errno(), "mount", path)

    def run(self):
        begun = False
        while True:
            wait = None
            if self.waiting and not self.rules["hang"]:
                wait = max(0, self.waiting[0][0] - time.monotonic())
            ready = select.select([self.fuse, 0], [], [], wait)[0]
            if 0 in ready and not self.obey():
                break
            if self.fuse in ready:
                begun = self.take() or begun
            if begun is True:
                os.write(1, b"ready\n")
                begun = None
            self.answer_due()
        umount_lazily = 2
        LIBC.umount2(self.path.encode(), umount_lazily)

    def obey(self):
        line = sys.stdin.buffer.readline()
        if not line:
            return False
        words = json.loads(line)
        lost = self.lose(random.Random(words.pop("lose"))) if "lose" in words else 0
        self.rules.update(words)
        os.write(1, json.dumps(dict(self.counts, unflushed=len(self.unflushed), lost=lost))
                 .encode() + b"\n")
        return True

    def take(self):
        """Whether that was the beginning."""
        try:
            data = os.read(self.fuse, MAX_WRITE + 65536)
        except OSError as error:
            if error.errno == errno.ENODEV:
                os._exit(0)  # it was unmounted
            return False
        opcode, unique = struct.unpack_from("<IQ", data, 4)
        body = data[40:]
        if opcode == INIT:
            self.init(unique, body)
            return True
        if opcode in NO_ANSWER:
            return False
        delay = self.rules["delay_ms"] / 1000 if opcode in KINDS else 0
        self.waiting.append((time.monotonic() + delay, opcode, unique, body))
        return False

    def answer_due(self):
        now, later = time.monotonic(), []
        for entry in self.waiting:
            due, opcode, unique, body = entry
            if opcode in KINDS and (self.rules["hang"] or due > now):
                later.append(entry)
                continue
            try:
                error, reply = 0, self.serve(opcode, body)
            except OSError as failure:
                error, reply = failure.errno, b""
            self.reply(unique, reply, error)
        self.waiting = sorted(later, key=lambda entry: entry[0])

    def reply(self, unique, reply, error=0):
        try:
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(reply), -error, unique) + reply)
        except OSError:
            pass  # who asked has gone

    def init(self, unique, body):
        major, minor = struct.unpack_from("<II", body)
        async_read, big_writes, async_dio, max_pages = 1, 1 << 5, 1 << 15, 1 << 22
        self.reply(unique, struct.pack(
            "<IIIIHHIIHHII24x", major, min(minor, 36), 0,
            async_read | big_writes | async_dio | max_pages, 64, 48, MAX_WRITE, 1,
            MAX_WRITE // 4096, 0, 0, 0))

    def attributes(self):
        status = os.fstat(self.file)
        return struct.pack("<QII6Q10I", 0, 0, 0, 1, self.size, status.st_blocks, 0, 0, 0, 0, 0,
                           0, status.st_mode, 1, status.st_uid, status.st_gid, 0, 4096, 0)

    def serve(self, opcode, body):
        if opcode in KINDS:
            return self.transfer(opcode, body)
        if opcode in (GETATTR, SETATTR):
            return self.attributes()
        if opcode == OPEN:
            direct_io = 1
            return struct.pack("<QII", 0, direct_io, 0)
        if opcode == STATFS:
            return struct.pack("<5QIIII24x", 1 << 20, 1 << 20, 1 << 20, 1, 1, 4096, 255, 4096, 0)
        if opcode in (RELEASE, FLUSH):
            return b""
        raise OSError(errno.ENOSYS, "")

    def transfer(self, opcode, body):
        kind = KINDS[opcode]
        self.counts[kind] += 1
        if self.rules[kind]:
            self.counts[kind + "_refused"] += 1
            raise OSError(self.rules[kind], "")
        if opcode == FSYNC:
            self.flush()
            return b""
        offset, size = struct.unpack_from("<QI", body, 8)
        if opcode == READ:
            return self.read(offset, size)
        self.write(offset, body[40:40 + size])
        return struct.pack("<II", size, 0)

    def read(self, offset, size):
        first, last = offset // SECTOR, -(-(offset + size) // SECTOR)
        data = b"".join(self.unflushed.get(sector)
                        or os.pread(self.file, SECTOR, sector * SECTOR)
                        for sector in range(first, last)) if self.unflushed else None
        if data is None:
            return os.pread(self.file, size, offset)
        return data[offset - first * SECTOR:][:size]

    def write(self, offset, data):
        if not self.rules["forgets"] or offset % SECTOR or len(data) % SECTOR:
            os.pwrite(self.file, data, offset)
            return
        for at in range(0, len(data), SECTOR):
            self.unflushed[(offset + at) // SECTOR] = data[at:at + SECTOR]

    def flush(self):
        for sector, data in self.unflushed.items():
            os.pwrite(self.file, data, sector * SECTOR)
        self.unflushed = {}
        os.fdatasync(self.file)

    def lose(self, rng):
        """How many sectors never got to the disk."""
        before = len(self.unflushed)
        self.unflushed = {sector: data for sector, data in self.unflushed.items()
                          if rng.random() < 0.5}
        lost = before - len(self.unflushed)
        self.flush()
        return lost


if __name__ == "__main__":
    Server(sys.argv[1]).run()
