/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the comparator costs, beside a queue whose every packet is accepted at once, in
 * the same run and in turn: a bulk stream out of the guest, requests and answers one at
 * a time, their latency, and processor time for each packet.
 *
 * The guest is a network namespace behind a port of a bridge, and so is the client. The
 * secondary's guest is a perfect twin: whatever the guest sends is captured at its
 * port, before the queue, and told to the comparator; that costs this machine as much
 * again as the comparison itself, so the plain queue is also measured with the same
 * capture going on.
 *
 * bench_netcompare [SECONDS [ROUNDS]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/output.h"
#include "netcompare/rule.h"

#define QUEUE 11
#define PORT_BULK 5001
#define PORT_TRIP 5002
#define CLIENT_PAUSE_US 100000
#define TRIPS_MAX 2000000u
#define ROUNDS_MAX 15u

enum way { DIRECT, PLAIN, PLAIN_CAPTURED, COMPARED, WAYS };
static const char *const way_names[] = { "no queue", "accept all",
					 "accept all + capture", "comparator" };

struct result {
	double mib_s, trips_s, p50_us, p99_us, cpu_us; /* for each packet */
	double requests; /* for checkpoints: the twin was late */
};

static G_NORETURN void die(const char *what)
{
	fprintf(stderr, "bench_netcompare: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A child that goes with us. */
static pid_t start(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void shell(const char *text)
{
	if (system(text) != 0) {
		fprintf(stderr, "bench_netcompare: failed: %s\n", text);
		exit(1);
	}
}

/* Namespaces. */

static pid_t make_namespace(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		die("pipe");
	pid = start();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0)
			die("unshare");
		if (write(ready[1], "x", 1) != 1)
			die("write");
		for (;;)
			pause();
	}
	if (read(ready[0], &byte, 1) != 1)
		die("read");
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void enter(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die("setns");
	close(fd);
}

static void make_network(pid_t guest, pid_t client)
{
	g_autofree char *text = g_strdup_printf(
		"set -e; ip link set lo up; "
		"ip link add br0 type bridge forward_delay 0 stp_state 0 "
		"mcast_snooping 0; "
		"ip link add guest0 type veth peer name eth0 netns %d; "
		"ip link add client0 type veth peer name eth0 netns %d; "
		"for i in guest0 client0; do ip link set $i master br0 up; done; "
		"ip link set br0 up; "
		"nsenter -t %d -n ip addr add 10.97.0.2/24 dev eth0; "
		"nsenter -t %d -n ip link set eth0 up; "
		"nsenter -t %d -n ip addr add 10.97.0.3/24 dev eth0; "
		"nsenter -t %d -n ip link set eth0 up",
		guest, client, guest, guest, client, client);

	shell(text);
}

/* Traffic. */

static int listen_at(guint16 port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 8) < 0)
		die("listen");
	return fd;
}

static void serve_bulk(int fd)
{
	static char bytes[1 << 18];

	while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0)
		;
}

static void serve_trips(int fd)
{
	char bytes[64];
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes) &&
	       send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) == sizeof(bytes))
		;
}

static pid_t start_server(pid_t guest, guint16 port, void (*serve)(int fd))
{
	pid_t pid = start();
	int listener;

	if (pid)
		return pid;
	enter(guest);
	listener = listen_at(port);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		serve(fd);
		close(fd);
	}
}

static int connect_to(guint16 port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	address.sin_addr.s_addr = inet_addr("10.97.0.2");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	return fd;
}

static double seconds_since(guint64 began)
{
	return (double)(base_clock_monotonic_ns() - began) / 1e9;
}

static void measure_bulk(double seconds, struct result *result)
{
	static char bytes[1 << 20];
	int fd = connect_to(PORT_BULK);
	guint64 began, total = 0;

	/* What the first moments carry says little. */
	for (began = base_clock_monotonic_ns(); seconds_since(began) < 0.3;)
		if (recv(fd, bytes, sizeof(bytes), 0) <= 0)
			die("receive");
	for (began = base_clock_monotonic_ns(); seconds_since(began) < seconds;) {
		gssize got = recv(fd, bytes, sizeof(bytes), 0);

		if (got <= 0)
			die("receive");
		total += (guint64)got;
	}
	result->mib_s = (double)total / seconds_since(began) / (1 << 20);
	close(fd);
}

static int compare_ns(const void *one, const void *other)
{
	const guint32 *a = one, *b = other;

	return *a < *b ? -1 : *a > *b;
}

static void measure_trips(double seconds, struct result *result)
{
	g_autofree guint32 *times = g_new(guint32, TRIPS_MAX);
	char bytes[64] = { 0 };
	int fd = connect_to(PORT_TRIP);
	guint64 began = base_clock_monotonic_ns();
	guint n = 0;

	while (seconds_since(began) < seconds && n < TRIPS_MAX) {
		guint64 at = base_clock_monotonic_ns();

		if (send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes) ||
		    recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
			die("round trip");
		times[n++] = (guint32)MIN(base_clock_monotonic_ns() - at, G_MAXUINT32);
	}
	result->trips_s = n / seconds_since(began);
	qsort(times, n, sizeof(*times), compare_ns);
	result->p50_us = times[n / 2] / 1e3;
	result->p99_us = times[(guint64)n * 99 / 100] / 1e3;
	close(fd);
}

/* In the client's namespace. */
static void measure(pid_t client, double seconds, struct result *result)
{
	int results[2];
	pid_t pid;

	if (pipe(results) < 0)
		die("pipe");
	pid = start();
	if (pid == 0) {
		enter(client);
		measure_bulk(seconds, result);
		measure_trips(seconds, result);
		_exit(write(results[1], result, sizeof(*result)) != sizeof(*result));
	}
	close(results[1]);
	if (read(results[0], result, sizeof(*result)) != sizeof(*result)) {
		fprintf(stderr, "bench_netcompare: the client failed\n");
		exit(1);
	}
	close(results[0]);
	waitpid(pid, NULL, 0);
}

/* A queue whose every packet is accepted: a library's example, with GSO. It writes how
 * many it has seen where we read it. */

struct shared {
	guint64 packets; /* of the plain queue */
	guint64 requests; /* of the comparator */
	int ready;
};

static int accept_packet(struct nfq_q_handle *queue, struct nfgenmsg *message,
			 struct nfq_data *packet, void *data)
{
	struct nfqnl_msg_packet_hdr *head = nfq_get_msg_packet_hdr(packet);
	struct shared *shared = data;

	shared->packets++;
	return nfq_set_verdict(queue, ntohl(head->packet_id), NF_ACCEPT, 0, NULL);
}

static pid_t start_plain(struct shared *shared)
{
	static char buffer[1 << 17];
	struct nfq_handle *handle;
	struct nfq_q_handle *queue;
	int bytes = 64 << 20;
	pid_t pid = start();

	if (pid)
		return pid;
	handle = nfq_open();
	queue = handle ? nfq_create_queue(handle, QUEUE, accept_packet, shared) : NULL;
	if (!queue || nfq_set_queue_flags(queue, NFQA_CFG_F_GSO, NFQA_CFG_F_GSO) < 0 ||
	    nfq_set_queue_maxlen(queue, 65536) < 0 ||
	    nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0)
		die("bind the queue");
	setsockopt(nfq_fd(handle), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	shared->ready = 1;
	for (;;) {
		gssize got = recv(nfq_fd(handle), buffer, sizeof(buffer), 0);

		if (got > 0)
			nfq_handle_packet(handle, buffer, (int)got);
	}
}

/* The twin: captures what the guest sends, tells the comparator, and answers it with
 * checkpoints. */

struct twin {
	int capture; /* at the guest's port; with virtio_net_hdr (10 bytes) */
	int inject; /* in the guest's namespace */
	int vm; /* the comparator; -1: what is captured is only read */
	guint8 mac[6];
	guint8 secret[WIRE_OUTPUT_SECRET];
	guint64 cut, epoch; /* said; seen in what was captured */
	guint64 cut_ns;
	struct shared *shared;
};

static int packet_socket(const char *interface, gboolean with_header)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = (int)if_nametoindex(interface) };
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	int bytes = 256 << 20, on = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (with_header &&
	    (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	     setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0))
		die("capture");
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("packet socket");
	return fd;
}

static void say(struct twin *twin, guint16 type, guint64 epoch, const void *bytes,
		gsize len)
{
	struct wire_output_head head = { .type = wire_put16(type),
					 .length = wire_put32((guint32)len),
					 .epoch = wire_put64(epoch) };
	const struct iovec parts[] = { { &head, sizeof(head) },
				       { (void *)bytes, len } };
	struct msghdr message = { .msg_iov = (struct iovec *)parts, .msg_iovlen = 2 };

	if (sendmsg(twin->vm, &message, MSG_NOSIGNAL) < 0)
		die("tell the comparator");
}

static void begin_epoch(struct twin *twin)
{
	struct wire_marker marker = { .magic = wire_put32(WIRE_MARKER_MAGIC) };
	struct wire_output_cut cut = { .run = 1 };
	guint8 frame[66] = { 0 };
	guint32 sum = 0;

	twin->cut++;
	twin->cut_ns = base_clock_monotonic_ns();
	say(twin, WIRE_OUTPUT_CUT, twin->cut, &cut, sizeof(cut));
	memcpy(frame, twin->mac, 6);
	memcpy(frame + 6, twin->mac, 6);
	frame[12] = 8;
	frame[14] = 0x45;
	frame[17] = 52;
	frame[23] = WIRE_MARKER_PROTOCOL;
	for (guint i = 14; i < 34; i += 2)
		sum += (guint32)frame[i] << 8 | frame[i + 1];
	sum = ~((sum & 0xffff) + (sum >> 16));
	frame[24] = (guint8)(sum >> 8);
	frame[25] = (guint8)sum;
	marker.epoch = wire_put64(twin->cut);
	memcpy(marker.secret, twin->secret, sizeof(marker.secret));
	memcpy(frame + 34, &marker, sizeof(marker));
	if (send(twin->inject, frame, sizeof(frame), 0) < 0)
		die("send a marker");
}

static void take_frame(struct twin *twin, guint8 *bytes, gsize len)
{
	const guint8 *frame = bytes + 12;

	if (len == 12 + 66 && frame[23] == WIRE_MARKER_PROTOCOL && frame[12] == 8 &&
	    frame[13] == 0) {
		twin->epoch = twin->cut;
		say(twin, WIRE_OUTPUT_COMMITTED, twin->epoch, NULL, 0);
		twin->shared->ready = 1;
	} else if (twin->epoch == twin->cut && len <= WIRE_OUTPUT_FRAME_MAX) {
		say(twin, WIRE_OUTPUT_FRAME, twin->epoch, bytes, len);
	}
}

static void take_word(struct twin *twin)
{
	guint8 bytes[4096];
	gssize got = recv(twin->vm, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct wire_output_gate gate = { .kind = wire_put32(WIRE_GATE_GUARDED) };

	if (got == 0)
		_exit(0);
	if (got < 0)
		return;
	if (bytes[0] == WIRE_OUTPUT_READY) {
		say(twin, WIRE_OUTPUT_GATE, 0, &gate, sizeof(gate));
		begin_epoch(twin);
	} else if (bytes[0] == WIRE_OUTPUT_REQUEST) {
		twin->shared->requests++;
		if (twin->epoch == twin->cut)
			begin_epoch(twin);
	}
}

static void run_twin(struct twin *twin)
{
	static guint8 bytes[1 << 17];

	for (;;) {
		struct pollfd polled[] = { { twin->capture, POLLIN },
					   { twin->vm, POLLIN } };

		poll(polled, twin->vm < 0 ? 1 : 2, 100);
		if (twin->vm >= 0 && (polled[1].revents || twin->epoch != twin->cut))
			take_word(twin);
		if (twin->vm >= 0 && twin->epoch != twin->cut &&
		    base_clock_monotonic_ns() - twin->cut_ns > 200000000)
			begin_epoch(twin); /* the capture has lost it */
		for (guint i = 0; i < 64; i++) {
			gssize got = recv(twin->capture, bytes + 2, sizeof(bytes) - 2,
					  MSG_DONTWAIT);

			if (got <= 10)
				break;
			if (twin->vm < 0)
				continue;
			/* A guest's card has two bytes more before its frames. */
			memset(bytes, 0, 12);
			take_frame(twin, bytes, (gsize)got + 2);
		}
	}
}

static void greet(struct twin *twin, int listener)
{
	struct wire_output_hello hello = { wire_put32(WIRE_OUTPUT_VERSION),
					   wire_put32(1) };
	int bytes = 4 << 20;

	twin->vm = accept(listener, NULL, NULL);
	if (twin->vm < 0)
		die("accept the comparator");
	setsockopt(twin->vm, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	memcpy(twin->secret, "bench's secret..", sizeof(twin->secret));
	memcpy(hello.secret, twin->secret, sizeof(hello.secret));
	say(twin, WIRE_OUTPUT_HELLO, 0, &hello, sizeof(hello));
}

static pid_t start_twin(pid_t guest, int listener, struct shared *shared)
{
	struct twin twin = { .vm = -1, .shared = shared };
	char text[32] = "";
	pid_t pid = start();
	FILE *file;

	if (pid)
		return pid;
	twin.capture = packet_socket("guest0", TRUE);
	enter(guest);
	twin.inject = packet_socket("eth0", FALSE);
	shutdown(twin.inject, SHUT_RD);
	file = popen("ip -o link show dev eth0 | sed 's/.*ether //; s/ .*//'", "r");
	if (!file || !fgets(text, sizeof(text), file) ||
	    sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &twin.mac[0], &twin.mac[1],
		   &twin.mac[2], &twin.mac[3], &twin.mac[4], &twin.mac[5]) != 6)
		die("read the guest's address");
	pclose(file);
	if (listener >= 0)
		greet(&twin, listener);
	else
		shared->ready = 1;
	run_twin(&twin);
	_exit(0);
}

/* The comparator itself. */

static char *program_path(const char *self)
{
	g_autofree char *dir = g_path_get_dirname(self);

	return g_build_filename(dir, "..", "..", "colo-netcompare", NULL);
}

static int listen_vm(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 1) < 0)
		die("serve the comparator");
	return fd;
}

static pid_t start_comparator(const char *program, const char *socket_path,
			      const char *control)
{
	g_autofree char *queue = g_strdup_printf("%u", QUEUE);
	pid_t pid = start();

	if (pid)
		return pid;
	if (freopen("/dev/null", "w", stderr) == NULL)
		die("open /dev/null");
	execl(program, program, "--vm", socket_path, "--queue", queue, "--tap",
	      "guest0", "--rule", "none", "--mode", "colo", "--control", control, NULL);
	die("run colo-netcompare");
}

/* A number that the comparator's status has first of this name. */
static double ask(const char *control, const char *name)
{
	static const char request[] = "{\"command\":\"status\"}\n";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	g_autofree char *key = g_strdup_printf("\"%s\":", name);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char answer[16384] = "";
	gsize len = 0;
	gssize got;
	char *at;

	g_strlcpy(address.sun_path, control, sizeof(address.sun_path));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    send(fd, request, strlen(request), 0) < 0)
		die("ask the comparator");
	while (!strchr(answer, '\n') && len < sizeof(answer) - 1 &&
	       (got = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0)
		len += (gsize)got;
	close(fd);
	at = strstr(answer, "\"queue\":");
	at = at ? strstr(at, key) : NULL;
	return at ? atof(at + strlen(key)) : 0;
}

/* Processor time of another process, in us. */
static double cpu_us(pid_t pid)
{
	unsigned long user = 0, kernel = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file ||
	    fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
		   &user, &kernel) != 2)
		die("read processor time");
	fclose(file);
	return (double)(user + kernel) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

static void wait_ready(struct shared *shared)
{
	for (guint i = 0; i < 500 && !*(volatile int *)&shared->ready; i++)
		usleep(10000);
	if (!*(volatile int *)&shared->ready)
		die("wait for a helper");
	shared->ready = 0;
}

struct stage {
	pid_t guest, client;
	const char *program;
	char *socket_path, *control;
	int listener;
	struct shared *shared;
	double seconds;
};

static void run_plain(const struct stage *stage, gboolean captured,
		      struct result *result)
{
	pid_t plain = start_plain(stage->shared), twin = 0;
	guint64 packets;
	double cpu;

	wait_ready(stage->shared);
	if (captured) {
		twin = start_twin(stage->guest, -1, stage->shared);
		wait_ready(stage->shared);
	}
	packets = stage->shared->packets;
	cpu = cpu_us(plain);
	measure(stage->client, stage->seconds, result);
	result->cpu_us =
		(cpu_us(plain) - cpu) / (double)(stage->shared->packets - packets);
	if (twin)
		end(twin);
	end(plain);
}

static void run_compared(const struct stage *stage, struct result *result)
{
	pid_t twin = start_twin(stage->guest, stage->listener, stage->shared);
	pid_t comparator =
		start_comparator(stage->program, stage->socket_path, stage->control);
	double cpu, packets;

	wait_ready(stage->shared);
	usleep(CLIENT_PAUSE_US);
	packets = ask(stage->control, "packets");
	cpu = cpu_us(comparator);
	stage->shared->requests = 0;
	measure(stage->client, stage->seconds, result);
	result->cpu_us =
		(cpu_us(comparator) - cpu) / (ask(stage->control, "packets") - packets);
	result->requests = (double)stage->shared->requests;
	end(comparator);
	end(twin);
}

static void run_way(const struct stage *stage, enum way way, struct result *result)
{
	static const char *const taps[] = { "guest0", NULL };
	struct ncmp_rule rule = { NCMP_RULE_AUTO, QUEUE, taps };
	enum ncmp_rule_way used;
	g_autoptr(GError) error = NULL;

	*result = (struct result){ 0 };
	if (way == DIRECT ? !ncmp_rule_remove(&rule, &error)
			  : !ncmp_rule_put(&rule, &used, &error)) {
		fprintf(stderr, "bench_netcompare: %s\n", error->message);
		exit(1);
	}
	if (way == DIRECT)
		measure(stage->client, stage->seconds, result);
	else if (way == COMPARED)
		run_compared(stage, result);
	else
		run_plain(stage, way == PLAIN_CAPTURED, result);
	/* Two queues at once would be one too many. */
	usleep(CLIENT_PAUSE_US);
}

static int compare_doubles(const void *one, const void *other)
{
	const double *a = one, *b = other;

	return *a < *b ? -1 : *a > *b;
}

static double median(const struct result results[][WAYS], guint rounds, enum way way,
		     gsize offset)
{
	double values[ROUNDS_MAX];

	for (guint i = 0; i < rounds; i++)
		values[i] = G_STRUCT_MEMBER(double, &results[i][way], offset);
	qsort(values, rounds, sizeof(*values), compare_doubles);
	return values[rounds / 2];
}

#define MEDIAN(way, member) \
	median(results, rounds, way, G_STRUCT_OFFSET(struct result, member))

static void report(const struct result results[][WAYS], guint rounds)
{
	for (guint way = 0; way < WAYS; way++)
		printf("%-22s %7.0f MiB/s  %7.0f trips/s  p50 %6.1f us  p99 %6.1f us  "
		       "%5.2f us of processor a packet  %.0f requests\n",
		       way_names[way], MEDIAN(way, mib_s), MEDIAN(way, trips_s),
		       MEDIAN(way, p50_us), MEDIAN(way, p99_us), MEDIAN(way, cpu_us),
		       MEDIAN(way, requests));
	printf("bulk:  comparator / accept all = %.2f (aim 0.5); / with capture = "
	       "%.2f\n",
	       MEDIAN(COMPARED, mib_s) / MEDIAN(PLAIN, mib_s),
	       MEDIAN(COMPARED, mib_s) / MEDIAN(PLAIN_CAPTURED, mib_s));
	printf("trips: comparator / accept all = %.2f (aim 0.7); / with capture = "
	       "%.2f\n",
	       MEDIAN(COMPARED, trips_s) / MEDIAN(PLAIN, trips_s),
	       MEDIAN(COMPARED, trips_s) / MEDIAN(PLAIN_CAPTURED, trips_s));
	printf("added to a round trip: p50 %+.1f us, p99 %+.1f us over accept all\n",
	       MEDIAN(COMPARED, p50_us) - MEDIAN(PLAIN, p50_us),
	       MEDIAN(COMPARED, p99_us) - MEDIAN(PLAIN, p99_us));
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	guint rounds = argc > 2 ? (guint)CLAMP(atoi(argv[2]), 1, (int)ROUNDS_MAX) : 3;
	struct result results[ROUNDS_MAX][WAYS];
	g_autofree char *directory = NULL, *program = program_path(argv[0]);
	struct stage stage = { .program = program, .seconds = seconds };

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		printf("bench_netcompare: not run: needs root\n");
		return 0;
	}
	directory = g_dir_make_tmp("colo-bench-XXXXXX", NULL);
	stage.socket_path = g_build_filename(directory, "vm.sock", NULL);
	stage.control = g_build_filename(directory, "control.sock", NULL);
	stage.listener = listen_vm(stage.socket_path);
	stage.shared = mmap(NULL, sizeof(*stage.shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stage.guest = make_namespace();
	stage.client = make_namespace();
	make_network(stage.guest, stage.client);
	start_server(stage.guest, PORT_BULK, serve_bulk);
	start_server(stage.guest, PORT_TRIP, serve_trips);
	usleep(CLIENT_PAUSE_US);
	for (guint round = 0; round < rounds; round++)
		for (guint way = 0; way < WAYS; way++)
			run_way(&stage, way, &results[round][way]);
	report(results, rounds);
	unlink(stage.socket_path);
	unlink(stage.control);
	rmdir(directory);
	return 0;
}
