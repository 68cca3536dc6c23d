/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which services diverge: counts by protocol and the guest's own port, few of them. */
#ifndef NCMP_BLAME_H
#define NCMP_BLAME_H

#include "netcompare/compare.h"

#define NCMP_BLAMES_MAX 64u

struct ncmp_blames {
	struct ncmp_blame blames[NCMP_BLAMES_MAX];
	guint count;
};

/* Where there are too many, the one with the lowest count goes. */
void ncmp_blames_add(struct ncmp_blames *blames, guint8 protocol, guint16 port,
		     enum ncmp_cause cause);
/* Most frequent first, at most `max`. */
guint ncmp_blames_get(const struct ncmp_blames *blames, struct ncmp_blame *to,
		      guint max);

#endif
