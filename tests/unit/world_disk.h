/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a pair in one process: the real code of both sides
 * (checkpoint/disk_out.h, disk_twin.h, disk_sync.h) on two modelled block devices with
 * volatile caches, through checkpoints, promotions, deaths of processes, losses of
 * power and first syncs, any of them at any step. All that is random comes from a seed.
 *
 * A guest writes records that clients ask for, makes them durable, and says so. What
 * clients were told must be found by whoever goes on; and nothing that nobody wrote.
 * Guests may differ in what they write: then clients are told with the next checkpoint.
 */
#ifndef TESTS_UNIT_WORLD_DISK_H
#define TESTS_UNIT_WORLD_DISK_H

#include <glib.h>

typedef struct disk_world disk_world;

disk_world *disk_world_new(guint32 seed);
void disk_world_free(disk_world *world);

guint32 disk_world_random(disk_world *world, guint32 below);
/* Things go on: requests, completions, messages, checkpoints; nothing goes wrong. */
void disk_world_run(disk_world *world, guint steps);
/* Something goes wrong, chosen at random; whoever is left goes on. */
void disk_world_misfortune(disk_world *world);
/* Those that one can choose. They return whether that could happen now. */
gboolean disk_world_kill(disk_world *world, gboolean primary, gboolean power);
gboolean disk_world_break(disk_world *world, gboolean primary); /* its device */
/* All works again: until the pair is protected, or enough is enough (FALSE). */
gboolean disk_world_protect(disk_world *world);
/* Nothing is under way any more: both disks are looked at. */
void disk_world_settle(disk_world *world);

const char *disk_world_violation(const disk_world *world);
void disk_world_print(const disk_world *world);
guint64 disk_world_trace(const disk_world *world);

struct disk_world_counts {
	guint told, promotions, syncs, checkpoints, power_losses,
		lost; /* lost: twice
		       * unlucky, before a promotion was durable */
};
void disk_world_count(const disk_world *world, struct disk_world_counts *counts);
gboolean disk_world_is_protected(const disk_world *world);

#endif
