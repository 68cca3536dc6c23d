/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP, what is known of a connection: its numbers, which positions are matched, where
 * it begins and ends, and what of that outlives an epoch. */
#include "netcompare/tcp.h"

guint64 ncmp_tcp_position(guint32 base, guint64 top, guint32 seq)
{
	guint32 top_seq = base + (guint32)(top - NCMP_ORIGIN);

	return top + (guint64)(gint64)(gint32)(seq - top_seq);
}

guint64 ncmp_tcp_position_of(const struct ncmp_tcp_flow *tcp,
			     const struct ncmp_packet *packet)
{
	return ncmp_tcp_position(tcp->base, tcp->top, packet->seq);
}

guint64 ncmp_tcp_matched_end(const struct ncmp_flow *flow)
{
	return MAX(ncmp_ranges_end(&flow->tcp.matched), NCMP_ORIGIN) - NCMP_ORIGIN;
}

gboolean ncmp_tcp_is_pure(const struct ncmp_packet *packet)
{
	return !packet->payload_len &&
	       (packet->flags & (NCMP_TCP_SYN | NCMP_TCP_FIN | NCMP_TCP_RST |
				 NCMP_TCP_URG | NCMP_TCP_ACK)) == NCMP_TCP_ACK;
}

gboolean ncmp_tcp_is_matched(const struct ncmp_tcp_flow *tcp, guint64 from, guint64 to)
{
	struct ncmp_range gap;

	return !ncmp_ranges_gap(&tcp->matched, from, to, &gap);
}

gboolean ncmp_tcp_add_matched(ncmp_compare *compare, struct ncmp_flow *flow,
			      guint64 from, guint64 to)
{
	struct ncmp_ranges *matched = &flow->tcp.matched;
	gsize before = ncmp_ranges_memory(matched);
	gboolean added = ncmp_ranges_add(matched, from, to);

	ncmp_charge(compare, flow, (gssize)(ncmp_ranges_memory(matched) - before));
	return added;
}

static void clear_matched(ncmp_compare *compare, struct ncmp_flow *flow)
{
	struct ncmp_ranges *matched = &flow->tcp.matched;

	ncmp_charge(compare, flow, -(gssize)ncmp_ranges_memory(matched));
	ncmp_ranges_clear(matched);
}

/* A connection whose SYN the primary sent in this epoch. */
static void begin(ncmp_compare *compare, struct ncmp_flow *flow,
		  const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;

	clear_matched(compare, flow);
	tcp->base = packet->seq;
	tcp->based = tcp->born = 1;
	tcp->top = tcp->start = NCMP_ORIGIN;
	tcp->fin = tcp->urgent = 0;
	tcp->has_ack = tcp->has_floor = tcp->has_released = 0;
	tcp->syn_flags = packet->flags & (NCMP_TCP_SYN | NCMP_TCP_ACK);
	tcp->window_scale = packet->window_scale;
}

/* Another one with the same addresses and ports follows one that the secondary's guest
 * has left, too; what it sent on the next one was kept as the heir's. */
static void begin_again(ncmp_compare *compare, struct ncmp_flow *flow,
			const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;

	if (ncmp_tcp_is_ahead(flow) && tcp->twin.stream.first)
		ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MISSING,
				   ncmp_tcp_matched_end(flow));
	ncmp_twin_clear(compare, flow, &tcp->twin);
	if (tcp->heir) {
		tcp->twin = *tcp->heir;
		g_clear_pointer(&tcp->heir, g_free);
		ncmp_charge(compare, flow, -(gssize)sizeof(*tcp->heir));
	}
	/* They speak of the one before. */
	while (tcp->acks.head)
		ncmp_finish(compare, tcp->acks.head->data, NCMP_DROPPED, NULL, 0);
	begin(compare, flow, packet);
}

/* Finds the numbers of what the primary sends. FALSE: it begins another connection, and
 * the secondary has not yet. */
gboolean ncmp_tcp_settle(ncmp_compare *compare, struct ncmp_flow *flow,
			 const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	struct ncmp_twin *twin = &tcp->twin;
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);

	if (!tcp->based && syn && (!twin->based || twin->syn_flags)) {
		begin(compare, flow, packet);
		return TRUE;
	}
	if (!tcp->based) {
		tcp->base = twin->based ? twin->base : packet->seq;
		tcp->based = 1;
		tcp->top = NCMP_ORIGIN;
		tcp->top = tcp->start = ncmp_tcp_position_of(tcp, packet);
		if (!twin->based) {
			twin->based = 1;
			twin->base = tcp->base;
			twin->top = NCMP_ORIGIN;
		}
	}
	if (!syn || (tcp->syn_flags && packet->seq == tcp->base))
		return TRUE;
	if (!tcp->heir && twin->seen)
		return FALSE;
	begin_again(compare, flow, packet);
	return TRUE;
}

void ncmp_tcp_note_ack(struct ncmp_tcp_flow *tcp, const struct ncmp_packet *packet)
{
	if (!(packet->flags & NCMP_TCP_ACK))
		return;
	if (!tcp->has_ack || ncmp_seq_is_after(packet->ack, tcp->ack))
		tcp->ack = packet->ack;
	tcp->has_ack = 1;
}

void ncmp_tcp_note_released_ack(struct ncmp_tcp_flow *tcp, guint32 ack)
{
	if (!tcp->has_released || ncmp_seq_is_after(ack, tcp->released_ack))
		tcp->released_ack = ack;
	tcp->has_released = 1;
}

void ncmp_tcp_note_end(ncmp_compare *compare, struct ncmp_flow *flow,
		       const struct ncmp_packet *packet, gint64 now_ns)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	gboolean brief = flow->brief;

	if (packet->flags & NCMP_TCP_RST ||
	    (tcp->fin && ncmp_tcp_is_matched(tcp, tcp->fin, tcp->fin + 1)))
		brief = TRUE;
	else if (packet->flags & NCMP_TCP_SYN)
		brief = FALSE;
	if (brief != flow->brief)
		ncmp_table_touch(&compare->table, flow, brief, now_ns);
}

/* Sent before the commit: matched by it, whatever the secondary says. */
void ncmp_tcp_cover(ncmp_compare *compare, struct ncmp_flow *flow,
		    const struct ncmp_packet *packet, gint64 now_ns)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	struct ncmp_twin *twin = &tcp->twin;
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);
	guint64 at, end;

	/* The secondary is on the next connection already: that one counts. */
	if (twin->syn_flags && !tcp->based && (!syn || packet->seq != twin->base))
		return;
	if (syn && !(tcp->based && tcp->syn_flags && packet->seq == tcp->base)) {
		if (twin->seen && twin->based && packet->seq != twin->base)
			return;
		if (!twin->seen)
			ncmp_twin_clear(compare, flow, twin);
		begin(compare, flow, packet);
	} else {
		ncmp_tcp_settle(compare, flow, packet);
	}
	ncmp_tcp_note_ack(tcp, packet);
	tcp->floor = tcp->ack;
	tcp->has_floor = tcp->has_ack;
	if (packet->flags & NCMP_TCP_ACK)
		ncmp_tcp_note_released_ack(tcp, packet->ack);
	if (!(packet->flags & NCMP_TCP_RST)) {
		at = ncmp_tcp_position_of(tcp, packet);
		end = at + ncmp_packet_tcp_length(packet);
		/* Too many holes: what is before it was sent before it, by any real
		 * guest. */
		if (!ncmp_tcp_add_matched(compare, flow, at, end)) {
			clear_matched(compare, flow);
			if (!ncmp_tcp_add_matched(compare, flow, tcp->start, end))
				g_assert_not_reached();
		}
		tcp->top = MAX(tcp->top, end);
		if (packet->flags & NCMP_TCP_FIN)
			tcp->fin = end - 1;
		if (packet->flags & NCMP_TCP_URG)
			tcp->urgent = at + packet->urgent;
	}
	ncmp_tcp_note_end(compare, flow, packet, now_ns);
	/* Both sides' numbers are the same from here on. */
	tcp->born = 0;
	if (!twin->seen) {
		twin->based = 1;
		twin->base = tcp->base;
		twin->top = tcp->top;
	}
}

void ncmp_tcp_turn(ncmp_compare *compare, struct ncmp_flow *flow)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;

	ncmp_twin_clear(compare, flow, &tcp->twin);
	if (tcp->heir) {
		ncmp_twin_clear(compare, flow, tcp->heir);
		g_clear_pointer(&tcp->heir, g_free);
		ncmp_charge(compare, flow, -(gssize)sizeof(*tcp->heir));
	}
	tcp->born = 0;
	tcp->floor = tcp->ack;
	tcp->has_floor = tcp->has_ack;
	tcp->twin.based = tcp->based;
	tcp->twin.base = tcp->base;
	tcp->twin.top = tcp->top;
}

void ncmp_tcp_clear(ncmp_compare *compare, struct ncmp_flow *flow)
{
	ncmp_tcp_turn(compare, flow);
	clear_matched(compare, flow);
}
