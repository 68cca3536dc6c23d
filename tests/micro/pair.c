/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A primary and a secondary in this process. */
#include "tests/micro/pair.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_NS (30 * G_GUINT64_CONSTANT(1000000000))

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

static void console_given(void *data, guint console, const guint8 *bytes, gsize len)
{
	struct pair *pair = data;

	pair->console.given(pair->console.data, console, bytes, len);
}

static gsize console_next(void *data, guint console, guint8 *bytes, gsize len)
{
	struct pair *pair = data;

	return pair->console.next(pair->console.data, console, bytes, len);
}

static gboolean console_is_live(void *data)
{
	struct pair *pair = data;

	return g_atomic_int_get(&pair->second_hears) ||
	       pair->console.is_live(pair->console.data);
}

/* Machine `which` of the pair, with devices that can be replicated. */
static micro *make_machine(struct pair *pair, guint which, const struct micro_options *options)
{
	static const char *const taps[] = { "tap0", "tap1" };
	struct ckpt_node_hooks hooks = { .data = pair, .durable = on_durable };
	struct micro_options own = *options;
	micro *guest;

	pair->nodes[which] = ckpt_node_new(which == 1, options->tap ? 1 : 0, &hooks);
	if (which == 1 && pair->options.input_need)
		ckpt_node_set_needs(pair->nodes[which], pair->options.input_need,
				    pair->options.disk_need);
	own.backends = ckpt_node_backends(pair->nodes[which]);
	own.for_load = which == 1;
	if (which == 1) {
		pair->console = own.backends.console;
		own.backends.console = (struct vmm_chardev_hooks){
			pair, console_given, console_next, console_is_live
		};
	}
	if (options->tap)
		own.tap = taps[which];
	own.disk = pair->disks[which] = options->disk ? micro_file(16 << 20) : NULL;
	guest = micro_new(&own);
	ckpt_node_attach(pair->nodes[which], micro_machine(guest));
	return guest;
}

struct pair *pair_new(const struct micro_options *options, enum ckpt_mode mode,
		      guint period_ms, gboolean verify)
{
	const struct pair_options pair_options = { .mode = mode,
						   .period_ms = period_ms,
						   .verify = verify };

	return pair_new_with(options, &pair_options);
}

struct pair *pair_new_with(const struct micro_options *options,
			   const struct pair_options *pair_options)
{
	static const struct ckpt_primary_hooks hooks = { .state = on_primary_state,
							 .committed = on_committed };
	struct ckpt_streams streams;
	struct ckpt_primary_options primary;
	struct pair *pair = g_new0(struct pair, 1);
	struct side side = { .pair = pair,
			     .options = { .silence_ms = 5000,
					  .private_max = pair_options->private_max } };
	base_channel *channel;
	GThread *thread;
	int ends[2];

	pair->options = *pair_options;
	pair->key_path = g_strdup_printf("%s/colo-key-%d", g_get_tmp_dir(), getpid());
	unlink(pair->key_path);
	if (!base_key_generate(pair->key_path, &side.error))
		g_error("%s", side.error->message);
	pair->key = base_key_read(pair->key_path, &side.error);
	if (!pair->key)
		g_error("%s", side.error->message);
	pair->first = make_machine(pair, 0, options);
	pair->second = make_machine(pair, 1, options);
	streams = ckpt_node_streams(pair->nodes[0]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		g_error("socketpair: %s", g_strerror(errno));
	side.fd = ends[1];
	thread = g_thread_new("secondary", make_secondary, &side);
	ckpt_primary_options_init(&primary);
	primary.mode = pair_options->mode;
	primary.period_ms = primary.age_ms = pair_options->period_ms;
	primary.silence_ms = 5000;
	primary.verify = pair_options->verify;
	if (pair_options->dirty_max)
		primary.dirty_max = pair_options->dirty_max;
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

void pair_free(struct pair *pair)
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

guint pair_committed(struct pair *pair)
{
	return (guint)g_atomic_int_get(&pair->committed);
}

enum ckpt_reason pair_reason(struct pair *pair)
{
	struct ckpt_checkpoint_stats stats = { .reason = CKPT_REASONS };
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	/* It is known when it was applied. */
	while (base_clock_monotonic_ns() < until &&
	       (!ckpt_primary_last(pair->primary, &stats) ||
		stats.epoch < pair_committed(pair)))
		micro_sleep_ms(pair->first, 1);
	return stats.reason;
}

gboolean pair_wait_for_epoch(struct pair *pair, guint epoch)
{
	guint64 until = base_clock_monotonic_ns() + PATIENCE_NS;

	while (pair_committed(pair) < epoch && !g_atomic_int_get(&pair->primary_lost) &&
	       base_clock_monotonic_ns() < until)
		micro_sleep_ms(pair->first, 1);
	return pair_committed(pair) >= epoch && !g_atomic_int_get(&pair->primary_lost) &&
	       !g_atomic_int_get(&pair->secondary_lost);
}

gboolean pair_make_network(void)
{
	return unshare(CLONE_NEWNET) == 0 && !system("ip link set lo up") &&
	       !system("ip link add br0 type bridge") &&
	       !system("ip addr add 10.99.0.1/24 dev br0") &&
	       !system("ip link set br0 up") &&
	       !system("for tap in tap0 tap1; do ip tuntap add $tap mode tap vnet_hdr && "
		       "ip link set $tap master br0 up || exit 1; done");
}
