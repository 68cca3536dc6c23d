/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What colod reads from control sockets of other programs and from its file of events:
 * whatever comes, no request is answered twice, events have names, and numbers of
 * events only grow.
 *
 * The first byte says which; of a client's input a byte 0x01 ends a piece.
 */
#include <string.h>

#include "colo/client.h"
#include "colo/events.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define REQUESTS 4u

static void on_event(void *data, const char *name, JsonObject *event)
{
	g_assert(name && json_object_has_member(event, "event"));
}

static void on_answer(void *data, JsonObject *result, const char *code,
		      const char *message)
{
	guint *answers = data;

	g_assert(++*answers == 1);
	g_assert(result ? !code && !message : code && message);
	g_assert(!message || g_utf8_validate(message, -1, NULL));
}

static void take_client(const guint8 *data, gsize size)
{
	const struct colo_client_hooks hooks = { .event = on_event };
	g_autoptr(colo_client) client = colo_client_new("/nonexistent/socket", &hooks);
	guint answers[REQUESTS] = { 0 };

	/* They wait for an answer until the main loop turns, which it does not. */
	for (guint i = 0; i < REQUESTS; i++)
		colo_client_send(client, "status", NULL, 0, on_answer, &answers[i]);
	while (size) {
		const guint8 *end = memchr(data, 1, size);
		gsize part = end ? (gsize)(end - data) : size;
		g_autofree guint8 *exact = g_memdup2(data, part);
		g_autofree char *why = NULL;

		if (!colo_client_input(client, exact, part, &why)) {
			g_assert(why);
			return;
		}
		g_assert(!why);
		data += part + (end != NULL);
		size -= part + (end != NULL);
	}
}

static void take_file(const guint8 *data, gsize size)
{
	const struct colo_events_config config = { .node = "n" };
	g_autoptr(colo_events) events = colo_events_new(&config);
	g_autofree char *exact = g_memdup2(data, size);
	guint64 last;

	colo_events_load(events, exact, size);
	last = colo_events_last(events);
	colo_events_load(events, exact, size);
	g_assert(colo_events_last(events) == last);
	g_assert(last < G_MAXINT64 / 2);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		take_client(data + 1, size - 1);
	else
		take_file(data + 1, size - 1);
	return 0;
}
