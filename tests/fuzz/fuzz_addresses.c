/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames that a guest sends, and addresses that the other node says: what is learned is
 * bounded and sound, and announcing it tells a listener nothing else. */
#include "checkpoint/addresses.h"
#include "checkpoint/announce.h"

#include <string.h>

#include "kvm/iov.h"
#include "tests/fuzz/harness.h"

#define HEADER_LEN 12u

static gboolean is_one_of(const struct ckpt_address *address,
			  const struct ckpt_address *of, guint count)
{
	for (guint i = 0; i < count; i++)
		if (address->family == of[i].family &&
		    address->vlan.le == of[i].vlan.le &&
		    !memcmp(address->mac, of[i].mac, sizeof(address->mac)) &&
		    !memcmp(address->ip, of[i].ip, sizeof(address->ip)))
			return TRUE;
	return FALSE;
}

/* A neighbour's stack would drop an advertisement with a wrong checksum. */
static void check_advertisement(const guint8 *ip, gsize len)
{
	guint32 total = 58 + 32;

	g_assert(len >= 72);
	for (guint i = 8; i < 72; i += 2)
		total += (guint32)ip[i] << 8 | ip[i + 1];
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	g_assert(total == 0xffff);
}

/* A neighbour hears an announcement. */
static gboolean hear(void *data, const struct iovec *iov, guint count)
{
	guint8 bytes[256];
	gsize len = vmm_iov_read(iov, count, HEADER_LEN, bytes, sizeof(bytes));
	gsize skip = bytes[12] == 0x81 ? 18 : 14;

	g_assert(iov[0].iov_len == HEADER_LEN && len >= 60 && len < 128);
	if (bytes[skip - 2] == 0x86)
		check_advertisement(bytes + skip, len - skip);
	ckpt_addresses_learn(data, iov, count);
	return TRUE;
}

static void check(const ckpt_addresses *addresses)
{
	g_autoptr(ckpt_addresses) heard = ckpt_addresses_new();
	g_autoptr(ckpt_addresses) told = ckpt_addresses_new();
	struct ckpt_address all[CKPT_ADDRESSES_ALL], others[CKPT_ADDRESSES_ALL];
	struct vmm_net_port port = { .data = heard, .send = hear };
	guint count = ckpt_addresses_copy(addresses, all);
	guint n;

	g_assert(count <= CKPT_ADDRESSES_ALL);
	for (guint i = 0; i < count; i++)
		g_assert(ckpt_addresses_add(told, &all[i]));
	g_assert(ckpt_addresses_copy(told, others) == count);
	g_assert(!memcmp(all, others, count * sizeof(all[0])));
	g_assert(ckpt_announce(addresses, NULL, &port));
	n = ckpt_addresses_copy(heard, others);
	g_assert(!n == !count);
	/* With an IP address heard, its MAC address is heard as well. */
	for (guint i = 0; i < n; i++)
		g_assert(others[i].family == CKPT_ADDRESS_LINK ||
			 is_one_of(&others[i], all, count));
}

static void send_frame(ckpt_addresses *addresses, struct fuzz_input *input)
{
	guint8 bytes[256];
	gsize len = fuzz_bytes(input, bytes, fuzz_u8(input));
	/* A copy that ends where the frame does, so that ASan sees it. */
	g_autofree guint8 *copy = g_malloc(len + 1);
	guint8 *exact = copy + 1;
	guint8 header[HEADER_LEN] = { 0 };
	guint8 cut = fuzz_u8(input);
	gsize first = MIN(len, cut);
	struct iovec iov[] = { { header, sizeof(header) },
			       { exact, first },
			       { exact + first, len - first } };

	memcpy(exact, bytes, len);
	ckpt_addresses_learn(addresses, iov, G_N_ELEMENTS(iov));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	g_autoptr(ckpt_addresses) addresses = ckpt_addresses_new();

	while (input.left) {
		struct ckpt_address address = { 0 };

		if (fuzz_u8(&input) & 3) {
			send_frame(addresses, &input);
			continue;
		}
		fuzz_bytes(&input, &address, sizeof(address));
		ckpt_addresses_add(addresses, &address);
	}
	check(addresses);
	return 0;
}
