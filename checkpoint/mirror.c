/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers what the guest is given and hands it on. */
#include "checkpoint/mirror.h"

#include <errno.h>
#include <sys/random.h>

#include "kvm/iov.h"
#include "kvm/net_pass.h"

#define HEADER_LEN CKPT_NET_HEADER

G_STATIC_ASSERT(VMM_NET_FRAME_MAX == CKPT_FRAME_MAX);

struct ckpt_mirror {
	vmm_rng_source rng;
	void *rng_data;
	ckpt_mirror_send send; /* NULL: off */
	void *data;
	const struct ckpt_filter_ops *filter; /* may be NULL */
	guint64 number; /* of the last item */
	guint ports;
	/* Of one call. */
	struct ckpt_input_head head;
	struct iovec pieces[1 + CKPT_MIRROR_PIECES_MAX];
};

struct mirror_port {
	struct vmm_net_pass pass;
	guint device;
	ckpt_mirror *mirror;
	ckpt_addresses *addresses; /* may be NULL */
};

gsize ckpt_host_random(void *data, void *bytes, gsize len)
{
	gssize got = getrandom(bytes, len, 0);

	/* A signal at the wrong time: nothing else can go wrong. */
	while (got < 0 && errno == EINTR)
		got = getrandom(bytes, len, 0);
	g_assert(got >= 0);
	return (gsize)got;
}

/* Hands on the first `len` bytes of `iov`. */
static void hand_on(ckpt_mirror *mirror, enum ckpt_input_kind kind, guint device,
		    const struct iovec *iov, guint count, gsize len)
{
	guint n;

	if (!mirror->send)
		return;
	g_assert(count <= CKPT_MIRROR_PIECES_MAX);
	mirror->head = (struct ckpt_input_head){
		.number = wire_put64(++mirror->number),
		.kind = (guint8)kind,
		.device = (guint8)device,
	};
	mirror->pieces[0] = (struct iovec){ &mirror->head, sizeof(mirror->head) };
	n = vmm_iov_slice(iov, count, 0, len, mirror->pieces + 1);
	mirror->send(mirror->data, mirror->pieces, n + 1);
}

/* The secondary's filter is told of what was sent, where it should know. */
static void hand_on_note(struct mirror_port *port, const struct iovec *iov, guint count)
{
	ckpt_mirror *mirror = port->mirror;
	guint8 frame[CKPT_FILTER_NOTED + 1], note[CKPT_FILTER_NOTE_MAX];
	struct iovec piece = { note, 0 };
	gsize len;

	if (!mirror->send || !mirror->filter || !mirror->filter->note)
		return;
	len = vmm_iov_read(iov, count, HEADER_LEN, frame, sizeof(frame));
	if (len <= CKPT_FILTER_NOTED)
		piece.iov_len = mirror->filter->note(port->device, frame, len, note);
	if (piece.iov_len)
		hand_on(mirror, CKPT_INPUT_NOTE, port->device, &piece, 1,
			piece.iov_len);
}

static gboolean port_send(void *data, const struct iovec *iov, guint count)
{
	struct mirror_port *port = data;

	if (!port->pass.real->send(port->pass.real->data, iov, count))
		return FALSE;
	if (port->addresses)
		ckpt_addresses_learn(port->addresses, iov, count);
	hand_on_note(port, iov, count);
	return TRUE;
}

static gssize port_receive(void *data, const struct iovec *iov, guint count)
{
	struct mirror_port *port = data;
	gssize got = port->pass.real->receive(port->pass.real->data, iov, count);

	/* What is shorter than a header the card drops. */
	if (got >= HEADER_LEN)
		hand_on(port->mirror, CKPT_INPUT_NET, port->device, iov, count,
			(gsize)got);
	return got;
}

static void port_free(void *data)
{
	struct mirror_port *port = data;

	port->mirror->ports--;
	vmm_net_pass_free(port);
}

ckpt_mirror *ckpt_mirror_new(vmm_rng_source rng, void *rng_data)
{
	ckpt_mirror *mirror = g_new0(ckpt_mirror, 1);

	mirror->rng = rng ? rng : ckpt_host_random;
	mirror->rng_data = rng_data;
	return mirror;
}

void ckpt_mirror_free(ckpt_mirror *mirror)
{
	if (!mirror)
		return;
	g_assert(!mirror->ports);
	g_free(mirror);
}

void ckpt_mirror_set_filter(ckpt_mirror *mirror, const struct ckpt_filter_ops *filter)
{
	mirror->filter = filter;
}

void ckpt_mirror_start(ckpt_mirror *mirror, ckpt_mirror_send send, void *data)
{
	mirror->send = send;
	mirror->data = data;
	mirror->number = 0;
}

void ckpt_mirror_stop(ckpt_mirror *mirror)
{
	mirror->send = NULL;
}

guint64 ckpt_mirror_number(const ckpt_mirror *mirror)
{
	return mirror->number;
}

struct vmm_net_port *ckpt_mirror_port_new_take(struct vmm_net_port *real_take,
					       guint device, ckpt_mirror *mirror,
					       ckpt_addresses *addresses)
{
	struct mirror_port *port = g_new0(struct mirror_port, 1);

	g_assert(device <= G_MAXUINT8);
	vmm_net_pass_init(&port->pass, real_take);
	port->device = device;
	port->mirror = mirror;
	port->addresses = addresses;
	port->pass.port.send = port_send;
	port->pass.port.receive = port_receive;
	port->pass.port.free = port_free;
	mirror->ports++;
	return &port->pass.port;
}

void ckpt_mirror_frame(ckpt_mirror *mirror, guint device, const struct iovec *frame)
{
	hand_on(mirror, CKPT_INPUT_NET, device, frame, 1, frame->iov_len);
}

/* Bytes, in as many items as they take. */
static void hand_on_bytes(ckpt_mirror *mirror, enum ckpt_input_kind kind, guint device,
			  const void *bytes, gsize len)
{
	const guint8 *from = bytes;

	while (len) {
		gsize part = MIN(len, CKPT_INPUT_BYTES_MAX);
		struct iovec piece = { (void *)from, part };

		hand_on(mirror, kind, device, &piece, 1, part);
		from += part;
		len -= part;
	}
}

gsize ckpt_mirror_rng(void *data, void *bytes, gsize len)
{
	ckpt_mirror *mirror = data;
	gsize got = mirror->rng(mirror->rng_data, bytes, len);

	hand_on_bytes(mirror, CKPT_INPUT_RNG, 0, bytes, got);
	return got;
}

void ckpt_mirror_console(ckpt_mirror *mirror, guint console, const void *bytes,
			 gsize len)
{
	g_assert(console < CKPT_INPUT_CONSOLES);
	hand_on_bytes(mirror, CKPT_INPUT_CONSOLE, console, bytes, len);
}
