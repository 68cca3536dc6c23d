/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What arrives on a channel, after TLS: each message is refused, or is as its rule and
 * its checksum say. However the bytes are cut into pieces, the verdicts are the same.
 *
 * Checksums are mended first, as far as the input makes sense, unless the first byte of
 * the input is odd; the second byte is how many bytes come at a time.
 */
#include <string.h>
#include <xxhash.h>

#include "base/frame.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static const struct base_message_rule rules[] = {
	{ 1, "note", 1, 1000 },
	{ 2, "bulk", 0, WIRE_PAYLOAD_MAX },
	{ 3, "empty", 0, 0 },
	{ 0xffff, "last", 16, 16 },
	{ 0 },
};

struct verdicts {
	guint whole;
	gboolean refused;
	gsize used;
};

static void mend(guint8 *bytes, gsize size)
{
	struct wire_frame frame;

	while (size >= sizeof(frame)) {
		gsize length;

		memcpy(&frame, bytes, sizeof(frame));
		length = wire_get32(frame.length);
		if (length > size - sizeof(frame))
			return;
		frame.checksum = wire_put64(0);
		memcpy(bytes, &frame, sizeof(frame));
		frame.checksum = wire_put64(XXH3_64bits(bytes, sizeof(frame) + length));
		memcpy(bytes, &frame, sizeof(frame));
		bytes += sizeof(frame) + length;
		size -= sizeof(frame) + length;
	}
}

/* `bytes` are what the message was made of, its frame and its payload. */
static void check(const struct base_message *message, const guint8 *bytes)
{
	const struct base_message_rule *rule = rules;
	struct wire_frame frame, again;
	struct iovec iov = { (void *)message->payload, message->length };

	while (rule->name && rule->type != message->type)
		rule++;
	g_assert(rule->name);
	g_assert(message->length >= rule->min && message->length <= rule->max);
	g_assert(!message->length == !message->payload);
	g_assert((gsize)message->payload % 16 == 0);
	g_assert(!message->length ||
		 !memcmp(message->payload, bytes + sizeof(frame), message->length));
	memcpy(&frame, bytes, sizeof(frame));
	/* Sent again it is the same to the last bit. */
	base_frame_encode(&again, message->type, message->epoch, &iov, 1);
	g_assert(!memcmp(&frame, &again, sizeof(frame)));
}

static struct verdicts judge(const guint8 *bytes, gsize size, gsize step)
{
	g_autoptr(base_frame_decoder) decoder = base_frame_decoder_new(rules);
	struct verdicts verdicts = { 0 };
	gsize start = 0; /* of the present message */

	while (verdicts.used < size && !verdicts.refused) {
		struct base_message message;
		GError *error = NULL;
		guint8 *where;
		gsize n = base_frame_decoder_room(decoder, &where);

		g_assert(n > 0);
		n = MIN(MIN(n, step), size - verdicts.used);
		memcpy(where, bytes + verdicts.used, n);
		verdicts.used += n;
		switch (base_frame_decoder_arrived(decoder, n, &message, &error)) {
		case BASE_FRAME_MORE:
			g_assert(base_frame_decoder_begun(decoder));
			break;
		case BASE_FRAME_WHOLE:
			g_assert(!base_frame_decoder_begun(decoder));
			g_assert(verdicts.used - start ==
				 sizeof(struct wire_frame) + message.length);
			check(&message, bytes + start);
			start = verdicts.used;
			verdicts.whole++;
			break;
		case BASE_FRAME_REFUSED:
			g_assert(error && error->domain == BASE_CHANNEL_ERROR &&
				 error->code == BASE_CHANNEL_PROTOCOL);
			g_assert(!strchr(error->message, '\n'));
			verdicts.refused = TRUE;
			break;
		}
		g_assert(!error == !verdicts.refused);
		g_clear_error(&error);
	}
	return verdicts;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autofree guint8 *bytes = NULL;
	struct verdicts pieces, at_once;

	if (size < 3)
		return 0;
	bytes = g_memdup2(data + 2, size - 2);
	if (!(data[0] & 1))
		mend(bytes, size - 2);
	pieces = judge(bytes, size - 2, data[1] ? data[1] : 16384);
	at_once = judge(bytes, size - 2, G_MAXSIZE);
	g_assert(pieces.whole == at_once.whole && pieces.refused == at_once.refused &&
		 pieces.used == at_once.used);
	return 0;
}
