/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Passwords and the like, which never are part of an error, a log line, an argument or
 * an environment: memory that is locked, kept out of core files and wiped. Any thread,
 * one at a time.
 */
#ifndef COLO_SECRET_H
#define COLO_SECRET_H

#include <glib.h>

#define COLO_SECRET_MAX 16384u /* bytes */

typedef struct colo_secret colo_secret;

/* An empty one. COLO_ERROR_HOST. */
colo_secret *colo_secret_new(GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The bytes of a file of at most 4 KiB. COLO_ERROR_CONFIG unless it is a regular file
 * (a symbolic link is not) of mode 0600 or 0400, owned by the caller or root. `what`
 * names it in errors: "password file". */
colo_secret *colo_secret_read(const char *what, const char *path,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same judgement of a file that another library reads. */
gboolean colo_secret_check_file(const char *what, const char *path,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* FALSE: no room, and nothing was appended. */
gboolean colo_secret_append(colo_secret *secret, const char *bytes,
			    gsize length) G_GNUC_WARN_UNUSED_RESULT;
/* The secret's, ended by a zero byte that is not counted. */
const char *colo_secret_text(const colo_secret *secret, gsize *length);
void colo_secret_free(colo_secret *secret);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_secret, colo_secret_free)

#endif
