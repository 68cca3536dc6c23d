/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A primary and a secondary in this process. */
#include "tests/micro/pair.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_NS (30 * G_GUINT64_CONSTANT(1000000000))

/* As the service does. */
static void on_cut(void *data, guint64 epoch, gboolean run)
{
	struct pair *pair = data;
	guint64 start = base_clock_monotonic_ns();
	guint8 marker[CKPT_MARKER_BYTES];

	if (!pair->options.outputs ||
	    !ckpt_outputs_cut(pair->options.outputs, epoch, run, ckpt_node_mac(pair->nodes[0]),
			      marker))
		return;
	ckpt_outputs_marked(pair->options.outputs,
			    ckpt_node_send_own(pair->nodes[0], marker, sizeof(marker)));
	pair->mark_ns = base_clock_monotonic_ns() - start;
}

static void on_output(void *data, guint64 epoch, guint device, gboolean lost,
		      const void *bytes, gsize len)
{
	struct pair *pair = data;

	if (pair->options.outputs)
		ckpt_outputs_frame(pair->options.outputs, epoch, device, lost, bytes, len);
}

static void on_committed(void *data, guint64 epoch)
{
	struct pair *pair = data;

	if (pair->options.outputs)
		ckpt_outputs_committed(pair->options.outputs, epoch);
	g_atomic_int_set(&pair->committed, (gint)epoch);
}

static void on_primary_state(void *data, enum ckpt_primary_state state, const char *why)
{
	struct pair *pair = data;

	if (state != CKPT_PRIMARY_LOST)
		return;
	if (g_getenv("MICRO_TALK"))
		printf("# primary lost: %s\n", why);
	g_free(pair->why[0]);
	pair->why[0] = g_strdup(why);
	g_atomic_int_set(&pair->primary_lost, 1);
}

static void on_secondary_lost(void *data, enum ckpt_ending end, const char *why)
{
	struct pair *pair = data;

	if (g_getenv("MICRO_TALK"))
		printf("# secondary lost: %s\n", why);
	g_free(pair->why[1]);
	pair->why[1] = g_strdup(why);
	g_atomic_int_set(&pair->secondary_lost, 1);
}

struct side {
	struct pair *pair;
	int fd;
	struct ckpt_secondary_options options;
	GError **error;
};

/* The handshakes meet only if both sides are at it. */
static void *make_secondary(void *data)
{
	static const struct ckpt_secondary_hooks hooks = { .lost = on_secondary_lost };
	struct side *side = data;
	struct ckpt_twin_streams real = ckpt_node_twin_streams(side->pair->nodes[1]);
	struct ckpt_twin_streams streams = fault_streams(&side->pair->fault, &real,
							 micro_machine(side->pair->second));
	base_channel *channel = base_channel_new_take(side->fd, TRUE, side->pair->key,
						      ckpt_rules, 10000, side->error);

	if (!channel)
		return NULL;
	return ckpt_secondary_new_take(micro_machine(side->pair->second), channel,
				       &side->options, &streams, &hooks, side->pair,
				       side->error);
}

/* Further connections, as a standby's listener has them. */

struct caller {
	struct pair *pair;
	int fd;
	base_channel *channel;
	struct ckpt_join join;
};

static void *hear_caller(void *data)
{
	struct caller *caller = data;
	struct base_message message;

	caller->channel = base_channel_new_take(caller->fd, TRUE, caller->pair->key,
						ckpt_rules, 10000, NULL);
	if (!caller->channel ||
	    !base_channel_receive(caller->channel, &message, 10000, NULL) ||
	    message.type != CKPT_JOIN)
		g_clear_pointer(&caller->channel, base_channel_free);
	else
		memcpy(&caller->join, message.payload, sizeof(caller->join));
	return caller;
}

static base_channel *connect_again(void *data, GError **error)
{
	struct pair *pair = data;
	struct caller *caller = g_new0(struct caller, 1);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		g_error("socketpair: %s", g_strerror(errno));
	*caller = (struct caller){ .pair = pair, .fd = ends[1] };
	pair->further_cables[pair->further] = dup(ends[0]);
	pair->callers[pair->further++] = g_thread_new("caller", hear_caller, caller);
	return base_channel_new_take(ends[0], FALSE, pair->key, ckpt_rules, 10000, error);
}

static void let_callers_in(struct pair *pair)
{
	for (guint i = 0; i < pair->further; i++) {
		struct caller *caller = g_thread_join(pair->callers[i]);
		const char *why = NULL;

		if (caller->channel && pair->secondary)
			why = ckpt_secondary_join(pair->secondary, &caller->join,
						  &caller->channel);
		if (why && g_getenv("MICRO_TALK"))
			printf("# further connection refused: %s\n", why);
		base_channel_free(caller->channel);
		g_free(caller);
	}
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
static micro *make_machine(struct pair *pair, guint which, const struct micro_options *options,
			   const struct pair_setup *setup)
{
	static const char *const taps[] = { "tap0", "tap1" };
	struct ckpt_node_hooks hooks = { .data = pair, .durable = on_durable };
	struct micro_options own = *options;
	micro *guest;

	pair->nodes[which] = ckpt_node_new(which == 1, options->tap ? 1 : 0, &hooks,
					   pair->options.filter);
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
	own.mac = setup->mac[which];
	if (setup->disk_bytes[which])
		pair->disks[which] = micro_file(setup->disk_bytes[which]);
	if (setup->disk2_bytes[which])
		pair->disks2[which] = micro_file(setup->disk2_bytes[which]);
	own.disk = pair->disks[which];
	own.disk2 = pair->disks2[which];
	own.disk2_readonly = setup->disk2_readonly;
	guest = micro_new(&own);
	ckpt_node_attach(pair->nodes[which], micro_machine(guest));
	return guest;
}

static base_key *make_key(void)
{
	g_autofree char *path = g_strdup_printf("%s/colo-key-%d", g_get_tmp_dir(), getpid());
	g_autoptr(GError) error = NULL;
	base_key *key;

	unlink(path);
	if (!base_key_generate(path, &error))
		g_error("%s", error->message);
	key = base_key_read(path, &error);
	if (!key)
		g_error("%s", error->message);
	unlink(path);
	return key;
}

/* The guest of the pair before had the same addresses, behind the other tap perhaps. */
static void forget_stations(void)
{
	if (system("ip link set br0 type bridge fdb_flush && ip neigh flush dev br0"))
		g_error("the bridge cannot be made to forget");
}

struct pair *pair_make(const struct micro_options *options, const struct pair_setup *setup)
{
	struct pair *pair = g_new0(struct pair, 1);

	if (options->tap)
		forget_stations();

	pair->cable = -1;
	if (setup->options)
		pair->options = *setup->options;
	pair->key = make_key();
	pair->first = make_machine(pair, 0, options, setup);
	pair->second = make_machine(pair, 1, options, setup);
	return pair;
}

gboolean pair_join(struct pair *pair, const struct ckpt_primary_options *options,
		   GError *errors[2])
{
	static const struct ckpt_primary_hooks hooks = { .connect = connect_again,
							 .state = on_primary_state,
							 .cut = on_cut,
							 .committed = on_committed,
							 .output = on_output };
	struct ckpt_streams streams = ckpt_node_streams(pair->nodes[0]);
	struct side side = { .pair = pair,
			     .options = { .silence_ms = options->silence_ms,
					  .private_max = pair->options.private_max },
			     .error = &errors[1] };
	base_channel *channel;
	GThread *thread;
	int ends[2];

	g_assert(!pair->primary && !pair->secondary);
	g_atomic_int_set(&pair->committed, 0);
	g_atomic_int_set(&pair->primary_lost, 0);
	g_atomic_int_set(&pair->secondary_lost, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		g_error("socketpair: %s", g_strerror(errno));
	pair->cable = dup(ends[0]);
	side.fd = ends[1];
	thread = g_thread_new("secondary", make_secondary, &side);
	channel = base_channel_new_take(ends[0], FALSE, pair->key, ckpt_rules, 10000,
					&errors[0]);
	if (channel)
		pair->primary = ckpt_primary_new_take(micro_machine(pair->first), channel,
						      options, &streams, &hooks, pair,
						      &errors[0]);
	pair->secondary = g_thread_join(thread);
	let_callers_in(pair);
	if (pair->primary && pair->secondary)
		return TRUE;
	pair_part(pair);
	return FALSE;
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
	const guint64 bytes = options->disk ? 16 << 20 : 0;
	const struct pair_setup setup = { .disk_bytes = { bytes, bytes },
					  .options = pair_options };
	struct pair *pair = pair_make(options, &setup);
	struct ckpt_primary_options primary;
	GError *errors[2] = { NULL, NULL };

	ckpt_primary_options_init(&primary);
	primary.mode = pair_options->mode;
	primary.period_ms = primary.age_ms = pair_options->period_ms;
	primary.silence_ms = 20000; /* on a machine that does much else */
	primary.verify = pair_options->verify;
	primary.listen = pair_options->outputs != NULL;
	if (pair_options->dirty_max)
		primary.dirty_max = pair_options->dirty_max;
	if (!pair_join(pair, &primary, errors))
		g_error("primary: %s; secondary: %s", errors[0] ? errors[0]->message : "well",
			errors[1] ? errors[1]->message : "well");
	return pair;
}

void pair_cut(struct pair *pair)
{
	shutdown(pair->cable, SHUT_RDWR);
}

void pair_cut_further(struct pair *pair, guint which)
{
	shutdown(pair->further_cables[which], SHUT_RDWR);
}

void pair_part(struct pair *pair)
{
	g_clear_pointer(&pair->primary, ckpt_primary_free);
	g_clear_pointer(&pair->secondary, ckpt_secondary_free);
	if (pair->cable >= 0)
		close(pair->cable);
	pair->cable = -1;
	while (pair->further)
		close(pair->further_cables[--pair->further]);
}

void pair_free(struct pair *pair)
{
	pair_part(pair);
	micro_free(pair->first);
	micro_free(pair->second);
	for (guint i = 0; i < 2; i++) {
		ckpt_node_free(pair->nodes[i]);
		if (pair->disks[i])
			micro_remove(pair->disks[i]);
		if (pair->disks2[i])
			micro_remove(pair->disks2[i]);
		g_free(pair->why[i]);
	}
	base_key_free(pair->key);
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
	gboolean lost[2];

	while (pair_committed(pair) < epoch && !g_atomic_int_get(&pair->primary_lost) &&
	       base_clock_monotonic_ns() < until)
		micro_sleep_ms(pair->first, 1);
	lost[0] = g_atomic_int_get(&pair->primary_lost);
	lost[1] = g_atomic_int_get(&pair->secondary_lost);
	if (pair_committed(pair) >= epoch && !lost[0] && !lost[1])
		return TRUE;
	printf("# epoch %u of %u; primary: %s; secondary: %s\n", pair_committed(pair), epoch,
	       lost[0] ? pair->why[0] : "there", lost[1] ? pair->why[1] : "there");
	return FALSE;
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
