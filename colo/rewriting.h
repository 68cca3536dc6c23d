/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sequence rewriter (netcompare/rewrite.h) as a guest's frame filter. */
#ifndef COLO_REWRITING_H
#define COLO_REWRITING_H

#include "checkpoint/filter.h"

extern const struct ckpt_filter_ops colo_rewriting;

#endif
