/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of the primary's input. Each stream has a list of its own in the order of the
 * numbers, so dropping what a checkpoint has seen takes from the front of each, and
 * costs what is dropped.
 */
#include "checkpoint/input.h"

#include <string.h>

#define HEADER_LEN 12u /* a frame without it is none */

struct item {
	struct item *next; /* of the same stream */
	guint64 number;
	gsize len;
	guint8 kind;
	guint8 bytes[];
};

struct stream {
	struct item *first, *last;
	struct item *at; /* what the guest gets next; NULL: it has had all */
	gsize offset; /* of the first byte of it that the guest has not had */
};

struct ckpt_input {
	guint nets;
	gsize bytes_max, kept;
	guint64 last; /* number added */
	guint64 applied; /* number that the last checkpoint has seen */
	gboolean finished;
	guint n_streams;
	struct stream streams[]; /* cards, consoles, entropy */
};

static gsize cost(gsize len)
{
	return sizeof(struct item) + len;
}

/* NULL: there is no such stream. */
static struct stream *find_stream(const ckpt_input *input, guint kind, guint device)
{
	struct stream *streams = (struct stream *)input->streams;

	switch (kind) {
	case CKPT_INPUT_NET:
	case CKPT_INPUT_NOTE:
		return device < input->nets ? streams + device : NULL;
	case CKPT_INPUT_CONSOLE:
		return device < CKPT_INPUT_CONSOLES ? streams + input->nets + device
						    : NULL;
	case CKPT_INPUT_RNG:
		return device == 0 ? streams + input->nets + CKPT_INPUT_CONSOLES : NULL;
	default:
		return NULL;
	}
}

static struct stream *own_stream(const ckpt_input *input, guint kind, guint device)
{
	struct stream *stream = find_stream(input, kind, device);

	g_assert(stream);
	return stream;
}

static void drop_first(ckpt_input *input, struct stream *stream)
{
	struct item *item = stream->first;

	stream->first = item->next;
	if (!stream->first)
		stream->last = NULL;
	input->kept -= cost(item->len);
	g_free(item);
}

ckpt_input *ckpt_input_new(guint nets, gsize bytes_max)
{
	guint n = nets + CKPT_INPUT_CONSOLES + 1;
	ckpt_input *input = g_malloc0(sizeof(ckpt_input) + n * sizeof(struct stream));

	input->nets = nets;
	input->bytes_max = bytes_max;
	input->n_streams = n;
	return input;
}

void ckpt_input_restart(ckpt_input *input)
{
	for (guint i = 0; i < input->n_streams; i++) {
		struct stream *stream = &input->streams[i];

		while (stream->first)
			drop_first(input, stream);
		stream->at = NULL;
		stream->offset = 0;
	}
	input->last = input->applied = 0;
}

void ckpt_input_free(ckpt_input *input)
{
	if (!input)
		return;
	ckpt_input_restart(input);
	g_free(input);
}

/* Why an item with this head is refused, or NULL. */
static const char *judge(const ckpt_input *input, const struct ckpt_input_head *head,
			 gsize len)
{
	static const guint8 zero[sizeof(head->pad)];
	guint64 number = wire_get64(head->number);
	gboolean frame = head->kind == CKPT_INPUT_NET;

	if (input->finished)
		return "input for a machine that is no secondary any more";
	if (memcmp(head->pad, zero, sizeof(zero)))
		return "input with padding that is not zero";
	if (!find_stream(input, head->kind, head->device))
		return "input of an unknown kind or for an unknown device";
	if (number <= input->last)
		return "input that came before";
	if (number - input->last != 1)
		return "input before this is missing";
	if (len < (frame ? HEADER_LEN : 1))
		return "input that is too short";
	if (len > (frame ? CKPT_FRAME_MAX : CKPT_INPUT_BYTES_MAX))
		return "input that is too long";
	if (cost(len) > input->bytes_max - input->kept)
		return "more input than can be kept";
	return NULL;
}

const char *ckpt_input_add(ckpt_input *input, const void *payload, gsize len)
{
	struct ckpt_input_head head;
	struct stream *stream;
	struct item *item;
	const char *why;

	if (len < sizeof(head))
		return "input without a head";
	memcpy(&head, payload, sizeof(head));
	len -= sizeof(head);
	why = judge(input, &head, len);
	if (why)
		return why;
	item = g_malloc(cost(len));
	item->next = NULL;
	item->number = ++input->last;
	item->len = len;
	item->kind = head.kind;
	memcpy(item->bytes, (const guint8 *)payload + sizeof(head), len);
	input->kept += cost(len);
	stream = own_stream(input, head.kind, head.device);
	if (stream->last)
		stream->last->next = item;
	else
		stream->first = item;
	stream->last = item;
	if (!stream->at) {
		stream->at = item;
		stream->offset = 0;
	}
	return NULL;
}

guint64 ckpt_input_last(const ckpt_input *input)
{
	return input->last;
}

const guint8 *ckpt_input_next(const ckpt_input *input, enum ckpt_input_kind kind,
			      guint device, gsize *len)
{
	const struct stream *stream = own_stream(input, kind, device);

	if (!stream->at || stream->at->kind != kind)
		return NULL;
	*len = stream->at->len - stream->offset;
	return stream->at->bytes + stream->offset;
}

void ckpt_input_consume(ckpt_input *input, enum ckpt_input_kind kind, guint device,
			gsize len)
{
	struct stream *stream = own_stream(input, kind, device);

	g_assert(stream->at && stream->at->kind == kind &&
		 len <= stream->at->len - stream->offset);
	g_assert((kind != CKPT_INPUT_NET && kind != CKPT_INPUT_NOTE) ||
		 len == stream->at->len);
	stream->offset += len;
	if (stream->offset < stream->at->len)
		return;
	stream->at = stream->at->next;
	stream->offset = 0;
	while (input->finished && stream->first != stream->at)
		drop_first(input, stream);
}

gsize ckpt_input_read(ckpt_input *input, enum ckpt_input_kind kind, guint device,
		      void *bytes, gsize len)
{
	gsize done = 0;

	while (done < len) {
		gsize part;
		const guint8 *next = ckpt_input_next(input, kind, device, &part);

		if (!next)
			break;
		part = MIN(part, len - done);
		memcpy((guint8 *)bytes + done, next, part);
		ckpt_input_consume(input, kind, device, part);
		done += part;
	}
	return done;
}

gboolean ckpt_input_covers(const ckpt_input *input, guint64 number)
{
	return number >= input->applied && number <= input->last;
}

void ckpt_input_applied(ckpt_input *input, guint64 number)
{
	g_assert(ckpt_input_covers(input, number) && !input->finished);
	input->applied = number;
	for (guint i = 0; i < input->n_streams; i++) {
		struct stream *stream = &input->streams[i];

		while (stream->first && stream->first->number <= number)
			drop_first(input, stream);
		stream->at = stream->first;
		stream->offset = 0;
	}
}

void ckpt_input_finish(ckpt_input *input)
{
	input->finished = TRUE;
	for (guint i = 0; i < input->n_streams; i++)
		while (input->streams[i].first != input->streams[i].at)
			drop_first(input, &input->streams[i]);
}

gsize ckpt_input_kept_bytes(const ckpt_input *input)
{
	return input->kept;
}
