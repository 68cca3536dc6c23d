/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first sync of a disk: why the order is right stands in the header. */
#include "checkpoint/disk_sync.h"

#include <stdlib.h>
#include <string.h>
/* Not the plain functions: see digest.c. All of it is done with the device lock. */
#include <xxh_x86dispatch.h>

#define ALIGNMENT 4096u
#define SECTORS (CKPT_SYNC_PIECE / VMM_SECTOR)
/* Secondary: what of the sync's data is not on the disk yet. Over the first the answers
 * wait; a primary that keeps to the window stays below the second. */
#define WRITING_MAX (8u << 20)
#define ARRIVED_MAX (32u << 20)
G_STATIC_ASSERT(WRITING_MAX + (CKPT_SYNC_WINDOW + 1) * CKPT_SYNC_PIECE < ARRIVED_MAX);
G_STATIC_ASSERT(CKPT_SYNC_BLOCKS == 16); /* bits in a head */
G_STATIC_ASSERT(CKPT_SECRET >= XXH3_SECRET_SIZE_MIN);

/* Primary. */

struct piece {
	struct vmm_disk_request request; /* first: the disk may free it as this */
	ckpt_disk_sync_out *sync;
	GList link; /* in `pieces` */
	gboolean reading;
	guint8 overtaken[SECTORS / 8]; /* by a forwarded write */
};

struct ckpt_disk_sync_out {
	ckpt_disk_out *out;
	guint index;
	struct vmm_disk *disk;
	struct ckpt_sync_hooks hooks;
	guint8 secret[CKPT_SECRET];
	GQueue pieces; /* struct piece, in the order begun */
	guint64 next; /* where the next one begins */
	gboolean failed, differs;
	guint64 differs_at;
	struct ckpt_disk_sync_counters counters;
};

static guint8 *new_buffer(gsize len)
{
	void *memory = NULL;

	if (posix_memalign(&memory, ALIGNMENT, len))
		g_error("out of memory");
	return memory;
}

/* `digests` has room for CKPT_SYNC_BLOCKS. Returns how many there are. */
static guint digest(const guint8 *secret, const guint8 *bytes, guint64 len,
		    struct ckpt_sync_digest *digests)
{
	guint n = 0;

	for (guint64 at = 0; at < len; at += CKPT_SYNC_BLOCK) {
		XXH128_hash_t hash = XXH3_128bits_withSecret(
			bytes + at, MIN(CKPT_SYNC_BLOCK, len - at), secret,
			CKPT_SECRET);

		digests[n++] = (struct ckpt_sync_digest){ wire_put64(hash.low64),
							  wire_put64(hash.high64) };
	}
	return n;
}

static gboolean is_zero(const guint8 *bytes, gsize len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static void on_wrote(void *data, guint64 offset, guint64 len)
{
	ckpt_disk_sync_out *sync = data;

	for (GList *l = sync->pieces.head; l; l = l->next) {
		struct piece *piece = l->data;
		guint64 start = piece->request.offset;
		guint64 from = MAX(offset, start);
		guint64 to = MIN(offset + len, start + piece->request.len);

		for (; from < to; from += VMM_SECTOR) {
			guint64 sector = (from - start) / VMM_SECTOR;

			piece->overtaken[sector / 8] |= (guint8)(1u << sector % 8);
		}
	}
}

static gboolean is_overtaken(const struct piece *piece, guint64 at)
{
	guint64 sector = at / VMM_SECTOR;

	return piece->overtaken[sector / 8] >> sector % 8 & 1;
}

static void free_piece(struct piece *piece)
{
	g_queue_unlink(&piece->sync->pieces, &piece->link);
	free(piece->request.buffer);
	g_free(piece);
}

static void fail_out(ckpt_disk_sync_out *sync, int result)
{
	if (sync->failed)
		return;
	sync->failed = TRUE;
	sync->hooks.failed(sync->hooks.data, result);
}

static void send_out(ckpt_disk_sync_out *sync, const struct ckpt_sync_head *head,
		     const void *payload, gsize len)
{
	sync->counters.wire += sizeof(struct wire_frame) + sizeof(*head) + len;
	sync->hooks.send(sync->hooks.data, head, payload, len);
}

static void piece_read(struct vmm_disk_request *request, int result)
{
	struct piece *piece = (struct piece *)request;
	ckpt_disk_sync_out *sync = piece->sync;
	struct ckpt_sync_digest digests[CKPT_SYNC_BLOCKS];
	struct ckpt_sync_head head = {
		.kind = CKPT_SYNC_DIGESTS,
		.disk = (guint8)sync->index,
		.length = wire_put32((guint32)request->len),
		.offset = wire_put64(request->offset),
	};
	guint n;

	piece->reading = FALSE;
	if (result < 0 || sync->failed) {
		free_piece(piece);
		fail_out(sync, result);
		return;
	}
	n = digest(sync->secret, request->buffer, request->len, digests);
	send_out(sync, &head, digests, n * sizeof(digests[0]));
}

ckpt_disk_sync_out *ckpt_disk_sync_out_new(ckpt_disk_out *out, guint index,
					   const guint8 secret[CKPT_SECRET],
					   const struct ckpt_sync_hooks *hooks)
{
	ckpt_disk_sync_out *sync = g_new0(ckpt_disk_sync_out, 1);
	struct ckpt_disk_watcher watcher = { sync, on_wrote };

	sync->out = out;
	sync->index = index;
	sync->disk = ckpt_disk_out_below(out, index);
	sync->hooks = *hooks;
	sync->counters.total = sync->disk->size;
	memcpy(sync->secret, secret, CKPT_SECRET);
	ckpt_disk_out_watch(out, index, &watcher);
	return sync;
}

void ckpt_disk_sync_out_free(ckpt_disk_sync_out *sync)
{
	struct piece *piece;

	if (!sync)
		return;
	ckpt_disk_out_watch(sync->out, sync->index, NULL);
	while ((piece = g_queue_peek_head(&sync->pieces))) {
		if (!piece->reading) {
			free_piece(piece);
			continue;
		}
		g_queue_unlink(&sync->pieces, &piece->link);
		sync->disk->forget(sync->disk->data, &piece->request);
	}
	g_free(sync);
}

gboolean ckpt_disk_sync_out_step(ckpt_disk_sync_out *sync)
{
	struct piece *piece;

	if (sync->failed || sync->next == sync->disk->size ||
	    sync->pieces.length == CKPT_SYNC_WINDOW)
		return FALSE;
	piece = g_new0(struct piece, 1);
	piece->sync = sync;
	piece->link.data = piece;
	piece->reading = TRUE;
	piece->request.op = VMM_DISK_READ;
	piece->request.offset = sync->next;
	piece->request.len = MIN(CKPT_SYNC_PIECE, sync->disk->size - sync->next);
	piece->request.buffer = new_buffer(piece->request.len);
	piece->request.done = piece_read;
	sync->next += piece->request.len;
	sync->counters.begun = sync->next;
	g_queue_push_tail_link(&sync->pieces, &piece->link);
	ckpt_disk_out_show_in_flight(sync->out, sync->index);
	sync->disk->submit(sync->disk->data, &piece->request);
	sync->disk->flush_submissions(sync->disk->data);
	return TRUE;
}

/* From `from` to `to` of a piece, within one block. */
static void send_range(const struct piece *piece, guint64 from, guint64 to)
{
	ckpt_disk_sync_out *sync = piece->sync;
	const guint8 *bytes = piece->request.buffer + from;
	gboolean zeroes = sync->disk->can_zero && is_zero(bytes, to - from);
	struct ckpt_sync_head head = {
		.kind = zeroes ? CKPT_SYNC_ZEROES : CKPT_SYNC_DATA,
		.disk = (guint8)sync->index,
		.length = wire_put32((guint32)(to - from)),
		.offset = wire_put64(piece->request.offset + from),
	};

	if (zeroes)
		sync->counters.zeroes += to - from;
	else
		sync->counters.data += to - from;
	send_out(sync, &head, zeroes ? NULL : bytes, zeroes ? 0 : to - from);
}

static void send_block(const struct piece *piece, guint64 from, guint64 to)
{
	while (from < to) {
		guint64 end = from + VMM_SECTOR;
		gboolean overtaken = is_overtaken(piece, from);

		while (end < to && is_overtaken(piece, end) == overtaken)
			end += VMM_SECTOR;
		if (overtaken)
			piece->sync->counters.overtaken += end - from;
		else
			send_range(piece, from, end);
		from = end;
	}
}

static void send_different(const struct piece *piece, guint blocks)
{
	ckpt_disk_sync_out *sync = piece->sync;
	guint64 len = piece->request.len;

	if (blocks && sync->disk->readonly && !sync->differs) {
		sync->differs = TRUE;
		sync->differs_at = piece->request.offset +
				   (guint64)__builtin_ctz(blocks) * CKPT_SYNC_BLOCK;
	}
	for (guint i = 0; i * CKPT_SYNC_BLOCK < len; i++) {
		guint64 from = i * CKPT_SYNC_BLOCK;
		guint64 to = MIN(from + CKPT_SYNC_BLOCK, len);

		if (!(blocks >> i & 1))
			sync->counters.equal += to - from;
		else if (!sync->disk->readonly)
			send_block(piece, from, to);
	}
}

static struct piece *find_piece(const ckpt_disk_sync_out *sync,
				const struct ckpt_sync_head *head)
{
	for (GList *l = sync->pieces.head; l; l = l->next) {
		struct piece *piece = l->data;

		if (!piece->reading &&
		    piece->request.offset == wire_get64(head->offset) &&
		    piece->request.len == wire_get32(head->length))
			return piece;
	}
	return NULL;
}

gboolean ckpt_disk_sync_out_take(ckpt_disk_sync_out *sync,
				 const struct ckpt_sync_head *head, gsize len,
				 const char **why)
{
	struct piece *piece = find_piece(sync, head);
	guint blocks = wire_get16(head->blocks);
	guint n;

	*why = NULL;
	if (head->kind != CKPT_SYNC_DIFFER || head->disk != sync->index || len)
		*why = "what a disk's first sync got is no answer of its secondary";
	else if (!piece)
		*why = "an answer is to no piece of the disk that was sent";
	if (*why)
		return FALSE;
	n = (guint)((piece->request.len + CKPT_SYNC_BLOCK - 1) / CKPT_SYNC_BLOCK);
	if (blocks >> n) {
		*why = "an answer names blocks that are not in the piece";
		return FALSE;
	}
	send_different(piece, blocks);
	sync->counters.done += piece->request.len;
	free_piece(piece);
	if (sync->hooks.progress)
		sync->hooks.progress(sync->hooks.data);
	return TRUE;
}

gboolean ckpt_disk_sync_out_is_complete(const ckpt_disk_sync_out *sync)
{
	return sync->counters.done == sync->counters.total;
}

gboolean ckpt_disk_sync_out_differs(const ckpt_disk_sync_out *sync, guint64 *at)
{
	*at = sync->differs_at;
	return sync->differs;
}

void ckpt_disk_sync_out_get_counters(const ckpt_disk_sync_out *sync,
				     struct ckpt_disk_sync_counters *counters)
{
	*counters = sync->counters;
}

/* Secondary. */

/* A piece to be compared, or data to be written. */
struct job {
	struct vmm_disk_request request; /* first: the disk may free it as this */
	ckpt_disk_sync_in *sync;
	GList link; /* in `waiting` or `out` */
	struct ckpt_sync_digest digests[CKPT_SYNC_BLOCKS]; /* the primary's */
};

struct ckpt_disk_sync_in {
	struct vmm_disk *base;
	guint index;
	struct ckpt_sync_hooks hooks;
	guint8 secret[CKPT_SECRET];
	GQueue waiting; /* struct job: reads whose turn has not come */
	GQueue out; /* struct job: at the disk */
	guint reads_out;
	guint64 bytes_out; /* of writes */
	gboolean failed, submitted;
};

static void submit(struct job *job)
{
	ckpt_disk_sync_in *sync = job->sync;

	g_queue_push_tail_link(&sync->out, &job->link);
	sync->base->submit(sync->base->data, &job->request);
	sync->submitted = TRUE;
}

static void start_reads(ckpt_disk_sync_in *sync)
{
	while (sync->waiting.length && sync->bytes_out < WRITING_MAX && !sync->failed) {
		GList *link = g_queue_pop_head_link(&sync->waiting);

		sync->reads_out++;
		submit(link->data);
	}
}

static void settle_in(ckpt_disk_sync_in *sync)
{
	if (!sync->submitted)
		return;
	sync->submitted = FALSE;
	sync->base->flush_submissions(sync->base->data);
}

static void on_batch_done(void *user)
{
	start_reads(user);
	settle_in(user);
}

/* At the end of a job: TRUE if it succeeded. */
static gboolean end(struct job *job, int result)
{
	ckpt_disk_sync_in *sync = job->sync;

	g_queue_unlink(&sync->out, &job->link);
	if (result == 0)
		return TRUE;
	if (!sync->failed) {
		sync->failed = TRUE;
		sync->hooks.failed(sync->hooks.data, result);
	}
	return FALSE;
}

static void free_job(struct job *job)
{
	free(job->request.buffer);
	g_free(job);
}

static void job_written(struct vmm_disk_request *request, int result)
{
	struct job *job = (struct job *)request;

	job->sync->bytes_out -= request->len;
	end(job, result);
	free_job(job);
}

static void answer(const struct job *job)
{
	ckpt_disk_sync_in *sync = job->sync;
	struct ckpt_sync_digest own[CKPT_SYNC_BLOCKS];
	guint n = digest(sync->secret, job->request.buffer, job->request.len, own);
	struct ckpt_sync_head head = {
		.kind = CKPT_SYNC_DIFFER,
		.disk = (guint8)sync->index,
		.length = wire_put32((guint32)job->request.len),
		.offset = wire_put64(job->request.offset),
	};
	guint blocks = 0;

	for (guint i = 0; i < n; i++)
		if (memcmp(&own[i], &job->digests[i], sizeof(own[i])) != 0)
			blocks |= 1u << i;
	head.blocks = wire_put16((guint16)blocks);
	sync->hooks.send(sync->hooks.data, &head, NULL, 0);
}

static void job_read(struct vmm_disk_request *request, int result)
{
	struct job *job = (struct job *)request;

	job->sync->reads_out--;
	if (end(job, result))
		answer(job);
	free_job(job);
}

ckpt_disk_sync_in *ckpt_disk_sync_in_new(struct vmm_disk *base, guint index,
					 const guint8 secret[CKPT_SECRET],
					 const struct ckpt_sync_hooks *hooks)
{
	ckpt_disk_sync_in *sync = g_new0(ckpt_disk_sync_in, 1);

	sync->base = base;
	sync->index = index;
	sync->hooks = *hooks;
	memcpy(sync->secret, secret, CKPT_SECRET);
	base->batch_done = on_batch_done;
	base->user = sync;
	return sync;
}

void ckpt_disk_sync_in_free(ckpt_disk_sync_in *sync)
{
	GList *link;

	if (!sync)
		return;
	while ((link = g_queue_pop_head_link(&sync->waiting)))
		free_job(link->data);
	while ((link = g_queue_pop_head_link(&sync->out))) {
		struct job *job = link->data;

		sync->base->forget(sync->base->data, &job->request);
	}
	sync->base->batch_done = NULL;
	sync->base->user = NULL;
	g_free(sync);
}

/* NULL, or what is wrong with it. */
static const char *judge_digests(const ckpt_disk_sync_in *sync, guint64 offset,
				 guint64 length, gsize len)
{
	if (offset % CKPT_SYNC_PIECE ||
	    length != MIN(CKPT_SYNC_PIECE, sync->base->size - offset))
		return "digests are not those of a piece of the disk";
	if (len != (length + CKPT_SYNC_BLOCK - 1) / CKPT_SYNC_BLOCK *
			   sizeof(struct ckpt_sync_digest))
		return "digests do not go with the length of their piece";
	if (sync->waiting.length + sync->reads_out >= CKPT_SYNC_WINDOW)
		return "more pieces of a disk come at a time than were agreed";
	return NULL;
}

static const char *judge_data(const ckpt_disk_sync_in *sync, enum ckpt_sync_kind kind,
			      guint64 length, gsize len)
{
	if (sync->base->readonly)
		return "a disk's data is for one that is read-only";
	if (length > CKPT_SYNC_BLOCK || len != (kind == CKPT_SYNC_DATA ? length : 0))
		return "a disk's data has not its length";
	if (kind == CKPT_SYNC_ZEROES && !sync->base->can_zero)
		return "a disk's zeroes are for one that cannot zero";
	if (sync->bytes_out + length > ARRIVED_MAX)
		return "more data of a disk comes at a time than was agreed";
	return NULL;
}

static const char *judge(const ckpt_disk_sync_in *sync,
			 const struct ckpt_sync_head *head, gsize len)
{
	guint64 offset = wire_get64(head->offset), length = wire_get32(head->length);

	if (head->disk != sync->index || wire_get16(head->blocks))
		return "a piece is for no disk that is being synced";
	if (!length || offset > sync->base->size ||
	    length > sync->base->size - offset ||
	    (offset | length) % sync->base->block_size)
		return "a piece is not inside the disk, or not made of its blocks";
	if (head->kind == CKPT_SYNC_DIGESTS)
		return judge_digests(sync, offset, length, len);
	if (head->kind == CKPT_SYNC_DATA || head->kind == CKPT_SYNC_ZEROES)
		return judge_data(sync, head->kind, length, len);
	return "a piece is of an unknown kind";
}

static struct job *new_job(ckpt_disk_sync_in *sync, const struct ckpt_sync_head *head)
{
	struct job *job = g_new0(struct job, 1);

	job->sync = sync;
	job->link.data = job;
	job->request.offset = wire_get64(head->offset);
	job->request.len = wire_get32(head->length);
	return job;
}

static void compare(ckpt_disk_sync_in *sync, const struct ckpt_sync_head *head,
		    const void *payload, gsize len)
{
	struct job *job = new_job(sync, head);

	memcpy(job->digests, payload, len);
	job->request.op = VMM_DISK_READ;
	job->request.buffer = new_buffer(job->request.len);
	job->request.done = job_read;
	g_queue_push_tail_link(&sync->waiting, &job->link);
	start_reads(sync);
}

static void write_data(ckpt_disk_sync_in *sync, const struct ckpt_sync_head *head,
		       const void *payload)
{
	struct job *job = new_job(sync, head);

	job->request.op = VMM_DISK_ZEROES;
	if (head->kind == CKPT_SYNC_DATA) {
		job->request.op = VMM_DISK_WRITE;
		job->request.buffer = new_buffer(job->request.len);
		memcpy(job->request.buffer, payload, job->request.len);
	}
	job->request.unmap = TRUE;
	job->request.done = job_written;
	sync->bytes_out += job->request.len;
	submit(job);
}

gboolean ckpt_disk_sync_in_take(ckpt_disk_sync_in *sync,
				const struct ckpt_sync_head *head, const void *payload,
				gsize len, const char **why)
{
	*why = judge(sync, head, len);
	if (*why)
		return FALSE;
	if (head->kind == CKPT_SYNC_DIGESTS)
		compare(sync, head, payload, len);
	else
		write_data(sync, head, payload);
	settle_in(sync);
	return TRUE;
}
