/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving and loading a machine: what belongs to it, and in which order KVM wants it.
 *
 * The state is of the instant of the pause: vCPUs and clocks are read once, when the
 * machine comes to rest or first needs it, and saved from that copy, so that saving twice
 * gives the same bytes although the host's clock goes on.
 */
#include "kvm/machine_private.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* What must be equal for a state to be loaded, beside CPUID. */
struct saved_machine {
	wire_u64 memory;
	wire_u32 cpus;
	guint8 hvc, rng, pad[2];
	wire_u32 nets, disks;
	guint8 macs[VMM_NETS_MAX][8]; /* 6 used */
	wire_u64 disk_bytes[VMM_DISKS_MAX];
	guint8 disk_readonly[VMM_DISKS_MAX];
};
static const struct vmm_state_field machine_fields[] = {
	VMM_STATE_FIELD(struct saved_machine, memory),
	VMM_STATE_FIELD(struct saved_machine, cpus),
	VMM_STATE_FIELD(struct saved_machine, hvc),
	VMM_STATE_FIELD(struct saved_machine, rng),
	VMM_STATE_FIELD(struct saved_machine, nets),
	VMM_STATE_FIELD(struct saved_machine, disks),
	VMM_STATE_FIELD(struct saved_machine, macs),
	VMM_STATE_FIELD(struct saved_machine, disk_bytes),
	VMM_STATE_FIELD(struct saved_machine, disk_readonly),
	{ 0 },
};

gboolean vmm_machine_capture_chips(vmm_machine *machine, GError **error)
{
	int fd = machine->hv.vm_fd;

	memset(&machine->pit, 0, sizeof(machine->pit));
	if (ioctl(fd, KVM_GET_PIT2, &machine->pit) < 0)
		return vmm_error_errno(error, errno, "read the interval timer");
	/* The host's time, which KVM sets anew when the state is given back. */
	for (guint i = 0; i < G_N_ELEMENTS(machine->pit.channels); i++)
		machine->pit.channels[i].count_load_time = 0;
	for (guint i = 0; i < KVM_NR_IRQCHIPS; i++) {
		machine->chips[i] = (struct kvm_irqchip){ .chip_id = i };
		if (ioctl(fd, KVM_GET_IRQCHIP, &machine->chips[i]) < 0)
			return vmm_error_errno(error, errno, "read interrupt controller %u",
					       i);
	}
	return TRUE;
}

/* Against the way that interrupts go, since the in-kernel timer ticks on: one that moves
 * meanwhile is seen twice rather than not at all. */
gboolean vmm_machine_capture(vmm_machine *machine, GError **error)
{
	if (machine->captured)
		return TRUE;
	if (!vmm_machine_capture_chips(machine, error))
		return FALSE;
	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_capture(machine->vcpus[i], error))
			return FALSE;
	if (!vmm_clock_capture(&machine->clock, &machine->hv, machine->vcpus, machine->cpus,
			       machine->memory, error))
		return FALSE;
	machine->captured = TRUE;
	return TRUE;
}

static void describe(const vmm_machine *machine, struct saved_machine *saved)
{
	memset(saved, 0, sizeof(*saved));
	saved->memory = wire_put64(vmm_memory_bytes(machine->memory));
	saved->cpus = wire_put32(machine->cpus);
	saved->hvc = machine->console != NULL;
	saved->rng = machine->rng != NULL;
	saved->nets = wire_put32(machine->n_nets);
	saved->disks = wire_put32(machine->n_disks);
	for (guint i = 0; i < machine->n_nets; i++)
		memcpy(saved->macs[i],
		       g_array_index(machine->config.nets, struct vmm_net_config, i).mac, 6);
	for (guint i = 0; i < machine->n_disks; i++) {
		saved->disk_bytes[i] = wire_put64(machine->disk_bytes[i]);
		saved->disk_readonly[i] = g_array_index(machine->config.disks,
							struct vmm_disk_config, i)
						  .readonly != 0;
	}
}

static gboolean refuse(GError **error, const char *what, guint64 saved, guint64 here)
{
	return vmm_error_set(error, VMM_ERROR_STATE,
			     "the saved machine has %s %" G_GUINT64_FORMAT
			     ", this one %" G_GUINT64_FORMAT, what, saved, here);
}

static gboolean check_machine(const vmm_machine *machine, const vmm_state *state,
			      GError **error)
{
	struct saved_machine here;
	const struct saved_machine *saved = vmm_state_get(
		state, "machine", 0, 1, sizeof(*saved), sizeof(*saved), NULL, error);

	if (!saved)
		return FALSE;
	describe(machine, &here);
	if (wire_get64(saved->memory) != wire_get64(here.memory))
		return refuse(error, "bytes of memory:", wire_get64(saved->memory),
			      wire_get64(here.memory));
	if (wire_get32(saved->cpus) != machine->cpus)
		return refuse(error, "vCPUs:", wire_get32(saved->cpus), machine->cpus);
	if (saved->hvc != here.hvc)
		return refuse(error, "virtio consoles:", saved->hvc, here.hvc);
	if (saved->rng != here.rng)
		return refuse(error, "entropy devices:", saved->rng, here.rng);
	if (wire_get32(saved->nets) != machine->n_nets)
		return refuse(error, "network cards:", wire_get32(saved->nets),
			      machine->n_nets);
	if (wire_get32(saved->disks) != machine->n_disks)
		return refuse(error, "disks:", wire_get32(saved->disks), machine->n_disks);
	for (guint i = 0; i < machine->n_nets; i++)
		if (memcmp(saved->macs[i], here.macs[i], 6))
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "network card %u of the saved machine has "
					     "another MAC address than this one's", i);
	for (guint i = 0; i < machine->n_disks; i++) {
		if (wire_get64(saved->disk_bytes[i]) != wire_get64(here.disk_bytes[i]))
			return refuse(error, "disk bytes:", wire_get64(saved->disk_bytes[i]),
				      wire_get64(here.disk_bytes[i]));
		if (saved->disk_readonly[i] != here.disk_readonly[i])
			return refuse(error, "disk read-only:", saved->disk_readonly[i],
				      here.disk_readonly[i]);
	}
	if (memcmp(saved, &here, sizeof(here)))
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved machine.0 is not as this program writes it");
	return TRUE;
}

void vmm_machine_save_chips(vmm_machine *machine, vmm_state *state)
{
	for (guint i = 0; i < KVM_NR_IRQCHIPS; i++)
		vmm_state_put(state, "irqchip", i, 1, &machine->chips[i],
			      sizeof(machine->chips[i]), NULL);
	vmm_state_put(state, "pit", 0, 1, &machine->pit, sizeof(machine->pit), NULL);
}

gboolean vmm_machine_load_chips(vmm_machine *machine, const vmm_state *state,
				enum vmm_load pass, GError **error)
{
	struct kvm_pit_state2 pit;
	const void *saved;

	for (guint i = 0; i < KVM_NR_IRQCHIPS; i++) {
		struct kvm_irqchip chip;

		saved = vmm_state_get(state, "irqchip", i, 1, sizeof(chip), sizeof(chip), NULL,
				      error);
		if (!saved)
			return FALSE;
		memcpy(&chip, saved, sizeof(chip));
		if (chip.chip_id != i)
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "saved irqchip.%u is of another chip", i);
		if (pass == VMM_LOAD_APPLY &&
		    ioctl(machine->hv.vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
			return vmm_error_errno(error, errno, "set interrupt controller %u", i);
	}
	saved = vmm_state_get(state, "pit", 0, 1, sizeof(pit), sizeof(pit), NULL, error);
	if (!saved)
		return FALSE;
	memcpy(&pit, saved, sizeof(pit));
	if (pass == VMM_LOAD_APPLY && ioctl(machine->hv.vm_fd, KVM_SET_PIT2, &pit) < 0)
		return vmm_error_errno(error, errno, "set the interval timer");
	return TRUE;
}

static void save_virtio(vmm_virtio *virtio, void *state)
{
	vmm_virtio_save(virtio, state);
}

gboolean vmm_machine_save(vmm_machine *machine, vmm_state *state, GError **error)
{
	struct saved_machine saved;

	if (!vmm_machine_stands_still(machine, "save", error) ||
	    !vmm_machine_capture(machine, error))
		return FALSE;
	vmm_state_reset(state);
	vmm_loop_lock(machine->loop);
	describe(machine, &saved);
	vmm_state_put(state, "machine", 0, 1, &saved, sizeof(saved), machine_fields);
	vmm_cpuid_save(machine->cpuid, state);
	vmm_clock_save(&machine->clock, state);
	for (guint i = 0; i < machine->cpus; i++)
		vmm_vcpu_save(machine->vcpus[i], state);
	vmm_machine_save_chips(machine, state);
	vmm_power_save(machine->power, state);
	vmm_serial_save(machine->serial, state);
	vmm_pci_save(machine->pci, state);
	vmm_machine_each_virtio(machine, save_virtio, state);
	vmm_loop_unlock(machine->loop);
	return TRUE;
}

struct load {
	const vmm_state *state;
	enum vmm_load pass;
	GError **error;
	gboolean ok;
};

static void load_virtio(vmm_virtio *virtio, void *data)
{
	struct load *load = data;

	load->ok = load->ok &&
		   vmm_virtio_load(virtio, load->state, load->pass, load->error);
}

static gboolean load_devices(vmm_machine *machine, const vmm_state *state,
			     enum vmm_load pass, GError **error)
{
	struct load load = { state, pass, error, TRUE };

	if (!vmm_power_load(machine->power, state, pass, error) ||
	    !vmm_serial_load(machine->serial, state, pass, error) ||
	    !vmm_pci_load(machine->pci, state, pass, error))
		return FALSE;
	vmm_machine_each_virtio(machine, load_virtio, &load);
	return load.ok;
}

/* With the device lock. */
static gboolean check_all(vmm_machine *machine, const vmm_state *state,
			  struct vmm_clock *clock, GError **error)
{
	if (!check_machine(machine, state, error) ||
	    !vmm_cpuid_check(machine->cpuid, state, error) ||
	    !vmm_clock_load(clock, state, error))
		return FALSE;
	if (clock->cpus != machine->cpus)
		return refuse(error, "clocks of vCPUs:", clock->cpus, machine->cpus);
	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_load(machine->vcpus[i], state, VMM_LOAD_CHECK, error))
			return FALSE;
	return vmm_machine_load_chips(machine, state, VMM_LOAD_CHECK, error) &&
	       load_devices(machine, state, VMM_LOAD_CHECK, error) &&
	       vmm_state_all_used(state, error);
}

/* The vCPUs' APICs before the IOAPIC, which delivers to them what was pending; time before
 * the timers' deadlines. */
static gboolean apply_kvm(vmm_machine *machine, const vmm_state *state,
			  const struct vmm_clock *clock, const gint64 *peer_ns,
			  enum vmm_clock_policy policy, GError **error)
{
	const struct vmm_clock_how how = { policy, peer_ns, machine->tsc_settable,
					   &machine->clock_complaints };
	guint64 shift = 0;

	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_load(machine->vcpus[i], state, VMM_LOAD_APPLY, error) ||
		    !vmm_vcpu_restore(machine->vcpus[i], error))
			return FALSE;
	if (!vmm_machine_load_chips(machine, state, VMM_LOAD_APPLY, error) ||
	    !vmm_clock_restore(clock, &how, &machine->hv, machine->vcpus, machine->cpus,
			       &shift, error))
		return FALSE;
	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_restore_deadline(machine->vcpus[i], shift, error))
			return FALSE;
	return TRUE;
}

/* KVM itself judges some values, and only when it is given them: what it had before is
 * given back then. */
static gboolean apply_or_undo(vmm_machine *machine, const vmm_state *state,
			      const struct vmm_clock *clock, GError **error)
{
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(GError) refused = NULL, lost = NULL;
	gint64 peer_ns = __atomic_load_n(&machine->peer_clock_ns, __ATOMIC_SEQ_CST);
	gboolean known = peer_ns != VMM_PEER_CLOCK_UNKNOWN;

	if (!vmm_machine_capture(machine, error))
		return FALSE;
	for (guint i = 0; i < machine->cpus; i++)
		vmm_vcpu_save(machine->vcpus[i], before);
	vmm_machine_save_chips(machine, before);
	if (apply_kvm(machine, state, clock, known ? &peer_ns : NULL, machine->config.clock,
		      &refused))
		return TRUE;
	/* That was saved here. */
	if (apply_kvm(machine, before, &machine->clock, NULL, VMM_CLOCK_ADVANCE, &lost))
		return vmm_error_set(error, VMM_ERROR_STATE, "%s", refused->message);
	g_atomic_int_set(&machine->run_state, VMM_ENDED);
	return vmm_error_set(error, VMM_ERROR_HOST, "%s; then, going back: %s",
			     refused->message, lost->message);
}

gboolean vmm_machine_check(vmm_machine *machine, const vmm_state *state, GError **error)
{
	struct vmm_clock clock;
	gboolean ok;

	vmm_loop_lock(machine->loop);
	ok = check_all(machine, state, &clock, error);
	vmm_loop_unlock(machine->loop);
	return ok;
}

gboolean vmm_machine_load(vmm_machine *machine, const vmm_state *state, GError **error)
{
	enum vmm_run_state run_state;
	struct vmm_clock clock;
	gboolean ok;

	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (run_state != VMM_PREPARED && run_state != VMM_PAUSED) {
		g_mutex_unlock(&machine->control);
		return vmm_error_set(error, VMM_ERROR_MODE, "load: the machine %s",
				     run_state == VMM_RUNNING ? "is running" : "has ended");
	}
	vmm_loop_lock(machine->loop);
	ok = check_all(machine, state, &clock, error) &&
	     apply_or_undo(machine, state, &clock, error) &&
	     load_devices(machine, state, VMM_LOAD_APPLY, error);
	vmm_loop_unlock(machine->loop);
	if (ok) {
		machine->captured = FALSE;
		machine->loaded = TRUE;
		g_atomic_int_inc(&machine->life);
		g_atomic_int_set(&machine->stuck, 0);
	}
	g_mutex_unlock(&machine->control);
	return ok;
}

/* Named in a report; the first says enough where much is wrong. */
#define DIFFERENCES_MAX 8

static gboolean judge_difference(const char *section, const guint8 *payload, gsize at,
				 char **name)
{
	return strcmp(section, "clock") != 0 &&
	       vmm_vcpu_judge_difference(section, payload, at, name);
}

char *vmm_machine_difference(vmm_machine *machine, const vmm_state *loaded)
{
	g_autoptr(vmm_state) here = vmm_state_new();
	g_autoptr(GError) error = NULL;

	if (!vmm_machine_save(machine, here, &error))
		return g_strdup(error->message);
	return vmm_state_differences(here, loaded, judge_difference, DIFFERENCES_MAX);
}
