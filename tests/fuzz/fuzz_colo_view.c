/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `colo` shows of what a colod says: whatever it is, the views are safe on a
 * terminal, events and brief lines are one line, and JSON means what it meant.
 */
#include <string.h>

#include "base/protocol.h"
#include "colo/ask.h"
#include "colo/field.h"
#include "colo/view.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void judge(const char *text, gboolean one_line)
{
	g_assert(g_utf8_validate(text, -1, NULL));
	for (const char *at = text; *at; at = g_utf8_next_char(at))
		g_assert(colo_field_is_shown(g_utf8_get_char(at)) ||
			 (*at == '\n' && !one_line));
}

static void show(JsonObject *object)
{
	g_autofree char *status = colo_view_status("web", object, FALSE);
	g_autofree char *brief = colo_view_brief("web", object);
	g_autofree char *event = colo_view_event(object);
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
	g_autofree char *json = colo_field_json(node, FALSE);

	judge(status, FALSE);
	judge(brief, TRUE);
	judge(event, TRUE);
	judge(json, TRUE);
	g_assert(colo_view_health(object) <= COLO_HEALTH_UNKNOWN);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autofree char *why = NULL;
	g_autofree char *reason = NULL;
	g_autofree char *clean = colo_field_clean((const char *)data, size, 100);
	g_autoptr(JsonObject) line = colo_ask_parse((const char *)data, size, &why);
	enum colo_asked how;
	JsonObject *result = NULL;
	const char *code;

	judge(clean, TRUE);
	g_assert(!line == (why != NULL));
	if (!line)
		return 0;
	show(line);
	if (colo_ask_is_answer(line, 1, &how, &result, &code, &reason)) {
		g_assert((how == COLO_ASKED_NO) == (reason != NULL));
		if (result)
			show(result);
	}
	return 0;
}
