/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arithmetic of guest time, and its saved form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/clock.h"
#include "kvm/error.h"

#define SECOND G_GUINT64_CONSTANT(1000000000)
#define HALF 0x80000000u /* of 2^32: the multiplier of a 2 GHz counter, unshifted */

static guint64 shown(guint64 stamp, guint64 system_time, guint32 mul, gint8 shift,
		     guint64 tsc)
{
	const struct vmm_pvclock page = { stamp, system_time, mul, shift };

	return vmm_clock_pvclock_ns(&page, tsc);
}

static void a_clock_page_at_its_own_time_stamp_shows_its_system_time(void **state)
{
	assert_int_equal(shown(1000, 77, HALF, 0, 1000), 77);
	assert_int_equal(shown(1000, 77, 0xffffffff, 5, 1000), 77);
}

static void a_clock_page_scales_ticks_to_nanoseconds(void **state)
{
	/* 2 GHz: two ticks are a nanosecond. */
	assert_int_equal(shown(1000, 77, HALF, 0, 1000 + 2000000), 77 + 1000000);
	/* Rounded down. */
	assert_int_equal(shown(0, 0, HALF, 0, 3), 1);
}

static void a_positive_shift_is_for_slow_counters(void **state)
{
	/* 250 MHz: a tick is four nanoseconds, half of 2^3. */
	assert_int_equal(shown(0, 10, HALF, 3, 250), 1010);
	assert_int_equal(shown(0, 0, HALF, 1, 7), 7);
}

static void a_negative_shift_is_for_fast_counters(void **state)
{
	/* 4 GHz: half of a half. The ticks are shifted first, as guests do. */
	assert_int_equal(shown(0, 10, HALF, -1, 4000), 1010);
	assert_int_equal(shown(0, 0, HALF, -1, 7), 1);
}

static void a_clock_page_counts_for_centuries(void **state)
{
	const guint64 year = 365 * 86400 * SECOND;

	/* 3 GHz: 2^32 / 3, and the multiplication does not overflow. */
	guint64 ns = shown(0, 0, 1431655765, 0, 100 * year * 3);

	assert_true(ns > 100 * year - SECOND && ns <= 100 * year);
}

static void a_nonsense_clock_page_does_no_harm(void **state)
{
	static const gint8 shifts[] = { G_MININT8, -64, -63, -32,      0,
					31,	   32,	64,  G_MAXINT8 };

	for (guint i = 0; i < G_N_ELEMENTS(shifts); i++) {
		shown(0, G_MAXUINT64, 0xffffffff, shifts[i], G_MAXUINT64);
		shown(5, 1, 0, shifts[i], 4);
	}
	/* A time stamp in the future counts as now. */
	assert_int_equal(shown(1000, 77, HALF, 0, 999), 77);
	assert_int_equal(shown(0, 5, 0xffffffff, G_MININT8, 1000000), 5);
}

static void ticks_follow_the_frequency(void **state)
{
	assert_int_equal(vmm_clock_ticks(SECOND, 2000000), 2 * SECOND);
	assert_int_equal(vmm_clock_ticks(SECOND, 2999998), 2999998000ull);
	assert_int_equal(vmm_clock_ticks(0, 3000000), 0);
	assert_int_equal(vmm_clock_ticks(SECOND, 0), 0);
	assert_int_equal(vmm_clock_ticks(999, 1000), 0);
	assert_int_equal(vmm_clock_ticks(1000, 1000), 1);
}

static void ticks_saturate(void **state)
{
	assert_int_equal(vmm_clock_ticks(G_MAXUINT64, 1000000), G_MAXUINT64);
	assert_int_equal(vmm_clock_ticks(G_MAXUINT64, 1000001), G_MAXUINT64);
	assert_int_equal(vmm_clock_ticks(G_MAXUINT64, G_MAXUINT), G_MAXUINT64);
	assert_int_equal(vmm_clock_ticks(G_MAXUINT64, 999999),
			 (guint64)((unsigned __int128)G_MAXUINT64 * 999999 / 1000000));
}

static guint64 elapsed(guint64 then, gint32 then_offset, guint64 now, gint32 now_offset,
		       guint64 *ahead)
{
	const struct vmm_clock saved = { .tai_ns = then, .tai_offset_s = then_offset };

	return vmm_clock_elapsed(&saved, now, now_offset, NULL, ahead);
}

static void time_passes_between_hosts_that_both_know_tai(void **state)
{
	guint64 ahead = 1;

	assert_int_equal(elapsed(100 * SECOND, 37, 105 * SECOND, 37, &ahead),
			 5 * SECOND);
	assert_int_equal(ahead, 0);
	/* A leap second in between: TAI does not know it. */
	assert_int_equal(elapsed(100 * SECOND, 37, 105 * SECOND, 38, &ahead),
			 5 * SECOND);
}

static void time_passes_between_hosts_that_both_know_only_utc(void **state)
{
	guint64 ahead = 1;

	assert_int_equal(elapsed(100 * SECOND, 0, 105 * SECOND, 0, &ahead), 5 * SECOND);
	assert_int_equal(ahead, 0);
}

static void where_only_one_host_knows_tai_utc_is_compared(void **state)
{
	guint64 ahead = 1;

	/* Saved as UTC 100 s, loaded at TAI 142 s, which is UTC 105 s. */
	assert_int_equal(elapsed(100 * SECOND, 0, 142 * SECOND, 37, &ahead),
			 5 * SECOND);
	assert_int_equal(ahead, 0);
	/* And the other way around. */
	assert_int_equal(elapsed(137 * SECOND, 37, 105 * SECOND, 0, &ahead),
			 5 * SECOND);
	assert_int_equal(ahead, 0);
}

static void a_state_from_the_future_passes_no_time_and_says_so(void **state)
{
	guint64 ahead = 0;

	assert_int_equal(elapsed(105 * SECOND, 37, 100 * SECOND, 37, &ahead), 0);
	assert_int_equal(ahead, 5 * SECOND);
	assert_int_equal(elapsed(100 * SECOND, 0, 132 * SECOND, 37, &ahead), 0);
	assert_int_equal(ahead, 5 * SECOND);
	assert_int_equal(elapsed(100 * SECOND, 37, 100 * SECOND, 37, &ahead), 0);
	assert_int_equal(ahead, 0);
}

static guint64 elapsed_with(guint64 then, gint32 then_offset, guint64 now,
			    gint32 now_offset, gint64 peer_ns, guint64 *ahead)
{
	const struct vmm_clock saved = { .tai_ns = then, .tai_offset_s = then_offset };

	return vmm_clock_elapsed(&saved, now, now_offset, &peer_ns, ahead);
}

static void a_measured_offset_is_what_counts(void **state)
{
	const gint64 s = 1000000000;
	guint64 ahead = 1;

	/* The other host is an hour ahead: its 3700 s were our 100 s. */
	assert_int_equal(elapsed_with(3700 * SECOND, 37, 105 * SECOND, 37, 3600 * s, &ahead),
			 5 * SECOND);
	assert_int_equal(ahead, 0);
	/* An hour behind, */
	assert_int_equal(elapsed_with(100 * SECOND, 37, 3705 * SECOND, 37, -3600 * s, &ahead),
			 5 * SECOND);
	/* or one of them was never told TAI, which is a part of what was measured. */
	assert_int_equal(elapsed_with(100 * SECOND, 0, 142 * SECOND, 37, -37 * s, &ahead),
			 5 * SECOND);
	assert_int_equal(elapsed_with(137 * SECOND, 37, 105 * SECOND, 0, 37 * s, &ahead),
			 5 * SECOND);
	assert_int_equal(elapsed_with(100 * SECOND, 37, 105 * SECOND, 37, 0, &ahead),
			 5 * SECOND);
	assert_int_equal(ahead, 0);
}

static void a_measured_offset_never_turns_time_back(void **state)
{
	guint64 ahead = 0;

	assert_int_equal(elapsed_with(100 * SECOND, 37, 105 * SECOND, 37,
				      -6 * (gint64)SECOND, &ahead), 0);
	assert_int_equal(ahead, SECOND);
	assert_int_equal(elapsed_with(100, 37, 105, 37, G_MININT64 + 1, &ahead), 0);
	assert_int_equal(ahead, 100);
	assert_int_equal(elapsed_with(100, 37, G_MAXUINT64, 37, G_MAXINT64, &ahead),
			 G_MAXUINT64 - 100);
	assert_int_equal(ahead, 0);
}

static void clocks_are_saved_and_loaded_whole(void **state)
{
	struct vmm_clock clock = { .tai_ns = 1234567890123456789,
				   .tai_offset_s = -3,
				   .tsc_khz = 2999998,
				   .kvmclock_ns = 42,
				   .cpus = 3,
				   .tsc = { 1, G_MAXUINT64, 3 } };
	struct vmm_clock loaded;
	g_autoptr(vmm_state) saved = vmm_state_new();

	memset(&loaded, 0xff, sizeof(loaded));
	vmm_clock_save(&clock, saved);
	assert_true(vmm_clock_load(&loaded, saved, NULL));
	assert_int_equal(loaded.tai_ns, clock.tai_ns);
	assert_int_equal(loaded.tai_offset_s, -3);
	assert_int_equal(loaded.tsc_khz, 2999998);
	assert_int_equal(loaded.kvmclock_ns, 42);
	assert_int_equal(loaded.cpus, 3);
	for (guint i = 0; i < VMM_CPUS_MAX; i++)
		assert_int_equal(loaded.tsc[i], clock.tsc[i]);
}

static void clocks_of_too_many_processors_are_refused(void **state)
{
	guint8 bytes[8 + 8 + 4 + 4 + 4 + 4 + 8 * VMM_CPUS_MAX] = { 0 };
	g_autoptr(vmm_state) saved = vmm_state_new(), none = vmm_state_new();
	g_autoptr(GError) error = NULL, absent = NULL;
	struct vmm_clock loaded;

	bytes[24] = VMM_CPUS_MAX + 1;
	vmm_state_put(saved, "clock", 0, 1, bytes, sizeof(bytes), NULL);
	assert_false(vmm_clock_load(&loaded, saved, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	assert_false(vmm_clock_load(&loaded, none, &absent));
	assert_true(g_error_matches(absent, VMM_ERROR, VMM_ERROR_STATE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_clock_page_at_its_own_time_stamp_shows_its_system_time),
		cmocka_unit_test(a_clock_page_scales_ticks_to_nanoseconds),
		cmocka_unit_test(a_positive_shift_is_for_slow_counters),
		cmocka_unit_test(a_negative_shift_is_for_fast_counters),
		cmocka_unit_test(a_clock_page_counts_for_centuries),
		cmocka_unit_test(a_nonsense_clock_page_does_no_harm),
		cmocka_unit_test(ticks_follow_the_frequency),
		cmocka_unit_test(ticks_saturate),
		cmocka_unit_test(time_passes_between_hosts_that_both_know_tai),
		cmocka_unit_test(time_passes_between_hosts_that_both_know_only_utc),
		cmocka_unit_test(where_only_one_host_knows_tai_utc_is_compared),
		cmocka_unit_test(a_state_from_the_future_passes_no_time_and_says_so),
		cmocka_unit_test(a_measured_offset_is_what_counts),
		cmocka_unit_test(a_measured_offset_never_turns_time_back),
		cmocka_unit_test(clocks_are_saved_and_loaded_whole),
		cmocka_unit_test(clocks_of_too_many_processors_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
