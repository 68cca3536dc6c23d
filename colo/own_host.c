/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a state directory is this host's own. */
#include "colo/own_host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/error.h"

#define NUMBER_MAX 128u /* bytes of a number, and of a line of the file */

enum kind { HARDWARE, SYSTEM, KINDS };

static const char *const names[KINDS] = { [HARDWARE] = "hardware", [SYSTEM] = "system" };

static const struct colo_host_numbers ours = {
	.hardware = "/sys/class/dmi/id/product_uuid",
	.system = "/etc/machine-id",
};

/* The begin of a file, without waiting for anybody; NULL: errno says why there is none. */
static char *read_some(const char *path, gsize most)
{
	base_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	g_autofree char *text = g_malloc0(most + 1);
	ssize_t got;

	if (fd < 0)
		return NULL;
	got = read(fd, text, most);
	return got < 0 ? NULL : g_steal_pointer(&text);
}

/* What boards say whose maker gave them no number: one digit throughout, or one of those that
 * makers of firmware leave there. */
static gboolean is_placeholder(const char *number)
{
	static const char *const known[] = {
		"03000200-0400-0500-0006-000700080009",
		"00020003-0004-0005-0006-000700080009", /* the same, in the other byte order */
		"12345678-1234-5678-90ab-cddeefaabbcc",
		NULL,
	};
	const char first[] = { number[0], '-', '\0' };

	return g_strv_contains(known, number) || !number[strspn(number, first)];
}

/* Its first word, if that is a number that a host may have. */
static char *read_number(const char *path)
{
	g_autofree char *text = read_some(path, NUMBER_MAX);

	if (!text)
		return NULL;
	text[strcspn(text, " \t\r\n")] = '\0';
	if (!*text)
		return NULL;
	for (char *at = text; *at; at++) {
		if (!g_ascii_isxdigit(*at) && *at != '-')
			return NULL;
		*at = g_ascii_tolower(*at);
	}
	return is_placeholder(text) ? NULL : g_steal_pointer(&text);
}

static char *value_in(const char *text, enum kind kind)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	g_autofree char *begin = g_strconcat(names[kind], " ", NULL);

	for (guint i = 0; lines[i]; i++)
		if (g_str_has_prefix(lines[i], begin))
			return g_strdup(lines[i] + strlen(begin));
	return NULL;
}

static void mark(const char *path, char *const number[KINDS])
{
	g_autoptr(GString) text = g_string_new(NULL);
	g_autoptr(GError) error = NULL;

	for (guint kind = 0; kind < KINDS; kind++)
		if (number[kind])
			g_string_append_printf(text, "%s %s\n", names[kind], number[kind]);
	/* Not worth refusing a start for: the next one tries again. */
	if (text->len && !g_file_set_contents_full(path, text->str, (gssize)text->len,
						   G_FILE_SET_CONTENTS_CONSISTENT |
							   G_FILE_SET_CONTENTS_DURABLE,
						   0600, &error))
		g_message("marking the state directory as this host's: %s", error->message);
}

static gboolean judge(const char *path, const char *text, char *const number[KINDS],
		      GError **error)
{
	for (guint kind = 0; kind < KINDS; kind++) {
		g_autofree char *then = value_in(text, kind);

		if (!then || !number[kind])
			continue;
		if (!strcmp(then, number[kind]))
			return TRUE;
		return colo_error_set(
			error, COLO_ERROR_CONFIG,
			"%s: the directory is of another host, or from before this one's %s was "
			"changed: a generation file must not be copied. On a new host begin "
			"with an empty one; if this is the old host, remove that file",
			path, kind == HARDWARE ? "hardware" : "machine id");
	}
	return TRUE;
}

gboolean colo_own_host(const char *state_dir, const struct colo_host_numbers *numbers,
		       GError **error)
{
	g_autofree char *path = g_build_filename(state_dir, "host", NULL);
	g_autofree char *text = read_some(path, KINDS * NUMBER_MAX);
	const gboolean new_here = !text && errno == ENOENT;
	g_autofree char *hardware = read_number((numbers ? numbers : &ours)->hardware);
	g_autofree char *of_system = read_number((numbers ? numbers : &ours)->system);
	char *const number[KINDS] = { [HARDWARE] = hardware, [SYSTEM] = of_system };

	if (text)
		return judge(path, text, number, error);
	if (new_here)
		mark(path, number);
	return TRUE;
}
