/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hook program, run once for each event, one at a time and in order. It gets the
 * event's name as its argument, COLO_EVENT, COLO_PAIR, COLO_NODE, COLO_STATE,
 * COLO_GENERATION, COLO_DETAIL and COLO_TIME (seconds and milliseconds of UTC) in its
 * environment, and the event as one line of JSON on its standard input. What it says
 * goes to the log, up to COLO_HOOK_LINES lines.
 *
 * It runs in a process group of its own, as the user that is configured, without
 * capabilities; when it ends or its time is up the whole group is killed, what it left
 * running too (but for what has made itself a session or group of its own). One that
 * cannot be killed, since it hangs in the kernel, holds up later hooks and nothing
 * else: at most COLO_HOOKS_MAX events wait, and COLO_DROPPED tells the next one how
 * many were left out before it.
 *
 * Main context (the thread default when it is made); nothing waits.
 */
#ifndef COLO_HOOKS_H
#define COLO_HOOKS_H

#include "colo/events.h"

#define COLO_HOOKS_MAX 64u
#define COLO_HOOK_LINES 32u

struct colo_hooks_config {
	const char *program; /* a path */
	const char *user; /* a name; NULL: as colod */
	guint timeout_ms;
	const char *pair, *node;
};

/* Looks the user up, which can ask the network. COLO_ERROR_CONFIG: no such user;
 * COLO_ERROR_HOST: the program cannot be executed by anybody. */
colo_hooks *colo_hooks_new(const struct colo_hooks_config *config,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Kills the one that runs; those that wait are not run. */
void colo_hooks_free(colo_hooks *hooks);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_hooks, colo_hooks_free)

void colo_hooks_run(colo_hooks *hooks, const struct colo_told *event);
/* How many are to be run yet, the one that runs included. */
guint colo_hooks_pending(const colo_hooks *hooks);

#endif
