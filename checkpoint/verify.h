/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether both sides hold the same (--verify): digests of everything, for tests. */
#ifndef CKPT_VERIFY_H
#define CKPT_VERIFY_H

#include "kvm/memory.h"

/* A digest for each page of guest memory, as the guest sees it, to `digests`. At rest. About
 * 0.2 s per GiB. */
void ckpt_verify_pages(const vmm_memory *memory, guint64 *digests);
/* NULL where memory has these digests; else which pages differ, in words. Caller frees. */
char *ckpt_verify_difference(const vmm_memory *memory, const guint64 *digests);

#endif
