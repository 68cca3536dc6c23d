/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TCP packet whose acknowledgement is lowered. */
#include "netcompare/lower.h"

#include <string.h>

#define OPTION_NOP 1u
#define OPTION_SACK 5u
#define SACK_BLOCK 8u

static void put32(guint8 *to, guint32 value)
{
	value = GUINT32_TO_BE(value);
	memcpy(to, &value, 4);
}

static guint32 get32(const guint8 *from)
{
	guint32 value;

	memcpy(&value, from, 4);
	return GUINT32_FROM_BE(value);
}

/* Blocks that end at or below the original acknowledgement go; what they leave is
 * padding. */
static void mend_sack(const struct ncmp_packet *packet, guint8 *bytes)
{
	guint8 *option = bytes + packet->sack - 2;
	guint8 *to = option + 2;
	const guint8 *from = packet->bytes + packet->sack;
	guint8 *end = to + packet->sack_blocks * SACK_BLOCK;

	for (guint i = 0; i < packet->sack_blocks; i++, from += SACK_BLOCK) {
		if ((gint32)(get32(from + 4) - packet->ack) <= 0)
			continue;
		memcpy(to, from, SACK_BLOCK);
		to += SACK_BLOCK;
	}
	option[1] = (guint8)(to - option);
	if (to == option + 2)
		to = option;
	memset(to, OPTION_NOP, (gsize)(end - to));
}

/* RFC 1624, over the whole header: an option may begin at an odd offset. */
static void mend_checksum(const struct ncmp_packet *packet, guint8 *bytes)
{
	gsize header = packet->payload - packet->transport;
	guint8 *tcp = bytes + packet->transport;
	guint16 checksum = (guint16)(tcp[16] << 8 | tcp[17]);
	guint16 old, new;

	/* Both sums have the same checksum field in them, which thus cancels out. */
	old = ncmp_checksum_fold(
		ncmp_checksum_add(0, packet->bytes + packet->transport, header));
	new = ncmp_checksum_fold(ncmp_checksum_add(0, tcp, header));
	checksum =
		ncmp_checksum_fold((guint32)(guint16)~checksum + old + (guint16) ~new);
	tcp[16] = (guint8)(checksum >> 8);
	tcp[17] = (guint8)checksum;
}

/* Rounded up: by less than a unit of the window the guest is said to take more than it said.
 * Where the client did not agree to scale, the window grows by too little. */
static void keep_edge(const struct ncmp_packet *packet, guint8 *bytes, guint32 lowered_by,
		      guint scale)
{
	const guint64 unit = G_GUINT64_CONSTANT(1) << scale;
	const guint64 window = MIN(packet->window + (lowered_by + unit - 1) / unit, G_MAXUINT16);

	bytes[packet->transport + 14] = (guint8)(window >> 8);
	bytes[packet->transport + 15] = (guint8)window;
}

void ncmp_lower_ack(const struct ncmp_packet *packet, guint8 *bytes, guint32 ack, guint scale,
		    gboolean partial)
{
	put32(bytes + packet->transport + 8, ack);
	if (scale != NCMP_SCALE_UNKNOWN && !(packet->flags & NCMP_TCP_SYN))
		keep_edge(packet, bytes, packet->ack - ack, scale);
	if (packet->sack)
		mend_sack(packet, bytes);
	if (partial)
		ncmp_packet_tcp_checksum(packet, bytes);
	else
		mend_checksum(packet, bytes);
}
