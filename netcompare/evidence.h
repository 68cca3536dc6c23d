/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What shows a divergence, as packets in a capture file. */
#ifndef NCMP_EVIDENCE_H
#define NCMP_EVIDENCE_H

#include "netcompare/compare.h"
#include "netcompare/dump.h"

/* The packets that differ, with a comment that says how. Where the comparison has only
 * what is in a packet, headers that fit are put before it: the sequence number is then
 * the position in the stream. `time_ns` since 1970. */
void ncmp_evidence_dump(ncmp_dump *dump, const struct ncmp_divergence *divergence,
			gint64 time_ns);

#endif
