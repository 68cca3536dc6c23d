/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who answers a guest's port or memory-mapped access: a sorted array of regions. */
#include "kvm/bus.h"

struct region {
	guint64 base, size;
	const char *name;
	const struct vmm_region_ops *ops;
	void *device;
};

struct vmm_bus {
	GArray *regions; /* struct region, by base, disjoint */
};

vmm_bus *vmm_bus_new(void)
{
	vmm_bus *bus = g_new0(vmm_bus, 1);

	bus->regions = g_array_new(FALSE, FALSE, sizeof(struct region));
	return bus;
}

void vmm_bus_free(vmm_bus *bus)
{
	if (!bus)
		return;
	g_array_unref(bus->regions);
	g_free(bus);
}

/* Index of the first region that ends after `addr`. */
static guint lower_bound(const vmm_bus *bus, guint64 addr)
{
	guint low = 0, high = bus->regions->len;

	while (low < high) {
		guint middle = (low + high) / 2;
		const struct region *r = &g_array_index(bus->regions, struct region, middle);

		if (r->base + (r->size - 1) < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

gboolean vmm_bus_add(vmm_bus *bus, guint64 base, guint64 size, const char *name,
		     const struct vmm_region_ops *ops, void *device)
{
	struct region region = { base, size, name, ops, device };
	guint at;

	if (!size || base + (size - 1) < base)
		return FALSE;
	at = lower_bound(bus, base);
	if (at < bus->regions->len &&
	    g_array_index(bus->regions, struct region, at).base <= base + (size - 1))
		return FALSE;
	g_array_insert_val(bus->regions, at, region);
	return TRUE;
}

void vmm_bus_remove(vmm_bus *bus, guint64 base, void *device)
{
	guint at = lower_bound(bus, base);
	const struct region *region;

	if (at == bus->regions->len)
		return;
	region = &g_array_index(bus->regions, struct region, at);
	if (region->base == base && region->device == device)
		g_array_remove_index(bus->regions, at);
}

static const struct region *find(const vmm_bus *bus, guint64 addr, guint len)
{
	guint at = lower_bound(bus, addr);
	const struct region *region;

	if (at == bus->regions->len)
		return NULL;
	region = &g_array_index(bus->regions, struct region, at);
	if (addr < region->base || len > region->size ||
	    addr - region->base > region->size - len)
		return NULL;
	return region;
}

gboolean vmm_bus_read(vmm_bus *bus, guint64 addr, guint64 *value, guint len)
{
	const struct region *region = find(bus, addr, len);
	guint64 mask = len < 8 ? (1ull << len * 8) - 1 : G_MAXUINT64;

	if (!region) {
		*value = mask;
		return FALSE;
	}
	*value = region->ops->read(region->device, addr - region->base, len) & mask;
	return TRUE;
}

gboolean vmm_bus_write(vmm_bus *bus, guint64 addr, guint64 value, guint len)
{
	const struct region *region = find(bus, addr, len);

	if (!region)
		return FALSE;
	region->ops->write(region->device, addr - region->base, value, len);
	return TRUE;
}
