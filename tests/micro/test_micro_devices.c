/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices with the micro-guest as their driver, good and hostile.
 *
 * A hostile driver stops its device and nothing else: the guest is asked on through the
 * serial port, and after a reset the device works again.
 */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/micro/micro.h"

#define MIB (1ull << 20)
#define TAP "tap0"
#define PATIENCE_NS (10 * G_GUINT64_CONSTANT(1000000000))

/* As the guest lists them. */
enum device { CONSOLE, RNG, NET, DISK };

/* The guest with its serial port in our hand. */
struct rig {
	micro *guest;
	int serial;
	GString *heard;
	char *disk;
	guint resets;
};

static gboolean have_network;

static void make_network(void)
{
	have_network = unshare(CLONE_NEWNET) == 0 && !system("ip link set lo up") &&
		       !system("ip tuntap add " TAP " mode tap vnet_hdr") &&
		       !system("ip link set " TAP " up");
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	struct micro_options options = { .tap = have_network ? TAP : NULL,
					 .append = "ip=10.99.0.2/24" };
	g_autofree char *console = NULL;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	rig->serial = ends[0];
	rig->heard = g_string_new(NULL);
	rig->disk = micro_file(16 * MIB);
	options.disk = rig->disk;
	console = g_strdup_printf("fd:%d", ends[1]);
	g_setenv("MICRO_CONSOLE", console, TRUE);
	rig->guest = micro_new(&options);
	g_unsetenv("MICRO_CONSOLE");
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	micro_free(rig->guest);
	close(rig->serial);
	g_string_free(rig->heard, TRUE);
	micro_remove(rig->disk);
	g_free(rig);
	return 0;
}

/* The next line on the serial port that is an answer; NULL if none is there yet. */
static char *take_answer(struct rig *rig)
{
	char *end;

	while ((end = strchr(rig->heard->str, '\n'))) {
		char *line = g_strndup(rig->heard->str, (gsize)(end - rig->heard->str));

		g_string_erase(rig->heard, 0, end - rig->heard->str + 1);
		g_strchomp(line);
		if (g_str_has_prefix(line, "ok") || g_str_has_prefix(line, "error"))
			return line;
		g_free(line);
	}
	return NULL;
}

/* Tells the guest on the serial port. */
static void tell(struct rig *rig, const char *line)
{
	g_autofree char *whole = g_strdup_printf("%s\n", line);

	assert_int_equal(write(rig->serial, whole, strlen(whole)), strlen(whole));
}

static char *ask(struct rig *rig, const char *line)
{
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	tell(rig, line);
	while (base_clock_monotonic_ns() < until) {
		struct pollfd ready = { .fd = rig->serial, .events = POLLIN };
		char *answer = take_answer(rig);
		char bytes[512];
		gssize got;

		if (answer)
			return answer;
		/* Events are handled by whoever waits. */
		micro_events(rig->guest, VMM_EVENT_PANIC);
		if (poll(&ready, 1, 1) != 1)
			continue;
		got = read(rig->serial, bytes, sizeof(bytes));
		if (got > 0)
			g_string_append_len(rig->heard, bytes, got);
	}
	fail_msg("no answer to \"%s\"", line);
	return NULL;
}

static void assert_answer(struct rig *rig, const char *line, const char *expected)
{
	g_autofree char *answer = ask(rig, line);

	assert_string_equal(answer, expected);
}

static guint broken(struct rig *rig)
{
	return micro_events(rig->guest, VMM_EVENT_DEVICE_BROKEN);
}

/* Resets by the guest's own hand, and finds all devices in working order. */
static void reboot(struct rig *rig)
{
	g_autofree char *verified = NULL;

	g_free(ask(rig, "reboot"));
	assert_true(micro_wait_event(rig->guest, VMM_EVENT_RESET, ++rig->resets));
	g_free(micro_do(rig->guest, "ping"));
	g_free(micro_do(rig->guest, "rng 100"));
	g_free(micro_do(rig->guest, "blkwrite 0 64 8 7"));
	verified = micro_do(rig->guest, "blkverify 0 64 8 7");
	assert_int_equal(micro_number(verified, "bad"), 0);
	if (have_network)
		g_free(micro_do(rig->guest, "net 0"));
}

/* All breaches of the rules for a queue. Where `breaks`, each stops the device. */
static void misuse_queue(struct rig *rig, enum device device, guint queue,
			 gboolean breaks)
{
	static const char *const ways[] = { "outside", "outside-write", "hole",
					    "wrap",    "loop",		"length",
					    "empty",   "next",		"head",
					    "index",   "indirect",	"order" };

	for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
		guint before = broken(rig);
		g_autofree char *order =
			g_strdup_printf("misuse %s %d %u", ways[i], device, queue);
		g_autofree char *answer = ask(rig, order);

		assert_true(g_str_has_prefix(answer, "ok"));
		if (breaks) {
			if (!micro_wait_event(rig->guest, VMM_EVENT_DEVICE_BROKEN,
					      before + 1))
				fail_msg("%s: the device goes on", order);
			assert_non_null(micro_event_detail(rig->guest,
							   VMM_EVENT_DEVICE_BROKEN));
		}
		assert_answer(rig, "ping 1", "ok pong=1");
		/* Once is enough to know. */
		g_free(ask(rig, order));
		assert_answer(rig, "ping 2", "ok pong=2");
		if (breaks)
			assert_int_equal(broken(rig) - before, 1);
		assert_int_equal(vmm_machine_run_state(micro_machine(rig->guest)),
				 VMM_RUNNING);
		reboot(rig);
	}
}

/* Breaches of the rules for registers: each ends in a machine that goes on. */
static void misuse_registers(struct rig *rig, enum device device, guint queue)
{
	static const char *const ways[] = { "rings",  "size",	"selector",
					    "notify", "access", "pci" };

	for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
		g_autofree char *order =
			g_strdup_printf("misuse %s %d %u", ways[i], device, queue);
		g_autofree char *answer = ask(rig, order);

		assert_true(g_str_has_prefix(answer, "ok"));
		assert_answer(rig, "ping 3", "ok pong=3");
		assert_int_equal(vmm_machine_run_state(micro_machine(rig->guest)),
				 VMM_RUNNING);
		reboot(rig);
	}
}

static void a_hostile_disk_driver_stops_only_its_disk(void **state)
{
	enum device disk = have_network ? DISK : DISK - 1;

	misuse_queue(*state, disk, 0, TRUE);
	misuse_registers(*state, disk, 0);
}

static void a_hostile_entropy_driver_stops_only_its_device(void **state)
{
	misuse_queue(*state, RNG, 0, TRUE);
	misuse_registers(*state, RNG, 0);
}

static void a_hostile_console_driver_stops_only_its_console(void **state)
{
	misuse_queue(*state, CONSOLE, 1, TRUE);
	misuse_registers(*state, CONSOLE, 1);
	/* Nothing looks at the receive queue before something is typed. */
	misuse_queue(*state, CONSOLE, 0, FALSE);
	misuse_registers(*state, CONSOLE, 0);
}

static void a_hostile_network_driver_stops_only_its_card(void **state)
{
	if (!have_network)
		skip();
	misuse_queue(*state, NET, 0, TRUE);
	misuse_queue(*state, NET, 1, TRUE);
	misuse_registers(*state, NET, 0);
	misuse_registers(*state, NET, 1);
}

static void a_broken_device_stays_broken_over_a_save_and_load(void **state)
{
	struct rig *rig = *state;
	enum device disk = have_network ? DISK : DISK - 1;
	g_autofree char *order = g_strdup_printf("misuse outside %d", disk);
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(GError) error = NULL;

	g_free(ask(rig, order));
	assert_true(micro_wait_event(rig->guest, VMM_EVENT_DEVICE_BROKEN, 1));
	for (guint i = 0; i < 3; i++) {
		assert_true(vmm_machine_pause(micro_machine(rig->guest), &error));
		assert_true(vmm_machine_save(micro_machine(rig->guest), saved, &error));
		assert_true(vmm_machine_load(micro_machine(rig->guest), saved, &error));
		assert_true(vmm_machine_resume(micro_machine(rig->guest), &error));
		assert_answer(rig, "ping 4", "ok pong=4");
	}
	g_free(ask(rig, order));
	assert_answer(rig, "ping 5", "ok pong=5");
	assert_int_equal(broken(rig), 1);
	reboot(rig);
}

static guint64 number(micro *guest, const char *question, const char *key)
{
	g_autofree char *answer = micro_do(guest, "%s", question);

	return micro_number(answer, key);
}

static void a_disk_holds_what_was_written(void **state)
{
	struct rig *rig = *state;
	g_autofree char *content = NULL;
	gsize len;

	assert_int_equal(number(rig->guest, "blk", "disk0.sectors"), 32768);
	for (guint i = 0; i < 20; i++) {
		g_free(micro_do(rig->guest, "blkwrite 0 %u 100 %u", i * 1000, i));
		if (i % 5 == 0)
			g_free(micro_do(rig->guest, "blkflush 0"));
	}
	for (guint i = 0; i < 20; i++) {
		g_autofree char *question =
			g_strdup_printf("blkverify 0 %u 100 %u", i * 1000, i);

		assert_int_equal(number(rig->guest, question, "bad"), 0);
	}
	assert_int_equal(number(rig->guest, "blkverify 0 0 100 1", "bad"), 100);
	/* Discarded sectors read as zero or as before; no others change. */
	g_free(micro_do(rig->guest, "blkdiscard 0 1000 100"));
	assert_int_equal(number(rig->guest, "blkverify 0 0 100 0", "bad"), 0);
	assert_int_equal(number(rig->guest, "blkverify 0 2000 100 2", "bad"), 0);
	assert_true(g_file_get_contents(rig->disk, &content, &len, NULL));
	assert_int_equal(len, 16 * MIB);
}

static void a_disks_edge_is_where_it_says(void **state)
{
	struct rig *rig = *state;
	g_autofree char *last = micro_ask(rig->guest, "blkwrite 0 32767 1 5");
	g_autofree char *beyond = micro_ask(rig->guest, "blkwrite 0 32767 2 5");

	assert_true(g_str_has_prefix(last, "ok"));
	/* The guest's driver or the device refuses; nothing grows or breaks. */
	assert_true(g_str_has_prefix(beyond, "error") ||
		    micro_number(beyond, "errors") > 0);
	assert_int_equal(number(rig->guest, "blkverify 0 32767 1 5", "bad"), 0);
	assert_int_equal(broken(rig), 0);
}

static void two_disks_are_two(void **state)
{
	g_autofree char *one = micro_file(16 * MIB), *two = micro_file(32 * MIB);
	struct micro_options options = { .disk = one, .disk2 = two };
	g_autoptr(micro) guest = micro_new(&options);

	assert_int_equal(number(guest, "blk", "disks"), 2);
	assert_int_equal(number(guest, "blk", "disk1.sectors"), 65536);
	g_free(micro_do(guest, "blkwrite 0 0 64 1"));
	g_free(micro_do(guest, "blkwrite 1 0 64 2"));
	g_free(micro_do(guest, "blkbg 500 1"));
	for (guint i = 0; i < 10; i++) {
		assert_int_equal(number(guest, "blkverify 0 0 64 1", "bad"), 0);
		assert_int_equal(number(guest, "blkverify 1 0 64 2", "bad"), 0);
	}
	assert_int_equal(number(guest, "blkbg", "bad"), 0);
	g_free(micro_do(guest, "stop"));
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&one));
	micro_remove(g_steal_pointer(&two));
}

static void count_event(void *data, const struct vmm_event *event)
{
	guint *counts = data;

	counts[event->type]++;
}

/* Its own configuration: read-only is none of the harness's options. The guest is told
 * by its command line and heard on the serial port. */
static void a_read_only_disk_is_read_but_not_written(void **state)
{
	struct vmm_disk_config disk = { .path = micro_file(MIB), .readonly = TRUE };
	g_autofree char *path = g_strdup(disk.path), *zeros = g_malloc0(MIB);
	g_autofree char *heard_path = micro_file(0), *heard = NULL, *content = NULL;
	guint64 start = base_clock_monotonic_ns();
	guint counts[16] = { 0 };
	struct vmm_config config;
	g_autoptr(vmm_machine) machine = NULL;
	g_autoptr(GError) error = NULL;
	gsize len;

	vmm_config_init(&config);
	config.kernel =
		g_strdup(g_getenv("MICROGUEST") ?: "build/guest/microguest.bin");
	config.append = g_strdup(
		"cmd=blk;blkwrite+0+0+8+1;blkflush+0;blkdiscard+0+0+8;poweroff");
	config.memory = 64 * MIB;
	config.cpus = 1;
	g_free(config.console);
	config.console = g_strdup_printf("file:%s", heard_path);
	g_array_append_val(config.disks, disk);
	machine = vmm_machine_new(&config, FALSE, count_event, counts, &error);
	vmm_config_clear(&config);
	if (!machine)
		fail_msg("%s", error->message);
	assert_true(vmm_machine_resume(machine, &error));
	while (!counts[VMM_EVENT_POWEROFF] &&
	       base_clock_monotonic_ns() - start < PATIENCE_NS) {
		g_main_context_iteration(NULL, FALSE);
		g_usleep(500);
	}
	g_clear_pointer(&machine, vmm_machine_free);
	assert_int_equal(counts[VMM_EVENT_POWEROFF], 1);
	assert_true(g_file_get_contents(heard_path, &heard, NULL, NULL));
	assert_non_null(strstr(heard, "disk0.sectors=2048"));
	assert_true(g_file_get_contents(path, &content, &len, NULL));
	assert_int_equal(len, MIB);
	assert_memory_equal(content, zeros, MIB);
	micro_remove(g_steal_pointer(&path));
	micro_remove(g_steal_pointer(&heard_path));
}

static void entropy_differs_each_time(void **state)
{
	struct rig *rig = *state;
	guint64 last = 0;

	for (guint i = 0; i < 20; i++) {
		g_autofree char *answer = micro_do(rig->guest, "rng %u", 1 + i * 500);
		guint64 hash = micro_hex(answer, "fnv1a");

		assert_int_equal(micro_number(answer, "bytes"), 1 + i * 500);
		assert_true(hash != last);
		last = hash;
	}
}

static void the_console_carries_many_lines_both_ways(void **state)
{
	struct rig *rig = *state;

	for (guint i = 0; i < 500; i++) {
		g_autofree char *word = g_strnfill(1 + i % 150, (char)('a' + i % 26));
		g_autofree char *answer = micro_do(rig->guest, "ping %s", word);

		assert_true(g_str_has_prefix(answer, "ok pong="));
		assert_string_equal(answer + strlen("ok pong="), word);
	}
	/* And the serial port beside it. */
	for (guint i = 0; i < 50; i++)
		assert_answer(rig, "ping serial", "ok pong=serial");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_disk_holds_what_was_written),
		TEST(a_disks_edge_is_where_it_says),
		cmocka_unit_test(two_disks_are_two),
		cmocka_unit_test(a_read_only_disk_is_read_but_not_written),
		TEST(entropy_differs_each_time),
		TEST(the_console_carries_many_lines_both_ways),
		TEST(a_hostile_disk_driver_stops_only_its_disk),
		TEST(a_hostile_entropy_driver_stops_only_its_device),
		TEST(a_hostile_console_driver_stops_only_its_console),
		TEST(a_hostile_network_driver_stops_only_its_card),
		TEST(a_broken_device_stays_broken_over_a_save_and_load),
	};

	micro_need_kvm();
	make_network();
	if (!have_network)
		fprintf(stderr,
			"# no network namespace with a tap: without a network card\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
