/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer's first messages: a pair is made only of two hellos that agree in all that a guest
 * sees; else there is a reason, of one line, and the peer is told it unless it said BYE.
 *
 * The channel is this file's (see fuzz_hello.wrap).
 */
#include "checkpoint/hello.h"

#include <string.h>

#include "tests/fuzz/harness.h"

static struct {
	struct fuzz_input *input;
	const struct ckpt_hello *ours;
	guint8 *payload;
	guint hellos, byes, asked;
	gboolean is_bye, is_silent; /* the first message, or none */
} peer;

gboolean __wrap_base_channel_send(base_channel *channel, guint16 type, guint64 epoch,
				  const struct iovec *iov, guint count, guint deadline_ms,
				  GError **error);
gboolean __wrap_base_channel_flush(base_channel *channel, guint deadline_ms, GError **error);
gboolean __wrap_base_channel_receive(base_channel *channel, struct base_message *message,
				     guint deadline_ms, GError **error);

gboolean __wrap_base_channel_send(base_channel *channel, guint16 type, guint64 epoch,
				  const struct iovec *iov, guint count, guint deadline_ms,
				  GError **error)
{
	g_assert(deadline_ms);
	if (type == CKPT_HELLO) {
		g_assert(count == 1 && iov->iov_len == sizeof(struct ckpt_hello));
		peer.hellos++;
	} else {
		g_assert(type == CKPT_BYE && count == 2 &&
			 iov[0].iov_len == sizeof(struct ckpt_bye) && iov[1].iov_len > 0 &&
			 iov[1].iov_len <= CKPT_TEXT_MAX);
		peer.byes++;
	}
	return TRUE;
}

gboolean __wrap_base_channel_flush(base_channel *channel, guint deadline_ms, GError **error)
{
	return TRUE;
}

/* Ours, with up to eight places changed; as the other side would say it. */
static gsize make_hello(void)
{
	struct ckpt_hello hello = *peer.ours;
	guint8 changes = fuzz_u8(peer.input);
	gsize len = sizeof(hello);

	hello.primary = !hello.primary;
	hello.connections = wire_put32(hello.primary ? 3 : 0);
	memset(hello.secret, 0, sizeof(hello.secret));
	for (guint i = 0; i < (changes & 7); i++) {
		guint16 at = fuzz_u16(peer.input) % sizeof(hello);

		((guint8 *)&hello)[at] = fuzz_u8(peer.input);
	}
	if (changes & 0x80)
		len = fuzz_u16(peer.input) % (sizeof(hello) + 64);
	g_free(peer.payload);
	peer.payload = g_malloc0(MAX(len, sizeof(hello)));
	memcpy(peer.payload, &hello, sizeof(hello));
	return len;
}

gboolean __wrap_base_channel_receive(base_channel *channel, struct base_message *message,
				     guint deadline_ms, GError **error)
{
	const struct base_message_rule *rule = ckpt_rules;
	guint8 bytes[600], kind = fuzz_u8(peer.input);
	gsize len;

	g_assert(deadline_ms);
	*message = (struct base_message){ .type = kind & 3 ? CKPT_HELLO : fuzz_u8(peer.input) };
	if (kind & 3) {
		len = make_hello();
	} else {
		len = fuzz_bytes(peer.input, bytes, fuzz_u16(peer.input) % sizeof(bytes));
		g_free(peer.payload);
		peer.payload = g_memdup2(bytes, len);
	}
	while (rule->name && rule->type != message->type)
		rule++;
	if (!peer.input->left || !rule->name || len < rule->min || len > rule->max) {
		g_set_error(error, BASE_CHANNEL_ERROR,
			    kind & 0x80 ? BASE_CHANNEL_PROTOCOL : BASE_CHANNEL_LOST, "no");
		if (!peer.asked++)
			peer.is_silent = !(kind & 0x80);
		return FALSE;
	}
	message->length = (guint32)len;
	message->payload = len ? peer.payload : NULL;
	if (!peer.asked++)
		peer.is_bye = message->type == CKPT_BYE;
	return TRUE;
}

static void check_alike(const struct ckpt_hello *ours, const struct ckpt_hello *theirs)
{
	gsize devices = G_STRUCT_OFFSET(struct ckpt_hello, cpuid);
	struct ckpt_hello other = *theirs;
	g_autofree char *difference = vmm_cpuid_rows_difference(
		ours->cpuid, wire_get32(ours->cpuid_rows), theirs->cpuid,
		wire_get32(theirs->cpuid_rows));

	g_assert(!difference && theirs->primary == !ours->primary);
	other.primary = ours->primary;
	other.cpuid_rows = ours->cpuid_rows;
	g_assert(wire_get32(other.connections) <= CKPT_LANES_MAX &&
		 !wire_get32(other.connections) == !theirs->primary);
	other.connections = ours->connections;
	g_assert(!memcmp(&other, ours, devices));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct ckpt_hello ours = { .version = wire_put32(CKPT_PROTOCOL_VERSION), .rng = 1 };
	struct ckpt_hello theirs;
	g_autoptr(GError) error = NULL;

	memset(&peer, 0, sizeof(peer));
	peer.input = &input;
	peer.ours = &ours;
	ours.primary = fuzz_u8(&input) & 1;
	ours.memory = wire_put64(64 << 20);
	ours.cpus = wire_put32(2);
	ours.cpuid_rows = wire_put32(3);
	for (guint i = 0; i < 3; i++) {
		ours.cpuid[i].leaf = wire_put32(i ? 6 + i : 1);
		ours.cpuid[i].ebx = ours.cpuid[i].ecx = wire_put32(0x5a5a5a5a);
	}
	if (ckpt_hello_exchange(NULL, &ours, &theirs, 1000, &error)) {
		g_assert(!error && !peer.byes);
		check_alike(&ours, &theirs);
	} else {
		g_assert(error && !strpbrk(error->message, "\n\x1b"));
		g_assert(peer.byes == !(peer.is_bye || peer.is_silent));
	}
	g_assert(peer.hellos == 1);
	g_free(peer.payload);
	return 0;
}
