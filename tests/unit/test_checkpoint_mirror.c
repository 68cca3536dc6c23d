/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary numbers what its guest is given, and hands it on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/mirror.h"
#include "kvm/iov.h"
#include "tests/unit/fake_port.h"

struct item {
	guint64 number;
	guint kind, device;
	GBytes *bytes;
};

struct rig {
	struct fake_port real;
	ckpt_mirror *mirror;
	ckpt_addresses *addresses;
	struct vmm_net_port *port;
	GArray *items;
	guint8 next; /* byte of the entropy source */
	gsize left; /* how many it has */
};

static void clear_item(void *data)
{
	g_bytes_unref(((struct item *)data)->bytes);
}

static void on_item(void *data, const struct iovec *iov, guint count)
{
	static const guint8 zero[6];
	struct rig *rig = data;
	g_autofree guint8 *bytes = g_malloc(CKPT_FRAME_MAX);
	struct ckpt_input_head head;
	struct item item;
	gsize len;

	assert_int_equal(iov[0].iov_len, sizeof(head));
	memcpy(&head, iov[0].iov_base, sizeof(head));
	assert_memory_equal(head.pad, zero, sizeof(head.pad));
	len = vmm_iov_read(iov + 1, count - 1, 0, bytes, CKPT_FRAME_MAX);
	item = (struct item){ wire_get64(head.number), head.kind, head.device,
			      g_bytes_new(bytes, len) };
	g_array_append_val(rig->items, item);
}

static gsize some_entropy(void *data, void *bytes, gsize len)
{
	struct rig *rig = data;
	gsize give = MIN(len, rig->left);

	for (gsize i = 0; i < give; i++)
		((guint8 *)bytes)[i] = rig->next++;
	rig->left -= give;
	return give;
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	fake_port_init(&rig->real, 0x123456789);
	rig->mirror = ckpt_mirror_new(some_entropy, rig);
	rig->addresses = ckpt_addresses_new();
	rig->port = ckpt_mirror_port_new_take(&rig->real.port, 3, rig->mirror,
					      rig->addresses);
	rig->items = g_array_new(FALSE, FALSE, sizeof(struct item));
	g_array_set_clear_func(rig->items, clear_item);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	rig->port->free(rig->port->data);
	assert_true(rig->real.freed);
	ckpt_mirror_free(rig->mirror);
	ckpt_addresses_free(rig->addresses);
	fake_port_clear(&rig->real);
	g_array_unref(rig->items);
	g_free(rig);
	return 0;
}

static void expect_item(struct rig *rig, guint index, guint64 number, guint kind,
			guint device, const void *bytes, gsize len)
{
	const struct item *item;

	assert_true(index < rig->items->len);
	item = &g_array_index(rig->items, struct item, index);
	assert_int_equal(item->number, number);
	assert_int_equal(item->kind, kind);
	assert_int_equal(item->device, device);
	assert_int_equal(g_bytes_get_size(item->bytes), len);
	assert_memory_equal(g_bytes_get_data(item->bytes, NULL), bytes, len);
}

/* The guest receives what comes next; mirrored as item `index`. */
static void receive_mirrored(struct rig *rig, guint index, guint64 number)
{
	gssize got;
	g_autoptr(GBytes) frame = fake_port_receive(rig->port, 2000, &got);

	assert_non_null(frame);
	assert_int_equal(got, g_bytes_get_size(frame));
	expect_item(rig, index, number, CKPT_INPUT_NET, 3,
		    g_bytes_get_data(frame, NULL), (gsize)got);
}

static void each_frame_is_numbered_and_handed_on_as_it_was_given(void **state)
{
	struct rig *rig = *state;
	guint8 frame[1500];

	ckpt_mirror_start(rig->mirror, on_item, rig);
	assert_int_equal(ckpt_mirror_number(rig->mirror), 0);
	for (guint i = 0; i < sizeof(frame); i++)
		frame[i] = (guint8)i;
	fake_port_coming(&rig->real, 1, frame, sizeof(frame));
	fake_port_coming(&rig->real, 2, frame + 100, 60);
	fake_port_coming(&rig->real, 0, frame, 14);
	receive_mirrored(rig, 0, 1);
	receive_mirrored(rig, 1, 2);
	receive_mirrored(rig, 2, 3);
	assert_int_equal(ckpt_mirror_number(rig->mirror), 3);
	assert_int_equal(rig->items->len, 3);
}

static void what_the_guest_does_not_get_is_not_mirrored(void **state)
{
	struct rig *rig = *state;
	guint8 frame[1500] = { 0 };
	gssize got;

	ckpt_mirror_start(rig->mirror, on_item, rig);
	assert_null(fake_port_receive(rig->port, 2000, &got));
	assert_int_equal(got, 0);
	fake_port_coming(&rig->real, 0, frame, sizeof(frame));
	assert_null(fake_port_receive(rig->port, 100, &got));
	assert_int_equal(got, -1);
	assert_int_equal(rig->items->len, 0);
	assert_int_equal(ckpt_mirror_number(rig->mirror), 0);
	fake_port_coming(&rig->real, 7, frame, 60);
	receive_mirrored(rig, 0, 1);
}

static void the_largest_frame_in_the_most_pieces_is_mirrored(void **state)
{
	struct rig *rig = *state;
	g_autofree guint8 *frame = g_malloc(VMM_NET_FRAME_MAX);
	g_autofree guint8 *buffer = g_malloc(VMM_NET_FRAME_MAX);
	struct iovec iov[VMM_CHAIN_MAX + 2] = { { buffer, FAKE_HEADER } };
	gsize at = FAKE_HEADER;

	for (gsize i = 0; i < VMM_NET_FRAME_MAX; i++)
		frame[i] = (guint8)(i * 7);
	for (guint i = 1; i < G_N_ELEMENTS(iov); i++) {
		gsize part = i + 1 < G_N_ELEMENTS(iov) ? 200 : VMM_NET_FRAME_MAX - at;

		iov[i] = (struct iovec){ buffer + at, part };
		at += part;
	}
	ckpt_mirror_start(rig->mirror, on_item, rig);
	fake_port_coming(&rig->real, 9, frame, VMM_NET_FRAME_MAX - FAKE_HEADER);
	assert_int_equal(rig->port->receive(rig->port->data, iov, G_N_ELEMENTS(iov)),
			 VMM_NET_FRAME_MAX);
	expect_item(rig, 0, 1, CKPT_INPUT_NET, 3, buffer, VMM_NET_FRAME_MAX);
}

static void while_it_is_off_everything_only_passes(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[60] = { 0 };
	g_autoptr(GBytes) first = NULL;
	g_autoptr(GBytes) second = NULL;

	fake_port_coming(&rig->real, 1, bytes, sizeof(bytes));
	fake_port_coming(&rig->real, 2, bytes, sizeof(bytes));
	rig->left = 100;
	first = fake_port_receive(rig->port, 100, NULL);
	assert_non_null(first);
	assert_int_equal(ckpt_mirror_rng(rig->mirror, bytes, 10), 10);
	ckpt_mirror_console(rig->mirror, 0, "x", 1);
	ckpt_mirror_start(rig->mirror, on_item, rig);
	assert_int_equal(ckpt_mirror_number(rig->mirror), 0);
	ckpt_mirror_stop(rig->mirror);
	second = fake_port_receive(rig->port, 100, NULL);
	assert_non_null(second);
	assert_int_equal(rig->items->len, 0);
}

static void a_new_secondary_gets_numbers_from_one(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[60] = { 0 };

	for (guint i = 0; i < 3; i++)
		fake_port_coming(&rig->real, (guint8)i, bytes, sizeof(bytes));
	ckpt_mirror_start(rig->mirror, on_item, rig);
	receive_mirrored(rig, 0, 1);
	receive_mirrored(rig, 1, 2);
	ckpt_mirror_stop(rig->mirror);
	ckpt_mirror_start(rig->mirror, on_item, rig);
	receive_mirrored(rig, 2, 1);
}

static void the_rest_of_a_port_passes(void **state)
{
	struct rig *rig = *state;
	guint8 frame[60] = { 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1 };
	struct ckpt_address learned[CKPT_ADDRESSES_ALL];
	gsize len;

	assert_int_equal(rig->port->features, 0x123456789);
	rig->port->set_offloads(rig->port->data, 0x42);
	assert_int_equal(rig->real.offloads, 0x42);
	rig->port->want_receive(rig->port->data, TRUE);
	assert_true(rig->real.hearing);
	rig->port->want_receive(rig->port->data, FALSE);
	assert_false(rig->real.hearing);
	rig->port->attach(rig->port->data, NULL, rig);
	assert_int_equal(rig->real.attached, 1);
	assert_ptr_equal(rig->real.net, rig);
	rig->real.room = 1;
	assert_true(fake_port_send(rig->port, frame, sizeof(frame)));
	assert_memory_equal(fake_port_sent(&rig->real, 0, &len), frame, sizeof(frame));
	frame[7] = 9;
	assert_false(fake_port_send(rig->port, frame, sizeof(frame)));
	/* What was sent was learned from, once. */
	assert_int_equal(ckpt_addresses_copy(rig->addresses, learned), 1);
	assert_int_equal(learned[0].mac[1], 1);
}

static void entropy_is_mirrored_as_the_guest_got_it(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[10000];

	ckpt_mirror_start(rig->mirror, on_item, rig);
	assert_int_equal(ckpt_mirror_rng(rig->mirror, bytes, 10), 0);
	assert_int_equal(rig->items->len, 0);
	rig->left = 64;
	assert_int_equal(ckpt_mirror_rng(rig->mirror, bytes, 100), 64);
	expect_item(rig, 0, 1, CKPT_INPUT_RNG, 0, bytes, 64);
	rig->left = sizeof(bytes);
	assert_int_equal(ckpt_mirror_rng(rig->mirror, bytes, sizeof(bytes)),
			 sizeof(bytes));
	expect_item(rig, 1, 2, CKPT_INPUT_RNG, 0, bytes, 4096);
	expect_item(rig, 2, 3, CKPT_INPUT_RNG, 0, bytes + 4096, 4096);
	expect_item(rig, 3, 4, CKPT_INPUT_RNG, 0, bytes + 8192, sizeof(bytes) - 8192);
}

static void entropy_is_the_hosts_where_nothing_else_is_said(void **state)
{
	static const guint8 zero[64];
	struct rig *rig = *state;
	g_autoptr(ckpt_mirror) mirror = ckpt_mirror_new(NULL, NULL);
	guint8 bytes[64] = { 0 };

	ckpt_mirror_start(mirror, on_item, rig);
	assert_int_equal(ckpt_mirror_rng(mirror, bytes, sizeof(bytes)), sizeof(bytes));
	assert_memory_not_equal(bytes, zero, sizeof(bytes));
	expect_item(rig, 0, 1, CKPT_INPUT_RNG, 0, bytes, sizeof(bytes));
}

static void typing_is_mirrored(void **state)
{
	struct rig *rig = *state;

	ckpt_mirror_start(rig->mirror, on_item, rig);
	ckpt_mirror_console(rig->mirror, 0, "reboot\r", 7);
	ckpt_mirror_console(rig->mirror, 1, "ls\r", 3);
	expect_item(rig, 0, 1, CKPT_INPUT_CONSOLE, 0, "reboot\r", 7);
	expect_item(rig, 1, 2, CKPT_INPUT_CONSOLE, 1, "ls\r", 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(each_frame_is_numbered_and_handed_on_as_it_was_given),
		TEST(what_the_guest_does_not_get_is_not_mirrored),
		TEST(the_largest_frame_in_the_most_pieces_is_mirrored),
		TEST(while_it_is_off_everything_only_passes),
		TEST(a_new_secondary_gets_numbers_from_one),
		TEST(the_rest_of_a_port_passes),
		TEST(entropy_is_mirrored_as_the_guest_got_it),
		TEST(entropy_is_the_hosts_where_nothing_else_is_said),
		TEST(typing_is_mirrored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
