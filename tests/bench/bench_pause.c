/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the guest stands still for a checkpoint: all vCPUs stopped, state captured and
 * saved, dirty pages collected and copied aside, vCPUs running again; beside a plain memcpy
 * of as many bytes, each measured right after the pause it is compared with. The guest
 * writes its pages while it runs, so the memcpy's source is written in the same
 * way before.
 *
 * bench_pause [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "kvm/stage.h"
#include "tests/micro/micro.h"

#define PLAIN_PAGES 16384ull

struct round {
	vmm_machine *machine;
	vmm_state *state;
	vmm_stage *stage;
	GArray *pages;
	guint64 entered, left; /* the stand-still without kick and wake-up */
};

static void cut(void *data)
{
	struct round *round = data;
	g_autoptr(GError) error = NULL;

	round->entered = base_clock_monotonic_ns();
	if (!vmm_machine_save(round->machine, round->state, &error) ||
	    !vmm_machine_collect(round->machine, round->pages, &error))
		g_error("%s", error->message);
	vmm_stage_take(round->stage, vmm_machine_memory(round->machine),
		       (const guint32 *)(void *)round->pages->data, round->pages->len);
	round->left = base_clock_monotonic_ns();
}

static int compare(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static double at(guint64 *sorted, guint n, double share)
{
	return (double)sorted[MIN((guint)(share * n), n - 1)] / 1e6;
}

/* As many bytes in one piece, from and to memory that is present. */
struct plain {
	guint8 *from, *to;
};

static guint8 *present(gsize bytes)
{
	guint8 *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		g_error("get %zu bytes", bytes);
	return memory;
}

static guint64 plain_copy(const struct plain *plain, guint pages)
{
	guint64 start;

	/* Written before, as the guest's pages were. */
	for (guint i = 0; i < pages; i++)
		plain->from[(gsize)i * VMM_PAGE] ^= 1;
	start = base_clock_monotonic_ns();
	memcpy(plain->to, plain->from, (gsize)pages * VMM_PAGE);
	return base_clock_monotonic_ns() - start;
}

static void measure(guint64 memory, enum vmm_dirty_method method, guint dirty, guint rounds,
		    const struct plain *plain)
{
	struct micro_options options = { .memory = memory, .dirty = method };
	g_autoptr(micro) guest = micro_new(&options);
	g_autofree guint64 *pause = g_new0(guint64, rounds);
	g_autofree guint64 *copy = g_new0(guint64, rounds);
	g_autoptr(vmm_stage) stage = vmm_stage_new(16384);
	g_autoptr(vmm_state) state = vmm_state_new();
	g_autoptr(GArray) pages = g_array_sized_new(FALSE, FALSE, sizeof(guint32), 65536);
	g_autoptr(GError) error = NULL;
	struct round round = { micro_machine(guest), state, stage, pages, 0, 0 };
	guint64 found = 0, inside = 0;

	if (!vmm_machine_track(round.machine, TRUE, &error))
		g_error("%s", error->message);
	for (guint i = 0; i < rounds + 2; i++) {
		guint64 start;

		if (dirty)
			g_free(micro_do(guest, "touch %u", dirty));
		else
			g_usleep(500);
		start = base_clock_monotonic_ns();
		if (!vmm_machine_quiesce(round.machine, cut, &round, &error))
			g_error("%s", error->message);
		if (i < 2) /* warming up */
			continue;
		pause[i - 2] = base_clock_monotonic_ns() - start;
		inside += round.left - round.entered;
		copy[i - 2] = plain_copy(plain, MIN(pages->len, PLAIN_PAGES));
		found += pages->len;
	}
	qsort(pause, rounds, sizeof(*pause), compare);
	qsort(copy, rounds, sizeof(*copy), compare);
	printf("pause guest=%" G_GUINT64_FORMAT "MiB method=%s dirty=%u found=%.0f "
	       "p50=%.3fms p99=%.3fms inside=%.3fms memcpy_p50=%.3fms memcpy_p99=%.3fms "
	       "ratio=%.2f excess_over_2x=%.3fms\n",
	       memory >> 20, vmm_machine_dirty_method(round.machine), dirty,
	       (double)found / rounds, at(pause, rounds, 0.5), at(pause, rounds, 0.99),
	       (double)inside / rounds / 1e6, at(copy, rounds, 0.5), at(copy, rounds, 0.99),
	       at(pause, rounds, 0.5) / at(copy, rounds, 0.5),
	       at(pause, rounds, 0.5) - 2 * at(copy, rounds, 0.5));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const guint64 sizes[] = { 256ull << 20, 4096ull << 20 };
	static const guint dirty[] = { 0, 100, 1000, 10000 };
	static const enum vmm_dirty_method methods[] = { VMM_DIRTY_RING, VMM_DIRTY_BITMAP };
	guint rounds = argc > 1 ? (guint)atoi(argv[1]) : 200;

	struct plain plain = { present(PLAIN_PAGES * VMM_PAGE), present(PLAIN_PAGES * VMM_PAGE) };

	micro_need_kvm();
	for (guint m = 0; m < G_N_ELEMENTS(methods); m++)
		for (guint s = 0; s < G_N_ELEMENTS(sizes); s++)
			for (guint d = 0; d < G_N_ELEMENTS(dirty); d++)
				measure(sizes[s], methods[m], dirty[d], rounds, &plain);
	return 0;
}
