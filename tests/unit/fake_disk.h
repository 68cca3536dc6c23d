/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk in memory that keeps what it was asked until the test says so. */
#ifndef TESTS_FAKE_DISK_H
#define TESTS_FAKE_DISK_H

#include "kvm/block.h"

struct fake_disk {
	struct vmm_disk disk;
	guint8 *bytes;
	guint8 *told; /* what completed writes made of it: what a flush is for */
	guint8 *durable; /* what a loss of power leaves: `told` when the last flush was
			  * submitted that completed */
	GPtrArray *waiting; /* struct vmm_disk_request, in the order submitted */
	guint submissions, forgotten, flushes, writes;
	guint64 flushes_submitted, durable_number; /* which flush made `durable` */
	gboolean freed;
	int result; /* for all of them */
	int write_result; /* for all but reads and flushes */
	GRand *rand; /* borrowed; NULL: effects come with completions */
	GHashTable *flushing; /* request -> what it covers */
	GHashTable *early; /* those whose effect has come at submit() */
};

void fake_disk_init(struct fake_disk *fake, guint64 size, gboolean readonly);
/* It can be read at once, too. Before it is handed on. */
void fake_disk_let_read_now(struct fake_disk *fake);
/* The disk must have been freed by its user. */
void fake_disk_clear(struct fake_disk *fake);

/* Completes request `index` of those that wait, as one batch. */
void fake_disk_complete(struct fake_disk *fake, guint index);
void fake_disk_complete_all(struct fake_disk *fake);

/* A request as a device makes them: from g_malloc(), with a buffer that free(3) frees.
 * Its `done` notes the result in struct fake_request and frees nothing. */
struct fake_request {
	struct vmm_disk_request request; /* first */
	gboolean *is_done; /* may be NULL */
	int *result; /* may be NULL */
};
struct fake_request *fake_request_new(enum vmm_disk_op op, guint64 offset, guint64 len);
void fake_request_free(struct fake_request *request);

#endif
