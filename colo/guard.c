/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-netcompare as its colod knows it. */
#include "colo/guard.h"

#include "colo/client.h"

#define NAME "colo-netcompare"
#define POLL_MS 1000u
#define STATUS_MS 3000u
#define UNANSWERED_MAX 2u /* after which it hangs */

struct colo_guard {
	const colo_pair *pair;
	const struct colo_places *places;
	void (*event)(void *data, const char *name, const char *detail);
	void *data;
	colo_program *program;
	colo_client *client;
	guint poll;
	gboolean asked;
	guint unanswered; /* one after the other */
	JsonObject *status;
};

static char *path_in(const colo_guard *guard, const char *name)
{
	return g_build_filename(guard->places->run, name, NULL);
}

static void add(GPtrArray *argv, const char *name, char *value_take)
{
	g_ptr_array_add(argv, g_strdup(name));
	g_ptr_array_add(argv, value_take);
}

static char *taps(const colo_pair *pair)
{
	const char *names[COLO_NETS_MAX + 1] = { NULL };

	for (guint i = 0; i < pair->nets; i++)
		names[i] = pair->net[i].tap;
	return g_strjoinv(",", (char **)names);
}

static GStrv command_line(void *data, int *fd)
{
	const colo_guard *guard = data;
	const struct colo_comparison_config *config = &guard->pair->comparison;
	g_autoptr(GPtrArray) argv = g_ptr_array_new();

	g_ptr_array_add(argv, colo_places_program(guard->places, NAME));
	add(argv, "--vm", path_in(guard, "outputs.sock"));
	add(argv, "--control", path_in(guard, "compare.sock"));
	add(argv, "--queue", g_strdup_printf("%u", config->queue));
	add(argv, "--queue-length", g_strdup_printf("%u", config->queue_length));
	add(argv, "--tap", taps(guard->pair));
	add(argv, "--rule", g_strdup(config->rule));
	add(argv, "--late-max", g_strdup_printf("%u", config->late_max_ms));
	/* The standby believes it lost, and may be promoted, after twice as long. */
	add(argv, "--stall", g_strdup_printf("%u", guard->pair->checkpoint.silence_ms / 2));
	add(argv, "--memory", g_strdup_printf("%" G_GUINT64_FORMAT "M", config->memory >> 20));
	add(argv, "--receive-buffer",
	    g_strdup_printf("%" G_GUINT64_FORMAT "M", config->receive_buffer >> 20));
	add(argv, "--mode", g_strdup(guard->pair->checkpoint.mode));
	if (config->dump)
		add(argv, "--dump", g_strdup(config->dump));
	g_ptr_array_add(argv, NULL);
	return (GStrv)g_ptr_array_steal(argv, NULL);
}

static void started(void *data)
{
	((colo_guard *)data)->unanswered = 0;
}

static void ended(void *data, const char *how, gboolean again)
{
	colo_guard *guard = data;

	g_clear_pointer(&guard->status, json_object_unref);
	guard->event(guard->data, "comparator-ended", how);
}

static const struct colo_program_hooks hooks = {
	.argv = command_line,
	.started = started,
	.ended = ended,
};

static void have_status(void *data, JsonObject *result, const char *code, const char *message)
{
	colo_guard *guard = data;

	guard->asked = FALSE;
	/* One that hangs lets nothing out, and would for good. Once may be for us: we may have
	 * been stopped ourselves. */
	guard->unanswered = !g_strcmp0(code, "timeout") ? guard->unanswered + 1 : 0;
	if (guard->unanswered == UNANSWERED_MAX) {
		g_warning(NAME " runs and does not answer: it is killed, and started again");
		colo_program_renew(guard->program);
	}
	if (!result)
		return;
	g_clear_pointer(&guard->status, json_object_unref);
	guard->status = json_object_ref(result);
}

static gboolean poll_status(gpointer data)
{
	colo_guard *guard = data;

	if (!guard->asked && colo_client_is_connected(guard->client)) {
		guard->asked = TRUE;
		colo_client_send(guard->client, "status", NULL, STATUS_MS, have_status,
				 guard);
	}
	return G_SOURCE_CONTINUE;
}

colo_guard *colo_guard_new(const colo_pair *pair, const struct colo_places *places,
			   void (*event)(void *data, const char *name, const char *detail),
			   void *data)
{
	colo_guard *guard = g_new0(colo_guard, 1);
	const struct colo_client_hooks none = { .data = guard };
	g_autofree char *socket = NULL;

	guard->pair = pair;
	guard->places = places;
	guard->event = event;
	guard->data = data;
	guard->program = colo_program_new(NAME, places, -800, &hooks, guard);
	colo_program_begin(guard->program, TRUE);
	socket = path_in(guard, "compare.sock");
	guard->client = colo_client_new(socket, &none);
	guard->poll = g_timeout_add(POLL_MS, poll_status, guard);
	return guard;
}

void colo_guard_free(colo_guard *guard)
{
	if (!guard)
		return;
	g_source_remove(guard->poll);
	colo_client_free(guard->client);
	colo_program_free(guard->program);
	if (guard->status)
		json_object_unref(guard->status);
	g_free(guard);
}

void colo_guard_end(colo_guard *guard)
{
	colo_program_end(guard->program);
}

JsonObject *colo_guard_status(const colo_guard *guard)
{
	return guard->status;
}

const colo_program *colo_guard_program(const colo_guard *guard)
{
	return guard->program;
}
