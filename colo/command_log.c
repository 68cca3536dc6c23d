/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo log`: the ends of the programs' log files, which colod names. In them is what
 * guests and peers said, so that each line is cleaned before it is shown.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/command.h"
#include "colo/field.h"

#define LINES_USUAL 20
#define TAIL_MAX (4u << 20) /* bytes that are looked at for the last lines */
#define LINE_MAX_BYTES 65536u
#define READ_BYTES 65536u
#define POLL_US 250000
#define SYSTEMD "/run/systemd/system"

struct file {
	char *program, *path;
	int fd; /* -1: not there now */
	ino_t inode;
	off_t at; /* what is before has been read */
	GString *partial; /* a line whose end has not come */
};

struct tail {
	GPtrArray *files;
	const struct file *last; /* whose lines were shown last */
	const char *wanted; /* program; NULL: all */
	gint lines;
	gboolean follow;
};

static void free_file(gpointer data)
{
	struct file *file = data;

	base_fd_clear(&file->fd);
	g_string_free(file->partial, TRUE);
	g_free(file->program);
	g_free(file->path);
	g_free(file);
}

static void add_file(struct tail *tail, const char *program, const char *path)
{
	struct file *file = g_new0(struct file, 1);

	file->program = colo_field_clean(program, strlen(program), 0);
	file->path = g_strdup(path);
	file->fd = -1;
	file->partial = g_string_new(NULL);
	g_ptr_array_add(tail->files, file);
}

/* FALSE with errno. */
static gboolean open_file(struct file *file)
{
	struct stat st;

	base_fd_clear(&file->fd);
	file->fd = open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (file->fd < 0)
		return FALSE;
	if (fstat(file->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		base_fd_clear(&file->fd);
		errno = EINVAL;
		return FALSE;
	}
	file->inode = st.st_ino;
	file->at = 0;
	return TRUE;
}

static void show_line(struct tail *tail, const struct file *file, const char *line,
		      gsize length)
{
	g_autofree char *clean = NULL;

	if (tail->last != file && tail->files->len > 1)
		printf("%s==> %s <==\n", tail->last ? "\n" : "", file->program);
	tail->last = file;
	if (length && line[length - 1] == '\r')
		length--;
	clean = colo_field_clean(line, length, 0);
	colo_cmd_print(stdout, clean);
	putchar('\n');
}

/* Shows whole lines, and keeps the rest for later. */
static void take_bytes(struct tail *tail, struct file *file, const char *bytes,
		       gsize length)
{
	const char *newline;

	while ((newline = memchr(bytes, '\n', length))) {
		gsize part = (gsize)(newline - bytes);

		g_string_append_len(file->partial, bytes, (gssize)part);
		show_line(tail, file, file->partial->str, file->partial->len);
		g_string_truncate(file->partial, 0);
		bytes += part + 1;
		length -= part + 1;
	}
	g_string_append_len(file->partial, bytes, (gssize)length);
	if (file->partial->len > LINE_MAX_BYTES) {
		show_line(tail, file, file->partial->str, file->partial->len);
		g_string_truncate(file->partial, 0);
	}
}

static void read_on(struct tail *tail, struct file *file)
{
	char bytes[READ_BYTES];
	gssize n;

	while (file->fd >= 0 &&
	       (n = pread(file->fd, bytes, sizeof(bytes), file->at)) > 0) {
		file->at += n;
		take_bytes(tail, file, bytes, (gsize)n);
	}
}

/* Where the last `lines` lines begin. */
static off_t find_tail(int fd, off_t size, gint lines)
{
	off_t begin = MAX(size - (off_t)TAIL_MAX, 0), at = size;
	char bytes[READ_BYTES];
	gint found = 0;

	if (lines <= 0)
		return size;
	while (at > begin) {
		off_t from = MAX(at - (off_t)sizeof(bytes), begin);
		gssize n = pread(fd, bytes, (gsize)(at - from), from);

		if (n <= 0)
			return at;
		for (gssize i = n - 1; i >= 0; i--)
			if (bytes[i] == '\n' && from + i != size - 1 &&
			    ++found == lines)
				return from + i + 1;
		at = from;
	}
	return begin;
}

/* FALSE: it could not be, and has been said. */
static gboolean show_tail(const struct colo_cmd *cmd, struct tail *tail,
			  struct file *file)
{
	struct stat st;

	if (!open_file(file) || fstat(file->fd, &st) < 0) {
		/* A program that was never started has said nothing yet. */
		if (errno == ENOENT && !tail->wanted)
			return TRUE;
		colo_cmd_complain(cmd, "log of %s, %s: %s", file->program, file->path,
				  errno == EINVAL ? "not a file" : g_strerror(errno));
		return FALSE;
	}
	file->at = find_tail(file->fd, st.st_size, tail->lines);
	read_on(tail, file);
	if (!tail->follow && file->partial->len)
		show_line(tail, file, file->partial->str, file->partial->len);
	return TRUE;
}

/* A file that was begun anew, or replaced, is read from its beginning. */
static void follow_file(struct tail *tail, struct file *file)
{
	struct stat st;

	read_on(tail, file);
	if (stat(file->path, &st) < 0)
		return;
	if (file->fd < 0 || st.st_ino != file->inode) {
		if (!open_file(file))
			return;
	} else if (st.st_size < file->at) {
		file->at = 0;
	} else {
		return;
	}
	g_string_truncate(file->partial, 0);
	read_on(tail, file);
}

static int show(const struct colo_cmd *cmd, struct tail *tail)
{
	guint shown = 0;

	for (guint i = 0; i < tail->files->len; i++)
		shown += show_tail(cmd, tail, tail->files->pdata[i]) ? 1 : 0;
	while (tail->follow && !ferror(stdout)) {
		fflush(stdout);
		g_usleep(POLL_US);
		for (guint i = 0; i < tail->files->len; i++)
			follow_file(tail, tail->files->pdata[i]);
	}
	return shown == tail->files->len ? COLO_CMD_DONE : COLO_CMD_FAILED;
}

/* Which log. */

static gboolean is_wanted(const char *program, const char *wanted)
{
	return !wanted || !strcmp(program, wanted) ||
	       (g_str_has_prefix(program, "colo-") && !strcmp(program + 5, wanted));
}

static void add_logs(struct tail *tail, JsonObject *status)
{
	JsonObject *logs = colo_field_object(status, "logs");
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;

	if (!logs)
		return;
	json_object_iter_init_ordered(&iter, logs);
	while (json_object_iter_next_ordered(&iter, &name, &node)) {
		const char *path = colo_field_text(logs, name);

		if (path && is_wanted(name, tail->wanted))
			add_file(tail, name, path);
	}
}

/* colod's own, where `colo start` started it. */
static void add_colod(const struct colo_cmd *cmd, struct tail *tail)
{
	g_autofree char *path = colo_cmd_run_path(cmd, "colod.log");

	for (guint i = 0; i < tail->files->len; i++)
		if (!strcmp(((struct file *)tail->files->pdata[i])->program, "colod"))
			return;
	if (access(path, R_OK) == 0)
		add_file(tail, "colod", path);
}

/* Becomes journalctl, which has what systemd's colod says. */
static int show_journal(const struct colo_cmd *cmd, const struct tail *tail)
{
	g_autofree char *unit = g_strdup_printf("colo@%s.service", cmd->pair);
	g_autofree char *lines = g_strdup_printf("%d", tail->lines);

	execlp("journalctl", "journalctl", "-u", unit, "-n", lines,
	       tail->follow ? "-f" : NULL, NULL);
	colo_cmd_complain(cmd, "run journalctl: %s", g_strerror(errno));
	return COLO_CMD_FAILED;
}

static int say_absent(const struct colo_cmd *cmd, JsonObject *status,
		      const char *wanted)
{
	JsonObject *logs = colo_field_object(status, "logs");
	g_autoptr(GList) names = logs ? json_object_get_members(logs) : NULL;
	g_autoptr(GString) list = g_string_new(NULL);

	for (GList *at = names; at; at = at->next)
		g_string_append_printf(list, "%s%s", list->len ? ", " : "",
				       (const char *)at->data);
	if (wanted)
		colo_cmd_complain(cmd, "no log of \"%s\"%s%s", wanted,
				  list->len ? "; there are those of " : "", list->str);
	else
		colo_cmd_complain(cmd, "no log has been begun yet");
	return COLO_CMD_FAILED;
}

static int show_logs(const struct colo_cmd *cmd, struct tail *tail)
{
	const char *wanted = tail->wanted;
	g_autoptr(JsonObject) status = NULL;
	g_autofree char *why = NULL;
	enum colo_asked how =
		colo_cmd_ask(cmd, "status", NULL,
			     colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS), &status, &why);

	if (how == COLO_ASKED_OK)
		add_logs(tail, status);
	if (is_wanted("colod", wanted))
		add_colod(cmd, tail);
	if (!tail->files->len && is_wanted("colod", wanted) && colo_cmd_is_usual(cmd) &&
	    access(SYSTEMD, F_OK) == 0)
		return show_journal(cmd, tail);
	if (how != COLO_ASKED_OK)
		colo_cmd_complain(cmd, "%s", why);
	else if (!tail->files->len)
		return say_absent(cmd, status, wanted);
	return tail->files->len ? show(cmd, tail) : colo_cmd_status_of(how);
}

/* [PAIR] [PROGRAM]: one word alone is a pair, if there is one of that name. */
static gboolean read_words(struct colo_cmd *cmd, const char **program)
{
	char **words = cmd->words;
	g_auto(GStrv) pairs = colo_cmd_pairs(cmd);

	*program = NULL;
	if (words && !words[1] && g_strv_length(pairs) == 1 &&
	    strcmp(words[0], pairs[0]) != 0 && !strchr(words[0], '/') &&
	    !g_str_has_suffix(words[0], ".conf")) {
		*program = words[0];
		return colo_cmd_pair(cmd, NULL);
	}
	if (words && words[1])
		*program = words[1];
	return colo_cmd_pair(cmd, words ? words[0] : NULL);
}

/* "-n20", as people write it, is nothing that the option parser knows. */
static void spell_out(char **argv)
{
	for (; *argv && strcmp(*argv, "--") != 0; argv++) {
		char *spelled;

		if (strncmp(*argv, "-n", 2) != 0 || !g_ascii_isdigit((*argv)[2]))
			continue;
		spelled = g_strconcat("--lines=", *argv + 2, NULL);
		g_free(*argv);
		*argv = spelled;
	}
}

int colo_cmd_log(struct colo_cmd *cmd)
{
	struct tail tail = { .lines = LINES_USUAL };
	const GOptionEntry entries[] = {
		{ "follow", 'f', 0, G_OPTION_ARG_NONE, &tail.follow,
		  "Go on with what is written from now on", NULL },
		{ "lines", 'n', 0, G_OPTION_ARG_INT, &tail.lines,
		  "So many of the last lines of each (20)", "N" },
		{ NULL }
	};
	g_auto(GStrv) argv = g_strdupv(cmd->argv);
	int code;

	spell_out(argv);
	cmd->argv = argv;
	if (!colo_cmd_parse(cmd, entries, 2) || !read_words(cmd, &tail.wanted))
		return cmd->status;
	if (tail.lines < 0) {
		colo_cmd_complain(cmd, "--lines: 0 at least");
		return COLO_CMD_USAGE;
	}
	tail.files = g_ptr_array_new_with_free_func(free_file);
	code = show_logs(cmd, &tail);
	g_ptr_array_unref(tail.files);
	return code;
}
