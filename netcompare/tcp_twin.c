/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP, what the secondary's guest sends: kept by position until the primary's has sent
 * the same. */
#include <string.h>

#include "netcompare/tcp.h"

void ncmp_twin_clear(ncmp_compare *compare, struct ncmp_flow *flow,
		     struct ncmp_twin *twin)
{
	gsize memory = twin->stream.memory + (twin->marks ? sizeof(*twin->marks) : 0);

	ncmp_stream_clear(&twin->stream);
	g_free(twin->marks);
	memset(twin, 0, sizeof(*twin));
	ncmp_charge(compare, flow, -(gssize)memory);
}

/* Which connection's it is: this one, or the next with the same key. NULL: of one that
 * the primary's guest has left, or of too many. */
static struct ncmp_twin *choose(ncmp_compare *compare, struct ncmp_flow *flow,
				const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	struct ncmp_twin *twin = &tcp->twin;
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);

	if (tcp->heir) {
		if (!syn || packet->seq == tcp->heir->base)
			return tcp->heir;
		ncmp_diverge_plain(compare, flow, NCMP_CAUSE_FLAGS, 0);
		return NULL;
	}
	/* Its own numbers are not known before its SYN. */
	if (!syn && !twin->based && tcp->born)
		return NULL;
	if (syn && twin->based &&
	    (packet->seq != twin->base || !(twin->syn_flags || tcp->syn_flags))) {
		if (!ncmp_afford(compare, flow, sizeof(*twin)))
			return NULL;
		tcp->heir = twin = g_new0(struct ncmp_twin, 1);
		ncmp_charge(compare, flow, sizeof(*twin));
	}
	if (!twin->based) {
		twin->based = 1;
		twin->base = packet->seq;
		twin->top = NCMP_ORIGIN;
	}
	return twin;
}

static struct ncmp_marks *marks_of(ncmp_compare *compare, struct ncmp_flow *flow,
				   struct ncmp_twin *twin)
{
	if (twin->marks || !ncmp_afford(compare, flow, sizeof(*twin->marks)))
		return twin->marks;
	twin->marks = g_new0(struct ncmp_marks, 1);
	ncmp_charge(compare, flow, sizeof(*twin->marks));
	return twin->marks;
}

/* One that is forgotten makes the primary's wait for a commit. */
static void note_reset(ncmp_compare *compare, struct ncmp_flow *flow,
		       struct ncmp_twin *twin, const struct ncmp_packet *packet)
{
	struct ncmp_marks *marks = marks_of(compare, flow, twin);
	struct ncmp_reset reset = {
		.position = ncmp_tcp_position(twin->base, twin->top, packet->seq),
		.seq = packet->seq,
		.flags = packet->flags & (guint8) ~(NCMP_TCP_PSH | NCMP_TCP_URG),
	};

	if (!marks)
		return;
	for (guint i = 0; i < NCMP_MARKS; i++) {
		const struct ncmp_reset *known = &marks->resets[i];

		if (known->flags == reset.flags && known->seq == reset.seq)
			return;
	}
	marks->resets[marks->next_reset++ % NCMP_MARKS] = reset;
	twin->reset_ahead = 1;
}

static void note_urgent(ncmp_compare *compare, struct ncmp_flow *flow,
			struct ncmp_twin *twin, guint64 position)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	struct ncmp_marks *marks;
	guint64 *slot;

	if (position == tcp->urgent)
		return;
	marks = marks_of(compare, flow, twin);
	if (!marks)
		return;
	for (guint i = 0; i < NCMP_MARKS; i++)
		if (marks->urgent[i] == position)
			return;
	slot = &marks->urgent[marks->next_urgent++ % NCMP_MARKS];
	if (*slot > ncmp_ranges_end(&tcp->matched)) {
		ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MEMORY,
				   *slot - NCMP_ORIGIN);
		return;
	}
	*slot = position;
}

/* Bytes that the primary's guest has not sent. */
static void put(ncmp_compare *compare, struct ncmp_flow *flow, struct ncmp_twin *twin,
		guint64 at, const guint8 *bytes, gsize len)
{
	const struct ncmp_ranges none = { 0 };
	const struct ncmp_ranges *matched =
		twin == &flow->tcp.twin ? &flow->tcp.matched : &none;
	struct ncmp_range gap = { at, at };
	guint64 end = at + len;

	while (ncmp_ranges_gap(matched, gap.to, end, &gap)) {
		gsize n = gap.to - gap.from, memory = twin->stream.memory;

		if (!ncmp_afford(compare, flow, n))
			return;
		ncmp_stream_put(&twin->stream, gap.from, bytes + (gap.from - at), n);
		ncmp_charge(compare, flow, (gssize)(twin->stream.memory - memory));
	}
}

/* Its stream ends where the primary's does, if either does. */
static gboolean end_agrees(ncmp_compare *compare, struct ncmp_flow *flow,
			   const struct ncmp_twin *twin,
			   const struct ncmp_packet *packet, guint64 end)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	gboolean fin = !!(packet->flags & NCMP_TCP_FIN);
	gboolean same = twin == &tcp->twin && tcp->based;
	guint64 known = same && tcp->fin ? tcp->fin : twin->fin;
	gboolean bad = FALSE;

	if (known)
		bad = (packet->payload_len && end > known) || (fin && end != known);
	else if (fin)
		bad = twin->data_end > end ||
		      (same && ncmp_ranges_end(&tcp->matched) > end);
	if (bad)
		ncmp_diverge(compare, flow,
			     &(struct ncmp_divergence){ .cause = NCMP_CAUSE_FLAGS,
							.position = end - NCMP_ORIGIN,
							.secondary = packet->bytes,
							.secondary_len = packet->len });
	return !bad;
}

static void learn(ncmp_compare *compare, struct ncmp_flow *flow, struct ncmp_twin *twin,
		  const struct ncmp_packet *packet)
{
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);
	gboolean fin = !!(packet->flags & NCMP_TCP_FIN);
	guint64 at = ncmp_tcp_position(twin->base, twin->top, packet->seq), end;

	if (packet->flags & NCMP_TCP_ACK) {
		if (!twin->acked || ncmp_seq_is_after(packet->ack, twin->ack))
			twin->ack = packet->ack;
		twin->acked = 1;
	}
	if (flow->stuck)
		return;
	if (packet->flags & NCMP_TCP_RST) {
		note_reset(compare, flow, twin, packet);
		return;
	}
	if (packet->flags & NCMP_TCP_URG)
		note_urgent(compare, flow, twin, at + packet->urgent);
	if (syn)
		twin->syn_flags = packet->flags & (NCMP_TCP_SYN | NCMP_TCP_ACK);
	at += (guint64)syn;
	end = at + packet->payload_len;
	if (!end_agrees(compare, flow, twin, packet, end))
		return;
	if (packet->payload_len) {
		twin->data_end = MAX(twin->data_end, end);
		put(compare, flow, twin, at, packet->bytes + packet->payload,
		    packet->payload_len);
	}
	if (fin)
		twin->fin = end;
	twin->top = MAX(twin->top, end + (guint64)fin);
}

gboolean ncmp_tcp_is_ahead(const struct ncmp_flow *flow)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_twin *twin = &tcp->twin;
	struct ncmp_range gap;

	if (flow->stuck)
		return FALSE;
	if (tcp->heir || twin->reset_ahead)
		return TRUE;
	if (ncmp_stream_end(&twin->stream) > tcp->start)
		return TRUE;
	if (twin->fin > tcp->start && twin->fin != tcp->fin)
		return TRUE;
	return twin->syn_flags && (tcp->born || !tcp->based) &&
	       ncmp_ranges_gap(&tcp->matched, NCMP_ORIGIN, NCMP_ORIGIN + 1, &gap);
}

void ncmp_tcp_update_ahead(ncmp_compare *compare, struct ncmp_flow *flow,
			   gboolean progress, gint64 now_ns)
{
	gboolean kept = flow->tcp.twin.stream.first != NULL;

	/* What is much must be found again at the commit. */
	ncmp_flow_set_ahead(compare, flow, kept || ncmp_tcp_is_ahead(flow), progress,
			    now_ns);
}

void ncmp_tcp_secondary(ncmp_compare *compare, struct ncmp_flow *flow,
			const struct ncmp_packet *packet, gint64 now_ns)
{
	struct ncmp_twin *twin = choose(compare, flow, packet);
	gboolean was_ahead = ncmp_tcp_is_ahead(flow);

	if (twin) {
		twin->seen = 1;
		learn(compare, flow, twin, packet);
		if (flow->stuck && twin->stream.first) {
			/* Nothing will be compared with it. */
			ncmp_charge(compare, flow, -(gssize)twin->stream.memory);
			ncmp_stream_clear(&twin->stream);
		}
	}
	flow->tcp.twin.seen = 1;
	if (flow->queue.head || flow->tcp.acks.head)
		ncmp_tcp_run(compare, flow, now_ns);
	ncmp_tcp_update_ahead(compare, flow, !was_ahead, now_ns);
}
