/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pair file's values are together: contradictions. */
#include <string.h>

#include "base/units.h"
#include "colo/pair_reader.h"

#define HEARTBEATS_IN_TIMEOUT 3u

static gboolean judge_memory(const struct colo_reader *reader, GError **error)
{
	return !(reader->pair->vm.memory % (1 << 20)) ||
	       colo_reader_bad(reader, error, COLO_SECTION_VM, 0, "memory",
			       "not a whole number of MiB: write such as 1GiB");
}

static gboolean same(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

/* Where KEY, or KEY.NODE, is. */
static const char *said_key(const struct colo_reader *reader, guint index, guint node,
			    char **buffer)
{
	if (colo_reader_says(reader, COLO_SECTION_DISK, index, "path"))
		return "path";
	*buffer = g_strconcat("path.", reader->pair->node[node].name, NULL);
	return *buffer;
}

static gboolean judge_two_disks(const struct colo_reader *reader, guint a, guint b,
				GError **error)
{
	const struct colo_disk_config *disk = reader->pair->disk;

	for (guint node = 0; node < COLO_NODES; node++) {
		g_autofree char *buffer = NULL;
		const char *key = said_key(reader, b, node, &buffer);

		if (same(disk[a].path[node], disk[b].path[node]) &&
		    !(disk[a].readonly && disk[b].readonly))
			return colo_reader_bad(
				reader, error, COLO_SECTION_DISK, b, key,
				"disk %s has that path, too: write another one, or "
				"readonly = yes for both",
				disk[a].name);
	}
	return !same(disk[a].serial, disk[b].serial) ||
	       colo_reader_bad(reader, error, COLO_SECTION_DISK, b, "serial",
			       "disk %s has that one, too: write another one",
			       disk[a].name);
}

static gboolean judge_disks(const struct colo_reader *reader, GError **error)
{
	for (guint b = 0; b < reader->pair->disks; b++)
		for (guint a = 0; a < b; a++)
			if (!judge_two_disks(reader, a, b, error))
				return FALSE;
	return TRUE;
}

static gboolean judge_nets(const struct colo_reader *reader, GError **error)
{
	const struct colo_net_config *net = reader->pair->net;

	for (guint b = 0; b < reader->pair->nets; b++)
		for (guint a = 0; a < b; a++) {
			if (same(net[a].mac, net[b].mac))
				return colo_reader_bad(
					reader, error, COLO_SECTION_NETWORK, b, "mac",
					"network %s has that one, too: write "
					"another one",
					net[a].name);
			if (same(net[a].tap, net[b].tap))
				return colo_reader_bad(
					reader, error, COLO_SECTION_NETWORK, b, "tap",
					"network %s has %s, too: write tap = "
					"another name",
					net[a].name, net[b].tap);
		}
	return TRUE;
}

/* An address of a node, with the key that says it. */
struct address {
	const char *key, *address;
	guint node;
};

static gboolean judge_addresses(const struct colo_reader *reader,
				const struct address *list, guint count, GError **error)
{
	for (guint b = 0; b < count; b++)
		for (guint a = 0; a < b; a++)
			if (same(list[a].address, list[b].address))
				return colo_reader_bad(
					reader, error, COLO_SECTION_NODE, list[b].node,
					list[b].key,
					"%s of node %s is %s, too (line %u): write "
					"another port or address",
					list[a].key,
					reader->pair->node[list[a].node].name,
					list[a].address,
					colo_reader_line(reader, COLO_SECTION_NODE,
							 list[a].node, list[a].key));
	return TRUE;
}

/* TCP and UDP do not meet. */
static gboolean judge_tcp(const struct colo_reader *reader, GError **error)
{
	const struct colo_node_config *node = reader->pair->node;
	const struct address list[] = {
		{ "replication", node[0].replication, 0 },
		{ "control", node[0].control, 0 },
		{ "replication", node[1].replication, 1 },
		{ "control", node[1].control, 1 },
	};

	return judge_addresses(reader, list, G_N_ELEMENTS(list), error);
}

static guint length(char *const *items)
{
	guint count = 0;

	while (count < COLO_PATHS_MAX && items[count])
		count++;
	return count;
}

static gboolean judge_ways(const struct colo_reader *reader, GError **error)
{
	const struct colo_node_config *node = reader->pair->node;
	guint paths = reader->pair->paths;

	if (length(node[1].heartbeat) != paths)
		return colo_reader_bad(
			reader, error, COLO_SECTION_NODE, 1, "heartbeat",
			"%u here, but %u of node %s (line %u): the i-th "
			"goes "
			"to the other's i-th, write as many",
			length(node[1].heartbeat), paths, node[0].name,
			colo_reader_line(reader, COLO_SECTION_NODE, 0, "heartbeat"));
	for (guint i = 0; i < COLO_NODES; i++)
		if (node[i].heartbeat_device[0] &&
		    length(node[i].heartbeat_device) != paths)
			return colo_reader_bad(reader, error, COLO_SECTION_NODE, i,
					       "heartbeat-device",
					       "%u for %u ways: write one for each, "
					       "or take the line out",
					       length(node[i].heartbeat_device), paths);
	for (guint i = 0; i < paths; i++)
		if ((*node[0].heartbeat[i] == '[') != (*node[1].heartbeat[i] == '['))
			return colo_reader_bad(
				reader, error, COLO_SECTION_NODE, 1, "heartbeat",
				"way %u is from %s to %s: write IPv4 on "
				"both "
				"nodes, or IPv6 on both",
				i + 1, node[0].heartbeat[i], node[1].heartbeat[i]);
	return TRUE;
}

static gboolean judge_udp(const struct colo_reader *reader, GError **error)
{
	struct address list[COLO_NODES * COLO_PATHS_MAX];
	guint count = 0;

	for (guint i = 0; i < COLO_NODES; i++)
		for (guint j = 0; j < reader->pair->paths; j++)
			list[count++] = (struct address){
				"heartbeat", reader->pair->node[i].heartbeat[j], i
			};
	return judge_addresses(reader, list, count, error);
}

static gboolean judge_times(const struct colo_reader *reader, GError **error)
{
	const struct colo_heartbeat_config *heartbeat = &reader->pair->heartbeat;
	g_autofree char *least = base_format_time((guint64)HEARTBEATS_IN_TIMEOUT *
						  heartbeat->interval_ms);
	g_autofree char *timeout = base_format_time(heartbeat->timeout_ms);
	const char *key = colo_reader_says(reader, COLO_SECTION_HEARTBEAT, 0, "timeout")
				  ? "timeout"
				  : "interval";

	if (heartbeat->timeout_ms / HEARTBEATS_IN_TIMEOUT < heartbeat->interval_ms)
		return colo_reader_bad(
			reader, error, COLO_SECTION_HEARTBEAT, 0, key,
			"the timeout, %s, is less than %u intervals: write "
			"timeout = "
			"%s or more",
			timeout, HEARTBEATS_IN_TIMEOUT, least);
	return reader->pair->checkpoint.silence_ms >= heartbeat->timeout_ms ||
	       colo_reader_bad(reader, error, COLO_SECTION_CHECKPOINT, 0, "silence",
			       "less than the heartbeat's timeout: a link that is slow "
			       "for a "
			       "moment would cost a whole sync; write %s or more",
			       timeout);
}

static gboolean judge_comparison(const struct colo_reader *reader, GError **error)
{
	return !reader->pair->comparison.enabled || reader->pair->nets ||
	       colo_reader_bad(reader, error, COLO_SECTION_COMPARISON, 0, "enabled",
			       "there is nothing to compare without a [network NAME]: "
			       "write "
			       "one, or enabled = no");
}

/* One without the other. */
static gboolean judge_both(const struct colo_reader *reader, const char *key,
			   const char *value, const char *other,
			   const char *other_value, GError **error)
{
	return !value || other_value ||
	       colo_reader_bad(reader, error, COLO_SECTION_ARBITER, 0, key,
			       "needs %s: write that, too", other);
}

static gboolean judge_etcd(const struct colo_reader *reader, GError **error)
{
	const struct colo_arbiter_config *etcd = &reader->pair->arbiter;
	const char *key = etcd->ca ? "ca" : "cert";

	if (!judge_both(reader, "password-file", etcd->password_file, "user",
			etcd->user, error) ||
	    !judge_both(reader, "user", etcd->user, "password-file",
			etcd->password_file, error) ||
	    !judge_both(reader, "cert", etcd->cert, "cert-key", etcd->cert_key,
			error) ||
	    !judge_both(reader, "cert-key", etcd->cert_key, "cert", etcd->cert, error))
		return FALSE;
	for (char **at = etcd->endpoints; at && *at; at++)
		if (g_str_has_prefix(*at, "https:"))
			return TRUE;
	return (!etcd->ca && !etcd->cert) ||
	       colo_reader_bad(reader, error, COLO_SECTION_ARBITER, 0, key,
			       "%s: no endpoint is https: write https://HOST:PORT, or "
			       "take this "
			       "out",
			       key);
}

static gboolean judge_hook(const struct colo_reader *reader, GError **error)
{
	return reader->pair->hook.program || !reader->pair->hook.user ||
	       colo_reader_bad(
		       reader, error, COLO_SECTION_HOOKS, 0, "user",
		       "there is no program to run: write program = FILE, or take "
		       "this "
		       "out");
}

gboolean colo_pair_judge(const struct colo_reader *reader, GError **error)
{
	static gboolean (*const judges[])(const struct colo_reader *, GError **) = {
		judge_memory, judge_disks, judge_nets,	     judge_tcp,	 judge_ways,
		judge_udp,    judge_times, judge_comparison, judge_etcd, judge_hook,
	};

	for (guint i = 0; i < G_N_ELEMENTS(judges); i++)
		if (!judges[i](reader, error))
			return FALSE;
	return TRUE;
}
