# SPDX-License-Identifier: GPL-2.0-or-later
"""A site on this machine: two hosts in network namespaces (tests/pairs/hosts.py), the
micro-guest, etcd, and the client in a namespace of its own.

The seed says what kind of pair it is: whether both copies are compared at each checkpoint, and
how many processors the guest has. Environment: FAULTS_CPUS, so many of these, whatever the seed.

What state and log directories are on is a file system of a few MiB, so that it can be full.
These are mounted in a mount namespace of this process, and so never outlive it. The guest's
disks are bad_disk.py's where this machine lets them: they do what they are told, and lose what
was not flushed with their host's power.
"""
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "pairs"))
import bad_disk  # noqa: E402
import grants  # noqa: E402
import hosts  # noqa: E402
import visitors  # noqa: E402
from hosts import bed  # noqa: E402
from site_base import PROGRAMS, SHAPE, Failed, Node, Site, Wire  # noqa: E402

need = hosts.need
ROOM_MIB = {"state": 4, "log": 32}
# Threads that come when there is much to do, and go by themselves: io_uring's and GLib's.
PASSING = ("iou-wrk-", "pool-")
CAPTURE_MAX = 256 << 20  # bytes of each file; after that a run is not captured any more
# A processor that is stolen: how long it is away, and there, in turn.
AWAY_S, THERE_S = 0.04, 0.01
SEEDS_OF_A_KIND = 10  # one after the other: a pair is to live through some runs


def kind_of(seed):
    """Sections of the pair file for a seed's run."""
    number = seed // SEEDS_OF_A_KIND
    return {"checkpoint": {"verify": "yes" if number % 2 else "no"},
            "vm": {"cpus": os.environ.get("FAULTS_CPUS") or 1 + number // 2 % 2}}


def own_mounts():
    """What this thread mounts from now on is its own, and that of who it starts."""
    clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
    if hosts.LIBC.unshare(clone_newns) or \
            hosts.LIBC.mount(b"none", b"/", None, ms_rec | ms_private, None):
        raise Failed(f"a mount namespace: {os.strerror(ctypes.get_errno())}")


class NativeNode(Node):
    """A host of hosts.py."""

    def __init__(self, host):
        self.host = host
        self.name = host.name
        for what, mib in ROOM_MIB.items():
            directory = self.directory(what)
            os.makedirs(directory, exist_ok=True)
            hosts.run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "faults",
                      directory)
        self.losses, self.disk = 0, None
        if bad_disk.available():
            self.disk = bad_disk.BadDisk(host.disk)
            self.disk.tell(forgets=True)

    def directory(self, what):
        return os.path.join(self.host.dir, what)

    @property
    def powered(self):
        return self.host.powered

    def status(self):
        return self.host.status()

    def colo(self, *words, seconds=120):
        return self.host.colo(*words, seconds=seconds)

    def signal(self, program, number):
        pids = self.host.pids(program) if self.powered else []
        for pid in pids:
            hosts.send(pid, number)
        if program == "colod" and number == signal.SIGKILL and pids:
            self.host.colod.wait()
        return bool(pids)

    def start_colod(self):
        if not self.powered or self.host.colod.poll() is None:
            return False
        self.host.start()
        return True

    def power_off(self):
        if not self.powered:
            return False
        if self.disk:
            self.disk.tell(hang=False)  # what waits for it could not be killed
        self.host.power_off()
        if self.disk:
            self.losses += 1
            self.disk.lose(self.losses)
        return True

    def boot(self):
        if self.powered:
            return False
        self.host.boot()
        return True

    def freeze(self, program=None):
        if not self.powered:
            return False
        found = self.host.pids(program)
        self.host.freeze(program)
        return bool(found)

    def thaw(self, program=None):
        if self.powered:
            self.host.thaw(program)

    # Its disks.

    def disk_full(self, what):
        if what == "disk":
            return self.tell_disk(write=errno.ENOSPC)
        with open(os.path.join(self.directory(what), "ballast"), "ab", 0) as file:
            try:
                for size in (1 << 16, 1 << 12, 1):
                    while file.write(bytes(size)):
                        pass
            except OSError:
                pass  # it is full
        return True

    def disk_free(self, what):
        if what == "disk":
            self.disk_good()
            return
        try:
            os.unlink(os.path.join(self.directory(what), "ballast"))
        except FileNotFoundError:
            pass

    def tell_disk(self, **words):
        if not self.disk:
            raise Failed(f"{self.name}: there is no /dev/fuse here")
        self.disk.tell(**words)
        return True

    def disk_fails(self, what="all"):
        read = {"all": errno.EIO, "write": 0}[what]
        return self.tell_disk(read=read, write=errno.EIO, flush=errno.EIO)

    def disk_slow(self, milliseconds):
        return self.tell_disk(delay_ms=milliseconds)

    def disk_hangs(self):
        return self.tell_disk(hang=True)

    def disk_good(self):
        if self.disk:
            self.disk.whole()

    def starve(self, kind, seconds):
        if kind != "cpu":
            return super().starve(kind, seconds)
        threading.Thread(target=self.steal, args=(time.monotonic() + seconds,),
                         daemon=True).start()
        return True

    def steal(self, until):
        """All that runs here gets a fifth of a processor's time."""
        self.starving = True
        pids = self.host.pids()
        while time.monotonic() < until and self.powered:
            for number, seconds in ((signal.SIGSTOP, AWAY_S), (signal.SIGCONT, THERE_S)):
                for pid in pids:
                    hosts.send(pid, number)
                time.sleep(seconds)
        self.starving = False

    def usage(self):
        found = {}
        for program in PROGRAMS:
            for pid in self.host.pids(program) if self.powered else []:
                seen = usage_of(pid)
                if seen:
                    found[program] = seen
        return found

    def traces(self):
        """What tells of this node: (name, bytes) of files, and of processes' beginnings."""
        for top in (self.host.log_dir, self.host.state_dir):
            for directory, _, names in os.walk(top):
                for name in filter(lambda name: name != "ballast", names):
                    with open(os.path.join(directory, name), "rb") as file:
                        yield f"{self.name}/{name}", file.read()
        yield f"{self.name}/status", json.dumps(self.status()).encode()
        for pid in self.host.pids() if self.powered else []:
            for what in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{pid}/{what}", "rb") as file:
                        yield f"{self.name}/{hosts.comm(pid)}/{what}", file.read()
                except OSError:
                    pass  # it has ended


def usage_of(pid):
    """None where it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        threads = [hosts.comm(f"{pid}/task/{thread}")
                   for thread in os.listdir(f"/proc/{pid}/task")]
        return {"rss_kib": int(lines["VmRSS"].split()[0]),
                "threads": sum(not str(name).startswith(PASSING) for name in threads),
                "fds": len(os.listdir(f"/proc/{pid}/fd"))}
    except (OSError, KeyError):
        return None


class Capture(threading.Thread):
    """What comes into the switch, in two files that tcpdump reads: what the nodes say to each
    other, and all else."""

    def __init__(self, network, directory):
        super().__init__(daemon=True)
        self.sock = network.switch.call(self.make)
        self.lock = threading.Lock()
        self.paths = [os.path.join(directory, name)
                      for name in ("between-nodes.pcap", "clients.pcap")]
        self.files = [open(path, "wb", 1 << 20) for path in self.paths]
        self.missed = 0
        self.anew()
        self.stopping = False
        self.start()

    @staticmethod
    def make():
        all_protocols, sol_packet, ignore_outgoing, so_rcvbufforce = 3, 263, 23, 33
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(all_protocols))
        sock.setsockopt(sol_packet, ignore_outgoing, 1)
        sock.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 32 << 20)
        return sock

    def anew(self):
        """Forgets what was captured."""
        with self.lock:
            for file in self.files:
                file.seek(0)
                file.truncate()
                file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))

    def run(self):
        ports = {f"{link}-{name}" for link in ("lan", "repl")
                 for name in (*hosts.NODES, "client")}
        nodes = {socket.inet_aton(addresses[name]) for addresses in (hosts.LAN, hosts.REPL)
                 for name in hosts.NODES}
        while not self.stopping:
            if not select.select([self.sock], [], [], 0.1)[0]:
                continue
            frame, address = self.sock.recvfrom(65600)
            if address[0] not in ports:
                continue
            between = (frame[12:14] == b"\x08\x00" and frame[26:30] in nodes
                       and frame[30:34] in nodes)
            self.write(self.files[not between], frame[:65535])

    def write(self, file, frame):
        now = time.time()
        with self.lock:
            if file.tell() < CAPTURE_MAX:
                file.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame),
                                       len(frame)) + frame)

    def flush(self):
        with self.lock:
            for file in self.files:
                file.flush()

    def lost(self):
        """How many frames it did not get to see, so far."""
        sol_packet, packet_statistics = 263, 6
        self.missed += struct.unpack("II", self.sock.getsockopt(sol_packet, packet_statistics,
                                                                8))[1]
        return self.missed

    def stop(self):
        self.stopping = True
        self.join()
        self.sock.close()
        for file in self.files:
            file.close()


class NativeSite(Site):
    name = "native"
    can = frozenset(("signal", "power", "freeze", "cut", "shape", "arbiter", "arbiter-loss",
                     "full-state", "full-log", "starve-cpu"))
    one_clock = True

    def __init__(self, seed=0, **sections):
        """`sections` of the pair file, as in hosts.Pair, beside those of the seed's kind."""
        if bad_disk.available():
            self.can |= {"disk", "full-disk"}
        self.kind = kind_of(seed)
        self.sections = self.kind | sections
        self.network = self.pair = self.listener = self.capture = self.witness = None

    def suits(self, seed):
        return kind_of(seed) == self.kind

    def start(self):
        own_mounts()
        self.network = hosts.Network()
        self.listener = visitors.Listener(self.network)
        self.capture = Capture(self.network, self.network.dir)
        if not self.network.start_etcd():
            raise Failed("there is no etcd: install etcd-server")
        self.pair = hosts.Pair(self.network, **self.sections)
        self.nodes = tuple(NativeNode(host) for host in self.pair.hosts)
        self.timeout_s = self.pair.timeout_s()
        self.witness = grants.Witness(grants.etcd_of(self.pair), self.listener.turns)
        self.listener.taken = self.witness.look
        self.pair.start()
        if not self.wait_protected():
            raise Failed(f"the pair does not become protected: {self.states()}")

    def close(self):
        if not self.network:
            return
        self.network.etcd_frozen(False)
        for thread in (self.listener, self.capture, self.witness):
            if thread:
                thread.stop()
        try:
            for node in self.nodes:
                node.disk_good()
            if self.pair:
                self.pair.end()
        finally:
            for node in self.nodes:
                if node.disk:
                    node.disk.close()
                for what in ROOM_MIB:
                    hosts.run("umount", "-l", node.directory(what), check=False)
            self.network.close()
            self.network = None

    def client(self, record_dir, *args):
        return subprocess.Popen(
            self.network.client.words(sys.executable, os.path.join(HERE, "client.py"), *args,
                                      hosts.GUEST, record_dir),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def speakers(self):
        return [(at, who) for at, who, _ in self.listener.turns]

    def last_heard(self, node):
        return self.listener.last[node.name]

    def unheard(self):
        return self.listener.lost()

    def arbiter_stop(self):
        self.network.etcd_frozen(True)

    def arbiter_cont(self):
        self.network.etcd_frozen(False)

    def arbiter_restart(self, lose_state=False):
        if lose_state:
            self.witness.etcd.forgets()
        self.network.stop_etcd(lose_state)
        self.network.start_etcd()

    def cut(self, *ways):
        self.network.cut(*ways)

    def uncut(self, *ways):
        self.network.uncut(*ways)

    def shape(self, link, source, target, **what):
        unknown = set(what) - set(SHAPE)
        if unknown:
            raise Failed(f"shape {link}: no such thing as {sorted(unknown)}")
        between_nodes = "client" not in (source, target)
        keys = {"delay_ms": "delay", "jitter_ms": "jitter", "rate_kbit": "rate",
                # What nodes say to each other no checksum should have to protect.
                "corrupt": "forge" if between_nodes else "corrupt"}
        self.network.seed = self.seed
        self.network.shape(link, source, target,
                           **{keys.get(key, key): value for key, value in what.items()})

    def mend(self):
        self.network.mend()

    def revision(self):
        return self.witness.etcd.revision()

    def grants(self, since):
        return self.witness.etcd.history(since)

    def revision_at(self, turn):
        return self.witness.revision_at(turn)

    def begin_run(self):
        self.capture.anew()

    def secrets(self):
        with open(self.pair.key, "rb") as file:
            text = file.read().strip()
        return [text, bytes.fromhex(text.decode())]

    def artefacts(self):
        for node in self.nodes:
            yield from node.traces()
        self.capture.flush()
        with open(self.capture.paths[0], "rb") as file:
            yield "the links between the nodes", file.read()

    def clients_heard(self):
        self.capture.flush()
        with open(self.capture.paths[1], "rb") as file:
            return file.read()

    def wire(self):
        if self.capture.lost():
            raise Failed(f"the capture missed {self.capture.lost()} frames")
        self.capture.flush()
        # What comes from the guest is captured before a relay has had it.
        return Wire(self.capture.paths[1], hosts.GUEST, reordered=False)

    def usage(self):
        return {node.name: node.usage() for node in self.nodes}

    def keep(self, directory):
        self.capture.flush()
        for path in self.capture.paths:
            shutil.copy(path, directory)
        for node in self.nodes:
            place = os.path.join(directory, node.name)
            os.makedirs(place, exist_ok=True)
            shutil.copytree(node.host.log_dir, os.path.join(place, "log"),
                            ignore=shutil.ignore_patterns("ballast"), dirs_exist_ok=True)
            shutil.copytree(node.host.state_dir, os.path.join(place, "state"),
                            ignore=shutil.ignore_patterns("ballast"), dirs_exist_ok=True)
            with open(os.path.join(place, "status.json"), "w") as file:
                json.dump(node.status(), file, indent=1)
        shutil.copy(os.path.join(self.network.dir, "etcd.log"), directory)
        shutil.copy(self.pair.file, directory)
        with open(os.path.join(directory, "speakers.txt"), "w") as file:
            for at, who, frame in self.listener.turns:
                file.write(f"{at:.6f} {who} {frame}\n")
