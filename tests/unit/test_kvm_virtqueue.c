/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device's side of a virtqueue against good and bad drivers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/unit/fake_driver.h"

#define MEMORY (1u << 20)
#define SIZE 8u

struct rig {
	struct fake_platform *fake;
	struct fake_queue driver;
	struct vmm_queue queue;
	guint64 buffer;
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(MEMORY);
	fake_queue_init(&rig->driver, rig->fake, SIZE);
	rig->buffer = fake_alloc(rig->fake, 16384, 16);
	rig->queue.memory = rig->fake->platform.memory;
	vmm_queue_reset(&rig->queue);
	rig->queue.size = SIZE;
	rig->queue.desc = rig->driver.desc;
	rig->queue.avail = rig->driver.avail;
	rig->queue.used = rig->driver.used;
	rig->queue.indirect = TRUE;
	assert_true(vmm_queue_enable(&rig->queue));
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static guint16 add_one(struct rig *rig, guint32 len, gboolean write)
{
	struct fake_buffer buffer = { rig->buffer, len, write };

	return fake_queue_add(&rig->driver, &buffer, 1);
}

/* Makes descriptor 0 available and expects that the device refuses it, for this reason:
 * what lies behind a table would mostly break the queue as well, for another. */
static void assert_head_breaks(struct rig *rig, const char *why)
{
	struct vmm_chain chain;

	fake_queue_offer(&rig->driver, 0);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_BROKEN);
	assert_string_equal(rig->queue.broken, why);
	/* For good. */
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_BROKEN);
	assert_false(vmm_queue_has_work(&rig->queue));
	vmm_queue_push_head(&rig->queue, 0, 0);
	assert_int_equal(fake_queue_used_idx(&rig->driver), 0);
}

static void an_empty_ring_has_no_chain(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	assert_false(vmm_queue_has_work(&rig->queue));
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_EMPTY);
}

static void a_chain_comes_as_the_driver_laid_it_out(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffers[] = { { rig->buffer, 16, FALSE },
					 { rig->buffer + 100, 32, FALSE },
					 { rig->buffer + 4000, 200, TRUE } };
	struct vmm_chain chain;
	guint16 head = fake_queue_add(&rig->driver, buffers, 3);

	assert_true(vmm_queue_has_work(&rig->queue));
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(chain.head, head);
	assert_int_equal(chain.n_out, 2);
	assert_int_equal(chain.n_in, 1);
	assert_int_equal(chain.out_len, 48);
	assert_int_equal(chain.in_len, 200);
	assert_ptr_equal(VMM_CHAIN_OUT(&chain)[1].iov_base,
			 fake_at(rig->fake, rig->buffer + 100, 32));
	assert_ptr_equal(VMM_CHAIN_IN(&chain)[0].iov_base,
			 fake_at(rig->fake, rig->buffer + 4000, 200));
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_EMPTY);
}

static void a_chain_pushed_comes_back_to_the_driver(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;
	guint32 id, len;

	/* More often than the ring has entries. */
	for (guint i = 0; i < 3 * SIZE; i++) {
		guint16 head = add_one(rig, 64, TRUE);

		assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
		vmm_queue_push(&rig->queue, &chain, i);
		assert_true(fake_queue_take_used(&rig->driver, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i);
	}
	assert_false(fake_queue_take_used(&rig->driver, NULL, NULL));
}

static void an_indirect_chain_is_followed(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffers[] = { { rig->buffer, 16, FALSE },
					 { rig->buffer + 100, 32, TRUE } };
	struct vmm_chain chain;

	fake_queue_add_indirect(&rig->driver, buffers, 2);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(chain.n_out, 1);
	assert_int_equal(chain.n_in, 1);
	assert_int_equal(chain.in_len, 32);
}

static void an_indirect_table_may_follow_plain_buffers(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffer = { rig->buffer, 32, TRUE };
	struct vmm_chain chain;

	fake_queue_add_indirect(&rig->driver, &buffer, 1); /* descriptor 0 */
	fake_queue_set_desc(&rig->driver, 1, rig->buffer, 16, FAKE_DESC_NEXT, 0);
	fake_queue_offer(&rig->driver, 1);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(chain.n_out, 1);
	assert_int_equal(chain.n_in, 1);
}

static void a_chain_that_loops_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 16, FAKE_DESC_NEXT, 1);
	fake_queue_set_desc(&rig->driver, 1, rig->buffer, 16, FAKE_DESC_NEXT, 0);
	assert_head_breaks(rig, "a chain is too long");
}

static void an_indirect_table_in_an_indirect_table_breaks_the_queue(void **state)
{
	struct rig *rig = *state;
	guint64 table = fake_alloc(rig->fake, 16, 16);
	struct fake_queue inner = { .fake = rig->fake, .size = 1, .desc = table };

	fake_queue_set_desc(&inner, 0, table, 16, FAKE_DESC_INDIRECT, 0);
	fake_queue_set_desc(&rig->driver, 0, table, 16, FAKE_DESC_INDIRECT, 0);
	assert_head_breaks(rig, "an indirect table has an indirect descriptor");
}

static void an_indirect_table_of_odd_length_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 24, FAKE_DESC_INDIRECT, 0);
	assert_head_breaks(rig, "an indirect table has an impossible length");
}

static void an_empty_indirect_table_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 0, FAKE_DESC_INDIRECT, 0);
	assert_head_breaks(rig, "an indirect table has an impossible length");
}

static void an_indirect_table_outside_memory_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, MEMORY - 16, 32, FAKE_DESC_INDIRECT, 0);
	assert_head_breaks(rig, "an indirect table is outside memory");
}

static void an_indirect_table_with_a_successor_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 16,
			    FAKE_DESC_INDIRECT | FAKE_DESC_NEXT, 1);
	assert_head_breaks(rig, "an indirect descriptor has a successor");
}

static void an_indirect_table_that_was_not_negotiated_breaks_the_queue(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;
	struct fake_buffer buffer = { rig->buffer, 16, FALSE };

	rig->queue.indirect = FALSE;
	fake_queue_add_indirect(&rig->driver, &buffer, 1);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_BROKEN);
	assert_string_equal(rig->queue.broken,
			    "an indirect descriptor was not negotiated");
}

static void a_loop_in_an_indirect_table_breaks_the_queue(void **state)
{
	struct rig *rig = *state;
	guint64 table = fake_alloc(rig->fake, 16, 16);
	struct fake_queue inner = { .fake = rig->fake, .size = 1, .desc = table };

	fake_queue_set_desc(&inner, 0, rig->buffer, 1, FAKE_DESC_NEXT, 0);
	fake_queue_set_desc(&rig->driver, 0, table, 16, FAKE_DESC_INDIRECT, 0);
	assert_head_breaks(rig, "a chain is too long");
}

static void a_descriptor_index_out_of_range_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 16, FAKE_DESC_NEXT, SIZE);
	assert_head_breaks(rig, "a descriptor index is out of range");
}

static void a_head_out_of_range_breaks_the_queue(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	fake_queue_offer(&rig->driver, SIZE);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_BROKEN);
	assert_string_equal(rig->queue.broken, "a descriptor index is out of range");
}

static void a_readable_buffer_after_a_writable_one_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 16,
			    FAKE_DESC_NEXT | FAKE_DESC_WRITE, 1);
	fake_queue_set_desc(&rig->driver, 1, rig->buffer, 16, 0, 0);
	assert_head_breaks(rig, "a readable buffer follows a writable one");
}

static void an_empty_buffer_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, rig->buffer, 0, 0, 0);
	assert_head_breaks(rig, "a buffer is empty");
}

static void a_buffer_outside_memory_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, MEMORY - 8, 16, 0, 0);
	assert_head_breaks(rig, "a buffer is outside memory");
}

static void a_buffer_that_wraps_around_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	fake_queue_set_desc(&rig->driver, 0, G_MAXUINT64 - 7, 16, 0, 0);
	assert_head_breaks(rig, "a buffer is outside memory");
}

/* 256 buffers of 16 MiB and a byte: too many bytes, but no buffer too many. */
static void a_chain_of_more_than_4_gib_breaks_the_queue(void **state)
{
	struct fake_platform *fake = fake_platform_new(32u << 20);
	struct vmm_queue queue = { .memory = fake->platform.memory };
	struct fake_queue driver;
	struct vmm_chain chain;
	guint64 table = fake_alloc(fake, 16u * 256, 16);
	struct fake_queue inner = { .fake = fake, .size = 256, .desc = table };

	fake_queue_init(&driver, fake, SIZE);
	vmm_queue_reset(&queue);
	queue.size = SIZE;
	queue.desc = driver.desc;
	queue.avail = driver.avail;
	queue.used = driver.used;
	queue.indirect = TRUE;
	assert_true(vmm_queue_enable(&queue));
	for (guint i = 0; i < 256; i++)
		fake_queue_set_desc(&inner, i, 0, (16u << 20) + 1,
				    i < 255 ? FAKE_DESC_NEXT : 0, (guint16)(i + 1));
	fake_queue_set_desc(&driver, 0, table, 16u * 256, FAKE_DESC_INDIRECT, 0);
	fake_queue_offer(&driver, 0);
	assert_int_equal(vmm_queue_pop(&queue, &chain), VMM_POP_BROKEN);
	assert_string_equal(queue.broken, "a chain has too many bytes");
	fake_platform_free(fake);
}

static void an_available_index_too_far_ahead_breaks_the_queue(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	fake_queue_set_avail_idx(&rig->driver, SIZE + 1);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_BROKEN);
	assert_string_equal(rig->queue.broken, "the available index is too far ahead");
}

static void a_chain_given_back_is_taken_again(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;
	guint16 head = add_one(rig, 64, TRUE);

	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	vmm_queue_unpop(&rig->queue, 1);
	assert_true(vmm_queue_has_work(&rig->queue));
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(chain.head, head);
}

static void a_request_in_flight_can_be_read_again(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain, again;

	add_one(rig, 64, TRUE);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(vmm_queue_chain_at(&rig->queue, chain.head, &again),
			 VMM_POP_CHAIN);
	assert_int_equal(again.in_len, 64);
	assert_int_equal(vmm_queue_chain_at(&rig->queue, SIZE, &again), VMM_POP_BROKEN);
}

static void a_queue_that_is_off_has_nothing_to_do(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	add_one(rig, 64, TRUE);
	vmm_queue_reset(&rig->queue);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_EMPTY);
	assert_false(vmm_queue_has_work(&rig->queue));
	assert_false(vmm_queue_should_signal(&rig->queue));
	vmm_queue_want_kicks(&rig->queue, FALSE);
	vmm_queue_push_head(&rig->queue, 0, 0);
	assert_int_equal(fake_queue_used_idx(&rig->driver), 0);
	assert_int_equal(vmm_queue_chain_at(&rig->queue, 0, &chain), VMM_POP_BROKEN);
}

static void rings_that_cannot_be_are_refused(void **state)
{
	static const struct {
		guint64 desc, avail, used;
		guint16 size;
	} bad[] = {
		{ 0x1008, 0x2000, 0x3000, 8 }, /* alignment */
		{ 0x1000, 0x2001, 0x3000, 8 },
		{ 0x1000, 0x2000, 0x3002, 8 },
		{ MEMORY - 64, 0x2000, 0x3000, 8 }, /* the end of memory */
		{ 0x1000, MEMORY - 16, 0x3000, 8 },
		{ 0x1000, 0x2000, MEMORY - 68, 8 },
		{ 0x1000, 0x2000, G_MAXUINT64 - 3, 8 },
		{ 0x1000, 0x2000, 0x3000, 0 }, /* sizes */
		{ 0x1000, 0x2000, 0x3000, 7 },
		{ 0x1000, 0x2000, 0x3000, 512 },
	};
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		vmm_queue_reset(&rig->queue);
		rig->queue.desc = bad[i].desc;
		rig->queue.avail = bad[i].avail;
		rig->queue.used = bad[i].used;
		rig->queue.size = bad[i].size;
		assert_false(vmm_queue_enable(&rig->queue));
		assert_non_null(rig->queue.broken);
		assert_false(rig->queue.ready);
	}
}

static void without_event_indices_flags_say_who_wants_to_hear(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	vmm_queue_want_kicks(&rig->queue, FALSE);
	assert_int_equal(fake_queue_used_flags(&rig->driver), 1);
	vmm_queue_want_kicks(&rig->queue, TRUE);
	assert_int_equal(fake_queue_used_flags(&rig->driver), 0);

	assert_false(vmm_queue_should_signal(&rig->queue));
	add_one(rig, 64, TRUE);
	vmm_queue_pop(&rig->queue, &chain);
	vmm_queue_push(&rig->queue, &chain, 0);
	assert_true(vmm_queue_should_signal(&rig->queue));
	assert_false(vmm_queue_should_signal(&rig->queue));
	fake_queue_set_avail_flags(&rig->driver, 1);
	vmm_queue_push(&rig->queue, &chain, 0);
	assert_false(vmm_queue_should_signal(&rig->queue));
}

static void with_event_indices_a_ring_found_empty_asks_for_the_next_chain(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	rig->queue.event_idx = TRUE;
	add_one(rig, 64, TRUE);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_CHAIN);
	assert_int_equal(fake_queue_avail_event(&rig->driver), 0);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_EMPTY);
	assert_int_equal(fake_queue_avail_event(&rig->driver), 1);
}

static void with_event_indices_kicks_can_be_done_without(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	rig->queue.event_idx = TRUE;
	vmm_queue_want_kicks(&rig->queue, FALSE);
	add_one(rig, 64, TRUE);
	vmm_queue_pop(&rig->queue, &chain);
	assert_int_equal(vmm_queue_pop(&rig->queue, &chain), VMM_POP_EMPTY);
	assert_int_equal(fake_queue_avail_event(&rig->driver), 0);
	vmm_queue_want_kicks(&rig->queue, TRUE);
	assert_int_equal(fake_queue_avail_event(&rig->driver), 1);
}

static void with_event_indices_the_driver_is_interrupted_where_it_asked(void **state)
{
	struct rig *rig = *state;
	struct vmm_chain chain;

	rig->queue.event_idx = TRUE;
	add_one(rig, 64, TRUE);
	vmm_queue_pop(&rig->queue, &chain);
	fake_queue_set_used_event(&rig->driver, 2);
	vmm_queue_push(&rig->queue, &chain, 0);
	vmm_queue_push(&rig->queue, &chain, 0);
	assert_false(vmm_queue_should_signal(&rig->queue));
	vmm_queue_push(&rig->queue, &chain, 0);
	assert_true(vmm_queue_should_signal(&rig->queue));
	vmm_queue_push(&rig->queue, &chain, 0);
	assert_false(vmm_queue_should_signal(&rig->queue));
}

static void after_a_whole_turn_of_the_index_the_driver_is_interrupted(void **state)
{
	struct rig *rig = *state;

	rig->queue.event_idx = TRUE;
	fake_queue_set_used_event(&rig->driver, 7);
	for (guint i = 0; i < 65536; i++)
		vmm_queue_push_head(&rig->queue, 0, 0);
	assert_true(vmm_queue_should_signal(&rig->queue));
	assert_false(vmm_queue_should_signal(&rig->queue));
}

static gboolean was_marked(struct rig *rig, guint64 gpa)
{
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));

	vmm_memory_take_marked(rig->fake->platform.memory, pages);
	for (guint i = 0; i < pages->len; i++)
		if (g_array_index(pages, guint32, i) == gpa / VMM_PAGE)
			return TRUE;
	return FALSE;
}

static void what_the_device_writes_is_marked(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffers[] = { { 0x40000, 4096, TRUE },
					 { 0x50000, 4096, TRUE } };
	struct vmm_chain chain;

	vmm_memory_track(rig->fake->platform.memory, TRUE);
	fake_queue_add(&rig->driver, buffers, 2);
	vmm_queue_pop(&rig->queue, &chain);
	assert_false(was_marked(rig, rig->driver.used));
	vmm_queue_push(&rig->queue, &chain, 10);
	assert_true(was_marked(rig, rig->driver.used));
	vmm_queue_push(&rig->queue, &chain, 10);
	assert_true(was_marked(rig, 0x40000));
	vmm_queue_push(&rig->queue, &chain, 10);
	assert_false(was_marked(rig, 0x50000));
	vmm_queue_push(&rig->queue, &chain, 4097);
	assert_true(was_marked(rig, 0x50000));
	vmm_queue_want_kicks(&rig->queue, FALSE);
	assert_true(was_marked(rig, rig->driver.used));
	/* The second time nothing changes. */
	vmm_queue_want_kicks(&rig->queue, FALSE);
	assert_false(was_marked(rig, rig->driver.used));
}

static void a_queue_goes_on_where_it_was_saved(void **state)
{
	struct rig *rig = *state;
	struct vmm_queue other = { .memory = rig->fake->platform.memory };
	struct vmm_queue_saved saved, again;
	struct vmm_chain chain;
	guint16 head;
	guint32 id;

	add_one(rig, 64, TRUE);
	head = add_one(rig, 32, TRUE);
	vmm_queue_pop(&rig->queue, &chain);
	vmm_queue_push(&rig->queue, &chain, 0);
	vmm_queue_save(&rig->queue, &saved);
	vmm_queue_reset(&other);
	assert_null(vmm_queue_check(&other, &saved));
	vmm_queue_load(&other, &saved);
	vmm_queue_save(&other, &again);
	assert_memory_equal(&saved, &again, sizeof(saved));
	assert_int_equal(vmm_queue_pop(&other, &chain), VMM_POP_CHAIN);
	assert_int_equal(chain.head, head);
	vmm_queue_push(&other, &chain, 0);
	assert_true(fake_queue_take_used(&rig->driver, NULL, NULL));
	assert_true(fake_queue_take_used(&rig->driver, &id, NULL));
	assert_int_equal(id, head);
}

static void a_saved_queue_that_cannot_be_is_refused(void **state)
{
	struct rig *rig = *state;
	struct vmm_queue_saved good, bad;

	vmm_queue_save(&rig->queue, &good);
	assert_null(vmm_queue_check(&rig->queue, &good));
	bad = good;
	bad.used = wire_put64(MEMORY);
	assert_non_null(vmm_queue_check(&rig->queue, &bad));
	bad = good;
	bad.size = wire_put16(3);
	assert_non_null(vmm_queue_check(&rig->queue, &bad));
	bad = good;
	bad.ready = 2;
	assert_non_null(vmm_queue_check(&rig->queue, &bad));
	bad = good;
	bad.pad[4] = 1;
	assert_non_null(vmm_queue_check(&rig->queue, &bad));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(an_empty_ring_has_no_chain),
		TEST(a_chain_comes_as_the_driver_laid_it_out),
		TEST(a_chain_pushed_comes_back_to_the_driver),
		TEST(an_indirect_chain_is_followed),
		TEST(an_indirect_table_may_follow_plain_buffers),
		TEST(a_chain_that_loops_breaks_the_queue),
		TEST(an_indirect_table_in_an_indirect_table_breaks_the_queue),
		TEST(an_indirect_table_of_odd_length_breaks_the_queue),
		TEST(an_empty_indirect_table_breaks_the_queue),
		TEST(an_indirect_table_outside_memory_breaks_the_queue),
		TEST(an_indirect_table_with_a_successor_breaks_the_queue),
		TEST(an_indirect_table_that_was_not_negotiated_breaks_the_queue),
		TEST(a_loop_in_an_indirect_table_breaks_the_queue),
		TEST(a_descriptor_index_out_of_range_breaks_the_queue),
		TEST(a_head_out_of_range_breaks_the_queue),
		TEST(a_readable_buffer_after_a_writable_one_breaks_the_queue),
		TEST(an_empty_buffer_breaks_the_queue),
		TEST(a_buffer_outside_memory_breaks_the_queue),
		TEST(a_buffer_that_wraps_around_breaks_the_queue),
		TEST(a_chain_of_more_than_4_gib_breaks_the_queue),
		TEST(an_available_index_too_far_ahead_breaks_the_queue),
		TEST(a_chain_given_back_is_taken_again),
		TEST(a_request_in_flight_can_be_read_again),
		TEST(a_queue_that_is_off_has_nothing_to_do),
		TEST(rings_that_cannot_be_are_refused),
		TEST(without_event_indices_flags_say_who_wants_to_hear),
		TEST(with_event_indices_a_ring_found_empty_asks_for_the_next_chain),
		TEST(with_event_indices_kicks_can_be_done_without),
		TEST(with_event_indices_the_driver_is_interrupted_where_it_asked),
		TEST(after_a_whole_turn_of_the_index_the_driver_is_interrupted),
		TEST(what_the_device_writes_is_marked),
		TEST(a_queue_goes_on_where_it_was_saved),
		TEST(a_saved_queue_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
