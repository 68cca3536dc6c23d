/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator's control socket: a line with a JSON object is a command, and is
 * answered with one.
 *
 *     {"id": 1, "command": "status"}
 *     {"id": 1, "ok": true, "result": {...}}
 *     {"id": 2, "ok": false, "error": {"code": "bad-request", "message": "..."}}
 *
 * A client that sends anything else, or does not read, is answered at most that, and is
 * dropped. In the main context that is the thread's default.
 */
#ifndef NCMP_CONTROL_H
#define NCMP_CONTROL_H

#include <json-glib/json-glib.h>

#include "netcompare/error.h"

struct ncmp_control_hooks {
	void *data;
	JsonObject *(*status)(void *data);
	/* After its answer was sent. */
	void (*quit)(void *data);
};

typedef struct ncmp_control ncmp_control;

/* Listens on `path`, for its owner only; a socket that nobody listens on is replaced.
 */
ncmp_control *ncmp_control_new(const char *path, const struct ncmp_control_hooks *hooks,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ncmp_control_free(ncmp_control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_control, ncmp_control_free)

/* The answer to a line, without its end; `quit`: it asks to end. */
char *ncmp_control_answer(const struct ncmp_control_hooks *hooks, const char *line,
			  gsize len, gboolean *quit);

#endif
