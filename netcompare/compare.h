/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparison itself: which of the primary's packets may go out, because the secondary's
 * guest has sent the same, or because a commit covers them. It knows no queue, no socket and
 * no clock: packets, notices and the time are handed in, verdicts come out. One thread.
 *
 * Epochs. The primary's packets come in the order in which its guest sent them, with markers
 * (ncmp_compare_marker()) among them where epochs begin. A packet is of the epoch of the last
 * marker before it. Once epoch N is committed, whatever was sent before marker N goes out;
 * what comes after it is compared with what the secondary's guest sent in epoch N, no other.
 * Packets after the marker of an epoch that is not committed yet wait for the commit, and
 * are then compared. Where a commit comes whose marker has not been seen, all waits for that
 * marker, or for a later one and its commit. Where packets may have been lost
 * (ncmp_compare_overrun()) a marker may have been among them, and a match with the
 * secondary's present epoch proves nothing any more: all that follows waits for the next
 * marker and its commit.
 *
 * What a TCP connection says for the first time (data, SYN, FIN, RST) goes out in the order
 * in which it came. Repetitions and pure acknowledgements do not wait for it.
 */
#ifndef NCMP_COMPARE_H
#define NCMP_COMPARE_H

#include "netcompare/packet.h"

/* Why a checkpoint is asked for. On the wire: never reused. */
enum ncmp_cause {
	NCMP_CAUSE_PAYLOAD = 1, /* other bytes at the same position */
	NCMP_CAUSE_FLAGS = 2, /* SYN, FIN, RST or URG where the other has none, or data */
	NCMP_CAUSE_MISSING = 3, /* the secondary's guest sent what the primary's never did */
	NCMP_CAUSE_LATE = 4, /* the primary's guest sent what the secondary's has not, in time */
	NCMP_CAUSE_OVERRUN = 5, /* packets or markers were lost before they were looked at */
	NCMP_CAUSE_MEMORY = 6, /* a bound on what is kept was reached */
	NCMP_CAUSE_OPAQUE = 7, /* a packet that cannot be compared */
	NCMP_CAUSE_RESTART = 8, /* the comparator is new and knows no connection */
	NCMP_CAUSE_STALL = 9, /* it did not run for a while: what it knows may be over */
};
#define NCMP_CAUSES 10u
const char *ncmp_cause_name(enum ncmp_cause cause); /* static: "payload" */

struct ncmp_divergence {
	enum ncmp_cause cause;
	guint64 epoch;
	const struct ncmp_flow_key *key; /* NULL where no flow is to blame */
	guint64 position; /* of the first byte that differs, from the stream's start */
	/* What shows it, borrowed; NULL where that side has nothing. PAYLOAD: from the first
	 * byte that differs (of datagrams: all behind the IP header); else: a packet. */
	const guint8 *primary, *secondary;
	gsize primary_len, secondary_len;
};

/* During a call into the comparison. A hook must not call back into it. */
struct ncmp_compare_hooks {
	void *data;
	/* Packet `id` may go; `changed` (of the same length, checksum mended) instead of what
	 * came, or NULL: as it came. */
	void (*release)(void *data, guint32 id, const guint8 *changed, gsize len);
	/* Packet `id` must not go: a later acknowledgement says as much, or its connection is
	 * over. */
	void (*drop)(void *data, guint32 id);
	/* Once in each epoch: a checkpoint is needed. */
	void (*diverged)(void *data, const struct ncmp_divergence *divergence);
};

struct ncmp_compare_options {
	guint64 memory_max; /* bytes kept for all flows, held packets included; 0: 256 MiB */
	guint64 flow_memory_max; /* for one flow; 0: 8 MiB */
	guint flows_max; /* 0: 65536 */
	guint held_max; /* packets that wait for a verdict; 0: 65536 */
	/* What the secondary may be late by: it follows the measured lag, within these. */
	guint late_min_ms, late_max_ms; /* 0: 5 and 200 */
	guint32 seed; /* of hashes; not for guests to know */
};

enum ncmp_gate {
	NCMP_GATE_CLOSED, /* all is held */
	NCMP_GATE_OPEN, /* all goes out, held packets first */
	NCMP_GATE_GUARDED,
};

/* One of the primary's packets as the queue gives it. */
struct ncmp_arrival {
	guint32 id; /* the queue's */
	const guint8 *bytes; /* network layer; good during the call */
	gsize len;
	guint16 ethertype, vlan;
	guint8 device;
	gboolean segmentable; /* one of several segments' length (GSO): not to be changed */
	gboolean partial; /* the TCP checksum is not filled in yet: made when it is changed */
};

typedef struct ncmp_compare ncmp_compare;

ncmp_compare *ncmp_compare_new(const struct ncmp_compare_options *options,
			       const struct ncmp_compare_hooks *hooks);
/* Held packets get no verdict. */
void ncmp_compare_free(ncmp_compare *compare);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_compare, ncmp_compare_free)

/* Closed at first. From any other gate to GUARDED: what is known of flows is forgotten; until
 * a commit of an epoch whose marker came after that nothing is compared, all is held: what
 * the guest sent before may have gone out although the secondary never did. Where a commit
 * comes whose marker is older, RESTART asks for the next. */
void ncmp_compare_set_gate(ncmp_compare *compare, enum ncmp_gate gate);

/* `now_ns` is monotonic and the same clock throughout. */
void ncmp_compare_primary(ncmp_compare *compare, const struct ncmp_arrival *arrival,
			  gint64 now_ns);
/* Epoch `epoch` begins here among the primary's packets.
 * One that is not above the last is ignored, and counted. */
void ncmp_compare_marker(ncmp_compare *compare, guint64 epoch, gint64 now_ns);
/* What was learned by other ways of epoch `epoch`: whether the secondary runs in it. Before
 * its commit. */
void ncmp_compare_cut(ncmp_compare *compare, guint64 epoch, gboolean runs);
void ncmp_compare_committed(ncmp_compare *compare, guint64 epoch, gint64 now_ns);
/* An Ethernet frame, without virtio_net_hdr. Of an epoch before the committed one: dropped
 * and counted. Of a later one: kept until its commit, which may be on its way by another
 * connection, and dropped where too much comes. */
void ncmp_compare_secondary(ncmp_compare *compare, guint64 epoch, guint8 device,
			    const guint8 *frame, gsize len, gint64 now_ns);
/* Packets may have been lost before they came here, after all that did come. */
void ncmp_compare_overrun(ncmp_compare *compare, gint64 now_ns);
/* Judges what has waited too long, and forgets connections that are over. Returns after how
 * many ns to call again; G_MAXINT64: nothing waits. */
gint64 ncmp_compare_tick(ncmp_compare *compare, gint64 now_ns);

#define NCMP_HOLD_BUCKETS 24u /* bucket i: held for less than 2^i us, and not less than half */

struct ncmp_compare_counters {
	/* Of the primary's packets, by outcome; [1] bytes. */
	guint64 matched[2], committed[2], passed[2], opened[2], dropped[2], acks_lowered[2];
	guint64 malformed, opaque; /* as they came; what became of them is above */
	guint64 secondary_packets, secondary_bytes, secondary_stale; /* of another epoch */
	guint64 markers_ignored, commits_ignored; /* not above the last */
	guint64 divergences[NCMP_CAUSES];
	guint64 held_us[NCMP_HOLD_BUCKETS]; /* of matched ones */
	guint64 committed_us[NCMP_HOLD_BUCKETS]; /* of those that a commit released */
	/* Now. */
	guint64 flows, held, memory;
	guint64 lag_us, late_us; /* smoothed, and the limit that follows from it */
	guint64 epoch, marker; /* committed; last seen */
};
void ncmp_compare_get_counters(const ncmp_compare *compare,
			       struct ncmp_compare_counters *counters);
/* Divergences by protocol and the guest's own port, most frequent first, at most `max`. */
struct ncmp_blame {
	guint8 protocol;
	guint16 port;
	guint64 count[NCMP_CAUSES];
};
guint ncmp_compare_get_blames(const ncmp_compare *compare, struct ncmp_blame *blames,
			      guint max);

#endif
