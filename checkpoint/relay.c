/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A card's input while its guest is on its way to the other node. */
#include "checkpoint/relay.h"

#include <string.h>

#include "kvm/iov.h"
#include "kvm/net_pass.h"

#define HEADER_LEN 12u
/* Frames in one run of the handler. */
#define BATCH 64u

struct relay {
	struct vmm_net_pass pass;
	guint device;
	vmm_source *source;
	ckpt_relay_fn fn; /* NULL: off */
	void *data;
	GQueue kept; /* GBytes: not given to the guest yet */
	gsize kept_bytes;
	guint8 *scratch; /* VMM_NET_FRAME_MAX bytes; NULL before the first use */
	/* What the device said. */
	gboolean want_receive;
	void (*ready)(void *net); /* NULL until attached */
	void *net;
};

/* There is something that the guest has not had: its device hears of it, on the I/O thread. */
static void wake(struct relay *relay)
{
	if (!relay->fn && relay->want_receive && relay->kept.length)
		vmm_loop_again(relay->source);
}

static void on_wake(void *data, guint32 events)
{
	struct relay *relay = data;

	if (!relay->fn && relay->want_receive && relay->ready)
		relay->ready(relay->net);
}

static void keep(struct relay *relay, gsize len)
{
	g_queue_push_tail(&relay->kept, g_bytes_new(relay->scratch, len));
	relay->kept_bytes += len;
	if (relay->kept_bytes >= CKPT_RELAY_MAX)
		relay->pass.real->want_receive(relay->pass.real->data, FALSE);
}

/* A frame that has come while the machine rests; FALSE: there is none. */
static gboolean relay_one(struct relay *relay)
{
	struct iovec iov[] = { { relay->scratch, HEADER_LEN },
			       { relay->scratch + HEADER_LEN, VMM_NET_FRAME_MAX - HEADER_LEN } };
	gssize got = relay->pass.real->receive(relay->pass.real->data, iov, G_N_ELEMENTS(iov));
	struct iovec frame = { relay->scratch, (gsize)MAX(got, 0) };

	/* What is shorter than a header the card would drop. */
	if (got >= (gssize)HEADER_LEN) {
		relay->fn(relay->data, relay->device, &frame);
		keep(relay, frame.iov_len);
	}
	return got != 0;
}

static void on_ready(void *data)
{
	struct relay *relay = data;

	if (!relay->fn) {
		if (relay->ready)
			relay->ready(relay->net);
		return;
	}
	for (guint i = 0; i < BATCH && relay->kept_bytes < CKPT_RELAY_MAX; i++)
		if (!relay_one(relay))
			return;
}

static gboolean port_send(void *data, const struct iovec *iov, guint count)
{
	struct relay *relay = data;

	return relay->pass.real->send(relay->pass.real->data, iov, count);
}

static gssize give_kept(struct relay *relay, const struct iovec *iov, guint count)
{
	g_autoptr(GBytes) frame = g_queue_pop_head(&relay->kept);
	gsize len;
	const guint8 *bytes = g_bytes_get_data(frame, &len);

	relay->kept_bytes -= len;
	return vmm_iov_write(iov, count, 0, bytes, len) == len ? (gssize)len : -1;
}

static gssize port_receive(void *data, const struct iovec *iov, guint count)
{
	struct relay *relay = data;

	if (relay->fn)
		return 0;
	if (relay->kept.length)
		return give_kept(relay, iov, count);
	return relay->pass.real->receive(relay->pass.real->data, iov, count);
}

static void port_attach(void *data, void (*ready)(void *net), void *net)
{
	struct relay *relay = data;

	relay->ready = ready;
	relay->net = net;
	relay->pass.real->attach(relay->pass.real->data, on_ready, relay);
}

static void port_want_receive(void *data, gboolean want)
{
	struct relay *relay = data;

	relay->want_receive = want;
	if (!relay->fn)
		relay->pass.real->want_receive(relay->pass.real->data, want);
	wake(relay);
}

static void port_free(void *data)
{
	struct relay *relay = data;

	vmm_source_remove(relay->source);
	g_queue_clear_full(&relay->kept, (GDestroyNotify)g_bytes_unref);
	g_free(relay->scratch);
	vmm_net_pass_free(relay);
}

struct vmm_net_port *ckpt_relay_port_new_take(struct vmm_net_port *real_take, guint device,
					      vmm_loop *loop)
{
	struct relay *relay = g_new0(struct relay, 1);

	vmm_net_pass_init(&relay->pass, real_take);
	relay->device = device;
	/* No descriptor: it is only ever called by vmm_loop_again(). */
	relay->source = vmm_loop_add(loop, -1, 0, on_wake, relay);
	relay->pass.port.send = port_send;
	relay->pass.port.receive = port_receive;
	relay->pass.port.attach = port_attach;
	relay->pass.port.want_receive = port_want_receive;
	relay->pass.port.free = port_free;
	return &relay->pass.port;
}

void ckpt_relay_start(struct vmm_net_port *port, ckpt_relay_fn fn, void *data)
{
	struct relay *relay = port->data;

	if (!relay->scratch)
		relay->scratch = g_malloc(VMM_NET_FRAME_MAX);
	relay->fn = fn;
	relay->data = data;
	relay->pass.port.serve_at_rest(relay, TRUE);
	relay->pass.real->want_receive(relay->pass.real->data, TRUE);
}

void ckpt_relay_stop(struct vmm_net_port *port)
{
	struct relay *relay = port->data;

	if (!relay->fn)
		return;
	relay->fn = NULL;
	relay->pass.port.serve_at_rest(relay, FALSE);
	relay->pass.real->want_receive(relay->pass.real->data, relay->want_receive);
	wake(relay);
}
