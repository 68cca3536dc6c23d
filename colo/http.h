/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One HTTP POST at a time over libcurl, driven by the main loop; connections stay open
 * for the next one. No proxy, no redirects, nothing from the environment. Main context;
 * nothing blocks, but for reading the files of TLS.
 */
#ifndef COLO_HTTP_H
#define COLO_HTTP_H

#include <glib.h>

#define COLO_HTTP_ANSWER_MAX 65536u /* bytes of a body, and of headers */

struct colo_http_tls {
	const char *ca, *cert, *key; /* PEM files, may be NULL; outlive the client */
};

/* `problem`: one line, NULL where there was a whole answer with `status`. `timed_out`:
 * with a problem, whether the request may have reached the server that did not answer
 * in time. The body is ended by a zero byte that is not counted, and valid during the
 * call. */
typedef void (*colo_http_done)(void *data, const char *problem, gboolean unknown,
			       guint status, const char *body, gsize length);

typedef struct colo_http colo_http;

colo_http *colo_http_new(const struct colo_http_tls *tls,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* `body` stays as it is until `done` or cancel. `token`, may be NULL: goes into an
 * Authorization header. `done` comes from the main loop, never from within, and may
 * free the client. */
void colo_http_post(colo_http *http, const char *url, const char *token,
		    const char *body, gsize length, guint timeout_ms,
		    colo_http_done done, void *data);
void colo_http_cancel(colo_http *http);
void colo_http_free(colo_http *http);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_http, colo_http_free)

#endif
