/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The addresses of a guest's network card, learned from the frames that the guest
 * sends, so that they can be announced after a promotion (checkpoint/announce.h).
 * Either node can learn them, or be told what the other one learned.
 *
 * Frames are the guest's and may be anything: they can make it known by wrong
 * addresses, at most CKPT_ADDRESSES_MAX of each family, and no more. Where there are
 * too many, those that were not heard of for longest are forgotten. One VLAN tag is
 * understood.
 *
 * An address is *claimed* where the guest itself says that it is its own: the sender of
 * an ARP packet, the source of a neighbour discovery packet or what it advertises
 * there, a link-local source. Others are merely sources, and perhaps of somebody whose
 * packets the guest forwards: these never displace a claimed one.
 *
 * The caller holds the device lock.
 */
#ifndef CKPT_ADDRESSES_H
#define CKPT_ADDRESSES_H

#include <glib.h>
#include <sys/uio.h>

#include "base/wire.h"

#define CKPT_ADDRESSES_MAX 16u /* of each family */
#define CKPT_ADDRESSES_ALL (3u * CKPT_ADDRESSES_MAX)

enum ckpt_address_family {
	CKPT_ADDRESS_LINK = 0, /* a MAC address, whatever it is used with */
	CKPT_ADDRESS_IP4 = 4,
	CKPT_ADDRESS_IP6 = 6,
};

#define CKPT_ADDRESS_CLAIMED 1u
#define CKPT_ADDRESS_ROUTER 2u /* IPv6: it says that it is a router */

/* One of them, in a form that can be sent to the other node. */
struct ckpt_address {
	guint8 family; /* enum ckpt_address_family */
	guint8 flags; /* CKPT_ADDRESS_... */
	wire_u16 vlan; /* 0: without a tag */
	guint8 mac[6];
	guint8 ip[16]; /* the first 4 for IPv4; the others zero */
};
G_STATIC_ASSERT(sizeof(struct ckpt_address) == 26);

typedef struct ckpt_addresses ckpt_addresses;

ckpt_addresses *ckpt_addresses_new(void);
void ckpt_addresses_free(ckpt_addresses *addresses);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_addresses, ckpt_addresses_free)

/* A frame that the guest sends, behind its 12-byte header: what a port's send() gets.
 */
void ckpt_addresses_learn(ckpt_addresses *addresses, const struct iovec *iov,
			  guint count);
/* Whether it is an address that a guest can have: what the other node says may be anything.
 */
gboolean ckpt_address_is_possible(const struct ckpt_address *address);
/* What the other node says; FALSE where it is not possible. */
gboolean ckpt_addresses_add(ckpt_addresses *addresses,
			    const struct ckpt_address *address);
/* Copies them out, families apart, in each what was heard of last at the end; adding
 * them elsewhere in this order gives the same. Returns how many. */
guint ckpt_addresses_copy(const ckpt_addresses *addresses,
			  struct ckpt_address to[CKPT_ADDRESSES_ALL]);

/* Grows when an address is new, forgotten or another, not when it is merely heard of. */
guint64 ckpt_addresses_changes(const ckpt_addresses *addresses);

/* fe80::/10 */
gboolean ckpt_address_is_link_local(const struct ckpt_address *address);

#endif
