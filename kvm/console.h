/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-console with one port (VIRTIO 1.2, 5.3): hvc0 in a Linux guest. */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "kvm/chardev.h"
#include "kvm/virtio.h"

typedef struct vmm_console vmm_console;

/* `chardev` is borrowed and must outlive the device. */
vmm_console *vmm_console_new(vmm_pci *pci, const struct vmm_platform *platform,
			     guint instance, vmm_chardev *chardev,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_console_free(vmm_console *console);
vmm_virtio *vmm_console_virtio(vmm_console *console);

#endif
