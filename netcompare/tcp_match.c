/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP, whether a packet may go: positions are matched by comparing what is new with
 * what the secondary sent. So repetitions pass, and a packet of which a part was
 * compared before is not compared again. */
#include <string.h>

#include "netcompare/tcp.h"

static void differs(ncmp_compare *compare, struct ncmp_flow *flow,
		    enum ncmp_cause cause, guint64 position,
		    const struct ncmp_packet *packet)
{
	ncmp_diverge(compare, flow,
		     &(struct ncmp_divergence){ .cause = cause,
						.position = position - NCMP_ORIGIN,
						.primary = packet->bytes,
						.primary_len = packet->len });
}

/* The secondary's acknowledgement. FALSE: nothing is known of it. */
gboolean ncmp_tcp_get_limit(const struct ncmp_tcp_flow *tcp, guint32 *limit)
{
	*limit = tcp->floor;
	if (tcp->twin.acked &&
	    (!tcp->has_floor || ncmp_seq_is_after(tcp->twin.ack, tcp->floor)))
		*limit = tcp->twin.ack;
	return tcp->has_floor || tcp->twin.acked;
}

enum ncmp_judgement ncmp_tcp_judge_ack(const struct ncmp_tcp_flow *tcp,
				       const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	guint32 limit;

	if (!(packet->flags & NCMP_TCP_ACK))
		return NCMP_GOES;
	if (!ncmp_tcp_get_limit(tcp, &limit))
		return NCMP_WAITS;
	if (!ncmp_seq_is_after(packet->ack, limit))
		return NCMP_GOES;
	/* A reset's is what makes it believed. */
	if (held->segmentable || ncmp_tcp_is_pure(packet) ||
	    packet->flags & NCMP_TCP_RST)
		return NCMP_WAITS;
	return NCMP_GOES_LOWERED;
}

static enum ncmp_judgement judge_reset(ncmp_compare *compare, struct ncmp_flow *flow,
				       const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_marks *marks = tcp->twin.marks;

	/* Text in a reset (RFC 9293, 3.5.3) is not compared. */
	if (!marks || packet->payload_len)
		return NCMP_WAITS;
	for (guint i = 0; i < NCMP_MARKS; i++) {
		const struct ncmp_reset *reset = &marks->resets[i];

		if (reset->flags != (packet->flags & ~(NCMP_TCP_PSH | NCMP_TCP_URG)))
			continue;
		/* An answer to what has no acknowledgement has 0, whatever the stream.
		 */
		if (reset->position == ncmp_tcp_position_of(tcp, packet) ||
		    (reset->seq == 0 && packet->seq == 0)) {
			tcp->twin.reset_ahead = 0;
			return ncmp_tcp_judge_ack(tcp, held);
		}
	}
	return NCMP_WAITS;
}

/* Where either side's stream ends, no other may go on, nor end elsewhere. */
static gboolean ends_agree(ncmp_compare *compare, struct ncmp_flow *flow,
			   const struct ncmp_packet *packet, guint64 end)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint64 known = tcp->fin ? tcp->fin : tcp->twin.fin;
	gboolean fin = !!(packet->flags & NCMP_TCP_FIN);

	if (known && ((packet->payload_len && end > known) || (fin && end != known))) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, MIN(known, end), packet);
		return FALSE;
	}
	if (fin && !tcp->fin &&
	    (tcp->twin.data_end > end || ncmp_tcp_is_matched(tcp, end, end + 1))) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, end, packet);
		return FALSE;
	}
	return TRUE;
}

static gboolean match_syn(ncmp_compare *compare, struct ncmp_flow *flow,
			  const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint8 flags = packet->flags & (NCMP_TCP_SYN | NCMP_TCP_ACK);
	gboolean repeated = ncmp_tcp_is_matched(tcp, NCMP_ORIGIN, NCMP_ORIGIN + 1);
	guint8 other = repeated ? tcp->syn_flags : tcp->twin.syn_flags;

	if (!other)
		return FALSE;
	if (flags != other) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, NCMP_ORIGIN, packet);
		return FALSE;
	}
	return ncmp_tcp_add_matched(compare, flow, NCMP_ORIGIN, NCMP_ORIGIN + 1);
}

static void bytes_differ(ncmp_compare *compare, struct ncmp_flow *flow, guint64 at,
			 const guint8 *ours, const guint8 *theirs, gsize len)
{
	gsize i = 0;

	while (ours[i] == theirs[i])
		i++;
	ncmp_diverge(compare, flow,
		     &(struct ncmp_divergence){ .cause = NCMP_CAUSE_PAYLOAD,
						.position = at + i - NCMP_ORIGIN,
						.primary = ours + i,
						.primary_len = len - i,
						.secondary = theirs + i,
						.secondary_len = len - i });
}

/* Compares what is new of the bytes at `at`. TRUE: all are matched. */
static gboolean match_bytes(ncmp_compare *compare, struct ncmp_flow *flow, guint64 at,
			    const guint8 *bytes, gsize len)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	struct ncmp_stream *stream = &tcp->twin.stream;
	struct ncmp_range gap = { at, at };

	while (ncmp_ranges_gap(&tcp->matched, gap.from, at + len, &gap)) {
		const guint8 *ours = bytes + (gap.from - at), *theirs;
		gsize n =
			ncmp_stream_peek(stream, gap.from, gap.to - gap.from, &theirs);
		gsize memory = stream->memory;

		if (!n)
			return FALSE;
		if (memcmp(ours, theirs, n)) {
			bytes_differ(compare, flow, gap.from, ours, theirs, n);
			return FALSE;
		}
		if (!ncmp_tcp_add_matched(compare, flow, gap.from, gap.from + n)) {
			ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MEMORY,
					   gap.from - NCMP_ORIGIN);
			return FALSE;
		}
		ncmp_stream_take(stream, gap.from, n);
		ncmp_charge(compare, flow, (gssize)(stream->memory - memory));
	}
	return TRUE;
}

static gboolean has_urgent(const struct ncmp_marks *marks, guint64 urgent)
{
	for (guint i = 0; marks && i < NCMP_MARKS; i++)
		if (marks->urgent[i] == urgent)
			return TRUE;
	return FALSE;
}

/* Before the bytes are matched: that the urgent one among them is so on both sides. */
static gboolean urgent_agrees(ncmp_compare *compare, struct ncmp_flow *flow,
			      const struct ncmp_packet *packet, guint64 at, guint64 end)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_marks *marks = tcp->twin.marks;
	gboolean urgent = !!(packet->flags & NCMP_TCP_URG);
	guint64 pointer = ncmp_tcp_position_of(tcp, packet) + packet->urgent;

	if (urgent && pointer != tcp->urgent && !has_urgent(marks, pointer) &&
	    tcp->twin.data_end >= pointer) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, pointer, packet);
		return FALSE;
	}
	for (guint i = 0; marks && i < NCMP_MARKS; i++) {
		guint64 theirs = marks->urgent[i];

		if (theirs <= at || theirs > end || (urgent && theirs == pointer) ||
		    theirs == tcp->urgent ||
		    ncmp_tcp_is_matched(tcp, theirs - 1, theirs))
			continue;
		differs(compare, flow, NCMP_CAUSE_FLAGS, theirs, packet);
		return FALSE;
	}
	return TRUE;
}

static gboolean match_urgent(struct ncmp_flow *flow, const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint64 pointer = ncmp_tcp_position_of(tcp, packet) + packet->urgent;

	if (!(packet->flags & NCMP_TCP_URG) || pointer == tcp->urgent)
		return TRUE;
	if (!has_urgent(tcp->twin.marks, pointer))
		return FALSE;
	tcp->urgent = pointer;
	return TRUE;
}

static gboolean match_fin(ncmp_compare *compare, struct ncmp_flow *flow, guint64 at)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;

	if (tcp->fin == at)
		return TRUE;
	if (tcp->twin.fin != at)
		return FALSE;
	tcp->fin = at;
	return ncmp_tcp_add_matched(compare, flow, at, at + 1);
}

enum ncmp_judgement ncmp_tcp_judge(ncmp_compare *compare, struct ncmp_flow *flow,
				   const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);
	gboolean fin = !!(packet->flags & NCMP_TCP_FIN);
	guint64 at, end;

	if (flow->stuck || !ncmp_tcp_settle(compare, flow, packet))
		return NCMP_WAITS;
	if (packet->flags & NCMP_TCP_RST)
		return judge_reset(compare, flow, held);
	at = ncmp_tcp_position_of(tcp, packet) + (guint64)syn;
	end = at + packet->payload_len;
	if (!ends_agree(compare, flow, packet, end) ||
	    !urgent_agrees(compare, flow, packet, at, end))
		return NCMP_WAITS;
	if (syn && !match_syn(compare, flow, packet))
		return NCMP_WAITS;
	if (!match_bytes(compare, flow, at, packet->bytes + packet->payload,
			 packet->payload_len) ||
	    !match_urgent(flow, packet) || (fin && !match_fin(compare, flow, end)))
		return NCMP_WAITS;
	tcp->top = MAX(tcp->top, end + (guint64)fin);
	return ncmp_tcp_judge_ack(tcp, held);
}
