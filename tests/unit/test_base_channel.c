/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Channels between two ends in this process, and peers that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <gnutls/gnutls.h>

#include "base/channel.h"
#include "base/clock.h"
#include "base/tcp.h"
#include "base/tls.h"

#define MIB (1u << 20)
#define LONG_MS 60000u

enum { NOTE = 1, BULK = 2, EMPTY = 3, UNRULED = 9 };

static const struct base_message_rule rules[] = {
	{ NOTE, "note", 1, 1000 },
	{ BULK, "bulk", 0, WIRE_PAYLOAD_MAX },
	{ EMPTY, "empty", 0, 0 },
	{ 0 },
};

static const char secret[] =
	"5e11000000000000000000000000000000000000000000000000000000c0ffee";
static const char other_secret[] =
	"5e11000000000000000000000000000000000000000000000000000000c0ffef";

static base_key *key_of(const char *hex)
{
	g_autofree char *path = NULL;
	base_key *key;
	int fd = g_file_open_tmp("colo-key-XXXXXX", &path, NULL);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, hex, strlen(hex)), strlen(hex));
	close(fd);
	key = base_key_read(path, NULL);
	g_unlink(path);
	assert_non_null(key);
	return key;
}

/* One end's handshake, on a thread of its own. */
struct end {
	int fd;
	gboolean server;
	base_key *key;
	guint deadline_ms;
	base_channel *channel;
	GError *error;
	GThread *thread;
};

static void *shake_hands(void *data)
{
	struct end *end = data;

	end->channel = base_channel_new_take(end->fd, end->server, end->key, rules,
					     end->deadline_ms, &end->error);
	/* The handshake was all that it was needed for. */
	base_key_free(end->key);
	return NULL;
}

static void start_end(struct end *end, int fd, gboolean server, const char *hex)
{
	*end = (struct end){ fd, server, key_of(hex), LONG_MS, NULL, NULL, NULL };
	end->thread = g_thread_new("end", shake_hands, end);
}

struct pair {
	struct end client, server;
	base_channel *a, *b; /* the same, shorter */
};

static void socket_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void tcp_pair(int fds[2])
{
	g_autoptr(GError) error = NULL;
	g_autofree char *address = NULL;
	int listener = base_tcp_listen("127.0.0.1:0", &error);

	assert_true(listener >= 0);
	address = g_strdup_printf("127.0.0.1:%u", base_tcp_port(listener));
	fds[0] = base_tcp_connect(address, LONG_MS, &error);
	assert_true(fds[0] >= 0);
	fds[1] = base_tcp_accept(listener, &error);
	assert_true(fds[1] >= 0);
	close(listener);
}

static void meet(struct pair *pair, int fds[2], const char *ours, const char *theirs)
{
	start_end(&pair->client, fds[0], FALSE, ours);
	start_end(&pair->server, fds[1], TRUE, theirs);
	g_thread_join(pair->client.thread);
	g_thread_join(pair->server.thread);
	pair->a = pair->client.channel;
	pair->b = pair->server.channel;
}

static void set_up(struct pair *pair)
{
	int fds[2];

	socket_pair(fds);
	meet(pair, fds, secret, secret);
	assert_non_null(pair->a);
	assert_non_null(pair->b);
}

static void tear_down(struct pair *pair)
{
	base_channel_free(pair->a);
	base_channel_free(pair->b);
	g_clear_error(&pair->client.error);
	g_clear_error(&pair->server.error);
}

static gboolean send_bytes(base_channel *channel, guint16 type, guint64 epoch,
			   const void *bytes, gsize length, GError **error)
{
	struct iovec iov = { (void *)bytes, length };

	return base_channel_send(channel, type, epoch, &iov, 1, LONG_MS, error);
}

static void send_note(base_channel *channel, const char *text)
{
	assert_true(send_bytes(channel, NOTE, 7, text, strlen(text), NULL));
	assert_true(base_channel_flush(channel, LONG_MS, NULL));
}

static void expect_note(base_channel *channel, const char *text)
{
	struct base_message message;

	assert_true(base_channel_receive(channel, &message, LONG_MS, NULL));
	assert_int_equal(message.type, NOTE);
	assert_int_equal(message.epoch, 7);
	assert_int_equal(message.length, strlen(text));
	assert_memory_equal(message.payload, text, strlen(text));
}

/* That channel is dead, says so again, and gives no key away. */
static void expect_dead(base_channel *channel, int code, const char *why)
{
	g_autoptr(GError) error = NULL, again = NULL, send = NULL, flush = NULL;
	struct base_message message;

	assert_false(base_channel_receive(channel, &message, LONG_MS, &error));
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, code));
	assert_non_null(strstr(error->message, why));
	assert_null(strstr(error->message, "c0ffee"));
	assert_false(base_channel_receive(channel, &message, 0, &again));
	assert_string_equal(error->message, again->message);
	assert_false(send_bytes(channel, NOTE, 1, "x", 1, &send));
	assert_string_equal(error->message, send->message);
	assert_false(base_channel_flush(channel, 1, &flush));
	assert_int_equal(flush->code, code);
	assert_string_equal(error->message, flush->message);
}

/* Sends messages of those lengths, epoch 0 on, in three pieces of which one is empty.
 */
struct sending {
	base_channel *channel;
	const guint8 *bytes;
	const gsize *lengths;
	guint count;
};

static void *send_all(void *data)
{
	struct sending *sending = data;

	for (guint i = 0; i < sending->count; i++) {
		gsize third = sending->lengths[i] / 3;
		struct iovec iov[] = {
			{ (void *)sending->bytes, third },
			{ NULL, 0 },
			{ (void *)(sending->bytes + third),
			  sending->lengths[i] - third },
		};

		if (!base_channel_send(sending->channel, BULK, i, iov, 3, LONG_MS,
				       NULL))
			return NULL;
	}
	return GINT_TO_POINTER(base_channel_flush(sending->channel, LONG_MS, NULL));
}

static void messages_arrive_as_they_were_sent(void **state)
{
	const gsize lengths[] = { 0,	 1,	16,    4096,  16351, 16352,
				  16353, 16384, 70000, 12345, MIB,   WIRE_PAYLOAD_MAX };
	g_autofree guint8 *bytes = g_malloc(WIRE_PAYLOAD_MAX);
	struct base_message message;
	struct sending sending;
	struct pair pair;
	GThread *thread;
	int fds[2];

	for (gsize i = 0; i < WIRE_PAYLOAD_MAX; i++)
		bytes[i] = (guint8)(i * 2654435761u >> 13);
	tcp_pair(fds);
	meet(&pair, fds, secret, secret);
	assert_non_null(pair.a);
	sending = (struct sending){ pair.a, bytes, lengths, G_N_ELEMENTS(lengths) };
	thread = g_thread_new("send", send_all, &sending);
	for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
		assert_true(base_channel_receive(pair.b, &message, LONG_MS, NULL));
		assert_int_equal(message.type, BULK);
		assert_int_equal(message.epoch, i);
		assert_int_equal(message.length, lengths[i]);
		assert_true(!message.length == !message.payload);
		assert_int_equal((gsize)message.payload % 16, 0);
		if (message.length)
			assert_memory_equal(message.payload, bytes, lengths[i]);
	}
	assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
	tear_down(&pair);
}

static void what_was_put_back_comes_again(void **state)
{
	struct base_message message;
	struct pair pair;

	set_up(&pair);
	assert_true(send_bytes(pair.a, BULK, 1, "one", 3, NULL));
	assert_true(send_bytes(pair.a, BULK, 2, "other", 5, NULL));
	assert_true(base_channel_flush(pair.a, LONG_MS, NULL));
	for (guint i = 0; i < 3; i++) {
		assert_true(base_channel_receive(pair.b, &message, LONG_MS, NULL));
		assert_int_equal(message.epoch, 1);
		assert_int_equal(message.length, 3);
		assert_memory_equal(message.payload, "one", 3);
		if (i < 2)
			base_channel_put_back(pair.b);
	}
	assert_true(base_channel_receive(pair.b, &message, LONG_MS, NULL));
	assert_memory_equal(message.payload, "other", 5);
	tear_down(&pair);
}

static void small_messages_wait_for_a_flush_and_share_a_record(void **state)
{
	struct base_channel_counters counters;
	struct base_message message;
	struct pair pair;
	int fds[2];
	char byte;

	socket_pair(fds);
	meet(&pair, fds, secret, secret);
	for (guint i = 0; i < 100; i++)
		assert_true(send_bytes(pair.a, NOTE, i, "small", 5, NULL));
	/* The descriptor is the channel's, but peeking harms nobody. */
	assert_int_equal(recv(fds[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	assert_true(base_channel_flush(pair.a, LONG_MS, NULL));
	for (guint i = 0; i < 100; i++) {
		assert_true(base_channel_receive(pair.b, &message, LONG_MS, NULL));
		assert_int_equal(message.epoch, i);
	}
	base_channel_get_counters(pair.a, &counters);
	assert_int_equal(counters.sent_messages, 100);
	assert_int_equal(counters.sent_bytes, 100 * (32 + 5));
	assert_int_equal(counters.received_messages, 0);
	base_channel_get_counters(pair.b, &counters);
	assert_int_equal(counters.received_messages, 100);
	assert_int_equal(counters.received_bytes, 100 * (32 + 5));
	tear_down(&pair);
}

static void a_goodbye_is_told_from_a_loss(void **state)
{
	struct pair pair;
	int fds[2];

	set_up(&pair);
	assert_true(send_bytes(pair.a, NOTE, 7, "last words", 10, NULL));
	base_channel_free(g_steal_pointer(&pair.a));
	expect_note(pair.b, "last words");
	expect_dead(pair.b, BASE_CHANNEL_CLOSED, "the peer ended the connection");
	tear_down(&pair);

	socket_pair(fds);
	meet(&pair, fds, secret, secret);
	shutdown(fds[0], SHUT_RDWR);
	expect_dead(pair.b, BASE_CHANNEL_LOST, "without goodbye");
	tear_down(&pair);
}

static void a_peer_with_another_key_is_refused_on_both_sides(void **state)
{
	struct pair pair;
	int fds[2];

	for (guint tcp = 0; tcp < 2; tcp++) {
		if (tcp)
			tcp_pair(fds);
		else
			socket_pair(fds);
		meet(&pair, fds, secret, other_secret);
		assert_null(pair.a);
		assert_null(pair.b);
		assert_true(g_error_matches(pair.client.error, BASE_CHANNEL_ERROR,
					    BASE_CHANNEL_KEY));
		assert_true(g_error_matches(pair.server.error, BASE_CHANNEL_ERROR,
					    BASE_CHANNEL_KEY));
		assert_non_null(strstr(pair.client.error->message, "has another key"));
		assert_non_null(strstr(pair.server.error->message, "has another key"));
		assert_null(strstr(pair.client.error->message, "c0ffee"));
		assert_null(strstr(pair.server.error->message, "c0ffe"));
		tear_down(&pair);
	}
}

static void two_ends_of_the_same_side_do_not_meet(void **state)
{
	struct end ends[2];
	int fds[2];

	for (guint server = 0; server < 2; server++) {
		socket_pair(fds);
		for (guint i = 0; i < 2; i++) {
			ends[i] = (struct end){ fds[i], server, key_of(secret), 300 };
			ends[i].thread = g_thread_new("end", shake_hands, &ends[i]);
		}
		for (guint i = 0; i < 2; i++) {
			g_thread_join(ends[i].thread);
			assert_null(ends[i].channel);
			assert_non_null(ends[i].error);
			g_error_free(ends[i].error);
		}
	}
}

static void expect_refusal(base_channel *channel, const char *why)
{
	g_autoptr(GError) error = NULL;
	struct base_message message;

	assert_false(base_channel_receive(channel, &message, LONG_MS, &error));
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_PROTOCOL));
	assert_non_null(strstr(error->message, why));
}

static void refused_message(guint16 type, gsize length, const char *why)
{
	g_autofree guint8 *bytes = g_malloc0(length + 1);
	struct pair pair;

	set_up(&pair);
	send_note(pair.a, "fine");
	assert_true(send_bytes(pair.a, type, 0, bytes, length, NULL));
	assert_true(base_channel_flush(pair.a, LONG_MS, NULL));
	expect_note(pair.b, "fine");
	expect_refusal(pair.b, why);
	expect_refusal(pair.b, why);
	/* The sender can be told why, before it learns that it is over. */
	send_note(pair.b, "because");
	assert_true(base_channel_flush(pair.b, LONG_MS, NULL));
	expect_note(pair.a, "because");
	base_channel_abort(pair.b);
	expect_dead(pair.a, BASE_CHANNEL_LOST, "without goodbye");
	tear_down(&pair);
}

static void a_message_against_the_rules_ends_the_channel(void **state)
{
	refused_message(UNRULED, 10, "type 9");
	refused_message(NOTE, 0, "note of 0 bytes, allowed are 1 to 1000");
	refused_message(NOTE, 1001, "note of 1001 bytes");
	refused_message(EMPTY, 1, "empty of 1 bytes");
}

/* A peer that has the key and a mind of its own: TLS, and then whatever the test likes.
 */
static base_tls *bare_peer(struct end *end, int *peer)
{
	g_autoptr(base_key) key = key_of(secret);
	base_tls *tls = base_tls_new(FALSE, key, NULL);
	int fds[2];

	socket_pair(fds);
	*peer = fds[0];
	start_end(end, fds[1], TRUE, secret);
	while (base_tls_handshake(tls, NULL) == BASE_TLS_HUNGRY) {
		assert_int_equal(base_tls_drain(tls, fds[0]), 0);
		while (base_tls_fill(tls, fds[0]) < 0)
			g_usleep(1000);
	}
	assert_int_equal(base_tls_drain(tls, fds[0]), 0);
	g_thread_join(end->thread);
	assert_non_null(end->channel);
	return tls;
}

static void noise_inside_tls_ends_the_channel(void **state)
{
	g_autofree guint8 *noise = g_malloc0(16384);
	struct end end;
	int fd;
	base_tls *tls = bare_peer(&end, &fd);

	assert_true(base_tls_seal(tls, noise, 16384, NULL));
	assert_int_equal(base_tls_drain(tls, fd), 0);
	expect_refusal(end.channel, "not a message");
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);
}

/* A peer that sends on and on does not hold up whoever drains it, nor one that is silent. */
static void draining_ends_at_its_deadline_or_with_the_peer(void **state)
{
	g_autofree guint8 *bytes = g_malloc0(1 << 20);
	struct pair pair;
	gint64 start;

	set_up(&pair);
	assert_true(send_bytes(pair.a, UNRULED, 0, bytes, 10, NULL));
	assert_true(base_channel_flush(pair.a, LONG_MS, NULL));
	expect_refusal(pair.b, "type 9");
	for (guint i = 0; i < 8; i++)
		assert_true(send_bytes(pair.a, UNRULED, 0, bytes, 1000, NULL));
	assert_true(base_channel_flush(pair.a, LONG_MS, NULL));
	base_channel_abort(pair.a);
	start = g_get_monotonic_time();
	base_channel_drain(pair.b, 10 * LONG_MS);
	assert_true(g_get_monotonic_time() - start < LONG_MS * 5000);
	tear_down(&pair);
	set_up(&pair);
	base_channel_drain(pair.b, 50);
	expect_dead(pair.a, BASE_CHANNEL_LOST, "without goodbye");
	tear_down(&pair);
}

static void a_goodbye_within_a_message_is_a_fault(void **state)
{
	struct iovec iov = { (void *)"truncated", 9 };
	struct wire_frame frame;
	struct end end;
	int fd;
	base_tls *tls = bare_peer(&end, &fd);

	base_frame_encode(&frame, NOTE, 0, &iov, 1);
	assert_true(base_tls_seal(tls, &frame, sizeof(frame), NULL));
	base_tls_say_goodbye(tls);
	assert_int_equal(base_tls_drain(tls, fd), 0);
	expect_dead(end.channel, BASE_CHANNEL_PROTOCOL, "within a message");
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);
}

/* What a TLS session has to drain, as bytes. */
static gsize drained(base_tls *tls, guint8 *bytes, gsize room)
{
	gssize n;
	int fds[2];

	socket_pair(fds);
	assert_int_equal(base_tls_drain(tls, fds[0]), 0);
	n = recv(fds[1], bytes, room, 0);
	close(fds[0]);
	close(fds[1]);
	assert_true(n > 0 && (gsize)n < room);
	return (gsize)n;
}

static void a_record_altered_on_its_way_is_refused(void **state)
{
	struct iovec iov = { (void *)"pay 10 to mallory", 17 };
	gsize length = 1;

	for (gsize at = 0; at < length; at++) {
		struct wire_frame frame;
		guint8 bytes[256];
		struct end end;
		int fd;
		base_tls *tls;

		/* The version counts for nothing (RFC 8446, 5.1), and a longer record
		 * is one that does not end. */
		if (at >= 1 && at <= 4)
			continue;
		tls = bare_peer(&end, &fd);
		base_frame_encode(&frame, NOTE, 0, &iov, 1);
		assert_true(base_tls_seal(tls, &frame, sizeof(frame), NULL));
		length = drained(tls, bytes, sizeof(bytes));
		bytes[at] ^= 0x10;
		assert_int_equal(send(fd, bytes, length, 0), length);
		expect_dead(end.channel, BASE_CHANNEL_PROTOCOL, "");
		base_channel_free(end.channel);
		base_tls_free(tls);
		close(fd);
	}
	assert_true(length > sizeof(struct wire_frame));
}

static void a_record_sent_twice_is_refused(void **state)
{
	struct iovec iov = { (void *)"pay 10 to mallory", 17 };
	struct base_message message;
	struct wire_frame frame;
	guint8 bytes[256];
	struct end end;
	gsize length;
	int fd;
	base_tls *tls = bare_peer(&end, &fd);

	base_frame_encode(&frame, NOTE, 0, &iov, 1);
	assert_true(base_tls_seal(tls, &frame, sizeof(frame), NULL));
	assert_true(base_tls_seal(tls, iov.iov_base, iov.iov_len, NULL));
	length = drained(tls, bytes, sizeof(bytes));
	assert_int_equal(send(fd, bytes, length, 0), length);
	assert_int_equal(send(fd, bytes, length, 0), length);
	assert_true(base_channel_receive(end.channel, &message, LONG_MS, NULL));
	expect_dead(end.channel, BASE_CHANNEL_PROTOCOL, "did not send so");
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);
}

/* A peer that never had a channel: what its bytes make of a handshake. */
static void expect_no_handshake(gboolean server, const void *bytes, gsize length,
				int code, const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(base_key) key = key_of(secret);
	guint64 start = base_clock_monotonic_ns();
	int fds[2];

	socket_pair(fds);
	if (length)
		assert_int_equal(send(fds[0], bytes, length, 0), length);
	assert_null(base_channel_new_take(fds[1], server, key, rules, 100, &error));
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, code));
	assert_non_null(strstr(error->message, why));
	assert_true(base_clock_monotonic_ns() - start <
		    30 * G_GUINT64_CONSTANT(1000000000));
	close(fds[0]);
}

static void a_plaintext_peer_is_refused(void **state)
{
	const char http[] = "GET / HTTP/1.0\r\nHost: colo\r\n\r\n";
	const char ssh[] = "SSH-2.0-OpenSSH_9.2p1\r\n";
	struct wire_frame frame;
	guint8 zeros[64] = { 0 };

	base_frame_encode(&frame, EMPTY, 0, NULL, 0);
	for (guint server = 0; server < 2; server++) {
		expect_no_handshake(server, http, sizeof(http) - 1,
				    BASE_CHANNEL_PROTOCOL, "TLS");
		expect_no_handshake(server, ssh, sizeof(ssh) - 1, BASE_CHANNEL_PROTOCOL,
				    "TLS");
		expect_no_handshake(server, &frame, sizeof(frame),
				    BASE_CHANNEL_PROTOCOL, "TLS");
		expect_no_handshake(server, zeros, sizeof(zeros), BASE_CHANNEL_PROTOCOL,
				    "TLS");
	}
}

/* Another TLS program, with the right key but settings of its own. */
struct stranger {
	int fd;
	gboolean server;
	const char *priority;
	const char *identity;
	int result;
};

static int stranger_key(gnutls_session_t session, const char *identity,
			gnutls_datum_t *key)
{
	g_autoptr(base_key) ours = key_of(secret);
	gsize length;
	const guint8 *bytes = base_key_bytes(ours, &length);

	key->data = gnutls_malloc(length);
	memcpy(key->data, bytes, length);
	key->size = (unsigned)length;
	return 0;
}

static void *be_stranger(void *data)
{
	struct stranger *stranger = data;
	gnutls_psk_client_credentials_t client;
	gnutls_psk_server_credentials_t server;
	gnutls_certificate_credentials_t certificate;
	gnutls_datum_t key;
	gnutls_session_t session;

	gnutls_psk_allocate_client_credentials(&client);
	gnutls_psk_allocate_server_credentials(&server);
	gnutls_certificate_allocate_credentials(&certificate);
	stranger_key(NULL, NULL, &key);
	gnutls_psk_set_client_credentials(client, stranger->identity, &key,
					  GNUTLS_PSK_KEY_RAW);
	gnutls_psk_set_server_credentials_function(server, stranger_key);
	gnutls_free(key.data);
	gnutls_init(&session, stranger->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
	assert_int_equal(gnutls_priority_set_direct(session, stranger->priority, NULL),
			 0);
	gnutls_credentials_set(session, GNUTLS_CRD_PSK,
			       stranger->server ? (void *)server : (void *)client);
	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, certificate);
	gnutls_transport_set_int(session, stranger->fd);
	gnutls_handshake_set_timeout(session, 5000);
	do
		stranger->result = gnutls_handshake(session);
	while (stranger->result < 0 && !gnutls_error_is_fatal(stranger->result));
	gnutls_deinit(session);
	gnutls_psk_free_client_credentials(client);
	gnutls_psk_free_server_credentials(server);
	gnutls_certificate_free_credentials(certificate);
	close(stranger->fd);
	return NULL;
}

static void expect_stranger_refused(gboolean server, const char *priority,
				    const char *identity)
{
	struct stranger stranger = { .server = server,
				     .priority = priority,
				     .identity = identity };
	struct end end;
	GThread *thread;
	int fds[2];

	socket_pair(fds);
	stranger.fd = fds[0];
	thread = g_thread_new("stranger", be_stranger, &stranger);
	start_end(&end, fds[1], !server, secret);
	g_thread_join(end.thread);
	g_thread_join(thread);
	assert_null(end.channel);
	assert_non_null(end.error);
	assert_null(strstr(end.error->message, "c0ffee"));
	/* A client has shaken hands before a server has judged its last word. */
	if (server)
		assert_true(stranger.result < 0);
	g_error_free(end.error);
}

static void other_ways_of_tls_are_refused(void **state)
{
	for (guint server = 0; server < 2; server++) {
		/* TLS 1.2, with the right key. */
		expect_stranger_refused(server,
					"NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+PSK",
					"colo");
		/* Without Diffie-Hellman. */
		expect_stranger_refused(
			server, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+PSK", "colo");
		/* Certificates, or none. */
		expect_stranger_refused(server, "NORMAL:-VERS-ALL:+VERS-TLS1.3",
					"colo");
	}
	expect_stranger_refused(
		FALSE, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK", "somebody");
}

static void another_program_with_the_key_gets_in(void **state)
{
	struct stranger stranger = {
		.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK",
		.identity = "colo",
	};
	struct end end;
	GThread *thread;
	int fds[2];

	/* So the refusals above are for the reasons that they name. */
	socket_pair(fds);
	stranger.fd = fds[0];
	thread = g_thread_new("stranger", be_stranger, &stranger);
	start_end(&end, fds[1], TRUE, secret);
	g_thread_join(end.thread);
	g_thread_join(thread);
	assert_non_null(end.channel);
	assert_int_equal(stranger.result, 0);
	base_channel_free(end.channel);
}

#define assert_took(start, low_ms, high_ms)                                        \
	do {                                                                       \
		guint64 took_ms = (base_clock_monotonic_ns() - (start)) / 1000000; \
		assert_in_range(took_ms, low_ms, high_ms);                         \
	} while (0)

static void a_silent_peer_costs_no_more_than_the_deadline(void **state)
{
	g_autoptr(GError) error = NULL;
	struct base_message message;
	struct pair pair;
	guint64 start;

	start = base_clock_monotonic_ns();
	expect_no_handshake(TRUE, NULL, 0, BASE_CHANNEL_LOST,
			    "the peer sent nothing whole within 100 ms");
	expect_no_handshake(FALSE, NULL, 0, BASE_CHANNEL_LOST,
			    "the peer sent nothing whole within 100 ms");
	assert_took(start, 200, 10000);
	set_up(&pair);
	start = base_clock_monotonic_ns();
	assert_false(base_channel_receive(pair.b, &message, 50, &error));
	assert_took(start, 50, 10000);
	assert_int_equal(error->code, BASE_CHANNEL_LOST);
	expect_dead(pair.b, BASE_CHANNEL_LOST,
		    "the peer sent nothing whole within 50 ms");
	tear_down(&pair);
}

static void a_peer_that_takes_nothing_costs_no_more_than_the_deadline(void **state)
{
	g_autofree guint8 *bytes = g_malloc0(WIRE_PAYLOAD_MAX);
	struct iovec iov = { bytes, WIRE_PAYLOAD_MAX };
	g_autoptr(GError) error = NULL;
	struct pair pair;
	guint64 start;

	set_up(&pair);
	start = base_clock_monotonic_ns();
	assert_false(base_channel_send(pair.a, BULK, 0, &iov, 1, 50, &error));
	assert_took(start, 50, 10000);
	assert_int_equal(error->code, BASE_CHANNEL_LOST);
	expect_dead(pair.a, BASE_CHANNEL_LOST,
		    "the peer did not take all within 50 ms");
	tear_down(&pair);
}

/* Gives or takes a byte each few milliseconds, until the other end is gone. */
struct trickle {
	int fd;
	const guint8 *bytes; /* NULL: takes */
	gsize length;
	gint stop;
};

static void *trickle(void *data)
{
	struct trickle *trickle = data;
	guint8 byte;

	for (gsize i = 0; !g_atomic_int_get(&trickle->stop); i++) {
		if (!trickle->bytes)
			(void)!recv(trickle->fd, &byte, 1, MSG_DONTWAIT);
		else if (i < trickle->length &&
			 send(trickle->fd, trickle->bytes + i, 1, MSG_NOSIGNAL) != 1)
			break;
		g_usleep(3000);
	}
	return NULL;
}

static void a_peer_that_trickles_costs_no_more_than_the_deadline(void **state)
{
	g_autofree guint8 *bulk = g_malloc0(WIRE_PAYLOAD_MAX);
	struct iovec iov = { bulk, 10000 };
	g_autoptr(GError) error = NULL, lost = NULL;
	g_autoptr(base_key) key = key_of(secret);
	struct trickle trickling = { 0 };
	guint8 bytes[20000];
	struct base_message message;
	struct wire_frame frame;
	GThread *thread;
	struct end end;
	int fd, fds[2];
	base_tls *tls = bare_peer(&end, &fd);
	guint64 start;

	/* A message. */
	base_frame_encode(&frame, BULK, 0, &iov, 1);
	assert_true(base_tls_seal(tls, &frame, sizeof(frame), NULL));
	assert_true(base_tls_seal(tls, bulk, 10000, NULL));
	trickling.fd = fd;
	trickling.length = drained(tls, bytes, sizeof(bytes));
	trickling.bytes = bytes;
	thread = g_thread_new("trickle", trickle, &trickling);
	start = base_clock_monotonic_ns();
	assert_false(base_channel_receive(end.channel, &message, 300, &error));
	assert_took(start, 300, 10000);
	assert_int_equal(error->code, BASE_CHANNEL_LOST);
	g_atomic_int_set(&trickling.stop, 1);
	g_thread_join(thread);
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);

	/* A handshake: the beginning of a record that promises 512 bytes. */
	socket_pair(fds);
	memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
	trickling = (struct trickle){ fds[0], bytes, 500, 0 };
	thread = g_thread_new("trickle", trickle, &trickling);
	start = base_clock_monotonic_ns();
	assert_null(base_channel_new_take(fds[1], TRUE, key, rules, 200, &lost));
	assert_took(start, 200, 10000);
	assert_int_equal(lost->code, BASE_CHANNEL_LOST);
	g_atomic_int_set(&trickling.stop, 1);
	g_thread_join(thread);
	close(fds[0]);
}

static void a_peer_that_takes_a_byte_at_a_time_costs_no_more(void **state)
{
	g_autofree guint8 *bulk = g_malloc0(WIRE_PAYLOAD_MAX);
	struct iovec iov = { bulk, WIRE_PAYLOAD_MAX };
	g_autoptr(GError) error = NULL;
	struct trickle trickling = { 0 };
	GThread *thread;
	struct end end;
	int fd;
	base_tls *tls = bare_peer(&end, &fd);
	guint64 start;

	trickling.fd = fd;
	thread = g_thread_new("trickle", trickle, &trickling);
	start = base_clock_monotonic_ns();
	assert_false(base_channel_send(end.channel, BULK, 0, &iov, 1, 300, &error));
	assert_took(start, 300, 10000);
	assert_int_equal(error->code, BASE_CHANNEL_LOST);
	g_atomic_int_set(&trickling.stop, 1);
	g_thread_join(thread);
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);
}

static void *receive_endlessly(void *data)
{
	struct base_message message;
	GError *error = NULL;

	while (base_channel_receive(data, &message, 0, &error))
		;
	return error;
}

static void *send_endlessly(void *data)
{
	g_autofree guint8 *bulk = g_malloc0(WIRE_PAYLOAD_MAX);
	GError *error = NULL;

	while (send_bytes(data, BULK, 0, bulk, WIRE_PAYLOAD_MAX, &error))
		;
	return error;
}

static void abort_ends_what_is_under_way_on_both_sides(void **state)
{
	struct pair pair;
	GThread *threads[3];
	GError *errors[3];
	guint64 start;
	int fds[2];

	for (guint tcp = 0; tcp < 2; tcp++) {
		if (tcp)
			tcp_pair(fds);
		else
			socket_pair(fds);
		meet(&pair, fds, secret, secret);
		/* One waits to receive, one to send, and the peer receives nothing. */
		threads[0] = g_thread_new("receive", receive_endlessly, pair.a);
		threads[1] = g_thread_new("send", send_endlessly, pair.a);
		g_usleep(50000);
		start = base_clock_monotonic_ns();
		base_channel_abort(pair.a);
		threads[2] = g_thread_new("peer", receive_endlessly, pair.b);
		for (guint i = 0; i < 3; i++) {
			errors[i] = g_thread_join(threads[i]);
			assert_int_equal(errors[i]->code, BASE_CHANNEL_LOST);
		}
		assert_took(start, 0, 20000);
		assert_non_null(strstr(errors[0]->message, "given up here"));
		assert_string_equal(errors[0]->message, errors[1]->message);
		for (guint i = 0; i < 3; i++)
			g_error_free(errors[i]);
		expect_dead(pair.a, BASE_CHANNEL_LOST, "given up here");
		tear_down(&pair);
	}
}

/* Both directions of both ends at once. */
struct flow {
	base_channel *channel;
	guint64 seed;
	guint messages, rekeys;
	gboolean good;
	GError *error;
};

#define FLOW_BYTES (MIB / 2)

static void fill_words(guint64 *words, guint64 seed)
{
	for (gsize i = 0; i < FLOW_BYTES / 8; i++)
		words[i] = seed + i * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
}

static void *flow_out(void *data)
{
	struct flow *flow = data;
	g_autofree guint64 *words = g_malloc(FLOW_BYTES);

	for (guint i = 0; i < flow->messages; i++) {
		fill_words(words, flow->seed + i);
		if (flow->rekeys && i % (flow->messages / flow->rekeys) == 3)
			base_channel_rekey(flow->channel);
		if (!send_bytes(flow->channel, BULK, i, words, FLOW_BYTES - i % 100,
				&flow->error))
			return NULL;
	}
	flow->good = base_channel_flush(flow->channel, LONG_MS, &flow->error);
	return NULL;
}

static void *flow_in(void *data)
{
	struct flow *flow = data;
	g_autofree guint64 *words = g_malloc(FLOW_BYTES);

	for (guint i = 0; i < flow->messages; i++) {
		struct base_message message;

		if (!base_channel_receive(flow->channel, &message, LONG_MS,
					  &flow->error))
			return NULL;
		fill_words(words, flow->seed + i);
		if (message.epoch != i || message.length != FLOW_BYTES - i % 100 ||
		    memcmp(message.payload, words, message.length))
			return NULL;
	}
	flow->good = TRUE;
	return NULL;
}

static void flow_both_ways(struct pair *pair, guint messages, guint rekeys_a,
			   guint rekeys_b)
{
	struct flow flows[4] = {
		{ pair->a, 1, messages, rekeys_a },
		{ pair->b, 1, messages, 0 },
		{ pair->b, 77777, messages, rekeys_b },
		{ pair->a, 77777, messages, 0 },
	};
	GThread *threads[4];

	for (guint i = 0; i < 4; i++)
		threads[i] =
			g_thread_new("flow", i % 2 ? flow_in : flow_out, &flows[i]);
	for (guint i = 0; i < 4; i++) {
		g_thread_join(threads[i]);
		if (flows[i].error)
			print_message("flow %u: %s\n", i, flows[i].error->message);
		assert_true(flows[i].good);
		assert_null(flows[i].error);
	}
}

static void both_ends_send_and_receive_at_once(void **state)
{
	struct base_channel_counters counters;
	struct pair pair;
	int fds[2];

	tcp_pair(fds);
	meet(&pair, fds, secret, secret);
	flow_both_ways(&pair, 128, 0, 0);
	base_channel_get_counters(pair.a, &counters);
	assert_int_equal(counters.sent_messages, 128);
	assert_int_equal(counters.received_messages, 128);
	assert_int_equal(counters.rekeys, 0);
	tear_down(&pair);
}

static void keys_change_in_the_midst_of_both_directions(void **state)
{
	struct base_channel_counters a, b;
	struct pair pair;
	int fds[2];

	for (guint i = 0; i < 3; i++) {
		tcp_pair(fds);
		meet(&pair, fds, secret, secret);
		flow_both_ways(&pair, 64, i < 2 ? 3 : 0, i > 0 ? 3 : 0);
		base_channel_get_counters(pair.a, &a);
		base_channel_get_counters(pair.b, &b);
		assert_true(a.rekeys >= 2 && b.rekeys >= 2);
		tear_down(&pair);
	}
}

static void keys_change_where_one_side_never_sends(void **state)
{
	struct base_channel_counters a, b;
	struct base_message message;
	struct pair pair;

	/* More changes than GnuTLS has places for keys. */
	set_up(&pair);
	for (guint i = 1; i <= 16; i++) {
		base_channel_rekey(pair.a);
		send_note(pair.a, "over");
		expect_note(pair.b, "over");
	}
	base_channel_get_counters(pair.b, &b);
	base_channel_get_counters(pair.a, &a);
	/* Without a receiver the answers are not seen, and it gets no further ahead. */
	assert_int_equal(a.rekeys, 2);
	assert_int_equal(b.rekeys, 2);
	send_note(pair.b, "and out");
	expect_note(pair.a, "and out");
	base_channel_get_counters(pair.a, &a);
	assert_int_equal(a.peer_rekeys, 2);
	/* GnuTLS takes eight changes a second. */
	g_usleep(1100000);
	for (guint i = 1; i <= 10; i++) {
		base_channel_rekey(pair.a);
		send_note(pair.a, "over");
		expect_note(pair.b, "over");
		assert_true(
			base_channel_send(pair.b, EMPTY, 0, NULL, 0, LONG_MS, NULL));
		assert_true(base_channel_flush(pair.b, LONG_MS, NULL));
		assert_true(base_channel_receive(pair.a, &message, LONG_MS, NULL));
		g_usleep(140000);
	}
	base_channel_get_counters(pair.a, &a);
	base_channel_get_counters(pair.b, &b);
	assert_int_equal(a.rekeys, 12);
	assert_int_equal(a.peer_rekeys, 12);
	assert_int_equal(b.rekeys, 12);
	tear_down(&pair);
}

static void a_change_of_key_is_no_beginning_of_a_message(void **state)
{
	struct pair pair;
	GThread *thread;
	GError *error;

	/* An endless wait stays one after a record that carried no message. */
	set_up(&pair);
	thread = g_thread_new("wait", receive_endlessly, pair.b);
	base_channel_rekey(pair.a);
	send_note(pair.a, "x");
	g_usleep(11 * G_USEC_PER_SEC);
	send_note(pair.a, "y");
	base_channel_free(g_steal_pointer(&pair.a));
	error = g_thread_join(thread);
	assert_int_equal(error->code, BASE_CHANNEL_CLOSED);
	g_error_free(error);
	tear_down(&pair);
}

static void a_message_that_began_must_end(void **state)
{
	g_autoptr(GError) error = NULL;
	struct base_message message;
	guint8 bytes[256];
	struct end end;
	gsize length;
	int fd;
	base_tls *tls = bare_peer(&end, &fd);
	guint64 start = base_clock_monotonic_ns();

	/* Half a record, then nothing: an endless wait turns into one of 10 s. */
	assert_true(base_tls_seal(tls, "no matter", 9, NULL));
	length = drained(tls, bytes, sizeof(bytes));
	assert_int_equal(send(fd, bytes, length / 2, 0), length / 2);
	assert_false(base_channel_receive(end.channel, &message, 0, &error));
	assert_took(start, 10000, 60000);
	assert_int_equal(error->code, BASE_CHANNEL_LOST);
	base_channel_free(end.channel);
	base_tls_free(tls);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_arrive_as_they_were_sent),
		cmocka_unit_test(what_was_put_back_comes_again),
		cmocka_unit_test(small_messages_wait_for_a_flush_and_share_a_record),
		cmocka_unit_test(a_goodbye_is_told_from_a_loss),
		cmocka_unit_test(a_peer_with_another_key_is_refused_on_both_sides),
		cmocka_unit_test(two_ends_of_the_same_side_do_not_meet),
		cmocka_unit_test(a_message_against_the_rules_ends_the_channel),
		cmocka_unit_test(noise_inside_tls_ends_the_channel),
		cmocka_unit_test(a_goodbye_within_a_message_is_a_fault),
		cmocka_unit_test(draining_ends_at_its_deadline_or_with_the_peer),
		cmocka_unit_test(a_record_altered_on_its_way_is_refused),
		cmocka_unit_test(a_record_sent_twice_is_refused),
		cmocka_unit_test(a_plaintext_peer_is_refused),
		cmocka_unit_test(other_ways_of_tls_are_refused),
		cmocka_unit_test(another_program_with_the_key_gets_in),
		cmocka_unit_test(a_silent_peer_costs_no_more_than_the_deadline),
		cmocka_unit_test(
			a_peer_that_takes_nothing_costs_no_more_than_the_deadline),
		cmocka_unit_test(a_peer_that_trickles_costs_no_more_than_the_deadline),
		cmocka_unit_test(a_peer_that_takes_a_byte_at_a_time_costs_no_more),
		cmocka_unit_test(abort_ends_what_is_under_way_on_both_sides),
		cmocka_unit_test(both_ends_send_and_receive_at_once),
		cmocka_unit_test(keys_change_in_the_midst_of_both_directions),
		cmocka_unit_test(keys_change_where_one_side_never_sends),
		cmocka_unit_test(a_change_of_key_is_no_beginning_of_a_message),
		cmocka_unit_test(a_message_that_began_must_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
