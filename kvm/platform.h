/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device may ask of the machine that it is in. Devices know nothing else of it,
 * so unit tests and fuzz targets stand one up without KVM.
 */
#ifndef VMM_PLATFORM_H
#define VMM_PLATFORM_H

#include "kvm/bus.h"
#include "kvm/loop.h"
#include "kvm/memory.h"

enum vmm_event_type {
	VMM_EVENT_PANIC, /* the guest's kernel says that it panicked */
	VMM_EVENT_POWEROFF, /* the guest switched itself off */
	VMM_EVENT_RESET, /* the guest asked for a reset, or faulted beyond repair */
	VMM_EVENT_DEVICE_BROKEN, /* a driver misused a device, which is stopped */
	VMM_EVENT_DISK_ERROR, /* the host failed a read, write or flush */
	VMM_EVENT_PAUSED,
	VMM_EVENT_RESUMED,
	VMM_EVENT_FAILED, /* KVM cannot go on with this guest */
	VMM_EVENT_ESCAPE, /* the user typed the console's escape: wants the machine ended */
};

struct vmm_platform {
	vmm_memory *memory;
	vmm_loop *loop;
	vmm_bus *pio;
	vmm_bus *mmio;
	void *host; /* handed to each of the functions */
	/* Level of interrupt line `gsi` of the IOAPIC. Holding the device lock. */
	void (*set_irq)(void *host, guint gsi, gboolean level);
	/* Delivers one message-signalled interrupt, now. Holding the device lock. */
	void (*send_msi)(void *host, guint64 address, guint32 data);
	/* From now on (until `on` is FALSE with the same arguments) a guest write of any
	 * length at `gpa` makes `eventfd` readable, with no exit to user space. FALSE
	 * where this cannot be: the write then reaches the region's handler. */
	gboolean (*watch_write)(void *host, guint64 gpa, int eventfd, gboolean on);
	/* Something that whoever runs the machine should know. `device` and `detail` may
	 * be NULL. Any thread. */
	void (*event)(void *host, enum vmm_event_type type, const char *device,
		      const char *detail);
};

#endif
