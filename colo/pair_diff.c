/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two nodes' pair files in what they mean. */
#include <string.h>

#include "colo/pair_rows.h"

#define SHOWN 120 /* characters of a value */

struct two {
	const colo_pair *ours, *theirs;
	GString *lines;
};

static char *shown(const char *value)
{
	if (!value)
		return g_strdup("nothing");
	return g_utf8_strlen(value, -1) <= SHOWN
		       ? g_strdup(value)
		       : g_strdup_printf(
				 "%.*s...",
				 (int)(g_utf8_offset_to_pointer(value, SHOWN) - value),
				 value);
}

static void tell(struct two *two, const char *what, const char *ours,
		 const char *theirs)
{
	g_autofree char *a = shown(ours), *b = shown(theirs);

	/* Long values may differ behind what is shown: they are still told of. */
	if (g_strcmp0(ours, theirs))
		g_string_append_printf(two->lines, "%s: ours %s, theirs %s\n", what, a,
				       b);
}

/* The index of a section by its name, or -1. */
static int find(const colo_pair *pair, enum colo_pair_section section, const char *name)
{
	if (!colo_section_rows[section].stride)
		return 0;
	for (guint i = 0; i < colo_section_count(pair, section); i++)
		if (!strcmp(colo_section_name(pair, section, i), name))
			return (int)i;
	return -1;
}

static void compare_value(struct two *two, const struct colo_row *row, guint i, guint j,
			  guint node, guint their_node)
{
	const char *name = colo_section_name(two->ours, row->section, i);
	g_autofree char *ours = colo_row_format(row, two->ours, i, node);
	g_autofree char *theirs = colo_row_format(row, two->theirs, j, their_node);
	g_autofree char *what = g_strdup_printf(
		"%s%s%s/%s%s%s", colo_section_rows[row->section].name, name ? " " : "",
		name ? name : "", row->key, row->per_node ? "." : "",
		row->per_node ? two->ours->node[node].name : "");

	tell(two, what, ours, theirs);
}

static void compare_row(struct two *two, const struct colo_row *row)
{
	for (guint i = 0; i < colo_section_count(two->ours, row->section); i++) {
		int j = find(two->theirs, row->section,
			     colo_section_name(two->ours, row->section, i));

		if (j < 0)
			continue; /* told with the names */
		if (!row->per_node) {
			compare_value(two, row, i, (guint)j, 0, 0);
			continue;
		}
		for (guint node = 0; node < COLO_NODES; node++) {
			int other = find(two->theirs, COLO_SECTION_NODE,
					 two->ours->node[node].name);

			if (other >= 0)
				compare_value(two, row, i, (guint)j, node,
					      (guint)other);
		}
	}
}

/* The order counts: it is that of the guest's devices. */
static char *names(const colo_pair *pair, enum colo_pair_section section)
{
	GString *all = g_string_new(NULL);

	for (guint i = 0; i < colo_section_count(pair, section); i++)
		g_string_append_printf(all, "%s%s", i ? "; " : "",
				       colo_section_name(pair, section, i));
	return g_string_free(all, all->len == 0);
}

static void compare_names(struct two *two, enum colo_pair_section section)
{
	g_autofree char *ours = names(two->ours, section);
	g_autofree char *theirs = names(two->theirs, section);
	g_autofree char *what =
		g_strdup_printf("sections [%s NAME]", colo_section_rows[section].name);

	tell(two, what, ours, theirs);
}

/* Keys of two rows are told once: by the row of our arbiter's kind. */
static gboolean counts(const struct colo_row *row, const colo_pair *ours)
{
	return !row->arbiters || row->arbiters & 1u << ours->arbiter.kind;
}

char *colo_pair_diff(const colo_pair *ours, const colo_pair *theirs)
{
	struct two two = { ours, theirs, g_string_new(NULL) };

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];

		if (i == 0 || row->section != row[-1].section)
			if (row->section == COLO_SECTION_DISK ||
			    row->section == COLO_SECTION_NETWORK)
				compare_names(&two, row->section);
		if (counts(row, ours))
			compare_row(&two, row);
	}
	return g_string_free(two.lines, two.lines->len == 0);
}
