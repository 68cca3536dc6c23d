/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pair files that are right; and that manual and table say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/units.h"
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

static void every_value_arrives(void **state)
{
	g_autoptr(colo_pair) pair = parsed(pair_text);
	const struct colo_node_config *node = pair->node;

	assert_string_equal(pair->name, "web");
	assert_string_equal(pair->key, "/etc/colo/web.key");
	assert_string_equal(pair->text, pair_text);
	assert_string_equal(node[0].name, "alpha");
	assert_string_equal(node[1].name, "beta");

	assert_int_equal(pair->vm.memory, 2ull << 30);
	assert_int_equal(pair->vm.cpus, 4);
	assert_string_equal(pair->vm.cpu_model, "x86-64-v2");
	assert_string_equal(pair->vm.kernel, "/srv/vmlinuz");
	assert_string_equal(pair->vm.initrd, "/srv/initrd");
	assert_string_equal(pair->vm.append, "root=/dev/vda quiet # one\\two");
	assert_false(pair->vm.rng);
	assert_int_equal(pair->vm.on_reboot, COLO_GUEST_STOP);
	assert_int_equal(pair->vm.on_crash, COLO_GUEST_STOP);
	assert_int_equal(pair->vm.on_panic, COLO_PANIC_RESET);

	assert_int_equal(pair->disks, 2);
	assert_string_equal(pair->disk[0].name, "data");
	assert_string_equal(pair->disk[0].path[0], "/dev/vg0/data");
	assert_string_equal(pair->disk[0].path[1], "/dev/vg1/data");
	assert_true(pair->disk[0].readonly && pair->disk[0].direct);
	assert_string_equal(pair->disk[0].serial, "data-7");
	assert_string_equal(pair->disk[1].path[0], "/srv/logs.raw");
	assert_string_equal(pair->disk[1].path[1], "/srv/logs.raw");
	assert_false(pair->disk[1].readonly || pair->disk[1].direct);
	assert_null(pair->disk[1].serial);

	assert_int_equal(pair->nets, 2);
	assert_string_equal(pair->net[0].bridge[0], "br0");
	assert_string_equal(pair->net[0].bridge[1], "br0");
	assert_string_equal(pair->net[0].tap, "web0");
	assert_string_equal(pair->net[0].mac, "52:54:00:ab:cd:ef");
	assert_null(pair->net[1].bridge[0]);

	assert_int_equal(pair->paths, 2);
	assert_string_equal(node[0].replication, "10.9.0.1:7000");
	assert_string_equal(node[0].control, "10.9.0.1:7001");
	assert_string_equal(node[0].heartbeat[0], "10.9.0.1:7002");
	assert_string_equal(node[0].heartbeat[1], "192.0.2.1:7002");
	assert_null(node[0].heartbeat[2]);
	assert_string_equal(node[0].heartbeat_device[0], "eth1");
	assert_string_equal(node[0].heartbeat_device[1], "br0");
	assert_string_equal(node[1].replication, "[fd00::2]:7000");
	assert_string_equal(node[1].heartbeat[1], "192.0.2.2:7002");
	assert_null(node[1].heartbeat_device[0]);
	assert_null(node[1].plug);

	assert_string_equal(pair->checkpoint.mode, "colo");
	assert_int_equal(pair->checkpoint.period_ms, 30);
	assert_int_equal(pair->checkpoint.age_ms, 2000);
	assert_int_equal(pair->checkpoint.bandwidth, 100u << 20);
	assert_int_equal(pair->checkpoint.connections, 3);
	assert_int_equal(pair->checkpoint.silence_ms, 1000);
	assert_true(pair->checkpoint.verify);

	assert_true(pair->comparison.enabled);
	assert_int_equal(pair->comparison.queue, 7);
	assert_int_equal(pair->comparison.queue_length, 1000);
	assert_string_equal(pair->comparison.rule, "nft");
	assert_int_equal(pair->comparison.late_max_ms, 50);
	assert_int_equal(pair->comparison.memory, 128u << 20);
	assert_int_equal(pair->comparison.receive_buffer, 32u << 20);
	assert_string_equal(pair->comparison.dump, "/var/tmp/web.pcapng");

	assert_int_equal(pair->heartbeat.interval_ms, 20);
	assert_int_equal(pair->heartbeat.timeout_ms, 200);

	assert_int_equal(pair->arbiter.kind, COLO_ARBITER_ETCD);
	assert_int_equal(pair->arbiter.timeout_ms, 3000);
	assert_int_equal(pair->arbiter.delay_ms, 500);
	assert_string_equal(pair->arbiter.endpoints[0], "https://e1.example:2379");
	assert_string_equal(pair->arbiter.endpoints[1], "http://[fd00::3]:2379");
	assert_null(pair->arbiter.endpoints[2]);
	assert_string_equal(pair->arbiter.prefix, "/our/colo/");
	assert_string_equal(pair->arbiter.ca, "/etc/ca.pem");
	assert_string_equal(pair->arbiter.cert, "/etc/cert.pem");
	assert_string_equal(pair->arbiter.cert_key, "/etc/cert-key.pem");
	assert_string_equal(pair->arbiter.user, "colo");
	assert_string_equal(pair->arbiter.password_file, "/etc/password");

	assert_string_equal(pair->hook.program, "/etc/colo/hook");
	assert_string_equal(pair->hook.user, "nobody");
	assert_int_equal(pair->hook.timeout_ms, 3000);
	assert_int_equal(pair->limits.restarts, 2);
	assert_int_equal(pair->limits.log_bytes, 1u << 20);
}

static const char least[] = "[pair]\r\n"
			    "nodes=a;b\r\n"
			    "key=/k\r\n"
			    "[vm]\n"
			    "  kernel = /kernel  \n"
			    "[node a]\n"
			    "replication = 127.0.0.1:1\ncontrol = 127.0.0.1:2\n"
			    "heartbeat = 127.0.0.1:3\n"
			    "\t# the other one\n"
			    "[node b]\n"
			    "replication = 127.0.0.1:4\ncontrol = 127.0.0.1:5\n"
			    "heartbeat = 127.0.0.1:6\n"
			    "[arbiter]\n"
			    "type = manual"; /* the last line has no end */

static void what_is_not_said_has_its_default(void **state)
{
	g_autoptr(colo_pair) pair = parsed(least);

	assert_string_equal(pair->name, "test");
	assert_string_equal(pair->vm.kernel, "/kernel");
	assert_int_equal(pair->vm.memory, 1u << 30);
	assert_int_equal(pair->vm.cpus, 2);
	assert_string_equal(pair->vm.cpu_model, "host");
	assert_null(pair->vm.initrd);
	assert_null(pair->vm.append);
	assert_true(pair->vm.rng);
	assert_int_equal(pair->vm.on_reboot, COLO_GUEST_RESTART);
	assert_int_equal(pair->vm.on_crash, COLO_GUEST_RESTART);
	assert_int_equal(pair->vm.on_panic, COLO_PANIC_REPORT);
	assert_int_equal(pair->disks, 0);
	assert_int_equal(pair->nets, 0);
	assert_int_equal(pair->paths, 1);
	assert_string_equal(pair->checkpoint.mode, "auto");
	assert_int_equal(pair->checkpoint.period_ms, 20);
	assert_int_equal(pair->checkpoint.age_ms, 1000);
	assert_int_equal(pair->checkpoint.bandwidth, 0);
	assert_int_equal(pair->checkpoint.connections, 0);
	assert_false(pair->checkpoint.verify);
	assert_false(pair->comparison.enabled); /* nothing to compare */
	assert_int_equal(pair->comparison.queue_length, 65536);
	assert_string_equal(pair->comparison.rule, "auto");
	assert_int_equal(pair->comparison.late_max_ms, 200);
	assert_int_equal(pair->comparison.memory, 256u << 20);
	assert_int_equal(pair->comparison.receive_buffer, 64u << 20);
	assert_null(pair->comparison.dump);
	assert_int_equal(pair->heartbeat.interval_ms, 50);
	assert_int_equal(pair->heartbeat.timeout_ms, 300);
	assert_int_equal(pair->arbiter.kind, COLO_ARBITER_MANUAL);
	assert_null(pair->arbiter.endpoints);
	assert_null(pair->arbiter.prefix);
	assert_null(pair->hook.program);
	assert_int_equal(pair->hook.timeout_ms, 10000);
	assert_int_equal(pair->limits.restarts, 5);
	assert_int_equal(pair->limits.log_bytes, 16u << 20);
}

static void the_links_silence_follows_the_heartbeat(void **state)
{
	g_autofree char *none =
		pair_text_with(pair_text, "checkpoint", "silence", NULL);
	g_autofree char *fast = pair_text_with(none, "heartbeat", "interval", "5ms");
	g_autofree char *faster = pair_text_with(fast, "heartbeat", "timeout", "15ms");
	g_autoptr(colo_pair) slow = parsed(none), quick = parsed(faster);

	assert_int_equal(slow->checkpoint.silence_ms, 200);
	assert_int_equal(quick->checkpoint.silence_ms, 50); /* the least there can be */
}

static void a_network_makes_comparing_the_default(void **state)
{
	g_autofree char *text =
		pair_text_with(pair_text, "comparison", "enabled", NULL);
	g_autofree char *off = pair_text_with(pair_text, "comparison", "enabled", "no");
	g_autoptr(colo_pair) compared = parsed(text), not = parsed(off);

	assert_true(compared->comparison.enabled);
	assert_false(not ->comparison.enabled);
}

static guint queue_of(const char *name)
{
	g_autofree char *text = pair_text_with(pair_text, "comparison", "queue", NULL);
	g_autofree char *named = pair_text_with(text, "pair", "name", name);
	g_autoptr(colo_pair) pair = parsed(named);

	assert_in_range(pair->comparison.queue, 1000, 65000);
	return pair->comparison.queue;
}

/* Both nodes, and a next version, must come to the same. */
static void the_queue_follows_from_the_pairs_name(void **state)
{
	assert_int_equal(queue_of("web"), 53657);
	assert_int_equal(queue_of("pbx"), 4261);
}

static char *tap_of(const char *pair_name, const char *net)
{
	g_autofree char *title = g_strdup_printf("[network %s]", net);
	g_autofree char *text = pair_text_with(pair_text, "network dmz", NULL, title);
	g_autofree char *named = pair_text_with(text, "pair", "name", pair_name);
	g_autoptr(colo_pair) pair = parsed(named);

	return g_strdup(pair->net[1].tap);
}

static void a_tap_is_named_after_pair_and_network(void **state)
{
	g_autofree char *fits = tap_of("web", "dmz");
	g_autofree char *just = tap_of("accounts", "backup");
	g_autofree char *long1 = tap_of("accounting", "backup");
	g_autofree char *long2 = tap_of("accounting", "backup2");
	g_autofree char *split1 = tap_of("a-b", "c"), *split2 = tap_of("a", "b-c");

	assert_string_equal(fits, "web_dmz");
	assert_string_equal(just, "accounts_backup");
	assert_int_equal(strlen(long1), 15);
	assert_true(g_str_has_prefix(long1, "accoun_"));
	assert_string_not_equal(long1, long2);
	assert_string_not_equal(split1, split2);
}

static void each_arbiter_has_its_keys(void **state)
{
	g_autofree char *fence_text = pair_text_of("fence");
	g_autofree char *none_text = pair_text_of("none");
	g_autofree char *manual_text = pair_text_of("manual");
	g_autoptr(colo_pair) fence = parsed(fence_text), none = parsed(none_text),
			     manual = parsed(manual_text);

	assert_int_equal(fence->arbiter.kind, COLO_ARBITER_FENCE);
	assert_string_equal(fence->arbiter.agent, "/usr/sbin/fence_ipmilan");
	assert_string_equal(fence->arbiter.agent_action, "reboot");
	assert_string_equal(fence->arbiter.agent_options[0], "ip=192.0.2.9");
	assert_string_equal(fence->arbiter.agent_options[1], "lanplus=");
	assert_string_equal(fence->arbiter.agent_options[2], "opt=a=b");
	assert_null(fence->arbiter.agent_options[3]);
	assert_string_equal(fence->arbiter.agent_secrets, "/etc/secrets");
	assert_int_equal(fence->arbiter.timeout_ms, 30000); /* such agents are slow */
	assert_int_equal(fence->arbiter.delay_ms, 1000);
	assert_string_equal(fence->node[0].plug, "7");
	assert_string_equal(fence->node[1].plug, "8");
	assert_int_equal(none->arbiter.kind, COLO_ARBITER_NONE);
	assert_int_equal(none->arbiter.survivor, 1);
	assert_int_equal(manual->arbiter.kind, COLO_ARBITER_MANUAL);
}

static void the_examples_are_right(void **state)
{
	GError *error = NULL;
	g_autoptr(colo_pair) web =
		colo_pair_read("packaging/examples/web.conf", &error);
	g_autoptr(colo_pair) pbx = NULL;

	if (!web)
		fail_msg("%s", error->message);
	pbx = colo_pair_read("packaging/examples/pbx.conf", &error);
	if (!pbx)
		fail_msg("%s", error->message);
	assert_string_equal(web->name, "web");
	assert_int_equal(web->arbiter.kind, COLO_ARBITER_ETCD);
	assert_int_equal(pbx->arbiter.kind, COLO_ARBITER_FENCE);
	assert_int_equal(pbx->disks, 3);
	assert_string_equal(pbx->net[0].bridge[1], "br20");
	assert_null(pbx->net[1].bridge[0]);
	assert_string_equal(pbx->net[1].tap, "pbx_uplink"); /* as its comment says */
}

static void refused(const char *path, const char *says)
{
	GError *error = NULL;
	colo_pair *pair = colo_pair_read(path, &error);

	assert_null(pair);
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	if (!strstr(error->message, says) || !strstr(error->message, path))
		fail_msg("\"%s\" does not say \"%s\"", error->message, says);
	g_error_free(error);
}

static void what_is_no_file_is_refused_without_waiting(void **state)
{
	g_autofree char *folder = g_dir_make_tmp("colo-test-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "x.conf", NULL);
	g_autofree char *large = g_strnfill((256 << 10) + 1, '#');
	g_autofree char *most = g_strnfill(256 << 10, '#');

	refused(path, "No such file");
	refused(folder, "not a regular file");
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(path, "not a regular file");
	unlink(path);
	assert_true(g_file_set_contents(path, large, -1, NULL));
	refused(path, "longer than 262144 bytes");
	assert_true(g_file_set_contents(path, most, -1, NULL));
	refused(path, "[pair] is missing");
	unlink(path);
	rmdir(folder);
}

static void a_node_knows_itself_by_name(void **state)
{
	g_autoptr(colo_pair) pair = parsed(pair_text);
	g_autoptr(GError) error = NULL;
	guint node = 9;

	assert_true(colo_pair_whoami(pair, "beta", &node, NULL));
	assert_int_equal(node, 1);
	assert_true(colo_pair_whoami(pair, "alpha", &node, NULL));
	assert_int_equal(node, 0);
	assert_false(colo_pair_whoami(pair, "Beta", &node, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	assert_string_equal(
		error->message,
		"Beta is none of the nodes of pair web: they are alpha and beta");
}

static void a_node_knows_itself_by_its_host(void **state)
{
	g_autoptr(colo_pair) pair = parsed(pair_text);
	g_autoptr(GError) error = NULL;
	char host[256] = { 0 };
	guint node = 9;

	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	host[strcspn(host, ".")] = 0;
	assert_false(colo_pair_whoami(pair, NULL, &node, &error));
	assert_non_null(strstr(error->message, host));
	assert_non_null(strstr(error->message, "alpha and beta"));
	g_free(pair->node[1].name);
	pair->node[1].name = g_ascii_strdown(host, -1);
	assert_true(colo_pair_whoami(pair, NULL, &node, NULL));
	assert_int_equal(node, 1);
}

/* The manual: "SECTION/KEY" -> what its item says. */
static GHashTable *manual(void)
{
	GHashTable *items =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autofree char *text = NULL, *section = NULL, *key = NULL;
	g_auto(GStrv) lines = NULL;
	GString *item = NULL;

	assert_true(g_file_get_contents("docs/colo.conf.5", &text, NULL, NULL));
	lines = g_strsplit(text, "\n", -1);
	for (guint i = 0; lines[i]; i++) {
		gboolean title = g_str_has_prefix(lines[i], ".Ss ") ||
				 g_str_has_prefix(lines[i], ".Sh ");
		gboolean begins = section && g_str_has_prefix(lines[i], ".It Cm ");

		if ((title || begins) && item) {
			char *name = g_strdup_printf("%s/%s", section, key);

			/* Keys of several kinds of arbiter have several items. */
			if (g_hash_table_contains(items, name))
				g_string_append(item, g_hash_table_lookup(items, name));
			g_hash_table_insert(items, name, g_string_free(item, FALSE));
			item = NULL;
		}
		if (title) {
			g_clear_pointer(&section, g_free);
			if (g_str_has_prefix(lines[i], ".Ss ["))
				section = g_strndup(lines[i] + 5,
						    strcspn(lines[i] + 5, " ]"));
		}
		if (begins) {
			g_free(key);
			key = g_strndup(lines[i] + 7, strcspn(lines[i] + 7, " "));
			item = g_string_new(NULL);
		}
		if (item)
			g_string_append_printf(item, "%s\n", lines[i]);
	}
	return items;
}

static void item_has(const char *name, const char *item, const char *what)
{
	if (!strstr(item, what))
		fail_msg("docs/colo.conf.5: %s does not say \"%s\"", name, what);
}

static void item_has_range(const char *name, const char *item,
			   const struct colo_row *row)
{
	g_autofree char *low = NULL, *high = NULL, *range = NULL;

	if (row->kind == COLO_VALUE_COUNT) {
		low = g_strdup_printf("%" G_GUINT64_FORMAT, row->low);
		high = g_strdup_printf("%" G_GUINT64_FORMAT, row->high);
	} else if (row->kind == COLO_VALUE_TIME) {
		low = base_format_time(row->low);
		high = base_format_time(row->high);
	} else if (row->kind == COLO_VALUE_SIZE) {
		low = base_format_size(row->low);
		high = base_format_size(row->high);
	} else if (row->kind == COLO_VALUE_RATE) {
		low = base_format_size(row->low);
		high = base_format_size(row->high);
		range = g_strdup_printf("%s/s to %s/s", low, high);
		item_has(name, item, range);
		return;
	} else {
		return;
	}
	range = g_strdup_printf("%s to %s", low, high);
	item_has(name, item, range);
}

static void item_has_words(const char *name, const char *item,
			   const struct colo_row *row)
{
	g_auto(GStrv) words = g_strsplit(row->help, "|", -1);

	if (row->kind != COLO_VALUE_WORD && row->kind != COLO_VALUE_CHOICE)
		return;
	for (guint i = 0; words[i]; i++)
		item_has(name, item, words[i]);
}

static void table_and_manual_name_the_same_keys(void **state)
{
	g_autoptr(GHashTable) items = manual();
	g_autoptr(GHashTable) rows =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	GHashTableIter iter;
	gpointer name;

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];
		char *key = g_strdup_printf(
			"%s/%s", colo_section_rows[row->section].name, row->key);
		const char *item = g_hash_table_lookup(items, key);
		g_autofree char *fallback =
			row->fallback ? g_strdup_printf("Default: %s.", row->fallback)
				      : NULL;

		g_hash_table_add(rows, key);
		if (!item)
			fail_msg("docs/colo.conf.5 does not have %s", key);
		if (fallback)
			item_has(key, item, fallback);
		if (row->required)
			item_has(key, item, "Must be given");
		item_has_range(key, item, row);
		item_has_words(key, item, row);
	}
	g_hash_table_iter_init(&iter, items);
	while (g_hash_table_iter_next(&iter, &name, NULL))
		if (!g_hash_table_contains(rows, name))
			fail_msg("docs/colo.conf.5 has %s, which there is not",
				 (char *)name);
}

static void the_manuals_example_is_right(void **state)
{
	g_autofree char *text = NULL;
	char *begin, *end;

	assert_true(g_file_get_contents("docs/colo.conf.5", &text, NULL, NULL));
	begin = strstr(text, ".Sh EXAMPLES\n");
	assert_non_null(begin);
	begin = strstr(begin, "[pair]");
	end = strstr(begin, ".Ed\n");
	assert_non_null(end);
	*end = 0;
	colo_pair_free(parsed(begin));
}

/* What an error or the manual gives for an example is right. */
static void every_default_and_example_can_be_written(void **state)
{
	g_autofree char *fence = pair_text_of("fence"), *none = pair_text_of("none");

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];
		const char *kind = colo_section_rows[row->section].name;
		const char *values[] = { row->fallback, row->example };
		const char *title = row->section == COLO_SECTION_DISK ? "disk logs"
				    : row->section == COLO_SECTION_NETWORK
					    ? "network dmz"
				    : row->section == COLO_SECTION_NODE ? "node alpha"
									: kind;
		const char *text = row->arbiters == 1u << COLO_ARBITER_FENCE ? fence
				   : row->arbiters == 1u << COLO_ARBITER_NONE
					   ? none
					   : pair_text;

		assert_true(row->fallback || row->example);
		for (guint j = 0; j < G_N_ELEMENTS(values); j++) {
			g_autofree char *with = NULL;

			if (!values[j])
				continue;
			with = pair_text_with(text, title, row->key, values[j]);
			colo_pair_free(parsed(with));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_arrives),
		cmocka_unit_test(what_is_not_said_has_its_default),
		cmocka_unit_test(the_links_silence_follows_the_heartbeat),
		cmocka_unit_test(a_network_makes_comparing_the_default),
		cmocka_unit_test(the_queue_follows_from_the_pairs_name),
		cmocka_unit_test(a_tap_is_named_after_pair_and_network),
		cmocka_unit_test(each_arbiter_has_its_keys),
		cmocka_unit_test(the_examples_are_right),
		cmocka_unit_test(what_is_no_file_is_refused_without_waiting),
		cmocka_unit_test(a_node_knows_itself_by_name),
		cmocka_unit_test(a_node_knows_itself_by_its_host),
		cmocka_unit_test(table_and_manual_name_the_same_keys),
		cmocka_unit_test(the_manuals_example_is_right),
		cmocka_unit_test(every_default_and_example_can_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
