/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `colo` shows of a pair. A document is cleaned once, as a whole (colo/field.h),
 * and read from then on; so nothing here can put what a guest or a peer wrote on a
 * terminal as it is.
 */
#include "colo/view.h"

#include <string.h>

#include "colo/field.h"

#define LABEL_WIDTH 14
#define DAY_S (24 * 3600)

enum colour { GREEN = 32, YELLOW = 33, RED = 31, MAGENTA = 35 };

/* What is true of the pair in a state of this node, colo/colod's states. */
struct state {
	const char *name;
	enum colo_health health;
	/* Behind the headline, with %P (who runs the guest), %S (who stands by), %N
	 * (this node) and %O (the other). */
	const char *says;
};

/* clang-format off */
static const struct state states[] = {
	{ "protected", COLO_HEALTH_PROTECTED, "the guest runs on %P, and %S stands by" },
	{ "standby", COLO_HEALTH_PROTECTED, "the guest runs on %P, and %S stands by" },
	{ "handing", COLO_HEALTH_PROTECTED, "%N hands the guest over to %O" },
	{ "syncing", COLO_HEALTH_UNPROTECTED, "the guest runs on %P alone, and %S is being filled" },
	{ "joining", COLO_HEALTH_UNPROTECTED, "the guest runs on %P alone, and %N is being filled" },
	{ "solo", COLO_HEALTH_UNPROTECTED, "the guest runs on %N alone" },
	{ "promoting", COLO_HEALTH_UNPROTECTED, "%N takes the guest over" },
	{ "waiting", COLO_HEALTH_DOWN, "%N waits until it may run the guest, or can join %O" },
	{ "holding", COLO_HEALTH_DOWN, "%N lost the other node, and its guest rests until it may go on alone" },
	{ "fenced", COLO_HEALTH_DOWN, "%N must not run the guest" },
	{ "stopped", COLO_HEALTH_DOWN, "the guest was stopped on purpose" },
};
/* clang-format on */

static const struct state *find_state(JsonObject *status)
{
	const char *name = colo_field_text(status, "state");

	for (guint i = 0; name && i < G_N_ELEMENTS(states); i++)
		if (!strcmp(states[i].name, name))
			return &states[i];
	return NULL;
}

static gboolean guest_rests(JsonObject *status)
{
	JsonObject *guest = colo_field_object(status, "guest");

	return colo_field_is(guest, "state", "paused") ||
	       colo_field_is(guest, "state", "ended") ||
	       colo_field_is(guest, "state", "none");
}

enum colo_health colo_view_health(JsonObject *status)
{
	const struct state *state = find_state(status);
	JsonObject *peer = colo_field_object(status, "peer");

	if (!state)
		return COLO_HEALTH_UNKNOWN;
	if (state->health == COLO_HEALTH_PROTECTED &&
	    !colo_field_true(status, "protected")) {
		/* A standby that nobody fills or protects any more: does anybody run?
		 */
		if (!strcmp(state->name, "standby") &&
		    !colo_field_true(peer, "reachable") &&
		    !colo_field_true(peer, "alive"))
			return COLO_HEALTH_DOWN;
		return COLO_HEALTH_UNPROTECTED;
	}
	if ((!strcmp(state->name, "solo") || !strcmp(state->name, "syncing")) &&
	    guest_rests(status))
		return COLO_HEALTH_DOWN;
	return state->health;
}

enum colo_health colo_view_worse(enum colo_health a, enum colo_health b)
{
	static const int weight[] = { 0, 1, 3, 2 };

	return weight[a] > weight[b] ? a : b;
}

static gboolean peer_runs(JsonObject *status)
{
	static const char *const running[] = { "solo",	  "syncing", "protected",
					       "holding", "handing", NULL };
	const char *state = colo_field_text(colo_field_object(status, "peer"), "state");

	return state && g_strv_contains(running, state);
}

const char *colo_view_primary(JsonObject *status)
{
	if (colo_field_is(status, "role", "primary"))
		return colo_field_text(status, "node");
	if (colo_field_is(status, "role", "secondary") || peer_runs(status))
		return colo_field_text(colo_field_object(status, "peer"), "name");
	return NULL;
}

const char *colo_view_secondary(JsonObject *status)
{
	if (colo_field_is(status, "role", "secondary"))
		return colo_field_text(status, "node");
	if (colo_field_is(status, "role", "primary") &&
	    (colo_field_is(status, "state", "protected") ||
	     colo_field_is(status, "state", "handing") ||
	     colo_field_is(status, "state", "syncing")))
		return colo_field_text(colo_field_object(status, "peer"), "name");
	return NULL;
}

/* Figures as people write them. */

static char *duration(gint64 ms)
{
	gint64 s = ms / 1000;

	if (ms < 0)
		return g_strdup("?");
	if (ms < 1000)
		return g_strdup_printf("%d ms", (int)ms);
	if (s < 60)
		return g_strdup_printf("%d s", (int)s);
	if (s < 3600)
		return g_strdup_printf("%d min %d s", (int)(s / 60), (int)(s % 60));
	if (s < DAY_S)
		return g_strdup_printf("%d h %d min", (int)(s / 3600),
				       (int)(s % 3600 / 60));
	return g_strdup_printf("%" G_GINT64_FORMAT " d %d h", s / DAY_S,
			       (int)(s % DAY_S / 3600));
}

static char *microseconds(gint64 us)
{
	gint64 magnitude = us < 0 && us > G_MININT64 ? -us : us;

	if (magnitude < 1000)
		return g_strdup_printf("%" G_GINT64_FORMAT " us", us);
	if (magnitude < 1000000)
		return g_strdup_printf("%.1f ms", (double)us / 1e3);
	return g_strdup_printf("%.1f s", (double)us / 1e6);
}

static char *bytes(gint64 count)
{
	return g_format_size_full((guint64)MAX(count, 0), G_FORMAT_SIZE_IEC_UNITS);
}

/* Lines. */

static void row_begin(GString *to, const char *label)
{
	glong width = g_utf8_strlen(label, -1);

	g_string_append_printf(to, "  %s%*s", label, (int)MAX(LABEL_WIDTH - width, 1),
			       "");
}

static void row(GString *to, const char *label, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
static void row(GString *to, const char *label, const char *format, ...)
{
	va_list args;

	row_begin(to, label);
	va_start(args, format);
	g_string_append_vprintf(to, format, args);
	va_end(args);
	g_string_append_c(to, '\n');
}

/* ", LABEL VALUE" where the member is there. */
static void add_integer(GString *to, JsonObject *object, const char *name,
			const char *label)
{
	gint64 value;

	if (colo_field_integer(object, name, &value))
		g_string_append_printf(to, ", %s %" G_GINT64_FORMAT, label, value);
}

static void add_us(GString *to, JsonObject *object, const char *name, const char *label)
{
	g_autofree char *text = NULL;
	gint64 value;

	if (!colo_field_integer(object, name, &value))
		return;
	text = microseconds(value);
	g_string_append_printf(to, ", %s %s", label, text);
}

/* " 43 %" or nothing. */
static void add_percent(GString *to, JsonObject *status)
{
	JsonObject *sync = colo_field_object(status, "sync");
	gint64 percent;

	if (colo_field_integer(sync, "percent", &percent))
		g_string_append_printf(to, " %" G_GINT64_FORMAT " %%", percent);
}

/* The first line. */

static void say_state(GString *to, const struct state *state, JsonObject *status)
{
	JsonObject *peer = colo_field_object(status, "peer");
	const char *node = colo_field_text(status, "node");
	const char *other = colo_field_text(peer, "name");
	const char *name;

	for (const char *at = state->says; *at; at++) {
		if (*at != '%') {
			g_string_append_c(to, *at);
			continue;
		}
		switch (*++at) {
		case 'P':
			name = colo_view_primary(status);
			break;
		case 'S':
			name = colo_view_secondary(status);
			break;
		case 'N':
			name = node;
			break;
		default:
			name = other;
		}
		if (name)
			g_string_append(to, name);
		else
			g_string_append(to,
					*at == 'N' ? "this node" : "the other node");
	}
}

static void headline(GString *to, const char *pair, enum colo_health health,
		     const char *words, gboolean colour)
{
	static const enum colour colours[] = { GREEN, YELLOW, RED, MAGENTA };

	g_string_append_printf(to, "%s: ", pair);
	if (colour)
		g_string_append_printf(to, "\033[1;%dm%s\033[0m", colours[health],
				       words);
	else
		g_string_append(to, words);
}

static const char *health_words(enum colo_health health, JsonObject *status)
{
	switch (health) {
	case COLO_HEALTH_PROTECTED:
		return "PROTECTED";
	case COLO_HEALTH_UNPROTECTED:
		return "NOT PROTECTED";
	case COLO_HEALTH_DOWN:
		return colo_field_is(status, "state", "holding") ? "NOT SERVING"
		       : peer_runs(status)			 ? "NOT PROTECTED"
								 : "NOT RUNNING";
	default:
		return "UNKNOWN";
	}
}

static void first_line(GString *to, const char *pair, JsonObject *status,
		       gboolean colour)
{
	enum colo_health health = colo_view_health(status);
	const struct state *state = find_state(status);
	const char *name = colo_field_text(status, "state");

	headline(to, pair, health, health_words(health, status), colour);
	if (!state) {
		g_string_append_printf(to, ": colod tells of %s%s\n",
				       name ? "an unknown state, " : "no state",
				       name ? name : "");
		return;
	}
	if (strcmp(name, "protected") != 0 || health != COLO_HEALTH_PROTECTED) {
		g_string_append_printf(to, " (%s", name);
		add_percent(to, status);
		g_string_append_c(to, ')');
	}
	g_string_append(to, ": ");
	if (!strcmp(name, "standby") && health != COLO_HEALTH_PROTECTED)
		g_string_append(to, "this node stands by, and has lost its primary");
	else if (health == COLO_HEALTH_DOWN && state->health != COLO_HEALTH_DOWN)
		g_string_append_printf(
			to, "the guest does not run (%s)",
			colo_field_text(colo_field_object(status, "guest"), "state"));
	else
		say_state(to, state, status);
	g_string_append_c(to, '\n');
}

/* The rows, in their order. */

static void show_since(GString *to, JsonObject *status)
{
	g_autofree char *text = NULL;
	gint64 ms;

	if (!colo_field_integer(status, "since_ms", &ms))
		return;
	text = duration(ms);
	row(to, "for", "%s", text);
}

static void show_node(GString *to, JsonObject *status)
{
	const char *node = colo_field_text(status, "node");
	const char *role = colo_field_text(status, "role");
	JsonObject *guest = colo_field_object(status, "guest");
	const char *state = colo_field_text(guest, "state");
	g_autofree char *uptime = NULL;
	gint64 ms;

	row_begin(to, node ? node : "this node");
	g_string_append_printf(to, "this node, %s",
			       role && strcmp(role, "none") != 0 ? role : "no role");
	if (state)
		g_string_append_printf(to, ", guest %s",
				       strcmp(state, "none") ? state : "not there");
	if (g_strcmp0(state, "running") == 0 &&
	    colo_field_integer(guest, "uptime_ms", &ms)) {
		uptime = duration(ms);
		g_string_append_printf(to, " for %s", uptime);
	}
	g_string_append_c(to, '\n');
}

static void show_peer(GString *to, JsonObject *status)
{
	JsonObject *peer = colo_field_object(status, "peer");
	const char *name = colo_field_text(peer, "name");
	const char *state = colo_field_text(peer, "state");

	if (!peer)
		return;
	row_begin(to, name ? name : "other node");
	if (colo_field_true(peer, "reachable"))
		g_string_append_printf(to, "%s", state ? state : "its colod answers");
	else
		g_string_append_printf(to, "its colod does not answer%s%s",
				       state ? ", last known as " : "",
				       state ? state : "");
	add_integer(to, peer, "generation", "generation");
	g_string_append(to, colo_field_true(peer, "alive") ? ", heartbeats come"
							   : ", no heartbeats");
	g_string_append_c(to, '\n');
	if (colo_field_text(peer, "trouble")) {
		row_begin(to, "no connection");
		g_string_append_printf(to, "%s\n", colo_field_text(peer, "trouble"));
	}
}

/* What differs between the nodes' pair files, a line each. */
static void show_differences(GString *to, JsonObject *raw)
{
	const char *text = colo_field_text(colo_field_object(raw, "peer"), "differs");
	g_auto(GStrv) lines = text ? g_strsplit(text, "\n", COLO_FIELD_MANY_MAX) : NULL;

	for (guint i = 0; lines && lines[i]; i++) {
		g_autofree char *clean = colo_field_clean(lines[i], strlen(lines[i]),
							  COLO_FIELD_TEXT_MAX);

		if (*clean)
			row(to, i ? "" : "files differ", "%s", clean);
	}
}

static void show_generation(GString *to, JsonObject *status)
{
	gint64 generation;

	if (!colo_field_integer(status, "generation", &generation))
		return;
	row_begin(to, "generation");
	g_string_append_printf(to, "%" G_GINT64_FORMAT, generation);
	add_integer(to, status, "epoch", "epoch");
	g_string_append_c(to, '\n');
}

/* What is left, in colod's words or in colo-vm's. */
static gboolean bytes_left(JsonObject *sync, gint64 *left)
{
	gint64 memory, disks;

	if (colo_field_integer(sync, "remaining_bytes", left))
		return TRUE;
	if (!colo_field_integer(sync, "memory_left", &memory) || memory < 0)
		return FALSE;
	if (!colo_field_integer(sync, "disks_left", &disks) || disks < 0)
		disks = 0;
	*left = memory + MIN(disks, G_MAXINT64 - memory);
	return TRUE;
}

static void show_sync(GString *to, JsonObject *status)
{
	JsonObject *sync = colo_field_object(status, "sync");
	gint64 percent, left, ms;

	if (!sync)
		return;
	row_begin(to, "first sync");
	if (colo_field_integer(sync, "percent", &percent))
		g_string_append_printf(to, "%" G_GINT64_FORMAT " %%", percent);
	else
		g_string_append(to, "under way");
	if (bytes_left(sync, &left)) {
		g_autofree char *text = bytes(left);

		g_string_append_printf(to, ", %s left", text);
	}
	if (colo_field_integer(sync, "eta_ms", &ms) ||
	    colo_field_integer(sync, "ms_left", &ms)) {
		g_autofree char *text = duration(ms);

		g_string_append_printf(to, ", about %s", text);
	}
	g_string_append_c(to, '\n');
}

static void show_checkpoints(GString *to, JsonObject *status)
{
	JsonObject *checkpoints = colo_field_object(status, "checkpoints");
	JsonObject *total = colo_field_object(checkpoints, "total");
	JsonObject *pause = colo_field_object(checkpoints, "pause_us");
	JsonObject *commit = colo_field_object(checkpoints, "commit_us");
	JsonObject *last = colo_field_object(checkpoints, "last");
	const char *reason = colo_field_text(last, "reason");
	const char *mode = colo_field_text(status, "mode");
	gint64 count = 0;

	if (!colo_field_integer(total, "checkpoints", &count))
		return;
	row_begin(to, "checkpoints");
	g_string_append_printf(to, "%" G_GINT64_FORMAT, count);
	add_us(to, pause, "p50", "pause");
	add_us(to, pause, "p99", "p99");
	add_us(to, commit, "p50", "commit");
	add_us(to, commit, "p99", "p99");
	if (mode)
		g_string_append_printf(to, ", mode %s", mode);
	if (reason)
		g_string_append_printf(to, ", last for %s", reason);
	g_string_append_c(to, '\n');
}

/* A member that is a number, or an object of numbers by cause, in all. */
static gboolean total_of(JsonObject *object, const char *name, gint64 *total)
{
	JsonObject *parts = colo_field_object(object, name);
	g_autoptr(GList) names = NULL;
	gint64 part;

	if (!parts)
		return colo_field_integer(object, name, total);
	*total = 0;
	names = json_object_get_members(parts);
	for (GList *at = names; at; at = at->next)
		if (colo_field_integer(parts, at->data, &part) && part > 0)
			*total = MIN(*total, G_MAXINT64 - part) + part;
	return TRUE;
}

static void add_total(GString *to, JsonObject *object, const char *name,
		      const char *label)
{
	gint64 value;

	if (total_of(object, name, &value))
		g_string_append_printf(to, ", %" G_GINT64_FORMAT " %s", value, label);
}

static void show_comparator(GString *to, JsonObject *status)
{
	JsonObject *comparator = colo_field_object(status, "comparator");
	const char *gate = colo_field_text(comparator, "gate");
	JsonObject *mode_object = colo_field_object(comparator, "mode");
	const char *mode = colo_field_text(comparator, "mode");

	/* As colo-netcompare itself tells it. */
	if (mode_object)
		mode = colo_field_true(mode_object, "compare") ? "compare" : "buffered";
	if (!comparator)
		return;
	row_begin(to, "comparator");
	g_string_append_printf(to, "gate %s", gate ? gate : "unknown");
	if (mode)
		g_string_append_printf(to, ", mode %s", mode);
	add_total(to, comparator, "matched", "matched");
	add_total(to, comparator, "committed", "by checkpoint");
	add_total(to, comparator, "divergences", "divergences");
	add_total(to, comparator, "held", "held");
	g_string_append_c(to, '\n');
}

static void show_path(GString *to, const char *label, JsonObject *path)
{
	const char *name = colo_field_text(path, "path");
	gboolean up = colo_field_true(path, "up");
	gint64 value;

	row_begin(to, label);
	g_string_append_printf(to, "%s  %s", name ? name : "?", up ? "up" : "DOWN");
	if (!up && colo_field_integer(path, "silent_ms", &value)) {
		g_autofree char *silent = duration(value);

		g_string_append_printf(to, " for %s", silent);
	}
	if (up) {
		add_us(to, path, "rtt_us", "round trip");
		add_us(to, path, "jitter_us", "jitter");
	}
	if (colo_field_integer(path, "loss_ppm", &value))
		g_string_append_printf(to, ", loss %.2f %%", (double)value / 1e4);
	/* Somebody else speaks there. */
	for (guint i = 0; i < 4; i++) {
		static const char *const names[] = { "forged", "malformed", "replayed",
						     "reflected" };

		if (colo_field_integer(path, names[i], &value) && value > 0)
			add_integer(to, path, names[i], names[i]);
	}
	g_string_append_c(to, '\n');
}

static void show_heartbeat(GString *to, JsonObject *status)
{
	JsonObject *heartbeat = colo_field_object(status, "heartbeat");
	JsonArray *paths = colo_field_array(heartbeat, "paths");
	guint count = paths ? json_array_get_length(paths) : 0;
	gint64 value;

	if (!heartbeat)
		return;
	if (!count)
		row(to, "heartbeat", "%s",
		    colo_field_true(heartbeat, "alive") ? "comes" : "does not come");
	for (guint i = 0; i < count; i++)
		show_path(to, i ? "" : "heartbeat", colo_field_element(paths, i));
	if (colo_field_integer(heartbeat, "stalls", &value) && value > 0)
		row(to, "",
		    "this host stopped the heartbeat daemon %" G_GINT64_FORMAT " times",
		    value);
	if (colo_field_integer(heartbeat, "clock_offset_us", &value)) {
		g_autofree char *offset = microseconds(value);

		row_begin(to, "clocks");
		g_string_append_printf(to, "differ by %s", offset);
		add_us(to, heartbeat, "clock_error_us", "give or take");
		g_string_append_c(to, '\n');
	}
}

static void show_arbiter(GString *to, JsonObject *status)
{
	JsonObject *arbiter = colo_field_object(status, "arbiter");
	const char *kind = colo_field_text(arbiter, "kind");
	const char *state = colo_field_text(arbiter, "state");
	const char *record = colo_field_text(arbiter, "record");
	const char *detail = colo_field_text(arbiter, "detail");

	if (!arbiter)
		return;
	row_begin(to, "arbiter");
	g_string_append_printf(to, "%s, %s", kind ? kind : "unknown kind",
			       state ? state : "state unknown");
	if (record)
		g_string_append_printf(to, ", record: %s", record);
	if (detail)
		g_string_append_printf(to, " (%s)", detail);
	g_string_append_c(to, '\n');
}

static void show_programs(GString *to, JsonObject *status)
{
	JsonArray *programs = colo_field_array(status, "programs");
	guint count = programs ? json_array_get_length(programs) : 0;

	for (guint i = 0; i < count; i++) {
		JsonObject *program = colo_field_element(programs, i);
		const char *name = colo_field_text(program, "name");
		gint64 pid, restarts;

		row_begin(to, i ? "" : "programs");
		g_string_append(to, name ? name : "?");
		if (!colo_field_true(program, "running"))
			g_string_append(to, " NOT RUNNING");
		else if (colo_field_integer(program, "pid", &pid))
			g_string_append_printf(to, " %" G_GINT64_FORMAT, pid);
		if (colo_field_integer(program, "restarts", &restarts) && restarts > 0)
			g_string_append_printf(
				to, ", restarted %" G_GINT64_FORMAT " %s", restarts,
				restarts == 1 ? "time" : "times");
		g_string_append_c(to, '\n');
	}
}

char *colo_view_status(const char *pair, JsonObject *raw, gboolean colour)
{
	g_autoptr(JsonObject) status = colo_field_clean_object(raw);
	GString *to = g_string_new(NULL);
	const char *reason = colo_field_text(status, "reason");
	const char *advice = colo_field_text(status, "advice");

	first_line(to, pair, status, colour);
	if (reason)
		row(to, "why", "%s", reason);
	if (advice)
		row(to, "what to do", "%s", advice);
	show_since(to, status);
	show_node(to, status);
	show_peer(to, status);
	show_differences(to, raw);
	show_generation(to, status);
	show_sync(to, status);
	show_checkpoints(to, status);
	show_comparator(to, status);
	show_heartbeat(to, status);
	show_arbiter(to, status);
	show_programs(to, status);
	return g_string_free(to, FALSE);
}

char *colo_view_unknown(const char *pair, const char *why, gboolean colour)
{
	g_autofree char *clean = colo_field_clean(why, strlen(why), 0);
	GString *to = g_string_new(NULL);

	headline(to, pair, COLO_HEALTH_UNKNOWN, "UNKNOWN", colour);
	g_string_append_printf(to, ": %s\n", clean);
	return g_string_free(to, FALSE);
}

char *colo_view_brief(const char *pair, JsonObject *raw)
{
	g_autoptr(JsonObject) status = colo_field_clean_object(raw);
	const char *state = colo_field_text(status, "state");
	const char *primary = colo_view_primary(status);
	const char *secondary = colo_view_secondary(status);
	GString *to = g_string_new(NULL);

	g_string_append_printf(to, "%s: %s", pair, state ? state : "unknown");
	add_percent(to, status);
	if (find_state(status) && find_state(status)->health == COLO_HEALTH_PROTECTED &&
	    colo_view_health(status) != COLO_HEALTH_PROTECTED)
		g_string_append(to, " (NOT PROTECTED)");
	g_string_append_printf(to, ", %s%s", primary ? "primary " : "no primary",
			       primary ? primary : "");
	g_string_append_printf(to, ", %s%s", secondary ? "secondary " : "no secondary",
			       secondary ? secondary : "");
	add_integer(to, status, "generation", "generation");
	add_integer(to, status, "epoch", "epoch");
	return g_string_free(to, FALSE);
}

/* "2026-11-21 20:15:05.123" of this host's time zone. */
static char *wall_time(JsonObject *event)
{
	g_autoptr(GDateTime) utc = NULL;
	g_autoptr(GDateTime) local = NULL;
	g_autofree char *text = NULL;
	gint64 ms;

	if (colo_field_integer(event, "time", &ms) && ms >= 0)
		utc = g_date_time_new_from_unix_utc(ms / 1000);
	if (utc)
		local = g_date_time_to_local(utc);
	if (!local)
		return g_strdup("time unknown");
	text = g_date_time_format(local, "%Y-%m-%d %H:%M:%S");
	return g_strdup_printf("%s.%03d", text, (int)(ms % 1000));
}

/* A text as it is; anything else but nothing as JSON. */
static void add_value(GString *to, JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);
	const char *text = colo_field_text(object, name);
	g_autofree char *json = NULL;

	if (text)
		g_string_append(to, text);
	else if (node && !JSON_NODE_HOLDS_NULL(node))
		g_string_append(to, json = colo_field_json(node, FALSE));
}

/* Members that have no place of their own in an event's line. */
static void add_others(GString *to, JsonObject *event)
{
	static const char *const placed[] = { "event",	   "number",	 "time",
					      "monotonic", "generation", "node",
					      "state",	   "detail",	 "pair",
					      NULL };
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;

	json_object_iter_init(&iter, event);
	while (json_object_iter_next(&iter, &name, &node)) {
		if (g_strv_contains(placed, name) || JSON_NODE_HOLDS_NULL(node))
			continue;
		g_string_append_printf(to, "  %s=", name);
		add_value(to, event, name);
	}
}

char *colo_view_event(JsonObject *raw)
{
	g_autoptr(JsonObject) event = colo_field_clean_object(raw);
	g_autofree char *when = wall_time(event);
	const char *node = colo_field_text(event, "node");
	const char *name = colo_field_text(event, "event");
	const char *state = colo_field_text(event, "state");
	GString *to = g_string_new(when);
	gint64 number;

	if (colo_field_integer(event, "number", &number))
		g_string_append_printf(to, "  %" G_GINT64_FORMAT, number);
	g_string_append_printf(to, "  %s  %s", node ? node : "?", name ? name : "?");
	if (state && g_strcmp0(state, name) != 0)
		g_string_append_printf(to, ", state %s", state);
	add_integer(to, event, "generation", "generation");
	if (json_object_has_member(event, "detail") &&
	    !json_node_is_null(json_object_get_member(event, "detail"))) {
		g_string_append(to, ": ");
		add_value(to, event, "detail");
	}
	add_others(to, event);
	return g_string_free(to, FALSE);
}
