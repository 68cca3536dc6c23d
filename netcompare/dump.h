/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that show a divergence, written to a capture file (pcapng) for a look with
 * Wireshark: two interfaces, "primary" and "secondary", and beside each packet a
 * comment that says why it is there.
 *
 * A thread writes: whoever hands packets in never waits for a disk. What comes faster
 * than the disk takes it, or once the file is full, is left out and counted.
 */
#ifndef NCMP_DUMP_H
#define NCMP_DUMP_H

#include <glib.h>

typedef struct ncmp_dump ncmp_dump;

#define NCMP_DUMP_QUEUE_MAX (4u << 20) /* bytes that wait for the disk */
#define NCMP_DUMP_COMMENT_MAX 1024u

enum ncmp_dump_side { NCMP_DUMP_PRIMARY, NCMP_DUMP_SECONDARY };

/* A file of at most `bytes_max` bytes; one that is there is replaced, and is nobody
 * else's to read. G_IO_ERROR: it cannot be written. */
ncmp_dump *ncmp_dump_open(const char *path, guint64 bytes_max,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Waits until all is written. */
void ncmp_dump_close(ncmp_dump *dump);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_dump, ncmp_dump_close)

/* An Ethernet frame, at `time_ns` since 1970. `comment` is UTF-8, cut at
 * NCMP_DUMP_COMMENT_MAX; NULL: none. FALSE: it was left out. */
gboolean ncmp_dump_frame(ncmp_dump *dump, enum ncmp_dump_side side, gint64 time_ns,
			 const guint8 *frame, gsize len, const char *comment);
/* The same of a network-layer packet; an Ethernet header without addresses is put
 * before it. `vlan` 0: no tag. */
gboolean ncmp_dump_packet(ncmp_dump *dump, enum ncmp_dump_side side, gint64 time_ns,
			  guint16 ethertype, guint16 vlan, const guint8 *bytes,
			  gsize len, const char *comment);

struct ncmp_dump_counters {
	guint64 packets, bytes; /* written or on their way */
	guint64 left_out; /* packets */
	int failed; /* errno of a write, after which nothing is written; 0: none */
};
void ncmp_dump_get_counters(ncmp_dump *dump, struct ncmp_dump_counters *counters);

#endif
