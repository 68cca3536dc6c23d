/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection to colo-vm. */
#include "netcompare/peer.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"

#define BACK_OFF_MIN_MS 50u
#define BACK_OFF_MAX_MS 2000u
#define BATCH 32u
/* More messages than fit into the socket. */
#define BATCHES_MAX 1024u

struct ncmp_peer {
	char *path;
	guint cards;
	struct ncmp_peer_hooks hooks;
	GMainContext *context;
	int fd; /* -1: not connected */
	GSource *source; /* of the connection, or of the pause before the next */
	guint back_off_ms;
	gboolean complained; /* that nobody is there */
	guint8 *buffer; /* BATCH messages */
	struct ncmp_talk talk; /* on this connection */
	struct ncmp_talk last; /* on the last one before it with a greeting */
};

static void connect_later(ncmp_peer *peer);

static void end_source(ncmp_peer *peer)
{
	if (!peer->source)
		return;
	g_source_destroy(peer->source);
	g_clear_pointer(&peer->source, g_source_unref);
}

static void hang_up(ncmp_peer *peer, const char *why)
{
	gboolean was_met = peer->talk.met;

	if (peer->fd < 0)
		return;
	g_warning("colo-vm: connection ended, all is held why=\"%s\"", why);
	base_fd_clear(&peer->fd);
	if (was_met)
		peer->last = peer->talk;
	memset(&peer->talk, 0, sizeof(peer->talk));
	connect_later(peer);
	if (was_met)
		peer->hooks.gone(peer->hooks.data);
}

static void say(ncmp_peer *peer, enum wire_output_type type, guint64 epoch,
		const void *payload, gsize len)
{
	guint8 bytes[sizeof(struct wire_output_head) + sizeof(struct wire_output_mode) +
		     WIRE_OUTPUT_TEXT_MAX];
	struct wire_output_head head = {
		.type = wire_put16((guint16)type),
		.length = wire_put32((guint32)len),
		.epoch = wire_put64(epoch),
	};

	g_assert(sizeof(head) + len <= sizeof(bytes));
	memcpy(bytes, &head, sizeof(head));
	if (len)
		memcpy(bytes + sizeof(head), payload, len);
	/* One that is full is as good as none: it is made anew, and a checkpoint with
	 * it. */
	if (send(peer->fd, bytes, sizeof(head) + len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		g_warning("colo-vm: cannot be told anything why=\"%s\"", g_strerror(errno));
		/* This may be in the midst of a comparison, which gone() would change: so
		 * whoever reads next, always before packets are judged, finds the end. */
		shutdown(peer->fd, SHUT_RDWR);
	}
}

static void take_greeting(ncmp_peer *peer)
{
	gboolean again = peer->last.met && !memcmp(peer->last.secret, peer->talk.secret,
						   sizeof(peer->talk.secret));

	if (peer->talk.cards > peer->cards) {
		g_autofree char *why =
			g_strdup_printf("its machine has %u cards, and --tap names %u",
					peer->talk.cards, peer->cards);

		peer->talk.met = FALSE;
		hang_up(peer, why);
		return;
	}
	g_message("colo-vm: connected cards=%u again=%d", peer->talk.cards, again);
	peer->back_off_ms = BACK_OFF_MIN_MS;
	peer->complained = FALSE;
	peer->hooks.greeted(peer->hooks.data, peer->last.met && !again);
	say(peer, WIRE_OUTPUT_READY, 0, NULL, 0);
}

/* FALSE: the connection is no more. */
static gboolean take_message(ncmp_peer *peer, const guint8 *bytes, gsize len)
{
	struct ncmp_message message;
	const char *why = ncmp_talk_take(&peer->talk, bytes, len, &message);

	if (why)
		hang_up(peer, why);
	else if (message.type == WIRE_OUTPUT_HELLO)
		take_greeting(peer);
	else
		peer->hooks.told(peer->hooks.data, &message);
	return peer->fd >= 0;
}

/* FALSE: nothing more is there now. */
static gboolean take_batch(ncmp_peer *peer)
{
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	int got;

	memset(messages, 0, sizeof(messages));
	for (guint i = 0; i < BATCH; i++) {
		/* A byte more than is right, so that what is too long is seen. */
		parts[i].iov_base = peer->buffer + i * (NCMP_MESSAGE_MAX + 1);
		parts[i].iov_len = NCMP_MESSAGE_MAX + 1;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	got = recvmmsg(peer->fd, messages, BATCH, MSG_DONTWAIT, NULL);
	if (got < 0) {
		int err = errno;

		if (err != EAGAIN && err != EINTR)
			hang_up(peer, g_strerror(err));
		return err == EINTR;
	}
	for (int i = 0; i < got; i++) {
		/* A packet without bytes looks like the end, and is no message either.
		 */
		if (messages[i].msg_len == 0) {
			hang_up(peer, "it ended the connection");
			return FALSE;
		}
		if (!take_message(peer, parts[i].iov_base, messages[i].msg_len))
			return FALSE;
	}
	/* Fewer than there is room for are all. */
	return got == BATCH;
}

void ncmp_peer_drain(ncmp_peer *peer)
{
	/* What is said while we read need not be read too. */
	for (guint i = 0; i < BATCHES_MAX && peer->fd >= 0 && take_batch(peer); i++)
		;
}

static gboolean serve(int fd, GIOCondition condition, gpointer data)
{
	ncmp_peer *peer = data;

	ncmp_peer_drain(peer);
	peer->hooks.settled(peer->hooks.data);
	return G_SOURCE_CONTINUE;
}

static int try_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	base_autofd int fd =
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* Its length was judged when the peer was made. */
	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return base_fd_steal(&fd);
}

static gboolean connect_now(gpointer data)
{
	ncmp_peer *peer = data;
	int fd = try_connect(peer->path);

	if (fd < 0) {
		if (!peer->complained)
			g_message("colo-vm: not there yet, is tried again socket=%s "
				  "why=\"%s\"",
				  peer->path, g_strerror(-fd));
		peer->complained = TRUE;
		connect_later(peer);
		return G_SOURCE_REMOVE;
	}
	end_source(peer);
	peer->fd = fd;
	peer->source = g_unix_fd_source_new(fd, G_IO_IN);
	g_source_set_callback(peer->source, G_SOURCE_FUNC(serve), peer, NULL);
	g_source_set_can_recurse(peer->source, TRUE); /* cheaper, see comparator.c */
	g_source_attach(peer->source, peer->context);
	return G_SOURCE_REMOVE;
}

/* After a pause that grows until somebody greets. */
static void connect_later(ncmp_peer *peer)
{
	end_source(peer);
	peer->source = g_timeout_source_new(peer->back_off_ms);
	g_source_set_callback(peer->source, connect_now, peer, NULL);
	g_source_attach(peer->source, peer->context);
	peer->back_off_ms = MIN(peer->back_off_ms * 2, BACK_OFF_MAX_MS);
}

ncmp_peer *ncmp_peer_new(const char *path, guint cards,
			 const struct ncmp_peer_hooks *hooks)
{
	ncmp_peer *peer = g_new0(ncmp_peer, 1);

	peer->path = g_strdup(path);
	peer->cards = cards;
	peer->hooks = *hooks;
	peer->context = g_main_context_ref_thread_default();
	peer->fd = -1;
	peer->back_off_ms = BACK_OFF_MIN_MS;
	peer->buffer = g_malloc(BATCH * (NCMP_MESSAGE_MAX + 1));
	peer->source = g_idle_source_new();
	g_source_set_callback(peer->source, connect_now, peer, NULL);
	g_source_attach(peer->source, peer->context);
	return peer;
}

void ncmp_peer_free(ncmp_peer *peer)
{
	if (!peer)
		return;
	end_source(peer);
	base_fd_clear(&peer->fd);
	g_main_context_unref(peer->context);
	g_free(peer->buffer);
	g_free(peer->path);
	g_free(peer);
}

const struct ncmp_talk *ncmp_peer_talk(const ncmp_peer *peer)
{
	return peer->talk.met ? &peer->talk : &peer->last;
}

gboolean ncmp_peer_is_connected(const ncmp_peer *peer)
{
	return peer->fd >= 0 && peer->talk.met;
}

void ncmp_peer_request(ncmp_peer *peer, guint64 epoch, enum ncmp_cause cause)
{
	struct wire_output_request request = { .cause = wire_put32((guint32)cause) };

	if (ncmp_peer_is_connected(peer))
		say(peer, WIRE_OUTPUT_REQUEST, epoch, &request, sizeof(request));
}

void ncmp_peer_drained(ncmp_peer *peer, guint64 epoch)
{
	if (ncmp_peer_is_connected(peer))
		say(peer, WIRE_OUTPUT_DRAINED, epoch, NULL, 0);
}

void ncmp_peer_mode(ncmp_peer *peer, gboolean compare, const char *why)
{
	guint8 bytes[sizeof(struct wire_output_mode) + WIRE_OUTPUT_TEXT_MAX];
	struct wire_output_mode mode = { .compare = compare != FALSE };
	const char *end;
	gsize len = strlen(why);

	if (!ncmp_peer_is_connected(peer))
		return;
	if (len > WIRE_OUTPUT_TEXT_MAX) {
		end = g_utf8_find_prev_char(why, why + WIRE_OUTPUT_TEXT_MAX + 1);
		len = end ? (gsize)(end - why) : 0;
	}
	memcpy(bytes, &mode, sizeof(mode));
	memcpy(bytes + sizeof(mode), why, len);
	say(peer, WIRE_OUTPUT_MODE, 0, bytes, sizeof(mode) + len);
}
