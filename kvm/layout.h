/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where things are in the guest's address spaces; kvm/dsdt.asl repeats the ports. */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

/* Memory below 1 MiB, before the kernel takes over. */
#define VMM_GDT 0x500u
#define VMM_ZERO_PAGE 0x7000u
#define VMM_BOOT_STACK 0x8ff0u
#define VMM_PAGE_TABLES 0x9000u /* PML4, PDPT, 4 page directories */
#define VMM_CMDLINE 0x20000u
#define VMM_CMDLINE_MAX 0x8000u
#define VMM_EBDA 0x9fc00u /* low memory ends here for the guest */
#define VMM_ACPI 0xe0000u
#define VMM_ACPI_END 0xffff0u
#define VMM_REAL_MODE_RESET 0xffff0u /* where a processor starts: f000:fff0 */
#define VMM_HIGH_MEMORY 0x100000u

#define VMM_LAPIC 0xfee00000u
#define VMM_IOAPIC 0xfec00000u

/* Ports. */
#define VMM_PORT_PANIC 0x505 /* pvpanic, as Linux's driver expects it */
#define VMM_PORT_SLEEP_CONTROL 0x604 /* ACPI 6.4, 4.8.3.7 */
#define VMM_PORT_SLEEP_STATUS 0x605
#define VMM_PORT_EVENT 0x608 /* bit 0: the power button was pressed; reading clears */
#define VMM_PORT_KEYBOARD 0x64 /* writing 0xfe pulses the reset line (reboot=k) */
#define VMM_PORT_RESET 0xcf9
#define VMM_RESET_VALUE 0x06
#define VMM_SLEEP_TYPE_S5 5

#define VMM_EVENT_IRQ 5 /* the ACPI generic event device's line */

#endif
