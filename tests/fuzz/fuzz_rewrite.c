/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A rewriter between a hostile guest and hostile clients: frames of any kind in both
 * directions, births, saved translations of its own with bytes changed, a promotion.
 *
 * Whatever comes, a frame changes only where numbers may stand, its checksum is as
 * right or wrong as before, what is held is held for a bounded time, and no more
 * connections are kept than may be.
 */
#include <string.h>

#include "netcompare/rewrite.h"
#include "tests/fuzz/harness.h"
#include "tests/unit/fake_packet.h"

/* Not among what the harness brings along. */
#include "tests/unit/fake_packet.c"

#define CONNECTIONS 8u
#define FRAME_MAX 512u

struct world {
	struct fuzz_input *input;
	ncmp_rewriter *rewriter;
	gint64 now;
	guint8 packet[FAKE_PACKET_MAX], frame[FAKE_PACKET_MAX + 64];
};

/* Numbers that are likely to belong together. */
static guint32 number(struct world *world)
{
	guint8 kind = fuzz_u8(world->input);

	if (kind < 0xf0)
		return (kind >> 4) * 0x22222222u + (kind & 15);
	return fuzz_u32(world->input);
}

static gsize make_tcp(struct world *world, gboolean from_guest)
{
	guint8 shape = fuzz_u8(world->input);
	guint8 options[40] = { 1, 1, 1 }, data[64] = { 0 };
	gsize at = shape & 3;
	guint16 guest_port = 80 + (shape >> 2 & 1),
		client_port = 40000 + (shape >> 3 & 3);
	struct fake_packet from = {
		.ipv6 = shape >> 5 & 1,
		.host = from_guest ? 1 : 2,
		.peer = from_guest ? 2 : 1,
		.source_port = from_guest ? guest_port : client_port,
		.target_port = from_guest ? client_port : guest_port,
		.flags = fuzz_u8(world->input),
		.options = options,
		.data = data,
	};
	guint8 extras = fuzz_u8(world->input);
	gsize len;

	from.seq = number(world);
	from.ack = number(world);
	if (extras & 1) {
		options[at] = 8;
		options[at + 1] = 10;
		put32(options + at + 2, number(world));
		put32(options + at + 6, number(world));
		at += 10;
	}
	if (extras & 2) {
		options[at] = 5;
		options[at + 1] = 18;
		for (guint i = 0; i < 4; i++)
			put32(options + at + 2 + 4 * i, number(world));
		at += 18;
	}
	if (extras & 4) {
		memcpy(options + at, "\x22\x04\x01\x02", 4);
		at += 4;
	}
	from.options_len = (at + 3) / 4 * 4;
	from.len = extras >> 3 & 3 ? extras >> 3 : 0;
	len = fake_tcp(&from, world->packet);
	return fake_frame(world->packet, len, fake_ethertype(&from),
			  shape >> 6 & 1 ? 7 : 0, 60, 0, world->frame);
}

/* An error that quotes what the guest may have sent, or anything. */
static gsize make_other(struct world *world)
{
	guint8 kind = fuzz_u8(world->input);
	guint8 quote[FRAME_MAX];
	struct fake_packet from = {
		.ipv6 = kind & 1, .host = 9, .peer = 1, .data = quote
	};
	gsize len;

	if (kind & 2)
		return fuzz_bytes(world->input, world->frame, kind);
	memset(quote, 0, 4);
	len = make_tcp(world, TRUE) - 14;
	memcpy(quote + 4, world->frame + 14, MIN(len, sizeof(quote) - 4));
	from.len = 4 + MIN(len, kind);
	len = fake_icmp(&from, kind >> 3, world->packet);
	return fake_frame(world->packet, len, fake_ethertype(&from), 0, 60, 0,
			  world->frame);
}

/* Sum of the transport part, without the pseudo header, which does not change. */
static guint16 sum_of(const struct ncmp_packet *packet, const guint8 *bytes)
{
	return ncmp_checksum_fold(ncmp_checksum_add(0, bytes + packet->transport,
						    packet->len - packet->transport));
}

static gboolean may_change(const struct ncmp_packet *packet, gsize at, gboolean in)
{
	gsize tcp = packet->transport;

	if (packet->kind != NCMP_KIND_TCP)
		return in && at >= tcp + 2;
	if (at >= tcp + 16 && at < tcp + 18)
		return TRUE;
	if (!in && at >= tcp + 4 && at < tcp + 8)
		return TRUE;
	if (in && at >= tcp + 8 && at < tcp + 12)
		return TRUE;
	if (packet->timestamps && at >= packet->timestamps + (in ? 4 : 0) &&
	    at < packet->timestamps + (in ? 8 : 4))
		return TRUE;
	return in && packet->sack && at >= packet->sack &&
	       at < packet->sack + 8 * packet->sack_blocks;
}

static void check(const guint8 *before, const guint8 *after, gsize len, gboolean in,
		  gboolean partial, gboolean changed)
{
	struct ncmp_packet packet;
	gsize start;

	g_assert(changed == !!memcmp(before, after, len));
	if (!changed)
		return;
	ncmp_packet_parse_frame(&packet, before, len, 0);
	start = (gsize)(packet.bytes - before);
	for (gsize i = 0; i < len; i++) {
		if (before[i] != after[i])
			g_assert(i >= start && i < start + packet.len &&
				 may_change(&packet, i - start, in));
	}
	if (packet.kind == NCMP_KIND_TCP && partial) {
		g_assert(!memcmp(packet.bytes + packet.transport + 16,
				 after + start + packet.transport + 16, 2));
		return;
	}
	guint16 was = sum_of(&packet, packet.bytes),
		is = sum_of(&packet, after + start);

	/* There are two zeros. */
	g_assert(was == is || (was % 0xffff == 0 && is % 0xffff == 0));
}

static void show(struct world *world, gsize len, gboolean in, gboolean partial)
{
	g_autofree guint8 *exact = g_memdup2(world->frame, len ? len : 1);
	g_autofree guint8 *was = g_memdup2(exact, len ? len : 1);
	gint64 limit = world->now + NCMP_REWRITE_HOLD_MS * G_GINT64_CONSTANT(1000000);

	if (!in) {
		gboolean changed = ncmp_rewriter_out(world->rewriter, 0, exact, len,
						     partial, world->now);

		check(was, exact, len, FALSE, partial, changed);
		return;
	}
	for (;;) {
		enum ncmp_rewrite verdict = ncmp_rewriter_in(world->rewriter, 0, exact,
							     len, partial, world->now);

		check(was, exact, len, TRUE, partial, verdict == NCMP_REWRITE_CHANGED);
		if (verdict != NCMP_REWRITE_HOLD)
			return;
		g_assert(ncmp_rewriter_hold_until(world->rewriter) > world->now);
		/* Sometimes the guest is quicker. */
		if (fuzz_u8(world->input) & 1)
			show(world, make_tcp(world, TRUE), FALSE, FALSE);
		world->now = ncmp_rewriter_hold_until(world->rewriter);
		g_assert(world->now <= limit);
	}
}

static void learn(struct world *world)
{
	struct wire_rewrite_birth birth;
	gsize len = make_tcp(world, TRUE);

	if (!ncmp_rewriter_birth(0, world->frame, len, &birth))
		return;
	if (fuzz_u8(world->input) & 1)
		((guint8 *)&birth)[fuzz_u8(world->input) % sizeof(birth)] =
			fuzz_u8(world->input);
	/* Refused or not: nothing to be said. */
	if (ncmp_rewriter_learn(world->rewriter, &birth, world->now))
		return;
}

/* What is saved is loaded by the next, as it is or changed. */
static void save_and_load(struct world *world)
{
	g_autoptr(GByteArray) saved = g_byte_array_new();
	guint8 changes = fuzz_u8(world->input);
	ncmp_rewriter *next = ncmp_rewriter_new(CONNECTIONS, 2);
	const char *why;

	ncmp_rewriter_save(world->rewriter, saved);
	for (guint i = 0; i < (changes & 3u) && saved->len; i++)
		saved->data[fuzz_u16(world->input) % saved->len] =
			fuzz_u8(world->input);
	why = ncmp_rewriter_load(next, saved->data, saved->len, world->now);
	if (!(changes & 3))
		g_assert(!why);
	ncmp_rewriter_free(world->rewriter);
	world->rewriter = next;
}

static void load_anything(struct world *world)
{
	guint8 bytes[FRAME_MAX];
	gsize len = fuzz_bytes(world->input, bytes, fuzz_u16(world->input) % FRAME_MAX);
	g_autofree guint8 *exact = g_memdup2(bytes, len ? len : 1);

	if (ncmp_rewriter_load(world->rewriter, exact, len, world->now))
		return;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	static struct world world;
	struct fuzz_input input = { data, size };

	world.input = &input;
	world.now = 1;
	world.rewriter = ncmp_rewriter_new(CONNECTIONS, 1);
	while (input.left) {
		guint8 op = fuzz_u8(&input);
		struct ncmp_rewriter_counters counters;

		switch (op & 15) {
		case 0:
			learn(&world);
			break;
		case 1:
			save_and_load(&world);
			break;
		case 2:
			load_anything(&world);
			break;
		case 3:
			if (op >> 4 == 0)
				ncmp_rewriter_promote(world.rewriter, world.now);
			break;
		case 4:
			show(&world, make_other(&world), op >> 4 & 1, op >> 5 & 1);
			break;
		case 5:
		case 6:
		case 7:
		case 8:
		case 9:
			show(&world, make_tcp(&world, TRUE), FALSE, op >> 5 & 1);
			break;
		default:
			show(&world, make_tcp(&world, FALSE), TRUE, op >> 5 & 1);
			break;
		}
		world.now += (gint64)(op >> 4) * (op >> 4) * 1000000000 / 4;
		ncmp_rewriter_get_counters(world.rewriter, &counters);
		g_assert(counters.connections <= CONNECTIONS);
	}
	ncmp_rewriter_free(world.rewriter);
	return 0;
}
