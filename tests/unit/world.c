/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair in one process: time, and what happens in it; hosts. */
#include "tests/unit/world_private.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define TICK_MS 10u
#define LINES 2000u

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

void world_note(test_world *world, const char *format, ...)
{
	va_list arguments;
	g_autofree char *text = NULL;

	va_start(arguments, format);
	text = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	g_queue_push_tail(world->lines, g_strdup_printf("%7" G_GUINT64_FORMAT " %s",
							world->now_ms, text));
	world->trace =
		XXH3_64bits_withSeed(text, strlen(text), world->trace ^ world->now_ms);
	if (g_queue_get_length(world->lines) > LINES)
		g_free(g_queue_pop_head(world->lines));
}

void world_violate(test_world *world, const char *format, ...)
{
	va_list arguments;

	if (world->violation)
		return;
	va_start(arguments, format);
	world->violation = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	world_note(world, "VIOLATION: %s", world->violation);
}

struct happening *world_happen(test_world *world, guint host, gboolean of_vm,
			       guint64 in_ms,
			       void (*fn)(test_world *world, guint host,
					  const struct happening *happening))
{
	struct happening *happening = g_new0(struct happening, 1);

	happening->at_ms = world->now_ms + in_ms;
	happening->order = ++world->order;
	happening->host = host;
	happening->of_vm = of_vm;
	happening->life =
		of_vm ? world->host[host].vm.life : world->host[host].node_life;
	happening->fn = fn;
	g_sequence_insert_sorted(world->queue, happening, by_time, NULL);
	return happening;
}

void world_put_off(test_world *world, const struct happening *happening,
		   gsize thing_bytes)
{
	struct happening *again = g_memdup2(happening, sizeof(*happening));

	again->at_ms = world->now_ms + 1;
	again->thing = g_memdup2(happening->thing, thing_bytes);
	g_sequence_insert_sorted(world->queue, again, by_time, NULL);
}

void world_never(test_world *world, happening_fn fn, guint64 number)
{
	GSequenceIter *at = g_sequence_get_begin_iter(world->queue);

	while (!g_sequence_iter_is_end(at)) {
		GSequenceIter *next = g_sequence_iter_next(at);
		struct happening *happening = g_sequence_get(at);

		if (happening->fn == fn && happening->number == number) {
			g_sequence_remove(at);
			g_free(happening->thing);
			g_free(happening);
		}
		at = next;
	}
}

/* Who acts. */

static struct side acting; /* linked functions get no pointer of ours */

void world_act(test_world *world, guint host)
{
	acting = (struct side){ world, host };
}

test_world *world_acting(guint *host)
{
	*host = acting.host;
	return acting.world;
}

guint64 __wrap_base_clock_monotonic_ns(void);
guint64 __wrap_base_clock_monotonic_ns(void)
{
	return world_clock_ns(acting.world, acting.host);
}

/* Links between processes that both live: as good as no cut; else lost by silence. */

gboolean world_is_frozen(const test_world *world, guint host)
{
	return world->now_ms < world->host[host].frozen_until_ms;
}

/* What is sent to a host arrives there. */
gboolean world_arrives(const test_world *world, enum world_link link, guint host)
{
	return !world->cut[link][host] && world->host[0].on && world->host[1].on;
}

gboolean world_link_works(const test_world *world, enum world_link link)
{
	return world_arrives(world, link, 0) && world_arrives(world, link, 1);
}

/* How long nothing has come on a link. */
gboolean world_is_silent(const test_world *world, enum world_link link, guint host,
			 guint64 ms)
{
	if (world->cut[link][host] &&
	    world->now_ms > world->cut_since_ms[link][host] + ms)
		return TRUE;
	return world_is_frozen(world, !host) &&
	       world->now_ms > world->host[!host].frozen_since_ms + ms;
}

/* Hosts. */

guint64 world_clock_ns(const test_world *world, guint host)
{
	const struct host *here = &world->host[host];
	/* It goes on when the host does, where it stood still with it. */
	const guint64 ms = world->now_ms > here->clock_at_ms
				   ? world->now_ms - here->clock_at_ms
				   : 0;

	return here->clock_ns + ms * NS_PER_MS +
	       (guint64)((gint64)ms * here->clock_ppm);
}

static guint64 now_ms(void *data)
{
	const struct side *side = data;

	return world_clock_ns(side->world, side->host) / NS_PER_MS;
}

static void start_clock(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	here->clock_at_ms = world->now_ms;
	here->clock_ns = (1 + world_random(world, 1000000)) * NS_PER_MS;
	here->clock_ppm = (gint32)world_random(world, 401) - 200;
	here->tai_ahead_ns = G_GUINT64_CONSTANT(1700000000000000000) +
			     world_random(world, 2000) * NS_PER_MS - here->clock_ns;
	here->tai_offset_s = world_random(world, 4) ? 37 : 0;
}

static void event(void *data, const char *name, const char *detail)
{
	struct side *side = data;
	guint count = GPOINTER_TO_UINT(g_hash_table_lookup(side->world->counts, name));

	world_note(side->world, "%u: event %s (%s)", side->host, name, detail);
	g_hash_table_insert(side->world->counts, (gpointer)name,
			    GUINT_TO_POINTER(count + 1));
}

static void order_answer(void *data, enum colo_order order, const char *code,
			 const char *message)
{
	struct side *side = data;

	world_note(side->world, "%u: order %d: %s", side->host, order,
		   code ? message : "done");
	if (order == COLO_ORDER_PROMOTE)
		side->world->host[!side->host].forcing = FALSE;
}

static void begin_anew(test_world *world, guint host)
{
	struct host *here = &world->host[host];
	const struct vm *vm = &here->vm;
	const struct colo_vm_found found = {
		.standby = vm->standby,
		.syncing = !vm->standby && vm->linked && !vm->guarded,
		.protected_now = !vm->standby && vm->linked && vm->guarded && !vm->resting,
		.held = vm->held || vm->resting,
		.promotable = vm->promotable,
		.lost = vm->standby && !vm->linked,
		.durable = here->durable_disk == vm->knows,
	};

	world_arbiter_colod_starts(world, host);
	world_heart_colod_starts(world, host);
	here->node = colo_node_new(&world->pair, host, &here->record, &world->ops,
				   &world->side[host]);
	here->peer_up = FALSE;
	if (vm->there) {
		world_note(world, "%u: finds a colo-vm", host);
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

	if (!here->on || here->node || world_is_frozen(world, host))
		return;
	world_record_look(world, host, TRUE);
	if (here->damaged)
		return; /* it says so, and ends */
	world_note(world, "%u: colod starts", host);
	here->node_life++;
	begin_anew(world, host);
}

void world_kill_colod(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	if (!here->node)
		return;
	world_note(world, "%u: colod is killed", host);
	here->node_life++;
	world->host[!host].forcing = FALSE;
	g_clear_pointer(&here->node, colo_node_free);
	world_arbiter_colod_ends(world, host, TRUE);
	world_heart_colod_ends(world, host);
	here->peer_up = FALSE;
	world_record_look(world, host, FALSE);
}

void world_power_on(test_world *world, guint host)
{
	if (world->host[host].on)
		return;
	world_note(world, "%u: power on", host);
	world->host[host].on = TRUE;
	world->host[host].boots++;
	world->host[host].frozen_until_ms = 0;
	start_clock(world, host);
	world_heart_power_on(world, host);
	world_start_colod(world, host);
}

void world_power_off(test_world *world, guint host)
{
	struct host *here = &world->host[host];

	if (!here->on)
		return;
	world_note(world, "%u: power off", host);
	here->on = FALSE;
	world_vm_lose_power(world, host);
	world_kill_colod(world, host);
	world_heart_power_off(world, host);
	world_files_lose_power(world, host);
	world_record_look(world, host, FALSE);
}

void world_cut_to(test_world *world, enum world_link link, guint host, gboolean cut)
{
	if (world->cut[link][host] == cut)
		return;
	world_note(world, "link %d to %u: %s", link, host, cut ? "cut" : "mended");
	world->cut[link][host] = cut;
	if (cut)
		world->cut_since_ms[link][host] = world->now_ms;
	world_hearts_disturbed(world);
}

void world_cut(test_world *world, enum world_link link, gboolean cut)
{
	world_cut_to(world, link, 0, cut);
	world_cut_to(world, link, 1, cut);
}

void world_freeze(test_world *world, guint host, guint64 ms)
{
	struct host *here = &world->host[host];
	const guint64 clock_ns = world_clock_ns(world, host);

	if (!here->on)
		return;
	if (!world_is_frozen(world, host)) {
		here->frozen_since_ms = world->now_ms;
		here->clock_stands = world_random(world, 4) == 0;
	}
	world_note(world, "%u: stands still for %" G_GUINT64_FORMAT " ms%s", host, ms,
		   here->clock_stands ? ", and its clock" : "");
	here->frozen_until_ms = MAX(here->frozen_until_ms, world->now_ms + ms);
	if (here->clock_stands) {
		here->clock_ns = clock_ns;
		here->clock_at_ms = here->frozen_until_ms;
	}
	world_hearts_disturbed(world);
}

void world_break_disk(test_world *world, guint host, gboolean fails, guint64 slow_ms)
{
	if (fails || slow_ms)
		world_note(world, "%u: the record's disk fails or is slow", host);
	world->host[host].disk_fails = fails;
	world->host[host].disk_slow_ms = slow_ms;
}

void world_cut_arbiter(test_world *world, guint host, gboolean cut)
{
	if (world->host[host].arbiter_cut != cut)
		world_note(world, "%u: arbiter %s", host, cut ? "cut off" : "back");
	world->host[host].arbiter_cut = cut;
}

void world_order(test_world *world, guint host, enum colo_order order, gboolean force)
{
	if (!world->host[host].node || world_is_frozen(world, host))
		return;
	world_note(world, "%u: order %d%s", host, order, force ? ", forced" : "");
	colo_node_order(world->host[host].node, order, force);
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

/* What waits for a host that stands still keeps its order, but for what came by
 * different ways. */
static void wait_for_host(test_world *world, struct happening *happening)
{
	happening->at_ms = world->host[happening->host].frozen_until_ms +
			   (happening->of_vm ? world_random(world, 1) : 0);
	g_sequence_insert_sorted(world->queue, happening, by_time, NULL);
}

static void tick(test_world *world)
{
	world_vm_watch(world);
	world_peer_watch(world);
	for (guint i = 0; i < 2 && world->now_ms % 50 == 0; i++)
		if (world->host[i].node && !world_is_frozen(world, i))
			colo_node_tick(world->host[i].node);
	for (guint i = 0; i < 2; i++)
		world_speak(world, i);
}

void world_run(test_world *world, guint64 ms)
{
	const guint64 until = world->now_ms + ms;

	while (world->now_ms < until && !world->violation) {
		GSequenceIter *first = g_sequence_get_begin_iter(world->queue);

		while (!g_sequence_iter_is_end(first) &&
		       ((struct happening *)g_sequence_get(first))->at_ms <=
			       world->now_ms) {
			struct happening *happening = g_sequence_get(first);

			g_sequence_remove(first);
			if (world_is_frozen(world, happening->host) &&
			    !happening->on_wire)
				wait_for_host(world, happening);
			else
				carry_out(world, happening);
			first = g_sequence_get_begin_iter(world->queue);
		}
		world_hearts_run(world);
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
	pair->arbiter.timeout_ms = 2000;
	pair->arbiter.agent = (char *)"true";
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
	for (guint i = 0; i < 2; i++)
		world->side[i] = (struct side){ world, i };
	set_pair(world);
	world_files_new(world);
	world_hearts_new(world);
	world_etcd_new(world);
	world->ops.now_ms = now_ms;
	world->ops.event = event;
	world->ops.answer = order_answer;
	world_record_set_ops(&world->ops);
	world_arbiter_set_ops(world);
	world_vm_set_ops(&world->ops);
	world_peer_set_ops(&world->ops);
	return world;
}

void world_free(test_world *world)
{
	GSequenceIter *at;

	for (guint i = 0; i < 2; i++) {
		g_clear_pointer(&world->host[i].node, colo_node_free);
		if (world->host[i].arbiter)
			world_arbiter_colod_ends(world, i, FALSE);
	}
	/* What belongs to nobody else. */
	for (at = g_sequence_get_begin_iter(world->queue); !g_sequence_iter_is_end(at);
	     at = g_sequence_iter_next(at)) {
		struct happening *happening = g_sequence_get(at);

		world_arbiter_forget(happening);
		g_free(happening->thing);
		g_free(happening);
	}
	g_sequence_free(world->queue);
	world_hearts_free(world);
	world_etcd_free(world);
	world_files_free(world);
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

gboolean world_hears(const test_world *world, guint host)
{
	struct colo_node_view view = { 0 };

	if (world->host[host].node)
		colo_node_view(world->host[host].node, &view);
	return view.peer_alive;
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

guint64 world_trace(const test_world *world)
{
	return world->trace;
}
