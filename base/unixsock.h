/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets with a path: of bytes, but where packets are spoken of. */
#ifndef BASE_UNIXSOCK_H
#define BASE_UNIXSOCK_H

#include <glib.h>

typedef struct base_listener base_listener;

/* Listens on `path` with mode 0600. A socket file that nobody listens on is replaced;
 * any other file, or a socket in use, is BASE_CHANNEL_LOST, with the reason; a path
 * that cannot be BASE_CHANNEL_ADDRESS. Waits up to 2 s for others that do the same in
 * that directory. */
base_listener *base_listener_new(const char *path,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for SOCK_SEQPACKET. */
base_listener *base_listener_new_packets(const char *path,
					 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Closes, and removes the file if it is still ours. */
void base_listener_free(base_listener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_listener, base_listener_free)

int base_listener_fd(const base_listener *listener);
/* A non-blocking connection; -1 where there is none (any more). */
int base_listener_accept(base_listener *listener);

/* A non-blocking connection to whoever listens on `path`; -1 with `error`. */
int base_unix_connect(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
