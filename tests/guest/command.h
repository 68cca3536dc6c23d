/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.h - the interpreter: one line in, one line out. See README.md for the
 * commands. */
#ifndef GUEST_COMMAND_H
#define GUEST_COMMAND_H

#include "types.h"

/* Cuts `line` up. `reply` has LINE_MAX bytes and gets no newline. */
void command_run(char *line, char *reply);
/* Commands from the console or COM1; true if there was one. */
bool command_poll(void);
/* `cmd=a;b;c` of the kernel command line. */
void command_boot(void);

#endif
