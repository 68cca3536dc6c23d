/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arbiter that shoots: a claim is granted when a fence agent says that the other
 * node is off (or was reset, with action "reboot").
 *
 * The agent is any of the fence-agents family. It gets its options on stdin, secrets
 * among them, in one write that fits the pipe; a clean environment; and a process group
 * of its own, which is killed when its time is over. Then nobody knows whether the
 * other node is off.
 *
 * It keeps no records. A claim that is asked again shoots again.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "colo/arbiter_kinds.h"
#include "colo/secret.h"

#define LINE_MAX_BYTES 200u /* of what an agent said, in ours */

struct fence;

/* One agent that runs; outlives the arbiter until it was waited for. */
struct run {
	struct fence *fence; /* NULL: nobody wants to know */
	pid_t pid;
	int said; /* its stderr, does not block */
	guint said_source, timer;
	GString *line; /* its last, bounded */
	gboolean line_ended;
};

struct fence {
	colo_arbiter arbiter;
	const colo_pair *pair;
	guint self;
	char *agent;
	colo_secret *input; /* all of its stdin */
	colo_secret *secrets; /* NULL: none */
	struct run *run; /* NULL: none */
	guint64 generation;
	colo_arbiter_told told;
	void *data;
	struct colo_arbiter_later later;
};

static void run_free(struct run *run)
{
	g_clear_handle_id(&run->said_source, g_source_remove);
	g_clear_handle_id(&run->timer, g_source_remove);
	base_fd_clear(&run->said);
	g_string_free(run->line, TRUE);
	g_free(run);
}

/* It was not waited for yet, so its process group is still its own. */
static void run_kill(struct run *run)
{
	kill(-run->pid, SIGKILL);
	g_clear_handle_id(&run->said_source, g_source_remove);
	g_clear_handle_id(&run->timer, g_source_remove);
	run->fence = NULL;
}

static void take_said(struct run *run, const char *bytes, gsize length)
{
	for (gsize i = 0; i < length; i++) {
		if (bytes[i] == '\n') {
			run->line_ended = TRUE;
			continue;
		}
		if (run->line_ended)
			g_string_truncate(run->line, 0);
		run->line_ended = FALSE;
		if (run->line->len < LINE_MAX_BYTES)
			g_string_append_c(run->line,
					  g_ascii_isprint(bytes[i]) ? bytes[i] : '?');
	}
}

/* FALSE: its end. */
static gboolean read_said(struct run *run)
{
	char bytes[4096];
	ssize_t n = read(run->said, bytes, sizeof(bytes));

	if (n > 0)
		take_said(run, bytes, (gsize)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static gboolean on_said(gint fd, GIOCondition condition, gpointer data)
{
	struct run *run = data;

	if (read_said(run))
		return G_SOURCE_CONTINUE;
	run->said_source = 0;
	return G_SOURCE_REMOVE;
}

/* Whether a line has one of the values of the secrets file in it. */
static gboolean gives_away(const struct fence *fence, const char *line)
{
	gboolean found = FALSE;
	const char *at;
	gsize left;

	if (!fence->secrets)
		return FALSE;
	at = colo_secret_text(fence->secrets, &left);
	while (left && !found) {
		const char *end = memchr(at, '\n', left);
		gsize length = end ? (gsize)(end - at) : left;
		const char *value = memchr(at, '=', length);
		gsize digits = value ? length - (gsize)(++value - at) : 0;

		found = digits && memmem(line, strlen(line), value, digits);
		at += MIN(length + 1, left);
		left -= MIN(length + 1, left);
	}
	return found;
}

/* The last thing that whoever calls it does: `fence` may be gone, or asked anew. */
static void tell(struct fence *fence, gboolean off, const char *why)
{
	const struct colo_arbiter_record record = { fence->generation + 1, TRUE,
						    fence->self };

	fence->told(fence->data, off ? COLO_VERDICT_GRANTED : COLO_VERDICT_UNREACHABLE,
		    off ? &record : NULL, why);
}

static char *describe(struct run *run, int status)
{
	const struct fence *fence = run->fence;
	g_autofree char *how = NULL;
	const char *line = run->line->str;

	if (WIFEXITED(status))
		how = g_strdup_printf("exit status %d", WEXITSTATUS(status));
	else
		how = g_strdup_printf("killed by signal %d", WTERMSIG(status));
	if (gives_away(fence, line))
		line = "(what it said has a secret in it)";
	return g_strdup_printf("fence agent %s for %s: %s%s%s", fence->agent,
			       fence->pair->node[!fence->self].name, how,
			       line[0] ? ": " : "", line);
}

static void on_exit_of_agent(GPid pid, gint status, gpointer data)
{
	struct run *run = data;
	struct fence *fence = run->fence;
	gboolean off = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	g_autofree char *why = NULL;

	if (!fence) {
		run_free(run);
		return;
	}
	/* What is in the pipe, and no more: a child of the agent's may hold it open. */
	for (guint i = 0; i < 16 && read_said(run); i++)
		;
	why = off ? NULL : describe(run, status);
	fence->run = NULL;
	run_free(run);
	tell(fence, off, why);
}

static gboolean on_time_over(gpointer data)
{
	struct run *run = data;
	struct fence *fence = run->fence;
	g_autofree char *why = g_strdup_printf(
		"fence agent %s for %s: not done after %u ms, killed", fence->agent,
		fence->pair->node[!fence->self].name, fence->pair->arbiter.timeout_ms);

	run->timer = 0;
	run_kill(run);
	fence->run = NULL;
	tell(fence, FALSE, why);
	return G_SOURCE_REMOVE;
}

/* A pipe with all of the input in it, its writing end closed; or -errno. */
static int open_input(const colo_secret *input)
{
	base_autofd int from = -1, to = -1;
	gsize length;
	const char *text = colo_secret_text(input, &length);
	int ends[2];
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	from = ends[0];
	to = ends[1];
	if (fcntl(to, F_SETPIPE_SZ, (int)COLO_SECRET_MAX) < 0 ||
	    fcntl(to, F_SETFL, O_NONBLOCK))
		return -errno;
	n = write(to, text, length);
	if (n < 0)
		return -errno;
	return (gsize)n == length ? base_fd_steal(&from) : -EIO;
}

/* 0 or an errno. */
static int spawn(const struct fence *fence, int input, int errors, pid_t *pid)
{
	char *const argv[] = { fence->agent, NULL };
	char *const environment[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/"
					      "usr/sbin:/usr/bin:/sbin:/bin",
				      (char *)"LC_ALL=C.UTF-8", (char *)"HOME=/",
				      NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	err = posix_spawn_file_actions_adddup2(&files, input, 0);
	if (!err)
		err = posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY,
						       0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&files, errors, 2);
	/* What we were started with may be more than we know of. */
	if (!err)
		err = posix_spawn_file_actions_addclosefrom_np(&files, 3);
	if (!err)
		err = posix_spawnattr_setflags(
			&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
					     POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	if (!err)
		err = posix_spawn(pid, fence->agent, &files, &attributes, argv,
				  environment);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return err;
}

/* 0 or an errno. */
static int start_agent(struct fence *fence)
{
	base_autofd int input = open_input(fence->input);
	base_autofd int said = -1, errors = -1;
	struct run *run;
	int ends[2], err;
	pid_t pid;

	if (input < 0)
		return -input;
	if (pipe2(ends, O_CLOEXEC))
		return errno;
	said = ends[0];
	errors = ends[1];
	if (fcntl(said, F_SETFL, O_NONBLOCK))
		return errno;
	err = spawn(fence, input, errors, &pid);
	if (err)
		return err;
	run = g_new0(struct run, 1);
	run->fence = fence;
	run->pid = pid;
	run->said = base_fd_steal(&said);
	run->line = g_string_new(NULL);
	run->said_source = g_unix_fd_add(run->said, G_IO_IN | G_IO_HUP, on_said, run);
	run->timer = g_timeout_add(fence->pair->arbiter.timeout_ms, on_time_over, run);
	g_child_watch_add(pid, on_exit_of_agent, run);
	fence->run = run;
	return 0;
}

static void fence_claim(colo_arbiter *arbiter, guint64 generation,
			colo_arbiter_told told, void *data)
{
	struct fence *fence = (struct fence *)arbiter;
	int err;

	g_assert(!fence->run);
	fence->generation = generation;
	fence->told = told;
	fence->data = data;
	err = start_agent(fence);
	if (err)
		colo_arbiter_tell_later(&fence->later, told, data,
					COLO_VERDICT_UNREACHABLE, NULL,
					g_strdup_printf("start fence agent %s: %s",
							fence->agent, g_strerror(err)));
}

static void fence_read(colo_arbiter *arbiter, colo_arbiter_told told, void *data)
{
	struct fence *fence = (struct fence *)arbiter;

	g_assert(!fence->run);
	colo_arbiter_tell_later(&fence->later, told, data, COLO_VERDICT_NO_RECORD, NULL,
				NULL);
}

static void fence_protect(colo_arbiter *arbiter, guint64 generation,
			  colo_arbiter_told told, void *data)
{
	struct fence *fence = (struct fence *)arbiter;
	const struct colo_arbiter_record record = { .generation = generation };

	g_assert(!fence->run);
	colo_arbiter_tell_later(&fence->later, told, data, COLO_VERDICT_GRANTED,
				&record, NULL);
}

static void fence_create(colo_arbiter *arbiter, guint64 generation, gboolean force,
			 colo_arbiter_told told, void *data)
{
	struct fence *fence = (struct fence *)arbiter;
	const struct colo_arbiter_record record = { force ? generation : 1, TRUE,
						    fence->self };

	g_assert(!fence->run);
	colo_arbiter_tell_later(&fence->later, told, data, COLO_VERDICT_GRANTED,
				&record, NULL);
}

static void fence_cancel(colo_arbiter *arbiter)
{
	struct fence *fence = (struct fence *)arbiter;

	colo_arbiter_tell_never(&fence->later);
	if (fence->run)
		run_kill(fence->run);
	fence->run = NULL;
}

static void fence_free(colo_arbiter *arbiter)
{
	struct fence *fence = (struct fence *)arbiter;

	fence_cancel(arbiter);
	colo_secret_free(fence->input);
	colo_secret_free(fence->secrets);
	g_free(fence->agent);
	g_free(fence);
}

static const struct colo_arbiter_ops fence_ops = {
	.free = fence_free,
	.read = fence_read,
	.claim = fence_claim,
	.protect = fence_protect,
	.create = fence_create,
	.cancel = fence_cancel,
	.name = "fence",
};

static gboolean append_line(colo_secret *input, const char *name, const char *value)
{
	return colo_secret_append(input, name, strlen(name)) &&
	       colo_secret_append(input, "=", 1) &&
	       colo_secret_append(input, value, strlen(value)) &&
	       colo_secret_append(input, "\n", 1);
}

/* What is said last counts, with these agents: so what colo says comes last. */
static gboolean make_input(struct fence *fence, GError **error)
{
	const struct colo_arbiter_config *config = &fence->pair->arbiter;
	const struct colo_node_config *peer = &fence->pair->node[!fence->self];
	gboolean fits = TRUE;
	const char *text;
	gsize length;

	fence->input = colo_secret_new(error);
	if (!fence->input)
		return FALSE;
	for (char **option = config->agent_options; option && *option; option++) {
		if (!strchr(*option, '=') || strchr(*option, '\n')) {
			g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
				    "fence agent's option \"%s\" must be name=value",
				    *option);
			return FALSE;
		}
		fits = fits &&
		       colo_secret_append(fence->input, *option, strlen(*option)) &&
		       colo_secret_append(fence->input, "\n", 1);
	}
	if (config->agent_secrets) {
		fence->secrets = colo_secret_read("fence agent's secrets",
						  config->agent_secrets, error);
		if (!fence->secrets)
			return FALSE;
		text = colo_secret_text(fence->secrets, &length);
		if (memchr(text, 0, length)) {
			g_set_error(
				error, COLO_ERROR, COLO_ERROR_CONFIG,
				"fence agent's secrets %s must be lines of name=value",
				config->agent_secrets);
			return FALSE;
		}
		fits = fits && colo_secret_append(fence->input, text, length) &&
		       colo_secret_append(fence->input, "\n", 1);
	}
	if (fits &&
	    append_line(fence->input, "action",
			config->agent_action ? config->agent_action : "off") &&
	    append_line(fence->input, "plug", peer->plug ? peer->plug : peer->name) &&
	    append_line(fence->input, "nodename", peer->name))
		return TRUE;
	g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
		    "fence agent's options are longer than %u bytes", COLO_SECRET_MAX);
	return FALSE;
}

colo_arbiter *colo_arbiter_fence_new(const colo_pair *pair, guint self, GError **error)
{
	struct fence *fence = g_new0(struct fence, 1);

	fence->arbiter.ops = &fence_ops;
	fence->pair = pair;
	fence->self = self;
	fence->agent =
		g_find_program_in_path(pair->arbiter.agent ? pair->arbiter.agent : "");
	if (!fence->agent) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "fence agent %s is no program that can be run",
			    pair->arbiter.agent ? pair->arbiter.agent : "(none given)");
		fence_free(&fence->arbiter);
		return NULL;
	}
	if (!pair->arbiter.timeout_ms) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "a fence agent needs a timeout");
		fence_free(&fence->arbiter);
		return NULL;
	}
	if (make_input(fence, error))
		return &fence->arbiter;
	fence_free(&fence->arbiter);
	return NULL;
}
