/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP, what the primary's guest sends: a packet goes when each of its elements (bytes,
 * SYN, FIN) is in the set of matched positions, and its acknowledgement is not beyond
 * what the secondary's guest has. Positions are matched by comparing what is new with
 * what the secondary sent; so repetitions pass, and a packet of which a part was
 * compared before is not compared again.
 *
 * What is new waits in the order in which it came. Pure acknowledgements wait apart:
 * one that is too high must not keep data from going. An older one among several may go
 * with a lower number when the secondary makes progress; the newest waits for all of
 * it, since nothing might follow that could tell the client the rest.
 */
#include <string.h>

#include "netcompare/engine.h"
#include "netcompare/lower.h"

#define ACKS_MAX 16u

enum judgement {
	WAITS,
	GOES,
	GOES_LOWERED,
};

/* RFC 1982. */
static gboolean is_after(guint32 a, guint32 b)
{
	return (gint32)(a - b) > 0;
}

guint64 ncmp_tcp_position(guint32 base, guint64 top, guint32 seq)
{
	guint32 top_seq = base + (guint32)(top - NCMP_ORIGIN);

	return top + (guint64)(gint64)(gint32)(seq - top_seq);
}

static guint64 position_of(const struct ncmp_tcp_flow *tcp,
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

static gboolean is_matched(const struct ncmp_tcp_flow *tcp, guint64 from, guint64 to)
{
	struct ncmp_range gap;

	return !ncmp_ranges_gap(&tcp->matched, from, to, &gap);
}

static gboolean add_matched(ncmp_compare *compare, struct ncmp_flow *flow, guint64 from,
			    guint64 to)
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
	begin(compare, flow, packet);
}

/* Finds the numbers of what the primary sends. FALSE: it begins another connection, and
 * the secondary has not yet. */
static gboolean settle(ncmp_compare *compare, struct ncmp_flow *flow,
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
		tcp->top = tcp->start = position_of(tcp, packet);
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

/* The secondary's acknowledgement. FALSE: nothing is known of it. */
static gboolean get_limit(const struct ncmp_tcp_flow *tcp, guint32 *limit)
{
	*limit = tcp->floor;
	if (tcp->twin.acked && (!tcp->has_floor || is_after(tcp->twin.ack, tcp->floor)))
		*limit = tcp->twin.ack;
	return tcp->has_floor || tcp->twin.acked;
}

static enum judgement judge_ack(const struct ncmp_tcp_flow *tcp,
				const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	guint32 limit;

	if (!(packet->flags & NCMP_TCP_ACK))
		return GOES;
	if (!get_limit(tcp, &limit))
		return WAITS;
	if (!is_after(packet->ack, limit))
		return GOES;
	/* A reset's is what makes it believed. */
	if (held->segmentable || ncmp_tcp_is_pure(packet) ||
	    packet->flags & NCMP_TCP_RST)
		return WAITS;
	return GOES_LOWERED;
}

static enum judgement judge_reset(ncmp_compare *compare, struct ncmp_flow *flow,
				  const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_marks *marks = tcp->twin.marks;

	/* Text in a reset (RFC 9293, 3.5.3) is not compared. */
	if (!marks || packet->payload_len)
		return WAITS;
	for (guint i = 0; i < NCMP_MARKS; i++) {
		const struct ncmp_reset *reset = &marks->resets[i];

		if (reset->flags != (packet->flags & ~(NCMP_TCP_PSH | NCMP_TCP_URG)))
			continue;
		/* An answer to what has no acknowledgement has 0, whatever the stream.
		 */
		if (reset->position == position_of(tcp, packet) ||
		    (reset->seq == 0 && packet->seq == 0)) {
			tcp->twin.reset_ahead = 0;
			return judge_ack(tcp, held);
		}
	}
	return WAITS;
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
	    (tcp->twin.data_end > end || is_matched(tcp, end, end + 1))) {
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
	gboolean repeated = is_matched(tcp, NCMP_ORIGIN, NCMP_ORIGIN + 1);
	guint8 other = repeated ? tcp->syn_flags : tcp->twin.syn_flags;

	if (!other)
		return FALSE;
	if (flags != other) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, NCMP_ORIGIN, packet);
		return FALSE;
	}
	return add_matched(compare, flow, NCMP_ORIGIN, NCMP_ORIGIN + 1);
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
		if (!add_matched(compare, flow, gap.from, gap.from + n)) {
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
	guint64 pointer = position_of(tcp, packet) + packet->urgent;

	if (urgent && pointer != tcp->urgent && !has_urgent(marks, pointer) &&
	    tcp->twin.data_end >= pointer) {
		differs(compare, flow, NCMP_CAUSE_FLAGS, pointer, packet);
		return FALSE;
	}
	for (guint i = 0; marks && i < NCMP_MARKS; i++) {
		guint64 theirs = marks->urgent[i];

		if (theirs <= at || theirs > end || (urgent && theirs == pointer) ||
		    theirs == tcp->urgent || is_matched(tcp, theirs - 1, theirs))
			continue;
		differs(compare, flow, NCMP_CAUSE_FLAGS, theirs, packet);
		return FALSE;
	}
	return TRUE;
}

static gboolean match_urgent(struct ncmp_flow *flow, const struct ncmp_packet *packet)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint64 pointer = position_of(tcp, packet) + packet->urgent;

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
	return add_matched(compare, flow, at, at + 1);
}

static enum judgement judge(ncmp_compare *compare, struct ncmp_flow *flow,
			    const struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	gboolean syn = !!(packet->flags & NCMP_TCP_SYN);
	gboolean fin = !!(packet->flags & NCMP_TCP_FIN);
	guint64 at, end;

	if (flow->stuck || !settle(compare, flow, packet))
		return WAITS;
	if (packet->flags & NCMP_TCP_RST)
		return judge_reset(compare, flow, held);
	at = position_of(tcp, packet) + (guint64)syn;
	end = at + packet->payload_len;
	if (!ends_agree(compare, flow, packet, end) ||
	    !urgent_agrees(compare, flow, packet, at, end))
		return WAITS;
	if (syn && !match_syn(compare, flow, packet))
		return WAITS;
	if (!match_bytes(compare, flow, at, packet->bytes + packet->payload,
			 packet->payload_len) ||
	    !match_urgent(flow, packet) || (fin && !match_fin(compare, flow, end)))
		return WAITS;
	tcp->top = MAX(tcp->top, end + (guint64)fin);
	return judge_ack(tcp, held);
}

static void note_ack(struct ncmp_tcp_flow *tcp, const struct ncmp_packet *packet)
{
	if (!(packet->flags & NCMP_TCP_ACK))
		return;
	if (!tcp->has_ack || is_after(packet->ack, tcp->ack))
		tcp->ack = packet->ack;
	tcp->has_ack = 1;
}

static void note_released_ack(struct ncmp_tcp_flow *tcp, guint32 ack)
{
	if (!tcp->has_released || is_after(ack, tcp->released_ack))
		tcp->released_ack = ack;
	tcp->has_released = 1;
}

static void note_end(ncmp_compare *compare, struct ncmp_flow *flow,
		     const struct ncmp_packet *packet, gint64 now_ns)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	gboolean brief = flow->brief;

	if (packet->flags & NCMP_TCP_RST ||
	    (tcp->fin && is_matched(tcp, tcp->fin, tcp->fin + 1)))
		brief = TRUE;
	else if (packet->flags & NCMP_TCP_SYN)
		brief = FALSE;
	if (brief != flow->brief)
		ncmp_table_touch(&compare->table, flow, brief, now_ns);
}

/* Of those that are older than this one, which says at least as much. */
static void drop_superseded(ncmp_compare *compare, struct ncmp_flow *flow, guint32 ack,
			    gint64 now_ns)
{
	GQueue *acks = &flow->tcp.acks;

	while (acks->head) {
		struct ncmp_held *held = acks->head->data;

		if (is_after(held->packet.ack, ack))
			break;
		ncmp_finish(compare, held, NCMP_DROPPED, NULL, now_ns);
	}
}

static void let_go(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_held *held, enum judgement judgement, gint64 now_ns)
{
	const struct ncmp_packet *packet = &held->packet;
	gboolean pure = ncmp_tcp_is_pure(packet);
	GByteArray *scratch = compare->scratch;
	const guint8 *changed = NULL;
	guint32 ack = packet->ack;

	note_ack(&flow->tcp, packet);
	if (judgement == GOES_LOWERED && get_limit(&flow->tcp, &ack)) {
		g_byte_array_set_size(scratch, 0);
		g_byte_array_append(scratch, held->raw, (guint)held->raw_len);
		ncmp_lower_ack(packet, scratch->data + (packet->bytes - held->raw), ack,
			       held->partial);
		changed = scratch->data;
	}
	if (packet->flags & NCMP_TCP_ACK) {
		note_released_ack(&flow->tcp, ack);
		if (!changed && !pure)
			drop_superseded(compare, flow, ack, now_ns);
	}
	note_end(compare, flow, packet, now_ns);
	if (held->flow && !pure)
		ncmp_lag_sample(&compare->lag, now_ns - held->since_ns);
	ncmp_finish(compare, held, NCMP_MATCHED, changed, now_ns);
}

static void run_acks(ncmp_compare *compare, struct ncmp_flow *flow, gint64 now_ns)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint32 limit;

	if (!get_limit(tcp, &limit))
		return;
	while (tcp->acks.head) {
		struct ncmp_held *held = tcp->acks.head->data;

		if (!is_after(held->packet.ack, limit)) {
			let_go(compare, flow, held, GOES, now_ns);
			continue;
		}
		if (held->raw && tcp->acks.length > 1 &&
		    (!tcp->has_released || is_after(limit, tcp->released_ack)))
			let_go(compare, flow, held, GOES_LOWERED, now_ns);
		return;
	}
}

static void take_pure(ncmp_compare *compare, struct ncmp_flow *flow,
		      struct ncmp_held *held, gint64 now_ns)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_held *oldest;

	if (!tcp->based)
		settle(compare, flow, &held->packet);
	if (judge_ack(tcp, held) == GOES) {
		let_go(compare, flow, held, GOES, now_ns);
		return;
	}
	oldest = tcp->acks.head ? tcp->acks.head->data : NULL;
	if (tcp->acks.length >= ACKS_MAX &&
	    !is_after(oldest->packet.ack, held->packet.ack))
		ncmp_finish(compare, tcp->acks.head->data, NCMP_DROPPED, NULL, now_ns);
	ncmp_wait(compare, flow, &tcp->acks, held, now_ns);
	run_acks(compare, flow, now_ns);
}

/* Nothing in it is new. */
static gboolean is_repetition(const struct ncmp_flow *flow,
			      const struct ncmp_packet *packet)
{
	const struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint64 at;

	if (!tcp->based || packet->flags & (NCMP_TCP_RST | NCMP_TCP_URG))
		return FALSE;
	if (packet->flags & NCMP_TCP_SYN && packet->seq != tcp->base)
		return FALSE;
	at = position_of(tcp, packet);
	return is_matched(tcp, at, at + ncmp_packet_tcp_length(packet));
}

void ncmp_tcp_take(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_held *held, gint64 now_ns)
{
	enum judgement judgement = WAITS;

	if (ncmp_tcp_is_pure(&held->packet)) {
		take_pure(compare, flow, held, now_ns);
		return;
	}
	if (held->raw && (!flow->queue.head || is_repetition(flow, &held->packet)))
		judgement = judge(compare, flow, held);
	if (judgement == WAITS)
		ncmp_wait(compare, flow, &flow->queue, held, now_ns);
	else
		let_go(compare, flow, held, judgement, now_ns);
	if (flow->is_ahead)
		ncmp_tcp_update_ahead(compare, flow, judgement != WAITS, now_ns);
}

void ncmp_tcp_run(ncmp_compare *compare, struct ncmp_flow *flow, gint64 now_ns)
{
	while (flow->queue.head && !flow->stuck) {
		struct ncmp_held *held = flow->queue.head->data;
		enum judgement judgement = judge(compare, flow, held);

		if (judgement == WAITS)
			break;
		let_go(compare, flow, held, judgement, now_ns);
	}
	run_acks(compare, flow, now_ns);
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
		settle(compare, flow, packet);
	}
	note_ack(tcp, packet);
	tcp->floor = tcp->ack;
	tcp->has_floor = tcp->has_ack;
	if (packet->flags & NCMP_TCP_ACK)
		note_released_ack(tcp, packet->ack);
	if (!(packet->flags & NCMP_TCP_RST)) {
		at = position_of(tcp, packet);
		end = at + ncmp_packet_tcp_length(packet);
		/* Too many holes: what is before it was sent before it, by any real
		 * guest. */
		if (!add_matched(compare, flow, at, end)) {
			clear_matched(compare, flow);
			if (!add_matched(compare, flow, tcp->start, end))
				g_assert_not_reached();
		}
		tcp->top = MAX(tcp->top, end);
		if (packet->flags & NCMP_TCP_FIN)
			tcp->fin = end - 1;
		if (packet->flags & NCMP_TCP_URG)
			tcp->urgent = at + packet->urgent;
	}
	note_end(compare, flow, packet, now_ns);
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
