/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the secondary keeps of the primary's input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/input.h"

#define NETS 2u
#define BYTES_MAX (1u << 20)
#define NET CKPT_INPUT_NET
#define CONSOLE CKPT_INPUT_CONSOLE
#define RNG CKPT_INPUT_RNG
#define NOTE CKPT_INPUT_NOTE

static int set_up(void **state)
{
	*state = ckpt_input_new(NETS, BYTES_MAX);
	return 0;
}

static int tear_down(void **state)
{
	ckpt_input_free(*state);
	return 0;
}

static const char *add_head(ckpt_input *input, const struct ckpt_input_head *head,
			    const void *bytes, gsize len)
{
	g_autofree guint8 *payload = g_malloc(sizeof(*head) + len);

	memcpy(payload, head, sizeof(*head));
	memcpy(payload + sizeof(*head), bytes, len);
	return ckpt_input_add(input, payload, sizeof(*head) + len);
}

static const char *add(ckpt_input *input, guint64 number, guint kind, guint device,
		       const void *bytes, gsize len)
{
	struct ckpt_input_head head = {
		.number = wire_put64(number),
		.kind = (guint8)kind,
		.device = (guint8)device,
	};

	return add_head(input, &head, bytes, len);
}

/* The next item, of text that says which it is. */
static void add_text(ckpt_input *input, guint kind, guint device, const char *text)
{
	assert_null(add(input, ckpt_input_last(input) + 1, kind, device, text,
			strlen(text)));
}

static void expect(const ckpt_input *input, guint kind, guint device, const char *text)
{
	gsize len;
	const guint8 *next = ckpt_input_next(input, kind, device, &len);

	if (!text) {
		assert_null(next);
		return;
	}
	assert_non_null(next);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(next, text, len);
}

static void take(ckpt_input *input, guint kind, guint device, const char *text)
{
	expect(input, kind, device, text);
	ckpt_input_consume(input, kind, device, strlen(text));
}

static void items_come_in_their_order(void **state)
{
	ckpt_input *input = *state;

	expect(input, NET, 0, NULL);
	add_text(input, NET, 0, "the first frame");
	add_text(input, NET, 0, "the second frame");
	take(input, NET, 0, "the first frame");
	take(input, NET, 0, "the second frame");
	expect(input, NET, 0, NULL);
	add_text(input, NET, 0, "the third frame");
	take(input, NET, 0, "the third frame");
}

static void each_stream_has_a_cursor_of_its_own(void **state)
{
	ckpt_input *input = *state;

	add_text(input, NET, 0, "frame for card 0");
	add_text(input, NET, 1, "frame for card 1");
	add_text(input, CONSOLE, 0, "typed");
	add_text(input, CONSOLE, 1, "typed there");
	add_text(input, RNG, 0, "entropy");
	take(input, RNG, 0, "entropy");
	take(input, NET, 1, "frame for card 1");
	expect(input, NET, 1, NULL);
	expect(input, RNG, 0, NULL);
	take(input, NET, 0, "frame for card 0");
	take(input, CONSOLE, 1, "typed there");
	take(input, CONSOLE, 0, "typed");
}

static void bytes_are_taken_in_any_portion(void **state)
{
	ckpt_input *input = *state;
	char got[16] = { 0 };

	add_text(input, RNG, 0, "abcd");
	add_text(input, RNG, 0, "efg");
	expect(input, RNG, 0, "abcd");
	ckpt_input_consume(input, RNG, 0, 1);
	expect(input, RNG, 0, "bcd");
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, 4), 4);
	assert_string_equal(got, "bcde");
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, sizeof(got)), 2);
	assert_memory_equal(got, "fg", 2);
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, sizeof(got)), 0);
}

/* Refused, and all as before. */
static void refuse(ckpt_input *input, const char *why, const char *reason)
{
	assert_non_null(why);
	assert_string_equal(why, reason);
	assert_int_equal(ckpt_input_last(input), 1);
	expect(input, CONSOLE, 0, "kept");
	expect(input, NET, 0, NULL);
	expect(input, RNG, 0, NULL);
}

static void gaps_and_repeats_are_refused(void **state)
{
	ckpt_input *input = *state;

	assert_non_null(add(input, 0, CONSOLE, 0, "x", 1));
	assert_non_null(add(input, 2, CONSOLE, 0, "x", 1));
	add_text(input, CONSOLE, 0, "kept");
	refuse(input, add(input, 1, RNG, 0, "x", 1), "input that came before");
	refuse(input, add(input, 0, RNG, 0, "x", 1), "input that came before");
	refuse(input, add(input, 3, RNG, 0, "x", 1), "input before this is missing");
	refuse(input, add(input, G_MAXUINT64, RNG, 0, "x", 1),
	       "input before this is missing");
}

static void notes_lie_among_frames(void **state)
{
	ckpt_input *input = *state;
	guint8 bytes[12] = { 0 };
	gsize len;

	assert_null(add(input, 1, NOTE, 1, "a", 1));
	assert_null(add(input, 2, NET, 1, bytes, sizeof(bytes)));
	assert_null(ckpt_input_next(input, NET, 1, &len));
	take(input, NOTE, 1, "a");
	assert_null(ckpt_input_next(input, NOTE, 1, &len));
	assert_non_null(ckpt_input_next(input, NET, 1, &len));
	assert_non_null(add(input, 3, NOTE, 1, "", 0));
	assert_non_null(add(input, 3, NOTE, 7, "b", 1));
}

static void what_is_of_no_known_stream_is_refused(void **state)
{
	static const char unknown[] =
		"input of an unknown kind or for an unknown device";
	ckpt_input *input = *state;

	add_text(input, CONSOLE, 0, "kept");
	refuse(input, add(input, 2, 0, 0, "x", 1), unknown);
	refuse(input, add(input, 2, 5, 0, "x", 1), unknown);
	refuse(input, add(input, 2, 255, 0, "x", 1), unknown);
	refuse(input, add(input, 2, NET, NETS, "a whole frame", 13), unknown);
	refuse(input, add(input, 2, CONSOLE, CKPT_INPUT_CONSOLES, "x", 1), unknown);
	refuse(input, add(input, 2, RNG, 1, "x", 1), unknown);
}

static void what_is_too_short_or_too_long_is_refused(void **state)
{
	ckpt_input *input = *state;
	g_autofree guint8 *bytes = g_malloc0(CKPT_FRAME_MAX + 1);

	add_text(input, CONSOLE, 0, "kept");
	for (gsize len = 0; len < sizeof(struct ckpt_input_head); len++)
		refuse(input, ckpt_input_add(input, bytes, len),
		       "input without a head");
	refuse(input, add(input, 2, NET, 0, bytes, 11), "input that is too short");
	refuse(input, add(input, 2, RNG, 0, bytes, 0), "input that is too short");
	refuse(input, add(input, 2, NET, 0, bytes, CKPT_FRAME_MAX + 1),
	       "input that is too long");
	refuse(input, add(input, 2, RNG, 0, bytes, CKPT_INPUT_BYTES_MAX + 1),
	       "input that is too long");
	assert_null(add(input, 2, NET, 0, bytes, CKPT_FRAME_MAX));
	assert_null(add(input, 3, RNG, 0, bytes, CKPT_INPUT_BYTES_MAX));
	assert_null(add(input, 4, NET, 1, bytes, 12));
}

static void padding_that_is_not_zero_is_refused(void **state)
{
	ckpt_input *input = *state;
	struct ckpt_input_head head = { .number = wire_put64(2), .kind = RNG };

	add_text(input, CONSOLE, 0, "kept");
	for (guint i = 0; i < sizeof(head.pad); i++) {
		head.pad[i] = 1;
		refuse(input, add_head(input, &head, "x", 1),
		       "input with padding that is not zero");
		head.pad[i] = 0;
	}
}

static void not_more_is_kept_than_was_agreed(void **state)
{
	g_autoptr(ckpt_input) input = ckpt_input_new(NETS, 4096);
	guint64 n = 0;
	gsize before;

	while (!add(input, n + 1, RNG, 0, "x", 1))
		n++;
	/* One byte costs more than a byte. */
	assert_true(n > 50 && n < 400);
	before = ckpt_input_kept_bytes(input);
	assert_true(before <= 4096);
	assert_string_equal(add(input, n + 1, RNG, 0, "x", 1),
			    "more input than can be kept");
	assert_int_equal(ckpt_input_kept_bytes(input), before);
	/* Having had it frees nothing; a checkpoint does. */
	ckpt_input_consume(input, RNG, 0, 1);
	assert_non_null(add(input, n + 1, RNG, 0, "x", 1));
	ckpt_input_applied(input, 1);
	assert_null(add(input, n + 1, RNG, 0, "x", 1));
	ckpt_input_applied(input, n + 1);
	assert_int_equal(ckpt_input_kept_bytes(input), 0);
}

static void after_a_checkpoint_comes_again_what_came_after_its_cut(void **state)
{
	ckpt_input *input = *state;

	add_text(input, NET, 0, "1: before the cut");
	add_text(input, NET, 1, "2: before the cut");
	add_text(input, NET, 0, "3: after the cut");
	add_text(input, NET, 1, "4: after the cut");
	add_text(input, NET, 0, "5: after the cut");
	take(input, NET, 0, "1: before the cut");
	take(input, NET, 0, "3: after the cut");
	ckpt_input_applied(input, 2);
	/* One that it had, and one that it had not had: neither is of the past. */
	take(input, NET, 0, "3: after the cut");
	take(input, NET, 0, "5: after the cut");
	take(input, NET, 1, "4: after the cut");
	expect(input, NET, 0, NULL);
	expect(input, NET, 1, NULL);
	ckpt_input_applied(input, 4);
	take(input, NET, 0, "5: after the cut");
	expect(input, NET, 1, NULL);
}

static void items_half_taken_come_again_whole(void **state)
{
	ckpt_input *input = *state;
	char got[8];

	add_text(input, RNG, 0, "abcd");
	add_text(input, RNG, 0, "efgh");
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, 6), 6);
	ckpt_input_applied(input, 1);
	expect(input, RNG, 0, "efgh");
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, 1), 1);
	ckpt_input_applied(input, 1);
	expect(input, RNG, 0, "efgh");
	ckpt_input_applied(input, 2);
	expect(input, RNG, 0, NULL);
	add_text(input, RNG, 0, "ijkl");
	expect(input, RNG, 0, "ijkl");
}

static void a_checkpoint_that_saw_nothing_brings_everything_back(void **state)
{
	ckpt_input *input = *state;

	ckpt_input_applied(input, 0);
	add_text(input, CONSOLE, 0, "typed");
	take(input, CONSOLE, 0, "typed");
	ckpt_input_applied(input, 0);
	take(input, CONSOLE, 0, "typed");
}

static void a_checkpoint_covers_what_came_and_no_less_than_before(void **state)
{
	ckpt_input *input = *state;

	assert_true(ckpt_input_covers(input, 0));
	assert_false(ckpt_input_covers(input, 1));
	for (guint i = 0; i < 5; i++)
		add_text(input, RNG, 0, "x");
	assert_true(ckpt_input_covers(input, 0));
	assert_true(ckpt_input_covers(input, 5));
	assert_false(ckpt_input_covers(input, 6));
	assert_false(ckpt_input_covers(input, G_MAXUINT64));
	ckpt_input_applied(input, 3);
	assert_false(ckpt_input_covers(input, 2));
	assert_true(ckpt_input_covers(input, 3));
}

static void when_no_checkpoint_comes_any_more_nothing_had_is_kept(void **state)
{
	ckpt_input *input = *state;
	char got[8];
	gsize kept;

	add_text(input, NET, 0, "a frame it had");
	add_text(input, NET, 0, "a frame it had not");
	add_text(input, RNG, 0, "abcd");
	add_text(input, RNG, 0, "efgh");
	take(input, NET, 0, "a frame it had");
	assert_int_equal(ckpt_input_read(input, RNG, 0, got, 6), 6);
	kept = ckpt_input_kept_bytes(input);
	ckpt_input_finish(input);
	assert_true(ckpt_input_kept_bytes(input) < kept);
	assert_string_equal(add(input, 5, RNG, 0, "x", 1),
			    "input for a machine that is no secondary any more");
	take(input, NET, 0, "a frame it had not");
	expect(input, RNG, 0, "gh");
	take(input, RNG, 0, "gh");
	assert_int_equal(ckpt_input_kept_bytes(input), 0);
	expect(input, RNG, 0, NULL);
}

static void a_new_connection_begins_with_nothing(void **state)
{
	ckpt_input *input = *state;

	add_text(input, CONSOLE, 0, "old");
	add_text(input, RNG, 0, "bytes");
	ckpt_input_applied(input, 1);
	ckpt_input_consume(input, RNG, 0, 2);
	ckpt_input_restart(input);
	assert_int_equal(ckpt_input_last(input) + ckpt_input_kept_bytes(input), 0);
	expect(input, CONSOLE, 0, NULL);
	expect(input, RNG, 0, NULL);
	assert_true(ckpt_input_covers(input, 0));
	assert_null(add(input, 1, CONSOLE, 0, "new", 3));
	expect(input, CONSOLE, 0, "new");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(items_come_in_their_order),
		TEST(each_stream_has_a_cursor_of_its_own),
		TEST(bytes_are_taken_in_any_portion),
		TEST(gaps_and_repeats_are_refused),
		TEST(notes_lie_among_frames),
		TEST(what_is_of_no_known_stream_is_refused),
		TEST(what_is_too_short_or_too_long_is_refused),
		TEST(padding_that_is_not_zero_is_refused),
		TEST(not_more_is_kept_than_was_agreed),
		TEST(after_a_checkpoint_comes_again_what_came_after_its_cut),
		TEST(items_half_taken_come_again_whole),
		TEST(a_checkpoint_that_saw_nothing_brings_everything_back),
		TEST(a_checkpoint_covers_what_came_and_no_less_than_before),
		TEST(when_no_checkpoint_comes_any_more_nothing_had_is_kept),
		TEST(a_new_connection_begins_with_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
