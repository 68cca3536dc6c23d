/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's ACPI tables (ACPI 6.4, chapter 5). Hardware-reduced: no power management
 * registers, no SCI, no PIT and no 8259 for the guest to program; power-off, reset and the
 * power button are single ports. Kernels without an MP-table parser find their
 * processors and interrupt controller here.
 */
#include "kvm/acpi.h"

#include <string.h>

#include "base/wire.h"
#include "kvm/layout.h"

#include "kvm/dsdt.h"

struct table_header {
	char signature[4];
	wire_u32 length;
	guint8 revision, checksum;
	char oem[6], oem_table[8];
	wire_u32 oem_revision;
	char creator[4];
	wire_u32 creator_revision;
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct table_header) == 36);

/* Generic address structure (5.2.3.2). */
struct address {
	guint8 space, width, offset, access;
	wire_u64 address;
} __attribute__((packed));
#define SPACE_IO 1
#define ACCESS_BYTE 1

struct rsdp {
	char signature[8];
	guint8 checksum;
	char oem[6];
	guint8 revision;
	wire_u32 rsdt;
	wire_u32 length;
	wire_u64 xsdt;
	guint8 extended_checksum, reserved[3];
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct rsdp) == 36);

struct fadt {
	struct table_header header;
	wire_u32 facs, dsdt;
	guint8 model, profile;
	guint8 legacy_power[109 - 46]; /* ignored on hardware-reduced platforms */
	wire_u16 boot_arch;
	guint8 reserved;
	wire_u32 flags;
	struct address reset;
	guint8 reset_value;
	wire_u16 arm_boot_arch;
	guint8 minor;
	wire_u64 x_facs, x_dsdt;
	struct address x_power[8];
	struct address sleep_control, sleep_status;
	wire_u64 hypervisor;
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct fadt) == 276);

#define BOOT_NO_VGA (1 << 2)
#define BOOT_NO_CMOS_RTC (1 << 5)
#define FADT_WBINVD (1u << 0)
#define FADT_SLEEP_BUTTON_IS_DEVICE (1u << 5)
#define FADT_POWER_BUTTON_IS_DEVICE (1u << 4)
#define FADT_RESET_REGISTER (1u << 10)
#define FADT_HEADLESS (1u << 12)
#define FADT_HARDWARE_REDUCED (1u << 20)

struct madt {
	struct table_header header;
	wire_u32 lapic;
	wire_u32 flags;
} __attribute__((packed));
struct madt_lapic {
	guint8 type, length, processor, apic;
	wire_u32 flags;
} __attribute__((packed));
struct madt_ioapic {
	guint8 type, length, id, reserved;
	wire_u32 address, gsi_base;
} __attribute__((packed));

static guint8 checksum(const void *bytes, gsize len)
{
	const guint8 *at = bytes;
	guint8 sum = 0;

	while (len--)
		sum = (guint8)(sum + *at++);
	return (guint8)-sum;
}

static void begin(struct table_header *header, const char *signature, guint8 revision,
		  gsize length)
{
	memcpy(header->signature, signature, 4);
	header->length = wire_put32((guint32)length);
	header->revision = revision;
	memcpy(header->oem, "COLO  ", 6);
	memcpy(header->oem_table, "COLOVM  ", 8);
	header->oem_revision = wire_put32(1);
	memcpy(header->creator, "COLO", 4);
	header->creator_revision = wire_put32(1);
}

/* Where the next table goes. */
struct writer {
	vmm_memory *memory;
	guint64 at;
};

static guint64 place(struct writer *writer, const void *table, gsize len)
{
	guint64 where = writer->at;

	g_assert(where + len <= VMM_ACPI_END);
	if (!vmm_memory_write(writer->memory, where, table, len))
		g_assert_not_reached();
	writer->at = (where + len + 15) & ~15ull;
	return where;
}

static struct address io_byte(guint16 port)
{
	return (struct address){ .space = SPACE_IO, .width = 8, .access = ACCESS_BYTE,
				 .address = wire_put64(port) };
}

static guint64 place_fadt(struct writer *writer, guint64 dsdt)
{
	struct fadt fadt = { 0 };

	begin(&fadt.header, "FACP", 6, sizeof(fadt));
	fadt.dsdt = wire_put32((guint32)dsdt);
	fadt.x_dsdt = wire_put64(dsdt);
	fadt.minor = 4;
	fadt.boot_arch = wire_put16(BOOT_NO_VGA | BOOT_NO_CMOS_RTC);
	fadt.flags = wire_put32(FADT_WBINVD | FADT_POWER_BUTTON_IS_DEVICE |
				FADT_SLEEP_BUTTON_IS_DEVICE | FADT_RESET_REGISTER |
				FADT_HEADLESS | FADT_HARDWARE_REDUCED);
	fadt.reset = io_byte(VMM_PORT_RESET);
	fadt.reset_value = VMM_RESET_VALUE;
	fadt.sleep_control = io_byte(VMM_PORT_SLEEP_CONTROL);
	fadt.sleep_status = io_byte(VMM_PORT_SLEEP_STATUS);
	memcpy(&fadt.hypervisor, "colo-vm", 8);
	fadt.header.checksum = checksum(&fadt, sizeof(fadt));
	return place(writer, &fadt, sizeof(fadt));
}

static guint64 place_madt(struct writer *writer, guint cpus)
{
	struct madt head = { .lapic = wire_put32(VMM_LAPIC) };
	struct madt_ioapic ioapic = { .type = 1, .length = sizeof(ioapic),
				      .address = wire_put32(VMM_IOAPIC) };
	g_autoptr(GByteArray) table = g_byte_array_new();
	struct table_header *header;

	g_byte_array_append(table, (guint8 *)&head, sizeof(head));
	for (guint i = 0; i < cpus; i++) {
		struct madt_lapic lapic = { .length = sizeof(lapic), .processor = (guint8)i,
					    .apic = (guint8)i, .flags = wire_put32(1) };

		g_byte_array_append(table, (guint8 *)&lapic, sizeof(lapic));
	}
	g_byte_array_append(table, (guint8 *)&ioapic, sizeof(ioapic));
	header = (struct table_header *)table->data;
	begin(header, "APIC", 5, table->len);
	header->checksum = checksum(table->data, table->len);
	return place(writer, table->data, table->len);
}

static guint64 place_xsdt(struct writer *writer, guint64 fadt, guint64 madt)
{
	struct {
		struct table_header header;
		wire_u64 tables[2];
	} __attribute__((packed)) xsdt = { .tables = { wire_put64(fadt), wire_put64(madt) } };

	begin(&xsdt.header, "XSDT", 1, sizeof(xsdt));
	xsdt.header.checksum = checksum(&xsdt, sizeof(xsdt));
	return place(writer, &xsdt, sizeof(xsdt));
}

guint64 vmm_acpi_write(vmm_memory *memory, guint cpus)
{
	/* The RSDP first, on a 16-byte boundary below 1 MiB: kernels that were not told
	 * where it is search for it there (5.2.5.1). */
	struct writer writer = { memory, VMM_ACPI + 64 };
	struct rsdp rsdp = { .revision = 2, .length = wire_put32(sizeof(rsdp)) };
	guint64 dsdt, fadt, madt;

	dsdt = place(&writer, dsdt_aml_code, sizeof(dsdt_aml_code));
	fadt = place_fadt(&writer, dsdt);
	madt = place_madt(&writer, cpus);
	memcpy(rsdp.signature, "RSD PTR ", 8);
	memcpy(rsdp.oem, "COLO  ", 6);
	rsdp.xsdt = wire_put64(place_xsdt(&writer, fadt, madt));
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	writer.at = VMM_ACPI;
	return place(&writer, &rsdp, sizeof(rsdp));
}
