/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net with one queue pair (VIRTIO 1.2, 5.1) over a port that carries whole frames,
 * each behind a 12-byte virtio_net_hdr, so that checksum and segmentation offloads pass
 * through from end to end.
 */
#ifndef VMM_NET_H
#define VMM_NET_H

#include "kvm/virtio.h"

#define VMM_NET_FRAME_MAX (12 + 65550) /* header, and a 64 KiB GSO frame with VLAN tag */

/* What is on the other side of the guest's network card. All calls with the device
 * lock held. A port is made by vmm_tap_open() or by whoever replicates. */
struct vmm_net_port {
	void *data;
	/* Sends one frame that the guest gave: `count` pieces, header first, in guest
	 * memory. FALSE: no room now; call vmm_net_poll() when there is. */
	gboolean (*send)(void *data, const struct iovec *iov, guint count);
	/* Receives the next frame for the guest into `iov` (header first). Returns its
	 * length with the header; 0: none now (vmm_net_poll() when there is); -1: this one
	 * was longer than the buffers and is gone. */
	gssize (*receive)(void *data, const struct iovec *iov, guint count);
	/* The driver accepted these offloads for frames to the guest (VIRTIO_NET_F_GUEST_*
	 * bits). */
	void (*set_offloads)(void *data, guint64 features);
	/* VIRTIO_NET_F_* bits for offloads that the port can do. */
	guint64 features;
	/* The device calls this once: where to say that the port is ready. */
	void (*attach)(void *data, void (*ready)(void *net), void *net);
	/* FALSE: the guest's card is deaf, receive() is not called. */
	void (*want_receive)(void *data, gboolean want);
	void (*free)(void *data);
};

typedef struct vmm_net vmm_net;

/* Takes the port whatever the outcome. */
vmm_net *vmm_net_new_take(vmm_pci *pci, const struct vmm_platform *platform,
			  guint instance, const guint8 mac[6], struct vmm_net_port *port,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_net_free(vmm_net *net);
vmm_virtio *vmm_net_virtio(vmm_net *net);

struct vmm_net_counters {
	guint64 rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes, tx_dropped;
};
void vmm_net_get_counters(const vmm_net *net, struct vmm_net_counters *counters);

/* kvm/tap.c: an existing or new tap interface `name` as a port; VMM_ERROR_HOST where it
 * cannot be used (with the reason: no permission, in use, not a tap). */
struct vmm_net_port *vmm_tap_open(const char *name, vmm_loop *loop, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

#endif
