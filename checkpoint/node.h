/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine's devices are made of so that it can be either side of a pair: cards,
 * disks and entropy in layers, of which those that are not needed only pass.
 *
 *	card:	filter, over mirror (numbers input) over relay (reads for a guest that is handed
 *		over) over twin (kept input) over the tap
 *	console: mirror (numbers input)	    over twin (kept input)   over its host end
 *	disk:	out (numbers writes)	    over twin (own, committed) over the file
 *
 * A console's output is never mirrored: each node's guest writes to that node's own host
 * end (see kvm/chardev.h).
 *
 * Made before the machine, freed after it. A machine that starts as the primary has no twin
 * layers; one that starts as a secondary keeps its own after a promotion.
 */
#ifndef CKPT_NODE_H
#define CKPT_NODE_H

#include "checkpoint/addresses.h"
#include "checkpoint/filter.h"
#include "checkpoint/primary.h"
#include "checkpoint/secondary.h"
#include "checkpoint/twin.h"

typedef struct ckpt_node ckpt_node;

struct ckpt_node_hooks {
	void *data;
	/* As ckpt_disk_twin_hooks has it: a secondary's disk. */
	void (*disk_failed)(void *data, guint disk, enum vmm_disk_op op, int error);
	/* What a disk refused is kept (ckpt_node_keep_refused()); once for each disk. */
	void (*disk_kept)(void *data, guint disk, const struct vmm_disk_request *request,
			  int error);
	/* After a promotion: all is on the disks and flushed (0), or -errno. */
	void (*durable)(void *data, int error);
};

/* `twin`: made to start as a secondary. `nets`: how many cards its machine will have.
 * `filter`: what the guest's frames are shown to; NULL: to nobody. */
ckpt_node *ckpt_node_new(gboolean twin, guint nets, const struct ckpt_node_hooks *hooks,
			 const struct ckpt_filter_ops *filter);
void ckpt_node_free(ckpt_node *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_node, ckpt_node_free)

/* Of a twin, before its machine is made: bytes kept in memory from which a checkpoint is
 * asked for; input, and disk writes of either guest. Without this, 16 and 32 MiB. */
void ckpt_node_set_needs(ckpt_node *node, guint64 input, guint64 disk);
/* For the machine's configuration. */
struct vmm_backends ckpt_node_backends(ckpt_node *node);
/* Once the machine is made. */
void ckpt_node_attach(ckpt_node *node, vmm_machine *machine);

struct ckpt_streams ckpt_node_streams(ckpt_node *node);
struct ckpt_twin_streams ckpt_node_twin_streams(ckpt_node *node);

/* On: what a disk refuses is not answered, but stays in flight with all that follows, for
 * whoever loads the guest's state elsewhere; off: it is answered as soon as the guest runs
 * (checkpoint/disk_out.h). With a machine attached; without the device lock. */
void ckpt_node_keep_refused(ckpt_node *node, gboolean on);

/* What card `net` of the guest calls itself. The secondary learns it from its own guest and
 * from the primary; after a promotion it is announced (checkpoint/announce.h) on the card's
 * real port. Holding the device lock. */
const ckpt_addresses *ckpt_node_addresses(const ckpt_node *node, guint net);

/* Card 0's own address; of a machine that has one. */
const guint8 *ckpt_node_mac(const ckpt_node *node);
/* Sends a frame that is nobody's but ours through card 0's real port, below all that numbers,
 * keeps or changes frames. FALSE: no room now, no card, or not plugged in (a secondary's). With
 * the machine at rest, without the device lock. */
gboolean ckpt_node_send_own(ckpt_node *node, const void *frame, gsize len);

#endif
