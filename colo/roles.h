/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The roles of a node as one table: what it is now, what happens, what it is then, what must
 * be on disk before, and what is done after (design section 8). Pure: no time, no I/O.
 *
 * What is true in each state:
 *
 *   stopped    no machine runs here and none is wanted
 *   waiting    one is wanted, and who may run it is not known yet
 *   solo       the guest runs here alone, with the grant for this generation; outputs go out
 *   syncing    the same while the other node is filled; to the end, when both nodes and the
 *              arbiter know that the pair is protected
 *   protected  the guest runs here, every output waits for its match or commit
 *   holding    it did, but the secondary is lost: the guest is at rest until a grant comes
 *   handing    a planned switch-over is under way: the other node is to go on
 *   joining    colo-vm waits here to be filled, or is; what is on the disks does not count
 *   standby    secondary of a protected pair: may ask for the grant when the primary is lost
 *   promoting  asks for it, or has it and makes its guest the only one
 *   fenced     the other node has the grant: the machine here is ended, unheard
 */
#ifndef COLO_ROLES_H
#define COLO_ROLES_H

#include <glib.h>

/* The numbers travel in heartbeats and between two colods: never reused. */
enum colo_state {
	COLO_STOPPED,
	COLO_WAITING,
	COLO_SOLO,
	COLO_SYNCING,
	COLO_PROTECTED,
	COLO_HOLDING,
	COLO_HANDING,
	COLO_JOINING,
	COLO_STANDBY,
	COLO_PROMOTING,
	COLO_FENCED,
	COLO__STATES,
};

enum colo_event {
	COLO_ON_START, /* somebody wants the guest to run */
	COLO_ON_BEGIN, /* it may be started here: granted, or ours already */
	COLO_ON_JOIN, /* it runs on the other node */
	COLO_ON_READY, /* the other node's colo-vm can be filled */
	COLO_ON_COMMIT, /* colo-vm has a first commit there */
	COLO_ON_SEALED, /* everybody knows that the pair is protected */
	COLO_ON_SEAL, /* the primary says so */
	COLO_ON_LOSS, /* the secondary is lost before anybody could take it for protected */
	COLO_ON_DOUBT, /* it is lost afterwards: it may ask for the grant as well */
	COLO_ON_CLAIM, /* the primary is lost */
	COLO_ON_GRANTED,
	COLO_ON_DENIED, /* the other node has the grant */
	COLO_ON_OVERTAKEN, /* the other node runs alone, at a later generation */
	COLO_ON_PROMOTED, /* our colo-vm says so */
	COLO_ON_DURABLE, /* what was committed before is on the promoted disks */
	COLO_ON_LEAVE, /* the other node agreed to take over */
	COLO_ON_HANDED, /* it did */
	COLO_ON_TAKE, /* we are to go on: the primary is at rest, and has said so for good */
	COLO_ON_CONSENT, /* the other node may go on alone, if it is for us */
	COLO_ON_FORCE, /* the operator takes the arbiter's place */
	COLO_ON_DISCARD, /* the operator gives up what is here */
	COLO_ON_STAND_DOWN, /* this node takes no part any more */
	COLO_ON_ENDED, /* the guest was ended on purpose */
	COLO_ON_GONE, /* our colo-vm is no more */
	COLO__EVENTS,
};

/* What is to be on disk before the step counts (colo/record.h); the generation is the
 * event's. */
enum colo_durable {
	COLO_KEEP, /* nothing */
	COLO_AS_NONE,
	COLO_AS_OLDER, /* standby, where there is a whole copy; else none */
	COLO_AS_STANDBY,
	COLO_AS_PRIMARY,
	COLO_AS_SOLO,
	COLO_AS_LEAVING,
	COLO_AS_PROMOTED,
	COLO_AS_STOPPED, /* the part it has, and that it was stopped on purpose */
	COLO_AS_STARTED, /* the part it has, and that it was not */
};

struct colo_node; /* colo/node.h */

struct colo_step {
	gboolean known; /* FALSE: refused and logged */
	enum colo_state state;
	enum colo_durable durable;
	void (*action)(struct colo_node *node); /* or NULL */
};

/* The row of the table; `known` is FALSE in one that is not named. */
const struct colo_step *colo_roles_step(enum colo_state state, enum colo_event event);

/* "syncing", "loss": for people. */
const char *colo_state_name(enum colo_state state);
const char *colo_event_name(enum colo_event event);
/* Whether the guest runs, or rests, on this node as the one that clients hear. */
gboolean colo_state_is_primary(enum colo_state state);
/* Whether a copy of the guest is, or is to be, behind the other node's. */
gboolean colo_state_is_secondary(enum colo_state state);

#endif
