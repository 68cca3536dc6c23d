/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loading a Linux kernel by the 64-bit boot protocol (Documentation/arch/x86/boot.rst). */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include <linux/kvm.h>

#include "kvm/memory.h"

typedef struct vmm_boot vmm_boot;

/* Reads and judges a bzImage and (or NULL) an initrd; `append` NULL is empty. The files
 * are read here and not needed again. VMM_ERROR_CONFIG: not a kernel that this can boot,
 * or too large for `memory_bytes`; VMM_ERROR_HOST: cannot be read. */
vmm_boot *vmm_boot_new(const char *kernel, const char *initrd, const char *append,
		       guint64 memory_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_boot_free(vmm_boot *boot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_boot, vmm_boot_free)

/* Writes kernel, initrd, command line, boot parameters, ACPI tables, page tables and
 * segment descriptors into memory, which should be zero. */
void vmm_boot_place(const vmm_boot *boot, vmm_memory *memory, guint cpus);
/* The first vCPU's registers at the kernel's first instruction; `sregs` as KVM made it. */
void vmm_boot_registers(const vmm_boot *boot, struct kvm_regs *regs,
			struct kvm_sregs2 *sregs);

#endif
