/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side of input: everything that the guest is given from outside is
 * numbered and handed on, as it was given, so that the secondary's guest gets the same.
 *
 * It is in the way of input for good, and off until there is a secondary: then
 * everything only passes. Around a twin's port and entropy source (checkpoint/twin.h)
 * it serves the node that was promoted.
 *
 * All functions: holding the device lock.
 */
#ifndef CKPT_MIRROR_H
#define CKPT_MIRROR_H

#include "checkpoint/addresses.h"
#include "checkpoint/filter.h"
#include "checkpoint/input.h"
#include "kvm/net.h"
#include "kvm/rng.h"

/* A frame's pieces as virtio-net gives them: header, a whole chain, its spill buffer.
 */
#define CKPT_MIRROR_PIECES_MAX (VMM_CHAIN_MAX + 2)

typedef struct ckpt_mirror ckpt_mirror;

/* One item: `iov` is what a CKPT_INPUT message carries, first its head. Good during the
 * call, and partly in guest memory: copy it once. Must not block. */
typedef void (*ckpt_mirror_send)(void *data, const struct iovec *iov, guint count);

/* `rng`: where entropy for the guest comes from; NULL: ckpt_host_random(). */
ckpt_mirror *ckpt_mirror_new(vmm_rng_source rng, void *rng_data);
/* After its ports. */
void ckpt_mirror_free(ckpt_mirror *mirror);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_mirror, ckpt_mirror_free)

/* What the guest sends is shown to this filter's note(), and what that says is handed
 * on among its input. */
void ckpt_mirror_set_filter(ckpt_mirror *mirror, const struct ckpt_filter_ops *filter);

/* From now on `send` gets all input, numbered from 1. A secondary has to keep all of it
 * until its first checkpoint is applied: start where that is cut, not before. */
void ckpt_mirror_start(ckpt_mirror *mirror, ckpt_mirror_send send, void *data);
void ckpt_mirror_stop(ckpt_mirror *mirror);
/* The number of the last item that the guest was given; 0: none since the start. With
 * the machine at rest, this is what its state has seen. */
guint64 ckpt_mirror_number(const ckpt_mirror *mirror);

/* `real` for card `device`, with each frame that it gives to the guest mirrored; those
 * that were too long for the guest's buffers are not. What the guest sends is looked at
 * for `addresses` (borrowed, longer-lived; may be NULL). */
struct vmm_net_port *ckpt_mirror_port_new_take(struct vmm_net_port *real_take,
					       guint device, ckpt_mirror *mirror,
					       ckpt_addresses *addresses);

/* A frame for card `device` that came while the machine rests for good: handed on as if the
 * guest had been given it. It is not in the state that was cut. */
void ckpt_mirror_frame(ckpt_mirror *mirror, guint device, const struct iovec *frame);

/* A vmm_rng_source, with the mirror as its data. */
gsize ckpt_mirror_rng(void *mirror, void *bytes, gsize len);
/* Console `console` of the guest is given these bytes: they enter its device's saved
 * state before the device lock is released. */
void ckpt_mirror_console(ckpt_mirror *mirror, guint console, const void *bytes,
			 gsize len);

/* A vmm_rng_source: getrandom(2). */
gsize ckpt_host_random(void *data, void *bytes, gsize len);

#endif
