/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How two nodes' programs find each other: one listens, the other dials. What comes of it
 * is a channel whose peer has the pair's key; nothing of the peer was read before that but
 * its handshake. All waiting is done on threads of their own, with deadlines.
 */
#ifndef CKPT_MEET_H
#define CKPT_MEET_H

#include "checkpoint/protocol.h"

/* In the main context. `channel_take` NULL: `error` says why (borrowed). `join`: what came as
 * the first message; NULL: that is another, to be received, or we dialled. */
typedef void (*ckpt_meet_fn)(void *data, base_channel *channel_take,
			     const struct ckpt_join *join, const GError *error);

typedef struct ckpt_listener ckpt_listener;

/* Listens on `address` (base/tcp.h) for peers with the key in the file `key`, which is read
 * now; they may send what `rules` (static) name. Peers that fail, or say nothing, are logged, at a limited rate; `fn` is called with
 * channels only, on which the first message has come. */
ckpt_listener *ckpt_listener_new(const char *address, const char *key,
				 const struct base_message_rule *rules, ckpt_meet_fn fn,
				 void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* `fn` is not called any more; handshakes under way come to nothing. */
void ckpt_listener_free(ckpt_listener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_listener, ckpt_listener_free)
/* The port that it listens on. */
guint16 ckpt_listener_port(const ckpt_listener *listener);

typedef struct ckpt_dial ckpt_dial;

/* Connects to `address`; `fn` is called once, unless it is freed before. Reads the key file
 * now. */
ckpt_dial *ckpt_dial_new(const char *address, const char *key,
			 const struct base_message_rule *rules, ckpt_meet_fn fn, void *data,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* At any time. */
void ckpt_dial_free(ckpt_dial *dial);

/* The same on a thread that may wait: 10 s, or until `over` (atomic) is not 0. */
base_channel *ckpt_dial_now(const char *address, const char *key, const gint *over,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
