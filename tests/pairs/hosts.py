# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts that can die, a switch, and a client's network, each a network namespace.

The switch is a namespace of its own, with a bridge for the LAN and one for the replication
link; each node has a port on both, and what is between two ports can be dropped there one
way at a time, which neither node can tell from a bad cable. Where a cable is to be bad in
other ways, relays.py puts something between a port and its bridge. A host that loses its
power goes silent first: its ports go down, then all that runs there is killed, then its
namespace goes with every socket in it, so that nothing is said any more by anybody. What it
had on disk stays; what it had below /run does not.

A process of its own waits for this one to end, however that happens, and then ends what is
left in the namespaces and removes them.
"""
import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "system"))
import bed  # noqa: E402
import relays  # noqa: E402

NODES = ("alpha", "beta")
REPLICATION_PORT, CONTROL_PORT, HEARTBEAT_PORT = 7700, 7701, 7702
LAN = {"alpha": "10.98.0.1", "beta": "10.98.0.2", "client": "10.98.0.3"}
REPL = {"alpha": "10.97.0.1", "beta": "10.97.0.2"}
MACS = {"lan": {"alpha": "02:00:00:00:98:01", "beta": "02:00:00:00:98:02",
                "client": "02:00:00:00:98:03"},
        "repl": {"alpha": "02:00:00:00:97:01", "beta": "02:00:00:00:97:02"}}
GUEST, GUEST_MAC = "10.98.0.9", "52:54:00:c0:98:09"
ETCD_PORT = 2379
STATUS_S = 3
PATIENCE_S = 120  # for whatever should happen soon: many share this machine

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def need():
    """Ends the test where this machine cannot run it."""
    if os.geteuid() != 0 or not os.path.exists("/dev/kvm"):
        print("SKIPPED: needs root and /dev/kvm")
        sys.exit(bed.SKIP_STATUS)
    probe = subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL)
    if probe.returncode:
        print("SKIPPED: cannot make a network namespace")
        sys.exit(bed.SKIP_STATUS)


def eventually(condition, seconds=PATIENCE_S):
    """As bed.eventually(), for those who look at two processes of this machine: sooner."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def run(*words, text=None, check=True):
    done = subprocess.run(words, input=text, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


class Namespace:
    """A network namespace by name."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"

    def make(self):
        run("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def ip(self, *lines, check=True):
        """Lines of ip(8), all of them by one process."""
        force = [] if check else ["-force"]
        run("ip", "-n", self.name, *force, "-batch", "-", text="\n".join(lines) + "\n",
            check=check)

    def devices(self):
        """The names of its network devices."""
        return [name for _, name in self.call(socket.if_nameindex)]

    def words(self, *words):
        """The words that run a command in it."""
        return ["nsenter", f"--net={self.path}", *words]

    def call(self, function, *args):
        """What a function gives that is called in it: sockets stay where they were made."""
        return bed.call_after(self.enter, function, *args)

    def enter(self):
        """Puts this thread into it."""
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if LIBC.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
        finally:
            os.close(handle)

    def pids(self):
        try:
            inode = os.stat(self.path).st_ino
        except OSError:
            return []
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == inode:
                    found.append(int(name))
            except OSError:
                pass  # it has ended
        return [pid for pid in found if pid != os.getpid()]

    def signal(self, number):
        for pid in self.pids():
            send(pid, number)

    def remove(self):
        run("ip", "netns", "del", self.name, check=False)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# What is done once this process has ended; it holds the other end of a pipe.
JANITOR = """
trap '' INT TERM HUP
read -r _
for round in 1 2 3 4 5; do
    for name in $2 $3 $4 $5; do
        for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid"; done
    done
done 2>/dev/null
for name in $2 $3 $4 $5; do ip netns del "$name"; done 2>/dev/null
rm -rf "$1"
"""


class Network:
    """The namespaces, and a directory; once for a test program."""

    seed = 1  # of the dice of cables that become bad from now on

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="colo-hosts-")
        self.spaces = {name: Namespace(f"colo{os.getpid()}-{name}")
                       for name in (*NODES, "client", "switch")}
        self.switch, self.client = self.spaces["switch"], self.spaces["client"]
        self.janitor = subprocess.Popen(
            ["bash", "-c", JANITOR, "bash", self.dir,
             *(space.name for space in self.spaces.values())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        self.etcd = None
        self.relays = {}  # by port
        self.lock = threading.Lock()
        self.make_switch()
        self.make_client()

    def make_switch(self):
        self.switch.make()
        bridge = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
        self.switch.ip(f"link add lan {bridge}", "link set lan up",
                       f"link add repl {bridge}", "link set repl up")
        self.nft("""
            table bridge cuts {
                set ways { type ipv4_addr . ipv4_addr; }
                set ports { type inet_service; }
                chain forward {
                    type filter hook forward priority 0
                    ip saddr . ip daddr @ways drop
                    iifname "repl-*" tcp dport @ports drop
                    iifname "repl-*" tcp sport @ports drop
                }
            }""")

    def make_client(self):
        self.client.make()
        self.plug("client", "lan", "lan", MACS["lan"]["client"])
        self.client.ip(f"addr add {LAN['client']}/24 dev lan", "link set lan up")
        # Where the kernel can (Linux 6.15), TCP tries again every second.
        self.client.call(self.set_knob, "net/ipv4/tcp_rto_max_ms", "1000")

    @staticmethod
    def set_knob(name, value):
        try:
            with open("/proc/sys/" + name, "w") as file:
                file.write(value)
        except OSError:
            pass

    def plug(self, name, link, device, mac):
        """A cable from a host's device to a port of the switch."""
        port = f"{link}-{name}"
        self.switch.ip(f"link add {port} type veth peer name {device} "
                       f"address {mac} netns {self.spaces[name].name}",
                       f"link set {port} master {link}", f"link set {port} up")
        if port in self.relays:
            self.relays[port].plug()

    def nft(self, text):
        run(*self.switch.words("nft", "-f", "-"), text=text)

    @staticmethod
    def way(link, source, target):
        addresses = REPL if link == "repl" else LAN
        return f"{addresses[source]} . {addresses[target]}"

    def cut(self, *ways):
        """Ways are (link, from, to): what goes that way is lost from now on, all at once."""
        self.nft("add element bridge cuts ways { "
                 + ", ".join(self.way(*way) for way in ways) + " }")

    def uncut(self, *ways):
        """They are whole again, and nothing else is touched."""
        self.nft("delete element bridge cuts ways { "
                 + ", ".join(self.way(*way) for way in ways) + " }")

    def cut_port(self, port):
        """What goes from or to a TCP port is lost on the replication link."""
        self.nft(f"add element bridge cuts ports {{ {port} }}")

    def shape(self, link, source, target, **what):
        """What goes that way fares like this from now on: the keys of relay.c. What comes
        from a client goes to whoever has the guest, so it is met at the target's port."""
        node, way, peer = ((source, "out", target) if source in NODES
                           else (target, "in", source))
        port = f"{link}-{node}"
        if port not in self.relays:
            self.relays[port] = relays.Relay(self.switch, link, port, self.seed)
        self.relays[port].order(way, MACS[link][peer], what)

    def mend(self):
        """Every cable is good again."""
        self.nft("flush set bridge cuts ways\nflush set bridge cuts ports")
        for port in list(self.relays):
            self.relays.pop(port).remove()

    def start_etcd(self):
        """FALSE where there is none on this machine. Runs until the end."""
        if self.etcd:
            return True
        if not shutil.which("etcd"):
            return False
        url = f"http://{LAN['client']}:{ETCD_PORT}"
        with open(os.path.join(self.dir, "etcd.log"), "ab") as log:
            self.etcd = subprocess.Popen(
                self.client.words("etcd", "--data-dir", os.path.join(self.dir, "etcd"),
                                  "--listen-client-urls", url, "--advertise-client-urls",
                                  url, "--listen-peer-urls", "http://127.0.0.1:2380"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if not eventually(lambda: self.client.call(self.etcd_answers)):
            raise RuntimeError("etcd does not answer: see " + log.name)
        return True

    def stop_etcd(self, lose_state=False):
        """Killed; what it had on disk stays, or does not."""
        self.etcd.kill()
        self.etcd.wait()
        self.etcd = None
        if lose_state:
            shutil.rmtree(os.path.join(self.dir, "etcd"))

    def etcd_frozen(self, yes):
        if self.etcd:
            send(self.etcd.pid, signal.SIGSTOP if yes else signal.SIGCONT)

    @staticmethod
    def etcd_answers():
        try:
            with socket.create_connection((LAN["client"], ETCD_PORT), timeout=2) as sock:
                sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b'"true"' in sock.recv(4096)
        except OSError:
            return False

    def close(self):
        self.janitor.stdin.close()
        self.janitor.wait()


class Host:
    """A node of a pair, and the host that it is."""

    def __init__(self, network, pair, name):
        self.network, self.pair, self.name = network, pair, name
        self.space = network.spaces[name]
        self.index = NODES.index(name)
        self.dir = os.path.join(pair.dir, name[0])
        self.state_dir, self.log_dir, self.run_dir = (
            os.path.join(self.dir, kind) for kind in ("state", "log", "run"))
        os.makedirs(self.log_dir)
        self.disk = os.path.join(self.dir, "disk")
        with open(self.disk, "wb") as file:
            file.truncate(4 << 20)
        self.file = pair.file
        self.programs = bed.BUILD  # where colod and what it starts are
        self.colod = None
        self.powered = False

    # Power.

    def power_on(self):
        """The host is there; nothing runs on it yet."""
        number = self.index + 1
        self.space.make()
        self.network.plug(self.name, "lan", "lan", f"02:00:00:00:98:1{number}")
        self.network.plug(self.name, "repl", "repl", MACS["repl"][self.name])
        self.space.ip(
            f"link add br0 address {MACS['lan'][self.name]} type bridge forward_delay 0 "
            "stp_state 0 mcast_snooping 0",
            "link set lan master br0", "link set lan up",
            f"addr add {LAN[self.name]}/24 dev br0", "link set br0 up",
            f"addr add {REPL[self.name]}/24 dev repl", "link set repl up")
        self.powered = True

    def power_off(self):
        """Pulls the plug; gives the time of it."""
        ports = [f"{link}-{self.name}" for link in ("lan", "repl")]
        self.network.switch.ip(*(f"link set {port} down" for port in ports))
        at = time.monotonic()
        while self.space.pids():
            self.space.signal(signal.SIGKILL)
            time.sleep(0.002)
        self.colod.wait()
        self.network.switch.ip(*(f"link del {port}" for port in ports))
        self.space.remove()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.powered = False
        return at

    def boot(self):
        self.power_on()
        self.start()

    # colod.

    def start(self):
        """Starts colod."""
        with open(os.path.join(self.log_dir, "colod.log"), "ab") as log:
            self.colod = subprocess.Popen(
                self.space.words(os.path.join(self.programs, "colod"), "--verbose", "--node",
                                 self.name, "--run-dir", self.run_dir, "--state-dir",
                                 self.state_dir, "--log-dir", self.log_dir, self.file),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def kill_colod(self):
        self.colod.kill()
        self.colod.wait()

    def pids(self, program=None):
        """Of all that runs here, or of one program."""
        found = self.space.pids()
        return [pid for pid in found if not program or comm(pid) == program]

    def kill(self, program):
        """SIGKILL; gives the time of it."""
        pids = self.pids(program)
        if not pids:
            raise RuntimeError(f"no {program} runs on {self.name}")
        at = time.monotonic()
        for pid in pids:
            send(pid, signal.SIGKILL)
        return at

    def freeze(self, program=None):
        for pid in self.pids(program):
            send(pid, signal.SIGSTOP)

    def thaw(self, program=None):
        for pid in self.pids(program):
            send(pid, signal.SIGCONT)

    # What it says.

    def control(self, seconds=PATIENCE_S):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(seconds)
        try:
            sock.connect(os.path.join(self.run_dir, self.pair.name, "control.sock"))
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, command, seconds=PATIENCE_S, **arguments):
        """The answer to a command: {"ok": ...}."""
        with self.control(seconds) as sock:
            request = {"id": 1, "command": command, "arguments": arguments}
            sock.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(bed.receive_line(sock, bytearray()))

    def must(self, command, seconds=PATIENCE_S, **arguments):
        answer = self.ask(command, seconds, **arguments)
        if not answer["ok"]:
            raise RuntimeError(f"{command} on {self.name}: {answer['error']}")
        return answer.get("result")

    def status(self):
        """None where nobody answers soon."""
        try:
            return self.must("status", seconds=STATUS_S) if self.powered else None
        except (OSError, ValueError):
            return None

    @property
    def state(self):
        status = self.status()
        return status and status["state"]

    def is_in(self, *states, seconds=PATIENCE_S):
        """Whether it comes into one of these states."""
        return bool(eventually(lambda: self.state in states, seconds))

    def events(self):
        """The names and details of all that it told, the oldest first."""
        told, last, more = [], 0, True
        while more:
            page = self.must("events", since=last)
            told += [(event["event"], event.get("detail")) for event in page["events"]]
            last, more = page["last"], page["more"]
        return told

    def last_event(self):
        return self.must("events", since=1 << 40)["last"]

    def told_since(self, number):
        return [(event["event"], event.get("detail"))
                for event in self.must("events", since=number)["events"]]

    def events_since(self, number):
        return [name for name, _ in self.told_since(number)]

    def colo(self, *words, seconds=PATIENCE_S):
        """The command, as an operator uses it on this host."""
        place = bed.Here(self.dir)
        return place.run(*self.space.words(os.path.join(self.programs, "colo"), words[0],
                                           self.file, "--run-dir", self.run_dir,
                                           *words[1:]), seconds=seconds)

    def last_words(self):
        """The end of its logs."""
        text = f"{self.name}: {json.dumps(self.status())}\n"
        directory = os.path.join(self.log_dir, self.pair.name)
        logs = [os.path.join(self.log_dir, "colod.log")]
        if os.path.isdir(directory):
            logs += [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
        for path in logs:
            with open(path, errors="replace") as file:
                lines = file.readlines()
            text += f"--- {self.name}: {os.path.basename(path)}\n" + "".join(lines[-25:])
        return text


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return None


class Pair:
    """A new pair on the two hosts. Sections of the pair file by name: what is given is added
    to what is usual, or replaces it."""

    count = 0

    def __init__(self, network, **sections):
        Pair.count += 1
        self.network = network
        self.name = "web"
        self.dir = os.path.join(network.dir, str(Pair.count))
        os.mkdir(self.dir)
        self.file = os.path.join(self.dir, "web.conf")
        self.make_key()
        self.alpha, self.beta = self.hosts = [Host(network, self, name) for name in NODES]
        self.sections = self.usual_sections()
        for name, keys in sections.items():
            if name == "arbiter":
                self.sections[name] = {}
            self.sections.setdefault(name, {}).update(keys)
        self.write(self.file, self.sections)
        for host in self.hosts:
            host.power_on()

    def make_key(self):
        self.key = os.path.join(self.dir, "key")
        with open(os.open(self.key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")

    def usual_sections(self):
        sections = {
            "pair": {"name": self.name, "nodes": "; ".join(NODES), "key": self.key},
            "vm": {"memory": "64MiB", "cpus": 1, "kernel": bed.MICROGUEST,
                   "append": f"ip={GUEST}/24"},
            "disk vda": {f"path.{host.name}": host.disk for host in self.hosts},
            "network lan": {"bridge": "br0", "tap": "web0", "mac": GUEST_MAC},
            # Many share this machine: only the benchmark wants to know how fast it can be.
            "heartbeat": {"interval": "100ms", "timeout": "1s"},
            "arbiter": {"type": "etcd", "prefix": f"/colo{Pair.count}/",
                        "endpoints": f"http://{LAN['client']}:{ETCD_PORT}"},
        }
        for host in self.hosts:
            sections[f"node {host.name}"] = {
                "replication": f"{REPL[host.name]}:{REPLICATION_PORT}",
                "control": f"{REPL[host.name]}:{CONTROL_PORT}",
                "heartbeat": f"{REPL[host.name]}:{HEARTBEAT_PORT}; "
                             f"{LAN[host.name]}:{HEARTBEAT_PORT}"}
        return sections

    @staticmethod
    def write(path, sections):
        with open(path, "w") as file:
            for name, keys in sections.items():
                file.write(f"[{name}]\n")
                for key, value in keys.items():
                    file.write(f"{key} = {value}\n")

    def other(self, host):
        return self.hosts[1 - host.index]

    @property
    def primary(self):
        """The host whose guest is heard; None: neither, or both say so."""
        found = [host for host in self.hosts
                 if (host.status() or {}).get("role") == "primary"]
        return found[0] if len(found) == 1 else None

    def is_protected(self, seconds=PATIENCE_S):
        return bool(eventually(lambda: sorted(str(host.state) for host in self.hosts)
                               == ["protected", "standby"], seconds))

    def start(self, *hosts):
        """Starts colod on these, one after the other, or on both, the first node first."""
        for host in hosts or self.hosts:
            host.start()

    def timeout_s(self):
        """Of its heartbeats."""
        number, unit = re.fullmatch("([0-9]+)(ms|s)",
                                    self.sections["heartbeat"]["timeout"]).groups()
        return int(number) / (1000 if unit == "ms" else 1)

    def protected(self):
        """Waits until it is; gives the primary and the standby."""
        if not self.is_protected():
            raise RuntimeError("the pair does not become protected")
        primary = self.primary
        return primary, self.other(primary)

    def end(self):
        self.network.mend()
        for host in self.hosts:
            if host.powered:
                host.power_off()
