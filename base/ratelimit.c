/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What somebody else can cause as often as they like is told at most once a second. */
#include "base/ratelimit.h"

#include "base/clock.h"

#define INTERVAL_NS 1000000000ull

gboolean base_ratelimit_pass(struct base_ratelimit *limit, guint *left_out)
{
	guint64 now = base_clock_monotonic_ns();

	if (now < limit->next_ns) {
		if (limit->left_out < G_MAXUINT)
			limit->left_out++;
		return FALSE;
	}
	*left_out = limit->left_out;
	limit->left_out = 0;
	limit->next_ns = now + INTERVAL_NS;
	return TRUE;
}
