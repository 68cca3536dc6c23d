/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where things are in a pair file. GKeyFile reads the values, but says no line numbers,
 * joins sections of one name and takes the last of two keys; this finds the lines, and
 * refuses what is there twice. `file` stands for the file in errors, all of which are
 * COLO_ERROR_CONFIG "FILE:LINE: what is wrong".
 */
#ifndef COLO_PAIR_TEXT_H
#define COLO_PAIR_TEXT_H

#include "colo/pair.h"

struct colo_text_key {
	char *key;
	guint line;
};

struct colo_text_section {
	char *title; /* between the brackets */
	guint line;
	GArray *keys; /* struct colo_text_key, in the order of the file */
};

typedef struct colo_pair_text {
	GPtrArray *sections; /* struct colo_text_section *, likewise */
	guint lines; /* at least 1 */
} colo_pair_text;

colo_pair_text *colo_pair_text_new(const char *text, gsize length, const char *file,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void colo_pair_text_free(colo_pair_text *text);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_pair_text, colo_pair_text_free)

/* The line of a key; 0: it is not there. */
guint colo_text_line(const struct colo_text_section *section, const char *key);

/* Always FALSE. */
gboolean colo_text_bad(GError **error, const char *file, guint line, const char *format,
		       ...) G_GNUC_PRINTF(4, 5);

#endif
