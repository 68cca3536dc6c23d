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
	/* Sends one frame that the guest gave: `count` pieces, first the header, alone in
	 * its piece, judged and in the device's memory; then the frame in guest memory,
	 * good during the call. FALSE: no room now; ready() when there is. TRUE: taken,
	 * or lost on the wire. */
	gboolean (*send)(void *data, const struct iovec *iov, guint count);
	/* Receives the next frame for the guest into `iov`: first the header, alone in its
	 * piece. Returns its length with the header; 0: none now (ready() when there is);
	 * -1: this one was longer than the buffers and is gone. */
	gssize (*receive)(void *data, const struct iovec *iov, guint count);
	/* The driver accepted these offloads for frames to the guest (VIRTIO_NET_F_GUEST_*
	 * bits). */
	void (*set_offloads)(void *data, guint64 features);
	/* VIRTIO_NET_F_* bits for offloads that the port can do. */
	guint64 features;
	/* The device calls this once: `ready(net)` is to be called (on the I/O thread)
	 * when there is room to send again or a frame to receive. */
	void (*attach)(void *data, void (*ready)(void *net), void *net);
	/* FALSE (as after attach()): the guest's card is deaf, receive() is not called. */
	void (*want_receive)(void *data, gboolean want);
	/* On: ready() is called also while the machine rests, for a port above that reads then
	 * on its own account; the device itself must not be. NULL: cannot be. */
	void (*serve_at_rest)(void *data, gboolean on);
	/* Frees the port with all that belongs to it. */
	void (*free)(void *data);
};

typedef struct vmm_net vmm_net;

/* Takes the port whatever the outcome. Making and freeing: with the device lock, or while
 * the loop has no thread. */
vmm_net *vmm_net_new_take(vmm_pci *pci, const struct vmm_platform *platform,
			  guint instance, const guint8 mac[6], struct vmm_net_port *port,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_net_free(vmm_net *net);
vmm_virtio *vmm_net_virtio(vmm_net *net);

/* Bytes without the virtio_net_hdr. Dropped: what the driver or the port offered against
 * the rules, or what no buffer of the driver's was long enough for. */
struct vmm_net_counters {
	guint64 rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes, tx_dropped;
};
void vmm_net_get_counters(const vmm_net *net, struct vmm_net_counters *counters);

/* kvm/tap.c: a tap interface as a port. The norm is one that exists already, made with
 * `ip tuntap add` by whoever manages the bridge. One that does not exist is created where
 * the caller may do that: it is up, in no bridge, and gone with the process.
 * VMM_ERROR_CONFIG: not an interface name. VMM_ERROR_HOST: it cannot be used, with the
 * reason (no permission, in use, not a tap). */
struct vmm_net_port *vmm_tap_open(const char *name, vmm_loop *loop, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

#endif
