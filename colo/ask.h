/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking a colod, for a program that has nothing else to do meanwhile: every call
 * blocks, and none of them longer than until its deadline (CLOCK_MONOTONIC in
 * microseconds, as of g_get_monotonic_time()). What the other end says is bounded and
 * judged; one that says what is no answer and no event is not listened to any further.
 * One thread.
 */
#ifndef COLO_ASK_H
#define COLO_ASK_H

#include <json-glib/json-glib.h>

#define COLO_ASK_LINE_MAX (1u << 20) /* bytes of an answer or an event */

enum colo_asked {
	COLO_ASKED_OK,
	COLO_ASKED_NO, /* colod said no, and why */
	COLO_ASKED_ABSENT, /* nobody listens there */
	COLO_ASKED_DENIED, /* we may not connect */
	COLO_ASKED_SILENT, /* no answer before the deadline */
	COLO_ASKED_BROKEN, /* it hung up, or said nonsense */
};

typedef struct colo_asking colo_asking;

/* Connects; NULL with `how` (any of the last four) and `why`, one line. */
colo_asking *colo_ask_new(const char *path, gint64 deadline_us, enum colo_asked *how,
			  char **why);
void colo_ask_free(colo_asking *ask);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_asking, colo_ask_free)

/* Sends a command; `arguments` may be NULL. `id`: that of its answer. */
enum colo_asked colo_ask_send(colo_asking *ask, const char *command,
			      JsonObject *arguments_take, gint64 deadline_us,
			      gint64 *id, char **why);
/* The next line of colod's: an answer or an event; the caller's to unref. COLO_ASKED_OK
 * or one of the last two. A deadline of G_MAXINT64 waits for good, and is for events
 * only. */
enum colo_asked colo_ask_line(colo_asking *ask, gint64 deadline_us, JsonObject **line,
			      char **why);
/* Whether `line` is the answer to `id`; if so COLO_ASKED_OK with `result`, which is
 * borrowed from it and may be NULL, or COLO_ASKED_NO with `code` (likewise) and `why`.
 */
gboolean colo_ask_is_answer(JsonObject *line, gint64 id, enum colo_asked *how,
			    JsonObject **result, const char **code, char **why);

/* All of it: connects, asks one thing, hangs up. `result` is the caller's to unref and
 * not NULL with COLO_ASKED_OK. Otherwise `why` is one line, colod's own for
 * COLO_ASKED_NO. */
enum colo_asked colo_ask_once(const char *path, const char *command,
			      JsonObject *arguments_take, gint64 deadline_us,
			      JsonObject **result, char **why);

/* A connection to the Unix socket `path` that does not block; -1 with `how` and `why`.
 * For what is no control socket. */
int colo_ask_connect(const char *path, gint64 deadline_us, enum colo_asked *how,
		     char **why);

/* Bytes of colod's as a line, for colo_ask_line() and its fuzz target: NULL with `why`.
 */
JsonObject *colo_ask_parse(const char *line, gsize length, char **why);

#endif
