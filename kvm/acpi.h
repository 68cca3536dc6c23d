/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's ACPI tables: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT. */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include "kvm/memory.h"

/* Writes the tables for `cpus` processors at VMM_ACPI; returns the RSDP's address. */
guint64 vmm_acpi_write(vmm_memory *memory, guint cpus);

#endif
