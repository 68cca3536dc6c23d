/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the other node's colod says: whatever it is, and however often it connects, the hooks
 * hear only what makes sense, in an order that does, and nothing of a connection after it was
 * hung up on.
 *
 * Listener and link are this file's (see fuzz_peer.wrap); what the real link judges by its
 * rules is judged here likewise.
 */
#include "colo/peer.h"

#include <string.h>

#include "checkpoint/link.h"
#include "checkpoint/meet.h"
#include "tests/fuzz/harness.h"

static const char pair_file[] = "[pair]\nname = web\nnodes = alpha; beta\nkey = /k\n"
				"[vm]\nmemory = 64MiB\nkernel = /k\n"
				"[node alpha]\nreplication = 10.0.0.1:1\ncontrol = 10.0.0.1:2\n"
				"heartbeat = 10.0.0.1:3\n"
				"[node beta]\nreplication = 10.0.0.2:1\ncontrol = 10.0.0.2:2\n"
				"heartbeat = 10.0.0.2:3\n"
				"[arbiter]\ntype = manual\n";

/* One connection: the link that it stands for. */
struct ckpt_link {
	const struct ckpt_link_ops *ops;
	void *data;
};

static struct {
	const struct base_message_rule *rules;
	ckpt_meet_fn met;
	void *data;
	ckpt_link *link; /* the last one; NULL: freed or none */
	gboolean up;
	guint asked[COLO_ASK_STOP + 1]; /* and not answered on this connection */
	guint connections, posted;
	guint64 last_id;
} it;

ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms);
void __wrap_ckpt_link_start(ckpt_link *link);
void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count);
void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why);
void __wrap_ckpt_link_free(ckpt_link *link);
ckpt_listener *__wrap_ckpt_listener_new(const char *address, const char *key,
					const struct base_message_rule *rules, ckpt_meet_fn fn,
					void *data, GError **error);
void __wrap_ckpt_listener_free(ckpt_listener *listener);

ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms)
{
	g_assert(silence_ms);
	it.link = g_new0(struct ckpt_link, 1);
	it.link->ops = ops;
	it.link->data = data;
	return it.link;
}

void __wrap_ckpt_link_start(ckpt_link *link)
{
}

void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count)
{
	gsize length = 0;

	for (guint i = 0; i < count; i++)
		length += iov[i].iov_len;
	for (const struct base_message_rule *rule = it.rules; rule->name; rule++)
		if (rule->type == type) {
			g_assert(length >= rule->min && length <= rule->max);
			it.posted++;
			if (type == WIRE_PEER_ASK)
				it.last_id = wire_get64(
					((const struct wire_peer_ask *)iov->iov_base)->id);
			return;
		}
	g_assert_not_reached();
}

void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why)
{
	g_assert(why && *why);
	if (link == it.link)
		it.link = NULL;
}

/* On a thread of its own: it is known by its address only. */
void __wrap_ckpt_link_free(ckpt_link *link)
{
	g_free(link);
}

ckpt_listener *__wrap_ckpt_listener_new(const char *address, const char *key,
					const struct base_message_rule *rules, ckpt_meet_fn fn,
					void *data, GError **error)
{
	it.rules = rules;
	it.met = fn;
	it.data = data;
	return (ckpt_listener *)&it;
}

void __wrap_ckpt_listener_free(ckpt_listener *listener)
{
}

/* What the hooks hear. */

static void must_be_plain(const char *text, gboolean lines)
{
	g_assert(g_utf8_validate(text, -1, NULL));
	for (const char *at = text; *at; at++)
		g_assert(!g_ascii_iscntrl(*at) || *at == '\t' || (lines && *at == '\n'));
}

static void up(void *data, const char *diff)
{
	g_assert(!it.up);
	it.up = TRUE;
	if (diff)
		must_be_plain(diff, TRUE);
}

static void down(void *data, const char *why)
{
	g_assert(it.up && why);
	it.up = FALSE;
	it.link = NULL;
	memset(it.asked, 0, sizeof(it.asked));
}

static void said(void *data, const struct colo_peer_state *state)
{
	g_assert(it.up && (guint)state->state < COLO__STATES &&
		 (guint)state->part <= COLO_PART_PROMOTED &&
		 !(state->flags & ~(guint)COLO_PEER_FLAGS));
}

static void asked(void *data, guint64 id, enum colo_ask ask, guint64 generation)
{
	g_assert(it.up && id && ask >= COLO_ASK_CONSENT && ask <= COLO_ASK_STOP);
	colo_peer_answer(*(colo_peer **)data, id, generation & 1, "because\nof that");
}

static void answered(void *data, enum colo_ask ask, gboolean yes, const char *why)
{
	g_assert(it.up && it.asked[ask] && yes == !!yes);
	it.asked[ask]--;
	if (why)
		must_be_plain(why, FALSE);
}

static const struct colo_peer_hooks hooks = { up, down, said, asked, answered };

/* What the input has the peer do. */

static void deliver(guint16 type, const void *payload, gsize length)
{
	ckpt_link *link = it.link;
	const struct base_message message = { .type = type, .length = (guint32)length,
					      .payload = length ? payload : NULL };

	g_autoptr(GError) error = NULL;

	if (!link)
		return;
	for (const struct base_message_rule *rule = it.rules; rule->name; rule++)
		if (rule->type == type && type >= WIRE_PEER_HELLO && length >= rule->min &&
		    length <= rule->max &&
		    !link->ops->message(link->data, &message, &error))
			link->ops->lost(link->data, error);
}

static void say_hello(struct fuzz_input *input)
{
	guint8 kind = fuzz_u8(input);
	struct wire_peer_hello hello = { .version = wire_put16(kind & 1 ? 2 : WIRE_PEER_VERSION),
					 .node = wire_put16(kind & 2 ? 1 : 0) };
	guint8 bytes[sizeof(hello) + 2 * sizeof(pair_file)];
	gsize length = sizeof(hello) + sizeof(pair_file) - 1;

	strcpy(hello.pair, kind & 4 ? "another" : "web");
	memcpy(bytes, &hello, sizeof(hello));
	memcpy(bytes + sizeof(hello), pair_file, sizeof(pair_file));
	for (guint i = 0; i < kind >> 5; i++)
		bytes[fuzz_u16(input) % length] = fuzz_u8(input);
	if (kind & 8)
		length += fuzz_bytes(input, bytes + length, fuzz_u8(input));
	if (kind & 16)
		length = sizeof(hello) + fuzz_u16(input) % (length - sizeof(hello));
	deliver(WIRE_PEER_HELLO, bytes, length);
}

static void say_anything(struct fuzz_input *input)
{
	guint8 bytes[700];
	guint16 type = (guint16)(WIRE_PEER_HELLO + fuzz_u8(input) % 5);
	gsize length = fuzz_bytes(input, bytes, fuzz_u16(input) % sizeof(bytes));

	deliver(type, bytes, length);
}

static void answer(struct fuzz_input *input)
{
	struct {
		struct wire_peer_answer answer;
		char text[WIRE_PEER_TEXT_MAX];
	} message = { { .id = wire_put64(it.last_id + (fuzz_u8(input) & 1)),
			.yes = wire_put16(fuzz_u8(input) & 3) } };
	gsize text = fuzz_bytes(input, message.text, fuzz_u8(input));

	deliver(WIRE_PEER_ANSWER, &message, sizeof(message.answer) + text);
}

static void ask_it(struct fuzz_input *input, colo_peer *peer)
{
	enum colo_ask ask = 1 + fuzz_u8(input) % COLO_ASK_STOP;
	guint before = it.posted;

	colo_peer_ask(peer, ask, fuzz_u64(input));
	g_assert(it.up || it.posted == before);
	it.asked[ask] += it.posted - before;
}

static void connect_anew(void)
{
	it.connections++;
	it.met(it.data, (base_channel *)&it, NULL, NULL);
	memset(it.asked, 0, sizeof(it.asked));
}

static void step(struct fuzz_input *input, colo_peer *peer)
{
	const struct colo_peer_state state = { .generation = 7 };
	g_autoptr(GError) gone = NULL;

	switch (fuzz_u8(input) % 8) {
	case 0:
		connect_anew();
		break;
	case 1:
		say_hello(input);
		break;
	case 2:
	case 3:
		say_anything(input);
		break;
	case 4:
		ask_it(input, peer);
		break;
	case 5:
		answer(input);
		break;
	case 6:
		colo_peer_say(peer, &state);
		break;
	case 7:
		gone = g_error_new(BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST, "it is gone");
		if (it.link)
			it.link->ops->lost(it.link->data, gone);
		break;
	}
	while (g_main_context_iteration(NULL, FALSE))
		;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	g_autoptr(colo_pair) pair =
		colo_pair_parse(pair_file, strlen(pair_file), "web.conf", NULL);
	colo_peer *peer = NULL;

	fuzz_quiet();
	g_assert(pair);
	memset(&it, 0, sizeof(it));
	peer = colo_peer_new(pair, 1, &hooks, &peer, NULL);
	connect_anew();
	while (input.left)
		step(&input, peer);
	colo_peer_free(peer);
	return 0;
}
