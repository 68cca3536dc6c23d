/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison whose two sides do what a test says. What is handed in is gone after the
 * call, so that whoever keeps a pointer to it is found out. */
#include "tests/unit/fake_compare.h"

#include <string.h>

static enum fake_verdict *verdict_of(struct fake_compare *fake, guint id)
{
	return &g_array_index(fake->verdicts, enum fake_verdict, id);
}

static void on_release(void *data, guint32 id, const guint8 *changed, gsize len)
{
	struct fake_compare *fake = data;

	/* One verdict, no more. */
	g_assert(*verdict_of(fake, id) == FAKE_HELD);
	*verdict_of(fake, id) = changed ? FAKE_CHANGED : FAKE_OUT;
	g_array_append_val(fake->order, id);
	if (!changed)
		return;
	g_byte_array_set_size(fake->changed, 0);
	g_byte_array_append(fake->changed, changed, (guint)len);
}

static void on_drop(void *data, guint32 id)
{
	struct fake_compare *fake = data;

	g_assert(*verdict_of(fake, id) == FAKE_HELD);
	*verdict_of(fake, id) = FAKE_DROPPED;
}

static void on_diverged(void *data, const struct ncmp_divergence *divergence)
{
	struct fake_compare *fake = data;

	fake->asked++;
	fake->cause = divergence->cause;
	fake->position = divergence->position;
}

void fake_compare_begin_closed(struct fake_compare *fake,
			       const struct ncmp_compare_options *options)
{
	const struct ncmp_compare_options none = { 0 };
	const struct ncmp_compare_hooks hooks = { fake, on_release, on_drop,
						  on_diverged };

	memset(fake, 0, sizeof(*fake));
	fake->now_ns = 1000 * FAKE_MS;
	fake->verdicts = g_array_new(FALSE, TRUE, sizeof(enum fake_verdict));
	fake->order = g_array_new(FALSE, FALSE, sizeof(guint32));
	fake->changed = g_byte_array_new();
	fake->compare = ncmp_compare_new(options ? options : &none, &hooks);
}

void fake_compare_begin(struct fake_compare *fake,
			const struct ncmp_compare_options *options)
{
	fake_compare_begin_closed(fake, options);
	ncmp_compare_set_gate(fake->compare, NCMP_GATE_GUARDED);
	fake_compare_turn(fake, 1);
}

void fake_compare_end(struct fake_compare *fake)
{
	ncmp_compare_free(fake->compare);
	g_array_unref(fake->verdicts);
	g_array_unref(fake->order);
	g_byte_array_unref(fake->changed);
}

void fake_compare_turn(struct fake_compare *fake, guint64 epoch)
{
	ncmp_compare_marker(fake->compare, epoch, fake->now_ns);
	ncmp_compare_committed(fake->compare, epoch, fake->now_ns);
	fake->epoch = epoch;
}

void fake_compare_wait(struct fake_compare *fake, gint64 ms)
{
	fake->now_ns += ms * FAKE_MS;
	ncmp_compare_tick(fake->compare, fake->now_ns);
}

guint fake_primary(struct fake_compare *fake, const guint8 *packet, gsize len,
		   guint16 ethertype)
{
	g_autofree guint8 *copy = g_memdup2(packet, len);
	const struct ncmp_arrival arrival = { .id = fake->next_id++,
					      .bytes = copy,
					      .len = len,
					      .ethertype = ethertype,
					      .segmentable = fake->segmentable,
					      .partial = fake->partial };

	g_array_set_size(fake->verdicts, fake->next_id);
	ncmp_compare_primary(fake->compare, &arrival, fake->now_ns);
	return arrival.id;
}

guint fake_primary_tcp(struct fake_compare *fake, const struct fake_packet *packet)
{
	g_autofree guint8 *bytes = g_malloc(FAKE_PACKET_MAX);
	gsize len = fake_tcp(packet, bytes);

	return fake_primary(fake, bytes, len, fake_ethertype(packet));
}

guint fake_primary_udp(struct fake_compare *fake, const struct fake_packet *packet)
{
	g_autofree guint8 *bytes = g_malloc(FAKE_PACKET_MAX);
	gsize len = fake_udp(packet, bytes);

	return fake_primary(fake, bytes, len, fake_ethertype(packet));
}

void fake_secondary(struct fake_compare *fake, const guint8 *packet, gsize len,
		    guint16 ethertype)
{
	guint8 *frame = g_malloc(FAKE_PACKET_MAX);
	g_autofree guint8 *exact = NULL;

	/* Short ones with padding that is not zero. */
	len = fake_frame(packet, len, ethertype, 0, 60, 0xa5, frame);
	exact = g_realloc(frame, len);
	ncmp_compare_secondary(fake->compare, fake->epoch, 0, exact, len, fake->now_ns);
}

void fake_secondary_tcp(struct fake_compare *fake, const struct fake_packet *packet)
{
	g_autofree guint8 *bytes = g_malloc(FAKE_PACKET_MAX);
	gsize len = fake_tcp(packet, bytes);

	fake_secondary(fake, bytes, len, fake_ethertype(packet));
}

void fake_secondary_udp(struct fake_compare *fake, const struct fake_packet *packet)
{
	g_autofree guint8 *bytes = g_malloc(FAKE_PACKET_MAX);
	gsize len = fake_udp(packet, bytes);

	fake_secondary(fake, bytes, len, fake_ethertype(packet));
}

enum fake_verdict fake_verdict(const struct fake_compare *fake, guint id)
{
	return g_array_index(fake->verdicts, enum fake_verdict, id);
}

struct ncmp_compare_counters fake_counters(const struct fake_compare *fake)
{
	struct ncmp_compare_counters counters;

	ncmp_compare_get_counters(fake->compare, &counters);
	return counters;
}
