/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The modern virtio-over-PCI transport.
 *
 * BAR 0 holds the common configuration, the ISR byte, the device configuration and one
 * notification address per queue, a page each, below the MSI-X structures. The same
 * structures can be reached through configuration space (VIRTIO_PCI_CAP_PCI_CFG).
 *
 * Notifications: each queue has an eventfd, which the machine ties to the queue's
 * notification address for as long as the BAR is visible. A guest's write then makes
 * the eventfd readable and the I/O thread kicks the queue. A notification may be unread
 * when the state is saved. That is not lost: the eventfd stays readable for the process
 * that goes on, and whoever loads the state kicks every ready queue, asked or not. So
 * it is not part of the state, which stays the same however often it is saved.
 *
 * The device status register is all there is to know of the device's life: DRIVER_OK
 * without NEEDS_RESET is "running", NEEDS_RESET is "broken".
 */
#include "kvm/virtio.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/ratelimit.h"
#include "kvm/error.h"

#define PCI_VENDOR_VIRTIO 0x1af4u
#define PCI_DEVICE_VIRTIO 0x1040u /* plus the device type */
#define PCI_SUBSYSTEM_VIRTIO 0x1100u
#define PCI_REVISION_MODERN 1u

#define STRUCTURE_SIZE 0x1000u
#define COMMON_AT 0x0000u
#define ISR_AT 0x1000u
#define CONFIG_AT 0x2000u
#define NOTIFY_AT 0x3000u
#define NOTIFY_MULTIPLIER 4u

#define ISR_QUEUE 1u
#define ISR_CONFIG 2u

#define TRANSPORT_FEATURES \
	(VMM_VIRTIO_F_INDIRECT_DESC | VMM_VIRTIO_F_EVENT_IDX | VMM_VIRTIO_F_VERSION_1)
/* What a driver may set in the status register. */
#define STATUS_DRIVER                                              \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |    \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_FAILED)

struct queue_slot {
	vmm_virtio *virtio;
	guint index;
	struct vmm_queue queue;
	guint16 vector;
	int eventfd;
	vmm_source *source;
	guint64 watched; /* the address tied to the eventfd; 0: none */
};

struct vmm_virtio {
	const struct vmm_platform *platform;
	const struct vmm_virtio_class *class_;
	guint instance;
	guint64 offered;
	void *data;
	struct vmm_pci_class pci_class;
	vmm_pci_device *device;
	struct queue_slot queues[VMM_VIRTIO_QUEUES_MAX];

	guint8 status, generation, isr;
	guint32 device_feature_select, driver_feature_select;
	guint64 driver_features;
	guint16 config_vector, queue_select;
	guint window_at; /* of the configuration-space window among the capabilities */
	struct virtio_pci_cfg_cap window;
	/* The class may hold something that belongs to this life of the device: it was
	 * started, or loaded as one that was. */
	gboolean active;
	struct base_ratelimit breaks_told; /* a driver can break and reset it all day */
};

static gboolean is_broken(const vmm_virtio *virtio)
{
	return virtio->status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void interrupt(vmm_virtio *virtio, guint8 isr, guint16 vector)
{
	virtio->isr |= isr;
	vmm_pci_interrupt(virtio->device, vector);
}

static void deactivate(vmm_virtio *virtio)
{
	if (!virtio->active)
		return;
	virtio->active = FALSE;
	virtio->class_->stop(virtio->data);
}

static void reset_device(vmm_virtio *virtio)
{
	deactivate(virtio);
	virtio->status = 0;
	virtio->isr = 0;
	virtio->generation = 0;
	virtio->device_feature_select = virtio->driver_feature_select = 0;
	virtio->driver_features = 0;
	virtio->config_vector = VIRTIO_MSI_NO_VECTOR;
	virtio->queue_select = 0;
	for (guint i = 0; i < virtio->class_->queues; i++) {
		vmm_queue_reset(&virtio->queues[i].queue);
		virtio->queues[i].vector = VIRTIO_MSI_NO_VECTOR;
	}
}

static void check_queue(vmm_virtio *virtio, const struct vmm_queue *queue)
{
	if (queue->broken)
		vmm_virtio_break(virtio, queue->broken);
}

static void kick(vmm_virtio *virtio, guint index)
{
	if (!vmm_virtio_running(virtio) || !virtio->queues[index].queue.ready)
		return;
	virtio->class_->kick(virtio->data, index);
	check_queue(virtio, &virtio->queues[index].queue);
}

static void drain(int eventfd)
{
	guint64 count;

	if (read(eventfd, &count, sizeof(count)) < 0)
		g_assert(errno == EAGAIN);
}

static void notified(void *data, guint32 events)
{
	struct queue_slot *slot = data;

	/* Before the queue is looked at: what comes after is notified again. */
	drain(slot->eventfd);
	kick(slot->virtio, slot->index);
}

/* The common configuration. */

static void queue_features(vmm_virtio *virtio)
{
	guint64 features = vmm_virtio_features(virtio);

	for (guint i = 0; i < virtio->class_->queues; i++) {
		struct vmm_queue *queue = &virtio->queues[i].queue;

		queue->event_idx = !!(features & VMM_VIRTIO_F_EVENT_IDX);
		queue->indirect = !!(features & VMM_VIRTIO_F_INDIRECT_DESC);
	}
}

static gboolean features_acceptable(const vmm_virtio *virtio, guint64 features)
{
	return !(features & ~virtio->offered) && (features & VMM_VIRTIO_F_VERSION_1);
}

static void write_status(vmm_virtio *virtio, guint8 value)
{
	guint8 added = value & STATUS_DRIVER & ~virtio->status;

	if (!value) {
		reset_device(virtio);
		return;
	}
	/* Bits are only ever added, and to a broken device none. */
	if (is_broken(virtio))
		return;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    !features_acceptable(virtio, virtio->driver_features))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((virtio->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	virtio->status |= added;
	if (added & VIRTIO_CONFIG_S_FEATURES_OK)
		queue_features(virtio);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK) {
		virtio->active = TRUE;
		virtio->class_->start(virtio->data);
	}
}

static void write_features(vmm_virtio *virtio, guint32 value)
{
	guint select = virtio->driver_feature_select;

	if (select > 1 || (virtio->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	virtio->driver_features &= ~((guint64)G_MAXUINT32 << 32 * select);
	virtio->driver_features |= (guint64)value << 32 * select;
}

/* A vector that the driver cannot have reads back as none: so it learns of it. */
static guint16 take_vector(const vmm_virtio *virtio, guint32 value)
{
	return value < virtio->pci_class.vectors ? (guint16)value
						 : VIRTIO_MSI_NO_VECTOR;
}

static void enable_queue(vmm_virtio *virtio, struct vmm_queue *queue)
{
	/* The features decide how the rings are read. */
	if (queue->ready || !(virtio->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    is_broken(virtio))
		return;
	if (!vmm_queue_enable(queue))
		check_queue(virtio, queue);
}

static void set_half(guint64 *address, gboolean high, guint32 value)
{
	if (high)
		*address = (guint32)*address | (guint64)value << 32;
	else
		*address = (*address & ~(guint64)G_MAXUINT32) | value;
}

static struct queue_slot *selected(vmm_virtio *virtio)
{
	return virtio->queue_select < virtio->class_->queues
		       ? &virtio->queues[virtio->queue_select]
		       : NULL;
}

/* Bytes of the register at `offset`; 0 where none starts. Half of an address counts as
 * a register: the driver accesses each for itself. */
static guint register_len(guint64 offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_DF:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return 4;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return 2;
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	default:
		return 0;
	}
}

/* Registers of the queue that is selected; a queue that there is not has size 0. */
static guint64 queue_read(vmm_virtio *virtio, guint64 offset)
{
	const struct queue_slot *slot = selected(virtio);

	if (!slot)
		return 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return slot->queue.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return slot->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return slot->queue.ready ? 1 : 0;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return slot->index;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (guint32)slot->queue.desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return slot->queue.desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (guint32)slot->queue.avail;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return slot->queue.avail >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (guint32)slot->queue.used;
	default: /* VIRTIO_PCI_COMMON_Q_USEDHI */
		return slot->queue.used >> 32;
	}
}

static guint64 common_read(vmm_virtio *virtio, guint64 offset, guint len)
{
	if (len != register_len(offset))
		return G_MAXUINT64;
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return virtio->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return virtio->device_feature_select > 1
			       ? 0
			       : (guint32)(virtio->offered >>
					   32 * virtio->device_feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return virtio->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return virtio->driver_feature_select > 1
			       ? 0
			       : (guint32)(virtio->driver_features >>
					   32 * virtio->driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return virtio->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return virtio->class_->queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return virtio->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return virtio->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return virtio->queue_select;
	default:
		return queue_read(virtio, offset);
	}
}

static void queue_write(vmm_virtio *virtio, guint64 offset, guint32 value)
{
	struct queue_slot *slot = selected(virtio);
	struct vmm_queue *queue;

	if (!slot)
		return;
	queue = &slot->queue;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX)
		slot->vector = take_vector(virtio, value);
	if (queue->ready)
		return; /* Where the rings are is settled. */
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value && value <= VMM_QUEUE_SIZE_MAX && !(value & (value - 1)))
			queue->size = (guint16)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			enable_queue(virtio, queue);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&queue->desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&queue->avail, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&queue->used, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	}
}

static void common_write(vmm_virtio *virtio, guint64 offset, guint32 value, guint len)
{
	if (len != register_len(offset))
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		virtio->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		virtio->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		write_features(virtio, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		virtio->config_vector = take_vector(virtio, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		write_status(virtio, (guint8)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		virtio->queue_select = (guint16)value;
		break;
	default:
		queue_write(virtio, offset, value);
		break;
	}
}

/* The other structures. */

static guint64 isr_read(vmm_virtio *virtio, guint64 offset, guint len)
{
	guint8 isr = virtio->isr;

	if (offset != 0 || len != 1)
		return G_MAXUINT64;
	virtio->isr = 0;
	return isr;
}

static guint64 config_read(vmm_virtio *virtio, guint64 offset, guint len)
{
	guint64 value = 0;

	if (offset + len > virtio->class_->config_len)
		return G_MAXUINT64;
	virtio->class_->config_read(virtio->data, (guint)offset, &value, len);
	return GUINT64_FROM_LE(value);
}

static void config_write(vmm_virtio *virtio, guint64 offset, guint64 value, guint len)
{
	if (offset + len > virtio->class_->config_len || !virtio->class_->config_write)
		return;
	value = GUINT64_TO_LE(value);
	virtio->class_->config_write(virtio->data, (guint)offset, &value, len);
}

static void notify_write(vmm_virtio *virtio, guint64 offset)
{
	if (offset % NOTIFY_MULTIPLIER == 0 &&
	    offset / NOTIFY_MULTIPLIER < virtio->class_->queues)
		kick(virtio, (guint)offset / NOTIFY_MULTIPLIER);
}

/* An access that reaches over the end of a structure is refused: by its length in the
 * small ones, and by nothing being there in the others. */
static guint64 bar_read(void *data, guint64 offset, guint len)
{
	vmm_virtio *virtio = data;

	switch (offset & ~(guint64)(STRUCTURE_SIZE - 1)) {
	case COMMON_AT:
		return common_read(virtio, offset - COMMON_AT, len);
	case ISR_AT:
		return isr_read(virtio, offset - ISR_AT, len);
	case CONFIG_AT:
		return config_read(virtio, offset - CONFIG_AT, len);
	default:
		return 0;
	}
}

static void bar_write(void *data, guint64 offset, guint64 value, guint len)
{
	vmm_virtio *virtio = data;

	switch (offset & ~(guint64)(STRUCTURE_SIZE - 1)) {
	case COMMON_AT:
		common_write(virtio, offset - COMMON_AT, (guint32)value, len);
		break;
	case CONFIG_AT:
		config_write(virtio, offset - CONFIG_AT, value, len);
		break;
	case NOTIFY_AT:
		notify_write(virtio, offset - NOTIFY_AT);
		break;
	}
}

static void bar_moved(void *data, guint64 gpa)
{
	vmm_virtio *virtio = data;
	const struct vmm_platform *platform = virtio->platform;

	for (guint i = 0; i < virtio->class_->queues; i++) {
		struct queue_slot *slot = &virtio->queues[i];
		guint64 at = gpa + NOTIFY_AT + NOTIFY_MULTIPLIER * i;

		if (slot->watched)
			platform->watch_write(platform->host, slot->watched,
					      slot->eventfd, FALSE);
		slot->watched = 0;
		/* Where the machine cannot, writes come to notify_write(). */
		if (gpa &&
		    platform->watch_write(platform->host, at, slot->eventfd, TRUE))
			slot->watched = at;
	}
}

/* The window in configuration space: a BAR access by registers. */

/* The length of the access that the window is set to; 0 where that is none. */
static guint window_access(const vmm_virtio *virtio, guint64 *offset)
{
	guint len = GUINT32_FROM_LE(virtio->window.cap.length);

	*offset = GUINT32_FROM_LE(virtio->window.cap.offset);
	/* The MSI-X structures are not virtio's: they have no business here. */
	if (virtio->window.cap.bar != 0 || (len != 1 && len != 2 && len != 4) ||
	    *offset % len || *offset >= VMM_PCI_MSIX_TABLE)
		return 0;
	return len;
}

static gboolean window_read(void *data, guint offset, guint len, guint32 *value)
{
	vmm_virtio *virtio = data;
	struct virtio_pci_cfg_cap *window = &virtio->window;
	guint at = offset - virtio->window_at;

	if (offset < virtio->window_at || at + len > sizeof(*window))
		return FALSE;
	if (at >= G_STRUCT_OFFSET(struct virtio_pci_cfg_cap, pci_cfg_data)) {
		guint64 bar_offset;
		guint bar_len = window_access(virtio, &bar_offset);
		guint64 read = bar_len ? bar_read(virtio, bar_offset, bar_len) : 0;

		read = GUINT64_TO_LE(read);
		memcpy(window->pci_cfg_data, &read, bar_len);
	}
	*value = 0;
	memcpy(value, (const guint8 *)window + at, len);
	*value = GUINT32_FROM_LE(*value);
	return TRUE;
}

static gboolean window_write(void *data, guint offset, guint len, guint32 value)
{
	vmm_virtio *virtio = data;
	struct virtio_pci_cfg_cap *window = &virtio->window;
	guint at = offset - virtio->window_at;

	if (offset < virtio->window_at || at + len > sizeof(*window))
		return FALSE;
	value = GUINT32_TO_LE(value);
	for (guint i = 0; i < len; i++) {
		guint8 byte = ((const guint8 *)&value)[i];

		/* BAR, offset, length and data are the driver's to write. */
		if (at + i == G_STRUCT_OFFSET(struct virtio_pci_cap, bar) ||
		    at + i >= G_STRUCT_OFFSET(struct virtio_pci_cap, offset))
			((guint8 *)window)[at + i] = byte;
	}
	if (at >= G_STRUCT_OFFSET(struct virtio_pci_cfg_cap, pci_cfg_data)) {
		guint64 bar_offset, written = 0;
		guint bar_len = window_access(virtio, &bar_offset);

		memcpy(&written, window->pci_cfg_data, sizeof(window->pci_cfg_data));
		written = GUINT64_FROM_LE(written);
		if (bar_len)
			bar_write(virtio, bar_offset,
				  written & ((1ull << 8 * bar_len) - 1), bar_len);
	}
	return TRUE;
}

static void add_structure(vmm_virtio *virtio, guint8 type, guint32 at, guint32 len)
{
	struct virtio_pci_notify_cap cap = {
		.cap.cap_len = sizeof(struct virtio_pci_cap),
		.cap.cfg_type = type,
		.cap.offset = GUINT32_TO_LE(at),
		.cap.length = GUINT32_TO_LE(len),
	};

	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
		cap.cap.cap_len = sizeof(cap);
		cap.notify_off_multiplier = GUINT32_TO_LE(NOTIFY_MULTIPLIER);
	}
	vmm_pci_add_capability(virtio->device, &cap, cap.cap.cap_len);
}

static void add_capabilities(vmm_virtio *virtio)
{
	struct virtio_pci_cfg_cap *window = &virtio->window;

	add_structure(virtio, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_AT,
		      sizeof(struct virtio_pci_common_cfg));
	add_structure(virtio, VIRTIO_PCI_CAP_ISR_CFG, ISR_AT, 1);
	if (virtio->class_->config_len)
		add_structure(virtio, VIRTIO_PCI_CAP_DEVICE_CFG, CONFIG_AT,
			      virtio->class_->config_len);
	add_structure(virtio, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_AT,
		      NOTIFY_MULTIPLIER * virtio->class_->queues);
	/* This one is answered from here, not from configuration space: so it must say
	 * itself that it is the end of the list. */
	window->cap.cap_vndr = PCI_CAP_ID_VNDR;
	window->cap.cap_next = 0;
	window->cap.cap_len = sizeof(*window);
	window->cap.cfg_type = VIRTIO_PCI_CAP_PCI_CFG;
	virtio->window_at =
		vmm_pci_add_capability(virtio->device, window, sizeof(*window));
}

static void init_pci_class(vmm_virtio *virtio)
{
	const struct vmm_virtio_class *class_ = virtio->class_;

	virtio->pci_class = (struct vmm_pci_class){
		.name = class_->name,
		.vendor = PCI_VENDOR_VIRTIO,
		.device = (guint16)(PCI_DEVICE_VIRTIO + class_->type),
		.subsystem_vendor = PCI_VENDOR_VIRTIO,
		.subsystem = PCI_SUBSYSTEM_VIRTIO,
		.revision = PCI_REVISION_MODERN,
		.class_code = class_->pci_class,
		.vectors = class_->queues + 1, /* and one for the configuration */
		.bar_read = bar_read,
		.bar_write = bar_write,
		.bar_moved = bar_moved,
		.config_read = window_read,
		.config_write = window_write,
	};
}

static gboolean make_eventfds(vmm_virtio *virtio, GError **error)
{
	for (guint i = 0; i < virtio->class_->queues; i++) {
		struct queue_slot *slot = &virtio->queues[i];

		slot->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (slot->eventfd < 0)
			return vmm_error_errno(error, errno,
					       "%s %u: make an event descriptor",
					       virtio->class_->name, virtio->instance);
		slot->source = vmm_loop_add(virtio->platform->loop, slot->eventfd,
					    EPOLLIN, notified, slot);
	}
	return TRUE;
}

vmm_virtio *vmm_virtio_new(vmm_pci *pci, const struct vmm_platform *platform,
			   const struct vmm_virtio_class *class_, guint instance,
			   guint64 features, void *data, GError **error)
{
	vmm_virtio *virtio = g_new0(vmm_virtio, 1);

	g_assert(class_->queues >= 1 && class_->queues <= VMM_VIRTIO_QUEUES_MAX);
	g_assert(class_->config_len <= VMM_VIRTIO_CONFIG_MAX);
	virtio->platform = platform;
	virtio->class_ = class_;
	virtio->instance = instance;
	virtio->offered = features | TRANSPORT_FEATURES;
	virtio->data = data;
	/* Never mistaken for the window's place while there is none. */
	virtio->window_at = G_MAXUINT;
	for (guint i = 0; i < VMM_VIRTIO_QUEUES_MAX; i++) {
		struct queue_slot *slot = &virtio->queues[i];

		*slot = (struct queue_slot){ .virtio = virtio,
					     .index = i,
					     .eventfd = -1 };
		slot->queue.memory = platform->memory;
	}
	init_pci_class(virtio);
	reset_device(virtio);
	if (make_eventfds(virtio, error))
		virtio->device = vmm_pci_device_new(pci, &virtio->pci_class, instance,
						    virtio, error);
	if (!virtio->device) {
		vmm_virtio_free(virtio);
		return NULL;
	}
	add_capabilities(virtio);
	return virtio;
}

void vmm_virtio_free(vmm_virtio *virtio)
{
	if (!virtio)
		return;
	deactivate(virtio);
	vmm_pci_device_free(virtio->device);
	for (guint i = 0; i < virtio->class_->queues; i++) {
		if (virtio->queues[i].source)
			vmm_source_remove(virtio->queues[i].source);
		base_fd_clear(&virtio->queues[i].eventfd);
	}
	g_free(virtio);
}

struct vmm_queue *vmm_virtio_queue(vmm_virtio *virtio, guint index)
{
	g_assert(index < virtio->class_->queues);
	return &virtio->queues[index].queue;
}

guint64 vmm_virtio_features(const vmm_virtio *virtio)
{
	return virtio->status & VIRTIO_CONFIG_S_FEATURES_OK ? virtio->driver_features
							    : 0;
}

gboolean vmm_virtio_running(const vmm_virtio *virtio)
{
	return (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK) && !is_broken(virtio);
}

void vmm_virtio_signal(vmm_virtio *virtio, guint index)
{
	struct queue_slot *slot = &virtio->queues[index];

	if (!vmm_virtio_running(virtio))
		return;
	/* What was pushed before it broke counts: the driver may be waiting for it. */
	if (vmm_queue_should_signal(&slot->queue))
		interrupt(virtio, ISR_QUEUE, slot->vector);
	check_queue(virtio, &slot->queue);
}

void vmm_virtio_again(vmm_virtio *virtio, guint index)
{
	g_assert(index < virtio->class_->queues);
	vmm_loop_again(virtio->queues[index].source);
}

void vmm_virtio_config_changed(vmm_virtio *virtio)
{
	virtio->generation++;
	if (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(virtio, ISR_CONFIG, virtio->config_vector);
}

static void tell_broken(vmm_virtio *virtio, const char *why)
{
	const struct vmm_platform *platform = virtio->platform;
	g_autofree char *detail = NULL;
	guint left_out;

	if (!base_ratelimit_pass(&virtio->breaks_told, &left_out))
		return;
	if (left_out)
		detail = g_strdup_printf("%s (and %u more before)", why, left_out);
	platform->event(platform->host, VMM_EVENT_DEVICE_BROKEN, virtio->class_->name,
			detail ? detail : why);
}

void vmm_virtio_break(vmm_virtio *virtio, const char *why)
{
	if (is_broken(virtio))
		return;
	virtio->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	deactivate(virtio);
	if (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(virtio, ISR_CONFIG, virtio->config_vector);
	tell_broken(virtio, why);
}

static void reset_window(vmm_virtio *virtio)
{
	struct virtio_pci_cfg_cap *window = &virtio->window;

	window->cap.bar = 0;
	window->cap.offset = window->cap.length = 0;
	memset(window->pci_cfg_data, 0, sizeof(window->pci_cfg_data));
}

void vmm_virtio_reset(vmm_virtio *virtio)
{
	reset_device(virtio);
	/* Which is an event itself, and takes its time. */
	virtio->breaks_told = (struct base_ratelimit){ 0 };
	reset_window(virtio);
	vmm_pci_device_reset(virtio->device);
}

/* Saved state. */

#define SAVED_VERSION 1

struct virtio_saved {
	wire_u64 driver_features;
	wire_u32 device_feature_select, driver_feature_select;
	wire_u16 config_vector, queue_select;
	guint8 status, generation, isr, queues;
	wire_u32 window_offset, window_length;
	guint8 window_data[4];
	guint8 window_bar, pad[3];
	wire_u16 vectors[VMM_VIRTIO_QUEUES_MAX];
	struct vmm_queue_saved queue[VMM_VIRTIO_QUEUES_MAX];
};
G_STATIC_ASSERT(sizeof(struct virtio_saved) == 48 + 40 * VMM_VIRTIO_QUEUES_MAX);

static const struct vmm_state_field virtio_fields[] = {
	VMM_STATE_FIELD(struct virtio_saved, driver_features),
	VMM_STATE_FIELD(struct virtio_saved, device_feature_select),
	VMM_STATE_FIELD(struct virtio_saved, driver_feature_select),
	VMM_STATE_FIELD(struct virtio_saved, config_vector),
	VMM_STATE_FIELD(struct virtio_saved, queue_select),
	VMM_STATE_FIELD(struct virtio_saved, status),
	VMM_STATE_FIELD(struct virtio_saved, generation),
	VMM_STATE_FIELD(struct virtio_saved, isr),
	VMM_STATE_FIELD(struct virtio_saved, queues),
	VMM_STATE_FIELD(struct virtio_saved, window_offset),
	VMM_STATE_FIELD(struct virtio_saved, window_length),
	VMM_STATE_FIELD(struct virtio_saved, window_data),
	VMM_STATE_FIELD(struct virtio_saved, window_bar),
	VMM_STATE_FIELD(struct virtio_saved, vectors),
	VMM_STATE_FIELD(struct virtio_saved, queue[0]),
	VMM_STATE_FIELD(struct virtio_saved, queue[1]),
	VMM_STATE_FIELD(struct virtio_saved, queue[2]),
	VMM_STATE_FIELD(struct virtio_saved, queue[3]),
	{ 0 },
};

static char *section_name(const vmm_virtio *virtio)
{
	return g_strconcat("virtio-", virtio->class_->name, NULL);
}

void vmm_virtio_save(vmm_virtio *virtio, vmm_state *state)
{
	g_autofree char *name = section_name(virtio);
	const struct virtio_pci_cfg_cap *window = &virtio->window;
	struct virtio_saved saved = {
		.driver_features = wire_put64(virtio->driver_features),
		.device_feature_select = wire_put32(virtio->device_feature_select),
		.driver_feature_select = wire_put32(virtio->driver_feature_select),
		.config_vector = wire_put16(virtio->config_vector),
		.queue_select = wire_put16(virtio->queue_select),
		.status = virtio->status,
		.generation = virtio->generation,
		.isr = virtio->isr,
		.queues = (guint8)virtio->class_->queues,
		.window_offset = wire_put32(GUINT32_FROM_LE(window->cap.offset)),
		.window_length = wire_put32(GUINT32_FROM_LE(window->cap.length)),
		.window_bar = window->cap.bar,
	};

	memcpy(saved.window_data, window->pci_cfg_data, sizeof(saved.window_data));
	for (guint i = 0; i < virtio->class_->queues; i++) {
		saved.vectors[i] = wire_put16(virtio->queues[i].vector);
		vmm_queue_save(&virtio->queues[i].queue, &saved.queue[i]);
	}
	vmm_pci_device_save(virtio->device, state);
	vmm_state_put(state, name, virtio->instance, SAVED_VERSION, &saved,
		      sizeof(saved), virtio_fields);
	if (virtio->class_->save)
		virtio->class_->save(virtio->data, state);
}

static gboolean vector_possible(const vmm_virtio *virtio, wire_u16 vector)
{
	return take_vector(virtio, wire_get16(vector)) == wire_get16(vector);
}

static const char *check_queues(const vmm_virtio *virtio,
				const struct virtio_saved *saved)
{
	static const struct vmm_queue_saved unused;

	for (guint i = 0; i < VMM_VIRTIO_QUEUES_MAX; i++) {
		const struct vmm_queue_saved *queue = &saved->queue[i];
		const char *why;

		if (i >= virtio->class_->queues) {
			if (memcmp(queue, &unused, sizeof(unused)) ||
			    wire_get16(saved->vectors[i]))
				return "a queue is set that does not exist";
			continue;
		}
		if (!vector_possible(virtio, saved->vectors[i]))
			return "a queue has an impossible vector";
		if (queue->ready && !(saved->status & VIRTIO_CONFIG_S_FEATURES_OK))
			return "a queue is ready before the features are";
		why = vmm_queue_check(&virtio->queues[i].queue, queue);
		if (why)
			return why;
	}
	return NULL;
}

/* NULL, or what cannot be loaded. */
static const char *check_saved(const vmm_virtio *virtio,
			       const struct virtio_saved *saved)
{
	guint8 status = saved->status;

	if (saved->queues != virtio->class_->queues)
		return "it has another number of queues";
	if (status & ~(STATUS_DRIVER | VIRTIO_CONFIG_S_NEEDS_RESET))
		return "its status has impossible bits";
	if ((status & VIRTIO_CONFIG_S_DRIVER_OK) &&
	    !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		return "its driver is ready before the features are";
	if ((status & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    !features_acceptable(virtio, wire_get64(saved->driver_features)))
		return "its driver uses features that are not to be had here";
	if (saved->isr & ~(ISR_QUEUE | ISR_CONFIG))
		return "its interrupt status has impossible bits";
	if (!vector_possible(virtio, saved->config_vector))
		return "its configuration has an impossible vector";
	if (saved->pad[0] || saved->pad[1] || saved->pad[2])
		return "padding is not zero";
	return check_queues(virtio, saved);
}

static void apply_saved(vmm_virtio *virtio, const struct virtio_saved *saved)
{
	struct virtio_pci_cfg_cap *window = &virtio->window;

	virtio->status = saved->status;
	virtio->generation = saved->generation;
	virtio->isr = saved->isr;
	virtio->device_feature_select = wire_get32(saved->device_feature_select);
	virtio->driver_feature_select = wire_get32(saved->driver_feature_select);
	virtio->driver_features = wire_get64(saved->driver_features);
	virtio->config_vector = wire_get16(saved->config_vector);
	virtio->queue_select = wire_get16(saved->queue_select);
	window->cap.bar = saved->window_bar;
	window->cap.offset = GUINT32_TO_LE(wire_get32(saved->window_offset));
	window->cap.length = GUINT32_TO_LE(wire_get32(saved->window_length));
	memcpy(window->pci_cfg_data, saved->window_data, sizeof(saved->window_data));
	queue_features(virtio);
	for (guint i = 0; i < virtio->class_->queues; i++) {
		virtio->queues[i].vector = wire_get16(saved->vectors[i]);
		vmm_queue_load(&virtio->queues[i].queue, &saved->queue[i]);
	}
}

gboolean vmm_virtio_load(vmm_virtio *virtio, const vmm_state *state, enum vmm_load pass,
			 GError **error)
{
	g_autofree char *name = section_name(virtio);
	const struct virtio_saved *saved =
		vmm_state_get(state, name, virtio->instance, SAVED_VERSION,
			      sizeof(*saved), sizeof(*saved), NULL, error);
	const char *why;

	if (!saved)
		return FALSE;
	why = check_saved(virtio, saved);
	if (why)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved %s.%u: %s", name,
				     virtio->instance, why);
	/* What the class has in flight is of the past that is given up. */
	if (pass == VMM_LOAD_APPLY)
		deactivate(virtio);
	if (!vmm_pci_device_load(virtio->device, state, pass, error))
		return FALSE;
	if (pass == VMM_LOAD_APPLY) {
		apply_saved(virtio, saved);
		virtio->active = vmm_virtio_running(virtio);
	}
	return !virtio->class_->load ||
	       virtio->class_->load(virtio->data, state, pass, error);
}

void vmm_virtio_loaded(vmm_virtio *virtio)
{
	const struct vmm_virtio_class *class_ = virtio->class_;

	/* Notifications of before the load are void; each queue is kicked instead. */
	for (guint i = 0; i < class_->queues; i++)
		drain(virtio->queues[i].eventfd);
	if (vmm_virtio_running(virtio))
		class_->start(virtio->data);
	if (vmm_virtio_running(virtio) && class_->loaded)
		class_->loaded(virtio->data);
	for (guint i = 0; i < class_->queues; i++)
		kick(virtio, i);
	vmm_pci_interrupt_all(virtio->device);
}
