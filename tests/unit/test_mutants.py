#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Plants faults in the code that decides, one at a time, and shows that two nodes simulated
with it (tests/unit/world.h) are found out. A check that nothing can fail is none.

Each fault is a text that is in the source and what takes its place; where the source has
changed so that it is not there any more, this says so."""
import glob
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("BUILD", os.environ.get("COLO_BUILD", "build")))
SEEDS = "60000"

FAULTS = [
    ("a grant is believed that the arbiter did not give", "node_grant",
     "if (verdict == COLO_VERDICT_GRANTED) {\n\t\tnode_happen(node, COLO_ON_GRANTED,",
     "if (verdict != COLO_VERDICT_DENIED) {\n\t\tnode_happen(node, COLO_ON_GRANTED,"),
    ("the word to take over is not final", "node_protect",
     "(node->state == COLO_HANDING && node->go))\n\t\treturn;",
     "FALSE)\n\t\treturn;"),
    ("a role is told and acted on before it is on disk", "node",
     "\tnode->moving = TRUE;\n\tnode->move = *event;\n\tnode->writing = record;\n",
     "\tnode->record = record;\n\ttake_step(node, event);\n"),
    ("consent is said before it is on disk", "node_grant",
     "\tnode->consent_id = id;\n\tnode_happen(",
     "\tnode->consent_id = id;\n\tnode_consented(node);\n\tnode_happen("),
    ("consent is given whatever this node has", "node_grant",
     "if (is_ahead(node, generation))", "if (FALSE)"),
    ("a copy that may be older is started", "startup",
     "\treturn part == COLO_PART_SOLO || part == COLO_PART_PRIMARY;",
     "\treturn part == COLO_PART_SOLO || part == COLO_PART_PRIMARY ||\n"
     "\t       part == COLO_PART_STANDBY;"),
    ("a start does not ask the arbiter first", "startup",
     "begin(at, COLO_STARTUP_CLAIM, record->generation,\n\t\t      \"this node was the primary",
     "begin(at, COLO_STARTUP_OURS, record->generation,\n\t\t      \"this node was the primary"),
    ("a standby that was told of by nobody counts", "node_protect",
     "if (node->state == COLO_SYNCING && node->seal < NODE_ARBITER)",
     "if (node->state == COLO_SYNCING || node->state == COLO_PROTECTED)"),
    ("a machine that was written off goes on under a new colod", "node_vm",
     "\treturn node->record.stopped ||\n\t       (!found->standby &&",
     "\treturn FALSE && node->record.stopped ||\n\t       FALSE && (!found->standby &&"),
    ("a promotion's writes are thought durable at once", "roles",
     "[COLO_ON_GRANTED] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED,",
     "[COLO_ON_GRANTED] = STEP(COLO_PROMOTING, COLO_AS_SOLO,"),
    ("that a copy is being filled is not written down", "roles",
     "STEP(COLO_JOINING, COLO_AS_NONE, node_start_standby)",
     "STEP(COLO_JOINING, COLO_KEEP, node_start_standby)"),
    ("who is denied the grant goes on", "node_grant",
     "node_happen(node, COLO_ON_DENIED, record->generation);",
     "node_happen(node, COLO_ON_GRANTED, record->generation);"),
    ("what was said of an earlier generation counts", "node_start",
     "node->begin = decision->generation + 1;", "node->begin = decision->generation;"),
]


def flags(name):
    return subprocess.run(["make", "-s", "-C", TOP, f"BUILD={os.path.relpath(BUILD, TOP)}",
                           f"print-{name}"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.split()


def wraps(test):
    with open(os.path.join(TOP, "tests", "unit", test + ".wrap"), encoding="utf-8") as names:
        return ["-Wl,--wrap=" + name for name in names.read().split()]


def build(folder, part, old, new, compiler):
    with open(os.path.join(TOP, "colo", part + ".c"), encoding="utf-8") as source:
        text = source.read()
    if text.count(old) != 1:
        sys.exit(f"not ok - colo/{part}.c has changed: {old!r} is there {text.count(old)} times")
    mutant = os.path.join(folder, part + ".c")
    with open(mutant, "w", encoding="utf-8") as out:
        out.write(text.replace(old, new))
    program = os.path.join(folder, "mutant")
    unit = os.path.join(BUILD, "tests", "unit")
    subprocess.run([*compiler, "-w", "-O1", "-o", program, mutant,
                    os.path.join(unit, "test_colo_node.o"),
                    *sorted(glob.glob(os.path.join(unit, "world*.o"))),
                    *wraps("test_colo_node"), os.path.join(BUILD, "libcolo.a"), *flags("PKG_LIBS"), "-lcmocka"],
                   check=True, cwd=TOP)
    return program


def main():
    compiler = flags("CC") + flags("ALL_CFLAGS")
    missed = 0
    for name, part, old, new in FAULTS:
        with tempfile.TemporaryDirectory(prefix="colo-mutant-") as folder:
            program = build(folder, part, old, new, compiler)
            done = subprocess.run([program], text=True, timeout=600, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={**os.environ, "SEEDS": SEEDS})
            found = re.search(r"ERROR: (.*)", done.stdout) or \
                re.search(r"(.*: error: Failure!)", done.stdout)
            if done.returncode and found:
                print(f"ok - {name}: {found[1][:150]}")
            else:
                print(f"not ok - nobody sees that {name}")
                missed += 1
    return missed


if __name__ == "__main__":
    sys.exit(main())
