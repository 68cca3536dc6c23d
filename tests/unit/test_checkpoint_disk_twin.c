/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's disks, against a disk that is slow, out of order and may fail. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/disk_twin.h"
#include "tests/unit/fake_disk.h"

#define DISK_BYTES (256u << 10)
#define SECTORS (DISK_BYTES / VMM_SECTOR)
#define PLENTY (64u << 20)

struct bed {
	vmm_loop *loop;
	struct fake_disk fake[2];
	ckpt_disk_twins *twins;
	struct vmm_disk *disk[2];
	guint needs, failures;
	int failure;
	guint promoted; /* how often it was told */
	int promote_error;
	guint64 number;
};

static void on_need(void *data)
{
	((struct bed *)data)->needs++;
}

static void on_failed(void *data, guint index, enum vmm_disk_op op, int error)
{
	struct bed *bed = data;

	assert_int_equal(op, VMM_DISK_WRITE);
	bed->failures++;
	bed->failure = error;
}

static void on_promoted(void *data, int error)
{
	struct bed *bed = data;

	bed->promoted++;
	bed->promote_error = error;
}

static struct bed *bed_new(const struct ckpt_disk_twin_limits *limits, guint block_size)
{
	struct bed *bed = g_new0(struct bed, 1);
	struct ckpt_disk_twin_hooks hooks = { bed, on_need, on_failed };

	bed->loop = vmm_loop_new(NULL);
	assert_non_null(bed->loop);
	bed->twins = ckpt_disk_twins_new(bed->loop, &hooks, limits);
	for (guint i = 0; i < 2; i++) {
		fake_disk_init(&bed->fake[i], DISK_BYTES, FALSE);
		if (!i)
			fake_disk_let_read_now(&bed->fake[i]);
		bed->fake[i].disk.block_size = block_size;
		bed->disk[i] =
			ckpt_disk_twin_new_take(&bed->fake[i].disk, i, bed->twins);
	}
	return bed;
}

static struct bed *bed_with_plenty(void)
{
	static const struct ckpt_disk_twin_limits limits = { PLENTY, PLENTY, PLENTY,
							     PLENTY };

	return bed_new(&limits, VMM_SECTOR);
}

static void bed_free(struct bed *bed)
{
	struct ckpt_disk_twin_counters counters;

	for (guint i = 0; i < 2; i++) {
		bed->disk[i]->free(bed->disk[i]->data);
		fake_disk_clear(&bed->fake[i]);
	}
	ckpt_disk_twins_get_counters(bed->twins, &counters);
	assert_int_equal(counters.own_bytes, 0);
	assert_int_equal(counters.held_bytes, 0);
	assert_int_equal(counters.backlog_bytes, 0);
	ckpt_disk_twins_free(bed->twins);
	vmm_loop_free(bed->loop);
	g_free(bed);
}

static void iterate(struct bed *bed)
{
	while (vmm_loop_iterate(bed->loop, 0))
		;
}

/* Until nothing is left to do. */
static void settle(struct bed *bed)
{
	do {
		fake_disk_complete_all(&bed->fake[0]);
		fake_disk_complete_all(&bed->fake[1]);
		iterate(bed);
	} while (bed->fake[0].waiting->len || bed->fake[1].waiting->len);
}

static struct fake_request *submit_to(struct vmm_disk *disk, enum vmm_disk_op op,
				      guint64 offset, guint64 len, guint8 fill)
{
	struct fake_request *request = fake_request_new(op, offset, len);

	if (op == VMM_DISK_WRITE)
		memset(request->request.buffer, fill, len);
	disk->submit(disk->data, &request->request);
	disk->flush_submissions(disk->data);
	return request;
}

/* A request of the first disk's guest that completes without the disk; its result. */
static int do_at_once(struct bed *bed, enum vmm_disk_op op, guint64 offset, guint64 len,
		      guint8 fill)
{
	struct fake_request *request = submit_to(bed->disk[0], op, offset, len, fill);
	gboolean is_done = FALSE;
	int result = 1;

	request->is_done = &is_done;
	request->result = &result;
	iterate(bed);
	assert_true(is_done);
	fake_request_free(request);
	return result;
}

static void write_own(struct bed *bed, guint64 offset, guint64 len, guint8 fill)
{
	assert_int_equal(do_at_once(bed, VMM_DISK_WRITE, offset, len, fill), 0);
}

static struct ckpt_disk_head head_of(struct bed *bed, guint8 disk, enum vmm_disk_op op,
				     guint64 offset, guint64 len)
{
	return (struct ckpt_disk_head){
		.number = wire_put64(bed->number + 1),
		.disk = disk,
		.op = (guint8)op,
		.offset = wire_put64(offset),
		.length = wire_put64(len),
	};
}

static gboolean try_hold(struct bed *bed, guint8 disk, enum vmm_disk_op op,
			 guint64 offset, guint64 len, guint8 fill)
{
	struct ckpt_disk_head head = head_of(bed, disk, op, offset, len);
	g_autofree guint8 *data = g_malloc(len);
	const char *why = NULL;
	gboolean held;

	memset(data, fill, len);
	held = ckpt_disk_twins_hold(bed->twins, &head, data,
				    op == VMM_DISK_WRITE ? len : 0, &why);
	assert_int_equal(held, why == NULL);
	bed->number += held;
	return held;
}

static void hold(struct bed *bed, guint64 offset, guint64 len, guint8 fill)
{
	assert_true(try_hold(bed, 0, VMM_DISK_WRITE, offset, len, fill));
}

/* Reads a range, letting the disk work, and compares each sector with one byte. */
static void expect(struct bed *bed, guint64 offset, const char *fills)
{
	struct fake_request *request = submit_to(bed->disk[0], VMM_DISK_READ, offset,
						 strlen(fills) * VMM_SECTOR, 0);
	gboolean is_done = FALSE;
	int result = 1;

	request->is_done = &is_done;
	request->result = &result;
	iterate(bed);
	/* Those that are last in line are reads. */
	while (!is_done && bed->fake[0].waiting->len)
		fake_disk_complete(&bed->fake[0], bed->fake[0].waiting->len - 1);
	assert_true(is_done);
	assert_int_equal(result, 0);
	for (gsize i = 0; i < strlen(fills) * VMM_SECTOR; i++)
		assert_int_equal(request->request.buffer[i],
				 fills[i / VMM_SECTOR] == '.' ? 0
							      : fills[i / VMM_SECTOR]);
	fake_request_free(request);
}

static void the_guests_writes_stay_in_memory(void **unused)
{
	struct bed *bed = bed_with_plenty();

	write_own(bed, 1024, 1024, 'a');
	assert_int_equal(do_at_once(bed, VMM_DISK_FLUSH, 0, 0, 0), 0);
	expect(bed, 512, ".aa.");
	assert_int_equal(bed->fake[0].writes, 0);
	assert_int_equal(bed->fake[0].flushes, 0);
	bed_free(bed);
}

static void a_read_is_put_together_from_all_layers(void **unused)
{
	struct bed *bed = bed_with_plenty();

	memset(bed->fake[0].bytes, 'd', DISK_BYTES);
	hold(bed, 512, 4096, 'c');
	ckpt_disk_twins_commit(bed->twins, 1);
	assert_int_equal(bed->fake[0].waiting->len, 1);
	write_own(bed, 1024, 512, 'o');
	assert_int_equal(do_at_once(bed, VMM_DISK_ZEROES, 2048, 512, 0), 0);
	assert_int_equal(do_at_once(bed, VMM_DISK_DISCARD, 4096, 1024, 0), 0);
	write_own(bed, 4608, 1024, 'p');
	hold(bed, 0, 8192, 'h');
	expect(bed, 0, "dcoc.ccc.ppdd");
	/* The twin's two faces: without the guest's own. */
	struct fake_request *request = submit_to(ckpt_disk_twin_base(bed->twins, 0),
						 VMM_DISK_READ, 0, 2048, 0);

	fake_disk_complete(&bed->fake[0], bed->fake[0].waiting->len - 1);
	assert_int_equal(request->request.buffer[0], 'd');
	assert_int_equal(request->request.buffer[1024], 'c');
	fake_request_free(request);
	settle(bed);
	bed_free(bed);
}

/* As --verify wants it: on the disk or on its way, and nothing of the running guest. */
static void what_is_committed_can_be_read_at_once(void **unused)
{
	struct bed *bed = bed_with_plenty();
	g_autoptr(GError) error = NULL;
	guint8 bytes[5 * 512];

	memset(bed->fake[0].bytes, 'd', DISK_BYTES);
	hold(bed, 512, 512, 'c');
	assert_true(try_hold(bed, 0, VMM_DISK_ZEROES, 1024, 512, 0));
	hold(bed, 1536, 512, 'h');
	ckpt_disk_twins_commit(bed->twins, 2);
	write_own(bed, 0, 4096, 'o');
	for (guint i = 0; i < 2; i++) {
		assert_true(ckpt_disk_twins_read(bed->twins, 0, 0, bytes, sizeof(bytes),
						 &error));
		assert_int_equal(bytes[0], 'd');
		assert_int_equal(bytes[512], 'c');
		assert_int_equal(bytes[1023], 'c');
		assert_int_equal(bytes[1024], 0);
		assert_int_equal(bytes[1536], 'd');
		assert_int_equal(bytes[2048], 'd');
		settle(bed);
	}
	assert_int_equal(bed->fake[0].bytes[512], 'c');
	assert_false(ckpt_disk_twins_read(bed->twins, 0, DISK_BYTES - 512, bytes, 1024,
					  NULL));
	assert_false(ckpt_disk_twins_read(bed->twins, 0, 1, bytes, 512, NULL));
	assert_false(ckpt_disk_twins_read(bed->twins, 5, 0, bytes, 512, NULL));
	/* One that cannot say is no proof. */
	assert_false(ckpt_disk_twins_read(bed->twins, 1, 0, bytes, 512, &error));
	assert_non_null(error);
	bed_free(bed);
}

static void a_commit_replaces_what_the_guest_wrote(void **unused)
{
	struct bed *bed = bed_with_plenty();

	hold(bed, 0, 512, '1');
	hold(bed, 512, 512, '2');
	write_own(bed, 0, 2048, 'o');
	assert_true(ckpt_disk_twins_may_commit(bed->twins, 2));
	assert_false(ckpt_disk_twins_may_commit(bed->twins, 3));
	ckpt_disk_twins_commit(bed->twins, 1);
	expect(bed, 0, "1...");
	ckpt_disk_twins_commit(bed->twins, 2);
	assert_false(ckpt_disk_twins_may_commit(bed->twins, 1));
	expect(bed, 0, "12..");
	settle(bed);
	assert_int_equal(bed->fake[0].bytes[512], '2');
	bed_free(bed);
}

static void a_read_sees_a_write_that_lands_while_it_is_at_the_disk(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct fake_request *read;

	hold(bed, 0, 512, '1');
	ckpt_disk_twins_commit(bed->twins, 1);
	read = submit_to(bed->disk[0], VMM_DISK_READ, 0, 1024, 0);
	/* The disk read first, and tells last. */
	memset(read->request.buffer, 0, 1024);
	fake_disk_complete(&bed->fake[0], 0);
	memset(bed->fake[0].bytes, 0, 512);
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(read->request.buffer[0], '1');
	fake_request_free(read);
	bed_free(bed);
}

static void overlapping_writes_reach_the_disk_in_order(void **unused)
{
	struct bed *bed = bed_with_plenty();

	hold(bed, 0, 4096, '1');
	hold(bed, 8192, 512, '2'); /* independent */
	hold(bed, 1024, 512, '3');
	assert_true(try_hold(bed, 0, VMM_DISK_DISCARD, 512, 4096, 0));
	ckpt_disk_twins_commit(bed->twins, 4);
	assert_int_equal(bed->fake[0].waiting->len, 2);
	fake_disk_complete(&bed->fake[0], 1);
	assert_int_equal(bed->fake[0].waiting->len, 1);
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(bed->fake[0].waiting->len, 1);
	expect(bed, 0, "1........");
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(bed->fake[0].bytes[1024], '3');
	expect(bed, 0, "1........");
	settle(bed);
	assert_int_equal(bed->fake[0].bytes[1024], 0);
	bed_free(bed);
}

static void only_a_few_writes_are_at_the_disk_at_a_time(void **unused)
{
	struct bed *bed = bed_with_plenty();

	for (guint i = 0; i < 200; i++)
		hold(bed, i * 1024, 512, 'x');
	ckpt_disk_twins_commit(bed->twins, 200);
	assert_int_equal(bed->fake[0].waiting->len, 32);
	settle(bed);
	assert_int_equal(bed->fake[0].writes, 200);
	bed_free(bed);
}

static void refuse(struct bed *bed, const struct ckpt_disk_head *head, gsize len)
{
	guint8 data[4096] = { 0 };
	const char *why = NULL;
	struct ckpt_disk_twin_counters counters;

	assert_false(ckpt_disk_twins_hold(bed->twins, head, data, len, &why));
	assert_non_null(why);
	ckpt_disk_twins_get_counters(bed->twins, &counters);
	assert_int_equal(counters.held_bytes, 0);
	assert_int_equal(counters.held_number, 0);
}

static void a_write_that_cannot_be_is_refused(void **unused)
{
	struct bed *bed = bed_with_plenty();
	const struct ckpt_disk_head good = head_of(bed, 0, VMM_DISK_WRITE, 512, 1024);
	struct ckpt_disk_head head;

#define BAD(field, value, len)           \
	do {                             \
		head = good;             \
		head.field = value;      \
		refuse(bed, &head, len); \
	} while (0)
	BAD(number, wire_put64(0), 1024);
	BAD(number, wire_put64(2), 1024);
	BAD(disk, 2, 1024);
	BAD(disk, 255, 1024);
	BAD(op, VMM_DISK_READ, 1024);
	BAD(op, VMM_DISK_FLUSH, 1024);
	BAD(op, 200, 1024);
	BAD(op, VMM_DISK_ZEROES, 1024); /* with data */
	BAD(unmap, 2, 1024);
	BAD(pad[4], 1, 1024);
	BAD(offset, wire_put64(1), 1024);
	BAD(offset, wire_put64(DISK_BYTES - 512), 1024);
	BAD(offset, wire_put64(~0ull - 511), 1024);
	BAD(length, wire_put64(0), 0);
	BAD(length, wire_put64(1000), 1000);
	BAD(length, wire_put64(2048), 1024);
	BAD(length, wire_put64(~0ull - 511), 1024);
#undef BAD
	refuse(bed, &good, 0);
	refuse(bed, &good, 512);
	bed->fake[0].disk.readonly = TRUE;
	refuse(bed, &good, 1024);
	bed->fake[0].disk.readonly = FALSE;
	bed->fake[0].disk.block_size = 4096;
	refuse(bed, &good, 1024);
	bed->fake[0].disk.block_size = 512;
	hold(bed, 512, 1024, 'x');
	bed_free(bed);
}

static void numbers_grow_by_one_over_all_disks(void **unused)
{
	struct bed *bed = bed_with_plenty();

	assert_true(try_hold(bed, 0, VMM_DISK_WRITE, 0, 512, '1'));
	assert_true(try_hold(bed, 1, VMM_DISK_WRITE, 0, 512, '2'));
	bed->number = 3;
	assert_false(try_hold(bed, 0, VMM_DISK_WRITE, 0, 512, '3'));
	bed->number = 2;
	assert_true(try_hold(bed, 0, VMM_DISK_WRITE, 0, 512, '3'));
	ckpt_disk_twins_commit(bed->twins, 2);
	settle(bed);
	assert_int_equal(bed->fake[0].bytes[0], '1');
	assert_int_equal(bed->fake[1].bytes[0], '2');
	/* The next session begins anew. */
	ckpt_disk_twins_drop_held(bed->twins);
	bed->number = 0;
	assert_true(try_hold(bed, 0, VMM_DISK_WRITE, 0, 512, '4'));
	ckpt_disk_twins_commit(bed->twins, 1);
	settle(bed);
	assert_int_equal(bed->fake[0].bytes[0], '4');
	bed_free(bed);
}

static void too_much_asks_for_a_checkpoint(void **unused)
{
	struct ckpt_disk_twin_limits limits = { 20000, PLENTY, 20000, 40000 };
	struct bed *bed = bed_new(&limits, VMM_SECTOR);

	write_own(bed, 0, 16384, 'a');
	assert_int_equal(bed->needs, 0);
	write_own(bed, 0, 4096, 'b');
	assert_int_equal(bed->needs, 1);
	write_own(bed, 32768, 16384, 'b');
	assert_int_equal(bed->needs, 1);
	ckpt_disk_twins_commit(bed->twins, 0);
	hold(bed, 0, 16384, 'h');
	hold(bed, 0, 16384, 'h');
	assert_int_equal(bed->needs, 2);
	assert_false(try_hold(bed, 0, VMM_DISK_WRITE, 0, 16384, 'h'));
	ckpt_disk_twins_commit(bed->twins, 2);
	hold(bed, 0, 16384, 'h');
	settle(bed);
	bed_free(bed);
}

static void over_the_bound_the_guests_writes_wait(void **unused)
{
	struct ckpt_disk_twin_limits limits = { 10000, 20000, PLENTY, PLENTY };
	struct bed *bed = bed_new(&limits, VMM_SECTOR);
	struct ckpt_disk_twin_counters counters;
	struct fake_request *big, *small;
	gboolean is_done = FALSE, is_small_done = FALSE;

	write_own(bed, 0, 8192, 'a');
	big = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 16384, 'b');
	big->is_done = &is_done;
	/* In order, though it would fit. */
	small = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 512, 'c');
	small->is_done = &is_small_done;
	iterate(bed);
	assert_false(is_done || is_small_done);
	ckpt_disk_twins_get_counters(bed->twins, &counters);
	assert_int_equal(counters.waiting, 2);
	expect(bed, 0, "aa");
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	settle(bed);
	assert_true(is_done && is_small_done);
	assert_int_equal(bed->promoted, 1);
	expect(bed, 0, "cb");
	assert_int_equal(bed->fake[0].durable[0], 'c');
	fake_request_free(big);
	fake_request_free(small);
	bed_free(bed);
}

static void what_waited_is_void_after_a_commit(void **unused)
{
	struct ckpt_disk_twin_limits limits = { 100, 100, PLENTY, PLENTY };
	struct bed *bed = bed_new(&limits, VMM_SECTOR);
	struct fake_request *request =
		submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 512, 'b');

	ckpt_disk_twins_commit(bed->twins, 0);
	iterate(bed);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	expect(bed, 0, ".");
	/* Not even by a promotion at once. */
	request = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 512, 'b');
	ckpt_disk_twins_commit(bed->twins, 0);
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	settle(bed);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	expect(bed, 0, ".");
	assert_int_equal(bed->fake[0].writes, 0);
	bed_free(bed);
}

static void zeroes_cost_the_same_however_long(void **unused)
{
	struct ckpt_disk_twin_limits limits = { PLENTY, 10000, PLENTY, PLENTY };
	struct bed *bed = bed_new(&limits, VMM_SECTOR);

	memset(bed->fake[0].bytes, 'd', DISK_BYTES);
	assert_int_equal(do_at_once(bed, VMM_DISK_DISCARD, 0, DISK_BYTES, 0), 0);
	write_own(bed, 512, 512, 'o');
	expect(bed, 0, ".o..");
	bed_free(bed);
}

static void what_is_not_made_of_blocks_is_an_error(void **unused)
{
	struct ckpt_disk_twin_limits limits = { PLENTY, PLENTY, PLENTY, PLENTY };
	struct bed *bed = bed_new(&limits, 4096);

	assert_int_equal(do_at_once(bed, VMM_DISK_WRITE, 512, 4096, 0), -EINVAL);
	assert_int_equal(do_at_once(bed, VMM_DISK_READ, 0, 512, 0), -EINVAL);
	bed_free(bed);
}

static void a_promotion_keeps_what_the_guest_wrote_and_drops_what_is_held(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct ckpt_disk_twin_counters counters;

	hold(bed, 0, 2048, 'c');
	ckpt_disk_twins_commit(bed->twins, 1);
	write_own(bed, 512, 512, 'o');
	hold(bed, 0, 4096, 'h');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	ckpt_disk_twins_get_counters(bed->twins, &counters);
	assert_int_equal(counters.held_bytes, 0);
	expect(bed, 0, "cocc....");
	iterate(bed);
	assert_int_equal(bed->promoted, 0);
	settle(bed);
	assert_int_equal(bed->promoted, 1);
	assert_int_equal(bed->promote_error, 0);
	assert_int_equal(bed->fake[0].flushes, 1);
	assert_int_equal(bed->fake[0].durable[0], 'c');
	assert_int_equal(bed->fake[0].durable[512], 'o');
	assert_int_equal(bed->fake[0].durable[2048], 0);
	assert_false(try_hold(bed, 0, VMM_DISK_WRITE, 0, 512, 'x'));
	bed_free(bed);
}

static void after_a_promotion_a_flush_covers_the_merge(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct fake_request *flush, *write;
	gboolean is_done = FALSE, is_written = FALSE;

	write_own(bed, 512, 512, 'o');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	/* On top of what is on its way. */
	write = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 1024, 'n');
	write->is_done = &is_written;
	expect(bed, 0, "nn");
	flush = submit_to(bed->disk[0], VMM_DISK_FLUSH, 0, 0, 0);
	flush->is_done = &is_done;
	assert_int_equal(bed->fake[0].waiting->len, 1);
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(bed->fake[0].bytes[512], 'o');
	iterate(bed);
	assert_false(is_done || is_written);
	settle(bed);
	assert_true(is_done && is_written);
	assert_int_equal(bed->fake[0].durable[512], 'n');
	fake_request_free(flush);
	fake_request_free(write);
	bed_free(bed);
}

static void in_the_end_requests_pass_to_the_disk(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct fake_request *request;

	write_own(bed, 512, 512, 'o');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	settle(bed);
	for (enum vmm_disk_op op = VMM_DISK_READ; op <= VMM_DISK_ZEROES; op++) {
		gboolean is_done = FALSE;

		request = submit_to(bed->disk[0], op, 0,
				    op == VMM_DISK_FLUSH ? 0 : 1024, 'x');
		request->is_done = &is_done;
		assert_int_equal(bed->fake[0].waiting->len, 1);
		fake_disk_complete_all(&bed->fake[0]);
		assert_true(is_done);
		fake_request_free(request);
	}
	request = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 1024, 'x');
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	assert_int_equal(bed->fake[0].forgotten, 1);
	/* The disk's own failures are the guest's to handle. */
	request = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 1024, 'x');
	bed->fake[0].result = -EIO;
	fake_disk_complete_all(&bed->fake[0]);
	bed->fake[0].result = 0;
	fake_request_free(request);
	request = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 1024, 'y');
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->fake[0].bytes[0], 'y');
	fake_request_free(request);
	bed_free(bed);
}

static void a_promotion_without_disks_says_so_too(void **unused)
{
	struct bed bed = { 0 };
	struct ckpt_disk_twin_hooks hooks = { &bed, on_need, on_failed };
	struct ckpt_disk_twin_limits limits = { 0 };

	bed.loop = vmm_loop_new(NULL);
	bed.twins = ckpt_disk_twins_new(bed.loop, &hooks, &limits);
	ckpt_disk_twins_promote(bed.twins, on_promoted, &bed);
	assert_int_equal(bed.promoted, 0);
	iterate(&bed);
	assert_int_equal(bed.promoted, 1);
	ckpt_disk_twins_free(bed.twins);
	vmm_loop_free(bed.loop);
}

static void a_disk_that_fails_is_reported_and_reads_stay_right(void **unused)
{
	struct bed *bed = bed_with_plenty();

	hold(bed, 0, 512, '1');
	hold(bed, 0, 512, '2');
	hold(bed, 1024, 512, '3');
	ckpt_disk_twins_commit(bed->twins, 3);
	bed->fake[0].write_result = -ENOSPC;
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(bed->failures, 1);
	assert_int_equal(bed->failure, -ENOSPC);
	bed->fake[0].write_result = 0;
	settle(bed);
	expect(bed, 0, "2.3");
	write_own(bed, 0, 512, 'o');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	settle(bed);
	assert_int_equal(bed->failures, 1);
	assert_int_equal(bed->promoted, 1);
	assert_int_equal(bed->promote_error, -ENOSPC);
	expect(bed, 0, "o.3");
	assert_int_equal(do_at_once(bed, VMM_DISK_WRITE, 0, 512, 0), -ENOSPC);
	assert_int_equal(do_at_once(bed, VMM_DISK_FLUSH, 0, 0, 0), -ENOSPC);
	bed_free(bed);
}

static guint flushes_at(const struct fake_disk *fake)
{
	guint flushes = 0;

	for (guint i = 0; i < fake->waiting->len; i++) {
		const struct vmm_disk_request *request = g_ptr_array_index(fake->waiting, i);

		flushes += request->op == VMM_DISK_FLUSH;
	}
	return flushes;
}

static void what_was_written_is_flushed_after_a_while(void **unused)
{
	struct bed *bed = bed_with_plenty();

	hold(bed, 0, 512, '1');
	ckpt_disk_twins_commit(bed->twins, 1);
	settle(bed);
	g_usleep(2000);
	hold(bed, 0, 512, '2');
	ckpt_disk_twins_commit(bed->twins, 2);
	assert_int_equal(flushes_at(&bed->fake[0]), 0); /* nobody asked for that */
	settle(bed);
	ckpt_disk_twins_flush_after(bed->twins, 1);
	ckpt_disk_twins_commit(bed->twins, 2);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 2);
	assert_int_equal(flushes_at(&bed->fake[0]), 1);
	assert_int_equal(flushes_at(&bed->fake[1]), 0);
	settle(bed);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 2);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 2);
	assert_int_equal(flushes_at(&bed->fake[0]), 0); /* nothing is new */
	assert_int_equal(bed->failures, 0);
	/* What is on its way when a flush begins is the next one's. */
	hold(bed, 0, 512, '3');
	ckpt_disk_twins_commit(bed->twins, 3);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 3);
	assert_int_equal(flushes_at(&bed->fake[0]), 1);
	assert_int_equal(bed->fake[0].waiting->len, 2);
	fake_disk_complete(&bed->fake[0], 1);
	fake_disk_complete(&bed->fake[0], 0);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 3);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 3);
	assert_int_equal(flushes_at(&bed->fake[0]), 1);
	/* It may be under way at the end. */
	bed_free(bed);
}

static void a_flush_that_fails_is_reported_before_a_promotion(void **unused)
{
	struct bed *bed = bed_with_plenty();

	ckpt_disk_twins_flush_after(bed->twins, 1);
	hold(bed, 0, 512, '1');
	ckpt_disk_twins_commit(bed->twins, 1);
	fake_disk_complete_all(&bed->fake[0]);
	bed->fake[0].result = -EIO;
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 1);
	g_usleep(2000);
	ckpt_disk_twins_commit(bed->twins, 1);
	assert_int_equal(flushes_at(&bed->fake[0]), 1);
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->failures, 1);
	assert_int_equal(bed->failure, -EIO);
	bed->fake[0].result = 0;
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	settle(bed);
	assert_int_equal(bed->promote_error, -EIO);
	bed_free(bed);
}

static void a_merge_that_fails_is_not_called_durable(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct fake_request *flush, *write;
	int result = 1, write_result = 1;

	write_own(bed, 0, 512, 'o');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	write = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 512, 'n');
	write->result = &write_result;
	flush = submit_to(bed->disk[0], VMM_DISK_FLUSH, 0, 0, 0);
	flush->result = &result;
	bed->fake[0].write_result = -EIO;
	settle(bed);
	assert_int_equal(bed->promoted, 1);
	assert_int_equal(bed->promote_error, -EIO);
	assert_int_equal(bed->failures, 0);
	assert_int_equal(result, -EIO);
	assert_int_equal(write_result, -EIO);
	fake_request_free(flush);
	fake_request_free(write);
	bed_free(bed);
}

static void a_flush_that_fails_is_not_called_durable(void **unused)
{
	struct bed *bed = bed_with_plenty();

	write_own(bed, 0, 512, 'o');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	fake_disk_complete(&bed->fake[0], 0);
	bed->fake[0].result = -EIO;
	settle(bed);
	assert_int_equal(bed->promote_error, -EIO);
	assert_int_equal(do_at_once(bed, VMM_DISK_FLUSH, 0, 0, 0), -EIO);
	bed_free(bed);
}

static void a_twin_is_freed_with_writes_under_way(void **unused)
{
	struct bed *bed = bed_with_plenty();
	struct fake_request *request;

	for (guint i = 0; i < 50; i++)
		hold(bed, i * 512, 1024, '1');
	ckpt_disk_twins_commit(bed->twins, 40);
	fake_disk_complete(&bed->fake[0], 0);
	request = submit_to(bed->disk[0], VMM_DISK_READ, 0, 1024, 0);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	bed_free(bed);
	/* And with parts of what the guest wrote. */
	bed = bed_with_plenty();
	write_own(bed, 0, 16384, '1');
	write_own(bed, 4096, 512, '2');
	ckpt_disk_twins_promote(bed->twins, on_promoted, bed);
	assert_int_equal(bed->fake[0].waiting->len, 3);
	request = submit_to(bed->disk[0], VMM_DISK_WRITE, 0, 1024, 0);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	bed_free(bed);
}

/*
 * The random test. Each sector's content is one number repeated. The guest never has
 * two requests out that overlap, if one is a write: what it would see is not
 * determined. What it forgets (a reset of the device) may be there or not.
 */

#define OPS_MAX 6u
#define UNKNOWN G_MAXUINT32

struct guest_op {
	struct fake_request *fake;
	gboolean is_done;
	int result;
};

struct guest {
	guint32 view[SECTORS]; /* what it must read */
	guint32 committed[SECTORS]; /* what it must read after a commit */
	struct guest_op ops[OPS_MAX];
	/* One flush at a time: what it covers; UNKNOWN: written since. */
	guint32 flushed[SECTORS];
	/* What a promotion covers, likewise. */
	guint32 merged[SECTORS];
};

struct held {
	guint64 number;
	guint disk, from, to;
	guint32 tag;
};

struct model {
	struct bed *bed;
	GRand *rand;
	guint block; /* sectors */
	guint32 tag;
	struct guest guests[2];
	GQueue held;
	guint64 committed;
	gboolean promoting;
};

static void fill(guint8 *bytes, guint sectors, guint32 tag)
{
	guint32 *words = (guint32 *)bytes;

	for (guint i = 0; i < sectors * VMM_SECTOR / 4; i++)
		words[i] = tag;
}

static void set(guint32 *tags, guint from, guint to, guint32 tag)
{
	for (guint i = from; i < to; i++)
		tags[i] = tag;
}

static void compare(const guint8 *bytes, const guint32 *tags, guint from, guint to)
{
	const guint32 *words = (const guint32 *)bytes;

	for (guint i = from; i < to; i++, words += VMM_SECTOR / 4) {
		guint32 tag = tags[i] == UNKNOWN ? words[0] : tags[i];

		for (guint w = 0; w < VMM_SECTOR / 4; w++)
			if (words[w] != tag)
				fail_msg("sector %u: %u where %u should be", i,
					 words[w], tag);
	}
}

static guint first_of(const struct guest_op *op)
{
	return (guint)(op->fake->request.offset / VMM_SECTOR);
}

static guint end_of(const struct guest_op *op)
{
	return (guint)((op->fake->request.offset + op->fake->request.len) / VMM_SECTOR);
}

static gboolean changes(const struct guest_op *op)
{
	return op->fake->request.op != VMM_DISK_READ &&
	       op->fake->request.op != VMM_DISK_FLUSH;
}

static gboolean may_submit(const struct guest *guest, enum vmm_disk_op op, guint from,
			   guint to)
{
	for (guint i = 0; i < OPS_MAX; i++) {
		const struct guest_op *other = &guest->ops[i];

		if (!other->fake)
			continue;
		if (op == VMM_DISK_FLUSH && other->fake->request.op == VMM_DISK_FLUSH)
			return FALSE;
		if (first_of(other) < to && from < end_of(other) &&
		    (op != VMM_DISK_READ || changes(other)))
			return FALSE;
	}
	return TRUE;
}

static void choose_range(struct model *model, guint *from, guint *to)
{
	guint blocks = SECTORS / model->block;
	guint n = (guint)g_rand_int_range(
		model->rand, 1, g_rand_int_range(model->rand, 0, 20) ? 24 : 60);
	guint at = (guint)g_rand_int_range(model->rand, 0, (gint32)blocks);

	*from = at * model->block;
	*to = MIN(at + n, blocks) * model->block;
}

static struct guest_op *free_op(struct guest *guest)
{
	for (guint i = 0; i < OPS_MAX; i++)
		if (!guest->ops[i].fake)
			return &guest->ops[i];
	return NULL;
}

/* What has completed, and so must survive. */
static void note_completed(const struct guest *guest, guint32 *tags)
{
	memcpy(tags, guest->view, sizeof(guest->view));
	for (guint i = 0; i < OPS_MAX; i++)
		if (guest->ops[i].fake && changes(&guest->ops[i]) &&
		    !guest->ops[i].is_done)
			set(tags, first_of(&guest->ops[i]), end_of(&guest->ops[i]),
			    UNKNOWN);
}

static void submit_random(struct model *model)
{
	static const enum vmm_disk_op ops[] = { VMM_DISK_READ,	  VMM_DISK_READ,
						VMM_DISK_READ,	  VMM_DISK_WRITE,
						VMM_DISK_WRITE,	  VMM_DISK_WRITE,
						VMM_DISK_DISCARD, VMM_DISK_ZEROES,
						VMM_DISK_FLUSH };
	guint disk = (guint)g_rand_int_range(model->rand, 0, 2);
	struct guest *guest = &model->guests[disk];
	enum vmm_disk_op kind =
		ops[g_rand_int_range(model->rand, 0, G_N_ELEMENTS(ops))];
	struct guest_op *op = free_op(guest);
	struct vmm_disk *at = model->bed->disk[disk];
	guint from = 0, to = 0;
	guint32 tag = 0;

	if (kind != VMM_DISK_FLUSH)
		choose_range(model, &from, &to);
	if (!op || !may_submit(guest, kind, from, to))
		return;
	*op = (struct guest_op){ fake_request_new(kind, (guint64)from * VMM_SECTOR,
						  (guint64)(to - from) * VMM_SECTOR) };
	op->fake->is_done = &op->is_done;
	op->fake->result = &op->result;
	if (kind == VMM_DISK_WRITE) {
		tag = ++model->tag;
		fill(op->fake->request.buffer, to - from, tag);
	}
	if (kind == VMM_DISK_FLUSH) {
		note_completed(guest, guest->flushed);
	} else if (kind != VMM_DISK_READ) {
		set(guest->view, from, to, tag);
		set(guest->flushed, from, to, UNKNOWN);
		set(guest->merged, from, to, UNKNOWN);
	}
	at->submit(at->data, &op->fake->request);
	at->flush_submissions(at->data);
}

static void reap(struct model *model)
{
	for (guint disk = 0; disk < 2; disk++) {
		struct guest *guest = &model->guests[disk];

		for (guint i = 0; i < OPS_MAX; i++) {
			struct guest_op *op = &guest->ops[i];

			if (!op->fake || !op->is_done)
				continue;
			assert_int_equal(op->result, 0);
			if (op->fake->request.op == VMM_DISK_READ)
				compare(op->fake->request.buffer, guest->view,
					first_of(op), end_of(op));
			if (op->fake->request.op == VMM_DISK_FLUSH && model->promoting)
				compare(model->bed->fake[disk].durable, guest->flushed,
					0, SECTORS);
			fake_request_free(op->fake);
			op->fake = NULL;
		}
	}
}

static void forget_all(struct model *model, guint disk, gboolean unknown)
{
	struct guest *guest = &model->guests[disk];
	struct vmm_disk *at = model->bed->disk[disk];

	for (guint i = 0; i < OPS_MAX; i++) {
		struct guest_op *op = &guest->ops[i];

		if (!op->fake)
			continue;
		if (unknown && changes(op)) {
			set(guest->view, first_of(op), end_of(op), UNKNOWN);
			set(guest->flushed, first_of(op), end_of(op), UNKNOWN);
			set(guest->merged, first_of(op), end_of(op), UNKNOWN);
		}
		at->forget(at->data, &op->fake->request);
		op->fake = NULL;
	}
}

static void hold_random(struct model *model)
{
	guint from, to;
	guint disk = (guint)g_rand_int_range(model->rand, 0, 2);
	gboolean has_data = g_rand_int_range(model->rand, 0, 4) != 0;
	struct ckpt_disk_head head;
	struct held *held = g_new(struct held, 1);
	g_autofree guint8 *data = NULL;
	const char *why;
	gsize len;

	choose_range(model, &from, &to);
	len = (gsize)(to - from) * VMM_SECTOR;
	data = g_malloc(len);
	*held = (struct held){ ++model->bed->number, disk, from, to,
			       has_data ? ++model->tag : 0 };
	fill(data, to - from, held->tag);
	head = head_of(model->bed, (guint8)disk,
		       has_data			     ? VMM_DISK_WRITE
		       : g_rand_boolean(model->rand) ? VMM_DISK_ZEROES
						     : VMM_DISK_DISCARD,
		       (guint64)from * VMM_SECTOR, len);
	head.number = wire_put64(held->number);
	assert_true(ckpt_disk_twins_hold(model->bed->twins, &head, data,
					 has_data ? len : 0, &why));
	g_queue_push_tail(&model->held, held);
}

static void commit_random(struct model *model)
{
	guint64 number = model->committed;
	gboolean forget_first = g_rand_boolean(model->rand);

	number += (guint64)g_rand_int_range(
		model->rand, 0, (gint32)(model->bed->number - model->committed) + 1);
	for (guint i = 0; i < 2 && forget_first; i++)
		forget_all(model, i, FALSE);
	ckpt_disk_twins_commit(model->bed->twins, number);
	for (guint i = 0; i < 2; i++)
		forget_all(model, i, FALSE);
	while (model->held.length) {
		struct held *held = g_queue_peek_head(&model->held);

		if (held->number > number)
			break;
		set(model->guests[held->disk].committed, held->from, held->to,
		    held->tag);
		g_free(g_queue_pop_head(&model->held));
	}
	model->committed = number;
	for (guint i = 0; i < 2; i++)
		memcpy(model->guests[i].view, model->guests[i].committed,
		       sizeof(model->guests[i].view));
}

/* What a loss of power in this moment leaves. */
static void check_durable(void *data, int error)
{
	struct model *model = data;

	assert_int_equal(error, 0);
	assert_int_equal(model->bed->promoted++, 0);
	for (guint i = 0; i < 2; i++)
		compare(model->bed->fake[i].durable, model->guests[i].merged, 0,
			SECTORS);
}

static void promote(struct model *model)
{
	for (guint i = 0; i < 2; i++) {
		struct guest *guest = &model->guests[i];

		note_completed(guest, guest->merged);
		/* The promise of a flush before this was another one. */
		set(guest->flushed, 0, SECTORS, UNKNOWN);
	}
	model->promoting = TRUE;
	ckpt_disk_twins_promote(model->bed->twins, check_durable, model);
}

static void complete_random(struct model *model)
{
	struct fake_disk *fake = &model->bed->fake[g_rand_int_range(model->rand, 0, 2)];

	if (fake->waiting->len)
		fake_disk_complete(fake,
				   (guint)g_rand_int_range(model->rand, 0,
							   (gint32)fake->waiting->len));
}

static void step(struct model *model)
{
	gint32 dice = g_rand_int_range(model->rand, 0, 1000);

	if (dice < 300)
		submit_random(model);
	else if (dice < 550)
		complete_random(model);
	else if (dice < 780)
		vmm_loop_iterate(model->bed->loop, 0);
	else if (dice < 970 && !model->promoting)
		hold_random(model);
	else if (dice < 994 && !model->promoting)
		commit_random(model);
	else if (dice < 780 + 100)
		complete_random(model);
	else if (dice == 999 && model->promoting)
		forget_all(model, (guint)g_rand_int_range(model->rand, 0, 2), TRUE);
	reap(model);
}

static void run_model(guint32 seed)
{
	struct ckpt_disk_twin_limits limits = { 50000, PLENTY, 50000, PLENTY };
	struct model *model = g_new0(struct model, 1);
	guint steps;

	model->rand = g_rand_new_with_seed(seed);
	model->block = g_rand_int_range(model->rand, 0, 4) ? 1 : 8;
	if (g_rand_boolean(model->rand))
		limits.own_max = 60000;
	model->bed = bed_new(&limits, model->block * VMM_SECTOR);
	for (guint i = 0; i < 2; i++)
		model->bed->fake[i].rand = model->rand;
	steps = (guint)g_rand_int_range(model->rand, 50, 1500);
	while (steps--)
		step(model);
	promote(model);
	steps = (guint)g_rand_int_range(model->rand, 50, 1000);
	while (steps--)
		step(model);
	do {
		complete_random(model);
		vmm_loop_iterate(model->bed->loop, 0);
		reap(model);
	} while (model->bed->fake[0].waiting->len || model->bed->fake[1].waiting->len);
	iterate(model->bed);
	reap(model);
	assert_int_equal(model->bed->promoted, 1);
	assert_int_equal(model->bed->failures, 0);
	for (guint i = 0; i < 2; i++) {
		for (guint n = 0; n < OPS_MAX; n++)
			assert_null(model->guests[i].ops[n].fake);
		compare(model->bed->fake[i].bytes, model->guests[i].view, 0, SECTORS);
	}
	bed_free(model->bed);
	g_queue_clear_full(&model->held, g_free);
	g_rand_free(model->rand);
	g_free(model);
}

static void every_read_and_the_disk_in_the_end_are_as_in_a_simple_model(void **unused)
{
	guint32 first = g_getenv("SEED") ? (guint32)atoi(g_getenv("SEED")) : 1;
	guint32 n = g_getenv("SEED") ? 1 : g_getenv("LONG") ? 5000 : 200;

	for (guint32 seed = first; seed < first + n; seed++) {
		if (g_getenv("VERBOSE"))
			print_message("seed %u\n", seed);
		run_model(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_guests_writes_stay_in_memory),
		cmocka_unit_test(a_read_is_put_together_from_all_layers),
		cmocka_unit_test(what_is_committed_can_be_read_at_once),
		cmocka_unit_test(a_commit_replaces_what_the_guest_wrote),
		cmocka_unit_test(
			a_read_sees_a_write_that_lands_while_it_is_at_the_disk),
		cmocka_unit_test(overlapping_writes_reach_the_disk_in_order),
		cmocka_unit_test(only_a_few_writes_are_at_the_disk_at_a_time),
		cmocka_unit_test(a_write_that_cannot_be_is_refused),
		cmocka_unit_test(numbers_grow_by_one_over_all_disks),
		cmocka_unit_test(too_much_asks_for_a_checkpoint),
		cmocka_unit_test(over_the_bound_the_guests_writes_wait),
		cmocka_unit_test(what_waited_is_void_after_a_commit),
		cmocka_unit_test(zeroes_cost_the_same_however_long),
		cmocka_unit_test(what_is_not_made_of_blocks_is_an_error),
		cmocka_unit_test(
			a_promotion_keeps_what_the_guest_wrote_and_drops_what_is_held),
		cmocka_unit_test(after_a_promotion_a_flush_covers_the_merge),
		cmocka_unit_test(in_the_end_requests_pass_to_the_disk),
		cmocka_unit_test(a_promotion_without_disks_says_so_too),
		cmocka_unit_test(a_disk_that_fails_is_reported_and_reads_stay_right),
		cmocka_unit_test(what_was_written_is_flushed_after_a_while),
		cmocka_unit_test(a_flush_that_fails_is_reported_before_a_promotion),
		cmocka_unit_test(a_merge_that_fails_is_not_called_durable),
		cmocka_unit_test(a_flush_that_fails_is_not_called_durable),
		cmocka_unit_test(a_twin_is_freed_with_writes_under_way),
		cmocka_unit_test(
			every_read_and_the_disk_in_the_end_are_as_in_a_simple_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
