/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair file for tests, and changes to it line by line. */
#ifndef TESTS_PAIR_TEXT_H
#define TESTS_PAIR_TEXT_H

#include <glib.h>

/* A right one with every section, and an etcd arbiter. */
extern const char pair_text[];

/* Line "KEY = VALUE" in the section [TITLE] instead of what is there; behind its first
 * line where there is none; taken out where `value` is NULL. `key` NULL: the section's
 * first line becomes `value`, or the whole section is taken out. The caller's to free.
 */
char *pair_text_with(const char *text, const char *title, const char *key,
		     const char *value);
/* The line (from 1) of a key, or of the section's first line; 0: it is not there. */
guint pair_text_line(const char *text, const char *title, const char *key);
/* A right one with another arbiter: "fence", "none" or "manual". */
char *pair_text_of(const char *arbiter);

#endif
