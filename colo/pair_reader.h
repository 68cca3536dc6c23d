/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair file while it is read: what reading it and judging the whole of it share. */
#ifndef COLO_PAIR_READER_H
#define COLO_PAIR_READER_H

#include "colo/pair_rows.h"
#include "colo/pair_text.h"

#define COLO_SECTION_MAX 8u /* of one kind */
G_STATIC_ASSERT(COLO_DISKS_MAX <= COLO_SECTION_MAX &&
		COLO_NETS_MAX <= COLO_SECTION_MAX && COLO_NODES <= COLO_SECTION_MAX);

struct colo_reader {
	const char *file; /* for errors */
	colo_pair_text *text;
	GKeyFile *values;
	colo_pair *pair; /* what was read so far */
	/* Where each section is in the text; NULL: it is not there. */
	const struct colo_text_section *at[COLO__SECTIONS][COLO_SECTION_MAX];
};

/* An error about a key: "FILE:LINE: [SECTION] KEY: ...". Always FALSE. */
gboolean colo_reader_bad(const struct colo_reader *reader, GError **error,
			 enum colo_pair_section section, guint index, const char *key,
			 const char *format, ...) G_GNUC_PRINTF(6, 7);
/* Where it is to be looked for: the key's line, else its section's, else the file's
 * last. */
guint colo_reader_line(const struct colo_reader *reader, enum colo_pair_section section,
		       guint index, const char *key);
/* Whether the file itself says it. */
gboolean colo_reader_says(const struct colo_reader *reader,
			  enum colo_pair_section section, guint index, const char *key);

/* Judges what only shows when all is known; each value by itself is right. */
gboolean colo_pair_judge(const struct colo_reader *reader,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
