/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's queue of packets that wait for a verdict (NFQUEUE). Never FAIL_OPEN:
 * what does not fit, and everything while nobody has the queue, is dropped. Segments
 * that the guest's card would have cut come whole (F_GSO), with checksums as the guest
 * left them.
 *
 * Verdicts are collected, and given by ncmp_queue_flush(). One thread.
 */
#ifndef NCMP_QUEUE_H
#define NCMP_QUEUE_H

#include "netcompare/error.h"

struct ncmp_queue_options {
	guint16 number;
	/* Packets that wait, here or on their way; 0: 2^20. One that does not fit is
	 * lost without a trace in their order, so this has to be more than a careful
	 * caller lets wait and the socket's buffer has room for. */
	guint32 length_max;
	guint32 receive_bytes; /* the socket's buffer; 0: 64 MiB */
};

struct ncmp_queued {
	guint32 id;
	const guint8 *bytes; /* network layer; good during the call */
	gsize len;
	guint16 ethertype; /* host order; behind the VLAN tag */
	guint16 vlan; /* 0: none, or a hook that does not say */
	guint32 interface; /* index of the tap: the bridge's port, or the device itself
			    */
	gboolean segmentable; /* larger than what goes out: not to be changed */
	gboolean partial; /* its checksum covers only the pseudo header */
};

/* During ncmp_queue_receive(). Verdicts may be given. */
struct ncmp_queue_hooks {
	void *data;
	/* Packets were taken, and are about to be handed on. */
	void (*took)(void *data);
	void (*packet)(void *data, const struct ncmp_queued *packet);
	/* Packets were lost before they came here. */
	void (*overrun)(void *data);
	/* Asked when verdicts are about to be given, also outside of that: FALSE makes all of
	 * them drops, since this process did not run for so long that they are of another
	 * time. */
	gboolean (*may_pass)(void *data);
};

typedef struct ncmp_queue ncmp_queue;

/* NCMP_ERROR_HOST: in use by another process, no privilege, not in this kernel. */
ncmp_queue *ncmp_queue_new(const struct ncmp_queue_options *options,
			   const struct ncmp_queue_hooks *hooks,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The kernel drops what has no verdict. */
void ncmp_queue_free(ncmp_queue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_queue, ncmp_queue_free)

/* Readable: ncmp_queue_receive() has something to do. */
int ncmp_queue_fd(const ncmp_queue *queue);
/* Takes a batch of what is there. FALSE: the queue can no longer be read. */
gboolean ncmp_queue_receive(ncmp_queue *queue,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* `changed`: goes out instead, NULL: as it came. It is sent without any help with
 * checksums, so they must be right. An id that has its verdict is ignored. */
void ncmp_queue_accept(ncmp_queue *queue, guint32 id, const guint8 *changed, gsize len);
void ncmp_queue_drop(ncmp_queue *queue, guint32 id);
/* Everything that has no verdict yet. */
void ncmp_queue_drop_all(ncmp_queue *queue);
void ncmp_queue_flush(ncmp_queue *queue);
/* Whether the kernel took all that was flushed; what it did not is flushed again next time. */
gboolean ncmp_queue_is_said(const ncmp_queue *queue);
/* What was accepted and the kernel was not told yet is dropped instead (its counters stay). */
void ncmp_queue_recall(ncmp_queue *queue);

/* What has no verdict now. */
void ncmp_queue_get_waiting(const ncmp_queue *queue, guint64 *packets, guint64 *bytes);

struct ncmp_queue_counters {
	guint64 packets, bytes; /* received */
	guint64 accepted, changed, dropped;
	guint64 overruns; /* times at which something was lost */
	guint64 stale; /* verdicts for what the kernel no longer had */
	guint64 waiting, waiting_bytes; /* without a verdict now */
	guint64 kernel_waiting; /* as the kernel counts them: also what was not received
				   yet */
	guint64 kernel_lost; /* since the queue was bound: no room in it, or on the way
				here */
};
void ncmp_queue_get_counters(const ncmp_queue *queue,
			     struct ncmp_queue_counters *counters);
/* Asks the kernel whether it dropped any: the hook `overrun` is called where it did.
 * From time to time, since a full queue is not told of otherwise. */
void ncmp_queue_check(ncmp_queue *queue);

#endif
