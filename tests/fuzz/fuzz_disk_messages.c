/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the peer says of disks. To a secondary: writes, and a first sync's digests and data,
 * right and wrong ones, over a disk that completes when the input says so. What was taken is
 * on the disk in the end, in the order in which it was committed, and nothing else is; what was
 * refused changed nothing. To a primary: answers to a first sync's questions.
 */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/disk_sync.h"
#include "checkpoint/disk_twin.h"
#include "tests/fuzz/harness.h"

#define BYTES (128u << 10) /* one piece, of two blocks */
#define BLOCK 4096u
#define HELD 64u

static const guint8 secret[CKPT_SECRET] = { 1, 2, 3 };

/* A disk that takes its time. */
struct slow {
	struct vmm_disk disk;
	guint8 *bytes;
	GPtrArray *waiting;
};

static void slow_submit(void *data, struct vmm_disk_request *request)
{
	struct slow *slow = data;

	g_assert(request->op == VMM_DISK_FLUSH ||
		 (request->len && request->len <= BYTES &&
		  request->offset <= BYTES - request->len &&
		  (request->offset | request->len) % BLOCK == 0));
	g_ptr_array_add(slow->waiting, request);
}

static void slow_flush(void *data)
{
}

static void carry_out(guint8 *bytes, const struct vmm_disk_request *request)
{
	if (request->op == VMM_DISK_READ)
		memcpy(request->buffer, bytes + request->offset, request->len);
	else if (request->op == VMM_DISK_WRITE)
		memcpy(bytes + request->offset, request->buffer, request->len);
	else if (request->op != VMM_DISK_FLUSH)
		memset(bytes + request->offset, 0, request->len);
}

static void slow_forget(void *data, struct vmm_disk_request *request)
{
	struct slow *slow = data;

	g_assert(g_ptr_array_remove(slow->waiting, request));
	free(request->buffer);
	g_free(request);
}

static void slow_free(void *data)
{
}

static void complete(struct slow *slow, guint index)
{
	struct vmm_disk_request *request = g_ptr_array_steal_index(slow->waiting, index);

	carry_out(slow->bytes, request);
	request->done(request, 0);
	if (slow->disk.batch_done)
		slow->disk.batch_done(slow->disk.user);
}

static void slow_init(struct slow *slow)
{
	slow->bytes = g_malloc0(BYTES);
	slow->waiting = g_ptr_array_new();
	slow->disk = (struct vmm_disk){ .data = slow,
					.size = BYTES,
					.block_size = BLOCK,
					.can_discard = TRUE,
					.can_zero = TRUE,
					.submit = slow_submit,
					.flush_submissions = slow_flush,
					.forget = slow_forget,
					.free = slow_free };
}

static void slow_clear(struct slow *slow)
{
	g_assert(!slow->waiting->len);
	g_ptr_array_unref(slow->waiting);
	g_free(slow->bytes);
}

static void settle(struct slow *slow, vmm_loop *loop)
{
	do {
		while (slow->waiting->len)
			complete(slow, 0);
		while (vmm_loop_iterate(loop, 0))
			;
	} while (slow->waiting->len);
}

static void iterate(struct slow *slow, vmm_loop *loop, guint8 which)
{
	if (slow->waiting->len)
		complete(slow, which % slow->waiting->len);
	while (vmm_loop_iterate(loop, 0))
		;
}

/* The secondary. */

struct held {
	guint64 offset, length;
	gboolean zero;
	guint8 fill;
};

struct second {
	struct slow slow;
	vmm_loop *loop;
	ckpt_disk_twins *twins;
	struct vmm_disk *disk;
	ckpt_disk_sync_in *sync;
	guint8 *model; /* the disk, when all is done */
	struct held held[HELD];
	guint64 number, committed;
	guint asked, answered; /* digests of pieces */
};

static void apply(guint8 *model, const struct held *held)
{
	memset(model + held->offset, held->zero ? 0 : held->fill, held->length);
}

static void commit(struct second *second, guint64 number)
{
	gboolean may = ckpt_disk_twins_may_commit(second->twins, number);

	g_assert(may == (number >= second->committed && number <= second->number));
	if (!may)
		return;
	ckpt_disk_twins_commit(second->twins, number);
	for (; second->committed < number; second->committed++)
		apply(second->model, &second->held[(second->committed + 1) % HELD]);
}

/* Mostly what fits. */
static void place(struct fuzz_input *input, guint8 odd, guint64 *offset, guint64 *length)
{
	*offset = fuzz_u8(input) % (BYTES / BLOCK) * BLOCK;
	*length = MIN((fuzz_u8(input) % 4 + 1) * (guint64)BLOCK, BYTES - *offset);
	if (odd == 0xff)
		*offset = fuzz_u64(input);
	if (odd == 0xfe)
		*length = fuzz_u64(input);
}

static void hold(struct second *second, struct fuzz_input *input)
{
	static const guint8 ops[] = { VMM_DISK_WRITE, VMM_DISK_DISCARD, VMM_DISK_ZEROES };
	struct ckpt_disk_head head = { .number = wire_put64(second->number + 1) };
	guint8 odd = fuzz_u8(input);
	struct held held;
	g_autofree guint8 *data = NULL;
	const char *why = NULL;
	gsize len;

	if (second->number - second->committed >= HELD - 1)
		return;
	place(input, odd, &held.offset, &held.length);
	head.op = ops[odd % 3];
	held.zero = head.op != VMM_DISK_WRITE;
	held.fill = fuzz_u8(input);
	head.offset = wire_put64(held.offset);
	head.length = wire_put64(held.length);
	len = held.zero ? 0 : MIN(held.length, BYTES);
	if (odd == 0xfd)
		len = fuzz_u16(input);
	if (odd == 0xfc)
		((guint8 *)&head)[fuzz_u8(input) % 16] ^= fuzz_u8(input);
	data = g_malloc(len + 1);
	memset(data, held.fill, len);
	if (!ckpt_disk_twins_hold(second->twins, &head, data, len, &why)) {
		g_assert(why);
		return;
	}
	g_assert(!why && head.disk == 0 && wire_get64(head.number) == second->number + 1);
	g_assert(held.offset <= BYTES && held.length <= BYTES - held.offset);
	held.zero = head.op != VMM_DISK_WRITE;
	second->held[++second->number % HELD] = held;
	if (second->sync)
		commit(second, second->number);
}

static void on_differ(void *data, const struct ckpt_sync_head *head, const void *payload,
		      gsize len)
{
	struct second *second = data;

	g_assert(head->kind == CKPT_SYNC_DIFFER && wire_get64(head->offset) == 0 &&
		 wire_get32(head->length) == BYTES && !len);
	g_assert(wire_get16(head->blocks) < 1u << (BYTES / CKPT_SYNC_BLOCK));
	g_assert(++second->answered <= second->asked);
}

static void on_failed(void *data, int error)
{
	g_assert_not_reached();
}

static void sync_message(struct second *second, struct fuzz_input *input)
{
	guint8 odd = fuzz_u8(input), fill = fuzz_u8(input);
	struct ckpt_sync_head head = { .kind = odd % 4 + 1 };
	guint64 offset = 0, length = BYTES;
	g_autofree guint8 *data = g_malloc(BYTES);
	const char *why = NULL;
	gsize len;

	if (!second->sync)
		return;
	memset(data, fill, BYTES);
	if (head.kind != CKPT_SYNC_DIGESTS || odd > 0xf0)
		place(input, odd, &offset, &length);
	len = head.kind == CKPT_SYNC_DIGESTS ?
		      BYTES / CKPT_SYNC_BLOCK * sizeof(struct ckpt_sync_digest) :
	      head.kind == CKPT_SYNC_DATA ? MIN(length, BYTES) : 0;
	if (odd == 0xfc)
		len = fuzz_u16(input);
	head.offset = wire_put64(offset);
	head.length = wire_put32((guint32)length);
	head.disk = odd == 0xfb;
	head.blocks = wire_put16(odd == 0xfa);
	if (!ckpt_disk_sync_in_take(second->sync, &head, data, len, &why)) {
		g_assert(why);
		return;
	}
	g_assert(head.kind != CKPT_SYNC_DIFFER && !head.disk);
	length = wire_get32(head.length);
	if (head.kind == CKPT_SYNC_DIGESTS) {
		second->asked++;
		return;
	}
	g_assert(length <= CKPT_SYNC_BLOCK && offset <= BYTES - length);
	memset(second->model + offset, head.kind == CKPT_SYNC_DATA ? fill : 0, length);
}

static void end_sync(struct second *second)
{
	settle(&second->slow, second->loop);
	g_clear_pointer(&second->sync, ckpt_disk_sync_in_free);
}

static void fuzz_second(struct fuzz_input *input)
{
	const struct ckpt_disk_twin_hooks hooks = { NULL };
	const struct ckpt_disk_twin_limits limits = { 1 << 18, 1 << 18, 1 << 18, 1 << 18 };
	struct second second = { .loop = vmm_loop_new(NULL), .model = g_malloc0(BYTES) };
	const struct ckpt_sync_hooks sync = { &second, on_differ, on_failed, NULL };

	slow_init(&second.slow);
	second.twins = ckpt_disk_twins_new(second.loop, &hooks, &limits);
	second.disk = ckpt_disk_twin_new_take(&second.slow.disk, 0, second.twins);
	second.sync = ckpt_disk_sync_in_new(ckpt_disk_twin_base(second.twins, 0), 0, secret,
					    &sync);
	while (input->left) {
		guint8 op = fuzz_u8(input);

		if (op < 0x60)
			hold(&second, input);
		else if (op < 0x90)
			sync_message(&second, input);
		else if (op < 0xd0)
			iterate(&second.slow, second.loop, op);
		else if (op < 0xf0 && !second.sync)
			commit(&second, second.committed + op % 8);
		else if (op >= 0xfc)
			end_sync(&second);
	}
	end_sync(&second);
	ckpt_disk_twins_drop_held(second.twins);
	settle(&second.slow, second.loop);
	g_assert(!memcmp(second.slow.bytes, second.model, BYTES));
	second.disk->free(second.disk->data);
	ckpt_disk_twins_free(second.twins);
	slow_clear(&second.slow);
	vmm_loop_free(second.loop);
	g_free(second.model);
}

/* The primary. */

struct first {
	guint asked; /* pieces */
	guint64 data; /* bytes sent */
};

static void on_sync_message(void *data, const struct ckpt_sync_head *head,
			    const void *payload, gsize len)
{
	struct first *first = data;
	guint64 offset = wire_get64(head->offset), length = wire_get32(head->length);

	g_assert(length && offset <= BYTES && length <= BYTES - offset);
	if (head->kind == CKPT_SYNC_DIGESTS) {
		first->asked++;
		return;
	}
	g_assert(first->asked && length <= CKPT_SYNC_BLOCK);
	first->data += length;
	g_assert(first->data <= BYTES);
}

static void on_write(void *data, const struct ckpt_disk_head *head, const void *bytes)
{
}

static void on_progress(void *data)
{
}

static void fuzz_first(struct fuzz_input *input)
{
	struct first first = { 0 };
	const struct ckpt_sync_hooks hooks = { &first, on_sync_message, on_failed,
					       on_progress };
	ckpt_disk_out *out = ckpt_disk_out_new(on_write, NULL);
	vmm_loop *loop = vmm_loop_new(NULL);
	struct slow slow;
	struct vmm_disk *disk;
	ckpt_disk_sync_out *sync;

	slow_init(&slow);
	memset(slow.bytes + BYTES / 2, 7, BYTES / 4);
	disk = ckpt_disk_out_new_take(&slow.disk, 0, out);
	ckpt_disk_out_forward(out, TRUE);
	sync = ckpt_disk_sync_out_new(out, 0, secret, &hooks);
	while (input->left) {
		guint8 op = fuzz_u8(input), odd;
		struct ckpt_sync_head head = { .kind = CKPT_SYNC_DIFFER,
					       .length = wire_put32(BYTES) };
		const char *why = NULL;

		if (op < 0x40) {
			if (!ckpt_disk_sync_out_step(sync))
				continue;
		} else if (op < 0x80) {
			iterate(&slow, loop, op);
		} else {
			odd = fuzz_u8(input);
			head.blocks = wire_put16(fuzz_u8(input) & 3);
			if (odd > 0xe0)
				((guint8 *)&head)[odd % sizeof(head)] ^= fuzz_u8(input);
			if (!ckpt_disk_sync_out_take(sync, &head, odd == 0xe0, &why))
				g_assert(why);
			else
				g_assert(first.asked == 1);
		}
	}
	settle(&slow, loop);
	ckpt_disk_sync_out_free(sync);
	ckpt_disk_out_forward(out, FALSE);
	disk->free(disk->data);
	ckpt_disk_out_free(out);
	slow_clear(&slow);
	vmm_loop_free(loop);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };

	if (fuzz_u8(&input) & 1)
		fuzz_first(&input);
	else
		fuzz_second(&input);
	return 0;
}
