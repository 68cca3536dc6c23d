# SPDX-License-Identifier: GPL-2.0-or-later
"""What can happen to a pair: the catalogue that schedules draw from.

A Misfortune has a kind (site_base.KINDS) that a site must be capable of, and draws an Act from
a random generator and the roles that the nodes have when the run begins. An Act says in a
reader's words what will happen, which nodes' copies of the guest it can cost, and does it:
do(course) once, and undo(course) either `lasts_s` later or when everything is healed; a course
(schedule.py) has the site and knows what else is cut now. What it costs decides what may be
expected of the pair: while one copy is whole, the guest must go on, whatever else happens.

do() returns False where it found nothing to harm (a program that does not run, a host that is
off, an order that was refused); then nothing is undone before everything is healed. undo() may
be called twice, and is called on hosts that have meanwhile lost their power.
"""
import dataclasses
import math
import signal
import time
import typing

from site_base import PROGRAMS, eventually

# How long things are stopped, in seconds; the heartbeat's timeout is 1 s.
SHORT, LONG = (0.1, 0.3, 0.7), (1.5, 3, 6, 10)
QUIET_S = 0.3  # in which what a comparator had let go may still reach the listener
TALKS_S = 1.0  # a guest with a client says something at least that often
FLAP_S = 8.0  # how long a link comes and goes
TOLD_S = 60  # in which an arbiter can be told anew


@dataclasses.dataclass(eq=False)  # two that are alike are two
class Act:
    text: str
    do: typing.Callable
    undo: typing.Callable = None
    lasts_s: float = None  # None: where there is an undo, until everything is healed
    costs: frozenset = frozenset()  # names of the nodes whose copy of the guest may be lost
    times: int = 1  # how often, with as much time between as it lasts
    # What it takes away and puts right again: two that hold the same are not for one time, or
    # the end of the one would be the end of the other.
    holds: frozenset = frozenset()
    takes_s: float = 0  # how long do() itself takes
    alone: bool = False  # what must be true of the pair is known only if nothing else happens
    asks: str = ""  # the property that it asks itself, each time that it does harm
    name: str = ""  # of the misfortune
    found: list = dataclasses.field(default_factory=list)  # violations that it saw itself

    def end_s(self, begin_s):
        """When it is over that begins then."""
        if self.undo and self.lasts_s is None:
            return math.inf
        return begin_s + max(self.takes_s, (self.lasts_s or 0) * (2 * self.times - 1))


@dataclasses.dataclass
class Roles:
    """Who is what when a run begins."""

    primary: object
    standby: object

    def draw(self, rng):
        """A role and its node."""
        role = rng.choice(("primary", "standby"))
        return role, getattr(self, role)

    @property
    def both(self):
        return frozenset((self.primary.name, self.standby.name))


def copies(node, *programs):
    """Whose copy is lost with these programs: without colod nobody makes use of it."""
    return frozenset([node.name] if {"colo-vm", "colod"} & set(programs) else [])


def still(node, *programs):
    """What is held of a node by what stops programs and lets them go on."""
    return frozenset((node.name, program) for program in programs or PROGRAMS)


def is_taken(result):
    """Whether an order was: it was carried out, or given up meanwhile."""
    given_up = 124
    return result.status in (0, given_up)


def length(rng):
    return rng.choice(SHORT if rng.random() < 0.5 else LONG) * rng.uniform(0.8, 1.2)


# Programs.


def kill(rng, roles):
    role, node = roles.draw(rng)
    program = rng.choice(PROGRAMS)
    return Act(f"{program} of the {role} is killed",
               lambda _: node.signal(program, signal.SIGKILL),
               costs=copies(node, program))


def kill_two(rng, roles):
    role, node = roles.draw(rng)
    programs = rng.sample(PROGRAMS, 2)
    return Act(f"{' and '.join(programs)} of the {role} are killed",
               lambda _: any([node.signal(program, signal.SIGKILL) for program in programs]),
               costs=copies(node, *programs))


def stop(rng, roles):
    role, node = roles.draw(rng)
    program, seconds = rng.choice(PROGRAMS), length(rng)
    return Act(f"{program} of the {role} is stopped for {seconds:.1f} s",
               lambda _: not node.starving and node.freeze(program),
               lambda _: node.thaw(program), seconds, copies(node, program),
               holds=still(node, program))


def comparator_away(rng, roles):
    """Killed while nobody can start it again: nothing of the guest may be heard. That is asked
    only where it was heard just before: a guest that is silent anyway proves nothing. What is
    stopped here is not to be continued by anybody else: it is done and undone in one go."""
    node, seconds = roles.primary, rng.uniform(0.3, 0.8)
    act = Act(f"the primary has no comparator, and no colod to start one, for {seconds:.1f} s",
              None, holds=still(node, "colod", "colo-netcompare"), takes_s=QUIET_S + seconds,
              asks="P9")

    def do(course):
        # Who is starved is also continued all the time.
        if node.starving or node.state != "protected" or not node.freeze("colod"):
            return False
        killed_at = time.monotonic()
        killed = node.signal("colo-netcompare", signal.SIGKILL)
        if killed:
            before = course.site.last_heard(node)
            time.sleep(QUIET_S)
            begin = time.monotonic()
            time.sleep(seconds)
            heard = course.site.last_heard(node)
            if heard and heard > begin:
                act.found.append(f"P9: {node.name} was heard {heard - killed_at:.3f} s after "
                                 "its comparator was killed")
        node.thaw("colod")
        return killed and bool(before) and before > killed_at - TALKS_S * course.site.slowness

    act.do = do
    return act


# Hosts.


def power(rng, roles):
    role, node = roles.draw(rng)
    seconds = rng.choice((None, None, 0.2, 1, 3))
    return Act(f"the {role}'s host loses power" + (f" for {seconds:g} s" if seconds else ""),
               lambda _: node.power_off(), lambda _: node.boot(), seconds,
               frozenset([node.name]))


def freeze(rng, roles):
    role, node = roles.draw(rng)
    seconds = length(rng)
    return Act(f"the {role}'s host stands still for {seconds:.1f} s",
               lambda _: not node.starving and node.freeze(), lambda _: node.thaw(), seconds,
               frozenset([node.name]), holds=still(node))


def starve(rng, roles):
    role, node = roles.draw(rng)
    seconds = rng.uniform(0.5, 4)
    return Act(f"the {role}'s host gets a fifth of its processors for {seconds:.1f} s",
               lambda _: node.powered and not node.starving and node.starve("cpu", seconds),
               lasts_s=seconds, costs=frozenset([node.name]), holds=still(node))


def starve_of_memory(rng, roles):
    role, node = roles.draw(rng)
    seconds = rng.uniform(0.5, 4)
    return Act(f"the {role}'s host has hardly any memory left for {seconds:.1f} s",
               lambda _: node.powered and node.starve("memory", seconds), lasts_s=seconds,
               costs=frozenset([node.name]), holds=frozenset([(node.name, "memory")]))


def step_clock(rng, roles):
    role, node = roles.draw(rng)
    by_s = rng.choice((-1, 1)) * rng.choice((0.5, 5, 3600, 86400))
    seconds, stepped = lasting(rng), []

    def do(_):
        if not node.powered or not node.step_clock(by_s):
            return False
        stepped.append(by_s)
        return True

    def undo(_):
        while stepped:
            node.step_clock(-stepped.pop())

    return Act(f"the clock of the {role}'s host steps by {by_s:g} s{for_seconds(seconds)}",
               do, undo, seconds, holds=frozenset([(node.name, "clock")]))


def full(what):
    def draw(rng, roles):
        role, node = roles.draw(rng)
        seconds = rng.uniform(0.5, 4)
        return Act(f"no room for the {role}'s {what} for {seconds:.1f} s",
                   lambda _: node.disk_full(what), lambda _: node.disk_free(what),
                   seconds, frozenset([node.name] if what == "state" else []),
                   holds=frozenset([(node.name, what)]))
    return draw


# Disks of the guest's.


def disk(text, harm, alone=False):
    """`harm(node, rng)` gives words, and what does it."""
    def draw(rng, roles):
        role, node = roles.draw(rng)
        seconds = rng.uniform(0.5, 4)
        words, do = harm(node, rng)
        return Act(f"the guest's disk of the {role} {text}{words} for {seconds:.1f} s", do,
                   lambda _: node.disk_good(), seconds, frozenset([node.name]),
                   holds=frozenset([(node.name, "disk")]), alone=alone)
    return draw


def failing(node, rng):
    what = rng.choice(("write", "all"))
    return "writes" if what == "write" else "everything", lambda _: node.disk_fails(what)


def slow(node, rng):
    delay_ms = rng.choice((5, 20, 100, 1000))
    return f"{delay_ms} ms", lambda _: node.disk_slow(delay_ms)


# Who has to write and can not, and has nobody to go to, is told: so nothing else may happen.
disk_fails = disk("refuses ", failing, alone=True)
disk_is_full = disk("takes no more", lambda node, rng: ("", lambda _: node.disk_full("disk")),
                    alone=True)
disk_is_slow = disk("makes each request wait ", slow)
disk_hangs = disk("hangs", lambda node, rng: ("", lambda _: node.disk_hangs()))


# Links.


def ways_between(link, nodes, rng):
    """Both ways, or one of them; and in words."""
    one, other = nodes
    kind = rng.choice(("both", "both", "to", "from"))
    words = {"both": "both ways", "to": f"to the {other}", "from": f"from the {other}"}
    return {"both": [(link, one, other), (link, other, one)], "to": [(link, one, other)],
            "from": [(link, other, one)]}[kind], words[kind]


def named(roles, ways):
    """The ways with nodes' names for roles."""
    names = {"primary": roles.primary.name, "standby": roles.standby.name,
             "client": "client"}
    return [(link, names[source], names[target]) for link, source, target in ways]


def lasting(rng):
    return rng.choice((None, None, 0.3, 1, 2, 4))


def for_seconds(seconds):
    return f" for {seconds:g} s" if seconds else ""


def cut(rng, roles):
    link, seconds = rng.choice(("repl", "repl", "lan")), lasting(rng)
    ways, words = ways_between(link, ("primary", "standby"), rng)
    ways = named(roles, ways)
    return Act(f"{link} between the nodes is cut {words}{for_seconds(seconds)}",
               lambda course: course.cut(*ways), lambda course: course.uncut(*ways), seconds,
               frozenset([roles.standby.name] if link == "repl" else []))


def cut_all(rng, roles):
    """Between the nodes, and maybe between nodes and arbiter."""
    seconds = lasting(rng)
    ways, words = ways_between("repl", ("primary", "standby"), rng)
    ways += [("lan", source, target) for _, source, target in ways]
    reached = rng.choice((("primary", "standby"), ("primary",), ("standby",), ()))
    for role in {"primary", "standby"} - set(reached):
        ways += [("lan", role, "client"), ("lan", "client", role)]
    ways = named(roles, sorted(ways))
    return Act(f"all links between the nodes are cut {words}, the arbiter is reached by "
               f"{' and '.join(reached) or 'neither'}{for_seconds(seconds)}",
               lambda course: course.cut(*ways), lambda course: course.uncut(*ways), seconds,
               roles.both)


def cut_arbiter(rng, roles):
    role, node = roles.draw(rng)
    seconds = lasting(rng)
    ways = named(roles, [("lan", role, "client"), ("lan", "client", role)])
    return Act(f"the {role} and the arbiter are cut from each other{for_seconds(seconds)}",
               lambda course: course.cut(*ways), lambda course: course.uncut(*ways), seconds)


def flap(rng, roles):
    """A link that comes and goes: do() and undo() in turn, `times` times."""
    link, period = rng.choice(("repl", "lan")), rng.uniform(0.1, 1.0)
    most = int((FLAP_S / period + 1) / 2)
    ways, words = ways_between(link, ("primary", "standby"), rng)
    ways = named(roles, ways)
    return Act(f"{link} between the nodes comes and goes {words}, every {period:.1f} s",
               lambda course: course.cut(*ways), lambda course: course.uncut(*ways), period,
               frozenset([roles.standby.name] if link == "repl" else []),
               times=rng.randint(2, min(8, most)))


SHAPES = {
    "slow by {delay_ms} ms +- {jitter_ms} ms": lambda rng: {
        "delay_ms": (delay := rng.choice((1, 5, 20, 100, 200))),
        "jitter_ms": delay // rng.choice((2, 5))},
    "losing {loss:.0%}": lambda rng: {"loss": rng.choice((0.01, 0.05, 0.2))},
    "out of order by {reorder:.0%}": lambda rng: {"reorder": 0.25},
    "doubling {duplicate:.0%}": lambda rng: {"duplicate": rng.choice((0.01, 0.25))},
    "corrupting {corrupt:.1%}": lambda rng: {"corrupt": rng.choice((0.001, 0.01, 0.1))},
    "squeezed to {rate_kbit} kbit/s": lambda rng: {"rate_kbit": rng.choice((1000, 10000,
                                                                            100000))},
}


def shape(rng, roles):
    link, seconds = rng.choice(("repl", "repl", "lan")), lasting(rng)
    ways, words = ways_between(link, ("primary", "standby"), rng)
    ways = named(roles, ways)
    text = rng.choice(sorted(SHAPES))
    what = SHAPES[text](rng)
    return Act(f"{link} between the nodes is {text.format(**what)} "
               f"{words}{for_seconds(seconds)}",
               lambda course: [course.shape(*way, **what) for way in ways],
               lambda course: course.unshape(*ways), seconds,
               frozenset([roles.standby.name] if link == "repl" else []))


def shape_clients(rng, roles):
    """What clients and the nodes say to each other, the guest's packets with it."""
    role, _ = roles.draw(rng)
    ways, words = ways_between("lan", ("client", role), rng)
    ways, seconds = named(roles, ways), lasting(rng)
    text = rng.choice(sorted(SHAPES))
    what = SHAPES[text](rng)
    return Act(f"lan between clients and the {role} is {text.format(**what)} "
               f"{words}{for_seconds(seconds)}",
               lambda course: [course.shape(*way, **what) for way in ways],
               lambda course: course.unshape(*ways), seconds)


# The arbiter.


def arbiter(rng, roles):
    seconds = lasting(rng)
    return Act(f"the arbiter hangs{for_seconds(seconds)}",
               lambda course: course.site.arbiter_stop(),
               lambda course: course.site.arbiter_cont(), seconds,
               holds=frozenset(["arbiter"]))


def arbiter_restart(rng, roles):
    return Act("the arbiter is killed and started", lambda course: course.site.arbiter_restart(),
               holds=frozenset(["arbiter"]))


def arbiter_forgets(rng, roles):
    """Nobody's role changes by that. Who goes on next it does not say, until somebody tells it
    anew: the primary's operator, once the guest runs there alone, and in nobody's stead."""
    def tell_anew(course):
        primary = course.site.primary
        if not primary:
            return  # whoever judges sees it
        standby = course.site.other(primary)
        standby.colo("stand-down", seconds=30)
        if eventually(lambda: primary.colo("promote", "--force", "--yes").status == 0, TOLD_S):
            course.say(f"{primary.name}'s operator told the arbiter anew")
        standby.colo("start", seconds=30)

    return Act("the arbiter comes back without its memory, and is told anew at the end",
               lambda course: course.site.arbiter_restart(lose_state=True), tell_anew,
               costs=frozenset([roles.standby.name]), holds=frozenset(["arbiter"]), alone=True)


# Orders.


def order(rng, roles):
    role, node = roles.draw(rng)
    words = rng.choice((["switchover"], ["switchover"], ["checkpoint"]))
    seconds = rng.uniform(0.05, 1)
    return Act(f"colo {words[0]} on the {role}, given up after {seconds:.2f} s",
               lambda _: node.powered and is_taken(node.colo(*words, seconds=seconds)),
               # Who hands over is filled anew.
               costs=frozenset([roles.primary.name] if words == ["switchover"] else []),
               takes_s=seconds)


def stand_down(rng, roles):
    role, node = roles.draw(rng)
    seconds = rng.uniform(0.5, 3)
    return Act(f"the {role} stands down, and is started after {seconds:.1f} s",
               lambda _: node.powered and is_taken(node.colo("stand-down", seconds=3)),
               lambda _: node.powered and node.colo("start", seconds=20),
               seconds, frozenset([node.name]))


@dataclasses.dataclass
class Misfortune:
    name: str
    kind: str  # what the site has to be able to do
    weight: int
    draw: typing.Callable  # an Act, of a random.Random and Roles


CATALOGUE = [
    Misfortune("a program is killed", "signal", 8, kill),
    Misfortune("two programs are killed", "signal", 2, kill_two),
    Misfortune("a program is stopped", "freeze", 5, stop),
    Misfortune("no comparator", "freeze", 5, comparator_away),
    Misfortune("a host loses power", "power", 6, power),
    Misfortune("a host stands still", "freeze", 4, freeze),
    Misfortune("a host is starved", "starve-cpu", 2, starve),
    Misfortune("no room for state", "full-state", 2, full("state")),
    Misfortune("no room for logs", "full-log", 1, full("log")),
    Misfortune("a host is short of memory", "starve-memory", 2, starve_of_memory),
    Misfortune("a clock steps", "clock", 2, step_clock),
    Misfortune("a disk fails", "disk", 2, disk_fails),
    Misfortune("a disk is full", "full-disk", 1, disk_is_full),
    Misfortune("a disk is slow", "disk", 2, disk_is_slow),
    Misfortune("a disk hangs", "disk", 1, disk_hangs),
    Misfortune("a link is cut", "cut", 5, cut),
    Misfortune("all links are cut", "cut", 4, cut_all),
    Misfortune("no way to the arbiter", "cut", 2, cut_arbiter),
    Misfortune("a link comes and goes", "cut", 2, flap),
    Misfortune("a link is bad", "shape", 5, shape),
    Misfortune("the clients' link is bad", "shape", 2, shape_clients),
    Misfortune("the arbiter hangs", "arbiter", 3, arbiter),
    Misfortune("the arbiter is restarted", "arbiter", 2, arbiter_restart),
    Misfortune("the arbiter forgets", "arbiter-loss", 1, arbiter_forgets),
    Misfortune("an order", "signal", 4, order),
    Misfortune("a node stands down", "signal", 2, stand_down),
]


def draw(rng, roles, can):
    """One of those that a site can do."""
    possible = [each for each in CATALOGUE if each.kind in can]
    chosen = rng.choices(possible, [each.weight for each in possible])[0]
    act = chosen.draw(rng, roles)
    act.name = chosen.name
    return act
