/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two captures of anything: refused, or compared and reported, the same each time.
 *
 * The first byte says of which links they are, and whether the input is the two files
 * themselves, cut in the middle, or packets of which each goes into either or both of
 * them.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "netcompare/packet.h"
#include "netcompare/replay.h"
#include "tests/fuzz/harness.h"

#define PACKET_MAX 200u

struct pcap_head {
	guint32 magic;
	guint16 major, minor;
	guint32 zone, sigfigs, snap, link;
};

struct pcap_packet {
	guint32 seconds, part, here, len;
};

static void begin(GByteArray *file, guint32 link)
{
	struct pcap_head head = { 0xa1b23c4d, 2, 4, 0, 0, 262144, link };

	g_byte_array_append(file, (guint8 *)&head, sizeof(head));
}

static void put(GByteArray *file, guint32 seconds, const guint8 *bytes, gsize len)
{
	struct pcap_packet head = { seconds, 0, (guint32)len, (guint32)len };

	g_byte_array_append(file, (guint8 *)&head, sizeof(head));
	g_byte_array_append(file, bytes, (guint)len);
}

static int file_of(const GByteArray *bytes)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);

	g_assert(fd >= 0 && write(fd, bytes->data, bytes->len) == (gssize)bytes->len);
	return fd;
}

static enum ncmp_replay_result replay(const GByteArray *one, const GByteArray *other,
				      gboolean json, char **text)
{
	base_autofd int fd = file_of(one);
	base_autofd int other_fd = file_of(other);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	g_autofree char *other_path = g_strdup_printf("/proc/self/fd/%d", other_fd);
	const struct ncmp_replay_options options = { path, other_path, NULL, json };
	g_autoptr(GError) error = NULL;
	enum ncmp_replay_result result;
	size_t len = 0;
	FILE *out;

	*text = NULL;
	out = open_memstream(text, &len);
	result = ncmp_replay(&options, out, &error);
	fclose(out);
	g_assert((result == NCMP_REPLAY_UNUSABLE) == !!error);
	g_assert((result == NCMP_REPLAY_UNUSABLE) == !len);
	return result;
}

/* Packets, each for one side or both, and perhaps changed for the second. */
static void make_files(struct fuzz_input *input, GByteArray *files[2], guint32 link)
{
	guint8 bytes[PACKET_MAX];
	gsize len = 0;

	for (guint i = 0; i < 2; i++)
		begin(files[i], link);
	for (guint32 second = 0; input->left; second++) {
		guint8 op = fuzz_u8(input);

		/* The one before, with some bytes changed, or another. */
		if (op & 4)
			len = fuzz_bytes(input, bytes, fuzz_u8(input) % PACKET_MAX);
		for (guint i = 0; i < (op >> 4 & 3) && len; i++)
			bytes[fuzz_u8(input) % len] = fuzz_u8(input);
		if (op & 1)
			put(files[0], second, bytes, len);
		if (op & 2)
			put(files[1], second, bytes, len);
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	g_autoptr(GByteArray) one = g_byte_array_new();
	g_autoptr(GByteArray) other = g_byte_array_new();
	GByteArray *files[2] = { one, other };
	guint8 op = fuzz_u8(&input);
	enum ncmp_replay_result result, again;
	char *text, *text_again;

	if (op & 1) {
		g_byte_array_append(one, input.data, (guint)(input.left / 2));
		g_byte_array_append(other, input.data + input.left / 2,
				    (guint)(input.left - input.left / 2));
	} else {
		make_files(&input, files, op & 2 ? 101 : 1);
	}
	result = replay(one, other, op >> 2 & 1, &text);
	again = replay(one, other, op >> 2 & 1, &text_again);
	g_assert(result == again && !g_strcmp0(text, text_again));
	free(text);
	free(text_again);
	return 0;
}
