/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines of a program: GLib's g_warning() and so on, one line each to stderr. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <glib.h>

/* Once, first thing in main. `verbosity` 0: warnings and worse and messages; 1: info; 2:
 * debug. Under systemd (JOURNAL_STREAM) lines carry a "<level>" prefix instead of time
 * and level words. */
void base_log_init(const char *program, int verbosity);

#endif
