/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A card's input while its guest is on its way to the other node: from the last cut until it
 * runs there, frames still come here, where clients believe it to be. Its own machine rests and
 * reads nothing. So this layer above the tap reads for it, hands each frame on, and keeps it:
 * where the guest goes on here after all, it gets them first.
 *
 * Off, which is nearly always, everything only passes.
 *
 * All functions: holding the device lock.
 */
#ifndef CKPT_RELAY_H
#define CKPT_RELAY_H

#include "kvm/loop.h"
#include "kvm/net.h"

/* Bytes kept of one card, headers included: what comes beyond stays in the tap's own queue, and
 * is lost when that is full. */
#define CKPT_RELAY_MAX (8u << 20)

/* A frame that came: as a port's receive() gives it, one piece. Good during the call. Must not
 * block. */
typedef void (*ckpt_relay_fn)(void *data, guint device, const struct iovec *frame);

/* A port over `real` for card `device`. */
struct vmm_net_port *ckpt_relay_port_new_take(struct vmm_net_port *real_take, guint device,
					      vmm_loop *loop);
/* From now on, with the machine at rest, `fn` gets what comes. `port` is one that was made
 * above, and `real` can be served at rest. */
void ckpt_relay_start(struct vmm_net_port *port, ckpt_relay_fn fn, void *data);
/* No longer; what is kept is for the guest, when it runs. Does nothing where it is off. */
void ckpt_relay_stop(struct vmm_net_port *port);

#endif
