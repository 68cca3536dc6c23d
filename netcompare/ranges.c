/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of stream positions. */
#include "netcompare/ranges.h"

#include <string.h>

static const struct ncmp_range *array(const struct ncmp_ranges *ranges)
{
	return ranges->all ? ranges->all : &ranges->first;
}

void ncmp_ranges_clear(struct ncmp_ranges *ranges)
{
	g_free(ranges->all);
	memset(ranges, 0, sizeof(*ranges));
}

/* Puts one in at `i` instead of `gone` others. */
static gboolean splice(struct ncmp_ranges *ranges, guint i, guint gone,
		       struct ncmp_range range)
{
	guint count = ranges->count - gone + 1;

	if (count > NCMP_RANGES_MAX)
		return FALSE;
	if (!ranges->all && count == 1) {
		ranges->first = range;
		ranges->count = 1;
		return TRUE;
	}
	if (!ranges->all) {
		ranges->all = g_new(struct ncmp_range, NCMP_RANGES_MAX);
		ranges->all[0] = ranges->first;
	}
	memmove(&ranges->all[i + 1], &ranges->all[i + gone],
		(ranges->count - i - gone) * sizeof(range));
	ranges->all[i] = range;
	ranges->count = count;
	/* Holes are filled soon, where there were any. */
	if (count == 1) {
		ranges->first = range;
		g_clear_pointer(&ranges->all, g_free);
	}
	return TRUE;
}

gboolean ncmp_ranges_add(struct ncmp_ranges *ranges, guint64 from, guint64 to)
{
	const struct ncmp_range *all = array(ranges);
	struct ncmp_range range = { from, to };
	guint i, gone = 0;

	if (from == to)
		return TRUE;
	if (ranges->count == 1 && from >= all->from && from <= all->to &&
	    !ranges->all) {
		ranges->first.to = MAX(ranges->first.to, to);
		return TRUE;
	}
	for (i = 0; i < ranges->count && all[i].to < from; i++)
		;
	while (i + gone < ranges->count && all[i + gone].from <= to) {
		range.from = MIN(range.from, all[i + gone].from);
		range.to = MAX(range.to, all[i + gone].to);
		gone++;
	}
	return splice(ranges, i, gone, range);
}

gboolean ncmp_ranges_gap(const struct ncmp_ranges *ranges, guint64 from, guint64 to,
			 struct ncmp_range *gap)
{
	const struct ncmp_range *all = array(ranges);
	guint i;

	for (i = 0; i < ranges->count && all[i].to <= from; i++)
		;
	if (i < ranges->count && all[i].from <= from)
		from = all[i++].to;
	if (from >= to)
		return FALSE;
	gap->from = from;
	gap->to = i < ranges->count ? MIN(to, all[i].from) : to;
	return TRUE;
}

guint64 ncmp_ranges_end(const struct ncmp_ranges *ranges)
{
	return ranges->count ? array(ranges)[ranges->count - 1].to : 0;
}

gsize ncmp_ranges_memory(const struct ncmp_ranges *ranges)
{
	return ranges->all ? NCMP_RANGES_MAX * sizeof(*ranges->all) : 0;
}
