/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card's port for tests. */
#include "tests/unit/fake_port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/iov.h"

static gboolean send_one(void *data, const struct iovec *iov, guint count)
{
	struct fake_port *fake = data;
	guint8 *frame;
	gsize len;

	assert_int_equal(iov[0].iov_len, FAKE_HEADER);
	if (!fake->room)
		return FALSE;
	fake->room--;
	frame = g_malloc(VMM_NET_FRAME_MAX);
	len = vmm_iov_read(iov, count, 0, frame, VMM_NET_FRAME_MAX);
	g_ptr_array_add(fake->sent, g_bytes_new(frame, len));
	g_free(frame);
	return TRUE;
}

static gssize receive_one(void *data, const struct iovec *iov, guint count)
{
	struct fake_port *fake = data;
	g_autoptr(GBytes) frame = g_queue_pop_head(&fake->coming);
	gsize len;

	assert_int_equal(iov[0].iov_len, FAKE_HEADER);
	if (!frame)
		return 0;
	len = g_bytes_get_size(frame);
	if (vmm_iov_write(iov, count, 0, g_bytes_get_data(frame, NULL), len) < len)
		return -1;
	return (gssize)len;
}

static void set_offloads(void *data, guint64 features)
{
	((struct fake_port *)data)->offloads = features;
}

static void attach(void *data, void (*ready)(void *net), void *net)
{
	struct fake_port *fake = data;

	fake->attached++;
	fake->ready = ready;
	fake->net = net;
}

static void want_receive(void *data, gboolean want)
{
	((struct fake_port *)data)->hearing = want;
}

static void free_one(void *data)
{
	struct fake_port *fake = data;

	assert_false(fake->freed);
	fake->freed = TRUE;
}

void fake_port_init(struct fake_port *fake, guint64 features)
{
	*fake = (struct fake_port){ .room = G_MAXUINT };
	fake->sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
	g_queue_init(&fake->coming);
	fake->port = (struct vmm_net_port){
		.data = fake,
		.send = send_one,
		.receive = receive_one,
		.set_offloads = set_offloads,
		.features = features,
		.attach = attach,
		.want_receive = want_receive,
		.free = free_one,
	};
}

void fake_port_clear(struct fake_port *fake)
{
	g_ptr_array_unref(fake->sent);
	g_queue_clear_full(&fake->coming, (GDestroyNotify)g_bytes_unref);
}

void fake_port_coming(struct fake_port *fake, guint8 mark, const void *bytes, gsize len)
{
	guint8 *frame = g_malloc0(FAKE_HEADER + len);

	frame[0] = mark;
	memcpy(frame + FAKE_HEADER, bytes, len);
	g_queue_push_tail(&fake->coming, g_bytes_new_take(frame, FAKE_HEADER + len));
}

const guint8 *fake_port_sent(const struct fake_port *fake, guint index, gsize *len)
{
	static const guint8 zero[FAKE_HEADER];
	const guint8 *frame;

	assert_true(index < fake->sent->len);
	frame = g_bytes_get_data(g_ptr_array_index(fake->sent, index), len);
	assert_true(*len >= FAKE_HEADER);
	assert_memory_equal(frame, zero, FAKE_HEADER);
	*len -= FAKE_HEADER;
	return frame + FAKE_HEADER;
}

GBytes *fake_port_receive(struct vmm_net_port *port, gsize room, gssize *got)
{
	g_autofree guint8 *bytes = g_malloc(FAKE_HEADER + room);
	struct iovec iov[] = {
		{ bytes, FAKE_HEADER },
		{ bytes + FAKE_HEADER, room / 3 },
		{ bytes + FAKE_HEADER + room / 3, room - room / 3 },
	};
	gssize len = port->receive(port->data, iov, G_N_ELEMENTS(iov));

	if (got)
		*got = len;
	return len > 0 ? g_bytes_new(bytes, (gsize)len) : NULL;
}

gboolean fake_port_send(struct vmm_net_port *port, const void *bytes, gsize len)
{
	guint8 header[FAKE_HEADER] = { 0 };
	struct iovec iov[] = {
		{ header, sizeof(header) },
		{ (void *)bytes, len / 2 },
		{ (guint8 *)bytes + len / 2, len - len / 2 },
	};

	return port->send(port->data, iov, G_N_ELEMENTS(iov));
}
