/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-net over a port of the test's own. */
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/error.h"
#include "kvm/iov.h"
#include "kvm/net.h"
#include "tests/unit/fake_driver.h"

#define BIT(name) (1ull << VIRTIO_NET_F_##name)
#define ALL (~0ull)
#define RX 0
#define TX 1
#define HEADER sizeof(struct virtio_net_hdr_v1)

/* The other side of the wire. */
struct wire {
	struct vmm_net_port port;
	GPtrArray *sent; /* GBytes, with header */
	GQueue coming;	 /* GBytes, with header */
	guint room;	 /* frames that can be sent before it says no */
	gboolean hearing;
	guint asked; /* how often receive() was called */
	guint64 offloads;
	gboolean freed;
	void (*ready)(void *net);
	void *net;
};

static gboolean wire_send(void *data, const struct iovec *iov, guint count)
{
	struct wire *wire = data;
	guint8 *frame = g_malloc(VMM_NET_FRAME_MAX);
	gsize len;

	assert_int_equal(iov[0].iov_len, HEADER);
	if (!wire->room) {
		g_free(frame);
		return FALSE;
	}
	wire->room--;
	len = vmm_iov_read(iov, count, 0, frame, VMM_NET_FRAME_MAX);
	g_ptr_array_add(wire->sent, g_bytes_new_take(frame, len));
	return TRUE;
}

static gssize wire_receive(void *data, const struct iovec *iov, guint count)
{
	struct wire *wire = data;
	g_autoptr(GBytes) frame = NULL;
	gsize len;

	assert_true(wire->hearing);
	assert_int_equal(iov[0].iov_len, HEADER);
	wire->asked++;
	frame = g_queue_pop_head(&wire->coming);
	if (!frame)
		return 0;
	len = g_bytes_get_size(frame);
	if (vmm_iov_write(iov, count, 0, g_bytes_get_data(frame, NULL), len) < len)
		return -1;
	return (gssize)len;
}

static void wire_set_offloads(void *data, guint64 features)
{
	((struct wire *)data)->offloads = features;
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
	((struct wire *)data)->freed = TRUE;
}

struct machine {
	struct fake_platform *fake;
	vmm_pci *pci;
	struct wire wire;
	vmm_net *net;
	struct fake_driver driver;
	struct fake_queue *rx, *tx;
	guint64 data; /* guest address of 1 MiB */
};

static const guint8 mac[6] = { 2, 0, 0, 1, 2, 3 };

static struct machine *machine_new_with(guint64 features, guint64 offers, guint16 size)
{
	struct machine *m = g_new0(struct machine, 1);

	m->fake = fake_platform_new(16 << 20);
	m->pci = vmm_pci_new(&m->fake->platform);
	m->wire.sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
	m->wire.room = G_MAXUINT;
	m->wire.port = (struct vmm_net_port){
		.data = &m->wire,
		.send = wire_send,
		.receive = wire_receive,
		.set_offloads = wire_set_offloads,
		.features = offers,
		.attach = wire_attach,
		.want_receive = wire_want_receive,
		.free = wire_free,
	};
	m->net = vmm_net_new_take(m->pci, &m->fake->platform, 0, mac, &m->wire.port,
				  NULL);
	assert_non_null(m->net);
	assert_true(fake_driver_find(&m->driver, m->fake, VIRTIO_ID_NET, 0));
	fake_driver_start(&m->driver, features, size);
	fake_run(m->fake);
	m->rx = &m->driver.queue[RX];
	m->tx = &m->driver.queue[TX];
	m->data = fake_alloc(m->fake, 1 << 20, 4096);
	return m;
}

static struct machine *machine_new(guint64 features)
{
	return machine_new_with(features, ALL, 64);
}

static void machine_free(struct machine *m)
{
	vmm_net_free(m->net);
	assert_true(m->wire.freed);
	vmm_pci_free(m->pci);
	g_ptr_array_unref(m->wire.sent);
	g_queue_clear_full(&m->wire.coming, (GDestroyNotify)g_bytes_unref);
	fake_platform_free(m->fake);
	g_free(m);
}

static gboolean is_broken(struct machine *m)
{
	return fake_driver_status(&m->driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static struct vmm_net_counters counters(struct machine *m)
{
	struct vmm_net_counters c;

	vmm_net_get_counters(m->net, &c);
	return c;
}

/* Puts a frame with `header` and `payload` bytes at `at` and offers it in one buffer.
 */
static void offer_frame(struct machine *m, guint64 at,
			const struct virtio_net_hdr_v1 *header, guint payload)
{
	guint8 *bytes = fake_at(m->fake, at, HEADER + payload);
	struct fake_buffer buffer = { at, (guint32)(HEADER + payload), FALSE };

	memcpy(bytes, header, HEADER);
	for (guint i = 0; i < payload; i++)
		bytes[HEADER + i] = (guint8)(i * 7);
	fake_queue_add(m->tx, &buffer, 1);
}

/* Sends one frame; the header as the wire saw it, or FALSE where it was dropped. */
static gboolean send_frame(struct machine *m, const struct virtio_net_hdr_v1 *header,
			   guint payload, struct virtio_net_hdr_v1 *seen)
{
	GBytes *frame;

	g_ptr_array_set_size(m->wire.sent, 0);
	offer_frame(m, m->data, header, payload);
	fake_queue_kick(m->tx);
	assert_true(fake_queue_take_used(m->tx, NULL, NULL));
	if (!m->wire.sent->len)
		return FALSE;
	frame = m->wire.sent->pdata[0];
	assert_int_equal(g_bytes_get_size(frame), HEADER + payload);
	if (seen)
		memcpy(seen, g_bytes_get_data(frame, NULL), HEADER);
	return TRUE;
}

static void come(struct machine *m, const struct virtio_net_hdr_v1 *header,
		 guint payload)
{
	guint8 *bytes = g_malloc(HEADER + payload);

	memcpy(bytes, header, HEADER);
	for (guint i = 0; i < payload; i++)
		bytes[HEADER + i] = (guint8)(i * 7 + i / 251);
	g_queue_push_tail(&m->wire.coming, g_bytes_new_take(bytes, HEADER + payload));
	if (m->wire.hearing)
		m->wire.ready(m->wire.net);
	fake_run(m->fake);
}

static void offer_buffers(struct machine *m, guint count, guint32 len)
{
	for (guint i = 0; i < count; i++) {
		struct fake_buffer buffer = { m->data + (guint64)i * len, len, TRUE };

		fake_queue_add(m->rx, &buffer, 1);
	}
	fake_queue_kick(m->rx);
}

static void check_payload(const guint8 *bytes, guint from, guint len)
{
	for (guint i = 0; i < len; i++)
		assert_int_equal(bytes[i], (guint8)((from + i) * 7 + (from + i) / 251));
}

static const struct virtio_net_hdr_v1 plain = { 0 };

static void a_frame_is_sent_as_the_guest_wrote_it(void **unused)
{
	struct machine *m = machine_new(ALL);
	const guint8 *bytes;

	assert_true(send_frame(m, &plain, 60, NULL));
	bytes = g_bytes_get_data(m->wire.sent->pdata[0], NULL);
	for (guint i = 0; i < 60; i++)
		assert_int_equal(bytes[HEADER + i], (guint8)(i * 7));
	assert_int_equal(counters(m).tx_frames, 1);
	assert_int_equal(counters(m).tx_bytes, 60);
	machine_free(m);
}

static void a_header_in_pieces_is_put_together(void **unused)
{
	struct machine *m = machine_new(ALL);
	struct fake_buffer pieces[] = { { m->data, 5, FALSE },
					{ m->data + 5, 6, FALSE },
					{ m->data + 11, 30, FALSE },
					{ m->data + 41, 31, FALSE } };
	struct virtio_net_hdr_v1 header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					    .csum_start = 34,
					    .csum_offset = 16 };

	memcpy(fake_at(m->fake, m->data, HEADER), &header, HEADER);
	fake_queue_add(m->tx, pieces, 4);
	fake_queue_kick(m->tx);
	assert_int_equal(m->wire.sent->len, 1);
	assert_int_equal(g_bytes_get_size(m->wire.sent->pdata[0]), HEADER + 60);
	assert_memory_equal(g_bytes_get_data(m->wire.sent->pdata[0], NULL), &header,
			    HEADER);
	machine_free(m);
}

static void a_frame_too_short_or_too_long_is_dropped(void **unused)
{
	struct machine *m = machine_new(ALL);

	assert_false(send_frame(m, &plain, 13, NULL));
	assert_true(send_frame(m, &plain, 14, NULL));
	assert_true(send_frame(m, &plain, VMM_NET_FRAME_MAX - HEADER, NULL));
	assert_false(send_frame(m, &plain, VMM_NET_FRAME_MAX - HEADER + 1, NULL));

	struct fake_buffer stub = { m->data, 11, FALSE };

	fake_queue_add(m->tx, &stub, 1);
	fake_queue_kick(m->tx);
	assert_true(fake_queue_take_used(m->tx, NULL, NULL));
	assert_int_equal(counters(m).tx_dropped, 3);
	assert_false(is_broken(m));
	machine_free(m);
}

static void a_sent_header_is_judged(void **unused)
{
	static const struct {
		struct virtio_net_hdr_v1 header;
		gboolean passes;
	} cases[] = {
		/* flags, gso_type, hdr_len, gso_size, csum_start, csum_offset */
		{ { 1, 0, 0, 0, { { 34, 16 } }, 0 }, TRUE },
		{ { 1, 0, 0, 0, { { 982, 16 } }, 0 }, TRUE },
		{ { 1, 0, 0, 0, { { 983, 16 } }, 0 }, FALSE },
		{ { 1, 0, 0, 0, { { 0xffff, 0xffff } }, 0 }, FALSE },
		{ { 1, 1, 54, 500, { { 34, 16 } }, 0 }, TRUE },
		{ { 1, 4, 74, 500, { { 54, 16 } }, 0 }, TRUE },
		{ { 1, 0x81, 54, 500, { { 34, 16 } }, 0 }, TRUE },
		{ { 1, 1, 54, 0, { { 34, 16 } }, 0 }, FALSE },	   /* no segment size */
		{ { 0, 1, 54, 500, { { 34, 16 } }, 0 }, FALSE },   /* no checksum */
		{ { 1, 1, 1001, 500, { { 34, 16 } }, 0 }, FALSE }, /* beyond */
		{ { 1, 3, 54, 500, { { 34, 16 } }, 0 }, FALSE },   /* UFO */
		{ { 1, 5, 54, 500, { { 34, 16 } }, 0 }, FALSE },   /* USO */
		{ { 1, 0x80, 54, 500, { { 34, 16 } }, 0 }, FALSE }, /* ECN of nothing */
		{ { 1, 0x7f, 54, 500, { { 34, 16 } }, 0 }, FALSE },
	};
	struct machine *m = machine_new(ALL);

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct virtio_net_hdr_v1 seen;
		gboolean passed = send_frame(m, &cases[i].header, 1000, &seen);

		if (passed != cases[i].passes)
			fail_msg("case %u", i);
		if (passed)
			assert_memory_equal(&seen, &cases[i].header, HEADER);
	}
	machine_free(m);
}

static void what_a_port_need_not_know_is_zero(void **unused)
{
	struct machine *m = machine_new(ALL);
	struct virtio_net_hdr_v1 header = { .flags = 0xfe,
					    .hdr_len = 99,
					    .gso_size = 7,
					    .csum_start = 5,
					    .csum_offset = 6,
					    .num_buffers = 3 };
	struct virtio_net_hdr_v1 seen;

	assert_true(send_frame(m, &header, 1000, &seen));
	assert_memory_equal(&seen, &plain, HEADER);
	machine_free(m);
}

static void offloads_that_were_not_negotiated_are_refused(void **unused)
{
	struct machine *m = machine_new(ALL & ~(BIT(HOST_TSO6) | BIT(HOST_ECN)));
	struct virtio_net_hdr_v1 header = {
		.flags = 1, .gso_type = 1, .gso_size = 500, .csum_start = 34
	};

	assert_true(send_frame(m, &header, 1000, NULL));
	header.gso_type = 0x81;
	assert_false(send_frame(m, &header, 1000, NULL));
	header.gso_type = 4;
	assert_false(send_frame(m, &header, 1000, NULL));
	machine_free(m);

	m = machine_new(ALL & ~BIT(CSUM));
	header.gso_type = 0;
	assert_false(send_frame(m, &header, 1000, NULL));
	assert_true(send_frame(m, &plain, 1000, NULL));
	machine_free(m);
}

static void only_what_the_port_can_do_is_offered(void **unused)
{
	struct machine *m =
		machine_new_with(ALL, BIT(CSUM) | BIT(HOST_UFO) | BIT(MQ), 64);
	guint64 offered = fake_driver_offered(&m->driver);

	assert_true(offered & BIT(CSUM));
	assert_true(offered & BIT(MAC));
	assert_false(offered &
		     (BIT(HOST_UFO) | BIT(MQ) | BIT(HOST_TSO4) | BIT(GUEST_CSUM)));
	machine_free(m);
	m = machine_new(ALL & ~BIT(GUEST_TSO6));
	assert_int_equal(m->wire.offloads,
			 BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_ECN));
	machine_free(m);
}

static void a_port_without_room_gets_the_frame_later(void **unused)
{
	struct machine *m = machine_new(ALL);

	m->wire.room = 2;
	for (guint i = 0; i < 5; i++)
		offer_frame(m, m->data + 4096 * i, &plain, 60 + i);
	fake_queue_kick(m->tx);
	assert_int_equal(m->wire.sent->len, 2);
	assert_int_equal(fake_queue_used_idx(m->tx), 2);
	/* Notifications change nothing. */
	fake_queue_kick(m->tx);
	assert_int_equal(m->wire.sent->len, 2);
	m->wire.room = 100;
	m->wire.ready(m->wire.net);
	fake_run(m->fake);
	assert_int_equal(m->wire.sent->len, 5);
	for (guint i = 0; i < 5; i++)
		assert_int_equal(g_bytes_get_size(m->wire.sent->pdata[i]),
				 HEADER + 60 + i);
	/* And the next one is noticed. */
	offer_frame(m, m->data, &plain, 60);
	fake_queue_kick(m->tx);
	assert_int_equal(m->wire.sent->len, 6);
	assert_int_equal(counters(m).tx_dropped, 0);
	machine_free(m);
}

static void a_long_ring_is_sent_in_batches_with_an_interrupt_each(void **unused)
{
	struct machine *m = machine_new_with(ALL & ~VMM_VIRTIO_F_EVENT_IDX, ALL, 256);

	for (guint i = 0; i < 200; i++)
		offer_frame(m, m->data + 128 * i, &plain, 60);
	fake_forget(m->fake);
	fake_queue_kick(m->tx);
	assert_int_equal(m->wire.sent->len, 200);
	assert_int_equal(m->fake->msis->len, 4);
	machine_free(m);
}

static void a_frame_comes_with_one_buffer(void **unused)
{
	struct machine *m = machine_new(ALL & ~BIT(MRG_RXBUF));
	struct virtio_net_hdr_v1 header;
	guint32 len;

	offer_buffers(m, 4, 2048);
	come(m, &plain, 1000);
	assert_true(fake_queue_take_used(m->rx, NULL, &len));
	assert_int_equal(len, HEADER + 1000);
	memcpy(&header, fake_at(m->fake, m->data, HEADER), HEADER);
	assert_int_equal(header.num_buffers, 1);
	check_payload(fake_at(m->fake, m->data + HEADER, 1000), 0, 1000);
	assert_int_equal(counters(m).rx_bytes, 1000);
	machine_free(m);
}

static void a_frame_longer_than_the_buffer_is_dropped_without_merging(void **unused)
{
	struct machine *m = machine_new(ALL & ~BIT(MRG_RXBUF));

	offer_buffers(m, 2, 1000);
	vmm_memory_track(m->fake->platform.memory, TRUE);
	come(m, &plain, 2000);
	assert_false(fake_queue_take_used(m->rx, NULL, NULL));
	assert_int_equal(counters(m).rx_dropped, 1);
	/* What it left in the buffer is marked all the same. */
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	gboolean found = FALSE;

	vmm_memory_take_marked(m->fake->platform.memory, pages);
	for (guint i = 0; i < pages->len; i++)
		found = found || g_array_index(pages, guint32, i) == m->data / VMM_PAGE;
	assert_true(found);
	/* The buffer was not lost. */
	come(m, &plain, 500);
	come(m, &plain, 500);
	assert_int_equal(counters(m).rx_frames, 2);
	machine_free(m);
}

/* Reads a merged frame back; returns how many buffers it has. */
static guint take_merged(struct machine *m, guint payload)
{
	g_autofree guint8 *all = g_malloc(HEADER + payload);
	struct virtio_net_hdr_v1 header;
	guint n = 0;
	gsize at = 0;

	while (at < HEADER + payload) {
		guint64 slot = m->rx->used + 4 + 8u * (m->rx->last_used % m->rx->size);
		guint32 id = *(guint32 *)fake_at(m->fake, slot, 4);
		guint64 *desc = fake_at(m->fake, m->rx->desc + 16 * id, 16);
		guint64 gpa = desc[0];
		guint32 len;

		assert_true(fake_queue_take_used(m->rx, NULL, &len));
		assert_true(at + len <= HEADER + payload);
		memcpy(all + at, fake_at(m->fake, gpa, len), len);
		at += len;
		n++;
	}
	memcpy(&header, all, HEADER);
	assert_int_equal(header.num_buffers, n);
	check_payload(all + HEADER, 0, payload);
	return n;
}

static void a_frame_is_spread_over_mergeable_buffers(void **unused)
{
	static const guint payloads[] = {
		14, 1488, 1489, 2988, 2989, 5000, 65000, VMM_NET_FRAME_MAX - HEADER
	};
	struct machine *m = machine_new(ALL);

	for (guint i = 0; i < G_N_ELEMENTS(payloads); i++) {
		offer_buffers(m, 50, 1500);
		come(m, &plain, payloads[i]);
		assert_int_equal(take_merged(m, payloads[i]),
				 (HEADER + payloads[i] + 1499) / 1500);
		/* The rest is used up, so that each turn starts with an empty ring. */
		while (m->rx->n_free < m->rx->size) {
			come(m, &plain, 20);
			take_merged(m, 20);
		}
	}
	assert_int_equal(counters(m).rx_dropped, 0);
	machine_free(m);
}

static void the_buffers_of_a_frame_are_marked(void **unused)
{
	struct machine *m = machine_new(ALL);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	guint found = 0;

	offer_buffers(m, 4, 4096);
	vmm_memory_track(m->fake->platform.memory, TRUE);
	come(m, &plain, 10000);
	vmm_memory_take_marked(m->fake->platform.memory, pages);
	for (guint i = 0; i < pages->len; i++) {
		guint64 page = g_array_index(pages, guint32, i);

		if (page >= m->data / VMM_PAGE && page < m->data / VMM_PAGE + 4)
			found++;
	}
	assert_int_equal(found, 3);
	machine_free(m);
}

static void a_frame_waits_until_there_are_buffers_enough(void **unused)
{
	for (guint event_idx = 0; event_idx < 2; event_idx++) {
		struct machine *m =
			machine_new(event_idx ? ALL : ALL & ~VMM_VIRTIO_F_EVENT_IDX);
		guint asked;

		offer_buffers(m, 2, 1000);
		come(m, &plain, 5000);
		assert_int_equal(fake_queue_used_idx(m->rx), 0);
		/* A level-triggered port does not spin meanwhile. */
		assert_false(m->wire.hearing);
		asked = m->wire.asked;
		come(m, &plain, 100);
		assert_int_equal(m->wire.asked, asked);
		/* The driver was asked to tell of new buffers: of the third, not of
		 * those that are there already. */
		if (event_idx)
			assert_int_equal(fake_queue_avail_event(m->rx), 2);
		else
			assert_int_equal(fake_queue_used_flags(m->rx), 0);
		offer_buffers(m, 3, 1000);
		assert_int_equal(fake_queue_used_idx(m->rx), 0);
		for (guint i = 5; i < 8; i++) {
			struct fake_buffer buffer = { m->data + 8192 * i, 1000, TRUE };

			fake_queue_add(m->rx, &buffer, 1);
		}
		fake_queue_kick(m->rx);
		/* Both frames came, in their order. */
		assert_int_equal(counters(m).rx_frames, 2);
		assert_int_equal(fake_queue_used_idx(m->rx), 7);
		assert_true(m->wire.hearing);
		machine_free(m);
	}
}

static void a_frame_that_no_ring_of_buffers_holds_is_dropped(void **unused)
{
	struct machine *m = machine_new_with(ALL, ALL, 4);

	offer_buffers(m, 4, 1000);
	come(m, &plain, 5000);
	assert_int_equal(counters(m).rx_dropped, 1);
	come(m, &plain, 500);
	assert_int_equal(counters(m).rx_frames, 1);
	machine_free(m);
}

static void without_buffers_the_port_is_left_alone(void **unused)
{
	struct machine *m = machine_new(ALL);

	assert_false(m->wire.hearing);
	come(m, &plain, 100);
	assert_int_equal(m->wire.asked, 0);
	offer_buffers(m, 1, 2048);
	assert_int_equal(counters(m).rx_frames, 1);
	assert_false(m->wire.hearing);
	machine_free(m);
}

static void a_receive_buffer_shorter_than_a_header_breaks_the_device(void **unused)
{
	struct machine *m = machine_new(ALL);

	offer_buffers(m, 1, 11);
	assert_true(is_broken(m));
	assert_false(m->wire.hearing);
	assert_int_equal(fake_event_count(m->fake, VMM_EVENT_DEVICE_BROKEN), 1);
	machine_free(m);

	/* Also where it is not the first one of a frame. */
	m = machine_new(ALL);
	struct fake_buffer out = { m->data + 8192, 100, FALSE };

	offer_buffers(m, 1, 100);
	fake_queue_add(m->rx, &out, 1);
	come(m, &plain, 1000);
	assert_true(is_broken(m));
	/* And it works again after a reset. */
	fake_driver_start(&m->driver, ALL, 64);
	offer_buffers(m, 1, 2048);
	come(m, &plain, 1000);
	assert_int_equal(counters(m).rx_frames, 1);
	machine_free(m);
}

static void a_received_header_is_judged(void **unused)
{
	struct machine *m = machine_new(ALL & ~BIT(GUEST_TSO6));
	struct virtio_net_hdr_v1 header = { .flags = 1,
					    .gso_type = 1,
					    .gso_size = 500,
					    .hdr_len = 54,
					    .csum_start = 34,
					    .csum_offset = 16 };
	struct virtio_net_hdr_v1 seen;

	offer_buffers(m, 10, 4096);
	come(m, &header, 1000);
	memcpy(&seen, fake_at(m->fake, m->data, HEADER), HEADER);
	header.num_buffers = 1;
	assert_memory_equal(&seen, &header, HEADER);
	header.gso_type = 4;
	come(m, &header, 1000);
	header.gso_type = 1;
	header.csum_start = 999;
	come(m, &header, 1000);
	come(m, &plain, 13);
	assert_int_equal(counters(m).rx_frames, 1);
	assert_int_equal(counters(m).rx_dropped, 3);
	machine_free(m);
}

static void a_checksum_that_the_guest_does_not_take_is_not_called_valid(void **unused)
{
	struct machine *m = machine_new(ALL & ~BIT(GUEST_CSUM));
	struct virtio_net_hdr_v1 header = { .flags = VIRTIO_NET_HDR_F_DATA_VALID };
	struct virtio_net_hdr_v1 seen;

	offer_buffers(m, 1, 4096);
	come(m, &header, 1000);
	memcpy(&seen, fake_at(m->fake, m->data, HEADER), HEADER);
	assert_int_equal(seen.flags, 0);
	machine_free(m);
}

static void a_frame_that_waits_is_gone_after_a_reset(void **unused)
{
	struct machine *m = machine_new(ALL);

	offer_buffers(m, 2, 1000);
	come(m, &plain, 5000);
	fake_driver_set_status(&m->driver, 0);
	assert_false(m->wire.hearing);
	fake_driver_start(&m->driver, ALL, 64);
	offer_buffers(m, 10, 1000);
	assert_int_equal(counters(m).rx_frames, 0);
	come(m, &plain, 100);
	assert_int_equal(counters(m).rx_frames, 1);
	machine_free(m);
}

static void a_loaded_card_goes_on_where_it_was(void **unused)
{
	struct machine *m = machine_new(ALL);
	g_autoptr(vmm_state) a = vmm_state_new();
	g_autoptr(vmm_state) b = vmm_state_new();
	g_autofree char *difference = NULL;
	vmm_virtio *virtio = vmm_net_virtio(m->net);

	offer_buffers(m, 3, 1000);
	come(m, &plain, 100);
	come(m, &plain, 5000);
	m->wire.room = 0;
	offer_frame(m, m->data + 65536, &plain, 100);
	fake_queue_kick(m->tx);
	vmm_virtio_save(virtio, a);
	vmm_virtio_save(virtio, b);
	difference = vmm_state_difference(a, b);
	assert_null(difference);
	assert_true(vmm_virtio_load(virtio, a, VMM_LOAD_CHECK, NULL));
	assert_true(vmm_virtio_load(virtio, a, VMM_LOAD_APPLY, NULL));
	m->wire.room = 10;
	vmm_virtio_loaded(virtio);
	fake_run(m->fake);
	/* The frame that the port had no room for is sent now; the one that waits for
	 * buffers goes on to. */
	assert_int_equal(m->wire.sent->len, 1);
	assert_false(m->wire.hearing);
	assert_int_equal(counters(m).rx_frames, 1);
	offer_buffers(m, 8, 1000);
	assert_int_equal(counters(m).rx_frames, 2);
	assert_true(m->wire.hearing);
	come(m, &plain, 200);
	assert_int_equal(counters(m).rx_frames, 3);
	machine_free(m);
}

/* As after a checkpoint: another card gets it, and the one that had it gets it once. */
static void a_frame_that_waits_is_saved_and_loaded(void **unused)
{
	struct machine *first = machine_new(ALL), *second = machine_new(ALL);
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(vmm_state) parsed = NULL;
	gsize len;
	const guint8 *bytes;

	offer_buffers(first, 2, 1000);
	come(first, &plain, 5000);
	vmm_virtio_save(vmm_net_virtio(first->net), saved);
	bytes = vmm_state_bytes(saved, &len);
	parsed = vmm_state_parse(bytes, len, NULL);
	/* Memory, with the rings in it, comes along. */
	memcpy(vmm_memory_page(second->fake->platform.memory, 0),
	       vmm_memory_page(first->fake->platform.memory, 0),
	       vmm_memory_bytes(first->fake->platform.memory));
	second->rx->avail_idx = first->rx->avail_idx;
	second->rx->n_free = first->rx->n_free;
	assert_true(vmm_virtio_load(vmm_net_virtio(second->net), parsed, VMM_LOAD_CHECK,
				    NULL));
	assert_true(vmm_virtio_load(vmm_net_virtio(second->net), parsed, VMM_LOAD_APPLY,
				    NULL));
	vmm_virtio_loaded(vmm_net_virtio(second->net));
	fake_run(second->fake);
	for (guint i = 0; i < 6; i++) {
		struct fake_buffer buffer = { second->data + 4096 * (i + 1), 1000, TRUE };

		fake_queue_add(second->rx, &buffer, 1);
	}
	fake_queue_kick(second->rx);
	assert_int_equal(counters(second).rx_frames, 1);
	assert_int_equal(counters(second).rx_bytes, 5000);
	check_payload(fake_at(second->fake, second->data + HEADER, 100), 0, 100);
	assert_true(second->wire.hearing);
	/* Loaded over itself it is not there twice. */
	assert_true(vmm_virtio_load(vmm_net_virtio(first->net), parsed, VMM_LOAD_APPLY,
				    NULL));
	vmm_virtio_loaded(vmm_net_virtio(first->net));
	fake_run(first->fake);
	offer_buffers(first, 8, 1000);
	assert_int_equal(counters(first).rx_frames, 1);
	machine_free(first);
	machine_free(second);
}

static void refuse_waiting_frame(struct machine *m, const vmm_state *good,
				 const void *frame, gsize len)
{
	static const char *const kept[] = { "pci-net", "virtio-net" };
	g_autoptr(vmm_state) bad = vmm_state_new();
	g_autoptr(GError) error = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(kept); i++) {
		gsize size;
		const void *bytes =
			vmm_state_get(good, kept[i], 0, 1, 0, 65536, &size, NULL);

		vmm_state_put(bad, kept[i], 0, 1, bytes, size, NULL);
	}
	vmm_state_put(bad, "net", 0, 1, frame, len, NULL);
	assert_false(vmm_virtio_load(vmm_net_virtio(m->net), bad, VMM_LOAD_CHECK,
				     &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
}

static void a_waiting_frame_that_cannot_be_is_refused(void **unused)
{
	struct machine *m = machine_new(ALL);
	g_autoptr(vmm_state) good = vmm_state_new();
	g_autofree guint8 *frame = g_malloc0(70000);
	guint32 length = GUINT32_TO_LE(60);

	offer_buffers(m, 2, 1000);
	vmm_virtio_save(vmm_net_virtio(m->net), good);
	/* A header without a frame, and the other way about. */
	frame[4] = 1;
	refuse_waiting_frame(m, good, frame, 16);
	frame[4] = 0;
	refuse_waiting_frame(m, good, frame, 16 + 60);
	memcpy(frame, &length, sizeof(length));
	refuse_waiting_frame(m, good, frame, 16);
	refuse_waiting_frame(m, good, frame, 16 + 59);
	/* No number of buffers, unknown flags, too short, too long. */
	refuse_waiting_frame(m, good, frame, 16 + 60);
	frame[4 + 10] = 1;
	frame[4] = 0x80;
	refuse_waiting_frame(m, good, frame, 16 + 60);
	frame[4] = 0;
	length = GUINT32_TO_LE(13);
	memcpy(frame, &length, sizeof(length));
	refuse_waiting_frame(m, good, frame, 16 + 13);
	length = GUINT32_TO_LE(65551);
	memcpy(frame, &length, sizeof(length));
	refuse_waiting_frame(m, good, frame, 16 + 65551);
	refuse_waiting_frame(m, good, frame, 15);
	machine_free(m);
}

/* A state may say what its own driver never agreed to. */
static void a_loaded_frame_that_the_driver_does_not_take_is_dropped(void **unused)
{
	struct machine *m = machine_new(ALL & ~BIT(GUEST_TSO4));
	g_autoptr(vmm_state) good = vmm_state_new(), other = vmm_state_new();
	static const char *const kept[] = { "pci-net", "virtio-net" };
	struct virtio_net_hdr_v1 header = { .flags = 1,
					    .gso_type = 1,
					    .gso_size = 500,
					    .hdr_len = 54,
					    .csum_start = 34,
					    .csum_offset = 16,
					    .num_buffers = 1 };
	guint32 length = GUINT32_TO_LE(1000);
	guint8 frame[16 + 1000] = { 0 };

	memcpy(frame, &length, sizeof(length));
	memcpy(frame + 4, &header, HEADER);
	vmm_virtio_save(vmm_net_virtio(m->net), good);
	for (guint i = 0; i < G_N_ELEMENTS(kept); i++) {
		gsize size;
		const void *bytes =
			vmm_state_get(good, kept[i], 0, 1, 0, 65536, &size, NULL);

		vmm_state_put(other, kept[i], 0, 1, bytes, size, NULL);
	}
	vmm_state_put(other, "net", 0, 1, frame, sizeof(frame), NULL);
	assert_true(vmm_virtio_load(vmm_net_virtio(m->net), other, VMM_LOAD_CHECK, NULL));
	assert_true(vmm_virtio_load(vmm_net_virtio(m->net), other, VMM_LOAD_APPLY, NULL));
	vmm_virtio_loaded(vmm_net_virtio(m->net));
	offer_buffers(m, 4, 2048);
	assert_int_equal(counters(m).rx_frames, 0);
	assert_int_equal(counters(m).rx_dropped, 1);
	come(m, &plain, 100);
	assert_int_equal(counters(m).rx_frames, 1);
	machine_free(m);
}

static void the_configuration_tells_address_and_link(void **unused)
{
	struct machine *m = machine_new(ALL);
	guint8 config[10];

	fake_config_read(&m->driver, 0, config, sizeof(config));
	assert_memory_equal(config, mac, 6);
	assert_int_equal(config[6], VIRTIO_NET_S_LINK_UP);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_is_sent_as_the_guest_wrote_it),
		cmocka_unit_test(a_header_in_pieces_is_put_together),
		cmocka_unit_test(a_frame_too_short_or_too_long_is_dropped),
		cmocka_unit_test(a_sent_header_is_judged),
		cmocka_unit_test(what_a_port_need_not_know_is_zero),
		cmocka_unit_test(offloads_that_were_not_negotiated_are_refused),
		cmocka_unit_test(only_what_the_port_can_do_is_offered),
		cmocka_unit_test(a_port_without_room_gets_the_frame_later),
		cmocka_unit_test(a_long_ring_is_sent_in_batches_with_an_interrupt_each),
		cmocka_unit_test(a_frame_comes_with_one_buffer),
		cmocka_unit_test(
			a_frame_longer_than_the_buffer_is_dropped_without_merging),
		cmocka_unit_test(a_frame_is_spread_over_mergeable_buffers),
		cmocka_unit_test(the_buffers_of_a_frame_are_marked),
		cmocka_unit_test(a_frame_waits_until_there_are_buffers_enough),
		cmocka_unit_test(a_frame_that_no_ring_of_buffers_holds_is_dropped),
		cmocka_unit_test(without_buffers_the_port_is_left_alone),
		cmocka_unit_test(
			a_receive_buffer_shorter_than_a_header_breaks_the_device),
		cmocka_unit_test(a_received_header_is_judged),
		cmocka_unit_test(
			a_checksum_that_the_guest_does_not_take_is_not_called_valid),
		cmocka_unit_test(a_frame_that_waits_is_gone_after_a_reset),
		cmocka_unit_test(a_loaded_card_goes_on_where_it_was),
		cmocka_unit_test(a_frame_that_waits_is_saved_and_loaded),
		cmocka_unit_test(a_waiting_frame_that_cannot_be_is_refused),
		cmocka_unit_test(
			a_loaded_frame_that_the_driver_does_not_take_is_dropped),
		cmocka_unit_test(the_configuration_tells_address_and_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
