/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time, as every part of colo reads it. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <glib.h>

/* Nanoseconds of CLOCK_MONOTONIC. Any thread. */
guint64 base_clock_monotonic_ns(void);
/* Nanoseconds of CLOCK_TAI, the clock that neither leap seconds nor smearing touch. Any
 * thread. */
guint64 base_clock_tai_ns(void);
/* TAI minus UTC in seconds as the host's kernel knows it; 0 where nobody told it, in which
 * case CLOCK_TAI is UTC. */
int base_clock_tai_offset_s(void);

#endif
