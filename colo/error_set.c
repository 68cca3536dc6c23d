/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Setting errors of COLO_ERROR. */
#include "colo/error.h"

gboolean colo_error_errno(GError **error, int err, const char *what, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, what);
	text = g_strdup_vprintf(what, args);
	va_end(args);
	g_set_error(error, COLO_ERROR, COLO_ERROR_HOST, "%s: %s", text,
		    g_strerror(err));
	return FALSE;
}

gboolean colo_error_set(GError **error, enum colo_error code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(COLO_ERROR, (int)code, format, args);
	va_end(args);
	return FALSE;
}
