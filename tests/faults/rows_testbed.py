#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the matrix that need hosts with a kernel of their own, on the testbed.

usage: rows_testbed.py [ROW...]     names of functions below; left out: all of them

A row takes a site with a protected pair, does one fault, and says with `check` what is true
then. A client is served all the way, and what it finds is what counts. The pair is the same from
one row to the next while all is well, and a new one after a row that failed. The declared
envelope is that of the pair file: heartbeats' timeout (2 s), the replication link's silence,
and what its links lose where TCP and two ways of heartbeats can bear it.

Needs root, and what the testbed needs. Environment: as site_testbed.py.
"""
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import site_base  # noqa: E402
import site_ssh  # noqa: E402
import site_testbed  # noqa: E402
import visit  # noqa: E402
from site_hosts import bed  # noqa: E402

check, note = bed.check, bed.note
HOLDS_S = 12  # how long a fault lasts that is to have no effect: some timeouts
SERVED_S = 60
OUTAGE_TIMEOUTS = 5
SPARED_KIB = 48 << 10  # twice what there.py leaves of a host's memory
HOUR_S = 3600


class Row:
    """A pair that is protected, and a client of its guest, before and after a fault."""

    def __init__(self, site):
        self.site = site
        if not site.wait_protected(60):
            raise site_base.Failed("not protected at the beginning: " + site.states())
        self.primary = site.primary
        self.standby = site.other(self.primary)
        self.scratch = tempfile.mkdtemp(prefix="colo-row-")
        self.client = visit.Visit(site, self.scratch, 1)
        if not self.client.goes_on(SERVED_S * site.slowness):
            raise site_base.Failed(f"the guest does not serve: {self.client.faults()}")
        self.generation = site.generation()
        self.turn = len(site.speakers()) - 1

    def goes_on(self):
        return self.client.goes_on(SERVED_S * self.site.slowness)

    def spoke(self):
        """Who did since the row began, in turn."""
        return [name for _, name in self.site.speakers()[self.turn:]]

    def stays(self, what, alone=False):
        """Nobody failed over, and whoever is a client saw nothing but a wait. `alone`: it may
        have gone on without its standby meanwhile, by a generation of its own."""
        check(f"{what}: clients are served", self.goes_on(),
              (self.client.faults(), self.site.states()))
        check(f"{what}: no failover", self.spoke() == [self.primary.name]
              and self.site.primary is self.primary
              and (alone or self.site.generation() == self.generation),
              (self.spoke(), self.site.states()))

    def serves_one(self, what):
        """Whatever became of the pair: clients are served, and one host at a time spoke."""
        check(f"{what}: clients are served", self.goes_on(),
              (self.client.faults(), self.site.states()))
        turns, steps = self.spoke(), self.site.generation() - self.generation
        check(f"{what}: a host takes the word only with a new generation",
              len(turns) - 1 <= steps, (turns, steps))

    def took_over(self, what):
        """The other host did, once."""
        self.serves_one(what)
        check(f"{what}: the other host went on", self.spoke() == [self.primary.name,
                                                                  self.standby.name],
              (self.spoke(), self.site.states()))

    def healed(self, what):
        check(f"{what}: healed, the pair is protected by itself", self.site.wait_protected(),
              self.site.states())

    def end(self, what, bound_s=None):
        """What the client found, at its end; and that no datagram's answer took longer."""
        client, self.client = self.client, None
        found = client.end()
        check(f"{what}: the client found nothing lost, doubled or changed", not found, found)
        if bound_s:
            waited_ms = client.longest_ms().get("nonce", 0)
            check(f"{what}: it never waited for more than {bound_s:.0f} s",
                  0 < waited_ms < bound_s * 1000, waited_ms)

    def close(self):
        if self.client:
            self.client.kill()
        self.site.mend()
        for node in self.site.nodes:
            if node.answers:
                node.cgroup_thaw()
        shutil.rmtree(self.scratch, ignore_errors=True)


def outage_s(site):
    """What a client may have to wait for at a failover, on hosts that are so slow."""
    return OUTAGE_TIMEOUTS * site.slowness * site_testbed.TIMEOUT_MS / 1000


def sum_errors(node):
    """How many packets that came to a host had a wrong checksum."""
    text = node.place.must("cat /proc/net/snmp /proc/net/netstat")
    lines = [line.split() for line in text.splitlines()]
    return sum(int(value) for names, values in zip(lines[::2], lines[1::2])
               for name, value in zip(names, values) if name == "InCsumErrors")


class Processors:
    """How much of a host's processors was taken since this was made."""

    def __init__(self, node):
        self.node = node
        self.before = self.times()

    def times(self):
        """What all of them did so far: how much of it was nothing, and all."""
        words = self.node.place.must("head -n 1 /proc/stat").split()
        spent = [int(word) for word in words[1:9]]
        idle, waiting_for_disks = spent[3:5]
        return idle + waiting_for_disks, sum(spent)

    def taken(self):
        idle, spent = (now - before for now, before in zip(self.times(), self.before))
        return 1 - idle / spent


BETWEEN = (("h1", "h2"), ("h2", "h1"))
# What links may do to a pair that must bear it.
BORNE = {
    "lose 1 %": {"loss": 0.01},
    "lose 5 %, and reorder 25 % by 20 ms": {"loss": 0.05, "reorder": 0.25, "delay_ms": 20},
    "double 10 %, and take 100 ms +- 40 ms": {"duplicate": 0.1, "delay_ms": 100,
                                              "jitter_ms": 40},
}


def bad_links_within_the_envelope(site):
    """F17, on each link: no failover."""
    for link in site_base.LINKS:
        for words, what in BORNE.items():
            row = Row(site)
            try:
                for source, target in BETWEEN:
                    site.shape(link, source, target, **what)
                time.sleep(HOLDS_S)
                row.stays(f"{link} between the nodes begins to {words}")
                site.mend()
                row.healed("... it is good again")
                row.end("...")
            finally:
                row.close()


def a_bad_link_of_clients(site):
    """F17, between clients and both nodes, the guest's packets with it."""
    row = Row(site)
    try:
        for node in site.nodes:
            for source, target in (("client", node.name), (node.name, "client")):
                site.shape("lan", source, target, loss=0.05, delay_ms=20, jitter_ms=10)
        time.sleep(HOLDS_S)
        row.stays("what clients and nodes say gets lost by 5 %, each way, and takes 20 ms")
        site.mend()
        row.healed("... it is good again")
        row.end("...")
    finally:
        row.close()


def a_replication_link_beyond_the_envelope(site):
    """F17: half of everything is lost. Unprotected first, failover last."""
    row = Row(site)
    try:
        for source, target in BETWEEN:
            site.shape("repl", source, target, loss=0.6, delay_ms=1000)
        check("repl loses 60 % and takes 1 s: the pair is not protected any more",
              site_base.eventually(lambda: row.primary.state == "solo", 60 * site.slowness),
              site.states())
        row.stays("... while heartbeats go by lan", alone=True)
        site.mend()
        row.healed("... it is good again")
        row.end("...")
    finally:
        row.close()


def corrupted_frames(site):
    """F18, by bits that flip on each link: on the lan the nodes say but heartbeats, so there of
    more frames. Checksums tell, so what is changed is lost; nobody fails over for that."""
    for link, of_100 in (("repl", 2), ("lan", 20)):
        row = Row(site)
        try:
            before = [sum_errors(node) for node in site.nodes]
            for source, target in BETWEEN:
                site.shape(link, source, target, corrupt=of_100 / 100)
            time.sleep(HOLDS_S)
            row.stays(f"{link} flips a bit in {of_100} % of the frames", alone=True)
            found = [sum_errors(node) - old for node, old in zip(site.nodes, before)]
            check("... and both hosts got some of those", min(found) > 0, found)
            site.mend()
            row.healed("... it is good again")
            row.end("...")
        finally:
            row.close()


def a_squeezed_link(site):
    """F19: what does not get through in time costs the protection, never the service."""
    for kbit in (100000, 10000, 1000):
        row = Row(site)
        try:
            for source, target in BETWEEN:
                site.shape("repl", source, target, rate_kbit=kbit)
            time.sleep(HOLDS_S)
            row.stays(f"repl is squeezed to {kbit // 1000} Mbit/s", alone=True)
            most = max(used["rss_kib"] for node in site.usage().values()
                       for program, used in node.items() if program == "colo-vm")
            check("... what waits is bounded",
                  most < 2 * (site.guest_mib << 10) + (64 << 10), f"{most} KiB")
            site.mend()
            row.healed("... it is wide again")
            row.end("...")
        finally:
            row.close()


def a_standbys_disk_that_fails(site):
    """F22: the standby is let go, and clients notice nothing."""
    row = Row(site)
    try:
        row.standby.disk_fails()
        check("each request to the standby's disk gets an error: the pair is not protected",
              site_base.eventually(lambda: not site.protected(), 60 * site.slowness),
              site.states())
        row.stays("...", alone=True)
        row.standby.disk_good()
        row.healed("... the disk is good again")
        row.end("...")
    finally:
        row.standby.disk_good()
        row.close()


def a_primarys_disk_that_fails(site):
    """F22: the guest moves to the other node, and does not see the error."""
    row = Row(site)
    try:
        row.primary.disk_fails()
        check("each request to the primary's disk gets an error: the guest moves",
              site_base.eventually(lambda: (row.standby.status() or {}).get("role") == "primary",
                                   60 * site.slowness), site.states())
        row.serves_one("...")
        row.primary.disk_good()
        row.healed("... the disk is good again")
        row.end("...")
    finally:
        row.primary.disk_good()
        row.close()


def a_disk_that_is_slow(site):
    """F23: each request takes 300 ms, on either host, and then the standby's ends no more."""
    for role in ("primary", "standby"):
        row = Row(site)
        node = getattr(row, role)
        try:
            node.disk_slow(300)
            time.sleep(HOLDS_S)
            row.stays(f"the {role}'s disk takes 300 ms longer")
            node.disk_good()
            row.healed("... it is as fast as it was")
            row.end("...")
        finally:
            node.disk_good()
            row.close()


def a_disk_that_hangs(site):
    """F23: no request to the standby's disk ends."""
    row = Row(site)
    try:
        row.standby.disk_hangs()
        time.sleep(HOLDS_S)
        row.stays("no request to the standby's disk ends")
        row.standby.disk_good()
        row.healed("... it goes on")
        row.end("...")
    finally:
        row.standby.disk_good()
        row.close()


def a_clock_is_stepped(site):
    """F25: by an hour, forward and back, on either host and on both."""
    for who in ("primary", "standby", "both"):
        for seconds in (HOUR_S, -HOUR_S):
            row = Row(site)
            nodes = site.nodes if who == "both" else [getattr(row, who)]
            what = (f"the clock of {'both hosts' if who == 'both' else 'the ' + who} goes "
                    f"{'forward' if seconds > 0 else 'back'} by an hour")
            try:
                for node in nodes:
                    node.step_clock(seconds)
                time.sleep(HOLDS_S)
                row.stays(what)
                check("... and the pair is protected", site.wait_protected(10), site.states())
                row.end("... the guest's clocks did not step, and")
            finally:
                for node in nodes:
                    node.step_clock(-seconds)
                row.close()


def a_standby_with_another_time_goes_on(site):
    """F25: the standby's clock is an hour off when it has to go on; guest time holds."""
    row = Row(site)
    try:
        row.standby.step_clock(HOUR_S)
        time.sleep(HOLDS_S)
        row.primary.power_off()
        row.serves_one("the primary's host dies while the standby's clock is an hour ahead")
        check("... the standby went on", row.spoke() == [row.primary.name, row.standby.name],
              row.spoke())
        row.end("... the guest's clocks did not step, and", outage_s(site))
        row.standby.step_clock(-HOUR_S)
        row.primary.boot()
        row.healed("...")
    finally:
        row.close()


def out_of_memory(site):
    """F26: the kernel's OOM killer takes each program in turn, on either host."""
    for role in ("primary", "standby"):
        for program in site_base.PROGRAMS:
            row = Row(site)
            node = getattr(row, role)
            try:
                check(f"the {role}'s kernel kills {program} for want of memory",
                      node.out_of_memory(program))
                if program == "colod":
                    node.start_colod()
                row.serves_one("...")
                row.healed("...")
                row.end("...")
            finally:
                row.close()


def available_kib(node):
    return int(node.place.must("grep MemAvailable: /proc/meminfo").split()[1])


def memory_is_short(site):
    """F26: all but 24 MiB of each host's memory is taken, in turn."""
    for role in ("primary", "standby"):
        row = Row(site)
        try:
            node, began = getattr(row, role), time.monotonic()
            node.starve("memory", HOLDS_S)
            check(f"the {role}'s host loses all its memory but a little",
                  site_base.eventually(lambda node=node: available_kib(node) < SPARED_KIB,
                                       HOLDS_S), available_kib(node))
            time.sleep(max(0, began + HOLDS_S - time.monotonic()))
            row.stays(f"the {role}'s host has no memory to spare")
            row.healed("... it has again")
            row.end("...")
        finally:
            row.close()


def a_program_is_frozen_by_its_group(site):
    """F26: a control group stands still for longer than the timeout, and goes on."""
    for role in ("primary", "standby"):
        row = Row(site)
        node = getattr(row, role)
        try:
            what = f"the {role}'s colo-vm stands still in its control group"
            check(what, node.cgroup_freeze("colo-vm"))
            time.sleep(HOLDS_S)
            if role == "primary":
                row.took_over(what)
            else:
                check("... the pair is not protected", site_base.eventually(
                    lambda: not site.protected(), 60 * site.slowness), site.states())
                row.stays(what, alone=True)
            check("... it is let go on", node.cgroup_thaw())
            row.healed("...")
            row.end("...")
        finally:
            row.close()


def hogged(row, role, kind, what):
    """Whether it is as if the host stood still, or not, is the host's: one of them serves."""
    node = getattr(row, role)
    processors = Processors(node)
    check(what, node.starve(kind, HOLDS_S))
    time.sleep(HOLDS_S)
    taken = processors.taken()
    check(f"{what}: they had what they wanted, or nearly", taken > 0.8, taken)
    row.serves_one(what)


def processors_are_hogged(site):
    """F27: four programs want all of the primary's or the standby's processor; then one that
    goes before everything does, but for what the kernel keeps back (5 %)."""
    for role in ("primary", "standby"):
        row = Row(site)
        try:
            hogged(row, role, "cpu", f"four programs want all of the {role}'s processor")
            row.healed("... they have ended")
            row.end("...")
        finally:
            row.close()


def a_program_that_goes_first(site):
    for role in ("primary", "standby"):
        row = Row(site)
        try:
            hogged(row, role, "cpu-rt", f"a program goes before all others on the {role}'s host")
            row.healed("... it has ended")
            row.end("...")
        finally:
            row.close()


FILE = """
[pair]
name = {pair}
guest = {guest}
memory = 96
key = {etc}/{pair}.key
start-colod = true
slowness = {slowness}
[clients]
address = {client}
prefix = nsenter --net=/run/netns/{netns}
[transport]
command = {python} {testbed} exec {{host}} --
shell = no
"""
HOST = """
[host {name}]
at = {name}
lan = lan
lan-address = {lan}
repl = repl
repl-address = {repl}
freeze = {python} {testbed} freeze {name}
thaw = {python} {testbed} thaw {name}
may = links; clock; starve-cpu
"""


def the_same_pair_as_two_hosts_by_ssh(site):
    """The site for two real hosts, on this pair; its transport is the testbed's in place of
    ssh, of which there is no server on these hosts."""
    row = Row(site)
    words = {"python": sys.executable, "testbed": bed.TESTBED}
    path = os.path.join(row.scratch, "site.conf")
    with open(path, "w") as file:
        file.write(FILE.format(pair=site.pair, guest=site_testbed.GUEST, etc=site_testbed.ETC,
                               slowness=site.slowness, client=site.client_address,
                               netns=site.hosts.netns, **words))
        for node in site.nodes:
            file.write(HOST.format(name=node.name, lan=node.addresses["lan"],
                                   repl=node.addresses["repl"], **words))
    other = site_ssh.SshSite(path)
    try:
        check("by the transport, what the file allows can be done",
              other.can == {"signal", "freeze", "cut", "shape", "clock", "starve-cpu"},
              other.can)
        other.start()
        check("... the pair is found protected, with the same primary",
              other.protected() and other.primary.name == row.primary.name, other.states())
        check("... every program is found", all(
            set(used) == set(site_base.PROGRAMS) for used in other.usage().values()),
            other.usage())
        check("... its key", other.secrets() == site.secrets())
        client = visit.Visit(other, os.path.join(row.scratch, "other"), 2, "--only", "nonce")
        check("... a client is served", client.goes_on(SERVED_S * site.slowness),
              client.faults())
        standby = other.other(other.primary)
        other.cut(("lan", "client", other.primary.name), ("lan", other.primary.name, "client"))
        check("... what is cut is cut", not client.goes_on(5))
        other.mend()
        other.shape("lan", other.primary.name, "client", loss=0.1, delay_ms=20)
        other.shape("lan", "client", other.primary.name, loss=0.1, delay_ms=20)
        check("... what is mended is mended, and what is bad is borne",
              client.goes_on(SERVED_S * site.slowness), client.faults())
        other.mend()
        check("... a program is killed, and the pair heals itself",
              standby.signal("colo-vm", signal.SIGKILL)
              and client.goes_on(SERVED_S * site.slowness) and other.wait_protected(),
              (client.faults(), other.states()))
        found = client.end()
        check("... the client found nothing, and its records are here",
              not found and os.path.exists(os.path.join(row.scratch, "other", "nonce.jsonl")),
              (found, os.listdir(os.path.join(row.scratch, "other"))))
        row.end("...")
    finally:
        other.close()
        row.close()


TESTS = [a_clock_is_stepped, a_standby_with_another_time_goes_on, bad_links_within_the_envelope,
         a_bad_link_of_clients, a_replication_link_beyond_the_envelope, corrupted_frames,
         a_squeezed_link, the_same_pair_as_two_hosts_by_ssh, a_disk_that_is_slow,
         a_disk_that_hangs, a_standbys_disk_that_fails, a_primarys_disk_that_fails,
         out_of_memory, memory_is_short, a_program_is_frozen_by_its_group,
         processors_are_hogged, a_program_that_goes_first]


def run_row(row, site):
    """One row on a site that is started; whether it went well."""
    failed, began = bed.Results.failed, time.monotonic()
    try:
        row(site)
    except Exception as error:  # one broken row must not hide the others
        check(f"{row.__name__.replace('_', ' ')}: the row itself runs to its end", False,
              f"{error}\n{traceback.format_exc(limit=-4)}")
    note(f"{row.__name__}: {time.monotonic() - began:.1f} s")
    if failed == bed.Results.failed:
        return True
    kept = tempfile.mkdtemp(prefix="colo-row-kept-")
    site.keep(kept)
    note(f"kept in {kept}")
    return False


def main(rows):
    if os.geteuid() != 0:
        bed.skip("rows on the testbed", "it needs root")
        return bed.verdict()
    bed.stop_on_signals()
    site, well = site_testbed.TestbedSite(), False
    try:
        for row in rows:
            if not well:
                site.start()
            well = run_row(row, site)
    finally:
        try:
            site.close()
        finally:
            site_testbed.down()
    return bed.verdict()


if __name__ == "__main__":
    sys.exit(main([test for test in TESTS
                   if not sys.argv[1:] or test.__name__ in sys.argv[1:]]))
