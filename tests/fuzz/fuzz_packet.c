/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a packet: what is said of them lies within them, and an acknowledgement
 * can be lowered without another byte of the packet changing. */
#include "netcompare/packet.h"

#include <string.h>

#include "netcompare/lower.h"
#include "tests/fuzz/harness.h"

static void check_tcp(const struct ncmp_packet *packet)
{
	g_autofree guint8 *copy = g_memdup2(packet->bytes, packet->len);
	gsize header = packet->payload - packet->transport;
	struct ncmp_packet changed;
	guint16 ethertype = packet->key.family == 4 ? 0x0800 : 0x86dd;

	g_assert(header >= 20 && header <= 60);
	if (packet->timestamps)
		g_assert(packet->timestamps + 8 <= packet->payload);
	if (packet->sack)
		g_assert(packet->sack_blocks &&
			 packet->sack + 8u * packet->sack_blocks <= packet->payload);
	/* Made right first, mended after that, made anew: the same. */
	ncmp_packet_tcp_checksum(packet, copy);
	ncmp_packet_parse(&changed, copy, packet->len, ethertype, 0, 0);
	if (changed.kind != NCMP_KIND_TCP)
		return; /* its checksum was in an extension header's place */

	g_autofree guint8 *mended = g_memdup2(copy, packet->len);
	g_autofree guint8 *made = g_memdup2(copy, packet->len);

	g_assert(packet->window_scale <= 14);
	ncmp_lower_ack(&changed, mended, packet->ack - 1000, packet->window_scale, FALSE);
	ncmp_lower_ack(&changed, made, packet->ack - 1000, packet->window_scale, TRUE);
	/* Zero has two forms. */
	guint8 *sum = made + packet->transport + 16;
	if (memcmp(sum, mended + packet->transport + 16, 2)) {
		g_assert((sum[0] == 0 && sum[1] == 0) ||
			 (sum[0] == 0xff && sum[1] == 0xff));
		memcpy(sum, mended + packet->transport + 16, 2);
	}
	g_assert(!memcmp(mended, made, packet->len));
	g_assert(!memcmp(mended + packet->payload, copy + packet->payload,
			 packet->payload_len));
}

static void check(const struct ncmp_packet *packet, const guint8 *bytes, gsize len)
{
	guint sum = 0;

	g_assert(packet->bytes >= bytes && packet->bytes + packet->len <= bytes + len);
	if (packet->kind != NCMP_KIND_TCP && packet->kind != NCMP_KIND_DATAGRAM)
		return;
	g_assert(packet->key.family == 4 || packet->key.family == 6);
	g_assert(packet->transport <= packet->payload);
	g_assert(packet->payload + packet->payload_len == packet->len);
	for (gsize i = 0; i < packet->len; i++)
		sum += packet->bytes[i];
	g_assert(sum < G_MAXUINT);
	if (packet->kind == NCMP_KIND_TCP)
		check_tcp(packet);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	static const guint16 types[] = { 0x0800, 0x86dd, 0x0806, 0x8100 };
	struct fuzz_input input = { data, size };
	guint8 how = fuzz_u8(&input);
	struct ncmp_packet packet;
	/* Exactly as long as it is. */
	g_autofree guint8 *exact = g_malloc(input.left + 1);
	guint8 *bytes = exact + 1;
	gsize len = fuzz_bytes(&input, bytes, input.left);

	if (how & 1)
		ncmp_packet_parse_frame(&packet, bytes, len, 0);
	else
		ncmp_packet_parse(&packet, bytes, len, types[how >> 1 & 3], 0, 0);
	check(&packet, bytes, len);
	return 0;
}
