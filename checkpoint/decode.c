/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batches from outside into pages. Nothing in them is believed. */
#include "checkpoint/pages.h"

#include <lz4.h>
#include <string.h>

#define LINE 64u

static const guint8 zeros[CKPT_PAGE];

/* Writes over `content`, which is the last checkpoint's, what the delta says. */
static gboolean apply_delta(guint8 *content, const guint8 *at, gsize left)
{
	struct wire_delta delta;

	if (left < sizeof(delta))
		return FALSE;
	memcpy(&delta, at, sizeof(delta));
	at += sizeof(delta);
	left -= sizeof(delta);
	for (guint64 lines = wire_get64(delta.lines); lines; lines &= lines - 1) {
		guint8 *line = content + LINE * (guint)__builtin_ctzll(lines);
		wire_u16 words;
		guint changed, bytes;

		if (left < sizeof(words))
			return FALSE;
		memcpy(&words, at, sizeof(words));
		at += sizeof(words);
		left -= sizeof(words);
		changed = wire_get16(words);
		bytes = 4 * (guint)__builtin_popcount(changed);
		if (!changed || left < bytes)
			return FALSE;
		left -= bytes;
		for (; changed; changed &= changed - 1, at += 4)
			memcpy(line + 4 * (guint)__builtin_ctz(changed), at, 4);
	}
	return !left;
}

struct page {
	guint32 number;
	guint16 form, length;
	const guint8 *bytes; /* `length` of them */
};

/* The page's content, perhaps in `scratch`; NULL, with the reason in `why`. */
static const void *content_of(const struct page *page,
			      const struct ckpt_page_sink *sink, guint8 *scratch,
			      const char **why)
{
	const void *before;

	switch (page->form) {
	case CKPT_ZERO:
		*why = "a page of zeros with a length";
		return page->length == 0 ? zeros : NULL;
	case CKPT_RAW:
		*why = "a raw page of another length than a page's";
		return page->length == CKPT_PAGE ? page->bytes : NULL;
	case CKPT_LZ4:
		*why = "compressed data that is not one page";
		if (page->length < 1 || page->length >= CKPT_PAGE ||
		    LZ4_decompress_safe((const char *)page->bytes, (char *)scratch,
					page->length, CKPT_PAGE) != CKPT_PAGE)
			return NULL;
		return scratch;
	case CKPT_DELTA:
		*why = "a delta longer than a page";
		if (page->length >= CKPT_PAGE)
			return NULL;
		*why = "a delta to a page that is not there";
		before = sink->before ? sink->before(sink->data, page->number) : NULL;
		if (!before)
			return NULL;
		memcpy(scratch, before, CKPT_PAGE);
		*why = "a delta that does not add up";
		return apply_delta(scratch, page->bytes, page->length) ? scratch : NULL;
	default:
		*why = "a page of an unknown form";
		return NULL;
	}
}

gboolean ckpt_decode(const void *batch, gsize len, guint64 pages,
		     const struct ckpt_page_sink *sink, const char **why)
{
	guint8 scratch[CKPT_PAGE] __attribute__((aligned(64)));
	const guint8 *at = batch;
	guint64 lowest = 0; /* that the next number may be */

	while (len) {
		struct wire_page header;
		struct page page;
		const void *content;

		*why = "a page's header cut short";
		if (len < sizeof(header))
			return FALSE;
		memcpy(&header, at, sizeof(header));
		page.number = wire_get32(header.page);
		page.form = wire_get16(header.form);
		page.length = wire_get16(header.length);
		page.bytes = at + sizeof(header);
		len -= sizeof(header);
		*why = "a page outside memory";
		if (page.number >= pages)
			return FALSE;
		*why = "a page out of order";
		if (page.number < lowest)
			return FALSE;
		*why = "a page cut short";
		if (page.length > len)
			return FALSE;
		content = content_of(&page, sink, scratch, why);
		if (!content)
			return FALSE;
		*why = NULL;
		if (!sink->take(sink->data, page.number, content))
			return FALSE;
		at = page.bytes + page.length;
		len -= page.length;
		lowest = (guint64)page.number + 1;
	}
	return TRUE;
}
