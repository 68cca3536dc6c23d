/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Setting errors of COLO_ERROR (colo/pair.h). Both return FALSE, for callers to return.
 */
#ifndef COLO_ERROR_H
#define COLO_ERROR_H

#include "colo/pair.h"

/* "`what`: strerror(`err`)", code COLO_ERROR_HOST. */
gboolean colo_error_errno(GError **error, int err, const char *what, ...)
	G_GNUC_PRINTF(3, 4);
/* A message that is complete. */
gboolean colo_error_set(GError **error, enum colo_error code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

#endif
