/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether both sides hold the same. */
#include "checkpoint/verify.h"

#include <xxhash.h>

#define NAMED_MAX 8

static guint64 digest(const vmm_memory *memory, guint64 page)
{
	return XXH3_64bits(vmm_memory_page(memory, page), VMM_PAGE);
}

void ckpt_verify_pages(const vmm_memory *memory, guint64 *digests)
{
	for (guint64 page = 0; page < vmm_memory_pages(memory); page++)
		digests[page] = digest(memory, page);
}

char *ckpt_verify_difference(const vmm_memory *memory, const guint64 *digests)
{
	g_autoptr(GString) text = g_string_new(NULL);
	guint64 count = 0;

	for (guint64 page = 0; page < vmm_memory_pages(memory); page++) {
		if (digests[page] == digest(memory, page))
			continue;
		if (count++ < NAMED_MAX)
			g_string_append_printf(text, " %#" G_GINT64_MODIFIER "x",
					       vmm_memory_page_gpa(memory, page));
	}
	if (!count)
		return NULL;
	return g_strdup_printf("%" G_GUINT64_FORMAT " pages differ, at%s%s", count, text->str,
			       count > NAMED_MAX ? " ..." : "");
}
