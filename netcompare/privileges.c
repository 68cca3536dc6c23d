/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving up rights. By the kernel's own calls: for a line of this, libcap would be one
 * more thing to install.
 */
#include "netcompare/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

gboolean ncmp_privileges_drop(GError **error)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { { 0 } };
	const guint32 kept = 1u << CAP_NET_ADMIN;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return ncmp_error_errno(error, errno, "give up new rights");
	/* Not everybody who may use the queue may do this; the sets below do not need
	 * it. */
	for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (i != CAP_NET_ADMIN && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			break;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	sets[0].effective = sets[0].permitted = kept;
	if (syscall(SYS_capset, &head, sets) < 0)
		return ncmp_error_errno(error, errno,
					"give up rights but CAP_NET_ADMIN");
	return TRUE;
}
