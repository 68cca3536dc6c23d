/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A channel with its threads: how it ends, and who knows why. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/link.h"
#include "checkpoint/protocol.h"

#define LONG_MS 20000u

static base_key *key;

/* One end. Without a link it is the test's own to speak with. */
struct side {
	int fd;
	gboolean server;
	base_channel *channel;
	ckpt_link *link;
	GMutex lock;
	GCond changed;
	char *why;
	guint lost, messages;
	gboolean refuse; /* the next message */
};

static gboolean on_message(void *data, const struct base_message *message, GError **error)
{
	struct side *side = data;
	gboolean ok;

	g_mutex_lock(&side->lock);
	side->messages++;
	ok = !side->refuse;
	g_cond_broadcast(&side->changed);
	g_mutex_unlock(&side->lock);
	if (!ok)
		g_set_error(error, g_quark_from_static_string("test"), 1,
			    "this\nis not what was agreed");
	return ok;
}

static void on_lost(void *data, const GError *error)
{
	struct side *side = data;

	g_mutex_lock(&side->lock);
	side->lost++;
	side->why = g_strdup(error->message);
	g_cond_broadcast(&side->changed);
	g_mutex_unlock(&side->lock);
}

static void *shake_hands(void *data)
{
	struct side *side = data;

	side->channel = base_channel_new_take(side->fd, side->server, key, ckpt_rules,
					      LONG_MS, NULL);
	return NULL;
}

/* `links`: how many of the two have one. */
static void set_up(struct side sides[2], guint links, guint silence_ms)
{
	static const struct ckpt_link_ops ops = { on_message, on_lost };
	int fds[2];
	GThread *thread;

	memset(sides, 0, 2 * sizeof(*sides));
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
	for (guint i = 0; i < 2; i++) {
		sides[i].fd = fds[i];
		sides[i].server = i == 1;
		g_mutex_init(&sides[i].lock);
		g_cond_init(&sides[i].changed);
	}
	thread = g_thread_new("hands", shake_hands, &sides[1]);
	shake_hands(&sides[0]);
	g_thread_join(thread);
	for (guint i = 0; i < links; i++) {
		sides[i].link = ckpt_link_new_take(g_steal_pointer(&sides[i].channel), &ops,
						   &sides[i], silence_ms);
		ckpt_link_start(sides[i].link);
	}
}

static void tear_down(struct side sides[2])
{
	for (guint i = 0; i < 2; i++) {
		ckpt_link_free(sides[i].link);
		base_channel_free(sides[i].channel);
		g_free(sides[i].why);
		g_mutex_clear(&sides[i].lock);
		g_cond_clear(&sides[i].changed);
	}
}

static void expect_lost(struct side *side, const char *words)
{
	gint64 until = g_get_monotonic_time() + LONG_MS * 1000;

	g_mutex_lock(&side->lock);
	while (!side->lost && g_cond_wait_until(&side->changed, &side->lock, until))
		;
	g_mutex_unlock(&side->lock);
	assert_int_equal(side->lost, 1);
	if (!strstr(side->why, words))
		fail_msg("lost: %s", side->why);
}

static void post(struct side *side, guint16 type, const void *bytes, gsize len)
{
	struct iovec iov = { (void *)bytes, len };

	ckpt_link_post(side->link, type, 7, &iov, len ? 1 : 0);
}

static void a_refused_message_ends_both_ends_with_its_reason(void **state)
{
	struct side sides[2];

	set_up(sides, 2, LONG_MS);
	sides[1].refuse = TRUE;
	post(&sides[0], CKPT_COMMITTED, NULL, 0);
	expect_lost(&sides[1], "this\nis not what was agreed");
	expect_lost(&sides[0], "the peer ended it: this?is not what was agreed");
	tear_down(sides);
}

/* The peer is in the midst of sending: what it has not yet sent must not cost it the reason. */
static void a_sender_under_way_hears_the_reason_too(void **state)
{
	g_autofree guint8 *bytes = g_malloc0(CKPT_BATCH_MAX);
	struct iovec iov = { bytes, CKPT_BATCH_MAX };
	struct side sides[2];

	set_up(sides, 2, LONG_MS);
	sides[1].refuse = TRUE;
	while (ckpt_link_send(sides[0].link, CKPT_PAGES, 1, &iov, 1))
		;
	expect_lost(&sides[1], "not what was agreed");
	expect_lost(&sides[0], "not what was agreed");
	assert_int_equal(sides[1].messages, 1);
	tear_down(sides);
}

static void a_message_against_the_rules_is_answered_with_a_reason(void **state)
{
	struct side sides[2];

	set_up(sides, 2, LONG_MS);
	post(&sides[0], CKPT_COMMITTED, "x", 1);
	expect_lost(&sides[1], "committed of 1 bytes");
	expect_lost(&sides[0], "the peer ended it: connection with");
	expect_lost(&sides[0], "committed of 1 bytes");
	tear_down(sides);
}

static void whoever_gives_up_tells_the_peer_and_stays_lost_for_that(void **state)
{
	struct side sides[2];

	set_up(sides, 2, LONG_MS);
	ckpt_link_refuse(sides[0].link, "no more patience");
	ckpt_link_refuse(sides[0].link, "again");
	expect_lost(&sides[0], "no more patience");
	expect_lost(&sides[1], "the peer ended it: no more patience");
	ckpt_link_stop(sides[0].link, CKPT_END_QUIT, "in good order");
	expect_lost(&sides[0], "no more patience");
	tear_down(sides);
}

static void a_stop_in_good_order_is_told(void **state)
{
	struct side sides[2];

	set_up(sides, 2, LONG_MS);
	assert_int_equal(ckpt_link_peer_end(sides[0].link), CKPT_END_FAULT);
	ckpt_link_stop(sides[1].link, CKPT_END_POWEROFF, "time for bed");
	expect_lost(&sides[1], "ended here: time for bed");
	expect_lost(&sides[0], "the peer ended it: time for bed");
	assert_int_equal(ckpt_link_peer_end(sides[0].link), CKPT_END_POWEROFF);
	assert_int_equal(ckpt_link_peer_end(sides[1].link), CKPT_END_FAULT);
	tear_down(sides);
}

static void a_reason_to_end_that_nobody_knows_yet_is_a_fault(void **state)
{
	struct ckpt_bye bye = { .end = CKPT_ENDS };
	struct base_message message = { .type = CKPT_BYE,
					.length = sizeof(bye),
					.payload = (void *)&bye };

	assert_int_equal(ckpt_end_of(&message), CKPT_END_FAULT);
	bye.end = CKPT_END_RESUMED;
	assert_int_equal(ckpt_end_of(&message), CKPT_END_RESUMED);
	for (guint i = 0; i < CKPT_ENDS; i++)
		assert_string_not_equal(ckpt_end_name((enum ckpt_ending)i), "unknown");
}

/* It never reads: the socket is full, and so are the queues. */
static void a_peer_that_does_not_read_holds_up_no_stop(void **state)
{
	g_autofree guint8 *bytes = g_malloc0(CKPT_BATCH_MAX);
	struct side sides[2];
	gint64 start;

	set_up(sides, 1, LONG_MS);
	for (guint i = 0; i < 20; i++)
		post(&sides[0], CKPT_PAGES, bytes, CKPT_BATCH_MAX);
	start = g_get_monotonic_time();
	ckpt_link_stop(sides[0].link, CKPT_END_QUIT, "good night");
	assert_true(g_get_monotonic_time() - start < LONG_MS * 500);
	expect_lost(&sides[0], "ended here: good night");
	tear_down(sides);
}

static void nor_one_that_is_refused_and_stays(void **state)
{
	struct side sides[2];

	set_up(sides, 1, LONG_MS);
	sides[0].refuse = TRUE;
	assert_true(base_channel_send(sides[1].channel, CKPT_COMMITTED, 1, NULL, 0, LONG_MS,
				      NULL));
	assert_true(base_channel_flush(sides[1].channel, LONG_MS, NULL));
	expect_lost(&sides[0], "not what was agreed");
	ckpt_link_free(g_steal_pointer(&sides[0].link));
	tear_down(sides);
}

static void a_peer_that_says_nothing_is_lost(void **state)
{
	struct side sides[2];

	set_up(sides, 1, 100);
	expect_lost(&sides[0], "sent nothing whole within 100 ms");
	tear_down(sides);
}

static void a_peer_that_says_nothing_any_more_is_lost(void **state)
{
	struct side sides[2];

	set_up(sides, 1, 300);
	assert_true(base_channel_send(sides[1].channel, CKPT_PING, 0, NULL, 0, LONG_MS, NULL));
	assert_true(base_channel_flush(sides[1].channel, LONG_MS, NULL));
	expect_lost(&sides[0], "sent nothing whole within 300 ms");
	tear_down(sides);
}

static void pings_keep_a_link_without_traffic(void **state)
{
	struct side sides[2];

	set_up(sides, 2, 2000);
	g_usleep(2500 * 1000);
	assert_false(ckpt_link_is_lost(sides[0].link) || ckpt_link_is_lost(sides[1].link));
	assert_int_equal(sides[0].messages, 0);
	tear_down(sides);
}

static int make_key(void **state)
{
	g_autofree char *path =
		g_strdup_printf("%s/colo-link-key-%d", g_get_tmp_dir(), getpid());

	unlink(path);
	if (!base_key_generate(path, NULL))
		return -1;
	key = base_key_read(path, NULL);
	unlink(path);
	return key ? 0 : -1;
}

static int free_key(void **state)
{
	base_key_free(key);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refused_message_ends_both_ends_with_its_reason),
		cmocka_unit_test(a_sender_under_way_hears_the_reason_too),
		cmocka_unit_test(a_message_against_the_rules_is_answered_with_a_reason),
		cmocka_unit_test(whoever_gives_up_tells_the_peer_and_stays_lost_for_that),
		cmocka_unit_test(a_stop_in_good_order_is_told),
		cmocka_unit_test(a_reason_to_end_that_nobody_knows_yet_is_a_fault),
		cmocka_unit_test(a_peer_that_does_not_read_holds_up_no_stop),
		cmocka_unit_test(nor_one_that_is_refused_and_stays),
		cmocka_unit_test(a_peer_that_says_nothing_is_lost),
		cmocka_unit_test(a_peer_that_says_nothing_any_more_is_lost),
		cmocka_unit_test(pings_keep_a_link_without_traffic),
	};

	return cmocka_run_group_tests(tests, make_key, free_key);
}
