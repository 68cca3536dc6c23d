/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two guests' TCP, compared: what goes out, what waits, what diverges. The primary's
 * first sequence number is 1000, the secondary's 0xfffffff0, so that its numbers wrap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/unit/fake_compare.h"

#define P_ISN 1000u
#define S_ISN 0xfffffff0u
#define CLIENT 5000u /* what the client is acknowledged at first */
#define ACK NCMP_TCP_ACK
#define FIN NCMP_TCP_FIN
#define SYN NCMP_TCP_SYN
#define RST NCMP_TCP_RST
#define URG NCMP_TCP_URG

static struct fake_compare fake;

static struct fake_packet segment(guint32 isn, guint32 at, const char *text,
				  guint8 flags)
{
	return (struct fake_packet){ .source_port = 80,
				     .target_port = 40000,
				     .seq = isn + at,
				     .ack = CLIENT,
				     .flags = flags,
				     .window = 100,
				     .data = text,
				     .len = strlen(text) };
}

/* Data begins at position 1, behind the SYN. */
static guint p(guint32 at, const char *text, guint8 flags)
{
	struct fake_packet packet = segment(P_ISN, at, text, flags);

	return fake_primary_tcp(&fake, &packet);
}

static void s(guint32 at, const char *text, guint8 flags)
{
	struct fake_packet packet = segment(S_ISN, at, text, flags);

	fake_secondary_tcp(&fake, &packet);
}

static guint p_ack(guint32 at, const char *text, guint32 ack)
{
	struct fake_packet packet = segment(P_ISN, at, text, ACK);

	packet.ack = ack;
	return fake_primary_tcp(&fake, &packet);
}

static void s_ack(guint32 at, const char *text, guint32 ack)
{
	struct fake_packet packet = segment(S_ISN, at, text, ACK);

	packet.ack = ack;
	fake_secondary_tcp(&fake, &packet);
}

#define assert_out(id) assert_int_equal(fake_verdict(&fake, id), FAKE_OUT)
#define assert_held(id) assert_int_equal(fake_verdict(&fake, id), FAKE_HELD)

static void assert_asked(enum ncmp_cause cause)
{
	assert_int_equal(fake.asked, 1);
	assert_string_equal(ncmp_cause_name(fake.cause), ncmp_cause_name(cause));
}

/* A connection that was born in this epoch. */
static void begin(void)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	id = p(0, "", SYN | ACK);
	assert_held(id);
	s(0, "", SYN | ACK);
	assert_out(id);
}

static void end(guint asked)
{
	assert_int_equal(fake.asked, asked);
	fake_compare_end(&fake);
}

static void a_syn_goes_when_the_secondary_sent_its_own(void **state)
{
	begin();
	/* Sent once more. */
	assert_out(p(0, "", SYN | ACK));
	s(0, "", SYN | ACK);
	end(0);
	/* The secondary was first. */
	fake_compare_begin(&fake, NULL);
	s(0, "", SYN);
	assert_out(p(0, "", SYN));
	end(0);
}

static void a_syn_and_a_syn_with_ack_differ(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	s(0, "", SYN | ACK);
	id = p(0, "", SYN);
	assert_held(id);
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);
}

static void data_in_a_syn_is_compared(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	id = p(0, "GET /", SYN);
	s(0, "GE", SYN);
	assert_held(id);
	s(3, "T /", ACK);
	assert_out(id);
	end(0);
	fake_compare_begin(&fake, NULL);
	s(0, "GET ?", SYN);
	id = p(0, "GET /", SYN);
	assert_held(id);
	assert_asked(NCMP_CAUSE_PAYLOAD);
	assert_int_equal(fake.position, 5);
	end(1);
}

static void data_waits_for_the_secondary(void **state)
{
	guint id;

	begin();
	id = p(1, "hello", ACK);
	assert_held(id);
	s(1, "hello", ACK);
	assert_out(id);
	end(0);
}

static void data_goes_at_once_where_the_secondary_is_ahead(void **state)
{
	begin();
	s(1, "hello world", ACK);
	assert_out(p(1, "hello", ACK));
	assert_out(p(6, " world", ACK));
	/* Of what matched nothing is kept. */
	assert_in_range(fake_counters(&fake).memory, 1, 2048);
	end(0);
}

static void segments_need_not_have_the_same_bounds(void **state)
{
	guint a, b;

	begin();
	a = p(1, "abcdef", ACK);
	b = p(7, "ghij", ACK);
	s(1, "abcd", ACK);
	assert_held(a);
	s(5, "efgh", ACK);
	assert_out(a);
	assert_held(b);
	s(9, "ijkl", ACK);
	assert_out(b);
	assert_out(p(11, "kl", ACK));
	end(0);
}

static void the_secondary_may_send_in_any_order(void **state)
{
	guint id;

	begin();
	id = p(1, "abcdefghi", ACK);
	s(7, "ghi", ACK);
	s(3, "cdefg", ACK);
	assert_held(id);
	s(1, "abcd", ACK);
	assert_out(id);
	end(0);
}

static void other_bytes_diverge_before_they_leave(void **state)
{
	guint id;

	begin();
	s(1, "abcd", ACK);
	id = p(1, "abXd", ACK);
	assert_held(id);
	assert_asked(NCMP_CAUSE_PAYLOAD);
	assert_int_equal(fake.position, 3);
	/* Nothing of it goes any more, not even what is equal. */
	s(5, "efgh", ACK);
	assert_held(p(5, "efgh", ACK));
	/* Asked for once. */
	assert_int_equal(fake.asked, 1);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	end(1);
}

static void other_bytes_diverge_when_the_primary_is_ahead(void **state)
{
	guint id;

	begin();
	id = p(1, "abcd", ACK);
	s(1, "ab", ACK);
	assert_int_equal(fake.asked, 0);
	s(3, "cX", ACK);
	assert_held(id);
	assert_asked(NCMP_CAUSE_PAYLOAD);
	end(1);
}

static void ethernet_padding_is_no_data(void **state)
{
	guint id;

	begin();
	id = p(1, "a", ACK);
	/* One byte, and padding that is not zero. */
	s(1, "a", ACK);
	assert_out(id);
	s(2, "b", ACK);
	assert_out(p(2, "b", ACK));
	end(0);
}

static void repetitions_pass_at_once(void **state)
{
	guint waits;

	begin();
	s(1, "abcdef", ACK);
	p(1, "abcdef", ACK);
	assert_out(p(1, "abc", ACK));
	assert_out(p(3, "cdef", ACK));
	/* Also while something new waits. */
	waits = p(7, "gh", ACK);
	assert_out(p(1, "abcdef", ACK));
	/* Half old, half new. */
	assert_held(p(5, "efgh", ACK));
	s(5, "efgh", ACK);
	assert_out(waits);
	end(0);
}

static void keep_alives_and_window_probes_pass(void **state)
{
	begin();
	s(1, "abc", ACK);
	p(1, "abc", ACK);
	assert_out(p(3, "", ACK));
	assert_out(p(3, "\x01", ACK)); /* one byte of nothing, below what was sent */
	/* A probe of the window with the next byte is data. */
	assert_held(p(4, "d", ACK));
	end(0);
}

static void a_fin_waits_for_the_secondary_s(void **state)
{
	guint fin;

	begin();
	fin = p(1, "bye", FIN | ACK);
	s(1, "bye", ACK);
	assert_held(fin);
	s(4, "", FIN | ACK);
	assert_out(fin);
	assert_out(p(4, "", FIN | ACK));
	end(0);
}

static void an_early_fin_diverges(void **state)
{
	guint id;

	begin();
	s(1, "abcdef", ACK);
	id = p(1, "abc", FIN | ACK);
	assert_held(id);
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);

	begin();
	id = p(1, "abc", FIN | ACK);
	s(1, "abcdef", ACK);
	assert_held(id);
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);
}

static void data_behind_the_secondary_s_fin_diverges(void **state)
{
	guint id;

	begin();
	s(1, "abc", FIN | ACK);
	id = p(1, "abcdef", ACK);
	assert_held(id);
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);

	begin();
	s(1, "abcdef", ACK);
	assert_out(p(1, "abcdef", ACK));
	s(4, "", FIN | ACK);
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);
}

static void an_end_before_what_was_sent_in_an_earlier_epoch_diverges(void **state)
{
	struct fake_packet packet = segment(P_ISN, 4, "", FIN | ACK);

	for (guint round = 0; round < 2; round++) {
		begin();
		s(1, "abcdef", ACK);
		assert_out(p(1, "abcdef", ACK));
		fake_compare_turn(&fake, 2);
		if (round)
			assert_held(fake_primary_tcp(&fake, &packet));
		else
			fake_secondary_tcp(&fake, &packet);
		assert_asked(NCMP_CAUSE_FLAGS);
		end(1);
	}
}

static void a_reset_waits_for_the_secondary_s(void **state)
{
	guint id;

	begin();
	id = p(1, "", RST | ACK);
	assert_held(id);
	s(1, "", RST | ACK);
	assert_out(id);
	/* Each segment of the client is answered with one. */
	assert_out(p(1, "", RST | ACK));
	end(0);
}

static void a_reset_elsewhere_does_not_release(void **state)
{
	guint id;

	begin();
	s(1, "abc", ACK);
	p(1, "abc", ACK);
	id = p(4, "", RST | ACK);
	s(7, "", RST | ACK);
	assert_held(id);
	fake_compare_wait(&fake, 250);
	assert_held(id);
	assert_asked(NCMP_CAUSE_LATE);
	end(1);
}

static void a_closed_port_s_reset_is_matched(void **state)
{
	struct fake_packet packet = segment(0, 0, "", RST | ACK);
	guint id;

	fake_compare_begin(&fake, NULL);
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	end(0);

	/* The same where an older connection has other numbers. */
	begin();
	s(1, "", FIN | ACK);
	p(1, "", FIN | ACK);
	fake_secondary_tcp(&fake, &packet);
	assert_out(fake_primary_tcp(&fake, &packet));
	end(0);
}

static void a_lone_reset_of_the_primary_never_leaves(void **state)
{
	guint id;

	begin();
	s(1, "abc", ACK);
	id = p(1, "", RST | ACK);
	assert_held(id);
	fake_compare_wait(&fake, 1000);
	assert_held(id);
	assert_int_equal(fake.asked, 1);
	end(1);
}

static guint p_urgent(guint32 at, const char *text, guint16 urgent)
{
	struct fake_packet packet = segment(P_ISN, at, text, ACK | URG);

	packet.urgent = urgent;
	return fake_primary_tcp(&fake, &packet);
}

static void s_urgent(guint32 at, const char *text, guint16 urgent)
{
	struct fake_packet packet = segment(S_ISN, at, text, ACK | URG);

	packet.urgent = urgent;
	fake_secondary_tcp(&fake, &packet);
}

static void urgent_data_must_be_urgent_on_both_sides(void **state)
{
	guint id;

	begin();
	id = p_urgent(1, "abc", 2);
	s_urgent(1, "a", 2);
	assert_held(id);
	s_urgent(2, "bc", 1);
	assert_out(id);
	assert_out(p_urgent(1, "abc", 2));
	end(0);

	begin();
	s(1, "abc", ACK);
	assert_held(p_urgent(1, "abc", 2));
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);

	begin();
	s_urgent(1, "abc", 2);
	assert_held(p(1, "abc", ACK));
	assert_asked(NCMP_CAUSE_FLAGS);
	end(1);
}

static void an_acknowledgement_beyond_the_secondary_s_waits(void **state)
{
	guint id;

	begin();
	id = p_ack(1, "", CLIENT + 100);
	assert_held(id);
	s_ack(1, "", CLIENT + 50);
	assert_held(id);
	s_ack(1, "", CLIENT + 100);
	assert_out(id);
	end(0);
}

static void the_secondary_s_acknowledgement_never_goes_back(void **state)
{
	begin();
	s_ack(1, "", CLIENT + 100);
	s_ack(1, "", CLIENT + 50);
	assert_out(p_ack(1, "", CLIENT + 100));
	end(0);
	/* Nor does it where numbers wrap. */
	begin();
	s_ack(1, "", CLIENT + 0x7fffff00);
	s_ack(1, "", CLIENT + 0x90000000);
	s_ack(1, "", CLIENT + 0x7fffff00);
	assert_out(p_ack(1, "", CLIENT + 0x90000000));
	end(0);
}

static void a_window_update_passes(void **state)
{
	struct fake_packet packet = segment(P_ISN, 1, "", ACK);

	begin();
	packet.window = 7;
	assert_out(fake_primary_tcp(&fake, &packet));
	end(0);
}

static void the_oldest_of_several_acknowledgements_tells_progress(void **state)
{
	guint a, b, c;

	begin();
	a = p_ack(1, "", CLIENT + 100);
	b = p_ack(1, "", CLIENT + 200);
	c = p_ack(1, "", CLIENT + 300);
	s_ack(1, "", CLIENT + 150);
	assert_out(a);
	assert_int_equal(fake_verdict(&fake, b), FAKE_CHANGED);
	assert_int_equal(GUINT32_FROM_BE(*(guint32 *)(fake.changed->data + 28)),
			 CLIENT + 150);
	assert_true(fake_tcp_checksum_is_right(fake.changed->data, fake.changed->len));
	assert_held(c);
	s_ack(1, "", CLIENT + 299);
	assert_held(c);
	s_ack(1, "", CLIENT + 300);
	assert_out(c);
	end(0);
}

static void held_acknowledgements_are_few(void **state)
{
	guint first;

	begin();
	first = p_ack(1, "", CLIENT + 1);
	for (guint i = 2; i < 100; i++)
		p_ack(1, "", CLIENT + i);
	assert_int_equal(fake_verdict(&fake, first), FAKE_DROPPED);
	assert_in_range(fake_counters(&fake).held, 1, 20);
	s_ack(1, "", CLIENT + 100);
	assert_int_equal(fake_counters(&fake).held, 0);
	end(0);
}

static guint32 ack_of(const guint8 *packet, gsize ip)
{
	guint32 ack;

	memcpy(&ack, packet + ip + 8, 4);
	return GUINT32_FROM_BE(ack);
}

static void matched_data_goes_with_a_lowered_acknowledgement(void **state)
{
	guint8 sack[] = { 1,	5, 18, 0,    0,	   0x14, 0x00, 0,    0,	   0x14,
			  0x10, 0, 0,  0x20, 0x00, 0,	 0,    0x20, 0x10, 1 };
	struct fake_packet packet = segment(P_ISN, 1, "hello", ACK);

	/* The first block is a duplicate's, at an odd offset; the other is above. */
	packet.options = sack;
	packet.options_len = sizeof(sack);
	packet.ack = CLIENT + 0x100;
	for (guint round = 0; round < 2; round++) {
		guint id;

		begin();
		fake.partial = round == 1;
		id = fake_primary_tcp(&fake, &packet);
		s_ack(1, "hello", CLIENT + 10);
		assert_int_equal(fake_verdict(&fake, id), FAKE_CHANGED);
		assert_int_equal(ack_of(fake.changed->data, 20), CLIENT + 10);
		assert_true(fake_tcp_checksum_is_right(fake.changed->data,
						       fake.changed->len));
		assert_int_equal(fake.changed->len, 65);
		assert_memory_equal(fake.changed->data + 40,
				    "\x01\x05\x0a\x00\x00\x20\x00\x00\x00\x20\x10"
				    "\x01\x01\x01\x01\x01\x01\x01\x01\x01",
				    20);
		assert_memory_equal(fake.changed->data + 60, "hello", 5);
		assert_int_equal(fake_counters(&fake).acks_lowered[0], 1);
		fake.partial = FALSE;
		end(0);
	}
}

/* Of a connection that is lowered by 246 bytes. */
static guint16 window_after(guint8 *syn_options, gsize syn_options_len, guint16 window,
			    gboolean born)
{
	struct fake_packet syn = segment(P_ISN, 0, "", SYN | ACK);
	struct fake_packet packet = segment(P_ISN, 1, "hello", ACK);
	struct fake_packet theirs = segment(born ? S_ISN : P_ISN, 1, "hello", ACK);
	guint id;

	theirs.ack = CLIENT + 10;
	syn.options = syn_options;
	syn.options_len = syn_options_len;
	packet.ack = CLIENT + 256;
	packet.window = window;
	fake_compare_begin(&fake, NULL);
	if (born) {
		fake_primary_tcp(&fake, &syn);
		s(0, "", SYN | ACK);
	}
	id = fake_primary_tcp(&fake, &packet);
	fake_secondary_tcp(&fake, &theirs);
	assert_int_equal(fake_verdict(&fake, id), FAKE_CHANGED);
	assert_true(fake_tcp_checksum_is_right(fake.changed->data, fake.changed->len));
	window = (guint16)(fake.changed->data[34] << 8 | fake.changed->data[35]);
	end(0);
	return window;
}

static void a_lowered_acknowledgement_leaves_the_windows_edge_where_it_was(void **state)
{
	guint8 scale[] = { 3, 3, 7, 1 }, too_large[] = { 3, 3, 200, 1 };

	assert_int_equal(window_after(NULL, 0, 100, TRUE), 346);
	assert_int_equal(window_after(scale, sizeof(scale), 100, TRUE), 102);
	assert_int_equal(window_after(scale, sizeof(scale), 0, TRUE), 2);
	assert_int_equal(window_after(too_large, sizeof(too_large), 100, TRUE), 101);
	/* As far as it goes. */
	assert_int_equal(window_after(NULL, 0, 65500, TRUE), 65535);
	/* From before this comparator: by what it counts is not known. */
	assert_int_equal(window_after(NULL, 0, 100, FALSE), 100);
}

static void a_lone_duplicate_sack_becomes_padding(void **state)
{
	guint8 sack[] = { 1, 1, 5, 10, 0, 0, 0x14, 0x00, 0, 0, 0x14, 0x10 };
	struct fake_packet packet = segment(P_ISN, 1, "x", ACK);

	packet.options = sack;
	packet.options_len = sizeof(sack);
	packet.ack = CLIENT + 0x100;
	begin();
	s_ack(1, "x", CLIENT);
	fake_primary_tcp(&fake, &packet);
	assert_int_equal(fake.changed->len, 53);
	assert_memory_equal(fake.changed->data + 40, "\1\1\1\1\1\1\1\1\1\1\1\1", 12);
	assert_true(fake_tcp_checksum_is_right(fake.changed->data, 53));
	end(0);
}

static void a_packet_of_several_segments_is_not_changed(void **state)
{
	guint id;

	begin();
	fake.segmentable = TRUE;
	id = p_ack(1, "hello", CLIENT + 100);
	s_ack(1, "hello", CLIENT);
	assert_held(id);
	s_ack(6, "", CLIENT + 100);
	assert_out(id);
	id = p_ack(6, "world", CLIENT + 200);
	s_ack(6, "world", CLIENT + 100);
	fake_compare_wait(&fake, 250);
	assert_held(id);
	assert_asked(NCMP_CAUSE_LATE);
	end(1);
}

static void data_that_says_as_much_drops_held_acknowledgements(void **state)
{
	guint pure, data;

	begin();
	pure = p_ack(1, "", CLIENT + 100);
	data = p_ack(1, "hello", CLIENT + 100);
	s_ack(1, "hello", CLIENT + 100);
	assert_true(fake_verdict(&fake, data) == FAKE_OUT);
	assert_true(fake_verdict(&fake, pure) != FAKE_HELD);
	end(0);
}

static void acknowledgements_do_not_wait_for_data(void **state)
{
	guint data, pure;

	begin();
	data = p(1, "hello", ACK);
	s_ack(1, "", CLIENT + 100);
	pure = p_ack(6, "", CLIENT + 100);
	assert_held(data);
	assert_out(pure);
	end(0);
}

static void what_a_commit_covers_is_acknowledged(void **state)
{
	guint id;

	begin();
	id = p_ack(1, "abc", CLIENT + 500);
	assert_held(id);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	/* The secondary has it by the commit, and said nothing yet. */
	assert_out(p_ack(4, "", CLIENT + 500));
	assert_held(p_ack(4, "", CLIENT + 501));
	assert_out(p_ack(1, "abc", CLIENT + 500));
	end(0);
}

static void what_a_commit_covers_may_wrap(void **state)
{
	begin();
	p_ack(1, "a", 0x70000000);
	p_ack(2, "b", 0xe0000000);
	p_ack(3, "c", 0xfffffff0);
	p_ack(4, "d", 0x10);
	fake_compare_turn(&fake, 2);
	assert_out(p_ack(5, "", 0x10));
	assert_held(p_ack(5, "", 0x11));
	end(0);
}

static void a_stray_packet_of_the_last_connection_does_no_harm(void **state)
{
	struct fake_packet packet;
	guint id;

	begin();
	s(1, "", FIN | ACK);
	p(1, "", FIN | ACK);
	fake_compare_turn(&fake, 2);
	packet = segment(777, 0, "", SYN | ACK);
	id = fake_primary_tcp(&fake, &packet);
	/* The secondary is not so far yet. */
	packet = segment(P_ISN, 1, "", FIN | ACK);
	fake_secondary_tcp(&fake, &packet);
	packet = segment(888, 0, "", SYN | ACK);
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	end(0);
}

static void an_older_connection_has_the_same_numbers_on_both_sides(void **state)
{
	struct fake_packet packet = segment(P_ISN, 5000, "data", ACK);
	guint id;

	fake_compare_begin(&fake, NULL);
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	packet.seq += 4;
	fake_secondary_tcp(&fake, &packet);
	assert_out(fake_primary_tcp(&fake, &packet));
	end(0);
}

static void after_a_commit_the_numbers_are_the_same(void **state)
{
	struct fake_packet packet;
	guint id;

	begin();
	s(1, "abc", ACK);
	p(1, "abc", ACK);
	fake_compare_turn(&fake, 2);
	packet = segment(P_ISN, 4, "def", ACK);
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	/* And what was sent before is a repetition, for either. */
	packet = segment(P_ISN, 1, "abc", ACK);
	fake_secondary_tcp(&fake, &packet);
	assert_out(fake_primary_tcp(&fake, &packet));
	fake_compare_wait(&fake, 2000);
	end(0);
}

static void ports_are_used_again(void **state)
{
	struct fake_packet packet;
	guint id;

	begin();
	s(1, "", FIN | ACK);
	p(1, "", FIN | ACK);
	/* The primary first. */
	packet = segment(777, 0, "", SYN | ACK);
	packet.ack = 99;
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	packet.seq = 888;
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	packet = segment(777, 1, "x", ACK);
	packet.ack = 99;
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	packet.seq = 889;
	fake_secondary_tcp(&fake, &packet);
	assert_out(id);
	/* The secondary first, while the primary has not ended yet. */
	packet = segment(888, 2, "", FIN | ACK);
	packet.ack = 99;
	fake_secondary_tcp(&fake, &packet);
	packet = segment(33, 0, "", SYN | ACK);
	packet.ack = 7;
	fake_secondary_tcp(&fake, &packet);
	packet = segment(33, 1, "new", ACK);
	packet.ack = 7;
	fake_secondary_tcp(&fake, &packet);
	packet = segment(777, 2, "", FIN | ACK);
	packet.ack = 99;
	assert_out(fake_primary_tcp(&fake, &packet));
	packet = segment(44, 0, "", SYN | ACK);
	packet.ack = 7;
	assert_out(fake_primary_tcp(&fake, &packet));
	packet = segment(44, 1, "new", ACK);
	packet.ack = 7;
	assert_out(fake_primary_tcp(&fake, &packet));
	end(0);
}

static void acknowledgements_of_an_ended_connection_do_not_outlive_it(void **state)
{
	struct fake_packet packet;
	guint pure;

	begin();
	s(1, "", FIN | ACK);
	p(1, "", FIN | ACK);
	pure = p_ack(2, "", CLIENT + 1);
	assert_held(pure);
	packet = segment(888, 0, "", SYN | ACK);
	packet.ack = CLIENT - 0x1000;
	fake_secondary_tcp(&fake, &packet);
	packet.seq = 777;
	assert_out(fake_primary_tcp(&fake, &packet));
	assert_int_equal(fake_verdict(&fake, pure), FAKE_DROPPED);
	end(0);
}

static void a_late_secondary_is_a_divergence(void **state)
{
	guint id;

	begin();
	/* It was always within a millisecond. */
	for (guint i = 0; i < 100; i++) {
		id = p(1 + i, "a", ACK);
		fake.now_ns += FAKE_MS;
		s(1 + i, "a", ACK);
		assert_out(id);
	}
	id = p(101, "b", ACK);
	fake_compare_wait(&fake, 4);
	assert_int_equal(fake.asked, 0);
	fake_compare_wait(&fake, 2);
	assert_asked(NCMP_CAUSE_LATE);
	/* It may still come. */
	s(101, "b", ACK);
	assert_out(id);
	end(1);
}

static void what_only_the_secondary_sent_is_missing(void **state)
{
	begin();
	s(1, "abc", ACK);
	fake_compare_wait(&fake, 15);
	assert_int_equal(fake.asked, 0);
	fake_compare_wait(&fake, 10);
	assert_asked(NCMP_CAUSE_MISSING);
	end(1);
}

static void ipv6_is_compared_too(void **state)
{
	struct fake_packet packet = segment(P_ISN, 1, "six", ACK);
	guint id;

	packet.ipv6 = TRUE;
	fake_compare_begin(&fake, NULL);
	id = fake_primary_tcp(&fake, &packet);
	assert_held(id);
	packet.data = "sex";
	fake_secondary_tcp(&fake, &packet);
	assert_held(id);
	assert_asked(NCMP_CAUSE_PAYLOAD);
	end(1);
}

static void whole_streams_wrap(void **state)
{
	g_autofree char *data = g_malloc(60001);
	/* All the way round in the long run; the secondary's numbers wrap in any. */
	guint64 sent = 0, end_at = g_getenv("LONG") ? (guint64)5 << 30 : 16u << 20;

	memset(data, 'x', 60000);
	data[60000] = 0;
	begin();
	while (sent < end_at) {
		p((guint32)(1 + sent), data, ACK);
		s((guint32)(1 + sent), data, ACK);
		sent += 60000;
	}
	assert_int_equal(fake_counters(&fake).held, 0);
	end(0);
}

static void the_header_s_other_fields_do_not_matter(void **state)
{
	struct fake_packet packet = segment(S_ISN, 1, "same", ACK | NCMP_TCP_PSH);
	static const guint8 options[] = { 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8 };

	begin();
	packet.ip_id = 77;
	packet.ttl = 3;
	packet.window = 9999;
	packet.options = options;
	packet.options_len = sizeof(options);
	fake_secondary_tcp(&fake, &packet);
	assert_out(p(1, "same", ACK));
	end(0);
}

static void what_comes_first_goes_first(void **state)
{
	guint a, b;

	begin();
	a = p(1, "abc", ACK);
	b = p(4, "def", ACK);
	s(4, "def", ACK);
	assert_held(b);
	s(1, "abc", ACK);
	assert_out(a);
	assert_out(b);
	assert_int_equal(g_array_index(fake.order, guint32, 1), a);
	assert_int_equal(g_array_index(fake.order, guint32, 2), b);
	end(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_syn_goes_when_the_secondary_sent_its_own),
		cmocka_unit_test(a_syn_and_a_syn_with_ack_differ),
		cmocka_unit_test(data_in_a_syn_is_compared),
		cmocka_unit_test(data_waits_for_the_secondary),
		cmocka_unit_test(data_goes_at_once_where_the_secondary_is_ahead),
		cmocka_unit_test(segments_need_not_have_the_same_bounds),
		cmocka_unit_test(the_secondary_may_send_in_any_order),
		cmocka_unit_test(other_bytes_diverge_before_they_leave),
		cmocka_unit_test(other_bytes_diverge_when_the_primary_is_ahead),
		cmocka_unit_test(ethernet_padding_is_no_data),
		cmocka_unit_test(repetitions_pass_at_once),
		cmocka_unit_test(keep_alives_and_window_probes_pass),
		cmocka_unit_test(a_fin_waits_for_the_secondary_s),
		cmocka_unit_test(an_early_fin_diverges),
		cmocka_unit_test(data_behind_the_secondary_s_fin_diverges),
		cmocka_unit_test(
			an_end_before_what_was_sent_in_an_earlier_epoch_diverges),
		cmocka_unit_test(a_reset_waits_for_the_secondary_s),
		cmocka_unit_test(a_reset_elsewhere_does_not_release),
		cmocka_unit_test(a_closed_port_s_reset_is_matched),
		cmocka_unit_test(a_lone_reset_of_the_primary_never_leaves),
		cmocka_unit_test(urgent_data_must_be_urgent_on_both_sides),
		cmocka_unit_test(an_acknowledgement_beyond_the_secondary_s_waits),
		cmocka_unit_test(the_secondary_s_acknowledgement_never_goes_back),
		cmocka_unit_test(a_window_update_passes),
		cmocka_unit_test(the_oldest_of_several_acknowledgements_tells_progress),
		cmocka_unit_test(held_acknowledgements_are_few),
		cmocka_unit_test(matched_data_goes_with_a_lowered_acknowledgement),
		cmocka_unit_test(
			a_lowered_acknowledgement_leaves_the_windows_edge_where_it_was),
		cmocka_unit_test(a_lone_duplicate_sack_becomes_padding),
		cmocka_unit_test(a_packet_of_several_segments_is_not_changed),
		cmocka_unit_test(data_that_says_as_much_drops_held_acknowledgements),
		cmocka_unit_test(acknowledgements_do_not_wait_for_data),
		cmocka_unit_test(what_a_commit_covers_is_acknowledged),
		cmocka_unit_test(
			an_older_connection_has_the_same_numbers_on_both_sides),
		cmocka_unit_test(what_a_commit_covers_may_wrap),
		cmocka_unit_test(a_stray_packet_of_the_last_connection_does_no_harm),
		cmocka_unit_test(after_a_commit_the_numbers_are_the_same),
		cmocka_unit_test(ports_are_used_again),
		cmocka_unit_test(
			acknowledgements_of_an_ended_connection_do_not_outlive_it),
		cmocka_unit_test(a_late_secondary_is_a_divergence),
		cmocka_unit_test(what_only_the_secondary_sent_is_missing),
		cmocka_unit_test(ipv6_is_compared_too),
		cmocka_unit_test(whole_streams_wrap),
		cmocka_unit_test(the_header_s_other_fields_do_not_matter),
		cmocka_unit_test(what_comes_first_goes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
