/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio entropy device (VIRTIO 1.2, 5.4). */
#ifndef VMM_RNG_H
#define VMM_RNG_H

#include "kvm/virtio.h"

typedef struct vmm_rng vmm_rng;

/* Where its bytes come from: fills `len` bytes, returns how many it gave (0: none now,
 * vmm_rng_poll() says when to ask again). NULL: the host's getrandom(2). */
typedef gsize (*vmm_rng_source)(void *data, void *bytes, gsize len);

vmm_rng *vmm_rng_new(vmm_pci *pci, const struct vmm_platform *platform, guint instance,
		     vmm_rng_source source, void *data,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_rng_free(vmm_rng *rng);
vmm_virtio *vmm_rng_virtio(vmm_rng *rng);
/* The source has bytes again. Holding the device lock. */
void vmm_rng_poll(vmm_rng *rng);

#endif
