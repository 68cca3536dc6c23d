/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we believe of the peer, and what its heartbeats tell of the paths between us.
 *
 * Clock offset. A datagram says when its sender sent it, when the last of ours that it
 * heard had been sent, and for how long it had had that one. What is left of the time
 * between is the round trip, and the datagram was on its way for something between
 * nothing and all of it: the middle is the offset, half of it the error bound. That is
 * done with the monotonic clocks, which nobody steps, and a short memory keeps the best
 * sample: the smallest error, with what the two clocks may have drifted apart since.
 * The freshest word of either node about how far its TAI is from its monotonic clock
 * then makes it an offset of TAI, so that a stepped clock is right with the next
 * heartbeat.
 */
#include "heartbeat/detector.h"

#include <string.h>

#define MS G_GUINT64_CONSTANT(1000000)
#define SECOND G_GUINT64_CONSTANT(1000000000)
#define LOSS_SECONDS 60u
#define SAMPLES 64u
#define DRIFT_PPM                                                          \
	500u /* what two clocks' rates differ by at most, slewing included \
	      */
#define HELD_BACK_NS SECOND /* and a timeout: longer on its way is no sign of life */
/* Longer round trips tell nothing: one end or the other was not running. */
#define ROUND_TRIP_MAX (10 * SECOND)

struct second {
	guint64 number; /* since the clock's start */
	guint32 expected, received;
};

struct path {
	gboolean up, heard_once;
	gboolean stalled; /* since it was last heard */
	guint64 heard_ns; /* the turn in which it was */
	guint64 silent_from_ns; /* from when on its silence counts */
	/* Of the last one heard: what the next datagram echoes. */
	guint64 read_ns, sent_ns;
	guint64 sequence; /* of it; 0: none of this session */
	guint64 rtt_ns, jitter_ns;
	gboolean rtt_known, transit_known;
	guint64 transit_ns; /* modulo 2^64: arrival minus departure */
	struct second loss[LOSS_SECONDS];
	guint64 sent, errors, received;
	guint64 refused[HB__VERDICTS];
	guint32 downs;
};

struct sample {
	guint64 at_ns; /* 0: none */
	guint64 offset_ns; /* two's complement: the peer's monotonic clock minus ours */
	guint64 error_ns;
};

struct hb_detector {
	guint paths;
	guint64 interval_ns, timeout_ns;
	guint64 now_ns; /* of this turn */
	gboolean stalled_turn;
	guint64 stalls, stalled_ns;
	gboolean known;
	guint64 session; /* of the peer */
	guint64 newest_sent_ns; /* of what is in the next three */
	struct hb_self peer;
	guint8 peer_hears;
	guint64 peer_tai_ns; /* two's complement: its TAI minus its monotonic clock */
	guint32 peer_tai_offset_s;
	struct path path[HB_PATHS_MAX];
	struct sample samples[SAMPLES];
	guint next_sample;
};

hb_detector *hb_detector_new(guint paths, guint interval_ms, guint timeout_ms,
			     guint64 now_ns)
{
	hb_detector *detector = g_new0(hb_detector, 1);

	g_assert(paths >= 1 && paths <= HB_PATHS_MAX && interval_ms && timeout_ms);
	detector->paths = paths;
	detector->interval_ns = interval_ms * MS;
	detector->timeout_ns = timeout_ms * MS;
	detector->now_ns = now_ns;
	return detector;
}

void hb_detector_free(hb_detector *detector)
{
	g_free(detector);
}

static void forgive(struct path *path, guint64 now_ns, guint64 stalled_ns)
{
	if (path->stalled)
		path->silent_from_ns += stalled_ns;
	else
		path->silent_from_ns = now_ns;
	path->stalled = TRUE;
}

guint64 hb_detector_turn(hb_detector *detector, guint64 now_ns)
{
	guint64 gap = now_ns - detector->now_ns;
	guint64 stalled =
		gap > 2 * detector->interval_ns ? gap - detector->interval_ns : 0;

	detector->now_ns = now_ns;
	detector->stalled_turn = stalled != 0;
	if (!stalled)
		return 0;
	detector->stalls++;
	detector->stalled_ns = MAX(detector->stalled_ns, stalled);
	for (guint i = 0; i < detector->paths; i++)
		if (detector->path[i].up)
			forgive(&detector->path[i], now_ns, stalled);
	return stalled;
}

/* Another daemon speaks: its clock and its numbers have nothing to do with the last
 * one's. */
static void begin_session(hb_detector *detector, guint64 session)
{
	detector->session = session;
	detector->newest_sent_ns = 0;
	memset(detector->samples, 0, sizeof(detector->samples));
	for (guint i = 0; i < detector->paths; i++) {
		struct path *path = &detector->path[i];

		path->sequence = path->read_ns = path->sent_ns = 0;
		path->rtt_known = path->transit_known = FALSE;
		path->jitter_ns = 0;
	}
}

static void count_loss(struct path *path, guint64 now_ns, guint64 expected)
{
	guint64 number = now_ns / SECOND;
	struct second *second = &path->loss[number % LOSS_SECONDS];

	if (second->number != number)
		*second = (struct second){ .number = number };
	second->expected += (guint32)MIN(expected, G_MAXUINT32 - second->expected);
	second->received++;
}

static guint32 loss_ppm(const struct path *path, guint64 now_ns)
{
	guint64 expected = 0, received = 0;

	for (guint i = 0; i < LOSS_SECONDS; i++) {
		const struct second *second = &path->loss[i];

		if (second->number + LOSS_SECONDS <= now_ns / SECOND)
			continue;
		expected += second->expected;
		received += second->received;
	}
	/* Late ones may belong to a second that is forgotten. */
	return expected > received
		       ? (guint32)((expected - received) * 1000000 / expected)
		       : 0;
}

/* As RFC 3550, 6.4.1, in nanoseconds. */
static void measure_jitter(struct path *path, guint64 transit_ns)
{
	gint64 difference = (gint64)(transit_ns - path->transit_ns);
	guint64 size = difference < 0 ? -(guint64)difference : (guint64)difference;

	if (path->transit_known && size < ROUND_TRIP_MAX)
		path->jitter_ns += size / 16 - path->jitter_ns / 16;
	path->transit_ns = transit_ns;
	path->transit_known = TRUE;
}

static guint64 drift(guint64 age_ns)
{
	return age_ns / 1000000 * DRIFT_PPM + DRIFT_PPM;
}

static guint64 sample_error(const struct sample *sample, guint64 now_ns)
{
	return sample->error_ns +
	       drift(now_ns > sample->at_ns ? now_ns - sample->at_ns : 0);
}

static const struct sample *best_sample(const hb_detector *detector, guint64 now_ns)
{
	const struct sample *best = NULL;

	for (guint i = 0; i < SAMPLES; i++) {
		const struct sample *sample = &detector->samples[i];

		if (sample->at_ns && (!best || sample_error(sample, now_ns) <
						       sample_error(best, now_ns)))
			best = sample;
	}
	return best;
}

static guint64 way_max(const hb_detector *detector)
{
	return detector->timeout_ns + HELD_BACK_NS;
}

gboolean hb_detector_proves(const hb_detector *detector,
			    const struct hb_message *message, guint64 read_ns)
{
	guint64 heard = message->heard_sent_ns, age = message->heard_age_ns;

	return heard && heard <= read_ns &&
	       (age >= read_ns - heard ||
		read_ns - heard - age <= way_max(detector) + drift(age));
}

/* By when the peer had heard us, or by what its clock was: either will do. The first
 * holds for a peer whose host, with its clock, stood still for a while; the second
 * where it does not hear us. */
static gboolean is_fresh(const hb_detector *detector, const struct hb_message *message,
			 guint64 read_ns)
{
	const struct sample *best = best_sample(detector, read_ns);
	gint64 way;

	/* After a stall it is us who held it back. */
	if (detector->stalled_turn || hb_detector_proves(detector, message, read_ns))
		return TRUE;
	if (!best)
		return !message->heard_sent_ns;
	way = (gint64)(read_ns - message->sent_ns + best->offset_ns);
	return way <= 0 ||
	       (guint64)way <= way_max(detector) + sample_error(best, read_ns);
}

/* FALSE where the datagram says none, or nonsense. */
static gboolean round_trip(const struct hb_message *message, guint64 read_ns,
			   guint64 *rtt_ns)
{
	guint64 away;

	if (!message->heard_sent_ns || message->heard_sent_ns > read_ns)
		return FALSE;
	away = read_ns - message->heard_sent_ns;
	if (message->heard_age_ns > away ||
	    away - message->heard_age_ns > ROUND_TRIP_MAX)
		return FALSE;
	*rtt_ns = away - message->heard_age_ns;
	return TRUE;
}

static void add_sample(hb_detector *detector, struct sample sample)
{
	const struct sample *best = best_sample(detector, sample.at_ns);
	gint64 apart = best ? (gint64)(sample.offset_ns - best->offset_ns) : 0;
	guint64 distance = apart < 0 ? -(guint64)apart : (guint64)apart;

	/* A host, and with it its clock, stood still: what was before is no longer
	 * true. */
	if (best && distance > sample.error_ns + sample_error(best, sample.at_ns))
		memset(detector->samples, 0, sizeof(detector->samples));
	detector->samples[detector->next_sample++ % SAMPLES] = sample;
}

static void measure_round_trip(hb_detector *detector, struct path *path,
			       const struct hb_message *message, guint64 read_ns)
{
	guint64 rtt_ns;

	if (!round_trip(message, read_ns, &rtt_ns))
		return;
	path->rtt_ns =
		path->rtt_known ? path->rtt_ns - path->rtt_ns / 8 + rtt_ns / 8 : rtt_ns;
	path->rtt_known = TRUE;
	add_sample(detector,
		   (struct sample){
			   .at_ns = read_ns,
			   .offset_ns = message->sent_ns + rtt_ns / 2 - read_ns,
			   .error_ns = rtt_ns / 2 + 1,
		   });
}

/* Paths overtake each other: only what was said last counts. */
static void believe(hb_detector *detector, const struct hb_message *message)
{
	if (message->sent_ns < detector->newest_sent_ns)
		return;
	detector->newest_sent_ns = message->sent_ns;
	detector->peer = message->self;
	detector->peer_hears = message->hears;
	detector->peer_tai_ns = message->sent_tai_ns - message->sent_ns;
	detector->peer_tai_offset_s = message->tai_offset_s;
}

static void hear_new(hb_detector *detector, struct path *path,
		     const struct hb_message *message, guint64 read_ns)
{
	count_loss(path, detector->now_ns,
		   path->sequence && message->sequence > path->sequence
			   ? message->sequence - path->sequence
			   : 1);
	path->sequence = message->sequence;
	path->heard_ns = path->silent_from_ns = detector->now_ns;
	path->heard_once = path->up = detector->known = TRUE;
	path->stalled = FALSE;
	path->read_ns = read_ns;
	path->sent_ns = message->sent_ns;
	/* What waited in a socket while we did not run has no time of arrival. */
	if (!detector->stalled_turn) {
		measure_jitter(path, read_ns - message->sent_ns);
		measure_round_trip(detector, path, message, read_ns);
	}
	believe(detector, message);
}

enum hb_verdict hb_detector_hear(hb_detector *detector, guint path_index,
				 enum hb_verdict verdict,
				 const struct hb_message *message,
				 const struct hb_instant *at)
{
	struct path *path = &detector->path[path_index];

	g_assert(path_index < detector->paths && verdict < HB__VERDICTS);
	if (verdict == HB_HEARD) {
		if (message->session != detector->session)
			begin_session(detector, message->session);
		if (!is_fresh(detector, message, at->mono_ns))
			verdict = HB_REPLAYED;
	}
	switch (verdict) {
	case HB_HEARD:
		path->received++;
		hear_new(detector, path, message, at->mono_ns);
		break;
	case HB_LATE:
		path->received++;
		count_loss(path, detector->now_ns, 0);
		break;
	default:
		path->refused[verdict]++;
		break;
	}
	return verdict;
}

void hb_detector_sent(hb_detector *detector, guint path, gboolean sent)
{
	g_assert(path < detector->paths);
	if (sent)
		detector->path[path].sent++;
	else
		detector->path[path].errors++;
}

void hb_detector_judge(hb_detector *detector)
{
	for (guint i = 0; i < detector->paths; i++) {
		struct path *path = &detector->path[i];

		if (!path->up ||
		    detector->now_ns < path->silent_from_ns + detector->timeout_ns)
			continue;
		path->up = FALSE;
		path->downs++;
	}
}

guint64 hb_detector_deadline(const hb_detector *detector)
{
	guint64 deadline = G_MAXUINT64;

	for (guint i = 0; i < detector->paths; i++)
		if (detector->path[i].up)
			deadline = MIN(deadline, detector->path[i].silent_from_ns +
							 detector->timeout_ns);
	return deadline;
}

gboolean hb_detector_path_up(const hb_detector *detector, guint path)
{
	return path < detector->paths && detector->path[path].up;
}

gboolean hb_detector_alive(const hb_detector *detector)
{
	for (guint i = 0; i < detector->paths; i++)
		if (detector->path[i].up)
			return TRUE;
	return FALSE;
}

const struct hb_self *hb_detector_peer(const hb_detector *detector)
{
	return &detector->peer;
}

void hb_detector_tell(const hb_detector *detector, guint path_index, guint64 now_ns,
		      struct hb_message *message)
{
	const struct path *path = &detector->path[path_index];

	g_assert(path_index < detector->paths);
	message->hears = 0;
	for (guint i = 0; i < detector->paths; i++)
		message->hears |= (guint8)(detector->path[i].up << i);
	message->heard_sent_ns = path->sent_ns;
	message->heard_age_ns = path->sent_ns ? now_ns - path->read_ns : 0;
}

gboolean hb_detector_offset(const hb_detector *detector, const struct hb_instant *now,
			    gint64 *offset_ns, guint64 *error_ns)
{
	const struct sample *best = NULL;
	guint64 offset;

	for (guint i = 0; i < SAMPLES; i++) {
		const struct sample *sample = &detector->samples[i];

		if (sample->at_ns &&
		    (!best || sample_error(sample, now->mono_ns) <
				      sample_error(best, now->mono_ns)))
			best = sample;
	}
	if (!best)
		return FALSE;
	offset = best->offset_ns + detector->peer_tai_ns - (now->tai_ns - now->mono_ns);
	/* Then one CLOCK_TAI is UTC, and two UTCs are what can be compared. */
	if (!detector->peer_tai_offset_s != !now->tai_offset_s)
		offset -= ((guint64)(gint32)detector->peer_tai_offset_s -
			   (guint64)(gint32)now->tai_offset_s) *
			  SECOND;
	*offset_ns = (gint64)offset;
	*error_ns = sample_error(best, now->mono_ns);
	return TRUE;
}

static guint32 in_us(guint64 ns)
{
	return (guint32)MIN(ns / 1000, G_MAXUINT32);
}

static void report_path(const hb_detector *detector, guint index, guint64 now_ns,
			struct hb_path_report *report)
{
	const struct path *path = &detector->path[index];
	guint64 silent = (MAX(now_ns, path->heard_ns) - path->heard_ns) / MS;

	*report = (struct hb_path_report){
		.up = (guint8)path->up,
		.hears_us = detector->peer_hears >> index & 1 &&
			    hb_detector_alive(detector),
		.silent_ms = wire_put32(path->heard_once
						? (guint32)MIN(silent, G_MAXUINT32 - 1)
						: G_MAXUINT32),
		.rtt_us = wire_put32(path->rtt_known ? MAX(1, in_us(path->rtt_ns)) : 0),
		.jitter_us = wire_put32(in_us(path->jitter_ns)),
		.loss_ppm = wire_put32(loss_ppm(path, now_ns)),
		.downs = wire_put32(path->downs),
		.sent = wire_put64(path->sent),
		.received = wire_put64(path->received),
		.errors = wire_put64(path->errors),
		.malformed = wire_put64(path->refused[HB_MALFORMED]),
		.forged = wire_put64(path->refused[HB_FORGED]),
		.replayed = wire_put64(path->refused[HB_REPLAYED]),
		.reflected = wire_put64(path->refused[HB_REFLECTED]),
	};
}

void hb_detector_report(const hb_detector *detector, const struct hb_instant *now,
			struct hb_report *report)
{
	gint64 offset_ns = 0;
	guint64 error_ns = 0;
	gboolean offset_known =
		hb_detector_offset(detector, now, &offset_ns, &error_ns);

	*report = (struct hb_report){
		.type = wire_put32(HB_REPORT),
		.paths = (guint8)detector->paths,
		.alive = (guint8)hb_detector_alive(detector),
		.known = (guint8)detector->known,
		.offset_known = (guint8)offset_known,
		.peer = detector->peer,
		.clock_offset_ns = wire_put64((guint64)offset_ns),
		.clock_error_ns = wire_put64(error_ns),
		.stalls = wire_put64(detector->stalls),
		.stalled_ms = wire_put64(detector->stalled_ns / MS),
	};
	for (guint i = 0; i < detector->paths; i++)
		report_path(detector, i, now->mono_ns, &report->path[i]);
}
