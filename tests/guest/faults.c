/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * faults.c - what the fault harness asks of a guest: nonces, a journal, registers,
 * clocks.
 *
 * Who asks repeats what is not answered; so what cannot be done now is dropped. One
 * append and one scan are under way at a time. All but the journal's records lies in
 * memory.
 */
#include "faults.h"

#include "block.h"
#include "clock.h"
#include "cpu.h"
#include "memory.h"
#include "tcp.h"
#include "text.h"

#define MAGIC 0x75616663u /* cfau */
#define JOURNAL_MAGIC 0x6c6e726a75616663ul /* cfaujrnl */
#define ANSWER 128
#define WILD 1
#define NONCES 4096u
#define CLIENTS 64
#define REGISTERS 8
#define SECTOR 512
#define DISK 0
#define SLOTS_MAX 4096u
#define SCAN_MAX 32
#define BACKGROUND_SECTORS 2048 /* from the middle of the disk, see block.c */

enum operation { NONCE = 1, HELD, APPEND, SCAN, REGISTER, TIME };
enum kind { READ, WRITE, CAS };
enum status { STORED, FAILED, NO_DISK };
enum sampling { IDLE, WANTED, READY };

#define TSC_CONSTANT 1
#define CLOCK_STABLE 2

struct head {
	u32 magic;
	u8 operation, flags;
	u16 zero;
	u64 id;
};

/* Where an answer goes. */
struct question {
	struct nic *nic;
	u8 mac[6];
	u32 from;
	u16 port;
	u8 operation;
	u64 id;
};

struct nonce {
	u64 id, count, value;
};

struct client {
	u64 name, id, answer;
};

struct sample {
	u32 state; /* enum sampling; handed over between two vCPUs */
	struct question question;
	u64 count, monotonic, realtime, tsc;
	u32 flags;
};

static struct nonce *nonces;
static u64 nonces_given;
static struct client clients[CLIENTS];
static u32 clients_seen;
static u64 registers[REGISTERS];
static struct sample samples[CPUS_MAX];
static u64
	realtime_of_zero; /* CLOCK_REALTIME where kvm-clock is 0, as it was at boot */
static bool tsc_constant;

static struct {
	bool busy;
	struct question question;
	u64 number;
	u64 token, highest; /* of the newest run that wrote here */
} append;

static struct {
	bool busy;
	struct question question;
	u32 first, count;
} scan;

void faults_init(void)
{
	u32 leaf[4];

	nonces = memory_take(NONCES * sizeof(*nonces));
	if (clock_is_kvm())
		realtime_of_zero = clock_wall_ns() - clock_ns();
	cpuid(0x80000000, 0, leaf);
	if (leaf[0] >= 0x80000007) {
		cpuid(0x80000007, 0, leaf);
		tsc_constant = leaf[3] >> 8 & 1;
	}
}

static void answer(const struct question *q, const void *body, u32 length)
{
	u8 data[sizeof(struct head) + 16 + SCAN_MAX * 24];
	struct head head = { .magic = MAGIC,
			     .operation = q->operation | ANSWER,
			     .id = q->id };

	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), body, length);
	net_udp(q->nic, q->mac, q->from, FAULTS_PORT, q->port, data,
		sizeof(head) + length);
}

/* A nonce's answer is made once; counts go to the nonces in the order in which they
 * came. */
static void on_nonce(const struct question *q, u8 flags)
{
	u64 oldest = nonces_given > NONCES ? nonces_given - NONCES : 0;
	struct nonce *n = NULL;

	for (u64 i = nonces_given; i > oldest && !n; i--)
		if (nonces[(i - 1) % NONCES].id == q->id)
			n = &nonces[(i - 1) % NONCES];
	if (!n) {
		n = &nonces[nonces_given++ % NONCES];
		n->id = q->id;
		n->count = nonces_given;
		n->value = flags & WILD ? rdtsc() : mix64(q->id ^ mix64(n->count));
	}
	answer(q, &n->count, 16);
}

static void on_held(const struct question *q, const u8 *body, u32 length)
{
	u64 held[3];

	if (length != 8)
		return;
	tcp_held(*(const u64 *)body, &held[0], &held[1], &held[2]);
	answer(q, held, sizeof(held));
}

/* The journal: the last quarter of the disk, but never where the background work is. */
static u64 journal_base(void)
{
	u64 capacity = block_capacity(DISK), base = capacity / 4 * 3;

	return base < capacity / 2 + BACKGROUND_SECTORS
		       ? capacity / 2 + BACKGROUND_SECTORS
		       : base;
}

static u32 journal_slots(void)
{
	u64 slots;

	if (!block_disks() || block_capacity(DISK) <= journal_base())
		return 0;
	slots = block_capacity(DISK) - journal_base();
	return slots < SLOTS_MAX ? slots : SLOTS_MAX;
}

static void appended(const struct question *q, u64 number, enum status status)
{
	struct {
		u64 number;
		u32 status, slots;
	} body = { number, status, journal_slots() };

	answer(q, &body, sizeof(body));
}

static void append_flushed(bool good, const u8 *data)
{
	append.busy = false;
	if (good)
		append.highest = append.number;
	appended(&append.question, append.number, good ? STORED : FAILED);
}

static void append_written(bool good, const u8 *data)
{
	if (good && block_submit(DISK, BLOCK_FLUSH, 0, 0, NULL, append_flushed))
		return;
	append.busy = false;
	if (!good)
		appended(&append.question, append.number, FAILED);
}

static void on_append(const struct question *q, const u8 *body, u32 length)
{
	const u64 *word = (const u64 *)body;
	u32 slots = journal_slots();

	if (append.busy || length != SECTOR || word[0] != JOURNAL_MAGIC)
		return;
	if (!slots) {
		appended(q, word[2], NO_DISK);
		return;
	}
	if (word[1] != append.token) {
		append.token = word[1];
		append.highest = 0;
	}
	if (word[2] <= append.highest) { /* asked once more */
		appended(q, word[2], STORED);
		return;
	}
	append.question = *q;
	append.number = word[2];
	append.busy =
		block_submit(DISK, BLOCK_WRITE, journal_base() + append.number % slots,
			     1, body, append_written);
}

static void scanned(bool good, const u8 *data)
{
	struct {
		u32 status, slots, first, count;
		struct {
			u64 token, number, digest;
		} slot[SCAN_MAX];
	} body = { .status = good ? STORED : FAILED,
		   .slots = journal_slots(),
		   .first = scan.first,
		   .count = scan.count };
	const u64 *word = (const u64 *)data;

	for (u32 i = 0; i < scan.count; i++, word += SECTOR / 8) {
		u64 digest = 0;

		for (u32 w = 0; w < SECTOR / 8; w++)
			digest = mix64(digest ^ word[w]);
		if (word[0] == JOURNAL_MAGIC) {
			body.slot[i].token = word[1];
			body.slot[i].number = word[2];
		}
		body.slot[i].digest = digest;
	}
	scan.busy = false;
	answer(&scan.question, &body, 16 + scan.count * sizeof(body.slot[0]));
}

static void on_scan(const struct question *q, const u8 *body, u32 length)
{
	const u32 *asked = (const u32 *)body;
	u32 slots = journal_slots();

	if (scan.busy || length != 8 || !asked[1] || asked[1] > SCAN_MAX ||
	    asked[0] >= slots || asked[1] > slots - asked[0])
		return;
	scan.question = *q;
	scan.first = asked[0];
	scan.count = asked[1];
	scan.busy = block_submit(DISK, BLOCK_VERIFY, journal_base() + scan.first,
				 scan.count, NULL, scanned);
}

static struct client *find_client(u64 name)
{
	struct client *c;

	for (u32 i = 0; i < CLIENTS; i++)
		if (clients[i].name == name)
			return &clients[i];
	c = &clients[clients_seen++ % CLIENTS];
	*c = (struct client){ .name = name };
	return c;
}

static u64 operate(enum kind kind, u64 *value, u64 a, u64 b)
{
	u64 before = *value;

	if (kind == WRITE || (kind == CAS && before == a))
		*value = kind == WRITE ? a : b;
	return kind == WRITE ? 0 : before;
}

static void on_register(const struct question *q, const u8 *body, u32 length)
{
	struct {
		u64 client;
		u32 kind, number;
		u64 a, b;
	} asked;
	struct client *c;

	if (length != sizeof(asked))
		return;
	memcpy(&asked, body, sizeof(asked));
	if (!asked.client || asked.kind > CAS || asked.number >= REGISTERS)
		return;
	c = find_client(asked.client);
	if (q->id < c->id)
		return; /* late: it was answered before the next one was asked */
	if (q->id > c->id) {
		c->answer =
			operate(asked.kind, &registers[asked.number], asked.a, asked.b);
		c->id = q->id;
	}
	answer(q, &c->answer, sizeof(c->answer));
}

static void read_clocks(struct sample *s)
{
	s->count++;
	s->monotonic = clock_ns();
	s->tsc = rdtsc();
	s->realtime = realtime_of_zero + s->monotonic;
	s->flags = (tsc_constant ? TSC_CONSTANT : 0) |
		   (clock_is_stable() ? CLOCK_STABLE : 0);
}

static void tell_clocks(struct sample *s)
{
	struct {
		u32 cpu, cpus, flags, zero;
		u64 count, monotonic, realtime, tsc;
	} body = { s - samples, cpu_count(),  s->flags,	   0,
		   s->count,	s->monotonic, s->realtime, s->tsc };

	answer(&s->question, &body, sizeof(body));
}

static void on_time(const struct question *q, const u8 *body, u32 length)
{
	u32 cpu;
	struct sample *s;

	if (length != 8)
		return;
	cpu = *(const u32 *)body;
	if (cpu >= cpu_count())
		return;
	s = &samples[cpu];
	if (READ_ONCE(s->state) != IDLE)
		return; /* its answer is on its way, to this one's first asking */
	s->question = *q;
	if (cpu == this_cpu()->id) {
		read_clocks(s);
		tell_clocks(s);
		return;
	}
	__atomic_store_n(&s->state, WANTED, __ATOMIC_RELEASE);
	cpu_wake(cpu_at(cpu));
}

void faults_sample(void)
{
	struct sample *s = &samples[this_cpu()->id];

	if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != WANTED)
		return;
	read_clocks(s);
	__atomic_store_n(&s->state, READY, __ATOMIC_RELEASE);
	cpu_wake(cpu_at(0));
}

void faults_poll(void)
{
	for (u32 i = 0; i < cpu_count(); i++) {
		if (__atomic_load_n(&samples[i].state, __ATOMIC_ACQUIRE) != READY)
			continue;
		tell_clocks(&samples[i]);
		WRITE_ONCE(samples[i].state, IDLE);
	}
}

void faults_receive(const struct packet *p, u16 port, const u8 *data, u32 length)
{
	struct question q = { .nic = p->nic, .from = p->from, .port = port };
	struct head head;

	if (length < sizeof(head))
		return;
	memcpy(&head, data, sizeof(head));
	if (head.magic != MAGIC)
		return;
	memcpy(q.mac, p->mac, 6);
	q.operation = head.operation;
	q.id = head.id;
	data += sizeof(head);
	length -= sizeof(head);
	switch (head.operation) {
	case NONCE:
		on_nonce(&q, head.flags);
		break;
	case HELD:
		on_held(&q, data, length);
		break;
	case APPEND:
		on_append(&q, data, length);
		break;
	case SCAN:
		on_scan(&q, data, length);
		break;
	case REGISTER:
		on_register(&q, data, length);
		break;
	case TIME:
		on_time(&q, data, length);
		break;
	}
}
