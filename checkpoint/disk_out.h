/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's disks: what the guest writes goes to its own disk and, numbered, to the
 * secondary.
 *
 * While forwarding is on, every write, discard and zeroing gets the next number of one
 * sequence over all disks, in the order in which they are submitted, and is handed to
 * `send` before its own disk gets it. Reads and flushes pass; a flush is the own disk's
 * (a real one). The secondary gets what was submitted, not what succeeded: a write that
 * fails here may be there, which is what a guest must expect of a write that failed.
 * Writes that overlap and are in flight at the same time reach the secondary in the
 * order submitted, and this disk in any: a guest that does so can read either.
 *
 * A device that is reset forgets its requests. What the secondary was sent is carried
 * out here all the same, before anything that is submitted later: else the two disks
 * would differ for good.
 *
 * What this disk refuses can be kept instead of answered: whoever loads the guest's state
 * on another host gives it to a disk that may be sound, and the guest never learns.
 *
 * Everything with the device lock.
 */
#ifndef CKPT_DISK_OUT_H
#define CKPT_DISK_OUT_H

#include "checkpoint/protocol.h"
#include "kvm/block.h"
#include "kvm/machine.h"

/* Bytes of data in one message: a longer write is sent as several, each with a number.
 */
#define CKPT_DISK_DATA_MAX (1u << 20)

typedef struct ckpt_disk_out ckpt_disk_out;

/* `send` copies what it needs (`bytes`: head->length of them, NULL unless a WRITE),
 * never blocks and never calls back. */
typedef void (*ckpt_disk_send_fn)(void *data, const struct ckpt_disk_head *head,
				  const void *bytes);
ckpt_disk_out *ckpt_disk_out_new(ckpt_disk_send_fn send, void *data);
/* After the disks. */
void ckpt_disk_out_free(ckpt_disk_out *out);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_disk_out, ckpt_disk_out_free)

/* Takes the disk below, and returns the one for the guest. `index` is below
 * VMM_DISKS_MAX, each once; `out` outlives the disk. The one below may be a twin
 * (checkpoint/disk_twin.h): with forwarding off nothing is held back from it. */
struct vmm_disk *ckpt_disk_out_new_take(struct vmm_disk *real_take, guint index,
					ckpt_disk_out *out);

/* On: numbers begin with 1, and what is in flight at this moment is sent first, so that
 * the secondary misses nothing that a read of the disk after this may not show. */
void ckpt_disk_out_forward(ckpt_disk_out *out, gboolean on);
/* `kept` not NULL: from now on a request that the disk below refuses is kept, and so is
 * what comes for that disk after it. `kept` gets the first one of each disk, and -errno;
 * it must not call back. NULL: no more; what is kept is due to be answered. */
typedef void (*ckpt_disk_kept_fn)(void *data, guint disk,
				  const struct vmm_disk_request *request, int error);
void ckpt_disk_out_keep(ckpt_disk_out *out, ckpt_disk_kept_fn kept);
/* Gives what was kept the disk's answers, or to the disk, where nothing is to be kept any
 * more. From a handler of the loop. */
void ckpt_disk_out_answer_kept(ckpt_disk_out *out);
/* The last number given: 0 if none. For the cut. */
guint64 ckpt_disk_out_number(const ckpt_disk_out *out);

/* For --verify: digests of what was submitted since the last call, or since the first one,
 * which finds nothing, each byte as it was written last: struct ckpt_verify_range to `ranges`
 * (emptied first), at most CKPT_VERIFY_RANGES_MAX. Costs a copy of all that is written. */
void ckpt_disk_out_digests(ckpt_disk_out *out, GArray *ranges);

/* For the first sync (checkpoint/disk_sync.h). */

/* `wrote`: a write of this disk was sent. `batch_done`: after completions, the place to
 * submit more. One watcher for each disk; NULL: none. */
struct ckpt_disk_watcher {
	void *data;
	void (*wrote)(void *data, guint64 offset, guint64 len);
	void (*batch_done)(void *data);
};
void ckpt_disk_out_watch(ckpt_disk_out *out, guint index,
			 const struct ckpt_disk_watcher *watcher);
/* Calls `wrote` of the watcher for each write that is in flight. */
void ckpt_disk_out_show_in_flight(ckpt_disk_out *out, guint index);
/* The disk below, for requests beside the guest's; NULL: there is no such disk. */
struct vmm_disk *ckpt_disk_out_below(ckpt_disk_out *out, guint index);

#endif
