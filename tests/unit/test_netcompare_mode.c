/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "netcompare/mode.h"

#define SECOND_NS G_GINT64_CONSTANT(1000000000)

struct scene {
	ncmp_mode *mode;
	struct ncmp_mode_figures figures;
	gint64 now_ns;
	guint changes;
};

static struct scene begin(enum ncmp_mode_choice choice)
{
	return (struct scene){ .mode = ncmp_mode_new(choice), .now_ns = 7 * SECOND_NS };
}

/* A second in which so many packets of 100 waited for a checkpoint. */
static gboolean second(struct scene *scene, guint percent, guint divergences)
{
	gboolean changed;

	scene->now_ns += SECOND_NS;
	scene->figures.committed += percent;
	scene->figures.matched += 100 - percent;
	scene->figures.divergences += divergences;
	changed = ncmp_mode_judge(scene->mode, &scene->figures, scene->now_ns);
	scene->changes += changed;
	return changed;
}

/* How long it stays as it is, at most `max` seconds. */
static guint stays(struct scene *scene, guint percent, guint divergences, guint max)
{
	gboolean before = ncmp_mode_compares(scene->mode);
	guint n = 0;

	while (n < max && ncmp_mode_compares(scene->mode) == before) {
		second(scene, percent, divergences);
		n++;
	}
	return n;
}

static void a_pair_that_agrees_is_compared_for_ever(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	assert_true(second(&scene, 2, 0));
	assert_int_equal(stays(&scene, 2, 1, 1000), 1000);
	assert_int_equal(scene.changes, 1);
	ncmp_mode_free(scene.mode);
}

static void a_pair_that_always_diverges_is_buffered_and_it_is_said_why(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	assert_in_range(stays(&scene, 87, 10, 100), NCMP_MODE_WINDOW_S,
			NCMP_MODE_WINDOW_S + 2);
	assert_non_null(
		strstr(ncmp_mode_why(scene.mode),
		       "87 % of packets waited for a checkpoint in the last 5 s"));
	ncmp_mode_free(scene.mode);
}

static void comparing_is_tried_again_after_a_growing_pause(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);
	guint pause, last = 0, pauses = 0;

	for (guint i = 0; i < 12; i++) {
		assert_true(stays(&scene, 95, 10, 100) < 10);
		assert_false(ncmp_mode_compares(scene.mode));
		pause = stays(&scene, 100, 0, 10000);
		assert_true(ncmp_mode_compares(scene.mode));
		assert_true(pause >= last);
		assert_true(pause <= NCMP_MODE_PAUSE_MAX_S + 1);
		pauses += pause > last;
		last = pause;
	}
	assert_true(pauses >= 6);
	ncmp_mode_free(scene.mode);
}

static void a_try_that_pays_is_kept_and_the_pause_is_short_again(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	for (guint i = 0; i < 4; i++) {
		stays(&scene, 95, 10, 100);
		stays(&scene, 100, 0, 10000);
	}
	assert_int_equal(stays(&scene, 5, 1, 300), 300);
	stays(&scene, 95, 10, 100);
	assert_true(stays(&scene, 100, 0, 10000) <= NCMP_MODE_PAUSE_MIN_S + 1);
	ncmp_mode_free(scene.mode);
}

static void in_between_it_stays_as_it_is_but_a_try_fails(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	assert_int_equal(stays(&scene, 70, 10, 200), 200);
	stays(&scene, 95, 10, 100);
	stays(&scene, 100, 0, 10000);
	assert_true(stays(&scene, 70, 10, 200) < 10);
	ncmp_mode_free(scene.mode);
}

static void few_packets_say_nothing(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	for (guint i = 0; i < 4; i++) {
		scene.now_ns += SECOND_NS;
		scene.figures.committed += 5;
		scene.figures.divergences++;
		ncmp_mode_judge(scene.mode, &scene.figures, scene.now_ns);
		assert_true(ncmp_mode_compares(scene.mode));
	}
	ncmp_mode_free(scene.mode);
}

static void waiting_without_divergence_is_no_reason(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	assert_int_equal(stays(&scene, 100, 0, 100), 100);
	ncmp_mode_free(scene.mode);
}

static void what_was_asked_for_stays(void **state)
{
	struct scene colo = begin(NCMP_MODE_COLO), buffered = begin(NCMP_MODE_BUFFERED);

	assert_int_equal(stays(&colo, 100, 50, 100), 100);
	assert_int_equal(stays(&buffered, 0, 0, 1000), 1000);
	assert_true(ncmp_mode_compares(colo.mode));
	assert_false(ncmp_mode_compares(buffered.mode));
	assert_int_equal(colo.changes, 1);
	ncmp_mode_free(colo.mode);
	ncmp_mode_free(buffered.mode);
}

static void after_a_restart_it_is_said_again(void **state)
{
	struct scene scene = begin(NCMP_MODE_AUTO);

	second(&scene, 0, 0);
	assert_false(second(&scene, 0, 0));
	ncmp_mode_restart(scene.mode);
	assert_true(second(&scene, 0, 0));
	ncmp_mode_free(scene.mode);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pair_that_agrees_is_compared_for_ever),
		cmocka_unit_test(
			a_pair_that_always_diverges_is_buffered_and_it_is_said_why),
		cmocka_unit_test(comparing_is_tried_again_after_a_growing_pause),
		cmocka_unit_test(a_try_that_pays_is_kept_and_the_pause_is_short_again),
		cmocka_unit_test(in_between_it_stays_as_it_is_but_a_try_fails),
		cmocka_unit_test(few_packets_say_nothing),
		cmocka_unit_test(waiting_without_divergence_is_no_reason),
		cmocka_unit_test(what_was_asked_for_stays),
		cmocka_unit_test(after_a_restart_it_is_said_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
