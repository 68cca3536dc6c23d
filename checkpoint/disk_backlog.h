/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes on their way to a real disk, and a layer that shows them until they are there.
 *
 * Writes that overlap reach the disk in the order added, others in any, and only a few are
 * given to it at a time, or reads would stand behind all of them. One that fails is final: it
 * and what follows stay, so that reads go on to be right, and nothing more is written.
 *
 * Everything with the device lock.
 */
#ifndef CKPT_DISK_BACKLOG_H
#define CKPT_DISK_BACKLOG_H

#include "checkpoint/disk_layer.h"
#include "kvm/block.h"

/* The real disk, for several that submit to it in one batch. */
struct ckpt_outlet {
	struct vmm_disk *disk;
	gboolean submitted; /* flush_submissions() is due */
};
void ckpt_outlet_submit(struct ckpt_outlet *outlet, struct vmm_disk_request *request);
/* At the end of a batch. */
void ckpt_outlet_settle(struct ckpt_outlet *outlet);

typedef struct ckpt_backlog ckpt_backlog;
typedef struct ckpt_backlog_write ckpt_backlog_write;

struct ckpt_backlog_hooks {
	void *data;
	/* A write with an owner is on the disk (0), or will not be (-errno). */
	void (*written)(void *data, void *owner, int result);
	/* Completions: writes may be on the disk, or have failed. */
	void (*advanced)(void *data);
	/* Once. */
	void (*failed)(void *data, int error);
};

/* `outlet` outlives it. */
ckpt_backlog *ckpt_backlog_new(struct ckpt_outlet *outlet,
			       const struct ckpt_backlog_hooks *hooks);
/* No write may have an owner. The disk is left with what it is at. */
void ckpt_backlog_free(ckpt_backlog *backlog);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_backlog, ckpt_backlog_free)

/* On top of all that is on its way; followed by ckpt_backlog_pump(). `owner` may be NULL. What
 * it returns is for ckpt_backlog_disown() until `written`. */
ckpt_backlog_write *ckpt_backlog_add(ckpt_backlog *backlog,
				     struct ckpt_chunk *chunk_take, void *owner);
/* Nobody waits for it any more; it takes its turn all the same. */
void ckpt_backlog_disown(ckpt_backlog_write *write);
/* Gives the disk what may go; followed by ckpt_outlet_settle(). */
void ckpt_backlog_pump(ckpt_backlog *backlog);
/* Nothing is written any more. */
void ckpt_backlog_fail(ckpt_backlog *backlog, int error);
/* -errno, or 0. */
int ckpt_backlog_error(const ckpt_backlog *backlog);

/* What is on its way. */
const ckpt_layer *ckpt_backlog_layer(const ckpt_backlog *backlog);
/* Of the last write that was added. */
guint64 ckpt_backlog_serial(const ckpt_backlog *backlog);
/* Whether all up to `serial` are on the disk. */
gboolean ckpt_backlog_is_written(const ckpt_backlog *backlog, guint64 serial);

#endif
