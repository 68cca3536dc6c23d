/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `colo events`: what happened, and what happens. */
#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

struct reading {
	gboolean json, follow;
	gint64 since; /* -1: not told */
	gint64 id; /* of the request */
	gint64 fence; /* of the one behind it, whose answer ends the past; 0: none */
};

static void show_event(const struct reading *reading, JsonObject *event)
{
	g_autofree char *line = NULL;

	if (reading->json) {
		g_autoptr(JsonNode) node =
			json_node_init_object(json_node_alloc(), event);

		line = colo_field_json(node, FALSE);
	} else {
		line = colo_view_event(event);
	}
	colo_cmd_print(stdout, line);
	putchar('\n');
	fflush(stdout);
}

/* Events that came within an answer. */
static void show_result(const struct reading *reading, JsonObject *result)
{
	JsonArray *events = colo_field_array(result, "events");

	for (guint i = 0; events && i < json_array_get_length(events); i++) {
		JsonObject *event = colo_field_element(events, i);

		if (event)
			show_event(reading, event);
	}
}

/* TRUE: there is more to come. */
static gboolean take_line(const struct reading *reading, JsonObject *line,
			  enum colo_asked *how, char **why)
{
	JsonObject *result;
	const char *code;

	if (colo_field_text(line, "event")) {
		show_event(reading, line);
		return TRUE;
	}
	if (reading->fence &&
	    colo_ask_is_answer(line, reading->fence, how, &result, &code, why)) {
		g_clear_pointer(why, g_free);
		*how = COLO_ASKED_OK; /* it only had to come */
		return FALSE;
	}
	if (!colo_ask_is_answer(line, reading->id, how, &result, &code, why))
		return TRUE;
	if (*how == COLO_ASKED_OK)
		show_result(reading, result);
	return *how == COLO_ASKED_OK;
}

static JsonObject *arguments_of(const struct reading *reading)
{
	JsonObject *arguments = json_object_new();

	json_object_set_boolean_member(arguments, "follow", reading->follow);
	if (reading->since >= 0 || !reading->follow)
		json_object_set_int_member(arguments, "since", MAX(reading->since, 0));
	return arguments;
}

/*
 * Events of the past come before or behind the answer; that of a "status" asked for
 * right behind tells that they are all here.
 */
static enum colo_asked read_events(colo_ask *ask, struct reading *reading,
				   gint64 deadline, char **why)
{
	enum colo_asked how = colo_ask_send(ask, "events", arguments_of(reading),
					    deadline, &reading->id, why);
	gboolean more = TRUE;

	if (how == COLO_ASKED_OK && !reading->follow)
		how = colo_ask_send(ask, "status", NULL, deadline, &reading->fence,
				    why);
	while (how == COLO_ASKED_OK && more) {
		g_autoptr(JsonObject) line = NULL;

		how = colo_ask_line(ask, deadline, &line, why);
		if (how != COLO_ASKED_OK)
			break;
		more = take_line(reading, line, &how, why);
		/* Once it has answered, whatever time passes until something happens.
		 */
		if (reading->follow && !colo_field_text(line, "event"))
			deadline = G_MAXINT64;
	}
	return how;
}

int colo_cmd_events(struct colo_cmd *cmd)
{
	struct reading reading = { .since = -1 };
	const GOptionEntry entries[] = {
		{ "follow", 'f', 0, G_OPTION_ARG_NONE, &reading.follow,
		  "Go on with what happens from now on", NULL },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &reading.json,
		  "Each event as JSON on a line", NULL },
		{ "since", 0, 0, G_OPTION_ARG_INT64, &reading.since,
		  "Only those after number N", "N" },
		{ NULL }
	};
	g_autofree char *socket_path = NULL;
	g_autofree char *why = NULL;
	g_autofree char *whole = NULL;
	g_autoptr(colo_ask) ask = NULL;
	enum colo_asked how = COLO_ASKED_OK;
	gint64 deadline;

	if (!colo_cmd_parse(cmd, entries, 1) ||
	    !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	if (reading.since < -1) {
		colo_cmd_complain(cmd, "--since: a number of an event, 0 at least");
		return COLO_CMD_USAGE;
	}
	deadline = colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS);
	socket_path = colo_cmd_run_path(cmd, "control.sock");
	ask = colo_ask_new(socket_path, deadline, &how, &why);
	if (ask)
		how = read_events(ask, &reading, deadline, &why);
	if (how == COLO_ASKED_OK)
		return COLO_CMD_DONE;
	whole = colo_cmd_explain(cmd, how, why);
	colo_cmd_complain(cmd, "%s", whole);
	return colo_cmd_status_of(how);
}
