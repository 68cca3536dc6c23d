/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.h - what each vCPU does all day: devices (the first one only), ticks, jobs,
 * sleep.
 *
 * A job runs in slices of about a millisecond on the vCPU it was given to.
 */
#ifndef GUEST_LOOP_H
#define GUEST_LOOP_H

#include "cpu.h"

enum job { JOB_DIRTY, JOB_COMPUTE, JOB_BLOCK, JOB_FLOOD, JOBS };

/* Does a slice; returns when it wants the next (kvm-clock ns), NEVER when it is over.
 */
typedef u64 (*job_step)(u64 now);

void job_start(enum job job, job_step step, u32 cpu);
/* Returns when the job is certain not to run. False if it was not running. */
bool job_stop(enum job job);
bool job_running(enum job job);
/* Where background work goes by default: the last vCPU. */
u32 job_cpu(void);

void loop_run(struct cpu *cpu) __attribute__((noreturn));
/* First vCPU: serves devices, no new commands, until done() or `timeout_ns`. */
bool loop_wait(bool (*done)(void), u64 timeout_ns);

#endif
