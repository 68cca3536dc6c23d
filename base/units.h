/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write them. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <glib.h>

/* "512M", "4G", "64MiB", "1048576" -> bytes. Powers of 1024: K, M, G, T, each with an
 * optional "iB" or "B". FALSE for anything else, overflow and fractions included. */
gboolean base_parse_size(const char *text, guint64 *bytes) G_GNUC_WARN_UNUSED_RESULT;

#endif
