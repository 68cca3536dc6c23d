/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A channel with its two threads. */
#include "checkpoint/link.h"

#include <string.h>

#include "base/clock.h"
#include "checkpoint/protocol.h"

#define URGENT_MAX (64u << 20)
/* Little enough that a batch is still in the processor's cache when it is sent. */
#define BULK_MAX (1u << 20)
#define SPARE_MAX 4u

struct item {
	guint16 type;
	guint64 epoch;
	gsize length;
	GByteArray *batch; /* where the bytes are; NULL: here */
	guint8 bytes[];
};

struct ckpt_link {
	base_channel *channel;
	const struct ckpt_link_ops *ops;
	void *data;
	guint silence_ms;
	GThread *sender, *receiver;

	GMutex lock; /* of what follows */
	GCond changed;
	GQueue urgent, bulk; /* struct item */
	GQueue spare; /* GByteArray: batches that were sent */
	gsize urgent_bytes, bulk_bytes;
	gboolean ending; /* the sender ends when the queues are empty */
	GError *lost; /* why; NULL while all is well */
	gboolean parting; /* lost, and the peer is being told why */
};

static struct item *new_item(guint16 type, guint64 epoch, const struct iovec *iov,
			     guint count)
{
	struct item *item;
	gsize length = 0, at = 0;

	for (guint i = 0; i < count; i++)
		length += iov[i].iov_len;
	item = g_malloc(sizeof(*item) + length);
	item->type = type;
	item->epoch = epoch;
	item->length = length;
	item->batch = NULL;
	for (guint i = 0; i < count; i++) {
		memcpy(item->bytes + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return item;
}

ckpt_link *ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
			      void *data, guint silence_ms)
{
	ckpt_link *link = g_new0(ckpt_link, 1);

	link->channel = channel;
	link->ops = ops;
	link->data = data;
	link->silence_ms = silence_ms;
	g_mutex_init(&link->lock);
	g_cond_init(&link->changed);
	return link;
}

/* The first reason counts, and is told once. */
static void lose(ckpt_link *link, GError *error_take)
{
	gboolean first;

	g_mutex_lock(&link->lock);
	first = !link->lost;
	if (first)
		link->lost = error_take;
	g_cond_broadcast(&link->changed);
	g_mutex_unlock(&link->lock);
	base_channel_abort(link->channel);
	if (first)
		link->ops->lost(link->data, link->lost);
	else
		g_error_free(error_take);
}

static void free_item(void *data)
{
	struct item *item = data;

	if (item->batch)
		g_byte_array_unref(item->batch);
	g_free(item);
}

static void drop_queued(ckpt_link *link)
{
	g_queue_clear_full(&link->urgent, free_item);
	g_queue_clear_full(&link->bulk, free_item);
	link->urgent_bytes = link->bulk_bytes = 0;
}

/* The same, for a reason that the peer should know: the last that is said to it. FALSE: the
 * link is lost already. */
static gboolean part(ckpt_link *link, GError *error_take)
{
	struct iovec iov = { error_take->message,
			     MIN(strlen(error_take->message), (gsize)CKPT_TEXT_MAX) };
	gboolean can;

	g_mutex_lock(&link->lock);
	can = !link->lost && !link->ending;
	if (can) {
		link->lost = error_take;
		link->parting = TRUE;
		drop_queued(link);
		g_queue_push_tail(&link->urgent, new_item(CKPT_BYE, 0, &iov, 1));
		g_cond_broadcast(&link->changed);
	}
	g_mutex_unlock(&link->lock);
	return can;
}

/* The next item to send; NULL with `*ping`: nothing for a while; NULL: the end. */
static struct item *next_item(ckpt_link *link, gboolean *ping)
{
	gint64 until = g_get_monotonic_time() + link->silence_ms * 1000 / 4;
	struct item *item = NULL;

	*ping = FALSE;
	g_mutex_lock(&link->lock);
	while (!link->lost && !link->ending && !link->urgent.length && !link->bulk.length) {
		if (g_cond_wait_until(&link->changed, &link->lock, until))
			continue;
		*ping = TRUE;
		break;
	}
	if (link->lost && !link->parting) {
		*ping = FALSE;
	} else if (link->urgent.length) {
		item = g_queue_pop_head(&link->urgent);
		link->urgent_bytes -= item->length;
		*ping = FALSE;
	} else if (link->bulk.length) {
		item = g_queue_pop_head(&link->bulk);
		link->bulk_bytes -= item->length;
		g_cond_broadcast(&link->changed);
		*ping = FALSE;
	}
	g_mutex_unlock(&link->lock);
	return item;
}

static gboolean nothing_queued(ckpt_link *link)
{
	gboolean empty;

	g_mutex_lock(&link->lock);
	empty = !link->urgent.length && !link->bulk.length;
	g_mutex_unlock(&link->lock);
	return empty;
}

static gboolean send_one(ckpt_link *link, guint16 type, guint64 epoch, void *bytes,
			 gsize length, GError **error)
{
	struct iovec iov = { bytes, length };

	return base_channel_send(link->channel, type, epoch, &iov, length ? 1 : 0,
				 link->silence_ms, error) &&
	       (!nothing_queued(link) ||
		base_channel_flush(link->channel, link->silence_ms, error));
}

/* Its batch is kept for the next that is needed. */
static void put_away(ckpt_link *link, struct item *item)
{
	g_mutex_lock(&link->lock);
	if (item->batch && link->spare.length < SPARE_MAX) {
		g_byte_array_set_size(item->batch, 0);
		g_queue_push_head(&link->spare, g_steal_pointer(&item->batch));
	}
	g_mutex_unlock(&link->lock);
	free_item(item);
}

static gboolean send_item(ckpt_link *link, struct item *item, GError **error)
{
	void *bytes = item->batch ? item->batch->data : item->bytes;
	gboolean ok = send_one(link, item->type, item->epoch, bytes, item->length, error);

	put_away(link, item);
	return ok;
}

static void *send_all(void *data)
{
	ckpt_link *link = data;
	GError *error = NULL;
	gboolean ok = TRUE;

	while (ok) {
		gboolean ping;
		struct item *item = next_item(link, &ping);

		if (!item && !ping)
			break;
		ok = item ? send_item(link, item, &error) :
			    send_one(link, CKPT_PING, 0, NULL, 0, &error);
	}
	if (error)
		lose(link, error);
	return NULL;
}

static gboolean is_parting(ckpt_link *link)
{
	gboolean parting;

	g_mutex_lock(&link->lock);
	parting = link->parting;
	g_mutex_unlock(&link->lock);
	return parting;
}

/* Until the peer has ended the connection, for which it has one silence: a connection that is
 * closed with something unread is reset, and the peer would not read why. */
static void let_peer_part(ckpt_link *link)
{
	guint64 until = base_clock_monotonic_ns() + link->silence_ms * 1000000ull;
	struct base_message message;

	while (base_clock_monotonic_ns() < until &&
	       base_channel_receive(link->channel, &message, link->silence_ms, NULL))
		;
	base_channel_abort(link->channel);
	link->ops->lost(link->data, link->lost);
}

static void *receive_all(void *data)
{
	ckpt_link *link = data;
	struct base_message message;
	GError *error = NULL;

	while (base_channel_receive(link->channel, &message, link->silence_ms, &error) &&
	       !ckpt_link_is_lost(link)) {
		if (message.type == CKPT_PING)
			continue;
		if (message.type == CKPT_BYE) {
			g_set_error(&error, BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED,
				    "the peer ended it: %.*s", (int)message.length,
				    (const char *)message.payload);
			break;
		}
		if (link->ops->message(link->data, &message, &error))
			continue;
		/* What is refused, the peer is told. */
		if (part(link, error))
			error = NULL;
		break;
	}
	if (is_parting(link))
		let_peer_part(link);
	if (error)
		lose(link, error);
	return NULL;
}

void ckpt_link_refuse(ckpt_link *link, const char *why)
{
	GError *error = g_error_new(BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED, "%s", why);

	if (!part(link, error))
		g_error_free(error);
}

void ckpt_link_start(ckpt_link *link)
{
	link->sender = g_thread_new("link-out", send_all, link);
	link->receiver = g_thread_new("link-in", receive_all, link);
}

void ckpt_link_stop(ckpt_link *link, const char *why)
{
	if (why && link->sender && !ckpt_link_is_lost(link)) {
		struct iovec iov = { (void *)why, MIN(strlen(why), (gsize)CKPT_TEXT_MAX) };

		ckpt_link_post(link, CKPT_BYE, 0, &iov, 1);
	}
	g_mutex_lock(&link->lock);
	link->ending = TRUE;
	g_cond_broadcast(&link->changed);
	g_mutex_unlock(&link->lock);
	if (link->sender)
		g_thread_join(g_steal_pointer(&link->sender));
	lose(link, g_error_new(BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED, "ended here: %s",
			       why ?: "no reason given"));
	if (link->receiver)
		g_thread_join(g_steal_pointer(&link->receiver));
}

void ckpt_link_free(ckpt_link *link)
{
	if (!link)
		return;
	if (link->sender || link->receiver)
		ckpt_link_stop(link, NULL);
	drop_queued(link);
	g_queue_clear_full(&link->spare, (GDestroyNotify)g_byte_array_unref);
	g_clear_error(&link->lost);
	g_mutex_clear(&link->lock);
	g_cond_clear(&link->changed);
	base_channel_free(link->channel);
	g_free(link);
}

void ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch, const struct iovec *iov,
		    guint count)
{
	struct item *item = new_item(type, epoch, iov, count);
	gboolean full;

	g_mutex_lock(&link->lock);
	full = link->urgent_bytes + item->length > URGENT_MAX;
	if (link->lost || link->ending || full) {
		full = full && !link->lost && !link->ending;
		g_free(item);
	} else {
		g_queue_push_tail(&link->urgent, item);
		link->urgent_bytes += item->length;
		g_cond_broadcast(&link->changed);
	}
	g_mutex_unlock(&link->lock);
	/* Aborting makes the link's own threads notice and tell. */
	if (full)
		base_channel_abort(link->channel);
}

static gboolean queue_bulk(ckpt_link *link, struct item *item_take)
{
	gboolean ok;

	g_mutex_lock(&link->lock);
	while (!link->lost && !link->ending && link->bulk_bytes > BULK_MAX)
		g_cond_wait(&link->changed, &link->lock);
	ok = !link->lost && !link->ending;
	if (ok) {
		g_queue_push_tail(&link->bulk, item_take);
		link->bulk_bytes += item_take->length;
		g_cond_broadcast(&link->changed);
	}
	g_mutex_unlock(&link->lock);
	if (!ok)
		free_item(item_take);
	return ok;
}

gboolean ckpt_link_send(ckpt_link *link, guint16 type, guint64 epoch,
			const struct iovec *iov, guint count)
{
	return queue_bulk(link, new_item(type, epoch, iov, count));
}

GByteArray *ckpt_link_new_batch(ckpt_link *link)
{
	GByteArray *batch;

	g_mutex_lock(&link->lock);
	batch = g_queue_pop_head(&link->spare);
	g_mutex_unlock(&link->lock);
	return batch ?: g_byte_array_new();
}

gboolean ckpt_link_send_batch(ckpt_link *link, guint16 type, guint64 epoch, GByteArray **batch)
{
	struct item *item = new_item(type, epoch, NULL, 0);

	item->length = (*batch)->len;
	item->batch = *batch;
	*batch = ckpt_link_new_batch(link);
	return queue_bulk(link, item);
}

gboolean ckpt_link_is_lost(ckpt_link *link)
{
	gboolean lost;

	g_mutex_lock(&link->lock);
	lost = link->lost != NULL;
	g_mutex_unlock(&link->lock);
	return lost;
}

void ckpt_link_get_counters(ckpt_link *link, struct base_channel_counters *counters)
{
	base_channel_get_counters(link->channel, counters);
}
