/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair file's values, one by one: judged, and put into their place. */
#ifndef COLO_PAIR_VALUES_H
#define COLO_PAIR_VALUES_H

#include "colo/pair_rows.h"

/* Takes what is written for a row into `at`, which holds nothing yet. COLO_ERROR_CONFIG
 * with what is wrong and what to write, without file and line. A node's name must be
 * known to `pair` for COLO_VALUE_NODE. */
gboolean colo_value_take(const struct colo_row *row, const char *value, colo_pair *pair,
			 void *at, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether it can be the name of a pair, node, disk or network. */
gboolean colo_value_is_name(const char *text);

#endif
