/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel drops of a flood before it fills a path's socket.
 *
 * Whoever floods a port keeps the peer's heartbeats out of its socket's buffer, however
 * fast that is read. So in a flood the kernel is given a filter: only what comes from
 * the peer's address, has the size and the first bytes of its heartbeats and, where
 * asked for, names our session, gets in. The session is a secret to all who cannot see
 * our heartbeats; who can see and answer them can as well cut the path. What the filter
 * drops is not counted.
 */
#ifndef HB_FILTER_H
#define HB_FILTER_H

#include <glib.h>

struct sockaddr;

#define HB_FILTER_HEAD 16u /* bytes */

/* Onto a UDP socket; replaces the one that is there. `head`: what each datagram begins
 * with; `session`: which it must name, 0 for any. FALSE: the kernel would not. */
gboolean hb_filter_put(int fd, const struct sockaddr *from,
		       const guint8 head[HB_FILTER_HEAD], guint64 session);
void hb_filter_remove(int fd);

#endif
