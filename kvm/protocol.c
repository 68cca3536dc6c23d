/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol without its sockets.
 *
 * `rows` is the table of commands. A line is judged in this order: length, encoding and
 * outer form (before the JSON parser sees it), members, command, arguments; the first
 * fault is the answer.
 */
#include "kvm/protocol.h"

#include <string.h>

#include "kvm/error.h"

struct vmm_protocol {
	struct vmm_commands commands;
	GList *clients;
};

struct vmm_client {
	vmm_protocol *protocol;
	void (*send)(void *data, const char *line, gsize len);
	void *data;
	GByteArray *line; /* what came of a line that is not complete */
	gboolean events; /* subscribed */
	GList *answers; /* vmm_answer that were not given yet */
};

struct vmm_answer {
	vmm_client *client; /* NULL: gone */
	JsonNode *id;
};

struct row {
	const char *name;
	enum vmm_command command;
	const char *path; /* name of its argument; NULL: takes none */
	gboolean subscribes;
};

/* clang-format off */
static const struct row rows[] = {
	{ "status", VMM_COMMAND_STATUS },
	{ "pause", VMM_COMMAND_PAUSE },
	{ "resume", VMM_COMMAND_RESUME },
	{ "save", VMM_COMMAND_SAVE, "to" },
	{ "load", VMM_COMMAND_LOAD, "from" },
	{ "cancel", VMM_COMMAND_CANCEL },
	{ "powerdown", VMM_COMMAND_POWERDOWN },
	{ "reset", VMM_COMMAND_RESET },
	{ "quit", VMM_COMMAND_QUIT },
	{ "events", .subscribes = TRUE },
};
/* clang-format on */

const char *vmm_protocol_command(guint index)
{
	return index < G_N_ELEMENTS(rows) ? rows[index].name : NULL;
}

/* Takes `object`. */
static void send_object(vmm_client *client, JsonObject *object)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;
	g_autofree char *line = NULL;

	json_node_take_object(node, object);
	text = json_to_string(node, FALSE);
	line = g_strconcat(text, "\n", NULL);
	client->send(client->data, line, strlen(line));
}

/* Words of ours can hold a file name, which need not be UTF-8. */
static void set_text(JsonObject *object, const char *name, const char *text)
{
	g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

	if (valid)
		json_object_set_string_member(object, name, valid);
	else
		json_object_set_null_member(object, name);
}

static void free_answer(vmm_answer *answer)
{
	if (answer->client)
		answer->client->answers =
			g_list_remove(answer->client->answers, answer);
	json_node_unref(answer->id);
	g_free(answer);
}

/* Takes both. */
static void finish(vmm_answer *answer, gboolean ok, const char *member,
		   JsonObject *value)
{
	JsonObject *reply = json_object_new();
	vmm_client *client = answer->client;

	json_object_set_member(reply, "id", json_node_copy(answer->id));
	json_object_set_boolean_member(reply, "ok", ok);
	json_object_set_object_member(reply, member, value);
	free_answer(answer);
	if (client)
		send_object(client, reply);
	else
		json_object_unref(reply);
}

void vmm_answer_ok(vmm_answer *answer, JsonObject *result)
{
	finish(answer, TRUE, "result", result ? result : json_object_new());
}

void vmm_answer_error(vmm_answer *answer, const char *code, const char *message)
{
	JsonObject *error = json_object_new();

	json_object_set_string_member(error, "code", code);
	set_text(error, "message", message);
	finish(answer, FALSE, "error", error);
}

void vmm_answer_gerror(vmm_answer *answer, GError *error)
{
	const char *code = "failed";

	if (g_error_matches(error, VMM_ERROR, VMM_ERROR_MODE))
		code = "wrong-state";
	else if (g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE) ||
		 g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG))
		code = "refused";
	vmm_answer_error(answer, code, error->message);
	g_error_free(error);
}

static vmm_answer *new_answer(vmm_client *client, JsonNode *id)
{
	vmm_answer *answer = g_new0(vmm_answer, 1);

	answer->client = client;
	answer->id = id ? json_node_copy(id) : json_node_new(JSON_NODE_NULL);
	client->answers = g_list_prepend(client->answers, answer);
	return answer;
}

void vmm_answer_bad_request(vmm_answer *answer, const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	vmm_answer_error(answer, "bad-request", message);
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
		if (depth > VMM_CONTROL_DEPTH_MAX)
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

/* A string member, or NULL where there is none or it is something else. */
static const char *get_text(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

/* Takes `answer`. `arguments` may be NULL. */
static void run_row(vmm_client *client, const struct row *row, JsonObject *arguments,
		    vmm_answer *answer)
{
	const char *const names[] = { row->path, NULL };
	const struct vmm_commands *commands = &client->protocol->commands;
	const char *unknown = arguments ? stranger(arguments, names) : NULL;
	const char *path = NULL;

	if (unknown) {
		vmm_answer_bad_request(answer, "%s has no argument \"%s\"", row->name, unknown);
		return;
	}
	if (row->path) {
		path = arguments ? get_text(arguments, row->path) : NULL;
		if (!path || !*path) {
			vmm_answer_bad_request(answer, "%s needs the argument \"%s\", text",
				    row->name, row->path);
			return;
		}
	}
	if (row->subscribes) {
		client->events = TRUE;
		vmm_answer_ok(answer, NULL);
		return;
	}
	commands->run(commands->data, row->command, path, answer);
}

/* The same for a command of another layer. */
static void run_extra(vmm_client *client, const struct vmm_extra_command *extra,
		      JsonObject *arguments, vmm_answer *answer)
{
	const struct vmm_commands *commands = &client->protocol->commands;
	const char *unknown = arguments ? stranger(arguments, extra->arguments) : NULL;
	g_autoptr(JsonObject) none = json_object_new();

	if (unknown)
		vmm_answer_bad_request(answer, "%s has no argument \"%s\"", extra->name, unknown);
	else
		commands->run_extra(commands->data, extra->name,
				    arguments ? arguments : none, answer);
}

static const struct vmm_extra_command *find_extra(const vmm_client *client,
						  const char *command)
{
	const struct vmm_extra_command *extra = client->protocol->commands.extra;

	for (; extra && extra->name; extra++)
		if (!strcmp(extra->name, command))
			return extra;
	return NULL;
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

static void run_request(vmm_client *client, JsonObject *request)
{
	static const char *const names[] = { "id", "command", "arguments", NULL };
	JsonNode *id = json_object_get_member(request, "id");
	gboolean good_id = !id || can_send(id);
	vmm_answer *answer = new_answer(client, good_id ? id : NULL);
	JsonNode *arguments = json_object_get_member(request, "arguments");
	const char *command = get_text(request, "command");
	const char *unknown = stranger(request, names);
	const struct vmm_extra_command *extra;
	JsonObject *object = NULL;
	g_autofree char *message = NULL;

	if (!good_id) {
		vmm_answer_bad_request(answer, "\"id\" cannot be sent back");
		return;
	}
	if (unknown) {
		vmm_answer_bad_request(answer, "unknown member \"%s\"", unknown);
		return;
	}
	if (!command) {
		vmm_answer_bad_request(answer, "\"command\" must be there and be text");
		return;
	}
	if (arguments && !JSON_NODE_HOLDS_OBJECT(arguments)) {
		vmm_answer_bad_request(answer, "\"arguments\" must be an object");
		return;
	}
	if (arguments)
		object = json_node_get_object(arguments);
	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		if (strcmp(rows[i].name, command))
			continue;
		run_row(client, &rows[i], object, answer);
		return;
	}
	extra = find_extra(client, command);
	if (extra) {
		run_extra(client, extra, object, answer);
		return;
	}
	message = g_strdup_printf("unknown command \"%s\"", command);
	vmm_answer_error(answer, "unknown-command", message);
}

static void take_line(vmm_client *client, const char *line, gsize len)
{
	g_autoptr(JsonParser) parser = NULL;
	g_autoptr(GError) error = NULL;
	const char *why;
	JsonNode *root;

	while (len && g_ascii_isspace(line[len - 1]))
		len--;
	while (len && g_ascii_isspace(*line)) {
		line++;
		len--;
	}
	if (!len)
		return;
	why = judge_line(line, len);
	if (why) {
		vmm_answer_bad_request(new_answer(client, NULL), "%s", why);
		return;
	}
	parser = json_parser_new_immutable();
	if (!json_parser_load_from_data(parser, line, (gssize)len, &error)) {
		vmm_answer_bad_request(new_answer(client, NULL), "%s", error->message);
		return;
	}
	root = json_parser_get_root(parser);
	/* judge_line() saw its bracket. */
	g_assert(root && JSON_NODE_HOLDS_OBJECT(root));
	run_request(client, json_node_get_object(root));
}

gboolean vmm_client_input(vmm_client *client, const void *bytes, gsize len)
{
	const guint8 *at = bytes;
	GByteArray *line = client->line;

	while (len) {
		const guint8 *newline = memchr(at, '\n', len);
		gsize part = newline ? (gsize)(newline - at) + 1 : len;

		if (part > VMM_CONTROL_LINE_MAX - line->len) {
			vmm_answer_bad_request(new_answer(client, NULL),
				    "a line is longer than %u bytes",
				    VMM_CONTROL_LINE_MAX);
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

vmm_protocol *vmm_protocol_new(const struct vmm_commands *commands)
{
	vmm_protocol *protocol = g_new0(vmm_protocol, 1);

	protocol->commands = *commands;
	return protocol;
}

void vmm_protocol_free(vmm_protocol *protocol)
{
	if (!protocol)
		return;
	while (protocol->clients)
		vmm_client_free(protocol->clients->data);
	g_free(protocol);
}

vmm_client *vmm_client_new(vmm_protocol *protocol,
			   void (*send)(void *data, const char *line, gsize len),
			   void *data)
{
	vmm_client *client = g_new0(vmm_client, 1);

	client->protocol = protocol;
	client->send = send;
	client->data = data;
	client->line = g_byte_array_new();
	protocol->clients = g_list_prepend(protocol->clients, client);
	return client;
}

void vmm_client_free(vmm_client *client)
{
	for (GList *at = client->answers; at; at = at->next)
		((vmm_answer *)at->data)->client = NULL;
	g_list_free(client->answers);
	g_byte_array_unref(client->line);
	client->protocol->clients = g_list_remove(client->protocol->clients, client);
	g_free(client);
}

gboolean vmm_client_expects(const vmm_client *client)
{
	return client->answers || client->events;
}

void vmm_protocol_event(vmm_protocol *protocol, const char *name, const char *device,
			const char *detail)
{
	gint64 now_ms = g_get_real_time() / 1000;

	for (GList *at = protocol->clients; at; at = at->next) {
		vmm_client *client = at->data;
		JsonObject *event;

		if (!client->events)
			continue;
		event = json_object_new();
		json_object_set_string_member(event, "event", name);
		json_object_set_int_member(event, "time", now_ms);
		set_text(event, "device", device);
		set_text(event, "detail", detail);
		send_object(client, event);
	}
}
