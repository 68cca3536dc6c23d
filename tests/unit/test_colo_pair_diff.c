/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two nodes' pair files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "colo/pair_rows.h"
#include "tests/unit/pair_text.h"

static colo_pair *parsed(const char *text)
{
	GError *error = NULL;
	colo_pair *pair = colo_pair_parse(text, strlen(text), "test.conf", &error);

	if (!pair)
		fail_msg("%s", error->message);
	return pair;
}

static char *diff(const char *ours, const char *theirs)
{
	g_autoptr(colo_pair) a = parsed(ours), b = parsed(theirs);

	return colo_pair_diff(a, b);
}

static void differs(const char *theirs, const char *lines)
{
	g_autofree char *found = diff(pair_text, theirs);

	assert_non_null(found);
	assert_string_equal(found, lines);
}

static void same(const char *theirs)
{
	g_autofree char *found = diff(pair_text, theirs);

	if (found)
		fail_msg("%s", found);
}

static void a_file_is_like_itself(void **state)
{
	static const char *const arbiters[] = { "fence", "none", "manual" };

	same(pair_text);
	for (guint i = 0; i < G_N_ELEMENTS(arbiters); i++) {
		g_autofree char *text = pair_text_of(arbiters[i]);
		g_autofree char *found = diff(text, text);

		assert_null(found);
	}
}

static void what_means_the_same_is_no_difference(void **state)
{
	static const struct {
		const char *title, *key, *value;
	} like[] = {
		{ "vm", "memory", "2048MB" },
		{ "vm", "cpus", "04" },
		{ "vm", "on-reboot", "   stop  " },
		{ "disk logs", "readonly", "no" },
		{ "disk logs", "direct", "no" },
		{ "network lan", "mac", "52:54:00:ab:cd:EF" },
		{ "network dmz", "tap", "web_dmz" },
		{ "node beta", "replication", "[fd00:0:0::2]:07000" },
		{ "node alpha", "heartbeat", "10.9.0.1:7002;  192.0.2.1:7002 ;" },
		{ "checkpoint", "age", "2000ms" },
		{ "checkpoint", "bandwidth", "102400K/s" },
		{ "arbiter", "endpoints",
		  "https://e1.example:2379/; http://[fd00::3]:2379" },
	};
	g_autofree char *comment =
		g_strconcat("# another one\n\n", pair_text, "\n", NULL);

	same(comment);
	for (guint i = 0; i < G_N_ELEMENTS(like); i++) {
		g_autofree char *theirs = pair_text_with(pair_text, like[i].title,
							 like[i].key, like[i].value);

		same(theirs);
	}
}

static void a_path_for_both_is_the_same_as_one_for_each(void **state)
{
	g_autofree char *none = pair_text_with(pair_text, "disk logs", "path", NULL);
	g_autofree char *one =
		pair_text_with(none, "disk logs", "path.beta", "/srv/logs.raw");
	g_autofree char *theirs =
		pair_text_with(one, "disk logs", "path.alpha", "/srv/logs.raw");

	same(theirs);
}

static void each_value_that_differs_is_a_line(void **state)
{
	static const struct {
		const char *title, *key, *value, *line;
	} changes[] = {
		{ "pair", "name", "wob",
		  "pair/name: ours web, theirs wob\n"
		  "network dmz/tap: ours web_dmz, theirs wob_dmz\n" },
		{ "pair", "key", "/k",
		  "pair/key: ours /etc/colo/web.key, theirs /k\n" },
		{ "vm", "memory", "3GiB", "vm/memory: ours 2GiB, theirs 3GiB\n" },
		{ "vm", "initrd", NULL,
		  "vm/initrd: ours /srv/initrd, theirs nothing\n" },
		{ "vm", "rng", "yes", "vm/rng: ours no, theirs yes\n" },
		{ "vm", "on-panic", "stop", "vm/on-panic: ours reset, theirs stop\n" },
		{ "disk data", "path.beta", "/b",
		  "disk data/path.beta: ours /dev/vg1/data, theirs /b\n" },
		{ "disk logs", "path", "/l",
		  "disk logs/path.alpha: ours /srv/logs.raw, theirs /l\n"
		  "disk logs/path.beta: ours /srv/logs.raw, theirs /l\n" },
		{ "network dmz", "bridge", "br1",
		  "network dmz/bridge.alpha: ours nothing, theirs br1\n"
		  "network dmz/bridge.beta: ours nothing, theirs br1\n" },
		{ "node beta", "control", "10.9.0.2:1",
		  "node beta/control: ours 10.9.0.2:7001, theirs 10.9.0.2:1\n" },
		{ "node alpha", "heartbeat-device", NULL,
		  "node alpha/heartbeat-device: ours eth1; br0, theirs nothing\n" },
		{ "checkpoint", "age", "1h", "checkpoint/age: ours 2s, theirs 1h\n" },
		{ "checkpoint", "bandwidth", "none",
		  "checkpoint/bandwidth: ours 100MiB/s, theirs none\n" },
		{ "arbiter", "endpoints", "https://e1.example:2379",
		  "arbiter/endpoints: ours https://e1.example:2379; "
		  "http://[fd00::3]:2379, theirs https://e1.example:2379\n" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(changes); i++) {
		g_autofree char *theirs = pair_text_with(
			pair_text, changes[i].title, changes[i].key, changes[i].value);

		differs(theirs, changes[i].line);
	}
}

/* So that no row is left out of the comparison. */
static void every_row_can_differ(void **state)
{
	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];
		const char *kind = colo_section_rows[row->section].name;
		g_autofree char *none = pair_text_of("none"),
				*fence = pair_text_of("fence");
		const char *text = row->arbiters == 1u << COLO_ARBITER_FENCE ? fence
				   : row->arbiters == 1u << COLO_ARBITER_NONE
					   ? none
					   : pair_text;
		g_autoptr(colo_pair) ours = parsed(text), theirs = parsed(text);
		guint *at = colo_row_at(row, theirs, 0);
		g_autofree char *found = NULL, *says = NULL;

		switch (row->kind) {
		case COLO_VALUE_NODES:
			*theirs->node[0].name = 'g';
			break;
		case COLO_VALUE_CHOICE:
		case COLO_VALUE_SWITCH:
		case COLO_VALUE_NODE:
		case COLO_VALUE_COUNT:
		case COLO_VALUE_TIME:
		case COLO_VALUE_SIZE:
		case COLO_VALUE_RATE:
			*at ^= 1;
			break;
		default:
			colo_row_clear(row, theirs, 0);
		}
		/* What is nothing in the text cannot go. */
		if (row->kind == COLO_VALUE_DEVICES ||
		    !strcmp(row->key, "heartbeat-device"))
			assert_non_null(ours->node[0].heartbeat_device[0]);
		says = g_strconcat("/", row->key, NULL);
		found = colo_pair_diff(ours, theirs);
		if (!found || !strstr(found, says) || !g_str_has_prefix(found, kind))
			fail_msg("%s%s: %s", kind, says,
				 found ? found : "no difference");
	}
}

static void sections_that_one_has_alone_are_told(void **state)
{
	g_autofree char *theirs = pair_text_with(pair_text, "disk logs", NULL, NULL);
	g_autofree char *more =
		g_strconcat(theirs, "[network x]\nmac = 52:54:00:00:00:03\n", NULL);

	differs(theirs, "sections [disk NAME]: ours data; logs, theirs data\n");
	differs(more, "sections [disk NAME]: ours data; logs, theirs data\n"
		      "sections [network NAME]: ours lan; dmz, theirs lan; dmz; x\n");
}

static void the_order_of_devices_counts(void **state)
{
	g_autofree char *without = pair_text_with(pair_text, "disk logs", NULL, NULL);
	g_auto(GStrv) parts = g_strsplit(without, "[disk data]\n", 2);
	g_autofree char *theirs = g_strconcat(
		parts[0], "[disk logs]\npath = /srv/logs.raw\n[disk data]\n", parts[1],
		NULL);

	differs(theirs, "sections [disk NAME]: ours data; logs, theirs logs; data\n");
}

static void other_nodes_are_told_once(void **state)
{
	g_auto(GStrv) parts = g_strsplit(pair_text, "beta", -1);
	g_autofree char *theirs = g_strjoinv("gamma", parts);
	g_autofree char *swapped =
		pair_text_with(pair_text, "pair", "nodes", "beta; alpha");

	differs(theirs, "pair/nodes: ours alpha; beta, theirs alpha; gamma\n");
	differs(swapped, "pair/nodes: ours alpha; beta, theirs beta; alpha\n");
}

static void another_arbiter_is_told(void **state)
{
	g_autofree char *theirs = pair_text_of("manual");
	g_autofree char *found = diff(pair_text, theirs);

	assert_non_null(found);
	assert_true(
		g_str_has_prefix(found, "arbiter/type: ours etcd, theirs manual\n"));
}

static void long_values_are_shortened_and_still_differ(void **state)
{
	g_autofree char *letters = g_strnfill(500, 'x');
	g_autofree char *longer = g_strconcat(letters, "y", NULL);
	g_autofree char *ours = pair_text_with(pair_text, "vm", "append", letters);
	g_autofree char *theirs = pair_text_with(pair_text, "vm", "append", longer);
	g_autofree char *found = diff(ours, theirs);

	assert_non_null(found);
	assert_true(g_str_has_prefix(found, "vm/append: ours xxx"));
	assert_in_range(strlen(found), 200, 350);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_like_itself),
		cmocka_unit_test(what_means_the_same_is_no_difference),
		cmocka_unit_test(a_path_for_both_is_the_same_as_one_for_each),
		cmocka_unit_test(each_value_that_differs_is_a_line),
		cmocka_unit_test(every_row_can_differ),
		cmocka_unit_test(sections_that_one_has_alone_are_told),
		cmocka_unit_test(the_order_of_devices_counts),
		cmocka_unit_test(other_nodes_are_told_once),
		cmocka_unit_test(another_arbiter_is_told),
		cmocka_unit_test(long_values_are_shortened_and_still_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
