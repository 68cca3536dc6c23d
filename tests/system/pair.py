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
import re
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
ETC = "/var/lib/colo/etc"  # /etc/colo of a node, where it outlives the host's power
KEY = ETC + "/web.key"
APPEND = (f"console=ttyS0 loglevel=4 colo.ip={GUEST}/24 colo.mount=1 "
          "colo.services=udp,http,chat")
# Emulated hosts on a busy machine stand still for a second now and then.
FILE = f"""
[pair]
nodes = h1; h2
key = {KEY}

[vm]
memory = 96MiB
cpus = 1
cpu-model = x86-64-v2
kernel = /guest/vmlinuz-cloud
initrd = /guest/initrd-cloud.img
append = {APPEND}

[disk root]
path = {DISK}

[network lan]
bridge = {BRIDGE}
tap = {TAP}
mac = {MAC}

[node h1]
replication = 10.90.2.1:7000
control = 10.90.2.1:7001
heartbeat = 10.90.2.1:7002; 10.90.1.1:7002

[node h2]
replication = 10.90.2.2:7000
control = 10.90.2.2:7001
heartbeat = 10.90.2.2:7002; 10.90.1.2:7002

[checkpoint]
mode = colo
age = 2s
connections = 1

[comparison]
late-max = 5s

[heartbeat]
interval = 200ms
timeout = 2s

[arbiter]
type = etcd
timeout = 5s
endpoints = http://10.90.1.3:2379
"""
# Patience; on two cores that do nothing else, some 20 s.
SERVED_S = 180
PROTECTED_S = 240


def prepare(nodes):
    """What a pair needs once: the guest's disk on the first node, and one key on both."""
    key = secrets.token_hex(32)
    for node in nodes:
        node.must("""
            mkdir -p "$1"
            printf %s "$2" > "$1/web.conf"
            (umask 077; printf %s "$3" > "$4")""", ETC, FILE, key, KEY)
        if node is nodes[0]:
            node.make_disk(DISK, DISK_SIZE)
        else:
            node.must("truncate -s \"$1\" \"$2\"", DISK_SIZE, DISK)


def network_up(node):
    """What a host's own configuration would do at boot."""
    node.set_clock()
    node.make_bridge(tap=None)
    node.must("modprobe -a nfnetlink_queue nft_queue")


class Pair:
    """Two nodes under colod, which nobody helps."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.told = {}  # what hosts that lost their power had logged

    def node_up(self, node):
        """What happens at a node's boot: its network, then what colo@web.service is for."""
        network_up(node)
        node.must("ln -sfn \"$1\" /etc/colo; colo start --timeout 100 web", ETC, seconds=120)

    def start(self, client):
        """The pair's first start: the guest boots on the first node; the second is filled
        when the guest serves a client, which is sooner than if it were filled meanwhile."""
        self.node_up(self.nodes[0])
        client.must("""
            until curl -s -m 5 "$1" > /dev/null; do sleep 0.2; done""",
            f"http://{GUEST}/chat", seconds=SERVED_S)
        self.node_up(self.nodes[1])

    def brief(self):
        """A line of colo's, from the node that runs the guest if that answers."""
        lines = []
        for node in self.nodes:
            said = node.run("colo", "status", "--brief", "web", seconds=20)
            if said.status in (0, 1, 2):
                lines.append(said.output.strip())
            if f"primary {node.name}" in said.output:
                return lines[-1]
        return lines[0] if lines else "nothing is known"

    def wait_protected(self, seconds=PROTECTED_S):
        """Until both nodes say so."""
        return bed.eventually(lambda: all(
            node.run("colo", "status", "--brief", "web", seconds=20) for node in self.nodes),
            seconds)

    @property
    def primary(self):
        said = self.brief()
        found = re.search(r"primary (\w+)", said)
        if not found:
            raise RuntimeError(f"there is no primary: {said}")
        return next(node for node in self.nodes if node.name == found.group(1))

    def power_off(self, node):
        self.told[node] = self.told.get(node, "") + self.logs(node)
        bed.testbed("kill", node.name)

    def stop(self):
        """Switches the guest off; the node with the newest disk."""
        node = self.primary
        node.must("colo stop web", seconds=120)
        if not bed.eventually(lambda: not node.run("pgrep", "colo-vm")):
            raise RuntimeError("the guest does not end: " + self.last_words())
        return node

    def logs(self, node):
        return node.shell("tail -n 400 /run/colo/web/colod.log /var/log/colo/web/*.log",
                          seconds=20).output

    def last_words(self):
        return "\n".join(f"{node.name}: {self.told.get(node, '')}{self.logs(node)}"
                         f"{node.run('colo', 'status', 'web', seconds=20)}"
                         for node in self.nodes)


def start_arbiter(host):
    """This machine's etcd on a host, until that host ends: 2 s and 30 MiB there."""
    host.put("/usr/bin/etcd", "/root/etcd")
    host.must("""
        /root/etcd --name arbiter --data-dir /root/arbiter --listen-client-urls "$1" \\
            --advertise-client-urls "$1" > /root/etcd.log 2>&1 < /dev/null &
        for try in $(seq 300); do
            curl -s -m 5 "$1/health" && exit
            sleep 0.2
        done
        tail /root/etcd.log >&2
        exit 1""", f"http://{host.address}:2379", seconds=120)


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
        said = host.shell("tail -n 100000 /run/colo/*/*.log /var/log/colo/*/*.log /root/*.log; "
                          "dmesg | tail -n 200", seconds=20)
        write(f"{host.name}.log", said.output + said.errors)
    return directory


def chat_file(node):
    """The guest's chat file as it is on a node's disk, whose guest has ended."""
    return node.must("debugfs -R 'cat chat' \"$1\" 2> /dev/null", DISK).encode()
