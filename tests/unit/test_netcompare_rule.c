/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the rule can be judged without rights; tests/nets has the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "netcompare/rule.h"

static const char *const none[] = { NULL };
static const char *const taps[] = { "tap0", "tap1", NULL };

static void names_that_a_tool_could_take_for_more_are_refused(void **state)
{
	static const char *const bad[] = {
		"",	"-A",	"tap+", "tap*", "a b",	    "a\"b",
		"a;b",	"a\nb", "../x", ".",	"a/b",	    "a{b}",
		"$(x)", "a,b",	"!tap", "a:b",	"\xc3\xa4", "0123456789abcdef"
	};
	static const char *const good[] = { "tap0", "vnet-1", "a.b_c@d",
					    "0123456789abcde" };

	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
		assert_false(ncmp_rule_is_tap_name(bad[i]));
	for (gsize i = 0; i < G_N_ELEMENTS(good); i++)
		assert_true(ncmp_rule_is_tap_name(good[i]));
}

static void a_bridged_tap_is_queued_at_the_bridge(void **state)
{
	g_autofree char *text = ncmp_rule_nft_text(7, taps, none, TRUE);

	assert_non_null(strstr(text, "table bridge colo_q7 {"));
	assert_non_null(strstr(text, "iifname { \"tap0\", \"tap1\" } queue num 7\n"));
	assert_null(strstr(text, "netdev"));
}

static void no_rule_has_a_way_around_the_queue(void **state)
{
	g_autofree char *bridged = ncmp_rule_nft_text(7, taps, none, TRUE);
	g_autofree char *routed = ncmp_rule_nft_text(7, none, taps, TRUE);

	assert_null(strstr(bridged, "bypass"));
	assert_null(strstr(routed, "bypass"));
	assert_non_null(strstr(routed, "table inet colo_q7 {"));
	assert_non_null(strstr(routed, "hook ingress device \"tap1\""));
}

static void beside_iptables_what_it_does_not_see_is_dropped(void **state)
{
	g_autofree char *text = ncmp_rule_nft_text(7, taps, none, FALSE);

	assert_null(strstr(text, "queue"));
	assert_non_null(strstr(text, "ether type != { ip, ip6, arp } drop"));
}

static void each_table_is_replaced_in_one_piece(void **state)
{
	g_autofree char *text = ncmp_rule_nft_text(9, taps, taps, TRUE);
	static const char *const families[] = { "bridge", "netdev", "inet" };

	for (guint i = 0; i < G_N_ELEMENTS(families); i++) {
		g_autofree char *begin =
			g_strdup_printf("add table %s colo_q9\n"
					"delete table %s colo_q9\n"
					"table %s colo_q9 {\n",
					families[i], families[i], families[i]);

		assert_non_null(strstr(text, begin));
	}
}

static void ways_have_names(void **state)
{
	enum ncmp_rule_way way;

	for (guint i = NCMP_RULE_AUTO; i <= NCMP_RULE_NONE; i++) {
		assert_true(ncmp_rule_way_parse(ncmp_rule_way_name(i), &way));
		assert_int_equal(way, i);
	}
	assert_false(ncmp_rule_way_parse("", &way));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_a_tool_could_take_for_more_are_refused),
		cmocka_unit_test(a_bridged_tap_is_queued_at_the_bridge),
		cmocka_unit_test(no_rule_has_a_way_around_the_queue),
		cmocka_unit_test(beside_iptables_what_it_does_not_see_is_dropped),
		cmocka_unit_test(each_table_is_replaced_in_one_piece),
		cmocka_unit_test(ways_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
