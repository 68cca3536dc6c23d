/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translating between what a guest and its clients call the same byte.
 *
 * Numbers. `own_isn` is the guest's own initial sequence number, `isn` the one that
 * clients know; their difference is added to what the guest sends and taken from what
 * it gets. The first is seen as the guest sends its SYN. The second the primary tells,
 * or the first acknowledgement gives it. A client can acknowledge nothing that it has
 * not got, and gets nothing that both guests have not sent, so that both are known when
 * they are needed; except where the secondary replays what happened while outputs went
 * out unmatched (a first sync): there its guest gets the SYN and what followed at once.
 * So an acknowledgement of something that the guest has not sent is held, for a time
 * that is bounded for each connection and, with pauses 64 times as long after one that
 * was in vain, in all: anybody can send a SYN that no guest answers, and an
 * acknowledgement after it.
 *
 * A connection begins anew between the same ports when the guest says so: by another
 * SYN, or by a SYN-ACK for another SYN. A SYN alone may be made up, and changes
 * nothing.
 *
 * Timestamps (RFC 7323). On a secondary the guest's SYN has another TSval than the
 * primary's, which clients echo; guests refuse an echo of what they never said while a
 * connection opens. So what is echoed is translated by the difference at that moment.
 * After a promotion a client must never see a TSval before one it has seen (PAWS): the
 * guest's is raised, once for each connection and for good, by MARGIN_TICKS beyond the
 * latest that the client has echoed, or than the guest's own clock where it echoed
 * none. Echoes of raised ones are lowered again, so that the guest's measured round
 * trips stay what they are.
 *
 * That margin is what the two guests' clocks may be apart, and the client have seen
 * without echoing. They are copies of one clock, with the hosts' clocks' error between
 * them: milliseconds. Guests tick at 1 ms (Linux, BSD, Windows), 10 or 100 ms, for
 * which the margin is half a minute and more; firewalls that watch timestamps tolerate
 * about that (33,000 ticks: pf). Linux can tick at 1 us, which is noticed by the
 * guest's speed and given four seconds. All are far below 2^31, where "before" and
 * "after" change places. A connection that rests for longer than the margin after the
 * promotion needs none: the guest's clock has passed all that was seen. So after
 * SETTLED_NS nothing new is learned.
 */
#include "netcompare/rewrite_private.h"

#include <netinet/in.h>
#include <string.h>

#define NS_PER_MS G_GINT64_CONSTANT(1000000)
#define HOLD_NS (NCMP_REWRITE_HOLD_MS * NS_PER_MS)
#define HOLD_REST 64 /* times as long nothing is held after one in vain */
#define SETTLED_NS (60000 * NS_PER_MS)

#define MARGIN_TICKS 30000u
#define MARGIN_TICKS_FAST 4000000u
#define FAST_TICKS_PER_MS 100u
/* What a client echoes is not believed to be further ahead of the guest's clock. */
#define LEAD_MAX (1u << 24)
/* How far from where they must be numbers are still taken for the same connection's. */
#define WINDOW (1u << 20)

#define OPTION_NOP 1u
#define OPTION_FAST_OPEN 34u
#define OPTION_EXPERIMENT 254u /* where Fast Open was before it had a number */

ncmp_rewriter *ncmp_rewriter_new(guint connections_max, guint32 seed)
{
	ncmp_rewriter *rewriter = g_new0(ncmp_rewriter, 1);

	rewriter->connections_max = connections_max;
	if (!connections_max || connections_max > NCMP_REWRITE_CONNECTIONS)
		rewriter->connections_max = NCMP_REWRITE_CONNECTIONS;
	rewriter->seed = seed;
	ncmp_table_init(rewriter);
	return rewriter;
}

void ncmp_rewriter_free(ncmp_rewriter *rewriter)
{
	if (!rewriter)
		return;
	g_hash_table_destroy(rewriter->table);
	g_free(rewriter);
}

gboolean ncmp_rewriter_is_idle(const ncmp_rewriter *rewriter)
{
	return rewriter->settled && !g_hash_table_size(rewriter->table);
}

gint64 ncmp_rewriter_hold_until(const ncmp_rewriter *rewriter)
{
	return rewriter->hold_until_ns;
}

void ncmp_rewriter_promote(ncmp_rewriter *rewriter, gint64 now_ns)
{
	rewriter->promoted = TRUE;
	rewriter->settled_ns = now_ns + SETTLED_NS;
	for (guint i = 0; i < NCMP_CLASSES; i++) {
		for (GList *link = rewriter->classes[i].head; link; link = link->next) {
			struct ncmp_connection *connection = link->data;

			/* What it was raised by is what it is raised from next. */
			if (connection->flags & WIRE_REWRITE_TS)
				connection->ts_before = connection->ts_offset;
			connection->flags &= ~WIRE_REWRITE_TS;
			connection->ts_from = 0;
		}
	}
}

void ncmp_rewriter_get_counters(const ncmp_rewriter *rewriter,
				struct ncmp_rewriter_counters *counters)
{
	*counters = rewriter->counters;
	counters->connections = g_hash_table_size(rewriter->table);
}

/* Data may go with this SYN, or be sent before it is acknowledged (RFC 7413). */
static gboolean is_early(const struct ncmp_packet *packet)
{
	const guint8 *bytes = packet->bytes;
	gsize at = packet->transport + 20;

	if (packet->payload_len)
		return TRUE;
	while (at < packet->payload && bytes[at]) {
		if (bytes[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (packet->payload - at < 2 || bytes[at + 1] < 2)
			return FALSE;
		/* Without a cookie it only asks for one. */
		if ((bytes[at] == OPTION_FAST_OPEN && bytes[at + 1] > 2) ||
		    bytes[at] == OPTION_EXPERIMENT)
			return TRUE;
		at += bytes[at + 1];
	}
	return FALSE;
}

static void set_own(struct ncmp_connection *connection, guint32 own_isn)
{
	connection->own_isn = own_isn;
	connection->flags |= WIRE_REWRITE_OWN;
	if (connection->flags & WIRE_REWRITE_ISN)
		connection->delta = connection->isn - own_isn;
}

static void set_isn(struct ncmp_connection *connection, guint32 isn)
{
	connection->isn = isn;
	connection->flags |= WIRE_REWRITE_ISN;
	if (connection->flags & WIRE_REWRITE_OWN)
		connection->delta = isn - connection->own_isn;
}

void ncmp_connection_told(struct ncmp_connection *connection, guint32 isn)
{
	guint32 flags = connection->flags;

	if (flags & NCMP_CONNECTION_NATIVE ||
	    (flags & WIRE_REWRITE_ISN && connection->isn == isn))
		return;
	if (flags & NCMP_CONNECTION_NEXT_IRS ||
	    (flags & WIRE_REWRITE_OPEN &&
	     (flags & WIRE_REWRITE_ISN || !(flags & WIRE_REWRITE_OWN)))) {
		connection->next_isn = isn;
		connection->flags |= NCMP_CONNECTION_NEXT_ISN;
		return;
	}
	set_isn(connection, isn);
}

/* Another connection between the same ports: of the old one only what was told of the
 * new one stays. */
static void begin_anew(ncmp_rewriter *rewriter, struct ncmp_connection *connection)
{
	struct ncmp_connection old = *connection;

	connection->flags = 0;
	connection->isn = connection->irs = connection->own_isn = connection->delta = 0;
	connection->ts_before = connection->ts_from = 0;
	connection->ts_offset = rewriter->ts_offset;
	if (rewriter->promoted) {
		connection->flags |= NCMP_CONNECTION_NATIVE;
		return;
	}
	if (old.flags & NCMP_CONNECTION_NEXT_ISN)
		set_isn(connection, old.next_isn);
	if (old.flags & NCMP_CONNECTION_NEXT_IRS) {
		connection->irs = old.next_irs;
		connection->flags |= WIRE_REWRITE_IRS;
	}
	if (old.flags & NCMP_CONNECTION_NEXT_EARLY)
		connection->flags |= WIRE_REWRITE_EARLY;
}

/* A connection of which nothing is known yet; NULL where nothing need be. */
static struct ncmp_connection *add(ncmp_rewriter *rewriter,
				   const struct ncmp_flow_key *key, guint32 flags,
				   gint64 now_ns)
{
	struct ncmp_connection *connection;

	if (rewriter->settled)
		return NULL;
	connection = ncmp_table_add(rewriter, key, now_ns);
	connection->flags = flags;
	/* Begun by a SYN of now. */
	if (rewriter->promoted && !(flags & WIRE_REWRITE_OPEN))
		connection->flags |= NCMP_CONNECTION_NATIVE;
	return connection;
}

/* FALSE: nothing is left to be done, ever. */
static gboolean is_awake(ncmp_rewriter *rewriter, gint64 now_ns)
{
	if (rewriter->promoted && now_ns >= rewriter->settled_ns)
		rewriter->settled = TRUE;
	ncmp_table_reap(rewriter, now_ns);
	return !ncmp_rewriter_is_idle(rewriter);
}

static void saw_syn_in(struct ncmp_connection *connection,
		       const struct ncmp_packet *packet)
{
	guint32 early = is_early(packet) ? WIRE_REWRITE_EARLY : 0;

	if (connection->flags & WIRE_REWRITE_IRS && connection->irs == packet->seq)
		return;
	/* The guest has said nothing yet, or both ends sent their SYN at once. */
	if (!(connection->flags & WIRE_REWRITE_OPEN) &&
	    (!(connection->flags & WIRE_REWRITE_OWN) ||
	     !(connection->flags & WIRE_REWRITE_IRS))) {
		connection->irs = packet->seq;
		connection->flags |= WIRE_REWRITE_IRS | early;
		return;
	}
	if (connection->flags & NCMP_CONNECTION_NEXT_IRS &&
	    connection->next_irs == packet->seq)
		return;
	connection->next_irs = packet->seq;
	connection->flags &= ~(NCMP_CONNECTION_NEXT_ISN | NCMP_CONNECTION_NEXT_EARLY);
	connection->flags |= NCMP_CONNECTION_NEXT_IRS;
	if (early)
		connection->flags |= NCMP_CONNECTION_NEXT_EARLY;
}

/* Whether the guest's SYN is what this answers, as far as can be told from the client's
 * side of it. */
static gboolean answers_syn(const struct ncmp_connection *connection,
			    const struct ncmp_packet *packet)
{
	guint8 kind = packet->flags & (NCMP_TCP_SYN | NCMP_TCP_RST);

	if (connection->flags & WIRE_REWRITE_OPEN || !(packet->flags & NCMP_TCP_ACK))
		return FALSE;
	if (!(connection->flags & WIRE_REWRITE_IRS))
		return kind != 0;
	/* A SYN-ACK that comes again, or after a SYN. */
	if (kind == NCMP_TCP_SYN)
		return packet->seq == connection->irs;
	return !kind && packet->seq - (connection->irs + 1) < WINDOW;
}

static gboolean hold(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
		     gint64 now_ns)
{
	if (connection->flags & NCMP_CONNECTION_HOLD_OVER)
		return FALSE;
	if (!(connection->flags & NCMP_CONNECTION_HELD)) {
		if (now_ns < rewriter->no_hold_until_ns) {
			connection->flags |= NCMP_CONNECTION_HOLD_OVER;
			return FALSE;
		}
		connection->flags |= NCMP_CONNECTION_HELD;
		connection->held_ns = now_ns;
		rewriter->counters.held++;
	}
	if (now_ns - connection->held_ns >= HOLD_NS) {
		connection->flags |= NCMP_CONNECTION_HOLD_OVER;
		rewriter->no_hold_until_ns = now_ns + HOLD_REST * HOLD_NS;
		rewriter->counters.hold_expired++;
		return FALSE;
	}
	rewriter->hold_until_ns = connection->held_ns + HOLD_NS;
	return TRUE;
}

/* The guest's SYN is acknowledged for the first time: from here on its numbers are
 * sure. Returns what the frame's TSecr is to the guest. */
static guint32 open_timestamps(struct ncmp_connection *connection, guint32 echo)
{
	guint32 ahead = echo - connection->own_ts;

	if (ahead + LEAD_MAX > 2 * LEAD_MAX)
		return echo;
	/* Of several SYNs it is not known which was the primary's of that TSval. */
	if (!(connection->flags & NCMP_CONNECTION_OWN_TS_MANY))
		connection->ts_before = ahead;
	return connection->own_ts;
}

static guint32 echo_to_guest(const struct ncmp_connection *connection, guint32 echo)
{
	if (connection->flags & WIRE_REWRITE_TS &&
	    ncmp_serial_ge(echo, connection->ts_from))
		return echo - connection->ts_offset;
	return echo - connection->ts_before;
}

/* What the first answer to the guest's SYN says. FALSE: hold it. `echo`: where the
 * frame's TSecr is something else to the guest than later ones will be, that. */
static gboolean answer_syn(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
			   const struct ncmp_packet *packet, guint32 *echo,
			   gint64 now_ns)
{
	gboolean told = connection->flags & WIRE_REWRITE_ISN;
	gboolean reset = packet->flags & NCMP_TCP_RST;

	if (told && packet->ack - (connection->isn + 1) >= WINDOW)
		return TRUE;
	if (!(connection->flags & WIRE_REWRITE_OWN))
		return reset || !hold(rewriter, connection, now_ns);
	if (!told && connection->flags & WIRE_REWRITE_EARLY) {
		rewriter->counters.ambiguous++;
	} else if (!told) {
		set_isn(connection, packet->ack - 1);
		rewriter->counters.derived++;
	}
	if (!(connection->flags & WIRE_REWRITE_IRS) && packet->flags & NCMP_TCP_SYN) {
		connection->irs = packet->seq;
		connection->flags |= WIRE_REWRITE_IRS;
	}
	connection->flags |= WIRE_REWRITE_OPEN;
	if (reset)
		connection->flags |= NCMP_CONNECTION_RESET;
	if (packet->timestamps && connection->flags & NCMP_CONNECTION_OWN_TS &&
	    !(connection->flags & WIRE_REWRITE_TS &&
	      ncmp_serial_ge(*echo, connection->ts_from)))
		*echo = open_timestamps(connection, *echo);
	else
		*echo = echo_to_guest(connection, *echo);
	return TRUE;
}

/* The end of a connection is believed where it can be the client's. */
static void saw_end_in(struct ncmp_connection *connection,
		       const struct ncmp_packet *packet)
{
	if (!(packet->flags & (NCMP_TCP_FIN | NCMP_TCP_RST)) ||
	    !(connection->flags & NCMP_CONNECTION_GUEST_ACK) ||
	    packet->seq - connection->guest_ack >= WINDOW)
		return;
	connection->flags |= packet->flags & NCMP_TCP_RST ? NCMP_CONNECTION_RESET
							  : NCMP_CONNECTION_FIN_IN;
}

static void translate_in(const struct ncmp_connection *connection,
			 const struct ncmp_packet *packet, guint32 echo,
			 struct ncmp_mend *mend)
{
	if (!(packet->flags & NCMP_TCP_ACK))
		return;
	ncmp_mend32(mend, 8, packet->ack - connection->delta);
	if (packet->timestamps)
		ncmp_mend32(mend, packet->timestamps + 4 - packet->transport, echo);
	for (guint i = 0; connection->delta && i < 2 * packet->sack_blocks; i++) {
		gsize at = packet->sack + 4u * i;

		ncmp_mend32(mend, at - packet->transport,
			    ncmp_get32(packet->bytes + at) - connection->delta);
	}
}

static void turn_key(struct ncmp_flow_key *key)
{
	struct ncmp_flow_key turned = *key;

	memcpy(turned.source, key->target, sizeof(turned.source));
	memcpy(turned.target, key->source, sizeof(turned.target));
	turned.source_port = key->target_port;
	turned.target_port = key->source_port;
	*key = turned;
}

/* An ICMP error about what the guest sent: it looks whether it has sent such bytes. */
static enum ncmp_rewrite error_in(ncmp_rewriter *rewriter, guint8 *frame,
				  const struct ncmp_packet *packet)
{
	const struct ncmp_connection *connection;
	struct ncmp_flow_key key;
	gsize at = ncmp_quoted(packet, &key);
	guint8 *bytes = frame + (packet->bytes - frame);

	if (!at)
		return NCMP_REWRITE_SAME;
	connection = ncmp_table_find(rewriter, &key);
	if (!connection || !connection->delta)
		return NCMP_REWRITE_SAME;
	ncmp_mend_icmp32(bytes + packet->transport, at - packet->transport,
			 ncmp_get32(bytes + at) - connection->delta);
	rewriter->counters.translated_in++;
	return NCMP_REWRITE_CHANGED;
}

/* What is not known yet: born by a SYN, or alive since before all that was seen. */
static struct ncmp_connection *stranger(ncmp_rewriter *rewriter,
					const struct ncmp_packet *packet, gint64 now_ns)
{
	if (packet->flags & NCMP_TCP_SYN && !(packet->flags & NCMP_TCP_ACK))
		return add(rewriter, &packet->key, 0, now_ns);
	/* Of others only timestamps can come to matter. */
	if (!packet->timestamps)
		return NULL;
	return add(rewriter, &packet->key, WIRE_REWRITE_OPEN, now_ns);
}

enum ncmp_rewrite ncmp_rewriter_in(ncmp_rewriter *rewriter, guint8 device,
				   guint8 *frame, gsize len, gboolean partial,
				   gint64 now_ns)
{
	struct ncmp_connection *connection;
	struct ncmp_packet packet;
	struct ncmp_mend mend = { .partial = partial };
	guint32 echo = 0;

	if (!is_awake(rewriter, now_ns))
		return NCMP_REWRITE_SAME;
	ncmp_packet_parse_frame(&packet, frame, len, device);
	if (packet.kind == NCMP_KIND_DATAGRAM)
		return error_in(rewriter, frame, &packet);
	if (packet.kind != NCMP_KIND_TCP)
		return NCMP_REWRITE_SAME;
	mend.tcp = frame + (packet.bytes - frame) + packet.transport;
	turn_key(&packet.key);
	connection = ncmp_table_find(rewriter, &packet.key);
	if (!connection)
		connection = stranger(rewriter, &packet, now_ns);
	if (!connection)
		return NCMP_REWRITE_SAME;
	if (packet.flags & NCMP_TCP_SYN && !(packet.flags & NCMP_TCP_ACK)) {
		saw_syn_in(connection, &packet);
	} else if (!(connection->flags & NCMP_CONNECTION_NATIVE)) {
		if (packet.timestamps)
			echo = ncmp_get32(packet.bytes + packet.timestamps + 4);
		guint32 guest_echo = echo;

		if (!answers_syn(connection, &packet))
			guest_echo = echo_to_guest(connection, echo);
		else if (!answer_syn(rewriter, connection, &packet, &guest_echo,
				     now_ns))
			return NCMP_REWRITE_HOLD;
		if (packet.timestamps && packet.flags & NCMP_TCP_ACK &&
		    (!(connection->flags & NCMP_CONNECTION_ECHO) ||
		     ncmp_serial_ge(echo, connection->echo))) {
			connection->echo = echo;
			connection->flags |= NCMP_CONNECTION_ECHO;
		}
		translate_in(connection, &packet, guest_echo, &mend);
	}
	saw_end_in(connection, &packet);
	ncmp_table_touch(rewriter, connection, now_ns);
	if (!mend.changed)
		return NCMP_REWRITE_SAME;
	rewriter->counters.translated_in++;
	return NCMP_REWRITE_CHANGED;
}

static void saw_own_timestamp(struct ncmp_connection *connection,
			      const struct ncmp_packet *packet)
{
	guint32 ts;

	if (!packet->timestamps)
		return;
	ts = ncmp_get32(packet->bytes + packet->timestamps);
	if (connection->flags & NCMP_CONNECTION_OWN_TS && ts != connection->own_ts)
		connection->flags |= NCMP_CONNECTION_OWN_TS_MANY;
	connection->own_ts = ts;
	connection->flags |= NCMP_CONNECTION_OWN_TS;
}

static void saw_syn_out(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
			const struct ncmp_packet *packet)
{
	gboolean has_own = connection->flags & WIRE_REWRITE_OWN;
	gboolean open = connection->flags & WIRE_REWRITE_OPEN;
	gboolean again = has_own && connection->own_isn == packet->seq;

	if (again && open)
		return;
	if (!again && (has_own || open))
		begin_anew(rewriter, connection);
	if (connection->flags & NCMP_CONNECTION_NATIVE)
		return;
	set_own(connection, packet->seq);
	connection->flags |= WIRE_REWRITE_ACTIVE;
	if (is_early(packet))
		connection->flags |= WIRE_REWRITE_EARLY;
	saw_own_timestamp(connection, packet);
}

static void saw_syn_ack_out(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
			    const struct ncmp_packet *packet)
{
	guint32 flags = connection->flags;
	gboolean again = flags & WIRE_REWRITE_OWN && connection->own_isn == packet->seq;
	/* Data that came with the client's SYN is acknowledged with it. */
	gboolean is_next = !again && flags & NCMP_CONNECTION_NEXT_IRS &&
			   packet->ack - (connection->next_irs + 1) < 65536;

	/* It is repeated: the client's answer was lost. That of a clone, begun before
	 * the checkpoint, may be begun anew as well, but not lose what it was loaded
	 * with. */
	if (flags & WIRE_REWRITE_OPEN && !is_next &&
	    (rewriter->promoted || flags & NCMP_CONNECTION_LOADED || again)) {
		/* The client may repeat its SYN, too. */
		if (!(flags & (WIRE_REWRITE_IRS | NCMP_CONNECTION_NATIVE))) {
			connection->irs = packet->ack - 1;
			connection->flags |= WIRE_REWRITE_IRS;
		}
		return;
	}
	if (flags & WIRE_REWRITE_OPEN || is_next)
		begin_anew(rewriter, connection);
	if (connection->flags & NCMP_CONNECTION_NATIVE)
		return;
	/* Also another one for the same SYN: the guest had forgotten it, or never
	 * remembers (SYN cookies). */
	set_own(connection, packet->seq);
	if (!(connection->flags & WIRE_REWRITE_IRS)) {
		connection->irs = packet->ack - 1;
		connection->flags |= WIRE_REWRITE_IRS;
	}
	if (packet->payload_len || (!(connection->flags & WIRE_REWRITE_ACTIVE) &&
				    packet->ack != connection->irs + 1))
		connection->flags |= WIRE_REWRITE_EARLY;
	saw_own_timestamp(connection, packet);
}

/* Whether the guest's timestamps are finer than milliseconds. */
static void saw_rate(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
		     guint32 ts, gint64 now_ns)
{
	gint64 ms = (now_ns - connection->rate_ns) / NS_PER_MS;

	if (connection->flags & NCMP_CONNECTION_FAST)
		return;
	if (!(connection->flags & NCMP_CONNECTION_RATE) || ms > 10000) {
		connection->rate_ts = ts;
		connection->rate_ns = now_ns;
		connection->flags |= NCMP_CONNECTION_RATE;
		return;
	}
	/* Shorter times say little: frames are late by turns. */
	if (ms < 10)
		return;
	connection->flags |= NCMP_CONNECTION_MEASURED;
	if (ncmp_serial_ge(ts, connection->rate_ts) &&
	    (ts - connection->rate_ts) / (guint32)ms > FAST_TICKS_PER_MS) {
		connection->flags |= NCMP_CONNECTION_FAST;
		rewriter->fast = TRUE;
	}
	connection->rate_ts = ts;
	connection->rate_ns = now_ns;
}

guint32 ncmp_rewriter_margin(const ncmp_rewriter *rewriter,
			     const struct ncmp_connection *connection)
{
	guint32 measured = NCMP_CONNECTION_FAST | NCMP_CONNECTION_MEASURED;
	gboolean fast = rewriter->fast;

	/* Where its speed was not measured, another's tells what the guest can do. */
	if (connection && connection->flags & measured)
		fast = !!(connection->flags & NCMP_CONNECTION_FAST);
	return fast ? MARGIN_TICKS_FAST : MARGIN_TICKS;
}

/* From now on clients see this connection's timestamps raised. */
static void raise_timestamps(const ncmp_rewriter *rewriter,
			     struct ncmp_connection *connection, guint32 ts)
{
	guint32 lead = connection->echo - (ts + connection->ts_offset);

	if (connection->flags & NCMP_CONNECTION_ECHO && lead <= LEAD_MAX)
		connection->ts_offset += lead;
	connection->ts_offset += ncmp_rewriter_margin(rewriter, connection);
	connection->ts_from = ts + connection->ts_offset;
	connection->flags |= WIRE_REWRITE_TS;
}

static void translate_out(const ncmp_rewriter *rewriter,
			  struct ncmp_connection *connection,
			  const struct ncmp_packet *packet, struct ncmp_mend *mend)
{
	/* A RST for what acknowledged nothing is in no sequence (RFC 9293, 3.5.2). */
	if (packet->seq || !(packet->flags & NCMP_TCP_RST))
		ncmp_mend32(mend, 4, packet->seq + connection->delta);
	if (packet->timestamps) {
		guint32 ts = ncmp_get32(packet->bytes + packet->timestamps);

		if (rewriter->promoted && !(connection->flags & WIRE_REWRITE_TS))
			raise_timestamps(rewriter, connection, ts);
		if (connection->flags & WIRE_REWRITE_TS)
			ncmp_mend32(mend, packet->timestamps - packet->transport,
				    ts + connection->ts_offset);
	}
}

gboolean ncmp_rewriter_out(ncmp_rewriter *rewriter, guint8 device, guint8 *frame,
			   gsize len, gboolean partial, gint64 now_ns)
{
	struct ncmp_connection *connection;
	struct ncmp_packet packet;
	struct ncmp_mend mend = { .partial = partial };

	if (!is_awake(rewriter, now_ns))
		return FALSE;
	ncmp_packet_parse_frame(&packet, frame, len, device);
	if (packet.kind != NCMP_KIND_TCP)
		return FALSE;
	mend.tcp = frame + (packet.bytes - frame) + packet.transport;
	connection = ncmp_table_find(rewriter, &packet.key);
	if (!connection && packet.flags & NCMP_TCP_SYN && !rewriter->promoted)
		connection = add(rewriter, &packet.key, 0, now_ns);
	else if (!connection && (rewriter->promoted || packet.timestamps))
		connection = stranger(rewriter, &packet, now_ns);
	if (!connection)
		return FALSE;
	if (packet.flags & NCMP_TCP_SYN) {
		if (packet.flags & NCMP_TCP_ACK)
			saw_syn_ack_out(rewriter, connection, &packet);
		else
			saw_syn_out(rewriter, connection, &packet);
	}
	if (packet.flags & NCMP_TCP_ACK) {
		connection->guest_ack = packet.ack;
		connection->flags |= NCMP_CONNECTION_GUEST_ACK;
	}
	if (packet.flags & NCMP_TCP_FIN)
		connection->flags |= NCMP_CONNECTION_FIN_OUT;
	if (packet.flags & NCMP_TCP_RST)
		connection->flags |= NCMP_CONNECTION_RESET;
	if (packet.timestamps)
		saw_rate(rewriter, connection,
			 ncmp_get32(packet.bytes + packet.timestamps), now_ns);
	if ((rewriter->promoted || connection->flags & NCMP_CONNECTION_LOADED) &&
	    !(connection->flags & NCMP_CONNECTION_NATIVE))
		translate_out(rewriter, connection, &packet, &mend);
	ncmp_table_touch(rewriter, connection, now_ns);
	if (mend.changed)
		rewriter->counters.translated_out++;
	return mend.changed;
}
