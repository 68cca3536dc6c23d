#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A working stock guest (working.py) with a secondary on another host.

Every checkpoint is verified: both sides digest all of it. Then the primary's host is killed,
and the standby goes on. COUNT says how many checkpoints (200), half of them with the
secondary's guest running, half with it at rest.
"""
import bed
import working
from bed import Journal, Machine, Talk, check, note
from working import GUEST, MACHINE, Clocks

PORT = 7700
STANDBY = f"10.90.2.2:{PORT}"


def prepare(h1, h2):
    for host in (h1, h2):
        host.make_bridge()
    working.prepare(h1)
    # the standby's disk has the right size, and something else on it
    h2.must("head -c $((12 << 20)) /dev/urandom > /var/lib/colo/disk.img")
    h1.must("(umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n') > /tmp/key; "
            "chmod 600 /tmp/key")
    key = h1.must("cat /tmp/key")
    h2.must("(umask 077; printf %s \"$1\" > /tmp/key)", key)


def replicated(h1, h2):
    wanted = bed.count(200, 400)
    standby = Machine(h2, "--standby", STANDBY, "--key", "/tmp/key", *MACHINE).watch()
    vm = working.start(h1, "--key", "/tmp/key").watch()
    echo, journal = Talk(GUEST, 7), Journal(GUEST, 9001)
    before = Clocks()
    vm.control.must("protect", to=STANDBY, verify=True, mode="colo", age_ms=500,
                    silence_ms=20000)
    if not check("a stock guest becomes protected while it works",
                 vm.control.event("protected", 180),
                 (vm.control.must("status"), vm.last_words(), standby.last_words())):
        return
    for count, mode in ((wanted // 2, "colo"), (wanted, "buffered")):
        if mode == "buffered":
            vm.control.must("mode", mode="buffered", period_ms=200)
        check(f"{count} checkpoints are verified, the last ones in mode {mode}",
              bed.eventually(lambda: taken(vm) >= count, 600),
              (vm.control.must("status"), vm.last_words()[-2000:],
               standby.last_words()[-2000:]))
        checkpoints = vm.control.must("status")["replication"].get("checkpoints")
        note(f"{mode}: {checkpoints}")
    check("the connections go on", echo.goes_on() and journal.goes_on(),
          (echo.error, journal.error))
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


TESTS = [prepare, replicated]

if __name__ == "__main__":
    bed.run(TESTS, hosts=2, memory=1024)
