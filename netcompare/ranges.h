/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A set of stream positions, as few ranges: nearly always one that grows at its end. A
 * zeroed struct is an empty set.
 */
#ifndef NCMP_RANGES_H
#define NCMP_RANGES_H

#include <glib.h>

#define NCMP_RANGES_MAX 32u

struct ncmp_range {
	guint64 from, to; /* without `to` */
};

struct ncmp_ranges {
	struct ncmp_range first; /* the only one, while `all` is NULL */
	struct ncmp_range *all; /* NCMP_RANGES_MAX of them, in order */
	guint count;
};

void ncmp_ranges_clear(struct ncmp_ranges *ranges);
/* FALSE: there would be too many, and nothing changed. */
gboolean ncmp_ranges_add(struct ncmp_ranges *ranges, guint64 from,
			 guint64 to) G_GNUC_WARN_UNUSED_RESULT;
/* The first part of [from, to) that is not in the set; FALSE: all of it is. */
gboolean ncmp_ranges_gap(const struct ncmp_ranges *ranges, guint64 from, guint64 to,
			 struct ncmp_range *gap);
/* The end of the last one; 0: the set is empty. */
guint64 ncmp_ranges_end(const struct ncmp_ranges *ranges);
/* Bytes allocated. */
gsize ncmp_ranges_memory(const struct ncmp_ranges *ranges);

#endif
