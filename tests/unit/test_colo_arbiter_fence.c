/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arbiters that keep no records: a fence agent, none with a survivor, manual. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "tests/unit/fake_etcd.h"

static char *folder, *agent, *secrets;
static colo_pair pair;

static int make_folder(void **state)
{
	folder = g_dir_make_tmp("colo-fence-XXXXXX", NULL);
	agent = g_build_filename(folder, "fence_test", NULL);
	secrets = g_build_filename(folder, "secrets", NULL);
	return 0;
}

static int remove_folder(void **state)
{
	const char *const argv[] = { "rm", "-rf", folder, NULL };

	g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
		     NULL, NULL, NULL);
	g_free(folder);
	g_free(agent);
	g_free(secrets);
	return 0;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	g_unlink(path);
	assert_true(g_file_set_contents(path, text, -1, NULL));
	assert_int_equal(chmod(path, mode), 0);
}

/* Its folder is $D. */
static void write_agent(const char *script)
{
	g_autofree char *text =
		g_strdup_printf("#!/bin/sh\nD=%s\n%s\n", folder, script);

	write_file(agent, text, 0755);
}

static int reset(void **state)
{
	pair = (colo_pair){
		.name = (char *)"shop",
		.node = { { .name = (char *)"alpha", .plug = (char *)"outlet1" },
			  { .name = (char *)"beta", .plug = (char *)"outlet2" } },
		.arbiter = { .kind = COLO_ARBITER_FENCE,
			     .timeout_ms = 50000,
			     .agent = agent,
			     .agent_action = (char *)"off" },
	};
	return 0;
}

static char *read_file(const char *name)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	char *text = NULL;

	g_file_get_contents(path, &text, NULL, NULL);
	return text;
}

static void claim(colo_arbiter *arbiter, struct test_answer *answer)
{
	test_answer_clear(answer);
	arbiter->ops->claim(arbiter, 7, test_told, answer);
	test_wait(answer);
}

static void expect_failure(const char *why)
{
	g_autoptr(colo_arbiter) arbiter = colo_arbiter_new(&pair, 0, NULL);
	struct test_answer answer = { 0 };

	assert_non_null(arbiter);
	claim(arbiter, &answer);
	assert_int_equal(answer.verdict, COLO_VERDICT_UNREACHABLE);
	assert_false(answer.has_record);
	if (!strstr(answer.why, why))
		fail_msg("\"%s\" does not say \"%s\"", answer.why, why);
	test_answer_clear(&answer);
}

static void an_agent_that_succeeds_grants_and_is_told_all_on_stdin(void **state)
{
	char *options[] = { (char *)"ip=192.0.2.1", (char *)"plug=wrong", NULL };
	g_autofree char *input = NULL, *words = NULL, *environment = NULL;
	g_autoptr(colo_arbiter) arbiter = NULL;
	struct test_answer answer = { 0 };

	g_setenv("COLO_CANARY", "canary", TRUE);
	write_file(secrets, "# for the switch\npassword=c0ffee\n\nlogin=colo", 0600);
	write_agent("cat >$D/input\necho $# \"$@\" >$D/words\nenv >$D/environment\n"
		    "echo noise; echo noise >&2");
	pair.arbiter.agent_options = options;
	pair.arbiter.agent_secrets = secrets;
	arbiter = colo_arbiter_new(&pair, 0, NULL);
	assert_non_null(arbiter);
	assert_false(arbiter->ops->keeps_records);
	assert_string_equal(arbiter->ops->name, "fence");
	for (guint i = 0; i < 2; i++) {
		claim(arbiter, &answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
		assert_true(answer.has_record && answer.record.solo);
		assert_int_equal(answer.record.owner, 0);
		assert_int_equal(answer.record.generation, 8);
		assert_null(answer.why);
	}
	input = read_file("input");
	assert_string_equal(input, "ip=192.0.2.1\nplug=wrong\n# for the switch\n"
				   "password=c0ffee\n\nlogin=colo\naction=off\n"
				   "plug=outlet2\nnodename=beta\n");
	words = read_file("words");
	assert_string_equal(words, "0\n");
	environment = read_file("environment");
	assert_null(strstr(environment, "canary"));
	assert_null(strstr(environment, "c0ffee"));
	assert_non_null(strstr(environment, "PATH="));
	test_answer_clear(&answer);
	g_unsetenv("COLO_CANARY");
}

static void a_node_without_a_plug_is_called_by_its_name(void **state)
{
	g_autoptr(colo_arbiter) arbiter = NULL;
	g_autofree char *input = NULL;
	struct test_answer answer = { 0 };

	pair.node[0].plug = NULL;
	pair.arbiter.agent_action = (char *)"reboot";
	write_agent("cat >$D/input");
	arbiter = colo_arbiter_new(&pair, 1, NULL);
	claim(arbiter, &answer);
	assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
	assert_int_equal(answer.record.owner, 1);
	input = read_file("input");
	assert_string_equal(input, "action=reboot\nplug=alpha\nnodename=alpha\n");
	test_answer_clear(&answer);
}

static void an_agent_that_fails_grants_nothing_and_its_last_line_is_told(void **state)
{
	write_agent("echo first >&2; echo 'Unable to connect\x1b[31m' >&2; exit 3");
	expect_failure("fence_test for beta: exit status 3: Unable to connect?[31m");
	/* Its status alone counts, whatever it says and however much. */
	write_agent("exec 1>&2; echo Success: Powered OFF; exit 1");
	expect_failure("exit status 1: Success: Powered OFF");
	write_agent(
		"head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; "
		"exit 2");
	expect_failure("exit status 2: ");
	write_agent("kill -9 $$");
	expect_failure("killed by signal 9");
	write_agent("exit 1");
	expect_failure("exit status 1");
	/* It closes its stdin unread. */
	write_agent("exec <&-; exit 4");
	expect_failure("exit status 4");
	g_unlink(agent);
	write_file(agent, "no program\n", 0755);
	expect_failure("Exec format error");
}

static void a_secret_that_an_agent_prints_is_not_told(void **state)
{
	write_file(secrets, "password=c0ffee\n", 0600);
	pair.arbiter.agent_secrets = secrets;
	write_agent("echo login with c0ffee failed >&2; exit 1");
	expect_failure("exit status 1: (what it said has a secret in it)");
}

/* Whether the process whose number is in a file is no more. */
static gboolean is_gone(const char *name)
{
	g_autofree char *text = read_file(name);
	g_autofree char *path = NULL;
	g_autofree char *stat = NULL;
	pid_t pid;

	assert_non_null(text);
	pid = atoi(text);
	assert_true(pid > 1);
	if (kill(pid, 0) && errno == ESRCH)
		return TRUE;
	/* An orphan that nobody waits for is as good as gone. */
	path = g_strdup_printf("/proc/%d/stat", pid);
	return !g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z ");
}

static void await_gone(const char *name)
{
	for (guint i = 0; !is_gone(name); i++) {
		assert_true(i < 3000);
		g_main_context_iteration(NULL, FALSE);
		g_usleep(10000);
	}
}

static void await_file(const char *name)
{
	for (guint i = 0;; i++) {
		g_autofree char *text = read_file(name);

		if (text && strchr(text, '\n'))
			return;
		assert_true(i < 3000);
		g_usleep(10000);
	}
}

static void an_agent_that_hangs_is_killed_with_its_children(void **state)
{
	pair.arbiter.timeout_ms = 3000;
	write_agent("trap '' TERM HUP INT\nsleep 1000 &\necho $! >$D/child\necho $$ "
		    ">$D/self\n"
		    "wait\nsleep 1000");
	expect_failure("not done after 3000 ms, killed");
	await_gone("self");
	await_gone("child");
	/* Nor does it matter that a child keeps its stderr open. */
	pair.arbiter.timeout_ms = 50000;
	write_agent("sleep 1000 </dev/null >/dev/null &\necho $! >$D/child\necho why "
		    ">&2\nexit 5");
	expect_failure("exit status 5: why");
	g_autofree char *child = read_file("child");

	kill(atoi(child), SIGKILL);
}

static void what_is_cancelled_or_freed_is_killed_and_not_heard_of(void **state)
{
	g_autoptr(colo_arbiter) arbiter = colo_arbiter_new(&pair, 0, NULL);
	g_autofree char *self = g_build_filename(folder, "self", NULL);
	struct test_answer answer = { 0 };

	write_agent("echo $$ >$D/self\nexec sleep 1000");
	for (guint i = 0; i < 2; i++) {
		g_unlink(self);
		arbiter->ops->claim(arbiter, 7, test_told, &answer);
		await_file("self");
		if (i)
			colo_arbiter_free(g_steal_pointer(&arbiter));
		else
			arbiter->ops->cancel(arbiter);
		await_gone("self");
		assert_false(answer.told);
	}
	/* All of them were waited for. */
	for (guint i = 0; waitpid(-1, NULL, WNOHANG | WNOWAIT) != -1; i++) {
		assert_true(i < 3000);
		g_main_context_iteration(NULL, FALSE);
		g_usleep(10000);
	}
	assert_false(answer.told);
}

static void no_descriptor_is_left(void **state)
{
	g_autoptr(colo_arbiter) arbiter = NULL;
	struct test_answer answer = { 0 };
	g_autofree char *list = NULL;
	int before = -1;

	write_agent("exec ls /proc/self/fd >$D/list");
	arbiter = colo_arbiter_new(&pair, 0, NULL);
	for (guint i = 0; i < 10; i++) {
		int now;

		claim(arbiter, &answer);
		now = dup(0);
		assert_true(now >= 0);
		close(now);
		if (before < 0)
			before = now;
		assert_int_equal(now, before);
	}
	test_answer_clear(&answer);
	/* The agent has 0 to 2, and ls what it reads. */
	list = read_file("list");
	assert_string_equal(list, "0\n1\n2\n3\n");
}

static void expect_refused(const char *why)
{
	g_autoptr(GError) error = NULL;

	assert_null(colo_arbiter_new(&pair, 0, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	if (!strstr(error->message, why))
		fail_msg("\"%s\" does not say \"%s\"", error->message, why);
}

static void what_cannot_be_used_is_refused_at_once(void **state)
{
	char *no_value[] = { (char *)"ip", NULL };
	char *two_lines[] = { (char *)"ip=1\naction=on", NULL };
	g_autofree char *huge = g_strnfill(20000, 'x');
	char *too_long[] = { NULL, NULL };
	g_autofree char *option = g_strconcat("ip=", huge, NULL);

	write_agent("exit 0");
	pair.arbiter.agent_options = no_value;
	expect_refused("\"ip\" must be name=value");
	pair.arbiter.agent_options = two_lines;
	expect_refused("must be name=value");
	too_long[0] = option;
	pair.arbiter.agent_options = too_long;
	expect_refused("longer than 16384 bytes");
	pair.arbiter.agent_options = NULL;
	write_file(secrets, "password=c0ffee\n", 0640);
	pair.arbiter.agent_secrets = secrets;
	expect_refused("has mode 0640");
	write_file(secrets, huge, 0600);
	expect_refused("longer than 4096 bytes");
	g_unlink(secrets);
	expect_refused("No such file");
	pair.arbiter.agent_secrets = NULL;
	pair.arbiter.agent = (char *)"fence_that_does_not_exist";
	expect_refused("fence_that_does_not_exist");
}

static void records_are_not_kept(void **state)
{
	const enum colo_arbiter_kind kinds[] = { COLO_ARBITER_FENCE, COLO_ARBITER_NONE,
						 COLO_ARBITER_MANUAL };

	write_agent("exit 0");
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		g_autoptr(colo_arbiter) arbiter = NULL;
		struct test_answer answer = { 0 };

		pair.arbiter.kind = kinds[i];
		arbiter = colo_arbiter_new(&pair, 1, NULL);
		assert_false(arbiter->ops->keeps_records);
		arbiter->ops->read(arbiter, test_told, &answer);
		test_wait(&answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_NO_RECORD);
		test_answer_clear(&answer);
		arbiter->ops->create(arbiter, 5, FALSE, test_told, &answer);
		test_wait(&answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
		assert_true(answer.record.solo && answer.record.owner == 1);
		assert_int_equal(answer.record.generation, 1);
		test_answer_clear(&answer);
		arbiter->ops->create(arbiter, 5, TRUE, test_told, &answer);
		test_wait(&answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
		assert_int_equal(answer.record.generation, 5);
		test_answer_clear(&answer);
		arbiter->ops->protect(arbiter, 5, test_told, &answer);
		test_wait(&answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
		assert_false(answer.record.solo);
		test_answer_clear(&answer);
		/* Unheard. */
		arbiter->ops->read(arbiter, test_told, &answer);
		arbiter->ops->cancel(arbiter);
		while (g_main_context_iteration(NULL, FALSE))
			;
		assert_false(answer.told);
		arbiter->ops->read(arbiter, test_told, &answer);
		colo_arbiter_free(g_steal_pointer(&arbiter));
		while (g_main_context_iteration(NULL, FALSE))
			;
		assert_false(answer.told);
	}
}

static void only_the_survivor_goes_on_without_an_arbiter(void **state)
{
	pair.arbiter.kind = COLO_ARBITER_NONE;
	pair.arbiter.survivor = 1;
	for (guint self = 0; self < COLO_NODES; self++) {
		g_autoptr(colo_arbiter) arbiter = colo_arbiter_new(&pair, self, NULL);
		struct test_answer answer = { 0 };

		assert_string_equal(arbiter->ops->name, "none");
		claim(arbiter, &answer);
		if (self == 1) {
			assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
			assert_true(answer.record.solo && answer.record.owner == 1);
			assert_int_equal(answer.record.generation, 8);
		} else {
			assert_int_equal(answer.verdict, COLO_VERDICT_UNKNOWN);
			assert_non_null(
				strstr(answer.why, "only beta may go on alone"));
			assert_non_null(strstr(answer.why, "colo promote --force"));
		}
		test_answer_clear(&answer);
	}
}

static void with_manual_the_operator_is_asked(void **state)
{
	pair.arbiter.kind = COLO_ARBITER_MANUAL;
	for (guint self = 0; self < COLO_NODES; self++) {
		g_autoptr(colo_arbiter) arbiter = colo_arbiter_new(&pair, self, NULL);
		struct test_answer answer = { 0 };

		assert_string_equal(arbiter->ops->name, "manual");
		claim(arbiter, &answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_UNKNOWN);
		assert_non_null(strstr(answer.why, self ? "if alpha is surely off"
							: "if beta is surely off"));
		test_answer_clear(&answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			an_agent_that_succeeds_grants_and_is_told_all_on_stdin, reset),
		cmocka_unit_test_setup(a_node_without_a_plug_is_called_by_its_name,
				       reset),
		cmocka_unit_test_setup(
			an_agent_that_fails_grants_nothing_and_its_last_line_is_told,
			reset),
		cmocka_unit_test_setup(a_secret_that_an_agent_prints_is_not_told,
				       reset),
		cmocka_unit_test_setup(an_agent_that_hangs_is_killed_with_its_children,
				       reset),
		cmocka_unit_test_setup(
			what_is_cancelled_or_freed_is_killed_and_not_heard_of, reset),
		cmocka_unit_test_setup(no_descriptor_is_left, reset),
		cmocka_unit_test_setup(what_cannot_be_used_is_refused_at_once, reset),
		cmocka_unit_test_setup(records_are_not_kept, reset),
		cmocka_unit_test_setup(only_the_survivor_goes_on_without_an_arbiter,
				       reset),
		cmocka_unit_test_setup(with_manual_the_operator_is_asked, reset),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
