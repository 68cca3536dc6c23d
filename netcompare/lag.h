/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How far the secondary's guest is behind the primary's: smoothed as RFC 6298 smooths
 * round trips, and the limit that follows from it. */
#ifndef NCMP_LAG_H
#define NCMP_LAG_H

#include <glib.h>

struct ncmp_lag {
	gint64 smoothed_ns, deviation_ns;
	gint64 least_ns, most_ns; /* of the limit */
	gboolean known;
};

void ncmp_lag_sample(struct ncmp_lag *lag, gint64 ns);
/* Something was later than the limit: it may be too low. */
void ncmp_lag_back_off(struct ncmp_lag *lag);
gint64 ncmp_lag_limit(const struct ncmp_lag *lag);
/* Of a histogram whose bucket i holds what is below 2^i us. */
guint ncmp_lag_bucket(gint64 ns, guint buckets);

#endif
