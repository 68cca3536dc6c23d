/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI bus with configuration mechanism 1 (ports 0xcf8 and 0xcfc), its host bridge in
 * slot 0, and devices with one memory BAR and MSI-X. No INTx. BARs have addresses when
 * the guest starts, as after a firmware; the guest may move them inside the window. A
 * BAR that it puts elsewhere, or onto that of a lower slot, is just not visible.
 *
 * All functions: holding the device lock, or while the machine is put together.
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include "kvm/platform.h"
#include "kvm/state.h"

#define VMM_PCI_WINDOW 0xe0000000u
#define VMM_PCI_WINDOW_END 0xfec00000u /* first address after it */
#define VMM_PCI_SLOTS 32
#define VMM_PCI_VECTORS_MAX 16
#define VMM_PCI_BAR_SIZE 0x8000u
#define VMM_PCI_MSIX_TABLE 0x6000u /* offset in the BAR */
#define VMM_PCI_MSIX_PBA 0x7000u

typedef struct vmm_pci vmm_pci;
typedef struct vmm_pci_device vmm_pci_device;

struct vmm_pci_class {
	const char *name; /* of the device in log lines and saved state, e.g. "net" */
	guint16 vendor, device, subsystem_vendor, subsystem;
	guint8 revision;
	guint32 class_code; /* class << 16 | subclass << 8 | interface */
	guint vectors; /* 1 to VMM_PCI_VECTORS_MAX */
	/* Accesses to BAR 0 below VMM_PCI_MSIX_TABLE, len 1, 2, 4 or 8. */
	guint64 (*bar_read)(void *data, guint64 offset, guint len);
	void (*bar_write)(void *data, guint64 offset, guint64 value, guint len);
	/* The BAR became visible at `gpa`, or (0) invisible. First called while
	 * vmm_pci_device_new() runs. */
	void (*bar_moved)(void *data, guint64 gpa);
	/* Configuration space beyond the standard header and MSI-X; may be NULL. An
	 * access never leaves its double word. Return TRUE if handled. */
	gboolean (*config_read)(void *data, guint offset, guint len, guint32 *value);
	gboolean (*config_write)(void *data, guint offset, guint len, guint32 value);
};

vmm_pci *vmm_pci_new(const struct vmm_platform *platform);
/* Devices must have been freed before. */
void vmm_pci_free(vmm_pci *pci);
/* Who hears of one-byte writes to port 0xcf9, the reset register: it lies among the
 * ports of this bus. NULL: nobody. */
void vmm_pci_set_reset_handler(vmm_pci *pci, void (*fn)(void *data, guint8 value),
			       void *data);

/* Puts a device into the lowest free slot with its BAR mapped and memory decoding on;
 * NULL with VMM_ERROR_CONFIG where none is free. `class_` outlives it; `data` is handed
 * to its functions. */
vmm_pci_device *vmm_pci_device_new(vmm_pci *pci, const struct vmm_pci_class *class_,
				   guint instance, void *data, GError **error);
void vmm_pci_device_free(vmm_pci_device *device);

/* Appends a vendor capability (id 0x09 and the next pointer are written by this
 * function); `len` counts the whole capability. Returns its offset. */
guint vmm_pci_add_capability(vmm_pci_device *device, const void *cap, guint len);

/* Sends the interrupt of `vector`, or notes it as pending where it is masked. Vectors
 * out of range (0xffff: none) are ignored. Holding the device lock. */
void vmm_pci_interrupt(vmm_pci_device *device, guint vector);
/* Every unmasked vector once: after a load, where an interrupt too many is harmless and
 * one too few is not. */
void vmm_pci_interrupt_all(vmm_pci_device *device);
/* Configuration and MSI-X as after power-on, the BAR at its first address. */
void vmm_pci_device_reset(vmm_pci_device *device);

/* Section "pci-<name>". */
void vmm_pci_device_save(const vmm_pci_device *device, vmm_state *state);
gboolean vmm_pci_device_load(vmm_pci_device *device, const vmm_state *state,
			     enum vmm_load pass,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The host bridge's own registers and the address latch at 0xcf8. Section "pci". */
void vmm_pci_save(const vmm_pci *pci, vmm_state *state);
gboolean vmm_pci_load(vmm_pci *pci, const vmm_state *state, enum vmm_load pass,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_pci_reset(vmm_pci *pci);

#endif
