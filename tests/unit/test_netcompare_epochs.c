/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Markers, commits, gates, bounds: when held packets go, and when never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/unit/fake_compare.h"

static struct fake_compare fake;

#define assert_out(id) assert_int_equal(fake_verdict(&fake, id), FAKE_OUT)
#define assert_held(id) assert_int_equal(fake_verdict(&fake, id), FAKE_HELD)

static struct fake_packet udp(const char *text)
{
	return (struct fake_packet){
		.source_port = 53, .target_port = 1, .data = text, .len = strlen(text)
	};
}

static guint p(const char *text)
{
	struct fake_packet packet = udp(text);

	return fake_primary_udp(&fake, &packet);
}

static void s(const char *text)
{
	struct fake_packet packet = udp(text);

	fake_secondary_udp(&fake, &packet);
}

static struct fake_packet tcp(guint16 port, guint32 seq, const char *text)
{
	return (struct fake_packet){ .source_port = 80,
				     .target_port = port,
				     .seq = seq,
				     .ack = 1,
				     .flags = NCMP_TCP_ACK,
				     .data = text,
				     .len = strlen(text) };
}

static guint p_tcp(guint16 port, guint32 seq, const char *text)
{
	struct fake_packet packet = tcp(port, seq, text);

	return fake_primary_tcp(&fake, &packet);
}

static void s_tcp(guint16 port, guint32 seq, const char *text)
{
	struct fake_packet packet = tcp(port, seq, text);

	fake_secondary_tcp(&fake, &packet);
}

static void marker(guint64 epoch)
{
	ncmp_compare_marker(fake.compare, epoch, fake.now_ns);
}

static void commit(guint64 epoch)
{
	ncmp_compare_committed(fake.compare, epoch, fake.now_ns);
	fake.epoch = epoch;
}

static void assert_asked(enum ncmp_cause cause)
{
	assert_int_equal(fake.asked, 1);
	assert_string_equal(ncmp_cause_name(fake.cause), ncmp_cause_name(cause));
}

static void end(void)
{
	fake_compare_end(&fake);
}

static void a_commit_releases_what_is_before_its_marker(void **state)
{
	guint before, after;

	fake_compare_begin(&fake, NULL);
	before = p("before");
	marker(2);
	after = p("after");
	assert_held(before);
	commit(2);
	assert_out(before);
	assert_held(after);
	assert_int_equal(fake_counters(&fake).committed[0], 1);
	s("after");
	assert_out(after);
	end();
}

static void matches_go_on_while_a_commit_is_awaited(void **state)
{
	guint before, after;

	fake_compare_begin(&fake, NULL);
	before = p("same");
	marker(2);
	after = p("same");
	/* It is the one of epoch 1 that the secondary sent. */
	s("same");
	assert_out(before);
	assert_held(after);
	s("same");
	assert_held(after);
	commit(2);
	assert_held(after);
	end();
}

static void a_commit_without_its_marker_releases_nothing(void **state)
{
	guint early, later;

	fake_compare_begin(&fake, NULL);
	early = p("early");
	commit(2);
	assert_held(early);
	/* The secondary says the same in epoch 2: this proves nothing of epoch 1. */
	s("early");
	assert_held(early);
	later = p("later");
	s("later");
	assert_held(later);
	marker(2);
	assert_out(early);
	assert_out(later);
	/* What the secondary was ahead with is still there. */
	assert_out(p("later"));
	end();
}

static void a_lost_marker_makes_all_wait_for_the_next(void **state)
{
	guint a, b;

	fake_compare_begin(&fake, NULL);
	a = p("a");
	/* Marker 2 is lost here. */
	b = p("b");
	commit(2);
	marker(3);
	assert_held(a);
	assert_held(b);
	commit(3);
	assert_out(a);
	assert_out(b);
	end();
}

static void a_marker_that_does_not_come_is_asked_for(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	commit(2);
	id = p("x");
	fake_compare_wait(&fake, 150);
	assert_int_equal(fake.asked, 0);
	fake_compare_wait(&fake, 100);
	assert_asked(NCMP_CAUSE_OVERRUN);
	assert_held(id);
	/* While a commit is awaited, nothing of the kind. */
	marker(3);
	commit(3);
	marker(4);
	p("y");
	fake_compare_wait(&fake, 5000);
	assert_int_equal(fake.asked, 1);
	end();
}

static void markers_that_are_not_above_the_last_are_ignored(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	id = p("x");
	marker(1);
	marker(0);
	assert_held(id);
	assert_int_equal(fake_counters(&fake).markers_ignored, 2);
	commit(1);
	commit(0);
	assert_held(id);
	assert_int_equal(fake_counters(&fake).commits_ignored, 2);
	fake.epoch = 1;
	s("x");
	assert_out(id);
	end();
}

static void the_secondary_s_frames_of_an_older_epoch_are_dropped(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	fake_compare_turn(&fake, 2);
	id = p("x");
	fake.epoch = 1;
	s("x");
	assert_held(id);
	assert_int_equal(fake_counters(&fake).secondary_stale, 1);
	end();
}

static void the_secondary_s_frames_may_come_before_the_commit(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	marker(2);
	id = p("x");
	fake.epoch = 2;
	s("x");
	assert_held(id);
	commit(2);
	assert_out(id);
	end();
}

static void what_the_secondary_said_in_one_epoch_does_not_count_in_the_next(
	void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	s_tcp(1, 100, "x");
	s("x");
	fake_compare_turn(&fake, 2);
	id = p("x");
	assert_held(id);
	id = p_tcp(1, 100, "x");
	assert_held(id);
	end();
}

static void in_buffered_epochs_all_waits_for_the_commit(void **state)
{
	static const guint8 arp[28] = { 0 };
	guint id;

	fake_compare_begin(&fake, NULL);
	marker(2);
	ncmp_compare_cut(fake.compare, 2, FALSE);
	commit(2);
	id = p("x");
	s("y");
	fake_compare_wait(&fake, 5000);
	assert_held(id);
	assert_int_equal(fake.asked, 0);
	assert_out(fake_primary(&fake, arp, sizeof(arp), 0x0806));
	marker(3);
	ncmp_compare_cut(fake.compare, 3, TRUE);
	commit(3);
	assert_out(id);
	/* And then it is compared again. */
	s("z");
	assert_out(p("z"));
	end();
}

static void each_epoch_asks_once(void **state)
{
	fake_compare_begin(&fake, NULL);
	p("a");
	p("b");
	fake_compare_wait(&fake, 250);
	fake_compare_wait(&fake, 250);
	assert_int_equal(fake.asked, 1);
	assert_in_range(fake_counters(&fake).divergences[NCMP_CAUSE_LATE], 2, 4);
	fake_compare_turn(&fake, 2);
	p("c");
	fake_compare_wait(&fake, 250);
	assert_int_equal(fake.asked, 2);
	end();
}

static void a_closed_gate_holds_all(void **state)
{
	static const guint8 arp[28] = { 0 };
	guint id;

	fake_compare_begin_closed(&fake, NULL);
	id = p("x");
	assert_held(fake_primary(&fake, arp, sizeof(arp), 0x0806));
	fake_compare_turn(&fake, 1);
	assert_held(id);
	assert_held(p("y"));
	end();
}

static void an_open_gate_lets_all_go_in_order(void **state)
{
	guint id;

	fake_compare_begin_closed(&fake, NULL);
	id = p("x");
	p("y");
	ncmp_compare_set_gate(fake.compare, NCMP_GATE_OPEN);
	assert_out(id);
	assert_out(p("z"));
	for (guint i = 0; i < 3; i++)
		assert_int_equal(g_array_index(fake.order, guint32, i), i);
	assert_int_equal(fake_counters(&fake).opened[0], 3);
	end();
}

static void a_guarded_gate_holds_until_a_commit_of_a_later_marker(void **state)
{
	guint a, b;

	fake_compare_begin_closed(&fake, NULL);
	ncmp_compare_set_gate(fake.compare, NCMP_GATE_OPEN);
	marker(5);
	/* This went out unseen: epoch 5 cannot be compared any more. */
	p("unseen");
	ncmp_compare_set_gate(fake.compare, NCMP_GATE_GUARDED);
	a = p("a");
	commit(5);
	s("a");
	assert_held(a);
	assert_asked(NCMP_CAUSE_RESTART);
	marker(6);
	b = p("b");
	commit(6);
	assert_out(a);
	s("b");
	assert_out(b);
	end();
}

static void a_closed_gate_forgets_what_matched(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	s("x");
	ncmp_compare_set_gate(fake.compare, NCMP_GATE_CLOSED);
	id = p("x");
	ncmp_compare_set_gate(fake.compare, NCMP_GATE_GUARDED);
	assert_held(id);
	s("x");
	assert_held(id);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	assert_int_equal(fake_counters(&fake).flows, 0);
	end();
}

static void after_an_overrun_nothing_matches_until_the_next_marker_s_commit(
	void **state)
{
	guint before, after;

	fake_compare_begin(&fake, NULL);
	before = p("before");
	ncmp_compare_overrun(fake.compare, fake.now_ns);
	assert_asked(NCMP_CAUSE_OVERRUN);
	/* What came before it is in order. */
	s("before");
	assert_out(before);
	after = p("after");
	s("after");
	assert_held(after);
	/* Marker 2 may have been lost. */
	commit(2);
	s("after");
	assert_held(after);
	marker(3);
	commit(3);
	assert_out(after);
	s("fine");
	assert_out(p("fine"));
	end();
}

static void too_much_of_one_flow_is_a_divergence_and_stays_held(void **state)
{
	const struct ncmp_compare_options options = { .flow_memory_max = 20000 };
	g_autofree char *text = g_strnfill(1000, 'x');
	guint ids[40];

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 40; i++)
		ids[i] = p_tcp(1, 1000 * i, text);
	assert_asked(NCMP_CAUSE_MEMORY);
	assert_in_range(fake_counters(&fake).memory, 1, 50000);
	/* Nothing behind the one that found no room goes by a match. */
	for (guint i = 0; i < 40; i++)
		s_tcp(1, 1000 * i, text);
	assert_held(ids[39]);
	fake_compare_turn(&fake, 2);
	for (guint i = 0; i < 40; i++)
		assert_out(ids[i]);
	assert_int_equal(fake_counters(&fake).held, 0);
	end();
}

static void nothing_goes_behind_what_found_no_room_in_an_earlier_epoch(void **state)
{
	const struct ncmp_compare_options options = { .held_max = 10 };
	g_autofree char *text = g_strnfill(1000, 'x');
	guint ids[40];

	fake_compare_begin(&fake, &options);
	p_tcp(1, 0, "");
	marker(2);
	for (guint i = 0; i < 40; i++)
		ids[i] = p_tcp(1, 1000 * i, text);
	assert_asked(NCMP_CAUSE_MEMORY);
	commit(2);
	for (guint i = 0; i < 40; i++)
		s_tcp(1, 1000 * i, text);
	for (guint i = 0; i < 40; i++)
		assert_held(ids[i]);
	fake_compare_turn(&fake, 3);
	assert_out(ids[39]);
	end();
}

static void a_secondary_far_ahead_is_a_divergence(void **state)
{
	const struct ncmp_compare_options options = { .flow_memory_max = 20000 };
	g_autofree char *text = g_strnfill(1000, 'x');
	guint id;

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 40; i++)
		s_tcp(1, 1000 * i, text);
	assert_asked(NCMP_CAUSE_MEMORY);
	assert_in_range(fake_counters(&fake).memory, 1, 25000);
	id = p_tcp(1, 0, text);
	assert_held(id);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	end();
}

static void all_memory_is_bounded(void **state)
{
	const struct ncmp_compare_options options = { .memory_max = 200000 };
	g_autofree char *text = g_strnfill(1000, 'x');

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 500; i++)
		s_tcp((guint16)i, 1, text);
	assert_asked(NCMP_CAUSE_MEMORY);
	assert_in_range(fake_counters(&fake).memory, 1, 210000);
	end();
}

static void too_many_held_packets_ask_and_stay(void **state)
{
	const struct ncmp_compare_options options = { .held_max = 10 };
	guint last = 0;

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 12; i++)
		last = p("x");
	assert_asked(NCMP_CAUSE_MEMORY);
	assert_held(last);
	fake_compare_turn(&fake, 2);
	assert_out(last);
	end();
}

static void a_flow_that_finds_no_room_waits_for_the_commit(void **state)
{
	const struct ncmp_compare_options options = { .flows_max = 10 };
	guint id = 0, again;

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 10; i++) {
		struct fake_packet packet = tcp((guint16)i, 1, "");

		packet.flags = NCMP_TCP_FIN | NCMP_TCP_ACK;
		fake_secondary_tcp(&fake, &packet);
		assert_out(fake_primary_tcp(&fake, &packet));
	}
	id = p_tcp(10, 1, "x");
	assert_asked(NCMP_CAUSE_MEMORY);
	assert_held(id);
	/* Not in this epoch, room or not: it would begin in the middle. */
	fake_compare_wait(&fake, 5000);
	again = p_tcp(10, 2, "y");
	s_tcp(10, 2, "y");
	assert_held(again);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	assert_out(again);
	end();
}

static void idle_connections_are_forgotten(void **state)
{
	fake_compare_begin(&fake, NULL);
	for (guint i = 0; i < 100; i++) {
		s_tcp((guint16)i, 1, "x");
		p_tcp((guint16)i, 1, "x");
	}
	s("x");
	p("x");
	assert_int_equal(fake_counters(&fake).flows, 101);
	fake_compare_wait(&fake, 60 * 1000);
	assert_int_equal(fake_counters(&fake).flows, 100);
	fake_compare_wait(&fake, 3600 * 1000);
	assert_int_equal(fake_counters(&fake).flows, 0);
	/* And known again by what they say next. */
	s_tcp(7, 2, "y");
	assert_out(p_tcp(7, 2, "y"));
	end();
}

static void ended_connections_go_soon_if_there_is_no_room(void **state)
{
	const struct ncmp_compare_options options = { .flows_max = 16 };

	fake_compare_begin(&fake, &options);
	for (guint i = 0; i < 1000; i++) {
		struct fake_packet packet = tcp((guint16)i, 1, "");

		packet.flags = NCMP_TCP_FIN | NCMP_TCP_ACK;
		fake_secondary_tcp(&fake, &packet);
		assert_out(fake_primary_tcp(&fake, &packet));
		fake.now_ns += 100 * FAKE_MS;
	}
	assert_int_equal(fake.asked, 0);
	end();
}

static void tick_says_when_to_come_again(void **state)
{
	gint64 next;
	guint id;

	fake_compare_begin(&fake, NULL);
	assert_true(ncmp_compare_tick(fake.compare, fake.now_ns) == G_MAXINT64);
	id = p("x");
	next = ncmp_compare_tick(fake.compare, fake.now_ns);
	assert_in_range(next, FAKE_MS, 200 * FAKE_MS);
	fake.now_ns += next;
	ncmp_compare_tick(fake.compare, fake.now_ns);
	assert_asked(NCMP_CAUSE_LATE);
	assert_held(id);
	/* Nothing but old flows. */
	assert_true(ncmp_compare_tick(fake.compare, fake.now_ns) >= 1000 * FAKE_MS);
	end();
}

static void tick_comes_in_time_for_what_is_behind_an_acknowledgement(void **state)
{
	struct fake_packet ack = tcp(1, 100, "");
	guint i;

	fake_compare_begin(&fake, NULL);
	for (i = 0; i < 50; i++) {
		s("x");
		fake.now_ns += FAKE_MS;
		p("x");
	}
	p("y");
	s("y");
	ack.ack = 1000;
	fake_primary_tcp(&fake, &ack);
	fake.now_ns += FAKE_MS;
	p("z");
	/* Acknowledgements have longer. */
	for (i = 0; i < 20 && !fake.asked; i++) {
		gint64 next = ncmp_compare_tick(fake.compare, fake.now_ns);

		assert_true(fake.asked || next <= 6 * FAKE_MS);
		fake.now_ns += next;
	}
	assert_int_equal(fake.asked, 1);
	assert_in_range(i, 1, 3);
	end();
}

static void how_long_packets_were_held_is_counted(void **state)
{
	struct ncmp_compare_counters counters;

	fake_compare_begin(&fake, NULL);
	p("a");
	fake.now_ns += 3 * FAKE_MS;
	s("a");
	s("b");
	p("b");
	p("c");
	marker(2);
	fake.now_ns += 100 * FAKE_MS;
	commit(2);
	counters = fake_counters(&fake);
	assert_int_equal(counters.held_us[0], 1);
	assert_int_equal(counters.held_us[12], 1); /* 2048 to 4095 us */
	assert_int_equal(counters.committed_us[17], 1);
	assert_int_equal(counters.lag_us, 3000);
	assert_int_equal(counters.epoch, 2);
	assert_int_equal(counters.marker, 2);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_commit_releases_what_is_before_its_marker),
		cmocka_unit_test(matches_go_on_while_a_commit_is_awaited),
		cmocka_unit_test(a_commit_without_its_marker_releases_nothing),
		cmocka_unit_test(a_lost_marker_makes_all_wait_for_the_next),
		cmocka_unit_test(a_marker_that_does_not_come_is_asked_for),
		cmocka_unit_test(markers_that_are_not_above_the_last_are_ignored),
		cmocka_unit_test(the_secondary_s_frames_of_an_older_epoch_are_dropped),
		cmocka_unit_test(the_secondary_s_frames_may_come_before_the_commit),
		cmocka_unit_test(
			what_the_secondary_said_in_one_epoch_does_not_count_in_the_next),
		cmocka_unit_test(in_buffered_epochs_all_waits_for_the_commit),
		cmocka_unit_test(each_epoch_asks_once),
		cmocka_unit_test(a_closed_gate_holds_all),
		cmocka_unit_test(an_open_gate_lets_all_go_in_order),
		cmocka_unit_test(a_guarded_gate_holds_until_a_commit_of_a_later_marker),
		cmocka_unit_test(a_closed_gate_forgets_what_matched),
		cmocka_unit_test(
			after_an_overrun_nothing_matches_until_the_next_marker_s_commit),
		cmocka_unit_test(too_much_of_one_flow_is_a_divergence_and_stays_held),
		cmocka_unit_test(
			nothing_goes_behind_what_found_no_room_in_an_earlier_epoch),
		cmocka_unit_test(a_secondary_far_ahead_is_a_divergence),
		cmocka_unit_test(all_memory_is_bounded),
		cmocka_unit_test(too_many_held_packets_ask_and_stay),
		cmocka_unit_test(a_flow_that_finds_no_room_waits_for_the_commit),
		cmocka_unit_test(idle_connections_are_forgotten),
		cmocka_unit_test(ended_connections_go_soon_if_there_is_no_room),
		cmocka_unit_test(tick_says_when_to_come_again),
		cmocka_unit_test(
			tick_comes_in_time_for_what_is_behind_an_acknowledgement),
		cmocka_unit_test(how_long_packets_were_held_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
