/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary and a secondary in this process, each with its own machine with the
 * micro-guest, over a real channel on a socket pair. With --verify unless told otherwise.
 */
#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H

#include "checkpoint/node.h"
#include "checkpoint/outputs.h"
#include "tests/micro/fault.h"
#include "tests/micro/micro.h"

#define PAIR_GUEST_ADDRESS "10.99.0.2"

struct pair_options {
	enum ckpt_mode mode;
	guint period_ms; /* or the longest epoch */
	gboolean verify;
	guint64 dirty_max, private_max; /* pages; 0: as ever */
	guint64 input_need, disk_need; /* bytes; 0: as ever */
	ckpt_outputs *outputs; /* told what is to be told; or NULL */
	const struct ckpt_filter_ops *filter; /* of both machines; or NULL */
};

struct pair {
	struct pair_options options;
	char *disks[2], *disks2[2]; /* files */
	ckpt_node *nodes[2];
	micro *first, *second;
	gint durable; /* atomic: 1 once the promoted disk is, -1 if it could not */
	ckpt_primary *primary;
	ckpt_secondary *secondary;
	base_key *key;
	int cable; /* either end of it */
	guint further; /* connections beside it */
	int further_cables[CKPT_LANES_MAX];
	GThread *callers[CKPT_LANES_MAX];
	gint committed; /* atomic: the last epoch */
	guint64 mark_ns; /* what the last marker cost; while nobody cuts */
	gint primary_lost, secondary_lost; /* atomic */
	/* Atomic: the secondary's guest hears what is said at its own console, although it is
	 * not promoted. For making it another than the primary's. */
	gint second_hears;
	struct vmm_chardev_hooks console; /* the secondary's real ones */
	struct fault fault; /* of the secondary's streams */
	char *why[2]; /* each side was lost; good once it is */
};

/* How the second machine differs from the first, and what both have. */
struct pair_setup {
	guint64 disk_bytes[2], disk2_bytes[2]; /* of either machine; 0: none */
	guint8 mac[2]; /* the last byte; 0: as the other's */
	gboolean disk2_readonly;
	const struct pair_options *options; /* NULL: all as ever */
};

/* A network namespace of this process's own, with 10.99.0.1/24 on a bridge that both
 * machines' taps are ports of. FALSE: not permitted here. */
gboolean pair_make_network(void);

/* `options.disk` and `options.tap`, if not NULL, give each machine one of its own. Replication
 * has started. Aborts where that cannot be. */
struct pair *pair_new(const struct micro_options *options, enum ckpt_mode mode,
		      guint period_ms, gboolean verify);
struct pair *pair_new_with(const struct micro_options *options,
			   const struct pair_options *pair_options);
void pair_free(struct pair *pair);

/* The same in steps. Two machines, the first running, with disks that are empty. */
struct pair *pair_make(const struct micro_options *options, const struct pair_setup *setup);
/* Starts replication; FALSE with each side's error, and nothing has changed. */
gboolean pair_join(struct pair *pair, const struct ckpt_primary_options *options,
		   GError *errors[2]);
/* Cuts the connection between the two. */
void pair_cut(struct pair *pair);
/* Cuts a further one, from 0. */
void pair_cut_further(struct pair *pair, guint which);
/* Ends replication. Without a commit there can be another pair_join(). */
void pair_part(struct pair *pair);

/* The last committed epoch. */
guint pair_committed(struct pair *pair);
/* Why it was taken. */
enum ckpt_reason pair_reason(struct pair *pair);
/* Waits for it; FALSE if either side was lost, or after thirty seconds. */
gboolean pair_wait_for_epoch(struct pair *pair, guint epoch);

#endif
