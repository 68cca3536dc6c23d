/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the heartbeat daemon asks of the kernel, and the rights that it gives up. */
#ifndef HB_PRIVILEGES_H
#define HB_PRIVILEGES_H

#include "heartbeat/error.h"

/* First thing, before the key is read: no core file, no ptrace() by others. */
gboolean hb_privileges_hide(GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Memory that stays, and a turn before others' work. Where the host does not permit it
 * that is told once, and the daemon runs without. */
void hb_privileges_stay_ahead(void);
/* Becomes `user` (NULL: nobody, if we are root; else whoever we are) without any
 * capability, for good. HB_ERROR_CONFIG: no such user. */
gboolean hb_privileges_drop(const char *user, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
