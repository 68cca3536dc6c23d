/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies above a disk: a map from ranges of bytes to what is written there.
 *
 * A chunk is one write's content, never changed once it is made, so that a reader may
 * hold on to what it saw. A layer says for each byte which chunk was put there last, if
 * any. Its cost follows the number of writes, not their length: zeroes over a whole
 * disk are one extent. No locks: everything with the device lock.
 */
#ifndef CKPT_DISK_LAYER_H
#define CKPT_DISK_LAYER_H

#include <glib.h>

struct ckpt_chunk {
	guint refs;
	guint64 offset, len; /* bytes of the disk */
	guint8 *bytes; /* NULL: zeroes */
	struct ckpt_chunk
		*whole; /* whose memory `bytes` is in; NULL: its own, 4096-aligned */
	guint64 *account; /* in which `cost` is counted */
	guint64 cost; /* bytes of memory */
	void *owner; /* the user's */
};

/* What a chunk of `len` bytes will cost; a slice costs nothing of its own. */
guint64 ckpt_chunk_cost(guint64 len, gboolean zeroes);
/* Copies `bytes`; NULL: zeroes. Counts its cost in `account` as long as it lives. */
struct ckpt_chunk *ckpt_chunk_new(guint64 offset, guint64 len, const void *bytes,
				  guint64 *account);
/* A part of a chunk, which is kept for it. */
struct ckpt_chunk *ckpt_chunk_slice(struct ckpt_chunk *whole, guint64 offset,
				    guint64 len);
struct ckpt_chunk *ckpt_chunk_ref(struct ckpt_chunk *chunk);
void ckpt_chunk_unref(struct ckpt_chunk *chunk);
/* Counts the cost elsewhere from now on. */
void ckpt_chunk_charge(struct ckpt_chunk *chunk, guint64 *account);

typedef struct ckpt_layer ckpt_layer;
ckpt_layer *ckpt_layer_new(void);
void ckpt_layer_free(ckpt_layer *layer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_layer, ckpt_layer_free)

gboolean ckpt_layer_is_empty(const ckpt_layer *layer);
/* On top of whatever is there. Takes a reference to the chunk. */
void ckpt_layer_put(ckpt_layer *layer, struct ckpt_chunk *chunk);
/* What of this chunk is still to be seen goes. */
void ckpt_layer_remove(ckpt_layer *layer, struct ckpt_chunk *chunk);
void ckpt_layer_clear(ckpt_layer *layer);

/* Called for adjacent ranges from `offset` to `offset + len`, in order; `chunk` NULL:
 * there is nothing. Must not change the layer. */
typedef void (*ckpt_layer_fn)(void *data, struct ckpt_chunk *chunk, guint64 from,
			      guint64 to);
void ckpt_layer_visit(const ckpt_layer *layer, guint64 offset, guint64 len,
		      ckpt_layer_fn fn, void *data);
/* TRUE if any byte of the range is there. */
gboolean ckpt_layer_touches(const ckpt_layer *layer, guint64 offset, guint64 len);

#endif
