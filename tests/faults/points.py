#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program is killed, stopped, or its host switched off, frozen or cut from the other, at
each labelled step of its code, on either side of a pair.

First a pair lives through all that lives.py has, and it is noted which steps each side
reaches; through all of it once more where a step is missing that should not be. Then each of
them is armed in a life that reaches it, for one of the first three times that it is passed, or
for the first where it is not passed again: at that very instant something happens, whatever was
broken is mended, and the pair must be protected again by itself, with the same TCP connection
and one speaker only. Where the guest's last machine was killed a new connection will do; and
where a node's machine was killed that had been promoted and had not yet all on its disks a
person is needed, for it waits, and says so (colod(8)).

Most of colo-vm's steps are reached by a pair without colod, too, which is much quicker: from
two kills at each step on, tests/pairs/test_kill.py does these, and here each is done once.

points.py [--each N] [--others M] [--jobs J] [--seed S] [--program NAME,...] [--only STEP,...]
  --each N     each step is killed at N times on each side (1)
  --others M   and M times each: stopped, off, cut, frozen (0: one of them in turn; -1: none);
               frozen at least where colod has been told something and has not yet acted on it
"""
import argparse
import collections
import fnmatch
import json
import math
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
LIVES_EACH = 3  # in which things happen at a step, where as many get there
TRIES = 10  # of lives in which a step was seen, until it is reached: at some it is chance
LOOKS = 2  # through all lives, until each step was seen that a side should get to
PASSAGES = (1, 2, 3)  # of a step, at one of which something happens
# Where a host must have been frozen: it was granted something, or is something, and has done
# nothing for it yet (F05).
FROZEN = ("colod", ("verdict-*", "state-*"))

# Steps that a side need not get to here, and why.
ELSEWHERE = "tests/pairs/test_kill.py gets there: a guest that writes more, or is verified"
RARE = "only for what an earlier colod asked for between two looks at its colo-vm"
POLICY = "what a guest's panic is answered with is no step of the pair's"
RACE = "its secondary is promoted before it can say so: tests/pairs/test_handover.py gets there"
OF_PRIMARY = "a primary's"
OF_STANDBY = "a standby's"
NEVER = (POLICY, OF_PRIMARY, OF_STANDBY)  # who gets there all the same belies it
NOT_REACHED = [
    ("colo-vm", "PS", ELSEWHERE, "received-need sent-need received-verify* sent-verify*"),
    ("colo-vm", "P", RACE, "handover-applied"),
    ("colo-vm", "S", OF_PRIMARY, "handover-* held going-on"),
    ("colo-vm", "P", OF_STANDBY, "handed holding giving-up promoting promoted disks-promoted "
                                 "merge-begun merge-written merged"),
    ("colo-netcompare", "S", OF_PRIMARY, "gate-closed recalled"),
    ("colod", "PS", POLICY, "say-reset answered-reset"),
    ("colod", "PS", RARE, "say-unprotect answered-unprotect"),
    ("colod", "S", OF_PRIMARY,
     "arbiter-create verdict-create say-checkpoint answered-checkpoint say-hand-over "
     "answered-hand-over say-powerdown answered-powerdown say-resume answered-resume "
     "state-fenced state-handing state-holding record-*-leaving ask-leave told-leave ask-take "
     "told-take ask-end told-end asked-start asked-stop asked-switch"),
    ("colod", "P", OF_STANDBY,
     "say-promote answered-promote say-standby answered-standby state-promoting "
     "record-*-promoted asked-leave asked-take asked-end ask-start told-start ask-stop "
     "told-stop ask-switch told-switch"),
]


def why_not(program, side, step):
    for its, sides, why, patterns in NOT_REACHED:
        if program == its and side in sides and any(
                fnmatch.fnmatchcase(step, pattern) for pattern in patterns.split()):
            return why
    return None


def is_frozen_at(program, step):
    """Whether it is not enough if something else happens there."""
    its, patterns = FROZEN
    return program == its and any(fnmatch.fnmatchcase(step, pattern) for pattern in patterns)


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
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith("answer "):
                    return json.loads(line[len("answer "):])
        except OSError:
            pass  # it has ended before
        return {"reached": False, "seen": None, "wrong": ["the worker has ended"], "over": True}

    def end(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it has ended, with something for it still on its way
        self.process.stdout.read()
        self.process.wait()


def share(jobs, tasks, take, ready=lambda task: task):
    """Has workers do all tasks, each as ready(task) makes it just before; take(task, answer) may
    give another one to do next."""
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
                    task = ready(waiting.popleft())
            answer = worker.ask(task)
            with lock:
                task = take(task, answer)
            if answer.get("over"):
                worker.end()
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
        self.passages = collections.Counter()  # at which something happened
        self.passed_less = {}  # (point, life): a passage that it did not get to
        self.unreached = []  # what was to happen at a step, and did not: it was not reached
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
        self.note_seen(found)
        waiting = [name for name in lives.BY_NAME if name not in found]
        for _ in range(LOOKS):
            share(self.options.jobs, [{"watch": name} for name in waiting],
                  lambda task, answer: self.take_seen(found, task, answer))
            self.note_seen(found)
            missing = [point for point in self.demanded() if point not in self.reachable]
            if not missing:
                break
            bed.note("nobody gets to " + ", ".join(map(" ".join, missing)))
            waiting = list(lives.BY_NAME)
        self.write_seen(found)

    def take_seen(self, found, task, answer):
        if answer["wrong"]:
            self.fail(f"life {task['watch']}, undisturbed", answer)
        sides = found.setdefault(task["watch"], {})
        for side, steps in (answer["seen"] or {}).items():
            seen = {tuple(step) for step in sides.get(side, [])} | set(map(tuple, steps))
            sides[side] = sorted(map(list, seen))

    def note_seen(self, found):
        self.reachable.clear()
        for name in lives.BY_NAME:  # in that order: the least eventful first
            for side, seen in found.get(name, {}).items():
                for program, step in seen:
                    self.reachable[program, side, step].append(name)

    def demanded(self):
        """(program, side, step) of all that a side should get to."""
        return [(program, side, step) for program, steps in self.steps.items()
                for side in SIDES for step in steps
                if self.is_chosen(program, step) and not why_not(program, side, step)]

    def belied(self):
        """What a side got to though it is said that it never does."""
        found = []
        for point, names in sorted(self.reachable.items()):
            program, side, step = point
            why = why_not(program, side, step)
            if names and why in NEVER and self.is_chosen(program, step):
                found.append(f"{program} {step}, {SIDES[side]}: {why}, but in {', '.join(names)}")
        return found

    def is_without_colod(self, point):
        program, side, step = point
        return program == "colo-vm" and step in self.without_colod[side]

    def kills_without_colod(self):
        """Whether test_kill.py is to do what it can."""
        return self.options.each > 1 and not self.options.only and \
            self.is_chosen("colo-vm", None)

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
            done_elsewhere = self.kills_without_colod() and self.is_without_colod(point)
            what = ["kill"] * (1 if done_elsewhere else self.options.each)
            if self.options.others > 0:
                what += list(OTHERS) * self.options.others
            elif not self.options.others:
                what.append(OTHERS[(i + self.options.seed) % len(OTHERS)])
                if is_frozen_at(program, step) and "freeze" not in what:
                    what.append("freeze")
            for number, misfortune in enumerate(what):
                made.append({"program": program, "side": side, "step": step,
                             "misfortune": misfortune, "nth": self.rng.choice(PASSAGES),
                             "life": names[number % min(len(names), LIVES_EACH)],
                             "tried": 1})
        self.rng.shuffle(made)
        self.total = len(made)
        return made

    def ready(self, task):
        """With a passage to which its life gets, as far as is known."""
        life = task["program"], task["side"], task["step"], task["life"]
        return dict(task, nth=1) if task["nth"] >= self.passed_less.get(life, math.inf) else task

    def take(self, task, answer):
        point = task["program"], task["side"], task["step"]
        label = (f"{task['misfortune']} at {task['program']} {task['step']}, "
                 f"{SIDES[task['side']]}, passage {task['nth']}, in {task['life']}")
        names = self.reachable[point]
        if answer["wrong"]:
            self.fail(label, answer)
        elif not answer["reached"] and task["nth"] > 1:
            life = *point, task["life"]
            self.passed_less[life] = min(task["nth"], self.passed_less.get(life, task["nth"]))
            return dict(task, nth=1)
        elif not answer["reached"] and task["tried"] < max(TRIES, len(names)):
            return dict(task, tried=task["tried"] + 1, nth=1,
                        life=names[task["tried"] % len(names)])
        elif not answer["reached"]:
            self.unreached.append(f"{label}: not reached in {task['tried']} lives")
        if answer.get("persons"):
            self.persons.append(label)
        if answer["reached"] and not answer["wrong"]:
            self.hits[*point, task["misfortune"]] += 1
            self.passages[task["nth"]] += 1
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

    def short(self, point):
        """What did not happen at a step as often as it was to, in words; or nothing."""
        program, side, step = point
        kills = self.hits[*point, "kill"]
        where = f"{program} {step}, {SIDES[side]}"
        if kills < self.options.each:
            yield f"{where}: {kills} of {self.options.each} kills"
        elif not any(self.hits[*point, what] for what in ("kill", *OTHERS)):
            yield f"{where}: nothing happened there"
        if is_frozen_at(program, step) and self.options.others >= 0 \
                and not self.hits[*point, "freeze"]:
            yield f"{where}: never frozen there"

    def tell(self):
        """The figures; what did not happen as often as it was to."""
        for program, steps in self.steps.items():
            chosen = [step for step in steps if self.is_chosen(program, step)]
            for side, name in SIDES.items() if chosen else ():
                there = [step for step in chosen if not why_not(program, side, step)]
                kills = {step: self.hits[program, side, step, "kill"] for step in there}
                other = sum(self.hits[program, side, step, kind] for step in there
                            for kind in OTHERS)
                bed.note(f"{program}, {name}: killed at {sum(map(bool, kills.values()))} of "
                         f"{len(there)} steps (of {len(chosen)}), at the least "
                         f"{min(kills.values(), default=0)} and in all {sum(kills.values())} "
                         f"times; {other} other misfortunes")
        bed.note("at their passages: " + ", ".join(
            f"{number} {count} times" for number, count in sorted(self.passages.items())))
        if self.unreached:
            bed.note(f"{len(self.unreached)} times a step was not reached that was to be:")
            bed.note("\n".join(sorted(self.unreached)))
        return [text for point in self.demanded() for text in self.short(point)]


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
    if hunt.kills_without_colod():
        hunt.kill_without_colod()
    share(options.jobs, hunt.tasks(), hunt.take, hunt.ready)
    missed = hunt.tell()
    if hunt.persons:
        bed.note(f"a person had to choose between two copies {len(hunt.persons)} times:")
        bed.note("\n".join(sorted(hunt.persons)))
    belied = hunt.belied()
    bed.check("all that was to be done was tried", hunt.done == hunt.total,
              f"{hunt.done} of {hunt.total}")
    bed.check(f"{options.each} kills are survived at each step on each side, or it is said why "
              "nobody gets there", not missed, "\n".join(missed))
    bed.check("nobody gets where it is said that nobody ever does", not belied,
              "\n".join(belied))
    bed.check("whatever happens at whatever step, the pair is protected again by itself, the "
              "connection goes on, and one speaks only", not hunt.failures,
              "\n".join(hunt.failures))
    bed.note(f"seed {options.seed}: {time.monotonic() - hunt.began:.0f} s")
    return bed.verdict()


if __name__ == "__main__":
    sys.exit(main())
