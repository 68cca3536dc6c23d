/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Somebody with the pair's key between the two nodes. */
#include "tests/micro/wiretap.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/tls.h"
#include "checkpoint/protocol.h"

/* One of the two connections: [TO_SECONDARY] comes from the primary. */
struct end {
	int fd;
	base_tls *tls;
	base_frame_decoder *decoder;
	gboolean ready;
};

struct wiretap {
	struct end ends[2];
	wiretap_fn fn;
	void *data;
	guint messages;
	gint stop; /* atomic */
	GThread *thread;
};

static gboolean wait_to_write(struct wiretap *tap, int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLOUT };

	while (!g_atomic_int_get(&tap->stop))
		if (poll(&poller, 1, 20) > 0)
			return !(poller.revents & (POLLERR | POLLHUP));
	return FALSE;
}

static gboolean drain(struct wiretap *tap, struct end *end)
{
	int rc = 0;

	while ((rc = base_tls_drain(end->tls, end->fd)) == -EAGAIN ||
	       base_tls_pending(end->tls))
		if ((rc && rc != -EAGAIN) || !wait_to_write(tap, end->fd))
			return FALSE;
	return rc == 0;
}

static gboolean send_bytes(struct wiretap *tap, struct end *end, const guint8 *bytes,
			   gsize len)
{
	while (len) {
		gsize n = MIN(len, BASE_TLS_RECORD_MAX);

		if (!base_tls_has_room(end->tls) && !drain(tap, end))
			return FALSE;
		if (!base_tls_seal(end->tls, bytes, n, NULL))
			return FALSE;
		bytes += n;
		len -= n;
	}
	return drain(tap, end);
}

static gboolean trickle(struct wiretap *tap, struct end *end, const GByteArray *bytes,
			guint ms)
{
	for (guint i = 0; i < bytes->len && !g_atomic_int_get(&tap->stop); i++) {
		if (!send_bytes(tap, end, bytes->data + i, 1))
			return FALSE;
		g_usleep(ms * 1000);
	}
	return TRUE;
}

static gboolean pass_on(struct wiretap *tap, guint way, const struct base_message *message)
{
	struct wiretap_message on = { .way = way,
				      .index = tap->messages++,
				      .type = message->type,
				      .epoch = message->epoch };
	struct end *end = &tap->ends[!way];
	gboolean ok;

	on.bytes = g_byte_array_new();
	wiretap_put(on.bytes, message->type, message->epoch, message->payload,
		    message->length);
	tap->fn(tap->data, &on);
	ok = on.trickle_ms ? trickle(tap, end, on.bytes, on.trickle_ms) :
			     send_bytes(tap, end, on.bytes->data, on.bytes->len);
	g_byte_array_unref(on.bytes);
	return ok && !on.cut;
}

/* What can be read of what came; FALSE: over. */
static gboolean read_messages(struct wiretap *tap, guint way)
{
	struct end *end = &tap->ends[way];

	for (;;) {
		struct base_message message;
		guint8 *where;
		gsize room = base_frame_decoder_room(end->decoder, &where), got;
		enum base_tls_progress progress =
			base_tls_open(end->tls, where, room, &got, NULL);

		if (progress != BASE_TLS_DONE)
			return progress == BASE_TLS_HUNGRY;
		switch (base_frame_decoder_arrived(end->decoder, got, &message, NULL)) {
		case BASE_FRAME_MORE:
			break;
		case BASE_FRAME_WHOLE:
			if (!pass_on(tap, way, &message))
				return FALSE;
			break;
		case BASE_FRAME_REFUSED:
			g_error("a node sent what is no message");
		}
	}
}

static gboolean serve(struct wiretap *tap, guint way)
{
	struct end *end = &tap->ends[way];
	gssize n = base_tls_fill(end->tls, end->fd);

	if (n == 0 || (n < 0 && n != -EAGAIN))
		return FALSE;
	if (end->ready)
		return read_messages(tap, way);
	switch (base_tls_handshake(end->tls, NULL)) {
	case BASE_TLS_DONE:
		end->ready = TRUE;
		return drain(tap, end);
	case BASE_TLS_HUNGRY:
		return drain(tap, end);
	default:
		drain(tap, end);
		return FALSE;
	}
}

static void *run(void *data)
{
	struct wiretap *tap = data;
	gboolean ok = TRUE;

	/* The client speaks first, and that is this end of the secondary's connection. */
	base_tls_handshake(tap->ends[TO_PRIMARY].tls, NULL);
	ok = drain(tap, &tap->ends[TO_PRIMARY]);
	while (ok && !g_atomic_int_get(&tap->stop)) {
		gboolean both = tap->ends[0].ready && tap->ends[1].ready;
		struct pollfd pollers[2];

		for (guint way = 0; way < 2; way++)
			pollers[way] = (struct pollfd){
				.fd = !tap->ends[way].ready || both ? tap->ends[way].fd : -1,
				.events = POLLIN
			};
		if (poll(pollers, 2, 20) <= 0)
			continue;
		for (guint way = 0; ok && way < 2; way++)
			if (pollers[way].revents)
				ok = serve(tap, way);
		/* What came along with the end of a handshake. */
		if (!both && tap->ends[0].ready && tap->ends[1].ready)
			ok = ok && read_messages(tap, 0) && read_messages(tap, 1);
	}
	for (guint way = 0; way < 2; way++)
		shutdown(tap->ends[way].fd, SHUT_RDWR);
	return NULL;
}

wiretap *wiretap_new(const base_key *key, wiretap_fn fn, void *data, int ends[2])
{
	wiretap *tap = g_new0(wiretap, 1);

	tap->fn = fn;
	tap->data = data;
	for (guint way = 0; way < 2; way++) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
			g_error("socketpair: %s", g_strerror(errno));
		tap->ends[way].fd = fds[0];
		tap->ends[way].tls = base_tls_new(way == TO_SECONDARY, key, NULL);
		tap->ends[way].decoder = base_frame_decoder_new(ckpt_rules);
		ends[way] = fds[1];
	}
	tap->thread = g_thread_new("wiretap", run, tap);
	return tap;
}

void wiretap_free(wiretap *tap)
{
	if (!tap)
		return;
	g_atomic_int_set(&tap->stop, 1);
	g_thread_join(tap->thread);
	for (guint way = 0; way < 2; way++) {
		close(tap->ends[way].fd);
		base_tls_free(tap->ends[way].tls);
		base_frame_decoder_free(tap->ends[way].decoder);
	}
	g_free(tap);
}

void wiretap_put(GByteArray *bytes, guint16 type, guint64 epoch, const void *payload,
		 gsize len)
{
	struct iovec iov = { (void *)payload, len };
	struct wire_frame frame;

	base_frame_encode(&frame, type, epoch, &iov, 1);
	g_byte_array_append(bytes, (guint8 *)&frame, sizeof(frame));
	if (len)
		g_byte_array_append(bytes, payload, (guint)len);
}

void wiretap_mend(GByteArray *bytes)
{
	struct wire_frame frame;

	memcpy(&frame, bytes->data, sizeof(frame));
	frame.length = wire_put32((guint32)(bytes->len - sizeof(frame)));
	frame.checksum = wire_put64(0);
	memcpy(bytes->data, &frame, sizeof(frame));
	frame.checksum = wire_put64(XXH3_64bits(bytes->data, bytes->len));
	memcpy(bytes->data, &frame, sizeof(frame));
}
