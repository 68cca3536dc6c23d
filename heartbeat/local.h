/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What colod and colo-heartbeat say to each other, over a connected Unix socket of type
 * SOCK_SEQPACKET that colod hands over at the start (--fd N). One struct a message, of
 * exactly its size; little-endian like everything in base/wire.h. Neither waits for the
 * other: a message that finds the socket full is left out, the next one says it all.
 */
#ifndef HB_LOCAL_H
#define HB_LOCAL_H

#include "base/wire.h"

#define HB_PATHS_MAX 4u

/* What a node says of itself in every heartbeat. */
struct hb_self {
	wire_u64 generation, epoch;
	guint8 state; /* colo's, for the peer's colod: heartbeats only carry it */
	guint8 flags; /* enum hb_flag */
	guint8 zero[6];
};
G_STATIC_ASSERT(sizeof(struct hb_self) == 24);

enum hb_flag {
	HB_FLAG_VM = 1, /* colo-vm lives */
	HB_FLAG_LINK = 2, /* its replication link does */
	HB_FLAG_STALE = 4, /* set by colo-heartbeat: its colod has not been heard for a
			      second */
	HB_FLAG_LEAVING = 8, /* ends on purpose */
};

/* colod -> colo-heartbeat: whenever something changes, and each 250 ms. What changed
 * goes out to the peer at once, on every path. */
#define HB_TELL 1
struct hb_tell {
	wire_u32 type; /* HB_TELL */
	wire_u32 zero;
	struct hb_self self;
};

struct hb_path_report {
	guint8 up; /* heard within the timeout */
	guint8 hears_us; /* the peer says that it hears us there */
	guint8 zero[2];
	wire_u32 silent_ms; /* since the last heartbeat; all ones: never */
	wire_u32 rtt_us, jitter_us; /* smoothed; 0: not known */
	wire_u32 loss_ppm; /* of the last minute */
	wire_u32 downs; /* times that it was up and went down */
	wire_u64 sent, received;
	wire_u64 errors; /* datagrams that the kernel would not send */
	/* Datagrams that were refused: too short or long or not ours; with a wrong MAC;
	 * seen before or of another session (a few at each start are the two getting to
	 * know each other); our own come back. */
	wire_u64 malformed, forged, replayed, reflected;
};
G_STATIC_ASSERT(sizeof(struct hb_path_report) == 80);

/* colo-heartbeat -> colod: at once when the belief or what the peer says of itself
 * changes, and each 250 ms. */
#define HB_REPORT 2
struct hb_report {
	wire_u32 type; /* HB_REPORT */
	guint8 paths;
	guint8 alive; /* the peer is heard on a path, at least */
	guint8 known; /* it was, once, since this daemon was started */
	guint8 offset_known;
	struct hb_self peer; /* what it said last */
	/* Two's complement: the peer's CLOCK_TAI minus ours; of UTC, where only one of
	 * the two kernels was told TAI's offset. Stays after a loss, with an error that
	 * grows. */
	wire_u64 clock_offset_ns;
	wire_u64 clock_error_ns; /* how far off that can be */
	wire_u64 stalls; /* times that this daemon was itself delayed beyond an interval
			  */
	wire_u64 stalled_ms; /* the longest */
	struct hb_path_report path[HB_PATHS_MAX]; /* zero beyond `paths` */
};
G_STATIC_ASSERT(sizeof(struct hb_report) ==
		64 + HB_PATHS_MAX * sizeof(struct hb_path_report));

/* What colod says, judged: FALSE for anything but a whole HB_TELL. Flags that are
 * colo-heartbeat's own are taken out of `self`. */
gboolean hb_tell_read(const void *bytes, gsize length,
		      struct hb_self *self) G_GNUC_WARN_UNUSED_RESULT;

#endif
