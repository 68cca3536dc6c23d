/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The modern virtio-over-PCI transport (VIRTIO 1.2, 4.1) and what a device type gives
 * it. Device types embed nothing of it: they hold a `vmm_virtio *` and hand it a class.
 *
 * Notifications arrive through ioeventfd on the I/O thread (or, where the machine
 * cannot do that, in the vCPU's exit); all of a class's functions run with the device
 * lock.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include "kvm/pci.h"
#include "kvm/virtqueue.h"

#define VMM_VIRTIO_QUEUES_MAX 4
#define VMM_VIRTIO_CONFIG_MAX 256

/* Feature bits of every device, offered by the transport itself. */
#define VMM_VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VMM_VIRTIO_F_EVENT_IDX (1ull << 29)
#define VMM_VIRTIO_F_VERSION_1 (1ull << 32)

typedef struct vmm_virtio vmm_virtio;

struct vmm_virtio_class {
	const char *name; /* "net", "block", "console", "rng" */
	guint16 type; /* VIRTIO 1.2, 5: device ID */
	guint32 pci_class; /* class code of the PCI function */
	guint queues;
	guint config_len; /* bytes of device configuration, at most CONFIG_MAX */
	/* Device configuration, `offset + len` within config_len; write may be NULL. */
	void (*config_read)(void *data, guint offset, void *buf, guint len);
	void (*config_write)(void *data, guint offset, const void *buf, guint len);
	/* The driver set DRIVER_OK: queues that are ready can be used. After a load of
	 * such a state called by vmm_virtio_loaded(), before `loaded`; what `load` set
	 * must survive that. */
	void (*start)(void *data);
	/* The driver reset the device, or it broke, or another state is about to be
	 * loaded: no queue may be touched any more; what is in flight must be
	 * forgotten: it must not be pushed later. Runs inside vmm_virtio_break() and
	 * vmm_virtio_signal() where these find the device broken. */
	void (*stop)(void *data);
	/* The driver notified queue `index`. */
	void (*kick)(void *data, guint index);
	/* The device type's own state; NULL where it has none. Instance as given. */
	void (*save)(void *data, vmm_state *state);
	gboolean (*load)(void *data, const vmm_state *state, enum vmm_load pass,
			 GError **error);
	/* All state is loaded and the machine is about to run: re-issue what was in
	 * flight. Only where the device is running. May be NULL. Every queue is kicked
	 * after it. */
	void (*loaded)(void *data);
};

/* `features`: what this device offers besides the transport's own. Registers everything
 * with the bus; NULL where the bus is full. Holding the device lock, or while the
 * machine is put together (likewise vmm_virtio_free(), which calls `stop` if need be).
 */
vmm_virtio *vmm_virtio_new(vmm_pci *pci, const struct vmm_platform *platform,
			   const struct vmm_virtio_class *class_, guint instance,
			   guint64 features, void *data, GError **error);
void vmm_virtio_free(vmm_virtio *virtio);

struct vmm_queue *vmm_virtio_queue(vmm_virtio *virtio, guint index);
/* Features that the driver accepted; 0 before FEATURES_OK. */
guint64 vmm_virtio_features(const vmm_virtio *virtio);
/* DRIVER_OK is set and the device is not broken. */
gboolean vmm_virtio_running(const vmm_virtio *virtio);
/* Interrupts the driver for queue `index` if it wants that. Call once a batch. If the
 * queue is broken, this breaks the device. */
void vmm_virtio_signal(vmm_virtio *virtio, guint index);
/* Queue `index` is kicked once more, from the loop: for a class that stopped half-way
 * because vmm_loop_wanted() said so, or a batch was full. */
void vmm_virtio_again(vmm_virtio *virtio, guint index);
/* The device's configuration changed: new generation and interrupt. */
void vmm_virtio_config_changed(vmm_virtio *virtio);
/* The driver broke the rules: stops the device, sets DEVICE_NEEDS_RESET, says so
 * as an event, at most one a second and reset of
 * the machine. It works again after the driver resets it. `why` is static text. */
void vmm_virtio_break(vmm_virtio *virtio, const char *why);

/* Device reset as by the machine's reset. */
void vmm_virtio_reset(vmm_virtio *virtio);

/* PCI, transport, queues, then the class's own. Sections "pci-NAME", "virtio-NAME" and
 * whatever the class puts. */
void vmm_virtio_save(vmm_virtio *virtio, vmm_state *state);
gboolean vmm_virtio_load(vmm_virtio *virtio, const vmm_state *state, enum vmm_load pass,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Before the machine runs again after a load: class `loaded`, then every ready queue is
 * kicked, and every vector that is not masked is raised. */
void vmm_virtio_loaded(vmm_virtio *virtio);

#endif
