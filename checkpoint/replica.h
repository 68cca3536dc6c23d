/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's memory: the last applied checkpoint as the base, the running guest's own
 * copies above it, and the pages of the checkpoint that is arriving, kept aside until all
 * of it is there.
 *
 * Nothing that arrives is visible to the guest before ckpt_replica_apply(): a page written
 * into the base early would show through wherever the guest has no copy of its own. Applying
 * touches only what differs: the pages that arrived, and those that the guest wrote since
 * the last time, which get the base's content back. Nothing is unmapped for it.
 *
 * One thread; the guest at rest during ckpt_replica_apply() and ckpt_replica_trim(). Those two
 * and the counting of private pages exclude each other: by the device lock, where another
 * thread counts.
 */
#ifndef CKPT_REPLICA_H
#define CKPT_REPLICA_H

#include "checkpoint/pages.h"
#include "kvm/memory.h"

typedef struct ckpt_replica ckpt_replica;

/* `memory` is a private one (vmm_memory_new_private()) and outlives the replica. At most
 * `stage_max` pages are kept aside. */
ckpt_replica *ckpt_replica_new(vmm_memory *memory, guint stage_max);
void ckpt_replica_free(ckpt_replica *replica);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_replica, ckpt_replica_free)

/* Keeps a page of the arriving checkpoint aside; again for the same page replaces it. FALSE
 * where it does not exist or there is no room. `content` NULL: all zero. */
gboolean ckpt_replica_stage(ckpt_replica *replica, guint32 page, const void *content);
/* Copies the guest's present page aside and stages the copy if its digest is `wanted`, which
 * the running guest can no longer change; FALSE, and nothing staged, if it is not. */
gboolean ckpt_replica_stage_present(ckpt_replica *replica, guint32 page,
				    const ckpt_digester *digester, struct ckpt_digest wanted);
guint ckpt_replica_staged(const ckpt_replica *replica);
/* Throws away what was staged: the checkpoint did not come to its end. */
void ckpt_replica_forget(ckpt_replica *replica);

/* The last applied checkpoint's content of a page, which must exist. */
const void *ckpt_replica_base(const ckpt_replica *replica, guint32 page);

/* Makes the staged checkpoint the base and brings the guest's memory to it. `dirty`: the pages
 * that the guest and its devices wrote since the last apply, each once. */
void ckpt_replica_apply(ckpt_replica *replica, const guint32 *dirty, guint count);

/* Pages of which the guest has its own copy: the memory that this costs. */
guint64 ckpt_replica_private_pages(const ckpt_replica *replica);
/* How many there will be when these pages, each once, are found to be written. */
guint64 ckpt_replica_private_with(const ckpt_replica *replica, const guint32 *dirty,
				  guint count);
/* Gives copies back to the host until at most `keep` are left, those first that were not
 * written for longest. Only directly after ckpt_replica_apply(), when copies equal the base. */
void ckpt_replica_trim(ckpt_replica *replica, guint64 keep);

#endif
