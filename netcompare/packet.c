/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a packet says, as far as comparing and rewriting need it. */
#include "netcompare/packet.h"

#include <netinet/in.h>
#include <string.h>

#define ETHERNET_LEN 14u
#define TYPE_IPV4 0x0800u
#define TYPE_ARP 0x0806u
#define TYPE_IPV6 0x86ddu
#define TYPE_VLAN 0x8100u /* 802.1Q */
#define TYPE_SERVICE_VLAN 0x88a8u /* 802.1ad */
#define VLAN_LEN 4u

#define IPV4_LEN_MIN 20u
#define IPV4_MORE_FRAGMENTS 0x2000u
#define IPV4_OFFSET 0x1fffu
#define IPV4_OPTION_LSRR 131u
#define IPV4_OPTION_SSRR 137u
#define IPV6_LEN 40u
#define IPV6_EXTENSIONS_MAX 8u

#define TCP_LEN_MIN 20u
#define TCP_OPTION_END 0u
#define TCP_OPTION_NOP 1u
#define TCP_OPTION_SCALE 3u
#define TCP_OPTION_SACK 5u
#define TCP_OPTION_TIMESTAMPS 8u
#define SCALE_MAX 14u
#define UDP_LEN_MIN 8u
#define ICMP_LEN_MIN 8u
#define ICMP_ECHO_REPLY 0u
#define ICMP_ECHO 8u
#define ICMP6_LEN_MIN 4u
#define ICMP6_ECHO 128u
#define ICMP6_ECHO_REPLY 129u
#define ND_ROUTER_SOLICIT 133u
#define ND_SOLICIT 135u
#define ND_ADVERT 136u

static guint16 be16(const guint8 *bytes)
{
	return (guint16)(bytes[0] << 8 | bytes[1]);
}

static guint32 be32(const guint8 *bytes)
{
	return (guint32)be16(bytes) << 16 | be16(bytes + 2);
}

/* Options end where one is broken, as they do for those who receive them. FALSE: one of
 * those that must be mended is there twice. */
static gboolean parse_tcp_options(struct ncmp_packet *packet)
{
	const guint8 *bytes = packet->bytes;
	gsize at = packet->transport + TCP_LEN_MIN;

	while (at < packet->payload && bytes[at] != TCP_OPTION_END) {
		guint8 len;

		if (bytes[at] == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (packet->payload - at < 2)
			return TRUE;
		len = bytes[at + 1];
		if (len < 2 || len > packet->payload - at)
			return TRUE;
		if (bytes[at] == TCP_OPTION_TIMESTAMPS && len == 10) {
			if (packet->timestamps)
				return FALSE;
			packet->timestamps = at + 2;
		} else if (bytes[at] == TCP_OPTION_SACK && len > 2 && len % 8 == 2) {
			if (packet->sack)
				return FALSE;
			packet->sack = at + 2;
			packet->sack_blocks = len / 8u;
		} else if (bytes[at] == TCP_OPTION_SCALE && len == 3 &&
			   packet->flags & NCMP_TCP_SYN) {
			packet->window_scale = MIN(bytes[at + 2], SCALE_MAX);
		}
		at += len;
	}
	return TRUE;
}

static enum ncmp_kind parse_tcp(struct ncmp_packet *packet)
{
	const guint8 *tcp = packet->bytes + packet->transport;
	gsize left = packet->len - packet->transport;
	gsize header;

	if (left < TCP_LEN_MIN)
		return NCMP_KIND_MALFORMED;
	header = (tcp[12] >> 4) * 4u;
	if (header < TCP_LEN_MIN || header > left)
		return NCMP_KIND_MALFORMED;
	packet->key.source_port = be16(tcp);
	packet->key.target_port = be16(tcp + 2);
	packet->seq = be32(tcp + 4);
	packet->ack = be32(tcp + 8);
	packet->flags = tcp[13] & 0x3f;
	packet->window = be16(tcp + 14);
	packet->urgent = be16(tcp + 18);
	packet->payload = packet->transport + header;
	packet->payload_len = left - header;
	return parse_tcp_options(packet) ? NCMP_KIND_TCP : NCMP_KIND_MALFORMED;
}

static enum ncmp_kind parse_udp(struct ncmp_packet *packet)
{
	const guint8 *udp = packet->bytes + packet->transport;
	guint16 len;

	if (packet->payload_len < UDP_LEN_MIN)
		return NCMP_KIND_MALFORMED;
	len = be16(udp + 4);
	if (len < UDP_LEN_MIN || len > packet->payload_len)
		return NCMP_KIND_MALFORMED;
	packet->key.source_port = be16(udp);
	packet->key.target_port = be16(udp + 2);
	return NCMP_KIND_DATAGRAM;
}

static enum ncmp_kind parse_icmp(struct ncmp_packet *packet)
{
	const guint8 *icmp = packet->bytes + packet->transport;

	if (packet->payload_len < ICMP_LEN_MIN)
		return NCMP_KIND_MALFORMED;
	if (icmp[0] == ICMP_ECHO || icmp[0] == ICMP_ECHO_REPLY)
		packet->key.target_port = be16(icmp + 4);
	return NCMP_KIND_DATAGRAM;
}

/* Router advertisements and redirects are not among those that pass: a guest that sends
 * them is a router, and they are what it does. */
static enum ncmp_kind parse_icmp6(struct ncmp_packet *packet)
{
	const guint8 *icmp = packet->bytes + packet->transport;

	if (packet->payload_len < ICMP6_LEN_MIN)
		return NCMP_KIND_MALFORMED;
	if (icmp[0] == ND_ROUTER_SOLICIT || icmp[0] == ND_SOLICIT ||
	    icmp[0] == ND_ADVERT) {
		/* Others are taken for neighbour discovery by nobody (RFC 4861). */
		if (packet->bytes[7] == 255 && icmp[1] == 0)
			return NCMP_KIND_PASS;
	} else if (icmp[0] == ICMP6_ECHO || icmp[0] == ICMP6_ECHO_REPLY) {
		if (packet->payload_len < ICMP_LEN_MIN)
			return NCMP_KIND_MALFORMED;
		packet->key.target_port = be16(icmp + 4);
	}
	return NCMP_KIND_DATAGRAM;
}

static enum ncmp_kind parse_transport(struct ncmp_packet *packet)
{
	packet->payload = packet->transport;
	packet->payload_len = packet->len - packet->transport;
	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		return parse_tcp(packet);
	case IPPROTO_UDP:
		return parse_udp(packet);
	case IPPROTO_ICMP:
		return packet->key.family == 4 ? parse_icmp(packet)
					       : NCMP_KIND_DATAGRAM;
	case IPPROTO_ICMPV6:
		return packet->key.family == 6 ? parse_icmp6(packet)
					       : NCMP_KIND_DATAGRAM;
	default:
		return NCMP_KIND_DATAGRAM;
	}
}

/* With a source route the header's target is not the one that checksums are made with.
 */
static gboolean has_source_route(const guint8 *ip, gsize header)
{
	gsize at = IPV4_LEN_MIN;

	while (at < header && ip[at] != 0) {
		if (ip[at] == 1) {
			at++;
			continue;
		}
		if (ip[at] == IPV4_OPTION_LSRR || ip[at] == IPV4_OPTION_SSRR)
			return TRUE;
		if (header - at < 2 || ip[at + 1] < 2)
			return FALSE;
		at += ip[at + 1];
	}
	return FALSE;
}

static enum ncmp_kind parse_ipv4(struct ncmp_packet *packet)
{
	const guint8 *ip = packet->bytes;
	gsize header, total;

	if (packet->len < IPV4_LEN_MIN || ip[0] >> 4 != 4)
		return NCMP_KIND_MALFORMED;
	header = (ip[0] & 0xf) * 4u;
	total = be16(ip + 2);
	if (header < IPV4_LEN_MIN || total < header || total > packet->len)
		return NCMP_KIND_MALFORMED;
	packet->len = total;
	packet->transport = header;
	packet->key.family = 4;
	packet->key.protocol = ip[9];
	memcpy(packet->key.source, ip + 12, 4);
	memcpy(packet->key.target, ip + 16, 4);
	if (be16(ip + 6) & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET))
		return NCMP_KIND_OPAQUE;
	if (has_source_route(ip, header))
		return NCMP_KIND_OPAQUE;
	return parse_transport(packet);
}

/* One extension header; FALSE: what is at `transport` is none that is looked into. */
static gboolean skip_extension(struct ncmp_packet *packet, enum ncmp_kind *kind)
{
	const guint8 *at = packet->bytes + packet->transport;
	gsize left = packet->len - packet->transport;
	guint8 type = packet->key.protocol;
	gsize len;

	if (type != IPPROTO_HOPOPTS && type != IPPROTO_DSTOPTS &&
	    type != IPPROTO_ROUTING && type != IPPROTO_FRAGMENT && type != IPPROTO_AH)
		return FALSE;
	len = left < 8			 ? 8
	      : type == IPPROTO_FRAGMENT ? 8
	      : type == IPPROTO_AH	 ? (at[1] + 2u) * 4u
					 : (at[1] + 1u) * 8u;
	if (len > left) {
		*kind = NCMP_KIND_MALFORMED;
		return FALSE;
	}
	/* Segments are left: the header's target is not the last one. */
	if (type == IPPROTO_ROUTING && at[3])
		*kind = NCMP_KIND_OPAQUE;
	/* An "atomic" one is whole (RFC 6946). */
	if (type == IPPROTO_FRAGMENT && be16(at + 2) & 0xfff9)
		*kind = NCMP_KIND_OPAQUE;
	packet->key.protocol = at[0];
	packet->transport += len;
	return TRUE;
}

static enum ncmp_kind parse_ipv6(struct ncmp_packet *packet)
{
	const guint8 *ip = packet->bytes;
	enum ncmp_kind kind = NCMP_KIND_TCP; /* as yet */
	guint extensions = 0;
	gsize total;

	if (packet->len < IPV6_LEN || ip[0] >> 4 != 6)
		return NCMP_KIND_MALFORMED;
	total = IPV6_LEN + be16(ip + 4);
	if (total > packet->len)
		return NCMP_KIND_MALFORMED;
	packet->key.family = 6;
	packet->key.protocol = ip[6];
	memcpy(packet->key.source, ip + 8, 16);
	memcpy(packet->key.target, ip + 24, 16);
	/* A jumbogram (RFC 2675) says its length elsewhere. */
	if (total == IPV6_LEN && ip[6] == IPPROTO_HOPOPTS)
		return NCMP_KIND_OPAQUE;
	packet->len = total;
	packet->transport = IPV6_LEN;
	while (kind == NCMP_KIND_TCP && skip_extension(packet, &kind))
		if (++extensions > IPV6_EXTENSIONS_MAX)
			return NCMP_KIND_OPAQUE;
	return kind == NCMP_KIND_TCP ? parse_transport(packet) : kind;
}

static enum ncmp_kind parse(struct ncmp_packet *packet, guint16 ethertype)
{
	/* The queue strips one tag only. */
	if (ethertype == TYPE_VLAN || ethertype == TYPE_SERVICE_VLAN) {
		if (packet->len < VLAN_LEN)
			return NCMP_KIND_MALFORMED;
		packet->key.inner_vlan = be16(packet->bytes) & 0xfff;
		ethertype = be16(packet->bytes + 2);
		packet->bytes += VLAN_LEN;
		packet->len -= VLAN_LEN;
	}
	switch (ethertype) {
	case TYPE_ARP:
		return NCMP_KIND_PASS;
	case TYPE_IPV4:
		return parse_ipv4(packet);
	case TYPE_IPV6:
		return parse_ipv6(packet);
	default:
		return NCMP_KIND_OPAQUE;
	}
}

void ncmp_packet_parse(struct ncmp_packet *packet, const guint8 *bytes, gsize len,
		       guint16 ethertype, guint16 vlan, guint8 device)
{
	memset(packet, 0, sizeof(*packet));
	packet->bytes = bytes;
	packet->len = len;
	packet->key.vlan = vlan & 0xfff;
	packet->key.device = device;
	packet->kind = parse(packet, ethertype);
}

void ncmp_packet_parse_frame(struct ncmp_packet *packet, const guint8 *frame, gsize len,
			     guint8 device)
{
	gsize at = ETHERNET_LEN;
	guint16 type, vlan = 0;

	if (len < ETHERNET_LEN)
		goto malformed;
	type = be16(frame + 12);
	if (type == TYPE_VLAN || type == TYPE_SERVICE_VLAN) {
		if (len < ETHERNET_LEN + VLAN_LEN)
			goto malformed;
		vlan = be16(frame + at);
		type = be16(frame + at + 2);
		at += VLAN_LEN;
	}
	ncmp_packet_parse(packet, frame + at, len - at, type, vlan, device);
	return;

malformed:
	memset(packet, 0, sizeof(*packet));
	packet->bytes = frame;
	packet->len = len;
	packet->key.device = device;
	packet->kind = NCMP_KIND_MALFORMED;
}

guint32 ncmp_packet_tcp_length(const struct ncmp_packet *packet)
{
	return (guint32)packet->payload_len + !!(packet->flags & NCMP_TCP_SYN) +
	       !!(packet->flags & NCMP_TCP_FIN);
}

static guint32 fold(guint64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (guint32)sum;
}

/* In the machine's own byte order, swapped once at the end: RFC 1071, 2 (B). */
guint32 ncmp_checksum_add(guint32 sum, const guint8 *bytes, gsize len)
{
	guint64 total = 0;
	guint32 word;
	guint16 half;

	for (; len >= 4; len -= 4, bytes += 4) {
		memcpy(&word, bytes, 4);
		total += word;
	}
	if (len >= 2) {
		memcpy(&half, bytes, 2);
		total += half;
		bytes += 2;
		len -= 2;
	}
	if (len) {
		guint8 last[2] = { *bytes, 0 };

		memcpy(&half, last, 2);
		total += half;
	}
	return fold(sum) + GUINT16_FROM_BE((guint16)fold(total));
}

guint16 ncmp_checksum_fold(guint32 sum)
{
	return (guint16)~fold(sum);
}

void ncmp_packet_tcp_checksum(const struct ncmp_packet *packet, guint8 *bytes)
{
	gsize address_len = packet->key.family == 4 ? 4 : 16;
	guint8 *tcp = bytes + packet->transport;
	gsize len = packet->len - packet->transport;
	guint32 sum = IPPROTO_TCP + (guint32)len;
	guint16 checksum;

	sum = ncmp_checksum_add(sum, packet->key.source, address_len);
	sum = ncmp_checksum_add(sum, packet->key.target, address_len);
	tcp[16] = tcp[17] = 0;
	checksum = ncmp_checksum_fold(ncmp_checksum_add(sum, tcp, len));
	tcp[16] = (guint8)(checksum >> 8);
	tcp[17] = (guint8)checksum;
}
