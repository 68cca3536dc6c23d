/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.c - virtio-net, ARP, IPv4, ICMP echo and UDP.
 *
 * Answers go back to the MAC address that the question came from, so that only what we
 * start ourselves (`flood`) needs ARP.
 */
#include "net.h"

#include "clock.h"
#include "command.h"
#include "faults.h"
#include "loop.h"
#include "memory.h"
#include "tcp.h"
#include "text.h"

#define F_CSUM (1ul << 0)
#define F_GUEST_CSUM (1ul << 1)
#define F_MAC (1ul << 5)
#define F_GUEST_TSO4 (1ul << 7)
#define F_HOST_TSO4 (1ul << 11)

#define HEADER 12 /* struct virtio_net_hdr of VIRTIO 1 */
#define H_NEEDS_CSUM 1
#define H_DATA_VALID 2
#define GSO_TCPV4 1
#define ETHERNET 14
#define IPV4 20
#define UDP 8
#define BEFORE (HEADER + ETHERNET + IPV4)
#define SMALL_BUFFER 2048
#define BIG_BUFFER 69632 /* 64 KiB of packet and its headers, in pages */
#define RECEIVE_BUFFERS 128
#define BIG_BUFFERS 32
#define TYPE_IP 0x0800
#define TYPE_ARP 0x0806
#define IP_ICMP 1
#define IP_UDP 17
#define PORT_ECHO 7
#define PORT_SINK 9
#define PORT_COMMAND 9000

static struct nic nics[NICS_MAX];
static u32 nics_found;

static struct {
	u64 datagrams, bytes, gaps, next;
} sink;

static struct {
	struct nic *nic;
	u32 to, size;
	u16 port;
	u8 mac[6];
	bool resolved;
	u64 period, next, left, sent, no_room, asked;
	bool endless;
} flood;

void put16(u8 *p, u16 v)
{
	p[0] = v >> 8;
	p[1] = v;
}

void put32(u8 *p, u32 v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

u16 get16(const u8 *p)
{
	return p[0] << 8 | p[1];
}

u32 get32(const u8 *p)
{
	return (u32)get16(p) << 16 | get16(p + 2);
}

static u32 sum16(u32 sum, const u8 *p, u32 n)
{
	for (; n > 1; n -= 2, p += 2) {
		sum += get16(p);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	if (n)
		sum += p[0] << 8;
	return sum;
}

static u16 fold(u32 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static u32 pseudo(u32 from, u32 to, u8 protocol, u32 length)
{
	return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) + protocol +
	       length;
}

bool net_checksum_good(const struct packet *p, u8 protocol)
{
	if (p->checked)
		return true;
	return fold(sum16(pseudo(p->from, p->to, protocol, p->length), p->data,
			  p->length)) == 0xffff;
}

bool net_parse_ip(const char *text, u32 *ip, u32 *bits)
{
	u32 value = 0, part = 0, parts = 0, digits = 0;

	*bits = 24;
	for (;; text++) {
		if (*text >= '0' && *text <= '9' && digits < 3) {
			part = part * 10 + (*text - '0');
			digits++;
			continue;
		}
		if (!digits || part > 255 || parts == 4)
			return false;
		value = value << 8 | part;
		parts++;
		part = digits = 0;
		if (*text != '.')
			break;
	}
	if (parts != 4)
		return false;
	*ip = value;
	if (*text == '/') {
		u64 n;

		if (!to_number(text + 1, &n) || n > 32)
			return false;
		*bits = n;
	}
	return true;
}

bool net_configure(u32 index, const char *address)
{
	u32 ip, bits;

	if (index >= nics_found || !net_parse_ip(address, &ip, &bits))
		return false;
	nics[index].ip = ip;
	nics[index].mask = bits ? ~0u << (32 - bits) : 0;
	return true;
}

static void give_back(struct nic *nic, u8 *buffer)
{
	struct segment s = { buffer, nic->buffer_size };

	virtq_add(nic->receive, &s, 0, 1, buffer);
}

static bool start_nic(struct nic *nic)
{
	struct virtio *dev = nic->device;
	u64 wanted = F_MAC;
	u32 buffers;
	u8 *memory;

	if (option_flag("csum") || option_flag("tso"))
		wanted |= F_CSUM | F_GUEST_CSUM;
	if (option_flag("tso"))
		wanted |= F_GUEST_TSO4 | F_HOST_TSO4;
	nic->receive = memory_take(sizeof(*nic->receive));
	nic->transmit = memory_take(sizeof(*nic->transmit));
	if (!virtio_begin(dev, wanted) ||
	    !virtq_setup(dev, 0, nic->receive, RECEIVE_BUFFERS, false) ||
	    !virtq_setup(dev, 1, nic->transmit, 128, true))
		return false;
	nic->checksum = dev->features & F_CSUM;
	nic->segment = dev->features & F_HOST_TSO4;
	nic->buffer_size = dev->features & (F_GUEST_TSO4 | F_HOST_TSO4) ? BIG_BUFFER
									: SMALL_BUFFER;
	for (u32 i = 0; i < 6; i++)
		nic->mac[i] = virtio_config8(dev, i);
	virtio_ready(dev);
	buffers = nic->buffer_size == BIG_BUFFER ? BIG_BUFFERS : RECEIVE_BUFFERS;
	memory = memory_take((u64)buffers * nic->buffer_size);
	for (u32 i = 0; i < buffers && nic->receive->free; i++)
		give_back(nic, memory + (u64)i * nic->buffer_size);
	virtq_kick(nic->receive);
	buffers = nic->buffer_size == BIG_BUFFER ? 16 : ARRAY_SIZE(nic->free_send);
	memory = memory_take((u64)buffers * nic->buffer_size);
	for (u32 i = 0; i < buffers; i++)
		nic->free_send[nic->free_sends++] = memory + (u64)i * nic->buffer_size;
	return true;
}

void net_init(void)
{
	struct virtio *device;

	while (nics_found < NICS_MAX &&
	       (device = virtio_find(VIRTIO_NET, nics_found))) {
		char name[8] = "ip", value[32];

		nics[nics_found].device = device;
		if (!start_nic(&nics[nics_found]))
			return;
		if (nics_found++)
			format(name, sizeof(name), "ip%u", nics_found - 1);
		if (option(name, value, sizeof(value)))
			net_configure(nics_found - 1, value);
	}
	tcp_init();
}

struct nic *net_nic(u32 index)
{
	return index < nics_found ? &nics[index] : NULL;
}

static void reclaim(struct nic *nic)
{
	u8 *buffer;

	while ((buffer = virtq_pop(nic->transmit, NULL)))
		nic->free_send[nic->free_sends++] = buffer;
}

static u8 *begin_frame(struct nic *nic)
{
	u8 *buffer;

	if (!nic->free_sends)
		reclaim(nic);
	if (!nic->free_sends) {
		nic->no_buffer++;
		return NULL;
	}
	buffer = nic->free_send[--nic->free_sends];
	memset(buffer, 0, HEADER);
	return buffer;
}

static void send_frame(struct nic *nic, u8 *buffer, u32 length, const u8 *mac, u16 type)
{
	struct segment s = { buffer, length };
	u8 *ethernet = buffer + HEADER;

	memcpy(ethernet, mac, 6);
	memcpy(ethernet + 6, nic->mac, 6);
	put16(ethernet + 12, type);
	virtq_add(nic->transmit, &s, 1, 0, buffer);
	nic->frames_out++;
}

u8 *net_begin(struct nic *nic)
{
	u8 *buffer = begin_frame(nic);

	return buffer ? buffer + BEFORE : NULL;
}

void net_send(struct nic *nic, u8 *segment, u32 length, u8 protocol, const u8 *mac,
	      u32 to, u32 checksum_at, u32 mss)
{
	u8 *buffer = segment - BEFORE, *ip = buffer + HEADER + ETHERNET;
	u32 sum = pseudo(nic->ip, to, protocol, length);

	memset(ip, 0, IPV4);
	ip[0] = 0x45;
	put16(ip + 2, IPV4 + length);
	put16(ip + 6, 0x4000); /* do not fragment; no identification needed */
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, nic->ip);
	put32(ip + 16, to);
	put16(ip + 10, ~fold(sum16(0, ip, IPV4)));
	if (checksum_at != ~0u && nic->checksum) {
		put16(segment + checksum_at, fold(sum));
		buffer[0] = H_NEEDS_CSUM;
		*(u16 *)(buffer + 6) = ETHERNET + IPV4;
		*(u16 *)(buffer + 8) = checksum_at;
		if (mss) {
			buffer[1] = GSO_TCPV4;
			*(u16 *)(buffer + 2) = ETHERNET + IPV4 + (segment[12] >> 4) * 4;
			*(u16 *)(buffer + 4) = mss;
		}
	} else if (checksum_at != ~0u) {
		u16 value;

		put16(segment + checksum_at, 0);
		value = ~fold(sum16(sum, segment, length));
		put16(segment + checksum_at,
		      value || protocol != IP_UDP ? value : 0xffff);
	}
	send_frame(nic, buffer, BEFORE + length, mac, TYPE_IP);
}

static void send_arp(struct nic *nic, u16 operation, const u8 *mac,
		     const u8 *target_mac, u32 target)
{
	u8 *buffer = begin_frame(nic), *arp;

	if (!buffer)
		return;
	arp = buffer + HEADER + ETHERNET;
	put16(arp, 1);
	put16(arp + 2, TYPE_IP);
	arp[4] = 6;
	arp[5] = 4;
	put16(arp + 6, operation);
	memcpy(arp + 8, nic->mac, 6);
	put32(arp + 14, nic->ip);
	memcpy(arp + 18, target_mac, 6);
	put32(arp + 24, target);
	send_frame(nic, buffer, HEADER + ETHERNET + 28, mac, TYPE_ARP);
}

static void on_arp(struct nic *nic, const u8 *arp, u32 length)
{
	if (length < 28 || get16(arp + 2) != TYPE_IP || get32(arp + 24) != nic->ip)
		return;
	if (get16(arp + 6) == 1)
		send_arp(nic, 2, arp + 8, arp + 8, get32(arp + 14));
	if (flood.nic == nic && get32(arp + 14) == flood.to) {
		memcpy(flood.mac, arp + 8, 6);
		flood.resolved = true;
	}
}

static void on_icmp(struct packet *p)
{
	u8 *out;

	if (p->length < 8 || p->length > TRANSPORT_MAX || p->data[0] != 8)
		return;
	if (fold(sum16(0, p->data, p->length)) != 0xffff) {
		p->nic->bad_checksum++;
		return;
	}
	out = net_begin(p->nic);
	if (!out)
		return;
	memcpy(out, p->data, p->length);
	out[0] = 0;
	put16(out + 2, 0);
	put16(out + 2, ~fold(sum16(0, out, p->length)));
	net_send(p->nic, out, p->length, IP_ICMP, p->mac, p->from, ~0u, 0);
}

void net_udp(struct nic *nic, const u8 *mac, u32 to, u16 from_port, u16 to_port,
	     const void *data, u32 length)
{
	u8 *out = net_begin(nic);

	if (!out)
		return;
	put16(out, from_port);
	put16(out + 2, to_port);
	put16(out + 4, UDP + length);
	put16(out + 6, 0);
	memcpy(out + UDP, data, length);
	net_send(nic, out, UDP + length, IP_UDP, mac, to, 6, 0);
}

static void on_sink(const u8 *data, u32 length)
{
	sink.datagrams++;
	sink.bytes += length;
	if (length >= 8) {
		u64 number = *(const u64 *)data;

		if (number != sink.next)
			sink.gaps++;
		sink.next = number + 1;
	}
}

static void on_command(struct packet *p, u16 port, u8 *data, u32 length)
{
	/* A command may send and receive while it waits: it gets copies. */
	char line[LINE_MAX], reply[LINE_MAX];
	struct nic *nic = p->nic;
	u32 from = p->from;
	u8 mac[6];

	if (length >= sizeof(line))
		return;
	memcpy(line, data, length);
	line[length] = 0;
	memcpy(mac, p->mac, 6);
	command_run(line, reply);
	format_more(reply, sizeof(reply), "\n");
	net_udp(nic, mac, from, PORT_COMMAND, port, reply, text_length(reply));
}

static void on_udp(struct packet *p)
{
	u16 from, to, length;

	if (p->length < UDP)
		return;
	from = get16(p->data);
	to = get16(p->data + 2);
	length = get16(p->data + 4);
	if (length < UDP || length > p->length)
		return;
	p->length = length;
	if (get16(p->data + 6) && !net_checksum_good(p, IP_UDP)) {
		p->nic->bad_checksum++;
		return;
	}
	if (to == PORT_ECHO && length <= TRANSPORT_MAX)
		net_udp(p->nic, p->mac, p->from, to, from, p->data + UDP, length - UDP);
	else if (to == PORT_SINK)
		on_sink(p->data + UDP, length - UDP);
	else if (to == PORT_COMMAND)
		on_command(p, from, p->data + UDP, length - UDP);
	else if (to == FAULTS_PORT)
		faults_receive(p, from, p->data + UDP, length - UDP);
}

static void on_ip(struct nic *nic, u8 *frame, u32 length, u8 flags)
{
	u8 *ip = frame + ETHERNET;
	u32 header = (ip[0] & 15) * 4, total;
	struct packet p = { .nic = nic,
			    .checked = flags & (H_NEEDS_CSUM | H_DATA_VALID) };

	length -= ETHERNET;
	if (length < IPV4 || ip[0] >> 4 != 4 || header < IPV4 || header > length)
		return;
	total = get16(ip + 2);
	if (total < header || total > length || get32(ip + 16) != nic->ip)
		return;
	if (fold(sum16(0, ip, header)) != 0xffff) {
		nic->bad_checksum++;
		return;
	}
	if (get16(ip + 6) & 0x3fff) { /* fragments are not put together */
		nic->dropped++;
		return;
	}
	memcpy(p.mac, frame + 6, 6);
	p.from = get32(ip + 12);
	p.to = nic->ip;
	p.data = ip + header;
	p.length = total - header;
	if (ip[9] == IP_ICMP)
		on_icmp(&p);
	else if (ip[9] == IP_UDP)
		on_udp(&p);
	else if (ip[9] == IP_TCP)
		tcp_receive(&p);
}

static void on_frame(struct nic *nic, u8 *buffer, u32 length)
{
	u8 *frame = buffer + HEADER;

	nic->frames_in++;
	if (length < HEADER + ETHERNET || length > nic->buffer_size) {
		nic->dropped++;
		return;
	}
	if (buffer[0] & H_NEEDS_CSUM)
		nic->needs_csum_in++;
	if (buffer[1])
		nic->gso_in++;
	if (get16(frame + 12) == TYPE_ARP)
		on_arp(nic, frame + ETHERNET, length - HEADER - ETHERNET);
	else if (get16(frame + 12) == TYPE_IP)
		on_ip(nic, frame, length - HEADER, buffer[0]);
}

u64 net_poll(u64 now)
{
	u64 due;

	for (u32 i = 0; i < nics_found; i++) {
		struct nic *nic = &nics[i];
		u32 length;
		u8 *buffer;

		if (!virtq_interrupted(nic->receive))
			continue;
		/* Bounded, so that a flood does not starve the rest of the loop. */
		for (u32 n = 0; n < 64 && (buffer = virtq_pop(nic->receive, &length));
		     n++) {
			on_frame(nic, buffer, length);
			give_back(nic, buffer);
		}
		virtq_kick(nic->receive);
	}
	due = tcp_poll(now);
	for (u32 i = 0; i < nics_found; i++) {
		virtq_kick(nics[i].transmit);
		if (virtq_interrupted(nics[i].receive))
			due = 0;
	}
	return due;
}

void net_report(u32 index, char *out, u32 size)
{
	struct nic *n = &nics[index];

	format(out, size,
	       "ok nic=%u mac=%02x:%02x:%02x:%02x:%02x:%02x ip=%u.%u.%u.%u "
	       "features=%lx in=%lu "
	       "out=%lu bad_checksum=%lu dropped=%lu no_buffer=%lu needs_csum_in=%lu "
	       "gso_in=%lu udp_sink=%lu udp_bytes=%lu udp_gaps=%lu",
	       index, n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
	       n->ip >> 24, n->ip >> 16 & 255, n->ip >> 8 & 255, n->ip & 255,
	       n->device->features, n->frames_in, n->frames_out, n->bad_checksum,
	       n->dropped, n->no_buffer, n->needs_csum_in, n->gso_in, sink.datagrams,
	       sink.bytes, sink.gaps);
}

static u64 flood_step(u64 now)
{
	static const u8 everyone[6] = { 255, 255, 255, 255, 255, 255 };
	static const u8 nobody[6];
	u8 data[TRANSPORT_MAX];

	if (!flood.resolved) {
		send_arp(flood.nic, 1, everyone, nobody, flood.to);
		virtq_kick(flood.nic->transmit);
		flood.next = now + 100000000;
		return flood.next;
	}
	for (u32 i = 0; i < 32 && flood.next <= now; i++) {
		if (!flood.endless && !flood.left)
			return NEVER;
		if (!flood.nic->free_sends)
			reclaim(flood.nic);
		flood.next += flood.period;
		if (!flood.nic->free_sends) {
			flood.no_room++;
			break;
		}
		for (u32 at = 0; at + 8 <= flood.size; at += 8)
			*(u64 *)(data + at) = flood.sent + at;
		net_udp(flood.nic, flood.mac, flood.to, PORT_SINK, flood.port, data,
			flood.size);
		flood.sent++;
		flood.left--;
	}
	virtq_kick(flood.nic->transmit);
	if (flood.next + 100000000 < now)
		flood.next = now;
	return flood.next;
}

const char *net_flood_start(u32 to, u16 port, u64 rate, u32 size, u64 count)
{
	if (!nics_found)
		return "no virtio-net";
	if (size < 8 || size > TRANSPORT_MAX - UDP || !rate)
		return "bad size or rate";
	job_stop(JOB_FLOOD);
	flood.nic = &nics[0];
	flood.to = to;
	flood.port = port;
	flood.size = size;
	flood.period = 1000000000ul / rate;
	flood.left = count;
	flood.endless = !count;
	flood.resolved = false;
	flood.sent = flood.no_room = 0;
	job_start(JOB_FLOOD, flood_step, 0);
	return NULL;
}

void net_flood_report(char *out, u32 size)
{
	format(out, size, "ok running=%u resolved=%u sent=%lu no_room=%lu",
	       job_running(JOB_FLOOD), flood.resolved, flood.sent, flood.no_room);
}
