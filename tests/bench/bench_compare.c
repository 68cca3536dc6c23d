/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comparing costs, beside a memcmp and a memcpy of the same payload in the same
 * round: both guests' packets go in, one after the other, and all must come out.
 * `ahead`: who is first. And what 20,000 idle connections take.
 *
 * bench_compare [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "tests/unit/fake_packet.h"

/* In no library: a bench links those of the micro-guest tests. */
#include "tests/unit/fake_packet.c"

#define BATCH 64u /* packets by which one side is ahead of the other */
#define CONNECTIONS 20000u

struct bench {
	ncmp_compare *compare;
	guint64 released;
	guint8 *packets, *frames; /* BATCH of each */
	gsize packet_len, frame_len;
	guint8 *copy;
	guint32 id;
};

static void on_release(void *data, guint32 id, const guint8 *changed, gsize len)
{
	struct bench *bench = data;

	bench->released++;
}

static void on_drop(void *data, guint32 id)
{
	g_error("packet %u was dropped", id);
}

static void on_diverged(void *data, const struct ncmp_divergence *divergence)
{
	g_error("they diverge: %s", ncmp_cause_name(divergence->cause));
}

static void begin(struct bench *bench)
{
	const struct ncmp_compare_hooks hooks = { bench, on_release, on_drop,
						  on_diverged };
	const struct ncmp_compare_options options = { .seed = 42 };

	bench->compare = ncmp_compare_new(&options, &hooks);
	ncmp_compare_set_gate(bench->compare, NCMP_GATE_GUARDED);
	ncmp_compare_marker(bench->compare, 1, 0);
	ncmp_compare_committed(bench->compare, 1, 0);
}

/* The stream goes on: the same bytes with later numbers. */
static void number(struct bench *bench, guint32 *seq, gsize len)
{
	for (guint i = 0; i < BATCH; i++, *seq += (guint32)len) {
		put32(bench->packets + i * bench->packet_len + 24, *seq);
		put32(bench->frames + i * bench->frame_len + 38, *seq);
	}
}

static void primary(struct bench *bench)
{
	for (guint i = 0; i < BATCH; i++) {
		const struct ncmp_arrival arrival = {
			.id = bench->id++,
			.bytes = bench->packets + i * bench->packet_len,
			.len = bench->packet_len,
			.ethertype = FAKE_IPV4,
			.segmentable = bench->packet_len > 1500,
		};

		ncmp_compare_primary(bench->compare, &arrival, 0);
	}
}

static void secondary(struct bench *bench)
{
	for (guint i = 0; i < BATCH; i++)
		ncmp_compare_secondary(bench->compare, 1, 0,
				       bench->frames + i * bench->frame_len,
				       bench->frame_len, 0);
}

static volatile guint64 sink; /* so that nothing is left out as unused */

static void plain(struct bench *bench, gsize len)
{
	for (guint i = 0; i < BATCH; i++) {
		const guint8 *frame = bench->frames + i * bench->frame_len + 54;
		guint8 *copy = bench->copy + i * len;

		memcpy(copy, frame, len);
		sink += (guint64)memcmp(
			copy, bench->packets + i * bench->packet_len + 40, len);
	}
}

static int by_value(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static double median(guint64 *times, guint count)
{
	qsort(times, count, sizeof(*times), by_value);
	return (double)times[count / 2] / BATCH;
}

static void measure(const char *ahead, gsize len, guint rounds)
{
	struct bench bench = { 0 };
	g_autofree guint8 *data = g_malloc(len + 1);
	g_autofree guint64 *plain_ns = g_new(guint64, rounds);
	g_autofree guint64 *ns = g_new(guint64, rounds);
	struct fake_packet packet = { .source_port = 80,
				      .target_port = 4000,
				      .flags = NCMP_TCP_ACK,
				      .data = data,
				      .len = len };
	guint32 seq = 0;
	double each, other;

	for (gsize i = 0; i < len; i++)
		data[i] = (guint8)(i * 31);
	bench.packets = g_malloc(BATCH * FAKE_PACKET_MAX);
	bench.frames = g_malloc(BATCH * (FAKE_PACKET_MAX + 14));
	bench.copy = g_malloc(BATCH * (len + 1));
	bench.packet_len = 40 + len;
	bench.frame_len = MAX(14 + 40 + len, 60);
	for (guint i = 0; i < BATCH; i++) {
		fake_tcp(&packet, bench.packets + i * bench.packet_len);
		fake_frame(bench.packets + i * bench.packet_len, bench.packet_len,
			   FAKE_IPV4, 0, 60, 0, bench.frames + i * bench.frame_len);
	}
	begin(&bench);
	for (guint i = 0; i < rounds; i++) {
		guint64 start;

		number(&bench, &seq, len);
		start = base_clock_monotonic_ns();
		plain(&bench, len);
		plain_ns[i] = base_clock_monotonic_ns() - start;
		start = base_clock_monotonic_ns();
		if (*ahead == 's')
			secondary(&bench);
		primary(&bench);
		if (*ahead == 'p')
			secondary(&bench);
		ns[i] = base_clock_monotonic_ns() - start;
	}
	if (bench.released != (guint64)rounds * BATCH)
		g_error("%" G_GUINT64_FORMAT " of %u came out", bench.released,
			rounds * BATCH);
	each = median(ns, rounds);
	other = median(plain_ns, rounds);
	printf("compare ahead=%s payload=%zu ns=%.0f packets_per_s=%.2fM GB_per_s=%.2f "
	       "memcpy_memcmp_ns=%.0f ratio=%.2f\n",
	       ahead, len, each, 1000 / each, (double)len / each, other,
	       other > 0 ? each / other : 0.0);
	ncmp_compare_free(bench.compare);
	g_free(bench.packets);
	g_free(bench.frames);
	g_free(bench.copy);
}

static long resident_kib(void)
{
	g_autofree char *text = NULL;
	const char *line;

	if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL))
		return 0;
	line = strstr(text, "VmRSS:");
	return line ? strtol(line + 6, NULL, 10) : 0;
}

/* Each was born, had a byte each way, and rests. */
static void connections(void)
{
	struct bench bench = { 0 };
	struct ncmp_compare_counters counters;
	guint8 bytes[128], frame[128];
	guint64 start = base_clock_monotonic_ns(), took;
	long before = resident_kib();

	begin(&bench);
	for (guint i = 0; i < CONNECTIONS; i++) {
		for (guint n = 0; n < 3; n++) {
			struct fake_packet packet = {
				.source_port = 80,
				.target_port = (guint16)i,
				.peer = (guint8)(2 + i / 5000),
				.seq = 1000 + (n > 0),
				.flags = n ? NCMP_TCP_ACK : NCMP_TCP_ACK | NCMP_TCP_SYN,
				.data = "x",
				.len = n == 1,
			};
			struct ncmp_arrival arrival = { .id = bench.id++,
							.bytes = bytes,
							.ethertype = FAKE_IPV4 };
			gsize len;

			arrival.len = fake_tcp(&packet, bytes);
			packet.seq += 777;
			len = fake_tcp(&packet, frame);
			memmove(frame + 14, frame, len);
			memcpy(frame + 12, "\x08\0", 2);
			ncmp_compare_secondary(bench.compare, 1, 0, frame, len + 14, 0);
			ncmp_compare_primary(bench.compare, &arrival, 0);
		}
	}
	took = base_clock_monotonic_ns() - start;
	ncmp_compare_get_counters(bench.compare, &counters);
	printf("connections count=%" G_GUINT64_FORMAT " counted_bytes_each=%.0f "
	       "resident_bytes_each=%.0f us_each=%.2f",
	       counters.flows, (double)counters.memory / CONNECTIONS,
	       (double)(resident_kib() - before) * 1024 / CONNECTIONS,
	       (double)took / 1000 / CONNECTIONS);
	start = base_clock_monotonic_ns();
	ncmp_compare_tick(bench.compare, 1000000000);
	took = base_clock_monotonic_ns() - start;
	start = base_clock_monotonic_ns();
	ncmp_compare_marker(bench.compare, 2, 1000000000);
	ncmp_compare_committed(bench.compare, 2, 1000000000);
	printf(" tick_us=%.1f commit_us=%.1f\n", (double)took / 1000,
	       (double)(base_clock_monotonic_ns() - start) / 1000);
	ncmp_compare_free(bench.compare);
}

int main(int argc, char **argv)
{
	static const gsize lens[] = { 1, 64, 1448, 65000 };
	guint rounds = argc > 1 ? (guint)atoi(argv[1]) : 400;

	connections();
	for (guint i = 0; i < G_N_ELEMENTS(lens); i++) {
		measure("secondary", lens[i], rounds);
		measure("primary", lens[i], rounds);
	}
	return 0;
}
