/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a replay finds, between its two files. */
#ifndef NCMP_REPLAY_PRIVATE_H
#define NCMP_REPLAY_PRIVATE_H

#include "netcompare/compare.h"
#include "netcompare/replay.h"

#define NCMP_REPLAY_SHOWN 16u /* bytes of a difference */

enum { NCMP_REPLAY_PRIMARY, NCMP_REPLAY_SECONDARY, NCMP_REPLAY_SIDES };

struct ncmp_finding {
	struct ncmp_flow_key key; /* zeros: packets that cannot be compared */
	enum ncmp_cause cause;
	guint64 position; /* TCP: in the stream, SYN counted; else: in what is said */
	guint64 number[NCMP_REPLAY_SIDES]; /* of the packet; 0: none has it */
	guint8 shown[NCMP_REPLAY_SIDES][NCMP_REPLAY_SHOWN]; /* from `position` on */
	gsize shown_len[NCMP_REPLAY_SIDES];
};

struct ncmp_findings {
	char *guest; /* whose packets were compared; NULL: all */
	guint64 packets[NCMP_REPLAY_SIDES]; /* compared */
	guint64 flows;
	GArray *differences; /* struct ncmp_finding */
};

/* replay_report.c */
void ncmp_replay_report(const struct ncmp_replay_options *options,
			const struct ncmp_findings *findings, FILE *out);

#endif
