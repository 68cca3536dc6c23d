/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio.h - modern virtio over PCI, split rings, one MSI-X vector a queue.
 *
 * A queue is looked at only after its interrupt count has moved, so that an interrupt
 * which the VMM loses shows as a hang and is not papered over. BSP only.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "types.h"

#define VIRTIO_NET 1
#define VIRTIO_BLOCK 2
#define VIRTIO_CONSOLE 3
#define VIRTIO_ENTROPY 4

#define VIRTIO_F_EVENT_IDX (1ul << 29)
#define VIRTIO_F_VERSION_1 (1ul << 32)
#define STATUS_NEEDS_RESET 0x40

#define QUEUE_MAX 256
#define QUEUES_MAX 2
#define DEVICES_MAX 16

struct virtq_desc {
	u64 address;
	u32 length;
	u16 flags, next;
};

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4

struct virtq {
	struct virtq_desc desc[QUEUE_MAX] __attribute__((aligned(4096)));
	struct {
		u16 flags, index, ring[QUEUE_MAX + 1];
	} avail;
	struct {
		u16 flags, index;
		struct {
			u32 id, length;
		} ring[QUEUE_MAX];
		u16 avail_event;
	} used __attribute__((aligned(4096)));

	struct virtio *device;
	volatile u16 *notify;
	u16 number, size, used_seen, free, free_head, kicked;
	u16 chain[QUEUE_MAX]; /* descriptors in the chain that starts here */
	void *token[QUEUE_MAX];
	u8 vector;
	bool silent; /* wants no interrupts (transmit) */
	u32 irqs_seen;
	u64 added, popped, kicks;
	u64 bad; /* used entries that we never made available */
};

struct virtio {
	u8 slot;
	u16 type;
	u64 common, notify, isr, config; /* addresses */
	u32 notify_step;
	u64 offered, features;
	u32 queues;
	struct virtq *queue[QUEUES_MAX];
};

struct segment {
	void *data;
	u32 length;
};

/* Scans the bus once; afterwards virtio_find(type, 0), (type, 1)... in slot order. */
void virtio_scan(void);
struct virtio *virtio_find(u16 type, u32 nth);
u32 virtio_count(void);
struct virtio *virtio_at(u32 index);

/* Reset to FEATURES_OK; false if the device refuses. `wanted` beyond VERSION_1. */
bool virtio_begin(struct virtio *dev, u64 wanted);
bool virtq_setup(struct virtio *dev, u16 number, struct virtq *q, u16 size,
		 bool silent);
void virtio_ready(struct virtio *dev);
u8 virtio_status(struct virtio *dev);
u8 virtio_config8(struct virtio *dev, u32 offset);
u16 virtio_config16(struct virtio *dev, u32 offset);
u32 virtio_config32(struct virtio *dev, u32 offset);
u64 virtio_config64(struct virtio *dev, u32 offset);

/* Readable segments first, then writable ones. False if the queue is full. */
bool virtq_add(struct virtq *q, const struct segment *segments, u32 readable,
	       u32 writable, void *token);
void virtq_kick(struct virtq *q);
/* Has an interrupt come since the queue was last found empty? Until it is found so again,
 * none may come for what is there. */
bool virtq_interrupted(struct virtq *q);
/* The token of a used chain, NULL if there is none (the interrupt is then settled). */
void *virtq_pop(struct virtq *q, u32 *length);

#endif
