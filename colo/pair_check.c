/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Judges what a pair file names on this host. */
#include "colo/pair_check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/key.h"
#include "base/tcp.h"
#include "base/units.h"
#include "colo/secret.h"

#define SECTOR 512u
#define HEADER_AT 0x202 /* where a bzImage says "HdrS" */

struct check {
	const colo_pair *pair;
	guint node;
	const struct colo_host *host;
	colo_pair_report report;
	void *data;
	gboolean errors;
	struct ifaddrs *own; /* this host's addresses */
};

static void tell(struct check *check, enum colo_finding kind, const char *where,
		 const char *format, ...) G_GNUC_PRINTF(4, 5);
static void tell(struct check *check, enum colo_finding kind, const char *where,
		 const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	check->errors |= kind == COLO_FINDING_ERROR;
	check->report(check->data, kind, where, what);
}

#define note(check, where, ...) tell(check, COLO_FINDING_NOTE, where, __VA_ARGS__)
#define warn(check, where, ...) tell(check, COLO_FINDING_WARNING, where, __VA_ARGS__)
#define fail(check, where, ...) tell(check, COLO_FINDING_ERROR, where, __VA_ARGS__)

/* Files. */

static gboolean may(const char *path, int how)
{
	return faccessat(AT_FDCWD, path, how, AT_EACCESS) == 0;
}

/* A file that is there, or an error with `next`: what to do. */
static gboolean look(struct check *check, const char *where, const char *path,
		     const char *next, struct stat *status)
{
	int err;

	if (stat(path, status) == 0)
		return TRUE;
	err = errno;
	fail(check, where, "%s: %s: %s", path, g_strerror(err), next);
	return FALSE;
}

/* A regular file that may be read, to be `what`. */
static gboolean check_readable(struct check *check, const char *where, const char *path,
			       const char *what, struct stat *status)
{
	g_autofree char *next =
		g_strdup_printf("put %s there, or write its path", what);

	if (!look(check, where, path, next, status))
		return FALSE;
	if (!S_ISREG(status->st_mode)) {
		fail(check, where, "%s is not a regular file: %s", path, next);
		return FALSE;
	}
	if (!may(path, R_OK)) {
		fail(check, where,
		     "%s cannot be read by user %u: let it (chmod, chown), or run as "
		     "root",
		     path, geteuid());
		return FALSE;
	}
	return TRUE;
}

/* A file with a secret, judged as who reads it will. */
static void check_secret(struct check *check, const char *where, const char *path,
			 const char *what)
{
	g_autoptr(GError) error = NULL;
	struct stat status;

	if (!path)
		return;
	if (!colo_secret_check_file(what, path, &error))
		fail(check, where,
		     "%s: a file with %s, chmod 600 and of root, is to be there",
		     error->message, what);
	else if (stat(path, &status) == 0 && status.st_size == 0)
		fail(check, where, "%s is empty: write %s into it", path, what);
}

/* A program that is run with rights. */
static void check_program(struct check *check, const char *where, const char *path,
			  const char *next)
{
	struct stat status;

	if (!look(check, where, path, next, &status))
		return;
	if (!S_ISREG(status.st_mode) || !may(path, X_OK))
		fail(check, where,
		     "%s is no program that can be run: chmod +x %s, or %s", path, path,
		     next);
	else if (status.st_mode & 022 ||
		 (status.st_uid != 0 && status.st_uid != geteuid()))
		warn(check, where,
		     "%s can be changed by others than root (owner %u, mode %04o), and "
		     "is "
		     "run with rights: chown root and chmod 755 %s",
		     path, status.st_uid, status.st_mode & 07777, path);
}

static void check_key(struct check *check)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(base_key) key = base_key_read(check->pair->key, &error);

	if (!key)
		fail(check, "pair/key",
		     "%s: \"colo keygen %s\" makes one, and both nodes need the same",
		     error->message, check->pair->key);
}

/* The guest. */

static void check_kernel(struct check *check)
{
	const char *path = check->pair->vm.kernel;
	base_autofd int fd = -1;
	struct stat status;
	char magic[4];

	if (!check_readable(check, "vm/kernel", path, "a Linux kernel (bzImage)",
			    &status))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || pread(fd, magic, sizeof(magic), HEADER_AT) != sizeof(magic) ||
	    memcmp(magic, "HdrS", sizeof(magic)))
		fail(check, "vm/kernel",
		     "%s is not a Linux bzImage: take the distribution's vmlinuz",
		     path);
}

/* The value of a line such as "MemTotal:  16000 kB" in bytes; 0: not there. */
static guint64 memory_line(const char *meminfo, const char *name)
{
	const char *at = strstr(meminfo, name);

	return at ? g_ascii_strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

static void check_memory(struct check *check)
{
	g_autofree char *wanted = base_format_size(check->pair->vm.memory);
	g_autofree char *meminfo = NULL;
	guint64 total, available;

	if (!g_file_get_contents(check->host->meminfo, &meminfo, NULL, NULL))
		return;
	total = memory_line(meminfo, "MemTotal:");
	available = memory_line(meminfo, "MemAvailable:");
	if (total && check->pair->vm.memory > total)
		warn(check, "vm/memory",
		     "%s for the guest, but this host has %" G_GUINT64_FORMAT
		     "MiB: write less, or give it more",
		     wanted, total >> 20);
	else if (available && check->pair->vm.memory > available)
		warn(check, "vm/memory",
		     "%s for the guest, but %" G_GUINT64_FORMAT
		     "MiB of this host are free: end what else runs here, or write "
		     "less",
		     wanted, available >> 20);
}

static void check_kvm(struct check *check)
{
	const char *kvm = check->host->kvm;
	struct stat status;

	if (look(check, "vm", kvm,
		 "load kvm_intel or kvm_amd, and switch virtualization on in the "
		 "firmware",
		 &status) &&
	    !may(kvm, R_OK | W_OK))
		fail(check, "vm",
		     "%s cannot be opened by user %u: add it to the group kvm, or run "
		     "as "
		     "root",
		     kvm, geteuid());
}

static void check_vm(struct check *check)
{
	const struct colo_vm_config *vm = &check->pair->vm;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct stat status;

	check_kvm(check);
	check_kernel(check);
	if (vm->initrd)
		(void)check_readable(check, "vm/initrd", vm->initrd,
				     "the kernel's initial RAM disk", &status);
	check_memory(check);
	if (cpus > 0 && vm->cpus > (guint)cpus)
		warn(check, "vm/cpus",
		     "%u virtual CPUs on %ld processors: they will wait for each "
		     "other; "
		     "write %ld or less",
		     vm->cpus, cpus, cpus);
}

/* Disks. */

/* By what the kernel tells of a block device, which is not opened; -1: nothing. */
static gint64 block_size(struct check *check, dev_t device)
{
	g_autofree char *path = g_strdup_printf("%s/%u:%u/size", check->host->blocks,
						major(device), minor(device));
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return -1;
	return (gint64)g_ascii_strtoull(text, NULL, 10) * SECTOR;
}

static void check_size(struct check *check, const char *where, const char *path,
		       const struct stat *status)
{
	gboolean block = S_ISBLK(status->st_mode);
	gint64 size = block ? block_size(check, status->st_rdev) : status->st_size;
	g_autofree char *text = size < 0 ? NULL : base_format_size((guint64)size);

	if (size < 0)
		warn(check, where,
		     "%s: its size is not known: see that it is as on the other node",
		     path);
	else if (size < SECTOR || size % SECTOR)
		fail(check, where,
		     "%s has %" G_GINT64_FORMAT " bytes, not a whole number of sectors "
		     "of %u: make it as large as on "
		     "the other node (truncate -s)",
		     path, size, SECTOR);
	else
		note(check, where, "%s: %s of %s%s", path,
		     block ? "a block device" : "a file", text,
		     strcspn(text, "KMGT") < strlen(text) ? "" : " bytes");
}

static void check_disk(struct check *check, guint index, struct stat *status)
{
	const struct colo_disk_config *disk = &check->pair->disk[index];
	const char *path = disk->path[check->node];
	g_autofree char *where = g_strdup_printf("disk %s/path", disk->name);

	if (!look(check, where, path,
		  "make it, as large as on the other node (truncate -s SIZE, lvcreate)",
		  status))
		return;
	if (!S_ISREG(status->st_mode) && !S_ISBLK(status->st_mode)) {
		fail(check, where,
		     "%s is neither a regular file nor a block device: write another "
		     "path",
		     path);
		return;
	}
	if (!may(path, disk->readonly ? R_OK : R_OK | W_OK))
		fail(check, where,
		     "%s cannot be %s by user %u: let it (chmod, chown), write "
		     "readonly = "
		     "yes, or run as root",
		     path, disk->readonly ? "read" : "read and written", geteuid());
	check_size(check, where, path, status);
	for (guint i = 0; i < index; i++) {
		const struct colo_disk_config *other = &check->pair->disk[i];
		struct stat its;

		if (!(disk->readonly && other->readonly) &&
		    stat(other->path[check->node], &its) == 0 &&
		    (S_ISBLK(its.st_mode) && S_ISBLK(status->st_mode)
			     ? its.st_rdev == status->st_rdev
			     : its.st_dev == status->st_dev &&
				       its.st_ino == status->st_ino))
			fail(check, where,
			     "%s is the same as %s of disk %s: write another path",
			     path, other->path[check->node], other->name);
	}
}

/* Networks. */

static gboolean net_has(struct check *check, const char *device, const char *file)
{
	g_autofree char *path = g_build_filename(check->host->nets, device, file, NULL);

	return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void check_net(struct check *check, const struct colo_net_config *net)
{
	const char *bridge = net->bridge[check->node];
	g_autofree char *at_bridge = g_strdup_printf("network %s/bridge", net->name);
	g_autofree char *at_tap = g_strdup_printf("network %s/tap", net->name);

	if (bridge && !net_has(check, bridge, NULL))
		fail(check, at_bridge,
		     "there is no %s on this host: make it (ip link add %s type "
		     "bridge, and "
		     "in the host's own network configuration), or write bridge.%s = "
		     "another",
		     bridge, bridge, check->pair->node[check->node].name);
	else if (bridge && !net_has(check, bridge, "bridge"))
		fail(check, at_bridge,
		     "%s is no bridge: write a bridge that it is a port of, or make "
		     "one",
		     bridge);
	if (net_has(check, net->tap, NULL) && !net_has(check, net->tap, "tun_flags"))
		fail(check, at_tap,
		     "%s is there and is no tap: write tap = another name", net->tap);
}

static gboolean installed(struct check *check, const char *program)
{
	for (guint i = 0; check->host->programs[i]; i++) {
		g_autofree char *path =
			g_build_filename(check->host->programs[i], program, NULL);

		if (may(path, X_OK))
			return TRUE;
	}
	return FALSE;
}

static void check_comparison(struct check *check)
{
	const struct colo_comparison_config *comparison = &check->pair->comparison;
	static const char *const iptables[] = { "iptables", "ip6tables" };
	g_autofree char *folder = NULL;

	if (!comparison->enabled) {
		if (check->pair->nets)
			warn(check, "comparison/enabled",
			     "nothing is held back: a failover can take back what "
			     "clients "
			     "have seen; write yes for protection");
		return;
	}
	if (!installed(check, "nft"))
		fail(check, "comparison/rule",
		     "program nft is not installed: apt install nftables");
	for (guint i = 0; i < G_N_ELEMENTS(iptables); i++)
		if (!strcmp(comparison->rule, "iptables") &&
		    !installed(check, iptables[i]))
			fail(check, "comparison/rule",
			     "program %s is not installed: apt install iptables, or "
			     "write "
			     "rule = auto",
			     iptables[i]);
	if (!comparison->dump)
		return;
	folder = g_path_get_dirname(comparison->dump);
	if (!g_file_test(folder, G_FILE_TEST_IS_DIR))
		fail(check, "comparison/dump", "%s is no folder: make it (mkdir -p %s)",
		     folder, folder);
}

static void check_nets(struct check *check)
{
	struct stat status;

	if (check->pair->nets &&
	    look(check, "network", check->host->tun, "load it (modprobe tun)",
		 &status) &&
	    !may(check->host->tun, R_OK | W_OK))
		fail(check, "network", "%s cannot be opened by user %u: run as root",
		     check->host->tun, geteuid());
	for (guint i = 0; i < check->pair->nets; i++)
		check_net(check, &check->pair->net[i]);
	check_comparison(check);
}

/* Addresses. */

static gboolean is_loopback(int family, const void *address)
{
	return family == AF_INET
		       ? ntohl(*(const guint32 *)address) >> 24 == IN_LOOPBACKNET
		       : IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)address);
}

/* Whether it is one of this host's, and on `device` where that is not NULL. */
static gboolean is_own(struct check *check, int family, const void *address,
		       const char *device)
{
	for (const struct ifaddrs *at = check->own; at; at = at->ifa_next) {
		const void *its;

		if (!at->ifa_addr || at->ifa_addr->sa_family != family)
			continue;
		its = family == AF_INET
			      ? (const void *)&((struct sockaddr_in *)at->ifa_addr)
					->sin_addr
			      : &((struct sockaddr_in6 *)at->ifa_addr)->sin6_addr;
		if (!memcmp(its, address,
			    family == AF_INET ? sizeof(struct in_addr)
					      : sizeof(struct in6_addr)) &&
		    (!device || !strcmp(at->ifa_name, device)))
			return TRUE;
	}
	return FALSE;
}

static void check_address(struct check *check, const char *key, const char *address,
			  const char *device)
{
	const char *name = check->pair->node[check->node].name;
	g_autofree char *where = g_strdup_printf("node %s/%s", name, key);
	g_autofree char *host = NULL;
	struct in6_addr binary = { 0 }; /* either's */
	int family;

	if (!base_tcp_parse(address, &host, NULL, NULL))
		return; /* it was read, and is numeric */
	host[strcspn(host, "%")] = 0;
	family = strchr(host, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, host, &binary) != 1)
		return;
	if (is_loopback(family, &binary))
		warn(check, where,
		     "%s is this host's own loopback: another host cannot reach it; "
		     "write "
		     "the address on the link between the nodes",
		     host);
	else if (!is_own(check, family, &binary, NULL))
		fail(check, where,
		     "%s is not an address of this host: is this node %s? Give it to a "
		     "device (ip address add), or write another",
		     host, name);
	else if (device && !is_own(check, family, &binary, device))
		warn(check, where,
		     "%s is not on %s: see that heartbeat and heartbeat-device are in "
		     "the "
		     "same order",
		     host, device);
}

static void check_node(struct check *check)
{
	const struct colo_node_config *node = &check->pair->node[check->node];
	g_autofree char *where =
		g_strdup_printf("node %s/heartbeat-device", node->name);

	if (getifaddrs(&check->own)) {
		int err = errno;

		check->own = NULL;
		fail(check, "node", "list this host's addresses: %s", g_strerror(err));
		return;
	}
	check_address(check, "replication", node->replication, NULL);
	check_address(check, "control", node->control, NULL);
	for (guint i = 0; i < check->pair->paths; i++) {
		const char *device = node->heartbeat_device[i];
		gboolean there = device && net_has(check, device, NULL);

		if (device && !there)
			fail(check, where,
			     "there is no network device %s on this host: write one "
			     "that "
			     "is (ip link), or take heartbeat-device out",
			     device);
		check_address(check, "heartbeat", node->heartbeat[i],
			      there ? device : NULL);
	}
	if (check->pair->paths < 2)
		warn(check, "node/heartbeat",
		     "there is one way for heartbeats: where it is cut, the other node "
		     "looks dead; write a second one, over another link");
	freeifaddrs(check->own);
	check->own = NULL;
}

/* Who decides. */

static void check_etcd(struct check *check)
{
	const struct colo_arbiter_config *etcd = &check->pair->arbiter;
	struct stat status;

	if (etcd->ca)
		(void)check_readable(check, "arbiter/ca", etcd->ca,
				     "the certificates that etcd's are signed with",
				     &status);
	if (etcd->cert)
		(void)check_readable(check, "arbiter/cert", etcd->cert,
				     "this node's certificate", &status);
	check_secret(check, "arbiter/cert-key", etcd->cert_key,
		     "the certificate's private key");
	check_secret(check, "arbiter/password-file", etcd->password_file,
		     "the password");
	for (char **at = etcd->endpoints; etcd->user && *at; at++)
		if (g_str_has_prefix(*at, "http:"))
			warn(check, "arbiter/endpoints",
			     "the password goes to %s unencrypted: write https", *at);
}

static void check_arbiter(struct check *check)
{
	const struct colo_arbiter_config *arbiter = &check->pair->arbiter;
	const colo_pair *pair = check->pair;

	switch (arbiter->kind) {
	case COLO_ARBITER_ETCD:
		check_etcd(check);
		break;
	case COLO_ARBITER_FENCE:
		check_program(check, "arbiter/agent", arbiter->agent,
			      "install it (apt install fence-agents)");
		check_secret(check, "arbiter/secrets", arbiter->agent_secrets,
			     "lines of name=value");
		break;
	case COLO_ARBITER_NONE:
		warn(check, "arbiter/type",
		     "none: where %s dies, %s does not go on by itself (colo promote "
		     "--force); write type = etcd or fence for that",
		     pair->node[arbiter->survivor].name,
		     pair->node[1 - arbiter->survivor].name);
		break;
	case COLO_ARBITER_MANUAL:
		warn(check, "arbiter/type",
		     "manual: where a node dies, the other waits for an operator (colo "
		     "promote --force); write type = etcd or fence to go on without");
		break;
	}
}

static void check_hook(struct check *check)
{
	const struct colo_hook_config *hook = &check->pair->hook;
	struct passwd entry, *found = NULL;
	char buffer[16384];

	if (!hook->program)
		return;
	check_program(check, "hooks/program", hook->program,
		      "put the hook there, or take program out");
	if (!hook->user)
		return;
	if (getpwnam_r(hook->user, &entry, buffer, sizeof(buffer), &found) || !found)
		fail(check, "hooks/user",
		     "there is no user %s on this host: make it (adduser --system %s), "
		     "or "
		     "write another",
		     hook->user, hook->user);
}

gboolean colo_pair_check_host(const colo_pair *pair, guint node,
			      const struct colo_host *host, colo_pair_report report,
			      void *data)
{
	struct check check = { pair, node, host, report, data, FALSE, NULL };

	check_key(&check);
	check_vm(&check);
	for (guint i = 0; i < pair->disks; i++) {
		struct stat status;

		check_disk(&check, i, &status);
	}
	check_nets(&check);
	check_node(&check);
	if (pair->checkpoint.verify)
		warn(&check, "checkpoint/verify",
		     "is for tests: each checkpoint walks over all of the guest's "
		     "memory; "
		     "take it out");
	check_arbiter(&check);
	check_hook(&check);
	return !check.errors;
}

gboolean colo_pair_check(const colo_pair *pair, guint node, colo_pair_report report,
			 void *data)
{
	/* As colo-netcompare looks for them. */
	static const char *const programs[] = { "/usr/sbin", "/sbin", "/usr/bin",
						"/bin", NULL };
	static const struct colo_host here = {
		.kvm = "/dev/kvm",
		.tun = "/dev/net/tun",
		.nets = "/sys/class/net",
		.blocks = "/sys/dev/block",
		.meminfo = "/proc/meminfo",
		.programs = programs,
	};

	return colo_pair_check_host(pair, node, &here, report, data);
}
