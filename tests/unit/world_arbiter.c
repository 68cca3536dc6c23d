/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arbiters in a world: the real ones (colo/arbiter.h), each made and freed with its
 * colod. What they would ask of the main loop and of processes comes here: a fence
 * agent is a model that switches the other host off, or does not, or is not believed.
 */
#include "tests/unit/world_private.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>

#define FIRST_PID 0x20000000

/* What a node asks. */

static void verdict(void *data, enum colo_verdict verdict,
		    const struct colo_arbiter_record *record, const char *why)
{
	const struct side *side = data;

	world_note(side->world, "%u: the arbiter's verdict is %d%s%s", side->host,
		   verdict, why ? ": " : "", why ? why : "");
	colo_node_verdict(side->world->host[side->host].node, verdict, record, why);
}

static colo_arbiter *arbiter_of(const struct side *side)
{
	world_act(side->world, side->host);
	return side->world->host[side->host].arbiter;
}

static void arbiter_read(void *data)
{
	colo_arbiter *arbiter = arbiter_of(data);

	arbiter->ops->read(arbiter, verdict, data);
}

static void arbiter_claim(void *data, guint64 generation)
{
	colo_arbiter *arbiter = arbiter_of(data);

	arbiter->ops->claim(arbiter, generation, verdict, data);
}

static void arbiter_protect(void *data, guint64 generation)
{
	colo_arbiter *arbiter = arbiter_of(data);

	arbiter->ops->protect(arbiter, generation, verdict, data);
}

static void arbiter_create(void *data, guint64 generation, gboolean force)
{
	colo_arbiter *arbiter = arbiter_of(data);

	arbiter->ops->create(arbiter, generation, force, verdict, data);
}

static void arbiter_cancel(void *data)
{
	colo_arbiter *arbiter = arbiter_of(data);

	arbiter->ops->cancel(arbiter);
}

void world_arbiter_set_ops(test_world *world)
{
	world->ops.arbiter_read = arbiter_read;
	world->ops.arbiter_claim = arbiter_claim;
	world->ops.arbiter_protect = arbiter_protect;
	world->ops.arbiter_create = arbiter_create;
	world->ops.arbiter_cancel = arbiter_cancel;
	world->ops.arbiter_keeps_records = world->kind == COLO_ARBITER_ETCD;
}

void world_arbiter_colod_starts(test_world *world, guint host)
{
	GError *error = NULL;

	world_act(world, host);
	world->host[host].arbiter = colo_arbiter_new(&world->pair, host, &error);
	if (!world->host[host].arbiter)
		g_error("%s", error->message);
	g_assert(world->host[host].arbiter->ops->keeps_records ==
		 world->ops.arbiter_keeps_records);
}

/* The main loop of who acts. */

struct source {
	GSourceFunc fn;
	GChildWatchFunc exited;
	gpointer data;
};

static void call_source(test_world *world, guint host,
			const struct happening *happening)
{
	const struct source *source = happening->thing;

	world_act(world, host);
	source->fn(source->data);
}

static guint add_source(guint64 in_ms, GSourceFunc fn, gpointer data)
{
	guint host;
	test_world *world = world_acting(&host);
	struct source *source = g_new0(struct source, 1);
	struct happening *happening =
		world_happen(world, host, FALSE, in_ms, call_source);

	*source = (struct source){ .fn = fn, .data = data };
	happening->thing = source;
	happening->number = (guint)happening->order;
	return (guint)happening->number;
}

guint __wrap_g_idle_add_full(gint priority, GSourceFunc fn, gpointer data,
			     GDestroyNotify notify);
guint __wrap_g_idle_add_full(gint priority, GSourceFunc fn, gpointer data,
			     GDestroyNotify notify)
{
	return add_source(0, fn, data);
}

guint __wrap_g_timeout_add(guint ms, GSourceFunc fn, gpointer data);
guint __wrap_g_timeout_add(guint ms, GSourceFunc fn, gpointer data)
{
	return add_source(ms, fn, data);
}

gboolean __wrap_g_source_remove(guint id);
gboolean __wrap_g_source_remove(guint id)
{
	guint host;

	world_never(world_acting(&host), call_source, id);
	return TRUE;
}

/* Agents say nothing before their end. */
guint __wrap_g_unix_fd_add(gint fd, GIOCondition condition, gpointer fn, gpointer data);
guint __wrap_g_unix_fd_add(gint fd, GIOCondition condition, gpointer fn, gpointer data)
{
	return G_MAXUINT;
}

/* Agents. A happening of theirs has the pid as its number, and goes on without its
 * colod. */

static void shoot(test_world *world, guint host, const struct happening *happening)
{
	if (!world->host[host].on || world->host[host].boots != happening->number2)
		return;
	world_note(world, "the fence agent of %u shoots", host);
	world_power_off(world, !host);
}

static void agent_exits(test_world *world, guint host,
			const struct happening *happening)
{
	const struct source *source = happening->thing;

	if (world && world_is_frozen(world, host)) {
		world_put_off(world, happening, sizeof(*source));
		return;
	}
	world_act(world, host);
	source->exited((GPid)happening->number, (gint)happening->number2, source->data);
}

int __wrap_posix_spawn(pid_t *pid, const char *path,
		       const posix_spawn_file_actions_t *files,
		       const posix_spawnattr_t *attributes, char *const argv[],
		       char *const environment[]);
int __wrap_posix_spawn(pid_t *pid, const char *path,
		       const posix_spawn_file_actions_t *files,
		       const posix_spawnattr_t *attributes, char *const argv[],
		       char *const environment[])
{
	guint host;
	test_world *world = world_acting(&host);

	if (world->rough && world_random(world, 40) == 0)
		return EAGAIN;
	*pid = FIRST_PID + (pid_t)++world->agents;
	return 0;
}

guint __wrap_g_child_watch_add(GPid pid, GChildWatchFunc fn, gpointer data);
guint __wrap_g_child_watch_add(GPid pid, GChildWatchFunc fn, gpointer data)
{
	guint host;
	test_world *world = world_acting(&host);
	struct source *source = g_new0(struct source, 1);
	const guint64 in_ms =
		1 + world_random(world,
				 !world->rough || world_random(world, 10) ? 20 : 3000);
	const gboolean shoots = !world->host[host].arbiter_cut &&
				(!world->rough || world_random(world, 20));
	struct happening *happening;

	if (shoots) {
		happening = world_happen(world, host, FALSE, in_ms, shoot);
		happening->number = (guint64)pid;
		happening->number2 = world->host[host].boots;
		happening->on_wire = TRUE;
	}
	*source = (struct source){ .exited = fn, .data = data };
	happening = world_happen(world, host, FALSE, in_ms + world_random(world, 10),
				 agent_exits);
	happening->thing = source;
	happening->number = (guint64)pid;
	/* It may have shot and say that it failed; never the other way round. */
	happening->number2 =
		shoots && (!world->rough || world_random(world, 20)) ? 0 : 1u << 8;
	happening->on_wire = TRUE;
	return (guint)happening->order;
}

struct killing {
	test_world *world;
	guint64 pid;
};

static void be_killed(gpointer item, gpointer data)
{
	struct happening *happening = item;
	const struct killing *killing = data;

	if (happening->fn == agent_exits && happening->number == killing->pid)
		happening->number2 = SIGKILL;
}

int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal)
{
	guint host;
	const struct killing killing = { world_acting(&host), (guint64)-pid };

	g_assert(pid < -FIRST_PID);
	if (killing.world->spared)
		return 0;
	world_never(killing.world, shoot, killing.pid);
	g_sequence_foreach(killing.world->queue, be_killed, (gpointer)&killing);
	return 0;
}

void world_arbiter_colod_ends(test_world *world, guint host, gboolean killed)
{
	world_act(world, host);
	world->spared = killed; /* its agents go on */
	g_clear_pointer(&world->host[host].arbiter, colo_arbiter_free);
	world->spared = FALSE;
}

void world_arbiter_forget(struct happening *happening)
{
	if (happening->fn == agent_exits)
		agent_exits(NULL, happening->host, happening);
}
