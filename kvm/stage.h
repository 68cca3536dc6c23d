/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of pages, taken while the guest stands still and read while it runs again. */
#ifndef VMM_STAGE_H
#define VMM_STAGE_H

#include "kvm/memory.h"

typedef struct vmm_stage vmm_stage;

/* Room for `pages` pages, made present now so that a copy never waits for memory. */
vmm_stage *vmm_stage_new(guint pages);
void vmm_stage_free(vmm_stage *stage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_stage, vmm_stage_free)

/* Replaces what was staged by copies of these pages. More than there is room for is
 * staged as well, after getting more memory, which takes its time. */
void vmm_stage_take(vmm_stage *stage, const vmm_memory *memory, const guint32 *pages,
		    guint count);
guint vmm_stage_count(const vmm_stage *stage);
guint32 vmm_stage_number(const vmm_stage *stage, guint index);
/* VMM_PAGE bytes, good until the next vmm_stage_take(). */
const guint8 *vmm_stage_content(const vmm_stage *stage, guint index);

#endif
