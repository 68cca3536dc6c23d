/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.h - virtio-net, ARP, IPv4, ICMP echo and UDP; TCP is in tcp.c.
 *
 * UDP ports: 7 echoes, 9 counts, 9000 runs commands, 9010 is in faults.c. First vCPU
 * only. By default no offload is negotiated; `csum` and `tso` on the kernel command
 * line ask for them.
 */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include "types.h"
#include "virtio.h"

#define NICS_MAX 4
#define IP_TCP 6
#define TRANSPORT_MAX 1480 /* bytes after the IP header, without TSO */

struct nic {
	struct virtio *device;
	struct virtq *receive, *transmit;
	u8 mac[6];
	u32 ip, mask, gateway; /* host order */
	u32 buffer_size;
	u8 *free_send[64];
	u32 free_sends;
	bool checksum, segment; /* we may leave these to the device */
	u64 frames_in, frames_out, bad_checksum, dropped, no_buffer, gso_in,
		needs_csum_in;
};

/* A received transport payload; valid during the call only. */
struct packet {
	struct nic *nic;
	u8 mac[6];
	u32 from, to; /* host order */
	u8 *data;
	u32 length;
	bool checked; /* the device answers for the checksum */
};

void net_init(void);
u64 net_poll(u64 now);
struct nic *net_nic(u32 index);
bool net_configure(u32 index, const char *address); /* a.b.c.d/n */
void net_report(u32 index, char *out, u32 size);

/* Room for a transport segment, or NULL; then net_send() must follow. */
u8 *net_begin(struct nic *nic);
/* `checksum_at`: where in it the checksum goes (else ~0); `mss`: 0 or split by it. */
void net_send(struct nic *nic, u8 *segment, u32 length, u8 protocol, const u8 *mac,
	      u32 to, u32 checksum_at, u32 mss);
bool net_checksum_good(const struct packet *p, u8 protocol);
/* Sends a datagram, or drops it where there is no room. */
void net_udp(struct nic *nic, const u8 *mac, u32 to, u16 from_port, u16 to_port,
	     const void *data, u32 length);

/* `flood`: sends numbered datagrams; count 0 is for ever. */
const char *net_flood_start(u32 to, u16 port, u64 rate, u32 size, u64 count);
void net_flood_report(char *out, u32 size);
bool net_parse_ip(const char *text, u32 *ip, u32 *bits);

void put16(u8 *p, u16 v); /* network order */
void put32(u8 *p, u32 v);
u16 get16(const u8 *p);
u32 get32(const u8 *p);

#endif
