/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine as what kvm/savefile.h saves and loads. */
#include "kvm/saveable.h"

static gboolean save(void *machine, vmm_state *state, GError **error)
{
	return vmm_machine_save(machine, state, error);
}

static gboolean check(void *machine, const vmm_state *state, GError **error)
{
	return vmm_machine_check(machine, state, error);
}

static gboolean load(void *machine, const vmm_state *state, GError **error)
{
	return vmm_machine_load(machine, state, error);
}

struct vmm_saveable vmm_machine_saveable(vmm_machine *machine)
{
	return (struct vmm_saveable){
		.memory = vmm_machine_memory(machine),
		.cpus = vmm_machine_config(machine)->cpus,
		.data = machine,
		.save = save,
		.check = check,
		.load = load,
	};
}
