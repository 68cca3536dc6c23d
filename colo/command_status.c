/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `colo status`: is it protected? For people and for monitoring programs. */
#include <string.h>
#include <unistd.h>

#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

#define WATCH_USUAL "2"
#define CLEAR "\033[H\033[2J\033[3J"

struct show {
	gboolean json, brief, colour;
	gboolean all; /* of the pairs, not one that was named */
	double watch_s; /* 0: once */
};

/* The option parser would take any word behind --watch for its value: only a number is.
 */
static void join_watch(char **argv)
{
	for (char **at = argv; *at && strcmp(*at, "--") != 0; at++) {
		const char *number =
			at[1] && g_ascii_isdigit(*at[1]) ? at[1] : WATCH_USUAL;
		char *joined;

		if (strcmp(*at, "--watch") != 0 && strcmp(*at, "-w") != 0)
			continue;
		joined = g_strconcat("--watch=", number, NULL);
		if (number == at[1]) {
			g_free(at[1]);
			memmove(at + 1, at + 2,
				(g_strv_length(at + 2) + 1) * sizeof(*at));
		}
		g_free(*at);
		*at = joined;
	}
}

static const char *how_name(enum colo_asked how)
{
	static const char *const names[] = { "ok",     "refused", "absent",
					     "denied", "silent",  "broken" };

	return names[how];
}

/* For programs: what a pair is that cannot be asked. */
static JsonObject *unknown_object(const char *pair, enum colo_asked how,
				  const char *why)
{
	JsonObject *object = json_object_new(), *error = json_object_new();
	g_autofree char *valid = g_utf8_make_valid(why, -1);

	json_object_set_string_member(error, "code", how_name(how));
	json_object_set_string_member(error, "message", valid);
	json_object_set_string_member(object, "pair", pair);
	json_object_set_null_member(object, "state");
	json_object_set_object_member(object, "error", error);
	return object;
}

/* Takes `object`; prints it unless it goes into the array of all. */
static void show_json(JsonArray *into, JsonObject *object)
{
	g_autoptr(JsonNode) node = NULL;
	g_autofree char *json = NULL;

	if (into) {
		json_array_add_object_element(into, object);
		return;
	}
	node = json_node_init_object(json_node_alloc(), object);
	json_object_unref(object);
	json = colo_field_json(node, TRUE);
	printf("%s\n", json);
}

static enum colo_health show_pair(const struct colo_cmd *cmd, const struct show *show,
				  JsonArray *into)
{
	g_autoptr(JsonObject) status = NULL;
	g_autofree char *why = NULL;
	g_autofree char *text = NULL;
	enum colo_asked how =
		colo_cmd_ask(cmd, "status", NULL,
			     colo_cmd_deadline(cmd, COLO_CMD_STATUS_MS), &status, &why);
	gboolean ok = how == COLO_ASKED_OK;

	if (show->json) {
		show_json(into, ok ? json_object_ref(status)
				   : unknown_object(cmd->pair, how, why));
	} else {
		if (ok && show->brief)
			text = colo_view_brief(cmd->pair, status);
		else if (ok)
			text = colo_view_status(cmd->pair, status, show->colour);
		else
			text = colo_view_unknown(cmd->pair, why, show->colour);
		colo_cmd_print(stdout, text);
		if (ok && show->brief)
			putchar('\n');
	}
	return ok ? colo_view_health(status) : COLO_HEALTH_UNKNOWN;
}

static enum colo_health show_all(struct colo_cmd *cmd, const struct show *show)
{
	g_auto(GStrv) pairs = colo_cmd_pairs(cmd);
	g_autoptr(JsonArray) into = show->json ? json_array_new() : NULL;
	enum colo_health worst = COLO_HEALTH_PROTECTED, health;

	for (guint i = 0; pairs[i]; i++) {
		if (i && !show->brief && !show->json)
			putchar('\n');
		health = COLO_HEALTH_UNKNOWN;
		if (colo_cmd_pair(cmd, pairs[i]))
			health = show_pair(cmd, show, into);
		worst = colo_view_worse(worst, health);
		colo_cmd_clear_pair(cmd);
	}
	if (into) {
		g_autoptr(JsonNode) node =
			json_node_init_array(json_node_alloc(), into);
		g_autofree char *json = colo_field_json(node, TRUE);

		printf("%s\n", json);
	}
	return worst;
}

static enum colo_health show_once(struct colo_cmd *cmd, const struct show *show)
{
	enum colo_health health =
		show->all ? show_all(cmd, show) : show_pair(cmd, show, NULL);

	fflush(stdout);
	return health;
}

/* Until somebody ends it; FALSE of a reader that is gone. */
static void watch(struct colo_cmd *cmd, const struct show *show)
{
	gboolean terminal = isatty(STDOUT_FILENO);

	for (gboolean first = TRUE; !ferror(stdout); first = FALSE) {
		if (terminal)
			fputs(CLEAR, stdout);
		else if (!first && !show->brief && !show->json)
			putchar('\n');
		show_once(cmd, show);
		g_usleep((gulong)(show->watch_s * G_USEC_PER_SEC));
	}
}

int colo_cmd_status(struct colo_cmd *cmd)
{
	struct show show = { .colour = colo_cmd_colour() };
	const GOptionEntry entries[] = {
		{ "json", 0, 0, G_OPTION_ARG_NONE, &show.json,
		  "All that colod tells, as JSON", NULL },
		{ "brief", 'b', 0, G_OPTION_ARG_NONE, &show.brief,
		  "One line for each pair", NULL },
		{ "watch", 'w', 0, G_OPTION_ARG_DOUBLE, &show.watch_s,
		  "Again and again, each 2 seconds if not told otherwise",
		  "[SECONDS]" },
		{ NULL }
	};
	g_auto(GStrv) argv = g_strdupv(cmd->argv);

	join_watch(argv);
	cmd->argv = argv;
	if (!colo_cmd_parse(cmd, entries, 1))
		return cmd->status;
	if (!(show.watch_s >= 0 && show.watch_s <= 86400)) {
		colo_cmd_complain(cmd, "--watch: 0.1 to 86400 seconds");
		return COLO_CMD_UNKNOWN;
	}
	if (!cmd->words) {
		g_auto(GStrv) pairs = colo_cmd_pairs(cmd);

		show.all = *pairs != NULL;
	}
	if (!show.all && !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	if (show.watch_s > 0) {
		show.watch_s = MAX(show.watch_s, 0.1);
		watch(cmd, &show);
	}
	return (int)show_once(cmd, &show);
}
