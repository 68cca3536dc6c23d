/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pair file names, judged on a host that is made for it: a folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "colo/pair_check.h"
#include "tests/unit/pair_text.h"

/* A host and a pair file on which nothing is to be found; tests break one thing each.
 */
struct place {
	char *folder;
	char *nets, *blocks, *kvm, *tun, *meminfo, *programs;
	char *text;
	GPtrArray *found; /* "error KEY: what" */
};

static char *in(struct place *place, const char *name)
{
	return g_build_filename(place->folder, name, NULL);
}

static void put(struct place *place, const char *name, const char *content,
		gssize length, mode_t mode)
{
	g_autofree char *path = in(place, name);
	g_autofree char *folder = g_path_get_dirname(path);

	assert_int_equal(g_mkdir_with_parents(folder, 0755), 0);
	assert_true(g_file_set_contents(path, content, length, NULL));
	assert_int_equal(chmod(path, mode), 0);
}

static void take(struct place *place, const char *name)
{
	g_autofree char *path = in(place, name);

	assert_int_equal(remove(path), 0);
}

static void write_key(struct place *place, const char *title, const char *key,
		      const char *value)
{
	char *text = pair_text_with(place->text, title, key, value);

	g_free(place->text);
	place->text = text;
}

/* The value is a file of this folder. */
static void write_file(struct place *place, const char *title, const char *key,
		       const char *name)
{
	g_autofree char *path = in(place, name);

	write_key(place, title, key, path);
}

static void put_sparse(struct place *place, const char *name, off_t size)
{
	g_autofree char *path = in(place, name);

	put(place, name, "", 0, 0600);
	assert_int_equal(truncate(path, size), 0);
}

#define HEX "00112233445566778899aabbccddeeff"

static void put_kernel(struct place *place, const char *magic)
{
	char kernel[1024] = { 0 };

	memcpy(kernel + 0x202, magic, 4);
	put(place, "vmlinuz", kernel, sizeof(kernel), 0644);
}

static void put_host(struct place *place)
{
	put(place, "dev/kvm", "", 0, 0600);
	put(place, "dev/tun", "", 0, 0600);
	put(place, "meminfo",
	    "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   8000000 kB\n",
	    -1, 0444);
	put(place, "bin/nft", "#!/bin/sh\n", -1, 0755);
	put(place, "net/lo/mtu", "65536\n", -1, 0444);
	put(place, "net/br0/bridge/x", "", 0, 0444);
	put(place, "net/eth1/mtu", "1500\n", -1, 0444);
	place->kvm = in(place, "dev/kvm");
	place->tun = in(place, "dev/tun");
	place->meminfo = in(place, "meminfo");
	place->nets = in(place, "net");
	place->blocks = in(place, "block");
	place->programs = in(place, "bin");
}

static void put_files(struct place *place)
{
	put(place, "key", HEX HEX "\n", -1, 0600);
	put_kernel(place, "HdrS");
	put(place, "initrd", "x", 1, 0644);
	put_sparse(place, "data", 1 << 20);
	put_sparse(place, "logs", 3 << 20);
	put(place, "ca.pem", "x", 1, 0644);
	put(place, "cert.pem", "x", 1, 0644);
	put(place, "cert-key.pem", "x", 1, 0600);
	put(place, "password", "x\n", 2, 0400);
	put(place, "hook", "#!/bin/sh\n", -1, 0755);
	put(place, "agent", "#!/bin/sh\n", -1, 0755);
	put(place, "secrets", "password=x\n", -1, 0600);
}

static void name_files(struct place *place)
{
	static const struct {
		const char *title, *key, *name;
	} files[] = {
		{ "pair", "key", "key" },
		{ "vm", "kernel", "vmlinuz" },
		{ "vm", "initrd", "initrd" },
		{ "disk data", "path.alpha", "data" },
		{ "disk data", "path.beta", "data" },
		{ "disk logs", "path", "logs" },
		{ "comparison", "dump", "web.pcapng" },
		{ "arbiter", "ca", "ca.pem" },
		{ "arbiter", "cert", "cert.pem" },
		{ "arbiter", "cert-key", "cert-key.pem" },
		{ "arbiter", "password-file", "password" },
		{ "hooks", "program", "hook" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(files); i++)
		write_file(place, files[i].title, files[i].key, files[i].name);
	write_key(place, "vm", "cpus", "1");
	write_key(place, "disk data", "readonly", "no");
	write_key(place, "hooks", "user", "root");
	write_key(place, "checkpoint", "verify", "no");
	write_key(place, "arbiter", "endpoints", "https://etcd.example:2379");
	write_key(place, "node alpha", "replication", "127.0.0.1:7000");
	write_key(place, "node alpha", "control", "127.0.0.1:7001");
	write_key(place, "node alpha", "heartbeat", "127.0.0.1:7002; 127.0.0.1:7003");
	write_key(place, "node alpha", "heartbeat-device", "lo; lo");
}

static int set_up(void **state)
{
	struct place *place = g_new0(struct place, 1);

	place->folder = g_dir_make_tmp("colo-test-XXXXXX", NULL);
	assert_non_null(place->folder);
	place->text = g_strdup(pair_text);
	place->found = g_ptr_array_new_with_free_func(g_free);
	put_host(place);
	put_files(place);
	name_files(place);
	*state = place;
	return 0;
}

static void remove_all(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *inner = g_build_filename(path, name, NULL);

		remove_all(inner);
	}
	if (dir)
		g_dir_close(dir);
	remove(path);
}

static int tear_down(void **state)
{
	struct place *place = *state;

	remove_all(place->folder);
	g_free(place->folder);
	g_free(place->nets);
	g_free(place->blocks);
	g_free(place->kvm);
	g_free(place->tun);
	g_free(place->meminfo);
	g_free(place->programs);
	g_free(place->text);
	g_ptr_array_unref(place->found);
	g_free(place);
	return 0;
}

static void report(void *data, enum colo_finding kind, const char *where,
		   const char *what)
{
	static const char *const kinds[] = {
		[COLO_FINDING_NOTE] = "note",
		[COLO_FINDING_WARNING] = "warning",
		[COLO_FINDING_ERROR] = "error",
	};
	struct place *place = data;

	assert_null(strchr(what, '\n'));
	g_ptr_array_add(place->found,
			g_strdup_printf("%s %s: %s", kinds[kind], where, what));
}

static gboolean checked(struct place *place)
{
	const char *programs[] = { "/nowhere", place->programs, NULL };
	const struct colo_host host = {
		.kvm = place->kvm,
		.tun = place->tun,
		.nets = place->nets,
		.blocks = place->blocks,
		.meminfo = place->meminfo,
		.programs = programs,
	};
	GError *error = NULL;
	g_autoptr(colo_pair) pair =
		colo_pair_parse(place->text, strlen(place->text), "t.conf", &error);

	if (!pair)
		fail_msg("%s", error->message);
	g_ptr_array_set_size(place->found, 0);
	return colo_pair_check_host(pair, 0, &host, report, place);
}

/* One finding begins so, and says that. */
static gboolean has(struct place *place, const char *start, const char *what)
{
	for (guint i = 0; i < place->found->len; i++) {
		const char *line = place->found->pdata[i];

		if (g_str_has_prefix(line, start) && strstr(line, what))
			return TRUE;
	}
	return FALSE;
}

static guint count(struct place *place, const char *kind)
{
	guint found = 0;

	for (guint i = 0; i < place->found->len; i++)
		found += g_str_has_prefix(place->found->pdata[i], kind);
	return found;
}

static void show(struct place *place)
{
	for (guint i = 0; i < place->found->len; i++)
		print_message("%s\n", (char *)place->found->pdata[i]);
}

/* That one error, and no other. */
static void one_error(struct place *place, const char *where, const char *what)
{
	g_autofree char *start = g_strdup_printf("error %s: ", where);
	gboolean good = checked(place);

	if (good || !has(place, start, what) || count(place, "error") != 1) {
		show(place);
		fail_msg("wanted: %s%s", start, what);
	}
}

static void one_warning(struct place *place, const char *where, const char *what)
{
	g_autofree char *start = g_strdup_printf("warning %s: ", where);

	if (!checked(place) || !has(place, start, what)) {
		show(place);
		fail_msg("wanted: %s%s", start, what);
	}
}

static void a_host_that_has_all_is_right(void **state)
{
	struct place *place = *state;

	if (!checked(place) || count(place, "warning") != 4) {
		show(place);
		fail_msg("something else was found");
	}
	/* The four addresses: there is nothing but loopback for a test. */
	assert_true(has(place, "warning node alpha/heartbeat: ",
			"127.0.0.1 is this host's "
			"own loopback"));
	assert_true(has(place, "note disk data/path: ", "a file of 1MiB"));
	assert_true(has(place, "note disk logs/path: ", "a file of 3MiB"));
}

static void a_check_touches_nothing(void **state)
{
	struct place *place = *state;
	static const char *const names[] = { "data", "logs", "vmlinuz", "key",
					     "dev/kvm" };
	g_autofree char *dump = in(place, "web.pcapng");
	struct stat before[G_N_ELEMENTS(names)], after;

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = in(place, names[i]);

		assert_int_equal(stat(path, &before[i]), 0);
	}
	assert_true(checked(place));
	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = in(place, names[i]);

		assert_int_equal(stat(path, &after), 0);
		assert_memory_equal(&before[i].st_mtim, &after.st_mtim,
				    sizeof(after.st_mtim));
		assert_memory_equal(&before[i].st_ctim, &after.st_ctim,
				    sizeof(after.st_ctim));
	}
	assert_false(g_file_test(dump, G_FILE_TEST_EXISTS));
}

static void keys_that_others_can_read_are_errors(void **state)
{
	struct place *place = *state;

	put(place, "key", HEX HEX "\n", -1, 0644);
	one_error(place, "pair/key", "has mode 0644, must be 0600 or 0400");
	put(place, "key", HEX "\n", -1, 0600);
	one_error(place, "pair/key", "\"colo keygen ");
	take(place, "key");
	one_error(place, "pair/key", "No such file");
}

static void a_host_without_kvm_is_an_error(void **state)
{
	struct place *place = *state;

	take(place, "dev/kvm");
	one_error(place, "vm", "load kvm_intel or kvm_amd");
}

static void kernels_that_are_none_are_errors(void **state)
{
	struct place *place = *state;
	g_autofree char *path = in(place, "vmlinuz");

	put_kernel(place, "\x7f"
			  "ELF");
	one_error(place, "vm/kernel", "is not a Linux bzImage");
	put(place, "vmlinuz", "short", 5, 0644);
	one_error(place, "vm/kernel", "is not a Linux bzImage");
	take(place, "vmlinuz");
	one_error(place, "vm/kernel", "No such file or directory: put a Linux kernel");
	assert_int_equal(mkfifo(path, 0600), 0);
	one_error(place, "vm/kernel", "is not a regular file");
	put_kernel(place, "HdrS");
	take(place, "initrd");
	one_error(place, "vm/initrd", "No such file");
}

static void too_much_for_the_host_is_a_warning(void **state)
{
	struct place *place = *state;

	write_key(place, "vm", "memory", "10GiB");
	one_warning(place, "vm/memory",
		    "10GiB for the guest, but 7812MiB of this host are "
		    "free");
	write_key(place, "vm", "memory", "16GiB");
	one_warning(place, "vm/memory", "but this host has 15625MiB");
	write_key(place, "vm", "memory", "1GiB");
	write_key(place, "vm", "cpus", "8");
	assert_true(checked(place));
	assert_int_equal(has(place, "warning vm/cpus: ", "8 virtual CPUs on "),
			 sysconf(_SC_NPROCESSORS_ONLN) < 8);
}

static void disks_that_cannot_be_used_are_errors(void **state)
{
	struct place *place = *state;
	g_autofree char *logs = in(place, "logs"), *data = in(place, "data");

	take(place, "logs");
	one_error(place, "disk logs/path", "make it, as large as on the other node");
	assert_int_equal(mkdir(logs, 0755), 0);
	one_error(place, "disk logs/path",
		  "is neither a regular file nor a block device");
	assert_int_equal(rmdir(logs), 0);
	put_sparse(place, "logs", 1000);
	one_error(place, "disk logs/path",
		  "has 1000 bytes, not a whole number of sectors");
	put_sparse(place, "logs", 0);
	one_error(place, "disk logs/path", "has 0 bytes");
	take(place, "logs");
	assert_int_equal(link(data, logs), 0);
	one_error(place, "disk logs/path", " of disk data: write another path");
	write_key(place, "disk data", "readonly", "yes");
	write_key(place, "disk logs", "readonly", "yes");
	assert_true(checked(place));
}

static void a_block_device_is_known_by_what_the_kernel_tells(void **state)
{
	struct place *place = *state;
	g_autofree char *path = in(place, "logs");

	take(place, "logs");
	/* Of no driver: it could not even be opened. */
	if (mknod(path, S_IFBLK | 0600, makedev(259, 1048575)))
		skip();
	one_warning(place, "disk logs/path", "its size is not known");
	put(place, "block/259:1048575/size", "2048\n", -1, 0444);
	assert_true(checked(place));
	assert_true(has(place, "note disk logs/path: ", "a block device of 1MiB"));
}

static void the_other_nodes_disks_are_not_looked_at(void **state)
{
	struct place *place = *state;

	write_key(place, "disk data", "path.beta", "/nowhere/data");
	assert_true(checked(place));
	write_key(place, "disk data", "path.alpha", "/nowhere/data");
	one_error(place, "disk data/path", "/nowhere/data");
}

static void bridges_that_are_none_are_errors(void **state)
{
	struct place *place = *state;

	write_key(place, "network lan", "bridge", "eth1");
	one_error(place, "network lan/bridge", "eth1 is no bridge");
	write_key(place, "network lan", "bridge", "br7");
	one_error(place, "network lan/bridge", "there is no br7 on this host");
	write_key(place, "network lan", "bridge", "br0");
	write_key(place, "network lan", "tap", "eth1");
	one_error(place, "network lan/tap", "eth1 is there and is no tap");
	put(place, "net/eth1/tun_flags", "0x1002\n", -1, 0444);
	assert_true(checked(place));
	take(place, "dev/tun");
	one_error(place, "network", "modprobe tun");
}

static void programs_that_compare_must_be_there(void **state)
{
	struct place *place = *state;

	write_key(place, "comparison", "rule", "iptables");
	assert_false(checked(place));
	assert_true(has(place, "error comparison/rule: ", "program iptables is not"));
	assert_true(has(place, "error comparison/rule: ", "program ip6tables is not"));
	write_key(place, "comparison", "rule", "auto");
	take(place, "bin/nft");
	one_error(place, "comparison/rule", "apt install nftables");
	write_key(place, "comparison", "enabled", "no");
	one_warning(place, "comparison/enabled", "nothing is held back");
	put(place, "bin/nft", "", 0, 0755);
	write_key(place, "comparison", "enabled", "yes");
	write_key(place, "comparison", "dump", "/nowhere/at/all");
	one_error(place, "comparison/dump", "/nowhere/at is no folder");
}

static void addresses_of_other_hosts_are_errors(void **state)
{
	struct place *place = *state;

	/* Of a documentation network: nobody's. */
	write_key(place, "node alpha", "replication", "192.0.2.77:7000");
	one_error(place, "node alpha/replication",
		  "192.0.2.77 is not an address of this "
		  "host: is this node alpha?");
	write_key(place, "node alpha", "replication", "[2001:db8::77]:7000");
	one_error(place, "node alpha/replication", "2001:db8::77 is not");
	write_key(place, "node alpha", "replication", "[::1]:7000");
	one_warning(place, "node alpha/replication", "::1 is this host's own loopback");
}

static void devices_that_are_not_there_are_errors(void **state)
{
	struct place *place = *state;

	write_key(place, "node alpha", "heartbeat-device", "lo; eth7");
	one_error(place, "node alpha/heartbeat-device",
		  "there is no network device eth7");
	write_key(place, "node alpha", "heartbeat-device", NULL);
	write_key(place, "node alpha", "heartbeat", "127.0.0.1:7002");
	write_key(place, "node beta", "heartbeat", "10.9.0.2:7002");
	one_warning(place, "node/heartbeat", "there is one way");
}

static void secrets_that_others_can_read_are_errors(void **state)
{
	struct place *place = *state;

	put(place, "password", "x\n", 2, 0440);
	one_error(place, "arbiter/password-file", "mode 0440");
	put(place, "password", "", 0, 0600);
	one_error(place, "arbiter/password-file",
		  "is empty: write the password into it");
	put(place, "password", "x", 1, 0600);
	put(place, "cert-key.pem", "x", 1, 0604);
	one_error(place, "arbiter/cert-key", "mode 0604");
	put(place, "cert-key.pem", "x", 1, 0600);
	take(place, "ca.pem");
	one_error(place, "arbiter/ca", "No such file");
	put(place, "ca.pem", "x", 1, 0600);
	take(place, "cert.pem");
	one_error(place, "arbiter/cert", "No such file");
	put(place, "cert.pem", "x", 1, 0600);
	write_key(place, "arbiter", "endpoints", "https://a:1; http://b:1");
	one_warning(place, "arbiter/endpoints",
		    "the password goes to http://b:1 "
		    "unencrypted: write https");
}

static void use_arbiter(struct place *place, const char *type)
{
	g_free(place->text);
	place->text = pair_text_of(type);
	/* The files of etcd are not to be named. */
	write_file(place, "pair", "key", "key");
	write_file(place, "vm", "kernel", "vmlinuz");
	write_file(place, "vm", "initrd", "initrd");
	write_file(place, "disk data", "path.alpha", "data");
	write_file(place, "disk logs", "path", "logs");
	write_file(place, "hooks", "program", "hook");
	write_key(place, "hooks", "user", "root");
	write_key(place, "node alpha", "replication", "127.0.0.1:7000");
	write_key(place, "node alpha", "control", "127.0.0.1:7001");
	write_key(place, "node alpha", "heartbeat", "127.0.0.1:7002; 127.0.0.1:7003");
	write_key(place, "node alpha", "heartbeat-device", "lo; lo");
}

static void fence_agents_must_be_programs(void **state)
{
	struct place *place = *state;

	use_arbiter(place, "fence");
	write_file(place, "arbiter", "agent", "agent");
	write_file(place, "arbiter", "secrets", "secrets");
	if (!checked(place)) {
		show(place);
		fail_msg("errors");
	}
	put(place, "agent", "#!/bin/sh\n", -1, 0644);
	one_error(place, "arbiter/agent", "is no program that can be run: chmod +x ");
	put(place, "agent", "#!/bin/sh\n", -1, 0777);
	one_warning(place, "arbiter/agent", "can be changed by others than root");
	take(place, "agent");
	one_error(place, "arbiter/agent", "apt install fence-agents");
	put(place, "agent", "#!/bin/sh\n", -1, 0755);
	put(place, "secrets", "password=x\n", -1, 0644);
	one_error(place, "arbiter/secrets", "mode 0644");
}

static void what_no_arbiter_costs_is_a_warning(void **state)
{
	struct place *place = *state;

	use_arbiter(place, "none");
	one_warning(place, "arbiter/type",
		    "where beta dies, alpha does not go on by itself");
	use_arbiter(place, "manual");
	one_warning(place, "arbiter/type", "waits for an operator");
	one_warning(place, "checkpoint/verify", "is for tests");
}

static void hooks_must_be_programs_and_users_there(void **state)
{
	struct place *place = *state;

	write_key(place, "hooks", "user", "no-such-user-of-colo");
	one_error(place, "hooks/user", "there is no user no-such-user-of-colo");
	write_key(place, "hooks", "user", "root");
	put(place, "hook", "#!/bin/sh\n", -1, 0600);
	one_error(place, "hooks/program", "is no program");
}

/* With what is really here, whatever that is: it ends, and finds what is not there. */
static void this_host_can_be_judged(void **state)
{
	struct place *place = *state;
	g_autoptr(colo_pair) pair =
		colo_pair_parse(pair_text, strlen(pair_text), "t.conf", NULL);

	assert_non_null(pair);
	g_ptr_array_set_size(place->found, 0);
	assert_false(colo_pair_check(pair, 1, report, place));
	assert_true(has(place, "error vm/kernel: ", "/srv/vmlinuz: No such file"));
	assert_true(
		has(place, "error disk data/path: ", "/dev/vg1/data: No such file"));
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_host_that_has_all_is_right),
		WITH_PLACE(a_check_touches_nothing),
		WITH_PLACE(keys_that_others_can_read_are_errors),
		WITH_PLACE(a_host_without_kvm_is_an_error),
		WITH_PLACE(kernels_that_are_none_are_errors),
		WITH_PLACE(too_much_for_the_host_is_a_warning),
		WITH_PLACE(disks_that_cannot_be_used_are_errors),
		WITH_PLACE(a_block_device_is_known_by_what_the_kernel_tells),
		WITH_PLACE(the_other_nodes_disks_are_not_looked_at),
		WITH_PLACE(bridges_that_are_none_are_errors),
		WITH_PLACE(programs_that_compare_must_be_there),
		WITH_PLACE(addresses_of_other_hosts_are_errors),
		WITH_PLACE(devices_that_are_not_there_are_errors),
		WITH_PLACE(secrets_that_others_can_read_are_errors),
		WITH_PLACE(fence_agents_must_be_programs),
		WITH_PLACE(what_no_arbiter_costs_is_a_warning),
		WITH_PLACE(hooks_must_be_programs_and_users_there),
		WITH_PLACE(this_host_can_be_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
