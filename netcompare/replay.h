/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two captures of what a guest and its twin sent, compared as the comparator would
 * have.
 *
 * Each flow is judged by itself, so that one which differs does not hide another: where
 * a running comparator asks for one checkpoint, here each difference is told. Neither
 * file's clock matters, and nothing is late that comes at all.
 *
 * Only what the guest sends is compared. Where a capture holds both directions, the
 * guest is taken to be who sent the first SYN-ACK (by its MAC address, or, in a capture
 * of bare IP, its IP address), unless the caller names it; what is said shows whom that
 * was.
 */
#ifndef NCMP_REPLAY_H
#define NCMP_REPLAY_H

#include <glib.h>
#include <stdio.h>

#define NCMP_REPLAY_BYTES_MAX (G_GUINT64_CONSTANT(2) << 30) /* in both captures */

struct ncmp_replay_options {
	const char *primary, *secondary; /* paths */
	const char *guest; /* MAC or IP address; NULL: found as said above */
	gboolean json;
};

/* Also the program's exit status. */
enum ncmp_replay_result {
	NCMP_REPLAY_SAME = 0,
	NCMP_REPLAY_DIVERGED = 1,
	NCMP_REPLAY_UNUSABLE = 2, /* `error` is set, and nothing was written to `out` */
};

enum ncmp_replay_result ncmp_replay(const struct ncmp_replay_options *options,
				    FILE *out,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
