/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary and a secondary in this process, each with its own machine, over a real channel:
 * checkpoints with --verify, promotion, and the loss of either side.
 *
 * MICRO_CHECKPOINTS sets how many of each mode (1000), MICRO_PROMOTIONS how many (12),
 * MICRO_TEST a pattern of the tests to run.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <errno.h>
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
#include "tests/micro/pair.h"

static guint from_environment(const char *name, guint otherwise)
{
	return g_getenv(name) ? (guint)atoi(g_getenv(name)) : otherwise;
}

static void keep_busy(struct pair *pair)
{
	if (pair->disks[0])
		g_free(micro_do(pair->first, "blkbg 300"));
	g_free(micro_do(pair->first, "dirty 1000 20000 3"));
	g_free(micro_do(pair->first, "clockwatch start"));
	g_free(micro_do(pair->first, "timer 100"));
}

static void check_disk(micro *guest)
{
	g_autofree char *report = micro_do(guest, "blkbg");

	assert_int_equal(micro_number(report, "bad"), 0);
	assert_int_equal(micro_number(report, "errors"), 0);
	assert_true(micro_number(report, "writes") > 0);
}

static void check_guest(micro *guest)
{
	g_autofree char *verified = micro_do(guest, "verify");
	g_autofree char *clocks = micro_do(guest, "clockwatch report");

	assert_int_equal(micro_number(verified, "bad"), 0);
	assert_int_equal(micro_number(clocks, "tsc_decreases"), 0);
	assert_int_equal(micro_number(clocks, "kvm_decreases"), 0);
}

/* A client that goes on talking to the guest, over the tap that is its own. */
struct client {
	int fd;
	guint32 sent;
};

static void connect_client(struct client *client)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(7) };
	struct timeval patience = { .tv_sec = 20 };

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, PAIR_GUEST_ADDRESS, &address.sin_addr);
	setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		g_error("connect to the guest: %s", g_strerror(errno));
}

static void exchange(struct client *client)
{
	guint32 number = ++client->sent, echo = 0;
	gssize got;

	assert_int_equal(send(client->fd, &number, sizeof(number), MSG_NOSIGNAL),
			 sizeof(number));
	do
		got = recv(client->fd, &echo, sizeof(echo), MSG_WAITALL);
	while (got < 0 && errno == EINTR);
	assert_int_equal(got, sizeof(echo));
	assert_int_equal(echo, number);
}

static void replicate(enum ckpt_mode mode, guint cpus)
{
	struct micro_options options = { .cpus = cpus, .disk = "yes", .tap = "yes",
					 .append = "ip=" PAIR_GUEST_ADDRESS "/24" };
	struct pair *pair = pair_new(&options, mode, 5, TRUE);
	guint wanted = from_environment("MICRO_CHECKPOINTS", 1000);
	struct ckpt_checkpoint_stats last;
	struct client client = { 0 };
	g_autoptr(GError) error = NULL;
	guint64 start;

	assert_true(pair_wait_for_epoch(pair, 1));
	keep_busy(pair);
	connect_client(&client);
	start = base_clock_monotonic_ns();
	for (guint epoch = 2; epoch < wanted; epoch += 2) {
		assert_true(pair_wait_for_epoch(pair, epoch));
		exchange(&client);
	}
	assert_true(pair_wait_for_epoch(pair, wanted));
	assert_true(ckpt_primary_last(pair->primary, &last));
	printf("# %u checkpoints verified, %.1f a second; the last: dirty=%" G_GUINT64_FORMAT
	       " same=%" G_GUINT64_FORMAT " twin=%" G_GUINT64_FORMAT " sent=%" G_GUINT64_FORMAT
	       " bytes=%" G_GUINT64_FORMAT " pause=%.3fms commit=%.3fms apply=%.3fms\n",
	       wanted, wanted * 1e9 / (double)(base_clock_monotonic_ns() - start), last.dirty,
	       last.same, last.twin, last.sent, last.bytes, (double)last.pause_ns / 1e6,
	       (double)last.commit_ns / 1e6, (double)last.apply_ns / 1e6);
	check_guest(pair->first);
	check_disk(pair->first);
	assert_true(vmm_machine_sync_disks(micro_machine(pair->first), &error));
	close(client.fd);
	pair_free(pair);
}

static void a_running_secondary_follows_verified_checkpoints(void **state)
{
	replicate(CKPT_MODE_COLO, 2);
}

static void a_resting_secondary_follows_verified_checkpoints(void **state)
{
	replicate(CKPT_MODE_BUFFERED, 2);
}

static void the_guest_goes_on_when_its_secondary_is_gone(void **state)
{
	struct micro_options options = { .cpus = 2 };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 5, TRUE);

	assert_true(pair_wait_for_epoch(pair, 1));
	keep_busy(pair);
	assert_true(pair_wait_for_epoch(pair, 20));
	g_clear_pointer(&pair->secondary, ckpt_secondary_free);
	for (guint i = 0; i < 5000 && !g_atomic_int_get(&pair->primary_lost); i++)
		micro_sleep_ms(pair->first, 1);
	assert_int_equal(g_atomic_int_get(&pair->primary_lost), 1);
	check_guest(pair->first);
	pair_free(pair);
}

/* The promoted guest is told what to do over its own console, and serves new clients. */
static void a_promoted_secondary_goes_on_from_what_it_has(void **state)
{
	guint promotions = from_environment("MICRO_PROMOTIONS", 12);
	g_autoptr(GRand) random = g_rand_new_with_seed(from_environment("MICRO_SEED", 1));

	for (guint i = 0; i < promotions; i++) {
		struct micro_options options = { .cpus = 1 + i % 2, .disk = "yes",
						 .tap = "yes",
						 .append = "ip=" PAIR_GUEST_ADDRESS "/24" };
		struct pair *pair = pair_new(
			&options, i % 4 < 2 ? CKPT_MODE_COLO : CKPT_MODE_BUFFERED, 5,
			TRUE);
		struct client client = { 0 };
		g_autoptr(GError) error = NULL;

		assert_true(pair_wait_for_epoch(pair, 1));
		keep_busy(pair);
		assert_true(pair_wait_for_epoch(pair, pair_committed(pair) + 3));
		g_usleep((gulong)g_rand_int_range(random, 0, 20000));
		/* One speaker: the first falls silent before the second speaks. */
		assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
		assert_true(ckpt_secondary_promote(pair->secondary, &error));
		micro_forget(pair->second, 100);
		check_guest(pair->second);
		connect_client(&client);
		exchange(&client);
		close(client.fd);
		for (guint ms = 0; ms < 20000 && !g_atomic_int_get(&pair->durable); ms++)
			micro_sleep_ms(pair->second, 1);
		assert_int_equal(g_atomic_int_get(&pair->durable), 1);
		assert_true(vmm_machine_sync_disks(micro_machine(pair->second), &error));
		check_disk(pair->second);
		pair_free(pair);
	}
}

/* Hears what the secondary's machine sends to its tap. */
static int open_ear(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = (int)if_nametoindex("tap1") };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			htons(ETH_P_ALL));

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		g_error("listen at tap1: %s", g_strerror(errno));
	return fd;
}

/* How many frames came from there, and how many of them are ARP in which the guest says its
 * address unasked. */
static guint count_heard(int ear, guint *announcements)
{
	static const guint8 ip[] = { 10, 99, 0, 2 };
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	guint8 frame[2048];
	guint frames = 0;
	gssize n;

	while ((n = recvfrom(ear, frame, sizeof(frame), 0, (struct sockaddr *)&from,
			     &from_len)) > 0) {
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		frames++;
		*announcements += n >= 42 && from.sll_protocol == htons(ETH_P_ARP) &&
				  !memcmp(frame + 28, ip, 4) && !memcmp(frame + 38, ip, 4);
	}
	return frames;
}

/* The resting guest never said anything: what it is called came from the primary. */
static void a_promoted_secondary_says_where_its_addresses_are(void **state)
{
	struct micro_options options = { .cpus = 1, .tap = "yes",
					 .append = "ip=" PAIR_GUEST_ADDRESS "/24" };
	struct pair *pair = pair_new(&options, CKPT_MODE_BUFFERED, 10, TRUE);
	g_autoptr(GError) error = NULL;
	struct client client = { 0 };
	guint announcements = 0;
	int ear = open_ear();

	connect_client(&client);
	exchange(&client);
	/* Said to a guest that rests, it is not said when it runs. */
	micro_tell(pair->second, "poweroff");
	assert_true(pair_wait_for_epoch(pair, pair_committed(pair) + 3));
	assert_int_equal(count_heard(ear, &announcements), 0);
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	for (guint ms = 0; ms < 10000 && announcements < 8; ms += 10) {
		micro_sleep_ms(pair->second, 10);
		count_heard(ear, &announcements);
	}
	/* As request and as reply, four times. */
	assert_true(announcements >= 8);
	/* So the connection goes on. */
	exchange(&client);
	close(client.fd);
	close(ear);
	pair_free(pair);
}

/* Its own run is not the one that counts: the next checkpoint heals it. */
static void a_secondary_whose_guest_dies_is_healed_by_the_next_checkpoint(void **state)
{
	static const char *const deaths[] = { "poweroff", "reboot", "panic" };
	struct micro_options options = { .cpus = 2 };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 20, TRUE);
	g_autoptr(GError) error = NULL;

	assert_true(pair_wait_for_epoch(pair, 1));
	keep_busy(pair);
	g_atomic_int_set(&pair->second_hears, 1);
	for (guint i = 0; i < G_N_ELEMENTS(deaths); i++) {
		micro_tell(pair->second, deaths[i]);
		micro_sleep_ms(pair->second, 30);
		assert_true(pair_wait_for_epoch(pair, pair_committed(pair) + 5));
	}
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_forget(pair->second, 200);
	check_guest(pair->second);
	pair_free(pair);
}

/* Told once, at the primary's console, and heard by both; answered to each node's own. */
static void what_is_typed_at_the_primary_both_guests_are_told(void **state)
{
	struct micro_options options = { .cpus = 1 };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 3600000, TRUE);
	g_autoptr(GError) error = NULL;
	guint epoch;

	assert_true(pair_wait_for_epoch(pair, 1));
	/* Nobody hears this: it is not the primary's console. */
	micro_tell(pair->second, "mark at the wrong end");
	for (guint i = 0; i < 50; i++) {
		g_autofree char *line = g_strdup_printf("mark line %u", i);
		g_autofree char *answer = g_strdup_printf("ok mark=line %u", i);

		micro_tell(pair->first, line);
		assert_true(micro_hear(pair->first, answer));
		assert_true(micro_hear(pair->second, answer));
		if (i % 10 != 9)
			continue;
		/* A checkpoint takes nothing back and repeats nothing. */
		epoch = pair_committed(pair);
		ckpt_primary_request(pair->primary, CKPT_REASON_REQUEST);
		assert_true(pair_wait_for_epoch(pair, epoch + 1));
	}
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_tell(pair->second, "mark promoted");
	assert_true(micro_hear(pair->second, "ok mark=promoted"));
	pair_free(pair);
}

/* What was typed after the cut is typed again after the apply, and only that. */
static void a_checkpoint_in_the_midst_of_typing_loses_and_doubles_nothing(void **state)
{
	struct micro_options options = { .cpus = 1 };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 5, TRUE);
	g_autoptr(GError) error = NULL;
	g_autofree char *typed = NULL;

	assert_true(pair_wait_for_epoch(pair, 1));
	for (guint i = 0; i < 200; i++) {
		g_autofree char *report = micro_do(pair->first, "ping %u", i);
		g_autofree char *wanted = g_strdup_printf("ok pong=%u", i);

		assert_string_equal(report, wanted);
	}
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_forget(pair->second, 100);
	typed = micro_do(pair->second, "ping after");
	assert_string_equal(typed, "ok pong=after");
	pair_free(pair);
}

/* Nobody asks by the clock: an epoch lasts an hour. */
#define HOUR_MS 3600000u

static void a_secondary_whose_guest_goes_astray_asks_for_a_checkpoint(void **state)
{
	struct micro_options options = { .cpus = 2 };
	struct pair_options pair_options = { .mode = CKPT_MODE_COLO,
					     .period_ms = HOUR_MS,
					     .private_max = 3000,
					     .verify = TRUE };
	struct pair *pair = pair_new_with(&options, &pair_options);
	struct ckpt_checkpoint_stats stats;

	assert_true(pair_wait_for_epoch(pair, 1));
	g_atomic_int_set(&pair->second_hears, 1);
	micro_tell(pair->second, "dirty 1000 0 1");
	micro_sleep_ms(pair->second, 200);
	assert_int_equal(pair_committed(pair), 1);
	/* The same pages again are no more of them. */
	micro_tell(pair->second, "dirty 1000 0 2");
	micro_sleep_ms(pair->second, 200);
	assert_int_equal(pair_committed(pair), 1);
	micro_tell(pair->second, "dirty 4000 0 3");
	assert_true(pair_wait_for_epoch(pair, 2));
	assert_int_equal(pair_reason(pair), CKPT_REASON_PRIVATE);
	/* Which it is for: what is over the budget was given up. */
	assert_true(ckpt_primary_last(pair->primary, &stats));
	assert_true(stats.private_pages <= 1500);
	micro_sleep_ms(pair->second, 200);
	assert_int_equal(pair_committed(pair), 2);
	pair_free(pair);
}

static void a_secondary_that_holds_much_asks_for_a_checkpoint(void **state)
{
	struct micro_options options = { .cpus = 1, .disk = "yes" };
	struct pair_options pair_options = { .mode = CKPT_MODE_COLO,
					     .period_ms = HOUR_MS,
					     .input_need = 20000,
					     .disk_need = 1 << 20,
					     .verify = TRUE };
	struct pair *pair = pair_new_with(&options, &pair_options);

	assert_true(pair_wait_for_epoch(pair, 1));
	g_free(micro_do(pair->first, "blkwrite 0 0 1200 7"));
	micro_sleep_ms(pair->first, 100);
	assert_int_equal(pair_committed(pair), 1);
	g_free(micro_do(pair->first, "blkwrite 0 1200 1200 7"));
	assert_true(pair_wait_for_epoch(pair, 2));
	assert_int_equal(pair_reason(pair), CKPT_REASON_DISK);
	for (guint i = 0; i < 1000 && pair_committed(pair) < 3; i++)
		g_free(micro_do(pair->first, "ping %u", i));
	assert_true(pair_wait_for_epoch(pair, 3));
	assert_int_equal(pair_reason(pair), CKPT_REASON_INPUT);
	pair_free(pair);
}

static void a_burst_of_writes_is_cut_before_the_rate_of_them_is_known(void **state)
{
	static const enum vmm_dirty_method methods[] = { VMM_DIRTY_AUTO, VMM_DIRTY_BITMAP };

	for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
		struct micro_options options = { .cpus = 1, .dirty = methods[i] };
		struct pair_options pair_options = { .mode = CKPT_MODE_COLO,
						     .period_ms = HOUR_MS,
						     .dirty_max = 2000,
						     .private_max = 16384,
						     .verify = TRUE };
		struct pair *pair = pair_new_with(&options, &pair_options);

		assert_true(pair_wait_for_epoch(pair, 1));
		g_free(micro_do(pair->first, "dirty 3000 0 1"));
		assert_true(pair_wait_for_epoch(pair, 2));
		assert_int_equal(pair_reason(pair), CKPT_REASON_DIRTY);
		pair_free(pair);
	}
}

static void wait_until_lost(struct pair *pair)
{
	for (guint i = 0; i < 10000 && !(g_atomic_int_get(&pair->primary_lost) &&
					 g_atomic_int_get(&pair->secondary_lost));
	     i++)
		micro_sleep_ms(pair->first, 1);
	assert_int_equal(g_atomic_int_get(&pair->primary_lost), 1);
	assert_int_equal(g_atomic_int_get(&pair->secondary_lost), 1);
}

/* Something of the secondary is spoilt, and both sides say what. */
static void spoil_and_find(enum ckpt_mode mode, enum fault_kind kind, const char *wanted)
{
	struct micro_options options = { .cpus = 1, .disk = "yes" };
	struct pair *pair = pair_new(&options, mode, HOUR_MS, TRUE);
	g_autoptr(GError) error = NULL;
	guint8 *page;

	assert_true(pair_wait_for_epoch(pair, 1));
	/* In order, all is equal. */
	g_free(micro_do(pair->first, "blkwrite 0 8 64 1"));
	ckpt_primary_request(pair->primary, CKPT_REASON_REQUEST);
	assert_true(pair_wait_for_epoch(pair, 2));
	/* Applied, too. */
	assert_int_equal(pair_reason(pair), CKPT_REASON_REQUEST);
	if (kind == FAULT_NONE) {
		page = vmm_memory_base_page(
			vmm_machine_memory(micro_machine(pair->second)), 0x3210);
		page[100] ^= 1;
	}
	g_atomic_int_set(&pair->fault.kind, (gint)kind);
	g_free(micro_do(pair->first, "blkwrite 0 2048 8 1"));
	ckpt_primary_request(pair->primary, CKPT_REASON_REQUEST);
	wait_until_lost(pair);
	assert_non_null(strstr(pair->why[1], "verify: checkpoint 3: "));
	assert_non_null(strstr(pair->why[1], wanted));
	assert_non_null(strstr(pair->why[0], wanted));
	assert_false(ckpt_secondary_promote(pair->secondary, &error));
	assert_true(g_error_matches(error, CKPT_ERROR, CKPT_ERROR_MODE));
	pair_free(pair);
}

static void verifying_finds_a_page_that_differs(void **state)
{
	spoil_and_find(CKPT_MODE_COLO, FAULT_NONE, "1 pages differ, at 0x3210000");
	spoil_and_find(CKPT_MODE_BUFFERED, FAULT_NONE, "1 pages differ, at 0x3210000");
}

static void verifying_finds_a_field_that_differs(void **state)
{
	spoil_and_find(CKPT_MODE_COLO, FAULT_STATE, "serial.0: scr");
}

static void verifying_finds_a_block_of_a_disk_that_differs(void **state)
{
	static const char wanted[] = "disk 0 differs in the 4096 bytes at 0x100000";

	spoil_and_find(CKPT_MODE_COLO, FAULT_DISK, wanted);
	spoil_and_find(CKPT_MODE_BUFFERED, FAULT_DISK, wanted);
}

static void nothing_is_promoted_before_the_first_commit(void **state)
{
	struct micro_options options = { .memory = 512ull << 20 };
	struct pair *pair = pair_new(&options, CKPT_MODE_COLO, 5, TRUE);
	g_autoptr(GError) error = NULL;

	if (!pair_committed(pair)) {
		gboolean promoted = ckpt_secondary_promote(pair->secondary, &error);

		/* It may have come just before. */
		assert_true(promoted ? ckpt_secondary_epoch(pair->secondary) > 0 :
				       g_error_matches(error, CKPT_ERROR, CKPT_ERROR_MODE));
	}
	pair_free(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_secondary_follows_verified_checkpoints),
		cmocka_unit_test(a_resting_secondary_follows_verified_checkpoints),
		cmocka_unit_test(the_guest_goes_on_when_its_secondary_is_gone),
		cmocka_unit_test(a_promoted_secondary_goes_on_from_what_it_has),
		cmocka_unit_test(a_promoted_secondary_says_where_its_addresses_are),
		cmocka_unit_test(
			a_secondary_whose_guest_dies_is_healed_by_the_next_checkpoint),
		cmocka_unit_test(what_is_typed_at_the_primary_both_guests_are_told),
		cmocka_unit_test(
			a_checkpoint_in_the_midst_of_typing_loses_and_doubles_nothing),
		cmocka_unit_test(
			a_secondary_whose_guest_goes_astray_asks_for_a_checkpoint),
		cmocka_unit_test(a_secondary_that_holds_much_asks_for_a_checkpoint),
		cmocka_unit_test(a_burst_of_writes_is_cut_before_the_rate_of_them_is_known),
		cmocka_unit_test(verifying_finds_a_page_that_differs),
		cmocka_unit_test(verifying_finds_a_field_that_differs),
		cmocka_unit_test(verifying_finds_a_block_of_a_disk_that_differs),
		cmocka_unit_test(nothing_is_promoted_before_the_first_commit),
	};

	micro_need_kvm();
	if (g_getenv("MICRO_TEST"))
		cmocka_set_test_filter(g_getenv("MICRO_TEST"));
	if (!pair_make_network()) {
		fprintf(stderr, "SKIPPED: cannot make a network namespace with a bridge\n");
		return MICRO_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
