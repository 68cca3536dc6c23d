/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every section and key of a pair file, as one table: what is read, written in a diff,
 * freed and described in colo.conf(5) follows from it.
 */
#ifndef COLO_PAIR_ROWS_H
#define COLO_PAIR_ROWS_H

#include "colo/pair.h"

/* What a value is, and what it becomes in the structure. */
enum colo_value {
	COLO_VALUE_TEXT, /* char *: as it stands, not empty */
	COLO_VALUE_ANY_TEXT, /* char *: may be empty */
	COLO_VALUE_NAME, /* char *: [a-z0-9-], a letter first */
	COLO_VALUE_FILE, /* char *: an absolute path */
	COLO_VALUE_SERIAL, /* char *: at most 20 printable characters */
	COLO_VALUE_DEVICE, /* char *: a network interface's name */
	COLO_VALUE_DEVICES, /* char *[COLO_PATHS_MAX]: several of them */
	COLO_VALUE_MAC, /* char *: in lower case */
	COLO_VALUE_ADDRESS, /* char *: numeric HOST:PORT */
	COLO_VALUE_ADDRESSES, /* char *[COLO_PATHS_MAX]: several of them */
	COLO_VALUE_URLS, /* char **: http or https, host and port */
	COLO_VALUE_PREFIX, /* char *: begins and ends with a slash */
	COLO_VALUE_OPTIONS, /* char **: name=value */
	COLO_VALUE_WORD, /* char *: one of the row's words */
	COLO_VALUE_CHOICE, /* an enum: the index of it among the row's words */
	COLO_VALUE_SWITCH, /* gboolean: yes or no */
	COLO_VALUE_COUNT, /* guint */
	COLO_VALUE_TIME, /* guint: ms */
	COLO_VALUE_SIZE, /* guint64: bytes */
	COLO_VALUE_RATE, /* guint64: bytes a second, 0 for "none" */
	COLO_VALUE_NODES, /* the two nodes' names: struct colo_node_config */
	COLO_VALUE_NODE, /* guint: a node's index */
};

enum colo_pair_section {
	COLO_SECTION_PAIR,
	COLO_SECTION_VM,
	COLO_SECTION_DISK,
	COLO_SECTION_NETWORK,
	COLO_SECTION_NODE,
	COLO_SECTION_CHECKPOINT,
	COLO_SECTION_COMPARISON,
	COLO_SECTION_HEARTBEAT,
	COLO_SECTION_ARBITER,
	COLO_SECTION_HOOKS,
	COLO_SECTION_LIMITS,
	COLO__SECTIONS,
};

struct colo_section_row {
	const char *name;
	gsize offset; /* of its structure (the first of them) in a colo_pair */
	gsize stride; /* from one to the next; 0: there is one, and it takes no name */
	gboolean required;
};

/* The rows of a section stand together. */
struct colo_row {
	enum colo_pair_section section;
	const char *key;
	enum colo_value kind;
	gsize offset; /* in the section's structure */
	guint64 low, high; /* of a number, in the unit of the structure */
	const char *fallback; /* as it would be written; NULL: none, or worked out */
	const char *help; /* what it is; for words: "a|b|c" */
	const char *example; /* of what to write, where there is no fallback */
	gboolean required;
	gboolean per_node; /* an array of two; KEY for both nodes, or KEY.NODE for each
			    */
	guint arbiters; /* 1 << kind: the kinds of arbiter that have it; 0: all */
};

extern const struct colo_section_row colo_section_rows[COLO__SECTIONS];
extern const struct colo_row colo_rows[];
extern const guint colo_rows_count;

/* Where the row's value is in the `index`th structure of its section. */
void *colo_row_at(const struct colo_row *row, const colo_pair *pair, guint index);
/* How many structures of a section there are. */
guint colo_section_count(const colo_pair *pair, enum colo_pair_section section);
/* Name of one of them; NULL for sections without. Borrowed. */
const char *colo_section_name(const colo_pair *pair, enum colo_pair_section section,
			      guint index);
/* A value as it would be written, NULL where there is none; the caller's to free.
 * `node` counts for rows per node. */
char *colo_row_format(const struct colo_row *row, const colo_pair *pair, guint index,
		      guint node);
/* Forgets a value. */
void colo_row_clear(const struct colo_row *row, colo_pair *pair, guint index);

#endif
