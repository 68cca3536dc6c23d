/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of roles. */
#include "colo/roles.h"

#include "colo/node_private.h"

#define STEP(next, durable, action) { TRUE, next, durable, action }

static const struct colo_step steps[COLO__STATES][COLO__EVENTS] = {
	[COLO_STOPPED] = {
		[COLO_ON_START] = STEP(COLO_WAITING, COLO_AS_STARTED, node_look_around),
		[COLO_ON_CONSENT] = STEP(COLO_STOPPED, COLO_AS_OLDER, node_consented),
		[COLO_ON_DISCARD] = STEP(COLO_STOPPED, COLO_AS_NONE, NULL),
		[COLO_ON_FORCE] = STEP(COLO_SOLO, COLO_AS_SOLO, node_start_guest),
		[COLO_ON_GONE] = STEP(COLO_STOPPED, COLO_KEEP, NULL),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, NULL),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, NULL),
	},
	[COLO_WAITING] = {
		[COLO_ON_START] = STEP(COLO_WAITING, COLO_AS_STARTED, node_look_around),
		[COLO_ON_BEGIN] = STEP(COLO_SOLO, COLO_AS_SOLO, node_start_guest),
		[COLO_ON_JOIN] = STEP(COLO_JOINING, COLO_AS_NONE, node_start_standby),
		[COLO_ON_CONSENT] = STEP(COLO_WAITING, COLO_AS_OLDER, node_consented),
		[COLO_ON_DISCARD] = STEP(COLO_WAITING, COLO_AS_NONE, node_look_around),
		[COLO_ON_FORCE] = STEP(COLO_SOLO, COLO_AS_SOLO, node_start_guest),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, NULL),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, NULL),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, NULL),
	},
	[COLO_SOLO] = {
		[COLO_ON_READY] = STEP(COLO_SYNCING, COLO_KEEP, node_begin_sync),
		[COLO_ON_DURABLE] = STEP(COLO_SOLO, COLO_AS_SOLO, NULL),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_SYNCING] = {
		[COLO_ON_COMMIT] = STEP(COLO_SYNCING, COLO_AS_PRIMARY, node_seal_on),
		[COLO_ON_SEALED] = STEP(COLO_PROTECTED, COLO_KEEP, NULL),
		[COLO_ON_DURABLE] = STEP(COLO_SYNCING, COLO_AS_SOLO, NULL),
		[COLO_ON_LOSS] = STEP(COLO_SOLO, COLO_AS_SOLO, node_resume_guest),
		[COLO_ON_DOUBT] = STEP(COLO_HOLDING, COLO_KEEP, node_ask_grant),
		[COLO_ON_OVERTAKEN] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_PROTECTED] = {
		[COLO_ON_DOUBT] = STEP(COLO_HOLDING, COLO_KEEP, node_ask_grant),
		[COLO_ON_LEAVE] = STEP(COLO_HANDING, COLO_AS_LEAVING, node_hand_over),
		[COLO_ON_OVERTAKEN] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_HOLDING] = {
		[COLO_ON_GRANTED] = STEP(COLO_SOLO, COLO_AS_SOLO, node_resume_guest),
		[COLO_ON_FORCE] = STEP(COLO_SOLO, COLO_AS_SOLO, node_resume_guest),
		[COLO_ON_DENIED] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_OVERTAKEN] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_DISCARD] = STEP(COLO_FENCED, COLO_AS_NONE, node_kill_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_HANDING] = {
		[COLO_ON_HANDED] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_DOUBT] = STEP(COLO_HOLDING, COLO_AS_PRIMARY, node_ask_grant),
		[COLO_ON_OVERTAKEN] = STEP(COLO_FENCED, COLO_AS_OLDER, node_kill_vm),
		[COLO_ON_GRANTED] = STEP(COLO_SOLO, COLO_AS_SOLO, node_resume_guest),
		[COLO_ON_FORCE] = STEP(COLO_SOLO, COLO_AS_SOLO, node_resume_guest),
		[COLO_ON_DISCARD] = STEP(COLO_FENCED, COLO_AS_NONE, node_kill_vm),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_JOINING] = {
		[COLO_ON_SEAL] = STEP(COLO_STANDBY, COLO_AS_STANDBY, node_sealed_here),
		[COLO_ON_CONSENT] = STEP(COLO_JOINING, COLO_AS_NONE, node_consented),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_STANDBY] = {
		[COLO_ON_SEAL] = STEP(COLO_STANDBY, COLO_AS_STANDBY, node_sealed_here),
		[COLO_ON_CLAIM] = STEP(COLO_PROMOTING, COLO_KEEP, node_ask_grant),
		[COLO_ON_TAKE] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED, node_promote),
		[COLO_ON_FORCE] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED, node_promote),
		[COLO_ON_CONSENT] = STEP(COLO_JOINING, COLO_AS_NONE, node_give_up_consenting),
		[COLO_ON_OVERTAKEN] = STEP(COLO_JOINING, COLO_AS_NONE, node_give_up),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_ENDED] = STEP(COLO_STOPPED, COLO_AS_STOPPED, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_PROMOTING] = {
		[COLO_ON_GRANTED] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED, node_promote),
		[COLO_ON_TAKE] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED, node_promote),
		[COLO_ON_FORCE] = STEP(COLO_PROMOTING, COLO_AS_PROMOTED, node_promote),
		[COLO_ON_PROMOTED] = STEP(COLO_SOLO, COLO_KEEP, node_alone),
		[COLO_ON_DENIED] = STEP(COLO_JOINING, COLO_AS_NONE, node_give_up),
		[COLO_ON_CONSENT] = STEP(COLO_JOINING, COLO_AS_NONE, node_give_up_consenting),
		[COLO_ON_OVERTAKEN] = STEP(COLO_JOINING, COLO_AS_NONE, node_give_up),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_end_vm),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
	},
	[COLO_FENCED] = {
		[COLO_ON_CONSENT] = STEP(COLO_FENCED, COLO_AS_OLDER, node_consented),
		[COLO_ON_GONE] = STEP(COLO_WAITING, COLO_KEEP, node_look_around),
		[COLO_ON_STAND_DOWN] = STEP(COLO_STOPPED, COLO_KEEP, node_kill_vm),
	},
};

static const char *const state_names[COLO__STATES] = {
	[COLO_STOPPED] = "stopped",	[COLO_WAITING] = "waiting",
	[COLO_SOLO] = "solo",		[COLO_SYNCING] = "syncing",
	[COLO_PROTECTED] = "protected", [COLO_HOLDING] = "holding",
	[COLO_HANDING] = "handing",	[COLO_JOINING] = "joining",
	[COLO_STANDBY] = "standby",	[COLO_PROMOTING] = "promoting",
	[COLO_FENCED] = "fenced",
};

static const char *const event_names[COLO__EVENTS] = {
	[COLO_ON_START] = "start",	     [COLO_ON_BEGIN] = "begin",
	[COLO_ON_JOIN] = "join",	     [COLO_ON_READY] = "ready",
	[COLO_ON_COMMIT] = "commit",	     [COLO_ON_SEALED] = "sealed",
	[COLO_ON_SEAL] = "seal",
	[COLO_ON_LOSS] = "loss",	     [COLO_ON_DOUBT] = "doubt",
	[COLO_ON_CLAIM] = "claim",	     [COLO_ON_GRANTED] = "grant",
	[COLO_ON_DENIED] = "denial",	     [COLO_ON_OVERTAKEN] = "overtaken",
	[COLO_ON_PROMOTED] = "promotion",    [COLO_ON_DURABLE] = "durable",
	[COLO_ON_LEAVE] = "leave",	     [COLO_ON_HANDED] = "handed",
	[COLO_ON_TAKE] = "take",	     [COLO_ON_CONSENT] = "consent",
	[COLO_ON_FORCE] = "force",	     [COLO_ON_DISCARD] = "discard",
	[COLO_ON_STAND_DOWN] = "stand-down", [COLO_ON_ENDED] = "end",
	[COLO_ON_GONE] = "gone",
};

const struct colo_step *colo_roles_step(enum colo_state state, enum colo_event event)
{
	return &steps[state][event];
}

const char *colo_state_name(enum colo_state state)
{
	return (guint)state < COLO__STATES ? state_names[state] : "unknown";
}

const char *colo_event_name(enum colo_event event)
{
	return (guint)event < COLO__EVENTS ? event_names[event] : "unknown";
}

gboolean colo_state_is_primary(enum colo_state state)
{
	return state == COLO_SOLO || state == COLO_SYNCING || state == COLO_PROTECTED ||
	       state == COLO_HOLDING || state == COLO_HANDING;
}

gboolean colo_state_is_secondary(enum colo_state state)
{
	return state == COLO_JOINING || state == COLO_STANDBY || state == COLO_PROMOTING;
}
