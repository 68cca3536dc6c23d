/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine: KVM's objects, memory, devices and vCPU threads, put together from a
 * configuration; run, paused, saved, loaded, and looked at for what became dirty.
 *
 * Run states: PREPARED (never ran; a state can be loaded) -> RUNNING <-> PAUSED ->
 * ENDED (powered off, or failed; nothing runs again).
 *
 * One thread at a time calls these functions (the owner: the main loop, or the
 * checkpoint thread); vCPU and I/O threads belong to the machine.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include "kvm/block.h"
#include "kvm/chardev.h"
#include "kvm/cpuid_rows.h"
#include "kvm/error.h"
#include "kvm/net.h"
#include "kvm/platform.h"
#include "kvm/rng.h"
#include "kvm/state.h"

#define VMM_CPUS_MAX 8
#define VMM_DISKS_MAX 8
#define VMM_NETS_MAX 8
#define VMM_MEMORY_MIN (64ull << 20)

enum vmm_dirty_method { VMM_DIRTY_AUTO, VMM_DIRTY_RING, VMM_DIRTY_BITMAP };
enum vmm_clock_policy {
	VMM_CLOCK_ADVANCE, /* after a load, guest time has moved on by the time that passed */
	VMM_CLOCK_STILL, /* after a load, guest time goes on from where it was saved */
};

struct vmm_disk_config {
	char *path;
	char *serial; /* or NULL */
	gboolean readonly, direct;
};
struct vmm_net_config {
	char *tap;
	guint8 mac[6];
};

/* Where a machine's devices get their other ends from, instead of taps, raw files and
 * getrandom(2): hooks of whoever replicates it. Any function may be NULL. Called while the
 * machine is made. */
struct vmm_backends {
	void *data; /* handed to each */
	struct vmm_net_port *(*open_net)(void *data, guint index,
					 const struct vmm_net_config *config, vmm_loop *loop,
					 GError **error);
	struct vmm_disk *(*open_disk)(void *data, guint index,
				      const struct vmm_disk_config *config, vmm_loop *loop,
				      GError **error);
	vmm_rng_source rng;
	/* Console 0 is the serial line, 1 virtio-console. */
	struct vmm_chardev_hooks console;
	/* The devices are gone, and the loop goes next. Holding the device lock. */
	void (*closed)(void *data);
	gboolean private_memory; /* see vmm_memory_new_private() */
};

/* What kvm/options.c reads from a command line. Strings are owned. */
struct vmm_config {
	char *kernel, *initrd, *append; /* initrd and append may be NULL */
	char *cpu_model; /* "host", "x86-64-v2", "x86-64-v3" */
	guint64 memory; /* bytes */
	guint cpus;
	GArray *disks; /* struct vmm_disk_config */
	GArray *nets; /* struct vmm_net_config */
	char *console; /* chardev specification of COM1 */
	char *hvc; /* of virtio-console, or NULL: no such device */
	gboolean rng;
	gboolean reboot_exits; /* --no-reboot: a reset ends the machine */
	enum vmm_dirty_method dirty;
	enum vmm_clock_policy clock;
	struct vmm_backends backends;
};
void vmm_config_init(struct vmm_config *config); /* defaults */
void vmm_config_clear(struct vmm_config *config);

enum vmm_run_state { VMM_PREPARED, VMM_RUNNING, VMM_PAUSED, VMM_ENDED };

struct vmm_event {
	enum vmm_event_type type;
	const char *device, *detail; /* may be NULL; valid during the call */
};
/* In the main context that was the thread default when the machine was made. It must not
 * free the machine. */
typedef void (*vmm_event_fn)(void *data, const struct vmm_event *event);

typedef struct vmm_machine vmm_machine;

/* Opens and locks all that the configuration names, and prepares the guest as far as its
 * first instruction (unless `for_load`: memory stays empty for a state). Nothing is left
 * behind on failure. */
vmm_machine *vmm_machine_new(const struct vmm_config *config, gboolean for_load,
			     vmm_event_fn fn, void *data, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* Stops all threads. In any run state. */
void vmm_machine_free(vmm_machine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_machine, vmm_machine_free)

enum vmm_run_state vmm_machine_run_state(vmm_machine *machine);
const struct vmm_config *vmm_machine_config(const vmm_machine *machine);
vmm_memory *vmm_machine_memory(vmm_machine *machine);
/* For the device lock. */
vmm_loop *vmm_machine_loop(vmm_machine *machine);
/* `backends.rng` has bytes again. Holding the device lock. */
void vmm_machine_poll_rng(vmm_machine *machine);
/* `backends.console.next` has bytes again. Holding the device lock. */
void vmm_machine_poll_consoles(vmm_machine *machine);
/* What waits at the consoles' host ends is thrown away. Holding the device lock. */
void vmm_machine_discard_console_input(vmm_machine *machine);
const char *vmm_machine_console_name(vmm_machine *machine); /* "pty:/dev/pts/3", ... */
const char *vmm_machine_hvc_name(vmm_machine *machine); /* NULL without one */
/* What the guest is told about its processor; how many rows. */
guint vmm_machine_cpuid(vmm_machine *machine, struct vmm_cpuid_row rows[VMM_CPUID_ROWS_MAX]);
guint vmm_machine_nets(vmm_machine *machine);
guint vmm_machine_disks(vmm_machine *machine);
guint64 vmm_machine_disk_bytes(vmm_machine *machine, guint index);
/* As its device has it; only to be looked at. */
const struct vmm_disk *vmm_machine_disk(vmm_machine *machine, guint index);
/* Of now, or of the last time that somebody asked, where the devices are too busy. The owner. */
void vmm_machine_net_counters(vmm_machine *machine, guint index,
			      struct vmm_net_counters *counters);
void vmm_machine_block_counters(vmm_machine *machine, guint index,
				struct vmm_block_counters *counters);
/* Makes durable what the guest has written to its disks. Takes as long as they do. PAUSED
 * or PREPARED: else it may miss what is written meanwhile. */
gboolean vmm_machine_sync_disks(vmm_machine *machine, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* What was found on this host, for the status. */
const char *vmm_machine_dirty_method(const vmm_machine *machine); /* "ring", "bitmap" */
gboolean vmm_machine_tsc_settable(const vmm_machine *machine);

/* PREPARED or PAUSED -> RUNNING; VMM_ERROR_MODE otherwise. */
gboolean vmm_machine_resume(vmm_machine *machine, GError **error);
/* RUNNING -> PAUSED: every vCPU stopped at an instruction boundary with its last exit
 * completed, devices still, in-flight disk requests recorded. Never waits for a disk or
 * the network. PREPARED and PAUSED: nothing to do, TRUE. */
gboolean vmm_machine_pause(vmm_machine *machine, GError **error);
/* Pause, `fn` with the machine paused and its state captured, resume: the shortest pause
 * there is. `fn` runs on a thread of the machine's choosing and may call only
 * vmm_machine_save() and vmm_machine_collect(). RUNNING, or PAUSED, which the machine then
 * is before and after; or ENDED, by the guest's own power-off or reset: the state is of that
 * instant, and a machine that goes on from it does the same at once. */
gboolean vmm_machine_quiesce(vmm_machine *machine, void (*fn)(void *data), void *data,
			     GError **error);

/* The state without memory, as of the instant of the pause. Only when PAUSED or within
 * vmm_machine_quiesce(), or PREPARED. Twice in a row gives the same bytes. `state` is
 * emptied first. */
gboolean vmm_machine_save(vmm_machine *machine, vmm_state *state, GError **error);
/* Only when PREPARED or PAUSED. Memory must hold, or be given before resuming, what
 * belongs to the state. VMM_ERROR_STATE: refused, nothing was touched. */
gboolean vmm_machine_load(vmm_machine *machine, const vmm_state *state, GError **error);
/* Whether the state could be loaded here; changes nothing. */
gboolean vmm_machine_check(vmm_machine *machine, const vmm_state *state, GError **error);

/* NULL where the machine is as `loaded` has it, which was just loaded: what it would save now
 * is compared field by field. Else what differs, in words, or why that cannot be said. PAUSED
 * or PREPARED. Caller frees.
 *
 * Left out is what is time, which has passed since: clocks, the timers' deadlines and counts,
 * and the interrupts of those that fired; and a register that KVM works out from others. */
char *vmm_machine_difference(vmm_machine *machine, const vmm_state *loaded);

#define VMM_PEER_CLOCK_UNKNOWN G_MININT64
/* What states that are loaded from now on say of time is by another host's CLOCK_TAI, which is
 * this much ahead of ours: so guest time moves on by what really passed. UNKNOWN, as it is at
 * first: both hosts' clocks are believed. Any thread; never waits. */
void vmm_machine_set_peer_clock(vmm_machine *machine, gint64 offset_ns);

/* While on, a guest that switches off, resets or breaks only stops: the event says so, the
 * machine stays as it is, and another state can be loaded over it. Turned off, what it asked
 * for is done. For a secondary, whose guest is not the one that counts. */
void vmm_machine_keep_loadable(vmm_machine *machine, gboolean on);

/* Starts tracking dirty pages: the next collection has all that changed after this.
 * PAUSED, PREPARED or RUNNING. */
gboolean vmm_machine_track(vmm_machine *machine, gboolean on, GError **error);
/* Stops it as well, but soon, on a thread of its own: what KVM does for it can take most of a
 * second on a busy host, and the guest need not wait. */
void vmm_machine_untrack(vmm_machine *machine);
/* Page numbers that changed since the last call, each once, to `pages` (guint32, emptied
 * first). Only when PAUSED or within vmm_machine_quiesce(). Afterwards each of them
 * counts as clean: read its content before the machine resumes. */
gboolean vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error);

/* The same pages, perhaps while the machine runs, and they go on counting as changed; none
 * where nothing is tracked. For an estimate: see vmm_dirty_peek() for the cost. Any thread,
 * holding the device lock. */
void vmm_machine_peek(vmm_machine *machine, GArray *pages);

/* Presses the power button (orderly power-off by the guest). */
gboolean vmm_machine_powerdown(vmm_machine *machine, GError **error);
/* Resets as the button would. RUNNING or PAUSED. */
gboolean vmm_machine_reset(vmm_machine *machine, GError **error);

#endif
