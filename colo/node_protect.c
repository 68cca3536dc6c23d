/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From alone to protected, and a planned switch-over.
 *
 * A pair is protected when colo-vm has a first commit, this node's record says "primary",
 * the arbiter's "protected", and the other node's "standby", in this order: whoever may be
 * asked to be promoted then has the right to ask. From the arbiter's being told on, this
 * node has to ask too before it goes on alone.
 *
 * A switch-over needs no grant. The primary writes down that it leaves, brings its guest to
 * rest in a last commit, and then says TAKE, once and for all: after that it never goes on by
 * itself, whatever becomes of the answer.
 */
#include "colo/node_private.h"

void node_begin_sync(colo_node *node)
{
	node->seal = NODE_UNSEALED;
	node->link_lost = node->disk_failed = FALSE;
	node->ops->vm_say(node->data, COLO_WORD_PROTECT);
}

/* What a node that runs alone waits for before the other one is filled; `advice`: what a person
 * can do about it, or NULL. */
static const char *why_not_yet(const colo_node *node, const char **advice)
{
	*advice = NULL;
	if (!node->vm_up)
		return "the guest is being started";
	if (!node->peer_up)
		return "the other node's colod does not answer";
	if (node->unlike) {
		*advice = "make them alike: colo status shows what differs";
		return "the two nodes' pair files differ";
	}
	if (node->pair->comparison.enabled && !node->guard)
		return "colo-netcompare is not ready";
	if (node->record.part == COLO_PART_PROMOTED)
		return "what was committed is still being written to the disks";
	if (node->behind)
		return "the arbiter does not yet know that the guest runs here";
	if (node->peer.state == COLO_STOPPED) {
		*advice = "colo start there";
		return "the other node is stopped";
	}
	if (!(node->peer.flags & COLO_PEER_READY))
		return "the other node is not ready to be filled";
	return NULL;
}

static void tick_alone(colo_node *node)
{
	const char *advice, *why = why_not_yet(node, &advice);

	/* What the arbiter answered says more. */
	if (node->behind && (node->verdict == COLO_VERDICT_DENIED ||
			     node->verdict == COLO_VERDICT_NO_RECORD))
		return;
	if (why)
		node_say_why(node, advice, "not protected: %s", why);
	else if (node_now(node) >= node->protect_again_ms)
		node_happen(node, COLO_ON_READY, node->record.generation);
}

/* The secondary is lost: whether anybody may have taken it for protected decides. */
static void doubt(colo_node *node)
{
	if (node->state == COLO_SYNCING && node->seal < NODE_ARBITER)
		node_happen(node, COLO_ON_LOSS, node->record.generation);
	else
		node_happen(node, COLO_ON_DOUBT, node->record.generation);
}

/* The other node's colod may be away for a moment, or this one was started anew and found its
 * machine at rest before it found the other node. Where nobody is asked but that one, or a fence
 * agent, it is worth a wait, though the guest rests: the standby is sound. */
static gboolean may_be_found_yet(const colo_node *node)
{
	return !node->peer_up && !node->link_lost && !node->ops->arbiter_keeps_records &&
	       node_now(node) < node->since_ms + NODE_SETTLE_MS;
}

static void have_it_taken(colo_node *node)
{
	if (may_be_found_yet(node))
		return;
	node->handed = FALSE;
	if (node->peer_up && !node->link_lost) {
		node->go = TRUE;
		node_ask_peer(node, COLO_ASK_TAKE, node->record.generation);
		return;
	}
	node_cannot_leave(node, "the connection to the other node was lost");
	node_lost_secondary(node, "the hand-over failed");
}

void node_protect_tick(colo_node *node)
{
	const gboolean again = node_now(node) >= node->ask_again_ms;

	/* What could not be written down is tried again. */
	if (node->durable && node->record.part == COLO_PART_PROMOTED && again &&
	    (node->state == COLO_SOLO || node->state == COLO_SYNCING))
		node_happen(node, COLO_ON_DURABLE, node->record.generation);
	else if (node->link_lost && again &&
		 (node->state == COLO_SYNCING || node->state == COLO_PROTECTED ||
		  (node->state == COLO_HANDING && !node->go)))
		doubt(node);
	else if (node->state == COLO_SYNCING && node->seal == NODE_COMMITTED && again &&
		 node->record.part != COLO_PART_PRIMARY)
		node_happen(node, COLO_ON_COMMIT, node->record.generation);
	else if (node->state == COLO_PROTECTED)
		node_leave_disk(node);
	else if (node->state == COLO_HANDING && node->handed)
		have_it_taken(node);
	else if (node->state == COLO_SOLO)
		tick_alone(node);
	else if (node->state == COLO_SYNCING && again)
		node_seal_on(node);
	else if (node->state == COLO_HANDING && node->go && node->peer_up &&
		 !node->asking[COLO_ASK_TAKE] && !node->asking[COLO_ASK_CONSENT] && again)
		node_ask_peer(node, COLO_ASK_TAKE, node->record.generation);
}

/* Tells the next one that has to know. */
void node_seal_on(colo_node *node)
{
	if (node->state != COLO_SYNCING || node->link_lost || node->seal == NODE_UNSEALED)
		return;
	if (node->seal == NODE_COMMITTED && node->record.part == COLO_PART_PRIMARY)
		node->seal = node->ops->arbiter_keeps_records ? NODE_ARBITER : NODE_PEER;
	/* What it has to be told before is that the guest runs here: said after, it would take
	 * back what it is told now. */
	if (node->seal == NODE_ARBITER && !node->behind && node_arbiter_is_free(node)) {
		node_begin_asking(node, NODE_PROTECT);
		node->ops->arbiter_protect(node->data, node->record.generation);
	} else if (node->seal == NODE_PEER && node->peer_up && !node->asking[COLO_ASK_SEAL]) {
		node_ask_peer(node, COLO_ASK_SEAL, node->record.generation);
	}
}

void node_protect_verdict(colo_node *node, enum colo_verdict verdict, const char *why)
{
	if (node->state != COLO_SYNCING || node->seal != NODE_ARBITER)
		return;
	if (verdict == COLO_VERDICT_GRANTED) {
		node->seal = NODE_PEER;
		node_seal_on(node);
		return;
	}
	node->ask_again_ms = node_now(node) + NODE_AGAIN_MS;
	node_say_why(node,
		     verdict == COLO_VERDICT_UNREACHABLE ?
			     "it is asked again by itself" :
			     "look at the arbiter's record; colo promote --force writes it anew",
		     "the arbiter has not taken down that the pair is protected: %s",
		     why ? why : "it does not say why");
}

void node_seal_answered(colo_node *node, gboolean yes, const char *why)
{
	if (node->state != COLO_SYNCING || node->seal != NODE_PEER || node->link_lost)
		return;
	if (yes) {
		node_happen(node, COLO_ON_SEALED, node->record.generation);
		return;
	}
	node->ask_again_ms = node_now(node) + NODE_SOON_MS;
	g_info("%s does not call itself a standby yet: %s", node_peer_name(node), why);
}

/* On the standby: it is on disk. */
void node_sealed_here(colo_node *node)
{
	if (node->seal_id)
		node->ops->peer_answer(node->data, node->seal_id, TRUE, NULL);
	node->seal_id = 0;
}

void node_lost_secondary(colo_node *node, const char *why)
{
	if (!colo_state_is_primary(node->state) || node->link_lost ||
	    node->state == COLO_SOLO || node->state == COLO_HOLDING ||
	    (node->state == COLO_HANDING && node->go))
		return;
	node->link_lost = TRUE;
	node->link_lost_ms = node_now(node);
	node->ops->event(node->data, "secondary-lost", why);
	doubt(node);
}

/* Switch-over. */

void node_switch_over(colo_node *node)
{
	node->go = FALSE;
	if (!node->asking[COLO_ASK_LEAVE])
		node_ask_peer(node, COLO_ASK_LEAVE, node->record.generation);
}

void node_leave_disk(colo_node *node)
{
	if (!node->disk_failed || node->state != COLO_PROTECTED || !node->peer_up ||
	    node->link_lost)
		return;
	node->disk_failed = FALSE;
	node_switch_over(node);
}

void node_cannot_leave(colo_node *node, const char *why)
{
	node_answer(node, COLO_ORDER_SWITCHOVER, "failed", why);
	node_answer(node, COLO_ORDER_STAND_DOWN, "failed", why);
}

void node_leave_answered(colo_node *node, gboolean yes, const char *why)
{
	if (yes && node->state == COLO_PROTECTED && !node->link_lost)
		node_happen(node, COLO_ON_LEAVE, node->record.generation);
	else
		node_cannot_leave(node, why ? why : "the other node does not take over now");
}

void node_hand_over(colo_node *node)
{
	node->ops->vm_say(node->data, COLO_WORD_HAND_OVER);
}

void node_handed_over(colo_node *node, gboolean ok, const char *message)
{
	if (node->state != COLO_HANDING || node->go)
		return;
	if (ok) {
		node->handed = TRUE;
		have_it_taken(node);
		return;
	}
	node_cannot_leave(node, message);
	node_lost_secondary(node, "the hand-over failed");
}

void node_take_answered(colo_node *node, gboolean yes, const char *why)
{
	if (node->state != COLO_HANDING)
		return;
	if (yes) {
		node_happen(node, COLO_ON_HANDED, node->record.generation + 1);
		return;
	}
	node->ask_again_ms = node_now(node) + NODE_AGAIN_MS;
	/* If it cannot, it may agree that it never will. */
	if (node->peer_up && !node->asking[COLO_ASK_CONSENT])
		node_ask_peer(node, COLO_ASK_CONSENT, node->record.generation);
	node_say_why(node, "see colo status on the other node; if its copy is surely lost: colo "
			   "promote --force here",
		     "%s was told to take over and has not: %s", node_peer_name(node),
		     why ? why : "it does not say why");
}
