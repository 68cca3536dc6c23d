/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's guest and the outside.
 *
 * A device expects its port's ready() on the I/O thread. So each port has a source in
 * the loop, without a descriptor, which is called when something was added on another
 * thread.
 */
#include "checkpoint/twin.h"

#include <linux/virtio_net.h>
#include <string.h>

#include "base/ratelimit.h"
#include "checkpoint/mirror.h"
#include "kvm/iov.h"
#include "kvm/timer.h"

#define HEADER_LEN 12u
/* Frames in a real port's queue at the promotion: beyond this, they are new ones. */
#define STALE_MAX 4096u

struct twin_port {
	struct vmm_net_port port;
	ckpt_twin *twin;
	guint device;
	struct vmm_net_port *real; /* may be NULL */
	ckpt_addresses *addresses; /* may be NULL */
	vmm_source *source;
	gboolean held; /* the next frame, by the filter */
	vmm_timer *patience; /* with that frame; NULL before the first */
	vmm_loop *loop;
	/* What the device said, for the real port. */
	gboolean want_receive;
	guint64 offloads;
	void (*ready)(void *net); /* NULL until attached */
	void *net;
};

struct ckpt_twin {
	ckpt_input *input;
	ckpt_twin_output output;
	void *data;
	guint64 epoch;
	gboolean promoted;
	struct ckpt_filter *filter; /* may be NULL */
	struct base_ratelimit complaints;
	GPtrArray *ports; /* struct twin_port, borrowed */
};

static struct vmm_net_port *live(const struct twin_port *port)
{
	return port->twin->promoted ? port->real : NULL;
}

/* A note that is refused is a translation less: the two guests then differ, which
 * shows. */
static void learn(ckpt_twin *twin, const guint8 *note, gsize len)
{
	const char *why = NULL;
	guint left_out;

	if (twin->filter && twin->filter->ops->learn)
		why = twin->filter->ops->learn(twin->filter->filter, note, len);
	if (why && base_ratelimit_pass(&twin->complaints, &left_out))
		g_warning("the primary's note for the frame filter is refused: %s",
			  why);
}

static const guint8 *next_frame(const struct twin_port *port, gsize *len)
{
	ckpt_input *input = port->twin->input;
	const guint8 *note;

	while ((note = ckpt_input_next(input, CKPT_INPUT_NOTE, port->device, len))) {
		learn(port->twin, note, *len);
		ckpt_input_consume(input, CKPT_INPUT_NOTE, port->device, *len);
	}
	return ckpt_input_next(port->twin->input, CKPT_INPUT_NET, port->device, len);
}

/* Where there are frames that it can have, the device hears of it. */
static void wake(struct twin_port *port)
{
	gsize len;

	if (port->want_receive && !port->held && next_frame(port, &len))
		vmm_loop_again(port->source);
}

static void unhold(void *data)
{
	struct twin_port *port = data;

	if (!port->held)
		return;
	port->held = FALSE;
	wake(port);
}

static void hold(struct twin_port *port)
{
	const struct ckpt_filter *filter = port->twin->filter;

	port->held = TRUE;
	if (!filter->ops->hold_ms)
		return;
	if (!port->patience)
		port->patience = vmm_timer_new(port->loop, unhold, port);
	vmm_timer_set(port->patience, MAX(filter->ops->hold_ms(filter->filter), 1), 0);
}

static gboolean port_send(void *data, const struct iovec *iov, guint count)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);

	if (real && !real->send(real->data, iov, count))
		return FALSE;
	if (!port->twin->promoted)
		port->twin->output(port->twin->data, port->twin->epoch, port->device,
				   iov, count);
	if (port->addresses)
		ckpt_addresses_learn(port->addresses, iov, count);
	unhold(port);
	return TRUE;
}

/* FALSE: it is held. What is kept stays as it came: it may be given again. */
static gboolean give_filtered(struct twin_port *port, const guint8 *frame, gsize len,
			      const struct iovec *iov, guint count, gboolean *fits)
{
	struct ckpt_filter *filter = port->twin->filter;
	gsize payload = len - HEADER_LEN;
	gboolean partial = frame[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	enum ckpt_filter_verdict verdict;

	memcpy(filter->scratch, frame + HEADER_LEN, payload);
	verdict = filter->ops->in(filter->filter, port->device, filter->scratch,
				  payload, partial);
	/* A guest that counts must not wait for ever. */
	if (verdict == CKPT_FILTER_HOLD &&
	    (filter->ops->hold_ms || !port->twin->promoted))
		return FALSE;
	filter->shown = TRUE;
	*fits = vmm_iov_write(iov, count, 0, frame, HEADER_LEN) == HEADER_LEN &&
		vmm_iov_write(iov, count, HEADER_LEN, filter->scratch, payload) ==
			payload;
	return TRUE;
}

static gssize port_receive(void *data, const struct iovec *iov, guint count)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);
	gsize len;
	const guint8 *frame = next_frame(port, &len);
	gboolean fits;

	if (!frame)
		return real ? real->receive(real->data, iov, count) : 0;
	if (port->held)
		return 0;
	if (!port->twin->filter || len <= HEADER_LEN) {
		fits = vmm_iov_write(iov, count, 0, frame, len) == len;
	} else if (!give_filtered(port, frame, len, iov, count, &fits)) {
		hold(port);
		return 0;
	}
	ckpt_input_consume(port->twin->input, CKPT_INPUT_NET, port->device, len);
	return fits ? (gssize)len : -1;
}

static void port_set_offloads(void *data, guint64 features)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);

	port->offloads = features;
	if (real)
		real->set_offloads(real->data, features);
}

static void port_attach(void *data, void (*ready)(void *net), void *net)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);

	port->ready = ready;
	port->net = net;
	if (real)
		real->attach(real->data, ready, net);
}

/* Of a guest that was promoted and is handed over in its turn. */
static void port_serve_at_rest(void *data, gboolean on)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);

	if (real && real->serve_at_rest)
		real->serve_at_rest(real->data, on);
}

static void on_wake(void *data, guint32 events)
{
	struct twin_port *port = data;

	if (port->want_receive && port->ready)
		port->ready(port->net);
}

static void port_want_receive(void *data, gboolean want)
{
	struct twin_port *port = data;
	struct vmm_net_port *real = live(port);

	port->want_receive = want;
	wake(port);
	if (real)
		real->want_receive(real->data, want);
}

static void port_free(void *data)
{
	struct twin_port *port = data;

	vmm_source_remove(port->source);
	vmm_timer_free(port->patience);
	g_ptr_array_remove(port->twin->ports, port);
	if (port->real)
		port->real->free(port->real->data);
	g_free(port);
}

ckpt_twin *ckpt_twin_new(ckpt_input *input, ckpt_twin_output output, void *data)
{
	ckpt_twin *twin = g_new0(ckpt_twin, 1);

	twin->input = input;
	twin->output = output;
	twin->data = data;
	twin->ports = g_ptr_array_new();
	return twin;
}

void ckpt_twin_free(ckpt_twin *twin)
{
	if (!twin)
		return;
	g_assert(twin->ports->len == 0);
	g_ptr_array_unref(twin->ports);
	g_free(twin);
}

void ckpt_twin_set_filter(ckpt_twin *twin, struct ckpt_filter *filter)
{
	twin->filter = filter;
}

void ckpt_twin_set_epoch(ckpt_twin *twin, guint64 epoch)
{
	twin->epoch = epoch;
	for (guint i = 0; i < twin->ports->len; i++)
		unhold(g_ptr_array_index(twin->ports, i));
}

static struct twin_port *port_new(ckpt_twin *twin, guint device, guint64 features,
				  vmm_loop *loop, ckpt_addresses *addresses)
{
	struct twin_port *port = g_new0(struct twin_port, 1);

	g_assert(!twin->promoted);
	port->twin = twin;
	port->device = device;
	port->loop = loop;
	port->addresses = addresses;
	/* No descriptor: it is only ever called by vmm_loop_again(). */
	port->source = vmm_loop_add(loop, -1, 0, on_wake, port);
	port->port = (struct vmm_net_port){
		.data = port,
		.send = port_send,
		.receive = port_receive,
		.set_offloads = port_set_offloads,
		.features = features,
		.attach = port_attach,
		.want_receive = port_want_receive,
		.serve_at_rest = port_serve_at_rest,
		.free = port_free,
	};
	g_ptr_array_add(twin->ports, port);
	return port;
}

struct vmm_net_port *ckpt_twin_port_new_take(ckpt_twin *twin, guint device,
					     struct vmm_net_port *real_take,
					     vmm_loop *loop, ckpt_addresses *addresses)
{
	struct twin_port *port =
		port_new(twin, device, real_take->features, loop, addresses);

	port->real = real_take;
	return &port->port;
}

struct vmm_net_port *ckpt_twin_port_new(ckpt_twin *twin, guint device, guint64 features,
					vmm_loop *loop, ckpt_addresses *addresses)
{
	return &port_new(twin, device, features, loop, addresses)->port;
}

void ckpt_twin_wake(ckpt_twin *twin)
{
	for (guint i = 0; i < twin->ports->len; i++)
		wake(g_ptr_array_index(twin->ports, i));
}

gsize ckpt_twin_rng(void *data, void *bytes, gsize len)
{
	ckpt_twin *twin = data;
	gsize got = ckpt_input_read(twin->input, CKPT_INPUT_RNG, 0, bytes, len);

	if (got || !twin->promoted)
		return got;
	return ckpt_host_random(NULL, bytes, len);
}

gsize ckpt_twin_console(ckpt_twin *twin, guint console, void *bytes, gsize len)
{
	return ckpt_input_read(twin->input, CKPT_INPUT_CONSOLE, console, bytes, len);
}

static void throw_away_stale(struct vmm_net_port *real)
{
	g_autofree guint8 *frame = g_malloc(VMM_NET_FRAME_MAX);
	struct iovec iov[] = { { frame, HEADER_LEN },
			       { frame + HEADER_LEN, VMM_NET_FRAME_MAX - HEADER_LEN } };
	guint thrown = 0;

	while (thrown < STALE_MAX &&
	       real->receive(real->data, iov, G_N_ELEMENTS(iov)) != 0)
		thrown++;
}

/* Brings the real port to where it would be, had it been there from the start. */
static void plug(struct twin_port *port)
{
	throw_away_stale(port->real);
	if (port->ready)
		port->real->attach(port->real->data, port->ready, port->net);
	port->real->set_offloads(port->real->data, port->offloads);
	port->real->want_receive(port->real->data, port->want_receive);
}

void ckpt_twin_promote(ckpt_twin *twin)
{
	if (twin->promoted)
		return;
	twin->promoted = TRUE;
	ckpt_input_finish(twin->input);
	for (guint i = 0; i < twin->ports->len; i++) {
		struct twin_port *port = g_ptr_array_index(twin->ports, i);

		port->held = FALSE;
		if (port->real)
			plug(port);
	}
	ckpt_twin_wake(twin);
}

gboolean ckpt_twin_is_promoted(const ckpt_twin *twin)
{
	return twin->promoted;
}

struct vmm_net_port *ckpt_twin_port_real(struct vmm_net_port *port)
{
	return live(port->data);
}
