/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair file.
 *
 * Read in four steps: where everything is (pair_text.c), which sections and keys there
 * may be, what the values are (by the table of pair_rows.c), and what they are together
 * (pair_judge.c). The first fault ends it. Defaults that depend on other values are
 * worked out behind the third step, so that the fourth judges them, too.
 */
#include "colo/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fd.h"
#include "colo/pair_reader.h"
#include "colo/pair_values.h"

#define FILE_MAX (256u << 10)
#define TAP_MAX 15u /* bytes of an interface's name */
/* Of queues that nobody chose: away from the small numbers that people choose. */
#define QUEUE_FIRST 1000u
#define QUEUE_LAST 65000u

void colo_pair_free(colo_pair *pair)
{
	if (!pair)
		return;
	for (guint r = 0; r < colo_rows_count; r++)
		for (guint i = 0; i < colo_section_count(pair, colo_rows[r].section);
		     i++)
			colo_row_clear(&colo_rows[r], pair, i);
	for (guint i = 0; i < pair->disks; i++)
		g_free(pair->disk[i].name);
	for (guint i = 0; i < pair->nets; i++)
		g_free(pair->net[i].name);
	for (guint i = 0; i < COLO_NODES; i++)
		g_free(pair->node[i].name);
	g_free(pair->text);
	g_free(pair);
}

guint colo_reader_line(const struct colo_reader *reader, enum colo_pair_section section,
		       guint index, const char *key)
{
	const struct colo_text_section *at = reader->at[section][index];
	guint line = at ? colo_text_line(at, key) : reader->text->lines;

	return line ? line : at->line;
}

gboolean colo_reader_says(const struct colo_reader *reader,
			  enum colo_pair_section section, guint index, const char *key)
{
	const struct colo_text_section *at = reader->at[section][index];

	return at && colo_text_line(at, key);
}

/* "disk data". */
static char *title_of(const colo_pair *pair, enum colo_pair_section section,
		      guint index)
{
	const char *name = colo_section_name(pair, section, index);

	return g_strconcat(colo_section_rows[section].name, name ? " " : NULL, name,
			   NULL);
}

gboolean colo_reader_bad(const struct colo_reader *reader, GError **error,
			 enum colo_pair_section section, guint index, const char *key,
			 const char *format, ...)
{
	g_autofree char *title = title_of(reader->pair, section, index);
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	return colo_text_bad(error, reader->file,
			     colo_reader_line(reader, section, index, key),
			     "[%s] %s: %s", title, key, what);
}

/* Which sections there are. */

static char *known_sections(void)
{
	GString *known = g_string_new(NULL);

	for (guint i = 0; i < COLO__SECTIONS; i++)
		g_string_append_printf(known, "%s[%s%s]", i ? ", " : "",
				       colo_section_rows[i].name,
				       colo_section_rows[i].stride ? " NAME" : "");
	return g_string_free(known, FALSE);
}

/* The place of a node's section, or of a new disk's or network's. */
static gboolean place_named(struct colo_reader *reader, enum colo_pair_section section,
			    const struct colo_text_section *at, const char *name,
			    guint *index, GError **error)
{
	colo_pair *pair = reader->pair;
	guint *count = section == COLO_SECTION_DISK ? &pair->disks : &pair->nets;
	const char *kind = colo_section_rows[section].name;

	if (!colo_value_is_name(name))
		return colo_text_bad(
			error, reader->file, at->line,
			"\"%.40s\" is no name for a %s: write [%s NAME], a "
			"letter a-z, then letters, digits and \"-\"",
			name, kind, kind);
	for (*index = 0; *index < colo_section_count(pair, section); ++*index) {
		if (strcmp(colo_section_name(pair, section, *index), name))
			continue;
		if (!reader->at[section][*index])
			return TRUE; /* a node, expected */
		return colo_text_bad(
			error, reader->file, at->line,
			"%s %s is there twice, first in line %u: make one of "
			"them",
			kind, name, reader->at[section][*index]->line);
	}
	if (section == COLO_SECTION_NODE)
		return colo_text_bad(
			error, reader->file, at->line,
			"%s is none of this pair's nodes (%s and %s): take "
			"the section out, or name it in [pair] nodes",
			name, pair->node[0].name, pair->node[1].name);
	if (*count == COLO_SECTION_MAX)
		return colo_text_bad(error, reader->file, at->line,
				     "more than %u sections [%s NAME]: take some out",
				     COLO_SECTION_MAX, kind);
	*index = (*count)++;
	if (section == COLO_SECTION_DISK)
		pair->disk[*index].name = g_strdup(name);
	else
		pair->net[*index].name = g_strdup(name);
	return TRUE;
}

static gboolean place_section(struct colo_reader *reader,
			      const struct colo_text_section *at, GError **error)
{
	gsize length = strcspn(at->title, " \t");
	g_autofree char *kind = g_strndup(at->title, length);
	g_autofree char *name = g_strstrip(g_strdup(at->title + length));
	g_autofree char *known = NULL;
	guint index = 0;

	for (guint i = 0; i < COLO__SECTIONS; i++) {
		const struct colo_section_row *row = &colo_section_rows[i];

		if (strcmp(row->name, kind))
			continue;
		if (row->stride && !*name)
			return colo_text_bad(error, reader->file, at->line,
					     "[%s] needs a name: write [%s NAME]", kind,
					     kind);
		if (!row->stride && strcmp(at->title, kind))
			return colo_text_bad(error, reader->file, at->line,
					     "[%s] has no name: write [%s]", kind,
					     kind);
		if (row->stride && !place_named(reader, i, at, name, &index, error))
			return FALSE;
		reader->at[i][index] = at;
		return TRUE;
	}
	known = known_sections();
	return colo_text_bad(error, reader->file, at->line,
			     "unknown section [%.40s]; there are %s", at->title, known);
}

/* Which keys they have. */

static char *known_keys(enum colo_pair_section section)
{
	GString *known = g_string_new(NULL);

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];

		if (row->section != section || (i && !strcmp(row->key, row[-1].key)))
			continue;
		g_string_append_printf(known, "%s%s", known->len ? ", " : "", row->key);
		if (row->per_node)
			g_string_append_printf(known, ", %s.NODE", row->key);
	}
	return g_string_free(known, FALSE);
}

/* "path.alpha". */
static char *key_of_node(const struct colo_row *row, const colo_pair *pair, guint node)
{
	return g_strconcat(row->key, ".", pair->node[node].name, NULL);
}

static gboolean is_key(const struct colo_row *row, const colo_pair *pair,
		       const char *key)
{
	if (!strcmp(row->key, key))
		return TRUE;
	for (guint i = 0; row->per_node && i < COLO_NODES; i++) {
		g_autofree char *other = key_of_node(row, pair, i);

		if (!strcmp(other, key))
			return TRUE;
	}
	return FALSE;
}

static gboolean judge_key(struct colo_reader *reader, enum colo_pair_section section,
			  const struct colo_text_key *key, GError **error)
{
	const char *dot = strchr(key->key, '.');
	g_autofree char *known = NULL, *title = NULL;

	for (guint i = 0; i < colo_rows_count; i++) {
		const struct colo_row *row = &colo_rows[i];

		if (row->section != section)
			continue;
		if (is_key(row, reader->pair, key->key))
			return TRUE;
		if (dot && row->per_node &&
		    !strncmp(row->key, key->key, (gsize)(dot - key->key)) &&
		    !row->key[dot - key->key])
			return colo_text_bad(
				error, reader->file, key->line,
				"%.40s: there is no such node: write %s.%s or "
				"%s.%s",
				key->key, row->key, reader->pair->node[0].name,
				row->key, reader->pair->node[1].name);
	}
	known = known_keys(section);
	return colo_text_bad(error, reader->file, key->line,
			     "unknown key %.40s; [%s%s] has %s", key->key,
			     colo_section_rows[section].name,
			     colo_section_rows[section].stride ? " NAME" : "", known);
}

static gboolean judge_keys(struct colo_reader *reader, enum colo_pair_section section,
			   guint index, GError **error)
{
	const struct colo_text_section *at = reader->at[section][index];

	for (guint i = 0; at && i < at->keys->len; i++)
		if (!judge_key(reader, section,
			       &g_array_index(at->keys, struct colo_text_key, i),
			       error))
			return FALSE;
	return TRUE;
}

/* What they say. */

/* A value as it stands, or NULL. */
static char *value_of(const struct colo_reader *reader, enum colo_pair_section section,
		      guint index, const char *key)
{
	const struct colo_text_section *at = reader->at[section][index];
	char *value;

	if (!at || !colo_text_line(at, key))
		return NULL;
	/* Not _get_string(): backslashes mean nothing here. */
	value = g_key_file_get_value(reader->values, at->title, key, NULL);
	return value ? g_strchomp(value) : NULL;
}

static gboolean is_missing(const struct colo_reader *reader, const struct colo_row *row,
			   guint index, const char *key, GError **error)
{
	g_autofree char *title = title_of(reader->pair, row->section, index);
	guint line = colo_reader_line(reader, row->section, index, key);

	if (!reader->at[row->section][index])
		return colo_text_bad(error, reader->file, line,
				     "[%s] is missing: write it, with %s = %s", title,
				     key, row->example);
	return colo_text_bad(error, reader->file, line,
			     "[%s] has no %s: write %s = %s (%s)", title, key, key,
			     row->example, row->help);
}

static gboolean take_value(struct colo_reader *reader, const struct colo_row *row,
			   guint index, const char *key, void *at, GError **error)
{
	g_autofree char *value = value_of(reader, row->section, index, key);
	const char *written = value ? value : row->fallback;
	g_autoptr(GError) why = NULL;

	if (!value && colo_reader_says(reader, row->section, index, key))
		return colo_reader_bad(reader, error, row->section, index, key,
				       "its value cannot be read: write it anew");
	if (!written)
		return !row->required || is_missing(reader, row, index, key, error);
	return colo_value_take(row, written, reader->pair, at, &why) ||
	       colo_reader_bad(reader, error, row->section, index, key, "%s",
			       why->message);
}

/* KEY for both nodes, or KEY.NODE for each of them. */
static gboolean take_per_node(struct colo_reader *reader, const struct colo_row *row,
			      guint index, GError **error)
{
	char **at = colo_row_at(row, reader->pair, index);
	g_autofree char *first = key_of_node(row, reader->pair, 0);
	g_autofree char *second = key_of_node(row, reader->pair, 1);
	const char *const keys[COLO_NODES] = { first, second };
	gboolean both = colo_reader_says(reader, row->section, index, row->key);
	guint said = 0;

	for (guint i = 0; i < COLO_NODES; i++) {
		if (!colo_reader_says(reader, row->section, index, keys[i]))
			continue;
		said++;
		if (both)
			return colo_reader_bad(reader, error, row->section, index,
					       keys[i],
					       "there is %s, too: write that for both "
					       "nodes, or %s and %s",
					       row->key, first, second);
	}
	if (!said) {
		if (!take_value(reader, row, index, row->key, &at[0], error))
			return FALSE;
		at[1] = g_strdup(at[0]);
		return TRUE;
	}
	for (guint i = 0; i < COLO_NODES; i++) {
		if (!colo_reader_says(reader, row->section, index, keys[i]))
			return is_missing(reader, row, index, keys[i], error);
		if (!take_value(reader, row, index, keys[i], &at[i], error))
			return FALSE;
	}
	return TRUE;
}

/* The kinds of arbiter that have a key, spoken. */
static char *arbiters_with(const struct colo_row *row)
{
	static const char *const names[] = {
		[COLO_ARBITER_NONE] = "none",
		[COLO_ARBITER_ETCD] = "etcd",
		[COLO_ARBITER_FENCE] = "fence",
		[COLO_ARBITER_MANUAL] = "manual",
	};
	GString *text = g_string_new(NULL);
	guint kinds = 0;

	for (guint i = 0; i < colo_rows_count; i++)
		if (colo_rows[i].section == row->section &&
		    !strcmp(colo_rows[i].key, row->key))
			kinds |= colo_rows[i].arbiters;
	for (guint i = 0; i < G_N_ELEMENTS(names); i++)
		if (kinds & 1u << i)
			g_string_append_printf(text, "%s%s", text->len ? " or " : "",
					       names[i]);
	return g_string_free(text, FALSE);
}

static gboolean is_for_arbiter(const struct colo_row *row, enum colo_arbiter_kind kind)
{
	return !row->arbiters || row->arbiters & 1u << kind;
}

/* Whether some row takes this key with this kind of arbiter. */
static gboolean has_other_row(const struct colo_row *row, enum colo_arbiter_kind kind)
{
	for (guint i = 0; i < colo_rows_count; i++)
		if (colo_rows[i].section == row->section &&
		    !strcmp(colo_rows[i].key, row->key) &&
		    is_for_arbiter(&colo_rows[i], kind))
			return TRUE;
	return FALSE;
}

static gboolean take_row(struct colo_reader *reader, const struct colo_row *row,
			 guint index, GError **error)
{
	enum colo_arbiter_kind kind = reader->pair->arbiter.kind;
	g_autofree char *kinds = NULL;

	if (is_for_arbiter(row, kind))
		return row->per_node ? take_per_node(reader, row, index, error)
				     : take_value(reader, row, index, row->key,
						  colo_row_at(row, reader->pair, index),
						  error);
	if (!colo_reader_says(reader, row->section, index, row->key) ||
	    has_other_row(row, kind))
		return TRUE;
	kinds = arbiters_with(row);
	return colo_reader_bad(reader, error, row->section, index, row->key,
			       "it is for an arbiter of type = %s: take it out", kinds);
}

static gboolean take_section(struct colo_reader *reader, enum colo_pair_section section,
			     GError **error)
{
	for (guint i = 0; i < colo_section_count(reader->pair, section); i++)
		for (guint r = 0; r < colo_rows_count; r++)
			if (colo_rows[r].section == section &&
			    !take_row(reader, &colo_rows[r], i, error))
				return FALSE;
	return TRUE;
}

/* What follows from other values. */

static gboolean name_pair(struct colo_reader *reader, GError **error)
{
	colo_pair *pair = reader->pair;
	g_autofree char *base = NULL;

	if (pair->name)
		return TRUE;
	base = g_path_get_basename(reader->file);
	if (g_str_has_suffix(base, ".conf"))
		base[strlen(base) - strlen(".conf")] = 0;
	if (!colo_value_is_name(base))
		return colo_text_bad(
			error, reader->file,
			colo_reader_line(reader, COLO_SECTION_PAIR, 0, "name"),
			"the file's name makes none for the pair: write name = "
			"NAME here, a letter a-z, then letters, digits and "
			"\"-\", at most %u",
			COLO_NAME_MAX);
	pair->name = g_steal_pointer(&base);
	return TRUE;
}

/* "_" is in no name, so that no two pairs of a host come to the same where it fits. */
static char *derive_tap(const char *pair, const char *net)
{
	g_autofree char *whole = g_strdup_printf("%s_%s", pair, net);

	if (strlen(whole) <= TAP_MAX)
		return g_steal_pointer(&whole);
	return g_strdup_printf("%.6s_%08x", pair,
			       (guint32)XXH3_64bits(whole, strlen(whole)));
}

static void work_out(struct colo_reader *reader)
{
	colo_pair *pair = reader->pair;

	if (!colo_reader_says(reader, COLO_SECTION_COMPARISON, 0, "enabled"))
		pair->comparison.enabled = pair->nets > 0;
	if (!pair->comparison.queue)
		pair->comparison.queue =
			QUEUE_FIRST +
			(guint)(XXH3_64bits(pair->name, strlen(pair->name)) %
				(QUEUE_LAST - QUEUE_FIRST + 1));
	/* colo-vm's least is 50 ms. */
	if (!pair->checkpoint.silence_ms)
		pair->checkpoint.silence_ms = MAX(pair->heartbeat.timeout_ms, 50);
	for (guint i = 0; i < pair->nets; i++)
		if (!pair->net[i].tap)
			pair->net[i].tap = derive_tap(pair->name, pair->net[i].name);
	while (pair->paths < COLO_PATHS_MAX && pair->node[0].heartbeat[pair->paths])
		pair->paths++;
}

/* The whole. */

static gboolean place_pair(struct colo_reader *reader, GError **error)
{
	const GPtrArray *sections = reader->text->sections;

	for (guint i = 0; i < sections->len; i++) {
		const struct colo_text_section *at = sections->pdata[i];

		if (!strcmp(at->title, "pair"))
			reader->at[COLO_SECTION_PAIR][0] = at;
	}
	return judge_keys(reader, COLO_SECTION_PAIR, 0, error) &&
	       take_section(reader, COLO_SECTION_PAIR, error) &&
	       name_pair(reader, error);
}

static gboolean place_others(struct colo_reader *reader, GError **error)
{
	const GPtrArray *sections = reader->text->sections;

	for (guint i = 0; i < sections->len; i++)
		if (!place_section(reader, sections->pdata[i], error))
			return FALSE;
	for (guint i = 0; i < COLO__SECTIONS; i++)
		for (guint j = 0; j < COLO_SECTION_MAX; j++)
			if (!judge_keys(reader, i, j, error))
				return FALSE;
	return TRUE;
}

static gboolean read_all(struct colo_reader *reader, GError **error)
{
	/* The nodes' names and the kind of arbiter say what else there may be. */
	if (!place_pair(reader, error) || !place_others(reader, error) ||
	    !take_section(reader, COLO_SECTION_ARBITER, error))
		return FALSE;
	for (guint i = 0; i < COLO__SECTIONS; i++)
		if (i != COLO_SECTION_PAIR && i != COLO_SECTION_ARBITER &&
		    !take_section(reader, i, error))
			return FALSE;
	work_out(reader);
	return colo_pair_judge(reader, error);
}

static gboolean load_values(struct colo_reader *reader, const char *text, gsize length,
			    GError **error)
{
	g_autoptr(GError) why = NULL;

	/* It takes nothing at all for a mistake. */
	if (!length || g_key_file_load_from_data(reader->values, text, length,
						 G_KEY_FILE_NONE, &why))
		return TRUE;
	return colo_text_bad(error, reader->file, reader->text->lines, "%s",
			     why->message);
}

colo_pair *colo_pair_parse(const char *text, gsize length, const char *name,
			   GError **error)
{
	g_autoptr(colo_pair_text) found = NULL;
	g_autoptr(GKeyFile) values = g_key_file_new();
	g_autoptr(colo_pair) pair = g_new0(colo_pair, 1);
	struct colo_reader reader = { .file = name, .values = values, .pair = pair };

	if (length > FILE_MAX) {
		colo_text_bad(error, name, 1,
			      "longer than %u bytes: is this a pair file?", FILE_MAX);
		return NULL;
	}
	reader.text = found = colo_pair_text_new(text, length, name, error);
	if (!found || !load_values(&reader, text, length, error) ||
	    !read_all(&reader, error))
		return NULL;
	pair->text = g_strndup(text, length);
	return g_steal_pointer(&pair);
}

static gboolean read_file(const char *path, GString *text, GError **error)
{
	/* What is no regular file must not make us wait. */
	base_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int err = errno;
	struct stat status;
	ssize_t n;

	if (fd >= 0 && fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "read %s: it is not a regular file", path);
		return FALSE;
	}
	/* One byte more than may be, so that what is too long is told as such. */
	while (fd >= 0 && text->len <= FILE_MAX) {
		gsize have = text->len;

		g_string_set_size(text, FILE_MAX + 1);
		n = read(fd, text->str + have, FILE_MAX + 1 - have);
		err = errno;
		g_string_set_size(text, have + (gsize)MAX(n, 0));
		if (n == 0)
			return TRUE;
		if (n < 0 && err != EINTR)
			break;
	}
	if (text->len > FILE_MAX)
		return TRUE;
	g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG, "read %s: %s", path,
		    g_strerror(err));
	return FALSE;
}

colo_pair *colo_pair_read(const char *path, GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);

	if (!read_file(path, text, error))
		return NULL;
	return colo_pair_parse(text->str, text->len, path, error);
}

gboolean colo_pair_whoami(const colo_pair *pair, const char *name, guint *node,
			  GError **error)
{
	char host[256] = { 0 };
	const char *wanted = name;

	if (!wanted) {
		(void)gethostname(host, sizeof(host) - 1);
		host[strcspn(host, ".")] = 0;
		wanted = host;
	}
	for (guint i = 0; i < COLO_NODES; i++)
		/* Hosts may write themselves large. */
		if (name ? !strcmp(pair->node[i].name, wanted)
			 : !g_ascii_strcasecmp(pair->node[i].name, wanted)) {
			*node = i;
			return TRUE;
		}
	g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
		    "%s%s is none of the nodes of pair %s: they are %s and %s%s",
		    name ? "" : "this host, ", wanted, pair->name, pair->node[0].name,
		    pair->node[1].name,
		    name ? "" : "; say which one it is with --node");
	return FALSE;
}
