/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pair files. What is refused is refused with file, line and reason, in valid UTF-8;
 * what is taken does not differ from itself, nor from the same text taken again, and
 * what is written in a diff is read back. Our own pass over the lines and GKeyFile
 * agree on what is where.
 */
#include <string.h>

#include "colo/pair_rows.h"
#include "colo/pair_values.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void judge_error(const GError *error)
{
	const char *at = error->message;
	char *end;

	g_assert(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	g_assert(g_utf8_validate(at, -1, NULL));
	g_assert(g_str_has_prefix(at, "fuzz.conf:"));
	at += strlen("fuzz.conf:");
	g_assert(g_ascii_strtoull(at, &end, 10) > 0 && end > at);
	g_assert(g_str_has_prefix(end, ": ") && end[2]);
	g_assert(!g_str_has_prefix(end, ": not a key file"));
	g_assert(!g_str_has_suffix(end, "its value cannot be read: write it anew"));
	for (const char *c = at; *c; c++)
		g_assert(!g_ascii_iscntrl(*c) || *c == '\t');
}

/* A value as it is written out is a right value. */
static void judge_written(colo_pair *pair, const struct colo_row *row, guint index)
{
	g_autofree char *written = colo_row_format(row, pair, index, 0);
	union {
		char *text[COLO_NODES + COLO_PATHS_MAX];
		char **list;
	} value = { { NULL } };

	/* The nodes' names are not a value of their own. */
	if (!written || row->kind == COLO_VALUE_NODES)
		return;
	/* What was worked out, and what is not there. */
	if (row->kind == COLO_VALUE_COUNT && !strcmp(written, "0"))
		return;
	g_assert(colo_value_take(row, written, pair, &value, NULL));
	switch (row->kind) {
	case COLO_VALUE_URLS:
	case COLO_VALUE_OPTIONS:
		g_strfreev(value.list);
		break;
	case COLO_VALUE_CHOICE:
	case COLO_VALUE_SWITCH:
	case COLO_VALUE_COUNT:
	case COLO_VALUE_TIME:
	case COLO_VALUE_SIZE:
	case COLO_VALUE_RATE:
	case COLO_VALUE_NODE:
		break;
	default:
		for (guint i = 0; i < G_N_ELEMENTS(value.text); i++)
			g_free(value.text[i]);
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(colo_pair) pair =
		colo_pair_parse((const char *)data, size, "fuzz.conf", &error);
	g_autoptr(colo_pair) again = NULL;

	if (!pair) {
		judge_error(error);
		return 0;
	}
	g_assert(!error && strlen(pair->text) == size);
	g_assert(!colo_pair_diff(pair, pair));
	again = colo_pair_parse(pair->text, size, "fuzz.conf", NULL);
	g_assert(again && !colo_pair_diff(pair, again));
	for (guint i = 0; i < colo_rows_count; i++)
		for (guint j = 0; j < colo_section_count(pair, colo_rows[i].section);
		     j++)
			judge_written(pair, &colo_rows[i], j);
	return 0;
}
