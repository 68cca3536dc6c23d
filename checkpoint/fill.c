/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's memory during first sync.
 *
 * Runs of pages are written by one system call each, from where they were received, while
 * they are in that processor's cache: handing them to another thread costs a copy more than
 * it saves in time, and several connections keep several processors busy.
 */
#include "checkpoint/fill.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define RUN_PAGES 64u
G_STATIC_ASSERT(RUN_PAGES <= CKPT_LANE_PAGES);

struct ckpt_filler {
	vmm_memory *memory;
	GMutex *turn; /* to write: the kernel has one at a time do it, and the others spin */
	guint lane, lanes;
	gulong *written; /* a bit per page: it was put before */

	/* Of the batch under way. */
	const guint8 *batch, *batch_end;
	const char *why;
	/* Consecutive pages that are to be written, from `first` on. */
	guint32 first;
	guint count;
	struct iovec run[RUN_PAGES];
	guint unpacked; /* how many of them are not in the batch but here */
	guint8 pages[RUN_PAGES * CKPT_PAGE] __attribute__((aligned(64)));
};

ckpt_filler *ckpt_filler_new(vmm_memory *memory, GMutex *turn, guint lane, guint lanes)
{
	ckpt_filler *filler = g_aligned_alloc0(1, sizeof(*filler), 64);

	filler->memory = memory;
	filler->turn = turn;
	filler->lane = lane;
	filler->lanes = lanes;
	filler->written = g_new0(gulong, vmm_memory_pages(memory) / 64 + 1);
	return filler;
}

void ckpt_filler_free(ckpt_filler *filler)
{
	if (!filler)
		return;
	g_free(filler->written);
	g_aligned_free(filler);
}

/* Takes `done` bytes off the front of what is to be written. */
static struct iovec *advance(struct iovec *at, gsize done)
{
	for (; done && done >= at->iov_len; at++)
		done -= at->iov_len;
	if (done) {
		at->iov_base = (guint8 *)at->iov_base + done;
		at->iov_len -= done;
	}
	return at;
}

/* Returns as pwritev(2), but -errno. */
static gssize write_some(ckpt_filler *filler, const struct iovec *iov, int count, off_t offset)
{
	gssize done;
	int err;

	g_mutex_lock(filler->turn);
	do {
		done = pwritev(vmm_memory_fd(filler->memory), iov, count, offset);
		err = errno;
	} while (done < 0 && err == EINTR);
	g_mutex_unlock(filler->turn);
	return done < 0 ? -err : done;
}

static gboolean write_run(ckpt_filler *filler)
{
	off_t offset = (off_t)filler->first * CKPT_PAGE;
	gsize left = filler->count * (gsize)CKPT_PAGE;
	struct iovec *at = filler->run, *end = at + filler->count;

	filler->count = filler->unpacked = 0;
	while (left) {
		gssize done = write_some(filler, at, (int)(end - at), offset);

		if (done <= 0) {
			g_warning("first sync: write guest memory: %s",
				  g_strerror(done ? (int)-done : ENOSPC));
			filler->why = "more memory than there is room for";
			return FALSE;
		}
		at = advance(at, (gsize)done);
		offset += done;
		left -= (gsize)done;
	}
	return TRUE;
}

/* What is not in the batch will not be where it is for long. */
static const guint8 *keep(ckpt_filler *filler, const guint8 *content)
{
	guint8 *copy = filler->pages + filler->unpacked * (gsize)CKPT_PAGE;

	if (content >= filler->batch && content < filler->batch_end)
		return content;
	filler->unpacked++;
	return memcpy(copy, content, CKPT_PAGE);
}

static gboolean put(void *data, guint32 page, const void *content)
{
	ckpt_filler *filler = data;
	gulong *word = &filler->written[page / 64], bit = 1ul << page % 64;

	if (ckpt_lane_of(page, filler->lanes) != filler->lane) {
		filler->why = "a page on another connection than its own";
		return FALSE;
	}
	if (!(*word & bit) && ckpt_page_is_zero(content))
		return TRUE;
	*word |= bit;
	if (filler->count &&
	    (filler->count == RUN_PAGES || page != filler->first + filler->count) &&
	    !write_run(filler))
		return FALSE;
	if (!filler->count)
		filler->first = page;
	filler->run[filler->count++] =
		(struct iovec){ (void *)keep(filler, content), CKPT_PAGE };
	return TRUE;
}

gboolean ckpt_filler_take(ckpt_filler *filler, const void *batch, gsize len, const char **why)
{
	const struct ckpt_page_sink sink = { .data = filler, .take = put };
	gboolean good;

	filler->batch = batch;
	filler->batch_end = filler->batch + len;
	filler->why = NULL;
	/* In the first sync nothing came before: a delta is refused. */
	good = ckpt_decode(batch, len, vmm_memory_pages(filler->memory), &sink, why);
	/* Whatever was right before what was not. */
	if (!write_run(filler))
		good = FALSE;
	if (filler->why)
		*why = filler->why;
	return good;
}
