#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest is handed over to the other node, by plan; and primaries that end in good order.

COUNT sets how often it goes back and forth under load (10; LONG: 100).
"""
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pairs
from pairs import bed
from bed import check

PORT = 7705
STANDBY = f"127.0.0.1:{PORT}"
COUNT = bed.count(10, 100)
QUESTIONS = 50  # at once: not more than the guest has room for answers
STEPS = ("asked", "before", "at-rest", "relays", "staged", "sent", "committed", "applied")


def state_of(node):
    return node.replication()["state"]


def reaches(node, state, seconds=20):
    return bed.eventually(lambda: state_of(node) == state, seconds)


def error_of(answer):
    return "" if answer["ok"] else f"{answer['error']['code']}: {answer['error']['message']}"


def make(*, primary_fault=None, standby_fault=None, **arguments):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY, fault=standby_fault)
    primary = pairs.Node(place, 0, *pairs.kernel(), fault=primary_fault)
    guest = pairs.Guest()
    guest.do("ping")
    primary.control.must("protect", to=STANDBY, **arguments)
    if not (primary.control.event("protected", 20) and standby.control.event("standby", 20)):
        raise RuntimeError("no pair")
    return place, primary, standby, guest


class Talk:
    """One TCP connection with numbered messages, each of which the guest sends back."""

    def __init__(self):
        self.sock = socket.create_connection((pairs.GUEST, pairs.ECHO), timeout=30)
        self.said = 0
        self.wrong = None
        self.over = False
        self.thread = threading.Thread(target=self.talk, daemon=True)
        self.thread.start()

    def talk(self):
        try:
            while not self.over:
                self.said += 1
                message = struct.pack("<Q", self.said)
                self.sock.sendall(message)
                got = b""
                while len(got) < len(message):
                    piece = self.sock.recv(len(message) - len(got))
                    if not piece:
                        raise OSError("the guest closed it")
                    got += piece
                if got != message:
                    raise OSError(f"{got!r} came back for {message!r}")
                time.sleep(0.002)
        except OSError as error:
            self.wrong = f"message {self.said}: {error}"

    def end(self):
        self.over = True
        self.thread.join(40)
        self.sock.close()
        return self.wrong


def back_and_forth():
    place = pairs.Place()
    pairs.forget_stations()
    here, there = pairs.Node(place, 0, *pairs.kernel()), None
    guest = pairs.Guest()
    guest.do("ping")
    pairs.keep_busy(guest)
    client, talk = pairs.Client(), Talk()
    gaps, spoke, wrong = [], [], []
    for i in range(COUNT):
        there = pairs.Node(place, 1 - here.number, "--standby", STANDBY)
        here.control.must("protect", to=STANDBY, mode=("colo", "buffered")[i // 2 % 2],
                          verify=i % 3 == 0, age_ms=50)
        if not (there.control.event("standby", 30) and reaches(here, "protected", 30)):
            wrong.append(f"{i}: no pair: {here.replication()}")
            break
        time.sleep(0.1)
        began = time.monotonic()
        answer = here.control.send("hand-over")
        wire = pairs.Wire(f"tap{here.number}")
        handed = there.replication()["handed_over"]
        epoch = there.replication()["epoch"]
        if not answer["ok"] or not handed or answer["result"]["epoch"] != epoch:
            wrong.append(f"{i}: {answer}, {there.replication()}")
            break
        there.control.must("promote")
        said = talk.said
        if not bed.eventually(lambda: talk.wrong or talk.said > said + 5, 20) or talk.wrong:
            wrong.append(f"{i}: the connection does not go on: {talk.wrong}")
            break
        gaps.append(client.longest_gap(began, time.monotonic()))
        status = here.control.must("status")
        if (status["state"], status["replication"]["held"]) != ("paused", "hand-over"):
            wrong.append(f"{i}: left behind: {status}")
        spoke.append(wire.first(0.05))
        wire.close()
        here.quit()
        here = there
    client.end()
    broken = talk.end()
    check(f"a guest under load goes {COUNT} times to the other node", len(gaps) == COUNT,
          wrong)
    check("... with one TCP connection all the time, and no wrong byte", not broken, broken)
    check("... and each time the one that it left is silent, and says why it rests",
          not wrong and not any(spoke), wrong or spoke)
    check("... and is whole", not pairs.faults_of_guest(guest))
    gaps = sorted(gap * 1000 for gap in gaps) or [0]
    bed.note(f"the client heard nothing for {gaps[len(gaps) // 2]:.1f} ms (p50), "
             f"{gaps[-1]:.1f} ms (longest)")
    place.remove()


def refused_out_of_order():
    place, primary, standby, guest = make()
    check("a standby hands nothing over",
          error_of(standby.control.send("hand-over")).startswith("wrong-state"))
    check("the answer to hand-over is the committed epoch",
          primary.control.send("hand-over")["result"]["epoch"]
          == standby.replication()["epoch"])
    check("... and an event", primary.control.event("handed-over"))
    check("the guest rests", primary.control.must("status")["state"] == "paused"
          and guest.ask("ping", 1) is None)
    for command in ("hand-over", "checkpoint", "mode", "protect", "reset"):
        check(f"after it {command} is refused",
              error_of(primary.control.send(command)).startswith("wrong-state"))
    check("resume takes it back: the link ends first",
          primary.control.send("resume")["ok"] and guest.do("ping")
          and primary.replication()["state"] == "unprotected"
          and primary.replication()["held"] is None)
    names = [event["event"] for event in primary.control.events]
    check("... and events say so in that order",
          names[names.index("handed-over"):][:3] == ["handed-over", "unprotected", "resumed"],
          names)
    check("the standby hears of it",
          standby.control.event("primary-ended")["detail"] == "resume"
          and not standby.replication()["handed_over"])
    check("alone nothing can be handed over",
          error_of(primary.control.send("hand-over")).startswith("wrong-state"))
    standby.control.must("standby")
    reaches(standby, "waiting")
    check("protected anew it can", primary.control.send("protect", to=STANDBY)["ok"]
          and reaches(primary, "protected") and reaches(standby, "standby")
          and primary.control.send("hand-over")["ok"])
    check("unprotect afterwards leaves the guest at rest",
          primary.control.send("unprotect")["ok"]
          and primary.control.must("status")["state"] == "paused"
          and primary.replication()["held"] == "hand-over")
    check("... and the standby can go on with it", standby.control.send("promote")["ok"]
          and guest.do("ping"))
    place.remove()


def nothing_is_lost_on_the_way():
    """Datagrams that come while the guest rests are answered: by whoever goes on."""
    for who in ("standby", "primary"):
        place, primary, standby, guest = make(mode="buffered")
        primary.control.must("hand-over")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((pairs.GUEST, pairs.ECHO))
            sock.settimeout(10)
            for i in range(QUESTIONS):
                sock.send(struct.pack("<Q", i))
            time.sleep(0.3)
            if who == "standby":
                standby.control.must("promote")
            else:
                primary.control.must("resume")
            heard = set()
            try:
                while len(heard) < QUESTIONS:
                    heard.add(struct.unpack("<Q", sock.recv(64))[0])
            except TimeoutError:
                pass
        check(f"what came while the guest rested is answered by the {who}'s",
              len(heard) == QUESTIONS, f"{len(heard)} of {QUESTIONS}")
        check("... which goes on as ever", guest.do("ping") and pairs.echo())
        bed.end_machines()
        place.remove()


def a_standby_that_hangs():
    place, primary, standby, guest = make(silence_ms=500)
    standby.process.send_signal(signal.SIGSTOP)
    wire = pairs.Wire("tap0")
    answer = primary.control.send("hand-over", seconds=20)
    check("a hand-over to a standby that hangs fails", error_of(answer).startswith("failed"))
    status = primary.control.must("status")
    check("... and leaves the guest at rest, and says why",
          status["state"] == "paused" and status["replication"]["held"] == "hand-over"
          and status["replication"]["state"] == "unprotected", status)
    while wire.first(0.1):
        pass
    check("... and silent", wire.first(1) is None)
    wire.close()
    check("... until somebody resumes it", primary.control.send("resume")["ok"]
          and guest.do("ping"))
    standby.process.send_signal(signal.SIGCONT)
    bed.end_machines()
    place.remove()
    place, primary, standby, guest = make(silence_ms=60000)
    standby.process.send_signal(signal.SIGSTOP)
    primary.control.process.stdin.write(b'{"id":77,"command":"hand-over"}\n')
    reaches(primary, "handing-over")
    other = pairs.Control(primary.socket, primary.process)
    check("while it is under way resume is refused",
          error_of(other.send("resume")).startswith("wrong-state"))
    check("unprotect ends it", other.send("unprotect")["ok"])
    answer = primary.control.answers.get(timeout=10)
    check("... and it is answered", answer["id"] == 77 and not answer["ok"], answer)
    check("... the guest is at rest, until somebody resumes it",
          other.must("status")["state"] == "paused" and other.send("resume")["ok"]
          and guest.do("ping"))
    standby.process.send_signal(signal.SIGCONT)
    place.remove()


def primaries_die_in_it():
    hit, failures = 0, []
    for i, step in enumerate(STEPS):
        place, primary, standby, guest = make(primary_fault=f"handover-{step}",
                                              mode=("colo", "buffered")[i % 2], verify=True)
        pairs.keep_busy(guest)
        primary.control.send("hand-over", seconds=20)
        try:
            hit += primary.process.wait(10) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            pass
        holds = standby.control.event("primary-lost", 20) and reaches(standby, "holding")
        promoted = holds and standby.control.send("promote")["ok"]
        wrong = pairs.faults_of_guest(guest) if promoted else ["not promoted"]
        if wrong:
            failures.append((step, wrong))
        bed.end_machines()
        place.remove()
    check("primaries die at each step of a hand-over", hit == len(STEPS), hit)
    check("... and the guest goes on at the standby, whole", not failures, failures)


def standbys_die_in_it():
    failures, hit = [], 0
    steps = [("handed", "colo"), ("handed", "buffered"), ("at-rest", "buffered"),
             ("judged", "colo"), ("said-committed", "colo"), ("state-loaded", "buffered")]
    for step, mode in steps:
        # The first checkpoint of all, the one before the last, and the last.
        nth = 1 if step == "handed" else 3
        place, primary, standby, guest = make(standby_fault=f"{step}:{nth}", mode=mode,
                                              age_ms=3600000, period_ms=10000)
        answer = primary.control.send("hand-over", seconds=20)
        try:
            hit += standby.process.wait(10) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            pass
        primary.control.event("unprotected", 20)
        status = primary.control.must("status")
        if status["state"] != "paused" or status["replication"]["held"] != "hand-over":
            failures.append((step, mode, answer, status))
        if answer["ok"] and step == "judged":
            failures.append((step, mode, "answered without a commit"))
        wire = pairs.Wire("tap0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"anybody?", (pairs.GUEST, pairs.ECHO))
        if wire.first(0.3):
            failures.append((step, mode, "it spoke"))
        wire.close()
        if not primary.control.send("resume")["ok"] or not guest.ask("ping"):
            failures.append((step, mode, "does not go on"))
        bed.end_machines()
        place.remove()
    check("standbys die in a hand-over", hit == len(steps), hit)
    check("... and the primary's guest rests, silent, until it is resumed", not failures,
          failures)


if __name__ == "__main__":
    pairs.run([back_and_forth, refused_out_of_order, nothing_is_lost_on_the_way,
               a_standby_that_hangs, primaries_die_in_it, standbys_die_in_it])
