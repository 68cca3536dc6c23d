/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One node of a pair: steps through the table of roles, and what comes in from outside. */
#include "colo/node_private.h"

guint64 node_now(const colo_node *node)
{
	return node->ops->now_ms(node->data);
}

const char *node_peer_name(const colo_node *node)
{
	return node->pair->node[!node->self].name;
}

void node_say_why(colo_node *node, const char *advice, const char *format, ...)
{
	g_autofree char *reason = NULL;
	va_list arguments;

	if (format) {
		va_start(arguments, format);
		reason = g_strdup_vprintf(format, arguments);
		va_end(arguments);
	}
	if (g_strcmp0(reason, node->reason) && reason)
		g_message("%s", reason);
	g_free(node->reason);
	node->reason = g_steal_pointer(&reason);
	g_free(node->advice);
	node->advice = g_strdup(advice);
}

void node_answer(colo_node *node, enum colo_order order, const char *code,
		 const char *message)
{
	if (!node->orders[order])
		return;
	node->orders[order] = FALSE;
	node->ops->answer(node->data, order, code, message);
}

void node_ask_peer(colo_node *node, enum colo_ask ask, guint64 generation)
{
	node->asking[ask] = TRUE;
	node->asked_turn[ask] = node->turn;
	node->ops->peer_ask(node->data, ask, generation);
}

void node_begin_asking(colo_node *node, enum node_asked asked)
{
	node->asked = asked;
	node->asked_at = node->record.generation;
}

/* Steps. */

static struct colo_record record_after(const colo_node *node, enum colo_durable durable,
				       guint64 generation)
{
	static const enum colo_part parts[] = {
		[COLO_AS_NONE] = COLO_PART_NONE,       [COLO_AS_STANDBY] = COLO_PART_STANDBY,
		[COLO_AS_PRIMARY] = COLO_PART_PRIMARY, [COLO_AS_SOLO] = COLO_PART_SOLO,
		[COLO_AS_LEAVING] = COLO_PART_LEAVING, [COLO_AS_PROMOTED] = COLO_PART_PROMOTED,
	};
	const enum colo_durable before = durable;
	struct colo_record record = node->record;

	if (durable == COLO_KEEP)
		return record;
	if (durable == COLO_AS_STOPPED || durable == COLO_AS_STARTED) {
		record.stopped = durable == COLO_AS_STOPPED;
		return record;
	}
	if (durable == COLO_AS_OLDER)
		durable = record.part == COLO_PART_NONE ? COLO_AS_NONE : COLO_AS_STANDBY;
	record.generation = generation;
	record.part = parts[durable];
	if (durable != COLO_AS_NONE && before != COLO_AS_OLDER)
		record.stopped = FALSE;
	return record;
}

static gboolean records_alike(const struct colo_record *a, const struct colo_record *b)
{
	return a->generation == b->generation && a->part == b->part &&
	       a->stopped == b->stopped;
}

/* What is over once a state is left. */
static void leave_state(colo_node *node)
{
	node->refused_consent = FALSE;
	node->ask_again_ms = 0;
	node_say_why(node, NULL, NULL);
}

/* Orders that this state fulfils. */
static void answer_orders(colo_node *node)
{
	if (node->state == COLO_STOPPED && !node->vm) {
		node_answer(node, COLO_ORDER_STOP, NULL, NULL);
		node_answer(node, COLO_ORDER_STAND_DOWN, NULL, NULL);
	}
	/* The other node has taken over. */
	if (node->state == COLO_FENCED)
		node_answer(node, COLO_ORDER_SWITCHOVER, NULL, NULL);
	if (node->state == COLO_SOLO) {
		node_answer(node, COLO_ORDER_PROMOTE, NULL, NULL);
		/* The other one's that we asked for; our own has been answered. */
		node_answer(node, COLO_ORDER_SWITCHOVER, NULL, NULL);
	}
}

static void take_step(colo_node *node, const struct node_event *event)
{
	const struct colo_step *step = colo_roles_step(node->state, event->event);
	const enum colo_state before = node->state;

	if (step->state != before) {
		g_autofree char *detail =
			g_strdup_printf("%s -> %s on %s", colo_state_name(before),
					colo_state_name(step->state),
					colo_event_name(event->event));

		leave_state(node);
		node->turn++;
		node->state = step->state;
		node->since_ms = node_now(node);
		node->ops->event(node->data, colo_state_name(step->state), detail);
	}
	node->ops->tell(node->data);
	if (step->action)
		step->action(node);
	answer_orders(node);
}

/* What was never called protected must not be promoted. */
static void give_up_lost(colo_node *node)
{
	if (node->state == COLO_JOINING && node->link_lost)
		node->ops->vm_say(node->data, COLO_WORD_GIVE_UP);
}

/* Who waits for an answer to a step that could not be made durable gets one. What else it
 * was for is tried again from node_tick() or by whoever sees the need again. */
static void step_failed(colo_node *node, const struct node_event *event, const char *why)
{
	static const char *const message = "its generation file cannot be written";

	switch (event->event) {
	case COLO_ON_CONSENT:
		if (node->consent_id)
			node->ops->peer_answer(node->data, node->consent_id, FALSE, message);
		node->consent_id = 0;
		break;
	case COLO_ON_SEAL:
		if (node->seal_id)
			node->ops->peer_answer(node->data, node->seal_id, FALSE, message);
		node->seal_id = 0;
		/* The link may have been lost while it was being written. */
		give_up_lost(node);
		break;
	case COLO_ON_TAKE:
		if (node->take_id)
			node->ops->peer_answer(node->data, node->take_id, FALSE, message);
		node->take_id = 0;
		node->behind = FALSE;
		break;
	case COLO_ON_LEAVE:
		node_cannot_leave(node, why);
		break;
	case COLO_ON_FORCE:
		node_answer(node, COLO_ORDER_PROMOTE, "failed", why);
		break;
	case COLO_ON_ENDED:
		node_answer(node, COLO_ORDER_STOP, "failed", why);
		give_up_lost(node);
		break;
	default:
		break;
	}
	node->ask_again_ms = node->look_again_ms = node->record_again_ms;
}

static void begin_step(colo_node *node, const struct node_event *event)
{
	const struct colo_step *step = colo_roles_step(node->state, event->event);
	const struct colo_record record =
		record_after(node, step->durable, event->generation);

	if (!step->known) {
		g_info("event %s means nothing in state %s", colo_event_name(event->event),
		       colo_state_name(node->state));
		return;
	}
	if (records_alike(&record, &node->record)) {
		take_step(node, event);
		return;
	}
	if (node->record_fails && node_now(node) < node->record_again_ms) {
		step_failed(node, event, "the generation file cannot be written");
		return;
	}
	node->moving = TRUE;
	node->move = *event;
	node->writing = record;
	node->ops->record(node->data, &record);
}

/* Takes the steps that wait, one after the other. */
static void go_on(colo_node *node)
{
	if (node->stepping)
		return;
	node->stepping = TRUE;
	while (!node->moving && !g_queue_is_empty(node->later)) {
		g_autofree struct node_event *event = g_queue_pop_head(node->later);

		begin_step(node, event);
	}
	node->stepping = FALSE;
}

void node_happen(colo_node *node, enum colo_event event, guint64 generation)
{
	struct node_event *kept = g_new(struct node_event, 1);

	*kept = (struct node_event){ event, generation };
	g_queue_push_tail(node->later, kept);
	go_on(node);
}

void colo_node_recorded(colo_node *node, gboolean ok, const char *why)
{
	if (!node->moving)
		return;
	node->moving = FALSE;
	if (ok) {
		node->record_fails = FALSE;
		node->record = node->writing;
		node->stepping = TRUE;
		take_step(node, &node->move);
		node->stepping = FALSE;
	} else {
		/* Which of the two is on disk is not known; a step that was not taken may be,
		 * as after a crash in the midst of it. */
		if (!node->record_fails)
			node->ops->event(node->data, "record-failed", why);
		node->record_fails = TRUE;
		node->record_again_ms = node_now(node) + NODE_AGAIN_MS;
		step_failed(node, &node->move, why);
		node_say_why(node, "mend the disk below the state directory: it is tried again",
			     "the generation file cannot be written: %s", why);
	}
	go_on(node);
}

/* Nothing waits for the disk, and nothing is waited for. */
static gboolean at_leisure(const colo_node *node)
{
	return !node->moving && g_queue_is_empty(node->later);
}

/* colo-vm. */

/* The guest was ended on purpose, here. */
static void guest_ended(colo_node *node)
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
		guest_ended(node);
}

static void primary_lost(colo_node *node, const char *detail)
{
	node->link_lost = TRUE;
	node->link_lost_ms = node_now(node);
	node->ops->event(node->data, "primary-lost", detail);
	if (!(node->moving && node->move.event == COLO_ON_SEAL))
		give_up_lost(node);
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
		guest_ended(node);
		break;
	case COLO_VM_PANIC:
		guest_panicked(node, detail);
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
	node->durable = FALSE;
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
	answer_orders(node);
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

/* The other node. */

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
	    !node->vm_promotable || node->link_lost || !at_leisure(node)) {
		node->ops->peer_answer(node->data, id, FALSE, "not yet");
		return;
	}
	node->seal_id = id;
	node_happen(node, COLO_ON_SEAL, generation);
}

static gboolean could_take(const colo_node *node, guint64 generation)
{
	return node->state == COLO_STANDBY && node->vm_promotable && !node->link_lost &&
	       at_leisure(node) && node->record.generation == generation;
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
	    !at_leisure(node) || node->record.generation != generation ||
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

/* Orders. */

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
		guest_ended(node);
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
	if (!force && !(node->peer_up && colo_state_is_primary(node->peer.state))) {
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
	answer_orders(node);
}

/* Life. */

void colo_node_tick(colo_node *node)
{
	if (!at_leisure(node))
		return;
	if ((node->state == COLO_STANDBY || node->state == COLO_PROTECTED) &&
	    node_now(node) > node->ordered_ms[COLO_ORDER_SWITCHOVER] + NODE_SWITCH_MS)
		node_answer(node, COLO_ORDER_SWITCHOVER, "failed",
			    "the other node has not done its part: see colo status there");
	node_start_tick(node);
	node_consider_claim(node);
	node_grant_tick(node);
	node_protect_tick(node);
	node_watch_arbiter(node);
}

colo_node *colo_node_new(const colo_pair *pair, guint self, const struct colo_record *record,
			 const struct colo_node_ops *ops, void *data)
{
	colo_node *node = g_new0(colo_node, 1);

	node->pair = pair;
	node->self = self;
	node->record = *record;
	node->ops = ops;
	node->data = data;
	node->later = g_queue_new();
	node->since_ms = node_now(node);
	return node;
}

void colo_node_free(colo_node *node)
{
	g_queue_free_full(node->later, g_free);
	g_free(node->reason);
	g_free(node->advice);
	g_free(node->unlike);
	g_free(node->arbiter_why);
	g_free(node);
}

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
	node->link_lost = !found->protected_now && !found->syncing;
	if (part == COLO_PART_LEAVING) {
		/* Whether the other node was told to go on is not known: as if it was. */
		node->state = COLO_HANDING;
		node->go = TRUE;
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

void colo_node_view(const colo_node *node, struct colo_node_view *view)
{
	*view = (struct colo_node_view){
		.state = node->state,
		.since_ms = node->since_ms,
		.record = node->record,
		.epoch = node->epoch,
		.reason = node->reason,
		.advice = node->advice,
		.peer_up = node->peer_up,
		.peer_alive = node->alive,
		.peer = node->peer_up ? node->peer : node->beat,
		.verdict = node->verdict,
		.asked = node->ever_asked,
		.arbiter = node->arbiter,
		.arbiter_known = node->arbiter_known,
		.arbiter_why = node->arbiter_why,
		.arbiter_lost = node->arbiter_lost,
		.unlike = node->unlike,
	};
	if (!node->reason && node->arbiter_lost)
		view->reason = "the arbiter does not answer: a host that is lost now is not "
			       "followed by the other";
}

void colo_node_self(const colo_node *node, struct colo_peer_state *state)
{
	*state = (struct colo_peer_state){
		.generation = node->record.generation,
		.epoch = node->epoch,
		.state = node->state,
		.part = node->record.part,
		.flags = (node->vm && !node->vm_ending && !node->vm_deaf ? COLO_PEER_VM : 0) |
			 (node->vm_ready ? COLO_PEER_READY : 0) |
			 (node->vm_promotable ? COLO_PEER_LIVE : 0) |
			 (node->record.stopped ? COLO_PEER_ENDED : 0),
	};
}
