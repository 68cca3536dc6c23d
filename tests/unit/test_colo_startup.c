/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting cold: every combination of what a node can know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "colo/startup.h"

#define GENERATIONS 4u
#define PARTS (COLO_PART_PROMOTED + 1u)
#define VERDICTS 12u /* nine records and three without */
#define KINDS 4u /* that keep none: fence, manual, none with either survivor */
#define PEERS (COLO__STATES * 2u * GENERATIONS * PARTS)

static gboolean ran(enum colo_part part)
{
	return part != COLO_PART_NONE && part != COLO_PART_STANDBY;
}

static void fail_on(const struct colo_startup *known, const char *what)
{
	struct colo_startup_decision made;

	colo_startup_decide(known, &made);
	fail_msg("%s: node %u %s %u, peer %s state %d flags %u %s %u, arbiter %s "
		 "verdict %d "
		 "%s %u, force %d: verdict %d right %d at %u, %s",
		 what, known->self, colo_part_name(known->record.part),
		 (guint)known->record.generation, known->peer_up ? "up" : "away",
		 known->peer.state, known->peer.flags, colo_part_name(known->peer.part),
		 (guint)known->peer.generation, known->keeps_records ? "keeps" : "none",
		 known->verdict,
		 !known->arbiter.solo		       ? "both"
		 : known->arbiter.owner == known->self ? "self"
						       : "other",
		 (guint)known->arbiter.generation, known->force, made.verdict,
		 made.right, (guint)made.generation, made.reason);
}

#define CHECK(condition)                            \
	do {                                        \
		if (!(condition))                   \
			fail_on(known, #condition); \
	} while (0)

/* It has the guest, or what may become it; and what it says is not over. */
static gboolean peer_is_live(const struct colo_startup *known)
{
	switch (known->peer.state) {
	case COLO_STOPPED:
	case COLO_WAITING:
	case COLO_JOINING:
	case COLO_FENCED:
		if (!(known->peer.flags & COLO_PEER_LIVE))
			return FALSE;
		break;
	default:
		break;
	}
	return known->peer_up && known->peer.generation >= known->record.generation;
}

/* It agreed to a next generation of ours that never began. */
static gboolean gave_way(const struct colo_startup *known)
{
	const struct colo_peer_state *peer = &known->peer;

	if (peer->generation != known->record.generation + 1)
		return FALSE;
	return peer->part == COLO_PART_NONE ||
	       (peer->part == COLO_PART_STANDBY && known->keeps_records &&
		known->verdict == COLO_VERDICT_RECORD &&
		(known->arbiter.generation <= known->record.generation ||
		 (known->arbiter.solo && known->arbiter.generation == peer->generation)));
}

/* What the arbiter says of the other one that one gave up for this node, on its disk. */
static gboolean gave_up(const struct colo_startup *known)
{
	const struct colo_peer_state *peer = &known->peer;
	const enum colo_part own = known->record.part;
	const guint64 granted = known->arbiter.generation;

	if (!known->peer_up || peer_is_live(known) || ran(peer->part) ||
	    peer->generation != granted)
		return FALSE;
	return known->record.generation == granted ?
		       own == COLO_PART_SOLO :
		       known->record.generation + 1 == granted &&
			       (own == COLO_PART_PRIMARY || own == COLO_PART_LEAVING);
}

static void check_start(const struct colo_startup *known,
			const struct colo_startup_decision *made)
{
	const struct colo_record *own = &known->record;
	const struct colo_peer_state *peer = &known->peer;
	gboolean has_record =
		known->keeps_records && known->verdict == COLO_VERDICT_RECORD;
	gboolean others = has_record && known->arbiter.solo &&
			  known->arbiter.owner != known->self &&
			  known->arbiter.generation >= own->generation;
	gboolean survives = known->pair->arbiter.kind == COLO_ARBITER_NONE &&
			    known->pair->arbiter.survivor == known->self;

	CHECK(made->right != COLO_STARTUP_FORCED);
	CHECK(!own->stopped);
	CHECK(!known->peer_up || peer->generation <= own->generation || gave_way(known));
	CHECK(!known->peer_up || !ran(peer->part) || !ran(own->part) ||
	      peer->generation < own->generation);
	CHECK(!others || (gave_up(known) && made->right == COLO_STARTUP_OURS &&
			  made->generation == known->arbiter.generation));
	CHECK(!known->keeps_records || known->verdict != COLO_VERDICT_DENIED);
	CHECK(own->part != COLO_PART_STANDBY && own->part != COLO_PART_PROMOTED);
	if (own->part == COLO_PART_NONE)
		CHECK(!own->generation && made->generation == 1 &&
		      (made->right == COLO_STARTUP_CREATE || has_record));
	if (own->part == COLO_PART_LEAVING)
		CHECK(known->peer_up &&
		      (peer->generation == own->generation || gave_way(known)));
	if (known->keeps_records && known->verdict == COLO_VERDICT_UNREACHABLE)
		CHECK(own->part == COLO_PART_SOLO && made->right == COLO_STARTUP_OURS &&
		      made->generation == own->generation);
	if (known->keeps_records && known->verdict == COLO_VERDICT_NO_RECORD)
		CHECK(made->right == COLO_STARTUP_CREATE);
	if (has_record && made->right == COLO_STARTUP_CLAIM)
		CHECK(made->generation == own->generation);
	if (!known->keeps_records && !known->peer_up)
		CHECK(own->part == COLO_PART_SOLO ||
		      (own->part == COLO_PART_PRIMARY && survives));
}

static void check(const struct colo_startup *known)
{
	struct colo_startup_decision made;
	gboolean start;

	colo_startup_decide(known, &made);
	start = made.verdict == COLO_STARTUP_START;
	CHECK(made.reason[0] && strlen(made.reason) < sizeof(made.reason) - 1);
	CHECK(!strpbrk(made.reason, "\n%") && !strstr(made.reason, "(null)"));
	CHECK(strlen(made.advice) < sizeof(made.advice) - 1);
	CHECK(!start || made.generation);
	CHECK(!start || !peer_is_live(known));
	CHECK(made.verdict != COLO_STARTUP_JOIN ||
	      (peer_is_live(known) &&
	       (known->peer.generation > known->record.generation ||
		!ran(known->record.part))));
	if (start && !known->force)
		check_start(known, &made);
	if (known->force)
		CHECK(start == !peer_is_live(known));
	if (start && known->force)
		CHECK(made.right == COLO_STARTUP_FORCED &&
		      made.generation > known->record.generation &&
		      (!known->peer_up || made.generation > known->peer.generation));
}

static void set_verdict(struct colo_startup *known, colo_pair *pair, guint verdict)
{
	static const enum colo_verdict others[] = { COLO_VERDICT_NO_RECORD,
						    COLO_VERDICT_UNREACHABLE,
						    COLO_VERDICT_DENIED };
	static const enum colo_arbiter_kind kinds[] = { COLO_ARBITER_FENCE,
							COLO_ARBITER_MANUAL,
							COLO_ARBITER_NONE,
							COLO_ARBITER_NONE };

	known->keeps_records = verdict < VERDICTS;
	known->arbiter = (struct colo_arbiter_record){ 0 };
	if (!known->keeps_records) {
		known->verdict = COLO_VERDICT_NO_RECORD;
		pair->arbiter.kind = kinds[verdict - VERDICTS];
		pair->arbiter.survivor = verdict & 1;
		return;
	}
	pair->arbiter.kind = COLO_ARBITER_ETCD;
	if (verdict >= 9) {
		known->verdict = others[verdict - 9];
		return;
	}
	known->verdict = COLO_VERDICT_RECORD;
	known->arbiter =
		(struct colo_arbiter_record){ 1 + verdict / 3, verdict % 3 != 2,
					      verdict % 3 == 1 };
}

/* FALSE: no colod says that. */
static gboolean set_peer(struct colo_startup *known, guint peer)
{
	known->peer_up = peer < PEERS;
	known->peer = (struct colo_peer_state){ 0 };
	if (!known->peer_up)
		return TRUE;
	known->peer.state = (enum colo_state)(peer % COLO__STATES);
	peer /= COLO__STATES;
	known->peer.flags = peer & 1 ? COLO_PEER_VM | COLO_PEER_LIVE : 0;
	peer /= 2;
	known->peer.generation = peer % GENERATIONS;
	known->peer.part = (enum colo_part)(peer / GENERATIONS);
	return known->peer.generation || known->peer.part == COLO_PART_NONE;
}

/* Calls `each` with every view; how many. */
static guint enumerate(void (*each)(const struct colo_startup *known))
{
	colo_pair pair = { .node = { { .name = (char *)"alpha" },
				     { .name = (char *)"beta" } } };
	struct colo_startup known = { .pair = &pair };
	guint count = 0;

	for (guint verdict = 0; verdict < VERDICTS + KINDS; verdict++) {
		set_verdict(&known, &pair, verdict);
		for (guint peer = 0; peer <= PEERS; peer++) {
			if (!set_peer(&known, peer))
				continue;
			for (guint own = 0; own < GENERATIONS * PARTS * 8; own++) {
				guint rest = own / 8;

				known.self = own & 1;
				known.force = own & 2;
				known.record = (struct colo_record){
					rest % GENERATIONS,
					(enum colo_part)(rest / GENERATIONS), own & 4
				};
				if (!known.record.generation && known.record.part)
					continue;
				each(&known);
				count++;
			}
		}
	}
	return count;
}

static void no_combination_starts_what_may_be_older_or_twice(void **state)
{
	printf("# %u views\n", enumerate(check));
}

/* What the other one sees when this one sees that. */
static void check_both(const struct colo_startup *known)
{
	struct colo_startup other = *known;
	struct colo_startup_decision ours, theirs;

	if (!known->peer_up || known->peer.state != COLO_WAITING || known->peer.flags ||
	    known->force)
		return;
	other.self = !known->self;
	other.record =
		(struct colo_record){ known->peer.generation, known->peer.part, FALSE };
	other.peer = (struct colo_peer_state){ .generation = known->record.generation,
					       .state = COLO_WAITING,
					       .part = known->record.part };
	colo_startup_decide(known, &ours);
	colo_startup_decide(&other, &theirs);
	if (ours.verdict == COLO_STARTUP_START && theirs.verdict == COLO_STARTUP_START)
		fail_on(known, "both start");
}

static void two_that_hear_each_other_never_both_start(void **state)
{
	enumerate(check_both);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_combination_starts_what_may_be_older_or_twice),
		cmocka_unit_test(two_that_hear_each_other_never_both_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
