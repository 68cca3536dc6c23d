/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections beside the link: who may join, what arrives, and who misses one that is lost. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/lanes.h"

#define LONG_MS 20000u
#define PAGES 512u
#define LANES 3u

static base_key *key;
static const guint8 token[CKPT_TOKEN] = "a session's own";

struct side {
	ckpt_lanes *lanes;
	GMutex lock;
	GCond changed;
	char *why;
	guint lost;
};

struct pair {
	vmm_memory *memory;
	GMutex turn;
	struct side primary, secondary;
	int cables[LANES];
};

static void on_lost(void *data, const char *why)
{
	struct side *side = data;

	g_mutex_lock(&side->lock);
	side->lost++;
	side->why = g_strdup(why);
	g_cond_broadcast(&side->changed);
	g_mutex_unlock(&side->lock);
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

static void set_up_side(struct side *side, struct pair *pair, vmm_memory *memory)
{
	const struct ckpt_lanes_options options = { .count = LANES,
						    .silence_ms = LONG_MS,
						    .memory = memory,
						    .turn = &pair->turn,
						    .lost = on_lost,
						    .data = side };

	g_mutex_init(&side->lock);
	g_cond_init(&side->changed);
	side->lanes = ckpt_lanes_new(&options, token);
}

struct far_end {
	int fd;
	base_channel *channel;
};

static void *shake_hands(void *data)
{
	struct far_end *end = data;

	end->channel = base_channel_new_take(end->fd, TRUE, key, ckpt_rules, LONG_MS, NULL);
	return NULL;
}

/* Both ends of a channel; one of its sockets. */
static int make_channel(base_channel **near, base_channel **far)
{
	struct far_end end = { 0 };
	GThread *thread;
	int fds[2], cable;

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
	cable = dup(fds[0]);
	end.fd = fds[1];
	thread = g_thread_new("hands", shake_hands, &end);
	*near = base_channel_new_take(fds[0], FALSE, key, ckpt_rules, LONG_MS, NULL);
	g_thread_join(thread);
	*far = end.channel;
	assert_true(*near && *far);
	return cable;
}

static void join_next(struct pair *pair, guint number)
{
	base_channel *near, *far;
	struct base_message message;
	struct ckpt_join join;

	pair->cables[number] = make_channel(&near, &far);
	assert_true(ckpt_lanes_open_take(pair->primary.lanes, near, NULL));
	assert_true(base_channel_receive(far, &message, LONG_MS, NULL));
	assert_int_equal(message.type, CKPT_JOIN);
	memcpy(&join, message.payload, sizeof(join));
	assert_int_equal(wire_get32(join.lane), number);
	assert_null(ckpt_lanes_join(pair->secondary.lanes, &join, &far));
	assert_null(far);
}

static void set_up(struct pair *pair, guint joined)
{
	memset(pair, 0, sizeof(*pair));
	pair->memory = vmm_memory_new_private(PAGES * CKPT_PAGE, NULL);
	set_up_side(&pair->primary, pair, NULL);
	set_up_side(&pair->secondary, pair, pair->memory);
	for (guint i = 1; i <= joined; i++)
		join_next(pair, i);
	if (joined == LANES - 1)
		ckpt_lanes_start(pair->primary.lanes);
}

static void tear_down_side(struct side *side)
{
	ckpt_lanes_free(side->lanes);
	g_mutex_clear(&side->lock);
	g_cond_clear(&side->changed);
	g_free(side->why);
}

static void tear_down(struct pair *pair)
{
	tear_down_side(&pair->primary);
	tear_down_side(&pair->secondary);
	vmm_memory_free(pair->memory);
	for (guint i = 1; i < LANES; i++)
		if (pair->cables[i])
			close(pair->cables[i]);
}

/* One page by this lane. */
static void send_page(struct pair *pair, guint lane, guint32 page, guint8 value)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	ckpt_link *link = ckpt_lanes_link(pair->primary.lanes, lane);
	GByteArray *batch = ckpt_link_new_batch(link);
	guint8 content[CKPT_PAGE];

	memset(content, value, sizeof(content));
	ckpt_encode(encoder, page, content, NULL, batch);
	assert_true(ckpt_link_send_batch(link, CKPT_SYNC_PAGES, 0, &batch));
	g_byte_array_unref(batch);
}

static void all_is_there_when_all_have_come_to_their_end(void **state)
{
	struct pair pair;

	set_up(&pair, LANES - 1);
	for (guint turn = 1; turn <= 3; turn++)
		for (guint32 page = 0; page < PAGES; page++)
			if (ckpt_lane_of(page, LANES))
				send_page(&pair, ckpt_lane_of(page, LANES), page,
					  (guint8)(page + turn));
	assert_true(ckpt_lanes_say_end(pair.primary.lanes));
	assert_null(ckpt_lanes_wait(pair.secondary.lanes));
	for (guint32 page = 0; page < PAGES; page++)
		assert_int_equal(*(guint8 *)vmm_memory_base_page(pair.memory, page),
				 ckpt_lane_of(page, LANES) ? (guint8)(page + 3) : 0);
	/* They are not missed any more. */
	ckpt_lanes_close(pair.primary.lanes);
	g_usleep(50000);
	assert_int_equal(pair.primary.lost + pair.secondary.lost, 0);
	tear_down(&pair);
}

static void one_that_is_lost_before_its_end_is_missed_on_both_sides(void **state)
{
	struct pair pair;

	set_up(&pair, LANES - 1);
	send_page(&pair, 1, CKPT_LANE_PAGES, 1);
	shutdown(pair.cables[2], SHUT_RDWR);
	expect_lost(&pair.primary, "connection 3 of the first sync: ");
	expect_lost(&pair.secondary, "connection 3 of the first sync: ");
	assert_string_equal(ckpt_lanes_wait(pair.secondary.lanes),
			    "a first checkpoint before all of the first sync");
	tear_down(&pair);
}

static void a_page_of_another_s_is_refused_and_its_sender_told(void **state)
{
	struct pair pair;

	set_up(&pair, LANES - 1);
	send_page(&pair, 1, 2 * CKPT_LANE_PAGES, 1);
	expect_lost(&pair.secondary, "a page on another connection than its own");
	expect_lost(&pair.primary, "the peer ended it: the peer sent a page on another");
	tear_down(&pair);
}

static void only_pages_and_the_end_may_come(void **state)
{
	struct pair pair;

	set_up(&pair, LANES - 1);
	assert_true(ckpt_link_send(ckpt_lanes_link(pair.primary.lanes, 1), CKPT_SYNC_END, 0,
				   NULL, 0));
	send_page(&pair, 1, CKPT_LANE_PAGES, 1);
	/* At its end it is not missed, but nothing more is taken from it. */
	assert_true(ckpt_link_send(ckpt_lanes_link(pair.primary.lanes, 2), CKPT_SYNCED, 0,
				   NULL, 0));
	expect_lost(&pair.secondary, "connection 3 of the first sync: the peer sent what does "
				     "not belong on this connection");
	assert_int_equal(*(guint8 *)vmm_memory_base_page(pair.memory, CKPT_LANE_PAGES), 0);
	tear_down(&pair);
}

static void who_does_not_belong_to_the_session_stays_outside(void **state)
{
	const struct {
		guint lane, pad, wrong;
		const char *why;
	} tries[] = {
		{ 2, 0, 1, "this connection is of another session" },
		{ 0, 0, 0, "this connection is one more than was said" },
		{ LANES, 0, 0, "this connection is one more than was said" },
		{ G_MAXUINT32, 0, 0, "this connection is one more than was said" },
		{ 2, 1, 0, "this connection is one more than was said" },
		{ 1, 0, 0, "this connection is there already" },
	};
	struct pair pair;
	base_channel *near, *far;
	struct ckpt_join join;
	const char *why;

	set_up(&pair, 1);
	close(make_channel(&near, &far));
	for (guint i = 0; i < G_N_ELEMENTS(tries); i++) {
		memcpy(join.token, token, sizeof(token));
		join.token[CKPT_TOKEN - 1] ^= (guint8)tries[i].wrong;
		join.lane = wire_put32(tries[i].lane);
		join.pad = wire_put32(tries[i].pad);
		why = ckpt_lanes_join(pair.secondary.lanes, &join, &far);
		assert_non_null(why);
		assert_string_equal(why, tries[i].why);
		assert_non_null(far);
	}
	ckpt_lanes_refuse(pair.secondary.lanes, "over");
	join.lane = wire_put32(2);
	join.pad = wire_put32(0);
	assert_string_equal(ckpt_lanes_join(pair.secondary.lanes, &join, &far),
			    "the session of this connection is over");
	base_channel_free(near);
	base_channel_free(far);
	tear_down(&pair);
}

static void a_sender_that_waits_for_room_wakes_when_the_link_is_lost(void **state)
{
	struct pair pair;
	base_channel *near, *far;
	g_autofree guint8 *bytes = g_malloc0(CKPT_BATCH_MAX);
	struct iovec iov = { bytes, CKPT_BATCH_MAX };
	GThread *thread;

	set_up(&pair, 0);
	for (guint i = 1; i < LANES; i++) {
		pair.cables[i] = make_channel(&near, &far);
		assert_true(ckpt_lanes_open_take(pair.primary.lanes, near, NULL));
		/* Nobody reads the last one. */
		if (i == 1)
			base_channel_free(far);
	}
	ckpt_lanes_start(pair.primary.lanes);
	expect_lost(&pair.primary, "connection 2 of the first sync: ");
	thread = g_thread_new("lost", (GThreadFunc)(void (*)(void))ckpt_lanes_close,
			      pair.primary.lanes);
	while (ckpt_link_send(ckpt_lanes_link(pair.primary.lanes, 2), CKPT_SYNC_PAGES, 0, &iov,
			      1))
		;
	g_thread_join(thread);
	base_channel_free(far);
	tear_down(&pair);
}

static int make_key(void **state)
{
	g_autofree char *path = g_strdup_printf("%s/colo-lanes-%d", g_get_tmp_dir(), getpid());

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
		cmocka_unit_test(all_is_there_when_all_have_come_to_their_end),
		cmocka_unit_test(one_that_is_lost_before_its_end_is_missed_on_both_sides),
		cmocka_unit_test(a_page_of_another_s_is_refused_and_its_sender_told),
		cmocka_unit_test(only_pages_and_the_end_may_come),
		cmocka_unit_test(who_does_not_belong_to_the_session_stays_outside),
		cmocka_unit_test(a_sender_that_waits_for_room_wakes_when_the_link_is_lost),
	};

	return cmocka_run_group_tests(tests, make_key, free_key);
}
