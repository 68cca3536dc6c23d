/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies above a disk: chunks, and the map that says which is on top. */
#include "checkpoint/disk_layer.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 4096u
/* Of a chunk besides its content: itself, its extents, what is kept to write it. */
#define OVERHEAD 512u

/* Disjoint, and ordered by `from`. */
struct extent {
	guint64 from, to;
	struct ckpt_chunk *chunk;
};

struct ckpt_layer {
	GSequence *extents;
};

guint64 ckpt_chunk_cost(guint64 len, gboolean zeroes)
{
	return OVERHEAD + (zeroes ? 0 : (len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

struct ckpt_chunk *ckpt_chunk_new(guint64 offset, guint64 len, const void *bytes,
				  guint64 *account)
{
	struct ckpt_chunk *chunk = g_new0(struct ckpt_chunk, 1);
	void *memory = NULL;

	chunk->refs = 1;
	chunk->offset = offset;
	chunk->len = len;
	chunk->cost = ckpt_chunk_cost(len, !bytes);
	chunk->account = account;
	*account += chunk->cost;
	if (bytes) {
		if (posix_memalign(&memory, ALIGNMENT, len))
			g_error("out of memory");
		chunk->bytes = memcpy(memory, bytes, len);
	}
	return chunk;
}

struct ckpt_chunk *ckpt_chunk_slice(struct ckpt_chunk *whole, guint64 offset,
				    guint64 len)
{
	struct ckpt_chunk *chunk = g_new0(struct ckpt_chunk, 1);

	g_assert(offset >= whole->offset && len <= whole->len &&
		 offset - whole->offset <= whole->len - len);
	chunk->refs = 1;
	chunk->offset = offset;
	chunk->len = len;
	if (whole->bytes)
		chunk->bytes = whole->bytes + (offset - whole->offset);
	chunk->whole = ckpt_chunk_ref(whole);
	return chunk;
}

struct ckpt_chunk *ckpt_chunk_ref(struct ckpt_chunk *chunk)
{
	chunk->refs++;
	return chunk;
}

void ckpt_chunk_unref(struct ckpt_chunk *chunk)
{
	if (--chunk->refs)
		return;
	if (chunk->whole) {
		ckpt_chunk_unref(chunk->whole);
	} else {
		*chunk->account -= chunk->cost;
		free(chunk->bytes);
	}
	g_free(chunk);
}

void ckpt_chunk_charge(struct ckpt_chunk *chunk, guint64 *account)
{
	struct ckpt_chunk *whole = chunk->whole ? chunk->whole : chunk;

	*whole->account -= whole->cost;
	whole->account = account;
	*account += whole->cost;
}

static void free_extent(void *data)
{
	struct extent *extent = data;

	ckpt_chunk_unref(extent->chunk);
	g_free(extent);
}

static struct extent *new_extent(struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	struct extent *extent = g_new(struct extent, 1);

	*extent = (struct extent){ from, to, ckpt_chunk_ref(chunk) };
	return extent;
}

static int compare(const void *a, const void *b, void *unused)
{
	const struct extent *left = a, *right = b;

	return left->from < right->from ? -1 : left->from > right->from;
}

ckpt_layer *ckpt_layer_new(void)
{
	ckpt_layer *layer = g_new(ckpt_layer, 1);

	layer->extents = g_sequence_new(free_extent);
	return layer;
}

void ckpt_layer_free(ckpt_layer *layer)
{
	if (!layer)
		return;
	g_sequence_free(layer->extents);
	g_free(layer);
}

gboolean ckpt_layer_is_empty(const ckpt_layer *layer)
{
	return g_sequence_is_empty(layer->extents);
}

/* The first extent that ends after `offset`, or the sequence's end. */
static GSequenceIter *find(const ckpt_layer *layer, guint64 offset)
{
	struct extent key = { .from = offset };
	GSequenceIter *after = g_sequence_search(layer->extents, &key, compare, NULL);
	GSequenceIter *before = g_sequence_iter_prev(after);
	const struct extent *extent;

	if (before == after)
		return after;
	extent = g_sequence_get(before);
	return extent->to > offset ? before : after;
}

/* The next extent that begins before `to`; NULL: none. */
static struct extent *get(GSequenceIter *at, guint64 to)
{
	struct extent *extent;

	if (g_sequence_iter_is_end(at))
		return NULL;
	extent = g_sequence_get(at);
	return extent->from < to ? extent : NULL;
}

/* Makes room; returns where an extent from `from` to `to` belongs. */
static GSequenceIter *cut(ckpt_layer *layer, guint64 from, guint64 to)
{
	GSequenceIter *at = find(layer, from);
	struct extent *extent;

	while ((extent = get(at, to))) {
		GSequenceIter *next = g_sequence_iter_next(at);

		if (extent->from < from && extent->to > to)
			next = g_sequence_insert_before(
				next, new_extent(extent->chunk, to, extent->to));
		if (extent->from < from) {
			extent->to = from;
		} else if (extent->to > to) {
			extent->from = to;
			return at;
		} else {
			g_sequence_remove(at);
		}
		at = next;
	}
	return at;
}

void ckpt_layer_put(ckpt_layer *layer, struct ckpt_chunk *chunk)
{
	guint64 from = chunk->offset, to = chunk->offset + chunk->len;

	g_sequence_insert_before(cut(layer, from, to), new_extent(chunk, from, to));
}

void ckpt_layer_remove(ckpt_layer *layer, struct ckpt_chunk *chunk)
{
	GSequenceIter *at = find(layer, chunk->offset);
	const struct extent *extent;

	while ((extent = get(at, chunk->offset + chunk->len))) {
		GSequenceIter *next = g_sequence_iter_next(at);

		if (extent->chunk == chunk)
			g_sequence_remove(at);
		at = next;
	}
}

void ckpt_layer_clear(ckpt_layer *layer)
{
	if (ckpt_layer_is_empty(layer))
		return;
	g_sequence_free(layer->extents);
	layer->extents = g_sequence_new(free_extent);
}

void ckpt_layer_visit(const ckpt_layer *layer, guint64 offset, guint64 len,
		      ckpt_layer_fn fn, void *data)
{
	guint64 at = offset, end = offset + len;
	GSequenceIter *iter = find(layer, offset);
	const struct extent *extent;

	while ((extent = get(iter, end))) {
		guint64 from = MAX(extent->from, at), to = MIN(extent->to, end);

		if (from > at)
			fn(data, NULL, at, from);
		fn(data, extent->chunk, from, to);
		at = to;
		iter = g_sequence_iter_next(iter);
	}
	if (at < end)
		fn(data, NULL, at, end);
}

gboolean ckpt_layer_touches(const ckpt_layer *layer, guint64 offset, guint64 len)
{
	return get(find(layer, offset), offset + len) != NULL;
}
