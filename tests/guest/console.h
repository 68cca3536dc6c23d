/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console.h - virtio-console port 0: lines in, lines out. */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include "types.h"

void console_init(void);
bool console_present(void);
char *console_line(void);
/* Adds the newline. Waits for room, but not for ever: then the line is lost. */
void console_say(const char *line);
u64 console_lost(void);

#endif
