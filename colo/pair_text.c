/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where things are in a pair file. */
#include "colo/pair_text.h"

#include <string.h>

#define SHOWN 40 /* bytes of a line that an error repeats */

gboolean colo_text_bad(GError **error, const char *file, guint line, const char *format,
		       ...)
{
	g_autofree char *message = NULL, *valid = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	/* What was shortened may have lost a part of its last character. */
	valid = g_utf8_make_valid(message, -1);
	g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG, "%s:%u: %s", file, line,
		    valid);
	return FALSE;
}

static void key_clear(gpointer key)
{
	g_free(((struct colo_text_key *)key)->key);
}

static void section_free(gpointer data)
{
	struct colo_text_section *section = data;

	g_free(section->title);
	g_array_unref(section->keys);
	g_free(section);
}

static struct colo_text_section *section_new(const char *title, guint line)
{
	struct colo_text_section *section = g_new0(struct colo_text_section, 1);

	section->title = g_strdup(title);
	section->line = line;
	section->keys = g_array_new(FALSE, FALSE, sizeof(struct colo_text_key));
	g_array_set_clear_func(section->keys, key_clear);
	return section;
}

guint colo_text_line(const struct colo_text_section *section, const char *key)
{
	for (guint i = 0; i < section->keys->len; i++) {
		const struct colo_text_key *at =
			&g_array_index(section->keys, struct colo_text_key, i);

		if (!strcmp(at->key, key))
			return at->line;
	}
	return 0;
}

static gboolean take_title(colo_pair_text *text, const char *line, const char *file,
			   GError **error)
{
	gsize length = strlen(line);
	g_autofree char *title = NULL;

	if (line[length - 1] != ']')
		return colo_text_bad(error, file, text->lines,
				     "a section is [NAME], and nothing behind it");
	title = g_strndup(line + 1, length - 2);
	if (!*title || strpbrk(title, "[]"))
		return colo_text_bad(
			error, file, text->lines,
			"a section is [NAME], without brackets in its name");
	for (guint i = 0; i < text->sections->len; i++) {
		const struct colo_text_section *other = text->sections->pdata[i];

		if (!strcmp(other->title, title))
			return colo_text_bad(error, file, text->lines,
					     "[%.*s] is there twice, first in line %u: "
					     "make one of them",
					     SHOWN, title, other->line);
	}
	g_ptr_array_add(text->sections, section_new(title, text->lines));
	return TRUE;
}

static gboolean take_key(colo_pair_text *text, const char *line, const char *file,
			 GError **error)
{
	const char *equals = strchr(line, '=');
	struct colo_text_section *section;
	struct colo_text_key key = { .line = text->lines };
	guint before;

	if (!equals || equals == line)
		return colo_text_bad(error, file, text->lines,
				     "\"%.*s\" is neither [SECTION] nor KEY = VALUE "
				     "nor a comment (# begins its line)",
				     SHOWN, line);
	if (!text->sections->len)
		return colo_text_bad(
			error, file, text->lines,
			"a key before the first section: begin with [pair]");
	section = text->sections->pdata[text->sections->len - 1];
	key.key = g_strchomp(g_strndup(line, (gsize)(equals - line)));
	before = colo_text_line(section, key.key);
	g_array_append_val(section->keys, key);
	return !before || colo_text_bad(error, file, text->lines,
					"%.*s is there twice, first in line %u: "
					"take one of them out",
					SHOWN, key.key, before);
}

static gboolean take_line(colo_pair_text *text, char *line, const char *file,
			  GError **error)
{
	gsize length = strlen(line);

	if (length && line[length - 1] == '\r')
		line[length - 1] = 0;
	for (const char *c = line; *c; c++)
		if (g_ascii_iscntrl(*c) && *c != '\t')
			return colo_text_bad(
				error, file, text->lines,
				"a control character (0x%02x): take it out",
				(guint)(guchar)*c);
	g_strstrip(line);
	if (!*line || *line == '#')
		return TRUE;
	return *line == '[' ? take_title(text, line, file, error)
			    : take_key(text, line, file, error);
}

static guint lines_until(const char *from, const char *to)
{
	guint lines = 1;

	for (; from < to; from++)
		lines += *from == '\n';
	return lines;
}

colo_pair_text *colo_pair_text_new(const char *text, gsize length, const char *file,
				   GError **error)
{
	g_autoptr(colo_pair_text) found = g_new0(colo_pair_text, 1);
	const char *end;

	found->sections = g_ptr_array_new_with_free_func(section_free);
	/* A zero byte ends what it takes for text, too. */
	if (!g_utf8_validate(text, (gssize)length, &end)) {
		colo_text_bad(error, file, lines_until(text, end),
			      "not UTF-8: is this a pair file?");
		return NULL;
	}
	if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		colo_text_bad(error, file, 1,
			      "begins with a byte order mark: save it without");
		return NULL;
	}
	for (const char *at = text; at < text + length; at = end + 1) {
		g_autofree char *line = NULL;

		end = memchr(at, '\n', (gsize)(text + length - at));
		if (!end)
			end = text + length;
		line = g_strndup(at, (gsize)(end - at));
		found->lines++;
		if (!take_line(found, line, file, error))
			return NULL;
	}
	found->lines = MAX(found->lines, 1);
	return g_steal_pointer(&found);
}

void colo_pair_text_free(colo_pair_text *text)
{
	if (!text)
		return;
	g_ptr_array_unref(text->sections);
	g_free(text);
}
