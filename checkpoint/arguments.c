/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments of a control command. */
#include "checkpoint/arguments.h"

#include <string.h>

/* FALSE, for whoever hands that on. */
#define bad(...) (vmm_answer_bad_request(__VA_ARGS__), FALSE)

static gboolean holds(JsonNode *node, GType type)
{
	return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type;
}

gboolean ckpt_argument_text(JsonObject *arguments, const char *name, const char **value,
			    vmm_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, name);

	if (!node)
		return TRUE;
	if (!holds(node, G_TYPE_STRING) || !*json_node_get_string(node))
		return bad(answer, "\"%s\" must be text", name);
	*value = json_node_get_string(node);
	return TRUE;
}

gboolean ckpt_argument_number(JsonObject *arguments, const char *name, guint64 min,
			      guint64 max, guint64 *value, vmm_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, name);
	gint64 number;

	if (!node)
		return TRUE;
	number = holds(node, G_TYPE_INT64) ? json_node_get_int(node) : -1;
	if (number < 0 || (guint64)number < min || (guint64)number > max)
		return bad(answer,
			   "\"%s\" must be a whole number from %" G_GUINT64_FORMAT
			   " to %" G_GUINT64_FORMAT, name, min, max);
	*value = (guint64)number;
	return TRUE;
}

gboolean ckpt_argument_signed(JsonObject *arguments, const char *name, gint64 min, gint64 max,
			      gint64 *value, vmm_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, name);
	gint64 number;

	if (!node)
		return TRUE;
	if (!holds(node, G_TYPE_INT64) || (number = json_node_get_int(node)) < min ||
	    number > max)
		return bad(answer,
			   "\"%s\" must be a whole number from %" G_GINT64_FORMAT
			   " to %" G_GINT64_FORMAT, name, min, max);
	*value = number;
	return TRUE;
}

gboolean ckpt_argument_switch(JsonObject *arguments, const char *name, gboolean *value,
			      vmm_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, name);

	if (!node)
		return TRUE;
	if (!holds(node, G_TYPE_BOOLEAN))
		return bad(answer, "\"%s\" must be true or false", name);
	*value = json_node_get_boolean(node);
	return TRUE;
}

gboolean ckpt_argument_word(JsonObject *arguments, const char *name,
			    const char *const *words, guint *value, vmm_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, name);
	const char *text = node && holds(node, G_TYPE_STRING) ? json_node_get_string(node) :
								NULL;
	g_autofree char *known = g_strjoinv(" or ", (char **)words);

	if (!node)
		return TRUE;
	for (guint i = 0; text && words[i]; i++)
		if (!strcmp(words[i], text)) {
			*value = i;
			return TRUE;
		}
	return bad(answer, "\"%s\" must be %s", name, known);
}
