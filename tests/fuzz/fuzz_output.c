/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the comparator is told: the first byte says by whom. 0: by colo-vm, messages
 * that each have their length (16 bits) before them; a message that is refused must not
 * have changed anything. 1: by a guest that tries to look like a marker. 2: by a client
 * of the control socket, who is always answered with one line of JSON.
 */
#include <string.h>

#include "netcompare/control.h"
#include "netcompare/message.h"
#include "tests/fuzz/harness.h"

static const guint8 secret[WIRE_OUTPUT_SECRET] = "a secret of ours";

static void check_message(const struct ncmp_talk *before, const struct ncmp_talk *talk,
			  const struct ncmp_message *message, const guint8 *bytes,
			  gsize len)
{
	g_assert(talk->met && talk->cards && talk->cards <= NCMP_CARDS_MAX);
	g_assert(talk->committed <= talk->cut);
	g_assert(talk->cut >= before->cut && talk->committed >= before->committed);
	g_assert(before->met == (message->type != WIRE_OUTPUT_HELLO));
	switch (message->type) {
	case WIRE_OUTPUT_HELLO:
	case WIRE_OUTPUT_LOST:
		break;
	case WIRE_OUTPUT_GATE:
		g_assert(message->gate <= WIRE_GATE_GUARDED && !message->epoch);
		break;
	case WIRE_OUTPUT_CUT:
		g_assert(message->epoch == talk->cut && talk->cut > before->cut);
		break;
	case WIRE_OUTPUT_COMMITTED:
		g_assert(message->epoch == talk->committed);
		break;
	case WIRE_OUTPUT_DRAIN:
		g_assert(message->epoch && message->epoch <= talk->committed);
		break;
	case WIRE_OUTPUT_FRAME:
		g_assert(message->device < talk->cards);
		g_assert(message->frame > bytes && message->frame_len >= 14 &&
			 message->frame + message->frame_len == bytes + len);
		break;
	default:
		g_assert_not_reached();
	}
}

static void take_messages(struct fuzz_input *input)
{
	struct ncmp_talk talk = { 0 };

	while (input->left) {
		gsize want = fuzz_u16(input), len;
		g_autofree guint8 *bytes = g_malloc(want + 1);
		/* Of its own size, so that reading past its end is noticed. */
		g_autofree guint8 *exact = NULL;
		struct ncmp_talk before = talk;
		struct ncmp_message message;

		len = fuzz_bytes(input, bytes, want);
		exact = g_memdup2(bytes, len);
		if (ncmp_talk_take(&talk, exact, len, &message))
			g_assert(!memcmp(&before, &talk, sizeof(talk)));
		else
			check_message(&before, &talk, &message, exact, len);
	}
}

static void take_marker(struct fuzz_input *input)
{
	g_autofree guint8 *packet = g_memdup2(input->data, input->left);
	guint64 epoch = 0;

	if (!ncmp_marker_parse(packet, input->left, secret, &epoch))
		return;
	g_assert(epoch);
	g_assert(!memcmp(packet + 20 + G_STRUCT_OFFSET(struct wire_marker, secret),
			 secret, sizeof(secret)));
}

static JsonObject *no_status(void *data)
{
	return json_object_new();
}

/* The only line that is sent back. */
static void judge_line(void *data, const char *line, gsize len)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	guint *answers = data;

	(*answers)++;
	g_assert(len && line[len - 1] == '\n' && !memchr(line, '\n', len - 1));
	g_assert(json_parser_load_from_data(parser, line, (gssize)len, NULL));
	g_assert(json_object_has_member(
		json_node_get_object(json_parser_get_root(parser)), "ok"));
}

static void no_quit(void *data)
{
}

static void take_line(struct fuzz_input *input)
{
	const struct ncmp_control_hooks hooks = { .status = no_status, .quit = no_quit };
	const struct base_commands commands = ncmp_control_commands(&hooks);
	g_autoptr(base_protocol) protocol = base_protocol_new(&commands);
	g_autofree char *line = g_strndup((const char *)input->data, input->left);
	guint answers = 0;
	base_client *client = base_client_new(protocol, judge_line, &answers);

	g_strdelimit(line, "\n", ' ');
	if (base_client_input(client, line, strlen(line)) &&
	    base_client_input(client, "\n", 1))
		g_assert(answers == !!*g_strstrip(line));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };

	switch (fuzz_u8(&input) % 3) {
	case 0:
		take_messages(&input);
		break;
	case 1:
		take_marker(&input);
		break;
	default:
		take_line(&input);
	}
	return 0;
}
