/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair file: what both nodes of a pair are told, colo.conf(5). Read and judged as a
 * whole: nothing that it names is touched (colo/pair_check.h does that). Strings are the
 * pair's own and NULL where the file says nothing and there is no default. Any thread, while
 * nobody frees it.
 */
#ifndef COLO_PAIR_H
#define COLO_PAIR_H

#include <glib.h>

#define COLO_NODES 2u
#define COLO_DISKS_MAX 8u
#define COLO_NETS_MAX 8u
#define COLO_PATHS_MAX 4u /* ways of heartbeats */
#define COLO_NAME_MAX 32u /* bytes of a pair's or a node's name: [a-z0-9-], a letter first */

#define COLO_ERROR colo_error_quark()
GQuark colo_error_quark(void);
enum colo_error {
	COLO_ERROR_CONFIG, /* the pair file, or what it names, cannot be used */
	COLO_ERROR_HOST, /* the host cannot or does not let us do it */
	COLO_ERROR_PEER, /* the other node is not there, refused, or speaks nonsense */
	COLO_ERROR_STATE, /* not now, in the state that this node is in */
	COLO_ERROR_STALE, /* the other node has, or may have, a newer copy */
};

struct colo_vm_config {
	guint64 memory; /* bytes */
	guint cpus;
	char *cpu_model, *kernel, *initrd, *append;
	gboolean rng;
	enum { COLO_GUEST_STOP, COLO_GUEST_RESTART } on_reboot, on_crash; /* a crash: colo-vm's */
	enum { COLO_PANIC_REPORT, COLO_PANIC_RESET, COLO_PANIC_STOP } on_panic;
};

struct colo_disk_config {
	char *name; /* of the section: [disk NAME] */
	char *path[COLO_NODES]; /* may differ between the nodes: path, or path.NODE */
	char *serial;
	gboolean readonly, direct;
};

struct colo_net_config {
	char *name; /* [network NAME] */
	char *bridge[COLO_NODES]; /* NULL: routed, by whoever sets the tap up */
	char *tap; /* made by colod where there is none */
	char *mac;
};

struct colo_node_config {
	char *name;
	/* HOST:PORT, numeric. Replication: where a standby waits. Control: where colod does. */
	char *replication, *control;
	/* The i-th goes to the other node's i-th. */
	char *heartbeat[COLO_PATHS_MAX], *heartbeat_device[COLO_PATHS_MAX];
	char *plug; /* what the fence agent calls this node */
};

struct colo_checkpoint_config {
	char *mode; /* "auto", "colo" or "buffered" */
	guint period_ms, age_ms;
	guint64 bandwidth; /* bytes a second; 0: no limit */
	guint connections; /* 0: colo-vm's default */
	guint silence_ms; /* of the replication link, after which it is lost */
	gboolean verify; /* for tests */
};

struct colo_comparison_config {
	gboolean enabled; /* no: nothing is held back, outputs are not guarded */
	guint queue, queue_length;
	char *rule;
	guint late_max_ms;
	guint64 memory, receive_buffer;
	char *dump;
};

struct colo_heartbeat_config {
	guint interval_ms, timeout_ms;
};

enum colo_arbiter_kind {
	COLO_ARBITER_NONE, /* the survivor may go on alone */
	COLO_ARBITER_ETCD,
	COLO_ARBITER_FENCE,
	COLO_ARBITER_MANUAL,
};
struct colo_arbiter_config {
	enum colo_arbiter_kind kind;
	guint timeout_ms;
	char **endpoints; /* etcd: URLs, ended by NULL */
	char *prefix, *ca, *cert, *cert_key, *user, *password_file;
	char *agent; /* fence: the program */
	char **agent_options; /* "name=value", ended by NULL */
	char *agent_secrets; /* a file of more of them, readable to its owner only */
	char *agent_action; /* "off" or "reboot" */
	guint survivor; /* none: index of the node */
	guint delay_ms; /* what a secondary that still hears its primary waits before it claims */
};

struct colo_hook_config {
	char *program; /* NULL: none */
	char *user; /* NULL: as colod */
	guint timeout_ms;
};

struct colo_limits_config {
	guint restarts; /* of a program within a minute, before colod gives it up */
	guint64 log_bytes; /* of each program's log file, before it is begun anew */
};

typedef struct colo_pair {
	char *name;
	char *key; /* file */
	char *text; /* of the file, as it was read: the nodes compare theirs */
	struct colo_node_config node[COLO_NODES]; /* in the order of the file */
	struct colo_vm_config vm;
	struct colo_disk_config disk[COLO_DISKS_MAX];
	guint disks;
	struct colo_net_config net[COLO_NETS_MAX];
	guint nets;
	struct colo_checkpoint_config checkpoint;
	struct colo_comparison_config comparison;
	struct colo_heartbeat_config heartbeat;
	guint paths; /* ways of heartbeats */
	struct colo_arbiter_config arbiter;
	struct colo_hook_config hook;
	struct colo_limits_config limits;
} colo_pair;

/* Reads and judges a pair file. COLO_ERROR_CONFIG with "FILE:LINE: what is wrong"; the first
 * fault only. */
colo_pair *colo_pair_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same of a text; `name` stands for the file in errors, and names the pair where the text
 * does not (its last part, without ".conf"). */
colo_pair *colo_pair_parse(const char *text, gsize length, const char *name,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void colo_pair_free(colo_pair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_pair, colo_pair_free)

/* Which node this host is: `name` where given, else by the host's name (its first part).
 * FALSE with the names that there are. */
gboolean colo_pair_whoami(const colo_pair *pair, const char *name, guint *node,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What differs between two nodes' files in what they mean (comments, order and spaces do
 * not count), as lines "section/key: ours VALUE, theirs VALUE"; NULL: nothing. The caller's
 * to free. */
char *colo_pair_diff(const colo_pair *ours, const colo_pair *theirs);

#endif
