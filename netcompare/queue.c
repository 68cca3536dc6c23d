/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's queue of packets that wait for a verdict.
 *
 * The library binds the queue; packets and verdicts are nfnetlink messages of our own
 * making, so that many go with one system call. The kernel carries out a message before
 * sendmsg() returns, and answers only what it could not do.
 */
#include "netcompare/queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
/* Before the library's own, which is older and has the same guard. */
#include <linux/netfilter/nfnetlink_queue.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/ratelimit.h"
#include "netcompare/verdicts.h"

#define LENGTH_MAX (1u << 20)
#define RECEIVE_BYTES (64u << 20)
/* The most that the kernel hands over of a packet: an attribute's length has 16 bits.
 */
#define COPY_BYTES (0xffffu - NLA_HDRLEN)
#define BATCH 16u
#define MESSAGE_BYTES (COPY_BYTES + 1024u)
/* Verdicts in one call; what the kernel must have of contiguous memory for it. */
#define SEND_BYTES (64u << 10)
#define KERNEL_LIST "/proc/net/netfilter/nfnetlink_queue"

struct ncmp_queue {
	struct ncmp_queue_hooks hooks;
	guint16 number;
	struct nfq_handle *handle;
	struct nfq_q_handle *bound;
	int fd; /* the handle's */
	int list; /* the kernel's own counts; -1: cannot be read */
	guint8 *buffer; /* BATCH messages */
	ncmp_verdicts *verdicts;
	GByteArray *out; /* messages to the kernel */
	struct ncmp_queue_counters counters;
	guint64 kernel_lost; /* when last looked at */
	struct base_ratelimit refusals;
	gboolean refused; /* verdicts were not taken */
	gboolean recalls; /* what is accepted is dropped */
};

/* Messages to the kernel. */

static guint8 *put_bytes(GByteArray *out, gsize len)
{
	guint at = out->len;

	g_byte_array_set_size(out, at + (guint)len);
	memset(out->data + at, 0, len);
	return out->data + at;
}

static void put_attribute(GByteArray *out, guint16 type, const void *bytes, gsize len)
{
	guint8 *at = put_bytes(out, NLA_HDRLEN + NLA_ALIGN(len));
	struct nlattr attribute = { (guint16)(NLA_HDRLEN + len), type };

	memcpy(at, &attribute, sizeof(attribute));
	memcpy(at + NLA_HDRLEN, bytes, len);
}

/* Returns where it starts, for end_message(). */
static guint begin_message(ncmp_queue *queue, guint16 type)
{
	guint at = queue->out->len;
	struct nlmsghdr head = {
		.nlmsg_type = (guint16)(NFNL_SUBSYS_QUEUE << 8 | type),
		.nlmsg_flags = NLM_F_REQUEST,
	};
	struct nfgenmsg general = { AF_UNSPEC, NFNETLINK_V0, htons(queue->number) };

	memcpy(put_bytes(queue->out, NLMSG_HDRLEN), &head, sizeof(head));
	memcpy(put_bytes(queue->out, NLMSG_ALIGN(sizeof(general))), &general,
	       sizeof(general));
	return at;
}

static void end_message(ncmp_queue *queue, guint start)
{
	guint32 len = queue->out->len - start;

	memcpy(queue->out->data + start, &len, sizeof(len)); /* nlmsg_len comes first */
}

/* How many bytes of whole messages at `bytes` go out at once. */
static guint piece_of(const guint8 *bytes, guint len)
{
	guint piece = 0;

	while (piece < len && piece < SEND_BYTES) {
		guint32 message;

		memcpy(&message, bytes + piece, sizeof(message)); /* nlmsg_len */
		piece += NLMSG_ALIGN(message);
	}
	return piece;
}

/* What was to pass, and was not said yet, is dropped. */
static void take_back(ncmp_queue *queue)
{
	const guint where = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + NLA_HDRLEN;
	const guint32 drop = htonl(NF_DROP);
	guint32 message;

	for (guint at = 0; at < queue->out->len; at += NLMSG_ALIGN(message)) {
		memcpy(&message, queue->out->data + at, sizeof(message)); /* nlmsg_len */
		memcpy(queue->out->data + at + where, &drop, sizeof(drop));
	}
}

/* What the kernel does not take is kept and said again, before anything else: a later verdict
 * may speak for all packets up to one, and must find those gone that are not to pass. That it
 * took part of a piece does no harm: a verdict for a packet that is gone is only refused. */
static void send_out(ncmp_queue *queue)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	guint left_out, piece;
	const gboolean said = queue->out->len > 0;
	int err = 0;

	if (said)
		base_fault("verdicts-due");
	if (said && !queue->hooks.may_pass(queue->hooks.data))
		take_back(queue);
	while (queue->out->len && !err) {
		piece = piece_of(queue->out->data, queue->out->len);
		if (sendto(queue->fd, queue->out->data, piece, 0,
			   (struct sockaddr *)&kernel, sizeof(kernel)) >= 0)
			g_byte_array_remove_range(queue->out, 0, piece);
		else if (errno != EINTR)
			err = errno;
	}
	if (!err) {
		if (said)
			base_fault("verdicts-said");
		return;
	}
	if (base_ratelimit_pass(&queue->refusals, &left_out))
		g_warning("queue: verdicts not taken, are said again queue=%u error=\"%s\" "
			  "more=%u", queue->number, g_strerror(err), left_out);
	queue->refused = TRUE;
}

static void put_verdict(void *data, enum ncmp_verdict kind, guint32 id,
			const guint8 *changed, gsize len)
{
	ncmp_queue *queue = data;
	struct nfqnl_msg_verdict_hdr verdict = {
		htonl(kind == NCMP_VERDICT_DROP || queue->recalls ? NF_DROP : NF_ACCEPT),
		htonl(id)
	};
	guint start = begin_message(queue, kind == NCMP_VERDICT_ACCEPT_UP_TO
						   ? NFQNL_MSG_VERDICT_BATCH
						   : NFQNL_MSG_VERDICT);

	put_attribute(queue->out, NFQA_VERDICT_HDR, &verdict, sizeof(verdict));
	if (kind == NCMP_VERDICT_CHANGE && !queue->recalls)
		put_attribute(queue->out, NFQA_PAYLOAD, changed, len);
	end_message(queue, start);
	if (queue->out->len >= SEND_BYTES && !queue->refused)
		send_out(queue);
}

/* Binding. */

/* The kernel's line for this queue; FALSE: it has none, or the list cannot be read. */
static gboolean read_list(int list, guint number, guint *port, guint64 *waiting,
			  guint64 *lost)
{
	char text[4096];
	gssize got = list < 0 ? -1 : pread(list, text, sizeof(text) - 1, 0);
	char *line = text, *rest;

	if (got <= 0)
		return FALSE;
	text[got] = '\0';
	for (line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		unsigned long long queued, dropped, user_dropped;
		unsigned int at, owner;

		if (sscanf(line, "%u %u %llu %*u %*u %llu %llu", &at, &owner, &queued,
			   &dropped, &user_dropped) != 5 ||
		    at != number)
			continue;
		*port = owner;
		*waiting = queued;
		*lost = dropped + user_dropped;
		return TRUE;
	}
	return FALSE;
}

static gboolean explain(ncmp_queue *queue, int err, GError **error)
{
	guint64 waiting, lost;
	guint port;

	if (err == EPERM &&
	    read_list(queue->list, queue->number, &port, &waiting, &lost))
		return ncmp_error_set(
			error, NCMP_ERROR_HOST,
			"queue %u: in use by another process (its netlink "
			"port, most often its process id, is %u)",
			queue->number, port);
	if (err == EBUSY)
		return ncmp_error_set(error, NCMP_ERROR_HOST,
				      "queue %u: in use by this process",
				      queue->number);
	if (err == EPERM)
		return ncmp_error_set(
			error, NCMP_ERROR_HOST,
			"queue %u: not permitted, needs CAP_NET_ADMIN (run "
			"as root)",
			queue->number);
	if (err == EINVAL || err == ENOENT || err == EPROTONOSUPPORT ||
	    err == EOPNOTSUPP)
		return ncmp_error_set(error, NCMP_ERROR_HOST,
				      "queue %u: this kernel has no NFQUEUE (module "
				      "nfnetlink_queue): %s",
				      queue->number, g_strerror(err));
	return ncmp_error_errno(error, err, "bind queue %u", queue->number);
}

/* Never called: packets are not read through the library. */
static int no_packet(struct nfq_q_handle *bound, struct nfgenmsg *message,
		     struct nfq_data *packet, void *data)
{
	return 0;
}

/* Packets come from the moment on in which the kernel knows how much of them is wanted:
 * so that is said last, and without an answer among them. */
static gboolean ask_for_packets(ncmp_queue *queue)
{
	struct nfqnl_msg_config_params params = { htonl(COPY_BYTES),
						  NFQNL_COPY_PACKET };
	guint start = begin_message(queue, NFQNL_MSG_CONFIG);

	put_attribute(queue->out, NFQA_CFG_PARAMS, &params, sizeof(params));
	end_message(queue, start);
	send_out(queue);
	return !queue->refused;
}

static gboolean bind_queue(ncmp_queue *queue, const struct ncmp_queue_options *options,
			   GError **error)
{
	guint32 length = options->length_max ? options->length_max : LENGTH_MAX;
	int bytes = (int)MIN(options->receive_bytes ? options->receive_bytes
						    : RECEIVE_BYTES,
			     (guint32)G_MAXINT / 2);
	int send_bytes = 1 << 20, on = 0;

	queue->handle = nfq_open();
	if (!queue->handle)
		return explain(queue, errno, error);
	queue->fd = nfq_fd(queue->handle);
	if (fcntl(queue->fd, F_SETFD, FD_CLOEXEC) < 0)
		return ncmp_error_errno(error, errno, "queue %u: set close-on-exec",
					queue->number);
	queue->bound = nfq_create_queue(queue->handle, queue->number, no_packet, NULL);
	if (!queue->bound)
		return explain(queue, errno, error);
	if (nfq_set_queue_flags(queue->bound,
				NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN |
					NFQA_CFG_F_CONNTRACK | NFQA_CFG_F_UID_GID |
					NFQA_CFG_F_SECCTX,
				NFQA_CFG_F_GSO) < 0)
		return ncmp_error_errno(error, errno,
					"queue %u: ask for whole packets (GSO)",
					queue->number);
	if (nfq_set_queue_maxlen(queue->bound, length) < 0)
		return ncmp_error_errno(error, errno, "queue %u: set its length to %u",
					queue->number, length);
	/* Needs CAP_NET_ADMIN, as binding did. */
	if (setsockopt(queue->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) <
		    0 ||
	    setsockopt(queue->fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes,
		       sizeof(send_bytes)) < 0)
		return ncmp_error_errno(error, errno,
					"queue %u: set its socket's buffers",
					queue->number);
	/* An overrun is to be heard of. */
	if (setsockopt(queue->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on)) < 0)
		return ncmp_error_errno(error, errno, "queue %u: ask for overruns",
					queue->number);
	if (!ask_for_packets(queue))
		return ncmp_error_errno(error, ENOBUFS, "queue %u: ask for packets",
					queue->number);
	return TRUE;
}

ncmp_queue *ncmp_queue_new(const struct ncmp_queue_options *options,
			   const struct ncmp_queue_hooks *hooks, GError **error)
{
	g_autoptr(ncmp_queue) queue = g_new0(ncmp_queue, 1);

	queue->hooks = *hooks;
	queue->number = options->number;
	queue->fd = -1;
	queue->list = open(KERNEL_LIST, O_RDONLY | O_CLOEXEC);
	queue->verdicts = ncmp_verdicts_new();
	queue->out = g_byte_array_new();
	queue->buffer = g_malloc((gsize)BATCH * MESSAGE_BYTES);
	if (!bind_queue(queue, options, error))
		return NULL;
	return g_steal_pointer(&queue);
}

void ncmp_queue_free(ncmp_queue *queue)
{
	if (!queue)
		return;
	if (queue->bound)
		nfq_destroy_queue(queue->bound);
	if (queue->handle)
		nfq_close(queue->handle);
	base_fd_clear(&queue->list);
	ncmp_verdicts_free(queue->verdicts);
	g_byte_array_unref(queue->out);
	g_free(queue->buffer);
	g_free(queue);
}

int ncmp_queue_fd(const ncmp_queue *queue)
{
	return queue->fd;
}

/* Receiving. */

static void overrun(ncmp_queue *queue)
{
	queue->counters.overruns++;
	queue->hooks.overrun(queue->hooks.data);
}

static guint32 get32(const guint8 *bytes)
{
	guint32 value;

	memcpy(&value, bytes, sizeof(value));
	return ntohl(value);
}

static guint16 get16(const guint8 *bytes)
{
	guint16 value;

	memcpy(&value, bytes, sizeof(value));
	return ntohs(value);
}

/* The next attribute of those in `*at`, which is moved on; FALSE: no more. */
static gboolean next_attribute(const guint8 **at, gsize *left, guint16 *type,
			       const guint8 **bytes, gsize *len)
{
	struct nlattr attribute;
	gsize step;

	if (*left < sizeof(attribute))
		return FALSE;
	memcpy(&attribute, *at, sizeof(attribute));
	if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > *left)
		return FALSE;
	*type = attribute.nla_type & NLA_TYPE_MASK;
	*bytes = *at + NLA_HDRLEN;
	*len = attribute.nla_len - NLA_HDRLEN;
	step = MIN((gsize)NLA_ALIGN(attribute.nla_len), *left);
	*at += step;
	*left -= step;
	return TRUE;
}

static guint16 find_vlan(const guint8 *at, gsize left)
{
	const guint8 *bytes;
	guint16 type;
	gsize len;

	while (next_attribute(&at, &left, &type, &bytes, &len))
		if (type == NFQA_VLAN_TCI && len >= 2)
			return get16(bytes) & 0x0fff;
	return 0;
}

static void take_packet(ncmp_queue *queue, const guint8 *at, gsize left)
{
	struct ncmp_queued packet = { 0 };
	guint32 inside = 0, port = 0, info = 0;
	gboolean has_id = FALSE;
	const guint8 *bytes;
	guint16 type;
	gsize len;

	while (next_attribute(&at, &left, &type, &bytes, &len)) {
		if (type == NFQA_PACKET_HDR &&
		    len >= sizeof(struct nfqnl_msg_packet_hdr)) {
			packet.id = get32(bytes);
			packet.ethertype = get16(bytes + 4);
			has_id = TRUE;
		} else if (type == NFQA_IFINDEX_INDEV && len >= 4) {
			inside = get32(bytes);
		} else if (type == NFQA_IFINDEX_PHYSINDEV && len >= 4) {
			port = get32(bytes);
		} else if (type == NFQA_SKB_INFO && len >= 4) {
			info = get32(bytes);
		} else if (type == NFQA_VLAN) {
			packet.vlan = find_vlan(bytes, len);
		} else if (type == NFQA_PAYLOAD) {
			packet.bytes = bytes;
			packet.len = len;
		}
	}
	if (!has_id)
		return;
	packet.interface = port ? port : inside;
	packet.segmentable = (info & NFQA_SKB_GSO) != 0;
	packet.partial = (info & NFQA_SKB_CSUMNOTREADY) != 0;
	queue->counters.packets++;
	queue->counters.bytes += packet.len;
	/* The kernel counts what it could not give to us. */
	if (ncmp_verdicts_arrived(queue->verdicts, packet.id, (guint16)packet.len))
		overrun(queue);
	queue->hooks.packet(queue->hooks.data, &packet);
}

static void take_error(ncmp_queue *queue, const guint8 *bytes, gsize len)
{
	struct nlmsgerr answer;
	guint left_out;

	if (len < sizeof(answer.error))
		return;
	memcpy(&answer.error, bytes, sizeof(answer.error));
	/* The packet went with its interface. */
	if (answer.error == -ENOENT)
		queue->counters.stale++;
	else if (answer.error && base_ratelimit_pass(&queue->refusals, &left_out))
		g_warning("queue: kernel refused queue=%u error=\"%s\" more=%u",
			  queue->number, g_strerror(-answer.error), left_out);
}

static void take_messages(ncmp_queue *queue, const guint8 *at, gsize left)
{
	while (left >= NLMSG_HDRLEN) {
		const gsize general =
			NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
		struct nlmsghdr head;
		gsize step;

		memcpy(&head, at, sizeof(head));
		if (head.nlmsg_len < NLMSG_HDRLEN || head.nlmsg_len > left)
			return;
		if (head.nlmsg_type == NLMSG_ERROR)
			take_error(queue, at + NLMSG_HDRLEN,
				   head.nlmsg_len - NLMSG_HDRLEN);
		else if (head.nlmsg_type ==
				 (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) &&
			 head.nlmsg_len >= general)
			take_packet(queue, at + general, head.nlmsg_len - general);
		step = MIN((gsize)NLMSG_ALIGN(head.nlmsg_len), left);
		at += step;
		left -= step;
	}
}

gboolean ncmp_queue_receive(ncmp_queue *queue, GError **error)
{
	struct sockaddr_nl senders[BATCH];
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	int got;

	memset(messages, 0, sizeof(messages));
	for (guint i = 0; i < BATCH; i++) {
		parts[i].iov_base = queue->buffer + (gsize)i * MESSAGE_BYTES;
		parts[i].iov_len = MESSAGE_BYTES;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &senders[i];
		messages[i].msg_hdr.msg_namelen = sizeof(senders[i]);
	}
	got = recvmmsg(queue->fd, messages, BATCH, MSG_DONTWAIT, NULL);
	if (got < 0) {
		int err = errno;

		if (err == ENOBUFS) {
			overrun(queue);
			return TRUE;
		}
		return err == EAGAIN || err == EINTR ||
		       ncmp_error_errno(error, err, "read queue %u", queue->number);
	}
	queue->hooks.took(queue->hooks.data);
	for (int i = 0; i < got; i++)
		/* Other processes can send to a netlink socket. */
		if (senders[i].nl_pid == 0 &&
		    !(messages[i].msg_hdr.msg_flags & MSG_TRUNC))
			take_messages(queue, parts[i].iov_base, messages[i].msg_len);
	return TRUE;
}

void ncmp_queue_accept(ncmp_queue *queue, guint32 id, const guint8 *changed, gsize len)
{
	/* An attribute cannot carry more, and no packet is longer. */
	g_assert(!changed || len <= COPY_BYTES);
	if (!ncmp_verdicts_accept(queue->verdicts, id, changed, len))
		return;
	queue->counters.accepted++;
	if (changed)
		queue->counters.changed++;
}

void ncmp_queue_drop(ncmp_queue *queue, guint32 id)
{
	if (ncmp_verdicts_drop(queue->verdicts, id))
		queue->counters.dropped++;
}

void ncmp_queue_drop_all(ncmp_queue *queue)
{
	queue->counters.dropped += ncmp_verdicts_drop_all(queue->verdicts);
}

void ncmp_queue_recall(ncmp_queue *queue)
{
	take_back(queue);
	queue->recalls = TRUE;
	ncmp_verdicts_flush(queue->verdicts, put_verdict, queue);
	queue->recalls = FALSE;
}

gboolean ncmp_queue_is_said(const ncmp_queue *queue)
{
	return !queue->out->len;
}

void ncmp_queue_flush(ncmp_queue *queue)
{
	ncmp_verdicts_flush(queue->verdicts, put_verdict, queue);
	send_out(queue);
	if (queue->refused) {
		queue->refused = FALSE;
		overrun(queue);
	}
}

void ncmp_queue_get_waiting(const ncmp_queue *queue, guint64 *packets, guint64 *bytes)
{
	*packets = ncmp_verdicts_waiting(queue->verdicts);
	*bytes = ncmp_verdicts_waiting_bytes(queue->verdicts);
}

void ncmp_queue_get_counters(const ncmp_queue *queue,
			     struct ncmp_queue_counters *counters)
{
	guint port;

	*counters = queue->counters;
	ncmp_queue_get_waiting(queue, &counters->waiting, &counters->waiting_bytes);
	if (!read_list(queue->list, queue->number, &port, &counters->kernel_waiting,
		       &counters->kernel_lost))
		counters->kernel_waiting = counters->waiting;
}

void ncmp_queue_check(ncmp_queue *queue)
{
	guint64 waiting, lost;
	guint port;

	if (!read_list(queue->list, queue->number, &port, &waiting, &lost) ||
	    lost == queue->kernel_lost)
		return;
	queue->kernel_lost = lost;
	overrun(queue);
}
