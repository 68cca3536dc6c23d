/* SPDX-License-Identifier: GPL-2.0-or-later */
/* serial.h - COM1: progress lines, panics, and commands when there is no
 * virtio-console. */
#ifndef GUEST_SERIAL_H
#define GUEST_SERIAL_H

#include "types.h"

/* Prints one line; the newline is added. Any vCPU. */
void say(const char *how, ...) __attribute__((format(printf, 1, 2)));
void serial_init(void);
/* A complete line, cut at its end, or NULL. */
char *serial_line(void);

#endif
