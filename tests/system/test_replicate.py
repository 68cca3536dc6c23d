#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A working stock guest (working.py) with a secondary on another host.

COUNT says how many checkpoints are taken (200; all are verified with LONG=1, else 50 of
them: under emulation the digests of all memory take a second), half of them with the
secondary's guest running, half with it at rest. Then the primary's host is killed, and the
standby goes on.
"""
import bed
import working
from bed import Journal, Machine, Talk, check, note
from working import GUEST, MACHINE, STANDBY, Clocks


def take(vm, standby, echo, journal, wanted, verify):
    vm.control.must("protect", to=STANDBY, verify=verify, mode="colo", age_ms=500,
                    silence_ms=20000)
    if not check("a stock guest becomes protected while it works",
                 bed.eventually(lambda: state_of(vm) != "syncing", 180)
                 and state_of(vm) == "protected",
                 (vm.control.must("status"), vm.last_words(), standby.last_words())):
        return False
    done = "verified" if verify else "taken"
    for count, mode in ((wanted // 2, "colo"), (wanted, "buffered")):
        if mode == "buffered":
            vm.control.must("mode", mode="buffered", period_ms=100)
        if not check(f"{count} checkpoints are {done}, the last ones in mode {mode}",
                     bed.eventually(lambda: taken(vm) >= count, 600),
                     (vm.control.must("status"), vm.last_words()[-2000:],
                      standby.last_words()[-2000:])):
            return False
        note(f"{mode}: {vm.control.must('status')['replication'].get('checkpoints')}")
    return check("the connections go on", echo.goes_on() and journal.goes_on(),
                 (echo.error, journal.error))


def state_of(vm):
    return vm.control.must("status")["replication"]["state"]


def replicated(h1, h2):
    working.prepare_pair(h1, h2)
    wanted = bed.count(200, 400)
    verified = wanted if bed.LONG else wanted // 4
    standby = Machine(h2, "--standby", STANDBY, "--key", "/tmp/key", *MACHINE).watch()
    vm = working.start(h1, "--key", "/tmp/key").watch()
    echo, journal = Talk(GUEST, 7), Journal(GUEST, 9001)
    before = Clocks()
    if not take(vm, standby, echo, journal, verified, verify=True):
        return
    if verified < wanted:
        vm.control.must("unprotect")
        check("the standby is given up and filled anew",
              bed.eventually(lambda: state_of(standby) == "holding")
              and standby.control.send("standby")["ok"])
        if not take(vm, standby, echo, journal, wanted - verified, verify=False):
            return
    echo.stop(), journal.stop()
    bed.testbed("kill", h1.name)
    check("the standby notices that the primary is lost",
          standby.control.event("primary-lost", 60), standby.last_words())
    standby.control.must("promote")
    check("... and is promoted; its disk is durable", standby.control.event("durable", 60),
          standby.last_words())
    standby.terminal.plain, standby.terminal.questions = True, 1000
    check("the guest's shell answers on the other host", standby.ask("echo $((40+2))") == "42",
          standby.last_words())
    again = Talk(GUEST, 7)
    check("clients reach it there", again.goes_on(), again.error)
    again.stop()
    working.judge(standby, before)
    working.switch_off(standby)
    got = working.journal(h2)
    lines = [f"{n} line {n}" for n in range(1, journal.good + 2)]
    # what was answered after the last commit is lost: nobody holds outputs here yet
    check("the journal on its disk has the lines in order, up to the last commit",
          len(got) > journal.good // 2 and got == lines[:len(got)],
          f"{len(got)} of {journal.good}")


def taken(vm):
    replication = vm.control.must("status")["replication"]
    if replication["state"] != "protected":
        raise RuntimeError(f"not protected: {replication['lost']}")
    return replication["checkpoints"]["total"]["checkpoints"]


TESTS = [replicated]

if __name__ == "__main__":
    bed.run(TESTS, hosts=2, memory=1024)
