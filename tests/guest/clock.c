/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clock.c - kvm-clock, the TSC, and the watch that no clock runs backwards. */
#include "clock.h"

#include "cpu.h"
#include "text.h"

#define MSR_WALL_CLOCK 0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
#define KVM_SIGNATURE 0x40000000
#define KVM_FEATURES 0x40000001
#define FEATURE_CLOCKSOURCE2 (1u << 3)

#define FLAG_TSC_STABLE 1

#define WATCH_SLICE_NS 200000

struct pvclock {
	u32 version, pad;
	u64 tsc_timestamp, system_time;
	u32 mul;
	signed char shift;
	u8 flags, pad2[2];
};

struct wall_clock {
	u32 version, seconds, nanoseconds;
};

/*
 * One clock. `last` is the greatest value that any vCPU has seen; it is read before the
 * clock, so the clock should not be behind it, whoever wrote it ("cross"). kvm-clock
 * promises that only if it says to be stable; on one vCPU no clock may ever go back. No
 * lock: a vCPU not scheduled while holding one would look like a gap of the others.
 */
struct watched {
	u64 last;
	struct {
		u64 last, decreases, cross, worst_decrease, worst_gap;
	} seen[CPUS_MAX];
};

static struct {
	bool active;
	struct watched tsc, kvm;
} watch;

static bool have_kvm_clock;
static struct wall_clock wall __attribute__((aligned(64)));

void clock_init_cpu(void)
{
	struct cpu *cpu = this_cpu();
	u32 leaf[4];

	cpuid(KVM_SIGNATURE, 0, leaf);
	if (leaf[1] != 0x4b4d564b || leaf[2] != 0x564b4d56 || leaf[3] != 0x4d)
		return;
	cpuid(KVM_FEATURES, 0, leaf);
	if (!(leaf[0] & FEATURE_CLOCKSOURCE2))
		return;
	if (wrmsr(MSR_SYSTEM_TIME, (u64)cpu->clock_page | 1) && cpu->id == 0)
		have_kvm_clock = true;
}

bool clock_is_kvm(void)
{
	return have_kvm_clock;
}

u64 clock_ns(void)
{
	const struct pvclock *p = (const void *)this_cpu()->clock_page;
	u32 version;
	u64 ns;

	if (!have_kvm_clock)
		return rdtsc();
	do {
		u64 delta;

		version = READ_ONCE(p->version);
		barrier();
		delta = rdtsc() - p->tsc_timestamp;
		if (p->shift >= 0)
			delta <<= p->shift;
		else
			delta >>= -p->shift;
		ns = p->system_time + (u64)((unsigned __int128)delta * p->mul >> 32);
		barrier();
	} while ((version & 1) || version != READ_ONCE(p->version));
	return ns;
}

bool clock_is_stable(void)
{
	return ((const struct pvclock *)this_cpu()->clock_page)->flags &
	       FLAG_TSC_STABLE;
}

u64 clock_wall_ns(void)
{
	if (!have_kvm_clock || !wrmsr(MSR_WALL_CLOCK, (u64)&wall))
		return 0;
	barrier();
	return wall.seconds * 1000000000ul + wall.nanoseconds + clock_ns();
}

u64 clock_tsc_khz(void)
{
	const struct pvclock *p = (const void *)this_cpu()->clock_page;
	u64 khz;

	if (!have_kvm_clock || !p->mul)
		return 1000000;
	khz = (1000000ul << 32) / p->mul;
	return p->shift >= 0 ? khz >> p->shift : khz << -p->shift;
}

u64 clock_ns_to_tsc(u64 ns)
{
	/* By halves, so that hours do not overflow. */
	return ns / 1000000 * clock_tsc_khz() +
	       ns % 1000000 * clock_tsc_khz() / 1000000;
}

static void forget(struct watched *w)
{
	memset(w->seen, 0, sizeof(w->seen));
	WRITE_ONCE(w->last, 0);
}

void clockwatch_start(void)
{
	forget(&watch.tsc);
	forget(&watch.kvm);
	for (u32 i = 0; i < cpu_count(); i++)
		cpu_at(i)->watch_samples = 0;
	WRITE_ONCE(watch.active, true);
}

void clockwatch_stop(void)
{
	WRITE_ONCE(watch.active, false);
}

bool clockwatch_active(void)
{
	return READ_ONCE(watch.active);
}

static u64 look(struct watched *w, u64 (*read)(void))
{
	u32 me = this_cpu()->id;
	u64 last = __atomic_load_n(&w->last, __ATOMIC_ACQUIRE), now = read();

	w->seen[me].decreases += now < w->seen[me].last;
	w->seen[me].last = now;
	if (now < last) {
		w->seen[me].cross++;
		if (last - now > w->seen[me].worst_decrease)
			w->seen[me].worst_decrease = last - now;
		/* A clock set back is counted once, not until it has caught up. */
		__atomic_compare_exchange_n(&w->last, &last, now, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		return now;
	}
	if (last && now - last > w->seen[me].worst_gap)
		w->seen[me].worst_gap = now - last;
	while (last < now &&
	       !__atomic_compare_exchange_n(&w->last, &last, now, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
	return now;
}

/* A gap counts between any two samples, so with all vCPUs stopped it is the stop. */
void clockwatch_slice(void)
{
	u64 end = clock_ns() + WATCH_SLICE_NS, now;

	do {
		look(&watch.tsc, rdtsc);
		now = look(&watch.kvm, clock_ns);
		this_cpu()->watch_samples++;
	} while (clockwatch_active() && now < end);
}

static void report(const char *name, const struct watched *w, char *out, u32 size)
{
	u64 decreases = 0, cross = 0, decrease = 0, gap = 0;

	for (u32 i = 0; i < cpu_count(); i++) {
		decreases += w->seen[i].decreases;
		cross += w->seen[i].cross;
		if (w->seen[i].worst_decrease > decrease)
			decrease = w->seen[i].worst_decrease;
		if (w->seen[i].worst_gap > gap)
			gap = w->seen[i].worst_gap;
	}
	format_more(
		out, size,
		" %s_decreases=%lu %s_cross=%lu %s_worst_decrease=%lu %s_gap_max=%lu",
		name, decreases, name, cross, name, decrease, name, gap);
}

void clockwatch_report(char *out, u32 size)
{
	format(out, size, "ok active=%u kvm_stable=%u", clockwatch_active(),
	       clock_is_stable());
	report("tsc", &watch.tsc, out, size);
	report("kvm", &watch.kvm, out, size);
	for (u32 i = 0; i < cpu_count(); i++)
		format_more(out, size, " samples%u=%lu", i, cpu_at(i)->watch_samples);
}

void tick_set(u64 hz)
{
	u64 now = clock_ns();

	for (u32 i = 0; i < cpu_count(); i++) {
		struct cpu *cpu = cpu_at(i);

		cpu->ticks = cpu->tick_missed = cpu->tick_late_max = 0;
		cpu->tick_no_irq = 0;
		WRITE_ONCE(cpu->tick_next, now);
		WRITE_ONCE(cpu->tick_period, hz ? 1000000000ul / hz : 0);
		cpu_wake(cpu);
	}
}

u64 tick_step(u64 now)
{
	struct cpu *cpu = this_cpu();
	u64 period = READ_ONCE(cpu->tick_period), late;

	if (!period)
		return NEVER;
	if (now < cpu->tick_next)
		return cpu->tick_next;
	late = now - cpu->tick_next;
	if (late > cpu->tick_late_max)
		cpu->tick_late_max = late;
	cpu->ticks++;
	/* Armed for this tick, well past it, and yet no interrupt: it is lost. */
	if (cpu->timer_due <= cpu->tick_next && late > 10000000 &&
	    READ_ONCE(cpu->irqs[VECTOR_TIMER]) == cpu->timer_irqs_seen)
		cpu->tick_no_irq++;
	cpu->tick_missed += late / period;
	cpu->tick_next += (late / period + 1) * period;
	return cpu->tick_next;
}

void tick_report(char *out, u32 size)
{
	format(out, size, "ok deadline=%u", timer_is_deadline());
	for (u32 i = 0; i < cpu_count(); i++) {
		struct cpu *c = cpu_at(i);

		format_more(out, size,
			    " cpu%u.ticks=%lu cpu%u.missed=%lu cpu%u.late_max_ns=%lu "
			    "cpu%u.no_irq=%lu",
			    i, c->ticks, i, c->tick_missed, i, c->tick_late_max, i,
			    c->tick_no_irq);
	}
}
