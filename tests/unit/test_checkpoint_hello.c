/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first message each way: machines that are unlike part at once, and both know why. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/hello.h"

#define LONG_MS 20000u

enum { PRIMARY, SECONDARY };

static base_key *key;

struct side {
	base_channel *channel;
	struct ckpt_hello ours, theirs;
	gboolean ok;
	GError *error;
};

struct meeting {
	int fds[2];
	struct side sides[2];
};

static void *shake_hands(void *data)
{
	struct meeting *meeting = data;

	meeting->sides[1].channel = base_channel_new_take(meeting->fds[1], TRUE, key,
							  ckpt_rules, LONG_MS, NULL);
	return NULL;
}

static void fill(struct ckpt_hello *hello, gboolean primary)
{
	static const guint8 mac[] = { 2, 0, 0, 0, 0, 1 };

	memset(hello, 0, sizeof(*hello));
	hello->version = wire_put32(CKPT_PROTOCOL_VERSION);
	hello->primary = primary;
	hello->rng = 1;
	hello->memory = wire_put64(64 << 20);
	hello->cpus = wire_put32(2);
	hello->nets = wire_put32(1);
	memcpy(hello->macs[0], mac, sizeof(mac));
	hello->disks = wire_put32(2);
	hello->disk[0].bytes = hello->disk[1].bytes = wire_put64(1 << 20);
	hello->cpuid_rows = wire_put32(1);
	hello->cpuid[0].leaf = wire_put32(7);
	hello->cpuid[0].ebx = wire_put32(1u << 5 | 1u << 8);
	if (primary)
	{
		memset(hello->secret, 0x5a, sizeof(hello->secret));
		hello->silence_ms = wire_put32(1000);
		hello->connections = wire_put32(CKPT_LANES_MAX);
		memset(hello->token, 0x5a, sizeof(hello->token));
	}
}

static void set_up(struct meeting *meeting)
{
	GThread *thread;

	memset(meeting, 0, sizeof(*meeting));
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, meeting->fds),
			   errno);
	thread = g_thread_new("hands", shake_hands, meeting);
	meeting->sides[0].channel = base_channel_new_take(meeting->fds[0], FALSE, key,
							  ckpt_rules, LONG_MS, NULL);
	g_thread_join(thread);
	assert_non_null(meeting->sides[0].channel);
	assert_non_null(meeting->sides[1].channel);
	fill(&meeting->sides[PRIMARY].ours, TRUE);
	fill(&meeting->sides[SECONDARY].ours, FALSE);
}

static void tear_down(struct meeting *meeting)
{
	for (guint i = 0; i < 2; i++) {
		base_channel_free(meeting->sides[i].channel);
		g_clear_error(&meeting->sides[i].error);
	}
}

static void *exchange(void *data)
{
	struct side *side = data;

	side->ok = ckpt_hello_exchange(side->channel, &side->ours, &side->theirs, LONG_MS,
				       &side->error);
	return NULL;
}

static void meet(struct meeting *meeting)
{
	GThread *thread = g_thread_new("secondary", exchange, &meeting->sides[SECONDARY]);

	exchange(&meeting->sides[PRIMARY]);
	g_thread_join(thread);
}

/* Both refuse, each by its own judgement. */
static void expect_refused(struct meeting *meeting, const char *words)
{
	meet(meeting);
	for (guint i = 0; i < 2; i++) {
		assert_false(meeting->sides[i].ok);
		assert_true(g_error_matches(meeting->sides[i].error, CKPT_ERROR,
					    CKPT_ERROR_UNLIKE));
		if (!strstr(meeting->sides[i].error->message, words))
			fail_msg("%s", meeting->sides[i].error->message);
	}
	tear_down(meeting);
}

static void like_machines_become_a_pair_and_share_the_secret(void **state)
{
	struct meeting meeting;

	set_up(&meeting);
	meet(&meeting);
	assert_true(meeting.sides[PRIMARY].ok && meeting.sides[SECONDARY].ok);
	assert_memory_equal(&meeting.sides[SECONDARY].theirs, &meeting.sides[PRIMARY].ours,
			    sizeof(struct ckpt_hello));
	tear_down(&meeting);
}

static void unlike_machines_are_refused_on_both_sides_with_what_differs(void **state)
{
	struct meeting meeting;
	struct ckpt_hello *hello = &meeting.sides[SECONDARY].ours;

	set_up(&meeting);
	hello->memory = wire_put64(128 << 20);
	expect_refused(&meeting, "bytes of memory: ");
	set_up(&meeting);
	hello->cpus = wire_put32(1);
	expect_refused(&meeting, "vCPUs: ");
	set_up(&meeting);
	hello->nets = wire_put32(2);
	expect_refused(&meeting, "network cards: ");
	set_up(&meeting);
	hello->macs[0][5] = 9;
	expect_refused(&meeting, "has network card 0 with MAC: ");
	set_up(&meeting);
	hello->disks = wire_put32(0);
	expect_refused(&meeting, "disks: ");
	set_up(&meeting);
	hello->disk[1].bytes = wire_put64(2 << 20);
	expect_refused(&meeting, "disk 1, bytes: ");
	set_up(&meeting);
	hello->disk[0].block_size = wire_put32(4096);
	expect_refused(&meeting, "disk 0, block size: ");
	set_up(&meeting);
	hello->disk[0].readonly = 1;
	expect_refused(&meeting, "disk 0, read-only: ");
	set_up(&meeting);
	hello->disk[1].can_discard = 1;
	expect_refused(&meeting, "disk 1, discard: ");
	set_up(&meeting);
	hello->disk[1].can_zero = 1;
	expect_refused(&meeting, "disk 1, zeroing: ");
	set_up(&meeting);
	hello->hvc = 1;
	expect_refused(&meeting, "virtio consoles: ");
	set_up(&meeting);
	hello->rng = 0;
	expect_refused(&meeting, "entropy devices: ");
}

static void a_processor_that_lacks_features_is_refused_by_their_names(void **state)
{
	struct meeting meeting;

	set_up(&meeting);
	meeting.sides[SECONDARY].ours.cpuid[0].ebx = wire_put32(1u << 8);
	meet(&meeting);
	assert_false(meeting.sides[PRIMARY].ok || meeting.sides[SECONDARY].ok);
	assert_non_null(strstr(meeting.sides[PRIMARY].error->message, "the peer lacks avx2;"));
	assert_non_null(
		strstr(meeting.sides[SECONDARY].error->message, "this host lacks avx2;"));
	tear_down(&meeting);
}

/* Whoever finds nothing wrong with the other hears of it by a BYE. */
static void a_hello_that_makes_no_sense_is_refused_and_its_sender_told(void **state)
{
	const char *words = "a secret came from the secondary";
	struct base_message message;
	struct meeting meeting;
	struct side *liar = &meeting.sides[SECONDARY];
	g_autofree char *why = NULL;

	set_up(&meeting);
	liar->ours.secret[100] = 1;
	meet(&meeting);
	assert_false(meeting.sides[PRIMARY].ok);
	assert_non_null(strstr(meeting.sides[PRIMARY].error->message, words));
	assert_true(liar->ok);
	assert_true(base_channel_receive(liar->channel, &message, LONG_MS, NULL));
	assert_int_equal(message.type, CKPT_BYE);
	why = ckpt_text(&message);
	assert_non_null(strstr(why, words));
	tear_down(&meeting);
}

static void connections_are_bounded_and_the_primary_s_to_say(void **state)
{
	const struct {
		guint liar, connections, token;
		const char *words;
	} lies[] = {
		{ PRIMARY, 0, 0, "the peer wants 0 connections, allowed are 1 to 8" },
		{ PRIMARY, 9, 0, "the peer wants 9 connections, allowed are 1 to 8" },
		{ SECONDARY, 1, 0, "the peer wants 1 connections, allowed are 0 to 0" },
		{ SECONDARY, 0, 1, "a secret came from the secondary" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
		struct meeting meeting;
		struct side *liar = &meeting.sides[lies[i].liar];
		struct side *other = &meeting.sides[!lies[i].liar];

		set_up(&meeting);
		liar->ours.connections = wire_put32(lies[i].connections);
		if (lies[i].token)
			liar->ours.token[CKPT_TOKEN - 1] = 1;
		meet(&meeting);
		assert_false(other->ok);
		if (!strstr(other->error->message, lies[i].words))
			fail_msg("%u: %s", i, other->error->message);
		tear_down(&meeting);
	}
}

static void two_of_the_same_side_refuse_each_other(void **state)
{
	struct meeting meeting;

	set_up(&meeting);
	fill(&meeting.sides[SECONDARY].ours, TRUE);
	meet(&meeting);
	for (guint i = 0; i < 2; i++) {
		assert_false(meeting.sides[i].ok);
		assert_non_null(strstr(meeting.sides[i].error->message,
				       "both sides say that they are the primary"));
	}
	tear_down(&meeting);
}

/* The first message of a peer of this test's making; what the node makes of it, and tells. */
static void say_first(guint16 type, const void *payload, gsize len, const char *words)
{
	struct iovec iov = { (void *)payload, len };
	struct meeting meeting;
	base_channel *peer;
	struct base_message message;
	GThread *thread;

	set_up(&meeting);
	peer = meeting.sides[PRIMARY].channel;
	thread = g_thread_new("secondary", exchange, &meeting.sides[SECONDARY]);
	assert_true(base_channel_send(peer, type, 0, &iov, len ? 1 : 0, LONG_MS, NULL));
	assert_true(base_channel_flush(peer, LONG_MS, NULL));
	assert_true(base_channel_receive(peer, &message, LONG_MS, NULL));
	assert_int_equal(message.type, CKPT_HELLO);
	if (type != CKPT_BYE) {
		assert_true(base_channel_receive(peer, &message, LONG_MS, NULL));
		g_autofree char *why = NULL;

		assert_int_equal(message.type, CKPT_BYE);
		why = ckpt_text(&message);
		assert_non_null(strstr(why, words));
	}
	base_channel_abort(peer);
	g_thread_join(thread);
	assert_false(meeting.sides[SECONDARY].ok);
	assert_non_null(strstr(meeting.sides[SECONDARY].error->message, words));
	tear_down(&meeting);
}

static void another_version_is_named_whatever_its_hello_looks_like(void **state)
{
	wire_u32 hello[3] = { wire_put32(CKPT_PROTOCOL_VERSION + 1) };

	say_first(CKPT_HELLO, hello, sizeof(hello), "checkpoint protocol 2, this one 1");
	hello[0] = wire_put32(CKPT_PROTOCOL_VERSION);
	say_first(CKPT_HELLO, hello, sizeof(hello), "hello has 12 bytes");
	say_first(CKPT_HELLO, hello, 3, "a message hello of 3 bytes");
	say_first(CKPT_COMMITTED, NULL, 0, "began with message 9");
	say_first(200, NULL, 0, "type 200");
}

static void what_a_peer_says_in_parting_writes_no_line_of_its_own(void **state)
{
	static const guint8 none[sizeof(struct ckpt_bye)];

	say_first(CKPT_BYE, "\0\0\0\0\0\0\0\0no\nway\x1b[2J\xff", 19,
		  "the peer refused: no?way?[2J?");
	say_first(CKPT_BYE, none, sizeof(none), "the peer refused: no reason given");
}

static void a_silent_peer_is_left_at_the_deadline(void **state)
{
	struct meeting meeting;
	struct side *side = &meeting.sides[SECONDARY];

	set_up(&meeting);
	assert_false(ckpt_hello_exchange(side->channel, &side->ours, &side->theirs, 50,
					 &side->error));
	assert_non_null(strstr(side->error->message, "within 50 ms"));
	tear_down(&meeting);
}

static int make_key(void **state)
{
	g_autofree char *path =
		g_strdup_printf("%s/colo-hello-key-%d", g_get_tmp_dir(), getpid());

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
		cmocka_unit_test(like_machines_become_a_pair_and_share_the_secret),
		cmocka_unit_test(
			unlike_machines_are_refused_on_both_sides_with_what_differs),
		cmocka_unit_test(a_processor_that_lacks_features_is_refused_by_their_names),
		cmocka_unit_test(a_hello_that_makes_no_sense_is_refused_and_its_sender_told),
		cmocka_unit_test(connections_are_bounded_and_the_primary_s_to_say),
		cmocka_unit_test(two_of_the_same_side_refuse_each_other),
		cmocka_unit_test(another_version_is_named_whatever_its_hello_looks_like),
		cmocka_unit_test(what_a_peer_says_in_parting_writes_no_line_of_its_own),
		cmocka_unit_test(a_silent_peer_is_left_at_the_deadline),
	};

	return cmocka_run_group_tests(tests, make_key, free_key);
}
