/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of the comparator. A code exists only where a caller acts on it. */
#ifndef NCMP_ERROR_H
#define NCMP_ERROR_H

#include <glib.h>

#define NCMP_ERROR ncmp_error_quark()
GQuark ncmp_error_quark(void);

enum ncmp_error {
	NCMP_ERROR_HOST, /* the host lacks, refuses or has in use what is needed */
	NCMP_ERROR_CONFIG, /* what the user asked for cannot be */
	NCMP_ERROR_PEER, /* colo-vm says what is not right, or is gone */
};

/* Sets `error` to "`what`: strerror(`err`)", code NCMP_ERROR_HOST. Returns FALSE, so
 * that callers can `return ncmp_error_errno(...)`. */
gboolean ncmp_error_errno(GError **error, int err, const char *what, ...)
	G_GNUC_PRINTF(3, 4);
/* The same for a message that is complete; returns FALSE. */
gboolean ncmp_error_set(GError **error, enum ncmp_error code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

#endif
