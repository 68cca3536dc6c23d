# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair on two hosts of somebody's, reached by ssh and described in a file.

The pair is installed and set up by whoever owns the hosts, with a guest that has the services of
client.py (guestd's, say). THE GUEST AND BOTH HOSTS WILL BE HARMED: what is done to them is what
the file allows, and nothing else.

    [pair]
    name = web                     # /etc/colo/web.conf on both hosts
    guest = 192.0.2.50             # its address
    memory = 1024                  # its memory in MiB, for the bounds of what programs use
    key = /etc/colo/web.key        # the pair's key, which must come to light nowhere
    start-colod = systemctl start colo@web     # run on a host (this is the default)
    fresh = COMMAND                # run here before the first start: disks as new (left out:
                                   # the guest goes on from what it has)
    slowness = 1                   # how much more patience than on two idle hosts

    [host alpha]                   # the nodes' names, both of them
    at = root@alpha.example        # {host} of the transport
    lan = eth0                     # devices of the links, and this host's addresses there
    lan-address = 192.0.2.1
    repl = eth1
    repl-address = 10.9.0.1
    power-off = COMMAND            # run here; both or neither
    power-on = COMMAND
    freeze = COMMAND               # run here, such as virsh suspend; both or neither
    thaw = COMMAND
    may = links; full-state; full-log; clock; starve-cpu; starve-memory

    [clients]
    address = 192.0.2.9            # where clients and the arbiter are
    at = root@probe.example        # left out: here
    prefix = COMMAND               # words before the client's own: left out: none

    [arbiter]                      # run here; each may be left out
    stop = COMMAND
    cont = COMMAND
    restart = COMMAND
    forget = COMMAND               # restart without what it knew

    [transport]                    # left out: this
    command = ssh -o BatchMode=yes -o ConnectTimeout=10 {host} --
    shell = yes                    # whether it hands its words to a shell, as ssh does

What a comment here is behind a value must stand on a line of its own in the file. A thing that
only one host may do, or has commands for, cannot be done on this site.

It cannot listen at the switch: two hosts' own captures have no common order, so speakers() is
None and P2 is not looked at, and what went over the links is not captured for P11; everything
that hosts and clients have is. Links are cut by nftables in the hosts (netdev tables
`colofaults`, IP only: ARP goes on), and shaped by tc, which for that time replaces the root
queueing of the device. Power-on waits until the host answers.
"""
import configparser
import os
import shlex
import subprocess
import sys
import tempfile

import site_base
import site_hosts
from site_base import Failed
from site_hosts import FAULTS, bed

TRANSPORT = "ssh -o BatchMode=yes -o ConnectTimeout=10 {host} --"
BOOT_S, SERVED_S, PROTECTED_S = 600, 600, 600
MAY = ("links", "full-state", "full-log", "clock", "starve-cpu", "starve-memory")
KEYS = {
    "pair": {"name", "guest", "memory", "key", "start-colod", "fresh", "slowness"},
    "host": {"at", "lan", "lan-address", "repl", "repl-address", "power-off", "power-on",
             "freeze", "thaw", "may"},
    "clients": {"address", "at", "prefix"},
    "arbiter": {"stop", "cont", "restart", "forget"},
    "transport": {"command", "shell"},
}
NEEDED = {"pair": {"name", "guest", "key"},
          "host": {"at", "lan", "lan-address", "repl", "repl-address"}, "clients": {"address"}}


def read(path):
    """The file's sections as dicts, judged."""
    parser = configparser.RawConfigParser(strict=True)
    try:
        with open(path) as file:
            parser.read_file(file)
    except (OSError, configparser.Error) as error:
        raise Failed(f"{path}: {error}")
    sections = {name: dict(parser[name]) for name in parser.sections()}
    for name, keys in sections.items():
        kind = name.split()[0]
        if kind not in KEYS or (kind == "host") != (len(name.split()) == 2):
            raise Failed(f"{path}: there is no section [{name}]")
        unknown = keys.keys() - KEYS[kind]
        if unknown:
            raise Failed(f"{path}: [{name}] has no {', '.join(sorted(unknown))}; it may have "
                         + ", ".join(sorted(KEYS[kind])))
        missing = NEEDED.get(kind, set()) - keys.keys()
        if missing:
            raise Failed(f"{path}: [{name}] needs {', '.join(sorted(missing))}")
        for one, other in (("power-off", "power-on"), ("freeze", "thaw")):
            if (one in keys) != (other in keys):
                raise Failed(f"{path}: [{name}] needs both or none of {one} and {other}")
        odd = set(listed(keys.get("may", ""))) - set(MAY)
        if odd:
            raise Failed(f"{path}: [{name}] may = {'; '.join(sorted(odd))}: write some of "
                         + "; ".join(MAY))
    for name in ("pair", "clients"):
        if name not in sections:
            raise Failed(f"{path}: there is no section [{name}]")
    count = sum(name.startswith("host ") for name in sections)
    if count != 2:
        raise Failed(f"{path}: {count} sections [host NAME]; a pair has two")
    return sections


def listed(text):
    return [word.strip() for word in text.split(";") if word.strip()]


def run_here(what, command):
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{what}: {command}: status {done.returncode}: {done.stdout.strip()}")


class Place(bed.Here):
    """A host behind the transport."""

    def __init__(self, name, at, transport):
        super().__init__()
        self.name = name
        self.words = [word.format(host=at) for word in
                      shlex.split(transport.get("command", TRANSPORT))]
        self.shell_joins = transport.get("shell", "yes") == "yes"

    def command(self, words):
        words = list(map(str, words))
        return self.words + ([shlex.join(words)] if self.shell_joins else words)


class SshNode(site_hosts.HostNode):
    def __init__(self, site, name, keys, transport):
        super().__init__(site, Place(name, keys["at"], transport),
                         {link: keys[link] for link in site_base.LINKS},
                         {link: keys[link + "-address"] for link in site_base.LINKS})
        self.keys = keys
        self.may = set(listed(keys.get("may", "")))

    def start_colod(self):
        if not self.answers or self.colod_runs():
            return False
        return self.shell(self.site.keys.get("start-colod",
                                           f"systemctl start colo@{self.site.pair}"))

    def power_off(self):
        if not self.powered:
            return False
        self.told = self.logs() + f"--- {self.name} loses its power\n"
        run_here(f"{self.name} power-off", self.keys["power-off"])
        self.there.end()
        self.powered = self.stands_still = False
        return True

    def boot(self):
        if self.powered:
            return False
        run_here(f"{self.name} power-on", self.keys["power-on"])
        if not site_base.eventually(lambda: self.place.run("true", seconds=20), BOOT_S):
            raise Failed(f"{self.name}: does not answer within {BOOT_S} s after power-on")
        self.powered = True
        self.site.links_of(self)
        self.start_colod()
        return True

    def freeze(self, program=None):
        if program:
            return super().freeze(program)
        if not self.answers:
            return False
        run_here(f"{self.name} freeze", self.keys["freeze"])
        self.stands_still = True
        return True

    def thaw(self, program=None):
        if program:
            return super().thaw(program)
        if not self.stands_still:
            return False
        run_here(f"{self.name} thaw", self.keys["thaw"])
        self.stands_still = False
        return True

    def cut(self, outgoing, incoming):
        """{link: addresses} each: what is sent there, or comes from there, is dropped."""
        lines = ["table netdev colofaults", "delete table netdev colofaults",
                 "table netdev colofaults {"]
        for hook, field, ways in (("egress", "daddr", outgoing), ("ingress", "saddr", incoming)):
            for link, addresses in ways.items():
                lines += [f"chain {link}_{hook} {{", f"type filter hook {hook} device "
                          f"\"{self.devices[link]}\" priority -400"]
                lines += [f"{'ip6' if ':' in address else 'ip'} {field} {address} drop"
                          for address in sorted(addresses)]
                lines.append("}")
        lines.append("}")
        if not outgoing and not incoming:
            lines = lines[:2]
        return self.shell("printf '%s\\n' \"$1\" | nft -f -", "\n".join(lines))


class Client(subprocess.Popen):
    """A client on another host; its records come here when it has ended."""

    def __init__(self, place, words, target, record_dir, **options):
        self.place, self.target, self.record_dir = place, target, record_dir
        self.fetched = False
        super().__init__(place.command(words), **options)

    def wait(self, timeout=None):
        status = super().wait(timeout)
        self.fetch()
        return status

    def fetch(self):
        if self.fetched:
            return
        self.fetched = True
        with self.place.popen("tar", "-C", self.target, "-c", ".",
                              stdout=subprocess.PIPE) as packed:
            done = subprocess.run(["tar", "-C", self.record_dir, "-x"], stdin=packed.stdout)
        self.place.run("rm", "-rf", self.target)
        if done.returncode:
            raise Failed(f"the client's records do not come from {self.place.name}")


class SshSite(site_hosts.HostSite):
    name = "ssh"

    def __init__(self, path):
        super().__init__()
        sections = read(path)
        self.keys, self.clients = sections["pair"], sections["clients"]
        self.arbiter = sections.get("arbiter", {})
        self.pair = self.keys["name"]
        self.pair_file = f"/etc/colo/{self.pair}.conf"
        self.client_address = self.clients["address"]
        self.slowness = float(self.keys.get("slowness", 1))
        self.guest_mib = int(self.keys.get("memory", 1024))
        transport = sections.get("transport", {})
        self.nodes = tuple(SshNode(self, name.split()[1], keys, transport)
                           for name, keys in sections.items() if name.startswith("host "))
        self.client_place = Place("clients", self.clients["at"], transport) \
            if "at" in self.clients else None
        self.can = self.capabilities()
        self.cuts, self.started = set(), False
        self.directory = tempfile.mkdtemp(prefix="colo-ssh-")

    def capabilities(self):
        first, second = self.nodes
        both = first.may & second.may
        can = {"signal"} | both & {"full-state", "full-log", "clock", "starve-cpu",
                                   "starve-memory"}
        if "links" in both:
            can |= {"cut", "shape"}
        for kind, key in (("power", "power-off"), ("freeze", "freeze")):
            if all(key in node.keys for node in self.nodes):
                can.add(kind)
        if {"stop", "cont", "restart"} <= self.arbiter.keys():
            can.add("arbiter")
            if "forget" in self.arbiter:
                can.add("arbiter-loss")
        return frozenset(can)

    def start(self):
        for node in self.nodes:
            if not node.place.run("true", seconds=60):
                raise Failed(f"{node.name} does not answer: "
                             + " ".join(node.place.command(["true"])))
        if not self.started and "fresh" in self.keys:
            run_here("fresh", self.keys["fresh"])
        self.started = True
        for node in self.nodes:
            node.start_colod()
        if not self.wait_protected(PROTECTED_S):
            raise Failed(f"the pair does not become protected: {self.states()}")

    def close(self):
        """The pair is left running, and every fault that lasts is ended."""
        if not self.directory:
            return
        for node in self.nodes:
            node.there.end()
            if "freeze" in self.can:
                node.thaw()
            if "power" in self.can:
                node.boot()
        self.mend()
        bed.Here().run("rm", "-rf", self.directory)
        self.directory = None

    def client(self, record_dir, *args):
        os.makedirs(record_dir, exist_ok=True)
        prefix = shlex.split(self.clients.get("prefix", ""))
        options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                       start_new_session=True)
        program = os.path.join(FAULTS, "client.py")
        if not self.client_place:
            return subprocess.Popen([*prefix, sys.executable, program, *args,
                                     self.keys["guest"], record_dir], **options)
        place = self.client_place
        target = place.must("mktemp -d").strip()
        with open(program, "rb") as file:
            place.must("cat > \"$1/client.py\"", target, input=file.read())
        # what an earlier client kept is read by one that only verifies
        with subprocess.Popen(["tar", "-C", record_dir, "-c", "."],
                              stdout=subprocess.PIPE) as packed:
            place.must("tar -C \"$1\" -x", target, input=packed.stdout.read())
        return Client(place, [*prefix, "python3", target + "/client.py", *args,
                              self.keys["guest"], target], target, record_dir, **options)

    def speakers(self):
        return None

    def secrets(self):
        """The key as it is on the first host that answers."""
        for node in self.nodes:
            text = node.place.shell("cat \"$1\"", self.keys["key"]).output.strip() \
                if node.answers else ""
            if text:
                return [text.encode(), bytes.fromhex(text)]
        raise Failed(f"the pair's key {self.keys['key']} can be read on neither host")

    def order(self, what):
        if what not in self.arbiter:
            raise Failed(f"this site's file has no [arbiter] {what}")
        run_here(f"arbiter {what}", self.arbiter[what])

    def arbiter_stop(self):
        self.order("stop")

    def arbiter_cont(self):
        if "cont" in self.arbiter:  # else it never hung
            self.order("cont")

    def arbiter_restart(self, lose_state=False):
        self.order("forget" if lose_state else "restart")

    def cut(self, *ways):
        for way in ways:
            self.check_way(*way)
        self.cuts.update(ways)
        for node in self.nodes:
            self.cut_node(node)

    def cut_node(self, node):
        outgoing, incoming = {}, {}
        for link, source, target in self.cuts:
            if source == node.name:
                outgoing.setdefault(link, set()).add(self.address(link, target))
            elif source == "client" and target == node.name:
                incoming.setdefault(link, set()).add(self.client_address)
        node.cut(outgoing, incoming)

    def links_of(self, node):
        """After a boot: what is cut and shaped stays so."""
        if self.cuts:
            self.cut_node(node)
        if self.shaped:
            self.shape_node(node)

    def mend(self):
        if self.cuts:
            self.cuts = set()
            for node in self.nodes:
                self.cut_node(node)
        super().mend()
