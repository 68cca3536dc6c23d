/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's disks: what is sent, in which order, and what becomes of the forgotten.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "checkpoint/disk_out.h"
#include "tests/unit/fake_disk.h"

#define DISK_BYTES (8u << 20)

struct sent {
	struct ckpt_disk_head head;
	guint8 first; /* of the data; 0 without */
	guint at_disk; /* how many the first disk had been given by then */
};

struct bed {
	guint kept; /* times told */
	enum vmm_disk_op kept_op;
	guint kept_disk;
	int kept_error;
	struct fake_disk fake[2];
	ckpt_disk_out *out;
	struct vmm_disk *disk[2];
	GArray *sent; /* struct sent */
};

static void on_send(void *data, const struct ckpt_disk_head *head, const void *bytes)
{
	struct bed *bed = data;
	struct sent sent = { *head, 0, bed->fake[0].waiting->len };

	assert_int_equal(bytes != NULL, head->op == VMM_DISK_WRITE);
	if (bytes)
		sent.first = *(const guint8 *)bytes;
	g_array_append_val(bed->sent, sent);
}

static int set_up(void **state)
{
	struct bed *bed = g_new0(struct bed, 1);

	bed->sent = g_array_new(FALSE, FALSE, sizeof(struct sent));
	bed->out = ckpt_disk_out_new(on_send, bed);
	for (guint i = 0; i < 2; i++) {
		fake_disk_init(&bed->fake[i], DISK_BYTES, FALSE);
		bed->disk[i] = ckpt_disk_out_new_take(&bed->fake[i].disk, i, bed->out);
	}
	*state = bed;
	return 0;
}

static int tear_down(void **state)
{
	struct bed *bed = *state;

	for (guint i = 0; i < 2; i++) {
		bed->disk[i]->free(bed->disk[i]->data);
		fake_disk_clear(&bed->fake[i]);
	}
	ckpt_disk_out_free(bed->out);
	g_array_unref(bed->sent);
	g_free(bed);
	return 0;
}

static struct fake_request *submit(struct bed *bed, guint disk, enum vmm_disk_op op,
				   guint64 offset, guint64 len, guint8 fill)
{
	struct fake_request *request = fake_request_new(op, offset, len);

	if (op == VMM_DISK_WRITE)
		memset(request->request.buffer, fill, len);
	bed->disk[disk]->submit(bed->disk[disk]->data, &request->request);
	bed->disk[disk]->flush_submissions(bed->disk[disk]->data);
	return request;
}

static const struct sent *sent_at(struct bed *bed, guint index)
{
	assert_true(index < bed->sent->len);
	return &g_array_index(bed->sent, struct sent, index);
}

static void nothing_is_sent_until_forwarding_is_on(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request = submit(bed, 0, VMM_DISK_WRITE, 512, 1024, 7);

	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->sent->len, 0);
	assert_int_equal(bed->fake[0].bytes[512], 7);
	assert_int_equal(ckpt_disk_out_number(bed->out), 0);
	fake_request_free(request);
}

static void writes_of_all_disks_are_numbered_in_one_sequence(void **state)
{
	struct bed *bed = *state;
	struct fake_request *requests[5];

	ckpt_disk_out_forward(bed->out, TRUE);
	requests[0] = submit(bed, 1, VMM_DISK_WRITE, 512, 1024, 7);
	requests[1] = submit(bed, 0, VMM_DISK_ZEROES, 4096, 8192, 0);
	requests[2] = submit(bed, 0, VMM_DISK_READ, 4096, 8192, 0);
	requests[3] = submit(bed, 0, VMM_DISK_FLUSH, 0, 0, 0);
	requests[4] = submit(bed, 1, VMM_DISK_DISCARD, 1024, 512, 0);
	assert_int_equal(bed->sent->len, 3);
	assert_int_equal(ckpt_disk_out_number(bed->out), 3);
	for (guint i = 0; i < 3; i++)
		assert_int_equal(wire_get64(sent_at(bed, i)->head.number), i + 1);
	assert_int_equal(sent_at(bed, 0)->head.disk, 1);
	assert_int_equal(sent_at(bed, 0)->first, 7);
	assert_int_equal(sent_at(bed, 1)->head.disk, 0);
	assert_int_equal(sent_at(bed, 1)->head.op, VMM_DISK_ZEROES);
	assert_int_equal(sent_at(bed, 1)->at_disk, 0);
	assert_int_equal(wire_get64(sent_at(bed, 1)->head.length), 8192);
	assert_int_equal(sent_at(bed, 2)->head.op, VMM_DISK_DISCARD);
	/* The flush is the disk's own. */
	fake_disk_complete_all(&bed->fake[0]);
	fake_disk_complete_all(&bed->fake[1]);
	assert_int_equal(bed->fake[0].flushes, 1);
	for (guint i = 0; i < 5; i++)
		fake_request_free(requests[i]);
}

static void a_long_write_is_sent_in_parts_that_fit_a_message(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request;

	ckpt_disk_out_forward(bed->out, TRUE);
	request = submit(bed, 0, VMM_DISK_WRITE, 512, (4u << 20) - 512, 7);
	assert_int_equal(bed->sent->len, 4);
	assert_int_equal(bed->fake[0].waiting->len, 1);
	assert_int_equal(wire_get64(sent_at(bed, 3)->head.offset), 512 + (3u << 20));
	assert_int_equal(wire_get64(sent_at(bed, 3)->head.length), (1u << 20) - 512);
	fake_disk_complete_all(&bed->fake[0]);
	fake_request_free(request);
}

static void what_is_in_flight_when_forwarding_begins_is_sent(void **state)
{
	struct bed *bed = *state;
	struct fake_request *first = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	struct fake_request *second = submit(bed, 0, VMM_DISK_WRITE, 512, 512, 2);

	fake_disk_complete(&bed->fake[0], 0);
	ckpt_disk_out_forward(bed->out, TRUE);
	assert_int_equal(bed->sent->len, 1);
	assert_int_equal(sent_at(bed, 0)->first, 2);
	/* Each session counts anew. */
	ckpt_disk_out_forward(bed->out, FALSE);
	ckpt_disk_out_forward(bed->out, TRUE);
	assert_int_equal(wire_get64(sent_at(bed, 1)->head.number), 1);
	fake_disk_complete_all(&bed->fake[0]);
	fake_request_free(first);
	fake_request_free(second);
}

static void the_disks_errors_reach_the_guest(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request;
	int result = 0;

	ckpt_disk_out_forward(bed->out, TRUE);
	request = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	request->result = &result;
	bed->fake[0].result = -EIO;
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(result, -EIO);
	fake_request_free(request);
}

static void on_kept(void *data, guint disk, const struct vmm_disk_request *request, int error)
{
	struct bed *bed = data;

	bed->kept++;
	bed->kept_op = request->op;
	bed->kept_disk = disk;
	bed->kept_error = error;
}

static void what_a_disk_refuses_is_kept_with_all_that_follows(void **state)
{
	struct bed *bed = *state;
	struct fake_request *requests[5], *other;
	int results[5] = { 1, 1, 1, 1, 1 }, sound = 1;

	ckpt_disk_out_forward(bed->out, TRUE);
	ckpt_disk_out_keep(bed->out, on_kept);
	requests[0] = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	requests[1] = submit(bed, 0, VMM_DISK_READ, 512, 512, 0);
	requests[2] = submit(bed, 0, VMM_DISK_FLUSH, 0, 0, 0);
	bed->fake[0].result = -ENOSPC;
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->kept, 1);
	assert_int_equal(bed->kept_op, VMM_DISK_WRITE);
	assert_int_equal(bed->kept_disk, 0);
	assert_int_equal(bed->kept_error, -ENOSPC);
	bed->fake[0].result = 0;
	/* Whoever forgets what it could not write may read what is not so: nothing is asked
	 * of it any more, and nothing that it did not get is sent. */
	requests[3] = submit(bed, 0, VMM_DISK_WRITE, 1024, 512, 4);
	requests[4] = submit(bed, 0, VMM_DISK_READ, 0, 512, 0);
	for (guint i = 0; i < 5; i++)
		requests[i]->result = &results[i];
	assert_int_equal(bed->fake[0].waiting->len, 0);
	assert_int_equal(bed->sent->len, 1);
	/* Another disk is as ever. */
	other = submit(bed, 1, VMM_DISK_WRITE, 0, 512, 5);
	other->result = &sound;
	fake_disk_complete_all(&bed->fake[1]);
	assert_int_equal(sound, 0);
	ckpt_disk_out_answer_kept(bed->out);
	for (guint i = 0; i < 5; i++)
		assert_int_equal(results[i], 1);
	/* The guest stays: what was refused was, and what was not asked is asked. */
	ckpt_disk_out_keep(bed->out, NULL);
	ckpt_disk_out_answer_kept(bed->out);
	for (guint i = 0; i < 3; i++)
		assert_int_equal(results[i], -ENOSPC);
	assert_int_equal(bed->sent->len, 3);
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(results[3], 0);
	assert_int_equal(results[4], 0);
	assert_int_equal(bed->fake[0].bytes[1024], 4);
	assert_int_equal(bed->kept, 1);
	for (guint i = 0; i < 5; i++)
		fake_request_free(requests[i]);
	fake_request_free(other);
}

static void a_request_that_is_not_of_the_disks_blocks_is_the_guests_mistake(void **state)
{
	struct bed *bed = *state;
	struct fake_request *odd, *whole;
	int odd_result = 1, whole_result = 1;

	bed->disk[0]->block_size = 4096;
	ckpt_disk_out_keep(bed->out, on_kept);
	bed->fake[0].result = -EINVAL;
	odd = submit(bed, 0, VMM_DISK_WRITE, 512, 512, 1);
	odd->result = &odd_result;
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(odd_result, -EINVAL);
	assert_int_equal(bed->kept, 0);
	whole = submit(bed, 0, VMM_DISK_WRITE, 4096, 4096, 1);
	whole->result = &whole_result;
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(whole_result, 1);
	assert_int_equal(bed->kept, 1);
	ckpt_disk_out_keep(bed->out, NULL);
	ckpt_disk_out_answer_kept(bed->out);
	fake_request_free(odd);
	fake_request_free(whole);
}

static void what_is_kept_can_be_forgotten(void **state)
{
	struct bed *bed = *state;
	struct fake_request *refused, *unasked;

	ckpt_disk_out_forward(bed->out, TRUE);
	ckpt_disk_out_keep(bed->out, on_kept);
	refused = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	bed->fake[0].result = -EIO;
	fake_disk_complete_all(&bed->fake[0]);
	unasked = submit(bed, 0, VMM_DISK_READ, 0, 512, 0);
	bed->disk[0]->forget(bed->disk[0]->data, &refused->request);
	bed->disk[0]->forget(bed->disk[0]->data, &unasked->request);
	assert_int_equal(bed->fake[0].forgotten, 0);
	ckpt_disk_out_keep(bed->out, NULL);
	ckpt_disk_out_answer_kept(bed->out);
	assert_int_equal(bed->fake[0].waiting->len, 0);
	/* It is as if nothing had been. */
	bed->fake[0].result = 0;
	refused = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 2);
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->fake[0].bytes[0], 2);
	fake_request_free(refused);
}

static void what_is_kept_is_told_to_whoever_keeps_it_next(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request;

	ckpt_disk_out_keep(bed->out, on_kept);
	request = submit(bed, 1, VMM_DISK_FLUSH, 0, 0, 0);
	bed->fake[1].result = -EIO;
	fake_disk_complete_all(&bed->fake[1]);
	assert_int_equal(bed->kept, 1);
	ckpt_disk_out_keep(bed->out, NULL);
	ckpt_disk_out_keep(bed->out, on_kept);
	assert_int_equal(bed->kept, 2);
	assert_int_equal(bed->kept_disk, 1);
	assert_int_equal(bed->kept_op, VMM_DISK_FLUSH);
	ckpt_disk_out_keep(bed->out, NULL);
	ckpt_disk_out_answer_kept(bed->out);
	fake_request_free(request);
}

static void what_was_sent_and_forgotten_is_carried_out_before_what_follows(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request, *later, *waiting;
	gboolean is_done = FALSE;

	ckpt_disk_out_forward(bed->out, TRUE);
	request = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	assert_int_equal(bed->fake[0].forgotten, 0);
	later = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 2);
	waiting = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 3);
	later->is_done = &is_done;
	/* Neither at the disk nor sent. */
	assert_int_equal(bed->fake[0].waiting->len, 1);
	assert_int_equal(bed->sent->len, 1);
	bed->disk[0]->forget(bed->disk[0]->data, &waiting->request);
	fake_disk_complete(&bed->fake[0], 0);
	assert_int_equal(bed->fake[0].bytes[0], 1);
	assert_int_equal(bed->sent->len, 2);
	fake_disk_complete_all(&bed->fake[0]);
	assert_int_equal(bed->fake[0].bytes[0], 2);
	assert_true(is_done);
	fake_request_free(later);
}

static void what_was_not_sent_is_forgotten_by_the_disk_too(void **state)
{
	struct bed *bed = *state;
	struct fake_request *write = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	struct fake_request *read = submit(bed, 0, VMM_DISK_READ, 0, 512, 1);

	bed->disk[0]->forget(bed->disk[0]->data, &write->request);
	bed->disk[0]->forget(bed->disk[0]->data, &read->request);
	assert_int_equal(bed->fake[0].forgotten, 2);
}

static void a_disk_is_freed_with_forgotten_writes_under_way(void **state)
{
	struct bed *bed = *state;
	struct fake_request *request;

	ckpt_disk_out_forward(bed->out, TRUE);
	request = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 1);
	bed->disk[0]->forget(bed->disk[0]->data, &request->request);
	/* tear_down() does the rest. */
}

static void expect_range(const GArray *ranges, guint index, guint8 disk, guint64 offset,
			 guint32 length, guint8 fill)
{
	const struct ckpt_verify_range *range =
		&g_array_index(ranges, struct ckpt_verify_range, index);
	g_autofree guint8 *bytes = g_malloc(length);

	memset(bytes, fill, length);
	assert_true(index < ranges->len);
	assert_int_equal(range->disk, disk);
	assert_int_equal(wire_get64(range->offset), offset);
	assert_int_equal(wire_get32(range->length), length);
	assert_true(wire_get64(range->digest) == XXH3_64bits(bytes, length));
}

static void what_was_written_last_has_a_digest(void **state)
{
	struct bed *bed = *state;
	g_autoptr(GArray) ranges =
		g_array_new(FALSE, FALSE, sizeof(struct ckpt_verify_range));
	struct fake_request *requests[5];

	ckpt_disk_out_forward(bed->out, TRUE);
	requests[0] = submit(bed, 0, VMM_DISK_WRITE, 0, 4096, 1);
	/* Whoever asks first begins it. */
	ckpt_disk_out_digests(bed->out, ranges);
	assert_int_equal(ranges->len, 0);
	requests[1] = submit(bed, 0, VMM_DISK_WRITE, 8192, 2048, 2);
	requests[2] = submit(bed, 0, VMM_DISK_WRITE, 8704, 512, 3);
	requests[3] = submit(bed, 1, VMM_DISK_ZEROES, 0, (2u << 20) + 512, 0);
	ckpt_disk_out_digests(bed->out, ranges);
	assert_int_equal(ranges->len, 6);
	expect_range(ranges, 0, 0, 8192, 512, 2);
	expect_range(ranges, 1, 0, 8704, 512, 3);
	expect_range(ranges, 2, 0, 9216, 1024, 2);
	expect_range(ranges, 3, 1, 0, 1u << 20, 0);
	expect_range(ranges, 4, 1, 1u << 20, 1u << 20, 0);
	expect_range(ranges, 5, 1, 2u << 20, 512, 0);
	ckpt_disk_out_digests(bed->out, ranges);
	assert_int_equal(ranges->len, 0);
	/* It ends with the link. */
	ckpt_disk_out_forward(bed->out, FALSE);
	ckpt_disk_out_forward(bed->out, TRUE);
	requests[4] = submit(bed, 0, VMM_DISK_WRITE, 0, 512, 4);
	ckpt_disk_out_digests(bed->out, ranges);
	assert_int_equal(ranges->len, 0);
	for (guint i = 0; i < 2; i++)
		fake_disk_complete_all(&bed->fake[i]);
	for (guint i = 0; i < G_N_ELEMENTS(requests); i++)
		fake_request_free(requests[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(nothing_is_sent_until_forwarding_is_on),
		T(writes_of_all_disks_are_numbered_in_one_sequence),
		T(a_long_write_is_sent_in_parts_that_fit_a_message),
		T(what_is_in_flight_when_forwarding_begins_is_sent),
		T(the_disks_errors_reach_the_guest),
		T(what_a_disk_refuses_is_kept_with_all_that_follows),
		T(a_request_that_is_not_of_the_disks_blocks_is_the_guests_mistake),
		T(what_is_kept_can_be_forgotten),
		T(what_is_kept_is_told_to_whoever_keeps_it_next),
		T(what_was_sent_and_forgotten_is_carried_out_before_what_follows),
		T(what_was_not_sent_is_forgotten_by_the_disk_too),
		T(what_was_written_last_has_a_digest),
		T(a_disk_is_freed_with_forgotten_writes_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
