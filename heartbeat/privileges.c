/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the heartbeat daemon asks of the kernel, and the rights that it gives up. */
#include "heartbeat/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <malloc.h>
#include <pwd.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PRIORITY \
	20 /* of SCHED_RR: above what is in no hurry, below the kernel's threads */
#define NICE (-15)

gboolean hb_privileges_hide(GError **error)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none))
		return hb_error_errno(error, errno, "forbid core files");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return hb_error_errno(error, errno, "forbid looking into our memory");
	return TRUE;
}

/* Without CAP_IPC_LOCK later, new memory can be locked only as far as the limit goes,
 * and would not be had at all beyond: so what is to come is locked only where there is
 * none. */
static void lock_memory(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int future = setrlimit(RLIMIT_MEMLOCK, &all) ? 0 : MCL_FUTURE;

	/* What was had once is kept. */
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	mallopt(M_MMAP_MAX, 0);
	if (mlockall(MCL_CURRENT | future)) {
		int err = errno;

		g_warning(
			"memory: cannot be locked, may be late under memory pressure: "
			"%s",
			g_strerror(err));
	}
}

static void run_first(void)
{
	const struct sched_param param = { .sched_priority = PRIORITY };
	int err;

	if (!sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param))
		return;
	err = errno;
	if (setpriority(PRIO_PROCESS, 0, NICE))
		g_warning(
			"scheduler: no real-time priority and no better niceness, may "
			"be late under load: %s",
			g_strerror(err));
	else
		g_message("scheduler: niceness %d, for no real-time priority is given: "
			  "%s",
			  NICE, g_strerror(err));
}

void hb_privileges_stay_ahead(void)
{
	lock_memory();
	run_first();
}

static gboolean become(const struct passwd *who, GError **error)
{
	if (setgroups(0, NULL))
		return hb_error_errno(error, errno, "give up groups");
	if (setresgid(who->pw_gid, who->pw_gid, who->pw_gid))
		return hb_error_errno(error, errno, "become group %u", who->pw_gid);
	if (setresuid(who->pw_uid, who->pw_uid, who->pw_uid))
		return hb_error_errno(error, errno, "become user %s", who->pw_name);
	return TRUE;
}

static gboolean change_user(const char *user, GError **error)
{
	const char *name = user ? user : "nobody";
	const struct passwd *who;

	if (!user && geteuid() != 0)
		return TRUE;
	errno = 0;
	who = getpwnam(name);
	if (!who)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--user: there is no user %s", name);
	if (geteuid() != 0)
		return who->pw_uid == geteuid() ||
		       hb_error_set(error, HB_ERROR_CONFIG,
				    "--user: only root can become %s", name);
	return become(who, error);
}

static gboolean drop_capabilities(GError **error)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { { 0 } };

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, sets) < 0)
		return hb_error_errno(error, errno, "give up all rights");
	return TRUE;
}

gboolean hb_privileges_drop(const char *user, GError **error)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return hb_error_errno(error, errno, "give up new rights");
	/* Takes CAP_SETPCAP; the sets below do not need it. */
	for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			break;
	if (!change_user(user, error) || !drop_capabilities(error))
		return FALSE;
	/* Another user's process is looked at by other rules. */
	return hb_privileges_hide(error);
}
