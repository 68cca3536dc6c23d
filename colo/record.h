/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generation file: what this node last was, on disk before it is acted on (design
 * invariants 2 and 5). One small text file with a checksum, written whole, flushed and
 * renamed into place, its directory flushed too. Errors of writing are final for the
 * process: a failed fsync is never tried again.
 */
#ifndef COLO_RECORD_H
#define COLO_RECORD_H

#include <glib.h>

enum colo_part {
	COLO_PART_NONE, /* no whole copy of the guest's disks: never, or being filled */
	COLO_PART_STANDBY, /* whole, but the other node went on, or was to: it may be older */
	COLO_PART_PRIMARY, /* primary of a protected pair */
	COLO_PART_SOLO, /* ran alone, with the grant for this generation */
	COLO_PART_LEAVING, /* was primary and is handing over to the other node */
	COLO_PART_PROMOTED, /* solo after a promotion whose writes are not durable yet */
};

struct colo_record {
	guint64 generation; /* 0: never a part of the pair */
	enum colo_part part;
	gboolean stopped; /* the guest was ended on purpose: do not start it by ourselves */
};

/* What is read is on disk, also if whoever wrote it died before it was flushed. A file that
 * is not there, in a folder that is, is a record of zeros. COLO_ERROR_CONFIG
 * where it is damaged or another pair's or node's, with what to do; COLO_ERROR_HOST where it
 * cannot be read. No older copy is kept: falling back to one could start a stale guest. */
gboolean colo_record_read(const char *path, const char *pair, const char *node,
			  struct colo_record *record,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Blocks for the disk: a few ms, or as long as the disk hangs. COLO_ERROR_HOST: the file is
 * the one before, or, where only the folder's fsync failed, not known to be on disk. */
gboolean colo_record_write(const char *path, const char *pair, const char *node,
			   const struct colo_record *record,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The text of a file, and what such a text says: for the two above, and for tests. `path` is
 * only named in errors. The text is the caller's to free. */
char *colo_record_format(const char *pair, const char *node,
			 const struct colo_record *record) G_GNUC_WARN_UNUSED_RESULT;
gboolean colo_record_parse(const char *text, gsize length, const char *path,
			   const char *pair, const char *node, struct colo_record *record,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* "primary", for files, messages and the log. */
const char *colo_part_name(enum colo_part part);
gboolean colo_part_parse(const char *name, enum colo_part *part) G_GNUC_WARN_UNUSED_RESULT;

#endif
