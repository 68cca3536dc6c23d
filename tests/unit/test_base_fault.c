/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Labelled steps at which tests let something happen: that it happens there, then, and once. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

/* The library has the other build of it. */
#include "base/fault.c"

#define US "test_base_fault"

char **base_fault_points(void)
{
	static const char *const kinds[] = { "disk write", "bye", NULL };
	GPtrArray *points = g_ptr_array_new();

	g_ptr_array_add(points, g_strdup("first"));
	g_ptr_array_add(points, g_strdup("second"));
	base_fault_add(points, "sent", kinds);
	g_ptr_array_add(points, NULL);
	return (char **)g_ptr_array_free(points, FALSE);
}

struct place {
	char *dir, *file, *reached, *tell, *seen;
};

static struct place *make_place(void)
{
	struct place *place = g_new0(struct place, 1);

	place->dir = g_dir_make_tmp("colo-fault-XXXXXX", NULL);
	assert_non_null(place->dir);
	place->file = g_build_filename(place->dir, "faults", NULL);
	place->reached = g_strconcat(place->file, ".reached", NULL);
	place->tell = g_strconcat(place->file, ".tell", NULL);
	place->seen = g_strconcat(place->file, ".seen", NULL);
	return place;
}

static void remove_place(struct place *place)
{
	unlink(place->file);
	unlink(place->reached);
	unlink(place->tell);
	unlink(place->seen);
	assert_int_equal(rmdir(place->dir), 0);
	g_free(place->dir);
	g_free(place->file);
	g_free(place->reached);
	g_free(place->tell);
	g_free(place->seen);
	g_free(place);
}

static void arm(const struct place *place, const char *line)
{
	assert_true(g_file_set_contents(place->file, line, -1, NULL));
}

static gboolean exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static pid_t begin(const struct place *place, const char *environment, const char *const *steps)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	g_setenv("COLO_FAULT_FILE", place->file, TRUE);
	if (environment)
		g_setenv("COLO_FAULT", environment, TRUE);
	for (; *steps; steps++)
		base_fault(*steps);
	_exit(0);
}

static int end(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	return status;
}

/* How a process ended that reached these steps, one after the other. */
static int reach(const struct place *place, const char *environment, const char *first,
		 const char *second)
{
	const char *const steps[] = { first, second, NULL };

	return end(begin(place, environment, steps));
}

static gboolean was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void a_process_dies_at_the_step_that_its_environment_names(void **state)
{
	struct place *place = make_place();

	assert_true(was_killed(reach(place, "first", "first", NULL)));
	assert_true(was_killed(reach(place, "second", "first", "second")));
	assert_int_equal(reach(place, "second", "first", "first"), 0);
	assert_true(was_killed(reach(place, "first:2", "first", "first")));
	assert_int_equal(reach(place, "first:2", "first", "second"), 0);
	remove_place(place);
}

static void a_step_armed_by_the_file_acts_once_whatever_is_started_anew(void **state)
{
	struct place *place = make_place();

	arm(place, US " second 1 kill\n");
	assert_int_equal(reach(place, NULL, "first", "first"), 0);
	assert_true(exists(place->file));
	assert_true(was_killed(reach(place, NULL, "first", "second")));
	assert_false(exists(place->file));
	assert_true(exists(place->reached));
	assert_int_equal(reach(place, NULL, "first", "second"), 0);
	remove_place(place);
}

static void a_file_that_arms_another_programs_step_is_left_alone(void **state)
{
	struct place *place = make_place();

	arm(place, "colod first 1 kill\n");
	assert_int_equal(reach(place, NULL, "first", "second"), 0);
	assert_true(exists(place->file));
	remove_place(place);
}

static void a_process_can_be_stopped_there_and_goes_on(void **state)
{
	struct place *place = make_place();
	const char *const steps[] = { "first", NULL };
	pid_t pid;
	int status;

	arm(place, US " first 1 stop\n");
	pid = begin(place, NULL, steps);
	status = end(pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(end(pid), 0);
	remove_place(place);
}

static void whoever_is_told_keeps_it_there_for_as_long_as_they_like(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct place *place = make_place();
	const char *const steps[] = { "first", NULL };
	g_autofree char *expected = NULL;
	char line[128] = "";
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), talking, status;
	pid_t pid;

	g_strlcpy(address.sun_path, place->tell, sizeof(address.sun_path));
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listening, 1), 0);
	arm(place, US " first 1 tell\n");
	pid = begin(place, NULL, steps);
	talking = accept(listening, NULL, NULL);
	assert_true(read(talking, line, sizeof(line) - 1) > 0);
	expected = g_strdup_printf(US " first %d\n", (int)pid);
	assert_string_equal(line, expected);
	g_usleep(50000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	close(talking);
	assert_int_equal(end(pid), 0);
	close(listening);
	remove_place(place);
}

static void what_was_reached_is_noted_once_where_somebody_wants_to_know(void **state)
{
	static const char *const kinds[] = { "first", "second", "first", "sent-disk-write",
					     "first", NULL };
	struct place *place = make_place();
	g_autofree char *seen = NULL;

	assert_true(g_file_set_contents(place->seen, "", 0, NULL));
	assert_int_equal(end(begin(place, NULL, kinds)), 0);
	assert_true(g_file_get_contents(place->seen, &seen, NULL, NULL));
	assert_string_equal(seen, US " first\n" US " second\n" US " sent-disk-write\n");
	remove_place(place);
}

static void what_no_table_has_is_no_step(void **state)
{
	struct place *place = make_place();
	int status;

	assert_int_equal(dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2), 2);
	status = reach(place, NULL, "third", NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	arm(place, US " third 1 kill\n");
	status = reach(place, NULL, "first", NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	arm(place, US " first 1 dance\n");
	status = reach(place, NULL, "first", NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	remove_place(place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_dies_at_the_step_that_its_environment_names),
		cmocka_unit_test(a_step_armed_by_the_file_acts_once_whatever_is_started_anew),
		cmocka_unit_test(a_file_that_arms_another_programs_step_is_left_alone),
		cmocka_unit_test(a_process_can_be_stopped_there_and_goes_on),
		cmocka_unit_test(whoever_is_told_keeps_it_there_for_as_long_as_they_like),
		cmocka_unit_test(what_was_reached_is_noted_once_where_somebody_wants_to_know),
		cmocka_unit_test(what_no_table_has_is_no_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
