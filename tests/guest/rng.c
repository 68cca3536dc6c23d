/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rng.c - virtio-rng. */
#include "rng.h"

#include "loop.h"
#include "memory.h"
#include "text.h"
#include "virtio.h"

#define CHUNK 4096

static struct virtio *device;
static struct virtq *queue;
static u8 *buffer;
static u32 received;
static bool busy;

void rng_init(void)
{
	device = virtio_find(VIRTIO_ENTROPY, 0);
	if (!device)
		return;
	queue = memory_take(sizeof(*queue));
	buffer = memory_take(CHUNK);
	if (!virtio_begin(device, 0) || !virtq_setup(device, 0, queue, 8, false)) {
		device = NULL;
		return;
	}
	virtio_ready(device);
}

static bool answered(void)
{
	if (virtq_interrupted(queue) && virtq_pop(queue, &received))
		busy = false;
	return !busy;
}

const char *rng_hash(u64 bytes, u64 *hash)
{
	if (!device)
		return "no virtio-rng";
	*hash = FNV_START;
	while (bytes) {
		struct segment s = { buffer, bytes < CHUNK ? bytes : CHUNK };

		if (busy)
			return "an earlier request is not answered";
		busy = true;
		virtq_add(queue, &s, 0, 1, buffer);
		virtq_kick(queue);
		if (!loop_wait(answered, 30000000000ul))
			return "timeout";
		if (!received || received > s.length)
			return "bad length from device";
		*hash = fnv1a(*hash, buffer, received);
		bytes -= received;
	}
	return NULL;
}
