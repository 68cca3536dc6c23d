/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two guests' CPUID, in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/cpuid_rows.h"

#define AVX2 (1u << 5) /* 7.0 ebx */
#define BMI2 (1u << 8)
#define FMA (1u << 12) /* 1.0 ecx */

struct table {
	struct vmm_cpuid_row rows[4];
	gsize n;
};

static void add(struct table *table, guint32 leaf, guint32 ebx, guint32 ecx)
{
	table->rows[table->n++] = (struct vmm_cpuid_row){ .leaf = wire_put32(leaf),
							  .ebx = wire_put32(ebx),
							  .ecx = wire_put32(ecx) };
}

static void expect(const struct table *ours, const struct table *theirs, const char *words)
{
	g_autofree char *difference =
		vmm_cpuid_rows_difference(ours->rows, ours->n, theirs->rows, theirs->n);

	if (words)
		assert_string_equal(difference, words);
	else
		assert_null(difference);
}

static void equal_tables_in_any_order_do_not_differ(void **state)
{
	struct table a = { 0 }, b = { 0 }, none = { 0 };

	expect(&none, &none, NULL);
	add(&a, 1, 7, FMA);
	add(&a, 7, AVX2, 0);
	add(&b, 7, AVX2, 0);
	add(&b, 1, 7, FMA);
	/* What is not there reads as zero. */
	add(&b, 0xd, 0, 0);
	expect(&a, &b, NULL);
	expect(&b, &a, NULL);
}

static void missing_features_are_named_with_who_lacks_them(void **state)
{
	struct table a = { 0 }, b = { 0 };

	add(&a, 1, 0, FMA);
	add(&a, 7, AVX2 | BMI2, 0);
	add(&b, 1, 0, FMA);
	expect(&a, &b, "the peer lacks avx2 bmi2");
	expect(&b, &a, "this host lacks avx2 bmi2");
	b.rows[0].ecx = wire_put32(0);
	add(&b, 7, AVX2, 1u << 2);
	expect(&a, &b, "the peer lacks fma bmi2, this host lacks umip");
}

static void a_difference_without_a_feature_names_leaf_and_register(void **state)
{
	struct table a = { 0 }, b = { 0 };

	add(&a, 0x80000008, 0, 0x1000);
	add(&b, 0x80000008, 0, 0x2000);
	expect(&a, &b, "CPUID 0x80000008.0 ecx is 0x1000 here and 0x2000 there");
	a.n = 0;
	expect(&a, &b, "CPUID 0x80000008.0 ecx is 0 here and 0x2000 there");
	expect(&b, &a, "CPUID 0x80000008.0 ecx is 0x2000 here and 0 there");
}

static void a_long_list_is_cut_short(void **state)
{
	struct table a = { 0 }, b = { 0 };
	g_autofree char *difference = NULL;

	add(&a, 7, G_MAXUINT32, G_MAXUINT32);
	difference = vmm_cpuid_rows_difference(a.rows, a.n, b.rows, b.n);
	assert_true(strlen(difference) < 256);
	assert_true(g_str_has_suffix(difference, " ..."));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_tables_in_any_order_do_not_differ),
		cmocka_unit_test(missing_features_are_named_with_who_lacks_them),
		cmocka_unit_test(a_difference_without_a_feature_names_leaf_and_register),
		cmocka_unit_test(a_long_list_is_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
