/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP between two hosts. Addresses are "HOST:PORT" or "[IPV6]:PORT"; HOST may be a
 * name. Connections of either side have no delay (TCP_NODELAY), and keep-alives that
 * find a dead peer within half a minute. No waiting is without an end. Any thread.
 */
#ifndef BASE_TCP_H
#define BASE_TCP_H

#include "base/error.h"

/* Takes an address apart without asking anybody: BASE_CHANNEL_ADDRESS if it is none.
 * `host` (freed by the caller) is without brackets; either may be NULL. */
gboolean base_tcp_parse(const char *address, char **host, guint16 *port,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Resolves a name and tries what it stands for, one after the other, within
 * `deadline_ms` in all. The descriptor, or -1. */
int base_tcp_connect(const char *address, guint deadline_ms,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* HOST must be numeric here; "0.0.0.0" or "[::]" (IPv4 too) for all of the host's. Port
 * 0: any free one. The descriptor does not block. */
int base_tcp_listen(const char *address, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The next connection that waits, or -1; without an error if there is none after all.
 */
int base_tcp_accept(int listener, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For the log: the numeric address at the other end of a connection, or "a local
 * socket". Freed by the caller. */
char *base_tcp_peer(int fd);
/* The port that a socket is bound to. */
guint16 base_tcp_port(int fd);

#endif
