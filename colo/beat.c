/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-heartbeat as its colod knows it.
 *
 * The daemon is never adopted: its socket went with the colod that made it. The old one goes
 * on for a while, saying what it was told last, and leaves its ports to the new one.
 */
#include "colo/beat.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

#define NAME "colo-heartbeat"
#define TELL_MS 250u
/* It reports each 250 ms. Counted in our own turns: while we stand still, none passes. */
#define SILENT_TURNS_MAX 20u

struct colo_beat {
	const colo_pair *pair;
	guint self;
	const struct colo_places *places;
	colo_beat_fn fn;
	void *data;
	colo_program *program;
	int fd;
	guint source, timer;
	guint silent_turns; /* without a report, of one that runs */
	struct hb_self says;
	struct hb_report report;
	gboolean reported;
};

static void unplug(colo_beat *beat)
{
	if (beat->source)
		g_source_remove(beat->source);
	beat->source = 0;
	base_fd_clear(&beat->fd);
}

static void tell(colo_beat *beat)
{
	const struct hb_tell message = {
		.type = wire_put32(HB_TELL),
		.self = beat->says,
	};

	/* A full socket: the next one says it all. */
	if (beat->fd >= 0 &&
	    send(beat->fd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		g_debug(NAME " does not read: %s", g_strerror(errno));
}

static gboolean tell_again(gpointer data)
{
	colo_beat *beat = data;

	tell(beat);
	if (beat->fd >= 0 && ++beat->silent_turns == SILENT_TURNS_MAX) {
		g_warning(NAME " runs and does not report: it is killed, and started again");
		colo_program_renew(beat->program);
	}
	return G_SOURCE_CONTINUE;
}

static gboolean hear(int fd, GIOCondition condition, gpointer data)
{
	colo_beat *beat = data;
	struct hb_report report;
	ssize_t got = recv(fd, &report, sizeof(report), MSG_DONTWAIT | MSG_TRUNC);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return G_SOURCE_CONTINUE;
	if (got <= 0) {
		beat->source = 0;
		base_fd_clear(&beat->fd);
		return G_SOURCE_REMOVE;
	}
	if (got != sizeof(report) || wire_get32(report.type) != HB_REPORT ||
	    report.paths > HB_PATHS_MAX)
		return G_SOURCE_CONTINUE;
	beat->silent_turns = 0;
	beat->report = report;
	beat->reported = TRUE;
	beat->fn(beat->data, &report);
	return G_SOURCE_CONTINUE;
}

static void add_paths(GPtrArray *argv, const colo_pair *pair, guint self)
{
	const struct colo_node_config *ours = &pair->node[self];
	const struct colo_node_config *theirs = &pair->node[!self];

	for (guint i = 0; i < pair->paths; i++) {
		const char *device = ours->heartbeat_device[i];

		g_ptr_array_add(argv, g_strdup("--path"));
		g_ptr_array_add(argv, g_strdup_printf("%s,%s%s%s", ours->heartbeat[i],
						      theirs->heartbeat[i],
						      device ? "," : "",
						      device ? device : ""));
	}
}

static void add(GPtrArray *argv, const char *name, char *value_take)
{
	g_ptr_array_add(argv, g_strdup(name));
	g_ptr_array_add(argv, value_take);
}

static GStrv command_line(void *data, int *fd)
{
	colo_beat *beat = data;
	const colo_pair *pair = beat->pair;
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	int ends[2];

	unplug(beat);
	if (!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		beat->fd = ends[0];
		*fd = ends[1];
		beat->source = g_unix_fd_add(beat->fd, G_IO_IN | G_IO_HUP, hear, beat);
	}
	g_ptr_array_add(argv, colo_places_program(beat->places, NAME));
	add(argv, "--fd", g_strdup("3"));
	add(argv, "--key", g_strdup(pair->key));
	add(argv, "--pair", g_strdup(pair->name));
	add(argv, "--nodes", g_strjoin(",", pair->node[0].name, pair->node[1].name, NULL));
	add(argv, "--self", g_strdup(pair->node[beat->self].name));
	add(argv, "--interval", g_strdup_printf("%u", pair->heartbeat.interval_ms));
	add(argv, "--timeout", g_strdup_printf("%u", pair->heartbeat.timeout_ms));
	add_paths(argv, pair, beat->self);
	g_ptr_array_add(argv, NULL);
	return (GStrv)g_ptr_array_steal(argv, NULL);
}

static void started(void *data)
{
	((colo_beat *)data)->silent_turns = 0;
	tell(data);
}

static void ended(void *data, const char *how, gboolean again)
{
	colo_beat *beat = data;

	unplug(beat);
	g_warning(NAME " has ended: %s", how);
}

static const struct colo_program_hooks hooks = {
	.argv = command_line,
	.started = started,
	.ended = ended,
};

colo_beat *colo_beat_new(const colo_pair *pair, guint self, const struct colo_places *places,
			 colo_beat_fn fn, void *data)
{
	colo_beat *beat = g_new0(colo_beat, 1);

	beat->pair = pair;
	beat->self = self;
	beat->places = places;
	beat->fn = fn;
	beat->data = data;
	beat->fd = -1;
	beat->program = colo_program_new(NAME, places, -900, &hooks, beat);
	beat->timer = g_timeout_add(TELL_MS, tell_again, beat);
	colo_program_begin(beat->program, FALSE);
	return beat;
}

void colo_beat_free(colo_beat *beat)
{
	if (!beat)
		return;
	g_source_remove(beat->timer);
	unplug(beat);
	colo_program_free(beat->program);
	g_free(beat);
}

void colo_beat_tell(colo_beat *beat, const struct hb_self *self)
{
	if (!memcmp(&beat->says, self, sizeof(*self)))
		return;
	beat->says = *self;
	tell(beat);
}

void colo_beat_end(colo_beat *beat)
{
	colo_program_end(beat->program);
}

const struct hb_report *colo_beat_report(const colo_beat *beat)
{
	return beat->reported ? &beat->report : NULL;
}

const colo_program *colo_beat_program(const colo_beat *beat)
{
	return beat->program;
}
