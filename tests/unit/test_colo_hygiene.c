/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process with secrets does first, each time in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/hygiene.h"

/* Runs it in a child, which answers with the number of the first thing that is wrong.
 */
static void is_fine(int (*judge)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(judge());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static gboolean is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int judge_limits(void)
{
	struct rlimit limit;

	if (!colo_hygiene(NULL, NULL))
		return 1;
	if (getrlimit(RLIMIT_CORE, &limit) < 0 || limit.rlim_cur || limit.rlim_max)
		return 2;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 3;
	return umask(0) == 077 ? 0 : 4;
}

static void no_core_files_and_nothing_for_others(void **state)
{
	is_fine(judge_limits);
}

static int judge_strays(void)
{
	const int keep[] = { 50, 3, 20, 21, -1 };

	for (int fd = 3; fd < 60; fd++)
		if (dup2(0, fd) != fd)
			return 1;
	if (!colo_hygiene(keep, NULL))
		return 2;
	for (int fd = 0; fd < 60; fd++)
		if (is_open(fd) != (fd < 4 || fd == 20 || fd == 21 || fd == 50))
			return 3;
	return fcntl(20, F_GETFD) == FD_CLOEXEC ? 0 : 4;
}

static void strays_are_closed_and_others_kept(void **state)
{
	is_fine(judge_strays);
}

static int judge_standard(void)
{
	int fd;

	close(1);
	close(2);
	if (!colo_hygiene(NULL, NULL))
		return 1;
	if (!is_open(1) || !is_open(2))
		return 2;
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	return fd > 2 ? 0 : 3;
}

static void closed_standard_descriptors_go_nowhere(void **state)
{
	is_fine(judge_standard);
}

static int judge_missing(void)
{
	const int keep[] = { 900, -1 };
	g_autoptr(GError) error = NULL;

	return !colo_hygiene(keep, &error) && error ? 0 : 1;
}

static void one_to_keep_that_is_not_there_is_an_error(void **state)
{
	is_fine(judge_missing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_core_files_and_nothing_for_others),
		cmocka_unit_test(strays_are_closed_and_others_kept),
		cmocka_unit_test(closed_standard_descriptors_go_nowhere),
		cmocka_unit_test(one_to_keep_that_is_not_there_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
