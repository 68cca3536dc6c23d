/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of a split virtqueue (VIRTIO 1.2, 2.7), with indirect descriptors
 * and event indices. The driver is hostile: every index, address and length is copied
 * once and judged before use; what breaks the rules makes the queue broken, for good
 * until the device is reset.
 *
 * All functions: holding the device lock.
 */
#ifndef VMM_VIRTQUEUE_H
#define VMM_VIRTQUEUE_H

#include <sys/uio.h>

#include "base/wire.h"
#include "kvm/memory.h"

#define VMM_QUEUE_SIZE_MAX 256u
/* Buffers of one chain; longer ones are refused. A buffer that spans two memory banks
 * is refused as well. */
#define VMM_CHAIN_MAX 256u

struct vmm_queue {
	vmm_memory *memory;
	/* Set by the driver through the transport. */
	guint16 size; /* a power of two, at most VMM_QUEUE_SIZE_MAX */
	gboolean ready;
	guint64 desc, avail, used; /* guest addresses */
	gboolean event_idx, indirect; /* negotiated */
	/* Progress. */
	guint16 next_avail; /* of the available ring, free-running */
	guint16 next_used; /* of the used ring, free-running */
	guint16 signalled; /* next_used when the driver was last interrupted */
	gboolean signalled_valid;
	gboolean kicks_wanted;
	const char *broken; /* why, NULL while all is well; static text */
	/* The rings in the host's address space while ready. */
	void *desc_host, *avail_host, *used_host;
};

/* One request: what the driver wants read (out) and written (in), in guest memory. The
 * iovecs belong to the chain, the memory to the guest, who can change it at any time.
 */
struct vmm_chain {
	guint16 head;
	guint n_out, n_in;
	gsize out_len, in_len; /* sums in bytes; each below 4 GiB */
	struct iovec iov[VMM_CHAIN_MAX]; /* out first, then in */
};
#define VMM_CHAIN_OUT(chain) ((chain)->iov)
#define VMM_CHAIN_IN(chain) ((chain)->iov + (chain)->n_out)

enum vmm_pop { VMM_POP_EMPTY, VMM_POP_CHAIN, VMM_POP_BROKEN };

/* As after a reset of the device: all but `memory`, which must be set, is initialised.
 */
void vmm_queue_reset(struct vmm_queue *queue);
/* Judges addresses and size; called when the driver enables the queue. FALSE marks it
 * broken. */
gboolean vmm_queue_enable(struct vmm_queue *queue);

/* Takes the next available chain. EMPTY also where the queue is not ready; unless kicks
 * are not wanted, the driver's next chain then brings one. */
enum vmm_pop vmm_queue_pop(struct vmm_queue *queue, struct vmm_chain *chain);
/* Gives the `count` chains popped last back to the available ring, untouched (no use for
 * them now). Before any of them is pushed. */
void vmm_queue_unpop(struct vmm_queue *queue, guint count);
/* Reads the chain at `head` again: for a request that was in flight when the state was
 * saved. VMM_POP_CHAIN or VMM_POP_BROKEN. */
enum vmm_pop vmm_queue_chain_at(struct vmm_queue *queue, guint16 head,
				struct vmm_chain *chain);
/* TRUE if a chain is available. Does not mark the queue broken. */
gboolean vmm_queue_has_work(const struct vmm_queue *queue);
/* Returns a chain to the driver; `written` bytes of its in-buffers were filled and are
 * marked dirty, with the used ring. */
void vmm_queue_push(struct vmm_queue *queue, const struct vmm_chain *chain,
		    guint32 written);
/* The same where the chain is no longer at hand: the caller marked what it wrote. */
void vmm_queue_push_head(struct vmm_queue *queue, guint16 head, guint32 written);
/* Puts a head into the used ring that the driver does not see before the next push: for
 * chains that must appear together (VIRTIO 1.2, 5.1.6.4). */
void vmm_queue_stage_head(struct vmm_queue *queue, guint16 head, guint32 written);
/* Whether the driver wants an interrupt for what was pushed since this was last asked.
 */
gboolean vmm_queue_should_signal(struct vmm_queue *queue);
/* Asks for (the default), or does without, a notification when the driver adds a chain.
 * After enabling, look for work once more. */
void vmm_queue_want_kicks(struct vmm_queue *queue, gboolean want);

/* What is saved of a queue. */
struct vmm_queue_saved {
	wire_u64 desc, avail, used;
	wire_u16 size, next_avail, next_used, signalled;
	guint8 ready, signalled_valid, broken, pad[5];
};
G_STATIC_ASSERT(sizeof(struct vmm_queue_saved) == 40);

void vmm_queue_save(const struct vmm_queue *queue, struct vmm_queue_saved *saved);
/* NULL, or why the values cannot be (static text). Changes nothing. */
const char *vmm_queue_check(const struct vmm_queue *queue,
			    const struct vmm_queue_saved *saved);
/* Takes values that vmm_queue_check() accepted. */
void vmm_queue_load(struct vmm_queue *queue, const struct vmm_queue_saved *saved);

#endif
