#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""That tests/faults/run calls nothing a success that was not tried, loses no violation whatever
becomes of its evidence, and comes to an end whatever becomes of its processes."""
import importlib.machinery
import importlib.util
import os
import queue
import subprocess
import sys
import tempfile
import threading
import types

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
from bed import check, verdict  # noqa: E402

PROGRAM = os.path.join(TESTS, "faults", "run")
END_S = 30  # of what does not come to an end


def load():
    loader = importlib.machinery.SourceFileLoader("faults_run", PROGRAM)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("faults_run",
                                                                             loader))
    loader.exec_module(module)
    return module


run = load()
run.print = lambda *_, **__: None  # what it says of runs that were never made


def options(**given):
    return types.SimpleNamespace(**dict(
        dict(site="native", rows=None, random=0, failovers=0, seed=1, seeds=[], jobs=1, renew=20,
             keep="/nowhere"), **given))


def nothing_is_no_success():
    for words in ([], ["--rows", ""], ["--rows", "F05"], ["--rows", "F99"], ["--random", "0"],
                  ["--rows", "F05", "--random", "3"], ["--random", "-1"], ["--jobs", "0"],
                  ["--site", "ssh:nowhere", "--rows", "all"], ["--seeds", "1,x"],
                  ["--seeds", "1", "--random", "1"], ["--failovers", "3"]):
        done = subprocess.run([sys.executable, PROGRAM, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=END_S)
        check(f"run {' '.join(words) or 'of nothing'} is refused with status 2, and says why",
              done.returncode == 2 and "run: error: " in done.stderr and not done.stdout,
              (done.returncode, done.stdout, done.stderr))


def rows_are_those_of_the_site():
    for site in ("native", "testbed"):
        found = run.commands(options(site=site, rows="all"))
        check(f"all rows' programs on a {site} site are those of such sites",
              found and all(run.matrix.level(words[0]) == site for words in found), found)


def what_a_program_skipped_is_told():
    said = []
    run.print = lambda text, **_: said.append(text)
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "rows")

        def ends(text, status):
            with open(program, "w") as file:
                file.write(f"#!/bin/sh\ncat << .\n{text}\n.\nexit {status}\n")
            os.chmod(program, 0o755)
            said.clear()
            return run.run_row(options(keep=os.path.join(directory, "kept")), [program])

        found = ends("ok - one\nskip - another (no fuse)\n1 passed", 0)
        check("what a program skipped that passed is counted and told",
              found == ("PASS", 1) and "skip - another (no fuse)" in said[0], (found, said))
        found = ends("skip - all (no fuse)", 77)
        check("a program that could not run has not passed",
              found == ("SKIP", 1) and "no fuse" in said[0], (found, said))
        found = ends("not ok - one", 1)
        kept = os.path.join(directory, "kept", "rows.log")
        check("one that failed has failed, and what it said is kept", found == ("FAIL", 0)
              and "not ok - one" in said[0] and os.path.exists(kept), (found, said))
    usual = run.run_row
    for verdicts, wanted in (("PASS SKIP", 0), ("SKIP SKIP", 77), ("PASS FAIL SKIP", 1)):
        ended = iter(verdicts.split())
        run.run_row = lambda *_: (next(ended), 2)
        run.commands = lambda _: ["rows"] * len(verdicts.split())
        said.clear()
        status = run.rows(options(rows="all"))
        check(f"programs that come to {verdicts}: status {wanted}", status == wanted, status)
        check("and they are counted apart", said and all(
            f"{verdicts.split().count(verdict)} {word}" in said[0] for verdict, word in
            (("PASS", "passed"), ("FAIL", "failed"), ("SKIP", "could not run"))), said)
    run.run_row = usual
    run.print = lambda *_, **__: None


class Judged:
    """A run with a violation, of which nothing can be kept."""

    course = None

    def __init__(self, site, seed, directory):
        self.result = run.report.Result(seed, violations=["P2: two spoke"])

    def run(self):
        return self.result

    def keep(self, directory):
        raise OSError("no node answers")


def a_violation_is_one_whatever_is_kept_of_it():
    usual, run.judge.Judge = run.judge.Judge, Judged
    with tempfile.TemporaryDirectory() as scratch:
        with open(os.path.join(scratch, "client.log"), "w"):
            pass
        for where, copied in ((os.path.join(scratch, "kept"), True), ("/proc/nowhere", False)):
            result = run.one_run(options(keep=where), None, 7, scratch)
            check("a violation of which no evidence can be had is told all the same",
                  result.verdict() == "VIOLATION" and "no node answers" in result.unkept
                  and scratch in result.unkept and "no node answers" in result.line(),
                  result.line())
            check("what else there is is kept",
                  os.path.exists(os.path.join(where, "seed-7", "client.log")) == copied)
    run.judge.Judge = usual


def process(text):
    return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


class Worker(run.Worker):
    """One whose process does what `text` says."""

    text = None

    def __init__(self, options, seeds, done):
        threading.Thread.__init__(self, daemon=True)
        self.seeds, self.done, self.process = seeds, done, process(self.text)


def within(seconds, function, *args):
    """What it gives; None where it does not come to an end."""
    answers = queue.Queue()
    threading.Thread(target=lambda: answers.put(function(*args)), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return None


def a_worker_that_dies_is_waited_for_no_longer():
    good = run.report.Result(0).to_json()
    usual, run.Worker = run.Worker, Worker
    for what, Worker.text, wanted in (
            ("work", f"import sys\nfor _ in sys.stdin: print({good!r}, flush=True)", 0),
            ("are dead before they are asked", "", 1),
            ("die at the first run", "input()", 1),
            ("talk nonsense", "import sys\nfor _ in sys.stdin: print(1, flush=True)", 1),
            ("die after the first run", f"input()\nprint({good!r})", 1)):
        status = within(END_S, run.random_runs, options(random=3, jobs=2))
        check(f"runs whose processes {what} end with status {wanted}", status == wanted, status)
    closed = process("")
    closed.wait()

    class Closed(Worker):
        """Whose write fails before its process's end is seen."""

        def __init__(self):
            super().__init__(options(), queue.Queue(), queue.Queue())
            self.process.kill()
            self.process = closed
            self.seeds.put(1)
            self.seeds.put(2)

    worker = Closed()
    within(END_S, worker.run)
    told = [worker.done.get() for _ in range(worker.done.qsize())]
    check("a worker that was dead before it was asked says so once, and that it is done",
          len(told) == 2 and told[0].broken and told[1] is None, told)
    worker = Closed()
    worker.next = lambda: 1 / 0
    threading.excepthook = lambda _: None
    worker.start()
    worker.join(END_S)
    check("and whatever ends a worker, it is told that it is done", worker.done.qsize() == 1
          and worker.done.get() is None)
    run.Worker = usual


def a_run_is_had_again():
    check("by its seed", run.replay(options(site="testbed"), [5])
          == "tests/faults/run --site testbed --random 1 --seed 5")
    check("or with those before it on one pair", run.replay(options(), [3, 5])
          == "tests/faults/run --site native --seeds 3,5 --renew 2")


def main():
    for test in (nothing_is_no_success, rows_are_those_of_the_site,
                 a_violation_is_one_whatever_is_kept_of_it,
                 a_worker_that_dies_is_waited_for_no_longer, a_run_is_had_again,
                 what_a_program_skipped_is_told):
        test()
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
