/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames that say where a guest's card is now. */
#include "checkpoint/announce.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <string.h>

#include "base/clock.h"

#define HEADER_LEN 12u
#define FRAME_MIN 60u /* what Ethernet carries, without its checksum */
#define FRAME_MAX 128u
#define ND_OVERRIDE 0x20
#define ND_ROUTER 0x80
#define OPTION_TARGET_LINK 2
#define OPTION_LEN 1 /* of 8 bytes */
#define ADVERTISEMENT_LEN (8u + 16 + 8)

struct frame {
	gsize len;
	guint8 bytes[FRAME_MAX]; /* zero beyond `len` */
};

struct snapshot {
	guint count;
	struct ckpt_address of[CKPT_ADDRESSES_ALL];
};

static const guint8 broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const guint8 zero[6];

static void put(struct frame *frame, const void *bytes, gsize len)
{
	g_assert(len <= FRAME_MAX - frame->len);
	memcpy(frame->bytes + frame->len, bytes, len);
	frame->len += len;
}

static void put8(struct frame *frame, guint value)
{
	guint8 byte = (guint8)value;

	put(frame, &byte, 1);
}

static void put16(struct frame *frame, guint value)
{
	put8(frame, value >> 8);
	put8(frame, value & 0xff);
}

static void begin(struct frame *frame, const guint8 to[6],
		  const struct ckpt_address *address, guint type)
{
	guint vlan = wire_get16(address->vlan);

	*frame = (struct frame){ 0 };
	put(frame, to, 6);
	put(frame, address->mac, 6);
	if (vlan) {
		put16(frame, ETH_P_8021Q);
		put16(frame, vlan);
	}
	put16(frame, type);
}

static gboolean send_frame(struct vmm_net_port *port, struct frame *frame)
{
	guint8 header[HEADER_LEN] = { 0 };
	struct iovec iov[] = { { header, sizeof(header) },
			       { frame->bytes, MAX(frame->len, FRAME_MIN) } };

	return port->send(port->data, iov, G_N_ELEMENTS(iov));
}

/* ARP or RARP, which have one layout. */
static gboolean send_arp(struct vmm_net_port *port, const struct ckpt_address *address,
			 guint type, guint operation, const guint8 target[6])
{
	struct frame frame;

	begin(&frame, broadcast, address, type);
	put16(&frame, ARPHRD_ETHER);
	put16(&frame, ETH_P_IP);
	put8(&frame, 6);
	put8(&frame, 4);
	put16(&frame, operation);
	put(&frame, address->mac, 6);
	put(&frame, address->ip, 4);
	put(&frame, target, 6);
	put(&frame, address->ip, 4);
	return send_frame(port, &frame);
}

/* The Internet checksum's sum over `len` bytes, an even number. */
static guint32 sum(const guint8 *bytes, gsize len)
{
	guint32 total = 0;

	for (gsize i = 0; i < len; i += 2)
		total += (guint32)bytes[i] << 8 | bytes[i + 1];
	return total;
}

/* Over the pseudo-header (RFC 8200, 8.1) and the message behind the header at `ip`. */
static guint checksum6(const guint8 *ip, gsize len)
{
	guint32 total = sum(ip + 8, 32) + (guint32)len + IPPROTO_ICMPV6;

	total += sum(ip + 40, len);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return ~total & 0xffff;
}

static gboolean send_advertisement(struct vmm_net_port *port,
				   const struct ckpt_address *address, gboolean router)
{
	static const guint8 all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const guint8 all_nodes[16] = { 0xff, 2, [15] = 1 };
	struct frame frame;
	guint8 *ip;
	guint checksum;

	begin(&frame, all_nodes_mac, address, ETH_P_IPV6);
	ip = frame.bytes + frame.len;
	put8(&frame, 0x60);
	put8(&frame, 0);
	put16(&frame, 0);
	put16(&frame, ADVERTISEMENT_LEN);
	put8(&frame, IPPROTO_ICMPV6);
	put8(&frame, 255);
	put(&frame, address->ip, 16);
	put(&frame, all_nodes, 16);
	put8(&frame, ND_NEIGHBOR_ADVERT);
	put8(&frame, 0);
	put16(&frame, 0); /* the checksum, when the rest is there */
	/* Without the router flag its neighbours would drop a router as their default
	 * one (RFC 4861, 7.2.5). */
	put8(&frame, ND_OVERRIDE | (router ? ND_ROUTER : 0));
	put8(&frame, 0);
	put16(&frame, 0);
	put(&frame, address->ip, 16);
	put8(&frame, OPTION_TARGET_LINK);
	put8(&frame, OPTION_LEN);
	put(&frame, address->mac, 6);
	checksum = checksum6(ip, ADVERTISEMENT_LEN);
	ip[42] = (guint8)(checksum >> 8);
	ip[43] = (guint8)checksum;
	return send_frame(port, &frame);
}

static gboolean same_card(const struct ckpt_address *a, const struct ckpt_address *b)
{
	return a->vlan.le == b->vlan.le && !memcmp(a->mac, b->mac, sizeof(a->mac));
}

/* A link-local address says nothing of whether others are forwarded. */
static gboolean is_spoken_for(const struct snapshot *all,
			      const struct ckpt_address *address)
{
	if (address->flags & CKPT_ADDRESS_CLAIMED)
		return FALSE;
	for (guint i = 0; i < all->count; i++) {
		const struct ckpt_address *other = &all->of[i];

		if (other->family == address->family && same_card(other, address) &&
		    (other->flags & CKPT_ADDRESS_CLAIMED) &&
		    !ckpt_address_is_link_local(other))
			return TRUE;
	}
	return FALSE;
}

static gboolean is_router(const struct snapshot *all,
			  const struct ckpt_address *address)
{
	for (guint i = 0; i < all->count; i++)
		if (same_card(&all->of[i], address) &&
		    (all->of[i].flags & CKPT_ADDRESS_ROUTER))
			return TRUE;
	return FALSE;
}

static gboolean has_ip(const struct snapshot *all, const struct ckpt_address *link)
{
	for (guint i = 0; i < all->count; i++)
		if (all->of[i].family != CKPT_ADDRESS_LINK &&
		    same_card(&all->of[i], link))
			return TRUE;
	return FALSE;
}

static gboolean announce_one(const struct snapshot *all,
			     const struct ckpt_address *address,
			     struct vmm_net_port *port)
{
	if (is_spoken_for(all, address))
		return TRUE;
	switch (address->family) {
	case CKPT_ADDRESS_IP4:
		return send_arp(port, address, ETH_P_ARP, ARPOP_REQUEST, zero) &&
		       send_arp(port, address, ETH_P_ARP, ARPOP_REPLY, address->mac);
	case CKPT_ADDRESS_IP6:
		return send_advertisement(port, address, is_router(all, address));
	default:
		return has_ip(all, address) || send_arp(port, address, ETH_P_RARP,
							ARPOP_RREQUEST, address->mac);
	}
}

gboolean ckpt_announce(const ckpt_addresses *addresses, const guint8 *mac,
		       struct vmm_net_port *port)
{
	struct ckpt_address own = { .family = CKPT_ADDRESS_LINK };
	struct snapshot all;

	all.count = ckpt_addresses_copy(addresses, all.of);
	if (!all.count && mac) {
		memcpy(own.mac, mac, sizeof(own.mac));
		return announce_one(&all, &own, port);
	}
	for (guint i = 0; i < all.count; i++)
		if (!announce_one(&all, &all.of[i], port))
			return FALSE;
	return TRUE;
}

/* After the first. Switches learn from that; the others are for those that were lost, or
 * came while a bridge's port was not forwarding yet. */
static const guint at_ms[] = { 100, 300, 1000 };
/* A host that stood still may find the other one promoted, and is told so within this. */
#define TICK_MS 50u
#define LATE_MS 100u
#define PUT_OFF_MS 500u

struct ckpt_announcer {
	const ckpt_addresses *addresses;
	const guint8 *mac;
	struct vmm_net_port *port;
	vmm_timer *timer;
	guint64 ticked_ns;
	guint waited_ms, put_off_ms; /* without what it stood still */
	guint again; /* which of them comes next */
};

static void announce(ckpt_announcer *announcer)
{
	if (!ckpt_announce(announcer->addresses, announcer->mac, announcer->port))
		g_debug("announcement %u: no room for all of it", announcer->again);
}

static gboolean is_late(ckpt_announcer *announcer)
{
	const guint64 now = base_clock_monotonic_ns();
	const guint64 passed_ms = (now - announcer->ticked_ns) / 1000000;

	announcer->ticked_ns = now;
	return passed_ms > TICK_MS + LATE_MS;
}

static void tick(void *data)
{
	ckpt_announcer *announcer = data;

	if (is_late(announcer))
		announcer->put_off_ms = PUT_OFF_MS;
	else if (announcer->put_off_ms)
		announcer->put_off_ms -= TICK_MS;
	else
		announcer->waited_ms += TICK_MS;
	if (announcer->waited_ms >= at_ms[announcer->again] && !announcer->put_off_ms) {
		announce(announcer);
		announcer->again++;
	}
	if (announcer->again < G_N_ELEMENTS(at_ms))
		vmm_timer_set(announcer->timer, TICK_MS, 0);
}

ckpt_announcer *ckpt_announcer_new(vmm_loop *loop, const ckpt_addresses *addresses,
				   const guint8 *mac, struct vmm_net_port *port)
{
	ckpt_announcer *announcer = g_new0(ckpt_announcer, 1);

	announcer->addresses = addresses;
	announcer->mac = mac;
	announcer->port = port;
	announcer->timer = vmm_timer_new(loop, tick, announcer);
	announce(announcer);
	announcer->ticked_ns = base_clock_monotonic_ns();
	vmm_timer_set(announcer->timer, TICK_MS, 0);
	return announcer;
}

void ckpt_announcer_free(ckpt_announcer *announcer)
{
	if (!announcer)
		return;
	vmm_timer_free(announcer->timer);
	g_free(announcer);
}
