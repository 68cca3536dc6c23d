/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests at random, against a naive reference; and two equal streams of which one has a
 * single fault. RANDOM_SEED (1) chooses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/unit/fake_compare.h"
#include "tests/unit/fake_guests.h"

#define STREAM 3000u

static GRand *dice;

static void guests_at_random_agree_with_the_reference(void **state)
{
	guint rounds = g_getenv("LONG") ? 200000 : 10000;
	guint64 packets = 0, released = 0, asked = 0;
	guint8 bytes[1024];

	for (guint i = 0; i < rounds; i++) {
		gsize len = 16 + g_rand_int_range(dice, 0, sizeof(bytes) - 16);
		struct fake_guests_result result;

		for (gsize n = 0; n < len; n++)
			bytes[n] = (guint8)g_rand_int(dice);
		result = fake_guests_run(bytes, len);
		packets += result.packets;
		released += result.released;
		asked += result.asked;
	}
	print_message("# packets=%" G_GUINT64_FORMAT " released=%" G_GUINT64_FORMAT
		      " asked=%" G_GUINT64_FORMAT "\n",
		      packets, released, asked);
	assert_true(released > packets / 20);
	assert_true(asked > 0);
}

enum fault {
	NONE,
	CHANGED,
	MISSING,
	EXTRA,
	EARLY_FIN,
	NO_FIN,
	RESET,
	FAULTS,
};

struct side {
	guint8 data[STREAM + 1];
	guint len, sent;
	guint32 isn;
	gboolean syn, ended;
	guint8 end_flags; /* 0: it does not end */
};

/* The next segment of a side, or one of those before it once more. */
static gboolean next_segment(struct side *side, struct fake_packet *packet)
{
	guint from = side->sent, len;

	*packet = (struct fake_packet){
		.source_port = 80, .target_port = 1, .ack = 5, .flags = NCMP_TCP_ACK
	};
	if (!side->syn) {
		side->syn = TRUE;
		packet->seq = side->isn;
		packet->flags |= NCMP_TCP_SYN;
		return TRUE;
	}
	if (side->sent && g_rand_int_range(dice, 0, 5) == 0)
		from = (guint)g_rand_int_range(dice, 0, (gint)side->sent);
	len = (guint)g_rand_int_range(dice, 1, g_rand_boolean(dice) ? 20 : 1500);
	len = MIN(len, side->len - from);
	packet->seq = side->isn + 1 + from;
	packet->data = side->data + from;
	packet->len = len;
	side->sent = MAX(side->sent, from + len);
	if (from + len == side->len && side->end_flags) {
		packet->flags |= side->end_flags;
		side->ended = TRUE;
	}
	return side->sent < side->len || !side->ended;
}

static void make_sides(struct side *p, struct side *s, enum fault fault, guint at)
{
	memset(p, 0, sizeof(*p));
	for (guint i = 0; i <= STREAM; i++)
		p->data[i] = (guint8)g_rand_int(dice);
	p->len = STREAM;
	p->isn = g_rand_int(dice);
	p->end_flags = NCMP_TCP_FIN;
	*s = *p;
	s->isn = g_rand_int(dice);
	switch (fault) {
	case CHANGED:
		s->data[at] ^= 1 + (guint8)g_rand_int_range(dice, 0, 255);
		break;
	case MISSING:
		memmove(s->data + at, s->data + at + 1, STREAM - at);
		s->len--;
		break;
	case EXTRA:
		memmove(s->data + at + 1, s->data + at, STREAM - at);
		s->data[at] = (guint8)~s->data[at];
		s->len++;
		break;
	case EARLY_FIN:
		s->len = at;
		break;
	case NO_FIN:
		s->end_flags = 0;
		s->ended = TRUE;
		break;
	case RESET:
		s->end_flags = NCMP_TCP_RST;
		break;
	default:
		break;
	}
}

/* How many of the primary's positions have gone out. */
static guint64 highest_out(const struct fake_compare *fake, const GArray *ends)
{
	guint64 highest = 0;

	for (guint i = 0; i < ends->len; i++)
		if (fake_verdict(fake, i) != FAKE_HELD)
			highest = MAX(highest, g_array_index(ends, guint, i));
	return highest;
}

static void run_sides(struct fake_compare *fake, struct side *p, struct side *s,
		      GArray *ends)
{
	gboolean p_more = TRUE, s_more = TRUE;
	guint bias = (guint)g_rand_int_range(dice, 1, 10);

	while (p_more || s_more) {
		gboolean primary = (guint)g_rand_int_range(dice, 0, 10) < bias;
		struct fake_packet packet;

		if (primary ? !p_more : !s_more)
			primary = !primary;
		if (primary) {
			guint end;

			p_more = next_segment(p, &packet);
			end = packet.seq - p->isn + (guint)packet.len +
			      !!(packet.flags & (NCMP_TCP_SYN | NCMP_TCP_FIN));
			g_array_append_val(ends, end);
			fake_primary_tcp(fake, &packet);
		} else {
			s_more = next_segment(s, &packet);
			fake_secondary_tcp(fake, &packet);
		}
	}
}

static void one_fault(enum fault fault)
{
	guint at = (guint)g_rand_int_range(dice, 0, STREAM);
	g_autofree struct side *p = g_new(struct side, 1), *s = g_new(struct side, 1);
	g_autoptr(GArray) ends = g_array_new(FALSE, FALSE, sizeof(guint));
	struct fake_compare fake;
	/* Of positions: SYN, then bytes. Behind it a byte may be equal by chance. */
	guint64 bound = 1 + STREAM;

	fake_compare_begin(&fake, NULL);
	make_sides(p, s, fault, at);
	if (fault == CHANGED || fault == EARLY_FIN)
		bound = 1 + at;
	if (fault == MISSING || fault == EXTRA)
		for (bound = 0;
		     bound < MIN(p->len, s->len) && p->data[bound] == s->data[bound];
		     bound++)
			;
	if (fault == MISSING || fault == EXTRA)
		bound++;
	run_sides(&fake, p, s, ends);
	if (fault == NONE) {
		assert_int_equal(fake.asked, 0);
		assert_int_equal(fake_counters(&fake).held, 0);
	} else {
		fake_compare_wait(&fake, 250);
		assert_int_equal(fake.asked, 1);
		assert_true(highest_out(&fake, ends) <= bound);
	}
	fake_compare_turn(&fake, 2);
	assert_int_equal(fake_counters(&fake).held, 0);
	fake_compare_end(&fake);
}

static void equal_streams_go_out_whole_however_they_are_cut(void **state)
{
	for (guint i = 0; i < 300; i++)
		one_fault(NONE);
}

static void one_fault_diverges_before_it_leaves(void **state)
{
	for (guint i = 0; i < 300; i++)
		for (enum fault fault = CHANGED; fault < FAULTS; fault++)
			one_fault(fault);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guests_at_random_agree_with_the_reference),
		cmocka_unit_test(equal_streams_go_out_whole_however_they_are_cut),
		cmocka_unit_test(one_fault_diverges_before_it_leaves),
	};
	const char *text = g_getenv("RANDOM_SEED");
	guint32 seed = text ? (guint32)strtoul(text, NULL, 0) : 1;
	int failed;

	print_message("# RANDOM_SEED=%u\n", seed);
	dice = g_rand_new_with_seed(seed);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	g_rand_free(dice);
	return failed;
}
