/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every section and key of a pair file. */
#include "colo/pair_rows.h"

#include "base/units.h"

#define PAIR(member) G_STRUCT_OFFSET(colo_pair, member)
#define VM(member) G_STRUCT_OFFSET(struct colo_vm_config, member)
#define DISK(member) G_STRUCT_OFFSET(struct colo_disk_config, member)
#define NET(member) G_STRUCT_OFFSET(struct colo_net_config, member)
#define NODE(member) G_STRUCT_OFFSET(struct colo_node_config, member)
#define CHECKPOINT(member) G_STRUCT_OFFSET(struct colo_checkpoint_config, member)
#define COMPARISON(member) G_STRUCT_OFFSET(struct colo_comparison_config, member)
#define HEARTBEAT(member) G_STRUCT_OFFSET(struct colo_heartbeat_config, member)
#define ARBITER(member) G_STRUCT_OFFSET(struct colo_arbiter_config, member)
#define HOOK(member) G_STRUCT_OFFSET(struct colo_hook_config, member)
#define LIMIT(member) G_STRUCT_OFFSET(struct colo_limits_config, member)

#define REQUIRED .required = TRUE
#define PER_NODE .per_node = TRUE
#define EXAMPLE .example =
#define ETCD .arbiters = 1u << COLO_ARBITER_ETCD
#define FENCE .arbiters = 1u << COLO_ARBITER_FENCE
#define NONE .arbiters = 1u << COLO_ARBITER_NONE
#define NOT_MANUAL                                                       \
	.arbiters = 1u << COLO_ARBITER_ETCD | 1u << COLO_ARBITER_FENCE | \
		    1u << COLO_ARBITER_NONE

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)
#define SECOND 1000ull
#define MINUTE 60000ull
#define HOUR 3600000ull

const struct colo_section_row colo_section_rows[COLO__SECTIONS] = {
	[COLO_SECTION_PAIR] = { "pair", 0, 0, TRUE },
	[COLO_SECTION_VM] = { "vm", PAIR(vm), 0, TRUE },
	[COLO_SECTION_DISK] = { "disk", PAIR(disk), sizeof(struct colo_disk_config) },
	[COLO_SECTION_NETWORK] = { "network", PAIR(net),
				   sizeof(struct colo_net_config) },
	[COLO_SECTION_NODE] = { "node", PAIR(node), sizeof(struct colo_node_config) },
	[COLO_SECTION_CHECKPOINT] = { "checkpoint", PAIR(checkpoint) },
	[COLO_SECTION_COMPARISON] = { "comparison", PAIR(comparison) },
	[COLO_SECTION_HEARTBEAT] = { "heartbeat", PAIR(heartbeat) },
	[COLO_SECTION_ARBITER] = { "arbiter", PAIR(arbiter), 0, TRUE },
	[COLO_SECTION_HOOKS] = { "hooks", PAIR(hook) },
	[COLO_SECTION_LIMITS] = { "limits", PAIR(limits) },
};

/* clang-format off */
const struct colo_row colo_rows[] = {
#define ROW(key, kind, at, ...) { COLO_SECTION_PAIR, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("nodes", NODES, PAIR(node), 0, 0, NULL,
	    "the two nodes' names; the first begins a new pair", EXAMPLE "alpha; beta", REQUIRED),
	ROW("name", NAME, PAIR(name), 0, 0, NULL, "the pair's name", EXAMPLE "web"),
	ROW("key", FILE, PAIR(key), 0, 0, NULL, "file with the pair's key",
	    EXAMPLE "/etc/colo/web.key", REQUIRED),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_VM, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("memory", SIZE, VM(memory), 64 * MIB, TIB, "1GiB", "the guest's memory"),
	ROW("cpus", COUNT, VM(cpus), 1, 8, "2", "virtual CPUs"),
	ROW("cpu-model", WORD, VM(cpu_model), 0, 0, "host", "host|x86-64-v2|x86-64-v3"),
	ROW("kernel", FILE, VM(kernel), 0, 0, NULL, "Linux kernel (bzImage) to boot",
	    EXAMPLE "/var/lib/colo/web/vmlinuz", REQUIRED),
	ROW("initrd", FILE, VM(initrd), 0, 0, NULL, "its initial RAM disk",
	    EXAMPLE "/var/lib/colo/web/initrd.img"),
	ROW("append", ANY_TEXT, VM(append), 0, 0, NULL, "its command line",
	    EXAMPLE "root=/dev/vda1 console=ttyS0"),
	ROW("rng", SWITCH, VM(rng), 0, 0, "yes", "whether the guest has an entropy device"),
	ROW("on-reboot", CHOICE, VM(on_reboot), 0, 0, "restart", "stop|restart"),
	ROW("on-crash", CHOICE, VM(on_crash), 0, 0, "restart", "stop|restart"),
	ROW("on-panic", CHOICE, VM(on_panic), 0, 0, "report", "report|reset|stop"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_DISK, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("path", FILE, DISK(path), 0, 0, NULL, "raw file or block device",
	    EXAMPLE "/dev/vg0/web", REQUIRED, PER_NODE),
	ROW("readonly", SWITCH, DISK(readonly), 0, 0, "no", "whether the guest cannot write"),
	ROW("direct", SWITCH, DISK(direct), 0, 0, "no",
	    "whether the host's page cache is passed by"),
	ROW("serial", SERIAL, DISK(serial), 0, 0, NULL, "serial number that the guest sees",
	    EXAMPLE "data-1"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_NETWORK, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("bridge", DEVICE, NET(bridge), 0, 0, NULL, "bridge that the tap is put into",
	    EXAMPLE "br0", PER_NODE),
	ROW("tap", DEVICE, NET(tap), 0, 0, NULL, "the card's tap", EXAMPLE "web-tap0"),
	ROW("mac", MAC, NET(mac), 0, 0, NULL, "the card's address",
	    EXAMPLE "52:54:00:12:34:56", REQUIRED),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_NODE, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("replication", ADDRESS, NODE(replication), 0, 0, NULL,
	    "where the guest's copy comes in", EXAMPLE "10.9.0.1:7000", REQUIRED),
	ROW("control", ADDRESS, NODE(control), 0, 0, NULL, "where the other node's colod calls",
	    EXAMPLE "10.9.0.1:7001", REQUIRED),
	ROW("heartbeat", ADDRESSES, NODE(heartbeat), 0, 0, NULL,
	    "where heartbeats come in, by 1 to 4 ways", EXAMPLE "10.9.0.1:7002; 192.0.2.1:7002",
	    REQUIRED),
	ROW("heartbeat-device", DEVICES, NODE(heartbeat_device), 0, 0, NULL,
	    "the network device of each of them", EXAMPLE "eth1; br0"),
	ROW("plug", TEXT, NODE(plug), 0, 0, NULL, "what the fence agent calls this node",
	    EXAMPLE "7", FENCE, REQUIRED),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_CHECKPOINT, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("mode", WORD, CHECKPOINT(mode), 0, 0, "auto", "auto|colo|buffered"),
	ROW("period", TIME, CHECKPOINT(period_ms), 1, 10 * SECOND, "20ms",
	    "from one checkpoint to the next in buffered mode"),
	ROW("age", TIME, CHECKPOINT(age_ms), 1, HOUR, "1s",
	    "the longest time from one checkpoint to the next"),
	ROW("bandwidth", RATE, CHECKPOINT(bandwidth), 64 * KIB, TIB, "none",
	    "what the first sync may use"),
	ROW("connections", COUNT, CHECKPOINT(connections), 1, 8, NULL,
	    "connections of the first sync", EXAMPLE "4"),
	ROW("silence", TIME, CHECKPOINT(silence_ms), 50, 10 * MINUTE, NULL,
	    "of the replication link, after which it is lost", EXAMPLE "400ms"),
	ROW("verify", SWITCH, CHECKPOINT(verify), 0, 0, "no",
	    "whether both sides digest everything at each checkpoint"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_COMPARISON, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("enabled", SWITCH, COMPARISON(enabled), 0, 0, NULL,
	    "whether what the guest sends is held back until it is safe", EXAMPLE "yes"),
	ROW("queue", COUNT, COMPARISON(queue), 1, 65535, NULL, "number of the NFQUEUE",
	    EXAMPLE "7"),
	ROW("queue-length", COUNT, COMPARISON(queue_length), 64, 1 << 24, "65536",
	    "how many packets may wait"),
	ROW("rule", WORD, COMPARISON(rule), 0, 0, "auto", "auto|nft|iptables"),
	ROW("late-max", TIME, COMPARISON(late_max_ms), 1, MINUTE, "200ms",
	    "what the secondary's guest may be late by"),
	ROW("memory", SIZE, COMPARISON(memory), MIB, TIB, "256MiB",
	    "what may be kept of packets and connections"),
	ROW("receive-buffer", SIZE, COMPARISON(receive_buffer), 64 * KIB, GIB, "64MiB",
	    "room for packets on their way from the kernel"),
	ROW("dump", FILE, COMPARISON(dump), 0, 0, NULL, "capture file for packets that differ",
	    EXAMPLE "/var/tmp/web.pcapng"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_HEARTBEAT, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("interval", TIME, HEARTBEAT(interval_ms), 5, 10 * SECOND, "50ms",
	    "from one heartbeat to the next"),
	ROW("timeout", TIME, HEARTBEAT(timeout_ms), 15, MINUTE, "300ms",
	    "silence after which the other node is believed lost"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_ARBITER, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("type", CHOICE, ARBITER(kind), 0, 0, NULL, "none|etcd|fence|manual", EXAMPLE "etcd",
	    REQUIRED),
	ROW("timeout", TIME, ARBITER(timeout_ms), 100, MINUTE, "2s",
	    "how long etcd may take for an answer", ETCD),
	ROW("timeout", TIME, ARBITER(timeout_ms), SECOND, 10 * MINUTE, "30s",
	    "how long the fence agent may take", FENCE),
	ROW("delay", TIME, ARBITER(delay_ms), 0, MINUTE, "1s",
	    "what a secondary that still hears its primary waits before it claims", NOT_MANUAL),
	ROW("endpoints", URLS, ARBITER(endpoints), 0, 0, NULL, "where etcd is",
	    EXAMPLE "https://10.9.0.3:2379; https://10.9.0.4:2379", ETCD, REQUIRED),
	ROW("prefix", PREFIX, ARBITER(prefix), 0, 0, "/colo/", "what its keys begin with", ETCD),
	ROW("ca", FILE, ARBITER(ca), 0, 0, NULL, "certificates that its servers' are signed with",
	    EXAMPLE "/etc/colo/etcd-ca.pem", ETCD),
	ROW("cert", FILE, ARBITER(cert), 0, 0, NULL, "this node's certificate for it",
	    EXAMPLE "/etc/colo/etcd.pem", ETCD),
	ROW("cert-key", FILE, ARBITER(cert_key), 0, 0, NULL, "the certificate's private key",
	    EXAMPLE "/etc/colo/etcd-key.pem", ETCD),
	ROW("user", TEXT, ARBITER(user), 0, 0, NULL, "etcd's user", EXAMPLE "colo", ETCD),
	ROW("password-file", FILE, ARBITER(password_file), 0, 0, NULL,
	    "file with the user's password", EXAMPLE "/etc/colo/etcd.password", ETCD),
	ROW("agent", FILE, ARBITER(agent), 0, 0, NULL, "the fence agent",
	    EXAMPLE "/usr/sbin/fence_ipmilan", FENCE, REQUIRED),
	ROW("action", WORD, ARBITER(agent_action), 0, 0, "off", "off|reboot", FENCE),
	ROW("options", OPTIONS, ARBITER(agent_options), 0, 0, NULL, "the agent's options",
	    EXAMPLE "ip=10.9.0.3; username=colo", FENCE),
	ROW("secrets", FILE, ARBITER(agent_secrets), 0, 0, NULL,
	    "file with those of its options that are secret", EXAMPLE "/etc/colo/fence.secrets",
	    FENCE),
	ROW("survivor", NODE, ARBITER(survivor), 0, 0, NULL, "the node that may go on alone",
	    EXAMPLE "alpha", NONE, REQUIRED),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_HOOKS, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("program", FILE, HOOK(program), 0, 0, NULL, "what is run at every event",
	    EXAMPLE "/etc/colo/hook"),
	ROW("user", TEXT, HOOK(user), 0, 0, NULL, "the user it runs as", EXAMPLE "nobody"),
	ROW("timeout", TIME, HOOK(timeout_ms), 100, 10 * MINUTE, "10s", "how long it may take"),
#undef ROW
#define ROW(key, kind, at, ...) { COLO_SECTION_LIMITS, key, COLO_VALUE_##kind, at, __VA_ARGS__ }
	ROW("restarts", COUNT, LIMIT(restarts), 0, 1000, "5",
	    "of a program within a minute, before it is given up"),
	ROW("log", SIZE, LIMIT(log_bytes), 64 * KIB, TIB, "16MiB",
	    "of each program's log file, before it is begun anew"),
#undef ROW
};
/* clang-format on */
const guint colo_rows_count = G_N_ELEMENTS(colo_rows);

/* CHOICE and SWITCH are written through a guint pointer. */
G_STATIC_ASSERT(sizeof(((colo_pair *)0)->vm.on_reboot) == sizeof(guint));
G_STATIC_ASSERT(sizeof(((colo_pair *)0)->vm.on_panic) == sizeof(guint));
G_STATIC_ASSERT(sizeof(enum colo_arbiter_kind) == sizeof(guint));

void *colo_row_at(const struct colo_row *row, const colo_pair *pair, guint index)
{
	const struct colo_section_row *section = &colo_section_rows[row->section];

	return (char *)pair + section->offset + index * section->stride + row->offset;
}

guint colo_section_count(const colo_pair *pair, enum colo_pair_section section)
{
	switch (section) {
	case COLO_SECTION_DISK:
		return pair->disks;
	case COLO_SECTION_NETWORK:
		return pair->nets;
	case COLO_SECTION_NODE:
		return COLO_NODES;
	default:
		return 1;
	}
}

const char *colo_section_name(const colo_pair *pair, enum colo_pair_section section,
			      guint index)
{
	switch (section) {
	case COLO_SECTION_DISK:
		return pair->disk[index].name;
	case COLO_SECTION_NETWORK:
		return pair->net[index].name;
	case COLO_SECTION_NODE:
		return pair->node[index].name;
	default:
		return NULL;
	}
}

static char *join(char *const *items, guint max)
{
	GString *all = g_string_new(NULL);

	for (guint i = 0; i < max && items[i]; i++)
		g_string_append_printf(all, "%s%s", i ? "; " : "", items[i]);
	return g_string_free(all, all->len == 0);
}

char *colo_row_format(const struct colo_row *row, const colo_pair *pair, guint index,
		      guint node)
{
	const void *at = colo_row_at(row, pair, index);
	char *const *text = at;
	g_autofree char *size = NULL;
	g_auto(GStrv) words = NULL;

	if (row->arbiters && !(row->arbiters & 1u << pair->arbiter.kind))
		return NULL;
	switch (row->kind) {
	case COLO_VALUE_DEVICES:
	case COLO_VALUE_ADDRESSES:
		return join(at, COLO_PATHS_MAX);
	case COLO_VALUE_URLS:
	case COLO_VALUE_OPTIONS:
		return *(char **const *)at ? join(*(char **const *)at, G_MAXUINT)
					   : NULL;
	case COLO_VALUE_CHOICE:
		words = g_strsplit(row->help, "|", -1);
		return g_strdup(words[*(const guint *)at]);
	case COLO_VALUE_SWITCH:
		return g_strdup(*(const gboolean *)at ? "yes" : "no");
	case COLO_VALUE_COUNT:
		return g_strdup_printf("%u", *(const guint *)at);
	case COLO_VALUE_TIME:
		return base_format_time(*(const guint *)at);
	case COLO_VALUE_SIZE:
		return base_format_size(*(const guint64 *)at);
	case COLO_VALUE_RATE:
		size = base_format_size(*(const guint64 *)at);
		return *(const guint64 *)at ? g_strconcat(size, "/s", NULL)
					    : g_strdup("none");
	case COLO_VALUE_NODES:
		return g_strdup_printf("%s; %s", pair->node[0].name,
				       pair->node[1].name);
	case COLO_VALUE_NODE:
		return g_strdup(pair->node[*(const guint *)at].name);
	default:
		return g_strdup(text[row->per_node ? node : 0]);
	}
}

static void clear_texts(char **at, guint count)
{
	for (guint i = 0; i < count; i++)
		g_clear_pointer(&at[i], g_free);
}

void colo_row_clear(const struct colo_row *row, colo_pair *pair, guint index)
{
	void *at = colo_row_at(row, pair, index);

	switch (row->kind) {
	case COLO_VALUE_DEVICES:
	case COLO_VALUE_ADDRESSES:
		clear_texts(at, COLO_PATHS_MAX);
		break;
	case COLO_VALUE_URLS:
	case COLO_VALUE_OPTIONS:
		g_clear_pointer((char ***)at, g_strfreev);
		break;
	case COLO_VALUE_CHOICE:
	case COLO_VALUE_SWITCH:
	case COLO_VALUE_COUNT:
	case COLO_VALUE_TIME:
	case COLO_VALUE_SIZE:
	case COLO_VALUE_RATE:
	case COLO_VALUE_NODES: /* names of sections are freed apart */
	case COLO_VALUE_NODE:
		break;
	default:
		clear_texts(at, row->per_node ? COLO_NODES : 1);
	}
}
