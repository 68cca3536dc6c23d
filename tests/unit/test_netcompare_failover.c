/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client and a guest with a small TCP each, a secondary's guest beside it,
 * checkpoints and failovers at any time: the connection lives, no byte is lost, and
 * neither guest is ever shown a number that it could not take.
 *
 * Two hosts take turns: one serves, the other follows with the rewriter under test.
 * Packets of the one that serves wait until the other's guest has said the same, as the
 * comparator has them wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "netcompare/rewrite.h"
#include "tests/unit/fake_packet.h"

#define SYN NCMP_TCP_SYN
#define ACK NCMP_TCP_ACK
#define TOTAL 40000u /* bytes each way */
#define CLOCKS 20 /* ticks that the two guests' may be apart */
#define MS G_GINT64_CONSTANT(1000000)

enum state { CLOSED, SYN_SENT, SYN_RECEIVED, OPEN };

struct tcp {
	enum state state;
	gboolean guest, server;
	guint32 iss, irs;
	guint32 una, nxt, max, rcv;
	guint32 clock; /* TSval minus the world's ticks */
	guint32 first_ts, last_ts; /* of its SYN */
	guint32 recent;
	gboolean any_recent;
	guint idle;
	gboolean must_ack;
};

struct segment {
	guint8 flags;
	guint32 seq, ack, tsval, tsecr;
	guint len;
};

struct held {
	gboolean syn;
	guint32 end; /* relative to the guest's start */
	gsize len;
	guint8 frame[1700];
};

struct item {
	gboolean birth;
	struct wire_rewrite_birth told;
	gsize len;
	guint8 frame[1700];
};

struct host {
	struct tcp tcp;
	ncmp_rewriter *rewriter; /* NULL: never was a secondary */
};

struct world {
	GRand *rand;
	guint32 tick;
	struct tcp client;
	struct host host[2];
	guint serves;
	gboolean follows; /* there is a secondary */
	gboolean births; /* it is told of them */
	GQueue held, log, wire; /* of struct held, item, item: to the client */
	guint failovers, checkpoints;
};

static guint failovers, checkpoints, refused;

static gint64 now(const struct world *world)
{
	return world->tick * MS;
}

static guint8 byte_at(gboolean of_guest, guint32 position)
{
	return (guint8)(position * 31 + (position >> 8) + (of_guest ? 7 : 0));
}

static gsize make(const struct segment *segment, gboolean guest, guint32 position,
		  guint8 *frame)
{
	guint32 ts[2] = { GUINT32_TO_BE(segment->tsval),
			  GUINT32_TO_BE(segment->tsecr) };
	guint8 options[12] = { 1, 1, 8, 10 }, packet[1600], data[1400];
	struct fake_packet from = {
		.host = guest ? 1 : 2,
		.peer = guest ? 2 : 1,
		.source_port = guest ? 80 : 40000,
		.target_port = guest ? 40000 : 80,
		.seq = segment->seq,
		.ack = segment->ack,
		.flags = segment->flags,
		.options = options,
		.options_len = 12,
		.data = data,
		.len = segment->len,
	};

	memcpy(options + 4, ts, 8);
	for (guint i = 0; i < segment->len; i++)
		data[i] = byte_at(guest, position + i);
	return fake_frame(packet, fake_tcp(&from, packet), FAKE_IPV4, 0, 60, 0, frame);
}

static struct ncmp_packet parse(const guint8 *frame, gsize len)
{
	struct ncmp_packet packet;

	ncmp_packet_parse_frame(&packet, frame, len, 0);
	assert_int_equal(packet.kind, NCMP_KIND_TCP);
	assert_true(fake_tcp_checksum_is_right(packet.bytes, packet.len));
	return packet;
}

static guint32 be32(const guint8 *bytes)
{
	return (guint32)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

static gboolean between(guint32 a, guint32 x, guint32 b)
{
	return x - a <= b - a;
}

/* Takes what is in order, refuses what cannot be. */
static void tcp_input(struct world *world, struct tcp *tcp, const guint8 *frame,
		      gsize len)
{
	struct ncmp_packet packet = parse(frame, len);
	guint32 tsval = be32(packet.bytes + packet.timestamps);
	guint32 tsecr = be32(packet.bytes + packet.timestamps + 4);
	gboolean syn = packet.flags & SYN, ack = packet.flags & ACK;

	/* PAWS: nothing overtakes here, so that nothing may be dropped for it. */
	assert_false(tcp->any_recent && (gint32)(tsval - tcp->recent) < 0);
	tcp->recent = tsval;
	tcp->any_recent = TRUE;
	switch (tcp->state) {
	case CLOSED:
		if (!tcp->server || !syn || ack)
			return;
		tcp->irs = packet.seq;
		tcp->rcv = packet.seq + 1;
		tcp->state = SYN_RECEIVED;
		tcp->idle = 1000;
		return;
	case SYN_SENT:
		if (!syn || !ack)
			return;
		assert_int_equal(packet.ack, tcp->iss + 1);
		/* As Linux judges them, but for what two clocks may differ by. */
		if (!between(tcp->first_ts, tsecr, world->tick + tcp->clock + CLOCKS)) {
			refused++;
			return;
		}
		tcp->irs = packet.seq;
		tcp->rcv = packet.seq + 1;
		tcp->una = packet.ack;
		tcp->state = OPEN;
		tcp->must_ack = TRUE;
		return;
	case SYN_RECEIVED:
		if (syn) {
			tcp->idle = 1000;
			return;
		}
		assert_true(ack);
		assert_int_equal(packet.ack, tcp->iss + 1);
		/* It may answer what the other guest repeated after the checkpoint, and
		 * this one is only about to: dropped. */
		if (!between(tcp->first_ts, tsecr, tcp->last_ts)) {
			refused++;
			return;
		}
		tcp->state = OPEN;
		break;
	case OPEN:
		if (syn) {
			tcp->must_ack = TRUE;
			return;
		}
		break;
	}
	if (!between(tcp->iss + 1, packet.ack, tcp->max))
		fail_msg("%s: acknowledged %u of %u", tcp->guest ? "guest" : "client",
			 packet.ack - tcp->iss, tcp->max - tcp->iss);
	if ((gint32)(packet.ack - tcp->una) > 0) {
		tcp->una = packet.ack;
		tcp->idle = 0;
	}
	if ((gint32)(tcp->nxt - tcp->una) < 0)
		tcp->nxt = tcp->una;
	if (!packet.payload_len)
		return;
	tcp->must_ack = TRUE;
	for (guint i = 0; i < packet.payload_len; i++) {
		guint32 position = packet.seq + i - tcp->irs - 1;

		assert_int_equal(packet.bytes[packet.payload + i],
				 byte_at(!tcp->guest, position));
		if (packet.seq + i == tcp->rcv)
			tcp->rcv++;
	}
}

/* What it says now; FALSE: nothing. */
static gboolean tcp_output(struct world *world, struct tcp *tcp,
			   struct segment *segment)
{
	guint32 sent = tcp->nxt - tcp->iss - 1, left = TOTAL - sent;

	*segment = (struct segment){ .tsval = world->tick + tcp->clock,
				     .tsecr = tcp->recent,
				     .flags = ACK,
				     .ack = tcp->rcv };
	tcp->idle++;
	if (tcp->state == SYN_SENT || tcp->state == SYN_RECEIVED ||
	    (tcp->state == CLOSED && !tcp->server)) {
		if (tcp->state == CLOSED || (!tcp->nxt && !tcp->max)) {
			tcp->iss = g_rand_int(world->rand) | 1;
			tcp->una = tcp->iss;
			tcp->nxt = tcp->max = tcp->iss + 1;
			tcp->idle = 1000;
			tcp->first_ts = segment->tsval;
			if (tcp->state == CLOSED)
				tcp->state = SYN_SENT;
		}
		if (tcp->idle < 30)
			return FALSE;
		tcp->idle = 0;
		tcp->last_ts = segment->tsval;
		segment->seq = tcp->iss;
		segment->flags = tcp->state == SYN_SENT ? SYN : SYN | ACK;
		if (tcp->state == SYN_SENT)
			segment->ack = segment->tsecr = 0;
		return TRUE;
	}
	if (tcp->state != OPEN)
		return FALSE;
	if (tcp->idle > 40 && tcp->una != tcp->max) {
		tcp->nxt = tcp->una;
		tcp->idle = 0;
		left = TOTAL - (tcp->nxt - tcp->iss - 1);
	}
	segment->seq = tcp->nxt;
	if (tcp->nxt - tcp->una < 6000)
		segment->len = (guint)g_rand_int_range(world->rand, 1, 1400);
	segment->len = MIN(left, segment->len);
	tcp->nxt += segment->len;
	if ((gint32)(tcp->nxt - tcp->max) > 0)
		tcp->max = tcp->nxt;
	if (!segment->len && !tcp->must_ack)
		return FALSE;
	tcp->must_ack = FALSE;
	return TRUE;
}

static void to_client(struct world *world, const guint8 *frame, gsize len)
{
	struct item *item;

	if (g_rand_int_range(world->rand, 0, 12) == 0)
		return;
	item = g_new0(struct item, 1);
	memcpy(item->frame, frame, len);
	item->len = len;
	g_queue_push_tail(&world->wire, item);
}

/* Whether the other guest has said the same by now. Lowers the acknowledgement. */
static gboolean is_matched(struct world *world, struct held *held)
{
	const struct tcp *other = &world->host[!world->serves].tcp;
	struct ncmp_packet packet;

	if (other->state == CLOSED || !other->max ||
	    (gint32)(other->max - other->iss - held->end) < 0)
		return FALSE;
	packet = parse(held->frame, held->len);
	if (packet.flags & ACK && (gint32)(packet.ack - other->rcv) > 0) {
		guint8 *bytes = held->frame + (packet.bytes - held->frame);
		guint32 ack = GUINT32_TO_BE(other->rcv);

		memcpy(bytes + packet.transport + 8, &ack, 4);
		ncmp_packet_tcp_checksum(&packet, bytes);
	}
	return TRUE;
}

static void release(struct world *world, gboolean all)
{
	struct held *held;

	while ((held = g_queue_peek_head(&world->held)) &&
	       (all || is_matched(world, held))) {
		to_client(world, held->frame, held->len);
		g_free(g_queue_pop_head(&world->held));
	}
}

static void guest_says(struct world *world, guint which)
{
	struct host *host = &world->host[which];
	struct segment segment;
	struct held *held;

	if (!tcp_output(world, &host->tcp, &segment))
		return;
	held = g_new0(struct held, 1);
	held->len = make(&segment, TRUE, segment.seq - host->tcp.iss - 1, held->frame);
	held->end = segment.seq + segment.len - host->tcp.iss + !!(segment.flags & SYN);
	if (host->rewriter)
		ncmp_rewriter_out(host->rewriter, 0, held->frame, held->len, FALSE,
				  now(world));
	if (which != world->serves) {
		g_free(held);
		return;
	}
	struct item item = { .birth = TRUE };

	if (world->follows && world->births &&
	    ncmp_rewriter_birth(0, held->frame, held->len, &item.told))
		g_queue_push_tail(&world->log, g_memdup2(&item, sizeof(item)));
	if (world->follows) {
		g_queue_push_tail(&world->held, held);
		return;
	}
	to_client(world, held->frame, held->len);
	g_free(held);
}

static void guest_gets(struct world *world, guint which, const guint8 *frame, gsize len)
{
	tcp_input(world, &world->host[which].tcp, frame, len);
}

static void client_says(struct world *world)
{
	struct host *host = &world->host[world->serves];
	struct segment segment;
	struct item item = { 0 };

	if (!tcp_output(world, &world->client, &segment) ||
	    g_rand_int_range(world->rand, 0, 12) == 0)
		return;
	item.len =
		make(&segment, FALSE, segment.seq - world->client.iss - 1, item.frame);
	if (world->follows)
		g_queue_push_tail(&world->log, g_memdup2(&item, sizeof(item)));
	/* The guest's node would keep what is held; here it is lost like others. */
	if (host->rewriter && ncmp_rewriter_in(host->rewriter, 0, item.frame, item.len,
					       FALSE, now(world)) == NCMP_REWRITE_HOLD)
		return;
	guest_gets(world, world->serves, item.frame, item.len);
}

/* The secondary's guest takes the next of what was mirrored. */
static void follow(struct world *world)
{
	struct host *host = &world->host[!world->serves];
	struct item *item = g_queue_peek_head(&world->log);

	if (!item)
		return;
	if (item->birth)
		assert_null(
			ncmp_rewriter_learn(host->rewriter, &item->told, now(world)));
	else if (ncmp_rewriter_in(host->rewriter, 0, item->frame, item->len, FALSE,
				  now(world)) == NCMP_REWRITE_HOLD)
		return;
	else
		guest_gets(world, !world->serves, item->frame, item->len);
	g_free(g_queue_pop_head(&world->log));
}

static void checkpoint(struct world *world)
{
	struct host *primary = &world->host[world->serves];
	struct host *secondary = &world->host[!world->serves];
	g_autoptr(GByteArray) saved = g_byte_array_new();

	if (!world->follows) {
		ncmp_rewriter_free(secondary->rewriter);
		secondary->rewriter = ncmp_rewriter_new(0, 1);
		world->follows = TRUE;
	}
	if (primary->rewriter)
		ncmp_rewriter_save(primary->rewriter, saved);
	assert_null(ncmp_rewriter_load(secondary->rewriter, saved->data, saved->len,
				       now(world)));
	secondary->tcp = primary->tcp;
	secondary->tcp.clock += (guint32)g_rand_int_range(world->rand, -CLOCKS, CLOCKS);
	/* What of its own SYN it still has to be answered with may be either's. */
	secondary->tcp.first_ts -= CLOCKS;
	secondary->tcp.last_ts += CLOCKS;
	g_queue_clear_full(&world->log, g_free);
	release(world, TRUE);
	world->checkpoints++;
}

static void fail_over(struct world *world)
{
	struct host *host = &world->host[!world->serves];

	g_queue_clear_full(&world->held, g_free);
	ncmp_rewriter_promote(host->rewriter, now(world));
	/* The rest of what was mirrored comes first. Its guest may be behind in
	 * answering. */
	while (world->log.length) {
		follow(world);
		guest_says(world, !world->serves);
		world->tick++;
	}
	world->serves = !world->serves;
	world->follows = FALSE;
	world->failovers++;
}

static void run(guint32 seed, gboolean births, gboolean active)
{
	struct world world = { .rand = g_rand_new_with_seed(seed), .births = births };
	guint checkpoint_every, fail_every;

	world.tick = g_rand_int_range(world.rand, 1000, 5000);
	world.client.clock = g_rand_int(world.rand);
	world.client.server = active;
	world.host[0].tcp.server = !active;
	world.host[0].tcp.guest = TRUE;
	world.host[0].tcp.clock = g_rand_int(world.rand);
	checkpoint(&world);
	checkpoint_every = g_rand_int_range(world.rand, 10, 4000);
	fail_every = g_rand_int_range(world.rand, 20, 1000);
	for (guint i = 0; world.client.state != OPEN ||
			  world.client.una - world.client.iss - 1 != TOTAL ||
			  world.client.rcv - world.client.irs - 1 != TOTAL;
	     i++) {
		if (i > 2000000)
			fail_msg("seed %u: stuck at %u, %u", seed,
				 world.client.una - world.client.iss,
				 world.client.rcv - world.client.irs);
		world.tick++;
		switch (g_rand_int_range(world.rand, 0, 6)) {
		case 0:
			client_says(&world);
			break;
		case 1:
			guest_says(&world, world.serves);
			break;
		case 2:
			if (world.follows)
				guest_says(&world, !world.serves);
			break;
		case 3:
		case 4:
			if (world.follows)
				follow(&world);
			break;
		default: {
			struct item *item = g_queue_pop_head(&world.wire);

			if (item)
				tcp_input(&world, &world.client, item->frame,
					  item->len);
			g_free(item);
			break;
		}
		}
		if (world.follows)
			release(&world, FALSE);
		if (g_rand_int_range(world.rand, 0, (gint32)checkpoint_every) == 0)
			checkpoint(&world);
		if (world.follows &&
		    g_rand_int_range(world.rand, 0, (gint32)fail_every) == 0)
			fail_over(&world);
	}
	ncmp_rewriter_free(world.host[0].rewriter);
	ncmp_rewriter_free(world.host[1].rewriter);
	g_queue_clear_full(&world.held, g_free);
	g_queue_clear_full(&world.log, g_free);
	g_queue_clear_full(&world.wire, g_free);
	g_rand_free(world.rand);
	failovers += world.failovers;
	checkpoints += world.checkpoints;
}

static guint rounds(void)
{
	return g_getenv("LONG") ? 2000 : 100;
}

static void a_clients_connection_outlives_failovers(void **state)
{
	for (guint32 seed = 0; seed < rounds(); seed++) {
		run(seed, TRUE, FALSE);
		run(seed, FALSE, FALSE);
	}
}

static void a_guests_connection_outlives_failovers(void **state)
{
	for (guint32 seed = 0; seed < rounds(); seed++) {
		run(seed, TRUE, TRUE);
		run(seed, FALSE, TRUE);
	}
}

static void that_was_much(void **state)
{
	printf("# %u connections outlived %u failovers, with %u checkpoints; refused: "
	       "%u\n",
	       4 * rounds(), failovers, checkpoints, refused);
	assert_true(failovers > 2 * rounds());
	/* Where the one that serves had repeated its SYN just before, and this one not.
	 */
	assert_true(refused <= rounds() / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clients_connection_outlives_failovers),
		cmocka_unit_test(a_guests_connection_outlives_failovers),
		cmocka_unit_test(that_was_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
