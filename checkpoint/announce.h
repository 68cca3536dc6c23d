/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the network where a promoted guest's card is now: switches by the frames'
 * source, neighbours by what the frames say.
 */
#ifndef CKPT_ANNOUNCE_H
#define CKPT_ANNOUNCE_H

#include "checkpoint/addresses.h"
#include "kvm/net.h"
#include "kvm/timer.h"

/* Sends through `port`, as from the guest: for each IPv4 address gratuitous ARP, as
 * request and as reply (RFC 826, RFC 5227); for each IPv6 address a neighbour
 * advertisement to all nodes (RFC 4861, 7.2.6); for a MAC address with neither a RARP
 * request, as other hypervisors do; with the VLAN tag that it was learned with.
 *
 * An address that is not claimed (see checkpoint/addresses.h) is left out where the
 * card has claimed one of its family: it may be a host whose packets the guest
 * forwards.
 *
 * Any of the frames may be lost: repeat it a few times within seconds. FALSE: the port
 * had no room for all. `port`: what really sends, not one that learns from it (see
 * ckpt_twin_port_real()). `mac`: the card's own (6 bytes), announced (RARP) where the guest
 * has not sent anything yet; or NULL. With the device lock held. */
gboolean ckpt_announce(const ckpt_addresses *addresses, const guint8 *mac,
		       struct vmm_net_port *port);

/* Does so at once, and 100 ms, 300 ms and 1 s later: with what is known by then. All are
 * borrowed and live longer. One that would be late, since the host or the loop stood still, is put
 * off by half a second: if somebody else was promoted meanwhile, that is known by then. With the
 * device lock held; the later ones come from `loop`. */
typedef struct ckpt_announcer ckpt_announcer;
ckpt_announcer *ckpt_announcer_new(vmm_loop *loop, const ckpt_addresses *addresses,
				   const guint8 *mac, struct vmm_net_port *port);
/* At any time: those that are due later do not come. */
void ckpt_announcer_free(ckpt_announcer *announcer);

#endif
