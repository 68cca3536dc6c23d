/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clock.h - kvm-clock, the TSC, and the watch that no clock runs backwards.
 *
 * Without kvm-clock (another hypervisor, a masked CPUID leaf) the TSC is taken to run
 * at 1 GHz, which is wrong but monotonic; clock_is_kvm() tells.
 */
#ifndef GUEST_CLOCK_H
#define GUEST_CLOCK_H

#include "types.h"

void clock_init_cpu(void);
bool clock_is_kvm(void);
/* Does kvm-clock promise to be one clock for all vCPUs? */
bool clock_is_stable(void);
/* Of this vCPU. */
u64 clock_ns(void);
u64 clock_wall_ns(void);
u64 clock_ns_to_tsc(u64 ns);
u64 clock_tsc_khz(void);

/* clockwatch: all vCPUs sample in slices; cheap when off. */
void clockwatch_start(void);
void clockwatch_stop(void);
bool clockwatch_active(void);
void clockwatch_slice(void);
void clockwatch_report(char *out, u32 size);

/* The `timer` command: due time of this vCPU's next tick, NEVER without. */
void tick_set(u64 hz);
u64 tick_step(u64 now);
void tick_report(char *out, u32 size);

#endif
