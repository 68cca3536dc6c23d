/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: base/protocol.h served on a Unix stream socket, in the main
 * context that is the thread default when it is made. A client that does not read what
 * it is sent is dropped; it never delays the program or another client.
 */
#ifndef BASE_CONTROL_H
#define BASE_CONTROL_H

#include "base/protocol.h"

/* At once; one more is told so, unless one that never said anything can make room. */
#define BASE_CONTROL_CLIENTS_MAX 16u
#define BASE_CONTROL_UNREAD_MAX (256u << 10) /* bytes kept for a client */

typedef struct base_control base_control;

/* Listens at once; the socket file is for its owner only. Errors as of
 * base/unixsock.h: in use, no permission, another kind of file. */
base_control *base_control_new(const char *path, const struct base_commands *commands,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes the socket file. What clients were sent stays readable to them. */
void base_control_free(base_control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_control, base_control_free)

/* As base_protocol_event(). */
void base_control_event(base_control *control, const char *name,
			JsonObject *fields_take);

#endif
