/* SPDX-License-Identifier: GPL-2.0-or-later */
/* memory.c - RAM, and the work area: all of it past 32 MiB, every page of it modelled.
 */
#include "memory.h"

#include "cpu.h"
#include "serial.h"
#include "text.h"

#define E820_COUNT 0x1e8
#define E820_TABLE 0x2d0
#define E820_ENTRY 20
#define E820_RAM 1
#define WORK_START 0x2000000ul
#define WORK_RANGES 8
#define GIB (1ul << 30)
#define STEP 0x9e3779b97f4a7c15ul

struct range {
	u64 start, pages, first; /* `first`: index of its first page */
};

extern u8 _image_end[];
extern u64 pdpt[];

static struct range ram[32], work[WORK_RANGES];
static u32 rams, works;
static u64 pages;
static u64 *model;
static u8 touch_value;
static lock_t model_lock; /* one page and its model change together */

static void add_ram(u64 start, u64 length)
{
	u64 end = (start + length) & ~(PAGE_SIZE - 1);

	start = (start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	if (end <= start || rams == ARRAY_SIZE(ram))
		return;
	ram[rams++] = (struct range){ start, (end - start) / PAGE_SIZE, 0 };
	if (start < WORK_START)
		start = WORK_START;
	if (end > start && works < WORK_RANGES)
		work[works++] = (struct range){ start, (end - start) / PAGE_SIZE, 0 };
}

/* boot.S maps the low 4 GiB; here go 2 MiB pages for each GiB of RAM above. */
static void map_high(void)
{
	for (u32 i = 0; i < rams; i++) {
		u64 end = ram[i].start + ram[i].pages * PAGE_SIZE;

		for (u64 gib = ram[i].start / GIB; gib * GIB < end; gib++) {
			u64 *directory;

			if (gib < 4 || gib >= 512 || pdpt[gib])
				continue;
			directory = memory_take(PAGE_SIZE);
			for (u64 j = 0; j < 512; j++)
				directory[j] = (gib * GIB + j * 0x200000) | 0x87;
			WRITE_ONCE(pdpt[gib], (u64)directory | 7);
		}
	}
}

void memory_init(const u8 *boot_params)
{
	u32 entries = boot_params[E820_COUNT];

	if ((u64)_image_end > WORK_START)
		die("image reaches into the work area");
	for (u32 i = 0; i < entries; i++) {
		const u8 *e = boot_params + E820_TABLE + i * E820_ENTRY;

		if (*(const u32 *)(e + 16) == E820_RAM)
			add_ram(*(const u64 *)e, *(const u64 *)(e + 8));
	}
	/* A loader that starts us in real mode leaves asking the BIOS to us. */
	if (!entries)
		add_ram(0x100000, option_number("ram_mib", 64) * 0x100000 - 0x100000);
	if (!works)
		die("no RAM past 32 MiB");
	map_high();
}

void *memory_take(u64 bytes)
{
	u64 n = (bytes + PAGE_SIZE - 1) / PAGE_SIZE, start = work[0].start;

	if (n > work[0].pages)
		die("too little RAM");
	work[0].start += n * PAGE_SIZE;
	work[0].pages -= n;
	memset((void *)start, 0, n * PAGE_SIZE);
	return (void *)start;
}

void memory_seal(void)
{
	u64 total = 0;

	for (u32 i = 0; i < works; i++)
		total += work[i].pages;
	model = memory_take(total * sizeof(u64));
	for (u32 i = 0; i < works; i++) {
		work[i].first = pages;
		pages += work[i].pages;
	}
}

u64 memory_pages(void)
{
	return pages;
}

u64 memory_total(void)
{
	u64 total = 0;

	for (u32 i = 0; i < rams; i++)
		total += ram[i].pages;
	return total;
}

bool memory_is_ram(u64 start, u64 length)
{
	for (u32 i = 0; i < rams; i++)
		if (start >= ram[i].start &&
		    start - ram[i].start <= ram[i].pages * PAGE_SIZE &&
		    length <= ram[i].pages * PAGE_SIZE - (start - ram[i].start))
			return true;
	return false;
}

static u64 *page_at(u64 index)
{
	for (u32 i = 0; i < works; i++)
		if (index - work[i].first < work[i].pages)
			return (u64 *)(work[i].start +
				       (index - work[i].first) * PAGE_SIZE);
	return NULL;
}

void memory_dirty(u64 index, u64 seed, u32 counter)
{
	u64 *page = page_at(index);
	u64 gfn = (u64)page / PAGE_SIZE;
	u64 tag = mix64(seed ^ mix64(gfn << 32 | counter)) & ~0xfful;
	u64 value;

	if (!tag)
		tag = 0x100;
	value = tag;
	lock(&model_lock);
	model[index] = tag;
	for (u32 i = 0; i < 512; i++, value += STEP)
		page[i] = value;
	unlock(&model_lock);
}

void memory_touch(u64 first, u64 n)
{
	u8 value;

	lock(&model_lock);
	value = ++touch_value ? touch_value : ++touch_value;
	/* The loop that is timed: one byte a page and nothing else. */
	for (u32 i = 0; i < works; i++) {
		u64 from = first > work[i].first ? first - work[i].first : 0;
		u64 to = first + n > work[i].first ? first + n - work[i].first : 0;
		volatile u8 *p = (volatile u8 *)work[i].start;

		if (to > work[i].pages)
			to = work[i].pages;
		for (u64 at = from; at < to; at++)
			p[at * PAGE_SIZE] = value;
	}
	for (u64 i = first; i < first + n; i++)
		model[i] = (model[i] & ~0xfful) | value;
	unlock(&model_lock);
}

/* What an untouched page holds is known only if RAM was zero when we started (`all`).
 */
static bool page_good(u64 index, bool all)
{
	const u64 *page = page_at(index);
	u64 tag = model[index] & ~0xfful, touched = model[index] & 0xff;
	u64 step = tag ? STEP : 0, value = tag + step, wrong;

	if (!tag && !all)
		return !touched || (page[0] & 0xff) == touched;

	wrong = page[0] ^ (tag | touched);
	for (u32 i = 1; i < 512; i++, value += step)
		wrong |= page[i] ^ value;
	return !wrong;
}

u64 memory_verify(u64 first, u64 n, bool all, u64 *bad_gfn)
{
	u64 bad = 0;

	for (u64 i = first; i < first + n; i++) {
		bool good;

		lock(&model_lock);
		good = page_good(i, all);
		unlock(&model_lock);
		if (!good && !bad++ && bad_gfn)
			*bad_gfn = (u64)page_at(i) / PAGE_SIZE;
	}
	return bad;
}
