/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labelled steps of the protocol, at which tests let a node die. The program has two builds
 * of this: fault_none.c, where a step is an empty function, and fault.c, in colo-vm-faults,
 * which reads COLO_FAULT=STEP[:NTH[:kill|stop]] and at the NTH time that STEP is reached
 * (1) sends itself SIGKILL (or SIGSTOP).
 */
#ifndef CKPT_FAULT_H
#define CKPT_FAULT_H

#include <glib.h>

enum ckpt_fault {
	/* The primary. */
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
	CKPT_FAULT_HANDOVER_STAGED, /* all of the cut is aside */
	CKPT_FAULT_HANDOVER_SENT, /* its end was handed over */
	CKPT_FAULT_HANDOVER_COMMITTED, /* it knows; nobody was told that the guest may go on there */
	CKPT_FAULT_HANDOVER_APPLIED, /* it knows of that too */
	/* The secondary. */
	CKPT_FAULT_JUDGED, /* a checkpoint is whole and good; not yet committed */
	CKPT_FAULT_SAID_COMMITTED, /* its word is handed over, not surely sent */
	CKPT_FAULT_AT_REST, /* its guest stands still, nothing was changed */
	CKPT_FAULT_MEMORY_APPLIED,
	CKPT_FAULT_STATE_LOADED,
	CKPT_FAULT_STREAMS_APPLIED, /* input dropped, disk writes let go */
	CKPT_FAULT_RUNS, /* the guest runs, if it is to */
	CKPT_FAULT_HANDED, /* it rests in the state that was handed over to it */
	CKPT_FAULT_PROMOTING, /* the link has ended */
	CKPT_FAULT_DISKS_PROMOTED,
	CKPT_FAULT_PROMOTED, /* the guest runs with the real devices */
	CKPT_FAULTS,
};

/* That a step was reached. Any thread. */
void ckpt_fault(enum ckpt_fault step);
/* That a message of a type (checkpoint/protocol.h) was handed to the kernel, or came whole:
 * steps "sent-TYPE" and "received-TYPE". */
void ckpt_fault_sent(guint16 type);
void ckpt_fault_received(guint16 type);

/* Name of step `index`, those of messages last; NULL past the end, and where this build has
 * no steps. Freed by the caller. */
char *ckpt_fault_name(guint index);

#endif
