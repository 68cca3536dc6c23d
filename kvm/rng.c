/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio entropy device. It keeps nothing: a request that finds the source dry goes
 * back into the available ring.
 */
#include "kvm/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <sys/random.h>

#define QUEUE 0u
/* Bytes given for one request. The driver is told how many, and asks again for more. */
#define REQUEST_MAX 4096u
#define BATCH 64u
#define PCI_CLASS_OTHERS 0x00ff0000u

struct vmm_rng {
	vmm_virtio *virtio;
	vmm_loop *loop;
	vmm_rng_source source;
	void *data;
};

static gsize host_random(void *data, void *bytes, gsize len)
{
	gssize got = getrandom(bytes, len, 0);

	/* A signal at the wrong time: nothing else can go wrong. */
	while (got < 0 && errno == EINTR)
		got = getrandom(bytes, len, 0);
	g_assert(got > 0);
	return (gsize)got;
}

static guint32 fill(vmm_rng *rng, const struct vmm_chain *chain)
{
	const struct iovec *in = VMM_CHAIN_IN(chain);
	guint32 filled = 0;

	for (guint i = 0; i < chain->n_in && filled < REQUEST_MAX; i++) {
		gsize want = MIN(in[i].iov_len, REQUEST_MAX - filled);
		gsize got = rng->source(rng->data, in[i].iov_base, want);

		g_assert(got <= want);
		filled += (guint32)got;
		if (got < want)
			break;
	}
	return filled;
}

/* FALSE where the queue has no more to do now. */
static gboolean serve_one(vmm_rng *rng, struct vmm_queue *queue)
{
	struct vmm_chain chain;
	guint32 filled;

	if (vmm_queue_pop(queue, &chain) != VMM_POP_CHAIN)
		return FALSE;
	if (!chain.n_in) {
		vmm_virtio_break(rng->virtio, "a request has no buffer to fill");
		return FALSE;
	}
	filled = fill(rng, &chain);
	if (!filled) {
		vmm_queue_unpop(queue, 1);
		return FALSE;
	}
	vmm_queue_push(queue, &chain, filled);
	return TRUE;
}

static void serve(vmm_rng *rng)
{
	struct vmm_queue *queue = vmm_virtio_queue(rng->virtio, QUEUE);
	guint served = 0;

	while (serve_one(rng, queue)) {
		if (++served < BATCH && !vmm_loop_wanted(rng->loop))
			continue;
		vmm_virtio_again(rng->virtio, QUEUE);
		break;
	}
	vmm_virtio_signal(rng->virtio, QUEUE);
}

static void kick(void *data, guint index)
{
	serve(data);
}

/* Nothing is in flight, and nothing happens but in kick(). */
static void start_or_stop(void *data)
{
}

static const struct vmm_virtio_class rng_class = {
	.name = "rng",
	.type = VIRTIO_ID_RNG,
	.pci_class = PCI_CLASS_OTHERS,
	.queues = 1,
	.start = start_or_stop,
	.stop = start_or_stop,
	.kick = kick,
};

vmm_rng *vmm_rng_new(vmm_pci *pci, const struct vmm_platform *platform, guint instance,
		     vmm_rng_source source, void *data, GError **error)
{
	vmm_rng *rng = g_new0(vmm_rng, 1);

	rng->loop = platform->loop;
	rng->source = source ? source : host_random;
	rng->data = data;
	rng->virtio =
		vmm_virtio_new(pci, platform, &rng_class, instance, 0, rng, error);
	if (!rng->virtio)
		g_clear_pointer(&rng, g_free);
	return rng;
}

void vmm_rng_free(vmm_rng *rng)
{
	if (!rng)
		return;
	vmm_virtio_free(rng->virtio);
	g_free(rng);
}

vmm_virtio *vmm_rng_virtio(vmm_rng *rng)
{
	return rng->virtio;
}

void vmm_rng_poll(vmm_rng *rng)
{
	if (vmm_virtio_running(rng->virtio))
		serve(rng);
}
