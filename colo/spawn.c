/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting a program.
 *
 * Between fork() and execve() only calls that POSIX allows there: other threads may
 * have held locks. Everything that needs memory is prepared before.
 */
#include "colo/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/error.h"

/* Beyond every number that is handed over. */
#define SAFE_FD 64

/* What the new process needs, made before it is. */
struct plan {
	const struct colo_spawn *spawn;
	char *old_log; /* LOG.1 */
	char oom[16];
	int trouble;
};

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

G_GNUC_NORETURN static void give_up(const struct plan *plan, int err, const char *what)
{
	if (write(plan->trouble, &err, sizeof(err)) < 0)
		say("colo: ");
	say(what);
	say(": ");
	say(strerrordesc_np(err) ? strerrordesc_np(err) : "unknown error");
	say("\n");
	_exit(127);
}

static int open_log(const struct plan *plan)
{
	const struct colo_spawn *spawn = plan->spawn;
	struct stat st;

	if (spawn->log_bytes && stat(spawn->log, &st) == 0 && S_ISREG(st.st_mode) &&
	    (guint64)st.st_size > spawn->log_bytes)
		rename(spawn->log, plan->old_log);
	return open(spawn->log, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC,
		    0600);
}

/* Standard input, output and error. Output that cannot be had costs no program its
 * start. */
static void set_standard(const struct plan *plan)
{
	const struct colo_spawn *spawn = plan->spawn;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int out = spawn->out;

	if (out < 0 && spawn->log)
		out = open_log(plan);
	if (null < 0 && (spawn->in < 0 || out < 0))
		give_up(plan, errno, "open /dev/null");
	if (dup2(out >= 0 ? out : null, STDOUT_FILENO) < 0 ||
	    dup2(out >= 0 ? out : null, STDERR_FILENO) < 0 ||
	    dup2(spawn->in >= 0 ? spawn->in : null, STDIN_FILENO) < 0)
		give_up(plan, errno, "set standard input and output");
}

static void set_oom_score(const struct plan *plan)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, plan->oom, strlen(plan->oom)) < 0)
		say("colo: oom_score_adj could not be set (it needs "
		    "CAP_SYS_RESOURCE)\n");
	if (fd >= 0)
		close(fd);
}

static void become_user(const struct plan *plan)
{
	const struct colo_spawn *spawn = plan->spawn;

	if ((geteuid() == 0 && setgroups(spawn->group_count, spawn->groups) < 0) ||
	    setresgid((gid_t)spawn->gid, (gid_t)spawn->gid, (gid_t)spawn->gid) < 0 ||
	    setresuid((uid_t)spawn->uid, (uid_t)spawn->uid, (uid_t)spawn->uid) < 0)
		give_up(plan, errno, "become the configured user");
	/* Ambient ones would outlive execve(); nothing it runs gets any by itself. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		give_up(plan, errno, "give up new privileges");
}

G_GNUC_NORETURN static void child(struct plan *plan)
{
	const struct colo_spawn *spawn = plan->spawn;
	struct sigaction normal = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &normal, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (spawn->new_session)
		setsid();
	else
		setpgid(0, 0);
	/* Out of the way of what is handed over. */
	plan->trouble = fcntl(plan->trouble, F_DUPFD_CLOEXEC, SAFE_FD);
	set_standard(plan);
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	if (spawn->fd >= 0 &&
	    (spawn->fd == spawn->fd_number ? fcntl(spawn->fd, F_SETFD, 0)
					   : dup2(spawn->fd, spawn->fd_number)) < 0)
		give_up(plan, errno, "hand over a descriptor");
	if (spawn->set_oom_score)
		set_oom_score(plan);
	if (spawn->uid >= 0)
		become_user(plan);
	if (chdir("/") < 0)
		give_up(plan, errno, "change to /");
	execve(spawn->argv[0], (char *const *)spawn->argv,
	       (char *const *)spawn->environment);
	give_up(plan, errno, spawn->argv[0]);
}

gboolean colo_spawn(const struct colo_spawn *spawn, struct colo_spawned *spawned,
		    GError **error)
{
	base_autofd int reader = -1, writer = -1;
	g_autofree char *old_log =
		g_strconcat(spawn->log ? spawn->log : "", ".1", NULL);
	struct plan plan = { .spawn = spawn, .old_log = old_log };
	int ends[2];

	g_assert(spawn->fd < 0 || (spawn->fd_number > 2 && spawn->fd_number < SAFE_FD));
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return colo_error_errno(error, errno, "start %s: make a pipe",
					spawn->argv[0]);
	reader = ends[0];
	writer = ends[1];
	g_snprintf(plan.oom, sizeof(plan.oom), "%d", spawn->oom_score_adj);
	plan.trouble = writer;
	spawned->pid = fork();
	if (spawned->pid < 0)
		return colo_error_errno(error, errno, "start %s", spawn->argv[0]);
	if (spawned->pid == 0)
		child(&plan);
	/* As the child does: whoever is first. A group that is killed soon is there
	 * then. */
	if (!spawn->new_session)
		setpgid(spawned->pid, spawned->pid);
	spawned->pidfd = pidfd_open(spawned->pid, 0);
	if (spawned->pidfd < 0) {
		int err = errno;

		kill(spawned->pid, SIGKILL);
		return colo_error_errno(error, err, "start %s: watch it",
					spawn->argv[0]);
	}
	spawned->trouble = base_fd_steal(&reader);
	return TRUE;
}

char **colo_spawn_environment(const char *const *more)
{
	const char *path = g_getenv("PATH"), *lang = g_getenv("LANG");
	char **environment = NULL;

	environment = g_environ_setenv(
		environment, "PATH",
		path ? path
		     : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		TRUE);
	if (lang)
		environment = g_environ_setenv(environment, "LANG", lang, TRUE);
	for (; more && *more; more++) {
		const char *equals = strchr(*more, '=');
		g_autofree char *name = NULL;

		g_assert(equals);
		name = g_strndup(*more, (gsize)(equals - *more));
		environment = g_environ_setenv(environment, name, equals + 1, TRUE);
	}
	return environment;
}

int colo_spawn_trouble(int trouble)
{
	int err;

	return read(trouble, &err, sizeof(err)) == sizeof(err) ? err : 0;
}
