/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk in memory that completes when the test says so. */
#include "tests/unit/fake_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void apply(guint8 *bytes, const struct vmm_disk_request *request)
{
	if (request->op == VMM_DISK_WRITE)
		memcpy(bytes + request->offset, request->buffer, request->len);
	else
		memset(bytes + request->offset, 0, request->len);
}

/* What a flush covers. */
struct covered {
	guint64 number; /* of the flush: a later one covers more, whichever completes
			   last */
	guint8 bytes[];
};

static struct covered *cover(struct fake_disk *fake)
{
	struct covered *covered = g_malloc(sizeof(*covered) + fake->disk.size);

	covered->number = ++fake->flushes_submitted;
	memcpy(covered->bytes, fake->told, fake->disk.size);
	return covered;
}

static void make_durable(struct fake_disk *fake, const struct covered *covered)
{
	fake->flushes++;
	if (covered->number < fake->durable_number)
		return;
	fake->durable_number = covered->number;
	memcpy(fake->durable, covered->bytes, fake->disk.size);
}

static void carry_out(struct fake_disk *fake, struct vmm_disk_request *request)
{
	switch (request->op) {
	case VMM_DISK_READ:
		memcpy(request->buffer, fake->bytes + request->offset, request->len);
		break;
	case VMM_DISK_FLUSH:
		make_durable(fake, g_hash_table_lookup(fake->flushing, request));
		break;
	case VMM_DISK_WRITE:
	case VMM_DISK_DISCARD:
	case VMM_DISK_ZEROES:
		apply(fake->bytes, request);
		fake->writes++;
		break;
	}
}

static int result_of(const struct fake_disk *fake,
		     const struct vmm_disk_request *request)
{
	if (fake->result || request->op == VMM_DISK_READ ||
	    request->op == VMM_DISK_FLUSH)
		return fake->result;
	return fake->write_result;
}

static void submit(void *data, struct vmm_disk_request *request)
{
	struct fake_disk *fake = data;

	assert_true(request->op == VMM_DISK_FLUSH ||
		    (request->len && request->len % fake->disk.block_size == 0 &&
		     request->offset % fake->disk.block_size == 0 &&
		     request->offset + request->len <= fake->disk.size));
	assert_true(!fake->disk.readonly || request->op == VMM_DISK_READ ||
		    request->op == VMM_DISK_FLUSH);
	assert_int_equal((guintptr)request->buffer % 4096, 0);
	request->handle = fake;
	if (request->op == VMM_DISK_FLUSH)
		g_hash_table_insert(fake->flushing, request, cover(fake));
	else if (fake->rand && g_rand_boolean(fake->rand) &&
		 !result_of(fake, request)) {
		/* At the disk at once, told late. */
		carry_out(fake, request);
		g_hash_table_add(fake->early, request);
	}
	g_ptr_array_add(fake->waiting, request);
}

static void flush_submissions(void *data)
{
	((struct fake_disk *)data)->submissions++;
}

static void let_go(struct fake_disk *fake, struct vmm_disk_request *request)
{
	g_hash_table_remove(fake->flushing, request);
	g_hash_table_remove(fake->early, request);
}

static void forget(void *data, struct vmm_disk_request *request)
{
	struct fake_disk *fake = data;

	assert_true(request->handle == fake);
	assert_true(g_ptr_array_remove(fake->waiting, request));
	fake->forgotten++;
	if (fake->rand && request->op != VMM_DISK_FLUSH && g_rand_boolean(fake->rand))
		carry_out(fake, request);
	let_go(fake, request);
	free(request->buffer);
	g_free(request);
}

static void free_disk(void *data)
{
	((struct fake_disk *)data)->freed = TRUE;
}

static gboolean read_now(void *data, guint64 offset, void *bytes, gsize len, GError **error)
{
	struct fake_disk *fake = data;

	memcpy(bytes, fake->bytes + offset, len);
	return TRUE;
}

void fake_disk_init(struct fake_disk *fake, guint64 size, gboolean readonly)
{
	*fake = (struct fake_disk){
		.bytes = g_malloc0(size),
		.told = g_malloc0(size),
		.durable = g_malloc0(size),
		.waiting = g_ptr_array_new(),
		.flushing = g_hash_table_new_full(NULL, NULL, NULL, g_free),
		.early = g_hash_table_new(NULL, NULL),
		.disk = {
			.data = fake,
			.size = size,
			.readonly = readonly,
			.block_size = VMM_SECTOR,
			.can_discard = !readonly,
			.can_zero = !readonly,
			.submit = submit,
			.flush_submissions = flush_submissions,
			.forget = forget,
			.free = free_disk,
		},
	};
}

void fake_disk_let_read_now(struct fake_disk *fake)
{
	fake->disk.read_now = read_now;
}

void fake_disk_clear(struct fake_disk *fake)
{
	assert_true(fake->freed);
	assert_int_equal(fake->waiting->len, 0);
	g_ptr_array_unref(fake->waiting);
	g_hash_table_unref(fake->flushing);
	g_hash_table_unref(fake->early);
	g_free(fake->bytes);
	g_free(fake->told);
	g_free(fake->durable);
}

void fake_disk_complete(struct fake_disk *fake, guint index)
{
	struct vmm_disk_request *request =
		g_ptr_array_steal_index(fake->waiting, index);
	int result = result_of(fake, request);

	if (g_hash_table_contains(fake->early, request))
		result = 0;
	else if (result == 0)
		carry_out(fake, request);
	if (result == 0 && request->op != VMM_DISK_READ &&
	    request->op != VMM_DISK_FLUSH)
		apply(fake->told, request);
	let_go(fake, request);
	request->handle = NULL;
	request->done(request, result);
	if (fake->disk.batch_done)
		fake->disk.batch_done(fake->disk.user);
}

void fake_disk_complete_all(struct fake_disk *fake)
{
	while (fake->waiting->len)
		fake_disk_complete(fake, 0);
}

static void request_done(struct vmm_disk_request *request, int result)
{
	struct fake_request *fake = (struct fake_request *)request;

	if (fake->is_done) {
		assert_false(*fake->is_done);
		*fake->is_done = TRUE;
	}
	if (fake->result)
		*fake->result = result;
}

struct fake_request *fake_request_new(enum vmm_disk_op op, guint64 offset, guint64 len)
{
	struct fake_request *fake = g_new0(struct fake_request, 1);
	void *buffer = NULL;

	fake->request.op = op;
	fake->request.offset = offset;
	fake->request.len = len;
	fake->request.done = request_done;
	if (op == VMM_DISK_READ || op == VMM_DISK_WRITE) {
		assert_int_equal(posix_memalign(&buffer, 4096, len), 0);
		fake->request.buffer = memset(buffer, 0xee, len);
	}
	return fake;
}

void fake_request_free(struct fake_request *fake)
{
	free(fake->request.buffer);
	g_free(fake);
}
