/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk (VIRTIO 1.2, 5.2) over a disk that works on buffers of the device's own:
 * guest memory is read when a request is taken and written when it completes, both on
 * the I/O thread with the device lock, never by the kernel behind a pause.
 *
 * Requests in flight are part of the saved state (their heads, in the order taken) and
 * are re-issued by whoever loads it; nothing ever waits for a disk.
 */
#ifndef VMM_BLOCK_H
#define VMM_BLOCK_H

#include "kvm/virtio.h"

#define VMM_SECTOR 512u

enum vmm_disk_op {
	VMM_DISK_READ,
	VMM_DISK_WRITE,
	VMM_DISK_FLUSH,
	VMM_DISK_DISCARD,
	VMM_DISK_ZEROES,
};

struct vmm_disk_request {
	enum vmm_disk_op op;
	guint64 offset, len; /* bytes, multiples of 512, inside the disk */
	guint8 *buffer; /* len bytes for READ and WRITE, 4096-aligned; the requester's */
	gboolean unmap; /* ZEROES: may deallocate */
	/* Called once, on the I/O thread with the device lock, from a later loop
	 * iteration than submit(); `result` 0 or -errno. Not called after vmm_disk's
	 * `forget`. The request is the requester's again. */
	void (*done)(struct vmm_disk_request *request, int result);
	void *data; /* the requester's */
	void *handle; /* the disk's, from submit() to done() */
};

/* A disk: vmm_disk_open(), or whoever replicates. All calls with the device lock, but for
 * `sync`. */
struct vmm_disk {
	void *data;
	guint64 size; /* bytes, a multiple of 512 */
	gboolean readonly;
	guint block_size; /* logical block size, 512 to 4096; a request that is not a
			   * multiple of it may fail with -EINVAL */
	gboolean can_discard, can_zero;
	void (*submit)(void *data, struct vmm_disk_request *request);
	/* Called once after a batch of submit(). */
	void (*flush_submissions)(void *data);
	/* The request's `done` must not be called any more, and its buffer not be touched
	 * after this by anybody but the disk, which takes over request and buffer and
	 * frees both (g_free for the request, free(3) for the buffer) when it can. What
	 * is submitted later takes effect after what was forgotten, or without it. */
	void (*forget)(void *data, struct vmm_disk_request *request);
	/* May be NULL. On: requests complete also while the loop is held (kvm/loop.h), for a
	 * user that is no device of the guest's. */
	void (*serve_at_rest)(void *data, gboolean on);
	/* May be NULL: nothing to do. Makes durable what was written: each request that
	 * completed. Without the device lock, on a thread that may be held up for as long
	 * as the disk takes; meanwhile the disk is not freed. */
	gboolean (*sync)(void *data, GError **error);
	/* May be NULL. What the disk holds at this moment, on the caller's thread, which waits
	 * for it: for checks, not for guests. Requests that are out may show or not. `bytes` is
	 * 4096-aligned; all of it lies inside the disk, in whole blocks. */
	gboolean (*read_now)(void *data, guint64 offset, void *bytes, gsize len,
			     GError **error);
	/* Frees the disk with all that belongs to it; no request may be out. Never waits
	 * long for a disk that hangs. */
	void (*free)(void *data);
	/* Set by the requester, may be NULL: called after each batch of done(). */
	void (*batch_done)(void *user);
	void *user;
};
/* Whether a request is of whole blocks; if not, a refusal is its requester's own mistake. */
gboolean vmm_disk_is_whole(const struct vmm_disk *disk, const struct vmm_disk_request *request);

typedef struct vmm_block vmm_block;

/* Takes the disk whatever the outcome. Making and freeing: with the device lock, or while
 * the loop has no thread. `serial`: at most 20 bytes, or NULL. */
vmm_block *vmm_block_new_take(vmm_pci *pci, const struct vmm_platform *platform,
			      guint instance, const char *serial, struct vmm_disk *disk,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_block_free(vmm_block *block);
vmm_virtio *vmm_block_virtio(vmm_block *block);
/* Only to be looked at. */
const struct vmm_disk *vmm_block_disk(const vmm_block *block);

/* The disk's `sync`. */
gboolean vmm_block_sync(vmm_block *block, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Requests and bytes that succeeded; errors: what the host failed or the driver asked for
 * in vain. */
struct vmm_block_counters {
	guint64 reads, read_bytes, writes, written_bytes, flushes, discards, errors;
	guint in_flight;
};
void vmm_block_get_counters(const vmm_block *block, struct vmm_block_counters *counters);

/* kvm/disk.c: a raw file or block device over io_uring, locked (F_OFD_SETLK: shared when
 * read-only) against every other user of the same protocol. `direct`: O_DIRECT.
 * VMM_ERROR_HOST with the reason: in use, wrong size, no permission, no io_uring.
 *
 * After a flush has failed, nobody knows what of the writes before it is on the disk, and
 * the kernel reports it once: so all later writes and flushes fail as well. */
struct vmm_disk *vmm_disk_open(const char *path, gboolean readonly, gboolean direct,
			       vmm_loop *loop, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
