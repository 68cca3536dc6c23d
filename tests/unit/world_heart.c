/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heartbeats in a world: the real heart (heartbeat/heart.h) of each host, on a network
 * that loses, delays, doubles, reorders and damages, with somebody on it who records
 * all and plays what he likes, as often as he likes.
 *
 * A colod that is killed leaves a heart that goes on for a while. The first path goes
 * over the link of heartbeats; a second one, where there is one, over that of
 * replication.
 *
 * Two promises are checked. A peer that has sent nothing for long enough is not
 * believed to live, whatever is played. A peer is not lost while both hearts ran and a
 * path was as good as promised.
 */
#include "tests/unit/world_private.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "heartbeat/heart.h"

#define PATHS 2u
#define INTERVAL_MS 50u
#define TIMEOUT_MS 300u
#define LINGER_MS 5000u
#define TELL_MS 250u
#define INBOX_MAX 300u /* datagrams that a socket holds */
#define RECORDED 64u
/* By when a change of what is between two hearts has been overcome. */
#define SETTLED_MS 1500u
/* Held back by at most a timeout and a second, and then silent for a timeout. */
#define BELIEVED_MS (TIMEOUT_MS + 1000u + TIMEOUT_MS + 4u * INTERVAL_MS)

struct datagram {
	gboolean genuine; /* as its sender sent it, to whom and on which path it did */
	gsize length;
	guint8 bytes[sizeof(struct hb_datagram) + 8];
};

struct heart {
	struct side *side;
	hb_heart *heart;
	gboolean orphan;
	guint64 end_ms; /* of an orphan */
	guint64 stopped_until_ms; /* the daemon alone */
	guint64 read_ns; /* the clock, last */
	guint64 stall_ns; /* the clock after the last stall */
	guint64 told_ms; /* by colod, last */
	gboolean resting[PATHS];
	/* For checks: what was received last, what was heard, and whether this daemon
	 * was delayed since. */
	struct datagram received;
	guint64 session[PATHS], sequence[PATHS];
	gboolean delayed[PATHS];
	gboolean stalled_now;
};

struct hearts {
	struct heart *now, *orphan; /* NULL: there is none */
	gboolean news; /* that colod has not said yet */
	struct hb_self says;
	guint64 again_ms; /* a daemon that was killed is started again */
	GQueue inbox[PATHS]; /* struct datagram */
	gboolean filtered[PATHS];
	guint64 filtered_for[PATHS];
	guint64 sent_ns; /* the other's clock when this host sent last */
	guint64 step_ms; /* its TAI was set last */
};

/* Of both; kept with the first host's. */
struct network {
	guint paths;
	struct shape {
		guint loss, damage, doubles; /* of 1000 */
		guint delay_ms, jitter_ms;
	} shape[PATHS][2]; /* to a host */
	guint64 attack_until_ms, flood_until_ms;
	guint flooded; /* host */
	struct datagram recorded[RECORDED];
	guint8 recorded_path[RECORDED], recorded_to[RECORDED];
	guint records;
	guint64 disturbed_ms;
};

struct all {
	struct hearts hearts; /* first */
	struct network network;
};

static struct network *network_of(const test_world *world)
{
	return &((struct all *)world->host[0].hearts)->network;
}

static enum world_link link_of(guint path)
{
	return path ? WORLD_REPLICATION : WORLD_HEARTBEAT;
}

void world_hearts_disturbed(test_world *world)
{
	network_of(world)->disturbed_ms = world->now_ms;
}

/* The network. */

struct parcel {
	guint path;
	struct datagram datagram;
};

static void arrive(test_world *world, guint host, const struct happening *happening)
{
	const struct parcel *parcel = happening->thing;
	const struct datagram *datagram = &parcel->datagram;
	struct hearts *hearts = world->host[host].hearts;
	const struct hb_datagram *fields = (const struct hb_datagram *)datagram->bytes;

	if (!world->host[host].on || !hearts->now ||
	    hearts->inbox[parcel->path].length >= INBOX_MAX)
		return;
	/* As the kernel does. */
	if (hearts->filtered[parcel->path] &&
	    (datagram->length != sizeof(*fields) ||
	     wire_get32(fields->magic) != HB_DATAGRAM_MAGIC || fields->node == host ||
	     (hearts->filtered_for[parcel->path] &&
	      wire_get64(fields->echo) != hearts->filtered_for[parcel->path] &&
	      wire_get64(fields->greets) != hearts->filtered_for[parcel->path])))
		return;
	g_queue_push_tail(&hearts->inbox[parcel->path],
			  g_memdup2(datagram, sizeof(*datagram)));
}

static void carry(test_world *world, guint path, guint to,
		  const struct datagram *datagram, guint64 in_ms)
{
	struct parcel *parcel = g_new(struct parcel, 1);
	struct happening *happening = world_happen(world, to, FALSE, in_ms, arrive);

	*parcel = (struct parcel){ path, *datagram };
	happening->on_wire = TRUE;
	happening->thing = parcel;
}

static void damage(test_world *world, struct datagram *datagram)
{
	datagram->genuine = FALSE;
	datagram->bytes[world_random(world, (guint32)datagram->length)] ^=
		(guint8)(1u << world_random(world, 8));
}

static void record(test_world *world, guint path, guint to,
		   const struct datagram *datagram)
{
	struct network *network = network_of(world);
	const guint at = network->records < RECORDED ? network->records
						     : world_random(world, RECORDED);

	/* Some old ones stay. */
	network->recorded[at] = *datagram;
	network->recorded_path[at] = (guint8)path;
	network->recorded_to[at] = (guint8)to;
	network->records = MIN(network->records + 1, RECORDED);
}

static void play(test_world *world)
{
	struct network *network = network_of(world);
	const guint at = world_random(world, network->records);
	struct datagram datagram = network->recorded[at];
	guint path = network->recorded_path[at], to = network->recorded_to[at];

	switch (world_random(world, 8)) {
	case 0:
		damage(world, &datagram);
		break;
	case 1:
		to = !to; /* reflected */
		datagram.genuine = FALSE;
		break;
	case 2:
		path = world_random(world, network->paths);
		datagram.genuine &= path == network->recorded_path[at];
		break;
	case 3:
		datagram.length = 1 + world_random(world, sizeof(datagram.bytes) - 1);
		datagram.genuine &= datagram.length == sizeof(struct hb_datagram);
		break;
	}
	carry(world, path, to, &datagram, 0);
}

static void attack(test_world *world)
{
	struct network *network = network_of(world);

	if (world->now_ms < network->attack_until_ms && network->records &&
	    world_random(world, 10) == 0)
		for (guint i = world_random(world, 4); i < 4; i++)
			play(world);
	if (world->now_ms < network->flood_until_ms)
		for (guint i = 0; i < 5; i++) {
			const struct datagram rubbish = { .length = sizeof(
								  struct hb_datagram) };

			carry(world, 0, network->flooded, &rubbish, 0);
		}
}

/* What a heart asks for. */

static struct hb_instant clocks(void *data)
{
	struct heart *heart = data;
	test_world *world = heart->side->world;
	const struct host *host = &world->host[heart->side->host];
	const guint64 mono_ns =
		MAX(heart->read_ns, world_clock_ns(world, heart->side->host)) +
		world_random(world, 1000);

	heart->read_ns = mono_ns; /* it never goes back */
	return (struct hb_instant){ mono_ns, mono_ns + host->tai_ahead_ns,
				    host->tai_offset_s };
}

static guint64 session(void *data)
{
	test_world *world = ((struct heart *)data)->side->world;

	return ((guint64)world_random(world, G_MAXINT32) << 32 |
		world_random(world, G_MAXINT32)) +
	       1;
}

static gssize receive(void *data, guint path, void *bytes, gsize room)
{
	struct heart *heart = data;
	struct hearts *hearts = heart->side->world->host[heart->side->host].hearts;
	g_autofree struct datagram *datagram = NULL;

	if (heart->orphan)
		return -EAGAIN; /* its ports are given up */
	datagram = g_queue_pop_head(&hearts->inbox[path]);
	if (!datagram)
		return -EAGAIN;
	heart->received = *datagram;
	memcpy(bytes, datagram->bytes, MIN(room, datagram->length));
	return (gssize)MIN(room, datagram->length);
}

static gboolean send_datagram(void *data, guint path, const struct hb_datagram *sealed)
{
	const struct heart *heart = data;
	test_world *world = heart->side->world;
	const guint from = heart->side->host, to = !from;
	const struct shape *shape = &network_of(world)->shape[path][to];
	struct datagram datagram = { .genuine = TRUE, .length = sizeof(*sealed) };

	memcpy(datagram.bytes, sealed, sizeof(*sealed));
	world->host[from].hearts->sent_ns = world_clock_ns(world, to);
	record(world, path, to, &datagram);
	if (!world_arrives(world, link_of(path), to) ||
	    world_random(world, 1000) < shape->loss)
		return TRUE;
	for (guint i = 0; i < 2; i++) {
		struct datagram copy = datagram;

		if (world_random(world, 1000) < shape->damage)
			damage(world, &copy);
		carry(world, path, to, &copy,
		      shape->delay_ms + (shape->jitter_ms
						 ? world_random(world, shape->jitter_ms)
						 : 0));
		if (world_random(world, 1000) >= shape->doubles)
			break;
	}
	return TRUE;
}

static void rest(void *data, guint path)
{
	((struct heart *)data)->resting[path] = TRUE;
}

static void wake(void *data, guint path)
{
	((struct heart *)data)->resting[path] = FALSE;
}

static void filter(void *data, guint path, const guint8 head[HB_FILTER_HEAD],
		   guint64 ours, gboolean begins)
{
	const struct heart *heart = data;
	struct hearts *hearts = heart->side->world->host[heart->side->host].hearts;

	hearts->filtered[path] = TRUE;
	hearts->filtered_for[path] = ours;
}

static void unfilter(void *data, guint path)
{
	const struct heart *heart = data;

	heart->side->world->host[heart->side->host].hearts->filtered[path] = FALSE;
}

static void hear_report(test_world *world, guint host,
			const struct happening *happening)
{
	const struct hb_report *report = happening->thing;

	colo_node_heartbeat(world->host[host].node, report->alive,
			    report->known ? &report->peer : NULL);
}

static gboolean is_settled(const test_world *world);
static gboolean is_good(const test_world *world, guint path);

/* The peer's TAI minus ours, as it is. Where only one way is left, that a clock stood
 * still with its host cannot be seen. */
static void check_offset(test_world *world, guint host, const struct hb_report *report)
{
	const struct host *here = &world->host[host], *there = &world->host[!host];
	const gint64 told = (gint64)wire_get64(report->clock_offset_ns);
	gint64 is = (gint64)(world_clock_ns(world, !host) + there->tai_ahead_ns -
			     world_clock_ns(world, host) - here->tai_ahead_ns);

	/* Where only one kernel was told TAI's offset: of UTC. */
	if (!here->tai_offset_s != !there->tai_offset_s)
		is -= ((gint64)there->tai_offset_s - here->tai_offset_s) * 1000 *
		      (gint64)NS_PER_MS;
	if (!report->offset_known || !is_settled(world) || !is_good(world, 0) ||
	    world->now_ms < there->hearts->step_ms + SETTLED_MS)
		return;
	if (ABS(told - is) >
	    (gint64)(wire_get64(report->clock_error_ns) + 2 * NS_PER_MS))
		world_violate(world,
			      "host %u: clocks are said to be %" G_GINT64_FORMAT
			      " ns apart, and are %" G_GINT64_FORMAT,
			      host, told, is);
}

static gboolean report(void *data, const struct hb_report *report)
{
	const struct heart *heart = data;
	test_world *world = heart->side->world;
	const guint host = heart->side->host;

	check_offset(world, host, report);
	if (world->host[host].node)
		world_happen(world, host, FALSE, world_random(world, 2), hear_report)
			->thing = g_memdup2(report, sizeof(*report));
	return TRUE;
}

/* What is heard was sent by the other host just so, and is newer than all that was
 * heard. */
static void refused(void *data, guint path, enum hb_verdict verdict)
{
	struct heart *heart = data;
	test_world *world = heart->side->world;
	const struct hb_datagram *heard =
		(const struct hb_datagram *)heart->received.bytes;
	const guint64 its_session = wire_get64(heard->session);
	const guint64 sequence = wire_get64(heard->sequence);

	if (verdict != HB_HEARD)
		return;
	if (!heart->received.genuine)
		world_violate(world, "host %u hears what nobody sent it",
			      heart->side->host);
	if (heart->session[path] == its_session && sequence <= heart->sequence[path])
		world_violate(world, "host %u hears what was played again",
			      heart->side->host);
	heart->session[path] = its_session;
	heart->sequence[path] = sequence;
	heart->delayed[path] = FALSE;
}

static void stalled(void *data, guint64 ns)
{
	struct heart *heart = data;

	heart->stalled_now = TRUE;
	heart->stall_ns = world_clock_ns(heart->side->world, heart->side->host);
}

static const struct hb_heart_ops ops = {
	.clocks = clocks,
	.session = session,
	.receive = receive,
	.send = send_datagram,
	.rest = rest,
	.wake = wake,
	.filter = filter,
	.unfilter = unfilter,
	.report = report,
	.refused = refused,
	.stalled = stalled,
};

/* Daemons. */

static gpointer make_key(gpointer none)
{
	g_autofree char *folder = g_dir_make_tmp("colo-world-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "key", NULL);
	base_key *key;

	g_assert(folder && base_key_generate(path, NULL));
	key = base_key_read(path, NULL);
	g_assert(key);
	g_unlink(path);
	g_rmdir(folder);
	return key;
}

static void free_heart(struct heart *heart)
{
	hb_heart_free(heart->heart);
	g_free(heart);
}

static void end_heart(struct heart **heart)
{
	g_clear_pointer(heart, free_heart);
}

static void empty_sockets(struct hearts *hearts)
{
	for (guint i = 0; i < PATHS; i++) {
		g_queue_clear_full(&hearts->inbox[i], g_free);
		hearts->filtered[i] = FALSE;
	}
}

static void begin_heart(test_world *world, guint host)
{
	static GOnce once = G_ONCE_INIT;
	struct hearts *hearts = world->host[host].hearts;
	const struct hb_heart_config config = { network_of(world)->paths, INTERVAL_MS,
						TIMEOUT_MS };
	hb_codec *codec =
		hb_codec_new(g_once(&once, make_key, NULL), "web", host, NULL);

	g_assert(codec);
	empty_sockets(hearts);
	hearts->again_ms = 0;
	hearts->now = g_new0(struct heart, 1);
	hearts->now->side = &world->side[host];
	hearts->news = TRUE;
	hearts->now->heart = hb_heart_new(&config, codec, &ops, hearts->now,
					  world_clock_ns(world, host));
	world_hearts_disturbed(world);
}

void world_heart_colod_starts(test_world *world, guint host)
{
	begin_heart(world, host);
}

void world_heart_colod_ends(test_world *world, guint host)
{
	struct hearts *hearts = world->host[host].hearts;

	hearts->again_ms = 0;
	hearts->says = (struct hb_self){ 0 };
	world_hearts_disturbed(world);
	if (!hearts->now)
		return;
	/* It goes on by itself, whatever one before it does. */
	end_heart(&hearts->orphan);
	hearts->orphan = g_steal_pointer(&hearts->now);
	hearts->orphan->orphan = TRUE;
	hearts->orphan->end_ms = world->now_ms + LINGER_MS;
	hb_heart_orphan(hearts->orphan->heart);
	empty_sockets(hearts);
}

void world_heart_power_on(test_world *world, guint host)
{
	/* By this host's new clock. */
	world->host[!host].hearts->sent_ns = world_clock_ns(world, host);
}

void world_heart_power_off(test_world *world, guint host)
{
	struct hearts *hearts = world->host[host].hearts;

	end_heart(&hearts->now);
	end_heart(&hearts->orphan);
	empty_sockets(hearts);
	hearts->again_ms = 0;
	world_hearts_disturbed(world);
}

void world_heart_tell(test_world *world, guint host, const struct colo_peer_state *self)
{
	struct hearts *hearts = world->host[host].hearts;
	const struct hb_self says = {
		.generation = wire_put64(self->generation),
		.epoch = wire_put64(self->epoch),
		.state = (guint8)self->state,
		.flags = self->flags & COLO_PEER_VM ? HB_FLAG_VM : 0,
	};

	if (!memcmp(&says, &hearts->says, sizeof(says)))
		return;
	hearts->says = says;
	hearts->news = TRUE;
}

/* Turns. */

/* Nothing has disturbed the two of late. */
static gboolean run_both(const test_world *world)
{
	for (guint i = 0; i < 2; i++) {
		const struct hearts *hearts = world->host[i].hearts;

		if (!hearts->now || world_is_frozen(world, i) || !world->host[i].node ||
		    world->now_ms < hearts->now->stopped_until_ms)
			return FALSE;
	}
	return TRUE;
}

static gboolean is_settled(const test_world *world)
{
	return world->now_ms >= network_of(world)->disturbed_ms + SETTLED_MS;
}

static gboolean is_good(const test_world *world, guint path)
{
	for (guint i = 0; i < 2; i++) {
		const struct shape *shape = &network_of(world)->shape[path][i];

		if (!world_arrives(world, link_of(path), i) || shape->loss ||
		    shape->damage || shape->delay_ms + shape->jitter_ms > 50)
			return FALSE;
	}
	return TRUE;
}

static void check_belief(test_world *world, guint host)
{
	const struct heart *heart = world->host[host].hearts->now;
	const guint up = hb_heart_up(heart->heart);
	const guint64 now_ns = world_clock_ns(world, host);
	const guint64 sent_ns = world->host[!host].hearts->sent_ns;

	if (up && now_ns > sent_ns + BELIEVED_MS * NS_PER_MS &&
	    now_ns > heart->stall_ns + (TIMEOUT_MS + 2u * INTERVAL_MS) * NS_PER_MS)
		world_violate(world,
			      "host %u believes that the other lives, which sent "
			      "nothing for %" G_GUINT64_FORMAT " ms",
			      host, (now_ns - sent_ns) / NS_PER_MS);
	for (guint i = 0; i < network_of(world)->paths; i++)
		if (!(up >> i & 1) && is_settled(world) && is_good(world, i))
			world_violate(world,
				      "host %u does not hear the other on path %u",
				      host, i);
}

static void take_turn(test_world *world, struct heart *heart, guint ready)
{
	const guint host = heart->side->host;
	struct hearts *hearts = world->host[host].hearts;
	const guint up = hb_heart_up(heart->heart);

	heart->stalled_now = FALSE;
	hb_heart_hear(heart->heart, world_clock_ns(world, host), ready);
	if (!heart->orphan && world->host[host].node &&
	    (hearts->news || world->now_ms >= heart->told_ms + TELL_MS)) {
		hearts->news = FALSE;
		heart->told_ms = world->now_ms;
		hb_heart_told(heart->heart, &hearts->says);
	}
	hb_heart_beat(heart->heart);
	if (!heart->orphan)
		check_belief(world, host);
	for (guint i = 0; i < PATHS && heart->stalled_now; i++) {
		if (!heart->delayed[i] && (up & ~hb_heart_up(heart->heart)) >> i & 1)
			world_violate(world, "host %u loses path %u by its own delay",
				      host, i);
		heart->delayed[i] = TRUE;
	}
}

static void run(test_world *world, struct heart *heart)
{
	const guint host = heart->side->host;
	const struct hearts *hearts = world->host[host].hearts;
	guint ready = 0;

	if (world->now_ms < heart->stopped_until_ms)
		return;
	for (guint i = 0; i < PATHS && !heart->orphan; i++)
		ready |= (guint)(hearts->inbox[i].length && !heart->resting[i]) << i;
	if (ready || (hearts->news && !heart->orphan) ||
	    world_clock_ns(world, host) >= hb_heart_due(heart->heart))
		take_turn(world, heart, ready);
}

void world_hearts_run(test_world *world)
{
	attack(world);
	if (!run_both(world))
		world_hearts_disturbed(world);
	for (guint i = 0; i < 2; i++) {
		struct host *host = &world->host[i];
		struct hearts *hearts = host->hearts;

		if (!host->on || world_is_frozen(world, i))
			continue;
		if (hearts->now)
			run(world, hearts->now);
		else if (host->node && hearts->again_ms &&
			 world->now_ms >= hearts->again_ms)
			begin_heart(world, i);
		if (hearts->orphan && world->now_ms >= hearts->orphan->end_ms)
			end_heart(&hearts->orphan);
		if (hearts->orphan)
			run(world, hearts->orphan);
	}
}

/* Misfortunes. */

static void shape_something(test_world *world)
{
	struct network *network = network_of(world);
	struct shape *shape = &network->shape[world_random(world, network->paths)]
					     [world_random(world, 2)];

	*shape = (struct shape){
		.loss = world_random(world, 3) ? 0 : world_random(world, 400),
		.damage = world_random(world, 4) ? 0 : world_random(world, 300),
		.doubles = world_random(world, 3) ? 0 : world_random(world, 1000),
		.delay_ms = world_random(world, 2) ? 0 : world_random(world, 300),
		.jitter_ms = world_random(world, 2) ? 0 : world_random(world, 300),
	};
	world_note(world,
		   "heartbeats: of 1000 %u are lost, %u damaged, %u doubled, %u to %u "
		   "ms late",
		   shape->loss, shape->damage, shape->doubles, shape->delay_ms,
		   shape->delay_ms + shape->jitter_ms);
}

void world_hearts_misfortune(test_world *world)
{
	const guint host = world_random(world, 2);
	struct hearts *hearts = world->host[host].hearts;
	struct network *network = network_of(world);

	switch (world_random(world, 7)) {
	case 0:
	case 1:
		shape_something(world);
		break;
	case 2:
		world_attack(world, world_random(world, 8000));
		return; /* which disturbs nothing */
	case 3:
		if (world_random(world, 4))
			return;
		network->flooded = host;
		network->flood_until_ms = world->now_ms + world_random(world, 2500);
		world_note(world, "%u: a flood of datagrams", host);
		return;
	case 4:
		world_stop_heartbeat(world, host, world_random(world, 3000));
		return;
	case 5:
		if (!hearts->now)
			return;
		end_heart(&hearts->now);
		hearts->again_ms = world->now_ms + 1 + world_random(world, 500);
		world_note(world, "%u: colo-heartbeat is killed", host);
		break;
	case 6:
		world->host[host].tai_ahead_ns +=
			((guint64)world_random(world, 20000000) - 10000000) * NS_PER_MS;
		hearts->step_ms = world->now_ms;
		world_note(world, "%u: its clock is set", host);
		return;
	}
	world_hearts_disturbed(world);
}

void world_attack(test_world *world, guint64 ms)
{
	network_of(world)->attack_until_ms = world->now_ms + ms;
	world_note(world, "somebody plays recorded heartbeats");
}

void world_stop_heartbeat(test_world *world, guint host, guint64 ms)
{
	struct heart *heart = world->host[host].hearts->now;

	if (!heart)
		return;
	heart->stopped_until_ms = world->now_ms + ms;
	world_note(world, "%u: colo-heartbeat is stopped for %" G_GUINT64_FORMAT " ms",
		   host, ms);
	world_hearts_disturbed(world);
}

void world_hearts_mend(test_world *world)
{
	struct network *network = network_of(world);

	memset(network->shape, 0, sizeof(network->shape));
	world_hearts_disturbed(world);
}

void world_hearts_new(test_world *world)
{
	struct all *all = g_new0(struct all, 1);

	world->host[0].hearts = &all->hearts;
	world->host[1].hearts = g_new0(struct hearts, 1);
	network_of(world)->paths = 1 + world_random(world, PATHS);
	for (guint i = 0; i < 2; i++) {
		struct hearts *hearts = world->host[i].hearts;

		for (guint n = 0; n < PATHS; n++)
			g_queue_init(&hearts->inbox[n]);
	}
}

void world_hearts_free(test_world *world)
{
	for (guint i = 0; i < 2; i++) {
		struct hearts *hearts = world->host[i].hearts;

		end_heart(&hearts->now);
		end_heart(&hearts->orphan);
		empty_sockets(hearts);
		g_free(hearts);
	}
}
