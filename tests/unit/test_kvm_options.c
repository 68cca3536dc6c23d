/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-vm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "kvm/options.h"

/* Parses a command line given as one string of words; FALSE with the message. */
static gboolean parse(struct vmm_options *options, const char *line, char **message)
{
	g_autofree char *whole = g_strconcat("colo-vm", *line ? " " : "", line, NULL);
	g_auto(GStrv) argv = g_strsplit(whole, " ", -1);
	g_autoptr(GError) error = NULL;

	if (vmm_options_parse(options, NULL, argv, &error))
		return TRUE;
	assert_non_null(error);
	*message = g_strdup(error->message);
	return FALSE;
}

static void accepts(struct vmm_options *options, const char *line)
{
	g_autofree char *message = NULL;

	if (!parse(options, line, &message))
		fail_msg("%s: %s", line, message);
}

/* The line is refused in one line that has `words` in it. */
static void refuses(const char *line, const char *words)
{
	struct vmm_options options;
	g_autofree char *message = NULL;

	if (parse(&options, line, &message))
		fail_msg("%s: accepted", line);
	if (!strstr(message, words) || strchr(message, '\n'))
		fail_msg("%s: \"%s\" has no \"%s\"", line, message, words);
	assert_null(options.machine.disks);
}

static struct vmm_disk_config *disk(struct vmm_options *options, guint index)
{
	assert_true(index < options->machine.disks->len);
	return &g_array_index(options->machine.disks, struct vmm_disk_config, index);
}

static struct vmm_net_config *net(struct vmm_options *options, guint index)
{
	assert_true(index < options->machine.nets->len);
	return &g_array_index(options->machine.nets, struct vmm_net_config, index);
}

static void a_kernel_is_enough(void **state)
{
	struct vmm_options options;

	accepts(&options, "--kernel /k");
	assert_string_equal(options.machine.kernel, "/k");
	assert_null(options.machine.initrd);
	assert_string_equal(options.machine.cpu_model, "host");
	assert_int_equal(options.machine.memory, 512 << 20);
	assert_int_equal(options.machine.cpus, 1);
	assert_string_equal(options.machine.console, "stdio");
	assert_null(options.machine.hvc);
	assert_true(options.machine.rng);
	assert_false(options.machine.reboot_exits);
	assert_int_equal(options.machine.dirty, VMM_DIRTY_AUTO);
	assert_int_equal(options.machine.clock, VMM_CLOCK_ADVANCE);
	assert_false(options.paused);
	vmm_options_clear(&options);
}

static void every_option_arrives(void **state)
{
	struct vmm_options options;

	accepts(&options,
		"--kernel=k --initrd i --append root=/dev/vda --memory 4G --cpus 8 "
		"--cpu-model x86-64-v3 --console pty --hvc unix:/run/h --no-rng "
		"--no-reboot --dirty-log bitmap --clock still --control /run/c "
		"--paused "
		"--verbose --verbose");
	assert_string_equal(options.machine.initrd, "i");
	assert_string_equal(options.machine.append, "root=/dev/vda");
	assert_true(options.machine.memory == 4ull << 30);
	assert_int_equal(options.machine.cpus, 8);
	assert_string_equal(options.machine.cpu_model, "x86-64-v3");
	assert_string_equal(options.machine.console, "pty");
	assert_string_equal(options.machine.hvc, "unix:/run/h");
	assert_false(options.machine.rng);
	assert_true(options.machine.reboot_exits);
	assert_int_equal(options.machine.dirty, VMM_DIRTY_BITMAP);
	assert_int_equal(options.machine.clock, VMM_CLOCK_STILL);
	assert_string_equal(options.control, "/run/c");
	assert_true(options.paused);
	assert_int_equal(options.verbosity, 2);
	vmm_options_clear(&options);

	accepts(&options, "--load /s --dirty-log ring --check");
	assert_string_equal(options.load, "/s");
	assert_int_equal(options.machine.dirty, VMM_DIRTY_RING);
	assert_true(options.check);
	vmm_options_clear(&options);

	accepts(&options, "--version --memory 64M");
	assert_true(options.version);
	vmm_options_clear(&options);
}

static void an_argument_may_have_spaces_be_empty_and_not_be_utf8(void **state)
{
	char *argv[] = { "colo-vm", "--kernel", "/k\xff", "--append",
			 "a b  c",  "--initrd", "i",	  NULL };
	char *empty[] = { "colo-vm", "--kernel", "/k", "--append", "", NULL };
	struct vmm_options options;

	assert_true(vmm_options_parse(&options, NULL, argv, NULL));
	assert_string_equal(options.machine.kernel, "/k\xff");
	assert_string_equal(options.machine.append, "a b  c");
	vmm_options_clear(&options);
	assert_true(vmm_options_parse(&options, NULL, empty, NULL));
	assert_string_equal(options.machine.append, "");
	vmm_options_clear(&options);
}

static void a_disk_has_its_keys_and_commas_in_its_path(void **state)
{
	struct vmm_options options;

	accepts(&options, "--kernel k --disk path=/a,,b,,,readonly=on,serial=S1 "
			  "--disk direct=on,readonly=off,path=c --disk path=,,");
	assert_int_equal(options.machine.disks->len, 3);
	assert_string_equal(disk(&options, 0)->path, "/a,b,");
	assert_true(disk(&options, 0)->readonly);
	assert_false(disk(&options, 0)->direct);
	assert_string_equal(disk(&options, 0)->serial, "S1");
	assert_string_equal(disk(&options, 1)->path, "c");
	assert_false(disk(&options, 1)->readonly);
	assert_true(disk(&options, 1)->direct);
	assert_null(disk(&options, 1)->serial);
	assert_string_equal(disk(&options, 2)->path, ",");
	vmm_options_clear(&options);
}

static void bad_disks_are_refused_with_the_key(void **state)
{
	refuses("--kernel k --disk readonly=on", "path is missing");
	refuses("--kernel k --disk path=", "path: is empty");
	refuses("--kernel k --disk path=a,format=raw",
		"unknown key format (known keys: path, readonly, direct, serial)");
	refuses("--kernel k --disk /a", "is not key=value");
	refuses("--kernel k --disk path=a,", "is not key=value");
	refuses("--kernel k --disk path=a,path=b", "path is given twice");
	refuses("--kernel k --disk path=a,readonly=yes",
		"readonly: yes: must be on or off");
	refuses("--kernel k --disk path=a,readonly", "is not key=value");
	refuses("--kernel k --disk path=a,serial=012345678901234567890", "1 to 20");
	refuses("--kernel k --disk path=a,serial=\x01", "printable");
}

static void two_disks_may_share_a_file_only_read_only(void **state)
{
	g_autofree char *dir = g_dir_make_tmp("colo-options-XXXXXX", NULL);
	g_autofree char *file = g_build_filename(dir, "a", NULL);
	g_autofree char *alias = g_build_filename(dir, "b", NULL);
	g_autofree char *both = g_strdup_printf(
		"--kernel k --disk path=%s --disk path=%s,readonly=on", file, alias);
	g_autofree char *shared = g_strdup_printf(
		"--kernel k --disk path=%s,readonly=on --disk path=%s,readonly=on",
		file, alias);
	struct vmm_options options;

	assert_true(g_file_set_contents(file, "x", 1, NULL));
	assert_int_equal(symlink(file, alias), 0);
	refuses(both, "given twice");
	refuses("--kernel k --disk path=/x/../y --disk path=/y", "given twice");
	accepts(&options, shared);
	vmm_options_clear(&options);
	g_unlink(alias);
	g_unlink(file);
	g_rmdir(dir);
}

static void a_net_without_mac_gets_a_stable_one_of_its_own(void **state)
{
	struct vmm_options a, b;

	accepts(&a, "--kernel k --net tap=tap0 --net tap=tap1,mac=52:54:00:AB:cd:ef");
	accepts(&b, "--kernel other --net tap=tap0 --net tap=tap2");
	assert_memory_equal(net(&a, 0)->mac, net(&b, 0)->mac, 6);
	assert_memory_not_equal(net(&b, 0)->mac, net(&b, 1)->mac, 6);
	assert_int_equal(net(&a, 0)->mac[0] & 3, 2);
	assert_string_equal(net(&a, 0)->tap, "tap0");
	assert_memory_equal(net(&a, 1)->mac, "\x52\x54\x00\xab\xcd\xef", 6);
	vmm_options_clear(&a);
	vmm_options_clear(&b);
}

static void bad_nets_are_refused_with_the_key(void **state)
{
	refuses("--kernel k --net mac=52:54:00:00:00:01", "tap is missing");
	refuses("--kernel k --net tap=", "not an interface name");
	refuses("--kernel k --net tap=a/b", "not an interface name");
	refuses("--kernel k --net tap=..", "not an interface name");
	refuses("--kernel k --net tap=0123456789abcdef", "not an interface name");
	refuses("--kernel k --net tap=t,bridge=b",
		"unknown key bridge (known keys: tap, mac)");
	refuses("--kernel k --net tap=t,tap=u", "tap is given twice");
	refuses("--kernel k --net tap=t,mac=01:00:00:00:00:01", "multicast");
	refuses("--kernel k --net tap=t,mac=ff:ff:ff:ff:ff:ff", "multicast");
	refuses("--kernel k --net tap=t,mac=00:00:00:00:00:00", "is no address");
	for (const char *const *mac =
		     (const char *const[]){ "", "5", "52:54:00:00:00",
					    "52:54:00:00:00:1", "52:54:00:00:00:001",
					    "52:54:00:00:00:01:", "52-54-00-00-00-01",
					    "g2:54:00:00:00:01", NULL };
	     *mac; mac++) {
		g_autofree char *line =
			g_strdup_printf("--kernel k --net tap=t,mac=%s", *mac);

		refuses(line, "not six pairs");
	}
	refuses("--kernel k --net tap=t --net tap=t,mac=52:54:00:00:00:01",
		"tap=t is given twice");
	refuses("--kernel k --net tap=t,mac=52:54:00:00:00:01 --net "
		"tap=u,mac=52:54:00:00:00:01",
		"same MAC address");
}

static void values_out_of_range_are_refused(void **state)
{
	refuses("--kernel k --memory 63M", "between 64M and 1T");
	refuses("--kernel k --memory 2T", "between 64M and 1T");
	refuses("--kernel k --memory 65537K", "multiple of 1M");
	refuses("--kernel k --memory lots", "not a size");
	refuses("--kernel k --memory -64M", "not a size");
	refuses("--kernel k --cpus 0", "from 1 to 8");
	refuses("--kernel k --cpus 9", "from 1 to 8");
	refuses("--kernel k --cpus 2x", "from 1 to 8");
	refuses("--kernel k --cpu-model athlon", "one of host|x86-64-v2|x86-64-v3");
	refuses("--kernel k --dirty-log", "--dirty-log");
	refuses("--kernel k --dirty-log pml", "one of auto|ring|bitmap");
	refuses("--kernel k --clock stop", "one of advance|still");
	refuses("--kernel= --paused", "is empty");
}

static void a_loaded_machine_may_be_given_the_kernel_for_its_next_reset(void **state)
{
	struct vmm_options options;

	accepts(&options, "--load s --kernel k --initrd i --append a");
	assert_string_equal(options.load, "s");
	assert_string_equal(options.machine.kernel, "k");
	vmm_options_clear(&options);
}

static void contradictions_are_refused(void **state)
{
	refuses("", "give --kernel or --load");
	refuses("--initrd i", "--initrd needs --kernel");
	refuses("--append a --control c --paused", "--append needs --kernel");
	refuses("--load s --initrd i", "--initrd needs --kernel");
	refuses("--load s --append a", "--append needs --kernel");
	refuses("--kernel k --paused", "--paused needs --control");
	refuses("--kernel k --hvc stdio", "--console and --hvc both use stdio");
	refuses("--kernel k --console unix:/a --control /a",
		"--console and --control both use unix:/a");
	refuses("--load unix:/a --control /a", "--control and --load both use unix:/a");
	refuses("--kernel k --console fd:5 --hvc fd:5", "both use fd:5");
	refuses("--kernel k --kernel l", "--kernel is given twice");
	refuses("--kernel k --no-rng --no-rng", "--no-rng is given twice");
	refuses("--kernel k stray", "unexpected argument: stray");
	refuses("--kernel k -- stray", "unexpected argument: stray");
	refuses("--kernel k --smp 2", "--smp");
}

static void what_looks_like_a_contradiction_and_is_none_is_accepted(void **state)
{
	struct vmm_options options;

	accepts(&options, "--kernel k --console none --hvc none");
	vmm_options_clear(&options);
	accepts(&options, "--kernel k --console pty --hvc pty");
	vmm_options_clear(&options);
	accepts(&options, "--kernel k --console none --hvc stdio");
	vmm_options_clear(&options);
	accepts(&options, "--paused --control c"); /* waits for the command "load" */
	vmm_options_clear(&options);
	accepts(&options, "--load s --paused --control c");
	vmm_options_clear(&options);
}

static void there_is_a_limit_to_disks_and_nets(void **state)
{
	GString *line = g_string_new("--kernel k");

	for (guint i = 0; i <= VMM_DISKS_MAX; i++)
		g_string_append_printf(line, " --disk path=d%u", i);
	refuses(line->str, "at most 8");
	g_string_assign(line, "--kernel k");
	for (guint i = 0; i <= VMM_NETS_MAX; i++)
		g_string_append_printf(line, " --net tap=t%u", i);
	refuses(line->str, "at most 8");
	g_string_free(line, TRUE);
}

static void every_option_is_in_the_manual(void **state)
{
	g_autofree char *manual = NULL;
	const char *name;

	if (!g_file_get_contents("docs/colo-vm.1", &manual, NULL, NULL))
		fail_msg("docs/colo-vm.1: run this test from the top of the tree");
	for (guint i = 0; (name = vmm_options_name(i)); i++) {
		g_autofree char *item = g_strdup_printf("\n.It Fl Fl %s", name);
		const char *at = strstr(manual, item);

		if (!at || g_ascii_isgraph(at[strlen(item)]))
			fail_msg("--%s is not in docs/colo-vm.1", name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_is_enough),
		cmocka_unit_test(every_option_arrives),
		cmocka_unit_test(an_argument_may_have_spaces_be_empty_and_not_be_utf8),
		cmocka_unit_test(a_disk_has_its_keys_and_commas_in_its_path),
		cmocka_unit_test(bad_disks_are_refused_with_the_key),
		cmocka_unit_test(two_disks_may_share_a_file_only_read_only),
		cmocka_unit_test(a_net_without_mac_gets_a_stable_one_of_its_own),
		cmocka_unit_test(bad_nets_are_refused_with_the_key),
		cmocka_unit_test(values_out_of_range_are_refused),
		cmocka_unit_test(
			a_loaded_machine_may_be_given_the_kernel_for_its_next_reset),
		cmocka_unit_test(contradictions_are_refused),
		cmocka_unit_test(
			what_looks_like_a_contradiction_and_is_none_is_accepted),
		cmocka_unit_test(there_is_a_limit_to_disks_and_nets),
		cmocka_unit_test(every_option_is_in_the_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
