/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two captures compared, flow by flow, each with a comparison of its own. */
#include "netcompare/replay.h"

#include <arpa/inet.h>
#include <gio/gio.h>
#include <netinet/in.h>
#include <string.h>

#include "netcompare/capture.h"
#include "netcompare/replay_private.h"

#define SIDES NCMP_REPLAY_SIDES
#define PRIMARY NCMP_REPLAY_PRIMARY
#define SECONDARY NCMP_REPLAY_SECONDARY

#define EPOCH 1u
#define DEVICE 0u
#define MAC_LEN 6u
#define UDP_LEN 8u
#define TICKS 16u
#define TICK_NS (10 * G_GINT64_CONSTANT(1000000000))
/* A flow may come whole from one side before anything of it comes from the other. */
#define MEMORY_MAX (2 * NCMP_REPLAY_BYTES_MAX)

struct frame {
	guint64 number;
	gint64 time_ns; /* since the capture's first */
	guint8 *bytes;
	gsize len;
};

/* What is sent in one direction between two ends. */
struct flow {
	struct ncmp_flow_key key; /* zeros: what cannot be compared */
	GPtrArray *frames[SIDES]; /* struct frame, the captures' */
};

/* Whose packets are compared. */
struct guest {
	enum { ANYONE, BY_MAC, BY_IP } kind;
	gsize len;
	guint8 address[16];
};

/* The comparison of one flow. */
struct judgement {
	const struct flow *flow;
	struct ncmp_finding finding;
	gboolean found;
};

static void free_frame(gpointer data)
{
	struct frame *frame = data;

	g_free(frame->bytes);
	g_free(frame);
}

static void free_flow(gpointer data)
{
	struct flow *flow = data;

	for (guint side = 0; side < SIDES; side++)
		g_ptr_array_unref(flow->frames[side]);
	g_free(flow);
}

static gboolean guest_parse(struct guest *guest, const char *text, GError **error)
{
	guint mac[MAC_LEN];
	int end = 0;

	if (inet_pton(AF_INET, text, guest->address) == 1) {
		guest->kind = BY_IP;
		guest->len = 4;
		return TRUE;
	}
	if (inet_pton(AF_INET6, text, guest->address) == 1) {
		guest->kind = BY_IP;
		guest->len = 16;
		return TRUE;
	}
	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &end) == MAC_LEN &&
	    !text[end]) {
		guest->kind = BY_MAC;
		guest->len = MAC_LEN;
		for (guint i = 0; i < MAC_LEN; i++)
			guest->address[i] = (guint8)mac[i];
		return TRUE;
	}
	g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
		    "guest '%s': neither a MAC nor an IP address", text);
	return FALSE;
}

static char *guest_name(const struct guest *guest)
{
	const guint8 *mac = guest->address;
	char text[INET6_ADDRSTRLEN];

	switch (guest->kind) {
	case BY_MAC:
		return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
				       mac[2], mac[3], mac[4], mac[5]);
	case BY_IP:
		return g_strdup(inet_ntop(guest->len == 4 ? AF_INET : AF_INET6,
					  guest->address, text, sizeof(text)));
	default:
		return NULL;
	}
}

static gboolean is_guests(const struct guest *guest, const struct frame *frame,
			  const struct ncmp_packet *packet)
{
	switch (guest->kind) {
	case BY_MAC:
		return frame->len >= 2 * MAC_LEN &&
		       !memcmp(frame->bytes + MAC_LEN, guest->address, MAC_LEN);
	case BY_IP:
		/* What has no address may be its. */
		return !packet->key.family ||
		       (packet->key.family == (guest->len == 4 ? 4 : 6) &&
			!memcmp(packet->key.source, guest->address, guest->len));
	default:
		return TRUE;
	}
}

static GPtrArray *read_frames(const char *path, guint64 *left, gboolean *ethernet,
			      GError **error)
{
	g_autoptr(ncmp_capture) capture = ncmp_capture_open(path, error);
	g_autoptr(GPtrArray) frames = g_ptr_array_new_with_free_func(free_frame);
	struct ncmp_captured packet;
	enum ncmp_capture_read result;
	gint64 first_ns = 0;

	if (!capture)
		return NULL;
	*ethernet = ncmp_capture_is_ethernet(capture);
	while ((result = ncmp_capture_next(capture, &packet, error)) ==
	       NCMP_CAPTURE_PACKET) {
		struct frame *frame;

		if (packet.len > *left) {
			g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
				    "%s: the captures are larger than %u MiB", path,
				    (guint)(NCMP_REPLAY_BYTES_MAX >> 20));
			return NULL;
		}
		*left -= packet.len;
		if (!frames->len)
			first_ns = packet.time_ns;
		frame = g_new(struct frame, 1);
		*frame = (struct frame){ packet.number, packet.time_ns - first_ns,
					 g_malloc(packet.len + 1), packet.len };
		memcpy(frame->bytes, packet.frame, packet.len);
		g_ptr_array_add(frames, frame);
	}
	return result == NCMP_CAPTURE_END ? g_steal_pointer(&frames) : NULL;
}

/* Who sent the first SYN-ACK. */
static void find_guest(struct guest *guest, const GPtrArray *frames, gboolean ethernet)
{
	for (guint i = 0; i < frames->len; i++) {
		const struct frame *frame = frames->pdata[i];
		guint8 both = NCMP_TCP_SYN | NCMP_TCP_ACK;
		struct ncmp_packet packet;

		ncmp_packet_parse_frame(&packet, frame->bytes, frame->len, DEVICE);
		if (packet.kind != NCMP_KIND_TCP || (packet.flags & both) != both)
			continue;
		guest->kind = ethernet ? BY_MAC : BY_IP;
		guest->len = ethernet ? MAC_LEN : packet.key.family == 4 ? 4 : 16;
		memcpy(guest->address,
		       ethernet ? frame->bytes + MAC_LEN : packet.key.source,
		       guest->len);
		return;
	}
}

/* Sorts the guest's packets of one side into flows; returns how many there are. */
static guint64 sort_frames(GHashTable *table, GPtrArray *flows, const GPtrArray *frames,
			   guint side, const struct guest *guest)
{
	guint64 count = 0;

	for (guint i = 0; i < frames->len; i++) {
		struct frame *frame = frames->pdata[i];
		struct ncmp_packet packet;
		g_autoptr(GBytes) key = NULL;
		struct flow *flow;

		ncmp_packet_parse_frame(&packet, frame->bytes, frame->len, DEVICE);
		if (packet.kind == NCMP_KIND_PASS || !is_guests(guest, frame, &packet))
			continue;
		if (packet.kind == NCMP_KIND_OPAQUE ||
		    packet.kind == NCMP_KIND_MALFORMED)
			memset(&packet.key, 0, sizeof(packet.key));
		key = g_bytes_new(&packet.key, sizeof(packet.key));
		flow = g_hash_table_lookup(table, key);
		if (!flow) {
			flow = g_new0(struct flow, 1);
			flow->key = packet.key;
			for (guint j = 0; j < SIDES; j++)
				flow->frames[j] = g_ptr_array_new();
			g_hash_table_insert(table, g_bytes_ref(key), flow);
			g_ptr_array_add(flows, flow);
		}
		g_ptr_array_add(flow->frames[side], frame);
		count++;
	}
	return count;
}

static void ignore_release(void *data, guint32 id, const guint8 *changed, gsize len)
{
}

static void ignore_drop(void *data, guint32 id)
{
}

static void show(struct ncmp_finding *finding, guint side, const struct frame *frame,
		 const guint8 *bytes, gsize len)
{
	finding->number[side] = frame->number;
	finding->shown_len[side] = MIN(len, NCMP_REPLAY_SHOWN);
	if (len)
		memcpy(finding->shown[side], bytes, finding->shown_len[side]);
}

/* The packet of this side that has the position; positions begin with a connection's
 * SYN, or with what the primary sent first (it has the same numbers then). */
static void find_position(struct judgement *judgement, guint side)
{
	const GPtrArray *frames = judgement->flow->frames[side];
	guint64 position = judgement->finding.position;
	gboolean based = FALSE;
	guint32 base = 0;

	for (guint i = 0; i < frames->len; i++) {
		const struct frame *frame = frames->pdata[i];
		struct ncmp_packet packet;
		guint32 from, syn;

		ncmp_packet_parse_frame(&packet, frame->bytes, frame->len, DEVICE);
		syn = !!(packet.flags & NCMP_TCP_SYN);
		if (!based || syn)
			base = packet.seq;
		based = TRUE;
		from = packet.seq - base;
		if ((guint32)position - from >= MAX(ncmp_packet_tcp_length(&packet), 1))
			continue;
		from = (guint32)position - from;
		from = from > syn ? from - syn : 0;
		from = (guint32)MIN(from, packet.payload_len);
		show(&judgement->finding, side, frame,
		     packet.bytes + packet.payload + from, packet.payload_len - from);
		return;
	}
}

/* The packet whose bytes these are, or contain them; NULL: none. */
static const struct frame *find_bytes(const GPtrArray *frames, const guint8 *bytes,
				      gsize len)
{
	for (guint i = 0; bytes && i < frames->len; i++) {
		const struct frame *frame = frames->pdata[i];

		if (memmem(frame->bytes, frame->len, bytes, len))
			return frame;
	}
	return NULL;
}

/* What a datagram says, behind the header of UDP. */
static const guint8 *said(const struct frame *frame, gsize *len)
{
	struct ncmp_packet packet;
	gsize header;

	ncmp_packet_parse_frame(&packet, frame->bytes, frame->len, DEVICE);
	header = packet.key.protocol == IPPROTO_UDP && packet.payload_len >= UDP_LEN
			 ? UDP_LEN
			 : 0;
	*len = packet.payload_len - header;
	return packet.bytes + packet.payload + header;
}

/* The secondary's first datagram that the primary has none like; NULL: it has all. */
static const struct frame *find_missing(const struct flow *flow)
{
	g_autoptr(GHashTable) ours = g_hash_table_new_full(
		g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
	const guint8 *bytes;
	gsize len;

	for (guint i = 0; i < flow->frames[PRIMARY]->len; i++) {
		bytes = said(flow->frames[PRIMARY]->pdata[i], &len);
		g_hash_table_add(ours, g_bytes_new_static(bytes, len));
	}
	for (guint i = 0; i < flow->frames[SECONDARY]->len; i++) {
		const struct frame *frame = flow->frames[SECONDARY]->pdata[i];
		g_autoptr(GBytes) theirs = NULL;

		bytes = said(frame, &len);
		theirs = g_bytes_new_static(bytes, len);
		if (!g_hash_table_contains(ours, theirs))
			return frame;
	}
	return NULL;
}

/* Datagrams have no positions: what differs is found in the two packets. */
static void compare_datagrams(struct ncmp_finding *finding,
			      const struct frame *const frames[SIDES])
{
	const guint8 *bytes[SIDES] = { NULL };
	gsize len[SIDES] = { 0 }, same = 0;

	for (guint side = 0; side < SIDES; side++)
		if (frames[side])
			bytes[side] = said(frames[side], &len[side]);
	while (same < MIN(len[PRIMARY], len[SECONDARY]) &&
	       bytes[PRIMARY][same] == bytes[SECONDARY][same])
		same++;
	finding->position = same;
	for (guint side = 0; side < SIDES; side++)
		if (frames[side])
			show(finding, side, frames[side], bytes[side] + same,
			     len[side] - same);
}

static void take_finding(void *data, const struct ncmp_divergence *divergence)
{
	struct judgement *judgement = data;
	struct ncmp_finding *finding = &judgement->finding;
	const struct frame *frames[SIDES] = {
		find_bytes(judgement->flow->frames[PRIMARY], divergence->primary,
			   divergence->primary_len),
		find_bytes(judgement->flow->frames[SECONDARY], divergence->secondary,
			   divergence->secondary_len),
	};

	judgement->found = TRUE;
	finding->key = judgement->flow->key;
	finding->cause = divergence->cause;
	finding->position = divergence->position;
	if (finding->key.protocol == IPPROTO_TCP && finding->key.family) {
		find_position(judgement, PRIMARY);
		find_position(judgement, SECONDARY);
		return;
	}
	if (!frames[SECONDARY])
		frames[SECONDARY] = find_missing(judgement->flow);
	/* What came instead of it is there: that is the better reason. */
	if (finding->cause == NCMP_CAUSE_LATE && frames[SECONDARY])
		finding->cause = NCMP_CAUSE_PAYLOAD;
	/* Of what cannot be compared, the first. */
	if (!finding->key.family && judgement->flow->frames[PRIMARY]->len)
		frames[PRIMARY] = judgement->flow->frames[PRIMARY]->pdata[0];
	compare_datagrams(finding, frames);
}

static void feed_primary(ncmp_compare *compare, const struct frame *frame)
{
	gsize at = 14;
	struct ncmp_arrival arrival = {
		.id = (guint32)frame->number,
		.device = DEVICE,
	};

	if (frame->len < at)
		return;
	arrival.ethertype = (guint16)(frame->bytes[12] << 8 | frame->bytes[13]);
	if ((arrival.ethertype == 0x8100 || arrival.ethertype == 0x88a8) &&
	    frame->len >= at + 4) {
		arrival.vlan = (guint16)(frame->bytes[14] << 8 | frame->bytes[15]);
		arrival.ethertype = (guint16)(frame->bytes[16] << 8 | frame->bytes[17]);
		at += 4;
	}
	arrival.bytes = frame->bytes + at;
	arrival.len = frame->len - at;
	ncmp_compare_primary(compare, &arrival, 0);
}

/* In the order of the captures' own times, which is about how they came; but all at
 * once, so that nothing is late that comes at all. */
static void feed(ncmp_compare *compare, const struct judgement *judgement)
{
	GPtrArray *const *frames = judgement->flow->frames;
	guint next[SIDES] = { 0 };

	while (!judgement->found) {
		const struct frame *first = NULL;
		guint from = PRIMARY;

		for (guint side = 0; side < SIDES; side++) {
			const struct frame *frame;

			if (next[side] == frames[side]->len)
				continue;
			frame = frames[side]->pdata[next[side]];
			if (!first || frame->time_ns < first->time_ns) {
				first = frame;
				from = side;
			}
		}
		if (!first)
			return;
		next[from]++;
		if (from == PRIMARY)
			feed_primary(compare, first);
		else
			ncmp_compare_secondary(compare, EPOCH, DEVICE, first->bytes,
					       first->len, 0);
	}
}

static gboolean judge(const struct flow *flow, struct ncmp_finding *finding)
{
	struct judgement judgement = { .flow = flow };
	const struct ncmp_compare_options options = {
		.memory_max = MEMORY_MAX,
		.flow_memory_max = MEMORY_MAX,
		.flows_max = 1,
		.held_max = flow->frames[PRIMARY]->len + 1,
	};
	const struct ncmp_compare_hooks hooks = {
		&judgement,
		ignore_release,
		ignore_drop,
		take_finding,
	};
	g_autoptr(ncmp_compare) compare = ncmp_compare_new(&options, &hooks);

	ncmp_compare_set_gate(compare, NCMP_GATE_GUARDED);
	ncmp_compare_marker(compare, EPOCH, 0);
	ncmp_compare_cut(compare, EPOCH, TRUE);
	ncmp_compare_committed(compare, EPOCH, 0);
	feed(compare, &judgement);
	/* No more comes: whatever still waits, waits too long. */
	for (guint i = 1; i <= TICKS && !judgement.found; i++)
		ncmp_compare_tick(compare, i * TICK_NS);
	*finding = judgement.finding;
	return judgement.found;
}

enum ncmp_replay_result ncmp_replay(const struct ncmp_replay_options *options,
				    FILE *out, GError **error)
{
	const char *paths[SIDES] = { options->primary, options->secondary };
	g_autoptr(GPtrArray) flows = g_ptr_array_new();
	g_autoptr(GHashTable) table = g_hash_table_new_full(
		g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, free_flow);
	g_autoptr(GPtrArray) primary = NULL;
	g_autoptr(GPtrArray) secondary = NULL;
	g_autoptr(GArray) differences =
		g_array_new(FALSE, FALSE, sizeof(struct ncmp_finding));
	struct ncmp_findings findings = { .differences = differences };
	guint64 left = NCMP_REPLAY_BYTES_MAX;
	struct guest guest = { 0 };
	gboolean ethernet, other_ethernet;

	if (options->guest && !guest_parse(&guest, options->guest, error))
		return NCMP_REPLAY_UNUSABLE;
	primary = read_frames(paths[PRIMARY], &left, &ethernet, error);
	if (!primary)
		return NCMP_REPLAY_UNUSABLE;
	secondary = read_frames(paths[SECONDARY], &left, &other_ethernet, error);
	if (!secondary)
		return NCMP_REPLAY_UNUSABLE;
	if (guest.kind == ANYONE)
		find_guest(&guest, primary, ethernet && other_ethernet);
	if (guest.kind == BY_MAC && !(ethernet && other_ethernet)) {
		g_set_error(
			error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
			"guest '%s': there are no MAC addresses in a capture of bare "
			"IP",
			options->guest);
		return NCMP_REPLAY_UNUSABLE;
	}
	findings.packets[PRIMARY] = sort_frames(table, flows, primary, PRIMARY, &guest);
	findings.packets[SECONDARY] =
		sort_frames(table, flows, secondary, SECONDARY, &guest);
	if (!findings.packets[PRIMARY] && !findings.packets[SECONDARY]) {
		g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
			    "%s, %s: no packets to compare", paths[PRIMARY],
			    paths[SECONDARY]);
		return NCMP_REPLAY_UNUSABLE;
	}
	findings.flows = flows->len;
	for (guint i = 0; i < flows->len; i++) {
		struct ncmp_finding finding;

		if (judge(flows->pdata[i], &finding))
			g_array_append_val(differences, finding);
	}
	findings.guest = guest_name(&guest);
	ncmp_replay_report(options, &findings, out);
	g_free(findings.guest);
	return differences->len ? NCMP_REPLAY_DIVERGED : NCMP_REPLAY_SAME;
}
