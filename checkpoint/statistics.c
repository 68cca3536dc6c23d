/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a primary's checkpoints cost. */
#include "checkpoint/statistics.h"

#include <string.h>

#define KEPT 1024u

/* The times of one checkpoint, of which percentiles are given. */
enum time { PAUSE, COMMIT, APPLY, TIMES };
static const char *const time_names[TIMES] = { "pause_us", "commit_us", "apply_us" };

struct ckpt_statistics {
	GMutex lock;
	guint64 count;
	guint64 by_reason[CKPT_REASONS];
	struct ckpt_checkpoint_stats last, sum;
	guint64 times_ns[TIMES][KEPT]; /* a ring */
};

ckpt_statistics *ckpt_statistics_new(void)
{
	ckpt_statistics *statistics = g_new0(ckpt_statistics, 1);

	g_mutex_init(&statistics->lock);
	return statistics;
}

void ckpt_statistics_free(ckpt_statistics *statistics)
{
	if (!statistics)
		return;
	g_mutex_clear(&statistics->lock);
	g_free(statistics);
}

void ckpt_statistics_add(ckpt_statistics *statistics,
			 const struct ckpt_checkpoint_stats *checkpoint)
{
	struct ckpt_checkpoint_stats *sum = &statistics->sum;
	guint slot;

	g_mutex_lock(&statistics->lock);
	slot = (guint)(statistics->count++ % KEPT);
	statistics->times_ns[PAUSE][slot] = checkpoint->pause_ns;
	statistics->times_ns[COMMIT][slot] = checkpoint->commit_ns;
	statistics->times_ns[APPLY][slot] = checkpoint->apply_ns;
	statistics->by_reason[checkpoint->reason]++;
	statistics->last = *checkpoint;
	sum->pause_ns += checkpoint->pause_ns;
	sum->dirty += checkpoint->dirty;
	sum->zero += checkpoint->zero;
	sum->same += checkpoint->same;
	sum->twin += checkpoint->twin;
	sum->sent += checkpoint->sent;
	sum->bytes += checkpoint->bytes;
	g_mutex_unlock(&statistics->lock);
}

static void set(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name, (gint64)MIN(value, G_MAXINT64));
}

static void set_pages(JsonObject *object, const struct ckpt_checkpoint_stats *stats)
{
	set(object, "dirty_pages", stats->dirty);
	set(object, "zero_pages", stats->zero);
	set(object, "same_pages", stats->same);
	set(object, "twin_pages", stats->twin);
	set(object, "sent_pages", stats->sent);
	set(object, "bytes", stats->bytes);
}

static JsonObject *last(const struct ckpt_checkpoint_stats *stats)
{
	JsonObject *object = json_object_new();

	set(object, "epoch", stats->epoch);
	json_object_set_string_member(object, "reason", ckpt_reason_name(stats->reason));
	set(object, "pause_us", stats->pause_ns / 1000);
	set(object, "commit_us", stats->commit_ns / 1000);
	set(object, "apply_us", stats->apply_ns / 1000);
	set(object, "private_pages", stats->private_pages);
	set_pages(object, stats);
	return object;
}

static int compare(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static JsonObject *spread(const guint64 *times_ns, guint count)
{
	JsonObject *object = json_object_new();
	guint64 sorted[KEPT];

	memcpy(sorted, times_ns, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), compare);
	set(object, "p50", sorted[count / 2] / 1000);
	set(object, "p99", sorted[count * 99 / 100] / 1000);
	set(object, "max", sorted[count - 1] / 1000);
	return object;
}

static JsonObject *reasons(const guint64 *by_reason)
{
	JsonObject *object = json_object_new();

	for (guint i = 0; i < CKPT_REASONS; i++)
		if (by_reason[i])
			set(object, ckpt_reason_name((enum ckpt_reason)i), by_reason[i]);
	return object;
}

JsonObject *ckpt_statistics_json(ckpt_statistics *statistics)
{
	JsonObject *object = json_object_new(), *total = json_object_new();
	guint kept;

	g_mutex_lock(&statistics->lock);
	kept = (guint)MIN(statistics->count, KEPT);
	set(total, "checkpoints", statistics->count);
	json_object_set_object_member(total, "reasons", reasons(statistics->by_reason));
	set(total, "paused_us", statistics->sum.pause_ns / 1000);
	set_pages(total, &statistics->sum);
	json_object_set_object_member(object, "total", total);
	for (guint i = 0; kept && i < TIMES; i++)
		json_object_set_object_member(object, time_names[i],
					      spread(statistics->times_ns[i], kept));
	if (kept)
		json_object_set_object_member(object, "last", last(&statistics->last));
	else
		json_object_set_null_member(object, "last");
	g_mutex_unlock(&statistics->lock);
	return object;
}
