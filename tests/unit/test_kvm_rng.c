/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio entropy device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "kvm/rng.h"
#include "tests/unit/fake_driver.h"

struct rig {
	struct fake_platform *fake;
	vmm_pci *pci;
	vmm_rng *rng;
	struct fake_driver driver;
	guint64 buffer;
	gsize left; /* bytes that the source has */
	guint8 next;
};

static gsize source(void *data, void *bytes, gsize len)
{
	struct rig *rig = data;
	gsize give = MIN(len, rig->left);

	for (gsize i = 0; i < give; i++)
		((guint8 *)bytes)[i] = rig->next++;
	rig->left -= give;
	return give;
}

static void make(struct rig *rig, vmm_rng_source from)
{
	rig->rng = vmm_rng_new(rig->pci, &rig->fake->platform, 0, from, rig, NULL);
	assert_non_null(rig->rng);
	assert_true(fake_driver_find(&rig->driver, rig->fake, 4, 0));
	fake_driver_start(&rig->driver, 0, 16);
	rig->buffer = fake_alloc(rig->fake, 65536, 16);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(1u << 20);
	rig->pci = vmm_pci_new(&rig->fake->platform);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_rng_free(rig->rng);
	vmm_pci_free(rig->pci);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

/* Asks for `len` bytes in two buffers; returns how many came, -1 for no answer. */
static int ask(struct rig *rig, guint32 len)
{
	struct fake_buffer buffers[] = { { rig->buffer, len / 2, TRUE },
					 { rig->buffer + len / 2, len - len / 2,
					   TRUE } };
	guint32 got;

	fake_queue_add(&rig->driver.queue[0], buffers, 2);
	fake_queue_kick(&rig->driver.queue[0]);
	return fake_queue_take_used(&rig->driver.queue[0], NULL, &got) ? (int)got : -1;
}

static void a_request_is_filled_from_the_source(void **state)
{
	static const guint8 expected[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	struct rig *rig = *state;

	make(rig, source);
	rig->left = 100;
	assert_int_equal(ask(rig, 8), 8);
	assert_memory_equal(fake_at(rig->fake, rig->buffer, 8), expected, 8);
	assert_int_equal(rig->left, 92);
	assert_int_equal(fake_msi_count(rig->fake, rig->driver.msi_data + 1), 1);
}

static void the_hosts_randomness_is_the_default(void **state)
{
	static const guint8 zeros[64];
	struct rig *rig = *state;

	make(rig, NULL);
	assert_int_equal(ask(rig, 64), 64);
	assert_memory_not_equal(fake_at(rig->fake, rig->buffer, 64), zeros, 64);
}

static void a_source_that_has_little_gives_that(void **state)
{
	struct rig *rig = *state;

	make(rig, source);
	rig->left = 3;
	assert_int_equal(ask(rig, 64), 3);
}

static void a_request_waits_while_the_source_is_dry(void **state)
{
	struct rig *rig = *state;
	guint32 got;

	make(rig, source);
	assert_int_equal(ask(rig, 16), -1);
	assert_int_equal(rig->fake->msis->len, 0);
	rig->left = 16;
	vmm_rng_poll(rig->rng);
	assert_true(fake_queue_take_used(&rig->driver.queue[0], NULL, &got));
	assert_int_equal(got, 16);
	assert_int_equal(rig->fake->msis->len, 1);
}

static void a_waiting_request_is_served_where_it_is_loaded(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) saved = vmm_state_new();
	vmm_virtio *virtio;

	make(rig, source);
	virtio = vmm_rng_virtio(rig->rng);
	assert_int_equal(ask(rig, 16), -1);
	vmm_virtio_save(virtio, saved);
	vmm_virtio_reset(virtio);
	rig->left = 16;
	vmm_rng_poll(rig->rng);
	assert_false(fake_queue_take_used(&rig->driver.queue[0], NULL, NULL));
	assert_true(vmm_virtio_load(virtio, saved, VMM_LOAD_APPLY, NULL));
	vmm_virtio_loaded(virtio);
	assert_true(fake_queue_take_used(&rig->driver.queue[0], NULL, NULL));
}

static void a_large_request_is_answered_in_part(void **state)
{
	struct rig *rig = *state;

	make(rig, source);
	rig->left = 1u << 20;
	assert_int_equal(ask(rig, 65536), 4096);
}

static void a_request_without_room_breaks_it(void **state)
{
	struct rig *rig = *state;
	struct fake_buffer buffer = { 0, 64, FALSE };

	make(rig, source);
	rig->left = 100;
	fake_queue_add(&rig->driver.queue[0], &buffer, 1);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_true(fake_driver_status(&rig->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_request_is_filled_from_the_source),
		TEST(the_hosts_randomness_is_the_default),
		TEST(a_source_that_has_little_gives_that),
		TEST(a_request_waits_while_the_source_is_dry),
		TEST(a_waiting_request_is_served_where_it_is_loaded),
		TEST(a_large_request_is_answered_in_part),
		TEST(a_request_without_room_breaks_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
