/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the comparator does, in words: colo-netcompare(1) describes each of them. */
#include "netcompare/comparator.h"

#include <netinet/in.h>

#define BLAMES_MAX 16u

static void set_count(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name,
				   (gint64)MIN(value, (guint64)G_MAXINT64));
}

/* The hold time, in us, that so many percent of packets stay below. */
static guint64 percentile(const guint64 buckets[NCMP_HOLD_BUCKETS], guint percent)
{
	guint64 all = 0, want, seen = 0;

	for (guint i = 0; i < NCMP_HOLD_BUCKETS; i++)
		all += buckets[i];
	want = (all * percent + 99) / 100;
	for (guint i = 0; i < NCMP_HOLD_BUCKETS; i++) {
		guint64 low = i ? G_GUINT64_CONSTANT(1) << (i - 1) : 0;
		guint64 high = G_GUINT64_CONSTANT(1) << i;

		if (buckets[i] && seen + buckets[i] >= want)
			return low + (high - low) * (want - seen) / buckets[i];
		seen += buckets[i];
	}
	return 0;
}

static JsonObject *hold_times(const guint64 buckets[NCMP_HOLD_BUCKETS])
{
	JsonObject *times = json_object_new();

	set_count(times, "p50", percentile(buckets, 50));
	set_count(times, "p99", percentile(buckets, 99));
	return times;
}

static JsonObject *queue_words(const struct ncmp_queue_counters *q)
{
	JsonObject *queue = json_object_new();

	set_count(queue, "packets", q->packets);
	set_count(queue, "bytes", q->bytes);
	set_count(queue, "accepted", q->accepted);
	set_count(queue, "changed", q->changed);
	set_count(queue, "dropped", q->dropped);
	set_count(queue, "waiting", q->waiting);
	set_count(queue, "waiting-bytes", q->waiting_bytes);
	set_count(queue, "kernel-waiting", q->kernel_waiting);
	set_count(queue, "kernel-lost", q->kernel_lost);
	set_count(queue, "overruns", q->overruns);
	set_count(queue, "stale-verdicts", q->stale);
	return queue;
}

/* `which` 0: packets, 1: bytes. */
static JsonObject *outcomes(const struct ncmp_compare_counters *c, guint which)
{
	JsonObject *object = json_object_new();

	set_count(object, "matched", c->matched[which]);
	set_count(object, "committed", c->committed[which]);
	set_count(object, "passed", c->passed[which]);
	set_count(object, "opened", c->opened[which]);
	set_count(object, "dropped", c->dropped[which]);
	set_count(object, "acks-lowered", c->acks_lowered[which]);
	return object;
}

static JsonObject *causes(const guint64 counts[NCMP_CAUSES])
{
	JsonObject *object = json_object_new();

	for (guint i = 1; i < NCMP_CAUSES; i++)
		if (counts[i])
			set_count(object, ncmp_cause_name(i), counts[i]);
	return object;
}

static void set_protocol(JsonObject *object, guint8 protocol)
{
	const char *name = protocol == IPPROTO_TCP    ? "tcp"
			   : protocol == IPPROTO_UDP  ? "udp"
			   : protocol == IPPROTO_ICMP ? "icmp"
						      : NULL;
	g_autofree char *number = g_strdup_printf("%u", protocol);

	json_object_set_string_member(object, "protocol", name ? name : number);
}

static JsonArray *blame_words(const ncmp_comparator *comparator)
{
	struct ncmp_blame blames[BLAMES_MAX];
	guint count = ncmp_comparator_get_blames(comparator, blames, BLAMES_MAX);
	JsonArray *array = json_array_new();

	for (guint i = 0; i < count; i++) {
		JsonObject *object = json_object_new();

		set_protocol(object, blames[i].protocol);
		set_count(object, "port", blames[i].port);
		json_object_set_object_member(object, "causes",
					      causes(blames[i].count));
		json_array_add_object_element(array, object);
	}
	return array;
}

static void add_comparison(JsonObject *status, const struct ncmp_compare_counters *c)
{
	JsonObject *secondary = json_object_new(), *hold = json_object_new();

	json_object_set_object_member(status, "packets", outcomes(c, 0));
	json_object_set_object_member(status, "bytes", outcomes(c, 1));
	set_count(secondary, "packets", c->secondary_packets);
	set_count(secondary, "bytes", c->secondary_bytes);
	set_count(secondary, "stale", c->secondary_stale);
	json_object_set_object_member(status, "secondary", secondary);
	json_object_set_object_member(hold, "matched", hold_times(c->held_us));
	json_object_set_object_member(hold, "committed", hold_times(c->committed_us));
	json_object_set_object_member(status, "hold-us", hold);
	json_object_set_object_member(status, "divergences", causes(c->divergences));
	set_count(status, "malformed", c->malformed);
	set_count(status, "opaque", c->opaque);
	set_count(status, "flows", c->flows);
	set_count(status, "held", c->held);
	set_count(status, "memory", c->memory);
	set_count(status, "lag-us", c->lag_us);
	set_count(status, "late-us", c->late_us);
}

JsonObject *ncmp_comparator_status(const ncmp_comparator *comparator)
{
	static const char *const gates[] = { "closed", "open", "guarded" };
	JsonObject *status = json_object_new(), *mode = json_object_new();
	struct ncmp_comparator_state s;

	ncmp_comparator_get_state(comparator, &s);
	json_object_set_string_member(status, "gate", gates[s.gate]);
	json_object_set_boolean_member(status, "connected", s.connected);
	json_object_set_boolean_member(mode, "compare", s.compares);
	json_object_set_string_member(mode, "why", s.why);
	json_object_set_object_member(status, "mode", mode);
	set_count(status, "epoch", s.cut);
	set_count(status, "committed", s.committed);
	set_count(status, "markers", s.markers);
	set_count(status, "requests", s.requests);
	set_count(status, "strangers", s.strangers);
	set_count(status, "crowded", s.crowded);
	set_count(status, "stalls", s.stalls);
	set_count(status, "secondary-lost", s.secondary_lost);
	json_object_set_object_member(status, "queue", queue_words(&s.queue));
	add_comparison(status, &s.compare);
	json_object_set_array_member(status, "blames", blame_words(comparator));
	return status;
}
