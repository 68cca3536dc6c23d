/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What colo-vm says to the comparator (base/output.h), judged; without its socket. And
 * its markers among the guest's packets.
 */
#ifndef NCMP_MESSAGE_H
#define NCMP_MESSAGE_H

#include <glib.h>

#include "base/output.h"

#define NCMP_MESSAGE_MAX (sizeof(struct wire_output_head) + WIRE_OUTPUT_FRAME_MAX)
#define NCMP_CARDS_MAX 64u

/* What was said so far. All zero to begin with. */
struct ncmp_talk {
	gboolean met; /* HELLO came */
	guint cards;
	guint8 secret[WIRE_OUTPUT_SECRET];
	guint64 cut, committed; /* the last epochs */
};

struct ncmp_message {
	enum wire_output_type type;
	guint64 epoch; /* of CUT, COMMITTED, FRAME and LOST */
	enum wire_output_gate_kind gate; /* of GATE */
	gboolean runs; /* of CUT */
	guint device; /* of FRAME */
	const guint8
		*frame; /* of FRAME: without virtio_net_hdr; borrowed from the bytes */
	gsize frame_len;
};

/* A message of `len` bytes. NULL, or why it is refused (static text): then `talk` did
 * not change, and the connection has to end. */
const char *ncmp_talk_take(struct ncmp_talk *talk, const guint8 *bytes, gsize len,
			   struct ncmp_message *message) G_GNUC_WARN_UNUSED_RESULT;

/* Whether a packet (from its IP header on) is a marker of whoever knows `secret`, and
 * of which epoch. Takes the same time whatever secret the packet has. */
gboolean ncmp_marker_parse(const guint8 *bytes, gsize len,
			   const guint8 secret[WIRE_OUTPUT_SECRET], guint64 *epoch);

#endif
