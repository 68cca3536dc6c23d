/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is taken as a kernel, where everything is put, and the ACPI tables beside it. */
#include <asm/bootparam.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/acpi.h"
#include "kvm/boot.h"
#include "kvm/error.h"
#include "kvm/layout.h"

#define MIB (1ull << 20)
#define MEMORY (64 * MIB)
#define SETUP_HEADER 0x1f1
#define BODY 8192u /* bytes of the fake kernel after its setup part */
#define LOAD (16 * MIB)
#define INIT_SIZE (8 * MIB)

struct files {
	char *folder, *kernel, *initrd;
	struct setup_header header; /* what write_kernel() writes */
	gsize body;
};

static int set_up(void **state)
{
	struct files *files = g_new0(struct files, 1);

	files->folder = g_dir_make_tmp("colo-boot-XXXXXX", NULL);
	files->kernel = g_build_filename(files->folder, "vmlinuz", NULL);
	files->initrd = g_build_filename(files->folder, "initrd", NULL);
	files->body = BODY;
	files->header = (struct setup_header){
		.setup_sects = 1,
		.boot_flag = 0xaa55,
		.jump = 0xeb | (sizeof(struct setup_header) - 0x11) << 8,
		.header = 0x53726448,
		.version = 0x020f,
		.initrd_addr_max = 0x7fffffff,
		.cmdline_size = 255,
		.xloadflags = XLF_KERNEL_64,
		.pref_address = LOAD,
		.init_size = INIT_SIZE,
	};
	*state = files;
	return 0;
}

static int tear_down(void **state)
{
	struct files *files = *state;

	g_remove(files->kernel);
	g_remove(files->initrd);
	g_rmdir(files->folder);
	g_free(files->folder);
	g_free(files->kernel);
	g_free(files->initrd);
	g_free(files);
	return 0;
}

static void write_file(const char *path, const void *bytes, gsize len)
{
	assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

static void write_kernel(const struct files *files)
{
	gsize setup = (files->header.setup_sects + 1u) * 512;
	g_autofree guint8 *bytes = g_malloc(setup + files->body);

	memset(bytes, 0, setup);
	memset(bytes + setup, 0x90, files->body);
	memcpy(bytes + SETUP_HEADER, &files->header, sizeof(files->header));
	write_file(files->kernel, bytes, setup + files->body);
}

/* `len` bytes that are not zero. */
static void write_initrd(const struct files *files, gsize len)
{
	g_autofree char *bytes = g_strnfill(len, 'i');

	write_file(files->initrd, bytes, len);
}

static void refused(const struct files *files, const char *initrd, const char *append,
		    guint64 memory, const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(vmm_boot) boot =
		vmm_boot_new(files->kernel, initrd, append, memory, &error);

	if (boot)
		fail_msg("taken although: %s", why);
	assert_int_equal(error->domain, VMM_ERROR);
	assert_int_equal(error->code, VMM_ERROR_CONFIG);
	if (!strstr(error->message, why))
		fail_msg("refused with \"%s\" and not \"%s\"", error->message, why);
}

static vmm_boot *taken(const struct files *files, const char *initrd,
		       const char *append, guint64 memory)
{
	g_autoptr(GError) error = NULL;
	vmm_boot *boot = vmm_boot_new(files->kernel, initrd, append, memory, &error);

	if (!boot)
		fail_msg("%s", error->message);
	return boot;
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
	struct files *files = *state;
	g_autoptr(GError) absent = NULL, folder = NULL, initrd = NULL;

	assert_null(vmm_boot_new(files->kernel, NULL, NULL, MEMORY, &absent));
	assert_int_equal(absent->code, VMM_ERROR_HOST);
	assert_non_null(strstr(absent->message, files->kernel));
	assert_null(vmm_boot_new(files->folder, NULL, NULL, MEMORY, &folder));
	assert_int_equal(folder->code, VMM_ERROR_HOST);
	assert_non_null(strstr(folder->message, "not a regular file"));
	write_kernel(files);
	assert_null(vmm_boot_new(files->kernel, files->initrd, NULL, MEMORY, &initrd));
	assert_int_equal(initrd->code, VMM_ERROR_HOST);
	assert_non_null(strstr(initrd->message, files->initrd));
}

static void a_file_that_is_no_kernel_is_refused(void **state)
{
	struct files *files = *state;
	g_autofree char *text = g_strnfill(20000, '#');

	write_file(files->kernel, "", 0);
	refused(files, NULL, NULL, MEMORY, "not a Linux bzImage (0 bytes)");
	write_file(files->kernel, text, 600);
	refused(files, NULL, NULL, MEMORY, "not a Linux bzImage");
	write_file(files->kernel, text, 20000);
	refused(files, NULL, NULL, MEMORY, "no HdrS");
	files->header.boot_flag = 0xaa54;
	write_kernel(files);
	refused(files, NULL, NULL, MEMORY, "no HdrS");
	files->header.boot_flag = 0xaa55;
	files->header.header ^= 1;
	write_kernel(files);
	refused(files, NULL, NULL, MEMORY, "no HdrS");
}

static void a_kernel_cut_off_is_refused_wherever_it_is_cut(void **state)
{
	struct files *files = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	write_kernel(files);
	assert_true(g_file_get_contents(files->kernel, &bytes, &len, NULL));
	for (gsize cut = 0; cut <= 1024 + 0x200;
	     cut += cut > 400 && cut < 700 ? 1 : 13) {
		write_file(files->kernel, bytes, cut);
		refused(files, NULL, NULL, MEMORY,
			cut < SETUP_HEADER + sizeof(struct setup_header) ? "not a Linux"
									 : "cut off");
	}
	write_file(files->kernel, bytes, 1024 + 0x201);
	vmm_boot_free(taken(files, NULL, NULL, MEMORY));
}

static void a_kernel_without_a_64_bit_entry_is_refused(void **state)
{
	struct files *files = *state;

	files->header.version = 0x020b;
	write_kernel(files);
	refused(files, NULL, NULL, MEMORY, "no 64-bit entry point (protocol 2.11)");
	files->header.version = 0x020f;
	files->header.xloadflags = 0;
	write_kernel(files);
	refused(files, NULL, NULL, MEMORY, "no 64-bit entry point");
	/* A header that ends before the flags does not have them, whatever lies there.
	 */
	files->header.xloadflags = XLF_KERNEL_64;
	files->header.jump = 0xeb | 0x20 << 8;
	write_kernel(files);
	refused(files, NULL, NULL, MEMORY, "no 64-bit entry point");
}

static void a_kernel_that_does_not_fit_is_refused(void **state)
{
	struct files *files = *state;

	write_kernel(files);
	vmm_boot_free(taken(files, NULL, NULL, LOAD + INIT_SIZE));
	refused(files, NULL, NULL, LOAD + INIT_SIZE - VMM_PAGE, "to start");
	refused(files, NULL, NULL, LOAD - VMM_PAGE, "do not have");
	files->header.init_size = 0; /* the file itself counts then */
	write_kernel(files);
	vmm_boot_free(taken(files, NULL, NULL, LOAD + BODY));
	refused(files, NULL, NULL, LOAD + BODY - VMM_PAGE, "to start");
}

static void a_kernel_that_wants_an_impossible_place_is_refused(void **state)
{
	static const guint64 wrong[] = { 0,
					 0x90000,
					 VMM_HIGH_MEMORY - 1,
					 VMM_HOLE_START + 1,
					 VMM_HOLE_END,
					 G_MAXUINT64,
					 G_MAXUINT64 - BODY };
	struct files *files = *state;

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		files->header.pref_address = wrong[i];
		write_kernel(files);
		refused(files, NULL, NULL, 8ull << 30, "wants to be at");
	}
	files->header.pref_address = LOAD;
	files->header.init_size = 0xffffffff;
	write_kernel(files);
	refused(files, NULL, NULL, 8ull << 30, "to start");
}

static void a_command_line_that_is_too_long_is_refused(void **state)
{
	struct files *files = *state;
	g_autofree char *fits = g_strnfill(255, 'a'), *long_one = g_strnfill(256, 'a');
	g_autofree char *ours = g_strnfill(VMM_CMDLINE_MAX - 1, 'a');
	g_autofree char *beyond = g_strnfill(VMM_CMDLINE_MAX, 'a');

	write_kernel(files);
	vmm_boot_free(taken(files, NULL, fits, MEMORY));
	refused(files, NULL, long_one, MEMORY, "256 bytes");
	files->header.cmdline_size = 0xffffffff;
	write_kernel(files);
	vmm_boot_free(taken(files, NULL, ours, MEMORY));
	refused(files, NULL, beyond, MEMORY, "32768 bytes: the kernel takes 32767");
}

static void an_initrd_that_does_not_fit_is_refused(void **state)
{
	struct files *files = *state;
	const gsize room = MEMORY - LOAD - INIT_SIZE;

	write_kernel(files);
	write_initrd(files, room);
	vmm_boot_free(taken(files, files->initrd, NULL, MEMORY));
	write_initrd(files, room + 1);
	refused(files, files->initrd, NULL, MEMORY, "kernel and initrd");
	write_initrd(files, 70 * MIB);
	refused(files, files->initrd, NULL, MEMORY, "kernel and initrd");
	/* The kernel's own limit. */
	files->header.initrd_addr_max = LOAD + INIT_SIZE + 8191;
	write_kernel(files);
	write_initrd(files, 8192);
	vmm_boot_free(taken(files, files->initrd, NULL, MEMORY));
	write_initrd(files, 8193);
	refused(files, files->initrd, NULL, MEMORY, "kernel and initrd");
}

static struct boot_params *params_of(vmm_memory *memory)
{
	return vmm_memory_at(memory, VMM_ZERO_PAGE, sizeof(struct boot_params));
}

static vmm_memory *placed(const vmm_boot *boot, guint64 bytes, guint cpus)
{
	vmm_memory *memory = vmm_memory_new(bytes, NULL);

	assert_non_null(memory);
	vmm_boot_place(boot, memory, cpus);
	return memory;
}

static void kernel_initrd_and_command_line_are_placed(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;
	const struct boot_params *params;
	const guint8 *kernel, *initrd;

	write_kernel(files);
	write_initrd(files, 10000);
	boot = taken(files, files->initrd, "console=ttyS0 quiet", MEMORY);
	memory = placed(boot, MEMORY, 1);
	params = params_of(memory);
	kernel = vmm_memory_at(memory, LOAD, BODY + 1);
	assert_int_equal(kernel[0], 0x90);
	assert_int_equal(kernel[BODY - 1], 0x90);
	assert_int_equal(kernel[BODY], 0);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.init_size, INIT_SIZE);
	assert_int_equal(params->hdr.cmd_line_ptr, VMM_CMDLINE);
	assert_string_equal(vmm_memory_at(memory, VMM_CMDLINE, 100),
			    "console=ttyS0 quiet");
	/* The initrd ends as high as it can, on a page. */
	assert_int_equal(params->hdr.ramdisk_size, 10000);
	assert_int_equal(params->hdr.ramdisk_image, MEMORY - 3 * VMM_PAGE);
	initrd = vmm_memory_at(memory, params->hdr.ramdisk_image, 10001);
	assert_int_equal(initrd[0], 'i');
	assert_int_equal(initrd[9999], 'i');
	assert_int_equal(initrd[10000], 0);
}

static void without_initrd_there_is_none(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;

	write_kernel(files);
	boot = taken(files, NULL, NULL, MEMORY);
	memory = placed(boot, MEMORY, 1);
	assert_int_equal(params_of(memory)->hdr.ramdisk_image, 0);
	assert_int_equal(params_of(memory)->hdr.ramdisk_size, 0);
	assert_string_equal(vmm_memory_at(memory, VMM_CMDLINE, 1), "");
}

static void an_empty_initrd_does_no_harm(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;

	write_kernel(files);
	write_initrd(files, 0);
	boot = taken(files, files->initrd, NULL, MEMORY);
	memory = placed(boot, MEMORY, 1);
	assert_int_equal(params_of(memory)->hdr.ramdisk_size, 0);
}

/* As a reset does, long after the files were replaced or cut. */
static void the_files_are_not_needed_again(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;
	const guint8 *at;

	files->body = 3 * MIB;
	write_kernel(files);
	write_initrd(files, MIB);
	boot = taken(files, files->initrd, NULL, MEMORY);
	assert_int_equal(truncate(files->kernel, 0), 0);
	assert_int_equal(truncate(files->initrd, 0), 0);
	memory = placed(boot, MEMORY, 1);
	at = vmm_memory_at(memory, LOAD, 3 * MIB);
	assert_int_equal(at[3 * MIB - 1], 0x90);
	at = vmm_memory_at(memory, params_of(memory)->hdr.ramdisk_image, MIB);
	assert_int_equal(at[MIB - 1], 'i');
}

static void the_memory_map_is_what_there_is(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) small = NULL, large = NULL;
	const struct boot_params *params;

	write_kernel(files);
	boot = taken(files, NULL, NULL, MEMORY);
	small = placed(boot, MEMORY, 1);
	params = params_of(small);
	assert_int_equal(params->e820_entries, 3);
	assert_int_equal(params->e820_table[0].addr, 0);
	assert_int_equal(params->e820_table[0].size, VMM_EBDA);
	assert_int_equal(params->e820_table[0].type, 1);
	assert_int_equal(params->e820_table[1].type, 2);
	assert_int_equal(params->e820_table[2].addr, VMM_HIGH_MEMORY);
	assert_int_equal(params->e820_table[2].size, MEMORY - VMM_HIGH_MEMORY);
	large = placed(boot, 5ull << 30, 1);
	params = params_of(large);
	assert_int_equal(params->e820_entries, 4);
	assert_int_equal(params->e820_table[2].addr + params->e820_table[2].size,
			 VMM_HOLE_START);
	assert_int_equal(params->e820_table[3].addr, VMM_HOLE_END);
	assert_int_equal(params->e820_table[3].size, 2ull << 30);
	assert_int_equal(params->e820_table[3].type, 1);
}

static void the_first_processor_starts_at_the_64_bit_entry(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs = { .cr0 = 0x60000010, .apic_base = 0xfee00900 };

	write_kernel(files);
	boot = taken(files, NULL, NULL, MEMORY);
	memset(&regs, 0xff, sizeof(regs));
	vmm_boot_registers(boot, &regs, &sregs);
	assert_int_equal(regs.rip, LOAD + 0x200);
	assert_int_equal(regs.rsi, VMM_ZERO_PAGE);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(regs.rax, 0);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.ss.selector, 0x18);
	assert_int_equal(sregs.cr0 & 0x80000001, 0x80000001);
	assert_int_equal(sregs.cr4 & 0x20, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cr3, VMM_PAGE_TABLES);
	assert_int_equal(sregs.apic_base, 0xfee00900);
}

static guint64 entry(vmm_memory *memory, guint64 table, guint64 index)
{
	guint64 value;

	memcpy(&value, vmm_memory_at(memory, (table & ~0xfffull) + index * 8, 8), 8);
	assert_int_equal(value & 3, 3);
	return value;
}

static void the_page_tables_map_the_first_4_gib_to_themselves(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;

	write_kernel(files);
	boot = taken(files, NULL, NULL, MEMORY);
	memory = placed(boot, MEMORY, 1);
	for (guint64 at = 0; at < VMM_HOLE_END; at += 2 * MIB) {
		guint64 pdpt = entry(memory, VMM_PAGE_TABLES, 0);
		guint64 pd = entry(memory, pdpt, at >> 30);
		guint64 page = entry(memory, pd, at >> 21 & 511);

		assert_int_equal(page & 0x80, 0x80);
		assert_int_equal(page & ~0xfffull, at);
	}
	/* Nothing of it reaches what lies behind. */
	assert_true(VMM_PAGE_TABLES + 6 * VMM_PAGE <= VMM_CMDLINE);
}

/* ACPI. */

static guint8 sum(const guint8 *bytes, gsize len)
{
	guint8 total = 0;

	while (len--)
		total = (guint8)(total + *bytes++);
	return total;
}

static guint64 get(const guint8 *at, guint len)
{
	guint64 value = 0;

	memcpy(&value, at, len);
	return value;
}

/* A whole table by its address, after judging its header. */
static const guint8 *table(vmm_memory *memory, guint64 gpa, const char *signature)
{
	const guint8 *at = vmm_memory_at(memory, gpa, 36);
	guint32 len;

	assert_non_null(at);
	assert_memory_equal(at, signature, 4);
	len = (guint32)get(at + 4, 4);
	assert_true(len >= 36 && gpa >= VMM_ACPI && gpa + len <= VMM_ACPI_END);
	assert_int_equal(sum(at, len), 0);
	return at;
}

/* As a kernel does that was not told. */
static guint64 search_rsdp(vmm_memory *memory)
{
	for (guint64 gpa = VMM_ACPI; gpa < VMM_ACPI_END; gpa += 16) {
		const guint8 *at = vmm_memory_at(memory, gpa, 36);

		if (!memcmp(at, "RSD PTR ", 8) && !sum(at, 20))
			return gpa;
	}
	return 0;
}

static const guint8 *find_table(vmm_memory *memory, const char *signature)
{
	guint64 rsdp = search_rsdp(memory);
	const guint8 *at = vmm_memory_at(memory, rsdp, 36);
	const guint8 *xsdt;

	assert_int_not_equal(rsdp, 0);
	assert_int_equal(sum(at, 36), 0);
	assert_int_equal(at[15], 2);
	xsdt = table(memory, get(at + 24, 8), "XSDT");
	for (guint i = 36; i < get(xsdt + 4, 4); i += 8) {
		guint64 gpa = get(xsdt + i, 8);

		if (!memcmp(vmm_memory_at(memory, gpa, 4), signature, 4))
			return table(memory, gpa, signature);
	}
	return NULL;
}

static void the_acpi_tables_are_found_and_their_checksums_right(void **state)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new(MEMORY, NULL);
	guint64 told = vmm_acpi_write(memory, 3);
	const guint8 *fadt;

	assert_int_equal(search_rsdp(memory), told);
	fadt = find_table(memory, "FACP");
	assert_non_null(fadt);
	assert_int_equal(get(fadt + 4, 4), 276);
	table(memory, get(fadt + 140, 8), "DSDT");
	assert_int_equal(get(fadt + 140, 8), get(fadt + 40, 4));
	/* Hardware-reduced, with a reset register and a sleep control register. */
	assert_true(get(fadt + 112, 4) & 1u << 20);
	assert_true(get(fadt + 112, 4) & 1u << 10);
	assert_int_equal(get(fadt + 120, 8), VMM_PORT_RESET);
	assert_int_equal(fadt[128], VMM_RESET_VALUE);
	assert_int_equal(get(fadt + 248, 8), VMM_PORT_SLEEP_CONTROL);
	assert_int_equal(get(fadt + 260, 8), VMM_PORT_SLEEP_STATUS);
}

static void the_kernel_is_told_where_the_tables_are(void **state)
{
	struct files *files = *state;
	g_autoptr(vmm_boot) boot = NULL;
	g_autoptr(vmm_memory) memory = NULL;

	write_kernel(files);
	boot = taken(files, NULL, NULL, MEMORY);
	memory = placed(boot, MEMORY, 2);
	assert_int_equal(params_of(memory)->acpi_rsdp_addr, search_rsdp(memory));
}

static void the_madt_lists_each_processor_and_the_ioapic(void **state)
{
	for (guint cpus = 1; cpus <= 8; cpus++) {
		g_autoptr(vmm_memory) memory = vmm_memory_new(MEMORY, NULL);
		const guint8 *madt;
		guint found = 0, ioapics = 0;

		vmm_acpi_write(memory, cpus);
		madt = find_table(memory, "APIC");
		assert_non_null(madt);
		assert_int_equal(get(madt + 36, 4), VMM_LAPIC);
		for (guint i = 44; i < get(madt + 4, 4); i += madt[i + 1]) {
			assert_true(madt[i + 1] >= 8);
			if (madt[i] == 0) {
				assert_int_equal(madt[i + 2], found);
				assert_int_equal(madt[i + 3], found);
				assert_int_equal(get(madt + i + 4, 4), 1);
				found++;
			} else {
				assert_int_equal(madt[i], 1);
				assert_int_equal(get(madt + i + 4, 4), VMM_IOAPIC);
				ioapics++;
			}
		}
		assert_int_equal(found, cpus);
		assert_int_equal(ioapics, 1);
	}
}

/* Where there is a disassembler: it reads every table without a complaint. */
static void a_disassembler_understands_the_tables(void **state)
{
	static const char *const names[] = { "FACP", "APIC", "DSDT" };
	struct files *files = *state;
	g_autoptr(vmm_memory) memory = vmm_memory_new(MEMORY, NULL);
	g_autofree char *iasl = g_find_program_in_path("iasl");

	if (!iasl)
		skip();
	vmm_acpi_write(memory, 8);
	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *file =
			g_strdup_printf("%s/%s.dat", files->folder, names[i]);
		g_autofree char *source =
			g_strdup_printf("%s/%s.dsl", files->folder, names[i]);
		char *argv[] = { iasl, (char *)"-d", file, NULL };
		g_autofree char *out = NULL, *err = NULL, *text = NULL;
		const guint8 *fadt = find_table(memory, "FACP");
		const guint8 *at = i < 2 ? find_table(memory, names[i])
					 : table(memory, get(fadt + 140, 8), "DSDT");
		int status;

		write_file(file, at, get(at + 4, 4));
		assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL,
					 &out, &err, &status, NULL));
		if (status || !g_file_get_contents(source, &text, NULL, NULL))
			fail_msg("iasl: %s%s", out, err);
		assert_null(strstr(text, "Invalid"));
		assert_null(strstr(text, "ERROR"));
		assert_null(strstr(err, "Error"));
		g_remove(file);
		g_remove(source);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_file_that_cannot_be_read_is_named),
		TEST(a_file_that_is_no_kernel_is_refused),
		TEST(a_kernel_cut_off_is_refused_wherever_it_is_cut),
		TEST(a_kernel_without_a_64_bit_entry_is_refused),
		TEST(a_kernel_that_does_not_fit_is_refused),
		TEST(a_kernel_that_wants_an_impossible_place_is_refused),
		TEST(a_command_line_that_is_too_long_is_refused),
		TEST(an_initrd_that_does_not_fit_is_refused),
		TEST(kernel_initrd_and_command_line_are_placed),
		TEST(without_initrd_there_is_none),
		TEST(an_empty_initrd_does_no_harm),
		TEST(the_files_are_not_needed_again),
		TEST(the_memory_map_is_what_there_is),
		TEST(the_first_processor_starts_at_the_64_bit_entry),
		TEST(the_page_tables_map_the_first_4_gib_to_themselves),
		TEST(the_acpi_tables_are_found_and_their_checksums_right),
		TEST(the_kernel_is_told_where_the_tables_are),
		TEST(the_madt_lists_each_processor_and_the_ioapic),
		TEST(a_disassembler_understands_the_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
