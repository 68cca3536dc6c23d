/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `colo` shows of a pair: documents of colod's control socket, as people read
 * them. `status` is the result of "status", whatever is missing in it or is of another
 * type; all that comes out is safe on a terminal. `pair` is a pair's name. Texts are
 * the caller's to free. Any thread.
 */
#ifndef COLO_VIEW_H
#define COLO_VIEW_H

#include <json-glib/json-glib.h>

/* As monitoring programs count; also exit statuses of `colo status`. */
enum colo_health {
	COLO_HEALTH_PROTECTED = 0,
	COLO_HEALTH_UNPROTECTED = 1, /* the guest runs, on one node only */
	COLO_HEALTH_DOWN = 2, /* it does not run, or nobody hears it */
	COLO_HEALTH_UNKNOWN = 3,
};

enum colo_health colo_view_health(JsonObject *status);
/* The worse of two; not to know is worse than to run unprotected, and better than down.
 */
enum colo_health colo_view_worse(enum colo_health a, enum colo_health b);

/* "web: protected, primary alpha, secondary beta, generation 7, epoch 1234" */
char *colo_view_brief(const char *pair, JsonObject *status);
/* Several lines, the first of which says whether the pair is protected; `colour`: with
 * a terminal's escapes. */
char *colo_view_status(const char *pair, JsonObject *status, gboolean colour);
/* The same for a pair that cannot be asked; `why`: one line. */
char *colo_view_unknown(const char *pair, const char *why, gboolean colour);
/* An event as one line: "2026-11-21 20:15:05.123  12  alpha  protected, generation 7:
 * DETAIL". */
char *colo_view_event(JsonObject *event);

/* Which node runs the guest, as far as `status` says, and which stands by for it: names
 * in `status`, not cleaned; NULL: none, or not known. */
const char *colo_view_primary(JsonObject *status);
const char *colo_view_secondary(JsonObject *status);

#endif
