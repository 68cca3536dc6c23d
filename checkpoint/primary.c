/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side of the epochs.
 *
 * One thread takes all checkpoints, one after the other: the next cut waits until the last
 * checkpoint was applied, so a secondary that falls behind throttles us and nothing else.
 *
 * What the secondary has is known page by page, as digests of the last committed content.
 * They change only with the commit. Of the pages of the last checkpoint the content itself
 * is still there (two stages take turns), as the base of deltas.
 */
#include "checkpoint/primary_private.h"

#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/clock.h"
#include "checkpoint/fault.h"
#include "checkpoint/verify.h"

#define STAGE_PAGES 4096u /* at first; grows with the checkpoints */
#define SPAN_MIN_NS 2000000u
/* From one look at how much the guest has written to the next. */
#define LOOK_MS 20u

void ckpt_primary_options_init(struct ckpt_primary_options *options)
{
	*options = (struct ckpt_primary_options){
		.mode = CKPT_MODE_COLO,
		.period_ms = 20,
		.age_ms = 1000,
		.dirty_max = 8192,
		.silence_ms = 2000,
		.answer_ms = 60000,
		.hello_ms = 10000,
		.connections = 1,
	};
}

static void set_state(ckpt_primary *primary, enum ckpt_primary_state state, const char *why)
{
	gboolean changed;

	g_mutex_lock(&primary->lock);
	changed = primary->state != state && primary->state != CKPT_PRIMARY_LOST;
	if (changed)
		primary->state = state;
	g_mutex_unlock(&primary->lock);
	if (changed && primary->hooks.state)
		primary->hooks.state(primary->data, state, why);
}

/* What the secondary says; on the link's thread. */

static gboolean foul(GError **error, const char *what)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL, "the secondary %s", what);
	return FALSE;
}

static gboolean take_wanted(ckpt_primary *primary, const struct base_message *message,
			    GError **error)
{
	const wire_u32 *numbers = (const void *)message->payload;

	if (message->epoch != primary->asking || message->length % sizeof(*numbers))
		return foul(error, "wants pages of another checkpoint");
	if (primary->replies == primary->questions)
		return foul(error, "answers what it was not asked");
	for (gsize i = 0; i < message->length / sizeof(*numbers); i++) {
		guint32 page = wire_get32(numbers[i]);

		if (page >= primary->pages || primary->wanted->len >= primary->pages)
			return foul(error, "wants pages that do not exist");
		g_array_append_val(primary->wanted, page);
	}
	primary->replies++;
	return TRUE;
}

static gboolean take_sync_answer(ckpt_primary *primary, const struct base_message *message,
				 GError **error)
{
	vmm_loop *loop = vmm_machine_loop(primary->machine);
	gboolean ok;

	if (!primary->streams.sync_answer)
		return foul(error, "answers about disks that nobody here syncs");
	vmm_loop_lock(loop);
	ok = primary->streams.sync_answer(primary->streams.data, message->payload,
					  message->length, error);
	vmm_loop_unlock(loop);
	return ok;
}

/* Told at once, on this thread: packets wait for it, and outputs that follow are judged by
 * it. */
static gboolean take_committed(ckpt_primary *primary, const struct base_message *message,
			       GError **error)
{
	gboolean ok, parted;

	g_mutex_lock(&primary->lock);
	ok = message->epoch == primary->committed + 1 && message->epoch == primary->ended;
	primary->committed += ok ? 1 : 0;
	parted = message->epoch == primary->parted;
	g_mutex_unlock(&primary->lock);
	if (!ok)
		return foul(error, "committed a checkpoint out of turn");
	ckpt_fault(CKPT_FAULT_COMMITTED);
	if (primary->hooks.committed)
		primary->hooks.committed(primary->data, message->epoch);
	ckpt_fault(CKPT_FAULT_RELEASED);
	if (parted)
		ckpt_fault(CKPT_FAULT_HANDOVER_COMMITTED);
	if (parted && primary->hooks.parted)
		primary->hooks.parted(primary->data, message->epoch);
	return TRUE;
}

/* The frame at `*at`, which moves on; NULL: what is there is none. */
static const guint8 *next_output(ckpt_primary *primary, const struct base_message *message,
				 gsize *at, struct ckpt_output_head *head)
{
	gsize left = message->length - *at, len;
	const guint8 *frame;

	if (left < sizeof(*head))
		return NULL;
	memcpy(head, message->payload + *at, sizeof(*head));
	frame = message->payload + *at + sizeof(*head);
	len = wire_get32(head->length);
	if (len < CKPT_FRAME_MIN || len > CKPT_FRAME_MAX || len > left - sizeof(*head) ||
	    head->device >= primary->nets || head->lost > 1 || head->pad[0] || head->pad[1])
		return NULL;
	*at += sizeof(*head) + len;
	return frame;
}

/* All are judged before the first is handed on. */
static gboolean take_output(ckpt_primary *primary, const struct base_message *message,
			    GError **error)
{
	struct ckpt_output_head head;
	const guint8 *frame;
	gboolean in_turn, wanted, over;
	gsize at = 0;

	g_mutex_lock(&primary->lock);
	/* What the guest sent while its end was being committed is of the epoch before. */
	in_turn = message->epoch && primary->listened && message->epoch >= primary->output &&
		  message->epoch <= primary->committed &&
		  message->epoch + 1 >= primary->committed;
	primary->output = in_turn ? message->epoch : primary->output;
	over = message->epoch < primary->committed;
	wanted = primary->listening;
	g_mutex_unlock(&primary->lock);
	if (!in_turn)
		return foul(error, "sent its guest's output out of turn");
	while (at < message->length)
		if (!next_output(primary, message, &at, &head))
			return foul(error, "sent its guest's output in pieces, or for no card");
	for (at = 0; wanted && !over && primary->hooks.output && at < message->length;) {
		frame = next_output(primary, message, &at, &head);
		primary->hooks.output(primary->data, message->epoch, head.device, head.lost,
				      frame, wire_get32(head.length));
	}
	return TRUE;
}

static gboolean take_message(void *data, const struct base_message *message, GError **error)
{
	ckpt_primary *primary = data;
	gboolean ok = TRUE;
	guint32 reason;

	if (message->type == CKPT_OUTPUT)
		return take_output(primary, message, error);
	if (message->type == CKPT_COMMITTED && !take_committed(primary, message, error))
		return FALSE;

	/* The device lock is taken before ours. */
	if (message->type == CKPT_SYNC_DISK && !take_sync_answer(primary, message, error))
		return FALSE;
	g_mutex_lock(&primary->lock);
	switch (message->type) {
	case CKPT_WANTED:
		ok = take_wanted(primary, message, error);
		break;
	case CKPT_COMMITTED:
		break;
	case CKPT_APPLIED:
		ok = (message->epoch == primary->committed &&
		      message->epoch == primary->applied + 1) ||
		     foul(error, "applied a checkpoint that was not committed");
		primary->applied += ok ? 1 : 0;
		memcpy(&primary->apply, message->payload, sizeof(primary->apply));
		break;
	case CKPT_NEED:
		reason = wire_get32(*(const wire_u32 *)message->payload);
		if (reason >= CKPT_REASONS)
			ok = foul(error, "asks for a checkpoint for no known reason");
		else
			primary->requested |= 1u << reason;
		break;
	case CKPT_SYNC_DISK:
		primary->sync_news++;
		break;
	default:
		ok = foul(error, "sent what only a primary sends");
	}
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
	return ok;
}

static void link_lost(void *data, const GError *error)
{
	ckpt_primary *primary = data;

	g_mutex_lock(&primary->lock);
	primary->lost = TRUE;
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
	/* They may be what the checkpoint thread waits for. */
	ckpt_lanes_refuse(primary->lanes, error->message);
	set_state(primary, CKPT_PRIMARY_LOST, error->message);
}

static const struct ckpt_link_ops link_ops = { take_message, link_lost };

static void lane_lost(void *data, const char *why)
{
	ckpt_primary *primary = data;

	ckpt_link_refuse(primary->link, why);
}

gboolean ckpt_primary_is_over(const ckpt_primary *primary)
{
	return primary->stop || primary->lost;
}

gboolean ckpt_primary_wait_for_word(ckpt_primary *primary, gint64 start_us,
				    const char *what)
{
	gint64 until = start_us + (gint64)primary->options.answer_ms * 1000;
	g_autofree char *why = NULL;

	if (ckpt_primary_is_over(primary))
		return FALSE;
	if (g_cond_wait_until(&primary->changed, &primary->lock, until))
		return TRUE;
	why = g_strdup_printf("the secondary did not %s within %u ms", what,
			      primary->options.answer_ms);
	g_mutex_unlock(&primary->lock);
	ckpt_link_refuse(primary->link, why);
	g_mutex_lock(&primary->lock);
	return FALSE;
}

gboolean ckpt_primary_at_rest(ckpt_primary *primary, void (*fn)(void *data))
{
	g_clear_error(&primary->cut_error);
	return vmm_machine_quiesce(primary->machine, fn, primary, &primary->cut_error) &&
	       !primary->cut_error;
}

/* A checkpoint. */

/* What sync owes and what was written since, each page once. */
static void add_pending(ckpt_primary *primary)
{
	GArray *pages = primary->collected;
	guint kept = 0;
	guint32 *page;

	if (!primary->pending->len)
		return;
	g_array_append_vals(pages, primary->pending->data, primary->pending->len);
	g_array_set_size(primary->pending, 0);
	page = (guint32 *)(void *)pages->data;
	for (guint i = 0; i < pages->len; i++) {
		gulong bit = 1ul << page[i] % 64;

		if (primary->seen[page[i] / 64] & bit)
			continue;
		primary->seen[page[i] / 64] |= bit;
		page[kept++] = page[i];
	}
	g_array_set_size(pages, kept);
	for (guint i = 0; i < kept; i++)
		primary->seen[page[i] / 64] = 0;
}

/* With the machine at rest: everything of this instant is copied aside. */
static void cut_here(void *data)
{
	ckpt_primary *primary = data;

	if (!vmm_machine_save(primary->machine, primary->state_bytes, &primary->cut_error) ||
	    !vmm_machine_collect(primary->machine, primary->collected, &primary->cut_error))
		return;
	add_pending(primary);
	vmm_stage_take(primary->stage, primary->memory,
		       (const guint32 *)(void *)primary->collected->data,
		       primary->collected->len);
	if (primary->streams.input_number)
		primary->cut.input =
			wire_put64(primary->streams.input_number(primary->streams.data));
	if (primary->streams.disk_number)
		primary->cut.disk =
			wire_put64(primary->streams.disk_number(primary->streams.data));
	/* The guest's next write may overtake the CUT, but not this. */
	if (primary->epoch == 1)
		ckpt_link_post(primary->link, CKPT_SYNCED, 0, NULL, 0);
	if (primary->streams.at_cut)
		primary->streams.at_cut(primary->streams.data, primary->epoch);
	if (primary->verify)
		ckpt_verify_pages(primary->memory, primary->verify);
	if (primary->verify && primary->streams.disk_digests)
		primary->streams.disk_digests(primary->streams.data, primary->verify_disk);
	if (primary->hooks.cut)
		primary->hooks.cut(primary->data, primary->epoch, primary->cut.run);
	ckpt_fault(CKPT_FAULT_STAGED);
}

static gboolean take_cut(ckpt_primary *primary, enum ckpt_reason reason, gboolean run)
{
	guint64 start = base_clock_monotonic_ns();

	primary->epoch++;
	primary->now = (struct ckpt_checkpoint_stats){ .epoch = primary->epoch,
						       .reason = reason };
	memset(&primary->cut, 0, sizeof(primary->cut));
	primary->cut.run = run;
	ckpt_fault(CKPT_FAULT_CUT);
	if (!ckpt_primary_at_rest(primary, cut_here))
		return FALSE;
	ckpt_fault(CKPT_FAULT_RESUMED);
	primary->now.pause_ns = base_clock_monotonic_ns() - start;
	primary->cut_before_ns = primary->cut_ns;
	primary->cut_ns = start;
	primary->now.dirty = primary->collected->len;
	primary->cut.reason = wire_put32(reason);
	primary->cut.dirty = wire_put64(primary->collected->len);
	return TRUE;
}

static gboolean wait_for_commit(ckpt_primary *primary)
{
	gint64 start = g_get_monotonic_time();
	gboolean ok = TRUE;

	g_mutex_lock(&primary->lock);
	while (ok && primary->committed < primary->epoch)
		ok = ckpt_primary_wait_for_word(primary, start, "commit");
	ok = primary->committed >= primary->epoch;
	g_mutex_unlock(&primary->lock);
	return ok;
}

static gboolean wait_for_apply(ckpt_primary *primary)
{
	gint64 start = g_get_monotonic_time();
	gboolean ok = TRUE;

	g_mutex_lock(&primary->lock);
	while (ok && primary->applied < primary->epoch)
		ok = ckpt_primary_wait_for_word(primary, start, "apply its checkpoint");
	ok = primary->applied >= primary->epoch;
	primary->now.apply_ns = wire_get64(primary->apply.apply_ns);
	primary->now.private_pages = wire_get64(primary->apply.private_pages);
	if (ok) {
		primary->stats = primary->now;
		primary->have_stats = TRUE;
	}
	g_mutex_unlock(&primary->lock);
	return ok;
}

/* This checkpoint's stage is the next one's base of deltas. */
static void turn_stages(ckpt_primary *primary)
{
	vmm_stage *stage = primary->last;

	for (guint i = 0; i < vmm_stage_count(primary->last); i++)
		primary->slots[vmm_stage_number(primary->last, i)] = CKPT_NO_SLOT;
	primary->last = primary->stage;
	primary->stage = stage;
	for (guint i = 0; i < vmm_stage_count(primary->last); i++)
		primary->slots[vmm_stage_number(primary->last, i)] = i;
}

static void log_checkpoint(const struct ckpt_checkpoint_stats *s)
{
	g_info("checkpoint epoch=%" G_GUINT64_FORMAT " reason=%s pause_us=%" G_GUINT64_FORMAT
	       " commit_us=%" G_GUINT64_FORMAT " apply_us=%" G_GUINT64_FORMAT
	       " dirty=%" G_GUINT64_FORMAT " same=%" G_GUINT64_FORMAT
	       " twin=%" G_GUINT64_FORMAT " sent=%" G_GUINT64_FORMAT
	       " bytes=%" G_GUINT64_FORMAT " private=%" G_GUINT64_FORMAT,
	       s->epoch, ckpt_reason_name(s->reason), s->pause_ns / 1000, s->commit_ns / 1000,
	       s->apply_ns / 1000, s->dirty, s->same, s->twin, s->sent, s->bytes,
	       s->private_pages);
}

/* `last`: the machine does not go on from here, and nor does the secondary's. */
static gboolean take_checkpoint(ckpt_primary *primary, enum ckpt_reason reason, gboolean last)
{
	gboolean run;

	g_mutex_lock(&primary->lock);
	run = primary->mode == CKPT_MODE_COLO && !primary->parting;
	primary->requested = 0;
	primary->parted = last ? primary->epoch + 1 : 0;
	g_mutex_unlock(&primary->lock);
	if (!take_cut(primary, reason, run))
		return FALSE;
	if (last)
		ckpt_fault(CKPT_FAULT_HANDOVER_STAGED);
	if (reason == CKPT_REASON_HANDOVER && primary->streams.hand_over)
		primary->streams.hand_over(primary->streams.data);
	if (!ckpt_primary_ship(primary, run))
		return FALSE;
	if (last)
		ckpt_fault(CKPT_FAULT_HANDOVER_SENT);
	ckpt_fault(CKPT_FAULT_ALL_SENT);
	if (!wait_for_commit(primary))
		return FALSE;
	primary->now.commit_ns = base_clock_monotonic_ns() - primary->cut_ns;
	turn_stages(primary);
	if (!wait_for_apply(primary))
		return FALSE;
	ckpt_fault(CKPT_FAULT_KNOWS_APPLIED);
	log_checkpoint(&primary->now);
	if (primary->hooks.applied)
		primary->hooks.applied(primary->data, &primary->now);
	return TRUE;
}

/* How long the next epoch may last: as the mode says, and not longer than it takes the guest
 * to fill a checkpoint at the rate at which it filled the last one. */
static guint64 span_ns(const ckpt_primary *primary, enum ckpt_reason *reason)
{
	gboolean buffered = primary->mode == CKPT_MODE_BUFFERED;
	guint64 span = (guint64)(buffered ? primary->options.period_ms :
					    primary->options.age_ms) *
		       1000000;
	guint64 last = primary->cut_ns - primary->cut_before_ns, fill;

	*reason = buffered ? CKPT_REASON_PERIOD : CKPT_REASON_AGE;
	if (!primary->options.dirty_max || !primary->now.dirty || !primary->cut_before_ns)
		return span;
	fill = (guint64)((double)last * (double)primary->options.dirty_max /
			 (double)primary->now.dirty);
	if (fill >= span)
		return span;
	*reason = CKPT_REASON_DIRTY;
	return MAX(fill, SPAN_MIN_NS);
}

/* TRUE where the guest has written a checkpoint's worth already: the last epoch's rate says
 * nothing of bursts. */
static gboolean is_burst(ckpt_primary *primary)
{
	vmm_loop *loop = vmm_machine_loop(primary->machine);

	if (!primary->options.dirty_max)
		return FALSE;
	vmm_loop_lock(loop);
	vmm_machine_peek(primary->machine, primary->collected);
	vmm_loop_unlock(loop);
	return primary->collected->len >= primary->options.dirty_max;
}

/* As g_cond_wait_until(), but with a look at the guest now and then; TRUE: it bursts. */
static gboolean wait_and_look(ckpt_primary *primary, guint64 ns)
{
	gint64 until = g_get_monotonic_time() + (gint64)MIN(ns / 1000 + 1, LOOK_MS * 1000);
	gboolean burst;

	if (g_cond_wait_until(&primary->changed, &primary->lock, until))
		return FALSE;
	g_mutex_unlock(&primary->lock);
	burst = is_burst(primary);
	g_mutex_lock(&primary->lock);
	return burst;
}

/* Waits for the next checkpoint's reason; FALSE: over. */
static gboolean wait_for_reason(ckpt_primary *primary, enum ckpt_reason *reason)
{
	gboolean burst = FALSE, go_on;

	g_mutex_lock(&primary->lock);
	while (!ckpt_primary_is_over(primary)) {
		guint64 due = primary->cut_ns + span_ns(primary, reason);
		guint64 now = base_clock_monotonic_ns();

		if (burst)
			*reason = CKPT_REASON_DIRTY;
		if (primary->requested)
			*reason = (enum ckpt_reason)__builtin_ctz(primary->requested);
		if (primary->parting)
			*reason = primary->parting;
		if (primary->parting || primary->requested || burst || now >= due)
			break;
		burst = wait_and_look(primary, due - now);
	}
	go_on = !ckpt_primary_is_over(primary);
	g_mutex_unlock(&primary->lock);
	return go_on;
}

/* The last checkpoint: its pause has no end. So that it is small, and the secondary's guest
 * rests when it comes, there is another just before, while the guest runs. */
static void part(ckpt_primary *primary, enum ckpt_reason reason)
{
	gboolean hand_over = reason == CKPT_REASON_HANDOVER;

	ckpt_fault(CKPT_FAULT_HANDOVER_ASKED);
	if (hand_over && !take_checkpoint(primary, CKPT_REASON_REQUEST, FALSE))
		return;
	ckpt_fault(CKPT_FAULT_HANDOVER_BEFORE);
	g_clear_error(&primary->cut_error);
	/* The guest may have ended by itself meanwhile: then it stands still all the same. */
	if (hand_over && vmm_machine_run_state(primary->machine) != VMM_ENDED &&
	    !vmm_machine_pause(primary->machine, &primary->cut_error) &&
	    vmm_machine_run_state(primary->machine) != VMM_ENDED)
		return;
	ckpt_fault(CKPT_FAULT_HANDOVER_AT_REST);
	if (!take_checkpoint(primary, reason, TRUE))
		return;
	ckpt_fault(CKPT_FAULT_HANDOVER_APPLIED);
	g_mutex_lock(&primary->lock);
	while (!ckpt_primary_is_over(primary))
		g_cond_wait(&primary->changed, &primary->lock);
	g_mutex_unlock(&primary->lock);
}

/* Unless the link was lost, in which case it has its own reason and tells that, the machine
 * failed us. */
static void give_up(ckpt_primary *primary)
{
	gboolean stopped;

	g_mutex_lock(&primary->lock);
	stopped = ckpt_primary_is_over(primary);
	g_mutex_unlock(&primary->lock);
	if (!stopped)
		ckpt_link_refuse(primary->link, primary->cut_error ?
							primary->cut_error->message :
							"a checkpoint could not be sent");
}

static void *replicate(void *data)
{
	ckpt_primary *primary = data;
	enum ckpt_reason reason = CKPT_REASON_SYNC;

	if (ckpt_primary_sync(primary)) {
		while (take_checkpoint(primary, reason, FALSE)) {
			if (primary->epoch == 1) {
				ckpt_lanes_close(primary->lanes);
				set_state(primary, CKPT_PRIMARY_PROTECTED, NULL);
			}
			if (!wait_for_reason(primary, &reason))
				break;
			if (reason == CKPT_REASON_HANDOVER || reason == CKPT_REASON_ENDED) {
				part(primary, reason);
				break;
			}
		}
	}
	give_up(primary);
	vmm_machine_untrack(primary->machine);
	return NULL;
}

/* NULL: no longer. */
static void start_streams(ckpt_primary *primary, ckpt_link *link)
{
	vmm_loop *loop = vmm_machine_loop(primary->machine);

	if (!primary->streams.start)
		return;
	vmm_loop_lock(loop);
	primary->streams.start(primary->streams.data, link, primary->secret);
	vmm_loop_unlock(loop);
}

static gboolean get_random(void *where, gsize bytes, GError **error)
{
	if (getrandom(where, bytes, 0) == (gssize)bytes)
		return TRUE;
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_MODE, "no random bytes");
	return FALSE;
}

static gboolean greet(ckpt_primary *primary, base_channel *channel, GError **error)
{
	struct ckpt_hello ours, theirs;
	guint8 *secret = primary->secret, token[CKPT_TOKEN];
	const struct ckpt_lanes_options lanes = {
		.count = primary->options.connections,
		.silence_ms = primary->options.silence_ms,
		.lost = lane_lost,
		.data = primary,
	};

	/* More than 256 bytes at once may come short. */
	for (gsize at = 0; at < CKPT_SECRET; at += 128)
		if (!get_random(secret + at, 128, error))
			return FALSE;
	if (!get_random(token, sizeof(token), error))
		return FALSE;
	ckpt_hello_fill(&ours, primary->machine, TRUE, primary->options.verify,
			primary->options.silence_ms, secret);
	ours.connections = wire_put32(lanes.count);
	memcpy(ours.token, token, sizeof(token));
	primary->lanes = ckpt_lanes_new(&lanes, token);
	primary->digester = ckpt_digester_new(secret);
	return ckpt_hello_exchange(channel, &ours, &theirs, primary->options.hello_ms, error);
}

/* All of them or none: what was asked for is what there is. */
static gboolean open_lanes(ckpt_primary *primary, base_channel *first, GError **error)
{
	for (guint i = 1; i < primary->options.connections; i++) {
		g_autoptr(GError) reason = NULL;
		base_channel *channel = primary->hooks.connect(primary->data, &reason);

		if (channel && ckpt_lanes_open_take(primary->lanes, channel, &reason))
			continue;
		g_prefix_error(&reason, "connection %u of %u: ", i + 1,
			       primary->options.connections);
		ckpt_hello_refuse(first, reason->message);
		g_propagate_error(error, g_steal_pointer(&reason));
		return FALSE;
	}
	return TRUE;
}

ckpt_primary *ckpt_primary_new_take(vmm_machine *machine, base_channel *channel_take,
				    const struct ckpt_primary_options *options,
				    const struct ckpt_streams *streams,
				    const struct ckpt_primary_hooks *hooks, void *data,
				    GError **error)
{
	g_autoptr(base_channel) channel = channel_take;
	g_autoptr(ckpt_primary) primary = g_new0(ckpt_primary, 1);

	g_mutex_init(&primary->lock);
	g_cond_init(&primary->changed);
	primary->machine = machine;
	primary->memory = vmm_machine_memory(machine);
	primary->pages = vmm_memory_pages(primary->memory);
	primary->nets = vmm_machine_nets(machine);
	primary->options = *options;
	primary->mode = options->mode;
	primary->streams = *streams;
	primary->hooks = *hooks;
	primary->data = data;
	primary->encoder = ckpt_encoder_new();
	primary->known = g_new0(struct ckpt_digest, primary->pages);
	primary->slots = g_new(guint32, primary->pages);
	memset(primary->slots, 0xff, primary->pages * sizeof(guint32));
	primary->seen = g_new0(gulong, primary->pages / 64 + 1);
	primary->stage = vmm_stage_new((guint)MIN(STAGE_PAGES, primary->pages));
	primary->last = vmm_stage_new((guint)MIN(STAGE_PAGES, primary->pages));
	primary->pending = g_array_new(FALSE, FALSE, sizeof(guint32));
	primary->collected = g_array_new(FALSE, FALSE, sizeof(guint32));
	primary->wanted = g_array_new(FALSE, FALSE, sizeof(guint32));
	primary->state_bytes = vmm_state_new();
	primary->state_before = g_byte_array_new();
	primary->verify_disk =
		g_array_new(FALSE, FALSE, sizeof(struct ckpt_verify_range));
	primary->twin_share = 1;
	primary->end = CKPT_END_UNPROTECT;
	if (options->verify)
		primary->verify = g_new0(guint64, primary->pages);
	if (!greet(primary, channel, error) || !open_lanes(primary, channel, error))
		return NULL;
	primary->link = ckpt_link_new_take(g_steal_pointer(&channel), &link_ops, primary,
					   options->silence_ms);
	ckpt_lanes_start(primary->lanes);
	ckpt_fault(CKPT_FAULT_LANES_OPEN);
	start_streams(primary, primary->link);
	ckpt_primary_listen(primary, options->listen);
	ckpt_link_start(primary->link);
	primary->thread = g_thread_new("checkpoint", replicate, primary);
	return g_steal_pointer(&primary);
}

void ckpt_primary_set_end(ckpt_primary *primary, enum ckpt_ending end)
{
	primary->end = end;
}

void ckpt_primary_free(ckpt_primary *primary)
{
	if (!primary)
		return;
	g_mutex_lock(&primary->lock);
	primary->stop = TRUE;
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
	if (primary->link)
		ckpt_link_stop(primary->link, primary->end, "the primary ends replication");
	if (primary->thread)
		g_thread_join(primary->thread);
	/* After the last cut: one that did not know of all writes must not be sent. */
	if (primary->link)
		start_streams(primary, NULL);
	ckpt_lanes_free(primary->lanes);
	ckpt_link_free(primary->link);
	explicit_bzero(primary->secret, sizeof(primary->secret));
	ckpt_digester_free(primary->digester);
	ckpt_encoder_free(primary->encoder);
	g_free(primary->known);
	g_free(primary->verify);
	g_array_unref(primary->verify_disk);
	g_free(primary->slots);
	g_free(primary->seen);
	vmm_stage_free(primary->stage);
	vmm_stage_free(primary->last);
	g_array_unref(primary->pending);
	g_array_unref(primary->collected);
	g_array_unref(primary->wanted);
	vmm_state_free(primary->state_bytes);
	g_byte_array_unref(primary->state_before);
	g_clear_error(&primary->cut_error);
	g_mutex_clear(&primary->lock);
	g_cond_clear(&primary->changed);
	g_free(primary);
}

void ckpt_primary_request(ckpt_primary *primary, enum ckpt_reason reason)
{
	g_mutex_lock(&primary->lock);
	primary->requested |= 1u << reason;
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
}

void ckpt_primary_part(ckpt_primary *primary, enum ckpt_reason reason)
{
	g_assert(reason == CKPT_REASON_HANDOVER || reason == CKPT_REASON_ENDED);
	g_mutex_lock(&primary->lock);
	if (!primary->parting)
		primary->parting = reason;
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
}

void ckpt_primary_set_mode(ckpt_primary *primary, enum ckpt_mode mode, guint period_ms)
{
	g_mutex_lock(&primary->lock);
	primary->mode = mode;
	primary->options.period_ms = period_ms;
	g_cond_broadcast(&primary->changed);
	g_mutex_unlock(&primary->lock);
}

void ckpt_primary_listen(ckpt_primary *primary, gboolean on)
{
	const struct ckpt_listen listen = { .on = on != FALSE };
	const struct iovec iov = { (void *)&listen, sizeof(listen) };

	/* Posted under the lock: the secondary hears them in this order. */
	g_mutex_lock(&primary->lock);
	if (!primary->listening != !on)
		ckpt_link_post(primary->link, CKPT_LISTEN, 0, &iov, 1);
	primary->listening = on;
	primary->listened |= on;
	g_mutex_unlock(&primary->lock);
}

enum ckpt_primary_state ckpt_primary_get_state(ckpt_primary *primary)
{
	enum ckpt_primary_state state;

	g_mutex_lock(&primary->lock);
	state = primary->state;
	g_mutex_unlock(&primary->lock);
	return state;
}

gboolean ckpt_primary_last(ckpt_primary *primary, struct ckpt_checkpoint_stats *stats)
{
	gboolean have;

	g_mutex_lock(&primary->lock);
	have = primary->have_stats;
	*stats = primary->stats;
	g_mutex_unlock(&primary->lock);
	return have;
}

void ckpt_primary_progress(ckpt_primary *primary, struct ckpt_sync_progress *progress)
{
	g_mutex_lock(&primary->lock);
	*progress = primary->sync;
	g_mutex_unlock(&primary->lock);
}

void ckpt_primary_link_counters(ckpt_primary *primary,
				struct base_channel_counters *counters)
{
	ckpt_link_get_counters(primary->link, counters);
	ckpt_lanes_add_counters(primary->lanes, counters);
}
