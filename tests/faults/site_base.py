# SPDX-License-Identifier: GPL-2.0-or-later
"""What every site of the fault harness is: a pair on two hosts, an arbiter, and a place for
the client, whatever they are made of. (A file of the name site.py would be Python's own.)

`site_native.py` is two network namespaces of this machine with the micro-guest;
`site_testbed.py` emulated hosts with a stock guest; `site_ssh.py` two hosts of somebody's.
`misfortunes.py` uses nothing but what stands here, and of that only what the site `can`.

Times are of this machine's time.monotonic(), in seconds, unless the name says otherwise. A
site belongs to one thread. What cannot be done raises Failed with what was tried, on what
and why; a fault that found nothing to harm (a program that does not run, a host that is off)
raises nothing and returns False.

Names of places on a link are those of the two nodes and "client", where the clients and the
arbiter are. Links are "lan", over which clients, the arbiter and one heartbeat path reach
the nodes, and "repl", which has the replication and the other heartbeat path.
"""
import abc
import json
import time
import typing

LINKS = ("lan", "repl")
# What runs on a node; colod starts the other three.
PROGRAMS = ("colod", "colo-vm", "colo-netcompare", "colo-heartbeat")
# What is in a shape, and what it is where nothing is wrong with the link.
SHAPE = {"delay_ms": 0, "jitter_ms": 0, "loss": 0.0, "reorder": 0.0, "duplicate": 0.0,
         "corrupt": 0.0, "rate_kbit": 0}
# What a site may be able to do to itself.
KINDS = frozenset((
    "signal",  # a program killed, stopped, continued
    "power",  # a host loses its power, silently, and boots again
    "freeze",  # all of a host stands still, or one program
    "cut",  # a link, one way or both
    "shape",  # a link delayed, lossy, reordering, duplicating, corrupting, slow
    "arbiter",  # stopped, continued, restarted
    "arbiter-loss",  # restarted without what it knew
    "full-state", "full-log",  # no room where colod keeps its record, or its logs
    "disk",  # the guest's on a host fails, waits, or hangs
    "full-disk",  # or takes no more
    "clock",  # a host's clock stepped
    "starve-cpu", "starve-memory",
))


class Failed(Exception):
    """The site itself could not do what it was told: not the pair's fault."""


class Event(typing.NamedTuple):
    """What a node told."""

    number: int
    name: str
    detail: str
    at: float  # in seconds of its host's clock that nobody sets


class Wire(typing.NamedTuple):
    """A capture of what clients and the guest said to each other."""

    path: str
    guest: str  # its address
    reordered: bool  # segments may be there in another order than the guest sent them in


class Node(abc.ABC):
    """A host of the pair, with its colod."""

    name = None
    powered = True
    starving = False  # starve() has not ended yet

    @abc.abstractmethod
    def status(self):
        """What `colo status --json` prints, as a dict; None where nobody answers within a
        few seconds, or the host is off."""

    @abc.abstractmethod
    def colo(self, *words, seconds=120):
        """The command as an operator uses it on this host: words[0] is the command, the pair
        is added. Gives bed.Result (status, output, errors); status 124 without an end."""

    @abc.abstractmethod
    def signal(self, program, number):
        """A signal to every process of one of PROGRAMS here. Whether there was one."""

    @abc.abstractmethod
    def start_colod(self):
        """Starts colod again where it does not run, as its unit file would; what runs is left
        alone. Whether it had to."""

    @abc.abstractmethod
    def power_off(self):
        """Pulls the plug: silent at once, and nothing that was only in memory is there any
        more. Whether it was on."""

    @abc.abstractmethod
    def boot(self):
        """Power, and what a boot starts, colod with it. Whether it was off. May return
        before colod answers."""

    @abc.abstractmethod
    def freeze(self, program=None):
        """Stands still: everything here, or one of PROGRAMS. Whether there was something."""

    @abc.abstractmethod
    def thaw(self, program=None):
        """Goes on. Harmless where nothing stood still."""

    def disk_full(self, what):
        """No byte more can be written to where "state" or "log" is, or to the guest's
        "disk"."""
        raise Failed(f"{self.name}: this site cannot fill {what}")

    def disk_free(self, what):
        """There is room again. Harmless where there was."""

    def disk_fails(self, what="all"):
        """The guest's disk refuses all that is asked of it, or what writes ("write")."""
        raise Failed(f"{self.name}: this site cannot make a disk fail")

    def disk_slow(self, milliseconds):
        """Each request to it takes so much longer."""
        raise Failed(f"{self.name}: this site cannot make a disk slow")

    def disk_hangs(self):
        """No request to it ends, until disk_good()."""
        raise Failed(f"{self.name}: this site cannot make a disk hang")

    def disk_good(self):
        """It is as it was. Harmless where it is."""

    def step_clock(self, seconds):
        """CLOCK_REALTIME goes by so many seconds, forward or back (negative)."""
        raise Failed(f"{self.name}: this site cannot step a clock")

    def starve(self, kind, seconds):
        """Takes "cpu" or "memory" from everything here for so many seconds; returns at once,
        and it ends by itself."""
        raise Failed(f"{self.name}: this site cannot starve for {kind}")

    @property
    def state(self):
        status = self.status()
        return status and status["state"]

    def events(self, since=0):
        """What it told after event number `since`, the oldest first. None where nobody
        answers."""
        if not self.powered:
            return None
        shown = self.colo("events", "--json", "--since", str(since), seconds=20)
        if shown.status:
            return None
        return [event_of(json.loads(line)) for line in shown.output.splitlines()]


def event_of(told):
    return Event(told["number"], told["event"], told.get("detail") or "",
                 told["monotonic"] / 1000)


class Site(abc.ABC):
    """A pair, and all that is around it."""

    name = None
    nodes = ()  # two Node
    can = frozenset()  # of KINDS
    guest_mib = 64
    baseline = None  # usage by role when the pair was new; the judge's
    seed = 1  # of what the site itself leaves to chance; whoever runs something on it sets it
    # uncut(*ways) lets through again what cut() stopped, and touches nothing else; None where a
    # site mends all or nothing.
    uncut = None
    # How much slower than a pair in this machine's namespaces all of it is: patience and the
    # length of freezes are multiplied by it.
    slowness = 1.0
    timeout_s = None  # the heartbeat's; None: nobody told the harness
    one_clock = False  # the hosts' clocks that nobody sets are this machine's

    def suits(self, seed):
        """Whether its pair is of the kind with which a seed's run is to be."""
        return True

    @abc.abstractmethod
    def start(self):
        """From nothing to a pair that is protected, with a guest that serves."""

    @abc.abstractmethod
    def close(self):
        """Ends and removes everything. Harmless twice, and after a start that failed."""

    @abc.abstractmethod
    def client(self, record_dir, *args):
        """client.py with these arguments before the guest's address, where clients are:
        Popen with pipes for standard input and output; its directory is here afterwards."""

    @abc.abstractmethod
    def speakers(self):
        """The turns of those who sent frames with the guest's address since start(), heard
        behind the nodes' ports: a list of (time, node's name), one for each time that another
        one took the word. None where the site cannot listen."""

    def last_heard(self, node):
        """When a frame with the guest's address last came from a node; None: never, or the
        site cannot say."""
        return None

    def unheard(self):
        """How many frames the listener did not get to see."""
        return 0

    def revision(self):
        """The arbiter's, in whose order grants are; None where the site cannot ask it."""
        return None

    def grants(self, since):
        """What the arbiter has granted after a revision: grants.Grant each, the oldest
        first."""
        return []

    def revision_at(self, turn):
        """One of the arbiter's that was surely not before the turn of that number in
        speakers() was heard; None: not known."""
        return None

    def begin_run(self):
        """What is kept and searched is of what happens from now on."""

    @abc.abstractmethod
    def secrets(self):
        """The pair's key as bytes, in every form in which it must not be found."""

    @abc.abstractmethod
    def arbiter_stop(self):
        """It hangs: connections to it stay open and nothing comes."""

    @abc.abstractmethod
    def arbiter_cont(self):
        """It goes on. Harmless where it did not hang."""

    @abc.abstractmethod
    def arbiter_restart(self, lose_state=False):
        """Killed and started; `lose_state` ("arbiter-loss"): with an empty disk."""

    @abc.abstractmethod
    def cut(self, *ways):
        """Ways are (link, source, target): what goes that way is lost from now on, all of
        them at once, until mend(). Neither node can tell it from a bad cable."""

    @abc.abstractmethod
    def shape(self, link, source, target, **what):
        """What goes that way fares like this from now on: SHAPE's keys; those that are left
        out are as on a good link. delay_ms and jitter_ms (a delay of delay_ms +- jitter_ms);
        loss, reorder, duplicate, corrupt: the probability for each frame; rate_kbit: kilobits
        a second, with a queue of what a cheap switch has, 0: as fast as it goes."""

    @abc.abstractmethod
    def mend(self):
        """Every link is good again: nothing cut, nothing shaped."""

    @abc.abstractmethod
    def artefacts(self):
        """Everything in which a secret could have come to light, as (name, bytes): logs,
        status, argv and environment of every process, and what went over both links between
        the nodes since start(). Yields them one after the other."""

    def clients_heard(self):
        """What went between clients and the guest, as bytes; None where nobody captures it."""
        return None

    def wire(self):
        """A Wire of all since begin_run(); None where nobody captures it."""
        return None

    @abc.abstractmethod
    def usage(self):
        """{node: {program: {"rss_kib", "fds", "threads"}}} of what runs of PROGRAMS now.
        Threads that come and go by themselves (io_uring's "iou-wrk-", GLib's "pool-") do not
        count."""

    @abc.abstractmethod
    def keep(self, directory):
        """Copies all evidence of what happened to a directory that is there: logs, status,
        what the listener heard."""

    # What follows from those.

    @property
    def primary(self):
        """The node that says that its guest is heard; None: neither, or both do."""
        found = [node for node in self.nodes
                 if (node.status() or {}).get("role") == "primary"]
        return found[0] if len(found) == 1 else None

    def other(self, node):
        return self.nodes[1 - list(self.nodes).index(node)]

    def protected(self):
        """Whether one node says that it is protected and the other one that it is standby."""
        return sorted(str(node.state) for node in self.nodes) == ["protected", "standby"]

    def wait_protected(self, seconds=120):
        return eventually(self.protected, seconds * self.slowness)

    def generation(self):
        """The highest that either node knows now; 0: neither answers."""
        return max((node.status() or {}).get("generation", 0) for node in self.nodes)

    def states(self):
        """For a reader."""
        return "; ".join(f"{node.name}: {describe(node)}" for node in self.nodes)


def describe(node):
    if not node.powered:
        return "off"
    status = node.status()
    if not status:
        return "no answer"
    return " ".join(str(status[key]) for key in ("state", "generation", "reason")
                    if status.get(key) is not None)


def eventually(condition, seconds):
    """Whether it becomes true in that time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            return bool(found)
        time.sleep(0.05)
