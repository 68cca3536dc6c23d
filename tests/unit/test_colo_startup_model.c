/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting cold, in every history: a small model of two nodes, their disks, the link
 * and the arbiter goes through all states that it can reach, with power lost, links cut
 * and answers lost at any step. The decisions in it are the real ones. In each state:
 * nobody starts from a copy that lacks what a client has seen, and two never speak.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "colo/startup.h"

#define GENERATION_MAX 4u

enum role {
	OFF,
	COLD, /* its colod runs, it has no machine */
	GRANTED, /* cold, granted to start, nothing written yet */
	FILLING, /* being filled by the other */
	STANDBY,
	STANDBY_GRANTED, /* granted, nothing written yet */
	PRIMARY, /* wrote PRIMARY; speaks only while attached */
	PRIMARY_GRANTED,
	SOLO,
	PROMOTED, /* speaks, its disk is behind */
	LEAVING, /* consent is not sent */
	LEFT, /* it is */
};

struct model_node {
	guint8 generation, part, role;
	guint8 disk, live; /* whether it has all that clients have seen */
	guint8 sealed; /* a standby that was called protected: it may be promoted */
};

struct world {
	struct model_node node[2];
	guint8 there, generation, solo, owner; /* the arbiter's record */
	guint8 protecting, protecting_generation; /* lost on the way: 1 + node; from */
	guint8 claiming[2]; /* lost on the way: from */
	guint8 link, attached, forgot;
	guint8 agreed; /* one has agreed that the other goes on, at some time */
};

static struct {
	enum colo_arbiter_kind kind;
	guint survivor; /* 2: none */
	GHashTable *seen;
	GQueue *todo;
	GHashTable *from; /* how a state was come by */
	const struct world *now;
	const char *event;
	guint unserved;
} model;

static const char *const role_names[] = {
	"off",	   "cold",
	"granted", "filling",
	"standby", "standby-granted",
	"primary", "primary-granted",
	"solo",	   "promoted",
	"leaving", "left",
};

static guint hash_world(gconstpointer key)
{
	guint hash = 5381;

	for (gsize i = 0; i < sizeof(struct world); i++)
		hash = hash * 33 + ((const guint8 *)key)[i];
	return hash;
}

static gboolean equal_worlds(gconstpointer one, gconstpointer other)
{
	return !memcmp(one, other, sizeof(struct world));
}

static void print_world(const struct world *world, const char *event)
{
	for (guint i = 0; i < 2; i++)
		printf("%s[%s %u %s%s%s] ", i ? "B" : "A",
		       colo_part_name((enum colo_part)world->node[i].part),
		       world->node[i].generation, role_names[world->node[i].role],
		       world->node[i].disk ? " disk" : "",
		       world->node[i].live ? " live" : "");
	printf("arbiter %s%u link %u attached %u protecting %u@%u claiming %u,%u <- "
	       "%s\n",
	       !world->there  ? "none "
	       : !world->solo ? "both "
	       : world->owner ? "B "
			      : "A ",
	       world->generation, world->link, world->attached, world->protecting,
	       world->protecting_generation, world->claiming[0], world->claiming[1],
	       event);
}

struct step {
	struct world *before;
	const char *event;
};

static void fail_at(const struct world *world, const char *what)
{
	printf("%s at: (newest first)\n", what);
	while (world) {
		struct step *step = g_hash_table_lookup(model.from, world);

		print_world(world, step ? step->event : "beginning");
		world = step ? step->before : NULL;
	}
	fail();
}

#define MUST(world, condition)                           \
	do {                                             \
		if (!(condition)) {                      \
			print_world(world, model.event); \
			fail_at(model.now, #condition);  \
		}                                        \
	} while (0)

static gboolean keeps_records(void)
{
	return model.kind == COLO_ARBITER_ETCD;
}

static void check_world(const struct world *world)
{
	guint speakers = 0;

	for (guint i = 0; i < 2; i++)
		speakers +=
			world->node[i].role == SOLO || world->node[i].role == PROMOTED;
	MUST(world, speakers <= 1);
	if (world->attached)
		MUST(world, world->link && (world->node[0].role == STANDBY ||
					    world->node[1].role == STANDBY));
}

static void reach(struct world *next, const char *event)
{
	struct world *copy;
	struct step *step;

	if (next->node[0].generation > GENERATION_MAX ||
	    next->node[1].generation > GENERATION_MAX ||
	    next->generation > GENERATION_MAX)
		return;
	if (g_hash_table_contains(model.seen, next))
		return;
	model.event = event;
	check_world(next);
	copy = g_memdup2(next, sizeof(*next));
	step = g_new(struct step, 1);
	*step = (struct step){ (struct world *)model.now, event };
	g_hash_table_add(model.seen, copy);
	g_hash_table_insert(model.from, copy, step);
	g_queue_push_tail(model.todo, copy);
}

static void detach(struct world *world)
{
	world->attached = 0;
	for (guint i = 0; i < 2; i++) {
		if (world->node[i].role == FILLING)
			world->node[i].role = COLD;
	}
}

static void lose_power(struct world *world, guint i)
{
	world->node[i].role = OFF;
	world->node[i].live = world->node[i].sealed = 0;
	detach(world);
}

static void write_record(struct model_node *node, guint generation, enum colo_part part)
{
	node->generation = (guint8)generation;
	node->part = part;
}

static void set_solo(struct world *world, guint i, guint generation)
{
	world->there = world->solo = 1;
	world->owner = (guint8)i;
	world->generation = (guint8)generation;
}

/* What etcd does with a claim from `generation`. */
static gboolean etcd_grants(struct world *world, guint i, guint generation)
{
	if (!world->there)
		return FALSE;
	if (world->solo && world->owner == i && world->generation == generation + 1)
		return TRUE;
	if (world->generation != generation || (world->solo && world->owner != i))
		return FALSE;
	set_solo(world, i, generation + 1);
	return TRUE;
}

/* Any kind; a fence agent switches the other off. */
static gboolean grants(struct world *world, guint i, guint generation)
{
	switch (model.kind) {
	case COLO_ARBITER_ETCD:
		return etcd_grants(world, i, generation);
	case COLO_ARBITER_FENCE:
		lose_power(world, !i);
		return TRUE;
	default:
		return model.survivor == i;
	}
}

/* What the other one's colod tells of itself. */
static struct colo_peer_state peer_state(const struct world *world, guint i)
{
	const struct model_node *other = &world->node[!i];
	struct colo_peer_state peer = { .generation = other->generation,
					.part = (enum colo_part)other->part };

	switch (other->role) {
	case COLD:
	case GRANTED:
		peer.state = COLO_WAITING;
		break;
	case FILLING:
		peer.state = COLO_JOINING;
		peer.flags = COLO_PEER_VM | COLO_PEER_READY;
		break;
	case STANDBY:
		peer.state = COLO_STANDBY;
		peer.flags = COLO_PEER_VM | COLO_PEER_LIVE;
		break;
	case STANDBY_GRANTED:
		peer.state = COLO_PROMOTING;
		peer.flags = COLO_PEER_VM | COLO_PEER_LIVE;
		break;
	case PRIMARY:
	case PRIMARY_GRANTED:
		peer.state = world->attached		      ? COLO_PROTECTED
			     : world->node[i].role == FILLING ? COLO_SYNCING
							      : COLO_HOLDING;
		peer.flags = COLO_PEER_VM | COLO_PEER_LIVE;
		break;
	case SOLO:
	case PROMOTED:
		peer.state = COLO_SOLO;
		peer.flags = COLO_PEER_VM | COLO_PEER_LIVE;
		break;
	default:
		peer.state = COLO_HANDING;
		peer.flags = COLO_PEER_VM | COLO_PEER_LIVE;
	}
	return peer;
}

static void decide(const struct world *world, guint i, gboolean arbiter,
		   struct colo_startup_decision *made)
{
	const colo_pair pair = {
		.node = { { .name = (char *)"A" }, { .name = (char *)"B" } },
		.arbiter = { .kind = model.kind, .survivor = model.survivor },
	};
	const struct colo_startup known = {
		.pair = &pair,
		.self = i,
		.record = { world->node[i].generation,
			    (enum colo_part)world->node[i].part },
		.keeps_records = keeps_records(),
		.verdict = !keeps_records() ? COLO_VERDICT_NO_RECORD
			   : !arbiter	    ? COLO_VERDICT_UNREACHABLE
			   : world->there   ? COLO_VERDICT_RECORD
					    : COLO_VERDICT_NO_RECORD,
		.arbiter = { world->generation, world->solo, world->owner },
		.peer_up = world->link && world->node[!i].role != OFF,
		.peer = peer_state(world, i),
	};

	colo_startup_decide(&known, made);
}

static gboolean starts(const struct colo_startup_decision *made)
{
	return made->verdict == COLO_STARTUP_START;
}

/* The guest begins to run from the disk. */
static void run_from_disk(struct world *world, guint i, guint generation,
			  const char *event)
{
	struct model_node *node = &world->node[i];

	model.event = event;
	MUST(world, node->disk);
	write_record(node, generation, COLO_PART_SOLO);
	node->role = SOLO;
	node->live = node->disk;
	reach(world, event);
}

static void join_cold(const struct world *world, guint i)
{
	struct world next = *world;

	if (next.node[!i].role != SOLO ||
	    (keeps_records() && !(next.there && next.solo && next.owner == !i &&
				  next.generation == next.node[!i].generation)))
		return;
	MUST(world, next.node[!i].live);
	write_record(&next.node[i], next.node[!i].generation, COLO_PART_NONE);
	next.node[i].role = FILLING;
	next.node[i].disk = 0;
	reach(&next, "joins");
}

static void start_cold(const struct world *world, guint i, gboolean arbiter)
{
	struct colo_startup_decision made;
	struct world next = *world;

	decide(world, i, arbiter, &made);
	if (made.verdict == COLO_STARTUP_JOIN) {
		join_cold(world, i);
		return;
	}
	if (!starts(&made))
		return;
	switch (made.right) {
	case COLO_STARTUP_OURS:
		run_from_disk(&next, i, made.generation, "starts: ours");
		break;
	case COLO_STARTUP_CLAIM:
		/* Where nobody keeps records and the other is there, it has to consent.
		 */
		if (!keeps_records() && world->link && world->node[!i].role != OFF) {
			if (world->node[!i].role == COLD)
				run_from_disk(&next, i, made.generation + 1,
					      "starts: by consent");
			break;
		}
		if (grants(&next, i, made.generation)) {
			next.node[i].role = GRANTED;
			reach(&next, "claims, cold");
		}
		next = *world;
		next.claiming[i] = (guint8)made.generation;
		reach(&next, "claims, cold, the answer is lost");
		break;
	case COLO_STARTUP_CREATE:
		if (keeps_records() && next.there)
			break;
		if (keeps_records())
			set_solo(&next, i, 1);
		next.node[i].role = GRANTED;
		reach(&next, "creates");
		break;
	case COLO_STARTUP_FORCED:
		MUST(world, FALSE);
	}
}

/* Who lost the other, or never had it. */
static void claim_live(const struct world *world, guint i)
{
	const struct model_node *node = &world->node[i];
	enum role granted = node->role == PRIMARY ? PRIMARY_GRANTED : STANDBY_GRANTED;
	struct world next = *world;

	if (grants(&next, i, node->generation)) {
		next.node[i].role = granted;
		reach(&next, "claims");
	} else if (keeps_records() && next.there && next.solo && next.owner != i &&
		   !(next.link && next.node[!i].part == COLO_PART_NONE &&
		     next.node[!i].generation == next.generation)) {
		write_record(&next.node[i], next.generation,
			     node->role == PRIMARY ? COLO_PART_STANDBY : COLO_PART_NONE);
		next.node[i].role = COLD;
		next.node[i].live = next.node[i].sealed = 0;
		reach(&next, "is denied, and stops");
	}
	if (!keeps_records())
		return;
	next = *world;
	next.claiming[i] = node->generation;
	reach(&next, "claims, the answer is lost");
}

/* As colo/node_grant.c has it. */
static gboolean would_consent(const struct model_node *other, guint generation)
{
	if (other->role != COLD && other->role != FILLING && other->role != STANDBY)
		return FALSE;
	if (other->generation == generation + 1)
		return other->part == COLO_PART_NONE ||
		       (other->part == COLO_PART_STANDBY && other->role == COLD);
	if (other->generation == generation)
		return other->part != COLO_PART_SOLO && other->part != COLO_PART_PROMOTED;
	return other->generation < generation;
}

static void write_consent(struct model_node *node, guint generation)
{
	write_record(node, generation + 1,
		     node->role != COLD || node->part == COLO_PART_NONE ? COLO_PART_NONE
									 : COLO_PART_STANDBY);
	node->role = COLD;
	node->live = node->sealed = 0;
}

/* The arbiter does not answer who holds a machine; the other node does. */
static void ask_consent(const struct world *world, guint i)
{
	struct world next = *world;
	struct model_node *self = &next.node[i], *other = &next.node[!i];
	const guint generation = self->generation;

	if (!world->link || world->attached || !would_consent(other, generation) ||
	    (self->role == STANDBY && keeps_records() && !self->sealed))
		return;
	write_consent(other, generation);
	next.agreed = 1;
	reach(&next, "consents, unheard");
	MUST(world, self->live);
	write_record(self, generation + 1,
		     self->role == PRIMARY ? COLO_PART_SOLO : COLO_PART_PROMOTED);
	self->role = self->role == PRIMARY ? SOLO : PROMOTED;
	reach(&next, "goes on by consent");
}

/* Of whom went on by consent. */
static void catch_up(const struct world *world, guint i)
{
	const struct model_node *node = &world->node[i], *other = &world->node[!i];
	struct world next = *world;

	if (!keeps_records() || !world->there)
		return;
	if (!world->solo && world->generation + 1 == node->generation &&
	    etcd_grants(&next, i, world->generation)) {
		reach(&next, "tells the arbiter of the consent");
	} else if (world->solo && world->owner != i && world->link && other->role == COLD &&
		   other->part == COLO_PART_NONE && other->generation == node->generation) {
		set_solo(&next, i, node->generation);
		reach(&next, "writes the arbiter's record anew");
	}
}

static void serve(const struct world *world, guint i)
{
	const struct model_node *node = &world->node[i];
	struct world next = *world;

	if (node->role != SOLO && node->role != PROMOTED &&
	    !(node->role == PRIMARY && world->attached))
		return;
	MUST(world, node->live);
	next.node[i].disk = node->role != PROMOTED;
	next.node[!i].disk = 0;
	if (!world->attached)
		next.node[!i].live = 0;
	reach(&next, "serves");
}

static void step_node(const struct world *world, guint i)
{
	const struct model_node *node = &world->node[i];
	struct world next = *world;
	struct model_node *self = &next.node[i], *other = &next.node[!i];
	gboolean at_solo = world->there && world->solo && world->owner == i &&
			   world->generation == node->generation;

	if (node->role != OFF) {
		lose_power(&next, i);
		reach(&next, i ? "B loses power" : "A loses power");
		next = *world;
	}
	serve(world, i);
	switch (node->role) {
	case OFF:
		self->role = COLD;
		reach(&next, "boots");
		break;
	case COLD:
		start_cold(world, i, TRUE);
		if (keeps_records())
			start_cold(world, i, FALSE);
		break;
	case GRANTED:
		if (keeps_records() && !world->there)
			break; /* forgotten: it stays as it is, which is safe */
		MUST(world, !keeps_records() || (world->solo && world->owner == i));
		run_from_disk(&next, i,
			      keeps_records() ? world->generation
					      : node->generation + 1u,
			      "starts: granted");
		break;
	case SOLO:
		if (other->role == FILLING && world->link &&
		    (at_solo || !keeps_records())) {
			write_record(self, node->generation, COLO_PART_PRIMARY);
			self->role = PRIMARY;
			reach(&next, "writes PRIMARY");
		}
		next = *world;
		/* fall through */
	case PROMOTED:
		catch_up(world, i);
		if (node->role == PROMOTED) {
			self->disk = node->live;
			self->role = SOLO;
			write_record(self, node->generation, COLO_PART_SOLO);
			reach(&next, "is durable");
		}
		break;
	case PRIMARY:
		if (other->role == FILLING && world->link) {
			write_record(other, node->generation, COLO_PART_STANDBY);
			other->role = STANDBY;
			other->disk = other->live = node->live;
			next.attached = 1;
			reach(&next, "commits");
			/* The link breaks behind the commit. */
			next.attached = next.link = 0;
			reach(&next, "commits, unheard");
			next = *world;
		}
		if (!world->attached && other->role != FILLING) {
			claim_live(world, i);
			ask_consent(world, i);
		}
		if (!world->attached)
			break;
		other->disk = 1;
		reach(&next, "checkpoint");
		next = *world;
		if (at_solo) {
			next.solo = 0;
			other->sealed = 1;
			reach(&next, "protects");
			next = *world;
			next.protecting = (guint8)(i + 1);
			next.protecting_generation = node->generation;
			reach(&next, "protects, the answer is lost");
			next = *world;
		}
		if (!keeps_records() || (world->there && !world->solo &&
					 world->generation == node->generation)) {
			write_record(self, node->generation, COLO_PART_LEAVING);
			self->role = LEAVING;
			other->disk = 1;
			reach(&next, "begins to hand over");
		}
		break;
	case STANDBY:
		if (world->attached)
			break;
		claim_live(world, i);
		ask_consent(world, i);
		self->role = COLD;
		self->live = self->sealed = 0;
		reach(&next, "drops its machine");
		break;
	case PRIMARY_GRANTED:
	case STANDBY_GRANTED:
		if (keeps_records() && !world->there)
			break;
		MUST(world, node->live);
		MUST(world, !keeps_records() || (world->solo && world->owner == i));
		write_record(self,
			     keeps_records() ? world->generation
					     : node->generation + 1u,
			     node->role == PRIMARY_GRANTED ? COLO_PART_SOLO
							   : COLO_PART_PROMOTED);
		self->role = node->role == PRIMARY_GRANTED ? SOLO : PROMOTED;
		reach(&next, "goes on alone");
		break;
	case LEAVING:
		write_record(self, node->generation, COLO_PART_PRIMARY);
		self->role = PRIMARY;
		reach(&next, "does not hand over");
		next = *world;
		if (world->attached) {
			self->role = LEFT;
			reach(&next, "sends consent");
		}
		break;
	case LEFT:
		if (world->attached) {
			MUST(world, other->live);
			write_record(other, node->generation + 1u, COLO_PART_PROMOTED);
			other->role = PROMOTED;
			next.attached = 0;
			reach(&next, "is relieved by consent");
		} else if (world->link && other->role != OFF &&
			   other->generation == node->generation + 1u &&
			   (other->role == PROMOTED || other->role == SOLO)) {
			write_record(self, other->generation, COLO_PART_NONE);
			self->role = COLD;
			self->live = 0;
			reach(&next, "has left");
		} else if (world->link && other->role == COLD) {
			self->role = COLD;
			self->live = 0;
			reach(&next, "gives up leaving");
		}
		break;
	default:
		break;
	}
}

static void step_rest(const struct world *world)
{
	struct world next = *world;

	next.link = !world->link;
	if (world->link)
		detach(&next);
	reach(&next, world->link ? "the link is cut" : "the link is back");
	if (!keeps_records())
		return;
	next = *world;
	if (world->protecting) {
		if (world->there && world->solo &&
		    world->owner == world->protecting - 1 &&
		    world->generation == world->protecting_generation)
			next.solo = 0;
		next.protecting = next.protecting_generation = 0;
		reach(&next, "the arbiter gets a late request to protect");
	}
	for (guint i = 0; i < 2; i++) {
		next = *world;
		if (!world->claiming[i])
			continue;
		/* In one transaction, from protected only. */
		if (world->there && !world->solo &&
		    world->generation == world->claiming[i])
			set_solo(&next, i, world->claiming[i] + 1u);
		next.claiming[i] = 0;
		reach(&next, "the arbiter gets a late claim");
	}
	next = *world;
	if (world->there && world->forgot < 1) {
		next.there = next.generation = next.solo = next.owner = 0;
		next.forgot = 1;
		reach(&next, "the arbiter forgets all");
	}
}

static gboolean may_be_newest(const struct model_node *node)
{
	return node->part != COLO_PART_NONE && node->part != COLO_PART_STANDBY;
}

/* One agreed that the other goes on, which ended before it had written that down. */
static gboolean ended_with_consent(const struct world *world)
{
	const struct model_node *node = world->node;

	for (guint i = 0; i < 2; i++)
		if (node[i].generation + 1u == node[!i].generation && !may_be_newest(&node[!i]) &&
		    !keeps_records())
			return TRUE;
	return !may_be_newest(&node[0]) && !may_be_newest(&node[1]);
}

/* Power fails for both, now, and comes back, and everybody hears everybody. */
static void check_comes_back(const struct world *world)
{
	struct world next = *world;
	struct colo_startup_decision made[2];
	gboolean begins[2];
	const struct model_node *node = world->node;
	gboolean excused = world->forgot;

	for (guint i = 0; i < 2; i++) {
		next.node[i].role = COLD;
		next.node[i].live = 0;
		/* What an operator has to decide: what a promoted guest wrote is on no disk; a
		 * grant that nobody lived to write down looks like a generation file that was
		 * restored from a backup; and who was denied for a claim that its asker had given
		 * up does not know so. */
		excused |= node[i].part == COLO_PART_PROMOTED;
		excused |= world->there && world->solo && world->owner == i &&
			   (node[i].generation < world->generation ||
			    ((node[i].part == COLO_PART_NONE ||
			      node[i].part == COLO_PART_STANDBY) &&
			     node[!i].part == COLO_PART_STANDBY));
	}
	excused |= world->agreed && ended_with_consent(world);
	next.attached = 0;
	next.link = 1;
	for (guint i = 0; i < 2; i++) {
		decide(&next, i, TRUE, &made[i]);
		begins[i] = starts(&made[i]);
		if (begins[i])
			MUST(world, next.node[i].disk);
	}
	MUST(world, !begins[0] || !begins[1]);
	if (!begins[0] && !begins[1]) {
		model.unserved++;
		if (!excused)
			printf("# A: %s\n# B: %s\n", made[0].reason, made[1].reason);
		MUST(world, excused);
	}
}

static void go_through(enum colo_arbiter_kind kind, guint survivor, gboolean may_forget,
		       const char *name)
{
	struct world first = { .link = 1, .forgot = !may_forget };
	struct world *world;
	guint count = 0;

	model.kind = kind;
	model.survivor = survivor;
	model.unserved = 0;
	model.seen = g_hash_table_new_full(hash_world, equal_worlds, g_free, NULL);
	model.from = g_hash_table_new_full(hash_world, equal_worlds, NULL, g_free);
	model.todo = g_queue_new();
	model.now = NULL;
	first.node[0].disk = 1; /* the first node's is the image that they begin with */
	reach(&first, "beginning");
	while ((world = g_queue_pop_head(model.todo))) {
		model.now = world;
		count++;
		for (guint i = 0; i < 2; i++)
			step_node(world, i);
		step_rest(world);
		/* Where nothing may be forgotten it is as if it had been, but was not.
		 */
		if (!may_forget) {
			struct world known = *world;

			known.forgot = 0;
			check_comes_back(&known);
		}
	}
	printf("# %s: %u states; after power failed on both, %u of them need an "
	       "operator\n",
	       name, count, model.unserved);
	g_queue_free(model.todo);
	g_hash_table_destroy(model.from);
	g_hash_table_destroy(model.seen);
	assert_true(count > 1000);
}

static void with_etcd(void **state)
{
	go_through(COLO_ARBITER_ETCD, 2, FALSE, "etcd");
}

static void with_an_etcd_that_forgets(void **state)
{
	go_through(COLO_ARBITER_ETCD, 2, TRUE, "an etcd that forgets");
}

static void with_a_fence_agent(void **state)
{
	go_through(COLO_ARBITER_FENCE, 2, FALSE, "fence");
}

static void with_a_survivor(void **state)
{
	go_through(COLO_ARBITER_NONE, 0, FALSE, "none, the first survives");
	go_through(COLO_ARBITER_NONE, 1, FALSE, "none, the second survives");
}

static void with_an_operator_who_is_away(void **state)
{
	go_through(COLO_ARBITER_MANUAL, 2, FALSE, "manual");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_etcd),
		cmocka_unit_test(with_an_etcd_that_forgets),
		cmocka_unit_test(with_a_fence_agent),
		cmocka_unit_test(with_a_survivor),
		cmocka_unit_test(with_an_operator_who_is_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
