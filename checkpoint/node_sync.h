/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first sync of all disks of a machine over a link: checkpoint/disk_sync.h for each,
 * one after the other, so that no more than one window of them is ever under way.
 *
 * Its messages are urgent ones as forwarded writes are: what matters is the order of the two.
 * A disk that fails, and a read-only disk that is not the same on both nodes, lose the link
 * with a reason that names it, which the peer is told.
 *
 * Everything with the device lock.
 */
#ifndef CKPT_NODE_SYNC_H
#define CKPT_NODE_SYNC_H

#include "checkpoint/disk_sync.h"
#include "checkpoint/disk_twin.h"
#include "checkpoint/link.h"

/* Primary. */

typedef struct ckpt_node_sync_out ckpt_node_sync_out;

/* Of all disks of `out`, which has forwarding on. `out` and `link` outlive it. */
ckpt_node_sync_out *ckpt_node_sync_out_new(ckpt_disk_out *out, ckpt_link *link,
					   const guint8 secret[CKPT_SECRET]);
/* At any time. */
void ckpt_node_sync_out_free(ckpt_node_sync_out *sync);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_node_sync_out, ckpt_node_sync_out_free)

/* Begins one more piece; FALSE: none now. Not from a completion. */
gboolean ckpt_node_sync_out_step(ckpt_node_sync_out *sync);
/* A CKPT_SYNC_DISK message. FALSE: it is wrong, or says that the sync cannot be. */
gboolean ckpt_node_sync_out_take(ckpt_node_sync_out *sync, const void *payload,
				 gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* How far disk `index` is; FALSE: there is none. */
gboolean ckpt_node_sync_out_get(const ckpt_node_sync_out *sync, guint index,
				struct ckpt_disk_sync_counters *counters);

/* Secondary. */

typedef struct ckpt_node_sync_in ckpt_node_sync_in;

/* `twins` and `link` outlive it. */
ckpt_node_sync_in *ckpt_node_sync_in_new(ckpt_disk_twins *twins, ckpt_link *link,
					 const guint8 secret[CKPT_SECRET]);
/* At any time. What has arrived is written nevertheless. */
void ckpt_node_sync_in_free(ckpt_node_sync_in *sync);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_node_sync_in, ckpt_node_sync_in_free)

/* A CKPT_SYNC_DISK message; NULL, or why it is refused (static text). */
const char *ckpt_node_sync_in_take(ckpt_node_sync_in *sync, const void *payload,
				   gsize len);

#endif
