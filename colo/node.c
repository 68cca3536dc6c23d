/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One node of a pair: its steps through the table of roles, and its life. */
#include "colo/node_private.h"

#include "base/fault.h"

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
	struct colo_record record = node->record;
	gboolean keeps_stopped = durable == COLO_AS_NONE;

	switch (durable) {
	case COLO_KEEP:
		return record;
	case COLO_AS_STOPPED:
	case COLO_AS_STARTED:
		record.stopped = durable == COLO_AS_STOPPED;
		return record;
	case COLO_AS_OLDER:
		keeps_stopped = TRUE;
		durable = record.part == COLO_PART_NONE ? COLO_AS_NONE : COLO_AS_STANDBY;
		break;
	default:
		break;
	}
	record.generation = generation;
	record.part = parts[durable];
	if (!keeps_stopped)
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
	node->refused_consent = node->handed = FALSE;
	node->ask_again_ms = 0;
	node_say_why(node, NULL, NULL);
}

/* Orders that this state fulfils. */
void node_answer_orders(colo_node *node)
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
		base_fault_of("state", colo_state_name(step->state));
		node->ops->event(node->data, colo_state_name(step->state), detail);
	}
	node->ops->tell(node->data);
	if (step->action)
		step->action(node);
	node_answer_orders(node);
}

/* What was never called protected must not be promoted. */
void node_give_up_lost(colo_node *node)
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
		node_give_up_lost(node);
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
		node_give_up_lost(node);
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

	/* One that has ended while something was being written, after which another began. */
	if (event->event == COLO_ON_GONE && node->vm)
		return;
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
		if (node->move.event == COLO_ON_DURABLE)
			node->ops->event(node->data, "durable", NULL);
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
gboolean node_at_leisure(const colo_node *node)
{
	return !node->moving && g_queue_is_empty(node->later);
}

/* Life. */

void colo_node_tick(colo_node *node)
{
	if (!node_at_leisure(node))
		return;
	if ((node->state == COLO_STANDBY || node->state == COLO_PROTECTED) &&
	    node_now(node) > node->ordered_ms[COLO_ORDER_SWITCHOVER] + NODE_SWITCH_MS)
		node_answer(node, COLO_ORDER_SWITCHOVER, "failed",
			    "the other node has not done its part: see colo status there");
	node_disk_tick(node);
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
	if (!node)
		return;
	g_queue_free_full(node->later, g_free);
	g_free(node->reason);
	g_free(node->advice);
	g_free(node->unlike);
	g_free(node->arbiter_why);
	g_free(node);
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
			 (node->vm_ready && !node->disk_again_ms ? COLO_PEER_READY : 0) |
			 (node->vm_promotable ? COLO_PEER_LIVE : 0) |
			 (node->record.stopped ? COLO_PEER_ENDED : 0),
	};
}
