/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether comparing pays. Where nearly all packets wait for a checkpoint anyway,
 * because the two guests differ as soon as they run, the secondary's guest had better
 * rest (buffered mode): its processor time is spared, and checkpoints come at their own
 * pace instead of at each divergence. Whether that is still so is tried again, after
 * longer and longer pauses.
 *
 * Decides by figures and the time that it is given; tells nobody.
 */
#ifndef NCMP_MODE_H
#define NCMP_MODE_H

#include <glib.h>

#define NCMP_MODE_WINDOW_S 5u
#define NCMP_MODE_PACKETS_MIN 50u /* in a window: fewer say nothing */
#define NCMP_MODE_LEAVE_PERCENT \
	80u /* waited for a checkpoint: comparing does not pay */
#define NCMP_MODE_STAY_PERCENT 50u /* at most, while it is tried again: it pays now */
#define NCMP_MODE_PAUSE_MIN_S 10u /* until it is tried again */
#define NCMP_MODE_PAUSE_MAX_S 640u

enum ncmp_mode_choice {
	NCMP_MODE_AUTO,
	NCMP_MODE_COLO, /* compare, come what may */
	NCMP_MODE_BUFFERED,
};
gboolean ncmp_mode_parse(const char *name, enum ncmp_mode_choice *choice);

/* Counts that only grow. */
struct ncmp_mode_figures {
	guint64 matched; /* packets that comparing released */
	guint64 committed; /* packets that waited for a checkpoint */
	guint64 divergences;
};

typedef struct ncmp_mode ncmp_mode;

ncmp_mode *ncmp_mode_new(enum ncmp_mode_choice choice);
void ncmp_mode_free(ncmp_mode *mode);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_mode, ncmp_mode_free)

/* Once a second while outputs are guarded. TRUE: the mode changed, or is to be said for
 * the first time. */
gboolean ncmp_mode_judge(ncmp_mode *mode, const struct ncmp_mode_figures *figures,
			 gint64 now_ns);
/* Another pair, or the same after a pause: what was measured is forgotten, and the mode
 * is said again. What was learned of pauses stays. */
void ncmp_mode_restart(ncmp_mode *mode);
gboolean ncmp_mode_compares(const ncmp_mode *mode);
/* Why: "87 % of packets waited for a checkpoint in the last 5 s". Until it changes. */
const char *ncmp_mode_why(const ncmp_mode *mode);

#endif
