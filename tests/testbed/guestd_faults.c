// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guestd_faults.c: what the fault harness asks of a guest: streams, nonces, a journal,
 * registers, clocks.
 *
 * The protocol is at the head of tests/faults/client.py. Who asks repeats what is not
 * answered, so what cannot be done now is dropped. One thread answers all datagrams but
 * the journal's, which another one answers, so that nobody waits for a disk. The
 * journal is the file /mnt/faults: a record is there by fdatasync before it is
 * answered, and is read back past the page cache where the file system can. A write or
 * sync that failed is never tried again.
 */
#define _GNU_SOURCE
#include "guestd.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define SERVICE "faults"
#define PORT 9010
#define MAGIC 0x75616663u /* cfau */
#define JOURNAL_MAGIC 0x6c6e726a75616663ull /* cfaujrnl */
#define JOURNAL_PATH "/mnt/faults"
#define ANSWER 128
#define WILD 1
#define NONCES 4096u
#define CLIENTS 64u
#define STREAMS 64u
#define REGISTERS 8u
#define SECTOR 512u
#define SLOTS 4096u
#define SCAN_MAX 32u
#define CHAIN_MAX 1024
#define TSC_CONSTANT 1
#define CLOCK_STABLE 2

enum operation { NONCE = 1, HELD, APPEND, SCAN, REGISTER, TIME };
enum kind { READ, WRITE, CAS };
enum status { STORED, FAILED };

struct head {
	uint32_t magic;
	uint8_t operation, flags;
	uint16_t zero;
	uint64_t id;
};

struct question {
	struct head head;
	uint8_t body[SECTOR];
	size_t len; /* of the body */
	struct sockaddr_in from;
};

struct nonce {
	uint64_t id, count, value;
};

struct client {
	uint64_t name, id, answer;
};

struct stream {
	uint64_t token, bytes, records, chain;
};

static struct {
	pthread_mutex_t lock;
	unsigned long begun;
	struct stream stream[STREAMS];
} streams = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What the thread of datagrams hands to the journal's: one question at a time. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	bool busy;
	struct question question;
} inbox = { .lock = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER };

/* Of the journal's thread alone. */
static struct {
	int fd, direct;
	bool broken;
	uint64_t token, highest; /* of the newest run that wrote here */
} journal;

/* Of the datagrams' thread alone. */
static struct nonce nonces[NONCES];
static uint64_t nonces_given;
static struct client clients[CLIENTS];
static unsigned long clients_seen;
static uint64_t registers[REGISTERS];
static uint64_t samples;
static int datagrams; /* the socket; both threads send */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t fold(uint64_t value, const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		value = mix(value ^ words[i]);
	return value;
}

/* A record for each byte; a byte 1 wants one that two copies of us make differently. */
static void talk_chain(int conn)
{
	uint64_t chain = 0, index = 0, records[CHAIN_MAX][3];
	uint8_t asked[CHAIN_MAX];
	ssize_t n;

	while ((n = read(conn, asked, sizeof(asked))) > 0) {
		for (ssize_t i = 0; i < n; i++, index++) {
			records[i][0] = index;
			records[i][1] = asked[i] ? __rdtsc() : mix(index);
			chain = fold(chain, records[i], 2);
			records[i][2] = chain;
		}
		if (write_all(conn, (const char *)records,
			      (size_t)n * sizeof(*records)) < 0)
			return;
	}
}

static struct stream *begin_stream(uint64_t token)
{
	struct stream *stream;

	pthread_mutex_lock(&streams.lock);
	stream = &streams.stream[streams.begun++ % STREAMS];
	*stream = (struct stream){ .token = token };
	pthread_mutex_unlock(&streams.lock);
	return stream;
}

static void hold(struct stream *stream, const uint64_t *record, size_t len,
		 size_t whole)
{
	pthread_mutex_lock(&streams.lock);
	stream->bytes += len;
	if (whole) {
		stream->records++;
		stream->chain = fold(stream->chain, record, 8);
	}
	pthread_mutex_unlock(&streams.lock);
}

static void talk_held(int conn)
{
	uint64_t record[8];
	size_t have = 0;
	struct stream *stream = NULL;
	ssize_t n;

	while ((n = read(conn, (char *)record + have, sizeof(record) - have)) > 0) {
		have += (size_t)n;
		if (!stream && have < sizeof(*record))
			continue;
		if (!stream) {
			stream = begin_stream(record[0]);
			n = (ssize_t)have;
		}
		hold(stream, record, (size_t)n, have == sizeof(record));
		have %= sizeof(record);
	}
}

static void answer(const struct question *q, const void *body, size_t len)
{
	char data[sizeof(q->head) + 16 + SCAN_MAX * 24];
	struct head head = q->head;

	head.operation |= ANSWER;
	head.flags = 0;
	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), body, len);
	sendto(datagrams, data, sizeof(head) + len, 0, (const void *)&q->from,
	       sizeof(q->from));
}

static void appended(const struct question *q, uint64_t number, enum status status)
{
	struct {
		uint64_t number;
		uint32_t status, slots;
	} body = { number, status, SLOTS };

	answer(q, &body, sizeof(body));
}

static void on_append(const struct question *q)
{
	uint64_t head[3];

	memcpy(head, q->body, sizeof(head));
	if (q->len != SECTOR || head[0] != JOURNAL_MAGIC)
		return;
	if (head[1] != journal.token) {
		journal.token = head[1];
		journal.highest = 0;
	}
	if (head[2] > journal.highest && !journal.broken) {
		off_t at = (off_t)(head[2] % SLOTS * SECTOR);

		journal.broken = pwrite(journal.fd, q->body, SECTOR, at) != SECTOR ||
				 fdatasync(journal.fd) < 0;
		if (journal.broken)
			say(SERVICE, "writing " JOURNAL_PATH);
		else
			journal.highest = head[2];
	}
	appended(q, head[2], head[2] > journal.highest ? FAILED : STORED);
}

static ssize_t read_slots(void *into, uint32_t first, uint32_t count)
{
	off_t at = (off_t)first * SECTOR;
	size_t len = (size_t)count * SECTOR;

	if (journal.direct >= 0)
		return pread(journal.direct, into, len, at);
	posix_fadvise(journal.fd, at, (off_t)len, POSIX_FADV_DONTNEED);
	return pread(journal.fd, into, len, at);
}

static void on_scan(const struct question *q)
{
	static uint64_t slots[SCAN_MAX][SECTOR / 8] __attribute__((aligned(4096)));
	struct {
		uint32_t status, slots, first, count;
		struct {
			uint64_t token, number, digest;
		} slot[SCAN_MAX];
	} body = { .slots = SLOTS };
	ssize_t n;

	if (q->len != 8)
		return;
	memcpy(&body.first, q->body, 8); /* and the count after it */
	if (!body.count || body.count > SCAN_MAX || body.first >= SLOTS ||
	    body.count > SLOTS - body.first)
		return;
	n = read_slots(slots, body.first, body.count);
	if (n != (ssize_t)(body.count * SECTOR)) {
		say(SERVICE, "reading " JOURNAL_PATH);
		body.status = FAILED;
	}
	for (uint32_t i = 0; i < body.count; i++) {
		if (slots[i][0] == JOURNAL_MAGIC) {
			body.slot[i].token = slots[i][1];
			body.slot[i].number = slots[i][2];
		}
		body.slot[i].digest = fold(0, slots[i], SECTOR / 8);
	}
	answer(q, &body, 16 + body.count * sizeof(body.slot[0]));
}

static void *keep_journal(void *arg)
{
	(void)arg;
	for (;;) {
		struct question question;

		pthread_mutex_lock(&inbox.lock);
		while (!inbox.busy)
			pthread_cond_wait(&inbox.wanted, &inbox.lock);
		question = inbox.question;
		pthread_mutex_unlock(&inbox.lock);
		if (question.head.operation == APPEND)
			on_append(&question);
		else
			on_scan(&question);
		pthread_mutex_lock(&inbox.lock);
		inbox.busy = false;
		pthread_mutex_unlock(&inbox.lock);
	}
	return NULL;
}

static void hand_to_journal(const struct question *q)
{
	pthread_mutex_lock(&inbox.lock);
	if (!inbox.busy) {
		inbox.question = *q;
		inbox.busy = true;
		pthread_cond_signal(&inbox.wanted);
	}
	pthread_mutex_unlock(&inbox.lock);
}

/* A nonce's answer is made once; counts go to the nonces in the order in which they
 * came. */
static void on_nonce(const struct question *q)
{
	uint64_t oldest = nonces_given > NONCES ? nonces_given - NONCES : 0;
	struct nonce *n = NULL;

	for (uint64_t i = nonces_given; i > oldest && !n; i--)
		if (nonces[(i - 1) % NONCES].id == q->head.id)
			n = &nonces[(i - 1) % NONCES];
	if (!n) {
		n = &nonces[nonces_given++ % NONCES];
		n->id = q->head.id;
		n->count = nonces_given;
		n->value =
			q->head.flags & WILD ? __rdtsc() : mix(n->id ^ mix(n->count));
	}
	answer(q, &n->count, 16);
}

static void on_held(const struct question *q)
{
	struct stream found = { 0 };
	uint64_t token;

	if (q->len != sizeof(token))
		return;
	memcpy(&token, q->body, sizeof(token));
	pthread_mutex_lock(&streams.lock);
	for (unsigned i = 0; i < STREAMS; i++)
		if (streams.stream[i].token == token)
			found = streams.stream[i];
	pthread_mutex_unlock(&streams.lock);
	answer(q, &found.bytes, 24);
}

static struct client *find_client(uint64_t name)
{
	struct client *client;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].name == name)
			return &clients[i];
	client = &clients[clients_seen++ % CLIENTS];
	*client = (struct client){ .name = name };
	return client;
}

static uint64_t operate(enum kind kind, uint64_t *value, uint64_t a, uint64_t b)
{
	uint64_t before = *value;

	if (kind == WRITE || (kind == CAS && before == a))
		*value = kind == WRITE ? a : b;
	return kind == WRITE ? 0 : before;
}

static void on_register(const struct question *q)
{
	struct {
		uint64_t client;
		uint32_t kind, number;
		uint64_t a, b;
	} asked;
	struct client *client;

	if (q->len != sizeof(asked))
		return;
	memcpy(&asked, q->body, sizeof(asked));
	if (!asked.client || asked.kind > CAS || asked.number >= REGISTERS)
		return;
	client = find_client(asked.client);
	if (q->head.id < client->id)
		return; /* late: it was answered before the next one was asked */
	if (q->head.id > client->id) {
		client->answer =
			operate(asked.kind, &registers[asked.number], asked.a, asked.b);
		client->id = q->head.id;
	}
	answer(q, &client->answer, sizeof(client->answer));
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t clock_flags(void)
{
	unsigned a, b, c, d;

	/* Linux makes its clock one for all processors, whatever the hardware is. */
	return CLOCK_STABLE |
	       (__get_cpuid(0x80000007, &a, &b, &c, &d) && d >> 8 & 1 ? TSC_CONSTANT
								      : 0);
}

static void on_time(const struct question *q)
{
	struct {
		uint32_t cpu, cpus, flags, zero;
		uint64_t count, monotonic, realtime, tsc;
	} body = { .cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) };
	cpu_set_t one;

	if (q->len != 8)
		return;
	memcpy(&body.cpu, q->body, sizeof(body.cpu));
	if (body.cpu >= body.cpus)
		return;
	CPU_ZERO(&one);
	CPU_SET(body.cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0) {
		say(SERVICE, "sched_setaffinity");
		return;
	}
	body.flags = clock_flags();
	body.count = ++samples;
	body.monotonic = now_ns(CLOCK_MONOTONIC);
	body.tsc = __rdtsc();
	body.realtime = now_ns(CLOCK_REALTIME);
	answer(q, &body, sizeof(body));
}

static void take(const struct question *q)
{
	switch (q->head.operation) {
	case NONCE:
		on_nonce(q);
		break;
	case HELD:
		on_held(q);
		break;
	case APPEND:
	case SCAN:
		hand_to_journal(q);
		break;
	case REGISTER:
		on_register(q);
		break;
	case TIME:
		on_time(q);
		break;
	}
}

static void *serve_datagrams(void *arg)
{
	(void)arg;
	for (;;) {
		struct question q;
		char data[sizeof(q.head) + sizeof(q.body)];
		socklen_t size = sizeof(q.from);
		ssize_t n = recvfrom(datagrams, data, sizeof(data), 0,
				     (struct sockaddr *)&q.from, &size);

		if (n < (ssize_t)sizeof(q.head))
			continue;
		memcpy(&q.head, data, sizeof(q.head));
		if (q.head.magic != MAGIC)
			continue;
		q.len = (size_t)n - sizeof(q.head);
		memcpy(q.body, data + sizeof(q.head), q.len);
		take(&q);
	}
	return NULL;
}

/* All slots are there from the beginning: no size has to be made durable later. */
static int open_journal(void)
{
	static const char zeros[SECTOR];

	journal.fd = open(JOURNAL_PATH, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (journal.fd < 0)
		return -1;
	for (off_t at = lseek(journal.fd, 0, SEEK_END) / SECTOR * SECTOR;
	     at < (off_t)(SLOTS * SECTOR); at += SECTOR)
		if (pwrite(journal.fd, zeros, SECTOR, at) != SECTOR)
			return -1;
	journal.direct = open(JOURNAL_PATH, O_RDONLY | O_DIRECT | O_CLOEXEC);
	return fsync(journal.fd);
}

void start_faults(void)
{
	if (open_journal() < 0) {
		say(SERVICE, JOURNAL_PATH);
		return;
	}
	datagrams = bound_socket(SOCK_DGRAM, PORT);
	if (datagrams < 0) {
		say(SERVICE, "bind");
		return;
	}
	start_thread(keep_journal, NULL);
	start_thread(serve_datagrams, NULL);
	listen_on(SERVICE, PORT, talk_chain);
	listen_on(SERVICE, PORT + 1, talk_held);
}
