/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of the machine. */
#include "kvm/error.h"

#include "base/error.h"

G_DEFINE_QUARK(vmm-error-quark, vmm_error)

gboolean vmm_error_errno(GError **error, int err, const char *what, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, what);
	text = g_strdup_vprintf(what, args);
	va_end(args);
	g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s: %s", text, g_strerror(err));
	return FALSE;
}

gboolean vmm_error_set(GError **error, enum vmm_error code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(VMM_ERROR, code, format, args);
	va_end(args);
	return FALSE;
}

void vmm_error_of_socket(GError **error)
{
	if (!error || !*error || (*error)->domain != BASE_CHANNEL_ERROR)
		return;
	(*error)->code = (*error)->code == BASE_CHANNEL_ADDRESS ? VMM_ERROR_CONFIG :
								  VMM_ERROR_HOST;
	(*error)->domain = VMM_ERROR;
}
