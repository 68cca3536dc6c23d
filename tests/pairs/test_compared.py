#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of colo-vm with a colo-netcompare beside each: clients see what both guests say."""
import os
import sys
import types

import pairs
from pairs import bed
from bed import check

sys.path.insert(0, os.path.join(bed.PROJECT, "tests", "nets"))
import nets  # noqa: E402

PORT = 7705
STANDBY = f"127.0.0.1:{PORT}"


def comparator(place, number, *options):
    directory = place.path(f"compare{number}")
    os.makedirs(directory, exist_ok=True)
    return nets.Comparator(types.SimpleNamespace(path=place.path(f"out{number}")), directory,
                           *options, taps=f"tap{number}", number=20 + number)


def reaches(node, state, seconds=20):
    return bed.eventually(lambda: node.replication()["state"] == state, seconds)


def make(**protection):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY, "--outputs", place.path("out1"))
    primary = pairs.Node(place, 0, *pairs.kernel(), "--outputs", place.path("out0"))
    held = [comparator(place, number) for number in (0, 1)]
    for one in held:
        one.bound()
    primary.control.event("comparator-ready")
    guest = pairs.Guest()
    guest.do("ping")
    primary.control.must("protect", to=STANDBY, **protection)
    reaches(primary, "protected")
    return place, primary, standby, guest, held


def outcome(held):
    status = held.status()
    return (f"{status['packets']} divergences {status['divergences']} "
            f"blames {status['blames']} hold {status['hold-us']} lag {status['lag-us']}")


def clients_are_answered_by_comparison():
    place, primary, standby, guest, held = make(age_ms=3600000, mode="colo")
    before = held[0].status()["packets"]["matched"]
    for _ in range(50):
        guest.do("ping")
    check("TCP connections work while outputs are guarded", pairs.echo(20) and pairs.echo(20))
    status = held[0].status()
    check("what both guests say passes by comparison",
          status["packets"]["matched"] - before >= 50, outcome(held[0]))
    check("and each epoch's marker was seen", status["markers"] >= 1
          and status["gate"] == "guarded", status)
    bed.note(outcome(held[0]))

    held[0].killed()
    check("without its comparator the guest is not to be heard", guest.ask("ping", 1) is None)
    held[0].start()
    held[0].bound()
    check("with another one it is, after a checkpoint", guest.ask("ping", 20) is not None)

    primary.killed()
    check("the loss of the primary is noticed", standby.control.event("primary-lost"))
    check("nobody is heard until the standby is promoted", guest.ask("ping", 0.7) is None)
    standby.control.must("promote")
    check("then its guest is", guest.ask("ping", 20) is not None and pairs.echo())
    check("through its own comparator, whose gate is open",
          held[1].status()["packets"]["opened"] > 0, outcome(held[1]))
    place.remove()


if __name__ == "__main__":
    pairs.run([clients_are_answered_by_comparison])
