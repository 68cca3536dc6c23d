/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What colo-vm and the comparator beside it say to each other, over a Unix socket of type
 * SOCK_SEQPACKET: one message in each packet, a head and its payload.
 *
 * colo-vm serves the socket, one comparator at a time. It tells it how outputs are to be
 * treated, when epochs begin and are committed, and what the secondary's guest sends; it is
 * asked for checkpoints. Where an epoch begins among the primary's packets is said in their
 * midst: a marker, a packet that colo-vm itself sends through the guest's first card while
 * the machine is at rest, and that goes the way of all packets into the queue.
 *
 * What is said of a packet before the guest sent it must be known when the packet is judged.
 * So whoever has taken packets from the queue then reads this socket dry, and judges them after
 * that; its end, too. Of the GATE that first guards, and of the CUT with it, colo-vm makes sure
 * that they are in the socket before the guest runs on, or it ends the connection.
 *
 * A comparator that comes in the midst of things is told the gate and the epoch under way when
 * it says READY, and a checkpoint follows at once. Of epochs that began before it was ready it
 * is told neither commits nor frames: it saw no marker of theirs.
 *
 * Both sides judge what they get: a message that is not right ends the connection.
 */
#ifndef BASE_OUTPUT_H
#define BASE_OUTPUT_H

#include "base/wire.h"

#define WIRE_OUTPUT_VERSION 1
#define WIRE_OUTPUT_FRAME_MAX (12u + 65550u) /* a frame behind its virtio_net_hdr */
#define WIRE_OUTPUT_TEXT_MAX 256u
#define WIRE_OUTPUT_SECRET 16u

enum wire_output_type {
	/* From colo-vm. */
	WIRE_OUTPUT_HELLO = 1, /* struct wire_output_hello; the first message */
	WIRE_OUTPUT_GATE = 2, /* struct wire_output_gate: outputs from here on */
	WIRE_OUTPUT_CUT = 3, /* `epoch` begins; struct wire_output_cut */
	WIRE_OUTPUT_COMMITTED = 4, /* `epoch` is committed: all sent before it may go */
	WIRE_OUTPUT_FRAME = 5, /* the secondary's guest sent it in `epoch` on card `device` */
	WIRE_OUTPUT_LOST = 6, /* so it did with others, before the next FRAME: they are lost */
	/* Has all gone that the commit of `epoch` lets go? DRAINED, when it has. */
	WIRE_OUTPUT_DRAIN = 7,
	/* From the comparator. */
	WIRE_OUTPUT_READY = 16, /* the queue is bound and its rule is up: markers may come */
	/* A checkpoint, please; struct wire_output_request. `epoch`: in which they differ (one
	 * that is over needs no other checkpoint); 0: whichever it is. */
	WIRE_OUTPUT_REQUEST = 17,
	WIRE_OUTPUT_MODE = 18, /* struct wire_output_mode: what would pay now */
	WIRE_OUTPUT_DRAINED = 19, /* the answer to DRAIN, of the same `epoch` */
};

struct wire_output_head {
	wire_u16 type;
	wire_u16 device; /* of FRAME; else 0 */
	wire_u32 length; /* bytes after this head: the rest of the packet */
	wire_u64 epoch; /* 0 where it belongs to none */
};
G_STATIC_ASSERT(sizeof(struct wire_output_head) == 16);

struct wire_output_hello {
	wire_u32 version;
	wire_u32 cards; /* how many the machine has */
	guint8 secret[WIRE_OUTPUT_SECRET]; /* what markers of this colo-vm carry */
};
G_STATIC_ASSERT(sizeof(struct wire_output_hello) == 24);

enum wire_output_gate_kind {
	WIRE_GATE_CLOSED = 0, /* nothing goes out; also where nobody says anything */
	WIRE_GATE_OPEN = 1, /* everything goes out: the guest runs alone, and may */
	WIRE_GATE_GUARDED = 2, /* what the secondary said too, or a commit covers */
};

struct wire_output_gate {
	wire_u32 kind;
	wire_u32 pad;
};
G_STATIC_ASSERT(sizeof(struct wire_output_gate) == 8);

struct wire_output_cut {
	guint8 run; /* the secondary's guest runs in this epoch: there is something to compare */
	guint8 pad[7];
};
G_STATIC_ASSERT(sizeof(struct wire_output_cut) == 8);

struct wire_output_request {
	wire_u32 cause; /* enum ncmp_cause, for the log and statistics */
	wire_u32 pad;
};
G_STATIC_ASSERT(sizeof(struct wire_output_request) == 8);

struct wire_output_mode {
	guint8 compare; /* else buffered */
	guint8 pad[7]; /* text follows: why, in UTF-8, at most WIRE_OUTPUT_TEXT_MAX */
};
G_STATIC_ASSERT(sizeof(struct wire_output_mode) == 8);

/*
 * A marker: an Ethernet frame from the card's address to itself, with an IPv4 packet of
 * protocol 253 (RFC 3692: for experiments) from 0.0.0.0 to 0.0.0.0, TTL 0, and this behind
 * a header without options. A guest that sends the like does not know the secret.
 */
#define WIRE_MARKER_MAGIC 0x4b4d4f43u /* "COMK" */
#define WIRE_MARKER_PROTOCOL 253u

struct wire_marker {
	wire_u32 magic;
	wire_u32 pad;
	wire_u64 epoch; /* begins here */
	guint8 secret[WIRE_OUTPUT_SECRET];
};
G_STATIC_ASSERT(sizeof(struct wire_marker) == 32);

#endif
