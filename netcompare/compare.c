/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The comparison: packets in, verdicts out, and what is held between. */
#include "netcompare/compare.h"

#include <netinet/in.h>
#include <string.h>

#include "netcompare/engine.h"

#define MEMORY_MAX (256ull << 20)
#define FLOW_MEMORY_MAX (8ull << 20)
#define FLOWS_MAX 65536u
#define HELD_MAX 65536u
#define LATE_MIN_MS 5u
#define LATE_MAX_MS 200u
#define EARLY_MAX (8u << 20)

const char *ncmp_cause_name(enum ncmp_cause cause)
{
	static const char *const names[NCMP_CAUSES] = {
		[NCMP_CAUSE_PAYLOAD] = "payload", [NCMP_CAUSE_FLAGS] = "flags",
		[NCMP_CAUSE_MISSING] = "missing", [NCMP_CAUSE_LATE] = "late",
		[NCMP_CAUSE_OVERRUN] = "overrun", [NCMP_CAUSE_MEMORY] = "memory",
		[NCMP_CAUSE_OPAQUE] = "opaque",	  [NCMP_CAUSE_RESTART] = "restart",
		[NCMP_CAUSE_STALL] = "stall",
	};

	return (guint)cause < NCMP_CAUSES && names[cause] ? names[cause] : "unknown";
}

ncmp_compare *ncmp_compare_new(const struct ncmp_compare_options *options,
			       const struct ncmp_compare_hooks *hooks)
{
	ncmp_compare *compare = g_new0(ncmp_compare, 1);
	struct ncmp_compare_options *set = &compare->options;

	*set = *options;
	set->memory_max = set->memory_max ? set->memory_max : MEMORY_MAX;
	set->flow_memory_max =
		set->flow_memory_max ? set->flow_memory_max : FLOW_MEMORY_MAX;
	set->flows_max = set->flows_max ? set->flows_max : FLOWS_MAX;
	set->held_max = set->held_max ? set->held_max : HELD_MAX;
	set->late_min_ms = set->late_min_ms ? set->late_min_ms : LATE_MIN_MS;
	set->late_max_ms = set->late_max_ms ? set->late_max_ms : LATE_MAX_MS;
	set->late_max_ms = MAX(set->late_max_ms, set->late_min_ms);
	compare->lag.least_ns = set->late_min_ms * (gint64)1000000;
	compare->lag.most_ns = set->late_max_ms * (gint64)1000000;
	compare->hooks = *hooks;
	compare->gate = NCMP_GATE_CLOSED;
	compare->scratch = g_byte_array_new();
	ncmp_table_init(&compare->table, set->seed);
	return compare;
}

static void forget_early(ncmp_compare *compare, struct ncmp_early *early)
{
	g_queue_unlink(&compare->early, &early->link);
	compare->early_memory -= sizeof(*early) + early->len;
	compare->memory -= sizeof(*early) + early->len;
	g_free(early);
}

void ncmp_forget_early(ncmp_compare *compare)
{
	while (compare->early.head)
		forget_early(compare, compare->early.head->data);
}

static void forget_held(ncmp_compare *compare, struct ncmp_held *held)
{
	ncmp_detach(compare, held);
	g_queue_unlink(&compare->held, &held->all);
	compare->memory -= held->memory;
	g_free(held);
}

void ncmp_compare_free(ncmp_compare *compare)
{
	while (compare->held.head)
		forget_held(compare, compare->held.head->data);
	ncmp_forget_early(compare);
	for (guint i = 0; i < G_N_ELEMENTS(compare->table.idle); i++)
		while (compare->table.idle[i].head)
			ncmp_flow_forget(compare, compare->table.idle[i].head->data);
	ncmp_table_clear(&compare->table);
	g_byte_array_unref(compare->scratch);
	g_free(compare);
}

void ncmp_diverge(ncmp_compare *compare, struct ncmp_flow *flow,
		  const struct ncmp_divergence *divergence)
{
	enum ncmp_cause cause = divergence->cause;
	struct ncmp_divergence told = *divergence;

	compare->counters.divergences[cause]++;
	if (flow) {
		ncmp_blames_add(&compare->blames, flow->key.protocol,
				flow->key.source_port, cause);
		if (cause == NCMP_CAUSE_PAYLOAD || cause == NCMP_CAUSE_FLAGS ||
		    cause == NCMP_CAUSE_MEMORY)
			flow->stuck = 1;
		told.key = &flow->key;
	}
	if (compare->asked)
		return;
	compare->asked = TRUE;
	told.epoch = compare->epoch;
	compare->hooks.diverged(compare->hooks.data, &told);
}

void ncmp_diverge_plain(ncmp_compare *compare, struct ncmp_flow *flow,
			enum ncmp_cause cause, guint64 position)
{
	struct ncmp_divergence divergence = { .cause = cause, .position = position };

	ncmp_diverge(compare, flow, &divergence);
}

static void count_outcome(ncmp_compare *compare, const struct ncmp_held *held,
			  enum ncmp_outcome outcome, gint64 now_ns)
{
	struct ncmp_compare_counters *counters = &compare->counters;
	guint bucket = ncmp_lag_bucket(now_ns - held->arrived_ns, NCMP_HOLD_BUCKETS);
	guint64 *count[] = {
		[NCMP_MATCHED] = counters->matched,
		[NCMP_COMMITTED] = counters->committed,
		[NCMP_PASSED] = counters->passed,
		[NCMP_OPENED] = counters->opened,
		[NCMP_DROPPED] = counters->dropped,
	};

	count[outcome][0]++;
	count[outcome][1] += held->raw_len;
	if (outcome == NCMP_MATCHED)
		counters->held_us[bucket]++;
	else if (outcome == NCMP_COMMITTED)
		counters->committed_us[bucket]++;
}

void ncmp_finish(ncmp_compare *compare, struct ncmp_held *held,
		 enum ncmp_outcome outcome, const guint8 *changed, gint64 now_ns)
{
	const struct ncmp_compare_hooks *hooks = &compare->hooks;

	count_outcome(compare, held, outcome, now_ns);
	if (changed) {
		compare->counters.acks_lowered[0]++;
		compare->counters.acks_lowered[1] += held->raw_len;
	}
	if (outcome == NCMP_DROPPED)
		hooks->drop(hooks->data, held->id);
	else
		hooks->release(hooks->data, held->id, changed, held->raw_len);
	if (held->kept)
		forget_held(compare, held);
}

void ncmp_charge(ncmp_compare *compare, struct ncmp_flow *flow, gssize bytes)
{
	flow->memory += (gsize)bytes;
	compare->memory += (guint64)bytes;
}

static gboolean has_room(const ncmp_compare *compare, const struct ncmp_flow *flow,
			 gsize bytes)
{
	return compare->memory + bytes <= compare->options.memory_max &&
	       (!flow || flow->memory + bytes <= compare->options.flow_memory_max);
}

gboolean ncmp_afford(ncmp_compare *compare, struct ncmp_flow *flow, gsize bytes)
{
	if (has_room(compare, flow, bytes))
		return TRUE;
	ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MEMORY, 0);
	return FALSE;
}

struct ncmp_held *ncmp_keep(ncmp_compare *compare, struct ncmp_flow *flow,
			    struct ncmp_held *held)
{
	gboolean room = compare->held.length < compare->options.held_max &&
			has_room(compare, flow, sizeof(*held) + held->raw_len);
	gsize bytes = room ? held->raw_len : 0;
	struct ncmp_held *kept = g_malloc(sizeof(*kept) + bytes);
	guint8 *copy = (guint8 *)(kept + 1);

	*kept = *held;
	if (room)
		memcpy(copy, held->raw, bytes);
	kept->raw = room ? copy : NULL;
	kept->packet.bytes = room ? copy + (held->packet.bytes - held->raw) : NULL;
	kept->kept = 1;
	kept->memory = sizeof(*kept) + bytes;
	kept->all = kept->queued = kept->waiting = (GList){ .data = kept };
	compare->memory += kept->memory;
	g_queue_push_tail_link(&compare->held, &kept->all);
	if (!room)
		ncmp_diverge_plain(compare, flow, NCMP_CAUSE_MEMORY, 0);
	return kept;
}

void ncmp_wait(ncmp_compare *compare, struct ncmp_flow *flow, GQueue *queue,
	       struct ncmp_held *held, gint64 now_ns)
{
	if (!held->kept)
		held = ncmp_keep(compare, flow, held);
	held->flow = flow;
	held->queue = queue;
	held->since_ns = now_ns;
	flow->memory += held->memory;
	/* What is not there cannot be compared, nor what comes after it. */
	if (!held->raw)
		flow->stuck = 1;
	g_queue_push_tail_link(queue, &held->queued);
	held->is_waiting = 1;
	g_queue_push_tail_link(&compare->waiting, &held->waiting);
}

void ncmp_detach(ncmp_compare *compare, struct ncmp_held *held)
{
	if (held->is_waiting)
		g_queue_unlink(&compare->waiting, &held->waiting);
	held->is_waiting = 0;
	if (!held->flow)
		return;
	g_queue_unlink(held->queue, &held->queued);
	held->flow->memory -= held->memory;
	held->flow = NULL;
	held->queue = NULL;
}

void ncmp_flow_turn(ncmp_compare *compare, struct ncmp_flow *flow)
{
	if (flow->epoch == compare->epoch)
		return;
	flow->epoch = compare->epoch;
	flow->stuck = 0;
	if (flow->key.protocol == IPPROTO_TCP)
		ncmp_tcp_turn(compare, flow);
	else
		ncmp_datagram_clear(compare, flow);
	ncmp_flow_set_ahead(compare, flow, FALSE, FALSE, 0);
}

struct ncmp_flow *ncmp_flow_get(ncmp_compare *compare, const struct ncmp_packet *packet,
				gint64 now_ns)
{
	gboolean tcp = packet->kind == NCMP_KIND_TCP;
	struct ncmp_flow *flow = ncmp_table_find(&compare->table, &packet->key);

	if (flow) {
		ncmp_flow_turn(compare, flow);
		ncmp_table_touch(&compare->table, flow, flow->brief, now_ns);
		return flow;
	}
	if (compare->full)
		return NULL;
	if (compare->memory + sizeof(*flow) > compare->options.memory_max ||
	    (compare->table.count >= compare->options.flows_max &&
	     !ncmp_make_room(compare, now_ns))) {
		compare->full = TRUE;
		return NULL;
	}
	flow = ncmp_table_add(&compare->table, &packet->key, now_ns);
	flow->epoch = compare->epoch;
	compare->memory += sizeof(*flow);
	if (!tcp)
		ncmp_table_touch(&compare->table, flow, TRUE, now_ns);
	return flow;
}

/* Nothing of the primary's may wait in it. */
void ncmp_flow_forget(ncmp_compare *compare, struct ncmp_flow *flow)
{
	if (flow->key.protocol == IPPROTO_TCP)
		ncmp_tcp_clear(compare, flow);
	else
		ncmp_datagram_clear(compare, flow);
	ncmp_flow_set_ahead(compare, flow, FALSE, FALSE, 0);
	compare->memory -= sizeof(*flow);
	ncmp_table_remove(&compare->table, flow);
}

void ncmp_flow_set_ahead(ncmp_compare *compare, struct ncmp_flow *flow, gboolean ahead,
			 gboolean progress, gint64 now_ns)
{
	if (ahead && flow->is_ahead && !progress)
		return;
	if (flow->is_ahead)
		g_queue_unlink(&compare->ahead, &flow->ahead);
	flow->is_ahead = ahead ? 1 : 0;
	if (!ahead)
		return;
	flow->ahead_ns = now_ns;
	g_queue_push_tail_link(&compare->ahead, &flow->ahead);
}

static void take_opaque(ncmp_compare *compare, struct ncmp_held *held)
{
	if (!held->kept)
		held = ncmp_keep(compare, NULL, held);
	ncmp_diverge(
		compare, NULL,
		&(struct ncmp_divergence){
			.cause = NCMP_CAUSE_OPAQUE,
			.primary = held->packet.bytes,
			.primary_len = held->packet.bytes ? held->packet.len : 0 });
}

void ncmp_take(ncmp_compare *compare, struct ncmp_held *held, gint64 now_ns)
{
	struct ncmp_flow *flow;

	switch (held->packet.kind) {
	case NCMP_KIND_PASS:
		ncmp_finish(compare, held, NCMP_PASSED, NULL, now_ns);
		return;
	case NCMP_KIND_OPAQUE:
	case NCMP_KIND_MALFORMED:
		take_opaque(compare, held);
		return;
	default:
		break;
	}
	flow = ncmp_flow_get(compare, &held->packet, now_ns);
	if (!flow) {
		if (!held->kept)
			ncmp_keep(compare, NULL, held);
		ncmp_diverge_plain(compare, NULL, NCMP_CAUSE_MEMORY, 0);
	} else if (held->packet.kind == NCMP_KIND_TCP) {
		ncmp_tcp_take(compare, flow, held, now_ns);
	} else {
		ncmp_datagram_take(compare, flow, held, now_ns);
	}
}

void ncmp_cover(ncmp_compare *compare, const struct ncmp_packet *packet, gint64 now_ns)
{
	struct ncmp_flow *flow;

	if (packet->kind != NCMP_KIND_TCP)
		return;
	flow = ncmp_flow_get(compare, packet, now_ns);
	if (flow)
		ncmp_tcp_cover(compare, flow, packet, now_ns);
}

void ncmp_compare_primary(ncmp_compare *compare, const struct ncmp_arrival *arrival,
			  gint64 now_ns)
{
	struct ncmp_held held;

	held.flow = NULL;
	held.queue = NULL;
	held.id = arrival->id;
	held.raw = arrival->bytes;
	held.raw_len = arrival->len;
	held.memory = 0;
	held.arrived_ns = held.since_ns = now_ns;
	held.epoch = compare->marker;
	held.segmentable = arrival->segmentable ? 1 : 0;
	held.partial = arrival->partial ? 1 : 0;
	held.kept = held.is_waiting = 0;
	held.marker_number = compare->marker_number;
	held.certain = compare->has_marker && !compare->uncertain;
	if (compare->gate == NCMP_GATE_OPEN) {
		ncmp_finish(compare, &held, NCMP_OPENED, NULL, now_ns);
		return;
	}
	ncmp_packet_parse(&held.packet, arrival->bytes, arrival->len,
			  arrival->ethertype, arrival->vlan, arrival->device);
	if (held.packet.kind == NCMP_KIND_MALFORMED)
		compare->counters.malformed++;
	else if (held.packet.kind == NCMP_KIND_OPAQUE)
		compare->counters.opaque++;
	if (ncmp_is_live(compare) ||
	    (held.packet.kind == NCMP_KIND_PASS && compare->committed))
		ncmp_take(compare, &held, now_ns);
	else
		ncmp_keep(compare, NULL, &held);
}

static void keep_early(ncmp_compare *compare, guint64 epoch, guint8 device,
		       const guint8 *frame, gsize len)
{
	struct ncmp_early *early;
	gsize size = sizeof(*early) + len;

	if (compare->early_memory + size > EARLY_MAX ||
	    !has_room(compare, NULL, size)) {
		compare->counters.secondary_stale++;
		return;
	}
	early = g_malloc(size);
	early->epoch = epoch;
	early->device = device;
	early->len = len;
	early->link = (GList){ .data = early };
	memcpy(early->frame, frame, len);
	compare->early_memory += size;
	compare->memory += size;
	g_queue_push_tail_link(&compare->early, &early->link);
}

void ncmp_take_early(ncmp_compare *compare, gint64 now_ns)
{
	GList *link = compare->early.head;

	while (link) {
		struct ncmp_early *early = link->data;

		link = link->next;
		if (early->epoch > compare->epoch)
			continue;
		if (early->epoch == compare->epoch && ncmp_is_listening(compare))
			ncmp_take_secondary(compare, early->device, early->frame,
					    early->len, now_ns);
		else
			compare->counters.secondary_stale++;
		forget_early(compare, early);
	}
}

void ncmp_take_secondary(ncmp_compare *compare, guint8 device, const guint8 *frame,
			 gsize len, gint64 now_ns)
{
	struct ncmp_packet packet;
	struct ncmp_flow *flow;

	compare->counters.secondary_packets++;
	compare->counters.secondary_bytes += len;
	ncmp_packet_parse_frame(&packet, frame, len, device);
	if (packet.kind != NCMP_KIND_TCP && packet.kind != NCMP_KIND_DATAGRAM)
		return;
	flow = ncmp_flow_get(compare, &packet, now_ns);
	if (!flow)
		ncmp_diverge_plain(compare, NULL, NCMP_CAUSE_MEMORY, 0);
	else if (packet.kind == NCMP_KIND_TCP)
		ncmp_tcp_secondary(compare, flow, &packet, now_ns);
	else
		ncmp_datagram_secondary(compare, flow, &packet, now_ns);
}

void ncmp_compare_secondary(ncmp_compare *compare, guint64 epoch, guint8 device,
			    const guint8 *frame, gsize len, gint64 now_ns)
{
	if (ncmp_is_listening(compare) && epoch == compare->epoch)
		ncmp_take_secondary(compare, device, frame, len, now_ns);
	else if (compare->gate == NCMP_GATE_GUARDED &&
		 (!compare->committed || epoch > compare->epoch))
		keep_early(compare, epoch, device, frame, len);
	else
		compare->counters.secondary_stale++;
}

void ncmp_compare_get_counters(const ncmp_compare *compare,
			       struct ncmp_compare_counters *counters)
{
	*counters = compare->counters;
	counters->flows = compare->table.count;
	counters->held = compare->held.length;
	counters->memory =
		compare->memory + compare->table.size * sizeof(struct ncmp_flow *);
	counters->lag_us = (guint64)compare->lag.smoothed_ns / 1000;
	counters->late_us = (guint64)ncmp_lag_limit(&compare->lag) / 1000;
	counters->epoch = compare->epoch;
	counters->marker = compare->marker;
}

guint ncmp_compare_get_blames(const ncmp_compare *compare, struct ncmp_blame *blames,
			      guint max)
{
	return ncmp_blames_get(&compare->blames, blames, max);
}
