/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair in one process. */
#include "tests/unit/world.h"

#include <stdio.h>
#include <string.h>

#define TICK_MS 10u
#define SILENCE_MS 300u /* of replication and heartbeats */
#define CONTROL_SILENCE_MS 1000u
#define GONE_MS 50u /* until the kernel has freed what a colo-vm had */
#define LINES 2000u
#define NOTHING G_MAXUINT64 /* a disk that is no copy of anything */

/* A colo-vm. */
struct vm {
	gboolean there, up, standby;
	guint64 knows; /* outputs in its history */
	gboolean held, guarded, resting;
	gboolean filling, promotable, linked; /* of a standby; of a primary: linked */
	gboolean lost;
	guint link; /* which one it is or was */
	gboolean deaf; /* no comparator */
	guint64 last_word_ms; /* words arrive in order */
	guint life; /* of which process; what was under way for an older one is dropped */
};

struct host {
	gboolean on;
	colo_node *node;
	guint node_life;
	struct vm vm;
	struct colo_record record; /* on disk */
	guint64 disk, durable_disk; /* outputs that the disks know of */
	gboolean arbiter_cut;
	guint64 heard_ms; /* the other's heartbeats */
	struct hb_self heard;
	gboolean ever_heard;
	gboolean peer_up;
	guint64 question; /* to the arbiter, the last one */
	guint64 frozen_since_ms, frozen_until_ms;
	gboolean disk_fails; /* of the record */
	guint64 disk_slow_ms;
	/* The operator called it dead: it comes back when all is mended, and the other one is
	 * there to tell it. What is being done about it: */
	gboolean distrusted, forcing;
};

struct happening {
	guint64 at_ms, order;
	guint host, life;
	gboolean of_vm; /* its life is the vm's, else the colod's */
	gboolean on_wire; /* whoever sent it may be dead by then */
	void (*fn)(test_world *world, guint host, const struct happening *happening);
	guint64 number, number2;
	void *thing;
	char text[64];
};

struct world {
	GRand *rand;
	guint64 now_ms, order;
	GSequence *queue;
	struct host host[2];
	gboolean cut[WORLD__LINKS][2]; /* what comes to a host */
	guint64 cut_since_ms[WORLD__LINKS][2];
	guint links; /* of colo-vms so far */
	guint connection; /* which one of the colods' */
	enum colo_arbiter_kind kind;
	gboolean recorded; /* the arbiter has a record */
	struct colo_arbiter_record record;
	guint64 outputs;
	char *violation;
	GQueue *lines;
	GHashTable *counts;
	colo_pair pair;
	struct colo_node_ops ops;
	struct side {
		test_world *world;
		guint host;
	} side[2];
};

/* Time. */

static gint by_time(gconstpointer a, gconstpointer b, gpointer data)
{
	const struct happening *x = a, *y = b;

	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

guint32 world_random(test_world *world, guint32 below)
{
	return (guint32)g_rand_int_range(world->rand, 0, (gint32)below);
}

static void G_GNUC_PRINTF(2, 3) note(test_world *world, const char *format, ...)
{
	va_list arguments;
	g_autofree char *text = NULL;

	va_start(arguments, format);
	text = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	g_queue_push_tail(world->lines,
			  g_strdup_printf("%7" G_GUINT64_FORMAT " %s", world->now_ms, text));
	if (g_queue_get_length(world->lines) > LINES)
		g_free(g_queue_pop_head(world->lines));
}

static void G_GNUC_PRINTF(2, 3) violate(test_world *world, const char *format, ...)
{
	va_list arguments;

	if (world->violation)
		return;
	va_start(arguments, format);
	world->violation = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	note(world, "VIOLATION: %s", world->violation);
}

static struct happening *happen(test_world *world, guint host, gboolean of_vm, guint64 in_ms,
				void (*fn)(test_world *world, guint host,
					   const struct happening *happening))
{
	struct happening *happening = g_new0(struct happening, 1);

	happening->at_ms = world->now_ms + in_ms;
	happening->order = ++world->order;
	happening->host = host;
	happening->of_vm = of_vm;
	happening->life = of_vm ? world->host[host].vm.life : world->host[host].node_life;
	happening->fn = fn;
	g_sequence_insert_sorted(world->queue, happening, by_time, NULL);
	return happening;
}

/* Links between processes that both live: as good as no cut; else lost by silence. */

static gboolean is_frozen(const test_world *world, guint host)
{
	return world->now_ms < world->host[host].frozen_until_ms;
}

/* What is sent to a host arrives there. */
static gboolean arrives(const test_world *world, enum world_link link, guint host)
{
	return !world->cut[link][host] && world->host[0].on && world->host[1].on;
}

static gboolean link_works(const test_world *world, enum world_link link)
{
	return arrives(world, link, 0) && arrives(world, link, 1);
}

/* What colo-vm tells. */

static void tell_news(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_news(world->host[host].node, (enum colo_vm_news)happening->number,
				  happening->number == COLO_VM_PRIMARY_ENDED ? "poweroff" :
									       "told");
}

static void news(test_world *world, guint host, enum colo_vm_news what, guint64 in_ms)
{
	happen(world, host, TRUE, in_ms, tell_news)->number = what;
}

static void tell_answer(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_answered(world->host[host].node,
				      (enum colo_word)happening->number,
				      happening->number2 != 0,
				      happening->number2 ? NULL : "refused");
}

static void answer(test_world *world, guint host, enum colo_word word, gboolean ok, guint64 in_ms)
{
	struct happening *happening = happen(world, host, TRUE, in_ms, tell_answer);

	happening->number = word;
	happening->number2 = ok;
}

static void tell_gone(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_gone(world->host[host].node, "killed by signal 9");
}

static void tell_deaf(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_news(world->host[host].node, COLO_VM_DEAF, NULL);
}

/* A machine loses the other one. */
static void lose_link_later(test_world *world, guint host, const struct happening *happening);

/* The other side of a machine's link hears of its end, or finds out. */
static void end_other_link(test_world *world, guint host)
{
	const gboolean works = arrives(world, WORLD_REPLICATION, !host);

	happen(world, !host, TRUE, works ? 1 : SILENCE_MS, lose_link_later)->number =
		world->host[host].vm.link;
}

static void lose_link(test_world *world, guint host)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->there || !vm->linked)
		return;
	vm->linked = FALSE;
	end_other_link(world, host);
	note(world, "%u: its colo-vm has lost the link", host);
	if (!vm->standby) {
		vm->held = vm->guarded;
		news(world, host, COLO_VM_UNPROTECTED, 1);
	} else if (vm->promotable) {
		vm->lost = TRUE;
		news(world, host, COLO_VM_PRIMARY_LOST, 1);
	} else {
		vm->filling = FALSE;
		news(world, host, COLO_VM_WAITING, 3);
	}
}

static void lose_link_later(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].vm.link == happening->number)
		lose_link(world, host);
}

static void end_vm(test_world *world, guint host)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->there)
		return;
	/* The other side sees the connection end, where it can. */
	if (vm->linked)
		end_other_link(world, host);
	vm->life++;
	*vm = (struct vm){ .life = vm->life };
	if (world->host[host].on) {
		happen(world, host, FALSE, 2, tell_deaf);
		happen(world, host, FALSE, GONE_MS, tell_gone);
	}
}

static void vm_is_up(test_world *world, guint host, const struct happening *happening)
{
	struct vm *vm = &world->host[host].vm;

	vm->up = TRUE;
	news(world, host, COLO_VM_UP, 0);
	news(world, host, COLO_VM_GUARD, 1);
	if (vm->standby)
		news(world, host, COLO_VM_WAITING, 2);
}

static void vm_start(void *data, gboolean standby)
{
	struct side *side = data;
	struct host *host = &side->world->host[side->host];

	note(side->world, "%u: starts colo-vm%s", side->host, standby ? " as standby" : "");
	if (host->vm.there)
		violate(side->world, "a second colo-vm on one host");
	host->vm = (struct vm){ .there = TRUE, .standby = standby, .life = host->vm.life + 1 };
	if (standby)
		host->disk = host->durable_disk = NOTHING;
	else
		host->vm.knows = host->disk;
	if (!standby && host->disk == NOTHING)
		violate(side->world, "host %u starts a guest from a disk that is no copy",
			side->host);
	if (!standby && host->disk < side->world->outputs)
		violate(side->world, "host %u starts a stale guest: it knows %" G_GUINT64_FORMAT
				     " of %" G_GUINT64_FORMAT " outputs",
			side->host, host->disk, side->world->outputs);
	/* The model's colo-vm flushes what an earlier one left before its guest runs. */
	if (!standby)
		host->durable_disk = host->disk;
	happen(side->world, side->host, TRUE, 2 + world_random(side->world, 20), vm_is_up);
}

static void first_commit(test_world *world, guint host, const struct happening *happening)
{
	struct vm *primary = &world->host[host].vm;
	struct vm *standby = &world->host[!host].vm;

	if (!primary->linked || primary->link != happening->number || !standby->filling)
		return;
	if (is_frozen(world, !host)) {
		happen(world, host, TRUE, 10, first_commit)->number = happening->number;
		return;
	}
	standby->filling = FALSE;
	standby->promotable = TRUE;
	standby->knows = primary->knows;
	world->host[!host].disk = primary->knows;
	primary->guarded = TRUE;
	news(world, !host, COLO_VM_STANDBY, 1);
	news(world, host, COLO_VM_PROTECTED, 1);
}

static void begin_fill(test_world *world, guint host)
{
	struct vm *primary = &world->host[host].vm;
	struct vm *standby = &world->host[!host].vm;

	if (!link_works(world, WORLD_REPLICATION) || is_frozen(world, !host) ||
	    !standby->up || !standby->standby ||
	    standby->filling || standby->promotable || primary->linked) {
		answer(world, host, COLO_WORD_PROTECT, FALSE, 5);
		return;
	}
	answer(world, host, COLO_WORD_PROTECT, TRUE, 5);
	primary->linked = standby->linked = TRUE;
	primary->link = standby->link = ++world->links;
	standby->filling = TRUE;
	standby->lost = FALSE;
	news(world, !host, COLO_VM_JOINED, 2);
	happen(world, host, TRUE, 30 + world_random(world, 300), first_commit)->number =
		primary->link;
}

static void become_durable(test_world *world, guint host, const struct happening *happening)
{
	world->host[host].durable_disk = world->host[host].vm.knows;
	news(world, host, COLO_VM_DURABLE, 0);
}

static void promote(test_world *world, guint host)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->promotable) {
		answer(world, host, COLO_WORD_PROMOTE, FALSE, 1);
		return;
	}
	note(world, "%u: colo-vm is promoted, knowing %" G_GUINT64_FORMAT, host, vm->knows);
	if (vm->linked)
		end_other_link(world, host);
	vm->standby = vm->promotable = vm->lost = vm->linked = FALSE;
	answer(world, host, COLO_WORD_PROMOTE, TRUE, 3);
	news(world, host, COLO_VM_PROMOTED, 3);
	happen(world, host, TRUE, 5 + world_random(world, 100), become_durable);
}

static void power_down(test_world *world, guint host, const struct happening *happening)
{
	struct vm *other = &world->host[!host].vm;

	if (world->host[host].vm.linked && other->linked && link_works(world, WORLD_REPLICATION)) {
		other->linked = other->filling = FALSE;
		other->lost = other->promotable;
		news(world, !host, other->promotable ? COLO_VM_PRIMARY_ENDED : COLO_VM_WAITING,
		     1);
	}
	if (world->host[host].node)
		colo_node_vm_news(world->host[host].node, COLO_VM_POWEROFF, NULL);
	end_vm(world, host);
}

static void hear_word(test_world *world, guint host, const struct happening *happening)
{
	const enum colo_word word = (enum colo_word)happening->number;
	struct vm *vm = &world->host[host].vm;

	switch (word) {
	case COLO_WORD_PROTECT:
		begin_fill(world, host);
		break;
	case COLO_WORD_RESUME:
		if (vm->linked && vm->resting)
			lose_link(world, host);
		if (!vm->standby)
			vm->held = vm->guarded = vm->resting = FALSE;
		answer(world, host, word, !vm->standby, 1);
		break;
	case COLO_WORD_UNPROTECT:
		lose_link(world, host);
		if (!vm->standby)
			vm->held = vm->guarded = vm->resting = FALSE;
		answer(world, host, word, !vm->standby, 1);
		break;
	case COLO_WORD_PROMOTE:
		promote(world, host);
		break;
	case COLO_WORD_GIVE_UP:
		answer(world, host, word, vm->lost, 1);
		if (vm->lost) {
			vm->lost = vm->promotable = FALSE;
			news(world, host, COLO_VM_WAITING, 2);
		}
		break;
	case COLO_WORD_HAND_OVER:
		answer(world, host, word, vm->linked && vm->guarded, 5);
		if (vm->linked && vm->guarded)
			vm->resting = TRUE;
		break;
	case COLO_WORD_POWERDOWN:
		answer(world, host, word, TRUE, 1);
		if (!vm->held && !vm->resting)
			happen(world, host, TRUE, 50, power_down);
		break;
	default:
		answer(world, host, word, TRUE, 1);
	}
}

/* In the socket at once: it is heard even if colod dies now. */
static void vm_say(void *data, enum colo_word word)
{
	struct side *side = data;
	test_world *world = side->world;
	struct vm *vm = &world->host[side->host].vm;

	note(world, "%u: tells colo-vm word %d", side->host, word);
	if (!vm->there)
		return;
	vm->last_word_ms =
		MAX(vm->last_word_ms, world->now_ms + world_random(world, 4));
	happen(world, side->host, TRUE, vm->last_word_ms - world->now_ms, hear_word)->number =
		word;
}

static void vm_end(void *data, gboolean kill)
{
	struct side *side = data;

	note(side->world, "%u: ends colo-vm", side->host);
	end_vm(side->world, side->host);
}

/* Guests at work. */

static void speak(test_world *world, guint host)
{
	struct host *here = &world->host[host];
	struct vm *vm = &here->vm;
	struct host *there = &world->host[!host];

	if (!vm->up || vm->standby || vm->held || vm->resting || is_frozen(world, host))
		return;
	if (vm->guarded) {
		/* What the standby has committed may go out. */
		if (!vm->linked || !link_works(world, WORLD_REPLICATION) || vm->deaf ||
		    !there->vm.promotable || !there->vm.linked || is_frozen(world, !host))
			return;
		there->vm.knows = there->disk = vm->knows + 1;
	}
	if (vm->knows < world->outputs)
		violate(world,
			"host %u lets out what knows %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
			" outputs",
			host, vm->knows, world->outputs);
	vm->knows++;
	here->disk = here->durable_disk = vm->knows;
	world->outputs = vm->knows;
}

/* The disk, arbiter and other things of a node. */

static guint64 now_ms(void *data)
{
	return ((struct side *)data)->world->now_ms;
}

static void recorded(test_world *world, guint host, const struct happening *happening)
{
	colo_node_recorded(world->host[host].node, happening->number != 0, "the model says so");
}

/* Between this and its being told, colod can die. */
static void reach_disk(test_world *world, guint host, const struct happening *happening)
{
	const gboolean fails = world->host[host].disk_fails;

	/* Whether it is on disk after an error of a flush, nobody knows. */
	if (!fails || world_random(world, 2))
		world->host[host].record = *(const struct colo_record *)happening->thing;
	happen(world, host, FALSE, world_random(world, 4), recorded)->number = !fails;
}

static void record(void *data, const struct colo_record *record)
{
	struct side *side = data;
	struct happening *happening =
		happen(side->world, side->host, FALSE,
		       1 + world_random(side->world, 8) +
			       side->world->host[side->host].disk_slow_ms,
		       reach_disk);

	note(side->world, "%u: writes down %s %" G_GUINT64_FORMAT, side->host,
	     colo_part_name(record->part), record->generation);
	happening->thing = g_memdup2(record, sizeof(*record));
}

struct said {
	enum colo_verdict verdict;
	gboolean known;
	struct colo_arbiter_record record;
};

static void verdict(test_world *world, guint host, const struct happening *happening)
{
	const struct said *said = happening->thing;

	if (happening->number != world->host[host].question)
		return;
	colo_node_verdict(world->host[host].node, said->verdict,
			  said->known ? &said->record : NULL, "the model says so");
}

/* What it does with a question, and what it says. */
typedef struct said (*judge_fn)(test_world *world, guint host, guint64 generation, gboolean force);

struct question {
	judge_fn judge;
	guint64 generation;
	gboolean force;
};

static void arrive_at_arbiter(test_world *world, guint host, const struct happening *happening)
{
	const struct question *question = happening->thing;
	struct said said = { COLO_VERDICT_UNREACHABLE };
	struct happening *back;
	guint64 in_ms = 500;

	/* Carried out, and the answer may be lost all the same. */
	if (!world->host[host].arbiter_cut) {
		said = question->judge(world, host, question->generation, question->force);
		in_ms = 1 + world_random(world, 5);
		if (world_random(world, 20) == 0) {
			said = (struct said){ COLO_VERDICT_UNREACHABLE };
			in_ms = 500;
		}
	}
	back = happen(world, host, FALSE, in_ms, verdict);
	back->life = happening->life;
	back->thing = g_memdup2(&said, sizeof(said));
	back->number = happening->number;
}

static void ask(void *data, judge_fn judge, guint64 generation, gboolean force)
{
	struct side *side = data;
	const struct question question = { judge, generation, force };
	struct happening *happening = happen(side->world, side->host, FALSE,
					     1 + (world_random(side->world, 20) ?
							  world_random(side->world, 5) :
							  world_random(side->world, 3000)),
					     arrive_at_arbiter);

	happening->on_wire = TRUE;
	happening->thing = g_memdup2(&question, sizeof(question));
	happening->number = ++side->world->host[side->host].question;
}

static struct said said(const test_world *world, enum colo_verdict verdict)
{
	return (struct said){ verdict, world->recorded, world->record };
}

static gboolean is_ours(const test_world *world, guint host, guint64 generation)
{
	return world->recorded && world->record.solo && world->record.owner == host &&
	       world->record.generation == generation;
}

static void set_record(test_world *world, guint64 generation, gboolean solo, guint owner)
{
	world->recorded = TRUE;
	world->record = (struct colo_arbiter_record){ generation, solo, owner };
	note(world, "arbiter: %s %u, generation %" G_GUINT64_FORMAT, solo ? "solo" : "protected",
	     owner, generation);
}

static struct said judge_read(test_world *world, guint host, guint64 generation, gboolean force)
{
	if (!world->ops.arbiter_keeps_records)
		return (struct said){ COLO_VERDICT_NO_RECORD };
	return said(world, world->recorded ? COLO_VERDICT_RECORD : COLO_VERDICT_NO_RECORD);
}

static struct said judge_claim(test_world *world, guint host, guint64 generation, gboolean force)
{
	if (world->kind == COLO_ARBITER_NONE)
		return (struct said){ host == 0 ? COLO_VERDICT_GRANTED :
						  COLO_VERDICT_UNKNOWN };
	if (world->kind == COLO_ARBITER_FENCE) {
		world_power_off(world, !host);
		return (struct said){ COLO_VERDICT_GRANTED };
	}
	if (world->kind == COLO_ARBITER_MANUAL)
		return (struct said){ COLO_VERDICT_UNKNOWN };
	if (!world->recorded)
		return (struct said){ COLO_VERDICT_NO_RECORD };
	if (is_ours(world, host, generation + 1))
		return said(world, COLO_VERDICT_GRANTED);
	if (world->record.generation != generation ||
	    (world->record.solo && world->record.owner != host))
		return said(world, COLO_VERDICT_DENIED);
	set_record(world, generation + 1, TRUE, host);
	return said(world, COLO_VERDICT_GRANTED);
}

static struct said judge_protect(test_world *world, guint host, guint64 generation, gboolean force)
{
	if (!world->ops.arbiter_keeps_records)
		return (struct said){ COLO_VERDICT_GRANTED };
	if (!world->recorded)
		return (struct said){ COLO_VERDICT_NO_RECORD };
	if (world->record.generation == generation && !world->record.solo)
		return said(world, COLO_VERDICT_GRANTED);
	if (!is_ours(world, host, generation))
		return said(world, COLO_VERDICT_DENIED);
	set_record(world, generation, FALSE, host);
	return said(world, COLO_VERDICT_GRANTED);
}

static struct said judge_create(test_world *world, guint host, guint64 generation, gboolean force)
{
	if (!world->ops.arbiter_keeps_records)
		return (struct said){ COLO_VERDICT_GRANTED };
	if (world->recorded && !force && !is_ours(world, host, generation))
		return said(world, COLO_VERDICT_DENIED);
	set_record(world, generation, TRUE, host);
	return said(world, COLO_VERDICT_GRANTED);
}

static void arbiter_read(void *data)
{
	ask(data, judge_read, 0, FALSE);
}

/* What it says to questions of before is heard by nobody. */
static void arbiter_cancel(void *data)
{
	struct side *side = data;

	side->world->host[side->host].question++;
}

static void arbiter_claim(void *data, guint64 generation)
{
	ask(data, judge_claim, generation, FALSE);
}

static void arbiter_protect(void *data, guint64 generation)
{
	ask(data, judge_protect, generation, FALSE);
}

static void arbiter_create(void *data, guint64 generation, gboolean force)
{
	ask(data, judge_create, generation, force);
}

/* Between the two colods. What is said is in order, and lost where the link is cut. */

struct letter {
	gboolean answer, state, yes;
	guint connection;
	guint64 id, generation;
	enum colo_ask ask;
	struct colo_peer_state said;
};

static void put_off(test_world *world, const struct happening *happening)
{
	struct happening *again = g_memdup2(happening, sizeof(*happening));

	again->at_ms = world->now_ms + 1;
	again->thing = g_memdup2(happening->thing, sizeof(struct letter));
	g_sequence_insert_sorted(world->queue, again, by_time, NULL);
}

static void deliver(test_world *world, guint host, const struct happening *happening)
{
	const struct letter *letter = happening->thing;
	struct host *here = &world->host[host];

	if (!here->peer_up || !here->node || letter->connection != world->connection)
		return;
	if (!arrives(world, WORLD_CONTROL, host)) {
		/* It is sent again until it arrives or the connection is given up, and keeps
		 * its place. */
		put_off(world, happening);
		return;
	}
	if (letter->state)
		colo_node_peer_said(here->node, &letter->said);
	else if (letter->answer)
		colo_node_peer_answered(here->node, letter->ask, letter->yes, "not now");
	else
		colo_node_peer_asked(here->node, letter->id, letter->ask, letter->generation);
}

static void post(struct side *side, const struct letter *letter)
{
	test_world *world = side->world;
	struct letter *copy;

	if (!world->host[side->host].peer_up || !world->host[!side->host].node)
		return;
	copy = g_memdup2(letter, sizeof(*letter));
	copy->connection = world->connection;
	happen(world, !side->host, FALSE, 2, deliver)->thing = copy;
}

static void peer_ask(void *data, enum colo_ask ask, guint64 generation)
{
	/* The question goes along with the answer: its kind is the id. */
	const struct letter letter = { .id = ask, .ask = ask, .generation = generation };
	struct side *side = data;

	note(side->world, "%u: asks the other node %d for %" G_GUINT64_FORMAT, side->host, ask,
	     generation);
	post(side, &letter);
}

static void peer_answer(void *data, guint64 id, gboolean yes, const char *why)
{
	const struct letter letter = { .answer = TRUE, .ask = (enum colo_ask)id, .yes = yes };
	struct side *side = data;

	note(side->world, "%u: answers %d: %s", side->host, (int)id, yes ? "yes" : why);
	post(side, &letter);
}

static void tell(void *data)
{
	struct side *side = data;
	struct letter letter = { .state = TRUE };
	colo_node *node = side->world->host[side->host].node;

	if (!node)
		return;
	colo_node_self(node, &letter.said);
	post(side, &letter);
}

static void event(void *data, const char *name, const char *detail)
{
	struct side *side = data;
	guint count = GPOINTER_TO_UINT(g_hash_table_lookup(side->world->counts, name));

	note(side->world, "%u: event %s (%s)", side->host, name, detail);
	g_hash_table_insert(side->world->counts, (gpointer)name, GUINT_TO_POINTER(count + 1));
}

static void order_answer(void *data, enum colo_order order, const char *code,
			 const char *message)
{
	struct side *side = data;

	note(side->world, "%u: order %d: %s", side->host, order, code ? message : "done");
	if (order == COLO_ORDER_PROMOTE)
		side->world->host[!side->host].forcing = FALSE;
}

/* Connections come and go. */

static void peer_goes_down(test_world *world, guint host, const struct happening *happening)
{
	if (!world->host[host].peer_up)
		return;
	world->host[host].peer_up = FALSE;
	if (world->host[host].node)
		colo_node_peer_down(world->host[host].node);
}

/* How long nothing has come on a link. */
static gboolean is_silent(const test_world *world, enum world_link link, guint host, guint64 ms)
{
	if (world->cut[link][host] && world->now_ms > world->cut_since_ms[link][host] + ms)
		return TRUE;
	return is_frozen(world, !host) &&
	       world->now_ms > world->host[!host].frozen_since_ms + ms;
}

static void watch_peers(test_world *world)
{
	const gboolean both = world->host[0].node && world->host[1].node;
	const gboolean works = link_works(world, WORLD_CONTROL) && both;

	if (works && !world->host[0].peer_up && !world->host[1].peer_up &&
	    !is_frozen(world, 0) && !is_frozen(world, 1) && world_random(world, 10) == 0) {
		world->connection++;
		world->host[0].peer_up = world->host[1].peer_up = TRUE;
		colo_node_peer_up(world->host[0].node);
		colo_node_peer_up(world->host[1].node);
		return;
	}
	for (guint i = 0; i < 2; i++) {
		struct host *host = &world->host[i];

		if (!host->peer_up || is_frozen(world, i))
			continue;
		/* Silence, or the other end has gone. */
		if (is_silent(world, WORLD_CONTROL, i, CONTROL_SILENCE_MS) || !both ||
		    (!world->host[!i].peer_up && arrives(world, WORLD_CONTROL, i)))
			peer_goes_down(world, i, NULL);
	}
}

static void beat(test_world *world)
{
	for (guint i = 0; i < 2; i++) {
		struct host *host = &world->host[i];
		struct host *other = &world->host[!i];
		struct colo_peer_state self;

		if (is_frozen(world, i))
			continue;
		if (arrives(world, WORLD_HEARTBEAT, i) && other->node && !is_frozen(world, !i)) {
			colo_node_self(other->node, &self);
			host->heard_ms = world->now_ms;
			host->ever_heard = TRUE;
			host->heard = (struct hb_self){
				.generation = wire_put64(self.generation),
				.epoch = wire_put64(self.epoch),
				.state = (guint8)self.state,
				.flags = self.flags & COLO_PEER_VM ? HB_FLAG_VM : 0,
			};
		}
		if (host->node)
			colo_node_heartbeat(host->node,
					    host->ever_heard && world->now_ms <=
									host->heard_ms +
										SILENCE_MS,
					    host->ever_heard ? &host->heard : NULL);
	}
}

static void watch_replication(test_world *world)
{
	for (guint i = 0; i < 2; i++)
		if (!is_frozen(world, i) && is_silent(world, WORLD_REPLICATION, i, SILENCE_MS))
			lose_link(world, i);
}

/* Hosts. */

static void begin_anew(test_world *world, guint host)
{
	struct host *here = &world->host[host];
	const struct vm *vm = &here->vm;
	const struct colo_vm_found found = {
		.standby = vm->standby,
		.syncing = !vm->standby && vm->linked && !vm->guarded,
		.protected_now = !vm->standby && vm->linked && vm->guarded,
		.held = vm->held || vm->resting,
		.promotable = vm->promotable,
		.lost = vm->standby && !vm->linked,
		.durable = here->durable_disk == vm->knows,
	};

	here->node = colo_node_new(&world->pair, host, &here->record, &world->ops,
				   &world->side[host]);
	here->peer_up = FALSE;
	if (vm->there) {
		note(world, "%u: finds a colo-vm", host);
		colo_node_adopt(here->node, &found);
		colo_node_vm_news(here->node, COLO_VM_UP, NULL);
		if (!vm->deaf)
			colo_node_vm_news(here->node, COLO_VM_GUARD, NULL);
		if (vm->standby && !vm->linked && !vm->promotable)
			colo_node_vm_news(here->node, COLO_VM_WAITING, NULL);
	} else if (!here->record.stopped) {
		colo_node_order(here->node, COLO_ORDER_START, FALSE);
	}
}

void world_start_colod(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	if (!here->on || here->node || is_frozen(world, host))
		return;
	note(world, "%u: colod starts", host);
	here->node_life++;
	begin_anew(world, host);
}

void world_kill_colod(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	if (!here->node)
		return;
	note(world, "%u: colod is killed", host);
	here->node_life++;
	world->host[!host].forcing = FALSE;
	g_clear_pointer(&here->node, colo_node_free);
	here->peer_up = FALSE;
}

void world_power_on(test_world *world, guint host)
{
	if (world->host[host].on)
		return;
	note(world, "%u: power on", host);
	world->host[host].on = TRUE;
	world->host[host].frozen_until_ms = 0;
	world->host[host].ever_heard = FALSE;
	world_start_colod(world, host);
}

void world_power_off(test_world *world, guint host)
{
	struct host *here = &world->host[host];
	struct vm *other = &world->host[!host].vm;

	if (!here->on)
		return;
	note(world, "%u: power off", host);
	here->on = FALSE;
	if (here->vm.linked && other->linked)
		end_other_link(world, host);
	here->vm.life++;
	here->vm = (struct vm){ .life = here->vm.life };
	world_kill_colod(world, host);
	/* What was not flushed is gone, in part or whole. */
	if (here->durable_disk != here->disk && here->disk != NOTHING)
		here->disk = here->durable_disk == NOTHING ? NOTHING : here->durable_disk;
}

void world_kill_vm(test_world *world, guint host)
{
	if (!world->host[host].vm.there)
		return;
	note(world, "%u: colo-vm is killed", host);
	end_vm(world, host);
}

void world_cut_to(test_world *world, enum world_link link, guint host, gboolean cut)
{
	if (world->cut[link][host] == cut)
		return;
	note(world, "link %d to %u: %s", link, host, cut ? "cut" : "mended");
	world->cut[link][host] = cut;
	if (cut)
		world->cut_since_ms[link][host] = world->now_ms;
}

void world_cut(test_world *world, enum world_link link, gboolean cut)
{
	world_cut_to(world, link, 0, cut);
	world_cut_to(world, link, 1, cut);
}

void world_freeze(test_world *world, guint host, guint64 ms)
{
	if (!world->host[host].on)
		return;
	note(world, "%u: stands still for %" G_GUINT64_FORMAT " ms", host, ms);
	if (!is_frozen(world, host))
		world->host[host].frozen_since_ms = world->now_ms;
	world->host[host].frozen_until_ms =
		MAX(world->host[host].frozen_until_ms, world->now_ms + ms);
}

void world_break_disk(test_world *world, guint host, gboolean fails, guint64 slow_ms)
{
	if (fails || slow_ms)
		note(world, "%u: the record's disk fails or is slow", host);
	world->host[host].disk_fails = fails;
	world->host[host].disk_slow_ms = slow_ms;
}

void world_comparator(test_world *world, guint host, gboolean there)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->there || vm->deaf == !there)
		return;
	note(world, "%u: the comparator %s", host, there ? "is back" : "dies");
	vm->deaf = !there;
	if (vm->up)
		news(world, host, there ? COLO_VM_GUARD : COLO_VM_NO_GUARD, 1);
}

/* The guest's own doing. */
void world_guest_off(test_world *world, guint host)
{
	const struct vm *vm = &world->host[host].vm;

	if (!vm->up || vm->standby || vm->held || vm->resting)
		return;
	note(world, "%u: the guest switches off", host);
	happen(world, host, TRUE, 0, power_down);
}

void world_arbiter_forgets(test_world *world)
{
	note(world, "the arbiter loses its record");
	world->recorded = FALSE;
}

void world_cut_arbiter(test_world *world, guint host, gboolean cut)
{
	if (world->host[host].arbiter_cut != cut)
		note(world, "%u: arbiter %s", host, cut ? "cut off" : "back");
	world->host[host].arbiter_cut = cut;
}

void world_order(test_world *world, guint host, enum colo_order order, gboolean force)
{
	if (!world->host[host].node || is_frozen(world, host))
		return;
	note(world, "%u: order %d%s", host, order, force ? ", forced" : "");
	colo_node_order(world->host[host].node, order, force);
}

/* Whether the operator can know that going on here takes nothing back. */
static gboolean may_force(const test_world *world, guint host)
{
	const struct host *here = &world->host[host], *other = &world->host[!host];

	if (other->on || !here->node || is_frozen(world, host) || other->record.part == COLO_PART_SOLO ||
	    other->record.part == COLO_PART_PROMOTED)
		return FALSE;
	if (here->vm.there)
		return here->vm.knows >= world->outputs &&
		       (!here->vm.standby || here->vm.promotable);
	return here->disk != NOTHING && here->disk >= world->outputs;
}

gboolean world_force(test_world *world, guint host)
{
	if (!may_force(world, host) || world->host[!host].forcing)
		return FALSE;
	world->host[!host].distrusted = world->host[!host].forcing = TRUE;
	world_order(world, host, COLO_ORDER_PROMOTE, TRUE);
	return TRUE;
}

static void order_something(test_world *world, guint host)
{
	static const enum colo_order orders[] = {
		COLO_ORDER_SWITCHOVER, COLO_ORDER_SWITCHOVER, COLO_ORDER_STOP,
		COLO_ORDER_START,      COLO_ORDER_CHECKPOINT, COLO_ORDER_STAND_DOWN,
		COLO_ORDER_DISCARD,    COLO_ORDER_START,
	};

	if (world_random(world, 4) == 0)
		world_force(world, host);
	else
		world_order(world, host, orders[world_random(world, G_N_ELEMENTS(orders))],
			    FALSE);
}

static void cut_something(test_world *world, guint host)
{
	const enum world_link link = (enum world_link)world_random(world, WORLD__LINKS);

	if (world_random(world, 3) == 0)
		world_cut_to(world, link, host, TRUE);
	else
		world_cut(world, link, world_random(world, 2));
}

void world_misfortune(test_world *world)
{
	const guint host = world_random(world, 2);

	switch (world_random(world, 20)) {
	case 0:
	case 1:
		world_power_off(world, host);
		break;
	case 2:
	case 3:
		if (!world->host[host].distrusted)
			world_power_on(world, host);
		break;
	case 4:
		world_kill_vm(world, host);
		break;
	case 5:
	case 6:
		world_kill_colod(world, host);
		break;
	case 7:
		world_start_colod(world, host);
		break;
	case 8:
	case 9:
		cut_something(world, host);
		break;
	case 10:
		world_cut_arbiter(world, host, world_random(world, 2));
		break;
	case 11:
	case 12:
		order_something(world, host);
		break;
	case 13:
		world_freeze(world, host, 100 + world_random(world, 9900));
		break;
	case 14:
		world_freeze(world, host, world_random(world, 1500));
		break;
	case 15:
		world_break_disk(world, host, world_random(world, 2),
				 world_random(world, 5000));
		break;
	case 16:
		world_break_disk(world, host, FALSE, 0);
		break;
	case 17:
		world_comparator(world, host, world_random(world, 2));
		break;
	case 18:
		if (world_random(world, 4) == 0)
			world_guest_off(world, host);
		else if (world_random(world, 8) == 0)
			world_arbiter_forgets(world);
		break;
	case 19:
		for (guint i = 0; i < WORLD__LINKS; i++)
			world_cut(world, (enum world_link)i, FALSE);
		world_cut_arbiter(world, host, FALSE);
		break;
	}
}

/* What is known where a guest could go on; NOTHING: nowhere. */
static guint64 knowledge(const test_world *world, guint host)
{
	const struct host *here = &world->host[host];
	const struct vm *vm = &here->vm;

	if (vm->there && vm->up && (!vm->standby || vm->promotable))
		return vm->knows;
	/* What its own node calls no copy. */
	return here->record.generation && here->record.part == COLO_PART_NONE ? NOTHING :
										here->disk;
}

gboolean world_is_lost(const test_world *world)
{
	return knowledge(world, 0) == NOTHING && knowledge(world, 1) == NOTHING;
}

gboolean world_person(test_world *world)
{
	const guint64 a = knowledge(world, 0), b = knowledge(world, 1);
	const guint better = a == NOTHING || (b != NOTHING && b > a) ? 1 : 0;
	/* Whose guest runs needs no second look. */
	const guint host = world_speaking(world) == 1 ?
				   (colo_state_is_primary(world_state(world, 0)) ? 0 : 1) :
				   better;
	const guint64 best = host ? b : a;
	const enum colo_state state = world_state(world, host);

	if (best == NOTHING)
		return FALSE;
	note(world, "a person decides for %u", host);
	/* What nobody has any more is given up. */
	world->outputs = MIN(world->outputs, best);
	world_order(world, !host, COLO_ORDER_DISCARD, TRUE);
	world_run(world, 2000);
	if (state == COLO_STOPPED)
		world_order(world, host, COLO_ORDER_START, FALSE);
	world_order(world, host, COLO_ORDER_PROMOTE, TRUE);
	return TRUE;
}

void world_mend(test_world *world)
{
	for (guint i = 0; i < WORLD__LINKS; i++)
		world_cut(world, (enum world_link)i, FALSE);
	for (guint i = 0; i < 2; i++) {
		world_cut_arbiter(world, i, FALSE);
		world_break_disk(world, i, FALSE, 0);
		world_comparator(world, i, TRUE);
		if (!world->host[i].forcing && world->host[!i].node &&
		    !is_frozen(world, !i))
			world->host[i].distrusted = FALSE;
		if (!world->host[i].distrusted)
			world_power_on(world, i);
		world_start_colod(world, i);
	}
}

/* The course of things. */

static void carry_out(test_world *world, struct happening *happening)
{
	const struct host *host = &world->host[happening->host];
	const guint life = happening->of_vm ? host->vm.life : host->node_life;

	if (happening->on_wire ||
	    (life == happening->life && host->on && (happening->of_vm || host->node)))
		happening->fn(world, happening->host, happening);
	g_free(happening->thing);
	g_free(happening);
}

/* What waits for a host that stands still keeps its order, but for what came by different
 * ways. */
static void wait_for_host(test_world *world, struct happening *happening)
{
	happening->at_ms = world->host[happening->host].frozen_until_ms +
			   (happening->of_vm ? world_random(world, 1) : 0);
	g_sequence_insert_sorted(world->queue, happening, by_time, NULL);
}

static void tick(test_world *world)
{
	watch_replication(world);
	watch_peers(world);
	if (world->now_ms % 50 == 0) {
		beat(world);
		for (guint i = 0; i < 2; i++)
			if (world->host[i].node && !is_frozen(world, i))
				colo_node_tick(world->host[i].node);
	}
	for (guint i = 0; i < 2; i++)
		speak(world, i);
}

void world_run(test_world *world, guint64 ms)
{
	const guint64 until = world->now_ms + ms;

	while (world->now_ms < until && !world->violation) {
		GSequenceIter *first = g_sequence_get_begin_iter(world->queue);

		while (!g_sequence_iter_is_end(first) &&
		       ((struct happening *)g_sequence_get(first))->at_ms <= world->now_ms) {
			struct happening *happening = g_sequence_get(first);

			g_sequence_remove(first);
			if (is_frozen(world, happening->host) && !happening->on_wire)
				wait_for_host(world, happening);
			else
				carry_out(world, happening);
			first = g_sequence_get_begin_iter(world->queue);
		}
		if (world->now_ms % TICK_MS == 0)
			tick(world);
		world->now_ms++;
	}
}

static void set_pair(test_world *world)
{
	colo_pair *pair = &world->pair;

	pair->name = (char *)"web";
	pair->node[0].name = (char *)"alpha";
	pair->node[1].name = (char *)"beta";
	pair->arbiter.kind = world->kind;
	pair->arbiter.delay_ms = 1000;
	pair->comparison.enabled = TRUE;
	pair->nets = 1;
	pair->vm.on_crash = COLO_GUEST_RESTART;
}

test_world *world_new(guint32 seed, enum colo_arbiter_kind kind)
{
	test_world *world = g_new0(struct world, 1);

	world->rand = g_rand_new_with_seed(seed);
	world->queue = g_sequence_new(NULL);
	world->lines = g_queue_new();
	world->counts = g_hash_table_new(g_str_hash, g_str_equal);
	world->kind = kind;
	set_pair(world);
	world->ops = (struct colo_node_ops){
		.now_ms = now_ms,
		.record = record,
		.arbiter_read = arbiter_read,
		.arbiter_claim = arbiter_claim,
		.arbiter_protect = arbiter_protect,
		.arbiter_create = arbiter_create,
		.arbiter_cancel = arbiter_cancel,
		.arbiter_keeps_records = kind == COLO_ARBITER_ETCD,
		.vm_start = vm_start,
		.vm_say = vm_say,
		.vm_end = vm_end,
		.peer_ask = peer_ask,
		.peer_answer = peer_answer,
		.tell = tell,
		.event = event,
		.answer = order_answer,
	};
	for (guint i = 0; i < 2; i++)
		world->side[i] = (struct side){ world, i };
	return world;
}

void world_free(test_world *world)
{
	GSequenceIter *at = g_sequence_get_begin_iter(world->queue);

	for (; !g_sequence_iter_is_end(at); at = g_sequence_iter_next(at)) {
		struct happening *happening = g_sequence_get(at);

		g_free(happening->thing);
		g_free(happening);
	}
	g_sequence_free(world->queue);
	for (guint i = 0; i < 2; i++)
		g_clear_pointer(&world->host[i].node, colo_node_free);
	g_queue_free_full(world->lines, g_free);
	g_hash_table_unref(world->counts);
	g_rand_free(world->rand);
	g_free(world->violation);
	g_free(world);
}

/* Looking. */

const char *world_violation(const test_world *world)
{
	return world->violation;
}

void world_print(const test_world *world)
{
	for (const GList *at = world->lines->head; at; at = at->next)
		fprintf(stderr, "%s\n", (const char *)at->data);
}

gboolean world_is_on(const test_world *world, guint host)
{
	return world->host[host].on;
}

enum colo_state world_state(const test_world *world, guint host)
{
	struct colo_node_view view = { .state = COLO_STOPPED };

	if (world->host[host].node)
		colo_node_view(world->host[host].node, &view);
	return view.state;
}

enum colo_part world_part(const test_world *world, guint host)
{
	return world->host[host].record.part;
}

const char *world_reason(const test_world *world, guint host)
{
	struct colo_node_view view = { 0 };

	if (world->host[host].node)
		colo_node_view(world->host[host].node, &view);
	return view.reason ? view.reason : "";
}

guint64 world_outputs(const test_world *world)
{
	return world->outputs;
}

guint world_speaking(const test_world *world)
{
	guint count = 0;

	for (guint i = 0; i < 2; i++) {
		const struct vm *vm = &world->host[i].vm;

		count += vm->up && !vm->standby && !vm->held && !vm->resting;
	}
	return count;
}

gboolean world_protected(const test_world *world)
{
	const enum colo_state a = world_state(world, 0), b = world_state(world, 1);

	return (a == COLO_PROTECTED && b == COLO_STANDBY) ||
	       (b == COLO_PROTECTED && a == COLO_STANDBY);
}

guint world_count(const test_world *world, const char *name)
{
	return GPOINTER_TO_UINT(g_hash_table_lookup(world->counts, name));
}
