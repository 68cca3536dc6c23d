/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `colo check`: judges a pair file and what it names, and touches nothing. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo/command.h"
#include "colo/field.h"
#include "colo/pair_check.h"

/* Exit statuses of `check`. */
enum { CHECK_FINE = 0, CHECK_WARNINGS = 1, CHECK_ERRORS = 2 };

struct judged {
	guint count[COLO_FINDING_ERROR + 1];
};

static void say(void *data, enum colo_finding kind, const char *where, const char *what)
{
	static const char *const words[] = { "note", "warning", "error" };
	struct judged *judged = data;
	g_autofree char *line = g_strdup_printf("%s: %s: %s", words[kind], where, what);
	g_autofree char *clean = colo_field_clean(line, strlen(line), 0);

	judged->count[kind]++;
	colo_cmd_print(stdout, clean);
	putchar('\n');
}

static int conclude(const colo_pair *pair, guint node, const struct judged *judged)
{
	const guint *count = judged->count;

	if (count[COLO_FINDING_ERROR]) {
		printf("%s: cannot run on %s: %u error%s\n", pair->name,
		       pair->node[node].name, count[COLO_FINDING_ERROR],
		       count[COLO_FINDING_ERROR] == 1 ? "" : "s");
		return CHECK_ERRORS;
	}
	if (count[COLO_FINDING_WARNING]) {
		printf("%s: can run on %s, with %u warning%s\n", pair->name,
		       pair->node[node].name, count[COLO_FINDING_WARNING],
		       count[COLO_FINDING_WARNING] == 1 ? "" : "s");
		return CHECK_WARNINGS;
	}
	printf("%s: fine on %s\n", pair->name, pair->node[node].name);
	return CHECK_FINE;
}

static int judge(const struct colo_cmd *cmd, const char *path, const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(colo_pair) pair = colo_pair_read(path, &error);
	struct judged judged = { 0 };
	guint node;

	/* Errors of the file begin with its name and line. */
	if (!pair || !colo_pair_whoami(pair, name, &node, &error)) {
		colo_cmd_complain(cmd, "%s", error->message);
		return CHECK_ERRORS;
	}
	colo_pair_check(pair, node, say, &judged);
	if (geteuid() != 0)
		say(&judged, COLO_FINDING_NOTE, "rights",
		    "judged with this user's rights, and colod runs as root: run the "
		    "check as root to have the same answer");
	return conclude(pair, node, &judged);
}

int colo_cmd_check(struct colo_cmd *cmd)
{
	g_autofree char *node = NULL;
	const GOptionEntry entries[] = {
		{ "node", 0, 0, G_OPTION_ARG_STRING, &node,
		  "Which node this host is, where its name does not tell", "NAME" },
		{ NULL }
	};
	g_autofree char *path = NULL;

	if (!colo_cmd_parse(cmd, entries, 1) ||
	    !colo_cmd_pair(cmd, cmd->words ? cmd->words[0] : NULL))
		return cmd->status;
	if (!cmd->path) {
		colo_cmd_complain(cmd, "there is no pair file of that name");
		return CHECK_ERRORS;
	}
	path = g_steal_pointer(&cmd->path);
	colo_cmd_clear_pair(cmd); /* errors name the file, not the pair */
	return judge(cmd, path, node);
}
