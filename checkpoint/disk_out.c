/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's disks.
 *
 * Each request gets one of its own for the disk below, so that a write can outlive the
 * guest's, and a refusal can be kept. A write that was sent and is then forgotten becomes
 * an orphan; as long as there are orphans, whatever is submitted waits here, unsent, since
 * the disk below has no order among requests.
 */
#include "checkpoint/disk_out.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoint/disk_layer.h"

struct disk {
	struct vmm_disk disk;
	struct vmm_disk *real;
	ckpt_disk_out *out;
	guint index;
	GQueue writes; /* struct op at the disk below, in the order submitted */
	GQueue kept; /* struct op: refused, or not given to a disk that refused another */
	GQueue waiting; /* struct vmm_disk_request: until there are no orphans */
	guint orphans;
	struct ckpt_disk_watcher watcher;
	ckpt_layer *recent; /* since the last digests; NULL: nobody asks for any */
};

struct op {
	struct vmm_disk_request request; /* first: the disk below may free it as this */
	struct disk *disk;
	GList link; /* of a write in `writes`, or in `kept` */
	struct vmm_disk_request *asked; /* the guest's; NULL: an orphan */
	gboolean sent, kept;
	int result; /* of one that is kept; 0: the disk was not asked */
};

struct ckpt_disk_out {
	ckpt_disk_send_fn send;
	void *data;
	gboolean on, keeps;
	ckpt_disk_kept_fn kept;
	guint64 number;
	struct disk *disks[VMM_DISKS_MAX];
	guint64 recent_bytes;
};

static gboolean is_write(enum vmm_disk_op op)
{
	return op != VMM_DISK_READ && op != VMM_DISK_FLUSH;
}

static void remember(struct disk *disk, const struct vmm_disk_request *request)
{
	struct ckpt_chunk *chunk =
		ckpt_chunk_new(request->offset, request->len,
			       request->op == VMM_DISK_WRITE ? request->buffer : NULL,
			       &disk->out->recent_bytes);

	ckpt_layer_put(disk->recent, chunk);
	ckpt_chunk_unref(chunk);
}

static void send_write(struct op *write)
{
	const struct vmm_disk_request *request = &write->request;
	struct disk *disk = write->disk;
	ckpt_disk_out *out = disk->out;
	gboolean has_data = request->op == VMM_DISK_WRITE;
	guint64 done = 0;

	write->sent = TRUE;
	while (done < request->len) {
		guint64 len = request->len - done;
		struct ckpt_disk_head head = {
			.number = wire_put64(++out->number),
			.disk = (guint8)disk->index,
			.op = (guint8)request->op,
			.unmap = request->unmap != FALSE,
		};

		if (has_data)
			len = MIN(len, CKPT_DISK_DATA_MAX);
		head.offset = wire_put64(request->offset + done);
		head.length = wire_put64(len);
		out->send(out->data, &head, has_data ? request->buffer + done : NULL);
		done += len;
	}
	if (disk->watcher.wrote)
		disk->watcher.wrote(disk->watcher.data, request->offset, request->len);
	if (disk->recent)
		remember(disk, request);
}

static void tell_kept(struct disk *disk)
{
	const struct op *first = g_queue_peek_head(&disk->kept);

	disk->out->kept(disk->out->data, disk->index, first->asked, first->result);
}

static void keep(struct op *op, int result)
{
	struct disk *disk = op->disk;

	op->kept = TRUE;
	op->result = result;
	g_queue_push_tail_link(&disk->kept, &op->link);
	if (disk->kept.length == 1)
		tell_kept(disk);
}

static void op_done(struct vmm_disk_request *request, int result)
{
	struct op *op = (struct op *)request;
	struct vmm_disk_request *asked = op->asked;
	struct disk *disk = op->disk;

	if (is_write(request->op))
		g_queue_unlink(&disk->writes, &op->link);
	if (asked && result < 0 && disk->out->keeps && vmm_disk_is_whole(&disk->disk, request)) {
		keep(op, result);
		return;
	}
	if (!asked) {
		disk->orphans--;
		free(op->request.buffer);
	}
	g_free(op);
	if (asked) {
		asked->handle = NULL;
		asked->done(asked, result);
	}
}

static void pass(struct disk *disk, struct vmm_disk_request *asked)
{
	struct op *op = g_new0(struct op, 1);

	op->request = *asked;
	op->request.done = op_done;
	op->request.data = op->request.handle = NULL;
	op->disk = disk;
	op->link.data = op;
	op->asked = asked;
	asked->handle = op;
	if (disk->kept.length && disk->out->keeps) {
		keep(op, 0);
		return;
	}
	if (is_write(asked->op)) {
		g_queue_push_tail_link(&disk->writes, &op->link);
		if (disk->out->on)
			send_write(op);
	}
	disk->real->submit(disk->real->data, &op->request);
}

static void submit(void *data, struct vmm_disk_request *asked)
{
	struct disk *disk = data;

	if (!disk->orphans && !disk->waiting.length) {
		pass(disk, asked);
		return;
	}
	asked->handle = NULL;
	g_queue_push_tail(&disk->waiting, asked);
}

static void flush_submissions(void *data)
{
	struct disk *disk = data;

	disk->real->flush_submissions(disk->real->data);
}

static void on_batch_done(void *user)
{
	struct disk *disk = user;

	if (!disk->orphans && disk->waiting.length) {
		while (disk->waiting.length)
			pass(disk, g_queue_pop_head(&disk->waiting));
		flush_submissions(disk);
	}
	if (disk->watcher.batch_done)
		disk->watcher.batch_done(disk->watcher.data);
	if (disk->disk.batch_done)
		disk->disk.batch_done(disk->disk.user);
}

static void forget(void *data, struct vmm_disk_request *asked)
{
	struct disk *disk = data;
	struct op *op;

	if (g_queue_remove(&disk->waiting, asked)) {
		free(asked->buffer);
		g_free(asked);
		return;
	}
	op = asked->handle;
	g_free(asked);
	if (op->kept) {
		g_queue_unlink(&disk->kept, &op->link);
		free(op->request.buffer);
		g_free(op);
		return;
	}
	if (op->sent) {
		op->asked = NULL;
		disk->orphans++;
		return;
	}
	if (is_write(op->request.op))
		g_queue_unlink(&disk->writes, &op->link);
	disk->real->forget(disk->real->data, &op->request);
}

static void answer_kept(struct disk *disk)
{
	GList *link;

	if (!disk->kept.length)
		return;
	/* What comes of it may be submitted again, or make others be forgotten. */
	while ((link = g_queue_pop_head_link(&disk->kept))) {
		struct op *op = link->data;
		struct vmm_disk_request *asked = op->asked;
		int result = op->result;

		g_free(op);
		asked->handle = NULL;
		if (result)
			asked->done(asked, result);
		else
			submit(disk, asked);
	}
	flush_submissions(disk);
	if (disk->disk.batch_done)
		disk->disk.batch_done(disk->disk.user);
}

static void free_disk(void *data)
{
	struct disk *disk = data;
	GList *link;

	g_assert(!disk->waiting.length && !disk->kept.length &&
		 disk->writes.length == disk->orphans);
	/* There is nobody left to whom their order matters. */
	while ((link = g_queue_pop_head_link(&disk->writes))) {
		struct op *write = link->data;

		disk->real->forget(disk->real->data, &write->request);
	}
	disk->out->disks[disk->index] = NULL;
	ckpt_layer_free(disk->recent);
	disk->real->free(disk->real->data);
	g_free(disk);
}

ckpt_disk_out *ckpt_disk_out_new(ckpt_disk_send_fn send, void *data)
{
	ckpt_disk_out *out = g_new0(ckpt_disk_out, 1);

	out->send = send;
	out->data = data;
	return out;
}

void ckpt_disk_out_free(ckpt_disk_out *out)
{
	if (!out)
		return;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		g_assert(!out->disks[i]);
	g_free(out);
}

static gboolean sync_below(void *data, GError **error)
{
	struct disk *disk = data;

	return disk->real->sync(disk->real->data, error);
}

struct vmm_disk *ckpt_disk_out_new_take(struct vmm_disk *real_take, guint index,
					ckpt_disk_out *out)
{
	struct disk *disk = g_new0(struct disk, 1);

	g_assert(index < VMM_DISKS_MAX && !out->disks[index]);
	disk->disk = *real_take;
	disk->disk.data = disk;
	/* A discard reads as zeroes on the secondary, for which it must be able to
	 * zero. */
	disk->disk.can_discard = real_take->can_discard && real_take->can_zero;
	disk->disk.submit = submit;
	disk->disk.flush_submissions = flush_submissions;
	disk->disk.forget = forget;
	disk->disk.serve_at_rest = NULL;
	disk->disk.sync = real_take->sync ? sync_below : NULL;
	disk->disk.read_now = NULL;
	disk->disk.free = free_disk;
	disk->disk.batch_done = NULL;
	disk->disk.user = NULL;
	disk->real = real_take;
	disk->out = out;
	disk->index = index;
	real_take->batch_done = on_batch_done;
	real_take->user = disk;
	out->disks[index] = disk;
	return &disk->disk;
}

void ckpt_disk_out_forward(ckpt_disk_out *out, gboolean on)
{
	if (out->on == on)
		return;
	out->on = on;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		if (out->disks[i])
			g_clear_pointer(&out->disks[i]->recent, ckpt_layer_free);
	if (!on)
		return;
	out->number = 0;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		for (GList *l = out->disks[i] ? out->disks[i]->writes.head : NULL; l;
		     l = l->next)
			send_write(l->data);
}

void ckpt_disk_out_keep(ckpt_disk_out *out, ckpt_disk_kept_fn kept)
{
	out->keeps = kept != NULL;
	out->kept = kept;
	for (guint i = 0; kept && i < VMM_DISKS_MAX; i++)
		if (out->disks[i] && out->disks[i]->kept.length)
			tell_kept(out->disks[i]);
}

void ckpt_disk_out_answer_kept(ckpt_disk_out *out)
{
	for (guint i = 0; !out->keeps && i < VMM_DISKS_MAX; i++)
		if (out->disks[i])
			answer_kept(out->disks[i]);
}

guint64 ckpt_disk_out_number(const ckpt_disk_out *out)
{
	return out->number;
}

void ckpt_disk_out_watch(ckpt_disk_out *out, guint index,
			 const struct ckpt_disk_watcher *watcher)
{
	struct disk *disk = out->disks[index];

	if (watcher)
		disk->watcher = *watcher;
	else
		memset(&disk->watcher, 0, sizeof(disk->watcher));
}

void ckpt_disk_out_show_in_flight(ckpt_disk_out *out, guint index)
{
	const struct disk *disk = out->disks[index];

	for (const GList *l = disk->writes.head; l; l = l->next) {
		const struct op *write = l->data;

		disk->watcher.wrote(disk->watcher.data, write->request.offset,
				    write->request.len);
	}
}

struct vmm_disk *ckpt_disk_out_below(ckpt_disk_out *out, guint index)
{
	return out->disks[index] ? out->disks[index]->real : NULL;
}

struct digesting {
	guint8 disk;
	GArray *ranges;
};

static void digest_extent(void *data, struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	static const guint8 zeroes[CKPT_VERIFY_RANGE_MAX];
	const struct digesting *digesting = data;

	while (chunk && from < to && digesting->ranges->len < CKPT_VERIFY_RANGES_MAX) {
		guint32 length = (guint32)MIN(to - from, CKPT_VERIFY_RANGE_MAX);
		const guint8 *bytes =
			chunk->bytes ? chunk->bytes + (from - chunk->offset) : zeroes;
		struct ckpt_verify_range range = {
			.offset = wire_put64(from),
			.digest = wire_put64(XXH3_64bits(bytes, length)),
			.length = wire_put32(length),
			.disk = digesting->disk,
		};

		g_array_append_val(digesting->ranges, range);
		from += length;
	}
}

void ckpt_disk_out_digests(ckpt_disk_out *out, GArray *ranges)
{
	g_array_set_size(ranges, 0);
	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct disk *disk = out->disks[i];
		struct digesting digesting = { (guint8)i, ranges };

		if (!disk)
			continue;
		if (disk->recent)
			ckpt_layer_visit(disk->recent, 0, disk->disk.size, digest_extent,
					 &digesting);
		else
			disk->recent = ckpt_layer_new();
		ckpt_layer_clear(disk->recent);
	}
}
