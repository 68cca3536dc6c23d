/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first sync of a disk, between two disks that are slow and out of order. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/disk_out.h"
#include "checkpoint/disk_sync.h"
#include "checkpoint/disk_twin.h"
#include "tests/unit/fake_disk.h"

/* Two whole pieces, then one that ends in a short block. */
#define DISK_BYTES ((2u << 20) + (64u << 10) + 512u)
#define SECTORS (DISK_BYTES / VMM_SECTOR)
#define PLENTY (256u << 20)

/* On its way: a forwarded write if `is_write`. */
struct message {
	gboolean is_write;
	struct ckpt_disk_head write;
	struct ckpt_sync_head head;
	guint8 *payload;
	gsize len;
};

struct bed {
	vmm_loop *loop;
	struct fake_disk real[2]; /* the primary's, the secondary's */
	ckpt_disk_out *out;
	struct vmm_disk *disk; /* the primary's guest's */
	ckpt_disk_twins *twins;
	struct vmm_disk *twin;
	ckpt_disk_sync_out *sync_out;
	ckpt_disk_sync_in *sync_in;
	GQueue to_secondary, to_primary; /* struct message */
	guint sent[CKPT_SYNC_ZEROES + 1]; /* by kind */
	guint failures, twin_failures, progress;
	enum vmm_disk_op twin_failed_op;
	int failure;
};

static void push(GQueue *queue, struct message message, const void *payload, gsize len)
{
	message.payload = g_memdup2(payload, len);
	message.len = len;
	g_queue_push_tail(queue, g_memdup2(&message, sizeof(message)));
}

static void on_write(void *data, const struct ckpt_disk_head *head, const void *bytes)
{
	struct bed *bed = data;

	push(&bed->to_secondary, (struct message){ .is_write = TRUE, .write = *head },
	     bytes, bytes ? wire_get64(head->length) : 0);
}

static void on_out(void *data, const struct ckpt_sync_head *head, const void *payload,
		   gsize len)
{
	struct bed *bed = data;

	bed->sent[head->kind]++;
	push(&bed->to_secondary, (struct message){ .head = *head }, payload, len);
}

static void on_in(void *data, const struct ckpt_sync_head *head, const void *payload,
		  gsize len)
{
	struct bed *bed = data;

	bed->sent[head->kind]++;
	push(&bed->to_primary, (struct message){ .head = *head }, payload, len);
}

static void on_failed(void *data, int error)
{
	struct bed *bed = data;

	bed->failures++;
	bed->failure = error;
}

static void on_progress(void *data)
{
	((struct bed *)data)->progress++;
}

static void on_need(void *data)
{
}

static void on_twin_failed(void *data, guint index, enum vmm_disk_op op, int error)
{
	struct bed *bed = data;

	bed->twin_failures++;
	bed->twin_failed_op = op;
}

static struct bed *bed_new_with(gboolean readonly, gboolean can_zero)
{
	static const struct ckpt_disk_twin_limits limits = { PLENTY, PLENTY, PLENTY,
							     PLENTY };
	static const guint8 secret[CKPT_SECRET] = { 1, 2, 3 };
	struct bed *bed = g_new0(struct bed, 1);
	struct ckpt_disk_twin_hooks twin_hooks = { bed, on_need, on_twin_failed };
	struct ckpt_sync_hooks out_hooks = { bed, on_out, on_failed, on_progress };
	struct ckpt_sync_hooks in_hooks = { bed, on_in, on_failed };

	bed->loop = vmm_loop_new(NULL);
	for (guint i = 0; i < 2; i++) {
		fake_disk_init(&bed->real[i], DISK_BYTES, readonly);
		bed->real[i].disk.can_zero = can_zero;
	}
	bed->out = ckpt_disk_out_new(on_write, bed);
	bed->disk = ckpt_disk_out_new_take(&bed->real[0].disk, 0, bed->out);
	bed->twins = ckpt_disk_twins_new(bed->loop, &twin_hooks, &limits);
	bed->twin = ckpt_disk_twin_new_take(&bed->real[1].disk, 0, bed->twins);
	bed->sync_out = ckpt_disk_sync_out_new(bed->out, 0, secret, &out_hooks);
	bed->sync_in = ckpt_disk_sync_in_new(ckpt_disk_twin_base(bed->twins, 0), 0,
					     secret, &in_hooks);
	return bed;
}

static struct bed *bed_new(void)
{
	return bed_new_with(FALSE, TRUE);
}

static void free_message(void *data)
{
	struct message *message = data;

	g_free(message->payload);
	g_free(message);
}

static void bed_free(struct bed *bed)
{
	ckpt_disk_sync_out_free(bed->sync_out);
	ckpt_disk_sync_in_free(bed->sync_in);
	bed->disk->free(bed->disk->data);
	bed->twin->free(bed->twin->data);
	for (guint i = 0; i < 2; i++)
		fake_disk_clear(&bed->real[i]);
	ckpt_disk_out_free(bed->out);
	ckpt_disk_twins_free(bed->twins);
	vmm_loop_free(bed->loop);
	g_queue_clear_full(&bed->to_secondary, free_message);
	g_queue_clear_full(&bed->to_primary, free_message);
	g_free(bed);
}

static void deliver_to_secondary(struct bed *bed)
{
	struct message *message = g_queue_pop_head(&bed->to_secondary);
	const char *why = NULL;

	if (!message)
		return;
	if (message->is_write) {
		assert_true(ckpt_disk_twins_hold(bed->twins, &message->write,
						 message->payload, message->len, &why));
		ckpt_disk_twins_commit(bed->twins, wire_get64(message->write.number));
	} else {
		assert_true(ckpt_disk_sync_in_take(bed->sync_in, &message->head,
						   message->payload, message->len,
						   &why));
	}
	free_message(message);
}

static void deliver_to_primary(struct bed *bed)
{
	struct message *message = g_queue_pop_head(&bed->to_primary);
	const char *why = NULL;

	if (!message)
		return;
	assert_true(ckpt_disk_sync_out_take(bed->sync_out, &message->head, message->len,
					    &why));
	free_message(message);
}

static gboolean is_busy(const struct bed *bed)
{
	return bed->to_primary.length || bed->to_secondary.length ||
	       bed->real[0].waiting->len || bed->real[1].waiting->len;
}

/* Until nothing is left to do. */
static void settle(struct bed *bed)
{
	do {
		while (ckpt_disk_sync_out_step(bed->sync_out))
			;
		fake_disk_complete_all(&bed->real[0]);
		fake_disk_complete_all(&bed->real[1]);
		while (vmm_loop_iterate(bed->loop, 0))
			;
		deliver_to_secondary(bed);
		deliver_to_primary(bed);
	} while (is_busy(bed));
}

static struct fake_request *write_out(struct bed *bed, guint64 offset, guint64 len,
				      guint8 fill)
{
	struct fake_request *request = fake_request_new(VMM_DISK_WRITE, offset, len);

	memset(request->request.buffer, fill, len);
	bed->disk->submit(bed->disk->data, &request->request);
	bed->disk->flush_submissions(bed->disk->data);
	return request;
}

static void what_is_equal_is_not_sent(void **unused)
{
	struct bed *bed = bed_new();
	struct ckpt_disk_sync_counters counters;

	memset(bed->real[0].bytes, 'a', DISK_BYTES);
	memset(bed->real[1].bytes, 'a', DISK_BYTES);
	ckpt_disk_out_forward(bed->out, TRUE);
	assert_false(ckpt_disk_sync_out_is_complete(bed->sync_out));
	settle(bed);
	assert_true(ckpt_disk_sync_out_is_complete(bed->sync_out));
	assert_int_equal(bed->sent[CKPT_SYNC_DIGESTS], 3);
	assert_int_equal(bed->sent[CKPT_SYNC_DATA] + bed->sent[CKPT_SYNC_ZEROES], 0);
	assert_int_equal(bed->progress, 3);
	ckpt_disk_sync_out_get_counters(bed->sync_out, &counters);
	assert_int_equal(counters.equal, DISK_BYTES);
	assert_int_equal(counters.done, counters.total);
	bed_free(bed);
}

static void what_differs_is_sent_block_by_block(void **unused)
{
	struct bed *bed = bed_new();
	struct ckpt_disk_sync_counters counters;

	memset(bed->real[0].bytes, 'a', DISK_BYTES);
	memset(bed->real[1].bytes, 'a', DISK_BYTES);
	bed->real[1].bytes[CKPT_SYNC_PIECE + 3 * CKPT_SYNC_BLOCK + 5] = 'b';
	bed->real[1].bytes[DISK_BYTES - 1] = 'b';
	/* One that is zero. */
	memset(bed->real[0].bytes, 0, CKPT_SYNC_BLOCK);
	ckpt_disk_out_forward(bed->out, TRUE);
	settle(bed);
	assert_memory_equal(bed->real[0].bytes, bed->real[1].bytes, DISK_BYTES);
	assert_int_equal(bed->sent[CKPT_SYNC_DATA], 2);
	assert_int_equal(bed->sent[CKPT_SYNC_ZEROES], 1);
	ckpt_disk_sync_out_get_counters(bed->sync_out, &counters);
	assert_int_equal(counters.data, CKPT_SYNC_BLOCK + 512);
	assert_int_equal(counters.zeroes, CKPT_SYNC_BLOCK);
	assert_int_equal(counters.equal + counters.data + counters.zeroes, DISK_BYTES);
	bed_free(bed);
}

static void zeroes_are_data_for_a_disk_that_cannot_zero(void **unused)
{
	struct bed *bed = bed_new_with(FALSE, FALSE);

	memset(bed->real[1].bytes, 'a', DISK_BYTES);
	ckpt_disk_out_forward(bed->out, TRUE);
	settle(bed);
	assert_memory_equal(bed->real[0].bytes, bed->real[1].bytes, DISK_BYTES);
	assert_int_equal(bed->sent[CKPT_SYNC_ZEROES], 0);
	bed_free(bed);
}

static void a_read_only_disk_is_compared_and_never_written(void **unused)
{
	struct bed *bed = bed_new_with(TRUE, FALSE);
	const struct ckpt_sync_head data = { .kind = CKPT_SYNC_DATA,
					     .length = wire_put32(512) };
	static const guint8 payload[512];
	const char *why = NULL;
	guint64 at;

	memset(bed->real[0].bytes, 'a', DISK_BYTES);
	memset(bed->real[1].bytes, 'a', DISK_BYTES);
	bed->real[1].bytes[CKPT_SYNC_PIECE + 3 * CKPT_SYNC_BLOCK + 5] = 'b';
	bed->real[1].bytes[DISK_BYTES - 1] = 'b';
	settle(bed);
	assert_true(ckpt_disk_sync_out_differs(bed->sync_out, &at));
	assert_int_equal(at, CKPT_SYNC_PIECE + 3 * CKPT_SYNC_BLOCK);
	assert_int_equal(bed->sent[CKPT_SYNC_DATA] + bed->real[1].writes, 0);
	assert_false(ckpt_disk_sync_in_take(bed->sync_in, &data, payload, 512, &why));
	assert_non_null(why);
	bed_free(bed);

	bed = bed_new_with(TRUE, FALSE);
	settle(bed);
	assert_true(ckpt_disk_sync_out_is_complete(bed->sync_out));
	assert_false(ckpt_disk_sync_out_differs(bed->sync_out, &at));
	bed_free(bed);
}

static void a_write_during_the_sync_wins(void **unused)
{
	struct bed *bed = bed_new();
	struct fake_request *before, *during, *after;
	struct ckpt_disk_sync_counters counters;

	memset(bed->real[0].bytes, 'a', DISK_BYTES);
	/* In flight when the read is submitted, and later at the disk than the read. */
	before = write_out(bed, 0, 512, '1');
	ckpt_disk_out_forward(bed->out, TRUE);
	assert_true(ckpt_disk_sync_out_step(bed->sync_out));
	during = write_out(bed, 512, 512, '2');
	fake_disk_complete(&bed->real[0], 1);
	after = write_out(bed, 1024, 512, '3');
	settle(bed);
	assert_memory_equal(bed->real[0].bytes, bed->real[1].bytes, DISK_BYTES);
	assert_int_equal(bed->real[1].bytes[0], '1');
	assert_int_equal(bed->real[1].bytes[512], '2');
	assert_int_equal(bed->real[1].bytes[1024], '3');
	ckpt_disk_sync_out_get_counters(bed->sync_out, &counters);
	assert_int_equal(counters.overtaken, 1536);
	fake_request_free(before);
	fake_request_free(during);
	fake_request_free(after);
	bed_free(bed);
}

static void an_answer_to_nothing_is_refused(void **unused)
{
	struct bed *bed = bed_new();
	struct ckpt_sync_head head = {
		.kind = CKPT_SYNC_DIFFER,
		.length = wire_put32(CKPT_SYNC_PIECE),
	};
	const char *why = NULL;

	ckpt_disk_out_forward(bed->out, TRUE);
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	assert_non_null(why);
	assert_true(ckpt_disk_sync_out_step(bed->sync_out));
	/* Not read yet, so nothing was sent. */
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	while (ckpt_disk_sync_out_step(bed->sync_out))
		;
	fake_disk_complete_all(&bed->real[0]);
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 1, &why));
	head.kind = CKPT_SYNC_DATA;
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	head.kind = CKPT_SYNC_DIFFER;
	head.disk = 1;
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	head.disk = 0;
	head.offset = wire_put64(2 * CKPT_SYNC_PIECE);
	head.length = wire_put32(CKPT_SYNC_BLOCK + 512);
	head.blocks = wire_put16(4);
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	head.blocks = wire_put16(3);
	assert_true(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	/* Once. */
	assert_false(ckpt_disk_sync_out_take(bed->sync_out, &head, 0, &why));
	g_queue_clear_full(&bed->to_secondary, free_message);
	bed_free(bed);
}

static void a_piece_that_cannot_be_is_refused(void **unused)
{
	struct bed *bed = bed_new();
	static const guint8 payload[CKPT_SYNC_PIECE];
	const struct ckpt_sync_head data = { .kind = CKPT_SYNC_DATA,
					     .length = wire_put32(1024),
					     .offset = wire_put64(512) };
	const struct ckpt_sync_head digests = { .kind = CKPT_SYNC_DIGESTS,
						.length = wire_put32(CKPT_SYNC_PIECE) };
	struct ckpt_sync_head head;
	const char *why;

#define BAD(good, field, value, len)                                                   \
	do {                                                                           \
		head = good;                                                           \
		head.field = value;                                                    \
		why = NULL;                                                            \
		assert_false(ckpt_disk_sync_in_take(bed->sync_in, &head, payload, len, \
						    &why));                            \
		assert_non_null(why);                                                  \
	} while (0)
	BAD(data, kind, 0, 1024);
	BAD(data, kind, CKPT_SYNC_DIFFER, 1024);
	BAD(data, kind, 99, 1024);
	BAD(data, kind, CKPT_SYNC_ZEROES, 1024);
	BAD(data, disk, 1, 1024);
	BAD(data, blocks, wire_put16(1), 1024);
	BAD(data, length, wire_put32(0), 0);
	BAD(data, length, wire_put32(1000), 1000);
	BAD(data, length, wire_put32(2048), 1024);
	BAD(data, length, wire_put32(CKPT_SYNC_BLOCK + 512), CKPT_SYNC_BLOCK + 512);
	BAD(data, offset, wire_put64(DISK_BYTES - 512), 1024);
	BAD(data, offset, wire_put64(~0ull - 511), 1024);
	BAD(data, offset, wire_put64(1), 1024);
	BAD(digests, offset, wire_put64(512), 256);
	BAD(digests, offset, wire_put64(2 * CKPT_SYNC_PIECE), 256);
	BAD(digests, length, wire_put32(CKPT_SYNC_PIECE - 512), 256);
	BAD(digests, disk, 0, 240);
	BAD(digests, disk, 0, 272);
#undef BAD
	for (guint i = 0; i < CKPT_SYNC_WINDOW; i++)
		assert_true(ckpt_disk_sync_in_take(bed->sync_in, &digests, payload, 256,
						   &why));
	assert_false(
		ckpt_disk_sync_in_take(bed->sync_in, &digests, payload, 256, &why));
	bed_free(bed);
}

static void a_secondary_with_much_to_write_holds_the_primary_up(void **unused)
{
	struct bed *bed = bed_new();
	static const guint8 payload[CKPT_SYNC_BLOCK];
	const struct ckpt_sync_head data = { .kind = CKPT_SYNC_DATA,
					     .length = wire_put32(CKPT_SYNC_BLOCK) };
	const struct ckpt_sync_head digests = { .kind = CKPT_SYNC_DIGESTS,
						.length = wire_put32(CKPT_SYNC_PIECE) };
	const char *why;
	guint n = 0;

	for (; n < 128; n++)
		assert_true(ckpt_disk_sync_in_take(bed->sync_in, &data, payload,
						   CKPT_SYNC_BLOCK, &why));
	assert_true(ckpt_disk_sync_in_take(bed->sync_in, &digests, payload, 256, &why));
	/* The read's turn has not come. */
	for (guint i = 0; i < bed->real[1].waiting->len; i++) {
		const struct vmm_disk_request *request =
			g_ptr_array_index(bed->real[1].waiting, i);

		assert_int_equal(request->op, VMM_DISK_WRITE);
	}
	while (ckpt_disk_sync_in_take(bed->sync_in, &data, payload, CKPT_SYNC_BLOCK,
				      &why))
		n++;
	assert_int_equal(n, 512);
	do {
		fake_disk_complete_all(&bed->real[1]);
		while (vmm_loop_iterate(bed->loop, 0))
			;
	} while (bed->real[1].waiting->len);
	assert_int_equal(bed->sent[CKPT_SYNC_DIFFER], 1);
	bed_free(bed);
}

static void a_disk_that_fails_ends_the_sync(void **unused)
{
	struct bed *bed = bed_new();

	ckpt_disk_out_forward(bed->out, TRUE);
	bed->real[0].result = -EIO;
	settle(bed);
	assert_int_equal(bed->failures, 1);
	assert_int_equal(bed->failure, -EIO);
	assert_false(ckpt_disk_sync_out_step(bed->sync_out));
	bed_free(bed);
	bed = bed_new();
	ckpt_disk_out_forward(bed->out, TRUE);
	bed->real[1].result = -EIO;
	settle(bed);
	assert_int_equal(bed->failures, 1);
	/* So that it is not filled again at once. */
	assert_int_equal(bed->twin_failures, 1);
	assert_int_equal(bed->twin_failed_op, VMM_DISK_READ);
	bed_free(bed);
}

static void a_sync_is_freed_with_work_under_way(void **unused)
{
	struct bed *bed = bed_new();

	memset(bed->real[0].bytes, 'a', DISK_BYTES);
	ckpt_disk_out_forward(bed->out, TRUE);
	ckpt_disk_sync_out_step(bed->sync_out);
	ckpt_disk_sync_out_step(bed->sync_out);
	fake_disk_complete(&bed->real[0], 0);
	deliver_to_secondary(bed);
	fake_disk_complete_all(&bed->real[1]);
	deliver_to_primary(bed);
	deliver_to_secondary(bed);
	ckpt_disk_sync_out_step(bed->sync_out);
	bed_free(bed);
}

/* The random test: at the end the two disks are equal. */

#define OPS_MAX 8u

struct model {
	struct bed *bed;
	GRand *rand;
	struct fake_request *ops[OPS_MAX];
	gboolean is_done[OPS_MAX];
};

static void reap(struct model *model)
{
	for (guint i = 0; i < OPS_MAX; i++)
		if (model->ops[i] && model->is_done[i])
			g_clear_pointer(&model->ops[i], fake_request_free);
}

/* Writes in a few hot places, none that overlaps another in flight. */
static void write_random(struct model *model)
{
	guint from = (guint)g_rand_int_range(model->rand, 0, 40) * (SECTORS / 40) +
		     (guint)g_rand_int_range(model->rand, 0, 8);
	guint n = (guint)g_rand_int_range(
		model->rand, 1, g_rand_int_range(model->rand, 0, 8) ? 24 : 1000);
	guint slot = (guint)g_rand_int_range(model->rand, 0, OPS_MAX);
	gboolean has_data = g_rand_int_range(model->rand, 0, 5) != 0;
	struct vmm_disk *disk = model->bed->disk;
	struct vmm_disk_request *request;

	n = MIN(n, SECTORS - from);
	if (model->ops[slot])
		return;
	for (guint i = 0; i < OPS_MAX; i++) {
		request = model->ops[i] ? &model->ops[i]->request : NULL;
		if (request && request->offset < (guint64)(from + n) * VMM_SECTOR &&
		    (guint64)from * VMM_SECTOR < request->offset + request->len)
			return;
	}
	model->ops[slot] =
		fake_request_new(has_data ? VMM_DISK_WRITE : VMM_DISK_ZEROES,
				 (guint64)from * VMM_SECTOR, (guint64)n * VMM_SECTOR);
	request = &model->ops[slot]->request;
	model->is_done[slot] = FALSE;
	model->ops[slot]->is_done = &model->is_done[slot];
	if (has_data)
		memset(request->buffer, g_rand_int_range(model->rand, 0, 4),
		       request->len);
	disk->submit(disk->data, request);
	disk->flush_submissions(disk->data);
}

static void reset_device(struct model *model)
{
	for (guint i = 0; i < OPS_MAX; i++)
		if (model->ops[i] && !model->is_done[i]) {
			model->bed->disk->forget(model->bed->disk->data,
						 &model->ops[i]->request);
			model->ops[i] = NULL;
		}
}

static void step(struct model *model)
{
	struct bed *bed = model->bed;
	gint32 dice = g_rand_int_range(model->rand, 0, 1000);
	struct fake_disk *fake = &bed->real[dice & 1];

	if (dice < 250)
		write_random(model);
	else if (dice < 500 && fake->waiting->len)
		fake_disk_complete(fake,
				   (guint)g_rand_int_range(model->rand, 0,
							   (gint32)fake->waiting->len));
	else if (dice < 650)
		vmm_loop_iterate(bed->loop, 0);
	else if (dice < 800)
		deliver_to_secondary(bed);
	else if (dice < 900)
		deliver_to_primary(bed);
	else if (dice < 950)
		ckpt_disk_sync_out_step(bed->sync_out);
	else if (dice == 999)
		reset_device(model);
	reap(model);
}

static void fill_random(struct model *model)
{
	for (guint64 at = 0; at < DISK_BYTES; at += 16384) {
		guint64 len = MIN(16384, DISK_BYTES - at);

		for (guint i = 0; i < 2; i++)
			memset(model->bed->real[i].bytes + at,
			       g_rand_int_range(model->rand, 0, 8)
				       ? (int)(at >> 17 & 3)
				       : g_rand_int_range(model->rand, 0, 4),
			       len);
	}
}

static void run_model(guint32 seed)
{
	struct model *model = g_new0(struct model, 1);
	guint steps = 0, before;

	model->rand = g_rand_new_with_seed(seed);
	model->bed = bed_new();
	fill_random(model);
	for (guint i = 0; i < 2; i++)
		model->bed->real[i].rand = model->rand;
	for (before = (guint)g_rand_int_range(model->rand, 0, 20); before; before--)
		write_random(model);
	ckpt_disk_out_forward(model->bed->out, TRUE);
	while (!ckpt_disk_sync_out_is_complete(model->bed->sync_out) || steps < 500) {
		step(model);
		steps++;
	}
	settle(model->bed);
	reap(model);
	for (guint i = 0; i < OPS_MAX; i++)
		assert_null(model->ops[i]);
	for (guint64 at = 0; at < DISK_BYTES; at += VMM_SECTOR)
		if (memcmp(model->bed->real[0].bytes + at,
			   model->bed->real[1].bytes + at, VMM_SECTOR) != 0)
			fail_msg("seed %u: sector %u differs", seed,
				 (guint)(at / VMM_SECTOR));
	bed_free(model->bed);
	g_rand_free(model->rand);
	g_free(model);
}

static void in_the_end_both_disks_are_equal(void **unused)
{
	guint32 first = g_getenv("SEED") ? (guint32)atoi(g_getenv("SEED")) : 1;
	guint32 n = g_getenv("SEED") ? 1 : g_getenv("LONG") ? 2000 : 60;

	for (guint32 seed = first; seed < first + n; seed++)
		run_model(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_equal_is_not_sent),
		cmocka_unit_test(what_differs_is_sent_block_by_block),
		cmocka_unit_test(zeroes_are_data_for_a_disk_that_cannot_zero),
		cmocka_unit_test(a_read_only_disk_is_compared_and_never_written),
		cmocka_unit_test(a_write_during_the_sync_wins),
		cmocka_unit_test(an_answer_to_nothing_is_refused),
		cmocka_unit_test(a_piece_that_cannot_be_is_refused),
		cmocka_unit_test(a_secondary_with_much_to_write_holds_the_primary_up),
		cmocka_unit_test(a_disk_that_fails_ends_the_sync),
		cmocka_unit_test(a_sync_is_freed_with_work_under_way),
		cmocka_unit_test(in_the_end_both_disks_are_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
