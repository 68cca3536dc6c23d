/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Misfortunes in a world, and what people do about them. */
#include "tests/unit/world_private.h"

/* Whether the operator can know that going on here takes nothing back. */
static gboolean may_force(const test_world *world, guint host)
{
	const struct host *here = &world->host[host], *other = &world->host[!host];

	if (other->on || !here->node || world_is_frozen(world, host) ||
	    other->record.part == COLO_PART_SOLO ||
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
		world_order(world, host,
			    orders[world_random(world, G_N_ELEMENTS(orders))], FALSE);
}

static void cut_something(test_world *world, guint host)
{
	const enum world_link link = (enum world_link)world_random(world, WORLD__LINKS);

	if (world_random(world, 3) == 0)
		world_cut_to(world, link, host, TRUE);
	else
		world_cut(world, link, world_random(world, 2));
}

void world_flip(test_world *world, guint host)
{
	if (!world->host[host].on)
		world_files_flip(world, host);
}

void world_be_rough(test_world *world)
{
	world->rough = TRUE;
}

void world_misfortune(test_world *world)
{
	const guint host = world_random(world, 2);

	world->mended = FALSE;

	switch (world_random(world, 25)) {
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
	case 20:
	case 21:
	case 22:
		world_hearts_misfortune(world);
		break;
	case 23:
		world_etcd_misfortune(world);
		break;
	case 24:
		if (world_random(world, 4) == 0)
			world_flip(world, host);
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
	return here->record.generation && here->record.part == COLO_PART_NONE
		       ? NOTHING
		       : here->disk;
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
	const guint host =
		world_speaking(world) == 1
			? (colo_state_is_primary(world_state(world, 0)) ? 0 : 1)
			: better;
	const guint64 best = host ? b : a;
	const enum colo_state state = world_state(world, host);

	if (best == NOTHING)
		return FALSE;
	world_note(world, "a person decides for %u", host);
	for (guint i = 0; i < 2; i++) {
		if (!world->host[i].damaged)
			continue;
		world_files_remove(world, i);
		world_start_colod(world, i);
	}
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
	if (!world->mended)
		world_hearts_mend(world);
	world->mended = TRUE;
	world_etcd_mend(world);
	for (guint i = 0; i < 2; i++) {
		world_cut_arbiter(world, i, FALSE);
		world_break_disk(world, i, FALSE, 0);
		world_comparator(world, i, TRUE);
		if (!world->host[i].forcing && world->host[!i].node &&
		    !world_is_frozen(world, !i))
			world->host[i].distrusted = FALSE;
		if (!world->host[i].distrusted)
			world_power_on(world, i);
		/* The file is removed when the other node can fill this one, as is
		 * said. */
		if (world->host[i].damaged &&
		    colo_state_is_primary(world_state(world, !i)))
			world_files_remove(world, i);
		world_start_colod(world, i);
	}
}

/* The course of things. */
