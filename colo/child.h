/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program that colod looks after. It does not die with colod: a later colod adopts
 * it. It runs in a session and process group of its own, with PATH and LANG for an
 * environment.
 *
 * Its output goes to a log file that it opens itself, so that neither the file's disk
 * nor colod's death comes between them. With more than `log_bytes` in it the log is
 * renamed to LOG.1 when the program is started; while it runs, a look once a minute
 * copies such a log to LOG.1 and empties it, where lines of that moment can be lost.
 *
 * Main context (the thread default when it is made); nothing blocks but for the pid
 * file in `run_dir`, which is to be in memory (/run).
 */
#ifndef COLO_CHILD_H
#define COLO_CHILD_H

#include <glib.h>
#include <sys/types.h>

/* All of it is borrowed for the call. */
struct colo_child_config {
	const char *name; /* "vm": in the log, and of the pid file: RUN_DIR/NAME.pid */
	const char *const *argv; /* ended by NULL; the first is an absolute path */
	const char *const *environment; /* "NAME=VALUE" beside PATH and LANG; or NULL */
	const char *run_dir; /* NULL: without a pid file, never to be adopted */
	const char *log; /* or NULL: its output is thrown away */
	guint64 log_bytes; /* 0: no limit */
	int fd, fd_number; /* it gets `fd` as descriptor `fd_number` (3 to 63); fd -1:
			      none */
	gboolean set_oom_score;
	int oom_score_adj; /* -1000 to 1000; less than colod's own needs
			      CAP_SYS_RESOURCE */
};

struct colo_child_end {
	enum {
		COLO_CHILD_EXITED, /* by itself, with `status` */
		COLO_CHILD_KILLED, /* by signal `status` */
		COLO_CHILD_NOT_EXECUTED, /* there is no such program, or the like: errno
					  */
		COLO_CHILD_UNSEEN, /* it was adopted: how it ended is not known */
	} how;
	int status;
	guint64 lived_ms; /* since it was started or adopted */
	const char *words; /* "exit status 1"; valid during the call */
};

/* It is gone, and so is what it left in its process group. Once, from the main loop;
 * the child may be freed in it. */
typedef void (*colo_child_ended)(void *data, const struct colo_child_end *end);

typedef struct colo_child colo_child;

/* COLO_ERROR_HOST; a program that cannot be executed is told by `ended`. */
colo_child *colo_child_start(const struct colo_child_config *config,
			     colo_child_ended ended, void *data,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The one that an earlier colod started with this name and directory, if it still runs:
 * found by the pid file, and the same by start time, boot and program. `fd` of the
 * config means nothing here. NULL without an error: there is none. COLO_ERROR_HOST:
 * there is something that needs a look, and starting another one could be wrong. */
colo_child *colo_child_adopt(const struct colo_child_config *config,
			     colo_child_ended ended, void *data,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Forgets it, unheard; if it runs it goes on, for a later colod to adopt. */
void colo_child_free(colo_child *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_child, colo_child_free)

pid_t colo_child_pid(const colo_child *child);
gboolean colo_child_is_adopted(const colo_child *child);
/* SIGTERM now, SIGKILL to its whole group after `deadline_ms`. */
void colo_child_terminate(colo_child *child, guint deadline_ms);
/* SIGKILL to its whole group, now. It is gone when `ended` says so. */
void colo_child_kill(colo_child *child);

/* The look of once a minute, now, in a thread. */
void colo_child_trim_log(colo_child *child);

/* When to start it again: at once the first time within a minute, then 100 ms after,
 * 200, and so on up to 10 s. */
#define COLO_RESTARTS_MAX 64u
struct colo_restarts {
	guint limit; /* within a minute; at most COLO_RESTARTS_MAX */
	guint count;
	guint64 at_ns[COLO_RESTARTS_MAX]; /* CLOCK_MONOTONIC, the oldest first */
};
/* FALSE: that would be one too many, it is given up. */
gboolean colo_restarts_next(struct colo_restarts *restarts, guint64 now_ns,
			    guint *after_ms);

#endif
