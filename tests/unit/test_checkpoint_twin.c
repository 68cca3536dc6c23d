/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's guest and the outside, alone and behind a primary's mirror. */
#include <linux/virtio_ids.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/mirror.h"
#include "checkpoint/twin.h"
#include "kvm/iov.h"
#include "tests/unit/fake_driver.h"
#include "tests/unit/fake_port.h"

#define NETS 2u

struct rig {
	vmm_loop *loop;
	ckpt_input *input;
	ckpt_twin *twin;
	ckpt_addresses *addresses;
	struct fake_port real[NETS];
	struct vmm_net_port *port[NETS];
	guint readies;
	/* The last output. */
	guint outputs;
	guint64 epoch;
	guint device;
	GBytes *output;
};

static void on_output(void *data, guint64 epoch, guint device, const struct iovec *iov,
		      guint count)
{
	struct rig *rig = data;
	guint8 bytes[2048];
	gsize len = vmm_iov_read(iov, count, 0, bytes, sizeof(bytes));

	rig->outputs++;
	rig->epoch = epoch;
	rig->device = device;
	g_clear_pointer(&rig->output, g_bytes_unref);
	rig->output = g_bytes_new(bytes, len);
}

static void on_ready(void *net)
{
	((struct rig *)net)->readies++;
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->loop = vmm_loop_new(NULL);
	rig->input = ckpt_input_new(NETS, 8u << 20);
	rig->twin = ckpt_twin_new(rig->input, on_output, rig);
	rig->addresses = ckpt_addresses_new();
	for (guint i = 0; i < NETS; i++) {
		fake_port_init(&rig->real[i], 0x1000 + i);
		rig->port[i] = ckpt_twin_port_new_take(rig->twin, i, &rig->real[i].port,
						       rig->loop, rig->addresses);
	}
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	for (guint i = 0; i < NETS; i++) {
		if (!rig->real[i].freed)
			rig->port[i]->free(rig->port[i]->data);
		assert_true(rig->real[i].freed);
		fake_port_clear(&rig->real[i]);
	}
	ckpt_twin_free(rig->twin);
	ckpt_input_free(rig->input);
	ckpt_addresses_free(rig->addresses);
	vmm_loop_free(rig->loop);
	g_clear_pointer(&rig->output, g_bytes_unref);
	g_free(rig);
	return 0;
}

/* What the primary mirrors comes here at once. */
static void on_mirrored(void *data, const struct iovec *iov, guint count)
{
	g_autofree guint8 *payload = g_malloc(16 + CKPT_FRAME_MAX);
	gsize len = vmm_iov_read(iov, count, 0, payload, 16 + CKPT_FRAME_MAX);

	assert_null(ckpt_input_add(data, payload, len));
}

static void add(struct rig *rig, guint kind, guint device, const void *bytes, gsize len)
{
	struct ckpt_input_head head = {
		.number = wire_put64(ckpt_input_last(rig->input) + 1),
		.kind = (guint8)kind,
		.device = (guint8)device,
	};
	struct iovec iov[] = { { &head, sizeof(head) }, { (void *)bytes, len } };

	on_mirrored(rig->input, iov, G_N_ELEMENTS(iov));
}

/* A frame of 60 bytes behind its header; the first byte of each is `mark`. */
static void add_frame(struct rig *rig, guint device, guint8 mark)
{
	guint8 bytes[FAKE_HEADER + 60] = { [0] = mark, [FAKE_HEADER] = mark };

	add(rig, CKPT_INPUT_NET, device, bytes, sizeof(bytes));
}

/* The guest receives the frame with this mark; 0: none. */
static void expect_frame(struct rig *rig, guint device, guint8 mark)
{
	gssize got;
	g_autoptr(GBytes) frame = fake_port_receive(rig->port[device], 2000, &got);
	const guint8 *bytes;

	if (!mark) {
		assert_int_equal(got, 0);
		return;
	}
	assert_int_equal(got, FAKE_HEADER + 60);
	bytes = g_bytes_get_data(frame, NULL);
	assert_int_equal(bytes[0], mark);
	assert_int_equal(bytes[FAKE_HEADER], mark);
}

static void real_frame(struct rig *rig, guint device, guint8 mark)
{
	guint8 bytes[60] = { mark };

	fake_port_coming(&rig->real[device], mark, bytes, sizeof(bytes));
}

static void run_loop(struct rig *rig)
{
	while (vmm_loop_iterate(rig->loop, 0))
		;
}

static void frames_of_the_primary_are_received(void **state)
{
	struct rig *rig = *state;
	gssize got;

	expect_frame(rig, 0, 0);
	add_frame(rig, 0, 1);
	add_frame(rig, 1, 2);
	add_frame(rig, 0, 3);
	expect_frame(rig, 0, 1);
	expect_frame(rig, 0, 3);
	expect_frame(rig, 0, 0);
	expect_frame(rig, 1, 2);
	add_frame(rig, 0, 4);
	add_frame(rig, 0, 5);
	assert_null(fake_port_receive(rig->port[0], 59, &got));
	assert_int_equal(got, -1);
	expect_frame(rig, 0, 5);
}

static void what_is_sent_goes_to_the_hook_and_nowhere_else(void **state)
{
	struct rig *rig = *state;
	guint8 frame[60] = { 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1 };
	struct ckpt_address learned[CKPT_ADDRESSES_ALL];

	ckpt_twin_set_epoch(rig->twin, 7);
	rig->real[1].room = 0;
	assert_true(fake_port_send(rig->port[1], frame, sizeof(frame)));
	assert_int_equal(rig->outputs, 1);
	assert_int_equal(rig->epoch, 7);
	assert_int_equal(rig->device, 1);
	assert_int_equal(g_bytes_get_size(rig->output), FAKE_HEADER + sizeof(frame));
	assert_memory_equal((const guint8 *)g_bytes_get_data(rig->output, NULL) +
				    FAKE_HEADER,
			    frame, sizeof(frame));
	ckpt_twin_set_epoch(rig->twin, 8);
	assert_true(fake_port_send(rig->port[0], frame, sizeof(frame)));
	assert_int_equal(rig->epoch, 8);
	assert_int_equal(rig->device, 0);
	assert_int_equal(rig->real[0].sent->len + rig->real[1].sent->len, 0);
	assert_int_equal(ckpt_addresses_copy(rig->addresses, learned), 1);
}

static void the_real_port_is_silent_and_deaf_before_the_promotion(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig->port[1]->features, 0x1001);
	real_frame(rig, 0, 9);
	rig->port[0]->attach(rig->port[0]->data, on_ready, rig);
	rig->port[0]->set_offloads(rig->port[0]->data, 5);
	rig->port[0]->want_receive(rig->port[0]->data, TRUE);
	expect_frame(rig, 0, 0);
	assert_int_equal(rig->real[0].attached, 0);
	assert_int_equal(rig->real[0].offloads, 0);
	assert_false(rig->real[0].hearing);
	assert_null(ckpt_twin_port_real(rig->port[0]));
}

static void a_card_that_listens_is_told_of_frames_on_the_io_thread(void **state)
{
	struct rig *rig = *state;

	rig->port[0]->attach(rig->port[0]->data, on_ready, rig);
	add_frame(rig, 0, 1);
	ckpt_twin_wake(rig->twin);
	run_loop(rig);
	assert_int_equal(rig->readies, 0);
	/* It listens again, and there is something. */
	rig->port[0]->want_receive(rig->port[0]->data, TRUE);
	assert_int_equal(rig->readies, 0);
	run_loop(rig);
	assert_int_equal(rig->readies, 1);
	expect_frame(rig, 0, 1);
	ckpt_twin_wake(rig->twin);
	run_loop(rig);
	assert_int_equal(rig->readies, 1);
	add_frame(rig, 1, 2);
	ckpt_twin_wake(rig->twin);
	run_loop(rig);
	assert_int_equal(rig->readies, 1);
	add_frame(rig, 0, 3);
	ckpt_twin_wake(rig->twin);
	assert_int_equal(rig->readies, 1);
	run_loop(rig);
	assert_int_equal(rig->readies, 2);
	/* A port that goes away is not called any more. */
	ckpt_twin_wake(rig->twin);
	rig->port[0]->free(rig->port[0]->data);
	run_loop(rig);
	assert_int_equal(rig->readies, 2);
}

static void a_promoted_port_is_the_real_one(void **state)
{
	struct rig *rig = *state;
	guint8 frame[60] = { 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1 };

	rig->port[0]->attach(rig->port[0]->data, on_ready, rig);
	rig->port[0]->set_offloads(rig->port[0]->data, 5);
	rig->port[0]->want_receive(rig->port[0]->data, TRUE);
	ckpt_twin_promote(rig->twin);
	assert_int_equal(rig->real[0].attached, 1);
	assert_ptr_equal(rig->real[0].ready, on_ready);
	assert_ptr_equal(rig->real[0].net, rig);
	assert_int_equal(rig->real[0].offloads, 5);
	assert_true(rig->real[0].hearing);
	assert_ptr_equal(ckpt_twin_port_real(rig->port[0]), &rig->real[0].port);
	/* Nobody said anything for the other card yet. */
	assert_int_equal(rig->real[1].attached, 0);
	assert_false(rig->real[1].hearing);
	rig->port[1]->attach(rig->port[1]->data, on_ready, rig);
	assert_int_equal(rig->real[1].attached, 1);
	rig->port[0]->set_offloads(rig->port[0]->data, 6);
	assert_int_equal(rig->real[0].offloads, 6);
	rig->port[0]->want_receive(rig->port[0]->data, FALSE);
	assert_false(rig->real[0].hearing);

	assert_true(fake_port_send(rig->port[0], frame, sizeof(frame)));
	assert_int_equal(rig->outputs, 0);
	assert_int_equal(rig->real[0].sent->len, 1);
	rig->real[0].room = 0;
	assert_false(fake_port_send(rig->port[0], frame, sizeof(frame)));
	real_frame(rig, 0, 4);
	expect_frame(rig, 0, 4);
	expect_frame(rig, 0, 0);
	/* A second time is none. */
	ckpt_twin_promote(rig->twin);
	assert_int_equal(rig->real[0].attached, 1);
}

static void kept_frames_come_before_those_of_the_real_port(void **state)
{
	struct rig *rig = *state;

	rig->port[0]->attach(rig->port[0]->data, on_ready, rig);
	rig->port[0]->want_receive(rig->port[0]->data, TRUE);
	for (guint8 mark = 1; mark <= 3; mark++)
		add_frame(rig, 0, mark);
	expect_frame(rig, 0, 1);
	/* From before: somebody else's. */
	real_frame(rig, 0, 8);
	real_frame(rig, 0, 9);
	ckpt_twin_promote(rig->twin);
	run_loop(rig);
	assert_int_equal(rig->readies, 1);
	real_frame(rig, 0, 4);
	expect_frame(rig, 0, 2);
	expect_frame(rig, 0, 3);
	expect_frame(rig, 0, 4);
	expect_frame(rig, 0, 0);
	assert_int_equal(ckpt_input_kept_bytes(rig->input), 0);
}

static void a_port_without_a_network_loses_what_is_sent(void **state)
{
	struct rig *rig = *state;
	struct vmm_net_port *port;
	guint8 frame[60] = { 0 };

	rig->port[0]->free(rig->port[0]->data);
	port = ckpt_twin_port_new(rig->twin, 0, 0x77, rig->loop, NULL);
	assert_int_equal(port->features, 0x77);
	assert_true(fake_port_send(port, frame, sizeof(frame)));
	assert_int_equal(rig->outputs, 1);
	ckpt_twin_promote(rig->twin);
	assert_true(fake_port_send(port, frame, sizeof(frame)));
	assert_int_equal(rig->outputs, 1);
	assert_null(fake_port_receive(port, 100, NULL));
	assert_null(ckpt_twin_port_real(port));
	port->free(port->data);
}

static void entropy_is_the_primarys_and_then_the_hosts(void **state)
{
	static const guint8 zero[64];
	struct rig *rig = *state;
	guint8 bytes[64] = { 0 };

	assert_int_equal(ckpt_twin_rng(rig->twin, bytes, 64), 0);
	add(rig, CKPT_INPUT_RNG, 0, "abcdef", 6);
	assert_int_equal(ckpt_twin_rng(rig->twin, bytes, 4), 4);
	assert_memory_equal(bytes, "abcd", 4);
	ckpt_twin_promote(rig->twin);
	assert_int_equal(ckpt_twin_rng(rig->twin, bytes, 64), 2);
	assert_memory_equal(bytes, "ef", 2);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(ckpt_twin_rng(rig->twin, bytes, 64), 64);
	assert_memory_not_equal(bytes, zero, 64);
}

static void typing_is_the_primarys(void **state)
{
	struct rig *rig = *state;
	char bytes[8];

	assert_int_equal(ckpt_twin_console(rig->twin, 0, bytes, 8), 0);
	add(rig, CKPT_INPUT_CONSOLE, 0, "root\r", 5);
	add(rig, CKPT_INPUT_CONSOLE, 1, "x", 1);
	assert_int_equal(ckpt_twin_console(rig->twin, 0, bytes, 2), 2);
	ckpt_twin_promote(rig->twin);
	assert_int_equal(ckpt_twin_console(rig->twin, 0, bytes, 8), 3);
	assert_memory_equal(bytes, "ot\r", 3);
	assert_int_equal(ckpt_twin_console(rig->twin, 0, bytes, 8), 0);
	assert_int_equal(ckpt_twin_console(rig->twin, 1, bytes, 8), 1);
}

static void a_promoted_node_mirrors_to_its_own_secondary(void **state)
{
	struct rig *rig = *state;
	g_autoptr(ckpt_mirror) mirror = ckpt_mirror_new(ckpt_twin_rng, rig->twin);
	g_autoptr(ckpt_input) farther = ckpt_input_new(NETS, 1u << 20);
	struct vmm_net_port *inner = rig->port[0];
	guint8 bytes[4];

	rig->port[0] = ckpt_mirror_port_new_take(inner, 0, mirror, NULL);
	add_frame(rig, 0, 1);
	add_frame(rig, 0, 2);
	add(rig, CKPT_INPUT_RNG, 0, "ab", 2);
	expect_frame(rig, 0, 1);
	ckpt_twin_promote(rig->twin);
	ckpt_mirror_start(mirror, on_mirrored, farther);
	real_frame(rig, 0, 3);
	expect_frame(rig, 0, 2);
	expect_frame(rig, 0, 3);
	assert_int_equal(ckpt_mirror_rng(mirror, bytes, 4), 2);
	assert_int_equal(ckpt_mirror_rng(mirror, bytes, 4), 4);
	assert_int_equal(ckpt_input_last(farther), 4);
	rig->port[0]->free(rig->port[0]->data);
	rig->port[0] = NULL;
}

/* With a card of virtio-net, which judges headers. */

static void add_plain_frame(struct rig *rig, guint device, guint8 mark)
{
	guint8 bytes[FAKE_HEADER + 60] = { [FAKE_HEADER] = mark };

	add(rig, CKPT_INPUT_NET, device, bytes, sizeof(bytes));
}

/* The driver's next frame has this mark; 0: there is none. */
static void expect_used(struct fake_queue *queue, struct fake_platform *fake,
			guint64 buffer, guint8 mark)
{
	guint32 len;

	assert_int_equal(fake_queue_take_used(queue, NULL, &len), mark != 0);
	if (!mark)
		return;
	assert_int_equal(len, FAKE_HEADER + 60);
	assert_int_equal(*(guint8 *)fake_at(fake, buffer + FAKE_HEADER, 1), mark);
}

static void a_card_at_a_checkpoint_gets_again_what_came_after_it(void **state)
{
	static const guint8 mac[6] = { 2, 0, 0, 1, 2, 3 };
	struct rig *rig = *state;
	struct fake_platform *fake = fake_platform_new(16 << 20);
	vmm_pci *pci = vmm_pci_new(&fake->platform);
	g_autoptr(vmm_state) checkpoint = vmm_state_new();
	struct vmm_net_port *port =
		ckpt_twin_port_new(rig->twin, 1, 0, fake->platform.loop, NULL);
	vmm_net *net = vmm_net_new_take(pci, &fake->platform, 0, mac, port, NULL);
	struct fake_driver driver;
	struct fake_queue *rx = &driver.queue[0];
	struct fake_queue before;
	guint64 buffers;

	assert_true(fake_driver_find(&driver, fake, VIRTIO_ID_NET, 0));
	fake_driver_start(&driver, 0, 16);
	buffers = fake_alloc(fake, 16 * 2048, 4096);
	for (guint i = 0; i < 8; i++) {
		struct fake_buffer buffer = { buffers + i * 2048, 2048, TRUE };

		fake_queue_add(rx, &buffer, 1);
	}
	fake_queue_kick(rx);
	add_plain_frame(rig, 1, 1);
	ckpt_twin_wake(rig->twin);
	fake_run(fake);
	expect_used(rx, fake, buffers, 1);
	/* The checkpoint is of here; of memory, what the device wrote goes back. */
	vmm_virtio_save(vmm_net_virtio(net), checkpoint);
	before = *rx;
	for (guint8 mark = 2; mark <= 4; mark++)
		add_plain_frame(rig, 1, mark);
	ckpt_twin_wake(rig->twin);
	fake_run(fake);
	for (guint8 mark = 2; mark <= 4; mark++)
		expect_used(rx, fake, buffers + (mark - 1u) * 2048, mark);
	expect_used(rx, fake, 0, 0);

	*rx = before;
	*(guint16 *)fake_at(fake, rx->used + 2, 2) = GUINT16_TO_LE(1);
	memset(fake_at(fake, buffers, 16 * 2048), 0, 16 * 2048);
	assert_true(
		vmm_virtio_load(vmm_net_virtio(net), checkpoint, VMM_LOAD_APPLY, NULL));
	ckpt_input_applied(rig->input, 2);
	vmm_virtio_loaded(vmm_net_virtio(net));
	fake_run(fake);
	/* Its second is the first after the cut. */
	expect_used(rx, fake, buffers + 2048, 3);
	expect_used(rx, fake, buffers + 4096, 4);
	expect_used(rx, fake, 0, 0);
	vmm_net_free(net);
	vmm_pci_free(pci);
	fake_platform_free(fake);
}

/*
 * The model. What the primary's guest is given is numbered within each stream; a
 * guest's state is how much of each it has had. A checkpoint carries the primary's
 * state, and the secondary's guest goes on from there: what it gets next must be what
 * comes next in the stream, whatever it had before.
 */
#define STREAMS 4u /* two cards, a console, entropy */

struct cut {
	guint64 number; /* as the checkpoint carries it */
	guint had[STREAMS];
};

struct pair {
	struct rig *rig; /* the secondary */
	GRand *rand;
	struct fake_port real[NETS]; /* the primary's */
	ckpt_mirror *mirror;
	struct vmm_net_port *port[NETS];
	GQueue wire; /* GBytes: items on their way, and a NULL in a GBytes for the cut
		      */
	guint had[STREAMS]; /* by the primary's guest */
	guint got[STREAMS]; /* of it, what reached the secondary */
	guint twin[STREAMS]; /* had by the secondary's guest */
	struct cut cut;
	enum { NO_CUT, ON_ITS_WAY, COMMITTED } cut_is;
	guint received, applied, again;
};

/* The byte at position `n` of a stream of bytes. */
static guint8 byte_at(guint stream, guint n)
{
	return (guint8)(n * 31 + stream + n / 251);
}

static gsize primary_entropy(void *data, void *bytes, gsize len)
{
	struct pair *pair = data;
	gsize some = (gsize)g_rand_int_range(pair->rand, 0, 20);

	len = MIN(len, some);
	for (gsize i = 0; i < len; i++)
		((guint8 *)bytes)[i] = byte_at(3, pair->had[3]++);
	return len;
}

static void on_the_wire(void *data, const struct iovec *iov, guint count)
{
	struct pair *pair = data;
	guint8 payload[4096];
	gsize len = vmm_iov_read(iov, count, 0, payload, sizeof(payload));

	g_queue_push_tail(&pair->wire, g_bytes_new(payload, len));
}

static gsize frame_len(guint device, guint n)
{
	return 60 + (n * 37 + device) % 400;
}

/* The primary's guest is given something. */
static void give(struct pair *pair, guint stream)
{
	guint8 bytes[512];
	gsize len;

	if (stream < NETS) {
		g_autoptr(GBytes) frame = NULL;
		guint32 n = pair->had[stream]++;

		len = frame_len(stream, n);
		memset(bytes, (int)n, len);
		memcpy(bytes, &n, sizeof(n));
		fake_port_coming(&pair->real[stream], (guint8)stream, bytes, len);
		frame = fake_port_receive(pair->port[stream], 2000, NULL);
		assert_non_null(frame);
	} else if (stream == 2) {
		len = (gsize)g_rand_int_range(pair->rand, 1, 20);
		for (gsize i = 0; i < len; i++)
			bytes[i] = byte_at(2, pair->had[2]++);
		ckpt_mirror_console(pair->mirror, 0, bytes, len);
	} else {
		ckpt_mirror_rng(pair->mirror, bytes, 16);
	}
}

/* The next thing on the wire reaches the secondary. */
static void deliver(struct pair *pair)
{
	g_autoptr(GBytes) bytes = g_queue_pop_head(&pair->wire);
	struct ckpt_input_head head;
	const guint8 *payload;
	gsize len;

	if (!bytes)
		return;
	payload = g_bytes_get_data(bytes, &len);
	if (!len) {
		assert_true(ckpt_input_covers(pair->rig->input, pair->cut.number));
		pair->cut_is = COMMITTED;
		return;
	}
	assert_null(ckpt_input_add(pair->rig->input, payload, len));
	memcpy(&head, payload, sizeof(head));
	if (head.kind == CKPT_INPUT_NET)
		pair->got[head.device]++;
	else
		pair->got[head.kind == CKPT_INPUT_CONSOLE ? 2 : 3] +=
			(guint)(len - sizeof(head));
}

static void check_frame(guint device, GBytes *frame, guint32 n)
{
	gsize len;
	const guint8 *bytes = g_bytes_get_data(frame, &len);
	guint32 is;

	assert_int_equal(bytes[0], device);
	memcpy(&is, bytes + FAKE_HEADER, sizeof(is));
	assert_int_equal(is, n);
	assert_int_equal(len, FAKE_HEADER + frame_len(device, n));
	for (gsize i = FAKE_HEADER + sizeof(is); i < len; i++)
		assert_int_equal(bytes[i], (guint8)n);
}

/* The secondary's guest takes what there is next, which must be what the model says. */
static void take(struct pair *pair, guint stream)
{
	guint8 bytes[24];
	gsize want, len;

	if (stream < NETS) {
		g_autoptr(GBytes) frame =
			fake_port_receive(pair->rig->port[stream], 2000, NULL);

		assert_int_equal(frame != NULL, pair->twin[stream] < pair->got[stream]);
		if (!frame)
			return;
		check_frame(stream, frame, pair->twin[stream]++);
	} else {
		want = (gsize)g_rand_int_range(pair->rand, 1, sizeof(bytes));
		len = stream == 2 ? ckpt_twin_console(pair->rig->twin, 0, bytes, want)
				  : ckpt_twin_rng(pair->rig->twin, bytes, want);
		assert_int_equal(len,
				 MIN(want, pair->got[stream] - pair->twin[stream]));
		for (gsize i = 0; i < len; i++)
			assert_int_equal(bytes[i],
					 byte_at(stream, pair->twin[stream]++));
	}
	pair->received++;
}

static void cut(struct pair *pair)
{
	if (pair->cut_is != NO_CUT)
		return;
	pair->cut.number = ckpt_mirror_number(pair->mirror);
	memcpy(pair->cut.had, pair->had, sizeof(pair->had));
	pair->cut_is = ON_ITS_WAY;
	g_queue_push_tail(&pair->wire, g_bytes_new(NULL, 0));
}

static void apply(struct pair *pair)
{
	if (pair->cut_is != COMMITTED)
		return;
	ckpt_input_applied(pair->rig->input, pair->cut.number);
	for (guint i = 0; i < STREAMS; i++)
		pair->again += pair->twin[i] > pair->cut.had[i];
	memcpy(pair->twin, pair->cut.had, sizeof(pair->twin));
	pair->cut_is = NO_CUT;
	pair->applied++;
}

static void step(struct pair *pair)
{
	guint stream = (guint)g_rand_int_range(pair->rand, 0, STREAMS);
	guint dice = (guint)g_rand_int_range(pair->rand, 0, 100);

	if (dice < 25)
		give(pair, stream);
	else if (dice < 60)
		deliver(pair);
	else if (dice < 94)
		take(pair, stream);
	else if (dice < 97)
		cut(pair);
	else
		apply(pair);
}

/* The secondary is promoted with what reached it, and gets the rest, each once. */
static void end(struct pair *pair)
{
	guint8 bytes[60] = { 0 };

	if (g_rand_boolean(pair->rand))
		apply(pair);
	ckpt_twin_promote(pair->rig->twin);
	for (guint i = 0; i < NETS; i++) {
		g_autoptr(GBytes) frame = NULL;

		fake_port_coming(&pair->rig->real[i], 0xee, bytes, sizeof(bytes));
		while (pair->twin[i] < pair->got[i])
			take(pair, i);
		frame = fake_port_receive(pair->rig->port[i], 2000, NULL);
		assert_int_equal(*(const guint8 *)g_bytes_get_data(frame, NULL), 0xee);
	}
	while (pair->twin[2] < pair->got[2])
		take(pair, 2);
	while (pair->twin[3] < pair->got[3])
		take(pair, 3);
	assert_int_equal(ckpt_input_kept_bytes(pair->rig->input), 0);
}

static void run_model(struct rig *rig, guint32 seed)
{
	struct pair *pair = g_new0(struct pair, 1);

	pair->rig = rig;
	pair->rand = g_rand_new_with_seed(seed);
	g_queue_init(&pair->wire);
	pair->mirror = ckpt_mirror_new(primary_entropy, pair);
	for (guint i = 0; i < NETS; i++) {
		fake_port_init(&pair->real[i], 0);
		pair->port[i] = ckpt_mirror_port_new_take(&pair->real[i].port, i,
							  pair->mirror, NULL);
	}
	ckpt_mirror_start(pair->mirror, on_the_wire, pair);
	for (guint i = 0; i < 4000; i++)
		step(pair);
	end(pair);
	/* Something was tried at all. */
	assert_true(pair->received > 500);
	assert_true(pair->applied > 10);
	assert_true(pair->again > 10);
	for (guint i = 0; i < NETS; i++) {
		pair->port[i]->free(pair->port[i]->data);
		fake_port_clear(&pair->real[i]);
	}
	ckpt_mirror_free(pair->mirror);
	g_queue_clear_full(&pair->wire, (GDestroyNotify)g_bytes_unref);
	g_rand_free(pair->rand);
	g_free(pair);
}

static void whatever_happens_everything_after_the_cut_comes_once(void **state)
{
	tear_down(state);
	for (guint32 seed = 0; seed < 50; seed++) {
		set_up(state);
		run_model(*state, seed);
		tear_down(state);
	}
	set_up(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(frames_of_the_primary_are_received),
		TEST(what_is_sent_goes_to_the_hook_and_nowhere_else),
		TEST(the_real_port_is_silent_and_deaf_before_the_promotion),
		TEST(a_card_that_listens_is_told_of_frames_on_the_io_thread),
		TEST(a_promoted_port_is_the_real_one),
		TEST(kept_frames_come_before_those_of_the_real_port),
		TEST(a_port_without_a_network_loses_what_is_sent),
		TEST(entropy_is_the_primarys_and_then_the_hosts),
		TEST(typing_is_the_primarys),
		TEST(a_promoted_node_mirrors_to_its_own_secondary),
		TEST(a_card_at_a_checkpoint_gets_again_what_came_after_it),
		TEST(whatever_happens_everything_after_the_cut_comes_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
