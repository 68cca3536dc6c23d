/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two captures, made here, and what a replay says of them. The guest is 10.0.0.1 with
 * the MAC address 52:54:00:00:00:01, its client 10.0.0.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <netinet/in.h>
#include <string.h>

#include "netcompare/compare.h"
#include "netcompare/dump.h"
#include "netcompare/replay.h"
#include "tests/unit/fake_packet.h"

#define SYN NCMP_TCP_SYN
#define ACK NCMP_TCP_ACK
#define FIN NCMP_TCP_FIN

enum { PRIMARY, SECONDARY };

static char *dir, *paths[2], *text;
static ncmp_dump *dumps[2];
static gint64 now;
static guint8 packet[FAKE_PACKET_MAX], frame[FAKE_PACKET_MAX + 64];
static guint8 data[2000];

static int set_up(void **state)
{
	dir = g_dir_make_tmp("replay-XXXXXX", NULL);
	for (guint i = 0; i < 2; i++) {
		paths[i] = g_strdup_printf("%s/%u", dir, i);
		dumps[i] = ncmp_dump_open(paths[i], 1 << 20, NULL);
		assert_non_null(dumps[i]);
	}
	for (guint i = 0; i < sizeof(data); i++)
		data[i] = (guint8)(i + i / 256);
	now = 1000000000;
	return 0;
}

static int tear_down(void **state)
{
	for (guint i = 0; i < 2; i++) {
		ncmp_dump_close(dumps[i]);
		g_unlink(paths[i]);
		g_free(paths[i]);
		dumps[i] = NULL;
	}
	g_rmdir(dir);
	g_free(dir);
	g_clear_pointer(&text, g_free);
	return 0;
}

static void add(guint side, gsize len, guint16 ethertype)
{
	gsize frame_len = fake_frame(packet, len, ethertype, 0, 60, 0, frame);

	/* fake_frame() has one sender. */
	if (packet[15] == 2)
		memcpy(frame + 6, "\x52\x54\x00\x00\x00\x02", 6);
	assert_true(ncmp_dump_frame(dumps[side], side, now += 1000000, frame, frame_len,
				    NULL));
}

static void tcp(guint side, guint16 port, guint8 flags, guint32 seq, guint32 ack,
		const void *bytes, gsize len)
{
	struct fake_packet from = { .source_port = 80,
				    .target_port = port,
				    .flags = flags,
				    .seq = seq,
				    .ack = ack,
				    .window = 500,
				    .ip_id = (guint16)now,
				    .data = bytes,
				    .len = len };

	add(side, fake_tcp(&from, packet), FAKE_IPV4);
}

static void from_client(guint side, guint16 port, guint8 flags, guint32 seq,
			guint32 ack)
{
	struct fake_packet from = { .host = 2,
				    .peer = 1,
				    .source_port = port,
				    .target_port = 80,
				    .flags = flags,
				    .seq = seq,
				    .ack = ack };

	add(side, fake_tcp(&from, packet), FAKE_IPV4);
}

static void udp(guint side, const char *bytes)
{
	struct fake_packet from = { .source_port = 53,
				    .target_port = 5353,
				    .ip_id = (guint16)now,
				    .data = bytes,
				    .len = strlen(bytes) };

	add(side, fake_udp(&from, packet), FAKE_IPV4);
}

static enum ncmp_replay_result replay(const char *guest, gboolean json)
{
	const struct ncmp_replay_options options = { paths[0], paths[1], guest, json };
	g_autoptr(GError) error = NULL;
	enum ncmp_replay_result result;
	size_t len = 0;
	char *written = NULL;
	FILE *out = open_memstream(&written, &len);

	for (guint i = 0; i < 2; i++) {
		ncmp_dump_close(dumps[i]);
		dumps[i] = NULL;
	}
	result = ncmp_replay(&options, out, &error);
	fclose(out);
	g_free(text);
	text = result == NCMP_REPLAY_UNUSABLE ? g_strdup(error->message)
					      : g_strdup(written);
	assert_int_equal(result == NCMP_REPLAY_UNUSABLE, len == 0);
	free(written);
	return result;
}

static void says(const char *what)
{
	if (!strstr(text, what))
		fail_msg("does not say '%s':\n%s", what, text);
}

/* One connection of two hundred bytes, as two guests send it. */
static void talk(guint16 port, const guint8 *theirs)
{
	tcp(PRIMARY, port, SYN | ACK, 5000, 101, NULL, 0);
	tcp(PRIMARY, port, ACK, 5001, 150, data, 120);
	tcp(PRIMARY, port, ACK | FIN, 5121, 200, data + 120, 80);
	tcp(SECONDARY, port, SYN | ACK, 900000, 101, NULL, 0);
	tcp(SECONDARY, port, ACK, 900001, 200, theirs, 40);
	tcp(SECONDARY, port, ACK, 900041, 200, theirs + 40, 160);
	tcp(SECONDARY, port, ACK | FIN, 900201, 200, NULL, 0);
}

static void equal_streams_are_the_same(void **state)
{
	for (guint16 port = 1000; port < 1020; port++)
		talk(port, data);
	udp(SECONDARY, "one");
	udp(PRIMARY, "one");
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_SAME);
	says("0 of 21 flows differ; guest=52:54:00:00:00:01 packets=61,81\n");
}

static void each_flow_that_differs_is_told(void **state)
{
	guint8 other[200];

	memcpy(other, data, sizeof(other));
	other[133] ^= 0xff;
	talk(1000, data);
	talk(1001, other);
	other[133] ^= 0xff;
	other[0] = 0xaa;
	talk(1002, other);
	udp(PRIMARY, "hello world");
	udp(SECONDARY, "hello mars");
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_DIVERGED);
	/* The SYN is at 0. */
	says("tcp 10.0.0.1:80 > 10.0.0.2:1001: cause=payload byte=134\n"
	     "  primary   packet 6 85868788898a8b8c8d8e8f9091929394\n"
	     "  secondary packet 7 7a868788898a8b8c8d8e8f9091929394\n");
	says("tcp 10.0.0.1:80 > 10.0.0.2:1002: cause=payload byte=1\n"
	     "  primary   packet 8 000102030405060708090a0b0c0d0e0f\n"
	     "  secondary packet 10 aa0102030405060708090a0b0c0d0e0f\n");
	says("udp 10.0.0.1:53 > 10.0.0.2:5353: cause=payload byte=6\n"
	     "  primary   packet 10 776f726c64\n"
	     "  secondary packet 13 6d617273\n");
	says("3 of 4 flows differ; ");
	assert_null(strstr(text, "1000"));
}

static void what_only_one_has_is_told(void **state)
{
	talk(1000, data);
	tcp(PRIMARY, 1001, SYN | ACK, 5000, 101, NULL, 0);
	tcp(PRIMARY, 1001, ACK, 5001, 101, "hello", 5);
	tcp(SECONDARY, 1001, SYN | ACK, 6000, 101, NULL, 0);
	tcp(SECONDARY, 1001, ACK, 6001, 101, "hel", 3);
	tcp(PRIMARY, 1002, SYN | ACK, 5000, 101, NULL, 0);
	tcp(PRIMARY, 1002, ACK, 5001, 101, "he", 2);
	tcp(SECONDARY, 1002, SYN | ACK, 6000, 101, NULL, 0);
	tcp(SECONDARY, 1002, ACK, 6001, 101, "hello", 5);
	udp(SECONDARY, "mine");
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_DIVERGED);
	says("tcp 10.0.0.1:80 > 10.0.0.2:1001: cause=late byte=1\n"
	     "  primary   packet 5 68656c6c6f\n"
	     "  secondary packet 6 68656c\n");
	says("tcp 10.0.0.1:80 > 10.0.0.2:1002: cause=missing byte=3\n"
	     "  primary   no packet\n"
	     "  secondary packet 8 6c6c6f\n");
	says("udp 10.0.0.1:53 > 10.0.0.2:5353: cause=missing byte=0\n"
	     "  primary   no packet\n"
	     "  secondary packet 9 6d696e65\n");
	says("3 of 4 flows differ; ");
}

static void only_what_the_guest_sends_is_compared(void **state)
{
	for (guint i = 0; i < 3; i++) {
		/* The client acknowledges other numbers. */
		from_client(PRIMARY, 1000, SYN, 100, 0);
		from_client(SECONDARY, 1000, SYN, 100, 0);
		talk(1000, data);
		from_client(PRIMARY, 1000, ACK, 101, 5001);
		from_client(SECONDARY, 1000, ACK, 101, 900001);
		assert_int_equal(replay(i == 0	 ? NULL
					: i == 1 ? "10.0.0.1"
						 : "52:54:00:00:00:01",
					FALSE),
				 NCMP_REPLAY_SAME);
		says(i == 1 ? "guest=10.0.0.1 packets=3,4"
			    : "guest=52:54:00:00:00:01 packets=3,4");
		if (i < 2) {
			tear_down(NULL);
			set_up(NULL);
		}
	}
}

static void what_cannot_be_compared_is_told(void **state)
{
	struct fake_packet from = { .data = data, .len = 100, .protocol = IPPROTO_UDP };
	gsize len = fake_ip(&from, packet);

	talk(1000, data);
	len = fake_ip(&from, packet);
	packet[6] = 0x20;
	add(PRIMARY, len, FAKE_IPV4);
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_DIVERGED);
	says("not comparable: cause=opaque byte=0\n  primary   packet 4 ");
}

static void programs_are_told_in_json(void **state)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	guint8 other[200];
	JsonObject *root, *one;
	JsonArray *all;

	memcpy(other, data, sizeof(other));
	other[133] ^= 0xff;
	talk(1001, other);
	assert_int_equal(replay(NULL, TRUE), NCMP_REPLAY_DIVERGED);
	assert_true(json_parser_load_from_data(parser, text, -1, NULL));
	root = json_node_get_object(json_parser_get_root(parser));
	assert_int_equal(json_object_get_int_member(root, "flows"), 1);
	assert_string_equal(json_object_get_string_member(root, "guest"),
			    "52:54:00:00:00:01");
	all = json_object_get_array_member(root, "differences");
	assert_int_equal(json_array_get_length(all), 1);
	one = json_array_get_object_element(all, 0);
	assert_string_equal(json_object_get_string_member(one, "cause"), "payload");
	assert_string_equal(json_object_get_string_member(one, "source"), "10.0.0.1");
	assert_int_equal(json_object_get_int_member(one, "target_port"), 1001);
	assert_int_equal(json_object_get_int_member(one, "byte"), 134);
	one = json_object_get_object_member(one, "secondary");
	assert_int_equal(json_object_get_int_member(one, "packet"), 3);
	assert_memory_equal(json_object_get_string_member(one, "bytes"), "7a86", 4);
}

static void what_cannot_be_used_is_said(void **state)
{
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_UNUSABLE);
	says("no packets to compare");
	assert_int_equal(
		ncmp_replay(&(struct ncmp_replay_options){ "/nowhere", paths[1] },
			    stdout, &(GError *){ NULL }),
		NCMP_REPLAY_UNUSABLE);
	tear_down(NULL);
	set_up(NULL);
	talk(1000, data);
	assert_int_equal(replay("10.0.0.1x", FALSE), NCMP_REPLAY_UNUSABLE);
	says("guest '10.0.0.1x': neither a MAC nor an IP address");
	tear_down(NULL);
	set_up(NULL);
	talk(1000, data);
	g_unlink(paths[1]);
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_UNUSABLE);
	says("No such file");
}

/* Larger than what a running comparator would keep for it. */
static void long_streams_need_not_come_in_step(void **state)
{
	enum { SEGMENTS = 12000 };

	for (guint side = 0; side < 2; side++) {
		ncmp_dump_close(dumps[side]);
		dumps[side] = ncmp_dump_open(paths[side], 100 << 20, NULL);
		tcp(side, 1000, SYN | ACK, 5000 * side, 101, NULL, 0);
		for (guint i = 0; i < SEGMENTS; i++) {
			struct ncmp_dump_counters counters;

			tcp(side, 1000, ACK, 5000 * side + 1 + 1400 * i, 101, data,
			    1400);
			ncmp_dump_get_counters(dumps[side], &counters);
			if (i % 1000 == 999)
				g_usleep(20000);
		}
	}
	assert_int_equal(replay(NULL, FALSE), NCMP_REPLAY_SAME);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(equal_streams_are_the_same),
		TEST(each_flow_that_differs_is_told),
		TEST(what_only_one_has_is_told),
		TEST(only_what_the_guest_sends_is_compared),
		TEST(what_cannot_be_compared_is_told),
		TEST(programs_are_told_in_json),
		TEST(what_cannot_be_used_is_said),
		TEST(long_streams_need_not_come_in_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
