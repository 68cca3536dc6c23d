/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages as frames: making them, and judging those that arrive.
 *
 * A frame is judged as soon as it is whole, before a byte of its payload is taken or
 * memory for it is found; the payload lands where its reader will see it and is summed
 * up as it comes, while it is in the cache.
 */
#include "base/frame.h"

#include <xxhash.h>

#define BUFFER_ALIGN 64
#define BUFFER_STEP (64u << 10) /* the buffer grows by whole ones */

struct base_frame_decoder {
	const struct base_message_rule *rules;
	const struct base_message_rule
		*rule; /* of the present frame, once it was judged */
	struct wire_frame frame; /* as it came */
	gsize have; /* bytes of frame and payload */
	guint8 *payload;
	gsize payload_size;
	XXH3_state_t *sum;
	gboolean whole; /* given out: the next byte begins another */
};

/* The checksum is over the frame with none in it. */
static void sum_frame(XXH3_state_t *sum, const struct wire_frame *frame)
{
	struct wire_frame bare = *frame;

	bare.checksum = wire_put64(0);
	XXH3_64bits_reset(sum);
	XXH3_64bits_update(sum, &bare, sizeof(bare));
}

void base_frame_encode(struct wire_frame *frame, guint16 type, guint64 epoch,
		       const struct iovec *iov, guint count)
{
	XXH3_state_t *sum = XXH3_createState();
	gsize length = 0;

	g_assert(sum);
	for (guint i = 0; i < count; i++) {
		g_assert(iov[i].iov_len <= WIRE_PAYLOAD_MAX - length);
		length += iov[i].iov_len;
	}
	*frame = (struct wire_frame){
		.magic = wire_put32(WIRE_FRAME_MAGIC),
		.version = wire_put16(WIRE_FRAME_VERSION),
		.type = wire_put16(type),
		.length = wire_put32((guint32)length),
		.epoch = wire_put64(epoch),
	};
	sum_frame(sum, frame);
	for (guint i = 0; i < count; i++)
		XXH3_64bits_update(sum, iov[i].iov_base, iov[i].iov_len);
	frame->checksum = wire_put64(XXH3_64bits_digest(sum));
	XXH3_freeState(sum);
}

base_frame_decoder *base_frame_decoder_new(const struct base_message_rule *rules)
{
	base_frame_decoder *decoder = g_new0(base_frame_decoder, 1);

	for (const struct base_message_rule *rule = rules; rule->name; rule++)
		g_assert(rule->min <= rule->max && rule->max <= WIRE_PAYLOAD_MAX);
	decoder->rules = rules;
	decoder->sum = XXH3_createState();
	g_assert(decoder->sum);
	return decoder;
}

void base_frame_decoder_free(base_frame_decoder *decoder)
{
	if (!decoder)
		return;
	XXH3_freeState(decoder->sum);
	g_aligned_free(decoder->payload);
	g_free(decoder);
}

static gsize payload_length(const base_frame_decoder *decoder)
{
	return wire_get32(decoder->frame.length);
}

gsize base_frame_decoder_room(base_frame_decoder *decoder, guint8 **where)
{
	gsize done;

	if (decoder->whole) {
		decoder->whole = FALSE;
		decoder->have = 0;
		decoder->rule = NULL;
	}
	if (decoder->have < sizeof(decoder->frame)) {
		*where = (guint8 *)&decoder->frame + decoder->have;
		return sizeof(decoder->frame) - decoder->have;
	}
	g_assert(decoder->rule); /* the frame was accepted */
	done = decoder->have - sizeof(decoder->frame);
	*where = decoder->payload + done;
	return payload_length(decoder) - done;
}

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean refuse(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(BASE_CHANNEL_ERROR, BASE_CHANNEL_PROTOCOL,
					    format, args);
	va_end(args);
	return FALSE;
}

static const struct base_message_rule *find_rule(const base_frame_decoder *decoder,
						 guint type)
{
	for (const struct base_message_rule *rule = decoder->rules; rule->name; rule++)
		if (rule->type == type)
			return rule;
	return NULL;
}

static gboolean judge_frame(base_frame_decoder *decoder, GError **error)
{
	const struct wire_frame *frame = &decoder->frame;
	guint version = wire_get16(frame->version), type = wire_get16(frame->type);
	guint32 length = wire_get32(frame->length);
	const struct base_message_rule *rule;

	if (wire_get32(frame->magic) != WIRE_FRAME_MAGIC)
		return refuse(error, "not a message: it begins with 0x%08x",
			      wire_get32(frame->magic));
	if (version != WIRE_FRAME_VERSION)
		return refuse(error, "a message of version %u, this is version %u",
			      version, WIRE_FRAME_VERSION);
	if (wire_get32(frame->pad) != 0)
		return refuse(error, "a message whose padding is not zero");
	rule = find_rule(decoder, type);
	if (!rule)
		return refuse(error, "a message of type %u, which does not belong here",
			      type);
	if (length < rule->min || length > rule->max)
		return refuse(error, "a message %s of %u bytes, allowed are %u to %u",
			      rule->name, length, rule->min, rule->max);
	decoder->rule = rule;
	return TRUE;
}

/* Memory follows what is needed, which the rules bound. */
static void make_room(base_frame_decoder *decoder)
{
	gsize length = payload_length(decoder);

	if (length <= decoder->payload_size)
		return;
	g_aligned_free(decoder->payload);
	decoder->payload_size = (length + BUFFER_STEP - 1) / BUFFER_STEP * BUFFER_STEP;
	decoder->payload = g_aligned_alloc(1, decoder->payload_size, BUFFER_ALIGN);
}

static enum base_frame_verdict judge_whole(base_frame_decoder *decoder,
					   struct base_message *message, GError **error)
{
	guint32 length = (guint32)payload_length(decoder);

	if (XXH3_64bits_digest(decoder->sum) != wire_get64(decoder->frame.checksum)) {
		refuse(error, "a message %s of %u bytes whose checksum is wrong",
		       decoder->rule->name, length);
		return BASE_FRAME_REFUSED;
	}
	decoder->whole = TRUE;
	*message = (struct base_message){
		.type = decoder->rule->type,
		.epoch = wire_get64(decoder->frame.epoch),
		.length = length,
		.payload = length ? decoder->payload : NULL,
	};
	return BASE_FRAME_WHOLE;
}

enum base_frame_verdict base_frame_decoder_arrived(base_frame_decoder *decoder,
						   gsize bytes,
						   struct base_message *message,
						   GError **error)
{
	guint8 *where;
	gsize room = base_frame_decoder_room(decoder, &where);

	g_assert(bytes <= room);
	if (decoder->rule)
		XXH3_64bits_update(decoder->sum, where, bytes);
	decoder->have += bytes;
	if (bytes < room)
		return BASE_FRAME_MORE;
	if (!decoder->rule) {
		if (!judge_frame(decoder, error))
			return BASE_FRAME_REFUSED;
		make_room(decoder);
		sum_frame(decoder->sum, &decoder->frame);
		if (payload_length(decoder))
			return BASE_FRAME_MORE;
	}
	return judge_whole(decoder, message, error);
}

gboolean base_frame_decoder_begun(const base_frame_decoder *decoder)
{
	return decoder->have > 0 && !decoder->whole;
}
