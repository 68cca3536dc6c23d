/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the primary's side share: primary.c (its life, and when to cut), sync.c
 * (first sync) and ship.c (one checkpoint's content on its way). All of it is the checkpoint
 * thread's, but for what is under the lock. */
#ifndef CKPT_PRIMARY_PRIVATE_H
#define CKPT_PRIMARY_PRIVATE_H

#include "checkpoint/lanes.h"
#include "checkpoint/primary.h"
#include "kvm/stage.h"

#define CKPT_NO_SLOT G_MAXUINT32

struct ckpt_primary {
	vmm_machine *machine;
	vmm_memory *memory;
	guint64 pages;
	guint nets;
	struct ckpt_primary_options options;
	struct ckpt_streams streams;
	struct ckpt_primary_hooks hooks;
	void *data;
	guint8 secret[CKPT_SECRET]; /* the session's */
	ckpt_link *link;
	ckpt_lanes *lanes; /* besides it */
	GThread *thread;

	/* Of the checkpoint thread alone. */
	ckpt_digester *digester;
	ckpt_encoder *encoder;
	struct ckpt_digest *known; /* per page: what the secondary's base holds */
	vmm_stage *stage, *last; /* this checkpoint's content, the last one's */
	guint32 *slots; /* per page: its place in `last`; CKPT_NO_SLOT */
	gulong *seen; /* a bit per page, for making lists unique */
	GArray *pending; /* pages that sync still owes */
	GArray *collected; /* of this cut */
	vmm_state *state_bytes;
	GByteArray *state_before; /* of the last checkpoint that was committed */
	guint64 epoch;
	double twin_share; /* of digests that matched lately */
	guint64 cut_ns, cut_before_ns; /* when the last cut was, and the one before */
	struct ckpt_checkpoint_stats now; /* of the checkpoint under way */
	struct ckpt_cut cut;
	GError *cut_error;
	guint64 *verify; /* a digest of each page at the cut; NULL: not asked for */
	GArray *verify_disk; /* struct ckpt_verify_range */

	enum ckpt_ending end; /* its owner's: what the secondary is to be told */

	GMutex lock; /* of what follows */
	GCond changed;
	enum ckpt_primary_state state;
	enum ckpt_mode mode;
	gboolean stop, lost;
	gboolean listening, listened; /* now; at any time */
	guint requested; /* a bit per enum ckpt_reason */
	enum ckpt_reason parting; /* HANDOVER or ENDED: the last checkpoint is to come; or 0 */
	guint64 parted; /* its epoch, once it is cut */
	guint64 committed, applied; /* epochs */
	guint64 output; /* epoch of the last outputs */
	struct ckpt_applied apply;
	guint64 asking, ended; /* of which questions, and END, were sent */
	guint questions, replies; /* DIGESTS and WANTED messages of this checkpoint so far */
	GArray *wanted; /* page numbers in them; ours alone once all replies are there */
	gboolean have_stats;
	struct ckpt_checkpoint_stats stats;
	struct ckpt_sync_progress sync;
	guint sync_news; /* what the secondary said of its disks so far */
};

/* Whether two pages are the same. */
static inline gboolean ckpt_primary_same(struct ckpt_digest a, struct ckpt_digest b)
{
	return a.low == b.low && a.high == b.high;
}

/* TRUE when it is over; with the lock held. */
gboolean ckpt_primary_is_over(const ckpt_primary *primary);
/* Waits for word from the secondary, with the lock held. FALSE: over, or it has been longer
 * than it may take since `start_us`; then the link is refused. */
gboolean ckpt_primary_wait_for_word(ckpt_primary *primary, gint64 start_us,
				    const char *what);
/* Runs `fn` with the machine at rest; FALSE, with `cut_error`, if that or what it did failed. */
gboolean ckpt_primary_at_rest(ckpt_primary *primary, void (*fn)(void *data));

/* sync.c: fills the secondary until the rest fits one checkpoint; what is left is in `pending`.
 * FALSE: over, or `cut_error`. */
gboolean ckpt_primary_sync(ckpt_primary *primary);

/* ship.c */

/* Sends a batch of pages or digests, which becomes an empty one; nothing if it is empty. FALSE:
 * over. */
gboolean ckpt_primary_send_batch(ckpt_primary *primary, guint16 type, GByteArray **batch);
/* The same over one of the connections of first sync. */
gboolean ckpt_primary_send_sync(ckpt_primary *primary, guint lane, GByteArray **batch);
/* Whether a batch has no room for another page. */
gboolean ckpt_primary_is_full(const GByteArray *batch);
/* The decoder wants growing numbers, and both sides' memory likes them. */
void ckpt_primary_sort_pages(GArray *pages);
/* Sends what was cut, from its CUT to its END. `run`: the secondary's guest runs. */
gboolean ckpt_primary_ship(ckpt_primary *primary, gboolean run);

#endif
