/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting a program without waiting for anything: what could hang (its log file's
 * disk, its own) hangs in the new process. For colo/child.h and colo/hooks.h. Main
 * context's thread.
 */
#ifndef COLO_SPAWN_H
#define COLO_SPAWN_H

#include <glib.h>
#include <sys/types.h>

struct colo_spawn {
	const char *const
		*argv; /* the first is a path; ended by NULL, as is the next */
	const char *const
		*environment; /* "NAME=VALUE": all of it (colo_spawn_environment()) */
	int in; /* standard input; -1: /dev/null */
	int out; /* standard output and error; -1: `log`, or /dev/null */
	const char *log; /* file to append to, which the new process opens; or NULL */
	guint64 log_bytes; /* with more in it, it becomes LOG.1 first; 0: no limit */
	int fd, fd_number; /* is handed over as this number, from 3 on; -1: none */
	gboolean new_session; /* else only a process group of its own */
	gboolean set_oom_score;
	int oom_score_adj;
	/* Become this user, without any capability or a way to more; -1: stay. */
	gint64 uid, gid;
	const gid_t *groups; /* of that user */
	gsize group_count;
};

struct colo_spawned {
	pid_t pid; /* also its process group's */
	int pidfd;
	int trouble; /* a pipe: if the program could not be executed, the errno (an int)
		      */
};

/* No other descriptor than these is open in it, signals are as by default. The program
 * may fail to be executed yet: then it ends with 127, has said why on its standard
 * error, and `trouble` holds the reason. COLO_ERROR_HOST. The caller reaps it (waitid
 * P_PIDFD) and closes both descriptors. */
gboolean colo_spawn(const struct colo_spawn *spawn, struct colo_spawned *spawned,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* PATH and LANG, and `more` (or NULL; it wins); freed with g_strfreev(). */
char **colo_spawn_environment(const char *const *more);

/* The errno in `trouble`, or 0: it was executed. Never waits. */
int colo_spawn_trouble(int trouble);

#endif
