/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo: looks after pairs of hosts that run one virtual machine; colo(1) describes it.
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "colo/command.h"

/* Options before the command; those behind it are the command's to read. */
static gboolean read_common(struct colo_cmd *cmd, char ***words, GError **error)
{
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	gboolean version = FALSE;
	const GOptionEntry entries[] = {
		{ "version", 'V', 0, G_OPTION_ARG_NONE, &version, NULL, NULL }, { NULL }
	};

	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_strict_posix(context, TRUE);
	colo_cmd_add_common(cmd, context);
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse_strv(context, words, error))
		return FALSE;
	if (version) {
		g_strfreev(*words);
		*words = g_strsplit("colo version", " ", -1);
	}
	return TRUE;
}

static void use_environment(struct colo_cmd *cmd)
{
	const char *config_dir = g_getenv("COLO_CONFIG_DIR");
	const char *run_dir = g_getenv("COLO_RUN_DIR");

	cmd->config_dir = config_dir && *config_dir ? g_strdup(config_dir) : NULL;
	cmd->run_dir = run_dir && *run_dir ? g_strdup(run_dir) : NULL;
}

static int complain_of_command(struct colo_cmd *cmd, const char *name)
{
	const char *nearest = colo_cmd_nearest(name);

	if (nearest)
		colo_cmd_complain(cmd, "no command \"%s\": did you mean `colo %s`?",
				  name, nearest);
	else
		colo_cmd_complain(cmd, "no command \"%s\": see `colo help`", name);
	return COLO_CMD_USAGE;
}

static int show_summary(FILE *to, int status)
{
	g_autofree char *summary = colo_cmd_summary();

	fputs(summary, to);
	return status;
}

static int run(struct colo_cmd *cmd, char **words)
{
	if (!words[0] || !words[1])
		return show_summary(cmd->help ? stdout : stderr,
				    cmd->help ? COLO_CMD_DONE : COLO_CMD_USAGE);
	cmd->row = colo_cmd_find(words[1]);
	if (!cmd->row)
		return complain_of_command(cmd, words[1]);
	cmd->argv = words + 1;
	return cmd->row->run(cmd);
}

int main(int argc, char **argv)
{
	g_auto(GStrv) words = g_strdupv(argv);
	g_autoptr(GError) error = NULL;
	struct colo_cmd cmd = { 0 };
	int status = COLO_CMD_USAGE;

	setlocale(LC_CTYPE, ""); /* what the terminal can show */
	signal(SIGPIPE, SIG_DFL); /* `colo events | head` just ends */
	use_environment(&cmd);
	if (read_common(&cmd, &words, &error))
		status = run(&cmd, words);
	else
		colo_cmd_complain(&cmd, "%s: see `colo help`", error->message);
	g_strfreev(cmd.words);
	colo_cmd_clear_pair(&cmd);
	g_free(cmd.config_dir);
	g_free(cmd.run_dir);
	return status;
}
