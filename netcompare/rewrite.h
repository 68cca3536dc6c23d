/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest and its clients may count a TCP connection differently: the secondary's guest
 * chooses its own initial sequence numbers for connections that are born after the last
 * checkpoint, and its timestamps may be behind the primary's. The rewriter stands at
 * the guest and translates, in both directions: sequence and acknowledgement numbers,
 * SACK blocks, timestamps, and what ICMP errors quote.
 *
 * On a secondary: what the guest gets (frames mirrored from the primary's guest, in the
 * clients' numbers) is translated to its own. What it sends is only learned from: the
 * comparator compares connections relative to their start. A checkpoint makes both
 * guests equal, so that translations learned since the last one are forgotten, and
 * those that the primary itself has (it was promoted once) come with it:
 * ncmp_rewriter_load(). What the guest sends is translated by those at once.
 *
 * On whoever was promoted: both directions, for as long as a connection lives. Whatever
 * the guest says after a promotion has timestamps not behind those that the clients
 * have seen. A primary that never was a secondary has no rewriter.
 *
 * Where the clients' numbers come from. The primary's guest says them as it begins a
 * connection: its node tells the secondary among the mirrored frames, in their order
 * (ncmp_rewriter_birth() there, ncmp_rewriter_learn() here). That is exact. Without it
 * (an end of the primary may swallow the last ones) they are taken from the first
 * acknowledgement of the guest's SYN, which is exact unless data went with a SYN (RFC
 * 7413): such a connection is then not translated, and shows as a divergence; so does
 * one whose first acknowledgement somebody made up.
 *
 * Not translated, since it cannot be: segments in IP fragments, and connections with
 * signatures (RFC 2385, 5925), which a change breaks as much as none would.
 *
 * One thread, or a lock of the caller's. Frames are whole Ethernet frames without
 * virtio_net_hdr, not in the guest's memory, and changed in place in their headers. A
 * checksum that is partial (to be filled in by whoever segments or sends) stays so; a
 * full one is mended, and is as right or wrong as it was.
 */
#ifndef NCMP_REWRITE_H
#define NCMP_REWRITE_H

#include "netcompare/packet.h"
#include "netcompare/rewrite_wire.h"

typedef struct ncmp_rewriter ncmp_rewriter;

/* `connections_max` 0: NCMP_REWRITE_CONNECTIONS; more is taken for that. `seed`: of
 * hashes, not for guests and clients to know. */
ncmp_rewriter *ncmp_rewriter_new(guint connections_max, guint32 seed);
void ncmp_rewriter_free(ncmp_rewriter *rewriter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_rewriter, ncmp_rewriter_free)

/* TRUE: no frame need be shown any more, for good. The guest was promoted, and what it
 * had of connections then is over. Never so on a secondary, which learns. Cheap. */
gboolean ncmp_rewriter_is_idle(const ncmp_rewriter *rewriter);

enum ncmp_rewrite {
	NCMP_REWRITE_SAME,
	NCMP_REWRITE_CHANGED,
	/* Not yet: it acknowledges what the guest is only about to send, so that it
	 * cannot be translated. Nothing was changed. To be shown again, before any
	 * later one, once the guest has sent something, and at
	 * ncmp_rewriter_hold_until() at the latest. It is held once, for at most
	 * NCMP_REWRITE_HOLD_MS, and then passes as it is. */
	NCMP_REWRITE_HOLD,
};
#define NCMP_REWRITE_HOLD_MS 100u

/* A frame, as the guest is about to get it. `partial`: its TCP checksum covers only the
 * pseudo header. `now_ns`: monotonic. */
enum ncmp_rewrite ncmp_rewriter_in(ncmp_rewriter *rewriter, guint8 device,
				   guint8 *frame, gsize len, gboolean partial,
				   gint64 now_ns);
/* When to show again what was held last. */
gint64 ncmp_rewriter_hold_until(const ncmp_rewriter *rewriter);
/* A frame that the guest sent. TRUE where it was changed. */
gboolean ncmp_rewriter_out(ncmp_rewriter *rewriter, guint8 device, guint8 *frame,
			   gsize len, gboolean partial, gint64 now_ns);

/* On the primary: whether what its guest sent (after its own rewriter, if it has one)
 * begins a connection, and what the secondary is to be told then, after the frames that
 * its guest has had by now and before the next one. Needs no rewriter; cheap where it
 * is no SYN. */
gboolean ncmp_rewriter_birth(guint8 device, const guint8 *frame, gsize len,
			     struct wire_rewrite_birth *birth);
/* On the secondary: the primary's guest began a connection. NULL, or why it is refused
 * (static text), and then nothing changed. */
const char *ncmp_rewriter_learn(ncmp_rewriter *rewriter,
				const struct wire_rewrite_birth *birth,
				gint64 now_ns) G_GNUC_WARN_UNUSED_RESULT;

/* The guest was made equal to the primary's at the cut: learned translations go, the
 * primary's (`bytes` of its save(), len 0: it has none) come. Not after a promotion.
 * NULL, or why these bytes are refused (static text), and then nothing changed. */
const char *ncmp_rewriter_load(ncmp_rewriter *rewriter, const guint8 *bytes, gsize len,
			       gint64 now_ns) G_GNUC_WARN_UNUSED_RESULT;
/* Appends the translations of this (promoted) rewriter, at most NCMP_REWRITE_SAVED_MAX
 * bytes; where it is idle or was not promoted: nothing. */
void ncmp_rewriter_save(const ncmp_rewriter *rewriter, GByteArray *out);
/* From here on what the guest sends is translated too. */
void ncmp_rewriter_promote(ncmp_rewriter *rewriter, gint64 now_ns);

struct ncmp_rewriter_counters {
	guint64 connections; /* known now */
	guint64 translated_in, translated_out; /* frames */
	guint64 held, hold_expired; /* frames; of those, what passed as it was */
	guint64 learned,
		derived; /* connections' numbers: told, taken from acknowledgements */
	guint64 ambiguous; /* connections whose numbers could not be taken from those */
	guint64 forgotten; /* connections given up at the limit */
};
void ncmp_rewriter_get_counters(const ncmp_rewriter *rewriter,
				struct ncmp_rewriter_counters *counters);

#endif
