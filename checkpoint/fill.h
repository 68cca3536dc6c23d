/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's memory during first sync: pages go into the base as they come, by writing
 * to its file. A fault for each page, and the zeroing that goes with it, would take longer
 * than all the rest of receiving it. A page of zeros that was nothing else before costs
 * nothing, and no memory either.
 *
 * One thread. Several fillers may be at one memory if each has pages of its own.
 */
#ifndef CKPT_FILL_H
#define CKPT_FILL_H

#include "checkpoint/pages.h"
#include "kvm/memory.h"

typedef struct ckpt_filler ckpt_filler;

/* `memory` was cleared (vmm_memory_clear()). Of the lanes of a first sync (ckpt_lane_of()) it
 * takes the pages of `lane`. All fillers of one memory share `turn`. Both outlive it. */
ckpt_filler *ckpt_filler_new(vmm_memory *memory, GMutex *turn, guint lane, guint lanes);
void ckpt_filler_free(ckpt_filler *filler);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_filler, ckpt_filler_free)

/* Writes a batch that came from outside into the base; it is there on return. FALSE, with the
 * reason in `why` (static text), where the batch is not right or the host has no room: what
 * came before that was written. */
gboolean ckpt_filler_take(ckpt_filler *filler, const void *batch, gsize len,
			  const char **why) G_GNUC_WARN_UNUSED_RESULT;

#endif
