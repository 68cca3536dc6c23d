// SPDX-License-Identifier: GPL-2.0-or-later
/* relay: a cable that can be bad, for kernels without sch_netem.
 *
 * usage: relay DEVICE-A DEVICE-B SEED
 *
 * Hands every frame that comes in at one device on to the other, both ways, with what
 * their offloads left to be done, until standard input ends. Each line there is an
 *order, answered by a line, "ok" or "error: why":
 *
 *	out MAC key=value...	how frames from A to B for that address fare from now on
 *	in MAC key=value...	and those from B to A that have it as their source
 *	clear			all are well again; what is on its way still comes
 *
 * Keys, each zero where it is left out: delay (ms), jitter (ms, either way of the
 *delay, frames overtake each other), rate (kbit/s, with a queue of QUEUE_BYTES), and,
 *as probabilities for each frame: loss, duplicate, reorder (held back for REORDER_MS
 *beyond its delay), corrupt (a bit is another one, and the checksum tells), forge (a
 *bit is another one, and no checksum tells: only who authenticates notices).
 *
 * One thread. What both devices lose while they are down is lost as on any cable. */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	FRAME_MAX = sizeof(struct virtio_net_hdr) + ETH_HLEN + 65536,
	QUEUE_BYTES = 128 << 10,
	REORDER_MS = 5,
	RULES_MAX = 8,
	BATCH = 64,
	SOCKET_BYTES = 16 << 20,
};
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum way { OUT, IN, WAYS };

/* How frames of one way fare that have an address. */
struct rule {
	guint8 mac[ETH_ALEN];
	double delay, jitter, rate;
	double loss, duplicate, reorder, corrupt, forge;
	gint64 free_at_ns; /* when the line has said all that it was given */
};

static const struct key {
	const char *name;
	gsize at;
	double max;
} keys[] = {
	{ "delay", offsetof(struct rule, delay), 60000 },
	{ "jitter", offsetof(struct rule, jitter), 60000 },
	{ "rate", offsetof(struct rule, rate), 1e9 },
	{ "loss", offsetof(struct rule, loss), 1 },
	{ "duplicate", offsetof(struct rule, duplicate), 1 },
	{ "reorder", offsetof(struct rule, reorder), 1 },
	{ "corrupt", offsetof(struct rule, corrupt), 1 },
	{ "forge", offsetof(struct rule, forge), 1 },
};

struct frame {
	gint64 due_ns;
	guint64 number; /* of two that are due at once the first one goes first */
	enum way way;
	gsize len;
	guint8 bytes[];
};

struct relay {
	int from[WAYS]; /* out comes from A */
	struct rule rules[WAYS][RULES_MAX];
	guint count[WAYS];
	GSequence *waiting; /* frames, the next one first */
	guint64 frames;
	GRand *random;
};

static gint64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * G_GINT64_CONSTANT(1000000000) + now.tv_nsec;
}

static gboolean happens(struct relay *relay, double probability)
{
	return probability > 0 && g_rand_double(relay->random) < probability;
}

static int open_device(const char *name)
{
	const int on = 1, size = SOCKET_BYTES;
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || !address.sll_ifindex ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address))) {
		fprintf(stderr, "relay: open device %s: %s\n", name, strerror(errno));
		exit(1);
	}
	return fd;
}

/* Frames. */

static void send_frame(struct relay *relay, enum way way, const guint8 *bytes,
		       gsize len)
{
	/* What a device that is down or full does not take is lost. */
	while (send(relay->from[!way], bytes, len, 0) < 0 && errno == EINTR)
		;
}

static gint compare(gconstpointer a, gconstpointer b, gpointer nothing)
{
	const struct frame *x = a, *y = b;

	if (x->due_ns != y->due_ns)
		return x->due_ns < y->due_ns ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static void hold(struct relay *relay, enum way way, const guint8 *bytes, gsize len,
		 gint64 due_ns)
{
	struct frame *frame = g_malloc(sizeof(*frame) + len);

	*frame = (struct frame){
		.due_ns = due_ns, .number = relay->frames++, .way = way, .len = len
	};
	memcpy(frame->bytes, bytes, len);
	g_sequence_insert_sorted(relay->waiting, frame, compare, NULL);
}

/* Does what the sender's device was to do; FALSE where it was more than a sum. */
static gboolean finish_checksum(guint8 *bytes, gsize len)
{
	struct virtio_net_hdr head;
	const gsize begin = sizeof(head);
	guint32 sum = 0;

	memcpy(&head, bytes, sizeof(head));
	if (head.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return FALSE;
	if (!(head.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return TRUE;
	if (begin + head.csum_start + head.csum_offset + 2 > len)
		return FALSE;
	/* The field holds the pseudo header's sum, which belongs to it. */
	for (gsize i = begin + head.csum_start; i < len; i++)
		sum += (i - begin - head.csum_start) % 2 ? bytes[i]
							 : (guint32)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	if (!sum)
		sum = 0xffff;
	bytes[begin + head.csum_start + head.csum_offset] = (guint8)(sum >> 8);
	bytes[begin + head.csum_start + head.csum_offset + 1] = (guint8)sum;
	memset(bytes, 0, sizeof(head));
	return TRUE;
}

static void flip(struct relay *relay, guint8 *bytes, gsize len)
{
	const gsize first = sizeof(struct virtio_net_hdr) + ETH_HLEN;
	const gint32 at = g_rand_int_range(relay->random, 0, (gint32)(len - first) * 8);

	bytes[first + (gsize)at / 8] ^= (guint8)(1 << at % 8);
}

static void meet(struct relay *relay, struct rule *rule, enum way way, guint8 *bytes,
		 gsize len)
{
	const gint64 now = now_ns();
	double delay_ms = rule->delay;
	gint64 due_ns = now;

	if (happens(relay, rule->loss))
		return;
	if (happens(relay, rule->corrupt)) {
		/* Many frames in one: only who makes them could spoil one of them. */
		if (!finish_checksum(bytes, len))
			return;
		flip(relay, bytes, len);
	}
	if (happens(relay, rule->forge))
		flip(relay, bytes, len);
	if (rule->rate > 0) {
		const double ns_a_byte = 8e6 / rule->rate;
		const gint64 begin = MAX(now, rule->free_at_ns);

		if ((double)(begin - now) > QUEUE_BYTES * ns_a_byte)
			return;
		rule->free_at_ns = begin + (gint64)((double)len * ns_a_byte);
		due_ns = rule->free_at_ns;
	}
	if (rule->jitter > 0)
		delay_ms += rule->jitter * (2 * g_rand_double(relay->random) - 1);
	if (happens(relay, rule->reorder))
		delay_ms += REORDER_MS;
	due_ns += (gint64)(MAX(delay_ms, 0) * 1e6);
	if (happens(relay, rule->duplicate))
		hold(relay, way, bytes, len, due_ns);
	hold(relay, way, bytes, len, due_ns);
}

static void hand_on(struct relay *relay, enum way way, guint8 *bytes, gsize len)
{
	const guint8 *ethernet = bytes + sizeof(struct virtio_net_hdr);
	const guint8 *mac = way == OUT ? ethernet : ethernet + ETH_ALEN;

	for (guint i = 0; i < relay->count[way]; i++)
		if (!memcmp(relay->rules[way][i].mac, mac, ETH_ALEN)) {
			meet(relay, &relay->rules[way][i], way, bytes, len);
			return;
		}
	send_frame(relay, way, bytes, len);
}

static void receive(struct relay *relay, enum way way)
{
	static guint8 bytes[FRAME_MAX];

	for (int i = 0; i < BATCH; i++) {
		const ssize_t len = recv(relay->from[way], bytes, sizeof(bytes), 0);

		if (len < 0)
			return; /* nothing there, or the device is down */
		if ((gsize)len > sizeof(struct virtio_net_hdr) + ETH_HLEN)
			hand_on(relay, way, bytes, (gsize)len);
	}
}

static void send_due(struct relay *relay)
{
	GSequenceIter *first;

	while (first = g_sequence_get_begin_iter(relay->waiting),
	       !g_sequence_iter_is_end(first)) {
		const struct frame *frame = g_sequence_get(first);

		if (frame->due_ns > now_ns())
			return;
		send_frame(relay, frame->way, frame->bytes, frame->len);
		g_sequence_remove(first);
	}
}

/* How long until the next frame is due; NULL: none is. */
static struct timespec *until_due(struct relay *relay, struct timespec *time)
{
	GSequenceIter *first = g_sequence_get_begin_iter(relay->waiting);
	const struct frame *frame;
	gint64 left;

	if (g_sequence_iter_is_end(first))
		return NULL;
	frame = g_sequence_get(first);
	left = frame->due_ns - now_ns();
	left = MAX(left, 0); /* which looks twice */
	*time = (struct timespec){ left / 1000000000, left % 1000000000 };
	return time;
}

/* Orders. */

static gboolean read_mac(const char *text, guint8 *mac)
{
	unsigned byte[ETH_ALEN];

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &byte[0], &byte[1], &byte[2],
		   &byte[3], &byte[4], &byte[5]) != ETH_ALEN)
		return FALSE;
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = (guint8)byte[i];
	return TRUE;
}

static gboolean read_value(const char *word, struct rule *rule)
{
	for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
		const gsize len = strlen(keys[i].name);
		char *end;
		double value;

		if (strncmp(word, keys[i].name, len) || word[len] != '=')
			continue;
		value = g_ascii_strtod(word + len + 1, &end);
		if (end == word + len + 1 || *end ||
		    !(value >= 0 && value <= keys[i].max))
			return FALSE;
		*(double *)(void *)((char *)rule + keys[i].at) = value;
		return TRUE;
	}
	return FALSE;
}

/* NULL, or what is wrong with it. */
static const char *obey(struct relay *relay, const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	const guint count = g_strv_length(words);
	struct rule rule = { 0 };
	enum way way;
	guint i;

	if (count == 1 && !strcmp(words[0], "clear")) {
		relay->count[IN] = relay->count[OUT] = 0;
		return NULL;
	}
	if (count < 2 || (strcmp(words[0], "in") && strcmp(words[0], "out")))
		return "no such order";
	way = strcmp(words[0], "in") ? OUT : IN;
	if (!read_mac(words[1], rule.mac))
		return "no such address";
	for (guint word = 2; word < count; word++)
		if (!read_value(words[word], &rule))
			return "no such key, or a value out of bounds";
	for (i = 0; i < relay->count[way]; i++)
		if (!memcmp(relay->rules[way][i].mac, rule.mac, ETH_ALEN))
			break;
	if (i == RULES_MAX)
		return "too many addresses";
	relay->rules[way][i] = rule;
	relay->count[way] = MAX(relay->count[way], i + 1);
	return NULL;
}

/* FALSE at the end of standard input. */
static gboolean take_orders(struct relay *relay, GString *text)
{
	char piece[4096], *end;
	const ssize_t len = read(STDIN_FILENO, piece, sizeof(piece));

	if (len <= 0)
		return len < 0 && errno == EINTR;
	g_string_append_len(text, piece, len);
	while ((end = memchr(text->str, '\n', text->len))) {
		const char *wrong;

		*end = '\0';
		wrong = obey(relay, text->str);
		printf(wrong ? "error: %s\n" : "ok\n", wrong);
		fflush(stdout);
		g_string_erase(text, 0, end - text->str + 1);
	}
	return TRUE;
}

int main(int argc, char **argv)
{
	struct relay relay = { 0 };
	g_autoptr(GString) text = g_string_new(NULL);
	struct pollfd polls[3];

	if (argc != 4) {
		fprintf(stderr, "usage: relay DEVICE-A DEVICE-B SEED\n");
		return 2;
	}
	relay.from[OUT] = open_device(argv[1]);
	relay.from[IN] = open_device(argv[2]);
	relay.waiting = g_sequence_new(g_free);
	relay.random =
		g_rand_new_with_seed((guint32)g_ascii_strtoull(argv[3], NULL, 10));
	polls[0] = (struct pollfd){ STDIN_FILENO, POLLIN, 0 };
	polls[1] = (struct pollfd){ relay.from[OUT], POLLIN, 0 };
	polls[2] = (struct pollfd){ relay.from[IN], POLLIN, 0 };
	for (;;) {
		struct timespec time;

		if (ppoll(polls, G_N_ELEMENTS(polls), until_due(&relay, &time), NULL) <
			    0 &&
		    errno != EINTR)
			return 1;
		if (polls[0].revents && !take_orders(&relay, text))
			return 0;
		for (enum way way = OUT; way < WAYS; way++)
			receive(&relay, way);
		send_due(&relay);
	}
}
