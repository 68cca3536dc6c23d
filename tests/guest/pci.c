/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pci.c - configuration space of bus 0 through ports 0xcf8 and 0xcfc. */
#include "pci.h"

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define PCI_STATUS 0x06
#define STATUS_CAPABILITIES 0x10
#define PCI_BAR0 0x10
#define PCI_CAPABILITIES 0x34
#define CAPABILITIES_MAX 48

u32 pci_read32(u8 slot, u8 offset)
{
	out32(ADDRESS_PORT, 0x80000000 | (u32)slot << 11 | (offset & 0xfc));
	return in32(DATA_PORT);
}

u16 pci_read16(u8 slot, u8 offset)
{
	return pci_read32(slot, offset) >> (offset & 2) * 8;
}

u8 pci_read8(u8 slot, u8 offset)
{
	return pci_read32(slot, offset) >> (offset & 3) * 8;
}

void pci_write16(u8 slot, u8 offset, u16 value)
{
	u32 shift = (offset & 2) * 8, old = pci_read32(slot, offset);

	/* The status half of the command register is write-1-to-clear: write 0 there.
	 */
	if ((offset & 0xfc) == PCI_COMMAND)
		old &= 0xffff;
	out32(DATA_PORT, (old & ~(0xffffu << shift)) | (u32)value << shift);
}

u64 pci_bar(u8 slot, u8 bar)
{
	u32 low = pci_read32(slot, PCI_BAR0 + 4 * bar);
	u64 address = low & ~0xfu;

	if (low & 1)
		return 0;
	if ((low & 6) == 4)
		address |= (u64)pci_read32(slot, PCI_BAR0 + 4 * bar + 4) << 32;
	return address;
}

u8 pci_capability(u8 slot, u8 id, u8 after)
{
	u8 at;

	if (after)
		at = pci_read8(slot, after + 1);
	else if (pci_read16(slot, PCI_STATUS) & STATUS_CAPABILITIES)
		at = pci_read8(slot, PCI_CAPABILITIES);
	else
		return 0;
	for (u32 i = 0; at && i < CAPABILITIES_MAX; i++) {
		at &= 0xfc;
		if (pci_read8(slot, at) == id)
			return at;
		at = pci_read8(slot, at + 1);
	}
	return 0;
}
