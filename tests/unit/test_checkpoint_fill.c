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

static GMutex turn;

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

/* A batch of one page, as it came from outside. */
static gboolean put(ckpt_filler *filler, guint32 page, const void *content)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	g_autoptr(GByteArray) batch = g_byte_array_new();
	const char *why = NULL;

	ckpt_encode(encoder, page, content, NULL, batch);
	return ckpt_filler_take(filler, batch->data, batch->len, &why);
}

static void put_raw(GByteArray *batch, guint32 page, guint8 value)
{
	const struct wire_page header = { wire_put32(page), wire_put16(CKPT_RAW),
					  wire_put16(CKPT_PAGE) };

	g_byte_array_append(batch, (const guint8 *)&header, sizeof(header));
	g_byte_array_append(batch, page_of(value), CKPT_PAGE);
}

static void a_batch_is_in_the_base(void **unused)
{
	/* Runs, gaps, more than are written at once, the last page. */
	static const guint32 pages[] = { 0, 1, 2, 5, 7, 8, 9, 10, PAGES - 1 };
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory, &turn, 0, 1);
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	g_autoptr(GByteArray) batch = g_byte_array_new();
	const char *why = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
		put_raw(batch, pages[i], (guint8)(i + 1));
	assert_true(ckpt_filler_take(filler, batch->data, batch->len, &why));
	for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
		check(memory, pages[i], (guint8)(i + 1));
	/* Packed ones and such as they are, in turns. */
	g_byte_array_set_size(batch, 0);
	for (guint32 page = 20; page < 320; page++)
		if (page / 3 % 2)
			put_raw(batch, page, (guint8)(page | 1));
		else
			ckpt_encode(encoder, page, page_of((guint8)(page | 1)), NULL, batch);
	assert_true(ckpt_filler_take(filler, batch->data, batch->len, &why));
	for (guint32 page = 20; page < 320; page++)
		check(memory, page, (guint8)(page | 1));
}

static void the_last_of_a_page_counts(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory, &turn, 0, 1);

	assert_true(put(filler, 3, page_of(1)));
	assert_true(put(filler, 3, page_of(2)));
	assert_true(put(filler, 4, page_of(3)));
	assert_true(put(filler, 4, page_of(0)));
	check(memory, 3, 2);
	check(memory, 4, 0);
}

static void zeros_that_were_nothing_else_cost_no_memory(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory, &turn, 0, 1);

	for (guint32 page = 0; page < PAGES; page++)
		assert_true(put(filler, page, page_of(page == 9 ? 1 : 0)));
	assert_int_equal(stored(memory), CKPT_PAGE);
	check(memory, 9, 1);
}

static void a_page_comes_by_its_own_connection(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory, &turn, 1, 2);
	g_autoptr(GByteArray) batch = g_byte_array_new();
	const char *why = NULL;

	assert_true(put(filler, CKPT_LANE_PAGES, page_of(1)));
	assert_true(put(filler, 4 * CKPT_LANE_PAGES - 1, page_of(2)));
	put_raw(batch, CKPT_LANE_PAGES - 1, 3);
	assert_false(ckpt_filler_take(filler, batch->data, batch->len, &why));
	assert_string_equal(why, "a page on another connection than its own");
	check(memory, CKPT_LANE_PAGES - 1, 0);
	check(memory, CKPT_LANE_PAGES, 1);
	check(memory, 4 * CKPT_LANE_PAGES - 1, 2);
}

static void what_is_not_right_is_refused(void **unused)
{
	g_autoptr(vmm_memory) memory = vmm_memory_new_private(BYTES, NULL);
	g_autoptr(ckpt_filler) filler = ckpt_filler_new(memory, &turn, 0, 1);
	g_autoptr(GByteArray) batch = g_byte_array_new();
	const char *why = NULL;

	put_raw(batch, 1, 1);
	put_raw(batch, PAGES, 1);
	assert_false(ckpt_filler_take(filler, batch->data, batch->len, &why));
	assert_string_equal(why, "a page outside memory");
	check(memory, 1, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_is_in_the_base),
		cmocka_unit_test(the_last_of_a_page_counts),
		cmocka_unit_test(zeros_that_were_nothing_else_cost_no_memory),
		cmocka_unit_test(a_page_comes_by_its_own_connection),
		cmocka_unit_test(what_is_not_right_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
