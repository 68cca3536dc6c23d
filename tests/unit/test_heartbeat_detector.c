/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is believed of a peer, by a clock that the test turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heartbeat/detector.h"

#define MS G_GUINT64_CONSTANT(1000000)
#define SECOND (1000 * MS)
#define HOUR (3600 * SECOND)
#define INTERVAL 50u /* ms */
#define TIMEOUT 300u
#define BOTH 3u /* paths, by bits */

/* A daemon with two paths, and a peer whose clocks are elsewhere. */
struct world {
	hb_detector *detector;
	guint64 now; /* ns */
	guint64 peer_ahead; /* the peer's monotonic clock minus ours, modulo 2^64 */
	guint64 our_tai, peer_tai; /* minus the own monotonic clock */
	guint32 our_offset_s, peer_offset_s;
	guint64 session, sequence[2];
	guint64 there_ns, back_ns; /* how long datagrams take */
};

static struct world begin(void)
{
	struct world world = {
		.now = 1000 * SECOND,
		.peer_ahead = 77 * SECOND,
		.our_tai = 1000 * HOUR,
		.peer_tai = 1000 * HOUR - 77 * SECOND,
		.our_offset_s = 37,
		.peer_offset_s = 37,
		.session = 5,
		.there_ns = MS / 10,
		.back_ns = MS / 10,
	};

	world.detector = hb_detector_new(2, INTERVAL, TIMEOUT, world.now);
	return world;
}

static void end(struct world *world)
{
	hb_detector_free(world->detector);
}

static struct hb_instant instant(const struct world *world)
{
	return (struct hb_instant){ world->now, world->now + world->our_tai,
				    world->our_offset_s };
}

/* What the peer sent so that it comes just now, in answer to what we sent 10 ms ago. */
static struct hb_message beat(struct world *world, guint path)
{
	guint64 sent = world->now - world->back_ns + world->peer_ahead;

	return (struct hb_message){
		.path = path,
		.session = world->session,
		.sequence = ++world->sequence[path],
		.sent_ns = sent,
		.sent_tai_ns = sent + world->peer_tai,
		.tai_offset_s = world->peer_offset_s,
		.heard_sent_ns = world->now - 10 * MS,
		.heard_age_ns = 10 * MS - world->there_ns - world->back_ns,
		.hears = BOTH,
	};
}

static void hear(struct world *world, enum hb_verdict verdict,
		 const struct hb_message *message)
{
	const struct hb_instant now = instant(world);

	hb_detector_hear(world->detector, message->path, verdict, message, &now);
}

static void hear_on(struct world *world, guint paths)
{
	for (guint i = 0; i < 2; i++) {
		struct hb_message message;

		if (!(paths >> i & 1))
			continue;
		message = beat(world, i);
		hear(world, HB_HEARD, &message);
	}
}

/* A turn `ms` after the last one, in which the peer is heard on these paths. */
static guint64 turn(struct world *world, guint ms, guint paths)
{
	guint64 stalled;

	world->now += ms * MS;
	stalled = hb_detector_turn(world->detector, world->now);
	hear_on(world, paths);
	hb_detector_judge(world->detector);
	return stalled;
}

static void turns(struct world *world, guint count, guint paths)
{
	while (count--)
		assert_int_equal(turn(world, INTERVAL, paths), 0);
}

/* Ordinary turns until the peer is lost, in ms; fails after a minute. */
static guint until_lost(struct world *world)
{
	guint ms = 0;

	while (hb_detector_alive(world->detector) && ms < 60000) {
		assert_int_equal(turn(world, INTERVAL, 0), 0);
		ms += INTERVAL;
	}
	assert_false(hb_detector_alive(world->detector));
	return ms;
}

static struct hb_report report(const struct world *world)
{
	const struct hb_instant now = instant(world);
	struct hb_report report;

	hb_detector_report(world->detector, &now, &report);
	return report;
}

static void a_path_comes_up_with_one_heartbeat_and_goes_down_with_the_timeout(
	void **state)
{
	struct world world = begin();

	turns(&world, 20, 0);
	assert_false(hb_detector_alive(world.detector));
	assert_int_equal(report(&world).known, 0);
	assert_int_equal(wire_get32(report(&world).path[0].silent_ms), G_MAXUINT32);
	assert_true(hb_detector_deadline(world.detector) == G_MAXUINT64);
	turn(&world, 10, 1);
	assert_true(hb_detector_alive(world.detector));
	assert_true(hb_detector_path_up(world.detector, 0));
	assert_false(hb_detector_path_up(world.detector, 1));
	assert_true(hb_detector_deadline(world.detector) == world.now + TIMEOUT * MS);
	turns(&world, TIMEOUT / INTERVAL - 1, 0);
	assert_true(hb_detector_alive(world.detector));
	turns(&world, 1, 0);
	assert_false(hb_detector_alive(world.detector));
	assert_int_equal(report(&world).known, 1);
	assert_int_equal(wire_get32(report(&world).path[0].silent_ms), TIMEOUT);
	assert_int_equal(wire_get32(report(&world).path[0].downs), 1);
	end(&world);
}

static void one_path_of_two_is_enough_to_be_alive(void **state)
{
	struct world world = begin();

	turns(&world, 10, BOTH);
	turns(&world, 20, 2);
	assert_true(hb_detector_alive(world.detector));
	assert_false(hb_detector_path_up(world.detector, 0));
	assert_int_equal(report(&world).path[0].up, 0);
	assert_int_equal(report(&world).path[1].up, 1);
	assert_int_equal(until_lost(&world), TIMEOUT);
	end(&world);
}

static void a_timer_that_is_a_little_late_is_no_stall(void **state)
{
	struct world world = begin();

	turns(&world, 10, BOTH);
	assert_int_equal(turn(&world, 2 * INTERVAL, BOTH), 0);
	assert_int_equal(wire_get64(report(&world).stalls), 0);
	assert_int_equal(turn(&world, 2 * INTERVAL + 1, BOTH), (INTERVAL + 1) * MS);
	assert_int_equal(wire_get64(report(&world).stalls), 1);
	assert_int_equal(wire_get64(report(&world).stalled_ms), INTERVAL + 1);
	end(&world);
}

static void a_daemon_that_was_stopped_keeps_a_peer_that_waits_in_its_socket(
	void **state)
{
	struct world world = begin();

	turns(&world, 10, BOTH);
	for (guint i = 0; i < 5; i++) {
		assert_true(turn(&world, 10000, BOTH) > 9 * SECOND);
		assert_true(hb_detector_alive(world.detector));
		turns(&world, 3, BOTH);
	}
	assert_int_equal(wire_get32(report(&world).path[0].downs), 0);
	assert_int_equal(wire_get64(report(&world).stalled_ms), 10000 - INTERVAL);
	end(&world);
}

static void a_daemon_that_was_stopped_gives_a_silent_peer_a_timeout_again(void **state)
{
	struct world world = begin();

	turns(&world, 10, BOTH);
	turns(&world, 4, 0);
	assert_true(turn(&world, 10000, 0) > 0);
	assert_true(hb_detector_alive(world.detector));
	/* As if both had been stopped, and the peer goes on a little later. */
	turns(&world, TIMEOUT / INTERVAL - 1, 0);
	turns(&world, 1, BOTH);
	assert_true(hb_detector_alive(world.detector));
	assert_int_equal(wire_get32(report(&world).path[0].downs), 0);
	end(&world);
}

static void a_peer_that_died_during_a_stop_is_found_in_time(void **state)
{
	struct world world = begin();

	turns(&world, 10, BOTH);
	assert_true(turn(&world, 10000, 0) > 0);
	assert_true(until_lost(&world) <= TIMEOUT + INTERVAL);
	end(&world);
}

static void a_daemon_that_is_starved_for_good_finds_a_dead_peer(void **state)
{
	struct world world = begin();
	guint stalls = 0;

	turns(&world, 10, BOTH);
	while (hb_detector_alive(world.detector) && stalls++ < 100)
		assert_true(turn(&world, 1000, 0) > 0);
	/* The first one begins the silence anew. */
	assert_int_equal(stalls, 1 + TIMEOUT / INTERVAL);
	end(&world);
}

static void a_path_that_is_down_stays_down_over_a_stall(void **state)
{
	struct world world = begin();

	turns(&world, 10, 1);
	until_lost(&world);
	turn(&world, 10000, 0);
	assert_false(hb_detector_alive(world.detector));
	turn(&world, 10000, 2);
	assert_true(hb_detector_alive(world.detector));
	assert_false(hb_detector_path_up(world.detector, 0));
	end(&world);
}

static void a_fifth_that_is_lost_is_measured_and_no_loss_of_the_peer(void **state)
{
	struct world world = begin();

	turns(&world, 1, BOTH);
	for (guint i = 1; i <= 1500; i++) {
		if (i % 5 == 0)
			world.sequence[0]++;
		turns(&world, 1, i % 5 ? BOTH : 2);
		assert_true(hb_detector_path_up(world.detector, 0));
	}
	assert_in_range(wire_get32(report(&world).path[0].loss_ppm), 198000, 202000);
	assert_int_equal(wire_get32(report(&world).path[1].loss_ppm), 0);
	/* The memory is a minute. */
	turns(&world, 61 * 20, BOTH);
	assert_int_equal(wire_get32(report(&world).path[0].loss_ppm), 0);
	end(&world);
}

static void those_that_were_overtaken_are_not_lost(void **state)
{
	struct world world = begin();

	turns(&world, 1, 1);
	for (guint i = 0; i < 100; i++) {
		struct hb_message first, second;

		turns(&world, 1, 0);
		first = beat(&world, 0);
		second = beat(&world, 0);
		hear(&world, HB_HEARD, &second);
		hear(&world, HB_LATE, &first);
	}
	assert_int_equal(wire_get32(report(&world).path[0].loss_ppm), 0);
	assert_int_equal(wire_get64(report(&world).path[0].received), 201);
	end(&world);
}

static void what_is_refused_is_counted_and_keeps_nobody_alive(void **state)
{
	static const enum hb_verdict refused[] = { HB_MALFORMED, HB_FORGED,
						   HB_REPLAYED,	 HB_REFLECTED,
						   HB_GREETING,	 HB_LATE };
	struct world world = begin();
	struct hb_report said;

	turns(&world, 5, BOTH);
	for (guint i = 0; i < TIMEOUT / INTERVAL; i++) {
		struct hb_message message = beat(&world, 0);

		turns(&world, 1, 0);
		for (guint j = 0; j < G_N_ELEMENTS(refused); j++)
			hear(&world, refused[j], &message);
	}
	assert_false(hb_detector_alive(world.detector));
	said = report(&world);
	assert_int_equal(wire_get64(said.path[0].malformed), TIMEOUT / INTERVAL);
	assert_int_equal(wire_get64(said.path[0].forged), TIMEOUT / INTERVAL);
	assert_int_equal(wire_get64(said.path[0].replayed), TIMEOUT / INTERVAL);
	assert_int_equal(wire_get64(said.path[0].reflected), TIMEOUT / INTERVAL);
	assert_int_equal(wire_get64(said.path[1].forged), 0);
	end(&world);
}

static void flapping_is_counted(void **state)
{
	struct world world = begin();

	for (guint i = 0; i < 7; i++) {
		turns(&world, 2, BOTH);
		turns(&world, 8, 2);
	}
	assert_int_equal(wire_get32(report(&world).path[0].downs), 7);
	assert_int_equal(wire_get32(report(&world).path[1].downs), 0);
	assert_true(hb_detector_alive(world.detector));
	end(&world);
}

static void assert_offset(const struct world *world, gint64 expected)
{
	const struct hb_instant now = instant(world);
	gint64 offset, distance;
	guint64 error;

	assert_true(hb_detector_offset(world->detector, &now, &offset, &error));
	distance = offset - expected;
	assert_true(ABS(distance) <= (gint64)error);
	assert_true(error < 10 * MS);
}

static void the_offset_of_the_clocks_is_within_its_bound(void **state)
{
	struct world world = begin();
	const struct hb_instant now = instant(&world);
	guint64 error;
	gint64 offset;

	assert_false(hb_detector_offset(world.detector, &now, &offset, &error));
	/* However the way there differs from the way back. */
	world.there_ns = 0;
	world.back_ns = 3 * MS;
	turns(&world, 20, BOTH);
	assert_offset(&world, 0);
	world.peer_tai += 12345678;
	world.there_ns = 3 * MS;
	world.back_ns = 0;
	turns(&world, 20, BOTH);
	assert_offset(&world, 12345678);
	/* The best of the last ones is taken. */
	world.there_ns = world.back_ns = 2000;
	turns(&world, 1, 1);
	world.there_ns = world.back_ns = 4 * MS;
	turns(&world, 3, BOTH);
	assert_true(hb_detector_offset(
		world.detector,
		&(struct hb_instant){ world.now, world.now + world.our_tai, 37 },
		&offset, &error));
	assert_true(error < MS / 5);
	assert_in_range(wire_get32(report(&world).path[0].rtt_us), 4, 8000);
	end(&world);
}

static void stepped_clocks_change_the_offset_and_no_judgement(void **state)
{
	struct world world = begin();

	turns(&world, 20, BOTH);
	world.peer_tai += 5 * HOUR;
	turns(&world, 1, 1);
	assert_offset(&world, (gint64)(5 * HOUR));
	world.our_tai += 30 * HOUR;
	assert_offset(&world, -(gint64)(25 * HOUR));
	turns(&world, 20, BOTH);
	world.our_tai -= 60 * HOUR;
	world.peer_tai -= 60 * HOUR;
	turns(&world, 20, BOTH);
	assert_offset(&world, -(gint64)(25 * HOUR));
	assert_int_equal(wire_get32(report(&world).path[0].downs), 0);
	assert_int_equal(wire_get64(report(&world).stalls), 0);
	assert_int_equal(until_lost(&world), TIMEOUT);
	end(&world);
}

static void utc_is_compared_where_one_kernel_does_not_know_tai(void **state)
{
	struct world world = begin();

	/* Both hosts' UTC is the same; our CLOCK_TAI is UTC. */
	world.our_offset_s = 0;
	world.our_tai -= 37 * SECOND;
	turns(&world, 5, BOTH);
	assert_offset(&world, 0);
	world.our_offset_s = 37;
	world.our_tai += 37 * SECOND;
	world.peer_offset_s = 0;
	world.peer_tai -= 37 * SECOND;
	turns(&world, 5, BOTH);
	assert_offset(&world, 0);
	world.our_offset_s = 0;
	world.our_tai -= 37 * SECOND;
	turns(&world, 5, BOTH);
	assert_offset(&world, 0);
	end(&world);
}

static void what_the_peer_said_later_is_not_undone_by_a_slower_path(void **state)
{
	struct world world = begin();
	struct hb_message slow, fast;

	turns(&world, 5, BOTH);
	slow = beat(&world, 0);
	slow.self.state = 1;
	world.now += 10 * MS;
	fast = beat(&world, 1);
	fast.self.state = 2;
	hear(&world, HB_HEARD, &fast);
	hear(&world, HB_HEARD, &slow);
	assert_int_equal(hb_detector_peer(world.detector)->state, 2);
	/* Another session's clock is another one. */
	world.session++;
	world.peer_ahead = 0;
	fast = beat(&world, 1);
	fast.self.state = 3;
	hear(&world, HB_HEARD, &fast);
	assert_int_equal(hb_detector_peer(world.detector)->state, 3);
	end(&world);
}

static void nonsense_of_times_gives_no_round_trip(void **state)
{
	static const guint64 nonsense[] = {
		0, 1, G_MAXUINT64, G_MAXINT64, 1000 * SECOND, 1001 * SECOND
	};
	struct world world = begin();

	for (guint i = 0; i < G_N_ELEMENTS(nonsense); i++)
		for (guint j = 0; j < G_N_ELEMENTS(nonsense); j++) {
			struct hb_message message = beat(&world, 0);

			message.heard_sent_ns = nonsense[i];
			message.heard_age_ns = nonsense[j];
			if (nonsense[i] == 1000 * SECOND && nonsense[j] < 2)
				continue;
			hear(&world, HB_HEARD, &message);
		}
	assert_int_equal(wire_get32(report(&world).path[0].rtt_us), 0);
	assert_int_equal(report(&world).offset_known, 0);
	end(&world);
}

static void a_new_session_is_measured_anew_and_no_loss(void **state)
{
	struct world world = begin();

	turns(&world, 20, BOTH);
	world.session++;
	world.sequence[0] = world.sequence[1] = 4000;
	world.peer_ahead += 1234 * SECOND;
	turns(&world, 20, BOTH);
	assert_int_equal(wire_get32(report(&world).path[0].loss_ppm), 0);
	assert_true(wire_get32(report(&world).path[0].jitter_us) == 0);
	world.peer_tai -= 1234 * SECOND;
	turns(&world, 1, BOTH);
	assert_offset(&world, 0);
	end(&world);
}

static void what_was_held_back_keeps_nobody_alive(void **state)
{
	struct world world = begin();
	struct hb_message held[100];

	/* Somebody keeps what goes over path 1, while path 0 is heard. */
	for (guint i = 0; i < G_N_ELEMENTS(held); i++) {
		turns(&world, 1, 1);
		held[i] = beat(&world, 1);
		if (i % 2) /* from before the peer ever heard us there */
			held[i].heard_sent_ns = held[i].heard_age_ns = 0;
	}
	/* Then the peer dies. */
	for (guint i = 0; i < G_N_ELEMENTS(held) / 2; i++) {
		turns(&world, 1, 0);
		hear(&world, HB_HEARD, &held[i]);
	}
	assert_false(hb_detector_alive(world.detector));
	assert_true(wire_get64(report(&world).path[1].replayed) > 20);
	assert_int_equal(wire_get64(report(&world).path[1].received), 0);
	end(&world);
}

static void a_peer_whose_clock_stood_still_is_heard_when_it_hears_us(void **state)
{
	struct world world = begin();
	struct hb_message message;

	turns(&world, 20, BOTH);
	/* Its host, and its clock, stops for a minute; it goes on with an old echo. */
	until_lost(&world);
	turns(&world, 60 * 20, 0);
	world.peer_ahead -= 60 * SECOND;
	message = beat(&world, 0);
	message.heard_sent_ns -= 60 * SECOND;
	hear(&world, HB_HEARD, &message);
	assert_false(hb_detector_alive(world.detector));
	turns(&world, 1, BOTH);
	assert_true(hb_detector_alive(world.detector));
	world.peer_tai += 60 * SECOND;
	turns(&world, 1, BOTH);
	assert_offset(&world, 0);
	end(&world);
}

static void a_peer_that_does_not_hear_us_is_heard_for_good(void **state)
{
	struct world world = begin();

	turns(&world, 20, BOTH);
	/* For hours, with a clock that drifts. */
	for (guint i = 0; i < 200000; i++) {
		struct hb_message message;

		turns(&world, 1, 0);
		world.peer_ahead -= 20 * MS / 1000;
		message = beat(&world, 0);
		message.heard_sent_ns = 1001 * SECOND;
		message.heard_age_ns =
			(world.now - message.heard_sent_ns) / 10000 * 9996;
		hear(&world, HB_HEARD, &message);
		assert_true(hb_detector_path_up(world.detector, 0));
	}
	end(&world);
}

static void jitter_follows_the_delay_of_the_network(void **state)
{
	struct world world = begin();

	for (guint i = 0; i < 200; i++) {
		world.back_ns = i % 2 ? 0 : 4 * MS;
		turns(&world, 1, 1);
	}
	assert_in_range(wire_get32(report(&world).path[0].jitter_us), 3800, 4200);
	end(&world);
}

static void the_next_datagram_says_what_was_heard(void **state)
{
	struct world world = begin();
	struct hb_message message = { 0 };

	hb_detector_tell(world.detector, 0, world.now, &message);
	assert_int_equal(message.hears, 0);
	assert_int_equal(message.heard_sent_ns, 0);
	turns(&world, 3, 1);
	hb_detector_tell(world.detector, 0, world.now + 7 * MS, &message);
	assert_int_equal(message.hears, 1);
	assert_true(message.heard_sent_ns ==
		    world.now - world.back_ns + world.peer_ahead);
	assert_int_equal(message.heard_age_ns, 7 * MS);
	hb_detector_tell(world.detector, 1, world.now, &message);
	assert_int_equal(message.heard_sent_ns, 0);
	end(&world);
}

static void what_the_peer_hears_is_reported_while_it_lives(void **state)
{
	struct world world = begin();
	struct hb_message message;

	turns(&world, 3, 1);
	message = beat(&world, 0);
	message.hears = 2;
	hear(&world, HB_HEARD, &message);
	assert_int_equal(report(&world).path[0].hears_us, 0);
	assert_int_equal(report(&world).path[1].hears_us, 1);
	until_lost(&world);
	assert_int_equal(report(&world).path[1].hears_us, 0);
	end(&world);
}

/* A daemon that is stopped at random, for up to 20 s, with a network that loses a tenth
 * but never four in a row: what waits in the socket is read after each stop. */
static void no_stop_at_random_loses_a_live_peer_or_keeps_a_dead_one(void **state)
{
	for (guint seed = 0; seed < 50; seed++) {
		g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
		struct world world = begin();
		guint64 next_beat = world.now;
		guint lost = 0, ran = 0;

		turns(&world, 1, BOTH);
		for (guint i = 0; i < 2000; i++) {
			gboolean stop = g_rand_int_range(rand, 0, 20) == 0;

			world.now += (stop ? (guint)g_rand_int_range(rand, 100, 20000)
					   : (guint)g_rand_int_range(rand, 1, 60)) *
				     MS;
			hb_detector_turn(world.detector, world.now);
			for (; next_beat <= world.now; next_beat += INTERVAL * MS) {
				lost = lost < 3 && g_rand_int_range(rand, 0, 10) == 0
					       ? lost + 1
					       : 0;
				if (!lost)
					hear_on(&world, 1);
			}
			hb_detector_judge(world.detector);
			assert_true(hb_detector_alive(world.detector));
		}
		while (hb_detector_alive(world.detector)) {
			gboolean stop = g_rand_int_range(rand, 0, 4) == 0;

			turn(&world, stop ? 5000 : INTERVAL, 0);
			assert_true(++ran <= 1 + 2 * TIMEOUT / INTERVAL);
		}
		end(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_path_comes_up_with_one_heartbeat_and_goes_down_with_the_timeout),
		cmocka_unit_test(one_path_of_two_is_enough_to_be_alive),
		cmocka_unit_test(a_timer_that_is_a_little_late_is_no_stall),
		cmocka_unit_test(
			a_daemon_that_was_stopped_keeps_a_peer_that_waits_in_its_socket),
		cmocka_unit_test(
			a_daemon_that_was_stopped_gives_a_silent_peer_a_timeout_again),
		cmocka_unit_test(a_peer_that_died_during_a_stop_is_found_in_time),
		cmocka_unit_test(a_daemon_that_is_starved_for_good_finds_a_dead_peer),
		cmocka_unit_test(a_path_that_is_down_stays_down_over_a_stall),
		cmocka_unit_test(
			a_fifth_that_is_lost_is_measured_and_no_loss_of_the_peer),
		cmocka_unit_test(those_that_were_overtaken_are_not_lost),
		cmocka_unit_test(what_is_refused_is_counted_and_keeps_nobody_alive),
		cmocka_unit_test(flapping_is_counted),
		cmocka_unit_test(the_offset_of_the_clocks_is_within_its_bound),
		cmocka_unit_test(stepped_clocks_change_the_offset_and_no_judgement),
		cmocka_unit_test(utc_is_compared_where_one_kernel_does_not_know_tai),
		cmocka_unit_test(
			what_the_peer_said_later_is_not_undone_by_a_slower_path),
		cmocka_unit_test(nonsense_of_times_gives_no_round_trip),
		cmocka_unit_test(a_new_session_is_measured_anew_and_no_loss),
		cmocka_unit_test(what_was_held_back_keeps_nobody_alive),
		cmocka_unit_test(
			a_peer_whose_clock_stood_still_is_heard_when_it_hears_us),
		cmocka_unit_test(a_peer_that_does_not_hear_us_is_heard_for_good),
		cmocka_unit_test(jitter_follows_the_delay_of_the_network),
		cmocka_unit_test(the_next_datagram_says_what_was_heard),
		cmocka_unit_test(what_the_peer_hears_is_reported_while_it_lives),
		cmocka_unit_test(
			no_stop_at_random_loses_a_live_peer_or_keeps_a_dead_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
