/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - the micro-guest: a program that tests order about inside a virtual machine.
 *
 * boot.S has brought the first vCPU to ring 3 with interrupts on. README.md lists the
 * commands; boot.S says how the rings are used.
 */
#include "block.h"
#include "clock.h"
#include "command.h"
#include "console.h"
#include "cpu.h"
#include "faults.h"
#include "loop.h"
#include "memory.h"
#include "net.h"
#include "rng.h"
#include "serial.h"
#include "text.h"
#include "virtio.h"

#define BOOT_RSDP 0x70
#define BOOT_CMD_LINE 0x228

void boot_cpu(struct cpu *cpu, const u8 *boot_params);

extern u8 _bss[], _bss_end[];

void boot_cpu(struct cpu *cpu, const u8 *boot_params)
{
	memset(_bss, 0, _bss_end - _bss);
	option_init((const char *)(u64) * (const u32 *)(boot_params + BOOT_CMD_LINE));
	cpu_init(0);
	serial_init();
	say("microguest up tsc_khz=%lu kvmclock=%u", clock_tsc_khz(), clock_is_kvm());
	memory_init(boot_params);
	virtio_scan();
	console_init();
	block_init();
	rng_init();
	net_init();
	faults_init();
	memory_seal();
	cpus_start(*(const void *const *)(boot_params + BOOT_RSDP), loop_run);
	say("microguest ready cpus=%u pages=%lu devices=%u", cpu_count(),
	    memory_pages(), virtio_count());
	console_say("ready");
	command_boot();
	loop_run(cpu);
}
