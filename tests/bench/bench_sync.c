/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First sync between two machines in this process, beside a plain copy of as many bytes over
 * the same kind of channel, the two in turn: memory that does not compress, a disk that
 * differs everywhere, and one that is equal.
 *
 * Both machines and both ends of the channel share this machine's processors, perhaps with
 * others: so beside the speed stands what a processor did in a second that it spent on us.
 *
 * bench_sync [MIB [ROUNDS [CONNECTIONS [memory | disk_differs | disk_equal]]]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/micro/pair.h"

#define MIB (G_GUINT64_CONSTANT(1) << 20)
#define WORK_START (32 * MIB) /* below is the micro-guest itself */
#define DEADLINE_MS 60000u

struct speed {
	double wall, processor; /* GB per second */
};

struct watch {
	guint64 wall_ns, processor_ns;
};

/* What this process has spent on all its threads. */
static guint64 processor_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	return (guint64)spent.tv_sec * 1000000000u + (guint64)spent.tv_nsec;
}

static struct watch start_watch(void)
{
	return (struct watch){ base_clock_monotonic_ns(), processor_ns() };
}

static struct speed stop_watch(struct watch watch, guint64 bytes)
{
	return (struct speed){
		(double)bytes / (double)(base_clock_monotonic_ns() - watch.wall_ns),
		(double)bytes / (double)(processor_ns() - watch.processor_ns),
	};
}

static void keep_best(struct speed *best, struct speed speed)
{
	best->wall = MAX(best->wall, speed.wall);
	best->processor = MAX(best->processor, speed.processor);
}

static void fill(guint8 *bytes, guint64 len, guint64 seed)
{
	for (guint64 i = 0; i + 8 <= len; i += 8) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(bytes + i, &seed, 8);
	}
}

struct copy {
	base_channel *ends[2];
	const base_key *key;
	int fd;
	guint64 bytes;
};

static void *serve(void *data)
{
	struct copy *copy = data;

	copy->ends[1] = base_channel_new_take(copy->fd, TRUE, copy->key, ckpt_rules,
					      DEADLINE_MS, NULL);
	return NULL;
}

static void *receive(void *data)
{
	struct copy *copy = data;
	struct base_message message;

	for (guint64 got = 0; got < copy->bytes; got += message.length)
		if (!base_channel_receive(copy->ends[1], &message, DEADLINE_MS, NULL))
			g_error("copy: receive");
	return NULL;
}

/* A copy of so many bytes by messages of a batch's length. */
static struct speed plain_copy(const base_key *key, guint64 bytes)
{
	struct copy copy = { .key = key, .bytes = bytes };
	g_autofree guint8 *from = g_malloc(bytes);
	struct watch watch;
	struct speed speed;
	GThread *thread;
	int fds[2];

	fill(from, bytes, 1);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		g_error("socketpair: %s", g_strerror(errno));
	copy.fd = fds[1];
	thread = g_thread_new("serve", serve, &copy);
	copy.ends[0] = base_channel_new_take(fds[0], FALSE, key, ckpt_rules,
					     DEADLINE_MS, NULL);
	g_thread_join(thread);
	if (!copy.ends[0] || !copy.ends[1])
		g_error("copy: handshake");
	watch = start_watch();
	thread = g_thread_new("receive", receive, &copy);
	for (guint64 sent = 0; sent < bytes; sent += CKPT_BATCH_MAX) {
		struct iovec iov = { from + sent, MIN(CKPT_BATCH_MAX, bytes - sent) };

		if (!base_channel_send(copy.ends[0], CKPT_PAGES, 1, &iov, 1,
				       DEADLINE_MS, NULL))
			g_error("copy: send");
	}
	if (!base_channel_flush(copy.ends[0], DEADLINE_MS, NULL))
		g_error("copy: flush");
	g_thread_join(thread);
	speed = stop_watch(watch, bytes);
	base_channel_free(copy.ends[0]);
	base_channel_free(copy.ends[1]);
	return speed;
}

static void fill_file(const char *path, guint64 bytes, guint64 seed)
{
	g_autofree guint8 *piece = g_malloc(MIB);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	for (guint64 at = 0; at < bytes; at += MIB) {
		fill(piece, MIB, seed + at);
		if (pwrite(fd, piece, MIB, (off_t)at) != (gssize)MIB)
			g_error("write %s: %s", path, g_strerror(errno));
	}
	close(fd);
}

enum what { MEMORY, DISK_DIFFERS, DISK_EQUAL };
static const char *const names[] = { "memory", "disk_differs", "disk_equal" };

static struct pair *make(enum what what, guint64 bytes)
{
	const struct micro_options options = {
		.memory = what == MEMORY ? bytes + WORK_START : 0,
	};
	const guint64 disk = what == MEMORY ? 0 : bytes;
	const struct pair_setup setup = { .disk_bytes = { disk, disk } };
	struct pair *pair = pair_make(&options, &setup);

	if (what == MEMORY)
		fill(vmm_memory_page(vmm_machine_memory(micro_machine(pair->first)),
				     WORK_START / CKPT_PAGE),
		     bytes, 3);
	for (guint i = 0; what != MEMORY && i < 2; i++)
		fill_file(pair->disks[i], bytes, what == DISK_EQUAL ? 5 : i);
	return pair;
}

/* From the first message to the first commit. */
static struct speed sync_once(enum what what, guint64 bytes, guint connections,
			      struct speed *plain)
{
	struct pair *pair = make(what, bytes);
	GError *errors[2] = { NULL, NULL };
	struct ckpt_primary_options options;
	struct watch watch;
	struct speed speed;

	ckpt_primary_options_init(&options);
	options.silence_ms = 20000;
	options.connections = connections;
	*plain = plain_copy(pair->key, bytes);
	watch = start_watch();
	if (!pair_join(pair, &options, errors))
		g_error("the two could not join");
	while (!pair_committed(pair) && !g_atomic_int_get(&pair->primary_lost))
		g_usleep(200);
	speed = stop_watch(watch, bytes);
	if (!pair_committed(pair))
		g_error("lost: %s", pair->why[0]);
	pair_free(pair);
	return speed;
}

int main(int argc, char **argv)
{
	guint64 bytes = (argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 512) * MIB;
	guint rounds = argc > 2 ? (guint)atoi(argv[2]) : 3;
	guint connections = argc > 3 ? (guint)atoi(argv[3]) : 2;

	micro_need_kvm();
	for (enum what what = MEMORY; what <= DISK_EQUAL; what++) {
		struct speed best = { 0 }, best_plain = { 0 };

		if (argc > 4 && strcmp(argv[4], names[what]))
			continue;
		for (guint i = 0; i < rounds; i++) {
			struct speed plain, speed = sync_once(what, bytes, connections,
								      &plain);

			keep_best(&best, speed);
			keep_best(&best_plain, plain);
		}
		printf("sync %s MiB=%" G_GUINT64_FORMAT " GB/s=%.2f core=%.2f "
		       "plain_GB/s=%.2f plain_core=%.2f ratio=%.2f core_ratio=%.2f\n",
		       names[what], bytes / MIB, best.wall, best.processor,
		       best_plain.wall, best_plain.processor,
		       best.wall / best_plain.wall,
		       best.processor / best_plain.processor);
		fflush(stdout);
	}
	return 0;
}
