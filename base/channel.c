/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel: messages (base/frame.h) in TLS records (base/tls.h) on a socket, with
 * deadlines.
 *
 * Waiting is done here and nowhere below, always in poll() and without a lock. Small
 * pieces are gathered to a whole record; of a large payload only what fills a record
 * begun, and the rest that fills none, is copied. A payload arrives where its reader
 * will see it.
 *
 * The first error is the channel's last: it is kept, and the socket is shut down, which
 * wakes whoever waits for it here and tells the peer.
 */
#include "base/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/tcp.h"
#include "base/tls.h"

G_DEFINE_QUARK(base - channel - error - quark, base_channel_error)

#define BATCH (64u << 10) /* sealed bytes that are worth a system call */
#define BEGUN_MS 10000u /* for a message that began while nobody waited for it */
#define MS G_GUINT64_CONSTANT(1000000) /* nanoseconds */
#define NEVER G_MAXUINT64

struct base_channel {
	int fd;
	char *peer;
	base_tls *tls;
	gint dead; /* set once `cause` is */
	GMutex death;
	GError *cause;

	/* The sending thread's. */
	guint8 *gathered; /* of the next record */
	gsize gathered_bytes;

	/* The receiving thread's. */
	base_frame_decoder *decoder;
	GError *refused; /* the message that ended receiving, and only that */
	struct base_message last;
	gboolean again; /* `last` is to be given again */

	guint64 sent_bytes, received_bytes, sent_messages, received_messages;
};

/* Ends the channel with `reason`, unless it has ended before. FALSE with the cause. */
static gboolean die_take(base_channel *channel, GError *reason, GError **error)
{
	g_mutex_lock(&channel->death);
	if (channel->cause) {
		g_error_free(reason);
	} else {
		g_prefix_error(&reason, "connection with %s: ", channel->peer);
		channel->cause = reason;
		g_atomic_int_set(&channel->dead, TRUE);
		shutdown(channel->fd, SHUT_RDWR);
	}
	if (error)
		*error = g_error_copy(channel->cause);
	g_mutex_unlock(&channel->death);
	return FALSE;
}

static gboolean die(base_channel *channel, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
static gboolean die(base_channel *channel, GError **error, const char *format, ...)
{
	GError *reason;
	va_list args;

	va_start(args, format);
	reason =
		g_error_new_valist(BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST, format, args);
	va_end(args);
	return die_take(channel, reason, error);
}

static gboolean is_alive(base_channel *channel, GError **error)
{
	if (!g_atomic_int_get(&channel->dead))
		return TRUE;
	g_mutex_lock(&channel->death);
	if (error)
		*error = g_error_copy(channel->cause);
	g_mutex_unlock(&channel->death);
	return FALSE;
}

static void count(guint64 *counter, guint64 by)
{
	__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

struct deadline {
	guint64 at_ns;
	guint ms; /* for the message */
};

static struct deadline deadline_in(guint ms)
{
	return (struct deadline){ base_clock_monotonic_ns() + ms * MS, ms };
}

/* Until the socket may be read or written, or is dead. */
static gboolean wait_for(base_channel *channel, short events,
			 const struct deadline *deadline, GError **error)
{
	struct pollfd poller = { .fd = channel->fd, .events = events };

	for (;;) {
		guint64 now = base_clock_monotonic_ns();
		gint ms = -1;
		int n, err;

		if (deadline->at_ns != NEVER) {
			if (now >= deadline->at_ns)
				return die(channel, error, "%s within %u ms",
					   events & POLLIN
						   ? "the peer sent nothing whole"
						   : "the peer did not take all",
					   deadline->ms);
			ms = (gint)MIN((deadline->at_ns - now + MS - 1) / MS, 1000000);
		}
		n = poll(&poller, 1, ms);
		err = errno;
		if (n > 0)
			return is_alive(channel, error);
		if (n < 0 && err != EINTR)
			return die(channel, error, "poll: %s", g_strerror(err));
	}
}

/* Drains until no more than `leave` bytes are left. */
static gboolean drain(base_channel *channel, gsize leave,
		      const struct deadline *deadline, GError **error)
{
	for (;;) {
		int rc = base_tls_drain(channel->tls, channel->fd);

		if (rc < 0 && rc != -EAGAIN)
			return die(channel, error, "send: %s", g_strerror(-rc));
		if (base_tls_pending(channel->tls) <= leave)
			return TRUE;
		if (!wait_for(channel, POLLOUT, deadline, error))
			return FALSE;
	}
}

static gboolean fill(base_channel *channel, const struct deadline *deadline,
		     GError **error)
{
	for (;;) {
		gssize n = base_tls_fill(channel->tls, channel->fd);

		if (n > 0)
			return TRUE;
		if (n == 0)
			return die(channel, error, "the peer is gone without goodbye");
		if (n != -EAGAIN)
			return die(channel, error, "receive: %s", g_strerror((int)-n));
		if (!wait_for(channel, POLLIN, deadline, error))
			return FALSE;
	}
}

static gboolean shake_hands(base_channel *channel, const struct deadline *deadline,
			    GError **error)
{
	for (;;) {
		GError *reason = NULL;

		switch (base_tls_handshake(channel->tls, &reason)) {
		case BASE_TLS_DONE:
			return drain(channel, 0, deadline, error);
		case BASE_TLS_HUNGRY:
			if (!drain(channel, 0, deadline, error) ||
			    !fill(channel, deadline, error))
				return FALSE;
			break;
		case BASE_TLS_FAILED:
			/* The alert, so that the peer knows why too. */
			base_tls_drain(channel->tls, channel->fd);
			return die_take(channel, reason, error);
		}
	}
}

base_channel *base_channel_new_take(int fd, gboolean server, const base_key *key,
				    const struct base_message_rule *rules,
				    guint deadline_ms, GError **error)
{
	g_autoptr(base_channel) channel = g_new0(base_channel, 1);
	struct deadline deadline = deadline_in(deadline_ms);

	channel->fd = fd;
	channel->peer = base_tcp_peer(fd);
	g_mutex_init(&channel->death);
	channel->gathered = g_malloc(BASE_TLS_RECORD_MAX);
	channel->decoder = base_frame_decoder_new(rules);
	channel->tls = base_tls_new(server, key, error);
	if (!channel->tls || !shake_hands(channel, &deadline, error))
		return NULL;
	return g_steal_pointer(&channel);
}

static gboolean seal(base_channel *channel, const void *bytes, gsize length,
		     const struct deadline *deadline, GError **error)
{
	GError *reason = NULL;

	while (!base_tls_has_room(channel->tls))
		if (!drain(channel, BATCH, deadline, error))
			return FALSE;
	if (!base_tls_seal(channel->tls, bytes, length, &reason))
		return die_take(channel, reason, error);
	if (base_tls_pending(channel->tls) >= BATCH) {
		int rc = base_tls_drain(channel->tls, channel->fd);

		if (rc < 0 && rc != -EAGAIN)
			return die(channel, error, "send: %s", g_strerror(-rc));
	}
	return TRUE;
}

static gboolean seal_gathered(base_channel *channel, const struct deadline *deadline,
			      GError **error)
{
	gsize length = channel->gathered_bytes;

	channel->gathered_bytes = 0;
	return !length || seal(channel, channel->gathered, length, deadline, error);
}

static gboolean gather(base_channel *channel, const guint8 *bytes, gsize length,
		       const struct deadline *deadline, GError **error)
{
	while (length) {
		gsize n = MIN(length, BASE_TLS_RECORD_MAX - channel->gathered_bytes);

		if (n == BASE_TLS_RECORD_MAX) {
			if (!seal(channel, bytes, n, deadline, error))
				return FALSE;
		} else {
			memcpy(channel->gathered + channel->gathered_bytes, bytes, n);
			channel->gathered_bytes += n;
			if (channel->gathered_bytes == BASE_TLS_RECORD_MAX &&
			    !seal_gathered(channel, deadline, error))
				return FALSE;
		}
		bytes += n;
		length -= n;
	}
	return TRUE;
}

gboolean base_channel_send(base_channel *channel, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint pieces, guint deadline_ms,
			   GError **error)
{
	struct deadline deadline = deadline_in(deadline_ms);
	struct wire_frame frame;

	if (!is_alive(channel, error))
		return FALSE;
	base_frame_encode(&frame, type, epoch, iov, pieces);
	if (!gather(channel, (const guint8 *)&frame, sizeof(frame), &deadline, error))
		return FALSE;
	for (guint i = 0; i < pieces; i++)
		if (!gather(channel, iov[i].iov_base, iov[i].iov_len, &deadline, error))
			return FALSE;
	count(&channel->sent_messages, 1);
	count(&channel->sent_bytes, sizeof(frame) + wire_get32(frame.length));
	return TRUE;
}

gboolean base_channel_flush(base_channel *channel, guint deadline_ms, GError **error)
{
	struct deadline deadline = deadline_in(deadline_ms);

	return is_alive(channel, error) && seal_gathered(channel, &deadline, error) &&
	       drain(channel, 0, &deadline, error);
}

/* What a new reason is when the peer ends the connection within a message. */
static void mind_the_rest(base_channel *channel, GError **reason)
{
	if (g_error_matches(*reason, BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED) &&
	    base_frame_decoder_begun(channel->decoder)) {
		(*reason)->code = BASE_CHANNEL_PROTOCOL;
		g_prefix_error(reason, "within a message ");
	}
}

/* More bytes for the decoder. */
static gboolean open_some(base_channel *channel, gsize *got, struct deadline *deadline,
			  GError **error)
{
	guint8 *where;
	gsize room = base_frame_decoder_room(channel->decoder, &where);

	for (;;) {
		GError *reason = NULL;

		switch (base_tls_open(channel->tls, where, room, got, &reason)) {
		case BASE_TLS_DONE:
			return TRUE;
		case BASE_TLS_HUNGRY:
			/* A change of the peer's key has left ours to send. */
			base_tls_drain(channel->tls, channel->fd);
			if (deadline->at_ns == NEVER &&
			    (base_tls_mid_record(channel->tls) ||
			     base_frame_decoder_begun(channel->decoder)))
				*deadline = deadline_in(BEGUN_MS);
			if (!fill(channel, deadline, error))
				return FALSE;
			break;
		case BASE_TLS_FAILED:
			mind_the_rest(channel, &reason);
			return die_take(channel, reason, error);
		}
	}
}

/* Whether another message may be received. */
static gboolean is_open(const base_channel *channel, GError **error)
{
	if (!channel->refused)
		return TRUE;
	if (error)
		*error = g_error_copy(channel->refused);
	return FALSE;
}

gboolean base_channel_receive(base_channel *channel, struct base_message *message,
			      guint deadline_ms, GError **error)
{
	struct deadline deadline = { NEVER, 0 };
	enum base_frame_verdict verdict;
	GError *reason = NULL;

	if (!is_open(channel, error))
		return FALSE;
	if (channel->again) {
		channel->again = FALSE;
		*message = channel->last;
		return TRUE;
	}
	if (deadline_ms)
		deadline = deadline_in(deadline_ms);
	do {
		gsize got;

		if (!is_alive(channel, error) ||
		    !open_some(channel, &got, &deadline, error))
			return FALSE;
		verdict = base_frame_decoder_arrived(channel->decoder, got, message,
						     &reason);
	} while (verdict == BASE_FRAME_MORE);
	if (verdict == BASE_FRAME_REFUSED) {
		g_prefix_error(&reason, "connection with %s: ", channel->peer);
		channel->refused = reason;
		return is_open(channel, error);
	}
	count(&channel->received_messages, 1);
	count(&channel->received_bytes, sizeof(struct wire_frame) + message->length);
	channel->last = *message;
	return TRUE;
}

void base_channel_put_back(base_channel *channel)
{
	channel->again = TRUE;
}

int base_channel_dup_fd(const base_channel *channel)
{
	return fcntl(channel->fd, F_DUPFD_CLOEXEC, 0);
}

void base_channel_drain(base_channel *channel, guint deadline_ms)
{
	struct deadline deadline = deadline_in(deadline_ms);
	g_autofree guint8 *nowhere = g_malloc(BASE_TLS_RECORD_MAX);
	gsize got;

	while (is_alive(channel, NULL)) {
		switch (base_tls_open(channel->tls, nowhere, BASE_TLS_RECORD_MAX, &got, NULL)) {
		case BASE_TLS_DONE:
			/* However much it sends. */
			if (base_clock_monotonic_ns() >= deadline.at_ns)
				base_channel_abort(channel);
			break;
		case BASE_TLS_HUNGRY:
			if (!fill(channel, &deadline, NULL))
				return;
			break;
		case BASE_TLS_FAILED:
			base_channel_abort(channel);
			break;
		}
	}
}

void base_channel_abort(base_channel *channel)
{
	die(channel, NULL, "given up here");
}

void base_channel_rekey(base_channel *channel)
{
	base_tls_rekey(channel->tls);
}

const char *base_channel_peer(const base_channel *channel)
{
	return channel->peer;
}

void base_channel_get_counters(base_channel *channel,
			       struct base_channel_counters *counters)
{
	*counters = (struct base_channel_counters){
		.sent_bytes = __atomic_load_n(&channel->sent_bytes, __ATOMIC_RELAXED),
		.received_bytes =
			__atomic_load_n(&channel->received_bytes, __ATOMIC_RELAXED),
		.sent_messages =
			__atomic_load_n(&channel->sent_messages, __ATOMIC_RELAXED),
		.received_messages =
			__atomic_load_n(&channel->received_messages, __ATOMIC_RELAXED),
	};
	base_tls_get_rekeys(channel->tls, &counters->rekeys, &counters->peer_rekeys);
}

/* Whatever was gathered and fits, then the goodbye, as far as the socket takes them. */
static void say_goodbye(base_channel *channel)
{
	gsize length = channel->gathered_bytes;

	base_tls_drain(channel->tls, channel->fd);
	if (!base_tls_has_room(channel->tls))
		return;
	if (length && !base_tls_seal(channel->tls, channel->gathered, length, NULL))
		return;
	base_tls_say_goodbye(channel->tls);
	base_tls_drain(channel->tls, channel->fd);
}

void base_channel_free(base_channel *channel)
{
	if (!channel)
		return;
	if (!g_atomic_int_get(&channel->dead) && channel->tls)
		say_goodbye(channel);
	base_fd_clear(&channel->fd);
	base_tls_free(channel->tls);
	base_frame_decoder_free(channel->decoder);
	g_free(channel->gathered);
	g_free(channel->peer);
	g_mutex_clear(&channel->death);
	g_clear_error(&channel->cause);
	g_clear_error(&channel->refused);
	g_free(channel);
}
