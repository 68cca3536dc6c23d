/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The addresses of a guest's network card.
 *
 * What is judged is a copy of a frame's first bytes: the frame lies in guest memory and
 * can change at any time. Each list is in the order in which its entries were last
 * heard of.
 */
#include "checkpoint/addresses.h"

#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <string.h>

#include "kvm/iov.h"

#define HEADER_LEN 12u
/* As far into a frame as anything of interest lies: with a tag, the target of a
 * neighbour advertisement. */
#define LOOKED_AT (ETH_HLEN + 4 + 40 + 8 + 16)
#define VLAN_MASK 0xfffu
#define VLAN_RESERVED 0xfffu
#define ICMPV6_HOPS 255 /* only neighbours can have sent it (RFC 4861, 7.1) */

struct list {
	guint count;
	struct ckpt_address of[CKPT_ADDRESSES_MAX]; /* heard of last: at the end */
};

struct ckpt_addresses {
	struct list link, ip4, ip6;
	guint64 changes;
};

/* What is left of a frame to look at. */
struct view {
	const guint8 *at;
	gsize left;
};

ckpt_addresses *ckpt_addresses_new(void)
{
	return g_new0(ckpt_addresses, 1);
}

void ckpt_addresses_free(ckpt_addresses *addresses)
{
	g_free(addresses);
}

gboolean ckpt_address_is_link_local(const struct ckpt_address *address)
{
	return address->family == CKPT_ADDRESS_IP6 && address->ip[0] == 0xfe &&
	       (address->ip[1] & 0xc0) == 0x80;
}

static gboolean is_zero(const guint8 *bytes, gsize len)
{
	for (gsize i = 0; i < len; i++)
		if (bytes[i])
			return FALSE;
	return TRUE;
}

static gboolean is_station(const guint8 mac[6])
{
	return !(mac[0] & 1) && !is_zero(mac, 6);
}

/* Neither 0/8 nor loopback, multicast, reserved or broadcast. */
static gboolean is_host4(const guint8 ip[16])
{
	return ip[0] && ip[0] != 127 && ip[0] < 224 && is_zero(ip + 4, 12);
}

/* Neither unspecified nor loopback nor multicast. */
static gboolean is_host6(const guint8 ip[16])
{
	return ip[0] != 0xff && !(is_zero(ip, 15) && ip[15] <= 1);
}

gboolean ckpt_address_is_possible(const struct ckpt_address *address)
{
	if (!is_station(address->mac) || wire_get16(address->vlan) >= VLAN_RESERVED)
		return FALSE;
	switch (address->family) {
	case CKPT_ADDRESS_LINK:
		return !address->flags && is_zero(address->ip, sizeof(address->ip));
	case CKPT_ADDRESS_IP4:
		return !(address->flags & ~CKPT_ADDRESS_CLAIMED) &&
		       is_host4(address->ip);
	case CKPT_ADDRESS_IP6:
		return !(address->flags &
			 ~(CKPT_ADDRESS_CLAIMED | CKPT_ADDRESS_ROUTER)) &&
		       is_host6(address->ip);
	default:
		return FALSE;
	}
}

static struct list *list_of(ckpt_addresses *addresses, guint8 family)
{
	return family == CKPT_ADDRESS_LINK  ? &addresses->link
	       : family == CKPT_ADDRESS_IP4 ? &addresses->ip4
					    : &addresses->ip6;
}

static gboolean same(const struct ckpt_address *a, const struct ckpt_address *b)
{
	if (a->vlan.le != b->vlan.le)
		return FALSE;
	if (a->family == CKPT_ADDRESS_LINK)
		return !memcmp(a->mac, b->mac, sizeof(a->mac));
	return !memcmp(a->ip, b->ip, sizeof(a->ip));
}

/* Moves entry `i` to the end; the others keep their order. */
static void move_to_end(struct list *list, guint i)
{
	struct ckpt_address moved = list->of[i];

	if (i + 1 == list->count)
		return;
	memmove(list->of + i, list->of + i + 1,
		(list->count - i - 1) * sizeof(list->of[0]));
	list->of[list->count - 1] = moved;
}

/* Puts a new entry at the end, in the place of another where the list is full; FALSE: there
 * is no place for it. */
static gboolean insert(struct list *list, const struct ckpt_address *address)
{
	guint i = 0;

	if (list->count < CKPT_ADDRESSES_MAX) {
		list->of[list->count++] = *address;
		return TRUE;
	}
	while (i < list->count && (list->of[i].flags & CKPT_ADDRESS_CLAIMED))
		i++;
	if (i == list->count) {
		if (!(address->flags & CKPT_ADDRESS_CLAIMED))
			return FALSE;
		i = 0;
	}
	move_to_end(list, i);
	list->of[list->count - 1] = *address;
	return TRUE;
}

/* `known`: which flags the address says, set or not; another claim is never taken back.
 */
static void remember(ckpt_addresses *addresses, struct ckpt_address *address,
		     guint known)
{
	struct list *list = list_of(addresses, address->family);
	guint i = list->count;
	struct ckpt_address *old, before;

	/* No router forwards those. */
	if (ckpt_address_is_link_local(address))
		address->flags |= CKPT_ADDRESS_CLAIMED;
	while (i > 0 && !same(&list->of[i - 1], address))
		i--;
	if (!i) {
		addresses->changes += insert(list, address);
		return;
	}
	old = &list->of[i - 1];
	before = *old;
	if (memcmp(old->mac, address->mac, sizeof(old->mac))) {
		if ((old->flags & ~address->flags) & CKPT_ADDRESS_CLAIMED)
			return;
		memcpy(old->mac, address->mac, sizeof(old->mac));
	}
	old->flags = (guint8)((old->flags & ~known) | address->flags);
	addresses->changes += memcmp(&before, old, sizeof(before)) != 0;
	move_to_end(list, i - 1);
}

static void learn(ckpt_addresses *addresses, struct ckpt_address *address, guint known)
{
	if (ckpt_address_is_possible(address))
		remember(addresses, address, known);
}

static void learn_arp(ckpt_addresses *addresses, struct ckpt_address *address,
		      struct view view)
{
	/* Ethernet, IPv4, lengths of 6 and 4. */
	static const guint8 ours[6] = { 0, 1, 8, 0, 6, 4 };

	if (view.left < 28 || memcmp(view.at, ours, sizeof(ours)))
		return;
	address->family = CKPT_ADDRESS_IP4;
	address->flags = CKPT_ADDRESS_CLAIMED;
	memcpy(address->mac, view.at + 8, 6);
	memcpy(address->ip, view.at + 14, 4);
	learn(addresses, address, 0);
}

static void learn_ip4(ckpt_addresses *addresses, struct ckpt_address *address,
		      struct view view)
{
	if (view.left < 20 || view.at[0] >> 4 != 4)
		return;
	address->family = CKPT_ADDRESS_IP4;
	memcpy(address->ip, view.at + 12, 4);
	learn(addresses, address, 0);
}

/* `view`: ICMPv6 from `address`, which no router has forwarded. */
static void learn_neighbour(ckpt_addresses *addresses, struct ckpt_address *address,
			    struct view view)
{
	guint known = 0;

	if (view.left < 8 || view.at[0] < ND_ROUTER_SOLICIT ||
	    view.at[0] > ND_REDIRECT) {
		learn(addresses, address, 0);
		return;
	}
	address->flags = CKPT_ADDRESS_CLAIMED;
	if (view.at[0] == ND_ROUTER_ADVERT ||
	    (view.at[0] == ND_NEIGHBOR_ADVERT && (view.at[4] & 0x80)))
		address->flags |= CKPT_ADDRESS_ROUTER;
	if (view.at[0] == ND_ROUTER_ADVERT || view.at[0] == ND_NEIGHBOR_ADVERT)
		known = CKPT_ADDRESS_ROUTER;
	learn(addresses, address, known);
	if (view.at[0] == ND_NEIGHBOR_ADVERT && view.left >= 24) {
		memcpy(address->ip, view.at + 8, 16);
		learn(addresses, address, known);
	}
}

static void learn_ip6(ckpt_addresses *addresses, struct ckpt_address *address,
		      struct view view)
{
	if (view.left < 40 || view.at[0] >> 4 != 6)
		return;
	address->family = CKPT_ADDRESS_IP6;
	memcpy(address->ip, view.at + 8, 16);
	if (view.at[6] == IPPROTO_ICMPV6 && view.at[7] == ICMPV6_HOPS)
		learn_neighbour(addresses, address,
				(struct view){ view.at + 40, view.left - 40 });
	else
		learn(addresses, address, 0);
}

static guint get16(const guint8 *at)
{
	return (guint)at[0] << 8 | at[1];
}

void ckpt_addresses_learn(ckpt_addresses *addresses, const struct iovec *iov,
			  guint count)
{
	guint8 bytes[LOOKED_AT];
	struct view view = { bytes, vmm_iov_read(iov, count, HEADER_LEN, bytes,
						 sizeof(bytes)) };
	struct ckpt_address address = { .family = CKPT_ADDRESS_LINK };
	guint skip = ETH_HLEN;
	guint type;

	if (view.left < ETH_HLEN)
		return;
	memcpy(address.mac, bytes + ETH_ALEN, ETH_ALEN);
	type = get16(bytes + 12);
	if (type == ETH_P_8021Q) {
		skip += 4;
		if (view.left < skip)
			return;
		address.vlan = wire_put16(get16(bytes + ETH_HLEN) & VLAN_MASK);
		type = get16(bytes + 16);
	}
	if (!ckpt_address_is_possible(&address))
		return;
	remember(addresses, &address, 0);
	view.at += skip;
	view.left -= skip;
	if (type == ETH_P_ARP)
		learn_arp(addresses, &address, view);
	else if (type == ETH_P_IP)
		learn_ip4(addresses, &address, view);
	else if (type == ETH_P_IPV6)
		learn_ip6(addresses, &address, view);
}

gboolean ckpt_addresses_add(ckpt_addresses *addresses,
			    const struct ckpt_address *address)
{
	struct ckpt_address copy = *address;

	if (!ckpt_address_is_possible(&copy))
		return FALSE;
	remember(addresses, &copy, CKPT_ADDRESS_ROUTER);
	return TRUE;
}

guint ckpt_addresses_copy(const ckpt_addresses *addresses,
			  struct ckpt_address to[CKPT_ADDRESSES_ALL])
{
	const struct list *lists[] = { &addresses->link, &addresses->ip4,
				       &addresses->ip6 };
	guint n = 0;

	for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
		memcpy(to + n, lists[i]->of, lists[i]->count * sizeof(to[0]));
		n += lists[i]->count;
	}
	return n;
}

guint64 ckpt_addresses_changes(const ckpt_addresses *addresses)
{
	return addresses->changes;
}
