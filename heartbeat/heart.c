/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the heartbeat daemon decides.
 *
 * One turn: take the time; read what came (all that waits, after a stall); send what is
 * due; judge; report.
 *
 * A path is read for a bounded number of datagrams each interval, so that a flood costs
 * a bounded share of a processor and never keeps us from sending and judging.
 */
#include "heartbeat/heart.h"

#include <string.h>

#include "base/fault.h"
#include "heartbeat/message.h"
#include "heartbeat/peer.h"

#define MS G_GUINT64_CONSTANT(1000000)
#define SECOND G_GUINT64_CONSTANT(1000000000)
#define REPORT_NS (250 * MS)
#define STALE_NS SECOND /* since colod was heard */
#define BURST_NS (5 * MS) /* between two bursts that colod's news cause */
#define BURST_MS 5
#define READS 64u /* datagrams in an interval, beyond those that news explain */
#define FLOOD_NS SECOND /* for which the kernel filters */
#define READS_AT_MOST 1024u /* more than fit into a socket's buffer */
#define FAREWELLS 3 /* bursts that say that we leave */

struct hb_heart {
	struct hb_heart_config config;
	const struct hb_heart_ops *ops;
	void *data;
	hb_codec *codec;
	hb_detector *detector;
	struct hb_peer peer;
	gboolean resting[HB_PATHS_MAX]; /* read enough in this interval */
	guint reads[HB_PATHS_MAX]; /* that are left of it */
	guint64 sequence[HB_PATHS_MAX];
	guint64 flood_ns[HB_PATHS_MAX]; /* when to try without a filter; 0: there is
					   none */
	guint64 filtered[HB_PATHS_MAX]; /* for which session */

	struct hb_self self; /* as colod said it */
	guint64 told_ns; /* when; 0: never */
	gboolean stale, leaving, orphaned;

	guint64 now_ns; /* of this turn */
	guint64 tick_ns, burst_ns, report_ns; /* due; burst: 0 for none */
	guint64 last_burst_ns;

	/* What colod was told last. */
	gboolean reported_alive;
	guint reported_up;
	struct hb_self reported_peer;
};

guint hb_heart_up(const hb_heart *heart)
{
	guint mask = 0;

	for (guint i = 0; i < heart->config.paths; i++)
		mask |= (guint)hb_detector_path_up(heart->detector, i) << i;
	return mask;
}

/* Floods */

static void filter_path(hb_heart *heart, guint path, gboolean begins)
{
	guint8 head[HB_FILTER_HEAD];

	heart->filtered[path] =
		hb_detector_alive(heart->detector) ? heart->peer.ours : 0;
	hb_codec_head(heart->codec, path, head);
	heart->ops->filter(heart->data, path, head, heart->filtered[path], begins);
}

static void begin_filtering(hb_heart *heart, guint path)
{
	heart->flood_ns[path] = heart->now_ns + FLOOD_NS;
	filter_path(heart, path, TRUE);
}

/* Each interval: what is let in follows what we believe, and ends after a while. */
static void review_filter(hb_heart *heart, guint path)
{
	guint64 session = hb_detector_alive(heart->detector) ? heart->peer.ours : 0;

	if (!heart->flood_ns[path])
		return;
	if (heart->now_ns >= heart->flood_ns[path]) {
		heart->flood_ns[path] = 0;
		heart->ops->unfilter(heart->data, path);
	} else if (session != heart->filtered[path]) {
		filter_path(heart, path, FALSE);
	}
}

void hb_heart_path_is_new(hb_heart *heart, guint path)
{
	/* Else one that it has after all would stay for good. */
	if (heart->flood_ns[path])
		heart->ops->unfilter(heart->data, path);
	heart->flood_ns[path] = 0;
}

/* Sending */

static void send_on(hb_heart *heart, guint path, guint64 greets)
{
	struct hb_instant now = heart->ops->clocks(heart->data);
	struct hb_message message = {
		.path = path,
		.session = heart->peer.ours,
		.echo = heart->peer.session,
		.greets = greets,
		.sequence = ++heart->sequence[path],
		.self = heart->self,
		.sent_ns = now.mono_ns,
		.sent_tai_ns = now.tai_ns,
		.tai_offset_s = now.tai_offset_s,
	};
	struct hb_datagram datagram;

	if (heart->stale)
		message.self.flags |= HB_FLAG_STALE;
	if (heart->leaving)
		message.self.flags |= HB_FLAG_LEAVING;
	hb_detector_tell(heart->detector, path, now.mono_ns, &message);
	base_fault("send-due");
	hb_codec_seal(heart->codec, &message, &datagram);
	hb_detector_sent(heart->detector, path,
			 heart->ops->send(heart->data, path, &datagram));
	base_fault("sent");
}

static void send_on_all(hb_heart *heart)
{
	/* The same one on all: else each could have its turn on the same path each time, and
	 * that could be cut. */
	const guint64 greets = hb_peer_next_stranger(&heart->peer);

	for (guint i = 0; i < heart->config.paths; i++)
		send_on(heart, i, greets);
}

static void wake(hb_heart *heart, guint path)
{
	if (!heart->resting[path])
		return;
	heart->resting[path] = FALSE;
	heart->ops->wake(heart->data, path);
}

static void tick(hb_heart *heart)
{
	const guint64 interval_ns = heart->config.interval_ms * MS;
	gboolean stale = !heart->told_ns || heart->now_ns - heart->told_ns > STALE_NS;

	if (stale != heart->stale && heart->told_ns && stale)
		heart->burst_ns = 0; /* this one tells it */
	heart->stale = stale;
	for (guint i = 0; i < heart->config.paths; i++) {
		heart->reads[i] = READS + 2 * heart->config.interval_ms / BURST_MS;
		wake(heart, i);
		review_filter(heart, i);
	}
	send_on_all(heart);
	heart->tick_ns += interval_ns;
	if (heart->tick_ns <= heart->now_ns)
		heart->tick_ns = heart->now_ns + interval_ns;
}

static void burst(hb_heart *heart)
{
	heart->burst_ns = 0;
	heart->last_burst_ns = heart->now_ns;
	send_on_all(heart);
}

void hb_heart_leave(hb_heart *heart)
{
	heart->leaving = TRUE;
	for (guint i = 0; i < FAREWELLS; i++)
		send_on_all(heart);
}

/* Receiving */

static void hear(hb_heart *heart, guint path, const void *bytes, gsize length)
{
	struct hb_instant now = heart->ops->clocks(heart->data);
	struct hb_message message;
	enum hb_verdict verdict;

	base_fault("came");
	verdict = hb_codec_open(heart->codec, path, bytes, length, &message);
	/* What it says that it heard last is of the session that it echoes: if that is
	 * not this one, by the clock of an earlier boot, perhaps. */
	if (verdict == HB_HEARD && message.echo != heart->peer.ours)
		message.heard_sent_ns = message.heard_age_ns = 0;
	if (verdict == HB_HEARD)
		verdict = hb_peer_judge(
			&heart->peer, &message,
			hb_detector_proves(heart->detector, &message, now.mono_ns));
	verdict = hb_detector_hear(heart->detector, path, verdict, &message, &now);
	if (hb_peer_is_worn(&heart->peer))
		hb_peer_renew(&heart->peer, heart->ops->session(heart->data));
	heart->ops->refused(heart->data, path, verdict);
}

/* As much as may be; FALSE: there is more. */
static gboolean read_some(hb_heart *heart, guint path)
{
	guint8 bytes[sizeof(struct hb_datagram) + 1]; /* longer ones show */

	for (; heart->reads[path]; heart->reads[path]--) {
		gssize n = heart->ops->receive(heart->data, path, bytes, sizeof(bytes));

		if (n < 0)
			return TRUE;
		hear(heart, path, bytes, (gsize)n);
	}
	return FALSE;
}

/* What was in the socket before there was a filter is read once, since heartbeats may
 * be among it. */
static void read_path(hb_heart *heart, guint path)
{
	if (read_some(heart, path))
		return;
	if (!heart->flood_ns[path]) {
		begin_filtering(heart, path);
		heart->reads[path] = READS_AT_MOST;
		if (read_some(heart, path))
			return;
	}
	if (!heart->resting[path]) {
		heart->resting[path] = TRUE;
		heart->ops->rest(heart->data, path);
	}
}

static void read_after_stall(hb_heart *heart, guint64 stalled_ns)
{
	heart->ops->stalled(heart->data, stalled_ns);
	for (guint i = 0; i < heart->config.paths; i++) {
		heart->reads[i] = READS_AT_MOST;
		read_path(heart, i);
	}
}

/* colod */

void hb_heart_told(hb_heart *heart, const struct hb_self *self)
{
	gboolean news = heart->stale || memcmp(self, &heart->self, sizeof(*self));

	if (news)
		base_fault("told");
	heart->self = *self;
	heart->told_ns = heart->now_ns;
	heart->stale = FALSE;
	if (news && !heart->burst_ns)
		heart->burst_ns = MAX(heart->now_ns, heart->last_burst_ns + BURST_NS);
}

void hb_heart_orphan(hb_heart *heart)
{
	heart->orphaned = TRUE;
}

static void report(hb_heart *heart)
{
	const struct hb_self *peer = hb_detector_peer(heart->detector);
	gboolean alive = hb_detector_alive(heart->detector);
	guint up = hb_heart_up(heart);
	struct hb_instant now;
	struct hb_report message;

	if (heart->now_ns < heart->report_ns && alive == heart->reported_alive &&
	    up == heart->reported_up &&
	    !memcmp(peer, &heart->reported_peer, sizeof(*peer)))
		return;
	if (alive != heart->reported_alive)
		base_fault(alive ? "peer-heard" : "peer-lost");
	now = heart->ops->clocks(heart->data);
	hb_detector_report(heart->detector, &now, &message);
	if (!heart->ops->report(heart->data, &message))
		return;
	base_fault("reported");
	heart->report_ns = heart->now_ns + REPORT_NS;
	heart->reported_alive = alive;
	heart->reported_up = up;
	heart->reported_peer = *peer;
}

/* One turn */

guint64 hb_heart_due(const hb_heart *heart)
{
	guint64 due = MIN(heart->tick_ns, hb_detector_deadline(heart->detector));

	return heart->burst_ns ? MIN(due, heart->burst_ns) : due;
}

void hb_heart_hear(hb_heart *heart, guint64 now_ns, guint ready)
{
	guint64 stalled_ns;

	heart->now_ns = now_ns;
	stalled_ns = hb_detector_turn(heart->detector, now_ns);
	if (stalled_ns)
		read_after_stall(heart, stalled_ns);
	for (guint i = 0; i < heart->config.paths; i++)
		if (ready >> i & 1)
			read_path(heart, i);
}

void hb_heart_beat(hb_heart *heart)
{
	if (heart->now_ns >= heart->tick_ns)
		tick(heart);
	if (heart->burst_ns && heart->now_ns >= heart->burst_ns)
		burst(heart);
	hb_detector_judge(heart->detector);
	if (!heart->orphaned)
		report(heart);
}

/* Beginning and end */

hb_heart *hb_heart_new(const struct hb_heart_config *config, hb_codec *codec_take,
		       const struct hb_heart_ops *ops, void *data, guint64 now_ns)
{
	hb_heart *heart = g_new0(hb_heart, 1);

	heart->config = *config;
	heart->codec = codec_take;
	heart->ops = ops;
	heart->data = data;
	hb_peer_init(&heart->peer, ops->session(data));
	heart->now_ns = heart->tick_ns = now_ns;
	/* What waits in the sockets already is no flood. */
	for (guint i = 0; i < config->paths; i++)
		heart->reads[i] = READS_AT_MOST;
	heart->stale = TRUE;
	heart->detector = hb_detector_new(config->paths, config->interval_ms,
					  config->timeout_ms, now_ns);
	return heart;
}

void hb_heart_free(hb_heart *heart)
{
	if (!heart)
		return;
	hb_detector_free(heart->detector);
	hb_codec_free(heart->codec);
	g_free(heart);
}
