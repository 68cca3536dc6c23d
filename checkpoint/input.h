/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the secondary keeps of the primary's input: numbered items from 1 on without a
 * gap.
 *
 * An item is kept until a checkpoint has seen it, also after the secondary's running
 * guest has had it: after the apply the guest gets again whatever came after the cut.
 * So there is a log of each stream (a network card, a console, entropy), and in it a
 * cursor at what the guest gets next. Network items are frames and go one by one; the
 * others are bytes, of which a guest may take as many as it likes.
 *
 * A data structure and nothing else: the caller holds the device lock.
 */
#ifndef CKPT_INPUT_H
#define CKPT_INPUT_H

#include "checkpoint/protocol.h"

/* On the wire: never reused. */
enum ckpt_input_kind {
	CKPT_INPUT_NET = 1, /* a frame behind its 12-byte header; device: which card */
	CKPT_INPUT_CONSOLE = 2, /* typed; device: 0 the serial line, 1 virtio-console */
	CKPT_INPUT_RNG = 3, /* what virtio-rng gave; device 0 */
	/* Not for the guest but for its frame filter (checkpoint/filter.h), between the
	 * frames of a card, which `device` is. */
	CKPT_INPUT_NOTE = 4,
};

#define CKPT_INPUT_CONSOLES 2u
#define CKPT_INPUT_BYTES_MAX 4096u /* of one CONSOLE, RNG or NOTE item */

typedef struct ckpt_input ckpt_input;

/* For a machine with `nets` cards. Not more than `bytes_max` are kept, what the items
 * cost beyond their own bytes included. */
ckpt_input *ckpt_input_new(guint nets, gsize bytes_max);
/* Drops everything, as a new connection begins: its numbers begin with 1. */
void ckpt_input_restart(ckpt_input *input);
void ckpt_input_free(ckpt_input *input);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_input, ckpt_input_free)

/* Keeps a copy of what a CKPT_INPUT message carries: a ckpt_input_head and its bytes.
 * NULL, or why it was refused (static text), and then nothing changed. */
const char *ckpt_input_add(ckpt_input *input, const void *payload,
			   gsize len) G_GNUC_WARN_UNUSED_RESULT;
/* The number of the last item added; 0: none. */
guint64 ckpt_input_last(const ckpt_input *input);

/* What the guest gets next of this stream, valid until the next call that changes the
 * log: a frame, or what is left of an item of bytes. NULL: nothing now, or (of frames
 * and notes, which are one stream) the other kind comes first. */
const guint8 *ckpt_input_next(const ckpt_input *input, enum ckpt_input_kind kind,
			      guint device, gsize *len);
/* The guest has had `len` bytes of that: of a frame all, of others at most all. */
void ckpt_input_consume(ckpt_input *input, enum ckpt_input_kind kind, guint device,
			gsize len);
/* Both in one, for bytes, across items; returns how many there were. */
gsize ckpt_input_read(ckpt_input *input, enum ckpt_input_kind kind, guint device,
		      void *bytes, gsize len);

/* FALSE where no checkpoint can have seen exactly what came up to `number`: an item
 * that was not added yet, or fewer than an earlier one had seen. Ask when one arrives.
 */
gboolean ckpt_input_covers(const ckpt_input *input, guint64 number);
/* The guest is now at a checkpoint that has seen everything up to `number` (which
 * covers): that is dropped, and each cursor goes to the first item after it, whole. */
void ckpt_input_applied(ckpt_input *input, guint64 number);
/* No checkpoint will come any more: what the guest has had is dropped, from now on at
 * once, and nothing is added. */
void ckpt_input_finish(ckpt_input *input);

gsize ckpt_input_kept_bytes(const ckpt_input *input);

#endif
