/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An authenticated, encrypted connection to the other node: TLS 1.3 with the pair's
 * pre-shared key (RFC 8446, 2.2; GnuTLS), carrying framed messages as base/wire.h defines
 * them. There is no plaintext mode.
 *
 * One thread may send while another receives. Nothing waits longer than its deadline. After
 * an error the channel is dead: every later call fails with the same message.
 */
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include <gio/gio.h>
#include <sys/uio.h>

#include "base/wire.h"

#define BASE_CHANNEL_ERROR base_channel_error_quark()
GQuark base_channel_error_quark(void);
enum base_channel_error {
	BASE_CHANNEL_KEY, /* the key file cannot be used, or the peer has another key */
	BASE_CHANNEL_CLOSED, /* the peer ended the connection in good order */
	BASE_CHANNEL_LOST, /* the connection broke, or a deadline passed */
	BASE_CHANNEL_PROTOCOL, /* the peer sent what is not allowed */
};

/* The pair's secret: 32 to 64 bytes, from a file with them in hexadecimal. Refused unless
 * the file is regular, of mode 0600 or 0400 and owned by the caller or root. Its memory is
 * locked, kept out of core files, and wiped when freed. */
typedef struct base_key base_key;
base_key *base_key_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Makes a new one in a file that must not exist yet. */
gboolean base_key_generate(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void base_key_free(base_key *key);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_key, base_key_free)

/* What may be received: a row for each type of message, judged before anything of a
 * payload is read. */
struct base_message_rule {
	guint16 type;
	const char *name; /* for the log */
	guint32 min, max; /* payload bytes */
};

typedef struct base_channel base_channel;

/* Takes a connected stream socket whatever the outcome and does the handshake, as server or
 * client. `rules` (ended by a NULL name) must outlive the channel. */
base_channel *base_channel_new_take(int fd, gboolean server, const base_key *key,
				    const struct base_message_rule *rules, guint deadline_ms,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Says goodbye if it can do so without waiting, and closes. */
void base_channel_free(base_channel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_channel, base_channel_free)

/* Sends one message; `deadline_ms` without any progress makes it LOST. One thread. */
gboolean base_channel_send(base_channel *channel, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count, guint deadline_ms,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Hands small messages that were gathered to the kernel. base_channel_send() gathers up to
 * 16 KiB; whoever has nothing more to send now calls this. The sending thread. */
gboolean base_channel_flush(base_channel *channel, guint deadline_ms, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

struct base_message {
	guint16 type;
	guint64 epoch;
	guint32 length;
	const guint8 *payload; /* the channel's, until the next receive; 16-aligned */
};
/* Receives the next message, fully judged. `deadline_ms` 0: waits without end for a message
 * to begin; within one, 10 s without progress are too long. One thread. */
gboolean base_channel_receive(base_channel *channel, struct base_message *message,
			      guint deadline_ms, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Makes every call under way on other threads, and all later ones, fail soon. Any thread. */
void base_channel_abort(base_channel *channel);

struct base_channel_counters {
	guint64 sent_bytes, received_bytes, sent_messages, received_messages;
};
void base_channel_get_counters(base_channel *channel, struct base_channel_counters *counters);

/* TCP to or from the other node. `address` is "HOST:PORT" or "[IPV6]:PORT"; no delay, with
 * keep-alive. Resolves names. */
int base_tcp_connect(const char *address, guint deadline_ms, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
int base_tcp_listen(const char *address, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
