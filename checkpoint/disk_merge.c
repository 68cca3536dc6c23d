/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A promotion's merge. */
#include "checkpoint/disk_merge.h"

#include "checkpoint/fault.h"

struct ckpt_merge {
	ckpt_backlog *backlog;
	struct ckpt_outlet *outlet;
	guint64 *account;
	void (*done)(void *data);
	void *data;
	gboolean sealed, over;
	guint64 serial; /* the last write that is to be durable */
	struct vmm_disk_request *flush; /* at the real disk */
};

static void merge_extent(void *data, struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	ckpt_merge *merge = data;
	gboolean is_whole;

	if (!chunk)
		return;
	is_whole = from == chunk->offset && to == chunk->offset + chunk->len;
	ckpt_chunk_charge(chunk, merge->account);
	ckpt_backlog_add(merge->backlog,
			 is_whole ? ckpt_chunk_ref(chunk)
				  : ckpt_chunk_slice(chunk, from, to - from),
			 NULL);
}

ckpt_merge *ckpt_merge_new(const ckpt_layer *own, ckpt_backlog *backlog,
			   struct ckpt_outlet *outlet, guint64 *account,
			   void (*done)(void *data), void *data)
{
	ckpt_merge *merge = g_new0(ckpt_merge, 1);

	merge->backlog = backlog;
	merge->outlet = outlet;
	merge->account = account;
	merge->done = done;
	merge->data = data;
	ckpt_layer_visit(own, 0, outlet->disk->size, merge_extent, merge);
	return merge;
}

void ckpt_merge_free(ckpt_merge *merge)
{
	if (!merge)
		return;
	if (merge->flush)
		merge->outlet->disk->forget(merge->outlet->disk->data, merge->flush);
	g_free(merge);
}

void ckpt_merge_seal(ckpt_merge *merge)
{
	merge->sealed = TRUE;
	merge->serial = ckpt_backlog_serial(merge->backlog);
	ckpt_fault(CKPT_FAULT_MERGE_BEGUN);
}

static void end(ckpt_merge *merge)
{
	merge->over = TRUE;
	merge->done(merge->data);
}

static void flushed(struct vmm_disk_request *request, int result)
{
	ckpt_merge *merge = request->data;

	g_free(request);
	merge->flush = NULL;
	ckpt_fault(CKPT_FAULT_MERGED);
	if (result < 0)
		ckpt_backlog_fail(merge->backlog, result);
	end(merge);
}

void ckpt_merge_go_on(ckpt_merge *merge)
{
	if (!merge->sealed || merge->over || merge->flush)
		return;
	if (ckpt_backlog_error(merge->backlog) || merge->outlet->disk->readonly) {
		end(merge);
	} else if (ckpt_backlog_is_written(merge->backlog, merge->serial)) {
		ckpt_fault(CKPT_FAULT_MERGE_WRITTEN);
		merge->flush = g_new0(struct vmm_disk_request, 1);
		merge->flush->op = VMM_DISK_FLUSH;
		merge->flush->done = flushed;
		merge->flush->data = merge;
		ckpt_outlet_submit(merge->outlet, merge->flush);
	}
}

gboolean ckpt_merge_is_over(const ckpt_merge *merge)
{
	return merge->over;
}
