/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of a control socket.
 *
 * Callbacks may call anything, colo_client_free() too: while one runs (`busy`), a
 * client that is freed only forgets everything, and its memory goes when the last
 * callback has returned.
 */
#include "colo/client.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/protocol.h"
#include "base/unixsock.h"

#define READ_BYTES 16384u
/* One turn of the main loop takes no more, so that a server that never stops talking
 * delays nobody. */
#define READS_MAX 8u

struct colo_client {
	char *path;
	struct colo_client_hooks hooks;
	GMainContext *context;
	int fd; /* -1: not connected */
	GSource *source; /* of the connection, or of the next try */
	GByteArray *line, *unsent;
	GQueue requests; /* struct request, in the order of their ids */
	guint64 next_id;
	char *trouble;
	char *ending; /* why the connection is about to be closed; NULL: it is not */
	guint busy; /* callbacks under way */
	gboolean stopped, dead;
};

struct request {
	colo_client *client;
	guint64 id;
	colo_client_answered answered;
	void *data;
	GSource *source; /* its deadline, or what answers it at once; NULL: none */
	const char *code, *message; /* what that says; static */
};

static void watch(colo_client *client);
static void retry(colo_client *client, guint after_ms);

static void clear_source(GSource **source)
{
	if (*source)
		g_source_destroy(*source);
	g_clear_pointer(source, g_source_unref);
}

static void dispose(colo_client *client)
{
	g_assert(client->dead && !client->busy);
	g_main_context_unref(client->context);
	g_byte_array_unref(client->line);
	g_byte_array_unref(client->unsent);
	g_free(client->path);
	g_free(client->trouble);
	g_free(client->ending);
	g_free(client);
}

/* Around every callback. */
static void enter(colo_client *client)
{
	client->busy++;
}

/* FALSE: the client is no more. */
static gboolean leave(colo_client *client)
{
	gboolean lives = !client->dead;

	if (!--client->busy && client->dead)
		dispose(client);
	return lives;
}

/* Requests. */

static void free_request(struct request *request)
{
	g_queue_remove(&request->client->requests, request);
	clear_source(&request->source);
	g_free(request);
}

/* Ends the request; the client may be no more afterwards. */
static void answer(struct request *request, JsonObject *result, const char *code,
		       const char *message)
{
	colo_client *client = request->client;
	colo_client_answered answered = request->answered;
	void *data = request->data;

	free_request(request);
	enter(client);
	if (answered)
		answered(data, result, code, message);
	leave(client);
}

static gboolean answer_by_clock(gpointer data)
{
	struct request *request = data;

	answer(request, NULL, request->code, request->message);
	return G_SOURCE_REMOVE;
}

static void answer_later(struct request *request, guint after_ms, const char *code,
			 const char *message)
{
	clear_source(&request->source);
	request->code = code;
	request->message = message;
	request->source =
		after_ms ? g_timeout_source_new(after_ms) : g_idle_source_new();
	g_source_set_priority(request->source, G_PRIORITY_DEFAULT);
	g_source_set_callback(request->source, answer_by_clock, request, NULL);
	g_source_attach(request->source, request->client->context);
}

/* What the server says. */

static gboolean take_answer(colo_client *client, JsonObject *object, guint64 id,
			    char **why)
{
	JsonNode *ok = json_object_get_member(object, "ok");
	JsonNode *result = json_object_get_member(object, "result");
	JsonNode *error = json_object_get_member(object, "error");
	const char *code = NULL, *message = NULL;
	struct request *request = NULL;

	for (GList *at = client->requests.head; at && !request; at = at->next)
		if (((struct request *)at->data)->id == id)
			request = at->data;
	if (!request) {
		/* Its deadline has passed, or it was never asked. */
		if (id < client->next_id)
			return TRUE;
		*why = g_strdup_printf(
			"answer to request %" G_GUINT64_FORMAT " that nobody made", id);
		return FALSE;
	}
	if (error && JSON_NODE_HOLDS_OBJECT(error)) {
		code = base_json_text(json_node_get_object(error), "code");
		message = base_json_text(json_node_get_object(error), "message");
	}
	if (!ok || !JSON_NODE_HOLDS_VALUE(ok) ||
	    json_node_get_value_type(ok) != G_TYPE_BOOLEAN ||
	    (json_node_get_boolean(ok) ? !result || !JSON_NODE_HOLDS_OBJECT(result)
				       : !code || !message)) {
		*why = g_strdup("an answer that is none: no \"ok\" with \"result\", or "
				"\"error\" with \"code\" and \"message\"");
		return FALSE;
	}
	if (json_node_get_boolean(ok))
		answer(request, json_node_get_object(result), NULL, NULL);
	else
		answer(request, NULL, code, message);
	return TRUE;
}

static gboolean take_line(colo_client *client, const char *line, gsize length,
			  char **why)
{
	g_autoptr(JsonObject) object = base_json_parse(line, length, why);
	const char *event;
	guint64 id;

	if (!object)
		return FALSE;
	event = base_json_text(object, "event");
	if (event) {
		if (client->hooks.event)
			client->hooks.event(client->hooks.data, event, object);
		return TRUE;
	}
	if (base_json_count(object, "id", &id))
		return take_answer(client, object, id, why);
	/* The server refuses the connection as a whole: its words, where it has some.
	 */
	if (json_object_has_member(object, "error")) {
		JsonNode *error = json_object_get_member(object, "error");
		const char *message =
			JSON_NODE_HOLDS_OBJECT(error)
				? base_json_text(json_node_get_object(error), "message")
				: NULL;

		*why = g_strdup(message ? message : "an error without words");
		return FALSE;
	}
	*why = g_strdup("neither an answer nor an event");
	return FALSE;
}

/* The client may be dead or ending after each line: then the rest is not looked at. */
static gboolean take_bytes(colo_client *client, const guint8 *at, gsize length,
			   char **why)
{
	while (length && !client->dead && !client->ending) {
		const guint8 *newline = memchr(at, '\n', length);
		gsize part = newline ? (gsize)(newline - at) + 1 : length;
		gboolean good;

		if (part > COLO_CLIENT_LINE_MAX - client->line->len) {
			*why = g_strdup_printf("a line is longer than %u bytes",
					       COLO_CLIENT_LINE_MAX);
			return FALSE;
		}
		g_byte_array_append(client->line, at, (guint)part);
		at += part;
		length -= part;
		if (!newline)
			break;
		good = take_line(client, (const char *)client->line->data,
				 client->line->len, why);
		g_byte_array_set_size(client->line, 0);
		if (!good)
			return FALSE;
	}
	return TRUE;
}

gboolean colo_client_input(colo_client *client, const void *bytes, gsize length,
			   char **why)
{
	gboolean good;

	enter(client);
	good = take_bytes(client, bytes, length, why);
	return leave(client) ? good : TRUE;
}

/* The connection. */

/* It is over. The client may be no more afterwards. */
static void drop(colo_client *client, const char *why)
{
	g_autofree char *reason = g_strdup(why);

	base_fd_clear(&client->fd);
	clear_source(&client->source);
	g_byte_array_set_size(client->line, 0);
	g_byte_array_set_size(client->unsent, 0);
	g_clear_pointer(&client->ending, g_free);
	g_free(client->trouble);
	client->trouble = g_strdup(reason);
	enter(client);
	/* Those that were made before; callbacks may make more, which answer for
	 * themselves. */
	for (guint64 last = client->next_id; !client->dead;) {
		struct request *request = g_queue_peek_head(&client->requests);

		if (!request || request->id >= last)
			break;
		answer(request, NULL, "closed", reason);
	}
	if (!client->dead && client->hooks.closed)
		client->hooks.closed(client->hooks.data, reason);
	if (!client->dead && !client->stopped && client->fd < 0 && !client->source)
		retry(client, COLO_CLIENT_RETRY_MS);
	leave(client);
}

static gboolean end_connection(gpointer data)
{
	colo_client *client = data;
	g_autofree char *why = g_strdup(client->ending);

	drop(client, why);
	return G_SOURCE_REMOVE;
}

/* From the main loop, soon. */
static void end_soon(colo_client *client, const char *why)
{
	if (client->fd < 0 || client->ending)
		return;
	client->ending = g_strdup(why);
	watch(client);
}

static gboolean write_unsent(colo_client *client)
{
	while (client->unsent->len) {
		gssize done = send(client->fd, client->unsent->data,
				   client->unsent->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (done > 0)
			g_byte_array_remove_range(client->unsent, 0, (guint)done);
		else if (errno == EAGAIN)
			return TRUE;
		else if (errno != EINTR)
			return FALSE;
	}
	return TRUE;
}

/* Takes what there is, up to a bound. FALSE with `why`: it is over. */
static gboolean read_some(colo_client *client, char **why)
{
	guint8 bytes[READ_BYTES];

	for (guint i = 0; i < READS_MAX && !client->dead && !client->ending; i++) {
		gssize got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		int err = errno;

		if (got == 0 || (got < 0 && err == ECONNRESET)) {
			*why = g_strdup("the server closed the connection");
			return FALSE;
		}
		if (got < 0 && (err == EAGAIN || err == EINTR))
			return TRUE;
		if (got < 0) {
			*why = g_strdup_printf("receive: %s", g_strerror(err));
			return FALSE;
		}
		if (!take_bytes(client, bytes, (gsize)got, why)) {
			g_warning("control client: %s: hung up on: %s", client->path,
				  *why);
			return FALSE;
		}
	}
	return TRUE;
}

static gboolean serve(int fd, GIOCondition condition, gpointer data)
{
	colo_client *client = data;
	g_autofree char *why = NULL;
	gboolean here = TRUE;

	enter(client);
	/* What a server said before it went counts. */
	if (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR))
		here = read_some(client, &why);
	if (!client->dead && here && !client->ending && !write_unsent(client)) {
		here = FALSE;
		why = g_strdup_printf("send: %s", g_strerror(errno));
	}
	if (client->dead)
		; /* forgotten */
	else if (!here)
		drop(client, why);
	else
		watch(client);
	leave(client);
	return G_SOURCE_REMOVE;
}

static void watch(colo_client *client)
{
	clear_source(&client->source);
	if (client->ending) {
		client->source = g_idle_source_new();
		g_source_set_priority(client->source, G_PRIORITY_DEFAULT);
		g_source_set_callback(client->source, end_connection, client, NULL);
	} else {
		client->source = g_unix_fd_source_new(
			client->fd, G_IO_IN | (client->unsent->len ? G_IO_OUT : 0));
		g_source_set_callback(client->source, G_SOURCE_FUNC(serve), client,
				      NULL);
	}
	g_source_attach(client->source, client->context);
}

static gboolean try_connect(gpointer data)
{
	colo_client *client = data;
	g_autoptr(GError) error = NULL;

	clear_source(&client->source);
	g_clear_pointer(&client->trouble, g_free);
	client->fd = base_unix_connect(client->path, &error);
	if (client->fd < 0) {
		client->trouble = g_strdup(error->message);
		retry(client, COLO_CLIENT_RETRY_MS);
		return G_SOURCE_REMOVE;
	}
	watch(client);
	enter(client);
	if (client->hooks.connected)
		client->hooks.connected(client->hooks.data);
	leave(client);
	return G_SOURCE_REMOVE;
}

static void retry(colo_client *client, guint after_ms)
{
	clear_source(&client->source);
	client->source =
		after_ms ? g_timeout_source_new(after_ms) : g_idle_source_new();
	g_source_set_priority(client->source, G_PRIORITY_DEFAULT);
	g_source_set_callback(client->source, try_connect, client, NULL);
	g_source_attach(client->source, client->context);
}

/* Public. */

colo_client *colo_client_new(const char *path, const struct colo_client_hooks *hooks)
{
	colo_client *client = g_new0(colo_client, 1);

	client->path = g_strdup(path);
	client->hooks = *hooks;
	client->context = g_main_context_ref_thread_default();
	client->fd = -1;
	client->line = g_byte_array_new();
	client->unsent = g_byte_array_new();
	g_queue_init(&client->requests);
	client->next_id = 1;
	retry(client, 0);
	return client;
}

void colo_client_free(colo_client *client)
{
	struct request *request;

	if (!client || client->dead)
		return;
	client->dead = TRUE;
	while ((request = g_queue_peek_head(&client->requests)))
		free_request(request);
	clear_source(&client->source);
	base_fd_clear(&client->fd);
	if (!client->busy)
		dispose(client);
}

void colo_client_stop(colo_client *client)
{
	client->stopped = TRUE;
	if (client->fd < 0)
		clear_source(&client->source);
}

void colo_client_hang_up(colo_client *client, const char *why)
{
	end_soon(client, why);
}

gboolean colo_client_is_connected(const colo_client *client)
{
	return client->fd >= 0 && !client->ending;
}

const char *colo_client_trouble(const colo_client *client)
{
	return client->trouble;
}

void colo_client_send(colo_client *client, const char *command, JsonObject *arguments,
		      guint deadline_ms, colo_client_answered answered, void *data)
{
	struct request *request = g_new0(struct request, 1);
	JsonObject *object = json_object_new();
	g_autofree char *line = NULL;
	gboolean connected = colo_client_is_connected(client);

	request->client = client;
	request->id = client->next_id++;
	request->answered = answered;
	request->data = data;
	json_object_set_int_member(object, "id", (gint64)request->id);
	json_object_set_string_member(object, "command", command);
	if (arguments)
		json_object_set_object_member(object, "arguments", arguments);
	line = base_json_line(object);
	g_queue_push_tail(&client->requests, request);
	if (!connected) {
		answer_later(request, 0, "closed", "not connected");
		return;
	}
	if (client->requests.length > COLO_CLIENT_WAITING_MAX) {
		answer_later(request, 0, "too-many",
			     "too many requests are not answered yet");
		return;
	}
	if (deadline_ms)
		answer_later(request, deadline_ms, "timeout",
			     "no answer within the time given");
	if (strlen(line) > COLO_CLIENT_UNSENT_MAX - client->unsent->len) {
		end_soon(client, "the server does not take what it is sent");
		return;
	}
	g_byte_array_append(client->unsent, (const guint8 *)line, (guint)strlen(line));
	if (write_unsent(client))
		watch(client);
	else
		end_soon(client, "the server is gone");
}
