/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What rewriters of two nodes say to each other (netcompare/rewrite.h). */
#ifndef NCMP_REWRITE_WIRE_H
#define NCMP_REWRITE_WIRE_H

#include "base/wire.h"

#define NCMP_REWRITE_VERSION 1
#define NCMP_REWRITE_CONNECTIONS 65536u

/* A connection, as what the guest sends in it names it. */
struct wire_rewrite_key {
	guint8 source[16], target[16]; /* IPv4: four bytes, the others 0 */
	wire_u16 source_port, target_port;
	wire_u16 vlan, inner_vlan; /* below 4096; 0: no tag */
	guint8 family; /* 4 or 6 */
	guint8 device; /* the guest's card */
	guint8 pad[2];
};
G_STATIC_ASSERT(sizeof(struct wire_rewrite_key) == 44);

/* The primary's guest sent a SYN, with or without ACK. */
struct wire_rewrite_birth {
	struct wire_rewrite_key key;
	wire_u32 isn; /* its sequence number, as it left */
};
G_STATIC_ASSERT(sizeof(struct wire_rewrite_birth) == 48);

/* Of a connection; others are 0. A value whose bit is not set is 0. */
enum wire_rewrite_flags {
	WIRE_REWRITE_OWN = 1u << 0, /* the guest began it in `own_isn` */
	WIRE_REWRITE_ISN = 1u << 1, /* which clients see as `isn` */
	WIRE_REWRITE_IRS = 1u << 2, /* the client began it in `irs` */
	WIRE_REWRITE_EARLY = 1u << 3, /* data may have gone with a SYN */
	WIRE_REWRITE_ACTIVE = 1u << 4, /* the guest sent the first SYN */
	WIRE_REWRITE_OPEN = 1u << 5, /* the guest's SYN was acknowledged */
	/* Clients see the guest's timestamps with `ts_offset` added, from `ts_from` (as
	 * they see it) on. Without this bit they do not yet, but may have by the time
	 * that the guest is promoted again. */
	WIRE_REWRITE_TS = 1u << 6,
};
#define WIRE_REWRITE_FLAGS 0x7fu

/* What ncmp_rewriter_save() writes: this, and `count` connections in no order. */
struct wire_rewrite_head {
	wire_u16 version;
	wire_u16 size; /* of a connection */
	wire_u32 count;
	wire_u32 ts_offset; /* of connections not among these, like theirs */
	wire_u32 pad;
};
G_STATIC_ASSERT(sizeof(struct wire_rewrite_head) == 16);

struct wire_rewrite_connection {
	struct wire_rewrite_key key;
	wire_u32 flags; /* enum wire_rewrite_flags */
	wire_u32 own_isn, isn, irs;
	wire_u32 ts_before; /* how far what clients echo is above the guest's up to
			       there */
	wire_u32 ts_offset; /* also where the TS bit is not set */
	wire_u32 ts_from;
};
G_STATIC_ASSERT(sizeof(struct wire_rewrite_connection) == 72);

#define NCMP_REWRITE_SAVED_MAX              \
	(sizeof(struct wire_rewrite_head) + \
	 (gsize)NCMP_REWRITE_CONNECTIONS * sizeof(struct wire_rewrite_connection))

#endif
