/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colod says of its node, as JSON. */
#include "colo/status.h"

#include <string.h>
#include <unistd.h>

#include "base/protocol.h"

#define NAME "colod"
#define VERSION "0.1"

static void set(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name, (gint64)value);
}

static void set_text(JsonObject *object, const char *name, const char *text)
{
	base_json_set_text(object, name, text);
}

static void set_object(JsonObject *object, const char *name, JsonObject *member_take)
{
	if (member_take)
		json_object_set_object_member(object, name, member_take);
	else
		json_object_set_null_member(object, name);
}

static JsonObject *member_object(JsonObject *object, const char *name)
{
	JsonNode *node = object ? json_object_get_member(object, name) : NULL;

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* The same of another's document, shared. */
static JsonObject *shared(JsonObject *object, const char *name)
{
	JsonObject *member = member_object(object, name);

	return member ? json_object_ref(member) : NULL;
}

static const char *role_name(enum colo_state state)
{
	if (colo_state_is_primary(state))
		return "primary";
	return colo_state_is_secondary(state) ? "secondary" : "none";
}

static gboolean is_protected(const struct colo_node_view *view)
{
	return !view->arbiter_lost &&
	       (view->state == COLO_PROTECTED || view->state == COLO_STANDBY);
}

static JsonObject *guest_status(JsonObject *vm)
{
	JsonObject *object = json_object_new();
	const char *state = vm ? base_json_text(vm, "state") : NULL;
	guint64 uptime = 0;

	set_text(object, "state", state ? state : "none");
	if (vm && base_json_count(vm, "uptime_ms", &uptime))
		set(object, "uptime_ms", uptime);
	else
		json_object_set_null_member(object, "uptime_ms");
	return object;
}

static JsonObject *peer_status(const struct colo_status_sources *sources,
			       const struct colo_node_view *view)
{
	JsonObject *object = json_object_new();
	const gboolean known = view->peer_up || view->peer_alive;

	set_text(object, "name", sources->pair->node[!sources->self].name);
	json_object_set_boolean_member(object, "reachable", view->peer_up);
	json_object_set_boolean_member(object, "alive", view->peer_alive);
	set_text(object, "state", known ? colo_state_name(view->peer.state) : NULL);
	if (known)
		set(object, "generation", view->peer.generation);
	else
		json_object_set_null_member(object, "generation");
	set_text(object, "differs", view->unlike);
	set_text(object, "trouble", view->peer_up || !sources->peer ?
					    NULL :
					    colo_peer_trouble(sources->peer));
	return object;
}

static JsonObject *path_status(const struct colo_status_sources *sources,
			       const struct hb_path_report *path, guint i)
{
	JsonObject *object = json_object_new();
	const guint32 silent = wire_get32(path->silent_ms);
	g_autofree char *name =
		g_strdup_printf("%s - %s", sources->pair->node[sources->self].heartbeat[i],
				sources->pair->node[!sources->self].heartbeat[i]);

	set_text(object, "path", name);
	json_object_set_boolean_member(object, "up", path->up);
	json_object_set_boolean_member(object, "hears_us", path->hears_us);
	if (silent == G_MAXUINT32)
		json_object_set_null_member(object, "silent_ms");
	else
		set(object, "silent_ms", silent);
	set(object, "rtt_us", wire_get32(path->rtt_us));
	set(object, "jitter_us", wire_get32(path->jitter_us));
	set(object, "loss_ppm", wire_get32(path->loss_ppm));
	set(object, "sent", wire_get64(path->sent));
	set(object, "received", wire_get64(path->received));
	set(object, "malformed", wire_get64(path->malformed));
	set(object, "forged", wire_get64(path->forged));
	set(object, "replayed", wire_get64(path->replayed));
	set(object, "reflected", wire_get64(path->reflected));
	return object;
}

static JsonObject *heartbeat_status(const struct colo_status_sources *sources)
{
	const struct hb_report *report = colo_beat_report(sources->beat);
	JsonObject *object;
	JsonArray *paths;

	if (!report)
		return NULL;
	object = json_object_new();
	paths = json_array_new();
	json_object_set_boolean_member(object, "alive", report->alive);
	for (guint i = 0; i < MIN(report->paths, sources->pair->paths); i++)
		json_array_add_object_element(paths,
					      path_status(sources, &report->path[i], i));
	json_object_set_array_member(object, "paths", paths);
	if (report->offset_known) {
		json_object_set_int_member(object, "clock_offset_us",
					   (gint64)wire_get64(report->clock_offset_ns) / 1000);
		set(object, "clock_error_us", wire_get64(report->clock_error_ns) / 1000);
	} else {
		json_object_set_null_member(object, "clock_offset_us");
		json_object_set_null_member(object, "clock_error_us");
	}
	set(object, "stalls", wire_get64(report->stalls));
	set(object, "longest_stall_ms", wire_get64(report->stalled_ms));
	return object;
}

static char *record_words(const struct colo_status_sources *sources,
			  const struct colo_arbiter_record *record)
{
	if (record->solo)
		return g_strdup_printf("solo %s, generation %" G_GUINT64_FORMAT,
				       sources->pair->node[record->owner].name,
				       record->generation);
	return g_strdup_printf("protected, generation %" G_GUINT64_FORMAT, record->generation);
}

static JsonObject *arbiter_status(const struct colo_status_sources *sources,
				  const struct colo_node_view *view)
{
	JsonObject *object = json_object_new();
	g_autofree char *record =
		view->arbiter_known ? record_words(sources, &view->arbiter) : NULL;
	const char *state = !view->asked				    ? "not asked" :
			    view->verdict == COLO_VERDICT_UNREACHABLE ? "unreachable" :
									    "ok";

	set_text(object, "kind", sources->arbiter);
	set_text(object, "state", state);
	set_text(object, "record", record);
	set_text(object, "detail", view->arbiter_why);
	return object;
}

static void copy_count(JsonObject *to, const char *name, JsonObject *from, const char *member)
{
	guint64 value;

	if (from && base_json_count(from, member, &value))
		set(to, name, value);
	else
		json_object_set_null_member(to, name);
}

static JsonObject *comparator_status(const struct colo_status_sources *sources)
{
	JsonObject *status = sources->guard ? colo_guard_status(sources->guard) : NULL;
	JsonObject *packets = member_object(status, "packets");
	JsonObject *object;

	if (!status)
		return NULL;
	object = json_object_new();
	set_text(object, "gate", base_json_text(status, "gate"));
	set_object(object, "mode", shared(status, "mode"));
	copy_count(object, "matched", packets, "matched");
	copy_count(object, "committed", packets, "committed");
	copy_count(object, "dropped", packets, "dropped");
	copy_count(object, "held", status, "held");
	copy_count(object, "requests", status, "requests");
	set_object(object, "divergences", shared(status, "divergences"));
	set_object(object, "hold_us", shared(status, "hold-us"));
	return object;
}

static JsonObject *program_status(const char *name, pid_t pid, guint restarts)
{
	JsonObject *object = json_object_new();

	set_text(object, "name", name);
	if (pid)
		set(object, "pid", (guint64)pid);
	else
		json_object_set_null_member(object, "pid");
	json_object_set_boolean_member(object, "running", pid != 0);
	set(object, "restarts", restarts);
	return object;
}

static JsonArray *programs_status(const struct colo_status_sources *sources)
{
	JsonArray *programs = json_array_new();
	const colo_program *beat = colo_beat_program(sources->beat);
	const colo_program *guard =
		sources->guard ? colo_guard_program(sources->guard) : NULL;

	json_array_add_object_element(
		programs, program_status("colo-vm", colo_guest_pid(sources->guest), 0));
	json_array_add_object_element(programs,
				      program_status(colo_program_name(beat),
						     colo_program_pid(beat),
						     colo_program_restarts(beat)));
	if (guard)
		json_array_add_object_element(programs,
					      program_status(colo_program_name(guard),
							     colo_program_pid(guard),
							     colo_program_restarts(guard)));
	return programs;
}

static JsonObject *logs_status(const struct colo_status_sources *sources)
{
	JsonObject *logs = json_object_new();
	g_autofree char *vm = colo_guest_log(sources->guest);
	g_autofree char *beat = colo_program_log(colo_beat_program(sources->beat));

	set_text(logs, "colo-vm", vm);
	set_text(logs, "colo-heartbeat", beat);
	if (sources->guard) {
		g_autofree char *guard =
			colo_program_log(colo_guard_program(sources->guard));

		set_text(logs, "colo-netcompare", guard);
	}
	return logs;
}

static void set_reason(JsonObject *object, const struct colo_status_sources *sources,
		       const struct colo_node_view *view)
{
	const guint64 silent_ms = colo_guest_silent_ms(sources->guest);
	g_autofree char *silent = NULL;

	if (silent_ms && !view->reason)
		silent = g_strdup_printf("colo-vm has not answered for %" G_GUINT64_FORMAT
					 " s: it is stopped or hangs",
					 silent_ms / 1000);
	set_text(object, "reason", view->reason ? view->reason : silent);
	set_text(object, "advice", view->advice);
}

JsonObject *colo_status(const struct colo_status_sources *sources)
{
	JsonObject *object = json_object_new();
	JsonObject *vm = colo_guest_status(sources->guest);
	JsonObject *replication = member_object(vm, "replication");
	struct colo_node_view view;
	g_autofree char *console = colo_guest_console(sources->guest);

	colo_node_view(sources->node, &view);
	set_text(object, "name", NAME);
	set_text(object, "version", VERSION);
	set(object, "pid", (guint64)getpid());
	set_text(object, "pair", sources->pair->name);
	set_text(object, "node", sources->pair->node[sources->self].name);
	set_text(object, "state", colo_state_name(view.state));
	set_text(object, "role", role_name(view.state));
	json_object_set_boolean_member(object, "protected", is_protected(&view));
	set(object, "since_ms", sources->now_ms - view.since_ms);
	set(object, "generation", view.record.generation);
	set_text(object, "part", colo_part_name(view.record.part));
	set(object, "epoch", view.epoch);
	set_reason(object, sources, &view);
	set_object(object, "guest", guest_status(vm));
	set_object(object, "sync",
		   view.state == COLO_SYNCING || view.state == COLO_JOINING ?
			   shared(replication, "sync") :
			   NULL);
	set_object(object, "checkpoints", shared(replication, "checkpoints"));
	set_text(object, "mode",
		 replication ? base_json_text(replication, "mode_now") : NULL);
	set_object(object, "peer", peer_status(sources, &view));
	set_object(object, "heartbeat", heartbeat_status(sources));
	set_object(object, "arbiter", arbiter_status(sources, &view));
	set_object(object, "comparator", comparator_status(sources));
	json_object_set_array_member(object, "programs", programs_status(sources));
	set_text(object, "console", colo_guest_pid(sources->guest) ? console : NULL);
	set_object(object, "logs", logs_status(sources));
	return object;
}

char *colo_status_line(const struct colo_status_sources *sources)
{
	struct colo_node_view view;

	colo_node_view(sources->node, &view);
	return g_strdup_printf("%s%s%s, generation %" G_GUINT64_FORMAT "%s%s",
			       colo_state_name(view.state), *role_name(view.state) ? ", " : "",
			       role_name(view.state), view.record.generation,
			       view.reason ? ": " : "", view.reason ? view.reason : "");
}
