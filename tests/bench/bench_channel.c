/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a channel carries over the host's loopback, beside GnuTLS alone with the same
 * cipher and records of 16 KiB on the same kind of socket, the two in turn; and round
 * trips of a small message. One thread sends and one receives, so each has a processor
 * if there are two.
 *
 * bench_channel [MIB [ROUNDS]]
 */
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/clock.h"
#include "base/tcp.h"

#define MIB (1u << 20)
#define RECORD 16384u
#define DEADLINE_MS 60000u
#define TRIPS 20000u

enum { BULK = 1, PING = 2 };
static const struct base_message_rule rules[] = {
	{ BULK, "bulk", 0, WIRE_PAYLOAD_MAX },
	{ PING, "ping", 0, 64 },
	{ 0 },
};

static void sockets(int fds[2])
{
	g_autoptr(GError) error = NULL;
	g_autofree char *address = NULL;
	int listener = base_tcp_listen("127.0.0.1:0", &error);

	if (listener < 0)
		g_error("%s", error->message);
	address = g_strdup_printf("127.0.0.1:%u", base_tcp_port(listener));
	fds[0] = base_tcp_connect(address, DEADLINE_MS, &error);
	fds[1] = base_tcp_accept(listener, &error);
	if (fds[0] < 0 || fds[1] < 0)
		g_error("connect to %s", address);
	close(listener);
}

/* What a processor spent on a thread, which sharing it with the other does not change.
 */
static guint64 thread_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
	return (guint64)spent.tv_sec * 1000000000u + (guint64)spent.tv_nsec;
}

struct run {
	guint64 bytes; /* to carry */
	guint64 wall_ns, send_ns, receive_ns;
	guint8 *data; /* WIRE_PAYLOAD_MAX of them, sent again and again */
	guint piece; /* of an iovec */
	int fds[2];
	base_channel *client, *server;
	gnutls_session_t plain[2];
	const base_key *key;
};

static void *serve(void *data)
{
	struct run *run = data;
	g_autoptr(GError) error = NULL;

	run->server = base_channel_new_take(run->fds[1], TRUE, run->key, rules,
					    DEADLINE_MS, &error);
	if (!run->server)
		g_error("%s", error->message);
	return NULL;
}

static void open_channels(struct run *run)
{
	g_autoptr(GError) error = NULL;
	GThread *thread;

	sockets(run->fds);
	thread = g_thread_new("serve", serve, run);
	run->client = base_channel_new_take(run->fds[0], FALSE, run->key, rules,
					    DEADLINE_MS, &error);
	if (!run->client)
		g_error("%s", error->message);
	g_thread_join(thread);
}

static void *channel_receiver(void *data)
{
	struct run *run = data;
	guint64 before = thread_ns(), got = 0;
	g_autoptr(GError) error = NULL;

	while (got < run->bytes) {
		struct base_message message;

		if (!base_channel_receive(run->server, &message, DEADLINE_MS, &error))
			g_error("%s", error->message);
		got += message.length;
	}
	run->receive_ns = thread_ns() - before;
	return NULL;
}

static void channel_sender(struct run *run)
{
	guint pieces = MIB / run->piece;
	g_autofree struct iovec *iov = g_new(struct iovec, pieces);
	g_autoptr(GError) error = NULL;

	for (guint64 sent = 0; sent < run->bytes; sent += MIB) {
		guint8 *from = run->data + sent % WIRE_PAYLOAD_MAX;

		for (guint i = 0; i < pieces; i++)
			iov[i] = (struct iovec){ from + (gsize)i * run->piece,
						 run->piece };
		if (!base_channel_send(run->client, BULK, 1, iov, pieces, DEADLINE_MS,
				       &error))
			g_error("%s", error->message);
	}
	if (!base_channel_flush(run->client, DEADLINE_MS, &error))
		g_error("%s", error->message);
}

/* GnuTLS as its manual has it: a session on a blocking socket. */
static int plain_client_key(gnutls_session_t session, char **name, gnutls_datum_t *key)
{
	const base_key *ours = gnutls_session_get_ptr(session);
	gsize length;
	const guint8 *bytes = base_key_bytes(ours, &length);

	*name = gnutls_malloc(5);
	memcpy(*name, "colo", 5);
	key->data = gnutls_malloc(length);
	memcpy(key->data, bytes, length);
	key->size = (unsigned)length;
	return 0;
}

static int plain_server_key(gnutls_session_t session, const char *name,
			    gnutls_datum_t *key)
{
	char *ignored = NULL;
	int rc = plain_client_key(session, &ignored, key);

	gnutls_free(ignored);
	return rc;
}

static void plain_shake_hands(struct run *run, guint side)
{
	gnutls_session_t session;
	int rc;

	gnutls_init(&session, side ? GNUTLS_SERVER | GNUTLS_NO_TICKETS : GNUTLS_CLIENT);
	gnutls_priority_set_direct(session,
				   "NONE:+VERS-TLS1.3:+AEAD:+AES-128-GCM:+GROUP-X25519:"
				   "+ECDHE-PSK:+SIGN-ALL",
				   NULL);
	if (side) {
		static gnutls_psk_server_credentials_t server;

		gnutls_psk_allocate_server_credentials(&server);
		gnutls_psk_set_server_credentials_function(server, plain_server_key);
		gnutls_credentials_set(session, GNUTLS_CRD_PSK, server);
	} else {
		static gnutls_psk_client_credentials_t client;

		gnutls_psk_allocate_client_credentials(&client);
		gnutls_psk_set_client_credentials_function(client, plain_client_key);
		gnutls_credentials_set(session, GNUTLS_CRD_PSK, client);
	}
	gnutls_session_set_ptr(session, (void *)run->key);
	gnutls_transport_set_int(session, run->fds[side]);
	do
		rc = gnutls_handshake(session);
	while (rc < 0 && !gnutls_error_is_fatal(rc));
	if (rc < 0)
		g_error("handshake: %s", gnutls_strerror(rc));
	run->plain[side] = session;
}

static void *plain_serve(void *data)
{
	plain_shake_hands(data, 1);
	return NULL;
}

static void set_blocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK))
		g_error("make a socket block");
}

static void *plain_receiver(void *data)
{
	struct run *run = data;
	g_autofree guint8 *into = g_malloc(WIRE_PAYLOAD_MAX);
	guint64 before = thread_ns(), got = 0;

	while (got < run->bytes) {
		ssize_t n = gnutls_record_recv(run->plain[1],
					       into + got % WIRE_PAYLOAD_MAX, RECORD);

		if (n <= 0)
			g_error("receive: %s", gnutls_strerror((int)n));
		got += (guint64)n;
	}
	run->receive_ns = thread_ns() - before;
	return NULL;
}

static void plain_sender(struct run *run)
{
	for (guint64 sent = 0; sent < run->bytes; sent += RECORD)
		if (gnutls_record_send(run->plain[0],
				       run->data + sent % WIRE_PAYLOAD_MAX,
				       RECORD) != RECORD)
			g_error("send");
}

static void carry(struct run *run, void (*sender)(struct run *), GThreadFunc receiver)
{
	guint64 start = base_clock_monotonic_ns(), before = thread_ns();
	GThread *thread = g_thread_new("receive", receiver, run);

	sender(run);
	run->send_ns = thread_ns() - before;
	g_thread_join(thread);
	run->wall_ns = base_clock_monotonic_ns() - start;
}

static void by_channel(struct run *run)
{
	open_channels(run);
	carry(run, channel_sender, channel_receiver);
	base_channel_free(run->client);
	base_channel_free(run->server);
}

static void by_gnutls(struct run *run)
{
	GThread *thread;

	sockets(run->fds);
	set_blocking(run->fds[0]);
	set_blocking(run->fds[1]);
	thread = g_thread_new("serve", plain_serve, run);
	plain_shake_hands(run, 0);
	g_thread_join(thread);
	carry(run, plain_sender, plain_receiver);
	for (guint i = 0; i < 2; i++) {
		gnutls_deinit(run->plain[i]);
		close(run->fds[i]);
	}
}

static double rate(guint64 bytes, guint64 ns)
{
	return (double)bytes / (double)ns; /* GB/s */
}

static void compare(struct run *run, guint rounds)
{
	struct run best = { .wall_ns = G_MAXUINT64 }, best_plain = best;

	for (guint i = 0; i < rounds; i++) {
		by_gnutls(run);
		if (run->wall_ns < best_plain.wall_ns)
			best_plain = *run;
		by_channel(run);
		if (run->wall_ns < best.wall_ns)
			best = *run;
	}
	printf("channel piece=%u GB/s=%.2f sender_core=%.2f receiver_core=%.2f "
	       "gnutls_GB/s=%.2f gnutls_sender_core=%.2f gnutls_receiver_core=%.2f "
	       "ratio=%.2f\n",
	       run->piece, rate(run->bytes, best.wall_ns),
	       rate(run->bytes, best.send_ns), rate(run->bytes, best.receive_ns),
	       rate(run->bytes, best_plain.wall_ns),
	       rate(run->bytes, best_plain.send_ns),
	       rate(run->bytes, best_plain.receive_ns),
	       (double)best_plain.wall_ns / (double)best.wall_ns);
}

static void trip(base_channel *channel, gboolean send)
{
	struct iovec iov = { (void *)"ping", 4 };
	struct base_message message;
	g_autoptr(GError) error = NULL;

	if (send ? !base_channel_send(channel, PING, 1, &iov, 1, DEADLINE_MS, &error) ||
			    !base_channel_flush(channel, DEADLINE_MS, &error)
		 : !base_channel_receive(channel, &message, DEADLINE_MS, &error))
		g_error("%s", error->message);
}

static void *answer(void *data)
{
	struct run *run = data;

	for (guint i = 0; i < TRIPS; i++) {
		trip(run->server, FALSE);
		trip(run->server, TRUE);
	}
	return NULL;
}

static void round_trips(struct run *run)
{
	GThread *thread;
	guint64 start;

	open_channels(run);
	thread = g_thread_new("answer", answer, run);
	start = base_clock_monotonic_ns();
	for (guint i = 0; i < TRIPS; i++) {
		trip(run->client, TRUE);
		trip(run->client, FALSE);
	}
	printf("channel round_trips/s=%.0f\n",
	       TRIPS * 1e9 / (double)(base_clock_monotonic_ns() - start));
	g_thread_join(thread);
	base_channel_free(run->client);
	base_channel_free(run->server);
}

int main(int argc, char **argv)
{
	guint64 mib = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 1024;
	guint rounds = argc > 2 ? (guint)g_ascii_strtoull(argv[2], NULL, 10) : 3;
	g_autofree char *folder = g_dir_make_tmp("colo-bench-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "key", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(base_key) key = NULL;
	struct run run = { .bytes = mib * MIB };

	if (!base_key_generate(path, &error) || !(key = base_key_read(path, &error)))
		g_error("%s", error->message);
	unlink(path);
	rmdir(folder);
	run.key = key;
	run.data = g_malloc(WIRE_PAYLOAD_MAX);
	for (gsize i = 0; i < WIRE_PAYLOAD_MAX; i++)
		run.data[i] = (guint8)(i * 2654435761u >> 11);
	run.piece = MIB;
	compare(&run, rounds);
	run.piece = 4096;
	compare(&run, rounds);
	round_trips(&run);
	g_free(run.data);
	return 0;
}
