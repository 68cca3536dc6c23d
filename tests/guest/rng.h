/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rng.h - virtio-rng. */
#ifndef GUEST_RNG_H
#define GUEST_RNG_H

#include "types.h"

void rng_init(void);
/* FNV-1a of the next `bytes` bytes into *hash; NULL, or what went wrong. */
const char *rng_hash(u64 bytes, u64 *hash);

#endif
