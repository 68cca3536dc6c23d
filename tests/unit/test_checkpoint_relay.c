/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A card's input while its guest is on its way to the other node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/relay.h"
#include "tests/unit/fake_port.h"

struct rig {
	struct fake_port real;
	vmm_loop *loop;
	struct vmm_net_port *port;
	GPtrArray *relayed; /* GBytes */
	guint told; /* times that the device heard of something */
	gboolean at_rest;
};

static void on_frame(void *data, guint device, const struct iovec *frame)
{
	struct rig *rig = data;

	assert_int_equal(device, 2);
	g_ptr_array_add(rig->relayed, g_bytes_new(frame->iov_base, frame->iov_len));
}

static void on_told(void *data)
{
	((struct rig *)data)->told++;
}

static struct rig *serving;
static void serve_at_rest(void *data, gboolean on)
{
	serving->at_rest = on;
}

static int set_up(void **state)
{
	struct rig *rig = serving = g_new0(struct rig, 1);

	fake_port_init(&rig->real, 0x123456789);
	rig->real.port.serve_at_rest = serve_at_rest;
	rig->loop = vmm_loop_new(NULL);
	rig->relayed = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
	vmm_loop_lock(rig->loop);
	rig->port = ckpt_relay_port_new_take(&rig->real.port, 2, rig->loop);
	rig->port->attach(rig->port->data, on_told, rig);
	rig->port->want_receive(rig->port->data, TRUE);
	vmm_loop_unlock(rig->loop);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_loop_lock(rig->loop);
	rig->port->free(rig->port->data);
	vmm_loop_unlock(rig->loop);
	assert_true(rig->real.freed);
	fake_port_clear(&rig->real);
	vmm_loop_free(rig->loop);
	g_ptr_array_unref(rig->relayed);
	g_free(rig);
	return 0;
}

static void start(struct rig *rig)
{
	vmm_loop_lock(rig->loop);
	ckpt_relay_start(rig->port, on_frame, rig);
	vmm_loop_unlock(rig->loop);
}

static void stop(struct rig *rig)
{
	vmm_loop_lock(rig->loop);
	ckpt_relay_stop(rig->port);
	vmm_loop_unlock(rig->loop);
}

/* As the tap does while its queue is not empty. */
static void comes(struct rig *rig)
{
	vmm_loop_lock(rig->loop);
	rig->real.ready(rig->real.net);
	vmm_loop_unlock(rig->loop);
}

static void expect_frame(struct rig *rig, const char *bytes)
{
	gssize got;
	g_autoptr(GBytes) frame = fake_port_receive(rig->port, 2000, &got);

	assert_int_equal(got, FAKE_HEADER + strlen(bytes));
	assert_memory_equal((const char *)g_bytes_get_data(frame, NULL) + FAKE_HEADER, bytes,
			    strlen(bytes));
}

static void expect_nothing(struct rig *rig)
{
	gssize got;

	fake_port_receive(rig->port, 2000, &got);
	assert_int_equal(got, 0);
}

static void off_it_only_passes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig->port->features, 0x123456789);
	assert_true(rig->real.hearing);
	assert_true(fake_port_send(rig->port, "out", 3));
	assert_int_equal(rig->real.sent->len, 1);
	rig->port->set_offloads(rig->port->data, 5);
	assert_int_equal(rig->real.offloads, 5);
	fake_port_coming(&rig->real, 1, "in", 2);
	comes(rig);
	assert_int_equal(rig->told, 1);
	expect_frame(rig, "in");
	expect_nothing(rig);
	rig->port->want_receive(rig->port->data, FALSE);
	assert_false(rig->real.hearing);
	assert_int_equal(rig->relayed->len, 0);
}

static void what_comes_at_rest_is_handed_on_and_kept(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_true(rig->at_rest);
	fake_port_coming(&rig->real, 1, "one", 3);
	fake_port_coming(&rig->real, 2, "two", 3);
	comes(rig);
	assert_int_equal(rig->told, 0);
	assert_int_equal(rig->relayed->len, 2);
	assert_int_equal(g_bytes_get_size(g_ptr_array_index(rig->relayed, 0)), FAKE_HEADER + 3);
	expect_nothing(rig);
	stop(rig);
	assert_false(rig->at_rest);
	/* The device hears of it on the I/O thread, once it runs. */
	assert_int_equal(rig->told, 0);
	vmm_loop_iterate(rig->loop, 0);
	assert_int_equal(rig->told, 1);
	fake_port_coming(&rig->real, 3, "three", 5);
	expect_frame(rig, "one");
	expect_frame(rig, "two");
	expect_frame(rig, "three");
	expect_nothing(rig);
	assert_int_equal(rig->relayed->len, 2);
}

static void a_deaf_card_hears_of_it_when_it_listens(void **state)
{
	struct rig *rig = *state;

	rig->port->want_receive(rig->port->data, FALSE);
	start(rig);
	assert_true(rig->real.hearing);
	fake_port_coming(&rig->real, 1, "one", 3);
	comes(rig);
	assert_int_equal(rig->relayed->len, 1);
	stop(rig);
	assert_false(rig->real.hearing);
	vmm_loop_iterate(rig->loop, 0);
	assert_int_equal(rig->told, 0);
	vmm_loop_lock(rig->loop);
	rig->port->want_receive(rig->port->data, TRUE);
	vmm_loop_unlock(rig->loop);
	vmm_loop_iterate(rig->loop, 0);
	assert_int_equal(rig->told, 1);
	expect_frame(rig, "one");
}

static void no_more_is_kept_than_its_bound(void **state)
{
	struct rig *rig = *state;
	g_autofree char *large = g_strnfill(60000, 'x');
	guint frames = CKPT_RELAY_MAX / 60000 + 1;

	start(rig);
	for (guint i = 0; i < frames + 50; i++)
		fake_port_coming(&rig->real, 1, large, 60000);
	for (guint i = 0; i < frames && rig->real.hearing; i++)
		comes(rig);
	assert_false(rig->real.hearing);
	assert_true(rig->relayed->len <= frames);
	assert_true(rig->real.coming.length >= 50);
	stop(rig);
	assert_true(rig->real.hearing);
}

static void stopping_what_never_started_changes_nothing(void **state)
{
	struct rig *rig = *state;

	stop(rig);
	assert_true(rig->real.hearing);
	assert_false(rig->at_rest);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		RIGGED(off_it_only_passes),
		RIGGED(what_comes_at_rest_is_handed_on_and_kept),
		RIGGED(a_deaf_card_hears_of_it_when_it_listens),
		RIGGED(no_more_is_kept_than_its_bound),
		RIGGED(stopping_what_never_started_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
