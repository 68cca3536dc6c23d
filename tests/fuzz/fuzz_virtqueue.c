/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtqueue over memory that is the input. */
#include "kvm/virtqueue.h"

#include <string.h>

#include "tests/fuzz/harness.h"

/* Rings at the start of memory, near enough that small inputs reach them. */
#define DESC 0x000u
#define AVAIL 0x100u
#define USED 0x200u

static void check_chain(const struct vmm_memory *memory, const struct vmm_chain *chain)
{
	guint count;
	const struct vmm_bank *bank = vmm_memory_banks(memory, &count);
	gsize out = 0, in = 0;

	g_assert(chain->n_out + chain->n_in <= VMM_CHAIN_MAX);
	g_assert(chain->n_out + chain->n_in > 0);
	for (guint i = 0; i < chain->n_out + chain->n_in; i++) {
		const struct iovec *iov = &chain->iov[i];
		gsize at = (gsize)((guint8 *)iov->iov_base - bank->host);

		g_assert(iov->iov_len && at < bank->size &&
			 iov->iov_len <= bank->size - at);
		*(i < chain->n_out ? &out : &in) += iov->iov_len;
	}
	g_assert(out == chain->out_len && in == chain->in_len);
	g_assert(out + in <= G_MAXUINT32);
}

static void reload(struct vmm_queue *queue, struct fuzz_input *input)
{
	struct vmm_queue_saved saved;
	struct vmm_queue other = { .memory = queue->memory };

	vmm_queue_save(queue, &saved);
	g_assert(!vmm_queue_check(queue, &saved));
	vmm_queue_reset(&other);
	for (guint i = 0; i < 3; i++)
		((guint8 *)&saved)[fuzz_u8(input) % sizeof(saved)] = fuzz_u8(input);
	if (vmm_queue_check(&other, &saved))
		return;
	other.event_idx = queue->event_idx;
	other.indirect = queue->indirect;
	vmm_queue_load(&other, &saved);
	*queue = other;
}

static void step(struct vmm_queue *queue, struct fuzz_input *input)
{
	struct vmm_chain chain;
	guint8 op = fuzz_u8(input);
	guint8 bytes[32];
	gsize len;

	switch (op & 7) {
	case 0:
	case 1:
		if (vmm_queue_pop(queue, &chain) != VMM_POP_CHAIN)
			break;
		check_chain(queue->memory, &chain);
		if (op & 8)
			vmm_queue_unpop(queue, 1);
		else
			vmm_queue_push(queue, &chain, (guint32)MIN(chain.in_len, op));
		break;
	case 2:
		if (vmm_queue_chain_at(queue, fuzz_u16(input), &chain) == VMM_POP_CHAIN)
			check_chain(queue->memory, &chain);
		break;
	case 3:
		vmm_queue_push_head(queue, fuzz_u16(input), fuzz_u32(input));
		break;
	case 4:
		vmm_queue_should_signal(queue);
		break;
	case 5:
		vmm_queue_want_kicks(queue, op & 8);
		break;
	case 6:
		len = fuzz_bytes(input, bytes, op >> 3);
		vmm_memory_write(queue->memory, fuzz_u16(input) & 0x3ff, bytes, len);
		break;
	default:
		reload(queue, input);
		break;
	}
	vmm_queue_has_work(queue);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	vmm_memory *memory = vmm_memory_new(FUZZ_MEMORY, NULL);
	struct vmm_queue queue = { .memory = memory };
	guint8 flags = fuzz_u8(&input);
	guint8 bytes[0x400];
	gsize len;

	vmm_memory_track(memory, TRUE);
	vmm_queue_reset(&queue);
	queue.event_idx = flags & 1;
	queue.indirect = !(flags & 2);
	queue.size = flags & 4 ? fuzz_u16(&input) : 8;
	queue.desc = flags & 8 ? fuzz_gpa(&input) : DESC;
	queue.avail = flags & 16 ? fuzz_gpa(&input) : AVAIL;
	queue.used = flags & 32 ? fuzz_gpa(&input) : USED;
	len = fuzz_bytes(&input, bytes, fuzz_u16(&input) % (sizeof(bytes) + 1));
	vmm_memory_write(memory, 0, bytes, len);
	if (vmm_queue_enable(&queue))
		while (input.left)
			step(&queue, &input);
	vmm_memory_free(memory);
	return 0;
}
