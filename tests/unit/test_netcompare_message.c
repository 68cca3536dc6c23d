/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "netcompare/message.h"

static const guint8 secret[WIRE_OUTPUT_SECRET] = "0123456789abcde";

static gsize write_message(guint8 *bytes, guint16 type, guint64 epoch, guint16 device,
			   const void *payload, gsize len)
{
	struct wire_output_head head = {
		.type = wire_put16(type),
		.device = wire_put16(device),
		.length = wire_put32((guint32)len),
		.epoch = wire_put64(epoch),
	};

	memcpy(bytes, &head, sizeof(head));
	if (len)
		memcpy(bytes + sizeof(head), payload, len);
	return sizeof(head) + len;
}

static const char *take(struct ncmp_talk *talk, struct ncmp_message *message,
			guint16 type, guint64 epoch, guint16 device,
			const void *payload, gsize len)
{
	static guint8 bytes[NCMP_MESSAGE_MAX + 16];

	return ncmp_talk_take(talk, bytes,
			      write_message(bytes, type, epoch, device, payload, len),
			      message);
}

static struct ncmp_talk greeted(void)
{
	struct wire_output_hello hello = { wire_put32(WIRE_OUTPUT_VERSION),
					   wire_put32(2) };
	struct ncmp_talk talk = { 0 };
	struct ncmp_message message;

	memcpy(hello.secret, secret, sizeof(secret));
	assert_null(
		take(&talk, &message, WIRE_OUTPUT_HELLO, 0, 0, &hello, sizeof(hello)));
	assert_true(talk.met);
	assert_int_equal(talk.cards, 2);
	assert_memory_equal(talk.secret, secret, sizeof(secret));
	return talk;
}

static void nothing_comes_before_the_greeting(void **state)
{
	struct wire_output_gate gate = { wire_put32(WIRE_GATE_OPEN) };
	struct ncmp_talk talk = { 0 }, before = { 0 };
	struct ncmp_message message;

	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_GATE, 0, 0, &gate, sizeof(gate)));
	assert_memory_equal(&talk, &before, sizeof(talk));
}

static void what_is_right_is_understood(void **state)
{
	struct ncmp_talk talk = greeted();
	struct wire_output_gate gate = { wire_put32(WIRE_GATE_GUARDED) };
	struct wire_output_cut cut = { .run = 1 };
	struct ncmp_message message;
	guint8 frame[60];

	memset(frame, 7, sizeof(frame));
	assert_null(take(&talk, &message, WIRE_OUTPUT_GATE, 0, 0, &gate, sizeof(gate)));
	assert_int_equal(message.gate, WIRE_GATE_GUARDED);
	assert_null(take(&talk, &message, WIRE_OUTPUT_CUT, 9, 0, &cut, sizeof(cut)));
	assert_int_equal(message.epoch, 9);
	assert_true(message.runs);
	assert_null(take(&talk, &message, WIRE_OUTPUT_COMMITTED, 9, 0, NULL, 0));
	assert_null(
		take(&talk, &message, WIRE_OUTPUT_FRAME, 9, 1, frame, sizeof(frame)));
	assert_int_equal(message.device, 1);
	assert_int_equal(message.frame_len, sizeof(frame) - 12);
	assert_null(take(&talk, &message, WIRE_OUTPUT_LOST, 9, 0, NULL, 0));
	assert_null(take(&talk, &message, WIRE_OUTPUT_DRAIN, 9, 0, NULL, 0));
	assert_int_equal(message.epoch, 9);
	assert_int_equal(talk.committed, 9);
}

static void what_is_wrong_is_refused_and_changes_nothing(void **state)
{
	struct ncmp_talk talk = greeted(), before;
	struct wire_output_cut cut = { .run = 1 }, odd = { .run = 2 };
	struct wire_output_gate gate = { wire_put32(3) };
	struct ncmp_message message;
	guint8 frame[WIRE_OUTPUT_FRAME_MAX + 1] = { 0 };

	assert_null(take(&talk, &message, WIRE_OUTPUT_CUT, 9, 0, &cut, sizeof(cut)));
	before = talk;
	assert_non_null(take(&talk, &message, 0, 0, 0, NULL, 0));
	assert_non_null(take(&talk, &message, 8, 0, 0, NULL, 0));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_DRAIN, 0, 0, NULL, 0));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_DRAIN, 9, 0, NULL, 0));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_READY, 0, 0, NULL, 0));
	assert_non_null(take(&talk, &message, 65535, 0, 0, NULL, 0));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_GATE, 0, 0, &gate, sizeof(gate)));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_CUT, 9, 0, &cut, sizeof(cut)));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_CUT, 8, 0, &cut, sizeof(cut)));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_CUT, 10, 0, &odd, sizeof(odd)));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_CUT, 10, 1, &cut, sizeof(cut)));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_COMMITTED, 10, 0, NULL, 0));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_COMMITTED, 0, 0, NULL, 0));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_FRAME, 9, 2, frame, 60));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_FRAME, 9, 0, frame, 25));
	assert_non_null(take(&talk, &message, WIRE_OUTPUT_FRAME, 0, 0, frame, 60));
	assert_non_null(
		take(&talk, &message, WIRE_OUTPUT_FRAME, 9, 0, frame, sizeof(frame)));
	assert_memory_equal(&talk, &before, sizeof(talk));
}

static gsize write_marker(guint8 *packet, guint64 epoch)
{
	static const guint8 header[20] = { 0x45, 0, 0, 52, 0, 0, 0, 0, 0, 253 };
	struct wire_marker marker = { .magic = wire_put32(WIRE_MARKER_MAGIC),
				      .epoch = wire_put64(epoch) };

	memcpy(marker.secret, secret, sizeof(secret));
	memcpy(packet, header, sizeof(header));
	memcpy(packet + sizeof(header), &marker, sizeof(marker));
	return sizeof(header) + sizeof(marker);
}

static void a_marker_is_known(void **state)
{
	guint8 packet[64] = { 0 };
	guint64 epoch = 0;
	gsize len = write_marker(packet, 77);

	assert_true(ncmp_marker_parse(packet, len, secret, &epoch));
	assert_int_equal(epoch, 77);
	/* Ethernet pads frames that are too short. */
	assert_true(ncmp_marker_parse(packet, len + 4, secret, &epoch));
}

static void what_differs_from_a_marker_in_any_bit_that_counts_is_none(void **state)
{
	guint8 packet[64];
	guint64 epoch;
	gsize len = write_marker(packet, 77);

	for (gsize i = 0; i < len; i++) {
		/* Type of service, identification, fragments and sum; and the epoch
		 * itself. */
		if (i == 1 || (i >= 4 && i < 8) || i == 10 || i == 11 ||
		    (i >= 28 && i < 36))
			continue;
		for (guint bit = 0; bit < 8; bit++) {
			packet[i] ^= (guint8)(1u << bit);
			assert_false(ncmp_marker_parse(packet, len, secret, &epoch));
			packet[i] ^= (guint8)(1u << bit);
		}
	}
	for (gsize i = 0; i < len; i++)
		assert_false(ncmp_marker_parse(packet, i, secret, &epoch));
	write_marker(packet, 0);
	assert_false(ncmp_marker_parse(packet, len, secret, &epoch));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_comes_before_the_greeting),
		cmocka_unit_test(what_is_right_is_understood),
		cmocka_unit_test(what_is_wrong_is_refused_and_changes_nothing),
		cmocka_unit_test(a_marker_is_known),
		cmocka_unit_test(
			what_differs_from_a_marker_in_any_bit_that_counts_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
