/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved machine from outside, as a file and as a stream: it is loaded, or refused
 * with memory untouched, or (a stream only) refused with memory empty.
 *
 * With checksums in the way almost nothing gets far, so those of the header, the state
 * and the chunks are mended before a load, as far as the input makes sense; the first
 * byte of the input says by its bits which are left as they are.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "kvm/savefile.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define MEMORY (1u << 20)
#define INPUT_MAX (64u << 10) /* what a socket takes without a reader */

enum { KEEP_HEADER = 1, KEEP_STATE = 2, KEEP_CHUNKS = 4, KEEP_END = 8 };

static gboolean accept_state(void *data, const vmm_state *state, GError **error)
{
	return TRUE;
}

static gboolean no_save(void *data, vmm_state *state, GError **error)
{
	g_assert_not_reached();
}

static void mend_state(guint8 *bytes, gsize len)
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

/* Chunk headers from `at` on; `done` bytes before count for the end's checksum. */
static void mend_chunks(guint8 *bytes, gsize at, gsize size, guint keep)
{
	g_autoptr(GByteArray) whole = g_byte_array_new();
	struct wire_save_chunk chunk;

	g_byte_array_append(whole, bytes, (guint)at);
	while (size - at >= sizeof(chunk)) {
		guint8 *header = bytes + at;
		gsize pages;

		memcpy(&chunk, header, sizeof(chunk));
		at += sizeof(chunk);
		pages = wire_get32(chunk.kind) == WIRE_SAVE_RAW
				? (gsize)wire_get32(chunk.pages) * VMM_PAGE
				: 0;
		if (pages > size - at)
			return;
		if (pages && !(keep & KEEP_CHUNKS))
			chunk.checksum = wire_put64(XXH3_64bits(bytes + at, pages));
		if (wire_get32(chunk.kind) == WIRE_SAVE_END && !(keep & KEEP_END))
			chunk.checksum =
				wire_put64(XXH3_64bits(whole->data, whole->len));
		memcpy(header, &chunk, sizeof(chunk));
		g_byte_array_append(whole, header, sizeof(chunk));
		at += pages;
	}
}

static void mend(guint8 *bytes, gsize size, guint keep)
{
	struct wire_save_header header;
	gsize state;

	if (size < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	if (!(keep & KEEP_HEADER))
		header.checksum = wire_put64(XXH3_64bits(
			&header, G_STRUCT_OFFSET(struct wire_save_header, checksum)));
	memcpy(bytes, &header, sizeof(header));
	state = wire_get64(header.state);
	if (state > size - sizeof(header))
		return;
	if (!(keep & KEEP_STATE))
		mend_state(bytes + sizeof(header), state);
	mend_chunks(bytes, sizeof(header) + state, size, keep);
}

static gboolean all_are(vmm_memory *memory, guint8 value)
{
	const guint8 *bytes = vmm_memory_page(memory, 0);

	return bytes[0] == value && !memcmp(bytes, bytes + 1, MEMORY - 1);
}

static void judge(const struct vmm_saveable *machine, int fd, gboolean file)
{
	const struct vmm_transfer transfer = { .deadline_ms = 1000 };
	GError *error = NULL;

	memset(vmm_memory_page(machine->memory, 0), 0xa5, MEMORY);
	switch (vmm_savefile_read(machine, fd, &transfer, &error)) {
	case VMM_LOAD_DONE:
		g_assert(!error);
		return;
	case VMM_LOAD_REFUSED:
		g_assert(all_are(machine->memory, 0xa5));
		break;
	case VMM_LOAD_SPOILED:
		g_assert(!file && all_are(machine->memory, 0));
		break;
	}
	g_assert(error);
	g_error_free(error);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autofree guint8 *bytes = NULL;
	struct vmm_saveable machine = {
		.cpus = 1,
		.save = no_save,
		.check = accept_state,
		.load = accept_state,
	};
	int file, sockets[2];

	if (size < 1 || size > INPUT_MAX)
		return 0;
	machine.memory = vmm_memory_new(MEMORY, NULL);
	bytes = g_memdup2(data + 1, size - 1);
	mend(bytes, size - 1, data[0]);
	file = memfd_create("saved", MFD_CLOEXEC);
	g_assert(file >= 0 && pwrite(file, bytes, size - 1, 0) == (gssize)size - 1);
	judge(&machine, file, TRUE);
	close(file);
	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
	g_assert(write(sockets[0], bytes, size - 1) == (gssize)size - 1);
	close(sockets[0]);
	judge(&machine, sockets[1], FALSE);
	close(sockets[1]);
	vmm_memory_free(machine.memory);
	return 0;
}
