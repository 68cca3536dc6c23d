/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An authenticated, encrypted connection to the other node: TLS 1.3 with the pair's
 * pre-shared key (RFC 8446, 2.2; GnuTLS), carrying framed messages as base/wire.h
 * defines them. There is no plaintext mode.
 *
 * One thread may send while another receives. Nothing waits longer than its deadline,
 * however slowly the peer gives or takes. After an error, goodbyes included, the
 * channel is dead: calls under way on other threads fail soon, and every call fails
 * with the same error. But where a message was refused for what it is, only receiving
 * is over: the peer can still be told why.
 */
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include "base/frame.h"
#include "base/key.h"

typedef struct base_channel base_channel;

/* Takes a connected stream socket whatever the outcome and does the handshake, as
 * server or client. `rules` (ended by a NULL name) must outlive the channel, `key` need
 * not. */
base_channel *base_channel_new_take(int fd, gboolean server, const base_key *key,
				    const struct base_message_rule *rules,
				    guint deadline_ms,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Says goodbye if it can do so without waiting, and closes. */
void base_channel_free(base_channel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_channel, base_channel_free)

/* Sends one message of at most WIRE_PAYLOAD_MAX; LOST if the peer does not take what
 * the call has to hand over within `deadline_ms`. `iov` is free to be changed
 * afterwards. One thread. */
gboolean base_channel_send(base_channel *channel, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count, guint deadline_ms,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Hands what base_channel_send() gathered to the kernel: up to 16 KiB of messages and
 * 64 KiB of records. Whoever has nothing more to send now calls this. The sending
 * thread. */
gboolean base_channel_flush(base_channel *channel, guint deadline_ms,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Receives the next message, fully judged and whole within `deadline_ms`. With 0 it
 * waits without end for a message to begin, then 10 s for the whole of it. The payload
 * is the channel's until the next receive. One thread. */
gboolean base_channel_receive(base_channel *channel, struct base_message *message,
			      guint deadline_ms,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The next receive gives the message of the last one, which was good, again. The receiving
 * thread. */
void base_channel_put_back(base_channel *channel);

/* Throws away what still comes until the peer ends the connection, for `deadline_ms` at
 * most: whoever has said why it ends gives the peer time to read it, for closing over
 * what was not read would cut that off. The channel is dead then. The receiving thread.
 */
void base_channel_drain(base_channel *channel, guint deadline_ms);

/* Makes every call under way on other threads, and all later ones, fail soon (LOST),
 * and those of the peer. Any thread. */
void base_channel_abort(base_channel *channel);

/* A descriptor of the same connection, for shutdown(2) by whoever cannot tell how long the
 * channel lives; -1. The caller's to close. */
int base_channel_dup_fd(const base_channel *channel);

/* The next record goes out with a new key, as happens by itself each 64 GiB. The
 * sending thread. */
void base_channel_rekey(base_channel *channel);

/* "10.0.0.2:7000", for the log. */
const char *base_channel_peer(const base_channel *channel);

struct base_channel_counters {
	guint64 sent_bytes, received_bytes; /* of frames and payloads */
	guint64 sent_messages, received_messages;
	guint64 rekeys, peer_rekeys; /* changes of key, ours and the peer's */
};
/* Any thread. */
void base_channel_get_counters(base_channel *channel,
			       struct base_channel_counters *counters);

#endif
