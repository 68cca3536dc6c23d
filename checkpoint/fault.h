/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labelled steps of replication (base/fault.h): fault_none.c, in which nothing happens, is in
 * colo-vm; fault.c in colo-vm-faults.
 */
#ifndef CKPT_FAULT_H
#define CKPT_FAULT_H

#include <glib.h>

enum ckpt_fault {
	/* The primary. */
	CKPT_FAULT_LANES_OPEN, /* all connections of a first sync are there */
	CKPT_FAULT_SYNC_ROUND, /* a round of memory is sent, the disks are through */
	CKPT_FAULT_SYNC_ENDS, /* the rest fits one checkpoint; no connection was told yet */
	CKPT_FAULT_CUT, /* a checkpoint was decided on; the guest runs */
	CKPT_FAULT_STAGED, /* at rest: all of the cut is aside */
	CKPT_FAULT_RESUMED, /* the guest runs again; nothing was sent */
	CKPT_FAULT_ALL_SENT, /* the end was handed over */
	CKPT_FAULT_COMMITTED, /* it knows of the commit; nobody was told */
	CKPT_FAULT_RELEASED, /* what the commit covers may go out */
	CKPT_FAULT_KNOWS_APPLIED,
	/* Of a primary's last checkpoint. */
	CKPT_FAULT_HANDOVER_ASKED, /* nothing was done for it */
	CKPT_FAULT_HANDOVER_BEFORE, /* the one before it was applied; the guest runs */
	CKPT_FAULT_HANDOVER_AT_REST, /* the guest rests, nothing was cut */
	CKPT_FAULT_HANDOVER_RELAYS, /* what comes for the guest is handed on as input */
	CKPT_FAULT_HANDOVER_STAGED, /* all of the cut is aside */
	CKPT_FAULT_HANDOVER_SENT, /* its end was handed over */
	CKPT_FAULT_HANDOVER_COMMITTED, /* it knows; nobody was told that the guest may go on there */
	CKPT_FAULT_HANDOVER_APPLIED, /* it knows of that too */
	/* Of one whose secondary is lost, or that takes its guest back. */
	CKPT_FAULT_HELD, /* the guest rests, nobody was told */
	CKPT_FAULT_GOING_ON, /* it is to run alone; the link has ended */
	/* The secondary. */
	CKPT_FAULT_JOINED, /* the hellos were exchanged */
	CKPT_FAULT_LANES_ENDED, /* the first cut came, and all connections' ends */
	CKPT_FAULT_JUDGED, /* a checkpoint is whole and good; not yet committed */
	CKPT_FAULT_SAID_COMMITTED, /* its word is handed over, not surely sent */
	CKPT_FAULT_AT_REST, /* its guest stands still, nothing was changed */
	CKPT_FAULT_MEMORY_APPLIED,
	CKPT_FAULT_STATE_LOADED,
	CKPT_FAULT_STREAMS_APPLIED, /* input dropped, disk writes let go */
	CKPT_FAULT_RUNS, /* the guest runs, if it is to */
	CKPT_FAULT_HANDED, /* it rests in the state that was handed over to it */
	CKPT_FAULT_HOLDING, /* its primary is lost, nobody was told */
	CKPT_FAULT_GIVING_UP, /* what it holds is to be dropped */
	CKPT_FAULT_PROMOTING, /* the link has ended */
	CKPT_FAULT_DISKS_PROMOTED,
	CKPT_FAULT_PROMOTED, /* the guest runs with the real devices */
	CKPT_FAULT_MERGE_BEGUN, /* the committed writes are on their way to a disk */
	CKPT_FAULT_MERGE_WRITTEN, /* and are all written, not flushed */
	CKPT_FAULT_MERGED, /* and flushed; nobody was told */
	CKPT_FAULTS,
};

/* That a step was reached. Any thread. */
void ckpt_fault(enum ckpt_fault step);
/* That a message of a type (checkpoint/protocol.h) was handed to the kernel, or came whole:
 * steps "sent-TYPE" and "received-TYPE". */
void ckpt_fault_sent(guint16 type);
void ckpt_fault_received(guint16 type);

#endif
