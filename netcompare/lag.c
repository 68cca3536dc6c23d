/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How far the secondary's guest is behind the primary's. */
#include "netcompare/lag.h"

void ncmp_lag_sample(struct ncmp_lag *lag, gint64 ns)
{
	if (!lag->known) {
		lag->known = TRUE;
		lag->smoothed_ns = ns;
		lag->deviation_ns = ns / 2;
		return;
	}
	lag->deviation_ns += (ABS(ns - lag->smoothed_ns) - lag->deviation_ns) / 4;
	lag->smoothed_ns += (ns - lag->smoothed_ns) / 8;
}

void ncmp_lag_back_off(struct ncmp_lag *lag)
{
	gint64 limit = ncmp_lag_limit(lag);

	if (lag->known && limit < lag->most_ns)
		lag->deviation_ns = (2 * limit - lag->smoothed_ns) / 4;
}

/* While nothing is known, the longest: a checkpoint that was not needed costs more. */
gint64 ncmp_lag_limit(const struct ncmp_lag *lag)
{
	if (!lag->known)
		return lag->most_ns;
	return CLAMP(lag->smoothed_ns + 4 * lag->deviation_ns, lag->least_ns,
		     lag->most_ns);
}

guint ncmp_lag_bucket(gint64 ns, guint buckets)
{
	guint64 us = ns > 0 ? (guint64)ns / 1000 : 0;

	return us ? MIN(buckets - 1, g_bit_storage(us)) : 0;
}
