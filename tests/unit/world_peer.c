/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What two colods in a world say to each other. */
#include "tests/unit/world_private.h"

#define CONTROL_SILENCE_MS 1000u

/* Between the two colods. What is said is in order, and lost where the link is cut. */

struct letter {
	gboolean answer, state, yes;
	guint connection;
	guint64 id, generation;
	enum colo_ask ask;
	struct colo_peer_state said;
};

static void deliver(test_world *world, guint host, const struct happening *happening)
{
	const struct letter *letter = happening->thing;
	struct host *here = &world->host[host];

	if (!here->peer_up || !here->node || letter->connection != world->connection)
		return;
	if (!world_arrives(world, WORLD_CONTROL, host)) {
		/* It is sent again until it arrives or the connection is given up, and
		 * keeps its place. */
		world_put_off(world, happening, sizeof(*letter));
		return;
	}
	if (letter->state)
		colo_node_peer_said(here->node, &letter->said);
	else if (letter->answer)
		colo_node_peer_answered(here->node, letter->ask, letter->yes,
					"not now");
	else
		colo_node_peer_asked(here->node, letter->id, letter->ask,
				     letter->generation);
}

static void post(struct side *side, const struct letter *letter)
{
	test_world *world = side->world;
	struct letter *copy;

	if (!world->host[side->host].peer_up || !world->host[!side->host].node)
		return;
	copy = g_memdup2(letter, sizeof(*letter));
	copy->connection = world->connection;
	world_happen(world, !side->host, FALSE, 2, deliver)->thing = copy;
}

static void peer_ask(void *data, enum colo_ask ask, guint64 generation)
{
	/* The question goes along with the answer: its kind is the id. */
	const struct letter letter = { .id = ask,
				       .ask = ask,
				       .generation = generation };
	struct side *side = data;

	world_note(side->world, "%u: asks the other node %d for %" G_GUINT64_FORMAT,
		   side->host, ask, generation);
	post(side, &letter);
}

static void peer_answer(void *data, guint64 id, gboolean yes, const char *why)
{
	const struct letter letter = { .answer = TRUE,
				       .ask = (enum colo_ask)id,
				       .yes = yes };
	struct side *side = data;

	world_note(side->world, "%u: answers %d: %s", side->host, (int)id,
		   yes ? "yes" : why);
	post(side, &letter);
}

void world_peer_tell(test_world *world, guint host)
{
	struct letter letter = { .state = TRUE };
	colo_node *node = world->host[host].node;

	if (!node)
		return;
	colo_node_self(node, &letter.said);
	world_heart_tell(world, host, &letter.said);
	post(&world->side[host], &letter);
}

static void tell(void *data)
{
	const struct side *side = data;

	world_peer_tell(side->world, side->host);
}

/* Connections come and go. */

static void peer_goes_down(test_world *world, guint host,
			   const struct happening *happening)
{
	if (!world->host[host].peer_up)
		return;
	world->host[host].peer_up = FALSE;
	if (world->host[host].node)
		colo_node_peer_down(world->host[host].node);
}

void world_peer_watch(test_world *world)
{
	const gboolean both = world->host[0].node && world->host[1].node;
	const gboolean works = world_link_works(world, WORLD_CONTROL) && both;

	if (works && !world->host[0].peer_up && !world->host[1].peer_up &&
	    !world_is_frozen(world, 0) && !world_is_frozen(world, 1) &&
	    world_random(world, 10) == 0) {
		world->connection++;
		world->host[0].peer_up = world->host[1].peer_up = TRUE;
		colo_node_peer_up(world->host[0].node);
		colo_node_peer_up(world->host[1].node);
		return;
	}
	for (guint i = 0; i < 2; i++) {
		struct host *host = &world->host[i];

		if (!host->peer_up || world_is_frozen(world, i))
			continue;
		/* Silence, or the other end has gone. */
		if (world_is_silent(world, WORLD_CONTROL, i, CONTROL_SILENCE_MS) ||
		    !both ||
		    (!world->host[!i].peer_up &&
		     world_arrives(world, WORLD_CONTROL, i)))
			peer_goes_down(world, i, NULL);
	}
}

void world_peer_set_ops(struct colo_node_ops *ops)
{
	ops->peer_ask = peer_ask;
	ops->peer_answer = peer_answer;
	ops->tell = tell;
}
