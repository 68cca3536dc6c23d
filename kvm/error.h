/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of the machine. A code exists only where a caller acts on it. */
#ifndef VMM_ERROR_H
#define VMM_ERROR_H

#include <glib.h>

#define VMM_ERROR vmm_error_quark()
GQuark vmm_error_quark(void);

enum vmm_error {
	VMM_ERROR_HOST, /* the host lacks, refuses or has in use what the machine needs */
	VMM_ERROR_CONFIG, /* what the user asked for cannot be */
	VMM_ERROR_STATE, /* a saved state cannot be loaded here; nothing was touched */
	VMM_ERROR_MODE, /* not now: the machine is in the wrong run state for it */
};

/* Sets `error` to "`what`: strerror(`err`)", domain VMM_ERROR, code VMM_ERROR_HOST.
 * Returns FALSE, so that callers can `return vmm_error_errno(...)`. */
gboolean vmm_error_errno(GError **error, int err, const char *what, ...) G_GNUC_PRINTF(3, 4);
/* The same for a message that is complete; returns FALSE. */
gboolean vmm_error_set(GError **error, enum vmm_error code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
/* Makes what base/unixsock.h said one of these: CONFIG for a path that cannot be. */
void vmm_error_of_socket(GError **error);

#endif
