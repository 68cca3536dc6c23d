/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that says nothing, stops in the middle of a message, gives a byte at a time, or talks
 * without answering: a deadline ends it, and as long as it lasts the primary's guest runs and
 * answers, and nobody waits for it who stops replication.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/protocol.h"
#include "tests/micro/hostile.h"

static struct rig *rig;

enum how {
	SILENT, /* nothing from there on; the other way goes on */
	HALF, /* half of it, then nothing */
	TRICKLE, /* a byte every 50 ms */
	MUTE, /* that message only is kept back: the peer still pings */
};

struct slowness {
	enum how how;
	guint way;
	guint16 type;
	guint64 epoch;
	gboolean begun;
};

static void slow_down(void *data, struct wiretap_message *message)
{
	struct slowness *slow = data;
	gboolean first = message->type == slow->type && message->epoch == slow->epoch;

	if (message->way != slow->way || message->type == CKPT_BYE)
		return;
	if (slow->how == MUTE && first) {
		slow->begun = TRUE;
		g_byte_array_set_size(message->bytes, 0);
	}
	if (slow->how == MUTE || (!first && !slow->begun))
		return;
	if (slow->begun)
		g_byte_array_set_size(message->bytes, 0);
	else if (slow->how == TRICKLE)
		message->trickle_ms = 50;
	else
		g_byte_array_set_size(message->bytes,
				      slow->how == HALF ? message->bytes->len / 2 : 0);
	slow->begun = TRUE;
}

/* FALSE: the machine was so busy that an earlier deadline passed. */
static gboolean try_deadline(const struct slowness *what, const char *words)
{
	struct slowness slow = *what;
	const struct session_options options = { .mode = CKPT_MODE_BUFFERED,
						 .impatient = TRUE,
						 .talk = TRUE,
						 .fn = slow_down,
						 .data = &slow };
	struct session *session = session_new(rig, &options);

	for (guint i = 0; i < 5; i++)
		rig_talk(rig);
	assert_true(session_is_lost_before(session, 4));
	if (slow.begun && !strstr(session->why[PRIMARY], words) &&
	    !strstr(session->why[SECONDARY], words))
		fail_msg("primary: %s; secondary: %s", session->why[PRIMARY],
			 session->why[SECONDARY]);
	session_free_judged(session, TRUE);
	return slow.begun;
}

static void expect_deadline(const struct slowness *what, const char *words)
{
	for (guint i = 0; i < 5; i++)
		if (try_deadline(what, words))
			return;
	fail_msg("it never came to message %u", what->type);
}

static void everywhere(enum how how, const char *words)
{
	static const struct slowness places[] = {
		{ .way = TO_PRIMARY, .type = CKPT_HELLO },
		{ .way = TO_PRIMARY, .type = CKPT_COMMITTED, .epoch = 2 },
		{ .way = TO_PRIMARY, .type = CKPT_APPLIED, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_HELLO },
		{ .way = TO_SECONDARY, .type = CKPT_SYNC_PAGES },
		{ .way = TO_SECONDARY, .type = CKPT_STATE, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_END, .epoch = 2 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
		struct slowness slow = places[i];

		slow.how = how;
		expect_deadline(&slow, words);
	}
	rig_check_first(rig);
}

static void a_peer_that_falls_silent_is_left_at_the_deadline(void **state)
{
	everywhere(SILENT, " within 800 ms");
}

static void a_peer_that_stops_within_a_message_is_left_at_the_deadline(void **state)
{
	everywhere(HALF, " within 800 ms");
}

static void a_peer_that_gives_a_byte_at_a_time_is_left_at_the_deadline(void **state)
{
	everywhere(TRICKLE, " within 800 ms");
}

static void a_secondary_that_only_pings_is_left_at_the_deadline(void **state)
{
	const struct slowness commit = { MUTE, TO_PRIMARY, CKPT_COMMITTED, 2 };
	const struct slowness end = { MUTE, TO_SECONDARY, CKPT_END, 1 };
	const struct slowness apply = { MUTE, TO_PRIMARY, CKPT_APPLIED, 1 };

	/* Without a commit it is another message that is out of turn. */
	expect_deadline(&commit, "applied a checkpoint that was not committed");
	expect_deadline(&end, "the secondary did not commit within 800 ms");
	expect_deadline(&apply, "the secondary did not apply its checkpoint within 800 ms");
}

/* The stop comes while the commit is waited for, for eight seconds if need be. */
static void replication_can_be_stopped_while_the_peer_hangs(void **state)
{
	struct slowness slow = { SILENT, TO_PRIMARY, CKPT_COMMITTED, 2 };
	const struct session_options options = { .mode = CKPT_MODE_BUFFERED,
						 .fn = slow_down,
						 .data = &slow };
	struct session *session = session_new(rig, &options);
	gint64 start;

	assert_false(session_is_lost_before(session, 1));
	rig_talk(rig);
	start = g_get_monotonic_time();
	g_clear_pointer(&session->primary, ckpt_primary_free);
	assert_true(g_get_monotonic_time() - start < 6 * G_USEC_PER_SEC);
	rig_talk(rig);
	session_free_judged(session, TRUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_peer_that_falls_silent_is_left_at_the_deadline),
		cmocka_unit_test(a_peer_that_stops_within_a_message_is_left_at_the_deadline),
		cmocka_unit_test(a_peer_that_gives_a_byte_at_a_time_is_left_at_the_deadline),
		cmocka_unit_test(a_secondary_that_only_pings_is_left_at_the_deadline),
		cmocka_unit_test(replication_can_be_stopped_while_the_peer_hangs),
	};
	int failed;

	rig = rig_new();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rig_free(rig);
	return failed;
}
