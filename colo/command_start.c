/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo start`: tells colod to run the pair; where no colod runs, it is started first.
 * By systemd where systemd runs this host and the pair is one that colo@.service knows;
 * else as a process of its own, in a session of its own, whose log is in the pair's run
 * directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/command.h"
#include "colo/field.h"

#define POLL_US 50000
#define SYSTEMD "/run/systemd/system" /* sd_booted(3) */
#define LAST_LINE_MAX 512

struct starting {
	const char *node; /* --node, or NULL */
	gboolean discard, force;
	pid_t pid; /* of a colod that we started; 0: none */
	char *log; /* of that one */
	off_t log_begin; /* where it begins in there */
};

/* The daemon beside this program, or wherever the PATH has it; to be freed, NULL:
 * nowhere. */
static char *find_colod(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *dir = self ? g_path_get_dirname(self) : NULL;
	g_autofree char *beside = dir ? g_build_filename(dir, "colod", NULL) : NULL;
	g_autofree char *sbin =
		dir ? g_build_filename(dir, "..", "sbin", "colod", NULL) : NULL;

	if (beside && access(beside, X_OK) == 0)
		return g_steal_pointer(&beside);
	if (sbin && access(sbin, X_OK) == 0)
		return g_steal_pointer(&sbin);
	return g_find_program_in_path("colod");
}

/* Runs `systemctl start`, which says itself what is wrong. */
static int start_by_systemd(const struct colo_cmd *cmd)
{
	g_autofree char *unit = g_strdup_printf("colo@%s.service", cmd->pair);
	char *argv[] = { "systemctl", "start", unit, NULL };
	g_autoptr(GError) error = NULL;
	int status;

	if (!g_spawn_sync(NULL, argv, NULL,
			  G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN, NULL,
			  NULL, NULL, NULL, &status, &error)) {
		colo_cmd_complain(cmd, "run systemctl: %s", error->message);
		return COLO_CMD_FAILED;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return COLO_CMD_DONE;
	colo_cmd_complain(cmd,
			  "systemd could not start %s: see `journalctl -u %s`, and "
			  "`colo check %s`",
			  unit, unit, cmd->pair);
	return COLO_CMD_FAILED;
}

/* The child: from here on nothing of ours but its standard error is shared. */
static void become_colod(char *const *argv, int log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setsid() < 0 || chdir("/") < 0 || null < 0 ||
	    dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0)
		_exit(127);
	execv(argv[0], argv);
	dprintf(STDERR_FILENO, "run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static int open_log(const struct colo_cmd *cmd, struct starting *starting)
{
	g_autofree char *dir = colo_cmd_run_path(cmd, "");
	struct stat st;
	int fd, err;

	starting->log = colo_cmd_run_path(cmd, "colod.log");
	if (g_mkdir_with_parents(dir, 0700) < 0) {
		err = errno;
		colo_cmd_complain(cmd, "make directory %s: %s%s", dir, g_strerror(err),
				  err == EACCES ? ": run this as root" : "");
		return -1;
	}
	fd = open(starting->log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
		  0600);
	if (fd < 0 || fstat(fd, &st) < 0) {
		err = errno;
		colo_cmd_complain(cmd, "open %s: %s%s", starting->log, g_strerror(err),
				  err == EACCES ? ": run this as root" : "");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	starting->log_begin = st.st_size;
	return fd;
}

/* Its words; to be freed with g_strfreev(). */
static char **colod_words(const struct colo_cmd *cmd, const struct starting *starting,
			  const char *program)
{
	GPtrArray *words = g_ptr_array_new();

	g_ptr_array_add(words, g_strdup(program));
	g_ptr_array_add(words, g_strdup(cmd->path));
	if (starting->node) {
		g_ptr_array_add(words, g_strdup("--node"));
		g_ptr_array_add(words, g_strdup(starting->node));
	}
	if (cmd->run_dir) {
		g_ptr_array_add(words, g_strdup("--run-dir"));
		g_ptr_array_add(words, g_canonicalize_filename(cmd->run_dir, NULL));
	}
	g_ptr_array_add(words, NULL);
	return (char **)g_ptr_array_free(words, FALSE);
}

static int start_detached(const struct colo_cmd *cmd, struct starting *starting)
{
	g_autofree char *program = find_colod();
	g_auto(GStrv) words = NULL;
	base_autofd int log = -1;

	if (!program) {
		colo_cmd_complain(cmd, "no program colod beside colo, nor in the PATH: "
				       "is it installed?");
		return COLO_CMD_FAILED;
	}
	words = colod_words(cmd, starting, program);
	log = open_log(cmd, starting);
	if (log < 0)
		return COLO_CMD_FAILED;
	starting->pid = fork();
	if (starting->pid == 0)
		become_colod(words, log);
	if (starting->pid < 0) {
		colo_cmd_complain(cmd, "start %s: %s", program, g_strerror(errno));
		return COLO_CMD_FAILED;
	}
	return COLO_CMD_DONE;
}

/* The last line that the colod we started wrote; to be freed, may be empty. */
static char *last_words(const struct starting *starting)
{
	char text[LAST_LINE_MAX + 1];
	base_autofd int fd = open(starting->log, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	off_t begin = MAX(starting->log_begin, end - LAST_LINE_MAX);
	gssize n = fd < 0 ? 0 : pread(fd, text, LAST_LINE_MAX, begin);
	const char *line;

	text[MAX(n, 0)] = '\0';
	g_strchomp(text);
	line = strrchr(text, '\n');
	return g_strdup(line ? line + 1 : text);
}

/* TRUE where the colod that we started has ended, and it has been said. */
static gboolean has_died(const struct colo_cmd *cmd, struct starting *starting)
{
	g_autofree char *words = NULL;
	int status;

	if (!starting->pid || waitpid(starting->pid, &status, WNOHANG) != starting->pid)
		return FALSE;
	words = last_words(starting);
	colo_cmd_complain(cmd, "colod ended at once, with %s %d%s%s; its log is %s",
			  WIFEXITED(status) ? "status" : "signal",
			  WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
			  *words ? ": " : "", words, starting->log);
	return TRUE;
}

/* Until the colod that was started answers; COLO_CMD_DONE with what the pair is. */
static int await_colod(const struct colo_cmd *cmd, struct starting *starting,
		       gint64 deadline, JsonObject **status)
{
	for (;;) {
		g_autofree char *why = NULL;
		enum colo_asked how =
			colo_cmd_ask(cmd, "status", NULL, deadline, status, &why);

		if (how == COLO_ASKED_OK)
			return COLO_CMD_DONE;
		if (has_died(cmd, starting))
			return COLO_CMD_FAILED;
		if (how == COLO_ASKED_NO || how == COLO_ASKED_DENIED) {
			colo_cmd_complain(cmd, "%s", why);
			return colo_cmd_status_of(how);
		}
		if (g_get_monotonic_time() >= deadline) {
			colo_cmd_complain(
				cmd,
				"colod was started and does not answer yet: see "
				"`colo log %s colod`",
				cmd->pair);
			return COLO_CMD_UNKNOWN;
		}
		g_usleep(POLL_US);
	}
}

static int start_colod(const struct colo_cmd *cmd, struct starting *starting)
{
	if (!cmd->path) {
		colo_cmd_complain(cmd, "no pair file: nothing to start");
		return COLO_CMD_USAGE;
	}
	if (!starting->node && colo_cmd_is_usual(cmd) && access(SYSTEMD, F_OK) == 0)
		return start_by_systemd(cmd);
	return start_detached(cmd, starting);
}

static int tell_start(const struct colo_cmd *cmd, const struct starting *starting)
{
	g_autoptr(JsonObject) result = NULL;
	JsonObject *arguments = NULL;

	if (starting->discard) {
		arguments = json_object_new();
		json_object_set_boolean_member(arguments, "force", starting->force);
	}
	return colo_cmd_do(cmd, starting->discard ? "discard" : "start", arguments,
			   COLO_CMD_ACTION_MS, &result);
}

static int start(const struct colo_cmd *cmd, struct starting *starting)
{
	gint64 deadline = colo_cmd_deadline(cmd, COLO_CMD_ACTION_MS);
	g_autoptr(JsonObject) status = NULL;
	g_autofree char *why = NULL;
	enum colo_asked how =
		colo_cmd_ask(cmd, "status", NULL, deadline, &status, &why);
	int code;

	if (how == COLO_ASKED_OK)
		return tell_start(cmd, starting);
	if (how != COLO_ASKED_ABSENT) {
		colo_cmd_complain(cmd, "%s", why);
		return colo_cmd_status_of(how);
	}
	code = start_colod(cmd, starting);
	if (code == COLO_CMD_DONE)
		code = await_colod(cmd, starting, deadline, &status);
	/* A colod that comes up goes on by itself, unless the guest was ended on
	 * purpose. */
	if (code == COLO_CMD_DONE &&
	    (starting->discard || colo_field_is(status, "state", "stopped")))
		code = tell_start(cmd, starting);
	return code;
}

int colo_cmd_start(struct colo_cmd *cmd)
{
	struct starting starting = { 0 };
	g_autofree char *node = NULL;
	const GOptionEntry entries[] = {
		{ "node", 0, 0, G_OPTION_ARG_STRING, &node,
		  "Which node this host is, where its name does not tell", "NAME" },
		{ "discard", 0, 0, G_OPTION_ARG_NONE, &starting.discard,
		  "Give up this node's copy for that of the other node, which runs it",
		  NULL },
		{ "force", 'f', 0, G_OPTION_ARG_NONE, &starting.force,
		  "With --discard: also where this may be the only copy", NULL },
		{ NULL }
	};
	int code;

	if (!colo_cmd_parse(cmd, entries, 1) ||
	    !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	if (starting.force && !starting.discard) {
		colo_cmd_complain(cmd,
				  "--force is for --discard; to run the guest by your "
				  "word alone: `colo promote --force`");
		return COLO_CMD_USAGE;
	}
	starting.node = node;
	code = start(cmd, &starting);
	if (code == COLO_CMD_DONE)
		colo_cmd_tell(cmd);
	g_free(starting.log);
	return code;
}
