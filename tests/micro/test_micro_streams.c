/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes along with checkpoints, the guest's input and its disk writes, changed on its way:
 * a number, a device, a length, one missing, one twice, two in the wrong order. Refused with a
 * reason on both sides; the primary's guest goes on with a sound disk, and the secondary's
 * guest does so from its last commit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/protocol.h"
#include "tests/micro/hostile.h"

#define FRAME sizeof(struct wire_frame)

enum how { FLIP, SHORTEN, REPEAT, DROP, SWAP };

struct attack {
	guint16 type;
	enum how how;
	guint at; /* byte of the payload, or how many are cut off */
	const char *words;
	/* While it runs: */
	gboolean in_checkpoints, done;
	GByteArray *held;
};

static void meddle(void *data, struct wiretap_message *message)
{
	struct attack *attack = data;
	GByteArray *bytes = message->bytes;

	if (message->way != TO_SECONDARY)
		return;
	/* In the midst of things: there is a commit to fall back on. */
	attack->in_checkpoints |= message->epoch >= 3;
	if (message->type != attack->type || !attack->in_checkpoints)
		return;
	if (attack->held) {
		g_byte_array_append(bytes, attack->held->data, attack->held->len);
		g_clear_pointer(&attack->held, g_byte_array_unref);
	}
	if (attack->done)
		return;
	attack->done = TRUE;
	switch (attack->how) {
	case FLIP:
		bytes->data[FRAME + attack->at] ^= 0x40;
		wiretap_mend(bytes);
		break;
	case SHORTEN:
		g_byte_array_set_size(bytes, bytes->len - attack->at);
		wiretap_mend(bytes);
		break;
	case REPEAT:
		g_byte_array_set_size(bytes, 2 * bytes->len);
		memcpy(bytes->data + bytes->len / 2, bytes->data, bytes->len / 2);
		break;
	case DROP:
		g_byte_array_set_size(bytes, 0);
		break;
	case SWAP:
		attack->held = g_byte_array_new();
		g_byte_array_append(attack->held, bytes->data, bytes->len);
		g_byte_array_set_size(bytes, 0);
		break;
	}
}

/* Entropy is input, and the guest asks for it. */
static void keep_asking(struct rig *rig, struct session *session)
{
	gboolean lost = session_is_lost_before(session, 4);

	for (guint i = 0; i < 200 && !lost; i++) {
		g_free(micro_ask(rig->guests[PRIMARY], "rng 64"));
		g_mutex_lock(&session->lock);
		lost = session->why[PRIMARY] != NULL;
		g_mutex_unlock(&session->lock);
	}
}

static void expect_refused(const struct attack *one)
{
	struct attack attack = *one;
	struct rig *rig = rig_new_with_nodes();
	const struct session_options options = { .mode = CKPT_MODE_COLO,
						 .fn = meddle,
						 .data = &attack };
	struct session *session = session_new(rig, &options);

	/* Not before: what was written then is not on both disks. */
	g_free(micro_do(rig->guests[PRIMARY], "blkbg 200"));
	keep_asking(rig, session);
	assert_true(session_is_lost_before(session, G_MAXUINT64));
	assert_true(attack.done);
	if (!strstr(session->why[SECONDARY], attack.words) ||
	    !strstr(session->why[PRIMARY], session->why[SECONDARY]))
		fail_msg("type %u how %u at %u: primary: %s; secondary: %s", attack.type,
			 attack.how, attack.at, session->why[PRIMARY],
			 session->why[SECONDARY]);
	assert_true(ckpt_secondary_epoch(session->secondary) >= 2);
	session_free_judged(session, TRUE);
	rig_check_first(rig);
	rig_check_disk(rig, PRIMARY);
	g_clear_pointer(&attack.held, g_byte_array_unref);
	rig_free(rig);
}

static void wrong_input_is_refused(void **state)
{
	static const struct attack attacks[] = {
		{ CKPT_INPUT, FLIP, G_STRUCT_OFFSET(struct ckpt_input_head, number),
		  "input " },
		{ CKPT_INPUT, FLIP, G_STRUCT_OFFSET(struct ckpt_input_head, kind),
		  "input of an unknown kind" },
		{ CKPT_INPUT, FLIP, G_STRUCT_OFFSET(struct ckpt_input_head, device),
		  "input of an unknown kind or for an unknown device" },
		{ CKPT_INPUT, FLIP, G_STRUCT_OFFSET(struct ckpt_input_head, pad),
		  "padding that is not zero" },
		{ CKPT_INPUT, REPEAT, 0, "input that came before" },
		{ CKPT_INPUT, DROP, 0, "" },
		{ CKPT_INPUT, SWAP, 0, "" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(attacks); i++)
		expect_refused(&attacks[i]);
}

static void wrong_disk_writes_are_refused(void **state)
{
	static const struct attack attacks[] = {
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, number),
		  "a disk write is not the next one" },
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, disk),
		  "a disk write is for no disk" },
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, op),
		  "an unknown operation" },
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, pad),
		  "unknown flags" },
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, offset) + 5,
		  "not inside the disk" },
		{ CKPT_DISK_WRITE, FLIP, G_STRUCT_OFFSET(struct ckpt_disk_head, length),
		  "not made of the disk's blocks" },
		{ CKPT_DISK_WRITE, SHORTEN, 512, "has not its length" },
		{ CKPT_DISK_WRITE, REPEAT, 0, "is not the next one" },
		{ CKPT_DISK_WRITE, DROP, 0, "" },
		{ CKPT_DISK_WRITE, SWAP, 0, "" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(attacks); i++)
		expect_refused(&attacks[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_input_is_refused),
		cmocka_unit_test(wrong_disk_writes_are_refused),
	};

	micro_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
