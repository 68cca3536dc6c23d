/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-vm's labelled steps. */
#include "checkpoint/fault.h"

#include "base/fault.h"
#include "checkpoint/protocol.h"

static const char *const names[CKPT_FAULTS] = {
	[CKPT_FAULT_LANES_OPEN] = "lanes-open",
	[CKPT_FAULT_SYNC_ROUND] = "sync-round",
	[CKPT_FAULT_SYNC_ENDS] = "sync-ends",
	[CKPT_FAULT_CUT] = "cut",
	[CKPT_FAULT_STAGED] = "staged",
	[CKPT_FAULT_RESUMED] = "resumed",
	[CKPT_FAULT_ALL_SENT] = "all-sent",
	[CKPT_FAULT_COMMITTED] = "committed",
	[CKPT_FAULT_RELEASED] = "released",
	[CKPT_FAULT_KNOWS_APPLIED] = "knows-applied",
	[CKPT_FAULT_HANDOVER_ASKED] = "handover-asked",
	[CKPT_FAULT_HANDOVER_BEFORE] = "handover-before",
	[CKPT_FAULT_HANDOVER_AT_REST] = "handover-at-rest",
	[CKPT_FAULT_HANDOVER_RELAYS] = "handover-relays",
	[CKPT_FAULT_HANDOVER_STAGED] = "handover-staged",
	[CKPT_FAULT_HANDOVER_SENT] = "handover-sent",
	[CKPT_FAULT_HANDOVER_COMMITTED] = "handover-committed",
	[CKPT_FAULT_HANDOVER_APPLIED] = "handover-applied",
	[CKPT_FAULT_HELD] = "held",
	[CKPT_FAULT_GOING_ON] = "going-on",
	[CKPT_FAULT_JOINED] = "joined",
	[CKPT_FAULT_LANES_ENDED] = "lanes-ended",
	[CKPT_FAULT_JUDGED] = "judged",
	[CKPT_FAULT_SAID_COMMITTED] = "said-committed",
	[CKPT_FAULT_AT_REST] = "at-rest",
	[CKPT_FAULT_MEMORY_APPLIED] = "memory-applied",
	[CKPT_FAULT_STATE_LOADED] = "state-loaded",
	[CKPT_FAULT_STREAMS_APPLIED] = "streams-applied",
	[CKPT_FAULT_RUNS] = "runs",
	[CKPT_FAULT_HANDED] = "handed",
	[CKPT_FAULT_HOLDING] = "holding",
	[CKPT_FAULT_GIVING_UP] = "giving-up",
	[CKPT_FAULT_PROMOTING] = "promoting",
	[CKPT_FAULT_DISKS_PROMOTED] = "disks-promoted",
	[CKPT_FAULT_PROMOTED] = "promoted",
	[CKPT_FAULT_MERGE_BEGUN] = "merge-begun",
	[CKPT_FAULT_MERGE_WRITTEN] = "merge-written",
	[CKPT_FAULT_MERGED] = "merged",
};

void ckpt_fault(enum ckpt_fault step)
{
	base_fault(names[step]);
}

static const char *name_of(guint16 type)
{
	const struct base_message_rule *rule = ckpt_rules;

	while (rule->name && rule->type != type)
		rule++;
	return rule->name ? rule->name : "unknown";
}

void ckpt_fault_sent(guint16 type)
{
	base_fault_of("sent", name_of(type));
}

void ckpt_fault_received(guint16 type)
{
	base_fault_of("received", name_of(type));
}

char **base_fault_points(void)
{
	GPtrArray *points = g_ptr_array_new();

	for (guint i = 0; i < CKPT_FAULTS; i++)
		g_ptr_array_add(points, g_strdup(names[i]));
	for (const struct base_message_rule *rule = ckpt_rules; rule->name; rule++) {
		const char *const name[] = { rule->name, NULL };

		base_fault_add(points, "sent", name);
		base_fault_add(points, "received", name);
	}
	g_ptr_array_add(points, NULL);
	return (char **)g_ptr_array_free(points, FALSE);
}
