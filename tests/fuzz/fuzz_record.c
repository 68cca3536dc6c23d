/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A generation file of any content: refused with one line, or exactly what colo would
 * have written. The first byte says whether the checksum is made right first.
 */
#include "colo/record.h"

#include <string.h>
#include <xxhash.h>

#include "colo/pair.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);
int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autoptr(GString) text = g_string_new(NULL);
	g_autoptr(GError) error = NULL;
	g_autofree char *exact = NULL;
	struct colo_record record;

	if (!size)
		return 0;
	g_string_append_len(text, (const char *)data + 1, (gssize)size - 1);
	if (data[0] & 1) {
		XXH128_hash_t sum = XXH3_128bits(text->str, text->len);

		g_string_append_printf(text,
				       "checksum %016" G_GINT64_MODIFIER
				       "x%016" G_GINT64_MODIFIER "x\n",
				       (guint64)sum.high64, (guint64)sum.low64);
	}
	/* Of exactly that size, so that ASan sees its end. */
	exact = g_memdup2(text->str, text->len);
	if (colo_record_parse(exact, text->len, "file", "shop", "alpha", &record,
			      &error)) {
		g_autofree char *again = colo_record_format("shop", "alpha", &record);

		g_assert(!error && strlen(again) == text->len &&
			 !memcmp(again, text->str, text->len));
	} else {
		g_assert(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
		g_assert(!strpbrk(error->message, "\n\x1b"));
		g_assert(!record.generation && record.part == COLO_PART_NONE);
	}
	return 0;
}
