/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the heartbeat daemon decides: what is sent and when, how much is read, what is
 * believed, what colod is told. No socket, no clock and no wait of its own: everything
 * goes through `ops`, so that two of these and the network between them can be
 * simulated in one process. heartbeat/daemon.h joins it to the kernel.
 *
 * A turn is hb_heart_hear(), then what colod said (hb_heart_told()), then
 * hb_heart_beat(); the next one is taken when something came, and by hb_heart_due() at
 * the latest. One thread; operations never call back. After hb_heart_new() nothing
 * allocates.
 */
#ifndef HB_HEART_H
#define HB_HEART_H

#include "heartbeat/detector.h"
#include "heartbeat/filter.h"

struct hb_heart_ops {
	/* All clocks at this moment, which is later than the turn's time. */
	struct hb_instant (*clocks)(void *data);
	guint64 (*session)(void *data); /* random, never 0 */
	/* Length of the next datagram, cut to `room`; negative: there is none. */
	gssize (*receive)(void *data, guint path, void *bytes, gsize room);
	gboolean (*send)(void *data, guint path, const struct hb_datagram *datagram);
	/* Enough was read: what comes on this path wakes nobody until it is woken. */
	void (*rest)(void *data, guint path);
	void (*wake)(void *data, guint path);
	/* A flood: what the kernel lets in (heartbeat/filter.h). `begins`: there was no
	 * filter before. */
	void (*filter)(void *data, guint path, const guint8 head[HB_FILTER_HEAD],
		       guint64 session, gboolean begins);
	void (*unfilter)(void *data, guint path);
	/* FALSE: colod reads too little; it is tried again in the next turn. */
	gboolean (*report)(void *data, const struct hb_report *report);
	/* For the log. */
	void (*refused)(void *data, guint path, enum hb_verdict verdict);
	void (*stalled)(void *data, guint64 stalled_ns);
};

struct hb_heart_config {
	guint paths, interval_ms, timeout_ms;
};

typedef struct hb_heart hb_heart;
/* `ops` outlives it. The first turn sends. */
hb_heart *hb_heart_new(const struct hb_heart_config *config, hb_codec *codec_take,
		       const struct hb_heart_ops *ops, void *data, guint64 now_ns);
void hb_heart_free(hb_heart *heart);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(hb_heart, hb_heart_free)

/* A turn begins: reads the paths in `ready` (bit i: path i), or all of them after a
 * stall. `now_ns` only grows. */
void hb_heart_hear(hb_heart *heart, guint64 now_ns, guint ready);
/* colod says what the peer is to be told. */
void hb_heart_told(hb_heart *heart, const struct hb_self *self);
/* The turn ends: sends what is due, judges, reports. */
void hb_heart_beat(hb_heart *heart);
/* When the next turn is due; monotonic. */
guint64 hb_heart_due(const hb_heart *heart);

/* A path has a new socket, which has no filter. */
void hb_heart_path_is_new(hb_heart *heart, guint path);
/* colod is gone: heartbeats go on, stale, and nobody is told of the peer. */
void hb_heart_orphan(hb_heart *heart);
/* Tells the peer that we end on purpose. */
void hb_heart_leave(hb_heart *heart);

/* What is believed: bit i: path i is up. 0: the peer is not heard. */
guint hb_heart_up(const hb_heart *heart);

#endif
