#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How a pair ends, or does not: guests that switch off, reset or panic, programs that are told
to end, and how soon a dead node is noticed."""
import os
import re
import signal
import subprocess
import threading
import time

import pairs
from pairs import bed
from bed import check
from stalls import undisturbed

PORT = 7706
STANDBY = f"127.0.0.1:{PORT}"
HOUR_NS = 3600 * 10**9
SILENCE_MS = 300


def state_of(node):
    return node.replication()["state"]


def reaches(node, state, seconds=20):
    return bed.eventually(lambda: state_of(node) == state, seconds)


def error_of(answer):
    return "" if answer["ok"] else f"{answer['error']['code']}: {answer['error']['message']}"


def make(*words, standby_words=(), **arguments):
    pairs.forget_stations()
    place = pairs.Place()
    standby = pairs.Node(place, 1, "--standby", STANDBY, *standby_words)
    primary = pairs.Node(place, 0, *pairs.kernel(), *words)
    guest = pairs.Guest()
    guest.do("ping")
    if arguments.pop("protected", True):
        primary.control.must("protect", to=STANDBY, **arguments)
        if not (reaches(primary, "protected") and standby.control.event("standby", 20)):
            raise RuntimeError("no pair")
    return place, primary, standby, guest


def end(place):
    bed.end_machines()
    place.remove()


def ended_by_itself():
    for mode in ("colo", "buffered"):
        for command, words, detail in (("poweroff", (), "poweroff"),
                                       ("reboot", ("--no-reboot",), "reset")):
            place, primary, standby, guest = make(*words, mode=mode, age_ms=3600000)
            before = standby.replication()["epoch"]
            said = guest.ask(command)
            check(f"a guest in mode {mode} that ends by {command} still answers",
                  said and said.startswith("ok"), said)
            check("... its program ends as ever", primary.process.wait(20) == 0)
            ended = standby.control.event("primary-ended", 10)
            check("... and the standby knows why", ended and ended["detail"] == detail,
                  standby.control.events)
            check("... holds what it has, the last checkpoint too, and waits for its supervisor",
                  reaches(standby, "holding") and standby.replication()["promotable"]
                  and standby.replication()["epoch"] > before
                  and not standby.control.event("primary-lost", 0))
            check("promoted, that guest is at its end too",
                  standby.control.send("promote")["ok"] and standby.process.wait(20) == 0)
            end(place)


def told_to_end():
    for way in ("quit", "SIGTERM", "SIGINT"):
        place, primary, standby, guest = make()
        if way == "quit":
            primary.control.send("quit")
        else:
            primary.process.send_signal(getattr(signal, way))
        check(f"a primary that ends by {way} says so to its standby",
              primary.process.wait(20) == 0
              and standby.control.event("primary-ended", 10)["detail"] == "quit"
              and not standby.control.event("primary-lost", 0))
        check("... which can go on with the guest", standby.control.send("promote")["ok"]
              and guest.do("ping"))
        end(place)
    place, primary, standby, guest = make()
    primary.control.must("unprotect")
    check("unprotect is no death either",
          standby.control.event("primary-ended", 10)["detail"] == "unprotect")
    end(place)


def faults_after_reboot(guest):
    """The same as pairs.faults_of_guest(), on a disk on which an earlier life left its own."""
    lines = {line: guest.ask(line) or "" for line in ("verify", "clockwatch report", "blkcheck")}
    counts = [int(count) for line in lines.values()
              for count in re.findall(r"\b(?:bad|errors|tsc_decreases|kvm_decreases)=(\d+)", line)]
    return [lines] if any(counts) or len(counts) < 5 else []


def a_guest_that_reboots():
    for mode in ("colo", "buffered"):
        place, primary, standby, guest = make(mode=mode, verify=True,
                                              standby_words=pairs.kernel())
        pairs.keep_busy(guest)
        for i in range(3):
            guest.do("reboot")
            check(f"a guest in mode {mode} that reboots comes back",
                  primary.control.event("reset", 20) and guest.ask("ping", 20))
            pairs.keep_busy(guest)
            answer = primary.control.send("checkpoint")
            check("... and stays protected", answer["ok"] and state_of(primary) == "protected"
                  and state_of(standby) == "standby", (answer, primary.replication()))
        primary.killed()
        standby.control.event("primary-lost", 20)
        check("... so that it goes on when its host is lost",
              standby.control.send("promote")["ok"] and not faults_after_reboot(guest),
              faults_after_reboot(guest))
        guest.do("reboot")
        check("... and there it can reboot too, where the standby has its kernel",
              standby.control.event("reset", 20) and guest.ask("ping", 20))
        end(place)
    place, primary, standby, guest = make()
    primary.control.must("reset")
    check("the command reset is no different", guest.ask("ping", 20)
          and primary.control.send("checkpoint")["ok"])
    end(place)


def a_guest_that_panics():
    place, primary, standby, guest = make()
    guest.do("panic")
    check("a panic is an event at the primary", primary.control.event("panic", 10))
    check("... and no end", primary.control.send("checkpoint")["ok"] and guest.do("ping"))
    check("... of which the standby says nothing", not standby.control.event("panic", 0.2)
          and state_of(standby) == "standby")
    end(place)


def wall_ns(guest):
    return pairs.number(guest.do("time"), "kvmclock_ns")


def clocks_of_two_hosts():
    """What the standby is told of the primary's clock is what guest time goes by."""
    for mode in ("colo", "buffered"):
        for offset, moved in ((HOUR_NS, HOUR_NS), (-HOUR_NS, 0), (0, 0)):
            place, primary, standby, guest = make(protected=False)
            told = standby.control.send("peer-clock", offset_ns=offset, error_ns=50000)
            check(f"mode {mode}: the primary's clock is told to be {offset // 10**9} s ahead",
                  told["ok"] and standby.replication()["peer_clock"]["offset_ns"] == offset)
            primary.control.must("protect", to=STANDBY, mode=mode)
            reaches(primary, "protected"), reaches(standby, "standby")
            primary.control.must("checkpoint")
            before, at = wall_ns(guest), time.monotonic_ns()
            primary.killed()
            standby.control.event("primary-lost", 20)
            standby.control.must("promote")
            guest.do("ping")
            after, passed = wall_ns(guest), time.monotonic_ns() - at
            # Told that the state is of the future, it goes on from where it was saved.
            least = before + moved + (passed - 10**9 if offset >= 0 else -10**9)
            check("... and the guest's time moves on by just that",
                  least < after < before + moved + passed + 10**9,
                  f"{(after - before) / 1e9:.3f} s, of which {passed / 1e9:.3f} s passed")
            end(place)
    place, primary, standby, guest = make(protected=False)
    for arguments in ({}, {"offset_ns": 5}, {"error_ns": 5}, {"offset_ns": "x", "error_ns": 1},
                      {"offset_ns": 1, "error_ns": 1000000001},
                      {"offset_ns": 1, "error_ns": -1}, {"offset_ns": 4 * 10**18, "error_ns": 1}):
        check(f"peer-clock {arguments} is refused",
              error_of(standby.control.send("peer-clock", **arguments))
              .startswith("bad-request"))
    check("on a primary it changes nothing",
          primary.control.send("peer-clock", offset_ns=HOUR_NS, error_ns=1)["ok"]
          and guest.do("ping"))
    check("a primary's clock can be measured anew at any time",
          all(standby.control.send("peer-clock", offset_ns=i, error_ns=i)["ok"]
              for i in range(100)))
    end(place)


def no_secrets_in_core_files():
    before = set(os.listdir("."))
    place, primary, standby, _ = make()
    for node in (primary, standby):
        status = node.control.must("status")
        check("status shows the process", status["pid"] == node.process.pid)
        with open(f"/proc/{node.process.pid}/limits") as file:
            limit = re.search(r"Max core file size +(\S+) +(\S+)", file.read())
        check("... which leaves no core file", limit.groups() == ("0", "0"), limit.groups())
    primary.process.send_signal(signal.SIGABRT)
    primary.process.wait(20)
    check("... when it dies of a fault either",
          not [name for name in {*os.listdir(".")} - before | {*os.listdir(place.dir)}
               if "core" in name], os.listdir("."))
    end(place)


def noticed_at_once():
    """A killed peer's kernel says so: nobody waits for a silence."""
    late = []
    for i in range(10):
        place, primary, standby, guest = make(mode=("colo", "buffered")[i % 2],
                                              silence_ms=60000)
        pairs.keep_busy(guest)
        dead, other, name = ((primary, standby, "primary-lost"),
                             (standby, primary, "unprotected"))[i // 2 % 2]
        dead.process.kill()
        killed = time.monotonic()
        heard = other.control.event(name, 20) and time.monotonic()
        late.append(((heard - killed) * 1000 if heard else float("inf"), name))
        end(place)
    bed.note("a killed peer is an event after "
             + ", ".join(f"{ms:.1f}" for ms, _ in sorted(late)) + " ms")
    # Usually it is one or two; a silence would have taken 60 s.
    check("a peer that was killed is told of at once", max(late)[0] < float("inf"), late)


def protect_is_taken_back():
    """A standby that hangs before it has answered holds nobody up."""
    place, primary, standby, guest = make(protected=False)
    standby.process.send_signal(signal.SIGSTOP)
    primary.control.process.stdin.write(
        b'{"id":77,"command":"protect","arguments":{"to":"%s"}}\n' % STANDBY.encode())
    other = pairs.Control(primary.socket, primary.process)
    check("protect to a standby that hangs is under way", bed.eventually(
        lambda: other.must("status")["replication"]["state"] == "connecting", 5))
    check("... unprotect ends it", other.send("unprotect")["ok"])
    answer = primary.control.answers.get(timeout=10)
    check("... and it is answered", answer["id"] == 77 and not answer["ok"], answer)
    check("... the guest has noticed nothing", guest.do("ping")
          and other.must("status")["state"] == "running")
    standby.process.send_signal(signal.SIGCONT)
    check("... and with the standby back it works",
          bed.eventually(lambda: state_of(standby) == "waiting", 10)
          and other.send("protect", to=STANDBY)["ok"] and reaches(primary, "protected"))
    end(place)


class Asker:
    """Asks a node for its status all the time; how long the answers took, in ms."""

    def __init__(self, node):
        self.control = pairs.Control(node.socket, node.process)
        self.took = []
        self.over = False
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self):
        while not self.over:
            at = time.monotonic()
            if self.control.send("status")["ok"]:
                self.took.append((time.monotonic() - at) * 1000)
            time.sleep(0.002)

    def is_answered(self, times=20):
        """Whether so many answers come from now on, whatever hangs meanwhile."""
        want = len(self.took) + times
        return bed.eventually(lambda: len(self.took) >= want, 20)

    def end(self):
        self.over = True
        self.thread.join()
        self.control.close()
        return max(self.took)


def status_answers_whatever_hangs():
    longest = {}
    place, primary, standby, guest = make(silence_ms=60000)
    pairs.keep_busy(guest)
    asker = Asker(primary)
    standby.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    check("status is answered while a link hangs", asker.is_answered())
    primary.control.must("unprotect")
    check("... and after it was given up", asker.is_answered())
    longest["link hangs"] = asker.end()
    standby.process.send_signal(signal.SIGCONT)
    end(place)
    # A standby that is promoted while much is to be merged.
    place, primary, standby, guest = make(silence_ms=60000, age_ms=3600000)
    pairs.keep_busy(guest)
    asker = Asker(standby)
    time.sleep(1)
    primary.process.send_signal(signal.SIGSTOP)
    check("status is answered while a primary hangs", asker.is_answered())
    standby.control.must("promote")
    check("... and after its standby's promotion", asker.is_answered()
          and standby.control.event("durable", 20))
    longest["promotion"] = asker.end()
    end(place)
    for which in (0, 1):
        side = ("primary", "standby")[which]
        place, primary, standby, guest = make(mode="buffered", period_ms=1)
        guest.do("dirty 6500 max 3")
        asker = Asker((primary, standby)[which])
        time.sleep(2)
        check(f"the {side}'s is while checkpoints are large", asker.is_answered())
        longest[f"large checkpoints, {side}"] = asker.end()
        end(place)
    # 50 ms on a machine that does nothing else.
    bed.note("status took at most " + ", ".join(f"{ms:.1f} ms ({what})"
                                                for what, ms in longest.items()))


def kept_for_a_while(mode, evidence):
    """A pair whose silence is short for its checkpoints, if it stays one for 5 s."""
    place, primary, standby, guest = make(protected=False)
    guest.do("dirty 6500 max 3")
    primary.control.must("protect", to=STANDBY, mode=mode, silence_ms=SILENCE_MS,
                         period_ms=1, age_ms=100)
    if not reaches(primary, "protected", 60):
        raise RuntimeError(f"no pair: {primary.replication()} {standby.replication()}")
    time.sleep(5)
    if state_of(primary) == "protected" and state_of(standby) == "standby" \
            and not primary.control.event("unprotected", 0):
        return place, primary, standby
    evidence[:] = [primary.replication(), standby.replication(), primary.last_words()[-1500:],
                   standby.last_words()[-1500:]]
    bed.end_machines()
    return False


def no_false_loss():
    """A silence that is short for large checkpoints, and a machine whose processors are busy."""
    evidence = []
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        for mode in ("colo", "buffered"):
            sentence = f"mode {mode}: no loss is told of where nobody is lost"
            kept = undisturbed(lambda mode=mode: kept_for_a_while(mode, evidence), SILENCE_MS / 4)
            if kept is None:
                bed.skip(sentence, "programs on this machine were held up each time")
                continue
            if not check(sentence, kept, evidence):
                continue
            place, primary, standby = kept
            standby.process.send_signal(signal.SIGSTOP)
            at = time.monotonic()
            check("... and one that hangs is", primary.control.event("unprotected", 20))
            bed.note(f"a silence of {SILENCE_MS} ms is told of after {time.monotonic() - at:.2f} s")
            standby.process.send_signal(signal.SIGCONT)
            end(place)
            place, primary, standby, guest = make(silence_ms=SILENCE_MS)
            primary.process.send_signal(signal.SIGSTOP)
            at = time.monotonic()
            check("the standby hears no more of a primary that hangs",
                  standby.control.event("primary-lost", 60))
            bed.note(f"... and told of it after {time.monotonic() - at:.2f} s")
            primary.process.send_signal(signal.SIGCONT)
            end(place)
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    pairs.run([ended_by_itself, told_to_end, a_guest_that_reboots, a_guest_that_panics,
               clocks_of_two_hosts, no_secrets_in_core_files, noticed_at_once,
               protect_is_taken_back, status_answers_whatever_hangs, no_false_loss])
