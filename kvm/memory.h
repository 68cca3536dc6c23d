/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory: one memfd, mapped, seen by the guest as one or two banks (below the PCI
 * hole at 3 GiB, and from 4 GiB on).
 *
 * A page's number is its offset in the memfd divided by 4096: dense, whatever the banks.
 *
 * Devices write guest memory only on the I/O thread or in a vCPU's exit, holding the
 * device lock (kvm/loop.h); every such write is followed by vmm_memory_mark() with the
 * same lock held. So when the machine is paused, memory stands still and every page that
 * a device changed is marked.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <glib.h>

#define VMM_PAGE 4096u
#define VMM_PAGE_SHIFT 12
#define VMM_HOLE_START 0xc0000000ull /* the end of low memory */
#define VMM_HOLE_END 0x100000000ull /* where high memory starts */

struct vmm_bank {
	guint64 gpa;
	guint64 size; /* bytes, a multiple of the page size */
	guint64 offset; /* of its first byte in the memfd */
	guint8 *host;
};

typedef struct vmm_memory vmm_memory;

/* `bytes`: a multiple of the page size, 1 MiB at least. Free with vmm_memory_free(). */
vmm_memory *vmm_memory_new(guint64 bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same, but guest and devices work on a private (copy-on-write) mapping: the memfd holds
 * a base that shows through wherever nothing was written, and costs nothing twice. */
vmm_memory *vmm_memory_new_private(guint64 bytes, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
gboolean vmm_memory_is_private(const vmm_memory *memory);
/* The base's content of a page; writing it changes what the guest sees unless the guest has
 * its own copy. Of a memory that is not private: the page itself. */
guint8 *vmm_memory_base_page(const vmm_memory *memory, guint64 page);
/* Gives the guest's own copies of `count` pages from `page` on back to the host: the base
 * shows through again. */
void vmm_memory_drop_private(vmm_memory *memory, guint64 page, guint64 count);
void vmm_memory_free(vmm_memory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_memory, vmm_memory_free)

guint64 vmm_memory_bytes(const vmm_memory *memory);
guint64 vmm_memory_pages(const vmm_memory *memory);
int vmm_memory_fd(const vmm_memory *memory);
const struct vmm_bank *vmm_memory_banks(const vmm_memory *memory, guint *count);

/* Host address of `len` bytes at guest address `gpa`; NULL unless all are in one bank. */
void *vmm_memory_at(const vmm_memory *memory, guint64 gpa, guint64 len);
/* Host address of page number `page`, which must exist. */
guint8 *vmm_memory_page(const vmm_memory *memory, guint64 page);
/* Guest address of page number `page`, which must exist. */
guint64 vmm_memory_page_gpa(const vmm_memory *memory, guint64 page);

/* Says that a device wrote `len` bytes at `gpa` (those outside memory are ignored).
 * Holding the device lock. Costs next to nothing while nobody collects. */
void vmm_memory_mark(vmm_memory *memory, guint64 gpa, guint64 len);
/* The same for a host address inside guest memory. */
void vmm_memory_mark_host(vmm_memory *memory, const void *host, gsize len);
/* Copies in and marks; FALSE, and nothing changed, unless all of it is in one bank. */
gboolean vmm_memory_write(vmm_memory *memory, guint64 gpa, const void *data, gsize len);

/* Starts or stops remembering the pages that are marked; starting forgets what was. */
void vmm_memory_track(vmm_memory *memory, gboolean on);
/* The page numbers marked since the last call, each once, in no order: appended to
 * `pages` (guint32 elements). Holding the device lock, or paused. */
void vmm_memory_take_marked(vmm_memory *memory, GArray *pages);

/* The same, left as they are; good until the next mark. Holding the device lock. */
const guint32 *vmm_memory_marked(const vmm_memory *memory, guint *count);

/* Every page reads as zero again, and its storage is given back. */
void vmm_memory_clear(vmm_memory *memory);

#endif
