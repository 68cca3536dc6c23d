/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol without its sockets.
 *
 * A line is judged in this order: length, encoding and
 * outer form (before the JSON parser sees it), members, command, arguments; the first
 * fault is the answer.
 */
#include "base/protocol.h"

#include <string.h>

struct base_protocol {
	struct base_commands commands;
	GList *clients;
};

struct base_client {
	base_protocol *protocol;
	void (*send)(void *data, const char *line, gsize len);
	void *data;
	GByteArray *line; /* what came of a line that is not complete */
	gboolean events; /* subscribed */
	GList *answers; /* base_answer that were not given yet */
};

struct base_answer {
	base_client *client; /* NULL: gone */
	JsonNode *id;
};

char *base_json_line(JsonObject *object)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;

	json_node_take_object(node, object);
	text = json_to_string(node, FALSE);
	return g_strconcat(text, "\n", NULL);
}

/* Takes `object`. */
static void send_object(base_client *client, JsonObject *object)
{
	g_autofree char *line = base_json_line(object);

	client->send(client->data, line, strlen(line));
}

void base_json_set_text(JsonObject *object, const char *name, const char *text)
{
	g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

	if (valid)
		json_object_set_string_member(object, name, valid);
	else
		json_object_set_null_member(object, name);
}

static void free_answer(base_answer *answer)
{
	if (answer->client)
		answer->client->answers =
			g_list_remove(answer->client->answers, answer);
	json_node_unref(answer->id);
	g_free(answer);
}

/* Takes both. */
static void finish(base_answer *answer, gboolean ok, const char *member,
		   JsonObject *value)
{
	JsonObject *reply = json_object_new();
	base_client *client = answer->client;

	json_object_set_member(reply, "id", json_node_copy(answer->id));
	json_object_set_boolean_member(reply, "ok", ok);
	json_object_set_object_member(reply, member, value);
	free_answer(answer);
	if (client)
		send_object(client, reply);
	else
		json_object_unref(reply);
}

void base_answer_ok(base_answer *answer, JsonObject *result)
{
	finish(answer, TRUE, "result", result ? result : json_object_new());
}

void base_answer_error(base_answer *answer, const char *code, const char *message)
{
	JsonObject *error = json_object_new();

	json_object_set_string_member(error, "code", code);
	base_json_set_text(error, "message", message);
	finish(answer, FALSE, "error", error);
}

void base_answer_subscribe(base_answer *answer, JsonObject *result)
{
	if (answer->client)
		answer->client->events = TRUE;
	base_answer_ok(answer, result);
}

static base_answer *new_answer(base_client *client, JsonNode *id)
{
	base_answer *answer = g_new0(base_answer, 1);

	answer->client = client;
	answer->id = id ? json_node_copy(id) : json_node_new(JSON_NODE_NULL);
	client->answers = g_list_prepend(client->answers, answer);
	return answer;
}

void base_answer_bad_request(base_answer *answer, const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	base_answer_error(answer, "bad-request", message);
}

/* The UTF-16 unit of "\uXXXX" at `at`; -1: there is none. */
static int unicode_escape(const char *at, const char *end)
{
	int unit = 0;

	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	for (guint i = 2; i < 6; i++) {
		if (!g_ascii_isxdigit(at[i]))
			return -1;
		unit = unit << 4 | g_ascii_xdigit_value(at[i]);
	}
	return unit;
}

/* How many bytes the escape at `at` has; 0: it is none that is let through, be it for
 * JSON (which the parser answers with a leak), for half a surrogate pair, or for a NUL,
 * where the parser would end the string and hand on what was not sent. */
static guint escape_length(const char *at, const char *end)
{
	int unit = unicode_escape(at, end);

	if (unit < 0)
		return end - at >= 2 && strchr("\"\\/bfnrt", at[1]) ? 2 : 0;
	if (unit >= 0xd800 && unit < 0xdc00) {
		int low = unicode_escape(at + 6, end);

		return low >= 0xdc00 && low < 0xe000 ? 12 : 0;
	}
	return unit == 0 || (unit >= 0xdc00 && unit < 0xe000) ? 0 : 6;
}

/* The closing quote of the string that opens at `at`; NULL where it is not proper. */
static const char *skip_string(const char *at, const char *end)
{
	for (at++; at < end && *at != '"';) {
		guint len = *at == '\\' ? escape_length(at, end) : (guchar)*at >= ' ';

		if (!len)
			return NULL;
		at += len;
	}
	return at < end ? at : NULL;
}

/*
 * Why the line is not even shown to the JSON parser; NULL: it can be. The parser
 * recurses at each bracket, leaks all but the last of several values, and takes
 * comments, assignments and more that is not JSON: so this lets one object through, of
 * the characters that JSON is made of, and not nested deeply.
 */
static const char *judge_line(const char *line, gsize len)
{
	const char *end = line + len;
	guint depth = 0;

	if (!g_utf8_validate(line, (gssize)len, NULL)) /* refuses NUL bytes as well */
		return "not UTF-8 text";
	if (*line != '{')
		return "a request is an object";
	for (const char *at = line; at < end; at++) {
		if (at > line && !depth)
			return "something after the object";
		if (*at == '{' || *at == '[')
			depth++;
		else if (*at == '}' || *at == ']')
			depth--;
		else if (*at == '"')
			at = skip_string(at, end);
		else if (!strchr(" \t\r:,+-.0123456789eEtrufalsn", *at))
			return "not JSON";
		if (!at)
			return "a string that is not proper";
		if (depth > BASE_CONTROL_DEPTH_MAX)
			return "nested too deeply";
	}
	return depth ? "the object has no end" : NULL;
}

/* A member of `object` that is not in `names` (ended by NULL); NULL: there is none. */
static const char *stranger(JsonObject *object, const char *const *names)
{
	JsonObjectIter iter;
	const char *name;

	json_object_iter_init(&iter, object);
	while (json_object_iter_next(&iter, &name, NULL))
		if (!g_strv_contains(names, name))
			return name;
	return NULL;
}

const char *base_json_text(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

gboolean base_json_count(JsonObject *object, const char *name, guint64 *value)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_INT64 ||
	    json_node_get_int(node) < 0)
		return FALSE;
	*value = (guint64)json_node_get_int(node);
	return TRUE;
}

/* Takes `answer`. `arguments` may be NULL. */
static void run_row(base_client *client, guint index, JsonObject *arguments,
		    base_answer *answer)
{
	const struct base_commands *commands = &client->protocol->commands;
	const struct base_command *row = &commands->rows[index];
	const char *unknown = arguments ? stranger(arguments, row->arguments) : NULL;
	g_autoptr(JsonObject) none = json_object_new();

	if (unknown)
		base_answer_bad_request(answer, "%s has no argument \"%s\"", row->name,
					unknown);
	else
		commands->run(commands->data, row->name, index,
			      arguments ? arguments : none, answer);
}

/* Whether `id` can be sent back: the parser takes numbers that JSON has no words for,
 * such as 1e400 (infinite). */
static gboolean can_send(JsonNode *id)
{
	g_autofree char *text = json_to_string(id, FALSE);
	g_autoptr(JsonParser) parser = json_parser_new_immutable();

	return g_utf8_validate(text, -1, NULL) &&
	       json_parser_load_from_data(parser, text, -1, NULL);
}

static void run_request(base_client *client, JsonObject *request)
{
	static const char *const names[] = { "id", "command", "arguments", NULL };
	JsonNode *id = json_object_get_member(request, "id");
	gboolean good_id = !id || can_send(id);
	base_answer *answer = new_answer(client, good_id ? id : NULL);
	JsonNode *arguments = json_object_get_member(request, "arguments");
	const char *command = base_json_text(request, "command");
	const char *unknown = stranger(request, names);
	const struct base_command *rows = client->protocol->commands.rows;
	JsonObject *object = NULL;
	g_autofree char *message = NULL;

	if (!good_id) {
		base_answer_bad_request(answer, "\"id\" cannot be sent back");
		return;
	}
	if (unknown) {
		base_answer_bad_request(answer, "unknown member \"%s\"", unknown);
		return;
	}
	if (!command) {
		base_answer_bad_request(answer,
					"\"command\" must be there and be text");
		return;
	}
	if (arguments && !JSON_NODE_HOLDS_OBJECT(arguments)) {
		base_answer_bad_request(answer, "\"arguments\" must be an object");
		return;
	}
	if (arguments)
		object = json_node_get_object(arguments);
	for (guint i = 0; rows[i].name; i++) {
		if (strcmp(rows[i].name, command))
			continue;
		run_row(client, i, object, answer);
		return;
	}
	message = g_strdup_printf("unknown command \"%s\"", command);
	base_answer_error(answer, "unknown-command", message);
}

JsonObject *base_json_parse(const char *line, gsize len, char **why)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autoptr(GError) error = NULL;
	const char *fault;
	JsonNode *root;

	while (len && g_ascii_isspace(line[len - 1]))
		len--;
	while (len && g_ascii_isspace(*line)) {
		line++;
		len--;
	}
	fault = len ? judge_line(line, len) : "nothing is there";
	if (fault) {
		*why = g_strdup(fault);
		return NULL;
	}
	if (!json_parser_load_from_data(parser, line, (gssize)len, &error)) {
		*why = g_strdup(error->message);
		return NULL;
	}
	root = json_parser_get_root(parser);
	/* judge_line() saw its bracket. */
	g_assert(root && JSON_NODE_HOLDS_OBJECT(root));
	return json_object_ref(json_node_get_object(root));
}

static void take_line(base_client *client, const char *line, gsize len)
{
	g_autoptr(JsonObject) request = NULL;
	g_autofree char *why = NULL;

	while (len && g_ascii_isspace(line[len - 1]))
		len--;
	while (len && g_ascii_isspace(*line)) {
		line++;
		len--;
	}
	if (!len)
		return;
	request = base_json_parse(line, len, &why);
	if (request)
		run_request(client, request);
	else
		base_answer_bad_request(new_answer(client, NULL), "%s", why);
}

gboolean base_client_input(base_client *client, const void *bytes, gsize len)
{
	const guint8 *at = bytes;
	GByteArray *line = client->line;

	while (len) {
		const guint8 *newline = memchr(at, '\n', len);
		gsize part = newline ? (gsize)(newline - at) + 1 : len;

		if (part > BASE_CONTROL_LINE_MAX - line->len) {
			base_answer_bad_request(new_answer(client, NULL),
						"a line is longer than %u bytes",
						BASE_CONTROL_LINE_MAX);
			return FALSE;
		}
		g_byte_array_append(line, at, (guint)part);
		at += part;
		len -= part;
		if (newline) {
			take_line(client, (const char *)line->data, line->len);
			g_byte_array_set_size(line, 0);
		}
	}
	return TRUE;
}

base_protocol *base_protocol_new(const struct base_commands *commands)
{
	base_protocol *protocol = g_new0(base_protocol, 1);

	protocol->commands = *commands;
	return protocol;
}

void base_protocol_free(base_protocol *protocol)
{
	if (!protocol)
		return;
	while (protocol->clients)
		base_client_free(protocol->clients->data);
	g_free(protocol);
}

base_client *base_client_new(base_protocol *protocol,
			     void (*send)(void *data, const char *line, gsize len),
			     void *data)
{
	base_client *client = g_new0(base_client, 1);

	client->protocol = protocol;
	client->send = send;
	client->data = data;
	client->line = g_byte_array_new();
	protocol->clients = g_list_prepend(protocol->clients, client);
	return client;
}

void base_client_free(base_client *client)
{
	for (GList *at = client->answers; at; at = at->next)
		((base_answer *)at->data)->client = NULL;
	g_list_free(client->answers);
	g_byte_array_unref(client->line);
	client->protocol->clients = g_list_remove(client->protocol->clients, client);
	g_free(client);
}

gboolean base_client_expects(const base_client *client)
{
	return client->answers || client->events;
}

/* {"event", "time"}, then `fields`. */
static JsonObject *make_event(const char *name, JsonObject *fields)
{
	JsonObject *event = json_object_new();
	JsonObjectIter iter;
	const char *member;
	JsonNode *node;

	json_object_set_string_member(event, "event", name);
	json_object_set_int_member(event, "time", g_get_real_time() / 1000);
	if (!fields)
		return event;
	json_object_iter_init_ordered(&iter, fields);
	while (json_object_iter_next_ordered(&iter, &member, &node))
		json_object_set_member(event, member, json_node_copy(node));
	json_object_unref(fields);
	return event;
}

void base_protocol_event(base_protocol *protocol, const char *name, JsonObject *fields)
{
	g_autofree char *line = base_json_line(make_event(name, fields));
	gsize len = strlen(line);

	for (GList *at = protocol->clients; at; at = at->next) {
		base_client *client = at->data;

		if (client->events)
			client->send(client->data, line, len);
	}
}
