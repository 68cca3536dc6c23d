/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints between two machines in this process: pause, commit latency and apply time
 * against dirty pages; bytes on the wire per dirty byte where both guests execute alike and
 * where they do not; checkpoints a second and the guest's speed in buffered mode; the
 * secondary's memory.
 *
 * Both machines and both ends of the TLS channel share this machine's processors.
 *
 * bench_checkpoint [CHECKPOINTS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/micro/pair.h"

#define MEMORY (256ull << 20)

static int compare(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static double at(guint64 *values, guint n, double share)
{
	qsort(values, n, sizeof(*values), compare);
	return (double)values[MIN((guint)(share * n), n - 1)] / 1e6;
}

static void need_epoch(struct pair *pair, guint epoch)
{
	if (!pair_wait_for_epoch(pair, epoch))
		g_error("the pair was lost before checkpoint %u", epoch);
}

/* The checkpoint after `epoch`, on request, and its figures. */
static struct ckpt_checkpoint_stats next(struct pair *pair)
{
	struct ckpt_checkpoint_stats stats;
	guint wanted = pair_committed(pair) + 1;

	ckpt_primary_request(pair->primary, CKPT_REASON_REQUEST);
	need_epoch(pair, wanted);
	while (!ckpt_primary_last(pair->primary, &stats) || stats.epoch < wanted)
		g_usleep(100);
	return stats;
}

/* So and so many pages written between checkpoints, by both guests, as they hear the same;
 * unless `alike` the second is then told to write something else there. */
static void by_dirty_pages(enum ckpt_mode mode, guint dirty, gboolean alike, guint rounds)
{
	struct micro_options options = { .memory = MEMORY };
	struct pair *pair = pair_new(&options, mode, 3600000, FALSE);
	g_autofree guint64 *pause = g_new0(guint64, rounds), *commit = g_new0(guint64, rounds),
			   *apply = g_new0(guint64, rounds);
	guint64 pages = 0, bytes = 0, sent = 0, twin = 0;

	need_epoch(pair, 1);
	for (guint i = 0; i < rounds; i++) {
		struct ckpt_checkpoint_stats stats;
		g_autofree char *order = g_strdup_printf("dirty %u 0 %u", dirty, i + 1);

		g_free(micro_do(pair->first, "%s", order));
		if (!alike) {
			g_autofree char *other =
				g_strdup_printf("dirty %u 0 %u", dirty, i + 1000);

			g_atomic_int_set(&pair->second_hears, 1);
			micro_tell(pair->second, other);
		}
		micro_sleep_ms(pair->second, 5);
		stats = next(pair);
		pause[i] = stats.pause_ns;
		commit[i] = stats.commit_ns;
		apply[i] = stats.apply_ns;
		pages += stats.dirty;
		bytes += stats.bytes;
		sent += stats.sent;
		twin += stats.twin;
	}
	printf("checkpoint mode=%s alike=%d dirty=%.0f sent=%.0f twin=%.0f "
	       "pause_p50=%.3fms pause_p99=%.3fms commit_p50=%.3fms commit_p99=%.3fms "
	       "apply_p50=%.3fms apply_p99=%.3fms wire_per_dirty_byte=%.4f\n",
	       mode == CKPT_MODE_COLO ? "colo" : "buffered", alike, (double)pages / rounds,
	       (double)sent / rounds, (double)twin / rounds, at(pause, rounds, 0.5),
	       at(pause, rounds, 0.99), at(commit, rounds, 0.5), at(commit, rounds, 0.99),
	       at(apply, rounds, 0.5), at(apply, rounds, 0.99),
	       (double)bytes / ((double)pages * CKPT_PAGE));
	fflush(stdout);
	pair_free(pair);
}

/* Rounds of a computation in a second, with nothing else or with checkpoints. */
static double speed(micro *guest)
{
	guint64 start = base_clock_monotonic_ns(), before, after;
	g_autofree char *first = micro_do(guest, "compute"), *last = NULL;

	before = micro_number(first, "done");
	micro_sleep_ms(guest, 2000);
	last = micro_do(guest, "compute");
	after = micro_number(last, "done");
	return (double)(after - before) * 1e9 / (double)(base_clock_monotonic_ns() - start);
}

static void buffered_rate(guint period_ms)
{
	struct micro_options options = { .memory = MEMORY, .cpus = 2 };
	g_autoptr(micro) alone = micro_new(&options);
	struct ckpt_checkpoint_stats stats;
	struct pair *pair;
	double plain, replicated;
	guint64 start;
	guint epochs;

	g_free(micro_do(alone, "dirty 500 50000 1 1"));
	g_free(micro_do(alone, "compute 1000000000000 bg 0"));
	plain = speed(alone);
	g_clear_pointer(&alone, micro_free);

	pair = pair_new(&options, CKPT_MODE_BUFFERED, period_ms, FALSE);
	need_epoch(pair, 1);
	g_free(micro_do(pair->first, "dirty 500 50000 1 1"));
	g_free(micro_do(pair->first, "compute 1000000000000 bg 0"));
	epochs = pair_committed(pair);
	start = base_clock_monotonic_ns();
	replicated = speed(pair->first);
	epochs = pair_committed(pair) - epochs;
	if (!ckpt_primary_last(pair->primary, &stats))
		g_error("no checkpoint");
	printf("buffered period=%ums checkpoints_per_s=%.1f dirty=%" G_GUINT64_FORMAT
	       " guest_speed=%.3f of unreplicated\n",
	       period_ms, epochs * 1e9 / (double)(base_clock_monotonic_ns() - start),
	       stats.dirty, replicated / plain);
	fflush(stdout);
	pair_free(pair);
}

/* Pages of the secondary beyond its base, at a tenth of memory dirtied. */
static void memory_overhead(void)
{
	struct micro_options options = { .memory = MEMORY };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 3600000, FALSE);
	struct ckpt_checkpoint_stats stats;
	guint tenth = MEMORY / CKPT_PAGE / 10;

	need_epoch(pair, 1);
	for (guint i = 0; i < 3; i++) {
		g_autofree char *order = g_strdup_printf("dirty %u 0 %u", tenth, i + 1);

		g_free(micro_do(pair->first, "%s", order));
		micro_sleep_ms(pair->second, 300);
		stats = next(pair);
	}
	/* Base, own copies, and the stage, which once held all that was dirty. */
	printf("memory guest_pages=%llu private=%" G_GUINT64_FORMAT " staged=%" G_GUINT64_FORMAT
	       " over_guest=%.3f\n", MEMORY / CKPT_PAGE, stats.private_pages,
	       stats.sent + stats.twin,
	       (double)(MEMORY / CKPT_PAGE + stats.private_pages + stats.sent + stats.twin) /
		       (double)(MEMORY / CKPT_PAGE));
	fflush(stdout);
	pair_free(pair);
}

int main(int argc, char **argv)
{
	static const guint dirty[] = { 100, 1000, 10000 };
	guint rounds = argc > 1 ? (guint)atoi(argv[1]) : 30;

	micro_need_kvm();
	for (guint i = 0; i < G_N_ELEMENTS(dirty); i++) {
		by_dirty_pages(CKPT_MODE_COLO, dirty[i], TRUE, rounds);
		by_dirty_pages(CKPT_MODE_COLO, dirty[i], FALSE, rounds);
		by_dirty_pages(CKPT_MODE_BUFFERED, dirty[i], FALSE, rounds);
	}
	buffered_rate(10);
	memory_overhead();
	return 0;
}
