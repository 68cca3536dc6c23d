/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps of the protocol at which a test lets this process die. */
#include "checkpoint/fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/protocol.h"

static const char *const names[CKPT_FAULTS] = {
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
	[CKPT_FAULT_HANDOVER_STAGED] = "handover-staged",
	[CKPT_FAULT_HANDOVER_SENT] = "handover-sent",
	[CKPT_FAULT_HANDOVER_COMMITTED] = "handover-committed",
	[CKPT_FAULT_HANDOVER_APPLIED] = "handover-applied",
	[CKPT_FAULT_JUDGED] = "judged",
	[CKPT_FAULT_SAID_COMMITTED] = "said-committed",
	[CKPT_FAULT_AT_REST] = "at-rest",
	[CKPT_FAULT_MEMORY_APPLIED] = "memory-applied",
	[CKPT_FAULT_STATE_LOADED] = "state-loaded",
	[CKPT_FAULT_STREAMS_APPLIED] = "streams-applied",
	[CKPT_FAULT_RUNS] = "runs",
	[CKPT_FAULT_HANDED] = "handed",
	[CKPT_FAULT_PROMOTING] = "promoting",
	[CKPT_FAULT_DISKS_PROMOTED] = "disks-promoted",
	[CKPT_FAULT_PROMOTED] = "promoted",
};

/* What the environment asks for. */
struct wish {
	char *step; /* NULL: nothing */
	gint times; /* atomic: still to be passed */
	int signal;
};

static struct wish *read_wish(void)
{
	struct wish *wish = g_new0(struct wish, 1);
	g_auto(GStrv) parts = g_strsplit(g_getenv("COLO_FAULT") ?: "", ":", 3);
	guint n = g_strv_length(parts);

	wish->times = n > 1 ? MAX(atoi(parts[1]), 1) : 1;
	wish->signal = n > 2 && !strcmp(parts[2], "stop") ? SIGSTOP : SIGKILL;
	wish->step = n && *parts[0] ? g_strdup(parts[0]) : NULL;
	return wish;
}

static void reach(const char *step)
{
	static struct wish *wish;

	if (g_once_init_enter(&wish))
		g_once_init_leave(&wish, read_wish());
	if (wish->step && !strcmp(wish->step, step) &&
	    g_atomic_int_dec_and_test(&wish->times))
		raise(wish->signal);
}

void ckpt_fault(enum ckpt_fault step)
{
	reach(names[step]);
}

static const struct base_message_rule *rule_of(guint16 type)
{
	const struct base_message_rule *rule = ckpt_rules;

	while (rule->name && rule->type != type)
		rule++;
	return rule;
}

/* "sent-disk-write" for "disk write". */
static char *message_step(const char *way, const char *type)
{
	char *step = g_strconcat(way, type, NULL);

	return g_strdelimit(step, " ", '-');
}

static void reach_message(const char *way, guint16 type)
{
	g_autofree char *step = message_step(way, rule_of(type)->name ?: "unknown");

	reach(step);
}

void ckpt_fault_sent(guint16 type)
{
	reach_message("sent-", type);
}

void ckpt_fault_received(guint16 type)
{
	reach_message("received-", type);
}

char *ckpt_fault_name(guint index)
{
	guint message;

	if (index < CKPT_FAULTS)
		return g_strdup(names[index]);
	message = (index - CKPT_FAULTS) / 2;
	for (guint i = 0; i < message; i++)
		if (!ckpt_rules[i].name)
			return NULL;
	if (!ckpt_rules[message].name)
		return NULL;
	return message_step((index - CKPT_FAULTS) % 2 ? "received-" : "sent-",
			    ckpt_rules[message].name);
}
