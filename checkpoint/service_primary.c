/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service as a primary: dials a standby, fills it, and keeps it up to date. */
#include "checkpoint/service_private.h"

#include "base/tcp.h"
#include "checkpoint/arguments.h"
#include "checkpoint/fault.h"

#define PERIOD_MAX_MS 10000
#define AGE_MAX_MS 3600000

/* In the order of enum ckpt_mode; and one that is either. */
#define MODE_AUTO 2
static const char *const mode_words[] = { "colo", "buffered", "auto", NULL };
static const char *const loss_words[] = { "go-on", "hold", NULL };
/* So long may the commit take of what a guest said that has ended. */
#define LINGER_MS 5000
/* So long what a disk refused is kept for somebody to hand the guest over. */
#define DISK_WAIT_MS 10000
/* So long may the comparator take to say that it let go what is committed. */
#define PARTING_MS 500
static const char *const held_words[] = {
	[HELD_LOSS] = "loss",
	[HELD_HANDOVER] = "hand-over",
};

/* Who asked for a checkpoint, and from which epoch on one will do. */
struct checkpoint_request {
	guint64 epoch;
	vmm_answer *answer;
};

/* What threads tell. */

static void tell_state(void *data, enum ckpt_primary_state state, const char *why)
{
	ckpt_service *service = data;

	service_post(service, service->round, NOTE_PRIMARY_STATE, state, why);
}

guint64 service_cut_epoch(ckpt_service *service)
{
	return __atomic_load_n(&service->cut_epoch, __ATOMIC_SEQ_CST);
}

static void tell_cut(void *data, guint64 epoch, gboolean run)
{
	ckpt_service *service = data;

	service_tell_cut(service, epoch, run);
	__atomic_store_n(&service->cut_epoch, epoch, __ATOMIC_SEQ_CST);
}

static void tell_committed(void *data, guint64 epoch)
{
	ckpt_service *service = data;

	service_tell_committed(service, epoch);
	service_post(service, service->round, NOTE_COMMITTED, epoch, NULL);
}

static void tell_parted(void *data, guint64 epoch)
{
	ckpt_service *service = data;

	service_post(service, service->round, NOTE_PARTED, epoch, NULL);
}

static void tell_applied(void *data, const struct ckpt_checkpoint_stats *stats)
{
	ckpt_service *service = data;

	ckpt_statistics_add(service->statistics, stats);
}

/* On the greeter's thread, while nobody changes what it reads. */
static base_channel *connect_again(void *data, GError **error)
{
	ckpt_service *service = data;

	return ckpt_dial_now(service->peer, service->key, &service->greeter_over, error);
}

static const struct ckpt_primary_hooks hooks = {
	.connect = connect_again,
	.state = tell_state,
	.cut = tell_cut,
	.committed = tell_committed,
	.parted = tell_parted,
	.output = service_tell_output,
	.applied = tell_applied,
};

/* Protecting. */

static void answer_protect(ckpt_service *service, const GError *error)
{
	vmm_answer *answer = g_steal_pointer(&service->protect);

	if (!answer)
		return;
	if (error)
		vmm_answer_error(answer, "failed", error->message);
	else
		vmm_answer_ok(answer, NULL);
}

static void greet_standby(ckpt_service *service, struct greeting *greeting)
{
	const struct ckpt_streams streams = ckpt_node_streams(service->node);

	greeting->primary = ckpt_primary_new_take(
		service->machine, g_steal_pointer(&greeting->channel),
		&service->primary_options, &streams, &hooks, service, &greeting->error);
}

static void connected(void *data, base_channel *channel, const struct ckpt_join *join,
		      const GError *error)
{
	ckpt_service *service = data;

	g_clear_pointer(&service->dial, ckpt_dial_free);
	if (channel) {
		service->primary_options.listen =
			service->guarded && ckpt_outputs_is_ready(service->outputs);
		service_greet_take(service, channel, greet_standby);
		return;
	}
	answer_protect(service, error);
	service_enter(service, SERVICE_UNPROTECTED, NULL, NULL);
}

void service_greeted_primary(ckpt_service *service, struct greeting *greeting)
{
	answer_protect(service, greeting->error);
	service->primary = g_steal_pointer(&greeting->primary);
	service_set_asked(service, service->primary);
	if (!service->primary)
		service_enter(service, SERVICE_UNPROTECTED, NULL, NULL);
	else
		service_enter(service, SERVICE_SYNCING, "syncing", service->peer);
}

/* FALSE: answered. */
static gboolean read_mode(JsonObject *arguments, struct ckpt_primary_options *options,
			  gboolean *mode_auto, vmm_answer *answer)
{
	guint64 period_ms = options->period_ms;
	guint mode = *mode_auto ? MODE_AUTO : options->mode;

	if (!ckpt_argument_word(arguments, "mode", mode_words, &mode, answer) ||
	    !ckpt_argument_number(arguments, "period_ms", 1, PERIOD_MAX_MS, &period_ms,
				  answer))
		return FALSE;
	*mode_auto = mode == MODE_AUTO;
	if (!*mode_auto)
		options->mode = (enum ckpt_mode)mode;
	options->period_ms = (guint)period_ms;
	return TRUE;
}

/* Two hide what one processor cannot do at once; the guest should have some left too. */
static guint usual_connections(void)
{
	guint processors = g_get_num_processors();

	return processors < 2 ? 1 : CLAMP(processors / 2, 2, 4);
}

/* FALSE: answered. */
static gboolean judge_auto(gboolean mode_auto, gboolean guarded, vmm_answer *answer)
{
	if (!mode_auto || guarded)
		return TRUE;
	vmm_answer_error(answer, "wrong-state",
			 "mode \"auto\" is for a comparator to choose: where none holds outputs "
			 "back, say \"colo\" or \"buffered\"");
	return FALSE;
}

/* FALSE: answered. */
static gboolean judge_guard(ckpt_service *service, gboolean guarded, vmm_answer *answer)
{
	if (!guarded || ckpt_outputs_is_ready(service->outputs))
		return TRUE;
	vmm_answer_error(answer, "wrong-state",
			 "protect: no comparator is ready to hold outputs back; "
			 "\"unguarded\": true does without");
	return FALSE;
}

/* FALSE: answered. */
static gboolean read_options(ckpt_service *service, JsonObject *arguments, const char **to,
			     vmm_answer *answer)
{
	struct ckpt_primary_options options;
	guint64 age_ms, silence_ms = SILENCE_MS, connections = usual_connections();
	gboolean unguarded = FALSE, mode_auto = FALSE, guarded;
	guint hold = 0;

	ckpt_primary_options_init(&options);
	age_ms = options.age_ms;
	if (!ckpt_argument_text(arguments, "to", to, answer) ||
	    !read_mode(arguments, &options, &mode_auto, answer) ||
	    !ckpt_argument_number(arguments, "age_ms", 1, AGE_MAX_MS, &age_ms, answer) ||
	    !ckpt_argument_number(arguments, "bandwidth", 0, G_MAXINT64,
				  &options.sync_bytes_per_s, answer) ||
	    !ckpt_argument_number(arguments, "silence_ms", CKPT_SILENCE_MIN_MS, CKPT_SILENCE_MAX_MS,
				  &silence_ms, answer) ||
	    !ckpt_argument_number(arguments, "connections", 1, CKPT_LANES_MAX, &connections,
				  answer) ||
	    !ckpt_argument_word(arguments, "on_loss", loss_words, &hold, answer) ||
	    !ckpt_argument_switch(arguments, "unguarded", &unguarded, answer) ||
	    !ckpt_argument_switch(arguments, "verify", &options.verify, answer))
		return FALSE;
	guarded = service->outputs && !unguarded;
	if (!judge_auto(mode_auto, guarded, answer) || !judge_guard(service, guarded, answer))
		return FALSE;
	service->guarded = guarded;
	service->mode_auto = mode_auto;
	options.age_ms = (guint)age_ms;
	options.silence_ms = (guint)silence_ms;
	options.connections = (guint)connections;
	service->primary_options = options;
	service->hold_on_loss = hold;
	return TRUE;
}

/* NULL, or why this cannot be protected now. */
static const char *obstacle(ckpt_service *service)
{
	enum vmm_run_state run_state = vmm_machine_run_state(service->machine);

	if (!service->key)
		return "protect: the program was started without --key";
	/* A paused guest's disks do nothing, the first sync's reads included. */
	if (run_state != VMM_RUNNING)
		return "protect: there is no guest that runs";
	return NULL;
}

void service_protect(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	const char *why = obstacle(service), *to = NULL;
	g_autoptr(GError) error = NULL;

	if (why) {
		vmm_answer_error(answer, "wrong-state", why);
		return;
	}
	if (!read_options(service, arguments, &to, answer))
		return;
	if (!to || !base_tcp_parse(to, NULL, NULL, &error)) {
		vmm_answer_error(answer, "bad-request",
				 error ? error->message :
					 "protect needs the argument \"to\", text");
		return;
	}
	service->dial = ckpt_dial_new(to, service->key, ckpt_rules, connected, service, &error);
	if (!service->dial) {
		vmm_answer_error(answer, "failed", error->message);
		return;
	}
	g_free(service->peer);
	service->peer = g_strdup(to);
	g_clear_pointer(&service->why, g_free);
	ckpt_statistics_free(service->statistics);
	service->statistics = ckpt_statistics_new();
	__atomic_store_n(&service->cut_epoch, 0, __ATOMIC_SEQ_CST);
	service->protect = answer;
	service_enter(service, SERVICE_CONNECTING, NULL, NULL);
}

/* Its end. */

static void answer_checkpoints(ckpt_service *service, guint64 committed, const char *why)
{
	GList *next;

	for (GList *at = service->checkpoints; at; at = next) {
		struct checkpoint_request *request = at->data;
		JsonObject *result;

		next = at->next;
		if (!why && request->epoch > committed)
			continue;
		if (why) {
			vmm_answer_error(request->answer, "failed", why);
		} else {
			result = json_object_new();
			json_object_set_int_member(result, "epoch", (gint64)committed);
			vmm_answer_ok(request->answer, result);
		}
		service->checkpoints = g_list_delete_link(service->checkpoints, at);
		g_free(request);
	}
}

static void stop_lingering(ckpt_service *service)
{
	if (service->linger)
		g_source_remove(service->linger);
	service->linger = 0;
	if (service->lingers && !service->ending)
		vmm_session_end_now(service->session);
	service->lingers = FALSE;
}

static void stop_parting(ckpt_service *service)
{
	if (service->parting)
		g_source_remove(service->parting);
	service->parting = 0;
	service->parted = 0;
}

static void answer_hand_over(ckpt_service *service, const char *why)
{
	vmm_answer *answer = g_steal_pointer(&service->hand_over);

	if (answer)
		vmm_answer_error(answer, "failed", why);
}

/* The guest may be the standby's from now on, or it cannot be known whether it is: nothing
 * that it says may go out. */
static void hold(ckpt_service *service, enum service_held held)
{
	g_autoptr(GError) error = NULL;

	if (vmm_machine_run_state(service->machine) != VMM_ENDED &&
	    !vmm_machine_pause(service->machine, &error))
		g_warning("cannot hold the guest: %s", error->message);
	service->held = held;
	ckpt_fault(CKPT_FAULT_HELD);
}

void service_end_primary(ckpt_service *service, enum ckpt_ending end, const char *why)
{
	const GError ended = { .message = (char *)why };
	gboolean was = service->state != SERVICE_CONNECTING;

	if (service->state == SERVICE_HANDING && !service->ending)
		hold(service, HELD_HANDOVER);
	g_clear_pointer(&service->dial, ckpt_dial_free);
	service_end_greeting(service);
	service_set_asked(service, NULL);
	if (service->primary)
		ckpt_primary_set_end(service->primary, end);
	g_clear_pointer(&service->primary, ckpt_primary_free);
	service->round++;
	service_set_gate(service);
	answer_protect(service, &ended);
	answer_checkpoints(service, 0, why);
	stop_parting(service);
	answer_hand_over(service, why);
	g_free(service->why);
	service->why = g_strdup(why);
	service_enter(service, SERVICE_UNPROTECTED, was ? "unprotected" : NULL, why);
	stop_lingering(service);
}

void service_unprotect(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	service_end_primary(service, CKPT_END_UNPROTECT, "command");
	vmm_answer_ok(answer, NULL);
}

void service_take_back(ckpt_service *service)
{
	service_end_primary(service, CKPT_END_RESUMED, "the guest is taken back");
}

/* Its end. */

/* What the guest said last is committed, or never will be. */
static gboolean end_of_patience(void *data)
{
	ckpt_service *service = data;

	g_warning("replication: the last checkpoint of a guest that has ended takes too long: "
		  "what it said last is lost");
	service->linger = 0;
	stop_lingering(service);
	return G_SOURCE_REMOVE;
}

gboolean service_linger(ckpt_service *service)
{
	if (service->state != SERVICE_PROTECTED && service->state != SERVICE_HANDING)
		return FALSE;
	service->lingers = TRUE;
	service->linger = g_timeout_add(LINGER_MS, end_of_patience, service);
	ckpt_primary_part(service->primary, CKPT_REASON_ENDED);
	return TRUE;
}

/* Handing over. */

void service_hand_over(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	if (vmm_machine_run_state(service->machine) == VMM_ENDED) {
		vmm_answer_error(answer, "wrong-state", "hand-over: the guest has ended");
		return;
	}
	service->hand_over = answer;
	service_enter(service, SERVICE_HANDING, NULL, NULL);
	ckpt_primary_part(service->primary, CKPT_REASON_HANDOVER);
}

static void handed_over(ckpt_service *service, guint64 epoch)
{
	g_autofree char *detail = g_strdup_printf("epoch %" G_GUINT64_FORMAT, epoch);
	JsonObject *result = json_object_new();

	stop_parting(service);
	service->held = HELD_HANDOVER;
	service_enter(service, SERVICE_HANDED, "handed-over", detail);
	json_object_set_int_member(result, "epoch", (gint64)epoch);
	vmm_answer_ok(g_steal_pointer(&service->hand_over), result);
}

static gboolean comparator_is_late(void *data)
{
	ckpt_service *service = data;

	g_warning("hand-over: the comparator does not say that it let go what is committed: "
		  "that may be heard after the other node's first words");
	service->parting = 0;
	service_drained(service);
	return G_SOURCE_REMOVE;
}

/* Who takes over speaks at once. What the guest said here last has to be said before. */
static void parted(ckpt_service *service, guint64 epoch)
{
	if (service->lingers) {
		stop_lingering(service);
	} else if (service->state == SERVICE_HANDING) {
		service->parted = epoch;
		if (service->guarded && ckpt_outputs_drain(service->outputs))
			service->parting =
				g_timeout_add(PARTING_MS, comparator_is_late, service);
		else
			service_drained(service);
	}
}

void service_drained(ckpt_service *service)
{
	if (service->parted)
		handed_over(service, service->parted);
}

/* The standby is lost. Whether the guest may go on alone is its supervisor's word. */
static void lost(ckpt_service *service, const char *why)
{
	/* From the first cut on the standby may have a commit of which we do not know. */
	gboolean must = service->hold_on_loss && service_cut_epoch(service) > 0;
	g_autofree char *reason = g_strdup(why);

	if (must && service->held == HELD_NOT && service->state != SERVICE_HANDING)
		hold(service, HELD_LOSS);
	service_end_primary(service, CKPT_END_FAULT, reason);
}

static gboolean end_of_disk_wait(void *data)
{
	ckpt_service *service = data;

	service->disk_wait = 0;
	if (service->state == SERVICE_PROTECTED) {
		g_warning("replication: nobody has the guest handed over: it is told that its "
			  "disk has failed");
		ckpt_node_keep_refused(service->node, FALSE);
	}
	return G_SOURCE_REMOVE;
}

/* The standby's disk may be sound: its supervisor decides. */
static void disk_kept(ckpt_service *service, const char *text)
{
	if (service->state != SERVICE_PROTECTED)
		return;
	if (!service->disk_wait)
		service->disk_wait = g_timeout_add(DISK_WAIT_MS, end_of_disk_wait, service);
	vmm_session_event(service->session, "disk-failed", text);
}

void service_primary_note(ckpt_service *service, const struct ckpt_note *note)
{
	if (note->kind == NOTE_COMMITTED)
		answer_checkpoints(service, note->number, NULL);
	else if (note->kind == NOTE_PARTED)
		parted(service, note->number);
	else if (note->kind == NOTE_PRIMARY_STATE &&
		 note->number == CKPT_PRIMARY_PROTECTED && service->state == SERVICE_SYNCING)
		service_enter(service, SERVICE_PROTECTED, "protected", service->peer);
	else if (note->kind == NOTE_PRIMARY_STATE && note->number == CKPT_PRIMARY_LOST)
		lost(service, note->text);
	else if (note->kind == NOTE_DISK_KEPT)
		disk_kept(service, note->text);
}

/* Commands while it lasts. */

void service_checkpoint(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	struct checkpoint_request *request = g_new0(struct checkpoint_request, 1);

	/* What was cut before this instant does not have what the asker has in mind. */
	request->epoch = service_cut_epoch(service) + 1;
	request->answer = answer;
	service->checkpoints = g_list_append(service->checkpoints, request);
	ckpt_primary_request(service->primary, CKPT_REASON_REQUEST);
}

static const char *mode_word(const ckpt_service *service)
{
	return mode_words[service->mode_auto ? MODE_AUTO : service->primary_options.mode];
}

void service_mode(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	struct ckpt_primary_options *options = &service->primary_options;
	gboolean mode_auto = service->mode_auto;

	if (!json_object_has_member(arguments, "mode")) {
		vmm_answer_error(answer, "bad-request",
				 "mode needs the argument \"mode\", text");
		return;
	}
	if (!read_mode(arguments, options, &mode_auto, answer) ||
	    !judge_auto(mode_auto, service->guarded, answer))
		return;
	service->mode_auto = mode_auto;
	ckpt_primary_set_mode(service->primary, options->mode, options->period_ms);
	vmm_session_event(service->session, "mode", mode_word(service));
	vmm_answer_ok(answer, NULL);
}

void service_choose_mode(ckpt_service *service, gboolean compare, const char *why)
{
	struct ckpt_primary_options *options = &service->primary_options;
	enum ckpt_mode mode = compare ? CKPT_MODE_COLO : CKPT_MODE_BUFFERED;
	g_autofree char *detail = g_strdup_printf("%s: %s", mode_words[mode], why);

	if (!service->primary || !service->mode_auto || options->mode == mode)
		return;
	options->mode = mode;
	ckpt_primary_set_mode(service->primary, mode, options->period_ms);
	vmm_session_event(service->session, "mode", detail);
}

static void set(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name, (gint64)MIN(value, G_MAXINT64));
}

static JsonObject *disk_progress(const struct ckpt_disk_sync_counters *disk)
{
	JsonObject *object = json_object_new();

	set(object, "bytes", disk->total);
	set(object, "done", disk->done);
	set(object, "equal", disk->equal);
	set(object, "sent", disk->data);
	set(object, "zeroes", disk->zeroes);
	return object;
}

static void set_progress(ckpt_service *service, JsonObject *object)
{
	struct ckpt_sync_progress progress;
	JsonObject *sync = json_object_new();
	JsonArray *disks = json_array_new();

	ckpt_primary_progress(service->primary, &progress);
	set(sync, "round", progress.round);
	set(sync, "memory_left", progress.memory_left);
	set(sync, "disks_left", progress.disks_left);
	set(sync, "wire_bytes", progress.wire_bytes);
	set(sync, "ms_left", progress.ms_left);
	for (guint i = 0; i < G_N_ELEMENTS(progress.disks); i++)
		if (progress.disks[i].total)
			json_array_add_object_element(disks,
						      disk_progress(&progress.disks[i]));
	json_object_set_array_member(sync, "disks", disks);
	json_object_set_object_member(object, "sync", sync);
}

static void set_link(ckpt_service *service, JsonObject *object)
{
	struct base_channel_counters counters;
	JsonObject *link = json_object_new();

	ckpt_primary_link_counters(service->primary, &counters);
	set(link, "sent_bytes", counters.sent_bytes);
	set(link, "received_bytes", counters.received_bytes);
	set(link, "sent_messages", counters.sent_messages);
	set(link, "received_messages", counters.received_messages);
	json_object_set_object_member(object, "link", link);
}

void service_primary_status(ckpt_service *service, JsonObject *object)
{
	const struct ckpt_primary_options *options = &service->primary_options;

	json_object_set_string_member(object, "mode", mode_word(service));
	json_object_set_string_member(object, "mode_now", mode_words[options->mode]);
	json_object_set_string_member(object, "on_loss",
				      loss_words[service->hold_on_loss ? 1 : 0]);
	if (service->held != HELD_NOT)
		json_object_set_string_member(object, "held", held_words[service->held]);
	else
		json_object_set_null_member(object, "held");
	json_object_set_boolean_member(object, "verify", options->verify);
	set(object, "connections", options->connections);
	if (service->state == SERVICE_SYNCING)
		set_progress(service, object);
	if (service->primary)
		set_link(service, object);
	if (service->statistics)
		json_object_set_object_member(object, "checkpoints",
					      ckpt_statistics_json(service->statistics));
}
