/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine without KVM for devices under test: real memory, loop and buses; interrupts
 * and events are written down. One thread: the loop runs in fake_run().
 */
#ifndef FAKE_PLATFORM_H
#define FAKE_PLATFORM_H

#include "kvm/platform.h"

#define FAKE_IRQS 24

struct fake_msi {
	guint64 address;
	guint32 data;
};

struct fake_event {
	enum vmm_event_type type;
	char *device, *detail; /* may be NULL */
};

struct fake_platform {
	struct vmm_platform platform;
	GArray *msis; /* struct fake_msi, in the order sent */
	GArray *events; /* struct fake_event */
	gboolean irq[FAKE_IRQS];
	guint irq_rises[FAKE_IRQS];
	GArray *watches;
	gboolean no_watches; /* watch_write() refuses, as a machine without ioeventfd */
	guint64 free_gpa;
};

/* `bytes` of guest memory, at least 1 MiB. */
struct fake_platform *fake_platform_new(guint64 bytes);
void fake_platform_free(struct fake_platform *fake);

/* Guest accesses, as a vCPU would make them. */
guint32 fake_in(struct fake_platform *fake, guint16 port, guint len);
void fake_out(struct fake_platform *fake, guint16 port, guint32 value, guint len);
guint64 fake_mmio_read(struct fake_platform *fake, guint64 gpa, guint len);
void fake_mmio_write(struct fake_platform *fake, guint64 gpa, guint64 value, guint len);

/* Runs the loop's handlers until none is ready. */
void fake_run(struct fake_platform *fake);
/* Runs them until `*flag` is TRUE, for what other threads or the kernel complete; FALSE
 * after ten seconds without. */
gboolean fake_run_until(struct fake_platform *fake, const gboolean *flag);

/* Zeroed guest memory that nobody else was given; `align` a power of two. */
guint64 fake_alloc(struct fake_platform *fake, guint64 len, guint64 align);
/* Its host address; the test fails where it is not memory. */
void *fake_at(struct fake_platform *fake, guint64 gpa, guint64 len);

/* How often that message was sent since fake_forget(). */
guint fake_msi_count(const struct fake_platform *fake, guint32 data);
/* Forgets interrupts and events. */
void fake_forget(struct fake_platform *fake);
guint fake_event_count(const struct fake_platform *fake, enum vmm_event_type type);

#endif
