/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pair in one process: two nodes (colo/node.h, the real code), with machines, disks,
 * links, an arbiter and a clock that are models. All that is random comes from a seed,
 * so that every run can be had again.
 *
 * What clients may rely on is checked as it happens. A guest's history is the number of
 * outputs that it knows of; whoever lets one out must know of every one before it. So a
 * second speaker, a stale start and a promotion without the grant are all found.
 */
#ifndef TESTS_UNIT_WORLD_H
#define TESTS_UNIT_WORLD_H

#include "colo/node.h"

typedef struct world test_world;

enum world_link { WORLD_REPLICATION, WORLD_HEARTBEAT, WORLD_CONTROL, WORLD__LINKS };

test_world *world_new(guint32 seed, enum colo_arbiter_kind kind);
void world_free(test_world *world);

/* Lets time pass, and everything that happens in it. */
void world_run(test_world *world, guint64 ms);
guint32 world_random(test_world *world, guint32 below);
/* Seen so far; what was found first, or NULL. */
const char *world_violation(const test_world *world);
/* The last lines of what happened, for whoever looks into a failure. */
void world_print(const test_world *world);

void world_power_on(test_world *world, guint host); /* colod starts too */
void world_power_off(test_world *world, guint host);
void world_kill_vm(test_world *world, guint host);
void world_fail_disk(test_world *world, guint host); /* of its colo-vm's guest, who is not told */
void world_kill_colod(test_world *world, guint host);
void world_start_colod(test_world *world, guint host);
void world_cut(test_world *world, enum world_link link, gboolean cut);
/* What is sent to `host`: one way only. */
void world_cut_to(test_world *world, enum world_link link, guint host, gboolean cut);
/* All of a host stands still; then it goes on with what it had begun, and what has come
 * since. */
void world_freeze(test_world *world, guint host, guint64 ms);
/* That of the record. */
void world_break_disk(test_world *world, guint host, gboolean fails, guint64 slow_ms);
void world_comparator(test_world *world, guint host, gboolean there);
void world_guest_off(test_world *world, guint host);
void world_arbiter_forgets(test_world *world);
void world_cut_arbiter(test_world *world, guint host, gboolean cut);
void world_order(test_world *world, guint host, enum colo_order order, gboolean force);
/* Has an operator force the guest on there, if the other host is dead and this one's
 * copy knows all. FALSE: it is not so. */
gboolean world_force(test_world *world, guint host);
/* Somebody looks at both copies, gives the worse one up and has the better one go on;
 * FALSE: there is none. */
gboolean world_person(test_world *world);
/* Whether there is none any more: one host lost power before a promotion's writes were
 * on its disks, and the other one's copy was given up, or being filled. */
gboolean world_is_lost(const test_world *world);
/* For a while somebody plays what he recorded of heartbeats, or made of it. */
void world_attack(test_world *world, guint64 ms);
/* The daemon alone. */
void world_stop_heartbeat(test_world *world, guint host, guint64 ms);
/* From now on arbiters lose questions and answers, and are slow, now and then. */
void world_be_rough(test_world *world);
/* A bit of the record of a host without power. */
void world_flip(test_world *world, guint host);
/* Does one of these, chosen at random. */
void world_misfortune(test_world *world);
/* Everything works again and is switched on. */
void world_mend(test_world *world);

gboolean world_is_on(const test_world *world, guint host);
enum colo_state world_state(const test_world *world,
			    guint host); /* stopped where there is no colod */
gboolean world_hears(const test_world *world, guint host); /* its node: the other one */
enum colo_part world_part(const test_world *world, guint host); /* on disk */
const char *world_reason(const test_world *world, guint host);
guint64 world_outputs(const test_world *world); /* that clients have seen */
guint world_speaking(const test_world *world); /* hosts whose guest is heard */
/* Both nodes say that the pair is protected. */
gboolean world_protected(const test_world *world);
/* The same for two runs of one seed. */
guint64 world_trace(const test_world *world);
guint world_count(const test_world *world,
		  const char *event); /* events of that name so far */

#endif
