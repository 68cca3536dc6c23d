/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /dev/kvm: what this host's KVM can do, and one virtual machine's descriptor. */
#ifndef VMM_HYPERVISOR_H
#define VMM_HYPERVISOR_H

#include <glib.h>
#include <linux/kvm.h>

#include "kvm/memory.h"

/* Facts about the host's KVM, found by asking it, never by the name of the hardware. */
struct vmm_hypervisor {
	int kvm_fd;
	int vm_fd;
	guint run_size; /* bytes of a vCPU's shared kvm_run mapping */
	guint ring_entries; /* largest dirty ring per vCPU; 0: none */
	gboolean manual_protect; /* dirty log without implicit re-protection */
	gboolean tsc_deadline;
	gboolean tsc_control; /* TSC frequency can be scaled */
	gboolean any_length_eventfd;
	gboolean xcrs, triple_fault_event, exception_payload;
	guint xsave_size; /* bytes of KVM_GET_XSAVE2 */
	GArray *msrs; /* guint32: numbers that can be saved */
};

/* Opens /dev/kvm, creates a VM with in-kernel interrupt controllers and timer, and asks
 * for all of the above. VMM_ERROR_HOST names what is missing. */
gboolean vmm_hypervisor_open(struct vmm_hypervisor *hv, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
void vmm_hypervisor_close(struct vmm_hypervisor *hv);

/* Tells KVM of the memory's banks, slot i being bank i. `log`: with dirty logging. */
gboolean vmm_hypervisor_set_memory(struct vmm_hypervisor *hv, const vmm_memory *memory,
				   gboolean log, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
