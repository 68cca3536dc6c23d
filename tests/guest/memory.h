/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory.h - RAM, and the work area: all of it past 32 MiB, every page of it modelled.
 *
 * A page is either untouched or holds word[i] = tag + i * 0x9e3779b97f4a7c15 for
 * its 512 words, tag = mix64(seed ^ mix64(gfn << 32 | counter)) with the low byte 0 and
 * never 0 itself; `touch` then puts one byte over byte 0. The model, one word a page
 * (tag | touched byte), lies in RAM too, at the start of the work area.
 */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include "types.h"

void memory_init(const u8 *boot_params);
/* Bytes for drivers, page aligned, zero, for good; only before memory_seal(). */
void *memory_take(u64 bytes);
/* What is left becomes the work area. */
void memory_seal(void);
u64 memory_pages(void);
u64 memory_total(void);
/* Is all of it RAM? */
bool memory_is_ram(u64 start, u64 length);

/* `index` counts pages of the work area. Any vCPU. */
void memory_dirty(u64 index, u64 seed, u32 counter);
void memory_touch(u64 first, u64 pages);
/* Checks pages from `first`; the number of bad ones. `bad_gfn` is the first. Untouched
 * ones are checked only for `all`, which is for a machine whose RAM started as zero. */
u64 memory_verify(u64 first, u64 pages, bool all, u64 *bad_gfn);

#endif
