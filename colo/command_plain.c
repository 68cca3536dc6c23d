/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands that need no colod: keygen, version, help. */
#include "base/key.h"
#include "colo/command.h"
#include "kvm/options.h"

int colo_cmd_keygen(struct colo_cmd *cmd)
{
	g_autoptr(GError) error = NULL;

	if (!colo_cmd_parse(cmd, NULL, 1))
		return cmd->status;
	if (!cmd->words) {
		colo_cmd_complain(cmd, "which file? `colo keygen FILE` makes one");
		return COLO_CMD_USAGE;
	}
	if (!base_key_generate(cmd->words[0], &error)) {
		colo_cmd_complain(cmd, "%s", error->message);
		return COLO_CMD_FAILED;
	}
	printf("A new key is in that file, which only its owner can read. The other "
	       "node "
	       "needs the\nsame file: copy it there by a way that nobody reads, such "
	       "as "
	       "scp.\n");
	return COLO_CMD_DONE;
}

int colo_cmd_version(struct colo_cmd *cmd)
{
	if (!colo_cmd_parse(cmd, NULL, 0))
		return cmd->status;
	puts("colo " VMM_PROGRAM_VERSION);
	return COLO_CMD_DONE;
}

int colo_cmd_help(struct colo_cmd *cmd)
{
	char *help[] = { NULL, "--help", NULL };
	const struct colo_cmd_row *row;
	g_autofree char *summary = NULL;
	const char *nearest;

	if (!colo_cmd_parse(cmd, NULL, 1))
		return cmd->status;
	if (!cmd->words) {
		summary = colo_cmd_summary();
		fputs(summary, stdout);
		return COLO_CMD_DONE;
	}
	row = colo_cmd_find(cmd->words[0]);
	if (!row) {
		nearest = colo_cmd_nearest(cmd->words[0]);
		colo_cmd_complain(cmd, "no command \"%s\": see `colo help%s%s`",
				  cmd->words[0], nearest ? " " : "",
				  nearest ? nearest : "");
		return COLO_CMD_USAGE;
	}
	help[0] = (char *)row->name;
	g_clear_pointer(&cmd->words, g_strfreev);
	cmd->row = row;
	cmd->argv = help;
	return row->run(cmd);
}
