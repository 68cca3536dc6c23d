#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program is killed, stopped, or its host switched off, frozen or cut from the other, at
each labelled step of its code, on either side of a pair.

First a pair lives through all that lives.py has, and it is noted which steps each side
reaches. Then each of them is armed in a life that reaches it: at that very instant
something happens, whatever was broken is mended, and the pair must be protected again by
itself, with the same TCP connection and one speaker only. Where the guest's last machine was
killed a new connection will do; and where a node's machine was killed that had been promoted
and had not yet all on its disks a person is needed, for it waits, and says so (colod(8)).

Most of colo-vm's steps are reached by a pair without colod, too, which is much quicker: from
two kills at each step on, tests/pairs/test_kill.py does these, and here each is done once.

points.py [--each N] [--others M] [--jobs J] [--seed S] [--program NAME,...] [--only STEP,...]
  --each N     each step is killed at N times on each side (1)
  --others M   and M times each: stopped, off, cut, frozen (0: one of them in turn; -1: none)
"""
import argparse
import collections
import fnmatch
import json
import os
import random
import subprocess
import sys
import threading
import time
import traceback

import lives
import test_kill
from lives import bed, hosts

SIDES = {"P": "primary", "S": "standby"}
OTHERS = ("stop", "off", "cut", "freeze")
TRIES = 3  # of lives in which a step was seen, until it is reached

# Steps that a side need not get to here, and why.
ELSEWHERE = "tests/pairs/test_kill.py gets there: a guest that writes more, or is verified"
RARE = "only for what an earlier colod asked for between two looks at its colo-vm"
POLICY = "what a guest's panic is answered with is no step of the pair's"
RACE = "its secondary is promoted before it can say so: tests/pairs/test_handover.py gets there"
OF_PRIMARY = "a primary's"
OF_STANDBY = "a standby's"
NOT_REACHED = [
    ("colo-vm", "PS", ELSEWHERE, "received-need sent-need received-verify* sent-verify*"),
    ("colo-vm", "P", RACE, "handover-applied"),
    ("colo-vm", "S", OF_PRIMARY, "handover-* held going-on received-bye"),
    ("colo-vm", "P", OF_STANDBY, "handed holding giving-up promoting promoted disks-promoted "
                                 "merge-begun merge-written merged sent-bye"),
    ("colo-netcompare", "S", OF_PRIMARY, "gate-closed recalled"),
    ("colod", "PS", POLICY, "say-reset answered-reset"),
    ("colod", "PS", RARE, "say-unprotect answered-unprotect"),
    ("colod", "S", OF_PRIMARY,
     "arbiter-create verdict-create say-checkpoint answered-checkpoint say-hand-over "
     "answered-hand-over say-powerdown answered-powerdown say-resume answered-resume "
     "state-fenced state-handing state-holding record-*-leaving ask-leave told-leave ask-take "
     "told-take ask-end told-end asked-start asked-stop asked-switch answer-no asked-consent"),
    ("colod", "P", OF_STANDBY,
     "say-promote answered-promote say-standby answered-standby state-promoting "
     "record-*-promoted asked-leave asked-take asked-end ask-start told-start ask-stop "
     "told-stop ask-switch told-switch ask-consent told-consent"),
]


def why_not(program, side, step):
    for its, sides, why, patterns in NOT_REACHED:
        if program == its and side in sides and any(
                fnmatch.fnmatchcase(step, pattern) for pattern in patterns.split()):
            return why
    return None


def all_steps():
    return {program: subprocess.run(
        [os.path.join(bed.BUILD, program + "-faults"), "--list-fault-points"], check=True,
        stdout=subprocess.PIPE, text=True).stdout.split() for program in lives.PROGRAMS}


# A worker: a process with hosts of its own. It reads what to do, a line of JSON each.


def work():
    world = lives.Lives()
    try:
        for line in sys.stdin:
            task = json.loads(line)
            try:
                answer = watch(world, task) if "watch" in task else endure(world, task)
            except Exception as error:
                answer = {"reached": False, "seen": None,
                          "wrong": [repr(error), traceback.format_exc()]}
            if answer["wrong"]:
                answer["words"] = last_words(world)
                end_pair(world)
            print("answer " + json.dumps(answer), flush=True)
    finally:
        world.close()


def end_pair(world):
    try:
        world.end_pair()
    except Exception:  # it is the next one's that matters
        bed.note(traceback.format_exc())
        world.pair = None


def last_words(world):
    try:
        return "\n".join(host.last_words() for host in world.pair.hosts)
    except Exception as error:
        return repr(error)


def watch(world, task):
    seen = world.watch(lives.BY_NAME[task["watch"]])
    return {"wrong": [], "seen": {side: sorted(steps) for side, steps in seen.items()}}


def endure(world, task):
    before = world.persons
    reached, wrong = world.endure(lives.BY_NAME[task["life"]], task["side"], task["program"],
                                  task["step"], task["nth"], task["misfortune"])
    return {"reached": reached, "wrong": wrong, "persons": world.persons - before}


class Worker:
    """Another process, and what it says."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.realpath(__file__), "--work"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, task):
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line[len("answer "):])
        return {"reached": False, "seen": None, "wrong": ["the worker has ended"], "over": True}

    def end(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait()


def share(jobs, tasks, take):
    """Has workers do all tasks; take(task, answer) may give another one to do next."""
    waiting = collections.deque(tasks)
    lock = threading.Lock()

    def run():
        worker = Worker()
        task = None
        while True:
            with lock:
                if task is None:
                    if not waiting:
                        break
                    task = waiting.popleft()
            answer = worker.ask(task)
            with lock:
                task = take(task, answer)
            if answer.get("over"):
                worker = Worker()
        worker.end()

    threads = [threading.Thread(target=run) for _ in range(min(jobs, len(waiting)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The whole.


class Hunt:
    def __init__(self, options):
        self.options = options
        self.steps = all_steps()
        self.without_colod = dict(zip("PS", test_kill.steps()))
        self.rng = random.Random(options.seed)
        self.reachable = collections.defaultdict(list)  # (program, side, step): lives
        self.hits = collections.Counter()  # (program, side, step, misfortune)
        self.failures = []
        self.persons = []  # where one had to decide which copy is to stay
        self.done = 0
        self.total = 0
        self.began = time.monotonic()

    def is_chosen(self, program, step):
        return (not self.options.program or program in self.options.program.split(",")) and \
            (not self.options.only or step in self.options.only.split(","))

    def look(self):
        """Which life gets to which step."""
        found = self.read_seen()

        def take(task, answer):
            if answer["wrong"]:
                self.fail(f"life {task['watch']}, undisturbed", answer)
            found[task["watch"]] = answer["seen"] or {}

        share(self.options.jobs,
              [{"watch": name} for name in lives.BY_NAME if name not in found], take)
        self.write_seen(found)
        for name in lives.BY_NAME:  # in that order: the least eventful first
            for side, seen in found.get(name, {}).items():
                for program, step in seen:
                    self.reachable[program, side, step].append(name)

    def is_without_colod(self, point):
        program, side, step = point
        return program == "colo-vm" and step in self.without_colod[side]

    def kill_without_colod(self):
        """All that test_kill.py gets to, as often as is asked for."""
        bed.note("colo-vm without colod, by tests/pairs/test_kill.py:")
        told = subprocess.run(
            [os.path.join(lives.PAIRS, "test_kill.py")], stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, EACH=str(self.options.each), COUNT=str(self.options.each),
                     SEED=str(self.options.seed)))
        bed.say(told.stdout)
        if told.returncode:
            self.failures.append("colo-vm without colod: see tests/pairs/test_kill.py above")
            return
        for side, steps in self.without_colod.items():
            for step in steps:
                self.hits["colo-vm", side, step, "kill"] += self.options.each

    def read_seen(self):
        try:
            with open(self.options.seen) as file:
                return json.load(file)
        except (TypeError, FileNotFoundError):
            return {}

    def write_seen(self, found):
        if self.options.seen and found != self.read_seen():
            with open(self.options.seen, "w") as file:
                json.dump(found, file)

    def tasks(self):
        """One for each misfortune at each step; the first life that gets there first."""
        made = []
        for i, (point, names) in enumerate(sorted(self.reachable.items())):
            program, side, step = point
            if not self.is_chosen(program, step):
                continue
            what = ["kill"] * (1 if self.is_without_colod(point) else self.options.each)
            if self.options.others > 0:
                what += list(OTHERS) * self.options.others
            elif not self.options.others:
                what.append(OTHERS[(i + self.options.seed) % len(OTHERS)])
            for number, misfortune in enumerate(what):
                made.append({"program": program, "side": side, "step": step,
                             "misfortune": misfortune, "nth": 1,
                             "life": names[number % min(len(names), TRIES)], "tried": 1})
        self.rng.shuffle(made)
        self.total = len(made)
        return made

    def take(self, task, answer):
        point = task["program"], task["side"], task["step"]
        label = (f"{task['misfortune']} at {task['program']} {task['step']}, "
                 f"{SIDES[task['side']]}, in {task['life']}")
        names = self.reachable[point]
        if answer["wrong"]:
            self.fail(label, answer)
        elif not answer["reached"] and task["tried"] < max(TRIES, len(names)):
            return dict(task, tried=task["tried"] + 1, nth=1,
                        life=names[task["tried"] % len(names)])
        if answer.get("persons"):
            self.persons.append(label)
        if answer["reached"] and not answer["wrong"]:
            self.hits[*point, task["misfortune"]] += 1
        self.done += 1
        if self.done % 50 == 0 or self.done == self.total:
            bed.note(f"{self.done} of {self.total}, wrong {len(self.failures)}: "
                     f"{time.monotonic() - self.began:.0f} s")
        return None

    def fail(self, label, answer):
        self.failures.append(label)
        bed.note(f"WRONG: {label}")
        bed.note("\n".join(str(each) for each in answer["wrong"]))
        if self.options.keep:
            os.makedirs(self.options.keep, exist_ok=True)
            path = os.path.join(self.options.keep, f"{len(self.failures)}.log")
            with open(path, "w") as file:
                file.write(label + "\n" + "\n".join(map(str, answer["wrong"])) + "\n"
                           + answer.get("words", ""))

    def tell(self):
        """The figures; what was never reached."""
        missed = []
        for program, steps in self.steps.items():
            for side, name in SIDES.items():
                chosen = [step for step in steps if self.is_chosen(program, step)]
                there = [step for step in chosen if not why_not(program, side, step)]
                kills = {step: self.hits[program, side, step, "kill"] for step in there}
                hit = [step for step in there if kills[step]]
                missed += [f"{program} {step}, {name}" for step in there if not kills[step]]
                other = sum(self.hits[program, side, step, kind] for step in there
                            for kind in OTHERS)
                if not chosen:
                    continue
                bed.note(f"{program}, {name}: killed at {len(hit)} of {len(there)} steps "
                         f"(of {len(chosen)}), at the least "
                         f"{min(kills.values(), default=0)} and in all {sum(kills.values())} "
                         f"times; {other} other misfortunes")
        return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "1")))
    parser.add_argument("--program")
    parser.add_argument("--only")
    parser.add_argument("--keep", help="a directory for what there is to see of a failure")
    parser.add_argument("--seen", help="a file with who reaches what: read, or written")
    parser.add_argument("--look", action="store_true", help="only tell who reaches what")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hosts.need()
    if options.work:
        work()
        return 0
    hunt = Hunt(options)
    hunt.look()
    if options.look:
        for program, steps in hunt.steps.items():
            for step in steps:
                for side in SIDES:
                    print(program, side, step, *hunt.reachable.get((program, side, step), []))
        return 0
    if options.each > 1 and not options.only and hunt.is_chosen("colo-vm", None):
        hunt.kill_without_colod()
    share(options.jobs, hunt.tasks(), hunt.take)
    missed = hunt.tell()
    if hunt.persons:
        bed.note(f"a person had to choose between two copies {len(hunt.persons)} times:")
        bed.note("\n".join(sorted(hunt.persons)))
    bed.check("each step is reached on each side, or it is said why not", not missed,
              "\n".join(missed))
    bed.check("whatever happens at whatever step, the pair is protected again by itself, the "
              "connection goes on, and one speaks only", not hunt.failures,
              "\n".join(hunt.failures))
    bed.note(f"seed {options.seed}: {time.monotonic() - hunt.began:.0f} s")
    return bed.verdict()


if __name__ == "__main__":
    sys.exit(main())
