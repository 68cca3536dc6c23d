/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PCI bus, its configuration ports, BARs and MSI-X. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "kvm/error.h"
#include "kvm/pci.h"
#include "tests/unit/fake_driver.h"

#define BAR(slot) (VMM_PCI_WINDOW + (slot)*VMM_PCI_BAR_SIZE)
#define ALL_ONES 0xffffffffu
#define DECODE_AND_MASTER (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

/* A device with a word of memory at the start of its BAR. */
struct thing {
	vmm_pci_device *device;
	guint64 word;
	guint64 at; /* as bar_moved() said last */
	guint moves;
};

struct rig {
	struct fake_platform *fake;
	vmm_pci *pci;
	struct thing one, two; /* slots 1 and 2 */
	guint8 reset_value;
	guint resets;
};

static guint64 thing_read(void *data, guint64 offset, guint len)
{
	return offset == 0 ? ((struct thing *)data)->word : 0;
}

static void thing_write(void *data, guint64 offset, guint64 value, guint len)
{
	if (offset == 0)
		((struct thing *)data)->word = value;
}

static void thing_moved(void *data, guint64 gpa)
{
	struct thing *thing = data;

	thing->at = gpa;
	thing->moves++;
}

static const struct vmm_pci_class thing_class = {
	.name = "thing",
	.vendor = 0x1234,
	.device = 0x5678,
	.subsystem_vendor = 0x1111,
	.subsystem = 0x2222,
	.revision = 3,
	.class_code = 0x020000,
	.vectors = 3,
	.bar_read = thing_read,
	.bar_write = thing_write,
	.bar_moved = thing_moved,
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(1u << 20);
	rig->pci = vmm_pci_new(&rig->fake->platform);
	rig->one.device =
		vmm_pci_device_new(rig->pci, &thing_class, 0, &rig->one, NULL);
	rig->two.device =
		vmm_pci_device_new(rig->pci, &thing_class, 1, &rig->two, NULL);
	rig->one.word = 0x11111111;
	rig->two.word = 0x22222222;
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_pci_device_free(rig->one.device);
	vmm_pci_device_free(rig->two.device);
	vmm_pci_free(rig->pci);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static void set_bar(struct rig *rig, guint slot, guint32 bar)
{
	fake_pci_write(rig->fake, slot, PCI_BASE_ADDRESS_0, bar, 4);
}

static void set_command(struct rig *rig, guint slot, guint16 command)
{
	fake_pci_write(rig->fake, slot, PCI_COMMAND, command, 2);
}

/* Vector `v` of slot 1 sends 0x40 + v; bus mastering and MSI-X on. */
static void enable_msix(struct rig *rig)
{
	set_command(rig, 1, DECODE_AND_MASTER);
	for (guint v = 0; v < 3; v++) {
		guint64 entry = BAR(1) + VMM_PCI_MSIX_TABLE + 16 * v;

		fake_mmio_write(rig->fake, entry, 0xfee00000, 8);
		fake_mmio_write(rig->fake, entry + 8, 0x40 + v, 8);
	}
	fake_pci_write(rig->fake, 1, 0x42, PCI_MSIX_FLAGS_ENABLE, 2);
}

static void mask(struct rig *rig, guint v, gboolean masked)
{
	fake_mmio_write(rig->fake, BAR(1) + VMM_PCI_MSIX_TABLE + 16 * v + 12, masked,
			4);
}

static guint64 pending(struct rig *rig)
{
	return fake_mmio_read(rig->fake, BAR(1) + VMM_PCI_MSIX_PBA, 8);
}

static void a_guest_that_scans_the_bus_finds_what_is_there(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_pci_read(rig->fake, 0, PCI_CLASS_REVISION + 1, 1), 0);
	assert_int_equal(fake_pci_read(rig->fake, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(fake_pci_read(rig->fake, 1, 0, 4), 0x56781234);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_CLASS_REVISION, 4),
			 0x02000003);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_SUBSYSTEM_VENDOR_ID, 4),
			 0x22221111);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_INTERRUPT_PIN, 1), 0);
	assert_true(fake_pci_read(rig->fake, 1, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(fake_pci_read(rig->fake, 3, 0, 4), ALL_ONES);
}

static void other_buses_and_functions_are_empty(void **state)
{
	struct rig *rig = *state;

	fake_out(rig->fake, 0xcf8, 0x80010800, 4);
	assert_int_equal(fake_in(rig->fake, 0xcfc, 4), ALL_ONES);
	fake_out(rig->fake, 0xcf8, 0x80000900, 4);
	assert_int_equal(fake_in(rig->fake, 0xcfc, 4), ALL_ONES);
	/* Without the enable bit nothing is meant for PCI. */
	fake_out(rig->fake, 0xcf8, 0x00000800, 4);
	assert_int_equal(fake_in(rig->fake, 0xcfc, 4), ALL_ONES);
}

static void configuration_is_read_in_any_width(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_pci_read(rig->fake, 1, 0, 2), 0x1234);
	assert_int_equal(fake_pci_read(rig->fake, 1, 2, 2), 0x5678);
	assert_int_equal(fake_pci_read(rig->fake, 1, 1, 1), 0x12);
	assert_int_equal(fake_pci_read(rig->fake, 1, 1, 2), 0x7812);
	/* Beyond the double word there is no port. */
	assert_int_equal(fake_pci_read(rig->fake, 1, 3, 2), 0xffff);
}

static void the_address_latch_takes_double_words_only(void **state)
{
	struct rig *rig = *state;

	fake_out(rig->fake, 0xcf8, 0x80000803, 4);
	assert_int_equal(fake_in(rig->fake, 0xcf8, 4), 0x80000800);
	fake_out(rig->fake, 0xcf8, 0x12, 1);
	fake_out(rig->fake, 0xcfa, 0x1234, 2);
	assert_int_equal(fake_in(rig->fake, 0xcf8, 4), 0x80000800);
	assert_int_equal(fake_in(rig->fake, 0xcf8, 1), 0xff);
}

static void note_reset(void *data, guint8 value)
{
	struct rig *rig = data;

	rig->reset_value = value;
	rig->resets++;
}

static void the_reset_register_is_handed_on(void **state)
{
	struct rig *rig = *state;

	fake_out(rig->fake, 0xcf9, 6, 1);
	assert_int_equal(rig->resets, 0);
	assert_int_equal(fake_in(rig->fake, 0xcf9, 1), 0xff);
	vmm_pci_set_reset_handler(rig->pci, note_reset, rig);
	fake_out(rig->fake, 0xcf9, 6, 1);
	assert_int_equal(rig->resets, 1);
	assert_int_equal(rig->reset_value, 6);
	assert_int_equal(fake_in(rig->fake, 0xcf9, 1), 0);
	fake_out(rig->fake, 0xcf9, 6, 2);
	fake_out(rig->fake, 0xcf8, 0x80000600, 4);
	assert_int_equal(rig->resets, 1);
}

static void identification_cannot_be_written(void **state)
{
	struct rig *rig = *state;

	for (guint offset = 0; offset < 256; offset += 4) {
		fake_pci_write(rig->fake, 0, offset, ALL_ONES, 4);
		fake_pci_write(rig->fake, 1, offset, ALL_ONES, 4);
	}
	assert_int_equal(fake_pci_read(rig->fake, 1, 0, 4), 0x56781234);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_COMMAND, 2),
			 DECODE_AND_MASTER | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_ROM_ADDRESS, 4), 0);
}

static void a_bar_has_an_address_from_the_start(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_BASE_ADDRESS_0, 4), BAR(1));
	assert_int_equal(rig->one.at, BAR(1));
	assert_int_equal(fake_mmio_read(rig->fake, BAR(1), 4), 0x11111111);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(2), 4), 0x22222222);
}

static void a_bar_tells_its_size(void **state)
{
	struct rig *rig = *state;

	set_command(rig, 1, 0);
	set_bar(rig, 1, ALL_ONES);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_BASE_ADDRESS_0, 4),
			 ~(VMM_PCI_BAR_SIZE - 1));
	set_bar(rig, 1, BAR(1));
	set_command(rig, 1, PCI_COMMAND_MEMORY);
	assert_int_equal(rig->one.at, BAR(1));
}

static void a_bar_can_be_moved(void **state)
{
	struct rig *rig = *state;

	set_bar(rig, 1, BAR(9));
	assert_int_equal(rig->one.at, BAR(9));
	assert_int_equal(fake_mmio_read(rig->fake, BAR(1), 4), ALL_ONES);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(9), 4), 0x11111111);
}

static void without_decoding_a_bar_is_not_there(void **state)
{
	struct rig *rig = *state;

	set_command(rig, 1, PCI_COMMAND_MASTER);
	assert_int_equal(rig->one.at, 0);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(1), 4), ALL_ONES);
	set_command(rig, 1, PCI_COMMAND_MEMORY);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(1), 4), 0x11111111);
}

static void a_bar_outside_the_window_is_not_there(void **state)
{
	static const guint32 places[] = { 0,
					  0x100000,
					  VMM_PCI_WINDOW - VMM_PCI_BAR_SIZE,
					  VMM_PCI_WINDOW_END,
					  0xfee00000,
					  0xffff8000 };
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
		set_bar(rig, 1, places[i]);
		assert_int_equal(rig->one.at, 0);
	}
	set_bar(rig, 1, VMM_PCI_WINDOW_END - VMM_PCI_BAR_SIZE);
	assert_int_equal(rig->one.at, VMM_PCI_WINDOW_END - VMM_PCI_BAR_SIZE);
}

static void of_two_bars_at_one_place_the_lower_slot_is_seen(void **state)
{
	struct rig *rig = *state;

	set_bar(rig, 1, BAR(2));
	assert_int_equal(rig->one.at, BAR(2));
	assert_int_equal(rig->two.at, 0);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(2), 4), 0x11111111);
	/* When it goes, the other is there again. */
	set_bar(rig, 1, BAR(1));
	assert_int_equal(rig->two.at, BAR(2));
	assert_int_equal(fake_mmio_read(rig->fake, BAR(2), 4), 0x22222222);
	set_bar(rig, 2, BAR(1));
	assert_int_equal(rig->one.at, BAR(1));
	assert_int_equal(rig->two.at, 0);
}

static void two_bars_can_change_places(void **state)
{
	struct rig *rig = *state;

	set_bar(rig, 1, BAR(2));
	set_bar(rig, 2, BAR(1));
	assert_int_equal(fake_mmio_read(rig->fake, BAR(1), 4), 0x22222222);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(2), 4), 0x11111111);
}

static void a_bar_on_top_of_something_else_is_not_there(void **state)
{
	static const struct vmm_region_ops ops = { thing_read, thing_write };
	struct rig *rig = *state;
	struct thing other = { .word = 0x33333333 };

	assert_true(vmm_bus_add(rig->fake->platform.mmio, BAR(9) + 0x100, 4, "other",
				&ops, &other));
	set_bar(rig, 1, BAR(9));
	assert_int_equal(rig->one.at, 0);
	assert_int_equal(fake_mmio_read(rig->fake, BAR(9) + 0x100, 4), 0x33333333);
	set_bar(rig, 1, BAR(1));
	assert_int_equal(rig->one.at, BAR(1));
	vmm_bus_remove(rig->fake->platform.mmio, BAR(9) + 0x100, &other);
}

static void vendor_capabilities_are_chained(void **state)
{
	struct rig *rig = *state;
	guint8 cap[6] = { 0, 0, 6, 1, 2, 3 };
	guint first = vmm_pci_add_capability(rig->one.device, cap, sizeof(cap));
	guint second = vmm_pci_add_capability(rig->one.device, cap, sizeof(cap));

	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_CAPABILITY_LIST, 1), 0x40);
	assert_int_equal(fake_pci_read(rig->fake, 1, 0x40, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(fake_pci_read(rig->fake, 1, 0x41, 1), first);
	assert_int_equal(fake_pci_read(rig->fake, 1, first, 1), PCI_CAP_ID_VNDR);
	assert_int_equal(fake_pci_read(rig->fake, 1, first + 1, 1), second);
	assert_int_equal(fake_pci_read(rig->fake, 1, second + 1, 1), 0);
	assert_int_equal(fake_pci_read(rig->fake, 1, second + 3, 1), 1);
}

static void an_interrupt_sends_the_message_of_its_vector(void **state)
{
	struct rig *rig = *state;

	enable_msix(rig);
	vmm_pci_interrupt(rig->one.device, 1);
	assert_int_equal(rig->fake->msis->len, 1);
	assert_int_equal(g_array_index(rig->fake->msis, struct fake_msi, 0).address,
			 0xfee00000);
	assert_int_equal(fake_msi_count(rig->fake, 0x41), 1);
	vmm_pci_interrupt(rig->one.device, 3);
	vmm_pci_interrupt(rig->one.device, 0xffff);
	assert_int_equal(rig->fake->msis->len, 1);
	assert_int_equal(pending(rig), 0);
}

static void a_masked_vector_is_kept_until_it_is_unmasked(void **state)
{
	struct rig *rig = *state;

	enable_msix(rig);
	mask(rig, 1, TRUE);
	vmm_pci_interrupt(rig->one.device, 1);
	vmm_pci_interrupt(rig->one.device, 1);
	assert_int_equal(rig->fake->msis->len, 0);
	assert_int_equal(pending(rig), 2);
	mask(rig, 1, FALSE);
	assert_int_equal(fake_msi_count(rig->fake, 0x41), 1);
	assert_int_equal(pending(rig), 0);
}

static void a_masked_function_keeps_all_vectors(void **state)
{
	struct rig *rig = *state;

	enable_msix(rig);
	fake_pci_write(rig->fake, 1, 0x42,
		       PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	vmm_pci_interrupt(rig->one.device, 0);
	vmm_pci_interrupt(rig->one.device, 2);
	assert_int_equal(pending(rig), 5);
	fake_pci_write(rig->fake, 1, 0x42, PCI_MSIX_FLAGS_ENABLE, 2);
	assert_int_equal(rig->fake->msis->len, 2);
	assert_int_equal(pending(rig), 0);
}

static void a_function_that_may_not_master_the_bus_sends_nothing(void **state)
{
	struct rig *rig = *state;

	enable_msix(rig);
	set_command(rig, 1, PCI_COMMAND_MEMORY);
	vmm_pci_interrupt(rig->one.device, 0);
	assert_int_equal(rig->fake->msis->len, 0);
	set_command(rig, 1, DECODE_AND_MASTER);
	assert_int_equal(rig->fake->msis->len, 1);
}

static void the_msix_table_takes_whole_words_only(void **state)
{
	struct rig *rig = *state;
	guint64 table = BAR(1) + VMM_PCI_MSIX_TABLE;

	enable_msix(rig);
	fake_mmio_write(rig->fake, table + 8, 0xffff, 2);
	fake_mmio_write(rig->fake, table + 9, 0xff, 1);
	fake_mmio_write(rig->fake, table + 6, ALL_ONES, 4);
	fake_mmio_write(rig->fake, table - 4, G_MAXUINT64, 8);
	assert_int_equal(fake_mmio_read(rig->fake, table, 8), 0xfee00000);
	assert_int_equal(fake_mmio_read(rig->fake, table + 8, 4), 0x40);
	assert_int_equal(fake_mmio_read(rig->fake, table + 9, 1), 0xff);
	/* Nothing behind the last vector, and the pending bits are for reading. */
	fake_mmio_write(rig->fake, table + 48, ALL_ONES, 4);
	assert_int_equal(fake_mmio_read(rig->fake, table + 48, 4), 0);
	fake_mmio_write(rig->fake, BAR(1) + VMM_PCI_MSIX_PBA, ALL_ONES, 4);
	assert_int_equal(pending(rig), 0);
}

static void after_a_load_every_unmasked_vector_can_be_raised(void **state)
{
	struct rig *rig = *state;

	vmm_pci_interrupt_all(rig->one.device);
	assert_int_equal(rig->fake->msis->len, 0);
	enable_msix(rig);
	mask(rig, 2, TRUE);
	vmm_pci_interrupt_all(rig->one.device);
	assert_int_equal(rig->fake->msis->len, 2);
}

static void the_bus_has_an_end(void **state)
{
	struct rig *rig = *state;
	struct thing more[VMM_PCI_SLOTS] = { 0 };
	g_autoptr(GError) error = NULL;
	guint n = 0;

	while (n < VMM_PCI_SLOTS) {
		more[n].device = vmm_pci_device_new(rig->pci, &thing_class, n + 2,
						    &more[n], &error);
		if (!more[n].device)
			break;
		n++;
	}
	assert_int_equal(n, VMM_PCI_SLOTS - 3);
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG));
	while (n--)
		vmm_pci_device_free(more[n].device);
}

static void save_all(struct rig *rig, vmm_state *saved)
{
	vmm_state_reset(saved);
	vmm_pci_save(rig->pci, saved);
	vmm_pci_device_save(rig->one.device, saved);
	vmm_pci_device_save(rig->two.device, saved);
}

static gboolean load_all(struct rig *rig, const vmm_state *saved, enum vmm_load pass)
{
	return vmm_pci_load(rig->pci, saved, pass, NULL) &&
	       vmm_pci_device_load(rig->one.device, saved, pass, NULL) &&
	       vmm_pci_device_load(rig->two.device, saved, pass, NULL);
}

static void a_bus_comes_back_as_it_was_saved(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(vmm_state) after = vmm_state_new();

	enable_msix(rig);
	mask(rig, 2, TRUE);
	vmm_pci_interrupt(rig->one.device, 2);
	set_bar(rig, 1, BAR(2));
	set_bar(rig, 2, BAR(1));
	save_all(rig, before);
	vmm_pci_reset(rig->pci);
	vmm_pci_device_reset(rig->one.device);
	vmm_pci_device_reset(rig->two.device);
	assert_int_equal(rig->one.at, BAR(1));

	assert_true(load_all(rig, before, VMM_LOAD_CHECK));
	assert_int_equal(rig->one.at, BAR(1));
	assert_true(load_all(rig, before, VMM_LOAD_APPLY));
	assert_int_equal(rig->one.at, BAR(2));
	assert_int_equal(rig->two.at, BAR(1));
	assert_int_equal(rig->fake->msis->len, 0);
	save_all(rig, after);
	assert_null(vmm_state_difference(before, after));
	assert_int_equal(fake_mmio_read(rig->fake, BAR(2) + VMM_PCI_MSIX_PBA, 4), 4);
}

static void assert_refused(struct rig *rig, guint at, guint8 byte)
{
	g_autoptr(vmm_state) good = vmm_state_new();
	g_autoptr(vmm_state) bad = vmm_state_new();
	g_autoptr(GError) error = NULL;
	guint8 payload[1024];
	const void *data;
	gsize len;

	vmm_pci_device_save(rig->one.device, good);
	data = vmm_state_get(good, "pci-thing", 0, 1, 0, sizeof(payload), &len, NULL);
	assert_non_null(data);
	memcpy(payload, data, len);
	payload[at] = byte;
	vmm_state_put(bad, "pci-thing", 0, 1, payload, len, NULL);
	assert_false(vmm_pci_device_load(rig->one.device, bad, VMM_LOAD_CHECK, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
}

static void a_saved_device_that_cannot_be_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_refused(rig, 0, 2); /* slot */
	assert_refused(rig, 4, 4); /* vectors */
	assert_refused(rig, 8, 1); /* BAR */
	assert_refused(rig, 12, 8); /* pending */
	assert_refused(rig, 16, 0x40); /* command */
	assert_refused(rig, 18, 3); /* MSI-X control */
	assert_refused(rig, 22, 1); /* padding */
	assert_refused(rig, 24, 1); /* address */
	assert_refused(rig, 36, 2); /* vector control */
	assert_refused(rig, 24 + 3 * 16, 4); /* a vector too many */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_guest_that_scans_the_bus_finds_what_is_there),
		TEST(other_buses_and_functions_are_empty),
		TEST(configuration_is_read_in_any_width),
		TEST(the_address_latch_takes_double_words_only),
		TEST(the_reset_register_is_handed_on),
		TEST(identification_cannot_be_written),
		TEST(a_bar_has_an_address_from_the_start),
		TEST(a_bar_tells_its_size),
		TEST(a_bar_can_be_moved),
		TEST(without_decoding_a_bar_is_not_there),
		TEST(a_bar_outside_the_window_is_not_there),
		TEST(of_two_bars_at_one_place_the_lower_slot_is_seen),
		TEST(two_bars_can_change_places),
		TEST(a_bar_on_top_of_something_else_is_not_there),
		TEST(vendor_capabilities_are_chained),
		TEST(an_interrupt_sends_the_message_of_its_vector),
		TEST(a_masked_vector_is_kept_until_it_is_unmasked),
		TEST(a_masked_function_keeps_all_vectors),
		TEST(a_function_that_may_not_master_the_bus_sends_nothing),
		TEST(the_msix_table_takes_whole_words_only),
		TEST(after_a_load_every_unmasked_vector_can_be_raised),
		TEST(the_bus_has_an_end),
		TEST(a_bus_comes_back_as_it_was_saved),
		TEST(a_saved_device_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
