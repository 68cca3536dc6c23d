/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Epochs of the comparison: markers, commits, the gate.
 *
 * A held packet is known to be of epoch e or, where markers were lost, a later one; it
 * is known to be before whatever marker was seen after it. So a commit of N releases
 * what is before the highest marker that is not above N, and what comes behind that is
 * compared only if this marker is N's own.
 */
#include "netcompare/engine.h"

#include <string.h>

gboolean ncmp_is_listening(const ncmp_compare *compare)
{
	return compare->gate == NCMP_GATE_GUARDED && compare->committed &&
	       compare->runs &&
	       (!compare->has_gate_marker || compare->epoch > compare->gate_marker);
}

gboolean ncmp_is_live(const ncmp_compare *compare)
{
	return ncmp_is_listening(compare) && compare->has_marker &&
	       compare->marker == compare->epoch && !compare->uncertain;
}

/* Into comparison goes what was kept for this epoch. */
static void compare_held(ncmp_compare *compare, gint64 now_ns)
{
	GList *link = compare->held.head;

	while (link) {
		struct ncmp_held *held = link->data;

		/* Judging it may end it, and those before it, but none behind it. */
		link = link->next;
		if (held->epoch == compare->epoch && held->certain)
			ncmp_take(compare, held, now_ns);
	}
}

/* What is before the highest marker that is not above the committed epoch goes out. */
static void release_committed(ncmp_compare *compare, gint64 now_ns)
{
	guint64 number;
	guint n = 0;

	while (n < compare->markers_count &&
	       compare->markers[n].epoch <= compare->epoch)
		n++;
	if (!n)
		return;
	number = compare->markers[n - 1].number;
	compare->markers_count -= n;
	memmove(compare->markers, compare->markers + n,
		compare->markers_count * sizeof(*compare->markers));
	while (compare->held.head) {
		struct ncmp_held *held = compare->held.head->data;

		if (held->marker_number >= number)
			break;
		ncmp_detach(compare, held);
		ncmp_cover(compare, &held->packet, now_ns);
		ncmp_finish(compare, held, NCMP_COMMITTED, NULL, now_ns);
	}
}

void ncmp_compare_marker(ncmp_compare *compare, guint64 epoch, gint64 now_ns)
{
	if (compare->has_marker && epoch <= compare->marker) {
		compare->counters.markers_ignored++;
		return;
	}
	compare->has_marker = TRUE;
	compare->marker = epoch;
	compare->uncertain = FALSE;
	/* Without the oldest, what is before it is held until the next one's commit. */
	if (compare->markers_count == NCMP_MARKERS_MAX)
		memmove(compare->markers, compare->markers + 1,
			--compare->markers_count * sizeof(*compare->markers));
	compare->markers[compare->markers_count].epoch = epoch;
	compare->markers[compare->markers_count++].number = ++compare->marker_number;
	if (compare->gate == NCMP_GATE_GUARDED && compare->committed &&
	    epoch <= compare->epoch)
		release_committed(compare, now_ns);
}

void ncmp_compare_cut(ncmp_compare *compare, guint64 epoch, gboolean runs)
{
	struct ncmp_cut *cut = &compare->cuts[compare->next_cut++ % NCMP_CUTS_MAX];

	cut->epoch = epoch;
	cut->runs = runs;
	cut->known = TRUE;
}

static gboolean secondary_runs(const ncmp_compare *compare, guint64 epoch)
{
	/* The last that was said. */
	for (guint i = 1; i <= NCMP_CUTS_MAX; i++) {
		const struct ncmp_cut *cut =
			&compare->cuts[(compare->next_cut - i) % NCMP_CUTS_MAX];

		if (cut->known && cut->epoch == epoch)
			return cut->runs;
	}
	return TRUE;
}

static void detach_all(ncmp_compare *compare)
{
	for (GList *link = compare->held.head; link; link = link->next)
		ncmp_detach(compare, link->data);
}

/* What is kept of the secondary for the last epoch is of no use any more; what is known
 * of the connections themselves is, and turns when it is next needed. */
static void turn_flows(ncmp_compare *compare)
{
	detach_all(compare);
	while (compare->ahead.head)
		ncmp_flow_turn(compare, compare->ahead.head->data);
	compare->full = FALSE;
	compare->asked = FALSE;
}

void ncmp_compare_committed(ncmp_compare *compare, guint64 epoch, gint64 now_ns)
{
	if (compare->gate != NCMP_GATE_GUARDED)
		return;
	if (compare->committed && epoch <= compare->epoch) {
		compare->counters.commits_ignored++;
		return;
	}
	compare->epoch = epoch;
	compare->committed = TRUE;
	compare->committed_ns = now_ns;
	compare->runs = secondary_runs(compare, epoch);
	turn_flows(compare);
	release_committed(compare, now_ns);
	if (compare->runs && !ncmp_is_listening(compare))
		ncmp_diverge_plain(compare, NULL, NCMP_CAUSE_RESTART, 0);
	ncmp_take_early(compare, now_ns);
	if (ncmp_is_listening(compare))
		compare_held(compare, now_ns);
}

void ncmp_compare_overrun(ncmp_compare *compare, gint64 now_ns)
{
	if (compare->gate == NCMP_GATE_OPEN)
		return;
	compare->uncertain = TRUE;
	if (compare->committed && !compare->runs)
		compare->counters.divergences[NCMP_CAUSE_OVERRUN]++;
	else
		ncmp_diverge_plain(compare, NULL, NCMP_CAUSE_OVERRUN, 0);
}

static void forget_flows(ncmp_compare *compare)
{
	detach_all(compare);
	for (guint i = 0; i < G_N_ELEMENTS(compare->table.idle); i++)
		while (compare->table.idle[i].head)
			ncmp_flow_forget(compare, compare->table.idle[i].head->data);
}

void ncmp_compare_set_gate(ncmp_compare *compare, enum ncmp_gate gate)
{
	if (gate == compare->gate)
		return;
	forget_flows(compare);
	compare->gate = gate;
	compare->committed = FALSE;
	compare->asked = FALSE;
	compare->full = FALSE;
	compare->has_gate_marker = compare->has_marker;
	compare->gate_marker = compare->marker;
	ncmp_forget_early(compare);
	while (gate == NCMP_GATE_OPEN && compare->held.head)
		ncmp_finish(compare, compare->held.head->data, NCMP_OPENED, NULL, 0);
}
