/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What colo-vm says to the comparator, judged; and its markers.
 *
 * `rules` says of each message how long it is, whether it belongs to an epoch, and
 * whether it can come first. What is in it is judged after that, by a function.
 */
#include "netcompare/message.h"

#include <string.h>

#define VNET_HEADER 12u
#define ETHERNET_HEADER 14u
#define IPV4_HEADER 20u

typedef const char *(*judge_fn)(struct ncmp_talk *talk, const guint8 *payload,
				gsize len, struct ncmp_message *message);

struct rule {
	gsize min, max; /* of the payload */
	gboolean epoch; /* has one; else it is 0 */
	gboolean device; /* has one; else it is 0 */
	gboolean first; /* comes first, and never again; else never first */
	judge_fn judge; /* NULL: nothing more to judge */
};

static gboolean is_zero(const guint8 *bytes, gsize len)
{
	guint8 any = 0;

	for (gsize i = 0; i < len; i++)
		any |= bytes[i];
	return !any;
}

static const char *judge_hello(struct ncmp_talk *talk, const guint8 *payload, gsize len,
			       struct ncmp_message *message)
{
	struct wire_output_hello hello;
	guint32 cards;

	memcpy(&hello, payload, sizeof(hello));
	cards = wire_get32(hello.cards);
	if (wire_get32(hello.version) != WIRE_OUTPUT_VERSION)
		return "it speaks another version";
	if (!cards || cards > NCMP_CARDS_MAX)
		return "a machine cannot have that many cards";
	talk->met = TRUE;
	talk->cards = cards;
	memcpy(talk->secret, hello.secret, sizeof(talk->secret));
	return NULL;
}

static const char *judge_gate(struct ncmp_talk *talk, const guint8 *payload, gsize len,
			      struct ncmp_message *message)
{
	struct wire_output_gate gate;
	guint32 kind;

	memcpy(&gate, payload, sizeof(gate));
	kind = wire_get32(gate.kind);
	if (kind > WIRE_GATE_GUARDED || wire_get32(gate.pad))
		return "no such gate";
	message->gate = (enum wire_output_gate_kind)kind;
	return NULL;
}

static const char *judge_cut(struct ncmp_talk *talk, const guint8 *payload, gsize len,
			     struct ncmp_message *message)
{
	struct wire_output_cut cut;

	memcpy(&cut, payload, sizeof(cut));
	if (cut.run > 1 || !is_zero(cut.pad, sizeof(cut.pad)))
		return "a cut that is neither of a running guest nor of one at rest";
	if (message->epoch <= talk->cut)
		return "an epoch that begins again";
	talk->cut = message->epoch;
	message->runs = cut.run;
	return NULL;
}

static const char *judge_committed(struct ncmp_talk *talk, const guint8 *payload,
				   gsize len, struct ncmp_message *message)
{
	if (message->epoch <= talk->committed)
		return "an epoch that is committed again";
	if (message->epoch > talk->cut)
		return "a commit of an epoch that has not begun";
	talk->committed = message->epoch;
	return NULL;
}

static const char *judge_drain(struct ncmp_talk *talk, const guint8 *payload, gsize len,
			       struct ncmp_message *message)
{
	return message->epoch > talk->committed ?
		       "a question about an epoch that is not committed" :
		       NULL;
}

static const char *judge_frame(struct ncmp_talk *talk, const guint8 *payload, gsize len,
			       struct ncmp_message *message)
{
	if (message->device >= talk->cards)
		return "a frame of a card that the machine has not";
	message->frame = payload + VNET_HEADER;
	message->frame_len = len - VNET_HEADER;
	return NULL;
}

/* clang-format off */
static const struct rule rules[] = {
	[WIRE_OUTPUT_HELLO] = { sizeof(struct wire_output_hello), sizeof(struct wire_output_hello),
				.first = TRUE, .judge = judge_hello },
	[WIRE_OUTPUT_GATE] = { sizeof(struct wire_output_gate), sizeof(struct wire_output_gate),
			       .judge = judge_gate },
	[WIRE_OUTPUT_CUT] = { sizeof(struct wire_output_cut), sizeof(struct wire_output_cut),
			      .epoch = TRUE, .judge = judge_cut },
	[WIRE_OUTPUT_COMMITTED] = { 0, 0, .epoch = TRUE, .judge = judge_committed },
	[WIRE_OUTPUT_FRAME] = { VNET_HEADER + ETHERNET_HEADER, WIRE_OUTPUT_FRAME_MAX,
				.epoch = TRUE, .device = TRUE, .judge = judge_frame },
	[WIRE_OUTPUT_LOST] = { 0, 0, .epoch = TRUE },
	[WIRE_OUTPUT_DRAIN] = { 0, 0, .epoch = TRUE, .judge = judge_drain },
};
/* clang-format on */

const char *ncmp_talk_take(struct ncmp_talk *talk, const guint8 *bytes, gsize len,
			   struct ncmp_message *message)
{
	struct wire_output_head head;
	const struct rule *rule;
	guint16 type;

	if (len < sizeof(head))
		return "a message shorter than its head";
	memcpy(&head, bytes, sizeof(head));
	len -= sizeof(head);
	type = wire_get16(head.type);
	if (type >= G_N_ELEMENTS(rules) || (!rules[type].max && !rules[type].epoch))
		return "no such message";
	rule = &rules[type];
	if (wire_get32(head.length) != len)
		return "a message that is not as long as it says";
	if (len < rule->min || len > rule->max)
		return "a message of the wrong length";
	if ((wire_get64(head.epoch) != 0) != rule->epoch)
		return "a message with the wrong kind of epoch";
	if (!rule->device && wire_get16(head.device))
		return "a message with a card that has none";
	if (rule->first == talk->met)
		return rule->first ? "a second greeting" : "no greeting comes first";
	*message = (struct ncmp_message){
		.type = type,
		.epoch = wire_get64(head.epoch),
		.device = wire_get16(head.device),
	};
	return rule->judge ? rule->judge(talk, bytes + sizeof(head), len, message)
			   : NULL;
}

gboolean ncmp_marker_parse(const guint8 *bytes, gsize len,
			   const guint8 secret[WIRE_OUTPUT_SECRET], guint64 *epoch)
{
	const gsize total = IPV4_HEADER + sizeof(struct wire_marker);
	struct wire_marker marker;
	volatile guint8 differs = 0;

	/* From and to 0.0.0.0, and a TTL that no router would let live. */
	if (len < total || bytes[0] != 0x45 || bytes[8] != 0 ||
	    bytes[9] != WIRE_MARKER_PROTOCOL ||
	    ((gsize)bytes[2] << 8 | bytes[3]) != total || !is_zero(bytes + 12, 8))
		return FALSE;
	memcpy(&marker, bytes + IPV4_HEADER, sizeof(marker));
	for (gsize i = 0; i < WIRE_OUTPUT_SECRET; i++)
		differs |= marker.secret[i] ^ secret[i];
	if (differs || wire_get32(marker.magic) != WIRE_MARKER_MAGIC ||
	    wire_get32(marker.pad) || !wire_get64(marker.epoch))
		return FALSE;
	*epoch = wire_get64(marker.epoch);
	return TRUE;
}
