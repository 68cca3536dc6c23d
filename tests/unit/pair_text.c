/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair file for tests. */
#include "tests/unit/pair_text.h"

#include <string.h>

const char pair_text[] = "# A pair for tests.\n"
			 "[pair]\n"
			 "name = web\n"
			 "nodes = alpha; beta\n"
			 "key = /etc/colo/web.key\n"
			 "\n"
			 "[vm]\n"
			 "memory = 2GiB\n"
			 "cpus = 4\n"
			 "cpu-model = x86-64-v2\n"
			 "kernel = /srv/vmlinuz\n"
			 "initrd = /srv/initrd\n"
			 "append = root=/dev/vda quiet # one\\two\n"
			 "rng = no\n"
			 "on-reboot = stop\n"
			 "on-crash = stop\n"
			 "on-panic = reset\n"
			 "[disk data]\n"
			 "path.alpha = /dev/vg0/data\n"
			 "path.beta = /dev/vg1/data\n"
			 "readonly = yes\n"
			 "direct = yes\n"
			 "serial = data-7\n"
			 "[disk logs]\n"
			 "path = /srv/logs.raw\n"
			 "[network lan]\n"
			 "bridge = br0\n"
			 "tap = web0\n"
			 "mac = 52:54:00:AB:cd:ef\n"
			 "[network dmz]\n"
			 "mac = 52:54:00:00:00:02\n"
			 "[node beta]\n"
			 "replication = [FD00:0::2]:7000\n"
			 "control = 10.9.0.2:7001\n"
			 "heartbeat = 10.9.0.2:7002; 192.0.2.2:07002;\n"
			 "[node alpha]\n"
			 "replication = 10.9.0.1:7000\n"
			 "control = 10.9.0.1:7001\n"
			 "heartbeat = 10.9.0.1:7002;192.0.2.1:7002\n"
			 "heartbeat-device = eth1; br0\n"
			 "[checkpoint]\n"
			 "mode = colo\n"
			 "period = 30ms\n"
			 "age = 2s\n"
			 "bandwidth = 100MiB/s\n"
			 "connections = 3\n"
			 "silence = 1s\n"
			 "verify = yes\n"
			 "[comparison]\n"
			 "enabled = yes\n"
			 "queue = 7\n"
			 "queue-length = 1000\n"
			 "rule = nft\n"
			 "late-max = 50ms\n"
			 "memory = 128MiB\n"
			 "receive-buffer = 32MiB\n"
			 "dump = /var/tmp/web.pcapng\n"
			 "[heartbeat]\n"
			 "interval = 20ms\n"
			 "timeout = 200ms\n"
			 "[arbiter]\n"
			 "type = etcd\n"
			 "timeout = 3s\n"
			 "delay = 500ms\n"
			 "endpoints = https://e1.example:2379; http://[fd00::3]:2379/\n"
			 "prefix = /our/colo/\n"
			 "ca = /etc/ca.pem\n"
			 "cert = /etc/cert.pem\n"
			 "cert-key = /etc/cert-key.pem\n"
			 "user = colo\n"
			 "password-file = /etc/password\n"
			 "[hooks]\n"
			 "program = /etc/colo/hook\n"
			 "user = nobody\n"
			 "timeout = 3s\n"
			 "[limits]\n"
			 "restarts = 2\n"
			 "log = 1MiB\n";

static gboolean is_title(const char *line, const char *title)
{
	return *line == '[' && !strncmp(line + 1, title, strlen(title)) &&
	       line[1 + strlen(title)] == ']';
}

static gboolean is_key(const char *line, const char *key)
{
	return !strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ';
}

guint pair_text_line(const char *text, const char *title, const char *key)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	gboolean inside = FALSE;

	for (guint i = 0; lines[i]; i++) {
		if (*lines[i] == '[')
			inside = is_title(lines[i], title);
		if (inside && (key ? is_key(lines[i], key) : *lines[i] == '['))
			return i + 1;
	}
	return 0;
}

char *pair_text_with(const char *text, const char *title, const char *key,
		     const char *value)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	guint line = pair_text_line(text, title, key);
	GString *out = g_string_new(NULL);
	gboolean inside = FALSE;

	for (guint i = 0; lines[i]; i++) {
		gboolean last = !lines[i + 1], new;

		if (*lines[i] == '[')
			inside = is_title(lines[i], title);
		new = key &&value && !line &&inside &&*lines[i] == '[';
		if (i + 1 == line && key) {
			if (value)
				g_string_append_printf(out, "%s = %s\n", key, value);
		} else if (inside && !key) {
			if (value)
				g_string_append_printf(
					out, "%s\n", i + 1 == line ? value : lines[i]);
		} else {
			g_string_append_printf(out, "%s%s", lines[i], last ? "" : "\n");
		}
		if (new)
			g_string_append_printf(out, "%s = %s\n", key, value);
	}
	return g_string_free(out, FALSE);
}

static void edit(char **text, const char *title, const char *key, const char *value)
{
	char *edited = pair_text_with(*text, title, key, value);

	g_free(*text);
	*text = edited;
}

char *pair_text_of(const char *arbiter)
{
	static const char *const etcd[] = { "timeout",	"delay", "endpoints",
					    "prefix",	"ca",	 "cert",
					    "cert-key", "user",	 "password-file" };
	char *text = pair_text_with(pair_text, "arbiter", "type", arbiter);

	for (guint i = 0; i < G_N_ELEMENTS(etcd); i++)
		edit(&text, "arbiter", etcd[i], NULL);
	if (!strcmp(arbiter, "fence")) {
		edit(&text, "arbiter", "agent", "/usr/sbin/fence_ipmilan");
		edit(&text, "arbiter", "action", "reboot");
		edit(&text, "arbiter", "options", "ip = 192.0.2.9; lanplus=; opt=a=b");
		edit(&text, "arbiter", "secrets", "/etc/secrets");
		edit(&text, "node alpha", "plug", "7");
		edit(&text, "node beta", "plug", "8");
	} else if (!strcmp(arbiter, "none")) {
		edit(&text, "arbiter", "survivor", "beta");
	}
	return text;
}
