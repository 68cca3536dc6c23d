/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A card's input while its guest is on its way to the other node. */
#include "checkpoint/relay.h"

#include <string.h>

#include "kvm/iov.h"

#define HEADER_LEN 12u
/* Frames in one run of the handler. */
#define BATCH 64u

struct relay {
	struct vmm_net_port port;
	struct vmm_net_port *real;
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
		relay->real->want_receive(relay->real->data, FALSE);
}

/* A frame that has come while the machine rests; FALSE: there is none. */
static gboolean relay_one(struct relay *relay)
{
	struct iovec iov[] = { { relay->scratch, HEADER_LEN },
			       { relay->scratch + HEADER_LEN, VMM_NET_FRAME_MAX - HEADER_LEN } };
	gssize got = relay->real->receive(relay->real->data, iov, G_N_ELEMENTS(iov));
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

	return relay->real->send(relay->real->data, iov, count);
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
	return relay->real->receive(relay->real->data, iov, count);
}

static void port_set_offloads(void *data, guint64 features)
{
	struct relay *relay = data;

	relay->real->set_offloads(relay->real->data, features);
}

static void port_attach(void *data, void (*ready)(void *net), void *net)
{
	struct relay *relay = data;

	relay->ready = ready;
	relay->net = net;
	relay->real->attach(relay->real->data, on_ready, relay);
}

static void port_want_receive(void *data, gboolean want)
{
	struct relay *relay = data;

	relay->want_receive = want;
	if (!relay->fn)
		relay->real->want_receive(relay->real->data, want);
	wake(relay);
}

static void port_serve_at_rest(void *data, gboolean on)
{
	struct relay *relay = data;

	if (relay->real->serve_at_rest)
		relay->real->serve_at_rest(relay->real->data, on);
}

static void port_free(void *data)
{
	struct relay *relay = data;

	vmm_source_remove(relay->source);
	g_queue_clear_full(&relay->kept, (GDestroyNotify)g_bytes_unref);
	relay->real->free(relay->real->data);
	g_free(relay->scratch);
	g_free(relay);
}

struct vmm_net_port *ckpt_relay_port_new_take(struct vmm_net_port *real_take, guint device,
					      vmm_loop *loop)
{
	struct relay *relay = g_new0(struct relay, 1);

	relay->real = real_take;
	relay->device = device;
	/* No descriptor: it is only ever called by vmm_loop_again(). */
	relay->source = vmm_loop_add(loop, -1, 0, on_wake, relay);
	relay->port = (struct vmm_net_port){
		.data = relay,
		.send = port_send,
		.receive = port_receive,
		.set_offloads = port_set_offloads,
		.features = real_take->features,
		.attach = port_attach,
		.want_receive = port_want_receive,
		.serve_at_rest = port_serve_at_rest,
		.free = port_free,
	};
	return &relay->port;
}

void ckpt_relay_start(struct vmm_net_port *port, ckpt_relay_fn fn, void *data)
{
	struct relay *relay = port->data;

	if (!relay->scratch)
		relay->scratch = g_malloc(VMM_NET_FRAME_MAX);
	relay->fn = fn;
	relay->data = data;
	port_serve_at_rest(relay, TRUE);
	relay->real->want_receive(relay->real->data, TRUE);
}

void ckpt_relay_stop(struct vmm_net_port *port)
{
	struct relay *relay = port->data;

	if (!relay->fn)
		return;
	relay->fn = NULL;
	port_serve_at_rest(relay, FALSE);
	relay->real->want_receive(relay->real->data, relay->want_receive);
	wake(relay);
}
