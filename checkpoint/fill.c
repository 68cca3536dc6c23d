/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's memory during first sync. */
#include "checkpoint/fill.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define GATHERED 64u /* pages for one system call; they stay in the processor's cache */

struct ckpt_filler {
	vmm_memory *memory;
	gulong *written; /* a bit per page */
	guint32 first; /* of the pages gathered, which are consecutive */
	guint count;
	guint8 pages[GATHERED * CKPT_PAGE] __attribute__((aligned(64)));
};

ckpt_filler *ckpt_filler_new(vmm_memory *memory)
{
	ckpt_filler *filler = g_new0(ckpt_filler, 1);

	filler->memory = memory;
	filler->written = g_new0(gulong, vmm_memory_pages(memory) / 64 + 1);
	return filler;
}

void ckpt_filler_free(ckpt_filler *filler)
{
	if (!filler)
		return;
	g_free(filler->written);
	g_free(filler);
}

gboolean ckpt_filler_flush(ckpt_filler *filler)
{
	gsize left = filler->count * (gsize)CKPT_PAGE;
	off_t at = (off_t)filler->first * CKPT_PAGE;
	const guint8 *from = filler->pages;

	filler->count = 0;
	while (left) {
		gssize done = pwrite(vmm_memory_fd(filler->memory), from, left, at);
		int err = errno;

		if (done < 0 && err == EINTR)
			continue;
		if (done <= 0) {
			g_warning("first sync: write guest memory: %s", g_strerror(err));
			return FALSE;
		}
		from += done;
		at += done;
		left -= (gsize)done;
	}
	return TRUE;
}

gboolean ckpt_filler_put(ckpt_filler *filler, guint32 page, const void *content)
{
	gulong *word = &filler->written[page / 64], bit = 1ul << page % 64;

	if (!(*word & bit) && ckpt_page_is_zero(content))
		return TRUE;
	*word |= bit;
	if (filler->count &&
	    (filler->count == GATHERED || page != filler->first + filler->count) &&
	    !ckpt_filler_flush(filler))
		return FALSE;
	if (!filler->count)
		filler->first = page;
	memcpy(filler->pages + filler->count++ * (gsize)CKPT_PAGE, content, CKPT_PAGE);
	return TRUE;
}
