/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two guests' datagrams, compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/fake_compare.h"

static struct fake_compare fake;

#define assert_out(id) assert_int_equal(fake_verdict(&fake, id), FAKE_OUT)
#define assert_held(id) assert_int_equal(fake_verdict(&fake, id), FAKE_HELD)

static struct fake_packet udp(guint16 port, const char *text)
{
	return (struct fake_packet){ .source_port = 53,
				     .target_port = port,
				     .data = text,
				     .len = strlen(text) };
}

static guint p(guint16 port, const char *text)
{
	struct fake_packet packet = udp(port, text);

	return fake_primary_udp(&fake, &packet);
}

static void s(guint16 port, const char *text)
{
	struct fake_packet packet = udp(port, text);

	packet.ip_id = 99;
	packet.ttl = 7;
	fake_secondary_udp(&fake, &packet);
}

static void assert_asked(enum ncmp_cause cause)
{
	assert_int_equal(fake.asked, 1);
	assert_string_equal(ncmp_cause_name(fake.cause), ncmp_cause_name(cause));
}

static void end(guint asked)
{
	assert_int_equal(fake.asked, asked);
	fake_compare_end(&fake);
}

/* What is seen often enough for the lag to be known: one millisecond. */
static void settle(void)
{
	for (guint i = 0; i < 50; i++) {
		guint id = p(9, "settle");

		fake.now_ns += FAKE_MS;
		s(9, "settle");
		assert_out(id);
	}
}

static void equal_datagrams_go(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	id = p(1, "answer");
	assert_held(id);
	s(1, "answer");
	assert_out(id);
	s(1, "next");
	assert_out(p(1, "next"));
	/* One of the secondary's stands for one of the primary's. */
	assert_held(p(1, "next"));
	end(0);
}

static void a_flow_s_datagrams_match_no_other_s(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	id = p(1, "answer");
	s(2, "answer");
	assert_held(id);
	end(0);
}

static void reordered_datagrams_match(void **state)
{
	guint a, b, c;

	fake_compare_begin(&fake, NULL);
	a = p(1, "a");
	b = p(1, "b");
	c = p(1, "c");
	s(1, "c");
	assert_out(c);
	s(1, "a");
	s(1, "b");
	assert_out(a);
	assert_out(b);
	end(0);
}

static void another_answer_diverges_after_a_short_time(void **state)
{
	guint id;

	fake_compare_begin(&fake, NULL);
	settle();
	id = p(1, "time is 1");
	s(1, "time is 2");
	assert_int_equal(fake.asked, 0);
	/* Before it would be late. */
	fake_compare_wait(&fake, 2);
	assert_asked(NCMP_CAUSE_PAYLOAD);
	assert_held(id);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	end(1);
}

static void a_full_window_diverges_at_once(void **state)
{
	fake_compare_begin(&fake, NULL);
	for (guint i = 0; i < 64; i++) {
		char text[16];

		g_snprintf(text, sizeof(text), "%u", i);
		s(1, text);
	}
	assert_int_equal(fake.asked, 0);
	assert_held(p(1, "another"));
	assert_asked(NCMP_CAUSE_PAYLOAD);
	end(1);
}

static void a_datagram_that_only_the_primary_sent_is_late(void **state)
{
	fake_compare_begin(&fake, NULL);
	settle();
	p(1, "alone");
	fake_compare_wait(&fake, 4);
	assert_int_equal(fake.asked, 0);
	fake_compare_wait(&fake, 2);
	assert_asked(NCMP_CAUSE_LATE);
	end(1);
}

static void a_datagram_that_only_the_secondary_sent_is_missing(void **state)
{
	fake_compare_begin(&fake, NULL);
	settle();
	s(1, "alone");
	fake_compare_wait(&fake, 15);
	assert_int_equal(fake.asked, 0);
	fake_compare_wait(&fake, 10);
	assert_asked(NCMP_CAUSE_MISSING);
	end(1);
}

static void an_echo_s_reply_is_compared(void **state)
{
	struct fake_packet packet = { .data = "\0\1\0\1ping", .len = 8 };
	guint8 bytes[128];
	gsize len;
	guint id;

	fake_compare_begin(&fake, NULL);
	for (packet.ipv6 = 0; packet.ipv6 < 2; packet.ipv6++) {
		len = fake_icmp(&packet, packet.ipv6 ? 129 : 0, bytes);
		id = fake_primary(&fake, bytes, len, fake_ethertype(&packet));
		assert_held(id);
		/* The checksum may be left to the card. */
		bytes[(packet.ipv6 ? 40 : 20) + 2] ^= 0xff;
		fake_secondary(&fake, bytes, len, fake_ethertype(&packet));
		assert_out(id);
	}
	end(0);
}

static void other_protocols_are_compared(void **state)
{
	struct fake_packet packet = { .protocol = 50, .data = "esp 1", .len = 5 };
	guint8 bytes[128];
	gsize len = fake_ip(&packet, bytes);
	guint id;

	fake_compare_begin(&fake, NULL);
	id = fake_primary(&fake, bytes, len, FAKE_IPV4);
	packet.data = "esp 2";
	len = fake_ip(&packet, bytes);
	fake_secondary(&fake, bytes, len, FAKE_IPV4);
	assert_held(id);
	packet.data = "esp";
	packet.len = 3;
	len = fake_ip(&packet, bytes);
	fake_secondary(&fake, bytes, len, FAKE_IPV4);
	assert_held(id);
	packet.data = "esp 1";
	packet.len = 5;
	len = fake_ip(&packet, bytes);
	fake_secondary(&fake, bytes, len, FAKE_IPV4);
	assert_out(id);
	/* Nor is a part of it the whole. */
	packet.len = 3;
	len = fake_ip(&packet, bytes);
	fake_compare_turn(&fake, 2);
	id = fake_primary(&fake, bytes, len, FAKE_IPV4);
	packet.len = 5;
	len = fake_ip(&packet, bytes);
	fake_secondary(&fake, bytes, len, FAKE_IPV4);
	assert_held(id);
	end(0);
}

static void a_fragment_waits_for_a_commit(void **state)
{
	struct fake_packet packet = udp(1, "part");
	guint8 bytes[128];
	gsize len = fake_udp(&packet, bytes);
	guint id;

	fake_compare_begin(&fake, NULL);
	bytes[6] = 0x20;
	id = fake_primary(&fake, bytes, len, FAKE_IPV4);
	fake_secondary(&fake, bytes, len, FAKE_IPV4);
	assert_held(id);
	assert_asked(NCMP_CAUSE_OPAQUE);
	fake_primary(&fake, bytes, len, FAKE_IPV4);
	assert_int_equal(fake_counters(&fake).opaque, 2);
	fake_compare_turn(&fake, 2);
	assert_out(id);
	end(1);
}

static void a_malformed_packet_waits_for_a_commit(void **state)
{
	static const guint8 bytes[40] = { 0x45 };
	guint id;

	fake_compare_begin(&fake, NULL);
	id = fake_primary(&fake, bytes, sizeof(bytes), FAKE_IPV4);
	assert_held(id);
	assert_asked(NCMP_CAUSE_OPAQUE);
	assert_int_equal(fake_counters(&fake).malformed, 1);
	end(1);
}

static void arp_passes(void **state)
{
	static const guint8 bytes[28] = { 0, 1, 8, 0, 6, 4, 0, 1 };

	fake_compare_begin(&fake, NULL);
	assert_out(fake_primary(&fake, bytes, sizeof(bytes), 0x0806));
	/* Between two epochs, too. */
	ncmp_compare_marker(fake.compare, 2, fake.now_ns);
	assert_out(fake_primary(&fake, bytes, sizeof(bytes), 0x0806));
	assert_int_equal(fake_counters(&fake).passed[0], 2);
	end(0);
}

static void services_that_diverge_are_named(void **state)
{
	struct ncmp_blame blames[4];

	fake_compare_begin(&fake, NULL);
	for (guint i = 0; i < 3; i++) {
		struct fake_packet packet = udp((guint16)(100 + i), "x");

		packet.source_port = i ? 53 : 123;
		fake_primary_udp(&fake, &packet);
	}
	fake_compare_wait(&fake, 250);
	assert_int_equal(ncmp_compare_get_blames(fake.compare, blames, 4), 2);
	assert_int_equal(blames[0].port, 53);
	assert_int_equal(blames[0].protocol, 17);
	assert_int_equal(blames[0].count[NCMP_CAUSE_LATE], 2);
	assert_int_equal(blames[1].port, 123);
	/* Bounded, however many there are. */
	for (guint i = 0; i < 300; i++) {
		struct fake_packet packet = udp(1, "x");

		packet.source_port = (guint16)(1000 + i);
		fake_primary_udp(&fake, &packet);
	}
	fake_compare_wait(&fake, 250);
	assert_int_equal(ncmp_compare_get_blames(fake.compare, blames, 1), 1);
	assert_int_equal(blames[0].port, 53);
	end(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_datagrams_go),
		cmocka_unit_test(a_flow_s_datagrams_match_no_other_s),
		cmocka_unit_test(reordered_datagrams_match),
		cmocka_unit_test(another_answer_diverges_after_a_short_time),
		cmocka_unit_test(a_full_window_diverges_at_once),
		cmocka_unit_test(a_datagram_that_only_the_primary_sent_is_late),
		cmocka_unit_test(a_datagram_that_only_the_secondary_sent_is_missing),
		cmocka_unit_test(an_echo_s_reply_is_compared),
		cmocka_unit_test(other_protocols_are_compared),
		cmocka_unit_test(a_fragment_waits_for_a_commit),
		cmocka_unit_test(a_malformed_packet_waits_for_a_commit),
		cmocka_unit_test(arp_passes),
		cmocka_unit_test(services_that_diverge_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
