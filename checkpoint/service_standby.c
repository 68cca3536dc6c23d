/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service as a standby: waits for a primary, is filled, and can be promoted once it
 * holds a whole checkpoint.
 *
 * A primary that is lost before that leaves nothing: the machine is made anew and waits. One
 * that is lost afterwards leaves a state that may be the only one there is: it is kept, and
 * other primaries are turned away, until it is promoted or given up by command.
 */
#include "checkpoint/service_private.h"

#include "checkpoint/arguments.h"
#include "checkpoint/fault.h"

/* More is no clock any more, but a fault: a hundred years, */
#define PEER_CLOCK_MAX_NS (100 * G_GINT64_CONSTANT(31557600000000000))
/* and by what a measurement may be wrong that is worth something. */
#define PEER_CLOCK_ERROR_MAX_NS 1000000000u

static void tell_committed(void *data, guint64 epoch)
{
	ckpt_service *service = data;

	/* One note for the first: what comes after changes nothing here. */
	if (epoch == 1)
		service_post(service, service->round, NOTE_COMMITTED, epoch, NULL);
}

static void tell_lost(void *data, enum ckpt_ending end, const char *why)
{
	ckpt_service *service = data;

	service_post(service, service->round, NOTE_LOST, end, why);
}

static void greet_primary(ckpt_service *service, struct greeting *greeting)
{
	static const struct ckpt_secondary_hooks hooks = { .committed = tell_committed,
							   .lost = tell_lost };
	const struct ckpt_secondary_options options = { 0 };
	const struct ckpt_twin_streams streams = ckpt_node_twin_streams(service->node);

	greeting->secondary = ckpt_secondary_new_take(
		service->machine, g_steal_pointer(&greeting->channel), &options, &streams,
		&hooks, service, &greeting->error);
}

struct refusal {
	base_channel *channel;
	const char *why; /* static */
};

/* On a thread of its own: it waits for the peer to have read why. */
static void *refuse(void *data)
{
	struct refusal *refusal = data;

	ckpt_hello_refuse(refusal->channel, refusal->why);
	base_channel_free(refusal->channel);
	g_free(refusal);
	return NULL;
}

static void refuse_take(base_channel *channel, const char *why)
{
	struct refusal *refusal = g_new0(struct refusal, 1);
	GThread *thread;

	*refusal = (struct refusal){ channel, why };
	thread = g_thread_try_new("refuse", refuse, refusal, NULL);
	if (thread) {
		g_thread_unref(thread);
		return;
	}
	base_channel_free(channel);
	g_free(refusal);
}

static void turn_away_take(ckpt_service *service, base_channel *channel)
{
	g_warning("replication: %s is turned away: %s", base_channel_peer(channel),
		  service->state == SERVICE_HOLDING ?
			  "the guest of a lost primary is held here" :
			  "there is a primary");
	refuse_take(channel, "this standby has, or had, a primary already");
}

/* Further connections of a primary. */

struct early_join {
	base_channel *channel;
	struct ckpt_join join;
};

static void free_early(void *data)
{
	struct early_join *early = data;

	base_channel_free(early->channel);
	g_free(early);
}

void service_drop_early(ckpt_service *service)
{
	g_queue_clear_full(&service->early, free_early);
}

static void join_take(ckpt_service *service, base_channel *channel,
		      const struct ckpt_join *join)
{
	const char *why = "this connection is of no session here";

	if (service->secondary)
		why = ckpt_secondary_join(service->secondary, join, &channel);
	if (!channel)
		return;
	g_warning("replication: a further connection from %s is refused: %s",
		  base_channel_peer(channel), why);
	refuse_take(channel, why);
}

/* One that comes before its primary's greeting was read waits for that. */
static void called_again(ckpt_service *service, base_channel *channel,
			 const struct ckpt_join *join)
{
	struct early_join *early;

	if (!service->greeter || service->early.length >= CKPT_LANES_MAX) {
		join_take(service, channel, join);
		return;
	}
	early = g_new0(struct early_join, 1);
	*early = (struct early_join){ channel, *join };
	g_queue_push_tail(&service->early, early);
}

static void join_early(ckpt_service *service)
{
	struct early_join *early;

	while ((early = g_queue_pop_head(&service->early))) {
		join_take(service, early->channel, &early->join);
		g_free(early);
	}
}

static void welcome_take(ckpt_service *service, base_channel *channel)
{
	g_free(service->peer);
	service->peer = g_strdup(base_channel_peer(channel));
	service_greet_take(service, channel, greet_primary);
}

/* While nothing is held yet, the last primary may be gone without our having seen it: who
 * comes then is kept waiting until that is known. */
static void called(void *data, base_channel *channel, const struct ckpt_join *join,
		   const GError *error)
{
	ckpt_service *service = data;
	gboolean busy = service->greeter || service->state == SERVICE_JOINING;

	if (!service->machine) { /* the run is over */
		base_channel_free(channel);
	} else if (join) {
		called_again(service, channel, join);
	} else if (service->state == SERVICE_WAITING && !busy) {
		welcome_take(service, channel);
	} else if (busy && !service->next) {
		service->next = channel;
	} else {
		turn_away_take(service, channel);
	}
}

static void welcome_next(ckpt_service *service)
{
	if (service->next)
		welcome_take(service, g_steal_pointer(&service->next));
}

gboolean service_listen(ckpt_service *service, GError **error)
{
	g_autofree char *where = NULL;

	service->listener =
		ckpt_listener_new(service->standby, service->key, ckpt_rules, called, service,
				  error);
	if (!service->listener)
		return FALSE;
	service->state = SERVICE_WAITING;
	where = g_strdup_printf("port %u", ckpt_listener_port(service->listener));
	service_enter(service, SERVICE_WAITING, "waiting", where);
	return TRUE;
}

void service_greeted_standby(ckpt_service *service, struct greeting *greeting)
{
	service->secondary = g_steal_pointer(&greeting->secondary);
	join_early(service);
	service->taken_back = FALSE;
	if (service->secondary) {
		ckpt_fault(CKPT_FAULT_JOINED);
		service_enter(service, SERVICE_JOINING, "joining", service->peer);
		return;
	}
	g_warning("replication: %s: %s", service->peer, greeting->error->message);
	g_free(service->why);
	service->why = g_strdup(greeting->error->message);
	welcome_next(service);
}

static void wait_again(ckpt_service *service, const char *why)
{
	g_autofree char *reason = g_strdup(why);
	base_channel *next = g_steal_pointer(&service->next);

	/* Whatever is here now is no part of what comes. */
	vmm_session_renew(service->session);
	service_enter(service, SERVICE_WAITING, "waiting", reason);
	service->next = next;
	if (service->machine)
		welcome_next(service);
	else
		g_clear_pointer(&service->listener, ckpt_listener_free);
}

/* One that said why it ends is no dead one: what is to be done is another question then. */
static void lost(ckpt_service *service, enum ckpt_ending end, const char *why)
{
	g_free(service->why);
	service->why = g_strdup(why);
	service->taken_back = end == CKPT_END_RESUMED;
	if (!ckpt_secondary_is_promotable(service->secondary)) {
		wait_again(service, why);
		return;
	}
	ckpt_fault(CKPT_FAULT_HOLDING);
	service_enter(service, SERVICE_HOLDING,
		      end == CKPT_END_FAULT ? "primary-lost" : "primary-ended",
		      end == CKPT_END_FAULT ? why : ckpt_end_name(end));
}

/* What it holds cannot be kept: the primary must not count on it. */
static void disk_failed(ckpt_service *service, const char *why)
{
	vmm_session_event(service->session, "disk-failed", why);
	/* What is held already may be the only copy: it is kept, for better or worse. */
	if (service->secondary)
		ckpt_secondary_refuse(service->secondary, why);
}

void service_standby_note(ckpt_service *service, const struct ckpt_note *note)
{
	if (note->kind == NOTE_COMMITTED && service->state == SERVICE_JOINING) {
		service_enter(service, SERVICE_STANDBY, "standby", service->peer);
		if (service->next)
			turn_away_take(service, g_steal_pointer(&service->next));
	} else if (note->kind == NOTE_DISK_FAILED) {
		disk_failed(service, note->text);
	} else if (note->kind == NOTE_LOST) {
		lost(service, (enum ckpt_ending)note->number, note->text);
	}
}

void service_promote(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	GError *error = NULL;
	g_autofree char *detail = NULL;

	if (!ckpt_secondary_promote(service->secondary, &error)) {
		vmm_answer_error(answer, "failed", error->message);
		g_error_free(error);
		return;
	}
	/* What is loaded here from now on is not of that host. */
	vmm_machine_set_peer_clock(service->machine, VMM_PEER_CLOCK_UNKNOWN);
	detail = g_strdup_printf("epoch %" G_GUINT64_FORMAT,
				 ckpt_secondary_epoch(service->secondary));
	g_clear_pointer(&service->secondary, ckpt_secondary_free);
	g_clear_pointer(&service->listener, ckpt_listener_free);
	service->round++;
	service_enter(service, SERVICE_UNPROTECTED, "promoted", detail);
	service_set_gate(service);
	vmm_session_started(service->session);
	vmm_answer_ok(answer, NULL);
}

void service_stand_by(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	ckpt_fault(CKPT_FAULT_GIVING_UP);
	wait_again(service, "command");
	vmm_answer_ok(answer, NULL);
}

/* Of a primary it is remembered, and nothing else. */
void service_peer_clock(ckpt_service *service, JsonObject *arguments, vmm_answer *answer)
{
	guint64 error_ns = G_MAXUINT64;
	gint64 offset_ns = VMM_PEER_CLOCK_UNKNOWN;

	if (!ckpt_argument_signed(arguments, "offset_ns", -PEER_CLOCK_MAX_NS, PEER_CLOCK_MAX_NS,
				  &offset_ns, answer) ||
	    !ckpt_argument_number(arguments, "error_ns", 0, PEER_CLOCK_ERROR_MAX_NS, &error_ns,
				  answer))
		return;
	if (offset_ns == VMM_PEER_CLOCK_UNKNOWN || error_ns == G_MAXUINT64) {
		vmm_answer_error(answer, "bad-request",
				 "peer-clock needs the arguments \"offset_ns\" and "
				 "\"error_ns\", numbers");
		return;
	}
	service->peer_clock_ns = offset_ns;
	service->peer_clock_error_ns = error_ns;
	if (service->machine && service->state >= SERVICE_WAITING)
		vmm_machine_set_peer_clock(service->machine, offset_ns);
	vmm_answer_ok(answer, NULL);
}

static void set_peer_clock(ckpt_service *service, JsonObject *object)
{
	JsonObject *clock;

	if (service->peer_clock_ns == VMM_PEER_CLOCK_UNKNOWN) {
		json_object_set_null_member(object, "peer_clock");
		return;
	}
	clock = json_object_new();
	json_object_set_int_member(clock, "offset_ns", service->peer_clock_ns);
	json_object_set_int_member(clock, "error_ns", (gint64)service->peer_clock_error_ns);
	json_object_set_object_member(object, "peer_clock", clock);
}

void service_standby_status(ckpt_service *service, JsonObject *object)
{
	guint64 epoch = service->secondary ? ckpt_secondary_epoch(service->secondary) : 0;

	json_object_set_int_member(object, "epoch", (gint64)epoch);
	json_object_set_boolean_member(object, "promotable",
				       service->secondary &&
					       ckpt_secondary_is_promotable(
						       service->secondary));
	set_peer_clock(service, object);
	json_object_set_boolean_member(object, "handed_over",
				       service->secondary && !service->taken_back &&
					       ckpt_secondary_is_handed(service->secondary));
}
