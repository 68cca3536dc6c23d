/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of a split virtqueue.
 *
 * The three rings are translated to host addresses when the queue is enabled or loaded;
 * banks of memory never move, so the addresses stay good for the life of the queue. The
 * driver may write any of it at any time: whatever is decided upon is first copied out,
 * and never read a second time.
 *
 * Two pairs of accesses must not pass each other, or both sides sleep: "I want to be
 * notified" before "is there still nothing?" here against "here is a chain" before "do
 * they want to be notified?" there, and the same the other way around for interrupts.
 * Each has a full barrier between its halves.
 */
#include "kvm/virtqueue.h"

#include <string.h>

#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY 1u
/* An index in a descriptor table is 16 bits wide. */
#define INDIRECT_MAX 65536u

struct desc {
	guint64 addr;
	guint32 len;
	guint16 flags;
	guint16 next;
};
G_STATIC_ASSERT(sizeof(struct desc) == 16);

struct used_elem {
	guint32 id;
	guint32 len;
};

struct used_ring {
	guint16 flags;
	guint16 idx;
	struct used_elem ring[];
};

struct avail_ring {
	guint16 flags;
	guint16 idx;
	guint16 ring[];
};

/* Where a queue's parts are; sizes include the event index behind each ring. */
struct places {
	guint8 *desc;
	struct avail_ring *avail;
	struct used_ring *used;
};

static const char *find_places(const vmm_memory *memory, guint16 size, guint64 desc,
			       guint64 avail, guint64 used, struct places *places)
{
	if (size == 0 || size > VMM_QUEUE_SIZE_MAX || (size & (size - 1)))
		return "queue size is not a power of two within the limit";
	if (desc % 16 || avail % 2 || used % 4)
		return "a ring is not aligned";
	places->desc = vmm_memory_at(memory, desc, sizeof(struct desc) * size);
	places->avail = vmm_memory_at(memory, avail, 6 + sizeof(guint16) * size);
	places->used = vmm_memory_at(memory, used, 6 + sizeof(struct used_elem) * size);
	if (!places->desc || !places->avail || !places->used)
		return "a ring is outside memory";
	return NULL;
}

static void settle(struct vmm_queue *queue, const struct places *places)
{
	queue->desc_host = places->desc;
	queue->avail_host = places->avail;
	queue->used_host = places->used;
}

static gboolean usable(const struct vmm_queue *queue)
{
	return queue->ready && !queue->broken;
}

static enum vmm_pop broken(struct vmm_queue *queue, const char *why)
{
	if (!queue->broken)
		queue->broken = why;
	return VMM_POP_BROKEN;
}

static guint16 load16(const guint16 *from)
{
	return GUINT16_FROM_LE(__atomic_load_n(from, __ATOMIC_ACQUIRE));
}

static void store16(guint16 *to, guint16 value)
{
	__atomic_store_n(to, GUINT16_TO_LE(value), __ATOMIC_RELEASE);
}

static guint16 avail_idx(const struct vmm_queue *queue)
{
	const struct avail_ring *avail = queue->avail_host;

	return load16(&avail->idx);
}

/* The driver writes this behind its ring: interrupt me when you pass it. */
static guint16 used_event(const struct vmm_queue *queue)
{
	const struct avail_ring *avail = queue->avail_host;

	return load16(&avail->ring[queue->size]);
}

/* One of the two words by which the device tells the driver whether to notify it. Pages
 * that stay the same are not made dirty. */
static void set_used_word(struct vmm_queue *queue, guint32 offset, guint16 value)
{
	guint16 *word = (guint16 *)((guint8 *)queue->used_host + offset);

	if (load16(word) == value)
		return;
	store16(word, value);
	vmm_memory_mark(queue->memory, queue->used + offset, sizeof(*word));
}

static void ask_for_kick(struct vmm_queue *queue)
{
	if (queue->event_idx)
		set_used_word(queue,
			      G_STRUCT_OFFSET(struct used_ring, ring) +
				      sizeof(struct used_elem) * queue->size,
			      queue->next_avail);
	else
		set_used_word(queue, G_STRUCT_OFFSET(struct used_ring, flags), 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void copy_desc(struct desc *to, const guint8 *table, guint index)
{
	memcpy(to, table + sizeof(*to) * index, sizeof(*to));
	/* The compiler must not go back to the guest's copy after this. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	to->addr = GUINT64_FROM_LE(to->addr);
	to->len = GUINT32_FROM_LE(to->len);
	to->flags = GUINT16_FROM_LE(to->flags);
	to->next = GUINT16_FROM_LE(to->next);
}

/* NULL, or what is wrong with the buffer. */
static const char *add_buffer(const struct vmm_queue *queue, struct vmm_chain *chain,
			      const struct desc *desc)
{
	gboolean in = desc->flags & DESC_F_WRITE;
	guint n = chain->n_out + chain->n_in;
	void *host;

	if (n == VMM_CHAIN_MAX)
		return "a chain is too long";
	if (!desc->len)
		return "a buffer is empty";
	if (!in && chain->n_in)
		return "a readable buffer follows a writable one";
	/* 2.7.5: a chain has at most 4 GiB in total. */
	if (chain->out_len + chain->in_len + desc->len > G_MAXUINT32)
		return "a chain has too many bytes";
	host = vmm_memory_at(queue->memory, desc->addr, desc->len);
	if (!host)
		return "a buffer is outside memory";
	chain->iov[n] = (struct iovec){ host, desc->len };
	if (in) {
		chain->n_in++;
		chain->in_len += desc->len;
	} else {
		chain->n_out++;
		chain->out_len += desc->len;
	}
	return NULL;
}

/* NULL, or what is wrong with the chain. */
static const char *walk(const struct vmm_queue *queue, guint head,
			struct vmm_chain *chain)
{
	const guint8 *table = queue->desc_host;
	guint entries = queue->size;
	guint index = head;
	gboolean nested = FALSE;
	const char *why;

	chain->head = head;
	chain->n_out = chain->n_in = 0;
	chain->out_len = chain->in_len = 0;
	/* Each turn but one (which enters the indirect table) adds a buffer, and their
	 * number is bounded: so a loop ends as a chain that is too long. */
	for (;;) {
		struct desc desc;

		if (index >= entries)
			return "a descriptor index is out of range";
		copy_desc(&desc, table, index);
		if (desc.flags & DESC_F_INDIRECT) {
			if (!queue->indirect)
				return "an indirect descriptor was not negotiated";
			if (nested)
				return "an indirect table has an indirect descriptor";
			if (desc.flags & DESC_F_NEXT)
				return "an indirect descriptor has a successor";
			entries = desc.len / sizeof(desc);
			if (!entries || desc.len % sizeof(desc) ||
			    entries > INDIRECT_MAX)
				return "an indirect table has an impossible length";
			table = vmm_memory_at(queue->memory, desc.addr, desc.len);
			if (!table)
				return "an indirect table is outside memory";
			nested = TRUE;
			index = 0;
			continue;
		}
		why = add_buffer(queue, chain, &desc);
		if (why)
			return why;
		if (!(desc.flags & DESC_F_NEXT))
			return NULL;
		index = desc.next;
	}
}

void vmm_queue_reset(struct vmm_queue *queue)
{
	*queue = (struct vmm_queue){
		.memory = queue->memory,
		.size = VMM_QUEUE_SIZE_MAX,
		.signalled_valid = TRUE,
		.kicks_wanted = TRUE,
	};
}

gboolean vmm_queue_enable(struct vmm_queue *queue)
{
	struct places places;
	const char *why = find_places(queue->memory, queue->size, queue->desc,
				      queue->avail, queue->used, &places);

	if (why) {
		broken(queue, why);
		return FALSE;
	}
	settle(queue, &places);
	queue->ready = TRUE;
	return TRUE;
}

enum vmm_pop vmm_queue_pop(struct vmm_queue *queue, struct vmm_chain *chain)
{
	const struct avail_ring *avail = queue->avail_host;
	guint16 ahead;
	guint16 head;
	const char *why;

	if (queue->broken)
		return VMM_POP_BROKEN;
	if (!queue->ready)
		return VMM_POP_EMPTY;
	ahead = avail_idx(queue) - queue->next_avail;
	if (!ahead && queue->kicks_wanted) {
		/* With event indices the wish to be notified is about one index: move
		 * it up to where the device now waits, then look again. */
		ask_for_kick(queue);
		ahead = avail_idx(queue) - queue->next_avail;
	}
	if (!ahead)
		return VMM_POP_EMPTY;
	if (ahead > queue->size)
		return broken(queue, "the available index is too far ahead");
	head = load16(&avail->ring[queue->next_avail & (queue->size - 1)]);
	why = walk(queue, head, chain);
	if (why)
		return broken(queue, why);
	queue->next_avail++;
	return VMM_POP_CHAIN;
}

void vmm_queue_unpop(struct vmm_queue *queue, guint count)
{
	queue->next_avail = (guint16)(queue->next_avail - count);
}

enum vmm_pop vmm_queue_chain_at(struct vmm_queue *queue, guint16 head,
				struct vmm_chain *chain)
{
	const char *why;

	if (queue->broken)
		return VMM_POP_BROKEN;
	if (!queue->ready)
		return broken(queue, "a request is in flight on a queue that is off");
	why = walk(queue, head, chain);
	return why ? broken(queue, why) : VMM_POP_CHAIN;
}

gboolean vmm_queue_has_work(const struct vmm_queue *queue)
{
	return usable(queue) && avail_idx(queue) != queue->next_avail;
}

void vmm_queue_push(struct vmm_queue *queue, const struct vmm_chain *chain,
		    guint32 written)
{
	const struct iovec *in = VMM_CHAIN_IN(chain);
	gsize left = written;

	g_assert(written <= chain->in_len);
	for (; left; in++) {
		gsize part = MIN(left, in->iov_len);

		vmm_memory_mark_host(queue->memory, in->iov_base, part);
		left -= part;
	}
	vmm_queue_push_head(queue, chain->head, written);
}

void vmm_queue_stage_head(struct vmm_queue *queue, guint16 head, guint32 written)
{
	struct used_ring *used = queue->used_host;
	guint slot = queue->next_used & (queue->size - 1);

	if (!usable(queue))
		return;
	used->ring[slot].id = GUINT32_TO_LE(head);
	used->ring[slot].len = GUINT32_TO_LE(written);
	queue->next_used++;
	vmm_memory_mark(queue->memory,
			queue->used + G_STRUCT_OFFSET(struct used_ring, ring) +
				sizeof(struct used_elem) * slot,
			sizeof(struct used_elem));
	/* All 65,536 values since the last interrupt: the difference tells nothing now. */
	if (queue->next_used == queue->signalled)
		queue->signalled_valid = FALSE;
}

void vmm_queue_push_head(struct vmm_queue *queue, guint16 head, guint32 written)
{
	struct used_ring *used = queue->used_host;

	if (!usable(queue))
		return;
	vmm_queue_stage_head(queue, head, written);
	store16(&used->idx, queue->next_used);
	vmm_memory_mark(queue->memory,
			queue->used + G_STRUCT_OFFSET(struct used_ring, idx),
			sizeof(used->idx));
}

gboolean vmm_queue_should_signal(struct vmm_queue *queue)
{
	const struct avail_ring *avail = queue->avail_host;
	guint16 pushed;
	gboolean wrapped = !queue->signalled_valid;

	if (!usable(queue))
		return FALSE;
	pushed = queue->next_used - queue->signalled;
	queue->signalled = queue->next_used;
	queue->signalled_valid = TRUE;
	if (!pushed && !wrapped)
		return FALSE;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!queue->event_idx)
		return !(load16(&avail->flags) & AVAIL_F_NO_INTERRUPT);
	/* Was the index that the driver waits for among those pushed? */
	return wrapped || (guint16)(queue->next_used - used_event(queue) - 1) < pushed;
}

void vmm_queue_want_kicks(struct vmm_queue *queue, gboolean want)
{
	queue->kicks_wanted = want;
	if (!usable(queue))
		return;
	if (want)
		ask_for_kick(queue);
	else if (!queue->event_idx)
		set_used_word(queue, G_STRUCT_OFFSET(struct used_ring, flags),
			      USED_F_NO_NOTIFY);
	/* With event indices, an index that is left behind asks for nothing. */
}

void vmm_queue_save(const struct vmm_queue *queue, struct vmm_queue_saved *saved)
{
	*saved = (struct vmm_queue_saved){
		.desc = wire_put64(queue->desc),
		.avail = wire_put64(queue->avail),
		.used = wire_put64(queue->used),
		.size = wire_put16(queue->size),
		.next_avail = wire_put16(queue->next_avail),
		.next_used = wire_put16(queue->next_used),
		.signalled = wire_put16(queue->signalled),
		.ready = queue->ready ? 1 : 0,
		.signalled_valid = queue->signalled_valid ? 1 : 0,
		.broken = queue->broken ? 1 : 0,
	};
}

const char *vmm_queue_check(const struct vmm_queue *queue,
			    const struct vmm_queue_saved *saved)
{
	guint16 size = wire_get16(saved->size);
	struct places places;

	if (saved->ready > 1 || saved->signalled_valid > 1 || saved->broken > 1)
		return "a flag of a queue is neither 0 nor 1";
	for (guint i = 0; i < G_N_ELEMENTS(saved->pad); i++)
		if (saved->pad[i])
			return "the padding of a queue is not zero";
	if (size > VMM_QUEUE_SIZE_MAX)
		return "queue size is above the limit";
	if (!saved->ready)
		return NULL;
	return find_places(queue->memory, size, wire_get64(saved->desc),
			   wire_get64(saved->avail), wire_get64(saved->used), &places);
}

void vmm_queue_load(struct vmm_queue *queue, const struct vmm_queue_saved *saved)
{
	struct places places = { 0 };

	queue->desc = wire_get64(saved->desc);
	queue->avail = wire_get64(saved->avail);
	queue->used = wire_get64(saved->used);
	queue->size = wire_get16(saved->size);
	queue->next_avail = wire_get16(saved->next_avail);
	queue->next_used = wire_get16(saved->next_used);
	queue->signalled = wire_get16(saved->signalled);
	queue->signalled_valid = saved->signalled_valid;
	queue->broken = saved->broken ? "it was broken when it was saved" : NULL;
	/* Not saved: whoever loads kicks every queue, and says then what it wants. */
	queue->kicks_wanted = TRUE;
	queue->ready = saved->ready;
	if (queue->ready)
		g_assert(!find_places(queue->memory, queue->size, queue->desc,
				      queue->avail, queue->used, &places));
	settle(queue, &places);
}
