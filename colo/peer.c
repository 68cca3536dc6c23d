/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection between two colods.
 *
 * A connection is a ckpt_link, whose two threads post what arrives to the main context. Each
 * has a number, so that what an old one still posts is not taken for the new one's. Whoever
 * connects anew takes the place of what there was: both ends have the key, and a node that
 * was started anew must not wait until its former self is found dead.
 */
#include "colo/peer.h"

#include <string.h>

#include "checkpoint/inbox.h"
#include "checkpoint/link.h"
#include "checkpoint/meet.h"
#include "colo/error.h"

#define SILENCE_MS 1000u
#define DIAL_AGAIN_MS 250u
#define ASKS_MAX 32u /* that the peer has not answered */
#define NOTES_MAX 256 /* of what it says, not yet read */

static const struct base_message_rule rules[] = {
	{ CKPT_PING, "ping", 0, 0 },
	{ CKPT_BYE, "bye", 0, CKPT_TEXT_MAX },
	{ WIRE_PEER_HELLO, "hello", sizeof(struct wire_peer_hello),
	  sizeof(struct wire_peer_hello) + WIRE_PEER_FILE_MAX },
	{ WIRE_PEER_STATE, "state", sizeof(struct wire_peer_state),
	  sizeof(struct wire_peer_state) },
	{ WIRE_PEER_ASK, "ask", sizeof(struct wire_peer_ask), sizeof(struct wire_peer_ask) },
	{ WIRE_PEER_ANSWER, "answer", sizeof(struct wire_peer_answer),
	  sizeof(struct wire_peer_answer) + WIRE_PEER_TEXT_MAX },
	{ 0 },
};

enum note {
	NOTE_LOST,
	NOTE_MESSAGE, /* `number`: its type; `thing`: a GBytes */
};

/* A question under way. */
struct ask {
	guint64 id;
	enum colo_ask ask;
};

/* What the threads of one connection know. */
struct wire {
	ckpt_inbox *inbox;
	guint round;
	gint notes; /* atomic: on their way to the main context */
	ckpt_link *link;
};

struct colo_peer {
	const colo_pair *pair;
	guint self;
	const struct colo_peer_hooks *hooks;
	void *data;
	ckpt_inbox *inbox;
	ckpt_listener *listener;
	ckpt_dial *dial;
	guint dial_again;
	struct wire *wire; /* NULL: no connection */
	guint round;
	gboolean up; /* its hello has come */
	guint64 last_id;
	GQueue *asks;
	char *trouble; /* why there is none, as logged last */
};

static gboolean protocol_error(GError **error, const char *what)
{
	g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "%s", what);
	return FALSE;
}

/* Threads of a connection. */

static gboolean arrived(void *data, const struct base_message *message, GError **error)
{
	struct wire *wire = data;
	struct ckpt_note note = {
		.kind = NOTE_MESSAGE,
		.round = wire->round,
		.number = message->type,
		.thing = NULL,
	};

	if (g_atomic_int_add(&wire->notes, 1) >= NOTES_MAX)
		return protocol_error(error, "it says more than can be read");
	note.thing = g_bytes_new(message->payload, message->length);
	ckpt_inbox_post(wire->inbox, &note);
	return TRUE;
}

static void lost(void *data, const GError *error)
{
	struct wire *wire = data;
	const struct ckpt_note note = {
		.kind = NOTE_LOST,
		.round = wire->round,
		.text = error->message,
	};

	ckpt_inbox_post(wire->inbox, &note);
}

static const struct ckpt_link_ops link_ops = { .message = arrived, .lost = lost };

static void *end_wire(void *data)
{
	struct wire *wire = data;

	ckpt_link_free(wire->link);
	ckpt_inbox_unref(wire->inbox);
	g_free(wire);
	return NULL;
}

/* On a thread of its own, since the link's may take a while to end. */
static void drop_wire(colo_peer *peer)
{
	if (!peer->wire)
		return;
	g_thread_unref(g_thread_new("peer-end", end_wire, g_steal_pointer(&peer->wire)));
}

static void send(colo_peer *peer, guint16 type, const void *head, gsize length,
		 const char *text)
{
	const struct iovec iov[] = {
		{ (void *)head, length },
		{ (void *)text, text ? strlen(text) : 0 },
	};

	if (peer->wire)
		ckpt_link_post(peer->wire->link, type, 0, iov, text ? 2 : 1);
}

/* The connection's life. */

static void dial(colo_peer *peer);

static gboolean dial_again(gpointer data)
{
	colo_peer *peer = data;

	peer->dial_again = 0;
	dial(peer);
	return G_SOURCE_REMOVE;
}

static void note_trouble(colo_peer *peer, const char *why)
{
	if (why && g_strcmp0(peer->trouble, why))
		g_message("no connection to %s: %s", peer->pair->node[!peer->self].name, why);
	g_free(peer->trouble);
	peer->trouble = g_strdup(why);
}

static void hang_up(colo_peer *peer, const char *why)
{
	const gboolean was_up = peer->up;

	if (peer->wire)
		ckpt_link_refuse(peer->wire->link, why);
	drop_wire(peer);
	peer->up = FALSE;
	g_queue_clear_full(peer->asks, g_free);
	note_trouble(peer, why);
	if (!peer->self && !peer->dial_again)
		peer->dial_again = g_timeout_add(DIAL_AGAIN_MS, dial_again, peer);
	if (was_up)
		peer->hooks->down(peer->data, why);
}

static void say_hello(colo_peer *peer)
{
	struct wire_peer_hello hello = {
		.version = wire_put16(WIRE_PEER_VERSION),
		.node = wire_put16((guint16)peer->self),
	};

	memcpy(hello.pair, peer->pair->name,
	       MIN(sizeof(hello.pair), strlen(peer->pair->name)));
	send(peer, WIRE_PEER_HELLO, &hello, sizeof(hello), peer->pair->text);
}

static void met(void *data, base_channel *channel, const struct ckpt_join *join,
		const GError *error)
{
	colo_peer *peer = data;

	g_clear_pointer(&peer->dial, ckpt_dial_free);
	if (!channel) {
		hang_up(peer, error->message);
		return;
	}
	if (peer->wire)
		hang_up(peer, "it has connected anew");
	if (peer->dial_again)
		g_source_remove(peer->dial_again);
	peer->dial_again = 0;
	peer->wire = g_new0(struct wire, 1);
	peer->wire->inbox = ckpt_inbox_ref(peer->inbox);
	peer->wire->round = ++peer->round;
	peer->wire->link = ckpt_link_new_take(channel, &link_ops, peer->wire, SILENCE_MS);
	ckpt_link_start(peer->wire->link);
	say_hello(peer);
}

static void dial(colo_peer *peer)
{
	g_autoptr(GError) error = NULL;

	if (peer->dial || peer->wire)
		return;
	peer->dial = ckpt_dial_new(peer->pair->node[!peer->self].control, peer->pair->key,
				   rules, met, peer, &error);
	if (!peer->dial)
		hang_up(peer, error->message);
}

/* What comes. */

static gboolean read_hello(colo_peer *peer, const guint8 *payload, gsize length,
			   GError **error)
{
	struct wire_peer_hello hello;
	g_autoptr(colo_pair) theirs = NULL;
	g_autofree char *diff = NULL;
	g_autofree char *name = NULL;
	g_autoptr(GError) broken = NULL;

	if (peer->up)
		return protocol_error(error, "it says hello twice");
	memcpy(&hello, payload, sizeof(hello));
	name = g_strndup(hello.pair, sizeof(hello.pair));
	if (wire_get16(hello.version) != WIRE_PEER_VERSION)
		return protocol_error(error, "it speaks another version: run the same colo on "
					     "both nodes");
	if (strcmp(name, peer->pair->name))
		return protocol_error(error, "it is of another pair: the pair files' names or "
					     "addresses are mixed up");
	if (wire_get16(hello.node) != !peer->self)
		return protocol_error(error, "it takes itself for this node: each host needs "
					     "its own name in the pair file");
	theirs = colo_pair_parse((const char *)payload + sizeof(hello),
				 length - sizeof(hello), peer->pair->name, &broken);
	diff = theirs ? colo_pair_diff(peer->pair, theirs) :
			g_strdup_printf("its pair file: %s", broken->message);
	peer->up = TRUE;
	note_trouble(peer, NULL);
	g_message("connected to %s", peer->pair->node[!peer->self].name);
	peer->hooks->up(peer->data, diff);
	return TRUE;
}

gboolean colo_peer_read_state(const guint8 *payload, gsize length,
			      struct colo_peer_state *state, GError **error)
{
	struct wire_peer_state wire;

	if (length != sizeof(wire))
		return protocol_error(error, "a state of the wrong size");
	memcpy(&wire, payload, sizeof(wire));
	*state = (struct colo_peer_state){
		.generation = wire_get64(wire.generation),
		.epoch = wire_get64(wire.epoch),
		.state = wire_get16(wire.state),
		.part = wire_get16(wire.part),
		.flags = wire_get32(wire.flags),
	};
	if ((guint)state->state >= COLO__STATES || (guint)state->part > COLO_PART_PROMOTED ||
	    state->flags & ~(guint)COLO_PEER_FLAGS)
		return protocol_error(error, "a state that there is not");
	return TRUE;
}

static gboolean read_state(colo_peer *peer, const guint8 *payload, gsize length,
			   GError **error)
{
	struct colo_peer_state state;

	if (!colo_peer_read_state(payload, length, &state, error))
		return FALSE;
	peer->hooks->said(peer->data, &state);
	return TRUE;
}

static gboolean read_ask(colo_peer *peer, const guint8 *payload, GError **error)
{
	struct wire_peer_ask wire;
	guint ask;

	memcpy(&wire, payload, sizeof(wire));
	ask = wire_get16(wire.ask);
	if (ask < COLO_ASK_CONSENT || ask > COLO_ASK_STOP || !wire_get64(wire.id))
		return protocol_error(error, "a question that there is not");
	peer->hooks->asked(peer->data, wire_get64(wire.id), ask, wire_get64(wire.generation));
	return TRUE;
}

static gboolean read_answer(colo_peer *peer, const guint8 *payload, gsize length,
			    GError **error)
{
	struct wire_peer_answer wire;
	g_autofree char *why = NULL;

	memcpy(&wire, payload, sizeof(wire));
	if (wire_get16(wire.yes) > 1)
		return protocol_error(error, "an answer that is neither yes nor no");
	why = g_strndup((const char *)payload + sizeof(wire), length - sizeof(wire));
	for (char *at = why; *at; at++)
		if (!g_ascii_isprint(*at))
			*at = '?';
	for (GList *at = peer->asks->head; at; at = at->next) {
		g_autofree struct ask *ask = NULL;

		if (((struct ask *)at->data)->id != wire_get64(wire.id))
			continue;
		ask = at->data;
		g_queue_delete_link(peer->asks, at);
		peer->hooks->answered(peer->data, ask->ask, wire_get16(wire.yes),
				      *why ? why : NULL);
		return TRUE;
	}
	return protocol_error(error, "an answer to nothing that was asked");
}

static gboolean judge(colo_peer *peer, guint16 type, GBytes *bytes, GError **error)
{
	gsize length;
	const guint8 *payload = g_bytes_get_data(bytes, &length);

	if (type == WIRE_PEER_HELLO)
		return read_hello(peer, payload, length, error);
	if (!peer->up)
		return protocol_error(error, "it says no hello");
	if (type == WIRE_PEER_STATE)
		return read_state(peer, payload, length, error);
	if (type == WIRE_PEER_ASK)
		return read_ask(peer, payload, error);
	return read_answer(peer, payload, length, error);
}

static void read_note(void *data, struct ckpt_note *note)
{
	colo_peer *peer = data;
	g_autoptr(GError) error = NULL;

	if (!peer->wire || note->round != peer->wire->round)
		return;
	if (note->kind == NOTE_MESSAGE)
		g_atomic_int_add(&peer->wire->notes, -1);
	if (note->kind == NOTE_LOST)
		hang_up(peer, note->text);
	else if (!judge(peer, (guint16)note->number, note->thing, &error))
		hang_up(peer, error->message);
}

static void drop_note(const struct ckpt_note *note)
{
	if (note->thing)
		g_bytes_unref(note->thing);
}

/* What is said. */

const char *colo_peer_trouble(const colo_peer *peer)
{
	return peer->up ? NULL : peer->trouble;
}

void colo_peer_say(colo_peer *peer, const struct colo_peer_state *state)
{
	const struct wire_peer_state wire = {
		.generation = wire_put64(state->generation),
		.epoch = wire_put64(state->epoch),
		.state = wire_put16((guint16)state->state),
		.part = wire_put16((guint16)state->part),
		.flags = wire_put32(state->flags),
	};

	if (peer->up)
		send(peer, WIRE_PEER_STATE, &wire, sizeof(wire), NULL);
}

void colo_peer_ask(colo_peer *peer, enum colo_ask ask, guint64 generation)
{
	struct ask *kept;
	const struct wire_peer_ask wire = {
		.id = wire_put64(peer->last_id + 1),
		.generation = wire_put64(generation),
		.ask = wire_put16(ask),
	};

	if (!peer->up || g_queue_get_length(peer->asks) == ASKS_MAX)
		return;
	kept = g_new(struct ask, 1);
	*kept = (struct ask){ ++peer->last_id, ask };
	g_queue_push_tail(peer->asks, kept);
	send(peer, WIRE_PEER_ASK, &wire, sizeof(wire), NULL);
}

void colo_peer_answer(colo_peer *peer, guint64 id, gboolean yes, const char *why)
{
	const struct wire_peer_answer wire = {
		.id = wire_put64(id),
		.yes = wire_put16(yes ? 1 : 0),
	};
	g_autofree char *text = g_strndup(why ? why : "", WIRE_PEER_TEXT_MAX);

	if (peer->up)
		send(peer, WIRE_PEER_ANSWER, &wire, sizeof(wire), text);
}

colo_peer *colo_peer_new(const colo_pair *pair, guint self,
			 const struct colo_peer_hooks *hooks, void *data, GError **error)
{
	g_autoptr(colo_peer) peer = g_new0(colo_peer, 1);

	peer->pair = pair;
	peer->self = self;
	peer->hooks = hooks;
	peer->data = data;
	peer->asks = g_queue_new();
	peer->inbox = ckpt_inbox_new(read_note, drop_note, peer);
	if (self) {
		peer->listener = ckpt_listener_new(pair->node[self].control, pair->key, rules,
						   met, peer, error);
		if (!peer->listener)
			return NULL;
	} else {
		dial(peer);
	}
	return g_steal_pointer(&peer);
}

void colo_peer_free(colo_peer *peer)
{
	if (!peer)
		return;
	if (peer->dial_again)
		g_source_remove(peer->dial_again);
	ckpt_dial_free(peer->dial);
	ckpt_listener_free(peer->listener);
	ckpt_inbox_close(peer->inbox);
	drop_wire(peer);
	ckpt_inbox_unref(peer->inbox);
	g_queue_free_full(peer->asks, g_free);
	g_free(peer->trouble);
	g_free(peer);
}
