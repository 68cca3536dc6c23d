/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heartbeats on the wire: what is believed, and what is refused as what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "heartbeat/message.h"
#include "heartbeat/peer.h"

#define OURS 100u
#define THEIRS 200u

/* The two ends of a pair: 0 is us, 1 the peer. */
struct ends {
	hb_codec *codec[2];
};

static hb_codec *make_codec(const char *hex, const char *pair, guint node)
{
	g_autofree char *dir = g_dir_make_tmp("colo-hb-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "key", NULL);
	g_autoptr(base_key) key = NULL;
	hb_codec *codec;

	assert_true(g_file_set_contents(path, hex, -1, NULL));
	assert_int_equal(g_chmod(path, 0600), 0);
	key = base_key_read(path, NULL);
	assert_non_null(key);
	codec = hb_codec_new(key, pair, node, NULL);
	assert_non_null(codec);
	g_unlink(path);
	g_rmdir(dir);
	return codec;
}

static const char *key_hex(char digit)
{
	static char text[65];

	memset(text, digit, 64);
	return text;
}

static int set_up(void **state)
{
	struct ends *ends = g_new0(struct ends, 1);

	for (guint i = 0; i < 2; i++)
		ends->codec[i] = make_codec(key_hex('a'), "web", i);
	*state = ends;
	return 0;
}

static int tear_down(void **state)
{
	struct ends *ends = *state;

	for (guint i = 0; i < 2; i++)
		hb_codec_free(ends->codec[i]);
	g_free(ends);
	return 0;
}

static struct hb_message sample(void)
{
	return (struct hb_message){
		.path = 1,
		.session = THEIRS,
		.echo = OURS,
		.greets = 3,
		.sequence = 4,
		.self = { .generation = wire_put64(5),
			  .epoch = wire_put64(6),
			  .state = 7,
			  .flags = HB_FLAG_VM },
		.sent_ns = 8,
		.sent_tai_ns = 9,
		.heard_sent_ns = 10,
		.heard_age_ns = 11,
		.tai_offset_s = 37,
		.hears = 3,
	};
}

static void what_is_sealed_is_read_as_it_was_said(void **state)
{
	const struct ends *ends = *state;
	struct hb_message said = sample(), read;
	struct hb_datagram datagram;

	hb_codec_seal(ends->codec[1], &said, &datagram);
	assert_int_equal(
		hb_codec_open(ends->codec[0], 1, &datagram, sizeof(datagram), &read),
		HB_HEARD);
	said.node = 1;
	assert_memory_equal(&said.self, &read.self, sizeof(said.self));
	assert_int_equal(read.node, 1);
	assert_int_equal(read.path, 1);
	assert_int_equal(read.session, THEIRS);
	assert_int_equal(read.echo, OURS);
	assert_int_equal(read.greets, 3);
	assert_int_equal(read.sequence, 4);
	assert_int_equal(read.sent_ns, 8);
	assert_int_equal(read.sent_tai_ns, 9);
	assert_int_equal(read.heard_sent_ns, 10);
	assert_int_equal(read.heard_age_ns, 11);
	assert_int_equal(read.tai_offset_s, 37);
	assert_int_equal(read.hears, 3);
}

static void every_other_length_is_refused(void **state)
{
	const struct ends *ends = *state;
	struct hb_message said = sample(), read;
	guint8 bytes[2 * sizeof(struct hb_datagram)] = { 0 };
	struct hb_datagram datagram;

	hb_codec_seal(ends->codec[1], &said, &datagram);
	memcpy(bytes, &datagram, sizeof(datagram));
	for (gsize length = 0; length < sizeof(bytes); length++) {
		g_autofree guint8 *exact = g_memdup2(bytes, MAX(length, 1));

		assert_int_equal(hb_codec_open(ends->codec[0], 1, exact, length, &read),
				 length == sizeof(datagram) ? HB_HEARD : HB_MALFORMED);
	}
}

static void every_changed_bit_is_refused(void **state)
{
	const struct ends *ends = *state;
	struct hb_message said = sample(), read;
	struct hb_datagram datagram;

	hb_codec_seal(ends->codec[1], &said, &datagram);
	for (gsize i = 0; i < 8 * sizeof(datagram); i++) {
		struct hb_datagram changed = datagram;
		enum hb_verdict verdict;

		((guint8 *)&changed)[i / 8] ^= (guint8)(1u << i % 8);
		verdict = hb_codec_open(ends->codec[0], 1, &changed, sizeof(changed),
					&read);
		assert_true(verdict == HB_FORGED || verdict == HB_MALFORMED);
	}
}

static void the_wrong_path_padding_session_or_number_is_refused_though_signed(
	void **state)
{
	const struct ends *ends = *state;
	struct hb_message said = sample(), read;
	struct hb_datagram good, bad;

	hb_codec_seal(ends->codec[1], &said, &good);
	assert_int_equal(hb_codec_open(ends->codec[0], 0, &good, sizeof(good), &read),
			 HB_MALFORMED);
	for (guint i = 0; i < sizeof(good.self.zero); i++) {
		bad = good;
		bad.self.zero[i] = 1;
		hb_codec_sign(ends->codec[1], &bad);
		assert_int_equal(
			hb_codec_open(ends->codec[0], 1, &bad, sizeof(bad), &read),
			HB_MALFORMED);
	}
	for (guint i = 0; i < sizeof(good.zero); i++) {
		bad = good;
		bad.zero[i] = 1;
		hb_codec_sign(ends->codec[1], &bad);
		assert_int_equal(
			hb_codec_open(ends->codec[0], 1, &bad, sizeof(bad), &read),
			HB_MALFORMED);
	}
	bad = good;
	bad.session = wire_put64(0);
	hb_codec_sign(ends->codec[1], &bad);
	assert_int_equal(hb_codec_open(ends->codec[0], 1, &bad, sizeof(bad), &read),
			 HB_MALFORMED);
	bad = good;
	bad.sequence = wire_put64(0);
	hb_codec_sign(ends->codec[1], &bad);
	assert_int_equal(hb_codec_open(ends->codec[0], 1, &bad, sizeof(bad), &read),
			 HB_MALFORMED);
}

static void our_own_come_back_as_reflected(void **state)
{
	const struct ends *ends = *state;
	struct hb_message said = sample(), read;
	struct hb_datagram datagram;

	hb_codec_seal(ends->codec[0], &said, &datagram);
	assert_int_equal(
		hb_codec_open(ends->codec[0], 1, &datagram, sizeof(datagram), &read),
		HB_REFLECTED);
}

static void another_key_or_pair_is_refused(void **state)
{
	const struct ends *ends = *state;
	g_autoptr(hb_codec) key = make_codec(key_hex('b'), "web", 1);
	g_autoptr(hb_codec) pair = make_codec(key_hex('a'), "mail", 1);
	struct hb_message said = sample(), read;
	struct hb_datagram datagram;
	wire_u64 webs;

	hb_codec_seal(key, &said, &datagram);
	webs = datagram.pair;
	assert_int_equal(
		hb_codec_open(ends->codec[0], 1, &datagram, sizeof(datagram), &read),
		HB_FORGED);
	hb_codec_seal(pair, &said, &datagram);
	assert_int_equal(
		hb_codec_open(ends->codec[0], 1, &datagram, sizeof(datagram), &read),
		HB_MALFORMED);
	/* Their keys differ even where the pair's is the same. */
	datagram.pair = webs;
	hb_codec_sign(pair, &datagram);
	assert_int_equal(
		hb_codec_open(ends->codec[0], 1, &datagram, sizeof(datagram), &read),
		HB_FORGED);
}

/* Whether something is new */

static struct hb_message from(guint64 session, guint64 echo, guint64 sequence)
{
	return (struct hb_message){ .session = session,
				    .echo = echo,
				    .sequence = sequence };
}

static enum hb_verdict judge(struct hb_peer *peer, guint64 session, guint64 echo,
			     guint64 sequence)
{
	struct hb_message message = from(session, echo, sequence);

	return hb_peer_judge(peer, &message, TRUE);
}

static void two_that_know_nothing_of_each_other_meet(void **state)
{
	struct hb_peer a, b;
	struct hb_message message;

	hb_peer_init(&a, 1);
	hb_peer_init(&b, 2);
	assert_int_equal(judge(&b, 1, 0, 1), HB_GREETING);
	assert_int_equal(b.session, 0);
	message = from(2, b.session, 1);
	message.greets = hb_peer_next_stranger(&b);
	assert_int_equal(message.greets, 1);
	assert_int_equal(hb_peer_judge(&a, &message, FALSE), HB_HEARD);
	assert_int_equal(a.session, 2);
	assert_int_equal(judge(&b, 1, a.session, 2), HB_HEARD);
	assert_int_equal(b.session, 1);
	assert_int_equal(hb_peer_next_stranger(&b), 0);
}

static void the_same_is_heard_once(void **state)
{
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	assert_int_equal(judge(&peer, THEIRS, OURS, 5), HB_HEARD);
	assert_int_equal(judge(&peer, THEIRS, OURS, 5), HB_REPLAYED);
	assert_int_equal(judge(&peer, THEIRS, OURS, 3), HB_LATE);
	assert_int_equal(judge(&peer, THEIRS, OURS, 3), HB_REPLAYED);
	assert_int_equal(judge(&peer, THEIRS, OURS, 100), HB_HEARD);
	assert_int_equal(judge(&peer, THEIRS, OURS, 36), HB_REPLAYED);
	assert_int_equal(judge(&peer, THEIRS, OURS, 37), HB_LATE);
	assert_int_equal(judge(&peer, THEIRS, OURS, 99), HB_LATE);
	assert_int_equal(judge(&peer, THEIRS, OURS, G_MAXUINT64), HB_HEARD);
	assert_int_equal(judge(&peer, THEIRS, OURS, 1), HB_REPLAYED);
}

static void each_path_has_its_own_numbers(void **state)
{
	struct hb_message message = from(THEIRS, OURS, 9);
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	assert_int_equal(hb_peer_judge(&peer, &message, FALSE), HB_HEARD);
	message.path = 1;
	message.sequence = 1;
	assert_int_equal(hb_peer_judge(&peer, &message, FALSE), HB_HEARD);
	assert_int_equal(hb_peer_judge(&peer, &message, FALSE), HB_REPLAYED);
}

static void what_was_recorded_before_we_started_is_refused(void **state)
{
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	assert_int_equal(judge(&peer, THEIRS, OURS, 1), HB_HEARD);
	/* Of the peer's session, when ours was another. */
	assert_int_equal(judge(&peer, THEIRS, 99, 1000), HB_REPLAYED);
	assert_int_equal(judge(&peer, THEIRS, 0, 1000), HB_REPLAYED);
	/* Of other sessions of both. */
	for (guint i = 0; i < 1000; i++)
		assert_int_equal(judge(&peer, 1000 + i, 99, 1), HB_REPLAYED);
	assert_int_equal(peer.session, THEIRS);
	assert_int_equal(judge(&peer, THEIRS, OURS, 2), HB_HEARD);
}

static void a_session_that_was_replaced_never_comes_back(void **state)
{
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	for (guint64 session = 1; session <= HB_PAST_MAX; session++) {
		assert_int_equal(judge(&peer, session, OURS, 1), HB_HEARD);
		for (guint64 old = 1; old < session; old++)
			assert_int_equal(judge(&peer, old, OURS, 1000), HB_REPLAYED);
		assert_false(hb_peer_is_worn(&peer));
	}
	assert_int_equal(judge(&peer, 1000, OURS, 1), HB_HEARD);
	assert_true(hb_peer_is_worn(&peer));
	hb_peer_renew(&peer, OURS + 1);
	assert_false(hb_peer_is_worn(&peer));
	assert_int_equal(peer.session, 1000);
	for (guint64 old = 1; old <= HB_PAST_MAX; old++)
		assert_int_equal(judge(&peer, old, OURS, 1000), HB_REPLAYED);
	assert_int_equal(judge(&peer, 1000, OURS, 2), HB_REPLAYED);
	assert_int_equal(judge(&peer, 1000, OURS + 1, 2), HB_HEARD);
}

static void a_peer_is_replaced_only_by_one_that_heard_us_just_now(void **state)
{
	struct hb_message message = from(THEIRS + 1, OURS, 1);
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	assert_int_equal(judge(&peer, THEIRS, OURS, 1), HB_HEARD);
	assert_int_equal(hb_peer_judge(&peer, &message, FALSE), HB_REPLAYED);
	assert_int_equal(peer.session, THEIRS);
	assert_int_equal(hb_peer_next_stranger(&peer), THEIRS + 1);
	assert_int_equal(hb_peer_judge(&peer, &message, TRUE), HB_HEARD);
	assert_int_equal(peer.session, THEIRS + 1);
}

static void all_strangers_are_greeted_in_turn(void **state)
{
	gboolean greeted[5] = { FALSE };
	struct hb_peer peer;

	hb_peer_init(&peer, OURS);
	assert_int_equal(hb_peer_next_stranger(&peer), 0);
	for (guint64 session = 1; session <= 4; session++)
		assert_int_equal(judge(&peer, session, 0, 1), HB_GREETING);
	for (guint i = 0; i < 4; i++)
		greeted[hb_peer_next_stranger(&peer)] = TRUE;
	for (guint i = 1; i <= 4; i++)
		assert_true(greeted[i]);
}

/* A daemon's, and that of the one before it, which lingers: in whichever order they send on
 * three paths, and whatever of it comes. */
static void of_two_strangers_that_want_one_place_each_is_greeted(void **state)
{
	for (guint order = 0; order < 1u << 6; order++) {
		gboolean comes[2] = { FALSE }, greeted[2] = { FALSE };
		struct hb_peer peer;

		hb_peer_init(&peer, OURS);
		for (guint interval = 1; interval <= 60; interval++) {
			for (guint i = 0; i < 6; i++) {
				const guint who = order >> i & 1;

				judge(&peer, 40 + who * HB_STRANGERS_MAX, 0, interval);
				comes[who] = TRUE;
			}
			greeted[hb_peer_next_stranger(&peer) != 40] = TRUE;
		}
		assert_memory_equal(greeted, comes, sizeof(comes));
	}
}

/* Whoever has recorded some of its sessions plays them, ten at a time, right after each of our
 * datagrams, or right before. */
static void nobody_who_plays_recorded_sessions_keeps_a_living_one_out(void **state)
{
	const guint64 living = 40 + 2 * HB_STRANGERS_MAX;

	for (guint late = 0; late < 2; late++) {
		guint greeted = 0;
		struct hb_peer peer;

		hb_peer_init(&peer, OURS);
		for (guint interval = 1; interval <= 200; interval++) {
			if (late)
				judge(&peer, living, 0, interval);
			for (guint i = 0; i < 10; i++)
				judge(&peer, 40 + i % 2 * HB_STRANGERS_MAX, 0, 1);
			if (!late)
				judge(&peer, living, 0, interval);
			greeted += hb_peer_next_stranger(&peer) == living;
		}
		assert_in_range(greeted, 5, 60);
	}
}

/* What colod says */

static void colod_is_heard_only_if_it_says_a_whole_message(void **state)
{
	struct hb_tell tell = { .type = wire_put32(HB_TELL),
				.self = { .state = 3, .flags = 0xff } };
	guint8 longer[sizeof(tell) + 1] = { HB_TELL };
	struct hb_self self;

	assert_true(hb_tell_read(&tell, sizeof(tell), &self));
	assert_int_equal(self.state, 3);
	assert_int_equal(self.flags, HB_FLAG_VM | HB_FLAG_LINK | HB_FLAG_LEAVING);
	assert_false(hb_tell_read(&tell, sizeof(tell) - 1, &self));
	assert_false(hb_tell_read(longer, sizeof(longer), &self));
	assert_false(hb_tell_read(&tell, 0, &self));
	tell.zero = wire_put32(1);
	assert_false(hb_tell_read(&tell, sizeof(tell), &self));
	tell.zero = wire_put32(0);
	tell.self.zero[5] = 1;
	assert_false(hb_tell_read(&tell, sizeof(tell), &self));
	tell.self.zero[5] = 0;
	tell.type = wire_put32(HB_REPORT);
	assert_false(hb_tell_read(&tell, sizeof(tell), &self));
}

#define WITH_ENDS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_ENDS(what_is_sealed_is_read_as_it_was_said),
		WITH_ENDS(every_other_length_is_refused),
		WITH_ENDS(every_changed_bit_is_refused),
		WITH_ENDS(
			the_wrong_path_padding_session_or_number_is_refused_though_signed),
		WITH_ENDS(our_own_come_back_as_reflected),
		WITH_ENDS(another_key_or_pair_is_refused),
		cmocka_unit_test(two_that_know_nothing_of_each_other_meet),
		cmocka_unit_test(the_same_is_heard_once),
		cmocka_unit_test(each_path_has_its_own_numbers),
		cmocka_unit_test(what_was_recorded_before_we_started_is_refused),
		cmocka_unit_test(a_session_that_was_replaced_never_comes_back),
		cmocka_unit_test(a_peer_is_replaced_only_by_one_that_heard_us_just_now),
		cmocka_unit_test(all_strangers_are_greeted_in_turn),
		cmocka_unit_test(of_two_strangers_that_want_one_place_each_is_greeted),
		cmocka_unit_test(nobody_who_plays_recorded_sessions_keeps_a_living_one_out),
		cmocka_unit_test(colod_is_heard_only_if_it_says_a_whole_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
