/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A timer of the I/O loop: like any handler it runs with the device lock, and not while the
 * loop is held. All functions: holding the device lock.
 */
#ifndef VMM_TIMER_H
#define VMM_TIMER_H

#include "kvm/loop.h"

typedef struct vmm_timer vmm_timer;

/* Not set. Aborts where the host has no more descriptors. */
vmm_timer *vmm_timer_new(vmm_loop *loop, void (*fn)(void *data), void *data);
/* Also from its own function. */
void vmm_timer_free(vmm_timer *timer);
/* Calls the function in `first_ms` (at least 1) and then every `period_ms` (0: once). What
 * is missed while the loop is held is not made up for: it comes once. */
void vmm_timer_set(vmm_timer *timer, guint first_ms, guint period_ms);

#endif
