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

	rig->node = ckpt_node_new(TRUE, 2, &hooks);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(addresses_are_learned_for_their_card),
		TEST(addresses_that_cannot_be_are_refused_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
