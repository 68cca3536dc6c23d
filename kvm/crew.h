/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU threads: started at rest, run together, brought to rest together.
 *
 * At rest means: every thread has left KVM_RUN with its last exit completed and waits. An
 * idle vCPU (one that must not run any more: the guest switched off or broke) waits as
 * well, and comes to rest like the others.
 */
#ifndef VMM_CREW_H
#define VMM_CREW_H

#include "kvm/dirty.h"
#include "kvm/vcpu.h"

typedef struct vmm_crew vmm_crew;

/* A vCPU cannot go on: VMM_EXIT_RESET, or VMM_EXIT_FAILED with the reason. On its thread,
 * without locks; the vCPU is idle by then. */
typedef void (*vmm_crew_fn)(void *data, enum vmm_exit why, const char *reason);

/* Borrows all; the threads start at rest. */
vmm_crew *vmm_crew_new(const struct vmm_platform *platform, vmm_dirty *dirty,
		       vmm_vcpu *const *vcpus, guint n, vmm_crew_fn fn, void *data);
/* Ends the threads, which must be at rest. */
void vmm_crew_free(vmm_crew *crew);

/* The owner's thread. */
void vmm_crew_run(vmm_crew *crew);
void vmm_crew_rest(vmm_crew *crew);
/* From running: brings all to rest, calls `fn` on the thread that came to rest last (so
 * that nobody has to be woken for it), runs on. Returns after that. */
void vmm_crew_rest_and(vmm_crew *crew, void (*fn)(void *data), void *data);

/* All vCPUs become idle as soon as they leave KVM. Any thread, without waiting. */
void vmm_crew_idle(vmm_crew *crew);
/* The opposite; at rest. */
void vmm_crew_revive(vmm_crew *crew);

#endif
