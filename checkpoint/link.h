/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel with its two threads: one sends what others hand over, the other receives and
 * calls a handler. Urgent messages (input, disk writes, commits) overtake bulk (pages), and
 * neither side is silent for long, so that silence means that the other is lost.
 *
 * The link is lost once, for one reason; from then on everything handed over is dropped. A
 * peer that is refused is told the reason (BYE), if it still listens.
 */
#ifndef CKPT_LINK_H
#define CKPT_LINK_H

#include "checkpoint/protocol.h"

/* A peer that is well takes a few bytes at once: whoever ends a link to one that hangs has
 * other things to do than to wait for it. */
#define CKPT_LINK_BYE_MS 20u

typedef struct ckpt_link ckpt_link;

struct ckpt_link_ops {
	/* On the receiving thread. FALSE loses the link with that error, and tells the peer. */
	gboolean (*message)(void *data, const struct base_message *message, GError **error);
	/* Once, on one of the link's threads, or that of whoever refuses or stops it, with the
	 * locks that are held there; the handler is not called any more. It must not free the
	 * link. */
	void (*lost)(void *data, const GError *error);
};

/* Takes the channel. `silence_ms` without a message from the peer loses the link; a ping goes
 * out every quarter of that. */
ckpt_link *ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
			      void *data, guint silence_ms);
/* Before the start: so long, if that is more, for the first message. */
void ckpt_link_wait_for_first(ckpt_link *link, guint ms);
/* Starts both threads. */
void ckpt_link_start(ckpt_link *link);
/* Loses the link, with `why` told to the peer if that is possible, and waits for nothing. Any
 * thread; the handler may still be running. */
void ckpt_link_refuse(ckpt_link *link, const char *why);
/* Loses the link, with `end` and `why` (NULL: nothing) told to the peer if CKPT_LINK_BYE_MS are
 * enough for the network to take it, and waits for the handler to return. What was not yet sent
 * is dropped. Not from the link's threads. */
void ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why);
/* What the peer said when it ended the link; CKPT_END_FAULT where it said nothing. */
enum ckpt_ending ckpt_link_peer_end(ckpt_link *link);
/* Stops it if need be. */
void ckpt_link_free(ckpt_link *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_link, ckpt_link_free)

/* Hands over a copy; never waits. More than 64 MiB of it not yet sent lose the link: the
 * peer or the network cannot keep up. Any thread. */
void ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch, const struct iovec *iov,
		    guint count);
/* The same for a piece that may share a message with others of its type and epoch: it joins
 * the last one that waits where both are at most `joined_max` together. FALSE, and dropped:
 * more than 4 MiB of such pieces are not yet sent. */
gboolean ckpt_link_join(ckpt_link *link, guint16 type, guint64 epoch, const struct iovec *iov,
			guint count, gsize joined_max);
/* Drops such pieces that are not yet sent. */
void ckpt_link_drop_joined(ckpt_link *link);
/* The same for bulk: waits while more than 1 MiB of it is not yet sent. FALSE: lost. Not
 * from the receiving thread. */
gboolean ckpt_link_send(ckpt_link *link, guint16 type, guint64 epoch,
			const struct iovec *iov, guint count) G_GNUC_WARN_UNUSED_RESULT;
/* An empty batch for the next: the memory of one that was sent, if there is any. */
GByteArray *ckpt_link_new_batch(ckpt_link *link);
/* The same as ckpt_link_send() without copying: `batch` becomes an empty one, whatever the
 * outcome. */
gboolean ckpt_link_send_batch(ckpt_link *link, guint16 type, guint64 epoch,
			      GByteArray **batch) G_GNUC_WARN_UNUSED_RESULT;
gboolean ckpt_link_is_lost(ckpt_link *link);
void ckpt_link_get_counters(ckpt_link *link, struct base_channel_counters *counters);

#endif
