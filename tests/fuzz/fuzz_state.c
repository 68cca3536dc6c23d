/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved state from outside: it is refused, or every section that it lists can be got,
 * and nothing beyond it.
 *
 * Length and checksum are mended first, unless the first byte of the input is odd.
 */
#include <string.h>
#include <xxhash.h>

#include "kvm/state.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void mend(guint8 *bytes, gsize len)
{
	struct wire_state_header header;

	if (len < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	header.length = wire_put64(len - sizeof(header));
	header.checksum =
		wire_put64(XXH3_64bits(bytes + sizeof(header), len - sizeof(header)));
	memcpy(bytes, &header, sizeof(header));
}

/* `bytes` were accepted, so that walking them by their own lengths is safe. */
static void get_all(const vmm_state *state, const guint8 *bytes, gsize len)
{
	gsize at = sizeof(struct wire_state_header);

	while (at < len) {
		struct wire_section_header header;
		char name[WIRE_SECTION_NAME + 1] = { 0 };
		const void *payload;
		gsize got;

		memcpy(&header, bytes + at, sizeof(header));
		memcpy(name, header.name, sizeof(header.name));
		g_assert(vmm_state_has(state, name, wire_get16(header.instance)));
		payload = vmm_state_get(state, name, wire_get16(header.instance),
					wire_get16(header.version), 0, WIRE_SECTION_MAX,
					&got, NULL);
		g_assert(payload && got == wire_get32(header.length));
		g_assert((gsize)payload % 8 == 0);
		/* Reads all of it, so that a wrong bound shows. */
		g_assert(!memcmp(payload, bytes + at + sizeof(header), got));
		g_assert(!vmm_state_get(state, name, wire_get16(header.instance),
					wire_get16(header.version) + 1u, 0,
					WIRE_SECTION_MAX, NULL, NULL));
		at += sizeof(header) + ((got + 7) & ~(gsize)7);
	}
	g_assert(at == len && vmm_state_all_used(state, NULL));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autoptr(vmm_state) state = NULL;
	g_autoptr(vmm_state) again = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree guint8 *bytes = NULL;
	g_autofree char *difference = NULL;
	const guint8 *out;
	gsize len;

	if (size < 1)
		return 0;
	bytes = g_memdup2(data + 1, size - 1);
	if (!(data[0] & 1))
		mend(bytes, size - 1);
	state = vmm_state_parse(bytes, size - 1, &error);
	g_assert(!state == !!error);
	if (!state)
		return 0;
	get_all(state, bytes, size - 1);
	out = vmm_state_bytes(state, &len);
	g_assert(len == size - 1);
	again = vmm_state_parse(out, len, NULL);
	g_assert(again);
	difference = vmm_state_difference(state, again);
	g_assert(!difference);
	return 0;
}
