/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of colo/node.h know of each other, and the table's actions. */
#ifndef COLO_NODE_PRIVATE_H
#define COLO_NODE_PRIVATE_H

#include "colo/node.h"

#define NODE_AGAIN_MS 500u /* until what was not answered well is asked again */
#define NODE_SOON_MS 50u
/* A primary that comes back gives a standby that holds the guest so long to be heard of, before
 * it asks to start the guest anew. */
#define NODE_SETTLE_MS 3000u
#define NODE_PROTECT_AGAIN_MS 1000u
#define NODE_DISK_AGAIN_MS 10000u /* a standby's disk that failed is filled again */
/* A switch-over that the other node was asked for and that has not come is no longer waited
 * for. */
#define NODE_SWITCH_MS 30000u
/* How often an arbiter that nobody needs is asked whether it is there. */
#define NODE_WATCH_MS 10000u

/* What the arbiter was asked last, and has not answered. */
enum node_asked {
	NODE_NOTHING,
	NODE_WATCH, /* whether it is there: given up where something else is to be asked */
	NODE_READ, /* to decide about a start */
	NODE_BEGIN, /* the grant of a start: a claim or a creation */
	NODE_GRANT, /* that of a machine that lives */
	NODE_PROTECT,
	NODE_CATCH_UP, /* a claim for what the other node consented to already */
	NODE_FORCE, /* told what the operator decided */
};

/* How far protecting is known of. */
enum node_seal {
	NODE_UNSEALED,
	NODE_COMMITTED, /* colo-vm has a first commit: nobody else knows */
	NODE_ARBITER, /* the arbiter is being told: from here on the other node may claim */
	NODE_PEER, /* the other node is */
};

struct node_event {
	enum colo_event event;
	guint64 generation;
};

struct colo_node {
	const colo_pair *pair;
	guint self;
	const struct colo_node_ops *ops;
	void *data;

	enum colo_state state;
	guint turn; /* grows with each change of state */
	guint64 since_ms;
	struct colo_record record;
	guint64 epoch;
	char *reason, *advice;

	/* A step that waits for its record, and what came after. */
	gboolean moving;
	struct node_event move;
	struct colo_record writing;
	gboolean record_fails; /* the last one could not be written */
	guint64 record_again_ms; /* until then no other is tried */
	GQueue *later; /* of struct node_event */
	gboolean stepping;

	/* Our colo-vm. */
	gboolean vm; /* a process is there */
	gboolean vm_up, vm_deaf, vm_ready, vm_promotable, vm_ending, guard;
	gboolean link_lost; /* of a standby: to its primary; of a primary: to its standby */
	guint64 link_lost_ms;
	gboolean durable;
	guint64 disk_again_ms; /* until then this node's disk is not to be filled; 0: it may */
	gboolean disk_failed; /* the guest is to go to the other node for it */
	gboolean running; /* its guest was told to, and not to rest */

	/* The other node. */
	gboolean peer_up;
	struct colo_peer_state peer;
	gboolean heard, alive;
	struct colo_peer_state beat; /* as its heartbeats say; part is not known */
	guint beat_flags;
	char *unlike;
	gboolean asking[COLO_ASK_STOP + 1]; /* it was asked, and has not answered */
	guint asked_turn[COLO_ASK_STOP + 1]; /* in which turn: an answer counts in that only */
	guint64 consent_id; /* whom a consent is for; 0: nobody */
	guint64 seal_id, take_id;
	gboolean refused_consent; /* since the grant was asked for */

	/* The arbiter. */
	enum node_asked asked;
	guint64 asked_at; /* our generation then: an answer counts at that only */
	enum colo_verdict verdict;
	gboolean ever_asked;
	struct colo_arbiter_record arbiter;
	gboolean arbiter_known;
	char *arbiter_why;
	guint64 ask_again_ms, watch_again_ms;
	gboolean arbiter_lost;
	gboolean behind; /* it does not know yet that we run alone */
	guint64 begin; /* the generation of a start that is asked for */
	gboolean forced; /* it is to be told by the operator's word */

	enum node_seal seal;
	guint64 protect_again_ms, look_again_ms;
	gboolean handed; /* the last commit is done; the other node is to be told to take over */
	gboolean go; /* it was told: there is no way back */

	gboolean orders[COLO__ORDERS]; /* that wait for their end */
	guint64 ordered_ms[COLO__ORDERS];
	gboolean stop_now;
};

/* colo/node.c */
void node_happen(colo_node *node, enum colo_event event, guint64 generation);
void node_say_why(colo_node *node, const char *advice, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
void node_answer(colo_node *node, enum colo_order order, const char *code,
		 const char *message);
void node_ask_peer(colo_node *node, enum colo_ask ask, guint64 generation);
/* What the arbiter is asked next. */
void node_begin_asking(colo_node *node, enum node_asked asked);
const char *node_peer_name(const colo_node *node);
guint64 node_now(const colo_node *node);

/* Answers orders that this state fulfils. */
void node_answer_orders(colo_node *node);
/* What was never called protected must not be promoted. */
void node_give_up_lost(colo_node *node);
/* Nothing waits for the disk, and nothing is waited for. */
gboolean node_at_leisure(const colo_node *node);

/* colo/node_vm.c. */
/* The guest was ended on purpose, here. */
void node_guest_ended(colo_node *node);

/* colo/node_start.c: who may start. */
void node_look_around(colo_node *node);
void node_start_tick(colo_node *node);
void node_start_verdict(colo_node *node, enum node_asked asked, enum colo_verdict verdict,
			const struct colo_arbiter_record *record, const char *why);
void node_force(colo_node *node);
void node_start_guest(colo_node *node);
void node_start_standby(colo_node *node);

/* colo/node_grant.c: who may go on. */
/* Whether it can be asked something now; a mere look at it is given up for that. */
gboolean node_arbiter_is_free(colo_node *node);
void node_watch_arbiter(colo_node *node);
void node_watch_verdict(colo_node *node, enum colo_verdict verdict,
			const struct colo_arbiter_record *record);
void node_ask_grant(colo_node *node);
void node_grant_tick(colo_node *node);
void node_grant_verdict(colo_node *node, enum colo_verdict verdict,
			const struct colo_arbiter_record *record, const char *why);
void node_catch_up_verdict(colo_node *node, enum colo_verdict verdict,
			   const struct colo_arbiter_record *record, const char *why);
void node_consent_answered(colo_node *node, gboolean yes, const char *why);
void node_consent_asked(colo_node *node, guint64 id, guint64 generation);
void node_consented(colo_node *node);
void node_give_up(colo_node *node);
void node_give_up_consenting(colo_node *node);
void node_consider_claim(colo_node *node);
void node_look_at_peer(colo_node *node);
void node_promote(colo_node *node);
void node_alone(colo_node *node);
void node_resume_guest(colo_node *node);

/* colo/node_protect.c: from alone to protected, and over to the other node. */
void node_begin_sync(colo_node *node);
void node_protect_tick(colo_node *node);
void node_seal_on(colo_node *node);
void node_protect_verdict(colo_node *node, enum colo_verdict verdict, const char *why);
void node_seal_answered(colo_node *node, gboolean yes, const char *why);
void node_sealed_here(colo_node *node);
void node_lost_secondary(colo_node *node, const char *why);
void node_cannot_leave(colo_node *node, const char *why);
void node_switch_over(colo_node *node);
/* A standby's disk that failed may be filled again after a while. */
void node_disk_tick(colo_node *node);
/* Switches over once, as soon as may be, where this node's disk has failed. */
void node_leave_disk(colo_node *node);
void node_leave_answered(colo_node *node, gboolean yes, const char *why);
void node_hand_over(colo_node *node);
void node_handed_over(colo_node *node, gboolean ok, const char *message);
void node_take_answered(colo_node *node, gboolean yes, const char *why);

/* Ending. */
void node_end_vm(colo_node *node);
void node_kill_vm(colo_node *node);

#endif
