/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we believe of the peer, and what its heartbeats tell of the paths between us.
 *
 * Pure logic: time is an argument, so that a test or a simulation is its clock. All
 * times are nanoseconds of our CLOCK_MONOTONIC; no step of any other clock has a part
 * in a judgement.
 *
 * The daemon works in turns: it waits, takes the time once (hb_detector_turn()), reads
 * its sockets (hb_detector_hear()), then judges by that one time (hb_detector_judge()).
 * So a daemon that is stopped anywhere in a turn judges by what it knew before.
 *
 * What was on its way for longer than a timeout and a second is no sign of life, and
 * counts as replayed: else who can hold back what goes over one path could play it when
 * the peer is dead. How long it was shows by our own time stamp in it or by the offset
 * of the clocks.
 *
 * Stalls. The daemon wakes once an interval at least; two turns further apart than two
 * intervals mean that it did not run, and what it did not hear then proves nothing. It
 * first reads everything that waits in its sockets, where a live peer's heartbeats are.
 * Silence then counts from the end of the stall on: the peer gets a whole timeout
 * again, and not one interval only, since after a stall (a switch that restarts, two
 * hosts on one starved machine) heartbeats are lost at least as often as usual. So a
 * dead peer is found a timeout after a stall, as it is after its death. Each further
 * stall in the same silence counts as one interval: a daemon that is starved for good
 * still finds a dead peer, after as many turns as there are intervals in a timeout.
 */
#ifndef HB_DETECTOR_H
#define HB_DETECTOR_H

#include "heartbeat/message.h"

/* One instant by all clocks that matter. */
struct hb_instant {
	guint64 mono_ns, tai_ns;
	guint32 tai_offset_s; /* 0: the kernel was never told */
};

typedef struct hb_detector hb_detector;
/* `now_ns` is the first turn. Never fails. One thread; nothing but this one allocates.
 */
hb_detector *hb_detector_new(guint paths, guint interval_ms, guint timeout_ms,
			     guint64 now_ns);
void hb_detector_free(hb_detector *detector);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(hb_detector, hb_detector_free)

/* A turn begins. How long the daemon was stalled before it, in nanoseconds; 0: not at
 * all. After a stall the caller reads its sockets until nothing is left that waited in
 * them. */
guint64 hb_detector_turn(hb_detector *detector, guint64 now_ns);
/* Whether a datagram that is read now was made within a timeout and a second, by the
 * time stamp of ours that it gives back. */
gboolean hb_detector_proves(const hb_detector *detector,
			    const struct hb_message *message, guint64 read_ns);
/* A datagram was judged on a path: `message` (needed for HB_HEARD and HB_LATE) was read
 * at `at`. HB_HEARD brings the path up. */
enum hb_verdict hb_detector_hear(hb_detector *detector, guint path,
				 enum hb_verdict verdict,
				 const struct hb_message *message,
				 const struct hb_instant *at);
/* One was sent on a path, or could not be. */
void hb_detector_sent(hb_detector *detector, guint path, gboolean sent);
/* Takes down the paths that were silent too long at this turn's time. */
void hb_detector_judge(hb_detector *detector);
/* When the next path will have been silent too long; G_MAXUINT64: none is up. */
guint64 hb_detector_deadline(const hb_detector *detector);

gboolean hb_detector_alive(const hb_detector *detector);
gboolean hb_detector_path_up(const hb_detector *detector, guint path);
/* What the peer said of itself last, in the order in which it said it; zero: nothing
 * yet. */
const struct hb_self *hb_detector_peer(const hb_detector *detector);

/* What the next datagram on a path says of the detector: hears, heard_sent_ns,
 * heard_age_ns. */
void hb_detector_tell(const hb_detector *detector, guint path, guint64 now_ns,
		      struct hb_message *message);
/* The peer's clock minus ours, as the report says it; FALSE if not known. */
gboolean hb_detector_offset(const hb_detector *detector, const struct hb_instant *now,
			    gint64 *offset_ns, guint64 *error_ns);
void hb_detector_report(const hb_detector *detector, const struct hb_instant *now,
			struct hb_report *report);

#endif
