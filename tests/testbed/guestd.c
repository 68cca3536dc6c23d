// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guestd.c: the services of a test guest, in one static program (with guestd_faults.c).
 *
 * usage: guestd SERVICE[,SERVICE...]
 *   echo     TCP port 7: sends back what it gets
 *   udp      UDP port 7: sends back each datagram
 *   http     TCP port 80: a fixed page; GET /N answers with N bytes of 'x', GET /chat with
 *            how many messages there are in the chat and their chain
 *   journal  TCP port 9001: appends each line to /mnt/journal as "NUMBER LINE", makes
 *            it durable, and only then answers with the same; numbers go on after a restart
 *   chat     TCP port 9003: appends each line to /mnt/chat as "LINE CHAIN", makes it
 *            durable, and only then answers "COUNT CHAIN": how many lines there are, and
 *            the FNV-1a hash of the chain before, a space and the line
 *   clock    TCP port 9002: one thread for each processor reads CLOCK_MONOTONIC and
 *            CLOCK_REALTIME every millisecond; a connection gets the findings as text
 *   faults   all that the fault harness' client uses (guestd_faults.c): ports 9010 and 9011,
 *            and the file /mnt/faults
 *   power    syncs and powers off when the power button is pressed
 *
 * Answers depend only on what came in (never on a clock or a random number, the clock
 * and faults services aside), so that two replicas of a guest send the same.
 */
#define _GNU_SOURCE
#include "guestd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX 64
#define HTTP_BYTES_MAX 1073741824L
#define CHAIN_DIGITS 16

/* A file that grows by lines, each durable before it is answered. */
struct log {
	const char *path;
	pthread_mutex_t lock;
	int fd;
	unsigned long count;
	uint64_t chain;
};

struct server {
	int sock;
	void (*talk)(int conn);
};

struct clock_cpu {
	atomic_ullong samples;
	atomic_ullong backward;
	atomic_ullong gap_max_ns;
};

static const clockid_t clock_ids[] = { CLOCK_MONOTONIC, CLOCK_REALTIME };
#define CLOCK_KINDS (sizeof(clock_ids) / sizeof(*clock_ids))

static struct clock_cpu clocks[CPUS_MAX];
static atomic_ullong clock_newest_ns[CLOCK_KINDS];
static long clock_cpus;
static struct log journal = { "/mnt/journal", PTHREAD_MUTEX_INITIALIZER, -1, 0, 0 };
static struct log chat = { "/mnt/chat", PTHREAD_MUTEX_INITIALIZER, -1, 0, 0 };

void say(const char *service, const char *what)
{
	fprintf(stderr, "guestd: %s: %s: %s\n", service, what, strerror(errno));
}

int write_all(int fd, const char *from, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

void start_thread(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, arg) == 0)
		pthread_detach(thread);
}

int bound_socket(int type, int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port) };
	int yes = 1, sock = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(sock, (struct sockaddr *)&any, sizeof(any)) < 0)
		return -1;
	return sock;
}

static void *serve_one(void *arg)
{
	struct server one = *(struct server *)arg;

	free(arg);
	one.talk(one.sock);
	close(one.sock);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct server *server = arg;

	for (;;) {
		struct server *one;
		int conn = accept4(server->sock, NULL, NULL, SOCK_CLOEXEC);

		if (conn < 0)
			continue;
		one = malloc(sizeof(*one));
		if (!one) {
			close(conn);
			continue;
		}
		one->sock = conn;
		one->talk = server->talk;
		start_thread(serve_one, one);
	}
	return NULL;
}

void listen_on(const char *service, int port, void (*talk)(int conn))
{
	struct server *server = malloc(sizeof(*server));

	if (!server)
		return;
	server->talk = talk;
	server->sock = bound_socket(SOCK_STREAM, port);
	if (server->sock < 0 || listen(server->sock, 128) < 0) {
		say(service, "listen");
		return;
	}
	start_thread(accept_all, server);
}

static void talk_echo(int conn)
{
	char data[65536];
	ssize_t n;

	while ((n = read(conn, data, sizeof(data))) > 0)
		if (write_all(conn, data, (size_t)n) < 0)
			return;
}

static void *udp_echo(void *arg)
{
	int sock = bound_socket(SOCK_DGRAM, 7);
	char data[65536];

	(void)arg;
	if (sock < 0) {
		say("udp", "bind");
		return NULL;
	}
	for (;;) {
		struct sockaddr_in from;
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(sock, data, sizeof(data), 0, (void *)&from, &size);

		if (n >= 0)
			sendto(sock, data, (size_t)n, 0, (void *)&from, size);
	}
}

/* Numbers go on after the last whole line; one torn by a power failure is cut off. */
static int open_log(struct log *log)
{
	char data[65536], digits[CHAIN_DIGITS + 1] = "";
	off_t at = 0, whole = 0;
	ssize_t n;

	log->fd = open(log->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (log->fd < 0)
		return -1;
	while ((n = pread(log->fd, data, sizeof(data), at)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (data[i] == '\n') {
				log->count++;
				whole = at + i + 1;
			}
		}
		at += n;
	}
	/* the journal's lines have none, and do not ask for it */
	if (whole > CHAIN_DIGITS && pread(log->fd, digits, CHAIN_DIGITS,
					  whole - 1 - CHAIN_DIGITS) == CHAIN_DIGITS)
		log->chain = strtoull(digits, NULL, 16);
	if (ftruncate(log->fd, whole) < 0 || lseek(log->fd, whole, SEEK_SET) < 0)
		return -1;
	return fsync(log->fd);
}

/* With the lock held. */
static int append_entry(struct log *log, const char *entry, int len, size_t size)
{
	if (len <= 0 || (size_t)len >= size ||
	    write_all(log->fd, entry, (size_t)len) < 0 || fdatasync(log->fd) < 0)
		return -1;
	log->count++;
	return 0;
}

static int journal_append(const char *line, char *entry, size_t size)
{
	int len, result;

	pthread_mutex_lock(&journal.lock);
	len = snprintf(entry, size, "%lu %s\n", journal.count + 1, line);
	result = append_entry(&journal, entry, len, size);
	pthread_mutex_unlock(&journal.lock);
	return result;
}

static uint64_t chain_on(uint64_t chain, const char *line)
{
	char before[CHAIN_DIGITS + 2];
	uint64_t hash = 0xcbf29ce484222325u;

	snprintf(before, sizeof(before), "%016" PRIx64 " ", chain);
	for (const char *part = before; part; part = part == before ? line : NULL)
		for (const char *at = part; *at; at++)
			hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
	return hash;
}

static int chat_append(const char *line, char *answer, size_t size)
{
	char entry[4200];
	uint64_t chain;
	int len, result;

	pthread_mutex_lock(&chat.lock);
	chain = chain_on(chat.chain, line);
	len = snprintf(entry, sizeof(entry), "%s %016" PRIx64 "\n", line, chain);
	result = append_entry(&chat, entry, len, sizeof(entry));
	if (result == 0)
		chat.chain = chain;
	snprintf(answer, size, "%lu %016" PRIx64 "\n", chat.count, chain);
	pthread_mutex_unlock(&chat.lock);
	return result;
}

static void page_of_chat(char *page, size_t size)
{
	pthread_mutex_lock(&chat.lock);
	snprintf(page, size,
		 "<html><body>%lu messages, chain %016" PRIx64 "</body></html>\n",
		 chat.count, chat.chain);
	pthread_mutex_unlock(&chat.lock);
}

static void talk_http(int conn)
{
	static const char page[] = "<html><body>colo-guest</body></html>\n";
	char request[4096], head[256], fill[65536], told[128];
	const char *text = page;
	size_t have = 0;
	ssize_t n;
	long bytes = 0;

	do {
		n = read(conn, request + have, sizeof(request) - 1 - have);
		if (n <= 0)
			return;
		have += (size_t)n;
		request[have] = 0;
	} while (!strstr(request, "\r\n\r\n") && have < sizeof(request) - 1);

	if (!strncmp(request, "GET /chat ", 10)) {
		page_of_chat(told, sizeof(told));
		text = told;
	}
	if (sscanf(request, "GET /%ld", &bytes) != 1 || bytes < 0 ||
	    bytes > HTTP_BYTES_MAX)
		bytes = 0;
	snprintf(head, sizeof(head),
		 "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
		 "Content-Length: %ld\r\nConnection: close\r\n\r\n",
		 bytes ? bytes : (long)strlen(text));
	if (write_all(conn, head, strlen(head)) < 0)
		return;
	if (!bytes) {
		write_all(conn, text, strlen(text));
		return;
	}
	memset(fill, 'x', sizeof(fill));
	while (bytes > 0) {
		size_t part =
			(size_t)bytes < sizeof(fill) ? (size_t)bytes : sizeof(fill);

		if (write_all(conn, fill, part) < 0)
			return;
		bytes -= (long)part;
	}
}

static void talk_lines(int conn,
		       int (*append)(const char *line, char *answer, size_t size))
{
	FILE *in = fdopen(dup(conn), "r");
	char line[4096], answer[4200];

	if (!in)
		return;
	while (fgets(line, sizeof(line), in)) {
		size_t len = strlen(line);

		if (len == 0 || line[len - 1] != '\n')
			break;
		line[len - 1] = 0;
		if (append(line, answer, sizeof(answer)) < 0 ||
		    write_all(conn, answer, strlen(answer)) < 0)
			break;
	}
	fclose(in);
}

static void talk_journal(int conn)
{
	talk_lines(conn, journal_append);
}

static void talk_chat(int conn)
{
	talk_lines(conn, chat_append);
}

static unsigned long long now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (unsigned long long)t.tv_sec * 1000000000ull +
	       (unsigned long long)t.tv_nsec;
}

/* A reading below one that another processor took before is time running backwards. */
static unsigned long long read_clock(unsigned kind, struct clock_cpu *mine)
{
	unsigned long long newest = atomic_load(&clock_newest_ns[kind]);
	unsigned long long now = now_ns(clock_ids[kind]);

	if (now < newest)
		mine->backward++;
	while (now > newest &&
	       !atomic_compare_exchange_weak(&clock_newest_ns[kind], &newest, now))
		;
	return now;
}

static void *sample_clock(void *arg)
{
	struct clock_cpu *mine = arg;
	unsigned long long now, last = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((int)(mine - clocks), &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (;;) {
		for (unsigned kind = CLOCK_KINDS - 1; kind > 0; kind--)
			read_clock(kind, mine);
		now = read_clock(0, mine);
		if (last && now > last && now - last > mine->gap_max_ns)
			mine->gap_max_ns = now - last;
		last = now;
		mine->samples++;
		usleep(1000);
	}
	return NULL;
}

static void talk_clock(int conn)
{
	for (long i = 0; i < clock_cpus; i++)
		dprintf(conn, "cpu %ld samples %llu backward %llu gap_max_us %llu\n", i,
			(unsigned long long)clocks[i].samples,
			(unsigned long long)clocks[i].backward,
			(unsigned long long)clocks[i].gap_max_ns / 1000);
	dprintf(conn, "monotonic_ns %llu realtime_ns %llu\n", now_ns(CLOCK_MONOTONIC),
		now_ns(CLOCK_REALTIME));
}

static void start_clock(void)
{
	clock_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (clock_cpus > CPUS_MAX)
		clock_cpus = CPUS_MAX;
	for (long i = 0; i < clock_cpus; i++)
		start_thread(sample_clock, &clocks[i]);
	listen_on("clock", 9002, talk_clock);
}

static int has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1] = { 0 };

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       (keys[KEY_POWER / 8] & 1 << KEY_POWER % 8);
}

static void *watch_button(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct input_event event;

	while (read(fd, &event, sizeof(event)) == sizeof(event)) {
		if (event.type != EV_KEY || event.code != KEY_POWER || event.value != 1)
			continue;
		printf("colo-guest: power button\n");
		fflush(stdout);
		sync();
		reboot(RB_POWER_OFF);
	}
	return NULL;
}

static void start_power(void)
{
	char path[64];

	for (int i = 0; i < 32; i++) {
		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && has_power_key(fd))
			start_thread(watch_button, (void *)(intptr_t)fd);
		else if (fd >= 0)
			close(fd);
	}
}

static int start_service(const char *name)
{
	if (!strcmp(name, "echo"))
		listen_on(name, 7, talk_echo);
	else if (!strcmp(name, "udp"))
		start_thread(udp_echo, NULL);
	else if (!strcmp(name, "http"))
		listen_on(name, 80, talk_http);
	else if (!strcmp(name, "journal") && open_log(&journal) < 0)
		say(name, journal.path);
	else if (!strcmp(name, "journal"))
		listen_on(name, 9001, talk_journal);
	else if (!strcmp(name, "chat") && open_log(&chat) < 0)
		say(name, chat.path);
	else if (!strcmp(name, "chat"))
		listen_on(name, 9003, talk_chat);
	else if (!strcmp(name, "clock"))
		start_clock();
	else if (!strcmp(name, "faults"))
		start_faults();
	else if (!strcmp(name, "power"))
		start_power();
	else
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	char *name, *rest;

	if (argc != 2) {
		fprintf(stderr, "usage: guestd SERVICE[,SERVICE...]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	rest = argv[1];
	while ((name = strsep(&rest, ","))) {
		if (*name && start_service(name) < 0)
			fprintf(stderr, "guestd: no service \"%s\"\n", name);
	}
	for (;;)
		pause();
}
