/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colo-vm tells, ends and is found doing. */
#include "colo/node_private.h"

/* The guest was ended on purpose, here. */
void node_guest_ended(colo_node *node)
{
	if (!colo_state_is_primary(node->state))
		return;
	/* It is to run again when this host does. */
	if (node->orders[COLO_ORDER_STAND_DOWN]) {
		node_happen(node, COLO_ON_STAND_DOWN, node->record.generation);
		return;
	}
	if (node->peer_up)
		node_ask_peer(node, COLO_ASK_END, node->record.generation);
	node_happen(node, COLO_ON_ENDED, node->record.generation);
}

static void guest_panicked(colo_node *node, const char *detail)
{
	node->ops->event(node->data, "panic", detail);
	if (!colo_state_is_primary(node->state))
		return;
	if (node->pair->vm.on_panic == COLO_PANIC_RESET)
		node->ops->vm_say(node->data, COLO_WORD_RESET);
	else if (node->pair->vm.on_panic == COLO_PANIC_STOP)
		node_guest_ended(node);
}

/* A primary's: the other node's disk may be sound, and the guest goes there as soon as it can. If
 * that takes long, colo-vm tells the guest. A standby's: it is none any more, and not again and
 * again for as long as its disk takes to fail. */
static void disk_failed(colo_node *node, const char *detail)
{
	node->ops->event(node->data, "disk-failed", detail);
	if (colo_state_is_secondary(node->state))
		node->disk_again_ms = node_now(node) + NODE_DISK_AGAIN_MS;
	node->disk_failed = node->state == COLO_SYNCING || node->state == COLO_PROTECTED;
	node_leave_disk(node);
}

void node_disk_tick(colo_node *node)
{
	if (!node->disk_again_ms)
		return;
	if (node_now(node) >= node->disk_again_ms) {
		node->disk_again_ms = 0;
		if (node->state == COLO_JOINING)
			node_say_why(node, NULL, NULL);
		node->ops->tell(node->data);
	} else if (node->state == COLO_JOINING) {
		node_say_why(node, "look at the disk; it is filled again after a while",
			     "this node's disk does not bear what is asked of it: see colo log");
	}
}

static void primary_lost(colo_node *node, const char *detail)
{
	node->link_lost = TRUE;
	node->link_lost_ms = node_now(node);
	node->ops->event(node->data, "primary-lost", detail);
	if (!(node->moving && node->move.event == COLO_ON_SEAL))
		node_give_up_lost(node);
	node_consider_claim(node);
}

void colo_node_vm_news(colo_node *node, enum colo_vm_news news, const char *detail)
{
	switch (news) {
	case COLO_VM_UP:
		node->vm_up = TRUE;
		node->vm_deaf = FALSE;
		break;
	case COLO_VM_DEAF:
		node->vm_deaf = TRUE;
		break;
	case COLO_VM_WAITING:
		node->vm_ready = TRUE;
		node->vm_promotable = FALSE;
		node->link_lost = FALSE;
		break;
	case COLO_VM_JOINED:
		node->vm_ready = FALSE;
		node->link_lost = FALSE;
		break;
	case COLO_VM_STANDBY:
		node->vm_ready = FALSE;
		node->vm_promotable = TRUE;
		break;
	case COLO_VM_PRIMARY_LOST:
		primary_lost(node, detail);
		break;
	case COLO_VM_PRIMARY_ENDED:
		/* Other words ("quit", "resume") say that it goes on without us, or ended for
		 * no wish of its guest's. */
		if (g_strcmp0(detail, "poweroff") && g_strcmp0(detail, "reset")) {
			primary_lost(node, detail);
			break;
		}
		node->link_lost = TRUE;
		node->link_lost_ms = node_now(node);
		node_happen(node, COLO_ON_ENDED, node->record.generation);
		break;
	case COLO_VM_PROTECTED:
		if (node->state == COLO_SYNCING && node->seal == NODE_UNSEALED) {
			node->seal = NODE_COMMITTED;
			node_happen(node, COLO_ON_COMMIT, node->record.generation);
		} else if (node->state == COLO_SOLO) {
			/* What an earlier colod asked for, or what took too long to answer:
			 * nobody waits for it any more, and it begins anew. */
			node->ops->vm_say(node->data, COLO_WORD_UNPROTECT);
		}
		break;
	case COLO_VM_UNPROTECTED:
		node_lost_secondary(node, detail);
		break;
	case COLO_VM_HANDED:
		node->ops->event(node->data, "handed-over", detail);
		node_handed_over(node, TRUE, NULL);
		break;
	case COLO_VM_PROMOTED:
		node_happen(node, COLO_ON_PROMOTED, node->record.generation);
		break;
	case COLO_VM_DURABLE:
		node->durable = TRUE;
		if (node->record.part == COLO_PART_PROMOTED &&
		    colo_state_is_primary(node->state))
			node_happen(node, COLO_ON_DURABLE, node->record.generation);
		break;
	case COLO_VM_POWEROFF:
		node->ops->event(node->data, "poweroff", detail);
		node_guest_ended(node);
		break;
	case COLO_VM_PANIC:
		guest_panicked(node, detail);
		break;
	case COLO_VM_DISK_FAILED:
		disk_failed(node, detail);
		break;
	case COLO_VM_GUARD:
		node->guard = TRUE;
		break;
	case COLO_VM_NO_GUARD:
		node->guard = FALSE;
		break;
	}
	node->ops->tell(node->data);
}

void colo_node_vm_answered(colo_node *node, enum colo_word word, gboolean ok,
			   const char *message)
{
	switch (word) {
	case COLO_WORD_PROTECT:
		if (!ok && node->state == COLO_SYNCING) {
			node_lost_secondary(node, message);
			node_say_why(node, NULL, "%s could not be filled: %s",
				     node_peer_name(node), message);
		}
		break;
	case COLO_WORD_CHECKPOINT:
		node_answer(node, COLO_ORDER_CHECKPOINT, ok ? NULL : "failed", message);
		break;
	case COLO_WORD_HAND_OVER:
		node_handed_over(node, ok, message);
		break;
	case COLO_WORD_PROMOTE:
		if (!ok) {
			node->ops->event(node->data, "promotion-failed", message);
			node_say_why(node, "colo log shows what colo-vm says",
				     "colo-vm did not promote the guest: %s", message);
		}
		break;
	case COLO_WORD_POWERDOWN:
		if (!ok) {
			node_answer(node, COLO_ORDER_STOP, "failed", message);
			node_answer(node, COLO_ORDER_STAND_DOWN, "failed", message);
		}
		break;
	default:
		if (!ok)
			g_info("colo-vm refused a command: %s", message);
	}
}

void colo_node_vm_epoch(colo_node *node, guint64 epoch)
{
	node->epoch = epoch;
}

void colo_node_vm_gone(colo_node *node, const char *how)
{
	const enum colo_state state = node->state;

	node->vm = node->vm_up = node->vm_ready = node->vm_promotable = FALSE;
	node->vm_deaf = node->vm_ending = node->guard = node->link_lost = FALSE;
	node->durable = node->disk_failed = FALSE;
	if (node->go && state == COLO_HANDING)
		node->link_lost = TRUE;
	node_answer(node, COLO_ORDER_CHECKPOINT, "failed", "colo-vm has ended");
	node_answer(node, COLO_ORDER_PROMOTE, "failed", "colo-vm has ended");
	if (state != COLO_FENCED)
		node_answer(node, COLO_ORDER_SWITCHOVER, "failed", "colo-vm has ended");
	if (state != COLO_STOPPED && state != COLO_FENCED)
		node->ops->event(node->data, "vm-gone", how);
	node_happen(node, COLO_ON_GONE, node->record.generation);
	if (state == COLO_SOLO && node->pair->vm.on_crash == COLO_GUEST_STOP)
		node_happen(node, COLO_ON_ENDED, node->record.generation);
	node->ops->tell(node->data);
	node_answer_orders(node);
}

void node_end_vm(colo_node *node)
{
	if (!node->vm)
		return;
	node->vm_ending = TRUE;
	node->ops->vm_end(node->data, FALSE);
}

void node_kill_vm(colo_node *node)
{
	if (node->vm) {
		node->vm_ending = TRUE;
		node->ops->vm_end(node->data, TRUE);
	} else {
		node_happen(node, COLO_ON_GONE, node->record.generation);
	}
}

/* Found by a colod that was started anew. */

/* colod died after it had written down that this machine is to end, and before it ended it. */
static gboolean is_over(const colo_node *node, const struct colo_vm_found *found)
{
	const enum colo_part part = node->record.part;

	return node->record.stopped ||
	       (!found->standby && (part == COLO_PART_NONE || part == COLO_PART_STANDBY));
}

static void adopt_primary(colo_node *node, const struct colo_vm_found *found)
{
	const enum colo_part part = node->record.part;

	node->durable = found->durable;
	node->behind = node->ops->arbiter_keeps_records &&
		       (part == COLO_PART_SOLO || part == COLO_PART_PROMOTED);
	node->link_lost = !found->protected_now && !found->syncing && !found->handing;
	if (part == COLO_PART_LEAVING) {
		/* One whose guest does not rest was surely not told to have the other go on. Of
		 * another that is not known: as if it was. */
		node->state = COLO_HANDING;
		node->go = !found->protected_now && !found->handing;
		if (found->protected_now)
			node_hand_over(node);
	} else if (found->protected_now) {
		node->state = COLO_SYNCING;
		node->seal = part == COLO_PART_PRIMARY ? NODE_ARBITER : NODE_COMMITTED;
	} else if (part == COLO_PART_PRIMARY) {
		node->state = COLO_HOLDING;
	} else if (found->syncing) {
		node->state = COLO_SYNCING;
	} else {
		node->state = COLO_SOLO;
		if (found->held)
			node->ops->vm_say(node->data, COLO_WORD_RESUME);
	}
}

static void adopt_standby(colo_node *node, const struct colo_vm_found *found)
{
	node->vm_promotable = found->promotable;
	node->vm_ready = !found->promotable && found->lost;
	node->link_lost = found->promotable && found->lost;
	node->link_lost_ms = node_now(node);
	if (node->record.part == COLO_PART_PROMOTED) {
		/* It may have been told to take over, which the arbiter does not know. */
		node->behind = node->ops->arbiter_keeps_records;
		node->state = COLO_PROMOTING;
		node->ops->vm_say(node->data, COLO_WORD_PROMOTE);
	} else if (node->record.part == COLO_PART_STANDBY && found->promotable) {
		node->state = COLO_STANDBY;
	} else {
		node->state = COLO_JOINING;
		if (node->link_lost)
			node->ops->vm_say(node->data, COLO_WORD_GIVE_UP);
	}
}

void colo_node_adopt(colo_node *node, const struct colo_vm_found *found)
{
	node->vm = node->vm_up = TRUE;
	if (is_over(node, found))
		node->state = node->record.stopped ? COLO_STOPPED : COLO_FENCED;
	else if (found->standby)
		adopt_standby(node, found);
	else
		adopt_primary(node, found);
	node->since_ms = node_now(node);
	node->ops->event(node->data, colo_state_name(node->state), "colod was started anew");
	if (node->state == COLO_STOPPED)
		node_end_vm(node);
	else if (node->state == COLO_FENCED)
		node_kill_vm(node);
	else if (node->state == COLO_HOLDING)
		node_ask_grant(node);
	else if (node->seal == NODE_COMMITTED)
		node_happen(node, COLO_ON_COMMIT, node->record.generation);
	if (node->state == COLO_SOLO && node->durable &&
	    node->record.part == COLO_PART_PROMOTED)
		node_happen(node, COLO_ON_DURABLE, node->record.generation);
	node->ops->tell(node->data);
}
