/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of one direction of one connection (guest to client), and the table of
 * all. Private to the comparison.
 *
 * Positions count a stream's elements: bytes, its SYN and its FIN, 64 bits wide. ORIGIN
 * is that of the SYN, or of whatever was seen first of a connection that is older than
 * what we know. Each side has its own number for it (`base`): equal ones, unless the
 * connection was born in this epoch.
 */
#ifndef NCMP_FLOW_H
#define NCMP_FLOW_H

#include "netcompare/packet.h"
#include "netcompare/ranges.h"
#include "netcompare/stream.h"

#define NCMP_ORIGIN ((guint64)1 << 32) /* so that there is room before it */
#define NCMP_MARKS 8u

struct ncmp_reset {
	guint64 position;
	guint32 seq;
	guint8 flags;
};

/* What is rare: resets and urgent data that the secondary's guest sent. */
struct ncmp_marks {
	struct ncmp_reset resets[NCMP_MARKS];
	guint64 urgent[NCMP_MARKS]; /* positions; 0: none */
	guint next_reset, next_urgent;
};

/* What the secondary's guest sent in this epoch, as far as the primary's has not. */
struct ncmp_twin {
	guint32 base;
	guint32 ack; /* the highest */
	guint64 top; /* highest position, what numbers are relative to */
	guint64 fin; /* 0: none yet */
	guint64 data_end; /* of the data farthest on; 0: none yet */
	struct ncmp_stream stream;
	struct ncmp_marks *marks; /* or NULL */
	guint8 syn_flags; /* SYN, with or without ACK; 0: none */
	guint8 based : 1, acked : 1;
	guint8 seen : 1; /* anything of it */
	guint8 reset_ahead : 1; /* its last reset has no counterpart yet */
};

struct ncmp_tcp_flow {
	/* The primary's. */
	guint32 base;
	guint32 ack; /* the highest that it sent: at a commit it becomes the floor */
	guint32 floor; /* the secondary has acknowledged this by a commit */
	guint32 released_ack;
	guint64 top;
	guint64 start; /* where what we know begins */
	guint64 fin; /* where a matched FIN is; 0: none */
	guint64 urgent; /* the last that was matched */
	struct ncmp_ranges
		matched; /* the secondary has sent the same, or a commit covers it */
	GQueue acks; /* pure acknowledgements beyond the secondary's */
	guint8 syn_flags; /* at ORIGIN there is a SYN; 0: not that we know */
	guint8 window_scale; /* that one's */
	guint8 based : 1, has_ack : 1, has_floor : 1, has_released : 1;
	guint8 born : 1; /* in this epoch: the secondary's numbers are its own */
	/* The secondary's. */
	struct ncmp_twin twin;
	struct ncmp_twin *heir; /* of the next connection with the same key, or NULL */
};

struct ncmp_datagram_flow {
	GQueue theirs; /* the secondary's that wait: struct ncmp_datagram */
	GList conflict; /* both sides have something, and it differs */
	gint64 conflict_ns;
	guint8 in_conflict : 1;
};

struct ncmp_flow {
	struct ncmp_flow *next; /* in its bucket */
	guint32 hash;
	struct ncmp_flow_key key;
	guint64 epoch; /* that the rest is of */
	gint64 touched_ns;
	GList idle;
	GList ahead; /* the secondary's guest sent what the primary's has not */
	gint64 ahead_ns;
	GQueue queue; /* the primary's that wait, without pure acknowledgements */
	gsize memory; /* kept for it, without itself */
	guint8 stuck : 1; /* diverged: nothing more is compared until a commit */
	guint8 brief : 1; /* over, or a datagram's: soon to be forgotten */
	guint8 is_ahead : 1;
	union {
		struct ncmp_tcp_flow tcp;
		struct ncmp_datagram_flow datagram;
	};
};

struct ncmp_table {
	struct ncmp_flow **buckets;
	guint size, count; /* size is a power of two */
	guint32 seed;
	GQueue idle[2]; /* longest untouched first; [1]: the brief ones */
};

void ncmp_table_init(struct ncmp_table *table, guint32 seed);
void ncmp_table_clear(struct ncmp_table *table);
struct ncmp_flow *ncmp_table_find(struct ncmp_table *table,
				  const struct ncmp_flow_key *key);
/* The key must be new. All but key and lists is zero. */
struct ncmp_flow *ncmp_table_add(struct ncmp_table *table,
				 const struct ncmp_flow_key *key, gint64 now_ns);
/* What the flow owns must be gone. */
void ncmp_table_remove(struct ncmp_table *table, struct ncmp_flow *flow);
/* It is in use; `brief` or not. */
void ncmp_table_touch(struct ncmp_table *table, struct ncmp_flow *flow, gboolean brief,
		      gint64 now_ns);

#endif
