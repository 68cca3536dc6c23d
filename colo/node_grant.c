/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may go on when the nodes have lost each other's machine: the arbiter says, or the other
 * node agrees. A node agrees for good, on disk, before it says so. So it never agrees while
 * it is primary, has the grant, or has an answer of the arbiter on its way.
 */
#include "colo/node_private.h"

gboolean node_arbiter_is_free(colo_node *node)
{
	if (node->asked == NODE_WATCH) {
		node->asked = NODE_NOTHING;
		node->ops->arbiter_cancel(node->data);
	}
	return node->asked == NODE_NOTHING;
}

/* One that is away is missed only when a host is lost: so it is told before. */
void node_watch_arbiter(colo_node *node)
{
	if (!node->ops->arbiter_keeps_records || node->asked != NODE_NOTHING ||
	    node->state == COLO_STOPPED || node_now(node) < node->watch_again_ms)
		return;
	node->watch_again_ms = node_now(node) + NODE_WATCH_MS;
	node_begin_asking(node, NODE_WATCH);
	node->ops->arbiter_read(node->data);
}

/* The other node has agreed, on its disk, that this one goes on as that generation: its own claim,
 * which it had given up, was carried out later. It will say yes again. */
static gboolean is_void(const colo_node *node, const struct colo_arbiter_record *record)
{
	return node->peer_up && !(node->peer.flags & COLO_PEER_LIVE) &&
	       (node->peer.part == COLO_PART_NONE || node->peer.part == COLO_PART_STANDBY) &&
	       node->peer.generation == record->generation &&
	       node->record.generation + 1 == record->generation;
}

/* The other node may have gone on, and not be heard. */
void node_watch_verdict(colo_node *node, enum colo_verdict verdict,
			const struct colo_arbiter_record *record)
{
	if (verdict == COLO_VERDICT_RECORD && record->solo && record->owner != node->self &&
	    record->generation > node->record.generation && !is_void(node, record) &&
	    !node->moving &&
	    node->record.part != COLO_PART_PROMOTED &&
	    colo_roles_step(node->state, COLO_ON_OVERTAKEN)->known)
		node_happen(node, COLO_ON_OVERTAKEN, record->generation);
}

/* A machine that lives and waits for a grant. */
static gboolean wants_grant(const colo_node *node)
{
	return node->state == COLO_HOLDING ||
	       (node->state == COLO_PROMOTING && node->record.part != COLO_PART_PROMOTED);
}

static void ask_consent(colo_node *node)
{
	if (node->peer_up && !node->asking[COLO_ASK_CONSENT])
		node_ask_peer(node, COLO_ASK_CONSENT, node->record.generation);
}

void node_ask_grant(colo_node *node)
{
	node->ask_again_ms = 0;
	node->refused_consent = FALSE;
	node_say_why(node, NULL, "%s is lost: asking whether this node may go on alone",
		     node_peer_name(node));
	node_grant_tick(node);
}

/* Both ask an arbiter that does not answer, and who has asked it cannot agree meanwhile. So one
 * of the two stays free for as long as the other one's question takes: that one asks it then. */
static gboolean leaves_a_turn(const colo_node *node)
{
	return node->state == COLO_PROMOTING && node->ask_again_ms && node->arbiter_lost &&
	       node->peer_up && node->peer.state == COLO_HOLDING &&
	       node_now(node) <
		       node->ask_again_ms + node->pair->arbiter.timeout_ms + NODE_AGAIN_MS;
}

void node_grant_tick(colo_node *node)
{
	const gboolean catch_up = node->behind && colo_state_is_primary(node->state);

	/* A machine that has hung up dies, most likely: the other node's is to go on then. */
	if (wants_grant(node) && node->vm_deaf)
		return;
	if (!(wants_grant(node) || catch_up) || node_now(node) < node->ask_again_ms ||
	    leaves_a_turn(node) || node->moving || !node_arbiter_is_free(node))
		return;
	if (wants_grant(node)) {
		if (!node->ops->arbiter_keeps_records && node->peer_up &&
		    !node->refused_consent) {
			ask_consent(node);
			return;
		}
		node_begin_asking(node, NODE_GRANT);
		node->ops->arbiter_claim(node->data, node->record.generation);
	} else {
		node_begin_asking(node, NODE_CATCH_UP);
		if (node->forced)
			node->ops->arbiter_create(node->data, node->record.generation, TRUE);
		else
			node->ops->arbiter_claim(node->data, node->record.generation - 1);
	}
}

void node_grant_verdict(colo_node *node, enum colo_verdict verdict,
			const struct colo_arbiter_record *record, const char *why)
{
	if (!wants_grant(node))
		return;
	if (verdict == COLO_VERDICT_GRANTED) {
		node_happen(node, COLO_ON_GRANTED, node->record.generation + 1);
		return;
	}
	/* An older one is of an arbiter that was set back: nobody runs by it. */
	if (verdict == COLO_VERDICT_DENIED && record && record->solo &&
	    record->owner != node->self && record->generation > node->record.generation &&
	    !is_void(node, record)) {
		node_happen(node, COLO_ON_DENIED, record->generation);
		return;
	}
	node->ask_again_ms = node_now(node) + NODE_AGAIN_MS;
	node_say_why(node,
		     "it is asked again by itself; if the other node is surely dead: colo "
		     "promote --force",
		     "no grant to go on alone: %s", why ? why : "the arbiter does not say");
	ask_consent(node);
}

/* The other node has given its copy up for this generation, on disk: what the arbiter has may
 * be a claim of its own that it never heard the answer of, and will not act on. */
static gboolean other_gave_up(const colo_node *node)
{
	return node->peer_up && node->peer.state == COLO_JOINING &&
	       node->peer.part == COLO_PART_NONE &&
	       node->peer.generation == node->record.generation;
}

void node_catch_up_verdict(colo_node *node, enum colo_verdict verdict,
			   const struct colo_arbiter_record *record, const char *why)
{
	if (verdict == COLO_VERDICT_GRANTED) {
		node->behind = node->forced = FALSE;
		return;
	}
	node->ask_again_ms = node_now(node) + 2 * NODE_AGAIN_MS;
	if (verdict == COLO_VERDICT_DENIED && record && other_gave_up(node))
		node->forced = TRUE;
	if (verdict == COLO_VERDICT_DENIED || verdict == COLO_VERDICT_NO_RECORD)
		node_say_why(node, "look at the arbiter's record; colo promote --force writes "
				   "it anew",
			     "the arbiter's record is not what both nodes agreed on: %s",
			     why ? why : "there is none");
}

void node_consent_answered(colo_node *node, gboolean yes, const char *why)
{
	if (node->state == COLO_WAITING) {
		if (node->begin != node->record.generation + 1)
			return; /* what was asked for was given up since */
		node_start_verdict(node, NODE_BEGIN,
				   yes ? COLO_VERDICT_GRANTED : COLO_VERDICT_UNKNOWN, NULL,
				   why);
		return;
	}
	/* One that is handing over was told that the other node has not taken, and now never
	 * will. */
	if ((!wants_grant(node) && node->state != COLO_HANDING) || node->asked == NODE_GRANT)
		return;
	if (yes) {
		node->behind = node->ops->arbiter_keeps_records;
		node_happen(node, COLO_ON_GRANTED, node->record.generation + 1);
		return;
	}
	if (node->state == COLO_HANDING)
		return;
	node->refused_consent = TRUE;
	node_grant_tick(node);
}

/* What this node has in that generation, or later, is its own doing, and the other node's
 * copy is behind it. */
static gboolean is_ahead(const colo_node *node, guint64 generation)
{
	const struct colo_record *record = &node->record;

	/* It has agreed before, or never had a copy; or is a later standby. */
	if (record->generation == generation + 1)
		return record->part != COLO_PART_NONE &&
		       (record->part != COLO_PART_STANDBY ||
			colo_state_is_secondary(node->state));
	if (record->generation == generation)
		return record->part == COLO_PART_SOLO || record->part == COLO_PART_PROMOTED;
	return record->generation > generation;
}

void node_consent_asked(colo_node *node, guint64 id, guint64 generation)
{
	const char *why = NULL;

	if (is_ahead(node, generation))
		why = "this node has a newer generation";
	else if (colo_state_is_primary(node->state))
		why = "this node has the guest";
	else if (node->record.part == COLO_PART_PROMOTED && node->vm)
		why = "this node has the grant";
	else if (node->moving || node->consent_id || node->asked == NODE_GRANT ||
		 node->asked == NODE_BEGIN || node->asked == NODE_FORCE ||
		 (node->state == COLO_WAITING && node->asking[COLO_ASK_CONSENT]))
		why = "this node is asking the arbiter itself";
	else if (!colo_roles_step(node->state, COLO_ON_CONSENT)->known)
		why = "not in its state now";
	if (why) {
		node->ops->peer_answer(node->data, id, FALSE, why);
		return;
	}
	node->consent_id = id;
	node_happen(node, COLO_ON_CONSENT, generation + 1);
}

/* It is on disk now. */
void node_consented(colo_node *node)
{
	if (node->consent_id)
		node->ops->peer_answer(node->data, node->consent_id, TRUE, NULL);
	node->consent_id = 0;
}

void node_give_up(colo_node *node)
{
	/* What its primary still feeds is not given up: it is of the later generation already,
	 * if an earlier colod has not written that down; or the link is about to end. */
	if (node->link_lost) {
		node->vm_promotable = node->link_lost = FALSE;
		if (node->vm)
			node->ops->vm_say(node->data, COLO_WORD_GIVE_UP);
	}
	if (!node->vm)
		node_happen(node, COLO_ON_GONE, node->record.generation);
	node_answer(node, COLO_ORDER_PROMOTE, "failed", "the other node has the grant");
}

void node_give_up_consenting(colo_node *node)
{
	node_give_up(node);
	node_consented(node);
}

/* What the other node says of itself, by whichever way it is heard; NULL: it is not. */
static const struct colo_peer_state *peer_now(const colo_node *node)
{
	if (node->peer_up)
		return &node->peer;
	return node->alive ? &node->beat : NULL;
}

/* A secondary that lost its primary. It asks at once if the primary is not heard of or has
 * lost its machine; one that is heard has the first go. */
void node_consider_claim(colo_node *node)
{
	const gboolean heard = node->alive && !(node->beat_flags & HB_FLAG_STALE);
	/* Whichever way it comes first. */
	const gboolean machine = node->beat_flags & HB_FLAG_VM &&
				 (!node->peer_up || node->peer.flags & COLO_PEER_VM);

	if (node->state != COLO_STANDBY || !node->link_lost || node->moving || node->take_id)
		return;
	if (heard && machine && colo_state_is_primary(node->beat.state) &&
	    node_now(node) < node->link_lost_ms + node->pair->arbiter.delay_ms) {
		node_say_why(node, NULL, "the link to the primary is lost, but %s is heard: it "
					 "has the first go",
			     node_peer_name(node));
		return;
	}
	node_happen(node, COLO_ON_CLAIM, node->record.generation);
}

/* The other node may have gone on without us. */
void node_look_at_peer(colo_node *node)
{
	const struct colo_peer_state *peer = peer_now(node);
	const gboolean granted = node->record.part == COLO_PART_PROMOTED;

	if (!peer || node->moving || !colo_state_is_primary(peer->state) ||
	    peer->generation <= node->record.generation)
		return;
	if (node->state == COLO_HANDING && node->go)
		node_happen(node, COLO_ON_HANDED, peer->generation);
	else if (node->state == COLO_SOLO || (node->state == COLO_PROMOTING && granted))
		node_say_why(node, "decide which copy is to stay; on the other node: colo "
				   "stand-down --force, then colo start --discard",
			     "both nodes run the guest alone");
	else if (colo_roles_step(node->state, COLO_ON_OVERTAKEN)->known)
		node_happen(node, COLO_ON_OVERTAKEN, peer->generation);
}

void node_promote(colo_node *node)
{
	node->durable = FALSE;
	node->ops->vm_say(node->data, COLO_WORD_PROMOTE);
}

/* The guest runs here, and only here. */
void node_alone(colo_node *node)
{
	node->seal = NODE_UNSEALED;
	node->link_lost = node->vm_promotable = node->go = FALSE;
	if (node->take_id)
		node->ops->peer_answer(node->data, node->take_id, TRUE, NULL);
	node->take_id = 0;
	if (node->durable && node->record.part == COLO_PART_PROMOTED)
		node_happen(node, COLO_ON_DURABLE, node->record.generation);
}

void node_resume_guest(colo_node *node)
{
	node->seal = NODE_UNSEALED;
	node->go = FALSE;
	node->protect_again_ms = node_now(node) + NODE_PROTECT_AGAIN_MS;
	node->ops->vm_say(node->data, COLO_WORD_RESUME);
	node_answer(node, COLO_ORDER_SWITCHOVER, "failed", "the other node was lost meanwhile");
}
