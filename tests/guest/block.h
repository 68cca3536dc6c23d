/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block.h - virtio-blk: writes and reads of known content, and a background journal.
 *
 * Sector s written with a seed holds 64 words, word[i] = mix64(seed ^ mix64(s)) +
 * i * 0x9e3779b97f4a7c15. All functions are for the first vCPU.
 */
#ifndef GUEST_BLOCK_H
#define GUEST_BLOCK_H

#include "types.h"
#include "virtio.h"

enum block_kind { BLOCK_WRITE, BLOCK_VERIFY, BLOCK_FLUSH, BLOCK_DISCARD };

struct block_result {
	u64 bad, errors, ns;
};

/* Of a request that nobody waits for; `data` is what was read, valid during the call.
 */
typedef void (*block_done)(bool good, const u8 *data);

void block_init(void);
void block_poll(void);
u32 block_disks(void);
struct virtio *block_device(u32 disk);
u64 block_capacity(u32 disk);
/* NULL, or what went wrong. Several requests at a time; waits for all. */
const char *block_transfer(u32 disk, enum block_kind kind, u64 sector, u64 count,
			   u64 seed, struct block_result *result);
/* One request, of at most 128 sectors; block_poll() calls `done`. BLOCK_VERIFY reads,
 * and BLOCK_WRITE writes `data`. False: there is no room now, or the disk cannot. */
bool block_submit(u32 disk, enum block_kind kind, u64 sector, u64 count,
		  const void *data, block_done done);
/* `rate` operations a second on 256 slots of 4 KiB from the middle of the disk. `wild`:
 * two runs from one state write different things to different places, so that neither
 * hides what is left of the other. */
const char *block_journal_start(u32 disk, u64 rate, bool wild);
void block_journal_stop(void);
/* Reads the slots that were written, `slots` of them; what is wrong counts as bad.
 * `empty`: the others too, which must hold zeros. NULL, or what went wrong. */
const char *block_journal_check(bool empty, u32 *slots);
void block_journal_report(char *out, u32 size);

#endif
