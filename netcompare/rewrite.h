/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest and its clients may count a TCP connection differently: the secondary's guest
 * chooses its own initial sequence numbers for connections that are born after the last
 * checkpoint, and its timestamps may be behind the primary's. The rewriter stands at the
 * guest and translates, in both directions: sequence and acknowledgement numbers, SACK
 * blocks, timestamps.
 *
 * On a secondary: what the guest gets (frames mirrored from the primary's guest, in the
 * clients' numbers) is translated to its own. What it sends is only learned from: the
 * comparator compares connections relative to their start. A checkpoint makes both guests
 * equal, so that translations learned since the last one are forgotten, and those that the
 * primary itself has (it was promoted once) come with it: ncmp_rewriter_load().
 *
 * On whoever was promoted: both directions, for as long as a connection lives. Whatever the
 * guest says after a promotion has timestamps not behind those that the clients have seen.
 *
 * One thread, or a lock of the caller's. Frames are Ethernet frames without virtio_net_hdr;
 * a checksum that is partial (to be filled in by whoever segments or sends) stays so, and is
 * right afterwards.
 */
#ifndef NCMP_REWRITE_H
#define NCMP_REWRITE_H

#include "netcompare/packet.h"

typedef struct ncmp_rewriter ncmp_rewriter;

/* `connections_max` 0: 65536. `seed`: of hashes. */
ncmp_rewriter *ncmp_rewriter_new(guint connections_max, guint32 seed);
void ncmp_rewriter_free(ncmp_rewriter *rewriter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_rewriter, ncmp_rewriter_free)

/* Whether a frame may need a change at all: FALSE while no connection is known whose numbers
 * differ. Cheap. On a secondary all frames must be shown nevertheless, for learning. */
gboolean ncmp_rewriter_is_idle(const ncmp_rewriter *rewriter);

/* A frame for the guest, changed in place. `partial`: its TCP checksum covers only the pseudo
 * header. TRUE where it was changed. */
gboolean ncmp_rewriter_in(ncmp_rewriter *rewriter, guint8 device, guint8 *frame, gsize len,
			  gboolean partial, gint64 now_ns);
/* The same of one that the guest sent. */
gboolean ncmp_rewriter_out(ncmp_rewriter *rewriter, guint8 device, guint8 *frame, gsize len,
			   gboolean partial, gint64 now_ns);

/* The guest was made equal to the primary's at the cut: learned translations go, the
 * primary's (`bytes` of its save(), len 0: it has none) come. NULL, or why these bytes are
 * refused (static text), and then nothing changed. */
const char *ncmp_rewriter_load(ncmp_rewriter *rewriter, const guint8 *bytes, gsize len)
	G_GNUC_WARN_UNUSED_RESULT;
/* Appends the translations of this (promoted) rewriter; none: nothing. */
void ncmp_rewriter_save(const ncmp_rewriter *rewriter, GByteArray *out);
/* From here on what the guest sends is translated too. */
void ncmp_rewriter_promote(ncmp_rewriter *rewriter, gint64 now_ns);

struct ncmp_rewriter_counters {
	guint64 connections; /* known now */
	guint64 translated_in, translated_out; /* frames */
	guint64 forgotten; /* connections given up at the limit */
};
void ncmp_rewriter_get_counters(const ncmp_rewriter *rewriter,
				struct ncmp_rewriter_counters *counters);

#endif
