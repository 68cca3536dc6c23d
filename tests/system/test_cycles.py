#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair that loses one host after the other, and a client that must not notice.

CYCLES times (2; LONG: 20): the pair is protected; a host loses its power, first the one that
serves, then in turn the other and the one that serves by then; the one that is left serves;
the host boots, and the pair is protected again without a hand. All the way through the client
(client.py) has one TCP connection and datagrams echoed, and a file on the guest's disk grows,
which at the end must be what was answered, byte for byte.
"""
import os

import bed
import pair
from bed import check, note

CYCLES = int(os.environ.get("CYCLES") or (20 if bed.LONG else 2))


def cycle(number, pair_, client, host, serves):
    """`serves`: whether the host that loses its power is the one that serves."""
    what = f"cycle {number}: {host.name}, which {'serves' if serves else 'stands by'},"
    pair_.power_off(host)
    if not check(f"{what} loses its power: the service goes on",
                 client.goes_on(seconds=120), (client.latest, pair_.last_words())):
        return False
    waits = client.mark(f"after {number}")
    note(f"cycle {number}: longest waits in ms: "
         + ", ".join(f"{kind} {waits[kind]['longest_ms']}" for kind in
                     ("chat", "pages", "echo")))
    bed.testbed("boot", host.name)
    pair_.node_up(host)
    if not check("... it boots, and the pair is protected again", pair_.wait_protected(),
                 pair_.last_words()):
        return False
    return check("... and the service went on", client.goes_on(), client.latest)


def hosts_die_in_turn(h1, h2, h3):
    nodes = [h1, h2]
    pair.prepare(nodes)
    pair.start_arbiter(h3)
    pair_ = pair.Pair(nodes)
    pair_.start(h3)
    if not check("the pair is protected", pair_.wait_protected(), pair_.last_words()):
        return
    client = pair.Client(h3)
    check("a client is served", client.goes_on(), (client.latest, client.errors.text))
    client.mark("begin")
    for number in range(1, CYCLES + 1):
        # the primary each time but every fourth, so that each host dies in either role
        serves = number % 4 != 0
        primary = pair_.primary
        host = primary if serves else next(n for n in nodes if n is not primary)
        if not cycle(number, pair_, client, host, serves):
            break
    judge(pair_, client)


def judge(pair_, client):
    found, answered = client.end()
    note(found)
    check("the client has found no fault: no reset, no wrong byte",
          found and found["verdict"] == "good", (found, client.errors.text[-2000:]))
    node = pair_.stop()
    disk = node.check_disk(pair.DISK)
    check("the guest's file system is clean", disk, disk)
    stored = pair.chat_file(node)
    same, lost, doubled = pair.judge_file(stored, answered)
    check(f"the file on its disk is what was answered, byte for byte ({len(answered)} bytes)",
          answered and same,
          f"{len(stored)} bytes, {len(answered)} were answered; they part at byte "
          f"{len(os.path.commonprefix([stored, answered]))}; {lost} lines are lost, {doubled} "
          "are there twice")


TESTS = [hosts_die_in_turn]

if __name__ == "__main__":
    bed.run(TESTS, hosts=3, memory=768)
