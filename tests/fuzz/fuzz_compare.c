/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two guests, by turns: orderly ones in any order and segmentation, held against a
 * naive reference; and such as send any bytes at all, where every packet must get one
 * verdict. */
#include "tests/unit/fake_guests.h"

#include <string.h>

#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "tests/fuzz/harness.h"

/* One object for every target, whichever build it is: so these come along. */
#include "tests/unit/fake_guests.c"
#include "tests/unit/fake_packet.c"

#define WILD_MAX 1024u

struct wild {
	struct fuzz_input input;
	ncmp_compare *compare;
	guint8 last[256]; /* sent again, changed somewhere */
	gsize last_len;
	guint8 verdicts[WILD_MAX];
	guint count;
	guint64 marker, committed;
	gint64 now_ns;
};

static void wild_release(void *data, guint32 id, const guint8 *changed, gsize len)
{
	struct wild *wild = data;

	g_assert(id < wild->count && !wild->verdicts[id]);
	wild->verdicts[id] = 1;
	if (changed)
		g_assert(len);
}

static void wild_drop(void *data, guint32 id)
{
	wild_release(data, id, NULL, 0);
}

static void wild_diverged(void *data, const struct ncmp_divergence *divergence)
{
	guint sum = 0;

	/* All of it can be read. */
	for (gsize i = 0; i < divergence->primary_len; i++)
		sum += divergence->primary[i];
	for (gsize i = 0; i < divergence->secondary_len; i++)
		sum += divergence->secondary[i];
	g_assert(sum < G_MAXUINT);
	g_assert(strcmp(ncmp_cause_name(divergence->cause), "unknown"));
}

static void wild_packet(struct wild *wild)
{
	static const guint16 types[] = { FAKE_IPV4, FAKE_IPV6, 0x0806, 0x8100 };
	struct fake_packet packet = { .source_port = 80, .flags = NCMP_TCP_ACK };
	guint8 how = fuzz_u8(&wild->input);
	guint8 data[64];

	switch (how & 3) {
	case 0:
		wild->last_len =
			fuzz_bytes(&wild->input, wild->last, fuzz_u8(&wild->input));
		break;
	case 1:
		wild->last[fuzz_u8(&wild->input)] = fuzz_u8(&wild->input);
		break;
	default:
		packet.ipv6 = how >> 2 & 1;
		packet.target_port = how >> 6;
		packet.seq = (guint32)(gint8)fuzz_u8(&wild->input) * 3;
		packet.ack = (guint32)(gint8)fuzz_u8(&wild->input);
		packet.flags = fuzz_u8(&wild->input);
		packet.urgent = packet.flags & NCMP_TCP_URG ? fuzz_u8(&wild->input) : 0;
		packet.data = data;
		packet.len = fuzz_u8(&wild->input) % sizeof(data);
		memset(data, how & 8 ? 'x' : 'y', sizeof(data));
		wild->last_len = fake_tcp(&packet, wild->last);
	}
	/* Exactly as long as it is. */
	g_autofree guint8 *exact =
		g_memdup2(wild->last, wild->last_len + !wild->last_len);
	const struct ncmp_arrival arrival = {
		.id = wild->count,
		.bytes = exact,
		.len = wild->last_len,
		.ethertype = (how & 3) >= 2 ? fake_ethertype(&packet) : types[how >> 6],
		.segmentable = how & 16,
		.partial = how & 32,
	};

	if (wild->count == WILD_MAX)
		return;
	wild->count++;
	ncmp_compare_primary(wild->compare, &arrival, wild->now_ns);
}

static void wild_frame(struct wild *wild)
{
	guint8 how = fuzz_u8(&wild->input);
	guint8 frame[sizeof(wild->last) + 32];
	gsize len = wild->last_len;

	len = fake_frame(wild->last, len,
			 wild->last[0] >> 4 == 6 ? FAKE_IPV6 : FAKE_IPV4,
			 how & 1 ? 5 : 0, how & 2 ? 60 : 0, 0xa5, frame);
	if (how & 4)
		len = MIN(len, fuzz_u8(&wild->input));
	if (how & 8)
		frame[fuzz_u8(&wild->input) % sizeof(frame)] ^= fuzz_u8(&wild->input);
	g_autofree guint8 *exact = g_memdup2(frame, len + !len);

	ncmp_compare_secondary(wild->compare, wild->committed + (how >> 6 == 3), 0,
			       exact, len, wild->now_ns);
}

static void wild_step(struct wild *wild)
{
	guint8 op = fuzz_u8(&wild->input);

	switch (op % 16) {
	case 0 ... 5:
		wild_packet(wild);
		break;
	case 6 ... 10:
		wild_frame(wild);
		break;
	case 11:
		wild->marker += op >> 6;
		ncmp_compare_marker(wild->compare, wild->marker, wild->now_ns);
		break;
	case 12:
		ncmp_compare_cut(wild->compare, wild->committed + (op >> 6), op & 16);
		wild->committed += op >> 6;
		ncmp_compare_committed(wild->compare, wild->committed, wild->now_ns);
		break;
	case 13:
		wild->now_ns +=
			(gint64)fuzz_u16(&wild->input) * (op & 16 ? 1000000 : 1000);
		g_assert(ncmp_compare_tick(wild->compare, wild->now_ns) >= 0);
		break;
	case 14:
		if (op >= 0xe0)
			ncmp_compare_overrun(wild->compare, wild->now_ns);
		break;
	default:
		if (op >= 0xe0)
			ncmp_compare_set_gate(wild->compare, fuzz_u8(&wild->input) % 3);
		break;
	}
}

static void run_wild(const guint8 *data, gsize size)
{
	struct wild *wild = g_new0(struct wild, 1);
	const struct ncmp_compare_hooks hooks = { wild, wild_release, wild_drop,
						  wild_diverged };
	struct ncmp_compare_options options = { .seed = 1 };
	struct ncmp_compare_counters counters;
	guint held = 0;

	wild->input = (struct fuzz_input){ data, size };
	if (fuzz_u8(&wild->input) & 1)
		options = (struct ncmp_compare_options){ .memory_max = 20000,
							 .flow_memory_max = 6000,
							 .flows_max = 6,
							 .held_max = 20 };
	wild->compare = ncmp_compare_new(&options, &hooks);
	ncmp_compare_set_gate(wild->compare, NCMP_GATE_GUARDED);
	while (wild->input.left)
		wild_step(wild);
	ncmp_compare_get_counters(wild->compare, &counters);
	for (guint i = 0; i < wild->count; i++)
		held += !wild->verdicts[i];
	g_assert(counters.held == held);
	ncmp_compare_set_gate(wild->compare, NCMP_GATE_OPEN);
	for (guint i = 0; i < wild->count; i++)
		g_assert(wild->verdicts[i]);
	/* Whatever was counted as kept is given back. */
	ncmp_compare_get_counters(wild->compare, &counters);
	g_assert(!counters.flows && !counters.held && counters.memory < 8192);
	ncmp_compare_free(wild->compare);
	g_free(wild);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		run_wild(data + 1, size - 1);
	else
		fake_guests_run(data + 1, size - 1);
	return 0;
}
