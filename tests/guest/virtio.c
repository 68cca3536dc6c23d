/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio.c - modern virtio over PCI, split rings, one MSI-X vector a queue. */
#include "virtio.h"

#include "cpu.h"
#include "pci.h"
#include "serial.h"
#include "text.h"

#define VENDOR_VIRTIO 0x1af4
#define DEVICE_BASE 0x1040
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR 3
#define CAP_DEVICE 4
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define AVAIL_NO_INTERRUPT 1

struct common {
	u32 device_feature_select, device_feature;
	u32 driver_feature_select, driver_feature;
	u16 config_vector, queues;
	u8 status, generation;
	u16 queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
	u32 desc_low, desc_high, driver_low, driver_high, device_low, device_high;
};

static struct virtio devices[DEVICES_MAX];
static u32 devices_found;
static u8 next_vector = VECTOR_MSIX;

static volatile struct common *common_of(struct virtio *dev)
{
	return (volatile struct common *)dev->common;
}

static bool find_capabilities(struct virtio *dev)
{
	for (u8 at = 0; (at = pci_capability(dev->slot, PCI_CAP_VENDOR, at));) {
		u8 kind = pci_read8(dev->slot, at + 3);
		u64 bar = pci_bar(dev->slot, pci_read8(dev->slot, at + 4));
		u64 address = bar + pci_read32(dev->slot, at + 8);

		if (!bar)
			continue;
		if (kind == CAP_COMMON && !dev->common)
			dev->common = address;
		if (kind == CAP_ISR && !dev->isr)
			dev->isr = address;
		if (kind == CAP_DEVICE && !dev->config)
			dev->config = address;
		if (kind == CAP_NOTIFY && !dev->notify) {
			dev->notify = address;
			dev->notify_step = pci_read32(dev->slot, at + 16);
		}
	}
	return dev->common && dev->notify;
}

void virtio_scan(void)
{
	for (u8 slot = 0; slot < PCI_SLOTS && devices_found < DEVICES_MAX; slot++) {
		u32 id = pci_read32(slot, 0);
		struct virtio *dev = &devices[devices_found];

		if ((id & 0xffff) != VENDOR_VIRTIO || id >> 16 < DEVICE_BASE)
			continue;
		*dev = (struct virtio){ .slot = slot,
					.type = (id >> 16) - DEVICE_BASE };
		pci_write16(slot, PCI_COMMAND,
			    pci_read16(slot, PCI_COMMAND) | PCI_COMMAND_MEMORY |
				    PCI_COMMAND_MASTER);
		if (!find_capabilities(dev)) {
			say("pci slot=%u virtio type=%u lacks capabilities", slot,
			    dev->type);
			continue;
		}
		devices_found++;
	}
}

struct virtio *virtio_find(u16 type, u32 nth)
{
	for (u32 i = 0; i < devices_found; i++)
		if (devices[i].type == type && !nth--)
			return &devices[i];
	return NULL;
}

u32 virtio_count(void)
{
	return devices_found;
}

struct virtio *virtio_at(u32 index)
{
	return &devices[index];
}

bool virtio_begin(struct virtio *dev, u64 wanted)
{
	volatile struct common *c = common_of(dev);

	c->status = 0;
	while (c->status)
		__builtin_ia32_pause();
	dev->queues = 0;
	c->status = STATUS_ACKNOWLEDGE;
	c->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
	c->device_feature_select = 0;
	dev->offered = c->device_feature;
	c->device_feature_select = 1;
	dev->offered |= (u64)c->device_feature << 32;
	if (!option_flag("noeventidx"))
		wanted |= VIRTIO_F_EVENT_IDX;
	dev->features = dev->offered & (wanted | VIRTIO_F_VERSION_1);
	c->driver_feature_select = 0;
	c->driver_feature = (u32)dev->features;
	c->driver_feature_select = 1;
	c->driver_feature = dev->features >> 32;
	c->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
	return (c->status & STATUS_FEATURES_OK) && (dev->features & VIRTIO_F_VERSION_1);
}

static void set_msix(struct virtio *dev, u16 entry, u8 vector)
{
	u8 cap = pci_capability(dev->slot, PCI_CAP_MSIX, 0);
	u32 where = pci_read32(dev->slot, cap + 4);
	volatile u32 *e = (volatile u32 *)(pci_bar(dev->slot, where & 7) +
					   (where & ~7u) + 16ul * entry);

	e[0] = 0xfee00000 | this_cpu()->apic_id << 12;
	e[1] = 0;
	e[2] = vector;
	e[3] = 0; /* not masked */
}

bool virtq_setup(struct virtio *dev, u16 number, struct virtq *q, u16 size, bool silent)
{
	volatile struct common *c = common_of(dev);
	u8 vector = q->vector; /* kept over a reset of the device */
	u64 address;

	c->queue_select = number;
	if (!c->queue_size)
		return false;
	memset(q, 0, sizeof(*q));
	if (size > c->queue_size)
		size = c->queue_size;
	if (size > QUEUE_MAX)
		size = QUEUE_MAX;
	q->device = dev;
	q->number = number;
	q->size = q->free = size;
	q->silent = silent;
	q->vector = vector ? vector : next_vector++;
	q->irqs_seen = READ_ONCE(cpu_at(0)->irqs[q->vector]);
	for (u16 i = 0; i < size; i++)
		q->desc[i].next = i + 1;
	if (silent && !(dev->features & VIRTIO_F_EVENT_IDX))
		q->avail.flags = AVAIL_NO_INTERRUPT;
	if (silent) /* an event half a ring behind is as good as never */
		q->avail.ring[size] = 0x8000;
	set_msix(dev, number, q->vector);
	c->queue_size = size;
	c->queue_vector = number;
	if (c->queue_vector != number)
		return false;
	address = (u64)q->desc;
	c->desc_low = (u32)address;
	c->desc_high = address >> 32;
	address = (u64)&q->avail;
	c->driver_low = (u32)address;
	c->driver_high = address >> 32;
	address = (u64)&q->used;
	c->device_low = (u32)address;
	c->device_high = address >> 32;
	q->notify =
		(volatile u16 *)(dev->notify + c->queue_notify_off * dev->notify_step);
	c->queue_enable = 1;
	dev->queue[dev->queues++] = q;
	return true;
}

void virtio_ready(struct virtio *dev)
{
	u8 cap = pci_capability(dev->slot, PCI_CAP_MSIX, 0);

	pci_write16(dev->slot, cap + 2, pci_read16(dev->slot, cap + 2) | 0x8000);
	common_of(dev)->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER |
				 STATUS_FEATURES_OK | STATUS_DRIVER_OK;
}

u8 virtio_status(struct virtio *dev)
{
	return common_of(dev)->status;
}

u8 virtio_config8(struct virtio *dev, u32 offset)
{
	return *(volatile u8 *)(dev->config + offset);
}

u16 virtio_config16(struct virtio *dev, u32 offset)
{
	return *(volatile u16 *)(dev->config + offset);
}

u32 virtio_config32(struct virtio *dev, u32 offset)
{
	return *(volatile u32 *)(dev->config + offset);
}

u64 virtio_config64(struct virtio *dev, u32 offset)
{
	return (u64)virtio_config32(dev, offset + 4) << 32 |
	       virtio_config32(dev, offset);
}

bool virtq_add(struct virtq *q, const struct segment *segments, u32 readable,
	       u32 writable, void *token)
{
	u32 n = readable + writable;
	u16 head = q->free_head, at = head, last = head;

	if (q->free < n)
		return false;
	for (u32 i = 0; i < n; i++) {
		q->desc[at].address = (u64)segments[i].data;
		q->desc[at].length = segments[i].length;
		q->desc[at].flags = DESC_NEXT | (i >= readable ? DESC_WRITE : 0);
		last = at;
		at = q->desc[at].next;
	}
	q->desc[last].flags &= ~DESC_NEXT;
	q->free_head = at;
	q->free -= n;
	q->chain[head] = n;
	q->token[head] = token;
	q->avail.ring[q->avail.index % q->size] = head;
	barrier();
	WRITE_ONCE(q->avail.index, q->avail.index + 1);
	q->added++;
	return true;
}

void virtq_kick(struct virtq *q)
{
	u16 old = q->kicked, now = q->avail.index;
	bool wanted;

	if (old == now)
		return;
	q->kicked = now;
	full_barrier();
	if (q->device->features & VIRTIO_F_EVENT_IDX) {
		u16 event = READ_ONCE(*(u16 *)&q->used.ring[q->size]);

		wanted = (u16)(now - event - 1) < (u16)(now - old);
	} else {
		wanted = !(READ_ONCE(q->used.flags) & 1);
	}
	if (wanted) {
		q->kicks++;
		*q->notify = q->number;
	}
}

bool virtq_interrupted(struct virtq *q)
{
	return READ_ONCE(cpu_at(0)->irqs[q->vector]) != q->irqs_seen;
}

static void *take_used(struct virtq *q, u32 *length)
{
	u32 id = q->used.ring[q->used_seen % q->size].id;
	u32 used = q->used.ring[q->used_seen % q->size].length;
	u16 last = id;
	void *token;

	q->used_seen++;
	if (id >= q->size || !q->chain[id]) {
		q->bad++;
		return NULL;
	}
	for (u16 i = 1; i < q->chain[id]; i++)
		last = q->desc[last].next;
	q->desc[last].next = q->free_head;
	q->free_head = id;
	q->free += q->chain[id];
	q->chain[id] = 0;
	token = q->token[id];
	q->popped++;
	if (length)
		*length = used;
	return token;
}

void *virtq_pop(struct virtq *q, u32 *length)
{
	for (;;) {
		u32 irqs = READ_ONCE(cpu_at(0)->irqs[q->vector]);

		barrier();
		while (q->used_seen != READ_ONCE(q->used.index)) {
			void *token;

			barrier();
			token = take_used(q, length);
			if (token)
				return token;
		}
		if (!q->silent && q->device->features & VIRTIO_F_EVENT_IDX) {
			/* Ask for an interrupt at the next one, and look again: it may
			 * be here, and then without an interrupt. */
			WRITE_ONCE(q->avail.ring[q->size], q->used_seen);
			full_barrier();
			if (q->used_seen != READ_ONCE(q->used.index))
				continue;
		}
		/* Only who found nothing has asked for the next: had the interrupt been
		 * settled before, a chain taken at the second look would leave the
		 * event index behind, and no interrupt would ever follow. */
		q->irqs_seen = irqs;
		return NULL;
	}
}
