/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a node that comes up cold may start the guest (design invariant 5): a pure function of
 * what is known, so that every case can be tested.
 */
#ifndef COLO_STARTUP_H
#define COLO_STARTUP_H

#include "colo/node.h"

struct colo_startup {
	const colo_pair *pair; /* for names in the reason */
	guint self; /* node 0 is the first: it begins a pair that never ran */
	struct colo_record record; /* our own */
	gboolean keeps_records; /* the arbiter does */
	enum colo_verdict verdict; /* of a reading: RECORD, NO_RECORD, UNREACHABLE or DENIED */
	struct colo_arbiter_record arbiter; /* where the verdict is RECORD */
	gboolean peer_up;
	struct colo_peer_state peer; /* where it is up */
	gboolean force; /* an operator takes the arbiter's place */
};

enum colo_startup_verdict {
	COLO_STARTUP_START,
	COLO_STARTUP_JOIN, /* the guest runs on the other node */
	COLO_STARTUP_WAIT, /* look again: that can change by itself */
	COLO_STARTUP_REFUSE, /* somebody has to decide */
};

enum colo_startup_right {
	COLO_STARTUP_OURS, /* the grant for `generation` is this node's already */
	COLO_STARTUP_CLAIM, /* claim from `generation`: granted, it is the next one */
	COLO_STARTUP_CREATE, /* the pair's first start: create a record of `generation` */
	COLO_STARTUP_FORCED, /* by the operator's word, as `generation` */
};

struct colo_startup_decision {
	enum colo_startup_verdict verdict;
	enum colo_startup_right right; /* to start */
	guint64 generation;
	char reason[256]; /* a line for a person */
	char advice[160]; /* what to do about it; may be empty */
};

void colo_startup_decide(const struct colo_startup *known,
			 struct colo_startup_decision *decision);

#endif
