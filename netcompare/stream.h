/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes of a stream that came before they were asked for: kept by position, in whatever
 * order they come. Of two bytes at one position the first stays. A zeroed struct is
 * empty.
 */
#ifndef NCMP_STREAM_H
#define NCMP_STREAM_H

#include <glib.h>

struct ncmp_chunk;

struct ncmp_stream {
	struct ncmp_chunk *first, *last; /* by position; they do not overlap */
	gsize memory; /* allocated */
};

void ncmp_stream_clear(struct ncmp_stream *stream);
void ncmp_stream_put(struct ncmp_stream *stream, guint64 at, const guint8 *bytes,
		     gsize len);
/* How many of the `len` bytes at `at` are there in one piece; 0: not even the first.
 * Good until the next change. */
gsize ncmp_stream_peek(const struct ncmp_stream *stream, guint64 at, gsize len,
		       const guint8 **bytes);
/* Removes bytes that peek() has just shown. */
void ncmp_stream_take(struct ncmp_stream *stream, guint64 at, gsize len);
/* The position after the last byte; 0: there is none. */
guint64 ncmp_stream_end(const struct ncmp_stream *stream);

#endif
