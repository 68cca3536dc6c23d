/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control protocol and its socket, with a fake in place of the machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/control.h"
#include "kvm/error.h"
#include "kvm/protocol.h"

/* Writes down what it is asked; answers at once unless it is told to wait. */
struct fake {
	GString *asked; /* "status pause save(/x) " */
	gboolean wait;
	vmm_answer *waiting;
	const char *error_code; /* answer with this error */
};

static void fake_run(void *data, enum vmm_command command, const char *path,
		     vmm_answer *answer)
{
	struct fake *fake = data;

	g_string_append(fake->asked, vmm_protocol_command(command));
	if (path)
		g_string_append_printf(fake->asked, "(%s)", path);
	g_string_append_c(fake->asked, ' ');
	if (fake->wait) {
		assert_null(fake->waiting);
		fake->waiting = answer;
	} else if (fake->error_code) {
		vmm_answer_error(answer, fake->error_code, "no\xff");
	} else {
		JsonObject *result = json_object_new();

		json_object_set_string_member(result, "did",
					      vmm_protocol_command(command));
		vmm_answer_ok(answer, result);
	}
}

struct bench {
	struct fake fake;
	vmm_table *commands;
	base_protocol *protocol;
	base_client *client;
	GString *sent;
};

static void collect(void *data, const char *line, gsize len)
{
	assert_int_equal(line[len - 1], '\n');
	assert_null(memchr(line, '\n', len - 1));
	g_string_append_len(data, line, (gssize)len);
}

static int set_up(void **state)
{
	struct bench *bench = g_new0(struct bench, 1);
	struct vmm_commands commands = { &bench->fake, fake_run };

	bench->fake.asked = g_string_new(NULL);
	bench->sent = g_string_new(NULL);
	bench->commands = vmm_table_new(&commands);
	bench->protocol = base_protocol_new(vmm_table_commands(bench->commands));
	bench->client = base_client_new(bench->protocol, collect, bench->sent);
	*state = bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	base_protocol_free(bench->protocol);
	vmm_table_free(bench->commands);
	g_string_free(bench->sent, TRUE);
	g_string_free(bench->fake.asked, TRUE);
	g_free(bench);
	return 0;
}

static gboolean input(struct bench *bench, const char *text)
{
	g_string_truncate(bench->sent, 0);
	g_string_truncate(bench->fake.asked, 0);
	return base_client_input(bench->client, text, strlen(text));
}

/* The request is answered with an error of this code, and nobody was asked anything. */
static void is_refused(struct bench *bench, const char *request, const char *code)
{
	g_autofree char *line = g_strconcat(request, "\n", NULL);
	g_autofree char *want = g_strdup_printf("\"code\":\"%s\"", code);

	assert_true(input(bench, line));
	if (!strstr(bench->sent->str, want) ||
	    !strstr(bench->sent->str, "\"ok\":false"))
		fail_msg("%s: %s", request, bench->sent->str);
	assert_string_equal(bench->fake.asked->str, "");
}

static void a_request_is_answered_with_its_id(void **state)
{
	struct bench *bench = *state;

	assert_true(input(bench, "{\"id\":7,\"command\":\"status\"}\n"));
	assert_string_equal(bench->fake.asked->str, "status ");
	assert_string_equal(bench->sent->str,
			    "{\"id\":7,\"ok\":true,\"result\":{\"did\":\"status\"}}\n");
	assert_true(input(bench,
			  "{\"command\":\"pause\",\"arguments\":{},\"id\":[\"a\"]}\n"));
	assert_string_equal(
		bench->sent->str,
		"{\"id\":[\"a\"],\"ok\":true,\"result\":{\"did\":\"pause\"}}\n");
	assert_true(input(bench, "{\"command\":\"pause\"}\r\n"));
	assert_non_null(strstr(bench->sent->str, "{\"id\":null,\"ok\":true"));
}

static void every_command_reaches_the_machine(void **state)
{
	struct bench *bench = *state;

	assert_true(input(
		bench, "{\"command\":\"status\"}\n{\"command\":\"pause\"}\n"
		       "{\"command\":\"resume\"}\n{\"command\":\"powerdown\"}\n"
		       "{\"command\":\"save\",\"arguments\":{\"to\":\"/a b\"}}\n"
		       "{\"command\":\"load\",\"arguments\":{\"from\":\"unix:/s\"}}\n"
		       "{\"command\":\"cancel\"}\n{\"command\":\"reset\"}\n"
		       "{\"command\":\"quit\"}\n"));
	assert_string_equal(bench->fake.asked->str,
			    "status pause resume powerdown save(/a b) load(unix:/s) "
			    "cancel reset quit ");
}

static void bytes_may_come_cut_anywhere(void **state)
{
	struct bench *bench = *state;
	const char *text = "{\"command\":\"pause\"}\n\n  \n{\"command\":\"resume\"}\n";

	g_string_truncate(bench->fake.asked, 0);
	for (const char *c = text; *c; c++)
		assert_true(base_client_input(bench->client, c, 1));
	assert_string_equal(bench->fake.asked->str, "pause resume ");
}

static void what_is_no_request_is_refused_and_the_client_kept(void **state)
{
	struct bench *bench = *state;

	is_refused(bench, "hello", "bad-request");
	is_refused(bench, "{\"command\":\"status\"", "bad-request");
	is_refused(bench, "[]", "bad-request");
	is_refused(bench, "{\"command\":\"status\"}{}", "bad-request");
	is_refused(bench, "{\"command\":\"status\"} {\"command\":\"status\"}",
		   "bad-request");
	is_refused(bench, "/* c */{\"command\":\"status\"}", "bad-request");
	is_refused(bench, "{\"command\":/* c */\"status\"}", "bad-request");
	is_refused(bench, "var a = {\"command\":\"status\"};", "bad-request");
	is_refused(bench, "{'command':'status'}", "bad-request");
	is_refused(bench, "{\"command\":\"sta\ttus\"}", "bad-request");
	is_refused(bench, "{\"command\":\"status", "bad-request");
	is_refused(bench, "{\"command\":\"status\\", "bad-request");
	is_refused(bench, "{]", "bad-request");
	is_refused(bench, "{\"id\":\"\\e\",\"command\":\"status\"}", "bad-request");
	is_refused(bench, "{\"id\":\"\\u12\",\"command\":\"status\"}", "bad-request");
	is_refused(bench, "{\"id\":\"\\udc00\",\"command\":\"status\"}", "bad-request");
	is_refused(bench, "{\"id\":\"\\ud800\\u0041\",\"command\":\"status\"}",
		   "bad-request");
	is_refused(bench, "\"status\"", "bad-request");
	is_refused(bench, "17", "bad-request");
	is_refused(bench, "{}", "bad-request");
	is_refused(bench, "{\"command\":5}", "bad-request");
	is_refused(bench, "{\"command\":null}", "bad-request");
	is_refused(bench, "{\"command\":[\"status\"]}", "bad-request");
	is_refused(bench, "{\"command\":\"status\",\"extra\":1}", "bad-request");
	is_refused(bench, "{\"command\":\"status\",\"arguments\":[]}", "bad-request");
	is_refused(bench, "{\"command\":\"status\",\"arguments\":{\"to\":\"x\"}}",
		   "bad-request");
	is_refused(bench, "{\"command\":\"save\"}", "bad-request");
	is_refused(bench, "{\"command\":\"save\",\"arguments\":{}}", "bad-request");
	is_refused(bench, "{\"command\":\"save\",\"arguments\":{\"to\":\"\"}}",
		   "bad-request");
	is_refused(bench, "{\"command\":\"save\",\"arguments\":{\"to\":7}}",
		   "bad-request");
	is_refused(bench, "{\"command\":\"save\",\"arguments\":{\"to\":null}}",
		   "bad-request");
	is_refused(bench,
		   "{\"command\":\"save\",\"arguments\":{\"to\":\"a\",\"from\":\"b\"}}",
		   "bad-request");
	is_refused(bench,
		   "{\"command\":\"save\",\"arguments\":{\"to\":\"/a\\u0000b\"}}",
		   "bad-request");
	is_refused(bench, "{\"command\":\"status\xff\"}", "bad-request");
	is_refused(bench, "{\"command\":\"status\",\"id\":1e400}", "bad-request");
	is_refused(bench, "{\"command\":\"status\",\"id\":\"\\ud800\"}", "bad-request");
	is_refused(bench, "{\"command\":\"\"}", "unknown-command");
	is_refused(bench, "{\"command\":\"Status\"}", "unknown-command");
	is_refused(bench, "{\"command\":\"format\"}", "unknown-command");
	assert_true(input(bench, "{\"command\":\"status\"}\n"));
	assert_string_equal(bench->fake.asked->str, "status ");
}

static void proper_escapes_pass(void **state)
{
	struct bench *bench = *state;

	assert_true(input(
		bench,
		"{\"command\":\"save\",\"arguments\":{\"to\":\"/\\u0061\\ud83d\\ude00"
		"\\\"\\\\\\/\\n\\u00e9[{\xc3\xa9\"}}\n"));
	assert_string_equal(bench->fake.asked->str,
			    "save(/a\xf0\x9f\x98\x80\"\\/\n\xc3\xa9[{\xc3\xa9) ");
}

static void a_nul_byte_is_refused(void **state)
{
	struct bench *bench = *state;
	static const char line[] = "{\"command\":\"status\"}\0\n";

	assert_true(base_client_input(bench->client, line, sizeof(line) - 1));
	assert_non_null(strstr(bench->sent->str, "bad-request"));
}

static void deep_nesting_is_refused_before_it_is_parsed(void **state)
{
	struct bench *bench = *state;
	GString *line = g_string_new("{\"id\":");

	for (guint i = 0; i < 20000; i++)
		g_string_append_c(line, '[');
	for (guint i = 0; i < 20000; i++)
		g_string_append_c(line, ']');
	g_string_append(line, ",\"command\":\"status\"}");
	is_refused(bench, line->str, "bad-request");
	assert_non_null(strstr(bench->sent->str, "nested too deeply"));
	g_string_free(line, TRUE);
}

static void a_line_that_is_too_long_ends_the_client(void **state)
{
	struct bench *bench = *state;
	g_autofree char *most = g_strnfill(BASE_CONTROL_LINE_MAX - 1, ' ');
	g_autofree char *more = g_strnfill(BASE_CONTROL_LINE_MAX + 1, ' ');

	assert_true(input(bench, most));
	assert_true(input(bench, "\n"));
	assert_string_equal(bench->sent->str, "");
	assert_false(input(bench, more));
	assert_non_null(strstr(bench->sent->str, "longer than 65536 bytes"));
}

static void an_error_keeps_its_code_and_its_text_is_made_valid(void **state)
{
	struct bench *bench = *state;

	bench->fake.error_code = "busy";
	assert_true(input(bench, "{\"id\":1,\"command\":\"pause\"}\n"));
	assert_string_equal(bench->sent->str,
			    "{\"id\":1,\"ok\":false,\"error\":{\"code\":\"busy\","
			    "\"message\":\"no\xef\xbf\xbd\"}}\n");
}

static void errors_of_the_machine_have_their_codes(void **state)
{
	static const struct {
		enum vmm_error error;
		const char *code;
	} cases[] = {
		{ VMM_ERROR_HOST, "\"failed\"" },
		{ VMM_ERROR_MODE, "\"wrong-state\"" },
		{ VMM_ERROR_STATE, "\"refused\"" },
		{ VMM_ERROR_CONFIG, "\"refused\"" },
	};
	struct bench *bench = *state;

	bench->fake.wait = TRUE;
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		assert_true(input(bench, "{\"command\":\"pause\"}\n"));
		vmm_answer_gerror(g_steal_pointer(&bench->fake.waiting),
				  g_error_new(VMM_ERROR, (int)cases[i].error, "why"));
		assert_non_null(strstr(bench->sent->str, cases[i].code));
	}
}

static void a_late_answer_waits_for_nobody(void **state)
{
	struct bench *bench = *state;
	vmm_answer *first;

	bench->fake.wait = TRUE;
	assert_true(input(bench, "{\"id\":1,\"command\":\"pause\"}\n"));
	assert_string_equal(bench->sent->str, "");
	first = g_steal_pointer(&bench->fake.waiting);
	assert_true(base_client_expects(bench->client));
	assert_true(input(bench, "{\"id\":2,\"command\":\"pause\"}\n"));
	vmm_answer_ok(g_steal_pointer(&bench->fake.waiting), NULL);
	assert_string_equal(bench->sent->str, "{\"id\":2,\"ok\":true,\"result\":{}}\n");
	base_client_free(bench->client);
	vmm_answer_ok(first, json_object_new());
	assert_string_equal(bench->sent->str, "{\"id\":2,\"ok\":true,\"result\":{}}\n");
}

static void events_go_to_those_who_asked(void **state)
{
	struct bench *bench = *state;

	base_protocol_event(bench->protocol, "panic", vmm_event_fields(NULL, NULL));
	assert_string_equal(bench->sent->str, "");
	assert_false(base_client_expects(bench->client));
	assert_true(input(bench, "{\"command\":\"events\"}\n"));
	assert_string_equal(bench->fake.asked->str, "");
	assert_true(base_client_expects(bench->client));
	g_string_truncate(bench->sent, 0);
	base_protocol_event(bench->protocol, "disk-error",
			    vmm_event_fields("vda", "read: \"\n\xfe"));
	assert_true(g_str_has_prefix(bench->sent->str,
				     "{\"event\":\"disk-error\",\"time\":"));
	assert_non_null(strstr(
		bench->sent->str,
		",\"device\":\"vda\",\"detail\":\"read: \\\"\\n\xef\xbf\xbd\"}"));
}

/* The socket */

struct served {
	struct fake fake;
	char *dir, *path;
	vmm_table *commands;
	base_control *control;
};

static int serve_set_up(void **state)
{
	struct served *served = g_new0(struct served, 1);
	struct vmm_commands commands = { &served->fake, fake_run };
	g_autoptr(GError) error = NULL;

	served->fake.asked = g_string_new(NULL);
	served->dir = g_dir_make_tmp("colo-control-XXXXXX", NULL);
	served->path = g_build_filename(served->dir, "s", NULL);
	served->commands = vmm_table_new(&commands);
	served->control = base_control_new(
		served->path, vmm_table_commands(served->commands), &error);
	if (!served->control)
		fail_msg("%s", error->message);
	*state = served;
	return 0;
}

static int serve_tear_down(void **state)
{
	struct served *served = *state;

	base_control_free(served->control);
	vmm_table_free(served->commands);
	assert_int_equal(g_access(served->path, F_OK), -1);
	g_rmdir(served->dir);
	g_free(served->dir);
	g_free(served->path);
	g_string_free(served->fake.asked, TRUE);
	g_free(served);
	return 0;
}

static int join(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 5 };

	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void turn_loop(void)
{
	while (g_main_context_iteration(NULL, FALSE))
		;
}

/* What comes on `fd` up to a newline, or what came before its end. */
static char *next_line(int fd)
{
	GString *line = g_string_new(NULL);
	char c;

	turn_loop();
	while (recv(fd, &c, 1, 0) == 1 && c != '\n')
		g_string_append_c(line, c);
	return g_string_free(line, FALSE);
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void the_socket_is_for_its_owner_and_answers(void **state)
{
	struct served *served = *state;
	g_autofree char *line = NULL;
	int fd = join(served->path);
	struct stat st;

	assert_int_equal(stat(served->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	say(fd, "{\"id\":1,\"command\":\"status\"}\n");
	line = next_line(fd);
	assert_string_equal(line,
			    "{\"id\":1,\"ok\":true,\"result\":{\"did\":\"status\"}}");
	close(fd);
	turn_loop();
}

static void a_second_server_is_refused_and_a_stale_socket_replaced(void **state)
{
	struct served *served = *state;
	const struct base_commands *commands = vmm_table_commands(served->commands);
	g_autofree char *stale = g_build_filename(served->dir, "t", NULL);
	g_autofree char *file = g_build_filename(served->dir, "f", NULL);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	g_autoptr(GError) error = NULL;
	base_control *second;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_null(base_control_new(served->path, commands, &error));
	assert_non_null(strstr(error->message, "in use by another process"));
	g_clear_error(&error);

	g_strlcpy(address.sun_path, stale, sizeof(address.sun_path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	second = base_control_new(stale, commands, &error);
	assert_non_null(second);
	base_control_free(second);
	assert_int_equal(g_access(stale, F_OK), -1);

	assert_true(g_file_set_contents(file, "x", 1, NULL));
	assert_null(base_control_new(file, commands, &error));
	assert_non_null(strstr(error->message, "is not a socket"));
	assert_int_equal(g_access(file, F_OK), 0);
	g_unlink(file);
}

static void a_path_that_cannot_be_is_refused(void **state)
{
	struct base_commands commands = { 0 };
	g_autofree char *longest = g_strnfill(200, 'x');
	const char *const paths[] = { "", longest, "/nonexistent/dir/s" };

	for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
		g_autoptr(GError) error = NULL;

		assert_null(base_control_new(paths[i], &commands, &error));
		assert_non_null(error);
	}
}

static void a_client_that_leaves_at_once_is_still_obeyed(void **state)
{
	struct served *served = *state;
	int fd = join(served->path);

	say(fd, "{\"command\":\"pause\"}\n{\"command\":\"quit\"}\n");
	close(fd);
	turn_loop();
	assert_string_equal(served->fake.asked->str, "pause quit ");
}

static void a_client_that_ends_its_sending_still_gets_a_late_answer(void **state)
{
	struct served *served = *state;
	g_autofree char *line = NULL, *nothing = NULL;
	int fd = join(served->path);

	served->fake.wait = TRUE;
	say(fd, "{\"id\":1,\"command\":\"pause\"}\n");
	shutdown(fd, SHUT_WR);
	turn_loop();
	vmm_answer_ok(g_steal_pointer(&served->fake.waiting), NULL);
	line = next_line(fd);
	assert_string_equal(line, "{\"id\":1,\"ok\":true,\"result\":{}}");
	nothing = next_line(fd);
	assert_string_equal(nothing, "");
	close(fd);
}

static void a_client_that_goes_before_its_answer_does_no_harm(void **state)
{
	struct served *served = *state;
	int fd = join(served->path);

	served->fake.wait = TRUE;
	say(fd, "{\"id\":1,\"command\":\"pause\"}\n");
	turn_loop();
	close(fd);
	turn_loop();
	vmm_answer_ok(g_steal_pointer(&served->fake.waiting), NULL);
	turn_loop();
}

static void clients_past_the_limit_are_told_so(void **state)
{
	struct served *served = *state;
	int fds[BASE_CONTROL_CLIENTS_MAX], extra;
	g_autofree char *line = NULL;

	for (guint i = 0; i < BASE_CONTROL_CLIENTS_MAX; i++) {
		fds[i] = join(served->path);
		say(fds[i], "what\n");
		turn_loop();
	}
	extra = join(served->path);
	line = next_line(extra);
	assert_non_null(strstr(line, "too many clients"));
	close(extra);
	for (guint i = 0; i < BASE_CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
	turn_loop();
	extra = join(served->path);
	say(extra, "{\"command\":\"pause\"}\n");
	turn_loop();
	assert_string_equal(served->fake.asked->str, "pause ");
	close(extra);
}

static void clients_that_say_nothing_make_room(void **state)
{
	struct served *served = *state;
	int fds[3 * BASE_CONTROL_CLIENTS_MAX], extra;

	for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
		fds[i] = join(served->path);
		turn_loop();
	}
	extra = join(served->path);
	say(extra, "{\"command\":\"pause\"}\n");
	turn_loop();
	assert_string_equal(served->fake.asked->str, "pause ");
	close(extra);
	for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
		close(fds[i]);
}

static void a_subscriber_that_does_not_read_is_dropped(void **state)
{
	struct served *served = *state;
	g_autofree char *detail = g_strnfill(4000, 'd');
	g_autofree char *line = NULL;
	int deaf = join(served->path), other = join(served->path);
	char byte;

	say(deaf, "{\"command\":\"events\"}\n");
	turn_loop();
	for (guint i = 0; i < 400; i++)
		base_control_event(served->control, "panic",
				   vmm_event_fields(NULL, detail));
	turn_loop();
	/* It reads what the socket held, then the end; the other is served as ever. */
	while (recv(deaf, &byte, 1, 0) == 1)
		;
	assert_int_equal(recv(deaf, &byte, 1, 0), 0);
	say(other, "{\"command\":\"status\"}\n");
	line = next_line(other);
	assert_non_null(strstr(line, "\"ok\":true"));
	close(deaf);
	close(other);
}

static void one_that_asks_without_reading_stops_only_itself(void **state)
{
	static const char request[] = "{\"command\":\"status\"}\n";
	struct served *served = *state;
	int fd = join(served->path);
	guint asked = 0, answered = 0;
	char byte;

	for (;;) {
		gssize done =
			send(fd, request, strlen(request), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (done < (gssize)strlen(request)) {
			assert_true(done > 0 || errno == EAGAIN);
			/* All of it was taken, or none: a stream that stands still. */
			turn_loop();
			done = done > 0 ? 0
					: send(fd, request, strlen(request),
					       MSG_NOSIGNAL | MSG_DONTWAIT);
			if (done < (gssize)strlen(request))
				break;
		}
		asked++;
	}
	assert_true(asked > 1000);
	for (guint quiet = 0; quiet < 3;) {
		turn_loop();
		if (recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
			answered += byte == '\n';
			quiet = 0;
		} else {
			quiet++;
		}
	}
	assert_true(answered >= asked);
	close(fd);
}

static void an_oversized_line_is_answered_and_the_connection_closed(void **state)
{
	struct served *served = *state;
	g_autofree char *text = g_strnfill(BASE_CONTROL_LINE_MAX + 100, 'x');
	g_autofree char *line = NULL, *nothing = NULL;
	int fd = join(served->path);

	say(fd, text);
	line = next_line(fd);
	assert_non_null(strstr(line, "longer than"));
	nothing = next_line(fd);
	assert_string_equal(nothing, "");
	close(fd);
}

static void every_command_is_in_the_manual(void **state)
{
	g_autofree char *manual = NULL;
	const char *name;

	if (!g_file_get_contents("docs/colo-vm.1", &manual, NULL, NULL))
		fail_msg("docs/colo-vm.1: run this test from the top of the tree");
	for (guint i = 0; (name = vmm_protocol_command(i)); i++) {
		g_autofree char *item = g_strdup_printf("\n.It Cm %s", name);
		const char *at = strstr(manual, item);

		if (!at || g_ascii_isalpha(at[strlen(item)]))
			fail_msg("%s is not in docs/colo-vm.1", name);
	}
}

#define PROTOCOL(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define SOCKET(f) cmocka_unit_test_setup_teardown(f, serve_set_up, serve_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROTOCOL(a_request_is_answered_with_its_id),
		PROTOCOL(every_command_reaches_the_machine),
		PROTOCOL(bytes_may_come_cut_anywhere),
		PROTOCOL(what_is_no_request_is_refused_and_the_client_kept),
		PROTOCOL(proper_escapes_pass),
		PROTOCOL(a_nul_byte_is_refused),
		PROTOCOL(deep_nesting_is_refused_before_it_is_parsed),
		PROTOCOL(a_line_that_is_too_long_ends_the_client),
		PROTOCOL(an_error_keeps_its_code_and_its_text_is_made_valid),
		PROTOCOL(errors_of_the_machine_have_their_codes),
		PROTOCOL(a_late_answer_waits_for_nobody),
		PROTOCOL(events_go_to_those_who_asked),
		SOCKET(the_socket_is_for_its_owner_and_answers),
		SOCKET(a_second_server_is_refused_and_a_stale_socket_replaced),
		cmocka_unit_test(a_path_that_cannot_be_is_refused),
		SOCKET(a_client_that_leaves_at_once_is_still_obeyed),
		SOCKET(a_client_that_ends_its_sending_still_gets_a_late_answer),
		SOCKET(a_client_that_goes_before_its_answer_does_no_harm),
		SOCKET(clients_past_the_limit_are_told_so),
		SOCKET(clients_that_say_nothing_make_room),
		SOCKET(a_subscriber_that_does_not_read_is_dropped),
		SOCKET(one_that_asks_without_reading_stops_only_itself),
		SOCKET(an_oversized_line_is_answered_and_the_connection_closed),
		cmocka_unit_test(every_command_is_in_the_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
