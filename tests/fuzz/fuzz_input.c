/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of the primary's input against a simple model: a list of everything added,
 * and for each stream the place of what comes next. */
#include "checkpoint/input.h"

#include <string.h>

#include "tests/fuzz/harness.h"

#define NETS 2u
#define BYTES_MAX 4000u
#define STREAMS (NETS + CKPT_INPUT_CONSOLES + 1)

struct kept {
	guint64 number;
	guint stream;
	GBytes *bytes;
};

struct model {
	ckpt_input *input;
	GArray *all; /* struct kept: all that no checkpoint has seen */
	guint64 number, applied;
	guint64 next[STREAMS]; /* number of the item that the guest is at, or a later
				  one */
	gsize offset[STREAMS]; /* in that item */
	gboolean finished;
};

static void clear_kept(void *data)
{
	g_bytes_unref(((struct kept *)data)->bytes);
}

static guint kind_of(guint stream)
{
	return stream < NETS			     ? CKPT_INPUT_NET
	       : stream < NETS + CKPT_INPUT_CONSOLES ? CKPT_INPUT_CONSOLE
						     : CKPT_INPUT_RNG;
}

static guint device_of(guint stream)
{
	return stream < NETS			     ? stream
	       : stream < NETS + CKPT_INPUT_CONSOLES ? stream - NETS
						     : 0;
}

static const struct kept *find_next(const struct model *model, guint stream)
{
	for (guint i = 0; i < model->all->len; i++) {
		const struct kept *kept = &g_array_index(model->all, struct kept, i);

		if (kept->stream == stream && kept->number >= model->next[stream])
			return kept;
	}
	return NULL;
}

static void check(const struct model *model)
{
	for (guint i = 0; i < STREAMS; i++) {
		const struct kept *kept = find_next(model, i);
		gsize len, whole;
		const guint8 *at =
			ckpt_input_next(model->input, kind_of(i), device_of(i), &len);
		const guint8 *bytes;

		g_assert(!at == !kept);
		if (!kept)
			continue;
		bytes = g_bytes_get_data(kept->bytes, &whole);
		g_assert(len == whole - model->offset[i]);
		g_assert(!memcmp(at, bytes + model->offset[i], len));
	}
	g_assert(ckpt_input_kept_bytes(model->input) <= BYTES_MAX);
	g_assert(ckpt_input_last(model->input) == model->number);
}

/* A message as the input says, or one that should be taken. */
static void add(struct model *model, struct fuzz_input *input, gboolean good)
{
	guint8 bytes[16 + 255];
	struct ckpt_input_head head;
	guint stream = fuzz_u8(input) % STREAMS;
	gsize len = fuzz_bytes(input, bytes, fuzz_u8(input));
	g_autofree guint8 *exact = NULL;
	struct kept kept;

	if (good) {
		len = MAX(len, sizeof(head) + 12);
		head = (struct ckpt_input_head){
			.number = wire_put64(model->number + 1),
			.kind = (guint8)kind_of(stream),
			.device = (guint8)device_of(stream),
		};
		memset(bytes + sizeof(head), (int)model->number, 12);
		memcpy(bytes, &head, sizeof(head));
	}
	exact = g_memdup2(bytes, len);
	if (ckpt_input_add(model->input, exact, len))
		return;
	g_assert(!model->finished);
	memcpy(&head, bytes, sizeof(head));
	for (stream = 0; stream < STREAMS; stream++)
		if (kind_of(stream) == head.kind && device_of(stream) == head.device)
			break;
	g_assert(stream < STREAMS && wire_get64(head.number) == model->number + 1);
	kept = (struct kept){ ++model->number, stream,
			      g_bytes_new(bytes + sizeof(head), len - sizeof(head)) };
	g_array_append_val(model->all, kept);
}

static void consume(struct model *model, guint stream, gsize len)
{
	const struct kept *kept = find_next(model, stream);
	gsize left;

	if (!kept)
		return;
	left = g_bytes_get_size(kept->bytes) - model->offset[stream];
	len = stream < NETS ? left : MIN(len, left);
	ckpt_input_consume(model->input, kind_of(stream), device_of(stream), len);
	model->offset[stream] += len;
	if (len == left) {
		model->next[stream] = kept->number + 1;
		model->offset[stream] = 0;
	}
}

static void apply(struct model *model, guint64 number)
{
	gboolean covers = number >= model->applied && number <= model->number;

	g_assert(ckpt_input_covers(model->input, number) == covers);
	if (!covers || model->finished)
		return;
	ckpt_input_applied(model->input, number);
	model->applied = number;
	while (model->all->len &&
	       g_array_index(model->all, struct kept, 0).number <= number)
		g_array_remove_index(model->all, 0);
	memset(model->next, 0, sizeof(model->next));
	memset(model->offset, 0, sizeof(model->offset));
	if (!model->all->len)
		g_assert(ckpt_input_kept_bytes(model->input) == 0);
}

static void step(struct model *model, struct fuzz_input *input)
{
	guint8 op = fuzz_u8(input);

	switch (op & 7) {
	case 0:
		add(model, input, FALSE);
		break;
	case 1:
	case 2:
	case 3:
		add(model, input, TRUE);
		break;
	case 4:
	case 5:
		consume(model, (op >> 3) % STREAMS, fuzz_u8(input));
		break;
	case 6:
		apply(model, model->applied + (op >> 3));
		break;
	default:
		if (op >> 3 == 31) {
			ckpt_input_finish(model->input);
			model->finished = TRUE;
		} else {
			apply(model, fuzz_u64(input));
		}
	}
	check(model);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct model model = { .input = ckpt_input_new(NETS, BYTES_MAX) };

	model.all = g_array_new(FALSE, FALSE, sizeof(struct kept));
	g_array_set_clear_func(model.all, clear_kept);
	while (input.left)
		step(&model, &input);
	g_array_unref(model.all);
	ckpt_input_free(model.input);
	return 0;
}
