/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary and a secondary in this process, each with its own machine, over a real channel:
 * checkpoints with --verify, promotion, and the loss of either side.
 *
 * MICRO_CHECKPOINTS sets how many of each mode (200), MICRO_PROMOTIONS how many (12).
 */
#include <arpa/inet.h>
#include <errno.h>
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
#include "checkpoint/node.h"
#include "tests/micro/micro.h"

#define GUEST_ADDRESS "10.99.0.2"
#define PATIENCE_NS (30 * G_GUINT64_CONSTANT(1000000000))

struct pair {
	char *disks[2];
	ckpt_node *nodes[2];
	micro *first, *second;
	gint durable; /* atomic: 1 once the promoted disk is, -1 if it could not */
	ckpt_primary *primary;
	ckpt_secondary *secondary;
	base_key *key;
	char *key_path;
	gint committed; /* atomic: the last epoch */
	gint primary_lost, secondary_lost; /* atomic */
	char *why; /* the first loss; of a link's thread until joined */
};

static guint from_environment(const char *name, guint otherwise)
{
	return g_getenv(name) ? (guint)atoi(g_getenv(name)) : otherwise;
}

static void on_committed(void *data, guint64 epoch)
{
	struct pair *pair = data;

	g_atomic_int_set(&pair->committed, (gint)epoch);
}

static void on_primary_state(void *data, enum ckpt_primary_state state, const char *why)
{
	struct pair *pair = data;

	if (state != CKPT_PRIMARY_LOST)
		return;
	if (g_getenv("MICRO_TALK"))
		printf("# primary lost: %s\n", why);
	g_atomic_int_set(&pair->primary_lost, 1);
}

static void on_secondary_lost(void *data, const char *why)
{
	struct pair *pair = data;

	if (g_getenv("MICRO_TALK"))
		printf("# secondary lost: %s\n", why);
	g_atomic_int_set(&pair->secondary_lost, 1);
}

struct side {
	struct pair *pair;
	int fd;
	struct ckpt_secondary_options options;
	GError *error;
};

/* The handshakes meet only if both sides are at it. */
static void *make_secondary(void *data)
{
	static const struct ckpt_secondary_hooks hooks = { .lost = on_secondary_lost };
	struct side *side = data;
	struct ckpt_twin_streams streams = ckpt_node_twin_streams(side->pair->nodes[1]);
	base_channel *channel = base_channel_new_take(side->fd, TRUE, side->pair->key,
						      ckpt_rules, 10000, &side->error);

	if (!channel)
		return NULL;
	return ckpt_secondary_new_take(micro_machine(side->pair->second), channel,
				       &side->options, &streams, &hooks, side->pair,
				       &side->error);
}

static void on_durable(void *data, int error)
{
	struct pair *pair = data;

	g_atomic_int_set(&pair->durable, error ? -1 : 1);
}

/* Machine `which` of the pair, with devices that can be replicated. */
static micro *make_machine(struct pair *pair, guint which, const struct micro_options *options)
{
	static const char *const taps[] = { "tap0", "tap1" };
	struct ckpt_node_hooks hooks = { .data = pair, .durable = on_durable };
	struct micro_options own = *options;
	micro *guest;

	pair->nodes[which] = ckpt_node_new(which == 1, options->tap ? 1 : 0, &hooks);
	own.backends = ckpt_node_backends(pair->nodes[which]);
	own.for_load = which == 1;
	if (options->tap)
		own.tap = taps[which];
	own.disk = pair->disks[which] = options->disk ? micro_file(16 << 20) : NULL;
	guest = micro_new(&own);
	ckpt_node_attach(pair->nodes[which], micro_machine(guest));
	return guest;
}

static struct pair *make_pair(const struct micro_options *options, enum ckpt_mode mode,
			      guint period_ms)
{
	static const struct ckpt_primary_hooks hooks = { .state = on_primary_state,
							 .committed = on_committed };
	struct ckpt_streams streams;
	struct ckpt_primary_options primary;
	struct pair *pair = g_new0(struct pair, 1);
	struct side side = { .pair = pair,
			     .options = { .silence_ms = 5000, .verify = TRUE } };
	base_channel *channel;
	GThread *thread;
	int ends[2];

	pair->key_path = g_strdup_printf("%s/colo-key-%d", g_get_tmp_dir(), getpid());
	unlink(pair->key_path);
	assert_true(base_key_generate(pair->key_path, &side.error));
	pair->key = base_key_read(pair->key_path, &side.error);
	assert_non_null(pair->key);
	pair->first = make_machine(pair, 0, options);
	pair->second = make_machine(pair, 1, options);
	streams = ckpt_node_streams(pair->nodes[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	side.fd = ends[1];
	thread = g_thread_new("secondary", make_secondary, &side);
	ckpt_primary_options_init(&primary);
	primary.mode = mode;
	primary.period_ms = primary.age_ms = period_ms;
	primary.silence_ms = 5000;
	primary.verify = TRUE;
	channel = base_channel_new_take(ends[0], FALSE, pair->key, ckpt_rules, 10000,
					&side.error);
	if (!channel)
		g_error("channel: %s", side.error->message);
	pair->primary = ckpt_primary_new_take(micro_machine(pair->first), channel, &primary,
					      &streams, &hooks, pair, &side.error);
	if (!pair->primary)
		g_error("primary: %s", side.error->message);
	pair->secondary = g_thread_join(thread);
	if (!pair->secondary)
		g_error("secondary: %s", side.error->message);
	return pair;
}

static void free_pair(struct pair *pair)
{
	ckpt_primary_free(pair->primary);
	ckpt_secondary_free(pair->secondary);
	micro_free(pair->first);
	micro_free(pair->second);
	for (guint i = 0; i < 2; i++) {
		ckpt_node_free(pair->nodes[i]);
		if (pair->disks[i])
			micro_remove(pair->disks[i]);
	}
	base_key_free(pair->key);
	unlink(pair->key_path);
	g_free(pair->key_path);
	g_free(pair);
}

static guint committed(struct pair *pair)
{
	return (guint)g_atomic_int_get(&pair->committed);
}

static void wait_for_epoch(struct pair *pair, guint epoch)
{
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	while (committed(pair) < epoch && !g_atomic_int_get(&pair->primary_lost) &&
	       base_clock_monotonic_ns() < until)
		micro_sleep_ms(pair->first, 1);
	assert_int_equal(g_atomic_int_get(&pair->primary_lost), 0);
	assert_int_equal(g_atomic_int_get(&pair->secondary_lost), 0);
	assert_true(committed(pair) >= epoch);
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
	inet_pton(AF_INET, GUEST_ADDRESS, &address.sin_addr);
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
					 .append = "ip=" GUEST_ADDRESS "/24" };
	struct pair *pair = make_pair(&options, mode, 5);
	guint wanted = from_environment("MICRO_CHECKPOINTS", 200);
	struct ckpt_checkpoint_stats last;
	struct client client = { 0 };
	guint64 start;

	wait_for_epoch(pair, 1);
	keep_busy(pair);
	connect_client(&client);
	start = base_clock_monotonic_ns();
	for (guint epoch = 2; epoch < wanted; epoch += 2) {
		wait_for_epoch(pair, epoch);
		exchange(&client);
	}
	wait_for_epoch(pair, wanted);
	assert_true(ckpt_primary_last(pair->primary, &last));
	printf("# %u checkpoints verified, %.1f a second; the last: dirty=%" G_GUINT64_FORMAT
	       " same=%" G_GUINT64_FORMAT " twin=%" G_GUINT64_FORMAT " sent=%" G_GUINT64_FORMAT
	       " bytes=%" G_GUINT64_FORMAT " pause=%.3fms commit=%.3fms apply=%.3fms\n",
	       wanted, wanted * 1e9 / (double)(base_clock_monotonic_ns() - start), last.dirty,
	       last.same, last.twin, last.sent, last.bytes, (double)last.pause_ns / 1e6,
	       (double)last.commit_ns / 1e6, (double)last.apply_ns / 1e6);
	check_guest(pair->first);
	check_disk(pair->first);
	close(client.fd);
	free_pair(pair);
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
	struct pair *pair = make_pair(&options, CKPT_MODE_COLO, 5);

	wait_for_epoch(pair, 1);
	keep_busy(pair);
	wait_for_epoch(pair, 20);
	g_clear_pointer(&pair->secondary, ckpt_secondary_free);
	for (guint i = 0; i < 5000 && !g_atomic_int_get(&pair->primary_lost); i++)
		micro_sleep_ms(pair->first, 1);
	assert_int_equal(g_atomic_int_get(&pair->primary_lost), 1);
	check_guest(pair->first);
	free_pair(pair);
}

/* The promoted guest is told what to do over its own console, and serves new clients. */
static void a_promoted_secondary_goes_on_from_what_it_has(void **state)
{
	guint promotions = from_environment("MICRO_PROMOTIONS", 12);
	g_autoptr(GRand) random = g_rand_new_with_seed(from_environment("MICRO_SEED", 1));

	for (guint i = 0; i < promotions; i++) {
		struct micro_options options = { .cpus = 1 + i % 2, .disk = "yes",
						 .tap = "yes",
						 .append = "ip=" GUEST_ADDRESS "/24" };
		struct pair *pair = make_pair(
			&options, i % 4 < 2 ? CKPT_MODE_COLO : CKPT_MODE_BUFFERED, 5);
		struct client client = { 0 };
		g_autoptr(GError) error = NULL;

		wait_for_epoch(pair, 1);
		keep_busy(pair);
		wait_for_epoch(pair, committed(pair) + 3);
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
		check_disk(pair->second);
		free_pair(pair);
	}
}

/* Its own run is not the one that counts: the next checkpoint heals it. */
static void a_secondary_whose_guest_dies_is_healed_by_the_next_checkpoint(void **state)
{
	static const char *const deaths[] = { "poweroff", "reboot", "panic" };
	struct micro_options options = { .cpus = 2 };
	struct pair *pair = make_pair(&options, CKPT_MODE_COLO, 20);
	g_autoptr(GError) error = NULL;

	wait_for_epoch(pair, 1);
	keep_busy(pair);
	for (guint i = 0; i < G_N_ELEMENTS(deaths); i++) {
		micro_tell(pair->second, deaths[i]);
		micro_sleep_ms(pair->second, 30);
		wait_for_epoch(pair, committed(pair) + 5);
	}
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_forget(pair->second, 200);
	check_guest(pair->second);
	free_pair(pair);
}

static void nothing_is_promoted_before_the_first_commit(void **state)
{
	struct micro_options options = { .memory = 512ull << 20 };
	struct pair *pair = make_pair(&options, CKPT_MODE_COLO, 5);
	g_autoptr(GError) error = NULL;

	if (!committed(pair)) {
		gboolean promoted = ckpt_secondary_promote(pair->secondary, &error);

		assert_true(promoted || g_error_matches(error, CKPT_ERROR, CKPT_ERROR_MODE));
	}
	free_pair(pair);
}

/* Both cards on one bridge, as on one network. */
static gboolean make_network(void)
{
	return unshare(CLONE_NEWNET) == 0 && !system("ip link set lo up") &&
	       !system("ip link add br0 type bridge") &&
	       !system("ip addr add 10.99.0.1/24 dev br0") &&
	       !system("ip link set br0 up") &&
	       !system("for tap in tap0 tap1; do ip tuntap add $tap mode tap vnet_hdr && "
		       "ip link set $tap master br0 up || exit 1; done");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_secondary_follows_verified_checkpoints),
		cmocka_unit_test(a_resting_secondary_follows_verified_checkpoints),
		cmocka_unit_test(the_guest_goes_on_when_its_secondary_is_gone),
		cmocka_unit_test(a_promoted_secondary_goes_on_from_what_it_has),
		cmocka_unit_test(
			a_secondary_whose_guest_dies_is_healed_by_the_next_checkpoint),
		cmocka_unit_test(nothing_is_promoted_before_the_first_commit),
	};

	micro_need_kvm();
	if (!make_network()) {
		fprintf(stderr, "SKIPPED: cannot make a network namespace with a bridge\n");
		return MICRO_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
