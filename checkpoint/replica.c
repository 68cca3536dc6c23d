/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's memory: base, the guest's own copies, and the arriving checkpoint. */
#include "checkpoint/replica.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define NOT_STAGED G_MAXUINT32
#define NO_COPY 0

struct ckpt_replica {
	vmm_memory *memory;
	guint64 pages;
	/* Staging: slot i holds page `numbers[i]`; `slots` finds a page's slot. */
	guint stage_max, staged;
	guint32 *slots; /* per page; NOT_STAGED */
	guint32 *numbers;
	guint8 *content; /* stage_max pages, of which those used are present */
	/* The guest's own copies: per page, in which apply it was last seen written, from 1;
	 * NO_COPY where the base shows through. */
	guint32 *written;
	guint64 copies;
	guint32 turn;
};

static void *reserve(gsize bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		g_error("reserve %zu bytes to keep a checkpoint aside: %s", bytes,
			g_strerror(errno));
	madvise(memory, bytes, MADV_DONTDUMP);
	return memory;
}

ckpt_replica *ckpt_replica_new(vmm_memory *memory, guint stage_max)
{
	ckpt_replica *replica = g_new0(ckpt_replica, 1);

	g_assert(vmm_memory_is_private(memory));
	replica->memory = memory;
	replica->pages = vmm_memory_pages(memory);
	replica->stage_max = (guint)MIN((guint64)stage_max, replica->pages);
	replica->slots = g_new(guint32, replica->pages);
	memset(replica->slots, 0xff, replica->pages * sizeof(guint32));
	replica->numbers = g_new(guint32, replica->stage_max);
	replica->content = reserve((gsize)replica->stage_max * CKPT_PAGE);
	replica->written = g_new0(guint32, replica->pages);
	return replica;
}

void ckpt_replica_free(ckpt_replica *replica)
{
	if (!replica)
		return;
	munmap(replica->content, (gsize)replica->stage_max * CKPT_PAGE);
	g_free(replica->slots);
	g_free(replica->numbers);
	g_free(replica->written);
	g_free(replica);
}

static guint8 *slot_content(const ckpt_replica *replica, guint32 slot)
{
	return replica->content + (gsize)slot * CKPT_PAGE;
}

/* Where to put a page's content; NULL where there is no such page or no room. */
static guint8 *take_slot(ckpt_replica *replica, guint32 page)
{
	if (page >= replica->pages)
		return NULL;
	if (replica->slots[page] == NOT_STAGED) {
		if (replica->staged == replica->stage_max)
			return NULL;
		replica->numbers[replica->staged] = page;
		replica->slots[page] = replica->staged++;
	}
	return slot_content(replica, replica->slots[page]);
}

gboolean ckpt_replica_stage(ckpt_replica *replica, guint32 page, const void *content)
{
	guint8 *slot = take_slot(replica, page);

	if (!slot)
		return FALSE;
	if (content)
		memcpy(slot, content, CKPT_PAGE);
	else
		memset(slot, 0, CKPT_PAGE);
	return TRUE;
}

/* A page of a guest that runs, and writes to it meanwhile: what a tear gives has another
 * digest. Its own instruction, since no lock and no fence makes this no race. */
static void copy_live(guint8 to[CKPT_PAGE], const void *from)
{
	gsize count = CKPT_PAGE;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

gboolean ckpt_replica_stage_present(ckpt_replica *replica, guint32 page,
				    const ckpt_digester *digester, struct ckpt_digest wanted)
{
	guint8 copy[CKPT_PAGE];
	struct ckpt_digest found;

	if (page >= replica->pages)
		return FALSE;
	copy_live(copy, vmm_memory_page(replica->memory, page));
	found = ckpt_digest_page(digester, copy);
	return found.low == wanted.low && found.high == wanted.high &&
	       ckpt_replica_stage(replica, page, copy);
}

guint ckpt_replica_staged(const ckpt_replica *replica)
{
	return replica->staged;
}

void ckpt_replica_forget(ckpt_replica *replica)
{
	for (guint i = 0; i < replica->staged; i++)
		replica->slots[replica->numbers[i]] = NOT_STAGED;
	/* What one epoch needed the next one may need; more than that goes back. */
	replica->staged = 0;
}

const void *ckpt_replica_base(const ckpt_replica *replica, guint32 page)
{
	return vmm_memory_base_page(replica->memory, page);
}

/* The guest wrote this page: it has a copy of its own from now on. */
static void note_copy(ckpt_replica *replica, guint32 page)
{
	if (replica->written[page] == NO_COPY)
		replica->copies++;
	replica->written[page] = replica->turn;
}

/* Into the base, and into the guest's own copy if there is one. Not every copy is the result
 * of a write that was logged: KVM makes one when it merely prepares to write (it maps a
 * guest's clock page writable, or a write fault is given up half-way). Such a copy has the
 * base's content, so it does no harm until the base changes, which is here. */
static void apply_page(ckpt_replica *replica, guint32 page, const guint8 *content)
{
	guint8 *seen = vmm_memory_page(replica->memory, page);

	memcpy(vmm_memory_base_page(replica->memory, page), content, CKPT_PAGE);
	if (replica->written[page] == NO_COPY) {
		if (!memcmp(seen, content, CKPT_PAGE))
			return;
		note_copy(replica, page);
	}
	memcpy(seen, content, CKPT_PAGE);
}

void ckpt_replica_apply(ckpt_replica *replica, const guint32 *dirty, guint count)
{
	replica->turn++;
	for (guint i = 0; i < count; i++) {
		note_copy(replica, dirty[i]);
		if (replica->slots[dirty[i]] == NOT_STAGED)
			memcpy(vmm_memory_page(replica->memory, dirty[i]),
			       vmm_memory_base_page(replica->memory, dirty[i]), CKPT_PAGE);
	}
	for (guint i = 0; i < replica->staged; i++)
		apply_page(replica, replica->numbers[i], slot_content(replica, i));
	ckpt_replica_forget(replica);
}

guint64 ckpt_replica_private_pages(const ckpt_replica *replica)
{
	return replica->copies;
}

guint64 ckpt_replica_private_with(const ckpt_replica *replica, const guint32 *dirty,
				  guint count)
{
	guint64 copies = replica->copies;

	for (guint i = 0; i < count; i++)
		copies += replica->written[dirty[i]] == NO_COPY;
	return copies;
}

/* How many copies were last written in a turn up to and including `turn`. */
static guint64 older_than(const ckpt_replica *replica, guint32 turn)
{
	guint64 n = 0;

	for (guint64 page = 0; page < replica->pages; page++)
		n += replica->written[page] != NO_COPY && replica->written[page] <= turn;
	return n;
}

/* The latest turn such that dropping all copies up to it leaves no more than `keep`, found
 * by halving: the ages of copies are spread over few turns. */
static guint32 turn_to_drop(const ckpt_replica *replica, guint64 keep)
{
	guint32 low = 0, high = replica->turn;

	while (low < high) {
		guint32 middle = low + (high - low) / 2;

		if (replica->copies - older_than(replica, middle) <= keep)
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}

void ckpt_replica_trim(ckpt_replica *replica, guint64 keep)
{
	guint32 turn;
	guint64 run = 0;

	if (replica->copies <= keep)
		return;
	turn = turn_to_drop(replica, keep);
	for (guint64 page = 0; page <= replica->pages; page++) {
		gboolean drop = page < replica->pages &&
				replica->written[page] != NO_COPY &&
				replica->written[page] <= turn;

		if (drop) {
			replica->written[page] = NO_COPY;
			replica->copies--;
			run++;
		} else if (run) {
			vmm_memory_drop_private(replica->memory, page - run, run);
			run = 0;
		}
	}
}
