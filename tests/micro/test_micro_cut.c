/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link ends after any message of either side, from the hello to the second checkpoint: the
 * primary's guest goes on, and the secondary has exactly the last checkpoint that it committed,
 * or a run of its own from there, or nothing before the first.
 *
 * MICRO_CUTS is how many of the messages over all are tried (40), spread evenly; 0 is all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checkpoint/protocol.h"
#include "tests/micro/hostile.h"

static struct rig *rig;

/* When the link ends, and how. */
struct cut {
	guint after; /* messages, both ways */
	gboolean within; /* the last of them only in part */
	guint seen;
	gint done; /* atomic */
};

static void maybe_cut(void *data, struct wiretap_message *message)
{
	struct cut *cut = data;

	cut->seen = message->index + 1;
	if (message->index != cut->after)
		return;
	if (cut->within)
		g_byte_array_set_size(message->bytes, message->bytes->len / 2);
	message->cut = TRUE;
	g_atomic_int_set(&cut->done, TRUE);
}

/* How many messages it takes to commit and apply two checkpoints. */
static guint count_messages(enum ckpt_mode mode)
{
	struct cut cut = { .after = G_MAXUINT };
	const struct session_options options = { .mode = mode, .fn = maybe_cut, .data = &cut };
	struct session *session = session_new(rig, &options);

	assert_false(session_is_lost_before(session, 3));
	session_free_judged(session, TRUE);
	return cut.seen;
}

static void cut_everywhere(enum ckpt_mode mode)
{
	guint wanted = g_getenv("MICRO_CUTS") ? (guint)atoi(g_getenv("MICRO_CUTS")) : 40;
	guint messages = count_messages(mode), cuts = 0;
	guint step = wanted && wanted < messages ? messages / wanted : 1;
	guint by_epoch[8] = { 0 };

	for (guint after = 0; after < messages; after += step) {
		struct cut cut = { .after = after, .within = cuts % 3 == 2 };
		const struct session_options options = { .mode = mode, .fn = maybe_cut,
							 .data = &cut };
		struct session *session = session_new(rig, &options);
		guint64 epoch = 0;

		assert_true(session_is_lost_before(session, G_MAXUINT64));
		assert_true(g_atomic_int_get(&cut.done));
		if (session->secondary)
			epoch = ckpt_secondary_epoch(session->secondary);
		by_epoch[MIN(epoch, G_N_ELEMENTS(by_epoch) - 1)]++;
		session_free_judged(session, TRUE);
		cuts++;
	}
	rig_check_first(rig);
	printf("# %s: %u messages, the link cut at %u of them; left with epoch 0: %u, 1: %u, "
	       "2: %u, later: %u\n", mode == CKPT_MODE_COLO ? "colo" : "buffered", messages,
	       cuts, by_epoch[0], by_epoch[1], by_epoch[2],
	       cuts - by_epoch[0] - by_epoch[1] - by_epoch[2]);
	assert_true(by_epoch[0] && by_epoch[1]);
}

static void a_link_cut_after_any_message_harms_no_running_pair(void **state)
{
	cut_everywhere(CKPT_MODE_COLO);
}

static void a_link_cut_after_any_message_leaves_a_resting_secondary_exact(void **state)
{
	cut_everywhere(CKPT_MODE_BUFFERED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_cut_after_any_message_harms_no_running_pair),
		cmocka_unit_test(a_link_cut_after_any_message_leaves_a_resting_secondary_exact),
	};
	int failed;

	rig = rig_new();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rig_free(rig);
	return failed;
}
