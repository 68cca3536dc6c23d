/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a pair in a world that is a model (tests/unit/world_disk.h). SEEDS says
 * how many random lives are lived, SEED with which one to begin.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/world_disk.h"

#define SEEDS 10000u
#define MISFORTUNES 5u

static void must(const disk_world *world, gboolean fact, guint32 seed, const char *what)
{
	if (fact && !disk_world_violation(world))
		return;
	disk_world_print(world);
	fail_msg("SEED=%u: %s", seed,
		 disk_world_violation(world) ? disk_world_violation(world) : what);
}

static disk_world *protected_pair(guint32 seed)
{
	disk_world *world = disk_world_new(seed);

	disk_world_run(world, 100);
	must(world, disk_world_protect(world), seed, "a new pair is not protected");
	return world;
}

static void what_clients_were_told_is_there_after_each_of_many_failovers(void **state)
{
	disk_world *world = protected_pair(1);
	struct disk_world_counts counts;

	for (guint i = 0; i < 40; i++) {
		disk_world_run(world, 10 + 17 * i);
		disk_world_kill(world, TRUE, i % 2);
		must(world, disk_world_protect(world), 1, "it is not protected again");
	}
	disk_world_settle(world);
	must(world, TRUE, 1, NULL);
	disk_world_count(world, &counts);
	assert_int_equal(counts.promotions, 40);
	assert_true(counts.told > 100 && counts.checkpoints > 40);
	disk_world_free(world);
}

static void a_standby_that_dies_anywhere_in_a_sync_takes_nothing_along(void **state)
{
	for (guint steps = 0; steps < 120; steps += 3) {
		disk_world *world = protected_pair(steps + 1);

		disk_world_run(world, 200);
		disk_world_kill(world, FALSE, TRUE);
		disk_world_run(world, 60);
		for (guint i = 0; i < 3; i++) {
			disk_world_run(world, steps);
			disk_world_kill(world, FALSE, i % 2);
		}
		must(world, disk_world_protect(world), steps + 1,
		     "it is not protected again");
		disk_world_kill(world, TRUE, TRUE);
		disk_world_settle(world);
		must(world, TRUE, steps + 1, NULL);
		disk_world_free(world);
	}
}

static void a_standby_whose_disk_fails_is_filled_anew(void **state)
{
	disk_world *world = protected_pair(3);

	disk_world_run(world, 300);
	assert_true(disk_world_break(world, FALSE));
	disk_world_run(world, 600);
	must(world, !disk_world_is_protected(world), 3, "a failed disk protects");
	must(world, disk_world_protect(world), 3, "it is not protected again");
	disk_world_kill(world, TRUE, TRUE);
	disk_world_settle(world);
	must(world, TRUE, 3, NULL);
	disk_world_free(world);
}

static guint64 live(guint32 seed, struct disk_world_counts *all)
{
	disk_world *world = disk_world_new(seed);
	const guint misfortunes = 1 + disk_world_random(world, MISFORTUNES);
	struct disk_world_counts counts;
	guint64 trace;

	for (guint i = 0; i < misfortunes; i++) {
		if (disk_world_random(world, 4))
			disk_world_protect(world);
		disk_world_run(world, disk_world_random(world, 200));
		disk_world_misfortune(world);
		disk_world_run(world, disk_world_random(world, 40));
	}
	disk_world_settle(world);
	must(world, TRUE, seed, NULL);
	disk_world_count(world, &counts);
	all->told += counts.told;
	all->promotions += counts.promotions;
	all->syncs += counts.syncs;
	all->checkpoints += counts.checkpoints;
	all->power_losses += counts.power_losses;
	all->lost += counts.lost;
	trace = disk_world_trace(world);
	disk_world_free(world);
	return trace;
}

static guint number(const char *name, guint usual)
{
	const char *text = g_getenv(name);

	return text ? (guint)strtoul(text, NULL, 10) : usual;
}

static void a_seed_is_the_same_life_each_time(void **state)
{
	struct disk_world_counts all = { 0 };

	for (guint32 seed = 1; seed <= 20; seed++)
		assert_true(live(seed, &all) == live(seed, &all));
	assert_true(live(1, &all) != live(2, &all));
}

static void no_write_that_clients_were_told_of_is_lost_and_none_is_invented(
	void **state)
{
	const guint seeds = number("SEEDS", SEEDS), first = number("SEED", 1);
	struct disk_world_counts all = { 0 };

	for (guint i = 0; i < seeds; i++)
		live(first + i, &all);
	printf("# %u lives from seed %u on: clients were told of %u records; %u "
	       "promotions, %u "
	       "first syncs, %u checkpoints, %u losses of a primary's power; %u died "
	       "again "
	       "before their promotion was durable\n",
	       seeds, first, all.told, all.promotions, all.syncs, all.checkpoints,
	       all.power_losses, all.lost);
	assert_true(seeds < 100 || (all.promotions > seeds / 4 && all.told > seeds));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_clients_were_told_is_there_after_each_of_many_failovers),
		cmocka_unit_test(
			a_standby_that_dies_anywhere_in_a_sync_takes_nothing_along),
		cmocka_unit_test(a_standby_whose_disk_fails_is_filled_anew),
		cmocka_unit_test(a_seed_is_the_same_life_each_time),
		cmocka_unit_test(
			no_write_that_clients_were_told_of_is_lost_and_none_is_invented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
