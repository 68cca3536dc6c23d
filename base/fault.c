/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labelled steps of a program, in builds for tests.
 *
 * One lock is held while it is found out whether this step is the armed one, and let go before
 * anything happens: other threads go on.
 */
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

enum action { KILL, STOP, TELL, ACTIONS };
static const char *const action_names[ACTIONS] = { "kill", "stop", "tell" };

/* What is to happen at which step. */
struct wish {
	char *step; /* NULL: nothing */
	guint64 times; /* still to be passed */
	enum action action;
};

struct steps {
	GMutex lock;
	const char *program;
	GHashTable *known;
	char *file, *reached, *tell, *seen_file;
	struct wish environment, armed;
	struct stat armed_is, seen_is; /* the files that were read, or written to */
	GHashTable *seen;
};

G_GNUC_NORETURN G_GNUC_PRINTF(1, 2) static void die(const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list arguments;

	va_start(arguments, format);
	what = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	fprintf(stderr, "fault point: %s\n", what);
	abort();
}

static gboolean set_wish(struct wish *wish, const char *step, const char *nth,
			 const char *action)
{
	guint kind = 0;

	while (kind < ACTIONS && strcmp(action_names[kind], action))
		kind++;
	g_free(wish->step);
	*wish = (struct wish){ .times = g_ascii_strtoull(nth, NULL, 10) };
	if (kind == ACTIONS || !wish->times)
		return FALSE;
	wish->step = g_strdup(step);
	wish->action = (enum action)kind;
	return TRUE;
}

static char *usual_file(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = g_path_get_dirname(self ? self : "/");

	return g_build_filename(folder, "faults", NULL);
}

static char *own_name(void)
{
	const char *name = program_invocation_short_name;

	return g_str_has_suffix(name, "-faults") ? g_strndup(name, strlen(name) - 7)
						 : g_strdup(name);
}

static void read_environment(struct steps *steps)
{
	const char *text = g_getenv("COLO_FAULT");
	g_auto(GStrv) parts = g_strsplit(text ? text : "", ":", 3);
	const guint n = g_strv_length(parts);

	if (n && !set_wish(&steps->environment, parts[0], n > 1 ? parts[1] : "1",
			   n > 2 ? parts[2] : "kill"))
		die("COLO_FAULT is not STEP[:NTH[:kill|stop]]: %s", text);
}

static struct steps *make(void)
{
	struct steps *steps = g_new0(struct steps, 1);
	char **points = base_fault_points();

	g_mutex_init(&steps->lock);
	steps->program = own_name();
	steps->known = g_hash_table_new(g_str_hash, g_str_equal);
	for (guint i = 0; points[i]; i++)
		g_hash_table_add(steps->known, points[i]);
	g_free(points); /* what is in it stays */
	steps->file = g_getenv("COLO_FAULT_FILE") ? g_strdup(g_getenv("COLO_FAULT_FILE"))
						  : usual_file();
	steps->reached = g_strconcat(steps->file, ".reached", NULL);
	steps->tell = g_strconcat(steps->file, ".tell", NULL);
	steps->seen_file = g_strconcat(steps->file, ".seen", NULL);
	steps->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	read_environment(steps);
	return steps;
}

static struct steps *get(void)
{
	static struct steps *steps;

	if (g_once_init_enter(&steps))
		g_once_init_leave(&steps, make());
	return steps;
}

static gboolean is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void look_at_file(struct steps *steps)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) words = NULL;
	struct stat now;

	if (stat(steps->file, &now)) {
		memset(&steps->armed_is, 0, sizeof(steps->armed_is));
		g_clear_pointer(&steps->armed.step, g_free);
		return;
	}
	if (is_same_file(&now, &steps->armed_is))
		return;
	/* It may have been taken away since, by another process. */
	if (!g_file_get_contents(steps->file, &text, NULL, NULL))
		return;
	steps->armed_is = now;
	words = g_strsplit(g_strstrip(text), " ", 0);
	if (g_strv_length(words) != 4)
		die("%s is not \"PROGRAM STEP NTH ACTION\": %s", steps->file, text);
	if (strcmp(words[0], steps->program))
		g_clear_pointer(&steps->armed.step, g_free);
	else if (!g_hash_table_contains(steps->known, words[1]))
		die("%s names a step that %s does not have: %s", steps->file,
		    steps->program, words[1]);
	else if (!set_wish(&steps->armed, words[1], words[2], words[3]))
		die("%s has a wrong number or action: %s", steps->file, text);
}

static void note_seen(struct steps *steps, const char *step)
{
	g_autofree char *line = NULL;
	base_autofd int fd = -1;
	struct stat now;

	if (stat(steps->seen_file, &now))
		return;
	if (now.st_ino != steps->seen_is.st_ino || now.st_dev != steps->seen_is.st_dev) {
		g_hash_table_remove_all(steps->seen);
		steps->seen_is = now;
	}
	if (!g_hash_table_add(steps->seen, g_strdup(step)))
		return;
	line = g_strdup_printf("%s %s\n", steps->program, step);
	fd = open(steps->seen_file, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd >= 0 && write(fd, line, strlen(line)) < 0)
		die("write %s: %s", steps->seen_file, strerror(errno));
}

static gboolean comes_true(struct wish *wish, const char *step)
{
	return wish->step && !strcmp(wish->step, step) && wish->times && !--wish->times;
}

/* Only one process gets it away. */
static gboolean take_file(const struct steps *steps)
{
	return rename(steps->file, steps->reached) == 0;
}

static void tell(const struct steps *steps, const char *step)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	base_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_autofree char *line =
		g_strdup_printf("%s %s %d\n", steps->program, step, (int)getpid());
	char byte;

	if (strlen(steps->tell) >= sizeof(address.sun_path))
		die("%s is too long a name for a socket", steps->tell);
	strcpy(address.sun_path, steps->tell);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect to %s: %s", steps->tell, strerror(errno));
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		return;
	while (read(fd, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
}

void base_fault(const char *step)
{
	struct steps *steps = get();
	enum action action = ACTIONS;

	if (!g_hash_table_contains(steps->known, step))
		die("%s reaches a step that its table does not have: %s", steps->program,
		    step);
	g_mutex_lock(&steps->lock);
	note_seen(steps, step);
	look_at_file(steps);
	if (comes_true(&steps->environment, step))
		action = steps->environment.action;
	else if (comes_true(&steps->armed, step) && take_file(steps))
		action = steps->armed.action;
	g_mutex_unlock(&steps->lock);
	if (action == TELL)
		tell(steps, step);
	else if (action != ACTIONS)
		raise(action == STOP ? SIGSTOP : SIGKILL);
}

static char *join(const char *step, const char *kind)
{
	return g_strdelimit(g_strconcat(step, "-", kind, NULL), " ", '-');
}

void base_fault_of(const char *step, const char *kind)
{
	g_autofree char *whole = join(step, kind);

	base_fault(whole);
}

void base_fault_add(GPtrArray *points, const char *step, const char *const *kinds)
{
	for (; *kinds; kinds++)
		g_ptr_array_add(points, join(step, *kinds));
}

gboolean base_fault_list(const char *program)
{
	g_auto(GStrv) points = base_fault_points();

	for (guint i = 0; points[i]; i++)
		puts(points[i]);
	return TRUE;
}
