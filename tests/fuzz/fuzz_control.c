/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol: whatever two clients send, every line sent back is a JSON
 * object of the right shape, and no answer is lost or given twice.
 *
 * A byte 0x01 in the input ends a piece of it: the pieces go to the two clients in
 * turn. Every third command is answered late, so that clients come and go meanwhile.
 */
#include <string.h>

#include "kvm/protocol.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

/* More only cost time: each brings an event for every client. */
#define PIECES_MAX 24u

struct fake {
	guint count;
	GQueue late; /* vmm_answer */
};

static void fake_run(void *data, enum vmm_command command, const char *path,
		     vmm_answer *answer)
{
	struct fake *fake = data;

	g_assert((path && *path) ==
		 (command == VMM_COMMAND_SAVE || command == VMM_COMMAND_LOAD));
	switch (fake->count++ % 3) {
	case 0:
		vmm_answer_ok(answer, NULL);
		break;
	case 1:
		vmm_answer_error(answer, "failed", path);
		break;
	default:
		g_queue_push_tail(&fake->late, answer);
	}
}

static void judge_line(void *data, const char *line, gsize len)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonObject *object;

	g_assert(len && line[len - 1] == '\n' && !memchr(line, '\n', len - 1));
	g_assert(g_utf8_validate(line, (gssize)len, NULL));
	g_assert(json_parser_load_from_data(parser, line, (gssize)len, NULL));
	object = json_node_get_object(json_parser_get_root(parser));
	g_assert(json_object_has_member(object, "event") ||
		 (json_object_has_member(object, "id") &&
		  json_object_has_member(object, "ok") &&
		  json_object_has_member(object, "result") !=
			  json_object_has_member(object, "error")));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fake fake = { 0 };
	const struct vmm_commands commands = { &fake, fake_run };
	vmm_table *table = vmm_table_new(&commands);
	base_protocol *protocol = base_protocol_new(vmm_table_commands(table));
	base_client *clients[2];
	vmm_answer *answer;
	guint turn = 0;

	for (guint i = 0; i < 2; i++)
		clients[i] = base_client_new(protocol, judge_line, NULL);
	while (size && turn < PIECES_MAX) {
		const guint8 *end = memchr(data, 1, size);
		gsize part = end ? (gsize)(end - data) : size;
		base_client **client = &clients[turn++ % 2];

		if (!base_client_input(*client, data, part)) {
			base_client_free(*client);
			*client = base_client_new(protocol, judge_line, NULL);
		}
		if (turn % 4 == 0 && (answer = g_queue_pop_head(&fake.late)))
			vmm_answer_ok(answer, json_object_new());
		base_protocol_event(protocol, "panic", vmm_event_fields(NULL, "why"));
		data += part + (end != NULL);
		size -= part + (end != NULL);
	}
	base_protocol_free(protocol);
	while ((answer = g_queue_pop_head(&fake.late)))
		vmm_answer_ok(answer, NULL);
	vmm_table_free(table);
	return 0;
}
