/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * misuse.c - being a hostile guest, on purpose.
 *
 * Each way breaks one promise of a driver to its device and then notifies. The queue is
 * not usable afterwards. The machine must stay alive, and say so; whether it sets
 * NEEDS_RESET is in the answer of `misuse`.
 */
#include "misuse.h"

#include "pci.h"
#include "text.h"
#include "virtio.h"

#define OUTSIDE 0x7f0000000000ul
#define HOLE 0xd0000000ul
#define BIG 0xfffffff0u

static void offer(struct virtq *q, u16 head)
{
	q->avail.ring[q->avail.index % q->size] = head;
	barrier();
	WRITE_ONCE(q->avail.index, q->avail.index + 1);
}

static void set(struct virtq *q, u16 i, u64 address, u32 length, u16 flags, u16 next)
{
	q->desc[i] = (struct virtq_desc){ address, length, flags, next };
}

static void outside(struct virtq *q)
{
	set(q, 0, OUTSIDE, 4096, DESC_NEXT, 1);
	set(q, 1, OUTSIDE, 4096, DESC_WRITE, 0);
	offer(q, 0);
}

/* To a disk, a good header (zero: read sector 0) with nowhere to put the answer. */
static void outside_write(struct virtq *q)
{
	static u8 zero[16];

	set(q, 0, (u64)zero, 16, DESC_NEXT, 1);
	set(q, 1, OUTSIDE, 4096, DESC_NEXT | DESC_WRITE, 2);
	set(q, 2, OUTSIDE + 4096, 1, DESC_WRITE, 0);
	offer(q, 0);
}

static void hole(struct virtq *q)
{
	set(q, 0, HOLE, 4096, DESC_NEXT, 1);
	set(q, 1, HOLE, 4096, DESC_WRITE, 0);
	offer(q, 0);
}

static void wrap(struct virtq *q)
{
	set(q, 0, ~0ul - 100, 4096, DESC_NEXT, 1);
	set(q, 1, ~0ul - 100, BIG, DESC_WRITE, 0);
	offer(q, 0);
}

static void loop(struct virtq *q)
{
	set(q, 0, (u64)q, 16, DESC_NEXT, 1);
	set(q, 1, (u64)q, 16, DESC_NEXT, 0);
	offer(q, 0);
}

static void length(struct virtq *q)
{
	set(q, 0, (u64)q, BIG, DESC_NEXT, 1);
	set(q, 1, (u64)q, BIG, DESC_WRITE, 0);
	offer(q, 0);
}

static void empty(struct virtq *q)
{
	set(q, 0, (u64)q, 0, DESC_NEXT, 1);
	set(q, 1, (u64)q, 0, DESC_WRITE, 0);
	offer(q, 0);
}

static void next(struct virtq *q)
{
	set(q, 0, (u64)q, 16, DESC_NEXT, 0xffff);
	offer(q, 0);
}

static void head(struct virtq *q)
{
	offer(q, 0xffff);
}

static void index(struct virtq *q)
{
	WRITE_ONCE(q->avail.index, q->avail.index + 0x7fff);
}

static void indirect(struct virtq *q)
{
	set(q, 0, (u64)q, 16 * 4, DESC_INDIRECT, 0); /* it was not negotiated */
	offer(q, 0);
}

static void order(struct virtq *q)
{
	set(q, 0, (u64)q->desc + 2048, 16, DESC_NEXT | DESC_WRITE, 1);
	set(q, 1, (u64)q->desc + 2048, 16, 0, 0);
	offer(q, 0);
}

/* The common configuration, by its place in the structure. */
static void rings(struct virtq *q)
{
	*(volatile u8 *)(q->device->common + 20) = 0;
	*(volatile u16 *)(q->device->common + 22) = q->number;
	*(volatile u32 *)(q->device->common + 36) = OUTSIDE >> 32;
	*(volatile u32 *)(q->device->common + 44) = OUTSIDE >> 32;
	*(volatile u32 *)(q->device->common + 52) = OUTSIDE >> 32;
	*(volatile u16 *)(q->device->common + 28) = 1;
	*(volatile u8 *)(q->device->common + 20) = 15;
	offer(q, 0);
}

static void size(struct virtq *q)
{
	*(volatile u16 *)(q->device->common + 22) = q->number;
	*(volatile u16 *)(q->device->common + 24) = 0xfff3;
	offer(q, 0);
}

static void selector(struct virtq *q)
{
	*(volatile u16 *)(q->device->common + 22) = 0xffff;
	*(volatile u16 *)(q->device->common + 28) = 1;
	*(volatile u16 *)(q->device->common + 26) = 0xfffe;
	(void)*(volatile u32 *)(q->device->common + 32);
}

static void notify(struct virtq *q)
{
	for (u32 i = 0; i < 64; i++)
		q->notify[i] = 0xffff;
}

static void access(struct virtq *q)
{
	for (u32 i = 0; i < 4096; i += 61) {
		*(volatile u8 *)(q->device->common + i) = 0xff;
		(void)*(volatile u64 *)(q->device->common + (i & ~7u));
	}
}

static void pci(struct virtq *q)
{
	/* All of configuration space, the BARs too. */
	for (u32 i = 0; i < 256; i += 2)
		pci_write16(q->device->slot, i, 0xffff);
}

static const struct {
	const char *name;
	void (*run)(struct virtq *);
} ways[] = {
	{ "outside", outside },	  { "outside-write", outside_write },
	{ "hole", hole },	  { "wrap", wrap },
	{ "loop", loop },	  { "length", length },
	{ "empty", empty },	  { "next", next },
	{ "head", head },	  { "index", index },
	{ "indirect", indirect }, { "order", order },
	{ "rings", rings },	  { "size", size },
	{ "selector", selector }, { "notify", notify },
	{ "access", access },	  { "pci", pci },
};

const char *misuse(const char *what, u32 device, u32 queue)
{
	struct virtio *dev = device < virtio_count() ? virtio_at(device) : NULL;

	if (!dev || queue >= dev->queues)
		return "no such device or queue";
	for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
		struct virtq *q = dev->queue[queue];

		if (!text_equal(ways[i].name, what))
			continue;
		ways[i].run(q);
		*q->notify = q->number;
		return NULL;
	}
	return "no such misuse";
}

void misuse_list(char *out, u32 size)
{
	format(out, size, "ok");
	for (u32 i = 0; i < ARRAY_SIZE(ways); i++)
		format_more(out, size, " %s", ways[i].name);
}
