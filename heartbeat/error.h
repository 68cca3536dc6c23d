/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of the heartbeat daemon. A code exists only where a caller acts on
 * it. */
#ifndef HB_ERROR_H
#define HB_ERROR_H

#include <glib.h>

#define HB_ERROR hb_error_quark()
GQuark hb_error_quark(void);

enum hb_error {
	HB_ERROR_HOST, /* the host lacks or refuses what is needed */
	HB_ERROR_CONFIG, /* what the command line says cannot be */
};

/* Sets `error` to "`what`: strerror(`err`)", code HB_ERROR_HOST. Returns FALSE. */
gboolean hb_error_errno(GError **error, int err, const char *what, ...)
	G_GNUC_PRINTF(3, 4);
/* The same for a message that is complete; returns FALSE. */
gboolean hb_error_set(GError **error, enum hb_error code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

#endif
