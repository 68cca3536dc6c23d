/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The addresses of a guest's card: learned from its frames, announced by others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/addresses.h"
#include "checkpoint/announce.h"
#include "tests/unit/fake_port.h"

#define CLAIMED CKPT_ADDRESS_CLAIMED
#define ROUTER CKPT_ADDRESS_ROUTER
#define IP4_A "\xc0\x00\x02\x01" /* 192.0.2.1 */
#define IP4_B "\xc6\x33\x64\x07" /* 198.51.100.7 */
/* 2001:db8::1, 2001:db8::2, fe80::1 */
#define IP6_A "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
#define IP6_B "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
#define IP6_LINK "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
#define MAC_A "\2\0\0\1\2\3"
#define MAC_B "\2\0\0\4\5\6"

struct rig {
	ckpt_addresses *addresses;
	struct fake_port port;
	struct ckpt_address of[CKPT_ADDRESSES_ALL];
	guint count;
};

struct text {
	gsize len;
	guint8 bytes[256];
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->addresses = ckpt_addresses_new();
	fake_port_init(&rig->port, 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	fake_port_clear(&rig->port);
	ckpt_addresses_free(rig->addresses);
	g_free(rig);
	return 0;
}

static void put(struct text *text, const void *bytes, gsize len)
{
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

static void begin(struct text *text, const char *mac, guint vlan, guint type)
{
	guint8 tag[] = { 0x81, 0, (guint8)(0xe0 | vlan >> 8), (guint8)vlan };
	guint8 last[] = { (guint8)(type >> 8), (guint8)type };

	text->len = 0;
	memset(text->bytes, 0, sizeof(text->bytes));
	put(text, "\xff\xff\xff\xff\xff\xff", 6);
	put(text, mac, 6);
	if (vlan)
		put(text, tag, sizeof(tag));
	put(text, last, sizeof(last));
}

/* The guest sends the first `len` bytes of it, behind a header, in odd pieces. */
static void send_part(struct rig *rig, const struct text *text, gsize len)
{
	g_autofree guint8 *exact = g_memdup2(text->bytes, len);
	guint8 header[12] = { 0 };
	gsize first = MIN(len, 17);
	struct iovec iov[] = {
		{ header, sizeof(header) },
		{ exact, first },
		{ exact + first, len - first },
	};

	ckpt_addresses_learn(rig->addresses, iov, G_N_ELEMENTS(iov));
	rig->count = ckpt_addresses_copy(rig->addresses, rig->of);
}

static void send_text(struct rig *rig, const struct text *text)
{
	send_part(rig, text, text->len);
}

static void make_arp(struct text *text, const char *mac, guint vlan, const char *ip)
{
	begin(text, mac, vlan, 0x806);
	put(text, "\0\1\x08\0\6\4\0\1", 8);
	put(text, mac, 6);
	put(text, ip, 4);
	put(text, "\0\0\0\0\0\0\xc0\0\2\xfe", 10);
}

static void send_arp(struct rig *rig, const char *mac, guint vlan, const char *ip)
{
	struct text text;

	make_arp(&text, mac, vlan, ip);
	send_text(rig, &text);
}

static void send_ip4(struct rig *rig, const char *mac, guint vlan, const char *ip)
{
	struct text text;

	begin(&text, mac, vlan, 0x800);
	put(&text, "\x45\0\0\x14\0\0\0\0\x40\x11\0\0", 12);
	put(&text, ip, 4);
	put(&text, "\xc0\0\2\xfe", 4);
	send_text(rig, &text);
}

static void make_ip6(struct text *text, const char *mac, guint vlan, const char *ip,
		     guint next, guint hops)
{
	guint8 bytes[] = { 0x60, 0, 0, 0, 0, 32, (guint8)next, (guint8)hops };

	begin(text, mac, vlan, 0x86dd);
	put(text, bytes, sizeof(bytes));
	put(text, ip, 16);
	put(text, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
}

static void send_ip6(struct rig *rig, const char *mac, guint vlan, const char *ip)
{
	struct text text;

	make_ip6(&text, mac, vlan, ip, 6, 64);
	put(&text, "\0\x50\0\x50\0\0\0\0", 8);
	send_text(rig, &text);
}

static void send_neighbour(struct rig *rig, guint type, guint flags, const char *ip,
			   const char *target, guint hops)
{
	guint8 head[8] = { (guint8)type, [4] = (guint8)flags };
	struct text text;

	make_ip6(&text, MAC_A, 0, ip, 58, hops);
	put(&text, head, sizeof(head));
	put(&text, target, 16);
	send_text(rig, &text);
}

static const struct ckpt_address *find(const struct rig *rig, guint family,
				       const void *ip)
{
	for (guint i = 0; i < rig->count; i++)
		if (rig->of[i].family == family &&
		    !memcmp(rig->of[i].ip, ip, family == 4 ? 4 : 16))
			return &rig->of[i];
	return NULL;
}

static void expect(const struct rig *rig, guint family, const void *ip, guint flags)
{
	const struct ckpt_address *found = find(rig, family, ip);

	assert_non_null(found);
	assert_int_equal(found->flags, flags);
}

static void any_frame_says_a_mac_address(void **state)
{
	struct rig *rig = *state;
	struct text text;

	begin(&text, MAC_A, 0, 0x88cc);
	send_text(rig, &text);
	assert_int_equal(rig->count, 1);
	assert_int_equal(rig->of[0].family, CKPT_ADDRESS_LINK);
	assert_memory_equal(rig->of[0].mac, MAC_A, 6);
	assert_int_equal(wire_get16(rig->of[0].vlan), 0);
	send_text(rig, &text);
	assert_int_equal(rig->count, 1);
	begin(&text, MAC_A, 5, 0x88cc);
	send_text(rig, &text);
	assert_int_equal(rig->count, 2);
	assert_int_equal(wire_get16(rig->of[1].vlan), 5);
}

static void arp_claims_an_address(void **state)
{
	struct rig *rig = *state;

	send_arp(rig, MAC_A, 0, IP4_A);
	assert_int_equal(rig->count, 2);
	expect(rig, 4, IP4_A, CLAIMED);
	assert_memory_equal(find(rig, 4, IP4_A)->mac, MAC_A, 6);
	/* A probe claims nothing. */
	send_arp(rig, MAC_A, 0, "\0\0\0\0");
	assert_int_equal(rig->count, 2);
}

static void an_ip_packet_shows_an_address_without_claiming_it(void **state)
{
	struct rig *rig = *state;

	send_ip4(rig, MAC_A, 0, IP4_A);
	expect(rig, 4, IP4_A, 0);
	send_ip6(rig, MAC_A, 0, IP6_A);
	expect(rig, 6, IP6_A, 0);
	send_arp(rig, MAC_A, 0, IP4_A);
	expect(rig, 4, IP4_A, CLAIMED);
	/* Which is not taken back. */
	send_ip4(rig, MAC_A, 0, IP4_A);
	expect(rig, 4, IP4_A, CLAIMED);
	send_ip6(rig, MAC_A, 0, IP6_LINK);
	expect(rig, 6, IP6_LINK, CLAIMED);
}

static void neighbour_discovery_claims_addresses(void **state)
{
	struct rig *rig = *state;

	/* A solicitation, for somebody else's address. */
	send_neighbour(rig, 135, 0, IP6_A, IP6_B, 255);
	expect(rig, 6, IP6_A, CLAIMED);
	assert_null(find(rig, 6, IP6_B));
	/* An advertisement of its own. */
	send_neighbour(rig, 136, 0x60, IP6_LINK, IP6_B, 255);
	expect(rig, 6, IP6_B, CLAIMED);
	expect(rig, 6, IP6_LINK, CLAIMED);
	/* A solicitation without a source: the address is not its own yet. */
	send_neighbour(rig, 135, 0, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
		       "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x33", 255);
	assert_int_equal(rig->count, 4);
}

static void what_a_router_may_have_forwarded_claims_nothing(void **state)
{
	struct rig *rig = *state;

	send_neighbour(rig, 136, 0x60, IP6_A, IP6_B, 254);
	expect(rig, 6, IP6_A, 0);
	assert_null(find(rig, 6, IP6_B));
	/* An echo request is none of neighbour discovery. */
	send_neighbour(rig, 128, 0, IP6_A, IP6_B, 255);
	expect(rig, 6, IP6_A, 0);
}

static void a_router_is_known_by_what_it_says(void **state)
{
	struct rig *rig = *state;

	send_neighbour(rig, 134, 0, IP6_LINK, IP6_B, 255);
	expect(rig, 6, IP6_LINK, CLAIMED | ROUTER);
	send_neighbour(rig, 135, 0, IP6_LINK, IP6_B, 255);
	expect(rig, 6, IP6_LINK, CLAIMED | ROUTER);
	send_neighbour(rig, 136, 0x60, IP6_LINK, IP6_LINK, 255);
	expect(rig, 6, IP6_LINK, CLAIMED);
	send_neighbour(rig, 136, 0xe0, IP6_LINK, IP6_A, 255);
	expect(rig, 6, IP6_LINK, CLAIMED | ROUTER);
	expect(rig, 6, IP6_A, CLAIMED | ROUTER);
}

static void addresses_behind_a_vlan_tag_are_learned_with_it(void **state)
{
	struct rig *rig = *state;

	send_arp(rig, MAC_A, 0x123, IP4_A);
	send_ip6(rig, MAC_A, 0x123, IP6_A);
	assert_int_equal(rig->count, 3);
	for (guint i = 0; i < rig->count; i++)
		assert_int_equal(wire_get16(rig->of[i].vlan), 0x123);
	/* The same address elsewhere is another one. */
	send_arp(rig, MAC_A, 0, IP4_A);
	assert_int_equal(rig->count, 5);
}

static void what_no_host_has_is_not_learned(void **state)
{
	static const char *const ip4[] = { "\0\0\0\1", "\x7f\0\0\1", "\xe0\0\0\1",
					   "\xff\xff\xff\xff" };
	static const char *const ip6[] = {
		"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
		"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1",
		"\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1",
	};
	struct rig *rig = *state;
	struct text text;

	send_arp(rig, "\0\0\0\0\0\0", 0, IP4_A);
	send_arp(rig, "\1\0\0\1\2\3", 0, IP4_A);
	send_arp(rig, MAC_A, 0xfff, IP4_A);
	assert_int_equal(rig->count, 0);
	for (guint i = 0; i < G_N_ELEMENTS(ip4); i++)
		send_ip4(rig, MAC_A, 0, ip4[i]);
	for (guint i = 0; i < G_N_ELEMENTS(ip6); i++)
		send_ip6(rig, MAC_A, 0, ip6[i]);
	assert_int_equal(rig->count, 1);
	/* Nor from ARP with other than Ethernet and IPv4, nor of another IP version. */
	for (guint i = 14; i < 20; i++) {
		make_arp(&text, MAC_A, 0, IP4_A);
		text.bytes[i] ^= 1;
		send_text(rig, &text);
	}
	make_ip6(&text, MAC_A, 0, IP6_A, 6, 64);
	text.bytes[14] = 0x40;
	send_text(rig, &text);
	/* Nor behind a second tag. */
	make_arp(&text, MAC_A, 0, IP4_A);
	memmove(text.bytes + 20, text.bytes + 12, text.len - 12);
	memcpy(text.bytes + 12, "\x81\0\0\5\x81\0\0\6", 8);
	text.len += 8;
	send_text(rig, &text);
	assert_int_equal(rig->count, 2);
	assert_int_equal(rig->of[1].family, CKPT_ADDRESS_LINK);
}

static void a_frame_cut_anywhere_does_no_harm(void **state)
{
	struct rig *rig = *state;
	struct text text;

	make_arp(&text, MAC_A, 7, IP4_A);
	for (gsize len = 0; len < 18 + 28; len++)
		send_part(rig, &text, len);
	assert_null(find(rig, 4, IP4_A));
	send_part(rig, &text, 18 + 28);
	expect(rig, 4, IP4_A, CLAIMED);
	make_ip6(&text, MAC_A, 0, IP6_A, 58, 255);
	put(&text, "\x88\0\0\0\x60\0\0\0" IP6_B, 24);
	for (gsize len = 0; len < 14 + 40; len++)
		send_part(rig, &text, len);
	assert_null(find(rig, 6, IP6_A));
	for (gsize len = 14 + 40; len < text.len; len++)
		send_part(rig, &text, len);
	expect(rig, 6, IP6_A, CLAIMED);
	assert_null(find(rig, 6, IP6_B));
	send_text(rig, &text);
	expect(rig, 6, IP6_B, CLAIMED);
}

static void those_not_heard_of_for_longest_are_forgotten(void **state)
{
	struct rig *rig = *state;
	char ip[4] = IP4_A;
	char mac[6] = MAC_A;

	for (guint i = 0; i < CKPT_ADDRESSES_MAX; i++) {
		ip[3] = (char)(i + 1);
		mac[5] = (char)i;
		send_ip4(rig, mac, 0, ip);
	}
	assert_int_equal(rig->count, 2 * CKPT_ADDRESSES_MAX);
	/* Heard of again: now it is the second that goes. */
	send_ip4(rig, "\2\0\0\1\2\0", 0, "\xc0\0\2\1");
	send_ip4(rig, MAC_B, 0, IP4_B);
	assert_int_equal(rig->count, 2 * CKPT_ADDRESSES_MAX);
	assert_non_null(find(rig, 4, "\xc0\0\2\1"));
	assert_null(find(rig, 4, "\xc0\0\2\2"));
	assert_non_null(find(rig, 4, IP4_B));
	assert_memory_equal(rig->of[CKPT_ADDRESSES_MAX - 1].mac, MAC_B, 6);
}

static void those_that_are_forwarded_displace_none_that_is_claimed(void **state)
{
	struct rig *rig = *state;
	char ip[4] = "\x0a\0\0\1";

	send_arp(rig, MAC_A, 0, IP4_A);
	for (guint i = 1; i < 200; i++) {
		ip[3] = (char)i;
		send_ip4(rig, MAC_A, 0, ip);
	}
	assert_int_equal(rig->count, 1 + CKPT_ADDRESSES_MAX);
	expect(rig, 4, IP4_A, CLAIMED);
	expect(rig, 4, "\x0a\0\0\xc7", 0);
	/* Where all are claimed, only another claim finds room. */
	for (guint i = 1; i <= CKPT_ADDRESSES_MAX; i++) {
		ip[3] = (char)i;
		send_arp(rig, MAC_A, 0, ip);
	}
	assert_null(find(rig, 4, IP4_A));
	send_ip4(rig, MAC_A, 0, IP4_B);
	assert_null(find(rig, 4, IP4_B));
	send_arp(rig, MAC_A, 0, IP4_B);
	expect(rig, 4, IP4_B, CLAIMED);
	assert_null(find(rig, 4, "\x0a\0\0\1"));
}

static void an_address_belongs_to_the_card_that_claimed_it_last(void **state)
{
	struct rig *rig = *state;

	send_arp(rig, MAC_A, 0, IP4_A);
	send_ip4(rig, MAC_B, 0, IP4_A);
	assert_memory_equal(find(rig, 4, IP4_A)->mac, MAC_A, 6);
	send_arp(rig, MAC_B, 0, IP4_A);
	assert_memory_equal(find(rig, 4, IP4_A)->mac, MAC_B, 6);
	assert_int_equal(rig->count, 3);
}

static void the_other_node_can_be_told_of_them(void **state)
{
	struct rig *rig = *state;
	g_autoptr(ckpt_addresses) there = ckpt_addresses_new();
	struct ckpt_address copied[CKPT_ADDRESSES_ALL];

	send_arp(rig, MAC_A, 0, IP4_A);
	send_arp(rig, MAC_B, 9, IP4_B);
	send_neighbour(rig, 134, 0, IP6_LINK, IP6_B, 255);
	send_ip6(rig, MAC_A, 0, IP6_A);
	for (guint i = 0; i < rig->count; i++)
		assert_true(ckpt_addresses_add(there, &rig->of[i]));
	assert_int_equal(ckpt_addresses_copy(there, copied), rig->count);
	assert_memory_equal(copied, rig->of, rig->count * sizeof(copied[0]));
}

static void what_the_other_node_says_is_judged(void **state)
{
	struct rig *rig = *state;
	struct ckpt_address good = { .family = 4, .flags = CLAIMED, .mac = MAC_A };
	struct ckpt_address bad;

	memcpy(good.ip, IP4_A, 4);
	assert_true(ckpt_addresses_add(rig->addresses, &good));
#define REFUSED(change)                                                 \
	do {                                                            \
		bad = good;                                             \
		change;                                                 \
		assert_false(ckpt_addresses_add(rig->addresses, &bad)); \
	} while (0)
	REFUSED(bad.family = 5);
	REFUSED(bad.family = CKPT_ADDRESS_LINK);
	REFUSED(bad.flags = ROUTER);
	REFUSED(bad.flags = 4);
	REFUSED(bad.vlan = wire_put16(4095));
	REFUSED(bad.vlan = wire_put16(65535));
	REFUSED(bad.mac[0] = 1);
	REFUSED(bad.ip[0] = 127);
	REFUSED(bad.ip[15] = 1);
	REFUSED(bad.family = 6; memset(bad.ip, 0, 16));
#undef REFUSED
	assert_int_equal(ckpt_addresses_copy(rig->addresses, rig->of), 1);
}

/* Announcing. */

/* Frame `index` that was sent must be these bytes, then zeros to the length of an
 * Ethernet frame at least. */
static void expect_sent(const struct rig *rig, guint index, const void *bytes,
			gsize count)
{
	gsize len;
	const guint8 *sent = fake_port_sent(&rig->port, index, &len);

	assert_int_equal(len, MAX(count, 60));
	assert_memory_equal(sent, bytes, count);
	for (gsize i = count; i < len; i++)
		assert_int_equal(sent[i], 0);
}

static void an_ipv4_address_is_announced_by_arp_in_both_forms(void **state)
{
	static const char request[] =
		"\xff\xff\xff\xff\xff\xff" MAC_A "\x08\6"
		"\0\1\x08\0\6\4\0\1" MAC_A IP4_A "\0\0\0\0\0\0" IP4_A;
	static const char reply[] = "\xff\xff\xff\xff\xff\xff" MAC_A "\x08\6"
				    "\0\1\x08\0\6\4\0\2" MAC_A IP4_A MAC_A IP4_A;
	struct rig *rig = *state;

	send_arp(rig, MAC_A, 0, IP4_A);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 2);
	expect_sent(rig, 0, request, sizeof(request) - 1);
	expect_sent(rig, 1, reply, sizeof(reply) - 1);
}

static void an_ipv6_address_is_announced_by_an_advertisement(void **state)
{
	static const char advertisement[] =
		"\x33\x33\0\0\0\1" MAC_A "\x86\xdd\x60\0\0\0\0\x20\x3a\xff" IP6_A
		"\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
		"\x88\0\xf7\x27\x20\0\0\0" IP6_A "\2\1" MAC_A;
	struct rig *rig = *state;

	send_ip6(rig, MAC_A, 0, IP6_A);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 1);
	expect_sent(rig, 0, advertisement, sizeof(advertisement) - 1);
}

static void a_router_says_that_it_still_is_one(void **state)
{
	struct rig *rig = *state;
	gsize len;

	send_neighbour(rig, 134, 0, IP6_LINK, IP6_B, 255);
	send_neighbour(rig, 135, 0, IP6_A, IP6_B, 255);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 2);
	for (guint i = 0; i < 2; i++)
		assert_int_equal(fake_port_sent(&rig->port, i, &len)[14 + 40 + 4],
				 0xa0);
}

static void tags_are_put_where_they_were_learned(void **state)
{
	static const char arp[] = "\xff\xff\xff\xff\xff\xff" MAC_A "\x81\0\1\x23\x08\6"
				  "\0\1\x08\0\6\4\0\1" MAC_A IP4_A "\0\0\0\0\0\0" IP4_A;
	struct rig *rig = *state;
	gsize len;
	const guint8 *sent;

	send_arp(rig, MAC_A, 0x123, IP4_A);
	send_ip6(rig, MAC_A, 0x123, IP6_A);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 3);
	expect_sent(rig, 0, arp, sizeof(arp) - 1);
	sent = fake_port_sent(&rig->port, 2, &len);
	assert_memory_equal(sent + 12, "\x81\0\1\x23\x86\xdd\x60", 7);
	/* The tag is outside of what the checksum is over. */
	assert_memory_equal(sent + 18 + 42, "\xf7\x27", 2);
}

static void a_card_without_ip_is_announced_by_rarp(void **state)
{
	static const char rarp[] =
		"\xff\xff\xff\xff\xff\xff" MAC_B "\x80\x35"
		"\0\1\x08\0\6\4\0\3" MAC_B "\0\0\0\0" MAC_B "\0\0\0\0";
	struct rig *rig = *state;
	struct text text;

	begin(&text, MAC_B, 0, 0x88cc);
	send_text(rig, &text);
	send_arp(rig, MAC_A, 0, IP4_A);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 3);
	expect_sent(rig, 0, rarp, sizeof(rarp) - 1);
}

static void a_guest_that_has_sent_nothing_is_announced_by_its_card(void **state)
{
	static const guint8 mac[] = { 2, 0, 0, 0, 0, 7 };
	struct rig *rig = *state;
	gsize len;

	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 0);
	assert_true(ckpt_announce(rig->addresses, mac, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 1);
	assert_memory_equal(fake_port_sent(&rig->port, 0, &len) + 6, mac, sizeof(mac));
	g_ptr_array_set_size(rig->port.sent, 0);
	/* What it said itself is better. */
	send_arp(rig, MAC_A, 0, IP4_A);
	assert_true(ckpt_announce(rig->addresses, mac, &rig->port.port));
	assert_memory_equal(fake_port_sent(&rig->port, 0, &len) + 28, IP4_A, 4);
}

static void addresses_that_it_may_only_forward_are_not_announced(void **state)
{
	struct rig *rig = *state;
	gsize len;

	send_ip4(rig, MAC_A, 0, IP4_B);
	send_ip6(rig, MAC_A, 0, IP6_B);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	/* As long as nothing better is known, they are. */
	assert_int_equal(rig->port.sent->len, 3);
	g_ptr_array_set_size(rig->port.sent, 0);
	/* A link-local address says nothing of others. */
	send_ip6(rig, MAC_A, 0, IP6_LINK);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 4);
	g_ptr_array_set_size(rig->port.sent, 0);
	send_arp(rig, MAC_A, 0, IP4_A);
	send_neighbour(rig, 135, 0, IP6_A, IP6_B, 255);
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 4);
	assert_memory_equal(fake_port_sent(&rig->port, 0, &len) + 28, IP4_A, 4);
	assert_memory_equal(fake_port_sent(&rig->port, 2, &len) + 22, IP6_LINK, 16);
	assert_memory_equal(fake_port_sent(&rig->port, 3, &len) + 22, IP6_A, 16);
}

static void a_port_without_room_is_said(void **state)
{
	struct rig *rig = *state;

	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	send_arp(rig, MAC_A, 0, IP4_A);
	rig->port.room = 1;
	assert_false(ckpt_announce(rig->addresses, NULL, &rig->port.port));
	assert_int_equal(rig->port.sent->len, 1);
	rig->port.room = 2;
	assert_true(ckpt_announce(rig->addresses, NULL, &rig->port.port));
}

static void wait_for_sent(vmm_loop *loop, const struct rig *rig, guint count)
{
	for (guint i = 0; i < 2000 && rig->port.sent->len < count; i++)
		vmm_loop_iterate(loop, 10);
	assert_int_equal(rig->port.sent->len, count);
}

static void an_announcement_is_repeated_a_few_times(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	ckpt_announcer *announcer;

	send_arp(rig, MAC_A, 0, IP4_A);
	announcer = ckpt_announcer_new(loop, rig->addresses, NULL, &rig->port.port);
	assert_int_equal(rig->port.sent->len, 2);
	wait_for_sent(loop, rig, 4);
	/* With what was learned since. */
	send_arp(rig, MAC_A, 0, IP4_B);
	wait_for_sent(loop, rig, 8);
	wait_for_sent(loop, rig, 12);
	vmm_loop_iterate(loop, 1100);
	assert_int_equal(rig->port.sent->len, 12);
	ckpt_announcer_free(announcer);
	/* One that ends early is silent. */
	announcer = ckpt_announcer_new(loop, rig->addresses, NULL, &rig->port.port);
	ckpt_announcer_free(announcer);
	vmm_loop_iterate(loop, 150);
	assert_int_equal(rig->port.sent->len, 16);
}

static void after_standing_still_nothing_is_announced_at_once(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	ckpt_announcer *announcer;

	send_arp(rig, MAC_A, 0, IP4_A);
	announcer = ckpt_announcer_new(loop, rig->addresses, NULL, &rig->port.port);
	g_usleep(400 * 1000);
	for (guint i = 0; i < 5; i++)
		vmm_loop_iterate(loop, 50);
	assert_int_equal(rig->port.sent->len, 2);
	wait_for_sent(loop, rig, 4);
	ckpt_announcer_free(announcer);
}

static void only_what_is_new_or_another_counts_as_a_change(void **state)
{
	struct rig *rig = *state;
	guint64 changes = ckpt_addresses_changes(rig->addresses);

	send_arp(rig, MAC_A, 0, IP4_A);
	assert_true(ckpt_addresses_changes(rig->addresses) > changes);
	changes = ckpt_addresses_changes(rig->addresses);
	send_arp(rig, MAC_A, 0, IP4_A);
	assert_true(ckpt_addresses_changes(rig->addresses) == changes);
	send_arp(rig, MAC_B, 0, IP4_A);
	assert_true(ckpt_addresses_changes(rig->addresses) > changes);
	changes = ckpt_addresses_changes(rig->addresses);
	send_arp(rig, MAC_B, 0, IP4_B);
	assert_true(ckpt_addresses_changes(rig->addresses) > changes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(any_frame_says_a_mac_address),
		TEST(arp_claims_an_address),
		TEST(an_ip_packet_shows_an_address_without_claiming_it),
		TEST(neighbour_discovery_claims_addresses),
		TEST(what_a_router_may_have_forwarded_claims_nothing),
		TEST(a_guest_that_has_sent_nothing_is_announced_by_its_card),
		TEST(a_router_is_known_by_what_it_says),
		TEST(addresses_behind_a_vlan_tag_are_learned_with_it),
		TEST(what_no_host_has_is_not_learned),
		TEST(a_frame_cut_anywhere_does_no_harm),
		TEST(those_not_heard_of_for_longest_are_forgotten),
		TEST(those_that_are_forwarded_displace_none_that_is_claimed),
		TEST(an_address_belongs_to_the_card_that_claimed_it_last),
		TEST(the_other_node_can_be_told_of_them),
		TEST(what_the_other_node_says_is_judged),
		TEST(an_announcement_is_repeated_a_few_times),
		TEST(after_standing_still_nothing_is_announced_at_once),
		TEST(only_what_is_new_or_another_counts_as_a_change),
		TEST(an_ipv4_address_is_announced_by_arp_in_both_forms),
		TEST(an_ipv6_address_is_announced_by_an_advertisement),
		TEST(a_router_says_that_it_still_is_one),
		TEST(tags_are_put_where_they_were_learned),
		TEST(a_card_without_ip_is_announced_by_rarp),
		TEST(addresses_that_it_may_only_forward_are_not_announced),
		TEST(a_port_without_room_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
