#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What others may do to a pair, and must not achieve anything with: clients of the control
socket that send rubbish or never read, strangers on the ports between the nodes, heartbeats
that are forged or were heard before, an arbiter that talks nonsense; and where secrets are
not to be found."""
import glob
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

import hosts
from hosts import bed

check, note = bed.check, bed.note
PASSWORD = "canary-" + secrets.token_hex(12)
HEARTBEAT, CONTROL, REPLICATION = 7702, 7701, 7700


class Slowness:
    """Asks for the status all the time; the longest answer counts."""

    def __init__(self, *nodes):
        self.nodes, self.worst, self.failed, self.over = nodes, 0.0, 0, False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.over:
            for node in self.nodes:
                began = time.monotonic()
                try:
                    node.must("status", seconds=20)
                except BlockingIOError:  # a socket with a deadline does not queue
                    time.sleep(0.01)
                    continue
                except (OSError, ValueError, RuntimeError):
                    self.failed += 1
                self.worst = max(self.worst, time.monotonic() - began)
            time.sleep(0.02)

    def end(self, what):
        self.over = True
        self.thread.join()
        # The machine is shared: what is shown is that nobody waits for the one who is odd.
        check(f"{what}: the status is answered meanwhile", not self.failed and self.worst < 5,
              (self.failed, self.worst))
        note(f"{what}: slowest status {self.worst * 1000:.0f} ms")


# AddressSanitizer keeps what was freed for a while, 256 MiB of it.
LITTLE = (24 + (256 if "address" in bed.BUILD else 0)) << 20


def memory_of(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def colod_of(host):
    return host.pids("colod")[0]


def try_to(work, *args):
    """Who is hung up on meets errors of all kinds."""
    try:
        return work(*args)
    except OSError:
        return None


def still_protected(pair, what, turn):
    check(f"{what}: the pair is protected", pair.is_protected(), pair.alpha.last_words())
    check(f"{what}: and nobody changed places", pair.primary is turn, pair.primary)


# The control socket.


def rubbish(host):
    pieces = [b"\n" * 1000, os.urandom(5000), b"{" * 5000 + b"\n", b"null\n[]\n1\n\"x\"\n",
              b'{"id":1,"command":"no-such"}\n{"id":1}\n{"command":7}\n',
              b'{"id":1,"command":"stop","arguments":{"force":"yes"}}\n',
              b'{"id":1,"command":"promote","arguments":[]}\n',
              b'{"id":1,"command":"status","arguments":{"a":1}}\n', b"\0\xff\xfe\n" * 50,
              b'{"id":1,"command":"status"']
    for piece in pieces:
        with host.control() as sock:
            sock.settimeout(2)
            try_to(sock.sendall, piece)
            try_to(sock.recv, 65536)


def a_long_line(host):
    with host.control() as sock:
        sock.settimeout(3)
        try_to(sock.sendall, b"x" * (10 << 20))
        try_to(sock.recv, 65536)


def who_never_reads(host):
    """Follows the events, asks again and again, and takes no answer."""
    sock = host.control()
    sock.settimeout(0.5)
    try_to(sock.sendall, b'{"id":1,"command":"events","arguments":{"follow":true}}\n'
           + b'{"id":1,"command":"status"}\n' * 2000)
    return sock


def clients_of_the_control_socket(world):
    pair = world.protected()
    turn = pair.primary
    slowness = Slowness(*pair.hosts)
    before = {host: memory_of(colod_of(host)) for host in pair.hosts}
    pids = {host: colod_of(host) for host in pair.hosts}
    for host in pair.hosts:
        rubbish(host)
        a_long_line(host)
        deaf = [who_never_reads(host) for _ in range(4)]
        for _ in range(100):  # and off again in the midst of an answer
            with hosts.eventually(lambda: try_to(host.control), 20) as sock:
                try_to(sock.sendall, b'{"id":1,"command":"status"}\n')
        check(f"{host.name} answers beside all of them", host.must("status"))
        for sock in deaf:
            sock.close()
    slowness.end("odd clients")
    check("both colods are who they were",
          all(colod_of(host) == pids[host] for host in pair.hosts))
    check("and keep little of what was sent",
          all(memory_of(colod_of(host)) - before[host] < LITTLE for host in pair.hosts),
          [(before[host], memory_of(colod_of(host))) for host in pair.hosts])
    held = []
    for _ in range(100):
        sock = try_to(pair.alpha.control)
        if sock:
            held.append(sock)
        time.sleep(0.005)
    check("a hundred clients that say nothing keep nobody out",
          hosts.eventually(lambda: pair.alpha.status(), 30))
    for sock in held:
        sock.close()
    still_protected(pair, "odd clients", turn)


# The ports between the nodes.


def stranger(host, port, data, wait=0.05):
    """A connection to a node's port from the other node's address; stays open."""
    def work():
        sock = socket.create_connection((hosts.REPL[host.name], port), timeout=5)
        sock.settimeout(wait)
        if data:
            try_to(sock.sendall, data)
        try_to(sock.recv, 4096)
        return sock
    return try_to(host.pair.other(host).space.call, work)


def strangers_on_the_ports(world):
    pair = world.protected()
    turn = pair.primary
    slowness = Slowness(pair.beta)
    hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(32) + b"\0" * 160
    pieces = [os.urandom(3000), b"GET / HTTP/1.0\r\n\r\n", hello[:7], hello, b"\x16\x03\x01\xff\xff"]
    for host in pair.hosts:
        for port in (CONTROL, REPLICATION):
            for piece in pieces:
                sock = stranger(host, port, piece)
                if sock:
                    sock.close()
    still_protected(pair, "rubbish on the ports", turn)
    flood = [stranger(pair.beta, port, None) for port in (CONTROL, REPLICATION)
             for _ in range(16)]
    still_protected(pair, "sixteen strangers that say nothing", turn)
    # Whoever has the key gets in beside them, and beside those that come after.
    pair.alpha.kill_colod()
    flood += [stranger(pair.beta, CONTROL, None) for _ in range(16)]
    pair.alpha.start()
    check("a colod that comes back is let in beside strangers", hosts.eventually(
        lambda: ((pair.beta.status() or {}).get("peer") or {}).get("reachable"), 60),
        pair.beta.last_words())
    for sock in flood:
        if sock:
            sock.close()
    slowness.end("strangers")
    still_protected(pair, "strangers", turn)


def another_key(world):
    """The other node's colod with a key of its own: it is not listened to."""
    pair = world.protected()
    turn = pair.primary
    standby = pair.other(turn)
    good = open(pair.key).read()
    pair_file, standby.file = standby.file, os.path.join(pair.dir, "wrong.conf")
    wrong = os.path.join(pair.dir, "wrong.key")
    with open(os.open(wrong, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    sections = {name: dict(keys) for name, keys in pair.sections.items()}
    sections["pair"]["key"] = wrong
    pair.write(standby.file, sections)
    standby.kill_colod()
    standby.start()
    time.sleep(3)
    peer = turn.must("status")["peer"]
    check("a colod with another key is neither connected nor alive",
          not peer["reachable"] and hosts.eventually(
              lambda: not turn.must("status")["peer"]["alive"], 20), peer)
    check("the guest goes on where it was", turn.must("status")["role"] == "primary")
    standby.kill_colod()
    standby.file = pair_file
    standby.start()
    check("with the right one it comes back", pair.is_protected(), standby.last_words())
    assert open(pair.key).read() == good


# Heartbeats.


def heartbeats_seen(host, count=20):
    """Datagrams that arrive at a host on the replication link, and those that it sends."""
    came, went = [], []

    def work():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
            sock.bind(("repl", 0))
            sock.settimeout(20)
            mine = socket.inet_aton(hosts.REPL[host.name])
            while min(len(came), len(went)) < count:
                frame = sock.recv(4096)
                if frame[12:14] != b"\x08\x00" or frame[23] != 17:
                    continue
                if int.from_bytes(frame[36:38], "big") != HEARTBEAT:
                    continue
                length = int.from_bytes(frame[38:40], "big") - 8
                (went if frame[26:30] == mine else came).append(frame[42:42 + length])
    host.space.call(work)
    return came[:count], went[:count]


def inject(pair, host, datagrams):
    def work():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for datagram in datagrams:
                sock.sendto(datagram, (hosts.REPL[host.name], HEARTBEAT))
                time.sleep(0.02)  # what it took for a flood, it would not count
    pair.other(host).space.call(work)


def counts(host):
    done = host.colo("status", "--json")
    path = json.loads(done.output)["heartbeat"]["paths"][0]
    return [path[name] for name in ("replayed", "reflected", "forged", "malformed")]


def heartbeats_of_others(world):
    pair = world.protected()
    turn = pair.primary
    for host in pair.hosts:
        last = host.last_event()
        came, went = heartbeats_seen(host)
        # A daemon that was not let run for a while finds much at once, and takes it for a
        # flood, in which the kernel drops what is not the peer's uncounted: then once more.
        for _ in range(5):
            before = counts(host)
            inject(pair, host, came)
            inject(pair, host, went)
            inject(pair, host, [d[:60] + bytes([d[60] ^ 1]) + d[61:] for d in came])
            inject(pair, host, [d[:-1] for d in came] + [d + b"x" for d in came]
                   + [b"", b"hello"])
            seen = hosts.eventually(lambda: [b - a for a, b in zip(before, counts(host))]
                                    == [20, 20, 20, 42], 5)
            if seen:
                break
        check(f"{host.name} counts replayed, reflected, forged and malformed heartbeats in its "
              "status", seen, [b - a for a, b in zip(before, counts(host))])
        check(f"and they change nothing on {host.name}", not host.events_since(last),
              host.events_since(last))
    still_protected(pair, "heartbeats of others", turn)


# Secrets.


class Wire:
    """All that goes over the switch."""

    def __init__(self, network):
        self.bytes, self.over = bytearray(), False
        self.socks = [network.switch.call(self.open, port) for port in
                      ("repl-alpha", "lan-alpha")]
        self.threads = [threading.Thread(target=self.work, args=(sock,), daemon=True)
                        for sock in self.socks]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def open(port):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((port, 0))
        sock.settimeout(0.3)
        return sock

    def work(self, sock):
        while not self.over:
            try:
                self.bytes += sock.recv(1 << 17)[42:]
            except OSError:
                pass

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()
        for sock in self.socks:
            sock.close()
        return bytes(self.bytes)


def forms(pair):
    text = open(pair.key).read().strip()
    raw = bytes.fromhex(text)
    return [text.encode(), text.upper().encode(), raw, PASSWORD.encode()]


def finds(data, needles):
    return [needle[:6] for needle in needles if needle in data]


def processes_of(host):
    for pid in host.pids():
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    yield f"{hosts.comm(pid)}: {name}", file.read()
            except OSError:
                pass


def files_of(host, *kinds):
    for directory in kinds:
        for folder, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        yield path, file.read()


def secrets_stay_where_they_are(world):
    pair = world.protected()
    needles = forms(pair)
    wire = Wire(world.network)
    for host in pair.hosts:  # handshakes are seen, too
        host.kill_colod()
        host.start()
        hosts.eventually(lambda: host.status(), 20)
    check("they find each other again", pair.is_protected() and hosts.eventually(
        lambda: all((host.status() or {"peer": {}})["peer"].get("reachable")
                    for host in pair.hosts), 20))
    primary = pair.primary
    primary.must("switchover")
    check("and change places", hosts.eventually(
        lambda: pair.primary is pair.other(primary), 60) and pair.is_protected())
    traffic = wire.end()
    check("much was seen on the wire", len(traffic) > 100000, len(traffic))
    check("and no secret in it", not finds(traffic, needles), finds(traffic, needles))
    for host in pair.hosts:
        names = {hosts.comm(pid) for pid in host.pids()}
        check(f"{host.name} runs all of its programs",
              {"colod", "colo-vm", "colo-heartbeat"} <= names, names)
        for what, data in processes_of(host):
            check(f"{host.name}: no secret in {what}", not finds(data, needles))
        for path, data in files_of(host, host.state_dir, host.log_dir, host.run_dir):
            if finds(data, needles):
                check(f"{host.name}: no secret in {path}", False)
        check(f"{host.name}: there are files to look at", os.path.exists(
            os.path.join(host.state_dir, "web", "generation")) and os.path.exists(
            os.path.join(host.state_dir, "web", "events.jsonl")))
        for words in (("status", "--json"), ("status",), ("events", "--json"), ("log",)):
            text = host.colo(*words).output.encode()
            check(f"{host.name}: no secret in what colo {' '.join(words)} says",
                  text and not finds(text, needles))


def no_core(host, program):
    pid = host.pids(program)[0]
    with open(f"/proc/{pid}/limits") as file:
        line = [line for line in file if line.startswith("Max core file size")][0]
    check(f"{program} may write no core file", line.split()[4:6] == ["0", "0"], line)
    where = os.readlink(f"/proc/{pid}/cwd")
    before = set(glob.glob(os.path.join(where, "core*")) + glob.glob("/tmp/core*"))
    os.kill(pid, signal.SIGABRT)
    hosts.eventually(lambda: not os.path.exists(f"/proc/{pid}") or
                     open(f"/proc/{pid}/stat").read().split()[2] == "Z", 10)
    after = set(glob.glob(os.path.join(where, "core*")) + glob.glob("/tmp/core*"))
    check(f"{program}, aborted, leaves none", after == before, after - before)


def no_program_leaves_a_core(world):
    pair = world.protected()
    standby = pair.other(pair.primary)
    for program in ("colo-heartbeat", "colo-vm"):
        no_core(standby, program)
    no_core(standby, "colod")
    standby.colod.wait()
    standby.start()
    check("the pair is protected again", pair.is_protected(), standby.last_words())


def a_key_that_others_can_read_is_refused(world):
    pair = world.protected()
    standby = pair.other(pair.primary)
    standby.kill_colod()
    os.chmod(pair.key, 0o644)
    try:
        standby.start()
        status = standby.colod.wait(timeout=30)
        with open(os.path.join(standby.log_dir, "colod.log")) as file:
            words = file.read().splitlines()[-1]
        check("colod refuses a key file of mode 0644, and says so",
              status and pair.key in words and "0600" in words, (status, words))
        done = standby.colo("check", "--node", standby.name)
        check("colo check says so", done.status and pair.key in str(done)
              and "0600" in str(done), done)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        done = subprocess.run(
            standby.space.words(os.path.join(bed.BUILD, "colo-heartbeat"), "--fd", "0",
                                "--key", pair.key, "--pair", "web", "--nodes", "alpha,beta",
                                "--self", "alpha", "--path", "127.0.0.1:1,127.0.0.1:2"),
            stdin=theirs, capture_output=True, text=True, timeout=30)
        ours.close()
        theirs.close()
        check("colo-heartbeat says so", done.returncode and pair.key in done.stderr
              and "0600" in done.stderr, done.stderr)
    finally:
        os.chmod(pair.key, 0o600)
        if standby.colod.poll() is None:
            standby.kill_colod()
    standby.start()
    check("with mode 0600 the pair is protected again", pair.is_protected())


# An arbiter that is none.


class Rubbish:
    """Listens where etcd should, and says something else each time."""

    def __init__(self, network):
        self.network, self.asked, self.over = network, 0, False
        self.sock = network.client.call(socket.create_server,
                                        (hosts.LAN["client"], 2999))
        self.sock.settimeout(0.3)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        says = [os.urandom(2000), b"", b"HTTP/1.1 200 OK\r\n\r\n{", b"HTTP/1.1 500 no\r\n\r\n",
                head + b"Content-Length: 4000000000\r\n\r\n" + b"x" * 200000,
                head + b"\r\n" + b'{"kvs":[{"value":"//8=","mod_revision":"x"}]}',
                head + b"\r\n" + b'{"succeeded":true,"responses":7}',
                head + b"\r\n" + b"[" * 100000, head + b"\r\n\xff\xfe\0",
                head + b"X: " + b"y" * 300000, head + b"\r\n" + b'{"token":"' + b"a" * 99999]
        while not self.over:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                continue
            self.asked += 1
            with peer:
                peer.settimeout(1)
                try_to(peer.recv, 65536)
                try_to(peer.sendall, says[self.asked % len(says)])

    def end(self):
        self.over = True
        self.thread.join()
        self.sock.close()


def an_arbiter_of_rubbish(world):
    rubbish_server = Rubbish(world.network)
    try:
        secret = os.path.join(world.network.dir, "password")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(PASSWORD + "\n")
        pair = world.new_pair(arbiter={
            "type": "etcd", "endpoints": f"http://{hosts.LAN['client']}:2999",
            "user": "colo", "password-file": secret})
        pair.start()
        hosts.eventually(lambda: all(host.status() for host in pair.hosts))
        slowness = Slowness(*pair.hosts)
        hosts.eventually(lambda: rubbish_server.asked > 40, 60)
        slowness.end("an arbiter of rubbish")
        note(f"it was asked {rubbish_server.asked} times")
        check("nobody starts a guest on its word", rubbish_server.asked > 20 and
              not any(host.pids("colo-vm") for host in pair.hosts)
              and all(host.state == "waiting" for host in pair.hosts),
              [host.status() for host in pair.hosts])
        needles = forms(pair)
        for host in pair.hosts:
            places = list(processes_of(host)) + list(
                files_of(host, host.state_dir, host.log_dir, host.run_dir))
            text = host.colo("status", "--json").output.encode()
            places.append(("status", text))
            for what, data in places:
                check(f"{host.name}: no password in {os.path.basename(what)}",
                      not finds(data, needles))
    finally:
        rubbish_server.end()


class World:
    """The network, and the pair that is there."""

    def __init__(self):
        self.network, self.pair = hosts.Network(), None

    def new_pair(self, **sections):
        if self.pair:
            self.pair.end()
        self.pair = hosts.Pair(self.network, **sections)
        return self.pair

    def protected(self):
        if not self.pair:
            if self.network.start_etcd():
                self.new_pair().start()
            else:
                self.new_pair(arbiter={"type": "none", "survivor": "alpha"}).start()
        self.pair.protected()
        return self.pair

    def close(self):
        try:
            if self.pair:
                self.pair.end()
        finally:
            self.network.close()


TESTS = [
    clients_of_the_control_socket,
    strangers_on_the_ports,
    heartbeats_of_others,
    another_key,
    secrets_stay_where_they_are,
    a_key_that_others_can_read_is_refused,
    no_program_leaves_a_core,
    an_arbiter_of_rubbish,
]


def main():
    hosts.need()
    bed.stop_on_signals()
    world = World()
    try:
        for test in bed.chosen(TESTS):
            began, failed = time.monotonic(), bed.Results.failed
            note(test.__name__.replace("_", " "))
            try:
                test(world)
            except Exception as error:  # one broken test must not hide the others
                check(f"{test.__name__} runs to its end", False,
                      f"{error}\n{traceback.format_exc(limit=-4)}")
            if bed.Results.failed > failed and world.pair:
                for host in world.pair.hosts:
                    note(host.last_words())
            note(f"{test.__name__}: {time.monotonic() - began:.1f} s")
    finally:
        world.close()
    sys.exit(bed.verdict())


main()
