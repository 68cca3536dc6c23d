/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether both sides hold the same (--verify), for tests. At each checkpoint:
 *
 * - Memory: a digest of every page, from the primary at the cut, and of the secondary's when
 *   it was applied. Proves that all of memory is equal, whatever was thought to be dirty.
 * - Devices and vCPUs: what the secondary would save before it runs again, against the state
 *   that it was sent (vmm_machine_difference(), which leaves out what is time).
 * - Disks: a digest of each range that the primary's guest wrote since the last cut, as it
 *   handed it to its own disk, against what the secondary's disk shows there after the commit
 *   (the disk itself under what is still on its way to it). Proves that no write of the epoch
 *   was lost, misplaced, taken twice or in another order; not that a disk keeps what it is
 *   given, nor what no guest wrote.
 */
#ifndef CKPT_VERIFY_H
#define CKPT_VERIFY_H

#include "checkpoint/protocol.h"
#include "kvm/memory.h"

/* A digest for each page of guest memory, as the guest sees it, to `digests`. At rest. About
 * 0.2 s per GiB. */
void ckpt_verify_pages(const vmm_memory *memory, guint64 *digests);
/* NULL where memory has these digests; else which pages differ, in words. Caller frees. */
char *ckpt_verify_difference(const vmm_memory *memory, const guint64 *digests);

/* Reads what the disk shows, `bytes` being 4096-aligned. */
typedef gboolean (*ckpt_verify_read)(void *data, guint disk, guint64 offset, void *bytes,
				     gsize len, GError **error);
/* NULL where the disk shows what this digest is of; else what differs, or why it cannot be
 * read, in words. Caller frees. `scratch`: CKPT_VERIFY_RANGE_MAX bytes, 4096-aligned. */
char *ckpt_verify_disk_difference(const struct ckpt_verify_range *range,
				  ckpt_verify_read read, void *data, void *scratch);

#endif
