/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The events of a pair: kept, written, told to clients that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo/client.h"
#include "colo/events.h"

struct rig {
	char *dir, *file, *socket;
	struct colo_events_config config;
	colo_events *events;
	base_control *server;
	colo_client *client;
	GString *told; /* numbers of events, in the order in which they came */
	guint64 last, missed, pages;
	gboolean following, connected;
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->dir = g_dir_make_tmp("colo-events-XXXXXX", NULL);
	rig->file = g_build_filename(rig->dir, "events.jsonl", NULL);
	rig->socket = g_build_filename(rig->dir, "s", NULL);
	rig->config = (struct colo_events_config){ "alice", rig->file, 1 << 20 };
	rig->told = g_string_new(NULL);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;
	g_autofree char *old = g_strconcat(rig->file, ".1", NULL);

	colo_client_free(rig->client);
	base_control_free(rig->server);
	colo_events_free(rig->events);
	g_unlink(rig->file);
	g_unlink(old);
	assert_int_equal(g_rmdir(rig->dir), 0);
	g_free(rig->dir);
	g_free(rig->file);
	g_free(rig->socket);
	g_string_free(rig->told, TRUE);
	g_free(rig);
	return 0;
}

static void open_events(struct rig *rig)
{
	g_clear_pointer(&rig->events, colo_events_free);
	rig->events = colo_events_new(&rig->config);
}

static void add(struct rig *rig, const char *name)
{
	colo_events_add(rig->events, name, "solo", 7, "why", NULL);
}

static char *read_file(struct rig *rig, const char *suffix)
{
	g_autofree char *path = g_strconcat(rig->file, suffix, NULL);
	char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

/* A server with the one command. */
static void run(void *data, const char *command, guint index, JsonObject *arguments,
		base_answer *answer)
{
	colo_events_answer(((struct rig *)data)->events, arguments, answer);
}

static void on_connected(void *data)
{
	((struct rig *)data)->connected = TRUE;
}

static void on_event(void *data, const char *name, JsonObject *event)
{
	struct rig *rig = data;

	g_string_append_printf(rig->told, "%" G_GINT64_FORMAT " ",
			       json_object_get_int_member(event, "number"));
}

static void connect_client(struct rig *rig)
{
	static const struct base_command rows[] = { { "events", colo_events_arguments },
						    { NULL } };
	const struct base_commands commands = { rig, rows, run };
	const struct colo_client_hooks hooks = { rig, on_connected, NULL, on_event };
	g_autoptr(GError) error = NULL;

	rig->server = base_control_new(rig->socket, &commands, &error);
	if (!rig->server)
		fail_msg("%s", error->message);
	colo_events_set_control(rig->events, rig->server);
	rig->client = colo_client_new(rig->socket, &hooks);
	while (!rig->connected)
		g_main_context_iteration(NULL, TRUE);
}

static void ask(struct rig *rig, guint64 since, gboolean follow);

static void on_page(void *data, JsonObject *result, const char *code,
		    const char *message)
{
	struct rig *rig = data;
	JsonArray *array;

	if (!result)
		fail_msg("%s", message);
	array = json_object_get_array_member(result, "events");
	assert_true(json_array_get_length(array) <= COLO_EVENTS_PAGE);
	for (guint i = 0; i < json_array_get_length(array); i++)
		on_event(rig, "", json_array_get_object_element(array, i));
	rig->pages++;
	rig->missed += (guint64)json_object_get_int_member(result, "missed");
	rig->last = (guint64)json_object_get_int_member(result, "last");
	rig->following = json_object_get_boolean_member(result, "following");
	if (json_object_get_boolean_member(result, "more")) {
		/* Something happens between two pages. */
		add(rig, "between");
		ask(rig, rig->last, TRUE);
	}
}

static void ask(struct rig *rig, guint64 since, gboolean follow)
{
	JsonObject *arguments = json_object_new();

	json_object_set_int_member(arguments, "since", (gint64)since);
	json_object_set_boolean_member(arguments, "follow", follow);
	colo_client_send(rig->client, "events", arguments, 0, on_page, rig);
}

static void await_following(struct rig *rig)
{
	while (!rig->following)
		g_main_context_iteration(NULL, TRUE);
}

static char *numbers(guint from, guint to)
{
	GString *text = g_string_new(NULL);

	for (guint i = from; i <= to; i++)
		g_string_append_printf(text, "%u ", i);
	return g_string_free(text, FALSE);
}

static void an_event_is_one_line_of_the_file(void **state)
{
	struct rig *rig = *state;
	g_autofree char *file = NULL;
	JsonObject *extra = json_object_new();
	struct stat st;

	open_events(rig);
	json_object_set_int_member(extra, "outage_ms", 120);
	json_object_set_int_member(extra, "number", 99); /* ours counts */
	colo_events_add(rig->events, "promoted", "solo", 3, "heartbeats lost", extra);
	assert_int_equal(colo_events_last(rig->events), 1);
	g_clear_pointer(&rig->events, colo_events_free);
	file = read_file(rig, "");
	assert_true(g_str_has_prefix(file,
				     "{\"event\":\"promoted\",\"number\":1,\"time\":"));
	assert_true(g_str_has_suffix(file, ",\"node\":\"alice\",\"state\":\"solo\","
					   "\"generation\":3,\"detail\":"
					   "\"heartbeats lost\",\"outage_ms\":120}\n"));
	assert_int_equal(stat(rig->file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void what_is_too_long_loses_what_is_extra(void **state)
{
	struct rig *rig = *state;
	g_autofree char *file = NULL;
	g_autofree char *text = g_strnfill(COLO_EVENT_LINE_MAX, 'x');
	JsonObject *extra = json_object_new();

	open_events(rig);
	json_object_set_string_member(extra, "extra", text);
	colo_events_add(rig->events, "a", "solo", 3, text, extra);
	g_clear_pointer(&rig->events, colo_events_free);
	file = read_file(rig, "");
	assert_true(strlen(file) < COLO_EVENT_LINE_MAX);
	assert_null(strstr(file, "extra"));
	assert_non_null(strstr(file, "\"detail\":\"xxx"));
	open_events(rig);
	assert_int_equal(colo_events_last(rig->events), 1);
}

static void what_is_no_text_is_told_as_well_as_can_be(void **state)
{
	struct rig *rig = *state;
	/* Cut within a character. */
	g_autofree char *long_one = g_strnfill(COLO_EVENT_DETAIL_MAX - 1, 'x');
	g_autofree char *cut = g_strconcat(long_one, "\xc3\xa9", NULL);

	open_events(rig);
	colo_events_add(rig->events, "a", "solo", 3, cut, NULL);
	colo_events_add(rig->events, "b", "solo", 3, "\xff\x01\"\\\n{[", NULL);
	connect_client(rig);
	ask(rig, 0, TRUE);
	await_following(rig);
	assert_string_equal(rig->told->str, "1 2 ");
	open_events(rig);
	assert_int_equal(colo_events_last(rig->events), 2);
}

static void numbers_go_on_after_a_restart(void **state)
{
	struct rig *rig = *state;
	g_autofree char *want = numbers(1, 5);

	open_events(rig);
	add(rig, "a");
	add(rig, "b");
	add(rig, "c");
	open_events(rig);
	assert_int_equal(colo_events_last(rig->events), 3);
	add(rig, "d");
	add(rig, "e");
	connect_client(rig);
	ask(rig, 0, TRUE);
	await_following(rig);
	assert_string_equal(rig->told->str, want);
}

static void who_follows_gets_each_once(void **state)
{
	struct rig *rig = *state;
	g_autofree char *want = NULL;

	rig->config.file = NULL;
	open_events(rig);
	for (guint i = 0; i < 350; i++)
		add(rig, "a");
	connect_client(rig);
	ask(rig, 20, TRUE);
	await_following(rig);
	for (guint i = 0; i < 50; i++)
		add(rig, "b");
	want = numbers(21, (guint)colo_events_last(rig->events));
	for (guint i = 0; i < 1000 && strcmp(rig->told->str, want); i++)
		g_main_context_iteration(NULL, i < 100);
	assert_string_equal(rig->told->str, want);
	assert_int_equal(rig->missed, 0);
	/* 21 to 350 are 330: four pages, and one was added after each of three. */
	assert_int_equal(rig->pages, 4);
	assert_int_equal(colo_events_last(rig->events), 403);
}

static void what_is_kept_no_more_is_counted(void **state)
{
	struct rig *rig = *state;

	rig->config.file = NULL;
	open_events(rig);
	for (guint i = 0; i < COLO_EVENTS_MAX + 50; i++)
		add(rig, "a");
	connect_client(rig);
	ask(rig, 20, TRUE);
	await_following(rig);
	assert_int_equal(rig->missed, 30);
	assert_true(g_str_has_prefix(rig->told->str, "51 52 "));
}

static void a_number_of_another_time_gets_what_comes(void **state)
{
	struct rig *rig = *state;

	rig->config.file = NULL;
	open_events(rig);
	add(rig, "a");
	connect_client(rig);
	ask(rig, 1000, TRUE);
	await_following(rig);
	assert_int_equal(rig->last, 1);
	add(rig, "b");
	while (!rig->told->len)
		g_main_context_iteration(NULL, TRUE);
	assert_string_equal(rig->told->str, "2 ");
}

static void on_refusal(void *data, JsonObject *result, const char *code,
		       const char *message)
{
	assert_null(result);
	assert_string_equal(code, "bad-request");
	((struct rig *)data)->pages++;
}

static void wrong_arguments_are_refused(void **state)
{
	static const char *const texts[] = {
		"{\"since\":-1}",   "{\"since\":\"1\"}", "{\"since\":1.5}",
		"{\"since\":null}", "{\"follow\":1}",	 "{\"follow\":null}",
		"{\"follow\":[]}",  "{\"until\":1}",
	};
	struct rig *rig = *state;

	rig->config.file = NULL;
	open_events(rig);
	connect_client(rig);
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autofree char *why = NULL;
		JsonObject *arguments =
			base_json_parse(texts[i], strlen(texts[i]), &why);

		assert_non_null(arguments);
		colo_client_send(rig->client, "events", arguments, 0, on_refusal, rig);
		while (rig->pages <= i)
			g_main_context_iteration(NULL, TRUE);
	}
}

static void the_file_is_bounded(void **state)
{
	struct rig *rig = *state;
	g_autofree char *new = NULL, *old = NULL;

	rig->config.file_bytes = 2000;
	open_events(rig);
	for (guint i = 0; i < 100; i++)
		add(rig, "a");
	g_clear_pointer(&rig->events, colo_events_free);
	new = read_file(rig, "");
	old = read_file(rig, ".1");
	assert_true(strlen(new) <= 2000 && *new);
	assert_true(strlen(old) <= 2000 && *old);
	assert_non_null(strstr(new, "\"number\":100,"));
	/* Both are read back. */
	open_events(rig);
	assert_int_equal(colo_events_last(rig->events), 100);
	connect_client(rig);
	ask(rig, 0, TRUE);
	await_following(rig);
	assert_true(strlen(rig->told->str) > strlen("100 ") * 12);
}

static void a_damaged_file_gives_what_is_left_of_it(void **state)
{
	struct rig *rig = *state;

	rig->config.file = NULL;
	open_events(rig);
	{
		static const char text[] =
			"ber\":3}\n"
			"{\"event\":\"a\",\"number\":4,\"time\":1}\n"
			"{\"event\":\"a\",\"number\":4}\n" /* twice */
			"{\"event\":\"a\",\"number\":2}\n" /* backwards */
			"{\"event\":5,\"number\":6}\n"
			"{\"event\":\"a\",\"number\":-7}\n"
			"{\"event\":\"a\",\"number\":9223372036854775807}\n"
			"{\"left-out\":3}\n"
			"\0\xff\n"
			"[[[[[[[[[[[[[[[[[[[[[[[[\n"
			"\n"
			"{\"event\":\"b\",\"number\":9}";

		colo_events_load(rig->events, text, sizeof(text) - 1);
	}
	assert_int_equal(colo_events_last(rig->events), 9);
	connect_client(rig);
	ask(rig, 0, TRUE);
	await_following(rig);
	assert_string_equal(rig->told->str, "4 9 ");
}

static void a_file_that_cannot_be_written_costs_nothing_else(void **state)
{
	struct rig *rig = *state;

	rig->config.file = "/nonexistent/events.jsonl";
	open_events(rig);
	for (guint i = 0; i < 3000; i++)
		add(rig, "a");
	assert_int_equal(colo_events_last(rig->events), 3000);
}

/* A FIFO without a reader: whoever opens it for writing hangs, as with a dead disk. */
static void a_disk_that_hangs_delays_nobody(void **state)
{
	struct rig *rig = *state;
	gint64 begin;

	assert_int_equal(mkfifo(rig->file, 0600), 0);
	open_events(rig);
	begin = g_get_monotonic_time();
	for (guint i = 0; i < 2000; i++)
		add(rig, "a");
	assert_int_equal(colo_events_last(rig->events), 2000);
	g_clear_pointer(&rig->events, colo_events_free);
	/* The end is waited for, for a second. */
	assert_true(g_get_monotonic_time() - begin >= G_USEC_PER_SEC);
	/* The thread that hangs is let go, and writes what was queued: not all. */
	{
		int fd = open(rig->file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
		char bytes[65536];
		gsize lines = 0;
		gssize got;

		while ((got = read(fd, bytes, sizeof(bytes))) != 0 || !lines) {
			assert_true(g_get_monotonic_time() < end);
			for (gssize i = 0; i < got; i++)
				lines += bytes[i] == '\n';
			if (got <= 0)
				g_usleep(1000);
		}
		assert_in_range(lines, 1000, 1002);
		close(fd);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static GLogWriterOutput quiet(GLogLevelFlags level, const GLogField *fields, gsize n,
			      gpointer data)
{
	return G_LOG_WRITER_HANDLED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_event_is_one_line_of_the_file),
		TEST(what_is_too_long_loses_what_is_extra),
		TEST(what_is_no_text_is_told_as_well_as_can_be),
		TEST(numbers_go_on_after_a_restart),
		TEST(who_follows_gets_each_once),
		TEST(what_is_kept_no_more_is_counted),
		TEST(a_number_of_another_time_gets_what_comes),
		TEST(wrong_arguments_are_refused),
		TEST(the_file_is_bounded),
		TEST(a_damaged_file_gives_what_is_left_of_it),
		TEST(a_file_that_cannot_be_written_costs_nothing_else),
		TEST(a_disk_that_hangs_delays_nobody),
	};

	g_log_set_writer_func(quiet, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
