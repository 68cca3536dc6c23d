/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio transport, with a device type of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "kvm/error.h"
#include "tests/unit/fake_driver.h"

#define TYPE 42u
#define FEATURE (1ull << 5)
#define QUEUES 2u
#define SIZE 16u
#define TRANSPORT \
	(VMM_VIRTIO_F_INDIRECT_DESC | VMM_VIRTIO_F_EVENT_IDX | VMM_VIRTIO_F_VERSION_1)

/* Returns every chain at once, with 7 bytes written. */
struct thing {
	vmm_virtio *virtio;
	guint8 config[8];
	guint starts, stops, kicks, loads;
	gboolean again; /* asks for one more kick */
	const char *break_why;
};

struct rig {
	struct fake_platform *fake;
	vmm_pci *pci;
	struct thing thing;
	struct fake_driver driver;
	guint64 buffer;
};

static void thing_config_read(void *data, guint offset, void *buf, guint len)
{
	memcpy(buf, ((struct thing *)data)->config + offset, len);
}

static void thing_config_write(void *data, guint offset, const void *buf, guint len)
{
	memcpy(((struct thing *)data)->config + offset, buf, len);
}

static void thing_start(void *data)
{
	((struct thing *)data)->starts++;
}

static void thing_stop(void *data)
{
	((struct thing *)data)->stops++;
}

static void thing_kick(void *data, guint index)
{
	struct thing *thing = data;
	struct vmm_queue *queue = vmm_virtio_queue(thing->virtio, index);
	struct vmm_chain chain;

	thing->kicks++;
	if (thing->again) {
		thing->again = FALSE;
		vmm_virtio_again(thing->virtio, index);
		return;
	}
	if (thing->break_why) {
		vmm_virtio_break(thing->virtio, thing->break_why);
		return;
	}
	while (vmm_queue_pop(queue, &chain) == VMM_POP_CHAIN)
		vmm_queue_push(queue, &chain, MIN(chain.in_len, 7));
	vmm_virtio_signal(thing->virtio, index);
}

static void thing_loaded(void *data)
{
	((struct thing *)data)->loads++;
}

static const struct vmm_virtio_class thing_class = {
	.name = "thing",
	.type = TYPE,
	.pci_class = 0x00ff0000,
	.queues = QUEUES,
	.config_len = 8,
	.config_read = thing_config_read,
	.config_write = thing_config_write,
	.start = thing_start,
	.stop = thing_stop,
	.kick = thing_kick,
	.loaded = thing_loaded,
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(1u << 20);
	rig->pci = vmm_pci_new(&rig->fake->platform);
	rig->thing.virtio = vmm_virtio_new(rig->pci, &rig->fake->platform, &thing_class,
					   0, FEATURE, &rig->thing, NULL);
	assert_non_null(rig->thing.virtio);
	memcpy(rig->thing.config, "ABCDEFGH", 8);
	assert_true(fake_driver_find(&rig->driver, rig->fake, TYPE, 0));
	rig->buffer = fake_alloc(rig->fake, 4096, 16);
	*state = rig;
	return 0;
}

static int set_up_started(void **state)
{
	struct rig *rig;

	set_up(state);
	rig = *state;
	fake_driver_start(&rig->driver, FEATURE, SIZE);
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_virtio_free(rig->thing.virtio);
	vmm_pci_free(rig->pci);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static void add(struct rig *rig, guint queue)
{
	struct fake_buffer buffer = { rig->buffer, 64, TRUE };

	fake_queue_add(&rig->driver.queue[queue], &buffer, 1);
}

static void select_queue(struct rig *rig, guint index)
{
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
}

static void a_driver_finds_it_and_what_it_offers(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig->driver.queues, QUEUES);
	assert_int_equal(rig->driver.vectors, QUEUES + 1);
	assert_int_equal(rig->driver.multiplier, 4);
	assert_true(fake_driver_offered(&rig->driver) == (TRANSPORT | FEATURE));
	assert_int_equal(fake_pci_read(rig->fake, rig->driver.slot, PCI_REVISION_ID, 1),
			 1);
	/* There are two words of features, and no more. */
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_DF, 4), 0);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
}

static void a_driver_negotiates_and_starts_it(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vmm_virtio_features(rig->thing.virtio), 0);
	fake_driver_start(&rig->driver, FEATURE, SIZE);
	assert_true(vmm_virtio_features(rig->thing.virtio) ==
		    (FEATURE | VMM_VIRTIO_F_VERSION_1));
	assert_true(vmm_virtio_running(rig->thing.virtio));
	assert_int_equal(rig->thing.starts, 1);
	assert_int_equal(vmm_virtio_queue(rig->thing.virtio, 1)->size, SIZE);
	assert_true(vmm_virtio_queue(rig->thing.virtio, 1)->ready);
}

static void set_features(struct rig *rig, guint64 features)
{
	fake_driver_set_status(&rig->driver, 0);
	for (guint i = 0; i < 2; i++) {
		fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_GF,
				  (guint32)(features >> 32 * i), 4);
	}
	fake_driver_set_status(&rig->driver, VIRTIO_CONFIG_S_FEATURES_OK);
}

static void features_that_were_not_offered_are_refused(void **state)
{
	struct rig *rig = *state;

	set_features(rig, VMM_VIRTIO_F_VERSION_1 | 1);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
	fake_driver_set_status(&rig->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
	assert_int_equal(rig->thing.starts, 0);
}

static void a_driver_of_before_1_0_is_refused(void **state)
{
	struct rig *rig = *state;

	set_features(rig, FEATURE);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
}

static void features_are_settled_once_they_are_accepted(void **state)
{
	struct rig *rig = *state;

	set_features(rig, VMM_VIRTIO_F_VERSION_1);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_GF, G_MAXUINT32, 4);
	assert_true(vmm_virtio_features(rig->thing.virtio) == VMM_VIRTIO_F_VERSION_1);
}

static void status_bits_are_only_added(void **state)
{
	struct rig *rig = *state;
	guint8 status = fake_driver_status(&rig->driver);

	fake_driver_set_status(&rig->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(fake_driver_status(&rig->driver), status);
	fake_driver_set_status(&rig->driver, 0xff);
	assert_int_equal(fake_driver_status(&rig->driver),
			 status | VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(rig->thing.starts, 1);
}

static void a_queue_needs_features_before_it_is_enabled(void **state)
{
	struct rig *rig = *state;

	fake_driver_setup_queue(&rig->driver, 0, SIZE);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
			 0);
}

static void a_queue_that_is_not_there_has_size_zero(void **state)
{
	struct rig *rig = *state;

	select_queue(rig, QUEUES);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			 0);
	select_queue(rig, 0);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			 VMM_QUEUE_SIZE_MAX);
}

static void impossible_queue_sizes_are_ignored(void **state)
{
	static const guint sizes[] = { 0, 3, 512, 0xffff };
	struct rig *rig = *state;

	select_queue(rig, 1);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 64, 2);
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, sizes[i], 2);
		assert_int_equal(
			fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			64);
	}
}

static void a_ready_queue_stays_where_it_is(void **state)
{
	struct rig *rig = *state;
	guint64 desc = rig->driver.queue[0].desc;

	select_queue(rig, 0);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_DESCLO, 0, 4);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 4, 2);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4),
			 desc);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			 SIZE);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
			 1);
}

static void rings_outside_memory_break_the_device(void **state)
{
	struct rig *rig = *state;

	assert_true(fake_driver_negotiate(&rig->driver, 0));
	select_queue(rig, 0);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_DESCHI, 1, 4);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_true(fake_driver_status(&rig->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fake_event_count(rig->fake, VMM_EVENT_DEVICE_BROKEN), 1);
	fake_driver_set_status(&rig->driver, 0);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
}

static void vectors_that_do_not_exist_read_back_as_none(void **state)
{
	struct rig *rig = *state;

	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_MSIX, QUEUES, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_MSIX, 2),
			 QUEUES);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_MSIX, QUEUES + 1, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_MSIX, 2),
			 0xffff);
	select_queue(rig, 0);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_Q_MSIX, 77, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_MSIX, 2),
			 0xffff);
}

static void registers_answer_to_their_own_width_only(void **state)
{
	struct rig *rig = *state;

	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_STATUS, 0, 4);
	fake_common_write(&rig->driver, VIRTIO_PCI_COMMON_STATUS, 0, 2);
	assert_true(vmm_virtio_running(rig->thing.virtio));
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_NUMQ, 1),
			 0xff);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_NUMQ, 4),
			 G_MAXUINT32);
	assert_int_equal(fake_common_read(&rig->driver, 56, 4), G_MAXUINT32);
}

static void a_notification_reaches_the_queue_through_the_loop(void **state)
{
	struct rig *rig = *state;
	guint32 len;

	add(rig, 1);
	fake_mmio_write(rig->fake, rig->driver.queue[1].notify, 1, 2);
	assert_int_equal(rig->thing.kicks, 0);
	fake_run(rig->fake);
	assert_int_equal(rig->thing.kicks, 1);
	assert_true(fake_queue_take_used(&rig->driver.queue[1], NULL, &len));
	assert_int_equal(len, 7);
	assert_int_equal(fake_msi_count(rig->fake, rig->driver.msi_data + 2), 1);
	assert_int_equal(rig->fake->msis->len, 1);
}

static void without_eventfds_a_notification_is_an_mmio_write(void **state)
{
	struct rig *rig = *state;

	rig->fake->no_watches = TRUE;
	/* The addresses are given up and asked for again. */
	g_array_set_size(rig->fake->watches, 0);
	fake_pci_write(rig->fake, rig->driver.slot, PCI_BASE_ADDRESS_0,
		       VMM_PCI_WINDOW + 20 * VMM_PCI_BAR_SIZE, 4);
	fake_driver_locate(&rig->driver);
	add(rig, 0);
	fake_mmio_write(rig->fake, rig->driver.queue[0].notify, 0, 2);
	assert_int_equal(rig->thing.kicks, 1);
	/* Between and behind the addresses nobody listens. */
	fake_mmio_write(rig->fake, rig->driver.notify + 2, 0, 2);
	fake_mmio_write(rig->fake, rig->driver.notify + 4 * QUEUES, 0, 2);
	assert_int_equal(rig->thing.kicks, 1);
}

static void notifications_follow_the_bar(void **state)
{
	struct rig *rig = *state;
	guint64 old = rig->driver.queue[0].notify;

	assert_int_equal(rig->fake->watches->len, QUEUES);
	fake_pci_write(rig->fake, rig->driver.slot, PCI_BASE_ADDRESS_0,
		       VMM_PCI_WINDOW + 20 * VMM_PCI_BAR_SIZE, 4);
	assert_int_equal(rig->fake->watches->len, QUEUES);
	fake_mmio_write(rig->fake, old, 0, 2);
	fake_run(rig->fake);
	assert_int_equal(rig->thing.kicks, 0);
	fake_driver_locate(&rig->driver);
	assert_true(old != rig->driver.queue[0].notify);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->thing.kicks, 1);
	fake_pci_write(rig->fake, rig->driver.slot, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	assert_int_equal(rig->fake->watches->len, 0);
}

static void a_class_can_ask_to_be_kicked_again(void **state)
{
	struct rig *rig = *state;

	rig->thing.again = TRUE;
	add(rig, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->thing.kicks, 2);
	assert_true(fake_queue_take_used(&rig->driver.queue[0], NULL, NULL));
}

static void a_queue_that_is_not_ready_is_not_kicked(void **state)
{
	struct rig *rig = *state;

	assert_true(fake_driver_negotiate(&rig->driver, 0));
	fake_driver_setup_queue(&rig->driver, 0, SIZE);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->thing.kicks, 0);
	fake_driver_set_status(&rig->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_mmio_write(rig->fake, rig->driver.notify + 4, 1, 2);
	fake_run(rig->fake);
	assert_int_equal(rig->thing.kicks, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->thing.kicks, 1);
}

static void reading_the_isr_clears_it(void **state)
{
	struct rig *rig = *state;

	add(rig, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	vmm_virtio_config_changed(rig->thing.virtio);
	/* A read that is none has no effect. */
	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.isr, 4), G_MAXUINT32);
	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.isr, 1), 3);
	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.isr, 1), 0);
}

static void a_changed_configuration_has_a_new_generation(void **state)
{
	struct rig *rig = *state;

	vmm_virtio_config_changed(rig->thing.virtio);
	assert_int_equal(
		fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
	assert_int_equal(fake_msi_count(rig->fake, rig->driver.msi_data), 1);
}

static void configuration_is_reached_within_its_bounds(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.config, 4), 0x44434241);
	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.config + 7, 1), 'H');
	assert_int_equal(fake_mmio_read(rig->fake, rig->driver.config + 6, 4),
			 G_MAXUINT32);
	fake_mmio_write(rig->fake, rig->driver.config + 6, 0, 4);
	fake_mmio_write(rig->fake, rig->driver.config + 1, 'x', 1);
	assert_memory_equal(rig->thing.config, "AxCDEFGH", 8);
}

static void a_driver_that_breaks_the_rules_stops_the_device(void **state)
{
	struct rig *rig = *state;
	const struct fake_event *event;

	fake_queue_offer(&rig->driver.queue[0], SIZE);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_true(fake_driver_status(&rig->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(vmm_virtio_running(rig->thing.virtio));
	assert_int_equal(rig->thing.stops, 1);
	/* The driver is told through the vector of the configuration. */
	assert_int_equal(fake_msi_count(rig->fake, rig->driver.msi_data), 1);
	assert_int_equal(rig->fake->events->len, 1);
	event = &g_array_index(rig->fake->events, struct fake_event, 0);
	assert_int_equal(event->type, VMM_EVENT_DEVICE_BROKEN);
	assert_string_equal(event->device, "thing");
	assert_non_null(event->detail);
	/* Once, and nothing more happens until it is reset. */
	fake_queue_kick(&rig->driver.queue[0]);
	fake_queue_kick(&rig->driver.queue[1]);
	vmm_virtio_break(rig->thing.virtio, "again");
	assert_int_equal(rig->thing.kicks, 1);
	assert_int_equal(rig->fake->events->len, 1);
	fake_driver_set_status(&rig->driver, 0);
	assert_int_equal(rig->thing.stops, 1);
	fake_driver_start(&rig->driver, 0, SIZE);
	add(rig, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_true(fake_queue_take_used(&rig->driver.queue[0], NULL, NULL));
}

static void a_class_can_break_its_device(void **state)
{
	struct rig *rig = *state;

	rig->thing.break_why = "not what I expected";
	fake_queue_kick(&rig->driver.queue[0]);
	assert_string_equal(
		g_array_index(rig->fake->events, struct fake_event, 0).detail,
		"not what I expected");
	assert_int_equal(rig->thing.stops, 1);
}

static void breaking_it_again_and_again_is_told_once_a_second(void **state)
{
	struct rig *rig = *state;

	for (guint i = 0; i < 100; i++) {
		vmm_virtio_break(rig->thing.virtio, "again");
		fake_driver_set_status(&rig->driver, 0);
	}
	assert_int_equal(rig->fake->events->len, 1);
	g_usleep(1050000);
	vmm_virtio_break(rig->thing.virtio, "again");
	assert_int_equal(rig->fake->events->len, 2);
	assert_string_equal(
		g_array_index(rig->fake->events, struct fake_event, 1).detail,
		"again (and 99 more before)");
	vmm_virtio_reset(rig->thing.virtio);
	vmm_virtio_break(rig->thing.virtio, "anew");
	assert_string_equal(
		g_array_index(rig->fake->events, struct fake_event, 2).detail, "anew");
}

static void a_reset_by_the_driver_forgets_everything(void **state)
{
	struct rig *rig = *state;

	fake_driver_set_status(&rig->driver, 0);
	assert_int_equal(fake_driver_status(&rig->driver), 0);
	assert_int_equal(rig->thing.stops, 1);
	assert_int_equal(vmm_virtio_features(rig->thing.virtio), 0);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_MSIX, 2),
			 0xffff);
	select_queue(rig, 0);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
			 0);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			 VMM_QUEUE_SIZE_MAX);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->thing.kicks, 0);
}

static void event_indices_keep_interrupts_away(void **state)
{
	struct rig *rig = *state;

	fake_driver_start(&rig->driver, VMM_VIRTIO_F_EVENT_IDX, SIZE);
	fake_queue_set_used_event(&rig->driver.queue[0], 1);
	add(rig, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->fake->msis->len, 0);
	add(rig, 0);
	fake_queue_kick(&rig->driver.queue[0]);
	assert_int_equal(rig->fake->msis->len, 1);
	assert_int_equal(fake_queue_avail_event(&rig->driver.queue[0]), 2);
}

/* Through the window in configuration space. */
static void point_window(struct rig *rig, guint32 offset, guint32 len)
{
	guint slot = rig->driver.slot, window = rig->driver.window;

	fake_pci_write(rig->fake, slot, window + VIRTIO_PCI_CAP_BAR, 0, 1);
	fake_pci_write(rig->fake, slot, window + VIRTIO_PCI_CAP_OFFSET, offset, 4);
	fake_pci_write(rig->fake, slot, window + VIRTIO_PCI_CAP_LENGTH, len, 4);
}

static void the_window_reaches_what_the_bar_does(void **state)
{
	struct rig *rig = *state;
	guint slot = rig->driver.slot, data = rig->driver.window + 16;
	guint32 common = (guint32)(rig->driver.common - rig->driver.bar);
	guint32 notify = (guint32)(rig->driver.notify - rig->driver.bar);

	assert_int_not_equal(rig->driver.window, 0);
	point_window(rig, common + VIRTIO_PCI_COMMON_NUMQ, 2);
	assert_int_equal(fake_pci_read(rig->fake, slot, data, 2), QUEUES);
	point_window(rig, common + VIRTIO_PCI_COMMON_MSIX, 2);
	fake_pci_write(rig->fake, slot, data, 1, 2);
	assert_int_equal(fake_common_read(&rig->driver, VIRTIO_PCI_COMMON_MSIX, 2), 1);
	add(rig, 0);
	point_window(rig, notify, 2);
	fake_pci_write(rig->fake, slot, data, 0, 2);
	assert_int_equal(rig->thing.kicks, 1);
}

static void the_window_refuses_what_is_not_virtios(void **state)
{
	struct rig *rig = *state;
	guint slot = rig->driver.slot, window = rig->driver.window;

	point_window(rig, VMM_PCI_MSIX_TABLE, 4);
	assert_int_equal(fake_pci_read(rig->fake, slot, window + 16, 4), 0);
	point_window(rig, 0, 8);
	fake_pci_write(rig->fake, slot, window + 16, 0, 4);
	point_window(rig, VIRTIO_PCI_COMMON_STATUS, 2);
	fake_pci_write(rig->fake, slot, window + 16, 0, 4);
	point_window(rig, VIRTIO_PCI_COMMON_STATUS, 1);
	fake_pci_write(rig->fake, slot, window + VIRTIO_PCI_CAP_BAR, 1, 1);
	fake_pci_write(rig->fake, slot, window + 16, 0, 4);
	assert_true(vmm_virtio_running(rig->thing.virtio));
	/* Its own header is fixed. */
	fake_pci_write(rig->fake, slot, window, 0, 4);
	assert_int_equal(fake_pci_read(rig->fake, slot, window, 1), PCI_CAP_ID_VNDR);
}

static void a_machine_reset_puts_the_bar_back(void **state)
{
	struct rig *rig = *state;

	fake_pci_write(rig->fake, rig->driver.slot, PCI_BASE_ADDRESS_0,
		       VMM_PCI_WINDOW + 20 * VMM_PCI_BAR_SIZE, 4);
	vmm_virtio_reset(rig->thing.virtio);
	assert_int_equal(rig->thing.stops, 1);
	assert_int_equal(fake_pci_read(rig->fake, 1, PCI_BASE_ADDRESS_0, 4),
			 VMM_PCI_WINDOW + VMM_PCI_BAR_SIZE);
	assert_true(fake_driver_find(&rig->driver, rig->fake, TYPE, 0));
	fake_driver_start(&rig->driver, 0, SIZE);
}

static void a_device_goes_on_where_it_was_saved(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(vmm_state) twice = vmm_state_new();
	g_autoptr(vmm_state) after = vmm_state_new();

	add(rig, 0);
	/* A notification that nobody has read when the state is saved. */
	fake_mmio_write(rig->fake, rig->driver.queue[0].notify, 0, 2);
	vmm_virtio_save(rig->thing.virtio, before);
	vmm_virtio_save(rig->thing.virtio, twice);
	assert_null(vmm_state_difference(before, twice));

	vmm_virtio_reset(rig->thing.virtio);
	fake_run(rig->fake);
	assert_int_equal(rig->thing.kicks, 0);
	assert_true(vmm_virtio_load(rig->thing.virtio, before, VMM_LOAD_CHECK, NULL));
	assert_false(vmm_virtio_running(rig->thing.virtio));
	assert_true(vmm_virtio_load(rig->thing.virtio, before, VMM_LOAD_APPLY, NULL));
	vmm_virtio_save(rig->thing.virtio, after);
	assert_null(vmm_state_difference(before, after));
	assert_int_equal(rig->thing.kicks, 0);
	fake_forget(rig->fake);
	vmm_virtio_loaded(rig->thing.virtio);
	assert_int_equal(rig->thing.starts, 2);
	assert_int_equal(rig->thing.loads, 1);
	assert_int_equal(rig->thing.kicks, QUEUES);
	assert_true(fake_queue_take_used(&rig->driver.queue[0], NULL, NULL));
	/* One for what was used, and each once more. */
	assert_int_equal(rig->fake->msis->len, 1 + QUEUES + 1);
}

static void a_load_stops_what_ran(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) saved = vmm_state_new();

	vmm_virtio_save(rig->thing.virtio, saved);
	assert_true(vmm_virtio_load(rig->thing.virtio, saved, VMM_LOAD_APPLY, NULL));
	assert_int_equal(rig->thing.stops, 1);
	/* Loaded, not started, and loaded again: that which was loaded is forgotten. */
	assert_true(vmm_virtio_load(rig->thing.virtio, saved, VMM_LOAD_APPLY, NULL));
	assert_int_equal(rig->thing.stops, 2);
	vmm_virtio_loaded(rig->thing.virtio);
	assert_int_equal(rig->thing.starts, 2);
}

static void a_broken_device_is_broken_after_a_load(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) saved = vmm_state_new();

	vmm_virtio_break(rig->thing.virtio, "for the test");
	vmm_virtio_save(rig->thing.virtio, saved);
	vmm_virtio_reset(rig->thing.virtio);
	assert_true(vmm_virtio_load(rig->thing.virtio, saved, VMM_LOAD_APPLY, NULL));
	vmm_virtio_loaded(rig->thing.virtio);
	assert_false(vmm_virtio_running(rig->thing.virtio));
	assert_int_equal(rig->thing.kicks, 0);
	assert_int_equal(rig->thing.starts, 1);
}

static void assert_refused(struct rig *rig, guint at, guint8 byte)
{
	g_autoptr(vmm_state) good = vmm_state_new();
	g_autoptr(vmm_state) bad = vmm_state_new();
	g_autoptr(GError) error = NULL;
	guint8 payload[1024];
	const void *data;
	gsize len;

	vmm_virtio_save(rig->thing.virtio, good);
	data = vmm_state_get(good, "virtio-thing", 0, 1, 0, sizeof(payload), &len,
			     NULL);
	assert_non_null(data);
	memcpy(payload, data, len);
	payload[at] = byte;
	vmm_state_put(bad, "virtio-thing", 0, 1, payload, len, NULL);
	data = vmm_state_get(good, "pci-thing", 0, 1, 0, sizeof(payload), &len, NULL);
	vmm_state_put(bad, "pci-thing", 0, 1, data, len, NULL);
	assert_false(vmm_virtio_load(rig->thing.virtio, bad, VMM_LOAD_CHECK, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
}

static void a_saved_device_that_cannot_be_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_refused(rig, 0, 1); /* features */
	assert_refused(rig, 16, 9); /* configuration vector */
	assert_refused(rig, 20, 0x1f); /* status */
	assert_refused(rig, 20, 0x07); /* DRIVER_OK without FEATURES_OK */
	assert_refused(rig, 20, 0x03); /* ready queues without FEATURES_OK */
	assert_refused(rig, 22, 4); /* ISR */
	assert_refused(rig, 23, 1); /* queues */
	assert_refused(rig, 37, 1); /* padding */
	assert_refused(rig, 40, 5); /* vector of a queue */
	assert_refused(rig, 48 + 7, 1); /* where a ring is */
	assert_refused(rig, 48 + 2 * 40, 1); /* a queue too many */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define STARTED(name) cmocka_unit_test_setup_teardown(name, set_up_started, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_driver_finds_it_and_what_it_offers),
		TEST(a_driver_negotiates_and_starts_it),
		TEST(features_that_were_not_offered_are_refused),
		TEST(a_driver_of_before_1_0_is_refused),
		TEST(features_are_settled_once_they_are_accepted),
		STARTED(status_bits_are_only_added),
		TEST(a_queue_needs_features_before_it_is_enabled),
		TEST(a_queue_that_is_not_there_has_size_zero),
		TEST(impossible_queue_sizes_are_ignored),
		STARTED(a_ready_queue_stays_where_it_is),
		TEST(rings_outside_memory_break_the_device),
		TEST(vectors_that_do_not_exist_read_back_as_none),
		STARTED(registers_answer_to_their_own_width_only),
		STARTED(a_notification_reaches_the_queue_through_the_loop),
		STARTED(without_eventfds_a_notification_is_an_mmio_write),
		STARTED(notifications_follow_the_bar),
		STARTED(a_class_can_ask_to_be_kicked_again),
		TEST(a_queue_that_is_not_ready_is_not_kicked),
		STARTED(reading_the_isr_clears_it),
		STARTED(a_changed_configuration_has_a_new_generation),
		STARTED(configuration_is_reached_within_its_bounds),
		STARTED(a_driver_that_breaks_the_rules_stops_the_device),
		STARTED(a_class_can_break_its_device),
		STARTED(breaking_it_again_and_again_is_told_once_a_second),
		STARTED(a_reset_by_the_driver_forgets_everything),
		TEST(event_indices_keep_interrupts_away),
		STARTED(the_window_reaches_what_the_bar_does),
		STARTED(the_window_refuses_what_is_not_virtios),
		STARTED(a_machine_reset_puts_the_bar_back),
		STARTED(a_device_goes_on_where_it_was_saved),
		STARTED(a_load_stops_what_ran),
		STARTED(a_broken_device_is_broken_after_a_load),
		STARTED(a_saved_device_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
