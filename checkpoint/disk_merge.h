/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A promotion's merge: what the guest wrote in its own epoch becomes a part of the disk, and
 * then all that came before the promotion's end is made durable.
 *
 * Everything with the device lock.
 */
#ifndef CKPT_DISK_MERGE_H
#define CKPT_DISK_MERGE_H

#include "checkpoint/disk_backlog.h"

typedef struct ckpt_merge ckpt_merge;

/* Queues the whole of `own` in the backlog, where its memory counts in `account`. Both outlive
 * the merge. `done`: called once, when it is over; must not free it. */
ckpt_merge *ckpt_merge_new(const ckpt_layer *own, ckpt_backlog *backlog,
			   struct ckpt_outlet *outlet, guint64 *account,
			   void (*done)(void *data), void *data);
void ckpt_merge_free(ckpt_merge *merge);
/* What the backlog has now, and nothing that is added later, is to be durable. Followed by
 * ckpt_backlog_pump() and ckpt_merge_go_on(). */
void ckpt_merge_seal(ckpt_merge *merge);
/* The backlog advanced. */
void ckpt_merge_go_on(ckpt_merge *merge);
/* Durable, or failed (ckpt_backlog_error()). */
gboolean ckpt_merge_is_over(const ckpt_merge *merge);

#endif
