/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labelled steps of a program, at which tests let something happen to it. Each program has
 * two builds: the usual one has fault_none.c, in which a step is an empty function; PROGRAM-faults
 * has fault.c, and a table of its steps in the fault.c of its folder.
 *
 * There a step is armed in one of two ways.
 *
 * COLO_FAULT=STEP[:NTH[:kill|stop]] in the environment: the NTH time that this process reaches
 * STEP (1) it sends itself SIGKILL (or SIGSTOP).
 *
 * A line "PROGRAM STEP NTH ACTION" in the file that COLO_FAULT_FILE names, or else in the file
 * "faults" beside the program, which is looked at whenever a step is reached: so it can be armed
 * while the program runs, and all programs of a host have one. Whoever is to act renames the
 * file to FILE.reached before: a step armed once is acted on once, whatever is started anew. ACTION
 * is "kill", "stop", or "tell": "PROGRAM STEP PID" is written to the Unix stream socket FILE.tell,
 * and the thread that reached the step goes on when that connection is closed at the other end.
 *
 * Where there is a file FILE.seen, each process adds a line "PROGRAM STEP" for each step that it
 * reaches, once.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <glib.h>

/* That a step was reached. Any thread; may not come back for as long as a test likes. */
void base_fault(const char *step);
/* The same for "STEP-KIND"; spaces in `kind` become dashes. */
void base_fault_of(const char *step, const char *kind);

/* For --list-fault-points: prints this program's steps, one a line. FALSE: this build has none,
 * which was said on standard error. */
gboolean base_fault_list(const char *program);

/* A program's table, in the builds that have steps only. Freed by g_strfreev(). */
char **base_fault_points(void);

/* For tables: adds "STEP-KIND" for each of `kinds`, which end with NULL. */
void base_fault_add(GPtrArray *points, const char *step, const char *const *kinds);

#endif
