/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo console`: this terminal joined to the guest's console. What the guest says goes
 * to the terminal as it is, as on a real line: it is the one command that shows raw
 * bytes of a guest's. However it ends, the terminal is as it was.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

#define ESCAPE 0x1d /* Ctrl-] */
#define TYPED_MAX 4096u /* no more than a pipe with room takes at once */

enum end { GOES_ON, LEFT, CLOSED, SIGNALLED };

struct line {
	int fd; /* the console */
	int signals;
	gboolean terminal; /* standard input is one */
	gboolean input_over;
	char typed[TYPED_MAX]; /* and not taken by the console yet */
	gsize n_typed;
	enum end end;
};

/* To the terminal, as it takes it: a pipe that nobody reads holds up no signal. */
static gboolean show(struct line *line, const char *bytes, gsize length)
{
	while (length && line->end == GOES_ON) {
		struct pollfd pollers[] = {
			{ .fd = line->signals, .events = POLLIN },
			{ .fd = STDOUT_FILENO, .events = POLLOUT },
		};
		gssize n = 0;

		if (poll(pollers, G_N_ELEMENTS(pollers), -1) < 0 && errno != EINTR)
			return FALSE;
		if (pollers[0].revents)
			line->end = SIGNALLED;
		else if (pollers[1].revents)
			n = write(STDOUT_FILENO, bytes, length);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return FALSE;
		bytes += MAX(n, 0);
		length -= (gsize)MAX(n, 0);
	}
	return TRUE;
}

static void hear(struct line *line)
{
	char bytes[TYPED_MAX];
	gssize n = recv(line->fd, bytes, sizeof(bytes), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || !show(line, bytes, (gsize)n))
		line->end = CLOSED;
}

static void take_typed(struct line *line)
{
	gssize n = read(STDIN_FILENO, line->typed, sizeof(line->typed));
	const char *escape;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		line->input_over = TRUE;
		if (line->terminal)
			line->end = LEFT;
		return;
	}
	escape = line->terminal ? memchr(line->typed, ESCAPE, (gsize)n) : NULL;
	if (escape)
		line->end = LEFT;
	line->n_typed = escape ? (gsize)(escape - line->typed) : (gsize)n;
}

static void hand_on(struct line *line)
{
	gssize n =
		send(line->fd, line->typed, line->n_typed, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			line->end = CLOSED;
		return;
	}
	line->n_typed -= (gsize)n;
	memmove(line->typed, line->typed + n, line->n_typed);
}

static void join(struct line *line)
{
	while (line->end == GOES_ON) {
		struct pollfd pollers[] = {
			{ .fd = line->signals, .events = POLLIN },
			{ .fd = line->fd,
			  .events = (short)(POLLIN | (line->n_typed ? POLLOUT : 0)) },
			/* Nothing more is read before the last was taken. */
			{ .fd = line->input_over || line->n_typed ? -1 : STDIN_FILENO,
			  .events = POLLIN },
		};

		if (poll(pollers, G_N_ELEMENTS(pollers), -1) < 0 && errno != EINTR)
			line->end = CLOSED;
		if (pollers[0].revents)
			line->end = SIGNALLED;
		if (pollers[1].revents & (POLLIN | POLLHUP | POLLERR))
			hear(line);
		if (pollers[2].revents)
			take_typed(line);
		if (line->n_typed)
			hand_on(line);
	}
}

/* Signals that would end the program come as something to read instead. */
static int watch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int talk(const struct colo_cmd *cmd, int fd)
{
	struct line line = { .fd = fd, .signals = watch_signals() };
	struct termios before, raw;

	line.terminal = tcgetattr(STDIN_FILENO, &before) == 0;
	if (line.terminal) {
		raw = before;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	join(&line);
	if (line.terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	base_fd_clear(&line.signals);
	if (line.end == CLOSED) {
		fputc('\n', stderr);
		colo_cmd_complain(
			cmd,
			"the console was closed from the other end: see `colo "
			"status %s`",
			cmd->pair);
		return COLO_CMD_FAILED;
	}
	fputs(line.terminal ? "\n" : "", stdout);
	return COLO_CMD_DONE;
}

/* Why there is no console here. */
static int say_absent(const struct colo_cmd *cmd, JsonObject *status)
{
	const char *primary = colo_view_primary(status);
	const char *node = colo_field_text(status, "node");
	const char *state = colo_field_text(status, "state");

	if (primary && g_strcmp0(primary, node) != 0)
		colo_cmd_complain(
			cmd,
			"the guest runs on %s, and its console is there: `colo "
			"console %s` on %s",
			primary, cmd->pair, primary);
	else
		colo_cmd_complain(cmd,
				  "the guest has no console here now (%s is %s): see "
				  "`colo status %s`",
				  node ? node : "this node",
				  state ? state : "in no known state", cmd->pair);
	return COLO_CMD_FAILED;
}

static void greet(const struct colo_cmd *cmd, JsonObject *status)
{
	g_autoptr(JsonObject) clean = colo_field_clean_object(status);
	const char *node = colo_field_text(clean, "node");
	const char *state = colo_field_text(clean, "state");
	g_autofree char *text = g_strdup_printf(
		"Console of %s on %s, which is %s. Ctrl-] leaves it.\n", cmd->pair,
		node ? node : "this node", state ? state : "in no known state");

	/* Not among what the guest says. */
	colo_cmd_print(stderr, text);
}

int colo_cmd_console(struct colo_cmd *cmd)
{
	g_autoptr(JsonObject) status = NULL;
	g_autofree char *why = NULL;
	g_autofree char *whole = NULL;
	base_autofd int fd = -1;
	const char *path;
	enum colo_asked how;
	int code;

	if (!colo_cmd_parse(cmd, NULL, 1) ||
	    !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	code = colo_cmd_do(cmd, "status", NULL, COLO_CMD_STATUS_MS, &status);
	if (code != COLO_CMD_DONE)
		return code;
	path = colo_field_text(status, "console");
	if (!path || colo_field_is(status, "role", "secondary"))
		return say_absent(cmd, status);
	fd = colo_ask_connect(path, colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS), &how,
			      &why);
	if (fd < 0) {
		colo_cmd_complain(cmd, "%s%s", why,
				  how == COLO_ASKED_DENIED
					  ? ": run this as root"
					  : ": the guest's program may have ended, see "
					    "`colo status`");
		return COLO_CMD_FAILED;
	}
	greet(cmd, status);
	return talk(cmd, fd);
}
