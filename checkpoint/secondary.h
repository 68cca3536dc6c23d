/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's side of the epochs: receives, commits and applies checkpoints, and runs its
 * guest in between. Before the first commit there is nothing to promote.
 *
 * Everything happens on the link's receiving thread, but for pages of first sync on further
 * connections (checkpoint/lanes.h), which are all here before the first checkpoint. One is
 * applied as a whole on that thread, so whoever stops the link finds either the old or the new
 * one.
 */
#ifndef CKPT_SECONDARY_H
#define CKPT_SECONDARY_H

#include "checkpoint/hello.h"
#include "checkpoint/link.h"

/* What goes along with the pages; see checkpoint/node.h. Holding the device lock. A message
 * that is not right is refused with a reason (static text). Any may be NULL: then such
 * messages are refused. */
struct ckpt_twin_streams {
	void *data;
	/* A link begins, and numbers with it; NULL: it has ended. The session's secret is for
	 * digests. */
	void (*start)(void *data, ckpt_link *link, const guint8 *secret);
	/* From now on `need` is to be called where a checkpoint is due, with why, holding the
	 * device lock; the primary is asked once for each reason and epoch. NULL: no longer. */
	void (*set_need)(void *data,
			 void (*need)(void *need_data, enum ckpt_reason reason),
			 void *need_data);
	/* A CKPT_INPUT message's payload; NULL or why not. */
	const char *(*input)(void *data, const void *payload, gsize len);
	/* A CKPT_ADDRESSES message's payload; NULL or why not. */
	const char *(*addresses)(void *data, const void *payload, gsize len);
	/* Whether somebody listens to what the guest sends: then it goes to the link, as
	 * CKPT_OUTPUT. */
	void (*listen)(void *data, gboolean on);
	/* A CKPT_FILTER message's payload, for the checkpoint that comes next; NULL or why
	 * not. It counts with `applied`. */
	const char *(*filter)(void *data, const void *payload, gsize len);
	/* A CKPT_DISK_WRITE; `first_sync`: before the first cut. */
	const char *(*disk_write)(void *data, const struct ckpt_disk_head *head,
				  const void *bytes, gsize len, gboolean first_sync);
	/* A CKPT_SYNC_DISK message's payload; only before the first cut. */
	const char *(*sync_disk)(void *data, const void *payload, gsize len);
	/* What the disk would show to the guest of the last checkpoint, for --verify. See
	 * ckpt_disk_twins_read(). */
	gboolean (*disk_read)(void *data, guint disk, guint64 offset, void *bytes, gsize len,
			      GError **error);
	/* Whether all up to these numbers is here, and of a filter's state all parts. */
	gboolean (*may_commit)(void *data, guint64 input, guint64 disk);
	/* A checkpoint that covers all up to these numbers was applied. At rest. */
	void (*applied)(void *data, guint64 epoch, guint64 input, guint64 disk);
	/* TRUE while too much that was committed is not on the disk yet: the next checkpoint
	 * waits. */
	gboolean (*is_behind)(void *data);
	/* What no checkpoint covers is dropped, and the guest's devices are the real ones from
	 * here on. At rest or running. */
	void (*promote)(void *data);
};

struct ckpt_secondary_hooks {
	/* Any may be NULL. On the link's threads. */
	void (*committed)(void *data, guint64 epoch);
	/* `end`: what the primary said, if it did. */
	void (*lost)(void *data, enum ckpt_ending end, const char *why);
};

struct ckpt_secondary_options {
	guint silence_ms; /* without a word from the primary it is lost; 0: as that says */
	guint hello_ms; /* for its first message; 0: 10000 */
	/* Pages of its guest's own, beside the base, from which a checkpoint is asked for and
	 * some are given up; 0: a tenth of memory. The guest is looked at every 20 ms while it
	 * runs, so what it writes in that time comes on top. */
	guint64 private_max;
};

typedef struct ckpt_secondary ckpt_secondary;

/* Takes the channel. The machine is PREPARED for a load, over private memory, or was a
 * secondary before and is paused. */
ckpt_secondary *ckpt_secondary_new_take(vmm_machine *machine, base_channel *channel,
					const struct ckpt_secondary_options *options,
					const struct ckpt_twin_streams *streams,
					const struct ckpt_secondary_hooks *hooks, void *data,
					GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A further connection whose first message was this. Takes the channel, which becomes NULL, or
 * returns why it is not wanted (static text). Any thread. */
const char *ckpt_secondary_join(ckpt_secondary *secondary, const struct ckpt_join *join,
				base_channel **channel) G_GNUC_WARN_UNUSED_RESULT;
/* Ends the link and leaves the machine as it is. */
void ckpt_secondary_free(ckpt_secondary *secondary);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_secondary, ckpt_secondary_free)

/* Ends the link, whatever it was at, and makes the guest run: from the last commit if its own
 * run rested, or from where it is. CKPT_ERROR_MODE, and nothing done, before the first
 * commit. Afterwards free this. Not on the link's threads. */
gboolean ckpt_secondary_promote(ckpt_secondary *secondary, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* Ends the link for this reason, which the primary is told. Any thread; never waits. */
void ckpt_secondary_refuse(ckpt_secondary *secondary, const char *why);
/* Whether a promotion would have something to go on with. */
gboolean ckpt_secondary_is_promotable(ckpt_secondary *secondary);
/* Whether the last commit is the primary's last: its guest does not go on from there by itself. */
gboolean ckpt_secondary_is_handed(ckpt_secondary *secondary);
/* The last committed epoch; 0: none. */
guint64 ckpt_secondary_epoch(ckpt_secondary *secondary);

#endif
