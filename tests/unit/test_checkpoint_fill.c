/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's memory during first sync. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "checkpoint/fill.h"

#define BYTES (2u << 20)
#define PAGES (BYTES / CKPT_PAGE)

static const guint8 *page_of(guint8 value)
{
	static guint8 page[CKPT_PAGE + 1];

	/* At any alignment. */
	memset(page + 1, value, CKPT_PAGE);
	return page + 1;
}

static gint64 stored(const vmm_memory *memory)
{
	struct stat st;

	assert_int_equal(fstat(vmm_memory_fd(memory), &st), 0);
	return st.st_blocks * 512;
}

static void check(const vmm_memory *memory, guint32 page, guint8 value)
{
	assert_memory_equal(vmm_memory_base_page(memory, page), page_of(value),
			    CKPT_PAGE);
	assert_memory_equal(vmm_memory_page(memory, page), page_of(value), CKPT_PAGE);
}

static void pages_are_in_the_base_after_a_flush(void **unused)
{
	/* Runs, gaps, more than are gathered, the last page. */
	static const guint32 pages[] = { 0, 1, 2, 5, 7, 8, 9, 10, PAGES - 1 };
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory);

	for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
		assert_true(
			ckpt_filler_put(filler, pages[i], page_of((guint8)(i + 1))));
	assert_true(ckpt_filler_flush(filler));
	for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
		check(memory, pages[i], (guint8)(i + 1));
	for (guint32 page = 20; page < 320; page++)
		assert_true(ckpt_filler_put(filler, page, page_of((guint8)(page | 1))));
	assert_true(ckpt_filler_flush(filler));
	for (guint32 page = 20; page < 320; page++)
		check(memory, page, (guint8)(page | 1));
	assert_true(ckpt_filler_flush(filler));
}

static void the_last_of_a_page_counts(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory);

	assert_true(ckpt_filler_put(filler, 3, page_of(1)));
	assert_true(ckpt_filler_put(filler, 3, page_of(2)));
	assert_true(ckpt_filler_put(filler, 4, page_of(3)));
	assert_true(ckpt_filler_put(filler, 4, page_of(0)));
	assert_true(ckpt_filler_flush(filler));
	check(memory, 3, 2);
	check(memory, 4, 0);
}

static void zeros_that_were_nothing_else_cost_no_memory(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory);

	for (guint32 page = 0; page < PAGES; page++)
		assert_true(ckpt_filler_put(filler, page, page_of(page == 9 ? 1 : 0)));
	assert_true(ckpt_filler_flush(filler));
	assert_int_equal(stored(memory), CKPT_PAGE);
	check(memory, 9, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_in_the_base_after_a_flush),
		cmocka_unit_test(the_last_of_a_page_counts),
		cmocka_unit_test(zeros_that_were_nothing_else_cost_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
