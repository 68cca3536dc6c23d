/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A link's end: each side is told once, and the peer hears why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "checkpoint/link.h"
#include "checkpoint/protocol.h"

#define DEADLINE_MS 10000u

struct side {
	ckpt_link *link;
	const char *refuses; /* what it says to any message; NULL: takes it */
	guint lost; /* how often it was told */
	char *why;
	gint taken; /* atomic */
};

struct bed {
	struct side sides[2];
	base_key *key;
	int ends[2];
};

static gboolean on_message(void *data, const struct base_message *message,
			   GError **error)
{
	struct side *side = data;

	g_atomic_int_inc(&side->taken);
	if (!side->refuses)
		return TRUE;
	g_set_error_literal(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_PROTOCOL,
			    side->refuses);
	return FALSE;
}

static void on_lost(void *data, const GError *error)
{
	struct side *side = data;

	side->why = g_strdup(error->message);
	__atomic_fetch_add(&side->lost, 1, __ATOMIC_RELEASE);
}

static const struct ckpt_link_ops ops = { on_message, on_lost };

static void *serve(void *data)
{
	struct bed *bed = data;

	return base_channel_new_take(bed->ends[1], TRUE, bed->key, ckpt_rules,
				     DEADLINE_MS, NULL);
}

static void bed_init(struct bed *bed)
{
	g_autofree char *folder = g_dir_make_tmp("colo-link-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "key", NULL);
	base_channel *channels[2];
	GThread *thread;

	memset(bed, 0, sizeof(*bed));
	assert_true(base_key_generate(path, NULL));
	bed->key = base_key_read(path, NULL);
	unlink(path);
	rmdir(folder);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bed->ends),
			 0);
	thread = g_thread_new("server", serve, bed);
	channels[0] = base_channel_new_take(bed->ends[0], FALSE, bed->key, ckpt_rules,
					    DEADLINE_MS, NULL);
	channels[1] = g_thread_join(thread);
	for (guint i = 0; i < 2; i++) {
		assert_non_null(channels[i]);
		bed->sides[i].link = ckpt_link_new_take(channels[i], &ops,
							&bed->sides[i], DEADLINE_MS);
	}
}

static void start(struct bed *bed)
{
	for (guint i = 0; i < 2; i++)
		ckpt_link_start(bed->sides[i].link);
}

static void wait_until_lost(struct bed *bed)
{
	for (guint i = 0; i < 2; i++)
		while (!__atomic_load_n(&bed->sides[i].lost, __ATOMIC_ACQUIRE))
			g_usleep(200);
}

static void bed_clear(struct bed *bed)
{
	for (guint i = 0; i < 2; i++) {
		ckpt_link_free(bed->sides[i].link);
		assert_int_equal(bed->sides[i].lost, 1);
		g_free(bed->sides[i].why);
	}
	base_key_free(bed->key);
}

static void what_is_refused_the_peer_is_told(void **unused)
{
	struct bed bed;
	wire_u32 reason = wire_put32(1);
	struct iovec iov = { &reason, sizeof(reason) };

	bed_init(&bed);
	bed.sides[1].refuses = "this is not right";
	start(&bed);
	ckpt_link_post(bed.sides[0].link, CKPT_NEED, 0, &iov, 1);
	wait_until_lost(&bed);
	assert_string_equal(bed.sides[1].why, "this is not right");
	assert_string_equal(bed.sides[0].why, "the peer ended it: this is not right");
	assert_int_equal(g_atomic_int_get(&bed.sides[1].taken), 1);
	bed_clear(&bed);
}

/* However much more the peer was about to send, and we to it. */
static void a_refusal_is_heard_in_the_midst_of_bulk(void **unused)
{
	static guint8 bytes[CKPT_BATCH_MAX];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct bed bed;

	bed_init(&bed);
	start(&bed);
	for (guint i = 0; i < 4; i++)
		for (guint side = 0; side < 2; side++)
			assert_true(ckpt_link_send(bed.sides[side].link, CKPT_PAGES, 1,
						   &iov, 1));
	ckpt_link_refuse(bed.sides[0].link, "a disk is broken");
	ckpt_link_refuse(bed.sides[0].link, "and another");
	while (ckpt_link_send(bed.sides[1].link, CKPT_PAGES, 1, &iov, 1))
		;
	assert_false(ckpt_link_send(bed.sides[0].link, CKPT_PAGES, 1, &iov, 1));
	wait_until_lost(&bed);
	assert_string_equal(bed.sides[0].why, "a disk is broken");
	assert_string_equal(bed.sides[1].why, "the peer ended it: a disk is broken");
	bed_clear(&bed);
}

static void a_link_is_stopped_while_it_refuses(void **unused)
{
	for (guint i = 0; i < 50; i++) {
		struct bed bed;

		bed_init(&bed);
		start(&bed);
		ckpt_link_refuse(bed.sides[0].link, "no more");
		ckpt_link_stop(bed.sides[0].link, "the end");
		assert_string_equal(bed.sides[0].why, "no more");
		wait_until_lost(&bed);
		bed_clear(&bed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_refused_the_peer_is_told),
		cmocka_unit_test(a_refusal_is_heard_in_the_midst_of_bulk),
		cmocka_unit_test(a_link_is_stopped_while_it_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
