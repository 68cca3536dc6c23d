/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of a control socket (base/control.h): colod's of colo-vm and
 * colo-netcompare, and the command's of colod. It connects by itself, again and again,
 * since the server may not be there yet or come back.
 *
 * Main context (the thread default when it is made); nothing here waits or blocks. What
 * a server may send has bounds: one that sends what is no answer and no event, a line
 * of more than COLO_CLIENT_LINE_MAX, or does not take what it is sent, is hung up on.
 */
#ifndef COLO_CLIENT_H
#define COLO_CLIENT_H

#include <json-glib/json-glib.h>

#define COLO_CLIENT_LINE_MAX \
	(1u << 20) /* bytes of an answer or event, newline included */
#define COLO_CLIENT_UNSENT_MAX \
	(256u << 10) /* bytes kept for a server that does not read */
#define COLO_CLIENT_WAITING_MAX 256u /* requests that are not answered yet */
#define COLO_CLIENT_RETRY_MS 50u

typedef struct colo_client colo_client;

/* What comes of a request. `result` is the server's, or NULL for an error; then `code`
 * is the server's ("busy", "wrong-state", ...) or one of the client's own: "closed"
 * (not connected, or not any more: it may have been carried out), "timeout" (so may
 * it), "too-many". `message` is one line for people. All of them are valid during the
 * call. */
typedef void (*colo_client_answered)(void *data, JsonObject *result, const char *code,
				     const char *message);

/* They are called from the main loop, never from within a call of the client. They may
 * call it, colo_client_free() too. Each may be NULL. */
struct colo_client_hooks {
	void *data;
	void (*connected)(void *data);
	/* Was connected. Every request under way has been answered "closed" before. It
	 * is tried again, unless the client was told to stop. */
	void (*closed)(void *data, const char *why);
	/* Something with an "event" member, whole. */
	void (*event)(void *data, const char *name, JsonObject *event);
};

/* Tries at once from the main loop, then each COLO_CLIENT_RETRY_MS. */
colo_client *colo_client_new(const char *path, const struct colo_client_hooks *hooks);
/* Hangs up; requests under way are forgotten unheard. May be called from any callback.
 */
void colo_client_free(colo_client *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_client, colo_client_free)

/* Tries no more; a connection that there is stays until it ends. */
void colo_client_stop(colo_client *client);
/* Hangs up where there is a connection (its `closed` comes from the main loop) and
 * tries anew. */
void colo_client_hang_up(colo_client *client, const char *why);
gboolean colo_client_is_connected(const colo_client *client);
/* Why the last try did not connect; NULL: it did, or there was none. The client's. */
const char *colo_client_trouble(const colo_client *client);

/* Sends a command; `arguments` may be NULL. `answered` (or NULL) is called once, from
 * the main loop, within `deadline_ms` (0: whenever the answer comes). */
void colo_client_send(colo_client *client, const char *command,
		      JsonObject *arguments_take, guint deadline_ms,
		      colo_client_answered answered, void *data);

/* The same without a socket, for its fuzz target. Bytes of a server's; FALSE with `why`
 * (freed by the caller) where it is to be hung up on. */
gboolean colo_client_input(colo_client *client, const void *bytes, gsize length,
			   char **why);

#endif
