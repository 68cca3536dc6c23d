#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication by the control socket: what its commands do, and what they refuse."""
import os
import subprocess
import time

import pairs
from pairs import bed
from bed import check

PORT = 7701
STANDBY = f"127.0.0.1:{PORT}"


def state_of(node):
    return node.replication()["state"]


def reaches(node, state, seconds=20):
    return bed.eventually(lambda: state_of(node) == state, seconds)


def error_of(answer):
    return "" if answer["ok"] else f"{answer['error']['code']}: {answer['error']['message']}"


def make(**options):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY, **options)
    primary = pairs.Node(place, 0, *pairs.kernel(), **options)
    guest = pairs.Guest()
    guest.do("ping")
    return place, primary, standby, guest


def a_life_in_order():
    place, primary, standby, guest = make()
    check("a standby waits", reaches(standby, "waiting"))
    check("protect is answered when the standby has accepted",
          primary.control.send("protect", to=STANDBY, verify=True, age_ms=50)["ok"])
    check("then both sides say that the guest is protected",
          primary.control.event("protected") and standby.control.event("standby"))
    first = primary.control.must("checkpoint")["epoch"]
    second = primary.control.must("checkpoint")["epoch"]
    check("checkpoint is answered with the committed epoch", second > first >= 1)
    check("the standby knows of it", standby.replication()["epoch"] >= second)
    check("mode changes while it runs",
          primary.control.send("mode", mode="buffered", period_ms=10)["ok"]
          and primary.control.event("mode")["detail"] == "buffered")
    before = primary.control.must("checkpoint")["epoch"]
    time.sleep(0.5)
    after = primary.control.must("checkpoint")["epoch"]
    check("in buffered mode checkpoints come by themselves", after > before + 5,
          (before, after))
    statistics = primary.replication()["checkpoints"]
    check("statistics count them all, with their reasons",
          statistics["total"]["checkpoints"] >= after - 1
          and sum(statistics["total"]["reasons"].values())
          == statistics["total"]["checkpoints"], statistics)
    check("the guest of the standby is nobody's to command",
          all(error_of(standby.control.send(command)).startswith("wrong-state")
              for command in ("pause", "resume", "reset", "powerdown")))
    check("a replicated machine is not saved",
          "unprotect" in error_of(primary.control.send("save", to=place.path("x"))))
    check("unprotect ends it, and the guest goes on",
          primary.control.send("unprotect")["ok"] and guest.do("ping"))
    check("the standby holds what it has", reaches(standby, "holding"))
    check("... and turns primaries away meanwhile",
          "had, a primary" in error_of(primary.control.send("protect", to=STANDBY)))
    check("told \"standby\" it waits again", standby.control.send("standby")["ok"]
          and state_of(standby) == "waiting")
    check("... and is filled anew",
          primary.control.send("protect", to=STANDBY, verify=True)["ok"]
          and reaches(primary, "protected"))
    primary.killed()
    check("the loss of the primary is told", standby.control.event("primary-lost"))
    check("promoted, the guest answers clients from there",
          standby.control.send("promote")["ok"] and guest.do("ping") and pairs.echo())
    check("... and its disk is durable", standby.control.event("durable"))
    third = pairs.Node(place, 0, "--standby", "127.0.0.1:7702")
    check("a promoted machine can be protected in its turn",
          standby.control.send("protect", to="127.0.0.1:7702", verify=True)["ok"]
          and reaches(standby, "protected") and reaches(third, "standby"))
    standby.killed()
    check("... and that one promoted",
          reaches(third, "holding") and third.control.send("promote")["ok"]
          and guest.do("ping"))
    check("quit ends it", third.quit() == 0)
    place.remove()


def on_loss():
    for policy, running in (("go-on", True), ("hold", False)):
        place, primary, standby, guest = make()
        primary.control.must("protect", to=STANDBY, on_loss=policy)
        reaches(primary, "protected")
        standby.killed()
        check(f"on_loss {policy}: the loss of the standby is told",
              primary.control.event("unprotected"))
        check(f"... and the guest {'goes on' if running else 'is held'}",
              primary.control.must("status")["state"] ==
              ("running" if running else "paused"))
        if not running:
            primary.control.must("resume")
        check("... and answers in the end", guest.ask("ping"))
        primary.end()
        place.remove()


def cancelled_in_the_first_sync():
    place, primary, standby, guest = make()
    pairs.keep_busy(guest)
    for _ in range(3):
        primary.control.must("protect", to=STANDBY, bandwidth=2000000)
        check("a limited first sync is under way, and says how far it is",
              state_of(primary) == "syncing" and state_of(standby) in ("joining", "waiting")
              and bed.eventually(lambda: primary.replication()["sync"]["memory_left"] > 0, 5))
        check("the standby has nothing to promote",
              error_of(standby.control.send("promote")).startswith("wrong-state"))
        check("unprotect ends it at once", primary.control.send("unprotect", seconds=5)["ok"])
        check("the standby waits again", reaches(standby, "waiting"))
    check("the guest is unharmed", not pairs.faults_of_guest(guest))
    check("a try without a limit succeeds after all",
          primary.control.send("protect", to=STANDBY, verify=True)["ok"]
          and reaches(primary, "protected"))
    primary.end(), standby.end()
    place.remove()


def wrong_words():
    place, primary, standby, _ = make()
    for arguments, expected in (
            ({}, "needs the argument \"to\""),
            ({"to": 5}, "\"to\" must be text"),
            ({"to": "nowhere"}, "nowhere"),
            ({"to": STANDBY, "mode": "both"}, "\"mode\" must be colo or buffered"),
            ({"to": STANDBY, "period_ms": 0}, "from 1 to 10000"),
            ({"to": STANDBY, "age_ms": "1"}, "\"age_ms\" must be a whole number"),
            ({"to": STANDBY, "bandwidth": -1}, "\"bandwidth\""),
            ({"to": STANDBY, "silence_ms": 1}, "from 50 to 600000"),
            ({"to": STANDBY, "on_loss": "die"}, "go-on or hold"),
            ({"to": STANDBY, "verify": 1}, "true or false"),
            ({"to": STANDBY, "speed": 1}, "no argument \"speed\"")):
        answer = error_of(primary.control.send("protect", **arguments))
        check(f"protect {arguments} is refused with the reason",
              answer.startswith("bad-request") and expected in answer, answer)
    for command in ("unprotect", "checkpoint", "mode", "promote", "standby"):
        check(f"{command} is refused while nothing is replicated",
              error_of(primary.control.send(command)).startswith("wrong-state"))
    check("protect is refused on a standby",
          error_of(standby.control.send("protect", to=STANDBY)).startswith("wrong-state"))
    check("nobody listens: protect says so",
          "refused" in error_of(primary.control.send("protect", to="127.0.0.1:7999")))
    check("... and can be tried again", state_of(primary) == "unprotected")
    primary.end(), standby.end()
    place.remove()


def unlike_machines():
    place = pairs.Place()
    primary = pairs.Node(place, 0, *pairs.kernel())
    primary.control.must("status")
    for name, options, words in (
            ("memory", ["--memory", "128M"], "bytes of memory"),
            ("CPUs", ["--cpus", "2"], "vCPUs"),
            ("a console", ["--hvc", "none"], "virtio consoles"),
            ("no entropy", ["--no-rng"], "entropy devices")):
        standby = pairs.Node(place, 1, "--standby", STANDBY, options=options)
        reaches(standby, "waiting")
        answer = error_of(primary.control.send("protect", to=STANDBY))
        check(f"a standby with other {name} is refused, and it is named", words in answer,
              answer)
        check("... in the standby's log too",
              bed.eventually(lambda: words in standby.errors.text, 5),
              standby.errors.text)
        check("... and it waits on", state_of(standby) == "waiting")
        standby.end()
    with open(place.path("other"), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write("ab" * 32 + "\n")
    standby = pairs.Node(place, 1, "--standby", STANDBY, key="other")
    reaches(standby, "waiting")
    answer = error_of(primary.control.send("protect", to=STANDBY))
    check("a standby with another key is refused", "key" in answer, answer)
    check("... in both logs", bed.eventually(lambda: "key" in standby.errors.text, 5),
          standby.errors.text)
    check("the guest goes on", primary.control.must("status")["state"] == "running")
    primary.end(), standby.end()
    place.remove()


def wrong_options():
    place = pairs.Place()
    os.chmod(place.path("key"), 0o644)
    base = ["--memory", "64M", "--control", place.path("x.sock"), "--console", "none"]
    for options, expected, status in (
            (["--standby", "127.0.0.1:7700"], "--standby needs --key", 2),
            (["--standby", "nowhere", "--key", "k"], "nowhere", 2),
            (["--standby", "127.0.0.1:1", "--key", "k", "--load", "x"], "--load", 2),
            (["--standby", "127.0.0.1:7700", "--key", place.path("key")], "0600", 1),
            (["--standby", "127.0.0.1:7700", "--key", place.path("none")], "none", 1)):
        done = subprocess.run([place.colo_vm, *base, *options], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=20)
        check(f"{' '.join(options[:2])} ...: one clear line, status {status}",
              done.returncode == status and expected in done.stderr
              and len([line for line in done.stderr.splitlines() if "colo-vm:" in line]) == 1,
              (done.returncode, done.stderr))
    os.chmod(place.path("key"), 0o600)
    standby = pairs.Node(place, 1, "--standby", STANDBY)
    reaches(standby, "waiting")
    done = subprocess.run([place.colo_vm, *base, "--standby", STANDBY, "--key",
                           place.path("key")], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20)
    check("an address in use is one clear line",
          done.returncode == 1 and "in use" in done.stderr, done.stderr)
    standby.end()
    place.remove()


if __name__ == "__main__":
    pairs.run([a_life_in_order, on_loss, cancelled_in_the_first_sync, wrong_words,
               unlike_machines, wrong_options])
