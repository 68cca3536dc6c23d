# SPDX-License-Identifier: GPL-2.0-or-later
"""What sites on whole hosts share, whatever a command gets there by: nodes that are looked at,
harmed and mended by shell commands on their hosts, and a listener for what they send.

A host is a bed.Here whose command() says how a command gets there. A pair is known there by
its name; only its own programs are ever signalled. What is used on a host: sh, python3, for
there.py, colo; for links tc, nft, ip and the modules sch_netem and ifb.

Links are shaped in the hosts: what a node sends where it leaves, what clients send to a node
where it arrives there, told apart by the addresses of IP; so ARP is never shaped. netem's dice
are the kernel's: what it loses is not in a seed.
"""
import json
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

FAULTS = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(FAULTS), "system"))
import bed  # noqa: E402
import site_base  # noqa: E402
from site_base import PROGRAMS, Failed  # noqa: E402

STATUS_S = 10
ASK_S = 60
CHUNK = 32 << 20  # of a capture, at once
CHUNK_OVERLAP = 256  # what is looked for is shorter
RATE_QUEUE = 200  # frames: what a cheap switch has for a port
DELAY_QUEUE = 20000  # frames that may be on their way

# As the unit file would; $1 is the pair's name, $2 its file.
START = """
mkdir -p "/var/log/colo/$1" "/run/colo/$1"
(
    echo -900 > /proc/self/oom_score_adj
    ulimit -c 0
    ulimit -l unlimited
    exec setsid colod "$2" >> "/var/log/colo/$1/colod.log" 2>&1 < /dev/null
) &
"""


# What is put aside of tc, devices of ip, and what is put in place of tc.
SHAPE = """
modprobe -a sch_netem ifb 2> /dev/null
printf %s "$1" | tc -force -batch - 2> /dev/null
[ -z "$2" ] || printf %s "$2" | ip -force -batch - 2> /dev/null
[ -z "$3" ] || printf %s "$3" | tc -batch -"""


class There:
    """there.py on a host, for as long as that lives; begun anew when it is asked after that."""

    def __init__(self, place):
        self.place, self.process, self.answers, self.count = place, None, None, 0
        with open(os.path.join(FAULTS, "there.py")) as file:
            self.text = file.read()

    def begin(self):
        self.end()
        self.process = self.place.popen("python3", "-u", "-c", self.text,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answers = queue.Queue()
        threading.Thread(target=self.collect, args=(self.process, self.answers),
                         daemon=True).start()

    @staticmethod
    def collect(process, answers):
        for line in process.stdout:
            answers.put(json.loads(line))
        answers.put(None)

    def ask(self, do, seconds=ASK_S, **words):
        """What it answers; None without an answer in time. Raises Failed for what it could
        not do."""
        if not self.process or self.process.poll() is not None:
            self.begin()
        self.count += 1
        try:
            self.process.stdin.write(json.dumps({"id": self.count, "do": do,
                                                 "with": words}).encode() + b"\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=seconds)
        except (OSError, queue.Empty):
            answer = None
        if not answer or answer["id"] != self.count:
            self.end()
            return None
        if "failed" in answer:
            raise Failed(f"{self.place.name}: {do} {words}: {answer['failed']}")
        return answer["is"]

    def end(self):
        if self.process:
            bed.end_process(self.process)
            self.process.stdin.close()
        self.process = None


class HostNode(site_base.Node):
    """A node on a host of its own. `devices` and `addresses` are those of the links there."""

    def __init__(self, site, place, devices, addresses):
        self.site, self.place, self.name = site, place, place.name
        self.devices, self.addresses = devices, addresses
        self.powered, self.stands_still = True, False
        self.there = There(place)
        self.told = ""  # what had been logged before the host lost its power
        self.starved_until = 0.0

    @property
    def answers(self):
        return self.powered and not self.stands_still

    @property
    def starving(self):
        return time.monotonic() < self.starved_until

    def ask(self, do, seconds=ASK_S, **words):
        """There, what `do` gives; None where nobody answers."""
        return self.there.ask(do, seconds, **words) if self.answers else None

    def act(self, do, **words):
        """Does something there; False where it found nothing to do. A host that is on and
        does not answer is no fault of the pair's."""
        if not self.answers:
            return False
        done = self.ask(do, **words)
        if done is None:
            raise Failed(f"{self.name}: {do} {words}: no answer within {ASK_S} s")
        return done

    def shell(self, text, *args, seconds=60):
        """Shell commands there that must succeed; FALSE where it is off or stands still."""
        if not self.answers:
            return False
        done = self.place.shell(text, *args, seconds=seconds)
        if not done:
            raise Failed(f"{self.name}: {text.strip()} {' '.join(map(str, args))}: {done}")
        return True

    # What it says.

    def status(self):
        return self.ask("ask", STATUS_S, pair=self.site.pair, command="status")

    def events(self, since=0):
        told, more = [], True
        while more:
            page = self.ask("ask", pair=self.site.pair, command="events", since=since)
            if not page:
                return None
            told += map(site_base.event_of, page["events"])
            since, more = page["last"], page["more"]
        return told

    def colo(self, *words, seconds=120):
        if not self.answers:
            return bed.Result(124, "", f"{self.name} is off, or stands still\n")
        return self.place.run("colo", words[0], self.site.pair, *words[1:], seconds=seconds)

    def logs(self):
        return self.told + (self.ask("logs", pair=self.site.pair) or "")

    def usage(self):
        return self.ask("usage", pair=self.site.pair, programs=PROGRAMS) or {}

    # Its programs.

    def signal(self, program, number):
        return self.act("send", pair=self.site.pair, program=program, number=int(number))

    def colod_runs(self):
        return "colod" in (self.ask("usage", pair=self.site.pair, programs=["colod"]) or {})

    def start_colod(self):
        return self.answers and not self.colod_runs() \
            and self.shell(START, self.site.pair, self.site.pair_file)

    def freeze(self, program=None):
        if program:
            return self.signal(program, signal.SIGSTOP)
        raise Failed(f"{self.name}: this site cannot stop a whole host")

    def thaw(self, program=None):
        if program:
            return self.signal(program, signal.SIGCONT)
        return False

    # Its resources.

    def directory(self, what):
        places = {"state": "/var/lib/colo", "log": "/var/log/colo"}
        if what not in places or f"full-{what}" not in self.site.can:
            raise Failed(f"{self.name}: this site cannot fill {what}")
        return places[what]

    def disk_full(self, what):
        return self.act("fill", directory=self.directory(what))

    def disk_free(self, what):
        return self.act("free", directory=self.directory(what))

    def step_clock(self, seconds):
        return self.act("step", by_s=seconds)

    def starve(self, kind, seconds):
        """ "cpu": a few programs of the usual priority beside each other; "cpu-rt": one for
        each processor that goes before everything; "memory"."""
        if kind not in ("cpu", "cpu-rt", "memory"):
            raise Failed(f"{self.name}: this site cannot starve for {kind}")
        if not self.act("starve", kind=kind, lasts_s=seconds):
            return False
        self.starved_until = time.monotonic() + seconds
        return True

    # Its links. What is shaped is told anew as a whole each time, for a host that boots.

    def shape(self, outgoing, incoming):
        """{link: {address: shape}} each: how what goes to an address fares, and what comes
        from one."""
        before = [f"qdisc del dev {device} {where}" for device in self.devices.values()
                  for where in ("root", "ingress")]
        after, incoming_too = [], [f"link add faults-{link} up type ifb" for link in incoming]
        for link, ways in outgoing.items():
            device = self.devices[link]
            after.append(f"qdisc add dev {device} root handle 1: prio bands {3 + len(ways)}")
            for band, (address, what) in enumerate(ways.items(), 4):
                after += [f"qdisc add dev {device} parent 1:{band:x} {netem(what)}",
                          f"filter add dev {device} parent 1: protocol {family(address)} flower "
                          f"dst_ip {address} flowid 1:{band:x}"]
        for link, ways in incoming.items():
            after.append(f"qdisc add dev {self.devices[link]} handle ffff: ingress")
            for address, what in ways.items():  # there is but one place of clients
                after += [f"qdisc replace dev faults-{link} root {netem(what)}",
                          f"filter add dev {self.devices[link]} parent ffff: protocol "
                          f"{family(address)} flower src_ip {address} action mirred egress "
                          f"redirect dev faults-{link}"]
        return self.shell(SHAPE, *("".join(line + "\n" for line in lines)
                                   for lines in (before, incoming_too, after)))


def family(address):
    return "ipv6" if ":" in address else "ip"


def netem(what):
    words = ["netem", "limit", str(RATE_QUEUE if what["rate_kbit"] else DELAY_QUEUE)]
    delay_ms = what["delay_ms"]
    if what["reorder"] and not delay_ms:
        delay_ms = 10  # what is not delayed overtakes the rest
    if delay_ms or what["jitter_ms"]:
        words += ["delay", f"{delay_ms}ms", f"{what['jitter_ms']}ms"]
    for name in ("loss", "duplicate", "corrupt", "reorder"):
        if what[name]:
            words += [name, f"{100 * what[name]:.4f}%"]
    if what["rate_kbit"]:
        words += ["rate", f"{what['rate_kbit']}kbit"]
    return " ".join(words)


class HostSite(site_base.Site):
    """A pair on two hosts. Who makes one sets `pair`, `pair_file` and `client_address`."""

    pair = pair_file = client_address = None

    def __init__(self):
        self.shaped = {}  # (link, source, target): shape

    def node(self, name):
        return next((node for node in self.nodes if node.name == name), None)

    def check_way(self, link, source, target):
        names = [node.name for node in self.nodes] + ["client"]
        if link not in site_base.LINKS or source == target or source not in names \
                or target not in names:
            raise Failed(f"there is no way on {link} from {source} to {target}; places are "
                         + ", ".join(names))
        if link == "repl" and "client" in (source, target):
            raise Failed("clients are not on repl")

    def address(self, link, name):
        node = self.node(name)
        return node.addresses[link] if node else self.client_address

    def shape(self, link, source, target, **what):
        self.check_way(link, source, target)
        unknown = what.keys() - site_base.SHAPE.keys()
        if unknown:
            raise Failed(f"no shape has {', '.join(unknown)}")
        self.shaped[link, source, target] = dict(site_base.SHAPE, **what)
        self.shape_node(self.node(source) or self.node(target))

    def shape_node(self, node):
        """Puts what is shaped into effect in this node's host; also after its boot."""
        outgoing, incoming = {}, {}
        for (link, source, target), what in self.shaped.items():
            if source == node.name:
                outgoing.setdefault(link, {})[self.address(link, target)] = what
            elif target == node.name and source == "client":
                incoming.setdefault(link, {})[self.client_address] = what
        node.shape(outgoing, incoming)

    def mend(self):
        if self.shaped:
            self.shaped = {}
            for node in self.nodes:
                node.shape({}, {})

    def usage(self):
        return {node.name: node.usage() for node in self.nodes}

    def artefacts(self):
        for node in self.nodes:
            yield f"{node.name}: logs", node.logs().encode()
            yield f"{node.name}: status", json.dumps(node.status()).encode()
            yield f"{node.name}: processes", (node.ask("processes") or "").encode()
        for path in self.captures_between():
            with open(path, "rb") as file:
                piece, number = file.read(CHUNK), 0
                while piece:
                    yield f"{os.path.basename(path)}: piece {number}", piece
                    more = file.read(CHUNK)
                    piece, number = more and piece[-CHUNK_OVERLAP:] + more, number + 1

    def captures(self):
        """Paths of files with what went over the links."""
        return []

    def captures_between(self):
        """Those of what the nodes said to each other."""
        return []

    def keep(self, directory):
        for node in self.nodes:
            keep_text(directory, f"{node.name}.log", node.logs())
            keep_text(directory, f"{node.name}-kernel.log", node.place.shell(
                "dmesg | tail -n 300").output if node.answers else "")
            keep_text(directory, f"{node.name}-status.json",
                      json.dumps(node.status(), indent=1))
        turns = self.speakers()
        if turns is not None:
            keep_text(directory, "speakers", "".join(
                f"{when:.6f} {who}\n" for when, who in turns))
        for path in self.captures():
            bed.Here(directory).put(path, os.path.join(directory, os.path.basename(path)))


def keep_text(directory, name, text):
    with open(os.path.join(directory, name), "w") as file:
        file.write(text)


class Listener(threading.Thread):
    """All that comes in at the ports behind the nodes with the guest's address as its source,
    in the order in which one machine saw it. `call` runs a function where the ports are."""

    def __init__(self, call, ports, mac):
        super().__init__(daemon=True)
        self.ports = ports  # device: node's name
        self.sock = call(self.make, mac)
        self.turns, self.last, self.lost, self.stopping = [], {}, 0, False
        self.start()

    @staticmethod
    def make(mac):
        import ctypes
        all_protocols, so_attach_filter, sol_packet = 3, 26, 263
        packet_ignore_outgoing, so_rcvbufforce = 23, 33
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(all_protocols))
        number = bytes.fromhex(mac.replace(":", ""))
        program = b"".join(struct.pack("=HBBI", *line) for line in (
            (0x20, 0, 0, 6), (0x15, 0, 3, int.from_bytes(number[:4], "big")),
            (0x28, 0, 0, 10), (0x15, 0, 1, int.from_bytes(number[4:], "big")),
            (0x06, 0, 0, 65535), (0x06, 0, 0, 0)))
        code = ctypes.create_string_buffer(program)
        sock.setsockopt(socket.SOL_SOCKET, so_attach_filter,
                        struct.pack("HP", len(program) // 8, ctypes.addressof(code)))
        sock.setsockopt(sol_packet, packet_ignore_outgoing, 1)
        sock.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 64 << 20)
        return sock

    def run(self):
        while not self.stopping:
            if select.select([self.sock], [], [], 0.1)[0]:
                _, address = self.sock.recvfrom(64)
                who = self.ports.get(address[0])
                if who:
                    self.last[who] = time.monotonic()
                    if not self.turns or self.turns[-1][1] != who:
                        self.turns.append((time.monotonic(), who))

    def missed(self):
        """How many frames the kernel had no room for, so far."""
        sol_packet, packet_statistics = 263, 6
        self.lost += struct.unpack("II", self.sock.getsockopt(sol_packet, packet_statistics,
                                                              8))[1]
        return self.lost

    def stop(self):
        self.stopping = True
        self.join()
        self.sock.close()
