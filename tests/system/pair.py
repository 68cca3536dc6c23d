# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of nodes, an arbiter and a client, for the demo and the tests of whole pairs.

h1 and h2 are the nodes; h3 runs etcd and the client (client.py). All that must outlive a
host's power failure (pair file, key, the guest's disk, what colod remembers) lies in
/var/lib/colo, on the host's own disk; all else is set up anew by `node_up`, as a host's own
boot would.
"""
import json
import os
import queue
import secrets
import shutil
import subprocess
import tempfile
import threading

import bed

GUEST = "10.90.1.50"
MAC = "52:54:00:12:34:56"
BRIDGE, TAP = "br0", "web0"
DISK = "/var/lib/colo/web.img"
DISK_SIZE = "16M"
KEY = "/var/lib/colo/web.key"
MEMORY = "96M"
APPEND = (f"console=ttyS0 loglevel=4 colo.ip={GUEST}/24 colo.mount=1 "
          "colo.services=udp,http,chat")
PROTECTED_S = 240  # patience; an idle machine of two cores needs some 20 s


def prepare(nodes):
    """What a pair needs once: the guest's disk on the first node, and one key on both."""
    key = secrets.token_hex(32)
    for node in nodes:
        node.must("(umask 077; printf %s \"$1\" > \"$2\")", key, KEY)
        if node is nodes[0]:
            node.make_disk(DISK, DISK_SIZE)
        else:
            node.must("truncate -s \"$1\" \"$2\"", DISK_SIZE, DISK)


def network_up(node):
    """What a host's own configuration would do at boot."""
    node.set_clock()
    node.make_bridge(tap=None)
    node.must("modprobe -a nfnetlink_queue nft_queue")


class Arbiter:
    """etcd on a host, until that host ends."""

    def __init__(self, host):
        self.host = host
        self.endpoint = f"http://{host.address}:2379"
        program = subprocess.run([os.path.join(bed.PROJECT, "tests/testbed/etcd")], text=True,
                                 stdout=subprocess.PIPE, check=True, timeout=600).stdout.strip()
        host.put(program, "/root/etcd")
        host.must("""
            /root/etcd --name arbiter --data-dir /root/arbiter --listen-client-urls "$1" \\
                --advertise-client-urls "$1" > /root/etcd.log 2>&1 < /dev/null &
            for try in $(seq 300); do
                curl -s -m 5 "$1/health" && exit
                sleep 0.2
            done
            tail /root/etcd.log >&2
            exit 1""", self.endpoint, seconds=120)


class Client:
    """client.py on a host."""

    RECORD = "/root/record"

    def __init__(self, host):
        self.host = host
        self.latest = {}
        self.marks = queue.Queue()
        self.last = None
        self.told = []
        host.put(os.path.join(bed.PROJECT, "tests/system/client.py"), "/root/client.py")
        self.process = host.popen("python3", "/root/client.py", GUEST, self.RECORD,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        self.errors = bed.Stream(self.process.stderr)
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        for line in self.process.stdout:
            told = json.loads(line)
            self.told.append(line.decode())
            self.latest = told
            if "mark" in told:
                self.marks.put(told)
            if "verdict" in told:
                self.last = told

    def mark(self, name):
        """What it found, with the longest waits since the mark before."""
        self.process.stdin.write(name.encode() + b"\n")
        self.process.stdin.flush()
        try:
            return self.marks.get(timeout=bed.PATIENCE_S)
        except queue.Empty:
            raise RuntimeError(f"the client does not answer: {self.errors.text[-500:]}")

    def goes_on(self, lines=3, seconds=bed.PATIENCE_S):
        """Whether so many more lines, pages and datagrams are answered than are now."""
        before = self.latest

        def more():
            return self.process.poll() is not None or self.latest and all(
                self.latest[kind]["good"] >= (before[kind]["good"] if before else 0) + wanted
                for kind, wanted in (("chat", lines), ("pages", 2), ("echo", lines)))

        return bool(bed.eventually(more, seconds)) and self.process.poll() is None \
            and not self.faults()

    def faults(self):
        return [fault for kind in ("chat", "pages", "echo")
                for fault in self.latest.get(kind, {}).get("faults", [])]

    def end(self):
        """Its findings at the end, or None; and the lines that were answered, as bytes."""
        self.process.stdin.close()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            bed.end_process(self.process)
        bed.eventually(lambda: self.last, 2)
        record = self.host.run("cat", self.RECORD)
        return self.last, record.output.encode() if record else b""


def judge_file(stored, answered):
    """What the chat's file on the guest's disk has of the lines that were answered: whether
    they are the same bytes, how many lines are lost, and how many are there twice."""
    lines, wanted = stored.splitlines(), answered.splitlines()
    have = set(lines)
    return (stored == answered, sum(line not in have for line in wanted),
            len(lines) - len(have))


def keep_logs(hosts, words, client):
    """Copies what the hosts, the programs (`words`) and the client have said into a new
    directory; its name."""
    directory = tempfile.mkdtemp(prefix="colo-logs-")

    def write(name, text):
        with open(os.path.join(directory, name), "w") as out:
            out.write(text)

    write("programs.log", words)
    if client:
        write("client.log", "".join(client.told) + client.errors.text)
    for host in hosts:
        console = os.path.join(os.environ["TESTBED_DIR"], host.name, "console.log")
        if os.path.exists(console):
            shutil.copyfile(console, os.path.join(directory, f"{host.name}-console.log"))
        said = host.shell("tail -n 100000 /var/lib/colo/*.log /run/colo/*/*.log /root/*.log; "
                          "dmesg | tail -n 200", seconds=20)
        write(f"{host.name}.log", said.output + said.errors)
    return directory


def chat_file(node):
    """The guest's chat file as it is on a node's disk, whose guest has ended."""
    return node.must("debugfs -R 'cat chat' \"$1\" 2> /dev/null", DISK).encode()
