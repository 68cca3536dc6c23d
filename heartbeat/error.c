/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of the heartbeat daemon. */
#include "heartbeat/error.h"

G_DEFINE_QUARK(hb - error - quark, hb_error)

gboolean hb_error_errno(GError **error, int err, const char *what, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, what);
	text = g_strdup_vprintf(what, args);
	va_end(args);
	g_set_error(error, HB_ERROR, HB_ERROR_HOST, "%s: %s", text, g_strerror(err));
	return FALSE;
}

gboolean hb_error_set(GError **error, enum hb_error code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(HB_ERROR, (int)code, format, args);
	va_end(args);
	return FALSE;
}
