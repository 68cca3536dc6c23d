/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A helper of colod's that is to run all the time: started, adopted from an earlier colod,
 * started again when it ends, and given up when it ends too often. Main context.
 */
#ifndef COLO_PROGRAM_H
#define COLO_PROGRAM_H

#include "colo/child.h"

typedef struct colo_program colo_program;

struct colo_program_hooks {
	/* The command line, ended by NULL; the program's to free. `fd` may be set to one that it
	 * is to get as descriptor 3; the program closes our copy. */
	GStrv (*argv)(void *data, int *fd);
	/* It runs (anew). */
	void (*started)(void *data);
	/* It ended; `again`: it is started again. */
	void (*ended)(void *data, const char *how, gboolean again);
};

/* Where programs keep their things. Borrowed by whoever is made with it. */
struct colo_places {
	char *programs; /* directory of colo-vm and its like */
	char *run, *state, *log; /* the pair's directories */
	guint64 log_bytes;
	guint restarts; /* of one program within a minute */
};

/* `name`: "colo-netcompare". Does not start it yet. */
colo_program *colo_program_new(const char *name, const struct colo_places *places,
			       int oom_score_adj, const struct colo_program_hooks *hooks,
			       void *data);
/* What runs goes on. */
void colo_program_free(colo_program *program);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_program, colo_program_free)

/* Starts it, or adopts the one that runs where `adopt`. */
void colo_program_begin(colo_program *program, gboolean adopt);
/* Ends it, and starts it no more. */
void colo_program_end(colo_program *program);
/* Ends it by SIGKILL; it is started again. */
void colo_program_renew(colo_program *program);

pid_t colo_program_pid(const colo_program *program); /* 0: it does not run */
guint colo_program_restarts(const colo_program *program);
const char *colo_program_name(const colo_program *program);
/* Of its log file; the caller's to free. */
char *colo_program_log(const colo_program *program);
/* The path of a program in a directory of programs; the caller's to free. */
char *colo_places_program(const struct colo_places *places, const char *name);

#endif
