/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The comparator's control socket. */
#include "netcompare/control.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"

#define LINE_MAX_BYTES 4096u
#define CLIENTS_MAX 16u

struct ncmp_control {
	struct ncmp_control_hooks hooks;
	char *path;
	dev_t dev; /* of the socket's file */
	ino_t ino;
	int fd;
	GMainContext *context;
	GSource *accepting;
	GList *clients; /* struct client */
};

struct client {
	ncmp_control *control;
	int fd;
	GSource *source;
	guint used;
	char line[LINE_MAX_BYTES];
};

/* Answers. */

static char *finish(JsonNode *id, const char *member, JsonObject *value, gboolean ok)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	JsonObject *answer = json_object_new();

	json_object_set_member(answer, "id",
			       id ? json_node_copy(id) : json_node_new(JSON_NODE_NULL));
	json_object_set_boolean_member(answer, "ok", ok);
	json_object_set_object_member(answer, member, value);
	json_node_take_object(node, answer);
	return json_to_string(node, FALSE);
}

static char *refuse(JsonNode *id, const char *code, const char *message)
{
	JsonObject *error = json_object_new();

	json_object_set_string_member(error, "code", code);
	json_object_set_string_member(error, "message", message);
	return finish(id, "error", error, FALSE);
}

/* Numbers and text come back as they were; others are not taken. */
static gboolean is_good_id(JsonNode *id)
{
	GType type = id && JSON_NODE_HOLDS_VALUE(id) ? json_node_get_value_type(id) : 0;

	return !id || type == G_TYPE_INT64 || type == G_TYPE_STRING ||
	       JSON_NODE_HOLDS_NULL(id);
}

static char *answer_request(const struct ncmp_control_hooks *hooks, JsonObject *request,
			    gboolean *quit)
{
	JsonNode *id = json_object_get_member(request, "id");
	JsonNode *node = json_object_get_member(request, "command");
	const char *command =
		node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;

	if (!is_good_id(id))
		return refuse(NULL, "bad-request", "\"id\" must be a number or text");
	if (!command)
		return refuse(id, "bad-request",
			      "\"command\" must be there and be text");
	if (!strcmp(command, "status"))
		return finish(id, "result", hooks->status(hooks->data), TRUE);
	if (!strcmp(command, "quit")) {
		*quit = TRUE;
		return finish(id, "result", json_object_new(), TRUE);
	}
	return refuse(id, "unknown-command", "the commands are status and quit");
}

/* The parser recurses at each bracket. */
static gboolean is_nested(const char *line, gsize len)
{
	guint opened = 0;

	for (gsize i = 0; i < len; i++)
		opened += line[i] == '{' || line[i] == '[';
	return opened > 8;
}

char *ncmp_control_answer(const struct ncmp_control_hooks *hooks, const char *line,
			  gsize len, gboolean *quit)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonNode *root;

	*quit = FALSE;
	if (!g_utf8_validate(line, (gssize)len, NULL))
		return refuse(NULL, "bad-request", "not UTF-8 text");
	if (is_nested(line, len) ||
	    !json_parser_load_from_data(parser, line, (gssize)len, NULL))
		return refuse(NULL, "bad-request", "not a JSON object");
	root = json_parser_get_root(parser);
	if (!root || !JSON_NODE_HOLDS_OBJECT(root))
		return refuse(NULL, "bad-request", "a request is an object");
	return answer_request(hooks, json_node_get_object(root), quit);
}

/* Clients. */

static void drop_client(struct client *client)
{
	client->control->clients = g_list_remove(client->control->clients, client);
	g_source_destroy(client->source);
	g_source_unref(client->source);
	close(client->fd);
	g_free(client);
}

/* FALSE: the client is no more, or everything is about to end. */
static gboolean answer_line(struct client *client, gsize len)
{
	ncmp_control *control = client->control;
	gboolean quit;
	g_autofree char *answer =
		ncmp_control_answer(&control->hooks, client->line, len, &quit);
	g_autofree char *line = g_strconcat(answer, "\n", NULL);
	gssize want = (gssize)strlen(line);

	if (send(client->fd, line, (gsize)want, MSG_DONTWAIT | MSG_NOSIGNAL) != want) {
		drop_client(client);
		return FALSE;
	}
	if (quit)
		control->hooks.quit(control->hooks.data);
	return !quit;
}

static gboolean serve(int fd, GIOCondition condition, gpointer data)
{
	struct client *client = data;
	gssize got = recv(fd, client->line + client->used,
			  LINE_MAX_BYTES - client->used, MSG_DONTWAIT);
	char *end;

	if (got <= 0) {
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return G_SOURCE_CONTINUE;
		drop_client(client);
		return G_SOURCE_REMOVE;
	}
	client->used += (guint)got;
	while ((end = memchr(client->line, '\n', client->used))) {
		gsize len = (gsize)(end - client->line);

		if (len && !answer_line(client, len))
			return G_SOURCE_REMOVE;
		client->used -= (guint)len + 1;
		memmove(client->line, end + 1, client->used);
	}
	if (client->used < LINE_MAX_BYTES)
		return G_SOURCE_CONTINUE;
	drop_client(client);
	return G_SOURCE_REMOVE;
}

static gboolean accept_client(int fd, GIOCondition condition, gpointer data)
{
	ncmp_control *control = data;
	base_autofd int accepted =
		accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	if (accepted < 0 || g_list_length(control->clients) >= CLIENTS_MAX)
		return G_SOURCE_CONTINUE;
	client = g_new0(struct client, 1);
	client->control = control;
	client->fd = base_fd_steal(&accepted);
	client->source = g_unix_fd_source_new(client->fd, G_IO_IN);
	g_source_set_callback(client->source, G_SOURCE_FUNC(serve), client, NULL);
	g_source_attach(client->source, control->context);
	control->clients = g_list_prepend(control->clients, client);
	return G_SOURCE_CONTINUE;
}

/* Removes a socket that nobody listens on. */
static gboolean clear_path(const struct sockaddr_un *address, GError **error)
{
	base_autofd int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ||
		       ncmp_error_errno(error, errno, "stat %s", path);
	if (!S_ISSOCK(st.st_mode))
		return ncmp_error_set(error, NCMP_ERROR_HOST,
				      "%s exists and is not a socket", path);
	if (fd < 0 ||
	    connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return ncmp_error_set(error, NCMP_ERROR_HOST, "%s is in use", path);
	return unlink(path) == 0 || errno == ENOENT ||
	       ncmp_error_errno(error, errno, "remove %s", path);
}

static int listen_on(const char *path, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	base_autofd int fd = -1;

	if (!*path || g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >=
			      sizeof(address.sun_path)) {
		ncmp_error_set(error, NCMP_ERROR_CONFIG,
			       "socket path \"%s\" must have 1 to %zu bytes", path,
			       sizeof(address.sun_path) - 1);
		return -1;
	}
	if (!clear_path(&address, error))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The file gets the mode that the socket has when it is bound. */
	if (fd < 0 || fchmod(fd, 0600) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 8) < 0) {
		ncmp_error_errno(error, errno, "listen on %s", path);
		return -1;
	}
	return base_fd_steal(&fd);
}

ncmp_control *ncmp_control_new(const char *path, const struct ncmp_control_hooks *hooks,
			       GError **error)
{
	base_autofd int fd = listen_on(path, error);
	ncmp_control *control;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (lstat(path, &st) < 0) {
		ncmp_error_errno(error, errno, "stat %s", path);
		return NULL;
	}
	control = g_new0(ncmp_control, 1);
	control->hooks = *hooks;
	control->path = g_canonicalize_filename(path, NULL);
	control->dev = st.st_dev;
	control->ino = st.st_ino;
	control->fd = base_fd_steal(&fd);
	control->context = g_main_context_ref_thread_default();
	control->accepting = g_unix_fd_source_new(control->fd, G_IO_IN);
	g_source_set_callback(control->accepting, G_SOURCE_FUNC(accept_client), control,
			      NULL);
	g_source_attach(control->accepting, control->context);
	return control;
}

void ncmp_control_free(ncmp_control *control)
{
	struct stat st;

	if (!control)
		return;
	while (control->clients)
		drop_client(control->clients->data);
	g_source_destroy(control->accepting);
	g_source_unref(control->accepting);
	if (lstat(control->path, &st) == 0 && st.st_dev == control->dev &&
	    st.st_ino == control->ino)
		unlink(control->path);
	close(control->fd);
	g_main_context_unref(control->context);
	g_free(control->path);
	g_free(control);
}
