/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time, as every part of colo reads it. */
#include "base/clock.h"

#include <sys/timex.h>
#include <time.h>

static guint64 read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (guint64)ts.tv_sec * 1000000000u + (guint64)ts.tv_nsec;
}

guint64 base_clock_monotonic_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

guint64 base_clock_tai_ns(void)
{
	return read_ns(CLOCK_TAI);
}

int base_clock_tai_offset_s(void)
{
	struct timex tx = { 0 };

	return adjtimex(&tx) < 0 ? 0 : tx.tai;
}
