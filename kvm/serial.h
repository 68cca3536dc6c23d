/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 16550A UART at port 0x3f8, interrupt line 4 (National Semiconductor PC16550D). */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include "kvm/chardev.h"
#include "kvm/platform.h"
#include "kvm/state.h"

#define VMM_SERIAL_PORT 0x3f8
#define VMM_SERIAL_IRQ 4

typedef struct vmm_serial vmm_serial;

/* `chardev` is borrowed and must outlive the UART. */
vmm_serial *vmm_serial_new(const struct vmm_platform *platform, vmm_chardev *chardev);
void vmm_serial_free(vmm_serial *serial);
void vmm_serial_reset(vmm_serial *serial);
/* Section "serial". */
void vmm_serial_save(const vmm_serial *serial, vmm_state *state);
gboolean vmm_serial_load(vmm_serial *serial, const vmm_state *state, enum vmm_load pass,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
