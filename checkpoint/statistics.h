/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a primary's checkpoints cost: sums since the start, and the spread of the last
 * thousand. Any thread.
 */
#ifndef CKPT_STATISTICS_H
#define CKPT_STATISTICS_H

#include <json-glib/json-glib.h>

#include "checkpoint/primary.h"

typedef struct ckpt_statistics ckpt_statistics;

ckpt_statistics *ckpt_statistics_new(void);
void ckpt_statistics_free(ckpt_statistics *statistics);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_statistics, ckpt_statistics_free)

void ckpt_statistics_add(ckpt_statistics *statistics,
			 const struct ckpt_checkpoint_stats *checkpoint);
/* Sums under "total", the last one under "last" (null where there was none), times in
 * microseconds. For the caller to free. */
JsonObject *ckpt_statistics_json(ckpt_statistics *statistics);

#endif
