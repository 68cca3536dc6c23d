/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process with secrets does first, before threads and files. */
#ifndef COLO_HYGIENE_H
#define COLO_HYGIENE_H

#include <glib.h>

/* No core files (RLIMIT_CORE 0, which programs that it starts inherit; PR_SET_DUMPABLE
 * 0, so that no other process of the user reads its memory), umask 077, /dev/null for
 * standard descriptors that are closed, and all descriptors from 3 on closed but those
 * in `keep` (ended by -1; or NULL), which are closed on execve() from here on.
 * COLO_ERROR_HOST. */
gboolean colo_hygiene(const int *keep, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
