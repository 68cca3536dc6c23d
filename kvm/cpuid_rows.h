/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's CPUID as rows, for saved states and for telling another host: and what differs
 * between two of them, in words. Pure computation. */
#ifndef VMM_CPUID_ROWS_H
#define VMM_CPUID_ROWS_H

#include <glib.h>

#include "base/wire.h"

#define VMM_CPUID_ROWS_MAX 256u

struct vmm_cpuid_row {
	wire_u32 leaf, index, flags, eax, ebx, ecx, edx, pad;
};
G_STATIC_ASSERT(sizeof(struct vmm_cpuid_row) == 32);

/* NULL where both say the same, in whatever order; a row that is not there is one of zeros.
 * Else, of the features that differ, which of the two lacks them ("the peer lacks avx2 fma,
 * this host lacks avx512f"), and without such the first leaf and register. Nothing in
 * `theirs` is believed. Caller frees. */
char *vmm_cpuid_rows_difference(const struct vmm_cpuid_row *ours, gsize n,
				const struct vmm_cpuid_row *theirs, gsize m);

#endif
