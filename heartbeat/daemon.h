/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The heartbeat daemon at work: sockets, timer, signals, colod, in one thread. */
#ifndef HB_DAEMON_H
#define HB_DAEMON_H

#include "heartbeat/options.h"

typedef struct hb_daemon hb_daemon;
/* Opens everything, so that rights can be given up next. What `options` names is used
 * as long as the daemon is there; its key file is read, and forgotten but for what is
 * derived from it. SIGTERM and SIGINT are blocked and watched from here on. Errors:
 * HB_ERROR_CONFIG if the descriptor is no socket to colod, HB_ERROR_HOST,
 * BASE_CHANNEL_KEY. A path that cannot be opened is none: it is tried again. */
hb_daemon *hb_daemon_new(const struct hb_options *options,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Until a signal, or until colod was gone for the time to linger. HB_ERROR_HOST: the
 * kernel does not let it go on. */
gboolean hb_daemon_run(hb_daemon *daemon, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hb_daemon_free(hb_daemon *daemon);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(hb_daemon, hb_daemon_free)

#endif
