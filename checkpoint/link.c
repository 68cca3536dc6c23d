/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A channel with its two threads. */
#include "checkpoint/link.h"

#include <string.h>

#include "base/clock.h"
#include "checkpoint/fault.h"
#include "checkpoint/protocol.h"

#define URGENT_MAX (64u << 20)
/* Little enough that a batch is still in the processor's cache when it is sent. */
#define BULK_MAX (1u << 20)
#define JOINED_MAX (4u << 20)
#define SPARE_MAX 4u
/* A peer whose receiver is at work (a large checkpoint is applied, its disk is behind) takes
 * nothing for longer than it may be silent. It goes on speaking, so that is no loss; what is
 * one is seen by the receiver here. */
#define SEND_MS 60000u
#define BYE_MS 500u /* for saying why it ends, and again for the peer to read it */

struct item {
	guint16 type;
	guint64 epoch;
	gsize length;
	GByteArray *batch; /* where the bytes are; NULL: here */
	gboolean joined; /* of ckpt_link_join() */
	guint8 bytes[];
};

struct ckpt_link {
	base_channel *channel;
	const struct ckpt_link_ops *ops;
	void *data;
	guint silence_ms, first_ms;
	GThread *sender, *receiver;

	GMutex lock; /* of what follows */
	GCond changed;
	GQueue urgent, bulk; /* struct item */
	GQueue spare; /* GByteArray: batches that were sent */
	gsize urgent_bytes, bulk_bytes;
	gsize joined_bytes; /* of urgent_bytes */
	gboolean ending; /* the sender says `bye` and ends */
	char *bye; /* what the peer is still to be told, or NULL */
	enum ckpt_ending end; /* the same in one word */
	enum ckpt_ending peer_end; /* what the peer told us */
	gboolean linger; /* the peer gets time to read it */
	gboolean sender_done, receiver_done;
	GError *lost; /* why; NULL while all is well */
};

ckpt_link *ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
			      void *data, guint silence_ms)
{
	ckpt_link *link = g_new0(ckpt_link, 1);

	link->channel = channel;
	link->ops = ops;
	link->data = data;
	link->silence_ms = link->first_ms = silence_ms;
	g_mutex_init(&link->lock);
	g_cond_init(&link->changed);
	return link;
}

static void free_item(void *data)
{
	struct item *item = data;

	if (item->batch)
		g_byte_array_unref(item->batch);
	g_free(item);
}

static void drop_queues(ckpt_link *link)
{
	g_queue_clear_full(&link->urgent, free_item);
	g_queue_clear_full(&link->bulk, free_item);
	link->urgent_bytes = link->bulk_bytes = link->joined_bytes = 0;
}

/* The first reason counts, and is told once: with `tell` to the peer too, by the sender, which
 * then ends the channel. */
static void lose(ckpt_link *link, GError *error_take, gboolean tell)
{
	gboolean first;

	g_mutex_lock(&link->lock);
	first = !link->lost;
	if (first) {
		link->lost = error_take;
		drop_queues(link);
		if (tell && !link->ending) {
			link->bye = g_strndup(error_take->message, CKPT_TEXT_MAX);
			link->linger = TRUE;
		}
	}
	g_cond_broadcast(&link->changed);
	g_mutex_unlock(&link->lock);
	if (!tell)
		base_channel_abort(link->channel);
	if (first)
		link->ops->lost(link->data, link->lost);
	else
		g_error_free(error_take);
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
	if (link->lost || link->ending) {
		*ping = FALSE;
	} else if (link->urgent.length) {
		item = g_queue_pop_head(&link->urgent);
		link->urgent_bytes -= item->length;
		link->joined_bytes -= item->joined ? item->length : 0;
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
	guint ms = MAX(link->silence_ms, SEND_MS);

	if (!base_channel_send(link->channel, type, epoch, &iov, length ? 1 : 0, ms, error) ||
	    (nothing_queued(link) && !base_channel_flush(link->channel, ms, error)))
		return FALSE;
	ckpt_fault_sent(type);
	return TRUE;
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

static gboolean send_item_take(ckpt_link *link, struct item *item, GError **error)
{
	void *bytes = item->batch ? item->batch->data : item->bytes;
	gboolean ok = send_one(link, item->type, item->epoch, bytes, item->length, error);

	put_away(link, item);
	return ok;
}

static void send_queues(ckpt_link *link)
{
	GError *error = NULL;
	gboolean ok = TRUE;

	while (ok) {
		gboolean ping;
		struct item *item = next_item(link, &ping);

		if (!item && !ping)
			return;
		ok = ping ? send_one(link, CKPT_PING, 0, NULL, 0, &error) :
			    send_item_take(link, item, &error);
	}
	lose(link, error, FALSE);
}

/* Waits for one of the threads; with the lock held. */
static void wait_for_thread(ckpt_link *link, const gboolean *done, guint ms)
{
	gint64 until = g_get_monotonic_time() + ms * 1000;

	while (!*done && g_cond_wait_until(&link->changed, &link->lock, until))
		;
}

/* Whether the peer hears it is a courtesy: it is over anyway. Closing at once would cut off
 * what the peer has not read, so whoever refuses lets the peer go first. */
static void say_bye(ckpt_link *link)
{
	g_autofree char *bye = NULL;
	struct ckpt_bye head = { 0 };
	struct iovec iov[2] = { { &head, sizeof(head) } };

	g_mutex_lock(&link->lock);
	bye = g_steal_pointer(&link->bye);
	head.end = (guint8)link->end;
	g_mutex_unlock(&link->lock);
	if (!bye)
		return;
	iov[1] = (struct iovec){ bye, strlen(bye) };
	if (!base_channel_send(link->channel, CKPT_BYE, 0, iov, 2, BYE_MS, NULL) ||
	    !base_channel_flush(link->channel, BYE_MS, NULL))
		return;
	ckpt_fault_sent(CKPT_BYE);
	g_mutex_lock(&link->lock);
	if (link->linger)
		wait_for_thread(link, &link->receiver_done, BYE_MS);
	g_mutex_unlock(&link->lock);
}

static void *send_all(void *data)
{
	ckpt_link *link = data;
	gboolean lost;

	send_queues(link);
	say_bye(link);
	g_mutex_lock(&link->lock);
	link->sender_done = TRUE;
	lost = link->lost != NULL;
	g_cond_broadcast(&link->changed);
	g_mutex_unlock(&link->lock);
	if (lost)
		base_channel_abort(link->channel);
	return NULL;
}

static gboolean handle(ckpt_link *link, const struct base_message *message, GError **error)
{
	g_autofree char *why = NULL;

	ckpt_fault_received(message->type);
	if (message->type == CKPT_BYE) {
		why = ckpt_text(message);
		g_mutex_lock(&link->lock);
		link->peer_end = ckpt_end_of(message);
		g_mutex_unlock(&link->lock);
		g_set_error(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED,
			    "the peer ended it: %s", why);
		return FALSE;
	}
	if (message->type == CKPT_PING || ckpt_link_is_lost(link))
		return TRUE;
	return link->ops->message(link->data, message, error);
}

/* FALSE where there is nobody to tell it. */
static gboolean is_refusal(const GError *error)
{
	return error->domain != BASE_CHANNEL_ERROR || error->code == BASE_CHANNEL_PROTOCOL;
}

static void *receive_all(void *data)
{
	ckpt_link *link = data;
	struct base_message message;
	GError *error = NULL;
	guint deadline_ms = link->first_ms;
	gboolean refusal;

	while (base_channel_receive(link->channel, &message, deadline_ms, &error) &&
	       handle(link, &message, &error))
		deadline_ms = link->silence_ms;
	refusal = is_refusal(error);
	lose(link, error, refusal);
	if (refusal)
		base_channel_drain(link->channel, BYE_MS);
	g_mutex_lock(&link->lock);
	link->receiver_done = TRUE;
	g_cond_broadcast(&link->changed);
	g_mutex_unlock(&link->lock);
	return NULL;
}

void ckpt_link_wait_for_first(ckpt_link *link, guint ms)
{
	link->first_ms = MAX(ms, link->silence_ms);
}

void ckpt_link_start(ckpt_link *link)
{
	link->sender = g_thread_new("link-out", send_all, link);
	link->receiver = g_thread_new("link-in", receive_all, link);
}

/* Our own reason is the one that counts, though the peer may close before we do. */
static gboolean end_here(ckpt_link *link, enum ckpt_ending end, const char *why)
{
	gboolean first = !link->lost;

	link->ending = TRUE;
	link->linger = FALSE;
	drop_queues(link);
	if (first && why)
		link->bye = g_strndup(why, CKPT_TEXT_MAX);
	link->end = end;
	if (first)
		link->lost = g_error_new(BASE_CHANNEL_ERROR, BASE_CHANNEL_CLOSED,
					 "ended here: %s", why ?: "no reason given");
	g_cond_broadcast(&link->changed);
	return first;
}

void ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why)
{
	gboolean first;

	g_mutex_lock(&link->lock);
	first = end_here(link, end, why);
	if (link->sender)
		wait_for_thread(link, &link->sender_done, CKPT_LINK_BYE_MS);
	g_mutex_unlock(&link->lock);
	base_channel_abort(link->channel);
	if (first)
		link->ops->lost(link->data, link->lost);
	if (link->sender)
		g_thread_join(g_steal_pointer(&link->sender));
	if (link->receiver)
		g_thread_join(g_steal_pointer(&link->receiver));
}

void ckpt_link_free(ckpt_link *link)
{
	if (!link)
		return;
	if (link->sender || link->receiver)
		ckpt_link_stop(link, CKPT_END_FAULT, NULL);
	drop_queues(link);
	g_free(link->bye);
	g_queue_clear_full(&link->spare, (GDestroyNotify)g_byte_array_unref);
	g_clear_error(&link->lost);
	g_mutex_clear(&link->lock);
	g_cond_clear(&link->changed);
	base_channel_free(link->channel);
	g_free(link);
}

void ckpt_link_refuse(ckpt_link *link, const char *why)
{
	lose(link, g_error_new_literal(BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST, why), TRUE);
}

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
	item->joined = FALSE;
	for (guint i = 0; i < count; i++) {
		memcpy(item->bytes + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return item;
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

static struct item *joinable(ckpt_link *link, guint16 type, guint64 epoch, gsize length_max)
{
	struct item *last = g_queue_peek_tail(&link->urgent);

	return last && last->joined && last->type == type && last->epoch == epoch &&
			       last->length <= length_max ?
		       last :
		       NULL;
}

/* A message for pieces to come, at the end of the queue. */
static struct item *new_joined(ckpt_link *link, guint16 type, guint64 epoch)
{
	struct item *item = new_item(type, epoch, NULL, 0);

	item->joined = TRUE;
	item->batch = g_queue_pop_head(&link->spare) ?: g_byte_array_new();
	g_queue_push_tail(&link->urgent, item);
	return item;
}

gboolean ckpt_link_join(ckpt_link *link, guint16 type, guint64 epoch, const struct iovec *iov,
			guint count, gsize joined_max)
{
	struct item *item;
	gsize length = 0;
	gboolean room;

	for (guint i = 0; i < count; i++)
		length += iov[i].iov_len;
	g_assert(length <= joined_max);
	g_mutex_lock(&link->lock);
	room = link->joined_bytes + length <= JOINED_MAX;
	if (room && !link->lost && !link->ending) {
		item = joinable(link, type, epoch, joined_max - length) ?:
			       new_joined(link, type, epoch);
		for (guint i = 0; i < count; i++)
			g_byte_array_append(item->batch, iov[i].iov_base,
					    (guint)iov[i].iov_len);
		item->length += length;
		link->urgent_bytes += length;
		link->joined_bytes += length;
		g_cond_broadcast(&link->changed);
	}
	g_mutex_unlock(&link->lock);
	return room;
}

void ckpt_link_drop_joined(ckpt_link *link)
{
	GList *next;

	g_mutex_lock(&link->lock);
	for (GList *at = link->urgent.head; at; at = next) {
		struct item *item = at->data;

		next = at->next;
		if (!item->joined)
			continue;
		link->urgent_bytes -= item->length;
		link->joined_bytes -= item->length;
		g_queue_delete_link(&link->urgent, at);
		free_item(item);
	}
	g_mutex_unlock(&link->lock);
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

enum ckpt_ending ckpt_link_peer_end(ckpt_link *link)
{
	enum ckpt_ending end;

	g_mutex_lock(&link->lock);
	end = link->peer_end;
	g_mutex_unlock(&link->lock);
	return end;
}

void ckpt_link_get_counters(ckpt_link *link, struct base_channel_counters *counters)
{
	base_channel_get_counters(link->channel, counters);
}
