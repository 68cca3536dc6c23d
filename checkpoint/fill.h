/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's memory during first sync: pages go into the base as they come, by writing
 * to its file. A fault for each page, and the zeroing that goes with it, would take longer
 * than all the rest of receiving it. A page of zeros that was nothing else before costs
 * nothing, and no memory either.
 *
 * It has a thread that writes. One other thread calls it, and nobody looks at the base between
 * a put and the flush.
 */
#ifndef CKPT_FILL_H
#define CKPT_FILL_H

#include "checkpoint/pages.h"
#include "kvm/memory.h"

typedef struct ckpt_filler ckpt_filler;

/* `memory` was cleared (vmm_memory_clear()) and outlives it. */
ckpt_filler *ckpt_filler_new(vmm_memory *memory);
void ckpt_filler_free(ckpt_filler *filler);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_filler, ckpt_filler_free)

/* One page, which exists; `content` is copied. FALSE: the host had no room for it or for one
 * before. */
gboolean ckpt_filler_put(ckpt_filler *filler, guint32 page,
			 const void *content) G_GNUC_WARN_UNUSED_RESULT;
/* Waits until all that was put is in the base. */
gboolean ckpt_filler_flush(ckpt_filler *filler) G_GNUC_WARN_UNUSED_RESULT;

#endif
