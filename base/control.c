/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket.
 *
 * A connection is read only while what it was sent before is nearly all taken, so that
 * a client that asks without listening stops itself. Events come without being asked
 * for: a subscriber that lets too many of them pile up is dropped.
 */
#include "base/control.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unixsock.h"

#define READ_BYTES 4096u
/* With more than this unread, no more requests are taken from the client. */
#define UNREAD_CALM (32u << 10)

struct base_control {
	base_protocol *protocol;
	base_listener *listener;
	GMainContext *context;
	GSource *accepting;
	GList *connections; /* struct connection */
};

struct connection {
	base_control *control;
	int fd;
	base_client *client;
	GByteArray *unread; /* what the socket did not take yet */
	GSource *source;
	gboolean spoke; /* it ever sent anything */
	gboolean sent_all; /* the client will send no more, but may want answers yet */
	gboolean ending; /* is told what is in `unread`, and closed */
	gboolean dropped; /* is closed from the main loop, the next thing */
};

static gboolean serve(int fd, GIOCondition condition, gpointer data);
static gboolean close_dropped(gpointer data);

/* Nothing more will ever be written to it. */
static gboolean is_done(const struct connection *c)
{
	return !c->unread->len &&
	       (c->ending || (c->sent_all && !base_client_expects(c->client)));
}

/* Waits for what there is to do next on this connection. */
static void watch(struct connection *c)
{
	GIOCondition condition = 0;

	if (c->source) {
		g_source_destroy(c->source);
		g_source_unref(c->source);
	}
	if (c->dropped || is_done(c)) {
		c->source = g_idle_source_new();
		g_source_set_priority(c->source, G_PRIORITY_DEFAULT);
		g_source_set_callback(c->source, close_dropped, c, NULL);
	} else {
		if (c->unread->len)
			condition |= G_IO_OUT;
		if (!c->ending && !c->sent_all && c->unread->len <= UNREAD_CALM)
			condition |= G_IO_IN;
		c->source = g_unix_fd_source_new(c->fd, condition);
		g_source_set_callback(c->source, G_SOURCE_FUNC(serve), c, NULL);
	}
	g_source_attach(c->source, c->control->context);
}

static void close_connection(struct connection *c)
{
	c->control->connections = g_list_remove(c->control->connections, c);
	base_client_free(c->client);
	g_source_destroy(c->source);
	g_source_unref(c->source);
	g_byte_array_unref(c->unread);
	close(c->fd);
	g_free(c);
}

static gboolean close_dropped(gpointer data)
{
	close_connection(data);
	return G_SOURCE_REMOVE;
}

/* Gives the socket what it takes; FALSE where the client is gone. */
static gboolean write_unread(struct connection *c)
{
	while (c->unread->len) {
		gssize done =
			send(c->fd, c->unread->data, c->unread->len, MSG_NOSIGNAL);

		if (done > 0)
			g_byte_array_remove_range(c->unread, 0, (guint)done);
		else if (errno == EAGAIN)
			return TRUE;
		else if (errno != EINTR)
			return FALSE;
	}
	return TRUE;
}

static void send_line(void *data, const char *line, gsize len)
{
	struct connection *c = data;

	if (c->dropped || c->ending)
		return;
	if (len > BASE_CONTROL_UNREAD_MAX - c->unread->len) {
		g_warning("control: client does not read, dropped");
		c->dropped = TRUE;
	} else {
		g_byte_array_append(c->unread, (const guint8 *)line, (guint)len);
		c->dropped = !write_unread(c);
	}
	watch(c);
}

/* Takes what the client sent, once; FALSE where it is gone. One that only shut down its
 * sending side, as a shell pipeline does, still gets its answers. */
static gboolean read_requests(struct connection *c)
{
	guint8 bytes[READ_BYTES];
	gssize got = recv(c->fd, bytes, sizeof(bytes), 0);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	c->spoke |= got > 0;
	if (got == 0)
		c->sent_all = TRUE;
	else if (!base_client_input(c->client, bytes, (gsize)got))
		c->ending = TRUE;
	return TRUE;
}

static gboolean serve(int fd, GIOCondition condition, gpointer data)
{
	struct connection *c = data;
	gboolean here;

	/* Whoever asked and left at once is still obeyed. */
	if (condition & G_IO_IN)
		here = read_requests(c);
	else
		here = !(condition & (G_IO_HUP | G_IO_ERR)) && write_unread(c);
	if (here)
		watch(c);
	else
		close_connection(c);
	return G_SOURCE_REMOVE;
}

/* Whoever connects and says nothing must not keep out who has a question: the oldest of them
 * makes room. */
static void make_room(base_control *control)
{
	for (GList *at = g_list_last(control->connections); at; at = at->prev) {
		struct connection *c = at->data;

		if (c->spoke)
			continue;
		close_connection(c);
		return;
	}
}

static gboolean accept_connection(int fd, GIOCondition condition, gpointer data)
{
	static const char full[] =
		"{\"id\":null,\"ok\":false,\"error\":{\"code\":\"busy\","
		"\"message\":\"too many clients\"}}\n";
	base_control *control = data;
	int accepted = base_listener_accept(control->listener);
	struct connection *c;

	if (accepted < 0) {
		/* Out of descriptors: the queue stays readable; do not spin. */
		if (errno == EMFILE || errno == ENFILE)
			g_usleep(1000);
		return G_SOURCE_CONTINUE;
	}
	if (g_list_length(control->connections) == BASE_CONTROL_CLIENTS_MAX)
		make_room(control);
	if (g_list_length(control->connections) == BASE_CONTROL_CLIENTS_MAX) {
		g_warning("control: client refused clients=%u",
			  BASE_CONTROL_CLIENTS_MAX);
		if (send(accepted, full, strlen(full), MSG_NOSIGNAL) < 0)
			g_debug("control: refused client has gone");
		close(accepted);
		return G_SOURCE_CONTINUE;
	}
	c = g_new0(struct connection, 1);
	c->control = control;
	c->fd = accepted;
	c->unread = g_byte_array_new();
	c->client = base_client_new(control->protocol, send_line, c);
	control->connections = g_list_prepend(control->connections, c);
	watch(c);
	return G_SOURCE_CONTINUE;
}

base_control *base_control_new(const char *path, const struct base_commands *commands,
			       GError **error)
{
	base_listener *listener = base_listener_new(path, error);
	base_control *control;

	if (!listener) {
		g_prefix_error(error, "control socket: ");
		return NULL;
	}
	control = g_new0(base_control, 1);
	control->listener = listener;
	control->protocol = base_protocol_new(commands);
	control->context = g_main_context_ref_thread_default();
	control->accepting = g_unix_fd_source_new(base_listener_fd(listener), G_IO_IN);
	g_source_set_callback(control->accepting, G_SOURCE_FUNC(accept_connection),
			      control, NULL);
	g_source_attach(control->accepting, control->context);
	return control;
}

void base_control_free(base_control *control)
{
	if (!control)
		return;
	while (control->connections)
		close_connection(control->connections->data);
	g_source_destroy(control->accepting);
	g_source_unref(control->accepting);
	base_listener_free(control->listener);
	base_protocol_free(control->protocol);
	g_main_context_unref(control->context);
	g_free(control);
}

void base_control_event(base_control *control, const char *name, JsonObject *fields)
{
	base_protocol_event(control->protocol, name, fields);
}
