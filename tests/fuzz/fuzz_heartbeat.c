/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams that come in, with a right MAC or without, to a daemon's codec, peer and
 * detector, and what colod says: only what names our session and is new is heard,
 * nothing else changes what we believe, and a peer that is not heard is lost in time.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "heartbeat/detector.h"
#include "heartbeat/message.h"
#include "heartbeat/peer.h"
#include "tests/fuzz/harness.h"

#define MS G_GUINT64_CONSTANT(1000000)
#define INTERVAL 50u
#define TIMEOUT 300u
#define PATHS 3u
#define ALLOWED_NS ((TIMEOUT + 2 * INTERVAL) * MS)

struct world {
	hb_codec *codec, *peers; /* ours, and the other node's */
	hb_detector *detector;
	struct hb_peer peer;
	guint64 now;
	guint64 allowed_ns; /* of time that we ran, until a silent peer must be lost */
	gboolean stalled; /* since it was heard */
};

static hb_codec *make_codec(guint node)
{
	g_autofree char *dir = g_dir_make_tmp("colo-fuzz-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "key", NULL);
	g_autofree char *hex = g_strnfill(64, '7');
	g_autoptr(base_key) key = NULL;

	g_assert(g_file_set_contents(path, hex, -1, NULL) && !g_chmod(path, 0600));
	key = base_key_read(path, NULL);
	g_unlink(path);
	g_rmdir(dir);
	return hb_codec_new(key, "fuzz", node, NULL);
}

static void judge(struct world *world, guint path, const void *bytes, gsize length)
{
	const struct hb_peer before = world->peer;
	const struct hb_self self = *hb_detector_peer(world->detector);
	const gboolean alive = hb_detector_alive(world->detector);
	const struct hb_instant now = { world->now, 3 * world->now, 37 };
	struct hb_message message;
	enum hb_verdict judged,
		verdict = hb_codec_open(world->codec, path, bytes, length, &message);

	if (verdict == HB_HEARD)
		verdict = hb_peer_judge(
			&world->peer, &message,
			hb_detector_proves(world->detector, &message, now.mono_ns));
	judged = hb_detector_hear(world->detector, path, verdict, &message, &now);
	g_assert(judged == verdict || (verdict == HB_HEARD && judged == HB_REPLAYED));
	if (hb_peer_is_worn(&world->peer))
		hb_peer_renew(&world->peer, before.ours + 1);
	if (verdict == HB_HEARD) {
		g_assert(message.echo == before.ours || message.greets == before.ours);
		g_assert(message.session != before.session ||
			 message.sequence > before.path[path].highest);
		g_assert(world->peer.session == message.session);
	} else {
		g_assert(world->peer.session == before.session);
	}
	if (judged == HB_HEARD) {
		g_assert(hb_detector_path_up(world->detector, path));
		world->allowed_ns = ALLOWED_NS;
		world->stalled = FALSE;
		return;
	}
	g_assert(hb_detector_alive(world->detector) == alive);
	g_assert(!memcmp(&self, hb_detector_peer(world->detector), sizeof(self)));
	/* The same once more is not new. */
	if (verdict == HB_LATE)
		g_assert(hb_peer_judge(&world->peer, &message, TRUE) == HB_REPLAYED);
}

/* Without the key: whatever it is, it is refused. */
static void forge(struct world *world, struct fuzz_input *input)
{
	guint8 bytes[2 * sizeof(struct hb_datagram)];
	guint path = fuzz_u8(input) % PATHS;
	gsize length = fuzz_bytes(input, bytes, fuzz_u8(input));
	g_autofree guint8 *exact = g_memdup2(bytes, length);
	struct hb_message message;

	g_assert(hb_codec_open(world->codec, path, exact, length, &message) !=
		 HB_HEARD);
	judge(world, path, exact, length);
}

/* With it: most of what is judged before is right. */
static void say(struct world *world, struct fuzz_input *input)
{
	const struct hb_message none = { 0 };
	struct hb_datagram datagram, right;
	guint8 how = fuzz_u8(input);

	hb_codec_seal(world->peers, &none, &right);
	datagram = right;
	fuzz_bytes(input, (guint8 *)&datagram + 16, sizeof(datagram) - 16);
	if (how & 1)
		memset(datagram.self.zero, 0, sizeof(datagram.self.zero));
	if (how & 2)
		memset(datagram.zero, 0, sizeof(datagram.zero));
	if (how & 4)
		datagram.echo = wire_put64(world->peer.ours);
	if (how & 8)
		datagram.session = wire_put64(1u + (how >> 4 & 1u));
	datagram.path = how >> 5;
	hb_codec_sign(world->peers, &datagram);
	judge(world, datagram.path % PATHS, &datagram, sizeof(datagram));
}

static void turn(struct world *world, struct fuzz_input *input)
{
	guint64 passed = fuzz_u16(input) * (MS / 8);
	guint64 ran = 0;
	gboolean stalled;

	world->now += passed;
	stalled = hb_detector_turn(world->detector, world->now) != 0;
	hb_detector_judge(world->detector);
	/* The first stall begins the silence anew, further ones do not. */
	if (stalled && !world->stalled)
		world->allowed_ns = ALLOWED_NS;
	else
		ran = stalled ? INTERVAL * MS : passed;
	world->stalled |= stalled;
	world->allowed_ns -= MIN(ran, world->allowed_ns);
	g_assert(world->allowed_ns || !hb_detector_alive(world->detector));
}

static void check(const struct world *world)
{
	const struct hb_instant now = { world->now, 3 * world->now, 37 };
	struct hb_message message = { 0 };
	struct hb_report report;

	hb_detector_report(world->detector, &now, &report);
	g_assert(wire_get32(report.type) == HB_REPORT && report.paths == PATHS);
	g_assert(report.alive == hb_detector_alive(world->detector));
	g_assert(!report.alive || report.known);
	for (guint i = 0; i < HB_PATHS_MAX; i++) {
		g_assert(i < PATHS || !wire_get64(report.path[i].received));
		g_assert(wire_get32(report.path[i].loss_ppm) <= 1000000);
	}
	for (guint i = 0; i < PATHS; i++)
		hb_detector_tell(world->detector, i, world->now, &message);
	g_assert(report.alive == (message.hears != 0));
}

static void tell(struct fuzz_input *input)
{
	guint8 bytes[2 * sizeof(struct hb_tell)];
	gsize length = fuzz_bytes(input, bytes, fuzz_u8(input) % sizeof(bytes));
	g_autofree guint8 *exact = g_memdup2(bytes, length);
	struct hb_self self;

	if (hb_tell_read(exact, length, &self))
		g_assert(length == sizeof(struct hb_tell) &&
			 !(self.flags & HB_FLAG_STALE));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	static hb_codec *codec, *peers;
	struct fuzz_input input = { data, size };
	struct world world = { .now = 1 };

	if (!codec) {
		codec = make_codec(0);
		peers = make_codec(1);
	}
	world.codec = codec;
	world.peers = peers;
	world.detector = hb_detector_new(PATHS, INTERVAL, TIMEOUT, world.now);
	hb_peer_init(&world.peer, 0x1122334455667788u);
	while (input.left) {
		switch (fuzz_u8(&input) % 6) {
		case 0:
			forge(&world, &input);
			break;
		case 1:
		case 2:
			say(&world, &input);
			break;
		case 3:
			tell(&input);
			break;
		default:
			turn(&world, &input);
			break;
		}
		check(&world);
	}
	/* Twice a timeout, in turns that are on time, is the end of whoever is silent.
	 */
	for (guint i = 0; i <= TIMEOUT / INTERVAL; i++) {
		world.now += INTERVAL * MS;
		hb_detector_turn(world.detector, world.now);
		hb_detector_judge(world.detector);
	}
	g_assert(!hb_detector_alive(world.detector));
	hb_detector_free(world.detector);
	return 0;
}
