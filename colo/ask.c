/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking a colod, with a deadline on every wait. */
#include "colo/ask.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/protocol.h"
#include "colo/field.h"

#define READ_BYTES 65536u
/* A server whose queue of connections is full is tried again after so long. */
#define CONNECT_REST_US 20000

struct colo_asking {
	int fd;
	gint64 last_id;
	GByteArray *read; /* what came after the last line */
};

/* Waits for `events`; FALSE: the deadline passed. */
static gboolean wait_for(int fd, short events, gint64 deadline_us)
{
	struct pollfd poller = { .fd = fd, .events = events };

	for (;;) {
		gint64 left_us = deadline_us - g_get_monotonic_time();
		int ready;

		/* Also of one who never stops talking. */
		if (left_us <= 0)
			return FALSE;
		ready = poll(&poller, 1,
			     deadline_us == G_MAXINT64
				     ? -1
				     : (int)MIN((left_us + 999) / 1000, G_MAXINT));
		if (ready > 0)
			return TRUE;
		if (ready < 0 && errno != EINTR)
			return FALSE;
	}
}

static enum colo_asked connect_failed(int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		return COLO_ASKED_ABSENT;
	case EACCES:
	case EPERM:
		return COLO_ASKED_DENIED;
	case EAGAIN:
		return COLO_ASKED_SILENT;
	default:
		return COLO_ASKED_BROKEN;
	}
}

int colo_ask_connect(const char *path, gint64 deadline_us, enum colo_asked *how,
		     char **why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	base_autofd int fd = -1;
	int err;

	if (!*path || strlen(path) >= sizeof(address.sun_path)) {
		*how = COLO_ASKED_BROKEN;
		*why = g_strdup_printf("socket path %s: must have 1 to %zu bytes", path,
				       sizeof(address.sun_path) - 1);
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	while (fd >= 0 &&
	       connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		err = errno;
		/* Its queue is full: it does not accept. */
		if (err == EAGAIN && g_get_monotonic_time() < deadline_us) {
			g_usleep(CONNECT_REST_US);
			continue;
		}
		*how = connect_failed(err);
		*why = g_strdup_printf("connect to %s: %s", path, g_strerror(err));
		return -1;
	}
	if (fd < 0) {
		err = errno;
		*how = COLO_ASKED_BROKEN;
		*why = g_strdup_printf("make a socket: %s", g_strerror(err));
	}
	return base_fd_steal(&fd);
}

colo_asking *colo_ask_new(const char *path, gint64 deadline_us, enum colo_asked *how,
			  char **why)
{
	int fd = colo_ask_connect(path, deadline_us, how, why);
	colo_asking *ask;

	if (fd < 0)
		return NULL;
	ask = g_new0(colo_asking, 1);
	ask->fd = fd;
	ask->read = g_byte_array_new();
	return ask;
}

void colo_ask_free(colo_asking *ask)
{
	if (!ask)
		return;
	close(ask->fd);
	g_byte_array_unref(ask->read);
	g_free(ask);
}

static enum colo_asked silent(char **why)
{
	*why = g_strdup(
		"colod did not answer in time; it runs, or hangs: see its log, or "
		"wait longer with --timeout");
	return COLO_ASKED_SILENT;
}

static enum colo_asked broken(char **why, const char *what, int err)
{
	*why = g_strdup_printf("%s: %s", what, g_strerror(err));
	return COLO_ASKED_BROKEN;
}

enum colo_asked colo_ask_send(colo_asking *ask, const char *command,
			      JsonObject *arguments, gint64 deadline_us, gint64 *id,
			      char **why)
{
	JsonObject *request = json_object_new();
	g_autofree char *line = NULL;
	gsize length, sent = 0;

	*id = ++ask->last_id;
	json_object_set_int_member(request, "id", *id);
	json_object_set_string_member(request, "command", command);
	if (arguments)
		json_object_set_object_member(request, "arguments", arguments);
	line = base_json_line(request);
	length = strlen(line);
	while (sent < length) {
		gssize n = send(ask->fd, line + sent, length - sent, MSG_NOSIGNAL);

		if (n >= 0)
			sent += (gsize)n;
		else if (errno == EAGAIN) {
			if (!wait_for(ask->fd, POLLOUT, deadline_us))
				return silent(why);
		} else if (errno != EINTR) {
			return broken(why, "send to colod", errno);
		}
	}
	return COLO_ASKED_OK;
}

JsonObject *colo_ask_parse(const char *line, gsize length, char **why)
{
	g_autofree char *fault = NULL;
	JsonObject *object = base_json_parse(line, length, &fault);

	if (object &&
	    (colo_field_text(object, "event") || json_object_has_member(object, "ok")))
		return object;
	g_clear_pointer(&object, json_object_unref);
	*why = g_strdup_printf("colod said what is no answer (%s): is that its socket?",
			       fault ? fault : "neither answer nor event");
	return NULL;
}

/* A whole line that has come already, taken out of what was read. FALSE: there is none.
 */
static gboolean take_line(colo_asking *ask, JsonObject **line, char **why)
{
	GByteArray *read = ask->read;
	const guint8 *newline = read->len ? memchr(read->data, '\n', read->len) : NULL;
	gsize length;

	if (!newline)
		return FALSE;
	length = (gsize)(newline - read->data) + 1;
	*line = colo_ask_parse((const char *)read->data, length, why);
	g_byte_array_remove_range(read, 0, (guint)length);
	return TRUE;
}

enum colo_asked colo_ask_line(colo_asking *ask, gint64 deadline_us, JsonObject **line,
			      char **why)
{
	guint8 bytes[READ_BYTES];
	gssize n;

	*line = NULL;
	for (;;) {
		if (take_line(ask, line, why))
			return *line ? COLO_ASKED_OK : COLO_ASKED_BROKEN;
		if (ask->read->len > COLO_ASK_LINE_MAX) {
			*why = g_strdup_printf(
				"colod sent a line of more than %u bytes",
				COLO_ASK_LINE_MAX);
			return COLO_ASKED_BROKEN;
		}
		if (!wait_for(ask->fd, POLLIN, deadline_us))
			return silent(why);
		n = recv(ask->fd, bytes, sizeof(bytes), 0);
		if (n == 0) {
			*why = g_strdup(
				ask->read->len ? "colod hung up in the middle of a line"
					       : "colod hung up: see its log");
			return COLO_ASKED_BROKEN;
		}
		if (n > 0)
			g_byte_array_append(ask->read, bytes, (guint)n);
		else if (errno != EAGAIN && errno != EINTR)
			return broken(why, "read from colod", errno);
	}
}

gboolean colo_ask_is_answer(JsonObject *line, gint64 id, enum colo_asked *how,
			    JsonObject **result, const char **code, char **why)
{
	JsonObject *error;
	const char *message;
	gint64 given;

	if (!json_object_has_member(line, "ok"))
		return FALSE;
	/* Without an id: what it could not read, which can only be what we said. */
	if (!colo_field_integer(line, "id", &given))
		given = colo_field_true(line, "ok") ? -1 : id;
	if (given != id)
		return FALSE;
	*result = NULL;
	*code = NULL;
	if (colo_field_true(line, "ok")) {
		*how = COLO_ASKED_OK;
		*result = colo_field_object(line, "result");
		return TRUE;
	}
	error = colo_field_object(line, "error");
	message = colo_field_text(error, "message");
	*how = COLO_ASKED_NO;
	*code = colo_field_text(error, "code");
	*why = g_strdup(message ? message : "colod refused, and did not say why");
	return TRUE;
}

enum colo_asked colo_ask_once(const char *path, const char *command,
			      JsonObject *arguments, gint64 deadline_us,
			      JsonObject **result, char **why)
{
	enum colo_asked how = COLO_ASKED_OK;
	g_autoptr(colo_asking) ask = colo_ask_new(path, deadline_us, &how, why);
	JsonObject *borrowed;
	const char *code;
	gint64 id;

	*result = NULL;
	if (!ask) {
		g_clear_pointer(&arguments, json_object_unref);
		return how;
	}
	how = colo_ask_send(ask, command, arguments, deadline_us, &id, why);
	while (how == COLO_ASKED_OK) {
		g_autoptr(JsonObject) line = NULL;

		how = colo_ask_line(ask, deadline_us, &line, why);
		if (how != COLO_ASKED_OK ||
		    !colo_ask_is_answer(line, id, &how, &borrowed, &code, why))
			continue;
		if (how == COLO_ASKED_OK)
			*result = borrowed ? json_object_ref(borrowed)
					   : json_object_new();
		break;
	}
	return how;
}
