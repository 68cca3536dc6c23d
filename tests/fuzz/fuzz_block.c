/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk, a hostile guest, and a disk that is slow, unordered and fails. */
#include "kvm/block.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/harness.h"

#define DISK_BYTES (256u << 10)
#define SCRATCH 0xf0000u /* guest memory for requests as a good driver makes them */

struct slow {
	struct vmm_disk disk;
	GPtrArray *waiting; /* struct vmm_disk_request */
	struct fake_driver *driver;
	guint8 bytes[DISK_BYTES];
};

static void slow_submit(void *data, struct vmm_disk_request *request)
{
	struct slow *slow = data;

	g_assert((guintptr)request->buffer % 4096 == 0);
	if (request->op != VMM_DISK_FLUSH) {
		g_assert(request->len && request->len % VMM_SECTOR == 0);
		g_assert(request->offset % VMM_SECTOR == 0);
		g_assert(request->offset <= DISK_BYTES);
		g_assert(request->len <= DISK_BYTES - request->offset);
	}
	g_ptr_array_add(slow->waiting, request);
	g_assert(slow->waiting->len <= VMM_QUEUE_SIZE_MAX);
}

static void slow_flush_submissions(void *data)
{
}

/* Freed at once: whoever uses it afterwards is caught. */
static void slow_forget(void *data, struct vmm_disk_request *request)
{
	struct slow *slow = data;

	g_assert(g_ptr_array_remove(slow->waiting, request));
	free(request->buffer);
	g_free(request);
}

static void slow_free(void *data)
{
	struct slow *slow = data;

	g_assert(slow->waiting->len == 0);
	g_ptr_array_unref(slow->waiting);
	g_free(slow);
}

static void complete(struct slow *slow, guint which, int result)
{
	struct vmm_disk_request *request;

	request = g_ptr_array_steal_index(slow->waiting, which % slow->waiting->len);
	if (request->op == VMM_DISK_READ && result == 0)
		memcpy(request->buffer, slow->bytes + request->offset, request->len);
	if (request->op == VMM_DISK_WRITE && result == 0)
		memcpy(slow->bytes + request->offset, request->buffer, request->len);
	request->done(request, result);
}

/* A request as a good driver makes it, so that the fuzzer need not find out how. */
static void good_request(struct slow *slow, struct fuzz_input *input)
{
	static const guint8 types[] = { 0, 1, 4, 8, 11, 13 };
	struct fake_driver *driver = slow->driver;
	struct fake_queue *queue = &driver->queue[0];
	guint8 kind = fuzz_u8(input);
	struct virtio_blk_outhdr header = {
		.type = types[kind % G_N_ELEMENTS(types)],
		.sector = fuzz_u8(input),
	};
	guint head = fuzz_u8(input) % 16;
	guint16 in =
		header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID
			? FAKE_DESC_WRITE
			: 0;
	guint32 len = header.type >= VIRTIO_BLK_T_DISCARD
			      ? 16
			      : 512u * (1 + fuzz_u8(input) % 64);

	if (queue->size < 16)
		return;
	memcpy(fake_at(driver->fake, SCRATCH, 16), &header, 16);
	fake_queue_set_desc(queue, head, SCRATCH, 16, FAKE_DESC_NEXT,
			    (guint16)((head + 1) % 16));
	fake_queue_set_desc(queue, (head + 1) % 16, SCRATCH + 16, len,
			    in | FAKE_DESC_NEXT, (guint16)((head + 2) % 16));
	fake_queue_set_desc(queue, (head + 2) % 16, SCRATCH - 16, 1, FAKE_DESC_WRITE,
			    0);
	fake_queue_offer(queue, (guint16)head);
	if (kind & 0x40)
		fake_mmio_write(driver->fake, driver->notify, 0, 2);
	if (kind & 0x80)
		fake_run(driver->fake);
}

static void step(void *data, struct fuzz_input *input)
{
	struct slow *slow = data;
	guint8 op = fuzz_u8(input);

	switch (op & 7) {
	case 0:
	case 1:
		good_request(slow, input);
		break;
	case 2:
	case 3:
		for (guint n = 1 + (op >> 6); n && slow->waiting->len; n--)
			complete(slow, fuzz_u8(input), op & 8 ? -EIO : 0);
		slow->disk.batch_done(slow->disk.user);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	guint8 kind = fuzz_u8(&input);
	struct fake_platform *fake = fake_platform_new(FUZZ_MEMORY);
	vmm_pci *pci = vmm_pci_new(&fake->platform);
	struct slow *slow = g_new0(struct slow, 1);
	struct fake_driver driver;
	vmm_block *block;

	fuzz_quiet();
	slow->waiting = g_ptr_array_new();
	slow->driver = &driver;
	slow->disk = (struct vmm_disk){
		.data = slow,
		.size = DISK_BYTES,
		.readonly = kind & 1,
		.block_size = kind & 2 ? 4096 : 512,
		.can_discard = TRUE,
		.can_zero = TRUE,
		.submit = slow_submit,
		.flush_submissions = slow_flush_submissions,
		.forget = slow_forget,
		.free = slow_free,
	};
	block = vmm_block_new_take(pci, &fake->platform, 0, "fuzz", &slow->disk, NULL);
	g_assert(block && fake_driver_find(&driver, fake, VIRTIO_ID_BLOCK, 0));
	/* Without FLUSH, writes go through. */
	fake_driver_start(&driver, kind & 4 ? ~(1ull << VIRTIO_BLK_F_FLUSH) : ~0ull,
			  16);
	fuzz_virtio(&input, &driver, vmm_block_virtio(block), step, slow);
	vmm_block_free(block);
	vmm_pci_free(pci);
	fake_platform_free(fake);
	return 0;
}
