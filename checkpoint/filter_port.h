/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card's port behind a frame filter (checkpoint/filter.h). */
#ifndef CKPT_FILTER_PORT_H
#define CKPT_FILTER_PORT_H

#include "checkpoint/filter.h"
#include "kvm/net.h"

/* A filter as ports use it. */
struct ckpt_filter {
	const struct ckpt_filter_ops *ops;
	void *filter;
	gboolean is_twin; /* the guest is a secondary's: all that it sends is shown */
	gboolean shown; /* what is received now was, below (checkpoint/twin.h) */
	guint8 *scratch; /* VMM_NET_FRAME_MAX bytes */
};

void ckpt_filter_init(struct ckpt_filter *filter, const struct ckpt_filter_ops *ops,
		      gboolean is_twin);
void ckpt_filter_clear(struct ckpt_filter *filter);

/* `real` for card `device`, with frames both ways shown to `filter`, which outlives it.
 * While the filter is idle, all passes as it is, without a copy. */
struct vmm_net_port *ckpt_filter_port_new_take(struct vmm_net_port *real_take,
					       guint device,
					       struct ckpt_filter *filter);

#endif
