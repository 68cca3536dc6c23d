# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pair lives through, and what may happen to a host at a labelled step of it.

The programs of each host are the builds with steps (base/fault.h), under their usual names
in a directory of the host's own: so the file that arms a step is the host's.
"""
import collections
import json
import os
import shutil
import socket
import sys
import threading
import time

PAIRS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "pairs")
sys.path.insert(0, PAIRS)
import grants  # noqa: E402
import hosts  # noqa: E402
import pairs  # noqa: E402
import visitors  # noqa: E402
from hosts import bed  # noqa: E402
from world import LAN_CUT, REPL_CUT, World  # noqa: E402

PROGRAMS = ("colo-vm", "colod", "colo-netcompare", "colo-heartbeat")
SOON_S = 0.3
FOR_S = 3  # how long what stands still stands still: longer than any deadline of the pair
BUSY = ("blkbg 40 0 wild", "dirty 100 200 3", "clockwatch start", "timer 50")
LIFE_S = 60  # in which a life gets as far as it does


def give_programs(host):
    """The builds with steps, beside which the host's steps are armed. colo-heartbeat, which is
    nobody's process, has to get there."""
    host.programs = os.path.join(host.dir, "bin")
    os.makedirs(host.programs, exist_ok=True)
    os.chmod(host.network.dir, 0o711)
    os.chmod(host.programs, 0o777)
    for name in (*PROGRAMS, "colo"):
        source = os.path.join(bed.BUILD, name + ("" if name == "colo" else "-faults"))
        target = os.path.join(host.programs, name)
        if os.path.exists(target):
            continue
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)


def forget(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


class Armed:
    """A step of a program that is armed on a host; `action` as base/fault.h has it."""

    def __init__(self, host, program, step, nth, action):
        self.path = os.path.join(host.programs, "faults")
        forget(self.path + ".reached")
        forget(self.path + ".tell")
        self.listening = self.talking = None
        if action == "tell":
            self.listening = socket.socket(socket.AF_UNIX)
            self.listening.bind(self.path + ".tell")
            os.chmod(self.path + ".tell", 0o777)
            self.listening.listen(1)
            self.listening.settimeout(hosts.PATIENCE_S)
        with open(self.path + ".new", "w") as file:
            file.write(f"{program} {step} {nth} {action}\n")
        os.rename(self.path + ".new", self.path)

    def is_reached(self):
        return os.path.exists(self.path + ".reached")

    def wait(self, over):
        """Whether it is reached before it is over."""
        while not self.is_reached():
            if over():
                return self.is_reached()
            time.sleep(0.005)
        if self.listening:
            self.talking = self.listening.accept()[0]
        return True

    def let_go(self):
        """Whoever waits at the step goes on; nobody else stops there."""
        forget(self.path)
        for sock in (self.talking, self.listening):
            if sock:
                sock.close()


class Watched:
    """Which steps the programs of a host reach from now on."""

    number = 0

    def __init__(self, host):
        Watched.number += 1
        self.path = os.path.join(host.programs, "faults.seen")
        if os.path.exists(self.path):  # its inode must not be the next one's
            os.rename(self.path, f"{self.path}.{Watched.number}")
        open(self.path, "w").close()
        os.chmod(self.path, 0o666)

    def steps(self):
        with open(self.path) as file:
            return {tuple(line.split()) for line in file}


# What may happen at a step.


def kill(world, host, program, armed):
    """It was its own hand. colod is started again by whoever looks after it; the rest by colod."""
    if program == "colod":
        host.colod.wait()
        time.sleep(SOON_S)
        host.start()


def stop(world, host, program, armed):
    time.sleep(FOR_S)
    host.thaw(program)


def power_off(world, host, program, armed):
    host.power_off()
    armed.let_go()
    time.sleep(FOR_S)
    host.boot()


def cut(world, host, program, armed):
    world.network.cut(*REPL_CUT, *LAN_CUT)
    armed.let_go()
    time.sleep(FOR_S)
    world.network.mend()


def freeze(world, host, program, armed):
    host.freeze()
    armed.let_go()
    time.sleep(FOR_S)
    host.thaw()


Misfortune = collections.namedtuple("Misfortune", "do action ends_guest")
MISFORTUNES = {
    "kill": Misfortune(kill, "kill", lambda program: program == "colo-vm"),
    "stop": Misfortune(stop, "stop", lambda program: False),
    "off": Misfortune(power_off, "tell", lambda program: True),
    "cut": Misfortune(cut, "tell", lambda program: False),
    "freeze": Misfortune(freeze, "tell", lambda program: False),
}


# Lives.


def nothing_happens(world, primary, standby):
    time.sleep(2)


def a_checkpoint_is_asked_for(world, primary, standby):
    primary.colo("checkpoint")


def it_is_handed_over(world, primary, standby):
    primary.colo("switchover")


def the_standby_asks_for_it(world, primary, standby):
    standby.colo("switchover")


def the_secondary_is_lost(world, primary, standby):
    standby.kill("colo-vm")
    time.sleep(SOON_S)


def the_link_is_lost(world, primary, standby):
    world.network.cut(*REPL_CUT)
    hosts.eventually(lambda: primary.state == "solo", 10)
    world.network.mend()


def all_links_are_lost(world, primary, standby):
    world.network.cut(*REPL_CUT, *LAN_CUT)
    hosts.eventually(lambda: "solo" in (primary.state, standby.state), 10)
    world.network.mend()


def the_standby_is_frozen(world, primary, standby):
    standby.freeze()
    time.sleep(FOR_S)
    standby.thaw()


def colod_ends(host):
    host.kill_colod()
    time.sleep(SOON_S)
    host.start()
    time.sleep(1)


def the_primarys_colod_ends(world, primary, standby):
    colod_ends(primary)


def the_standbys_colod_ends(world, primary, standby):
    colod_ends(standby)


def colod_ends_in_a_sync(world, primary, standby):
    standby.kill("colo-vm")
    hosts.eventually(lambda: primary.state == "syncing", 10)
    colod_ends(primary)


def netcompare_ends(world, primary, standby):
    primary.kill("colo-netcompare")
    time.sleep(1)


def heartbeats_end(world, primary, standby):
    for host in (primary, standby):
        host.kill("colo-heartbeat")
    time.sleep(2)


def the_primary_is_lost(world, primary, standby):
    primary.kill("colo-vm")
    time.sleep(SOON_S)


def the_primary_is_lost_and_the_arbiter_hangs(world, primary, standby):
    """So that the one asks the other whether it may go on."""
    world.network.etcd_frozen(True)
    primary.kill("colo-vm")
    hosts.eventually(lambda: standby.state in ("solo", "protected"), 15)
    world.network.etcd_frozen(False)


def their_machines_part_and_the_arbiter_hangs(world, primary, standby):
    """So that each asks the other, of which one says no."""
    world.network.etcd_frozen(True)
    world.network.cut_port(hosts.REPLICATION_PORT)
    hosts.eventually(lambda: "solo" in (primary.state, standby.state), 15)
    world.network.etcd_frozen(False)
    world.network.mend()


def the_primary_loses_power(world, primary, standby):
    primary.power_off()
    hosts.eventually(lambda: standby.state == "solo", 15)
    primary.boot()


def the_primary_is_frozen(world, primary, standby):
    primary.freeze()
    hosts.eventually(lambda: standby.state == "solo", 15)
    primary.thaw()


def the_primary_is_frozen_alone(world, primary, standby):
    """Only its machine: its colod agrees that the other node goes on."""
    primary.freeze("colo-vm")
    hosts.eventually(lambda: standby.state == "solo", 15)


def the_primary_stands_down(world, primary, standby):
    primary.colo("stand-down")
    primary.colo("start")


def the_standby_stands_down(world, primary, standby):
    standby.colo("stand-down")
    standby.colo("start")


def it_is_stopped(world, primary, standby):
    primary.colo("stop", "--force")
    standby.colo("start")


def the_standby_stops_it(world, primary, standby):
    standby.colo("stop", "--force")
    primary.colo("start")


def both_lose_power(world, primary, standby):
    for host in (primary, standby):
        host.power_off()
    for host in (primary, standby):
        host.boot()


def both_lose_power_and_come_the_other_way_round(world, primary, standby):
    for host in (primary, standby):
        host.power_off()
    standby.boot()
    hosts.eventually(lambda: standby.state == "waiting", 15)
    time.sleep(1)
    primary.boot()


def it_begins(world, primary, standby):
    """Of a new pair, which nobody has started yet."""
    primary.start()
    standby.start()


# What is done; how often another node may take the word in it; of which side's machine the death
# may be the guest's, since the other side has none then, or none any more; how it begins.
Life = collections.namedtuple("Life", "live moves sole anew guest_ends",
                              defaults=(0, "", False, False))
LIVES = [
    Life(nothing_happens),
    Life(a_checkpoint_is_asked_for),
    Life(netcompare_ends),
    Life(heartbeats_end),
    Life(it_is_handed_over, 1, "S"),
    Life(the_standby_asks_for_it, 1, "S"),
    Life(the_secondary_is_lost, 0, "P"),
    Life(the_link_is_lost, 0, "P"),
    Life(all_links_are_lost, 1, "PS"),
    Life(the_standby_is_frozen, 0, "P"),
    Life(the_primarys_colod_ends),
    Life(the_standbys_colod_ends),
    Life(colod_ends_in_a_sync, 0, "P"),
    Life(the_primary_is_lost, 1, "S"),
    Life(the_primary_is_lost_and_the_arbiter_hangs, 1, "S"),
    Life(their_machines_part_and_the_arbiter_hangs, 1, "PS"),
    Life(the_primary_loses_power, 1, "S"),
    Life(the_primary_is_frozen, 1, "S"),
    Life(the_primary_is_frozen_alone, 1, "S"),
    Life(the_primary_stands_down, 1, "S"),
    Life(the_standby_stands_down, 0, "P"),
    Life(it_is_stopped, 1, "PS", guest_ends=True),
    Life(the_standby_stops_it, 1, "PS", guest_ends=True),
    Life(both_lose_power, 1, "PS", guest_ends=True),
    Life(both_lose_power_and_come_the_other_way_round, 1, "PS", guest_ends=True),
    Life(it_begins, 0, "PS", anew=True, guest_ends=True),
]
BY_NAME = {life.live.__name__: life for life in LIVES}


class Lives(World):
    """A world whose hosts have steps, and a pair that lives in it again and again."""

    def __init__(self):
        super().__init__()
        self.persons = 0  # how often one was needed
        # Where the kernel tries each second, the usual 15 tries are too soon over.
        self.network.client.call(self.network.set_knob, "net/ipv4/tcp_retries2", "200")

    def new_pair(self, **sections):
        pair = super().new_pair(**sections)
        for host in pair.hosts:
            give_programs(host)
        return pair

    def visit(self):
        """And the guest is kept busy: what it has on its disk and in its memory can be judged."""
        super().visit()
        self.busy()

    def busy(self):
        pairs.keep_busy(self, BUSY)

    def ask(self, line):
        """What the guest says to a command; it may take its time."""
        deadline = time.monotonic() + hosts.PATIENCE_S
        while time.monotonic() < deadline:
            with self.network.client.call(self.make_socket) as sock:
                try:
                    sock.send(line.encode())
                    answer = sock.recv(2048).decode(errors="replace").strip()
                    if answer != "error busy":
                        return answer
                except OSError:
                    pass  # it was lost
                time.sleep(SOON_S)
        return None

    @staticmethod
    def make_socket():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((hosts.GUEST, visitors.COMMANDS))
        sock.settimeout(5)
        return sock

    def do(self, line):
        said = []

        def is_done():
            said[:] = [self.ask(line)]
            return (said[0] or "").startswith("ok")

        if not hosts.eventually(is_done):
            raise RuntimeError(f"the guest says to \"{line}\": {said[0]}")

    def begin(self, life):
        """The primary and the standby of what is to live so."""
        self.revision = 0
        if life.anew:
            self.turn = len(self.listener.turns)
            pair = self.new_pair()
            return pair.alpha, pair.beta
        primary, standby = self.protected()
        self.revision = grants.etcd_of(self.pair).revision()
        if life.guest_ends:
            self.end_visit()
        return primary, standby

    def watch(self, life):
        """What each side reaches in a life: {side: {(program, step)}}."""
        primary, standby = self.begin(life)
        watched = {"P": Watched(primary), "S": Watched(standby)}
        life.live(self, primary, standby)
        self.set_right(life)
        self.wait_until_well()
        return {side: each.steps() for side, each in watched.items()}

    def wait_until_well(self):
        if not self.pair.is_protected():
            raise RuntimeError("not protected again:\n" + self.states())
        if not self.talk:
            self.visit()
        if not self.talk.goes_on():
            raise RuntimeError(f"the connection does not go on: {self.talk.error}")
        time.sleep(SOON_S)

    def set_right(self, life):
        """What whoever looks after hosts does: cables, power, programs that systemd starts."""
        self.network.mend()
        self.network.etcd_frozen(False)
        for host in self.pair.hosts:
            if not host.powered:
                host.boot()
            host.thaw()
            if host.colod is None or host.colod.poll() is not None:
                host.start()
        if life.guest_ends or "stand" in life.live.__name__:
            hosts.eventually(self.nobody_is_stopped, 30)

    def nobody_is_stopped(self):
        """Whoever stopped it orders it to start again, if it was not heard before."""
        states = [host.state for host in self.pair.hosts]
        for host, state in zip(self.pair.hosts, states):
            if state == "stopped":
                host.colo("start")
        return None not in states and "stopped" not in states

    def endure(self, life, side, program, step, nth, misfortune):
        """A life in which this happens at that step: whether it was reached, and what is
        wrong after it."""
        kind = MISFORTUNES[misfortune]
        primary, standby = self.begin(life)
        host = primary if side == "P" else standby
        armed = Armed(host, program, step, nth, kind.action)
        living = threading.Thread(target=self.live, args=(life, primary, standby))
        began = time.monotonic()
        living.start()
        try:
            reached = armed.wait(lambda: self.is_past(living, began))
            if reached:
                kind.do(self, host, program, armed)
        finally:
            armed.let_go()
        living.join(2 * hosts.PATIENCE_S)
        if living.is_alive():
            raise RuntimeError(f"{life.live.__name__} does not end")
        self.set_right(life)
        wrong = self.judge(life, side, kind.ends_guest(program))
        return reached, wrong

    def live(self, life, primary, standby):
        try:
            life.live(self, primary, standby)
        except (OSError, RuntimeError, ValueError) as error:
            # what it does it does to a pair to which worse is done
            bed.note(f"{life.live.__name__}: {error}")

    def is_past(self, living, began):
        """Whether the pair is what it was before, after a life."""
        return not living.is_alive() and (
            self.pair.is_protected(0) or time.monotonic() - began > LIFE_S)

    def judge(self, life, side, guest_may_end):
        may_end = life.guest_ends or (guest_may_end and side in life.sole)
        moves = life.moves + 1 + may_end
        wrong = []
        if may_end:
            self.ask_a_person()
        if not self.pair.is_protected():
            wrong.append("not protected again:\n" + self.states())
        if self.echo and self.echo.wrong:
            wrong.append(f"wrong answers: {self.echo.wrong[:3]}")
        if self.talk and not self.talk.goes_on():
            if not may_end:
                wrong.append(f"the connection does not go on: {self.talk.error}")
            self.end_visit()
        if not wrong:
            wrong += self.judge_guest()
        turns = self.listener.turns[self.turn:]
        if len(turns) > moves + 1:
            wrong.append(f"more have the word than may: {turns}")
        unearned = self.unearned(life, [who for _, who, _ in turns])
        if unearned:
            wrong.append(unearned)
        if self.listener.lost():
            wrong.append("the listener did not hear all")
        return wrong

    def unearned(self, life, who):
        """Whoever had the word was granted it, after those who had it before. What the nodes
        agreed on they have told the arbiter by the time they are protected."""
        before = [None] if life.anew else []  # of a new pair the first one, too
        return grants.unearned(before + who, grants.etcd_of(self.pair).history(self.revision))

    def ask_a_person(self):
        """Where a node was promoted and its machine died before what had been committed was on
        its disks, neither copy is surely the better one: the nodes wait, and say so. Here the
        person takes the one that was left. So they do where one was to go on and had not written
        that down: the person takes that of the primary."""
        def has_settled():
            return self.pair.is_protected(0) or self.given_up() or self.undecided()

        hosts.eventually(has_settled)
        if self.pair.is_protected(0):
            return
        host, chosen = self.given_up(), self.undecided()
        if host:
            said, chosen = json.dumps(host.status()), self.pair.other(host)
            if "may be better" not in said:
                raise RuntimeError(f"it does not say why it waits: {said}")
        if chosen:
            self.persons += 1
            chosen.colo("promote", "--force", "--yes")

    def given_up(self):
        """The host that waits with disks of which it does not know whether they have all."""
        for host in self.pair.hosts:
            status = host.status() or {}
            if (status.get("state"), status.get("part")) == ("waiting", "promoted"):
                return host
        return None

    def undecided(self):
        """The host that was the primary last, where neither knows whether its copy counts: it is
        it still in its record, or has agreed to another's next generation."""
        known = [(status.get("part") == "primary", status.get("generation"), host.name, host)
                 for host in self.pair.hosts for status in [host.status() or {}]
                 if "neither this node" in str(status.get("reason"))
                 and status.get("part") != "none"]
        return max(known)[-1] if known else None

    def judge_guest(self):
        """What is wrong with the guest that is there now."""
        if self.talk:
            wrong = pairs.faults_of_guest(self)
            self.busy()
            return wrong
        # A new one: it does not know what the one before it wrote, nor shall it be asked again.
        super().visit()
        goes_on = self.talk.goes_on()
        self.sections = None
        return [] if goes_on else [f"no new connection: {self.talk.error}"]
