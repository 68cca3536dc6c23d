/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving and loading at random instants, while the guest computes, writes its disk, keeps
 * a TCP connection, watches its clocks and waits for timers: each time the machine is
 * saved, thrown away and loaded into a new one.
 *
 * MICRO_RELOADS sets how often (100), MICRO_SEED the random instants.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "tests/micro/micro.h"

#define TAP "tap0"
#define GUEST_ADDRESS "10.99.0.2"

static guint reloads(void)
{
	return g_getenv("MICRO_RELOADS") ? (guint)atoi(g_getenv("MICRO_RELOADS")) : 100;
}

static guint32 seed(void)
{
	return g_getenv("MICRO_SEED") ? (guint32)atoi(g_getenv("MICRO_SEED")) : 1;
}

/* A network namespace with a tap in it: outlives each machine, as a bridge's would. */
static gboolean make_network(void)
{
	return unshare(CLONE_NEWNET) == 0 && !system("ip link set lo up") &&
	       !system("ip tuntap add " TAP " mode tap vnet_hdr") &&
	       !system("ip addr add 10.99.0.1/24 dev " TAP) &&
	       !system("ip link set " TAP " up");
}

static int connect_to_guest(guint16 port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, GUEST_ADDRESS, &address.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		g_error("connect to the guest: %s", g_strerror(errno));
	return fd;
}

/* Sends a numbered message and leaves its echo for receive_echo(). */
static void send_number(int fd, guint32 number)
{
	assert_int_equal(send(fd, &number, sizeof(number), MSG_NOSIGNAL), sizeof(number));
}

static void receive_echo(int fd, guint32 number)
{
	guint32 echo = 0;
	gssize got;

	/* A ring that the kernel takes down interrupts the thread that made it. */
	do
		got = recv(fd, &echo, sizeof(echo), MSG_WAITALL);
	while (got < 0 && errno == EINTR);
	if (got != (gssize)sizeof(echo))
		g_error("echo %u: %s", number, got < 0 ? g_strerror(errno) : "closed");
	assert_int_equal(echo, number);
}

static void check_clocks(micro *guest)
{
	g_autofree char *report = micro_do(guest, "clockwatch report");

	assert_int_equal(micro_number(report, "tsc_decreases"), 0);
	assert_int_equal(micro_number(report, "kvm_decreases"), 0);
	assert_int_equal(micro_number(report, "tsc_cross"), 0);
	if (micro_number(report, "kvm_stable"))
		assert_int_equal(micro_number(report, "kvm_cross"), 0);
}

static void check_timers(micro *guest)
{
	g_autofree char *report = micro_do(guest, "timer");

	assert_int_equal(micro_number(report, "cpu0.no_irq"), 0);
	assert_int_equal(micro_number(report, "cpu1.no_irq"), 0);
}

static void check_disk(micro *guest)
{
	g_autofree char *report = micro_do(guest, "blkbg");

	assert_int_equal(micro_number(report, "bad"), 0);
	assert_int_equal(micro_number(report, "errors"), 0);
}

/* What mix64 computes in the guest: the documented sum of `compute`. */
static guint64 computed(guint64 rounds)
{
	guint64 v = 0;

	for (guint64 i = 0; i < rounds; i++) {
		guint64 x = v + i;

		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
		v = x ^ (x >> 31);
	}
	return v;
}

static void save_twice(micro *guest)
{
	g_autoptr(vmm_state) first = vmm_state_new(), second = vmm_state_new();
	g_autoptr(GError) error = NULL;
	g_autofree char *difference = NULL;
	const guint8 *a, *b;
	gsize len_a, len_b;

	assert_true(vmm_machine_save(micro_machine(guest), first, &error));
	assert_true(vmm_machine_save(micro_machine(guest), second, &error));
	difference = vmm_state_difference(first, second);
	if (difference)
		g_error("saved twice: %s", difference);
	a = vmm_state_bytes(first, &len_a);
	b = vmm_state_bytes(second, &len_b);
	assert_int_equal(len_a, len_b);
	assert_memory_equal(a, b, len_a);
}

static void a_machine_survives_being_saved_and_loaded_at_random_instants(void **state)
{
	enum { ROUNDS = 20000000 };
	g_autofree char *disk = micro_file(16 << 20);
	struct micro_options options = { .cpus = 2, .disk = disk, .tap = TAP,
					 .append = "ip=" GUEST_ADDRESS "/24" };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GRand) random = g_rand_new_with_seed(seed());
	g_autoptr(GError) error = NULL;
	g_autofree char *answer = NULL;
	base_autofd int fd = connect_to_guest(7);
	guint64 start, elapsed = 0;

	g_free(micro_do(guest, "clockwatch start"));
	g_free(micro_do(guest, "timer 200"));
	g_free(micro_do(guest, "blkbg 500"));
	g_free(micro_do(guest, "compute %u bg", ROUNDS));
	start = base_clock_monotonic_ns();
	for (guint i = 0; i < reloads(); i++) {
		/* Requests are under way when the machine stops. */
		send_number(fd, i);
		g_usleep((gulong)g_rand_int_range(random, 0, 3000));
		assert_true(vmm_machine_pause(micro_machine(guest), &error));
		save_twice(guest);
		micro_reload(guest);
		assert_true(vmm_machine_resume(micro_machine(guest), &error));
		receive_echo(fd, i);
		if (i % 16 == 0) {
			check_clocks(guest);
			check_timers(guest);
			check_disk(guest);
		}
	}
	elapsed = base_clock_monotonic_ns() - start;
	check_clocks(guest);
	check_timers(guest);
	check_disk(guest);
	for (guint i = 0; i < 300; i++) {
		g_free(answer);
		answer = micro_do(guest, "compute");
		if (micro_number(answer, "done") == ROUNDS)
			break;
		micro_sleep_ms(guest, 100);
	}
	assert_int_equal(micro_number(answer, "done"), ROUNDS);
	assert_int_equal(micro_hex(answer, "value"), computed(ROUNDS));
	printf("# %u reloads, seed %u, %.1f ms each\n", reloads(), seed(),
	       (double)elapsed / 1e6 / reloads());
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&disk));
}

static void guest_time_moves_on_over_a_load(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GError) error = NULL;
	g_autofree char *before = micro_do(guest, "time"), *after = NULL;
	guint64 start = base_clock_monotonic_ns(), outside, inside;

	assert_true(vmm_machine_pause(micro_machine(guest), &error));
	/* From the pause, when clocks are read, to the load; and while it is loaded. */
	g_usleep(300000);
	micro_reload(guest);
	g_usleep(300000);
	assert_true(vmm_machine_resume(micro_machine(guest), &error));
	after = micro_do(guest, "time");
	outside = base_clock_monotonic_ns() - start;
	inside = micro_number(after, "kvmclock_ns") -
		 micro_number(before, "kvmclock_ns");
	assert_true(inside >= 600000000u);
	assert_true(inside <= outside + 5000000u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_time_moves_on_over_a_load),
		cmocka_unit_test(
			a_machine_survives_being_saved_and_loaded_at_random_instants),
	};

	micro_need_kvm();
	if (!make_network()) {
		fprintf(stderr, "SKIPPED: cannot make a network namespace with a tap\n");
		return MICRO_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
