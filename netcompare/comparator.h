/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator at work: the queue, colo-vm's words and the comparison, joined. All in
 * one main context, the thread's default.
 *
 * What colo-vm said before a packet was sent is known when the packet is judged: after
 * packets were taken from the queue, its socket is read dry before they are looked at.
 */
#ifndef NCMP_COMPARATOR_H
#define NCMP_COMPARATOR_H

#include <json-glib/json-glib.h>

#include "netcompare/compare.h"
#include "netcompare/dump.h"
#include "netcompare/mode.h"
#include "netcompare/peer.h"
#include "netcompare/queue.h"

struct ncmp_comparator_options {
	const char *vm; /* colo-vm's socket */
	const char *const *taps; /* of its cards, in their order; ended by NULL */
	struct ncmp_queue_options queue;
	struct ncmp_compare_options compare; /* `seed` is chosen here */
	/* What may wait; more is dropped, as a network would. Packets 0: 65536; bytes
	 * 0: 512 MiB. They are the kernel's memory; what the comparison keeps of them
	 * is not in it. */
	guint64 waiting_max, waiting_bytes_max;
	/* After not having run for longer than this, all is held until a checkpoint that is
	 * asked for then is committed; 0: 150. */
	guint stall_ms;
	enum ncmp_mode_choice mode;
};

struct ncmp_comparator_hooks {
	void *data;
	/* It can no longer do its work, and has logged why. The kernel then holds all.
	 */
	void (*failed)(void *data);
};

typedef struct ncmp_comparator ncmp_comparator;

/* Binds the queue; packets then wait there. */
ncmp_comparator *ncmp_comparator_new(const struct ncmp_comparator_options *options,
				     const struct ncmp_comparator_hooks *hooks,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ncmp_comparator_free(ncmp_comparator *comparator);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_comparator, ncmp_comparator_free)

/* Packets that show a divergence go there from now on; `dump` is borrowed, NULL:
 * nowhere. */
void ncmp_comparator_set_dump(ncmp_comparator *comparator, ncmp_dump *dump);
/* With the rule in place: takes packets, and looks for colo-vm. */
void ncmp_comparator_start(ncmp_comparator *comparator);

/* All that a status has (netcompare/status.c makes it words). */
struct ncmp_comparator_state {
	enum ncmp_gate gate;
	gboolean connected;
	gboolean compares;
	const char *why; /* of the mode; until the main loop runs on */
	guint64 cut, committed; /* as colo-vm said */
	guint64 markers; /* seen */
	guint64 strangers; /* packets from no tap of ours, dropped */
	guint64 crowded; /* packets dropped since too much waited */
	guint64 secondary_lost; /* times at which colo-vm said that frames were lost */
	guint64 requests; /* for checkpoints */
	guint64 stalls; /* times at which it had not run for long */
	struct ncmp_queue_counters queue;
	struct ncmp_compare_counters compare;
};
void ncmp_comparator_get_state(const ncmp_comparator *comparator,
			       struct ncmp_comparator_state *state);
guint ncmp_comparator_get_blames(const ncmp_comparator *comparator,
				 struct ncmp_blame *blames, guint max);

/* In words, for the control socket. */
JsonObject *ncmp_comparator_status(const ncmp_comparator *comparator);

#endif
