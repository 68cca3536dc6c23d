/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generation file.
 *
 * Five lines of "name value" between a first line with the format's version and a last
 * one with XXH3-128 of all before it. A text is taken only if writing what it says
 * gives the same bytes again, so there is one text for one meaning and no byte of it is
 * slack.
 *
 * A new one is written beside the old, flushed, renamed over it, and the folder
 * flushed.
 */
#include "colo/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/fault.h"
#include "base/fd.h"
#include "colo/pair.h"

#define FIRST_LINE "colo-record "
#define VERSION 1u
#define VERSION_TEXT "1"
#define LAST_LINE "checksum "
#define SUM_DIGITS 32u
#define LAST_LENGTH (strlen(LAST_LINE) + SUM_DIGITS + 1)
#define FILE_MAX 1024u

static const char *const part_names[] = {
	[COLO_PART_NONE] = "none",	 [COLO_PART_STANDBY] = "standby",
	[COLO_PART_PRIMARY] = "primary", [COLO_PART_SOLO] = "solo",
	[COLO_PART_LEAVING] = "leaving", [COLO_PART_PROMOTED] = "promoted",
};

const char *colo_part_name(enum colo_part part)
{
	g_assert((guint)part < G_N_ELEMENTS(part_names));
	return part_names[part];
}

gboolean colo_part_parse(const char *name, enum colo_part *part)
{
	for (guint i = 0; i < G_N_ELEMENTS(part_names); i++) {
		if (!strcmp(name, part_names[i])) {
			*part = (enum colo_part)i;
			return TRUE;
		}
	}
	return FALSE;
}

static void append_sum(GString *text)
{
	XXH128_hash_t sum = XXH3_128bits(text->str, text->len);

	g_string_append_printf(text,
			       LAST_LINE "%016" G_GINT64_MODIFIER
					 "x%016" G_GINT64_MODIFIER "x\n",
			       (guint64)sum.high64, (guint64)sum.low64);
}

char *colo_record_format(const char *pair, const char *node,
			 const struct colo_record *record)
{
	GString *text = g_string_new(NULL);

	g_string_append_printf(
		text,
		FIRST_LINE "%u\npair %s\nnode %s\n"
			   "generation %" G_GUINT64_FORMAT "\npart %s\nstopped %s\n",
		VERSION, pair, node, record->generation, colo_part_name(record->part),
		record->stopped ? "yes" : "no");
	append_sum(text);
	return g_string_free(text, FALSE);
}

/* What makes a file useless comes with what to do about it. */
static gboolean refuse(const char *path, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
static gboolean refuse(const char *path, GError **error, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	/* It may quote the file. */
	for (char *at = what; *at; at++) {
		if (!g_ascii_isprint(*at))
			*at = '?';
	}
	g_set_error(
		error, COLO_ERROR, COLO_ERROR_CONFIG,
		"generation file %s %s: which copy of the guest this node has is not "
		"known. Remove the file, and the other node fills this one; if the "
		"other node is lost and this copy shall run, `colo promote --force` "
		"then",
		path, what);
	return FALSE;
}

/* The value of the next line, which must be "`name` VALUE"; NULL: it is not. */
static char *take_line(const char **at, const char *name)
{
	const char *end = strchr(*at, '\n');
	gsize length = strlen(name);
	char *value;

	if (!end || strncmp(*at, name, length) || (*at)[length] != ' ')
		return NULL;
	value = g_strndup(*at + length + 1, (gsize)(end - *at) - length - 1);
	*at = end + 1;
	return value;
}

/* That the text is whole. */
static gboolean check_sum(const char *text, gsize length, const char *path,
			  GError **error)
{
	gsize summed = length < LAST_LENGTH ? 0 : length - LAST_LENGTH;
	g_autoptr(GString) whole = g_string_new_len(text, (gssize)summed);

	append_sum(whole);
	if (whole->len == length && !memcmp(whole->str, text, length))
		return TRUE;
	if (strncmp(text, FIRST_LINE, MIN(length, strlen(FIRST_LINE))))
		return refuse(path, error, "is not one of colo's");
	if (text[length - 1] != '\n' || !summed ||
	    !g_str_has_prefix(text + summed, LAST_LINE))
		return refuse(path, error, "is cut short after %zu bytes", length);
	return refuse(path, error, "is damaged (its checksum does not match)");
}

gboolean colo_record_parse(const char *bytes, gsize length, const char *path,
			   const char *pair, const char *node,
			   struct colo_record *record, GError **error)
{
	/* Ended by a zero byte, whatever is in it. */
	g_autofree char *text = g_strndup(bytes, length);
	g_autofree char *version = NULL, *its_pair = NULL, *its_node = NULL;
	g_autofree char *generation = NULL, *part = NULL, *stopped = NULL,
			*again = NULL;
	struct colo_record found = { 0 };
	const char *at = text;

	*record = found;
	if (length > FILE_MAX)
		return refuse(path, error, "is not one of colo's (over %u bytes)",
			      FILE_MAX);
	if (!length)
		return refuse(path, error, "is cut short: it is empty");
	if (!check_sum(text, length, path, error))
		return FALSE;
	version = take_line(&at, "colo-record");
	if (!version)
		return refuse(path, error, "is not one of colo's");
	if (strcmp(version, VERSION_TEXT))
		return refuse(path, error, "has format %.20s, this colo knows %u",
			      version, VERSION);
	its_pair = take_line(&at, "pair");
	its_node = its_pair ? take_line(&at, "node") : NULL;
	generation = its_node ? take_line(&at, "generation") : NULL;
	part = generation ? take_line(&at, "part") : NULL;
	stopped = part ? take_line(&at, "stopped") : NULL;
	if (!stopped)
		return refuse(path, error, "lacks a line");
	if (strcmp(its_pair, pair))
		return refuse(path, error,
			      "belongs to pair \"%.40s\", this is pair \"%s\"",
			      its_pair, pair);
	if (strcmp(its_node, node))
		return refuse(path, error,
			      "belongs to node \"%.40s\", this is node \"%s\"",
			      its_node, node);
	if (!g_ascii_string_to_unsigned(generation, 10, 0, G_MAXINT64,
					&found.generation, NULL))
		return refuse(path, error, "has no number as generation");
	if (!colo_part_parse(part, &found.part))
		return refuse(path, error,
			      "has part \"%.20s\", which this colo does not know",
			      part);
	if (!found.generation && found.part != COLO_PART_NONE)
		return refuse(path, error, "has part \"%s\" at no generation", part);
	found.stopped = !strcmp(stopped, "yes");
	again = colo_record_format(pair, node, &found);
	if (strlen(again) != length || memcmp(again, bytes, length))
		return refuse(path, error, "is not as colo writes it");
	*record = found;
	return TRUE;
}

static gboolean fail(GError **error, int err, const char *what, const char *path)
{
	g_set_error(error, COLO_ERROR, COLO_ERROR_HOST, "%s generation file %s: %s",
		    what, path, g_strerror(err));
	return FALSE;
}

static int open_folder(const char *path, GError **error)
{
	g_autofree char *folder = g_path_get_dirname(path);
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = errno;

	if (fd < 0)
		g_set_error(error, COLO_ERROR, COLO_ERROR_HOST,
			    "open folder %s of the generation file: %s", folder,
			    g_strerror(err));
	return fd;
}

/* Up to one byte too many, so that a file that is too long shows. */
static gssize read_all(int fd, char *to, gsize size)
{
	gsize have = 0;

	while (have < size) {
		ssize_t n = read(fd, to + have, size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		have += (gsize)n;
	}
	return (gssize)have;
}

gboolean colo_record_read(const char *path, const char *pair, const char *node,
			  struct colo_record *record, GError **error)
{
	g_autofree char *name = g_path_get_basename(path);
	base_autofd int folder = open_folder(path, error);
	base_autofd int fd = -1;
	char text[FILE_MAX + 1];
	struct stat status;
	gssize length;
	int err;

	*record = (struct colo_record){ 0 };
	if (folder < 0)
		return FALSE;
	/* What is no regular file must not make us wait. */
	fd = openat(folder, name,
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	err = errno;
	if (fd < 0 && err == ENOENT)
		return TRUE;
	if (fd < 0)
		return fail(error, err, "open", path);
	if (fstat(fd, &status)) {
		err = errno;
		return fail(error, err, "look at", path);
	}
	if (!S_ISREG(status.st_mode))
		return refuse(path, error, "is not a regular file");
	/* Who wrote it may have died between the renaming and the flush. What is acted on
	 * from here on is on disk. */
	if (fsync(folder)) {
		err = errno;
		return fail(error, err, "flush the folder of", path);
	}
	length = read_all(fd, text, sizeof(text));
	if (length < 0)
		return fail(error, (int)-length, "read", path);
	return colo_record_parse(text, (gsize)length, path, pair, node, record, error);
}

/* 0 or -errno. */
static int write_new(int folder, const char *name, const char *text)
{
	gsize length = strlen(text), done = 0;
	base_autofd int fd = -1;

	/* One is left where we died while writing it. */
	if (unlinkat(folder, name, 0) && errno != ENOENT)
		return -errno;
	fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0)
		return -errno;
	while (done < length) {
		ssize_t n = write(fd, text + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (gsize)n;
	}
	return fsync(fd) ? -errno : 0;
}

gboolean colo_record_write(const char *path, const char *pair, const char *node,
			   const struct colo_record *record, GError **error)
{
	g_autofree char *text = colo_record_format(pair, node, record);
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *new = g_strconcat(name, ".new", NULL);
	const char *part = colo_part_name(record->part);
	base_autofd int folder = open_folder(path, error);
	int err;

	if (folder < 0)
		return FALSE;
	base_fault_of("record-due", part);
	err = -write_new(folder, new, text);
	if (err) {
		unlinkat(folder, new, 0);
		return fail(error, err, "write", path);
	}
	base_fault_of("record-flushed", part);
	if (renameat(folder, new, folder, name)) {
		err = errno;
		unlinkat(folder, new, 0);
		return fail(error, err, "replace", path);
	}
	base_fault_of("record-renamed", part);
	if (fsync(folder)) {
		err = errno;
		return fail(error, err, "flush the folder of", path);
	}
	base_fault_of("record-durable", part);
	return TRUE;
}
