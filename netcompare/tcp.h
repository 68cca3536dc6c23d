/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of TCP's comparison share. Private to them. */
#ifndef NCMP_TCP_H
#define NCMP_TCP_H

#include "netcompare/engine.h"

enum ncmp_judgement {
	NCMP_WAITS,
	NCMP_GOES,
	NCMP_GOES_LOWERED, /* with the secondary's acknowledgement */
};

/* RFC 1982. */
static inline gboolean ncmp_seq_is_after(guint32 a, guint32 b)
{
	return (gint32)(a - b) > 0;
}

/* tcp_state.c */

/* Of the packet's first element, once its numbers are settled. */
guint64 ncmp_tcp_position_of(const struct ncmp_tcp_flow *tcp,
			     const struct ncmp_packet *packet);
gboolean ncmp_tcp_is_matched(const struct ncmp_tcp_flow *tcp, guint64 from, guint64 to);
/* FALSE: there are too many holes. */
gboolean ncmp_tcp_add_matched(ncmp_compare *compare, struct ncmp_flow *flow,
			      guint64 from, guint64 to) G_GNUC_WARN_UNUSED_RESULT;
/* Finds the numbers of what the primary sends. FALSE: it begins another connection, and
 * the secondary has not yet. */
gboolean ncmp_tcp_settle(ncmp_compare *compare, struct ncmp_flow *flow,
			 const struct ncmp_packet *packet);
/* The primary has acknowledged this. */
void ncmp_tcp_note_ack(struct ncmp_tcp_flow *tcp, const struct ncmp_packet *packet);
/* The client has been told so. */
void ncmp_tcp_note_released_ack(struct ncmp_tcp_flow *tcp, guint32 ack);
/* The connection may have ended by this packet, or begun. */
void ncmp_tcp_note_end(ncmp_compare *compare, struct ncmp_flow *flow,
		       const struct ncmp_packet *packet, gint64 now_ns);

/* tcp_match.c */

/* The secondary's acknowledgement. FALSE: nothing is known of it. */
gboolean ncmp_tcp_get_limit(const struct ncmp_tcp_flow *tcp, guint32 *limit);
enum ncmp_judgement ncmp_tcp_judge_ack(const struct ncmp_tcp_flow *tcp,
				       const struct ncmp_held *held);
/* Compares what was not compared; a difference is a divergence. */
enum ncmp_judgement ncmp_tcp_judge(ncmp_compare *compare, struct ncmp_flow *flow,
				   const struct ncmp_held *held);

#endif
