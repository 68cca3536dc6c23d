# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair and those who look at it: the two hosts of hosts.py, a client with an echo and one TCP
connection, a listener on the switch, and what must be true of them after each misfortune."""
import contextlib
import sys
import time
import traceback

import hosts
import visitors
from hosts import bed
from stalls import Stalls

check, note = bed.check, bed.note
QUIET_S = 1.5  # in which what must not happen would have happened
REPL_CUT = [("repl", "alpha", "beta"), ("repl", "beta", "alpha")]
LAN_CUT = [("lan", "alpha", "beta"), ("lan", "beta", "alpha")]
# For how many of the heartbeat's timeouts clients may wait: where nothing but silence tells that
# somebody is gone, and where whoever sees it is told at once.
BY_SILENCE, AT_ONCE = 5, 2
HELD_UP = 10  # and for how many times the longest that programs were held up meanwhile


class World:
    """The network, the pair that is there, and who looks at it."""

    def __init__(self):
        self.network = hosts.Network()
        self.listener = visitors.Listener(self.network)
        self.pair = self.echo = self.talk = self.sections = None
        self.failed = 0

    def new_pair(self, **sections):
        """Another one; nothing of it is started."""
        self.end_pair()
        if sections.get("arbiter", {}).get("type", "etcd") == "etcd" and \
                not self.network.start_etcd():
            raise Skipped("there is no etcd: install etcd-server")
        self.pair, self.sections = hosts.Pair(self.network, **sections), sections
        self.failed = bed.Results.failed
        return self.pair

    def visit(self):
        self.echo = visitors.Echo(self.network)
        self.talk = visitors.Talk(self.network)

    def protected(self, **sections):
        """A protected pair with visitors: the one that is there, where all went well."""
        if self.pair is None or self.sections != sections or not self.talk or \
                self.failed != bed.Results.failed or self.talk.error:
            self.new_pair(**sections).start()
        primary, standby = self.pair.protected()
        if not self.talk:
            self.visit()
        if not (self.talk.goes_on() and self.echo.is_heard()):
            raise RuntimeError(f"the guest does not answer: {self.talk.error}")
        self.turn = len(self.listener.turns) - 1
        return primary, standby

    def well(self, what, *speakers):
        """After `what`, when these hosts were heard in this order: all is as it was."""
        check(f"{what}: the pair is protected again by itself", self.pair.is_protected(),
              self.states())
        check(f"{what}: the TCP connection goes on", self.talk.goes_on(), self.talk.error)
        self.unharmed(what, *speakers)

    def unharmed(self, what, *speakers):
        names = [host.name for host in speakers]
        check(f"{what}: no answer was wrong", not self.echo.wrong and not self.talk.error,
              (self.echo.wrong[:3], self.talk.error))
        check(f"{what}: {' and then '.join(names)} spoke, never two of them",
              self.listener.speakers(self.turn) == names and not self.listener.lost(),
              (self.listener.turns[self.turn:], self.listener.lost()))

    def timeout_s(self):
        """Of the heartbeats of the pair that is there."""
        return self.pair.timeout_s()

    @contextlib.contextmanager
    def outage(self, what, timeouts=BY_SILENCE):
        """For a `with` at whose end the guest is heard again: what is done within costs clients a
        wait in proportion to the heartbeat's timeout, and to what this machine lost itself."""
        with Stalls() as stalls:
            begin = time.monotonic()
            yield
            waited_s, stood_s = self.echo.gap_s(begin), stalls.look() / 1000
        bound_s = timeouts * self.timeout_s() + HELD_UP * stood_s
        figures = f"outage {waited_s * 1000:.0f} ms of at most {bound_s * 1000:.0f}, programs " \
                  f"were held up for {stood_s * 1000:.0f} ms"
        note(figures)
        check(f"{what}: clients waited for no more than {timeouts} of the heartbeat's timeouts, "
              "and what programs were held up", waited_s <= bound_s, figures)

    def states(self):
        return "\n".join(f"{host.name}: {host.status()}" for host in self.pair.hosts)

    def is_quiet(self, seconds=QUIET_S):
        """Whether the guest is heard by nobody; what is on its way has some time."""
        time.sleep(0.2)
        begin = time.monotonic()
        time.sleep(seconds)
        return self.echo.silent_since(begin)

    def end_visit(self):
        if self.echo:
            self.echo.stop()
            self.talk.abandon()
        self.echo = self.talk = None

    def end_pair(self):
        self.end_visit()
        if self.pair:
            self.pair.end()
        self.pair = None

    def close(self):
        try:
            self.end_pair()
        finally:
            self.network.close()


class Skipped(Exception):
    pass


def run(world, tests):
    """Runs these, one after the other; each takes the world and leaves what it likes."""
    for test in tests:
        began, failed = time.monotonic(), bed.Results.failed
        name = test.__name__.replace("_", " ")
        note(name)
        try:
            test(world)
        except Skipped as reason:
            bed.skip(name, reason)
        except Exception as error:  # one broken test must not hide the others
            check(f"{name}: the test itself runs to its end", False,
                  f"{error}\n{traceback.format_exc(limit=-4)}")
        if bed.Results.failed > failed and world.pair:
            for host in world.pair.hosts:
                note(host.last_words())
        note(f"{test.__name__}: {time.monotonic() - began:.1f} s")


def main(tests):
    """The whole of a program: runs the tests that are named on the command line, or all."""
    began = time.monotonic()
    hosts.need()
    bed.stop_on_signals()
    world = World()
    try:
        run(world, bed.chosen(tests))
    finally:
        world.close()
    note(f"all: {time.monotonic() - began:.1f} s")
    sys.exit(bed.verdict())
