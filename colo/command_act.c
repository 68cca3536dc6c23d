/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands that tell colod to do one thing. */
#include <string.h>
#include <unistd.h>

#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

#define POLL_US 200000
/* A guest that is to end in good order takes its time. */
#define STOP_MS 120000u
/* `switchover --wait`: a switch, and the first sync that may follow it. */
#define WAIT_MS 600000u

static const char *only_word(const struct colo_cmd *cmd)
{
	return cmd->words ? cmd->words[0] : NULL;
}

/* Tells colod, and then people what became of it. */
static int act(const struct colo_cmd *cmd, const char *command,
	       JsonObject *arguments_take, guint usual_ms)
{
	g_autoptr(JsonObject) result = NULL;
	int status = colo_cmd_do(cmd, command, arguments_take, usual_ms, &result);

	if (status == COLO_CMD_DONE)
		colo_cmd_tell(cmd);
	return status;
}

static JsonObject *forced(gboolean force)
{
	JsonObject *arguments = json_object_new();

	json_object_set_boolean_member(arguments, "force", force);
	return arguments;
}

int colo_cmd_stop(struct colo_cmd *cmd)
{
	gboolean force = FALSE;
	const GOptionEntry entries[] = { { "force", 'f', 0, G_OPTION_ARG_NONE, &force,
					   "At once, as if the plug were pulled",
					   NULL },
					 { NULL } };

	if (!colo_cmd_parse(cmd, entries, 1) || !colo_cmd_pair(cmd, only_word(cmd)))
		return cmd->status;
	return act(cmd, "stop", forced(force), STOP_MS);
}

int colo_cmd_checkpoint(struct colo_cmd *cmd)
{
	g_autoptr(JsonObject) result = NULL;
	gint64 epoch;
	int status;

	if (!colo_cmd_parse(cmd, NULL, 1) || !colo_cmd_pair(cmd, only_word(cmd)))
		return cmd->status;
	status = colo_cmd_do(cmd, "checkpoint", NULL, COLO_CMD_ACTION_MS, &result);
	if (status != COLO_CMD_DONE)
		return status;
	if (colo_field_integer(result, "epoch", &epoch))
		printf("%s: checkpoint committed, epoch %" G_GINT64_FORMAT "\n",
		       cmd->pair, epoch);
	else
		printf("%s: checkpoint committed\n", cmd->pair);
	return status;
}

int colo_cmd_stand_down(struct colo_cmd *cmd)
{
	gboolean force = FALSE;
	const GOptionEntry entries[] = { { "force", 'f', 0, G_OPTION_ARG_NONE, &force,
					   "Also where this node's copy may be the "
					   "newer one, which is then lost",
					   NULL },
					 { NULL } };

	if (!colo_cmd_parse(cmd, entries, 1) || !colo_cmd_pair(cmd, only_word(cmd)))
		return cmd->status;
	return act(cmd, "stand-down", forced(force), STOP_MS);
}

/* Switching over. */

/* COLO_CMD_DONE with what the pair is now. */
static int ask_status(const struct colo_cmd *cmd, JsonObject **status)
{
	return colo_cmd_do(cmd, "status", NULL, COLO_CMD_STATUS_MS, status);
}

static gboolean is_node(JsonObject *status, const char *name)
{
	return colo_field_is(status, "node", name) ||
	       colo_field_is(colo_field_object(status, "peer"), "name", name);
}

/* The node that is to run the guest: `to`, or the one that does not now. NULL: it has
 * said why not. */
static const char *find_target(const struct colo_cmd *cmd, JsonObject *status,
			       const char *to)
{
	const char *primary = colo_view_primary(status);
	const char *node = colo_field_text(status, "node");
	const char *peer = colo_field_text(colo_field_object(status, "peer"), "name");

	if (to && !is_node(status, to)) {
		colo_cmd_complain(cmd, "--to: no node \"%s\"; the nodes are %s and %s",
				  to, node ? node : "?", peer ? peer : "?");
		return NULL;
	}
	if (!primary) {
		colo_cmd_complain(
			cmd,
			"no node runs the guest now, as far as is known here: "
			"see `colo status %s`",
			cmd->pair);
		return NULL;
	}
	if (to)
		return to;
	return g_strcmp0(primary, node) == 0 ? peer : node;
}

/* Until `target` runs the guest and is protected again. */
static int wait_switched(const struct colo_cmd *cmd, const char *target)
{
	gint64 deadline = colo_cmd_deadline(cmd, WAIT_MS);

	for (;;) {
		g_autoptr(JsonObject) status = NULL;
		g_autofree char *why = NULL;
		g_autofree char *brief = NULL;
		enum colo_asked how =
			colo_cmd_ask(cmd, "status", NULL,
				     g_get_monotonic_time() + COLO_CMD_STATUS_MS * 1000,
				     &status, &why);

		if (how != COLO_ASKED_OK) {
			colo_cmd_complain(cmd, "%s", why);
			return colo_cmd_status_of(how);
		}
		if (g_strcmp0(colo_view_primary(status), target) == 0 &&
		    colo_view_health(status) == COLO_HEALTH_PROTECTED)
			return COLO_CMD_DONE;
		if (g_get_monotonic_time() >= deadline) {
			brief = colo_view_brief(cmd->pair, status);
			colo_cmd_complain(
				cmd,
				"%s does not run the guest protected yet, and "
				"waiting ended; now it is %s",
				target, brief);
			return COLO_CMD_FAILED;
		}
		g_usleep(POLL_US);
	}
}

static int switch_over(const struct colo_cmd *cmd, const char *to, gboolean wait)
{
	g_autoptr(JsonObject) status = NULL;
	g_autoptr(JsonObject) result = NULL;
	const char *target;
	int code = ask_status(cmd, &status);

	if (code != COLO_CMD_DONE)
		return code;
	target = find_target(cmd, status, to);
	if (!target)
		return COLO_CMD_FAILED;
	if (g_strcmp0(colo_view_primary(status), target) == 0) {
		g_autofree char *clean = colo_field_clean(target, strlen(target), 0);

		printf("%s: %s runs the guest already\n", cmd->pair, clean);
		return COLO_CMD_DONE;
	}
	code = colo_cmd_do(cmd, "switchover", NULL, COLO_CMD_ACTION_MS, &result);
	if (code == COLO_CMD_DONE && wait)
		code = wait_switched(cmd, target);
	if (code == COLO_CMD_DONE)
		colo_cmd_tell(cmd);
	return code;
}

int colo_cmd_switchover(struct colo_cmd *cmd)
{
	g_autofree char *to = NULL;
	gboolean wait = FALSE;
	const GOptionEntry entries[] = {
		{ "to", 0, 0, G_OPTION_ARG_STRING, &to,
		  "To this node, and nothing where it runs the guest already", "NODE" },
		{ "wait", 0, 0, G_OPTION_ARG_NONE, &wait,
		  "Until the guest runs there and is protected again (at most 10 "
		  "minutes, or --timeout)",
		  NULL },
		{ NULL }
	};

	if (!colo_cmd_parse(cmd, entries, 1) || !colo_cmd_pair(cmd, only_word(cmd)))
		return cmd->status;
	return switch_over(cmd, to, wait);
}

/* Promotion by the operator's word. */

static void print_cost(const struct colo_cmd *cmd, JsonObject *status)
{
	g_autoptr(JsonObject) clean = colo_field_clean_object(status);
	g_autofree char *brief = colo_view_brief(cmd->pair, status);
	g_autofree char *text = NULL;
	JsonObject *peer = colo_field_object(clean, "peer");
	const char *node = colo_field_text(clean, "node");
	const char *other = colo_field_text(peer, "name");
	const char *state = colo_field_text(peer, "state");
	const char *record =
		colo_field_text(colo_field_object(clean, "arbiter"), "record");
	gboolean hears =
		colo_field_true(peer, "reachable") || colo_field_true(peer, "alive");

	node = node ? node : "this node";
	other = other ? other : "the other node";
	text = g_strdup_printf(
		"Now: %s\n"
		"\n"
		"This lets %s run the guest by your word instead of the arbiter's. "
		"What it "
		"costs:\n"
		"  - If %s runs the guest too, both speak with one address, and their "
		"disks\n"
		"    part for good. Make sure that it is off, or cut from every "
		"network.\n"
		"    %s%s%s\n"
		"  - If %s ran alone since they last saw each other, what it wrote is\n"
		"    missing here, and is lost when it joins again.\n"
		"    %s%s\n"
		"  - %s's copy counts as the older one from then on, and is "
		"overwritten.\n",
		brief, node, other,
		hears ? "IT IS HEARD FROM NOW" : "It is not heard from now",
		hears && state ? ", as " : "", hears && state ? state : "", other,
		record ? "The arbiter's record: " : "What the arbiter has is not known",
		record ? record : "", other);
	colo_cmd_print(stdout, text);
}

/* On a terminal the pair's name is to be typed. */
static gboolean confirm(const struct colo_cmd *cmd)
{
	char typed[256] = "";

	printf("\nType the name of the pair to go on: ");
	fflush(stdout);
	if (fgets(typed, sizeof(typed), stdin))
		g_strstrip(typed);
	if (!strcmp(typed, cmd->pair))
		return TRUE;
	colo_cmd_complain(cmd, "not promoted: nothing was changed");
	return FALSE;
}

int colo_cmd_promote(struct colo_cmd *cmd)
{
	gboolean force = FALSE, yes = FALSE;
	const GOptionEntry entries[] = {
		{ "force", 'f', 0, G_OPTION_ARG_NONE, &force,
		  "Must be given: by your word, not the arbiter's", NULL },
		{ "yes", 'y', 0, G_OPTION_ARG_NONE, &yes,
		  "Do not ask for the pair's name", NULL },
		{ NULL }
	};
	g_autoptr(JsonObject) status = NULL;
	int code;

	if (!colo_cmd_parse(cmd, entries, 1) || !colo_cmd_pair(cmd, only_word(cmd)))
		return cmd->status;
	if (!force) {
		colo_cmd_complain(
			cmd, "a node is promoted by itself when the arbiter grants "
			     "it; to do it by your own word, say --force, and read "
			     "what it costs");
		return COLO_CMD_USAGE;
	}
	code = ask_status(cmd, &status);
	if (code != COLO_CMD_DONE)
		return code;
	if (!yes) {
		print_cost(cmd, status);
		if (!isatty(STDIN_FILENO)) {
			colo_cmd_complain(cmd, "not promoted: this is no terminal, on "
					       "which to ask you; say --yes");
			return COLO_CMD_USAGE;
		}
		if (!confirm(cmd))
			return COLO_CMD_FAILED;
	}
	return act(cmd, "promote", forced(TRUE), COLO_CMD_ACTION_MS);
}
