/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First sync: fills a secondary while the guest runs.
 *
 * Memory is sent once as a whole, and beside it the disks (checkpoint/disk_sync.h), in turns:
 * a batch of pages, a piece of a disk. Memory then rests until the disks are through, since
 * what the guest dirties meanwhile it would dirty again. Then it comes in rounds, each of what
 * became dirty during the last, until the rest fits one checkpoint. What the guest writes to
 * its disks is forwarded all the while.
 *
 * Memory and disks share one bandwidth limit. A piece of a disk counts in full when it begins;
 * what turns out to be equal is given back when the answer comes. So the limit holds although
 * nobody knows beforehand what a piece will cost, and equal disks pass at the speed of answers.
 */
#include "checkpoint/primary_private.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "checkpoint/fault.h"

#define ROUNDS_MAX 30
/* Large enough for the cost of a message not to matter, and in the cache until it is sent. */
#define BATCH_ENOUGH (252u << 10)
#define REST_PAGES 2048u /* what may be left for the first checkpoint */
/* The disks get a turn at least after so many pages. */
#define TURN_PAGES 1024u
#define BURST_NS 50000000u /* unused time that the limit remembers */
#define STOCK_NS 1000000000u /* how old the progress may be */

/* A bandwidth limit: what was charged is paid for by time. */
struct pace {
	guint64 limit; /* bytes per second; 0: none */
	guint64 charged;
	guint64 free_ns; /* when all of it is paid for */
};

struct sync {
	ckpt_primary *primary;
	struct pace pace;
	guint64 start_ns;
	guint64 looked_at; /* bytes of memory, in all rounds */
	struct ckpt_sync_progress progress;
};

/* `total`: bytes since the beginning, which may be fewer than at the last time. */
static void pace_charge(struct pace *pace, guint64 total)
{
	guint64 now = base_clock_monotonic_ns();
	double by = (double)total - (double)pace->charged, free_ns;

	pace->charged = total;
	if (!pace->limit)
		return;
	if (pace->free_ns + BURST_NS < now)
		pace->free_ns = now - BURST_NS;
	free_ns = (double)pace->free_ns + by * 1e9 / (double)pace->limit;
	pace->free_ns = free_ns > 0 ? (guint64)free_ns : 0;
}

static gboolean pace_is_free(const struct pace *pace)
{
	return !pace->limit || pace->free_ns <= base_clock_monotonic_ns();
}

static void estimate(struct sync *sync, guint64 disks_done)
{
	struct ckpt_sync_progress *progress = &sync->progress;
	double spent = (double)(base_clock_monotonic_ns() - sync->start_ns) / 1e6;
	double done = (double)(sync->looked_at + disks_done);

	progress->ms_left = done > 0 ? (guint64)((double)(progress->memory_left +
							  progress->disks_left) *
						 spent / done)
				     : 0;
}

/* Where memory and disks are. Holding the device lock. */
static void take_stock(struct sync *sync)
{
	ckpt_primary *primary = sync->primary;
	const struct ckpt_streams *streams = &primary->streams;
	struct ckpt_sync_progress *progress = &sync->progress;
	guint64 under_way = 0, done = 0;

	progress->wire_bytes = primary->now.bytes;
	progress->disks_left = 0;
	for (guint i = 0; streams->sync_counters && i < VMM_DISKS_MAX; i++) {
		struct ckpt_disk_sync_counters *disk = &progress->disks[i];

		if (!streams->sync_counters(streams->data, i, disk))
			continue;
		progress->disks_left += disk->total - disk->done;
		progress->wire_bytes += disk->wire;
		under_way += disk->begun - disk->done;
		done += disk->done;
	}
	pace_charge(&sync->pace, progress->wire_bytes + under_way);
	estimate(sync, done);
	g_mutex_lock(&primary->lock);
	primary->sync = *progress;
	g_mutex_unlock(&primary->lock);
}

static gboolean goes_on(ckpt_primary *primary)
{
	gboolean goes_on;

	g_mutex_lock(&primary->lock);
	goes_on = !ckpt_primary_is_over(primary);
	g_mutex_unlock(&primary->lock);
	return goes_on;
}

/* Begins as many pieces of the disks as the limit and their window allow. FALSE: over. */
static gboolean turn_to_disks(struct sync *sync)
{
	const struct ckpt_streams *streams = &sync->primary->streams;
	vmm_loop *loop = vmm_machine_loop(sync->primary->machine);

	vmm_loop_lock(loop);
	take_stock(sync);
	while (streams->sync_step && pace_is_free(&sync->pace) &&
	       streams->sync_step(streams->data))
		take_stock(sync);
	vmm_loop_unlock(loop);
	return goes_on(sync->primary);
}

static guint news(ckpt_primary *primary)
{
	guint n;

	g_mutex_lock(&primary->lock);
	n = primary->sync_news;
	g_mutex_unlock(&primary->lock);
	return n;
}

/* Waits for news after `seen`, until the limit allows more, or for a while. FALSE: over. */
static gboolean wait_for_news(struct sync *sync, guint seen)
{
	ckpt_primary *primary = sync->primary;
	guint64 now = base_clock_monotonic_ns(), ns = STOCK_NS;
	gboolean goes_on;
	gint64 until;

	if (sync->pace.limit && sync->pace.free_ns > now)
		ns = MIN(ns, sync->pace.free_ns - now);
	until = g_get_monotonic_time() + (gint64)(ns / 1000) + 1;
	g_mutex_lock(&primary->lock);
	while (!ckpt_primary_is_over(primary) && primary->sync_news == seen &&
	       g_cond_wait_until(&primary->changed, &primary->lock, until))
		;
	goes_on = !ckpt_primary_is_over(primary);
	g_mutex_unlock(&primary->lock);
	return goes_on;
}

/* After a batch of pages: until it is paid for. Disks that answer may make that earlier. */
static gboolean keep_to_limit(struct sync *sync)
{
	vmm_loop *loop = vmm_machine_loop(sync->primary->machine);

	while (sync->pace.limit) {
		guint seen = news(sync->primary);

		vmm_loop_lock(loop);
		take_stock(sync);
		vmm_loop_unlock(loop);
		if (pace_is_free(&sync->pace))
			break;
		if (!wait_for_news(sync, seen))
			return FALSE;
	}
	return TRUE;
}

/* The content as it is while the guest writes it. What is torn by that is dirty, and comes
 * again. */
static void encode_page(ckpt_primary *primary, guint32 page, GByteArray *batch)
{
	guint8 *copy = ckpt_encode_room(batch);
	struct ckpt_digest digest;

	memcpy(copy, vmm_memory_page(primary->memory, page), CKPT_PAGE);
	digest = ckpt_digest_page(primary->digester, copy);
	if (ckpt_primary_same(digest, primary->known[page])) {
		ckpt_encode_nothing(batch);
		return;
	}
	primary->known[page] = digest;
	ckpt_encode_there(primary->encoder, page, batch);
}

static gboolean send_pages(struct sync *sync, const GArray *pages, GByteArray **batches)
{
	ckpt_primary *primary = sync->primary;

	for (guint i = 0; i < pages->len; i++) {
		guint32 page = g_array_index(pages, guint32, i);
		guint lane = ckpt_lane_of(page, primary->options.connections);
		gboolean full;

		encode_page(primary, page, batches[lane]);
		sync->looked_at += CKPT_PAGE;
		sync->progress.memory_left = (guint64)(pages->len - i - 1) * CKPT_PAGE;
		full = batches[lane]->len > BATCH_ENOUGH;
		if (full && (!ckpt_primary_send_sync(primary, lane, &batches[lane]) ||
			     !keep_to_limit(sync)))
			return FALSE;
		if ((full || i % TURN_PAGES == 0) && !turn_to_disks(sync))
			return FALSE;
	}
	for (guint lane = 0; lane < primary->options.connections; lane++)
		if (!ckpt_primary_send_sync(primary, lane, &batches[lane]))
			return FALSE;
	return keep_to_limit(sync);
}

static gboolean send_round(struct sync *sync, const GArray *pages)
{
	GByteArray *batches[CKPT_LANES_MAX];
	guint lanes = sync->primary->options.connections;
	gboolean ok;

	for (guint lane = 0; lane < lanes; lane++)
		batches[lane] = g_byte_array_new();
	ok = send_pages(sync, pages, batches);
	for (guint lane = 0; lane < lanes; lane++)
		g_byte_array_unref(batches[lane]);
	return ok;
}

static gboolean finish_disks(struct sync *sync)
{
	gint64 patience_us = (gint64)sync->primary->options.answer_ms * 1000;
	gint64 moved_us = g_get_monotonic_time();
	guint64 left = G_MAXUINT64;

	for (;;) {
		guint seen = news(sync->primary);

		if (!turn_to_disks(sync))
			return FALSE;
		if (!sync->progress.disks_left)
			return TRUE;
		if (sync->progress.disks_left != left || !pace_is_free(&sync->pace))
			moved_us = g_get_monotonic_time();
		left = sync->progress.disks_left;
		if (g_get_monotonic_time() - moved_us > patience_us) {
			ckpt_link_refuse(sync->primary->link,
					 "a disk on either side stands still");
			return FALSE;
		}
		if (!wait_for_news(sync, seen))
			return FALSE;
	}
}

static void collect_only(void *data)
{
	ckpt_primary *primary = data;

	if (!vmm_machine_collect(primary->machine, primary->collected,
				 &primary->cut_error))
		g_debug("sync: %s", primary->cut_error->message);
}

/* What became dirty becomes pending. */
static gboolean collect(ckpt_primary *primary)
{
	if (!ckpt_primary_at_rest(primary, collect_only))
		return FALSE;
	ckpt_primary_sort_pages(primary->collected);
	g_array_set_size(primary->pending, 0);
	g_array_append_vals(primary->pending, primary->collected->data,
			    primary->collected->len);
	return TRUE;
}

static void log_end(const struct sync *sync)
{
	guint64 equal = 0, sent = 0;

	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		equal += sync->progress.disks[i].equal;
		sent += sync->progress.disks[i].data + sync->progress.disks[i].zeroes;
	}
	g_info("sync rounds=%u memory_bytes=%" G_GUINT64_FORMAT
	       " disk_equal_bytes=%" G_GUINT64_FORMAT
	       " disk_sent_bytes=%" G_GUINT64_FORMAT " wire_bytes=%" G_GUINT64_FORMAT
	       " ms=%" G_GUINT64_FORMAT,
	       sync->progress.round, sync->looked_at, equal, sent,
	       sync->progress.wire_bytes,
	       (base_clock_monotonic_ns() - sync->start_ns) / 1000000);
}

/* What the secondary has at first: its memory was cleared. */
static void know_zeros(ckpt_primary *primary)
{
	static const guint8 zeros[CKPT_PAGE];
	struct ckpt_digest digest = ckpt_digest_page(primary->digester, zeros);

	for (guint64 page = 0; page < primary->pages; page++)
		primary->known[page] = digest;
}

static void list_range(ckpt_primary *primary, off_t from, off_t to)
{
	for (; from < to; from += CKPT_PAGE) {
		guint32 page = (guint32)(from / CKPT_PAGE);

		g_array_append_val(primary->pending, page);
	}
}

/* All pages that there are become pending. One that was never touched is a hole in the memory's
 * file, and reading it would only make it cost memory; if it is touched now it becomes dirty.
 * A private memory (of a secondary that was promoted) has pages that are not in the file. */
static void list_present(ckpt_primary *primary)
{
	int fd = vmm_memory_fd(primary->memory);
	off_t end = (off_t)vmm_memory_bytes(primary->memory), from, to;

	know_zeros(primary);
	g_array_set_size(primary->pending, 0);
	if (vmm_memory_is_private(primary->memory)) {
		list_range(primary, 0, end);
		return;
	}
	for (from = lseek(fd, 0, SEEK_DATA); from >= 0 && from < end;
	     from = lseek(fd, to, SEEK_DATA)) {
		to = lseek(fd, from, SEEK_HOLE);
		if (to <= from)
			to = end;
		list_range(primary, from, to);
	}
}

gboolean ckpt_primary_sync(ckpt_primary *primary)
{
	struct sync sync = { .primary = primary,
			     .pace = { .limit = primary->options.sync_bytes_per_s },
			     .start_ns = base_clock_monotonic_ns() };
	guint rest = MIN(REST_PAGES, (guint)primary->pages / 4);

	if (!vmm_machine_track(primary->machine, TRUE, &primary->cut_error))
		return FALSE;
	list_present(primary);
	do {
		sync.progress.round++;
		if (!send_round(&sync, primary->pending) || !finish_disks(&sync) ||
		    !collect(primary))
			return FALSE;
		ckpt_fault(CKPT_FAULT_SYNC_ROUND);
		g_info("sync round=%u dirty=%u bytes=%" G_GUINT64_FORMAT,
		       sync.progress.round, primary->pending->len, primary->now.bytes);
	} while (sync.progress.round < ROUNDS_MAX && primary->pending->len > rest);
	log_end(&sync);
	ckpt_fault(CKPT_FAULT_SYNC_ENDS);
	return ckpt_lanes_say_end(primary->lanes);
}
