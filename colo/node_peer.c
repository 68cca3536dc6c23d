/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the other node says, asks and answers; and its heartbeats, and the arbiter. */
#include "colo/node_private.h"

const char *colo_ask_name(enum colo_ask ask)
{
	static const char *const names[] = {
		[COLO_ASK_CONSENT] = "consent", [COLO_ASK_SEAL] = "seal",
		[COLO_ASK_LEAVE] = "leave",	[COLO_ASK_TAKE] = "take",
		[COLO_ASK_START] = "start",	[COLO_ASK_END] = "end",
		[COLO_ASK_SWITCH] = "switch",	[COLO_ASK_STOP] = "stop",
	};

	g_assert(ask && (guint)ask < G_N_ELEMENTS(names));
	return names[ask];
}

void colo_node_peer_up(colo_node *node)
{
	node->refused_consent = FALSE;
	node->ops->tell(node->data);
}

void colo_node_peer_down(colo_node *node)
{
	node->peer_up = FALSE;
	memset(node->asking, 0, sizeof(node->asking));
	node->consent_id = node->seal_id = node->take_id = 0;
	node->ops->tell(node->data);
	if (node->state == COLO_PROTECTED || node->state == COLO_STANDBY)
		node_cannot_leave(node, "the connection to the other node was lost");
}

void colo_node_peer_said(colo_node *node, const struct colo_peer_state *state)
{
	node->peer_up = TRUE;
	node->peer = *state;
	node_look_at_peer(node);
	node_consider_claim(node);
	colo_node_tick(node);
}

void colo_node_peer_unlike(colo_node *node, const char *diff)
{
	if (diff && g_strcmp0(diff, node->unlike))
		node->ops->event(node->data, "pair-files-differ", diff);
	g_free(node->unlike);
	node->unlike = g_strdup(diff);
}

void colo_node_heartbeat(colo_node *node, gboolean alive, const struct hb_self *peer)
{
	const gboolean was = node->alive;

	node->heard = peer != NULL;
	node->alive = alive && peer;
	if (peer) {
		node->beat.generation = wire_get64(peer->generation);
		node->beat.epoch = wire_get64(peer->epoch);
		node->beat.state =
			peer->state < COLO__STATES ? peer->state : COLO_WAITING;
		node->beat_flags = peer->flags;
	}
	if (was != node->alive)
		node->ops->event(node->data, node->alive ? "peer-heard" : "peer-silent",
				 node_peer_name(node));
	node_look_at_peer(node);
	node_consider_claim(node);
}

static void be_asked_to_seal(colo_node *node, guint64 id, guint64 generation)
{
	if ((node->state != COLO_JOINING && node->state != COLO_STANDBY) ||
	    !node->vm_promotable || node->link_lost || !node_at_leisure(node)) {
		node->ops->peer_answer(node->data, id, FALSE, "not yet");
		return;
	}
	node->seal_id = id;
	node_happen(node, COLO_ON_SEAL, generation);
}

static gboolean could_take(const colo_node *node, guint64 generation)
{
	return node->state == COLO_STANDBY && node->vm_promotable && !node->link_lost &&
	       node_at_leisure(node) && node->record.generation == generation;
}

static void be_asked_to_take(colo_node *node, guint64 id, guint64 generation)
{
	/* Asked again, since the answer was lost. */
	if (node->record.generation == generation + 1 &&
	    (node->state == COLO_PROMOTING || colo_state_is_primary(node->state))) {
		node->ops->peer_answer(node->data, id, TRUE, NULL);
		return;
	}
	/* The link may have been lost since: the primary is at rest, for good. */
	if (!colo_roles_step(node->state, COLO_ON_TAKE)->known ||
	    node->record.part != COLO_PART_STANDBY || !node->vm_promotable ||
	    !node_at_leisure(node) || node->record.generation != generation ||
	    node->asked == NODE_GRANT || node->asked == NODE_FORCE) {
		node->ops->peer_answer(node->data, id, FALSE, "this node cannot take over now");
		return;
	}
	node->take_id = id;
	node->behind = node->ops->arbiter_keeps_records;
	node_happen(node, COLO_ON_TAKE, generation + 1);
}

void colo_node_peer_asked(colo_node *node, guint64 id, enum colo_ask ask,
			  guint64 generation)
{
	gboolean yes = TRUE;

	switch (ask) {
	case COLO_ASK_CONSENT:
		node_consent_asked(node, id, generation);
		return;
	case COLO_ASK_SEAL:
		be_asked_to_seal(node, id, generation);
		return;
	case COLO_ASK_TAKE:
		be_asked_to_take(node, id, generation);
		return;
	case COLO_ASK_LEAVE:
		yes = could_take(node, generation);
		break;
	case COLO_ASK_START:
		node_happen(node, COLO_ON_START, node->record.generation);
		break;
	case COLO_ASK_END:
		if (!colo_state_is_primary(node->state))
			node_happen(node, COLO_ON_ENDED, node->record.generation);
		break;
	case COLO_ASK_SWITCH:
		yes = node->state == COLO_PROTECTED;
		if (yes)
			node_switch_over(node);
		break;
	case COLO_ASK_STOP:
		yes = colo_state_is_primary(node->state);
		if (yes)
			node->ops->vm_say(node->data, COLO_WORD_POWERDOWN);
		break;
	}
	node->ops->peer_answer(node->data, id, yes, yes ? NULL : "not in its state now");
}

void colo_node_peer_answered(colo_node *node, enum colo_ask ask, gboolean yes,
			     const char *why)
{
	if (!node->asking[ask])
		return;
	node->asking[ask] = FALSE;
	if (ask == COLO_ASK_SWITCH && !yes)
		node_answer(node, COLO_ORDER_SWITCHOVER, "wrong-state", why);
	else if (ask == COLO_ASK_STOP && !yes)
		node_answer(node, COLO_ORDER_STOP, "wrong-state", why);
	else if (node->asked_turn[ask] != node->turn)
		return;
	else if (ask == COLO_ASK_CONSENT)
		node_consent_answered(node, yes, why);
	else if (ask == COLO_ASK_SEAL)
		node_seal_answered(node, yes, why);
	else if (ask == COLO_ASK_LEAVE)
		node_leave_answered(node, yes, why);
	else if (ask == COLO_ASK_TAKE)
		node_take_answered(node, yes, why);
}

/* The arbiter. */

static void note_arbiter(colo_node *node, enum colo_verdict verdict, const char *why)
{
	const gboolean lost = verdict == COLO_VERDICT_UNREACHABLE;

	node->watch_again_ms = node_now(node) + NODE_WATCH_MS;
	if (lost != node->arbiter_lost)
		node->ops->event(node->data, lost ? "arbiter-lost" : "arbiter-back", why);
	node->arbiter_lost = lost;
}

void colo_node_verdict(colo_node *node, enum colo_verdict verdict,
		       const struct colo_arbiter_record *record, const char *why)
{
	enum node_asked asked = node->asked;

	/* It was about a machine that is no more. */
	if (node->asked_at != node->record.generation && asked != NODE_READ &&
	    asked != NODE_FORCE)
		asked = NODE_NOTHING;
	node->asked = NODE_NOTHING;
	node->verdict = verdict;
	node->ever_asked = TRUE;
	if (record) {
		node->arbiter = *record;
		node->arbiter_known = TRUE;
	}
	g_free(node->arbiter_why);
	node->arbiter_why = g_strdup(why);
	note_arbiter(node, verdict, why);
	switch (asked) {
	case NODE_NOTHING:
		break;
	case NODE_WATCH:
		node_watch_verdict(node, verdict, record);
		break;
	case NODE_READ:
	case NODE_BEGIN:
	case NODE_FORCE:
		node_start_verdict(node, asked, verdict, record, why);
		break;
	case NODE_GRANT:
		node_grant_verdict(node, verdict, record, why);
		break;
	case NODE_PROTECT:
		node_protect_verdict(node, verdict, why);
		break;
	case NODE_CATCH_UP:
		node_catch_up_verdict(node, verdict, record, why);
		break;
	}
}
