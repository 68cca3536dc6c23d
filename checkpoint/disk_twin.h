/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's disks. What its guest reads is, from the top:
 *
 *	own		what the running guest wrote in this epoch; in memory only
 *	committed	the primary's writes up to the last checkpoint, on their way to
 *			the disk
 *	the real disk
 *
 * and beside it held: the primary's writes that no checkpoint covers yet, seen by nobody.
 *
 * The guest's writes complete at once and its flushes mean nothing, until a promotion
 * makes `own` a part of the disk: then everything is written in order, and a flush
 * completes when all before it, the merge included, is durable. Discarded bytes read as
 * zeroes in every layer and become zeroes on the disk.
 *
 * Writes that overlap reach the real disk in the order committed, others in any. One
 * that fails is final: it and what follows stay in memory, so that reads go on to be
 * right, nothing more is written, and after a promotion the guest's writes and flushes
 * fail.
 *
 * Memory is bounded by asking for a checkpoint. If none comes, the guest's writes wait
 * (until the commit that makes them void, or the promotion that carries them out) rather
 * than fail: an error would be a file system gone read-only on the node that may have to
 * carry on. A primary that goes on sending is refused. Committed writes are bounded by
 * whoever commits: see `backlog_bytes`.
 *
 * Everything with the device lock, or while the loop has no thread.
 */
#ifndef CKPT_DISK_TWIN_H
#define CKPT_DISK_TWIN_H

#include "checkpoint/protocol.h"
#include "kvm/block.h"
#include "kvm/loop.h"
#include "kvm/machine.h"

/* Hooks must not call back. */
struct ckpt_disk_twin_hooks {
	void *data;
	/* A checkpoint is due (CKPT_REASON_DISK). At most once between two commits. */
	void (*need)(void *data);
	/* What was committed cannot be written to disk `index` (-errno in `error`), or the
	 * first sync cannot read it (VMM_DISK_READ): this node cannot be a secondary any
	 * more. Once for each disk, and not after a promotion has begun, which reports its
	 * own. */
	void (*failed)(void *data, guint index, enum vmm_disk_op op, int error);
};

/* Bytes of memory over all disks: from which a checkpoint is asked for, and which is
 * never exceeded. */
struct ckpt_disk_twin_limits {
	guint64 own_need, own_max, held_need, held_max;
};

typedef struct ckpt_disk_twins ckpt_disk_twins;

/* `hooks` and `limits` are copied. */
ckpt_disk_twins *ckpt_disk_twins_new(vmm_loop *loop,
				     const struct ckpt_disk_twin_hooks *hooks,
				     const struct ckpt_disk_twin_limits *limits);
/* While they are a secondary's, what was written to the real disks is flushed with the first
 * commit, or write that ends, by which the first of it is this old: a disk that cannot keep
 * what it took says so then, and `failed` is told; else a promotion would be the first to hear
 * of it. 0, as at first: never. */
void ckpt_disk_twins_flush_after(ckpt_disk_twins *twins, guint ms);
/* After the disks. */
void ckpt_disk_twins_free(ckpt_disk_twins *twins);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_disk_twins, ckpt_disk_twins_free)

/* Takes the real disk, and returns the one for the guest. `index` is below
 * VMM_DISKS_MAX, each once; `twins` outlives the disk. */
struct vmm_disk *ckpt_disk_twin_new_take(struct vmm_disk *real_take, guint index,
					 ckpt_disk_twins *twins);

/* A second face of the same disk (NULL: there is none with this index), without the guest's
 * own writes: for the first sync. Its writes are ordered with what is committed, by the order of
 * submit() and commit(). It goes with the twin; the user sets batch_done as for any disk. */
struct vmm_disk *ckpt_disk_twin_base(ckpt_disk_twins *twins, guint index);

/* Keeps a write of the primary aside; `data` is copied. FALSE, with the reason in `why`
 * (static text), where it is not the next number, does not fit the disk, or `held_max`
 * is reached: then nothing has changed, and the session is over. During the first sync
 * each is committed at once. */
gboolean ckpt_disk_twins_hold(ckpt_disk_twins *twins, const struct ckpt_disk_head *head,
			      const void *data, gsize len,
			      const char **why) G_GNUC_WARN_UNUSED_RESULT;
/* Whether a checkpoint can cover the writes up to `number`: all of them are here. */
gboolean ckpt_disk_twins_may_commit(const ckpt_disk_twins *twins, guint64 number);
/* The checkpoint that covers the writes up to `number` is applied, with the guest at
 * rest: `own` is dropped, the writes become committed and are on their way. Requests
 * that are out belong to the epoch that is gone: loading the checkpoint's state forgets
 * them. To be called before the loaded machine takes its requests up again
 * (vmm_machine's loaded step), since those belong to the new epoch. Never waits. */
void ckpt_disk_twins_commit(ckpt_disk_twins *twins, guint64 number);
/* What the disk would show if nothing of this epoch had happened: what is committed, over
 * what the real disk holds at this moment. For --verify: waits for the disk. `bytes` is
 * 4096-aligned; FALSE, with the reason, where it cannot be read. */
gboolean ckpt_disk_twins_read(ckpt_disk_twins *twins, guint index, guint64 offset,
			      void *bytes, gsize len, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* The connection is gone: drops what no checkpoint covers. The next session's numbers
 * begin with 1. */
void ckpt_disk_twins_drop_held(ckpt_disk_twins *twins);

/* The guest goes on from here, alone: drops what is held, and writes all the rest to
 * the disks. `done` is called once, from a handler of the loop: 0 when everything is
 * durable, or the first -errno. Requests work meanwhile and afterwards. Once; nothing
 * is held or committed after it. */
void ckpt_disk_twins_promote(ckpt_disk_twins *twins,
			     void (*done)(void *data, int error), void *data);

/* Memory by what it is for. `backlog_bytes`: committed and not on the disk yet; whoever
 * commits waits while it is too much. `waiting`: requests that `own_max` holds up. */
struct ckpt_disk_twin_counters {
	guint64 own_bytes, held_bytes, backlog_bytes;
	guint64 held_number, committed_number;
	guint waiting;
};
void ckpt_disk_twins_get_counters(const ckpt_disk_twins *twins,
				  struct ckpt_disk_twin_counters *counters);

#endif
