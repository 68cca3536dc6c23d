/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's state on the wire. */
#include "checkpoint/state_wire.h"

#include <lz4.h>
#include <string.h>

/* `to` becomes the difference to `before`, or what it was from that: XOR is both. */
static void combine(guint8 *to, gsize length, const GByteArray *before)
{
	gsize both = MIN(length, before->len);

	for (gsize i = 0; i < both; i++)
		to[i] ^= before->data[i];
}

void ckpt_state_pack(const guint8 *state, gsize length, const GByteArray *before,
		     GByteArray *out)
{
	g_autofree guint8 *difference = g_memdup2(state, length);
	struct ckpt_state_head head = { wire_put32((guint32)length),
					wire_put32(before->len) };
	guint at = out->len + (guint)sizeof(head);
	int packed;

	g_assert(length && length <= CKPT_STATE_MAX);
	combine(difference, length, before);
	g_byte_array_append(out, (const guint8 *)&head, sizeof(head));
	g_byte_array_set_size(out, at + (guint)LZ4_compressBound((int)length));
	packed = LZ4_compress_default((const char *)difference, (char *)out->data + at,
				      (int)length, LZ4_compressBound((int)length));
	g_assert(packed > 0);
	g_byte_array_set_size(out, at + (guint)packed);
}

gboolean ckpt_state_unpack(const void *payload, gsize length, const GByteArray *before,
			   GByteArray *state, const char **why)
{
	struct ckpt_state_head head;
	guint32 full, base;

	g_byte_array_set_size(state, 0);
	*why = "a state that is cut off";
	if (length < sizeof(head) || length - sizeof(head) > G_MAXINT)
		return FALSE;
	memcpy(&head, payload, sizeof(head));
	full = wire_get32(head.length);
	base = wire_get32(head.before);
	*why = "a state of an impossible length";
	if (!full || full > CKPT_STATE_MAX)
		return FALSE;
	*why = "a state that differs from one that is not here";
	if (base && base != before->len)
		return FALSE;
	g_byte_array_set_size(state, full);
	*why = "a state that cannot be unpacked";
	if (LZ4_decompress_safe((const char *)payload + sizeof(head), (char *)state->data,
				(int)(length - sizeof(head)), (int)full) != (int)full)
		return FALSE;
	if (base)
		combine(state->data, full, before);
	*why = NULL;
	return TRUE;
}
