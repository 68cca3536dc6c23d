# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair on two hosts of the testbed, with a stock guest.

h1 and h2 are emulated machines that can lose their power, stand still, and whose kernel has
netem and device mapper. Clients and etcd are programs of this machine in the testbed's network
namespace, a third place on the lan. The hosts stay up from one site to the next and are wiped
in between; down() ends them, as does the end of this process. A testbed that is up in
TESTBED_DIR already is used, and left up.

Everything that a node must remember over a loss of power is on its host's disk: /var/lib/colo,
with the pair file, the key, the generation file, and two images: one holds the logs' file
system, one the guest's disk. The guest's disk is a device-mapper device over it, so that it can
be made to fail or to be slow. What a loss of power takes is what was not flushed.

Links are cut at the switch, where neither host can tell it from a bad cable, and shaped in the
hosts (site_hosts.py).

Environment: as the testbed's; FAULTS_CPUS: the guest's processors (1); FAULTS_NICE: the
priority of the emulated hosts on this machine (0). On a machine that others load, hosts stand
still for longer than the pair is told to bear, unless they go first (-8).
"""
import atexit
import contextlib
import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import grants
import site_base
import site_hosts
from site_base import Failed
from site_hosts import FAULTS, bed

GUEST, MAC = "10.90.1.50", "52:54:00:12:34:56"
CLIENT = "10.90.1.254"
PAIR = "web"
STATE = "/var/lib/colo"
ETC = STATE + "/etc"
DISK_MIB, LOG_MIB = 16, 24
DEVICE = "guestdisk"
ETCD_PORT = 2379
HOST_MIB = 768
SERVED_S, PROTECTED_S = 240, 240  # on two cores that do nothing else, some 20 s
SERVICES = "udp,http,chat,faults"

FILE = """
[pair]
nodes = h1; h2
key = {etc}/{pair}.key

[vm]
memory = 96MiB
cpus = {cpus}
cpu-model = x86-64-v2
kernel = /guest/vmlinuz-cloud
initrd = /guest/initrd-cloud.img
append = console=ttyS0 loglevel=4 colo.ip={guest}/24 colo.mount=1 colo.services={services}

[disk root]
path = /dev/mapper/{device}

[network lan]
bridge = br0
tap = {pair}0
mac = {mac}

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

# Emulated hosts on a busy machine stand still for a second now and then.
[heartbeat]
interval = 200ms
timeout = {timeout_ms}ms

[arbiter]
type = etcd
timeout = 5s
endpoints = http://{client}:{port}
prefix = {prefix}
"""
PREFIX = "/colo/"
TIMEOUT_MS = 2000

# What a host has at its first boot and at each one after.
BOOT = """
set -e
modprobe -a nfnetlink_queue nft_queue loop dm-mod dm-flakey dm-delay
[ -e /etc/colo ] || ln -s "$1" /etc/colo
if [ ! -e /sys/class/net/br0 ]; then
    ip link add br0 address "$(cat /sys/class/net/lan/address)" type bridge \\
        forward_delay 0 stp_state 0 mcast_snooping 0
    ip address flush dev lan
    ip address add "$2" dev br0
    ip link set lan master br0
    ip link set br0 up
fi
mkdir -p /var/log/colo
grep -q ' /var/log/colo ' /proc/mounts || mount -o loop "$3" /var/log/colo
dmsetup info "$5" > /dev/null 2>&1 || {
    loop=$(losetup -f --show "$4")
    echo "0 $(blockdev --getsz "$loop") linear $loop 0" | dmsetup create --noudevsync "$5"
    dmsetup mknodes "$5"
    echo "$loop" > "/run/$5"
}"""
# Nothing of a pair is left, and two new disks; $1 whether the guest's has a file system.
WIPE = """
for try in $(seq 100); do
    pkill -KILL -x 'colod|colo-vm|colo-netcompare|colo-heartbeat' || break
    sleep 0.1
done
ip link del "$1" 2> /dev/null
for device in lan repl; do
    tc qdisc del dev $device root 2> /dev/null
    tc qdisc del dev $device ingress 2> /dev/null
    ip link del faults-$device 2> /dev/null
done
nft flush ruleset
dmsetup resume --noudevsync "$2" 2> /dev/null
dmsetup remove --noudevsync "$2" 2> /dev/null
rm -f "/dev/mapper/$2"  # nobody else does without udev
losetup -D
while umount /var/log/colo 2> /dev/null; do :; done
set -e
rm -rf /run/colo "$3"/.filled "$3"/* /root/.[a-z]*
mkdir -p "$4"
fallocate -l "$5"MiB "$3/log.img"
mke2fs -q -F "$3/log.img"
fallocate -l "$6"MiB "$3/disk.img"
if [ "$7" = yes ]; then
    mke2fs -q -F -t ext4 -E root_owner=0:0 "$3/disk.img"
fi"""
TABLE = """
set -e
loop=$(cat "/run/$1")
sectors=$(blockdev --getsz "$loop")
dmsetup suspend --noflush --nolockfs --noudevsync "$1"
echo "0 $sectors $2" | sed "s|DEVICE|$loop|g" | dmsetup load --noudevsync "$1"
dmsetup resume --noudevsync "$1"
"""


class TestbedNode(site_hosts.HostNode):
    def __init__(self, site, host):
        number = host.number
        super().__init__(site, host, {"lan": "lan", "repl": "repl"},
                         {"lan": f"10.90.1.{number}", "repl": f"10.90.2.{number}"})

    # Power.

    def power_off(self):
        if not self.powered:
            return False
        if self.answers:
            self.told = self.logs() + f"--- {self.name} loses its power\n"
        bed.testbed("kill", self.name)
        self.there.end()
        self.powered = self.stands_still = False
        return True

    def boot(self):
        if self.powered:
            return False
        self.power_on()
        self.start_colod()
        return True

    def power_on(self):
        """The host, with its network and its disks; nothing of the pair runs."""
        if not self.powered:
            with priority():
                bed.testbed("boot", self.name)
            self.powered = True
        self.place.set_clock()
        self.place.must(BOOT, ETC, self.addresses["lan"] + "/24", STATE + "/log.img",
                        STATE + "/disk.img", DEVICE)
        if self.site.shaped:
            self.site.shape_node(self)

    def freeze(self, program=None):
        if program:
            return super().freeze(program)
        if not self.answers:
            return False
        bed.testbed("freeze", self.name)
        self.stands_still = True
        return True

    def thaw(self, program=None):
        if program:
            return super().thaw(program)
        if not self.stands_still:
            return False
        bed.testbed("thaw", self.name)
        self.stands_still = False
        return True

    def console(self):
        path = os.path.join(os.environ["TESTBED_DIR"], self.name, "console.log")
        with open(path, errors="replace") as file:
            return file.read()

    # What only such a host can do.

    def disk(self, table):
        """A table of device mapper for the guest's disk, DEVICE being what is below."""
        return self.shell(TABLE, DEVICE, table)

    def disk_fails(self, what="all"):
        """Every request to the guest's disk gets EIO, or only those that write ("write")."""
        return self.disk({"all": "error",
                          "write": "flakey DEVICE 0 0 86400 1 error_writes"}[what])

    def disk_slow(self, milliseconds):
        """Each request takes so much longer."""
        return self.disk(f"delay DEVICE 0 {milliseconds}")

    def disk_hangs(self):
        """No request ends until disk_good()."""
        return self.shell("dmsetup suspend --noflush --nolockfs --noudevsync \"$1\"", DEVICE)

    def disk_good(self):
        return self.disk("linear DEVICE 0")

    def cgroup_freeze(self, program):
        return self.act("group_freeze", pair=PAIR, program=program)

    def cgroup_thaw(self):
        return self.act("group_thaw")

    def out_of_memory(self, program):
        """The kernel's OOM killer takes this program."""
        return self.act("out_of_memory", pair=PAIR, program=program)


@contextlib.contextmanager
def priority():
    """Hosts that are started meanwhile go before other programs of this machine, if that is
    wanted. Where the kernel groups processes by session, only the group's priority counts."""
    nice = int(os.environ.get("FAULTS_NICE") or 0)
    over, done = threading.Event(), set()

    def watch():
        while not over.wait(0.2):
            for path in glob.glob(os.path.join(os.environ["TESTBED_DIR"], "h*", "qemu.pid")):
                with contextlib.suppress(OSError, ValueError), open(path) as file:
                    pid = int(file.read().split()[0])
                    if pid not in done:
                        prefer(pid, nice)
                        done.add(pid)

    if nice:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def prefer(pid, nice):
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.setpriority(os.PRIO_PROCESS, int(thread), nice)
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/autogroup", "w") as file:
        file.write(str(nice))


class Hosts:
    """The testbed itself, once for a process."""

    up = None

    def __init__(self):
        if os.geteuid() != 0:
            raise Failed("the testbed needs root")
        self.scratch = None
        if not os.environ.get("TESTBED_DIR"):
            self.scratch = tempfile.mkdtemp(prefix="colo-faults-")
            os.environ["TESTBED_DIR"] = os.path.join(self.scratch, "bed")
        self.borrowed = os.path.exists(os.path.join(os.environ["TESTBED_DIR"], "testbed.json"))
        if not self.borrowed:
            bed.stop_on_signals()
            atexit.register(self.down)
            try:
                with priority():
                    bed.testbed("up", "--hosts", "2", "--memory", str(HOST_MIB), "--cpus", "1")
            except RuntimeError as error:
                self.down()
                raise Failed(str(error))
        self.places = [bed.Host(number) for number in (1, 2)]
        with open(os.path.join(os.environ["TESTBED_DIR"], "netns")) as file:
            self.netns = file.read().strip()
        self.call(set_retransmission)
        Hosts.up = self

    def words(self, *words):
        """The words that run a command where clients are; it does not outlive this process."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", "setpriv", "--pdeathsig", "KILL",
                *words]

    def nft(self, text):
        done = subprocess.run(self.words("nft", "-f", "-"), input=text, text=True,
                              stderr=subprocess.PIPE)
        if done.returncode:
            raise Failed(f"nft at the testbed's switch: {done.stderr.strip()}")

    def call(self, function, *args):
        """What a function gives that is called there: sockets stay where they were made."""
        return bed.call_after(bed.enter_network, function, *args)

    def down(self):
        Hosts.up = None
        if self.borrowed:
            return
        atexit.unregister(self.down)
        try:
            if os.path.exists(os.path.join(os.environ["TESTBED_DIR"], "testbed.json")):
                bed.testbed("down")
        finally:
            if self.scratch:
                shutil.rmtree(self.scratch, ignore_errors=True)
                os.environ.pop("TESTBED_DIR", None)


def set_retransmission():
    """Where the kernel can (Linux 6.15), TCP tries again every second; nowhere does it give a
    connection up for that."""
    for name, value in (("tcp_rto_max_ms", "1000"), ("tcp_retries2", "255")):
        with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/" + name, "w") as file:
            file.write(value)


def down():
    """Ends the hosts. Harmless where there are none."""
    if Hosts.up:
        Hosts.up.down()


class Arbiter:
    """An etcd with a disk of its own; hangs, dies, and forgets."""

    def __init__(self, hosts, directory):
        self.hosts, self.dir, self.process = hosts, directory, None
        if not shutil.which("etcd"):
            raise Failed("there is no etcd: install etcd-server")
        self.start()

    def start(self):
        url = f"http://{CLIENT}:{ETCD_PORT}"
        with open(self.dir + ".log", "ab") as log:
            self.process = subprocess.Popen(
                self.hosts.words("etcd", "--data-dir", self.dir, "--listen-client-urls", url,
                                 "--advertise-client-urls", url, "--listen-peer-urls",
                                 "http://127.0.0.1:2380"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        site_base.eventually(lambda: self.process.poll() is not None or self.answers(), 60)
        if self.process.poll() is not None or not self.answers():
            with open(self.dir + ".log", errors="replace") as log:
                raise Failed("etcd does not answer: " + log.read()[-1000:])

    def answers(self):
        return self.hosts.call(answers, ETCD_PORT, CLIENT, b"/health", b'"true"')

    def kill(self):
        self.process.kill()
        self.process.wait()


def answers(port, address, path, wanted):
    """Whether a page has these bytes."""
    try:
        with socket.create_connection((address, port), timeout=5) as sock:
            sock.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
            data = b""
            while piece := sock.recv(4096):
                data += piece
                if wanted in data:
                    return True
            return wanted in data
    except OSError:
        return False


class TestbedSite(site_hosts.HostSite):
    name = "testbed"
    pair, pair_file, client_address = PAIR, f"/etc/colo/{PAIR}.conf", CLIENT
    can = site_base.KINDS - {"full-disk"}
    guest_mib = 96
    slowness = 3.0

    def __init__(self, file=FILE, services=SERVICES, file_system=True):
        """`file`: another pair file, with the same words in braces."""
        super().__init__()
        self.hosts = Hosts.up or Hosts()
        self.dir = tempfile.mkdtemp(prefix="colo-testbed-")
        self.file_system = file_system
        self.file = file.format(
            etc=ETC, pair=PAIR, cpus=os.environ.get("FAULTS_CPUS") or "1", guest=GUEST, mac=MAC,
            services=services, device=DEVICE, timeout_ms=TIMEOUT_MS, client=CLIENT,
            port=ETCD_PORT, prefix=PREFIX)
        self.key = secrets.token_hex(32)
        self.nodes = tuple(TestbedNode(self, place) for place in self.hosts.places)
        self.arbiter = self.listener = self.etcd = None
        self.dumps, self.clients, self.count = [], [], 0
        self.shapes = set()  # what was wrong with links since begin_run()

    # From nothing, and back.

    def start(self):
        if self.arbiter:
            self.end()
        self.count += 1
        self.arbiter = Arbiter(self.hosts, os.path.join(self.dir, f"etcd{self.count}"))
        self.etcd = grants.Etcd(self.hosts.call, CLIENT, ETCD_PORT, PREFIX + PAIR)
        self.hosts.nft("table bridge cuts")
        self.hosts.nft("delete table bridge cuts")
        self.hosts.nft("""
            table bridge cuts {
                set ways { type ifname . ifname; }
                set in { type ifname; }
                set out { type ifname; }
                chain forward {
                    type filter hook forward priority 0
                    iifname . oifname @ways drop
                }
                chain input { type filter hook input priority 0; iifname @in drop; }
                chain output { type filter hook output priority 0; oifname @out drop; }
            }""")
        for node in self.nodes:
            self.wipe(node)
        ports = {f"{node.name}-lan": node.name for node in self.nodes}
        self.listener = site_hosts.Listener(self.hosts.call, ports, MAC)
        self.dump_all()
        first, second = self.nodes
        first.start_colod()
        # the guest boots sooner while nobody copies it
        if not site_base.eventually(
                lambda: self.hosts.call(answers, 80, GUEST, b"/", b"html"), SERVED_S):
            raise Failed("the guest does not serve: " + self.last_words())
        second.start_colod()
        if not self.wait_protected(PROTECTED_S / self.slowness):
            raise Failed("the pair does not become protected: " + self.last_words())

    def wipe(self, node):
        """The host as it was before the pair's first start."""
        place = node.place
        node.thaw()
        if not place.run("true", seconds=20):  # it died, or does not come to itself
            try:
                bed.testbed("kill", node.name)
            except RuntimeError:
                pass  # it was dead
            node.powered = False
        node.told = ""
        if not node.powered:
            with priority():
                bed.testbed("boot", node.name)
            node.powered = True
        node.there.end()
        node.cgroup_thaw()
        place.must(WIPE, f"{PAIR}0", DEVICE, STATE, ETC, LOG_MIB, DISK_MIB,
                   "yes" if self.file_system and node is self.nodes[0] else "no", seconds=120)
        place.must("""
            printf %s "$2" > "$1/$4.conf"
            (umask 077; printf %s "$3" > "$1/$4.key")""", ETC, self.file, self.key, PAIR)
        node.power_on()

    def dump_all(self):
        """What the nodes say to each other, and what clients and the arbiter hear and say."""
        first, second = self.nodes
        both = ["host", first.addresses["lan"], "and", "host", second.addresses["lan"]]
        self.dumps = [self.dump(f"{first.name}-repl", "repl.pcap"),
                      self.dump(f"{first.name}-lan", "lan.pcap", *both),
                      self.dump("lan", "clients.pcap")]

    def dump(self, device, name, *words):
        path = os.path.join(self.dir, name)
        return path, subprocess.Popen(
            self.hosts.words("tcpdump", "-n", "-U", "-s", "0", "-B", "16384", "-Z", "root",
                             "-i", device, "-w", path, *words),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)

    def end_dumps(self):
        for path, process in self.dumps:
            bed.end_process(process)
            if os.path.exists(path):
                os.unlink(path)
        self.dumps = []

    def begin_run(self):
        self.end_dumps()
        self.dump_all()
        self.shapes = set()

    def captures(self):
        return [path for path, _ in self.dumps if os.path.exists(path)]

    def captures_between(self):
        return [path for path in self.captures() if not path.endswith("clients.pcap")]

    def revision(self):
        return self.etcd.revision()

    def grants(self, since):
        return self.etcd.history(since)

    def wire(self):
        """Frames are captured behind the links that are shaped; what was corrupted there says
        nothing of who sent it."""
        path = os.path.join(self.dir, "clients.pcap")
        if "corrupt" in self.shapes or not os.path.exists(path):
            return None
        return site_base.Wire(path, GUEST, reordered=bool(self.shapes & {"jitter_ms", "reorder"}))

    def secrets(self):
        return [self.key.encode(), bytes.fromhex(self.key)]

    def end(self):
        """Whatever this run began, but for the hosts, which the next wipes."""
        for process in self.clients:
            bed.end_process(process)
        self.end_dumps()
        if self.listener:
            self.listener.stop()
        if self.arbiter:
            self.arbiter.kill()
        self.clients, self.listener, self.arbiter = [], None, None
        self.shaped = {}

    def close(self):
        if not self.dir:
            return
        try:
            self.end()
            for node in self.nodes:
                if node.stands_still:
                    node.thaw()
                # an idle guest costs a processor of this machine its rest
                node.place.shell("pkill -KILL -x 'colod|colo-vm|colo-netcompare|colo-heartbeat'")
                node.there.end()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None

    # Who looks at it.

    def client(self, record_dir, *args):
        os.makedirs(record_dir, exist_ok=True)
        with open(os.path.join(record_dir, "client.err"), "ab") as errors:
            process = subprocess.Popen(
                self.hosts.words(sys.executable, os.path.join(FAULTS, "client.py"), *args,
                                 GUEST, record_dir),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True)
        self.clients.append(process)
        return process

    def speakers(self):
        if not self.listener:
            return None
        return list(self.listener.turns)

    def last_heard(self, node):
        return self.listener.last.get(node.name)

    def unheard(self):
        return self.listener.missed()

    def last_words(self):
        return "\n".join(f"{node.name}: {node.status()}\n{node.logs()[-3000:]}"
                         for node in self.nodes)

    def keep(self, directory):
        super().keep(directory)
        for node in self.nodes:
            site_hosts.keep_text(directory, f"{node.name}-console.log", node.console())
        if self.arbiter:
            shutil.copyfile(self.arbiter.dir + ".log", os.path.join(directory, "etcd.log"))

    # What is done to it.

    def arbiter_stop(self):
        self.arbiter.process.send_signal(signal.SIGSTOP)

    def arbiter_cont(self):
        self.arbiter.process.send_signal(signal.SIGCONT)

    def arbiter_restart(self, lose_state=False):
        if lose_state:
            self.etcd.forgets()
        self.arbiter.kill()
        if lose_state:
            shutil.rmtree(self.arbiter.dir)
        self.arbiter.start()

    def shape(self, link, source, target, **what):
        super().shape(link, source, target, **what)
        self.shapes |= {name for name, much in what.items() if much}

    def cut(self, *ways):
        lines = []
        for link, source, target in ways:
            self.check_way(link, source, target)
            if source == "client":
                lines.append(f'add element bridge cuts out {{ "{target}-{link}" }}')
            elif target == "client":
                lines.append(f'add element bridge cuts in {{ "{source}-{link}" }}')
            else:
                lines.append("add element bridge cuts ways "
                             f'{{ "{source}-{link}" . "{target}-{link}" }}')
        self.hosts.nft("\n".join(lines))

    def mend(self):
        if self.arbiter:
            self.hosts.nft("flush set bridge cuts ways\nflush set bridge cuts in\n"
                           "flush set bridge cuts out")
        super().mend()
