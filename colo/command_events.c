/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `colo events`: what happened, and what happens. */
#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

struct reading {
	gboolean json, follow;
	gint64 since; /* the last event that we know; G_MAXINT64: all there are */
	gint64 id; /* of the request */
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

/* A page of past events. TRUE: there are more of them. */
static gboolean show_page(const struct colo_cmd *cmd, struct reading *reading,
			  JsonObject *result)
{
	JsonArray *events = colo_field_array(result, "events");
	gint64 missed, last;

	if (reading->since > 0 && colo_field_integer(result, "missed", &missed) &&
	    missed > 0)
		colo_cmd_complain(cmd,
				  "%" G_GINT64_FORMAT " events after number "
				  "%" G_GINT64_FORMAT " are kept no more",
				  missed, reading->since);
	for (guint i = 0; events && i < json_array_get_length(events); i++) {
		JsonObject *event = colo_field_element(events, i);

		if (event)
			show_event(reading, event);
	}
	/* One who says "more" without going on would have us ask for good. */
	if (!colo_field_true(result, "more") ||
	    !colo_field_integer(result, "last", &last) || last <= reading->since)
		return FALSE;
	reading->since = last;
	return TRUE;
}

static enum colo_asked ask_page(colo_asking *ask, struct reading *reading,
				gint64 deadline, char **why)
{
	JsonObject *arguments = json_object_new();

	json_object_set_boolean_member(arguments, "follow", reading->follow);
	json_object_set_int_member(arguments, "since", reading->since);
	return colo_ask_send(ask, "events", arguments, deadline, &reading->id, why);
}

/* Pages of the past, and then, if it is followed, what happens. */
static enum colo_asked read_events(const struct colo_cmd *cmd, colo_asking *ask,
				   struct reading *reading, char **why)
{
	gint64 deadline = colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS);
	enum colo_asked how = ask_page(ask, reading, deadline, why);
	gboolean answered = FALSE;

	while (how == COLO_ASKED_OK && (reading->follow || !answered)) {
		g_autoptr(JsonObject) line = NULL;
		JsonObject *result;
		const char *code;

		how = colo_ask_line(ask, answered ? G_MAXINT64 : deadline, &line, why);
		if (how != COLO_ASKED_OK)
			break;
		if (colo_field_text(line, "event")) {
			show_event(reading, line);
		} else if (colo_ask_is_answer(line, reading->id, &how, &result, &code,
					      why) &&
			   how == COLO_ASKED_OK) {
			answered = !show_page(cmd, reading, result);
			if (!answered)
				how = ask_page(ask, reading, deadline, why);
		}
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
	g_autoptr(colo_asking) ask = NULL;
	enum colo_asked how = COLO_ASKED_OK;

	if (!colo_cmd_parse(cmd, entries, 1) ||
	    !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	if (reading.since < -1) {
		colo_cmd_complain(cmd, "--since: a number of an event, 0 at least");
		return COLO_CMD_USAGE;
	}
	if (reading.since < 0)
		reading.since = reading.follow ? G_MAXINT64 : 0;
	socket_path = colo_cmd_run_path(cmd, "control.sock");
	ask = colo_ask_new(socket_path, colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS),
			   &how, &why);
	if (ask)
		how = read_events(cmd, ask, &reading, &why);
	if (how == COLO_ASKED_OK)
		return COLO_CMD_DONE;
	whole = colo_cmd_explain(cmd, how, why);
	colo_cmd_complain(cmd, "%s", whole);
	return colo_cmd_status_of(how);
}
