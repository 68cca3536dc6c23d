/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the commands of `colo` share: their table, the words they are given, the pair
 * they are about, and how they speak. One thread, which may block.
 */
#ifndef COLO_COMMAND_H
#define COLO_COMMAND_H

#include <stdio.h>

#include "colo/ask.h"

#define COLO_CMD_CONFIG_DIR "/etc/colo"
#define COLO_CMD_RUN_DIR "/run/colo"
#define COLO_CMD_STATUS_MS 2000 /* how long `status` waits for a colod */
#define COLO_CMD_ACTION_MS 30000 /* the others */

/* Exit statuses; `status` and `check` have their own, colo(1) has them all. */
enum {
	COLO_CMD_DONE = 0,
	COLO_CMD_FAILED =
		1, /* colod refused or failed, or what was asked for is not so */
	COLO_CMD_USAGE = 2, /* the words make no sense */
	COLO_CMD_UNKNOWN =
		3, /* colod is not there, or did not answer: nothing is known */
};

struct colo_cmd_row;

/* One call of a command. */
struct colo_cmd {
	const struct colo_cmd_row *row;
	char **argv; /* its words, its own name first, ended by NULL */
	char *config_dir, *run_dir; /* NULL: the usual */
	double timeout_s; /* 0: the command's own */
	gboolean help;
	int status; /* where a helper has said that the command ends */
	/* After colo_cmd_parse(). */
	char **words; /* ended by NULL */
	/* After colo_cmd_pair(). */
	char *pair; /* a proper name, safe to be shown */
	char *path; /* of its file; NULL: there is none, but a colod may run */
};

struct colo_cmd_row {
	const char *name;
	int (*run)(struct colo_cmd *cmd); /* the result is the exit status */
	const char *words; /* "[PAIR]" */
	const char *summary; /* one line */
	const char *more; /* of its help; may be NULL */
	int usage; /* exit status for words that make no sense */
};

extern const struct colo_cmd_row colo_cmd_rows[]; /* ended by a NULL name */
const struct colo_cmd_row *colo_cmd_find(const char *name);
/* The name of a command that `name` may have been meant to be; NULL: nothing is near.
 */
const char *colo_cmd_nearest(const char *name);
/* The whole summary. To be freed. */
char *colo_cmd_summary(void);

/* Options that stand before a command or behind it. `cmd` outlives the context's
 * parsing. */
void colo_cmd_add_common(struct colo_cmd *cmd, GOptionContext *context);
/* Reads a command's options, `entries` (ended by an empty row; NULL: none) and the
 * common ones, and leaves the other words, `max` at most. FALSE: there is nothing more
 * to do, since it has said what is wrong, or the help; the exit status is
 * `cmd->status`. */
gboolean colo_cmd_parse(struct colo_cmd *cmd, const GOptionEntry *entries,
			guint max) G_GNUC_WARN_UNUSED_RESULT;
/* Which pair: `word`, a name or the path of a pair file; NULL: the only one there is.
 * FALSE: it has said what is wrong; the exit status is `cmd->status`. */
gboolean colo_cmd_pair(struct colo_cmd *cmd,
		       const char *word) G_GNUC_WARN_UNUSED_RESULT;
/* Names of all pairs that have a file, sorted; to be freed with g_strfreev(). */
char **colo_cmd_pairs(const struct colo_cmd *cmd);
void colo_cmd_clear_pair(struct colo_cmd *cmd);
/* A path in the pair's run directory; to be freed. */
char *colo_cmd_run_path(const struct colo_cmd *cmd, const char *name);
/* Whether the usual directories are used, and so is what systemd starts. */
gboolean colo_cmd_is_usual(const struct colo_cmd *cmd);

/* From now, by --timeout or else `usual_ms`. */
gint64 colo_cmd_deadline(const struct colo_cmd *cmd, guint usual_ms);

/* Asks this pair's colod; what went wrong is not said yet: `why` is a whole sentence.
 */
enum colo_asked colo_cmd_ask(const struct colo_cmd *cmd, const char *command,
			     JsonObject *arguments_take, gint64 deadline_us,
			     JsonObject **result, char **why);
/* The same for failures of colo_ask_new() and its kin: what to do about them. */
char *colo_cmd_explain(const struct colo_cmd *cmd, enum colo_asked how,
		       const char *why);
/* Asks and says what went wrong; COLO_CMD_DONE with `result`. */
int colo_cmd_do(const struct colo_cmd *cmd, const char *command,
		JsonObject *arguments_take, guint usual_ms, JsonObject **result);
int colo_cmd_status_of(enum colo_asked how);
/* "colo: PAIR: MESSAGE" on standard error, clean; without a pair "colo: MESSAGE". */
void colo_cmd_complain(const struct colo_cmd *cmd, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
/* Prints colo_view_brief() of what the pair is now, where colod tells. */
void colo_cmd_tell(const struct colo_cmd *cmd);
/* Whether standard output is a terminal that wants colours. */
gboolean colo_cmd_colour(void);
/* Clean text to standard output or error, as the terminal there can show it. */
void colo_cmd_print(FILE *to, const char *text);

/* The commands, each in the file of its name. */
int colo_cmd_check(struct colo_cmd *cmd);
int colo_cmd_start(struct colo_cmd *cmd);
int colo_cmd_stop(struct colo_cmd *cmd);
int colo_cmd_status(struct colo_cmd *cmd);
int colo_cmd_events(struct colo_cmd *cmd);
int colo_cmd_checkpoint(struct colo_cmd *cmd);
int colo_cmd_switchover(struct colo_cmd *cmd);
int colo_cmd_promote(struct colo_cmd *cmd);
int colo_cmd_stand_down(struct colo_cmd *cmd);
int colo_cmd_console(struct colo_cmd *cmd);
int colo_cmd_log(struct colo_cmd *cmd);
int colo_cmd_keygen(struct colo_cmd *cmd);
int colo_cmd_version(struct colo_cmd *cmd);
int colo_cmd_help(struct colo_cmd *cmd);

#endif
