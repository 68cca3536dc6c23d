/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colod at work. */
#include "colo/supervisor.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/key.h"
#include "base/control.h"
#include "colo/arbiter.h"
#include "colo/beat.h"
#include "colo/error.h"
#include "colo/events.h"
#include "colo/guard.h"
#include "colo/guest.h"
#include "colo/hooks.h"
#include "colo/node.h"
#include "colo/notify.h"
#include "colo/own_host.h"
#include "colo/peer.h"
#include "colo/status.h"
#include "colo/taps.h"

#define TICK_MS 50u
#define CLOCK_TICKS 40u /* each so many ticks colo-vm is told of the other host's clock */

struct colo_supervisor {
	const colo_pair *pair;
	guint self;
	const struct colo_places *places;
	char *record_path;
	guint paths_up, paths_lost; /* of the heartbeats, a bit each; lost: it was told */
	colo_node *node;
	colo_guest *guest;
	colo_guard *guard;
	colo_beat *beat;
	colo_peer *peer;
	colo_arbiter *arbiter;
	base_control *control;
	colo_events *events;
	colo_hooks *hooks;
	colo_notify *notify;
	struct colo_node_ops ops;
	guint tick, ticks;
	base_answer *answers[COLO__ORDERS];
	GCancellable *over;
	gboolean found; /* what an earlier colod left is known */
	const char *question; /* what the arbiter was asked last */
};

static guint64 now_ms(void *data)
{
	return base_clock_monotonic_ns() / 1000000;
}

static struct colo_status_sources sources(const colo_supervisor *supervisor)
{
	return (struct colo_status_sources){
		.pair = supervisor->pair,
		.self = supervisor->self,
		.node = supervisor->node,
		.now_ms = now_ms(NULL),
		.guest = supervisor->guest,
		.beat = supervisor->beat,
		.guard = supervisor->guard,
		.peer = supervisor->peer,
		.arbiter = supervisor->arbiter->ops->name,
	};
}

/* Events. */

static void announce(void *data, const char *name, const char *detail)
{
	colo_supervisor *supervisor = data;
	struct colo_node_view view;

	colo_node_view(supervisor->node, &view);
	colo_events_add(supervisor->events, name, colo_state_name(view.state),
			view.record.generation, detail, NULL);
}

/* The record, on a thread: its disk may hang. */

struct writing { /* all its own: it may outlive colod's main */
	char *path, *pair, *node;
	struct colo_record record;
};

static void free_writing(void *data)
{
	struct writing *writing = data;

	g_free(writing->path);
	g_free(writing->pair);
	g_free(writing->node);
	g_free(writing);
}

static void write_record(GTask *task, gpointer source, gpointer data, GCancellable *over)
{
	const struct writing *writing = data;
	GError *error = NULL;

	if (colo_record_write(writing->path, writing->pair, writing->node, &writing->record,
			      &error))
		g_task_return_boolean(task, TRUE);
	else
		g_task_return_error(task, error);
}

static void record_written(GObject *source, GAsyncResult *result, gpointer data)
{
	colo_supervisor *supervisor = data;
	g_autoptr(GError) error = NULL;
	const gboolean ok = g_task_propagate_boolean(G_TASK(result), &error);

	if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
		return; /* there is no supervisor any more */
	colo_node_recorded(supervisor->node, ok, ok ? NULL : error->message);
}

static void record(void *data, const struct colo_record *record)
{
	colo_supervisor *supervisor = data;
	struct writing *writing = g_new(struct writing, 1);
	GTask *task = g_task_new(NULL, supervisor->over, record_written, supervisor);

	*writing = (struct writing){
		.path = g_strdup(supervisor->record_path),
		.pair = g_strdup(supervisor->pair->name),
		.node = g_strdup(supervisor->pair->node[supervisor->self].name),
		.record = *record,
	};
	g_task_set_task_data(task, writing, free_writing);
	g_task_run_in_thread(task, write_record);
	g_object_unref(task);
}

/* The arbiter. */

static void begin_question(colo_supervisor *supervisor, const char *question)
{
	supervisor->question = question;
	base_fault_of("arbiter", question);
}

static void verdict(void *data, enum colo_verdict verdict,
		    const struct colo_arbiter_record *record, const char *why)
{
	colo_supervisor *supervisor = data;

	base_fault_of("verdict", supervisor->question);
	colo_node_verdict(supervisor->node, verdict, record, why);
}

static void arbiter_read(void *data)
{
	colo_supervisor *supervisor = data;

	begin_question(supervisor, "read");
	supervisor->arbiter->ops->read(supervisor->arbiter, verdict, supervisor);
}

static void arbiter_claim(void *data, guint64 generation)
{
	colo_supervisor *supervisor = data;

	begin_question(supervisor, "claim");
	supervisor->arbiter->ops->claim(supervisor->arbiter, generation, verdict, supervisor);
}

static void arbiter_protect(void *data, guint64 generation)
{
	colo_supervisor *supervisor = data;

	begin_question(supervisor, "protect");
	supervisor->arbiter->ops->protect(supervisor->arbiter, generation, verdict,
					  supervisor);
}

static void arbiter_create(void *data, guint64 generation, gboolean force)
{
	colo_supervisor *supervisor = data;

	begin_question(supervisor, "create");
	supervisor->arbiter->ops->create(supervisor->arbiter, generation, force, verdict,
					 supervisor);
}

static void arbiter_cancel(void *data)
{
	colo_supervisor *supervisor = data;

	supervisor->arbiter->ops->cancel(supervisor->arbiter);
}

/* colo-vm. */

static gboolean make_taps(const colo_supervisor *supervisor, GError **error)
{
	for (guint i = 0; i < supervisor->pair->nets; i++) {
		const struct colo_net_config *net = &supervisor->pair->net[i];
		const struct colo_tap tap = { net->tap, net->bridge[supervisor->self],
					      supervisor->pair->name };

		if (!colo_tap_prepare(&tap, error))
			return FALSE;
	}
	return TRUE;
}

static void vm_start(void *data, gboolean standby)
{
	colo_supervisor *supervisor = data;
	g_autoptr(GError) error = NULL;

	/* Somebody may have taken one away since; colo-vm says so then. */
	if (!make_taps(supervisor, &error))
		g_warning("%s", error->message);
	colo_guest_start(supervisor->guest, standby);
}

static void vm_say(void *data, enum colo_word word)
{
	colo_guest_say(((colo_supervisor *)data)->guest, word);
}

static void vm_end(void *data, gboolean kill)
{
	colo_guest_end(((colo_supervisor *)data)->guest, kill);
}

static void vm_news(void *data, enum colo_vm_news news, const char *detail)
{
	colo_node_vm_news(((colo_supervisor *)data)->node, news, detail);
}

static void vm_answered(void *data, enum colo_word word, gboolean ok, const char *message)
{
	colo_node_vm_answered(((colo_supervisor *)data)->node, word, ok, message);
}

static void vm_epoch(void *data, guint64 epoch)
{
	colo_node_vm_epoch(((colo_supervisor *)data)->node, epoch);
}

static void vm_gone(void *data, const char *how)
{
	colo_node_vm_gone(((colo_supervisor *)data)->node, how);
}

static void begin(colo_supervisor *supervisor);
static void tell(void *data);

static void vm_found(void *data, const struct colo_vm_found *found)
{
	colo_supervisor *supervisor = data;

	supervisor->found = TRUE;
	if (found)
		colo_node_adopt(supervisor->node, found);
	else
		begin(supervisor);
	tell(supervisor);
}

static const struct colo_guest_hooks guest_hooks = {
	.news = vm_news,
	.event = announce,
	.answered = vm_answered,
	.epoch = vm_epoch,
	.gone = vm_gone,
	.found = vm_found,
};

/* The other node. */

static void tell(void *data)
{
	colo_supervisor *supervisor = data;
	const struct colo_status_sources all = sources(supervisor);
	struct colo_peer_state self;
	struct hb_self beat;
	g_autofree char *line = NULL;

	/* While it is being put together; and before it is known what runs here, "stopped" would
	 * be taken for the news that no machine does. */
	if (!supervisor->peer || !supervisor->beat || !supervisor->found)
		return;
	colo_node_self(supervisor->node, &self);
	beat = (struct hb_self){
		.generation = wire_put64(self.generation),
		.epoch = wire_put64(self.epoch),
		.state = (guint8)self.state,
		.flags = self.flags & COLO_PEER_VM ? HB_FLAG_VM : 0,
	};
	colo_beat_tell(supervisor->beat, &beat);
	colo_peer_say(supervisor->peer, &self);
	line = colo_status_line(&all);
	colo_notify_status(supervisor->notify, line);
}

static void peer_ask(void *data, enum colo_ask ask, guint64 generation)
{
	base_fault_of("ask", colo_ask_name(ask));
	colo_peer_ask(((colo_supervisor *)data)->peer, ask, generation);
}

static void peer_answer(void *data, guint64 id, gboolean yes, const char *why)
{
	base_fault_of("answer", yes ? "yes" : "no");
	colo_peer_answer(((colo_supervisor *)data)->peer, id, yes, why);
}

static void peer_up(void *data, const char *diff)
{
	colo_supervisor *supervisor = data;

	colo_node_peer_unlike(supervisor->node, diff);
	colo_node_peer_up(supervisor->node);
}

static void peer_down(void *data, const char *why)
{
	colo_node_peer_down(((colo_supervisor *)data)->node);
}

static void peer_said(void *data, const struct colo_peer_state *state)
{
	colo_node_peer_said(((colo_supervisor *)data)->node, state);
}

static void peer_asked(void *data, guint64 id, enum colo_ask ask, guint64 generation)
{
	colo_supervisor *supervisor = data;

	base_fault_of("asked", colo_ask_name(ask));
	/* What runs here decides about the answer. */
	if (!supervisor->found)
		colo_peer_answer(supervisor->peer, id, FALSE, "its colod is being started");
	else
		colo_node_peer_asked(supervisor->node, id, ask, generation);
}

static void peer_answered(void *data, enum colo_ask ask, gboolean yes, const char *why)
{
	base_fault_of("told", colo_ask_name(ask));
	colo_node_peer_answered(((colo_supervisor *)data)->node, ask, yes, why);
}

static const struct colo_peer_hooks peer_hooks = {
	.up = peer_up,
	.down = peer_down,
	.said = peer_said,
	.asked = peer_asked,
	.answered = peer_answered,
};

/* Which of several ways the heartbeats come. While none does, that is told as such. */
static void tell_paths(colo_supervisor *supervisor, const struct hb_report *report)
{
	const struct colo_node_config *ours = &supervisor->pair->node[supervisor->self];

	for (guint i = 0; i < report->paths; i++) {
		const guint bit = 1u << i;
		const gboolean up = report->path[i].up;

		if (up && supervisor->paths_lost & bit)
			announce(supervisor, "path-back", ours->heartbeat[i]);
		if (!up && supervisor->paths_up & bit && report->alive) {
			announce(supervisor, "path-lost", ours->heartbeat[i]);
			supervisor->paths_lost |= bit;
		}
		if (up)
			supervisor->paths_lost &= ~bit;
		supervisor->paths_up = up ? supervisor->paths_up | bit :
					    supervisor->paths_up & ~bit;
	}
}

static void reported(void *data, const struct hb_report *report)
{
	colo_supervisor *supervisor = data;

	tell_paths(supervisor, report);
	colo_node_heartbeat(supervisor->node, report->alive,
			    report->known ? &report->peer : NULL);
}

static void tell_clock(colo_supervisor *supervisor)
{
	const struct hb_report *report = colo_beat_report(supervisor->beat);

	if (report && report->offset_known)
		colo_guest_tell_clock(supervisor->guest,
				      (gint64)wire_get64(report->clock_offset_ns),
				      wire_get64(report->clock_error_ns));
}

/* The operator. */

static void answer_order(void *data, enum colo_order order, const char *code,
			 const char *message)
{
	colo_supervisor *supervisor = data;
	base_answer *answer = g_steal_pointer(&supervisor->answers[order]);

	if (!answer)
		return;
	if (code)
		base_answer_error(answer, code, message ? message : "it failed");
	else
		base_answer_ok(answer, NULL);
}

static const char *const no_arguments[] = { NULL };
static const char *const force_argument[] = { "force", NULL };

enum { COMMAND_STATUS, COMMAND_EVENTS, COMMAND_FIRST_ORDER };
static const struct base_command command_rows[] = {
	{ "status", no_arguments },
	{ "events", colo_events_arguments },
	{ "start", no_arguments },
	{ "stop", force_argument },
	{ "checkpoint", no_arguments },
	{ "switchover", no_arguments },
	{ "promote", force_argument },
	{ "stand-down", force_argument },
	{ "discard", force_argument },
	{ NULL },
};
G_STATIC_ASSERT(G_N_ELEMENTS(command_rows) - 1 - COMMAND_FIRST_ORDER == COLO__ORDERS);

/* FALSE: answered. */
static gboolean read_force(JsonObject *arguments, gboolean *force, base_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, "force");

	*force = FALSE;
	if (!node)
		return TRUE;
	if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_BOOLEAN) {
		base_answer_bad_request(answer, "\"force\" is true or false");
		return FALSE;
	}
	*force = json_node_get_boolean(node);
	return TRUE;
}

static void run_command(void *data, const char *command, guint index, JsonObject *arguments,
			base_answer *answer)
{
	colo_supervisor *supervisor = data;
	const struct colo_status_sources all = sources(supervisor);
	const guint order = index - COMMAND_FIRST_ORDER;
	gboolean force;

	if (index == COMMAND_STATUS) {
		base_answer_ok(answer, colo_status(&all));
	} else if (index == COMMAND_EVENTS) {
		colo_events_answer(supervisor->events, arguments, answer);
	} else if (!supervisor->found) {
		base_answer_error(answer, "busy", "colod is being started: try again");
	} else if (!read_force(arguments, &force, answer)) {
		return;
	} else if (supervisor->answers[order] && !force) {
		base_answer_error(answer, "busy", "that is under way already");
	} else {
		/* Force takes the place of an order that gets nowhere. */
		answer_order(supervisor, (enum colo_order)order, "failed",
			     "it was ordered again, with force");
		supervisor->answers[order] = answer;
		colo_node_order(supervisor->node, (enum colo_order)order, force);
	}
}

/* Life. */

static gboolean tick(gpointer data)
{
	colo_supervisor *supervisor = data;

	if (supervisor->found)
		colo_node_tick(supervisor->node);
	if (++supervisor->ticks % CLOCK_TICKS == 0)
		tell_clock(supervisor);
	return G_SOURCE_CONTINUE;
}

/* Nothing of an earlier colod's runs: whether the guest is wanted is on record. */
static void begin(colo_supervisor *supervisor)
{
	struct colo_node_view view;

	supervisor->found = TRUE;
	colo_node_view(supervisor->node, &view);
	if (view.record.stopped)
		announce(supervisor, "stopped", "the guest was stopped on purpose: colo start "
						"begins again");
	else
		colo_node_order(supervisor->node, COLO_ORDER_START, FALSE);
}

static gboolean make_places(const struct colo_places *places, GError **error)
{
	const char *const all[] = { places->run, places->state, places->log };

	for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
		if (g_mkdir_with_parents(all[i], 0700))
			return colo_error_errno(error, errno, "make %s", all[i]);
	return TRUE;
}

static void set_ops(colo_supervisor *supervisor)
{
	supervisor->ops = (struct colo_node_ops){
		.now_ms = now_ms,
		.record = record,
		.arbiter_read = arbiter_read,
		.arbiter_claim = arbiter_claim,
		.arbiter_protect = arbiter_protect,
		.arbiter_create = arbiter_create,
		.arbiter_cancel = arbiter_cancel,
		.arbiter_keeps_records = supervisor->arbiter->ops->keeps_records,
		.vm_start = vm_start,
		.vm_say = vm_say,
		.vm_end = vm_end,
		.peer_ask = peer_ask,
		.peer_answer = peer_answer,
		.tell = tell,
		.event = announce,
		.answer = answer_order,
	};
}

/* What has to be there before anything is started. */
static gboolean prepare(colo_supervisor *supervisor, GError **error)
{
	const colo_pair *pair = supervisor->pair;
	const char *self = pair->node[supervisor->self].name;
	struct colo_record record;
	g_autoptr(base_key) key = base_key_read(pair->key, error);

	/* Every part reads it for itself, some much later. */
	if (!key)
		return FALSE;
	supervisor->record_path = g_build_filename(supervisor->places->state, "generation", NULL);
	if (!make_places(supervisor->places, error) ||
	    !colo_own_host(supervisor->places->state, NULL, error) ||
	    !colo_record_read(supervisor->record_path, pair->name, self, &record, error))
		return FALSE;
	supervisor->arbiter = colo_arbiter_new(pair, supervisor->self, error);
	if (!supervisor->arbiter || !make_taps(supervisor, error))
		return FALSE;
	set_ops(supervisor);
	supervisor->node = colo_node_new(pair, supervisor->self, &record, &supervisor->ops,
					 supervisor);
	return TRUE;
}

static gboolean hook_up(colo_supervisor *supervisor, GError **error)
{
	const colo_pair *pair = supervisor->pair;
	const struct colo_hooks_config config = {
		.program = pair->hook.program,
		.user = pair->hook.user,
		.timeout_ms = pair->hook.timeout_ms,
		.pair = pair->name,
		.node = pair->node[supervisor->self].name,
	};

	if (!config.program)
		return TRUE;
	supervisor->hooks = colo_hooks_new(&config, error);
	if (!supervisor->hooks)
		return FALSE;
	colo_events_set_hooks(supervisor->events, supervisor->hooks);
	return TRUE;
}

static gboolean listen_and_log(colo_supervisor *supervisor, GError **error)
{
	const struct base_commands commands = {
		.data = supervisor,
		.rows = command_rows,
		.run = run_command,
	};
	const struct colo_places *places = supervisor->places;
	g_autofree char *socket = g_build_filename(places->run, "control.sock", NULL);
	g_autofree char *file = g_build_filename(places->state, "events.jsonl", NULL);
	const struct colo_events_config config = {
		.node = supervisor->pair->node[supervisor->self].name,
		.file = file,
		.file_bytes = places->log_bytes,
	};

	supervisor->control = base_control_new(socket, &commands, error);
	if (!supervisor->control)
		return FALSE;
	supervisor->events = colo_events_new(&config);
	colo_events_set_control(supervisor->events, supervisor->control);
	return hook_up(supervisor, error);
}

static gboolean start_all(colo_supervisor *supervisor, GError **error)
{
	const colo_pair *pair = supervisor->pair;
	const struct colo_places *places = supervisor->places;
	const guint self = supervisor->self;

	supervisor->peer = colo_peer_new(pair, self, &peer_hooks, supervisor, error);
	if (!supervisor->peer)
		return FALSE;
	supervisor->guest = colo_guest_new(pair, self, places, &guest_hooks, supervisor);
	if (pair->comparison.enabled && pair->nets)
		supervisor->guard = colo_guard_new(pair, places, announce, supervisor);
	supervisor->beat = colo_beat_new(pair, self, places, reported, supervisor);
	supervisor->tick = g_timeout_add(TICK_MS, tick, supervisor);
	if (!colo_guest_adopt(supervisor->guest))
		begin(supervisor);
	return TRUE;
}

colo_supervisor *colo_supervisor_new(const colo_pair *pair, guint self,
				     const struct colo_places *places, GError **error)
{
	g_autoptr(colo_supervisor) supervisor = g_new0(colo_supervisor, 1);

	supervisor->pair = pair;
	supervisor->self = self;
	supervisor->places = places;
	supervisor->over = g_cancellable_new();
	supervisor->notify = colo_notify_new();
	if (!prepare(supervisor, error) || !listen_and_log(supervisor, error) ||
	    !start_all(supervisor, error))
		return NULL;
	colo_notify_ready(supervisor->notify);
	return g_steal_pointer(&supervisor);
}

/* Nobody needs them where no guest runs, and none is to. */
static void end_helpers(colo_supervisor *supervisor)
{
	struct colo_node_view view;

	if (!supervisor->node || !supervisor->beat)
		return;
	colo_node_view(supervisor->node, &view);
	if (view.state != COLO_STOPPED || colo_guest_pid(supervisor->guest))
		return;
	colo_beat_end(supervisor->beat);
	if (supervisor->guard)
		colo_guard_end(supervisor->guard);
}

void colo_supervisor_free(colo_supervisor *supervisor)
{
	if (!supervisor)
		return;
	colo_notify_stopping(supervisor->notify);
	g_cancellable_cancel(supervisor->over);
	if (supervisor->tick)
		g_source_remove(supervisor->tick);
	end_helpers(supervisor);
	colo_peer_free(supervisor->peer);
	colo_beat_free(supervisor->beat);
	colo_guard_free(supervisor->guard);
	colo_guest_free(supervisor->guest);
	colo_arbiter_free(supervisor->arbiter);
	colo_node_free(supervisor->node);
	colo_events_free(supervisor->events);
	colo_hooks_free(supervisor->hooks);
	base_control_free(supervisor->control);
	colo_notify_free(supervisor->notify);
	g_object_unref(supervisor->over);
	g_free(supervisor->record_path);
	g_free(supervisor);
}
