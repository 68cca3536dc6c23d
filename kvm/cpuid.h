/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest is told about its processor: what this host's KVM supports, less what
 * cannot be carried to another host or is kept from the guest (nested virtualization, PMU,
 * asynchronous page faults, ...), and for a named baseline nothing beyond it.
 */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include "kvm/cpuid_rows.h"
#include "kvm/hypervisor.h"
#include "kvm/state.h"

typedef struct vmm_cpuid vmm_cpuid;

/* `model`: "host", "x86-64-v2" or "x86-64-v3". `invariant_tsc`: whether it may be shown.
 * VMM_ERROR_HOST names the features that a baseline asks for and the host lacks;
 * VMM_ERROR_CONFIG for an unknown model. */
vmm_cpuid *vmm_cpuid_new(struct vmm_hypervisor *hv, const char *model, guint cpus,
			 gboolean invariant_tsc, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_cpuid_free(vmm_cpuid *cpuid);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_cpuid, vmm_cpuid_free)
gboolean vmm_cpuid_is_model(const char *model);

/* Gives vCPU `id` its table. */
gboolean vmm_cpuid_set(const vmm_cpuid *cpuid, int vcpu_fd, guint id, GError **error);

/* What CPUID answers, row by row, but for what each vCPU has of its own; how many. */
guint vmm_cpuid_rows(const vmm_cpuid *cpuid, struct vmm_cpuid_row rows[VMM_CPUID_ROWS_MAX]);

/* Section "cpuid". A state loads only into a machine with an equal table; what differs is
 * named by leaf and register. */
void vmm_cpuid_save(const vmm_cpuid *cpuid, vmm_state *state);
gboolean vmm_cpuid_check(const vmm_cpuid *cpuid, const vmm_state *state, GError **error);

#endif
