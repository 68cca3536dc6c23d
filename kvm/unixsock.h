/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets with a path: of bytes, but where packets are spoken of. */
#ifndef VMM_UNIXSOCK_H
#define VMM_UNIXSOCK_H

#include <glib.h>

typedef struct vmm_listener vmm_listener;

/* Listens on `path` with mode 0600. A socket file that nobody listens on is replaced;
 * any other file, or a socket in use, is VMM_ERROR_HOST. */
vmm_listener *vmm_listener_new(const char *path,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for SOCK_SEQPACKET. */
vmm_listener *vmm_listener_new_packets(const char *path,
				       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Closes, and removes the file if it is still ours. */
void vmm_listener_free(vmm_listener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_listener, vmm_listener_free)

int vmm_listener_fd(const vmm_listener *listener);
/* A non-blocking connection; -1 where there is none (any more). */
int vmm_listener_accept(vmm_listener *listener);

/* A non-blocking connection to whoever listens on `path`; -1 with `error`. */
int vmm_unix_connect(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
