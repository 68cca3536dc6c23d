/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a node that comes up cold may start the guest.
 *
 * What counts is the newest generation that anybody here knows of, and which part this node
 * had in it. A node that consented to the other's going on has a newer record than the arbiter,
 * if that was away then; so neither the arbiter's record nor a node's own is the truth by
 * itself.
 */
#include "colo/startup.h"

#define FORCE "if the other copy is surely lost: colo promote --force here"

struct case_ {
	const struct colo_startup *known;
	struct colo_startup_decision *decision;
	const char *other; /* the other node's name */
	gboolean asked; /* the arbiter's record is known */
};

static void G_GNUC_PRINTF(4, 5) decide(struct case_ *at, enum colo_startup_verdict verdict,
				       const char *advice, const char *format, ...)
{
	va_list arguments;

	at->decision->verdict = verdict;
	g_strlcpy(at->decision->advice, advice ? advice : "", sizeof(at->decision->advice));
	va_start(arguments, format);
	g_vsnprintf(at->decision->reason, sizeof(at->decision->reason), format, arguments);
	va_end(arguments);
}

static void begin(struct case_ *at, enum colo_startup_right right, guint64 generation,
		  const char *why)
{
	at->decision->right = right;
	at->decision->generation = generation;
	decide(at, COLO_STARTUP_START, NULL, "starting: %s", why);
}

/* What it says can be of a while ago: what this node knows to be over does not count. */
static gboolean is_current(const struct colo_startup *known)
{
	return known->peer_up && known->peer.generation >= known->record.generation;
}

static gboolean peer_runs(const struct colo_startup *known)
{
	const enum colo_state state = known->peer.state;

	return is_current(known) && (state == COLO_SOLO || state == COLO_SYNCING ||
				     state == COLO_PROTECTED);
}

static gboolean has_machine(const struct colo_peer_state *peer)
{
	return peer->flags & COLO_PEER_LIVE || colo_state_is_primary(peer->state) ||
	       peer->state == COLO_PROMOTING || peer->state == COLO_STANDBY;
}

/* It has a machine, or is about to: it goes on with that, or has the guest. */
static gboolean peer_lives(const struct colo_startup *known)
{
	return is_current(known) && has_machine(&known->peer);
}

/* It could be the one that starts. */
static gboolean is_newest_part(enum colo_part part)
{
	return part == COLO_PART_SOLO || part == COLO_PART_PRIMARY;
}

/* Nobody ever ran. */
static void begin_first(struct case_ *at)
{
	const struct colo_startup *known = at->known;

	if (known->peer_up && known->peer.generation)
		decide(at, COLO_STARTUP_WAIT, NULL,
		       "%s has a copy and this node has none: waiting for %s to start", at->other,
		       at->other);
	else if (known->self != 0)
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "the pair never ran: its first node, %s, is to begin", at->other);
	else if (!known->keeps_records && !known->peer_up)
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "the pair never ran on this node: %s has to be heard before, since it may "
		       "have a copy",
		       at->other);
	else
		begin(at, COLO_STARTUP_CREATE, 1, "the pair never ran before");
}

/* The other one never goes on alone. */
static gboolean is_survivor(const struct colo_startup *known)
{
	return known->pair->arbiter.kind == COLO_ARBITER_NONE &&
	       known->pair->arbiter.survivor == known->self;
}

/* This node's copy is the newest that it knows of, and its part lets it start. */
static void begin_own(struct case_ *at)
{
	const struct colo_startup *known = at->known;
	const struct colo_record *record = &known->record;
	const struct colo_arbiter_record *arbiter = &known->arbiter;

	if (at->asked && arbiter->solo && record->part == COLO_PART_PRIMARY &&
	    arbiter->generation == record->generation) {
		/* A request to protect may be under way still, and be heard while this node
		 * runs alone and the other has a standby: a claim makes it void. */
		begin(at, COLO_STARTUP_CLAIM, record->generation,
		      "this node was about to be protected");
	} else if (at->asked && arbiter->solo && arbiter->owner == known->self) {
		begin(at, COLO_STARTUP_OURS, MAX(arbiter->generation, record->generation),
		      "the arbiter says that only this node runs the guest");
	} else if (record->part == COLO_PART_SOLO) {
		/* From "solo: X" only X may change it. */
		begin(at, COLO_STARTUP_OURS, record->generation,
		      "this node ran the guest alone");
	} else if (!known->keeps_records && !known->peer_up && !is_survivor(known)) {
		/* A fence agent would say yes, and end a guest that is newer. */
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "%s is not heard, and may have gone on alone", at->other);
	} else if (known->keeps_records && !at->asked) {
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "the arbiter is not reached, and %s may have gone on alone", at->other);
	} else {
		begin(at, COLO_STARTUP_CLAIM, record->generation,
		      "this node was the primary last");
	}
}

/* This node's copy may be older than the other's. */
static void wait_for_other(struct case_ *at)
{
	const struct colo_startup *known = at->known;
	const struct colo_record *record = &known->record;

	if (known->peer_up && known->peer.state == COLO_STOPPED)
		decide(at, COLO_STARTUP_WAIT, "colo start there, or " FORCE,
		       "%s has the newer copy and is stopped", at->other);
	else if (record->part == COLO_PART_PROMOTED)
		decide(at, COLO_STARTUP_REFUSE, FORCE,
		       "this node was promoted and ended before all was on its disks: what %s has "
		       "may be better",
		       at->other);
	else if (record->part == COLO_PART_STANDBY)
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "this node was the standby of generation %" G_GUINT64_FORMAT
		       ": %s has the newer disks",
		       record->generation, at->other);
	else if (record->part == COLO_PART_LEAVING)
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "%s was to go on with the guest: waiting for it", at->other);
	else
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "no copy that counts is here: waiting for %s", at->other);
}

static void both_ran(struct case_ *at)
{
	decide(at, COLO_STARTUP_REFUSE, "give one copy up: colo start --discard on that node",
	       "both nodes ran the guest at generation %" G_GUINT64_FORMAT,
	       at->known->record.generation);
}

/* It agreed that this node goes on as the next generation, which then never began. Where it
 * could be the standby of one that did, and our record restored from a backup, the arbiter
 * has to know that it never was. */
static gboolean peer_gave_way(const struct colo_startup *known)
{
	const struct colo_arbiter_record *arbiter = &known->arbiter;
	const gboolean none_began =
		known->verdict == COLO_VERDICT_RECORD &&
		(arbiter->generation <= known->record.generation ||
		 (arbiter->solo && arbiter->owner == known->self &&
		  arbiter->generation == known->record.generation + 1));

	return (known->record.part == COLO_PART_PRIMARY ||
		known->record.part == COLO_PART_LEAVING) &&
	       known->peer.generation == known->record.generation + 1 &&
	       (known->peer.part == COLO_PART_NONE ||
		(known->peer.part == COLO_PART_STANDBY && none_began));
}

/* It was forced, or this node's record was restored from a backup. */
static gboolean peer_is_newer(const struct colo_startup *known)
{
	return known->peer_up && known->peer.generation > known->record.generation &&
	       !peer_gave_way(known);
}

static gboolean has_run(enum colo_part part)
{
	return part != COLO_PART_NONE && part != COLO_PART_STANDBY;
}

/* The same generation: each has what the other lacks. */
static gboolean peer_ran_it_too(const struct colo_startup *known)
{
	return known->peer_up && known->peer.generation == known->record.generation &&
	       has_run(known->record.part) && has_run(known->peer.part);
}

/* What it has stands against what the arbiter says. */
static gboolean peer_counts(const struct colo_startup *known)
{
	return peer_is_newer(known) || peer_ran_it_too(known);
}

/* Everything but an arbiter's "solo: the other". */
static void compare(struct case_ *at)
{
	const struct colo_startup *known = at->known;
	const struct colo_record *record = &known->record;
	const struct colo_peer_state *peer = &known->peer;
	const gboolean up = known->peer_up;

	if (peer_is_newer(known)) {
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "%s has generation %" G_GUINT64_FORMAT ", this node %" G_GUINT64_FORMAT
		       ": waiting for %s to start",
		       at->other, peer->generation, record->generation, at->other);
	} else if (peer_ran_it_too(known)) {
		both_ran(at);
	} else if (is_newest_part(record->part)) {
		begin_own(at);
	} else if (up && record->part == COLO_PART_LEAVING &&
		   (peer->generation == record->generation || peer_gave_way(known))) {
		/* It has not taken over, and nothing of it lives. */
		begin_own(at);
	} else {
		wait_for_other(at);
	}
}

/* The arbiter's "solo: the other" is a claim that was carried out after its asker had given it
 * up: that one agreed, on its disk, that this node has that generation. That it only knows of
 * none would not do: so does one whose generation file was restored from a backup. */
static gboolean is_void(const struct colo_startup *known)
{
	const struct colo_record *record = &known->record;
	const guint64 granted = known->arbiter.generation;

	if (!known->peer_up || has_machine(&known->peer) || has_run(known->peer.part) ||
	    known->peer.generation != granted)
		return FALSE;
	if (record->generation == granted)
		return record->part == COLO_PART_SOLO;
	return record->generation + 1 == granted &&
	       (record->part == COLO_PART_PRIMARY || record->part == COLO_PART_LEAVING);
}

static void decide_with_record(struct case_ *at)
{
	const struct colo_startup *known = at->known;
	const struct colo_arbiter_record *arbiter = &known->arbiter;
	const struct colo_record *record = &known->record;

	if (arbiter->solo && arbiter->owner != known->self && is_void(known)) {
		begin(at, COLO_STARTUP_OURS, arbiter->generation,
		      "the other node gave up what the arbiter granted it");
	} else if (arbiter->solo && arbiter->owner != known->self &&
		   arbiter->generation >= record->generation) {
		decide(at, COLO_STARTUP_WAIT, FORCE,
		       "the arbiter says that %s ran the guest alone, at generation "
		       "%" G_GUINT64_FORMAT ": waiting for it",
		       at->other, arbiter->generation);
	} else if (arbiter->generation > record->generation &&
		   !(arbiter->solo && arbiter->generation == record->generation + 1 &&
		     (record->part == COLO_PART_PRIMARY ||
		      record->part == COLO_PART_LEAVING ||
		      (record->part == COLO_PART_SOLO && known->peer_up))) &&
		   !(arbiter->solo && record->generation == 0 && arbiter->generation == 1)) {
		/* Not even the grant that this node did not get to write down. */
		wait_for_other(at);
	} else if (arbiter->solo && arbiter->owner == known->self && !peer_counts(known) &&
		   (is_newest_part(record->part) || record->generation == 0)) {
		begin_own(at);
	} else {
		compare(at);
	}
}

static void force(struct case_ *at)
{
	const struct colo_startup *known = at->known;
	guint64 generation = known->record.generation;

	if (known->peer_up)
		generation = MAX(generation, known->peer.generation);
	if (at->asked)
		generation = MAX(generation, known->arbiter.generation);
	begin(at, COLO_STARTUP_FORCED, generation + 1, "the operator says so");
}

static void decide_alone(const struct colo_startup *known,
			 struct colo_startup_decision *decision)
{
	struct case_ at = {
		.known = known,
		.decision = decision,
		.other = known->pair->node[!known->self].name,
		.asked = known->keeps_records && known->verdict == COLO_VERDICT_RECORD,
	};

	*decision = (struct colo_startup_decision){ 0 };
	if (peer_runs(known) && known->peer.generation == known->record.generation &&
	    known->record.part != COLO_PART_NONE && known->record.part != COLO_PART_STANDBY)
		both_ran(&at);
	else if (peer_runs(known) && known->peer.part == COLO_PART_PROMOTED)
		/* Until then a whole copy here, though older, is worth keeping. */
		decide(&at, COLO_STARTUP_WAIT, NULL,
		       "%s took the guest over and is still writing to its disks: joining it then",
		       at.other);
	else if (peer_runs(known))
		decide(&at, COLO_STARTUP_JOIN, NULL, "%s runs the guest: joining it", at.other);
	else if (peer_lives(known))
		decide(&at, COLO_STARTUP_WAIT, NULL, "%s holds the guest and is to go on with it",
		       at.other);
	else if (known->force)
		force(&at);
	else if (known->record.stopped)
		decide(&at, COLO_STARTUP_WAIT, "colo start begins again",
		       "the guest was stopped on purpose");
	else if (at.asked)
		decide_with_record(&at);
	else if (known->keeps_records && known->verdict == COLO_VERDICT_DENIED)
		decide(&at, COLO_STARTUP_REFUSE,
		       "another pair of this name, or other names of nodes? see the pair file; "
		       FORCE,
		       "the arbiter's record is of other nodes than %s and %s",
		       known->pair->node[0].name, known->pair->node[1].name);
	else if (known->keeps_records && known->verdict == COLO_VERDICT_NO_RECORD &&
		 known->record.generation)
		decide(&at, COLO_STARTUP_REFUSE,
		       "find out why; colo promote --force on the node with the newest copy "
		       "writes it anew",
		       "the arbiter has lost the record of this pair, which was at generation "
		       "%" G_GUINT64_FORMAT " here",
		       known->record.generation);
	else if (!known->record.generation &&
		 (!known->keeps_records || known->verdict == COLO_VERDICT_NO_RECORD))
		begin_first(&at);
	else
		compare(&at);
}

/* As the other one sees it. */
static gboolean other_waits(const struct colo_startup *known)
{
	struct colo_startup other = *known;
	struct colo_startup_decision theirs;

	other.self = !known->self;
	other.record = (struct colo_record){ .generation = known->peer.generation,
					     .part = known->peer.part };
	other.peer = (struct colo_peer_state){ .generation = known->record.generation,
					       .state = COLO_WAITING,
					       .part = known->record.part };
	decide_alone(&other, &theirs);
	return theirs.verdict == COLO_STARTUP_WAIT;
}

/* Whether two that hear each other, and whom nobody else can tell more, wait for each other:
 * somebody was to go on and did not live to, or a generation file was restored from a backup. */
static gboolean is_stuck(const struct colo_startup *known)
{
	return known->peer_up && known->peer.state == COLO_WAITING && known->peer.generation &&
	       known->record.generation && !known->record.stopped &&
	       (!known->keeps_records || known->verdict == COLO_VERDICT_RECORD) &&
	       known->record.part != COLO_PART_PROMOTED &&
	       known->peer.part != COLO_PART_PROMOTED && other_waits(known);
}

void colo_startup_decide(const struct colo_startup *known,
			 struct colo_startup_decision *decision)
{
	struct case_ at = {
		.known = known,
		.decision = decision,
		.other = known->pair->node[!known->self].name,
	};

	decide_alone(known, decision);
	if (decision->verdict == COLO_STARTUP_WAIT && is_stuck(known))
		decide(&at, COLO_STARTUP_REFUSE,
		       "decide which copy counts; on the node that was the primary last, if it "
		       "has one: colo promote --force",
		       "neither this node nor %s is sure to have the newest copy", at.other);
}
