/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking into a JSON document, and making it fit to be shown. */
#include "colo/field.h"

#include <string.h>

static JsonNode *member(JsonObject *object, const char *name)
{
	return object ? json_object_get_member(object, name) : NULL;
}

JsonObject *colo_field_object(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *colo_field_array(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

const char *colo_field_text(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

gboolean colo_field_is(JsonObject *object, const char *name, const char *text)
{
	return g_strcmp0(colo_field_text(object, name), text) == 0;
}

gboolean colo_field_true(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return node && JSON_NODE_HOLDS_VALUE(node) &&
	       json_node_get_value_type(node) == G_TYPE_BOOLEAN &&
	       json_node_get_boolean(node);
}

gboolean colo_field_integer(JsonObject *object, const char *name, gint64 *value)
{
	JsonNode *node = member(object, name);
	double number;

	if (!node || !JSON_NODE_HOLDS_VALUE(node))
		return FALSE;
	if (json_node_get_value_type(node) == G_TYPE_INT64) {
		*value = json_node_get_int(node);
		return TRUE;
	}
	if (json_node_get_value_type(node) != G_TYPE_DOUBLE)
		return FALSE;
	number = json_node_get_double(node);
	if (!(number > -9e18 && number < 9e18))
		return FALSE;
	*value = (gint64)number;
	return TRUE;
}

JsonObject *colo_field_element(JsonArray *array, guint index)
{
	JsonNode *node;

	if (!array || index >= json_array_get_length(array))
		return NULL;
	node = json_array_get_element(array, index);
	return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

gboolean colo_field_is_shown(gunichar character)
{
	GUnicodeType type = g_unichar_type(character);

	return g_unichar_isprint(character) && type != G_UNICODE_LINE_SEPARATOR &&
	       type != G_UNICODE_PARAGRAPH_SEPARATOR;
}

static void append_escaped(GString *to, gunichar character)
{
	if (character == '\n')
		g_string_append(to, "\\n");
	else if (character == '\t')
		g_string_append(to, "\\t");
	else if (character < 0x100)
		g_string_append_printf(to, "\\x%02x", character);
	else
		g_string_append_printf(to, "\\u{%x}", character);
}

char *colo_field_clean(const char *text, gsize length, guint max)
{
	GString *clean = g_string_new(NULL);
	const char *end = text + length;

	for (guint count = 0; text < end; count++) {
		gunichar character = g_utf8_get_char_validated(text, end - text);

		if (max && count == max) {
			g_string_append(clean, "...");
			break;
		}
		/* GLib says so of a NUL, too. */
		if (character == (gunichar)-1 || character == (gunichar)-2 || !*text) {
			append_escaped(clean, (guchar)*text++);
			continue;
		}
		if (colo_field_is_shown(character))
			g_string_append_unichar(clean, character);
		else
			append_escaped(clean, character);
		text = g_utf8_next_char(text);
	}
	return g_string_free(clean, FALSE);
}

static JsonNode *clean_node(JsonNode *node);

static JsonNode *clean_text(JsonNode *node)
{
	const char *text = json_node_get_string(node);
	g_autofree char *clean =
		colo_field_clean(text, strlen(text), COLO_FIELD_TEXT_MAX);

	return json_node_init_string(json_node_alloc(), clean);
}

static JsonNode *clean_array(JsonArray *array)
{
	JsonArray *clean = json_array_new();
	guint length = MIN(json_array_get_length(array), COLO_FIELD_MANY_MAX);
	JsonNode *node;

	for (guint i = 0; i < length; i++)
		json_array_add_element(clean,
				       clean_node(json_array_get_element(array, i)));
	node = json_node_init_array(json_node_alloc(), clean);
	json_array_unref(clean);
	return node;
}

static JsonNode *clean_node(JsonNode *node)
{
	JsonObject *object;
	JsonNode *clean;

	if (JSON_NODE_HOLDS_ARRAY(node))
		return clean_array(json_node_get_array(node));
	if (JSON_NODE_HOLDS_OBJECT(node)) {
		object = colo_field_clean_object(json_node_get_object(node));
		clean = json_node_init_object(json_node_alloc(), object);
		json_object_unref(object);
		return clean;
	}
	if (JSON_NODE_HOLDS_VALUE(node) &&
	    json_node_get_value_type(node) == G_TYPE_STRING)
		return clean_text(node);
	return json_node_copy(node);
}

JsonObject *colo_field_clean_object(JsonObject *object)
{
	JsonObject *clean = json_object_new();
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;
	guint count = 0;

	json_object_iter_init(&iter, object);
	while (json_object_iter_next(&iter, &name, &node) &&
	       count++ < COLO_FIELD_MANY_MAX) {
		g_autofree char *shown =
			colo_field_clean(name, strlen(name), COLO_FIELD_TEXT_MAX);

		json_object_set_member(clean, shown, clean_node(node));
	}
	return clean;
}

char *colo_field_json(JsonNode *node, gboolean pretty)
{
	g_autofree char *json = json_to_string(node, pretty);
	GString *safe = g_string_new(NULL);

	/* Beyond ASCII there are only strings in JSON, so that an escape is right
	 * anywhere. The generator itself escapes what is below a space, but not DEL. */
	for (const char *at = json; *at; at = g_utf8_next_char(at)) {
		gunichar character = g_utf8_get_char(at);

		if (colo_field_is_shown(character) || character == '\n')
			g_string_append_unichar(safe, character);
		else if (character < 0x10000)
			g_string_append_printf(safe, "\\u%04x", character);
		else
			g_string_append_printf(safe, "\\u%04x\\u%04x",
					       0xd800 + ((character - 0x10000) >> 10),
					       0xdc00 +
						       ((character - 0x10000) & 0x3ff));
	}
	return g_string_free(safe, FALSE);
}
