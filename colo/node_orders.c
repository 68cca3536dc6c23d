/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an operator orders. */
#include "colo/node_private.h"

static void refuse(colo_node *node, enum colo_order order, const char *message)
{
	node_answer(node, order, "wrong-state", message);
}

static void order_start(colo_node *node)
{
	if (node->peer_up && (node->peer.flags & COLO_PEER_ENDED ||
			      node->peer.state == COLO_STOPPED))
		node_ask_peer(node, COLO_ASK_START, node->record.generation);
	if (node->state == COLO_STOPPED || node->state == COLO_WAITING)
		node_happen(node, COLO_ON_START, node->record.generation);
	node_answer(node, COLO_ORDER_START, NULL, NULL);
}

static void order_stop(colo_node *node, gboolean force)
{
	if (colo_state_is_primary(node->state) && force)
		node_guest_ended(node);
	else if (node->state == COLO_HOLDING || node->state == COLO_HANDING)
		refuse(node, COLO_ORDER_STOP,
		       "the guest is at rest and cannot end in good order: --force ends it "
		       "as if the plug were pulled");
	else if (colo_state_is_primary(node->state))
		node->ops->vm_say(node->data, COLO_WORD_POWERDOWN);
	else if (colo_state_is_secondary(node->state) && node->peer_up)
		node_ask_peer(node, COLO_ASK_STOP, node->record.generation);
	else if (colo_state_is_secondary(node->state))
		refuse(node, COLO_ORDER_STOP,
		       "the other node, where the guest runs, does not answer: stop it there, "
		       "or let this node stand down");
	else
		node_happen(node, COLO_ON_ENDED, node->record.generation);
}

static void order_stand_down(colo_node *node, gboolean force)
{
	if (node->state == COLO_PROTECTED && node->peer_up)
		node_switch_over(node);
	else if (!colo_state_is_primary(node->state) ||
		 (force && (node->state == COLO_HOLDING || node->state == COLO_HANDING)))
		node_happen(node, COLO_ON_STAND_DOWN, node->record.generation);
	else if (force)
		node->ops->vm_say(node->data, COLO_WORD_POWERDOWN);
	else
		refuse(node, COLO_ORDER_STAND_DOWN,
		       "only this node has the guest: wait until it is protected, or end the "
		       "guest with colo stop (stand-down --force does that too)");
}

static void order_discard(colo_node *node, gboolean force)
{
	if (!force && !(node->peer_up && colo_state_is_primary(node->peer.state) &&
			node->peer.generation >= node->record.generation)) {
		refuse(node, COLO_ORDER_DISCARD,
		       "the other node does not run the guest: what is here may be the only "
		       "copy; --force gives it up all the same");
		return;
	}
	if (colo_roles_step(node->state, COLO_ON_DISCARD)->known)
		node_happen(node, COLO_ON_DISCARD,
			    MAX(node->record.generation, node->peer.generation));
	else
		refuse(node, COLO_ORDER_DISCARD, "nothing here can be given up in this state");
	node_answer(node, COLO_ORDER_DISCARD, NULL, NULL);
}

void colo_node_order(colo_node *node, enum colo_order order, gboolean force)
{
	if (node->orders[order] && !force) {
		node->ops->answer(node->data, order, "busy", "that is under way already");
		return;
	}
	node->orders[order] = TRUE;
	node->ordered_ms[order] = node_now(node);
	switch (order) {
	case COLO_ORDER_START:
		order_start(node);
		break;
	case COLO_ORDER_STOP:
		order_stop(node, force);
		break;
	case COLO_ORDER_CHECKPOINT:
		if (node->state == COLO_PROTECTED)
			node->ops->vm_say(node->data, COLO_WORD_CHECKPOINT);
		else
			refuse(node, order, "only the primary of a protected pair takes "
					    "checkpoints");
		break;
	case COLO_ORDER_SWITCHOVER:
		if (node->state == COLO_PROTECTED && node->peer_up)
			node_switch_over(node);
		else if (node->state == COLO_STANDBY && node->peer_up)
			node_ask_peer(node, COLO_ASK_SWITCH, node->record.generation);
		else
			refuse(node, order, "the pair is not protected, or the nodes do not "
					    "see each other: see colo status");
		break;
	case COLO_ORDER_PROMOTE:
		if (force)
			node_force(node);
		else
			refuse(node, order, "the arbiter decides who is promoted; only "
					    "--force takes its place");
		break;
	case COLO_ORDER_STAND_DOWN:
		order_stand_down(node, force);
		break;
	case COLO_ORDER_DISCARD:
		order_discard(node, force);
		break;
	case COLO__ORDERS:
		break;
	}
	node_answer_orders(node);
}
