/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Programs that are looked after: shells that do what a test needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/child.h"
#include "colo/pair.h"

struct rig {
	char *dir, *log;
	const char *argv[5];
	struct colo_child_config config;
	colo_child *child;
	guint ends;
	struct colo_child_end end;
	char *words;
};

static void ended(void *data, const struct colo_child_end *end)
{
	struct rig *rig = data;

	rig->ends++;
	rig->end = *end;
	g_free(rig->words);
	rig->words = g_strdup(end->words);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->dir = g_dir_make_tmp("colo-child-XXXXXX", NULL);
	rig->log = g_build_filename(rig->dir, "log", NULL);
	rig->argv[0] = "/bin/sh";
	rig->argv[1] = "-c";
	rig->config = (struct colo_child_config){ .name = "test",
						  .argv = rig->argv,
						  .run_dir = rig->dir,
						  .log = rig->log,
						  .fd = -1 };
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const files[] = { "log", "log.1", "test.pid", "more" };
	struct rig *rig = *state;

	colo_child_free(rig->child);
	for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *path = g_build_filename(rig->dir, files[i], NULL);

		g_unlink(path);
	}
	assert_int_equal(g_rmdir(rig->dir), 0);
	g_free(rig->dir);
	g_free(rig->log);
	g_free(rig->words);
	g_free(rig);
	return 0;
}

static void start(struct rig *rig, const char *script)
{
	g_autoptr(GError) error = NULL;

	g_clear_pointer(&rig->child, colo_child_free);
	rig->argv[2] = script;
	rig->child = colo_child_start(&rig->config, ended, rig, &error);
	if (!rig->child)
		fail_msg("%s", error->message);
}

static gboolean wake(gpointer data)
{
	return G_SOURCE_CONTINUE;
}

static char *read_file(struct rig *rig, const char *name)
{
	g_autofree char *path = g_build_filename(rig->dir, name, NULL);
	char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return g_strdup("");
	return text;
}

/* Turns the main loop until it has ended as often, or (`text`) until its log says so.
 */
static void await(struct rig *rig, guint ends, const char *text)
{
	gint64 end = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
	guint ticks = g_timeout_add(10, wake, NULL);

	for (;;) {
		g_autofree char *log = read_file(rig, "log");

		if (text ? strstr(log, text) != NULL : rig->ends >= ends)
			break;
		if (g_get_monotonic_time() > end)
			fail_msg("ends=%u, log: %s", rig->ends, log);
		g_main_context_iteration(NULL, TRUE);
	}
	g_source_remove(ticks);
}

static gboolean is_alive(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
	g_autofree char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) && !strstr(text, ") Z");
}

static void its_exit_status_is_told(void **state)
{
	struct rig *rig = *state;

	start(rig, "exit 3");
	await(rig, 1, NULL);
	assert_int_equal(rig->end.how, COLO_CHILD_EXITED);
	assert_int_equal(rig->end.status, 3);
	assert_string_equal(rig->words, "exit status 3");
	/* It is reaped, and nothing is left to be found. */
	assert_int_equal(waitpid(colo_child_pid(rig->child), NULL, WNOHANG), -1);
	assert_null(colo_child_adopt(&rig->config, ended, rig, NULL));
}

static void the_signal_that_killed_it_is_told(void **state)
{
	struct rig *rig = *state;

	start(rig, "kill -9 $$");
	await(rig, 1, NULL);
	assert_int_equal(rig->end.how, COLO_CHILD_KILLED);
	assert_int_equal(rig->end.status, 9);
	assert_string_equal(rig->words, "killed by signal 9 (Killed)");
}

static void a_program_that_is_not_there_is_told_as_such(void **state)
{
	struct rig *rig = *state;
	g_autofree char *log = NULL;

	rig->argv[0] = "/nonexistent/program";
	start(rig, NULL);
	await(rig, 1, NULL);
	assert_int_equal(rig->end.how, COLO_CHILD_NOT_EXECUTED);
	assert_string_equal(rig->words,
			    "could not be executed: No such file or directory");
	log = read_file(rig, "log");
	assert_string_equal(log, "/nonexistent/program: No such file or directory\n");
}

static void what_it_says_is_appended_to_its_log(void **state)
{
	struct rig *rig = *state;
	g_autofree char *log = NULL;

	start(rig, "echo one; echo two >&2");
	await(rig, 1, NULL);
	start(rig, "cat; echo three");
	await(rig, 2, NULL);
	log = read_file(rig, "log");
	assert_string_equal(log, "one\ntwo\nthree\n");
}

static void a_log_that_is_too_long_is_begun_anew_at_a_start(void **state)
{
	struct rig *rig = *state;
	g_autofree char *log = NULL, *old = NULL;

	rig->config.log_bytes = 10;
	start(rig, "echo 0123456789");
	await(rig, 1, NULL);
	start(rig, "echo new");
	await(rig, 2, NULL);
	log = read_file(rig, "log");
	old = read_file(rig, "log.1");
	assert_string_equal(log, "new\n");
	assert_string_equal(old, "0123456789\n");
}

static void a_log_that_grows_too_long_is_emptied_while_it_runs(void **state)
{
	struct rig *rig = *state;
	g_autofree char *old = NULL, *log = NULL;

	rig->config.log_bytes = 10;
	/* $0 is the log: the shell waits for it to be empty. */
	rig->argv[3] = rig->log;
	start(rig,
	      "echo abcdefghij; while test -s $0; do sleep 0.02; done; echo after");
	await(rig, 0, "abcdefghij");
	colo_child_trim_log(rig->child);
	colo_child_trim_log(rig->child);
	await(rig, 1, NULL);
	log = read_file(rig, "log");
	old = read_file(rig, "log.1");
	assert_string_equal(log, "after\n");
	assert_non_null(strstr(old, "abcdefghij\n"));
}

static void it_gets_a_descriptor_and_no_other(void **state)
{
	struct rig *rig = *state;
	int ends[2], stray = open("/dev/zero", O_RDONLY);
	char word[6] = "";

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends),
			 0);
	rig->config.fd = ends[1];
	rig->config.fd_number = 7;
	/* Not in a pipe: a shell's own ends of it could be seen. */
	start(rig, "echo hello >&7; exec ls -l /proc/self/fd");
	await(rig, 1, NULL);
	assert_int_equal(recv(ends[0], word, sizeof(word), MSG_DONTWAIT), 6);
	assert_memory_equal(word, "hello\n", 6);
	{
		g_autofree char *log = read_file(rig, "log");
		guint count = 0;

		for (const char *at = log; (at = strstr(at, " -> ")); at++)
			count++;
		assert_null(strstr(log, "zero"));
		/* 0, 1, 2 and 7, and that of the folder that is read. */
		assert_int_equal(count, 5);
	}
	close(ends[0]);
	close(ends[1]);
	close(stray);
}

static void its_descriptor_may_have_its_number_already(void **state)
{
	struct rig *rig = *state;
	int ends[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	rig->config.fd = rig->config.fd_number = ends[1];
	{
		g_autofree char *script = g_strdup_printf("printf x >&%d", ends[1]);

		start(rig, script);
	}
	await(rig, 1, NULL);
	assert_int_equal(recv(ends[0], &byte, 1, MSG_DONTWAIT), 1);
	close(ends[0]);
	close(ends[1]);
}

static void its_environment_is_clean(void **state)
{
	static const char *const more[] = { "COLO_X=a b=c", NULL };
	struct rig *rig = *state;
	g_autofree char *log = NULL;

	g_setenv("COLO_TEST_SECRET", "x", TRUE);
	g_setenv("LANG", "C", TRUE);
	rig->config.environment = more;
	rig->argv[0] = "/usr/bin/env";
	rig->argv[1] = NULL;
	start(rig, NULL);
	await(rig, 1, NULL);
	log = read_file(rig, "log");
	assert_null(strstr(log, "SECRET"));
	assert_non_null(strstr(log, "COLO_X=a b=c\n"));
	assert_non_null(strstr(log, "PATH="));
	assert_non_null(strstr(log, "LANG=C\n"));
	assert_null(strstr(log, "HOME="));
}

static void it_has_a_session_and_signals_of_its_own(void **state)
{
	struct rig *rig = *state;
	sigset_t blocked;
	pid_t pid;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	rig->config.set_oom_score = TRUE;
	rig->config.oom_score_adj = 77;
	start(rig, "cat /proc/self/oom_score_adj; echo up; sleep 100");
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
	await(rig, 0, "77\nup\n");
	pid = colo_child_pid(rig->child);
	assert_int_equal(getsid(pid), pid);
	assert_int_equal(getpgid(pid), pid);
	colo_child_terminate(rig->child, 30000);
	await(rig, 1, NULL);
	assert_int_equal(rig->end.status, SIGTERM);
}

static void one_that_does_not_end_when_told_is_killed(void **state)
{
	struct rig *rig = *state;

	start(rig, "trap '' TERM; echo up; while :; do sleep 0.05; done");
	await(rig, 0, "up");
	colo_child_terminate(rig->child, 30);
	await(rig, 1, NULL);
	assert_int_equal(rig->end.how, COLO_CHILD_KILLED);
	assert_int_equal(rig->end.status, SIGKILL);
}

static void one_that_is_stopped_is_killed_too(void **state)
{
	struct rig *rig = *state;

	start(rig, "echo up; kill -STOP $$; sleep 100");
	await(rig, 0, "up");
	colo_child_kill(rig->child);
	await(rig, 1, NULL);
	assert_int_equal(rig->end.status, SIGKILL);
}

static void what_it_leaves_in_its_group_is_killed(void **state)
{
	struct rig *rig = *state;
	g_autofree char *log = NULL;
	pid_t left;

	start(rig, "sleep 1000 & echo $!");
	await(rig, 1, NULL);
	log = read_file(rig, "log");
	left = atoi(log);
	assert_true(left > 1);
	for (guint i = 0; i < 1000 && is_alive(left); i++)
		g_usleep(10000);
	assert_false(is_alive(left));
}

/* As after a restart of colod: the first child's struct is forgotten, its process runs
 * on. */
static void one_that_runs_is_adopted(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;
	pid_t pid;

	start(rig, "echo up; sleep 1000; :");
	await(rig, 0, "up");
	pid = colo_child_pid(rig->child);
	g_clear_pointer(&rig->child, colo_child_free);
	assert_true(is_alive(pid));
	rig->child = colo_child_adopt(&rig->config, ended, rig, &error);
	assert_non_null(rig->child);
	assert_true(colo_child_is_adopted(rig->child));
	assert_int_equal(colo_child_pid(rig->child), pid);
	while (g_main_context_iteration(NULL, FALSE))
		;
	assert_int_equal(rig->ends, 0);
	colo_child_kill(rig->child);
	await(rig, 1, NULL);
	assert_int_equal(rig->end.how, COLO_CHILD_UNSEEN);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	g_clear_pointer(&rig->child, colo_child_free);
	assert_null(colo_child_adopt(&rig->config, ended, rig, &error));
	assert_null(error);
}

/* The pid file of a child that runs, with one of its words replaced. */
static void with_pid_file(struct rig *rig, guint word, const char *text)
{
	g_autofree char *path = g_build_filename(rig->dir, "test.pid", NULL);
	g_autofree char *old = read_file(rig, "test.pid");
	g_auto(GStrv) words = g_strsplit(g_strstrip(old), " ", 0);
	g_autofree char *new = NULL;

	assert_int_equal(g_strv_length(words), 3);
	g_free(words[word]);
	words[word] = g_strdup(text);
	new = g_strjoinv(" ", words);
	assert_true(g_file_set_contents(path, new, -1, NULL));
}

static void another_process_is_not_adopted(void **state)
{
	static const struct {
		guint word;
		const char *text;
	} cases[] = {
		{ 0, "1048576000" }, /* no such number */
		{ 1, "1" }, /* started at another time */
		{ 2, "another-boot" },
	};
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *file = NULL;

		start(rig, "sleep 1000; :");
		with_pid_file(rig, cases[i].word, cases[i].text);
		assert_null(colo_child_adopt(&rig->config, ended, rig, &error));
		assert_null(error);
		file = read_file(rig, "test.pid");
		assert_string_equal(file, "");
		colo_child_kill(rig->child);
		await(rig, i + 1, NULL);
	}
}

static void one_that_was_not_reaped_is_not_adopted(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	start(rig, "echo up; sleep 1000; :");
	await(rig, 0, "up");
	kill(colo_child_pid(rig->child), SIGKILL);
	for (guint i = 0; i < 1000 && is_alive(colo_child_pid(rig->child)); i++)
		g_usleep(10000);
	assert_null(colo_child_adopt(&rig->config, ended, rig, &error));
	assert_null(error);
	await(rig, 1, NULL);
}

static void what_cannot_be_judged_is_an_error_that_says_what_to_do(void **state)
{
	static const char *const damaged[] = { "", "x", "1 2 boot\n", "77777",
					       "-5 5 boot\n" };
	struct rig *rig = *state;
	g_autofree char *path = g_build_filename(rig->dir, "test.pid", NULL);
	g_autoptr(GError) error = NULL;
	const char *other[] = { "/usr/bin/env", NULL };

	for (guint i = 0; i < G_N_ELEMENTS(damaged); i++) {
		assert_true(g_file_set_contents(path, damaged[i], -1, NULL));
		assert_null(colo_child_adopt(&rig->config, ended, rig, &error));
		assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
		assert_non_null(strstr(error->message, "remove"));
		g_clear_error(&error);
	}
	start(rig, "echo up; sleep 1000; :");
	await(rig, 0, "up");
	rig->config.argv = other;
	assert_null(colo_child_adopt(&rig->config, ended, rig, &error));
	assert_non_null(error);
	assert_non_null(strstr(error->message, "is another program"));
	colo_child_kill(rig->child);
	await(rig, 1, NULL);
}

static void a_pid_file_that_cannot_be_written_is_an_error(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	rig->config.run_dir = "/nonexistent";
	rig->argv[2] = "sleep 1000";
	assert_null(colo_child_start(&rig->config, ended, rig, &error));
	assert_non_null(strstr(error->message, "/nonexistent"));
	/* What was started is killed. */
	assert_true(waitpid(-1, NULL, 0) > 1);
}

static void restarts_come_at_once_then_slower_then_never(void **state)
{
	static const guint wanted[] = { 0, 100, 200, 400, 800 };
	const guint64 second = 1000000000u;
	struct colo_restarts restarts = { .limit = 5 };
	guint64 now = 1000 * second;
	guint after_ms;

	for (guint i = 0; i < 5; i++) {
		assert_true(colo_restarts_next(&restarts, now += second, &after_ms));
		assert_int_equal(after_ms, wanted[i]);
	}
	assert_false(colo_restarts_next(&restarts, now += second, &after_ms));
	/* A minute after the first two of them two more are to be had. */
	assert_true(colo_restarts_next(&restarts, 1062 * second, &after_ms));
	assert_int_equal(after_ms, 400);
	assert_true(colo_restarts_next(&restarts, 1062 * second, &after_ms));
	assert_false(colo_restarts_next(&restarts, 1062 * second, &after_ms));
	assert_true(colo_restarts_next(&restarts, 2000 * second, &after_ms));
	assert_int_equal(after_ms, 0);
	restarts = (struct colo_restarts){ .limit = 0 };
	assert_false(colo_restarts_next(&restarts, now, &after_ms));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(its_exit_status_is_told),
		TEST(the_signal_that_killed_it_is_told),
		TEST(a_program_that_is_not_there_is_told_as_such),
		TEST(what_it_says_is_appended_to_its_log),
		TEST(a_log_that_is_too_long_is_begun_anew_at_a_start),
		TEST(a_log_that_grows_too_long_is_emptied_while_it_runs),
		TEST(it_gets_a_descriptor_and_no_other),
		TEST(its_descriptor_may_have_its_number_already),
		TEST(its_environment_is_clean),
		TEST(it_has_a_session_and_signals_of_its_own),
		TEST(one_that_does_not_end_when_told_is_killed),
		TEST(one_that_is_stopped_is_killed_too),
		TEST(what_it_leaves_in_its_group_is_killed),
		TEST(one_that_runs_is_adopted),
		TEST(another_process_is_not_adopted),
		TEST(one_that_was_not_reaped_is_not_adopted),
		TEST(what_cannot_be_judged_is_an_error_that_says_what_to_do),
		TEST(a_pid_file_that_cannot_be_written_is_an_error),
		cmocka_unit_test(restarts_come_at_once_then_slower_then_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
