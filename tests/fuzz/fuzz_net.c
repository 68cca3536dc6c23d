/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-net, a hostile guest, and a wire with any frame on it. */
#include "kvm/net.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "kvm/iov.h"
#include "tests/fuzz/harness.h"

#define SCRATCH 0xe0000u /* guest memory for buffers as a good driver makes them */
#define HEADER sizeof(struct virtio_net_hdr_v1)

struct wire {
	struct vmm_net_port port;
	struct fake_driver *driver;
	gboolean hearing;
	guint room;			 /* frames that it takes */
	guint coming;			 /* frames that it has */
	struct virtio_net_hdr_v1 header; /* of those */
	guint payload;
	void (*ready)(void *net);
	void *net;
	guint8 bytes[VMM_NET_FRAME_MAX + 64];
};

/* What reaches a port was judged. */
static gboolean wire_send(void *data, const struct iovec *iov, guint count)
{
	struct wire *wire = data;
	const struct virtio_net_hdr_v1 *header = iov[0].iov_base;
	gsize payload = 0;

	g_assert(count >= 2 && iov[0].iov_len == HEADER);
	for (guint i = 1; i < count; i++)
		payload += iov[i].iov_len;
	g_assert(payload >= 14 && payload <= VMM_NET_FRAME_MAX - HEADER);
	g_assert(!(header->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
		 !header->num_buffers);
	if (header->flags)
		g_assert(header->csum_start + header->csum_offset + 2u <= payload);
	if (header->gso_type) {
		g_assert(header->flags && header->gso_size);
		g_assert(header->hdr_len <= payload);
	}
	if (!wire->room)
		return FALSE;
	wire->room--;
	vmm_iov_read(iov, count, 0, wire->bytes, sizeof(wire->bytes));
	return TRUE;
}

static gssize wire_receive(void *data, const struct iovec *iov, guint count)
{
	struct wire *wire = data;
	gsize got;

	g_assert(wire->hearing && iov[0].iov_len == HEADER);
	if (!wire->coming)
		return 0;
	wire->coming--;
	memcpy(wire->bytes, &wire->header, HEADER);
	got = vmm_iov_write(iov, count, 0, wire->bytes, HEADER + wire->payload);
	return got < HEADER + wire->payload ? -1 : (gssize)got;
}

static void wire_set_offloads(void *data, guint64 features)
{
}

static void wire_attach(void *data, void (*ready)(void *net), void *net)
{
	struct wire *wire = data;

	wire->ready = ready;
	wire->net = net;
}

static void wire_want_receive(void *data, gboolean want)
{
	((struct wire *)data)->hearing = want;
}

static void wire_free(void *data)
{
	g_free(data);
}

/* A chain of one or two buffers, as a good driver makes them. */
static void good_chain(struct wire *wire, struct fuzz_input *input, guint index)
{
	struct fake_driver *driver = wire->driver;
	struct fake_queue *queue = &driver->queue[index];
	guint8 kind = fuzz_u8(input);
	guint head = fuzz_u8(input) % 16;
	guint16 in = index == 0 ? FAKE_DESC_WRITE : 0;
	guint32 len = 14 + fuzz_u16(input) % (kind & 8 ? 0x10000 : 512);

	if (queue->size < 16)
		return;
	if (index == 1)
		fuzz_bytes(input, fake_at(driver->fake, SCRATCH, 10), 10);
	fake_queue_set_desc(queue, head, SCRATCH, HEADER + (kind & 1 ? len : 0),
			    in | (kind & 1 ? 0 : FAKE_DESC_NEXT),
			    (guint16)((head + 1) % 16));
	fake_queue_set_desc(queue, (head + 1) % 16, SCRATCH + HEADER, len, in, 0);
	fake_queue_offer(queue, (guint16)head);
	if (kind & 2)
		fake_mmio_write(driver->fake, driver->notify + 4 * index, 0, 2);
	if (kind & 4)
		fake_run(driver->fake);
}

static void step(void *data, struct fuzz_input *input)
{
	struct wire *wire = data;
	guint8 op = fuzz_u8(input);

	switch (op & 7) {
	case 0:
	case 1:
		good_chain(wire, input, op & 1);
		break;
	case 2:
		wire->room = op >> 3;
		wire->ready(wire->net);
		break;
	case 3:
		fuzz_bytes(input, &wire->header, HEADER);
		wire->payload = fuzz_u16(input);
		if (op & 8)
			wire->payload %= 2000;
		wire->coming = op >> 4;
		/* A port speaks only when spoken to, but for room to send. */
		if (wire->hearing)
			wire->ready(wire->net);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	guint64 unwanted = (guint64)fuzz_u16(&input) << 1;
	static const guint8 mac[6] = { 2, 0, 0, 0, 0, 1 };
	struct fake_platform *fake = fake_platform_new(FUZZ_MEMORY);
	vmm_pci *pci = vmm_pci_new(&fake->platform);
	struct wire *wire = g_new0(struct wire, 1);
	struct fake_driver driver;
	vmm_net *net;

	fuzz_quiet();
	wire->driver = &driver;
	wire->room = 4;
	wire->port = (struct vmm_net_port){
		.data = wire,
		.send = wire_send,
		.receive = wire_receive,
		.set_offloads = wire_set_offloads,
		.features = ~0ull,
		.attach = wire_attach,
		.want_receive = wire_want_receive,
		.free = wire_free,
	};
	net = vmm_net_new_take(pci, &fake->platform, 0, mac, &wire->port, NULL);
	g_assert(net && fake_driver_find(&driver, fake, VIRTIO_ID_NET, 0));
	fake_driver_start(&driver, ~unwanted, 16);
	fuzz_virtio(&input, &driver, vmm_net_virtio(net), step, wire);
	vmm_net_free(net);
	vmm_pci_free(pci);
	fake_platform_free(fake);
	return 0;
}
