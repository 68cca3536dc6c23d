/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's disks.
 *
 * What is committed is on its way to the real disk in a backlog (checkpoint/disk_backlog.h),
 * whose layer is the lower of the two that a read looks through.
 *
 * A read notes what lies above the disk when it is submitted, and puts that over what
 * came from the disk when this completes: a write that reaches the disk in between has
 * left the layer, but may have come too late for the read.
 *
 * The real disk works also while the machine rests: first sync and what was committed must
 * go on. What it completes for the guest is kept until the machine runs, since a device
 * that stands still must not be told.
 *
 * After a promotion a write of the guest goes straight down, unless something is on its
 * way that it overlaps: then it joins the queue. So the layers drain, and when they are
 * empty every request passes.
 */
#include "checkpoint/disk_twin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "checkpoint/disk_backlog.h"
#include "checkpoint/disk_merge.h"
#include "checkpoint/hello.h"

/* Completions in one run of the handler. */
#define BATCH 64
/* Longest of one forwarded message; zeroes have no data, but a limit at the device. */
#define DATA_MAX WIRE_PAYLOAD_MAX

struct twin;

/* One of the two disks that a twin shows. */
struct face {
	struct vmm_disk disk;
	struct twin *twin;
	gboolean is_base;
};

struct twin {
	struct face guest, base;
	ckpt_disk_twins *twins;
	guint index;
	struct vmm_disk *real;
	struct ckpt_outlet outlet; /* to it */
	ckpt_layer *own;
	ckpt_backlog *committed;
	GQueue flushes; /* struct op: until all up to `after` is on the disk */
	GQueue parked; /* struct op: until a promotion; over `own_max` */
	GQueue dead; /* struct op: of an epoch that is gone, to be forgotten */
	/* struct op: done() is due, of the guest's when the machine runs */
	GQueue finished, base_finished;
	gboolean told; /* the guest, in this batch of the real disk's */
	gboolean has_failed; /* and the hook was told */
	ckpt_merge *merge; /* of a promotion; NULL: one of two */
	/* A secondary's own flushes. */
	struct vmm_disk_request *flush; /* at the real disk; or NULL */
	guint64 flushed; /* writes up to this serial */
	guint64 flush_due_ns; /* 0: nothing was written since */
};

enum place { NOWHERE, AT_DISK, IN_WRITE, IN_FLUSHES, IN_PARKED, IN_DEAD, IN_FINISHED };

/* Bytes of a read that do not come from the disk. */
struct patch {
	struct ckpt_chunk *chunk;
	guint64 from, to;
};

/* A request of the guest or of the first sync. */
struct op {
	struct vmm_disk_request
		request; /* at the real disk; first: may be freed as this */
	struct twin *twin;
	struct vmm_disk_request *asked;
	gboolean is_base;
	enum place place;
	GList link;
	GArray *patches; /* struct patch */
	ckpt_backlog_write *write; /* IN_WRITE */
	guint64 after; /* IN_FLUSHES */
	int result; /* IN_FINISHED */
};

struct held {
	guint64 number;
	struct twin *twin;
	struct ckpt_chunk *chunk;
};

struct ckpt_disk_twins {
	struct ckpt_disk_twin_hooks hooks;
	struct ckpt_disk_twin_limits limits;
	vmm_loop *loop;
	vmm_source *source;
	vmm_source *base_source; /* the same while the machine rests */
	int event_fd; /* never readable: the sources are called by vmm_loop_again() */
	struct twin *twins[VMM_DISKS_MAX];
	GQueue held; /* struct held, by number */
	guint64 held_number, committed_number;
	guint64 own_bytes, held_bytes, backlog_bytes;
	guint64 flush_after_ns; /* 0: never */
	gboolean asked; /* for a checkpoint */
	gboolean promoted;
	void (*promote_done)(void *data, int error);
	void *promote_data;
};

static void ask(ckpt_disk_twins *twins)
{
	if (twins->asked || twins->promoted ||
	    (twins->own_bytes < twins->limits.own_need &&
	     twins->held_bytes < twins->limits.held_need))
		return;
	twins->asked = TRUE;
	twins->hooks.need(twins->hooks.data);
}

/* Ops. */

static GQueue *queue_of(const struct op *op)
{
	struct twin *twin = op->twin;

	switch (op->place) {
	case IN_FLUSHES:
		return &twin->flushes;
	case IN_PARKED:
		return &twin->parked;
	case IN_DEAD:
		return &twin->dead;
	case IN_FINISHED:
		return op->is_base ? &twin->base_finished : &twin->finished;
	case NOWHERE:
	case AT_DISK:
	case IN_WRITE:
		break;
	}
	return NULL;
}

static void put(struct op *op, enum place place)
{
	op->place = place;
	g_queue_push_tail_link(queue_of(op), &op->link);
}

static void take_out(struct op *op)
{
	GQueue *queue = queue_of(op);

	if (queue)
		g_queue_unlink(queue, &op->link);
	op->place = NOWHERE;
}

static void drop_patches(struct op *op)
{
	if (!op->patches)
		return;
	for (guint i = 0; i < op->patches->len; i++)
		ckpt_chunk_unref(g_array_index(op->patches, struct patch, i).chunk);
	g_clear_pointer(&op->patches, g_array_unref);
}

static void apply_patches(struct op *op)
{
	const struct vmm_disk_request *asked = op->asked;

	for (guint i = 0; op->patches && i < op->patches->len; i++) {
		const struct patch *patch =
			&g_array_index(op->patches, struct patch, i);
		const struct ckpt_chunk *chunk = patch->chunk;
		guint8 *to = asked->buffer + (patch->from - asked->offset);
		gsize len = patch->to - patch->from;

		if (chunk->bytes)
			memcpy(to, chunk->bytes + (patch->from - chunk->offset), len);
		else
			memset(to, 0, len);
	}
}

/* An op that is in no queue: tells the requester. The last thing that its caller does
 * with the twin: the requester may submit again. */
static void finish(struct op *op, int result)
{
	struct vmm_disk_request *asked = op->asked;

	drop_patches(op);
	g_free(op);
	asked->handle = NULL;
	asked->done(asked, result);
}

static void finish_later(struct op *op, int result)
{
	op->result = result;
	put(op, IN_FINISHED);
	vmm_loop_again(op->is_base ? op->twin->twins->base_source :
				     op->twin->twins->source);
}

static void fail(struct twin *twin, enum vmm_disk_op op, int error)
{
	const struct ckpt_disk_twin_hooks *hooks = &twin->twins->hooks;

	if (twin->merge || twin->has_failed)
		return;
	twin->has_failed = TRUE;
	hooks->failed(hooks->data, twin->index, op, error);
}

static void child_done(struct vmm_disk_request *request, int result)
{
	struct op *op = (struct op *)request;

	op->place = NOWHERE;
	if (result == 0)
		apply_patches(op);
	else if (op->is_base && request->op == VMM_DISK_READ)
		fail(op->twin, VMM_DISK_READ, result);
	if (!op->is_base && vmm_loop_wanted(op->twin->twins->loop)) {
		finish_later(op, result);
		return;
	}
	op->twin->told |= !op->is_base;
	finish(op, result);
}

/* To the real disk, as asked for. */
static void pass(struct op *op)
{
	op->request = *op->asked;
	op->request.done = child_done;
	op->request.data = op->request.handle = NULL;
	op->place = AT_DISK;
	ckpt_outlet_submit(&op->twin->outlet, &op->request);
}

/* Writes on their way. */

static void written(void *data, void *owner, int result)
{
	struct op *op = owner;

	op->write = NULL;
	finish_later(op, result);
}

/* What waits for writes that are on the disk now, or never will be. */
static void go_on(void *data)
{
	struct twin *twin = data;
	int failed = ckpt_backlog_error(twin->committed);
	struct op *op;

	while ((op = g_queue_peek_head(&twin->flushes)) &&
	       (failed || ckpt_backlog_is_written(twin->committed, op->after))) {
		take_out(op);
		if (failed)
			finish_later(op, failed);
		else
			pass(op);
	}
	if (twin->merge)
		ckpt_merge_go_on(twin->merge);
}

static void failed(void *data, int error)
{
	fail(data, VMM_DISK_WRITE, error);
}

static void own_flushed(struct vmm_disk_request *request, int result)
{
	struct twin *twin = request->data;

	g_free(request);
	twin->flush = NULL;
	if (result < 0 && !twin->merge) {
		ckpt_backlog_fail(twin->committed, result);
		go_on(twin);
	}
}

/* Followed by ckpt_outlet_settle(). */
static void flush_if_due(struct twin *twin)
{
	const guint64 after_ns = twin->twins->flush_after_ns;
	const guint64 serial = ckpt_backlog_serial(twin->committed);
	guint64 now;

	if (!after_ns || twin->flush || twin->merge || serial == twin->flushed ||
	    ckpt_backlog_error(twin->committed))
		return;
	now = base_clock_monotonic_ns();
	if (!twin->flush_due_ns)
		twin->flush_due_ns = now + after_ns;
	if (now < twin->flush_due_ns)
		return;
	twin->flush_due_ns = 0;
	/* What is on its way is the next one's. */
	if (ckpt_backlog_is_written(twin->committed, serial))
		twin->flushed = serial;
	twin->flush = g_new0(struct vmm_disk_request, 1);
	twin->flush->op = VMM_DISK_FLUSH;
	twin->flush->done = own_flushed;
	twin->flush->data = twin;
	ckpt_outlet_submit(&twin->outlet, twin->flush);
}

static void merged(void *data)
{
	struct twin *twin = data;

	vmm_loop_again(twin->twins->source);
	go_on(twin);
}

/* Requests. */

struct reading {
	struct op *op;
	const ckpt_layer *below; /* to look through gaps at; NULL: the disk is below */
	guint64 from_disk; /* bytes */
};

static void note_patch(void *data, struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	struct reading *reading = data;
	struct patch patch = { chunk, from, to };

	if (!chunk && reading->below) {
		struct reading below = { reading->op, NULL, 0 };

		ckpt_layer_visit(reading->below, from, to - from, note_patch, &below);
		reading->from_disk += below.from_disk;
	} else if (!chunk) {
		reading->from_disk += to - from;
	} else {
		ckpt_chunk_ref(chunk);
		if (!reading->op->patches)
			reading->op->patches =
				g_array_new(FALSE, FALSE, sizeof(struct patch));
		g_array_append_val(reading->op->patches, patch);
	}
}

static void submit_read(struct op *op)
{
	struct twin *twin = op->twin;
	const struct vmm_disk_request *asked = op->asked;
	const ckpt_layer *committed = ckpt_backlog_layer(twin->committed);
	struct reading reading = { op, committed, 0 };

	if (op->is_base)
		reading.below = NULL;
	ckpt_layer_visit(op->is_base ? committed : twin->own, asked->offset,
			 asked->len, note_patch, &reading);
	if (reading.from_disk) {
		pass(op);
		return;
	}
	apply_patches(op);
	finish_later(op, 0);
}

static struct ckpt_chunk *chunk_of(const struct vmm_disk_request *asked,
				   guint64 *account)
{
	return ckpt_chunk_new(asked->offset, asked->len,
			      asked->op == VMM_DISK_WRITE ? asked->buffer : NULL,
			      account);
}

static gboolean fits_own(const struct twin *twin, const struct vmm_disk_request *asked)
{
	const ckpt_disk_twins *twins = twin->twins;
	guint64 cost = ckpt_chunk_cost(asked->len, asked->op != VMM_DISK_WRITE);

	return !twin->parked.length && cost <= twins->limits.own_max &&
	       twins->own_bytes <= twins->limits.own_max - cost;
}

/* A write of the guest while it is one of two. */
static void write_own(struct op *op)
{
	struct twin *twin = op->twin;
	struct ckpt_chunk *chunk;

	if (!fits_own(twin, op->asked)) {
		put(op, IN_PARKED);
		return;
	}
	chunk = chunk_of(op->asked, &twin->twins->own_bytes);
	ckpt_layer_put(twin->own, chunk);
	ckpt_chunk_unref(chunk);
	finish_later(op, 0);
	ask(twin->twins);
}

/* A write to what is below `own`. */
static void write_below(struct op *op)
{
	struct twin *twin = op->twin;
	const struct vmm_disk_request *asked = op->asked;

	int error = ckpt_backlog_error(twin->committed);

	if (error) {
		finish_later(op, error);
		return;
	}
	/* The first sync's is never outside the queue: more may be committed while it
	 * is at the disk. */
	if (!op->is_base &&
	    !ckpt_layer_touches(ckpt_backlog_layer(twin->committed), asked->offset,
				asked->len)) {
		pass(op);
		return;
	}
	op->place = IN_WRITE;
	op->write = ckpt_backlog_add(twin->committed,
				     chunk_of(asked, &twin->twins->backlog_bytes), op);
	ckpt_backlog_pump(twin->committed);
}

static void submit_flush(struct op *op)
{
	struct twin *twin = op->twin;

	if (!op->is_base && !twin->merge) {
		finish_later(op, 0);
		return;
	}
	op->after = ckpt_backlog_serial(twin->committed);
	put(op, IN_FLUSHES);
	go_on(twin);
}

static void submit(void *data, struct vmm_disk_request *asked)
{
	struct face *face = data;
	struct op *op = g_new0(struct op, 1);

	op->twin = face->twin;
	op->asked = asked;
	op->is_base = face->is_base;
	op->link.data = op;
	asked->handle = op;
	if (asked->op == VMM_DISK_FLUSH)
		submit_flush(op);
	else if (!vmm_disk_is_whole(&face->disk, asked))
		finish_later(op, -EINVAL);
	else if (asked->op == VMM_DISK_READ)
		submit_read(op);
	else if (op->is_base || op->twin->merge)
		write_below(op);
	else
		write_own(op);
}

static void flush_submissions(void *data)
{
	ckpt_outlet_settle(&((struct face *)data)->twin->outlet);
}

static void forget(void *data, struct vmm_disk_request *asked)
{
	struct face *face = data;
	struct twin *twin = face->twin;
	struct op *op = asked->handle;
	guint8 *buffer = asked->buffer;

	drop_patches(op);
	g_free(asked);
	if (op->place == AT_DISK) {
		/* With its buffer, which is the same. */
		twin->real->forget(twin->real->data, &op->request);
		return;
	}
	if (op->place == IN_WRITE)
		/* It has a copy, and takes its turn. */
		ckpt_backlog_disown(op->write);
	take_out(op);
	free(buffer);
	g_free(op);
}

static void tell_batch_done(const struct face *face)
{
	if (face->disk.batch_done)
		face->disk.batch_done(face->disk.user);
}

static void on_real_batch_done(void *user)
{
	struct twin *twin = user;

	flush_if_due(twin);
	ckpt_outlet_settle(&twin->outlet);
	if (twin->told) {
		twin->told = FALSE;
		tell_batch_done(&twin->guest);
	}
	tell_batch_done(&twin->base);
}

/* The handlers. */

static void run_finished(struct twin *twin, GQueue *finished, const struct face *face,
			 vmm_source *source)
{
	guint n = MIN(finished->length, BATCH);

	if (!n)
		return;
	/* Those only that are there now: done() may add some, or forget others. */
	for (; n && finished->length; n--) {
		struct op *op = g_queue_peek_head(finished);

		take_out(op);
		finish(op, op->result);
	}
	tell_batch_done(face);
	ckpt_outlet_settle(&twin->outlet);
	if (finished->length)
		vmm_loop_again(source);
}

static void check_promotion(ckpt_disk_twins *twins)
{
	void (*done)(void *data, int error) = twins->promote_done;
	int error = 0;

	if (!done)
		return;
	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		const struct twin *twin = twins->twins[i];

		if (!twin)
			continue;
		if (!ckpt_merge_is_over(twin->merge))
			return;
		if (!error)
			error = ckpt_backlog_error(twin->committed);
	}
	twins->promote_done = NULL;
	done(twins->promote_data, error);
}

static void on_again(void *data, guint32 events)
{
	ckpt_disk_twins *twins = data;

	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct twin *twin = twins->twins[i];

		if (twin)
			run_finished(twin, &twin->finished, &twin->guest, twins->source);
	}
	check_promotion(twins);
}

static void on_base_again(void *data, guint32 events)
{
	ckpt_disk_twins *twins = data;

	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct twin *twin = twins->twins[i];

		if (twin)
			run_finished(twin, &twin->base_finished, &twin->base,
				     twins->base_source);
	}
}

/* The twins. */

ckpt_disk_twins *ckpt_disk_twins_new(vmm_loop *loop,
				     const struct ckpt_disk_twin_hooks *hooks,
				     const struct ckpt_disk_twin_limits *limits)
{
	ckpt_disk_twins *twins = g_new0(ckpt_disk_twins, 1);

	twins->hooks = *hooks;
	twins->limits = *limits;
	twins->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (twins->event_fd < 0)
		g_error("eventfd for disks: %s", g_strerror(errno));
	twins->loop = loop;
	twins->source = vmm_loop_add(loop, twins->event_fd, 0, on_again, twins);
	twins->base_source = vmm_loop_add(loop, twins->event_fd, 0, on_base_again, twins);
	vmm_source_serve_at_rest(twins->base_source, TRUE);
	return twins;
}

void ckpt_disk_twins_flush_after(ckpt_disk_twins *twins, guint ms)
{
	twins->flush_after_ns = ms * G_GUINT64_CONSTANT(1000000);
}

void ckpt_disk_twins_free(ckpt_disk_twins *twins)
{
	if (!twins)
		return;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		g_assert(!twins->twins[i]);
	vmm_source_remove(twins->source);
	vmm_source_remove(twins->base_source);
	base_fd_clear(&twins->event_fd);
	g_free(twins);
}

static void free_held(struct held *held)
{
	ckpt_chunk_unref(held->chunk);
	g_free(held);
}

static void drop_held_of(ckpt_disk_twins *twins, const struct twin *twin)
{
	for (GList *l = twins->held.head, *next; l; l = next) {
		struct held *held = l->data;

		next = l->next;
		if (twin && held->twin != twin)
			continue;
		g_queue_delete_link(&twins->held, l);
		free_held(held);
	}
}

static void free_twin(void *data)
{
	struct face *face = data;
	struct twin *twin = face->twin;

	g_assert(!twin->flushes.length && !twin->parked.length && !twin->dead.length &&
		 !twin->finished.length && !twin->base_finished.length);
	drop_held_of(twin->twins, twin);
	if (twin->flush)
		twin->real->forget(twin->real->data, twin->flush);
	ckpt_merge_free(twin->merge);
	ckpt_layer_free(twin->own);
	ckpt_backlog_free(twin->committed);
	twin->twins->twins[twin->index] = NULL;
	twin->real->free(twin->real->data);
	g_free(twin);
}

/* What completed at the real disk; the rest of a promoted disk follows with `done`. */
static gboolean sync_real(void *data, GError **error)
{
	struct face *face = data;
	struct vmm_disk *real = face->twin->real;

	return real->sync(real->data, error);
}

static void make_face(struct twin *twin, struct face *face, gboolean is_base)
{
	const struct vmm_disk *real = twin->real;

	face->twin = twin;
	face->is_base = is_base;
	face->disk = (struct vmm_disk){
		.data = face,
		.size = real->size,
		.readonly = real->readonly,
		.block_size = real->block_size,
		.can_discard = real->can_discard && real->can_zero,
		.can_zero = real->can_zero,
		.submit = submit,
		.flush_submissions = flush_submissions,
		.forget = forget,
		.sync = real->sync ? sync_real : NULL,
		.free = is_base ? NULL : free_twin,
	};
}

struct vmm_disk *ckpt_disk_twin_new_take(struct vmm_disk *real_take, guint index,
					 ckpt_disk_twins *twins)
{
	struct twin *twin = g_new0(struct twin, 1);
	const struct ckpt_backlog_hooks hooks = { twin, written, go_on, failed };

	g_assert(index < VMM_DISKS_MAX && !twins->twins[index] && !twins->promoted);
	twin->twins = twins;
	twin->index = index;
	twin->real = real_take;
	twin->outlet.disk = real_take;
	twin->own = ckpt_layer_new();
	twin->committed = ckpt_backlog_new(&twin->outlet, &hooks);
	make_face(twin, &twin->guest, FALSE);
	make_face(twin, &twin->base, TRUE);
	real_take->batch_done = on_real_batch_done;
	real_take->user = twin;
	if (real_take->serve_at_rest)
		real_take->serve_at_rest(real_take->data, TRUE);
	twins->twins[index] = twin;
	return &twin->guest.disk;
}

struct vmm_disk *ckpt_disk_twin_base(ckpt_disk_twins *twins, guint index)
{
	return twins->twins[index] ? &twins->twins[index]->base.disk : NULL;
}

/* NULL, or what is wrong with it. */
static const char *judge_range(const struct ckpt_disk_head *head, gsize len,
			       const struct vmm_disk *real)
{
	guint64 offset = wire_get64(head->offset), length = wire_get64(head->length);

	if (!length || offset > real->size || length > real->size - offset)
		return "a disk write is not inside the disk";
	if ((offset | length) % real->block_size)
		return "a disk write is not made of the disk's blocks";
	if (head->op == VMM_DISK_WRITE ? len != length || len > DATA_MAX : len != 0)
		return "a disk write's data has not its length";
	return NULL;
}

static const char *judge(const ckpt_disk_twins *twins,
			 const struct ckpt_disk_head *head, gsize len)
{
	static const guint8 zero[sizeof(head->pad)];
	const struct twin *twin =
		head->disk < VMM_DISKS_MAX ? twins->twins[head->disk] : NULL;

	if (twins->promoted)
		return "a disk write comes after the promotion";
	if (wire_get64(head->number) != twins->held_number + 1)
		return "a disk write is not the next one";
	if (!twin || twin->real->readonly)
		return "a disk write is for no disk that can be written";
	if (memcmp(head->pad, zero, sizeof(zero)) != 0 || head->unmap > 1)
		return "a disk write has unknown flags";
	if (head->op != VMM_DISK_WRITE && head->op != VMM_DISK_ZEROES &&
	    head->op != VMM_DISK_DISCARD)
		return "a disk write has an unknown operation";
	if (head->op != VMM_DISK_WRITE && !twin->real->can_zero)
		return "a disk write would zero a disk that cannot";
	return judge_range(head, len, twin->real);
}

gboolean ckpt_disk_twins_hold(ckpt_disk_twins *twins, const struct ckpt_disk_head *head,
			      const void *data, gsize len, const char **why)
{
	gboolean has_data = head->op == VMM_DISK_WRITE;
	guint64 cost;
	struct held *held;

	*why = judge(twins, head, len);
	if (*why)
		return FALSE;
	cost = ckpt_chunk_cost(len, !has_data);
	if (cost > twins->limits.held_max ||
	    twins->held_bytes > twins->limits.held_max - cost) {
		*why = "more disk writes come than can be held";
		return FALSE;
	}
	held = g_new(struct held, 1);
	held->number = ++twins->held_number;
	held->twin = twins->twins[head->disk];
	held->chunk = ckpt_chunk_new(wire_get64(head->offset), wire_get64(head->length),
				     has_data ? data : NULL, &twins->held_bytes);
	g_queue_push_tail(&twins->held, held);
	ask(twins);
	return TRUE;
}

gboolean ckpt_disk_twins_may_commit(const ckpt_disk_twins *twins, guint64 number)
{
	return number >= twins->committed_number && number <= twins->held_number;
}

static void bury(struct twin *twin)
{
	struct op *op;

	while ((op = g_queue_peek_head(&twin->parked))) {
		take_out(op);
		put(op, IN_DEAD);
	}
}

void ckpt_disk_twins_commit(ckpt_disk_twins *twins, guint64 number)
{
	struct held *held;

	g_assert(!twins->promoted && ckpt_disk_twins_may_commit(twins, number));
	while ((held = g_queue_peek_head(&twins->held)) && held->number <= number) {
		g_queue_pop_head(&twins->held);
		ckpt_chunk_charge(held->chunk, &twins->backlog_bytes);
		ckpt_backlog_add(held->twin->committed, held->chunk, NULL);
		g_free(held);
	}
	twins->committed_number = number;
	twins->asked = FALSE;
	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct twin *twin = twins->twins[i];

		if (!twin)
			continue;
		ckpt_layer_clear(twin->own);
		bury(twin);
		ckpt_backlog_pump(twin->committed);
		flush_if_due(twin);
		ckpt_outlet_settle(&twin->outlet);
	}
}

void ckpt_disk_twins_drop_held(ckpt_disk_twins *twins)
{
	drop_held_of(twins, NULL);
	twins->held_number = twins->committed_number = 0;
}

/* Promotion. */

static void promote(struct twin *twin)
{
	struct op *op;

	/* From here on it is the disk of a guest as any other. */
	if (twin->real->serve_at_rest)
		twin->real->serve_at_rest(twin->real->data, FALSE);
	twin->merge = ckpt_merge_new(twin->own, twin->committed, &twin->outlet,
				     &twin->twins->backlog_bytes, merged, twin);
	ckpt_layer_clear(twin->own);
	while ((op = g_queue_peek_head(&twin->parked))) {
		take_out(op);
		write_below(op);
	}
	ckpt_merge_seal(twin->merge);
	ckpt_backlog_pump(twin->committed);
	go_on(twin);
	ckpt_outlet_settle(&twin->outlet);
}

void ckpt_disk_twins_promote(ckpt_disk_twins *twins,
			     void (*done)(void *data, int error), void *data)
{
	g_assert(!twins->promoted);
	ckpt_disk_twins_drop_held(twins);
	twins->promoted = TRUE;
	twins->promote_done = done;
	twins->promote_data = data;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		if (twins->twins[i])
			promote(twins->twins[i]);
	vmm_loop_again(twins->source);
}

struct reading_now {
	guint8 *bytes;
	guint64 offset; /* of the first of them */
};

static void lay_over(void *data, struct ckpt_chunk *chunk, guint64 from, guint64 to)
{
	const struct reading_now *reading = data;
	guint8 *bytes = reading->bytes + (from - reading->offset);

	if (chunk && chunk->bytes)
		memcpy(bytes, chunk->bytes + (from - chunk->offset), to - from);
	else if (chunk)
		memset(bytes, 0, to - from);
}

gboolean ckpt_disk_twins_read(ckpt_disk_twins *twins, guint index, guint64 offset,
			      void *bytes, gsize len, GError **error)
{
	const struct twin *twin = index < VMM_DISKS_MAX ? twins->twins[index] : NULL;
	struct reading_now reading = { bytes, offset };

	if (!twin || !twin->real->read_now || len > twin->real->size ||
	    offset > twin->real->size - len ||
	    (offset | len) % twin->real->block_size) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "disk %u: no such range to read", index);
		return FALSE;
	}
	if (!twin->real->read_now(twin->real->data, offset, bytes, len, error))
		return FALSE;
	ckpt_layer_visit(ckpt_backlog_layer(twin->committed), offset, len, lay_over,
			 &reading);
	return TRUE;
}

void ckpt_disk_twins_get_counters(const ckpt_disk_twins *twins,
				  struct ckpt_disk_twin_counters *counters)
{
	*counters = (struct ckpt_disk_twin_counters){
		.own_bytes = twins->own_bytes,
		.held_bytes = twins->held_bytes,
		.backlog_bytes = twins->backlog_bytes,
		.held_number = twins->held_number,
		.committed_number = twins->committed_number,
	};
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		if (twins->twins[i])
			counters->waiting += twins->twins[i]->parked.length;
}
