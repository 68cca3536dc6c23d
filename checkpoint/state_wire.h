/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's state on the wire: what differs from the state before, compressed (LZ4). From
 * one checkpoint to the next little of it changes.
 */
#ifndef CKPT_STATE_WIRE_H
#define CKPT_STATE_WIRE_H

#include "base/wire.h"

/* Bytes of a state; what LZ4 may add to one that it cannot shorten has room beside it. */
#define CKPT_STATE_MAX (WIRE_PAYLOAD_MAX - (64u << 10))

/* A CKPT_STATE begins with this; LZ4's block follows. */
struct ckpt_state_head {
	wire_u32 length; /* of the state */
	wire_u32 before; /* length of the state that it was combined with (XOR); 0: none */
};
G_STATIC_ASSERT(sizeof(struct ckpt_state_head) == 8);

/* Appends the message for `state` to `out`. `before` may be empty. A state is at most
 * CKPT_STATE_MAX long. */
void ckpt_state_pack(const guint8 *state, gsize length, const GByteArray *before,
		     GByteArray *out);
/* The other way, into `state` (emptied first). FALSE with the reason (static text) where the
 * message is none, or is about another state before. */
gboolean ckpt_state_unpack(const void *payload, gsize length, const GByteArray *before,
			   GByteArray *state, const char **why) G_GNUC_WARN_UNUSED_RESULT;

#endif
