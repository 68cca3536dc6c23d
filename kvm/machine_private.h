/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What kvm/machine.c (building and running) and kvm/machine_state.c (saving and loading)
 * share. */
#ifndef VMM_MACHINE_PRIVATE_H
#define VMM_MACHINE_PRIVATE_H

#include "kvm/boot.h"
#include "kvm/clock.h"
#include "kvm/console.h"
#include "kvm/crew.h"
#include "kvm/dirty.h"
#include "kvm/machine.h"
#include "kvm/power.h"
#include "kvm/serial.h"

struct vmm_machine {
	struct vmm_config config;
	vmm_event_fn event_fn;
	void *event_data;
	GSource *event_source; /* in the owner's main context */
	GAsyncQueue *events; /* struct posted */

	struct vmm_hypervisor hv;
	struct vmm_platform platform;
	vmm_memory *memory;
	vmm_dirty *dirty;
	GThread *untracker; /* stops tracking; or NULL */
	vmm_cpuid *cpuid;
	vmm_loop *loop;
	vmm_bus *pio, *mmio;
	guint cpus;
	vmm_vcpu *vcpus[VMM_CPUS_MAX];
	vmm_crew *crew;
	gboolean tsc_settable;
	vmm_boot *boot; /* NULL: made for a state, without a kernel to reset to */
	vmm_state *power_on; /* vCPUs and interrupt controllers as KVM made them */

	vmm_pci *pci;
	vmm_power *power;
	vmm_chardev *console_end, *hvc_end; /* hvc_end may be NULL */
	vmm_serial *serial;
	vmm_console *console; /* may be NULL */
	vmm_rng *rng; /* may be NULL */
	guint n_nets, n_disks;
	vmm_net *nets[VMM_NETS_MAX];
	vmm_block *disks[VMM_DISKS_MAX];
	guint64 disk_bytes[VMM_DISKS_MAX];
	/* The owner's: counters when they were last asked for. */
	struct vmm_net_counters net_seen[VMM_NETS_MAX];
	struct vmm_block_counters disk_seen[VMM_DISKS_MAX];

	GMutex control; /* held while the run state changes */
	gint run_state; /* atomic; enum vmm_run_state */
	gboolean captured; /* the vCPUs' copies, `chips`, `pit` and `clock` are of now */
	gboolean loaded; /* devices are to be told before the machine runs */
	gboolean still; /* vmm_machine_quiesce() is in its function */
	gboolean intact; /* ENDED by the guest's own word: everything is as it left it */
	gint loadable; /* atomic: see vmm_machine_keep_loadable() */
	gint stuck; /* atomic: a vCPU cannot go on, until the next load or reset */
	struct kvm_irqchip chips[KVM_NR_IRQCHIPS];
	struct kvm_pit_state2 pit;
	struct vmm_clock clock;
	gint64 peer_clock_ns; /* atomic: see vmm_machine_set_peer_clock() */
	struct base_ratelimit clock_complaints; /* of whoever loads */
	gint life; /* atomic: grows with each reset and load, see act_on() */
};

/* Calls `fn` for each virtio device. */
void vmm_machine_each_virtio(vmm_machine *machine, void (*fn)(vmm_virtio *, void *),
			     void *data);
/* Whether the state can be read: at rest and not ended; VMM_ERROR_MODE if not. */
gboolean vmm_machine_stands_still(vmm_machine *machine, const char *what, GError **error);
/* Reads vCPUs and clocks into the machine's copies if that was not done since it last ran.
 * At rest. */
gboolean vmm_machine_capture(vmm_machine *machine, GError **error);

/* In-kernel interrupt controllers and timer: into the machine's copies, from there into a
 * state, and from a state back into KVM. */
gboolean vmm_machine_capture_chips(vmm_machine *machine, GError **error);
void vmm_machine_save_chips(vmm_machine *machine, vmm_state *state);
gboolean vmm_machine_load_chips(vmm_machine *machine, const vmm_state *state,
				enum vmm_load pass, GError **error);

#endif
