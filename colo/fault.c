/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colod's labelled steps (base/fault.h).
 *
 * "arbiter-X": it is about to be asked; "verdict-X": its answer is here and nobody acted on it.
 * "record-due-PART": nothing is written; "flushed": the new file is whole, beside the old one;
 * "renamed": in its place; "durable". "state-X": the node is in that state, as far as it has to
 * be on disk, and has done nothing for it yet. "say-X": colo-vm is about to be told, "answered-X":
 * it has answered. "ask-X": the other node is about to be asked, "asked-X": we are, "answer-yes"
 * and "answer-no": we are about to answer, "told-X": its answer is here.
 */
#include "base/fault.h"

#include "colo/node.h"

static const char *const single[] = {
	"startup-decided",
	"vm-start", /* colo-vm is to be started */
	"vm-started", /* it was, and was not spoken to */
	"vm-adopted", /* it was found running */
	"vm-end", /* it is to be ended */
	"vm-gone", /* it has ended, nobody acted on it */
	"answer-yes",
	"answer-no",
	NULL,
};
static const char *const questions[] = { "read", "claim", "protect", "create", NULL };
/* Words of colo-vm's control socket. */
static const char *const words[] = { "protect",	  "unprotect", "resume",
				     "promote",	  "standby",   "hand-over",
				     "powerdown", "checkpoint", "reset",
				     NULL };

static void add_one(GPtrArray *points, const char *step, const char *kind)
{
	const char *const kinds[] = { kind, NULL };

	base_fault_add(points, step, kinds);
}

static void add_named(GPtrArray *points)
{
	for (guint ask = COLO_ASK_CONSENT; ask <= COLO_ASK_STOP; ask++) {
		const char *name = colo_ask_name((enum colo_ask)ask);

		add_one(points, "ask", name);
		add_one(points, "asked", name);
		add_one(points, "told", name);
	}
	for (guint part = 0; part <= COLO_PART_PROMOTED; part++) {
		const char *name = colo_part_name((enum colo_part)part);

		add_one(points, "record-due", name);
		add_one(points, "record-flushed", name);
		add_one(points, "record-renamed", name);
		add_one(points, "record-durable", name);
	}
	for (guint state = 0; state < COLO__STATES; state++)
		add_one(points, "state", colo_state_name((enum colo_state)state));
}

char **base_fault_points(void)
{
	GPtrArray *points = g_ptr_array_new();

	for (guint i = 0; single[i]; i++)
		g_ptr_array_add(points, g_strdup(single[i]));
	base_fault_add(points, "arbiter", questions);
	base_fault_add(points, "verdict", questions);
	base_fault_add(points, "say", words);
	base_fault_add(points, "answered", words);
	add_named(points);
	g_ptr_array_add(points, NULL);
	return (char **)g_ptr_array_free(points, FALSE);
}
