/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is told at most once a second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/ratelimit.h"

static void the_first_is_told_and_the_next_second_says_how_many_were_not(void **state)
{
	struct base_ratelimit limit = { 0 };
	guint left_out = 99;

	assert_true(base_ratelimit_pass(&limit, &left_out));
	assert_int_equal(left_out, 0);
	for (guint i = 0; i < 3; i++)
		assert_false(base_ratelimit_pass(&limit, &left_out));
	g_usleep(1050000);
	assert_true(base_ratelimit_pass(&limit, &left_out));
	assert_int_equal(left_out, 3);
	assert_false(base_ratelimit_pass(&limit, &left_out));
}

static void the_count_of_those_left_out_does_not_wrap(void **state)
{
	struct base_ratelimit limit = { .next_ns = G_MAXUINT64, .left_out = G_MAXUINT };
	guint left_out;

	assert_false(base_ratelimit_pass(&limit, &left_out));
	assert_int_equal(limit.left_out, G_MAXUINT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_first_is_told_and_the_next_second_says_how_many_were_not),
		cmocka_unit_test(the_count_of_those_left_out_does_not_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
