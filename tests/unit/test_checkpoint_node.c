/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a secondary's node takes from the primary, without a machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/node.h"

struct rig {
	ckpt_node *node;
	struct ckpt_twin_streams streams;
	/* A message. */
	struct {
		struct ckpt_addresses_head head;
		struct ckpt_address all[CKPT_ADDRESSES_ALL + 1];
	} message;
};

static int set_up(void **state)
{
	static const struct ckpt_node_hooks hooks;
	struct rig *rig = g_new0(struct rig, 1);

	rig->node = ckpt_node_new(TRUE, 2, &hooks, NULL);
	rig->streams = ckpt_node_twin_streams(rig->node);
	for (guint i = 0; i < G_N_ELEMENTS(rig->message.all); i++)
		rig->message.all[i] = (struct ckpt_address){
			.family = CKPT_ADDRESS_IP4,
			.flags = CKPT_ADDRESS_CLAIMED,
			.mac = { 2, 0, 0, 0, 0, 1 },
			.ip = { 192, 0, 2, (guint8)(i + 1) },
		};
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	ckpt_node_free(rig->node);
	g_free(rig);
	return 0;
}

static const char *take(struct rig *rig, guint count)
{
	return rig->streams.addresses(rig->streams.data, &rig->message,
				      sizeof(rig->message.head) +
					      count * sizeof(rig->message.all[0]));
}

static guint known(struct rig *rig, guint net)
{
	struct ckpt_address all[CKPT_ADDRESSES_ALL];

	return ckpt_addresses_copy(ckpt_node_addresses(rig->node, net), all);
}

static void addresses_are_learned_for_their_card(void **state)
{
	struct rig *rig = *state;

	rig->message.head.net = 1;
	assert_null(take(rig, 3));
	assert_int_equal(known(rig, 0), 0);
	assert_int_equal(known(rig, 1), 3);
	assert_null(take(rig, 0));
	assert_null(take(rig, 4));
	assert_int_equal(known(rig, 1), 4);
	/* However many it says. */
	assert_null(take(rig, CKPT_ADDRESSES_ALL));
	assert_int_equal(known(rig, 1), CKPT_ADDRESSES_MAX);
}

static void addresses_that_cannot_be_are_refused_whole(void **state)
{
	struct rig *rig = *state;

	assert_non_null(rig->streams.addresses(rig->streams.data, &rig->message, 7));
	assert_non_null(rig->streams.addresses(rig->streams.data, &rig->message,
					       sizeof(rig->message.head) + 1));
	assert_non_null(take(rig, CKPT_ADDRESSES_ALL + 1));
	rig->message.head.net = 2;
	assert_non_null(take(rig, 1));
	rig->message.head.net = 0;
	rig->message.head.pad[6] = 1;
	assert_non_null(take(rig, 1));
	rig->message.head.pad[6] = 0;
	rig->message.all[2].mac[0] = 1;
	assert_non_null(take(rig, 3));
	assert_int_equal(known(rig, 0), 0);
	assert_null(take(rig, 2));
	assert_int_equal(known(rig, 0), 2);
}

/* A filter that takes what begins with 'y'. */

static void *picky_new(void)
{
	return g_malloc(1);
}

static const char *picky_load(void *filter, const guint8 *bytes, gsize len)
{
	return !len || bytes[0] == 'y' ? NULL : "it does not begin with y";
}

static const struct ckpt_filter_ops picky = { .new = picky_new,
					      .free = g_free,
					      .load = picky_load };

static const char *filter(struct rig *rig, guint64 total, guint64 offset, char first, gsize len)
{
	struct {
		struct ckpt_filter_head head;
		char bytes[64];
	} message = { { wire_put64(total), wire_put64(offset) }, { first } };

	return rig->streams.filter(rig->streams.data, &message, sizeof(message.head) + len);
}

static gboolean may_commit(struct rig *rig)
{
	return rig->streams.may_commit(rig->streams.data, 0, 0);
}

static void use_filter(struct rig *rig)
{
	static const struct ckpt_node_hooks hooks;

	ckpt_node_free(rig->node);
	rig->node = ckpt_node_new(TRUE, 1, &hooks, &picky);
	rig->streams = ckpt_node_twin_streams(rig->node);
}

static void a_commit_needs_the_input_and_the_writes_that_it_has_seen(void **state)
{
	struct rig *rig = *state;

	assert_true(rig->streams.may_commit(rig->streams.data, 0, 0));
	assert_false(rig->streams.may_commit(rig->streams.data, 1, 0));
	assert_false(rig->streams.may_commit(rig->streams.data, 0, 1));
}

static void a_filters_state_comes_whole_or_there_is_no_commit(void **state)
{
	struct rig *rig = *state;

	use_filter(rig);
	assert_true(may_commit(rig));
	assert_null(filter(rig, 100, 0, 'y', 64));
	assert_false(may_commit(rig));
	assert_non_null(filter(rig, 100, 64, 'y', 37));
	assert_non_null(filter(rig, 100, 63, 'y', 30));
	assert_non_null(filter(rig, 99, 64, 'y', 30));
	assert_non_null(filter(rig, 100, 64, 'y', 0));
	assert_null(filter(rig, 100, 64, 'n', 36));
	assert_true(may_commit(rig));
	assert_non_null(filter(rig, 100, 0, 'y', 64));
	assert_true(may_commit(rig));
}

static void a_filters_state_that_it_does_not_take_is_not_committed(void **state)
{
	struct rig *rig = *state;

	use_filter(rig);
	assert_null(filter(rig, 5, 0, 'n', 5));
	assert_false(may_commit(rig));
	use_filter(rig);
	assert_null(filter(rig, 0, 0, 0, 0));
	assert_true(may_commit(rig));
	assert_non_null(filter(rig, 0, 0, 0, 0));
	use_filter(rig);
	assert_non_null(filter(rig, CKPT_FILTER_MAX + 1, 0, 'y', 64));
	assert_non_null(filter(rig, G_MAXUINT64, 0, 'y', 64));
}

static void a_filters_state_is_refused_where_there_is_none(void **state)
{
	struct rig *rig = *state;

	assert_non_null(filter(rig, 5, 0, 'y', 5));
	assert_true(may_commit(rig));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(addresses_are_learned_for_their_card),
		TEST(addresses_that_cannot_be_are_refused_whole),
		TEST(a_commit_needs_the_input_and_the_writes_that_it_has_seen),
		TEST(a_filters_state_comes_whole_or_there_is_no_commit),
		TEST(a_filters_state_that_it_does_not_take_is_not_committed),
		TEST(a_filters_state_is_refused_where_there_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
