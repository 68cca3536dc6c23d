/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits for too long, and what is forgotten: by lists in order of time, of which
 * only the beginning is looked at. */
#include <netinet/in.h>

#include "netcompare/engine.h"

#define NS_PER_MS 1000000ll
#define NS_PER_S 1000000000ll
/* Acknowledgements are delayed by timers that the two guests do not share. */
#define ACK_TIMER_NS (100 * NS_PER_MS)
#define MISSING_LIMITS 4
#define REORDER_LEAST_NS NS_PER_MS
#define IDLE_NS (600 * NS_PER_S)
#define BRIEF_NS (30 * NS_PER_S)
/* Where there is no room for another. */
#define IDLE_FULL_NS (10 * NS_PER_S)
#define BRIEF_FULL_NS (1 * NS_PER_S)
#define FORGET_TRIES 16u

static gint64 limit_of(const ncmp_compare *compare, const struct ncmp_held *held)
{
	gint64 limit = ncmp_lag_limit(&compare->lag);

	if (held->packet.kind != NCMP_KIND_TCP || !ncmp_tcp_is_pure(&held->packet))
		return limit;
	return MIN(limit + ACK_TIMER_NS, MAX(limit, compare->lag.most_ns));
}

static void is_late(ncmp_compare *compare, struct ncmp_held *held)
{
	const struct ncmp_packet *packet = &held->packet;
	struct ncmp_divergence divergence = {
		.cause = NCMP_CAUSE_LATE,
		.primary = packet->bytes,
		.primary_len = packet->bytes ? packet->len : 0,
	};

	g_queue_unlink(&compare->waiting, &held->waiting);
	held->is_waiting = 0;
	/* Of one that is stuck it is known already. */
	if (held->flow->stuck)
		return;
	if (packet->kind == NCMP_KIND_TCP)
		divergence.position =
			ncmp_tcp_position(held->flow->tcp.base, held->flow->tcp.top,
					  packet->seq) -
			NCMP_ORIGIN;
	ncmp_diverge(compare, held->flow, &divergence);
}

static gint64 judge_late(ncmp_compare *compare, gint64 now_ns)
{
	gint64 limit = ncmp_lag_limit(&compare->lag), next = G_MAXINT64;
	GList *link = compare->waiting.head;
	gboolean late = FALSE;

	while (link) {
		struct ncmp_held *held = link->data;
		gint64 due = held->since_ns + limit_of(compare, held);

		link = link->next;
		/* None behind it is due before that. */
		if (held->since_ns + limit > now_ns) {
			next = MIN(next, held->since_ns + limit);
			break;
		}
		if (due <= now_ns) {
			is_late(compare, held);
			late = TRUE;
		} else {
			next = MIN(next, due);
		}
	}
	if (late)
		ncmp_lag_back_off(&compare->lag);
	return next;
}

/* Where what both sent ends. */
static guint64 missing_from(const struct ncmp_tcp_flow *tcp)
{
	return MAX(ncmp_ranges_end(&tcp->matched), NCMP_ORIGIN) - NCMP_ORIGIN;
}

static gint64 judge_missing(ncmp_compare *compare, gint64 now_ns)
{
	gint64 limit = MISSING_LIMITS * ncmp_lag_limit(&compare->lag);

	while (compare->ahead.head) {
		struct ncmp_flow *flow = compare->ahead.head->data;
		gboolean tcp = flow->key.protocol == IPPROTO_TCP;

		if (flow->ahead_ns + limit > now_ns)
			return flow->ahead_ns + limit;
		if (tcp ? ncmp_tcp_is_ahead(flow) : !flow->stuck)
			ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MISSING,
					   tcp ? missing_from(&flow->tcp) : 0);
		/* It stays in the list, to be found at the commit. */
		ncmp_flow_set_ahead(compare, flow, TRUE, TRUE, now_ns);
	}
	return G_MAXINT64;
}

static gint64 judge_conflicts(ncmp_compare *compare, gint64 now_ns)
{
	const struct ncmp_lag *lag = &compare->lag;
	gint64 limit = ncmp_lag_limit(lag);
	gint64 grace =
		lag->known ? CLAMP(lag->smoothed_ns, REORDER_LEAST_NS, limit) : limit;

	while (compare->conflicts.head) {
		struct ncmp_flow *flow = compare->conflicts.head->data;

		if (flow->datagram.conflict_ns + grace > now_ns)
			return flow->datagram.conflict_ns + grace;
		ncmp_datagram_diverge(compare, flow);
	}
	return G_MAXINT64;
}

/* A commit came, and its marker does not. */
static gint64 judge_marker(ncmp_compare *compare, gint64 now_ns)
{
	const struct ncmp_held *oldest = g_queue_peek_head(&compare->held);
	gint64 due;

	if (!oldest || compare->asked || !ncmp_is_listening(compare) ||
	    ncmp_is_live(compare) ||
	    (compare->has_marker && compare->marker > compare->epoch))
		return G_MAXINT64;
	due = MAX(oldest->arrived_ns, compare->committed_ns) + compare->lag.most_ns;
	if (due > now_ns)
		return due;
	ncmp_diverge_plain(compare, NULL, NCMP_CAUSE_OVERRUN, 0);
	return G_MAXINT64;
}

/* Nothing of it is needed: what comes next of it will be judged the same without. */
static gboolean is_forgettable(const struct ncmp_flow *flow)
{
	if (flow->queue.head)
		return FALSE;
	if (flow->key.protocol != IPPROTO_TCP)
		return !flow->is_ahead;
	if (flow->tcp.acks.head || ncmp_tcp_is_ahead(flow))
		return FALSE;
	/* In this epoch the two sides count it differently. */
	return flow->brief || !flow->tcp.born;
}

/* Forgets from the beginning of a list what was idle for so long. TRUE: something. */
static gboolean forget_idle(ncmp_compare *compare, GQueue *list, gint64 idle_ns,
			    gint64 now_ns)
{
	gboolean forgot = FALSE;

	for (guint i = 0; i < FORGET_TRIES && list->head; i++) {
		struct ncmp_flow *flow = list->head->data;

		if (now_ns - flow->touched_ns < idle_ns)
			break;
		if (is_forgettable(flow)) {
			ncmp_flow_forget(compare, flow);
			forgot = TRUE;
		} else {
			ncmp_table_touch(&compare->table, flow, flow->brief, now_ns);
		}
	}
	return forgot;
}

gboolean ncmp_make_room(ncmp_compare *compare, gint64 now_ns)
{
	GQueue *idle = compare->table.idle;

	return forget_idle(compare, &idle[1], BRIEF_FULL_NS, now_ns) ||
	       forget_idle(compare, &idle[0], IDLE_FULL_NS, now_ns);
}

static gint64 forget_old(ncmp_compare *compare, gint64 now_ns)
{
	static const gint64 idle_ns[2] = { IDLE_NS, BRIEF_NS };
	gint64 next = G_MAXINT64;

	for (guint i = 0; i < 2; i++) {
		GQueue *list = &compare->table.idle[i];
		const struct ncmp_flow *first;

		while (forget_idle(compare, list, idle_ns[i], now_ns))
			;
		first = list->head ? list->head->data : NULL;
		/* Seconds matter nothing here: let several come together. */
		if (first)
			next = MIN(next, MAX(first->touched_ns + idle_ns[i],
					     now_ns + NS_PER_S));
	}
	return next;
}

gint64 ncmp_compare_tick(ncmp_compare *compare, gint64 now_ns)
{
	gint64 next = judge_late(compare, now_ns);

	next = MIN(next, judge_missing(compare, now_ns));
	next = MIN(next, judge_conflicts(compare, now_ns));
	next = MIN(next, judge_marker(compare, now_ns));
	next = MIN(next, forget_old(compare, now_ns));
	return next == G_MAXINT64 ? next : MAX(next - now_ns, 0);
}
