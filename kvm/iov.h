/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying from and to the scattered buffers of a chain (kvm/virtqueue.h). The driver
 * lays them out as it likes: no field may be expected to lie in one piece.
 *
 * `offset` counts from the first byte of the first buffer. What lies beyond the last
 * buffer is left out; the result says how many bytes there were.
 */
#ifndef VMM_IOV_H
#define VMM_IOV_H

#include <string.h>
#include <sys/uio.h>

#include "kvm/memory.h"

/* The part of `iov` from `offset` on, at most `len` bytes, as pieces in `to`, which has
 * room for `n`; returns how many pieces. */
static inline guint vmm_iov_slice(const struct iovec *iov, guint n, gsize offset,
				  gsize len, struct iovec *to)
{
	guint pieces = 0;

	for (guint i = 0; i < n && len; i++) {
		gsize part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len);
		to[pieces++] =
			(struct iovec){ (guint8 *)iov[i].iov_base + offset, part };
		offset = 0;
		len -= part;
	}
	return pieces;
}

static inline gsize vmm_iov_read(const struct iovec *iov, guint n, gsize offset,
				 void *to, gsize len)
{
	gsize done = 0;

	for (guint i = 0; i < n && done < len; i++) {
		gsize part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		memcpy((guint8 *)to + done, (const guint8 *)iov[i].iov_base + offset,
		       part);
		offset = 0;
		done += part;
	}
	return done;
}

/* Marks nothing: vmm_queue_push() does, or vmm_iov_mark(). */
static inline gsize vmm_iov_write(const struct iovec *iov, guint n, gsize offset,
				  const void *from, gsize len)
{
	gsize done = 0;

	for (guint i = 0; i < n && done < len; i++) {
		gsize part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		memcpy((guint8 *)iov[i].iov_base + offset, (const guint8 *)from + done,
		       part);
		offset = 0;
		done += part;
	}
	return done;
}

/* Marks the first `len` bytes as written by a device. */
static inline void vmm_iov_mark(vmm_memory *memory, const struct iovec *iov, guint n,
				gsize len)
{
	for (guint i = 0; i < n && len; i++) {
		gsize part = MIN(iov[i].iov_len, len);

		vmm_memory_mark_host(memory, iov[i].iov_base, part);
		len -= part;
	}
}

#endif
