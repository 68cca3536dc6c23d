/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of a control socket, against the real server and against ones that
 * misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/control.h"
#include "base/unixsock.h"
#include "colo/client.h"

struct rig {
	char *dir, *path;
	base_control *server;
	base_answer *late; /* of "wait" */
	colo_client *client;
	GString *told; /* what the client's callbacks said, in words */
	gboolean free_in_callback;
};

static void run(void *data, const char *command, guint index, JsonObject *arguments,
		base_answer *answer)
{
	struct rig *rig = data;
	JsonObject *result = json_object_new();

	switch (index) {
	case 0:
		base_json_set_text(result, "said", base_json_text(arguments, "what"));
		base_answer_ok(answer, result);
		break;
	case 1:
		json_object_unref(result);
		base_answer_error(answer, "busy", "not now");
		break;
	case 2:
		json_object_unref(result);
		rig->late = answer;
		break;
	default:
		base_answer_subscribe(answer, result);
	}
}

static void serve(struct rig *rig)
{
	static const char *const what[] = { "what", NULL };
	static const struct base_command rows[] = {
		{ "echo", what },   { "refuse", what }, { "wait", what },
		{ "events", what }, { NULL },
	};
	const struct base_commands commands = { rig, rows, run };
	g_autoptr(GError) error = NULL;

	rig->server = base_control_new(rig->path, &commands, &error);
	if (!rig->server)
		fail_msg("%s", error->message);
}

static void on_connected(void *data)
{
	g_string_append(((struct rig *)data)->told, "connected ");
}

static void on_closed(void *data, const char *why)
{
	g_string_append_printf(((struct rig *)data)->told, "closed(%s) ", why);
}

static void on_event(void *data, const char *name, JsonObject *event)
{
	struct rig *rig = data;

	g_string_append_printf(rig->told, "event(%s,%s) ", name,
			       base_json_text(event, "detail"));
	if (rig->free_in_callback)
		g_clear_pointer(&rig->client, colo_client_free);
}

static void on_answer(void *data, JsonObject *result, const char *code,
		      const char *message)
{
	struct rig *rig = data;

	if (result)
		g_string_append_printf(rig->told, "ok(%s) ",
				       base_json_text(result, "said"));
	else
		g_string_append_printf(rig->told, "%s ", code);
	assert_true(!result == !!message);
	if (rig->free_in_callback)
		g_clear_pointer(&rig->client, colo_client_free);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	const struct colo_client_hooks hooks = { rig, on_connected, on_closed,
						 on_event };

	rig->dir = g_dir_make_tmp("colo-client-XXXXXX", NULL);
	rig->path = g_build_filename(rig->dir, "s", NULL);
	rig->told = g_string_new(NULL);
	rig->client = colo_client_new(rig->path, &hooks);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	colo_client_free(rig->client);
	base_control_free(rig->server);
	if (rig->late)
		base_answer_ok(rig->late, NULL);
	g_unlink(rig->path);
	g_rmdir(rig->dir);
	g_free(rig->dir);
	g_free(rig->path);
	g_string_free(rig->told, TRUE);
	g_free(rig);
	return 0;
}

static gboolean wake(gpointer data)
{
	return G_SOURCE_CONTINUE;
}

/* Turns the main loop until that was told. */
static void await(struct rig *rig, const char *told)
{
	gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
	guint ticks = g_timeout_add(20, wake, NULL);

	while (!strstr(rig->told->str, told)) {
		if (g_get_monotonic_time() > end)
			fail_msg("no \"%s\" in \"%s\"", told, rig->told->str);
		g_main_context_iteration(NULL, TRUE);
	}
	g_source_remove(ticks);
}

static void turn_loop(void)
{
	while (g_main_context_iteration(NULL, FALSE))
		;
}

static JsonObject *what(const char *text)
{
	JsonObject *object = json_object_new();

	base_json_set_text(object, "what", text);
	return object;
}

static void a_server_that_comes_later_is_found(void **state)
{
	struct rig *rig = *state;

	turn_loop();
	assert_false(colo_client_is_connected(rig->client));
	assert_non_null(strstr(colo_client_trouble(rig->client), rig->path));
	serve(rig);
	await(rig, "connected ");
	assert_true(colo_client_is_connected(rig->client));
	assert_null(colo_client_trouble(rig->client));
}

static void answers_and_refusals_come_to_who_asked(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_send(rig->client, "echo", what("a\n\"b\""), 0, on_answer, rig);
	colo_client_send(rig->client, "refuse", NULL, 20000, on_answer, rig);
	colo_client_send(rig->client, "fly", NULL, 20000, on_answer, rig);
	colo_client_send(rig->client, "echo", what("c"), 0, NULL, NULL);
	assert_string_equal(rig->told->str, "connected ");
	await(rig, "ok(a\n\"b\") busy unknown-command ");
}

static void a_request_without_connection_is_answered_from_the_loop(void **state)
{
	struct rig *rig = *state;

	colo_client_send(rig->client, "echo", what("a"), 0, on_answer, rig);
	assert_string_equal(rig->told->str, "");
	turn_loop();
	assert_string_equal(rig->told->str, "closed ");
}

static void a_request_that_is_not_answered_in_time_is_given_up(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_send(rig->client, "wait", NULL, 20, on_answer, rig);
	await(rig, "timeout ");
	assert_non_null(rig->late);
	base_answer_ok(g_steal_pointer(&rig->late), NULL);
	colo_client_send(rig->client, "echo", what("after"), 0, on_answer, rig);
	/* The late answer is nobody's; the connection goes on. */
	await(rig, "ok(after) ");
	assert_null(strstr(rig->told->str, "closed"));
}

static void a_server_that_goes_ends_its_requests_and_is_found_again(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_send(rig->client, "wait", NULL, 0, on_answer, rig);
	for (guint i = 0; i < 1000 && !rig->late; i++)
		g_main_context_iteration(NULL, TRUE);
	g_clear_pointer(&rig->server, base_control_free);
	await(rig, "closed closed(the server closed the connection) ");
	g_string_truncate(rig->told, 0);
	serve(rig);
	await(rig, "connected ");
}

static void one_that_was_told_to_stop_tries_no_more(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_stop(rig->client);
	colo_client_send(rig->client, "echo", what("a"), 0, on_answer, rig);
	await(rig, "ok(a) ");
	g_clear_pointer(&rig->server, base_control_free);
	await(rig, "closed(");
	turn_loop();
	assert_false(g_main_context_pending(NULL));
}

static void events_are_told(void **state)
{
	struct rig *rig = *state;
	JsonObject *fields = json_object_new();

	serve(rig);
	await(rig, "connected ");
	colo_client_send(rig->client, "events", NULL, 0, on_answer, rig);
	await(rig, "ok(");
	json_object_set_string_member(fields, "detail", "x");
	base_control_event(rig->server, "panic", fields);
	await(rig, "event(panic,x) ");
}

static void it_may_be_freed_from_its_callbacks(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_send(rig->client, "echo", what("a"), 0, on_answer, rig);
	colo_client_send(rig->client, "echo", what("b"), 0, on_answer, rig);
	rig->free_in_callback = TRUE;
	await(rig, "ok(a) ");
	turn_loop();
	assert_null(rig->client);
	assert_null(strstr(rig->told->str, "ok(b)"));
}

static void hanging_up_is_told_and_tried_again(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	colo_client_hang_up(rig->client, "told so");
	assert_string_equal(rig->told->str, "connected ");
	await(rig, "closed(told so) connected ");
}

/* A server of the test's own: a listener, and what it says to the first who comes. */
static int accept_one(base_listener *listener)
{
	int fd = -1;

	for (guint i = 0; i < 1000 && fd < 0; i++) {
		g_main_context_iteration(NULL, FALSE);
		fd = base_listener_accept(listener);
		g_usleep(5000);
	}
	assert_true(fd >= 0);
	return fd;
}

static void a_server_that_sends_rubbish_is_hung_up_on(void **state)
{
	static const char *const rubbish[] = {
		"hello\n",
		"[]\n",
		"{}\n",
		"{\"id\":99,\"ok\":true,\"result\":{}}\n", /* never asked */
		"{\"id\":-1,\"ok\":true,\"result\":{}}\n",
		"{\"event\":5}\n",
		"\n",
	};
	struct rig *rig = *state;
	g_autoptr(base_listener) listener = base_listener_new(rig->path, NULL);

	for (guint i = 0; i < G_N_ELEMENTS(rubbish); i++) {
		int fd;

		g_string_truncate(rig->told, 0);
		fd = accept_one(listener);
		await(rig, "connected ");
		send(fd, rubbish[i], strlen(rubbish[i]), MSG_NOSIGNAL);
		await(rig, "closed(");
		close(fd);
	}
}

static void an_answer_that_is_none_is_hung_up_on(void **state)
{
	static const char *const rubbish[] = {
		"\"ok\":true}",
		"\"ok\":true,\"result\":[]}",
		"\"ok\":1,\"result\":{}}",
		"\"result\":{}}",
		"\"ok\":false}",
		"\"ok\":false,\"error\":{}}",
		"\"ok\":false,\"error\":{\"code\":5,\"message\":\"x\"}}",
		"\"ok\":false,\"error\":{\"code\":\"x\"}}",
	};
	struct rig *rig = *state;
	g_autoptr(base_listener) listener = base_listener_new(rig->path, NULL);

	for (guint i = 0; i < G_N_ELEMENTS(rubbish); i++) {
		g_autofree char *line =
			g_strdup_printf("{\"id\":%u,%s\n", i + 1, rubbish[i]);
		int fd;

		g_string_truncate(rig->told, 0);
		fd = accept_one(listener);
		await(rig, "connected ");
		colo_client_send(rig->client, "status", NULL, 0, on_answer, rig);
		send(fd, line, strlen(line), MSG_NOSIGNAL);
		await(rig, "closed closed(an answer that is none");
		close(fd);
	}
}

static void a_line_without_end_is_hung_up_on(void **state)
{
	struct rig *rig = *state;
	g_autoptr(base_listener) listener = base_listener_new(rig->path, NULL);
	g_autofree char *text = g_strnfill(65536, ' ');
	int fd = accept_one(listener);

	await(rig, "connected ");
	for (guint i = 0; i < 10000 && !strstr(rig->told->str, "closed("); i++) {
		send(fd, text, 65536, MSG_NOSIGNAL | MSG_DONTWAIT);
		g_main_context_iteration(NULL, FALSE);
	}
	assert_non_null(strstr(rig->told->str, "longer than 1048576 bytes"));
	close(fd);
}

static void a_server_that_does_not_read_is_hung_up_on(void **state)
{
	struct rig *rig = *state;
	g_autoptr(base_listener) listener = base_listener_new(rig->path, NULL);
	g_autofree char *text = g_strnfill(60000, 'x');
	int fd = accept_one(listener);

	await(rig, "connected ");
	for (guint i = 0; i < 200 && colo_client_is_connected(rig->client); i++)
		colo_client_send(rig->client, "echo", what(text), 0, NULL, NULL);
	assert_false(colo_client_is_connected(rig->client));
	await(rig, "closed(the server does not take what it is sent) ");
	close(fd);
}

static void too_many_requests_are_refused(void **state)
{
	struct rig *rig = *state;

	serve(rig);
	await(rig, "connected ");
	for (guint i = 0; i <= COLO_CLIENT_WAITING_MAX; i++)
		colo_client_send(rig->client, "echo", NULL, 0,
				 i == COLO_CLIENT_WAITING_MAX ? on_answer : NULL, rig);
	await(rig, "too-many ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_server_that_comes_later_is_found),
		TEST(answers_and_refusals_come_to_who_asked),
		TEST(a_request_without_connection_is_answered_from_the_loop),
		TEST(a_request_that_is_not_answered_in_time_is_given_up),
		TEST(a_server_that_goes_ends_its_requests_and_is_found_again),
		TEST(one_that_was_told_to_stop_tries_no_more),
		TEST(events_are_told),
		TEST(it_may_be_freed_from_its_callbacks),
		TEST(hanging_up_is_told_and_tried_again),
		TEST(a_server_that_sends_rubbish_is_hung_up_on),
		TEST(an_answer_that_is_none_is_hung_up_on),
		TEST(a_line_without_end_is_hung_up_on),
		TEST(a_server_that_does_not_read_is_hung_up_on),
		TEST(too_many_requests_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
