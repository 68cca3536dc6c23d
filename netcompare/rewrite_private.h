/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the rewriter share: connections, their table, changes to frames. */
#ifndef NCMP_REWRITE_PRIVATE_H
#define NCMP_REWRITE_PRIVATE_H

#include "netcompare/rewrite.h"

/* Beyond enum wire_rewrite_flags, whose bits these come after. */
enum {
	NCMP_CONNECTION_LOADED = 1u << 8, /* applies to what the guest sends at once */
	NCMP_CONNECTION_NATIVE = 1u
				 << 9, /* born after the promotion: never translated */
	NCMP_CONNECTION_NEXT_IRS = 1u << 10, /* a SYN that the guest has not answered */
	NCMP_CONNECTION_NEXT_ISN = 1u << 11, /* the primary's guest began it anew */
	NCMP_CONNECTION_NEXT_EARLY = 1u << 12,
	NCMP_CONNECTION_GUEST_ACK = 1u << 13, /* `guest_ack` is known */
	NCMP_CONNECTION_ECHO = 1u << 14, /* `echo` is known */
	NCMP_CONNECTION_OWN_TS = 1u << 15, /* `own_ts` is known */
	NCMP_CONNECTION_OWN_TS_MANY = 1u << 16, /* and is not the only one */
	NCMP_CONNECTION_RATE = 1u << 17, /* `rate_ts` and `rate_ns` are known */
	NCMP_CONNECTION_FAST = 1u
			       << 18, /* its timestamps are finer than milliseconds */
	NCMP_CONNECTION_MEASURED = 1u << 19, /* whether they are is known */
	NCMP_CONNECTION_FIN_IN = 1u << 20,
	NCMP_CONNECTION_FIN_OUT = 1u << 21,
	NCMP_CONNECTION_RESET = 1u << 22,
	NCMP_CONNECTION_HELD = 1u << 23, /* `held_ns` is known */
	NCMP_CONNECTION_HOLD_OVER = 1u << 24,
};

/* What would be lost with a connection: those of the first class are given up first. */
enum ncmp_connection_class {
	NCMP_CLASS_ENDED,
	NCMP_CLASS_OPENING,
	NCMP_CLASS_NATIVE,
	NCMP_CLASS_PLAIN, /* a jump of timestamps at most */
	NCMP_CLASS_TRANSLATED,
	NCMP_CLASSES,
};

struct ncmp_connection {
	struct ncmp_flow_key key; /* of what the guest sends */
	guint hash;
	guint32 flags;
	enum ncmp_connection_class class;
	GList link; /* in its class, the one used last at the end */
	gint64 used_ns;
	guint32 own_isn, isn, irs;
	guint32 delta; /* isn - own_isn where both are known, else 0 */
	guint32 next_irs, next_isn; /* of the next connection between these ports */
	guint32 guest_ack; /* last acknowledgement of the guest's */
	guint32 echo; /* latest TSecr of the client's */
	guint32 own_ts; /* TSval of the guest's last SYN */
	/* See WIRE_REWRITE_TS; without it `ts_offset` is what it is raised from. */
	guint32 ts_before, ts_offset, ts_from;
	guint32 rate_ts;
	gint64 rate_ns;
	gint64 held_ns;
};

struct ncmp_rewriter {
	guint connections_max;
	guint32 seed;
	GHashTable *table; /* set of ncmp_connection */
	GQueue classes[NCMP_CLASSES];
	gboolean promoted;
	gint64 settled_ns; /* from here on strangers need nothing */
	gboolean settled;
	gboolean fast; /* some connection is */
	guint32 ts_offset; /* of strangers: what they are raised from */
	gint64 hold_until_ns;
	gint64 no_hold_until_ns;
	struct ncmp_rewriter_counters counters;
};

/* rewrite_table.c */
void ncmp_table_init(ncmp_rewriter *rewriter);
void ncmp_table_clear(ncmp_rewriter *rewriter);
void ncmp_table_swap(ncmp_rewriter *rewriter, ncmp_rewriter *other);
struct ncmp_connection *ncmp_table_find(const ncmp_rewriter *rewriter,
					const struct ncmp_flow_key *key);
/* A new one, which must not be there; at the limit another is given up for it. */
struct ncmp_connection *ncmp_table_add(ncmp_rewriter *rewriter,
				       const struct ncmp_flow_key *key, gint64 now_ns);
/* It was used, or its flags changed. */
void ncmp_table_touch(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
		      gint64 now_ns);
/* Drops those that are over for long enough. */
void ncmp_table_reap(ncmp_rewriter *rewriter, gint64 now_ns);

/* rewrite.c: the primary's guest began it, or the next one between its ports. */
void ncmp_connection_told(struct ncmp_connection *connection, guint32 isn);
/* By how much timestamps are raised: those of `connection`, or (NULL) of strangers. */
guint32 ncmp_rewriter_margin(const ncmp_rewriter *rewriter,
			     const struct ncmp_connection *connection);

/* rewrite_mend.c: a TCP header in a frame, and its checksum. */
struct ncmp_mend {
	guint8 *tcp;
	gboolean partial;
	gboolean changed;
};
guint32 ncmp_get32(const guint8 *bytes);
/* Puts `value` at `offset` of the header. */
void ncmp_mend32(struct ncmp_mend *mend, gsize offset, guint32 value);
/* Where the ICMP message in this datagram quotes a TCP segment that the guest sent: its
 * key and the offset of its sequence number in `packet->bytes`; 0: it does not. */
gsize ncmp_quoted(const struct ncmp_packet *packet, struct ncmp_flow_key *key);
/* Changes 4 bytes at `offset` of an ICMP message, whose checksum is the message's third
 * and fourth byte. */
void ncmp_mend_icmp32(guint8 *icmp, gsize offset, guint32 value);

/* a is after b, or equal. */
static inline gboolean ncmp_serial_ge(guint32 a, guint32 b)
{
	return (gint32)(a - b) >= 0;
}

#endif
