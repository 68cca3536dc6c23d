/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading a Linux kernel by the 64-bit boot protocol.
 *
 * The distribution's vmlinuz is taken as it is: its setup header says how large it becomes
 * and where it wants to be; its own decompressor does the rest, randomization included.
 */
#include "kvm/boot.h"

#include <asm/bootparam.h>
#include <string.h>

#include "kvm/acpi.h"
#include "kvm/error.h"
#include "kvm/layout.h"

#define SETUP_HEADER 0x1f1u /* offset in the file */
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG 0xaa55
#define ENTRY_64 0x200u
#define KERNEL_MAX (512u << 20)

/* Selectors that the protocol asks for, and a task segment that VMX insists on. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_TSS 0x20

struct vmm_boot {
	/* Read, not mapped: a reset places them again, whatever became of the files. */
	GBytes *kernel, *initrd; /* initrd may be NULL */
	char *append;
	struct setup_header header;
	gsize setup_bytes; /* real-mode part, skipped */
	guint64 load, initrd_at;
};

static GBytes *read_file(const char *what, const char *path, GError **error)
{
	g_autoptr(GError) cause = NULL;
	char *bytes;
	gsize len;

	if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
		vmm_error_set(error, VMM_ERROR_HOST, "%s %s: No such file or directory", what,
			      path);
		return NULL;
	}
	if (!g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
		vmm_error_set(error, VMM_ERROR_HOST, "%s %s: not a regular file", what, path);
		return NULL;
	}
	if (g_file_get_contents(path, &bytes, &len, &cause))
		return g_bytes_new_take(bytes, len);
	vmm_error_set(error, VMM_ERROR_HOST, "%s %s: %s", what, path, cause->message);
	return NULL;
}

static gboolean read_header(vmm_boot *boot, const char *path, GError **error)
{
	gsize len, end;
	const char *bytes = g_bytes_get_data(boot->kernel, &len);

	if (len < SETUP_HEADER + sizeof(boot->header) || len > KERNEL_MAX)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel %s: not a Linux bzImage (%zu bytes)", path, len);
	/* The header says itself where it ends: 0x202 plus the byte at 0x201. */
	end = 0x202 + (guint8)bytes[0x201];
	memcpy(&boot->header, bytes + SETUP_HEADER,
	       MIN(end - SETUP_HEADER, sizeof(boot->header)));
	if (boot->header.boot_flag != BOOT_FLAG || boot->header.header != HEADER_MAGIC)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel %s: not a Linux bzImage (no HdrS)", path);
	if (boot->header.version < 0x020c || !(boot->header.xloadflags & XLF_KERNEL_64))
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel %s: has no 64-bit entry point (protocol %u.%02u)",
				     path, boot->header.version >> 8,
				     boot->header.version & 0xff);
	boot->setup_bytes = ((boot->header.setup_sects ?: 4) + 1u) * 512;
	if (boot->setup_bytes + ENTRY_64 >= len)
		return vmm_error_set(error, VMM_ERROR_CONFIG, "kernel %s: is cut off", path);
	return TRUE;
}

static gboolean plan(vmm_boot *boot, const char *path, guint64 memory_bytes, GError **error)
{
	const struct setup_header *h = &boot->header;
	guint64 body = g_bytes_get_size(boot->kernel) - boot->setup_bytes;
	guint64 top = MIN(memory_bytes, VMM_HOLE_START);
	guint32 append_max = MIN(h->cmdline_size, VMM_CMDLINE_MAX - 1);
	guint64 end, initrd_len;

	if (strlen(boot->append) > append_max)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "command line of %zu bytes: the kernel takes %u",
				     strlen(boot->append), append_max);
	boot->load = h->pref_address;
	if (boot->load < VMM_HIGH_MEMORY || boot->load > top)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel %s: wants to be at %#" G_GINT64_MODIFIER
				     "x, which %" G_GUINT64_FORMAT " MiB of memory do not have",
				     path, boot->load, memory_bytes >> 20);
	/* The decompressor works inside init_size bytes from where it was loaded. */
	end = boot->load + MAX((guint64)h->init_size, body);
	if (end > top)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel %s: needs %" G_GUINT64_FORMAT
				     " MiB of memory to start", path, (end >> 20) + 1);
	if (!boot->initrd)
		return TRUE;
	initrd_len = g_bytes_get_size(boot->initrd);
	top = MIN(top, (guint64)h->initrd_addr_max + 1);
	if (initrd_len > top || ((top - initrd_len) & ~0xfffull) < end)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "kernel and initrd: need %" G_GUINT64_FORMAT
				     " MiB of memory to start",
				     ((end + initrd_len) >> 20) + 1);
	boot->initrd_at = (top - initrd_len) & ~0xfffull;
	return TRUE;
}

vmm_boot *vmm_boot_new(const char *kernel, const char *initrd, const char *append,
		       guint64 memory_bytes, GError **error)
{
	g_autoptr(vmm_boot) boot = g_new0(vmm_boot, 1);

	boot->append = g_strdup(append ?: "");
	boot->kernel = read_file("kernel", kernel, error);
	if (!boot->kernel || !read_header(boot, kernel, error))
		return NULL;
	if (initrd) {
		boot->initrd = read_file("initrd", initrd, error);
		if (!boot->initrd)
			return NULL;
	}
	if (!plan(boot, kernel, memory_bytes, error))
		return NULL;
	return g_steal_pointer(&boot);
}

void vmm_boot_free(vmm_boot *boot)
{
	if (!boot)
		return;
	g_clear_pointer(&boot->kernel, g_bytes_unref);
	g_clear_pointer(&boot->initrd, g_bytes_unref);
	g_free(boot->append);
	g_free(boot);
}

/* Everything written here was found to fit by plan(). */
static void put(vmm_memory *memory, guint64 gpa, const void *data, gsize len)
{
	if (!vmm_memory_write(memory, gpa, data, len))
		g_assert_not_reached();
}

static void add_e820(struct boot_params *params, guint64 start, guint64 end, guint32 type)
{
	struct boot_e820_entry *entry = &params->e820_table[params->e820_entries++];

	entry->addr = start;
	entry->size = end - start;
	entry->type = type;
}

static void put_params(const vmm_boot *boot, vmm_memory *memory, guint64 rsdp)
{
	enum { E820_RAM = 1, E820_RESERVED = 2 };
	g_autofree struct boot_params *params = g_new0(struct boot_params, 1);
	guint64 bytes = vmm_memory_bytes(memory);

	params->hdr = boot->header;
	params->hdr.type_of_loader = 0xff;
	params->hdr.cmd_line_ptr = VMM_CMDLINE;
	params->hdr.ramdisk_image = (guint32)boot->initrd_at;
	params->hdr.ramdisk_size =
		boot->initrd ? (guint32)g_bytes_get_size(boot->initrd) : 0;
	params->acpi_rsdp_addr = rsdp;
	add_e820(params, 0, VMM_EBDA, E820_RAM);
	add_e820(params, VMM_EBDA, VMM_HIGH_MEMORY, E820_RESERVED);
	add_e820(params, VMM_HIGH_MEMORY, MIN(bytes, VMM_HOLE_START), E820_RAM);
	if (bytes > VMM_HOLE_START)
		add_e820(params, VMM_HOLE_END, VMM_HOLE_END + bytes - VMM_HOLE_START,
			 E820_RAM);
	put(memory, VMM_ZERO_PAGE, params, sizeof(*params));
}

/* Identity for the first 4 GiB in 2 MiB pages. */
static void put_page_tables(vmm_memory *memory)
{
	enum { PRESENT_WRITE = 0x3, LARGE = 0x80, GIBS = 4 };
	guint64 pml4 = (VMM_PAGE_TABLES + 0x1000) | PRESENT_WRITE;
	guint64 pdpt[GIBS], pd[512];

	put(memory, VMM_PAGE_TABLES, &pml4, sizeof(pml4));
	for (guint64 g = 0; g < GIBS; g++) {
		pdpt[g] = (VMM_PAGE_TABLES + 0x2000 + g * 0x1000) | PRESENT_WRITE;
		for (guint64 i = 0; i < 512; i++)
			pd[i] = (g << 30 | i << 21) | PRESENT_WRITE | LARGE;
		put(memory, VMM_PAGE_TABLES + 0x2000 + g * 0x1000, pd, sizeof(pd));
	}
	put(memory, VMM_PAGE_TABLES + 0x1000, pdpt, sizeof(pdpt));
}

static void put_gdt(vmm_memory *memory)
{
	/* Flat code and data, and a busy 64-bit TSS of no use but to be there. */
	static const guint64 gdt[] = { 0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull,
				       0x00008b0000000067ull, 0 };

	put(memory, VMM_GDT, gdt, sizeof(gdt));
}

/*
 * What stands for a BIOS: code that writes to the reset register. On hardware-reduced ACPI
 * platforms Linux reboots by EFI, and where there is none by a jump to the BIOS in real mode.
 */
static void put_real_mode_reset(vmm_memory *memory)
{
	static const guint8 code[] = {
		0xb0, VMM_RESET_VALUE, /* mov $VMM_RESET_VALUE, %al */
		0xba, VMM_PORT_RESET & 0xff, VMM_PORT_RESET >> 8, /* mov $VMM_PORT_RESET, %dx */
		0xee, /* out %al, (%dx) */
		0xf4, /* hlt */
		0xeb, 0xfd, /* jmp to the hlt */
	};

	put(memory, VMM_REAL_MODE_RESET, code, sizeof(code));
}

void vmm_boot_place(const vmm_boot *boot, vmm_memory *memory, guint cpus)
{
	const char *kernel = g_bytes_get_data(boot->kernel, NULL);

	put(memory, boot->load, kernel + boot->setup_bytes,
	    g_bytes_get_size(boot->kernel) - boot->setup_bytes);
	if (boot->initrd && g_bytes_get_size(boot->initrd))
		put(memory, boot->initrd_at, g_bytes_get_data(boot->initrd, NULL),
		    g_bytes_get_size(boot->initrd));
	put(memory, VMM_CMDLINE, boot->append, strlen(boot->append) + 1);
	put_page_tables(memory);
	put_gdt(memory);
	put_real_mode_reset(memory);
	put_params(boot, memory, vmm_acpi_write(memory, cpus));
}

void vmm_boot_registers(const vmm_boot *boot, struct kvm_regs *regs, struct kvm_sregs2 *sregs)
{
	struct kvm_segment code = { .limit = 0xffffffff, .selector = BOOT_CS, .type = 11,
				    .present = 1, .s = 1, .l = 1, .g = 1 };
	struct kvm_segment data = { .limit = 0xffffffff, .selector = BOOT_DS, .type = 3,
				    .present = 1, .db = 1, .s = 1, .g = 1 };
	struct kvm_segment task = { .limit = 0x67, .selector = BOOT_TSS, .type = 11,
				    .present = 1 };
	enum { CR0_PE = 1, CR0_ET = 1 << 4, CR4_PAE = 1 << 5, EFER_LME = 1 << 8,
	       EFER_LMA = 1 << 10 };

	memset(regs, 0, sizeof(*regs));
	regs->rip = boot->load + ENTRY_64;
	regs->rsi = VMM_ZERO_PAGE;
	regs->rsp = regs->rbp = VMM_BOOT_STACK;
	regs->rflags = 2;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = task;
	sregs->gdt.base = VMM_GDT;
	sregs->gdt.limit = 6 * 8 - 1;
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
	sregs->cr3 = VMM_PAGE_TABLES;
	sregs->cr4 |= CR4_PAE;
	sregs->cr0 |= CR0_PE | CR0_ET | 1u << 31;
	sregs->efer |= EFER_LME | EFER_LMA;
}
