/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which packets wait for a verdict, and in which order verdicts are given.
 *
 * One call can accept all packets up to an id, whatever else is among them. So it is
 * used only where every packet up to there has been accepted: a packet that must still
 * wait, or goes out changed, ends that run. Packets go out in the order in which they
 * were accepted, except that those of such a run go first, in the order in which they
 * came.
 *
 * Ids count up by one and may wrap. One thread.
 */
#ifndef NCMP_VERDICTS_H
#define NCMP_VERDICTS_H

#include <glib.h>

enum ncmp_verdict {
	NCMP_VERDICT_DROP,
	NCMP_VERDICT_ACCEPT_UP_TO, /* it and all before it that wait */
	NCMP_VERDICT_ACCEPT,
	NCMP_VERDICT_CHANGE, /* accept with other bytes */
};

typedef void (*ncmp_verdict_fn)(void *data, enum ncmp_verdict verdict, guint32 id,
				const guint8 *changed, gsize len);

typedef struct ncmp_verdicts ncmp_verdicts;

ncmp_verdicts *ncmp_verdicts_new(void);
void ncmp_verdicts_free(ncmp_verdicts *verdicts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_verdicts, ncmp_verdicts_free)

/* A packet of `len` bytes came. How many ids before it were left out since the last
 * one. */
guint32 ncmp_verdicts_arrived(ncmp_verdicts *verdicts, guint32 id, guint16 len);
gboolean ncmp_verdicts_waits(const ncmp_verdicts *verdicts, guint32 id);
/* FALSE: it does not wait, and nothing changed. `changed` is copied; NULL: as it came.
 */
gboolean ncmp_verdicts_accept(ncmp_verdicts *verdicts, guint32 id,
			      const guint8 *changed, gsize len);
gboolean ncmp_verdicts_drop(ncmp_verdicts *verdicts, guint32 id);
/* How many were dropped. */
guint ncmp_verdicts_drop_all(ncmp_verdicts *verdicts);
/* Says the verdicts since the last flush. */
void ncmp_verdicts_flush(ncmp_verdicts *verdicts, ncmp_verdict_fn say, void *data);
/* How many wait, and how many bytes they have. */
guint ncmp_verdicts_waiting(const ncmp_verdicts *verdicts);
guint64 ncmp_verdicts_waiting_bytes(const ncmp_verdicts *verdicts);

#endif
