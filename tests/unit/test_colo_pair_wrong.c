/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pair files with every field wrong in turn: each has its own message, and the right
 * line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "colo/pair_rows.h"
#include "tests/unit/pair_text.h"

static char *refusal(const char *text, gsize length)
{
	GError *error = NULL;
	g_autoptr(colo_pair) pair = colo_pair_parse(text, length, "dir/t.conf", &error);
	char *message;

	if (pair)
		fail_msg("this was taken:\n%s", text);
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	assert_true(g_utf8_validate(error->message, -1, NULL));
	message = g_strdup(error->message);
	g_error_free(error);
	return message;
}

static void says(const char *message, guint line, const char *what)
{
	g_autofree char *start = g_strdup_printf("dir/t.conf:%u: ", line);

	if (!g_str_has_prefix(message, start) || !strstr(message, what))
		fail_msg("\"%s\" does not begin with \"%s\" and say \"%s\"", message,
			 start, what);
}

/* One change to a right file, and what is said of it. */
struct wrong {
	const char *title, *key, *value; /* as pair_text_with() takes them */
	const char *what;
	/* Where the error is to be, if not where the change is: a key, or "" for the
	 * section's first line. */
	const char *at;
	const char *at_title; /* in another section */
};

static guint changed_line(const struct wrong *wrong, const char *text)
{
	const char *title = wrong->at_title ? wrong->at_title : wrong->title;
	const char *key = wrong->at ? wrong->at : wrong->value ? wrong->key : "";
	guint line = pair_text_line(text, title, *key ? key : NULL);

	assert_true(line);
	return line;
}

static void judge(const char *right, const struct wrong *list, guint count,
		  GHashTable *messages)
{
	for (guint i = 0; i < count; i++) {
		const struct wrong *wrong = &list[i];
		g_autofree char *text =
			pair_text_with(right, wrong->title, wrong->key, wrong->value);
		g_autofree char *message = refusal(text, strlen(text));
		const char *behind;

		says(message, changed_line(wrong, text), wrong->what);
		/* Behind FILE:LINE each is another. */
		behind = strstr(message, ": ") + 2;
		if (g_hash_table_contains(messages, behind))
			fail_msg("said twice: %s", behind);
		g_hash_table_add(messages, g_strdup(behind));
	}
}

#define NO_UNIT_TIME "no unit: write 512ms, or a whole number of ms, s, min or h"
#define NO_UNIT_SIZE "no unit: write 512MiB, or a whole number of KiB, MiB, GiB or TiB"
#define NOT_WHOLE "does not begin at the root: write a whole path, such as /"

static const struct wrong wrongs[] = {
	{ "pair", "name", "Web", "name: \"Web\" is no name: write a letter a-z" },
	{ "pair", "name", "a23456789012345678901234567890123", "at most 32" },
	{ "pair", "name", "1web", "\"1web\" is no name" },
	{ "pair", "name", "", "name: there is nothing: write such as web" },
	{ "pair", "nodes", "alpha", "\"alpha\" is not two nodes: write two names" },
	{ "pair", "nodes", "alpha, beta",
	  "a semicolon between them, such as alpha; beta" },
	{ "pair", "nodes", "alpha; beta; gamma", "is not two nodes" },
	{ "pair", "nodes", "alpha; alpha", "both nodes are \"alpha\"" },
	{ "pair", "nodes", "alpha; be.ta", "\"be.ta\" is no name" },
	{ "pair", "nodes", "alpha;; beta", "nothing between two semicolons" },
	{ "pair", "nodes", NULL, "[pair] has no nodes: write nodes = alpha; beta" },
	{ "pair", "nodes", "alpha; gamma",
	  "beta is none of this pair's nodes (alpha and "
	  "gamma)",
	  "", "node beta" },
	{ "pair", "key", "web.key", "key: \"web.key\" " NOT_WHOLE },
	{ "pair", "key", "/etc/colo/", "\"/etc/colo/\" is a folder" },
	{ "pair", "key", NULL, "[pair] has no key: write key = /etc/colo/web.key" },

	{ "vm", "memory", "512", "memory: 512 has " NO_UNIT_SIZE },
	{ "vm", "memory", "1.5", "1.5 has no unit: write 512MiB" },
	{ "vm", "memory", "1.5GiB", "\"1.5GiB\" is no size" },
	{ "vm", "memory", "512 MiB", "\"512 MiB\" is no size" },
	{ "vm", "memory", "512MiB # half", "a comment behind a value" },
	{ "vm", "memory", "1ms",
	  "memory: \"1ms\" is no size: write a whole number of KiB, "
	  "MiB, GiB or TiB, such as 1GiB" },
	{ "vm", "memory", "63MiB", "63MiB is out of range: write 64MiB to 1TiB" },
	{ "vm", "memory", "2TiB", "2TiB is out of range" },
	{ "vm", "memory", "65537KiB", "not a whole number of MiB" },
	{ "vm", "cpus", "0", "cpus: 0 is out of range: write 1 to 8" },
	{ "vm", "cpus", "9", "cpus: 9 is out of range" },
	{ "vm", "cpus", "99999999999999999999", "out of range: write 1 to 8" },
	{ "vm", "cpus", "two", "\"two\" is no whole number: write 1 to 8" },
	{ "vm", "cpus", "-1", "\"-1\" is no whole number" },
	{ "vm", "cpu-model", "x86-64-v4",
	  "\"x86-64-v4\" is not known: write host, x86-64-v2 or x86-64-v3" },
	{ "vm", "kernel", "vmlinuz", "kernel: \"vmlinuz\" " NOT_WHOLE },
	{ "vm", "kernel", NULL, "[vm] has no kernel: write kernel = /" },
	{ "vm", "initrd", "initrd", "initrd: \"initrd\" " NOT_WHOLE },
	{ "vm", "rng", "on", "rng: \"on\" is neither yes nor no" },
	{ "vm", "on-reboot", "reset",
	  "on-reboot: \"reset\" is not known: write stop or "
	  "restart" },
	{ "vm", "on-crash", "ignore", "on-crash: \"ignore\" is not known" },
	{ "vm", "on-panic", "restart", "write report, reset or stop" },
	{ "vm", "memry", "1GiB", "unknown key memry; [vm] has memory, cpus, " },
	{ "vm", "Memory", "1GiB", "unknown key Memory" },
	{ "vm", "kernel.alpha", "/k", "unknown key kernel.alpha" },
	{ "vm", "append[de]", "quiet", "unknown key append[de]" },

	{ "disk logs", "path", "logs.raw", "path: \"logs.raw\" " NOT_WHOLE },
	{ "disk logs", "path", NULL, "[disk logs] has no path: write path = /" },
	{ "disk logs", "path", "/dev/vg0/data", "path: disk data has that path, too" },
	{ "disk data", "path.alpha", "data", "path.alpha: \"data\" " NOT_WHOLE },
	{ "disk data", "path.alpha", NULL, "[disk data] has no path.alpha" },
	{ "disk data", "path.beta", NULL, "[disk data] has no path.beta" },
	{ "disk data", "path", "/x",
	  "path.alpha: there is path, too: write that for both nodes, or path.alpha "
	  "and path.beta",
	  "path.alpha" },
	{ "disk data", "path.gamma", "/x",
	  "path.gamma: there is no such node: write "
	  "path.alpha or path.beta" },
	{ "disk data", "readonly", "true", "readonly: \"true\" is neither" },
	{ "disk data", "direct", "off", "direct: \"off\" is neither" },
	{ "disk data", "serial", "123456789012345678901",
	  "write at most 20 characters" },
	{ "disk data", "serial", "gr\xc3\xbcn", "is not all printable ASCII" },
	{ "disk logs", "serial", "data-7", "serial: disk data has that one, too" },
	{ "disk logs", "size", "1GiB",
	  "unknown key size; [disk NAME] has path, path.NODE, "
	  "readonly" },

	{ "network lan", "bridge", "a/b", "\"a/b\" is no network device's name" },
	{ "network dmz", "bridge.beta", "br0", "[network dmz] has no bridge.alpha",
	  "" },
	{ "network lan", "tap", "sixteen-letters-",
	  "\"sixteen-letters-\" is no network "
	  "device's name: write at most 15" },
	{ "network dmz", "tap", "web0", "tap: network lan has web0, too" },
	{ "network lan", "mac", "52:54:00:12:34",
	  "is no MAC address: write six pairs" },
	{ "network lan", "mac", "52-54-00-12-34-56",
	  "\"52-54-00-12-34-56\" is no MAC" },
	{ "network lan", "mac", "53:54:00:12:34:56", "is a multicast address" },
	{ "network lan", "mac", "00:00:00:00:00:00", "is nobody's address" },
	{ "network dmz", "mac", "52:54:00:ab:CD:ef",
	  "mac: network lan has that one, too" },
	{ "network lan", "mac", NULL,
	  "[network lan] has no mac: write mac = 52:54:00:" },

	{ "node alpha", "replication", "10.9.0.1",
	  "replication: \"10.9.0.1\" is no address: "
	  "write HOST:PORT" },
	{ "node alpha", "replication", "10.9.0.1:0", "port 0 is none" },
	{ "node alpha", "replication", "alpha.example:7000", "must be an IP address" },
	{ "node alpha", "replication", "0.0.0.0:7000",
	  "\"0.0.0.0:7000\" is no address that "
	  "the other node could reach" },
	{ "node alpha", "replication", "[::]:7000",
	  "\"[::]:7000\" is no address that" },
	{ "node alpha", "replication", "239.1.1.1:7000", "is not one host's address" },
	{ "node alpha", "replication", "[ff02::1]:7000",
	  "\"[ff02::1]:7000\" is not one" },
	{ "node alpha", "replication", "[fe80::1]:7000",
	  "write which, such as [fe80::1%eth1]" },
	{ "node alpha", "replication", "10.9.0.1:7001; 10.9.0.1:7003",
	  "is no address: write" },
	{ "node alpha", "replication", NULL, "[node alpha] has no replication: write" },
	{ "node alpha", "control", "10.9.0.1:70000",
	  "control: \"10.9.0.1:70000\" is no "
	  "address" },
	{ "node alpha", "control", "10.9.0.1:7000",
	  "control: replication of node alpha is "
	  "10.9.0.1:7000, too" },
	{ "node beta", "control", "10.9.0.1:7001",
	  "control: control of node alpha is "
	  "10.9.0.1:7001, too" },
	{ "node alpha", "control", NULL, "[node alpha] has no control: write" },
	{ "node alpha", "heartbeat", "10.9.0.1",
	  "heartbeat: \"10.9.0.1\" is no address" },
	{ "node alpha", "heartbeat", "10.9.0.1:1; 10.9.0.1:01",
	  "10.9.0.1:1 is there twice" },
	{ "node alpha", "heartbeat",
	  "10.9.0.1:1; 10.9.0.1:2; 10.9.0.1:3; 10.9.0.1:4; "
	  "10.9.0.1:5",
	  "5 are too many: write at most 4" },
	{ "node beta", "heartbeat", "10.9.0.2:7002",
	  "heartbeat: 1 here, but 2 of node "
	  "alpha (line 39)" },
	{ "node beta", "heartbeat", "10.9.0.2:7002; [fd00::2]:7002",
	  "way 2 is from "
	  "192.0.2.1:7002 to [fd00::2]:7002: write IPv4 on both" },
	{ "node beta", "heartbeat", "10.9.0.2:7002; 192.0.2.1:7002",
	  "heartbeat: heartbeat of "
	  "node alpha is 192.0.2.1:7002, too (line 39)" },
	{ "node alpha", "heartbeat", NULL, "[node alpha] has no heartbeat: write" },
	{ "node alpha", "heartbeat-device", "eth1", "heartbeat-device: 1 for 2 ways" },
	{ "node alpha", "heartbeat-device", "eth1; e h",
	  "\"e h\" is no network device's" },
	{ "node alpha", "plug", "7", "plug: it is for an arbiter of type = fence" },

	{ "checkpoint", "mode", "remus",
	  "mode: \"remus\" is not known: write auto, colo or "
	  "buffered" },
	{ "checkpoint", "period", "512", "period: 512 has " NO_UNIT_TIME },
	{ "checkpoint", "period", "0ms",
	  "period: 0ms is out of range: write 1ms to 10s" },
	{ "checkpoint", "period", "20us",
	  "\"20us\" is no time: write a whole number of ms, s, "
	  "min or h, such as 20ms" },
	{ "checkpoint", "age", "512", "age: 512 has " NO_UNIT_TIME },
	{ "checkpoint", "age", "2h", "age: 2h is out of range: write 1ms to 1h" },
	{ "checkpoint", "bandwidth", "100",
	  "100 has no unit: write 100MiB/s, or none" },
	{ "checkpoint", "bandwidth", "100MiB",
	  "\"100MiB\" is no rate: write a size and /s" },
	{ "checkpoint", "bandwidth", "1Gbit/s", "\"1Gbit/s\" is no rate" },
	{ "checkpoint", "bandwidth", "1KiB/s",
	  "1KiB/s is out of range: write 64KiB/s to "
	  "1TiB/s" },
	{ "checkpoint", "connections", "9", "connections: 9 is out of range" },
	{ "checkpoint", "connections", "0", "connections: 0 is out of range" },
	{ "checkpoint", "silence", "512", "silence: 512 has " NO_UNIT_TIME },
	{ "checkpoint", "silence", "49ms",
	  "49ms is out of range: write 50ms to 10min" },
	{ "checkpoint", "silence", "199ms",
	  "silence: less than the heartbeat's timeout" },
	{ "checkpoint", "verify", "1", "verify: \"1\" is neither" },

	{ "comparison", "enabled", "maybe", "enabled: \"maybe\" is neither" },
	{ "comparison", "queue", "0", "queue: 0 is out of range: write 1 to 65535" },
	{ "comparison", "queue", "65536", "queue: 65536 is out of range" },
	{ "comparison", "queue-length", "63",
	  "63 is out of range: write 64 to 16777216" },
	{ "comparison", "queue-length", "64KiB", "\"64KiB\" is no whole number" },
	{ "comparison", "rule", "none",
	  "rule: \"none\" is not known: write auto, nft or "
	  "iptables" },
	{ "comparison", "late-max", "512", "late-max: 512 has " NO_UNIT_TIME },
	{ "comparison", "late-max", "61s", "61s is out of range: write 1ms to 1min" },
	{ "comparison", "memory", "512", "memory: 512 has " NO_UNIT_SIZE },
	{ "comparison", "memory", "512KiB", "512KiB is out of range: write 1MiB to" },
	{ "comparison", "receive-buffer", "512",
	  "receive-buffer: 512 has " NO_UNIT_SIZE },
	{ "comparison", "receive-buffer", "2GiB",
	  "2GiB is out of range: write 64KiB to 1GiB" },
	{ "comparison", "dump", "x.pcapng", "dump: \"x.pcapng\" " NOT_WHOLE },

	{ "heartbeat", "interval", "512", "interval: 512 has " NO_UNIT_TIME },
	{ "heartbeat", "interval", "4ms",
	  "interval: 4ms is out of range: write 5ms to 10s" },
	{ "heartbeat", "interval", "67ms",
	  "timeout: the timeout, 200ms, is less than 3 "
	  "intervals: write timeout = 201ms or more",
	  "timeout" },
	{ "heartbeat", "timeout", "512", "timeout: 512 has " NO_UNIT_TIME },
	{ "heartbeat", "timeout", "59ms",
	  "the timeout, 59ms, is less than 3 intervals" },
	{ "heartbeat", "timeout", "2min",
	  "timeout: 2min is out of range: write 15ms to 1min" },
	{ "heartbeat", "timeout", "2s",
	  "silence: less than the heartbeat's timeout: a link "
	  "that is slow for a moment would cost a whole sync; "
	  "write 2s",
	  "silence", "checkpoint" },

	{ "arbiter", "type", "consul",
	  "type: \"consul\" is not known: write none, etcd, fence "
	  "or manual" },
	{ "arbiter", "type", "pacemaker", "not yet: \"pacemaker\"" },
	{ "arbiter", "type", NULL, "[arbiter] has no type: write type = etcd" },
	{ "arbiter", "type", "manual",
	  "timeout: it is for an arbiter of type = etcd or fence", "timeout" },
	{ "arbiter", "timeout", "512", "timeout: 512 has " NO_UNIT_TIME },
	{ "arbiter", "timeout", "99ms",
	  "timeout: 99ms is out of range: write 100ms to 1min" },
	{ "arbiter", "delay", "512", "delay: 512 has " NO_UNIT_TIME },
	{ "arbiter", "delay", "61s", "delay: 61s is out of range: write 0ms to 1min" },
	{ "arbiter", "endpoints", "e1:2379",
	  "\"e1:2379\" is neither http:// nor https://" },
	{ "arbiter", "endpoints", "https://e1", "is not https://HOST:PORT" },
	{ "arbiter", "endpoints", "http://e1:2379/v3", "is not http://HOST:PORT" },
	{ "arbiter", "endpoints", "https://me:secret@e1:1",
	  "a user or password in a URL" },
	{ "arbiter", "endpoints", "https://e1:1; https://e1:1/",
	  "https://e1:1 is there twice" },
	{ "arbiter", "endpoints", "http://e1:1", "ca: no endpoint is https", "ca" },
	{ "arbiter", "endpoints", NULL,
	  "[arbiter] has no endpoints: write endpoints = http" },
	{ "arbiter", "prefix", "colo/",
	  "\"colo/\" does not begin and end with a slash" },
	{ "arbiter", "prefix", "/a b/", "is not all printable ASCII without spaces" },
	{ "arbiter", "ca", "ca.pem", "ca: \"ca.pem\" " NOT_WHOLE },
	{ "arbiter", "cert", "cert.pem", "cert: \"cert.pem\" " NOT_WHOLE },
	{ "arbiter", "cert", NULL, "cert-key: needs cert: write that, too",
	  "cert-key" },
	{ "arbiter", "cert-key", "k.pem", "cert-key: \"k.pem\" " NOT_WHOLE },
	{ "arbiter", "cert-key", NULL, "cert: needs cert-key", "cert" },
	{ "arbiter", "user", "", "user: there is nothing" },
	{ "arbiter", "user", NULL, "password-file: needs user", "password-file" },
	{ "arbiter", "password-file", "p", "password-file: \"p\" " NOT_WHOLE },
	{ "arbiter", "password-file", NULL, "user: needs password-file", "user" },
	{ "arbiter", "agent", "/a", "agent: it is for an arbiter of type = fence" },
	{ "arbiter", "action", "off", "action: it is for an arbiter of type = fence" },
	{ "arbiter", "options", "a=b",
	  "options: it is for an arbiter of type = fence" },
	{ "arbiter", "secrets", "/s", "secrets: it is for an arbiter of type = fence" },
	{ "arbiter", "survivor", "alpha",
	  "survivor: it is for an arbiter of type = none" },

	{ "hooks", "program", "hook", "program: \"hook\" " NOT_WHOLE },
	{ "hooks", "program", NULL, "user: there is no program to run", "user" },
	{ "hooks", "user", "", "user: there is nothing: write such as nobody" },
	{ "hooks", "timeout", "512", "timeout: 512 has " NO_UNIT_TIME },
	{ "hooks", "timeout", "11min", "11min is out of range: write 100ms to 10min" },
	{ "limits", "restarts", "5/min",
	  "restarts: \"5/min\" is no whole number: write 0 to" },
	{ "limits", "restarts", "1001", "restarts: 1001 is out of range" },
	{ "limits", "log", "512", "log: 512 has " NO_UNIT_SIZE },
	{ "limits", "log", "1KiB", "1KiB is out of range: write 64KiB to 1TiB" },

	{ "pair", NULL, NULL, "[pair] is missing: write it, with nodes = alpha; beta",
	  "log", "limits" },
	{ "vm", NULL, NULL, "[vm] is missing: write it, with kernel = /", "log",
	  "limits" },
	{ "node beta", NULL, NULL,
	  "[node beta] is missing: write it, with replication = ", "log", "limits" },
	{ "arbiter", NULL, NULL, "[arbiter] is missing: write it, with type = etcd",
	  "log", "limits" },
};

static const struct wrong fence_wrongs[] = {
	{ "arbiter", "agent", "fence_ipmilan", "agent: \"fence_ipmilan\" " NOT_WHOLE },
	{ "arbiter", "agent", NULL,
	  "[arbiter] has no agent: write agent = /usr/sbin/" },
	{ "arbiter", "action", "on",
	  "action: \"on\" is not known: write off or reboot" },
	{ "arbiter", "timeout", "99ms",
	  "timeout: 99ms is out of range: write 1s to 10min" },
	{ "arbiter", "options", "ip", "an option without \"=\": write name=value" },
	{ "arbiter", "options", "i p=1", "\"i p\" is no option's name" },
	{ "arbiter", "options", "ip=1; ip=2", "options: ip is there twice" },
	{ "arbiter", "options", "password=hidden",
	  "\"password\" is a secret: write it into" },
	{ "arbiter", "options", "snmp_priv_passwd=x",
	  "\"snmp_priv_passwd\" is a secret" },
	{ "arbiter", "options", "action=off", "\"action\" is no option here" },
	{ "arbiter", "options", "plug=1",
	  "\"plug\" is no option here: write plug = NAME" },
	{ "arbiter", "secrets", "s", "secrets: \"s\" " NOT_WHOLE },
	{ "arbiter", "endpoints", "http://e:1",
	  "endpoints: it is for an arbiter of type = etcd" },
	{ "arbiter", "prefix", "/p/", "prefix: it is for an arbiter of type = etcd" },
	{ "node beta", "plug", NULL, "[node beta] has no plug: write plug = 7" },
	{ "node beta", "plug", "", "plug: there is nothing" },
};

static const struct wrong none_wrongs[] = {
	{ "arbiter", "survivor", "gamma",
	  "survivor: \"gamma\" is none of the nodes: write "
	  "alpha or beta" },
	{ "arbiter", "survivor", NULL, "[arbiter] has no survivor: write survivor = " },
	{ "arbiter", "ca", "/c", "ca: it is for an arbiter of type = etcd" },
};

static const struct wrong manual_wrongs[] = {
	{ "arbiter", "delay", "1s",
	  "delay: it is for an arbiter of type = none or etcd or "
	  "fence" },
};

static void each_wrong_field_has_its_own_message_and_line(void **state)
{
	g_autofree char *fence = pair_text_of("fence"), *none = pair_text_of("none"),
			*manual = pair_text_of("manual");
	g_autoptr(GHashTable) messages =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	judge(pair_text, wrongs, G_N_ELEMENTS(wrongs), messages);
	judge(fence, fence_wrongs, G_N_ELEMENTS(fence_wrongs), messages);
	judge(none, none_wrongs, G_N_ELEMENTS(none_wrongs), messages);
	judge(manual, manual_wrongs, G_N_ELEMENTS(manual_wrongs), messages);
	assert_true(g_hash_table_size(messages) > 150);
}

static gboolean tries(const struct wrong *list, guint count, const struct colo_row *row)
{
	const char *section = colo_section_rows[row->section].name;

	for (guint i = 0; i < count; i++) {
		gsize length = strcspn(list[i].title, " ");

		if (list[i].key && list[i].value && !strcmp(list[i].key, row->key) &&
		    strlen(section) == length &&
		    !strncmp(list[i].title, section, length))
			return TRUE;
	}
	return FALSE;
}

/* So that a new row brings its own. Any text is right for "append". */
static void no_row_was_forgotten(void **state)
{
	for (guint i = 0; i < colo_rows_count; i++)
		if (colo_rows[i].kind != COLO_VALUE_ANY_TEXT &&
		    !tries(wrongs, G_N_ELEMENTS(wrongs), &colo_rows[i]) &&
		    !tries(fence_wrongs, G_N_ELEMENTS(fence_wrongs), &colo_rows[i]))
			fail_msg("nothing wrong is tried for %s/%s",
				 colo_section_rows[colo_rows[i].section].name,
				 colo_rows[i].key);
}

static void empty_is_wrong_for_every_key_but_append(void **state)
{
	g_autofree char *fence = pair_text_of("fence"), *none = pair_text_of("none");

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];
		const char *title = row->section == COLO_SECTION_DISK ? "disk logs"
				    : row->section == COLO_SECTION_NETWORK
					    ? "network dmz"
				    : row->section == COLO_SECTION_NODE
					    ? "node alpha"
					    : colo_section_rows[row->section].name;
		const char *right = row->arbiters == 1u << COLO_ARBITER_FENCE ? fence
				    : row->arbiters == 1u << COLO_ARBITER_NONE
					    ? none
					    : pair_text;
		g_autofree char *text = NULL, *message = NULL;

		if (row->kind == COLO_VALUE_ANY_TEXT)
			continue;
		text = pair_text_with(right, title, row->key, "");
		message = refusal(text, strlen(text));
		says(message, pair_text_line(text, title, row->key),
		     "there is nothing");
	}
}

/* A text behind a right one. */
static void behind(const char *more, guint line, const char *what)
{
	g_autofree char *text = g_strconcat(pair_text, more, NULL);
	g_autofree char *message = refusal(text, strlen(text));
	guint lines = 0;

	for (const char *c = pair_text; *c; c++)
		lines += *c == '\n';
	says(message, lines + line, what);
}

static void sections_that_cannot_be_are_told(void **state)
{
	behind("\n[network]\n", 2, "[network] needs a name: write [network NAME]");
	behind("[vm big]\n", 1, "[vm] has no name: write [vm]");
	behind("[ vm]\n", 1,
	       "unknown section [ vm]; there are [pair], [vm], [disk NAME]");
	behind("[fencing]\n", 1, "unknown section [fencing]");
	behind("[vm]\n", 1, "[vm] is there twice, first in line 7");
	behind("[disk data]\n", 1, "[disk data] is there twice, first in line 18");
	behind("[disk  data]\n", 1, "disk data is there twice, first in line 18");
	behind("[disk Data]\n", 1, "\"Data\" is no name for a disk");
	behind("[disk a b]\n", 1, "\"a b\" is no name for a disk");
	behind("[node gamma]\n", 1,
	       "gamma is none of this pair's nodes (alpha and beta)");
	behind("[node  beta]\n", 1, "node beta is there twice");
	behind("[vm] # the machine\n", 1, "a section is [NAME], and nothing behind it");
	behind("[]\n", 1, "a section is [NAME], without brackets in its name");
	behind("[disk [a]]\n", 1, "without brackets in its name");
	behind("[disk a]\npath = /a\n[disk b]\npath=/b\n[disk c]\npath=/c\n[disk "
	       "d]\npath=/d\n"
	       "[disk e]\npath = /e\n[disk f]\npath=/f\n[disk g]\npath=/g\n",
	       13, "more than 8 sections [disk NAME]");
}

static void lines_that_cannot_be_are_told(void **state)
{
	behind("log = 2MiB\n", 1, "log is there twice, first in line");
	behind("restarts\n", 1,
	       "\"restarts\" is neither [SECTION] nor KEY = VALUE nor a "
	       "comment");
	behind("; old style\n", 1, "is neither [SECTION] nor KEY = VALUE");
	behind("= 5\n", 1, "is neither [SECTION] nor KEY = VALUE");
	behind("a\x01 = 5\n", 1, "a control character (0x01)");
	behind("a = \x7f\n", 1, "a control character (0x7f)");
	behind("a = b\rc\n", 1, "a control character (0x0d)");
	behind("# \xff\n", 1, "not UTF-8");
}

static void exactly(const char *text, gsize length, guint line, const char *what)
{
	/* A copy of that size, so that a sanitizer sees its end. */
	g_autofree char *copy = g_memdup2(text, length);
	g_autofree char *message = refusal(copy, length);

	says(message, line, what);
}

static void odd_files_are_told(void **state)
{
	exactly("", 0, 1, "[pair] is missing");
	exactly("\n\n# nothing\n", 12, 3, "[pair] is missing");
	exactly("a = b", 5, 1, "a key before the first section: begin with [pair]");
	exactly("[pair]\nname\0= x", 15, 2, "not UTF-8");
	exactly("\xef\xbb\xbf[pair]\n", 10, 1, "begins with a byte order mark");
	exactly("\xef", 1, 1, "not UTF-8");
	exactly("[pair]\nk\xc3\xb6y = x\n", 16, 2, "unknown key k\xc3\xb6y");
}

static void a_file_name_that_is_no_name_needs_one_inside(void **state)
{
	g_autofree char *text = pair_text_with(pair_text, "pair", "name", NULL);
	GError *error = NULL;

	assert_null(
		colo_pair_parse(text, strlen(text), "/etc/colo/My Pair.conf", &error));
	assert_true(g_str_has_prefix(error->message, "/etc/colo/My Pair.conf:2: "));
	assert_non_null(strstr(error->message, "write name = NAME"));
	g_error_free(error);
}

static void comparing_needs_a_network(void **state)
{
	g_autofree char *one = pair_text_with(pair_text, "network dmz", NULL, NULL);
	g_autofree char *text = pair_text_with(one, "network lan", NULL, NULL);
	g_autofree char *message = refusal(text, strlen(text));

	says(message, pair_text_line(text, "comparison", "enabled"),
	     "enabled: there is nothing to compare without a [network NAME]");
}

/* What is too long is shortened, also in the middle of a character. */
static void long_nonsense_is_shortened(void **state)
{
	GString *line = g_string_new("[x");
	g_autofree char *text = NULL, *message = NULL;

	for (guint i = 0; i < 1000; i++)
		g_string_append(line, "\xc3\xbc");
	text = g_strconcat(pair_text, line->str, "]\n", NULL);
	message = refusal(text, strlen(text));
	assert_in_range(strlen(message), 50, 300);
	g_string_free(line, TRUE);
}

static void secrets_are_not_repeated(void **state)
{
	static const struct wrong secret[] = {
		{ "arbiter", "options", "passwd=s3cret", "" },
		{ "arbiter", "options", "ip=1; s3cret", "" },
	};
	g_autofree char *fence = pair_text_of("fence");
	g_autofree char *url = pair_text_with(pair_text, "arbiter", "endpoints",
					      "https://me:s3cret@host:1");
	g_autofree char *message = refusal(url, strlen(url));

	assert_null(strstr(message, "s3cret"));
	for (guint i = 0; i < G_N_ELEMENTS(secret); i++) {
		g_autofree char *text = pair_text_with(fence, secret[i].title,
						       secret[i].key, secret[i].value);
		g_autofree char *said = refusal(text, strlen(text));

		assert_null(strstr(said, "s3cret"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_wrong_field_has_its_own_message_and_line),
		cmocka_unit_test(no_row_was_forgotten),
		cmocka_unit_test(empty_is_wrong_for_every_key_but_append),
		cmocka_unit_test(sections_that_cannot_be_are_told),
		cmocka_unit_test(lines_that_cannot_be_are_told),
		cmocka_unit_test(odd_files_are_told),
		cmocka_unit_test(a_file_name_that_is_no_name_needs_one_inside),
		cmocka_unit_test(comparing_needs_a_network),
		cmocka_unit_test(long_nonsense_is_shortened),
		cmocka_unit_test(secrets_are_not_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
