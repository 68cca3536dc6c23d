/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the comparison. Private to it.
 *
 * compare.c   packets in, verdicts out; what is held
 * epochs.c    markers, commits, the gate
 * wait.c      what waits for too long, and what is forgotten
 * tcp.c       the primary's TCP packets: in which order they wait and go
 * tcp_match.c whether one may go
 * tcp_state.c what is known of a connection
 * tcp_twin.c  what the secondary sends on it
 * datagram.c  everything else that can be compared
 */
#ifndef NCMP_ENGINE_H
#define NCMP_ENGINE_H

#include "netcompare/blame.h"
#include "netcompare/compare.h"
#include "netcompare/flow.h"
#include "netcompare/lag.h"

#define NCMP_MARKERS_MAX 64u
#define NCMP_CUTS_MAX 8u

enum ncmp_outcome {
	NCMP_MATCHED,
	NCMP_COMMITTED,
	NCMP_PASSED,
	NCMP_OPENED,
	NCMP_DROPPED,
};

/* One of the primary's packets: on the stack while it is judged for the first time,
 * kept if it must wait. */
struct ncmp_held {
	GList all; /* of compare->held, in order of arrival */
	GList queued; /* of `queue` */
	GList waiting; /* of compare->waiting, in order of since_ns */
	struct ncmp_flow *flow; /* NULL: not in comparison */
	GQueue *queue; /* of the flow */
	struct ncmp_packet packet; /* of `raw` */
	guint64 epoch; /* of the last marker before it, and how many there were */
	guint64 marker_number;
	gint64 arrived_ns, since_ns;
	const guint8 *raw; /* NULL: there was no room for it */
	gsize raw_len, memory;
	guint32 id;
	guint8 segmentable : 1, partial : 1;
	guint8 kept : 1; /* on the heap */
	guint8 certain : 1; /* no marker was lost between it and the last one */
	guint8 is_waiting : 1;
};

/* A frame of an epoch that is not committed yet. */
struct ncmp_early {
	GList link;
	guint64 epoch;
	guint8 device;
	gsize len;
	guint8 frame[];
};

struct ncmp_cut {
	guint64 epoch;
	gboolean known, runs;
};

struct ncmp_marker {
	guint64 epoch, number;
};

struct ncmp_compare {
	struct ncmp_compare_options options;
	struct ncmp_compare_hooks hooks;
	struct ncmp_compare_counters counters;
	struct ncmp_blames blames;
	struct ncmp_lag lag;
	struct ncmp_table table;
	guint64 memory; /* kept in all */
	GQueue held; /* all, in order of arrival */
	GQueue waiting; /* those of them that wait for the secondary, and are not late
			   yet */
	GQueue ahead; /* flows in which the secondary is ahead, longest first */
	GQueue conflicts; /* flows of datagrams in which something differs, longest
			     first */
	GQueue early;
	gsize early_memory;
	GByteArray *scratch; /* packets are changed in it */

	enum ncmp_gate gate;
	guint64 epoch; /* committed */
	gint64 committed_ns;
	guint64 marker; /* last seen */
	guint64 gate_marker; /* last seen when the gate became GUARDED */
	guint64 marker_number;
	struct ncmp_marker markers[NCMP_MARKERS_MAX]; /* seen, and not committed yet */
	guint markers_count;
	struct ncmp_cut cuts[NCMP_CUTS_MAX];
	guint next_cut;
	gboolean has_marker, has_gate_marker;
	gboolean committed; /* something, since the gate is GUARDED */
	gboolean runs; /* the secondary, in the committed epoch */
	gboolean uncertain; /* a marker may have been lost after the last one */
	gboolean full; /* a flow found no room: others would begin in the middle */
	gboolean asked; /* for a checkpoint, in this epoch */
};

/* compare.c */

/* Counts it, and asks for a checkpoint unless that was done in this epoch. `flow` may
 * be NULL; else nothing more of it is compared where `cause` says that it differs. */
void ncmp_diverge(ncmp_compare *compare, struct ncmp_flow *flow,
		  const struct ncmp_divergence *divergence);
/* The same, for causes that no bytes show. */
void ncmp_diverge_plain(ncmp_compare *compare, struct ncmp_flow *flow,
			enum ncmp_cause cause, guint64 position);
/* The verdict; a kept one is gone after it. `changed`: raw_len bytes or NULL. */
void ncmp_finish(ncmp_compare *compare, struct ncmp_held *held,
		 enum ncmp_outcome outcome, const guint8 *changed, gint64 now_ns);
/* To be judged later: kept, in order. Returns it where it is from now on. */
struct ncmp_held *ncmp_keep(ncmp_compare *compare, struct ncmp_flow *flow,
			    struct ncmp_held *held);
/* Keeps it (if it is not) at the end of `queue`, waiting for the secondary. */
void ncmp_wait(ncmp_compare *compare, struct ncmp_flow *flow, GQueue *queue,
	       struct ncmp_held *held, gint64 now_ns);
void ncmp_detach(ncmp_compare *compare, struct ncmp_held *held);
/* Judges a packet of the epoch that is compared. */
void ncmp_take(ncmp_compare *compare, struct ncmp_held *held, gint64 now_ns);
/* A packet that a commit releases: what it tells of its flow. */
void ncmp_cover(ncmp_compare *compare, const struct ncmp_packet *packet, gint64 now_ns);
/* Bytes that are kept more (or less) for a flow. */
void ncmp_charge(ncmp_compare *compare, struct ncmp_flow *flow, gssize bytes);
/* Whether so many more may be kept for it; if not, this is a divergence. */
gboolean ncmp_afford(ncmp_compare *compare, struct ncmp_flow *flow, gsize bytes);
/* As it is in this epoch. NULL: there is none and no room. */
struct ncmp_flow *ncmp_flow_get(ncmp_compare *compare, const struct ncmp_packet *packet,
				gint64 now_ns);
void ncmp_flow_forget(ncmp_compare *compare, struct ncmp_flow *flow);
void ncmp_flow_turn(ncmp_compare *compare, struct ncmp_flow *flow);
/* Something of the secondary's waits for the primary, or no more. */
void ncmp_flow_set_ahead(ncmp_compare *compare, struct ncmp_flow *flow, gboolean ahead,
			 gboolean progress, gint64 now_ns);
/* One of the secondary's frames of the committed epoch. */
void ncmp_take_secondary(ncmp_compare *compare, guint8 device, const guint8 *frame,
			 gsize len, gint64 now_ns);
/* What came of the committed epoch before its commit. */
void ncmp_take_early(ncmp_compare *compare, gint64 now_ns);
void ncmp_forget_early(ncmp_compare *compare);

/* epochs.c */

/* Whether what comes from the primary now is to be compared. */
gboolean ncmp_is_live(const ncmp_compare *compare);
/* Whether the secondary's frames of the committed epoch are. */
gboolean ncmp_is_listening(const ncmp_compare *compare);

/* wait.c */

gboolean ncmp_make_room(ncmp_compare *compare, gint64 now_ns);

/* tcp*.c */

guint64 ncmp_tcp_position(guint32 base, guint64 top, guint32 seq);
/* From the stream's start. */
guint64 ncmp_tcp_matched_end(const struct ncmp_flow *flow);
/* Says nothing but an acknowledgement. */
gboolean ncmp_tcp_is_pure(const struct ncmp_packet *packet);
void ncmp_tcp_take(ncmp_compare *compare, struct ncmp_flow *flow,
		   struct ncmp_held *held, gint64 now_ns);
void ncmp_tcp_cover(ncmp_compare *compare, struct ncmp_flow *flow,
		    const struct ncmp_packet *packet, gint64 now_ns);
void ncmp_tcp_secondary(ncmp_compare *compare, struct ncmp_flow *flow,
			const struct ncmp_packet *packet, gint64 now_ns);
/* After something changed: what can go now goes. */
void ncmp_tcp_run(ncmp_compare *compare, struct ncmp_flow *flow, gint64 now_ns);
/* Whether the secondary sent something that the primary should have by now. */
gboolean ncmp_tcp_is_ahead(const struct ncmp_flow *flow);
void ncmp_tcp_update_ahead(ncmp_compare *compare, struct ncmp_flow *flow,
			   gboolean progress, gint64 now_ns);
void ncmp_tcp_turn(ncmp_compare *compare, struct ncmp_flow *flow);
void ncmp_tcp_clear(ncmp_compare *compare, struct ncmp_flow *flow);
void ncmp_twin_clear(ncmp_compare *compare, struct ncmp_flow *flow,
		     struct ncmp_twin *twin);

/* datagram.c */

void ncmp_datagram_take(ncmp_compare *compare, struct ncmp_flow *flow,
			struct ncmp_held *held, gint64 now_ns);
void ncmp_datagram_secondary(ncmp_compare *compare, struct ncmp_flow *flow,
			     const struct ncmp_packet *packet, gint64 now_ns);
void ncmp_datagram_clear(ncmp_compare *compare, struct ncmp_flow *flow);
/* What shows that a flow in conflict differs. */
void ncmp_datagram_diverge(ncmp_compare *compare, struct ncmp_flow *flow);

#endif
