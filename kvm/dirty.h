/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages the vCPUs wrote: one interface over KVM's dirty ring and its dirty log with
 * manual protection (Documentation/virt/kvm/api.rst, 8.29 and 4.117). The pages that
 * devices wrote come from kvm/memory.h and are merged in.
 */
#ifndef VMM_DIRTY_H
#define VMM_DIRTY_H

#include "kvm/hypervisor.h"
#include "kvm/machine.h"

typedef struct vmm_dirty vmm_dirty;

/* Before any vCPU is made: the ring must be chosen then. VMM_ERROR_HOST where `method` was
 * asked for and the host lacks it; AUTO takes what there is. */
vmm_dirty *vmm_dirty_new(struct vmm_hypervisor *hv, vmm_memory *memory,
			 enum vmm_dirty_method method, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
void vmm_dirty_free(vmm_dirty *dirty);
const char *vmm_dirty_name(const vmm_dirty *dirty); /* "ring", "bitmap" */
/* After the vCPU is made. */
gboolean vmm_dirty_add_vcpu(vmm_dirty *dirty, guint id, int vcpu_fd, GError **error);

/* The device lock is held now and then, but not while KVM changes its memory slots: that waits
 * for every reader of them to have gone, which takes as long as the host is busy. One thread at
 * a time, without the lock. */
gboolean vmm_dirty_start(vmm_dirty *dirty, vmm_loop *loop, GError **error);
gboolean vmm_dirty_stop(vmm_dirty *dirty, vmm_loop *loop, GError **error);
gboolean vmm_dirty_started(const vmm_dirty *dirty);

/* vCPU `id` left KVM because its ring is full: makes room. On that vCPU's thread. */
void vmm_dirty_ring_full(vmm_dirty *dirty, guint id);
/* Appends each page that changed since the last collection once; from now on each counts
 * as clean. All vCPUs out of KVM_RUN, holding the device lock. Costs what is dirty (and,
 * for the bitmap, 32 KiB of scanning per GiB). FALSE: pages may have been missed; only
 * stopping, starting and taking all pages as changed mends that. */
gboolean vmm_dirty_collect(vmm_dirty *dirty, GArray *pages, GError **error);
/* Appends each page that changed since the last collection once, and changes nothing: the
 * vCPUs may run, and write on. Holding the device lock. Costs what is dirty (for the bitmap,
 * a copy and a scan of 32 KiB per GiB). Nothing where nothing is tracked. */
void vmm_dirty_peek(vmm_dirty *dirty, GArray *pages);

#endif
