/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory: banks around the hole, bounds, and the pages that devices wrote. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/memory.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static vmm_memory *make(guint64 bytes)
{
	g_autoptr(GError) error = NULL;
	vmm_memory *memory = vmm_memory_new(bytes, &error);

	if (!memory)
		fail_msg("%s", error->message);
	return memory;
}

static int compare(const void *a, const void *b)
{
	guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;

	return x < y ? -1 : x > y;
}

/* The pages marked since the last time, sorted, as "1 2 7". */
static char *marked(vmm_memory *memory)
{
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	GString *text = g_string_new(NULL);

	vmm_memory_take_marked(memory, pages);
	g_array_sort(pages, compare);
	for (guint i = 0; i < pages->len; i++)
		g_string_append_printf(text, "%s%u", i ? " " : "",
				       g_array_index(pages, guint32, i));
	return g_string_free(text, FALSE);
}

static void assert_marked(vmm_memory *memory, const char *expected)
{
	g_autofree char *pages = marked(memory);

	assert_string_equal(pages, expected);
}

static void small_memory_is_one_bank(void **state)
{
	g_autoptr(vmm_memory) memory = make(64 * MIB);
	const struct vmm_bank *banks;
	guint count;

	banks = vmm_memory_banks(memory, &count);
	assert_int_equal(count, 1);
	assert_int_equal(banks[0].gpa, 0);
	assert_int_equal(banks[0].size, 64 * MIB);
	assert_int_equal(banks[0].offset, 0);
	assert_int_equal(vmm_memory_bytes(memory), 64 * MIB);
	assert_int_equal(vmm_memory_pages(memory), 16384);
}

static void three_gib_just_fit_below_the_hole(void **state)
{
	g_autoptr(vmm_memory) memory = make(VMM_HOLE_START);
	guint count;

	vmm_memory_banks(memory, &count);
	assert_int_equal(count, 1);
	assert_non_null(vmm_memory_at(memory, VMM_HOLE_START - 1, 1));
	assert_null(vmm_memory_at(memory, VMM_HOLE_END, 1));
}

static void a_page_more_than_three_gib_lies_above_the_hole(void **state)
{
	g_autoptr(vmm_memory) memory = make(VMM_HOLE_START + VMM_PAGE);
	const struct vmm_bank *banks;
	guint8 *at;
	guint count;

	banks = vmm_memory_banks(memory, &count);
	assert_int_equal(count, 2);
	assert_int_equal(banks[1].gpa, VMM_HOLE_END);
	assert_int_equal(banks[1].size, VMM_PAGE);
	assert_int_equal(banks[1].offset, VMM_HOLE_START);
	at = vmm_memory_at(memory, VMM_HOLE_END, VMM_PAGE);
	assert_ptr_equal(at, banks[1].host);
	assert_ptr_equal(at, vmm_memory_page(memory, VMM_HOLE_START / VMM_PAGE));
	assert_null(vmm_memory_at(memory, VMM_HOLE_END, VMM_PAGE + 1));
}

static void nothing_answers_in_the_hole_or_across_it(void **state)
{
	g_autoptr(vmm_memory) memory = make(5 * GIB);

	assert_non_null(vmm_memory_at(memory, VMM_HOLE_START - 8, 8));
	assert_null(vmm_memory_at(memory, VMM_HOLE_START - 8, 9));
	assert_null(vmm_memory_at(memory, VMM_HOLE_START, 1));
	assert_null(vmm_memory_at(memory, VMM_HOLE_END - 1, 1));
	assert_null(vmm_memory_at(memory, VMM_HOLE_END - 1, 2));
	assert_non_null(vmm_memory_at(memory, VMM_HOLE_END, 1));
	assert_null(vmm_memory_at(memory, VMM_HOLE_START - 8, 2 * GIB));
}

static void lengths_that_wrap_are_refused(void **state)
{
	g_autoptr(vmm_memory) memory = make(5 * GIB);

	assert_null(vmm_memory_at(memory, 16, G_MAXUINT64));
	assert_null(vmm_memory_at(memory, 16, G_MAXUINT64 - 15));
	assert_null(vmm_memory_at(memory, G_MAXUINT64, 1));
	assert_null(vmm_memory_at(memory, G_MAXUINT64, 2));
	assert_null(vmm_memory_at(memory, G_MAXUINT64 - 4095, 4096));
	assert_null(vmm_memory_at(memory, VMM_HOLE_END + 2 * GIB, 1));
	assert_non_null(vmm_memory_at(memory, VMM_HOLE_END + 2 * GIB - 1, 1));
}

static void a_page_number_and_its_guest_address_agree(void **state)
{
	static const guint64 pages[] = { 0,
					 1,
					 VMM_HOLE_START / VMM_PAGE - 1,
					 VMM_HOLE_START / VMM_PAGE,
					 VMM_HOLE_START / VMM_PAGE + 1,
					 5 * GIB / VMM_PAGE - 1 };
	g_autoptr(vmm_memory) memory = make(5 * GIB);

	for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
		assert_ptr_equal(vmm_memory_at(memory,
					       vmm_memory_page_gpa(memory, pages[i]),
					       VMM_PAGE),
				 vmm_memory_page(memory, pages[i]));
	assert_int_equal(vmm_memory_page_gpa(memory, VMM_HOLE_START / VMM_PAGE - 1),
			 VMM_HOLE_START - VMM_PAGE);
	assert_int_equal(vmm_memory_page_gpa(memory, VMM_HOLE_START / VMM_PAGE),
			 VMM_HOLE_END);
}

static void what_is_written_is_there_for_whoever_has_the_descriptor(void **state)
{
	g_autoptr(vmm_memory) memory = make(5 * GIB);
	char text[6] = "";

	assert_true(vmm_memory_write(memory, VMM_HOLE_END + 10, "hello", 6));
	assert_int_equal(pread(vmm_memory_fd(memory), text, 6, VMM_HOLE_START + 10), 6);
	assert_string_equal(text, "hello");
}

static void a_write_that_does_not_fit_changes_nothing(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_track(memory, TRUE);
	assert_false(vmm_memory_write(memory, MIB - 4, "hello", 5));
	assert_memory_equal(vmm_memory_at(memory, MIB - 4, 4), "\0\0\0\0", 4);
	assert_marked(memory, "");
}

static void the_descriptor_cannot_cut_memory_off(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	assert_int_equal(ftruncate(vmm_memory_fd(memory), 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(vmm_memory_fd(memory), 2 * MIB), -1);
}

static void nothing_is_marked_while_nobody_collects(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_mark(memory, 0, MIB);
	assert_marked(memory, "");
	vmm_memory_track(memory, TRUE);
	assert_marked(memory, "");
}

static void each_page_is_marked_once_until_it_is_taken(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_track(memory, TRUE);
	for (guint i = 0; i < 3; i++) {
		vmm_memory_mark(memory, 5 * VMM_PAGE + 1, 2);
		vmm_memory_mark(memory, 5 * VMM_PAGE + 4000, 200);
		vmm_memory_mark(memory, 0, 1);
	}
	assert_marked(memory, "0 5 6");
	assert_marked(memory, "");
	vmm_memory_mark(memory, 5 * VMM_PAGE, 1);
	assert_marked(memory, "5");
}

static void every_page_that_a_range_touches_is_marked(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_track(memory, TRUE);
	vmm_memory_mark(memory, 63 * VMM_PAGE + 4095, 2);
	assert_marked(memory, "63 64");
	vmm_memory_mark(memory, 62 * VMM_PAGE, 2 * VMM_PAGE);
	assert_marked(memory, "62 63");
	vmm_memory_mark(memory, 3 * VMM_PAGE, 2 * VMM_PAGE + 1);
	assert_marked(memory, "3 4 5");
	vmm_memory_mark(memory, 7 * VMM_PAGE, 0);
	assert_marked(memory, "");
	vmm_memory_mark(memory, MIB - 1, 1);
	assert_marked(memory, "255");
}

static void marks_outside_memory_are_ignored(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_track(memory, TRUE);
	vmm_memory_mark(memory, MIB, 1);
	vmm_memory_mark(memory, G_MAXUINT64, 1);
	vmm_memory_mark(memory, G_MAXUINT64 - 1, G_MAXUINT64);
	assert_marked(memory, "");
}

static void high_memory_is_marked_by_its_dense_page_number(void **state)
{
	g_autoptr(vmm_memory) memory = make(5 * GIB);

	vmm_memory_track(memory, TRUE);
	vmm_memory_mark(memory, VMM_HOLE_END + VMM_PAGE, 1);
	vmm_memory_mark_host(memory, vmm_memory_at(memory, VMM_HOLE_START - 1, 1), 1);
	assert_marked(memory, "786431 786433");
}

static void taking_appends_to_what_is_there(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));

	vmm_memory_track(memory, TRUE);
	vmm_memory_mark(memory, 0, 1);
	vmm_memory_take_marked(memory, pages);
	vmm_memory_mark(memory, VMM_PAGE, 1);
	vmm_memory_take_marked(memory, pages);
	assert_int_equal(pages->len, 2);
	assert_int_equal(g_array_index(pages, guint32, 1), 1);
}

static void tracking_again_forgets_what_was_marked(void **state)
{
	g_autoptr(vmm_memory) memory = make(MIB);

	vmm_memory_track(memory, TRUE);
	vmm_memory_mark(memory, 0, MIB);
	vmm_memory_track(memory, TRUE);
	assert_marked(memory, "");
	vmm_memory_mark(memory, VMM_PAGE, 1);
	assert_marked(memory, "1");
	vmm_memory_mark(memory, VMM_PAGE, 1);
	vmm_memory_track(memory, FALSE);
	assert_marked(memory, "");
	vmm_memory_mark(memory, VMM_PAGE, 1);
	assert_marked(memory, "");
}

static void cleared_memory_reads_as_zero_and_takes_no_space(void **state)
{
	g_autoptr(vmm_memory) memory = make(5 * GIB);
	guint8 *low = vmm_memory_at(memory, MIB, VMM_PAGE);
	guint8 *high = vmm_memory_at(memory, VMM_HOLE_END, VMM_PAGE);
	struct stat st;

	memset(low, 0xaa, VMM_PAGE);
	memset(high, 0xbb, VMM_PAGE);
	vmm_memory_clear(memory);
	assert_int_equal(fstat(vmm_memory_fd(memory), &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(low[17], 0);
	assert_int_equal(high[17], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_memory_is_one_bank),
		cmocka_unit_test(three_gib_just_fit_below_the_hole),
		cmocka_unit_test(a_page_more_than_three_gib_lies_above_the_hole),
		cmocka_unit_test(nothing_answers_in_the_hole_or_across_it),
		cmocka_unit_test(lengths_that_wrap_are_refused),
		cmocka_unit_test(a_page_number_and_its_guest_address_agree),
		cmocka_unit_test(
			what_is_written_is_there_for_whoever_has_the_descriptor),
		cmocka_unit_test(a_write_that_does_not_fit_changes_nothing),
		cmocka_unit_test(the_descriptor_cannot_cut_memory_off),
		cmocka_unit_test(nothing_is_marked_while_nobody_collects),
		cmocka_unit_test(each_page_is_marked_once_until_it_is_taken),
		cmocka_unit_test(every_page_that_a_range_touches_is_marked),
		cmocka_unit_test(marks_outside_memory_are_ignored),
		cmocka_unit_test(high_memory_is_marked_by_its_dense_page_number),
		cmocka_unit_test(taking_appends_to_what_is_there),
		cmocka_unit_test(tracking_again_forgets_what_was_marked),
		cmocka_unit_test(cleared_memory_reads_as_zero_and_takes_no_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
