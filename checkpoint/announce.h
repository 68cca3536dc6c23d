/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the network where a promoted guest's card is now: switches by the frames'
 * source, neighbours by what the frames say.
 */
#ifndef CKPT_ANNOUNCE_H
#define CKPT_ANNOUNCE_H

#include "checkpoint/addresses.h"
#include "kvm/net.h"

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
 * ckpt_twin_port_real()). With the device lock held. */
gboolean ckpt_announce(const ckpt_addresses *addresses, struct vmm_net_port *port);

#endif
