/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who the peer is: its session, and which of its datagrams are new.
 *
 * A datagram tells that the peer lives only if it could not have been recorded before:
 * it names our session (random, new at each start of ours), so it was made since we
 * started, and its sequence number is higher than any that we saw of the peer's session
 * on that path.
 *
 * How two that do not know each other meet: whatever comes with a good MAC but of a
 * session that we do not know makes that session a stranger, and in our next datagrams
 * we greet strangers. A living one then names our session, by which it becomes the
 * peer; a recording cannot. Where we have a peer already, it must have heard us in
 * turn, just now: what was held back when another session began and soon ended could
 * else replace the one after it. Until then nothing changes: what we echo is the peer
 * that we have. A session that was replaced never comes back; before we would have to
 * forget one, we take a new session ourselves, which makes all recordings worthless.
 * The peer learns it with our next datagram, which names the peer's.
 */
#ifndef HB_PEER_H
#define HB_PEER_H

#include "heartbeat/message.h"

#define HB_STRANGERS_MAX 4u
#define HB_PAST_MAX 32u

/* Fields are read by anybody, and written by the functions below. One thread. */
struct hb_peer {
	guint64 ours; /* our session */
	guint64 session; /* the peer's; 0: none yet */
	guint64 strangers[HB_STRANGERS_MAX]; /* sessions that are greeted; 0: none */
	guint64 wanted[HB_STRANGERS_MAX]; /* how often, since somebody there was greeted */
	guint64 dice; /* for who gets a place that two want */
	guint turn; /* whose turn it is */
	guint64 past[HB_PAST_MAX]; /* sessions that the peer had during this one of ours
				    */
	guint pasts;
	struct {
		guint64 highest; /* sequence number that was heard */
		guint64 seen; /* bit i: highest - i was seen */
	} path[HB_PATHS_MAX];
};

/* `ours` is not 0. */
void hb_peer_init(struct hb_peer *peer, guint64 ours);
/* Judges what hb_codec_open() let pass. `proven`: hb_detector_proves() that it was made
 * just now. */
enum hb_verdict hb_peer_judge(struct hb_peer *peer, const struct hb_message *message,
			      gboolean proven);
/* Whether it is time for hb_peer_renew(): no further session of the peer can be kept in
 * mind. */
gboolean hb_peer_is_worn(const struct hb_peer *peer);
/* A new session of ours; the peer stays who it is. */
void hb_peer_renew(struct hb_peer *peer, guint64 ours);
/* The stranger that the next datagram greets; 0: nobody. Each has its turn. */
guint64 hb_peer_next_stranger(struct hb_peer *peer);

#endif
