/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's time across saving and loading: its TSC and its kvm-clock have moved on by
 * what really passed on CLOCK_TAI, and never go back (design invariant 6).
 *
 * A pause does not touch any clock: time goes on for a guest that is stopped.
 */
#ifndef VMM_CLOCK_H
#define VMM_CLOCK_H

#include "base/ratelimit.h"
#include "kvm/machine.h"
#include "kvm/vcpu.h"

/* All the guest's clocks at one instant, and that instant. */
struct vmm_clock {
	guint64 tai_ns;
	gint32 tai_offset_s; /* the host's TAI - UTC; 0: it was never told */
	guint tsc_khz; /* the guest's */
	guint64 kvmclock_ns;
	guint cpus;
	guint64 tsc[VMM_CPUS_MAX];
};

/* Pure arithmetic, for itself so that it can be tested with vectors. */

/* What a guest's pvclock page shows at TSC `tsc` (Documentation/virt/kvm/x86/msr.rst). */
struct vmm_pvclock {
	guint64 tsc_timestamp, system_time;
	guint32 mul;
	gint8 shift;
};
guint64 vmm_clock_pvclock_ns(const struct vmm_pvclock *page, guint64 tsc);
/* `ns` nanoseconds as ticks of a counter of `khz`; saturates. */
guint64 vmm_clock_ticks(guint64 ns, guint khz);
/* How long to move a guest's time on: from `saved` to now, given the host's clocks now. 0
 * when the saved instant lies in the future, which is reported through `ahead_ns`.
 *
 * `peer_ns`: the CLOCK_TAI of the host that saved minus ours, as measured: then the saved
 * instant is compared with what that host's clock shows now, whatever either was told of TAI.
 * NULL: not known, both clocks are believed; where only one of the hosts knows TAI, UTC is
 * compared. */
guint64 vmm_clock_elapsed(const struct vmm_clock *saved, guint64 tai_ns, gint32 tai_offset_s,
			  const gint64 *peer_ns, guint64 *ahead_ns);

/* Reads all clocks, vCPUs stopped and captured. `memory`: for what the guest's own clock
 * pages show, which kvm-clock must not fall behind. */
gboolean vmm_clock_capture(struct vmm_clock *clock, struct vmm_hypervisor *hv,
			   vmm_vcpu *const *vcpus, guint n, const vmm_memory *memory,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* How clocks are to be set. */
struct vmm_clock_how {
	enum vmm_clock_policy policy;
	const gint64 *peer_ns; /* as vmm_clock_elapsed() takes it */
	gboolean settable; /* what vmm_clock_probe_tsc() found */
	struct base_ratelimit *complaints; /* about states from the future */
};
/* Sets all clocks to `saved` moved on as `how` says. After the vCPUs' other state. Where the TSC
 * is not settable, `tsc_shift` says by how much the guest's is ahead of what it should be (modulo
 * 2^64), else 0. */
gboolean vmm_clock_restore(const struct vmm_clock *saved, const struct vmm_clock_how *how,
			   struct vmm_hypervisor *hv,
			   vmm_vcpu *const *vcpus, guint n, guint64 *tsc_shift,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* As after power-on: all vCPUs' TSCs start at 0 together, where the host lets them be set.
 * Also needed because KVM on SVM hosts forgets the offset of a vCPU that shut down (it clears
 * the VMCB, arch/x86/kvm/svm/svm.c, shutdown_interception()) and goes on reporting it. At
 * rest. */
void vmm_clock_start(gboolean settable, vmm_vcpu *const *vcpus, guint n);
/* Whether this host's KVM lets the guest's TSC be set, found by setting it and reading it
 * back. Before the guest runs. */
gboolean vmm_clock_probe_tsc(vmm_vcpu *vcpu);

/* Section "clock". */
void vmm_clock_save(const struct vmm_clock *clock, vmm_state *state);
gboolean vmm_clock_load(struct vmm_clock *clock, const vmm_state *state, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

#endif
