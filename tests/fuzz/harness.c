/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fuzz targets share. */
#include "tests/fuzz/harness.h"

#include <linux/virtio_pci.h>
#include <string.h>

/* One object for every target, whichever build it is: so these come along. */
#include "tests/unit/fake_driver.c"
#include "tests/unit/fake_platform.c"

gsize fuzz_bytes(struct fuzz_input *input, void *to, gsize len)
{
	gsize n = MIN(len, input->left);

	memcpy(to, input->data, n);
	input->data += n;
	input->left -= n;
	return n;
}

guint64 fuzz_u64(struct fuzz_input *input)
{
	guint64 value = 0;

	fuzz_bytes(input, &value, 8);
	return GUINT64_FROM_LE(value);
}

guint32 fuzz_u32(struct fuzz_input *input)
{
	guint32 value = 0;

	fuzz_bytes(input, &value, 4);
	return GUINT32_FROM_LE(value);
}

guint16 fuzz_u16(struct fuzz_input *input)
{
	guint16 value = 0;

	fuzz_bytes(input, &value, 2);
	return GUINT16_FROM_LE(value);
}

guint8 fuzz_u8(struct fuzz_input *input)
{
	guint8 value = 0;

	fuzz_bytes(input, &value, 1);
	return value;
}

guint fuzz_len(struct fuzz_input *input)
{
	return 1u << (fuzz_u8(input) & 3);
}

guint64 fuzz_gpa(struct fuzz_input *input)
{
	guint8 kind = fuzz_u8(input);

	if (kind < 0xe0)
		return (guint64)kind << 8 | (fuzz_u8(input) & 0xf0);
	if (kind < 0xf0)
		return FUZZ_MEMORY - fuzz_u8(input);
	return fuzz_u64(input);
}

static void drop_line(const char *domain, GLogLevelFlags level, const char *message,
		      void *data)
{
}

void fuzz_quiet(void)
{
	g_log_set_handler(NULL, G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE, drop_line,
			  NULL);
}

static void reload(struct fuzz_input *input, vmm_virtio *virtio)
{
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(vmm_state) twice = vmm_state_new();
	gboolean reset = fuzz_u8(input) & 1;

	vmm_virtio_save(virtio, saved);
	vmm_virtio_save(virtio, twice);
	g_assert(!vmm_state_difference(saved, twice));
	if (reset)
		vmm_virtio_reset(virtio);
	/* What a device saves, it must be able to load. */
	g_assert(vmm_virtio_load(virtio, saved, VMM_LOAD_CHECK, NULL));
	g_assert(vmm_virtio_load(virtio, saved, VMM_LOAD_APPLY, NULL));
	vmm_state_reset(twice);
	vmm_virtio_save(virtio, twice);
	g_assert(!vmm_state_difference(saved, twice));
	vmm_virtio_loaded(virtio);
}

/* A load of this device's own state with some bytes of it changed: refused, or lived
 * through. */
static void load_changed(struct fuzz_input *input, vmm_virtio *virtio)
{
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(vmm_state) changed = NULL;
	g_autofree struct wire_state_header *copy = NULL;
	guint8 *bytes;
	gsize len;

	vmm_virtio_save(virtio, saved);
	bytes = (guint8 *)vmm_state_bytes(saved, &len);
	for (guint i = 0; i < 4; i++) {
		guint at = fuzz_u16(input) % (len - sizeof(*copy));

		bytes[sizeof(*copy) + at] = fuzz_u8(input);
	}
	/* Computed anew over what was changed. */
	vmm_state_bytes(saved, &len);
	copy = g_memdup2(bytes, len);
	changed = vmm_state_parse(copy, len, NULL);
	if (!changed || !vmm_virtio_load(virtio, changed, VMM_LOAD_CHECK, NULL))
		return;
	g_assert(vmm_virtio_load(virtio, changed, VMM_LOAD_APPLY, NULL));
	vmm_virtio_loaded(virtio);
}

static void ring_step(struct fuzz_input *input, struct fake_driver *driver, guint8 op)
{
	struct fake_queue *queue = &driver->queue[(op >> 4) % driver->queues];
	guint16 index;
	guint64 gpa;
	guint32 len;
	guint16 flags;

	if (!queue->size)
		return;
	switch (op & 7) {
	case 0:
	case 1:
	case 2:
		index = fuzz_u8(input) % queue->size;
		gpa = fuzz_gpa(input);
		len = op & 8 ? fuzz_u32(input) : fuzz_u8(input);
		flags = fuzz_u8(input) & 7;
		fake_queue_set_desc(queue, index, gpa, len, flags, fuzz_u8(input));
		break;
	case 3:
	case 4:
		fake_queue_offer(queue, fuzz_u8(input));
		break;
	case 5:
		fake_queue_set_avail_idx(queue, fuzz_u16(input));
		break;
	case 6:
		fake_queue_set_avail_flags(queue, fuzz_u8(input));
		fake_queue_set_used_event(queue, fuzz_u16(input));
		break;
	default:
		fake_mmio_write(driver->fake, driver->notify + 4 * (op >> 4 & 3), 0, 2);
		break;
	}
}

static void bar_step(struct fuzz_input *input, struct fake_driver *driver, guint8 op)
{
	guint64 at = driver->bar;
	guint len = fuzz_len(input);

	switch (op >> 4 & 3) {
	case 0:
		at = driver->common + fuzz_u8(input) % 64;
		break;
	case 1:
		at = driver->config + fuzz_u8(input);
		break;
	default:
		at += fuzz_u16(input) % VMM_PCI_BAR_SIZE;
		break;
	}
	if (op & 1)
		fake_mmio_read(driver->fake, at, len);
	else
		fake_mmio_write(driver->fake, at, fuzz_u64(input), len);
}

static void config_step(struct fuzz_input *input, struct fake_driver *driver, guint8 op)
{
	guint offset = fuzz_u8(input);
	guint len = 1u << (op >> 4 & 3) % 3;

	if (op & 1)
		fake_pci_read(driver->fake, driver->slot, offset, len);
	else
		fake_pci_write(driver->fake, driver->slot, offset, fuzz_u32(input),
			       len);
}

/* As a driver does that was unloaded and comes back. */
static void start_over(struct fake_driver *driver)
{
	guint slot = driver->slot;
	guint type = fake_pci_read(driver->fake, slot, 2, 2) - 0x1040;
	struct fake_driver found;

	/* Rings take fresh memory each time. */
	if (driver->fake->free_gpa > FUZZ_MEMORY / 2)
		return;
	/* The BAR may be anywhere. */
	fake_pci_write(driver->fake, slot, 0x10,
		       VMM_PCI_WINDOW + slot * VMM_PCI_BAR_SIZE, 4);
	if (!fake_driver_find(&found, driver->fake, type, 0) || found.slot != slot ||
	    found.queues > VMM_VIRTIO_QUEUES_MAX)
		return;
	*driver = found;
	if (!fake_driver_negotiate(driver, G_MAXUINT64))
		return;
	for (guint i = 0; i < driver->queues; i++)
		fake_driver_setup_queue(driver, i, 16);
	fake_driver_set_status(driver, 0x0f);
}

void fuzz_virtio(struct fuzz_input *input, struct fake_driver *driver,
		 vmm_virtio *virtio, void (*step)(void *data, struct fuzz_input *input),
		 void *data)
{
	while (input->left) {
		guint8 op = fuzz_u8(input);
		guint64 gpa;
		guint8 bytes[64];

		switch (fuzz_u8(input) % 12) {
		case 0:
			bar_step(input, driver, op);
			break;
		case 1:
			config_step(input, driver, op);
			break;
		case 2:
			gpa = fuzz_gpa(input);
			vmm_memory_write(driver->fake->platform.memory, gpa, bytes,
					 fuzz_bytes(input, bytes, op % sizeof(bytes)));
			break;
		case 3:
			fake_run(driver->fake);
			break;
		case 4:
			reload(input, virtio);
			break;
		case 5:
			load_changed(input, virtio);
			break;
		case 6:
			start_over(driver);
			break;
		default:
			ring_step(input, driver, op);
			break;
		}
		if (step)
			step(data, input);
	}
	fake_run(driver->fake);
}
