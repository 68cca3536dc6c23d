/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes on their way to a real disk.
 *
 * When one is added, whatever it overlaps in the layer must be on the disk first: the layer
 * knows the latest for each byte, which in turn waits for those below it.
 */
#include "checkpoint/disk_backlog.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 4096u
/* Given to the real disk at a time. */
#define WRITES_MAX 32u
#define BYTES_MAX (8u << 20)

struct ckpt_backlog_write {
	struct vmm_disk_request request; /* first: may be freed as this */
	ckpt_backlog *backlog;
	struct ckpt_chunk *chunk;
	guint64 serial;
	GList link; /* in `pending` */
	GList ready_link;
	gboolean at_disk;
	guint below; /* how many must be on the disk first */
	GPtrArray *
		above; /* ckpt_backlog_write: those that wait for this one; may be NULL */
	void *owner; /* may be NULL */
};

struct ckpt_backlog {
	struct ckpt_outlet *outlet;
	struct ckpt_backlog_hooks hooks;
	ckpt_layer *layer;
	guint64 serial; /* of the last write that was added */
	GQueue pending; /* ckpt_backlog_write, by serial: not on the disk yet */
	GQueue ready; /* those that wait for nothing but their turn */
	guint writes_out;
	guint64 bytes_out;
	int failed; /* -errno, final */
};

void ckpt_outlet_submit(struct ckpt_outlet *outlet, struct vmm_disk_request *request)
{
	outlet->disk->submit(outlet->disk->data, request);
	outlet->submitted = TRUE;
}

void ckpt_outlet_settle(struct ckpt_outlet *outlet)
{
	if (!outlet->submitted)
		return;
	outlet->submitted = FALSE;
	outlet->disk->flush_submissions(outlet->disk->data);
}

ckpt_backlog *ckpt_backlog_new(struct ckpt_outlet *outlet,
			       const struct ckpt_backlog_hooks *hooks)
{
	ckpt_backlog *backlog = g_new0(ckpt_backlog, 1);

	backlog->outlet = outlet;
	backlog->hooks = *hooks;
	backlog->layer = ckpt_layer_new();
	return backlog;
}

static void free_write(ckpt_backlog_write *write)
{
	write->chunk->owner = NULL;
	ckpt_chunk_unref(write->chunk);
	if (write->above)
		g_ptr_array_unref(write->above);
	g_free(write);
}

/* At the disk: it takes over what it still reads from. */
static void abandon(ckpt_backlog_write *write)
{
	struct vmm_disk *disk = write->backlog->outlet->disk;
	struct ckpt_chunk *chunk = write->chunk;

	if (write->request.buffer && write->request.buffer == chunk->bytes)
		chunk->bytes = NULL;
	chunk->owner = NULL;
	ckpt_chunk_unref(chunk);
	if (write->above)
		g_ptr_array_unref(write->above);
	disk->forget(disk->data, &write->request);
}

void ckpt_backlog_free(ckpt_backlog *backlog)
{
	GList *link;

	if (!backlog)
		return;
	ckpt_layer_free(backlog->layer);
	while ((link = g_queue_pop_head_link(&backlog->pending))) {
		ckpt_backlog_write *write = link->data;

		g_assert(!write->owner);
		if (write->at_disk)
			abandon(write);
		else
			free_write(write);
	}
	g_free(backlog);
}

static void tell_owner(ckpt_backlog_write *write, int result)
{
	void *owner = g_steal_pointer(&write->owner);

	if (owner)
		write->backlog->hooks.written(write->backlog->hooks.data, owner,
					      result);
}

void ckpt_backlog_fail(ckpt_backlog *backlog, int error)
{
	if (backlog->failed)
		return;
	backlog->failed = error;
	/* Those at the disk come back by themselves. */
	for (GList *l = backlog->pending.head; l; l = l->next) {
		ckpt_backlog_write *write = l->data;

		if (!write->at_disk)
			tell_owner(write, error);
	}
	backlog->hooks.failed(backlog->hooks.data, error);
}

static void release_above(ckpt_backlog *backlog, ckpt_backlog_write *write)
{
	for (guint i = 0; write->above && i < write->above->len; i++) {
		ckpt_backlog_write *above = g_ptr_array_index(write->above, i);

		if (--above->below == 0)
			g_queue_push_tail_link(&backlog->ready, &above->ready_link);
	}
}

static void write_done(struct vmm_disk_request *request, int result)
{
	ckpt_backlog_write *write = (ckpt_backlog_write *)request;
	ckpt_backlog *backlog = write->backlog;

	write->at_disk = FALSE;
	backlog->writes_out--;
	backlog->bytes_out -= write->chunk->bytes ? write->chunk->len : 0;
	if (write->request.buffer != write->chunk->bytes)
		free(write->request.buffer);
	tell_owner(write, result);
	if (result < 0) {
		/* It stays in `pending` and in the layer. */
		ckpt_backlog_fail(backlog, result);
	} else {
		ckpt_layer_remove(backlog->layer, write->chunk);
		g_queue_unlink(&backlog->pending, &write->link);
		release_above(backlog, write);
		free_write(write);
	}
	ckpt_backlog_pump(backlog);
	backlog->hooks.advanced(backlog->hooks.data);
}

static guint8 *copy_aligned(const void *bytes, gsize len)
{
	void *memory = NULL;

	if (posix_memalign(&memory, ALIGNMENT, len))
		g_error("out of memory");
	return memcpy(memory, bytes, len);
}

static void submit_write(ckpt_backlog *backlog, ckpt_backlog_write *write)
{
	const struct ckpt_chunk *chunk = write->chunk;

	write->request = (struct vmm_disk_request){
		.op = chunk->bytes ? VMM_DISK_WRITE : VMM_DISK_ZEROES,
		.offset = chunk->offset,
		.len = chunk->len,
		.unmap = TRUE,
		.done = write_done,
	};
	/* The disk wants it aligned, and at the end free(3) must do for it. */
	if (chunk->bytes)
		write->request.buffer = chunk->whole
						? copy_aligned(chunk->bytes, chunk->len)
						: chunk->bytes;
	write->at_disk = TRUE;
	backlog->writes_out++;
	backlog->bytes_out += chunk->bytes ? chunk->len : 0;
	ckpt_outlet_submit(backlog->outlet, &write->request);
}

void ckpt_backlog_pump(ckpt_backlog *backlog)
{
	while (backlog->ready.length && !backlog->failed &&
	       backlog->writes_out < WRITES_MAX && backlog->bytes_out < BYTES_MAX) {
		GList *link = g_queue_pop_head_link(&backlog->ready);

		submit_write(backlog, link->data);
	}
}

static void wait_for(void *data, struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	ckpt_backlog_write *write = data;
	ckpt_backlog_write *below = chunk ? chunk->owner : NULL;

	if (!below)
		return;
	if (!below->above)
		below->above = g_ptr_array_new();
	else if (below->above->len &&
		 g_ptr_array_index(below->above, below->above->len - 1) == write)
		return;
	g_ptr_array_add(below->above, write);
	write->below++;
}

ckpt_backlog_write *ckpt_backlog_add(ckpt_backlog *backlog,
				     struct ckpt_chunk *chunk_take, void *owner)
{
	ckpt_backlog_write *write = g_new0(ckpt_backlog_write, 1);

	write->backlog = backlog;
	write->chunk = chunk_take;
	write->chunk->owner = write;
	write->serial = ++backlog->serial;
	write->link.data = write->ready_link.data = write;
	write->owner = owner;
	ckpt_layer_visit(backlog->layer, chunk_take->offset, chunk_take->len, wait_for,
			 write);
	ckpt_layer_put(backlog->layer, chunk_take);
	g_queue_push_tail_link(&backlog->pending, &write->link);
	if (!write->below)
		g_queue_push_tail_link(&backlog->ready, &write->ready_link);
	return write;
}

void ckpt_backlog_disown(ckpt_backlog_write *write)
{
	write->owner = NULL;
}

int ckpt_backlog_error(const ckpt_backlog *backlog)
{
	return backlog->failed;
}

const ckpt_layer *ckpt_backlog_layer(const ckpt_backlog *backlog)
{
	return backlog->layer;
}

guint64 ckpt_backlog_serial(const ckpt_backlog *backlog)
{
	return backlog->serial;
}

gboolean ckpt_backlog_is_written(const ckpt_backlog *backlog, guint64 serial)
{
	const ckpt_backlog_write *oldest =
		backlog->pending.head ? backlog->pending.head->data : NULL;

	return !oldest || oldest->serial > serial;
}
