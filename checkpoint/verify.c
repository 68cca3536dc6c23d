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

char *ckpt_verify_disk_difference(const struct ckpt_verify_range *range,
				  ckpt_verify_read read, void *data, void *scratch)
{
	guint64 offset = wire_get64(range->offset);
	guint32 length = wire_get32(range->length);
	g_autoptr(GError) error = NULL;

	if (!read(data, range->disk, offset, scratch, length, &error))
		return g_strdup(error->message);
	if (XXH3_64bits(scratch, length) == wire_get64(range->digest))
		return NULL;
	return g_strdup_printf("disk %u differs in the %u bytes at %#" G_GINT64_MODIFIER "x",
			       range->disk, length, offset);
}
