/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/stage.h"

#define PAGES 256u

static int set_up(void **state)
{
	vmm_memory *memory = vmm_memory_new(PAGES * VMM_PAGE, NULL);

	for (guint i = 0; i < PAGES; i++)
		memset(vmm_memory_page(memory, i), (int)i + 1, VMM_PAGE);
	*state = memory;
	return 0;
}

static int tear_down(void **state)
{
	vmm_memory_free(*state);
	return 0;
}

static void check(vmm_stage *stage, const guint32 *pages, guint count)
{
	assert_int_equal(vmm_stage_count(stage), count);
	for (guint i = 0; i < count; i++) {
		const guint8 *content = vmm_stage_content(stage, i);

		assert_int_equal(vmm_stage_number(stage, i), pages[i]);
		assert_int_equal(content[0], (guint8)(pages[i] + 1));
		assert_int_equal(content[VMM_PAGE - 1], (guint8)(pages[i] + 1));
	}
}

static void copies_stay_when_memory_changes(void **state)
{
	static const guint32 pages[] = { 7, 0, 255, 3 };
	vmm_memory *memory = *state;
	g_autoptr(vmm_stage) stage = vmm_stage_new(4);

	vmm_stage_take(stage, memory, pages, 4);
	for (guint i = 0; i < 4; i++)
		memset(vmm_memory_page(memory, pages[i]), 0, VMM_PAGE);
	check(stage, pages, 4);
}

static void taking_replaces_what_was_staged(void **state)
{
	static const guint32 first[] = { 1, 2, 3 }, second[] = { 9 };
	g_autoptr(vmm_stage) stage = vmm_stage_new(4);

	assert_int_equal(vmm_stage_count(stage), 0);
	vmm_stage_take(stage, *state, first, 3);
	vmm_stage_take(stage, *state, second, 1);
	check(stage, second, 1);
	vmm_stage_take(stage, *state, NULL, 0);
	assert_int_equal(vmm_stage_count(stage), 0);
}

static void more_pages_than_there_is_room_for_are_staged_too(void **state)
{
	g_autoptr(vmm_stage) stage = vmm_stage_new(0);
	guint32 pages[PAGES];

	for (guint i = 0; i < PAGES; i++)
		pages[i] = PAGES - 1 - i;
	for (guint count = 1; count <= PAGES; count = count * 3 / 2 + 1) {
		vmm_stage_take(stage, *state, pages, count);
		check(stage, pages, count);
	}
	vmm_stage_take(stage, *state, pages, PAGES);
	check(stage, pages, PAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(copies_stay_when_memory_changes, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(taking_replaces_what_was_staged, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			more_pages_than_there_is_room_for_are_staged_too, set_up,
			tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
