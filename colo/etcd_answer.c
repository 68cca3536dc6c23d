/* SPDX-License-Identifier: GPL-2.0-or-later */
/* etcd's answers, judged. */
#include "colo/etcd_answer.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define OPENED_MAX 64u
#define TEXT_MAX 65536u
#define TOKEN_MAX 4096u
#define QUOTE_MAX 160u /* bytes of others' words in ours */

void colo_etcd_kv_clear(struct colo_etcd_kv *kv)
{
	g_free(kv->problem);
	*kv = (struct colo_etcd_kv){ 0 };
}

/* Others' words, fit for a log line. */
static char *quote(const char *text)
{
	char *copy = g_strndup(text, QUOTE_MAX);

	for (char *at = copy; *at; at++) {
		if (!g_ascii_isprint(*at))
			*at = '?';
	}
	return copy;
}

/* The parser recurses: so few brackets, wherever they are, and no deeper than that. */
static gboolean is_plain(const char *text, gsize length)
{
	guint opened = 0;

	for (gsize i = 0; i < length; i++)
		opened += text[i] == '{' || text[i] == '[';
	return opened <= OPENED_MAX;
}

/* The object that the text is, which lives as long as the parser. */
static JsonObject *parse(JsonParser *parser, const char *text, gsize length, char **why)
{
	g_autoptr(GError) error = NULL;
	JsonNode *root;

	if (!length || length > TEXT_MAX ||
	    !g_utf8_validate(text, (gssize)length, NULL) || !is_plain(text, length)) {
		*why = g_strdup("an answer that is no JSON");
		return NULL;
	}
	if (!json_parser_load_from_data(parser, text, (gssize)length, &error)) {
		g_autofree char *quoted = quote(error->message);

		*why = g_strdup_printf("an answer that is no JSON: %s", quoted);
		return NULL;
	}
	root = json_parser_get_root(parser);
	if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
		*why = g_strdup("an answer that is no JSON object");
		return NULL;
	}
	return json_node_get_object(root);
}

static const char *get_string(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

static JsonObject *get_object(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* FALSE where there is one that is no array. */
static gboolean get_array(JsonObject *object, const char *name, JsonArray **array)
{
	JsonNode *node = json_object_get_member(object, name);

	*array = NULL;
	if (!node)
		return TRUE;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return FALSE;
	*array = json_node_get_array(node);
	return TRUE;
}

static JsonObject *only_object(JsonArray *array)
{
	JsonNode *node;

	if (!array || json_array_get_length(array) != 1)
		return NULL;
	node = json_array_get_element(array, 0);
	return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* A positive number, or one in a string, as the gateway writes those of 64 bits. */
static gboolean get_positive(JsonObject *object, const char *name, gint64 *value)
{
	JsonNode *node = json_object_get_member(object, name);
	const char *text = get_string(object, name);
	guint64 number;

	if (text &&
	    g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT64, &number, NULL)) {
		*value = (gint64)number;
		return TRUE;
	}
	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_INT64)
		return FALSE;
	*value = json_node_get_int(node);
	return *value > 0;
}

/* Every answer of etcd's about keys has it; nobody else's does. */
static gboolean has_header(JsonObject *object)
{
	JsonObject *header = get_object(object, "header");
	gint64 revision;

	return header && get_positive(header, "revision", &revision);
}

/* Strict, unlike GLib's. NULL: it is no base64. */
static char *decode(const char *text, gsize *length)
{
	gsize digits = strlen(text);
	g_autofree char *bytes = NULL, *again = NULL;

	if (digits % 4)
		return NULL;
	bytes = (char *)g_base64_decode(text, length);
	again = g_base64_encode((const guchar *)bytes, *length);
	if (strcmp(again, text))
		return NULL;
	return g_steal_pointer(&bytes);
}

char *colo_etcd_value(const char *const names[COLO_NODES],
		      const struct colo_arbiter_record *record)
{
	if (record->solo)
		return g_strdup_printf("{\"generation\":%" G_GUINT64_FORMAT
				       ",\"solo\":\"%s\"}",
				       record->generation, names[record->owner]);
	return g_strdup_printf("{\"generation\":%" G_GUINT64_FORMAT
			       ",\"protected\":[\"%s\",\"%s\"]}",
			       record->generation, names[0], names[1]);
}

static gboolean find_name(const char *const names[COLO_NODES], const char *name,
			  guint *index)
{
	for (*index = 0; *index < COLO_NODES; (*index)++) {
		if (!strcmp(names[*index], name))
			return TRUE;
	}
	return FALSE;
}

static char *stranger(const char *name)
{
	g_autofree char *quoted = quote(name);

	return g_strdup_printf(
		"the record names node \"%s\", which is none of this pair's", quoted);
}

/* NULL: it is a record, and good. `*foreign`: it is one, but of others. */
static char *judge_protected(const char *const names[COLO_NODES], JsonArray *array,
			     gboolean *foreign)
{
	gboolean seen[COLO_NODES] = { FALSE };

	if (json_array_get_length(array) != COLO_NODES)
		return g_strdup("the record protects other than two nodes");
	for (guint i = 0; i < COLO_NODES; i++) {
		JsonNode *node = json_array_get_element(array, i);
		guint index;

		if (!JSON_NODE_HOLDS_VALUE(node) ||
		    json_node_get_value_type(node) != G_TYPE_STRING)
			return g_strdup("the record's nodes are no strings");
		if (!find_name(names, json_node_get_string(node), &index)) {
			*foreign = TRUE;
			return stranger(json_node_get_string(node));
		}
		if (seen[index])
			return g_strdup("the record names a node twice");
		seen[index] = TRUE;
	}
	return NULL;
}

static char *judge_value(const char *const names[COLO_NODES], const char *text,
			 gsize length, struct colo_arbiter_record *record,
			 gboolean *foreign)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	char *why = NULL;
	JsonObject *object = parse(parser, text, length, &why);
	const char *solo;
	JsonArray *both;
	gint64 generation;
	JsonNode *node;

	if (!object) {
		g_free(why);
		return g_strdup("the record is no JSON object");
	}
	node = json_object_get_member(object, "generation");
	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_INT64)
		return g_strdup("the record has no generation");
	generation = json_node_get_int(node);
	if (generation < 1 || (guint64)generation > COLO_ETCD_GENERATION_MAX)
		return g_strdup("the record's generation is out of range");
	solo = get_string(object, "solo");
	if (!get_array(object, "protected", &both) || !solo == !both ||
	    json_object_get_size(object) != 2)
		return g_strdup("the record says neither solo nor protected");
	record->generation = (guint64)generation;
	record->solo = solo != NULL;
	record->owner = 0;
	if (both)
		return judge_protected(names, both, foreign);
	if (find_name(names, solo, &record->owner))
		return NULL;
	*foreign = TRUE;
	return stranger(solo);
}

static gboolean parse_kvs(JsonObject *object, const char *key,
			  const char *const names[COLO_NODES], struct colo_etcd_kv *kv)
{
	g_autofree char *its_key = NULL, *value = NULL;
	JsonArray *array;
	JsonObject *one;
	const char *text;
	gsize length;

	if (!get_array(object, "kvs", &array))
		return FALSE;
	if (!array || !json_array_get_length(array))
		return !json_object_has_member(object, "count") ||
		       !g_strcmp0(get_string(object, "count"), "0");
	one = only_object(array);
	if (!one || !get_positive(one, "mod_revision", &kv->mod_revision))
		return FALSE;
	text = get_string(one, "key");
	its_key = text ? decode(text, &length) : NULL;
	if (!its_key || length != strlen(key) || memcmp(its_key, key, length))
		return FALSE;
	/* The gateway leaves out what is empty. */
	text = json_object_has_member(one, "value") ? get_string(one, "value") : "";
	value = text ? decode(text, &length) : NULL;
	if (!value)
		return FALSE;
	kv->there = TRUE;
	kv->problem = judge_value(names, value, length, &kv->record, &kv->foreign);
	kv->good = !kv->problem;
	if (!kv->good)
		kv->record = (struct colo_arbiter_record){ 0 };
	return TRUE;
}

static gboolean refuse(struct colo_etcd_kv *kv, char **why, const char *what)
{
	colo_etcd_kv_clear(kv);
	if (!*why)
		*why = g_strdup(what);
	return FALSE;
}

gboolean colo_etcd_parse_range(const char *text, gsize length, const char *key,
			       const char *const names[COLO_NODES],
			       struct colo_etcd_kv *kv, char **why)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonObject *object;

	*kv = (struct colo_etcd_kv){ 0 };
	*why = NULL;
	object = parse(parser, text, length, why);
	if (!object || !has_header(object) || !parse_kvs(object, key, names, kv))
		return refuse(kv, why, "an answer that is not etcd's to a reading");
	return TRUE;
}

gboolean colo_etcd_parse_txn(const char *text, gsize length, const char *key,
			     const char *const names[COLO_NODES], gboolean *succeeded,
			     struct colo_etcd_kv *kv, char **why)
{
	const char *const what = "an answer that is not etcd's to a transaction";
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonObject *object, *response;
	JsonArray *responses;
	JsonNode *node;

	*succeeded = FALSE;
	*kv = (struct colo_etcd_kv){ 0 };
	*why = NULL;
	object = parse(parser, text, length, why);
	if (!object || !has_header(object) ||
	    !get_array(object, "responses", &responses))
		return refuse(kv, why, what);
	response = only_object(responses);
	node = json_object_get_member(object, "succeeded");
	if (!response || (node && (!JSON_NODE_HOLDS_VALUE(node) ||
				   json_node_get_value_type(node) != G_TYPE_BOOLEAN)))
		return refuse(kv, why, what);
	if (node && json_node_get_boolean(node)) {
		if (!get_object(response, "response_put"))
			return refuse(kv, why, what);
		*succeeded = TRUE;
		return TRUE;
	}
	response = get_object(response, "response_range");
	if (!response || !parse_kvs(response, key, names, kv))
		return refuse(kv, why, what);
	return TRUE;
}

char *colo_etcd_parse_token(const char *text, gsize length, char **why)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonObject *object;
	const char *token = NULL;
	gsize digits;

	*why = NULL;
	object = parse(parser, text, length, why);
	if (object)
		token = get_string(object, "token");
	digits = token ? strlen(token) : 0;
	for (gsize i = 0; i < digits; i++) {
		if (!g_ascii_isgraph(token[i]))
			digits = 0;
	}
	if (digits && digits <= TOKEN_MAX)
		return g_strdup(token);
	if (!*why)
		*why = g_strdup("an answer without a token");
	return NULL;
}

char *colo_etcd_parse_error(guint status, const char *text, gsize length,
			    gboolean *no_token)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autofree char *why = NULL, *quoted = NULL;
	JsonObject *object = parse(parser, text, length, &why);
	const char *message = object ? get_string(object, "message") : NULL;

	if (object && !message)
		message = get_string(object, "error");
	quoted = quote(message ? message : "");
	*no_token = status == 401 || strstr(quoted, "invalid auth token") != NULL;
	return quoted[0] ? g_strdup_printf("status %u: %s", status, quoted)
			 : g_strdup_printf("status %u", status);
}
