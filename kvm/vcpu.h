/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual processor: running it until something must be looked at, and its complete
 * state. The thread that runs it is kvm/crew.h's.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include "kvm/cpuid.h"
#include "kvm/hypervisor.h"
#include "kvm/platform.h"
#include "kvm/state.h"

typedef struct vmm_vcpu vmm_vcpu;

enum vmm_exit {
	VMM_EXIT_DONE, /* an exit was handled; run on */
	VMM_EXIT_INTERRUPTED, /* nothing is pending: the state can be read */
	VMM_EXIT_RING_FULL, /* see vmm_dirty_ring_full() */
	VMM_EXIT_RESET, /* triple fault */
	VMM_EXIT_FAILED, /* KVM cannot go on; vmm_vcpu_failure() says why */
};

vmm_vcpu *vmm_vcpu_new(struct vmm_hypervisor *hv, guint id, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* Gives it its CPUID and captures its power-on state. Once, before it runs. */
gboolean vmm_vcpu_set_cpuid(vmm_vcpu *vcpu, const vmm_cpuid *cpuid, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
void vmm_vcpu_free(vmm_vcpu *vcpu);
guint vmm_vcpu_id(const vmm_vcpu *vcpu);
int vmm_vcpu_fd(const vmm_vcpu *vcpu);

/* Enters KVM once and handles the exit, taking the device lock for port and MMIO accesses.
 * An access's result reaches the guest only with the next call, so a vCPU may be stopped
 * only after VMM_EXIT_INTERRUPTED. On the vCPU's thread. */
enum vmm_exit vmm_vcpu_run(vmm_vcpu *vcpu, const struct vmm_platform *platform);
/* Makes the current or next vmm_vcpu_run() return VMM_EXIT_INTERRUPTED as soon as nothing is
 * pending, provided that its thread gets a signal after this. Any thread. */
void vmm_vcpu_interrupt(vmm_vcpu *vcpu);
/* Ends that request. On the vCPU's thread. */
void vmm_vcpu_clear_interrupt(vmm_vcpu *vcpu);
const char *vmm_vcpu_failure(const vmm_vcpu *vcpu);

/* Reads everything from KVM into the vCPU's own copy. All vCPUs must be stopped and devices
 * still: an interrupt that arrives between two vCPUs' capture would be lost. */
gboolean vmm_vcpu_capture(vmm_vcpu *vcpu, GError **error);
/* Gives the copy back to KVM, in the order that KVM needs, but for time: see kvm/clock.h
 * and vmm_vcpu_restore_deadline(). */
gboolean vmm_vcpu_restore(vmm_vcpu *vcpu, GError **error);
/* The last step of a restore, after the guest's TSC is set: the timer's deadline, moved by
 * `tsc_shift` (see vmm_clock_restore()). */
gboolean vmm_vcpu_restore_deadline(vmm_vcpu *vcpu, guint64 tsc_shift, GError **error);
/* Tells the guest's clock watchdog that it was stopped. Before it runs again. */
void vmm_vcpu_tell_stopped(vmm_vcpu *vcpu);

/* The vCPU's copy: registers of the boot processor's first instruction. */
struct kvm_regs *vmm_vcpu_regs(vmm_vcpu *vcpu);
struct kvm_sregs2 *vmm_vcpu_sregs(vmm_vcpu *vcpu);
/* Value of an MSR in the copy; FALSE if it is not among those saved. */
gboolean vmm_vcpu_msr(const vmm_vcpu *vcpu, guint32 index, guint64 *value);
gboolean vmm_vcpu_set_msr(vmm_vcpu *vcpu, guint32 index, guint64 value);

/* The copy as sections "vcpu-*" with the vCPU's id as instance. */
void vmm_vcpu_save(const vmm_vcpu *vcpu, vmm_state *state);
/* CHECK judges; APPLY puts the sections into the copy, for vmm_vcpu_restore(). */
gboolean vmm_vcpu_load(vmm_vcpu *vcpu, const vmm_state *state, enum vmm_load pass,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A vmm_state_judge for those sections: what is time, or a timer's interrupt, is let pass, and
 * what KVM works out from the rest. */
gboolean vmm_vcpu_judge_difference(const char *section, const guint8 *payload, gsize at,
				   char **name);

/* The guest's TSC counter as an offset to the host's (KVM_VCPU_TSC_OFFSET); FALSE where
 * this host's KVM does not do that. */
gboolean vmm_vcpu_get_tsc_offset(const vmm_vcpu *vcpu, guint64 *offset);
gboolean vmm_vcpu_set_tsc_offset(vmm_vcpu *vcpu, guint64 offset);
/* The guest's TSC now, as KVM tells it. */
gboolean vmm_vcpu_get_tsc(const vmm_vcpu *vcpu, guint64 *tsc);
guint vmm_vcpu_tsc_khz(const vmm_vcpu *vcpu);
gboolean vmm_vcpu_set_tsc_khz(vmm_vcpu *vcpu, guint khz);

#endif
