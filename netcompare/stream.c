/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes of a stream that came before they were asked for. */
#include "netcompare/stream.h"

#include <string.h>

/* Small segments share a chunk; one of GSO size fills its own. */
#define CHUNK_LEAST 2048u

struct ncmp_chunk {
	struct ncmp_chunk *next, *previous;
	guint64 at; /* position of bytes[start] */
	guint32 start, len, size;
	guint8 bytes[];
};

static void insert_after(struct ncmp_stream *stream, struct ncmp_chunk *previous,
			 struct ncmp_chunk *chunk)
{
	chunk->previous = previous;
	chunk->next = previous ? previous->next : stream->first;
	if (chunk->next)
		chunk->next->previous = chunk;
	else
		stream->last = chunk;
	if (previous)
		previous->next = chunk;
	else
		stream->first = chunk;
	stream->memory += sizeof(*chunk) + chunk->size;
}

static void remove_chunk(struct ncmp_stream *stream, struct ncmp_chunk *chunk)
{
	if (chunk->previous)
		chunk->previous->next = chunk->next;
	else
		stream->first = chunk->next;
	if (chunk->next)
		chunk->next->previous = chunk->previous;
	else
		stream->last = chunk->previous;
	stream->memory -= sizeof(*chunk) + chunk->size;
	g_free(chunk);
}

void ncmp_stream_clear(struct ncmp_stream *stream)
{
	while (stream->first)
		remove_chunk(stream, stream->first);
}

/* Bytes that are not there yet, right behind `previous`'s. */
static struct ncmp_chunk *add(struct ncmp_stream *stream, struct ncmp_chunk *previous,
			      guint64 at, const guint8 *bytes, gsize len)
{
	struct ncmp_chunk *chunk = previous;
	gsize size;

	if (chunk && chunk->at + chunk->len == at &&
	    chunk->size - chunk->start - chunk->len >= len) {
		memcpy(chunk->bytes + chunk->start + chunk->len, bytes, len);
		chunk->len += (guint32)len;
		return chunk;
	}
	/* The first is made to measure: most connections have one answer to keep. */
	size = previous && len < CHUNK_LEAST ? CHUNK_LEAST : len;
	chunk = g_malloc(sizeof(*chunk) + size);
	chunk->at = at;
	chunk->start = 0;
	chunk->len = (guint32)len;
	chunk->size = (guint32)size;
	memcpy(chunk->bytes, bytes, len);
	insert_after(stream, previous, chunk);
	return chunk;
}

void ncmp_stream_put(struct ncmp_stream *stream, guint64 at, const guint8 *bytes,
		     gsize len)
{
	struct ncmp_chunk *previous = stream->last;

	while (previous && previous->at > at)
		previous = previous->previous;
	while (len) {
		struct ncmp_chunk *next = previous ? previous->next : stream->first;
		guint64 end = previous ? previous->at + previous->len : 0;
		gsize skip = end > at ? MIN(len, end - at) : 0;
		gsize n;

		at += skip;
		bytes += skip;
		len -= skip;
		n = next && next->at < at + len ? next->at - at : len;
		if (n)
			previous = add(stream, previous, at, bytes, n);
		at += n;
		bytes += n;
		len -= n;
		if (next && len)
			previous = next;
	}
}

static struct ncmp_chunk *find(const struct ncmp_stream *stream, guint64 at)
{
	struct ncmp_chunk *chunk = stream->first;

	while (chunk && chunk->at + chunk->len <= at)
		chunk = chunk->next;
	return chunk && chunk->at <= at ? chunk : NULL;
}

gsize ncmp_stream_peek(const struct ncmp_stream *stream, guint64 at, gsize len,
		       const guint8 **bytes)
{
	const struct ncmp_chunk *chunk = find(stream, at);

	if (!chunk)
		return 0;
	*bytes = chunk->bytes + chunk->start + (at - chunk->at);
	return MIN(len, chunk->at + chunk->len - at);
}

void ncmp_stream_take(struct ncmp_stream *stream, guint64 at, gsize len)
{
	struct ncmp_chunk *chunk = find(stream, at);
	gsize before = at - chunk->at;
	gsize after = chunk->len - before - len;

	if (before && after)
		add(stream, chunk, at + len, chunk->bytes + chunk->start + before + len,
		    after);
	if (before) {
		chunk->len = (guint32)before;
		return;
	}
	chunk->at += len;
	chunk->start += (guint32)len;
	chunk->len = (guint32)after;
	if (!after)
		remove_chunk(stream, chunk);
}

guint64 ncmp_stream_end(const struct ncmp_stream *stream)
{
	return stream->last ? stream->last->at + stream->last->len : 0;
}
