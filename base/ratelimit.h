/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What somebody else can cause as often as they like is told at most once a second. */
#ifndef BASE_RATELIMIT_H
#define BASE_RATELIMIT_H

#include <glib.h>

/* All zero to begin with. One thread at a time. */
struct base_ratelimit {
	guint64 next_ns;
	guint left_out;
};

/* Whether to tell it now; then `*left_out` is how many were not told before it. */
gboolean base_ratelimit_pass(struct base_ratelimit *limit, guint *left_out);

#endif
