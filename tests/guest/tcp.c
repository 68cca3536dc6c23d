/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcp.c - a small TCP that only answers: port 7 echoes, 8 sends numbers, 9 swallows;
 * 9010 and 9011 are the fault harness'.
 *
 * Segments out of order are dropped and answered with a duplicate ACK; losses are
 * mended by going back to the oldest unacknowledged byte, on timeout or the third
 * duplicate ACK. When the peer has sent its FIN and has been sent everything, we send
 * ours. No SACK, window scaling or time stamps; the window is what the echo buffer has
 * room for.
 */
#include "tcp.h"

#include "clock.h"
#include "faults.h"
#include "memory.h"
#include "text.h"

#define CONNECTIONS 128
#define ECHO_SIZE 32768u
#define SEND_WINDOW 65535u
#define SEGMENT_BIG 61440u
#define MSS_DEFAULT 536
#define MSS_OURS 1460
#define HEADER 20
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define OPTION_MSS 2
#define RTO_FIRST_NS 200000000ul
#define RTO_MAX_NS 3000000000ul
#define RETRIES_MAX 100 /* five minutes, for clients that cannot be reached so long */

#define PORT_ECHO 7
#define PORT_NUMBERS 8
#define PORT_SINK 9
#define PORT_CHAIN FAULTS_PORT
#define PORT_HELD (FAULTS_PORT + 1)
#define CHAIN_RECORD 24u
#define HELD_RECORD 64u

enum state { FREE, SYN_RECEIVED, OPEN, LAST_ACK };

struct connection {
	enum state state;
	struct nic *nic;
	u8 mac[6];
	u32 peer;
	u16 port, peer_port;
	u32 first; /* sequence number of stream byte 0 */
	u32 unacked; /* oldest byte the peer has not acknowledged */
	u32 next; /* the next to send; goes back for a retransmission */
	u32 highest; /* one past the last ever sent */
	u32 expected; /* the next from the peer */
	u32 edge; /* of the window last told to the peer */
	u32 end; /* where our stream ends, once peer_done; our FIN's number */
	u64 position; /* in the stream, of `unacked` */
	u32 peer_window, mss;
	u32 duplicates, retries;
	u64 rto, rto_due;
	bool peer_done, fin_sent, ack_now;
	u32 buffered; /* echo, chain: bytes from `unacked` on that are in the ring */
	u8 *ring;
	u64 index, chain; /* chain: the next record, and all before it */
	struct {
		u64 token, bytes, records, chain;
		u64 record[HELD_RECORD / 8]; /* one that is not whole yet */
	} held;
};

static struct connection connections[CONNECTIONS];

static struct {
	u64 accepted, closed, reset_in, reset_out, retransmits, out_of_order, bytes_in,
		bytes_out, full, bad;
} count;

void tcp_init(void)
{
	for (u32 i = 0; i < CONNECTIONS; i++)
		connections[i].ring = memory_take(ECHO_SIZE);
}

static bool before(u32 a, u32 b)
{
	return (s32)(a - b) < 0;
}

static bool has_ring(const struct connection *c)
{
	return c->port == PORT_ECHO || c->port == PORT_CHAIN;
}

/* Bytes that we can take; each byte to the chain makes a record. */
static u32 room(const struct connection *c)
{
	u32 left = ECHO_SIZE - c->buffered;

	return c->port == PORT_CHAIN  ? left / CHAIN_RECORD
	       : c->port == PORT_ECHO ? left
				      : ECHO_SIZE;
}

static u32 min(u32 a, u32 b)
{
	return a < b ? a : b;
}

static void header(u8 *h, u16 from, u16 to, u32 seq, u32 ack, u32 size, u8 flags,
		   u16 win)
{
	memset(h, 0, HEADER);
	put16(h, from);
	put16(h + 2, to);
	put32(h + 4, seq);
	put32(h + 8, ack);
	h[12] = size / 4 << 4;
	h[13] = flags;
	put16(h + 14, win);
}

/* Stream bytes `offset`.. past `unacked` into `out`. */
static void stream_copy(struct connection *c, u32 offset, u8 *out, u32 n)
{
	u64 at = c->position + offset;

	if (has_ring(c)) {
		u32 start = at % ECHO_SIZE, part = min(n, ECHO_SIZE - start);

		memcpy(out, c->ring + start, part);
		memcpy(out + part, c->ring, n - part);
		return;
	}
	while (n && at % 8) {
		*out++ = at / 8 >> at % 8 * 8;
		at++;
		n--;
	}
	for (; n >= 8; n -= 8, out += 8, at += 8)
		*(u64 *)out = at / 8;
	for (; n; n--, at++)
		*out++ = at / 8 >> at % 8 * 8;
}

static bool send_segment(struct connection *c, u32 seq, u8 flags, u32 offset,
			 u32 length)
{
	u8 *out = net_begin(c->nic);
	u32 size = HEADER;

	if (!out)
		return false;
	if (flags & SYN)
		size += 4;
	header(out, c->port, c->peer_port, seq, c->expected, size, flags, room(c));
	if (flags & SYN) {
		out[HEADER] = OPTION_MSS;
		out[HEADER + 1] = 4;
		put16(out + HEADER + 2, MSS_OURS);
	}
	if (length)
		stream_copy(c, offset, out + size, length);
	net_send(c->nic, out, size + length, IP_TCP, c->mac, c->peer, 16,
		 length > c->mss ? c->mss : 0);
	c->ack_now = false;
	c->edge = c->expected + room(c);
	count.bytes_out += length;
	return true;
}

static void send_reset(const struct packet *p, u32 seq, u32 ack, u8 flags)
{
	u8 *out = net_begin(p->nic);

	if (!out)
		return;
	header(out, get16(p->data + 2), get16(p->data), seq, ack, HEADER, flags, 0);
	net_send(p->nic, out, HEADER, IP_TCP, p->mac, p->from, 16, 0);
	count.reset_out++;
}

/* Bytes of stream there are to send from `unacked` on. */
static u32 available(const struct connection *c)
{
	if (has_ring(c))
		return c->buffered;
	if (c->port != PORT_NUMBERS)
		return 0;
	if (!c->peer_done)
		return SEND_WINDOW;
	return before(c->unacked, c->end) ? c->end - c->unacked : 0;
}

static void arm(struct connection *c, u64 now)
{
	if (!c->rto_due)
		c->rto_due = now + c->rto;
}

/* True if it stopped for want of buffers only. */
static bool output(struct connection *c, u64 now)
{
	u32 biggest = c->nic->segment ? SEGMENT_BIG : c->mss;

	if (c->state == SYN_RECEIVED) {
		if (c->next == c->first - 1) {
			if (!send_segment(c, c->first - 1, SYN | ACK, 0, 0))
				return true;
			c->next = c->highest = c->first;
			arm(c, now);
		}
		return false;
	}
	while (c->state == OPEN) {
		u32 sent = c->next - c->unacked;
		u32 limit = min(available(c), min(c->peer_window, SEND_WINDOW));
		u32 n = limit > sent ? min(limit - sent, biggest) : 0;

		if (!n) {
			/* A closed window is probed by the timer. */
			if (available(c) > sent)
				arm(c, now);
			break;
		}
		/* Do not dribble: a part of a segment only if it is the last. */
		if (n < c->mss && sent && n < available(c) - sent)
			break;
		if (!send_segment(c, c->next, ACK | PSH, sent, n))
			return true;
		c->next += n;
		if (before(c->highest, c->next))
			c->highest = c->next;
		arm(c, now);
	}
	if (c->state == OPEN && c->peer_done && c->next - c->unacked == available(c)) {
		if (!send_segment(c, c->next, FIN | ACK, 0, 0))
			return true;
		c->end = c->next++;
		if (before(c->highest, c->next))
			c->highest = c->next;
		c->fin_sent = true;
		c->state = LAST_ACK;
		arm(c, now);
	}
	/* The peer may wait for room: tell it. */
	if (c->edge - c->expected < MSS_OURS && room(c) >= 2 * MSS_OURS)
		c->ack_now = true;
	if (c->ack_now)
		return !send_segment(c, c->next, ACK, 0, 0);
	return false;
}

static void go_back(struct connection *c)
{
	count.retransmits++;
	if (c->state == LAST_ACK)
		c->state = OPEN;
	c->next = c->state == SYN_RECEIVED ? c->first - 1 : c->unacked;
}

static void timeout(struct connection *c, u64 now)
{
	if (c->retries++ == RETRIES_MAX) {
		c->state = FREE;
		return;
	}
	c->rto = c->rto * 2 > RTO_MAX_NS ? RTO_MAX_NS : c->rto * 2;
	c->rto_due = 0;
	go_back(c);
	if (c->state == OPEN && !c->peer_window && available(c)) {
		/* Probe with one byte; it is not counted as sent until it is accepted.
		 */
		send_segment(c, c->unacked, ACK, 0, 1);
		if (before(c->highest, c->unacked + 1))
			c->highest = c->unacked + 1;
		c->retries = 0; /* a closed window may last */
		arm(c, now);
	}
}

static struct connection *find(const struct packet *p)
{
	for (u32 i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &connections[i];

		if (c->state != FREE && c->nic == p->nic && c->peer == p->from &&
		    c->peer_port == get16(p->data) && c->port == get16(p->data + 2))
			return c;
	}
	return NULL;
}

static u32 peer_mss(const u8 *tcp, u32 size)
{
	for (u32 at = HEADER; at + 1 < size && tcp[at];) {
		if (tcp[at] == 1) {
			at++;
			continue;
		}
		if (tcp[at + 1] < 2)
			break;
		if (tcp[at] == OPTION_MSS && at + 4 <= size &&
		    get16(tcp + at + 2) >= 64)
			return min(get16(tcp + at + 2), MSS_OURS);
		at += tcp[at + 1];
	}
	return MSS_DEFAULT;
}

static void accept(struct packet *p, u32 size)
{
	u16 port = get16(p->data + 2);
	struct connection *c = NULL;
	u64 seed;
	u8 *ring;

	for (u32 i = 0; i < CONNECTIONS && !c; i++)
		if (connections[i].state == FREE)
			c = &connections[i];
	if (!c || (port != PORT_ECHO && port != PORT_NUMBERS && port != PORT_SINK &&
		   port != PORT_CHAIN && port != PORT_HELD)) {
		count.full += !c;
		send_reset(p, 0, get32(p->data + 4) + 1, RST | ACK);
		return;
	}
	ring = c->ring;
	*c = (struct connection){ .state = SYN_RECEIVED, .nic = p->nic, .ring = ring };
	memcpy(c->mac, p->mac, 6);
	c->peer = p->from;
	c->peer_port = get16(p->data);
	c->port = port;
	seed = mix64((u64)c->peer << 32 | (u32)c->peer_port << 16 | port);
	if (!option_flag("isn"))
		seed = mix64(seed ^ rdtsc());
	c->first = (u32)seed + 1;
	c->unacked = c->next = c->first - 1;
	c->highest = c->first;
	c->expected = get32(p->data + 4) + 1;
	c->peer_window = get16(p->data + 14);
	c->mss = peer_mss(p->data, size);
	c->rto = RTO_FIRST_NS;
	count.accepted++;
}

/* False if the acknowledgement is of something never sent. */
static bool acknowledge(struct connection *c, const struct packet *p, u32 length)
{
	u32 ack = get32(p->data + 8), window = get16(p->data + 14), n;

	if (before(c->highest, ack)) {
		c->ack_now = true;
		return false;
	}
	if (c->state == SYN_RECEIVED && ack == c->first) {
		c->state = OPEN;
		c->unacked = c->next = c->first;
		c->retries = 0;
		c->rto = RTO_FIRST_NS;
		c->rto_due = 0;
	} else if (before(c->unacked, ack)) {
		n = ack - c->unacked;
		c->unacked = ack;
		if (before(c->next, ack))
			c->next = ack;
		if (has_ring(c))
			c->buffered -= min(n, c->buffered); /* a FIN counts one more */
		c->position += n;
		c->duplicates = c->retries = 0;
		c->rto = RTO_FIRST_NS;
		c->rto_due = 0;
		if (c->next != c->unacked)
			arm(c, clock_ns());
	} else if (ack == c->unacked && !length && window == c->peer_window &&
		   c->next != c->unacked && ++c->duplicates == 3) {
		go_back(c);
	}
	if (!c->peer_window && window)
		c->rto_due = 0;
	c->peer_window = window;
	if (c->fin_sent && c->unacked == c->end + 1) {
		c->state = FREE;
		count.closed++;
	}
	return true;
}

static void ring_put(struct connection *c, const void *data, u32 length)
{
	u32 at = (c->position + c->buffered) % ECHO_SIZE;
	u32 part = min(length, ECHO_SIZE - at);

	memcpy(c->ring + at, data, part);
	memcpy(c->ring, (const u8 *)data + part, length - part);
	c->buffered += length;
}

/* A record for each byte; a byte 1 wants one that two copies of us make differently. */
static void chain_on(struct connection *c, const u8 *data, u32 length)
{
	for (u32 i = 0; i < length; i++) {
		u64 value = data[i] ? rdtsc() : mix64(c->index);
		u64 record[3] = { c->index, value };

		c->chain = mix64(mix64(c->chain ^ c->index) ^ value);
		record[2] = c->chain;
		c->index++;
		ring_put(c, record, sizeof(record));
	}
}

static void hold(struct connection *c, const u8 *data, u32 length)
{
	u8 *record = (u8 *)c->held.record;

	for (u32 i = 0; i < length; i++) {
		u32 at = c->held.bytes % HELD_RECORD;

		record[at] = data[i];
		c->held.bytes++;
		if (c->held.bytes == 8)
			c->held.token = c->held.record[0];
		if (at < HELD_RECORD - 1)
			continue;
		for (u32 w = 0; w < HELD_RECORD / 8; w++)
			c->held.chain = mix64(c->held.chain ^ c->held.record[w]);
		c->held.records++;
	}
}

void tcp_held(u64 token, u64 *bytes, u64 *records, u64 *chain)
{
	*bytes = *records = *chain = 0;
	for (u32 i = 0; i < CONNECTIONS; i++) {
		const struct connection *c = &connections[i];

		if (c->port != PORT_HELD || c->held.token != token)
			continue;
		*bytes = c->held.bytes;
		*records = c->held.records;
		*chain = c->held.chain;
	}
}

static void take_data(struct connection *c, const u8 *data, u32 length)
{
	count.bytes_in += length;
	if (c->port == PORT_ECHO)
		ring_put(c, data, length);
	else if (c->port == PORT_CHAIN)
		chain_on(c, data, length);
	else if (c->port == PORT_HELD)
		hold(c, data, length);
	c->expected += length;
}

void tcp_receive(struct packet *p)
{
	u32 size, length, seq, skip;
	struct connection *c;
	u8 flags, *data;

	if (p->length < HEADER)
		return;
	size = (p->data[12] >> 4) * 4;
	if (size < HEADER || size > p->length)
		return;
	if (!net_checksum_good(p, IP_TCP)) {
		count.bad++;
		p->nic->bad_checksum++;
		return;
	}
	flags = p->data[13];
	seq = get32(p->data + 4);
	data = p->data + size;
	length = p->length - size;
	c = find(p);
	if (!c) {
		if ((flags & (SYN | ACK | RST)) == SYN)
			accept(p, size);
		else if (!(flags & RST))
			send_reset(p, flags & ACK ? get32(p->data + 8) : 0,
				   seq + length + !!(flags & (SYN | FIN)),
				   flags & ACK ? RST : RST | ACK);
		return;
	}
	memcpy(c->mac, p->mac, 6);
	if (flags & RST) {
		if (seq - c->expected < ECHO_SIZE) {
			c->state = FREE;
			count.reset_in++;
		}
		return;
	}
	if (flags & SYN) { /* a repeated one: answer again; any other is stale */
		if (c->state == SYN_RECEIVED)
			c->next = c->first - 1;
		else
			c->ack_now = true;
		return;
	}
	if (!(flags & ACK) || !acknowledge(c, p, length) || c->state == FREE)
		return;
	skip = c->expected - seq; /* bytes that we have already */
	if (length || (flags & FIN))
		c->ack_now = true;
	if ((s32)skip < 0) {
		count.out_of_order++;
		return;
	}
	if (skip > length || c->state == SYN_RECEIVED || c->peer_done)
		return;
	data += skip;
	length -= skip;
	if (length > room(c)) {
		length = room(c);
		flags &= ~FIN;
	}
	take_data(c, data, length);
	if (flags & FIN) {
		c->expected++;
		c->peer_done = true;
		c->end =
			c->highest; /* the stream of numbers ends where it has got to */
	}
}

u64 tcp_poll(u64 now)
{
	u64 due = NEVER;

	for (u32 i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &connections[i];

		if (c->state == FREE)
			continue;
		if (c->rto_due && now >= c->rto_due)
			timeout(c, now);
		if (c->state == FREE)
			continue;
		if (output(c, now) && now + 1000000 < due)
			due = now + 1000000; /* no buffer: soon again */
		if (c->rto_due && c->rto_due < due)
			due = c->rto_due;
	}
	return due;
}

void tcp_report(char *out, u32 size)
{
	u32 open = 0;

	for (u32 i = 0; i < CONNECTIONS; i++)
		open += connections[i].state != FREE;
	format(out, size,
	       "ok open=%u accepted=%lu closed=%lu reset_in=%lu reset_out=%lu "
	       "retransmits=%lu out_of_order=%lu bytes_in=%lu bytes_out=%lu full=%lu "
	       "bad_checksum=%lu",
	       open, count.accepted, count.closed, count.reset_in, count.reset_out,
	       count.retransmits, count.out_of_order, count.bytes_in, count.bytes_out,
	       count.full, count.bad);
}
