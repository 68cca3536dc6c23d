/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First sync with disks, between two machines in this process: whatever the secondary's
 * disks hold before, while the guest writes; its end in the middle and another try; and
 * machines that cannot be a pair.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/micro/pair.h"

#define MIB (1u << 20)
#define DISK_BYTES (24u * MIB)
#define DISK2_BYTES (2u * MIB + 3 * 512u)
#define PATIENCE_NS (20 * G_GUINT64_CONSTANT(1000000000))

/* Random bytes from `seed`, over `len` of a file from `offset` on. */
static void scribble(const char *path, guint64 offset, guint64 len, guint32 seed)
{
	g_autoptr(GRand) random = g_rand_new_with_seed(seed);
	g_autofree guint32 *bytes = g_malloc(len);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	for (guint64 i = 0; i < len / 4; i++)
		bytes[i] = g_rand_int(random);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
	close(fd);
}

/* Where two files differ first within that range; -1: nowhere. */
static gint64 difference(char *const paths[2], guint64 from, guint64 to)
{
	char *bytes[2] = { NULL, NULL };
	gsize sizes[2];
	gint64 at = -1;

	for (guint i = 0; i < 2; i++)
		assert_true(g_file_get_contents(paths[i], &bytes[i], &sizes[i], NULL));
	assert_true(to <= sizes[0] && sizes[0] == sizes[1]);
	for (guint64 i = from; i < to && at < 0; i++)
		if (bytes[0][i] != bytes[1][i])
			at = (gint64)i;
	g_free(bytes[0]);
	g_free(bytes[1]);
	return at;
}

/* What was committed is on its way to the secondary's disk. */
static void become_equal(char *const paths[2], guint64 bytes)
{
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	while (difference(paths, 0, bytes) >= 0 && base_clock_monotonic_ns() < until)
		g_usleep(10000);
	assert_int_equal(difference(paths, 0, bytes), -1);
}

static struct ckpt_primary_options options_for(enum ckpt_mode mode)
{
	struct ckpt_primary_options options;

	ckpt_primary_options_init(&options);
	options.mode = mode;
	options.period_ms = options.age_ms = 10;
	options.silence_ms = 5000;
	options.verify = TRUE;
	return options;
}

static struct pair *make(void)
{
	const struct micro_options options = { .cpus = 2 };
	const struct pair_setup setup = { .disk_bytes = { DISK_BYTES, DISK_BYTES },
					  .disk2_bytes = { DISK2_BYTES, DISK2_BYTES } };
	struct pair *pair = pair_make(&options, &setup);

	/* The middle is the guest's journal. */
	scribble(pair->disks[0], 0, 6 * MIB, 1);
	scribble(pair->disks[0], 16 * MIB, 5 * MIB, 2);
	scribble(pair->disks2[0], 0, DISK2_BYTES - 512, 3);
	return pair;
}

static void join(struct pair *pair, const struct ckpt_primary_options *options)
{
	GError *errors[2] = { NULL, NULL };

	if (!pair_join(pair, options, errors))
		fail_msg("%s; %s", errors[0] ? errors[0]->message : "",
			 errors[1] ? errors[1]->message : "");
}

static void work(struct pair *pair)
{
	g_free(micro_do(pair->first, "blkbg 400"));
	g_free(micro_do(pair->first, "dirty 1000 20000 3"));
	g_free(micro_do(pair->first, "clockwatch start"));
}

static void check(micro *guest)
{
	g_autofree char *disk = micro_do(guest, "blkbg");
	g_autofree char *memory = micro_do(guest, "verify");
	g_autofree char *clocks = micro_do(guest, "clockwatch report");

	assert_int_equal(micro_number(disk, "bad"), 0);
	assert_int_equal(micro_number(disk, "errors"), 0);
	assert_true(micro_number(disk, "writes") > 0);
	assert_int_equal(micro_number(memory, "bad"), 0);
	assert_int_equal(micro_number(clocks, "tsc_decreases"), 0);
}

/* Ends the guest's writing, and has that in a checkpoint. */
static void stop_writing(struct pair *pair)
{
	guint64 in_flight;

	g_free(micro_do(pair->first, "blkbg 0"));
	do {
		g_autofree char *report = micro_do(pair->first, "blkbg");

		in_flight = micro_number(report, "in_flight");
	} while (in_flight);
	assert_true(pair_wait_for_epoch(pair, pair_committed(pair) + 2));
}

/* Protected, with everything there in the end; `sent_max`: bytes of the first disk that had
 * to be sent. */
static void protect(struct pair *pair, enum ckpt_mode mode, guint64 sent_max)
{
	struct ckpt_primary_options options = options_for(mode);
	const struct ckpt_disk_sync_counters *disk;
	struct ckpt_sync_progress progress;

	join(pair, &options);
	assert_true(pair_wait_for_epoch(pair, 3));
	ckpt_primary_progress(pair->primary, &progress);
	disk = &progress.disks[0];
	assert_int_equal(disk->done, DISK_BYTES);
	assert_int_equal(disk->equal + disk->data + disk->zeroes + disk->overtaken,
			 DISK_BYTES);
	assert_true(disk->data + disk->zeroes <= sent_max);
	assert_int_equal(progress.disks[1].done, DISK2_BYTES);
	assert_int_equal(progress.disks_left + progress.memory_left + progress.ms_left,
			 0);
	assert_true(progress.round >= 1 && progress.wire_bytes >= disk->wire);
	check(pair->first);
	stop_writing(pair);
	become_equal(pair->disks, DISK_BYTES);
	become_equal(pair->disks2, DISK2_BYTES);
}

static void an_empty_disk_becomes_equal(void **state)
{
	struct pair *pair = make();

	work(pair);
	/* What both have as zeroes is not sent; the guest's journal is 1 MiB at most. */
	protect(pair, CKPT_MODE_COLO, 14 * MIB);
	pair_free(pair);
}

static void a_disk_of_garbage_becomes_equal_under_a_resting_secondary(void **state)
{
	struct pair *pair = make();

	scribble(pair->disks[1], 0, DISK_BYTES, 9);
	scribble(pair->disks2[1], 0, DISK2_BYTES, 10);
	work(pair);
	protect(pair, CKPT_MODE_BUFFERED, DISK_BYTES);
	pair_free(pair);
}

static void what_a_disk_has_already_is_not_sent(void **state)
{
	struct pair *pair = make();
	struct ckpt_sync_progress progress;

	scribble(pair->disks[1], 0, 6 * MIB, 1);
	scribble(pair->disks[1], 16 * MIB, 5 * MIB, 2);
	/* One block of it is another. */
	scribble(pair->disks[1], 3 * MIB + 64 * 1024, 512, 7);
	scribble(pair->disks2[1], 0, DISK2_BYTES - 512, 3);
	work(pair);
	protect(pair, CKPT_MODE_COLO, 2 * MIB + CKPT_SYNC_BLOCK);
	ckpt_primary_progress(pair->primary, &progress);
	assert_true(progress.disks[0].data >= CKPT_SYNC_BLOCK);
	assert_int_equal(progress.disks[1].equal, DISK2_BYTES);
	pair_free(pair);
}

static void a_promoted_guest_finds_its_disk(void **state)
{
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make();
	g_autoptr(GError) error = NULL;

	scribble(pair->disks[1], 0, DISK_BYTES, 9);
	work(pair);
	join(pair, &options);
	assert_true(pair_wait_for_epoch(pair, 4));
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_forget(pair->second, 100);
	/* The journal reads back what it wrote, also before the sync. */
	check(pair->second);
	for (guint ms = 0; ms < 20000 && !g_atomic_int_get(&pair->durable); ms++)
		micro_sleep_ms(pair->second, 1);
	assert_int_equal(g_atomic_int_get(&pair->durable), 1);
	check(pair->second);
	assert_int_equal(difference(pair->disks, 0, DISK_BYTES / 2), -1);
	assert_int_equal(difference(pair->disks, DISK_BYTES / 2 + MIB, DISK_BYTES), -1);
	assert_int_equal(difference(pair->disks2, 0, DISK2_BYTES), -1);
	pair_free(pair);
}

static void end_by_freeing_the_primary(struct pair *pair)
{
	g_clear_pointer(&pair->primary, ckpt_primary_free);
}

static void end_by_freeing_the_secondary(struct pair *pair)
{
	g_clear_pointer(&pair->secondary, ckpt_secondary_free);
}

static void end_by_cutting_the_cable(struct pair *pair)
{
	pair_cut(pair);
	while (!g_atomic_int_get(&pair->primary_lost) ||
	       !g_atomic_int_get(&pair->secondary_lost))
		micro_sleep_ms(pair->first, 1);
}

/* At a limit at which it would take minutes. */
static void a_sync_that_is_ended_harms_nobody_and_can_be_tried_again(void **state)
{
	static void (*const ends[])(struct pair *
				    pair) = { end_by_freeing_the_primary,
					      end_by_freeing_the_secondary,
					      end_by_cutting_the_cable };
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make();

	scribble(pair->disks[1], 0, DISK_BYTES, 9);
	work(pair);
	options.sync_bytes_per_s = 4 * MIB;
	for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
		struct ckpt_sync_progress progress;
		guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

		join(pair, &options);
		do {
			micro_sleep_ms(pair->first, 1);
			ckpt_primary_progress(pair->primary, &progress);
		} while (progress.disks[0].data < MIB &&
			 base_clock_monotonic_ns() < until);
		assert_int_equal(progress.round, 1);
		assert_true(progress.disks[0].data >= MIB && progress.disks_left);
		assert_true(progress.ms_left > 0);
		assert_int_equal(pair_committed(pair), 0);
		ends[i](pair);
		pair_part(pair);
		check(pair->first);
	}
	protect(pair, CKPT_MODE_COLO, DISK_BYTES);
	pair_free(pair);
}

static void many_connections_end_in_one_checkpoint(void **state)
{
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct base_channel_counters counters;

	for (options.connections = 2; options.connections <= CKPT_LANES_MAX;
	     options.connections += 3) {
		struct pair *pair = make();

		work(pair);
		join(pair, &options);
		/* All of memory is compared at each. */
		assert_true(pair_wait_for_epoch(pair, 5));
		ckpt_primary_link_counters(pair->primary, &counters);
		assert_true(counters.sent_messages > 0);
		check(pair->first);
		pair_free(pair);
	}
}

static void a_connection_lost_in_the_sync_is_the_sync_lost(void **state)
{
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make();
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	scribble(pair->disks[1], 0, DISK_BYTES, 9);
	work(pair);
	options.sync_bytes_per_s = 4 * MIB;
	options.connections = 3;
	join(pair, &options);
	micro_sleep_ms(pair->first, 100);
	assert_int_equal(pair_committed(pair), 0);
	pair_cut_further(pair, 1);
	while (!(g_atomic_int_get(&pair->primary_lost) &&
		 g_atomic_int_get(&pair->secondary_lost)) &&
	       base_clock_monotonic_ns() < until)
		micro_sleep_ms(pair->first, 1);
	assert_true(g_atomic_int_get(&pair->primary_lost) &&
		    g_atomic_int_get(&pair->secondary_lost));
	assert_true(strstr(pair->why[0], "connection 3 of the first sync: ") ||
		    strstr(pair->why[1], "connection 3 of the first sync: "));
	pair_part(pair);
	check(pair->first);
	options.sync_bytes_per_s = 0;
	join(pair, &options);
	assert_true(pair_wait_for_epoch(pair, 3));
	/* What happens to it now harms nobody. */
	pair_cut_further(pair, 1);
	assert_true(pair_wait_for_epoch(pair, pair_committed(pair) + 3));
	pair_free(pair);
}

/* The second machine's memory and disk are far from empty then. */
static void a_pair_that_was_parted_after_a_commit_joins_again(void **state)
{
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make();
	g_autoptr(GError) error = NULL;

	work(pair);
	join(pair, &options);
	assert_true(pair_wait_for_epoch(pair, 5));
	pair_part(pair);
	assert_true(vmm_machine_pause(micro_machine(pair->second), &error));
	scribble(pair->disks[0], 2 * MIB, MIB, 11);
	protect(pair, CKPT_MODE_COLO, 3 * MIB);
	pair_free(pair);
}

static struct pair *make_readonly(void)
{
	const struct micro_options options = { .cpus = 1 };
	const struct pair_setup setup = { .disk_bytes = { 4 * MIB, 4 * MIB },
					  .disk2_bytes = { DISK2_BYTES, DISK2_BYTES },
					  .disk2_readonly = TRUE };
	struct pair *pair = pair_make(&options, &setup);

	for (guint i = 0; i < 2; i++)
		scribble(pair->disks2[i], 0, DISK2_BYTES, 5);
	return pair;
}

static void read_only_disks_that_are_equal_are_compared(void **state)
{
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make_readonly();
	struct ckpt_sync_progress progress;

	join(pair, &options);
	assert_true(pair_wait_for_epoch(pair, 2));
	ckpt_primary_progress(pair->primary, &progress);
	assert_int_equal(progress.disks[1].equal, DISK2_BYTES);
	pair_free(pair);
}

static void a_read_only_disk_that_is_another_is_refused_by_its_name(void **state)
{
	static const char reason[] =
		"disk 1 is read-only and is not the same on both nodes: "
		"they differ within 65536 bytes from byte 1114112";
	struct ckpt_primary_options options = options_for(CKPT_MODE_COLO);
	struct pair *pair = make_readonly();

	scribble(pair->disks2[1], 17 * CKPT_SYNC_BLOCK + 512, 512, 6);
	join(pair, &options);
	while (!g_atomic_int_get(&pair->primary_lost) ||
	       !g_atomic_int_get(&pair->secondary_lost))
		micro_sleep_ms(pair->first, 1);
	assert_string_equal(pair->why[0], reason);
	assert_non_null(strstr(pair->why[1], reason));
	assert_int_equal(pair_committed(pair), 0);
	/* Nobody has mended the user's own file. */
	assert_int_equal(difference(pair->disks2, 0, DISK2_BYTES),
			 17 * CKPT_SYNC_BLOCK + 512);
	g_free(micro_do(pair->first, "ping"));
	pair_free(pair);
}

static void refuse(const struct micro_options *options, const struct pair_setup *setup,
		   const char *first_says, const char *second_says)
{
	struct ckpt_primary_options primary = options_for(CKPT_MODE_COLO);
	struct pair *pair = pair_make(options, setup);
	GError *errors[2] = { NULL, NULL };

	assert_false(pair_join(pair, &primary, errors));
	assert_string_equal(errors[0]->message, first_says);
	assert_string_equal(errors[1]->message, second_says);
	g_clear_error(&errors[0]);
	g_clear_error(&errors[1]);
	g_free(micro_do(pair->first, "ping"));
	pair_free(pair);
}

static void machines_that_are_not_alike_are_refused_on_both_sides(void **state)
{
	const struct pair_setup sizes = { .disk_bytes = { MIB, MIB },
					  .disk2_bytes = { MIB, 2 * MIB } };
	const struct pair_setup cards = { .mac = { 1, 9 } };
	const struct micro_options plain = { .cpus = 1 }, net = { .tap = "yes" };

	refuse(&plain, &sizes,
	       "the peer's machine has disk 1, bytes: 2097152, this one 1048576",
	       "the peer's machine has disk 1, bytes: 1048576, this one 2097152");
	refuse(&net, &cards,
	       "the peer's machine has network card 0 with MAC: 02:00:00:00:00:09, "
	       "this one 02:00:00:00:00:01",
	       "the peer's machine has network card 0 with MAC: 02:00:00:00:00:01, "
	       "this one 02:00:00:00:00:09");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_disk_becomes_equal),
		cmocka_unit_test(
			a_disk_of_garbage_becomes_equal_under_a_resting_secondary),
		cmocka_unit_test(what_a_disk_has_already_is_not_sent),
		cmocka_unit_test(a_promoted_guest_finds_its_disk),
		cmocka_unit_test(
			a_sync_that_is_ended_harms_nobody_and_can_be_tried_again),
		cmocka_unit_test(many_connections_end_in_one_checkpoint),
		cmocka_unit_test(a_connection_lost_in_the_sync_is_the_sync_lost),
		cmocka_unit_test(a_pair_that_was_parted_after_a_commit_joins_again),
		cmocka_unit_test(read_only_disks_that_are_equal_are_compared),
		cmocka_unit_test(
			a_read_only_disk_that_is_another_is_refused_by_its_name),
		cmocka_unit_test(machines_that_are_not_alike_are_refused_on_both_sides),
	};

	micro_need_kvm();
	if (!pair_make_network()) {
		fprintf(stderr,
			"SKIPPED: cannot make a network namespace with a bridge\n");
		return MICRO_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
