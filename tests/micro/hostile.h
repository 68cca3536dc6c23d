/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two machines that become a pair again and again, each time through a wiretap, and what must
 * hold of both afterwards, whatever was done to their messages.
 */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "checkpoint/node.h"
#include "tests/micro/micro.h"
#include "tests/micro/wiretap.h"

enum { PRIMARY, SECONDARY };

struct rig {
	micro *guests[2]; /* the first is busy, and runs through all sessions */
	/* NULL, or what their devices are made of: then input and disk writes are mirrored, and
	 * there is one session, for a node is promoted once. */
	ckpt_node *nodes[2];
	char *disks[2];
	base_key *key;
	guint pongs;
};
/* Exits with MICRO_SKIP where there is no KVM. */
struct rig *rig_new(void);
/* The same with machines of these kinds. */
struct rig *rig_new_of(const struct micro_options *first, const struct micro_options *second);
/* The same with nodes, and equal disks. */
struct rig *rig_new_with_nodes(void);
void rig_free(struct rig *rig);
/* Of the one that was promoted, after its session: nothing that it flushed is lost. */
void rig_check_disk(struct rig *rig, guint which);
/* The primary's guest goes on, and finds its memory as it should be. */
void rig_check_first(struct rig *rig);

struct session {
	struct rig *rig;
	wiretap *tap;
	ckpt_primary *primary;
	ckpt_secondary *secondary;
	/* Of what follows: any thread, with the lock held. */
	GMutex lock;
	GCond changed;
	char *why[2]; /* each side's log would say: refused at once, or lost later */
	guint64 committed; /* that the primary was told */
	gboolean early; /* it took for committed what was not */
	guint making; /* sides that are being made */
	guint64 *digests[4]; /* of the primary's memory at the cut, by epoch */
	char *difference; /* between that and what was promoted, of a guest that rested */
};

struct session_options {
	enum ckpt_mode mode;
	gboolean impatient; /* deadlines of 800 ms */
	gboolean verify;
	gboolean talk; /* with the primary's guest, as long as it takes to make a session */
	wiretap_fn fn; /* NULL: nothing happens to the messages */
	void *data;
};

/* Never fails: a side that refused has its reason in `why`. */
struct session *session_new(struct rig *rig, const struct session_options *options);
/* The primary's guest answers; aborts if not. */
void rig_talk(struct rig *rig);
/* Waits until both sides are lost, or until that epoch was committed; TRUE: lost. Aborts after
 * half a minute of neither. */
gboolean session_is_lost_before(struct session *session, guint64 epoch);
/* Ends the session and looks at both machines. The secondary can be promoted if and only if it
 * committed; with `exact` what it then has is what the primary had at that cut (where its guest
 * rested), or a consistent guest. */
void session_free_judged(struct session *session, gboolean exact);

#endif
