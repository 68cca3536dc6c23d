#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a client hears nothing: when the primary's host loses power, when its colo-vm is
killed, and when an operator switches over; and how long colod takes to say its status.

Each outage is the longest gap between two answers of a UDP echo that is asked for every
millisecond, from the event on; beside it stands the longest gap of an undisturbed time of
the same length, right before, by the same client. RUNS (50) of each; both nodes and the client
share this machine, and whatever else runs on it.
"""
import os
import sys
import time

import hosts
import visitors
from hosts import bed

RUNS = int(os.environ.get("RUNS") or 50)
PERIOD_S = 0.001
LOOK_S = 0.6  # at least: from an event until the guest has surely been heard again
TIMEOUT_MS = 300
ETCD = {"heartbeat": {"interval": "50ms", "timeout": f"{TIMEOUT_MS}ms"}}


def part(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values):
    return (f"p50 {part(values, 0.5):7.1f}  p99 {part(values, 0.99):7.1f}  "
            f"max {max(values):7.1f} ms")


def load():
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


class Bench:
    def __init__(self):
        self.network = hosts.Network()
        self.network.start_etcd()
        self.pair = hosts.Pair(self.network, **ETCD)
        self.pair.start()
        self.pair.protected()
        self.echo = visitors.Echo(self.network, PERIOD_S)

    def quiet(self):
        """A protected pair whose guest is heard, for a while."""
        primary, standby = self.pair.protected()
        if not self.echo.is_heard():
            raise RuntimeError("the guest is not heard")
        time.sleep(LOOK_S)
        return primary, standby

    def outage(self, event):
        """Of `event(primary, standby)`, which says when it happened, and before it; in ms."""
        primary, standby = self.quiet()
        begin = time.monotonic()
        time.sleep(LOOK_S)
        baseline = self.echo.gap_s(begin)
        at = event(primary, standby)
        if not hosts.eventually(lambda: self.echo.times[-1] > at + LOOK_S):
            raise RuntimeError("the guest is not heard again\n"
                               + primary.last_words() + standby.last_words())
        gap = self.echo.gap_s(at, at + LOOK_S)
        if gap >= LOOK_S - PERIOD_S:  # it was longer
            gap = next(heard for heard in self.echo.times if heard > at + LOOK_S) - at
        del self.echo.times[:-1000]
        return gap * 1000, baseline * 1000

    def outages(self, name, event, after=lambda primary: None, expected_ms=0):
        gaps, baselines = [], []
        for _ in range(RUNS):
            primary = self.pair.protected()[0]
            gap, baseline = self.outage(event)
            gaps.append(gap)
            baselines.append(baseline)
            after(primary)
        print(f"{name:28} {spread(gaps)}   undisturbed {spread(baselines)}   {RUNS} runs, "
              f"{load()}", flush=True)
        if expected_ms:
            print(f"{'  beyond the timeout':28} "
                  f"{spread([gap - expected_ms for gap in gaps])}", flush=True)

    def status(self, name, prepare, restore):
        primary, standby = self.quiet()
        prepare(primary, standby)
        took = []
        end = time.monotonic() + 2
        while time.monotonic() < end:
            begin = time.monotonic()
            primary.must("status")
            took.append((time.monotonic() - begin) * 1000)
            time.sleep(0.005)
        restore(primary, standby)
        print(f"{'status, ' + name:28} {spread(took)}   {len(took)} answers, {load()}",
              flush=True)

    def close(self):
        try:
            self.echo.stop()
            self.pair.end()
        finally:
            self.network.close()


def switch_over(primary, _):
    at = time.monotonic()
    primary.must("switchover")
    return at


def run(bench):
    print(f"outages that a client sees; heartbeats every 50 ms, timeout {TIMEOUT_MS} ms, "
          "etcd decides")
    bench.outages("switch-over", switch_over)
    bench.outages("colo-vm of the primary killed",
                  lambda primary, _: primary.kill("colo-vm"))
    bench.outages("the primary's power fails", lambda primary, _: primary.power_off(),
                  lambda primary: primary.boot(), TIMEOUT_MS)
    bench.status("all is well", lambda *_: None, lambda *_: None)
    bench.status("the peer is frozen", lambda _, standby: standby.freeze(),
                 lambda _, standby: standby.thaw())
    bench.status("colo-vm is stopped", lambda primary, _: primary.freeze("colo-vm"),
                 lambda primary, _: primary.thaw("colo-vm"))


def main():
    hosts.need()
    bed.stop_on_signals()
    bench = Bench()
    try:
        run(bench)
    finally:
        bench.close()


main()
