/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's side of virtio for tests. */
#include "tests/unit/fake_driver.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#define MSI_ADDRESS 0xfee00000u

struct desc {
	guint64 addr;
	guint32 len;
	guint16 flags, next;
};

guint32 fake_pci_read(struct fake_platform *fake, guint slot, guint offset, guint len)
{
	fake_out(fake, 0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc), 4);
	return fake_in(fake, (guint16)(0xcfc + (offset & 3)), len);
}

void fake_pci_write(struct fake_platform *fake, guint slot, guint offset, guint32 value,
		    guint len)
{
	fake_out(fake, 0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc), 4);
	fake_out(fake, (guint16)(0xcfc + (offset & 3)), value, len);
}

static guint32 config(struct fake_driver *driver, guint offset, guint len)
{
	return fake_pci_read(driver->fake, driver->slot, offset, len);
}

static void take_structure(struct fake_driver *driver, guint at)
{
	guint64 gpa = driver->bar + config(driver, at + VIRTIO_PCI_CAP_OFFSET, 4);

	switch (config(driver, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		driver->common = gpa;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		driver->notify = gpa;
		driver->multiplier = config(driver, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		driver->isr = gpa;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		driver->config = gpa;
		break;
	case VIRTIO_PCI_CAP_PCI_CFG:
		driver->window = at;
		break;
	}
}

void fake_driver_locate(struct fake_driver *driver)
{
	guint at = config(driver, PCI_CAPABILITY_LIST, 1);
	guint hops = 0;

	driver->bar = config(driver, PCI_BASE_ADDRESS_0, 4) & ~15u;
	for (; at; at = config(driver, at + PCI_CAP_LIST_NEXT, 1)) {
		guint id = config(driver, at + PCI_CAP_LIST_ID, 1);

		g_assert(hops++ < 48);
		if (id == PCI_CAP_ID_VNDR)
			take_structure(driver, at);
		else if (id == PCI_CAP_ID_MSIX)
			driver->msix = at;
	}
	for (guint i = 0; i < VMM_VIRTIO_QUEUES_MAX; i++)
		if (driver->queue[i].notify)
			driver->queue[i].notify =
				driver->notify + driver->multiplier * i;
}

static void enable_msix(struct fake_driver *driver)
{
	guint control = config(driver, driver->msix + PCI_MSIX_FLAGS, 2);
	guint64 table = driver->bar + VMM_PCI_MSIX_TABLE;

	driver->vectors = (control & PCI_MSIX_FLAGS_QSIZE) + 1;
	driver->msi_data = 0x100u * driver->slot;
	for (guint v = 0; v < driver->vectors; v++) {
		guint64 entry = table + PCI_MSIX_ENTRY_SIZE * v;

		fake_mmio_write(driver->fake, entry, MSI_ADDRESS, 4);
		fake_mmio_write(driver->fake, entry + 4, 0, 4);
		fake_mmio_write(driver->fake, entry + 8, driver->msi_data + v, 4);
		fake_mmio_write(driver->fake, entry + 12, 0, 4);
	}
	fake_pci_write(driver->fake, driver->slot, driver->msix + PCI_MSIX_FLAGS,
		       PCI_MSIX_FLAGS_ENABLE, 2);
}

gboolean fake_driver_find(struct fake_driver *driver, struct fake_platform *fake,
			  guint type, guint nth)
{
	*driver = (struct fake_driver){ .fake = fake };
	for (guint slot = 1; slot < VMM_PCI_SLOTS; slot++) {
		driver->slot = slot;
		if (config(driver, 0, 4) != (0x1af4u | (0x1040u + type) << 16) || nth--)
			continue;
		fake_pci_write(fake, slot, PCI_COMMAND,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
		fake_driver_locate(driver);
		enable_msix(driver);
		driver->queues =
			(guint)fake_common_read(driver, VIRTIO_PCI_COMMON_NUMQ, 2);
		return TRUE;
	}
	return FALSE;
}

guint64 fake_common_read(struct fake_driver *driver, guint offset, guint len)
{
	return fake_mmio_read(driver->fake, driver->common + offset, len);
}

void fake_common_write(struct fake_driver *driver, guint offset, guint64 value,
		       guint len)
{
	fake_mmio_write(driver->fake, driver->common + offset, value, len);
}

guint8 fake_driver_status(struct fake_driver *driver)
{
	return (guint8)fake_common_read(driver, VIRTIO_PCI_COMMON_STATUS, 1);
}

void fake_driver_set_status(struct fake_driver *driver, guint8 status)
{
	fake_common_write(driver, VIRTIO_PCI_COMMON_STATUS, status, 1);
}

guint64 fake_driver_offered(struct fake_driver *driver)
{
	guint64 offered;

	fake_common_write(driver, VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	offered = fake_common_read(driver, VIRTIO_PCI_COMMON_DF, 4);
	fake_common_write(driver, VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	return offered | fake_common_read(driver, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

gboolean fake_driver_negotiate(struct fake_driver *driver, guint64 wanted)
{
	guint64 features =
		fake_driver_offered(driver) & (wanted | VMM_VIRTIO_F_VERSION_1);

	fake_driver_set_status(driver, 0);
	fake_driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	fake_driver_set_status(driver,
			       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (guint i = 0; i < 2; i++) {
		fake_common_write(driver, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		fake_common_write(driver, VIRTIO_PCI_COMMON_GF,
				  (guint32)(features >> 32 * i), 4);
	}
	fake_driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE |
					       VIRTIO_CONFIG_S_DRIVER |
					       VIRTIO_CONFIG_S_FEATURES_OK);
	return !!(fake_driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static void set_address(struct fake_driver *driver, guint offset, guint64 gpa)
{
	fake_common_write(driver, offset, (guint32)gpa, 4);
	fake_common_write(driver, offset + 4, gpa >> 32, 4);
}

void fake_driver_setup_queue(struct fake_driver *driver, guint index, guint16 size)
{
	struct fake_queue *queue = &driver->queue[index];

	fake_queue_init(queue, driver->fake, size);
	fake_common_write(driver, VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
	fake_common_write(driver, VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
	fake_common_write(driver, VIRTIO_PCI_COMMON_Q_MSIX, index + 1, 2);
	set_address(driver, VIRTIO_PCI_COMMON_Q_DESCLO, queue->desc);
	set_address(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, queue->avail);
	set_address(driver, VIRTIO_PCI_COMMON_Q_USEDLO, queue->used);
	fake_common_write(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	queue->notify = driver->notify +
			driver->multiplier *
				fake_common_read(driver, VIRTIO_PCI_COMMON_Q_NOFF, 2);
}

void fake_driver_start(struct fake_driver *driver, guint64 wanted, guint16 size)
{
	g_assert(fake_driver_negotiate(driver, wanted));
	fake_common_write(driver, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (guint i = 0; i < driver->queues; i++)
		fake_driver_setup_queue(driver, i, size);
	fake_driver_set_status(driver,
			       fake_driver_status(driver) | VIRTIO_CONFIG_S_DRIVER_OK);
	g_assert(fake_driver_status(driver) & VIRTIO_CONFIG_S_DRIVER_OK);
}

void fake_config_read(struct fake_driver *driver, guint offset, void *to, guint len)
{
	for (guint i = 0; i < len; i++)
		((guint8 *)to)[i] = (guint8)fake_mmio_read(
			driver->fake, driver->config + offset + i, 1);
}

void fake_queue_init(struct fake_queue *queue, struct fake_platform *fake, guint16 size)
{
	*queue = (struct fake_queue){ .fake = fake, .size = size };
	queue->desc = fake_alloc(fake, sizeof(struct desc) * size, 16);
	queue->avail = fake_alloc(fake, 6 + 2u * size, 2);
	queue->used = fake_alloc(fake, 6 + 8u * size, 4);
	/* The lowest on top. */
	for (guint i = 0; i < size; i++)
		queue->free[i] = (guint16)(size - 1 - i);
	queue->n_free = size;
}

static guint16 *word(struct fake_queue *queue, guint64 gpa)
{
	return fake_at(queue->fake, gpa, 2);
}

static struct desc *desc_at(struct fake_queue *queue, guint index)
{
	return fake_at(queue->fake, queue->desc + sizeof(struct desc) * index,
		       sizeof(struct desc));
}

void fake_queue_set_desc(struct fake_queue *queue, guint index, guint64 gpa,
			 guint32 len, guint16 flags, guint16 next)
{
	*desc_at(queue, index) = (struct desc){ gpa, len, flags, next };
}

void fake_queue_set_avail_idx(struct fake_queue *queue, guint16 idx)
{
	queue->avail_idx = idx;
	__atomic_store_n(word(queue, queue->avail + 2), idx, __ATOMIC_RELEASE);
}

void fake_queue_offer(struct fake_queue *queue, guint16 head)
{
	*word(queue, queue->avail + 4 + 2u * (queue->avail_idx % queue->size)) = head;
	fake_queue_set_avail_idx(queue, queue->avail_idx + 1);
}

static guint16 flags_of(const struct fake_buffer *buffer, gboolean last)
{
	return (guint16)((buffer->write ? FAKE_DESC_WRITE : 0) |
			 (last ? 0 : FAKE_DESC_NEXT));
}

guint16 fake_queue_add(struct fake_queue *queue, const struct fake_buffer *buffers,
		       guint count)
{
	guint16 head = queue->free[queue->n_free - 1];

	g_assert(count && count <= queue->n_free);
	for (guint i = 0; i < count; i++) {
		guint16 index = queue->free[--queue->n_free];
		gboolean last = i + 1 == count;

		fake_queue_set_desc(queue, index, buffers[i].gpa, buffers[i].len,
				    flags_of(&buffers[i], last),
				    last ? 0 : queue->free[queue->n_free - 1]);
	}
	fake_queue_offer(queue, head);
	return head;
}

guint16 fake_queue_add_indirect(struct fake_queue *queue,
				const struct fake_buffer *buffers, guint count)
{
	guint32 len = (guint32)sizeof(struct desc) * count;
	guint64 table = fake_alloc(queue->fake, len, 16);
	struct desc *desc = fake_at(queue->fake, table, len);
	guint16 head;

	g_assert(count && queue->n_free);
	head = queue->free[--queue->n_free];
	for (guint i = 0; i < count; i++)
		desc[i] = (struct desc){ buffers[i].gpa, buffers[i].len,
					 flags_of(&buffers[i], i + 1 == count),
					 (guint16)(i + 1) };
	fake_queue_set_desc(queue, head, table, len, FAKE_DESC_INDIRECT, 0);
	fake_queue_offer(queue, head);
	return head;
}

void fake_queue_kick(struct fake_queue *queue)
{
	fake_mmio_write(queue->fake, queue->notify, 0, 2);
	fake_run(queue->fake);
}

gboolean fake_queue_take_used(struct fake_queue *queue, guint32 *id, guint32 *len)
{
	guint64 slot = queue->used + 4 + 8u * (queue->last_used % queue->size);
	const guint32 *elem = fake_at(queue->fake, slot, 8);
	guint index = elem[0];

	if (fake_queue_used_idx(queue) == queue->last_used)
		return FALSE;
	g_assert(index < queue->size);
	if (id)
		*id = index;
	if (len)
		*len = elem[1];
	queue->last_used++;
	for (;;) {
		const struct desc *desc = desc_at(queue, index);

		g_assert(queue->n_free < queue->size);
		queue->free[queue->n_free++] = (guint16)index;
		if (!(desc->flags & FAKE_DESC_NEXT))
			return TRUE;
		index = desc->next;
	}
}

void fake_queue_set_avail_flags(struct fake_queue *queue, guint16 flags)
{
	*word(queue, queue->avail) = flags;
}

void fake_queue_set_used_event(struct fake_queue *queue, guint16 idx)
{
	*word(queue, queue->avail + 4 + 2u * queue->size) = idx;
}

guint16 fake_queue_used_idx(struct fake_queue *queue)
{
	return __atomic_load_n(word(queue, queue->used + 2), __ATOMIC_ACQUIRE);
}

guint16 fake_queue_used_flags(struct fake_queue *queue)
{
	return *word(queue, queue->used);
}

guint16 fake_queue_avail_event(struct fake_queue *queue)
{
	return *word(queue, queue->used + 4 + 8u * queue->size);
}
