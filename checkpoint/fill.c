/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's memory during first sync.
 *
 * Pages are gathered in lots, which a thread of their own writes while the next ones are
 * received: decrypting and writing take about as long as each other.
 */
#include "checkpoint/fill.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOTS 4u
#define LOT_PAGES 64u /* few enough to stay in a processor's cache */

struct lot {
	guint count;
	guint32 numbers[LOT_PAGES];
	guint8 pages[LOT_PAGES * CKPT_PAGE] __attribute__((aligned(64)));
};

struct ckpt_filler {
	vmm_memory *memory;
	gulong *written; /* a bit per page: it was put before */
	struct lot *lots;
	guint gathering; /* which of them; those before it may be being written */
	GThread *writer;

	GMutex lock; /* of what follows */
	GCond changed;
	guint handed_over, done; /* lots, since the beginning */
	gboolean stop;
	int error; /* errno of a write that failed, final */
};

/* Returns 0 or errno. */
static int write_run(const ckpt_filler *filler, const guint8 *from, guint32 page,
		     guint count)
{
	gsize left = count * (gsize)CKPT_PAGE;
	off_t at = (off_t)page * CKPT_PAGE;

	while (left) {
		gssize done = pwrite(vmm_memory_fd(filler->memory), from, left, at);
		int err = errno;

		if (done < 0 && err == EINTR)
			continue;
		if (done <= 0)
			return done ? err : ENOSPC;
		from += done;
		at += done;
		left -= (gsize)done;
	}
	return 0;
}

static int write_lot(const ckpt_filler *filler, const struct lot *lot)
{
	guint end;
	int err = 0;

	for (guint i = 0; i < lot->count && !err; i = end) {
		for (end = i + 1; end < lot->count; end++)
			if (lot->numbers[end] != lot->numbers[end - 1] + 1)
				break;
		err = write_run(filler, lot->pages + i * (gsize)CKPT_PAGE,
				lot->numbers[i], end - i);
	}
	return err;
}

static void *write_all(void *data)
{
	ckpt_filler *filler = data;

	g_mutex_lock(&filler->lock);
	while (!filler->stop) {
		const struct lot *lot = &filler->lots[filler->done % LOTS];
		int err = filler->error;

		if (filler->done == filler->handed_over) {
			g_cond_wait(&filler->changed, &filler->lock);
			continue;
		}
		g_mutex_unlock(&filler->lock);
		if (!err)
			err = write_lot(filler, lot);
		g_mutex_lock(&filler->lock);
		if (err && !filler->error)
			g_warning("first sync: write guest memory: %s",
				  g_strerror(err));
		filler->error = err;
		filler->done++;
		g_cond_broadcast(&filler->changed);
	}
	g_mutex_unlock(&filler->lock);
	return NULL;
}

ckpt_filler *ckpt_filler_new(vmm_memory *memory)
{
	ckpt_filler *filler = g_new0(ckpt_filler, 1);

	filler->memory = memory;
	filler->written = g_new0(gulong, vmm_memory_pages(memory) / 64 + 1);
	filler->lots = g_new0(struct lot, LOTS);
	g_mutex_init(&filler->lock);
	g_cond_init(&filler->changed);
	filler->writer = g_thread_new("fill", write_all, filler);
	return filler;
}

void ckpt_filler_free(ckpt_filler *filler)
{
	if (!filler)
		return;
	g_mutex_lock(&filler->lock);
	filler->stop = TRUE;
	g_cond_broadcast(&filler->changed);
	g_mutex_unlock(&filler->lock);
	g_thread_join(filler->writer);
	g_mutex_clear(&filler->lock);
	g_cond_clear(&filler->changed);
	g_free(filler->written);
	g_free(filler->lots);
	g_free(filler);
}

/* Waits until at most `left` lots are still to be written. */
static gboolean hand_over(ckpt_filler *filler, guint left)
{
	gboolean ok;

	g_mutex_lock(&filler->lock);
	if (filler->lots[filler->gathering].count) {
		filler->handed_over++;
		g_cond_broadcast(&filler->changed);
	}
	while (filler->handed_over - filler->done > left)
		g_cond_wait(&filler->changed, &filler->lock);
	filler->gathering = filler->handed_over % LOTS;
	filler->lots[filler->gathering].count = 0;
	ok = !filler->error;
	g_mutex_unlock(&filler->lock);
	return ok;
}

gboolean ckpt_filler_flush(ckpt_filler *filler)
{
	return hand_over(filler, 0);
}

gboolean ckpt_filler_put(ckpt_filler *filler, guint32 page, const void *content)
{
	gulong *word = &filler->written[page / 64], bit = 1ul << page % 64;
	struct lot *lot = &filler->lots[filler->gathering];

	if (!(*word & bit) && ckpt_page_is_zero(content))
		return TRUE;
	*word |= bit;
	memcpy(lot->pages + lot->count * (gsize)CKPT_PAGE, content, CKPT_PAGE);
	lot->numbers[lot->count++] = page;
	return lot->count < LOT_PAGES || hand_over(filler, LOTS - 1);
}
