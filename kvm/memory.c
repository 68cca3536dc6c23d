/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory: one memfd, its banks, and the pages that devices wrote. */
#include "kvm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "kvm/error.h"

struct vmm_memory {
	int fd;
	guint64 bytes;
	guint8 *host; /* the whole memfd, banks side by side */
	guint8 *base; /* the same, shared; equal to `host` unless that is private */
	struct vmm_bank banks[2];
	guint n_banks;
	/* A bit for each page that is in `marked`; NULL while nobody collects. */
	gulong *bits;
	GArray *marked; /* guint32 page numbers */
};

/* NULL with the error set. */
static guint8 *map(int fd, guint64 bytes, int flags, GError **error)
{
	guint8 *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);

	if (host == MAP_FAILED) {
		vmm_error_errno(error, errno, "map %" G_GUINT64_FORMAT
				" bytes of guest memory", bytes);
		return NULL;
	}
	/* Tracking is by 4 KiB pages; larger ones would be split again and again. */
	madvise(host, bytes, MADV_NOHUGEPAGE);
	madvise(host, bytes, MADV_DONTDUMP);
	return host;
}

static void make_banks(vmm_memory *memory)
{
	guint64 bytes = memory->bytes;

	memory->banks[0] = (struct vmm_bank){ .gpa = 0,
					      .size = MIN(bytes, VMM_HOLE_START),
					      .host = memory->host };
	memory->n_banks = 1;
	if (bytes > VMM_HOLE_START) {
		memory->banks[1] = (struct vmm_bank){ .gpa = VMM_HOLE_END,
						      .size = bytes - VMM_HOLE_START,
						      .offset = VMM_HOLE_START,
						      .host = memory->host +
							      VMM_HOLE_START };
		memory->n_banks = 2;
	}
}

static vmm_memory *make(guint64 bytes, gboolean private, GError **error)
{
	base_autofd int fd = -1;
	guint8 *base, *host;
	vmm_memory *memory;

	g_assert(bytes >= 1 << 20 && bytes % VMM_PAGE == 0);
	fd = memfd_create("colo-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
		vmm_error_errno(error, errno, "create %" G_GUINT64_FORMAT
				" bytes of guest memory", bytes);
		return NULL;
	}
	/* Whoever is handed the descriptor cannot cut memory off under the guest. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	base = map(fd, bytes, MAP_SHARED, error);
	if (!base)
		return NULL;
	host = private ? map(fd, bytes, MAP_PRIVATE, error) : base;
	if (!host) {
		munmap(base, bytes);
		return NULL;
	}
	memory = g_new0(vmm_memory, 1);
	memory->fd = base_fd_steal(&fd);
	memory->bytes = bytes;
	memory->host = host;
	memory->base = base;
	make_banks(memory);
	memory->marked = g_array_new(FALSE, FALSE, sizeof(guint32));
	return memory;
}

vmm_memory *vmm_memory_new(guint64 bytes, GError **error)
{
	return make(bytes, FALSE, error);
}

vmm_memory *vmm_memory_new_private(guint64 bytes, GError **error)
{
	return make(bytes, TRUE, error);
}

gboolean vmm_memory_is_private(const vmm_memory *memory)
{
	return memory->host != memory->base;
}

guint8 *vmm_memory_base_page(const vmm_memory *memory, guint64 page)
{
	g_assert(page < vmm_memory_pages(memory));
	return memory->base + page * VMM_PAGE;
}

void vmm_memory_drop_private(vmm_memory *memory, guint64 page, guint64 count)
{
	g_assert(page <= vmm_memory_pages(memory) &&
		 count <= vmm_memory_pages(memory) - page);
	if (count && vmm_memory_is_private(memory))
		madvise(memory->host + page * VMM_PAGE, count * VMM_PAGE, MADV_DONTNEED);
}

void vmm_memory_free(vmm_memory *memory)
{
	if (!memory)
		return;
	if (vmm_memory_is_private(memory))
		munmap(memory->base, memory->bytes);
	munmap(memory->host, memory->bytes);
	close(memory->fd);
	g_free(memory->bits);
	g_array_unref(memory->marked);
	g_free(memory);
}

guint64 vmm_memory_bytes(const vmm_memory *memory)
{
	return memory->bytes;
}

guint64 vmm_memory_pages(const vmm_memory *memory)
{
	return memory->bytes / VMM_PAGE;
}

int vmm_memory_fd(const vmm_memory *memory)
{
	return memory->fd;
}

const struct vmm_bank *vmm_memory_banks(const vmm_memory *memory, guint *count)
{
	*count = memory->n_banks;
	return memory->banks;
}

void *vmm_memory_at(const vmm_memory *memory, guint64 gpa, guint64 len)
{
	for (guint i = 0; i < memory->n_banks; i++) {
		const struct vmm_bank *bank = &memory->banks[i];

		if (gpa >= bank->gpa && gpa - bank->gpa <= bank->size &&
		    len <= bank->size - (gpa - bank->gpa))
			return bank->host + (gpa - bank->gpa);
	}
	return NULL;
}

guint8 *vmm_memory_page(const vmm_memory *memory, guint64 page)
{
	g_assert(page < vmm_memory_pages(memory));
	return memory->host + page * VMM_PAGE;
}

guint64 vmm_memory_page_gpa(const vmm_memory *memory, guint64 page)
{
	guint64 offset = page * VMM_PAGE;

	return offset < VMM_HOLE_START ? offset : offset - VMM_HOLE_START + VMM_HOLE_END;
}

void vmm_memory_mark_host(vmm_memory *memory, const void *host, gsize len)
{
	guint64 first, last;

	if (!memory->bits || !len)
		return;
	first = (guint64)((const guint8 *)host - memory->host) / VMM_PAGE;
	last = (guint64)((const guint8 *)host - memory->host + len - 1) / VMM_PAGE;
	g_assert(last < vmm_memory_pages(memory));
	for (guint64 page = first; page <= last; page++) {
		gulong *word = &memory->bits[page / 64];
		gulong bit = 1ul << page % 64;
		guint32 number = (guint32)page;

		if (*word & bit)
			continue;
		*word |= bit;
		g_array_append_val(memory->marked, number);
	}
}

void vmm_memory_mark(vmm_memory *memory, guint64 gpa, guint64 len)
{
	void *host = vmm_memory_at(memory, gpa, len);

	if (host)
		vmm_memory_mark_host(memory, host, len);
}

gboolean vmm_memory_write(vmm_memory *memory, guint64 gpa, const void *data, gsize len)
{
	void *host = vmm_memory_at(memory, gpa, len);

	if (!host)
		return FALSE;
	memcpy(host, data, len);
	vmm_memory_mark_host(memory, host, len);
	return TRUE;
}

void vmm_memory_track(vmm_memory *memory, gboolean on)
{
	g_clear_pointer(&memory->bits, g_free);
	g_array_set_size(memory->marked, 0);
	if (on)
		memory->bits = g_new0(gulong, vmm_memory_pages(memory) / 64 + 1);
}

void vmm_memory_take_marked(vmm_memory *memory, GArray *pages)
{
	g_array_append_vals(pages, memory->marked->data, memory->marked->len);
	/* Clearing by the list costs what was marked, not what is configured. */
	for (guint i = 0; i < memory->marked->len; i++) {
		guint32 page = g_array_index(memory->marked, guint32, i);

		memory->bits[page / 64] &= ~(1ul << page % 64);
	}
	g_array_set_size(memory->marked, 0);
}

const guint32 *vmm_memory_marked(const vmm_memory *memory, guint *count)
{
	*count = memory->marked->len;
	return (const guint32 *)(void *)memory->marked->data;
}

void vmm_memory_clear(vmm_memory *memory)
{
	vmm_memory_drop_private(memory, 0, vmm_memory_pages(memory));
	if (fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)memory->bytes) < 0)
		memset(memory->base, 0, memory->bytes);
}
