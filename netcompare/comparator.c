/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator at work.
 *
 * A host that stood still may find the other one promoted when it goes on: what the
 * secondary said before is still in its sockets then, and would let packets out beside
 * those of the new primary. So whoever did not run for long forgets what it was told, and
 * holds everything until a checkpoint that begins after that is committed: which only
 * happens where the secondary is one still. It is looked at whenever the loop wakes, and again
 * when the verdicts of what came then are about to be given. What cannot be seen is a stop
 * between that look and the system call behind it.
 *
 * Whatever comes in (packets, words, a time) ends with settle(): verdicts are flushed
 * and the next look at the clock is set. Where nobody says anything, or nobody is
 * there, the gate is closed.
 */
#include "netcompare/comparator.h"

#include <glib-unix.h>
#include <net/if.h>
#include <poll.h>
#include <netinet/in.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/ratelimit.h"
#include "netcompare/evidence.h"
#include "netcompare/rule.h"

#define ETHERTYPE_IPV4 0x0800u
#define SECOND_MS 1000u
#define WAITING_MAX 65536u
#define WAITING_BYTES_MAX (512u << 20)
#define NOT_BEFORE_US 200 /* how often the clock is looked at, at most */
#define STALL_MS 150u
#define STALL_LOOKS 3 /* within that time, at least */

/* Runs before all others whenever the main loop wakes. */
struct watch {
	GSource source;
	ncmp_comparator *comparator;
	gint64 awake_ns; /* when it last did; 0: nothing is guarded */
};

struct ncmp_comparator {
	struct ncmp_comparator_hooks hooks;
	char *vm;
	struct ncmp_compare_options compare_options;
	char **taps;
	guint cards;
	guint32 interfaces[NCMP_TAPS_MAX]; /* of each card; 0: not there */
	ncmp_queue *queue;
	ncmp_peer *peer;
	ncmp_compare *compare;
	ncmp_mode *mode;
	ncmp_dump *dump; /* borrowed; NULL: none */
	enum ncmp_gate gate;
	gboolean gate_told; /* since colo-vm greeted */
	gboolean restarted; /* a checkpoint is to be asked for with the next cut */
	guint64 marker; /* the last one */
	guint64 drain; /* colo-vm wants to know when all of it has gone; 0: nothing */
	guint64 committed_before; /* a second ago */
	guint64 waiting_max, waiting_bytes_max;
	guint64 crowded_after; /* the marker after which packets were last too many, plus 1 */
	gboolean stale; /* what comes from the queue is of another colo-vm's guest */
	gint64 stall_ns;
	guint64 stalled_cut; /* commits up to this epoch's do not count */
	guint64 markers, strangers, crowded, secondary_lost, requests, stalls;
	GSource *readable, *clock, *seconds;
	struct watch *watch;
	gint64 look_us; /* when `clock` is due; -1: never */
	struct base_ratelimit stranger_limit, divergence_limit;
};

static gint64 now_ns(void)
{
	return (gint64)base_clock_monotonic_ns();
}

/* What the comparison wants. */

static void release(void *data, guint32 id, const guint8 *changed, gsize len)
{
	ncmp_comparator *c = data;

	ncmp_queue_accept(c->queue, id, changed, len);
}

static void drop(void *data, guint32 id)
{
	ncmp_comparator *c = data;

	ncmp_queue_drop(c->queue, id);
}

static void request(ncmp_comparator *c, guint64 epoch, enum ncmp_cause cause)
{
	base_fault("asked");
	c->requests++;
	ncmp_peer_request(c->peer, epoch, cause);
}

static void log_divergence(ncmp_comparator *c, const struct ncmp_divergence *d)
{
	const struct ncmp_flow_key *key = d->key;
	guint left_out;

	if (!base_ratelimit_pass(&c->divergence_limit, &left_out))
		return;
	if (key)
		g_info("divergence: cause=%s epoch=%" G_GUINT64_FORMAT
		       " card=%u family=%u "
		       "protocol=%u port=%u peer_port=%u position=%" G_GUINT64_FORMAT
		       " more=%u",
		       ncmp_cause_name(d->cause), d->epoch, key->device, key->family,
		       key->protocol, key->source_port, key->target_port, d->position,
		       left_out);
	else
		g_info("divergence: cause=%s epoch=%" G_GUINT64_FORMAT " more=%u",
		       ncmp_cause_name(d->cause), d->epoch, left_out);
}

static void diverged(void *data, const struct ncmp_divergence *divergence)
{
	ncmp_comparator *c = data;

	base_fault("diverged");
	log_divergence(c, divergence);
	if (c->dump)
		ncmp_evidence_dump(c->dump, divergence, g_get_real_time() * 1000);
	request(c, divergence->epoch, divergence->cause);
}

static ncmp_compare *new_compare(ncmp_comparator *c)
{
	const struct ncmp_compare_hooks hooks = { c, release, drop, diverged };

	return ncmp_compare_new(&c->compare_options, &hooks);
}

/* The clock is looked at by then. An earlier look that was asked for before stays: to
 * move it costs more than to look in vain, since the main loop wakes itself for that.
 */
static void look_by(ncmp_comparator *c, gint64 next_ns)
{
	gint64 due_us = g_get_monotonic_time() + MAX(next_ns / 1000, NOT_BEFORE_US);

	if (next_ns == G_MAXINT64 || (c->look_us >= 0 && c->look_us <= due_us))
		return;
	c->look_us = due_us;
	g_source_set_ready_time(c->clock, due_us);
}

/* Whether packets of a guest that is no more can still be on their way here. */
static void judge_stale(ncmp_comparator *c)
{
	struct pollfd polled = { ncmp_queue_fd(c->queue), POLLIN, 0 };

	if (c->stale && poll(&polled, 1, 0) == 0)
		c->stale = FALSE;
}

/* After whatever came in. */
static void settle(ncmp_comparator *c)
{
	gint64 next_ns = ncmp_compare_tick(c->compare, now_ns());

	ncmp_queue_flush(c->queue);
	/* Its marker comes behind all that its commit lets go. */
	if (c->drain && c->marker >= c->drain && ncmp_queue_is_said(c->queue)) {
		ncmp_peer_drained(c->peer, c->drain);
		c->drain = 0;
	}
	judge_stale(c);
	look_by(c, next_ns);
}

/* The guest's packets. */

static void find_interfaces(ncmp_comparator *c)
{
	for (guint i = 0; i < c->cards; i++)
		c->interfaces[i] = if_nametoindex(c->taps[i]);
}

static gboolean find_card(const ncmp_comparator *c, guint32 interface, guint8 *card)
{
	for (guint i = 0; i < c->cards; i++)
		if (interface && c->interfaces[i] == interface) {
			*card = (guint8)i;
			return TRUE;
		}
	return FALSE;
}

static void take_stranger(ncmp_comparator *c, const struct ncmp_queued *packet)
{
	char name[IF_NAMESIZE] = "?";
	guint left_out;

	c->strangers++;
	ncmp_queue_drop(c->queue, packet->id);
	if (!base_ratelimit_pass(&c->stranger_limit, &left_out))
		return;
	g_warning("queue: packet of no tap of ours, dropped interface=%s index=%u "
		  "more=%u",
		  if_indextoname(packet->interface, name) ? name : "?",
		  packet->interface, left_out);
	find_interfaces(c); /* a tap may have been made anew */
}

static gboolean take_marker(ncmp_comparator *c, const struct ncmp_queued *packet,
			    guint8 card)
{
	const struct ncmp_talk *talk = ncmp_peer_talk(c->peer);
	guint64 epoch;

	if (card != 0 || packet->vlan || packet->ethertype != ETHERTYPE_IPV4 ||
	    !talk->met ||
	    !ncmp_marker_parse(packet->bytes, packet->len, talk->secret, &epoch))
		return FALSE;
	ncmp_queue_drop(c->queue, packet->id);
	c->markers++;
	base_fault("marker-seen");
	c->marker = MAX(c->marker, epoch);
	ncmp_compare_marker(c->compare, epoch, now_ns());
	return TRUE;
}

/* The comparison has asked for a checkpoint before (its `held_max` is less); and where nobody
 * makes one, a guest must not fill the host's memory. */
static gboolean is_crowded(const ncmp_comparator *c)
{
	guint64 packets, bytes;

	ncmp_queue_get_waiting(c->queue, &packets, &bytes);
	return packets > c->waiting_max || bytes > c->waiting_bytes_max;
}

/* Its guest will send it again, or not: as far as the comparison goes, it is lost. */
static void take_crowded(ncmp_comparator *c, guint32 id)
{
	c->crowded++;
	ncmp_queue_drop(c->queue, id);
	if (c->crowded_after == c->marker + 1)
		return;
	c->crowded_after = c->marker + 1;
	ncmp_compare_overrun(c->compare, now_ns());
}

static void took_packets(void *data)
{
	ncmp_comparator *c = data;

	ncmp_peer_drain(c->peer);
}

static void take_packet(void *data, const struct ncmp_queued *packet)
{
	ncmp_comparator *c = data;
	struct ncmp_arrival arrival = {
		.id = packet->id,
		.bytes = packet->bytes,
		.len = packet->len,
		.ethertype = packet->ethertype,
		.vlan = packet->vlan,
		.segmentable = packet->segmentable,
		.partial = packet->partial,
	};

	if (!find_card(c, packet->interface, &arrival.device)) {
		take_stranger(c, packet);
		return;
	}
	if (take_marker(c, packet, arrival.device))
		return;
	if (c->stale) {
		ncmp_queue_drop(c->queue, packet->id);
		return;
	}
	if (is_crowded(c)) {
		take_crowded(c, packet->id);
		return;
	}
	ncmp_compare_primary(c->compare, &arrival, now_ns());
}

static void lost_packets(void *data)
{
	ncmp_comparator *c = data;

	ncmp_compare_overrun(c->compare, now_ns());
}

/* Not what was judged before this host stood still. */
static gboolean may_pass(void *data)
{
	const ncmp_comparator *c = data;
	const gint64 awake_ns = c->watch ? c->watch->awake_ns : 0;

	return c->gate != NCMP_GATE_GUARDED || !awake_ns || now_ns() - awake_ns <= c->stall_ns;
}

static gboolean receive(int fd, GIOCondition condition, gpointer data)
{
	ncmp_comparator *c = data;
	g_autoptr(GError) error = NULL;

	if (!ncmp_queue_receive(c->queue, &error)) {
		g_critical("%s", error->message);
		c->hooks.failed(c->hooks.data);
		return G_SOURCE_REMOVE;
	}
	settle(c);
	return G_SOURCE_CONTINUE;
}

/* What colo-vm says. */

static const char *gate_name(enum ncmp_gate gate)
{
	return gate == NCMP_GATE_OPEN	   ? "open"
	       : gate == NCMP_GATE_GUARDED ? "guarded"
					   : "closed";
}

static void set_gate(ncmp_comparator *c, enum ncmp_gate gate)
{
	if (c->gate == gate)
		return;
	g_message("gate: %s -> %s", gate_name(c->gate), gate_name(gate));
	base_fault_of("gate", gate_name(gate));
	/* Said in one breath: we come late, and somebody else may speak already. */
	if (gate == NCMP_GATE_CLOSED) {
		ncmp_queue_recall(c->queue);
		base_fault("recalled");
	}
	c->gate = gate;
	/* From here on, not from when the main loop next turns: packets may have been judged by
	 * then, and it may be long. */
	if (c->watch)
		c->watch->awake_ns = gate == NCMP_GATE_GUARDED ? now_ns() : 0;
	ncmp_mode_restart(c->mode);
	ncmp_compare_set_gate(c->compare, gate);
}

static void greeted(void *data, gboolean another)
{
	ncmp_comparator *c = data;
	struct ncmp_queue_counters counters;

	base_fault("greeted");
	find_interfaces(c);
	c->gate_told = c->restarted = FALSE;
	c->stalled_cut = c->drain = 0;
	if (!another)
		return;
	/* The guest that sent what is held, and what is on its way here, is no more. */
	ncmp_queue_get_counters(c->queue, &counters);
	g_message("colo-vm: another one, packets of the last are dropped "
		  "packets=%" G_GUINT64_FORMAT,
		  counters.waiting);
	ncmp_queue_drop_all(c->queue);
	ncmp_compare_free(c->compare);
	c->compare = new_compare(c);
	c->marker = c->crowded_after = c->committed_before = 0;
	c->stale = TRUE;
}

static void take_gate(ncmp_comparator *c, enum wire_output_gate_kind kind)
{
	static const enum ncmp_gate gates[] = {
		[WIRE_GATE_CLOSED] = NCMP_GATE_CLOSED,
		[WIRE_GATE_OPEN] = NCMP_GATE_OPEN,
		[WIRE_GATE_GUARDED] = NCMP_GATE_GUARDED,
	};

	/* Guarded from the first word on: we came in the midst of it, and know nothing.
	 */
	c->restarted = !c->gate_told && kind == WIRE_GATE_GUARDED;
	c->gate_told = TRUE;
	set_gate(c, gates[kind]);
}

static void told(void *data, const struct ncmp_message *m)
{
	ncmp_comparator *c = data;

	switch (m->type) {
	case WIRE_OUTPUT_GATE:
		take_gate(c, m->gate);
		break;
	case WIRE_OUTPUT_CUT:
		base_fault("cut-heard");
		ncmp_compare_cut(c->compare, m->epoch, m->runs);
		if (c->restarted)
			request(c, m->epoch, NCMP_CAUSE_RESTART);
		c->restarted = FALSE;
		break;
	case WIRE_OUTPUT_COMMITTED:
		base_fault("commit-heard");
		if (m->epoch > c->stalled_cut)
			ncmp_compare_committed(c->compare, m->epoch, now_ns());
		break;
	case WIRE_OUTPUT_FRAME:
		base_fault("twin-heard");
		ncmp_compare_secondary(c->compare, m->epoch, (guint8)m->device,
				       m->frame, m->frame_len, now_ns());
		break;
	case WIRE_OUTPUT_DRAIN:
		c->drain = m->epoch;
		break;
	case WIRE_OUTPUT_LOST:
		c->secondary_lost++;
		ncmp_compare_overrun(c->compare, now_ns());
		break;
	default:
		g_assert_not_reached();
	}
}

static void words_settled(void *data)
{
	settle(data);
}

static void gone(void *data)
{
	set_gate(data, NCMP_GATE_CLOSED);
}

/* The time. */

static gboolean dispatch_clock(GSource *source, GSourceFunc callback, gpointer data)
{
	g_source_set_ready_time(source, -1);
	return callback(data);
}

static gboolean look_at_clock(gpointer data)
{
	ncmp_comparator *c = data;

	c->look_us = -1;
	settle(c);
	return G_SOURCE_CONTINUE;
}

static void judge_mode(ncmp_comparator *c)
{
	struct ncmp_compare_counters counters;
	struct ncmp_mode_figures figures = { 0 };

	if (c->gate != NCMP_GATE_GUARDED || !ncmp_peer_is_connected(c->peer))
		return;
	ncmp_compare_get_counters(c->compare, &counters);
	figures.matched = counters.matched[0];
	figures.committed = counters.committed[0];
	for (guint i = 0; i < NCMP_CAUSES; i++)
		figures.divergences += counters.divergences[i];
	if (!ncmp_mode_judge(c->mode, &figures, now_ns()))
		return;
	g_message("mode: %s why=\"%s\"",
		  ncmp_mode_compares(c->mode) ? "compare" : "buffered",
		  ncmp_mode_why(c->mode));
	ncmp_peer_mode(c->peer, ncmp_mode_compares(c->mode), ncmp_mode_why(c->mode));
}

/* An epoch that was committed a second ago must have shown its marker long since. */
static void look_for_markers(ncmp_comparator *c)
{
	if (c->marker < c->committed_before && c->gate == NCMP_GATE_GUARDED)
		g_warning("marker: missing epoch=%" G_GUINT64_FORMAT
			  " last=%" G_GUINT64_FORMAT
			  ": do the guest's packets still come to the queue?",
			  c->committed_before, c->marker);
	c->committed_before = ncmp_peer_talk(c->peer)->committed;
}

static gboolean each_second(gpointer data)
{
	ncmp_comparator *c = data;

	look_for_markers(c);
	ncmp_queue_check(c->queue);
	judge_mode(c);
	settle(c);
	return G_SOURCE_CONTINUE;
}

static GSourceFuncs clock_functions = { .dispatch = dispatch_clock };

/* Standing still. */

static gboolean prepare_watch(GSource *source, gint *timeout_ms)
{
	const struct watch *watch = (struct watch *)source;
	const ncmp_comparator *c = watch->comparator;

	*timeout_ms = c->gate == NCMP_GATE_GUARDED ?
			      (gint)(c->stall_ns / STALL_LOOKS / 1000000) :
			      -1;
	return FALSE;
}

static gboolean check_watch(GSource *source)
{
	struct watch *watch = (struct watch *)source;
	const ncmp_comparator *c = watch->comparator;
	const gint64 before_ns = watch->awake_ns, now = now_ns();

	watch->awake_ns = c->gate == NCMP_GATE_GUARDED ? now : 0;
	return before_ns && now - before_ns > c->stall_ns;
}

static gboolean dispatch_watch(GSource *source, GSourceFunc callback, gpointer data)
{
	return callback(data);
}

static GSourceFuncs watch_functions = { prepare_watch, check_watch, dispatch_watch };

static gboolean stalled(gpointer data)
{
	ncmp_comparator *c = data;

	if (c->gate != NCMP_GATE_GUARDED)
		return G_SOURCE_CONTINUE;
	c->stalls++;
	ncmp_queue_recall(c->queue);
	ncmp_compare_set_gate(c->compare, NCMP_GATE_CLOSED);
	ncmp_peer_drain(c->peer);
	if (c->gate == NCMP_GATE_GUARDED) {
		ncmp_compare_set_gate(c->compare, NCMP_GATE_GUARDED);
		c->stalled_cut = ncmp_peer_talk(c->peer)->cut;
		request(c, 0, NCMP_CAUSE_STALL);
		g_info("stall: did not run for more than %u ms, all is held until the "
		       "next checkpoint",
		       (guint)(c->stall_ns / 1000000));
	}
	settle(c);
	return G_SOURCE_CONTINUE;
}

/* Made and freed. */

static GSource *attach(GSource *source, GSourceFunc callback, gpointer data)
{
	g_source_set_callback(source, callback, data, NULL);
	/* It never does. But else GLib forgets and learns the descriptor again around
	 * each call, and wakes itself for both. */
	g_source_set_can_recurse(source, TRUE);
	g_source_attach(source, g_main_context_get_thread_default());
	return source;
}

ncmp_comparator *ncmp_comparator_new(const struct ncmp_comparator_options *options,
				     const struct ncmp_comparator_hooks *hooks,
				     GError **error)
{
	g_autoptr(ncmp_comparator) c = g_new0(ncmp_comparator, 1);
	const struct ncmp_queue_hooks queue_hooks = { c, took_packets, take_packet,
						      lost_packets, may_pass };

	c->hooks = *hooks;
	c->look_us = -1;
	c->stall_ns = (options->stall_ms ? options->stall_ms : STALL_MS) * (gint64)1000000;
	c->vm = g_strdup(options->vm);
	c->taps = g_strdupv((char **)options->taps);
	c->cards = g_strv_length(c->taps);
	g_assert(c->cards <= NCMP_TAPS_MAX);
	c->compare_options = options->compare;
	c->compare_options.seed = g_random_int();
	c->waiting_max = options->waiting_max ? options->waiting_max : WAITING_MAX;
	c->waiting_bytes_max = options->waiting_bytes_max ? options->waiting_bytes_max
							  : WAITING_BYTES_MAX;
	c->queue = ncmp_queue_new(&options->queue, &queue_hooks, error);
	if (!c->queue)
		return NULL;
	c->compare = new_compare(c);
	c->mode = ncmp_mode_new(options->mode);
	return g_steal_pointer(&c);
}

static void end_source(GSource **source)
{
	if (*source)
		g_source_destroy(*source);
	g_clear_pointer(source, g_source_unref);
}

void ncmp_comparator_free(ncmp_comparator *c)
{
	if (!c)
		return;
	end_source(&c->readable);
	end_source(&c->clock);
	end_source(&c->seconds);
	end_source((GSource **)&c->watch);
	ncmp_peer_free(c->peer);
	g_clear_pointer(&c->compare, ncmp_compare_free);
	ncmp_mode_free(c->mode);
	ncmp_queue_free(c->queue);
	g_strfreev(c->taps);
	g_free(c->vm);
	g_free(c);
}

void ncmp_comparator_set_dump(ncmp_comparator *c, ncmp_dump *dump)
{
	c->dump = dump;
}

static void start_watch(ncmp_comparator *c)
{
	GSource *source = g_source_new(&watch_functions, sizeof(struct watch));

	c->watch = (struct watch *)source;
	c->watch->comparator = c;
	c->watch->awake_ns = 0;
	g_source_set_priority(source, G_PRIORITY_HIGH);
	attach(source, stalled, c);
}

void ncmp_comparator_start(ncmp_comparator *c)
{
	const struct ncmp_peer_hooks hooks = { c, greeted, told, words_settled, gone };

	find_interfaces(c);
	c->clock = attach(g_source_new(&clock_functions, sizeof(GSource)),
			  look_at_clock, c);
	c->seconds = attach(g_timeout_source_new(SECOND_MS), each_second, c);
	start_watch(c);
	c->peer = ncmp_peer_new(c->vm, c->cards, &hooks);
	c->readable = attach(g_unix_fd_source_new(ncmp_queue_fd(c->queue), G_IO_IN),
			     G_SOURCE_FUNC(receive), c);
}

void ncmp_comparator_get_state(const ncmp_comparator *c,
			       struct ncmp_comparator_state *state)
{
	const struct ncmp_talk *talk = ncmp_peer_talk(c->peer);

	*state = (struct ncmp_comparator_state){
		.gate = c->gate,
		.connected = ncmp_peer_is_connected(c->peer),
		.compares = ncmp_mode_compares(c->mode),
		.why = ncmp_mode_why(c->mode),
		.cut = talk->cut,
		.committed = talk->committed,
		.markers = c->markers,
		.strangers = c->strangers,
		.crowded = c->crowded,
		.secondary_lost = c->secondary_lost,
		.requests = c->requests,
		.stalls = c->stalls,
	};
	ncmp_queue_get_counters(c->queue, &state->queue);
	ncmp_compare_get_counters(c->compare, &state->compare);
}

guint ncmp_comparator_get_blames(const ncmp_comparator *c, struct ncmp_blame *blames,
				 guint max)
{
	return ncmp_compare_get_blames(c->compare, blames, max);
}
