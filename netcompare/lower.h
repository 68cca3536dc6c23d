/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TCP packet whose acknowledgement is lowered. */
#ifndef NCMP_LOWER_H
#define NCMP_LOWER_H

#include "netcompare/packet.h"

/* Of a connection whose SYN was not seen: its windows stay as they are. */
#define NCMP_SCALE_UNKNOWN 255u

/* Writes `ack`, which is lower, into `bytes`: a copy of `packet` of the same lengths.
 * What a duplicate SACK says (RFC 2883) would be news then, and goes. The window is as much
 * larger, so that its right edge does not go back (RFC 9293, 3.8.6), as far as 16 bits reach;
 * `scale` is what the guest's SYN asked for (RFC 7323), or NCMP_SCALE_UNKNOWN. The checksum
 * is mended: one that was wrong stays wrong; with `partial` it is made. */
void ncmp_lower_ack(const struct ncmp_packet *packet, guint8 *bytes, guint32 ack, guint scale,
		    gboolean partial);

#endif
