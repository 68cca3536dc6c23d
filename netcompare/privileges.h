/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up rights. */
#ifndef NCMP_PRIVILEGES_H
#define NCMP_PRIVILEGES_H

#include "netcompare/error.h"

/* From here on this process has no other capability than CAP_NET_ADMIN, which the
 * kernel wants to see with each verdict, and neither it nor what it might run can get
 * more. */
gboolean ncmp_privileges_drop(GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
