/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, times and rates as people write them. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <glib.h>

/* "512M", "4G", "64MiB", "1048576" -> bytes. Powers of 1024: K, M, G, T, each with an
 * optional "iB" or "B". FALSE for anything else, overflow and fractions included. */
gboolean base_parse_size(const char *text, guint64 *bytes) G_GNUC_WARN_UNUSED_RESULT;
/* "100MiB/s" -> bytes a second: a size with a unit, and "/s". */
gboolean base_parse_rate(const char *text,
			 guint64 *bytes_per_s) G_GNUC_WARN_UNUSED_RESULT;
/* "20ms", "1s", "2min", "1h" -> ms; the unit must be there. FALSE as for sizes. */
gboolean base_parse_time(const char *text, guint64 *ms) G_GNUC_WARN_UNUSED_RESULT;

/* The shortest way to write it that is read back as the same: "512MiB", "1500ms". The
 * caller's to free. Bytes that are no whole KiB are a number alone. */
char *base_format_size(guint64 bytes);
char *base_format_time(guint64 ms);

#endif
