/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP, what the primary's guest sends: a packet goes when each of its elements (bytes,
 * SYN, FIN) is in the set of matched positions, and its acknowledgement is not beyond
 * what the secondary's guest has.
 *
 * What is new waits in the order in which it came. Pure acknowledgements wait apart:
 * one that is too high must not keep data from going. An older one among several may go
 * with a lower number when the secondary makes progress; the newest waits for all of
 * it, since nothing might follow that could tell the client the rest.
 */
#include "netcompare/tcp.h"

#include "netcompare/lower.h"

#define ACKS_MAX 16u

/* Of those that are older than this one, which says at least as much. */
static void drop_superseded(ncmp_compare *compare, struct ncmp_flow *flow, guint32 ack,
			    gint64 now_ns)
{
	GQueue *acks = &flow->tcp.acks;

	while (acks->head) {
		struct ncmp_held *held = acks->head->data;

		if (ncmp_seq_is_after(held->packet.ack, ack))
			break;
		ncmp_finish(compare, held, NCMP_DROPPED, NULL, now_ns);
	}
}

static void let_go(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_held *held, enum ncmp_judgement judgement, gint64 now_ns)
{
	const struct ncmp_packet *packet = &held->packet;
	gboolean pure = ncmp_tcp_is_pure(packet);
	GByteArray *scratch = compare->scratch;
	const guint8 *changed = NULL;
	guint32 ack = packet->ack;

	ncmp_tcp_note_ack(&flow->tcp, packet);
	if (judgement == NCMP_GOES_LOWERED && ncmp_tcp_get_limit(&flow->tcp, &ack)) {
		g_byte_array_set_size(scratch, 0);
		g_byte_array_append(scratch, held->raw, (guint)held->raw_len);
		ncmp_lower_ack(packet, scratch->data + (packet->bytes - held->raw), ack,
			       flow->tcp.syn_flags ? flow->tcp.window_scale :
						     NCMP_SCALE_UNKNOWN,
			       held->partial);
		changed = scratch->data;
	}
	if (packet->flags & NCMP_TCP_ACK) {
		ncmp_tcp_note_released_ack(&flow->tcp, ack);
		if (!changed && !pure)
			drop_superseded(compare, flow, ack, now_ns);
	}
	ncmp_tcp_note_end(compare, flow, packet, now_ns);
	if (held->flow && !pure)
		ncmp_lag_sample(&compare->lag, now_ns - held->since_ns);
	ncmp_finish(compare, held, NCMP_MATCHED, changed, now_ns);
}

static void run_acks(ncmp_compare *compare, struct ncmp_flow *flow, gint64 now_ns)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	guint32 limit;

	if (!ncmp_tcp_get_limit(tcp, &limit))
		return;
	while (tcp->acks.head) {
		struct ncmp_held *held = tcp->acks.head->data;

		if (!ncmp_seq_is_after(held->packet.ack, limit)) {
			let_go(compare, flow, held, NCMP_GOES, now_ns);
			continue;
		}
		if (held->raw && tcp->acks.length > 1 &&
		    (!tcp->has_released || ncmp_seq_is_after(limit, tcp->released_ack)))
			let_go(compare, flow, held, NCMP_GOES_LOWERED, now_ns);
		return;
	}
}

static void take_pure(ncmp_compare *compare, struct ncmp_flow *flow,
		      struct ncmp_held *held, gint64 now_ns)
{
	struct ncmp_tcp_flow *tcp = &flow->tcp;
	const struct ncmp_held *oldest;

	if (!tcp->based)
		ncmp_tcp_settle(compare, flow, &held->packet);
	if (ncmp_tcp_judge_ack(tcp, held) == NCMP_GOES) {
		let_go(compare, flow, held, NCMP_GOES, now_ns);
		return;
	}
	oldest = tcp->acks.head ? tcp->acks.head->data : NULL;
	if (tcp->acks.length >= ACKS_MAX &&
	    !ncmp_seq_is_after(oldest->packet.ack, held->packet.ack))
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
	at = ncmp_tcp_position_of(tcp, packet);
	return ncmp_tcp_is_matched(tcp, at, at + ncmp_packet_tcp_length(packet));
}

void ncmp_tcp_take(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_held *held, gint64 now_ns)
{
	enum ncmp_judgement judgement = NCMP_WAITS;

	if (ncmp_tcp_is_pure(&held->packet)) {
		take_pure(compare, flow, held, now_ns);
		return;
	}
	if (held->raw && (!flow->queue.head || is_repetition(flow, &held->packet)))
		judgement = ncmp_tcp_judge(compare, flow, held);
	if (judgement == NCMP_WAITS)
		ncmp_wait(compare, flow, &flow->queue, held, now_ns);
	else
		let_go(compare, flow, held, judgement, now_ns);
	if (flow->is_ahead)
		ncmp_tcp_update_ahead(compare, flow, judgement != NCMP_WAITS, now_ns);
}

void ncmp_tcp_run(ncmp_compare *compare, struct ncmp_flow *flow, gint64 now_ns)
{
	while (flow->queue.head && !flow->stuck) {
		struct ncmp_held *held = flow->queue.head->data;
		enum ncmp_judgement judgement = ncmp_tcp_judge(compare, flow, held);

		if (judgement == NCMP_WAITS)
			break;
		let_go(compare, flow, held, judgement, now_ns);
	}
	run_acks(compare, flow, now_ns);
}
