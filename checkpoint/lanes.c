/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections beside the link, for first sync. */
#include "checkpoint/lanes.h"

#include <string.h>

#include "checkpoint/fault.h"
#include "checkpoint/hello.h"

/* From the CUT on: what is still on its way by then is in queues and sockets. */
#define END_MS 30000u

struct lane {
	ckpt_lanes *lanes;
	guint number;
	ckpt_link *link; /* NULL: not there yet */
	ckpt_filler *filler; /* the secondary's; its receiving thread's */
	gboolean ended; /* its SYNC_END came */
};

struct ckpt_lanes {
	struct ckpt_lanes_options options;
	guint8 token[CKPT_TOKEN];

	GMutex lock; /* of what follows; held for no call into a link but its start */
	GCond changed;
	gboolean over; /* what happens to them is of no consequence any more */
	struct lane lane[CKPT_LANES_MAX]; /* the first is not used */
};

ckpt_lanes *ckpt_lanes_new(const struct ckpt_lanes_options *options,
			   const guint8 token[CKPT_TOKEN])
{
	ckpt_lanes *lanes = g_new0(ckpt_lanes, 1);

	g_assert(options->count >= 1 && options->count <= CKPT_LANES_MAX);
	lanes->options = *options;
	memcpy(lanes->token, token, CKPT_TOKEN);
	g_mutex_init(&lanes->lock);
	g_cond_init(&lanes->changed);
	for (guint i = 1; i < options->count; i++)
		lanes->lane[i] = (struct lane){ .lanes = lanes, .number = i };
	return lanes;
}

void ckpt_lanes_free(ckpt_lanes *lanes)
{
	if (!lanes)
		return;
	ckpt_lanes_refuse(lanes, "the end of replication");
	/* A lane's threads may be at the others: all end before the first goes. */
	for (guint i = 1; i < lanes->options.count; i++)
		if (lanes->lane[i].link)
			ckpt_link_stop(lanes->lane[i].link, CKPT_END_FAULT, NULL);
	for (guint i = 1; i < lanes->options.count; i++) {
		ckpt_link_free(lanes->lane[i].link);
		ckpt_filler_free(lanes->lane[i].filler);
	}
	g_mutex_clear(&lanes->lock);
	g_cond_clear(&lanes->changed);
	g_free(lanes);
}

/* On a lane's threads. */

static gboolean foul(GError **error, const char *what)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL, "the peer sent %s", what);
	return FALSE;
}

static gboolean take_end(struct lane *lane)
{
	g_mutex_lock(&lane->lanes->lock);
	lane->ended = TRUE;
	g_cond_broadcast(&lane->lanes->changed);
	g_mutex_unlock(&lane->lanes->lock);
	return TRUE;
}

static gboolean take_message(void *data, const struct base_message *message, GError **error)
{
	struct lane *lane = data;
	const char *why;

	/* Only this thread changes it. */
	if (!lane->filler || lane->ended)
		return foul(error, "what does not belong on this connection");
	if (message->type == CKPT_SYNC_END)
		return take_end(lane);
	if (message->type != CKPT_SYNC_PAGES)
		return foul(error, "what does not belong on this connection");
	return ckpt_filler_take(lane->filler, message->payload, message->length, &why) ||
	       foul(error, why);
}

static void lane_lost(void *data, const GError *error)
{
	struct lane *lane = data;
	ckpt_lanes *lanes = lane->lanes;
	g_autofree char *why = NULL;
	gboolean needed;

	g_mutex_lock(&lanes->lock);
	needed = !lanes->over && !lane->ended;
	lanes->over |= needed;
	g_cond_broadcast(&lanes->changed);
	g_mutex_unlock(&lanes->lock);
	if (!needed)
		return;
	why = g_strdup_printf("connection %u of the first sync: %s", lane->number + 1,
			      error->message);
	lanes->options.lost(lanes->options.data, why);
}

static const struct ckpt_link_ops ops = { take_message, lane_lost };

static void make_link_take(struct lane *lane, base_channel *channel)
{
	lane->link = ckpt_link_new_take(channel, &ops, lane, lane->lanes->options.silence_ms);
}

/* The primary's side. */

gboolean ckpt_lanes_open_take(ckpt_lanes *lanes, base_channel *channel_take, GError **error)
{
	g_autoptr(base_channel) channel = channel_take;
	struct ckpt_join join = { 0 };
	struct iovec iov = { &join, sizeof(join) };
	guint number = 1;

	while (lanes->lane[number].link)
		number++;
	g_assert(number < lanes->options.count);
	memcpy(join.token, lanes->token, CKPT_TOKEN);
	join.lane = wire_put32(number);
	if (!base_channel_send(channel, CKPT_JOIN, 0, &iov, 1, lanes->options.silence_ms,
			       error) ||
	    !base_channel_flush(channel, lanes->options.silence_ms, error))
		return FALSE;
	ckpt_fault_sent(CKPT_JOIN);
	make_link_take(&lanes->lane[number], g_steal_pointer(&channel));
	return TRUE;
}

void ckpt_lanes_start(ckpt_lanes *lanes)
{
	for (guint i = 1; i < lanes->options.count; i++)
		ckpt_link_start(lanes->lane[i].link);
}

ckpt_link *ckpt_lanes_link(ckpt_lanes *lanes, guint lane)
{
	return lanes->lane[lane].link;
}

gboolean ckpt_lanes_say_end(ckpt_lanes *lanes)
{
	for (guint i = 1; i < lanes->options.count; i++)
		if (!ckpt_link_send(lanes->lane[i].link, CKPT_SYNC_END, 0, NULL, 0))
			return FALSE;
	return TRUE;
}

/* The secondary's side. */

/* With the lock held. */
static const char *judge_join(ckpt_lanes *lanes, const struct ckpt_join *join)
{
	guint number = wire_get32(join->lane);

	if (memcmp(join->token, lanes->token, CKPT_TOKEN))
		return "this connection is of another session";
	if (number < 1 || number >= lanes->options.count || wire_get32(join->pad))
		return "this connection is one more than was said";
	if (lanes->lane[number].link)
		return "this connection is there already";
	return lanes->over ? "the session of this connection is over" : NULL;
}

const char *ckpt_lanes_join(ckpt_lanes *lanes, const struct ckpt_join *join,
			    base_channel **channel)
{
	struct lane *lane;
	const char *why;

	ckpt_fault_received(CKPT_JOIN);
	g_mutex_lock(&lanes->lock);
	why = judge_join(lanes, join);
	if (!why) {
		lane = &lanes->lane[wire_get32(join->lane)];
		lane->filler = ckpt_filler_new(lanes->options.memory, lanes->options.turn,
					       lane->number, lanes->options.count);
		make_link_take(lane, g_steal_pointer(channel));
		ckpt_link_wait_for_first(lane->link, CKPT_LANES_FIRST_MS);
		ckpt_link_start(lane->link);
	}
	g_mutex_unlock(&lanes->lock);
	return why;
}

/* With the lock held. */
static gboolean all_ended(const ckpt_lanes *lanes)
{
	for (guint i = 1; i < lanes->options.count; i++)
		if (!lanes->lane[i].ended)
			return FALSE;
	return TRUE;
}

const char *ckpt_lanes_wait(ckpt_lanes *lanes)
{
	gint64 until = g_get_monotonic_time() + END_MS * 1000;
	gboolean ended;

	g_mutex_lock(&lanes->lock);
	while (!(ended = all_ended(lanes)) && !lanes->over &&
	       g_cond_wait_until(&lanes->changed, &lanes->lock, until))
		;
	g_mutex_unlock(&lanes->lock);
	return ended ? NULL : "a first checkpoint before all of the first sync";
}

/* Either side's. */

void ckpt_lanes_refuse(ckpt_lanes *lanes, const char *why)
{
	ckpt_link *links[CKPT_LANES_MAX] = { NULL };

	g_mutex_lock(&lanes->lock);
	lanes->over = TRUE;
	g_cond_broadcast(&lanes->changed);
	for (guint i = 1; i < lanes->options.count; i++)
		links[i] = lanes->lane[i].link;
	g_mutex_unlock(&lanes->lock);
	for (guint i = 1; i < lanes->options.count; i++)
		if (links[i])
			ckpt_link_refuse(links[i], why);
}

void ckpt_lanes_close(ckpt_lanes *lanes)
{
	g_mutex_lock(&lanes->lock);
	lanes->over = TRUE;
	g_mutex_unlock(&lanes->lock);
	for (guint i = 1; i < lanes->options.count; i++)
		if (lanes->lane[i].link)
			ckpt_link_stop(lanes->lane[i].link, CKPT_END_FAULT, NULL);
}

void ckpt_lanes_add_counters(ckpt_lanes *lanes, struct base_channel_counters *counters)
{
	for (guint i = 1; i < lanes->options.count; i++) {
		struct base_channel_counters more = { 0 };

		if (!lanes->lane[i].link)
			continue;
		ckpt_link_get_counters(lanes->lane[i].link, &more);
		counters->sent_bytes += more.sent_bytes;
		counters->received_bytes += more.received_bytes;
		counters->sent_messages += more.sent_messages;
		counters->received_messages += more.received_messages;
		counters->rekeys += more.rekeys;
		counters->peer_rekeys += more.peer_rekeys;
	}
}
