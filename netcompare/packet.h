/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a packet says, as far as comparing and rewriting need it: where its parts lie,
 * whose it is, and what kind of judgement it is open to. Packets come from guests:
 * every length in them is judged against the bytes that are there.
 */
#ifndef NCMP_PACKET_H
#define NCMP_PACKET_H

#include <glib.h>

/* How a packet can be judged. */
enum ncmp_kind {
	/* ARP and neighbour discovery (not a router's): no promise of the guest's. */
	NCMP_KIND_PASS,
	/* Whole; a first fragment is none. */
	NCMP_KIND_TCP,
	/* UDP, ICMP, ICMPv6, other protocols over IP: by flow, in whole. */
	NCMP_KIND_DATAGRAM,
	/* Cannot be judged (fragments, not IP): held until a commit. */
	NCMP_KIND_OPAQUE,
	/* Breaks its own format: held until a commit too, and counted. */
	NCMP_KIND_MALFORMED,
};

/* Whose it is, from the sender's view; zero-padded, so that it can be hashed and
 * compared as bytes. */
struct ncmp_flow_key {
	guint8 source[16], target[16]; /* IPv4 in the first four bytes */
	/* Host order; of ICMP echo: 0 and its identifier. */
	guint16 source_port, target_port;
	guint16 vlan, inner_vlan; /* outermost tag's VLAN and the next one's, else 0 */
	guint8 family; /* 4, 6; 0 for none */
	guint8 protocol; /* IPPROTO_*, after extension headers */
	guint8 device; /* the guest's card */
	guint8 pad[5];
};
G_STATIC_ASSERT(sizeof(struct ncmp_flow_key) == 48);

#define NCMP_TCP_FIN 0x01u
#define NCMP_TCP_SYN 0x02u
#define NCMP_TCP_RST 0x04u
#define NCMP_TCP_PSH 0x08u
#define NCMP_TCP_ACK 0x10u
#define NCMP_TCP_URG 0x20u

struct ncmp_packet {
	enum ncmp_kind kind;
	struct ncmp_flow_key key; /* of TCP and DATAGRAM */
	const guint8 *bytes; /* borrowed: the network-layer packet */
	gsize len; /* without Ethernet's padding, where the IP header says so */
	gsize transport; /* offset of the transport header in `bytes` */
	/* Of TCP: data; of DATAGRAM: all after the IP headers. */
	gsize payload, payload_len;
	/* TCP, in host order. */
	guint32 seq, ack;
	guint16 window, urgent;
	guint8 flags; /* NCMP_TCP_* */
	gsize timestamps; /* offset of the option's TSval (RFC 7323), 0: none */
	gsize sack; /* offset of the first SACK block (RFC 2018), 0: none */
	guint sack_blocks;
	guint8 window_scale; /* of a SYN (RFC 7323, at most 14), 0: none */
};

/* `bytes`: what follows the Ethernet header and VLAN tags, with this type (host order);
 * one more tag may be at its begin, and the type then that of a tag: packet->bytes is
 * behind it. */
void ncmp_packet_parse(struct ncmp_packet *packet, const guint8 *bytes, gsize len,
		       guint16 ethertype, guint16 vlan, guint8 device);
/* A whole Ethernet frame (without virtio_net_hdr); up to two VLAN tags. */
void ncmp_packet_parse_frame(struct ncmp_packet *packet, const guint8 *frame, gsize len,
			     guint8 device);

/* Bytes that the packet's stream moves on by: its data, and SYN and FIN. */
guint32 ncmp_packet_tcp_length(const struct ncmp_packet *packet);

/* RFC 1071's sum over `bytes`, added to `sum`; of several pieces only the last may have
 * an odd length. The other makes of it what a header has: folded to 16 bits and
 * complemented. */
guint32 ncmp_checksum_add(guint32 sum, const guint8 *bytes, gsize len);
guint16 ncmp_checksum_fold(guint32 sum);
/* Puts the right checksum into the TCP header of `bytes`, which is `packet` or a copy
 * of it with the same lengths. */
void ncmp_packet_tcp_checksum(const struct ncmp_packet *packet, guint8 *bytes);

#endif
