/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection to colo-vm, which serves the socket. It is made as soon as somebody
 * listens there, and made again, after longer and longer pauses (50 ms to 2 s),
 * whenever it ends. A message that is not right ends it, with a warning that says why.
 *
 * READY is said as soon as colo-vm has greeted: so the queue must be bound and its rule
 * in place before. All in one main context, the thread's default.
 */
#ifndef NCMP_PEER_H
#define NCMP_PEER_H

#include "netcompare/compare.h"
#include "netcompare/error.h"
#include "netcompare/message.h"

struct ncmp_peer_hooks {
	void *data;
	/* `another`: not the colo-vm that was there before, whose guest is no more. Neither
	 * the first that there is nor one that comes back is another. */
	void (*greeted)(void *data, gboolean another);
	/* GATE and all that comes after it. */
	void (*told)(void *data, const struct ncmp_message *message);
	/* What was handed on was all that there is for now. */
	void (*settled)(void *data);
	/* Nothing is known any more. */
	void (*gone)(void *data);
};

typedef struct ncmp_peer ncmp_peer;

/* `cards`: those that we know the taps of; a machine with more is refused. */
ncmp_peer *ncmp_peer_new(const char *path, guint cards,
			 const struct ncmp_peer_hooks *hooks);
void ncmp_peer_free(ncmp_peer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_peer, ncmp_peer_free)

/* Hands on all that colo-vm has said until now (without `settled`). */
void ncmp_peer_drain(ncmp_peer *peer);
/* The last colo-vm that greeted; all zero: none has. */
const struct ncmp_talk *ncmp_peer_talk(const ncmp_peer *peer);
gboolean ncmp_peer_is_connected(
	const ncmp_peer *peer); /* it has greeted, and is there */

/* Nothing where nobody is connected. */
void ncmp_peer_request(ncmp_peer *peer, guint64 epoch, enum ncmp_cause cause);
void ncmp_peer_mode(ncmp_peer *peer, gboolean compare, const char *why);
/* All has gone that the commit of `epoch` lets go. */
void ncmp_peer_drained(ncmp_peer *peer, guint64 epoch);

#endif
