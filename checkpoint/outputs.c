/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-vm's end of the comparator's socket.
 *
 * Whoever tells something sends it, under the lock, without waiting; only where the
 * socket is full it goes into the queue, which this file's thread sends on. That thread
 * also accepts, reads, and is the only one that closes the connection.
 */
#include "checkpoint/outputs.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/ratelimit.h"
#include "base/unixsock.h"
#include "kvm/error.h"

#define QUEUE_MAX (16u << 20)
/* What the kernel may hold before we do; it gives what it allows. */
#define SOCKET_BUFFER (1 << 20)
#define MODES_APART_US 100000
#define ETHERNET_HEADER 14u
#define IP_HEADER 20u

G_STATIC_ASSERT(CKPT_MARKER_BYTES == 66);

struct packet {
	guint16 type;
	gsize len;
	guint8 bytes[];
};
/* What a packet takes beside its bytes, allocator and list included. */
#define PACKET_COST 128u
/* Packets that are sent without letting others at the lock. */
#define SENT_AT_ONCE 32u

struct ckpt_outputs {
	struct ckpt_outputs_hooks hooks;
	guint cards;
	guint8 secret[WIRE_OUTPUT_SECRET];
	base_listener *listener;
	int wake; /* an eventfd */
	GThread *thread;
	/* Of the thread. */
	gint64 mode_us; /* when the mode was last spoken of */
	struct base_ratelimit complaints;

	GMutex lock; /* of what follows */
	gboolean stop;
	int fd; /* -1: nobody is there */
	gboolean ready;
	char *end; /* why the thread is to close it; NULL: it is not */
	GQueue queue; /* struct packet */
	gsize queued;
	enum wire_output_gate_kind gate;
	gboolean run; /* in the epoch that was cut last */
	/* On the socket epochs are `base` more than those that we are told. */
	guint64 base, cut, committed;
	guint64 from; /* the first epoch whose cut this comparator was told */
	guint64 drain; /* what it was asked to drain; 0: nothing, or it has */
	struct ckpt_outputs_counters counters;
};

/* Telling it, under the lock. */

static void wake(ckpt_outputs *outputs)
{
	guint64 one = 1;

	if (write(outputs->wake, &one, sizeof(one)) < 0)
		g_assert(errno == EAGAIN);
}

static gsize cost_of(const struct packet *packet)
{
	return packet->len + PACKET_COST;
}

static void drop_queue(ckpt_outputs *outputs)
{
	g_queue_clear_full(&outputs->queue, g_free);
	outputs->queued = 0;
}

/* The comparator sees the end at once; the thread does the rest. */
static void end(ckpt_outputs *outputs, const char *why)
{
	if (outputs->fd < 0 || outputs->end)
		return;
	outputs->end = g_strdup(why);
	shutdown(outputs->fd, SHUT_RDWR);
	drop_queue(outputs);
	wake(outputs);
}

static void hang_up(ckpt_outputs *outputs, const char *why)
{
	if (outputs->fd >= 0 && !outputs->end)
		outputs->counters.hung_up++;
	end(outputs, why);
}

/* FALSE: not now. */
static gboolean send_now(ckpt_outputs *outputs, const struct iovec *iov, guint count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };
	gssize sent;

	do
		sent = sendmsg(outputs->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return TRUE;
	if (errno == EAGAIN || errno == ENOBUFS)
		return FALSE;
	/* What was not said must not be taken for said. */
	end(outputs, g_strerror(errno));
	return TRUE;
}

static void queue_up(ckpt_outputs *outputs, guint16 type, const struct iovec *iov,
		     guint count)
{
	struct packet *packet;
	gsize len = 0, at = 0;

	for (guint i = 0; i < count; i++)
		len += iov[i].iov_len;
	if (outputs->queued + len + PACKET_COST > QUEUE_MAX) {
		hang_up(outputs, "it does not read what it is told");
		return;
	}
	packet = g_malloc(sizeof(*packet) + len);
	packet->type = type;
	packet->len = len;
	for (guint i = 0; i < count; i++) {
		memcpy(packet->bytes + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	if (!outputs->queue.length)
		wake(outputs);
	g_queue_push_tail(&outputs->queue, packet);
	outputs->queued += cost_of(packet);
}

/* FALSE: it has to wait, and does. */
static gboolean say(ckpt_outputs *outputs, guint16 type, guint device, guint64 epoch,
		    const void *payload, gsize len)
{
	struct wire_output_head head = {
		.type = wire_put16(type),
		.device = wire_put16((guint16)device),
		.length = wire_put32((guint32)len),
		.epoch = wire_put64(epoch),
	};
	const struct iovec iov[] = { { &head, sizeof(head) },
				     { (void *)payload, len } };

	if (outputs->fd < 0 || outputs->end)
		return TRUE;
	if (!outputs->queue.length && send_now(outputs, iov, len ? 2 : 1))
		return TRUE;
	queue_up(outputs, type, iov, len ? 2 : 1);
	return FALSE;
}

static gboolean say_gate(ckpt_outputs *outputs)
{
	const struct wire_output_gate gate = { .kind = wire_put32(outputs->gate) };

	return say(outputs, WIRE_OUTPUT_GATE, 0, 0, &gate, sizeof(gate));
}

static gboolean say_cut(ckpt_outputs *outputs)
{
	const struct wire_output_cut cut = { .run = outputs->run != FALSE };

	return say(outputs, WIRE_OUTPUT_CUT, 0, outputs->cut, &cut, sizeof(cut));
}

static void say_hello(ckpt_outputs *outputs)
{
	struct wire_output_hello hello = {
		.version = wire_put32(WIRE_OUTPUT_VERSION),
		.cards = wire_put32(outputs->cards),
	};

	memcpy(hello.secret, outputs->secret, sizeof(hello.secret));
	say(outputs, WIRE_OUTPUT_HELLO, 0, 0, &hello, sizeof(hello));
}

/* What was queued of epochs that are over: held for nobody. */
static void drop_frames(ckpt_outputs *outputs)
{
	GList *next;

	for (GList *at = outputs->queue.head; at; at = next) {
		struct packet *packet = at->data;

		next = at->next;
		if (packet->type != WIRE_OUTPUT_FRAME &&
		    packet->type != WIRE_OUTPUT_LOST)
			continue;
		outputs->queued -= cost_of(packet);
		g_free(packet);
		g_queue_delete_link(&outputs->queue, at);
	}
}

void ckpt_outputs_set_gate(ckpt_outputs *outputs, enum wire_output_gate_kind kind)
{
	g_assert(kind != WIRE_GATE_GUARDED);
	g_mutex_lock(&outputs->lock);
	/* What the next replication calls 1 comes after all of this one's. */
	outputs->base = outputs->committed = outputs->cut;
	if (outputs->gate != kind) {
		outputs->gate = kind;
		if (outputs->ready)
			say_gate(outputs);
	}
	g_mutex_unlock(&outputs->lock);
}

static guint16 ip_checksum(const guint8 header[IP_HEADER])
{
	guint32 sum = 0;

	for (guint i = 0; i < IP_HEADER; i += 2)
		sum += (guint32)header[i] << 8 | header[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return (guint16) ~((sum & 0xffff) + (sum >> 16));
}

static void make_marker(ckpt_outputs *outputs, const guint8 mac[6],
			guint8 frame[CKPT_MARKER_BYTES])
{
	const guint total = CKPT_MARKER_BYTES - ETHERNET_HEADER;
	guint8 *ip = frame + ETHERNET_HEADER;
	struct wire_marker marker = { .magic = wire_put32(WIRE_MARKER_MAGIC),
				      .epoch = wire_put64(outputs->cut) };
	guint16 sum;

	memcpy(marker.secret, outputs->secret, sizeof(marker.secret));
	memset(frame, 0, CKPT_MARKER_BYTES);
	memcpy(frame, mac, 6);
	memcpy(frame + 6, mac, 6);
	frame[12] = 0x08; /* IPv4 */
	ip[0] = 0x45;
	ip[2] = (guint8)(total >> 8);
	ip[3] = (guint8)total;
	ip[9] = WIRE_MARKER_PROTOCOL;
	sum = ip_checksum(ip);
	ip[10] = (guint8)(sum >> 8);
	ip[11] = (guint8)sum;
	memcpy(ip + IP_HEADER, &marker, sizeof(marker));
}

gboolean ckpt_outputs_cut(ckpt_outputs *outputs, guint64 epoch, gboolean run,
			  const guint8 mac[6], guint8 marker[CKPT_MARKER_BYTES])
{
	gboolean begins, at_once = TRUE, mark;

	g_mutex_lock(&outputs->lock);
	begins = outputs->gate != WIRE_GATE_GUARDED;
	outputs->gate = WIRE_GATE_GUARDED;
	outputs->cut = outputs->base + epoch;
	outputs->run = run;
	if (outputs->ready) {
		if (begins)
			at_once = say_gate(outputs);
		at_once = say_cut(outputs) && at_once;
	}
	/* Until it reads that, it would let pass what the guest sends next. */
	if (begins && !at_once)
		hang_up(outputs, "it has no room for the gate that guards");
	mark = outputs->ready && !outputs->end;
	if (mark)
		make_marker(outputs, mac, marker);
	g_mutex_unlock(&outputs->lock);
	return mark;
}

void ckpt_outputs_marked(ckpt_outputs *outputs, gboolean sent)
{
	g_mutex_lock(&outputs->lock);
	if (sent)
		outputs->counters.markers_sent++;
	else
		outputs->counters.markers_missed++;
	g_mutex_unlock(&outputs->lock);
}

void ckpt_outputs_committed(ckpt_outputs *outputs, guint64 epoch)
{
	g_mutex_lock(&outputs->lock);
	if (outputs->gate == WIRE_GATE_GUARDED) {
		outputs->committed = outputs->base + epoch;
		drop_frames(outputs);
		if (outputs->ready && outputs->committed >= outputs->from)
			say(outputs, WIRE_OUTPUT_COMMITTED, 0, outputs->committed, NULL,
			    0);
	}
	g_mutex_unlock(&outputs->lock);
}

gboolean ckpt_outputs_drain(ckpt_outputs *outputs)
{
	gboolean asks;

	g_mutex_lock(&outputs->lock);
	asks = outputs->ready && !outputs->end && outputs->gate == WIRE_GATE_GUARDED &&
	       outputs->committed && outputs->committed >= outputs->from;
	if (asks) {
		outputs->drain = outputs->committed;
		say(outputs, WIRE_OUTPUT_DRAIN, 0, outputs->drain, NULL, 0);
	}
	g_mutex_unlock(&outputs->lock);
	return asks;
}

void ckpt_outputs_frame(ckpt_outputs *outputs, guint64 epoch, guint device,
			gboolean lost, const void *bytes, gsize len)
{
	guint64 told;

	g_mutex_lock(&outputs->lock);
	told = outputs->base + epoch;
	outputs->counters.lost += lost ? 1 : 0;
	if (outputs->gate != WIRE_GATE_GUARDED || told != outputs->committed ||
	    !outputs->ready || told < outputs->from) {
		outputs->counters.stale++;
	} else {
		if (lost)
			say(outputs, WIRE_OUTPUT_LOST, 0, told, NULL, 0);
		say(outputs, WIRE_OUTPUT_FRAME, device, told, bytes, len);
		outputs->counters.frames++;
		outputs->counters.bytes += len;
	}
	g_mutex_unlock(&outputs->lock);
}

gboolean ckpt_outputs_is_ready(ckpt_outputs *outputs)
{
	gboolean ready;

	g_mutex_lock(&outputs->lock);
	ready = outputs->ready;
	g_mutex_unlock(&outputs->lock);
	return ready;
}

void ckpt_outputs_get_counters(ckpt_outputs *outputs,
			       struct ckpt_outputs_counters *counters)
{
	g_mutex_lock(&outputs->lock);
	*counters = outputs->counters;
	counters->connected = outputs->fd >= 0;
	counters->ready = outputs->ready;
	counters->gate = outputs->gate;
	counters->epoch = outputs->cut;
	counters->committed = outputs->committed;
	g_mutex_unlock(&outputs->lock);
}

/* What it says; on the thread. Each returns NULL, or why it is hung up on. */

static const char *take_ready(ckpt_outputs *outputs)
{
	gboolean ready;

	g_mutex_lock(&outputs->lock);
	ready = outputs->ready = !outputs->end;
	outputs->from = outputs->cut + 1;
	outputs->drain = 0;
	if (ready)
		say_gate(outputs);
	if (ready && outputs->gate == WIRE_GATE_GUARDED)
		say_cut(outputs);
	g_mutex_unlock(&outputs->lock);
	if (ready)
		outputs->hooks.ready(outputs->hooks.data, NULL);
	return NULL;
}

static const char *take_request(ckpt_outputs *outputs, guint64 epoch,
				const struct wire_output_request *request)
{
	guint32 cause = wire_get32(request->cause);
	gboolean late;

	if (wire_get32(request->pad))
		return "it asks with padding that is not zero";
	g_mutex_lock(&outputs->lock);
	late = epoch && epoch < outputs->cut;
	if (late)
		outputs->counters.late_requests++;
	else
		outputs->counters.requests[cause < CKPT_OUTPUT_CAUSES ? cause : 0]++;
	g_mutex_unlock(&outputs->lock);
	if (!late)
		outputs->hooks.request(outputs->hooks.data, cause);
	return NULL;
}

static const char *take_drained(ckpt_outputs *outputs, guint64 epoch)
{
	gboolean asked;

	g_mutex_lock(&outputs->lock);
	asked = epoch && epoch == outputs->drain;
	outputs->drain = 0;
	g_mutex_unlock(&outputs->lock);
	if (!asked)
		return "it answers what nobody asked";
	outputs->hooks.drained(outputs->hooks.data);
	return NULL;
}

static char *printable(const char *text, gsize len)
{
	GString *out = g_string_new(NULL);

	for (const char *at = text; at < text + len; at = g_utf8_next_char(at)) {
		gunichar c = g_utf8_get_char(at);

		g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
	}
	return g_string_free(out, FALSE);
}

static const char *take_mode(ckpt_outputs *outputs, const struct wire_output_mode *mode,
			     const char *text, gsize len)
{
	static const guint8 zero[sizeof(mode->pad)];
	gint64 now = g_get_monotonic_time();
	g_autofree char *why = NULL;

	if (mode->compare > 1 || memcmp(mode->pad, zero, sizeof(zero)))
		return "it speaks of a mode that does not exist";
	if (!g_utf8_validate(text, (gssize)len, NULL))
		return "its reason for a mode is not text";
	/* Each costs an event. */
	if (outputs->mode_us && now - outputs->mode_us < MODES_APART_US)
		return "it changes the mode too often";
	outputs->mode_us = now;
	why = printable(text, len);
	outputs->hooks.mode(outputs->hooks.data, mode->compare, why);
	return NULL;
}

/* As large as the largest message, and one byte. */
struct said {
	struct wire_output_head head;
	union {
		struct wire_output_request request;
		struct {
			struct wire_output_mode mode;
			char text[WIRE_OUTPUT_TEXT_MAX];
		};
	};
	guint8 beyond;
};

static const char *take(ckpt_outputs *outputs, const struct said *said, gsize got)
{
	gsize len = got - sizeof(said->head);
	gboolean ready = ckpt_outputs_is_ready(outputs);

	if (got < sizeof(said->head) || wire_get32(said->head.length) != len ||
	    wire_get16(said->head.device))
		return "it sends what is no message";
	switch (wire_get16(said->head.type)) {
	case WIRE_OUTPUT_READY:
		if (len || ready)
			return "it is ready out of turn";
		return take_ready(outputs);
	case WIRE_OUTPUT_REQUEST:
		if (len != sizeof(said->request) || !ready)
			return "it asks for a checkpoint out of turn, or oddly";
		return take_request(outputs, wire_get64(said->head.epoch),
				    &said->request);
	case WIRE_OUTPUT_MODE:
		if (len < sizeof(said->mode) ||
		    len > sizeof(said->mode) + sizeof(said->text) || !ready)
			return "it speaks of a mode out of turn, or oddly";
		return take_mode(outputs, &said->mode, said->text,
				 len - sizeof(said->mode));
	case WIRE_OUTPUT_DRAINED:
		if (len || !ready)
			return "it answers out of turn, or oddly";
		return take_drained(outputs, wire_get64(said->head.epoch));
	}
	return "it sends a message that is unknown";
}

/* One message, or the end. */
static void read_one(ckpt_outputs *outputs)
{
	struct said said;
	const char *why;
	gssize got;

	do
		got = recv(outputs->fd, &said, sizeof(said), MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return;
	why = got > 0 ? take(outputs, &said, (gsize)got) : NULL;
	g_mutex_lock(&outputs->lock);
	if (got <= 0)
		end(outputs, "it has left");
	else if (why)
		hang_up(outputs, why);
	g_mutex_unlock(&outputs->lock);
}

/* The thread. */

static void send_queue(ckpt_outputs *outputs)
{
	g_mutex_lock(&outputs->lock);
	/* Not all of a long queue at once: a cut may wait for the lock, and the guest for it. */
	for (guint i = 0; i < SENT_AT_ONCE && outputs->queue.length && !outputs->end; i++) {
		struct packet *packet = g_queue_peek_head(&outputs->queue);
		struct iovec iov = { packet->bytes, packet->len };

		if (!send_now(outputs, &iov, 1) || outputs->end)
			break;
		g_queue_pop_head(&outputs->queue);
		outputs->queued -= cost_of(packet);
		g_free(packet);
	}
	g_mutex_unlock(&outputs->lock);
}

static void complain(ckpt_outputs *outputs, const char *what, const char *why)
{
	guint left_out;

	if (base_ratelimit_pass(&outputs->complaints, &left_out))
		g_warning("outputs: comparator: %s: %s%s", what, why,
			  left_out ? " (and others)" : "");
}

/* Closes a connection that has ended. */
static void let_go(ckpt_outputs *outputs)
{
	g_autofree char *why = NULL;
	gboolean was_ready;

	g_mutex_lock(&outputs->lock);
	if (!outputs->end) {
		g_mutex_unlock(&outputs->lock);
		return;
	}
	why = g_steal_pointer(&outputs->end);
	was_ready = outputs->ready;
	outputs->ready = FALSE;
	base_fd_clear(&outputs->fd);
	drop_queue(outputs);
	g_mutex_unlock(&outputs->lock);
	if (was_ready)
		outputs->hooks.ready(outputs->hooks.data, why);
	else
		complain(outputs, "one that was never ready is gone", why);
}

static void welcome(ckpt_outputs *outputs)
{
	base_autofd int fd = base_listener_accept(outputs->listener);
	const int room = SOCKET_BUFFER;

	if (fd < 0)
		return;
	if (outputs->fd >= 0) {
		complain(outputs, "a second one is turned away", "there is one");
		return;
	}
	/* Less will do as well. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	g_mutex_lock(&outputs->lock);
	outputs->fd = base_fd_steal(&fd);
	outputs->counters.connections++;
	outputs->mode_us = 0;
	say_hello(outputs);
	g_mutex_unlock(&outputs->lock);
}

static gboolean is_waited_for(ckpt_outputs *outputs, gboolean *room)
{
	gboolean stop;

	g_mutex_lock(&outputs->lock);
	*room = outputs->queue.length > 0;
	stop = outputs->stop;
	g_mutex_unlock(&outputs->lock);
	return !stop;
}

static void *serve(void *data)
{
	ckpt_outputs *outputs = data;
	gboolean room;
	guint64 count;

	while (is_waited_for(outputs, &room)) {
		struct pollfd polled[] = {
			{ outputs->wake, POLLIN, 0 },
			{ base_listener_fd(outputs->listener), POLLIN, 0 },
			{ outputs->fd, (short)(POLLIN | (room ? POLLOUT : 0)), 0 },
		};

		if (poll(polled, G_N_ELEMENTS(polled), -1) < 0)
			continue; /* a signal */
		if (polled[0].revents && read(outputs->wake, &count, sizeof(count)) < 0)
			g_assert(errno == EAGAIN);
		if (outputs->fd >= 0 && polled[2].revents & POLLOUT)
			send_queue(outputs);
		if (outputs->fd >= 0 && polled[2].revents & ~POLLOUT)
			read_one(outputs);
		let_go(outputs);
		if (polled[1].revents)
			welcome(outputs);
	}
	return NULL;
}

ckpt_outputs *ckpt_outputs_new(const char *path, guint cards,
			       const struct ckpt_outputs_hooks *hooks, GError **error)
{
	g_autoptr(ckpt_outputs) outputs = g_new0(ckpt_outputs, 1);

	g_mutex_init(&outputs->lock);
	outputs->hooks = *hooks;
	outputs->cards = cards;
	outputs->fd = outputs->wake = -1;
	outputs->from = 1;
	outputs->listener = base_listener_new_packets(path, error);
	vmm_error_of_socket(error);
	if (!outputs->listener)
		return NULL;
	outputs->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (outputs->wake < 0 || getrandom(outputs->secret, sizeof(outputs->secret),
					   0) != sizeof(outputs->secret)) {
		vmm_error_errno(error, errno, "prepare outputs %s", path);
		return NULL;
	}
	outputs->thread = g_thread_new("outputs", serve, outputs);
	return g_steal_pointer(&outputs);
}

void ckpt_outputs_free(ckpt_outputs *outputs)
{
	if (!outputs)
		return;
	if (outputs->thread) {
		g_mutex_lock(&outputs->lock);
		outputs->stop = TRUE;
		g_mutex_unlock(&outputs->lock);
		wake(outputs);
		g_thread_join(outputs->thread);
	}
	base_listener_free(outputs->listener);
	base_fd_clear(&outputs->fd);
	base_fd_clear(&outputs->wake);
	drop_queue(outputs);
	g_free(outputs->end);
	explicit_bzero(outputs->secret, sizeof(outputs->secret));
	g_mutex_clear(&outputs->lock);
	g_free(outputs);
}
