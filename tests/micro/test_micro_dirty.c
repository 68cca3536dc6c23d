/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * That collecting misses nothing: a shadow of the whole memory is brought up to date with
 * the collected pages alone, and must then equal memory, byte for byte, again and again
 * while vCPUs and devices write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/micro/micro.h"

#define MEMORY (64ull << 20)
#define ROUNDS 150

struct model {
	vmm_machine *machine;
	guint8 *shadow;
	GArray *pages;
	guint64 collected, spurious; /* pages; spurious: collected without a change */
	guint missed; /* pages that changed and were not collected */
	gboolean twice; /* a page was collected twice at once */
	GError *error;
	GArray *peeked; /* guint32: seen as changed while the guest ran */
	guint64 peeks;
	guint unkept; /* pages that were peeked at and not collected */
};

static void look(void *data)
{
	struct model *model = data;
	vmm_memory *memory = vmm_machine_memory(model->machine);
	g_autofree guint8 *seen = g_malloc0(vmm_memory_pages(memory));

	if (!vmm_machine_collect(model->machine, model->pages, &model->error))
		return;
	for (guint i = 0; i < model->pages->len; i++) {
		guint32 page = g_array_index(model->pages, guint32, i);
		guint8 *copy = model->shadow + (gsize)page * VMM_PAGE;

		model->twice |= seen[page];
		seen[page] = 1;
		if (!memcmp(copy, vmm_memory_page(memory, page), VMM_PAGE))
			model->spurious++;
		memcpy(copy, vmm_memory_page(memory, page), VMM_PAGE);
	}
	for (guint i = 0; i < model->peeked->len; i++)
		model->unkept += !seen[g_array_index(model->peeked, guint32, i)];
	model->peeks += model->peeked->len;
	model->collected += model->pages->len;
	for (guint64 page = 0; page < vmm_memory_pages(memory); page++)
		model->missed += memcmp(model->shadow + page * VMM_PAGE,
					vmm_memory_page(memory, page), VMM_PAGE) != 0;
}

static void copy_all(void *data)
{
	struct model *model = data;
	vmm_memory *memory = vmm_machine_memory(model->machine);

	memcpy(model->shadow, vmm_memory_page(memory, 0), MEMORY);
	/* What was written before the copy is in it; later writes are collected. */
	if (!vmm_machine_collect(model->machine, model->pages, &model->error))
		return;
}

static void follow(enum vmm_dirty_method method, guint cpus)
{
	g_autofree char *disk = micro_file(16 << 20);
	struct micro_options options = { .memory = MEMORY, .cpus = cpus, .dirty = method,
					 .disk = disk };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	g_autofree guint8 *shadow = g_malloc(MEMORY);
	g_autoptr(GArray) peeked = g_array_new(FALSE, FALSE, sizeof(guint32));
	struct model model = { .machine = micro_machine(guest),
			       .shadow = shadow,
			       .pages = pages,
			       .peeked = peeked };
	g_autofree char *verified = NULL;

	assert_true(vmm_machine_track(model.machine, TRUE, &model.error));
	assert_true(vmm_machine_quiesce(model.machine, copy_all, &model, &model.error));
	assert_null(model.error);
	/* Writers: a vCPU on its own, the block device, the console's answers, the entropy
	 * device. */
	g_free(micro_do(guest, "blkbg 2000"));
	g_free(micro_do(guest, "dirty 2000 20000 7"));
	for (guint i = 0; i < ROUNDS; i++) {
		vmm_loop_lock(vmm_machine_loop(model.machine));
		vmm_machine_peek(model.machine, peeked);
		vmm_loop_unlock(vmm_machine_loop(model.machine));
		assert_true(vmm_machine_quiesce(model.machine, look, &model, &model.error));
		assert_null(model.error);
		assert_int_equal(model.missed, 0);
		assert_int_equal(model.unkept, 0);
		assert_false(model.twice);
		if (i % 10 == 0)
			g_free(micro_do(guest, "rng 4096"));
		else
			micro_sleep_ms(guest, i % 7);
	}
	g_free(micro_do(guest, "stop"));
	verified = micro_do(guest, "verify");
	assert_int_equal(micro_number(verified, "bad"), 0);
	assert_true(model.collected > ROUNDS);
	assert_true(model.peeks > ROUNDS);
	printf("# %s, %u vCPU: %" G_GUINT64_FORMAT " pages collected, %" G_GUINT64_FORMAT
	       " without a change, none missed\n",
	       vmm_machine_dirty_method(model.machine), cpus, model.collected,
	       model.spurious);
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&disk));
}

static void the_ring_misses_no_change(void **state)
{
	follow(VMM_DIRTY_RING, 1);
}

static void the_bitmap_misses_no_change(void **state)
{
	follow(VMM_DIRTY_BITMAP, 1);
}

static void the_ring_misses_no_change_of_several_vcpus(void **state)
{
	follow(VMM_DIRTY_RING, 3);
}

static void the_bitmap_misses_no_change_of_several_vcpus(void **state)
{
	follow(VMM_DIRTY_BITMAP, 3);
}

/* More pages between two collections than a ring has entries. */
static void a_ring_that_overflows_loses_nothing(void **state)
{
	enum { PAGES = 70000 };
	struct micro_options options = { .memory = 400ull << 20, .dirty = VMM_DIRTY_RING };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	g_autoptr(GError) error = NULL;

	assert_true(vmm_machine_track(micro_machine(guest), TRUE, &error));
	g_free(micro_do(guest, "touch %u", PAGES));
	assert_true(vmm_machine_pause(micro_machine(guest), &error));
	assert_true(vmm_machine_collect(micro_machine(guest), pages, &error));
	assert_true(pages->len >= PAGES);
	/* All of them count as clean now, and the guest goes on. */
	assert_true(vmm_machine_collect(micro_machine(guest), pages, &error));
	assert_int_equal(pages->len, 0);
	assert_true(vmm_machine_resume(micro_machine(guest), &error));
	g_free(micro_do(guest, "touch 100"));
}

static void collecting_needs_tracking_and_a_machine_at_rest(void **state)
{
	struct micro_options options = { 0 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	g_autoptr(GError) running = NULL, untracked = NULL, error = NULL;

	assert_false(vmm_machine_collect(micro_machine(guest), pages, &running));
	assert_true(g_error_matches(running, VMM_ERROR, VMM_ERROR_MODE));
	assert_true(vmm_machine_pause(micro_machine(guest), &error));
	assert_false(vmm_machine_collect(micro_machine(guest), pages, &untracked));
	assert_true(g_error_matches(untracked, VMM_ERROR, VMM_ERROR_MODE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ring_misses_no_change),
		cmocka_unit_test(the_bitmap_misses_no_change),
		cmocka_unit_test(the_ring_misses_no_change_of_several_vcpus),
		cmocka_unit_test(the_bitmap_misses_no_change_of_several_vcpus),
		cmocka_unit_test(a_ring_that_overflows_loses_nothing),
		cmocka_unit_test(collecting_needs_tracking_and_a_machine_at_rest),
	};

	micro_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
