#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a client hears nothing of a guest that goes from one node to the other.

hand-over: the planned way, both told by a script over their control sockets. The client's
longest gap between two answers of the guest's UDP echo, which it asks every millisecond.
promote: the primary is killed, its standby notices, and is told to go on. From the command to
the first frame that the guest itself sends through the standby's tap.

COUNT runs of each (30).
"""
import os
import threading
import time

import pairs
from pairs import bed

PORT = 7704
STANDBY = f"127.0.0.1:{PORT}"
COUNT = bed.count(30, 100)


def make(mode):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY)
    primary = pairs.Node(place, 0, *pairs.kernel())
    pairs.Guest().do("ping")
    primary.control.must("protect", to=STANDBY, mode=mode)
    if not (standby.control.event("standby", 20) and primary.control.event("protected", 20)):
        raise RuntimeError("no pair")
    return place, primary, standby


def end(place, *nodes):
    for node in nodes:
        node.killed()
        node.end()
    bed.end_machines()
    place.remove()


def hand_over(mode):
    place, primary, standby = make(mode)
    echo = pairs.Client()
    time.sleep(0.3)
    began = time.monotonic()
    primary.control.must("hand-over")
    handed = time.monotonic()
    standby.control.must("promote")
    promoted = time.monotonic()
    time.sleep(0.3)
    echo.end()
    gap = echo.longest_gap(began, promoted)
    end(place, primary, standby)
    return gap * 1000, (handed - began) * 1000, (promoted - handed) * 1000, echo.lost()


def promote(mode):
    place, primary, standby = make(mode)
    echo = pairs.Client()
    time.sleep(0.3)
    primary.killed()
    standby.control.event("primary-lost", 20)
    wire = pairs.Wire("tap1")
    told = time.monotonic()
    thread = threading.Thread(target=lambda: standby.control.send("promote"))
    thread.start()
    heard = wire.first()
    thread.join()
    wire.close()
    echo.end()
    end(place, standby)
    if heard is None:
        raise RuntimeError("the promoted guest is silent")
    return (heard - told) * 1000


def quantile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def line(name, values, unit="ms"):
    bed.note(f"{name}: p50 {quantile(values, 0.5):.1f}, p99 {quantile(values, 0.99):.1f}, "
             f"max {max(values):.1f} {unit} ({len(values)} runs)")


def measure():
    for mode in ("colo", "buffered"):
        runs = [hand_over(mode) for _ in range(COUNT)]
        line(f"hand-over, {mode}: client hears nothing", [run[0] for run in runs])
        line(f"hand-over, {mode}: the command hand-over", [run[1] for run in runs])
        line(f"hand-over, {mode}: the command promote", [run[2] for run in runs])
        line(f"hand-over, {mode}: datagrams lost", [run[3] for run in runs], "of them")
        runs = [promote(mode) for _ in range(COUNT)]
        line(f"promote after SIGKILL, {mode}: command to the guest's first frame", runs)
    bed.check("all was measured", True)


if __name__ == "__main__":
    pairs.run([measure])
