#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Plants deliberate faults in the product, one at a time, and shows that the tests find each.

mutants.py [--jobs N] [--only TEXT]... [--list]

A mutant (tests/faults/mutants/) is a text that is in a source exactly once, what takes its
place, and the tests that hunt it. Only the changed source is compiled anew; it is linked
before the library, whose own version is then not taken. Each test is run once without a
fault, where it must pass; with the fault it must fail an assertion: a crash or a timeout
counts for nothing.

Those that the simulation of two deciding nodes hunts are in tests/unit/test_mutants.py, which
is run as well, and counts.

Environment: BUILD (build), in which `make tests` has been done.
"""
import argparse
import concurrent.futures
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TOP, os.environ.get("BUILD", os.environ.get("COLO_BUILD", "build")))
SKIPPED = 77
LIMIT_S = 400
HANGS_S = 60  # for those that are to show by not ending
# Long tests are as good for this when they are shorter.
SHORTER = {"MICRO_CHECKPOINTS": "100", "MICRO_RELOADS": "40", "MICRO_PROMOTIONS": "6",
           "COUNT": "4"}
# Beside the library: what each program is made of.
PROGRAMS = {
    "colo": ["colo/main.c"],
    "colod": ["colo/colod.c"],
    "colo-vm": ["colo/vm.c"],
    "colo-vm-faults": ["colo/vm.c", "checkpoint/fault.c"],
    "colo-netcompare": ["netcompare/main.c"],
    "colo-heartbeat": ["heartbeat/main.c"],
}

sys.path.insert(0, os.path.join(HERE, "mutants"))
import base  # noqa: E402
import checkpoint  # noqa: E402
import colo  # noqa: E402
import heartbeat  # noqa: E402
import kvm  # noqa: E402
import netcompare  # noqa: E402

ALL = [*base.MUTANTS, *heartbeat.MUTANTS, *kvm.MUTANTS, *checkpoint.MUTANTS,
       *netcompare.MUTANTS, *colo.MUTANTS]


class Broken(Exception):
    """It cannot be said whether the fault is found."""


def variables(*names):
    """Of the makefile: what is compiled with, and from what."""
    where = ["make", "-s", "-C", TOP, f"BUILD={os.path.relpath(BUILD, TOP)}"]
    return {name: subprocess.run([*where, f"print-{name}"], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.split() for name in names}


def object_of(source):
    name = os.path.splitext(source)[0] + ".o"
    # The program colo has the place that the folder's objects would have.
    return os.path.join(BUILD, re.sub(r"^colo/", "colo.objects/", name))


class Maker:
    """Compiles and links as the makefile does."""

    def __init__(self):
        self.flags = variables("CC", "ALL_CFLAGS", "ALL_LDFLAGS", "PKG_LIBS", "UNIT_HELPERS",
                               "MICRO_HELPERS", "SANITIZE_OBJECT", "LIB")

    def run(self, words):
        done = subprocess.run(words, cwd=TOP, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Broken(f"it cannot be built: {done.stdout[:600]}")

    def compile(self, source, to, *before):
        self.run([*self.flags["CC"], *before, *self.flags["ALL_CFLAGS"], "-w", "-c", "-o", to,
                  source])

    def link(self, to, objects, *libs):
        if os.path.exists(to):
            os.unlink(to)  # not through a link to the one that has no fault
        self.run([*self.flags["CC"], *self.flags["ALL_LDFLAGS"], "-o", to, *objects,
                  *self.flags["LIB"], *self.flags["PKG_LIBS"], *libs])


class Bench:
    """A build directory of one mutant's; `mutant` None: of none, for the controls."""

    def __init__(self, maker, folder, mutant=None):
        self.maker, self.folder = maker, folder
        self.file = mutant.file if mutant else None
        self.changed = None
        self.made = {}
        self.lock = threading.Lock()
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        if mutant:
            source = os.path.join(folder, "changed", mutant.file)
            os.makedirs(os.path.dirname(source))
            with open(source, "w", encoding="utf-8") as out:
                out.write(changed_text(mutant))
            self.changed = os.path.join(folder, "mutant.o")
            maker.compile(source, self.changed)
        only = os.path.join(folder, "only.o")
        maker.compile(os.path.join(HERE, "mutants", "only.c"), only)

    def objects(self, sources):
        """These sources' objects, and the one with the fault before all that could have it."""
        own = [self.changed if source == self.file else object_of(source) for source in sources]
        return own if self.changed is None or self.changed in own else [*own, self.changed]

    def command(self, hunter):
        with self.lock:
            if (hunter.kind, hunter.program) not in self.made:
                make = self.make_programs if hunter.kind == "script" else self.make_test
                self.made[hunter.kind, hunter.program] = make(hunter)
        return self.made[hunter.kind, hunter.program]

    def make_test(self, hunter):
        program = os.path.join(self.folder, hunter.program)
        helpers = self.maker.flags["UNIT_HELPERS" if hunter.kind == "unit" else "MICRO_HELPERS"]
        source = f"tests/{hunter.kind}/{hunter.program}.c"
        if self.is_within(source):
            objects = [program + ".o"]
            self.maker.compile(source, objects[0], "-I" + os.path.join(self.folder, "changed"))
        else:
            objects = self.objects([source])
        self.maker.link(program, [*objects, os.path.join(self.folder, "only.o"), *helpers],
                        "-lcmocka")
        return [program]

    def is_within(self, source):
        """Whether a test takes the changed source into its own."""
        with open(os.path.join(TOP, source), encoding="utf-8") as file:
            return f'#include "{self.file}"' in file.read()

    def make_programs(self, hunter):
        guest = os.path.join(self.folder, "guest")
        if not os.path.exists(guest):
            # Links, since a program finds the others beside its own file.
            for name, sources in PROGRAMS.items():
                there = os.path.join(self.folder, name)
                if self.changed:
                    self.maker.link(there, self.objects(sources))
                else:
                    os.link(os.path.join(BUILD, name), there)
            os.symlink(os.path.join(BUILD, "guest"), guest)
        return [os.path.join(TOP, "tests", hunter.program)]

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def changed_text(mutant):
    with open(os.path.join(TOP, mutant.file), encoding="utf-8") as source:
        text = source.read()
    found = list(re.finditer(r"\s+".join(map(re.escape, mutant.old.split())), text))
    if len(found) != 1:
        raise Broken(f"{mutant.file} has changed: \"{mutant.old}\" is there {len(found)} times, "
                     "and must be once")
    return text[:found[0].start()] + mutant.new + text[found[0].end():]


def run_hunter(bench, hunter, limit=LIMIT_S):
    """(status, what it said); status None: it did not end in time."""
    command = bench.command(hunter)
    environment = {**os.environ, **SHORTER,
                   "MICROGUEST": os.path.join(BUILD, "guest", "microguest.bin"),
                   "COLO_BUILD": bench.folder, "BUILD": bench.folder, "G_MESSAGES_DEBUG": ""}
    if hunter.kind == "script":
        command = [*command, hunter.test]
    else:
        environment["ONLY"] = hunter.test
    with subprocess.Popen(command, cwd=TOP, text=True, errors="replace", env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as running:
        try:
            said, _ = running.communicate(timeout=limit)
            return running.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGTERM)
            try:
                said, _ = running.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                said, _ = running.communicate()
            return None, said


def failed_assertion(hunter, said):
    """The first one; None: none failed."""
    if hunter.kind == "script":
        found = re.search(r"^not ok - (.*(?:\n(?!ok|not ok|#).*)?)", said, re.M)
    else:
        found = re.search(r"\[  ERROR   \] --- (?!Test failed with exception)(.+)", said) or \
            re.search(r"(\S+: error: Failure!.*)", said) or \
            re.search(r"^ERROR:(.*assertion failed.*)", said, re.M) or \
            re.search(r"ERROR \*\*: [\d:.]+: (.*)", said)  # the product's own, or a rig's
    return " ".join(found[1].split())[:160] if found else None


def ran(hunter, said):
    """Whether it tested anything: a name that no test has would pass."""
    if hunter.kind == "script":
        return bool(re.search(r"^ok - ", said, re.M))
    return any(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", said))


class Controls:
    """Each hunter without a fault, once."""

    def __init__(self, maker, folder):
        self.bench = Bench(maker, folder)
        self.lock = threading.Lock()
        self.futures = {}

    def need(self, hunter):
        with self.lock:
            mine = hunter not in self.futures
            if mine:
                self.futures[hunter] = concurrent.futures.Future()
            future = self.futures[hunter]
        if mine:
            try:
                future.set_result(self.run(hunter))
            except Exception as error:  # for all that wait for it
                future.set_exception(error)
        return future.result()

    def run(self, hunter):
        status, said = run_hunter(self.bench, hunter)
        if status == SKIPPED:
            words = re.search(r"SKIPPED: (.*)", said)
            raise Broken(f"{hunter}: could not run here: {words[1] if words else said[-200:]}")
        if status != 0 or not ran(hunter, said):
            raise Broken(f"{hunter}: does not pass without any fault (status {status}):\n"
                         f"{said[-1500:]}")


def hunt(maker, controls, folder, mutant):
    """What a line about this mutant says: (found, text)."""
    missed = []
    bench = None
    try:
        for hunter in mutant.hunters:
            controls.need(hunter)
            bench = bench or Bench(maker, folder, mutant)
            status, said = run_hunter(bench, hunter, HANGS_S if mutant.hangs else LIMIT_S)
            why = failed_assertion(hunter, said)
            if status is None and mutant.hangs:
                return True, f"by {hunter}: it does not end"
            if status and why:
                return True, f"by {hunter}: {why}"
            how = "does not end" if status is None else \
                "passes" if status == 0 else f"status {status}: {said.strip()[-300:]}"
            missed.append(f"{hunter}: {how}")
        return False, "; ".join(missed)
    except Broken as why:
        return False, str(why)
    finally:
        if bench:
            bench.remove()


def simulated():
    """Those of tests/unit/test_mutants.py: (found, all, what it says)."""
    done = subprocess.run([os.path.join(TOP, "tests", "unit", "test_mutants.py")], cwd=TOP,
                          text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    found = len(re.findall(r"^ok - ", done.stdout, re.M))
    missed = len(re.findall(r"^not ok - ", done.stdout, re.M))
    if not found + missed or (done.returncode and not missed):
        missed += 1
    return found, found + missed, done.stdout.rstrip()


def arguments():
    parser = argparse.ArgumentParser(description="plants faults and hunts them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", action="append",
                        help="those with this text in name or file; may be given again")
    parser.add_argument("--list", action="store_true", help="names them")
    return parser.parse_args()


def main():
    given = arguments()
    chosen = [mutant for mutant in ALL
              if not given.only or any(text in mutant.name or text in mutant.file
                                       for text in given.only)]
    if len({mutant.name for mutant in ALL}) != len(ALL):
        sys.exit("mutants.py: two mutants have one name")
    if given.list:
        for mutant in chosen:
            print(f"{mutant.file}: {mutant.name}")
        return 0
    began, found, wanted = time.monotonic(), 0, len(chosen)
    maker = Maker()
    # There, since the links in it do not reach another file system.
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=BUILD) as top, \
            concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        controls = Controls(maker, os.path.join(top, "none"))
        simulation = None if given.only else pool.submit(simulated)
        hunts = {pool.submit(hunt, maker, controls, os.path.join(top, str(i)), mutant): mutant
                 for i, mutant in enumerate(chosen)}
        for done in concurrent.futures.as_completed(hunts):
            good, text = done.result()
            found += good
            print(f"{'ok' if good else 'not ok'} - {hunts[done].name}: {text}", flush=True)
        if simulation:
            good, number, text = simulation.result()
            found, wanted = found + good, wanted + number
            print(text)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"# {time.monotonic() - began:.0f} s, of processors {used.ru_utime + used.ru_stime:.0f} s")
    print(f"{found} of {wanted} caught")
    return 0 if found == wanted and wanted else 1


if __name__ == "__main__":
    sys.exit(main())
