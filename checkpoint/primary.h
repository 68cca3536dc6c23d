/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side of the epochs: fills a secondary while the guest runs (first sync), then
 * takes checkpoints and ships them. A thread of its own does all of it; the guest stands
 * still only while it is cut and its dirty pages are copied aside.
 *
 * Losing the secondary ends it: the guest goes on, unreplicated, and whoever owns this decides
 * what that means for its outputs.
 */
#ifndef CKPT_PRIMARY_H
#define CKPT_PRIMARY_H

#include "checkpoint/disk_sync.h"
#include "checkpoint/hello.h"
#include "checkpoint/link.h"

enum ckpt_mode {
	CKPT_MODE_COLO, /* the secondary's guest runs */
	CKPT_MODE_BUFFERED, /* it rests; checkpoints come at a short period */
};

struct ckpt_primary_options {
	enum ckpt_mode mode;
	guint period_ms; /* buffered mode: from one cut to the next */
	guint age_ms; /* COLO mode: the longest epoch */
	guint64 dirty_max; /* pages that a checkpoint should not exceed; 0: no such limit */
	guint64 sync_bytes_per_s; /* of first sync, memory and disks; 0: as fast as it goes */
	guint silence_ms; /* without a word from the secondary it is lost */
	guint answer_ms; /* so is one that speaks but does not answer, commit or apply */
	guint hello_ms; /* for its first message */
	/* Over which the memory of first sync goes, 1 to CKPT_LANES_MAX: each has a processor's
	 * encryption on either side. */
	guint connections;
	gboolean verify;
	gboolean listen; /* from the start, as ckpt_primary_listen() */
};
void ckpt_primary_options_init(struct ckpt_primary_options *options);

/* What goes along with the pages; of checkpoint/mirror.h and checkpoint/disk_out.h. With the
 * machine at rest, or (start) holding the device lock. */
struct ckpt_streams {
	void *data;
	/* From now on input and disk writes are handed to `link`, whose session has this secret
	 * for digests; NULL: no longer. */
	void (*start)(void *data, ckpt_link *link, const guint8 *secret);
	guint64 (*input_number)(void *data); /* the last one that the guest was given */
	guint64 (*disk_number)(void *data); /* the last one that was submitted */
	/* First sync of the disks; all three or none, holding the device lock. */
	gboolean (*sync_step)(void *data); /* begins one more piece; FALSE: none now */
	/* A CKPT_SYNC_DISK message's payload. */
	gboolean (*sync_answer)(void *data, const void *payload, gsize len, GError **error);
	/* FALSE: no such disk. */
	gboolean (*sync_counters)(void *data, guint disk,
				  struct ckpt_disk_sync_counters *counters);
	/* Whatever else the secondary should know, to the link; may be NULL. */
	void (*at_cut)(void *data, guint64 epoch);
	/* The guest does not go on from this cut: what it is given from outside from here on is
	 * still handed to the link. May be NULL. */
	void (*hand_over)(void *data);
	/* For --verify; may be NULL: see ckpt_disk_out_digests(). */
	void (*disk_digests)(void *data, GArray *ranges);
};

enum ckpt_primary_state {
	CKPT_PRIMARY_SYNCING,
	CKPT_PRIMARY_PROTECTED,
	CKPT_PRIMARY_LOST, /* for good: free it */
};

struct ckpt_checkpoint_stats;

struct ckpt_primary_hooks {
	/* Any of them may be NULL. On the checkpoint thread, or a link's. */
	void (*state)(void *data, enum ckpt_primary_state state, const char *why);
	/* At rest: epoch begins here. `run`: the secondary's guest is to run in it. */
	void (*cut)(void *data, guint64 epoch, gboolean run);
	void (*applied)(void *data, const struct ckpt_checkpoint_stats *stats);
	/* One more connection to the same secondary, fresh from its handshake; NULL, with an
	 * error. While the primary is made, on that thread; there must be one where there are
	 * to be several connections. */
	base_channel *(*connect)(void *data, GError **error);
	/* These two on the link's receiving thread, as soon as it is known. */
	void (*committed)(void *data, guint64 epoch); /* what came before may go out */
	void (*parted)(void *data, guint64 epoch); /* after that, once: see ckpt_primary_part() */
	/* The secondary's guest sent this in `epoch`, the last committed one: a frame behind
	 * its virtio_net_hdr, at most CKPT_FRAME_MAX bytes. `lost`: others of this epoch
	 * before it never came. */
	void (*output)(void *data, guint64 epoch, guint device, gboolean lost,
		       const void *bytes, gsize len);
};

/* First sync, while it is under way and afterwards. */
struct ckpt_sync_progress {
	guint round; /* of memory, from 1 */
	guint64 memory_left; /* bytes that this round has still to look at */
	guint64 disks_left; /* bytes of all disks that are not through */
	struct ckpt_disk_sync_counters disks[VMM_DISKS_MAX]; /* `total` 0: no such disk */
	guint64 wire_bytes; /* sent for it, of memory and disks */
	guint64 ms_left; /* the estimate; 0: not known, or nothing is left */
};

struct ckpt_checkpoint_stats {
	guint64 epoch;
	enum ckpt_reason reason;
	guint64 pause_ns; /* from the decision until the guest ran again */
	guint64 commit_ns; /* from the cut to the commit */
	guint64 apply_ns; /* the secondary's pause */
	guint64 dirty, zero, same, twin, sent; /* pages */
	guint64 bytes; /* on the wire for it, digests and state included */
	guint64 private_pages; /* the secondary's */
};

typedef struct ckpt_primary ckpt_primary;

/* Takes the channel, fresh from its handshake. The machine runs or is paused. Starts at
 * once; the hooks tell the rest. NULL: the secondary's machine is refused, or refuses. */
ckpt_primary *ckpt_primary_new_take(vmm_machine *machine, base_channel *channel,
				    const struct ckpt_primary_options *options,
				    const struct ckpt_streams *streams,
				    const struct ckpt_primary_hooks *hooks, void *data,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the secondary is told when this is freed; without it, "unprotect". */
void ckpt_primary_set_end(ckpt_primary *primary, enum ckpt_ending end);
/* Ends replication; the secondary is told. The guest is unharmed. */
void ckpt_primary_free(ckpt_primary *primary);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_primary, ckpt_primary_free)

/* Asks for a checkpoint; requests within one epoch are one. Any thread. */
void ckpt_primary_request(ckpt_primary *primary, enum ckpt_reason reason);
/* Takes the last checkpoint, and no other after it: when it is committed, parted() is called. A
 * request that was made before is over then.
 *
 * CKPT_REASON_HANDOVER: the machine, which runs or is paused, is PAUSED at its cut and stays so,
 * whatever comes of it; the secondary's guest rests in that state. Another checkpoint comes just
 * before, so that this one is small. What comes for the guest meanwhile goes to the secondary.
 * CKPT_REASON_ENDED: the guest has ended by itself, and with it the machine.
 *
 * PROTECTED only; the first reason counts. Any thread. */
void ckpt_primary_part(ckpt_primary *primary, enum ckpt_reason reason);
/* From the next checkpoint on. `period_ms`: of buffered mode. */
void ckpt_primary_set_mode(ckpt_primary *primary, enum ckpt_mode mode, guint period_ms);
/* Whether the secondary is to send what its guest sends: costs nothing while nobody wants it.
 * Any thread. */
void ckpt_primary_listen(ckpt_primary *primary, gboolean on);
enum ckpt_primary_state ckpt_primary_get_state(ckpt_primary *primary);
/* Of the last committed checkpoint; FALSE: none yet. */
gboolean ckpt_primary_last(ckpt_primary *primary, struct ckpt_checkpoint_stats *stats);
void ckpt_primary_progress(ckpt_primary *primary, struct ckpt_sync_progress *progress);
void ckpt_primary_link_counters(ckpt_primary *primary,
				struct base_channel_counters *counters);

#endif
