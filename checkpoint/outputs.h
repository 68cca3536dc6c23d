/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-vm's end of the comparator's socket (base/output.h): one comparator at a time is
 * told the gate, epochs and what the secondary's guest sends, and asks for checkpoints.
 *
 * Nobody who tells it something waits: what the socket does not take at once is queued,
 * and a comparator that lets more than 16 MiB wait is hung up on. It then holds
 * everything, as does the kernel where there is none, until it has come back.
 *
 * Guarantees: notices come in the order in which they are told, but a commit overtakes
 * frames of the epochs before it, which nobody needs any more and which are dropped. A
 * gate that begins to guard, with its cut, is in the socket when ckpt_outputs_cut()
 * returns, or the comparator was hung up on. Epochs on the socket grow as long as this
 * lives, whatever those of one replication after the other are. No commit, and no
 * frame, is told of an epoch that began before the comparator was ready.
 */
#ifndef CKPT_OUTPUTS_H
#define CKPT_OUTPUTS_H

#include "base/output.h"

#define CKPT_MARKER_BYTES (14u + 20u + sizeof(struct wire_marker))
#define CKPT_OUTPUT_CAUSES 16u

typedef struct ckpt_outputs ckpt_outputs;

/* On a thread of its own, without locks. */
struct ckpt_outputs_hooks {
	void *data;
	/* A comparator is ready (`why` NULL), or one that was has gone. */
	void (*ready)(void *data, const char *why);
	/* It wants a checkpoint. One that the present epoch has answered already is not
	 * told. */
	void (*request)(void *data, guint32 cause);
	/* It thinks that comparing pays (or not), with why, fit for a log line. */
	void (*mode)(void *data, gboolean compare, const char *why);
	/* What ckpt_outputs_drain() asked for. */
	void (*drained)(void *data);
};

/* Listens on `path`, mode 0600; a socket that nobody listens on is replaced. `cards`:
 * of the machine. The gate is closed. */
ckpt_outputs *ckpt_outputs_new(const char *path, guint cards,
			       const struct ckpt_outputs_hooks *hooks,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* No hook is called any more. */
void ckpt_outputs_free(ckpt_outputs *outputs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_outputs, ckpt_outputs_free)

/* The rest: any thread; never waits. */

gboolean ckpt_outputs_is_ready(ckpt_outputs *outputs);
/* Open or closed; ckpt_outputs_cut() is what guards. A replication that guarded is
 * over. */
void ckpt_outputs_set_gate(ckpt_outputs *outputs, enum wire_output_gate_kind kind);
/* With the machine at rest: `epoch` (one more than the last, or 1) begins here. From
 * now on outputs are guarded. `run`: the secondary's guest is to run in it. TRUE:
 * `marker`, a frame from and to `mac`, is to be sent through the first card before the
 * machine goes on; say ckpt_outputs_marked() then. */
gboolean ckpt_outputs_cut(ckpt_outputs *outputs, guint64 epoch, gboolean run,
			  const guint8 mac[6], guint8 marker[CKPT_MARKER_BYTES]);
/* Whether the card's port took the marker. */
void ckpt_outputs_marked(ckpt_outputs *outputs, gboolean sent);
void ckpt_outputs_committed(ckpt_outputs *outputs, guint64 epoch);
/* The secondary's guest sent this frame, behind its virtio_net_hdr, at most
 * WIRE_OUTPUT_FRAME_MAX bytes, in `epoch`. `lost`: others of that epoch before it are
 * lost. */
void ckpt_outputs_frame(ckpt_outputs *outputs, guint64 epoch, guint device,
			gboolean lost, const void *bytes, gsize len);

/* Asks the comparator to say, by drained(), when all has gone that the last commit lets go.
 * FALSE: nobody is there who could let anything go. One that leaves does not answer. */
gboolean ckpt_outputs_drain(ckpt_outputs *outputs);

struct ckpt_outputs_counters {
	gboolean connected, ready;
	enum wire_output_gate_kind gate;
	guint64 connections; /* comparators so far */
	guint64 hung_up; /* of them, for being too slow or for what they said */
	guint64 frames, bytes; /* told of */
	guint64 stale; /* frames of an epoch that is over, or that nobody was there for
			*/
	guint64 lost; /* times that the secondary said it had lost some */
	guint64 markers_sent, markers_missed; /* the port had no room for these */
	guint64 requests[CKPT_OUTPUT_CAUSES]; /* by cause; [0]: any other */
	guint64 late_requests; /* of an epoch that was over */
	guint64 epoch, committed; /* as the comparator is told them */
};
void ckpt_outputs_get_counters(ckpt_outputs *outputs,
			       struct ckpt_outputs_counters *counters);

#endif
