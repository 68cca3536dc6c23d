/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service and the comparator: what becomes of what the guest sends.
 *
 * The gate is open while the machine runs alone and may, guarded from the first cut of
 * a replication on, closed on a standby and while the guest is held after a loss. A
 * replication that is "unguarded" leaves it open. Where the run ends under a secondary, what
 * the guest said and nothing covers stays held for good: the secondary may be promoted.
 */
#include "checkpoint/service_private.h"

static gboolean is_standby(const ckpt_service *service)
{
	return service->state >= SERVICE_WAITING;
}

/* From the outputs' thread. */

static void tell_ready(void *data, const char *why)
{
	ckpt_service *service = data;

	g_mutex_lock(&service->asking);
	if (service->asked)
		ckpt_primary_listen(service->asked, !why);
	/* Of the epoch under way it knows nothing. */
	if (service->asked && !why && service_cut_epoch(service) > 0)
		ckpt_primary_request(service->asked, CKPT_REASON_DIVERGED);
	g_mutex_unlock(&service->asking);
	service_post(service, 0, NOTE_COMPARATOR, 0, why);
}

static void tell_request(void *data, guint32 cause)
{
	ckpt_service *service = data;

	g_mutex_lock(&service->asking);
	if (service->asked)
		ckpt_primary_request(service->asked, CKPT_REASON_DIVERGED);
	service->asks = !service->asked;
	g_mutex_unlock(&service->asking);
}

static void tell_mode(void *data, gboolean compare, const char *why)
{
	service_post(data, 0, NOTE_MODE, compare, why);
}

static void tell_drained(void *data)
{
	service_post(data, 0, NOTE_DRAINED, 0, NULL);
}

/* From the primary's threads. */

void service_tell_cut(ckpt_service *service, guint64 epoch, gboolean run)
{
	guint8 marker[CKPT_MARKER_BYTES];

	if (!service->guarded ||
	    !ckpt_outputs_cut(service->outputs, epoch, run,
			      ckpt_node_mac(service->node), marker))
		return;
	ckpt_outputs_marked(service->outputs,
			    ckpt_node_send_own(service->node, marker, sizeof(marker)));
}

void service_tell_committed(ckpt_service *service, guint64 epoch)
{
	if (service->guarded)
		ckpt_outputs_committed(service->outputs, epoch);
}

void service_tell_output(void *data, guint64 epoch, guint device, gboolean lost,
			 const void *bytes, gsize len)
{
	ckpt_service *service = data;

	if (service->guarded)
		ckpt_outputs_frame(service->outputs, epoch, device, lost, bytes, len);
}

/* From the main context. */

gboolean service_open_outputs(ckpt_service *service, GError **error)
{
	const struct ckpt_outputs_hooks hooks = { service, tell_ready, tell_request,
						  tell_mode, tell_drained };

	if (!service->outputs_path)
		return TRUE;
	service->outputs =
		ckpt_outputs_new(service->outputs_path,
				 vmm_machine_nets(service->machine), &hooks, error);
	return service->outputs != NULL;
}

void service_set_gate(ckpt_service *service)
{
	gboolean closed = is_standby(service) || service->held != HELD_NOT || service->ending;

	if (service->outputs)
		ckpt_outputs_set_gate(service->outputs,
				      closed ? WIRE_GATE_CLOSED : WIRE_GATE_OPEN);
}

void service_set_asked(ckpt_service *service, ckpt_primary *primary)
{
	if (!service->guarded)
		return;
	g_mutex_lock(&service->asking);
	service->asked = primary;
	if (primary)
		ckpt_primary_listen(primary, ckpt_outputs_is_ready(service->outputs));
	if (primary && service->asks)
		ckpt_primary_request(primary, CKPT_REASON_DIVERGED);
	service->asks = FALSE;
	g_mutex_unlock(&service->asking);
}

static void set(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name, (gint64)MIN(value, G_MAXINT64));
}

static JsonObject *describe(const ckpt_service *service)
{
	static const char *const gates[] = { [WIRE_GATE_CLOSED] = "closed",
					     [WIRE_GATE_OPEN] = "open",
					     [WIRE_GATE_GUARDED] = "guarded" };
	JsonObject *object = json_object_new();
	JsonArray *causes = json_array_new();
	struct ckpt_outputs_counters counters;

	ckpt_outputs_get_counters(service->outputs, &counters);
	json_object_set_boolean_member(object, "connected", counters.connected);
	json_object_set_boolean_member(object, "ready", counters.ready);
	json_object_set_string_member(object, "gate", gates[counters.gate]);
	set(object, "epoch", counters.epoch);
	set(object, "committed", counters.committed);
	set(object, "connections", counters.connections);
	set(object, "hung_up", counters.hung_up);
	set(object, "frames", counters.frames);
	set(object, "bytes", counters.bytes);
	set(object, "stale", counters.stale);
	set(object, "lost", counters.lost);
	set(object, "markers_sent", counters.markers_sent);
	set(object, "markers_missed", counters.markers_missed);
	for (guint i = 0; i < CKPT_OUTPUT_CAUSES; i++)
		json_array_add_int_element(causes, (gint64)counters.requests[i]);
	json_object_set_array_member(object, "requests", causes);
	set(object, "late_requests", counters.late_requests);
	return object;
}

void service_outputs_status(ckpt_service *service, JsonObject *object)
{
	if (service->outputs)
		json_object_set_object_member(object, "outputs", describe(service));
	else
		json_object_set_null_member(object, "outputs");
}
