/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection between two colods: one of ours, and one that has the key and is odd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/tcp.h"
#include "checkpoint/protocol.h"
#include "colo/peer.h"

#define LONG_MS 20000u

static const struct base_message_rule rules[] = {
	{ CKPT_PING, "ping", 0, 0 },
	{ CKPT_BYE, "bye", 0, CKPT_TEXT_MAX },
	{ WIRE_PEER_HELLO, "hello", 0, WIRE_PAYLOAD_MAX },
	{ WIRE_PEER_STATE, "state", 0, WIRE_PAYLOAD_MAX },
	{ WIRE_PEER_ASK, "ask", 0, WIRE_PAYLOAD_MAX },
	{ WIRE_PEER_ANSWER, "answer", 0, WIRE_PAYLOAD_MAX },
	{ 0 },
};

/* Beta is ours and listens; the test is alpha. */
struct scene {
	char *folder, *key, *address, *file;
	colo_pair *pair;
	colo_peer *peer;
	base_channel *alpha;
	guint ups, downs, states, asks, answers;
	gboolean yes;
	char *diff, *why, *down_why;
	guint64 id;
	gint dialled; /* atomic */
};

static void up(void *data, const char *diff)
{
	struct scene *scene = data;

	scene->ups++;
	g_free(scene->diff);
	scene->diff = g_strdup(diff);
}

static void down(void *data, const char *why)
{
	struct scene *scene = data;

	scene->downs++;
	g_free(scene->down_why);
	scene->down_why = g_strdup(why);
}

static void said(void *data, const struct colo_peer_state *state)
{
	((struct scene *)data)->states++;
}

static void asked(void *data, guint64 id, enum colo_ask ask, guint64 generation)
{
	struct scene *scene = data;

	scene->asks++;
	scene->id = id;
}

static void answered(void *data, enum colo_ask ask, gboolean yes, const char *why)
{
	struct scene *scene = data;

	scene->answers++;
	scene->yes = yes;
	g_free(scene->why);
	scene->why = g_strdup(why);
}

static const struct colo_peer_hooks hooks = { up, down, said, asked, answered };

static char *pair_file(const char *key, guint port, const char *memory)
{
	return g_strdup_printf("[pair]\nname = web\nnodes = alpha; beta\nkey = %s\n"
			       "[vm]\nmemory = %s\nkernel = /k\n"
			       "[node alpha]\nreplication = 127.0.0.1:1\n"
			       "control = 127.0.0.1:2\nheartbeat = 127.0.0.1:3\n"
			       "[node beta]\nreplication = 127.0.0.2:1\n"
			       "control = 127.0.0.1:%u\nheartbeat = 127.0.0.2:3\n"
			       "[arbiter]\ntype = manual\n",
			       key, memory, port);
}

static guint free_port(void)
{
	int fd = base_tcp_listen("127.0.0.1:0", NULL);
	guint port;

	assert_true(fd >= 0);
	port = base_tcp_port(fd);
	close(fd);
	return port;
}

static void set_up(struct scene *scene)
{
	GError *error = NULL;
	guint port = free_port();

	*scene = (struct scene){ .folder = g_dir_make_tmp("colo-peer-XXXXXX", NULL) };
	scene->key = g_build_filename(scene->folder, "key", NULL);
	assert_true(base_key_generate(scene->key, NULL));
	scene->address = g_strdup_printf("127.0.0.1:%u", port);
	scene->file = pair_file(scene->key, port, "64MiB");
	scene->pair = colo_pair_parse(scene->file, strlen(scene->file), "web.conf", &error);
	assert_null(error);
	scene->peer = colo_peer_new(scene->pair, 1, &hooks, scene, &error);
	assert_null(error);
}

static void tear_down(struct scene *scene)
{
	base_channel_free(scene->alpha);
	colo_peer_free(scene->peer);
	colo_pair_free(scene->pair);
	g_unlink(scene->key);
	g_rmdir(scene->folder);
	g_free(scene->folder);
	g_free(scene->key);
	g_free(scene->address);
	g_free(scene->file);
	g_free(scene->diff);
	g_free(scene->why);
	g_free(scene->down_why);
}

/* Dials on a thread, since both ends of the handshake are in this process. */
static void *dial(void *data)
{
	struct scene *scene = data;
	g_autoptr(base_key) key = base_key_read(scene->key, NULL);
	int fd = base_tcp_connect(scene->address, LONG_MS, NULL);
	base_channel *channel =
		fd < 0 ? NULL : base_channel_new_take(fd, FALSE, key, rules, LONG_MS, NULL);

	g_atomic_int_set(&scene->dialled, 1);
	return channel;
}

static void connect_alpha(struct scene *scene)
{
	g_autoptr(GThread) thread = NULL;

	g_atomic_int_set(&scene->dialled, 0);
	thread = g_thread_new("dial", dial, scene);
	while (!g_atomic_int_get(&scene->dialled))
		if (!g_main_context_iteration(NULL, FALSE))
			g_usleep(1000);
	scene->alpha = g_thread_join(g_steal_pointer(&thread));
	assert_non_null(scene->alpha);
}

static void send_message(struct scene *scene, guint16 type, const void *head, gsize length,
			 const void *more, gsize more_length)
{
	const struct iovec iov[] = { { (void *)head, length }, { (void *)more, more_length } };

	assert_true(base_channel_send(scene->alpha, type, 0, iov, 2, LONG_MS, NULL));
	assert_true(base_channel_flush(scene->alpha, LONG_MS, NULL));
}

static void say_hello_as(struct scene *scene, guint version, guint node, const char *name,
			 const char *file)
{
	struct wire_peer_hello hello = { .version = wire_put16((guint16)version),
					 .node = wire_put16((guint16)node) };

	memcpy(hello.pair, name, MIN(strlen(name), sizeof(hello.pair)));
	send_message(scene, WIRE_PEER_HELLO, &hello, sizeof(hello), file, strlen(file));
}

static void say_state(struct scene *scene, guint state, guint part, guint flags)
{
	const struct wire_peer_state wire = { .generation = wire_put64(3),
					      .state = wire_put16((guint16)state),
					      .part = wire_put16((guint16)part),
					      .flags = wire_put32(flags) };

	send_message(scene, WIRE_PEER_STATE, &wire, sizeof(wire), NULL, 0);
}

static gboolean wake(gpointer data)
{
	return G_SOURCE_CONTINUE;
}

/* The main loop runs until a count is there. */
static void wait_for(const guint *count, guint at_least)
{
	const gint64 until = g_get_monotonic_time() + LONG_MS * 1000;
	const guint source = g_timeout_add(20, wake, NULL);

	while (*count < at_least && g_get_monotonic_time() < until)
		g_main_context_iteration(NULL, TRUE);
	g_source_remove(source);
	assert_true(*count >= at_least);
}

/* The reason that ours gives before it hangs up. */
static void expect_refusal(struct scene *scene, const char *words)
{
	struct base_message message;
	const gint64 until = g_get_monotonic_time() + LONG_MS * 1000;
	g_autofree char *text = NULL;
	gboolean got;

	do {
		while (g_main_context_iteration(NULL, FALSE))
			;
		got = base_channel_receive(scene->alpha, &message, 20, NULL);
		if (got && message.type == CKPT_BYE)
			text = g_strndup((const char *)message.payload + sizeof(struct ckpt_bye),
					 message.length - sizeof(struct ckpt_bye));
	} while (!text && got && g_get_monotonic_time() < until);
	assert_non_null(text);
	if (!strstr(text, words))
		fail_msg("it says: %s", text);
}

/* What follows can be sent at once, before silence counts. */
static void greet(struct scene *scene)
{
	set_up(scene);
	connect_alpha(scene);
	say_hello_as(scene, WIRE_PEER_VERSION, 0, "web", scene->file);
}

static void meet(struct scene *scene)
{
	greet(scene);
	wait_for(&scene->ups, 1);
	assert_null(scene->diff);
}

/* Nothing receives while the main loop waits for messages, so what is expected is a refusal
 * in words; silence is what the rest is for. */
static void refused_hello(guint version, guint node, const char *name, const char *words)
{
	struct scene scene;

	set_up(&scene);
	connect_alpha(&scene);
	say_hello_as(&scene, version, node, name, scene.file);
	for (guint i = 0; i < 50; i++) {
		g_usleep(2000);
		while (g_main_context_iteration(NULL, FALSE))
			;
	}
	expect_refusal(&scene, words);
	assert_int_equal(scene.ups, 0);
	assert_non_null(strstr(colo_peer_trouble(scene.peer), words));
	tear_down(&scene);
}

static void who_is_of_no_pair_of_ours_is_told_so(void **state)
{
	refused_hello(WIRE_PEER_VERSION, 0, "mail", "another pair");
	refused_hello(WIRE_PEER_VERSION, 0, "0123456789012345678901234567890123456789",
		      "another pair");
	refused_hello(WIRE_PEER_VERSION, 1, "web", "takes itself for this node");
	refused_hello(WIRE_PEER_VERSION, 700, "web", "takes itself for this node");
	refused_hello(WIRE_PEER_VERSION + 1, 0, "web", "another version");
}

static void files_that_differ_or_are_broken_are_told(void **state)
{
	struct scene scene;
	g_autofree char *other = NULL;

	set_up(&scene);
	other = pair_file(scene.key, 9, "128MiB");
	connect_alpha(&scene);
	say_hello_as(&scene, WIRE_PEER_VERSION, 0, "web", other);
	wait_for(&scene.ups, 1);
	assert_non_null(scene.diff);
	assert_non_null(strstr(scene.diff, "memory"));
	base_channel_free(g_steal_pointer(&scene.alpha));
	wait_for(&scene.downs, 1);
	connect_alpha(&scene);
	say_hello_as(&scene, WIRE_PEER_VERSION, 0, "web", "[vm]\nmemory = \033[2J\n\1\2\377");
	wait_for(&scene.ups, 2);
	assert_non_null(scene.diff);
	assert_true(g_utf8_validate(scene.diff, -1, NULL));
	assert_null(strpbrk(scene.diff, "\033\1\2"));
	tear_down(&scene);
}

static void hung_up_on(struct scene *scene, const char *words)
{
	wait_for(&scene->downs, 1);
	if (!strstr(scene->down_why, words))
		fail_msg("it was hung up on since %s", scene->down_why);
	tear_down(scene);
}

static void who_talks_nonsense_is_hung_up_on(void **state)
{
	static const struct {
		guint state, part, flags;
	} wrong[] = {
		{ COLO__STATES, 0, 0 },
		{ 0, COLO_PART_PROMOTED + 1, 0 },
		{ 0, 0, COLO_PEER_FLAGS + 1 },
		{ 65535, 65535, G_MAXUINT32 },
	};
	const struct wire_peer_ask no_id = { .ask = wire_put16(COLO_ASK_START) };
	const struct wire_peer_ask no_ask = { .id = wire_put64(1), .ask = wire_put16(99) };
	const struct wire_peer_answer unasked = { .id = wire_put64(1), .yes = wire_put16(1) };
	struct scene scene;

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		greet(&scene);
		say_state(&scene, wrong[i].state, wrong[i].part, wrong[i].flags);
		hung_up_on(&scene, "a state that there is not");
		assert_int_equal(scene.states, 0);
	}
	greet(&scene);
	say_hello_as(&scene, WIRE_PEER_VERSION, 0, "web", scene.file);
	hung_up_on(&scene, "hello twice");
	greet(&scene);
	send_message(&scene, WIRE_PEER_ASK, &no_id, sizeof(no_id), NULL, 0);
	hung_up_on(&scene, "a question that there is not");
	greet(&scene);
	send_message(&scene, WIRE_PEER_ASK, &no_ask, sizeof(no_ask), NULL, 0);
	hung_up_on(&scene, "a question that there is not");
	greet(&scene);
	send_message(&scene, WIRE_PEER_ANSWER, &unasked, sizeof(unasked), NULL, 0);
	hung_up_on(&scene, "an answer to nothing");
	greet(&scene);
	send_message(&scene, WIRE_PEER_STATE, &unasked, sizeof(unasked), NULL, 0);
	hung_up_on(&scene, "");
	assert_int_equal(scene.states, 0);
}

static void a_state_before_the_hello_is_not_heard(void **state)
{
	struct scene scene;

	set_up(&scene);
	connect_alpha(&scene);
	say_state(&scene, COLO_SOLO, COLO_PART_SOLO, 0);
	for (guint i = 0; i < 50; i++) {
		g_usleep(2000);
		while (g_main_context_iteration(NULL, FALSE))
			;
	}
	expect_refusal(&scene, "no hello");
	assert_int_equal(scene.ups + scene.states, 0);
	tear_down(&scene);
}

static void reasons_are_made_printable(void **state)
{
	const struct wire_peer_answer no = { .id = wire_put64(1) };
	static const char text[] = "not\nnow \033[2J\377";
	struct scene scene;

	meet(&scene);
	colo_peer_ask(scene.peer, COLO_ASK_LEAVE, 3);
	send_message(&scene, WIRE_PEER_ANSWER, &no, sizeof(no), text, sizeof(text) - 1);
	wait_for(&scene.answers, 1);
	assert_false(scene.yes);
	assert_string_equal(scene.why, "not?now ?[2J?");
	/* The same answer again is to nothing. */
	send_message(&scene, WIRE_PEER_ANSWER, &no, sizeof(no), NULL, 0);
	hung_up_on(&scene, "an answer to nothing");
}

static void who_connects_anew_takes_the_place_of_what_there_was(void **state)
{
	const struct wire_peer_answer yes = { .id = wire_put64(1), .yes = wire_put16(1) };
	struct scene scene;
	base_channel *old;

	meet(&scene);
	colo_peer_ask(scene.peer, COLO_ASK_LEAVE, 3);
	old = g_steal_pointer(&scene.alpha);
	connect_alpha(&scene);
	say_hello_as(&scene, WIRE_PEER_VERSION, 0, "web", scene.file);
	wait_for(&scene.ups, 2);
	assert_int_equal(scene.downs, 1);
	say_state(&scene, COLO_SOLO, COLO_PART_SOLO, COLO_PEER_VM);
	wait_for(&scene.states, 1);
	/* What was asked on the old one is not answered on the new one. */
	send_message(&scene, WIRE_PEER_ANSWER, &yes, sizeof(yes), NULL, 0);
	wait_for(&scene.downs, 2);
	assert_int_equal(scene.answers, 0);
	base_channel_free(old);
	tear_down(&scene);
}

static void who_falls_silent_is_lost_within_seconds(void **state)
{
	struct scene scene;

	meet(&scene);
	hung_up_on(&scene, "");
}

static void say_nothing(const gchar *domain, GLogLevelFlags level, const gchar *message,
			gpointer data)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_of_no_pair_of_ours_is_told_so),
		cmocka_unit_test(files_that_differ_or_are_broken_are_told),
		cmocka_unit_test(who_talks_nonsense_is_hung_up_on),
		cmocka_unit_test(a_state_before_the_hello_is_not_heard),
		cmocka_unit_test(reasons_are_made_printable),
		cmocka_unit_test(who_connects_anew_takes_the_place_of_what_there_was),
		cmocka_unit_test(who_falls_silent_is_lost_within_seconds),
	};

	g_log_set_default_handler(say_nothing, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
