/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write them. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_number_alone_is_bytes),
		cmocka_unit_test(a_suffix_multiplies_by_powers_of_1024),
		cmocka_unit_test(a_suffix_may_be_spelled_out),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(anything_else_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
