/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection between the two nodes' colods: TLS with the pair's key (base/channel.h). The
 * first node of the pair file dials, the second listens; while there is no connection one is
 * tried for again and again. What is said has the formats of base/wire.h, and all of it is
 * judged before anybody hears of it; a peer that says what makes no sense is hung up on.
 *
 * Main context; nothing here waits.
 */
#ifndef COLO_PEER_H
#define COLO_PEER_H

#include "colo/node.h"

typedef struct colo_peer colo_peer;

/* Called from the main loop, never from within a call. */
struct colo_peer_hooks {
	/* Connected: the other node's pair file is read, and differs as `diff` says or not
	 * (NULL). */
	void (*up)(void *data, const char *diff);
	void (*down)(void *data, const char *why);
	void (*said)(void *data, const struct colo_peer_state *state);
	void (*asked)(void *data, guint64 id, enum colo_ask ask, guint64 generation);
	/* `why`: printable, or NULL. */
	void (*answered)(void *data, enum colo_ask ask, gboolean yes, const char *why);
};

/* `pair` and `hooks` outlive it. */
colo_peer *colo_peer_new(const colo_pair *pair, guint self,
			 const struct colo_peer_hooks *hooks, void *data,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
void colo_peer_free(colo_peer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_peer, colo_peer_free)

/* Why there is no connection; NULL: there is one, or none was tried yet. The peer's. */
const char *colo_peer_trouble(const colo_peer *peer);
/* Each is dropped where there is no connection. */
void colo_peer_say(colo_peer *peer, const struct colo_peer_state *state);
void colo_peer_ask(colo_peer *peer, enum colo_ask ask, guint64 generation);
void colo_peer_answer(colo_peer *peer, guint64 id, gboolean yes, const char *why);

/* Messages without a connection, for whoever tests them. FALSE with the reason. */
gboolean colo_peer_read_state(const guint8 *payload, gsize length,
			      struct colo_peer_state *state,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
