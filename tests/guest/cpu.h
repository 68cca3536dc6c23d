/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpu.h - the vCPUs: their blocks, the gate to ring 0, LAPIC, timer and idling.
 *
 * An interrupt does nothing but increment `irqs[vector]` and `events` of the vCPU that
 * took it. Programs remember the count that they have dealt with. Going idle is given
 * the `events` seen before looking for work, so no interrupt falls between.
 */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include "types.h"

#define CPUS_MAX 16
#define CPU_BLOCK 0x10000ul

#define VECTOR_COM1 0x24
#define VECTOR_MSIX 0x30 /* and the following, handed out by virtio.c */
#define VECTOR_TIMER 0xef
#define VECTOR_WAKE 0xf0

/* The first members and the size are known to boot.S. */
struct cpu {
	u64 events;
	struct {
		u64 vector, error, rip, rsp, cr2;
	} trap;
	u64 unused[2];
	u32 irqs[256];

	u32 id, apic_id;
	u32 online;
	u64 loops; /* of its main loop */
	u64 idles;

	/* The one LAPIC timer. */
	u64 timer_due; /* kvm-clock ns, NEVER if not armed */
	u32 timer_irqs_seen;
	u64 timer_arms;

	/* The `timer` command. */
	u64 tick_period, tick_next;
	u64 ticks, tick_missed, tick_late_max, tick_no_irq;

	/* The `clockwatch` command. */
	u64 watch_samples;

	u8 clock_page[64] __attribute__((aligned(64))); /* written by KVM */
};

static inline struct cpu *this_cpu(void)
{
	u64 rsp;

	__asm__ volatile("mov %%rsp, %0" : "=r"(rsp));
	return (struct cpu *)(rsp & ~(CPU_BLOCK - 1));
}

struct cpu *cpu_at(u32 id);
u32 cpu_count(void);

void cpu_init(u32 id);
/* Starts all others that ACPI or `cpus=` names; each then runs `main(its block)`. */
void cpus_start(const void *rsdp, void (*main)(struct cpu *));

u64 rdmsr(u32 msr, bool *fault);
bool wrmsr(u32 msr, u64 value);
void cpuid(u32 leaf, u32 subleaf, u32 out[4]);

/* Sleeps until an interrupt, unless one has come since `events_seen`. */
void cpu_idle(u64 events_seen);
void cpu_wake(struct cpu *cpu);
/* One timer interrupt when kvm-clock reaches `due` ns. */
void timer_arm(u64 due);
bool timer_is_deadline(void);

void ioapic_route(u32 pin, u8 vector);

/* Prints and stops this vCPU for ever, after telling pvpanic. */
void die(const char *why) __attribute__((noreturn));

typedef struct {
	u32 held;
} lock_t;

/* Interrupts take no lock, so waiting here always ends. */
static inline void lock(lock_t *l)
{
	while (__atomic_exchange_n(&l->held, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
}

static inline void unlock(lock_t *l)
{
	__atomic_store_n(&l->held, 0, __ATOMIC_RELEASE);
}

#endif
