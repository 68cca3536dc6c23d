/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What kvm/vcpu.c and kvm/vcpu_state.c share. */
#ifndef VMM_VCPU_PRIVATE_H
#define VMM_VCPU_PRIVATE_H

#include "kvm/vcpu.h"

#define VMM_MSRS_MAX 384

/* KVM's own structures: a stable binary interface, little-endian on x86. */
struct vmm_vcpu_copy {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_xsave *xsave; /* hv->xsave_size bytes */
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[VMM_MSRS_MAX];
	} msrs;
};

struct vmm_vcpu {
	struct vmm_hypervisor *hv;
	guint id;
	int fd;
	struct kvm_run *run;
	char *failure;
	struct vmm_vcpu_copy copy;
};

/* Finds out which MSRs this vCPU can save. */
void vmm_vcpu_state_init(vmm_vcpu *vcpu);
void vmm_vcpu_state_clear(vmm_vcpu *vcpu);

#endif
