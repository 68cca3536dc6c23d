/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's side of virtio for tests: finds a device on the PCI bus through its
 * configuration ports, negotiates, lays out rings in guest memory, adds chains and
 * reads what was used. It does by default what a good driver does, and has raw
 * functions for what a bad one does.
 */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include "kvm/virtio.h"
#include "tests/unit/fake_platform.h"

#define FAKE_DESC_NEXT 1u
#define FAKE_DESC_WRITE 2u
#define FAKE_DESC_INDIRECT 4u

/* A ring in guest memory, with or without a device. */
struct fake_queue {
	struct fake_platform *fake;
	guint16 size;
	guint64 desc, avail, used; /* guest addresses */
	guint64 notify; /* guest address; 0 without a device */
	guint16 free[VMM_QUEUE_SIZE_MAX]; /* descriptors, a stack */
	guint n_free;
	guint16 avail_idx, last_used;
};

struct fake_driver {
	struct fake_platform *fake;
	guint slot;
	guint64 bar, common, notify, isr, config; /* guest addresses */
	guint32 multiplier;
	guint window; /* offset of VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	guint msix; /* offset of the MSI-X capability */
	guint vectors;
	guint32 msi_data; /* vector N sends msi_data + N */
	guint queues;
	struct fake_queue queue[VMM_VIRTIO_QUEUES_MAX];
};

/* One buffer of a chain. */
struct fake_buffer {
	guint64 gpa;
	guint32 len;
	gboolean write; /* the device writes it */
};

/* Configuration space of function 0 in `slot`. */
guint32 fake_pci_read(struct fake_platform *fake, guint slot, guint offset, guint len);
void fake_pci_write(struct fake_platform *fake, guint slot, guint offset, guint32 value,
		    guint len);

/* Looks for the `nth` (from 0) device of a virtio type; FALSE if there is none. Reads
 * its capabilities, and switches on bus mastering and MSI-X with every vector unmasked.
 */
gboolean fake_driver_find(struct fake_driver *driver, struct fake_platform *fake,
			  guint type, guint nth);
/* Where the structures are, after the BAR moved. */
void fake_driver_locate(struct fake_driver *driver);
/* Reset to FEATURES_OK, accepting `wanted` of what is offered and VERSION_1; FALSE
 * where the device does not agree. */
gboolean fake_driver_negotiate(struct fake_driver *driver, guint64 wanted);
guint64 fake_driver_offered(struct fake_driver *driver);
/* Lays out a ring and enables it with vector index + 1. */
void fake_driver_setup_queue(struct fake_driver *driver, guint index, guint16 size);
/* All of it for all queues, up to DRIVER_OK; the test fails where something does not
 * work. */
void fake_driver_start(struct fake_driver *driver, guint64 wanted, guint16 size);

guint8 fake_driver_status(struct fake_driver *driver);
void fake_driver_set_status(struct fake_driver *driver, guint8 status);
guint64 fake_common_read(struct fake_driver *driver, guint offset, guint len);
void fake_common_write(struct fake_driver *driver, guint offset, guint64 value,
		       guint len);
/* Device configuration, byte by byte. */
void fake_config_read(struct fake_driver *driver, guint offset, void *to, guint len);

/* Lays out a ring for which there is no driver: of a struct vmm_queue alone. */
void fake_queue_init(struct fake_queue *queue, struct fake_platform *fake,
		     guint16 size);
/* Makes a chain available, without notifying; returns its head. */
guint16 fake_queue_add(struct fake_queue *queue, const struct fake_buffer *buffers,
		       guint count);
guint16 fake_queue_add_indirect(struct fake_queue *queue,
				const struct fake_buffer *buffers, guint count);
/* Notifies the device and runs the loop. */
void fake_queue_kick(struct fake_queue *queue);
/* The next used entry; FALSE if there is none. Frees the chain's descriptors. */
gboolean fake_queue_take_used(struct fake_queue *queue, guint32 *id, guint32 *len);

/* Raw access to the rings. */
void fake_queue_set_desc(struct fake_queue *queue, guint index, guint64 gpa,
			 guint32 len, guint16 flags, guint16 next);
void fake_queue_offer(struct fake_queue *queue, guint16 head);
void fake_queue_set_avail_idx(struct fake_queue *queue, guint16 idx);
void fake_queue_set_avail_flags(struct fake_queue *queue, guint16 flags);
void fake_queue_set_used_event(struct fake_queue *queue, guint16 idx);
guint16 fake_queue_used_idx(struct fake_queue *queue);
guint16 fake_queue_used_flags(struct fake_queue *queue);
guint16 fake_queue_avail_event(struct fake_queue *queue);

#endif
