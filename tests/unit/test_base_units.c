/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, times and rates as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/units.h"

static guint64 size_of(const char *text)
{
	guint64 bytes = 0;

	if (!base_parse_size(text, &bytes))
		fail_msg("\"%s\" was refused", text);
	return bytes;
}

static void refused(const char *text)
{
	guint64 bytes = 77;

	if (base_parse_size(text, &bytes))
		fail_msg("\"%s\" was taken for %" G_GUINT64_FORMAT, text, bytes);
	assert_int_equal(bytes, 77);
}

static void a_number_alone_is_bytes(void **state)
{
	assert_int_equal(size_of("0"), 0);
	assert_int_equal(size_of("1048576"), 1048576);
	assert_int_equal(size_of("007"), 7);
}

static void a_suffix_multiplies_by_powers_of_1024(void **state)
{
	assert_int_equal(size_of("3K"), 3072);
	assert_int_equal(size_of("512M"), 512u << 20);
	assert_int_equal(size_of("4G"), 4ull << 30);
	assert_int_equal(size_of("2T"), 2ull << 40);
	assert_int_equal(size_of("512m"), 512u << 20);
}

static void a_suffix_may_be_spelled_out(void **state)
{
	assert_int_equal(size_of("64MiB"), 64u << 20);
	assert_int_equal(size_of("64MB"), 64u << 20);
	assert_int_equal(size_of("1kiB"), 1024);
}

static void what_does_not_fit_is_refused(void **state)
{
	assert_int_equal(size_of("16777215T"), 16777215ull << 40);
	refused("16777216T");
	assert_int_equal(size_of("18014398509481983K"), 18014398509481983ull << 10);
	refused("18014398509481984K");
	assert_int_equal(size_of("18446744073709551614"), G_MAXUINT64 - 1);
	refused("18446744073709551616");
	refused("99999999999999999999999");
	refused("99999999999999999999999K");
}

static void anything_else_is_refused(void **state)
{
	static const char *const wrong[] = { "",      "M",  " 1",   "1 ",   "1 M",
					     "+1",    "-1", "1.5G", "1MM",  "1Mi",
					     "1MiBs", "1B", "1iB",  "0x10", "1E",
					     "1M\n",  "one" };

	for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
		refused(wrong[i]);
}

static void a_time_has_its_unit(void **state)
{
	static const struct {
		const char *text;
		guint64 ms;
	} right[] = {
		{ "0s", 0 },	    { "20ms", 20 },    { "1s", 1000 },
		{ "2min", 120000 }, { "1h", 3600000 }, { "007ms", 7 },
	};
	static const char *const wrong[] = { "",
					     "20",
					     "ms",
					     " 1s",
					     "1 s",
					     "1s ",
					     "-1s",
					     "1.5s",
					     "1m",
					     "1S",
					     "1sec",
					     "1us",
					     "18446744073709551615ms",
					     "18446744073709552s" };
	guint64 ms = 77;

	for (gsize i = 0; i < G_N_ELEMENTS(right); i++) {
		assert_true(base_parse_time(right[i].text, &ms));
		assert_int_equal(ms, right[i].ms);
	}
	ms = 77;
	for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
		if (base_parse_time(wrong[i], &ms))
			fail_msg("\"%s\" was taken", wrong[i]);
	assert_int_equal(ms, 77);
}

static void a_rate_is_a_size_with_its_unit_a_second(void **state)
{
	static const char *const wrong[] = { "",	 "/s",	    "100/s",
					     "100MiB",	 "100MiB/", "100MiB/min",
					     "100MiB /s" };
	guint64 rate = 77;

	for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
		if (base_parse_rate(wrong[i], &rate))
			fail_msg("\"%s\" was taken", wrong[i]);
	assert_int_equal(rate, 77);
	assert_true(base_parse_rate("100MiB/s", &rate));
	assert_int_equal(rate, 100u << 20);
	assert_true(base_parse_rate("1G/s", &rate));
	assert_int_equal(rate, 1u << 30);
}

static void what_is_written_is_read_back(void **state)
{
	static const struct {
		guint64 value;
		const char *size, *time;
	} as[] = {
		{ 0, "0", "0ms" },
		{ 1, "1", "1ms" },
		{ 1000, "1000", "1s" },
		{ 1024, "1KiB", "1024ms" },
		{ 90000, "90000", "90s" },
		{ 120000, "120000", "2min" },
		{ 7200000, "7200000", "2h" },
		{ 1536ull << 20, "1536MiB", "1610612736ms" },
		{ 2048ull << 40, "2048TiB", "2251799813685248ms" },
	};

	for (gsize i = 0; i < G_N_ELEMENTS(as); i++) {
		g_autofree char *size = base_format_size(as[i].value);
		g_autofree char *time = base_format_time(as[i].value);
		guint64 ms = 77;

		assert_string_equal(size, as[i].size);
		assert_string_equal(time, as[i].time);
		assert_int_equal(size_of(size), as[i].value);
		assert_true(base_parse_time(time, &ms));
		assert_int_equal(ms, as[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_number_alone_is_bytes),
		cmocka_unit_test(a_suffix_multiplies_by_powers_of_1024),
		cmocka_unit_test(a_suffix_may_be_spelled_out),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(a_time_has_its_unit),
		cmocka_unit_test(a_rate_is_a_size_with_its_unit_a_second),
		cmocka_unit_test(what_is_written_is_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
