/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A state directory is known by its host's numbers. */
#include "colo/own_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "colo/error.h"

#define HARDWARE "4C4C4544-0042-4a10-8053-b7c04f4b3332\n"
#define SYSTEM "3d1219c7c4c5404aaa1f6d2a48adfda4\n"

struct scene {
	char *dir, *hardware, *of_system, *mark;
	struct colo_host_numbers numbers;
};

static void say(const char *path, const char *text)
{
	if (text)
		assert_true(g_file_set_contents(path, text, -1, NULL));
	else
		g_remove(path);
}

static int set_up(void **state)
{
	struct scene *scene = g_new0(struct scene, 1);

	scene->dir = g_dir_make_tmp("colo-host-XXXXXX", NULL);
	assert_non_null(scene->dir);
	scene->hardware = g_build_filename(scene->dir, "hardware", NULL);
	scene->of_system = g_build_filename(scene->dir, "system", NULL);
	scene->mark = g_build_filename(scene->dir, "host", NULL);
	scene->numbers = (struct colo_host_numbers){ scene->hardware, scene->of_system };
	say(scene->hardware, HARDWARE);
	say(scene->of_system, SYSTEM);
	*state = scene;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	g_remove(scene->hardware);
	g_remove(scene->of_system);
	g_remove(scene->mark);
	g_rmdir(scene->dir);
	g_free(scene->hardware);
	g_free(scene->of_system);
	g_free(scene->mark);
	g_free(scene->dir);
	g_free(scene);
	return 0;
}

static void is_ours(const struct scene *scene)
{
	g_autoptr(GError) error = NULL;

	if (!colo_own_host(scene->dir, &scene->numbers, &error))
		fail_msg("refused: %s", error->message);
}

static void is_anothers(const struct scene *scene, const char *words)
{
	g_autoptr(GError) error = NULL;

	assert_false(colo_own_host(scene->dir, &scene->numbers, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	assert_non_null(strstr(error->message, words));
	assert_non_null(strstr(error->message, scene->mark));
}

static void a_new_directory_is_marked_and_known_again(void **state)
{
	const struct scene *scene = *state;
	struct stat found;

	is_ours(scene);
	assert_int_equal(stat(scene->mark, &found), 0);
	assert_int_equal(found.st_mode & 0777, 0600);
	is_ours(scene);
}

static void another_hosts_directory_is_refused(void **state)
{
	const struct scene *scene = *state;

	is_ours(scene);
	say(scene->hardware, "00000000-0042-4a10-8053-b7c04f4b3332\n");
	is_anothers(scene, "hardware");
	is_anothers(scene, "of another host");
	say(scene->hardware, HARDWARE);
	is_ours(scene);
}

static void a_system_installed_anew_on_the_same_hardware_is_the_same_host(void **state)
{
	const struct scene *scene = *state;

	is_ours(scene);
	say(scene->of_system, "00000000c4c5404aaa1f6d2a48adfda4\n");
	is_ours(scene);
}

static void without_a_hardware_number_the_systems_counts(void **state)
{
	const struct scene *scene = *state;

	say(scene->hardware, NULL);
	is_ours(scene);
	say(scene->of_system, "00000000c4c5404aaa1f6d2a48adfda4\n");
	is_anothers(scene, "machine id");
	/* What one of the two does not know is no difference. */
	say(scene->of_system, NULL);
	say(scene->hardware, HARDWARE);
	is_ours(scene);
}

static void what_many_boards_say_is_no_hardware_number(void **state)
{
	static const char *const said[] = {
		"03000200-0400-0500-0006-000700080009\n",
		"00020003-0004-0005-0006-000700080009\n",
		"12345678-1234-5678-90AB-CDDEEFAABBCC\n",
		"00000000-0000-0000-0000-000000000000\n",
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
	};
	struct scene *scene = *state;

	for (guint i = 0; i < G_N_ELEMENTS(said); i++) {
		say(scene->hardware, said[i]);
		say(scene->of_system, SYSTEM);
		g_remove(scene->mark);
		is_ours(scene);
		say(scene->of_system, "00000000000000000000000000000001\n");
		is_anothers(scene, "machine id");
	}
}

static void a_host_without_numbers_is_not_judged(void **state)
{
	const struct scene *scene = *state;

	say(scene->hardware, NULL);
	say(scene->of_system, "uninitialized\n");
	is_ours(scene);
	assert_false(g_file_test(scene->mark, G_FILE_TEST_EXISTS));
	say(scene->of_system, "");
	is_ours(scene);
}

static void what_cannot_be_marked_is_no_reason_not_to_start(void **state)
{
	const struct scene *scene = *state;
	g_autoptr(GError) error = NULL;

	assert_true(colo_own_host("/nonexistent/colo", &scene->numbers, &error));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_new_directory_is_marked_and_known_again,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_hosts_directory_is_refused, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			a_system_installed_anew_on_the_same_hardware_is_the_same_host, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(without_a_hardware_number_the_systems_counts,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_many_boards_say_is_no_hardware_number,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_host_without_numbers_is_not_judged, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_cannot_be_marked_is_no_reason_not_to_start,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
