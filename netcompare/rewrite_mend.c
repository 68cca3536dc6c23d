/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers in headers, changed together with the checksum over them (RFC 1624). */
#include "netcompare/rewrite_private.h"

#include <netinet/in.h>
#include <string.h>

#define TCP_CHECKSUM 16u
#define ICMP_CHECKSUM 2u
#define ICMP_LEN 8u
#define IPV4_LEN_MIN 20u
#define IPV6_LEN 40u
#define QUOTED_TCP 8u /* bytes of it that an error quotes at least (RFC 792) */

guint32 ncmp_get32(const guint8 *bytes)
{
	guint32 value;

	memcpy(&value, bytes, 4);
	return GUINT32_FROM_BE(value);
}

static guint16 get16(const guint8 *bytes)
{
	return (guint16)(bytes[0] << 8 | bytes[1]);
}

static void put32(guint8 *bytes, guint32 value)
{
	value = GUINT32_TO_BE(value);
	memcpy(bytes, &value, 4);
}

static guint16 fold(guint32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (guint16)((sum & 0xffff) + (sum >> 16));
}

/* Bytes at an odd offset are summed as the other halves of their words: their sum with
 * its bytes swapped (RFC 1071, 2). */
static void mend_checksum(guint8 *checksum, guint32 old, guint32 value, gboolean odd)
{
	guint16 change =
		fold((~old >> 16) + (~old & 0xffff) + (value >> 16) + (value & 0xffff));
	guint16 mended;

	if (odd)
		change = (guint16)(change << 8 | change >> 8);
	mended = (guint16)~fold((guint16)~get16(checksum) + (guint32)change);
	checksum[0] = (guint8)(mended >> 8);
	checksum[1] = (guint8)mended;
}

void ncmp_mend32(struct ncmp_mend *mend, gsize offset, guint32 value)
{
	guint32 old = ncmp_get32(mend->tcp + offset);

	if (value == old)
		return;
	put32(mend->tcp + offset, value);
	if (!mend->partial)
		mend_checksum(mend->tcp + TCP_CHECKSUM, old, value, offset & 1);
	mend->changed = TRUE;
}

void ncmp_mend_icmp32(guint8 *icmp, gsize offset, guint32 value)
{
	guint32 old = ncmp_get32(icmp + offset);

	put32(icmp + offset, value);
	mend_checksum(icmp + ICMP_CHECKSUM, old, value, offset & 1);
}

static gboolean is_error(const struct ncmp_packet *packet)
{
	guint8 type = packet->bytes[packet->transport];

	if (packet->key.protocol == IPPROTO_ICMP)
		return type == 3 || type == 4 || type == 11 || type == 12;
	/* Of ICMPv6 all errors are below 128; these quote what was sent. */
	return type >= 1 && type <= 4;
}

gsize ncmp_quoted(const struct ncmp_packet *packet, struct ncmp_flow_key *key)
{
	gboolean v6 = packet->key.family == 6;
	gsize at = packet->transport + ICMP_LEN;
	const guint8 *ip = packet->bytes + at;
	gsize header;

	if (packet->key.protocol != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) ||
	    packet->len < at + (v6 ? IPV6_LEN : IPV4_LEN_MIN) || !is_error(packet))
		return 0;
	*key = packet->key;
	memset(key->source, 0, sizeof(key->source));
	memset(key->target, 0, sizeof(key->target));
	key->protocol = IPPROTO_TCP;
	if (v6) {
		header = IPV6_LEN;
		if (ip[0] >> 4 != 6 || ip[6] != IPPROTO_TCP)
			return 0;
		memcpy(key->source, ip + 8, 16);
		memcpy(key->target, ip + 24, 16);
	} else {
		header = (ip[0] & 0xf) * 4u;
		if (ip[0] >> 4 != 4 || header < IPV4_LEN_MIN || ip[9] != IPPROTO_TCP ||
		    get16(ip + 6) & 0x1fff)
			return 0;
		memcpy(key->source, ip + 12, 4);
		memcpy(key->target, ip + 16, 4);
	}
	at += header;
	if (packet->len < at + QUOTED_TCP)
		return 0;
	key->source_port = get16(packet->bytes + at);
	key->target_port = get16(packet->bytes + at + 2);
	return at + 4;
}
