/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpu.c - the vCPUs: their blocks, the gate to ring 0, LAPIC, timer and idling. */
#include "cpu.h"

#include "clock.h"
#include "serial.h"
#include "text.h"

#define GATE 0x47415400u
#define GATE_IDLE (GATE + 0)
#define GATE_RDMSR (GATE + 1)
#define GATE_WRMSR (GATE + 2)
#define GATE_CPUID (GATE + 3)

#define MSR_TSC_DEADLINE 0x6e0
#define LAPIC 0xfee00000ul
#define LAPIC_ID 0x20
#define LAPIC_TPR 0x80
#define LAPIC_SVR 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_COUNT 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0
#define ICR_BUSY (1u << 12)
#define LVT_DEADLINE (2u << 17)
#define IOAPIC 0xfec00000ul

#define AP_PAGE 0x8000ul
#define TSS 0x2000
#define TSS_SIZE 104
#define IOMAP_SIZE 0x2000

_Static_assert(__builtin_offsetof(struct cpu, events) == 0, "boot.S");
_Static_assert(__builtin_offsetof(struct cpu, trap) == 8, "boot.S");
_Static_assert(__builtin_offsetof(struct cpu, irqs) == 64, "boot.S");
_Static_assert(sizeof(struct cpu) <= TSS, "boot.S");

u8 cpu_blocks[CPUS_MAX][CPU_BLOCK]
	__attribute__((section(".cpus,\"aw\",@nobits#"), aligned(0x10000)));

extern const u8 ap_code[], ap_code_end[];
extern u32 ap_block, ap_tr;
extern u64 gdt[];

void ap_main(struct cpu *cpu);
void trap_report(struct cpu *cpu);

static u32 cpus = 1;
static bool deadline_timer;
static void (*ap_program)(struct cpu *);

struct cpu *cpu_at(u32 id)
{
	return (struct cpu *)cpu_blocks[id];
}

u32 cpu_count(void)
{
	return cpus;
}

u64 rdmsr(u32 msr, bool *fault)
{
	u32 low, high, bad;

	__asm__ volatile("ud2"
			 : "=a"(low), "=d"(high), "=S"(bad)
			 : "a"(GATE_RDMSR), "c"(msr)
			 : "memory", "cc");
	if (fault)
		*fault = bad;
	return bad ? 0 : (u64)high << 32 | low;
}

bool wrmsr(u32 msr, u64 value)
{
	u32 bad;

	__asm__ volatile("ud2"
			 : "=a"(bad)
			 : "a"(GATE_WRMSR), "c"(msr), "S"((u32)value), "d"(value >> 32)
			 : "memory", "cc");
	return !bad;
}

void cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
	__asm__ volatile("ud2"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(GATE_CPUID), "S"(leaf), "c"(subleaf)
			 : "memory", "cc");
}

static u32 lapic_read(u32 reg)
{
	return *(volatile u32 *)(LAPIC + reg);
}

static void lapic_write(u32 reg, u32 value)
{
	*(volatile u32 *)(LAPIC + reg) = value;
}

static void send_ipi(u32 apic_id, u32 command)
{
	while (lapic_read(LAPIC_ICR) & ICR_BUSY)
		__builtin_ia32_pause();
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, command);
}

void cpu_idle(u64 events_seen)
{
	this_cpu()->idles++;
	__asm__ volatile("ud2"
			 :
			 : "a"(GATE_IDLE), "b"(events_seen)
			 : "rdx", "memory", "cc");
}

void cpu_wake(struct cpu *cpu)
{
	if (cpu != this_cpu())
		send_ipi(cpu->apic_id, VECTOR_WAKE);
}

bool timer_is_deadline(void)
{
	return deadline_timer;
}

void timer_arm(u64 due)
{
	struct cpu *cpu = this_cpu();
	u64 now = clock_ns(), delta = due > now ? due - now : 0;

	cpu->timer_due = due;
	cpu->timer_irqs_seen = READ_ONCE(cpu->irqs[VECTOR_TIMER]);
	cpu->timer_arms++;
	if (deadline_timer) {
		/* 0 would disarm it; the past fires at once. */
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + clock_ns_to_tsc(delta) + 1);
		return;
	}
	/* KVM's LAPIC counts nanoseconds when undivided. */
	if (delta > 0xffffffff)
		delta = 0xffffffff;
	lapic_write(LAPIC_TIMER_COUNT, delta ? delta : 1);
}

void ioapic_route(u32 pin, u8 vector)
{
	volatile u32 *select = (volatile u32 *)IOAPIC;
	volatile u32 *window = (volatile u32 *)(IOAPIC + 0x10);

	*select = 0x11 + 2 * pin;
	*window = cpu_at(0)->apic_id << 24;
	*select = 0x10 + 2 * pin;
	*window = vector; /* edge, active high, fixed */
}

void cpu_init(u32 id)
{
	struct cpu *cpu = this_cpu();
	u32 leaf[4];

	memset(cpu, 0, sizeof(*cpu));
	cpu->id = id;
	cpu->timer_due = NEVER;
	cpuid(1, 0, leaf);
	deadline_timer = leaf[2] >> 24 & 1;
	cpu->apic_id = lapic_read(LAPIC_ID) >> 24;
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER,
		    VECTOR_TIMER | (deadline_timer ? LVT_DEADLINE : 0));
	clock_init_cpu();
}

/* First C of another vCPU. */
void ap_main(struct cpu *cpu)
{
	cpu_init(ap_tr / 16 - 4);
	__atomic_store_n(&cpu->online, 1, __ATOMIC_RELEASE);
	ap_program(cpu);
	die("program of a vCPU ended");
}

static void spin_us(u64 us)
{
	u64 end = clock_ns() + us * 1000;

	while (clock_ns() < end)
		__builtin_ia32_pause();
}

static bool start_one(u32 id, u32 apic_id)
{
	u8 *block = cpu_blocks[id];
	struct cpu *cpu = (struct cpu *)block;
	u64 tss = (u64)block + TSS, end;

	memset(block, 0, CPU_BLOCK);
	*(u64 *)(tss + 4) = (u64)block + CPU_BLOCK;
	*(u16 *)(tss + 102) = TSS_SIZE;
	*(u8 *)(tss + TSS_SIZE + IOMAP_SIZE) = 0xff;
	gdt[8 + 2 * id] = (TSS_SIZE + IOMAP_SIZE) | (tss & 0xffffff) << 16 |
			  0x89ul << 40 | (tss >> 24 & 0xff) << 56;
	gdt[9 + 2 * id] = 0;
	ap_block = (u32)(u64)block;
	ap_tr = 0x40 + 16 * id;
	memcpy((void *)AP_PAGE, ap_code, ap_code_end - ap_code);
	barrier();
	send_ipi(apic_id, 0x4500); /* INIT */
	spin_us(200);
	for (u32 attempt = 0; attempt < 2; attempt++) {
		send_ipi(apic_id, 0x4600 | AP_PAGE >> 12); /* start-up */
		/* The second must not reset a vCPU that is only slow: wait long. */
		for (end = clock_ns() + 2000000000ul; clock_ns() < end;)
			if (__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE))
				return true;
	}
	return false;
}

/* Fills the ids of usable vCPUs from ACPI's MADT; 0 if there is none. */
static u32 madt_ids(const u8 *rsdp, u32 *ids)
{
	const u8 *xsdt, *madt = NULL, *p;
	u32 n = 0;

	if (!rsdp || memcmp(rsdp, "RSD PTR ", 8))
		return 0;
	xsdt = *(const u8 *const *)(rsdp + 24);
	if (!xsdt || memcmp(xsdt, "XSDT", 4))
		return 0;
	for (p = xsdt + 36; p + 8 <= xsdt + *(u32 *)(xsdt + 4); p += 8) {
		const u8 *table = *(const u8 *const *)p;
		if (!memcmp(table, "APIC", 4))
			madt = table;
	}
	if (!madt)
		return 0;
	for (p = madt + 44; p + 2 <= madt + *(u32 *)(madt + 4) && p[1] >= 2;
	     p += p[1]) {
		if (n == CPUS_MAX)
			break;
		if (p[0] == 0 && (p[4] & 1)) /* LAPIC */
			ids[n++] = p[3];
		else if (p[0] == 9 && (p[8] & 1)) /* x2APIC */
			ids[n++] = *(u32 *)(p + 4);
	}
	return n;
}

void cpus_start(const void *rsdp, void (*main)(struct cpu *))
{
	u32 ids[CPUS_MAX], n = madt_ids(rsdp, ids), wanted, me = this_cpu()->apic_id;

	wanted = option_number("cpus", n ? n : 1);
	if (wanted > CPUS_MAX)
		wanted = CPUS_MAX;
	for (; n < wanted; n++)
		ids[n] = n;
	ap_program = main;
	for (u32 i = 0; i < n && cpus < wanted; i++) {
		if (ids[i] == me)
			continue;
		if (!start_one(cpus, ids[i])) {
			say("cpu apic=%u does not start", ids[i]);
			continue;
		}
		cpus++;
	}
}

void die(const char *why)
{
	say("panic cpu=%u %s", this_cpu()->id, why);
	out8(0x505, 1);
	for (;;)
		cpu_idle(READ_ONCE(this_cpu()->events));
}

/* Where boot.S sends a vCPU after a fault. */
void trap_report(struct cpu *cpu)
{
	char line[160];

	format(line, sizeof(line), "fault vector=%lu error=%lx rip=%lx rsp=%lx cr2=%lx",
	       cpu->trap.vector, cpu->trap.error, cpu->trap.rip, cpu->trap.rsp,
	       cpu->trap.cr2);
	die(line);
}
