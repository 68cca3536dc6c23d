/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A port that hands everything on to another one. */
#include "kvm/net_pass.h"

static gboolean pass_send(void *data, const struct iovec *iov, guint count)
{
	const struct vmm_net_pass *pass = data;

	return pass->real->send(pass->real->data, iov, count);
}

static gssize pass_receive(void *data, const struct iovec *iov, guint count)
{
	const struct vmm_net_pass *pass = data;

	return pass->real->receive(pass->real->data, iov, count);
}

static void pass_set_offloads(void *data, guint64 features)
{
	const struct vmm_net_pass *pass = data;

	pass->real->set_offloads(pass->real->data, features);
}

static void pass_attach(void *data, void (*ready)(void *net), void *net)
{
	const struct vmm_net_pass *pass = data;

	pass->real->attach(pass->real->data, ready, net);
}

static void pass_want_receive(void *data, gboolean want)
{
	const struct vmm_net_pass *pass = data;

	pass->real->want_receive(pass->real->data, want);
}

static void pass_serve_at_rest(void *data, gboolean on)
{
	const struct vmm_net_pass *pass = data;

	if (pass->real->serve_at_rest)
		pass->real->serve_at_rest(pass->real->data, on);
}

void vmm_net_pass_free(void *data)
{
	struct vmm_net_pass *pass = data;

	pass->real->free(pass->real->data);
	g_free(pass);
}

void vmm_net_pass_init(struct vmm_net_pass *pass, struct vmm_net_port *real_take)
{
	pass->real = real_take;
	pass->port = (struct vmm_net_port){
		.data = pass,
		.send = pass_send,
		.receive = pass_receive,
		.set_offloads = pass_set_offloads,
		.features = real_take->features,
		.attach = pass_attach,
		.want_receive = pass_want_receive,
		.serve_at_rest = pass_serve_at_rest,
		.free = vmm_net_pass_free,
	};
}
