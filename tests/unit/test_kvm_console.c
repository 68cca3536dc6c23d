/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio console between a driver and whoever sits at the host's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvm/console.h"
#include "tests/unit/fake_driver.h"

#define RECEIVE 0
#define TRANSMIT 1

struct rig {
	struct fake_platform *fake;
	vmm_pci *pci;
	vmm_chardev *chardev;
	vmm_console *console;
	struct fake_driver driver;
	guint64 buffer;
	int far;
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	g_autofree char *spec = NULL;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	rig->far = pair[1];
	rig->fake = fake_platform_new(1u << 20);
	rig->pci = vmm_pci_new(&rig->fake->platform);
	rig->chardev = vmm_chardev_new(spec, rig->fake->platform.loop, NULL);
	rig->console =
		vmm_console_new(rig->pci, &rig->fake->platform, 0, rig->chardev, NULL);
	assert_non_null(rig->console);
	assert_true(fake_driver_find(&rig->driver, rig->fake, 3, 0));
	rig->buffer = fake_alloc(rig->fake, 65536, 16);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_console_free(rig->console);
	vmm_chardev_free(rig->chardev);
	close(rig->far);
	vmm_pci_free(rig->pci);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static void type(struct rig *rig, const char *text)
{
	assert_int_equal(write(rig->far, text, strlen(text)), strlen(text));
	fake_run(rig->fake);
}

static void add_receive(struct rig *rig, guint64 offset, guint32 len)
{
	struct fake_buffer buffer = { rig->buffer + offset, len, TRUE };

	fake_queue_add(&rig->driver.queue[RECEIVE], &buffer, 1);
}

static void it_offers_one_port_without_a_size(void **state)
{
	struct rig *rig = *state;
	guint8 config[12];

	assert_int_equal(rig->driver.queues, 2);
	assert_int_equal((guint32)fake_driver_offered(&rig->driver) & 0xffffff, 0);
	fake_config_read(&rig->driver, 0, config, sizeof(config));
	for (guint i = 0; i < sizeof(config); i++)
		assert_int_equal(config[i], 0);
}

static void what_the_driver_sends_comes_out(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffers[] = { { rig->buffer, 6, FALSE },
					 { rig->buffer + 100, 6, FALSE } };
	char text[32] = "";

	fake_driver_start(&rig->driver, 0, 16);
	memcpy(fake_at(rig->fake, rig->buffer, 6), "hello ", 6);
	memcpy(fake_at(rig->fake, rig->buffer + 100, 6), "world\n", 6);
	fake_queue_add(&rig->driver.queue[TRANSMIT], buffers, 2);
	fake_queue_kick(&rig->driver.queue[TRANSMIT]);
	assert_int_equal(read(rig->far, text, sizeof(text)), 12);
	assert_string_equal(text, "hello world\n");
	assert_true(fake_queue_take_used(&rig->driver.queue[TRANSMIT], NULL, NULL));
	assert_int_equal(fake_msi_count(rig->fake, rig->driver.msi_data + 2), 1);
}

static void what_is_typed_fills_the_drivers_buffers(void **state)
{
	struct rig *rig = *state;
	guint32 len;

	fake_driver_start(&rig->driver, 0, 16);
	add_receive(rig, 0, 4);
	add_receive(rig, 100, 64);
	fake_queue_kick(&rig->driver.queue[RECEIVE]);
	type(rig, "abcdefg");
	assert_true(fake_queue_take_used(&rig->driver.queue[RECEIVE], NULL, &len));
	assert_int_equal(len, 4);
	assert_true(fake_queue_take_used(&rig->driver.queue[RECEIVE], NULL, &len));
	assert_int_equal(len, 3);
	assert_memory_equal(fake_at(rig->fake, rig->buffer, 4), "abcd", 4);
	assert_memory_equal(fake_at(rig->fake, rig->buffer + 100, 3), "efg", 3);
}

static void input_waits_for_a_buffer(void **state)
{
	struct rig *rig = *state;
	guint32 len;

	type(rig, "early");
	fake_driver_start(&rig->driver, VMM_VIRTIO_F_EVENT_IDX, 16);
	fake_run(rig->fake);
	add_receive(rig, 0, 64);
	fake_queue_kick(&rig->driver.queue[RECEIVE]);
	assert_true(fake_queue_take_used(&rig->driver.queue[RECEIVE], NULL, &len));
	assert_int_equal(len, 5);
	/* It asked to be told of the next one. */
	type(rig, "more");
	assert_int_equal(fake_queue_avail_event(&rig->driver.queue[RECEIVE]), 1);
	add_receive(rig, 0, 64);
	fake_queue_kick(&rig->driver.queue[RECEIVE]);
	assert_true(fake_queue_take_used(&rig->driver.queue[RECEIVE], NULL, &len));
	assert_int_equal(len, 4);
}

static void many_chains_are_sent_in_batches(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffer = { rig->buffer, 1, FALSE };
	char text[512];

	fake_driver_start(&rig->driver, 0, 256);
	for (guint i = 0; i < 256; i++)
		fake_queue_add(&rig->driver.queue[TRANSMIT], &buffer, 1);
	fake_queue_kick(&rig->driver.queue[TRANSMIT]);
	assert_int_equal(fake_queue_used_idx(&rig->driver.queue[TRANSMIT]), 256);
	assert_int_equal(read(rig->far, text, sizeof(text)), 256);
}

static void a_receive_buffer_that_cannot_be_written_breaks_it(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffer = { rig->buffer, 64, FALSE };

	fake_driver_start(&rig->driver, 0, 16);
	fake_queue_add(&rig->driver.queue[RECEIVE], &buffer, 1);
	fake_queue_kick(&rig->driver.queue[RECEIVE]);
	type(rig, "x");
	assert_true(fake_driver_status(&rig->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fake_event_count(rig->fake, VMM_EVENT_DEVICE_BROKEN), 1);
}

static void it_goes_on_where_it_was_saved(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) saved = vmm_state_new();
	vmm_virtio *virtio = vmm_console_virtio(rig->console);

	fake_driver_start(&rig->driver, 0, 16);
	add_receive(rig, 0, 64);
	vmm_virtio_save(virtio, saved);
	vmm_virtio_reset(virtio);
	type(rig, "typed meanwhile");
	assert_true(vmm_virtio_load(virtio, saved, VMM_LOAD_APPLY, NULL));
	vmm_virtio_loaded(virtio);
	fake_run(rig->fake);
	assert_true(fake_queue_take_used(&rig->driver.queue[RECEIVE], NULL, NULL));
	assert_memory_equal(fake_at(rig->fake, rig->buffer, 5), "typed", 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(it_offers_one_port_without_a_size),
		TEST(what_the_driver_sends_comes_out),
		TEST(what_is_typed_fills_the_drivers_buffers),
		TEST(input_waits_for_a_buffer),
		TEST(many_chains_are_sent_in_batches),
		TEST(a_receive_buffer_that_cannot_be_written_breaks_it),
		TEST(it_goes_on_where_it_was_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
