/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What packets say. Each is parsed from a copy that ends where it does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/unit/fake_packet.h"

static guint8 bytes[FAKE_PACKET_MAX];
static struct ncmp_packet packet;

static enum ncmp_kind kind_of(gsize len, guint16 ethertype)
{
	g_autofree guint8 *exact = g_memdup2(bytes, len ? len : 1);

	ncmp_packet_parse(&packet, exact, len, ethertype, 0, 3);
	packet.bytes = bytes;
	return packet.kind;
}

/* No prefix of it is taken for the whole, and none is read beyond. */
static void cut_short(gsize len, guint16 ethertype)
{
	for (gsize i = 0; i < len; i++)
		assert_int_equal(kind_of(i, ethertype), NCMP_KIND_MALFORMED);
}

static void a_tcp_segment_says_all(void **state)
{
	const guint8 options[] = { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 1, 5, 18,
				   0, 0, 0, 1,	0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4 };
	struct fake_packet from = { .source_port = 80,
				    .target_port = 40000,
				    .seq = 0xfffffff0,
				    .ack = 77,
				    .flags = NCMP_TCP_ACK | NCMP_TCP_PSH | 0xc0,
				    .window = 500,
				    .urgent = 9,
				    .options = options,
				    .options_len = sizeof(options),
				    .data = "hello",
				    .len = 5 };

	for (from.ipv6 = 0; from.ipv6 < 2; from.ipv6++) {
		gsize ip = from.ipv6 ? 40 : 20;
		gsize len = fake_tcp(&from, bytes);

		assert_int_equal(kind_of(len, fake_ethertype(&from)), NCMP_KIND_TCP);
		assert_int_equal(packet.len, len);
		assert_int_equal(packet.transport, ip);
		assert_int_equal(packet.payload, ip + 52);
		assert_int_equal(packet.payload_len, 5);
		assert_int_equal(packet.seq, 0xfffffff0);
		assert_int_equal(packet.ack, 77);
		assert_int_equal(packet.flags, NCMP_TCP_ACK | NCMP_TCP_PSH);
		assert_int_equal(packet.window, 500);
		assert_int_equal(packet.urgent, 9);
		assert_int_equal(packet.timestamps, ip + 24);
		assert_int_equal(packet.sack, ip + 36);
		assert_int_equal(packet.sack_blocks, 2);
		assert_int_equal(packet.key.family, from.ipv6 ? 6 : 4);
		assert_int_equal(packet.key.protocol, IPPROTO_TCP);
		assert_int_equal(packet.key.source_port, 80);
		assert_int_equal(packet.key.target_port, 40000);
		assert_int_equal(packet.key.source[from.ipv6 ? 15 : 3], 1);
		assert_int_equal(packet.key.target[from.ipv6 ? 15 : 3], 2);
		assert_int_equal(packet.key.device, 3);
		cut_short(len, fake_ethertype(&from));
	}
}

static void ethernet_padding_is_no_payload(void **state)
{
	const struct fake_packet from = { .flags = NCMP_TCP_ACK };
	guint8 frame[128];
	gsize len = fake_tcp(&from, bytes);

	len = fake_frame(bytes, len, FAKE_IPV4, 0, 60, 0xaa, frame);
	assert_int_equal(len, 60);
	ncmp_packet_parse_frame(&packet, frame, len, 0);
	assert_int_equal(packet.kind, NCMP_KIND_TCP);
	assert_int_equal(packet.len, 40);
	assert_int_equal(packet.payload_len, 0);
}

static void vlan_tags_are_part_of_the_flow(void **state)
{
	const struct fake_packet from = { .data = "x", .len = 1 };
	guint8 frame[128], twice[128];
	gsize len = fake_udp(&from, bytes), outer;

	len = fake_frame(bytes, len, FAKE_IPV4, 0x2005, 0, 0, frame);
	ncmp_packet_parse_frame(&packet, frame, len, 0);
	assert_int_equal(packet.kind, NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.vlan, 5);
	assert_int_equal(packet.key.inner_vlan, 0);

	outer = fake_frame(frame + 14, len - 14, 0x8100, 7, 0, 0, twice);
	ncmp_packet_parse_frame(&packet, twice, outer, 0);
	assert_int_equal(packet.kind, NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.vlan, 7);
	assert_int_equal(packet.key.inner_vlan, 5);

	/* As the queue gives it. */
	ncmp_packet_parse(&packet, frame + 14, len - 14, 0x8100, 7, 0);
	assert_int_equal(packet.kind, NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.vlan, 7);
	assert_int_equal(packet.key.inner_vlan, 5);
	for (gsize i = 0; i < 18; i++) {
		ncmp_packet_parse_frame(&packet, frame, i, 0);
		assert_int_equal(packet.kind, NCMP_KIND_MALFORMED);
	}
}

static void arp_and_neighbour_discovery_pass(void **state)
{
	struct fake_packet from = { .ipv6 = TRUE, .ttl = 255, .len = 20 };
	guint8 zeros[20] = { 0 };
	gsize len;

	assert_int_equal(kind_of(28, 0x0806), NCMP_KIND_PASS);
	from.data = zeros;
	len = fake_icmp(&from, 135, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_PASS);
	len = fake_icmp(&from, 136, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_PASS);
	/* A router's words are its service; what came through a router is no discovery.
	 */
	len = fake_icmp(&from, 134, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
	from.ttl = 64;
	len = fake_icmp(&from, 135, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
}

static void an_echo_is_known_by_its_identifier(void **state)
{
	struct fake_packet from = { .data = "\x12\x34\x00\x01ping", .len = 8 };
	gsize len = fake_icmp(&from, 0, bytes);

	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.target_port, 0x1234);
	assert_int_equal(packet.payload, 20);
	assert_int_equal(packet.payload_len, 12);
	from.ipv6 = TRUE;
	len = fake_icmp(&from, 129, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.target_port, 0x1234);
}

static void fragments_are_opaque_the_first_one_too(void **state)
{
	const struct fake_packet from = { .data = "0123456789", .len = 10 };
	gsize len = fake_tcp(&from, bytes);

	bytes[6] = 0x20;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_OPAQUE);
	bytes[6] = 0;
	bytes[7] = 1;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_OPAQUE);
	/* "Do not fragment" is no fragment. */
	bytes[6] = 0x40;
	bytes[7] = 0;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_TCP);
}

static void extension_headers_are_stepped_over(void **state)
{
	const struct fake_packet udp = { .ipv6 = TRUE, .data = "xy", .len = 2 };
	struct fake_packet from = { .ipv6 = TRUE };
	guint8 inner[64], data[64] = { 60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4 };
	gsize len = fake_udp(&udp, inner);

	memcpy(data + 16, inner + 40, len - 40);
	from.data = data;
	from.len = 16 + len - 40;
	from.protocol = 0;
	len = fake_ip(&from, bytes);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.protocol, IPPROTO_UDP);
	assert_int_equal(packet.transport, 56);
	assert_int_equal(packet.payload_len, 10);
	cut_short(len, FAKE_IPV6);

	/* A fragment; an atomic one; a route with segments left, and without. */
	bytes[6] = 44;
	bytes[40] = 60;
	memset(bytes + 41, 0, 7);
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
	bytes[43] = 1;
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_OPAQUE);
	bytes[6] = 43;
	bytes[43] = 2;
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_OPAQUE);
	bytes[43] = 0;
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_DATAGRAM);
}

static void endless_extension_headers_are_opaque(void **state)
{
	guint8 data[80] = { 0 };
	const struct fake_packet from = { .ipv6 = TRUE, .data = data, .len = 80 };

	for (guint i = 0; i < 80; i += 8)
		data[i] = IPPROTO_DSTOPTS;
	gsize len = fake_ip(&from, bytes);
	bytes[6] = IPPROTO_DSTOPTS;
	assert_int_equal(kind_of(len, FAKE_IPV6), NCMP_KIND_OPAQUE);
}

static void what_is_not_ip_is_opaque(void **state)
{
	memset(bytes, 0, 60);
	assert_int_equal(kind_of(46, 0x0026), NCMP_KIND_OPAQUE); /* spanning tree */
	assert_int_equal(kind_of(46, 0x88cc), NCMP_KIND_OPAQUE); /* LLDP */
	assert_int_equal(kind_of(0, 0x88cc), NCMP_KIND_OPAQUE);
}

static void other_protocols_are_compared_whole(void **state)
{
	const struct fake_packet from = { .protocol = 50, .data = "esp", .len = 3 };
	gsize len = fake_ip(&from, bytes);

	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_DATAGRAM);
	assert_int_equal(packet.key.protocol, 50);
	assert_int_equal(packet.payload, 20);
	assert_int_equal(packet.payload_len, 3);
}

static void a_source_route_is_opaque(void **state)
{
	const struct fake_packet from = { .data = "x", .len = 1 };
	gsize len = fake_tcp(&from, bytes);

	memmove(bytes + 28, bytes + 20, len - 20);
	memcpy(bytes + 20, "\x01\x83\x07\x04\x0a\x00\x00\x09", 8);
	bytes[0] = 0x47;
	bytes[3] += 8;
	assert_int_equal(kind_of(len + 8, FAKE_IPV4), NCMP_KIND_OPAQUE);
	memcpy(bytes + 20, "\x94\x04\x00\x00\x00\x00\x00\x00", 8); /* router alert */
	assert_int_equal(kind_of(len + 8, FAKE_IPV4), NCMP_KIND_TCP);
}

static void lengths_that_lie_are_malformed(void **state)
{
	const struct fake_packet from = { .data = "0123", .len = 4 };
	gsize len = fake_tcp(&from, bytes);

	bytes[0] = 0x44;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[0] = 0x65;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[0] = 0x45;
	bytes[3] = 19; /* a total below the header's */
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[3] = (guint8)len + 1;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[3] = (guint8)len;
	bytes[32] = 0x40; /* TCP headers have 20 bytes at least */
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[32] = 0x70;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);

	len = fake_udp(&from, bytes);
	bytes[25] = 7;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
	bytes[25] = 13;
	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
}

static void broken_options_end_the_options(void **state)
{
	/* A timestamp behind the end; SACK of no whole block; one that is longer than
	 * what there is. */
	static const guint8 options[][12] = {
		{ 0, 0, 8, 10, 1, 1, 1, 1, 1, 1, 1, 1 },
		{ 5, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1 },
		{ 1, 1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0 },
		{ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8 },
		{ 8, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
		struct fake_packet from = { .options = options[i], .options_len = 12 };
		gsize len = fake_tcp(&from, bytes);

		assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_TCP);
		assert_int_equal(packet.timestamps, 0);
		assert_int_equal(packet.sack, 0);
	}
}

static void sack_said_twice_is_malformed(void **state)
{
	const guint8 options[20] = { 5, 10, 0, 0, 0, 0, 0, 0, 0, 1, 5, 10 };
	const struct fake_packet from = { .options = options, .options_len = 20 };
	gsize len = fake_tcp(&from, bytes);

	assert_int_equal(kind_of(len, FAKE_IPV4), NCMP_KIND_MALFORMED);
}

static void the_stream_moves_on_by_data_and_flags(void **state)
{
	struct fake_packet from = { .data = "abc", .len = 3 };
	gsize len;

	from.flags = NCMP_TCP_SYN;
	len = fake_tcp(&from, bytes);
	kind_of(len, FAKE_IPV4);
	assert_int_equal(ncmp_packet_tcp_length(&packet), 4);
	from.flags = NCMP_TCP_FIN | NCMP_TCP_ACK;
	from.len = 0;
	len = fake_tcp(&from, bytes);
	kind_of(len, FAKE_IPV4);
	assert_int_equal(ncmp_packet_tcp_length(&packet), 1);
	from.flags = NCMP_TCP_ACK | NCMP_TCP_RST;
	len = fake_tcp(&from, bytes);
	kind_of(len, FAKE_IPV4);
	assert_int_equal(ncmp_packet_tcp_length(&packet), 0);
}

static void checksums_of_any_length_are_right(void **state)
{
	g_autofree guint8 *data = g_malloc(65000);
	struct fake_packet from = { .data = data, .flags = NCMP_TCP_ACK };

	for (guint i = 0; i < 65000; i++)
		data[i] = (guint8)(0xff - i % 7);
	for (gsize n = 0; n < 65000; n = n < 40 ? n + 1 : n * 3 + 1) {
		for (from.ipv6 = 0; from.ipv6 < 2; from.ipv6++) {
			gsize ip = from.ipv6 ? 40 : 20, len;

			from.len = n;
			len = fake_tcp(&from, bytes);
			assert_true(fake_tcp_checksum_is_right(bytes, len));
			kind_of(len, fake_ethertype(&from));
			bytes[ip + 16] ^= 0x5a;
			bytes[ip + 17] ^= 0xa5;
			ncmp_packet_tcp_checksum(&packet, bytes);
			assert_true(fake_tcp_checksum_is_right(bytes, len));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tcp_segment_says_all),
		cmocka_unit_test(ethernet_padding_is_no_payload),
		cmocka_unit_test(vlan_tags_are_part_of_the_flow),
		cmocka_unit_test(arp_and_neighbour_discovery_pass),
		cmocka_unit_test(an_echo_is_known_by_its_identifier),
		cmocka_unit_test(fragments_are_opaque_the_first_one_too),
		cmocka_unit_test(extension_headers_are_stepped_over),
		cmocka_unit_test(endless_extension_headers_are_opaque),
		cmocka_unit_test(what_is_not_ip_is_opaque),
		cmocka_unit_test(other_protocols_are_compared_whole),
		cmocka_unit_test(a_source_route_is_opaque),
		cmocka_unit_test(lengths_that_lie_are_malformed),
		cmocka_unit_test(broken_options_end_the_options),
		cmocka_unit_test(sack_said_twice_is_malformed),
		cmocka_unit_test(the_stream_moves_on_by_data_and_flags),
		cmocka_unit_test(checksums_of_any_length_are_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
