/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hook program.
 *
 * A run begins with the process and ends when it was reaped. Its standard input is a
 * file in memory, so that nobody has to write while it reads; its output is a pipe, of
 * which no more is read than comes until then.
 */
#include "colo/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/error.h"
#include "colo/spawn.h"

#define LINE_BYTES 512u
#define GROUPS_MAX 256

struct colo_hooks {
	char *program, *pair, *node;
	guint timeout_ms;
	gint64 uid, gid; /* -1: colod's */
	gid_t groups[GROUPS_MAX];
	int group_count;
	GMainContext *context;
	GQueue waiting; /* struct job */
	guint dropped; /* since the last one that was queued */
	/* Of the one that runs. */
	struct job *job; /* NULL: none does */
	pid_t pid;
	int pidfd, trouble, out;
	GSource *ending, *speaking, *deadline;
	gboolean late; /* its time was up */
	guint lines, lines_left_out;
	gsize used;
	char line[LINE_BYTES];
};

struct job {
	char *name, *json;
	char **environment;
};

static void start_next(colo_hooks *hooks);

static void clear_source(GSource **source)
{
	if (*source)
		g_source_destroy(*source);
	g_clear_pointer(source, g_source_unref);
}

static void free_job(struct job *job)
{
	g_free(job->name);
	g_free(job->json);
	g_strfreev(job->environment);
	g_free(job);
}

static GSource *watch(colo_hooks *hooks, int fd, GUnixFDSourceFunc called)
{
	GSource *source = g_unix_fd_source_new(fd, G_IO_IN);

	g_source_set_callback(source, G_SOURCE_FUNC(called), hooks, NULL);
	g_source_attach(source, hooks->context);
	return source;
}

/* What it says. */

static void log_line(colo_hooks *hooks)
{
	if (hooks->lines < COLO_HOOK_LINES) {
		g_autofree char *text =
			g_utf8_make_valid(hooks->line, (gssize)hooks->used);

		g_message("hook on %s: says: %s", hooks->job->name, text);
		hooks->lines++;
	} else {
		hooks->lines_left_out++;
	}
	hooks->used = 0;
}

static void take_output(colo_hooks *hooks, const char *bytes, gsize length)
{
	for (gsize i = 0; i < length; i++) {
		if (bytes[i] == '\n' || hooks->used == LINE_BYTES)
			log_line(hooks);
		if (bytes[i] != '\n')
			hooks->line[hooks->used++] =
				g_ascii_iscntrl(bytes[i]) ? ' ' : bytes[i];
	}
}

/* FALSE: there is no more, for now or ever (`*over`). */
static gboolean read_output(colo_hooks *hooks, gboolean *over)
{
	char bytes[4096];
	gssize got = read(hooks->out, bytes, sizeof(bytes));

	*over = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
	if (got > 0)
		take_output(hooks, bytes, (gsize)got);
	return got > 0;
}

static gboolean on_output(int fd, GIOCondition condition, gpointer data)
{
	colo_hooks *hooks = data;
	gboolean over;

	read_output(hooks, &over);
	if (!over)
		return G_SOURCE_CONTINUE;
	clear_source(&hooks->speaking);
	return G_SOURCE_REMOVE;
}

/* Its end. */

static void finish(colo_hooks *hooks)
{
	clear_source(&hooks->ending);
	clear_source(&hooks->speaking);
	clear_source(&hooks->deadline);
	base_fd_clear(&hooks->pidfd);
	base_fd_clear(&hooks->trouble);
	base_fd_clear(&hooks->out);
	g_clear_pointer(&hooks->job, free_job);
}

static void tell_end(const colo_hooks *hooks, const siginfo_t *info)
{
	const char *name = hooks->job->name;
	int err = colo_spawn_trouble(hooks->trouble);

	if (hooks->lines_left_out)
		g_message("hook on %s: said %u lines more", name,
			  hooks->lines_left_out);
	if (err)
		g_warning("hook on %s: %s could not be executed: %s", name,
			  hooks->program, g_strerror(err));
	else if (hooks->late)
		g_warning("hook on %s: %s had not ended after %u ms: killed", name,
			  hooks->program, hooks->timeout_ms);
	else if (info->si_code != CLD_EXITED)
		g_warning("hook on %s: %s was killed by signal %d (%s)", name,
			  hooks->program, info->si_status,
			  g_strsignal(info->si_status));
	else if (info->si_status)
		g_warning("hook on %s: %s ended with exit status %d", name,
			  hooks->program, info->si_status);
}

static gboolean on_end(int fd, GIOCondition condition, gpointer data)
{
	colo_hooks *hooks = data;
	siginfo_t info = { 0 };
	gboolean over = FALSE;

	/* Before it is reaped its group's number is nobody else's. */
	kill(-hooks->pid, SIGKILL);
	if (waitid(P_PIDFD, (id_t)hooks->pidfd, &info, WEXITED | WNOHANG) == 0 &&
	    info.si_pid == 0)
		return G_SOURCE_CONTINUE;
	/* A pipe's worth at most: others may go on to write. */
	for (guint i = 0; i < 16 && read_output(hooks, &over); i++)
		;
	if (hooks->used)
		log_line(hooks);
	tell_end(hooks, &info);
	finish(hooks);
	start_next(hooks);
	return G_SOURCE_REMOVE;
}

static gboolean on_deadline(gpointer data)
{
	colo_hooks *hooks = data;

	hooks->late = TRUE;
	kill(-hooks->pid, SIGKILL);
	pidfd_send_signal(hooks->pidfd, SIGKILL, NULL, 0);
	clear_source(&hooks->deadline);
	return G_SOURCE_REMOVE;
}

/* Its beginning. */

/* A file in memory that holds the event; -1 with `error`. */
static int make_input(const char *json, GError **error)
{
	base_autofd int fd = memfd_create("event", MFD_CLOEXEC);

	if (fd < 0 || write(fd, json, strlen(json)) != (gssize)strlen(json) ||
	    lseek(fd, 0, SEEK_SET) < 0) {
		colo_error_errno(error, errno, "make its input");
		return -1;
	}
	return base_fd_steal(&fd);
}

static gboolean start(colo_hooks *hooks, GError **error)
{
	const char *const argv[] = { hooks->program, hooks->job->name, NULL };
	base_autofd int in = make_input(hooks->job->json, error);
	base_autofd int reader = -1, writer = -1;
	struct colo_spawned spawned;
	struct colo_spawn spawn;
	int ends[2];

	if (in < 0)
		return FALSE;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return colo_error_errno(error, errno, "make a pipe");
	reader = ends[0];
	writer = ends[1];
	/* Its own end blocks, as programs expect. */
	if (fcntl(reader, F_SETFL, O_NONBLOCK) < 0)
		return colo_error_errno(error, errno, "make a pipe");
	spawn = (struct colo_spawn){
		.argv = argv,
		.environment = (const char *const *)hooks->job->environment,
		.in = in,
		.out = writer,
		.fd = -1,
		.uid = hooks->uid,
		.gid = hooks->gid,
		.groups = hooks->groups,
		.group_count = (gsize)hooks->group_count,
	};
	if (!colo_spawn(&spawn, &spawned, error))
		return FALSE;
	hooks->pid = spawned.pid;
	hooks->pidfd = spawned.pidfd;
	hooks->trouble = spawned.trouble;
	hooks->out = base_fd_steal(&reader);
	return TRUE;
}

static void start_next(colo_hooks *hooks)
{
	while (!hooks->job && (hooks->job = g_queue_pop_head(&hooks->waiting))) {
		g_autoptr(GError) error = NULL;

		hooks->late = FALSE;
		hooks->lines = hooks->lines_left_out = 0;
		hooks->used = 0;
		if (!start(hooks, &error)) {
			g_warning("hook on %s: not run: %s", hooks->job->name,
				  error->message);
			finish(hooks);
			continue;
		}
		hooks->ending = watch(hooks, hooks->pidfd, on_end);
		hooks->speaking = watch(hooks, hooks->out, on_output);
		hooks->deadline = g_timeout_source_new(hooks->timeout_ms);
		g_source_set_callback(hooks->deadline, on_deadline, hooks, NULL);
		g_source_attach(hooks->deadline, hooks->context);
	}
}

static struct job *make_job(colo_hooks *hooks, const struct colo_told *event)
{
	struct job *job = g_new0(struct job, 1);
	char number[32], time[32];

	g_snprintf(number, sizeof(number), "%" G_GUINT64_FORMAT, event->generation);
	g_snprintf(time, sizeof(time), "%" G_GINT64_FORMAT ".%03d",
		   event->time_ms / 1000, (int)(event->time_ms % 1000));
	job->name = g_strdup(event->name);
	job->json = g_strdup(event->json);
	job->environment = colo_spawn_environment(NULL);
#define SET(name, value) \
	job->environment = g_environ_setenv(job->environment, name, value, TRUE)
	SET("COLO_EVENT", event->name);
	SET("COLO_PAIR", hooks->pair);
	SET("COLO_NODE", hooks->node);
	SET("COLO_STATE", event->state ? event->state : "");
	SET("COLO_GENERATION", number);
	SET("COLO_DETAIL", event->detail ? event->detail : "");
	SET("COLO_TIME", time);
	if (hooks->dropped) {
		g_snprintf(number, sizeof(number), "%u", hooks->dropped);
		SET("COLO_DROPPED", number);
	}
#undef SET
	hooks->dropped = 0;
	return job;
}

void colo_hooks_run(colo_hooks *hooks, const struct colo_told *event)
{
	if (hooks->waiting.length >= COLO_HOOKS_MAX) {
		if (!hooks->dropped++)
			g_warning("hook on %s: left out: %u wait already, behind the "
				  "one on "
				  "%s",
				  event->name, COLO_HOOKS_MAX, hooks->job->name);
		return;
	}
	g_queue_push_tail(&hooks->waiting, make_job(hooks, event));
	start_next(hooks);
}

guint colo_hooks_pending(const colo_hooks *hooks)
{
	return hooks->waiting.length + (hooks->job != NULL);
}

static gboolean find_user(colo_hooks *hooks, const char *user, GError **error)
{
	char buffer[16384];
	struct passwd entry, *found = NULL;
	int err = getpwnam_r(user, &entry, buffer, sizeof(buffer), &found);

	if (err)
		return colo_error_errno(error, err, "hook: look up the user %s", user);
	if (!found)
		return colo_error_set(error, COLO_ERROR_CONFIG,
				      "hook: there is no user %s on this host", user);
	hooks->uid = found->pw_uid;
	hooks->gid = found->pw_gid;
	hooks->group_count = GROUPS_MAX;
	if (getgrouplist(user, found->pw_gid, hooks->groups, &hooks->group_count) < 0)
		return colo_error_set(error, COLO_ERROR_CONFIG,
				      "hook: the user %s is in more than %d groups",
				      user, GROUPS_MAX);
	if (geteuid() != 0 && geteuid() != found->pw_uid)
		return colo_error_set(error, COLO_ERROR_HOST,
				      "hook: only root can become the user %s", user);
	return TRUE;
}

colo_hooks *colo_hooks_new(const struct colo_hooks_config *config, GError **error)
{
	g_autoptr(colo_hooks) hooks = g_new0(colo_hooks, 1);
	struct stat st;

	hooks->program = g_strdup(config->program);
	hooks->pair = g_strdup(config->pair);
	hooks->node = g_strdup(config->node);
	hooks->timeout_ms = config->timeout_ms;
	hooks->uid = hooks->gid = -1;
	hooks->pidfd = hooks->trouble = hooks->out = -1;
	hooks->context = g_main_context_ref_thread_default();
	g_queue_init(&hooks->waiting);
	if (config->user && !find_user(hooks, config->user, error))
		return NULL;
	if (stat(config->program, &st) < 0) {
		colo_error_errno(error, errno, "hook: %s", config->program);
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)) {
		colo_error_set(error, COLO_ERROR_HOST,
			       "hook: %s is no program: `chmod +x` it",
			       config->program);
		return NULL;
	}
	return g_steal_pointer(&hooks);
}

void colo_hooks_free(colo_hooks *hooks)
{
	if (!hooks)
		return;
	if (hooks->job) {
		/* If it is not dead at once, init reaps it after us. */
		kill(-hooks->pid, SIGKILL);
		pidfd_send_signal(hooks->pidfd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)hooks->pidfd, &(siginfo_t){ 0 },
		       WEXITED | WNOHANG);
		finish(hooks);
	}
	g_queue_clear_full(&hooks->waiting, (GDestroyNotify)free_job);
	g_main_context_unref(hooks->context);
	g_free(hooks->program);
	g_free(hooks->pair);
	g_free(hooks->node);
	g_free(hooks);
}
