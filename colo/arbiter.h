/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What decides between two nodes that cannot see each other (design section 8). Its record
 * of the pair is {generation, protected: both} or {generation, solo: one}. From "protected"
 * either node may swap in "solo: itself" with the next generation, and only the first swap
 * succeeds; from "solo: X" only X may change it, back to "protected".
 *
 * Kinds that keep no record themselves (fence, none, manual) answer COLO_VERDICT_NO_RECORD
 * to a reading, and their grants are remembered by the nodes' own records alone.
 *
 * Main context; nothing blocks it. One call at a time and kind: a second claim while one is
 * under way is a bug of the caller. Callbacks come from the main loop, never from within the
 * call, and not any more after _free().
 */
#ifndef COLO_ARBITER_H
#define COLO_ARBITER_H

#include "colo/pair.h"

enum colo_verdict {
	COLO_VERDICT_GRANTED, /* done: the record is what was asked for */
	/* The other node has it, or the record is another one; it is told. NULL: it is of
	 * other nodes than this pair's; that is said to a reading too. */
	COLO_VERDICT_DENIED,
	COLO_VERDICT_UNREACHABLE, /* not known whether anything changed: ask again */
	COLO_VERDICT_NO_RECORD, /* the arbiter has never heard of the pair, or keeps no records */
	COLO_VERDICT_RECORD, /* to a reading: here it is */
	COLO_VERDICT_UNKNOWN, /* to a claim: only an operator can say (manual; none, not survivor) */
};

struct colo_arbiter_record {
	guint64 generation;
	gboolean solo; /* else protected */
	guint owner; /* index of the node, if solo */
};

/* `record` is NULL where none is known. `why`: one line for the log and the status, NULL where
 * there is nothing to say; valid during the call. */
typedef void (*colo_arbiter_told)(void *data, enum colo_verdict verdict,
				  const struct colo_arbiter_record *record, const char *why);

typedef struct colo_arbiter colo_arbiter;

struct colo_arbiter_ops {
	void (*free)(colo_arbiter *arbiter);
	void (*read)(colo_arbiter *arbiter, colo_arbiter_told told, void *data);
	/* "solo: this node" with `generation` + 1, from "protected" or "solo: this node" at
	 * `generation` (the arbiter may not have heard that the pair was protected, and a
	 * request that says so may still be under way: it then finds another record and does
	 * nothing). Asked again after it was granted (the answer was lost), it is granted
	 * again. */
	void (*claim)(colo_arbiter *arbiter, guint64 generation, colo_arbiter_told told,
		      void *data);
	/* "protected" at the same `generation`, from "solo: this node"; again: granted again. */
	void (*protect)(colo_arbiter *arbiter, guint64 generation, colo_arbiter_told told,
			void *data);
	/* A record for a pair that has none: "solo: this node", 1. With `force`: whatever
	 * there is becomes "solo: this node" at `generation`, by the operator's word. */
	void (*create)(colo_arbiter *arbiter, guint64 generation, gboolean force,
		       colo_arbiter_told told, void *data);
	/* Gives up what is under way, unheard. */
	void (*cancel)(colo_arbiter *arbiter);
	gboolean keeps_records;
	const char *name; /* "etcd" */
};

/* What every kind begins with. */
struct colo_arbiter {
	const struct colo_arbiter_ops *ops;
};

/* `self`: which node this is. Reads the files that the pair file names for it. `pair` outlives
 * it. */
colo_arbiter *colo_arbiter_new(const colo_pair *pair, guint self,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void colo_arbiter_free(colo_arbiter *arbiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_arbiter, colo_arbiter_free)

#endif
