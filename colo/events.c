/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The events of a pair.
 *
 * The writer of the file is a thread with a queue of lines. It may hang for good in a
 * system call on a dead disk: so it shares nothing with the rest but `struct writer`,
 * which the last of both frees.
 */
#include "colo/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ratelimit.h"
#include "colo/hooks.h"

#define LINES_MAX 1000u /* that wait for the disk */
#define READ_BACK_MAX (2u << 20) /* bytes */
#define PAGE_BYTES (128u << 10)
#define END_WAIT_US G_USEC_PER_SEC

const char *const colo_events_arguments[] = { "since", "follow", NULL };

struct writer {
	char *path;
	guint64 limit; /* bytes of a file */
	GMutex lock;
	guint users; /* the thread, and who started it; under the lock like what follows
		      */
	GCond changed;
	GQueue lines; /* char * */
	guint left_out; /* since the last one that was queued */
	gboolean stop, done;
	struct base_ratelimit complaints; /* the thread's */
};

/* As text: a tree of the same is five times as large. */
struct kept {
	guint64 number;
	gsize length;
	char line[]; /* JSON */
};

struct colo_events {
	char *node;
	guint64 last;
	GQueue kept; /* struct kept *, the oldest first */
	struct writer *writer; /* or NULL */
	base_control *control;
	colo_hooks *hooks;
};

/* The file. */

/* Of the lock too. */
static void leave_writer(struct writer *writer)
{
	gboolean last = --writer->users == 0;

	g_mutex_unlock(&writer->lock);
	if (!last)
		return;
	g_queue_clear_full(&writer->lines, g_free);
	g_mutex_clear(&writer->lock);
	g_cond_clear(&writer->changed);
	g_free(writer->path);
	g_free(writer);
}

static void complain(struct writer *writer, int err, const char *what)
{
	guint left_out;

	if (base_ratelimit_pass(&writer->complaints, &left_out))
		g_warning("events: %s %s: %s: they are kept in memory alone", what,
			  writer->path, g_strerror(err));
}

/* Opens the file if it is not open; -1: not now. */
static int open_file(struct writer *writer, int fd, gsize more)
{
	g_autofree char *old = NULL;
	struct stat st;

	if (fd < 0) {
		fd = open(writer->path,
			  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd < 0) {
			complain(writer, errno, "open");
			return -1;
		}
	}
	if (fstat(fd, &st) < 0 || (guint64)st.st_size + more <= writer->limit ||
	    !st.st_size)
		return fd;
	close(fd);
	old = g_strconcat(writer->path, ".1", NULL);
	if (rename(writer->path, old) < 0) {
		complain(writer, errno, "rename");
		return -1;
	}
	return open_file(writer, -1, 0);
}

static int write_line(struct writer *writer, int fd, const char *line)
{
	gsize length = strlen(line);
	gssize done;

	fd = open_file(writer, fd, length);
	if (fd < 0)
		return -1;
	done = write(fd, line, length);
	if (done == (gssize)length)
		return fd;
	complain(writer, done < 0 ? errno : ENOSPC, "write");
	/* A part of a line is no event; what follows begins on a line of its own. */
	if (done > 0 && write(fd, "\n", 1) < 0)
		complain(writer, errno, "write");
	close(fd);
	return -1;
}

static gpointer write_lines(gpointer data)
{
	struct writer *writer = data;
	int fd = -1;

	g_mutex_lock(&writer->lock);
	for (;;) {
		g_autofree char *line = g_queue_pop_head(&writer->lines);

		if (!line && writer->stop)
			break;
		if (!line) {
			g_mutex_unlock(&writer->lock);
			if (fd >= 0)
				fdatasync(fd);
			g_mutex_lock(&writer->lock);
			if (!writer->lines.length && !writer->stop)
				g_cond_wait(&writer->changed, &writer->lock);
			continue;
		}
		g_mutex_unlock(&writer->lock);
		fd = write_line(writer, fd, line);
		g_mutex_lock(&writer->lock);
	}
	writer->done = TRUE;
	g_cond_broadcast(&writer->changed);
	base_fd_clear(&fd);
	leave_writer(writer);
	return NULL;
}

static struct writer *start_writer(const char *path, guint64 limit)
{
	struct writer *writer = g_new0(struct writer, 1);

	writer->users = 2;
	writer->path = g_strdup(path);
	writer->limit = limit;
	g_mutex_init(&writer->lock);
	g_cond_init(&writer->changed);
	g_queue_init(&writer->lines);
	g_thread_unref(g_thread_new("events", write_lines, writer));
	return writer;
}

static void write_later(struct writer *writer, const char *line)
{
	g_mutex_lock(&writer->lock);
	if (writer->lines.length >= LINES_MAX) {
		writer->left_out++;
	} else {
		if (writer->left_out)
			g_queue_push_tail(&writer->lines,
					  g_strdup_printf("{\"left-out\":%u}\n",
							  writer->left_out));
		writer->left_out = 0;
		g_queue_push_tail(&writer->lines, g_strdup(line));
	}
	g_cond_signal(&writer->changed);
	g_mutex_unlock(&writer->lock);
}

static void stop_writer(struct writer *writer)
{
	gint64 end = g_get_monotonic_time() + END_WAIT_US;

	g_mutex_lock(&writer->lock);
	writer->stop = TRUE;
	g_cond_broadcast(&writer->changed);
	while (!writer->done && g_cond_wait_until(&writer->changed, &writer->lock, end))
		;
	if (!writer->done)
		g_warning("events: %s does not take what is written: left behind",
			  writer->path);
	leave_writer(writer);
}

/* What is kept. */

static void keep(colo_events *events, guint64 number, const char *line, gsize length)
{
	struct kept *kept = g_malloc(sizeof(*kept) + length);

	kept->number = number;
	kept->length = length;
	memcpy(kept->line, line, length);
	events->last = number;
	g_queue_push_tail(&events->kept, kept);
	if (events->kept.length > COLO_EVENTS_MAX)
		g_free(g_queue_pop_head(&events->kept));
}

static void load_line(colo_events *events, const char *line, gsize length)
{
	g_autofree char *why = NULL;
	g_autoptr(JsonObject) object = length < COLO_EVENT_LINE_MAX
					       ? base_json_parse(line, length, &why)
					       : NULL;
	guint64 number;

	if (!object || !base_json_text(object, "event") ||
	    !base_json_count(object, "number", &number) || number <= events->last ||
	    number >= G_MAXINT64 / 2)
		return;
	keep(events, number, line, length);
}

void colo_events_load(colo_events *events, const char *text, gsize length)
{
	while (length) {
		const char *newline = memchr(text, '\n', length);
		gsize part = newline ? (gsize)(newline - text) : length;

		load_line(events, text, part);
		part += newline != NULL;
		text += part;
		length -= part;
	}
}

static void read_back(colo_events *events, const char *path)
{
	base_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	g_autofree char *text = NULL;
	gsize length = 0;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || fstat(fd, &st) < 0) {
		g_warning("events: read %s: %s", path, g_strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		g_warning("events: %s is not a regular file", path);
		return;
	}
	text = g_malloc(READ_BACK_MAX);
	if (st.st_size > READ_BACK_MAX)
		lseek(fd, st.st_size - READ_BACK_MAX, SEEK_SET);
	while (length < READ_BACK_MAX) {
		gssize got = read(fd, text + length, READ_BACK_MAX - length);

		if (got <= 0)
			break;
		length += (gsize)got;
	}
	colo_events_load(events, text, length);
}

/* Telling. */

/* A copy of `from` without the member "event" (of the first level), to be changed. */
static JsonObject *copy_members(JsonObject *from, JsonObject *to)
{
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;

	json_object_iter_init_ordered(&iter, from);
	while (json_object_iter_next_ordered(&iter, &name, &node))
		if (strcmp(name, "event") && !json_object_has_member(to, name))
			json_object_set_member(to, name, json_node_copy(node));
	return to;
}

static JsonObject *describe(const colo_events *events, const struct colo_told *event)
{
	JsonObject *object = json_object_new();

	json_object_set_int_member(object, "number", (gint64)event->number);
	json_object_set_int_member(object, "time", event->time_ms);
	json_object_set_int_member(object, "monotonic", (gint64)event->monotonic_ms);
	base_json_set_text(object, "node", events->node);
	base_json_set_text(object, "state", event->state);
	json_object_set_int_member(object, "generation", (gint64)event->generation);
	base_json_set_text(object, "detail", event->detail);
	return object;
}

static JsonObject *whole(const char *name, JsonObject *members)
{
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "event", name);
	return copy_members(members, object);
}

void colo_events_add(colo_events *events, const char *name, const char *state,
		     guint64 generation, const char *detail, JsonObject *extra)
{
	g_autofree char *cut = detail ? g_strndup(detail, COLO_EVENT_DETAIL_MAX) : NULL;
	struct colo_told event = {
		.name = name,
		.state = state,
		.generation = generation,
		.detail = cut,
		.number = events->last + 1,
		.time_ms = g_get_real_time() / 1000,
		.monotonic_ms = base_clock_monotonic_ns() / 1000000u,
	};
	g_autoptr(JsonObject) object = describe(events, &event);
	g_autofree char *line = NULL;

	if (extra)
		copy_members(extra, object);
	line = base_json_line(whole(name, object));
	if (strlen(line) >= COLO_EVENT_LINE_MAX) {
		json_object_unref(object);
		object = describe(events, &event);
		g_free(line);
		line = base_json_line(whole(name, object));
	}
	event.json = line;
	g_clear_pointer(&extra, json_object_unref);
	g_message("event %s%s%s state=%s generation=%" G_GUINT64_FORMAT, name,
		  cut ? ": " : "", cut ? cut : "", state, generation);
	keep(events, event.number, line, strlen(line));
	if (events->writer)
		write_later(events->writer, line);
	if (events->control)
		base_control_event(events->control, name, g_steal_pointer(&object));
	if (events->hooks)
		colo_hooks_run(events->hooks, &event);
}

static gboolean read_arguments(JsonObject *arguments, guint64 *since, gboolean *follow,
			       base_answer *answer)
{
	JsonNode *node = json_object_get_member(arguments, "follow");

	*since = 0;
	*follow = FALSE;
	if (json_object_has_member(arguments, "since") &&
	    !base_json_count(arguments, "since", since)) {
		base_answer_bad_request(answer,
					"\"since\" must be a number, 0 at least");
		return FALSE;
	}
	if (node && (!JSON_NODE_HOLDS_VALUE(node) ||
		     json_node_get_value_type(node) != G_TYPE_BOOLEAN)) {
		base_answer_bad_request(answer, "\"follow\" must be true or false");
		return FALSE;
	}
	if (node)
		*follow = json_node_get_boolean(node);
	return TRUE;
}

static void add_line(JsonArray *array, const struct kept *kept)
{
	g_autofree char *why = NULL;
	JsonObject *object = base_json_parse(kept->line, kept->length, &why);

	if (object)
		json_array_add_object_element(array, object);
	else
		g_warning("events: %" G_GUINT64_FORMAT " cannot be read any more: %s",
			  kept->number, why);
}

void colo_events_answer(colo_events *events, JsonObject *arguments, base_answer *answer)
{
	JsonObject *result = json_object_new();
	JsonArray *array = json_array_new();
	struct kept *first = g_queue_peek_head(&events->kept);
	guint64 since, last, missed = 0;
	GList *at = events->kept.head;
	gboolean follow;
	gsize bytes = 0;

	if (!read_arguments(arguments, &since, &follow, answer)) {
		json_array_unref(array);
		json_object_unref(result);
		return;
	}
	/* A number that is not given yet: of another colod's files. */
	last = MIN(since, events->last);
	if (first && first->number > last + 1)
		missed = first->number - last - 1;
	for (; at; at = at->next) {
		struct kept *kept = at->data;

		if (kept->number <= last)
			continue;
		bytes += kept->length;
		if (json_array_get_length(array) == COLO_EVENTS_PAGE ||
		    bytes > PAGE_BYTES)
			break;
		last = kept->number;
		add_line(array, kept);
	}
	follow = follow && !at;
	json_object_set_array_member(result, "events", array);
	json_object_set_int_member(result, "last", (gint64)last);
	json_object_set_boolean_member(result, "more", at != NULL);
	json_object_set_int_member(result, "missed", (gint64)missed);
	json_object_set_boolean_member(result, "following", follow);
	if (follow)
		base_answer_subscribe(answer, result);
	else
		base_answer_ok(answer, result);
}

/* The rest. */

colo_events *colo_events_new(const struct colo_events_config *config)
{
	colo_events *events = g_new0(colo_events, 1);
	g_autofree char *old = NULL;

	events->node = g_strdup(config->node);
	g_queue_init(&events->kept);
	if (!config->file)
		return events;
	old = g_strconcat(config->file, ".1", NULL);
	read_back(events, old);
	read_back(events, config->file);
	events->writer = start_writer(config->file, config->file_bytes);
	return events;
}

void colo_events_free(colo_events *events)
{
	if (!events)
		return;
	if (events->writer)
		stop_writer(events->writer);
	g_queue_clear_full(&events->kept, g_free);
	g_free(events->node);
	g_free(events);
}

void colo_events_set_control(colo_events *events, base_control *control)
{
	events->control = control;
}

void colo_events_set_hooks(colo_events *events, colo_hooks *hooks)
{
	events->hooks = hooks;
}

guint64 colo_events_last(const colo_events *events)
{
	return events->last;
}
