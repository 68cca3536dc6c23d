/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program that colod looks after.
 *
 * A pidfd becomes readable when its process ends, whoever's child it is, so that
 * started and adopted ones are watched alike. A process is the same as one seen earlier
 * if its number, its start time and the boot are the same.
 */
#include "colo/child.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "colo/error.h"
#include "colo/spawn.h"

#define NS_PER_MS 1000000u
#define MINUTE_NS (60000ull * NS_PER_MS)
#define LOG_LOOK_S 60u
#define PID_FILE_MAX 512u

struct colo_child {
	char *name, *pid_file, *log;
	guint64 log_bytes;
	colo_child_ended ended;
	void *data;
	GMainContext *context;
	pid_t pid;
	int pidfd, trouble;
	gboolean adopted;
	guint64 since_ns;
	GSource *watching, *deadline, *looking;
	GCancellable *look; /* one is under way; or NULL */
};

static void clear_source(GSource **source)
{
	if (*source)
		g_source_destroy(*source);
	g_clear_pointer(source, g_source_unref);
}

/* Who a process is. */

static gboolean read_boot(char **boot)
{
	if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", boot, NULL, NULL))
		return FALSE;
	g_strstrip(*boot);
	return TRUE;
}

/* When it was started, in the kernel's ticks since boot; FALSE: it is not there, or has
 * ended and only waits to be reaped. */
static gboolean read_start(pid_t pid, guint64 *start)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
	g_autofree char *text = NULL;
	const char *at;
	char state;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return FALSE;
	/* The second field is a name that may hold anything: what follows its last
	 * bracket is the third. */
	at = strrchr(text, ')');
	if (!at || at[1] != ' ')
		return FALSE;
	state = at[2];
	for (guint field = 2; field < 22 && at; field++)
		at = strchr(at + 1, ' ');
	if (!at || state == 'Z' || state == 'X')
		return FALSE;
	return sscanf(at, " %" G_GUINT64_FORMAT, start) == 1;
}

/* Whether `pid` executes `program`; TRUE as well where that cannot be told. */
static gboolean executes(pid_t pid, const char *program)
{
	g_autofree char *link = g_strdup_printf("/proc/%d/exe", pid);
	g_autofree char *exe = g_file_read_link(link, NULL);
	char *real = realpath(program, NULL);
	g_autofree char *want = g_path_get_basename(real ? real : program);
	g_autofree char *name = NULL;

	free(real);
	if (!exe)
		return TRUE;
	if (g_str_has_suffix(exe, " (deleted)"))
		exe[strlen(exe) - strlen(" (deleted)")] = '\0';
	name = g_path_get_basename(exe);
	return !strcmp(name, want);
}

static gboolean write_pid_file(const colo_child *child, GError **error)
{
	g_autofree char *boot = NULL, *text = NULL;
	guint64 start;

	if (!child->pid_file)
		return TRUE;
	/* It can have ended already: then there is nothing to find later. */
	if (!read_start(child->pid, &start))
		return TRUE;
	if (!read_boot(&boot))
		return colo_error_set(error, COLO_ERROR_HOST,
				      "start %s: /proc does not say which boot this is",
				      child->name);
	text = g_strdup_printf("%d %" G_GUINT64_FORMAT " %s\n", child->pid, start,
			       boot);
	if (g_file_set_contents_full(child->pid_file, text, -1,
				     G_FILE_SET_CONTENTS_CONSISTENT, 0600, error))
		return TRUE;
	g_prefix_error(error, "start %s: ", child->name);
	return FALSE;
}

/* Its log. */

struct look {
	char *log;
	guint64 limit;
};

static void free_look(gpointer data)
{
	struct look *look = data;

	g_free(look->log);
	g_free(look);
}

static gboolean copy_bytes(int from, int to)
{
	char buffer[65536];
	gssize got;

	while ((got = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (gsize)got) != got)
			return FALSE;
	return got == 0;
}

/* Whoever has it open goes on at its new end, since it appends. */
static void empty_log(const struct look *look)
{
	g_autofree char *old = g_strconcat(look->log, ".1", NULL);
	g_autofree char *copy = g_strconcat(look->log, ".1.new", NULL);
	base_autofd int from = open(look->log, O_RDWR | O_CLOEXEC | O_NOCTTY);
	base_autofd int to = -1;
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (guint64)st.st_size <= look->limit)
		return;
	to = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	/* Emptied even where there is no room for a copy: the limit is what was asked
	 * for. */
	if (to < 0 || !copy_bytes(from, to) || rename(copy, old) < 0) {
		g_warning("log %s: not kept as %s: %s", look->log, old,
			  g_strerror(errno));
		unlink(copy);
	}
	if (ftruncate(from, 0) < 0)
		g_warning("log %s: empty it: %s", look->log, g_strerror(errno));
}

static void look(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
	empty_log(data);
	g_task_return_boolean(task, TRUE);
}

static void looked(GObject *source, GAsyncResult *result, gpointer data)
{
	/* A child that was freed has cancelled it. */
	if (!g_cancellable_is_cancelled(g_task_get_cancellable(G_TASK(result))))
		g_clear_object(&((colo_child *)data)->look);
}

void colo_child_trim_log(colo_child *child)
{
	struct look *what;
	g_autoptr(GTask) task = NULL;

	/* One that hangs with its disk hangs by itself. */
	if (child->look || !child->log || !child->log_bytes)
		return;
	what = g_new0(struct look, 1);
	what->log = g_strdup(child->log);
	what->limit = child->log_bytes;
	child->look = g_cancellable_new();
	task = g_task_new(NULL, child->look, looked, child);
	g_task_set_check_cancellable(task, FALSE);
	g_task_set_task_data(task, what, free_look);
	g_task_run_in_thread(task, look);
}

static gboolean look_at_log(gpointer data)
{
	colo_child_trim_log(data);
	return G_SOURCE_CONTINUE;
}

/* Its end. */

static char *describe(colo_child *child, struct colo_child_end *end)
{
	siginfo_t info = { 0 };
	int err;

	if (child->adopted ||
	    waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0) {
		end->how = COLO_CHILD_UNSEEN;
		return g_strdup("ended; how is not known, since an earlier colod "
				"started it");
	}
	end->status = info.si_status;
	err = colo_spawn_trouble(child->trouble);
	if (err) {
		end->how = COLO_CHILD_NOT_EXECUTED;
		end->status = err;
		return g_strdup_printf("could not be executed: %s", g_strerror(err));
	}
	if (info.si_code == CLD_EXITED) {
		end->how = COLO_CHILD_EXITED;
		return g_strdup_printf("exit status %d", info.si_status);
	}
	end->how = COLO_CHILD_KILLED;
	return g_strdup_printf("killed by signal %d (%s)", info.si_status,
			       g_strsignal(info.si_status));
}

static gboolean on_end(int fd, GIOCondition condition, gpointer data)
{
	colo_child *child = data;
	struct colo_child_end end = { 0 };
	g_autofree char *words = NULL;

	/* While it is not reaped its group's number is nobody else's. */
	if (!child->adopted)
		kill(-child->pid, SIGKILL);
	words = describe(child, &end);
	end.words = words;
	end.lived_ms = (base_clock_monotonic_ns() - child->since_ns) / NS_PER_MS;
	clear_source(&child->watching);
	clear_source(&child->deadline);
	clear_source(&child->looking);
	if (child->pid_file)
		g_unlink(child->pid_file);
	base_fd_clear(&child->pidfd);
	child->ended(child->data, &end);
	return G_SOURCE_REMOVE;
}

static void watch(colo_child *child)
{
	child->since_ns = base_clock_monotonic_ns();
	child->watching = g_unix_fd_source_new(child->pidfd, G_IO_IN);
	g_source_set_priority(child->watching, G_PRIORITY_HIGH);
	g_source_set_callback(child->watching, G_SOURCE_FUNC(on_end), child, NULL);
	g_source_attach(child->watching, child->context);
	if (!child->log || !child->log_bytes)
		return;
	child->looking = g_timeout_source_new_seconds(LOG_LOOK_S);
	g_source_set_callback(child->looking, look_at_log, child, NULL);
	g_source_attach(child->looking, child->context);
}

/* Public. */

static colo_child *make(const struct colo_child_config *config, colo_child_ended ended,
			void *data)
{
	colo_child *child = g_new0(colo_child, 1);

	child->name = g_strdup(config->name);
	child->log = g_strdup(config->log);
	child->log_bytes = config->log_bytes;
	if (config->run_dir)
		child->pid_file =
			g_strdup_printf("%s/%s.pid", config->run_dir, config->name);
	child->ended = ended;
	child->data = data;
	child->context = g_main_context_ref_thread_default();
	child->pidfd = child->trouble = -1;
	return child;
}

colo_child *colo_child_start(const struct colo_child_config *config,
			     colo_child_ended ended, void *data, GError **error)
{
	g_autoptr(colo_child) child = make(config, ended, data);
	g_auto(GStrv) environment = colo_spawn_environment(config->environment);
	const struct colo_spawn spawn = {
		.argv = config->argv,
		.environment = (const char *const *)environment,
		.in = -1,
		.out = -1,
		.log = config->log,
		.log_bytes = config->log_bytes,
		.fd = config->fd,
		.fd_number = config->fd_number,
		.new_session = TRUE,
		.set_oom_score = config->set_oom_score,
		.oom_score_adj = config->oom_score_adj,
		.uid = -1,
		.gid = -1,
	};
	struct colo_spawned spawned;

	if (!colo_spawn(&spawn, &spawned, error))
		return NULL;
	child->pid = spawned.pid;
	child->pidfd = spawned.pidfd;
	child->trouble = spawned.trouble;
	if (!write_pid_file(child, error)) {
		/* One that a later colod would not find must not be. */
		colo_child_kill(child);
		return NULL;
	}
	watch(child);
	g_info("%s: started pid=%d", child->name, child->pid);
	return g_steal_pointer(&child);
}

/* What the pid file says; FALSE without an error: there is none. */
static gboolean read_pid_file(const colo_child *child, pid_t *pid, guint64 *start,
			      char **boot, GError **error)
{
	g_autoptr(GError) why = NULL;
	g_autofree char *text = NULL;
	char words[PID_FILE_MAX];
	gsize length;

	if (!child->pid_file)
		return FALSE;
	if (!g_file_get_contents(child->pid_file, &text, &length, &why)) {
		if (!g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
			colo_error_set(error, COLO_ERROR_HOST, "%s", why->message);
		return FALSE;
	}
	if (length >= PID_FILE_MAX || strlen(text) != length ||
	    sscanf(text, "%d %" G_GUINT64_FORMAT " %s", pid, start, words) != 3 ||
	    *pid <= 1)
		return colo_error_set(
			error, COLO_ERROR_HOST,
			"%s is damaged: see whether a colo-%s of this pair "
			"runs, end it, and remove the file",
			child->pid_file, child->name);
	*boot = g_strdup(words);
	return TRUE;
}

colo_child *colo_child_adopt(const struct colo_child_config *config,
			     colo_child_ended ended, void *data, GError **error)
{
	g_autoptr(colo_child) child = make(config, ended, data);
	g_autofree char *boot = NULL, *now = NULL;
	guint64 start, found;

	if (!read_pid_file(child, &child->pid, &start, &boot, error))
		return NULL;
	child->adopted = TRUE;
	if (!read_boot(&now) || strcmp(boot, now)) {
		g_unlink(child->pid_file);
		return NULL;
	}
	/* First held, then judged: what is judged is what is held. */
	child->pidfd = pidfd_open(child->pid, 0);
	if (child->pidfd < 0 && errno != ESRCH) {
		colo_error_errno(error, errno, "watch %s, which runs as process %d",
				 child->name, child->pid);
		return NULL;
	}
	if (child->pidfd < 0 || !read_start(child->pid, &found) || found != start) {
		g_unlink(child->pid_file);
		return NULL;
	}
	if (!executes(child->pid, config->argv[0])) {
		colo_error_set(
			error, COLO_ERROR_HOST,
			"process %d was started as %s, and is another program: end "
			"it, and remove %s",
			child->pid, config->argv[0], child->pid_file);
		return NULL;
	}
	watch(child);
	g_message("%s: found running, adopted pid=%d", child->name, child->pid);
	return g_steal_pointer(&child);
}

void colo_child_free(colo_child *child)
{
	if (!child)
		return;
	if (child->look)
		g_cancellable_cancel(child->look);
	g_clear_object(&child->look);
	clear_source(&child->watching);
	clear_source(&child->deadline);
	clear_source(&child->looking);
	base_fd_clear(&child->pidfd);
	base_fd_clear(&child->trouble);
	g_main_context_unref(child->context);
	g_free(child->name);
	g_free(child->pid_file);
	g_free(child->log);
	g_free(child);
}

pid_t colo_child_pid(const colo_child *child)
{
	return child->pid;
}

gboolean colo_child_is_adopted(const colo_child *child)
{
	return child->adopted;
}

static gboolean deadline_passed(gpointer data)
{
	colo_child *child = data;

	clear_source(&child->deadline);
	g_warning("%s: did not end when told to: killed pid=%d", child->name,
		  child->pid);
	colo_child_kill(child);
	return G_SOURCE_REMOVE;
}

void colo_child_terminate(colo_child *child, guint deadline_ms)
{
	if (child->pidfd < 0)
		return;
	pidfd_send_signal(child->pidfd, SIGTERM, NULL, 0);
	/* One that is stopped takes it only when it runs. */
	pidfd_send_signal(child->pidfd, SIGCONT, NULL, 0);
	clear_source(&child->deadline);
	child->deadline = g_timeout_source_new(deadline_ms);
	g_source_set_callback(child->deadline, deadline_passed, child, NULL);
	g_source_attach(child->deadline, child->context);
}

void colo_child_kill(colo_child *child)
{
	guint64 start;

	if (child->pidfd < 0)
		return;
	/* The group's number is its own while it lives or is not reaped. */
	if (!child->adopted || read_start(child->pid, &start))
		kill(-child->pid, SIGKILL);
	/* It may not have made its group yet. */
	pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
}

gboolean colo_restarts_next(struct colo_restarts *restarts, guint64 now_ns,
			    guint *after_ms)
{
	guint limit = MIN(restarts->limit, COLO_RESTARTS_MAX), old = 0;

	while (old < restarts->count && now_ns - restarts->at_ns[old] >= MINUTE_NS)
		old++;
	restarts->count -= old;
	memmove(restarts->at_ns, restarts->at_ns + old,
		restarts->count * sizeof(restarts->at_ns[0]));
	if (restarts->count >= limit)
		return FALSE;
	*after_ms =
		restarts->count ? MIN(100u << MIN(restarts->count - 1, 7u), 10000u) : 0;
	restarts->at_ns[restarts->count++] = now_ns;
	return TRUE;
}
