#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Plants faults in the code of a pair, one at a time, and shows that a simulation with it is
found out. A check that nothing can fail is none.

Each fault is a text that is in the source and what takes its place; where the source has
changed so that it is not there any more, this says so."""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("BUILD", os.environ.get("COLO_BUILD", "build")))
SEEDS = "60000"

# Node, heart, arbiter and record, in a world (tests/unit/world.h).
NODE = "test_colo_node"
NODE_FAULTS = [
    ("a grant is believed that the arbiter did not give", "colo/node_grant",
     "if (verdict == COLO_VERDICT_GRANTED) {\n\t\tnode_happen(node, COLO_ON_GRANTED,",
     "if (verdict != COLO_VERDICT_DENIED) {\n\t\tnode_happen(node, COLO_ON_GRANTED,"),
    ("the word to take over is not final", "colo/node_protect",
     "(node->state == COLO_HANDING && node->go))\n\t\treturn;",
     "FALSE)\n\t\treturn;"),
    ("a role is told and acted on before it is on disk", "colo/node",
     "\tnode->moving = TRUE;\n\tnode->move = *event;\n\tnode->writing = record;\n",
     "\tnode->record = record;\n\ttake_step(node, event);\n"),
    ("consent is said before it is on disk", "colo/node_grant",
     "\tnode->consent_id = id;\n\tnode_happen(",
     "\tnode->consent_id = id;\n\tnode_consented(node);\n\tnode_happen("),
    ("consent is given whatever this node has", "colo/node_grant",
     "if (is_ahead(node, generation))", "if (FALSE)"),
    ("a copy that may be older is started", "colo/startup",
     "\treturn part == COLO_PART_SOLO || part == COLO_PART_PRIMARY;",
     "\treturn part == COLO_PART_SOLO || part == COLO_PART_PRIMARY ||\n"
     "\t       part == COLO_PART_STANDBY;"),
    ("a start does not ask the arbiter first", "colo/startup",
     "begin(at, COLO_STARTUP_CLAIM, record->generation,\n\t\t      \"this node was the primary",
     "begin(at, COLO_STARTUP_OURS, record->generation,\n\t\t      \"this node was the primary"),
    ("a standby that was told of by nobody counts", "colo/node_protect",
     "if (node->state == COLO_SYNCING && node->seal < NODE_ARBITER)",
     "if (node->state == COLO_SYNCING || node->state == COLO_PROTECTED)"),
    ("a machine that was written off goes on under a new colod", "colo/node_vm",
     "\treturn node->record.stopped ||\n\t       (!found->standby &&",
     "\treturn FALSE && node->record.stopped ||\n\t       FALSE && (!found->standby &&"),
    ("a promotion's writes are thought durable at once", "colo/roles",
     "[COLO_ON_GRANTED] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED,",
     "[COLO_ON_GRANTED] = STEP(COLO_PROMOTING, COLO_AS_SOLO,"),
    ("that a copy is being filled is not written down", "colo/roles",
     "STEP(COLO_JOINING, COLO_AS_NONE, node_start_standby)",
     "STEP(COLO_JOINING, COLO_KEEP, node_start_standby)"),
    ("who is denied the grant goes on", "colo/node_grant",
     "node_happen(node, COLO_ON_DENIED, record->generation);",
     "node_happen(node, COLO_ON_GRANTED, record->generation);"),
    ("what was said of an earlier generation counts", "colo/node_start",
     "node->begin = decision->generation + 1;", "node->begin = decision->generation;"),
    ("what was played again is heard", "heartbeat/peer",
     "\tif (sequence > *highest) {", "\tif (sequence) {"),
    ("a heartbeat's MAC is not looked at", "heartbeat/message",
     "if (!sealed(codec, &datagram))", "if (FALSE && !sealed(codec, &datagram))"),
    ("what was held back for seconds is a sign of life", "heartbeat/detector",
     "if (!is_fresh(detector, message, at->mono_ns))",
     "if (FALSE && !is_fresh(detector, message, at->mono_ns))"),
    ("a heart takes its own delay for the other's silence", "heartbeat/detector",
     "\tif (path->stalled)\n\t\tpath->silent_from_ns += stalled_ns;\n\telse\n"
     "\t\tpath->silent_from_ns = now_ns;\n", ""),
    ("what an earlier boot's heart gives back counts", "heartbeat/heart",
     "if (verdict == HB_HEARD && message.echo != heart->peer.ours)", "if (FALSE)"),
    ("a clock that was set is not noticed", "heartbeat/detector",
     "detector->peer_tai_ns = message->sent_tai_ns - message->sent_ns;",
     "if (!detector->peer_tai_ns) detector->peer_tai_ns = "
     "message->sent_tai_ns - message->sent_ns;"),
    ("a question to etcd that was not answered is taken for a yes", "colo/arbiter_etcd",
     "\tif (problem) {\n\t\tnext_attempt(etcd, problem);",
     "\tif (problem) {\n\t\tfinish(etcd, COLO_VERDICT_GRANTED, NULL, problem);"),
    ("etcd's record is put whatever it was", "colo/arbiter_etcd",
     "if (etcd->operation == FORCE) {\n\t\tbegin_txn_at", "if (TRUE) {\n\t\tbegin_txn_at"),
    ("etcd's no is taken for a yes", "colo/arbiter_etcd",
     "finish(etcd, COLO_VERDICT_DENIED, &kv->record, why);",
     "finish(etcd, COLO_VERDICT_GRANTED, &kv->record, why);"),
    ("a claim is for the same generation", "colo/arbiter_etcd",
     "\t\trecord.generation++;", "\t\t;"),
    ("a fence agent that failed is believed", "colo/arbiter_fence",
     "WIFEXITED(status) && WEXITSTATUS(status) == 0;", "WIFEXITED(status);"),
    ("without an arbiter either node may go on", "colo/arbiter_none",
     "config->survivor == none->self) {", "TRUE) {"),
    ("a secondary leaves no turn while the arbiter is away", "colo/node_grant",
     "\t    leaves_a_turn(node) || ", "\t    "),
    ("the record is not flushed", "colo/record",
     "return fsync(fd) ? -errno : 0;", "return 0;"),
    ("the record's folder is not flushed", "colo/record",
     "base_fault_of(\"record-renamed\", part);\n\tif (fsync(folder)) {", "if (FALSE) {"),
    ("a record is acted on before it is on disk", "colo/record",
     "if (fsync(folder)) {\n\t\terr = errno;\n\t\treturn fail(error, err, \"flush the folder "
     "of\", path);\n\t}\n\tlength =", "length ="),
    ("a record that could not be written is called written", "colo/record",
     "\t\treturn fail(error, err, \"write\", path);", "\t\treturn TRUE;"),
    ("the record has no checksum", "colo/record",
     "XXH128_hash_t sum = XXH3_128bits(text->str, text->len);",
     "XXH128_hash_t sum = { 0 };"),
]

# The disks of both nodes (tests/unit/world_disk.h).
DISKS = "test_checkpoint_disks"
DISK_FAULTS = [
    ("what the guest wrote itself is not merged", "checkpoint/disk_merge",
     "if (!chunk)", "if (TRUE)"),
    ("what the guest wrote itself stays after a commit", "checkpoint/disk_twin",
     "\t\tckpt_layer_clear(twin->own);\n\t\tbury(twin);", "\t\tbury(twin);"),
    ("writes that no checkpoint covers are committed", "checkpoint/disk_twin",
     "while ((held = g_queue_peek_head(&twins->held)) && held->number <= number) {",
     "while ((held = g_queue_peek_head(&twins->held))) {"),
    ("committed writes are dropped", "checkpoint/disk_twin",
     "\t\tckpt_backlog_add(held->twin->committed, held->chunk, NULL);",
     "\t\tif (held->number % 64) ckpt_backlog_add(held->twin->committed, held->chunk, NULL);"),
    ("a promotion is called durable before a flush", "checkpoint/disk_merge",
     "} else if (ckpt_backlog_is_written(merge->backlog, merge->serial)) {",
     "} else if (merge->serial && merge->flush == NULL) {\n\t\tend(merge);\n\t} else if "
     "(ckpt_backlog_is_written(merge->backlog, merge->serial)) {"),
    ("a promoted guest's flush is not the disk's", "checkpoint/disk_twin",
     "if (!op->is_base && !twin->merge) {", "if (!op->is_base) {"),
    ("writes that overlap reach the disk in any order", "checkpoint/disk_backlog",
     "if (!below)\n\t\treturn;", "if (TRUE)\n\t\treturn;"),
    ("a read does not see what is on its way to the disk", "checkpoint/disk_twin",
     "struct reading reading = { op, committed, 0 };", "struct reading reading = { op, NULL, 0 };"),
    ("a first sync does not see what is written meanwhile", "checkpoint/disk_sync",
     "return piece->overtaken[sector / 8] >> sector % 8 & 1;", "return sector > SECTORS;"),
    ("a first sync calls blocks equal that are not", "checkpoint/disk_sync",
     "bytes + at, MIN(CKPT_SYNC_BLOCK, len - at), secret,", "bytes + at, 512, secret,"),
    ("what was in flight when forwarding begins is not sent", "checkpoint/disk_out",
     "\tif (!on)\n\t\treturn;\n\tout->number = 0;", "\tout->number = 0;\n\treturn;"),
    ("a write that failed is taken for written", "checkpoint/disk_backlog",
     "\tif (result < 0) {\n\t\t/* It stays", "\tif (FALSE) {\n\t\t/* It stays"),
]


def flags(name):
    return subprocess.run(["make", "-s", "-C", TOP, f"BUILD={os.path.relpath(BUILD, TOP)}",
                           f"print-{name}"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.split()


def wraps(test):
    path = os.path.join(TOP, "tests", "unit", test + ".wrap")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as names:
        return ["-Wl,--wrap=" + name for name in names.read().split()]


def build(folder, test, part, old, new, compiler, libraries):
    with open(os.path.join(TOP, part + ".c"), encoding="utf-8") as source:
        text = source.read()
    if text.count(old) != 1:
        sys.exit(f"not ok - {part}.c has changed: {old!r} is there {text.count(old)} times")
    mutant = os.path.join(folder, os.path.basename(part) + ".c")
    with open(mutant, "w", encoding="utf-8") as out:
        out.write(text.replace(old, new))
    program = os.path.join(folder, "mutant")
    unit = os.path.join(BUILD, "tests", "unit")
    subprocess.run([*compiler, "-w", "-O1", "-o", program, mutant,
                    os.path.join(unit, test + ".o"), os.path.join(unit, "fake_disk.o"),
                    *sorted(glob.glob(os.path.join(unit, "world*.o"))), *wraps(test),
                    os.path.join(BUILD, "libcolo.a"), *libraries, "-lcmocka"],
                   check=True, cwd=TOP)
    return program


def judge(test, fault, compiler, libraries):
    """Whether it was found, and a line about it."""
    name, part, old, new = fault
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="colo-mutant-") as folder:
        program = build(folder, test, part, old, new, compiler, libraries)
        done = subprocess.run([program], text=True, timeout=600, check=False, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "SEEDS": SEEDS})
    found = re.search(r"ERROR: (.*)", done.stdout) or \
        re.search(r"(.*: error: Failure!)", done.stdout)
    took = f" ({time.monotonic() - begin:.0f} s)" if os.environ.get("TIMES") else ""
    if done.returncode and found:
        return True, f"ok - {name}: {found[1][:150]}{took}"
    return False, f"not ok - nobody sees that {name}{took}"


def main():
    compiler = flags("CC") + flags("ALL_CFLAGS")
    libraries = flags("PKG_LIBS")
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    tasks = [(test, fault) for test, faults in ((NODE, NODE_FAULTS), (DISKS, DISK_FAULTS))
             for fault in faults if only in fault[0]]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for seen, line in pool.map(lambda task: judge(*task, compiler, libraries), tasks):
            print(line, flush=True)
            missed += not seen
    print(f"# {len(tasks) - missed} of {len(tasks)} planted faults were found")
    return missed


if __name__ == "__main__":
    sys.exit(main())
