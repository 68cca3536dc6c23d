/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands of `colo` share. */
#include "colo/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo/field.h"
#include "colo/view.h"

/* Changed, added or left out letters at which a word is still taken for a misspelling.
 */
#define NEAR 2u

/* clang-format off */
const struct colo_cmd_row colo_cmd_rows[] = {
	{ "status", colo_cmd_status, "[PAIR]", "Say whether a pair is protected, and what it does",
	  "Without PAIR: all pairs. Exit status: 0 protected, 1 the guest runs unprotected,\n"
	  "2 it does not run or nobody hears it, 3 not known.", COLO_CMD_UNKNOWN },
	{ "start", colo_cmd_start, "[PAIR]", "Start a pair on this node, and colod where none runs", NULL,
	  COLO_CMD_USAGE },
	{ "stop", colo_cmd_stop, "[PAIR]", "End the guest on purpose, and keep it ended", NULL,
	  COLO_CMD_USAGE },
	{ "checkpoint", colo_cmd_checkpoint, "[PAIR]", "Take a checkpoint now, and wait for its commit", NULL,
	  COLO_CMD_USAGE },
	{ "switchover", colo_cmd_switchover, "[PAIR]", "Let the guest go on on the other node",
	  "For a protected pair. Nothing is lost and no client notices.", COLO_CMD_USAGE },
	{ "promote", colo_cmd_promote, "[PAIR]", "Let this node run the guest by your word alone",
	  "Only for when the other node is lost for certain and no arbiter can say so.",
	  COLO_CMD_USAGE },
	{ "stand-down", colo_cmd_stand_down, "[PAIR]", "Let this node give the guest up, and join the other one", NULL,
	  COLO_CMD_USAGE },
	{ "events", colo_cmd_events, "[PAIR]", "Say what happened", NULL, COLO_CMD_USAGE },
	{ "console", colo_cmd_console, "[PAIR]", "Join this terminal to the guest's console",
	  "Ctrl-] leaves it.", COLO_CMD_USAGE },
	{ "log", colo_cmd_log, "[PAIR] [PROGRAM]", "Show the ends of the programs' logs", NULL,
	  COLO_CMD_USAGE },
	{ "check", colo_cmd_check, "[PAIR]", "Judge a pair file, and what it names",
	  "Touches nothing. Exit status: 0 fine, 1 warnings only, 2 errors.", COLO_CMD_USAGE },
	{ "keygen", colo_cmd_keygen, "FILE", "Make a key for a pair in a new file", NULL, COLO_CMD_USAGE },
	{ "version", colo_cmd_version, "", "Print the version", NULL, COLO_CMD_USAGE },
	{ "help", colo_cmd_help, "[COMMAND]", "Explain a command", NULL, COLO_CMD_USAGE },
	{ NULL }
};
/* clang-format on */

const struct colo_cmd_row *colo_cmd_find(const char *name)
{
	for (const struct colo_cmd_row *row = colo_cmd_rows; row->name; row++)
		if (!strcmp(row->name, name))
			return row;
	return NULL;
}

/* How many letters differ between two words, of 31 at most. */
static guint distance(const char *a, const char *b)
{
	guint line[32], length = (guint)strlen(b);

	if (strlen(a) >= G_N_ELEMENTS(line) || length >= G_N_ELEMENTS(line))
		return G_MAXUINT;
	for (guint j = 0; j <= length; j++)
		line[j] = j;
	for (guint i = 1; a[i - 1]; i++) {
		guint diagonal = line[0];

		line[0] = i;
		for (guint j = 1; j <= length; j++) {
			guint changed = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = line[j];
			line[j] = MIN(changed, MIN(line[j], line[j - 1]) + 1);
		}
	}
	return line[length];
}

const char *colo_cmd_nearest(const char *name)
{
	const char *nearest = NULL;
	guint least = NEAR + 1;

	for (const struct colo_cmd_row *row = colo_cmd_rows; row->name; row++) {
		guint away = distance(name, row->name);

		if (strlen(name) > 1 && g_str_has_prefix(row->name, name))
			away = 0;
		if (away < least) {
			least = away;
			nearest = row->name;
		}
	}
	return nearest;
}

char *colo_cmd_summary(void)
{
	GString *text =
		g_string_new("Usage: colo [OPTION...] COMMAND [PAIR] [OPTION...]\n\n"
			     "Looks after pairs of hosts that run one virtual "
			     "machine.\n\n");

	for (const struct colo_cmd_row *row = colo_cmd_rows; row->name; row++)
		g_string_append_printf(text, "  %-11s %s\n", row->name, row->summary);
	g_string_append(
		text,
		"\nPAIR is a name (of /etc/colo/PAIR.conf) or the path of a pair "
		"file, and may be\nleft out where there is only one. `colo help "
		"COMMAND` explains a command, and the\nmanual page colo(1) all of "
		"them.\n");
	return g_string_free(text, FALSE);
}

/* Words. */

/* The last one given counts, before the command or behind it. */
static gboolean set_dir(const char *name, const char *value, gpointer data,
			GError **error)
{
	struct colo_cmd *cmd = data;
	char **dir = strcmp(name, "--run-dir") ? &cmd->config_dir : &cmd->run_dir;

	g_free(*dir);
	*dir = g_strdup(value);
	return TRUE;
}

void colo_cmd_add_common(struct colo_cmd *cmd, GOptionContext *context)
{
	const GOptionEntry entries[] = {
		{ "config-dir", 0, G_OPTION_FLAG_FILENAME, G_OPTION_ARG_CALLBACK,
		  (gpointer)set_dir,
		  "Where the pair files are (" COLO_CMD_CONFIG_DIR ")", "DIR" },
		{ "run-dir", 0, G_OPTION_FLAG_FILENAME, G_OPTION_ARG_CALLBACK,
		  (gpointer)set_dir,
		  "Where the control sockets are (" COLO_CMD_RUN_DIR ")", "DIR" },
		{ "timeout", 0, 0, G_OPTION_ARG_DOUBLE, &cmd->timeout_s,
		  "How long to wait for colod (2 for status, else 30)", "SECONDS" },
		{ "help", 'h', 0, G_OPTION_ARG_NONE, &cmd->help, "Explain it", NULL },
		{ NULL }
	};
	GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, cmd, NULL);

	g_option_group_add_entries(group, entries);
	g_option_context_set_main_group(context, group);
}

static void print_help(struct colo_cmd *cmd, GOptionContext *context)
{
	g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);

	colo_cmd_print(stdout, help);
	cmd->status = COLO_CMD_DONE;
}

static gboolean judge_words(struct colo_cmd *cmd, guint max)
{
	if (cmd->words && g_strv_length(cmd->words) > max) {
		colo_cmd_complain(cmd, "unexpected \"%s\": see `colo help %s`",
				  cmd->words[max], cmd->row->name);
		return FALSE;
	}
	/* Not negated, for the sake of what is no number. */
	if (!(cmd->timeout_s >= 0 && cmd->timeout_s <= 86400)) {
		colo_cmd_complain(cmd, "--timeout: 0 to 86400 seconds");
		return FALSE;
	}
	return TRUE;
}

gboolean colo_cmd_parse(struct colo_cmd *cmd, const GOptionEntry *entries, guint max)
{
	const GOptionEntry rest[] = { { G_OPTION_REMAINING, 0, 0,
					G_OPTION_ARG_FILENAME_ARRAY, &cmd->words, NULL,
					cmd->row->words },
				      { NULL } };
	g_autofree char *program = g_strconcat("colo ", cmd->row->name, NULL);
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_auto(GStrv) args = g_strdupv(cmd->argv);
	g_autoptr(GError) error = NULL;

	/* Help names the program so. */
	g_free(args[0]);
	args[0] = g_steal_pointer(&program);
	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_summary(context, cmd->row->summary);
	g_option_context_set_description(context, cmd->row->more);
	colo_cmd_add_common(cmd, context);
	if (entries)
		g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_add_main_entries(context, rest, NULL);
	g_set_prgname(args[0]);
	cmd->status = cmd->row->usage;
	if (!g_option_context_parse_strv(context, &args, &error)) {
		colo_cmd_complain(cmd, "%s: see `colo help %s`", error->message,
				  cmd->row->name);
		return FALSE;
	}
	if (cmd->help) {
		print_help(cmd, context);
		return FALSE;
	}
	return judge_words(cmd, max);
}

gint64 colo_cmd_deadline(const struct colo_cmd *cmd, guint usual_ms)
{
	gint64 us = cmd->timeout_s > 0 ? (gint64)(cmd->timeout_s * G_USEC_PER_SEC)
				       : (gint64)usual_ms * 1000;

	return g_get_monotonic_time() + us;
}

/* Speaking. */

gboolean colo_cmd_colour(void)
{
	const char *no = g_getenv("NO_COLOR"), *terminal = g_getenv("TERM");

	return isatty(STDOUT_FILENO) && (!no || !*no) && terminal &&
	       strcmp(terminal, "dumb") != 0;
}

void colo_cmd_print(FILE *to, const char *text)
{
	if (isatty(fileno(to)) && !g_get_charset(NULL)) {
		/* Bytes beyond ASCII could be control characters there. */
		for (const char *at = text; *at; at = g_utf8_next_char(at))
			fputc((guchar)*at < 0x80 ? *at : '?', to);
	} else {
		fputs(text, to);
	}
}

void colo_cmd_complain(const struct colo_cmd *cmd, const char *format, ...)
{
	g_autofree char *text = NULL;
	g_autofree char *clean = NULL;
	g_autofree char *line = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	clean = colo_field_clean(text, strlen(text), 0);
	line = g_strconcat("colo: ", cmd->pair ? cmd->pair : "", cmd->pair ? ": " : "",
			   clean, "\n", NULL);
	fflush(stdout);
	colo_cmd_print(stderr, line);
}

/* Asking. */

char *colo_cmd_run_path(const struct colo_cmd *cmd, const char *name)
{
	return g_build_filename(cmd->run_dir ? cmd->run_dir : COLO_CMD_RUN_DIR,
				cmd->pair, name, NULL);
}

int colo_cmd_status_of(enum colo_asked how)
{
	switch (how) {
	case COLO_ASKED_OK:
		return COLO_CMD_DONE;
	case COLO_ASKED_NO:
		return COLO_CMD_FAILED;
	default:
		return COLO_CMD_UNKNOWN;
	}
}

char *colo_cmd_explain(const struct colo_cmd *cmd, enum colo_asked how, const char *why)
{
	if (how == COLO_ASKED_ABSENT)
		return g_strdup_printf(
			"colod is not running for %s on this host: start it "
			"with `colo start %s`",
			cmd->pair, cmd->pair);
	if (how == COLO_ASKED_DENIED)
		return g_strdup_printf("%s: run this as root", why);
	return g_strdup(why);
}

enum colo_asked colo_cmd_ask(const struct colo_cmd *cmd, const char *command,
			     JsonObject *arguments, gint64 deadline_us,
			     JsonObject **result, char **why)
{
	g_autofree char *path = colo_cmd_run_path(cmd, "control.sock");
	g_autofree char *reason = NULL;
	enum colo_asked how =
		colo_ask_once(path, command, arguments, deadline_us, result, &reason);

	if (how != COLO_ASKED_OK)
		*why = colo_cmd_explain(cmd, how, reason);
	return how;
}

int colo_cmd_do(const struct colo_cmd *cmd, const char *command, JsonObject *arguments,
		guint usual_ms, JsonObject **result)
{
	g_autofree char *why = NULL;
	enum colo_asked how =
		colo_cmd_ask(cmd, command, arguments, colo_cmd_deadline(cmd, usual_ms),
			     result, &why);

	if (how != COLO_ASKED_OK)
		colo_cmd_complain(cmd, "%s", why);
	return colo_cmd_status_of(how);
}

void colo_cmd_tell(const struct colo_cmd *cmd)
{
	g_autoptr(JsonObject) status = NULL;
	g_autofree char *why = NULL;
	g_autofree char *brief = NULL;

	if (colo_cmd_ask(cmd, "status", NULL,
			 g_get_monotonic_time() + COLO_CMD_STATUS_MS * 1000, &status,
			 &why) != COLO_ASKED_OK)
		return;
	brief = colo_view_brief(cmd->pair, status);
	colo_cmd_print(stdout, brief);
	fputc('\n', stdout);
}
