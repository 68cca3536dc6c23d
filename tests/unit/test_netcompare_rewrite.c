/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames between a guest (10.0.0.1:80, or fd00::1) and a client, through the rewriter
 * of the secondary: the guest begins where it likes, the client knows the primary's
 * numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "netcompare/rewrite.h"
#include "tests/unit/fake_packet.h"

#define FIN NCMP_TCP_FIN
#define SYN NCMP_TCP_SYN
#define RST NCMP_TCP_RST
#define ACK NCMP_TCP_ACK

#define MS G_GINT64_CONSTANT(1000000)
#define SECOND (1000 * MS)
#define CARD 1

/* What is said in one segment; the rest is the same for all of a test. */
struct segment {
	guint8 flags;
	guint32 seq, ack;
	guint32 tsval, tsecr; /* both 0: no option */
	guint blocks; /* SACK */
	guint32 block[6];
	gsize len;
};

static ncmp_rewriter *rewriter;
static gint64 now;
static guint16 guest_port, client_port;
static gboolean ipv6;
static guint16 vlan;
static gboolean partial;
static guint nops; /* before options: those after them may be at odd places */
static gboolean fast_open;

static guint8 packet_bytes[FAKE_PACKET_MAX];
static guint8 frame[FAKE_PACKET_MAX + 64];
static gsize frame_len, ip_at;
static guint8 data[65000];

static int set_up(void **state)
{
	rewriter = ncmp_rewriter_new(0, 1);
	now = 1000 * SECOND;
	guest_port = 80;
	client_port = 40000;
	ipv6 = partial = fast_open = FALSE;
	vlan = 0;
	nops = 2;
	for (guint i = 0; i < sizeof(data); i++)
		data[i] = (guint8)(i * 7 + i / 251);
	return 0;
}

static int tear_down(void **state)
{
	ncmp_rewriter_free(rewriter);
	return 0;
}

static void put32(guint8 *to, guint32 value)
{
	value = GUINT32_TO_BE(value);
	memcpy(to, &value, 4);
}

static gsize put_options(guint8 *to, const struct segment *segment)
{
	gsize at = 0;

	for (guint i = 0; i < nops; i++)
		to[at++] = 1;
	if (segment->tsval || segment->tsecr) {
		to[at] = 8;
		to[at + 1] = 10;
		put32(to + at + 2, segment->tsval);
		put32(to + at + 6, segment->tsecr);
		at += 10;
	}
	if (segment->blocks) {
		to[at] = 5;
		to[at + 1] = (guint8)(2 + 8 * segment->blocks);
		at += 2;
		for (guint i = 0; i < 2 * segment->blocks; i++, at += 4)
			put32(to + at, segment->block[i]);
	}
	if (fast_open && segment->flags & SYN) {
		memcpy(to + at, "\x22\x06\xca\xfe\xba\xbe", 6);
		at += 6;
	}
	while (at % 4)
		to[at++] = 0;
	return at;
}

static void make(const struct segment *segment, gboolean from_guest)
{
	guint8 options[60];
	struct fake_packet from = {
		.ipv6 = ipv6,
		.host = from_guest ? 1 : 2,
		.peer = from_guest ? 2 : 1,
		.source_port = from_guest ? guest_port : client_port,
		.target_port = from_guest ? client_port : guest_port,
		.seq = segment->seq,
		.ack = segment->ack,
		.flags = segment->flags,
		.window = 1000,
		.options = options,
		.options_len = put_options(options, segment),
		.data = data,
		.len = segment->len,
	};
	gsize len = fake_tcp(&from, packet_bytes);

	frame_len = fake_frame(packet_bytes, len, fake_ethertype(&from), vlan, 60, 0xee,
			       frame);
	ip_at = vlan ? 18 : 14;
}

static guint8 *tcp(void)
{
	return frame + ip_at + (ipv6 ? 40 : 20);
}

/* What the frame says now. Everything else in it must be as it was made. */
static struct segment read_back(const struct segment *made, gboolean from_guest)
{
	struct ncmp_packet packet;
	struct segment is = *made;

	ncmp_packet_parse_frame(&packet, frame, frame_len, CARD);
	assert_int_equal(packet.kind, NCMP_KIND_TCP);
	if (!partial)
		assert_true(fake_tcp_checksum_is_right(frame + ip_at, packet.len));
	is.seq = packet.seq;
	is.ack = packet.ack;
	if (packet.timestamps) {
		guint32 ts[2];

		memcpy(ts, packet.bytes + packet.timestamps, 8);
		is.tsval = GUINT32_FROM_BE(ts[0]);
		is.tsecr = GUINT32_FROM_BE(ts[1]);
	}
	for (guint i = 0; i < 2 * packet.sack_blocks; i++) {
		memcpy(&is.block[i], packet.bytes + packet.sack + 4 * i, 4);
		is.block[i] = GUINT32_FROM_BE(is.block[i]);
	}
	g_autofree guint8 *changed = g_memdup2(frame, frame_len);
	gsize len = frame_len;

	make(&is, from_guest);
	assert_int_equal(len, frame_len);
	if (partial)
		memcpy(tcp() + 16, changed + (tcp() - frame) + 16, 2);
	assert_memory_equal(frame, changed, len);
	return is;
}

/* Shows a copy that ends where the frame does. */
static enum ncmp_rewrite show_in(void)
{
	g_autofree guint8 *exact = g_memdup2(frame, frame_len);
	enum ncmp_rewrite verdict =
		ncmp_rewriter_in(rewriter, CARD, exact, frame_len, partial, now);

	if (verdict == NCMP_REWRITE_CHANGED)
		assert_memory_not_equal(frame, exact, frame_len);
	else
		assert_memory_equal(frame, exact, frame_len);
	memcpy(frame, exact, frame_len);
	return verdict;
}

static struct segment in(struct segment segment)
{
	make(&segment, FALSE);
	assert_int_not_equal(show_in(), NCMP_REWRITE_HOLD);
	return read_back(&segment, FALSE);
}

static void in_is_held(struct segment segment)
{
	make(&segment, FALSE);
	assert_int_equal(show_in(), NCMP_REWRITE_HOLD);
}

static struct segment out(struct segment segment)
{
	g_autofree guint8 *exact = NULL;

	make(&segment, TRUE);
	exact = g_memdup2(frame, frame_len);
	if (ncmp_rewriter_out(rewriter, CARD, exact, frame_len, partial, now))
		assert_memory_not_equal(frame, exact, frame_len);
	else
		assert_memory_equal(frame, exact, frame_len);
	memcpy(frame, exact, frame_len);
	return read_back(&segment, TRUE);
}

static struct ncmp_rewriter_counters counters(void)
{
	struct ncmp_rewriter_counters is;

	ncmp_rewriter_get_counters(rewriter, &is);
	return is;
}

/* The primary's guest began with this. */
static void told(guint8 flags, guint32 isn)
{
	struct segment segment = { .flags = flags, .seq = isn };
	struct wire_rewrite_birth birth;

	make(&segment, TRUE);
	assert_true(ncmp_rewriter_birth(CARD, frame, frame_len, &birth));
	assert_null(ncmp_rewriter_learn(rewriter, &birth, now));
}

/* A client's connection, up to its first acknowledgement. */
static void open_passively(guint32 irs, guint32 own, guint32 isn)
{
	in((struct segment){ .flags = SYN, .seq = irs });
	out((struct segment){ .flags = SYN | ACK, .seq = own, .ack = irs + 1 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = irs + 1, .ack = isn + 1 })
			.ack,
		own + 1);
}

static void a_clients_connection_is_translated_from_its_first_ack_on(void **state)
{
	struct segment is;

	open_passively(1000, 7000, 500000);
	is = in((struct segment){ .flags = ACK,
				  .seq = 1001,
				  .ack = 500101,
				  .blocks = 2,
				  .block = { 500201, 500301, 500401, 500501 },
				  .len = 10 });
	assert_int_equal(is.seq, 1001);
	assert_int_equal(is.ack, 7101);
	assert_int_equal(is.block[0], 7201);
	assert_int_equal(is.block[1], 7301);
	assert_int_equal(is.block[2], 7401);
	assert_int_equal(is.block[3], 7501);
	/* What the guest sends is compared, and by its start. */
	is = out((struct segment){ .flags = ACK, .seq = 7101, .ack = 1011, .len = 99 });
	assert_int_equal(is.seq, 7101);
	ncmp_rewriter_promote(rewriter, now);
	is = out((struct segment){ .flags = ACK,
				   .seq = 7101,
				   .ack = 1011,
				   .blocks = 1,
				   .block = { 2000, 3000 },
				   .len = 99 });
	assert_int_equal(is.seq, 500101);
	assert_int_equal(is.ack, 1011);
	assert_int_equal(is.block[0], 2000);
	assert_int_equal(counters().derived, 1);
	assert_int_equal(counters().translated_in, 2);
	assert_int_equal(counters().translated_out, 1);
}

static void its_first_ack_may_come_with_data_or_fin(void **state)
{
	in((struct segment){ .flags = SYN, .seq = 1000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	/* A bare ACK and the first 1448 bytes were lost on the way. */
	assert_int_equal(
		in((struct segment){
			   .flags = ACK | FIN, .seq = 2449, .ack = 500001, .len = 700 })
			.ack,
		7001);
}

static void what_is_told_counts_more_than_what_is_acknowledged(void **state)
{
	fast_open = TRUE;
	for (guint order = 0; order < 3; order++) {
		client_port++;
		in((struct segment){ .flags = SYN, .seq = 1000, .len = 20 });
		if (order == 0)
			told(SYN | ACK, 500000);
		out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1021 });
		if (order == 1)
			told(SYN | ACK, 500000);
		/* Both guests have sent data before this came. */
		out((struct segment){
			.flags = ACK, .seq = 7001, .ack = 1021, .len = 100 });
		assert_int_equal(
			in((struct segment){ .flags = ACK, .seq = 1021, .ack = 500101 })
				.ack,
			order < 2 ? 7101 : 500101);
		if (order == 2)
			told(SYN | ACK, 500000);
		assert_int_equal(
			in((struct segment){ .flags = ACK, .seq = 1021, .ack = 500101 })
				.ack,
			7101);
	}
	/* Not translated, rather than wrongly. */
	assert_int_equal(counters().ambiguous, 1);
	assert_int_equal(counters().derived, 0);
	assert_int_equal(counters().learned, 3);
}

static void a_made_up_ack_opens_nothing_where_it_is_known(void **state)
{
	in((struct segment){ .flags = SYN, .seq = 1000 });
	told(SYN | ACK, 500000);
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 77777777 }).ack,
		77777777 - 493000);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		7001);
}

static void a_connection_of_the_guests_is_translated_from_the_syn_ack_on(void **state)
{
	for (guint round = 0; round < 3; round++) {
		client_port++;
		if (round == 1)
			told(SYN, 500000);
		out((struct segment){ .flags = SYN, .seq = 7000, .tsval = 103 });
		if (round == 2)
			told(SYN, 500000);
		/* The guest only takes an echo of its own. */
		struct segment is = in((struct segment){ .flags = SYN | ACK,
							 .seq = 1000,
							 .ack = 500001,
							 .tsval = 9,
							 .tsecr = 100 });

		assert_int_equal(is.ack, 7001);
		assert_int_equal(is.tsecr, 103);
		assert_int_equal(is.tsval, 9);
		out((struct segment){ .flags = ACK, .seq = 7001, .ack = 1001 });
		is = in((struct segment){ .flags = ACK,
					  .seq = 1001,
					  .ack = 500101,
					  .tsval = 10,
					  .tsecr = 150 });
		assert_int_equal(is.ack, 7101);
		assert_int_equal(is.tsecr, 153);
	}
	assert_int_equal(counters().derived, 1);
	ncmp_rewriter_promote(rewriter, now);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 7101, .ack = 1001 }).seq,
		500101);
}

static void a_refused_connection_of_the_guests_is_refused(void **state)
{
	out((struct segment){ .flags = SYN, .seq = 7000 });
	assert_int_equal(
		in((struct segment){ .flags = RST | ACK, .seq = 0, .ack = 500001 }).ack,
		7001);
	/* The next one between these ports is another. */
	out((struct segment){ .flags = SYN, .seq = 8000 });
	assert_int_equal(
		in((struct segment){ .flags = SYN | ACK, .seq = 5, .ack = 600001 }).ack,
		8001);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 6, .ack = 600101 }).ack,
		8101);
}

static void both_ends_may_begin_at_once(void **state)
{
	out((struct segment){ .flags = SYN, .seq = 7000 });
	in((struct segment){ .flags = SYN, .seq = 1000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = SYN | ACK, .seq = 1000, .ack = 500001 })
			.ack,
		7001);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500011 }).ack,
		7011);
}

/* While a connection opens a guest takes no echo of what it did not say, and SYN
 * cookies have options in its lowest bits. */
static void echoes_in_a_handshake_are_the_guests_own(void **state)
{
	in((struct segment){ .flags = SYN, .seq = 1000, .tsval = 5 });
	out((struct segment){ .flags = SYN | ACK,
			      .seq = 7000,
			      .ack = 1001,
			      .tsval = 0xfffffff0,
			      .tsecr = 5 });
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500001,
					      .tsval = 6,
					      .tsecr = 0x2f })
				 .tsecr,
			 0xfffffff0);
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500001,
					      .tsval = 6,
					      .tsecr = 0x30 })
				 .tsecr,
			 0xfffffff1);

	/* One that was repeated: which was echoed cannot be told. */
	client_port++;
	in((struct segment){ .flags = SYN, .seq = 1000, .tsval = 5 });
	out((struct segment){ .flags = SYN | ACK,
			      .seq = 7000,
			      .ack = 1001,
			      .tsval = 100,
			      .tsecr = 5 });
	out((struct segment){ .flags = SYN | ACK,
			      .seq = 7000,
			      .ack = 1001,
			      .tsval = 1100,
			      .tsecr = 5 });
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500001,
					      .tsval = 6,
					      .tsecr = 97 })
				 .tsecr,
			 1100);
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500001,
					      .tsval = 6,
					      .tsecr = 2000 })
				 .tsecr,
			 2000);
	/* One that says nonsense gets it back. */
	client_port++;
	in((struct segment){ .flags = SYN, .seq = 1000, .tsval = 5 });
	out((struct segment){ .flags = SYN | ACK,
			      .seq = 7000,
			      .ack = 1001,
			      .tsval = 100,
			      .tsecr = 5 });
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500001,
					      .tsval = 6,
					      .tsecr = 0x70000000 })
				 .tsecr,
			 0x70000000);
}

static void an_ack_of_what_the_guest_has_yet_to_send_is_held(void **state)
{
	const struct segment ack = {
		.flags = ACK, .seq = 1001, .ack = 500001, .len = 10
	};

	for (guint round = 0; round < 2; round++) {
		client_port++;
		in((struct segment){ .flags = SYN, .seq = 1000 });
		if (round)
			told(SYN | ACK, 500000);
		/* Of another connection before it, or nobody's. */
		in((struct segment){ .flags = ACK, .seq = 99999999, .ack = 5 });
		in((struct segment){ .flags = RST, .seq = 1001 });
		in_is_held(ack);
		assert_int_equal(ncmp_rewriter_hold_until(rewriter),
				 now + NCMP_REWRITE_HOLD_MS * MS);
		now += 50 * MS;
		in_is_held(ack);
		assert_int_equal(ncmp_rewriter_hold_until(rewriter),
				 now + (NCMP_REWRITE_HOLD_MS - 50) * MS);
		out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
		assert_int_equal(in(ack).ack, 7001);
	}
	assert_int_equal(counters().held, 2);
	assert_int_equal(counters().hold_expired, 0);

	/* The primary's guest connects, and the client answers, before this one does.
	 */
	client_port++;
	told(SYN, 500000);
	in_is_held((struct segment){ .flags = SYN | ACK, .seq = 1, .ack = 500001 });
	out((struct segment){ .flags = SYN, .seq = 7000 });
	assert_int_equal(
		in((struct segment){ .flags = SYN | ACK, .seq = 1, .ack = 500001 }).ack,
		7001);
}

static void what_nobody_answers_is_held_once_and_seldom(void **state)
{
	gint64 held_ns = 0;

	for (guint i = 0; i < 10000; i++) {
		struct segment ack = { .flags = ACK, .seq = 1001, .ack = 500001 };

		client_port = (guint16)i;
		in((struct segment){ .flags = SYN, .seq = 1000 });
		make(&ack, FALSE);
		while (show_in() == NCMP_REWRITE_HOLD) {
			held_ns += ncmp_rewriter_hold_until(rewriter) - now;
			assert_true(ncmp_rewriter_hold_until(rewriter) > now);
			now = ncmp_rewriter_hold_until(rewriter);
			make(&ack, FALSE);
		}
		assert_int_equal(in(ack).ack, 500001);
		now += 5 * MS;
	}
	/* In 50 seconds. */
	assert_in_range(held_ns, 1 * MS, 900 * MS);
}

static void an_attackers_syn_changes_nothing(void **state)
{
	open_passively(1000, 7000, 500000);
	in((struct segment){ .flags = SYN, .seq = 666 });
	/* The guest says where it is. */
	out((struct segment){ .flags = ACK, .seq = 7001, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500011 }).ack,
		7011);
	in((struct segment){ .flags = SYN | ACK, .seq = 666, .ack = 3 });
	in((struct segment){ .flags = RST, .seq = 0x66666666 });
	now += 1000 * SECOND;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500011 }).ack,
		7011);
}

static void ports_may_be_used_again(void **state)
{
	open_passively(1000, 7000, 500000);
	/* The client's again, with and without being told. */
	in((struct segment){ .flags = SYN, .seq = 2000 });
	told(SYN | ACK, 600000);
	out((struct segment){ .flags = SYN | ACK, .seq = 9000, .ack = 2001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 2001, .ack = 600001 }).ack,
		9001);
	in((struct segment){ .flags = SYN, .seq = 3000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 11000, .ack = 3001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 3001, .ack = 700001 }).ack,
		11001);
	/* The guest's. */
	told(SYN, 800000);
	out((struct segment){ .flags = SYN, .seq = 13000 });
	assert_int_equal(
		in((struct segment){ .flags = SYN | ACK, .seq = 1, .ack = 800001 }).ack,
		13001);
	/* After a promotion guest and client count the same. */
	ncmp_rewriter_promote(rewriter, now);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 13001, .ack = 2 }).seq,
		800001);
	in((struct segment){ .flags = SYN, .seq = 5000 });
	assert_int_equal(
		out((struct segment){ .flags = SYN | ACK, .seq = 15000, .ack = 5001 })
			.seq,
		15000);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 5001, .ack = 15001 }).ack,
		15001);
}

static void another_syn_ack_for_the_same_syn_counts(void **state)
{
	in((struct segment){ .flags = SYN, .seq = 1000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	/* The guest had forgotten the first. */
	in((struct segment){ .flags = SYN, .seq = 1000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 8000, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		8001);
}

static void a_syn_from_before_the_checkpoint_need_not_be_seen(void **state)
{
	/* It lay in the guest's ring at the cut. */
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		7001);
	/* Both guests repeat one of before the cut. */
	client_port++;
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 7001 }).ack,
		7001);
}

static void numbers_wrap(void **state)
{
	open_passively(0xffffffff, 0xfffffff0, 0x10);
	struct segment is = in((struct segment){ .flags = ACK,
						 .seq = 0,
						 .ack = 0x5,
						 .blocks = 1,
						 .block = { 0xfffffff0, 0x2f } });

	assert_int_equal(is.ack, 0xffffffe5);
	assert_int_equal(is.block[0], 0xffffffd0);
	assert_int_equal(is.block[1], 0xf);
	ncmp_rewriter_promote(rewriter, now);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 0xfffffff5, .ack = 1 }).seq,
		0x15);
	/* A RST that is in no sequence stays so. */
	assert_int_equal(
		out((struct segment){ .flags = RST | ACK, .seq = 0, .ack = 1 }).seq, 0);
}

static void a_checkpoint_makes_numbers_equal(void **state)
{
	open_passively(1000, 7000, 500000);
	assert_null(ncmp_rewriter_load(rewriter, NULL, 0, now));
	assert_int_equal(counters().connections, 0);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		500001);
}

static void checksums_stay_as_right_as_they_were(void **state)
{
	for (guint round = 0; round < 400; round++) {
		struct segment segment = { .flags = ACK,
					   .seq = 1001,
					   .ack = g_random_int(),
					   .blocks = 1 + round % 3,
					   .len = g_random_int() % 1400 };

		nops = round % 2;
		for (guint i = 0; i < 6; i++)
			segment.block[i] = g_random_int();
		if (!(round % 10)) {
			client_port++;
			open_passively(1000, g_random_int(), g_random_int());
		}
		/* read_back() has judged. */
		in(segment);

		/* One that is wrong stays wrong by as much. */
		guint16 wrong = 0x1234;

		make(&segment, FALSE);
		tcp()[16] ^= (guint8)(wrong >> 8);
		tcp()[17] ^= (guint8)wrong;
		show_in();
		assert_false(fake_tcp_checksum_is_right(
			frame + ip_at, (gsize)(tcp() - frame - ip_at) +
					       (tcp()[12] >> 4) * 4u + segment.len));
	}
}

static void partial_checksums_stay_as_they_are(void **state)
{
	partial = TRUE;
	open_passively(1000, 7000, 500000);
	assert_int_equal(
		in((struct segment){
			   .flags = ACK, .seq = 1001, .ack = 500101, .len = 60000 })
			.ack,
		7101);
}

static void large_and_tagged_and_ipv6_ones_are_translated(void **state)
{
	for (guint round = 0; round < 4; round++) {
		ipv6 = round & 1;
		vlan = round & 2 ? 100 : 0;
		open_passively(1000, 7000, 500000);
		assert_int_equal(in((struct segment){ .flags = ACK,
						      .seq = 1001,
						      .ack = 500101,
						      .len = 64000 })
					 .ack,
				 7101);
	}
	assert_int_equal(counters().connections, 4);
	/* On another card, or in another VLAN, it is another connection. */
	vlan = 101;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500101 }).ack,
		500101);
}

static void what_is_no_whole_tcp_passes(void **state)
{
	struct segment ack = { .flags = ACK, .seq = 1001, .ack = 500101, .len = 100 };

	open_passively(1000, 7000, 500000);
	/* A first fragment. */
	make(&ack, FALSE);
	frame[ip_at + 6] = 0x20;
	assert_int_equal(show_in(), NCMP_REWRITE_SAME);
	/* UDP. */
	make(&ack, FALSE);
	frame[ip_at + 9] = 17;
	assert_int_equal(show_in(), NCMP_REWRITE_SAME);
	/* Any prefix. */
	make(&ack, FALSE);
	for (gsize len = 0; len < frame_len; len++) {
		g_autofree guint8 *exact = g_memdup2(frame, len ? len : 1);

		assert_int_equal(
			ncmp_rewriter_in(rewriter, CARD, exact, len, FALSE, now),
			NCMP_REWRITE_SAME);
		assert_false(ncmp_rewriter_out(rewriter, CARD, exact, len, FALSE, now));
	}
}

static void errors_quote_what_the_guest_sent(void **state)
{
	for (ipv6 = 0; ipv6 < 2; ipv6++) {
		struct segment sent = { .flags = ACK, .seq = 500101, .ack = 1001 };
		struct fake_packet from = {
			.ipv6 = ipv6, .host = 9, .peer = 1, .data = data
		};
		gsize ip = ipv6 ? 40 : 20;
		struct ncmp_packet packet;
		guint8 quote[4 + 40 + 8];
		guint32 seq;

		open_passively(1000, 7000, 500000);
		make(&sent, TRUE);
		memset(quote, 0, 4);
		memcpy(quote + 4, frame + ip_at, ip + 8);
		from.data = quote;
		from.len = 4 + ip + 8;
		gsize len = fake_icmp(&from, ipv6 ? 2 : 3, packet_bytes);

		frame_len = fake_frame(packet_bytes, len, fake_ethertype(&from), 0, 60,
				       0, frame);
		assert_int_equal(show_in(), NCMP_REWRITE_CHANGED);
		ncmp_packet_parse_frame(&packet, frame, frame_len, CARD);
		memcpy(&seq, packet.bytes + packet.transport + 8 + ip + 4, 4);
		assert_int_equal(GUINT32_FROM_BE(seq), 7101);
		assert_int_equal(ncmp_checksum_fold(ncmp_checksum_add(
					 0, packet.bytes + packet.transport,
					 packet.len - packet.transport)),
				 0);
		/* Cut short, it passes. */
		for (gsize i = 0; i < frame_len; i++) {
			g_autofree guint8 *exact = g_memdup2(frame, i ? i : 1);

			assert_int_equal(
				ncmp_rewriter_in(rewriter, CARD, exact, i, FALSE, now),
				NCMP_REWRITE_SAME);
		}
	}
}

static void what_is_over_is_kept_for_late_segments(void **state)
{
	open_passively(1000, 7000, 500000);
	in((struct segment){ .flags = ACK | FIN, .seq = 1001, .ack = 500001 });
	out((struct segment){ .flags = ACK, .seq = 7001, .ack = 1002 });
	out((struct segment){ .flags = ACK | FIN, .seq = 7001, .ack = 1002 });
	in((struct segment){ .flags = ACK | FIN, .seq = 1001, .ack = 500001 });
	now += 119 * SECOND;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1002, .ack = 500002 }).ack,
		7002);
	now += 119 * SECOND;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1002, .ack = 500002 }).ack,
		7002);
	now += 121 * SECOND;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1002, .ack = 500002 }).ack,
		500002);
	assert_int_equal(counters().connections, 0);
	assert_int_equal(counters().forgotten, 0);

	/* Reset by either. */
	for (guint guests = 0; guests < 2; guests++) {
		open_passively(1000, 7000, 500000);
		if (guests)
			out((struct segment){ .flags = RST, .seq = 7001 });
		else
			in((struct segment){ .flags = RST, .seq = 1001 });
		now += 121 * SECOND;
		in((struct segment){ .flags = ACK, .seq = 1, .ack = 1 });
		assert_int_equal(counters().connections, 0);
	}
}

static void at_the_limit_what_matters_least_is_given_up(void **state)
{
	ncmp_rewriter_free(rewriter);
	rewriter = ncmp_rewriter_new(100, 2);
	open_passively(1000, 7000, 500000);
	/* A flood. */
	for (guint i = 0; i < 1000; i++) {
		client_port++;
		in((struct segment){ .flags = SYN, .seq = i });
		out((struct segment){ .flags = SYN | ACK, .seq = i, .ack = i + 1 });
		told(SYN | ACK, i * 77);
	}
	assert_int_equal(counters().connections, 100);
	assert_int_equal(counters().forgotten, 901);
	client_port = 40000;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		7001);
	/* Only when all are open are they given up. */
	for (guint i = 0; i < 100; i++) {
		client_port++;
		open_passively(1000, 7000, 500000);
	}
	client_port = 40000;
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		500001);
	assert_int_equal(counters().connections, 100);
}

static void a_promoted_guest_ends_up_with_nothing_to_translate(void **state)
{
	assert_false(ncmp_rewriter_is_idle(rewriter));
	open_passively(1000, 7000, 500000);
	ncmp_rewriter_promote(rewriter, now);
	assert_false(ncmp_rewriter_is_idle(rewriter));
	now += 61 * SECOND;
	/* Strangers need nothing by then. */
	client_port++;
	in((struct segment){ .flags = SYN, .seq = 1000 });
	assert_int_equal(
		out((struct segment){
			    .flags = SYN | ACK, .seq = 7000, .ack = 1001, .tsval = 5 })
			.tsval,
		5);
	client_port++;
	assert_int_equal(
		out((struct segment){
			    .flags = ACK, .seq = 7000, .ack = 1001, .tsval = 5 })
			.tsval,
		5);
	assert_int_equal(counters().connections, 1);
	assert_false(ncmp_rewriter_is_idle(rewriter));
	client_port -= 2;
	out((struct segment){ .flags = RST, .seq = 7001 });
	now += 121 * SECOND;
	out((struct segment){ .flags = ACK, .seq = 7001 });
	assert_true(ncmp_rewriter_is_idle(rewriter));
}

/* RFC 7323, 5.3, R1: what a client does with a segment. */
struct paws {
	gboolean any;
	guint32 recent;
};

static void client_accepts(struct paws *client, guint32 tsval)
{
	if (client->any && (gint32)(tsval - client->recent) < 0)
		fail_msg("%u is before %u: dropped", tsval, client->recent);
	client->any = TRUE;
	client->recent = tsval;
}

/* The guest promoted has a clock `skew` ticks ahead of the primary's; `echoed` is how
 * far behind what the client has seen its last echo is, -1: it echoed none in this
 * epoch. */
static void promote_with_clocks(gint32 skew, int echoed, guint32 start)
{
	struct paws client = { 0 };
	struct segment is;

	tear_down(NULL);
	set_up(NULL);
	client_accepts(&client, start);
	if (echoed >= 0)
		assert_int_equal(
			in((struct segment){ .flags = ACK,
					     .seq = 1,
					     .ack = 1,
					     .tsval = 9,
					     .tsecr = start - (guint32)echoed })
				.tsecr,
			start - (guint32)echoed);
	ncmp_rewriter_promote(rewriter, now);
	for (guint32 tick = 0; tick < 5; tick++) {
		guint32 own = start + (guint32)skew + tick * 10 + 1;

		is = out((struct segment){
			.flags = ACK, .seq = 1, .ack = 1, .tsval = own });
		client_accepts(&client, is.tsval);
		/* The guest measures what passed between. */
		is = in((struct segment){ .flags = ACK,
					  .seq = 1,
					  .ack = 1,
					  .tsval = 9,
					  .tsecr = is.tsval });
		assert_int_equal(is.tsecr, own);
		/* What it echoes late is the primary's. */
		is = in((struct segment){
			.flags = ACK, .seq = 1, .ack = 1, .tsval = 9, .tsecr = start });
		assert_int_equal(is.tsecr, start);
		now += 10 * MS;
	}
}

static void after_a_promotion_timestamps_never_go_back(void **state)
{
	static const guint32 starts[] = { 1000000, 0xffffff00, 0x7fffff00, 5,
					  0xffff8000 };

	for (guint i = 0; i < G_N_ELEMENTS(starts); i++) {
		for (int echoed = -1; echoed < 2000; echoed += 667) {
			promote_with_clocks(0, echoed, starts[i]);
			promote_with_clocks(-500, echoed, starts[i]);
			promote_with_clocks(-25000, echoed, starts[i]);
			promote_with_clocks(+25000, echoed, starts[i]);
		}
		/* Far behind: an echo tells. */
		promote_with_clocks(-2000000, 0, starts[i]);
		promote_with_clocks(-2000000, 20000, starts[i]);
	}
}

static void connections_born_after_the_promotion_keep_their_timestamps(void **state)
{
	ncmp_rewriter_promote(rewriter, now);
	in((struct segment){ .flags = SYN, .seq = 1, .tsval = 5 });
	assert_int_equal(out((struct segment){ .flags = SYN | ACK,
					       .seq = 7,
					       .ack = 2,
					       .tsval = 100,
					       .tsecr = 5 })
				 .tsval,
			 100);
	assert_int_equal(
		in((struct segment){
			   .flags = ACK, .seq = 2, .ack = 8, .tsval = 6, .tsecr = 100 })
			.tsecr,
		100);
	client_port++;
	assert_int_equal(
		out((struct segment){ .flags = SYN, .seq = 7, .tsval = 100 }).tsval,
		100);
	assert_int_equal(in((struct segment){ .flags = SYN | ACK,
					      .seq = 2,
					      .ack = 8,
					      .tsval = 6,
					      .tsecr = 100 })
				 .tsecr,
			 100);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 8, .ack = 3, .tsval = 101 })
			.tsval,
		101);
	assert_int_equal(counters().translated_out, 0);
}

/* Linux can count microseconds. */
static void fast_timestamps_are_raised_by_more(void **state)
{
	guint32 ts = 1000000, raised;

	for (guint i = 0; i < 3; i++, now += 50 * MS, ts += 50000)
		out((struct segment){ .flags = ACK, .seq = 1, .ack = 1, .tsval = ts });
	ncmp_rewriter_promote(rewriter, now);
	raised = out((struct segment){ .flags = ACK, .seq = 1, .ack = 1, .tsval = ts })
			 .tsval -
		 ts;
	assert_in_range(raised, 2000000, 1u << 30);
	/* One that was not measured, as that one. */
	client_port++;
	raised = out((struct segment){ .flags = ACK, .seq = 1, .ack = 1, .tsval = ts })
			 .tsval -
		 ts;
	assert_in_range(raised, 2000000, 1u << 30);
}

static void an_attackers_echo_raises_little(void **state)
{
	guint32 raised;

	in((struct segment){
		.flags = ACK, .seq = 1, .ack = 1, .tsval = 9, .tsecr = 1000 });
	in((struct segment){
		.flags = ACK, .seq = 666, .ack = 1, .tsval = 9, .tsecr = 0x7fffff00 });
	ncmp_rewriter_promote(rewriter, now);
	raised =
		out((struct segment){ .flags = ACK, .seq = 1, .ack = 1, .tsval = 1001 })
			.tsval -
		1001;
	assert_in_range(raised, 1, 1u << 25);
}

static GByteArray *saved(void)
{
	GByteArray *bytes = g_byte_array_new();

	ncmp_rewriter_save(rewriter, bytes);
	return bytes;
}

static void translations_outlive_the_next_failover(void **state)
{
	g_autoptr(GByteArray) bytes = NULL;
	g_autoptr(GByteArray) again = NULL;
	struct segment is;

	open_passively(1000, 7000, 500000);
	ncmp_rewriter_promote(rewriter, now);
	is = out((struct segment){
		.flags = ACK, .seq = 7001, .ack = 1001, .tsval = 100, .tsecr = 5 });
	assert_int_equal(is.seq, 500001);
	guint32 seen = is.tsval;

	/* One whose client has not answered yet. */
	client_port++;
	in((struct segment){ .flags = SYN, .seq = 1 });
	client_port++;
	in((struct segment){ .flags = ACK, .seq = 1, .ack = 2 });
	client_port -= 2;
	bytes = saved();
	/* Born after the promotion: not among them. */
	assert_int_equal(bytes->len, 16 + 72);

	ncmp_rewriter_free(rewriter);
	rewriter = ncmp_rewriter_new(0, 3);
	assert_null(ncmp_rewriter_load(rewriter, bytes->data, bytes->len, now));
	/* At once, in both directions. */
	is = out((struct segment){
		.flags = ACK, .seq = 7002, .ack = 1001, .tsval = 103, .tsecr = 5 });
	assert_int_equal(is.seq, 500002);
	assert_int_equal(is.tsval, seen + 3);
	is = in((struct segment){ .flags = ACK,
				  .seq = 1001,
				  .ack = 500002,
				  .tsval = 7,
				  .tsecr = seen + 2 });
	assert_int_equal(is.ack, 7002);
	assert_int_equal(is.tsecr, 102);
	/* What is born here is learned only. */
	client_port += 10;
	open_passively(1000, 17000, 900000);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 17001, .ack = 1001 }).seq,
		17001);
	again = g_byte_array_new();
	ncmp_rewriter_save(rewriter, again);
	assert_int_equal(again->len, 0);

	ncmp_rewriter_promote(rewriter, now);
	assert_int_equal(
		out((struct segment){ .flags = ACK, .seq = 17001, .ack = 1001 }).seq,
		900001);
	client_port -= 10;
	/* The second guest's clock is behind the first's. */
	is = out((struct segment){
		.flags = ACK, .seq = 7002, .ack = 1001, .tsval = 90, .tsecr = 5 });
	assert_int_equal(is.seq, 500002);
	assert_true((gint32)(is.tsval - (seen + 3)) > 0);
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500002,
					      .tsval = 7,
					      .tsecr = is.tsval })
				 .tsecr,
			 90);
	assert_int_equal(in((struct segment){ .flags = ACK,
					      .seq = 1001,
					      .ack = 500002,
					      .tsval = 7,
					      .tsecr = seen + 3 })
				 .tsecr,
			 103);
	assert_non_null(ncmp_rewriter_load(rewriter, bytes->data, bytes->len, now));
}

/* The guest has answered, the client not yet, when the guest is promoted and copied. */
static void connections_that_open_during_failovers_open(void **state)
{
	g_autoptr(GByteArray) bytes = NULL;

	in((struct segment){ .flags = SYN, .seq = 1000 });
	out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 });
	ncmp_rewriter_promote(rewriter, now);
	bytes = saved();
	assert_int_equal(bytes->len, 16 + 72);
	for (guint i = 0; i < 2; i++) {
		assert_int_equal(
			in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 })
				.ack,
			7001);
		assert_int_equal(
			out((struct segment){ .flags = ACK, .seq = 7001, .ack = 1001 })
				.seq,
			500001);
		ncmp_rewriter_free(rewriter);
		rewriter = ncmp_rewriter_new(0, 3);
		assert_null(ncmp_rewriter_load(rewriter, bytes->data, bytes->len, now));
	}
	/* Its SYN-ACK of the first guest was held, and never left: this one's does, as
	 * if it were that. */
	client_port++;
	in((struct segment){ .flags = SYN, .seq = 1000 });
	told(SYN | ACK, 500000);
	ncmp_rewriter_promote(rewriter, now);
	assert_int_equal(
		out((struct segment){ .flags = SYN | ACK, .seq = 7000, .ack = 1001 })
			.seq,
		500000);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 500001 }).ack,
		7001);
}

/* The guest promoted first raised timestamps after the checkpoint that its secondary
 * has, or will: from there the second is raised. */
static void timestamps_raised_after_the_checkpoint_stay_behind(void **state)
{
	for (guint known = 0; known < 2; known++) {
		g_autoptr(GByteArray) bytes = NULL;
		guint32 seen, is;

		tear_down(NULL);
		set_up(NULL);
		if (known)
			open_passively(1000, 7000, 500000);
		ncmp_rewriter_promote(rewriter, now);
		bytes = saved();
		assert_int_equal(bytes->len, known ? 16 + 72 : 16);
		seen = out((struct segment){ .flags = ACK, .seq = 7001, .tsval = 1000 })
			       .tsval;
		assert_in_range(seen, 2000, 1u << 30);
		ncmp_rewriter_free(rewriter);
		rewriter = ncmp_rewriter_new(0, 3);
		assert_null(ncmp_rewriter_load(rewriter, bytes->data, bytes->len, now));
		out((struct segment){ .flags = ACK, .seq = 7001, .tsval = 990 });
		ncmp_rewriter_promote(rewriter, now);
		is = out((struct segment){ .flags = ACK, .seq = 7001, .tsval = 995 })
			     .tsval;
		assert_true(is > seen);
	}
}

static void bad_translations_change_nothing(void **state)
{
	g_autoptr(GByteArray) good = NULL;
	struct ncmp_rewriter_counters before;
	static const struct {
		gsize at;
		guint8 value;
		const char *why;
	} rows[] = {
		{ 0, 2, "translations of another version" },
		{ 2, 71, "translations of another size" },
		{ 4, 1, "translations of another number than said" },
		{ 7, 1, "more translations than are kept" },
		{ 12, 1, "padding that is not zero" },
		{ 16 + 4, 1, "an address longer than its family's" },
		{ 16 + 16 + 15, 1, "an address longer than its family's" },
		{ 16 + 37, 0x10, "a VLAN that is none" },
		{ 16 + 39, 0x10, "a VLAN that is none" },
		{ 16 + 40, 5, "a connection of no known family" },
		{ 16 + 42, 1, "padding that is not zero" },
		{ 16 + 45, 1, "a connection with unknown flags" },
		{ 16 + 44, 0x2e, "a connection with a number that it does not have" },
	};

	for (guint i = 0; i < 2; i++, client_port++)
		open_passively(1000 + i, 7000 + i, 500000);
	ncmp_rewriter_promote(rewriter, now);
	good = saved();
	assert_int_equal(good->len, 16 + 2 * 72);
	ncmp_rewriter_free(rewriter);
	rewriter = ncmp_rewriter_new(0, 3);
	open_passively(1000, 7000, 600000);
	before = counters();
	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		guint8 kept = good->data[rows[i].at];
		const char *why;

		good->data[rows[i].at] = rows[i].value;
		why = ncmp_rewriter_load(rewriter, good->data, good->len, now);
		assert_non_null(why);
		assert_string_equal(why, rows[i].why);
		good->data[rows[i].at] = kept;
	}
	for (gsize len = 1; len < good->len; len++) {
		g_autofree guint8 *exact = g_memdup2(good->data, len);

		assert_non_null(ncmp_rewriter_load(rewriter, exact, len, now));
	}
	memcpy(good->data + 16 + 72, good->data + 16, 72);
	assert_string_equal(ncmp_rewriter_load(rewriter, good->data, good->len, now),
			    "a connection twice");
	assert_int_equal(counters().connections, before.connections);
	assert_int_equal(
		in((struct segment){ .flags = ACK, .seq = 1001, .ack = 600001 }).ack,
		7001);
}

static void a_bad_birth_is_refused(void **state)
{
	struct segment syn = { .flags = SYN, .seq = 5 };
	struct wire_rewrite_birth birth;

	make(&syn, TRUE);
	assert_true(ncmp_rewriter_birth(CARD, frame, frame_len, &birth));
	birth.key.family = 7;
	assert_non_null(ncmp_rewriter_learn(rewriter, &birth, now));
	assert_int_equal(counters().connections, 0);
	syn.flags = ACK;
	make(&syn, TRUE);
	assert_false(ncmp_rewriter_birth(CARD, frame, frame_len, &birth));
}

/* Figures, and a bound that only a blunder exceeds. */
static void it_costs_little(void **state)
{
	enum { ROUNDS = 200000, CONNECTIONS = 2000 };
	g_autofree guint8 *frames = g_malloc0(CONNECTIONS * 128);
	struct segment ack = {
		.flags = ACK, .seq = 1001, .ack = 500001, .tsval = 7, .tsecr = 8
	};
	guint64 start, known, unknown;

	for (guint i = 0; i < CONNECTIONS; i++, client_port++) {
		open_passively(1000, 7000, 500000);
		make(&ack, FALSE);
		memcpy(frames + i * 128, frame, frame_len);
	}
	start = base_clock_monotonic_ns();
	for (guint i = 0; i < ROUNDS; i++)
		ncmp_rewriter_in(rewriter, CARD, frames + i % CONNECTIONS * 128,
				 frame_len, FALSE, now);
	known = (base_clock_monotonic_ns() - start) / ROUNDS;
	ack.tsval = ack.tsecr = 0;
	make(&ack, FALSE);
	start = base_clock_monotonic_ns();
	for (guint i = 0; i < ROUNDS; i++)
		ncmp_rewriter_in(rewriter, CARD, frame, frame_len, FALSE, now);
	unknown = (base_clock_monotonic_ns() - start) / ROUNDS;
	printf("# ns for a frame: %u translated, %u of no known connection\n",
	       (guint)known, (guint)unknown);
	assert_in_range(known, 0, 20000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_clients_connection_is_translated_from_its_first_ack_on),
		TEST(its_first_ack_may_come_with_data_or_fin),
		TEST(what_is_told_counts_more_than_what_is_acknowledged),
		TEST(a_made_up_ack_opens_nothing_where_it_is_known),
		TEST(a_connection_of_the_guests_is_translated_from_the_syn_ack_on),
		TEST(a_refused_connection_of_the_guests_is_refused),
		TEST(both_ends_may_begin_at_once),
		TEST(echoes_in_a_handshake_are_the_guests_own),
		TEST(an_ack_of_what_the_guest_has_yet_to_send_is_held),
		TEST(what_nobody_answers_is_held_once_and_seldom),
		TEST(an_attackers_syn_changes_nothing),
		TEST(ports_may_be_used_again),
		TEST(another_syn_ack_for_the_same_syn_counts),
		TEST(a_syn_from_before_the_checkpoint_need_not_be_seen),
		TEST(numbers_wrap),
		TEST(a_checkpoint_makes_numbers_equal),
		TEST(checksums_stay_as_right_as_they_were),
		TEST(partial_checksums_stay_as_they_are),
		TEST(large_and_tagged_and_ipv6_ones_are_translated),
		TEST(what_is_no_whole_tcp_passes),
		TEST(errors_quote_what_the_guest_sent),
		TEST(what_is_over_is_kept_for_late_segments),
		TEST(at_the_limit_what_matters_least_is_given_up),
		TEST(a_promoted_guest_ends_up_with_nothing_to_translate),
		TEST(after_a_promotion_timestamps_never_go_back),
		TEST(connections_born_after_the_promotion_keep_their_timestamps),
		TEST(fast_timestamps_are_raised_by_more),
		TEST(an_attackers_echo_raises_little),
		TEST(translations_outlive_the_next_failover),
		TEST(connections_that_open_during_failovers_open),
		TEST(timestamps_raised_after_the_checkpoint_stay_behind),
		TEST(bad_translations_change_nothing),
		TEST(a_bad_birth_is_refused),
		TEST(it_costs_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
