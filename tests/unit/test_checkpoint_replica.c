/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's memory: whole checkpoints or nothing, whatever its guest wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/replica.h"

#define PAGES 512u
#define BYTES ((guint64)PAGES * CKPT_PAGE)

/* What the checkpoint must be, beside what it is. */
struct rig {
	vmm_memory *memory;
	ckpt_replica *replica;
	guint8 *model; /* of the last applied checkpoint */
	guint8 *next; /* of the arriving one */
	gboolean dirty[PAGES];
	GRand *random;
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	g_autoptr(GError) error = NULL;

	rig->memory = vmm_memory_new_private(BYTES, &error);
	assert_non_null(rig->memory);
	rig->replica = ckpt_replica_new(rig->memory, PAGES);
	rig->model = g_malloc0(BYTES);
	rig->next = g_malloc0(BYTES);
	rig->random = g_rand_new_with_seed(1);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	ckpt_replica_free(rig->replica);
	vmm_memory_free(rig->memory);
	g_free(rig->model);
	g_free(rig->next);
	g_rand_free(rig->random);
	g_free(rig);
	return 0;
}

static void guest_writes(struct rig *rig, guint32 page, guint8 byte)
{
	memset(vmm_memory_page(rig->memory, page) + byte, byte, 64);
	rig->dirty[page] = TRUE;
}

static void arrives(struct rig *rig, guint32 page, guint8 byte)
{
	memset(rig->next + (gsize)page * CKPT_PAGE, byte, CKPT_PAGE);
	assert_true(ckpt_replica_stage(rig->replica, page,
				       byte ? rig->next + (gsize)page * CKPT_PAGE : NULL));
}

static void apply(struct rig *rig)
{
	guint32 dirty[PAGES];
	guint n = 0;

	for (guint32 page = 0; page < PAGES; page++)
		if (rig->dirty[page])
			dirty[n++] = page;
	ckpt_replica_apply(rig->replica, dirty, n);
	memset(rig->dirty, 0, sizeof(rig->dirty));
	memcpy(rig->model, rig->next, BYTES);
}

static void check_base(struct rig *rig)
{
	for (guint32 page = 0; page < PAGES; page++)
		assert_memory_equal(ckpt_replica_base(rig->replica, page),
				    rig->model + (gsize)page * CKPT_PAGE, CKPT_PAGE);
}

static void check_guest(struct rig *rig)
{
	assert_memory_equal(vmm_memory_page(rig->memory, 0), rig->model, BYTES);
}

static void what_arrives_is_invisible_before_it_is_applied(void **state)
{
	struct rig *rig = *state;

	arrives(rig, 3, 7);
	guest_writes(rig, 4, 9);
	arrives(rig, 4, 8);
	check_base(rig);
	assert_int_equal(vmm_memory_page(rig->memory, 3)[0], 0);
	assert_int_equal(vmm_memory_page(rig->memory, 4)[9], 9);
	apply(rig);
	check_base(rig);
	check_guest(rig);
}

static void a_checkpoint_that_did_not_end_leaves_no_trace(void **state)
{
	struct rig *rig = *state;

	arrives(rig, 1, 5);
	apply(rig);
	guest_writes(rig, 2, 6);
	arrives(rig, 1, 9);
	arrives(rig, 2, 9);
	ckpt_replica_forget(rig->replica);
	memcpy(rig->next, rig->model, BYTES);
	check_base(rig);
	assert_int_equal(vmm_memory_page(rig->memory, 2)[6], 6);
	assert_int_equal(ckpt_replica_staged(rig->replica), 0);
	apply(rig);
	check_guest(rig);
}

static void a_page_that_comes_twice_counts_as_it_came_last(void **state)
{
	struct rig *rig = *state;

	arrives(rig, 10, 1);
	arrives(rig, 10, 2);
	assert_int_equal(ckpt_replica_staged(rig->replica), 1);
	apply(rig);
	check_guest(rig);
}

static void pages_outside_memory_or_room_are_refused(void **state)
{
	struct rig *rig = *state;
	g_autoptr(ckpt_replica) small = ckpt_replica_new(rig->memory, 2);
	guint8 page[CKPT_PAGE] = { 1 };

	assert_false(ckpt_replica_stage(small, PAGES, page));
	assert_false(ckpt_replica_stage(small, G_MAXUINT32, page));
	assert_true(ckpt_replica_stage(small, 0, page));
	assert_true(ckpt_replica_stage(small, 1, page));
	assert_false(ckpt_replica_stage(small, 2, page));
	assert_true(ckpt_replica_stage(small, 1, page));
}

static void a_present_page_is_staged_only_where_its_digest_is_the_wanted_one(void **state)
{
	struct rig *rig = *state;
	guint8 secret[CKPT_SECRET];
	g_autoptr(ckpt_digester) digester = NULL;
	struct ckpt_digest digest;
	guint8 content[CKPT_PAGE];

	memset(secret, 42, sizeof(secret));
	digester = ckpt_digester_new(secret);
	guest_writes(rig, 5, 77);
	memcpy(content, vmm_memory_page(rig->memory, 5), CKPT_PAGE);
	digest = ckpt_digest_page(digester, content);
	assert_false(ckpt_replica_stage_present(rig->replica, 6, digester, digest));
	assert_false(ckpt_replica_stage_present(rig->replica, PAGES, digester, digest));
	assert_true(ckpt_replica_stage_present(rig->replica, 5, digester, digest));
	/* The guest goes on writing; what was matched is what counts. */
	guest_writes(rig, 5, 78);
	memcpy(rig->next + 5 * CKPT_PAGE, content, CKPT_PAGE);
	apply(rig);
	check_base(rig);
	check_guest(rig);
}

static void any_mixture_of_writes_and_checkpoints_keeps_to_the_model(void **state)
{
	struct rig *rig = *state;

	for (guint round = 0; round < 400; round++) {
		guint writes = (guint)g_rand_int_range(rig->random, 0, 60);
		guint pages = (guint)g_rand_int_range(rig->random, 0, 60);

		for (guint i = 0; i < writes; i++)
			guest_writes(rig, (guint32)g_rand_int_range(rig->random, 0, PAGES),
				     (guint8)g_rand_int_range(rig->random, 1, 255));
		for (guint i = 0; i < pages; i++)
			arrives(rig, (guint32)g_rand_int_range(rig->random, 0, PAGES),
				(guint8)g_rand_int_range(rig->random, 0, 255));
		if (g_rand_int_range(rig->random, 0, 4) == 0) {
			ckpt_replica_forget(rig->replica);
			memcpy(rig->next, rig->model, BYTES);
			continue;
		}
		apply(rig);
		check_base(rig);
		check_guest(rig);
		if (g_rand_int_range(rig->random, 0, 5) == 0) {
			guint64 keep = (guint64)g_rand_int_range(rig->random, 0, PAGES);

			ckpt_replica_trim(rig->replica, keep);
			assert_true(ckpt_replica_private_pages(rig->replica) <= keep);
			check_guest(rig);
		}
	}
}

static void a_copy_that_nobody_logged_does_not_hide_what_arrives(void **state)
{
	struct rig *rig = *state;
	volatile guint8 *byte = vmm_memory_page(rig->memory, 7);

	/* As KVM does when it prepares a write that then does not happen. */
	*byte = *byte;
	arrives(rig, 7, 99);
	apply(rig);
	check_base(rig);
	check_guest(rig);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 1);
}

static void what_the_running_guest_wrote_counts_once_with_what_it_has(void **state)
{
	static const guint32 found[] = { 2, 5, 6 };
	struct rig *rig = *state;

	assert_int_equal(ckpt_replica_private_with(rig->replica, found, 3), 3);
	guest_writes(rig, 1, 1);
	guest_writes(rig, 2, 1);
	apply(rig);
	assert_int_equal(ckpt_replica_private_with(rig->replica, found, 3), 4);
	assert_int_equal(ckpt_replica_private_with(rig->replica, found, 0), 2);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 2);
}

static void trimming_lets_go_first_what_was_written_longest_ago(void **state)
{
	struct rig *rig = *state;

	guest_writes(rig, 1, 1);
	guest_writes(rig, 2, 1);
	apply(rig);
	guest_writes(rig, 2, 2);
	apply(rig);
	guest_writes(rig, 3, 3);
	apply(rig);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 3);
	ckpt_replica_trim(rig->replica, 2);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 2);
	/* Page 1 shows the base again: what arrives for it needs no second copy. */
	arrives(rig, 1, 50);
	apply(rig);
	check_guest(rig);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 2);
	ckpt_replica_trim(rig->replica, 0);
	assert_int_equal(ckpt_replica_private_pages(rig->replica), 0);
	check_guest(rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_arrives_is_invisible_before_it_is_applied),
		TEST(a_checkpoint_that_did_not_end_leaves_no_trace),
		TEST(a_page_that_comes_twice_counts_as_it_came_last),
		TEST(pages_outside_memory_or_room_are_refused),
		TEST(a_present_page_is_staged_only_where_its_digest_is_the_wanted_one),
		TEST(any_mixture_of_writes_and_checkpoints_keeps_to_the_model),
		TEST(a_copy_that_nobody_logged_does_not_hide_what_arrives),
		TEST(what_the_running_guest_wrote_counts_once_with_what_it_has),
		TEST(trimming_lets_go_first_what_was_written_longest_ago),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
