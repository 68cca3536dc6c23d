/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

#define SECOND G_GUINT64_CONSTANT(1000000000)

static void monotonic_time_never_goes_back(void **state)
{
	guint64 before = base_clock_monotonic_ns();

	for (guint i = 0; i < 100000; i++) {
		guint64 now = base_clock_monotonic_ns();

		assert_true(now >= before);
		before = now;
	}
}

static void both_clocks_move_on_with_time(void **state)
{
	guint64 monotonic = base_clock_monotonic_ns(), tai = base_clock_tai_ns();

	g_usleep(20000);
	assert_true(base_clock_monotonic_ns() - monotonic >= 20000000);
	/* The wall clock may be stepped meanwhile, but not by much on a sane machine.
	 */
	assert_true(base_clock_tai_ns() > tai);
	assert_true(base_clock_tai_ns() - tai < 600 * SECOND);
}

static void tai_is_utc_and_the_offset(void **state)
{
	struct timespec utc;
	guint64 tai = base_clock_tai_ns(), utc_ns;
	int offset = base_clock_tai_offset_s();

	clock_gettime(CLOCK_REALTIME, &utc);
	utc_ns = (guint64)utc.tv_sec * SECOND + (guint64)utc.tv_nsec;
	assert_true(offset >= 0 && offset < 100);
	tai -= (guint64)offset * SECOND;
	assert_true(utc_ns >= tai ? utc_ns - tai < 5 * SECOND
				  : tai - utc_ns < 5 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(monotonic_time_never_goes_back),
		cmocka_unit_test(both_clocks_move_on_with_time),
		cmocka_unit_test(tai_is_utc_and_the_offset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
