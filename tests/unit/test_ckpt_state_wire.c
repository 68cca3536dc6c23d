/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's state on the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/state_wire.h"

#define LENGTH 5000

struct box {
	GByteArray *before, *state, *message, *back;
};

static int set_up(void **state)
{
	struct box *box = g_new(struct box, 1);

	box->before = g_byte_array_new();
	box->state = g_byte_array_new();
	box->message = g_byte_array_new();
	box->back = g_byte_array_new();
	for (guint i = 0; i < LENGTH; i++) {
		guint8 byte = (guint8)(i * 2654435761u >> 13);

		g_byte_array_append(box->state, &byte, 1);
	}
	*state = box;
	return 0;
}

static int tear_down(void **state)
{
	struct box *box = *state;

	g_byte_array_unref(box->before);
	g_byte_array_unref(box->state);
	g_byte_array_unref(box->message);
	g_byte_array_unref(box->back);
	g_free(box);
	return 0;
}

static void pack(struct box *box)
{
	g_byte_array_set_size(box->message, 0);
	ckpt_state_pack(box->state->data, box->state->len, box->before, box->message);
}

static const char *unpack(struct box *box)
{
	const char *why;
	gboolean ok = ckpt_state_unpack(box->message->data, box->message->len, box->before,
					box->back, &why);

	assert_true(ok == !why);
	return why;
}

static void expect_same(struct box *box)
{
	assert_null(unpack(box));
	assert_int_equal(box->back->len, box->state->len);
	assert_memory_equal(box->back->data, box->state->data, box->state->len);
}

static void a_first_state_comes_back_as_it_was(void **state)
{
	pack(*state);
	expect_same(*state);
}

static void a_state_that_hardly_changed_is_a_small_message(void **state)
{
	struct box *box = *state;

	g_byte_array_append(box->before, box->state->data, box->state->len);
	box->state->data[17] ^= 1;
	box->state->data[4000]++;
	pack(box);
	expect_same(box);
	assert_true(box->message->len < 100);
}

static void a_state_may_be_longer_or_shorter_than_the_one_before(void **state)
{
	struct box *box = *state;

	g_byte_array_append(box->before, box->state->data, box->state->len);
	g_byte_array_set_size(box->state, LENGTH - 700);
	pack(box);
	expect_same(box);
	g_byte_array_append(box->state, box->before->data, 2000);
	pack(box);
	expect_same(box);
}

static void a_difference_to_another_state_is_refused(void **state)
{
	struct box *box = *state;
	const char *why;

	g_byte_array_append(box->before, box->state->data, box->state->len);
	pack(box);
	g_byte_array_set_size(box->before, 0);
	why = unpack(box);
	assert_non_null(why);
	assert_non_null(strstr(why, "not here"));
}

static void a_message_cut_off_anywhere_is_refused(void **state)
{
	struct box *box = *state;
	guint length;

	pack(box);
	length = box->message->len;
	for (guint cut = 0; cut < length; cut++) {
		box->message->len = cut;
		assert_non_null(unpack(box));
	}
	box->message->len = length;
}

static void an_impossible_length_is_refused_before_memory_is_taken(void **state)
{
	static const guint32 lengths[] = { 0, CKPT_STATE_MAX + 1, G_MAXUINT32 };
	struct box *box = *state;

	for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
		struct ckpt_state_head head = { .length = wire_put32(lengths[i]) };

		pack(box);
		memcpy(box->message->data, &head, sizeof(head));
		assert_non_null(strstr(unpack(box), "impossible"));
		assert_int_equal(box->back->len, 0);
	}
}

static void another_length_than_the_content_s_is_refused(void **state)
{
	struct box *box = *state;
	struct ckpt_state_head head = { .length = wire_put32(LENGTH + 1) };

	pack(box);
	memcpy(box->message->data, &head, sizeof(head));
	assert_non_null(unpack(box));
	head.length = wire_put32(LENGTH - 1);
	memcpy(box->message->data, &head, sizeof(head));
	assert_non_null(unpack(box));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_first_state_comes_back_as_it_was),
		TEST(a_state_that_hardly_changed_is_a_small_message),
		TEST(a_state_may_be_longer_or_shorter_than_the_one_before),
		TEST(a_difference_to_another_state_is_refused),
		TEST(a_message_cut_off_anywhere_is_refused),
		TEST(an_impossible_length_is_refused_before_memory_is_taken),
		TEST(another_length_than_the_content_s_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
