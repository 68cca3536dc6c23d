/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether comparing pays. */
#include "netcompare/mode.h"

#include <string.h>

#define SECOND_NS G_GINT64_CONSTANT(1000000000)

struct ncmp_mode {
	enum ncmp_mode_choice choice;
	gboolean compares;
	gboolean said; /* the mode, since the restart */
	gboolean trying; /* it was turned back to comparing, and has yet to pay */
	guint pause_s; /* the next pause */
	gint64 again_ns; /* end of the present one */
	struct ncmp_mode_figures begin; /* of the window */
	gint64 begin_ns; /* -1: there is no window */
	char *why;
};

gboolean ncmp_mode_parse(const char *name, enum ncmp_mode_choice *choice)
{
	static const char *const names[] = {
		[NCMP_MODE_AUTO] = "auto",
		[NCMP_MODE_COLO] = "colo",
		[NCMP_MODE_BUFFERED] = "buffered",
	};

	for (guint i = 0; i < G_N_ELEMENTS(names); i++)
		if (!strcmp(names[i], name)) {
			*choice = (enum ncmp_mode_choice)i;
			return TRUE;
		}
	return FALSE;
}

ncmp_mode *ncmp_mode_new(enum ncmp_mode_choice choice)
{
	ncmp_mode *mode = g_new0(ncmp_mode, 1);

	mode->choice = choice;
	mode->compares = choice != NCMP_MODE_BUFFERED;
	mode->pause_s = NCMP_MODE_PAUSE_MIN_S;
	mode->begin_ns = -1;
	mode->why = g_strdup(choice == NCMP_MODE_AUTO ? "nothing was measured yet"
						      : "it was asked for");
	return mode;
}

void ncmp_mode_free(ncmp_mode *mode)
{
	if (!mode)
		return;
	g_free(mode->why);
	g_free(mode);
}

static void begin_window(ncmp_mode *mode, const struct ncmp_mode_figures *figures,
			 gint64 now_ns)
{
	mode->begin = *figures;
	mode->begin_ns = now_ns;
}

/* Takes `why`. */
static gboolean turn(ncmp_mode *mode, gboolean compares, char *why)
{
	g_free(mode->why);
	mode->why = why;
	mode->compares = compares;
	mode->begin_ns = -1;
	return TRUE;
}

static gboolean leave(ncmp_mode *mode, guint percent, guint window_s, gint64 now_ns)
{
	/* It paid for long: what was before that says little. */
	if (!mode->trying)
		mode->pause_s = NCMP_MODE_PAUSE_MIN_S;
	mode->again_ns = now_ns + mode->pause_s * SECOND_NS;
	turn(mode, FALSE,
	     g_strdup_printf(
		     "%u %% of packets waited for a checkpoint in the last %u s; "
		     "comparing is tried again in %u s",
		     percent, window_s, mode->pause_s));
	mode->pause_s = MIN(mode->pause_s * 2, NCMP_MODE_PAUSE_MAX_S);
	return TRUE;
}

static gboolean judge_window(ncmp_mode *mode, const struct ncmp_mode_figures *figures,
			     gint64 now_ns)
{
	guint64 waited = figures->committed - mode->begin.committed;
	guint64 all = waited + figures->matched - mode->begin.matched;
	guint64 divergences = figures->divergences - mode->begin.divergences;
	guint window_s = (guint)((now_ns - mode->begin_ns) / SECOND_NS);
	guint limit =
		mode->trying ? NCMP_MODE_STAY_PERCENT + 1 : NCMP_MODE_LEAVE_PERCENT;
	guint percent;

	if (window_s < NCMP_MODE_WINDOW_S || all < NCMP_MODE_PACKETS_MIN)
		return FALSE;
	percent = (guint)(waited * 100 / all);
	/* Without divergences they waited for something else, such as a first
	 * checkpoint. */
	if (percent >= limit && divergences >= window_s / 2)
		return leave(mode, percent, window_s, now_ns);
	mode->trying = FALSE;
	begin_window(mode, figures, now_ns);
	return FALSE;
}

gboolean ncmp_mode_judge(ncmp_mode *mode, const struct ncmp_mode_figures *figures,
			 gint64 now_ns)
{
	gboolean changed = !mode->said;

	mode->said = TRUE;
	if (mode->choice != NCMP_MODE_AUTO)
		return changed;
	if (!mode->compares && now_ns >= mode->again_ns) {
		mode->trying = TRUE;
		turn(mode, TRUE, g_strdup("it is tried whether comparing pays now"));
		changed = TRUE;
	}
	if (mode->begin_ns < 0)
		begin_window(mode, figures, now_ns);
	else if (mode->compares)
		changed |= judge_window(mode, figures, now_ns);
	return changed;
}

void ncmp_mode_restart(ncmp_mode *mode)
{
	mode->said = FALSE;
	mode->begin_ns = -1;
}

gboolean ncmp_mode_compares(const ncmp_mode *mode)
{
	return mode->compares;
}

const char *ncmp_mode_why(const ncmp_mode *mode)
{
	return mode->why;
}
