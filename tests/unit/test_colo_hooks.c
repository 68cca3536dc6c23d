/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hook program: shell scripts that write down what they are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo/hooks.h"
#include "colo/pair.h"

struct rig {
	char *dir, *program, *out;
	struct colo_hooks_config config;
	colo_hooks *hooks;
};

/* What was logged. */
static GString *logged;

static GLogWriterOutput collect(GLogLevelFlags level, const GLogField *fields, gsize n,
				gpointer data)
{
	for (gsize i = 0; i < n; i++)
		if (!strcmp(fields[i].key, "MESSAGE"))
			g_string_append_printf(logged, "%s\n",
					       (const char *)fields[i].value);
	return G_LOG_WRITER_HANDLED;
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	g_string_truncate(logged, 0);
	rig->dir = g_dir_make_tmp("colo-hooks-XXXXXX", NULL);
	assert_int_equal(g_chmod(rig->dir, 0777), 0);
	rig->program = g_build_filename(rig->dir, "hook", NULL);
	rig->out = g_build_filename(rig->dir, "out", NULL);
	rig->config =
		(struct colo_hooks_config){ rig->program, NULL, 30000, "web", "alice" };
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	colo_hooks_free(rig->hooks);
	g_unlink(rig->program);
	g_unlink(rig->out);
	assert_int_equal(g_rmdir(rig->dir), 0);
	g_free(rig->dir);
	g_free(rig->program);
	g_free(rig->out);
	g_free(rig);
	return 0;
}

/* $OUT in the script is the file that it may write. */
static void with_script(struct rig *rig, const char *script)
{
	g_autofree char *text =
		g_strdup_printf("#!/bin/sh\nOUT=%s\n%s\n", rig->out, script);
	g_autoptr(GError) error = NULL;

	assert_true(g_file_set_contents(rig->program, text, -1, NULL));
	assert_int_equal(g_chmod(rig->program, 0755), 0);
	rig->hooks = colo_hooks_new(&rig->config, &error);
	if (!rig->hooks)
		fail_msg("%s", error->message);
}

static void happen(struct rig *rig, const char *name)
{
	const struct colo_told event = { .name = name,
					  .state = "solo",
					  .generation = 7,
					  .detail = "why; $HOME",
					  .number = 3,
					  .time_ms = 1767225600005,
					  .json = "{\"event\":\"x\"}\n" };

	colo_hooks_run(rig->hooks, &event);
}

static gboolean wake(gpointer data)
{
	return G_SOURCE_CONTINUE;
}

static void await_all(struct rig *rig)
{
	gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
	guint ticks = g_timeout_add(10, wake, NULL);

	while (colo_hooks_pending(rig->hooks)) {
		assert_true(g_get_monotonic_time() < end);
		g_main_context_iteration(NULL, TRUE);
	}
	g_source_remove(ticks);
}

static char *written(struct rig *rig)
{
	char *text = NULL;

	return g_file_get_contents(rig->out, &text, NULL, NULL) ? text : g_strdup("");
}

static gboolean is_alive(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
	g_autofree char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) && !strstr(text, ") Z");
}

static void it_is_told_what_happened(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;

	with_script(rig, "{ echo $1 $COLO_EVENT $COLO_PAIR $COLO_NODE $COLO_STATE "
			 "$COLO_GENERATION $COLO_TIME; echo \"$COLO_DETAIL\"; cat; "
			 "echo ${COLO_DROPPED-none} ${LD_PRELOAD-none}; } >$OUT");
	g_setenv("LD_PRELOAD", "", TRUE);
	happen(rig, "promoted");
	await_all(rig);
	out = written(rig);
	assert_string_equal(out, "promoted promoted web alice solo 7 1767225600.005\n"
				 "why; $HOME\n{\"event\":\"x\"}\nnone none\n");
	assert_string_equal(logged->str, "");
}

static void runs_follow_one_another_in_order(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;

	with_script(rig, "echo begin $1 >>$OUT; sleep 0.02; echo end $1 >>$OUT");
	happen(rig, "a");
	happen(rig, "b");
	happen(rig, "c");
	assert_int_equal(colo_hooks_pending(rig->hooks), 3);
	await_all(rig);
	out = written(rig);
	assert_string_equal(out, "begin a\nend a\nbegin b\nend b\nbegin c\nend c\n");
}

static void what_it_says_is_logged_within_bounds(void **state)
{
	struct rig *rig = *state;
	guint lines = 0;

	with_script(rig, "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; "
			 "printf 'end\\001\\377' >&2; exit 3");
	happen(rig, "a");
	await_all(rig);
	for (const char *at = logged->str; (at = strstr(at, "says: ")); at++)
		lines++;
	assert_int_equal(lines, COLO_HOOK_LINES);
	assert_non_null(strstr(logged->str, "hook on a: says: line 32\n"));
	assert_non_null(strstr(logged->str, "said 9 lines more"));
	assert_non_null(strstr(logged->str, "ended with exit status 3"));
	assert_true(g_utf8_validate(logged->str, -1, NULL));
}

static void one_that_talks_without_end_is_ended(void **state)
{
	struct rig *rig = *state;

	rig->config.timeout_ms = 200;
	with_script(rig, "exec cat /dev/zero");
	happen(rig, "a");
	await_all(rig);
	assert_non_null(strstr(logged->str, "had not ended after 200 ms: killed"));
}

static void what_it_forked_is_killed_with_it(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;
	char *end;
	pid_t first, second;

	rig->config.timeout_ms = 1500;
	with_script(rig, "trap '' TERM; sleep 1000 & echo $! >>$OUT\n"
			 "[ $1 = quick ] && exit 0; wait");
	happen(rig, "quick");
	happen(rig, "slow");
	await_all(rig);
	out = written(rig);
	first = (pid_t)strtol(out, &end, 10);
	second = (pid_t)strtol(end, &end, 10);
	assert_true(first > 1 && second > 1);
	for (guint i = 0; i < 1000 && (is_alive(first) || is_alive(second)); i++)
		g_usleep(10000);
	assert_false(is_alive(first));
	assert_false(is_alive(second));
	assert_non_null(strstr(logged->str, "hook on slow: "));
}

static void more_than_can_wait_is_counted(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;

	with_script(rig, "echo $1 ${COLO_DROPPED-0} >>$OUT");
	happen(rig, "a");
	for (guint i = 0; i < COLO_HOOKS_MAX + 5; i++)
		happen(rig, "b");
	assert_int_equal(colo_hooks_pending(rig->hooks), COLO_HOOKS_MAX + 1);
	await_all(rig);
	happen(rig, "c");
	happen(rig, "d");
	await_all(rig);
	out = written(rig);
	assert_true(g_str_has_suffix(out, "b 0\nc 5\nd 0\n"));
}

static void it_runs_as_the_user_that_is_named(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;

	if (geteuid() != 0)
		skip();
	rig->config.user = "nobody";
	with_script(rig, "{ id -un; id -Gn; grep -E 'CapEff|CapPrm|CapAmb|NoNewPrivs' "
			 "/proc/self/status | tr '\\n\\t' '  '; cat; } >$OUT");
	happen(rig, "a");
	await_all(rig);
	out = written(rig);
	assert_true(g_str_has_prefix(out, "nobody\nnogroup\n"));
	assert_non_null(strstr(out, "CapPrm: 0000000000000000 CapEff: 0000000000000000 "
				    "CapAmb: 0000000000000000 NoNewPrivs: 1 "));
	assert_true(g_str_has_suffix(out, "{\"event\":\"x\"}\n"));
}

static void what_cannot_be_run_is_said_at_once_or_logged(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	assert_null(colo_hooks_new(&rig->config, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
	g_clear_error(&error);
	assert_true(g_file_set_contents(rig->program, "#!/bin/sh\n", -1, NULL));
	assert_null(colo_hooks_new(&rig->config, &error));
	assert_non_null(strstr(error->message, "chmod"));
	g_clear_error(&error);
	rig->config.user = "no-such-user";
	assert_null(colo_hooks_new(&rig->config, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	rig->config.user = NULL;
	with_script(rig, "");
	g_unlink(rig->program);
	happen(rig, "a");
	happen(rig, "b");
	await_all(rig);
	assert_non_null(strstr(logged->str, "hook on a: "));
	assert_non_null(strstr(logged->str, "could not be executed: No such file"));
	assert_non_null(strstr(logged->str, "hook on b: "));
}

static void freeing_kills_the_one_that_runs(void **state)
{
	struct rig *rig = *state;
	g_autofree char *out = NULL;
	pid_t pid;

	with_script(rig, "echo $$ >$OUT; sleep 1000");
	happen(rig, "a");
	happen(rig, "b");
	for (;;) {
		g_free(out);
		out = written(rig);
		if (strchr(out, '\n'))
			break;
		g_usleep(1000);
	}
	pid = atoi(out);
	g_clear_pointer(&rig->hooks, colo_hooks_free);
	for (guint i = 0; i < 1000 && is_alive(pid); i++)
		g_usleep(10000);
	assert_false(is_alive(pid));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_is_told_what_happened),
		TEST(runs_follow_one_another_in_order),
		TEST(what_it_says_is_logged_within_bounds),
		TEST(one_that_talks_without_end_is_ended),
		TEST(what_it_forked_is_killed_with_it),
		TEST(more_than_can_wait_is_counted),
		TEST(it_runs_as_the_user_that_is_named),
		TEST(what_cannot_be_run_is_said_at_once_or_logged),
		TEST(freeing_kills_the_one_that_runs),
	};

	logged = g_string_new(NULL);
	g_log_set_writer_func(collect, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
