/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two guests, and a reference of what may leave. */
#include "tests/unit/fake_guests.h"

#include <netinet/in.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/unit/fake_compare.h"

#define FLOWS 3u
#define LENGTH 96u /* positions of a stream: SYN, bytes, FIN */
#define PACKETS 512u
#define CONTENTS 8u
#define CLIENT 0xffffff80u /* what the client is acknowledged from; it wraps */

struct flow {
	gboolean born; /* after the first cut: each guest has numbers of its own */
	guint32 p_isn, s_isn;
	gboolean p_syn, s_syn; /* sent */
	gboolean syn_at_cut[2]; /* of the last two markers */
	guint fin; /* where both streams end */
	/* By position: what was sent, the secondary's in this epoch, the primary's
	 * before which epoch. */
	gboolean s_sent[LENGTH];
	guint8 s_value[LENGTH];
	guint64 p_epoch[LENGTH]; /* the first in which it was sent; 0: never */
	guint changed; /* the secondary's byte here is another; LENGTH: none */
	gboolean s_reset[LENGTH];
	guint64 p_reset[LENGTH];
	guint s_ack; /* the highest, plus one; 0: none */
	guint p_ack[16]; /* the same of the primary's, by epoch */
};

struct sent {
	guint flow; /* FLOWS: datagram */
	guint from, to; /* positions */
	guint8 flags;
	guint ack;
	guint content;
	guint64 epoch; /* really */
	gsize ip;
	gboolean out;
	guint len;
	guint8 bytes[LENGTH + 64];
};

struct guests {
	const guint8 *data;
	gsize left;
	ncmp_compare *compare;
	gint64 now_ns;
	guint64 epoch; /* really running on the primary */
	guint64 committed;
	struct flow flows[FLOWS];
	guint s_contents[CONTENTS], out_contents[CONTENTS];
	guint datagrams; /* in all */
	struct sent sent[PACKETS];
	guint count;
	struct fake_guests_result result;
	gboolean opened_up; /* the end: everything may go */
};

static guint8 next(struct guests *guests)
{
	if (!guests->left)
		return 0;
	guests->left--;
	return *guests->data++;
}

static guint8 value_at(guint flow, guint position)
{
	return (guint8)(flow * 101 + position * 7 + position / 5);
}

/* Whether the secondary has this element in its stream, or a commit covers it. */
static gboolean may_leave(const struct guests *guests, guint f, guint position,
			  guint8 value)
{
	const struct flow *flow = &guests->flows[f];

	if (flow->p_epoch[position] && flow->p_epoch[position] < guests->committed)
		return TRUE;
	return flow->s_sent[position] && flow->s_value[position] == value;
}

static void check_ack(const struct guests *guests, const struct sent *sent, guint32 ack)
{
	const struct flow *flow = &guests->flows[sent->flow];
	guint limit = flow->s_ack;

	for (guint64 i = 0; i < guests->committed && i < 16; i++)
		limit = MAX(limit, flow->p_ack[i]);
	g_assert(limit);
	g_assert((gint32)(ack - (CLIENT + limit - 1)) <= 0);
}

static void check_tcp(struct guests *guests, const struct sent *sent,
		      const guint8 *bytes)
{
	const struct flow *flow = &guests->flows[sent->flow];
	struct ncmp_packet packet;

	ncmp_packet_parse(&packet, bytes, sent->len,
			  sent->ip == 40 ? FAKE_IPV6 : FAKE_IPV4, 0, 0);
	g_assert(packet.kind == NCMP_KIND_TCP);
	g_assert(packet.flags == sent->flags);
	g_assert(fake_tcp_checksum_is_right(bytes, sent->len));
	if (bytes != sent->bytes)
		g_assert(!memcmp(bytes + packet.payload, sent->bytes + packet.payload,
				 packet.payload_len));
	if (sent->flags & NCMP_TCP_ACK)
		check_ack(guests, sent, packet.ack);
	if (sent->flags & NCMP_TCP_RST) {
		g_assert(flow->s_reset[sent->from] ||
			 (flow->p_reset[sent->from] &&
			  flow->p_reset[sent->from] < guests->committed));
		return;
	}
	for (guint i = sent->from; i < sent->to; i++)
		g_assert(may_leave(guests, sent->flow, i, value_at(sent->flow, i)));
}

static void on_release(void *data, guint32 id, const guint8 *changed, gsize len)
{
	struct guests *guests = data;
	struct sent *sent = &guests->sent[id];

	g_assert(id < guests->count && !sent->out && len == sent->len);
	sent->out = TRUE;
	/* Whatever it is, it was sent before the cut. */
	if (sent->epoch < guests->committed) {
		g_assert(!changed);
		return;
	}
	g_assert(!guests->opened_up);
	guests->result.released++;
	if (sent->flow == FLOWS) {
		guests->out_contents[sent->content]++;
		g_assert(guests->out_contents[sent->content] <=
			 guests->s_contents[sent->content]);
		g_assert(sent->epoch == guests->committed);
	} else {
		check_tcp(guests, sent, changed ? changed : sent->bytes);
	}
}

static void on_drop(void *data, guint32 id)
{
	struct guests *guests = data;
	struct sent *sent = &guests->sent[id];

	g_assert(id < guests->count && !sent->out);
	g_assert(sent->from == sent->to);
	sent->out = TRUE;
}

static void on_diverged(void *data, const struct ncmp_divergence *divergence)
{
	struct guests *guests = data;

	guests->result.asked++;
	/* Too many holes are a limit, not a difference; so is a window of datagrams. */
	if (guests->datagrams >= 64 && divergence->key &&
	    divergence->key->protocol == IPPROTO_UDP)
		return;
	if (guests->result.honest && divergence->cause != NCMP_CAUSE_MEMORY)
		g_error("honest guests diverge: %s at %" G_GUINT64_FORMAT " of port %u",
			ncmp_cause_name(divergence->cause), divergence->position,
			divergence->key ? divergence->key->target_port : 0u);
}

/* A segment of a stream: positions [from, to), of which 0 is SYN and `fin` FIN. */
static gsize make_segment(const struct guests *guests, guint f, gboolean primary,
			  guint from, guint to, guint8 flags, guint ack, guint8 *bytes)
{
	const struct flow *flow = &guests->flows[f];
	guint8 data[LENGTH];
	struct fake_packet packet = { .ipv6 = f == 1,
				      .source_port = 80,
				      .target_port = (guint16)(1000 + f),
				      .flags = flags,
				      .data = data };

	packet.seq = (primary ? flow->p_isn : flow->s_isn) + from;
	packet.ack = CLIENT + ack;
	if (from == 0 && to > 0)
		packet.flags |= NCMP_TCP_SYN;
	if (to == flow->fin + 1)
		packet.flags |= NCMP_TCP_FIN;
	for (guint i = MAX(from, 1); i < to && i < flow->fin; i++) {
		data[packet.len] = value_at(f, i);
		if (!primary && i == flow->changed)
			data[packet.len] ^= 0x10;
		packet.len++;
	}
	return fake_tcp(&packet, bytes);
}

static void choose_range(struct guests *guests, const struct flow *flow, guint *from,
			 guint *to)
{
	guint8 a = next(guests), b = next(guests);

	/* The begin of one that is older than all is not seen. */
	*from = flow == &guests->flows[2] ? 1 + a % flow->fin : a % (flow->fin + 1);
	*to = MIN(*from + b % 32, flow->fin + 1);
}

static void primary_tcp(struct guests *guests, guint f)
{
	struct flow *flow = &guests->flows[f];
	struct sent *sent = &guests->sent[guests->count];
	struct ncmp_arrival arrival = { .id = guests->count };
	guint8 how = next(guests);

	choose_range(guests, flow, &sent->from, &sent->to);
	if (!flow->p_syn && flow->born) {
		sent->from = 0;
		sent->to = MAX(sent->to, 1);
	}
	sent->ack = next(guests);
	sent->flow = f;
	sent->flags = NCMP_TCP_ACK;
	if (how % 16 == 15 && sent->from) {
		sent->flags |= NCMP_TCP_RST;
		sent->to = sent->from;
	}
	sent->ip = f == 1 ? 40 : 20;
	sent->len = (guint)make_segment(guests, f, TRUE, sent->from, sent->to,
					sent->flags, sent->ack, sent->bytes);
	sent->flags = sent->bytes[sent->ip + 13];
	sent->epoch = guests->epoch;
	flow->p_syn = flow->p_syn || sent->from == 0;
	for (guint i = sent->from; i < sent->to; i++)
		if (!flow->p_epoch[i])
			flow->p_epoch[i] = guests->epoch;
	if (sent->flags & NCMP_TCP_RST && !flow->p_reset[sent->from])
		flow->p_reset[sent->from] = guests->epoch;
	flow->p_ack[MIN(guests->epoch, 15)] =
		MAX(flow->p_ack[MIN(guests->epoch, 15)], sent->ack + 1);
	arrival.bytes = sent->bytes;
	arrival.len = sent->len;
	arrival.ethertype = f == 1 ? FAKE_IPV6 : FAKE_IPV4;
	arrival.segmentable = how & 0x40;
	guests->count++;
	guests->result.packets++;
	ncmp_compare_primary(guests->compare, &arrival, guests->now_ns);
}

static void to_compare(struct guests *guests, guint64 epoch, const guint8 *bytes,
		       gsize len, guint16 ethertype)
{
	guint8 frame[LENGTH + 128];

	len = fake_frame(bytes, len, ethertype, 0, 60, 0x5a, frame);
	ncmp_compare_secondary(guests->compare, epoch, 0, frame, len, guests->now_ns);
}

static void secondary_segment(struct guests *guests, guint f, guint from, guint to,
			      guint8 flags, guint ack)
{
	struct flow *flow = &guests->flows[f];
	guint8 bytes[LENGTH + 64];
	gsize len;

	if (!flow->s_syn && flow->born) {
		from = 0;
		to = MAX(to, 1);
	}
	if (flags & NCMP_TCP_RST)
		to = from;
	len = make_segment(guests, f, FALSE, from, to, flags, ack, bytes);
	flow->s_syn = flow->s_syn || from == 0;
	for (guint i = from; i < to; i++) {
		flow->s_sent[i] = TRUE;
		flow->s_value[i] = value_at(f, i);
		if (i == flow->changed && i && i != flow->fin)
			flow->s_value[i] ^= 0x10;
	}
	if (flags & NCMP_TCP_RST)
		flow->s_reset[from] = TRUE;
	flow->s_ack = MAX(flow->s_ack, ack + 1);
	to_compare(guests, guests->committed, bytes, len,
		   f == 1 ? FAKE_IPV6 : FAKE_IPV4);
}

static void secondary_tcp(struct guests *guests, guint f)
{
	struct flow *flow = &guests->flows[f];
	guint8 flags = NCMP_TCP_ACK, how = next(guests);
	guint from, to;

	choose_range(guests, flow, &from, &to);
	if (how % 16 == 15 && from && (flow->s_syn || !flow->born))
		flags |= NCMP_TCP_RST;
	secondary_segment(guests, f, from, to, flags, next(guests));
}

static gsize make_datagram(guint content, guint8 *bytes)
{
	guint8 data[4] = { (guint8)content, 1, 2, 3 };
	const struct fake_packet packet = { .source_port = 53,
					    .target_port = 99,
					    .data = data,
					    .len = 1 + content % 4 };

	return fake_udp(&packet, bytes);
}

static void primary_udp(struct guests *guests)
{
	struct sent *sent = &guests->sent[guests->count];
	struct ncmp_arrival arrival = { .id = guests->count,
					.bytes = sent->bytes,
					.ethertype = FAKE_IPV4 };

	sent->flow = FLOWS;
	guests->datagrams++;
	sent->content = next(guests) % CONTENTS;
	sent->epoch = guests->epoch;
	sent->len = (guint)make_datagram(sent->content, sent->bytes);
	arrival.len = sent->len;
	guests->count++;
	guests->result.packets++;
	ncmp_compare_primary(guests->compare, &arrival, guests->now_ns);
}

static void secondary_udp(struct guests *guests, guint content)
{
	guint8 bytes[64];
	gsize len = make_datagram(content, bytes);

	guests->s_contents[content]++;
	guests->datagrams++;
	to_compare(guests, guests->committed, bytes, len, FAKE_IPV4);
}

/* Of the epoch before: not to be listened to. */
static void late_udp(struct guests *guests)
{
	guint8 bytes[64];
	gsize len = make_datagram(0, bytes);

	to_compare(guests, guests->committed - 1, bytes, len, FAKE_IPV4);
}

/* The primary is cut. `lost`: the comparison learns only that something was lost. */
static void cut(struct guests *guests, gboolean lost)
{
	if (guests->epoch >= 14)
		return;
	guests->epoch++;
	for (guint i = 0; i < FLOWS; i++)
		guests->flows[i].syn_at_cut[guests->epoch % 2] = guests->flows[i].p_syn;
	if (lost) {
		guests->result.honest = FALSE;
		ncmp_compare_overrun(guests->compare, guests->now_ns);
	} else {
		ncmp_compare_marker(guests->compare, guests->epoch, guests->now_ns);
	}
}

static void commit(struct guests *guests)
{
	if (guests->committed >= guests->epoch)
		return;
	/* One at a time, as checkpoints are. */
	guests->committed = guests->epoch;
	memset(guests->s_contents, 0, sizeof(guests->s_contents));
	memset(guests->out_contents, 0, sizeof(guests->out_contents));
	for (guint i = 0; i < FLOWS; i++) {
		struct flow *flow = &guests->flows[i];

		memset(flow->s_sent, 0, sizeof(flow->s_sent));
		memset(flow->s_reset, 0, sizeof(flow->s_reset));
		flow->s_ack = 0;
		flow->s_syn = FALSE;
		if (flow->syn_at_cut[guests->epoch % 2])
			flow->born = FALSE;
		flow->s_isn = flow->born ? flow->s_isn + 12345 : flow->p_isn;
	}
	ncmp_compare_committed(guests->compare, guests->committed, guests->now_ns);
}

static void step(struct guests *guests)
{
	guint8 op = next(guests);
	guint f = (op >> 4) % FLOWS;

	switch (op % 16) {
	case 0 ... 4:
		primary_tcp(guests, f);
		break;
	case 5 ... 9:
		secondary_tcp(guests, f);
		break;
	case 10:
		primary_udp(guests);
		break;
	case 11:
		secondary_udp(guests, next(guests) % CONTENTS);
		break;
	case 12:
		/* A cut waits for the commit of the one before. */
		if (guests->committed == guests->epoch)
			cut(guests, (op >> 4) == 15);
		break;
	case 13:
		commit(guests);
		break;
	case 14:
		late_udp(guests);
		break;
	default:
		if (op >> 4 < 12)
			break;
		guests->result.honest = FALSE;
		guests->now_ns += next(guests) * FAKE_MS;
		ncmp_compare_tick(guests->compare, guests->now_ns);
		break;
	}
}

/* The secondary sends all that the primary may have sent in this epoch. */
static void catch_up(struct guests *guests)
{
	for (guint i = 0; i < FLOWS; i++) {
		struct flow *flow = &guests->flows[i];

		for (guint at = i == 2; at <= flow->fin; at += 20)
			secondary_segment(guests, i, at, MIN(at + 20, flow->fin + 1),
					  NCMP_TCP_ACK, 300);
		for (guint at = 1; at <= flow->fin; at++)
			if (flow->p_reset[at] == guests->epoch)
				secondary_segment(guests, i, at, at,
						  NCMP_TCP_ACK | NCMP_TCP_RST, 300);
	}
	for (guint i = 0; i < CONTENTS; i++)
		for (guint n = 0; n < guests->count; n++)
			if (guests->sent[n].flow == FLOWS &&
			    guests->sent[n].content == i && !guests->sent[n].out)
				secondary_udp(guests, i);
}

/* All but what is behind a reset: of these the comparison remembers a few only. */
static void check_all_out(const struct guests *guests)
{
	gboolean reset[FLOWS + 1] = { FALSE };

	for (guint i = 0; i < guests->count; i++) {
		const struct sent *sent = &guests->sent[i];

		if (!sent->out && sent->flags & NCMP_TCP_RST)
			reset[sent->flow] = TRUE;
		g_assert(sent->out || reset[sent->flow]);
	}
}

static void begin(struct guests *guests)
{
	guint8 how = next(guests);

	guests->now_ns = FAKE_MS;
	guests->result.honest = !(how & 1);
	for (guint i = 0; i < FLOWS; i++) {
		struct flow *flow = &guests->flows[i];

		flow->born = i != 2;
		flow->p_isn = 0xffffffe0u + i * 1000u + next(guests);
		flow->s_isn = flow->born ? flow->p_isn * 7 + 1 : flow->p_isn;
		flow->fin = 1 + next(guests) % (LENGTH - 2);
		flow->changed = LENGTH;
		if (!guests->result.honest)
			flow->changed = next(guests) % LENGTH;
	}
	ncmp_compare_set_gate(guests->compare, NCMP_GATE_GUARDED);
	guests->epoch = 0;
	cut(guests, FALSE);
	guests->flows[2].syn_at_cut[1] = TRUE;
	guests->flows[2].p_syn = TRUE;
	commit(guests);
}

struct fake_guests_result fake_guests_run(const guint8 *data, gsize size)
{
	struct guests *guests = g_new0(struct guests, 1);
	const struct ncmp_compare_hooks hooks = { guests, on_release, on_drop,
						  on_diverged };
	const struct ncmp_compare_options options = { .seed = 1 };
	struct fake_guests_result result;
	struct ncmp_compare_counters counters;

	guests->data = data;
	guests->left = size;
	guests->compare = ncmp_compare_new(&options, &hooks);
	begin(guests);
	while (guests->left && guests->count < PACKETS)
		step(guests);
	if (guests->result.honest && !guests->result.asked) {
		commit(guests);
		catch_up(guests);
		if (!guests->result.asked)
			check_all_out(guests);
	}
	commit(guests);
	/* The last commit releases whatever is left. */
	guests->opened_up = TRUE;
	guests->epoch = 15;
	ncmp_compare_marker(guests->compare, 15, guests->now_ns);
	guests->committed = 15;
	ncmp_compare_committed(guests->compare, 15, guests->now_ns);
	ncmp_compare_get_counters(guests->compare, &counters);
	g_assert(!counters.held);
	result = guests->result;
	ncmp_compare_free(guests->compare);
	g_free(guests);
	return result;
}
