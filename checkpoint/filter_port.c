/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card's port behind a frame filter. */
#include "checkpoint/filter_port.h"

#include <linux/virtio_net.h>

#include "checkpoint/protocol.h"
#include "kvm/iov.h"
#include "kvm/net_pass.h"

struct filter_port {
	struct vmm_net_pass pass;
	guint device;
	struct ckpt_filter *filter;
};

void ckpt_filter_init(struct ckpt_filter *filter, const struct ckpt_filter_ops *ops,
		      gboolean is_twin)
{
	*filter = (struct ckpt_filter){ .ops = ops,
					.filter = ops->new (),
					.is_twin = is_twin,
					.scratch = g_malloc(VMM_NET_FRAME_MAX) };
}

void ckpt_filter_clear(struct ckpt_filter *filter)
{
	if (filter->ops)
		filter->ops->free(filter->filter);
	g_free(filter->scratch);
	*filter = (struct ckpt_filter){ 0 };
}

static gboolean is_partial(const struct iovec *iov)
{
	return *(const guint8 *)iov[0].iov_base & VIRTIO_NET_HDR_F_NEEDS_CSUM;
}

/* The guest can change its memory at any time: what the filter has seen is not what is
 * sent unless it is sent from here. */
static gboolean send_filtered(struct filter_port *port, const struct iovec *iov,
			      guint count)
{
	struct ckpt_filter *filter = port->filter;
	gsize len = vmm_iov_read(iov, count, CKPT_NET_HEADER, filter->scratch,
				 CKPT_FRAME_MAX - CKPT_NET_HEADER);
	const struct iovec changed[] = { iov[0], { filter->scratch, len } };

	filter->ops->out(filter->filter, port->device, filter->scratch, len,
			 is_partial(iov));
	return port->pass.real->send(port->pass.real->data, changed, G_N_ELEMENTS(changed));
}

static gboolean port_send(void *data, const struct iovec *iov, guint count)
{
	struct filter_port *port = data;
	const struct ckpt_filter *filter = port->filter;

	if (!filter->is_twin && filter->ops->is_idle(filter->filter))
		return port->pass.real->send(port->pass.real->data, iov, count);
	return send_filtered(port, iov, count);
}

static gssize port_receive(void *data, const struct iovec *iov, guint count)
{
	struct filter_port *port = data;
	struct ckpt_filter *filter = port->filter;
	gssize got;
	gsize len;

	filter->shown = FALSE;
	got = port->pass.real->receive(port->pass.real->data, iov, count);
	if (got <= (gssize)CKPT_NET_HEADER || filter->shown || filter->is_twin ||
	    filter->ops->is_idle(filter->filter))
		return got;
	len = vmm_iov_read(iov, count, CKPT_NET_HEADER, filter->scratch,
			   (gsize)got - CKPT_NET_HEADER);
	if (filter->ops->in(filter->filter, port->device, filter->scratch, len,
			    is_partial(iov)) == CKPT_FILTER_CHANGED)
		vmm_iov_write(iov, count, CKPT_NET_HEADER, filter->scratch, len);
	return got;
}

struct vmm_net_port *ckpt_filter_port_new_take(struct vmm_net_port *real_take,
					       guint device, struct ckpt_filter *filter)
{
	struct filter_port *port = g_new0(struct filter_port, 1);

	vmm_net_pass_init(&port->pass, real_take);
	port->device = device;
	port->filter = filter;
	port->pass.port.send = port_send;
	port->pass.port.receive = port_receive;
	return &port->pass.port;
}
