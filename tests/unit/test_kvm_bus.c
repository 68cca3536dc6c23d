/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who answers which address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/bus.h"

/* Remembers the last access and answers with what it holds. */
struct probe {
	guint64 holds, offset, value;
	guint len, reads, writes;
};

static guint64 probe_read(void *device, guint64 offset, guint len)
{
	struct probe *probe = device;

	probe->offset = offset;
	probe->len = len;
	probe->reads++;
	return probe->holds;
}

static void probe_write(void *device, guint64 offset, guint64 value, guint len)
{
	struct probe *probe = device;

	probe->offset = offset;
	probe->value = value;
	probe->len = len;
	probe->writes++;
}

static const struct vmm_region_ops ops = { probe_read, probe_write };

static gboolean add(vmm_bus *bus, guint64 base, guint64 size, struct probe *probe)
{
	return vmm_bus_add(bus, base, size, "probe", &ops, probe);
}

static void an_access_reaches_its_region_with_the_offset(void **state)
{
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe probe = { .holds = 0x1122334455667788 };
	guint64 value;

	assert_true(add(bus, 0x1000, 16, &probe));
	assert_true(vmm_bus_read(bus, 0x1008, &value, 8));
	assert_int_equal(value, 0x1122334455667788);
	assert_int_equal(probe.offset, 8);
	assert_int_equal(probe.len, 8);
	assert_true(vmm_bus_write(bus, 0x100f, 0xab, 1));
	assert_int_equal(probe.offset, 15);
	assert_int_equal(probe.value, 0xab);
	assert_int_equal(probe.writes, 1);
}

static void an_answer_is_cut_to_the_length_of_the_access(void **state)
{
	static const guint64 expected[] = {
		[1] = 0x88, [2] = 0x7788, [4] = 0x55667788, [8] = 0x1122334455667788
	};
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe probe = { .holds = 0x1122334455667788 };

	assert_true(add(bus, 0, 8, &probe));
	for (guint len = 1; len <= 8; len *= 2) {
		guint64 value;

		assert_true(vmm_bus_read(bus, 0, &value, len));
		assert_int_equal(value, expected[len]);
	}
}

static void what_nobody_answers_reads_as_all_ones(void **state)
{
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	guint64 value;

	assert_false(vmm_bus_read(bus, 0x60, &value, 1));
	assert_int_equal(value, 0xff);
	assert_false(vmm_bus_read(bus, 0x60, &value, 2));
	assert_int_equal(value, 0xffff);
	assert_false(vmm_bus_read(bus, 0x60, &value, 4));
	assert_int_equal(value, 0xffffffff);
	assert_false(vmm_bus_read(bus, 0x60, &value, 8));
	assert_int_equal(value, G_MAXUINT64);
	assert_false(vmm_bus_write(bus, 0x60, 1, 1));
}

static void an_access_across_the_end_of_a_region_is_nobodys(void **state)
{
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe low = { 0 }, high = { 0 };
	guint64 value;

	assert_true(add(bus, 0x10, 6, &low));
	assert_true(add(bus, 0x16, 2, &high));
	assert_false(vmm_bus_read(bus, 0x14, &value, 4));
	assert_int_equal(value, 0xffffffff);
	assert_false(vmm_bus_write(bus, 0x15, 0, 2));
	assert_false(vmm_bus_read(bus, 0x0f, &value, 2));
	assert_false(vmm_bus_read(bus, 0x16, &value, 4));
	assert_int_equal(low.reads + low.writes + high.reads + high.writes, 0);
	assert_true(vmm_bus_read(bus, 0x14, &value, 2));
	assert_true(vmm_bus_read(bus, 0x16, &value, 2));
}

static void a_region_that_overlaps_another_is_refused(void **state)
{
	static const struct {
		guint64 base, size;
	} wrong[] = { { 0x100, 0x10 }, { 0x10f, 1 },	{ 0x0ff, 2 },
		      { 0x104, 4 },    { 0x0f0, 0x40 }, { 0, G_MAXUINT64 } };
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe first = { .holds = 1 }, second = { .holds = 2 };
	guint64 value;

	assert_true(add(bus, 0x100, 0x10, &first));
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++)
		assert_false(add(bus, wrong[i].base, wrong[i].size, &second));
	assert_true(vmm_bus_read(bus, 0x100, &value, 1));
	assert_int_equal(value, 1);
	assert_false(vmm_bus_read(bus, 0xff, &value, 1));
	assert_true(add(bus, 0xf0, 0x10, &second));
	assert_true(add(bus, 0x110, 0x10, &second));
}

static void a_region_that_wraps_or_is_empty_is_refused(void **state)
{
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe probe = { .holds = 3 };
	guint64 value;

	assert_false(add(bus, 0x100, 0, &probe));
	assert_false(add(bus, G_MAXUINT64, 2, &probe));
	assert_false(add(bus, 2, G_MAXUINT64, &probe));
	assert_true(add(bus, G_MAXUINT64 - 3, 4, &probe));
	assert_true(vmm_bus_read(bus, G_MAXUINT64, &value, 1));
	assert_int_equal(probe.offset, 3);
	assert_false(vmm_bus_read(bus, G_MAXUINT64 - 1, &value, 4));
}

static void regions_are_found_in_whatever_order_they_came(void **state)
{
	enum { REGIONS = 101 };
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe probes[REGIONS] = { 0 };
	guint64 value;

	/* 37 generates all residues of 101. */
	for (guint i = 0, at = 0; i < REGIONS; i++, at = (at + 37) % REGIONS) {
		probes[at].holds = at;
		assert_true(add(bus, at * 16, 8, &probes[at]));
	}
	for (guint i = 0; i < REGIONS; i++) {
		assert_true(vmm_bus_read(bus, i * 16 + 7, &value, 1));
		assert_int_equal(value, i);
		assert_false(vmm_bus_read(bus, i * 16 + 8, &value, 1));
	}
}

static void only_its_owner_gives_a_region_back(void **state)
{
	g_autoptr(vmm_bus) bus = vmm_bus_new();
	struct probe mine = { 0 }, other = { 0 };
	guint64 value;

	assert_true(add(bus, 0x20, 8, &mine));
	assert_true(add(bus, 0x28, 8, &other));
	vmm_bus_remove(bus, 0x20, &other);
	vmm_bus_remove(bus, 0x21, &mine);
	vmm_bus_remove(bus, 0x30, &other);
	assert_true(vmm_bus_read(bus, 0x20, &value, 1));
	vmm_bus_remove(bus, 0x20, &mine);
	assert_false(vmm_bus_read(bus, 0x20, &value, 1));
	assert_true(vmm_bus_read(bus, 0x28, &value, 1));
	vmm_bus_remove(bus, 0x20, &mine);
	assert_true(add(bus, 0x18, 0x10, &mine));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_access_reaches_its_region_with_the_offset),
		cmocka_unit_test(an_answer_is_cut_to_the_length_of_the_access),
		cmocka_unit_test(what_nobody_answers_reads_as_all_ones),
		cmocka_unit_test(an_access_across_the_end_of_a_region_is_nobodys),
		cmocka_unit_test(a_region_that_overlaps_another_is_refused),
		cmocka_unit_test(a_region_that_wraps_or_is_empty_is_refused),
		cmocka_unit_test(regions_are_found_in_whatever_order_they_came),
		cmocka_unit_test(only_its_owner_gives_a_region_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
