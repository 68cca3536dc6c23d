/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first sync of a disk, in the background while the primary's guest runs.
 *
 *	primary				secondary
 *	DIGESTS of a piece (1 MiB)
 *					DIFFER: which blocks (64 KiB) are not equal
 *	DATA, ZEROES of those
 *
 * Forwarding (checkpoint/disk_out.h) is on before it begins, and what arrives is
 * carried out in the order of arrival: forwarded writes, each held and committed at
 * once, and the sync's data, through ckpt_disk_twin_base(). Then, when all pieces are
 * through, the two disks are equal but for what is still forwarded:
 *
 * - A sector of a piece is left out of its data if a forwarded write touches it at any
 *   time from the submission of the piece's read to the sending of the data; a write in
 *   flight when the read is submitted counts. Whatever the read found there, the
 *   secondary was sent that write, with the right content, before this data; and nothing
 *   older comes after it.
 * - Any other sector was not written in that time, so what the read found is what it
 *   holds when it is sent. Writes forwarded before have completed and are in it; writes
 *   forwarded after arrive after, and win.
 * - A block that is called equal: what the secondary read is what the primary read.
 *   Where no write touched it, that is the right content. Where one did, that write was
 *   forwarded and arrived, or will arrive, as any other. The secondary's read may show a
 *   write that was forwarded after the primary's read; then the block may be called
 *   different without being so, and its sectors that were written are left out of the
 *   data as above.
 *
 * So a piece is read once, however busy the guest is in it.
 *
 * A read-only disk is the user's own file on either node: it is compared and never
 *written, and whoever owns the sync ends it where they differ.
 *
 * No networking here: messages go through hooks. Everything with the device lock.
 */
#ifndef CKPT_DISK_SYNC_H
#define CKPT_DISK_SYNC_H

#include "checkpoint/disk_out.h"
#include "checkpoint/protocol.h"

#define CKPT_SYNC_PIECE (1u << 20)
#define CKPT_SYNC_BLOCK (64u << 10)
#define CKPT_SYNC_BLOCKS (CKPT_SYNC_PIECE / CKPT_SYNC_BLOCK)
/* Pieces begun and not through: the memory of it, on either side. */
#define CKPT_SYNC_WINDOW 8u

enum ckpt_sync_kind {
	CKPT_SYNC_DIGESTS = 1, /* struct ckpt_sync_digest for each block follows */
	CKPT_SYNC_DIFFER = 2, /* from the secondary, for the same range; none: equal */
	CKPT_SYNC_DATA = 3, /* `length` bytes follow, at most CKPT_SYNC_BLOCK */
	CKPT_SYNC_ZEROES = 4, /* at most CKPT_SYNC_BLOCK */
};

/* CKPT_SYNC_DISK begins with this. Pieces begin at multiples of CKPT_SYNC_PIECE; the
 * disk's last one may be shorter, as may its last block. */
struct ckpt_sync_head {
	guint8 kind; /* enum ckpt_sync_kind */
	guint8 disk;
	wire_u16 blocks; /* DIFFER: bit n for block n; else 0 */
	wire_u32 length; /* bytes of the disk */
	wire_u64 offset;
};
G_STATIC_ASSERT(sizeof(struct ckpt_sync_head) == 16);

struct ckpt_sync_digest {
	wire_u64 low, high; /* XXH3-128 with the session's secret */
};
G_STATIC_ASSERT(sizeof(struct ckpt_sync_digest) == 16);

struct ckpt_sync_hooks {
	void *data;
	/* Copies what it needs, never blocks and never calls back. */
	void (*send)(void *data, const struct ckpt_sync_head *head, const void *payload,
		     gsize len);
	/* The disk failed (-errno): the sync cannot go on. Once. */
	void (*failed)(void *data, int error);
	/* Primary only: something has changed, so that ckpt_disk_sync_out_step() may do
	 * more, or it is complete. May be called from anywhere; must not call back. */
	void (*progress)(void *data);
};

/* Primary. */

typedef struct ckpt_disk_sync_out ckpt_disk_sync_out;

/* Of the disk `index` of `out`, which has forwarding on and outlives it. */
ckpt_disk_sync_out *ckpt_disk_sync_out_new(ckpt_disk_out *out, guint index,
					   const guint8 secret[CKPT_SECRET],
					   const struct ckpt_sync_hooks *hooks);
/* At any time: gives up what is under way. */
void ckpt_disk_sync_out_free(ckpt_disk_sync_out *sync);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_disk_sync_out, ckpt_disk_sync_out_free)

/* Begins one more piece; FALSE if there is none, or CKPT_SYNC_WINDOW are under way. Who
 * calls it decides how fast the sync is. Not from a completion. */
gboolean ckpt_disk_sync_out_step(ckpt_disk_sync_out *sync);
/* A DIFFER. FALSE, with the reason in `why` (static text), if it is not an answer to
 * what was sent. */
gboolean ckpt_disk_sync_out_take(ckpt_disk_sync_out *sync,
				 const struct ckpt_sync_head *head, gsize len,
				 const char **why) G_GNUC_WARN_UNUSED_RESULT;
/* All of the disk was sent or is equal. */
gboolean ckpt_disk_sync_out_is_complete(const ckpt_disk_sync_out *sync);

/* Of a read-only disk: whether its secondary's was found to be another, and the first
 * block in which it is. */
gboolean ckpt_disk_sync_out_differs(const ckpt_disk_sync_out *sync, guint64 *at);

struct ckpt_disk_sync_counters {
	guint64 total, begun, done; /* bytes of the disk; `done` is through */
	guint64 equal, data, zeroes,
		overtaken; /* bytes: of `done`, what became of them */
	guint64 wire; /* bytes of messages sent for it */
};
void ckpt_disk_sync_out_get_counters(const ckpt_disk_sync_out *sync,
				     struct ckpt_disk_sync_counters *counters);

/* Secondary. */

typedef struct ckpt_disk_sync_in ckpt_disk_sync_in;

/* `base`: ckpt_disk_twin_base(), whose user this becomes, and which outlives it. Reads
 * wait while much is still to be written, which holds up the primary. */
ckpt_disk_sync_in *ckpt_disk_sync_in_new(struct vmm_disk *base, guint index,
					 const guint8 secret[CKPT_SECRET],
					 const struct ckpt_sync_hooks *hooks);
/* At any time. What has arrived is written nevertheless. */
void ckpt_disk_sync_in_free(ckpt_disk_sync_in *sync);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_disk_sync_in, ckpt_disk_sync_in_free)

/* DIGESTS, DATA or ZEROES; `payload` is copied. FALSE, with the reason in `why` (static
 * text), if it cannot be, or more comes than was agreed. */
gboolean ckpt_disk_sync_in_take(ckpt_disk_sync_in *sync,
				const struct ckpt_sync_head *head, const void *payload,
				gsize len, const char **why) G_GNUC_WARN_UNUSED_RESULT;

#endif
