/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pair a command of `colo` is about. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo/command.h"
#include "colo/field.h"
#include "colo/pair.h"

static const char *config_dir(const struct colo_cmd *cmd)
{
	return cmd->config_dir ? cmd->config_dir : COLO_CMD_CONFIG_DIR;
}

gboolean colo_cmd_is_usual(const struct colo_cmd *cmd)
{
	g_autofree char *usual =
		g_strconcat(COLO_CMD_CONFIG_DIR "/", cmd->pair, ".conf", NULL);

	return cmd->path && !strcmp(cmd->path, usual) &&
	       (!cmd->run_dir || !strcmp(cmd->run_dir, COLO_CMD_RUN_DIR));
}

/* As colo.conf(5) has it, so that no name leads out of a directory. */
static gboolean is_name(const char *word)
{
	return g_ascii_islower(*word) && strlen(word) <= COLO_NAME_MAX &&
	       strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(word);
}

/* What a file's name alone says. To be freed. */
static char *name_of_path(const char *path)
{
	char *name = g_path_get_basename(path);

	if (g_str_has_suffix(name, ".conf"))
		name[strlen(name) - strlen(".conf")] = '\0';
	return name;
}

/* The name that the file gives the pair; a file that cannot be read leaves its own
 * name, for the pair may run all the same. */
static char *name_in_file(const char *path)
{
	g_autoptr(colo_pair) pair = colo_pair_read(path, NULL);

	return pair ? g_strdup(pair->name) : name_of_path(path);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **colo_cmd_pairs(const struct colo_cmd *cmd)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new();
	g_autoptr(GDir) dir = g_dir_open(config_dir(cmd), 0, NULL);
	const char *file;

	while (dir && (file = g_dir_read_name(dir))) {
		char *name = name_of_path(file);

		if (g_str_has_suffix(file, ".conf") && is_name(name))
			g_ptr_array_add(names, name);
		else
			g_free(name);
	}
	g_ptr_array_sort(names, compare_names);
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

void colo_cmd_clear_pair(struct colo_cmd *cmd)
{
	g_clear_pointer(&cmd->pair, g_free);
	g_clear_pointer(&cmd->path, g_free);
}

static gboolean take_path(struct colo_cmd *cmd, const char *path)
{
	g_autofree char *name = NULL;
	struct stat st;

	if (stat(path, &st) < 0) {
		colo_cmd_complain(cmd, "pair file %s: %s", path, g_strerror(errno));
		return FALSE;
	}
	name = name_in_file(path);
	if (!is_name(name)) {
		colo_cmd_complain(cmd,
				  "pair file %s: \"%s\" is no name of a pair: a-z, 0-9 "
				  "and -, a letter first; see `colo check %s`",
				  path, name, path);
		return FALSE;
	}
	cmd->path = g_canonicalize_filename(path, NULL);
	cmd->pair = g_steal_pointer(&name);
	return TRUE;
}

/* What there is instead, for who named what is not there. */
static void say_absent(struct colo_cmd *cmd, const char *path)
{
	g_auto(GStrv) pairs = colo_cmd_pairs(cmd);
	g_autofree char *list = g_strjoinv(", ", pairs);

	colo_cmd_complain(cmd, "no pair file %s%s%s", path,
			  *list ? "; pairs here: " : "; no pair is configured in ",
			  *list ? list : config_dir(cmd));
}

static gboolean take_name(struct colo_cmd *cmd, const char *name)
{
	g_autofree char *file = g_strconcat(name, ".conf", NULL);
	g_autofree char *path = g_build_filename(config_dir(cmd), file, NULL);
	g_autofree char *run = NULL;
	struct stat st;

	if (!is_name(name)) {
		colo_cmd_complain(
			cmd,
			"\"%s\" is no name of a pair (a-z, 0-9 and -, a letter "
			"first), and no path of a file",
			name);
		return FALSE;
	}
	if (stat(path, &st) == 0)
		return take_path(cmd, path);
	/* Its file is gone, or not for us to see; its colod may run. */
	cmd->pair = g_strdup(name);
	run = colo_cmd_run_path(cmd, "");
	if (errno == EACCES || stat(run, &st) == 0)
		return TRUE;
	colo_cmd_clear_pair(cmd);
	say_absent(cmd, path);
	return FALSE;
}

static gboolean take_only(struct colo_cmd *cmd)
{
	g_auto(GStrv) pairs = colo_cmd_pairs(cmd);
	g_autofree char *list = g_strjoinv(", ", pairs);

	if (g_strv_length(pairs) == 1)
		return take_name(cmd, pairs[0]);
	if (access(config_dir(cmd), R_OK) < 0 && errno == EACCES)
		colo_cmd_complain(cmd,
				  "read %s: Permission denied: run this as root, or "
				  "name the pair",
				  config_dir(cmd));
	else if (*list)
		colo_cmd_complain(cmd, "which pair? There are %s: `colo %s PAIR`", list,
				  cmd->row->name);
	else
		colo_cmd_complain(
			cmd,
			"no pair is configured in %s: write a pair file there, "
			"see colo.conf(5), or give its path",
			config_dir(cmd));
	return FALSE;
}

gboolean colo_cmd_pair(struct colo_cmd *cmd, const char *word)
{
	cmd->status = cmd->row->usage;
	colo_cmd_clear_pair(cmd);
	if (!word)
		return take_only(cmd);
	if (strchr(word, '/') || g_str_has_suffix(word, ".conf"))
		return take_path(cmd, word);
	return take_name(cmd, word);
}
