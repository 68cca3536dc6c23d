/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets as guests send them, made for tests. Sums are computed byte by byte, unlike
 * in what is tested. */
#include "tests/unit/fake_packet.h"

#include <netinet/in.h>
#include <string.h>

static void put16(guint8 *to, guint32 value)
{
	to[0] = (guint8)(value >> 8);
	to[1] = (guint8)value;
}

static void put32(guint8 *to, guint32 value)
{
	put16(to, value >> 16);
	put16(to + 2, value);
}

static guint16 ones_sum(const guint8 *bytes, gsize len, guint32 sum)
{
	for (gsize i = 0; i < len; i++) {
		sum += i & 1 ? bytes[i] : (guint32)bytes[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (guint16)sum;
}

static guint16 transport_sum(const guint8 *packet, gsize len)
{
	gboolean v6 = packet[0] >> 4 == 6;
	gsize header = v6 ? 40 : 20;
	guint32 sum = (v6 ? packet[6] : packet[9]) + (guint32)(len - header);

	sum = ones_sum(packet + (v6 ? 8 : 12), v6 ? 32 : 8, sum & 0xffff) + (sum >> 16);
	return ones_sum(packet + header, len - header, sum);
}

/* Writes the header, returns its length. */
static gsize ip_header(const struct fake_packet *from, guint8 protocol, gsize len,
		       guint8 *to)
{
	guint8 host = from->host ? from->host : 1, peer = from->peer ? from->peer : 2;
	guint8 ttl = from->ttl ? from->ttl : 64;

	if (from->ipv6) {
		memset(to, 0, 40);
		to[0] = 0x60;
		put16(to + 4, (guint32)len);
		to[6] = protocol;
		to[7] = ttl;
		to[8] = to[24] = 0xfd;
		to[23] = host;
		to[39] = peer;
		return 40;
	}
	memset(to, 0, 20);
	to[0] = 0x45;
	put16(to + 2, (guint32)len + 20);
	put16(to + 4, from->ip_id);
	to[8] = ttl;
	to[9] = protocol;
	to[12] = to[16] = 10;
	to[15] = host;
	to[19] = peer;
	put16(to + 10, (guint16)~ones_sum(to, 20, 0));
	return 20;
}

gsize fake_tcp(const struct fake_packet *from, guint8 *to)
{
	gsize header = 20 + from->options_len;
	gsize ip = ip_header(from, IPPROTO_TCP, header + from->len, to);
	guint8 *tcp = to + ip;

	memset(tcp, 0, 20);
	put16(tcp, from->source_port);
	put16(tcp + 2, from->target_port);
	put32(tcp + 4, from->seq);
	put32(tcp + 8, from->ack);
	tcp[12] = (guint8)(header / 4 << 4);
	tcp[13] = from->flags;
	put16(tcp + 14, from->window);
	put16(tcp + 18, from->urgent);
	if (from->options_len)
		memcpy(tcp + 20, from->options, from->options_len);
	if (from->len)
		memcpy(tcp + header, from->data, from->len);
	put16(tcp + 16, (guint16)~transport_sum(to, ip + header + from->len));
	return ip + header + from->len;
}

gsize fake_udp(const struct fake_packet *from, guint8 *to)
{
	gsize ip = ip_header(from, IPPROTO_UDP, 8 + from->len, to);
	guint8 *udp = to + ip;

	put16(udp, from->source_port);
	put16(udp + 2, from->target_port);
	put16(udp + 4, 8 + (guint32)from->len);
	put16(udp + 6, 0);
	if (from->len)
		memcpy(udp + 8, from->data, from->len);
	put16(udp + 6, (guint16)~transport_sum(to, ip + 8 + from->len));
	return ip + 8 + from->len;
}

gsize fake_ip(const struct fake_packet *from, guint8 *to)
{
	gsize ip = ip_header(from, from->protocol, from->len, to);

	if (from->len)
		memcpy(to + ip, from->data, from->len);
	return ip + from->len;
}

gsize fake_icmp(const struct fake_packet *from, guint8 type, guint8 *to)
{
	guint8 protocol = from->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	gsize ip = ip_header(from, protocol, 4 + from->len, to);

	memset(to + ip, 0, 4);
	to[ip] = type;
	if (from->len)
		memcpy(to + ip + 4, from->data, from->len);
	put16(to + ip + 2, (guint16)~ones_sum(to + ip, 4 + from->len, 0));
	return ip + 4 + from->len;
}

gsize fake_frame(const guint8 *packet, gsize len, guint16 ethertype, guint16 vlan,
		 gsize least, guint8 padding, guint8 *to)
{
	gsize at = 12;

	memcpy(to, "\x52\x54\x00\x00\x00\x02\x52\x54\x00\x00\x00\x01", 12);
	if (vlan) {
		put16(to + at, 0x8100);
		put16(to + at + 2, vlan);
		at += 4;
	}
	put16(to + at, ethertype);
	memcpy(to + at + 2, packet, len);
	len += at + 2;
	while (len < least)
		to[len++] = padding;
	return len;
}

guint16 fake_ethertype(const struct fake_packet *from)
{
	return from->ipv6 ? FAKE_IPV6 : FAKE_IPV4;
}

gboolean fake_tcp_checksum_is_right(const guint8 *packet, gsize len)
{
	return transport_sum(packet, len) == 0xffff;
}
