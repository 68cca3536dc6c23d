/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may start the guest: what is known is gathered, judged (colo/startup.h) and acted on. */
#include "colo/node_private.h"

#include "base/fault.h"
#include "colo/startup.h"

void node_look_around(colo_node *node)
{
	node->look_again_ms = 0;
	node->seal = NODE_UNSEALED;
	node->go = FALSE;
	node_start_tick(node);
}

static void look_later(colo_node *node)
{
	node->look_again_ms = node_now(node) + NODE_AGAIN_MS;
}

static void judge(const colo_node *node, enum colo_verdict verdict, gboolean force,
		  struct colo_startup_decision *decision)
{
	const struct colo_startup known = {
		.pair = node->pair,
		.self = node->self,
		.record = node->record,
		.keeps_records = node->ops->arbiter_keeps_records,
		.verdict = verdict,
		.arbiter = node->arbiter,
		.peer_up = node->peer_up,
		.peer = node->peer,
		.force = force,
	};

	colo_startup_decide(&known, decision);
}

/* A claim without a record of an arbiter's is the other node's to agree to, where it can. */
static void claim_start(colo_node *node, guint64 generation)
{
	if (!node->ops->arbiter_keeps_records && node->peer_up) {
		if (!node->asking[COLO_ASK_CONSENT])
			node_ask_peer(node, COLO_ASK_CONSENT, generation);
		return;
	}
	node_begin_asking(node, NODE_BEGIN);
	node->ops->arbiter_claim(node->data, generation);
}

static gboolean arbiter_knows(const colo_node *node, guint64 generation)
{
	const struct colo_arbiter_record *record = &node->arbiter;

	return node->verdict == COLO_VERDICT_RECORD && record->solo &&
	       record->owner == node->self && record->generation == generation;
}

static gboolean arbiter_names_other(const colo_node *node)
{
	return node->verdict == COLO_VERDICT_RECORD && node->arbiter.solo &&
	       node->arbiter.owner != node->self;
}

static gboolean is_settling(const colo_node *node)
{
	return node_now(node) < node->since_ms + NODE_SETTLE_MS;
}

static void start(colo_node *node, const struct colo_startup_decision *decision)
{
	switch (decision->right) {
	case COLO_STARTUP_OURS:
		/* A grant that was not written down: the other one may have been forced since. */
		if (is_settling(node) &&
		    ((decision->generation != node->record.generation && !node->peer_up) ||
		     arbiter_names_other(node)))
			break;
		node->behind = node->ops->arbiter_keeps_records &&
			       !arbiter_knows(node, decision->generation);
		node_happen(node, COLO_ON_BEGIN, decision->generation);
		break;
	case COLO_STARTUP_CLAIM:
		/* If the other node holds the guest, it claims meanwhile. */
		if (is_settling(node))
			break;
		node->begin = decision->generation + 1;
		claim_start(node, decision->generation);
		break;
	case COLO_STARTUP_CREATE:
		/* It may have been forced to begin while nobody could tell the arbiter. */
		if (!node->peer_up && is_settling(node))
			break;
		node->begin = decision->generation;
		node_begin_asking(node, NODE_BEGIN);
		node->ops->arbiter_create(node->data, decision->generation, FALSE);
		break;
	case COLO_STARTUP_FORCED:
		break;
	}
}

static void act(colo_node *node, const struct colo_startup_decision *decision)
{
	base_fault("startup-decided");
	node_say_why(node, *decision->advice ? decision->advice : NULL, "%s", decision->reason);
	if (decision->verdict == COLO_STARTUP_START)
		start(node, decision);
	else if (decision->verdict == COLO_STARTUP_JOIN)
		node_happen(node, COLO_ON_JOIN,
			    MAX(node->record.generation, node->peer.generation));
}

void node_start_tick(colo_node *node)
{
	struct colo_startup_decision decision;

	if (node->state == COLO_WAITING && node->orders[COLO_ORDER_STAND_DOWN]) {
		node_happen(node, COLO_ON_STAND_DOWN, node->record.generation);
		return;
	}
	if (node->state != COLO_WAITING || node->vm || node->moving ||
	    node->asking[COLO_ASK_CONSENT] || node_now(node) < node->look_again_ms ||
	    !node_arbiter_is_free(node))
		return;
	look_later(node);
	if (node->ops->arbiter_keeps_records) {
		node_begin_asking(node, NODE_READ);
		node->ops->arbiter_read(node->data);
		return;
	}
	judge(node, COLO_VERDICT_NO_RECORD, FALSE, &decision);
	act(node, &decision);
}

static void forced_verdict(colo_node *node, enum colo_verdict verdict)
{
	if (!colo_roles_step(node->state, COLO_ON_FORCE)->known) {
		node_answer(node, COLO_ORDER_PROMOTE, "failed",
			    "meanwhile this node's state has changed: see colo status");
		return;
	}
	node->behind = node->forced = verdict != COLO_VERDICT_GRANTED;
	node_happen(node, COLO_ON_FORCE, node->begin);
}

void node_start_verdict(colo_node *node, enum node_asked asked, enum colo_verdict verdict,
			const struct colo_arbiter_record *record, const char *why)
{
	struct colo_startup_decision decision;

	if (asked == NODE_FORCE) {
		forced_verdict(node, verdict);
		return;
	}
	if (node->state != COLO_WAITING)
		return;
	/* What was asked for may be another's by then, or given up. */
	if (node->moving) {
		look_later(node);
		return;
	}
	if (asked == NODE_READ) {
		judge(node, verdict, FALSE, &decision);
		act(node, &decision);
	} else if (verdict == COLO_VERDICT_GRANTED) {
		node_happen(node, COLO_ON_BEGIN, node->begin);
	} else {
		look_later(node);
		node_say_why(node, "it is asked again by itself; if the other node is surely "
				   "dead: colo promote --force",
			     "no grant to start the guest: %s",
			     why ? why : "it does not say why");
	}
}

/* A guest that runs alone, and an arbiter that does not know it and will not be told: its
 * record was lost, or set back. */
static gboolean arm_again(colo_node *node)
{
	if ((node->state != COLO_SOLO && node->state != COLO_SYNCING) ||
	    !node->ops->arbiter_keeps_records ||
	    (!node->behind && node->verdict != COLO_VERDICT_DENIED &&
	     node->verdict != COLO_VERDICT_NO_RECORD) ||
	    (node->peer_up && colo_state_is_primary(node->peer.state)))
		return FALSE;
	node->ops->event(node->data, "forced", "the arbiter's record is written anew");
	node->behind = node->forced = TRUE;
	node->ask_again_ms = 0;
	node_answer(node, COLO_ORDER_PROMOTE, NULL, NULL);
	return TRUE;
}

/* By an operator's word, whatever the arbiter says; but never beside a guest that runs. */
void node_force(colo_node *node)
{
	guint64 generation = node->record.generation;
	const struct colo_step *step = colo_roles_step(node->state, COLO_ON_FORCE);
	const char *why = NULL;

	if (arm_again(node))
		return;
	if (!step->known)
		why = "the guest runs here, or cannot be promoted in this state: see colo status";
	else if (node->peer_up && colo_state_is_primary(node->peer.state) &&
		 node->peer.state != COLO_HANDING)
		why = "the other node has the guest: end it there before, or colo switchover";
	else if (node->state == COLO_STANDBY && !node->link_lost)
		why = "the primary is alive: colo switchover hands the guest over";
	else if (node->vm && (node->state == COLO_STOPPED || node->state == COLO_WAITING))
		why = "colo-vm is being ended: try again";
	else if (!node->vm && node->record.generation && node->record.part == COLO_PART_NONE)
		why = "the disks here are no whole copy of the guest's: they were being filled, "
		      "or were given up";
	else if (node->moving || (!node_arbiter_is_free(node) && node->asked != NODE_READ))
		why = "the arbiter is being asked: try again";
	if (why) {
		node_answer(node, COLO_ORDER_PROMOTE, "wrong-state", why);
		return;
	}
	generation = MAX(generation, node->peer.generation);
	generation = MAX(generation, node->beat.generation);
	if (node->arbiter_known)
		generation = MAX(generation, node->arbiter.generation);
	node->begin = generation + 1;
	node->ops->event(node->data, "forced", node_peer_name(node));
	if (node->asked == NODE_READ || !node->ops->arbiter_keeps_records) {
		forced_verdict(node, node->ops->arbiter_keeps_records ?
					     COLO_VERDICT_UNREACHABLE :
					     COLO_VERDICT_GRANTED);
		return;
	}
	node_begin_asking(node, NODE_FORCE);
	node->ops->arbiter_create(node->data, node->begin, TRUE);
}

void node_start_guest(colo_node *node)
{
	node->vm = TRUE;
	node->durable = TRUE;
	node->seal = NODE_UNSEALED;
	node->link_lost = node->go = FALSE;
	node->ops->vm_start(node->data, FALSE);
}

void node_start_standby(colo_node *node)
{
	node->vm = TRUE;
	node->link_lost = node->vm_promotable = node->vm_ready = FALSE;
	node->ops->vm_start(node->data, TRUE);
}
