/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams: one of the primary's goes when the secondary has sent an equal one in the
 * same flow, near it in order. Where both have something that the other has not, that
 * may be reordering: only time tells, or a full window.
 */
#include <netinet/in.h>
#include <string.h>

#include "netcompare/engine.h"

#define WINDOW 64u

struct ncmp_datagram {
	GList link; /* of flow->datagram.theirs */
	gsize len;
	guint8 bytes[];
};

/* Checksums may be left to the card, and say nothing else. */
static gsize checksum_at(const struct ncmp_packet *packet, gsize *len)
{
	*len = 2;
	switch (packet->key.protocol) {
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return 6;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 2;
	case IPPROTO_SCTP:
		*len = 4;
		return 8;
	default:
		*len = 0;
		return 0;
	}
}

static gboolean is_same(const struct ncmp_packet *packet, const guint8 *bytes,
			gsize len)
{
	const guint8 *ours = packet->bytes + packet->payload;
	gsize skip, at = checksum_at(packet, &skip);

	if (len != packet->payload_len)
		return FALSE;
	if (len < at + skip)
		return !memcmp(ours, bytes, len);
	return !memcmp(ours, bytes, at) &&
	       !memcmp(ours + at + skip, bytes + at + skip, len - at - skip);
}

static void forget(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_datagram *datagram)
{
	g_queue_unlink(&flow->datagram.theirs, &datagram->link);
	ncmp_charge(compare, flow, -(gssize)(sizeof(*datagram) + datagram->len));
	g_free(datagram);
}

static void set_conflict(ncmp_compare *compare, struct ncmp_flow *flow,
			 gboolean conflict, gint64 now_ns)
{
	struct ncmp_datagram_flow *datagram = &flow->datagram;

	if (datagram->in_conflict)
		g_queue_unlink(&compare->conflicts, &datagram->conflict);
	datagram->in_conflict = conflict ? 1 : 0;
	if (!conflict)
		return;
	datagram->conflict.data = flow;
	datagram->conflict_ns = now_ns;
	g_queue_push_tail_link(&compare->conflicts, &datagram->conflict);
}

static void update(ncmp_compare *compare, struct ncmp_flow *flow, gboolean progress,
		   gint64 now_ns)
{
	gboolean ahead = flow->datagram.theirs.length > 0;
	gboolean conflict = ahead && flow->queue.length > 0 && !flow->stuck;

	ncmp_flow_set_ahead(compare, flow, ahead, progress, now_ns);
	if (!conflict || !flow->datagram.in_conflict || progress)
		set_conflict(compare, flow, conflict, now_ns);
}

void ncmp_datagram_diverge(ncmp_compare *compare, struct ncmp_flow *flow)
{
	const struct ncmp_held *held = flow->queue.head->data;
	const struct ncmp_datagram *theirs = flow->datagram.theirs.head->data;
	const struct ncmp_packet *packet = &held->packet;

	ncmp_diverge(compare, flow,
		     &(struct ncmp_divergence){
			     .cause = NCMP_CAUSE_PAYLOAD,
			     .primary = packet->bytes ? packet->bytes + packet->payload
						      : NULL,
			     .primary_len = packet->bytes ? packet->payload_len : 0,
			     .secondary = theirs->bytes,
			     .secondary_len = theirs->len });
	set_conflict(compare, flow, FALSE, 0);
}

static struct ncmp_datagram *find_theirs(const struct ncmp_flow *flow,
					 const struct ncmp_packet *packet)
{
	GList *link = flow->datagram.theirs.head;

	for (guint i = 0; link && i < WINDOW; i++, link = link->next) {
		struct ncmp_datagram *datagram = link->data;

		if (is_same(packet, datagram->bytes, datagram->len))
			return datagram;
	}
	return NULL;
}

void ncmp_datagram_take(ncmp_compare *compare, struct ncmp_flow *flow,
			struct ncmp_held *held, gint64 now_ns)
{
	struct ncmp_datagram *datagram = NULL;

	if (held->raw && !flow->stuck)
		datagram = find_theirs(flow, &held->packet);
	if (datagram) {
		forget(compare, flow, datagram);
		ncmp_finish(compare, held, NCMP_MATCHED, NULL, now_ns);
		update(compare, flow, TRUE, now_ns);
		return;
	}
	ncmp_wait(compare, flow, &flow->queue, held, now_ns);
	update(compare, flow, FALSE, now_ns);
	if (!flow->stuck && flow->datagram.theirs.length >= WINDOW)
		ncmp_datagram_diverge(compare, flow);
}

static struct ncmp_held *find_ours(const struct ncmp_flow *flow,
				   const struct ncmp_packet *packet)
{
	GList *link = flow->queue.head;

	for (guint i = 0; link && i < WINDOW; i++, link = link->next) {
		struct ncmp_held *held = link->data;

		if (is_same(packet, held->packet.bytes + held->packet.payload,
			    held->packet.payload_len))
			return held;
	}
	return NULL;
}

static void keep(ncmp_compare *compare, struct ncmp_flow *flow,
		 const struct ncmp_packet *packet)
{
	struct ncmp_datagram *datagram;
	gsize size = sizeof(*datagram) + packet->payload_len;

	if (!ncmp_afford(compare, flow, size))
		return;
	datagram = g_malloc(size);
	datagram->link = (GList){ .data = datagram };
	datagram->len = packet->payload_len;
	memcpy(datagram->bytes, packet->bytes + packet->payload, packet->payload_len);
	ncmp_charge(compare, flow, (gssize)size);
	g_queue_push_tail_link(&flow->datagram.theirs, &datagram->link);
}

void ncmp_datagram_secondary(ncmp_compare *compare, struct ncmp_flow *flow,
			     const struct ncmp_packet *packet, gint64 now_ns)
{
	struct ncmp_held *held;

	if (flow->stuck)
		return;
	held = find_ours(flow, packet);
	if (held) {
		ncmp_lag_sample(&compare->lag, now_ns - held->since_ns);
		ncmp_finish(compare, held, NCMP_MATCHED, NULL, now_ns);
		update(compare, flow, TRUE, now_ns);
		return;
	}
	keep(compare, flow, packet);
	update(compare, flow, FALSE, now_ns);
	if (!flow->stuck && flow->queue.length >= WINDOW && flow->datagram.theirs.head)
		ncmp_datagram_diverge(compare, flow);
}

void ncmp_datagram_clear(ncmp_compare *compare, struct ncmp_flow *flow)
{
	while (flow->datagram.theirs.head)
		forget(compare, flow, flow->datagram.theirs.head->data);
	set_conflict(compare, flow, FALSE, 0);
}
