/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch of pages from outside: each page it yields lies in memory and after the one
 * before, and a batch that is taken says the same pages when they are encoded again,
 * with what came before at hand or without.
 */
#include <string.h>

#include "checkpoint/pages.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define MEMORY 64u /* pages */
#define INPUT_MAX (64u << 10)

struct taken {
	GArray *numbers; /* guint32 */
	GByteArray *contents;
};

/* Of every other page there is a content before. */
static const void *content_before(void *data, guint32 number)
{
	static guint8 page[CKPT_PAGE];

	g_assert(number < MEMORY);
	if (number & 1)
		return NULL;
	for (guint i = 0; i < CKPT_PAGE; i++)
		page[i] = (guint8)(i * 7 + number);
	return page;
}

static gboolean take(void *data, guint32 number, const void *content)
{
	struct taken *taken = data;
	GArray *numbers = taken->numbers;

	g_assert(number < MEMORY);
	g_assert(!numbers->len ||
		 number > g_array_index(numbers, guint32, numbers->len - 1));
	g_array_append_val(numbers, number);
	g_byte_array_append(taken->contents, content, CKPT_PAGE);
	return TRUE;
}

static gboolean decode(struct taken *taken, const void *batch, gsize len)
{
	const struct ckpt_page_sink sink = { taken, content_before, take };
	const char *why = NULL;

	g_array_set_size(taken->numbers, 0);
	g_byte_array_set_size(taken->contents, 0);
	if (ckpt_decode(batch, len, MEMORY, &sink, &why))
		return TRUE;
	g_assert(why);
	return FALSE;
}

static void encode_again(const struct taken *taken, gboolean with_before,
			 GByteArray *batch)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();

	ckpt_encoder_set_wire(encoder, 0);
	for (guint i = 0; i < taken->numbers->len; i++) {
		guint32 number = g_array_index(taken->numbers, guint32, i);
		const guint8 *page = taken->contents->data + i * CKPT_PAGE;
		const void *before = with_before ? content_before(NULL, number) : NULL;

		/* What is as before is not sent; here it shall be. */
		if (before && !memcmp(page, before, CKPT_PAGE))
			before = NULL;
		g_assert(ckpt_encode(encoder, number, page, before, batch) !=
			 CKPT_SAME);
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct taken first, again;

	if (size > INPUT_MAX)
		return 0;
	first = (struct taken){ g_array_new(FALSE, FALSE, 4), g_byte_array_new() };
	again = (struct taken){ g_array_new(FALSE, FALSE, 4), g_byte_array_new() };
	if (decode(&first, data, size))
		for (int with_before = 0; with_before < 2; with_before++) {
			g_autoptr(GByteArray) batch = g_byte_array_new();

			encode_again(&first, with_before, batch);
			g_assert(decode(&again, batch->data, batch->len));
			g_assert(again.numbers->len == first.numbers->len);
			if (!first.numbers->len)
				continue;
			g_assert(!memcmp(again.numbers->data, first.numbers->data,
					 4 * first.numbers->len));
			g_assert(!memcmp(again.contents->data, first.contents->data,
					 first.contents->len));
		}
	g_array_unref(first.numbers);
	g_array_unref(again.numbers);
	g_byte_array_unref(first.contents);
	g_byte_array_unref(again.contents);
	return 0;
}
