/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block.c - virtio-blk: writes and reads of known content, and a background journal.
 *
 * The journal keeps, in memory, the generation that each of its slots must hold on the
 * disk; memory and disk are restored together, so a read that finds anything else after
 * a failover has found a lost, doubled or reordered write.
 */
#include "block.h"

#include "clock.h"
#include "loop.h"
#include "memory.h"
#include "text.h"

#define DISKS_MAX 8
#define REQUESTS 16
#define SECTOR 512
#define REQUEST_SECTORS 128
#define JOURNAL_SLOTS 256
#define JOURNAL_SECTORS 8
#define JOURNAL_IN_FLIGHT 8
#define JOURNAL_FLUSH_EVERY 64
#define STEP 0x9e3779b97f4a7c15ul

#define F_FLUSH (1ul << 9)
#define F_DISCARD (1ul << 13)
#define T_IN 0
#define T_OUT 1
#define T_FLUSH 4
#define T_DISCARD 11

struct request {
	struct {
		u32 type, reserved;
		u64 sector;
	} header;
	struct {
		u64 sector;
		u32 sectors, flags;
	} discard;
	u8 status;
	bool busy, journal;
	enum block_kind kind;
	u64 sector, count, seed;
	u32 slot;
	block_done done; /* of block_submit() */
	u8 *data;
};

struct disk {
	struct virtio *device;
	struct virtq *queue;
	u64 capacity;
	struct request request[REQUESTS];
};

static struct disk disks[DISKS_MAX];
static u32 disks_found;
static u32 waiting; /* requests of block_transfer() in flight */
static struct block_result *collecting;

static struct {
	u32 disk, in_flight;
	u64 period, next, random, base;
	u64 generation[JOURNAL_SLOTS];
	bool busy[JOURNAL_SLOTS];
	bool wild;
	u64 writes, reads, flushes, bad, errors, late_max, started;
	u64 bad_slot;
} journal;

void block_init(void)
{
	struct virtio *device;

	while (disks_found < DISKS_MAX &&
	       (device = virtio_find(VIRTIO_BLOCK, disks_found))) {
		struct disk *d = &disks[disks_found];

		d->device = device;
		d->queue = memory_take(sizeof(*d->queue));
		for (u32 i = 0; i < REQUESTS; i++)
			d->request[i].data = memory_take(REQUEST_SECTORS * SECTOR);
		if (!virtio_begin(device, F_FLUSH | F_DISCARD) ||
		    !virtq_setup(device, 0, d->queue, 128, false))
			return;
		virtio_ready(device);
		d->capacity = virtio_config64(device, 0);
		disks_found++;
	}
}

u32 block_disks(void)
{
	return disks_found;
}

struct virtio *block_device(u32 disk)
{
	return disk < disks_found ? disks[disk].device : NULL;
}

u64 block_capacity(u32 disk)
{
	return disks[disk].capacity;
}

static void fill(struct request *r)
{
	u64 *word = (u64 *)r->data;

	for (u64 s = r->sector; s < r->sector + r->count; s++) {
		u64 value = mix64(r->seed ^ mix64(s));

		for (u32 i = 0; i < SECTOR / 8; i++, value += STEP)
			*word++ = value;
	}
}

static u64 bad_sectors(const struct request *r)
{
	const u64 *word = (const u64 *)r->data;
	bool empty = r->journal && !r->seed;
	u64 bad = 0;

	for (u64 s = r->sector; s < r->sector + r->count; s++) {
		u64 value = mix64(r->seed ^ mix64(s)), wrong = 0;

		for (u32 i = 0; i < SECTOR / 8; i++, value += STEP)
			wrong |= *word++ ^ (empty ? 0 : value);
		bad += !!wrong;
	}
	return bad;
}

static struct request *free_request(struct disk *d)
{
	for (u32 i = 0; i < REQUESTS; i++)
		if (!d->request[i].busy)
			return &d->request[i];
	return NULL;
}

static bool submit(struct disk *d, struct request *r)
{
	struct segment s[3];
	u32 readable = 1, writable = 1;
	static const u32 types[] = { T_OUT, T_IN, T_FLUSH, T_DISCARD };

	r->header.type = types[r->kind];
	r->header.reserved = 0;
	r->header.sector =
		r->kind == BLOCK_FLUSH || r->kind == BLOCK_DISCARD ? 0 : r->sector;
	r->status = 0xff;
	s[0] = (struct segment){ &r->header, sizeof(r->header) };
	s[1] = (struct segment){ r->data, r->count * SECTOR };
	switch (r->kind) {
	case BLOCK_WRITE:
		if (!r->done)
			fill(r);
		readable = 2;
		break;
	case BLOCK_VERIFY:
		memset(r->data, 0, r->count * SECTOR);
		writable = 2;
		break;
	case BLOCK_DISCARD:
		r->discard.sector = r->sector;
		r->discard.sectors = r->count;
		r->discard.flags = 0;
		s[1] = (struct segment){ &r->discard, sizeof(r->discard) };
		readable = 2;
		break;
	case BLOCK_FLUSH:
		break;
	}
	s[readable + writable - 1] = (struct segment){ &r->status, 1 };
	if (!virtq_add(d->queue, s, readable, writable, r))
		return false;
	r->busy = true;
	return true;
}

static void journal_done(struct request *r)
{
	journal.in_flight--;
	if (r->kind != BLOCK_FLUSH)
		journal.busy[r->slot] = false;
	if (r->status) {
		journal.errors++;
		return;
	}
	if (r->kind == BLOCK_FLUSH) {
		journal.flushes++;
	} else if (r->kind == BLOCK_WRITE) {
		journal.writes++;
		journal.generation[r->slot] = r->seed;
	} else {
		journal.reads++;
		if (bad_sectors(r)) {
			journal.bad++;
			journal.bad_slot = r->slot;
		}
	}
}

void block_poll(void)
{
	for (u32 i = 0; i < disks_found; i++) {
		struct request *r;

		if (!virtq_interrupted(disks[i].queue))
			continue;
		while ((r = virtq_pop(disks[i].queue, NULL))) {
			r->busy = false;
			if (r->done) {
				block_done done = r->done;

				r->done = NULL;
				done(!r->status, r->data);
				continue;
			}
			if (r->journal) {
				journal_done(r);
				continue;
			}
			waiting--;
			if (!collecting)
				continue;
			if (r->status)
				collecting->errors++;
			else if (r->kind == BLOCK_VERIFY)
				collecting->bad += bad_sectors(r);
		}
	}
}

static bool room(void)
{
	return waiting < REQUESTS / 2;
}

static bool all_done(void)
{
	return !waiting;
}

#define WAIT_NS 60000000000ul

const char *block_transfer(u32 disk, enum block_kind kind, u64 sector, u64 count,
			   u64 seed, struct block_result *result)
{
	struct disk *d = &disks[disk];
	u64 start = clock_ns();

	*result = (struct block_result){ 0 };
	if (disk >= disks_found)
		return "no such disk";
	if (waiting)
		return "an earlier transfer is not answered";
	if (sector > d->capacity || count > d->capacity - sector)
		return "past the end of the disk";
	if (kind == BLOCK_DISCARD && !(d->device->features & F_DISCARD))
		return "disk has no discard";
	if (kind == BLOCK_FLUSH && !(d->device->features & F_FLUSH))
		return "disk has no flush";
	collecting = result;
	do {
		struct request *r = free_request(d);

		if (!r || !room()) {
			virtq_kick(d->queue);
			if (!loop_wait(room, WAIT_NS))
				break;
			continue;
		}
		r->journal = false;
		r->kind = kind;
		r->sector = sector;
		r->seed = seed;
		r->count = count < REQUEST_SECTORS || kind == BLOCK_DISCARD
				   ? count
				   : REQUEST_SECTORS;
		if (kind == BLOCK_FLUSH)
			r->count = count = 0;
		if (!submit(d, r))
			break;
		waiting++;
		sector += r->count;
		count -= r->count;
	} while (count);
	virtq_kick(d->queue);
	loop_wait(all_done, WAIT_NS);
	collecting = NULL;
	result->ns = clock_ns() - start;
	return waiting || count ? "timeout" : NULL;
}

bool block_submit(u32 disk, enum block_kind kind, u64 sector, u64 count,
		  const void *data, block_done done)
{
	struct disk *d = &disks[disk];
	struct request *r;

	if (disk >= disks_found || count > REQUEST_SECTORS || sector > d->capacity ||
	    count > d->capacity - sector ||
	    (kind == BLOCK_FLUSH && !(d->device->features & F_FLUSH)))
		return false;
	r = free_request(d);
	if (!r)
		return false;
	r->journal = false;
	r->done = done;
	r->kind = kind;
	r->sector = sector;
	r->count = count;
	if (kind == BLOCK_WRITE)
		memcpy(r->data, data, count * SECTOR);
	if (!submit(d, r)) {
		r->done = NULL;
		return false;
	}
	virtq_kick(d->queue);
	return true;
}

static void journal_aim(struct request *r, u32 slot)
{
	r->journal = true;
	r->slot = slot;
	r->sector = journal.base + (u64)slot * JOURNAL_SECTORS;
	r->count = JOURNAL_SECTORS;
	r->seed = journal.generation[slot];
}

static void journal_issue(struct disk *d)
{
	struct request *r = free_request(d);
	u32 slot;

	journal.random = journal.random * 6364136223846793005ul + 1442695040888963407ul;
	if (journal.wild)
		journal.random ^= mix64(rdtsc());
	slot = journal.random >> 40 & (JOURNAL_SLOTS - 1);
	if (!r || journal.busy[slot] || journal.in_flight >= JOURNAL_IN_FLIGHT)
		return;
	journal_aim(r, slot);
	if (r->seed && (journal.random >> 32 & 1)) {
		r->kind = BLOCK_VERIFY;
	} else {
		r->kind = BLOCK_WRITE;
		/* Generations are not used twice, so an old write is always found. */
		r->seed = ++journal.started;
		if (journal.wild)
			r->seed |= rdtsc() << 24;
		if (journal.started % JOURNAL_FLUSH_EVERY == 0 &&
		    (d->device->features & F_FLUSH)) {
			r->kind = BLOCK_FLUSH;
			r->count = 0;
		}
	}
	if (!submit(d, r))
		return;
	if (r->kind != BLOCK_FLUSH)
		journal.busy[slot] = true;
	journal.in_flight++;
}

static u64 journal_step(u64 now)
{
	struct disk *d = &disks[journal.disk];

	if (now > journal.next && now - journal.next > journal.late_max)
		journal.late_max = now - journal.next;
	for (u32 i = 0; journal.next <= now && i < JOURNAL_IN_FLIGHT; i++) {
		journal_issue(d);
		journal.next += journal.period;
	}
	if (journal.next <= now) /* far behind: do not catch up for ever */
		journal.next = now + journal.period;
	virtq_kick(d->queue);
	return journal.next;
}

const char *block_journal_start(u32 disk, u64 rate, bool wild)
{
	if (disk >= disks_found)
		return "no such disk";
	if (disks[disk].capacity / 2 < JOURNAL_SLOTS * JOURNAL_SECTORS)
		return "disk is too small";
	if (journal.in_flight)
		return "earlier requests are not answered";
	job_stop(JOB_BLOCK);
	if (journal.disk != disk)
		memset(journal.generation, 0, sizeof(journal.generation));
	journal.disk = disk;
	journal.wild = wild;
	journal.base = disks[disk].capacity / 2;
	journal.period = 1000000000ul / rate;
	journal.next = clock_ns();
	job_start(JOB_BLOCK, journal_step, 0);
	return NULL;
}

void block_journal_stop(void)
{
	job_stop(JOB_BLOCK);
}

static bool journal_room(void)
{
	return journal.in_flight < JOURNAL_IN_FLIGHT;
}

static bool journal_idle(void)
{
	return !journal.in_flight;
}

static bool journal_read(u32 slot)
{
	struct disk *d = &disks[journal.disk];
	struct request *r;

	if (!loop_wait(journal_room, WAIT_NS))
		return false;
	r = free_request(d);
	if (!r)
		return false;
	journal_aim(r, slot);
	r->kind = BLOCK_VERIFY;
	if (!submit(d, r))
		return false;
	journal.in_flight++;
	virtq_kick(d->queue);
	return true;
}

/* The journal rests meanwhile, so that each slot holds what memory says. */
const char *block_journal_check(bool empty, u32 *slots)
{
	bool was_running = job_stop(JOB_BLOCK), good;

	*slots = 0;
	good = loop_wait(journal_idle, WAIT_NS);
	for (u32 i = 0; i < JOURNAL_SLOTS && good; i++) {
		if (!journal.generation[i] && !empty)
			continue;
		good = journal_read(i);
		*slots += 1;
	}
	good = loop_wait(journal_idle, WAIT_NS) && good;
	if (was_running) {
		journal.next = clock_ns();
		job_start(JOB_BLOCK, journal_step, 0);
	}
	return good ? NULL : "timeout";
}

void block_journal_report(char *out, u32 size)
{
	format(out, size,
	       "ok running=%u disk=%u writes=%lu reads=%lu flushes=%lu in_flight=%u "
	       "bad=%lu "
	       "errors=%lu late_max_ns=%lu",
	       job_running(JOB_BLOCK), journal.disk, journal.writes, journal.reads,
	       journal.flushes, journal.in_flight, journal.bad, journal.errors,
	       journal.late_max);
}
