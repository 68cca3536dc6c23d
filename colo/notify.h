/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service tells systemd, by its protocol of datagrams (sd_notify(3)); nothing at
 * all where $NOTIFY_SOCKET is not set. Main context (the thread default when it is
 * made); nothing waits: a datagram that the socket does not take is left out.
 */
#ifndef COLO_NOTIFY_H
#define COLO_NOTIFY_H

#include <glib.h>

typedef struct colo_notify colo_notify;

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them from the
 * environment. Never NULL; what is wrong with them is logged. */
colo_notify *colo_notify_new(void);
void colo_notify_free(colo_notify *notify);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_notify, colo_notify_free)

/* READY=1, once; from here on WATCHDOG=1 at each half of the time that the unit gives,
 * by the main loop, which so proves that it turns. */
void colo_notify_ready(colo_notify *notify);
/* STATUS=`text` (its first line), as `systemctl status` shows it; not sent again where
 * it is what was sent last. */
void colo_notify_status(colo_notify *notify, const char *text);
/* STOPPING=1. The watchdog goes on. */
void colo_notify_stopping(colo_notify *notify);

#endif
