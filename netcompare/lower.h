/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TCP packet whose acknowledgement is lowered. */
#ifndef NCMP_LOWER_H
#define NCMP_LOWER_H

#include "netcompare/packet.h"

/* Writes `ack`, which is lower, into `bytes`: a copy of `packet` of the same lengths.
 * What a duplicate SACK says (RFC 2883) would be news then, and goes. The checksum is
 * mended: one that was wrong stays wrong; with `partial` it is made. */
void ncmp_lower_ack(const struct ncmp_packet *packet, guint8 *bytes, guint32 ack,
		    gboolean partial);

#endif
