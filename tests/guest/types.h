/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * types.h - what every file of the micro-guest uses.
 *
 * The micro-guest is one program without an operating system: its state is static
 * data, reached through the functions of the file that owns it.
 */
#ifndef GUEST_TYPES_H
#define GUEST_TYPES_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int s32;
typedef long s64;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE_SIZE 4096ul
#define NEVER (~0ul)

#define barrier() __asm__ volatile("" : : : "memory")
#define READ_ONCE(x) (*(volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))
/* Orders an earlier store before a later load; x86 needs an instruction for no other.
 */
#define full_barrier() __asm__ volatile("lock; addl $0, (%%rsp)" : : : "memory", "cc")

static inline u8 in8(u16 port)
{
	u8 value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out8(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u32 in32(u16 port)
{
	u32 value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out32(u16 port, u32 value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline u64 rdtsc(void)
{
	u32 low, high;
	/* lfence keeps it from running ahead of earlier loads (clock comparisons). */
	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (u64)high << 32 | low;
}

static inline u16 swap16(u16 v)
{
	return v << 8 | v >> 8;
}

static inline u32 swap32(u32 v)
{
	return __builtin_bswap32(v);
}

void *memcpy(void *to, const void *from, u64 n);
void *memset(void *to, int value, u64 n);
int memcmp(const void *a, const void *b, u64 n);

#endif
