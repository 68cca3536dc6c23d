/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two colo-vms in a world, their disks, guests and link: a model. */
#include "tests/unit/world_private.h"

#define SILENCE_MS 300u /* of replication */
#define GONE_MS 50u /* until the kernel has freed what a colo-vm had */

/* What colo-vm tells. */

static void tell_news(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_news(
			world->host[host].node, (enum colo_vm_news)happening->number,
			happening->number == COLO_VM_PRIMARY_ENDED ? "poweroff"
								   : "told");
}

static void news(test_world *world, guint host, enum colo_vm_news what, guint64 in_ms)
{
	world_happen(world, host, TRUE, in_ms, tell_news)->number = what;
}

static void tell_answer(test_world *world, guint host,
			const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_answered(
			world->host[host].node, (enum colo_word)happening->number,
			happening->number2 != 0, happening->number2 ? NULL : "refused");
}

static void answer(test_world *world, guint host, enum colo_word word, gboolean ok,
		   guint64 in_ms)
{
	struct happening *happening =
		world_happen(world, host, TRUE, in_ms, tell_answer);

	happening->number = word;
	happening->number2 = ok;
}

static void tell_gone(test_world *world, guint host, const struct happening *happening)
{
	if (world->host[host].node)
		colo_node_vm_gone(world->host[host].node, "killed by signal 9");
}

/* Whoever waits for an answer gets one. */
static void tell_deaf(test_world *world, guint host, const struct happening *happening)
{
	struct host *here = &world->host[host];

	if (here->node)
		colo_node_vm_news(here->node, COLO_VM_DEAF, NULL);
	if (here->node && world_state(world, host) == COLO_HANDING)
		colo_node_vm_answered(here->node, COLO_WORD_HAND_OVER, FALSE,
				      "not connected");
}

/* A machine loses the other one. */
static void lose_link_later(test_world *world, guint host,
			    const struct happening *happening);

/* The other side of a machine's link hears of its end, or finds out. */
static void end_other_link(test_world *world, guint host)
{
	const gboolean works = world_arrives(world, WORLD_REPLICATION, !host);

	world_happen(world, !host, TRUE, works ? 1 : SILENCE_MS, lose_link_later)
		->number = world->host[host].vm.link;
}

static void lose_link(test_world *world, guint host)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->there || !vm->linked)
		return;
	vm->linked = FALSE;
	end_other_link(world, host);
	world_note(world, "%u: its colo-vm has lost the link", host);
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

static void lose_link_later(test_world *world, guint host,
			    const struct happening *happening)
{
	if (world->host[host].vm.link == happening->number)
		lose_link(world, host);
}

void world_vm_end(test_world *world, guint host)
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
		world_happen(world, host, FALSE, 2, tell_deaf);
		world_happen(world, host, FALSE, GONE_MS, tell_gone);
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

	world_note(side->world, "%u: starts colo-vm%s", side->host,
		   standby ? " as standby" : "");
	if (host->vm.there)
		world_violate(side->world, "a second colo-vm on one host");
	host->vm = (struct vm){ .there = TRUE,
				.standby = standby,
				.life = host->vm.life + 1 };
	if (standby)
		host->disk = host->durable_disk = NOTHING;
	else
		host->vm.knows = host->disk;
	if (!standby && host->disk == NOTHING)
		world_violate(side->world,
			      "host %u starts a guest from a disk that is no copy",
			      side->host);
	if (!standby && host->disk < side->world->outputs)
		world_violate(
			side->world,
			"host %u starts a stale guest: it knows %" G_GUINT64_FORMAT
			" of %" G_GUINT64_FORMAT " outputs",
			side->host, host->disk, side->world->outputs);
	/* The model's colo-vm flushes what an earlier one left before its guest runs.
	 */
	if (!standby)
		host->durable_disk = host->disk;
	world_happen(side->world, side->host, TRUE, 2 + world_random(side->world, 20),
		     vm_is_up);
}

static void first_commit(test_world *world, guint host,
			 const struct happening *happening)
{
	struct vm *primary = &world->host[host].vm;
	struct vm *standby = &world->host[!host].vm;

	if (!primary->linked || primary->link != happening->number || !standby->filling)
		return;
	if (world_is_frozen(world, !host)) {
		world_happen(world, host, TRUE, 10, first_commit)->number =
			happening->number;
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

	if (!world_link_works(world, WORLD_REPLICATION) ||
	    world_is_frozen(world, !host) || !standby->up || !standby->standby ||
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
	world_happen(world, host, TRUE, 30 + world_random(world, 300), first_commit)
		->number = primary->link;
}

static void become_durable(test_world *world, guint host,
			   const struct happening *happening)
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
	world_note(world, "%u: colo-vm is promoted, knowing %" G_GUINT64_FORMAT, host,
		   vm->knows);
	/* What that one has on its way to clients now goes out beside what this one says. */
	if (vm->linked && world->host[!host].vm.linked && !world->host[!host].vm.resting)
		world_violate(world, "host %u is promoted while it is fed by a guest that runs",
			      host);
	if (vm->linked)
		end_other_link(world, host);
	vm->standby = vm->promotable = vm->lost = vm->linked = FALSE;
	answer(world, host, COLO_WORD_PROMOTE, TRUE, 3);
	news(world, host, COLO_VM_PROMOTED, 3);
	world_happen(world, host, TRUE, 5 + world_random(world, 100), become_durable);
}

static void power_down(test_world *world, guint host, const struct happening *happening)
{
	struct vm *other = &world->host[!host].vm;

	if (world->host[host].vm.linked && other->linked &&
	    world_link_works(world, WORLD_REPLICATION)) {
		other->linked = other->filling = FALSE;
		other->lost = other->promotable;
		news(world, !host,
		     other->promotable ? COLO_VM_PRIMARY_ENDED : COLO_VM_WAITING, 1);
	}
	if (world->host[host].node)
		colo_node_vm_news(world->host[host].node, COLO_VM_POWEROFF, NULL);
	world_vm_end(world, host);
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
			world_happen(world, host, TRUE, 50, power_down);
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

	world_note(world, "%u: tells colo-vm word %d", side->host, word);
	if (!vm->there)
		return;
	vm->last_word_ms =
		MAX(vm->last_word_ms, world->now_ms + world_random(world, 4));
	world_happen(world, side->host, TRUE, vm->last_word_ms - world->now_ms,
		     hear_word)
		->number = word;
}

static void end(void *data, gboolean kill)
{
	struct side *side = data;

	world_note(side->world, "%u: ends colo-vm", side->host);
	world_vm_end(side->world, side->host);
}

/* Guests at work. */

void world_speak(test_world *world, guint host)
{
	struct host *here = &world->host[host];
	struct vm *vm = &here->vm;
	struct host *there = &world->host[!host];

	if (!vm->up || vm->standby || vm->held || vm->resting ||
	    world_is_frozen(world, host))
		return;
	if (vm->guarded) {
		/* What the standby has committed may go out. */
		if (!vm->linked || !world_link_works(world, WORLD_REPLICATION) ||
		    vm->deaf || !there->vm.promotable || !there->vm.linked ||
		    world_is_frozen(world, !host))
			return;
		there->vm.knows = there->disk = vm->knows + 1;
	}
	if (vm->knows < world->outputs)
		world_violate(world,
			      "host %u lets out what knows %" G_GUINT64_FORMAT
			      " of %" G_GUINT64_FORMAT " outputs",
			      host, vm->knows, world->outputs);
	vm->knows++;
	here->disk = here->durable_disk = vm->knows;
	world->outputs = vm->knows;
}

void world_vm_watch(test_world *world)
{
	for (guint i = 0; i < 2; i++)
		if (!world_is_frozen(world, i) &&
		    world_is_silent(world, WORLD_REPLICATION, i, SILENCE_MS))
			lose_link(world, i);
}

void world_fail_disk(test_world *world, guint host)
{
	if (!world->host[host].vm.there)
		return;
	world_note(world, "%u: the disk fails", host);
	news(world, host, COLO_VM_DISK_FAILED, 0);
}

void world_kill_vm(test_world *world, guint host)
{
	if (!world->host[host].vm.there)
		return;
	world_note(world, "%u: colo-vm is killed", host);
	world_vm_end(world, host);
}

void world_comparator(test_world *world, guint host, gboolean there)
{
	struct vm *vm = &world->host[host].vm;

	if (!vm->there || vm->deaf == !there)
		return;
	world_note(world, "%u: the comparator %s", host, there ? "is back" : "dies");
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
	world_note(world, "%u: the guest switches off", host);
	world_happen(world, host, TRUE, 0, power_down);
}

void world_vm_lose_power(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	if (here->vm.linked && world->host[!host].vm.linked)
		end_other_link(world, host);
	here->vm.life++;
	here->vm = (struct vm){ .life = here->vm.life };
	/* What was not flushed is gone, in part or whole. */
	if (here->durable_disk != here->disk && here->disk != NOTHING)
		here->disk =
			here->durable_disk == NOTHING ? NOTHING : here->durable_disk;
}

void world_vm_set_ops(struct colo_node_ops *ops)
{
	ops->vm_start = vm_start;
	ops->vm_say = vm_say;
	ops->vm_end = end;
}
