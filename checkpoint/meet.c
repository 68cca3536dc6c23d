/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How two nodes' programs find each other.
 *
 * Every try has a thread of its own and what it needs: the socket or the address, and the
 * key. It outlives whoever began it; what it found is then freed where it would have been
 * handed over.
 */
#include "checkpoint/meet.h"

#include <glib-unix.h>
#include <string.h>

#include "base/fd.h"
#include "base/ratelimit.h"
#include "base/tcp.h"
#include "checkpoint/hello.h"
#include "checkpoint/inbox.h"

#define CONNECT_MS 5000
#define HANDSHAKE_MS 5000 /* and for the first message */
#define OVER_US 50000 /* how soon it is seen that nobody waits for a try any more */
/* Handshakes at once: whoever has no key must not keep out who has. */
#define HANDSHAKES_MAX 16

/* A key that several tries use. */
struct shared_key {
	gatomicrefcount refs;
	base_key *key;
};

static struct shared_key *read_key(const char *path, GError **error)
{
	base_key *key = base_key_read(path, error);
	struct shared_key *shared;

	if (!key)
		return NULL;
	shared = g_new0(struct shared_key, 1);
	g_atomic_ref_count_init(&shared->refs);
	shared->key = key;
	return shared;
}

static void unref_key(struct shared_key *shared)
{
	if (!shared || !g_atomic_ref_count_dec(&shared->refs))
		return;
	base_key_free(shared->key);
	g_free(shared);
}

/* One try. */
struct try {
	ckpt_inbox *inbox; /* for what it finds, or */
	GAsyncQueue *queue; /* this */
	struct shared_key *key;
	const struct base_message_rule *rules;
	char *address; /* to dial; NULL: `fd` was accepted */
	int fd;
};

/* What a try's note hands over. */
struct outcome {
	base_channel *channel; /* or NULL */
	gboolean joins;
	struct ckpt_join join;
	GError *error;
};

static void free_outcome(void *data)
{
	struct outcome *outcome = data;

	base_channel_free(outcome->channel);
	g_clear_error(&outcome->error);
	g_free(outcome);
}

static void drop_outcome(const struct ckpt_note *note)
{
	free_outcome(note->thing);
}

static void free_try(struct try *try)
{
	if (try->inbox)
		ckpt_inbox_unref(try->inbox);
	if (try->queue)
		g_async_queue_unref(try->queue);
	unref_key(try->key);
	g_free(try->address);
	g_free(try);
}

/* Who calls says first what for: a first connection, or one more. */
static void hear_first(struct outcome *outcome)
{
	struct base_message message;

	if (!base_channel_receive(outcome->channel, &message, HANDSHAKE_MS,
				  &outcome->error)) {
		if (g_error_matches(outcome->error, BASE_CHANNEL_ERROR,
				    BASE_CHANNEL_PROTOCOL))
			ckpt_hello_refuse(outcome->channel, outcome->error->message);
		g_clear_pointer(&outcome->channel, base_channel_free);
	} else if (message.type == CKPT_JOIN) {
		outcome->joins = TRUE;
		memcpy(&outcome->join, message.payload, sizeof(outcome->join));
	} else {
		base_channel_put_back(outcome->channel);
	}
}

static void *carry_out(void *data)
{
	struct try *try = data;
	struct outcome *outcome = g_new0(struct outcome, 1);
	const struct ckpt_note note = { .thing = outcome };

	if (try->address)
		try->fd = base_tcp_connect(try->address, CONNECT_MS, &outcome->error);
	if (try->fd >= 0)
		outcome->channel = base_channel_new_take(try->fd, !try->address,
							 try->key->key, try->rules,
							 HANDSHAKE_MS, &outcome->error);
	if (outcome->channel && !try->address)
		hear_first(outcome);
	if (try->inbox)
		ckpt_inbox_post(try->inbox, &note);
	else
		g_async_queue_push(try->queue, outcome);
	free_try(try);
	return NULL;
}

/* FALSE where the system has no thread for it; the socket is closed then. */
static gboolean begin_take(struct try *try, GError **error)
{
	GThread *thread = g_thread_try_new("meet", carry_out, try, error);

	if (thread) {
		g_thread_unref(thread);
		return TRUE;
	}
	base_fd_clear(&try->fd);
	free_try(try);
	return FALSE;
}

static struct try *new_try(struct shared_key *key, const struct base_message_rule *rules,
			   const char *address, int fd)
{
	struct try *try = g_new0(struct try, 1);

	g_atomic_ref_count_inc(&key->refs);
	try->key = key;
	try->rules = rules;
	try->address = g_strdup(address);
	try->fd = fd;
	return try;
}

/* As begin_take(). */
static gboolean begin_noting(ckpt_inbox *inbox, struct shared_key *key,
			     const struct base_message_rule *rules, const char *address,
			     int fd, GError **error)
{
	struct try *try = new_try(key, rules, address, fd);

	try->inbox = ckpt_inbox_ref(inbox);
	return begin_take(try, error);
}

/* Hands the channel on; the rest of the note goes as if nobody had read it. */
static void tell(struct ckpt_note *note, ckpt_meet_fn fn, void *data)
{
	struct outcome *outcome = note->thing;
	base_channel *channel = g_steal_pointer(&outcome->channel);

	fn(data, channel, outcome->joins ? &outcome->join : NULL, outcome->error);
}

/* Listening. */

struct ckpt_listener {
	int fd;
	guint source;
	struct shared_key *key;
	const struct base_message_rule *rules;
	ckpt_inbox *inbox;
	ckpt_meet_fn fn;
	void *data;
	guint under_way;
	struct base_ratelimit complaints;
};

static void complain(ckpt_listener *listener, const char *what)
{
	guint left_out;

	if (base_ratelimit_pass(&listener->complaints, &left_out))
		g_warning("replication: %s%s", what, left_out ? " (and others)" : "");
}

static void read_outcome(void *data, struct ckpt_note *note)
{
	ckpt_listener *listener = data;
	struct outcome *outcome = note->thing;

	listener->under_way--;
	if (outcome->channel)
		tell(note, listener->fn, listener->data);
	else
		complain(listener, outcome->error->message);
}

static gboolean accept_one(int fd, GIOCondition condition, gpointer data)
{
	ckpt_listener *listener = data;
	g_autoptr(GError) error = NULL;
	int peer = base_tcp_accept(fd, &error);

	if (peer < 0) {
		if (error)
			complain(listener, error->message);
	} else if (listener->under_way == HANDSHAKES_MAX) {
		complain(listener, "too many connections at once: one is closed");
		base_fd_clear(&peer);
	} else if (begin_noting(listener->inbox, listener->key, listener->rules, NULL, peer,
				&error)) {
		listener->under_way++;
	} else {
		complain(listener, error->message);
	}
	return G_SOURCE_CONTINUE;
}

ckpt_listener *ckpt_listener_new(const char *address, const char *key,
				 const struct base_message_rule *rules, ckpt_meet_fn fn,
				 void *data, GError **error)
{
	g_autoptr(ckpt_listener) listener = g_new0(ckpt_listener, 1);

	listener->fd = -1;
	listener->fn = fn;
	listener->data = data;
	listener->rules = rules;
	listener->key = read_key(key, error);
	if (!listener->key)
		return NULL;
	listener->fd = base_tcp_listen(address, error);
	if (listener->fd < 0)
		return NULL;
	listener->inbox = ckpt_inbox_new(read_outcome, drop_outcome, listener);
	listener->source = g_unix_fd_add(listener->fd, G_IO_IN, accept_one, listener);
	return g_steal_pointer(&listener);
}

void ckpt_listener_free(ckpt_listener *listener)
{
	if (!listener)
		return;
	if (listener->source)
		g_source_remove(listener->source);
	base_fd_clear(&listener->fd);
	unref_key(listener->key);
	if (listener->inbox)
		ckpt_inbox_close(listener->inbox);
	ckpt_inbox_unref(listener->inbox);
	g_free(listener);
}

guint16 ckpt_listener_port(const ckpt_listener *listener)
{
	return base_tcp_port(listener->fd);
}

/* Dialling. */

struct ckpt_dial {
	ckpt_inbox *inbox;
	ckpt_meet_fn fn;
	void *data;
};

static void read_answer(void *data, struct ckpt_note *note)
{
	ckpt_dial *dial = data;

	tell(note, dial->fn, dial->data);
}

ckpt_dial *ckpt_dial_new(const char *address, const char *key,
			 const struct base_message_rule *rules, ckpt_meet_fn fn, void *data,
			 GError **error)
{
	struct shared_key *shared = read_key(key, error);
	ckpt_dial *dial;
	gboolean begun;

	if (!shared)
		return NULL;
	dial = g_new0(ckpt_dial, 1);
	dial->fn = fn;
	dial->data = data;
	dial->inbox = ckpt_inbox_new(read_answer, drop_outcome, dial);
	begun = begin_noting(dial->inbox, shared, rules, address, -1, error);
	unref_key(shared);
	if (begun)
		return dial;
	ckpt_dial_free(dial);
	return NULL;
}

void ckpt_dial_free(ckpt_dial *dial)
{
	if (!dial)
		return;
	ckpt_inbox_close(dial->inbox);
	ckpt_inbox_unref(dial->inbox);
	g_free(dial);
}

static struct outcome *wait_for_outcome(GAsyncQueue *queue, const gint *over)
{
	struct outcome *outcome;

	do
		outcome = g_async_queue_timeout_pop(queue, OVER_US);
	while (!outcome && !g_atomic_int_get(over));
	return outcome;
}

base_channel *ckpt_dial_now(const char *address, const char *key, const gint *over,
			    GError **error)
{
	struct shared_key *shared = read_key(key, error);
	struct outcome *outcome = NULL;
	base_channel *channel = NULL;
	GAsyncQueue *queue;
	struct try *try;

	if (!shared)
		return NULL;
	queue = g_async_queue_new_full(free_outcome);
	try = new_try(shared, ckpt_rules, address, -1);
	unref_key(shared);
	try->queue = g_async_queue_ref(queue);
	if (begin_take(try, error)) {
		outcome = wait_for_outcome(queue, over);
		if (!outcome)
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_MODE, "given up here");
	}
	/* What comes later goes with the queue. */
	g_async_queue_unref(queue);
	if (!outcome)
		return NULL;
	channel = g_steal_pointer(&outcome->channel);
	if (!channel)
		g_propagate_error(error, g_steal_pointer(&outcome->error));
	free_outcome(outcome);
	return channel;
}
