/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Judging messages: above TLS, so that each byte of them may be a lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#include "base/frame.h"

enum { NOTE = 1, BULK = 2, EMPTY = 3 };

static const struct base_message_rule rules[] = {
	{ NOTE, "note", 1, 1000 },
	{ BULK, "bulk", 0, WIRE_PAYLOAD_MAX },
	{ EMPTY, "empty", 0, 0 },
	{ 0 },
};

static const char text[] = "the quick brown fox jumps over the lazy dog";
#define TEXT_LENGTH (sizeof(text) - 1)
#define WHOLE (sizeof(struct wire_frame) + TEXT_LENGTH)

static void make(guint8 *bytes, guint16 type)
{
	struct iovec iov[] = { { (void *)text, 7 },
			       { (void *)(text + 7), TEXT_LENGTH - 7 } };
	struct wire_frame frame;

	base_frame_encode(&frame, type, 42, iov, 2);
	memcpy(bytes, &frame, sizeof(frame));
	memcpy(bytes + sizeof(frame), text, TEXT_LENGTH);
}

/* Mends the checksum, so that another fault is what is found. */
static void mend(guint8 *bytes, gsize length)
{
	struct wire_frame frame;

	memcpy(&frame, bytes, sizeof(frame));
	frame.checksum = wire_put64(0);
	memcpy(bytes, &frame, sizeof(frame));
	frame.checksum = wire_put64(XXH3_64bits(bytes, length));
	memcpy(bytes, &frame, sizeof(frame));
}

/* Feeds at most `step` bytes at a time, until a verdict or the end. */
static enum base_frame_verdict feed(base_frame_decoder *decoder, const guint8 *bytes,
				    gsize length, gsize step,
				    struct base_message *message, GError **error)
{
	enum base_frame_verdict verdict = BASE_FRAME_MORE;

	while (length && verdict == BASE_FRAME_MORE) {
		guint8 *where;
		gsize n = MIN(MIN(base_frame_decoder_room(decoder, &where), step),
			      length);

		assert_true(n > 0);
		memcpy(where, bytes, n);
		bytes += n;
		length -= n;
		verdict = base_frame_decoder_arrived(decoder, n, message, error);
	}
	/* A verdict comes with the last byte that it needs, not later. */
	if (verdict == BASE_FRAME_WHOLE)
		assert_int_equal(length, 0);
	return verdict;
}

static void expect_refused(const guint8 *bytes, gsize length, const char *why)
{
	g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
	g_autoptr(GError) error = NULL;
	struct base_message message;

	assert_int_equal(feed(decoder, bytes, length, G_MAXSIZE, &message, &error),
			 BASE_FRAME_REFUSED);
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_PROTOCOL));
	assert_non_null(strstr(error->message, why));
}

static void a_message_arrives_in_pieces_of_any_size(void **state)
{
	g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
	struct base_message message;
	guint8 bytes[WHOLE];

	make(bytes, NOTE);
	/* One decoder for all of them, one message after the other. */
	for (gsize step = 1; step <= WHOLE; step++) {
		assert_false(base_frame_decoder_begun(decoder));
		assert_int_equal(feed(decoder, bytes, 1, step, &message, NULL),
				 BASE_FRAME_MORE);
		assert_true(base_frame_decoder_begun(decoder));
		assert_int_equal(
			feed(decoder, bytes + 1, WHOLE - 1, step, &message, NULL),
			BASE_FRAME_WHOLE);
		assert_int_equal(message.type, NOTE);
		assert_int_equal(message.epoch, 42);
		assert_int_equal(message.length, TEXT_LENGTH);
		assert_memory_equal(message.payload, text, TEXT_LENGTH);
		assert_int_equal((gsize)message.payload % 16, 0);
	}
}

static void an_empty_message_is_whole_with_its_frame(void **state)
{
	g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
	struct base_message message;
	struct wire_frame frame;

	base_frame_encode(&frame, EMPTY, G_MAXUINT64, NULL, 0);
	assert_int_equal(
		feed(decoder, (guint8 *)&frame, sizeof(frame), 5, &message, NULL),
		BASE_FRAME_WHOLE);
	assert_int_equal(message.type, EMPTY);
	assert_true(message.epoch == G_MAXUINT64);
	assert_int_equal(message.length, 0);
	assert_null(message.payload);
}

static void a_message_with_any_bit_flipped_is_refused(void **state)
{
	guint8 bytes[WHOLE], bad[WHOLE];

	make(bytes, NOTE);
	for (gsize bit = 0; bit < 8 * WHOLE; bit++) {
		g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
		g_autoptr(GError) error = NULL;
		struct base_message message;
		enum base_frame_verdict verdict;

		memcpy(bad, bytes, WHOLE);
		bad[bit / 8] ^= (guint8)(1u << bit % 8);
		verdict = feed(decoder, bad, sizeof(struct wire_frame), G_MAXSIZE,
			       &message, &error);
		if (verdict == BASE_FRAME_MORE) {
			const guint8 *rest = bad + sizeof(struct wire_frame);
			struct wire_frame frame;
			gsize length;

			/* As much as it says, or as there is. */
			memcpy(&frame, bad, sizeof(frame));
			length = MIN(wire_get32(frame.length), TEXT_LENGTH);
			verdict = feed(decoder, rest, length, G_MAXSIZE, &message,
				       &error);
			/* One that claims more waits for it, in vain. */
			if (wire_get32(frame.length) > TEXT_LENGTH) {
				assert_int_equal(verdict, BASE_FRAME_MORE);
				continue;
			}
		}
		assert_int_equal(verdict, BASE_FRAME_REFUSED);
		assert_non_null(error);
	}
}

static void a_truncated_message_is_never_whole(void **state)
{
	guint8 bytes[WHOLE];

	make(bytes, NOTE);
	for (gsize length = 0; length < WHOLE; length++) {
		g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
		struct base_message message;

		assert_int_equal(
			feed(decoder, bytes, length, G_MAXSIZE, &message, NULL),
			BASE_FRAME_MORE);
		assert_int_equal(base_frame_decoder_begun(decoder), length > 0);
	}
}

static void set_frame(guint8 *bytes, const struct wire_frame *with)
{
	memcpy(bytes, with, sizeof(*with));
	mend(bytes, WHOLE);
}

static void what_a_frame_says_is_judged_before_its_payload(void **state)
{
	struct wire_frame good, frame;
	guint8 bytes[WHOLE];

	make(bytes, NOTE);
	memcpy(&good, bytes, sizeof(good));

	/* Each with nothing of the payload, and a right checksum. */
	frame = good;
	frame.magic = wire_put32(0x12345678);
	set_frame(bytes, &frame);
	expect_refused(bytes, sizeof(frame), "begins with 0x12345678");
	frame = good;
	frame.version = wire_put16(WIRE_FRAME_VERSION + 1);
	set_frame(bytes, &frame);
	expect_refused(bytes, sizeof(frame), "of version 2, this is version 1");
	frame = good;
	frame.version = wire_put16(0);
	set_frame(bytes, &frame);
	expect_refused(bytes, sizeof(frame), "of version 0");
	frame = good;
	frame.pad = wire_put32(1);
	set_frame(bytes, &frame);
	expect_refused(bytes, sizeof(frame), "padding is not zero");
	for (guint type = 0; type <= G_MAXUINT16; type += type < 8 ? 1 : 4681) {
		if (type == NOTE || type == BULK || type == EMPTY)
			continue;
		frame = good;
		frame.type = wire_put16((guint16)type);
		set_frame(bytes, &frame);
		expect_refused(bytes, sizeof(frame), "which does not belong here");
	}
}

static void lengths_beyond_the_rule_are_refused(void **state)
{
	static const struct {
		guint16 type;
		guint32 length;
		const char *why;
	} cases[] = {
		{ NOTE, 0, "note of 0 bytes, allowed are 1 to 1000" },
		{ NOTE, 1001, "note of 1001 bytes" },
		{ NOTE, G_MAXUINT32, "note of 4294967295 bytes" },
		{ EMPTY, 1, "empty of 1 bytes" },
		{ BULK, WIRE_PAYLOAD_MAX + 1, "bulk of 4194305 bytes" },
		{ BULK, 0x80000000u, "bulk of 2147483648 bytes" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct wire_frame frame;

		base_frame_encode(&frame, cases[i].type, 0, NULL, 0);
		frame.length = wire_put32(cases[i].length);
		mend((guint8 *)&frame, sizeof(frame));
		expect_refused((guint8 *)&frame, sizeof(frame), cases[i].why);
	}
}

static void the_longest_message_of_a_rule_is_accepted(void **state)
{
	g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
	const gsize length = sizeof(struct wire_frame) + WIRE_PAYLOAD_MAX;
	g_autofree guint8 *bytes = g_malloc0(length);
	struct iovec iov = { bytes + sizeof(struct wire_frame), WIRE_PAYLOAD_MAX };
	struct base_message message;
	struct wire_frame frame;

	for (gsize i = sizeof(frame); i < length; i++)
		bytes[i] = (guint8)(i * 31 >> 3);
	base_frame_encode(&frame, BULK, 1, &iov, 1);
	memcpy(bytes, &frame, sizeof(frame));
	assert_int_equal(feed(decoder, bytes, length, 16384, &message, NULL),
			 BASE_FRAME_WHOLE);
	assert_int_equal(message.length, WIRE_PAYLOAD_MAX);
	assert_memory_equal(message.payload, iov.iov_base, WIRE_PAYLOAD_MAX);
	/* A short one after it is as short as it says. */
	make(bytes, NOTE);
	assert_int_equal(feed(decoder, bytes, WHOLE, 16384, &message, NULL),
			 BASE_FRAME_WHOLE);
	assert_int_equal(message.length, TEXT_LENGTH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_arrives_in_pieces_of_any_size),
		cmocka_unit_test(an_empty_message_is_whole_with_its_frame),
		cmocka_unit_test(a_message_with_any_bit_flipped_is_refused),
		cmocka_unit_test(a_truncated_message_is_never_whole),
		cmocka_unit_test(what_a_frame_says_is_judged_before_its_payload),
		cmocka_unit_test(lengths_beyond_the_rule_are_refused),
		cmocka_unit_test(the_longest_message_of_a_rule_is_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
