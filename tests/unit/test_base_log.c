/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines: which are written, and what they look like. Each is written by a child,
 * since a process chooses its log writer once. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"

#define LINES 200

/* What JOURNAL_STREAM says of a child. */
enum stream { NO_JOURNAL, JOURNAL, OTHER_JOURNAL };

static void set_journal(enum stream stream)
{
	struct stat st;
	g_autofree char *text = NULL;

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	text = g_strdup_printf("%ju:%ju", (uintmax_t)st.st_dev,
			       (uintmax_t)st.st_ino + (stream == OTHER_JOURNAL));
	if (stream == NO_JOURNAL)
		g_unsetenv("JOURNAL_STREAM");
	else
		g_setenv("JOURNAL_STREAM", text, TRUE);
}

/* What a child writes that does `fn` after base_log_init(); its exit status to
 * `status`. */
static char *written(int verbosity, enum stream stream, void (*fn)(void), int *status)
{
	GString *text = g_string_new(NULL);
	char bytes[512];
	gssize got;
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		struct rlimit no_core = { 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		signal(SIGTRAP, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		set_journal(stream);
		base_log_init("prog", verbosity);
		fn();
		_exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], bytes, sizeof(bytes))) > 0)
		g_string_append_len(text, bytes, got);
	close(ends[0]);
	assert_int_equal(waitpid(child, status, 0), child);
	return g_string_free(text, FALSE);
}

static void all_levels(void)
{
	g_critical("one");
	g_warning("two");
	g_message("three");
	g_info("four");
	g_debug("five");
}

static void verbosity_decides_what_is_shown(void **state)
{
	static const guint shown[] = { 3, 4, 5 };

	for (int verbosity = 0; verbosity < 3; verbosity++) {
		int status;
		g_autofree char *text =
			written(verbosity, NO_JOURNAL, all_levels, &status);
		g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

		assert_int_equal(status, 0);
		assert_int_equal(g_strv_length(lines), shown[verbosity] + 1);
	}
}

static void a_line_says_when_who_how_bad_and_what(void **state)
{
	static const char *const ends[] = { " prog critical: one", " prog warning: two",
					    " prog notice: three", " prog info: four",
					    " prog debug: five" };
	int status;
	g_autofree char *text = written(2, NO_JOURNAL, all_levels, &status);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
		assert_true(g_regex_match_simple("^\\d\\d:\\d\\d:\\d\\d\\.\\d\\d\\d ",
						 lines[i], 0, 0));
		assert_string_equal(lines[i] + 12, ends[i]);
	}
}

static void under_systemd_lines_carry_their_priority(void **state)
{
	int status;
	g_autofree char *text = written(2, JOURNAL, all_levels, &status);

	assert_string_equal(text, "<2>prog: one\n<4>prog: two\n<5>prog: three\n"
				  "<6>prog: four\n<7>prog: five\n");
}

static void a_journal_that_is_not_on_stderr_does_not_count(void **state)
{
	int status;
	g_autofree char *text = written(0, OTHER_JOURNAL, all_levels, &status);

	assert_non_null(strstr(text, " prog critical: one\n"));
	assert_null(strstr(text, "<2>"));
}

static void fatal(void)
{
	g_error("lost");
}

static void a_fatal_error_is_written_and_ends_the_program(void **state)
{
	int status;
	g_autofree char *text = written(0, JOURNAL, fatal, &status);

	assert_string_equal(text, "<2>prog: lost\n");
	assert_true(WIFSIGNALED(status));
}

static void *write_lines(void *data)
{
	for (guint i = 0; i < LINES; i++)
		g_warning("%s", (const char *)data);
	return NULL;
}

static void two_writers(void)
{
	GThread *other = g_thread_new("other", write_lines, (char *)"aaaaaaaaaaaaaaaa");

	write_lines((char *)"bbbbbbbbbbbbbbbb");
	g_thread_join(other);
}

static void lines_of_several_threads_do_not_mix(void **state)
{
	int status;
	g_autofree char *text = written(0, JOURNAL, two_writers, &status);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	assert_int_equal(g_strv_length(lines), 2 * LINES + 1);
	for (guint i = 0; i < 2 * LINES; i++)
		assert_true(!strcmp(lines[i], "<4>prog: aaaaaaaaaaaaaaaa") ||
			    !strcmp(lines[i], "<4>prog: bbbbbbbbbbbbbbbb"));
}

static void an_owned_descriptor_is_closed_at_the_end_of_its_scope(void **state)
{
	int ends[2], kept;

	assert_int_equal(pipe(ends), 0);
	{
		base_autofd int owned = ends[0];
		base_autofd int given_away = ends[1];

		kept = base_fd_steal(&given_away);
		assert_int_equal(given_away, -1);
		assert_int_equal(owned, ends[0]);
	}
	assert_int_equal(close(ends[0]), -1);
	assert_int_equal(close(kept), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verbosity_decides_what_is_shown),
		cmocka_unit_test(a_line_says_when_who_how_bad_and_what),
		cmocka_unit_test(under_systemd_lines_carry_their_priority),
		cmocka_unit_test(a_journal_that_is_not_on_stderr_does_not_count),
		cmocka_unit_test(a_fatal_error_is_written_and_ends_the_program),
		cmocka_unit_test(lines_of_several_threads_do_not_mix),
		cmocka_unit_test(an_owned_descriptor_is_closed_at_the_end_of_its_scope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
