/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who answers a guest's port or memory-mapped access. */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <glib.h>

/* `offset` from the start of the region; `len` is 1, 2, 4 or 8; called with the device
 * lock held, on the thread of the vCPU that accesses. */
struct vmm_region_ops {
	guint64 (*read)(void *device, guint64 offset, guint len);
	void (*write)(void *device, guint64 offset, guint64 value, guint len);
};

typedef struct vmm_bus vmm_bus;

vmm_bus *vmm_bus_new(void);
void vmm_bus_free(vmm_bus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_bus, vmm_bus_free)

/* Claims [base, base + size). FALSE, and nothing changed, where it meets another region
 * or wraps. `name` and `ops` must outlive the region. Holding the device lock. */
gboolean vmm_bus_add(vmm_bus *bus, guint64 base, guint64 size, const char *name,
		     const struct vmm_region_ops *ops, void *device);
/* Gives back what `device` claimed at `base`; nothing happens if it did not. */
void vmm_bus_remove(vmm_bus *bus, guint64 base, void *device);

/* An access that no region answers, or that crosses a region's end, reads as all ones
 * and writes nothing; FALSE says so. Holding the device lock. */
gboolean vmm_bus_read(vmm_bus *bus, guint64 addr, guint64 *value, guint len);
gboolean vmm_bus_write(vmm_bus *bus, guint64 addr, guint64 value, guint len);

#endif
