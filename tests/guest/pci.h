/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pci.h - configuration space of bus 0 through ports 0xcf8 and 0xcfc. BSP only. */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "types.h"

#define PCI_SLOTS 32
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY 0x2
#define PCI_COMMAND_MASTER 0x4
#define PCI_CAP_MSIX 0x11
#define PCI_CAP_VENDOR 0x09

u32 pci_read32(u8 slot, u8 offset);
u16 pci_read16(u8 slot, u8 offset);
u8 pci_read8(u8 slot, u8 offset);
void pci_write16(u8 slot, u8 offset, u16 value);
/* Address of a memory BAR as firmware (the VMM) assigned it; 0 if there is none. */
u64 pci_bar(u8 slot, u8 bar);
/* The next capability of this kind after `after` (0: the first); 0 at the end. */
u8 pci_capability(u8 slot, u8 id, u8 after);

#endif
