/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of flows: hashed with a seed, so that no client can choose what collides.
 */
#include "netcompare/flow.h"

#include <string.h>

#include <xxhash.h>

#define SIZE_LEAST 64u
#define TOUCH_NS 1000000000 /* how fine the order of idle flows is */

void ncmp_table_init(struct ncmp_table *table, guint32 seed)
{
	memset(table, 0, sizeof(*table));
	table->seed = seed;
	table->size = SIZE_LEAST;
	table->buckets = g_new0(struct ncmp_flow *, table->size);
}

void ncmp_table_clear(struct ncmp_table *table)
{
	g_assert(!table->count);
	g_clear_pointer(&table->buckets, g_free);
}

static guint32 hash_of(const struct ncmp_table *table, const struct ncmp_flow_key *key)
{
	return (guint32)XXH3_64bits_withSeed(key, sizeof(*key), table->seed);
}

struct ncmp_flow *ncmp_table_find(struct ncmp_table *table,
				  const struct ncmp_flow_key *key)
{
	guint32 hash = hash_of(table, key);
	struct ncmp_flow *flow = table->buckets[hash & (table->size - 1)];

	while (flow && (flow->hash != hash || memcmp(&flow->key, key, sizeof(*key))))
		flow = flow->next;
	return flow;
}

static void grow(struct ncmp_table *table)
{
	guint size = table->size * 2;
	struct ncmp_flow **buckets = g_new0(struct ncmp_flow *, size);

	for (guint i = 0; i < table->size; i++) {
		struct ncmp_flow *flow, *next;

		for (flow = table->buckets[i]; flow; flow = next) {
			next = flow->next;
			flow->next = buckets[flow->hash & (size - 1)];
			buckets[flow->hash & (size - 1)] = flow;
		}
	}
	g_free(table->buckets);
	table->buckets = buckets;
	table->size = size;
}

struct ncmp_flow *ncmp_table_add(struct ncmp_table *table,
				 const struct ncmp_flow_key *key, gint64 now_ns)
{
	struct ncmp_flow *flow = g_new0(struct ncmp_flow, 1);
	struct ncmp_flow **bucket;

	if (table->count >= table->size)
		grow(table);
	flow->hash = hash_of(table, key);
	flow->key = *key;
	flow->touched_ns = now_ns;
	flow->idle.data = flow;
	flow->ahead.data = flow;
	bucket = &table->buckets[flow->hash & (table->size - 1)];
	flow->next = *bucket;
	*bucket = flow;
	table->count++;
	g_queue_push_tail_link(&table->idle[0], &flow->idle);
	return flow;
}

void ncmp_table_remove(struct ncmp_table *table, struct ncmp_flow *flow)
{
	struct ncmp_flow **at = &table->buckets[flow->hash & (table->size - 1)];

	while (*at != flow)
		at = &(*at)->next;
	*at = flow->next;
	table->count--;
	g_queue_unlink(&table->idle[flow->brief], &flow->idle);
	g_free(flow);
}

void ncmp_table_touch(struct ncmp_table *table, struct ncmp_flow *flow, gboolean brief,
		      gint64 now_ns)
{
	if (flow->brief == brief && now_ns - flow->touched_ns < TOUCH_NS)
		return;
	g_queue_unlink(&table->idle[flow->brief], &flow->idle);
	flow->brief = brief ? 1 : 0;
	flow->touched_ns = now_ns;
	g_queue_push_tail_link(&table->idle[flow->brief], &flow->idle);
}
