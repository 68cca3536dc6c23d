/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ports by which a guest switches off, resets and says that it panicked, and the power
 * button by which it is asked to switch off. */
#ifndef VMM_POWER_H
#define VMM_POWER_H

#include "kvm/platform.h"
#include "kvm/state.h"

typedef struct vmm_power vmm_power;

vmm_power *vmm_power_new(const struct vmm_platform *platform);
void vmm_power_free(vmm_power *power);
void vmm_power_reset(vmm_power *power);
/* Presses the button. Holding the device lock. */
void vmm_power_press(vmm_power *power);
/* The guest faulted beyond repair: counts as a reset asked for. */
void vmm_power_fault(vmm_power *power);
/* What the guest asked for is part of its state until it is done: says it again after a
 * pause or load. Holding the device lock. */
void vmm_power_again(vmm_power *power);
/* A byte was written to the reset register, which lies among the PCI bus's ports. */
void vmm_power_reset_register(void *power, guint8 value);

/* Section "power". */
void vmm_power_save(const vmm_power *power, vmm_state *state);
gboolean vmm_power_load(vmm_power *power, const vmm_state *state, enum vmm_load pass,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
