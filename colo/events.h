/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that befalls a pair (design invariant 8): each event is logged, kept among
 * the last COLO_EVENTS_MAX, written to a file, told to clients of the control socket
 * that follow, and given to the hook program.
 *
 * Numbers grow by one with each event, over restarts of colod too: what the file's end
 * holds is read back at the start. A client that says the number of the last one it has
 * gets all that follow, each once.
 *
 * Main context. Nothing blocks but colo_events_new(): the file is written by a thread,
 * and where its disk hangs or is full, lines are left out (the next says how many) and
 * nothing else happens.
 */
#ifndef COLO_EVENTS_H
#define COLO_EVENTS_H

#include "base/control.h"

#define COLO_EVENTS_MAX 1000u
#define COLO_EVENT_LINE_MAX \
	8192u /* bytes of one as JSON; longer ones lose what is extra */
#define COLO_EVENTS_PAGE 100u /* in one answer */
#define COLO_EVENT_DETAIL_MAX 1024u /* bytes; more is cut off */

typedef struct colo_events colo_events;
typedef struct colo_hooks colo_hooks;

struct colo_told {
	const char *name; /* "protected" */
	const char *state; /* of this node, "syncing" */
	guint64 generation;
	const char *detail; /* or NULL */
	/* Set by colo_events_add(). */
	guint64 number;
	gint64 time_ms; /* UTC */
	guint64 monotonic_ms;
	const char *json; /* one line, with its newline */
};

struct colo_events_config {
	const char *node; /* this node's name */
	const char *file; /* events.jsonl in the state directory; NULL: none */
	guint64 file_bytes; /* with more in it, it becomes FILE.1 */
};

/* Reads what the file holds, up to its last 2 MiB; a file that cannot be read is logged
 * and does no harm. */
colo_events *colo_events_new(const struct colo_events_config *config);
/* Waits up to a second for the file to be written. */
void colo_events_free(colo_events *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_events, colo_events_free)

/* Where they go from here on; NULL: nowhere. Both must outlive the events, or be taken
 * away. */
void colo_events_set_control(colo_events *events, base_control *control);
void colo_events_set_hooks(colo_events *events, colo_hooks *hooks);

/* `extra` (or NULL): further members; those of the same names as ours are left out. */
void colo_events_add(colo_events *events, const char *name, const char *state,
		     guint64 generation, const char *detail, JsonObject *extra_take);

/* The command `events` with the arguments "since" (a number, default 0: all that are
 * kept) and "follow" (a boolean): answers {"events": [...], "last": N, "more": B,
 * "missed": N, "following": B}. At most COLO_EVENTS_PAGE of those after "since", the
 * oldest first; "last" is where to go on; "missed": how many after "since" are kept no
 * more. Where there are no more and "follow" is true, the client is told each further
 * one as it happens. */
void colo_events_answer(colo_events *events, JsonObject *arguments,
			base_answer *answer_take);
/* The names of its arguments, for the table of commands. */
extern const char *const colo_events_arguments[];

/* Number of the last one; 0: none. */
guint64 colo_events_last(const colo_events *events);

/* What a file holds, as colo_events_new() reads it: lines that are no events are left
 * out. Public for its fuzz target. */
void colo_events_load(colo_events *events, const char *text, gsize length);

#endif
