/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets as guests send them, made for tests: whole, with right lengths and checksums.
 */
#ifndef FAKE_PACKET_H
#define FAKE_PACKET_H

#include <glib.h>

#define FAKE_PACKET_MAX 65700u
#define FAKE_IPV4 0x0800u
#define FAKE_IPV6 0x86ddu

/* Where not said otherwise: IPv4, from 10.0.0.1 to 10.0.0.2. */
struct fake_packet {
	gboolean ipv6;
	guint8 host, peer; /* last byte of each address; 0: 1 and 2 */
	guint16 source_port, target_port;
	guint16 ip_id;
	guint8 ttl; /* 0: 64 */
	guint8 protocol; /* of fake_ip() */
	/* TCP */
	guint32 seq, ack;
	guint8 flags;
	guint16 window, urgent;
	const void *options; /* a multiple of four bytes */
	gsize options_len;
	const void *data;
	gsize len;
};

/* Each returns the length of what it wrote to `to`, which holds FAKE_PACKET_MAX. */
gsize fake_tcp(const struct fake_packet *from, guint8 *to);
gsize fake_udp(const struct fake_packet *from, guint8 *to);
/* `data` is what follows the IP header. */
gsize fake_ip(const struct fake_packet *from, guint8 *to);
/* An ICMP or ICMPv6 message with `data` behind its four bytes of type, code, checksum.
 */
gsize fake_icmp(const struct fake_packet *from, guint8 type, guint8 *to);
/* Behind an Ethernet header, padded to `least` bytes with `padding`. `vlan` 0: no tag.
 */
gsize fake_frame(const guint8 *packet, gsize len, guint16 ethertype, guint16 vlan,
		 gsize least, guint8 padding, guint8 *to);
guint16 fake_ethertype(const struct fake_packet *from);
/* Whether the TCP checksum of a packet (20 bytes of IPv4 header, 40 of IPv6) is right.
 */
gboolean fake_tcp_checksum_is_right(const guint8 *packet, gsize len);

#endif
